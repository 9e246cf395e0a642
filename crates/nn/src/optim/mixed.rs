//! Training in half precision: exact copies of parameters, and losses scaled into range.

use super::{One, Optimizer, Rate, Slots, Step, moment, within};
use lazul_core::{Array, DType, Error, ErrorKind, Result, Tree, where_};

/// An optimizer that keeps f16 and bf16 parameters in f32 as well, in the slot `master`: a step much smaller
/// than a parameter is not lost in its rounding. Source: Micikevicius et al., 2018.
///
/// The copies are the parameters as the state was made; who changes those otherwise makes a new state.
///
/// ```
/// use lazul_core::prelude::*;
/// use lazul_nn::optim::{Master, Optimizer, Sgd};
/// let w: lazul_nn::Parameters = [("w".to_string(), ones([1], DType::BF16))].into();
/// let optimizer = Master(Sgd::new(1e-3)); // half a step of bf16 below 1 is 0.002
/// let (mut state, mut now) = (optimizer.init(&w)?, w.clone());
/// for _ in 0..8 {
///     now = optimizer.apply(&mut state, &w, &now)?;
/// }
/// assert!((now["w"].astype(DType::F32).item::<f32>()? - 0.992).abs() < 1e-3);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Master<O>(pub O);

pub(super) const MASTER: &str = "master";

impl<O: Optimizer> Optimizer for Master<O> {
    fn rates(&self) -> Vec<&Rate> {
        self.0.rates()
    }

    fn validate(&self) -> Result<()> {
        self.0.validate()
    }

    fn slots(&self, one: &One<'_>) -> Slots {
        let mut slots = self.0.slots(one);
        if matches!(one.dtype, DType::F16 | DType::BF16) {
            slots.insert(MASTER.to_string(), one.value.clone());
        }
        slots
    }

    fn step(&self, at: &Step<'_>, one: &One<'_>, slots: &mut Slots) -> Result<Array> {
        if !matches!(one.dtype, DType::F16 | DType::BF16) {
            return self.0.step(at, one, slots);
        }
        let value = &moment(slots, MASTER)?;
        let new = self.0.step(at, &One { value, ..*one }, slots)?;
        slots.insert(MASTER.to_string(), new.clone());
        Ok(new)
    }

    fn shrink(&self, one: &One<'_>, factor: &Array, slots: &mut Slots) -> Result<Array> {
        if !matches!(one.dtype, DType::F16 | DType::BF16) {
            return self.0.shrink(one, factor, slots);
        }
        let value = &moment(slots, MASTER)?;
        let new = self.0.shrink(&One { value, ..*one }, factor, slots)?;
        slots.insert(MASTER.to_string(), new.clone());
        Ok(new)
    }

    fn is_never_negative(&self, one: &One<'_>, slot: &str) -> bool {
        self.0.is_never_negative(one, slot)
    }
}

/// A factor for losses that keeps gradients of f16 in range: it grows while they are finite and shrinks when
/// they are not. Source: Micikevicius et al., 2018.
///
/// It is a [`Tree`], so that it can be state of a compiled step.
///
/// ```
/// use lazul_core::prelude::*;
/// use lazul_nn::optim::LossScaler;
/// let mut scaler = LossScaler::new(1024.0)?;
/// let w = Array::from_slice(&[1.0f32, 2.0], [2]);
/// let grads = grad(|w: &Array| scaler.scale(&w.square().sum(..)))(&w)?;
/// let (grads, finite) = scaler.unscale(&grads);
/// assert_eq!(grads.to_vec::<f32>()?, [2.0, 4.0]);
/// // A step that is not to be made leaves everything as it was.
/// let stepped = select(&finite, &(&w - &grads * 0.5), &w)?;
/// assert_eq!(stepped.to_vec::<f32>()?, [0.0, 0.0]);
/// scaler.update(&Array::scalar(false));
/// assert_eq!(scaler.factor.item::<f32>()?, 512.0);
/// # use lazul_nn::optim::select;
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[derive(Clone, Debug, Tree)]
pub struct LossScaler {
    /// The factor, f32.
    pub factor: Array,
    /// Steps since it changed last, i32.
    pub steps: Array,
    /// Finite steps after which the factor doubles; 2000.
    pub interval: u32,
}

impl LossScaler {
    /// A factor to start with (usually 65536).
    ///
    /// # Errors
    /// If it is not a finite number of at least 1.
    pub fn new(factor: f64) -> Result<LossScaler> {
        within("LossScaler", "factor", factor, factor >= 1.0)?;
        let factor = Array::scalar(factor as f32);
        Ok(LossScaler { factor, steps: Array::scalar(0i32), interval: 2000 })
    }

    /// The loss times the factor, f32 (f64 stays).
    pub fn scale(&self, loss: &Array) -> Array {
        loss * &self.factor
    }

    /// Gradients of a scaled loss without the factor, f32 for those of f16 and bf16, and whether all of them
    /// are finite, a bool scalar.
    pub fn unscale<T: Tree>(&self, gradients: &T) -> (T, Array) {
        let gradients = gradients.map_leaves(|g| match g.dtype() {
            Ok(DType::F64) => g / self.factor.astype(DType::F64),
            _ => g.astype(DType::F32) / &self.factor,
        });
        let finite = all_finite(&gradients);
        (gradients, finite)
    }

    /// Moves the factor: down to a half (not below 1) if the step's gradients were not `finite`, to the double
    /// after [`LossScaler::interval`] steps that were.
    pub fn update(&mut self, finite: &Array) {
        let steps = where_(finite, &self.steps + 1, 0);
        let grown = steps.greater_equal(self.interval.min(i32::MAX as u32) as i32);
        let kept = where_(&grown, (&self.factor * 2.0).minimum(2f32.powi(24)), &self.factor);
        self.factor = where_(finite, kept, (&self.factor * 0.5).maximum(1.0));
        self.steps = where_(&grown, 0, steps).astype(DType::I32);
    }
}

/// Whether all elements of all leaves are finite, a bool scalar.
///
/// ```
/// use lazul_core::prelude::*;
/// use lazul_nn::optim::all_finite;
/// let x = Array::from_slice(&[1.0f32, f32::NAN], [2]);
/// assert!(!all_finite(&vec![ones([3], DType::F32), x]).item::<bool>()?);
/// # Ok::<(), lazul_core::Error>(())
/// ```
pub fn all_finite<T: Tree>(tree: &T) -> Array {
    let each = tree.leaves().into_iter().map(|a| a.isfinite().all(..));
    each.fold(Array::scalar(true), |all, one| all.logical_and(one))
}

/// `new` where `take` (a bool scalar) holds, else `old`, leaf by leaf: a step that is made or not.
///
/// # Errors
/// If the trees have different leaves.
pub fn select<T: Tree>(take: &Array, new: &T, old: &T) -> Result<T> {
    let (a, b) = (new.leaves(), old.leaves());
    let pairs = || a.iter().zip(&b);
    let like = pairs().map(|(a, b)| Ok(a.shape()? == b.shape()? && a.dtype()? == b.dtype()?));
    if a.len() != b.len() || !like.collect::<Result<Vec<_>>>()?.into_iter().all(|same| same) {
        let why = "the trees have different leaves";
        return Err(Error::new(ErrorKind::Value, "select", why));
    }
    Ok(new.with_leaves(pairs().map(|(a, b)| where_(take, *a, *b))))
}

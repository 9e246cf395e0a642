//! Optimizers: rules that move parameters along their gradients.
//!
//! An [`Optimizer`] holds options only. What changes from step to step, counter, rates and moments, is
//! a [`State`], which is a [`Tree`] as gradients and parameters by path ([`Parameters`]) are: a whole
//! step can be compiled, saved and restored. Beside them: gradients of several batches ([`Accumulator`]),
//! averages ([`Ema`]), decay of some parameters ([`WeightDecay`]), half precision ([`Master`],
//! [`LossScaler`]), moments in 8 bits ([`EightBit`]). Rules are MLX's with its defaults. Arithmetic and moments
//! are f32 for parameters of f16 and bf16 (where moments of that dtype would hardly move), and rounded
//! once at the end.
//!
//! ```
//! use lazul_core::prelude::*;
//! use lazul_nn::losses::{Reduction, mse_loss};
//! use lazul_nn::optim::{Adam, Optimizer};
//! use lazul_nn::{Linear, Module, value_and_grad};
//!
//! let mut model = Linear::init(2, 1, true, Some(&random::key(0)))?;
//! let x = random::normal([64, 2], DType::F32, Some(&random::key(1)));
//! let y = x.matmul(&Array::from_slice(&[2.0f32, -1.0], [2, 1])) + 0.5;
//! let optimizer = Adam::new(0.1);
//! let mut state = optimizer.init(&model.trainable_parameters())?;
//! let step = value_and_grad(|m: &mut Linear| mse_loss(&m.forward(&x), &y, Reduction::Mean));
//! let mut last = f32::MAX;
//! for _ in 0..100 {
//!     let (loss, grads) = step(&mut model)?;
//!     optimizer.update(&mut state, &mut model, &grads)?;
//!     // Reading the loss runs the step; the new parameters wait for the next one.
//!     last = loss.item()?;
//! }
//! assert!(last < 1e-2);
//! # Ok::<(), lazul_core::Error>(())
//! ```

mod accumulate;
mod adaptive;
mod clip;
mod decay;
mod eight_bit;
mod ema;
mod factored;
mod mixed;
mod momentum;
mod multi;
mod schedule;
#[cfg(test)]
mod tests;

pub use accumulate::Accumulator;
pub use adaptive::{AdaDelta, Adagrad, Adam, AdamW, Adamax, RmsProp};
pub use clip::clip_grad_norm;
pub use decay::WeightDecay;
pub use eight_bit::EightBit;
pub use ema::Ema;
pub use factored::Adafactor;
pub use mixed::{LossScaler, Master, all_finite, select};
pub use momentum::{Lion, Muon, Sgd};
pub use multi::MultiOptimizer;
pub use schedule::{
    Rate, Schedule, cosine_decay, exponential_decay, join_schedules, linear_schedule, step_decay,
};

use crate::module::{Module, Parameters};
use lazul_core::{Array, DType, Error, ErrorKind, Result, Shape, Tree};
use std::collections::BTreeMap;

/// What an optimizer remembers of one parameter, by MLX's names: moments.
pub type Slots = BTreeMap<String, Array>;

/// What an optimizer remembers from step to step.
#[derive(Clone, Debug, Tree)]
pub struct State {
    /// Number of steps made, i64.
    pub step: Array,
    /// Learning rates, f32: one, or for a [`MultiOptimizer`] one for each that has one. Rates that are
    /// no schedules may be changed here.
    pub rates: Vec<Array>,
    /// Moments of each parameter, by path.
    pub slots: BTreeMap<String, Slots>,
}

/// What a step knows beside the parameter.
#[derive(Clone, Copy, Debug)]
pub struct Step<'a> {
    /// Its number, from 1, as f32.
    pub number: &'a Array,
    /// Learning rates as in [`State::rates`], of this optimizer.
    pub rates: &'a [Array],
}

impl Step<'_> {
    /// The learning rate in a parameter's dtype.
    fn rate(&self, dtype: DType) -> Result<Array> {
        let missing = || Error::new(ErrorKind::Value, "optimizer", "there is no learning rate");
        Ok(self.rates.first().ok_or_else(missing)?.astype(dtype))
    }
}

/// One parameter in a step: all in f32 or f64.
#[derive(Clone, Copy, Debug)]
pub struct One<'a> {
    /// Where the parameter stands in its module.
    pub path: &'a str,
    /// Its gradient.
    pub gradient: &'a Array,
    /// Its value.
    pub value: &'a Array,
    /// The dtype in which the module has it.
    pub dtype: DType,
}

/// A rule that moves parameters along their gradients.
///
/// Implementors say what is remembered of a parameter ([`Optimizer::slots`]) and how one moves
/// ([`Optimizer::step`]); everything else is here.
pub trait Optimizer {
    /// Learning rates.
    fn rates(&self) -> Vec<&Rate>;

    /// Checks options.
    ///
    /// # Errors
    /// If one has a value that it cannot have.
    fn validate(&self) -> Result<()>;

    /// What is remembered of a parameter before the first step. It is given in f32 or f64.
    fn slots(&self, one: &One<'_>) -> Slots;

    /// The parameter's new value; moments in `slots` move.
    ///
    /// # Errors
    /// If a moment is missing, or shapes do not fit.
    fn step(&self, at: &Step<'_>, one: &One<'_>, slots: &mut Slots) -> Result<Array>;

    /// The parameter's value times `factor`, from which the next step is to start. An optimizer that keeps
    /// values itself ([`Master`]) changes its own.
    ///
    /// # Errors
    /// As [`Optimizer::step`].
    fn shrink(&self, one: &One<'_>, factor: &Array, slots: &mut Slots) -> Result<Array> {
        let _ = slots;
        Ok(one.value * factor)
    }

    /// Whether a moment never is below zero: [`EightBit`] spends no code on signs then.
    fn is_never_negative(&self, one: &One<'_>, slot: &str) -> bool {
        let _ = (one, slot);
        false
    }

    /// The state before the first step.
    ///
    /// # Errors
    /// If an option has a value that it cannot have, or a parameter is not of a float dtype.
    fn init(&self, parameters: &Parameters) -> Result<State> {
        self.validate()?;
        let step = Array::scalar(0i64);
        let rates = self.rates().iter().map(|r| r.at(&step)).collect();
        let mut slots = BTreeMap::new();
        for (path, value) in parameters {
            let dtype = value.dtype()?;
            let value = &wide(path, value)?;
            slots.insert(path.clone(), self.slots(&One { path, gradient: value, value, dtype }));
        }
        Ok(State { step, rates, slots })
    }

    /// New values of the parameters that have gradients; the state moves on. Parameters that the state
    /// does not know yet are added to it.
    ///
    /// # Errors
    /// As [`Optimizer::init`]; if a gradient has no parameter or another shape, or the state is another
    /// optimizer's. The state is as before then.
    fn apply(
        &self,
        state: &mut State,
        gradients: &Parameters,
        parameters: &Parameters,
    ) -> Result<Parameters> {
        self.validate()?;
        let mut next = state.clone();
        let rates = self.rates();
        if rates.len() != next.rates.len() {
            let why =
                format!("{} learning rates in the state for {}", next.rates.len(), rates.len());
            return Err(Error::new(ErrorKind::Value, "optimizer", why));
        }
        for (now, rate) in next.rates.iter_mut().zip(rates) {
            if rate.is_schedule() {
                *now = rate.at(&state.step);
            }
        }
        next.step = &state.step + 1;
        let number = next.step.astype(DType::F32);
        let at = Step { number: &number, rates: &next.rates };
        let mut moved = Parameters::new();
        for (path, gradient) in gradients {
            let Some(value) = parameters.get(path) else {
                let why = format!("there is no parameter {path}");
                return Err(Error::new(ErrorKind::Value, "optimizer", why));
            };
            if gradient.shape()? != value.shape()? {
                let (g, v) = (Shape::new(gradient.shape()?), Shape::new(value.shape()?));
                let why = format!("{path} has shape {v}, and its gradient {g}");
                return Err(Error::new(ErrorKind::Shape, "optimizer", why));
            }
            let dtype = value.dtype()?;
            let value = &wide(path, value)?;
            let gradient = &gradient.astype(value.dtype()?);
            let one = One { path, gradient, value, dtype };
            let slots = next.slots.entry(path.clone()).or_insert_with(|| self.slots(&one));
            let new = self.step(&at, &one, slots)?.astype(dtype);
            new.check()?;
            moved.insert(path.clone(), new);
        }
        *state = next;
        Ok(moved)
    }

    /// Moves a module's parameters that have gradients, and the state.
    ///
    /// # Errors
    /// As [`Optimizer::apply`].
    fn update(
        &self,
        state: &mut State,
        model: &mut dyn Module,
        gradients: &Parameters,
    ) -> Result<()> {
        let moved = self.apply(state, gradients, &model.trainable_parameters())?;
        model.update(&moved)
    }
}

/// A parameter in the dtype of its arithmetic.
fn wide(path: &str, value: &Array) -> Result<Array> {
    match value.dtype()? {
        DType::F64 => Ok(value.clone()),
        dtype if dtype.is_float() => Ok(value.astype(DType::F32)),
        dtype => {
            let why = format!("{path} has dtype {dtype}, which is not a float dtype");
            Err(Error::new(ErrorKind::DType, "optimizer", why))
        }
    }
}

/// Zeros like a parameter under these names.
fn zeros_like(one: &One<'_>, names: &[&str]) -> Slots {
    names.iter().map(|name| (name.to_string(), one.value.zeros_like())).collect()
}

/// The moment called `name`.
fn moment(slots: &Slots, name: &str) -> Result<Array> {
    slots.get(name).cloned().ok_or_else(|| {
        let why = format!("the state has no moment {name}: it is another optimizer's");
        Error::new(ErrorKind::Value, "optimizer", why)
    })
}

/// Keeps a moment.
fn keep(slots: &mut Slots, name: &str, value: &Array) {
    slots.insert(name.to_string(), value.clone());
}

/// An option that is wrong.
fn refuse(op: &'static str, why: impl Into<String>) -> Result<()> {
    Err(Error::new(ErrorKind::Value, op, why))
}

/// Checks that a number is in a range.
fn within(op: &'static str, name: &str, value: f64, good: bool) -> Result<()> {
    if good && value.is_finite() { Ok(()) } else { refuse(op, format!("{name} cannot be {value}")) }
}

//! Loss functions.
//!
//! Each gives one loss for each element, row or sample, or their mean or sum ([`Reduction`]). Operands
//! of element-wise losses have one shape: nothing is broadcast, since `(n)` against `(n, 1)` is a
//! mistake more often than not. Results have the dtype that the operands promote to (f32 for
//! integers); f16 and bf16 are computed in f32 and rounded once, after the reduction. Wrong shapes and
//! dtypes give failed arrays that name the loss.

use lazul_core::dtypes::result_type;
use lazul_core::{Array, DType, Error, ErrorKind, Result, Shape, attempt, where_};
use std::f64::consts::{LN_2, PI};

/// What becomes of the losses of single elements.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reduction {
    /// They stay as they are.
    #[default]
    None,
    /// Their mean, a scalar.
    Mean,
    /// Their sum, a scalar.
    Sum,
}

/// A loss under construction: its name and operands, for errors.
struct Call<'a> {
    name: &'static str,
    operands: &'a [&'a Array],
}

impl Call<'_> {
    fn error(&self, kind: ErrorKind, why: impl Into<String>) -> Error {
        let operands = self.operands.iter();
        let operands =
            operands.filter_map(|a| Some((a.dtype().ok()?, Shape::new(a.shape().ok()?))));
        Error::new(kind, self.name, why).operands(operands)
    }

    /// The dtype of the result.
    fn dtype(&self) -> Result<DType> {
        let dtypes = self.operands.iter().map(|a| a.dtype()).collect::<Result<Vec<_>>>()?;
        let dtype = result_type(&dtypes)?;
        if dtype == DType::C64 {
            return Err(self.error(ErrorKind::DType, "is not defined for complex64"));
        }
        Ok(if dtype.is_float() { dtype } else { DType::F32 })
    }

    fn one_shape(&self) -> Result<()> {
        for pair in self.operands.windows(2) {
            if pair[0].shape()? != pair[1].shape()? {
                return Err(self.error(ErrorKind::Shape, "operands need one shape"));
            }
        }
        Ok(())
    }

    /// `f` of the operands in f32 or more, reduced, in the result's dtype.
    fn finish(
        &self,
        reduction: Reduction,
        f: impl FnOnce(&[Array], DType) -> Result<Array>,
    ) -> Result<Array> {
        let dtype = self.dtype()?;
        let wide = if dtype == DType::F64 { dtype } else { DType::F32 };
        let operands: Vec<Array> = self.operands.iter().map(|a| a.astype(wide)).collect();
        Ok(reduced(f(&operands, wide)?, reduction).astype(dtype))
    }
}

#[track_caller]
fn reduced(losses: Array, reduction: Reduction) -> Array {
    match reduction {
        Reduction::None => losses,
        Reduction::Mean => losses.mean(..),
        Reduction::Sum => losses.sum(..),
    }
}

/// A loss of operands of one shape, computed in f32 or more.
#[track_caller]
fn elementwise<const N: usize>(
    name: &'static str,
    operands: [&Array; N],
    reduction: Reduction,
    f: impl FnOnce([&Array; N]) -> Array,
) -> Array {
    attempt(|| {
        let call = Call { name, operands: &operands };
        call.one_shape()?;
        call.finish(reduction, |wide, _| Ok(f(std::array::from_fn(|i| &wide[i]))))
    })
}

/// The entries of `x` along `axis` that `targets`, integers of `x`'s shape without that axis, select.
fn selected(call: &Call<'_>, x: &Array, targets: &Array, axis: i64) -> Result<Array> {
    if !targets.dtype()?.is_integer() {
        return Err(call.error(ErrorKind::DType, "classes need an integer dtype"));
    }
    let mut shape = x.shape()?.to_vec();
    let at = x.ndim()? as i64;
    shape.remove((if axis < 0 { axis + at } else { axis }) as usize);
    if targets.shape()? != shape {
        let why = format!(
            "classes need shape {}, that of the scores without axis {axis}",
            Shape::new(&shape)
        );
        return Err(call.error(ErrorKind::Shape, why));
    }
    Ok(x.take_along_axis(&targets.expand_dims(axis), axis).squeeze(axis))
}

/// Options of [`cross_entropy`].
#[derive(Clone, Copy, Debug)]
pub struct CrossEntropy<'a> {
    /// Multiplies each loss, of the losses' shape; none.
    pub weights: Option<&'a Array>,
    /// The axis of classes; -1.
    pub axis: i64,
    /// Share of the target that is spread evenly over all classes, from 0 to below 1; 0.
    pub label_smoothing: f64,
    /// Default: none.
    pub reduction: Reduction,
}

impl Default for CrossEntropy<'_> {
    fn default() -> Self {
        let reduction = Reduction::None;
        CrossEntropy { weights: None, axis: -1, label_smoothing: 0.0, reduction }
    }
}

/// Cross entropy of `logits (…, classes)`, one loss for each row `(…)`.
///
/// `targets` are classes, integers `(…)`, or probabilities of the logits' shape. A class that does not
/// exist is an error of the evaluation.
///
/// ```
/// use lazul_core::prelude::*;
/// use lazul_nn::losses::{CrossEntropy, cross_entropy};
/// let logits = Array::from_slice(&[2.0f32, -1.0, -1.0, 2.0], [2, 2]);
/// let classes = Array::from_slice(&[0, 1], [2]);
/// let loss = cross_entropy(&logits, &classes, CrossEntropy::default());
/// assert!((loss.to_vec::<f32>()?[0] - 0.048_587_35).abs() < 1e-6);
/// let short = classes.slice_axis(0, 0, 1);
/// let error = cross_entropy(&logits, &short, CrossEntropy::default()).check().unwrap_err();
/// assert_eq!(error.op(), "cross_entropy");
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[track_caller]
pub fn cross_entropy(logits: &Array, targets: &Array, how: CrossEntropy<'_>) -> Array {
    attempt(|| {
        let CrossEntropy { weights, axis, label_smoothing, reduction } = how;
        let operands = [logits, targets];
        let call = Call { name: "cross_entropy", operands: &operands };
        if !(0.0..1.0).contains(&label_smoothing) {
            let why = format!("label_smoothing is {label_smoothing}, not from 0 to below 1");
            return Err(call.error(ErrorKind::Value, why));
        }
        logits.dim(axis)?;
        let probabilities = targets.ndim()? == logits.ndim()?;
        if probabilities {
            call.one_shape()?;
        }
        let only_logits = [logits];
        let scored = Call {
            name: "cross_entropy",
            operands: if probabilities { &operands } else { &only_logits },
        };
        let losses = |wide: &[Array], dtype: DType| {
            let logits = &wide[0];
            let score = match wide.get(1) {
                Some(targets) => (logits * targets).sum(axis),
                None => selected(&call, logits, targets, axis)?,
            };
            let normaliser = logits.logsumexp(axis);
            let losses = if label_smoothing > 0.0 {
                normaliser - score * (1.0 - label_smoothing) - logits.mean(axis) * label_smoothing
            } else {
                normaliser - score
            };
            weighted(&call, losses, weights, dtype)
        };
        scored.finish(reduction, losses)
    })
}

/// `losses` times weights of their shape.
fn weighted(
    call: &Call<'_>,
    losses: Array,
    weights: Option<&Array>,
    dtype: DType,
) -> Result<Array> {
    let Some(weights) = weights else { return Ok(losses) };
    if weights.shape()? != losses.shape()? {
        let why = format!(
            "weights need shape {}, that of the losses, and have {}",
            Shape::new(losses.shape()?),
            Shape::new(weights.shape()?)
        );
        return Err(call.error(ErrorKind::Shape, why));
    }
    Ok(losses * weights.astype(dtype))
}

/// Options of [`binary_cross_entropy`].
#[derive(Clone, Copy, Debug)]
pub struct BinaryCrossEntropy<'a> {
    /// Multiplies each loss, of the losses' shape; none.
    pub weights: Option<&'a Array>,
    /// Whether inputs are logits rather than probabilities; true.
    pub with_logits: bool,
    /// Default: mean.
    pub reduction: Reduction,
}

impl Default for BinaryCrossEntropy<'_> {
    fn default() -> Self {
        BinaryCrossEntropy { weights: None, with_logits: true, reduction: Reduction::Mean }
    }
}

/// Cross entropy of two classes: `inputs` are logits or probabilities of the one, `targets` of the same
/// shape its true probabilities. Logarithms of probabilities are at least -100.
///
/// ```
/// use lazul_core::prelude::*;
/// use lazul_nn::losses::{BinaryCrossEntropy, binary_cross_entropy};
/// let logits = Array::from_slice(&[0.0f32, 0.0], [2]);
/// let targets = Array::from_slice(&[0.0f32, 1.0], [2]);
/// let loss = binary_cross_entropy(&logits, &targets, BinaryCrossEntropy::default());
/// assert!((loss.item::<f32>()? - 0.693_147_2).abs() < 1e-6);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[track_caller]
pub fn binary_cross_entropy(inputs: &Array, targets: &Array, how: BinaryCrossEntropy<'_>) -> Array {
    attempt(|| {
        let operands = [inputs, targets];
        let call = Call { name: "binary_cross_entropy", operands: &operands };
        call.one_shape()?;
        call.finish(how.reduction, |wide, dtype| {
            let (x, t) = (&wide[0], &wide[1]);
            let losses = if how.with_logits {
                x.logaddexp(0) - x * t
            } else {
                -(bounded_log(x) * t + bounded_log(&(1.0 - x)) * (1.0 - t))
            };
            weighted(&call, losses, how.weights, dtype)
        })
    })
}

/// `max(log(p), -100)`, whose derivative at 0 is 0 and not 0 times infinity.
#[track_caller]
fn bounded_log(p: &Array) -> Array {
    let zero = p.equal(0);
    where_(&zero, -100.0, where_(&zero, 1.0, p).log().maximum(-100.0))
}

/// `|predictions - targets|` (MLX reduces to the mean).
///
/// ```
/// use lazul_core::prelude::*;
/// use lazul_nn::losses::{Reduction, l1_loss};
/// let (p, t) = (Array::from_slice(&[1.0f32, 4.0], [2]), zeros([2], DType::F32));
/// assert_eq!(l1_loss(&p, &t, Reduction::Mean).item::<f32>()?, 2.5);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[track_caller]
pub fn l1_loss(predictions: &Array, targets: &Array, reduction: Reduction) -> Array {
    elementwise("l1_loss", [predictions, targets], reduction, |[p, t]| (p - t).abs())
}

/// `(predictions - targets)²` (MLX reduces to the mean).
///
/// ```
/// use lazul_core::prelude::*;
/// use lazul_nn::losses::{Reduction, mse_loss};
/// let (p, t) = (Array::from_slice(&[1.0f32, 4.0], [2]), zeros([2], DType::F32));
/// assert_eq!(mse_loss(&p, &t, Reduction::Mean).item::<f32>()?, 8.5);
/// assert_eq!(mse_loss(&p, &zeros([2, 1], DType::F32), Reduction::Mean).check().unwrap_err().op(), "mse_loss");
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[track_caller]
pub fn mse_loss(predictions: &Array, targets: &Array, reduction: Reduction) -> Array {
    elementwise("mse_loss", [predictions, targets], reduction, |[p, t]| (p - t).square())
}

/// The negative entries of `inputs (…, classes)`, logarithms of probabilities, along `axis` (MLX: -1)
/// at `targets`, classes `(…)` (MLX does not reduce).
///
/// ```
/// use lazul_core::prelude::*;
/// use lazul_nn::losses::{Reduction, nll_loss};
/// let x = Array::from_slice(&[-1.0f32, -2.0, -3.0, -4.0], [2, 2]);
/// let classes = Array::from_slice(&[1, 0], [2]);
/// assert_eq!(nll_loss(&x, &classes, -1, Reduction::None).to_vec::<f32>()?, [2.0, 3.0]);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[track_caller]
pub fn nll_loss(inputs: &Array, targets: &Array, axis: i64, reduction: Reduction) -> Array {
    attempt(|| {
        inputs.dim(axis)?;
        let call = Call { name: "nll_loss", operands: &[inputs, targets] };
        let scored = Call { name: "nll_loss", operands: &[inputs] };
        scored.finish(reduction, |wide, _| Ok(-selected(&call, &wide[0], targets, axis)?))
    })
}

/// Options of [`gaussian_nll_loss`].
#[derive(Clone, Copy, Debug)]
pub struct GaussianNll {
    /// Whether the constant `log(2π) / 2` is part of the loss; false.
    pub full: bool,
    /// Least variance; 1e-6.
    pub eps: f64,
    /// Default: mean.
    pub reduction: Reduction,
}

impl Default for GaussianNll {
    fn default() -> Self {
        GaussianNll { full: false, eps: 1e-6, reduction: Reduction::Mean }
    }
}

/// Negative log likelihood of `targets` under normal distributions with means `inputs` and variances
/// `vars`, all of one shape.
///
/// ```
/// use lazul_core::prelude::*;
/// use lazul_nn::losses::{GaussianNll, gaussian_nll_loss};
/// let (mean, var) = (zeros([2], DType::F32), ones([2], DType::F32));
/// let loss = gaussian_nll_loss(&mean, &ones([2], DType::F32), &var, GaussianNll::default());
/// assert_eq!(loss.item::<f32>()?, 0.5);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[track_caller]
pub fn gaussian_nll_loss(inputs: &Array, targets: &Array, vars: &Array, how: GaussianNll) -> Array {
    elementwise("gaussian_nll_loss", [inputs, targets, vars], how.reduction, |[x, t, v]| {
        let v = v.maximum(how.eps);
        let losses = (v.log() + (t - x).square() / &v) * 0.5;
        if how.full { losses + 0.5 * (2.0 * PI).ln() } else { losses }
    })
}

/// Kullback-Leibler divergence along `axis` (MLX: -1) of distributions given by logarithms:
/// `sum(exp(targets) * (targets - inputs))`, both of one shape (MLX does not reduce).
///
/// ```
/// use lazul_core::prelude::*;
/// use lazul_nn::losses::{Reduction, kl_div_loss};
/// let p = full([2, 2], 0.5f32).log();
/// assert_eq!(kl_div_loss(&p, &p, -1, Reduction::None).to_vec::<f32>()?, [0.0, 0.0]);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[track_caller]
pub fn kl_div_loss(inputs: &Array, targets: &Array, axis: i64, reduction: Reduction) -> Array {
    elementwise("kl_div_loss", [inputs, targets], reduction, |[x, t]| (t.exp() * (t - x)).sum(axis))
}

/// Squares below `beta` (MLX: 1), absolute values above: `d² / (2 beta)` and `d - beta / 2` with
/// `d = |predictions - targets|` (MLX reduces to the mean). Source: Girshick, Fast R-CNN, 2015.
///
/// ```
/// use lazul_core::prelude::*;
/// use lazul_nn::losses::{Reduction, smooth_l1_loss};
/// let (p, t) = (Array::from_slice(&[0.5f32, 4.0], [2]), zeros([2], DType::F32));
/// assert_eq!(smooth_l1_loss(&p, &t, 1.0, Reduction::None).to_vec::<f32>()?, [0.125, 3.5]);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[track_caller]
pub fn smooth_l1_loss(
    predictions: &Array,
    targets: &Array,
    beta: f64,
    reduction: Reduction,
) -> Array {
    elementwise("smooth_l1_loss", [predictions, targets], reduction, |[p, t]| {
        let d = (p - t).abs();
        where_(d.less(beta), d.square() * (0.5 / beta), &d - 0.5 * beta)
    })
}

/// Options of [`triplet_loss`].
#[derive(Clone, Copy, Debug)]
pub struct Triplet {
    /// The axis of features; -1.
    pub axis: i64,
    /// Exponent of the distance; 2.
    pub p: f64,
    /// How much nearer positives shall be; 1.
    pub margin: f64,
    /// Added under the root; 1e-6.
    pub eps: f64,
    /// Default: none.
    pub reduction: Reduction,
}

impl Default for Triplet {
    fn default() -> Self {
        Triplet { axis: -1, p: 2.0, margin: 1.0, eps: 1e-6, reduction: Reduction::None }
    }
}

/// `max(|anchors - positives| - |anchors - negatives| + margin, 0)` with the distance
/// `(sum |d|^p + eps)^(1/p)` along an axis; all of one shape `(…, d)`, one loss for each `(…)`.
///
/// For exponents other than 2 MLX takes a square root nonetheless, and powers of signed differences;
/// here they are the distances of that exponent.
///
/// ```
/// use lazul_core::prelude::*;
/// use lazul_nn::losses::{Triplet, triplet_loss};
/// let (a, far) = (zeros([1, 2], DType::F32), full([1, 2], 100.0f32));
/// assert_eq!(triplet_loss(&a, &a, &far, Triplet::default()).to_vec::<f32>()?, [0.0]);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[track_caller]
pub fn triplet_loss(anchors: &Array, positives: &Array, negatives: &Array, how: Triplet) -> Array {
    let Triplet { axis, p, margin, eps, reduction } = how;
    let distance = |d: Array| {
        if p == 2.0 {
            (d.square().sum(axis) + eps).sqrt()
        } else {
            (d.abs().power(p).sum(axis) + eps).power(1.0 / p)
        }
    };
    elementwise("triplet_loss", [anchors, positives, negatives], reduction, |[a, near, far]| {
        (distance(a - near) - distance(a - far) + margin).maximum(0)
    })
}

/// `max(1 - inputs * targets, 0)`, targets being -1 or 1 (MLX does not reduce).
///
/// ```
/// use lazul_core::prelude::*;
/// use lazul_nn::losses::{Reduction, hinge_loss};
/// let (x, t) = (Array::from_slice(&[0.5f32, 2.0], [2]), ones([2], DType::F32));
/// assert_eq!(hinge_loss(&x, &t, Reduction::None).to_vec::<f32>()?, [0.5, 0.0]);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[track_caller]
pub fn hinge_loss(inputs: &Array, targets: &Array, reduction: Reduction) -> Array {
    elementwise("hinge_loss", [inputs, targets], reduction, |[x, t]| (-(x * t) + 1.0).maximum(0))
}

/// Squares up to `delta` (MLX: 1), absolute values above: `e² / 2` and `delta * (|e| - delta / 2)` with
/// `e = inputs - targets` (MLX does not reduce). Source: Huber, 1964.
///
/// ```
/// use lazul_core::prelude::*;
/// use lazul_nn::losses::{Reduction, huber_loss};
/// let (x, t) = (Array::from_slice(&[1.0f32, 4.0], [2]), zeros([2], DType::F32));
/// assert_eq!(huber_loss(&x, &t, 2.0, Reduction::None).to_vec::<f32>()?, [0.5, 6.0]);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[track_caller]
pub fn huber_loss(inputs: &Array, targets: &Array, delta: f64, reduction: Reduction) -> Array {
    elementwise("huber_loss", [inputs, targets], reduction, |[x, t]| {
        let e = (x - t).abs();
        where_(e.less_equal(delta), e.square() * 0.5, (&e - 0.5 * delta) * delta)
    })
}

/// `log(cosh(inputs - targets))`, without overflow (MLX does not reduce).
///
/// ```
/// use lazul_core::prelude::*;
/// use lazul_nn::losses::{Reduction, log_cosh_loss};
/// let (x, t) = (zeros([2], DType::F32), zeros([2], DType::F32));
/// assert_eq!(log_cosh_loss(&x, &t, Reduction::Sum).item::<f32>()?, 0.0);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[track_caller]
pub fn log_cosh_loss(inputs: &Array, targets: &Array, reduction: Reduction) -> Array {
    elementwise("log_cosh_loss", [inputs, targets], reduction, |[x, t]| {
        let e = x - t;
        e.logaddexp(-&e) - LN_2
    })
}

/// The cosine of the angle between `x1` and `x2`, of one shape, along `axis` (MLX: 1); the product of
/// the norms counts as at least `eps` (MLX: 1e-8; MLX does not reduce).
///
/// As in MLX this is the similarity itself, 1 for vectors of one direction: training maximises it.
///
/// ```
/// use lazul_core::prelude::*;
/// use lazul_nn::losses::{Reduction, cosine_similarity_loss};
/// let x = Array::from_slice(&[3.0f32, 4.0], [1, 2]);
/// assert_eq!(cosine_similarity_loss(&x, &x, 1, 1e-8, Reduction::None).to_vec::<f32>()?, [1.0]);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[track_caller]
pub fn cosine_similarity_loss(
    x1: &Array,
    x2: &Array,
    axis: i64,
    eps: f64,
    reduction: Reduction,
) -> Array {
    // The root of zero has no derivative.
    let norm = |x: &Array| x.square().sum(axis).maximum(f32::MIN_POSITIVE as f64).sqrt();
    elementwise("cosine_similarity_loss", [x1, x2], reduction, |[a, b]| {
        (a * b).sum(axis) / (norm(a) * norm(b)).maximum(eps)
    })
}

/// `max(margin - targets * (inputs1 - inputs2), 0)` (MLX: margin 0): where a target is 1 the first input
/// shall be the greater, where it is -1 the second (MLX does not reduce).
///
/// ```
/// use lazul_core::prelude::*;
/// use lazul_nn::losses::{Reduction, margin_ranking_loss};
/// let (a, b, t) = (zeros([2], DType::F32), ones([2], DType::F32), Array::from_slice(&[1, -1], [2]));
/// assert_eq!(margin_ranking_loss(&a, &b, &t, 0.0, Reduction::None).to_vec::<f32>()?, [1.0, 0.0]);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[track_caller]
pub fn margin_ranking_loss(
    inputs1: &Array,
    inputs2: &Array,
    targets: &Array,
    margin: f64,
    reduction: Reduction,
) -> Array {
    elementwise("margin_ranking_loss", [inputs1, inputs2, targets], reduction, |[a, b, t]| {
        (margin - t * (a - b)).maximum(0)
    })
}

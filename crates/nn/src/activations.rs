//! Activation functions.
//!
//! All take and give an array of any shape. Float dtypes stay as they are, integers become f32 where
//! the function is not one of integers. Functions of several steps compute f16 and bf16 in f32 and
//! round once. A wrong argument (a complex array, an axis that is not there) gives a failed array.
//! Parameters that MLX has defaults for are named with them.

use lazul_core::{Array, DType, Error, ErrorKind, attempt, where_};
use std::f64::consts::{FRAC_1_SQRT_2, PI};

/// `f` in f32 where `x` has less precision.
#[track_caller]
fn in_f32(x: &Array, f: impl FnOnce(&Array) -> Array) -> Array {
    attempt(|| {
        let dtype = x.dtype()?;
        Ok(match dtype {
            DType::F16 | DType::BF16 => f(&x.astype(DType::F32)).astype(dtype),
            _ => f(x),
        })
    })
}

/// `1 / (1 + exp(-x))`.
///
/// ```
/// use lazul_core::prelude::*;
/// use lazul_nn::activations::sigmoid;
/// assert_eq!(sigmoid(&Array::scalar(0.0f32)).item::<f32>()?, 0.5);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[track_caller]
pub fn sigmoid(x: &Array) -> Array {
    x.sigmoid()
}

/// `tanh(x)`.
///
/// ```
/// use lazul_core::prelude::*;
/// use lazul_nn::activations::tanh;
/// assert_eq!(tanh(&Array::scalar(0.0f32)).item::<f32>()?, 0.0);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[track_caller]
pub fn tanh(x: &Array) -> Array {
    x.tanh()
}

/// `x * sigmoid(x)`. Source: Elfwing, Uchibe and Doya, 2017.
///
/// ```
/// use lazul_core::prelude::*;
/// use lazul_nn::activations::silu;
/// assert_eq!(silu(&Array::scalar(0.0f32)).item::<f32>()?, 0.0);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[track_caller]
pub fn silu(x: &Array) -> Array {
    x * x.sigmoid()
}

/// `max(x, 0)`; integers stay integers.
///
/// ```
/// use lazul_core::prelude::*;
/// use lazul_nn::activations::relu;
/// let x = Array::from_slice(&[-1, 2], [2]);
/// assert_eq!(relu(&x).to_vec::<i32>()?, [0, 2]);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[track_caller]
pub fn relu(x: &Array) -> Array {
    x.maximum(0)
}

/// `max(x, 0)²`; integers stay integers. Source: So et al., Primer, 2021.
///
/// ```
/// use lazul_core::prelude::*;
/// use lazul_nn::activations::relu2;
/// let x = Array::from_slice(&[-1.0f32, 3.0], [2]);
/// assert_eq!(relu2(&x).to_vec::<f32>()?, [0.0, 9.0]);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[track_caller]
pub fn relu2(x: &Array) -> Array {
    relu(x).square()
}

/// `min(max(x, 0), 6)`; integers stay integers.
///
/// ```
/// use lazul_core::prelude::*;
/// use lazul_nn::activations::relu6;
/// let x = Array::from_slice(&[-1.0f32, 3.0, 7.0], [3]);
/// assert_eq!(relu6(&x).to_vec::<f32>()?, [0.0, 3.0, 6.0]);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[track_caller]
pub fn relu6(x: &Array) -> Array {
    relu(x).minimum(6)
}

/// `x` where positive, `negative_slope * x` elsewhere (MLX: 0.01).
///
/// ```
/// use lazul_core::prelude::*;
/// use lazul_nn::activations::leaky_relu;
/// let x = Array::from_slice(&[-2.0f32, 3.0], [2]);
/// assert_eq!(leaky_relu(&x, 0.5).to_vec::<f32>()?, [-1.0, 3.0]);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[track_caller]
pub fn leaky_relu(x: &Array, negative_slope: f64) -> Array {
    where_(x.greater(0), x, x * negative_slope)
}

/// `max(x, 0) + alpha * min(x, 0)`; `alpha` is learned and broadcasts against `x`: one slope, or one for
/// each channel of the last axis. Source: He et al., 2015.
///
/// ```
/// use lazul_core::prelude::*;
/// use lazul_nn::activations::prelu;
/// let x = Array::from_slice(&[-2.0f32, 3.0, -4.0, 5.0], [2, 2]);
/// let alpha = Array::from_slice(&[0.5f32, 0.25], [2]);
/// assert_eq!(prelu(&x, &alpha).to_vec::<f32>()?, [-1.0, 3.0, -2.0, 5.0]);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[track_caller]
pub fn prelu(x: &Array, alpha: &Array) -> Array {
    x.maximum(0) + alpha * x.minimum(0)
}

/// `x` where positive, `alpha * (exp(x) - 1)` elsewhere (MLX: 1). Source: Clevert et al., 2015.
///
/// ```
/// use lazul_core::prelude::*;
/// use lazul_nn::activations::elu;
/// let x = Array::from_slice(&[-1e9f32, 3.0], [2]);
/// assert_eq!(elu(&x, 2.0).to_vec::<f32>()?, [-2.0, 3.0]);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[track_caller]
pub fn elu(x: &Array, alpha: f64) -> Array {
    // The branch not taken must not overflow, or its derivative would be NaN.
    in_f32(x, |x| where_(x.greater(0), x, x.minimum(0).expm1() * alpha))
}

/// `max(x, 0) + min(0, alpha * (exp(x / alpha) - 1))` (MLX: 1). Source: Barron, 2017.
///
/// ```
/// use lazul_core::prelude::*;
/// use lazul_nn::activations::celu;
/// let x = Array::from_slice(&[-1e9f32, 3.0], [2]);
/// assert_eq!(celu(&x, 2.0).to_vec::<f32>()?, [-2.0, 3.0]);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[track_caller]
pub fn celu(x: &Array, alpha: f64) -> Array {
    in_f32(x, |x| x.maximum(0) + (x.minimum(0) / alpha).expm1() * alpha)
}

/// ELU with the slopes that keep mean 0 and variance 1 through layers. Source: Klambauer et al., 2017.
///
/// ```
/// use lazul_core::prelude::*;
/// use lazul_nn::activations::selu;
/// assert_eq!(selu(&Array::scalar(1.0f32)).item::<f32>()?, 1.050_701);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[track_caller]
pub fn selu(x: &Array) -> Array {
    in_f32(x, |x| elu(x, 1.673_263_242_354_377_2) * 1.050_700_987_355_480_5)
}

/// `x * Φ(x)` with the error function. Source: Hendrycks and Gimpel, 2016.
///
/// ```
/// use lazul_core::prelude::*;
/// use lazul_nn::activations::gelu;
/// assert!((gelu(&Array::scalar(1.0f32)).item::<f32>()? - 0.841_344_7).abs() < 1e-6);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[track_caller]
pub fn gelu(x: &Array) -> Array {
    in_f32(x, |x| x * ((x * FRAC_1_SQRT_2).erf() + 1.0) * 0.5)
}

/// GELU by a hyperbolic tangent.
///
/// ```
/// use lazul_core::prelude::*;
/// use lazul_nn::activations::{gelu, gelu_approx};
/// let x = linspace(-3.0, 3.0, 7, DType::F32);
/// let apart = (gelu(&x) - gelu_approx(&x)).abs().max(..).item::<f32>()?;
/// assert!(apart < 1e-3);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[track_caller]
pub fn gelu_approx(x: &Array) -> Array {
    in_f32(x, |x| {
        let inner = (x + x.square() * x * 0.044715) * (2.0 / PI).sqrt();
        x * (inner.tanh() + 1.0) * 0.5
    })
}

/// GELU by a logistic function: `x * sigmoid(1.702 x)`.
///
/// ```
/// use lazul_core::prelude::*;
/// use lazul_nn::activations::{gelu, gelu_fast_approx};
/// let x = linspace(-3.0, 3.0, 7, DType::F32);
/// let apart = (gelu(&x) - gelu_fast_approx(&x)).abs().max(..).item::<f32>()?;
/// assert!(apart < 0.03);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[track_caller]
pub fn gelu_fast_approx(x: &Array) -> Array {
    in_f32(x, |x| x * (x * 1.702).sigmoid())
}

/// One half of `x` along `axis` times the sigmoid of the other (MLX: -1): that axis, of even length, is
/// halved. Source: Dauphin et al., 2016.
///
/// ```
/// use lazul_core::prelude::*;
/// use lazul_nn::activations::glu;
/// let x = Array::from_slice(&[4.0f32, 0.0], [1, 2]);
/// assert_eq!(glu(&x, -1).to_vec::<f32>()?, [2.0]);
/// assert_eq!(glu(&ones([3], DType::F32), 0).check().unwrap_err().op(), "glu");
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[track_caller]
pub fn glu(x: &Array, axis: i64) -> Array {
    attempt(|| {
        let n = x.dim(axis)?;
        if n % 2 != 0 {
            let why = format!("axis {axis} has length {n}, which has no halves");
            let operand = (x.dtype()?, lazul_core::Shape::new(x.shape()?));
            return Err(Error::new(ErrorKind::Shape, "glu", why).operands([operand]));
        }
        let half = (n / 2) as i64;
        Ok(x.slice_axis(axis, 0, half) * x.slice_axis(axis, half, None).sigmoid())
    })
}

/// `x` where `|x| > lambda` (MLX: 0.5), 0 elsewhere.
///
/// ```
/// use lazul_core::prelude::*;
/// use lazul_nn::activations::hard_shrink;
/// let x = Array::from_slice(&[-2.0f32, 0.25, 3.0], [3]);
/// assert_eq!(hard_shrink(&x, 0.5).to_vec::<f32>()?, [-2.0, 0.0, 3.0]);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[track_caller]
pub fn hard_shrink(x: &Array, lambda: f64) -> Array {
    where_(x.abs().greater(lambda), x, 0)
}

/// `x` moved toward 0 by `lambda` (MLX: 0.5), and 0 where it would pass it.
///
/// ```
/// use lazul_core::prelude::*;
/// use lazul_nn::activations::softshrink;
/// let x = Array::from_slice(&[-2.0f32, 0.25, 3.0], [3]);
/// assert_eq!(softshrink(&x, 0.5).to_vec::<f32>()?, [-1.5, 0.0, 2.5]);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[track_caller]
pub fn softshrink(x: &Array, lambda: f64) -> Array {
    where_(x.abs().greater(lambda), x - x.sign() * lambda, 0)
}

/// `min(max(x, min), max)` (MLX: -1 and 1).
///
/// ```
/// use lazul_core::prelude::*;
/// use lazul_nn::activations::hard_tanh;
/// let x = Array::from_slice(&[-2.0f32, 0.25, 3.0], [3]);
/// assert_eq!(hard_tanh(&x, -1.0, 1.0).to_vec::<f32>()?, [-1.0, 0.25, 1.0]);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[track_caller]
pub fn hard_tanh(x: &Array, min: f64, max: f64) -> Array {
    x.maximum(min).minimum(max)
}

/// `x * min(max(x + 3, 0), 6) / 6`. Source: Howard et al., MobileNetV3, 2019.
///
/// ```
/// use lazul_core::prelude::*;
/// use lazul_nn::activations::hardswish;
/// let x = Array::from_slice(&[-4.0f32, 0.0, 4.0], [3]);
/// assert_eq!(hardswish(&x).to_vec::<f32>()?, [0.0, 0.0, 4.0]);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[track_caller]
pub fn hardswish(x: &Array) -> Array {
    in_f32(x, |x| x * (x + 3).maximum(0).minimum(6) / 6)
}

/// `log(sigmoid(x))`, without overflow.
///
/// ```
/// use lazul_core::prelude::*;
/// use lazul_nn::activations::log_sigmoid;
/// let x = Array::from_slice(&[-1000.0f32, 1000.0], [2]);
/// assert_eq!(log_sigmoid(&x).to_vec::<f32>()?, [-1000.0, 0.0]);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[track_caller]
pub fn log_sigmoid(x: &Array) -> Array {
    -softplus(&-x)
}

/// `log(1 + exp(x))`, without overflow.
///
/// ```
/// use lazul_core::prelude::*;
/// use lazul_nn::activations::softplus;
/// let x = Array::from_slice(&[-1000.0f32, 1000.0], [2]);
/// assert_eq!(softplus(&x).to_vec::<f32>()?, [0.0, 1000.0]);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[track_caller]
pub fn softplus(x: &Array) -> Array {
    in_f32(x, |x| x.logaddexp(0))
}

/// `x / (1 + |x|)`.
///
/// ```
/// use lazul_core::prelude::*;
/// use lazul_nn::activations::softsign;
/// assert_eq!(softsign(&Array::scalar(-3.0f32)).item::<f32>()?, -0.75);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[track_caller]
pub fn softsign(x: &Array) -> Array {
    in_f32(x, |x| x / (x.abs() + 1))
}

/// `exp(x)` over its sum along `axis` (MLX: -1), without overflow.
///
/// ```
/// use lazul_core::prelude::*;
/// use lazul_nn::activations::softmax;
/// assert_eq!(softmax(&zeros([1, 4], DType::F32), -1).to_vec::<f32>()?, [0.25; 4]);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[track_caller]
pub fn softmax(x: &Array, axis: i64) -> Array {
    x.softmax(axis)
}

/// The softmax of `-x` along `axis` (MLX: -1).
///
/// ```
/// use lazul_core::prelude::*;
/// use lazul_nn::activations::softmin;
/// let x = Array::from_slice(&[0.0f32, 1000.0], [2]);
/// assert_eq!(softmin(&x, -1).to_vec::<f32>()?, [1.0, 0.0]);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[track_caller]
pub fn softmin(x: &Array, axis: i64) -> Array {
    (-x).softmax(axis)
}

/// The logarithm of the softmax along `axis` (MLX: -1), without overflow.
///
/// ```
/// use lazul_core::prelude::*;
/// use lazul_nn::activations::log_softmax;
/// let x = Array::from_slice(&[0.0f32, 1000.0], [2]);
/// assert_eq!(log_softmax(&x, -1).to_vec::<f32>()?, [-1000.0, 0.0]);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[track_caller]
pub fn log_softmax(x: &Array, axis: i64) -> Array {
    in_f32(x, |x| x - x.logsumexp_keepdims(axis))
}

/// `x * tanh(softplus(x))`. Source: Misra, 2019.
///
/// ```
/// use lazul_core::prelude::*;
/// use lazul_nn::activations::mish;
/// assert_eq!(mish(&Array::scalar(0.0f32)).item::<f32>()?, 0.0);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[track_caller]
pub fn mish(x: &Array) -> Array {
    in_f32(x, |x| x * softplus(x).tanh())
}

/// 1 where `x >= threshold` (MLX: 0), 0 elsewhere, as i32.
///
/// ```
/// use lazul_core::prelude::*;
/// use lazul_nn::activations::step;
/// let x = Array::from_slice(&[-1.0f32, 0.0, 1.0], [3]);
/// assert_eq!(step(&x, 0.0).to_vec::<i32>()?, [0, 1, 1]);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[track_caller]
pub fn step(x: &Array, threshold: f64) -> Array {
    x.greater_equal(threshold).astype(DType::I32)
}

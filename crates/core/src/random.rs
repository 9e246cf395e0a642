//! Random numbers from keys: Threefry-2x32, the same bits as MLX's and JAX's for the same key.
//!
//! A key is a u32 array of two words. Functions take one, or `None` to draw from the process' own
//! generator, which [`seed`] sets and which otherwise starts from the clock; within a function that is
//! compiled or is the body of a loop, which is traced once, a key is needed. The same key gives the
//! same bits whatever the number of threads, fused or not.

use crate::array::checked_shape;
use crate::error::{Error, ErrorKind, Result};
use crate::ints::IntoInts;
use crate::node::Array;
use crate::operand::{IntoOperand, Operand};
use crate::ops::linalg;
use crate::ops::scan::Scan;
use crate::ops::search::Side;
use crate::ops::{attempt, axis_of, error, prim};
use crate::scope::call_site;
use lazul_ir::{DType, Prim, Shape};
use std::cell::Cell;
use std::sync::Mutex;

static STATE: Mutex<Option<Array>> = Mutex::new(None);

/// Sets the process' own generator.
///
/// ```
/// use lazul_core::prelude::*;
/// random::seed(7);
/// let a = random::uniform(0.0, 1.0, [3], DType::F32, None).to_vec::<f32>()?;
/// random::seed(7);
/// assert_eq!(random::uniform(0.0, 1.0, [3], DType::F32, None).to_vec::<f32>()?, a);
/// # Ok::<(), lazul_core::Error>(())
/// ```
pub fn seed(seed: u64) {
    *STATE.lock().unwrap_or_else(|e| e.into_inner()) = Some(key(seed));
}

/// The key of a seed: its upper and lower 32 bits.
///
/// ```
/// use lazul_core::prelude::*;
/// assert_eq!(random::key((1 << 32) + 2).to_vec::<u32>()?, [1, 2]);
/// # Ok::<(), lazul_core::Error>(())
/// ```
pub fn key(seed: u64) -> Array {
    Array::from_slice(&[(seed >> 32) as u32, seed as u32], [2])
}

thread_local! {
    /// The operation that is tracing a function to run it more than once, if one is.
    static TRACING: Cell<Option<&'static str>> = const { Cell::new(None) };
}

/// While this lives, draws on this thread need keys: what is drawn without one while a function is traced
/// would be a constant of it.
pub(crate) struct Keyed(Option<&'static str>);

impl Keyed {
    pub(crate) fn start(op: &'static str) -> Keyed {
        Keyed(TRACING.replace(Some(op)))
    }
}

impl Drop for Keyed {
    fn drop(&mut self) {
        TRACING.set(self.0);
    }
}

/// The key given, or a fresh one of the process' generator.
#[track_caller]
fn key_or_next(key: Option<&Array>) -> Array {
    if let Some(key) = key {
        return key.clone();
    }
    if let Some(op) = TRACING.get() {
        let why =
            format!("a draw without a key would be the same in every run of what {op} traces");
        return Array::fail(Error::new(ErrorKind::Value, "random", why), call_site());
    }
    let mut state = STATE.lock().unwrap_or_else(|e| e.into_inner());
    let now = state.take().unwrap_or_else(|| {
        let clock = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        self::key(clock.map_or(0, |t| t.as_nanos() as u64))
    });
    let both = split(&now, 2);
    let next = both.at_index(0, 0);
    // The state is computed at once: it must not grow into a graph of all draws so far.
    let _ = next.eval();
    *state = Some(next);
    both.at_index(0, 1)
}

/// `num` independent keys, `(num, 2)`.
///
/// ```
/// use lazul_core::prelude::*;
/// assert_eq!(random::split(&random::key(0), 2).shape()?, &[2, 2]);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[track_caller]
pub fn split(key: &Array, num: usize) -> Array {
    bits([num, 2], DType::U32, Some(key))
}

/// Uniformly random bits: u8, u16 or u32.
///
/// ```
/// use lazul_core::prelude::*;
/// let bits = random::bits([2], DType::U32, Some(&random::key(0)));
/// assert_eq!(bits.shape()?, &[2]);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[track_caller]
pub fn bits(shape: impl IntoInts, dtype: DType, key: Option<&Array>) -> Array {
    let key = key_or_next(key);
    attempt(|| {
        key.check()?;
        if key.0.dtype != DType::U32 || key.0.shape[..] != [2] {
            return Err(error(ErrorKind::Value, "random", "a key is a uint32 array (2,)", &[&key]));
        }
        if !matches!(dtype, DType::U8 | DType::U16 | DType::U32) {
            let why = format!("random bits are uint8, uint16 or uint32, not {dtype}");
            return Err(Error::new(ErrorKind::DType, "random_bits", why));
        }
        let shape = checked_shape("random_bits", shape)?;
        Ok(prim(Prim::RandomBits, [key], shape, dtype))
    })
}

/// Uniform numbers from `low` to below `high` (which rounding may reach): f32, f16 or bf16. `low` and `high` broadcast to `shape`.
///
/// ```
/// use lazul_core::prelude::*;
/// let u = random::uniform(0.0, 1.0, [2], DType::F32, Some(&random::key(0)));
/// assert_eq!(u.to_vec::<f32>()?, [0.216_295_45, 0.804_124_2]);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[track_caller]
pub fn uniform(
    low: impl IntoOperand,
    high: impl IntoOperand,
    shape: impl IntoInts,
    dtype: DType,
    key: Option<&Array>,
) -> Array {
    let (low, high) = (low.into_operand(), high.into_operand());
    attempt(|| {
        let largest = match dtype {
            DType::F32 => 1.0 - 2f64.powi(-24),
            DType::F16 => 1.0 - 2f64.powi(-11),
            DType::BF16 => 1.0 - 2f64.powi(-8),
            other => {
                let why = format!("uniform numbers are float32, float16 or bfloat16, not {other}");
                return Err(Error::new(ErrorKind::DType, "uniform", why));
            }
        };
        let low = low.into_array_beside("uniform", dtype).astype(dtype);
        let high = high.into_array_beside("uniform", dtype).astype(dtype);
        let shape = checked_shape("uniform", shape)?;
        let word = bits(&shape, DType::U32, key).astype(DType::F32);
        let unit = (word / u32::MAX as f32).minimum(largest).astype(dtype);
        let (low, high) = (low.broadcast_to(&shape), high.broadcast_to(&shape));
        low.check()?;
        Ok((high - &low) * unit + low)
    })
}

/// Normal numbers of mean 0 and variance 1, of any float dtype or complex64 (whose two parts have half
/// the variance each). Drawn in f32.
///
/// The inverse error function of uniform numbers, by one fixed polynomial.
///
/// ```
/// use lazul_core::prelude::*;
/// let x = random::normal([2, 3], DType::F32, Some(&random::key(0)));
/// assert_eq!(x.shape()?, &[2, 3]);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[track_caller]
pub fn normal(shape: impl IntoInts, dtype: DType, key: Option<&Array>) -> Array {
    attempt(|| scaled_normal(shape, dtype, None, key))
}

/// Normal numbers of mean `loc` and standard deviation `scale`, which broadcast to `shape`; see [`normal`].
///
/// ```
/// use lazul_core::prelude::*;
/// let key = random::key(0);
/// let x = random::normal_with(10.0, 0.0, [2], DType::F32, Some(&key));
/// assert_eq!(x.to_vec::<f32>()?, [10.0, 10.0]);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[track_caller]
pub fn normal_with(
    loc: impl IntoOperand,
    scale: impl IntoOperand,
    shape: impl IntoInts,
    dtype: DType,
    key: Option<&Array>,
) -> Array {
    let (loc, scale) = (loc.into_operand(), scale.into_operand());
    attempt(|| {
        let shape = checked_shape("normal", shape)?;
        let loc = parameter("normal", loc, dtype, &shape)?;
        let scale = parameter("normal", scale, dtype, &shape)?;
        Ok(scaled_normal(&shape, dtype, Some(scale), key)? + loc)
    })
}

/// Normal numbers of mean 0. The scale is multiplied in one step with the square root of two.
#[track_caller]
fn scaled_normal(
    shape: impl IntoInts,
    dtype: DType,
    scale: Option<Array>,
    key: Option<&Array>,
) -> Result<Array> {
    let shape = checked_shape("normal", shape)?;
    if dtype == DType::C64 {
        let mut pairs = shape.clone();
        pairs.push(2);
        let parts = symmetric(&pairs, key).erfinv();
        let numbers = parts.view(DType::C64).reshape(&shape);
        return Ok(scale.map_or(numbers.clone(), |scale| numbers * scale));
    }
    float_only("normal", dtype)?;
    let numbers = symmetric(&shape, key).erfinv().astype(dtype);
    let root = std::f64::consts::SQRT_2;
    Ok(match scale {
        Some(scale) => numbers * (scale * root),
        None => numbers * root,
    })
}

/// Normal vectors of mean `mean (…, d)` and covariance `cov (…, d, d)`, a symmetric matrix without negative
/// eigenvalues: `shape ++ (d)` of a float dtype, drawn in f32. The other axes of both broadcast to `shape`.
///
/// Standard normal vectors times the symmetric square root of the covariance. What rounding left of
/// eigenvalues below zero counts as zero.
///
/// ```
/// use lazul_core::prelude::*;
/// let (mean, cov) = (zeros(2, DType::F32), identity(2, DType::F32));
/// let x = random::multivariate_normal(&mean, &cov, [100], DType::F32, Some(&random::key(0)));
/// assert_eq!(x.shape()?, &[100, 2]);
/// # Ok::<(), lazul_core::Error>(())
/// ```
///
/// # Errors (as a failed array)
/// For a dtype that is no float, complex operands, a covariance that is not square or not of the mean's
/// length, and where the other axes do not broadcast to `shape`.
#[track_caller]
pub fn multivariate_normal(
    mean: &Array,
    cov: &Array,
    shape: impl IntoInts,
    dtype: DType,
    key: Option<&Array>,
) -> Array {
    attempt(|| {
        float_only("multivariate_normal", dtype)?;
        mean.check()?;
        cov.check()?;
        let shape = checked_shape("multivariate_normal", shape)?;
        let bad = |why: &str| {
            Err(error(ErrorKind::Shape, "multivariate_normal", why.to_string(), &[mean, cov]))
        };
        let (lead, other) = match (&mean.0.shape[..], &cov.0.shape[..]) {
            (&[ref lead @ .., d], &[ref other @ .., n, m]) if d == n && n == m => (lead, other),
            _ => return bad("needs means (…, d) and covariances (…, d, d)"),
        };
        let fits = |axes: &[usize]| Shape::broadcast(axes, &shape).as_ref() == Some(&shape);
        if !fits(lead) || !fits(other) {
            return bad(&format!("means and covariances do not broadcast to {shape}"));
        }
        if mean.0.dtype == DType::C64 || cov.0.dtype == DType::C64 {
            let why = "means and covariances are real";
            return Err(error(ErrorKind::DType, "multivariate_normal", why, &[mean, cov]));
        }
        let (values, vectors) = linalg::eigh(&cov.astype(DType::F32), false);
        let scaled = &vectors * values.maximum(0.0).sqrt().expand_dims(-2);
        let root = scaled.matmul(&vectors.mt());
        let mut numbers = shape;
        numbers.push(mean.dim(-1)?);
        // (…, 1, d) · (…, d, d)
        let z = normal(&numbers, DType::F32, key).expand_dims(-2);
        let spread = z.matmul(&root).squeeze(-2);
        Ok((spread + mean.astype(DType::F32)).astype(dtype))
    })
}

/// A parameter of a distribution in its dtype, which broadcasts to the shape of what is drawn.
#[track_caller]
fn parameter(op: &'static str, value: Operand, dtype: DType, shape: &Shape) -> Result<Array> {
    let value = value.into_array_beside(op, dtype).astype(dtype);
    let value = value.broadcast_to(shape);
    value.check()?;
    Ok(value)
}

/// Numbers of a continuous distribution are floats.
fn float_only(op: &'static str, dtype: DType) -> Result<()> {
    if dtype.is_float() {
        return Ok(());
    }
    let why = format!("random numbers of this kind cannot be {dtype}");
    Err(Error::new(ErrorKind::DType, op, why))
}

/// Uniform f32 numbers in the open interval (-1, 1).
#[track_caller]
fn symmetric(shape: impl IntoInts, key: Option<&Array>) -> Array {
    uniform(-1.0 + 2f64.powi(-24), 1.0, shape, DType::F32, key)
}

/// Integers in `low ..= high - 1` of an integer dtype. `low` and `high` broadcast to `shape`.
///
/// Drawn through f32 as MLX does, so values beyond 2^24 have gaps, and `high` itself can come up.
///
/// ```
/// use lazul_core::prelude::*;
/// let x = random::randint(0, 10, [4], DType::I32, Some(&random::key(0)));
/// assert_eq!(x.to_vec::<i32>()?, [9, 2, 6, 2]);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[track_caller]
pub fn randint(
    low: impl IntoOperand,
    high: impl IntoOperand,
    shape: impl IntoInts,
    dtype: DType,
    key: Option<&Array>,
) -> Array {
    let low = low.into_operand().into_array("randint").astype(DType::F32);
    let high = high.into_operand().into_array("randint").astype(DType::F32);
    attempt(|| {
        if dtype.is_inexact() {
            let why = format!("random integers cannot be {dtype}");
            return Err(Error::new(ErrorKind::DType, "randint", why));
        }
        let u = uniform(&low, &high, shape, DType::F32, key);
        Ok(u.floor().maximum(&low).astype(dtype))
    })
}

/// True with probability `p`, which broadcasts to `shape`.
///
/// ```
/// use lazul_core::prelude::*;
/// let x = random::bernoulli(0.5, [4], Some(&random::key(0)));
/// assert_eq!(x.to_vec::<bool>()?, [false, true, false, true]);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[track_caller]
pub fn bernoulli(p: impl IntoOperand, shape: impl IntoInts, key: Option<&Array>) -> Array {
    let p = p.into_operand().into_array_beside("bernoulli", DType::F32).astype(DType::F32);
    uniform(0.0, 1.0, shape, DType::F32, key).less(p)
}

/// Standard Gumbel numbers of any float dtype, drawn in f32.
///
/// ```
/// use lazul_core::prelude::*;
/// assert_eq!(random::gumbel([3], DType::F32, None).shape()?, &[3]);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[track_caller]
pub fn gumbel(shape: impl IntoInts, dtype: DType, key: Option<&Array>) -> Array {
    attempt(|| {
        float_only("gumbel", dtype)?;
        let u = uniform(0.0, 1.0, shape, DType::F32, key);
        Ok(u.log().negative().log().negative().astype(dtype))
    })
}

/// Laplace numbers of mean 0 and scale 1, of any float dtype, drawn in f32.
///
/// ```
/// use lazul_core::prelude::*;
/// assert_eq!(random::laplace([3], DType::F32, None).shape()?, &[3]);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[track_caller]
pub fn laplace(shape: impl IntoInts, dtype: DType, key: Option<&Array>) -> Array {
    attempt(|| {
        float_only("laplace", dtype)?;
        let u = symmetric(shape, key);
        Ok((u.sign() * u.abs().negative().log1p()).astype(dtype))
    })
}

/// Laplace numbers of mean `loc` and scale `scale`, which broadcast to `shape`; see [`laplace`].
///
/// ```
/// use lazul_core::prelude::*;
/// let x = random::laplace_with(3.0, 0.0, [2], DType::F32, Some(&random::key(0)));
/// assert_eq!(x.to_vec::<f32>()?, [3.0, 3.0]);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[track_caller]
pub fn laplace_with(
    loc: impl IntoOperand,
    scale: impl IntoOperand,
    shape: impl IntoInts,
    dtype: DType,
    key: Option<&Array>,
) -> Array {
    let (loc, scale) = (loc.into_operand(), scale.into_operand());
    attempt(|| {
        let shape = checked_shape("laplace", shape)?;
        let loc = parameter("laplace", loc, dtype, &shape)?;
        let scale = parameter("laplace", scale, dtype, &shape)?;
        Ok(laplace(&shape, dtype, key) * scale + loc)
    })
}

/// Normal numbers limited to `lower ..= upper`, which broadcast to `shape`, by inversion, of any float
/// dtype, drawn in f32.
///
/// ```
/// use lazul_core::prelude::*;
/// let x = random::truncated_normal(0.0, 1.0, [100], DType::F32, Some(&random::key(0)));
/// assert!(x.to_vec::<f32>()?.iter().all(|v| (0.0..=1.0).contains(v)));
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[track_caller]
pub fn truncated_normal(
    lower: impl IntoOperand,
    upper: impl IntoOperand,
    shape: impl IntoInts,
    dtype: DType,
    key: Option<&Array>,
) -> Array {
    let (lower, upper) = (lower.into_operand(), upper.into_operand());
    attempt(|| {
        float_only("truncated_normal", dtype)?;
        let shape = checked_shape("truncated_normal", shape)?;
        let lower = parameter("truncated_normal", lower, DType::F32, &shape)?;
        let upper = parameter("truncated_normal", upper, DType::F32, &shape)?;
        let root = std::f32::consts::SQRT_2;
        let edge = |x: &Array| (x / root).erf();
        let u = uniform(edge(&lower), edge(&upper), &shape, DType::F32, key);
        Ok((u.erfinv() * root).minimum(upper).maximum(lower).astype(dtype))
    })
}

/// The integers `0 .. n` in random order, as u32.
///
/// ```
/// use lazul_core::prelude::*;
/// let x = random::permutation(5, Some(&random::key(0)));
/// assert_eq!(x.to_vec::<u32>()?, [1, 2, 0, 4, 3]);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[track_caller]
pub fn permutation(n: usize, key: Option<&Array>) -> Array {
    bits([n], DType::U32, key).argsort(0)
}

/// The slices along an axis in random order.
///
/// ```
/// use lazul_core::prelude::*;
/// let x = arange(5, DType::I32);
/// let shuffled = random::permutation_of(&x, 0, Some(&random::key(0)));
/// assert_eq!(shuffled.to_vec::<i32>()?, [1, 2, 0, 4, 3]);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[track_caller]
pub fn permutation_of(x: &Array, axis: i64, key: Option<&Array>) -> Array {
    attempt(|| Ok(x.take(permutation(x.dim(axis)?, key), axis)))
}

/// Draws indices (u32) from distributions given as unnormalised log-probabilities along `axis`; `num`
/// of them for each distribution as a last axis, or one without an axis for `None`.
///
/// ```
/// use lazul_core::prelude::*;
/// let draws = random::categorical(&zeros(4, DType::F32), -1, Some(4), Some(&random::key(0)));
/// assert_eq!(draws.to_vec::<u32>()?, [3, 0, 2, 1]);
/// # Ok::<(), lazul_core::Error>(())
/// ```
///
/// # Errors (as a failed array)
/// For an empty axis.
#[track_caller]
pub fn categorical(logits: &Array, axis: i64, num: Option<usize>, key: Option<&Array>) -> Array {
    attempt(|| {
        let Choice { logits, axis, rest } = Choice::new(logits, axis)?;
        let mut shape = rest;
        num.iter().for_each(|&n| shape.push(n));
        let n = logits.0.shape[axis];
        if logits.0.shape.size() == n && !shape.is_empty() {
            return by_inversion(&logits.reshape([n]), &shape, key);
        }
        match num {
            None => {
                let noise = gumbel(&logits.0.shape, DType::F32, key);
                Ok((logits + noise).argmax(axis as i64))
            }
            Some(num) => {
                let mut noisy = logits.0.shape.clone();
                noisy.push(num);
                let noise = gumbel(&noisy, DType::F32, key);
                Ok((logits.expand_dims(-1) + noise).argmax(axis as i64))
            }
        }
    })
}

/// Draws indices (u32) in an array of `shape`, to which the distributions' own shape (that of the logits
/// without `axis`) broadcasts; see [`categorical`].
///
/// ```
/// use lazul_core::prelude::*;
/// let logits = zeros([2, 3], DType::F32);
/// let draws = random::categorical_shaped(&logits, -1, [4, 2], Some(&random::key(0)));
/// assert_eq!(draws.shape()?, &[4, 2]);
/// # Ok::<(), lazul_core::Error>(())
/// ```
///
/// # Errors (as a failed array)
/// For an empty axis, and where the distributions do not broadcast to `shape`.
#[track_caller]
pub fn categorical_shaped(
    logits: &Array,
    axis: i64,
    shape: impl IntoInts,
    key: Option<&Array>,
) -> Array {
    attempt(|| {
        let shape = checked_shape("categorical", shape)?;
        let Choice { logits, axis, rest } = Choice::new(logits, axis)?;
        if Shape::broadcast(&rest, &shape).as_ref() != Some(&shape) {
            let why = format!("distributions of shape {rest} do not broadcast to {shape}");
            return Err(error(ErrorKind::Shape, "categorical", why, &[&logits]));
        }
        let n = logits.0.shape[axis];
        if logits.0.shape.size() == n && !shape.is_empty() {
            return by_inversion(&logits.reshape([n]), &shape, key);
        }
        // The axis lies where it does among the logits' axes, counted from the last.
        let axis = axis + shape.len() - rest.len();
        let mut noisy = shape;
        noisy.insert(axis, n);
        Ok((logits + gumbel(&noisy, DType::F32, key)).argmax(axis as i64))
    })
}

/// What is drawn from.
struct Choice {
    /// In f32.
    logits: Array,
    /// Along which the choices lie; not empty.
    axis: usize,
    /// The shape of the logits without that axis.
    rest: Shape,
}

impl Choice {
    #[track_caller]
    fn new(logits: &Array, axis: i64) -> Result<Choice> {
        logits.check()?;
        let axis = axis_of("categorical", axis, logits)?;
        if logits.0.shape[axis] == 0 {
            let why = "there is nothing to choose from";
            return Err(error(ErrorKind::Shape, "categorical", why, &[logits]));
        }
        let mut rest = logits.0.shape.clone();
        rest.remove(axis);
        Ok(Choice { logits: logits.astype(DType::F32), axis, rest })
    }
}

/// Draws from one distribution: where a uniform number falls among the running sums.
#[track_caller]
fn by_inversion(logits: &Array, shape: &Shape, key: Option<&Array>) -> Result<Array> {
    let n = logits.dim(0)?;
    let weights = (logits - logits.max(..)).exp();
    let sums = weights.cumsum(0, Scan::default());
    let total = sums.slice_axis(0, n as i64 - 1, None);
    let u = uniform(0.0, 1.0, shape, DType::F32, key) * total;
    Ok(sums.searchsorted(u, Side::Right).minimum(n as u32 - 1))
}

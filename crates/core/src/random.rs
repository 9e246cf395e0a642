//! Random numbers from keys: Threefry-2x32, the same bits as MLX's and JAX's for the same key.
//!
//! A key is a u32 array of two words. Functions take one, or `None` to draw from the process' own
//! generator, which [`seed`] sets and which otherwise starts from the clock. The same key gives the
//! same bits whatever the number of threads, fused or not.

use crate::array::checked_shape;
use crate::error::{Error, ErrorKind, Result};
use crate::ints::IntoInts;
use crate::node::Array;
use crate::operand::IntoOperand;
use crate::ops::elementwise::where_;
use crate::ops::scan::Scan;
use crate::ops::{attempt, axis_of, error, prim};
use lazul_ir::{DType, Prim, Shape};
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
pub fn key(seed: u64) -> Array {
    Array::from_slice(&[(seed >> 32) as u32, seed as u32], [2])
}

/// The key given, or a fresh one of the process' generator.
fn key_or_next(key: Option<&Array>) -> Array {
    if let Some(key) = key {
        return key.clone();
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
#[track_caller]
pub fn split(key: &Array, num: usize) -> Array {
    bits([num, 2], DType::U32, Some(key))
}

/// Uniformly random bits: u8, u16 or u32.
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
/// the variance each). Drawn in f32. Scale and shift them with ordinary operations.
///
/// The inverse error function of uniform numbers, by one fixed polynomial.
#[track_caller]
pub fn normal(shape: impl IntoInts, dtype: DType, key: Option<&Array>) -> Array {
    attempt(|| {
        if dtype == DType::C64 {
            let mut pairs = checked_shape("normal", shape)?;
            let numbers = pairs.clone();
            pairs.push(2);
            let parts = symmetric(&pairs, key).erfinv();
            return Ok(parts.view(DType::C64).reshape(&numbers));
        }
        float_only("normal", dtype)?;
        Ok(symmetric(shape, key).erfinv().astype(dtype) * std::f64::consts::SQRT_2)
    })
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
#[track_caller]
pub fn bernoulli(p: impl IntoOperand, shape: impl IntoInts, key: Option<&Array>) -> Array {
    let p = p.into_operand().into_array_beside("bernoulli", DType::F32).astype(DType::F32);
    uniform(0.0, 1.0, shape, DType::F32, key).less(p)
}

/// Standard Gumbel numbers of any float dtype, drawn in f32.
#[track_caller]
pub fn gumbel(shape: impl IntoInts, dtype: DType, key: Option<&Array>) -> Array {
    attempt(|| {
        float_only("gumbel", dtype)?;
        let u = uniform(0.0, 1.0, shape, DType::F32, key);
        Ok(u.log().negative().log().negative().astype(dtype))
    })
}

/// Laplace numbers of mean 0 and scale 1, of any float dtype, drawn in f32.
#[track_caller]
pub fn laplace(shape: impl IntoInts, dtype: DType, key: Option<&Array>) -> Array {
    attempt(|| {
        float_only("laplace", dtype)?;
        let u = symmetric(shape, key);
        Ok((u.sign() * u.abs().negative().log1p()).astype(dtype))
    })
}

/// Normal numbers limited to `lower ..= upper`, by inversion, of any float dtype, drawn in f32.
#[track_caller]
pub fn truncated_normal(
    lower: f32,
    upper: f32,
    shape: impl IntoInts,
    dtype: DType,
    key: Option<&Array>,
) -> Array {
    attempt(|| {
        float_only("truncated_normal", dtype)?;
        let root = std::f32::consts::SQRT_2;
        let edge = |x: f32| (Array::scalar(x) / root).erf();
        let u = uniform(edge(lower), edge(upper), shape, DType::F32, key);
        Ok((u.erfinv() * root).minimum(upper).maximum(lower).astype(dtype))
    })
}

/// The integers `0 .. n` in random order, as u32.
#[track_caller]
pub fn permutation(n: usize, key: Option<&Array>) -> Array {
    bits([n], DType::U32, key).argsort(0)
}

/// Draws indices (u32) from distributions given as unnormalised log-probabilities along `axis`; `num`
/// of them for each distribution as a last axis, or one without an axis for `None`.
///
/// # Errors (as a failed array)
/// For an empty axis.
#[track_caller]
pub fn categorical(logits: &Array, axis: i64, num: Option<usize>, key: Option<&Array>) -> Array {
    attempt(|| {
        logits.check()?;
        let rank = logits.0.shape.len();
        let axis = axis_of("categorical", axis, rank)?;
        let n = logits.0.shape[axis];
        if n == 0 {
            let why = "there is nothing to choose from";
            return Err(error(ErrorKind::Shape, "categorical", why, &[logits]));
        }
        let logits = logits.astype(DType::F32);
        let mut rest: Shape = logits.0.shape.clone();
        rest.remove(axis);
        let mut shape = rest.clone();
        num.iter().for_each(|&n| shape.push(n));
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

/// Draws from one distribution: where a uniform number falls among the running sums.
fn by_inversion(logits: &Array, shape: &Shape, key: Option<&Array>) -> Result<Array> {
    let n = logits.dim(0)?;
    let weights = (logits - logits.max(..)).exp();
    let sums = weights.cumsum(0, Scan::default());
    let total = sums.slice_axis(0, n as i64 - 1, None);
    let u = uniform(0.0, 1.0, shape, DType::F32, key) * total;
    let below = sums.less_equal(u.expand_dims(-1)).astype(DType::U32).sum(-1);
    let last = n as u32 - 1;
    Ok(where_(below.greater(last), last, &below))
}

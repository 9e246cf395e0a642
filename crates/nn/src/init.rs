//! First values of parameters.
//!
//! Like [`random`], each takes a shape, a dtype and a key (`None`: the next one of the global
//! generator, see [`random::seed`]) and gives a new array. A weight's *fans* are its numbers of inputs
//! and outputs: `(out, kernel…, in)` has `fan_in = in * kernel…` and `fan_out = out * kernel…`, where
//! `kernel…` is the product of the axes between the first and the last. Shapes and dtypes that do not
//! fit give failed arrays.

use lazul_core::ints::IntoInts;
use lazul_core::{
    Array, DType, Error, ErrorKind, Result, Shape, attempt, eye, full, random, where_,
};

/// Which fan a variance is divided by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fan {
    /// Number of inputs: signals keep their variance forward.
    #[default]
    In,
    /// Number of outputs: gradients keep their variance backward.
    Out,
}

/// A shape with its fans.
struct Fans {
    shape: Shape,
    input: f64,
    output: f64,
}

fn dims(op: &'static str, shape: impl IntoInts) -> Result<Shape> {
    let bad = |d: i64| Error::new(ErrorKind::Shape, op, format!("dimension {d} is negative"));
    shape.into_ints().iter().map(|&d| usize::try_from(d).map_err(|_| bad(d))).collect()
}

impl Fans {
    fn of(op: &'static str, shape: impl IntoInts) -> Result<Fans> {
        let shape = dims(op, shape)?;
        let [out, kernel @ .., input] = &shape[..] else {
            let why =
                format!("a weight (out, …, in) has two dimensions or more, not {}", shape.len());
            return Err(Error::new(ErrorKind::Shape, op, why));
        };
        let kernel: f64 = kernel.iter().map(|&k| k as f64).product();
        let (input, output) = (*input as f64 * kernel, *out as f64 * kernel);
        // An empty weight has no elements whose variance could be wrong.
        Ok(Fans { input: input.max(1.0), output: output.max(1.0), shape })
    }

    fn one(&self, fan: Fan) -> f64 {
        match fan {
            Fan::In => self.input,
            Fan::Out => self.output,
        }
    }
}

fn matrix(op: &'static str, shape: impl IntoInts) -> Result<(usize, usize)> {
    match dims(op, shape)?[..] {
        [rows, columns] => Ok((rows, columns)),
        ref other => {
            let why = format!("needs two dimensions, not {}", other.len());
            Err(Error::new(ErrorKind::Shape, op, why))
        }
    }
}

/// One value everywhere, of any dtype.
///
/// ```
/// use lazul_core::prelude::*;
/// use lazul_nn::init;
/// assert_eq!(init::constant([2], 0.5, DType::F32).to_vec::<f32>()?, [0.5, 0.5]);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[track_caller]
pub fn constant(shape: impl IntoInts, value: f64, dtype: DType) -> Array {
    full(shape, Array::scalar(value).astype(dtype))
}

/// Normal numbers, of any float dtype (MLX: mean 0, deviation 1).
///
/// ```
/// use lazul_core::prelude::*;
/// use lazul_nn::init;
/// let x = init::normal([1000], 5.0, 0.1, DType::F32, Some(&random::key(0)));
/// assert!((x.mean(..).item::<f32>()? - 5.0).abs() < 0.02);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[track_caller]
pub fn normal(
    shape: impl IntoInts,
    mean: f64,
    std: f64,
    dtype: DType,
    key: Option<&Array>,
) -> Array {
    random::normal_with(mean, std, shape, dtype, key)
}

/// Uniform numbers from `low` to below `high` (MLX: 0 and 1): f32, f16 or bf16.
///
/// ```
/// use lazul_core::prelude::*;
/// use lazul_nn::init;
/// let x = init::uniform([100], 2.0, 3.0, DType::F32, Some(&random::key(0)));
/// assert!(x.min(..).item::<f32>()? >= 2.0 && x.max(..).item::<f32>()? <= 3.0);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[track_caller]
pub fn uniform(
    shape: impl IntoInts,
    low: f64,
    high: f64,
    dtype: DType,
    key: Option<&Array>,
) -> Array {
    random::uniform(low, high, shape, dtype, key)
}

/// The identity matrix `(n, n)`, of any dtype.
///
/// ```
/// use lazul_core::prelude::*;
/// use lazul_nn::init;
/// assert_eq!(init::identity([2, 2], DType::F32).to_vec::<f32>()?, [1.0, 0.0, 0.0, 1.0]);
/// assert!(init::identity([2, 3], DType::F32).check().is_err());
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[track_caller]
pub fn identity(shape: impl IntoInts, dtype: DType) -> Array {
    attempt(|| match matrix("init::identity", shape)? {
        (n, m) if n == m => Ok(eye(n, n, 0, dtype)),
        (n, m) => {
            let why = format!("needs a square, not {n} times {m}");
            Err(Error::new(ErrorKind::Shape, "init::identity", why))
        }
    })
}

/// Normal numbers with variance `gain² * 2 / (fan_in + fan_out)` (MLX: gain 1), of any float dtype.
/// Source: Glorot and Bengio, 2010.
///
/// ```
/// use lazul_core::prelude::*;
/// use lazul_nn::init;
/// let w = init::glorot_normal([100, 100], 1.0, DType::F32, Some(&random::key(0)));
/// assert!((w.std(.., 0).item::<f32>()? - 0.1).abs() < 0.005);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[track_caller]
pub fn glorot_normal(shape: impl IntoInts, gain: f64, dtype: DType, key: Option<&Array>) -> Array {
    attempt(|| {
        let fans = Fans::of("init::glorot_normal", shape)?;
        let std = gain * (2.0 / (fans.input + fans.output)).sqrt();
        Ok(random::normal_with(0.0, std, &fans.shape, dtype, key))
    })
}

/// Uniform numbers within `±gain * sqrt(6 / (fan_in + fan_out))` (MLX: gain 1): f32, f16 or bf16. Source:
/// Glorot and Bengio, 2010.
///
/// ```
/// use lazul_core::prelude::*;
/// use lazul_nn::init;
/// let w = init::glorot_uniform([30, 30], 1.0, DType::F32, Some(&random::key(0)));
/// assert!(w.abs().max(..).item::<f32>()? <= 0.316_228);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[track_caller]
pub fn glorot_uniform(shape: impl IntoInts, gain: f64, dtype: DType, key: Option<&Array>) -> Array {
    attempt(|| {
        let fans = Fans::of("init::glorot_uniform", shape)?;
        let limit = gain * (6.0 / (fans.input + fans.output)).sqrt();
        Ok(random::uniform(-limit, limit, &fans.shape, dtype, key))
    })
}

/// Normal numbers with variance `gain² / fan` (MLX: `fan_in`, gain 1), of any float dtype. Source: He et
/// al., 2015.
///
/// ```
/// use lazul_core::prelude::*;
/// use lazul_nn::init::{self, Fan};
/// let w = init::he_normal([100, 25], Fan::Out, 1.0, DType::F32, Some(&random::key(0)));
/// assert!((w.std(.., 0).item::<f32>()? - 0.1).abs() < 0.005);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[track_caller]
pub fn he_normal(
    shape: impl IntoInts,
    fan: Fan,
    gain: f64,
    dtype: DType,
    key: Option<&Array>,
) -> Array {
    attempt(|| {
        let fans = Fans::of("init::he_normal", shape)?;
        let std = gain / fans.one(fan).sqrt();
        Ok(random::normal_with(0.0, std, &fans.shape, dtype, key))
    })
}

/// Uniform numbers within `±gain * sqrt(3 / fan)` (MLX: `fan_in`, gain 1): f32, f16 or bf16. Source: He
/// et al., 2015.
///
/// ```
/// use lazul_core::prelude::*;
/// use lazul_nn::init::{self, Fan};
/// let w = init::he_uniform([30, 3], Fan::In, 1.0, DType::F32, Some(&random::key(0)));
/// assert!(w.abs().max(..).item::<f32>()? <= 1.0);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[track_caller]
pub fn he_uniform(
    shape: impl IntoInts,
    fan: Fan,
    gain: f64,
    dtype: DType,
    key: Option<&Array>,
) -> Array {
    attempt(|| {
        let fans = Fans::of("init::he_uniform", shape)?;
        let limit = gain * (3.0 / fans.one(fan)).sqrt();
        Ok(random::uniform(-limit, limit, &fans.shape, dtype, key))
    })
}

/// A matrix of normal numbers (MLX: mean 0, deviation 1) with `sparsity`, from 0 to 1, of each row's
/// entries 0, rounded up and chosen row by row. Of any float dtype. Source: Martens, 2010.
///
/// ```
/// use lazul_core::prelude::*;
/// use lazul_nn::init;
/// let w = init::sparse([4, 10], 0.25, 0.0, 1.0, DType::F32, Some(&random::key(0)));
/// assert_eq!(w.count_nonzero(1).to_vec::<i32>()?, [7; 4]);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[track_caller]
pub fn sparse(
    shape: impl IntoInts,
    sparsity: f64,
    mean: f64,
    std: f64,
    dtype: DType,
    key: Option<&Array>,
) -> Array {
    attempt(|| {
        let (rows, columns) = matrix("init::sparse", shape)?;
        if !(0.0..=1.0).contains(&sparsity) {
            let why = format!("sparsity is {sparsity}, not from 0 to 1");
            return Err(Error::new(ErrorKind::Value, "init::sparse", why));
        }
        let zeros = (sparsity * columns as f64).ceil() as usize;
        let keys = keys(key);
        let draws = random::uniform(0.0, 1.0, [rows, columns], DType::F32, keys[0].as_ref());
        let values = random::normal_with(mean, std, [rows, columns], dtype, keys[1].as_ref());
        // Ranks of random numbers: the first so many of a row become zero.
        let ranks = draws.argsort(1).argsort(1);
        Ok(where_(ranks.less(Array::scalar(zeros as u64)), 0, values))
    })
}

/// Two keys out of one; none of none, as the global generator moves on by itself.
fn keys(key: Option<&Array>) -> [Option<Array>; 2] {
    match key {
        Some(key) => {
            let both = random::split(key, 2);
            [Some(both.at_index(0, 0)), Some(both.at_index(0, 1))]
        }
        None => [None, None],
    }
}

/// A matrix with orthonormal rows or columns, whichever are fewer, times `gain` (MLX: 1): part
/// of a random rotation. Of any float dtype; computed in f32. Source: Saxe et al., 2013.
///
/// ```
/// use lazul_core::prelude::*;
/// use lazul_nn::init;
/// let w = init::orthogonal([5, 5], 1.0, DType::F32, Some(&random::key(0)));
/// let close = Tolerance { atol: 1e-5, ..Default::default() };
/// assert!(w.matmul(&w.t()).allclose(identity(5, DType::F32), close).item::<bool>()?);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[cfg(feature = "linalg")]
#[track_caller]
pub fn orthogonal(shape: impl IntoInts, gain: f64, dtype: DType, key: Option<&Array>) -> Array {
    use lazul_core::linalg::{Factors, qr};
    attempt(|| {
        let (rows, columns) = matrix("init::orthogonal", shape)?;
        if !dtype.is_float() {
            let why = format!("needs a float dtype, not {dtype}");
            return Err(Error::new(ErrorKind::DType, "init::orthogonal", why));
        }
        let (most, least) = (rows.max(columns), rows.min(columns));
        // As many columns as are kept: those of a rotation do not depend on the ones after them.
        let (q, r) = qr(&random::normal([most, least], DType::F32, key), Factors::Reduced);
        // Signs of the diagonal make the rotation unique, and uniformly distributed.
        let q = q * where_(r.diagonal(0).less(0), -1.0, 1.0) * gain;
        Ok(if rows >= columns { q } else { q.t() }.astype(dtype))
    })
}

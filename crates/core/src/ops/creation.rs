//! New arrays: constants, ranges, identity matrices, triangles.

use super::{attempt, error, prim};
use crate::array::checked_shape;
use crate::error::{Error, ErrorKind, Result};
use crate::ints::IntoInts;
use crate::node::Array;
use crate::operand::{IntoOperand, Operand, Weak, constant};
use crate::ops::elementwise::where_;
use crate::scope::call_site;
use lazul_ir::{DType, Prim, Scalar, Shape};

#[track_caller]
fn filled(op: &'static str, shape: impl IntoInts, value: Scalar) -> Array {
    let site = call_site();
    match checked_shape(op, shape) {
        Ok(shape) => constant(value, shape, site),
        Err(e) => Array::fail(e, site),
    }
}

/// An array of zeros (`false` for bool). It takes no memory until something writes to it.
///
/// ```
/// use lazul_core::prelude::*;
/// assert_eq!(zeros([2, 2], DType::I32).to_vec::<i32>()?, [0; 4]);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[track_caller]
pub fn zeros(shape: impl IntoInts, dtype: DType) -> Array {
    filled("zeros", shape, Scalar::zero(dtype))
}

/// An array of ones (`true` for bool).
///
/// ```
/// use lazul_core::prelude::*;
/// assert_eq!(ones([2], DType::F32).to_vec::<f32>()?, [1.0, 1.0]);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[track_caller]
pub fn ones(shape: impl IntoInts, dtype: DType) -> Array {
    filled("ones", shape, Scalar::from_f64(1.0, dtype))
}

/// An array of `shape` that repeats `value`: a Rust scalar (f32, i32 or bool by its kind) or an array
/// that broadcasts to `shape`.
///
/// ```
/// use lazul_core::prelude::*;
/// assert_eq!(full([3], 7).to_vec::<i32>()?, [7, 7, 7]);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[track_caller]
pub fn full(shape: impl IntoInts, value: impl IntoOperand) -> Array {
    value.into_operand().into_array("full").broadcast_to(shape)
}

impl Array {
    /// Zeros of this array's shape and dtype.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// assert_eq!(arange(2, DType::I32).zeros_like().to_vec::<i32>()?, [0, 0]);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    #[track_caller]
    pub fn zeros_like(&self) -> Array {
        if self.0.failed { self.clone() } else { zeros(&self.0.shape, self.0.dtype) }
    }

    /// Ones of this array's shape and dtype.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// assert_eq!(arange(2, DType::I32).ones_like().to_vec::<i32>()?, [1, 1]);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    #[track_caller]
    pub fn ones_like(&self) -> Array {
        if self.0.failed { self.clone() } else { ones(&self.0.shape, self.0.dtype) }
    }

    /// `value` over this array's shape, in this array's dtype.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// assert_eq!(arange(2, DType::U8).full_like(7).to_vec::<u8>()?, [7, 7]);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    #[track_caller]
    pub fn full_like(&self, value: impl IntoOperand) -> Array {
        if self.0.failed {
            return self.clone();
        }
        let value = value.into_operand().into_array_beside("full_like", self.0.dtype);
        value.astype(self.0.dtype).broadcast_to(&self.0.shape)
    }
}

/// `0, 1, …, stop - 1` in `dtype`.
///
/// ```
/// use lazul_core::prelude::*;
/// assert_eq!(arange(4, DType::F32).to_vec::<f32>()?, [0.0, 1.0, 2.0, 3.0]);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[track_caller]
pub fn arange(stop: impl IntoOperand, dtype: DType) -> Array {
    arange_step(0, stop, 1, dtype)
}

/// `start, start + step, …` up to but without `stop`, in `dtype`.
///
/// ```
/// use lazul_core::prelude::*;
/// assert_eq!(arange_step(0.0, 1.0, 0.25, DType::F32).to_vec::<f32>()?, [0.0, 0.25, 0.5, 0.75]);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[track_caller]
pub fn arange_step(
    start: impl IntoOperand,
    stop: impl IntoOperand,
    step: impl IntoOperand,
    dtype: DType,
) -> Array {
    let (start, stop, step) = (start.into_operand(), stop.into_operand(), step.into_operand());
    attempt(|| {
        let bad = |why: &str| Error::new(ErrorKind::Value, "arange", why);
        let weak = |o: &Operand| match o {
            Operand::Weak(w @ (Weak::Int(_) | Weak::Float(_))) => Ok(*w),
            _ => Err(bad("start, stop and step must be integers or floats")),
        };
        let (start, stop, step) = (weak(&start)?, weak(&stop)?, weak(&step)?);
        let float = |w: Weak| match w {
            Weak::Int(i) => i as f64,
            Weak::Float(f) => f,
            _ => f64::NAN,
        };
        let (a, b, s) = (float(start), float(stop), float(step));
        if !a.is_finite() || !b.is_finite() || !s.is_finite() || s == 0.0 {
            return Err(bad("start and stop must be finite, step finite and not zero"));
        }
        if dtype == DType::Bool || dtype == DType::C64 {
            return Err(bad("arange is not defined for this dtype"));
        }
        let integers = (start, stop, step);
        let count = match integers {
            (Weak::Int(a), Weak::Int(b), Weak::Int(s)) => {
                let span = if s > 0 { b - a } else { a - b };
                if span <= 0 { 0 } else { (span + s.abs() - 1) / s.abs() }
            }
            _ => ((b - a) / s).ceil().max(0.0) as i128,
        };
        let count = usize::try_from(count).ok().filter(|&n| n < isize::MAX as usize / 16);
        let count = count.ok_or_else(|| bad("too many elements"))?;
        let (first, step) = if dtype.is_integer() {
            let exact = |w: Weak| match w {
                Weak::Int(i) => i64::try_from(i).map_err(|_| bad("start or step does not fit")),
                _ => Ok(float(w) as i64),
            };
            (Scalar::new(exact(start)?), Scalar::new(exact(step)?))
        } else {
            (Scalar::new(a), Scalar::new(s))
        };
        let arange = Prim::Arange { start: first, step };
        Ok(prim(arange, [], Shape::new(&[count]), dtype))
    })
}

/// `num` values from `start` to `stop`, both included, evenly spaced.
///
/// ```
/// use lazul_core::prelude::*;
/// assert_eq!(linspace(0.0, 1.0, 3, DType::F32).to_vec::<f32>()?, [0.0, 0.5, 1.0]);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[track_caller]
pub fn linspace(start: f64, stop: f64, num: usize, dtype: DType) -> Array {
    if num < 2 {
        return filled("linspace", [num], Scalar::from_f64(start, dtype));
    }
    // Blending the ends makes both exact.
    let t = arange(num, DType::F64) / (num - 1) as f64;
    ((t.negative() + 1.0) * start + t * stop).astype(dtype)
}

/// `num` values from `start` to below `stop`, evenly spaced.
///
/// ```
/// use lazul_core::prelude::*;
/// assert_eq!(linspace_open(0.0, 1.0, 4, DType::F32).to_vec::<f32>()?, [0.0, 0.25, 0.5, 0.75]);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[track_caller]
pub fn linspace_open(start: f64, stop: f64, num: usize, dtype: DType) -> Array {
    if num == 0 {
        return filled("linspace", [num], Scalar::zero(dtype));
    }
    let t = arange(num, DType::F64) / num as f64;
    ((t.negative() + 1.0) * start + t * stop).astype(dtype)
}

/// An `n × m` matrix with ones on diagonal `k` (0 is the main one, positive ones lie above).
///
/// ```
/// use lazul_core::prelude::*;
/// assert_eq!(eye(2, 3, 1, DType::F32).to_vec::<f32>()?, [0.0, 1.0, 0.0, 0.0, 0.0, 1.0]);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[track_caller]
pub fn eye(n: usize, m: usize, k: i64, dtype: DType) -> Array {
    diagonal_test(n, m, |d| d.equal(k)).astype(dtype)
}

/// The `n × n` identity matrix.
///
/// ```
/// use lazul_core::prelude::*;
/// assert_eq!(identity(2, DType::I32).to_vec::<i32>()?, [1, 0, 0, 1]);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[track_caller]
pub fn identity(n: usize, dtype: DType) -> Array {
    eye(n, n, 0, dtype)
}

/// An `n × m` matrix with ones on and below diagonal `k`.
///
/// ```
/// use lazul_core::prelude::*;
/// assert_eq!(tri(2, 3, 0, DType::I32).to_vec::<i32>()?, [1, 0, 0, 1, 1, 0]);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[track_caller]
pub fn tri(n: usize, m: usize, k: i64, dtype: DType) -> Array {
    diagonal_test(n, m, |d| d.less_equal(k)).astype(dtype)
}

/// A test of `column - row`, as bool `(n, m)`.
#[track_caller]
fn diagonal_test(n: usize, m: usize, test: impl Fn(&Array) -> Array) -> Array {
    let rows = arange(n, DType::I64).expand_dims(-1);
    let columns = arange(m, DType::I64).expand_dims(0);
    test(&(columns - rows))
}

impl Array {
    /// The array with everything above diagonal `k` of its last two axes set to zero.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// assert_eq!(ones([2, 2], DType::I32).tril(0).to_vec::<i32>()?, [1, 0, 1, 1]);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    #[track_caller]
    pub fn tril(&self, k: i64) -> Array {
        self.triangle("tril", |n, m| tri(n, m, k, DType::Bool))
    }

    /// The array with everything below diagonal `k` of its last two axes set to zero.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// assert_eq!(ones([2, 2], DType::I32).triu(0).to_vec::<i32>()?, [1, 1, 0, 1]);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    #[track_caller]
    pub fn triu(&self, k: i64) -> Array {
        self.triangle("triu", |n, m| tri(n, m, k.saturating_sub(1), DType::Bool).logical_not())
    }

    #[track_caller]
    fn triangle(&self, op: &'static str, mask: impl Fn(usize, usize) -> Array) -> Array {
        attempt(|| {
            let shape = self.shape()?;
            let &[.., n, m] = shape else {
                return Err(error(ErrorKind::Shape, op, "needs two dimensions", &[self]));
            };
            Ok(where_(mask(n, m), self, self.zeros_like()))
        })
    }
}

/// Coordinate arrays of a grid over one-dimensional arrays: the first axis of the results follows
/// the second array (`xy` indexing), or the first (`ij`).
///
/// ```
/// use lazul_core::prelude::*;
/// let (x, y) = (arange(2, DType::I32), arange(3, DType::I32));
/// let grid = meshgrid(&[x, y], false)?;
/// assert_eq!(grid[0].shape()?, &[3, 2]);
/// # Ok::<(), lazul_core::Error>(())
/// ```
///
/// # Errors
/// If an array failed or is not a vector, or the grid would have too many elements.
#[track_caller]
pub fn meshgrid(arrays: &[Array], ij: bool) -> Result<Vec<Array>> {
    let sparse = meshgrid_sparse(arrays, ij)?;
    crate::ops::shape::broadcast_arrays(&sparse)
}

/// The arrays of [`meshgrid`] before they are broadcast to the grid: each has length one along the axes
/// of the others.
///
/// ```
/// use lazul_core::prelude::*;
/// let (x, y) = (arange(2, DType::I32), arange(3, DType::I32));
/// let grid = meshgrid_sparse(&[x, y], false)?;
/// assert_eq!((grid[0].shape()?, grid[1].shape()?), (&[1, 2][..], &[3, 1][..]));
/// # Ok::<(), lazul_core::Error>(())
/// ```
///
/// # Errors
/// If an array failed or is not a vector.
#[track_caller]
pub fn meshgrid_sparse(arrays: &[Array], ij: bool) -> Result<Vec<Array>> {
    let mut lengths = Vec::with_capacity(arrays.len());
    for a in arrays {
        let [n] = a.dims()?;
        lengths.push(n);
    }
    let swap = !ij && arrays.len() >= 2;
    let mut order: Vec<usize> = (0..arrays.len()).collect();
    if swap {
        order.swap(0, 1);
    }
    Ok(arrays
        .iter()
        .enumerate()
        .map(|(i, a)| {
            let axis = order.iter().position(|&o| o == i).unwrap_or(i);
            let mut dims = vec![1usize; arrays.len()];
            dims[axis] = lengths[i];
            a.reshape(dims)
        })
        .collect())
}

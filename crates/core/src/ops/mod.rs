//! Operations, one file a family: public functions with their checks, what they give, and tests.
//!
//! An operation checks its arguments, promotes dtypes, broadcasts, and makes a node; nothing is
//! computed. A wrong argument makes a failed array that says so.

pub mod conv;
pub mod creation;
pub mod diagonal;
pub mod einsum;
pub mod elementwise;
pub mod fast;
pub mod fft;
pub mod grouped;
pub mod hadamard;
pub mod index;
pub mod join;
pub mod linalg;
pub mod matmul;
pub mod quantized;
pub mod reduce;
pub mod scan;
pub mod search;
pub mod set;
pub mod shape;
pub mod sort;
pub mod statistics;
pub mod strided;
pub mod window;

use crate::array::check_shape;
use crate::error::{Error, ErrorKind, Result};
use crate::node::{Array, Inputs, Op};
use crate::scope::{call_site, with_site};
use lazul_ir::{DType, Prim, Shape, ViewOp};
use std::panic::Location;

/// The node of a primitive.
#[track_caller]
pub(crate) fn prim(
    prim: Prim,
    inputs: impl IntoIterator<Item = Array>,
    shape: Shape,
    dtype: DType,
) -> Array {
    // Operands whose shapes are possible may broadcast or join to one that is not.
    if let Err(e) = check_shape(prim.name(), &shape) {
        return Array::fail(e, call_site());
    }
    Array::lazy(Op::Prim(prim), Inputs::from_iter(inputs), shape, dtype, call_site())
}

/// An array from a function that may find its arguments wrong: an error makes a failed array, and
/// operations within report the line that called the caller. For operations and layers that are built out
/// of others (with `#[track_caller]`).
///
/// ```
/// use lazul_core::{Array, Result, attempt};
/// #[track_caller]
/// fn halves(x: &Array) -> Array {
///     attempt(|| {
///         let parts = x.split(2, -1)?;
///         Ok(&parts[0] + &parts[1])
///     })
/// }
/// let x = Array::from_slice(&[1.0f32, 2.0, 3.0, 4.0], [4]);
/// assert_eq!(halves(&x).to_vec::<f32>()?, [4.0, 6.0]);
/// assert!(halves(&x.slice_axis(0, 0, 3)).check().is_err());
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[track_caller]
pub fn attempt(f: impl FnOnce() -> Result<Array>) -> Array {
    let site = call_site();
    with_site(site, f).unwrap_or_else(|e| Array::fail(e, site))
}

/// A shape error with the operands' shapes and dtypes.
pub(crate) fn error(
    kind: ErrorKind,
    op: &'static str,
    message: impl Into<String>,
    arrays: &[&Array],
) -> Error {
    Error::new(kind, op, message).operands(arrays.iter().map(|a| (a.0.dtype, a.0.shape.clone())))
}

/// An axis of `x` from the caller, negative from the end, as an index below its rank.
pub(crate) fn axis_of(op: &'static str, axis: i64, x: &Array) -> Result<usize> {
    axis_in(op, axis, x.0.shape.len(), x)
}

/// Several distinct axes of `x`, in ascending order.
pub(crate) fn axes_of(op: &'static str, axes: &[i64], x: &Array) -> Result<Vec<usize>> {
    axes_in(op, axes, x.0.shape.len(), x)
}

/// An axis of what an operation on `x` gives, which has `rank` of them.
pub(crate) fn axis_in(op: &'static str, axis: i64, rank: usize, x: &Array) -> Result<usize> {
    let at = if axis < 0 { axis + rank as i64 } else { axis };
    if (0..rank as i64).contains(&at) {
        return Ok(at as usize);
    }
    let message = format!("axis {axis} is out of range for an array of {rank} dimensions");
    Err(error(ErrorKind::Axis, op, message, &[x]))
}

/// Several distinct axes of what an operation on `x` gives, in ascending order.
pub(crate) fn axes_in(
    op: &'static str,
    axes: &[i64],
    rank: usize,
    x: &Array,
) -> Result<Vec<usize>> {
    let mut out = axes.iter().map(|&a| axis_in(op, a, rank, x)).collect::<Result<Vec<_>>>()?;
    out.sort_unstable();
    if out.windows(2).any(|w| w[0] == w[1]) {
        return Err(error(ErrorKind::Axis, op, "an axis is named twice", &[x]));
    }
    Ok(out)
}

/// `a` broadcast to `shape`, which is known to be compatible.
pub(crate) fn broadcast_unchecked(
    a: &Array,
    shape: &Shape,
    site: &'static Location<'static>,
) -> Array {
    if a.0.shape == *shape {
        return a.clone();
    }
    if let Err(error) = check_shape("broadcast_to", shape) {
        return Array::fail(error, site);
    }
    let inputs = Inputs::from_iter([a.clone()]);
    Array::lazy(Op::Prim(Prim::View(ViewOp::Broadcast)), inputs, shape.clone(), a.0.dtype, site)
}

/// `a` in `dtype`.
pub(crate) fn cast_unchecked(a: &Array, dtype: DType, site: &'static Location<'static>) -> Array {
    if a.0.dtype == dtype {
        return a.clone();
    }
    let inputs = Inputs::from_iter([a.clone()]);
    Array::lazy(Op::Prim(Prim::Cast), inputs, a.0.shape.clone(), dtype, site)
}

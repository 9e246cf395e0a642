//! Reading and writing at computed positions: gather, scatter, and slices whose start is data.
//!
//! Every index is checked before it is used: a negative one counts from the end, one out of bounds
//! is an [`ErrorKind::Index`] error that names it, its axis and the axis's length, and nothing outside
//! of operands and outputs is ever touched. Of several bad indices the first in row-major order
//! is reported, whatever the number of threads.

mod axis;
mod gather;
mod scatter;
mod slice;

pub(crate) use axis::{gather_axis, scatter_axis};
pub(crate) use gather::gather;
pub(crate) use scatter::scatter;
pub(crate) use slice::{dynamic_slice, dynamic_slice_update, slice_update};

use crate::rows::read_int;
use crate::strided::Collapsed;
use lazul_ir::{DType, ErrorKind, OpError, Operand};
use smallvec::SmallVec;
use std::sync::Mutex;

/// The position that `index` names on an axis of `size`, or `None` when out of bounds.
#[inline(always)]
fn resolve(index: i64, size: usize) -> Option<usize> {
    let at = if index < 0 { index.wrapping_add(size as i64) } else { index };
    if (at as u64) < size as u64 { Some(at as usize) } else { None }
}

/// The bad index that comes first in row-major order, gathered from parallel chunks.
#[derive(Default)]
struct Faults(Mutex<Option<(usize, i64, usize, usize)>>);

impl Faults {
    #[cold]
    fn add(&self, place: usize, index: i64, axis: usize, size: usize) {
        let mut first = self.0.lock().unwrap_or_else(|e| e.into_inner());
        if first.is_none_or(|f| place < f.0) {
            *first = Some((place, index, axis, size));
        }
    }

    fn result(self, op: &'static str) -> Result<(), OpError> {
        match self.0.into_inner().unwrap_or_else(|e| e.into_inner()) {
            None => Ok(()),
            Some((_, index, axis, size)) => Err(out_of_bounds(op, index, axis, size)),
        }
    }
}

fn out_of_bounds(op: &'static str, index: i64, axis: usize, size: usize) -> OpError {
    let message = format!("index {index} is out of bounds for axis {axis} of size {size}");
    OpError::new(ErrorKind::Index, op, message)
}

/// Calls `f(linear, offsets, length)` for each run along the last merged axis of the row-major
/// positions `start..end`; `offsets` are the operands' positions at the start of the run.
#[inline(always)]
fn runs<const N: usize>(
    c: &Collapsed,
    start: usize,
    end: usize,
    mut f: impl FnMut(usize, [isize; N], usize),
) {
    if start >= end {
        return;
    }
    let inner = c.shape.len() - 1;
    let mut index: SmallVec<[usize; 6]> = SmallVec::from_elem(0, inner + 1);
    let mut rest = start;
    for i in (0..=inner).rev() {
        index[i] = rest % c.shape[i];
        rest /= c.shape[i];
    }
    let mut at: [isize; N] = std::array::from_fn(|o| {
        index.iter().zip(&c.strides[o]).map(|(&i, &s)| i as isize * s).sum()
    });
    let mut linear = start;
    while linear < end {
        let length = (c.shape[inner] - index[inner]).min(end - linear);
        f(linear, at, length);
        linear += length;
        // Next row: the last axis starts over, the axes before it count up.
        for o in 0..N {
            at[o] -= index[inner] as isize * c.strides[o][inner];
        }
        index[inner] = 0;
        for i in (0..inner).rev() {
            index[i] += 1;
            for o in 0..N {
                at[o] += c.strides[o][i];
            }
            if index[i] < c.shape[i] {
                break;
            }
            for o in 0..N {
                at[o] -= index[i] as isize * c.strides[o][i];
            }
            index[i] = 0;
        }
    }
}

/// Reads `dst.len()` indices from row-major position `start` on.
///
/// # Safety
/// The operand's memory must be live and hold that many; `c` must be its collapsed layout.
unsafe fn read_indices(operand: &Operand<'_>, c: &Collapsed, start: usize, dst: &mut [i64]) {
    let (dtype, size) = (operand.dtype, operand.dtype.size() as isize);
    let step = c.strides[0][c.shape.len() - 1];
    runs::<1>(c, start, start + dst.len(), |linear, [at], length| {
        let part = &mut dst[linear - start..][..length];
        macro_rules! read {
            ($t:ty) => {
                for (i, d) in part.iter_mut().enumerate() {
                    // SAFETY: the caller vouches for the element.
                    *d = unsafe { *operand.ptr.cast::<$t>().offset(at + i as isize * step) } as i64;
                }
            };
        }
        match dtype {
            DType::I32 => read!(i32),
            DType::U32 => read!(u32),
            DType::I64 => read!(i64),
            _ => {
                for (i, d) in part.iter_mut().enumerate() {
                    let offset = (at + i as isize * step) * size;
                    // SAFETY: as above.
                    *d = unsafe { read_int(operand.ptr.offset(offset), dtype) };
                }
            }
        }
    });
}

/// Picks the unsigned integer type of an element size and runs the block with `$t` as it.
macro_rules! by_size {
    ($size:expr, $t:ident => $body:expr) => {
        match $size {
            1 => { type $t = u8; $body }
            2 => { type $t = u16; $body }
            4 => { type $t = u32; $body }
            _ => { type $t = u64; $body }
        }
    };
}
use by_size;

/// Strides of row-major memory of `shape`.
fn row_major(shape: &[usize]) -> SmallVec<[isize; 6]> {
    let mut strides = SmallVec::from_elem(0, shape.len());
    let mut step = 1isize;
    for i in (0..shape.len()).rev() {
        strides[i] = step;
        step *= shape[i].max(1) as isize;
    }
    strides
}

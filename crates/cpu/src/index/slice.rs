//! Slices that are written, and slices whose start is an operand.

use super::{by_size, out_of_bounds, row_major, runs};
use crate::pool::parallel_ranges;
use crate::rows::{Shared, apart, read_int};
use crate::strided::collapse;
use lazul_ir::{Axes, ErrorKind, Job, OpError, Operand};
use smallvec::SmallVec;

/// See [`lazul_ir::Prim::SliceUpdate`].
pub(crate) fn slice_update(starts: &[i64], steps: &[i64], job: &Job<'_>) {
    let (update, out) = (job.inputs[1], job.outputs[0]);
    let strides = row_major(out.shape);
    let mut first = 0;
    let mut to: SmallVec<[isize; 6]> = SmallVec::new();
    for (axis, &stride) in strides.iter().enumerate() {
        first += starts[axis] as isize * stride;
        to.push(steps[axis] as isize * stride);
    }
    // SAFETY: the slice lies inside the output, as the primitive says.
    unsafe {
        copy(out.ptr, first, &to, update.ptr, 0, update.strides, update.shape, out.dtype.size())
    };
}

/// See [`lazul_ir::Prim::DynamicSlice`]. A start is not counted from the end: it must leave the
/// block inside.
pub(crate) fn dynamic_slice(axes: &Axes, job: &Job<'_>) -> Result<(), OpError> {
    let (src, out) = (job.inputs[0], job.outputs[0]);
    let first = start(axes, &job.inputs[1], src.shape, out.shape, src.strides, job.name())?;
    apart(&out, job.inputs, |out| {
        let to = row_major(out.shape);
        // SAFETY: `start` checked that the block lies inside the operand.
        unsafe { copy(out.ptr, 0, &to, src.ptr, first, src.strides, out.shape, out.dtype.size()) };
    });
    Ok(())
}

/// See [`lazul_ir::Prim::DynamicSliceUpdate`]. Starts are as in [`dynamic_slice`].
pub(crate) fn dynamic_slice_update(axes: &Axes, job: &Job<'_>) -> Result<(), OpError> {
    let (update, out) = (job.inputs[1], job.outputs[0]);
    let to = row_major(out.shape);
    let first = start(axes, &job.inputs[2], out.shape, update.shape, &to, job.name())?;
    // SAFETY: `start` checked that the block lies inside the output.
    unsafe {
        copy(out.ptr, first, &to, update.ptr, 0, update.strides, update.shape, out.dtype.size())
    };
    Ok(())
}

/// Position of the block's first element, once every start is known to leave the block inside.
fn start(
    axes: &Axes,
    starts: &Operand<'_>,
    shape: &[usize],
    block: &[usize],
    strides: &[isize],
    op: &'static str,
) -> Result<isize, OpError> {
    let mut first = 0;
    for (i, &axis) in axes.iter().enumerate() {
        let axis = axis as usize;
        let offset = crate::strided::offset_of(i, starts.shape, starts.strides);
        let ptr = starts.ptr.wrapping_offset(offset * starts.dtype.size() as isize);
        // SAFETY: element `i` of a live operand.
        let start = unsafe { read_int(ptr, starts.dtype) };
        let room = shape[axis].checked_sub(block[axis]);
        match (usize::try_from(start), room) {
            (Ok(start), Some(room)) if start <= room => first += start as isize * strides[axis],
            _ if block[axis] == 1 => return Err(out_of_bounds(op, start, axis, shape[axis])),
            _ => {
                let (block, size) = (block[axis], shape[axis]);
                let message = format!(
                    "a block of {block} at index {start} is out of bounds for axis {axis} of size {size}"
                );
                return Err(OpError::new(ErrorKind::Index, op, message));
            }
        }
    }
    Ok(first)
}

/// Copies `shape` elements of `size` bytes between two layouts, in parallel.
///
/// # Safety
/// Both layouts must lie in live memory and not overlap; no two positions of `to` may be the same.
unsafe fn copy(
    dst: *mut u8,
    first: isize,
    to: &[isize],
    src: *const u8,
    src_first: isize,
    from: &[isize],
    shape: &[usize],
    size: usize,
) {
    let count: usize = shape.iter().product();
    if count == 0 {
        return;
    }
    let c = collapse(shape, &[to, from]);
    let inner = c.shape.len() - 1;
    let (to_step, from_step) = (c.strides[0][inner], c.strides[1][inner]);
    by_size!(size, T => {
        let (dst, src) = (Shared::new(dst.cast::<T>()), Shared::new(src.cast::<T>().cast_mut()));
        parallel_ranges(count, 1 << 15, |start, end| {
            runs::<2>(&c, start, end, |_, [d, s], length| {
                // SAFETY: the caller vouches for both layouts.
                unsafe {
                    let (dst, src) = (dst.get().offset(first + d), src.get().offset(src_first + s));
                    copy_run(dst, to_step, src, from_step, length);
                }
            });
        });
    });
}

/// Copies `length` elements between steps.
///
/// # Safety
/// Both runs must lie in live memory and not overlap.
#[inline(always)]
pub(super) unsafe fn copy_run<T: Copy>(
    dst: *mut T,
    to: isize,
    src: *const T,
    from: isize,
    length: usize,
) {
    // SAFETY: the caller vouches for both runs.
    unsafe {
        match (to, from) {
            (1, 1) => std::ptr::copy_nonoverlapping(src, dst, length),
            (1, 0) => std::slice::from_raw_parts_mut(dst, length).fill(*src),
            _ => {
                for i in 0..length as isize {
                    *dst.offset(i * to) = *src.offset(i * from);
                }
            }
        }
    }
}

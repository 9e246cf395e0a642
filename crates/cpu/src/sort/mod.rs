//! Stable sorting along an axis.
//!
//! Elements become unsigned [keys] of the same order. Where positions are asked for, what is sorted is
//! thirty-two bits of the key with the element's position below them: entries are then distinct, so that
//! any algorithm gives the one stable order and threads cannot change it. Where they are not, keys are
//! sorted alone and turned back into elements; zeros and NaN, of which elements with other bits share a
//! key, are then written again in the order that they came in. Keys of sixteen bits and fewer are counted
//! in long lines.
//!
//! Lines run in parallel, and so do the parts of a [long line](split). What sorts one slice is a quicksort
//! in [AVX-512 registers](vector) or a [radix sort](words).

use crate::pool::{parallel, parallel_ranges};
use crate::rows::{Shared, apart, at};
use crate::strided::offset_of;
use lazul_ir::{Complex32, DType, Job, OpError, Target, bf16, f16};
use smallvec::SmallVec;
use std::sync::OnceLock;

mod keys;
mod line;
mod search;
mod split;
#[cfg(test)]
mod tests;
#[cfg(target_arch = "x86_64")]
mod vector;
mod words;

use keys::Sortable;
use line::Line;
pub(crate) use search::searchsorted;
use words::Room;

/// `x` → its elements in ascending order along `axis`.
pub(crate) fn sort(axis: usize, job: &Job<'_>) -> Result<(), OpError> {
    run(axis, job, false)
}

/// `x` → the u32 positions that sort it along `axis`.
pub(crate) fn argsort(axis: usize, job: &Job<'_>) -> Result<(), OpError> {
    run(axis, job, true)
}

fn run(axis: usize, job: &Job<'_>, positions: bool) -> Result<(), OpError> {
    let out = job.outputs[0];
    if out.size() == 0 {
        return Ok(());
    }
    apart(&out, job.inputs, |out| {
        macro_rules! with {
            ($t:ty) => {
                if positions {
                    lines::<$t, u32>(axis, job, out, line::argsort::<$t>)
                } else {
                    lines::<$t, $t>(axis, job, out, line::sort::<$t>)
                }
            };
        }
        match job.inputs[0].dtype {
            DType::Bool | DType::U8 => with!(u8),
            DType::U16 => with!(u16),
            DType::U32 => with!(u32),
            DType::U64 => with!(u64),
            DType::I8 => with!(i8),
            DType::I16 => with!(i16),
            DType::I32 => with!(i32),
            DType::I64 => with!(i64),
            DType::F16 => with!(f16),
            DType::BF16 => with!(bf16),
            DType::F32 => with!(f32),
            DType::F64 => with!(f64),
            DType::C64 => with!(Complex32),
        }
    })
}

/// Lines handled together where neighbours along the axis are far apart in memory.
const LINES: usize = 16;

/// Sorts all lines of elements `T` by `sort`, which gives `D`.
fn lines<T: Sortable, D: Copy>(
    axis: usize,
    job: &Job<'_>,
    out: &Target<'_>,
    sort: impl Fn(&Line<T, D>) -> Result<(), OpError> + Sync,
) -> Result<(), OpError> {
    let src = &job.inputs[0];
    let len = src.shape[axis];
    assert!(len <= u32::MAX as usize, "a line of 2^32 elements or more has no u32 positions");
    let without = |s: &[isize]| -> SmallVec<[isize; 6]> {
        s.iter().enumerate().filter(|(a, _)| *a != axis).map(|(_, &s)| s).collect()
    };
    let shape: SmallVec<[usize; 6]> =
        src.shape.iter().enumerate().filter(|(a, _)| *a != axis).map(|(_, &d)| d).collect();
    let strides = without(src.strides);
    let count: usize = shape.iter().product();
    let inner: usize = src.shape[axis + 1..].iter().product();
    let step = src.strides[axis];
    let offset = |l: usize| offset_of(l, &shape, &strides);
    let start = |l: usize| l / inner * len * inner + l % inner;

    let sort_line = |l: usize| {
        sort(&Line {
            src: src.ptr.cast::<T>().wrapping_offset(offset(l)),
            step,
            dst: Shared::new(at(out, start(l)).cast::<D>()),
            inner,
            len,
        })
    };
    // Lines whose elements are far apart are copied to where they are neighbours, some together so that
    // what is read and written is next to each other.
    let sort_group = |first: usize, last: usize| -> Result<(), OpError> {
        let n = last - first;
        let offsets: SmallVec<[isize; LINES]> = (first..last).map(offset).collect();
        let starts: SmallVec<[usize; LINES]> = (first..last).map(start).collect();
        let (from, to): (Room<T>, Room<D>) = (Room::new(n * len)?, Room::new(n * len)?);
        let (from, to) = (from.ptr(), to.ptr());
        for i in 0..len {
            for (l, &offset) in offsets.iter().enumerate() {
                // SAFETY: element `i` of a line of a live operand, and its slot.
                unsafe {
                    let x = *src.ptr.cast::<T>().offset(offset + i as isize * step);
                    from.add(l * len + i).write(x);
                }
            }
        }
        for l in 0..n {
            let (src, dst) = (from.wrapping_add(l * len), to.wrapping_add(l * len));
            sort(&Line { src, step: 1, dst: Shared::new(dst), inner: 1, len })?;
        }
        for i in 0..len {
            for (l, &start) in starts.iter().enumerate() {
                // SAFETY: all slots were written, and each place of the output is written once.
                unsafe { at(out, start + i * inner).cast::<D>().write(*to.add(l * len + i)) };
            }
        }
        Ok(())
    };
    let failed: OnceLock<OpError> = OnceLock::new();
    let note = |result: Result<(), OpError>| {
        if let Err(error) = result {
            let _ = failed.set(error);
        }
    };
    if len >= split::LONG && count < 8 {
        // One after the other, each in parallel within itself.
        (0..count).for_each(|l| note(sort_line(l)));
    } else if len < split::LONG && count > 1 && (inner > 1 || step != 1) {
        // Groups do not reach past the end of the axes that follow.
        let row = if inner > 1 { inner } else { count };
        let groups = row.div_ceil(LINES);
        parallel(count / row * groups, |i| {
            let (outer, first) = (i / groups * row, i % groups * LINES);
            note(sort_group(outer + first, outer + row.min(first + LINES)));
        });
    } else {
        let grain = ((1 << 13) / len).max(1);
        parallel_ranges(count, grain, |first, last| {
            (first..last).for_each(|l| note(sort_line(l)));
        });
    }
    failed.into_inner().map_or(Ok(()), Err)
}

//! Positions of extrema.
//!
//! Same two paths as sums. Along a contiguous sequence a block's extremum is found with vector
//! compares, and only a block that improves on the ones before is searched for the position. Across
//! outputs, each has a running extremum and position that vector compares update.

use super::{Fold, Max, Min, Split, Tiles, cut, fold_block, piece_length};
use crate::copy::Shared;
use crate::dispatch;
use crate::load::{AHEAD, BLOCK, Loader, Scratch, prefetch_row};
use crate::strided::offset_of;
use lazul_ir::{ArgReduceOp, DType, Job};
use smallvec::SmallVec;

/// Index of the extremum along `axis`: the first NaN if there is one, else the first extremum.
pub(crate) fn arg_reduce(op: ArgReduceOp, axis: usize, job: &Job<'_>) {
    macro_rules! run {
        ($fold:ident) => {
            match job.inputs[0].dtype.compute() {
                DType::Bool | DType::U8 => search::<u8, $fold>(axis, job),
                DType::U16 => search::<u16, $fold>(axis, job),
                DType::U32 => search::<u32, $fold>(axis, job),
                DType::U64 => search::<u64, $fold>(axis, job),
                DType::I8 => search::<i8, $fold>(axis, job),
                DType::I16 => search::<i16, $fold>(axis, job),
                DType::I32 => search::<i32, $fold>(axis, job),
                DType::I64 => search::<i64, $fold>(axis, job),
                DType::F64 => search::<f64, $fold>(axis, job),
                DType::C64 => unreachable!("no order on complex64"),
                _ => search::<f32, $fold>(axis, job),
            }
        };
    }
    match op {
        ArgReduceOp::ArgMin => run!(Min),
        ArgReduceOp::ArgMax => run!(Max),
    }
}

trait Value: Copy + PartialEq {}
impl<T: Copy + PartialEq> Value for T {}

/// Order for a search: whether the first beats the second, by value or as the first NaN.
trait Better<T> {
    fn better(a: T, b: T) -> bool;
}

macro_rules! better {
    ($($t:ty)*; $($f:ty)*) => {
        $(
            impl Better<$t> for Min {
                #[inline(always)]
                fn better(a: $t, b: $t) -> bool { a < b }
            }
            impl Better<$t> for Max {
                #[inline(always)]
                fn better(a: $t, b: $t) -> bool { a > b }
            }
        )*
        $(
            impl Better<$f> for Min {
                #[inline(always)]
                fn better(a: $f, b: $f) -> bool { (a < b) | (a.is_nan() & !b.is_nan()) }
            }
            impl Better<$f> for Max {
                #[inline(always)]
                fn better(a: $f, b: $f) -> bool { (a > b) | (a.is_nan() & !b.is_nan()) }
            }
        )*
    };
}
better! { u8 u16 u32 u64 i8 i16 i32 i64; f32 f64 }

/// Equal, or both NaN.
#[inline(always)]
#[allow(clippy::eq_op)]
fn same<T: PartialEq + Copy>(a: T, b: T) -> bool {
    (a == b) | ((a != a) & (b != b))
}

dispatch! {
/// Position of the first element that is equal to `value` (or, for a NaN, is one).
fn position<T: Value>(x: &[T], value: T) -> usize {
    // Coarse steps without a branch an element, then the element.
    for (k, part) in x.chunks(64).enumerate() {
        let mut any = false;
        for &v in part {
            any |= same(v, value);
        }
        if any {
            return k * 64 + part.iter().position(|&v| same(v, value)).unwrap_or(0);
        }
    }
    0
}
}

dispatch! {
/// Lets row `r` compete with the best of each column.
fn compete<T: Copy, F: Better<T>>(best: &mut [T], index: &mut [u32], row: &[T], r: u32, _f: F) {
    for ((b, i), &x) in best.iter_mut().zip(index).zip(row) {
        let wins = F::better(x, *b);
        *i = if wins { r } else { *i };
        *b = if wins { x } else { *b };
    }
}
}

fn search<T, F>(axis: usize, job: &Job<'_>)
where
    T: Copy + Send + Sync + PartialEq,
    F: Fold<T> + Better<T> + Sync,
{
    let (input, out) = (&job.inputs[0], &job.outputs[0]);
    let (outputs, m) = (out.size(), input.shape[axis]);
    if outputs == 0 || m == 0 {
        return;
    }
    let ptr = Shared(out.ptr.cast::<u32>());
    let put = |first: usize, step: usize, values: &[(T, u32)]| {
        for (k, &(_, index)) in values.iter().enumerate() {
            // SAFETY: every output belongs to one task.
            unsafe { *ptr.get().add(first + k * step) = index };
        }
    };
    // Earlier pieces come first, and keep what is not beaten.
    let join = |a: (T, u32), b: (T, u32)| if F::better(b.0, a.0) { b } else { a };
    let split = Split::new(input, |a| a == axis);
    let loader = Loader::new(input.dtype, input.dtype);
    let size = loader.size() as isize;
    let stride = if m > 1 { input.strides[axis] } else { 1 };
    let source = Shared(input.ptr);
    let base = |o: usize| {
        let offset = offset_of(o, &split.kept, &split.kept_strides);
        // SAFETY: `o` is an output of the job.
        unsafe { source.get().offset(offset * size) }
    };
    match split.across() {
        None => {
            let piece = piece_length(m, outputs, 1);
            cut(outputs, outputs, m, piece, 1, join, &put, &|o, start, end, sink| {
                let mut scratch = Scratch::new();
                let mut best: Option<(T, u32)> = None;
                for at in (start..end).step_by(BLOCK) {
                    let n = BLOCK.min(end - at);
                    // SAFETY: the positions exist.
                    let x: &[T] = unsafe {
                        loader.run(
                            base(o).offset(at as isize * stride * size),
                            stride,
                            n,
                            &mut scratch,
                        )
                    };
                    let value = fold_block(x, F::default());
                    if best.is_none_or(|b| F::better(value, b.0)) {
                        best = Some((value, (at + position(x, value)) as u32));
                    }
                }
                if let Some(best) = best {
                    sink(o, 1, &[best]);
                }
            });
        }
        Some(axis) => {
            let step = split.kept_strides[axis];
            let tiles = Tiles::new(&split, axis, BLOCK);
            let piece = piece_length(m, tiles.count, tiles.size);
            cut(tiles.count, outputs, m, piece, tiles.size, join, &put, &|t, start, end, sink| {
                let (first, n) = tiles.get(t);
                let mut scratch = Scratch::new();
                let mut best: SmallVec<[T; 64]> = SmallVec::new();
                let mut index: SmallVec<[u32; 64]> = SmallVec::from_elem(start as u32, n);
                for r in start..end {
                    prefetch_row(base(first), r + AHEAD, stride * size, n * size as usize);
                    // SAFETY: the positions exist.
                    let row: &[T] = unsafe {
                        loader.run(
                            base(first).offset(r as isize * stride * size),
                            step,
                            n,
                            &mut scratch,
                        )
                    };
                    if r == start {
                        best.extend_from_slice(row);
                    } else {
                        compete(&mut best, &mut index, row, r as u32, F::default());
                    }
                }
                let values: SmallVec<[(T, u32); 64]> =
                    best.iter().copied().zip(index.iter().copied()).collect();
                sink(first, tiles.step, &values);
            });
        }
    }
}

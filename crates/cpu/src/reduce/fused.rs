//! Reductions of values that a fused program makes, without writing them to memory.
//!
//! A task has the program compute a stretch of its sequence into a buffer that stays in the cache, and folds
//! that as if it lay in memory: stretches are whole subtrees of the block tree, so the bits are those of
//! the program and the reduction one after the other.

use super::{
    BLOCK, Fold, Folder, Input, Pairwise, Row, Split, Tiles, cut, fold_row, join_lanes, lanes,
    piece_length, reduce_from, tile_width,
};
use crate::copy::Shared;
use crate::elementwise::{Fill, with_values};
use crate::load::{Loader, Scratch};
use lazul_ir::{Axes, DType, Job, Operand, ReduceOp, Tape};
use smallvec::SmallVec;
use std::cell::Cell;

/// Elements of a stretch.
const STRETCH: usize = 8 * BLOCK;

/// Values of a shape, computed by `fill`.
pub(super) struct Values<'a> {
    pub(super) shape: &'a [usize],
    pub(super) dtype: DType,
    pub(super) fill: &'a Fill<'a>,
}

/// Reduces the values of a fused program.
pub(crate) fn reduce_fused(tape: &Tape, op: ReduceOp, axes: &Axes, job: &Job<'_>) {
    let (shape, dtype) = (job.inputs[0].shape, tape.outputs[0].1);
    with_values(tape, job, |fill| {
        reduce_from(op, axes, &Input::Values(Values { shape, dtype, fill }), &job.outputs[0]);
    });
}

thread_local! {
    static STRETCHES: Cell<Vec<u64>> = const { Cell::new(Vec::new()) };
}

/// Runs `f` with a buffer of this thread that holds a stretch of any dtype.
fn with_stretch<R>(f: impl FnOnce(*mut u8) -> R) -> R {
    let mut buffer = STRETCHES.take();
    buffer.resize(STRETCH, 0);
    let result = f(buffer.as_mut_ptr().cast());
    STRETCHES.set(buffer);
    result
}

pub(super) fn fold_values<T, F>(
    values: &Values<'_>,
    axes: &Axes,
    dtype: DType,
    outputs: usize,
    m: usize,
    put: &(dyn Fn(usize, usize, &[T]) + Sync),
) where
    T: Copy + Send + Sync,
    F: Fold<T> + Sync,
{
    let loader = Loader::new(values.dtype, dtype);
    // The last axes: a sequence is neighbouring values.
    if axes.last().is_some_and(|&a| a as usize == values.shape.len() - 1) {
        let piece = piece_length(m, outputs, 1);
        return cut(outputs, outputs, m, piece, 1, F::join, put, &|o, start, end, sink| {
            sink(o, 1, &[along::<T, F>(values, loader, o * m, start, end)]);
        });
    }
    // The first axes: rows of `outputs` values.
    let whole = Operand {
        ptr: std::ptr::null(),
        dtype: values.dtype,
        shape: &[m, outputs],
        strides: &[outputs as isize, 1],
    };
    let split = Split::new(&whole, |a| a == 0);
    let tiles = Tiles::new(&split, 0, tile_width::<T>());
    let piece = piece_length(m, tiles.count, tiles.size);
    cut(tiles.count, outputs, m, piece, tiles.size, F::join, put, &|t, start, end, sink| {
        let (first, n) = tiles.get(t);
        let row = across::<T, F>(values, loader, outputs, first, n, start, end);
        sink(first, tiles.step, &row);
    });
}

/// Folds positions `start..end` of the sequence that begins with value `base`.
fn along<T: Copy, F: Fold<T>>(
    values: &Values<'_>,
    loader: Loader,
    base: usize,
    start: usize,
    end: usize,
) -> T {
    with_stretch(|buffer| {
        let split = Split {
            kept: SmallVec::from_slice(&[1]),
            kept_strides: SmallVec::from_slice(&[0]),
            reduced: SmallVec::from_slice(&[STRETCH]),
            reduced_strides: SmallVec::from_slice(&[1]),
        };
        let folder = Folder::<T, F> {
            input: Shared(buffer.cast_const()),
            loader,
            split: &split,
            f: F::default(),
            values: std::marker::PhantomData,
        };
        let mut tree = Pairwise::new();
        let mut single = F::NEUTRAL;
        for at in (start..end).step_by(STRETCH) {
            let n = STRETCH.min(end - at);
            (values.fill)(base + at, base + at + n, buffer);
            // SAFETY: the buffer holds `n` values.
            single = unsafe { folder.along(0, 0, n) };
            if end - start > STRETCH {
                tree.push(single, F::join);
            }
        }
        tree.finish(F::join).unwrap_or(single)
    })
}

/// Folds rows `start..end` of `width` values, columns `first..first + n`.
fn across<T: Copy, F: Fold<T>>(
    values: &Values<'_>,
    loader: Loader,
    width: usize,
    first: usize,
    n: usize,
    start: usize,
    end: usize,
) -> Row<T> {
    let f = F::default();
    let lanes = if F::ORDERED { lanes::<T>() } else { 1 };
    let block = if F::ORDERED { BLOCK } else { end - start };
    let join = |mut a: Row<T>, b: Row<T>| {
        fold_row(&mut a, &b, f);
        a
    };
    with_stretch(|buffer| {
        let mut scratch = Scratch::new();
        let mut tree = Pairwise::new();
        let mut acc: SmallVec<[T; 256]> = SmallVec::new();
        for at in (start..end).step_by(block) {
            let stop = end.min(at + block);
            let used = lanes.min(stop - at);
            acc.clear();
            acc.resize(used * n, F::NEUTRAL);
            for row in at..stop {
                let from = row * width + first;
                (values.fill)(from, from + n, buffer);
                // SAFETY: the buffer holds `n` values, of the dtype that the loader reads.
                let loaded = unsafe { loader.run(buffer.cast_const(), 1, n, &mut scratch) };
                fold_row(&mut acc[(row - at) % used * n..][..n], loaded, f);
            }
            join_lanes(&mut acc, used, n, f);
            tree.push(Row::from_slice(&acc[..n]), join);
        }
        tree.finish(join).unwrap_or_default()
    })
}

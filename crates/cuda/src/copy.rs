//! Moving elements between layouts: copies, slices that are written, joining along an axis.
//!
//! Elements move in units of up to 16 bytes. Where one side runs along another axis than the other (a
//! transpose), tiles go through shared memory, so that both sides are read and written in order.

use crate::error::Result;
use crate::exec::Exec;
use crate::kernel::{Args, Grid};
use crate::layout::{Axes, Steps, View, push_walk, row_major, units};
use crate::source::{Family, Key, defs, unit_type};
use lazul_ir::Job;

/// Threads of a block of the plain copy.
const THREADS: u32 = 256;
/// Side of a transposed tile of elements of `size` bytes: at least 128 bytes, a line of the cache.
const fn tile(size: usize) -> usize {
    if size <= 2 { 64 } else { 32 }
}

/// The operand in row-major order.
pub(crate) fn copy(exec: &Exec<'_>, job: &Job<'_>) -> Result<()> {
    let to = View::of_target(&job.outputs[0]);
    let mut from = View::of(&job.inputs[0]);
    if from.shape != to.shape {
        // A reshape: row-major elements under another shape.
        let plain = exec.dense(&job.inputs[0])?;
        from = View { ptr: plain.ptr(), ..to.clone() };
        return strided(exec, &from, &to);
    }
    strided(exec, &from, &to)
}

/// Operands one after the other along `axis`.
pub(crate) fn concatenate(exec: &Exec<'_>, axis: usize, job: &Job<'_>) -> Result<()> {
    let out = &job.outputs[0];
    let strides = row_major(out.shape);
    let mut at = out.ptr as u64;
    for input in job.inputs {
        let from = View::of(input);
        let to =
            View { ptr: at, dtype: out.dtype, shape: input.shape.into(), strides: strides.clone() };
        strided(exec, &from, &to)?;
        at += (input.shape[axis] * strides[axis] as usize * out.dtype.size()) as u64;
    }
    Ok(())
}

/// `src, update`: the output already holds `src`.
pub(crate) fn slice_update(
    exec: &Exec<'_>,
    starts: &[i64],
    steps: &[i64],
    job: &Job<'_>,
) -> Result<()> {
    let (update, out) = (&job.inputs[1], &job.outputs[0]);
    let strides = row_major(out.shape);
    let first: i64 = starts.iter().zip(&strides).map(|(start, &s)| start * s as i64).sum();
    let to = View {
        ptr: (out.ptr as u64).wrapping_add_signed(first * out.dtype.size() as i64),
        dtype: out.dtype,
        shape: update.shape.into(),
        strides: strides.iter().zip(steps).map(|(s, &step)| s * step as isize).collect(),
    };
    strided(exec, &View::of(update), &to)
}

/// Copies between two layouts of one shape and size of element.
pub(crate) fn strided(exec: &Exec<'_>, from: &View, to: &View) -> Result<()> {
    let size = from.dtype.size();
    if from.size() == 0 || (from.ptr == to.ptr && from.strides == to.strides) {
        return Ok(());
    }
    if from.is_dense() && to.is_dense() {
        return exec.copy_bytes(to.ptr, from.ptr, from.bytes());
    }
    let axes = Axes::merge(&from.shape, &[&to.strides, &from.strides]);
    axes.pieces(&mut |axes, offsets| {
        let dst = to.ptr.wrapping_add_signed((offsets[0] * size as isize) as i64);
        let src = from.ptr.wrapping_add_signed((offsets[1] * size as isize) as i64);
        match crossed(axes) {
            Some(axis) => transposed(exec, axes, axis, dst, src, size),
            None => plain(exec, axes, dst, src, size),
        }
    })
}

/// The axis along which the source is contiguous, where the target is along the last and both are long
/// enough for tiles.
fn crossed(axes: &Axes) -> Option<usize> {
    let last = axes.rank() - 1;
    let (to, from) = (&axes.strides[0], &axes.strides[1]);
    if to[last] != 1 || from[last] == 1 || from[last] == 0 || axes.shape[last] < 8 {
        return None;
    }
    (0..last).find(|&a| from[a] == 1 && axes.shape[a] >= 8)
}

/// Whether the operand runs along another axis than row-major memory of its shape, so that reading it in
/// that order would be slow.
pub(crate) fn is_crossed(view: &View) -> bool {
    crossed(&Axes::merge(&view.shape, &[&row_major(&view.shape), &view.strides])).is_some()
}

fn plain(exec: &Exec<'_>, axes: &Axes, dst: u64, src: u64, size: usize) -> Result<()> {
    let mut strides: [Steps; 2] = [axes.strides[0].clone(), axes.strides[1].clone()];
    let (shape, unit) = units(&axes.shape, &mut strides, &[dst, src], size);
    let axes = Axes::merge(&shape, &[&strides[0], &strides[1]]);
    let key =
        Key::Family(Family::Copy, "strided", defs![UNIT = unit_type(unit), RANK = axes.rank()]);
    let mut args = Args::new();
    args.push(dst).push(src).push(axes.size() as u32);
    push_walk(&mut args, &axes);
    exec.launch(key, Grid::cover(axes.size(), THREADS), &args)
}

fn transposed(
    exec: &Exec<'_>,
    axes: &Axes,
    axis: usize,
    dst: u64,
    src: u64,
    size: usize,
) -> Result<()> {
    let last = axes.rank() - 1;
    // The two axes of a tile, then the others.
    let others: Vec<usize> = (0..last).filter(|&a| a != axis).collect();
    let pick = |s: &[isize]| -> Steps { others.iter().map(|&a| s[a]).collect() };
    let shape: Vec<usize> = others.iter().map(|&a| axes.shape[a]).collect();
    let batch = Axes::merge(&shape, &[&pick(&axes.strides[0]), &pick(&axes.strides[1])]);
    let (m, n) = (axes.shape[axis], axes.shape[last]);
    let tile = tile(size);
    let tiles = [m.div_ceil(tile), n.div_ceil(tile)];
    let key = Key::Family(
        Family::Copy,
        "transposed",
        defs![UNIT = unit_type(size), RANK = batch.rank(), TILE = tile],
    );
    let mut args = Args::new();
    args.push(dst).push(src).push(m as u32).push(n as u32).push(tiles[1] as u32);
    args.push((tiles[0] * tiles[1]) as u32);
    args.push(axes.strides[0][axis] as i64).push(axes.strides[1][last] as i64);
    push_walk(&mut args, &batch);
    let grid = Grid::new(tiles[0] * tiles[1] * batch.size(), tile as u32);
    exec.launch(key, Grid { threads: [tile as u32, 8, 1], ..grid }, &args)
}

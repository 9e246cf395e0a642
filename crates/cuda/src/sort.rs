//! Stable sorting along an axis, NaN last: tiles in shared memory, then merges; and searching what is sorted.

use crate::error::Result;
use crate::exec::Exec;
use crate::kernel::{Args, Grid};
use crate::layout::{Axes, Dims, Steps, View, push_walk, row_major};
use crate::source::{Defs, Family, Key, Value, defs};
use lazul_ir::{DType, Job};

/// Longest tile; runs are multiples of it.
const TILE: usize = 2048;
/// Elements of a merged result that a block makes.
const CHUNK: usize = 2048;

/// Sorts along `axis`: elements, or their `positions`.
pub(crate) fn sort(exec: &Exec<'_>, axis: usize, positions: bool, job: &Job<'_>) -> Result<()> {
    let from = View::of(&job.inputs[0]);
    let to = View::of_target(&job.outputs[0]);
    // Elements may be read after others were written.
    let aliased = !positions && from.ptr == to.ptr;
    let plain = exec.plain(from, !aliased)?;
    lines(exec, axis, positions, &plain.view, &to)
}

/// The u32 positions that sort `n` keys of `dtype` at `keys`, into `order`.
pub(crate) fn order(exec: &Exec<'_>, keys: u64, dtype: DType, n: usize, order: u64) -> Result<()> {
    let from = View::dense(keys, dtype, &[n]);
    lines(exec, 0, true, &from, &View::dense(order, DType::U32, &[n]))
}

fn lines(exec: &Exec<'_>, axis: usize, positions: bool, from: &View, to: &View) -> Result<()> {
    if to.size() == 0 {
        return Ok(());
    }
    let n = from.shape[axis];
    let without = |s: &[isize]| -> Steps {
        s.iter().enumerate().filter(|(a, _)| *a != axis).map(|(_, s)| *s).collect()
    };
    let shape: Dims =
        from.shape.iter().enumerate().filter(|(a, _)| *a != axis).map(|(_, d)| *d).collect();
    let to_strides = row_major(&to.shape);
    let walk = Axes::merge(&shape, &[&without(&from.strides), &without(&to_strides)]);
    let count = walk.size();
    let tile = n.next_power_of_two().clamp(64, TILE);
    let tiles = n.div_ceil(tile);
    if n >= 1 << 31 || count * tiles >= 1 << 31 {
        return exec.unsupported("more than 2^31 elements in a line, or lines");
    }
    let wide = from.dtype.size() == 8;
    let defs: Defs = defs![
        T = from.dtype,
        K = if wide { "u64" } else { "u32" },
        TILE = tile,
        POSITIONS = positions,
        RANK = walk.rank()
    ];
    let push_lines = |args: &mut Args| {
        args.begin().field(from.ptr).field(to.ptr);
        args.field(from.strides[axis] as i64).field(to_strides[axis] as i64);
        args.field(n as u32).field(count as u32);
    };
    // Two sets of keys and positions, between which merges go back and forth.
    let elements = if tiles > 1 { count * n } else { 0 };
    let size = if wide { 8 } else { 4 };
    let keys = exec.scratch(2 * elements * size)?;
    let order = exec.scratch(2 * elements * 4)?;
    let key_of = |i: usize| keys.ptr + (i * elements * size) as u64;
    let order_of = |i: usize| order.ptr + (i * elements * 4) as u64;

    let mut args = Args::new();
    push_lines(&mut args);
    args.push(key_of(0)).push(order_of(0)).push(tiles as u32);
    push_walk(&mut args, &walk);
    let key = Key::Family(Family::Sort, "tiles", defs.clone());
    exec.launch(key, Grid::new(count * tiles, tile as u32 / 2), &args)?;

    let mut run = tile;
    let mut at = 0;
    while run < n {
        let last = run * 2 >= n;
        let chunks = n.div_ceil(CHUNK);
        let mut args = Args::new();
        push_lines(&mut args);
        args.push(key_of(at)).push(order_of(at)).push(key_of(1 - at)).push(order_of(1 - at));
        args.push(run as u32).push(chunks as u32).push(last as u32);
        push_walk(&mut args, &walk);
        let mut defs = defs.clone();
        defs[2].1 = Value::from(TILE);
        let key = Key::Family(Family::Sort, "merge", defs);
        exec.launch(key, Grid::new(count * chunks, 256), &args)?;
        run *= 2;
        at = 1 - at;
    }
    Ok(())
}

/// `sorted (b, n), values (b, m)` → how many of a row come before each value, `(b, m)`.
pub(crate) fn search(exec: &Exec<'_>, right: bool, job: &Job<'_>) -> Result<()> {
    let out = &job.outputs[0];
    if out.size() == 0 {
        return Ok(());
    }
    // The result may be the memory of an operand, which other values are still compared with.
    let apart = |i: usize| {
        let view = View::of(&job.inputs[i]);
        let shared = view.ptr == out.ptr as u64;
        exec.plain(view, !shared)
    };
    let (sorted, values) = (apart(0)?, apart(1)?);
    let (sorted, values) = (&sorted.view, &values.view);
    let (n, count) = (sorted.shape[1], out.size());
    if count >= 1 << 38 || n.max(values.shape[1]) >= 1 << 31 {
        return exec.unsupported("lines of 2^31 elements, 2^38 values, and more");
    }
    let wide = sorted.dtype.size() == 8;
    let defs = defs![
        T = sorted.dtype,
        K = if wide { "u64" } else { "u32" },
        POSITIONS = true,
        RIGHT = right
    ];
    let mut args = Args::new();
    args.push(sorted.ptr).push(values.ptr).push(out.ptr as u64).push(count as u64);
    args.push(n as u32).push(values.shape[1] as u32);
    args.push(sorted.strides[0] as i64).push(sorted.strides[1] as i64);
    args.push(values.strides[0] as i64).push(values.strides[1] as i64);
    exec.launch(Key::Family(Family::Search, "search", defs), Grid::cover(count, 256), &args)
}

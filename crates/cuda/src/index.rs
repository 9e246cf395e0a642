//! Reading and writing at computed positions: gather, scatter, and slices whose start is data.
//!
//! Scatter is deterministic: tuples are sorted by where they point to, stably, and one thread applies
//! those that share a place in their order, in single precision for the half types.

use crate::error::Result;
use crate::exec::Exec;
use crate::kernel::{Args, Grid};
use crate::layout::{Axes, Dims, Steps, View, push_walk, row_major, units};
use crate::source::{Family, Key, defs, unit_type};
use lazul_ir::{DType, Job, Operand, ScatterOp};

/// The axes that are not indexed.
fn others(axes: &[u8], rank: usize) -> impl Iterator<Item = usize> {
    (0..rank).filter(move |a| !axes.contains(&(*a as u8)))
}

/// Index operands, one an axis, of one shape.
struct Indices<'a> {
    operands: &'a [Operand<'a>],
    axes: &'a [u8],
    /// The tuples' axes, with the index operands' strides.
    walk: Axes,
}

impl<'a> Indices<'a> {
    fn new(operands: &'a [Operand<'a>], axes: &'a [u8]) -> Indices<'a> {
        let strides: Vec<&[isize]> = operands.iter().map(|o| o.strides).collect();
        let shape = operands.first().map_or(&[][..], |o| o.shape);
        Indices { operands, axes, walk: Axes::merge(shape, &strides) }
    }

    fn count(&self) -> usize {
        self.walk.size()
    }

    /// Adds the kernels' structure; `shape` and `steps` are those of the indexed array.
    fn push(&self, args: &mut Args, shape: &[usize], steps: &[isize]) {
        args.begin();
        self.operands.iter().for_each(|o| {
            args.field(o.ptr as u64);
        });
        self.axes.iter().for_each(|&a| {
            args.field(steps[a as usize] as i64);
        });
        self.axes.iter().for_each(|&a| {
            args.field(shape[a as usize] as u64);
        });
        crate::layout::walk_fields(args, &self.walk);
        args.pad();
        self.operands.iter().for_each(|o| {
            args.field(o.dtype as u32);
        });
        self.axes.iter().for_each(|&a| {
            args.field(a as u32);
        });
    }
}

/// Launches `f(first, args)` over `total` threads, in pieces that fit a grid.
fn over(total: usize, mut f: impl FnMut(usize, Grid) -> Result<()>) -> Result<()> {
    const PIECE: usize = 1 << 38;
    let mut first = 0;
    while first < total {
        f(first, Grid::cover((total - first).min(PIECE), 256))?;
        first += PIECE;
    }
    Ok(())
}

/// `src, index…` → `index's shape ++ other dimensions`.
pub(crate) fn gather(exec: &Exec<'_>, axes: &[u8], job: &Job<'_>) -> Result<()> {
    let (src, out) = (&job.inputs[0], &job.outputs[0]);
    if out.size() == 0 {
        return Ok(());
    }
    if axes.is_empty() {
        return crate::copy::copy(exec, &Job { inputs: &job.inputs[..1], ..*job });
    }
    let indices = Indices::new(&job.inputs[1..], axes);
    let rank = src.shape.len();
    let mut shape: Dims = others(axes, rank).map(|a| src.shape[a]).collect();
    let inner: Steps = others(axes, rank).map(|a| src.strides[a]).collect();
    let size = out.dtype.size();
    // Slices move in units, if every indexed axis steps by whole ones.
    let dense = row_major(&shape);
    let indexed: Steps = axes.iter().map(|&a| src.strides[a as usize]).collect();
    let unit =
        unit_of(&shape, &[&inner, &dense], &indexed, &[src.ptr as u64, out.ptr as u64], size);
    let factor = unit / size;
    let mut inner_units = inner;
    shrink(&mut shape, &mut inner_units, factor);
    let steps: Steps = src.strides.iter().map(|s| s / factor as isize).collect();
    let slices = Axes::merge(&shape, &[&inner_units]);
    let slice = slices.size();
    if indices.count() >= 1 << 31 || slice >= 1 << 31 {
        return exec.unsupported("more than 2^31 indices, or elements in a slice");
    }
    let total = indices.count() * slice;
    let key = Key::Family(
        Family::Index,
        "gather",
        defs![
            UNIT = unit_type(unit),
            NAXES = axes.len(),
            TUPLES = indices.walk.rank(),
            SLICE = slices.rank()
        ],
    );
    over(total, |first, grid| {
        let mut args = Args::new();
        args.push(out.ptr as u64).push(src.ptr as u64).push(first as u64);
        args.push(total as u64).push(slice as u64);
        push_walk(&mut args, &slices);
        indices.push(&mut args, src.shape, &steps);
        args.push(exec.stream.fault()).push(exec.number());
        exec.launch(key.clone(), grid, &args)
    })
}

/// Bytes of a unit in which slices of `shape` move, all of `steps` (in elements) being whole units.
fn unit_of(
    shape: &[usize],
    strides: &[&[isize]],
    steps: &[isize],
    ptrs: &[u64],
    size: usize,
) -> usize {
    let mut copies: Vec<Steps> = strides.iter().map(|s| Steps::from_slice(s)).collect();
    let (_, mut unit) = units(shape, &mut copies, ptrs, size);
    while unit > size && steps.iter().any(|s| !(s.unsigned_abs() * size).is_multiple_of(unit)) {
        unit /= 2;
    }
    unit
}

/// The last axis in units of `factor` elements.
fn shrink(shape: &mut Dims, strides: &mut Steps, factor: usize) {
    if let Some(last) = shape.len().checked_sub(1).filter(|_| factor > 1) {
        shape[last] /= factor;
        strides[..last].iter_mut().for_each(|s| *s /= factor as isize);
    }
}

/// `src, index` → output of the index's shape.
pub(crate) fn gather_axis(exec: &Exec<'_>, axis: usize, job: &Job<'_>) -> Result<()> {
    let (src, index, out) = (&job.inputs[0], &job.inputs[1], &job.outputs[0]);
    if out.size() == 0 {
        return Ok(());
    }
    let mut fixed: Steps = src.strides.into();
    fixed[axis] = 0;
    let size = out.dtype.size();
    let axes = Axes::merge(index.shape, &[&fixed, index.strides, &row_major(out.shape)]);
    axes.pieces(&mut |axes, offsets| {
        let walk = Axes {
            shape: axes.shape.clone(),
            strides: axes.strides[..2].iter().cloned().collect(),
        };
        let moved = |ptr: u64, o: usize, size: usize| {
            ptr.wrapping_add_signed((offsets[o] * size as isize) as i64)
        };
        let mut args = Args::new();
        args.push(moved(out.ptr as u64, 2, size)).push(moved(src.ptr as u64, 0, size));
        args.push(moved(index.ptr as u64, 1, index.dtype.size())).push(index.dtype as i32);
        args.push(walk.size() as u32).push(src.strides[axis] as i64);
        args.push(src.shape[axis] as u64).push(axis as u32);
        push_walk(&mut args, &walk);
        args.push(exec.stream.fault()).push(exec.number());
        let defs =
            defs![UNIT = unit_type(size), RANK = walk.rank(), NAXES = 1usize, TUPLES = 1usize];
        let key = Key::Family(Family::Index, "gather_axis", defs);
        exec.launch(key, Grid::cover(walk.size(), 256), &args)
    })
}

/// `src, index…, updates`: the output already holds `src`.
pub(crate) fn scatter(exec: &Exec<'_>, op: ScatterOp, axes: &[u8], job: &Job<'_>) -> Result<()> {
    let (updates, out) = (&job.inputs[job.inputs.len() - 1], &job.outputs[0]);
    let operands = &job.inputs[1..job.inputs.len() - 1];
    if updates.size() == 0 || out.size() == 0 {
        return Ok(());
    }
    let to = row_major(out.shape);
    let rank = out.shape.len();
    let lead = operands.first().map_or(0, |o| o.shape.len());
    let shape: Dims = others(axes, rank).map(|a| out.shape[a]).collect();
    let strides: Steps = others(axes, rank).map(|a| to[a]).collect();
    let slices = Axes::merge(&shape, &[&strides, &updates.strides[lead..]]);
    let tuples = Axes::merge(&updates.shape[..lead], &[&updates.strides[..lead]]);
    let count = tuples.size();
    if count >= 1 << 31 || slices.size() >= 1 << 31 {
        return exec.unsupported("more than 2^31 indices, or elements in a slice");
    }
    let keys = exec.scratch(count * 8)?;
    if axes.is_empty() {
        exec.fill_bytes(keys.ptr, 0, 8)?;
    } else {
        let indices = Indices::new(operands, axes);
        let mut args = Args::new();
        args.push(keys.ptr).push(count as u32);
        indices.push(&mut args, out.shape, &to);
        args.push(exec.stream.fault()).push(exec.number());
        let defs = defs![NAXES = axes.len(), TUPLES = indices.walk.rank()];
        let key = Key::Family(Family::Index, "positions", defs);
        exec.launch(key, Grid::cover(count, 256), &args)?;
    }
    apply(exec, op, out.ptr as u64, updates, &slices, &tuples, keys.ptr)
}

/// `src, index, updates`: the output already holds `src`.
pub(crate) fn scatter_axis(
    exec: &Exec<'_>,
    op: ScatterOp,
    axis: usize,
    job: &Job<'_>,
) -> Result<()> {
    let (index, updates, out) = (&job.inputs[1], &job.inputs[2], &job.outputs[0]);
    let count = index.size();
    if count == 0 || out.size() == 0 {
        return Ok(());
    }
    if count >= 1 << 30 {
        return exec.unsupported("more than 2^30 indices");
    }
    let to = row_major(out.shape);
    let mut fixed = to.clone();
    fixed[axis] = 0;
    let walk = Axes::merge(index.shape, &[&fixed, index.strides]);
    let keys = exec.scratch(count * 8)?;
    let mut args = Args::new();
    args.push(keys.ptr).push(index.ptr as u64).push(index.dtype as i32).push(count as u32);
    args.push(to[axis] as i64).push(out.shape[axis] as u64).push(axis as u32);
    push_walk(&mut args, &walk);
    args.push(exec.stream.fault()).push(exec.number());
    let defs = defs![RANK = walk.rank(), NAXES = 1usize, TUPLES = 1usize];
    let key = Key::Family(Family::Index, "axis_positions", defs);
    exec.launch(key, Grid::cover(count, 256), &args)?;
    let none: &[isize] = &[];
    let slices = Axes::merge(&[], &[none, none]);
    let tuples = Axes::merge(updates.shape, &[updates.strides]);
    apply(exec, op, out.ptr as u64, updates, &slices, &tuples, keys.ptr)
}

/// Applies each tuple's slice of the updates at its key.
fn apply(
    exec: &Exec<'_>,
    op: ScatterOp,
    out: u64,
    updates: &Operand<'_>,
    slices: &Axes,
    tuples: &Axes,
    keys: u64,
) -> Result<()> {
    let (count, slice) = (tuples.size(), slices.size());
    let sorted = count > 1;
    let order = exec.scratch(count * 4)?;
    if sorted {
        crate::sort::order(exec, keys, DType::U64, count, order.ptr)?;
    }
    let defs = defs![
        T = updates.dtype,
        OP = op as usize,
        TRUTH = updates.dtype == DType::Bool,
        SORTED = sorted,
        SLICE = slices.rank(),
        TUPLES = tuples.rank(),
        NAXES = 1usize
    ];
    let key = Key::Family(Family::Index, "apply", defs);
    let total = count * slice;
    over(total, |first, grid| {
        let mut args = Args::new();
        args.push(out).push(updates.ptr as u64).push(keys).push(order.ptr).push(count as u32);
        args.push(first as u64).push(total as u64).push(slice as u64);
        push_walk(&mut args, slices);
        push_walk(&mut args, tuples);
        exec.launch(key.clone(), grid, &args)
    })
}

/// `src, start` → the block of the output's shape that begins there.
pub(crate) fn dynamic_slice(exec: &Exec<'_>, axes: &[u8], job: &Job<'_>) -> Result<()> {
    let to = View::of_target(&job.outputs[0]);
    let mut from = View::of(&job.inputs[0]);
    let whole = from.shape.clone();
    from.shape = to.shape.clone();
    block(exec, axes, &job.inputs[1], &whole, from, to, 1)
}

/// `src, update, start`: the output already holds `src`.
pub(crate) fn dynamic_slice_update(exec: &Exec<'_>, axes: &[u8], job: &Job<'_>) -> Result<()> {
    let mut to = View::of_target(&job.outputs[0]);
    let from = View::of(&job.inputs[1]);
    let whole = to.shape.clone();
    to.shape = from.shape.clone();
    block(exec, axes, &job.inputs[2], &whole, from, to, 0)
}

/// Copies a block; side `sliced` (0 the target, 1 the source) begins at `starts`, in an array of the
/// shape `whole`.
fn block(
    exec: &Exec<'_>,
    axes: &[u8],
    starts: &Operand<'_>,
    whole: &[usize],
    from: View,
    to: View,
    sliced: usize,
) -> Result<()> {
    if to.size() == 0 {
        return Ok(());
    }
    if axes.is_empty() {
        return crate::copy::strided(exec, &from, &to);
    }
    let size = to.dtype.size();
    let side = if sliced == 0 { &to.strides } else { &from.strides }.clone();
    let moving: Steps = axes.iter().map(|&a| side[a as usize]).collect();
    let merged = Axes::merge(&to.shape, &[&to.strides, &from.strides]);
    let strides: Vec<&[isize]> = merged.strides.iter().map(|s| &s[..]).collect();
    let unit = unit_of(&merged.shape, &strides, &moving, &[to.ptr, from.ptr], size);
    let factor = unit / size;
    let mut shape = merged.shape.clone();
    let mut steps: Vec<Steps> = merged.strides.to_vec();
    if factor > 1 {
        let last = shape.len() - 1;
        shape[last] /= factor;
        for s in &mut steps {
            s[..last].iter_mut().for_each(|s| *s /= factor as isize);
        }
    }
    let walk = Axes::merge(&shape, &[&steps[0], &steps[1]]);
    let starts = exec.dense(starts)?;
    let block_shape = to.shape.clone();
    walk.pieces(&mut |walk, offsets| {
        let moved =
            |ptr: u64, o: usize| ptr.wrapping_add_signed((offsets[o] * unit as isize) as i64);
        let mut args = Args::new();
        args.push(moved(to.ptr, 0)).push(moved(from.ptr, 1));
        args.push(starts.ptr()).push(starts.dtype() as i32).push(1i64).push(walk.size() as u32);
        args.begin();
        moving.iter().for_each(|s| {
            args.field((s / factor as isize) as i64);
        });
        axes.iter().for_each(|&a| {
            args.field(whole[a as usize] as u64);
        });
        axes.iter().for_each(|&a| {
            args.field(block_shape[a as usize] as u64);
        });
        axes.iter().for_each(|&a| {
            args.field(a as u32);
        });
        push_walk(&mut args, walk);
        args.push(exec.stream.fault()).push(exec.number());
        let defs = defs![
            UNIT = unit_type(unit),
            NAXES = axes.len(),
            TUPLES = 1usize,
            RANK = walk.rank(),
            SLICED = sliced
        ];
        let key = Key::Family(Family::Index, "block", defs);
        exec.launch(key, Grid::cover(walk.size(), 256), &args)
    })
}

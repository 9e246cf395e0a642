//! Rules of reading and writing by index: what one reads the other's gradient writes.

use crate::error::Result;
use crate::node::Array;
use crate::ops::creation::arange;
use crate::ops::elementwise::where_;
use crate::ops::join::Pad;
use crate::ops::prim;
use crate::rules::{
    Call, Outputs, Slots, again, all_batched, batch_shape, none, one, or_zeros, shifted, sum,
};
use lazul_ir::{Axes, DType, Prim, ScatterOp, Shape, ViewOp};

/// The two ways of naming places: by index arrays for some axes, or by one along an axis.
enum Places<'a> {
    Axes(&'a Axes),
    Along(u8),
}

impl Places<'_> {
    fn gather(&self) -> Prim {
        match self {
            Places::Axes(axes) => Prim::Gather { axes: (*axes).clone() },
            Places::Along(axis) => Prim::GatherAxis { axis: *axis },
        }
    }

    fn scatter(&self, op: ScatterOp) -> Prim {
        match self {
            Places::Axes(axes) => Prim::Scatter { op, axes: (*axes).clone() },
            Places::Along(axis) => Prim::ScatterAxis { op, axis: *axis },
        }
    }

    /// The elements of `src` at `indices`, in the updates' shape.
    fn read(&self, src: &Array, indices: &[Array], like: &Shape) -> Array {
        let inputs = [src].into_iter().chain(indices).cloned();
        prim(self.gather(), inputs, like.clone(), src.0.dtype)
    }

    /// For each update the product of the other updates to its place, in the updates' shape.
    ///
    /// Without dividing, so that zeros are like other factors and it differentiates to every order: the
    /// updates are put in the order of their places, and multiplied up from both sides of each.
    fn others(&self, src: &Array, indices: &[Array], updates: &Array) -> Array {
        let n = updates.0.shape.size();
        let numbers = arange(src.0.shape.size(), DType::I64).reshape(&src.0.shape);
        let place = self.read(&numbers, indices, &updates.0.shape).reshape([n]);
        let order = place.argsort(0);
        let (place, factors) = (place.take(&order, 0), updates.reshape([n]).take(&order, 0));
        // The product of those that come before, along axis 0, within a place.
        let before = |place: &Array, factors: &Array| {
            let moved = |y: &Array, by: usize, fill: f64| {
                let kept = y.slice_axis(0, 0, (n - by) as i64);
                kept.pad(&[(by, 0)], Pad::Constant(fill))
            };
            let ones = factors.ones_like();
            let within = |by: usize| place.equal(moved(place, by, -1.0));
            let mut y = where_(within(1.min(n)), moved(factors, 1.min(n), 1.0), &ones);
            let mut by = 1;
            while by < n {
                y = &y * where_(within(by), moved(&y, by, 1.0), &ones);
                by *= 2;
            }
            y
        };
        let after = before(&place.flip(0), &factors.flip(0)).flip(0);
        let others = before(&place, &factors) * after;
        others.take(order.argsort(0), 0).reshape(&updates.0.shape)
    }

    /// `src` with `updates` written at `indices`.
    fn write(&self, op: ScatterOp, src: &Array, indices: &[Array], updates: &Array) -> Array {
        let inputs = [src].into_iter().chain(indices).chain([updates]).cloned();
        prim(self.scatter(op), inputs, src.0.shape.clone(), src.0.dtype)
    }
}

/// Place, index arrays and update of a read or write.
fn places(prim: &Prim) -> Option<(Places<'_>, Option<ScatterOp>)> {
    match prim {
        Prim::Gather { axes } => Some((Places::Axes(axes), None)),
        Prim::GatherAxis { axis } => Some((Places::Along(*axis), None)),
        Prim::Scatter { op, axes } => Some((Places::Axes(axes), Some(*op))),
        Prim::ScatterAxis { op, axis } => Some((Places::Along(*axis), Some(*op))),
        _ => None,
    }
}

/// How much of its place's final value each write, and the old value, makes: the derivative's weights.
struct Shares {
    old: Option<Array>,
    new: Option<Array>,
}

/// The weights of a scatter's derivative: `d out = old * d src + scatter_add(new * d updates)`. `None` is one.
fn shares(op: ScatterOp, at: &Places<'_>, call: &Call<'_>) -> Shares {
    let (src, updates) = (&call.inputs[0], &call.inputs[call.inputs.len() - 1]);
    let indices = &call.inputs[1..call.inputs.len() - 1];
    let dtype = src.0.dtype;
    let like = &updates.0.shape;
    match op {
        ScatterOp::Add => Shares { old: None, new: None },
        ScatterOp::Assign => {
            let covered = at.write(op, &src.ones_like(), indices, &updates.zeros_like());
            // Of several writes to one place the last stays: number them, and see who is left.
            let numbers = arange(like.size(), DType::I64).reshape(like);
            let nobody = src.zeros_like().astype(DType::I64);
            let winners = at.write(op, &nobody, indices, &numbers);
            let stays = at.read(&winners, indices, like).equal(&numbers);
            Shares { old: Some(covered), new: Some(stays.astype(dtype)) }
        }
        ScatterOp::Multiply => {
            let product = at.write(op, &src.ones_like(), indices, updates);
            let others = at.others(src, indices, updates);
            let new = others * at.read(src, indices, like);
            Shares { old: Some(product), new: Some(new) }
        }
        ScatterOp::Min | ScatterOp::Max => {
            // Those that share the extreme share its change.
            let out = &call.outputs[0];
            let old = src.equal(out).astype(dtype);
            let new = updates.equal(at.read(out, indices, like)).astype(dtype);
            let count = at.write(ScatterOp::Add, &old, indices, &new);
            let new = new / at.read(&count, indices, like);
            Shares { old: Some(old / count), new: Some(new) }
        }
    }
}

fn times(a: &Array, weight: &Option<Array>) -> Array {
    weight.as_ref().map_or_else(|| a.clone(), |w| a * w)
}

fn conj(weight: Option<Array>) -> Option<Array> {
    weight.map(|w| if w.0.dtype == DType::C64 { w.conj() } else { w })
}

pub(crate) fn vjp(op: &Prim, call: &Call<'_>, c: &Array, wanted: &[bool]) -> Result<Slots> {
    let inputs = call.inputs;
    let src = &inputs[0];
    let mut slots = none(inputs.len());
    if let Some((at, write)) = places(op) {
        match write {
            None => {
                slots[0] = Some(at.write(ScatterOp::Add, &src.zeros_like(), &inputs[1..], c));
            }
            Some(write) => {
                let last = inputs.len() - 1;
                let Shares { old, new } = shares(write, &at, call);
                let (old, new) = (conj(old), conj(new));
                slots[0] = wanted[0].then(|| times(c, &old));
                let read = || at.read(c, &inputs[1..last], &inputs[last].0.shape);
                slots[last] = wanted[last].then(|| times(&read(), &new));
            }
        }
        return Ok(slots);
    }
    match op {
        Prim::SliceUpdate { starts, steps } => {
            let update = &inputs[1];
            slots[0] = wanted[0].then(|| {
                let inputs = [c.clone(), update.zeros_like()];
                prim(op.clone(), inputs, c.0.shape.clone(), c.0.dtype)
            });
            let slice = ViewOp::Slice { starts: starts.clone(), steps: steps.clone() };
            let slice = Prim::View(slice);
            slots[1] =
                wanted[1].then(|| prim(slice, [c.clone()], update.0.shape.clone(), c.0.dtype));
        }
        Prim::DynamicSlice { axes } => {
            let inputs = [src.zeros_like(), c.clone(), inputs[1].clone()];
            let update = Prim::DynamicSliceUpdate { axes: axes.clone() };
            slots[0] = Some(prim(update, inputs, src.0.shape.clone(), src.0.dtype));
        }
        Prim::DynamicSliceUpdate { axes } => {
            let (update, start) = (&inputs[1], &inputs[2]);
            slots[0] = wanted[0].then(|| {
                let inputs = [c.clone(), update.zeros_like(), start.clone()];
                prim(op.clone(), inputs, c.0.shape.clone(), c.0.dtype)
            });
            slots[1] = wanted[1].then(|| {
                let read = Prim::DynamicSlice { axes: axes.clone() };
                let shape = update.0.shape.clone();
                prim(read, [c.clone(), start.clone()], shape, c.0.dtype)
            });
        }
        _ => {}
    }
    Ok(slots)
}

pub(crate) fn jvp(op: &Prim, call: &Call<'_>, tangents: &[Option<Array>]) -> Result<Slots> {
    let inputs = call.inputs;
    let out = &call.outputs[0].0;
    if let Some((at, write)) = places(op) {
        let Some(write) = write else {
            let read = |t: &Array| at.read(t, &inputs[1..], &out.shape);
            return Ok(Slots::from_iter([tangents[0].as_ref().map(read)]));
        };
        let last = inputs.len() - 1;
        let Shares { old, new } = shares(write, &at, call);
        let kept = tangents[0].as_ref().map(|t| times(t, &old));
        let written = tangents[last].as_ref().map(|t| {
            let zeros = inputs[0].zeros_like();
            at.write(ScatterOp::Add, &zeros, &inputs[1..last], &times(t, &new))
        });
        return Ok(Slots::from_iter([sum(kept, written)]));
    }
    if tangents.iter().all(Option::is_none) {
        return Ok(none(1));
    }
    // These are linear in what is read and written; starts are integers.
    let updates = matches!(op, Prim::SliceUpdate { .. } | Prim::DynamicSliceUpdate { .. });
    let given = inputs.iter().zip(tangents).enumerate().map(|(i, (x, t))| {
        let linear = i == 0 || updates && i == 1;
        if linear { or_zeros(t, x) } else { x.clone() }
    });
    Ok(one(prim(op.clone(), given, out.shape.clone(), out.dtype)))
}

pub(crate) fn vmap(
    op: &Prim,
    inputs: &[Array],
    batched: &[bool],
    size: usize,
    output: &(Shape, DType),
) -> Result<Outputs> {
    let all = || all_batched(inputs, batched, size);
    Ok(match op {
        Prim::GatherAxis { axis } => {
            again(Prim::GatherAxis { axis: axis + 1 }, all(), size, output)
        }
        Prim::ScatterAxis { op, axis } => {
            again(Prim::ScatterAxis { op: *op, axis: axis + 1 }, all(), size, output)
        }
        Prim::SliceUpdate { starts, steps } => {
            let starts = [0].into_iter().chain(starts.iter().copied()).collect();
            let steps = [1].into_iter().chain(steps.iter().copied()).collect();
            again(Prim::SliceUpdate { starts, steps }, all(), size, output)
        }
        Prim::Gather { axes } => {
            let by_index = batched[1..].iter().any(|&b| b);
            if !by_index {
                // One set of indices: (I…, n, rest…) → (n, I…, rest…).
                let k = inputs[1].0.shape.len();
                let mut shape = output.0.clone();
                shape.insert(k, size);
                let read = Prim::Gather { axes: shifted(axes) };
                let made = prim(read, inputs.iter().cloned(), shape, output.1);
                return Ok(Outputs::from_iter([made.moveaxis(k as i64, 0)]));
            }
            let indices = all_batched(&inputs[1..], &batched[1..], size);
            if !batched[0] {
                let inputs = [inputs[0].clone()].into_iter().chain(indices);
                let shape = batch_shape(&output.0, size);
                return Ok(Outputs::from_iter([prim(op.clone(), inputs, shape, output.1)]));
            }
            let (axes, indices) = with_row(axes, indices, size);
            let inputs = [inputs[0].clone()].into_iter().chain(indices).collect();
            again(Prim::Gather { axes }, inputs, size, output)
        }
        Prim::Scatter { op, axes } => {
            let mut all = all();
            let last = all.len() - 1;
            let (updates, indices) = (all.pop(), all.split_off(1));
            debug_assert_eq!(indices.len() + 1, last);
            let (axes, indices) = with_row(axes, indices, size);
            all.extend(indices);
            all.extend(updates);
            again(Prim::Scatter { op: *op, axes }, all, size, output)
        }
        Prim::DynamicSlice { axes } if !batched[1] => {
            again(Prim::DynamicSlice { axes: shifted(axes) }, inputs.to_vec(), size, output)
        }
        Prim::DynamicSliceUpdate { axes } if !batched[2] => {
            let mut all = all_batched(&inputs[..2], &batched[..2], size);
            all.push(inputs[2].clone());
            again(Prim::DynamicSliceUpdate { axes: shifted(axes) }, all, size, output)
        }
        Prim::DynamicSlice { axes } => {
            let src = all_batched(&inputs[..1], &batched[..1], size).remove(0);
            let (at, indices) = block(axes, &inputs[1], &output.0, size)?;
            // Rows and block axes first, then the others: back in order.
            let rest = (1..src.0.shape.len()).filter(|&i| !at.contains(&(i as u8)));
            let order: Vec<usize> = at.iter().map(|&a| a as usize).chain(rest).collect();
            let full = batch_shape(&output.0, size);
            let shape: Shape = order.iter().map(|&a| full[a]).collect();
            let inputs = [src].into_iter().chain(indices);
            let made = prim(Prim::Gather { axes: at }, inputs, shape, output.1);
            let mut back = vec![0usize; order.len()];
            order.iter().enumerate().for_each(|(i, &a)| back[a] = i);
            Outputs::from_iter([made.transpose(back)])
        }
        Prim::DynamicSliceUpdate { axes } => {
            let pair = all_batched(&inputs[..2], &batched[..2], size);
            let sizes = Shape::new(&pair[1].0.shape[1..]);
            let (at, indices) = block(axes, &inputs[2], &sizes, size)?;
            let rest = (1..pair[0].0.shape.len()).filter(|&i| !at.contains(&(i as u8)));
            let order: Vec<usize> = at.iter().map(|&a| a as usize).chain(rest).collect();
            let updates = pair[1].transpose(order);
            let inputs = [pair[0].clone()].into_iter().chain(indices).chain([updates]).collect();
            again(Prim::Scatter { op: ScatterOp::Assign, axes: at }, inputs, size, output)
        }
        // The other families are not read or written by index.
        _ => Outputs::new(),
    })
}

/// Indices `(n, I…)` for the axes of a batch of arrays: an index of the row goes with them.
fn with_row(axes: &Axes, indices: Vec<Array>, size: usize) -> (Axes, Vec<Array>) {
    let shape = &indices[0].0.shape;
    let mut column = vec![1; shape.len()];
    column[0] = size;
    let row = arange(size, DType::I64).reshape(column).broadcast_to(shape);
    let axes = [0].into_iter().chain(shifted(axes)).collect();
    (axes, [row].into_iter().chain(indices).collect())
}

/// The places of blocks of `sizes` that begin at `starts (n, k)`, one a row of a batch: axes, and an index
/// array `(n, sizes of the axes…)` for each.
fn block(axes: &Axes, starts: &Array, sizes: &Shape, size: usize) -> Result<(Axes, Vec<Array>)> {
    let starts = starts.reshape([size, axes.len()]).astype(DType::I64);
    let k = axes.len();
    let mut shape = vec![size];
    shape.extend(axes.iter().map(|&a| sizes[a as usize]));
    let mut indices = Vec::with_capacity(k + 1);
    let mut column = vec![1; k + 1];
    column[0] = size;
    for (j, &axis) in axes.iter().enumerate() {
        let start = starts.at_index(1, j as i64);
        // A block does not count from the end: what is negative is out of bounds.
        let start = where_(start.less(0), i64::MAX / 2, &start).reshape(&column[..]);
        let mut along = vec![1; k + 1];
        along[j + 1] = sizes[axis as usize];
        let step = arange(sizes[axis as usize], DType::I64).reshape(along);
        let index = (start + step).broadcast_to(&shape[..]);
        index.check()?;
        indices.push(index);
    }
    let row = arange(size, DType::I64).reshape(column).broadcast_to(shape);
    let at = [0].into_iter().chain(shifted(axes)).collect();
    Ok((at, [row].into_iter().chain(indices).collect()))
}

//! Derivatives and batches of the convolution: convolutions again.
//!
//! By the input, the gradient is the transposed convolution: the cotangent, dilated by the stride, meets
//! the flipped kernel with its channels swapped. By the weights it is the input under windows as large
//! as the output, with batch and channels swapped. Groups of channels stay the outermost part of
//! whatever channel axis they are in.

use super::{axes, node};
use crate::error::{ErrorKind, Result};
use crate::node::Array;
use crate::ops::error;
use crate::rules::{Call, Outputs, Slots, batch_shape, none, sum};
use lazul_ir::{ConvAxis, ConvOp, DType, Shape};

/// `a` with the groups, the outermost part of axis `from`, as the outermost part of axis `to` instead.
fn move_groups(a: &Array, groups: usize, from: usize, to: usize) -> Array {
    if groups == 1 {
        return a.clone();
    }
    let mut shape = a.0.shape.to_vec();
    shape[from] /= groups;
    let mut split = shape.clone();
    split.insert(from, groups);
    shape[to] *= groups;
    a.reshape(split).moveaxis(from as i64, to as i64).reshape(shape)
}

/// Lengths that positions are computed from, along one axis.
struct Extents {
    /// Of the dilated input.
    input: isize,
    /// Of a window.
    kernel: isize,
    /// From the first window's beginning to the last one's, and one.
    windows: isize,
}

fn extents(op: &ConvOp, i: usize, x: &Array, w: &Array, c: &Array) -> Result<Extents> {
    let axis = &op.axes[i];
    let spread = ConvAxis { input_dilation: axis.stride, ..ConvAxis::default() };
    let lengths = (
        axis.input_extent(x.0.shape[1 + i]),
        axis.kernel_extent(w.0.shape[1 + i]),
        spread.input_extent(c.0.shape[1 + i]),
    );
    let (Some(input), Some(kernel), Some(windows)) = lengths else {
        let why = format!("positions along spatial axis {i} are too many to count");
        return Err(error(ErrorKind::Value, "conv", why, &[x, w]));
    };
    Ok(Extents { input, kernel, windows })
}

/// By the input: `c (n, windows…, c_out)` → `(n, spatial…, c_in)`.
fn by_input(op: &ConvOp, x: &Array, w: &Array, c: &Array) -> Result<Array> {
    let rank = op.axes.len();
    let mut padding = Vec::with_capacity(rank);
    for (i, axis) in op.axes.iter().enumerate() {
        let e = extents(op, i, x, w, c)?;
        let low = axis.padding.0;
        padding.push((e.kernel - 1 - low, e.input - e.windows + low));
    }
    let transposed = axes(rank, |i| ConvAxis {
        stride: op.axes[i].input_dilation,
        padding: padding[i],
        kernel_dilation: op.axes[i].kernel_dilation,
        input_dilation: op.axes[i].stride,
    });
    // (c_out, kernel…, c_in / groups) → (c_in, kernel…, c_out / groups)
    let swapped = move_groups(&w.conj(), op.groups, 0, rank + 1).swapaxes(0, -1);
    node("conv", ConvOp { groups: op.groups, flip: !op.flip, ..transposed }, c, &swapped)
}

/// By the weights: `c (n, windows…, c_out)` → `(c_out, kernel…, c_in / groups)`.
fn by_weights(op: &ConvOp, x: &Array, w: &Array, c: &Array) -> Result<Array> {
    let rank = op.axes.len();
    let mut padding = Vec::with_capacity(rank);
    for (i, axis) in op.axes.iter().enumerate() {
        let e = extents(op, i, x, w, c)?;
        let low = axis.padding.0;
        padding.push((low, e.windows + e.kernel - 1 - e.input - low));
    }
    let correlation = axes(rank, |i| ConvAxis {
        stride: op.axes[i].kernel_dilation,
        padding: padding[i],
        kernel_dilation: op.axes[i].stride,
        input_dilation: op.axes[i].input_dilation,
    });
    // (n, spatial…, c_in) → (c_in / groups, spatial…, groups * n)
    let images = move_groups(&x.conj(), op.groups, rank + 1, 0).swapaxes(0, -1);
    // (n, windows…, c_out) → (c_out, windows…, n)
    let kernels = c.swapaxes(0, -1);
    let dw = node("conv", ConvOp { groups: op.groups, ..correlation }, &images, &kernels)?;
    // (c_in / groups, kernel…, c_out) → (c_out, kernel…, c_in / groups)
    let dw = dw.swapaxes(0, -1);
    let spatial: Vec<usize> = (1..=rank).collect();
    Ok(if op.flip { dw.flip(spatial) } else { dw })
}

pub(crate) fn vjp(op: &ConvOp, call: &Call<'_>, c: &Array, wanted: &[bool]) -> Result<Slots> {
    let [x, w] = call.inputs else { return Ok(none(call.inputs.len())) };
    let dx = if wanted[0] { Some(by_input(op, x, w, c)?) } else { None };
    let dw = if wanted[1] { Some(by_weights(op, x, w, c)?) } else { None };
    Ok(Slots::from_iter([dx, dw]))
}

pub(crate) fn jvp(op: &ConvOp, call: &Call<'_>, tangents: &[Option<Array>]) -> Result<Slots> {
    let [x, w] = call.inputs else { return Ok(none(1)) };
    let by_x = tangents[0].as_ref().map(|t| node("conv", op.clone(), t, w)).transpose()?;
    let by_w = tangents[1].as_ref().map(|t| node("conv", op.clone(), x, t)).transpose()?;
    Ok(Slots::from_iter([sum(by_x, by_w)]))
}

/// A batch of inputs makes a larger batch, a batch of weights more output channels, and a batch of both
/// more groups.
pub(crate) fn vmap(
    op: &ConvOp,
    inputs: &[Array],
    batched: &[bool],
    size: usize,
    output: &(Shape, DType),
) -> Result<Outputs> {
    let (x, w) = (&inputs[0], &inputs[1]);
    let whole = batch_shape(&output.0, size);
    if size == 0 {
        return Ok(Outputs::from_iter([crate::ops::creation::zeros(&whole, output.1)]));
    }
    let (groups, c_out) = (op.groups, output.0[output.0.len() - 1]);
    let y = match batched {
        [true, false] => node("conv", op.clone(), &x.flatten(0, 1), w)?.reshape(&whole),
        [false, true] => {
            // (b, groups * c, …) → (groups * b * c, …)
            let mut split = w.0.shape.to_vec();
            split.splice(1..2, [groups, c_out / groups]);
            let w = w.reshape(split).swapaxes(0, 1).flatten(0, 2);
            let y = node("conv", op.clone(), x, &w)?; // (n, …, groups * b * c)
            let mut split = output.0.to_vec();
            split.pop();
            split.extend([groups, size, c_out / groups]);
            y.reshape(split).moveaxis(-2, 0).reshape(&whole)
        }
        _ => {
            // (b, n, …, c) → (n, …, b * c), and (b, c, …) → (b * c, …)
            let x = x.moveaxis(0, -2).flatten(-2, -1);
            let w = w.flatten(0, 1);
            let op = ConvOp { groups: groups.saturating_mul(size), ..op.clone() };
            node("conv", op, &x, &w)?.unflatten(-1, [size, c_out]).moveaxis(-2, 0)
        }
    };
    Ok(Outputs::from_iter([y]))
}

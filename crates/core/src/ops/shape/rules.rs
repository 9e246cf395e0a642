//! Rules of views and joins: gradients go back the way the elements came.

use crate::node::Array;
use crate::ops::{prim, strided};
use crate::rules::{Call, Outputs, Slots, batch_shape, none, one, or_zeros};
use lazul_ir::{Axes, DType, Prim, Shape, ViewOp};

pub(crate) fn vjp(view: &ViewOp, call: &Call<'_>, c: &Array) -> Slots {
    let x = &call.inputs[0];
    let shape = &x.0.shape;
    one(match view {
        ViewOp::Reshape => c.reshape(shape),
        ViewOp::Transpose(perm) => {
            let mut back = vec![0usize; perm.len()];
            perm.iter().enumerate().for_each(|(i, &p)| back[p as usize] = i);
            c.transpose(back)
        }
        ViewOp::Broadcast => unbroadcast(c, shape),
        ViewOp::Slice { starts, steps } => {
            let update = Prim::SliceUpdate { starts: starts.clone(), steps: steps.clone() };
            prim(update, [x.zeros_like(), c.clone()], shape.clone(), x.0.dtype)
        }
        ViewOp::Strided { strides, offset } => strided::vjp(strides, *offset, x, c),
        // The parts of complex numbers are numbers; other bits are none.
        ViewOp::Bitcast => match (x.0.dtype, call.outputs[0].0.dtype) {
            (DType::C64, DType::F32) | (DType::F32, DType::C64) => c.view(x.0.dtype),
            (a, b) if a == b => c.clone(),
            _ => return none(1),
        },
    })
}

/// The sum of `c` over the axes along which an array of `shape` was repeated to have `c`'s.
pub(crate) fn unbroadcast(c: &Array, shape: &Shape) -> Array {
    if c.0.shape == *shape {
        return c.clone();
    }
    let extra = c.0.shape.len() - shape.len();
    let axes: Vec<usize> = (0..c.0.shape.len())
        .filter(|&i| i < extra || shape[i - extra] == 1 && c.0.shape[i] != 1)
        .collect();
    c.sum_keepdims(axes).reshape(shape)
}

pub(crate) fn jvp(view: &ViewOp, call: &Call<'_>, tangents: &[Option<Array>]) -> Slots {
    let Some(t) = &tangents[0] else { return none(1) };
    let (from, to) = (call.inputs[0].0.dtype, &call.outputs[0]);
    let complex = matches!((from, to.0.dtype), (DType::C64, DType::F32) | (DType::F32, DType::C64));
    if *view == ViewOp::Bitcast && from != to.0.dtype && !complex {
        return none(1);
    }
    one(prim(Prim::View(view.clone()), [t.clone()], to.0.shape.clone(), to.0.dtype))
}

pub(crate) fn vmap(view: &ViewOp, x: &Array, size: usize, output: &(Shape, DType)) -> Outputs {
    let shape = batch_shape(&output.0, size);
    let made = match view {
        ViewOp::Reshape => x.reshape(&shape),
        ViewOp::Transpose(perm) => {
            let perm: Axes = [0].into_iter().chain(perm.iter().map(|p| p + 1)).collect();
            prim(Prim::View(ViewOp::Transpose(perm)), [x.clone()], shape, output.1)
        }
        ViewOp::Broadcast => {
            // New axes of the example come after the batch.
            let mut aligned = x.0.shape.clone();
            (x.0.shape.len()..shape.len()).for_each(|_| aligned.insert(1, 1));
            x.reshape(&aligned).broadcast_to(&shape)
        }
        ViewOp::Slice { starts, steps } => {
            let starts = [0].into_iter().chain(starts.iter().copied()).collect();
            let steps = [1].into_iter().chain(steps.iter().copied()).collect();
            let slice = ViewOp::Slice { starts, steps };
            prim(Prim::View(slice), [x.clone()], shape, output.1)
        }
        ViewOp::Strided { strides, offset } => strided::vmap(strides, *offset, x, size, &shape),
        ViewOp::Bitcast => prim(Prim::View(ViewOp::Bitcast), [x.clone()], shape, output.1),
    };
    Outputs::from_iter([made])
}

pub(crate) fn concatenate_vjp(axis: u8, call: &Call<'_>, c: &Array) -> Slots {
    let axis = axis as i64;
    let mut from = 0;
    call.inputs
        .iter()
        .map(|x| {
            let n = x.0.shape[axis as usize] as i64;
            from += n;
            Some(c.slice_axis(axis, from - n, from))
        })
        .collect()
}

pub(crate) fn concatenate_jvp(axis: u8, call: &Call<'_>, tangents: &[Option<Array>]) -> Slots {
    let parts = tangents.iter().zip(call.inputs).map(|(t, x)| or_zeros(t, x));
    let out = &call.outputs[0].0;
    one(prim(Prim::Concatenate { axis }, parts, out.shape.clone(), out.dtype))
}

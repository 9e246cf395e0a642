//! Rules of fast operations: a formula of their own where it saves work, else through the fallback.

use super::{FastOp, fallback};
use crate::error::Result;
use crate::node::Array;
use crate::rules::{Call, Outputs, Slots, again, all_batched, none, one};
use crate::transforms::{pulled_through, pushed_through, vectorised_through};
use lazul_ir::{DType, Prim, Shape};

pub(crate) fn vjp(op: &FastOp, call: &Call<'_>, c: &Array, wanted: &[bool]) -> Result<Slots> {
    let (x, y) = (&call.inputs[0], &call.outputs[0]);
    let inner = super::wide(x.0.dtype);
    Ok(match op {
        FastOp::Softmax => {
            let (y, c) = (y.astype(inner), c.astype(inner));
            let weighted = &y * &c;
            one((&weighted - &y * weighted.sum_keepdims(-1)).astype(x.0.dtype))
        }
        FastOp::LogSumExp => one(c * x.softmax(-1)),
        FastOp::Attention { .. } => return super::attention::vjp(op, call, c, wanted),
        FastOp::RmsNorm { .. } | FastOp::LayerNorm { .. } | FastOp::Rope { .. } => {
            let composed = |inputs: &[Array]| Ok(vec![fallback(op, inputs)?]);
            return pulled_through(composed, call.inputs, &[Some(c.clone())], wanted);
        }
    })
}

pub(crate) fn jvp(op: &FastOp, call: &Call<'_>, tangents: &[Option<Array>]) -> Result<Slots> {
    let (x, y) = (&call.inputs[0], &call.outputs[0]);
    let inner = super::wide(x.0.dtype);
    Ok(match (op, &tangents[0]) {
        (FastOp::Softmax | FastOp::LogSumExp, None) => none(1),
        (FastOp::Softmax, Some(t)) => {
            let (y, t) = (y.astype(inner), t.astype(inner));
            let weighted = &y * &t;
            one((&weighted - &y * weighted.sum_keepdims(-1)).astype(x.0.dtype))
        }
        (FastOp::LogSumExp, Some(t)) => one((t * x.softmax(-1)).sum_keepdims(-1)),
        (
            FastOp::RmsNorm { .. }
            | FastOp::LayerNorm { .. }
            | FastOp::Rope { .. }
            | FastOp::Attention { .. },
            _,
        ) => {
            let composed = |inputs: &[Array]| Ok(vec![fallback(op, inputs)?]);
            return pushed_through(composed, call.inputs, tangents);
        }
    })
}

pub(crate) fn vmap(
    op: &FastOp,
    inputs: &[Array],
    batched: &[bool],
    size: usize,
    output: &(Shape, DType),
) -> Result<Outputs> {
    let composed = || {
        let composed = |inputs: &[Array]| Ok(vec![fallback(op, inputs)?]);
        vectorised_through(composed, inputs, batched, size)
    };
    // Operands that the kernel takes once for all rows.
    let shared_from = match op {
        FastOp::Softmax | FastOp::LogSumExp => 1,
        FastOp::RmsNorm { .. } | FastOp::LayerNorm { .. } => 1,
        FastOp::Rope { .. } => 2,
        FastOp::Attention { mask, .. } => 3 + usize::from(*mask),
    };
    if batched.iter().skip(shared_from).any(|&b| b) {
        return composed();
    }
    let shared = inputs.get(shared_from..).unwrap_or_default().to_vec();
    Ok(match op {
        FastOp::Softmax | FastOp::LogSumExp | FastOp::RmsNorm { .. } | FastOp::LayerNorm { .. } => {
            let mut all = all_batched(&inputs[..1], &batched[..1], size);
            all.extend(shared);
            again(Prim::Fast(op.clone()), all, size, output)
        }
        FastOp::Rope { .. } | FastOp::Attention { .. } => {
            // The batch joins the kernel's own batch axis: (n, b, …) → (n·b, …).
            let rows = output.0[0];
            let mut all = Vec::with_capacity(inputs.len());
            for (i, (x, &b)) in inputs[..shared_from].iter().zip(batched).enumerate() {
                // One offset may serve all rows; several are one a row.
                let offset = i == 1 && matches!(op, FastOp::Rope { .. });
                if offset && !b && x.0.shape.size() == 1 {
                    all.push(x.clone());
                    continue;
                }
                let x = all_batched(std::slice::from_ref(x), &[b], size).remove(0);
                let x = match offset {
                    true => {
                        let each: usize = x.0.shape[1..].iter().product();
                        x.reshape([size, each]).broadcast_to([size, rows]).flatten(0, 1)
                    }
                    false => x.flatten(0, 1),
                };
                x.check()?;
                all.push(x);
            }
            all.extend(shared);
            let mut shape = output.0.clone();
            shape[0] *= size;
            let made = crate::ops::prim(Prim::Fast(op.clone()), all, shape, output.1);
            Outputs::from_iter([made.unflatten(0, [size, rows])])
        }
    })
}

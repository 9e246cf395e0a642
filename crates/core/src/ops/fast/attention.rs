//! The derivative of attention, in blocks of queries.
//!
//! The gradient needs the weights of every query once more. They are computed for some queries at a time, against
//! the keys that these may see, and a block waits until the one before is done ([`depends`]): so what is in
//! memory grows with the number of keys and not with its product with that of queries. Sums over queries, for
//! keys and values, go from block to block in the type that attention computes in.

use super::{FastOp, fallback};
use crate::control::depends;
use crate::error::Result;
use crate::node::Array;
use crate::ops::creation::zeros;
use crate::ops::join::concatenate;
use crate::rules::{Call, Slots};
use crate::transforms::pulled_through;
use lazul_ir::FastOp::Attention;

/// Scores that are held at once, about.
const SCORES: usize = 1 << 22;
/// Queries of a block, at least.
const LEAST: usize = 64;

/// Gradients of the operands `q, k, v [, mask] [, sinks] [, length]`.
pub(super) fn vjp(op: &FastOp, call: &Call<'_>, c: &Array, wanted: &[bool]) -> Result<Slots> {
    let &Attention { causal, window, mask, sinks, length, .. } = op else {
        unreachable!("attention of {op:?}")
    };
    let [b, h, queries, _] = call.inputs[0].dims()?;
    let keys = call.inputs[1].dim(2)?;
    let block = (SCORES / (b * h * keys).max(1)).max(LEAST);
    // The gradient of a mask has the size of all scores, and a length is a number that only an evaluation knows.
    if block >= queries || length || mask && wanted[3] {
        return composed(op, call.inputs, c, wanted);
    }
    let inner = super::wide(call.inputs[0].0.dtype);
    let [q, k, v] = [0, 1, 2].map(|i| call.inputs[i].astype(inner));
    let c = c.astype(inner);
    // Of queries, block by block; of the others, sums.
    let mut each: Vec<Array> = Vec::new();
    let mut sums: Vec<Option<Array>> = vec![None; call.inputs.len()];
    for first in (0..queries).step_by(block) {
        let end = queries.min(first + block);
        // The keys that one of these queries sees: positions of both count from their ends.
        let (mut from, mut to) = (0, keys);
        if causal {
            to = (end + keys).saturating_sub(queries);
            if window > 0 {
                from = (first + 1 + keys).saturating_sub(queries + window as usize);
            }
        }
        let rows = |x: &Array| x.slice_axis(2, first as i64, end as i64);
        if to <= from {
            each.push(rows(&q).zeros_like());
            continue;
        }
        let seen = |x: &Array| x.slice_axis(2, from as i64, to as i64);
        let mut inputs = vec![rows(&q), seen(&k), seen(&v)];
        if mask {
            inputs.push(rows(&call.inputs[3]).slice_axis(3, from as i64, to as i64));
        }
        if sinks {
            inputs.push(call.inputs[3 + usize::from(mask)].astype(inner));
        }
        let before: Vec<Array> =
            each.last().into_iter().chain(sums.iter().flatten()).cloned().collect();
        if !before.is_empty() {
            inputs = depends(&inputs, &before)?;
        }
        for (i, grad) in composed(op, &inputs, &rows(&c), wanted)?.into_iter().enumerate() {
            let Some(grad) = grad else { continue };
            if i == 0 {
                each.push(grad);
                continue;
            }
            let grad = if i < 3 { widened(&grad, from, keys - to)? } else { grad };
            sums[i] = Some(match sums[i].take() {
                Some(sum) => sum + grad,
                None => grad,
            });
        }
    }
    if wanted[0] {
        sums[0] = Some(concatenate(&each, 2));
    }
    let stored = |(x, sum): (&Array, Option<Array>)| sum.map(|s| s.astype(x.0.dtype));
    Ok(call.inputs.iter().zip(sums).map(stored).collect())
}

/// The gradients of the composition of ordinary operations.
fn composed(op: &FastOp, inputs: &[Array], c: &Array, wanted: &[bool]) -> Result<Slots> {
    let f = |inputs: &[Array]| Ok(vec![fallback(op, inputs)?]);
    pulled_through(f, inputs, &[Some(c.clone())], wanted)
}

/// The gradient of some keys as one of all: with zeros for `before` and `after` others.
fn widened(grad: &Array, before: usize, after: usize) -> Result<Array> {
    if before + after == 0 {
        return Ok(grad.clone());
    }
    let [b, h, _, d] = grad.dims()?;
    let none = |n: usize| zeros([b, h, n, d], grad.0.dtype);
    Ok(concatenate(&[none(before), grad.clone(), none(after)], 2))
}

#[cfg(test)]
mod tests {
    use crate::Result;
    use crate::prelude::*;
    use fast::{Attention, Mask, scaled_dot_product_attention};

    fn normal(seed: u64, shape: [usize; 4]) -> Array {
        random::normal(shape, DType::F32, Some(&random::key(seed)))
    }

    /// Gradients of `q, k, v, sinks` of a weighted sum of the result.
    fn gradients(inputs: &Vec<Array>, weights: &Array, mask: &Mask) -> Result<Vec<Array>> {
        let loss = |x: &Vec<Array>| {
            let how =
                Attention { scale: 0.3, mask: mask.clone(), sinks: Some(&x[3]), length: None };
            (scaled_dot_product_attention(&x[0], &x[1], &x[2], &how) * weights).sum(..)
        };
        grad(loss)(inputs)
    }

    /// A gradient in blocks is the one that the same queries have in several calls, each too small for blocks.
    #[test]
    fn blocks_of_queries_add_up() -> Result<()> {
        let (b, h, hk, d) = (1, 8, 2, 4);
        for (queries, keys) in [(700, 900), (900, 700)] {
            let weights = normal(4, [b, h, queries, d]);
            let sinks = random::normal([h], DType::F32, Some(&random::key(5)));
            let shapes = [[b, h, queries, d], [b, hk, keys, d], [b, hk, keys, d]];
            let mut inputs: Vec<Array> = (1..).zip(shapes).map(|(i, s)| normal(i, s)).collect();
            inputs.push(sinks);
            let i = arange(queries, DType::I32).expand_dims(-1) + (keys as i32 - queries as i32);
            let j = arange(keys, DType::I32);
            let see = j.less_equal(&i);
            let window = see.logical_and(j.greater(&i - 50));
            let all = see.ones_like();
            for (mask, see) in [(Mask::None, all), (Mask::Causal, see), (Mask::Window(50), window)]
            {
                let got = gradients(&inputs, &weights, &mask)?;
                let also = gradients(&inputs, &weights, &Mask::Array(see.clone()))?;
                // Query by query nothing is cut: some at a time, with the mask's rows.
                let mut want: Vec<Array> = Vec::new();
                let mut first = Vec::new();
                for at in (0..queries as i64).step_by(350) {
                    let rows =
                        |x: &Array, axis| x.slice_axis(axis, at, (at + 350).min(queries as i64));
                    let mut part = inputs.clone();
                    part[0] = rows(&inputs[0], 2);
                    let mask = Mask::Array(rows(&see, 0));
                    let mut grads = gradients(&part, &rows(&weights, 2), &mask)?;
                    // Each part has queries of its own; all have the same keys.
                    first.push(std::mem::replace(&mut grads[0], Array::scalar(0.0f32)));
                    want = match want.is_empty() {
                        true => grads,
                        false => want.iter().zip(&grads).map(|(a, b)| a + b).collect(),
                    };
                    eval(&want)?;
                }
                want[0] = concatenate(&first, 2);
                for (n, want) in want.iter().enumerate() {
                    for got in [&got[n], &also[n]] {
                        let off = (got - want).abs().max(..).item::<f32>()?;
                        let size = want.abs().max(..).item::<f32>()?;
                        assert!(
                            off <= 1e-4 * size + 1e-5,
                            "{mask:?}, operand {n}: off by {off} of {size}"
                        );
                    }
                }
            }
        }
        Ok(())
    }
}

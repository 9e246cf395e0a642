//! Derivatives of reductions.

use crate::error::Result;
use crate::node::Array;
use crate::ops::scan::Scan;
use crate::rules::{Call, Slots, none, one};
use lazul_ir::{Axes, ReduceOp};

fn axes_i64(axes: &Axes) -> Vec<i64> {
    axes.iter().map(|&a| a as i64).collect()
}

/// What each element's change counts in the result's, `(shape of the operand)`; the sum of element times
/// weight is the derivative.
fn weights(op: ReduceOp, axes: &Axes, call: &Call<'_>) -> Result<Option<Array>> {
    let (x, y) = (&call.inputs[0], &call.outputs[0]);
    if !x.0.dtype.is_inexact() {
        return Ok(None);
    }
    Ok(match op {
        ReduceOp::Sum => Some(x.ones_like()),
        ReduceOp::Prod => Some(others(x, axes)?),
        ReduceOp::Min | ReduceOp::Max => {
            // Elements that share the extreme share its change.
            let here = x.equal(y).astype(x.0.dtype);
            Some(&here / here.sum_keepdims(axes_i64(axes)))
        }
        ReduceOp::All | ReduceOp::Any => None,
    })
}

/// For each element the product of the others along `axes`, without dividing.
fn others(x: &Array, axes: &Axes) -> Result<Array> {
    let picked: Vec<usize> = axes.iter().map(|&a| a as usize).collect();
    let (flat, perm) = x.axes_last(&picked);
    let before = flat.cumprod(-1, Scan { reverse: false, inclusive: false });
    let after = flat.cumprod(-1, Scan { reverse: true, inclusive: false });
    let shape: Vec<usize> = perm.iter().map(|&p| x.0.shape[p]).collect();
    let mut back = vec![0usize; perm.len()];
    perm.iter().enumerate().for_each(|(i, &p)| back[p] = i);
    let product = (before * after).reshape(shape).transpose(back);
    product.check()?;
    Ok(product)
}

pub(crate) fn vjp(op: ReduceOp, axes: &Axes, call: &Call<'_>, c: &Array) -> Result<Slots> {
    let x = &call.inputs[0];
    let spread = || c.astype(x.0.dtype).broadcast_to(&x.0.shape);
    Ok(match op {
        ReduceOp::Sum if x.0.dtype.is_inexact() => one(spread()),
        _ => match weights(op, axes, call)? {
            Some(w) => one(spread() * w.conj()),
            None => none(1),
        },
    })
}

pub(crate) fn jvp(
    op: ReduceOp,
    axes: &Axes,
    call: &Call<'_>,
    tangents: &[Option<Array>],
) -> Result<Slots> {
    let Some(t) = &tangents[0] else { return Ok(none(1)) };
    let axes_ = axes_i64(axes);
    Ok(match op {
        ReduceOp::Sum => one(t.sum_keepdims(axes_)),
        _ => match weights(op, axes, call)? {
            Some(w) => one((t * w).sum_keepdims(axes_)),
            None => none(1),
        },
    })
}

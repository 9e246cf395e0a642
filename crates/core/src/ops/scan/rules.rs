//! Derivatives of running reductions.
//!
//! A running sum's is a running sum the other way. The others are differentiated through a composition
//! that combines an array with itself moved by 1, 2, 4, … places: exact to every order, also where
//! elements are zero or equal.

use super::Scan;
use crate::error::Result;
use crate::node::Array;
use crate::ops::prim;
use crate::rules::{Call, Slots, none, one};
use crate::transforms::{pulled_through, pushed_through};
use lazul_ir::{Prim, ScanOp};

pub(crate) fn vjp(op: ScanOp, axis: u8, how: Scan, call: &Call<'_>, c: &Array) -> Result<Slots> {
    let x = &call.inputs[0];
    if op == ScanOp::Sum {
        let Scan { reverse, inclusive } = how;
        let back = Prim::Scan { op, axis, reverse: !reverse, inclusive };
        return Ok(one(prim(back, [c.clone()], x.0.shape.clone(), x.0.dtype)));
    }
    let doubling = |inputs: &[Array]| Ok(vec![by_doubling(op, axis, how, &inputs[0])]);
    pulled_through(doubling, call.inputs, &[Some(c.clone())], &[true])
}

pub(crate) fn jvp(
    op: ScanOp,
    axis: u8,
    how: Scan,
    call: &Call<'_>,
    tangents: &[Option<Array>],
) -> Result<Slots> {
    let Some(t) = &tangents[0] else { return Ok(none(1)) };
    if op == ScanOp::Sum {
        let Scan { reverse, inclusive } = how;
        let scan = Prim::Scan { op, axis, reverse, inclusive };
        return Ok(one(prim(scan, [t.clone()], t.0.shape.clone(), t.0.dtype)));
    }
    let doubling = |inputs: &[Array]| Ok(vec![by_doubling(op, axis, how, &inputs[0])]);
    pushed_through(doubling, call.inputs, tangents)
}

/// The scan as `log2 n` combinations of the whole array with itself moved.
fn by_doubling(op: ScanOp, axis: u8, how: Scan, x: &Array) -> Array {
    let axis = axis as i64;
    let n = x.0.shape[axis as usize];
    let neutral = match op {
        ScanOp::Sum => 0.0,
        ScanOp::Prod => 1.0,
        ScanOp::Min => f64::INFINITY,
        ScanOp::Max | ScanOp::LogAddExp => f64::NEG_INFINITY,
    };
    // Moved by `by` places toward the end, with neutral elements coming in.
    let moved = |y: &Array, by: usize| {
        let mut widths = vec![(0, 0); y.0.shape.len()];
        widths[axis as usize] = (by.min(n), 0);
        let kept = y.slice_axis(axis, 0, (n - by.min(n)) as i64);
        kept.pad(&widths, crate::ops::join::Pad::Constant(neutral))
    };
    let mut y = if how.reverse { x.flip(axis) } else { x.clone() };
    if !how.inclusive {
        y = moved(&y, 1);
    }
    let mut by = 1;
    while by < n {
        let other = moved(&y, by);
        y = match op {
            ScanOp::Sum => &other + &y,
            ScanOp::Prod => &other * &y,
            ScanOp::Min => other.minimum(&y),
            ScanOp::Max => other.maximum(&y),
            ScanOp::LogAddExp => other.logaddexp(&y),
        };
        by *= 2;
    }
    if how.reverse { y.flip(axis) } else { y }
}

//! Derivatives of sorting: the elements' changes, in the elements' order.

use crate::node::Array;
use crate::rules::{Call, Slots, none, one};

pub(crate) fn vjp(axis: u8, call: &Call<'_>, c: &Array) -> Slots {
    let (x, axis) = (&call.inputs[0], axis as i64);
    one(x.zeros_like().put_along_axis(&x.argsort(axis), c, axis))
}

pub(crate) fn jvp(axis: u8, call: &Call<'_>, tangents: &[Option<Array>]) -> Slots {
    let Some(t) = &tangents[0] else { return none(1) };
    one(t.take_along_axis(&call.inputs[0].argsort(axis as i64), axis as i64))
}

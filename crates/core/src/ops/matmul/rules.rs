//! Derivatives of the matrix product.

use crate::node::Array;
use crate::rules::{Call, Slots, none, sum};

pub(crate) fn vjp(call: &Call<'_>, c: &Array, wanted: &[bool]) -> Slots {
    let [a, b] = call.inputs else { return none(call.inputs.len()) };
    let da = wanted[0].then(|| c.matmul(&b.mt().conj())); // (…, m, k)
    let db = wanted[1].then(|| a.mt().conj().matmul(c)); // (…, k, n)
    Slots::from_iter([da, db])
}

pub(crate) fn jvp(call: &Call<'_>, tangents: &[Option<Array>]) -> Slots {
    let [a, b] = call.inputs else { return none(1) };
    let by_a = tangents[0].as_ref().map(|t| t.matmul(b));
    let by_b = tangents[1].as_ref().map(|t| a.matmul(t));
    Slots::from_iter([sum(by_a, by_b)])
}

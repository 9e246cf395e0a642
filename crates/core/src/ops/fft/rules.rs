//! Derivatives of Fourier transforms. They are linear: forward they are themselves, backward their
//! adjoints.

use super::*;
use crate::ops::elementwise::where_;
use crate::rules::{Call, Slots, none, one};

/// What the transform does to a change of its operand is what it does to the operand.
pub(crate) fn jvp(
    kind: FftKind,
    axis: u8,
    scale: F32Bits,
    call: &Call<'_>,
    tangents: &[Option<Array>],
) -> Slots {
    let Some(t) = &tangents[0] else { return none(1) };
    let n = points(kind, axis.into(), call);
    one(apply(kind, t, axis.into(), n, scale.get()))
}

/// The adjoints: forward and inverse are each other's, and so are those of half spectra, but for
/// entries whose conjugates belong to the whole spectrum, which count twice in the one and not in the
/// other.
pub(crate) fn vjp(kind: FftKind, axis: u8, scale: F32Bits, call: &Call<'_>, c: &Array) -> Slots {
    let (axis, scale) = (axis as usize, scale.get());
    let n = points(kind, axis, call);
    one(match kind {
        FftKind::Forward => apply(FftKind::Inverse, c, axis, n, scale),
        FftKind::Inverse => apply(FftKind::Forward, c, axis, n, scale),
        FftKind::RealToHalf => apply(FftKind::HalfToReal, &weigh(c, axis, n, 0.5), axis, n, scale),
        FftKind::HalfToReal => weigh(&apply(FftKind::RealToHalf, c, axis, n, scale), axis, n, 2.0),
    })
}

/// Multiplies the entries of a half spectrum whose conjugates belong to the whole spectrum too.
#[track_caller]
fn weigh(x: &Array, axis: usize, n: usize, paired: f32) -> Array {
    let k = arange(n / 2 + 1, DType::I64);
    let mut single = k.equal(0i64);
    if n.is_multiple_of(2) {
        single = single.logical_or(k.equal((n / 2) as i64));
    }
    let mut shape = vec![1; x.0.shape.len()];
    shape[axis] = n / 2 + 1;
    x * where_(single, 1.0f32, paired).reshape(shape)
}

/// Number of points of an application.
fn points(kind: FftKind, axis: usize, call: &Call<'_>) -> usize {
    match kind {
        FftKind::HalfToReal => call.outputs[0].0.shape[axis],
        _ => call.inputs[0].0.shape[axis],
    }
}

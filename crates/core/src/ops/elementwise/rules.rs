//! Derivatives of element-wise operations: slopes from the table, multiplied in.

use super::where_;
use crate::node::Array;
use crate::rules::{Call, Slots, none, one, sum};
use lazul_ir::{BinaryOp, DType, Expr, Slope, UnaryOp};

impl Expr for Array {
    fn sign(&self) -> Array {
        Array::sign(self)
    }
    fn square(&self) -> Array {
        Array::square(self)
    }
    fn reciprocal(&self) -> Array {
        Array::reciprocal(self)
    }
    fn rsqrt(&self) -> Array {
        Array::rsqrt(self)
    }
    fn exp(&self) -> Array {
        Array::exp(self)
    }
    fn sin(&self) -> Array {
        Array::sin(self)
    }
    fn cos(&self) -> Array {
        Array::cos(self)
    }
    fn sinh(&self) -> Array {
        Array::sinh(self)
    }
    fn cosh(&self) -> Array {
        Array::cosh(self)
    }
    fn sigmoid(&self) -> Array {
        Array::sigmoid(self)
    }
    fn floor(&self) -> Array {
        Array::floor(self)
    }
    fn above(&self, other: Array) -> Array {
        self.greater(other).astype(self.0.dtype)
    }
    fn nan_to_zero(&self) -> Array {
        where_(self.isnan(), self.zeros_like(), self)
    }
    fn log_or_zero(&self) -> Array {
        where_(self.equal(0.0), self.ones_like(), self).log()
    }
    fn power_slope(&self, base: Array) -> Array {
        let none = self.equal(0.0);
        let exponent = where_(&none, self.ones_like(), self);
        where_(none, self.zeros_like(), self * base.power(exponent - 1.0))
    }
}

/// `by * slope`.
fn scaled(by: &Array, slope: Slope<Array>) -> Option<Array> {
    match slope {
        Slope::Zero => None,
        Slope::One => Some(by.clone()),
        Slope::MinusOne => Some(by.negative()),
        Slope::Is(s) => Some(by * s),
    }
}

/// `c * conj(slope)`: the adjoint of multiplying by the slope.
fn pulled(c: &Array, slope: Slope<Array>) -> Option<Array> {
    match slope {
        Slope::Is(s) if s.0.dtype == DType::C64 => Some(c * s.conj()),
        other => scaled(c, other),
    }
}

fn slope(op: UnaryOp, call: &Call<'_>) -> Slope<Array> {
    // An integer or truth value moves in jumps.
    if !call.inputs[0].0.dtype.is_inexact() {
        return Slope::Zero;
    }
    op.slope(call.inputs[0].clone(), call.outputs[0].clone())
}

pub(crate) fn unary_vjp(op: UnaryOp, call: &Call<'_>, c: &Array) -> Slots {
    let x = &call.inputs[0];
    if x.0.dtype == DType::C64 {
        match op {
            UnaryOp::Abs => return one(c.astype(DType::C64) * x.sign()),
            UnaryOp::Sign => return one(sign_part(x, c)),
            UnaryOp::Real => return one(c.astype(DType::C64)),
            UnaryOp::Imag => return one(imaginary(c)),
            UnaryOp::Conj => return one(c.conj()),
            _ => {}
        }
    }
    Slots::from_iter([pulled(c, slope(op, call))])
}

pub(crate) fn unary_jvp(op: UnaryOp, call: &Call<'_>, tangents: &[Option<Array>]) -> Slots {
    let Some(t) = &tangents[0] else { return none(1) };
    let x = &call.inputs[0];
    if x.0.dtype == DType::C64 {
        match op {
            UnaryOp::Abs => return one((t * x.sign().conj()).real()),
            UnaryOp::Sign => return one(sign_part(x, t)),
            UnaryOp::Real => return one(t.real()),
            UnaryOp::Imag => return one(t.imag()),
            UnaryOp::Conj => return one(t.conj()),
            _ => {}
        }
    }
    Slots::from_iter([scaled(t, slope(op, call))])
}

/// `i * c` for real `c`, as complex64.
fn imaginary(c: &Array) -> Array {
    c.astype(DType::C64) * lazul_ir::Complex32::new(0.0, 1.0)
}

/// The derivative of `z / |z|` along `t`, which is its own adjoint: the part of `t` across the direction of
/// `z`, over `|z|`; 0 at 0.
fn sign_part(z: &Array, t: &Array) -> Array {
    let s = z.sign();
    let along = (s.conj() * t).real();
    let across = (t - along.astype(DType::C64) * s) / z.abs().astype(DType::C64);
    where_(z.equal(0.0), across.zeros_like(), &across)
}

pub(crate) fn binary_vjp(op: BinaryOp, call: &Call<'_>, c: &Array, wanted: &[bool]) -> Slots {
    let [a, b] = call.inputs else { return none(call.inputs.len()) };
    (0..2)
        .map(|i| {
            let slope = || op.slope(i, a.clone(), b.clone(), call.outputs[0].clone());
            if wanted[i] { pulled(c, slope()) } else { None }
        })
        .collect()
}

pub(crate) fn binary_jvp(op: BinaryOp, call: &Call<'_>, tangents: &[Option<Array>]) -> Slots {
    let [a, b] = call.inputs else { return none(1) };
    let part = |i: usize| {
        let t = tangents[i].as_ref()?;
        scaled(t, op.slope(i, a.clone(), b.clone(), call.outputs[0].clone()))
    };
    if !call.outputs[0].0.dtype.is_inexact() {
        return none(1);
    }
    Slots::from_iter([sum(part(0), part(1))])
}

pub(crate) fn select_vjp(call: &Call<'_>, c: &Array, wanted: &[bool]) -> Slots {
    let condition = &call.inputs[0];
    let zero = c.zeros_like();
    let a = wanted[1].then(|| where_(condition, c, &zero));
    let b = wanted[2].then(|| where_(condition, &zero, c));
    Slots::from_iter([None, a, b])
}

pub(crate) fn select_jvp(call: &Call<'_>, tangents: &[Option<Array>]) -> Slots {
    let [_, a, b] = tangents else { return none(1) };
    if a.is_none() && b.is_none() {
        return none(1);
    }
    let zero = call.outputs[0].zeros_like();
    let part = |t: &Option<Array>| t.clone().unwrap_or_else(|| zero.clone());
    one(where_(&call.inputs[0], part(a), part(b)))
}

pub(crate) fn cast_vjp(call: &Call<'_>, c: &Array) -> Slots {
    let to = call.inputs[0].0.dtype;
    // Integers and truth values on either side move in jumps.
    if to.is_inexact() && call.outputs[0].0.dtype.is_inexact() {
        return one(c.astype(to));
    }
    none(1)
}

pub(crate) fn cast_jvp(call: &Call<'_>, tangents: &[Option<Array>]) -> Slots {
    let to = call.outputs[0].0.dtype;
    Slots::from_iter([tangents[0].as_ref().filter(|_| to.is_inexact()).map(|t| t.astype(to))])
}

//! The kernel of each unary operation for each compute type.

use super::complex as cx;
use super::fp8;
use super::kernels::{Kernel, Kernel1, copy, k1};
use crate::math;
use lazul_ir::UnaryOp::{self, *};
use lazul_ir::{Complex32, DType};

/// The kernel of `op` for operands of compute type `dtype`.
pub(super) fn kernel(op: UnaryOp, dtype: DType) -> Kernel {
    if let Some(kernel) = trivial(op, dtype) {
        return kernel;
    }
    Kernel::One(match dtype {
        DType::F32 => f32_kernel(op),
        DType::F64 => f64_kernel(op),
        DType::C64 => c64_kernel(op),
        _ => integer_kernel(op, dtype),
    })
}

/// What most exact dtypes share: identities, constants, and work on bits of any sign.
fn trivial(op: UnaryOp, dtype: DType) -> Option<Kernel> {
    let size = dtype.size();
    let exact = !dtype.is_inexact();
    let complex = dtype == DType::C64;
    Some(match op {
        Floor | Ceil | Trunc | Round if exact => copy(size),
        Abs | Sign if dtype == DType::Bool => copy(1),
        Abs if dtype.is_unsigned() => copy(size),
        Real | Conj if !complex => copy(size),
        Imag if !complex => Kernel::One(match size {
            1 => k1!(u8 => u8, |_x| 0),
            2 => k1!(u16 => u16, |_x| 0),
            4 => k1!(u32 => u32, |_x| 0),
            _ => k1!(u64 => u64, |_x| 0),
        }),
        IsNan | IsInf | IsPosInf | IsNegInf if exact => all(size, false),
        IsFinite if exact => all(size, true),
        Negative | Square | BitwiseInvert if exact => Kernel::One(bits(op, dtype)),
        LogicalNot => Kernel::One(k1!(u8 => u8, |x| x ^ 1)),
        _ => return None,
    })
}

fn all(size: usize, value: bool) -> Kernel {
    Kernel::One(match (size, value) {
        (1, false) => k1!(u8 => u8, |_x| 0),
        (2, false) => k1!(u16 => u8, |_x| 0),
        (4, false) => k1!(u32 => u8, |_x| 0),
        (_, false) => k1!(u64 => u8, |_x| 0),
        (1, true) => k1!(u8 => u8, |_x| 1),
        (2, true) => k1!(u16 => u8, |_x| 1),
        (4, true) => k1!(u32 => u8, |_x| 1),
        (_, true) => k1!(u64 => u8, |_x| 1),
    })
}

fn bits(op: UnaryOp, dtype: DType) -> Kernel1 {
    macro_rules! width {
        ($t:ty) => {
            match op {
                Negative => k1!($t => $t, |x| x.wrapping_neg()),
                Square => k1!($t => $t, |x| x.wrapping_mul(x)),
                _ => k1!($t => $t, |x| !x),
            }
        };
    }
    match dtype.size() {
        1 if dtype == DType::Bool => k1!(u8 => u8, |x| x ^ 1),
        1 => width!(u8),
        2 => width!(u16),
        4 => width!(u32),
        _ => width!(u64),
    }
}

fn integer_kernel(op: UnaryOp, dtype: DType) -> Kernel1 {
    macro_rules! signed {
        ($t:ty) => {
            match op {
                Abs => k1!($t => $t, |x| x.wrapping_abs()),
                Sign => k1!($t => $t, |x| x.signum()),
                other => unreachable!("{} of {dtype}", other.name()),
            }
        };
    }
    match (op, dtype) {
        (Sign, DType::U8) => k1!(u8 => u8, |x| (x != 0) as u8),
        (Sign, DType::U16) => k1!(u16 => u16, |x| (x != 0) as u16),
        (Sign, DType::U32) => k1!(u32 => u32, |x| (x != 0) as u32),
        (Sign, DType::U64) => k1!(u64 => u64, |x| (x != 0) as u64),
        (FromFp8, DType::U8) => k1!(u8 => f32, |x| fp8::decode(x)),
        (_, DType::I8) => signed!(i8),
        (_, DType::I16) => signed!(i16),
        (_, DType::I32) => signed!(i32),
        (_, DType::I64) => signed!(i64),
        _ => unreachable!("{} of {dtype}", op.name()),
    }
}

macro_rules! float_kernel {
    ($name:ident, $t:ident, $math:path, $fp8:ident) => {
        fn $name(op: UnaryOp) -> Kernel1 {
            use $math as m;
            match op {
                Abs => k1!($t => $t, |x| x.abs()),
                Sign => k1!($t => $t, |x| if x > 0.0 { 1.0 } else if x < 0.0 { -1.0 } else { x }),
                Negative => k1!($t => $t, |x| -x),
                Square => k1!($t => $t, |x| x * x),
                Sqrt => k1!($t => $t, |x| x.sqrt()),
                Rsqrt => k1!($t => $t, |x| 1.0 / x.sqrt()),
                Reciprocal => k1!($t => $t, |x| 1.0 / x),
                Exp => k1!($t => $t, |x| m::exp(x)),
                Expm1 => k1!($t => $t, |x| m::expm1(x)),
                Log => k1!($t => $t, |x| m::log(x)),
                Log2 => k1!($t => $t, |x| m::log2(x)),
                Log10 => k1!($t => $t, |x| m::log10(x)),
                Log1p => k1!($t => $t, |x| m::log1p(x)),
                Sin => m::sin_kernel,
                Cos => m::cos_kernel,
                Tan => m::tan_kernel,
                Arcsin => k1!($t => $t, |x| m::asin(x)),
                Arccos => k1!($t => $t, |x| m::acos(x)),
                Arctan => k1!($t => $t, |x| m::atan(x)),
                Sinh => k1!($t => $t, |x| m::sinh(x)),
                Cosh => k1!($t => $t, |x| m::cosh(x)),
                Tanh => k1!($t => $t, |x| m::tanh(x)),
                Arcsinh => k1!($t => $t, |x| m::asinh(x)),
                Arccosh => k1!($t => $t, |x| m::acosh(x)),
                Arctanh => k1!($t => $t, |x| m::atanh(x)),
                Erf => k1!($t => $t, |x| m::erf(x)),
                Erfinv => k1!($t => $t, |x| m::erfinv(x)),
                Sigmoid => k1!($t => $t, |x| m::sigmoid(x)),
                Floor => k1!($t => $t, |x| x.floor()),
                Ceil => k1!($t => $t, |x| x.ceil()),
                Trunc => k1!($t => $t, |x| x.trunc()),
                Round => k1!($t => $t, |x| x.round_ties_even()),
                IsNan => k1!($t => u8, |x| x.is_nan() as u8),
                IsInf => k1!($t => u8, |x| x.is_infinite() as u8),
                IsFinite => k1!($t => u8, |x| x.is_finite() as u8),
                IsPosInf => k1!($t => u8, |x| (x == $t::INFINITY) as u8),
                IsNegInf => k1!($t => u8, |x| (x == $t::NEG_INFINITY) as u8),
                ToFp8 => k1!($t => u8, |x| fp8::$fp8(x)),
                LogicalNot | BitwiseInvert | Real | Imag | Conj | FromFp8 => {
                    unreachable!("{} of a float", op.name())
                }
            }
        }
    };
}
float_kernel!(f32_kernel, f32, math, encode);
float_kernel!(f64_kernel, f64, math::double, encode64);

fn c64_kernel(op: UnaryOp) -> Kernel1 {
    type C = Complex32;
    match op {
        Abs => k1!(C => f32, |z| cx::abs(z)),
        Sign => k1!(C => C, |z| cx::sign(z)),
        Negative => k1!(C => C, |z| C::new(-z.re, -z.im)),
        Square => k1!(C => C, |z| cx::mul(z, z)),
        Sqrt => k1!(C => C, |z| cx::wide(z, |z| z.sqrt())),
        Rsqrt => k1!(C => C, |z| cx::wide(z, |z| cx::recip64(z.sqrt()))),
        Reciprocal => k1!(C => C, |z| cx::wide(z, cx::recip64)),
        Exp => k1!(C => C, |z| cx::wide(z, |z| z.exp())),
        Expm1 => k1!(C => C, |z| cx::wide(z, cx::expm1)),
        Log => k1!(C => C, |z| cx::wide(z, cx::log)),
        Log2 => k1!(C => C, |z| cx::wide(z, |z| cx::log(z) / std::f64::consts::LN_2)),
        Log10 => k1!(C => C, |z| cx::wide(z, |z| cx::log(z) / std::f64::consts::LN_10)),
        Log1p => k1!(C => C, |z| cx::wide(z, cx::log1p)),
        Sin => k1!(C => C, |z| cx::wide(z, |z| z.sin())),
        Cos => k1!(C => C, |z| cx::wide(z, |z| z.cos())),
        Tan => k1!(C => C, |z| cx::wide(z, cx::tan)),
        Arcsin => k1!(C => C, |z| cx::wide(z, cx::asin)),
        Arccos => k1!(C => C, |z| cx::wide(z, cx::acos)),
        Arctan => k1!(C => C, |z| cx::wide(z, cx::atan)),
        Sinh => k1!(C => C, |z| cx::wide(z, |z| z.sinh())),
        Cosh => k1!(C => C, |z| cx::wide(z, |z| z.cosh())),
        Tanh => k1!(C => C, |z| cx::wide(z, cx::tanh)),
        Arcsinh => k1!(C => C, |z| cx::wide(z, cx::asinh)),
        Arccosh => k1!(C => C, |z| cx::wide(z, cx::acosh)),
        Arctanh => k1!(C => C, |z| cx::wide(z, cx::atanh)),
        Sigmoid => k1!(C => C, |z| cx::wide(z, cx::sigmoid)),
        Round => k1!(C => C, |z| C::new(z.re.round_ties_even(), z.im.round_ties_even())),
        IsNan => k1!(C => u8, |z| (z.re.is_nan() | z.im.is_nan()) as u8),
        IsInf => k1!(C => u8, |z| (z.re.is_infinite() | z.im.is_infinite()) as u8),
        IsFinite => k1!(C => u8, |z| (z.re.is_finite() & z.im.is_finite()) as u8),
        Real => k1!(C => f32, |z| z.re),
        Imag => k1!(C => f32, |z| z.im),
        Conj => k1!(C => C, |z| C::new(z.re, -z.im)),
        other => unreachable!("{} of complex64", other.name()),
    }
}

//! The kernel of each binary operation for each compute type.

use super::complex as cx;
use super::kernels::{Kernel, Kernel2, k2};
use crate::math;
use lazul_ir::BinaryOp::{self, *};
use lazul_ir::{Complex32, DType};

/// The kernel of `op` for operands of compute type `dtype`.
pub(super) fn kernel(op: BinaryOp, dtype: DType) -> Kernel {
    Kernel::Two(match dtype {
        DType::Bool => bool_kernel(op),
        DType::F32 => f32_kernel(op),
        DType::F64 => f64_kernel(op),
        DType::C64 => c64_kernel(op),
        _ => match op {
            Add | Subtract | Multiply | Equal | NotEqual | BitwiseAnd | BitwiseOr | BitwiseXor
            | LeftShift => bits_kernel(op, dtype.size()),
            _ => integer_kernel(op, dtype),
        },
    })
}

/// Truth values are bytes 0 and 1.
fn bool_kernel(op: BinaryOp) -> Kernel2 {
    match op {
        Add | LogicalOr | BitwiseOr | Maximum => k2!(u8 => u8, |a, b| a | b),
        Multiply | LogicalAnd | BitwiseAnd | Minimum => k2!(u8 => u8, |a, b| a & b),
        LogicalXor | BitwiseXor | NotEqual => k2!(u8 => u8, |a, b| a ^ b),
        Equal => k2!(u8 => u8, |a, b| a ^ b ^ 1),
        Power | GreaterEqual => k2!(u8 => u8, |a, b| a | (b ^ 1)),
        Greater => k2!(u8 => u8, |a, b| a & (b ^ 1)),
        Less => k2!(u8 => u8, |a, b| (a ^ 1) & b),
        LessEqual => k2!(u8 => u8, |a, b| (a ^ 1) | b),
        other => unreachable!("{} of bool", other.name()),
    }
}

/// Integer operations that do not see the sign.
fn bits_kernel(op: BinaryOp, size: usize) -> Kernel2 {
    macro_rules! width {
        ($t:ty) => {
            match op {
                Add => k2!($t => $t, |a, b| a.wrapping_add(b)),
                Subtract => k2!($t => $t, |a, b| a.wrapping_sub(b)),
                Multiply => k2!($t => $t, |a, b| a.wrapping_mul(b)),
                Equal => k2!($t => u8, |a, b| (a == b) as u8),
                NotEqual => k2!($t => u8, |a, b| (a != b) as u8),
                BitwiseAnd => k2!($t => $t, |a, b| a & b),
                BitwiseOr => k2!($t => $t, |a, b| a | b),
                BitwiseXor => k2!($t => $t, |a, b| a ^ b),
                // A negative amount is a huge one here.
                _ => k2!($t => $t, |a, b| {
                    let shifted = a.wrapping_shl(b as u32);
                    if b < <$t>::BITS as $t { shifted } else { 0 }
                }),
            }
        };
    }
    match size {
        1 => width!(u8),
        2 => width!(u16),
        4 => width!(u32),
        _ => width!(u64),
    }
}

/// The operations of integers for which the sign matters.
trait Integer: Copy {
    fn floor_div(self, b: Self) -> Self;
    fn floor_rem(self, b: Self) -> Self;
    fn power(self, b: Self) -> Self;
    fn shift_right(self, b: Self) -> Self;
}

macro_rules! integers {
    ($($t:ident $unsigned:ident $signed:literal;)*) => {$(
        impl Integer for $t {
            #[inline(always)]
            #[allow(unused_comparisons)]
            fn floor_div(self, b: $t) -> $t {
                let safe = if b == 0 { 1 } else { b };
                let (q, r) = (self.wrapping_div(safe), self.wrapping_rem(safe));
                let down = (r != 0 && (r < 0) != (safe < 0)) as $t;
                if b == 0 { 0 } else { q.wrapping_sub(down) }
            }

            #[inline(always)]
            #[allow(unused_comparisons)]
            fn floor_rem(self, b: $t) -> $t {
                let safe = if b == 0 { 1 } else { b };
                let r = self.wrapping_rem(safe);
                let r = if r != 0 && (r < 0) != (safe < 0) { r.wrapping_add(safe) } else { r };
                if b == 0 { 0 } else { r }
            }

            #[inline(always)]
            #[allow(unused_comparisons)]
            fn power(self, b: $t) -> $t {
                if b < 0 {
                    // 1 / self^|b|, an integer only for 1 and -1.
                    return if self == 1 {
                        1
                    } else if $signed && self == (0 as $t).wrapping_sub(1) {
                        if b & 1 == 0 { 1 } else { self }
                    } else {
                        0
                    };
                }
                let (mut base, mut exponent, mut result) = (self, b, 1 as $t);
                while exponent > 0 {
                    if exponent & 1 == 1 {
                        result = result.wrapping_mul(base);
                    }
                    base = base.wrapping_mul(base);
                    exponent >>= 1;
                }
                result
            }

            #[inline(always)]
            fn shift_right(self, b: $t) -> $t {
                const BITS: u32 = <$t>::BITS;
                let amount = b as $unsigned;
                let inside = amount < BITS as $unsigned;
                if $signed {
                    self >> (if inside { amount as u32 } else { BITS - 1 })
                } else if inside {
                    self >> (amount as u32 & (BITS - 1))
                } else {
                    0
                }
            }
        }
    )*};
}
integers! {
    u8 u8 false; u16 u16 false; u32 u32 false; u64 u64 false;
    i8 u8 true; i16 u16 true; i32 u32 true; i64 u64 true;
}

fn integer_kernel(op: BinaryOp, dtype: DType) -> Kernel2 {
    macro_rules! of {
        ($t:ty) => {
            match op {
                FloorDivide => k2!($t => $t, |a, b| a.floor_div(b)),
                Remainder => k2!($t => $t, |a, b| a.floor_rem(b)),
                Power => k2!($t => $t, |a, b| a.power(b)),
                Maximum => k2!($t => $t, |a, b| a.max(b)),
                Minimum => k2!($t => $t, |a, b| a.min(b)),
                Less => k2!($t => u8, |a, b| (a < b) as u8),
                LessEqual => k2!($t => u8, |a, b| (a <= b) as u8),
                Greater => k2!($t => u8, |a, b| (a > b) as u8),
                GreaterEqual => k2!($t => u8, |a, b| (a >= b) as u8),
                RightShift => k2!($t => $t, |a, b| a.shift_right(b)),
                other => unreachable!("{} of {dtype}", other.name()),
            }
        };
    }
    match dtype {
        DType::U8 => of!(u8),
        DType::U16 => of!(u16),
        DType::U32 => of!(u32),
        DType::U64 => of!(u64),
        DType::I8 => of!(i8),
        DType::I16 => of!(i16),
        DType::I32 => of!(i32),
        DType::I64 => of!(i64),
        other => unreachable!("{other} is no integer"),
    }
}

macro_rules! float_kernel {
    ($name:ident, $t:ident, $math:path) => {
        fn $name(op: BinaryOp) -> Kernel2 {
            use $math as m;
            match op {
                Add => k2!($t => $t, |a, b| a + b),
                Subtract => k2!($t => $t, |a, b| a - b),
                Multiply => k2!($t => $t, |a, b| a * b),
                Divide => k2!($t => $t, |a, b| a / b),
                FloorDivide => k2!($t => $t, |a, b| (a / b).floor()),
                Remainder => m::remainder_kernel,
                Power => k2!($t => $t, |a, b| m::pow(a, b)),
                Maximum => k2!($t => $t, |a, b| if a > b || a.is_nan() { a } else { b }),
                Minimum => k2!($t => $t, |a, b| if a < b || a.is_nan() { a } else { b }),
                LogAddExp => k2!($t => $t, |a, b| m::logaddexp(a, b)),
                Arctan2 => k2!($t => $t, |a, b| m::atan2(a, b)),
                Equal => k2!($t => u8, |a, b| (a == b) as u8),
                NotEqual => k2!($t => u8, |a, b| (a != b) as u8),
                Less => k2!($t => u8, |a, b| (a < b) as u8),
                LessEqual => k2!($t => u8, |a, b| (a <= b) as u8),
                Greater => k2!($t => u8, |a, b| (a > b) as u8),
                GreaterEqual => k2!($t => u8, |a, b| (a >= b) as u8),
                other => unreachable!("{} of a float", other.name()),
            }
        }
    };
}
float_kernel!(f32_kernel, f32, math);
float_kernel!(f64_kernel, f64, math::double);

fn c64_kernel(op: BinaryOp) -> Kernel2 {
    type C = Complex32;
    match op {
        Add => k2!(C => C, |a, b| C::new(a.re + b.re, a.im + b.im)),
        Subtract => k2!(C => C, |a, b| C::new(a.re - b.re, a.im - b.im)),
        Multiply => k2!(C => C, |a, b| cx::mul(a, b)),
        Divide => k2!(C => C, |a, b| cx::div(a, b)),
        Power => k2!(C => C, |a, b| cx::pow(a, b)),
        Equal => k2!(C => u8, |a, b| ((a.re == b.re) & (a.im == b.im)) as u8),
        NotEqual => k2!(C => u8, |a, b| ((a.re != b.re) | (a.im != b.im)) as u8),
        other => unreachable!("{} of complex64", other.name()),
    }
}

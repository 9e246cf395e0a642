//! Conversions between compute types.
//!
//! Float to integer truncates and saturates, NaN gives 0; anything to bool is `x != 0`; integer to
//! integer wraps. On the way to a half type, values that f32 cannot hold are rounded to odd, so that
//! the final rounding of the store is the only one that counts.

use super::kernels::{Kernel, Kernel1, copy, k1};
use lazul_ir::{Complex32, DType};

/// The kernel from `from` to `to`, storage dtypes; both ends are held in their compute types.
pub(crate) fn kernel(from: DType, to: DType) -> Kernel {
    let (f, t) = (from.compute(), to.compute());
    if f == t {
        return copy(f.size());
    }
    if f.is_integer() && t.is_integer() && f.size() == t.size() {
        return copy(f.size());
    }
    Kernel::One(match f {
        DType::Bool => from_bool(t),
        DType::U8 => from_u8(t),
        DType::U16 => from_u16(t),
        DType::U32 if to != t => k1!(u32 => f32, |x| round_to_odd(x as f64)),
        DType::U32 => from_u32(t),
        DType::U64 if to != t => k1!(u64 => f32, |x| odd_from_u64(x)),
        DType::U64 => from_u64(t),
        DType::I8 => from_i8(t),
        DType::I16 => from_i16(t),
        DType::I32 if to != t => k1!(i32 => f32, |x| round_to_odd(x as f64)),
        DType::I32 => from_i32(t),
        DType::I64 if to != t => k1!(i64 => f32, |x| {
            let magnitude = odd_from_u64(x.unsigned_abs());
            if x < 0 { -magnitude } else { magnitude }
        }),
        DType::I64 => from_i64(t),
        DType::F64 if to != t => k1!(f64 => f32, |x| round_to_odd(x)),
        DType::F64 => from_f64(t),
        DType::C64 => from_c64(t),
        _ => from_f32(t),
    })
}

/// `x` as f32, rounded so that a later rounding to fewer bits gives what one rounding of `x` would:
/// where f32 cannot hold `x`, the neighbour with an odd last bit.
#[inline(always)]
pub(super) fn round_to_odd(x: f64) -> f32 {
    let nearest = x as f32;
    let back = nearest as f64;
    let bits = nearest.to_bits();
    // Toward zero, then odd.
    let toward_zero = if back.abs() > x.abs() { bits.wrapping_sub(1) } else { bits };
    let odd = f32::from_bits(toward_zero | 1);
    if back == x || x.is_nan() { nearest } else { odd }
}

#[inline(always)]
fn odd_from_u64(x: u64) -> f32 {
    // A double holds the upper 53 bits; a set bit below them only has to leave a trace.
    let coarse = (x & !0x7ff) | (((x & 0x7ff != 0) as u64) << 11);
    round_to_odd(if x >> 53 == 0 { x } else { coarse } as f64)
}

macro_rules! from_exact {
    ($($name:ident $f:ty;)*) => {$(
        fn $name(to: DType) -> Kernel1 {
            match to {
                DType::Bool => k1!($f => u8, |x| (x != 0) as u8),
                DType::U8 | DType::I8 => k1!($f => u8, |x| x as u8),
                DType::U16 | DType::I16 => k1!($f => u16, |x| x as u16),
                DType::U32 | DType::I32 => k1!($f => u32, |x| x as u32),
                DType::U64 | DType::I64 => k1!($f => u64, |x| x as u64),
                DType::F64 => k1!($f => f64, |x| x as f64),
                DType::C64 => k1!($f => Complex32, |x| Complex32::new(x as f32, 0.0)),
                _ => k1!($f => f32, |x| x as f32),
            }
        }
    )*};
}
from_exact! {
    from_u8 u8; from_u16 u16; from_u32 u32; from_u64 u64;
    from_i8 i8; from_i16 i16; from_i32 i32; from_i64 i64;
}

fn from_bool(to: DType) -> Kernel1 {
    from_u8(to)
}

macro_rules! from_float {
    ($($name:ident $f:ty, |$x:ident| $real:expr, $nonzero:expr, $complex:expr;)*) => {$(
        fn $name(to: DType) -> Kernel1 {
            match to {
                DType::Bool => k1!($f => u8, |$x| ($nonzero) as u8),
                DType::U8 => k1!($f => u8, |$x| ($real) as u8),
                DType::U16 => k1!($f => u16, |$x| ($real) as u16),
                DType::U32 => k1!($f => u32, |$x| ($real) as u32),
                DType::U64 => k1!($f => u64, |$x| ($real) as u64),
                DType::I8 => k1!($f => i8, |$x| ($real) as i8),
                DType::I16 => k1!($f => i16, |$x| ($real) as i16),
                DType::I32 => k1!($f => i32, |$x| ($real) as i32),
                DType::I64 => k1!($f => i64, |$x| ($real) as i64),
                DType::F64 => k1!($f => f64, |$x| ($real) as f64),
                DType::C64 => k1!($f => Complex32, |$x| $complex),
                _ => k1!($f => f32, |$x| ($real) as f32),
            }
        }
    )*};
}
from_float! {
    from_f32 f32, |x| x, x != 0.0, Complex32::new(x, 0.0);
    from_f64 f64, |x| x, x != 0.0, Complex32::new(x as f32, 0.0);
    from_c64 Complex32, |x| x.re, (x.re != 0.0) | (x.im != 0.0), x;
}

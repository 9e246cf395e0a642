//! One value with its dtype: constants of graphs and of fused tapes.

use crate::{DType, Element, dtype::Kind};
use half::{bf16, f16};
use num_complex::Complex32;

/// A single value of any dtype, stored as its little-endian bit pattern.
///
/// Equality and hash are those of the bits, so `NaN == NaN` and `0.0 != -0.0`: what graph keys need.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(try_from = "Written"))]
pub struct Scalar {
    /// The value's bits in the low bytes.
    pub bits: u64,
    /// The dtype.
    pub dtype: DType,
}

/// A scalar as a file has it, whose bits may be anything.
#[cfg(feature = "serde")]
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    bits: u64,
    dtype: DType,
}

#[cfg(feature = "serde")]
impl TryFrom<Written> for Scalar {
    type Error = String;

    fn try_from(Written { bits, dtype }: Written) -> Result<Scalar, String> {
        let fits = match dtype {
            DType::Bool => bits <= 1,
            _ => dtype.size() >= 8 || bits >> (8 * dtype.size()) == 0,
        };
        match fits {
            true => Ok(Scalar { bits, dtype }),
            false => Err(format!("the bits {bits:#x} are no {dtype}")),
        }
    }
}

impl Scalar {
    /// The scalar that holds `value`.
    #[inline]
    pub fn new<T: Element>(value: T) -> Scalar {
        Scalar { bits: value.to_bits64(), dtype: T::DTYPE }
    }

    /// Zero of a dtype (`false` for bool).
    #[inline]
    pub const fn zero(dtype: DType) -> Scalar {
        Scalar { bits: 0, dtype }
    }

    /// `value` rounded to `dtype`; integers saturate, NaN becomes 0, bool is `value != 0`.
    pub fn from_f64(value: f64, dtype: DType) -> Scalar {
        match dtype {
            DType::Bool => Scalar::new(value != 0.0),
            DType::U8 => Scalar::new(value as u8),
            DType::U16 => Scalar::new(value as u16),
            DType::U32 => Scalar::new(value as u32),
            DType::U64 => Scalar::new(value as u64),
            DType::I8 => Scalar::new(value as i8),
            DType::I16 => Scalar::new(value as i16),
            DType::I32 => Scalar::new(value as i32),
            DType::I64 => Scalar::new(value as i64),
            DType::F16 => Scalar::new(f16::from_f64(value)),
            DType::BF16 => Scalar::new(bf16::from_f64(value)),
            DType::F32 => Scalar::new(value as f32),
            DType::F64 => Scalar::new(value),
            DType::C64 => Scalar::new(Complex32::new(value as f32, 0.0)),
        }
    }

    /// An integer as a scalar of `dtype`, or `None` where an integer dtype cannot hold it.
    pub fn from_i128(value: i128, dtype: DType) -> Option<Scalar> {
        Some(match dtype {
            DType::U8 => Scalar::new(u8::try_from(value).ok()?),
            DType::U16 => Scalar::new(u16::try_from(value).ok()?),
            DType::U32 => Scalar::new(u32::try_from(value).ok()?),
            DType::U64 => Scalar::new(u64::try_from(value).ok()?),
            DType::I8 => Scalar::new(i8::try_from(value).ok()?),
            DType::I16 => Scalar::new(i16::try_from(value).ok()?),
            DType::I32 => Scalar::new(i32::try_from(value).ok()?),
            DType::I64 => Scalar::new(i64::try_from(value).ok()?),
            _ => Scalar::from_f64(value as f64, dtype),
        })
    }

    /// The value as a complex number in double precision: `(re, im)`.
    pub fn to_c128(self) -> (f64, f64) {
        let b = self.bits;
        let re = match self.dtype {
            DType::Bool | DType::U8 => b as u8 as f64,
            DType::U16 => b as u16 as f64,
            DType::U32 => b as u32 as f64,
            DType::U64 => b as f64,
            DType::I8 => b as i8 as f64,
            DType::I16 => b as i16 as f64,
            DType::I32 => b as i32 as f64,
            DType::I64 => b as i64 as f64,
            DType::F16 => f16::from_bits(b as u16).to_f64(),
            DType::BF16 => bf16::from_bits(b as u16).to_f64(),
            DType::F32 | DType::C64 => f32::from_bits(b as u32) as f64,
            DType::F64 => f64::from_bits(b),
        };
        let im =
            if self.dtype == DType::C64 { f32::from_bits((b >> 32) as u32) as f64 } else { 0.0 };
        (re, im)
    }

    /// The value as a double (the real part of a complex number).
    pub fn to_f64(self) -> f64 {
        self.to_c128().0
    }

    /// The value as an integer; floats are truncated and saturate.
    pub fn to_i128(self) -> i128 {
        match self.dtype.kind() {
            Kind::Bool => (self.bits & 1) as i128,
            Kind::Int if self.dtype == DType::U64 => self.bits as i128,
            Kind::Int if self.dtype == DType::I64 => self.bits as i64 as i128,
            _ => self.to_f64() as i128,
        }
    }
}

impl std::fmt::Debug for Scalar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.dtype.kind() {
            Kind::Complex => {
                let (re, im) = self.to_c128();
                write!(f, "{re}{im:+}j")
            }
            Kind::Int | Kind::Bool => write!(f, "{}:{}", self.to_i128(), self.dtype),
            Kind::Float => write!(f, "{}:{}", self.to_f64(), self.dtype),
        }
    }
}

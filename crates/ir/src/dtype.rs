//! Element types, their promotion lattice, and the Rust types that carry them.
//!
//! Promotion is MLX's: JAX's lattice, except that `u64` with any signed integer gives `f32` and
//! that complex64 absorbs float64.

use half::{bf16, f16};
use num_complex::Complex32;

/// The type of an array's elements.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum DType {
    /// Booleans, one byte each, 0 or 1.
    Bool,
    /// Unsigned 8-bit integers.
    U8,
    /// Unsigned 16-bit integers.
    U16,
    /// Unsigned 32-bit integers.
    U32,
    /// Unsigned 64-bit integers.
    U64,
    /// Signed 8-bit integers.
    I8,
    /// Signed 16-bit integers.
    I16,
    /// Signed 32-bit integers.
    I32,
    /// Signed 64-bit integers.
    I64,
    /// IEEE half precision.
    F16,
    /// bfloat16: the upper half of an `f32`.
    BF16,
    /// IEEE single precision.
    F32,
    /// IEEE double precision.
    F64,
    /// A pair of `f32`: real and imaginary part.
    C64,
}

/// The category of a dtype, ordered so that a higher kind absorbs a lower one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Kind {
    /// [`DType::Bool`].
    Bool,
    /// Unsigned and signed integers.
    Int,
    /// f16, bf16, f32, f64.
    Float,
    /// complex64.
    Complex,
}

impl DType {
    /// Every dtype, in declaration order.
    pub const ALL: [DType; 14] = [
        DType::Bool,
        DType::U8,
        DType::U16,
        DType::U32,
        DType::U64,
        DType::I8,
        DType::I16,
        DType::I32,
        DType::I64,
        DType::F16,
        DType::BF16,
        DType::F32,
        DType::F64,
        DType::C64,
    ];

    /// Bytes an element takes.
    #[inline]
    pub const fn size(self) -> usize {
        match self {
            DType::Bool | DType::U8 | DType::I8 => 1,
            DType::U16 | DType::I16 | DType::F16 | DType::BF16 => 2,
            DType::U32 | DType::I32 | DType::F32 => 4,
            DType::U64 | DType::I64 | DType::F64 | DType::C64 => 8,
        }
    }

    /// MLX's and NumPy's name: `"float32"`, `"bool"`, `"complex64"`.
    pub const fn name(self) -> &'static str {
        match self {
            DType::Bool => "bool",
            DType::U8 => "uint8",
            DType::U16 => "uint16",
            DType::U32 => "uint32",
            DType::U64 => "uint64",
            DType::I8 => "int8",
            DType::I16 => "int16",
            DType::I32 => "int32",
            DType::I64 => "int64",
            DType::F16 => "float16",
            DType::BF16 => "bfloat16",
            DType::F32 => "float32",
            DType::F64 => "float64",
            DType::C64 => "complex64",
        }
    }

    /// The dtype called `name` (see [`DType::name`]).
    ///
    /// ```
    /// use lazul_ir::DType;
    /// assert_eq!(DType::from_name("bfloat16"), Some(DType::BF16));
    /// assert_eq!(DType::from_name("float8"), None);
    /// ```
    pub fn from_name(name: &str) -> Option<DType> {
        DType::ALL.into_iter().find(|d| d.name() == name)
    }

    /// The category.
    #[inline]
    pub const fn kind(self) -> Kind {
        match self {
            DType::Bool => Kind::Bool,
            DType::F16 | DType::BF16 | DType::F32 | DType::F64 => Kind::Float,
            DType::C64 => Kind::Complex,
            _ => Kind::Int,
        }
    }

    /// f16, bf16, f32 or f64.
    #[inline]
    pub const fn is_float(self) -> bool {
        matches!(self, DType::F16 | DType::BF16 | DType::F32 | DType::F64)
    }

    /// Floating or complex.
    #[inline]
    pub const fn is_inexact(self) -> bool {
        self.is_float() || matches!(self, DType::C64)
    }

    /// A signed or unsigned integer (not bool).
    #[inline]
    pub const fn is_integer(self) -> bool {
        self.is_unsigned() || self.is_signed_integer()
    }

    /// u8 to u64.
    #[inline]
    pub const fn is_unsigned(self) -> bool {
        matches!(self, DType::U8 | DType::U16 | DType::U32 | DType::U64)
    }

    /// i8 to i64.
    #[inline]
    pub const fn is_signed_integer(self) -> bool {
        matches!(self, DType::I8 | DType::I16 | DType::I32 | DType::I64)
    }

    /// The float type that `exp`, `mean` and the like return for this dtype: itself if inexact,
    /// f32 otherwise.
    #[inline]
    pub const fn to_inexact(self) -> DType {
        if self.is_inexact() { self } else { DType::F32 }
    }

    /// The dtype in which kernels hold values of this one while they compute: f32 for the half
    /// types, itself otherwise.
    #[inline]
    pub const fn compute(self) -> DType {
        match self {
            DType::F16 | DType::BF16 => DType::F32,
            d => d,
        }
    }

    /// The dtype of an operation between arrays of dtypes `a` and `b`.
    ///
    /// ```
    /// use lazul_ir::DType::*;
    /// assert_eq!(lazul_ir::DType::promote(U8, I8), I16);
    /// assert_eq!(lazul_ir::DType::promote(U64, I8), F32);
    /// assert_eq!(lazul_ir::DType::promote(F16, BF16), F32);
    /// ```
    pub const fn promote(a: DType, b: DType) -> DType {
        use DType::*;
        if a as u8 == b as u8 {
            return a;
        }
        match (a, b) {
            (C64, _) | (_, C64) => C64,
            (F64, _) | (_, F64) => F64,
            (F32, _) | (_, F32) => F32,
            (F16, BF16) | (BF16, F16) => F32,
            (F16, _) | (_, F16) => F16,
            (BF16, _) | (_, BF16) => BF16,
            (Bool, d) | (d, Bool) => d,
            _ => {
                if a.is_unsigned() == b.is_unsigned() {
                    return if a.size() >= b.size() { a } else { b };
                }
                let (u, s) = if a.is_unsigned() { (a, b) } else { (b, a) };
                if s.size() > u.size() {
                    return s;
                }
                match u {
                    U8 => I16,
                    U16 => I32,
                    U32 => I64,
                    _ => F32,
                }
            }
        }
    }
}

impl std::fmt::Display for DType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl std::fmt::Debug for DType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

mod sealed {
    pub trait Sealed {}
}

/// A Rust type that can be an array's element.
pub trait Element:
    sealed::Sealed + Copy + Send + Sync + PartialEq + std::fmt::Debug + 'static
{
    /// The dtype that this type carries.
    const DTYPE: DType;
    /// The eight bytes of [`crate::Scalar`] that hold this value.
    fn to_bits64(self) -> u64;
}

macro_rules! element {
    ($($t:ty => $d:ident, |$v:ident| $bits:expr;)*) => {$(
        impl sealed::Sealed for $t {}
        impl Element for $t {
            const DTYPE: DType = DType::$d;
            #[inline]
            fn to_bits64(self) -> u64 { let $v = self; $bits }
        }
    )*};
}
element! {
    bool => Bool, |v| v as u64;
    u8 => U8, |v| v as u64;
    u16 => U16, |v| v as u64;
    u32 => U32, |v| v as u64;
    u64 => U64, |v| v;
    i8 => I8, |v| v as u8 as u64;
    i16 => I16, |v| v as u16 as u64;
    i32 => I32, |v| v as u32 as u64;
    i64 => I64, |v| v as u64;
    f16 => F16, |v| v.to_bits() as u64;
    bf16 => BF16, |v| v.to_bits() as u64;
    f32 => F32, |v| v.to_bits() as u64;
    f64 => F64, |v| v.to_bits();
    Complex32 => C64, |v| v.re.to_bits() as u64 | (v.im.to_bits() as u64) << 32;
}

#[cfg(test)]
mod tests {
    use super::DType::{self, *};

    #[test]
    fn promotion_is_symmetric_and_idempotent() {
        for a in DType::ALL {
            assert_eq!(DType::promote(a, a), a);
            for b in DType::ALL {
                assert_eq!(DType::promote(a, b), DType::promote(b, a));
            }
        }
    }

    #[test]
    fn mixed_signs_widen() {
        assert_eq!(DType::promote(U16, I8), I32);
        assert_eq!(DType::promote(U8, I64), I64);
        assert_eq!(DType::promote(U32, I32), I64);
        assert_eq!(DType::promote(U64, I64), F32);
        assert_eq!(DType::promote(I64, F16), F16);
        assert_eq!(DType::promote(F64, C64), C64);
    }
}

//! What dtypes are: their limits, their kinds, and what comes of mixing them.

use crate::error::{Error, ErrorKind, Result};
use crate::scope::call_site;
use lazul_ir::{DType, bf16, dtype::Kind, f16};

/// Limits of a float dtype.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FloatInfo {
    /// The dtype; that of the parts, for complex numbers.
    pub dtype: DType,
    /// Bits of a number.
    pub bits: usize,
    /// The smallest finite number.
    pub min: f64,
    /// The largest finite number.
    pub max: f64,
    /// Distance from 1 to the next larger number.
    pub eps: f64,
    /// The smallest positive number of full precision.
    pub smallest_normal: f64,
}

/// Limits of an integer dtype.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IntInfo {
    /// The dtype.
    pub dtype: DType,
    /// Bits of a number.
    pub bits: usize,
    /// The smallest number.
    pub min: i64,
    /// The largest number.
    pub max: u64,
}

/// The limits of a float dtype, or of the parts of a complex one.
///
/// ```
/// use lazul_core::{DType, dtypes::finfo};
/// assert_eq!(finfo(DType::F16)?.max, 65504.0);
/// assert!(finfo(DType::I32).is_err());
/// # Ok::<(), lazul_core::Error>(())
/// ```
///
/// # Errors
/// For integers and bool.
#[track_caller]
pub fn finfo(dtype: DType) -> Result<FloatInfo> {
    let (dtype, max, eps, smallest_normal) = match dtype {
        DType::F16 => (dtype, f16::MAX.to_f64(), f16::EPSILON.to_f64(), f16::MIN_POSITIVE.to_f64()),
        DType::BF16 => {
            (dtype, bf16::MAX.to_f64(), bf16::EPSILON.to_f64(), bf16::MIN_POSITIVE.to_f64())
        }
        DType::F32 | DType::C64 => {
            (DType::F32, f32::MAX as f64, f32::EPSILON as f64, f32::MIN_POSITIVE as f64)
        }
        DType::F64 => (dtype, f64::MAX, f64::EPSILON, f64::MIN_POSITIVE),
        other => return Err(refused("finfo", format!("{other} is not a float dtype"))),
    };
    Ok(FloatInfo { dtype, bits: 8 * dtype.size(), min: -max, max, eps, smallest_normal })
}

/// The limits of an integer dtype.
///
/// ```
/// use lazul_core::{DType, dtypes::iinfo};
/// let info = iinfo(DType::I8)?;
/// assert_eq!((info.min, info.max), (-128, 127));
/// # Ok::<(), lazul_core::Error>(())
/// ```
///
/// # Errors
/// For other dtypes, bool among them.
#[track_caller]
pub fn iinfo(dtype: DType) -> Result<IntInfo> {
    if !dtype.is_integer() {
        return Err(refused("iinfo", format!("{dtype} is not an integer dtype")));
    }
    let bits = 8 * dtype.size();
    let (min, max) = match dtype.is_unsigned() {
        true => (0, u64::MAX >> (64 - bits)),
        false => (i64::MIN >> (64 - bits), u64::MAX >> (65 - bits)),
    };
    Ok(IntInfo { dtype, bits, min, max })
}

#[track_caller]
fn refused(op: &'static str, why: String) -> Error {
    Error::new(ErrorKind::DType, op, why).at(call_site())
}

/// Kinds of dtypes, each within the one after it that its documentation names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Category {
    /// complex64; inexact.
    ComplexFloating,
    /// f16, bf16, f32, f64; inexact.
    Floating,
    /// Floating and complex; numbers.
    Inexact,
    /// i8 to i64; integers.
    SignedInteger,
    /// u8 to u64; integers.
    UnsignedInteger,
    /// Signed and unsigned; numbers.
    Integer,
    /// All dtypes but bool; generic.
    Number,
    /// All dtypes.
    Generic,
}

/// A dtype, or a kind of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// One dtype.
    DType(DType),
    /// All dtypes of a kind.
    Category(Category),
}

impl From<DType> for Class {
    fn from(dtype: DType) -> Class {
        Class::DType(dtype)
    }
}

impl From<Category> for Class {
    fn from(category: Category) -> Class {
        Class::Category(category)
    }
}

impl Class {
    /// The next larger class.
    fn parent(self) -> Option<Class> {
        use Category::*;
        let parent = match self {
            Class::DType(DType::Bool) | Class::Category(Number) => Generic,
            Class::DType(d) if d.is_unsigned() => UnsignedInteger,
            Class::DType(d) if d.is_integer() => SignedInteger,
            Class::DType(d) if d.is_float() => Floating,
            Class::DType(_) => ComplexFloating,
            Class::Category(SignedInteger | UnsignedInteger) => Integer,
            Class::Category(Floating | ComplexFloating) => Inexact,
            Class::Category(Integer | Inexact) => Number,
            Class::Category(Generic) => return None,
        };
        Some(Class::Category(parent))
    }
}

/// Whether every dtype of `a` is one of `b`.
///
/// ```
/// use lazul_core::{DType, dtypes::{Category, issubdtype}};
/// assert!(issubdtype(DType::BF16, Category::Floating));
/// assert!(issubdtype(Category::Integer, Category::Number));
/// assert!(!issubdtype(DType::Bool, Category::Number));
/// ```
pub fn issubdtype(a: impl Into<Class>, b: impl Into<Class>) -> bool {
    let (a, b) = (a.into(), b.into());
    std::iter::successors(Some(a), |c| c.parent()).any(|c| c == b)
}

/// Whether a dtype is of a kind that the Python array API standard names: `"bool"`, `"signed integer"`,
/// `"unsigned integer"`, `"integral"`, `"real floating"`, `"complex floating"`, `"numeric"`.
///
/// ```
/// use lazul_core::{DType, dtypes::isdtype};
/// assert!(isdtype(DType::I8, "integral")?);
/// assert!(isdtype(DType::I8, "integer").is_err());
/// # Ok::<(), lazul_core::Error>(())
/// ```
///
/// # Errors
/// For other names.
#[track_caller]
pub fn isdtype(dtype: DType, kind: &str) -> Result<bool> {
    Ok(match kind {
        "bool" => dtype == DType::Bool,
        "signed integer" => dtype.is_signed_integer(),
        "unsigned integer" => dtype.is_unsigned(),
        "integral" => dtype.is_integer(),
        "real floating" => dtype.is_float(),
        "complex floating" => dtype.kind() == Kind::Complex,
        "numeric" => dtype != DType::Bool,
        _ => {
            let why = format!("there is no kind of dtypes called \"{kind}\"");
            return Err(Error::new(ErrorKind::Value, "isdtype", why).at(call_site()));
        }
    })
}

/// The dtype of an operation between arrays of these dtypes.
///
/// ```
/// use lazul_core::{DType, dtypes::result_type};
/// assert_eq!(result_type(&[DType::I32, DType::BF16, DType::Bool])?, DType::BF16);
/// # Ok::<(), lazul_core::Error>(())
/// ```
///
/// # Errors
/// If there are none.
#[track_caller]
pub fn result_type(dtypes: &[DType]) -> Result<DType> {
    dtypes.iter().copied().reduce(DType::promote).ok_or_else(|| {
        Error::new(ErrorKind::Value, "result_type", "there are no dtypes").at(call_site())
    })
}

/// Whether `from` becomes `to` beside it: no value is then beyond `to`'s range, though floats may round
/// integers.
///
/// ```
/// use lazul_core::{DType, dtypes::can_cast};
/// assert!(can_cast(DType::I32, DType::F16));
/// assert!(!can_cast(DType::F32, DType::F16));
/// ```
pub fn can_cast(from: DType, to: DType) -> bool {
    DType::promote(from, to) == to
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_those_of_the_types() {
        let f = |d| finfo(d).unwrap();
        assert_eq!(f(DType::C64), f(DType::F32));
        assert_eq!((f(DType::BF16).eps, f(DType::BF16).bits), (0.0078125, 16));
        assert_eq!(f(DType::F16).smallest_normal, 6.103515625e-5);
        assert_eq!((f(DType::F64).max, f(DType::F64).min), (f64::MAX, f64::MIN));
        let i = |d| iinfo(d).map(|i| (i.min, i.max)).unwrap();
        assert_eq!(i(DType::I8), (-128, 127));
        assert_eq!(i(DType::U8), (0, 255));
        assert_eq!(i(DType::I64), (i64::MIN, i64::MAX as u64));
        assert_eq!(i(DType::U64), (0, u64::MAX));
        assert!(iinfo(DType::Bool).is_err() && finfo(DType::Bool).is_err());
        assert!(result_type(&[]).is_err());
    }

    #[test]
    fn every_dtype_is_of_one_kind_of_the_standard() {
        let kinds =
            ["bool", "signed integer", "unsigned integer", "real floating", "complex floating"];
        for d in DType::ALL {
            assert_eq!(kinds.iter().filter(|k| isdtype(d, k).unwrap()).count(), 1, "{d}");
            assert!(issubdtype(d, Category::Generic) && issubdtype(d, d));
            let number = isdtype(d, "numeric").unwrap();
            assert_eq!(issubdtype(d, Category::Number), number, "{d}");
            assert_eq!(issubdtype(d, Category::Inexact), d.is_inexact(), "{d}");
            assert_eq!(issubdtype(d, Category::Integer), d.is_integer(), "{d}");
            assert!(!issubdtype(Category::Generic, d));
        }
        assert!(!issubdtype(Category::Number, Category::Integer));
        assert!(issubdtype(Category::SignedInteger, Category::Number));
    }
}

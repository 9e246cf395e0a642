//! What may stand beside an array in an operation: arrays, owned or borrowed, and Rust scalars.
//!
//! Scalars are *weak*: they take the array's dtype where its kind can hold them, so `x_bf16 * 0.5`
//! stays bf16. A float scalar with an integer array gives f32, an integer scalar with a bool array
//! i32 (i64 if it needs that), a complex scalar complex64; an integer that does not fit the array's
//! integer dtype is an error, never a wrapped value.

use crate::error::{Error, ErrorKind};
use crate::node::{Array, Data};
use crate::scope::call_site;
use lazul_ir::{Complex32, DType, Scalar, Shape, bf16, dtype::Kind, f16};
use std::panic::Location;

/// An array or a weak scalar, as an operation's argument.
pub enum Operand {
    /// An array.
    Array(Array),
    /// A scalar without a dtype of its own.
    Weak(Weak),
}

/// A scalar that adapts to the array it meets.
#[derive(Clone, Copy, Debug)]
pub enum Weak {
    /// A truth value.
    Bool(bool),
    /// An integer.
    Int(i128),
    /// A real number.
    Float(f64),
    /// A complex number.
    Complex(Complex32),
}

impl std::fmt::Display for Weak {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Weak::Bool(x) => write!(f, "{x}"),
            Weak::Int(x) => write!(f, "{x}"),
            Weak::Float(x) => write!(f, "{x}"),
            Weak::Complex(x) => write!(f, "{x}"),
        }
    }
}

/// Types that can be an operation's argument.
pub trait IntoOperand {
    /// The argument.
    fn into_operand(self) -> Operand;
}

impl IntoOperand for Array {
    fn into_operand(self) -> Operand {
        Operand::Array(self)
    }
}

impl IntoOperand for &Array {
    fn into_operand(self) -> Operand {
        Operand::Array(self.clone())
    }
}

macro_rules! weak {
    ($($t:ty => |$v:ident| $e:expr;)*) => {$(
        impl IntoOperand for $t {
            fn into_operand(self) -> Operand { let $v = self; Operand::Weak($e) }
        }
    )*};
}
weak! {
    bool => |v| Weak::Bool(v);
    u8 => |v| Weak::Int(v as i128);
    u16 => |v| Weak::Int(v as i128);
    u32 => |v| Weak::Int(v as i128);
    u64 => |v| Weak::Int(v as i128);
    usize => |v| Weak::Int(v as i128);
    i8 => |v| Weak::Int(v as i128);
    i16 => |v| Weak::Int(v as i128);
    i32 => |v| Weak::Int(v as i128);
    i64 => |v| Weak::Int(v as i128);
    f16 => |v| Weak::Float(v.to_f64());
    bf16 => |v| Weak::Float(v.to_f64());
    f32 => |v| Weak::Float(v as f64);
    f64 => |v| Weak::Float(v);
    Complex32 => |v| Weak::Complex(v);
}

impl Weak {
    /// The dtype that this scalar has beside an array of dtype `other`.
    pub(crate) fn dtype_beside(self, other: DType) -> DType {
        match (self, other.kind()) {
            (Weak::Bool(_), _) => other,
            (Weak::Int(v), Kind::Bool) => int_dtype(v),
            (Weak::Int(_), _) => other,
            (Weak::Float(_), Kind::Bool | Kind::Int) => DType::F32,
            (Weak::Float(_), _) => other,
            (Weak::Complex(_), _) => DType::C64,
        }
    }

    /// The dtype that this scalar has alone.
    pub(crate) fn own_dtype(self) -> DType {
        match self {
            Weak::Bool(_) => DType::Bool,
            Weak::Int(v) => int_dtype(v),
            Weak::Float(_) => DType::F32,
            Weak::Complex(_) => DType::C64,
        }
    }

    /// The scalar in a dtype, or `None` where an integer does not fit.
    pub(crate) fn to_scalar(self, dtype: DType) -> Option<Scalar> {
        match self {
            Weak::Bool(b) => Some(Scalar::from_f64(b as u8 as f64, dtype)),
            Weak::Int(v) => Scalar::from_i128(v, dtype),
            Weak::Float(v) => Some(Scalar::from_f64(v, dtype)),
            Weak::Complex(c) if dtype == DType::C64 => Some(Scalar::new(c)),
            Weak::Complex(c) => Some(Scalar::from_f64(c.re as f64, dtype)),
        }
    }
}

fn int_dtype(v: i128) -> DType {
    if i32::try_from(v).is_ok() {
        DType::I32
    } else if i64::try_from(v).is_ok() {
        DType::I64
    } else {
        DType::U64
    }
}

/// A constant array of `shape`.
pub(crate) fn constant(value: Scalar, shape: Shape, site: &'static Location<'static>) -> Array {
    let data = Data::constant(value, shape.len());
    Array::ready(shape, value.dtype, data, site)
}

fn too_big(op: &'static str, weak: Weak, dtype: DType) -> Error {
    Error::new(ErrorKind::Value, op, format!("the scalar {weak} does not fit {dtype}"))
}

impl Operand {
    /// As an array by itself.
    #[track_caller]
    pub(crate) fn into_array(self, op: &'static str) -> Array {
        match self {
            Operand::Array(a) => a,
            Operand::Weak(w) => {
                let dtype = w.own_dtype();
                match w.to_scalar(dtype) {
                    Some(s) => constant(s, Shape::scalar(), call_site()),
                    None => Array::fail(too_big(op, w, dtype), call_site()),
                }
            }
        }
    }

    /// As an array beside one of dtype `other`.
    #[track_caller]
    pub(crate) fn into_array_beside(self, op: &'static str, other: DType) -> Array {
        match self {
            Operand::Array(a) => a,
            Operand::Weak(w) => {
                let dtype = w.dtype_beside(other);
                match w.to_scalar(dtype) {
                    Some(s) => constant(s, Shape::scalar(), call_site()),
                    None => Array::fail(too_big(op, w, dtype), call_site()),
                }
            }
        }
    }
}

/// Both arguments of a binary operation as arrays of their own dtypes.
#[track_caller]
pub(crate) fn pair(op: &'static str, a: Operand, b: Operand) -> (Array, Array) {
    match (a, b) {
        (Operand::Array(a), b) => {
            let b = b.into_array_beside(op, a.0.dtype);
            (a, b)
        }
        (a, Operand::Array(b)) => (a.into_array_beside(op, b.0.dtype), b),
        (a, b) => {
            let (a, b) = (a.into_array(op), b.into_array(op));
            (a, b)
        }
    }
}

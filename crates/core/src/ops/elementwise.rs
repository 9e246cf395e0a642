//! Element-wise operations: the methods of [`Array`] for every row of the tables, the compositions
//! built on them, `where`, casts, and comparisons of whole arrays.

pub(crate) mod rules;

use super::{attempt, broadcast_unchecked, cast_unchecked, error, prim};
use crate::error::ErrorKind;
use crate::node::{Array, Data, State};
use crate::operand::{IntoOperand, Operand, constant, pair};
use crate::scope::call_site;
use lazul_ir::{BinaryOp, DType, Prim, Scalar, Shape, UnaryOp, dtype::Kind};
use std::panic::Location;

/// A unary operation of the table.
#[track_caller]
pub(crate) fn unary(op: UnaryOp, x: &Array) -> Array {
    let site = call_site();
    if x.0.failed {
        return x.clone();
    }
    match op.rule().resolve(x.0.dtype) {
        Ok((operand, result)) => {
            let x = cast_unchecked(x, operand, site);
            let shape = x.0.shape.clone();
            prim(Prim::Unary(op), [x], shape, result)
        }
        Err(why) => Array::fail(error(ErrorKind::DType, op.name(), why, &[x]), site),
    }
}

/// A binary operation of the table.
#[track_caller]
pub(crate) fn binary(op: BinaryOp, a: Operand, b: Operand) -> Array {
    let site = call_site();
    let (a, b) = pair(op.name(), a, b);
    if a.0.failed || b.0.failed {
        return if a.0.failed { a } else { b };
    }
    let common = DType::promote(a.0.dtype, b.0.dtype);
    let (operand, result) = match op.rule().resolve(common) {
        Ok(dtypes) => dtypes,
        Err(why) => return Array::fail(error(ErrorKind::DType, op.name(), why, &[&a, &b]), site),
    };
    if a.0.shape == b.0.shape && a.0.dtype == operand && b.0.dtype == operand {
        let shape = a.0.shape.clone();
        return prim(Prim::Binary(op), [a, b], shape, result);
    }
    let Some(shape) = Shape::broadcast(&a.0.shape, &b.0.shape) else {
        let why = "shapes cannot be broadcast";
        return Array::fail(error(ErrorKind::Shape, op.name(), why, &[&a, &b]), site);
    };
    let a = fit(a, operand, &shape, site);
    let b = fit(b, operand, &shape, site);
    prim(Prim::Binary(op), [a, b], shape, result)
}

/// `a` cast, then broadcast; constants are converted on the spot.
fn fit(a: Array, dtype: DType, shape: &Shape, site: &'static Location<'static>) -> Array {
    if let State::Ready { data: Data { storage: crate::node::Storage::Inline(s), .. }, .. } =
        &*a.0.lock()
        && a.0.shape.is_empty()
        && (s.dtype == dtype
            || s.dtype.kind() != Kind::Complex && !matches!(s.dtype, DType::U64 | DType::I64))
    {
        let value = if s.dtype == dtype { *s } else { Scalar::from_f64(s.to_f64(), dtype) };
        return constant(value, shape.clone(), site);
    }
    broadcast_unchecked(&cast_unchecked(&a, dtype, site), shape, site)
}

/// The example of an operation's documentation: two elements and what becomes of them, exactly (`=`) or to
/// four decimals (`~`).
macro_rules! example {
    (~ $x:tt $call:expr, $t:ident $y:tt) => {
        example!($x concat!($call, ".round(4)"), $t $y)
    };
    (= $x:tt $call:expr, $t:ident $y:tt) => {
        example!($x $call, $t $y)
    };
    ($x:tt $call:expr, $t:ident $y:tt) => {
        concat!(
            "\n```\nuse lazul_core::prelude::*;\nlet x = Array::from_slice(&",
            stringify!($x),
            ", [2]);\nassert_eq!(x.",
            $call,
            ".to_vec::<",
            stringify!($t),
            ">()?, ",
            stringify!($y),
            ");\n# Ok::<(), lazul_core::Error>(())\n```"
        )
    };
}

macro_rules! unary_methods {
    ($($(#[$doc:meta])* $name:ident $op:ident $x:tt $how:tt $t:ident $y:tt;)*) => {
        impl Array {$(
            $(#[$doc])*
            #[doc = example!($how $x concat!(stringify!($name), "()"), $t $y)]
            #[track_caller]
            pub fn $name(&self) -> Array {
                unary(UnaryOp::$op, self)
            }
        )*}
    };
}
unary_methods! {
    /// Magnitude, element by element. Any dtype; f32 for complex64.
    abs Abs [-1.5f32, 2.0] = f32 [1.5, 2.0];
    /// -1, 0 or 1, element by element; `z/|z|` for complex64. Any dtype.
    sign Sign [-1.5f32, 0.0] = f32 [-1.0, 0.0];
    /// `-x`, element by element. Any dtype but bool; unsigned integers wrap.
    negative Negative [1, -2] = i32 [-1, 2];
    /// `x * x`, element by element. Any dtype but bool.
    square Square [3, -2] = i32 [9, 4];
    /// Square root, element by element. Integers and bool give f32.
    sqrt Sqrt [9.0f32, 0.25] = f32 [3.0, 0.5];
    /// `1 / sqrt(x)`, element by element. Integers and bool give f32.
    rsqrt Rsqrt [4.0f32, 0.25] ~ f32 [0.5, 2.0];
    /// `1 / x`, element by element. Integers and bool give f32.
    reciprocal Reciprocal [4.0f32, -0.5] = f32 [0.25, -2.0];
    /// `e^x`, element by element. Integers and bool give f32.
    exp Exp [0.0f32, 1.0] ~ f32 [1.0, 2.7183];
    /// `e^x - 1`, accurate near zero. Integers and bool give f32.
    expm1 Expm1 [0.0f32, 1.0] ~ f32 [0.0, 1.7183];
    /// Natural logarithm, element by element. Integers and bool give f32.
    log Log [1.0f32, 10.0] ~ f32 [0.0, 2.3026];
    /// Logarithm to base 2, element by element. Integers and bool give f32.
    log2 Log2 [8.0f32, 0.5] ~ f32 [3.0, -1.0];
    /// Logarithm to base 10, element by element. Integers and bool give f32.
    log10 Log10 [1000.0f32, 0.1] ~ f32 [3.0, -1.0];
    /// `log(1 + x)`, accurate near zero. Integers and bool give f32.
    log1p Log1p [0.0f32, 1.0] ~ f32 [0.0, 0.6931];
    /// Sine of radians. Integers and bool give f32.
    sin Sin [0.0f32, 1.0] ~ f32 [0.0, 0.8415];
    /// Cosine of radians. Integers and bool give f32.
    cos Cos [0.0f32, 1.0] ~ f32 [1.0, 0.5403];
    /// Tangent of radians. Integers and bool give f32.
    tan Tan [0.0f32, 1.0] ~ f32 [0.0, 1.5574];
    /// Inverse sine in radians. Integers and bool give f32.
    arcsin Arcsin [0.0f32, 1.0] ~ f32 [0.0, 1.5708];
    /// Inverse cosine in radians. Integers and bool give f32.
    arccos Arccos [0.0f32, 1.0] ~ f32 [1.5708, 0.0];
    /// Inverse tangent in radians. Integers and bool give f32.
    arctan Arctan [0.0f32, 1.0] ~ f32 [0.0, 0.7854];
    /// Hyperbolic sine. Integers and bool give f32.
    sinh Sinh [0.0f32, 1.0] ~ f32 [0.0, 1.1752];
    /// Hyperbolic cosine. Integers and bool give f32.
    cosh Cosh [0.0f32, 1.0] ~ f32 [1.0, 1.5431];
    /// Hyperbolic tangent. Integers and bool give f32.
    tanh Tanh [0.0f32, 1.0] ~ f32 [0.0, 0.7616];
    /// Inverse hyperbolic sine. Integers and bool give f32.
    arcsinh Arcsinh [0.0f32, 1.0] ~ f32 [0.0, 0.8814];
    /// Inverse hyperbolic cosine. Integers and bool give f32.
    arccosh Arccosh [1.0f32, 2.0] ~ f32 [0.0, 1.317];
    /// Inverse hyperbolic tangent. Integers and bool give f32.
    arctanh Arctanh [0.0f32, 0.5] ~ f32 [0.0, 0.5493];
    /// Gauss error function. Integers and bool give f32; not for complex64.
    erf Erf [0.0f32, 1.0] ~ f32 [0.0, 0.8427];
    /// Inverse of the error function. Integers and bool give f32; not for complex64.
    erfinv Erfinv [0.0f32, 0.5] ~ f32 [0.0, 0.4769];
    /// `1 / (1 + e^-x)`, element by element. Integers and bool give f32.
    sigmoid Sigmoid [0.0f32, 2.0] ~ f32 [0.5, 0.8808];
    /// Largest integer not above each element; integers are their own. Not for complex64.
    floor Floor [-1.5f32, 1.5] = f32 [-2.0, 1.0];
    /// Smallest integer not below each element; integers are their own. Not for complex64.
    ceil Ceil [-1.5f32, 1.5] = f32 [-1.0, 2.0];
    /// Integer part of each element. Not for complex64.
    trunc Trunc [-1.5f32, 1.5] = f32 [-1.0, 1.0];
    /// Whether each element is NaN, as bool.
    isnan IsNan [f32::NAN, 1.0] = bool [true, false];
    /// Whether each element is infinite, as bool.
    isinf IsInf [f32::NEG_INFINITY, 1.0] = bool [true, false];
    /// Whether each element is neither NaN nor infinite, as bool.
    isfinite IsFinite [f32::NAN, 1.0] = bool [false, true];
    /// Whether each element is +infinity, as bool. Not for complex64.
    isposinf IsPosInf [f32::INFINITY, f32::NEG_INFINITY] = bool [true, false];
    /// Whether each element is -infinity, as bool. Not for complex64.
    isneginf IsNegInf [f32::INFINITY, f32::NEG_INFINITY] = bool [false, true];
    /// Truth value of each element negated, as bool.
    logical_not LogicalNot [0, 2] = bool [true, false];
    /// Every bit flipped. Integers; logical not for bool.
    bitwise_invert BitwiseInvert [0u8, 0b1111_0000] = u8 [255, 15];
    /// Real part, f32 for complex64; real arrays are their own.
    real Real [Complex32::new(1.0, -2.0), Complex32::new(0.0, 3.0)] = f32 [1.0, 0.0];
    /// Imaginary part, f32 for complex64; zeros for real arrays.
    imag Imag [Complex32::new(1.0, -2.0), Complex32::new(0.0, 3.0)] = f32 [-2.0, 3.0];
    /// Complex conjugate; real arrays are their own.
    conj Conj [Complex32::new(1.0, -2.0), Complex32::new(0.0, 3.0)] = Complex32 [Complex32::new(1.0, 2.0), Complex32::new(0.0, -3.0)];
    /// Nearest e4m3 code of each element as u8, saturating at 448. Float dtypes.
    to_fp8 ToFp8 [1.0f32, 1000.0] = u8 [56, 126];
}

macro_rules! binary_methods {
    ($($(#[$doc:meta])* $name:ident $op:ident $x:tt $other:tt $how:tt $t:ident $y:tt;)*) => {
        impl Array {$(
            $(#[$doc])*
            #[doc = example!($how $x concat!(stringify!($name), stringify!($other)), $t $y)]
            #[track_caller]
            pub fn $name(&self, other: impl IntoOperand) -> Array {
                binary(BinaryOp::$op, self.into_operand(), other.into_operand())
            }
        )*}
    };
}
binary_methods! {
    /// `self + other` with broadcasting; logical or for bool.
    add Add [1, 2] (10) = i32 [11, 12];
    /// `self - other` with broadcasting. Not for bool.
    subtract Subtract [1, 2] (10) = i32 [-9, -8];
    /// `self * other` with broadcasting; logical and for bool.
    multiply Multiply [1, 2] (10) = i32 [10, 20];
    /// `self / other` with broadcasting; integers and bool divide as f32.
    divide Divide [1, 2] (4) = f32 [0.25, 0.5];
    /// Quotient rounded down, with broadcasting. Integer division by zero gives 0.
    floor_divide FloorDivide [7, -7] (2) = i32 [3, -4];
    /// Remainder with the divisor's sign, with broadcasting. Integer remainder by zero gives 0.
    remainder Remainder [7, -7] (4) = i32 [3, 1];
    /// `self` to the power `other`, with broadcasting. An integer to a negative integer power is 0,
    /// except for bases 1 and -1.
    power Power [2, -3] (3) = i32 [8, -27];
    /// The larger of the two, NaN if either is, with broadcasting.
    maximum Maximum [1.0f32, 3.0] (2.0) = f32 [2.0, 3.0];
    /// The smaller of the two, NaN if either is, with broadcasting.
    minimum Minimum [1.0f32, 3.0] (2.0) = f32 [1.0, 2.0];
    /// `log(e^self + e^other)` without overflow, with broadcasting.
    logaddexp LogAddExp [0.0f32, 1.0] (0.0) ~ f32 [0.6931, 1.3133];
    /// Angle of the point `(other, self)` in radians, with broadcasting.
    arctan2 Arctan2 [1.0f32, -1.0] (1.0) ~ f32 [0.7854, -0.7854];
    /// Whether elements are equal, as bool, with broadcasting.
    equal Equal [1, 2] (2) = bool [false, true];
    /// Whether elements differ, as bool, with broadcasting.
    not_equal NotEqual [1, 2] (2) = bool [true, false];
    /// Whether `self < other`, as bool, with broadcasting.
    less Less [1, 2] (2) = bool [true, false];
    /// Whether `self <= other`, as bool, with broadcasting.
    less_equal LessEqual [2, 3] (2) = bool [true, false];
    /// Whether `self > other`, as bool, with broadcasting.
    greater Greater [2, 3] (2) = bool [false, true];
    /// Whether `self >= other`, as bool, with broadcasting.
    greater_equal GreaterEqual [1, 2] (2) = bool [false, true];
    /// Whether both are true, as bool, with broadcasting.
    logical_and LogicalAnd [true, false] (true) = bool [true, false];
    /// Whether either is true, as bool, with broadcasting.
    logical_or LogicalOr [true, false] (false) = bool [true, false];
    /// Whether exactly one is true, as bool, with broadcasting.
    logical_xor LogicalXor [true, false] (true) = bool [false, true];
    /// Bits set in both; integers and bool, with broadcasting.
    bitwise_and BitwiseAnd [12, 10] (6) = i32 [4, 2];
    /// Bits set in either; integers and bool, with broadcasting.
    bitwise_or BitwiseOr [12, 10] (6) = i32 [14, 14];
    /// Bits set in exactly one; integers and bool, with broadcasting.
    bitwise_xor BitwiseXor [12, 10] (6) = i32 [10, 12];
    /// Bits moved up by `other`; integers, with broadcasting.
    left_shift LeftShift [1, 3] (2) = i32 [4, 12];
    /// Bits moved down by `other`, keeping the sign; integers, with broadcasting.
    right_shift RightShift [8, -8] (1) = i32 [4, -4];
}

impl Array {
    /// Nearest multiple of `10^-decimals`, halves to even. Integers are their own for
    /// `decimals >= 0`.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// let x = Array::from_slice(&[2.5f32, 0.126], [2]);
    /// assert_eq!(x.round(0).to_vec::<f32>()?, [2.0, 0.0]);
    /// assert_eq!(x.round(2).to_vec::<f32>()?, [2.5, 0.13]);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    #[track_caller]
    pub fn round(&self, decimals: i32) -> Array {
        let integer = !self.0.dtype.is_inexact();
        if decimals == 0 || integer && decimals > 0 {
            return unary(UnaryOp::Round, self);
        }
        let factor = 10f64.powi(decimals.saturating_abs());
        let (up, down) = if decimals > 0 { (factor, 1.0) } else { (1.0, factor) };
        let rounded = unary(UnaryOp::Round, &(self * up / down));
        (rounded * down / up).astype(self.0.dtype)
    }

    /// Radians to degrees. Integers give f32.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// assert_eq!(Array::scalar(std::f32::consts::PI).degrees().item::<f32>()?, 180.0);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    #[track_caller]
    pub fn degrees(&self) -> Array {
        self * (180.0 / std::f64::consts::PI)
    }

    /// Degrees to radians. Integers give f32.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// assert_eq!(Array::scalar(180.0f32).radians().item::<f32>()?, std::f32::consts::PI);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    #[track_caller]
    pub fn radians(&self) -> Array {
        self * (std::f64::consts::PI / 180.0)
    }

    /// The elements as they are.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// assert_eq!(arange(2, DType::I32).positive().to_vec::<i32>()?, [0, 1]);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    #[track_caller]
    pub fn positive(&self) -> Array {
        self.clone()
    }

    /// `(floor_divide, remainder)`.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// let (quotient, rest) = Array::scalar(-7).divmod(2);
    /// assert_eq!((quotient.item::<i32>()?, rest.item::<i32>()?), (-4, 1));
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    #[track_caller]
    pub fn divmod(&self, other: impl IntoOperand) -> (Array, Array) {
        let other = other.into_operand().into_array_beside("divmod", self.0.dtype);
        (self.floor_divide(&other), self.remainder(&other))
    }

    /// Values limited to `low ..= high`; `None` leaves an end open.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// let x = Array::from_slice(&[1.0f32, 2.0, 3.0], [3]);
    /// assert_eq!(x.clip(None::<f32>, Some(2.0)).to_vec::<f32>()?, [1.0, 2.0, 2.0]);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    #[track_caller]
    pub fn clip(&self, low: Option<impl IntoOperand>, high: Option<impl IntoOperand>) -> Array {
        let mut out = self.clone();
        if let Some(low) = low {
            out = out.maximum(low);
        }
        if let Some(high) = high {
            out = out.minimum(high);
        }
        out
    }

    /// NaN replaced by `nan`, infinities by the given values or the dtype's extremes. Integers are
    /// their own. Not for complex64.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// let x = Array::from_slice(&[f32::NAN, f32::INFINITY], [2]);
    /// assert_eq!(x.nan_to_num(0.0, Some(9.0), None).to_vec::<f32>()?, [0.0, 9.0]);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    #[track_caller]
    pub fn nan_to_num(&self, nan: f64, posinf: Option<f64>, neginf: Option<f64>) -> Array {
        let dtype = self.0.dtype;
        if self.0.failed || !dtype.is_inexact() {
            return self.clone();
        }
        if dtype == DType::C64 {
            let why = "is not defined for complex64";
            return Array::fail(error(ErrorKind::DType, "nan_to_num", why, &[self]), call_site());
        }
        let largest = match dtype {
            DType::F16 => 65504.0,
            DType::BF16 => lazul_ir::bf16::MAX.to_f64(),
            DType::F32 => f32::MAX as f64,
            _ => f64::MAX,
        };
        let x = where_(self.isnan(), nan, self);
        let x = where_(x.isposinf(), posinf.unwrap_or(largest), &x);
        where_(x.isneginf(), neginf.unwrap_or(-largest), &x)
    }

    /// The elements in another dtype. Float to integer truncates toward zero and saturates, NaN
    /// gives 0; anything to bool is `x != 0`; integers wrap into narrower integers.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// let x = Array::from_slice(&[300.7f32, -1.5], [2]);
    /// assert_eq!(x.astype(DType::U8).to_vec::<u8>()?, [255, 0]);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    #[track_caller]
    pub fn astype(&self, dtype: DType) -> Array {
        if self.0.failed {
            return self.clone();
        }
        cast_unchecked(self, dtype, call_site())
    }

    /// Values of e4m3 codes (u8) as `dtype`.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// let codes = Array::from_slice(&[1.0f32, -0.1], [2]).to_fp8();
    /// assert_eq!(codes.from_fp8(DType::F32).to_vec::<f32>()?, [1.0, -0.1015625]);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    #[track_caller]
    pub fn from_fp8(&self, dtype: DType) -> Array {
        unary(UnaryOp::FromFp8, self).astype(dtype)
    }

    /// Whether elements are close: `|a - b| <= atol + rtol * |b|`, as bool. Infinities are close to
    /// themselves; NaN is close to NaN only if `equal_nan`.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// let x = Array::from_slice(&[1.0f32, 2.0], [2]);
    /// assert_eq!(x.isclose(1.000001, Tolerance::default()).to_vec::<bool>()?, [true, false]);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    #[track_caller]
    pub fn isclose(&self, other: impl IntoOperand, tolerance: Tolerance) -> Array {
        let other = other.into_operand().into_array_beside("isclose", self.0.dtype);
        if !self.0.dtype.is_inexact() || !other.0.dtype.is_inexact() {
            // Differences of unsigned integers would wrap.
            let wide =
                |x: &Array| if x.0.dtype.is_inexact() { x.clone() } else { x.astype(DType::F64) };
            return wide(self).isclose(wide(&other), tolerance);
        }
        let bound = other.abs() * tolerance.rtol + tolerance.atol;
        let near = (self - &other).abs().less_equal(bound);
        let finite = self.isfinite().logical_and(other.isfinite());
        let mut close = where_(&finite, &near, self.equal(&other));
        if tolerance.equal_nan {
            close = close.logical_or(self.isnan().logical_and(other.isnan()));
        }
        close
    }

    /// Whether all elements are close (see [`Array::isclose`]), as one bool.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// let x = Array::from_slice(&[1.0f32, 1.0], [2]);
    /// assert!(x.allclose(1.000001, Tolerance::default()).item::<bool>()?);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    #[track_caller]
    pub fn allclose(&self, other: impl IntoOperand, tolerance: Tolerance) -> Array {
        self.isclose(other, tolerance).all(..)
    }

    /// Whether shapes are equal and all elements are, as one bool.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// let x = arange(3, DType::F32);
    /// assert!(x.array_equal(&arange(3, DType::I32), false).item::<bool>()?);
    /// assert!(!x.array_equal(&arange(4, DType::F32), false).item::<bool>()?);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    #[track_caller]
    pub fn array_equal(&self, other: &Array, equal_nan: bool) -> Array {
        if self.0.failed || other.0.failed {
            return if self.0.failed { self.clone() } else { other.clone() };
        }
        if self.0.shape != other.0.shape {
            return Array::scalar(false);
        }
        let mut same = self.equal(other);
        if equal_nan {
            same = same.logical_or(self.isnan().logical_and(other.isnan()));
        }
        same.all(..)
    }
}

/// What counts as close: `|a - b| <= atol + rtol * |b|`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tolerance {
    /// Relative part.
    pub rtol: f64,
    /// Absolute part.
    pub atol: f64,
    /// Whether NaN is close to NaN.
    pub equal_nan: bool,
}

impl Default for Tolerance {
    fn default() -> Tolerance {
        Tolerance { rtol: 1e-5, atol: 1e-8, equal_nan: false }
    }
}

impl IntoOperand for Operand {
    fn into_operand(self) -> Operand {
        self
    }
}

/// `a` where `condition` is true, else `b`, with broadcasting of all three.
///
/// ```
/// use lazul_core::prelude::*;
/// let x = Array::from_slice(&[-1.0f32, 2.0], [2]);
/// assert_eq!(where_(&x.greater(0.0), &x, 0.0).to_vec::<f32>()?, [0.0, 2.0]);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[track_caller]
pub fn where_(condition: impl IntoOperand, a: impl IntoOperand, b: impl IntoOperand) -> Array {
    let site = call_site();
    let condition = condition.into_operand().into_array("where");
    let (a, b) = pair("where", a.into_operand(), b.into_operand());
    attempt(|| {
        [&condition, &a, &b].into_iter().try_for_each(Array::check)?;
        let dtype = DType::promote(a.0.dtype, b.0.dtype);
        let shape = Shape::broadcast(&a.0.shape, &b.0.shape)
            .and_then(|s| Shape::broadcast(&s, &condition.0.shape))
            .ok_or_else(|| {
                let why = "shapes cannot be broadcast";
                error(ErrorKind::Shape, "where", why, &[&condition, &a, &b])
            })?;
        let inputs = [
            fit(condition.clone(), DType::Bool, &shape, site),
            fit(a.clone(), dtype, &shape, site),
            fit(b.clone(), dtype, &shape, site),
        ];
        Ok(prim(Prim::Select, inputs, shape, dtype))
    })
}

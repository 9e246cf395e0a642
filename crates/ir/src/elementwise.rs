//! The table of element-wise operations: one row each.
//!
//! A row gives the variant, the public name, the rule by which operand dtypes give the result's, a
//! doc line, and the slope by each operand, written over [`Expr`] in the operands (`x`; `a`, `b`) and
//! the result `y`. Everything that must know all of them (names, parsers, dtype rules, kernels) matches
//! on the enums below, so the compiler lists what a new row still lacks.

use crate::{DType, dtype::Kind};
use std::f64::consts::{FRAC_2_SQRT_PI, LN_2, LN_10};
use std::ops::{Add, Div, Mul, Neg, Sub};

/// What derivatives are written in: arrays, for those who differentiate.
pub trait Expr:
    Clone
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + Add<f64, Output = Self>
    + Sub<f64, Output = Self>
    + Mul<f64, Output = Self>
{
    /// -1, 0 or 1.
    fn sign(&self) -> Self;
    /// `x * x`.
    fn square(&self) -> Self;
    /// `1 / x`.
    fn reciprocal(&self) -> Self;
    /// `1 / sqrt(x)`.
    fn rsqrt(&self) -> Self;
    /// `e^x`.
    fn exp(&self) -> Self;
    /// Sine.
    fn sin(&self) -> Self;
    /// Cosine.
    fn cos(&self) -> Self;
    /// Hyperbolic sine.
    fn sinh(&self) -> Self;
    /// Hyperbolic cosine.
    fn cosh(&self) -> Self;
    /// `1 / (1 + e^-x)`.
    fn sigmoid(&self) -> Self;
    /// Largest integer not above.
    fn floor(&self) -> Self;
    /// 1 where `self > other`, else 0, in the operands' dtype; NaN is above nothing.
    fn above(&self, other: Self) -> Self;
    /// 0 for NaN, the rest unchanged.
    fn nan_to_zero(&self) -> Self;
    /// Natural logarithm, and 0 for 0.
    fn log_or_zero(&self) -> Self;
    /// With `self` the exponent: `self * base^(self - 1)`, and 0 for the exponent 0.
    fn power_slope(&self, base: Self) -> Self;
}

/// A derivative by one operand.
pub enum Slope<E> {
    /// Zero everywhere it is defined: the operation is constant between jumps, or gives no numbers.
    Zero,
    /// One.
    One,
    /// Minus one.
    MinusOne,
    /// A value that depends on operands or result.
    Is(E),
}
use Slope::{Is, MinusOne, One, Zero};

/// How the operand dtype determines dtype of computation and result.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rule {
    /// Any dtype; the result has the operands' dtype.
    Same,
    /// Any dtype but bool; the result has the operands' dtype.
    Number,
    /// Any real dtype but bool (no complex); the result has the operands' dtype.
    RealNumber,
    /// Any dtype but complex; the result has the operands' dtype.
    Real,
    /// Integers and bool compute in f32, inexact dtypes as they are.
    Inexact,
    /// Integers and bool compute in f32; complex is refused.
    Float,
    /// Any dtype in, bool out.
    Predicate,
    /// Real dtypes in (no complex), bool out.
    Order,
    /// Operands are taken as truth values; bool out.
    Logical,
    /// Integers and bool; the result has the operands' dtype.
    Bits,
    /// Integers only.
    Integer,
    /// Any dtype; the magnitude of a complex number is an f32.
    Magnitude,
    /// Any dtype; a part of a complex number is an f32.
    Part,
    /// Float dtypes to uint8 codes.
    Encode,
    /// uint8 codes to f32.
    Decode,
}

impl Rule {
    /// `(dtype the operands are cast to, dtype of the result)`, or why not.
    pub fn resolve(self, operand: DType) -> Result<(DType, DType), &'static str> {
        let d = operand;
        let kind = d.kind();
        match self {
            Rule::Same => Ok((d, d)),
            Rule::Number if kind == Kind::Bool => Err("is not defined for bool"),
            Rule::Number => Ok((d, d)),
            Rule::RealNumber if kind == Kind::Bool => Err("is not defined for bool"),
            Rule::RealNumber | Rule::Real | Rule::Order | Rule::Float if kind == Kind::Complex => {
                Err("is not defined for complex64")
            }
            Rule::RealNumber | Rule::Real => Ok((d, d)),
            Rule::Inexact | Rule::Float => Ok((d.to_inexact(), d.to_inexact())),
            Rule::Predicate | Rule::Order => Ok((d, DType::Bool)),
            Rule::Logical => Ok((DType::Bool, DType::Bool)),
            Rule::Bits if matches!(kind, Kind::Bool | Kind::Int) => Ok((d, d)),
            Rule::Integer if kind == Kind::Int => Ok((d, d)),
            Rule::Bits | Rule::Integer => Err("is defined for integers only"),
            Rule::Magnitude | Rule::Part => {
                Ok((d, if kind == Kind::Complex { DType::F32 } else { d }))
            }
            Rule::Encode if d.is_float() => Ok((d, DType::U8)),
            Rule::Encode => Err("needs a float dtype"),
            Rule::Decode if d == DType::U8 => Ok((d, DType::F32)),
            Rule::Decode => Err("needs uint8 codes"),
        }
    }
}

macro_rules! table {
    ($(#[$doc:meta])* $enum:ident $args:tt { $($variant:ident $name:literal $rule:ident $line:literal => $($slope:expr),*;)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        #[repr(u8)]
        #[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
        pub enum $enum { $(#[doc = $line] $variant,)* }

        impl $enum {
            /// Every operation, in table order.
            pub const ALL: &'static [$enum] = &[$($enum::$variant),*];

            /// The public function's name.
            #[inline]
            pub const fn name(self) -> &'static str {
                match self { $($enum::$variant => $name,)* }
            }

            /// The dtype rule.
            #[inline]
            pub const fn rule(self) -> Rule {
                match self { $($enum::$variant => Rule::$rule,)* }
            }
        }

        table!(@slopes $enum $args $($variant => $($slope),*;)*);
    };
    (@slopes $enum:ident ($x:ident; $y:ident) $($variant:ident => $slope:expr;)*) => {
        impl $enum {
            /// The derivative at operand `x`, where the result is `y`; for complex numbers too, except
            /// for the operations that are no function of a complex variable (magnitude, parts).
            #[allow(unused_variables)]
            pub fn slope<E: Expr>(self, $x: E, $y: E) -> Slope<E> {
                match self { $($enum::$variant => $slope,)* }
            }
        }
    };
    (@slopes $enum:ident ($a:ident $b:ident; $y:ident) $($variant:ident => $by_a:expr, $by_b:expr;)*) => {
        impl $enum {
            /// The derivatives by the first (`which == 0`) or second operand.
            #[allow(unused_variables)]
            pub fn slope<E: Expr>(self, which: usize, $a: E, $b: E, $y: E) -> Slope<E> {
                match (self, which) {
                    $(($enum::$variant, 0) => $by_a, ($enum::$variant, _) => $by_b,)*
                }
            }
        }
    };
}

table! {
    /// Operations of one operand.
    UnaryOp (x; y) {
        Abs "abs" Magnitude "Magnitude; unsigned and bool values are their own." => Is(x.sign());
        Sign "sign" Same "-1, 0 or 1 (NaN stays NaN); `z/|z|` for complex numbers." => Zero;
        Negative "negative" Number "`-x`; unsigned integers wrap." => MinusOne;
        Square "square" Number "`x * x`." => Is(x * 2.0);
        Sqrt "sqrt" Inexact "Square root; NaN below zero." => Is(y.reciprocal() * 0.5);
        Rsqrt "rsqrt" Inexact "`1 / sqrt(x)`." => Is(y.square() * y * -0.5);
        Reciprocal "reciprocal" Inexact "`1 / x`." => Is(-y.square());
        Exp "exp" Inexact "`e^x`." => Is(y);
        Expm1 "expm1" Inexact "`e^x - 1`, accurate near zero." => Is(y + 1.0);
        Log "log" Inexact "Natural logarithm." => Is(x.reciprocal());
        Log2 "log2" Inexact "Logarithm to base 2." => Is((x * LN_2).reciprocal());
        Log10 "log10" Inexact "Logarithm to base 10." => Is((x * LN_10).reciprocal());
        Log1p "log1p" Inexact "`log(1 + x)`, accurate near zero." => Is((x + 1.0).reciprocal());
        Sin "sin" Inexact "Sine of radians." => Is(x.cos());
        Cos "cos" Inexact "Cosine of radians." => Is(-x.sin());
        Tan "tan" Inexact "Tangent of radians." => Is(y.square() + 1.0);
        Arcsin "arcsin" Inexact "Inverse sine." => Is((-x.square() + 1.0).rsqrt());
        Arccos "arccos" Inexact "Inverse cosine." => Is(-(-x.square() + 1.0).rsqrt());
        Arctan "arctan" Inexact "Inverse tangent." => Is((x.square() + 1.0).reciprocal());
        Sinh "sinh" Inexact "Hyperbolic sine." => Is(x.cosh());
        Cosh "cosh" Inexact "Hyperbolic cosine." => Is(x.sinh());
        Tanh "tanh" Inexact "Hyperbolic tangent." => Is(-y.square() + 1.0);
        Arcsinh "arcsinh" Inexact "Inverse hyperbolic sine." => Is((x.square() + 1.0).rsqrt());
        Arccosh "arccosh" Inexact "Inverse hyperbolic cosine." => Is((x.clone() - 1.0).rsqrt() * (x + 1.0).rsqrt());
        Arctanh "arctanh" Inexact "Inverse hyperbolic tangent." => Is((-x.square() + 1.0).reciprocal());
        Erf "erf" Float "Gauss error function." => Is((-x.square()).exp() * FRAC_2_SQRT_PI);
        Erfinv "erfinv" Float "Inverse of the error function." => Is(y.square().exp() * (1.0 / FRAC_2_SQRT_PI));
        Sigmoid "sigmoid" Inexact "`1 / (1 + e^-x)`." => Is(y.clone() * (-y + 1.0));
        Floor "floor" Real "Largest integer not above `x`; integers are their own." => Zero;
        Ceil "ceil" Real "Smallest integer not below `x`." => Zero;
        Trunc "trunc" Real "Integer part." => Zero;
        Round "round" Same "Nearest integer, halves to even; parts of complex numbers apart." => Zero;
        IsNan "isnan" Predicate "Whether the value is NaN." => Zero;
        IsInf "isinf" Predicate "Whether the value is infinite." => Zero;
        IsFinite "isfinite" Predicate "Whether the value is neither NaN nor infinite." => Zero;
        IsPosInf "isposinf" Order "Whether the value is +infinity." => Zero;
        IsNegInf "isneginf" Order "Whether the value is -infinity." => Zero;
        LogicalNot "logical_not" Logical "Truth value negated." => Zero;
        BitwiseInvert "bitwise_invert" Bits "Every bit flipped; logical not for bool." => Zero;
        Real "real" Part "Real part." => One;
        Imag "imag" Part "Imaginary part; zero for real dtypes." => Zero;
        Conj "conj" Same "Complex conjugate; real values are their own." => One;
        ToFp8 "to_fp8" Encode "Nearest e4m3 code as uint8, saturating at 448." => Zero;
        FromFp8 "from_fp8" Decode "The f32 value of an e4m3 code." => Zero;
    }
}

table! {
    /// Operations of two operands of one dtype.
    BinaryOp (a b; y) {
        Add "add" Same "Sum; logical or for bool." => One, One;
        Subtract "subtract" Number "Difference; integers wrap." => One, MinusOne;
        Multiply "multiply" Same "Product; logical and for bool." => Is(b), Is(a);
        Divide "divide" Inexact "Quotient; integers divide as f32." => Is(b.reciprocal()), Is(-(y / b));
        FloorDivide "floor_divide" RealNumber "Quotient rounded down; integer division by zero gives 0." => Zero, Zero;
        Remainder "remainder" RealNumber "Remainder with the divisor's sign; integer remainder by zero gives 0." => One, Is(-(a / b).floor());
        Power "power" Same "`a^b`; a negative integer exponent gives 0 except for bases 1 and -1." => Is(b.power_slope(a)), Is(y * a.log_or_zero());
        Maximum "maximum" Real "Larger of the two; NaN if either is." => Is(a.above(b)), Is(-a.above(b) + 1.0);
        Minimum "minimum" Real "Smaller of the two; NaN if either is." => Is(b.above(a)), Is(-b.above(a) + 1.0);
        LogAddExp "logaddexp" Float "`log(e^a + e^b)` without overflow." => Is((a - b).nan_to_zero().sigmoid()), Is((b - a).nan_to_zero().sigmoid());
        Arctan2 "arctan2" Float "Angle of the point `(b, a)`." => Is(b.clone() / (a.square() + b.square())), Is(-a.clone() / (a.square() + b.square()));
        Equal "equal" Predicate "Whether `a == b`; NaN equals nothing." => Zero, Zero;
        NotEqual "not_equal" Predicate "Whether `a != b`." => Zero, Zero;
        Less "less" Order "Whether `a < b`." => Zero, Zero;
        LessEqual "less_equal" Order "Whether `a <= b`." => Zero, Zero;
        Greater "greater" Order "Whether `a > b`." => Zero, Zero;
        GreaterEqual "greater_equal" Order "Whether `a >= b`." => Zero, Zero;
        LogicalAnd "logical_and" Logical "Both are true." => Zero, Zero;
        LogicalOr "logical_or" Logical "Either is true." => Zero, Zero;
        LogicalXor "logical_xor" Logical "Exactly one is true." => Zero, Zero;
        BitwiseAnd "bitwise_and" Bits "Bits set in both." => Zero, Zero;
        BitwiseOr "bitwise_or" Bits "Bits set in either." => Zero, Zero;
        BitwiseXor "bitwise_xor" Bits "Bits set in exactly one." => Zero, Zero;
        LeftShift "left_shift" Integer "Bits moved up; shifts of the width or more give 0." => Zero, Zero;
        RightShift "right_shift" Integer "Bits moved down, the sign kept; shifts of the width or more give the sign." => Zero, Zero;
    }
}

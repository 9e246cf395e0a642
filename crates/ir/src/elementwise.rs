//! The table of element-wise operations: one row each.
//!
//! A row gives the variant, the public name, the rule by which operand dtypes give the result's, and
//! a doc line. Everything that must know all of them (names, parsers, dtype rules, kernels) matches
//! on the enums below, so the compiler lists what a new row still lacks.

use crate::{DType, dtype::Kind};

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
    ($(#[$doc:meta])* $enum:ident { $($variant:ident $name:literal $rule:ident $line:literal;)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        #[repr(u8)]
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
    };
}

table! {
    /// Operations of one operand.
    UnaryOp {
        Abs "abs" Magnitude "Magnitude; unsigned and bool values are their own.";
        Sign "sign" Same "-1, 0 or 1 (NaN stays NaN); `z/|z|` for complex numbers.";
        Negative "negative" Number "`-x`; unsigned integers wrap.";
        Square "square" Number "`x * x`.";
        Sqrt "sqrt" Inexact "Square root; NaN below zero.";
        Rsqrt "rsqrt" Inexact "`1 / sqrt(x)`.";
        Reciprocal "reciprocal" Inexact "`1 / x`.";
        Exp "exp" Inexact "`e^x`.";
        Expm1 "expm1" Inexact "`e^x - 1`, accurate near zero.";
        Log "log" Inexact "Natural logarithm.";
        Log2 "log2" Inexact "Logarithm to base 2.";
        Log10 "log10" Inexact "Logarithm to base 10.";
        Log1p "log1p" Inexact "`log(1 + x)`, accurate near zero.";
        Sin "sin" Inexact "Sine of radians.";
        Cos "cos" Inexact "Cosine of radians.";
        Tan "tan" Inexact "Tangent of radians.";
        Arcsin "arcsin" Inexact "Inverse sine.";
        Arccos "arccos" Inexact "Inverse cosine.";
        Arctan "arctan" Inexact "Inverse tangent.";
        Sinh "sinh" Inexact "Hyperbolic sine.";
        Cosh "cosh" Inexact "Hyperbolic cosine.";
        Tanh "tanh" Inexact "Hyperbolic tangent.";
        Arcsinh "arcsinh" Inexact "Inverse hyperbolic sine.";
        Arccosh "arccosh" Inexact "Inverse hyperbolic cosine.";
        Arctanh "arctanh" Inexact "Inverse hyperbolic tangent.";
        Erf "erf" Float "Gauss error function.";
        Erfinv "erfinv" Float "Inverse of the error function.";
        Sigmoid "sigmoid" Inexact "`1 / (1 + e^-x)`.";
        Floor "floor" Real "Largest integer not above `x`; integers are their own.";
        Ceil "ceil" Real "Smallest integer not below `x`.";
        Trunc "trunc" Real "Integer part.";
        Round "round" Same "Nearest integer, halves to even; parts of complex numbers apart.";
        IsNan "isnan" Predicate "Whether the value is NaN.";
        IsInf "isinf" Predicate "Whether the value is infinite.";
        IsFinite "isfinite" Predicate "Whether the value is neither NaN nor infinite.";
        IsPosInf "isposinf" Order "Whether the value is +infinity.";
        IsNegInf "isneginf" Order "Whether the value is -infinity.";
        LogicalNot "logical_not" Logical "Truth value negated.";
        BitwiseInvert "bitwise_invert" Bits "Every bit flipped; logical not for bool.";
        Real "real" Part "Real part.";
        Imag "imag" Part "Imaginary part; zero for real dtypes.";
        Conj "conj" Same "Complex conjugate; real values are their own.";
        ToFp8 "to_fp8" Encode "Nearest e4m3 code as uint8, saturating at 448.";
        FromFp8 "from_fp8" Decode "The f32 value of an e4m3 code.";
    }
}

table! {
    /// Operations of two operands of one dtype.
    BinaryOp {
        Add "add" Same "Sum; logical or for bool.";
        Subtract "subtract" Number "Difference; integers wrap.";
        Multiply "multiply" Same "Product; logical and for bool.";
        Divide "divide" Inexact "Quotient; integers divide as f32.";
        FloorDivide "floor_divide" RealNumber "Quotient rounded down; integer division by zero gives 0.";
        Remainder "remainder" RealNumber "Remainder with the divisor's sign; integer remainder by zero gives 0.";
        Power "power" Same "`a^b`; a negative integer exponent gives 0 except for bases 1 and -1.";
        Maximum "maximum" Real "Larger of the two; NaN if either is.";
        Minimum "minimum" Real "Smaller of the two; NaN if either is.";
        LogAddExp "logaddexp" Float "`log(e^a + e^b)` without overflow.";
        Arctan2 "arctan2" Float "Angle of the point `(b, a)`.";
        Equal "equal" Predicate "Whether `a == b`; NaN equals nothing.";
        NotEqual "not_equal" Predicate "Whether `a != b`.";
        Less "less" Order "Whether `a < b`.";
        LessEqual "less_equal" Order "Whether `a <= b`.";
        Greater "greater" Order "Whether `a > b`.";
        GreaterEqual "greater_equal" Order "Whether `a >= b`.";
        LogicalAnd "logical_and" Logical "Both are true.";
        LogicalOr "logical_or" Logical "Either is true.";
        LogicalXor "logical_xor" Logical "Exactly one is true.";
        BitwiseAnd "bitwise_and" Bits "Bits set in both.";
        BitwiseOr "bitwise_or" Bits "Bits set in either.";
        BitwiseXor "bitwise_xor" Bits "Bits set in exactly one.";
        LeftShift "left_shift" Integer "Bits moved up; shifts of the width or more give 0.";
        RightShift "right_shift" Integer "Bits moved down, the sign kept; shifts of the width or more give the sign.";
    }
}

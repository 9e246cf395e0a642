//! The device function of each element-wise operation for each dtype: exhaustive, as the table is.

use lazul_ir::{BinaryOp, DType, UnaryOp};

/// What a step computes, as text.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Form {
    /// A call of the function of this name.
    Call(&'static str),
    /// The argument itself.
    Identity,
    /// This constant, whatever the argument.
    Constant(&'static str),
    /// On pairs of a half type, a member of `Pair`; of both arguments the same for a square.
    Packed(&'static str),
    /// On the bits of pairs of a half type: `(p op constant)`.
    Bits(&'static str, &'static str),
}

use Form::{Bits, Call, Constant, Identity, Packed};

/// The form of a unary operation on `dtype`.
pub(super) fn unary(op: UnaryOp, dtype: DType) -> Form {
    use UnaryOp::*;
    let half = matches!(dtype, DType::F16 | DType::BF16);
    let exact = !dtype.is_inexact();
    let bool = dtype == DType::Bool;
    let real = dtype != DType::C64;
    match op {
        Abs | Sign if bool => Identity,
        Abs if half => Bits("&", "0x7fff7fffu"),
        Abs => Call("u_abs"),
        Sign => Call("u_sign"),
        Negative if half => Bits("^", "0x80008000u"),
        Negative => Call("u_negative"),
        Square if bool => Identity,
        Square if half => Packed("mul"),
        Square => Call("u_square"),
        Sqrt => Call("u_sqrt"),
        Rsqrt => Call("u_rsqrt"),
        Reciprocal => Call("u_reciprocal"),
        Exp if half => Call("h_exp"),
        Exp => Call("u_exp"),
        Expm1 => Call("u_expm1"),
        Log => Call("u_log"),
        Log2 => Call("u_log2"),
        Log10 => Call("u_log10"),
        Log1p => Call("u_log1p"),
        Sin => Call("u_sin"),
        Cos => Call("u_cos"),
        Tan => Call("u_tan"),
        Arcsin => Call("u_asin"),
        Arccos => Call("u_acos"),
        Arctan => Call("u_atan"),
        Sinh => Call("u_sinh"),
        Cosh => Call("u_cosh"),
        Tanh => Call("u_tanh"),
        Arcsinh => Call("u_asinh"),
        Arccosh => Call("u_acosh"),
        Arctanh => Call("u_atanh"),
        Erf if half => Call("h_erf"),
        Erf => Call("u_erf"),
        Erfinv => Call("u_erfinv"),
        Sigmoid if half => Call("h_sigmoid"),
        Sigmoid => Call("u_sigmoid"),
        Floor | Ceil | Trunc | Round if exact => Identity,
        Floor => Call("u_floor"),
        Ceil => Call("u_ceil"),
        Trunc => Call("u_trunc"),
        Round => Call("u_round"),
        IsNan | IsInf | IsPosInf | IsNegInf if exact => Constant("u8(0)"),
        IsFinite if exact => Constant("u8(1)"),
        IsNan => Call("u_isnan"),
        IsInf => Call("u_isinf"),
        IsFinite => Call("u_isfinite"),
        IsPosInf => Call("u_isposinf"),
        IsNegInf => Call("u_isneginf"),
        LogicalNot => Call("b_not"),
        BitwiseInvert if bool => Call("b_not"),
        BitwiseInvert => Call("u_bitwise_invert"),
        Real | Conj if real => Identity,
        Imag if real => Constant("0"),
        Real => Call("u_real"),
        Imag => Call("u_imag"),
        Conj => Call("u_conj"),
        ToFp8 => Call("u_to_fp8"),
        FromFp8 => Call("u_from_fp8"),
    }
}

/// The form of a binary operation on `dtype`.
pub(super) fn binary(op: BinaryOp, dtype: DType) -> Form {
    use BinaryOp::*;
    let half = matches!(dtype, DType::F16 | DType::BF16);
    if dtype == DType::Bool {
        return Call(match op {
            Add | LogicalOr | BitwiseOr | Maximum => "b_or",
            Multiply | LogicalAnd | BitwiseAnd | Minimum => "b_and",
            LogicalXor | BitwiseXor | NotEqual | Subtract => "b_xor",
            Equal => "b_same",
            Power | GreaterEqual => "b_greater_equal",
            Greater => "b_greater",
            Less => "b_less",
            LessEqual => "b_less_equal",
            // The table's rules admit no truth values here.
            Divide | FloorDivide | Remainder | LogAddExp | Arctan2 | LeftShift | RightShift => {
                "not_for_bool"
            }
        });
    }
    match op {
        Add if half => Packed("add"),
        Subtract if half => Packed("sub"),
        Multiply if half => Packed("mul"),
        Divide if dtype == DType::BF16 => Call("h_divide"),
        Add => Call("o_add"),
        Subtract => Call("o_subtract"),
        Multiply => Call("o_multiply"),
        Divide => Call("o_divide"),
        FloorDivide => Call("o_floor_divide"),
        Remainder => Call("o_remainder"),
        Power => Call("o_power"),
        Maximum => Call("o_maximum"),
        Minimum => Call("o_minimum"),
        LogAddExp => Call("o_logaddexp"),
        Arctan2 => Call("o_arctan2"),
        Equal => Call("o_equal"),
        NotEqual => Call("o_not_equal"),
        Less => Call("o_less"),
        LessEqual => Call("o_less_equal"),
        Greater => Call("o_greater"),
        GreaterEqual => Call("o_greater_equal"),
        LogicalAnd => Call("b_and"),
        LogicalOr => Call("b_or"),
        LogicalXor => Call("b_xor"),
        BitwiseAnd => Call("o_bitwise_and"),
        BitwiseOr => Call("o_bitwise_or"),
        BitwiseXor => Call("o_bitwise_xor"),
        LeftShift => Call("o_left_shift"),
        RightShift => Call("o_right_shift"),
    }
}

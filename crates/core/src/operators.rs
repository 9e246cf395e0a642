//! `+ - * / % & | ^ << >> ! -` between `&Array`, `Array` and Rust scalars, in any order.

use crate::node::Array;
use crate::operand::IntoOperand;
use crate::ops::elementwise::binary;
use lazul_ir::{BinaryOp, Complex32};
use std::ops::*;

macro_rules! operators {
    ($($trait:ident $method:ident $op:ident;)*) => {$(
        impl<R: IntoOperand> $trait<R> for Array {
            type Output = Array;
            #[track_caller]
            fn $method(self, right: R) -> Array {
                binary(BinaryOp::$op, self.into_operand(), right.into_operand())
            }
        }
        impl<R: IntoOperand> $trait<R> for &Array {
            type Output = Array;
            #[track_caller]
            fn $method(self, right: R) -> Array {
                binary(BinaryOp::$op, self.into_operand(), right.into_operand())
            }
        }
        operators!(@scalars $trait $method $op; bool u8 u16 u32 u64 usize i8 i16 i32 i64 f32 f64 Complex32);
    )*};
    (@scalars $trait:ident $method:ident $op:ident; $($t:ty)*) => {$(
        impl $trait<Array> for $t {
            type Output = Array;
            #[track_caller]
            fn $method(self, right: Array) -> Array {
                binary(BinaryOp::$op, self.into_operand(), right.into_operand())
            }
        }
        impl $trait<&Array> for $t {
            type Output = Array;
            #[track_caller]
            fn $method(self, right: &Array) -> Array {
                binary(BinaryOp::$op, self.into_operand(), right.into_operand())
            }
        }
    )*};
}
operators! {
    Add add Add;
    Sub sub Subtract;
    Mul mul Multiply;
    Div div Divide;
    Rem rem Remainder;
    BitAnd bitand BitwiseAnd;
    BitOr bitor BitwiseOr;
    BitXor bitxor BitwiseXor;
    Shl shl LeftShift;
    Shr shr RightShift;
}

macro_rules! assign {
    ($($trait:ident $method:ident $op:ident;)*) => {$(
        /// Replaces the array by the result; other clones keep the old value.
        impl<R: IntoOperand> $trait<R> for Array {
            #[track_caller]
            fn $method(&mut self, right: R) {
                *self = binary(BinaryOp::$op, (&*self).into_operand(), right.into_operand());
            }
        }
    )*};
}
assign! {
    AddAssign add_assign Add;
    SubAssign sub_assign Subtract;
    MulAssign mul_assign Multiply;
    DivAssign div_assign Divide;
    RemAssign rem_assign Remainder;
    BitAndAssign bitand_assign BitwiseAnd;
    BitOrAssign bitor_assign BitwiseOr;
    BitXorAssign bitxor_assign BitwiseXor;
    ShlAssign shl_assign LeftShift;
    ShrAssign shr_assign RightShift;
}

impl Neg for Array {
    type Output = Array;
    #[track_caller]
    fn neg(self) -> Array {
        self.negative()
    }
}

impl Neg for &Array {
    type Output = Array;
    #[track_caller]
    fn neg(self) -> Array {
        self.negative()
    }
}

impl Not for Array {
    type Output = Array;
    #[track_caller]
    fn not(self) -> Array {
        self.bitwise_invert()
    }
}

impl Not for &Array {
    type Output = Array;
    #[track_caller]
    fn not(self) -> Array {
        self.bitwise_invert()
    }
}

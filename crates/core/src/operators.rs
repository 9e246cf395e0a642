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

#[cfg(test)]
mod tests {
    use crate::prelude::*;

    #[test]
    fn operators_between_arrays_and_numbers() {
        let x = Array::from_slice(&[7, -6], [2]);
        let is = |y: Array, v: [i32; 2]| assert_eq!(y.to_vec::<i32>().unwrap(), v);
        is(&x + &x, [14, -12]);
        is(1 - &x, [-6, 7]);
        is(&x * 2, [14, -12]);
        is(20 % &x, [6, -4]);
        is(&x & 3, [3, 2]);
        is(&x | 8, [15, -6]);
        is(1 ^ &x, [6, -5]);
        is(&x << 1, [14, -12]);
        is(&x >> 1, [3, -3]);
        is(-&x, [-7, 6]);
        is(!&x, [-8, 5]);
        assert_eq!((&x / 2).to_vec::<f32>().unwrap(), [3.5, -3.0]);
    }

    #[test]
    fn operators_that_assign() {
        let x = Array::from_slice(&[7, -6], [2]);
        macro_rules! after {
            ($op:tt, $v:expr) => {{
                let mut y = x.clone();
                y $op $v;
                y
            }};
        }
        let is = |y: Array, v: [i32; 2]| assert_eq!(y.to_vec::<i32>().unwrap(), v);
        is(after!(+=, 1), [8, -5]);
        is(after!(-=, &x), [0, 0]);
        is(after!(*=, 3), [21, -18]);
        is(after!(%=, 4), [3, 2]);
        is(after!(&=, 3), [3, 2]);
        is(after!(|=, 8), [15, -6]);
        is(after!(^=, 1), [6, -5]);
        is(after!(<<=, 1), [14, -12]);
        is(after!(>>=, 1), [3, -3]);
        assert_eq!(after!(/=, 2).to_vec::<f32>().unwrap(), [3.5, -3.0]);
        // Other holders keep the old value.
        is(x, [7, -6]);
    }
}

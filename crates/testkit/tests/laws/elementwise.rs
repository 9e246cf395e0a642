//! Cases of the element-wise tables, of `where` and of casts.

use crate::case::{ALL, AROUND, Case, Domain, Input};
use Domain::{Choice, OffSteps, Spread};
use lazul_core::{Array, DType, where_};
use lazul_ir::elementwise::Rule;
use lazul_ir::{BinaryOp, UnaryOp};

/// Dtypes that a rule takes.
fn accepted(rule: Rule) -> Vec<DType> {
    DType::ALL.into_iter().filter(|&d| rule.resolve(d).is_ok()).collect()
}

pub(crate) fn unary(op: UnaryOp) -> Vec<Case> {
    use UnaryOp::*;
    type F = fn(&Array) -> Array;
    let (f, domain): (F, Domain) = match op {
        Abs => (Array::abs, AROUND),
        Sign => (Array::sign, AROUND),
        Negative => (Array::negative, AROUND),
        Square => (Array::square, AROUND),
        Sqrt => (Array::sqrt, Spread(0.8, 3.0)),
        Rsqrt => (Array::rsqrt, Spread(0.8, 3.0)),
        Reciprocal => (Array::reciprocal, Spread(0.8, 3.0)),
        Exp => (Array::exp, AROUND),
        Expm1 => (Array::expm1, AROUND),
        Log => (Array::log, Spread(0.8, 3.0)),
        Log2 => (Array::log2, Spread(0.8, 3.0)),
        Log10 => (Array::log10, Spread(0.8, 3.0)),
        Log1p => (Array::log1p, Spread(-0.3, 2.0)),
        Sin => (Array::sin, Spread(-3.0, 3.2)),
        Cos => (Array::cos, Spread(-3.0, 3.2)),
        Tan => (Array::tan, Spread(-1.0, 0.9)),
        Arcsin => (Array::arcsin, Spread(-0.6, 0.5)),
        Arccos => (Array::arccos, Spread(-0.6, 0.5)),
        Arctan => (Array::arctan, AROUND),
        Sinh => (Array::sinh, AROUND),
        Cosh => (Array::cosh, AROUND),
        Tanh => (Array::tanh, AROUND),
        Arcsinh => (Array::arcsinh, AROUND),
        Arccosh => (Array::arccosh, Spread(1.5, 4.0)),
        Arctanh => (Array::arctanh, Spread(-0.6, 0.5)),
        Erf => (Array::erf, AROUND),
        Erfinv => (Array::erfinv, Spread(-0.8, 0.7)),
        Sigmoid => (Array::sigmoid, Spread(-4.0, 3.0)),
        Floor => (Array::floor, OffSteps),
        Ceil => (Array::ceil, OffSteps),
        Trunc => (Array::trunc, OffSteps),
        Round => (|x| x.round(0), OffSteps),
        IsNan => (Array::isnan, Choice(&[0.5, f64::NAN, f64::INFINITY])),
        IsInf => (Array::isinf, Choice(&[0.5, f64::NAN, f64::NEG_INFINITY])),
        IsFinite => (Array::isfinite, Choice(&[0.5, f64::NAN, f64::INFINITY])),
        IsPosInf => (Array::isposinf, Choice(&[0.5, f64::NEG_INFINITY, f64::INFINITY])),
        IsNegInf => (Array::isneginf, Choice(&[0.5, f64::NEG_INFINITY, f64::INFINITY])),
        LogicalNot => (Array::logical_not, Choice(&[0.0, 1.0, 2.5])),
        BitwiseInvert => (Array::bitwise_invert, AROUND),
        Real => (Array::real, AROUND),
        Imag => (Array::imag, AROUND),
        Conj => (Array::conj, AROUND),
        ToFp8 => (Array::to_fp8, AROUND),
        FromFp8 => (|x| x.from_fp8(DType::F32), Choice(&[0.0, 1.0, 20.5, 31.0, 60.0])),
    };
    let shapes: [&[usize]; 5] = [&[3, 4], &[], &[1], &[0, 3], &[2, 1, 3]];
    let case = |shape: &&[usize]| {
        let inputs = vec![Input::numbers(shape, domain)];
        let name = format!("{} {shape:?}", op.name());
        Case::new(name, &accepted(op.rule()), inputs, move |x| f(&x[0])).exact()
    };
    shapes.iter().map(case).collect()
}

pub(crate) fn binary(op: BinaryOp) -> Vec<Case> {
    use BinaryOp::*;
    type F = fn(&Array, &Array) -> Array;
    const FEW: Domain = Choice(&[-1.0, 0.0, 0.5, 1.0]);
    const SHIFTS: Domain = Choice(&[0.0, 0.5, 1.0, 1.5]);
    let (f, a, b): (F, Domain, Domain) = match op {
        Add => (|a, b| a + b, AROUND, AROUND),
        Subtract => (|a, b| a - b, AROUND, AROUND),
        Multiply => (|a, b| a * b, AROUND, AROUND),
        Divide => (|a, b| a / b, AROUND, Spread(0.8, 2.5)),
        FloorDivide => (|a, b| a.floor_divide(b), OffSteps, Choice(&[1.0, -1.0, 0.5])),
        Remainder => (|a, b| a % b, OffSteps, Choice(&[1.0, -1.0, 0.5])),
        Power => (|a, b| a.power(b), Spread(0.6, 2.5), Spread(-1.5, 2.5)),
        Maximum => (|a, b| a.maximum(b), AROUND, Spread(-2.0, 2.0)),
        Minimum => (|a, b| a.minimum(b), AROUND, Spread(-2.0, 2.0)),
        LogAddExp => (|a, b| a.logaddexp(b), AROUND, AROUND),
        Arctan2 => (|a, b| a.arctan2(b), Spread(0.3, 2.0), AROUND),
        Equal => (|a, b| a.equal(b), FEW, FEW),
        NotEqual => (|a, b| a.not_equal(b), FEW, FEW),
        Less => (|a, b| a.less(b), FEW, FEW),
        LessEqual => (|a, b| a.less_equal(b), FEW, FEW),
        Greater => (|a, b| a.greater(b), FEW, FEW),
        GreaterEqual => (|a, b| a.greater_equal(b), FEW, FEW),
        LogicalAnd => (|a, b| a.logical_and(b), FEW, FEW),
        LogicalOr => (|a, b| a.logical_or(b), FEW, FEW),
        LogicalXor => (|a, b| a.logical_xor(b), FEW, FEW),
        BitwiseAnd => (|a, b| a & b, AROUND, AROUND),
        BitwiseOr => (|a, b| a | b, AROUND, AROUND),
        BitwiseXor => (|a, b| a ^ b, AROUND, AROUND),
        LeftShift => (|a, b| a << b, AROUND, SHIFTS),
        RightShift => (|a, b| a >> b, AROUND, SHIFTS),
    };
    let shapes: [[&[usize]; 2]; 6] = [
        [&[3, 4], &[3, 4]],
        [&[3, 4], &[4]],
        [&[3, 1], &[1, 4]],
        [&[], &[3]],
        [&[], &[]],
        [&[0, 3], &[1, 3]],
    ];
    let case = |[s, t]: &[&[usize]; 2]| {
        let inputs = vec![Input::numbers(s, a), Input::numbers(t, b)];
        let name = format!("{} {s:?} {t:?}", op.name());
        Case::new(name, &accepted(op.rule()), inputs, move |x| f(&x[0], &x[1])).exact()
    };
    let mut all: Vec<Case> = shapes.iter().map(case).collect();
    // One array for both operands: both slopes meet in one gradient.
    if !matches!(op, Maximum | Minimum | Remainder | FloorDivide) {
        let domain = if matches!(op, Divide | Power | Arctan2) { Spread(0.8, 2.0) } else { a };
        let inputs = vec![Input::numbers(&[2, 3], domain)];
        let name = format!("{} x x", op.name());
        all.push(Case::new(name, &accepted(op.rule()), inputs, move |x| f(&x[0], &x[0])).exact());
    }
    all
}

pub(crate) fn select() -> Vec<Case> {
    let shapes: [[&[usize]; 3]; 4] = [
        [&[3, 4], &[3, 4], &[3, 4]],
        [&[3, 1], &[4], &[]],
        [&[], &[2], &[2]],
        [&[0, 2], &[0, 2], &[2]],
    ];
    let case = |[c, a, b]: &[&[usize]; 3]| {
        let inputs = vec![Input::mask(c), Input::numbers(a, AROUND), Input::numbers(b, AROUND)];
        let name = format!("where {c:?} {a:?} {b:?}");
        Case::new(name, ALL, inputs, |x| where_(&x[0], &x[1], &x[2])).exact()
    };
    shapes.iter().map(case).collect()
}

pub(crate) fn cast() -> Vec<Case> {
    let mut all = Vec::new();
    for from in DType::ALL {
        for to in DType::ALL {
            for shape in [&[2, 3][..], &[], &[0]] {
                let inputs = vec![Input::numbers(shape, OffSteps)];
                let name = format!("{from} to {to} {shape:?}");
                all.push(Case::new(name, &[from], inputs, move |x| x[0].astype(to)).exact());
            }
        }
    }
    all
}

//! Element-wise operations against naive references: every operation, dtype and kind of layout.

use crate::testing::{Rng, Tensor, inline, layouts, run, run_fused};
use lazul_ir::DType::{self, *};
use lazul_ir::{BinaryOp, Complex32, Prim, Scalar, Step, StepOp, Tape, UnaryOp};

/// Values that matter for a dtype: specials first, then a spread.
fn values(dtype: DType, rng: &mut Rng, n: usize) -> Tensor {
    let mut v = match dtype {
        Bool => vec![0.0, 1.0],
        d if d.is_float() => {
            vec![
                0.0,
                -0.0,
                1.0,
                -1.0,
                0.5,
                -0.5,
                2.5,
                -3.5,
                f64::NAN,
                f64::INFINITY,
                -f64::INFINITY,
            ]
        }
        d if d.is_unsigned() => vec![0.0, 1.0, 2.0, 3.0, 7.0, 8.0, 9.0, 31.0, 64.0, 1e30],
        C64 => vec![0.0, 1.0, -1.0, 0.5],
        _ => vec![0.0, 1.0, -1.0, 2.0, -2.0, 7.0, -8.0, 31.0, 33.0, 1e30, -1e30],
    };
    while v.len() < n {
        v.push(if dtype == Bool { rng.below(2) as f64 } else { rng.uniform(-6.0, 9.0) });
    }
    v.truncate(n);
    if dtype == C64 {
        let z: Vec<Complex32> =
            v.iter().map(|&x| Complex32::new(x as f32, rng.uniform(-2.0, 2.0) as f32)).collect();
        return Tensor::new(&z, &[n]);
    }
    Tensor::from_f64(&v, dtype, &[n])
}

/// Largest error allowed, relative to the result.
fn tolerance(dtype: DType) -> f64 {
    match dtype {
        F16 => 1.0 / 1024.0,
        BF16 => 1.0 / 128.0,
        F64 => 4e-15,
        _ => 5e-7,
    }
}

fn close(got: Scalar, want: f64) -> bool {
    let rounded = Scalar::from_f64(want, got.dtype).to_f64();
    let g = got.to_f64();
    g == rounded
        || g.is_nan() && rounded.is_nan()
        || (g - want).abs() <= tolerance(got.dtype) * want.abs().max(1e-30)
}

fn reference(op: UnaryOp, x: f64) -> f64 {
    use UnaryOp::*;
    match op {
        Abs => x.abs(),
        Sign if x == 0.0 || x.is_nan() => x,
        Sign => x.signum(),
        Negative => -x,
        Square => x * x,
        Sqrt => x.sqrt(),
        Rsqrt => 1.0 / x.sqrt(),
        Reciprocal => 1.0 / x,
        Exp => x.exp(),
        Expm1 => x.exp_m1(),
        Log => x.ln(),
        Log2 => x.log2(),
        Log10 => x.log10(),
        Log1p => x.ln_1p(),
        Sin => x.sin(),
        Cos => x.cos(),
        Tan => x.tan(),
        Arcsin => x.asin(),
        Arccos => x.acos(),
        Arctan => x.atan(),
        Sinh => x.sinh(),
        Cosh => x.cosh(),
        Tanh => x.tanh(),
        Arcsinh => x.asinh(),
        Arccosh => x.acosh(),
        Arctanh => x.atanh(),
        Erf => crate::math::double::erf(x),
        Erfinv => crate::math::double::erfinv(x),
        Sigmoid => 1.0 / (1.0 + (-x).exp()),
        Floor => x.floor(),
        Ceil => x.ceil(),
        Trunc => x.trunc(),
        Round => x.round_ties_even(),
        IsNan => x.is_nan() as u8 as f64,
        IsInf => x.is_infinite() as u8 as f64,
        IsFinite => x.is_finite() as u8 as f64,
        IsPosInf => (x == f64::INFINITY) as u8 as f64,
        IsNegInf => (x == f64::NEG_INFINITY) as u8 as f64,
        LogicalNot => (x == 0.0) as u8 as f64,
        Real | Conj => x,
        Imag => 0.0,
        BitwiseInvert | ToFp8 | FromFp8 => unreachable!(),
    }
}

/// What wrapping gives for an exact integer result.
fn wrap(value: i128, dtype: DType) -> u64 {
    value as u64 & (u64::MAX >> (64 - 8 * dtype.size()))
}

#[test]
fn unary_operations_on_real_numbers() {
    let mut rng = Rng(11);
    for &op in UnaryOp::ALL {
        if matches!(op, UnaryOp::ToFp8 | UnaryOp::FromFp8) {
            continue;
        }
        for dtype in DType::ALL {
            let Ok((operand, result)) = op.rule().resolve(dtype) else { continue };
            if operand != dtype || operand == C64 {
                continue;
            }
            for n in [1, 40, 1500] {
                let x = values(operand, &mut rng, n);
                let out = run(&Prim::Unary(op), &[&x], result, &[n]);
                for (x, got) in x.scalars().into_iter().zip(out.scalars()) {
                    let name = op.name();
                    if result == Bool && op != UnaryOp::BitwiseInvert {
                        let want = Scalar::new(reference(op, x.to_f64()) != 0.0);
                        assert_eq!(got, want, "{name} {x:?}");
                    } else if op == UnaryOp::BitwiseInvert {
                        let want =
                            if operand == Bool { x.bits ^ 1 } else { wrap(!x.to_i128(), operand) };
                        assert_eq!(got.bits, want, "{name} {x:?}");
                    } else if result.is_integer() {
                        let v = x.to_i128();
                        let want = match op {
                            UnaryOp::Abs => v.abs(),
                            UnaryOp::Sign => v.signum(),
                            UnaryOp::Negative => -v,
                            UnaryOp::Square => v.wrapping_mul(v),
                            UnaryOp::Imag => 0,
                            _ => v,
                        };
                        assert_eq!(got.bits, wrap(want, operand), "{name} {x:?}");
                    } else {
                        let want = reference(op, x.to_f64());
                        assert!(close(got, want), "{name} {x:?}: {got:?}, not {want}");
                    }
                }
            }
        }
    }
}

fn reference2(op: BinaryOp, a: f64, b: f64) -> f64 {
    use BinaryOp::*;
    match op {
        Add => a + b,
        Subtract => a - b,
        Multiply => a * b,
        Divide => a / b,
        FloorDivide => (a / b).floor(),
        Remainder => {
            let r = a % b;
            if r != 0.0 && (r < 0.0) != (b < 0.0) { r + b } else { r }
        }
        Power => a.powf(b),
        Maximum if a.is_nan() || b.is_nan() => f64::NAN,
        Minimum if a.is_nan() || b.is_nan() => f64::NAN,
        Maximum => a.max(b),
        Minimum => a.min(b),
        LogAddExp => crate::math::double::logaddexp(a, b),
        Arctan2 => a.atan2(b),
        _ => unreachable!(),
    }
}

fn integer2(op: BinaryOp, a: i128, b: i128, width: u32) -> i128 {
    use BinaryOp::*;
    let signed_shift = if (0..width as i128).contains(&b) { b as u32 } else { width };
    match op {
        Add => a + b,
        Subtract => a - b,
        Multiply => a.wrapping_mul(b),
        FloorDivide if b == 0 => 0,
        Remainder if b == 0 => 0,
        FloorDivide => a.div_euclid(b) - (b < 0 && a.rem_euclid(b) != 0) as i128,
        Remainder => a - b * integer2(FloorDivide, a, b, width),
        Power if b < 0 => match a {
            1 => 1,
            -1 => 1 - 2 * (b & 1),
            _ => 0,
        },
        Power => {
            let (mut r, mut base, mut e) = (1i128, a, b);
            while e > 0 {
                if e & 1 == 1 {
                    r = r.wrapping_mul(base);
                }
                base = base.wrapping_mul(base);
                e >>= 1;
            }
            r
        }
        Maximum => a.max(b),
        Minimum => a.min(b),
        BitwiseAnd => a & b,
        BitwiseOr => a | b,
        BitwiseXor => a ^ b,
        LeftShift => a << signed_shift,
        RightShift => a >> signed_shift.min(100),
        _ => unreachable!(),
    }
}

#[test]
fn binary_operations_on_real_numbers() {
    use BinaryOp::*;
    let mut rng = Rng(12);
    for &op in BinaryOp::ALL {
        for dtype in DType::ALL {
            let Ok((operand, result)) = op.rule().resolve(dtype) else { continue };
            if operand != dtype || operand == C64 {
                continue;
            }
            for n in [1, 13, 600, 1500] {
                let a = values(operand, &mut rng, n);
                // Every special value meets every other: the second operand is rotated.
                let mut b = values(operand, &mut rng, n).scalars();
                let shift = rng.below(n);
                b.rotate_right(shift);
                let b = Tensor::from_f64(
                    &b.iter().map(|s| s.to_f64()).collect::<Vec<_>>(),
                    operand,
                    &[n],
                );
                let out = run(&Prim::Binary(op), &[&a, &b], result, &[n]);
                let pairs = a.scalars().into_iter().zip(b.scalars());
                for ((a, b), got) in pairs.zip(out.scalars()) {
                    let (x, y) = (a.to_f64(), b.to_f64());
                    let (i, j) = (a.to_i128(), b.to_i128());
                    let exact = !operand.is_inexact();
                    let what = format!("{} {a:?} {b:?}: {got:?}", op.name());
                    let truth = match op {
                        Equal => Some(if exact { i == j } else { x == y }),
                        NotEqual => Some(if exact { i != j } else { x != y }),
                        Less => Some(if exact { i < j } else { x < y }),
                        LessEqual => Some(if exact { i <= j } else { x <= y }),
                        Greater => Some(if exact { i > j } else { x > y }),
                        GreaterEqual => Some(if exact { i >= j } else { x >= y }),
                        _ if operand != Bool => None,
                        Add | LogicalOr | BitwiseOr | Maximum => Some(i | j == 1),
                        Multiply | LogicalAnd | BitwiseAnd | Minimum => Some(i & j == 1),
                        LogicalXor | BitwiseXor => Some(i != j),
                        Power => Some(i == 1 || j == 0),
                        _ => unreachable!("{what}"),
                    };
                    if let Some(truth) = truth {
                        assert_eq!(got, Scalar::new(truth), "{what}");
                    } else if exact {
                        let want = wrap(integer2(op, i, j, operand.size() as u32 * 8), operand);
                        assert_eq!(got.bits, want, "{what}");
                    } else {
                        let want = reference2(op, x, y);
                        assert!(close(got, want), "{what}, not {want}");
                    }
                }
            }
        }
    }
}

#[test]
fn integer_corners() {
    let run2 = |op, a: i32, b: i32| {
        let (a, b) = (Tensor::new(&[a], &[]), Tensor::new(&[b], &[]));
        run(&Prim::Binary(op), &[&a, &b], I32, &[]).to_vec::<i32>()[0]
    };
    assert_eq!(run2(BinaryOp::FloorDivide, i32::MIN, -1), i32::MIN);
    assert_eq!(run2(BinaryOp::Remainder, i32::MIN, -1), 0);
    assert_eq!(run2(BinaryOp::FloorDivide, -7, 2), -4);
    assert_eq!(run2(BinaryOp::Remainder, -7, 3), 2);
    assert_eq!(run2(BinaryOp::Remainder, 7, -3), -2);
    assert_eq!(run2(BinaryOp::FloorDivide, 1, 0), 0);
    assert_eq!(run2(BinaryOp::Power, -1, -3), -1);
    assert_eq!(run2(BinaryOp::Power, 7, -1), 0);
    assert_eq!(run2(BinaryOp::LeftShift, 1, 32), 0);
    assert_eq!(run2(BinaryOp::RightShift, -8, 40), -1);
    assert_eq!(run2(BinaryOp::RightShift, -8, 1), -4);
}

/// The largest relative distance of complex results from a double-precision reference.
#[test]
fn complex_functions_agree_with_identities() {
    use UnaryOp::*;
    type Z = num_complex::Complex64;
    let mut rng = Rng(13);
    let n = 700;
    let x: Vec<Complex32> = (0..n)
        .map(|_| Complex32::new(rng.uniform(-3.0, 3.0) as f32, rng.uniform(-3.0, 3.0) as f32))
        .collect();
    let t = Tensor::new(&x, &[n]);
    let one = Z::new(1.0, 0.0);
    let i = Z::new(0.0, 1.0);
    let checks: [(UnaryOp, fn(Z) -> Z); 22] = [
        (Negative, |z| -z),
        (Square, |z| z * z),
        (Sqrt, |z| z.sqrt()),
        (Rsqrt, |z| z.sqrt().inv()),
        (Reciprocal, |z| z.inv()),
        (Exp, |z| z.exp()),
        (Expm1, |z| z.exp() - 1.0),
        (Log, |z| z.ln()),
        (Log2, |z| z.ln() / 2f64.ln()),
        (Log10, |z| z.ln() / 10f64.ln()),
        (Log1p, |z| (z + 1.0).ln()),
        (Sin, |z| z.sin()),
        (Cos, |z| z.cos()),
        (Tan, |z| z.sin() / z.cos()),
        (Arcsin, |z| z.asin()),
        (Arccos, |z| z.acos()),
        (Arctan, |z| z.atan()),
        (Sinh, |z| z.sinh()),
        (Cosh, |z| z.cosh()),
        (Tanh, |z| z.sinh() / z.cosh()),
        (Conj, |z| z.conj()),
        (Sign, |z| z / z.norm()),
    ];
    let wide = |z: Complex32| Z::new(z.re as f64, z.im as f64);
    for (op, f) in checks {
        let out = run(&Prim::Unary(op), &[&t], C64, &[n]).to_vec::<Complex32>();
        for (&x, &got) in x.iter().zip(&out) {
            let want = f(wide(x));
            assert!(
                (wide(got) - want).norm() <= 1e-6 * want.norm(),
                "{} {x}: {got} {want}",
                op.name()
            );
        }
    }
    // Inverse functions: f(result) is the operand, and the branch is the principal one.
    let inverses: [(UnaryOp, fn(Z) -> Z); 3] =
        [(Arcsinh, |z| z.sinh()), (Arccosh, |z| z.cosh()), (Arctanh, |z| z.sinh() / z.cosh())];
    for (op, f) in inverses {
        let out = run(&Prim::Unary(op), &[&t], C64, &[n]).to_vec::<Complex32>();
        for (&x, &got) in x.iter().zip(&out) {
            let back = f(wide(got));
            assert!((back - wide(x)).norm() <= 3e-6 * wide(x).norm().max(1.0), "{} {x}", op.name());
            assert!(op == Arccosh || got.im.abs() <= std::f32::consts::FRAC_PI_2);
            assert!(op != Arccosh || got.re >= 0.0);
        }
    }
    let sigmoid = run(&Prim::Unary(Sigmoid), &[&t], C64, &[n]).to_vec::<Complex32>();
    for (&x, &got) in x.iter().zip(&sigmoid) {
        let want = one / (one + (-wide(x)).exp());
        assert!((wide(got) - want).norm() <= 1e-6 * want.norm());
    }
    let abs = run(&Prim::Unary(Abs), &[&t], F32, &[n]).to_vec::<f32>();
    let parts = run(&Prim::Unary(Imag), &[&t], F32, &[n]).to_vec::<f32>();
    for k in 0..n {
        assert!((abs[k] as f64 - wide(x[k]).norm()).abs() <= 1e-7 * wide(x[k]).norm());
        assert_eq!(parts[k], x[k].im);
    }
    let u = t.transpose(&[0]);
    let y: Vec<Complex32> = x.iter().rev().copied().collect();
    let v = Tensor::new(&y, &[n]);
    for (op, f) in [
        (BinaryOp::Add, (|a, b| a + b) as fn(Z, Z) -> Z),
        (BinaryOp::Subtract, |a, b| a - b),
        (BinaryOp::Multiply, |a, b| a * b),
        (BinaryOp::Divide, |a, b| a / b),
        (BinaryOp::Power, |a, b| (b * a.ln()).exp()),
    ] {
        let out = run(&Prim::Binary(op), &[&u, &v], C64, &[n]).to_vec::<Complex32>();
        for k in 0..n {
            let want = f(wide(x[k]), wide(y[k]));
            let near = (wide(out[k]) - want).norm() <= 2e-6 * (want.norm() + 0.1);
            assert!(near, "{} {} {}: {} {want}", op.name(), x[k], y[k], out[k]);
        }
    }
    let _ = i;
}

#[test]
fn casts_between_all_dtypes() {
    let mut rng = Rng(14);
    for from in DType::ALL {
        for to in DType::ALL {
            for n in [1, 30, 1300] {
                let mut x = values(from, &mut rng, n);
                if from.is_integer() {
                    let v: Vec<f64> =
                        (0..n).map(|_| (rng.bits() as i64 >> rng.below(63)) as f64).collect();
                    x = Tensor::from_f64(&v, from, &[n]);
                }
                let out = run(&Prim::Cast, &[&x], to, &[n]);
                for (x, got) in x.scalars().into_iter().zip(out.scalars()) {
                    let want = if from == C64 && to == C64 {
                        x
                    } else if from == C64 && to == Bool {
                        Scalar::new(x.to_c128() != (0.0, 0.0))
                    } else if from.is_integer() && to.is_integer() {
                        Scalar { bits: wrap(x.to_i128(), to), dtype: to }
                    } else if from.is_integer() && to != Bool {
                        // Straight from the integer, with one rounding.
                        exact_to_float(x.to_i128(), to)
                    } else {
                        Scalar::from_f64(x.to_f64(), to)
                    };
                    let nan = got.to_f64().is_nan() && want.to_f64().is_nan();
                    assert!(nan || got == want, "{x:?} to {to}: {got:?}, not {want:?}");
                }
            }
        }
    }
}

fn exact_to_float(v: i128, to: DType) -> Scalar {
    match to {
        F32 => Scalar::new(v as f32),
        C64 => Scalar::new(Complex32::new(v as f32, 0.0)),
        F64 => Scalar::new(v as f64),
        _ => {
            // Doubles hold every tie between half values, so rounding to odd is needed only there.
            let d = v as f64;
            let d = if d as i128 == v { d } else { f64::from_bits(d.to_bits() | 1) };
            Scalar::from_f64(d, to)
        }
    }
}

#[test]
fn select_takes_either_side() {
    let mut rng = Rng(15);
    for dtype in DType::ALL {
        for n in [5, 2000] {
            let c = values(Bool, &mut rng, n);
            let (a, b) = (values(dtype, &mut rng, n), values(dtype, &mut rng, n));
            let out = run(&Prim::Select, &[&c, &a, &b], dtype, &[n]).bits();
            let (c, a, b) = (c.bits(), a.bits(), b.bits());
            for i in 0..n {
                let want = if c[i] == 1 { a[i] } else { b[i] };
                let s = Scalar { bits: want, dtype };
                assert!(out[i] == want || s.to_f64().is_nan());
            }
        }
    }
}

#[test]
fn every_layout_and_broadcast() {
    let mut rng = Rng(16);
    for dtype in [Bool, I16, BF16, F32, C64] {
        for shape in [&[][..], &[0, 4], &[9], &[33, 70], &[5, 2, 130]] {
            let a = rng.tensor(dtype, shape, 0.0, 3.0);
            let b = rng.tensor(dtype, shape, 0.0, 3.0);
            let plain = run(&Prim::Binary(BinaryOp::Add), &[&a, &b], dtype, shape).bits();
            for (la, x) in layouts(&a) {
                for (lb, y) in layouts(&b) {
                    let out = run(&Prim::Binary(BinaryOp::Add), &[&x, &y], dtype, shape).bits();
                    assert_eq!(out, plain, "{la} + {lb} of {dtype} {shape:?}");
                }
            }
        }
        for (r, c) in [(40, 60), (7, 300), (130, 1100)] {
            let a = rng.tensor(dtype, &[r, c], 0.0, 3.0);
            let padded = a.stored(r * (c + 5), &[c as isize + 5, 1], 0);
            for shape in [&[c][..], &[1, c], &[r, 1], &[1, 1], &[]] {
                let b = rng.tensor(dtype, shape, 0.0, 3.0).broadcast(&[r, c]);
                let full = b.stored(r * c, &[c as isize, 1], 0);
                let multiply = |x: &Tensor, y: &Tensor| {
                    run(&Prim::Binary(BinaryOp::Multiply), &[x, y], dtype, &[r, c]).bits()
                };
                let want = multiply(&a, &full);
                assert_eq!(multiply(&a, &b), want);
                assert_eq!(multiply(&b, &a), want);
                assert_eq!(multiply(&padded, &b), want);
            }
        }
    }
}

#[test]
fn large_arrays_do_not_depend_on_threads() {
    let mut rng = Rng(17);
    let (r, c) = (700, 500);
    let a = rng.tensor(F32, &[c, r], -4.0, 4.0).transpose(&[1, 0]);
    let b = rng.tensor(F32, &[r, c], -4.0, 4.0);
    for (op, x, y) in [(BinaryOp::Subtract, &a, &b), (BinaryOp::Power, &b, &a)] {
        let many = run(&Prim::Binary(op), &[x, y], F32, &[r, c]).bits();
        let one = inline(|| run(&Prim::Binary(op), &[x, y], F32, &[r, c]).bits());
        assert_eq!(many, one);
    }
    let (x, y, z) =
        (a.to_f64(), b.to_f64(), run(&Prim::Binary(BinaryOp::Subtract), &[&a, &b], F32, &[r, c]));
    for (i, z) in z.to_f64().into_iter().enumerate() {
        assert_eq!(z, (x[i] as f32 - y[i] as f32) as f64);
    }
}

#[test]
fn outputs_may_be_operands() {
    use crate::CpuBackend;
    use lazul_ir::{Backend, Job, Operand, Target, Work};
    let mut rng = Rng(18);
    for n in [20usize, 5000] {
        for dtype in [F32, BF16, I64] {
            let a = rng.tensor(dtype, &[n], 0.0, 9.0);
            let b = rng.tensor(dtype, &[n], 0.0, 9.0);
            let want = run(&Prim::Binary(BinaryOp::Subtract), &[&a, &b], dtype, &[n]).bits();
            for donated in 0..2 {
                let (mut x, mut y) = (a.clone(), b.clone());
                let target = if donated == 0 { x.target().ptr } else { y.target().ptr };
                let shape = [n];
                let prim = Prim::Binary(BinaryOp::Subtract);
                let (ox, oy) = (x.operand(), y.operand());
                let inputs: [Operand<'_>; 2] = [ox, oy];
                let outputs = [Target { ptr: target, dtype, shape: &shape }];
                let job = Job { work: Work::Prim(&prim), inputs: &inputs, outputs: &outputs };
                // SAFETY: both tensors live, and the output is one of them exactly.
                unsafe { CpuBackend.run(&job).unwrap() };
                let out = if donated == 0 { &x } else { &y };
                assert_eq!(out.bits(), want);
            }
        }
    }
}

fn step(op: StepOp, operand: DType, result: DType, args: [u16; 3], dst: u16) -> Step {
    Step { op, operand, result, args, dst }
}

/// A program that reuses registers, mixes dtypes, repeats outputs and returns an operand.
#[test]
fn a_fused_program_gives_the_bits_of_its_steps() {
    use BinaryOp::*;
    let mut rng = Rng(19);
    for half in [F16, BF16, F32] {
        let tape = Tape {
            inputs: vec![half, half, I32, half],
            steps: vec![
                step(StepOp::Binary(Multiply), half, half, [0, 1, 0], 4),
                step(StepOp::Binary(Add), half, half, [4, 0, 4], 4),
                step(StepOp::Unary(UnaryOp::Exp), half, half, [4, 4, 4], 0),
                step(StepOp::Cast, I32, half, [2, 2, 2], 5),
                step(StepOp::Binary(Less), half, Bool, [5, 1, 5], 6),
                step(StepOp::Select, half, half, [6, 0, 5], 5),
                step(StepOp::Unary(UnaryOp::Negative), half, half, [5, 5, 5], 4),
                step(StepOp::Cast, half, F64, [4, 4, 4], 1),
                step(StepOp::Binary(Subtract), half, half, [4, 3, 0], 4),
            ],
            outputs: vec![(4, half), (6, Bool), (1, F64), (3, half), (4, half), (5, half)],
            registers: 7,
        };
        // The last is large enough for blocks to be fetched ahead.
        for shape in [[1usize, 7], [37, 113], [529, 1000]] {
            let n = shape[0] * shape[1];
            let a = rng.tensor(half, &shape, -2.0, 2.0);
            let b = rng.tensor(half, &[shape[1]], -2.0, 2.0).broadcast(&shape);
            let c = rng.tensor(I32, &[shape[1], shape[0]], -3.0, 3.0).transpose(&[1, 0]);
            let d = rng.tensor(half, &[], -2.0, 2.0).broadcast(&shape);
            let out = run_fused(&tape, &[&a, &b, &c, &d], &shape);
            let bin = |op, x: &Tensor, y: &Tensor, t| run(&Prim::Binary(op), &[x, y], t, &shape);
            let un = |op, x: &Tensor, t| run(&Prim::Unary(op), &[x], t, &shape);
            let r4 = bin(Add, &bin(Multiply, &a, &b, half), &a, half);
            let r0 = un(UnaryOp::Exp, &r4, half);
            let r5 = run(&Prim::Cast, &[&c], half, &shape);
            let r6 = bin(Less, &r5, &b, Bool);
            let r5 = run(&Prim::Select, &[&r6, &r0, &r5], half, &shape);
            let r4 = un(UnaryOp::Negative, &r5, half);
            let r1 = run(&Prim::Cast, &[&r4], F64, &shape);
            let r4 = bin(Subtract, &r4, &d, half);
            for (got, want) in out.iter().zip([&r4, &r6, &r1, &d, &r4, &r5]) {
                assert_eq!(got.bits(), want.bits(), "{half} {n}");
            }
        }
    }
}

#[test]
fn fp8_codes_round_trip_through_arrays() {
    let codes = Tensor::new(&(0..=255u8).collect::<Vec<_>>(), &[256]);
    let x = run(&Prim::Unary(UnaryOp::FromFp8), &[&codes], F32, &[256]);
    let back = run(&Prim::Unary(UnaryOp::ToFp8), &[&x], U8, &[256]);
    for (a, b) in codes.to_vec::<u8>().into_iter().zip(back.to_vec::<u8>()) {
        assert!(a == b || a & 0x7f == 0x7f && b & 0x7f == 0x7f);
    }
}

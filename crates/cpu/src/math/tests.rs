//! Every f32 function on each 997th bit pattern, against double precision.

use super::*;
use std::f32::consts as f;

/// Distance of `got` from `want` in units of the last place that f32 has at `want`.
fn ulps(got: f32, want: f64) -> f64 {
    if want.is_nan() || got.is_nan() {
        return if want.is_nan() && got.is_nan() { 0.0 } else { f64::INFINITY };
    }
    let rounded = want as f32;
    if rounded.is_infinite() || got.is_infinite() {
        return if rounded == got { 0.0 } else { f64::INFINITY };
    }
    let magnitude = want.abs().max(f32::MIN_POSITIVE as f64) as f32;
    let ulp = f32::from_bits(magnitude.to_bits() + 1) as f64 - magnitude as f64;
    (got as f64 - want).abs() / ulp
}

/// The largest error over the sample, and where.
fn worst(f: impl Fn(f32) -> f32, reference: impl Fn(f64) -> f64) -> (f64, f32) {
    let mut worst = (0.0, 0.0);
    let specials =
        [0.0, -0.0, 1.0, -1.0, 0.5, f32::NAN, f32::INFINITY, f32::NEG_INFINITY].map(f32::to_bits);
    for bits in (0..=u32::MAX).step_by(997).chain(specials) {
        let x = f32::from_bits(bits);
        let want = reference(x as f64);
        let got = f(x);
        let e = ulps(got, want);
        if e > worst.0 {
            worst = (e, x);
        }
        let zero = want == 0.0 && got == 0.0;
        assert!(
            !zero || want.is_sign_negative() == got.is_sign_negative(),
            "sign of zero at {x:e}"
        );
    }
    worst
}

macro_rules! accuracy {
    ($($name:ident $most:literal $f:expr, $reference:expr;)*) => {$(
        #[test]
        fn $name() {
            let (error, at) = worst($f, $reference);
            println!("{}: {error:.3} ulp at {at:e}", stringify!($name));
            assert!(error <= $most, "{}: {error} ulp at {at:e}", stringify!($name));
        }
    )*};
}

accuracy! {
    exp_is_accurate 1.0 exp, f64::exp;
    expm1_is_accurate 0.51 expm1, f64::exp_m1;
    log_is_accurate 0.9 log, f64::ln;
    log2_is_accurate 0.51 log2, f64::log2;
    log10_is_accurate 0.51 log10, f64::log10;
    log1p_is_accurate 0.51 log1p, f64::ln_1p;
    sigmoid_is_accurate 1.6 sigmoid, double::sigmoid;
    tanh_is_accurate 1.4 tanh, f64::tanh;
    sinh_is_accurate 0.51 sinh, f64::sinh;
    cosh_is_accurate 0.51 cosh, f64::cosh;
    asinh_is_accurate 0.51 asinh, double::asinh;
    acosh_is_accurate 0.51 acosh, double::acosh;
    atanh_is_accurate 1.4 atanh, double::atanh;
    atan_is_accurate 0.51 atan, f64::atan;
    asin_is_accurate 0.51 asin, f64::asin;
    acos_is_accurate 0.51 acos, f64::acos;
    erf_is_accurate 1.4 erf, double::erf;
    sin_is_accurate 0.51 |x| one(sin_kernel, x), f64::sin;
    cos_is_accurate 0.51 |x| one(cos_kernel, x), f64::cos;
    tan_is_accurate 0.51 |x| one(tan_kernel, x), f64::tan;
}

fn one(kernel: unsafe fn(*const u8, *mut u8, usize), x: f32) -> f32 {
    let mut y = 0f32;
    // SAFETY: one float each.
    unsafe { kernel((&raw const x).cast(), (&raw mut y).cast(), 1) };
    y
}

#[test]
fn erfinv_is_accurate() {
    let mut most = (0.0, 0.0);
    for bits in (0..=f32::to_bits(1.0)).step_by(197) {
        let x = f32::from_bits(bits);
        let want = double::erfinv(x as f64);
        let e = ulps(erfinv(x), want);
        assert_eq!(erfinv(-x), -erfinv(x));
        if e > most.0 {
            most = (e, x);
        }
    }
    // The last floats before 1, which random normals reach.
    for k in 1..100_000 {
        let x = f32::from_bits(f32::to_bits(1.0) - k);
        let e = ulps(erfinv(x), double::erfinv(x as f64));
        if e > most.0 {
            most = (e, x);
        }
    }
    println!("erfinv: {:.3} ulp at {:e}", most.0, most.1);
    assert!(most.0 <= 2.5, "{most:?}");
    assert_eq!(erfinv(1.0), f32::INFINITY);
    assert_eq!(erfinv(-1.0), f32::NEG_INFINITY);
    assert!(erfinv(1.1).is_nan() && erfinv(-2.0).is_nan() && erfinv(f32::NAN).is_nan());
    assert!(erfinv(f32::INFINITY).is_nan());
    assert_eq!(erfinv(-0.0).to_bits(), (-0.0f32).to_bits());
}

const PAIRS: [f32; 26] = [
    0.0,
    -0.0,
    1.0,
    -1.0,
    0.5,
    -0.5,
    2.0,
    -2.0,
    3.0,
    -3.0,
    1.5,
    0.1,
    7.3,
    -7.0,
    1e-3,
    1e3,
    1e-40,
    3e38,
    16777215.0,
    -16777217.0,
    8388609.0,
    f::PI,
    f32::INFINITY,
    f32::NEG_INFINITY,
    f32::NAN,
    -1e-3,
];

fn worst2(f: impl Fn(f32, f32) -> f32, reference: impl Fn(f64, f64) -> f64) -> (f64, f32, f32) {
    let mut most = (0.0, 0.0, 0.0);
    let mut check = |a: f32, b: f32| {
        let (got, want) = (f(a, b), reference(a as f64, b as f64));
        let e = ulps(got, want);
        if e > most.0 {
            most = (e, a, b);
        }
        let zero = want == 0.0 && got == 0.0;
        assert!(!zero || want.is_sign_negative() == got.is_sign_negative(), "zero at {a:e} {b:e}");
    };
    for a in PAIRS {
        for b in PAIRS {
            check(a, b);
        }
    }
    let mut rng = crate::testing::Rng(41);
    for _ in 0..1_000_000 {
        check(f32::from_bits(rng.bits() as u32), f32::from_bits(rng.bits() as u32));
        check(rng.uniform(0.0, 20.0) as f32, rng.uniform(-25.0, 25.0) as f32);
    }
    most
}

#[test]
fn pow_is_accurate() {
    let (error, a, b) = worst2(pow, f64::powf);
    println!("pow: {error:.3} ulp at {a:e} {b:e}");
    assert!(error <= 0.51, "{error} {a:e} {b:e}");
}

#[test]
fn atan2_is_accurate() {
    let (error, a, b) = worst2(atan2, f64::atan2);
    println!("atan2: {error:.3} ulp at {a:e} {b:e}");
    assert!(error <= 0.51, "{error} {a:e} {b:e}");
}

#[test]
fn logaddexp_is_accurate() {
    // Where the result vanishes only its absolute error is small.
    let most = std::cell::Cell::new(0.0f64);
    let f = |a: f32, b: f32| {
        let (y, want) = (logaddexp(a, b), double::logaddexp(a as f64, b as f64));
        if want.abs() < 1e-3 {
            most.set(most.get().max((y as f64 - want).abs()));
            return want as f32;
        }
        y
    };
    let (error, a, b) = worst2(f, double::logaddexp);
    println!("logaddexp: {error:.3} ulp at {a:e} {b:e}");
    assert!(error <= 0.51 && most.get() < 1e-10, "{error} {a:e} {b:e}");
}

#[test]
fn remainders_are_exact() {
    let remainder = |a: f32, b: f32| {
        let mut d = 0f32;
        // SAFETY: one float each.
        unsafe {
            remainder_kernel((&raw const a).cast(), (&raw const b).cast(), (&raw mut d).cast(), 1);
        }
        d
    };
    let reference = |a: f64, b: f64| {
        let (a, b) = (a as f32, b as f32);
        let r = a % b;
        (if r != 0.0 && (r < 0.0) != (b < 0.0) { r + b } else { r }) as f64
    };
    let (error, a, b) = worst2(remainder, reference);
    assert!(error <= 0.5, "{error} {a:e} {b:e}");
}

/// Blocks run at the process's instruction-set level; the functions called here directly are compiled
/// for the least one.
#[test]
fn every_instruction_set_gives_the_same_bits() {
    use lazul_ir::{BinaryOp, DType::F32, Prim, UnaryOp};
    let mut rng = crate::testing::Rng(43);
    let n = 20_011;
    let mut sample = |k: usize| match k % 3 {
        0 => f32::from_bits(rng.bits() as u32),
        1 => rng.uniform(-1.0, 1.0) as f32,
        _ => rng.uniform(-30.0, 30.0) as f32,
    };
    let a: Vec<f32> = (0..n).map(&mut sample).collect();
    let b: Vec<f32> = (0..n).map(&mut sample).collect();
    let (ta, tb) = (crate::testing::Tensor::new(&a, &[n]), crate::testing::Tensor::new(&b, &[n]));
    let same = |x: f32, y: f32| x.to_bits() == y.to_bits() || x.is_nan() && y.is_nan();
    let unary: [(UnaryOp, fn(f32) -> f32); 21] = [
        (UnaryOp::Exp, exp),
        (UnaryOp::Expm1, expm1),
        (UnaryOp::Log, log),
        (UnaryOp::Log2, log2),
        (UnaryOp::Log10, log10),
        (UnaryOp::Log1p, log1p),
        (UnaryOp::Sigmoid, sigmoid),
        (UnaryOp::Tanh, tanh),
        (UnaryOp::Sinh, sinh),
        (UnaryOp::Cosh, cosh),
        (UnaryOp::Arcsinh, asinh),
        (UnaryOp::Arccosh, acosh),
        (UnaryOp::Arctanh, atanh),
        (UnaryOp::Arcsin, asin),
        (UnaryOp::Arccos, acos),
        (UnaryOp::Arctan, atan),
        (UnaryOp::Erf, erf),
        (UnaryOp::Erfinv, erfinv),
        (UnaryOp::Sin, |x| if x.abs() > LARGEST_ANGLE { (x as f64).sin() as f32 } else { sin(x) }),
        (UnaryOp::Cos, |x| if x.abs() > LARGEST_ANGLE { (x as f64).cos() as f32 } else { cos(x) }),
        (UnaryOp::Tan, |x| if x.abs() > LARGEST_ANGLE { (x as f64).tan() as f32 } else { tan(x) }),
    ];
    for (op, f) in unary {
        let out = crate::testing::run(&Prim::Unary(op), &[&ta], F32, &[n]).to_vec::<f32>();
        for (&x, y) in a.iter().zip(out) {
            assert!(same(f(x), y), "{} {x:e}: {:e} {y:e}", op.name(), f(x));
        }
    }
    let binary: [(BinaryOp, fn(f32, f32) -> f32); 3] =
        [(BinaryOp::Power, pow), (BinaryOp::Arctan2, atan2), (BinaryOp::LogAddExp, logaddexp)];
    for (op, f) in binary {
        let out = crate::testing::run(&Prim::Binary(op), &[&ta, &tb], F32, &[n]).to_vec::<f32>();
        for ((&x, &z), y) in a.iter().zip(&b).zip(out) {
            assert!(same(f(x, z), y), "{} {x:e} {z:e}", op.name());
        }
    }
}

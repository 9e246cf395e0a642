//! Running reductions against plain loops: every dtype, layout and path.

use crate::testing::{Rng, Tensor, inline, layouts, run};
use lazul_ir::DType::{self, *};
use lazul_ir::{Prim, Scalar, ScanOp};

const CASES: &[(&[usize], u8)] = &[
    (&[1], 0),
    (&[300], 0),
    (&[70_000], 0),
    (&[0], 0),
    (&[4, 0, 3], 1),
    (&[5, 1100], 1),
    (&[1100, 5], 0),
    (&[3, 700, 40], 1),
    (&[100, 3, 20], 0),
    (&[6000, 30], 0),
];

fn reference(op: ScanOp, a: f64, b: f64) -> f64 {
    match op {
        ScanOp::Sum => a + b,
        ScanOp::Prod => a * b,
        ScanOp::Min if a.is_nan() || b.is_nan() => f64::NAN,
        ScanOp::Max if a.is_nan() || b.is_nan() => f64::NAN,
        ScanOp::Min => a.min(b),
        ScanOp::Max => a.max(b),
        ScanOp::LogAddExp => crate::math::double::logaddexp(a, b),
    }
}

/// Calls `f(previous position, position)` in order along the axis.
fn walk(shape: &[usize], axis: usize, reverse: bool, mut f: impl FnMut(Option<usize>, usize)) {
    let (m, step) = (shape[axis], shape[axis + 1..].iter().product::<usize>());
    for start in 0..shape.iter().product::<usize>() {
        if start / step % m != 0 {
            continue;
        }
        let mut previous = None;
        for k in 0..m {
            let at = start + step * if reverse { m - 1 - k } else { k };
            f(previous, at);
            previous = Some(at);
        }
    }
}

#[test]
fn scans_agree_with_a_loop() {
    let mut rng = Rng(31);
    let ops = [ScanOp::Sum, ScanOp::Prod, ScanOp::Min, ScanOp::Max, ScanOp::LogAddExp];
    for op in ops {
        for dtype in DType::ALL {
            let complex = dtype == C64 && !matches!(op, ScanOp::Sum | ScanOp::Prod);
            if complex || op == ScanOp::LogAddExp && !dtype.is_float() {
                continue;
            }
            for &(shape, axis) in CASES {
                let (reverse, inclusive) = (rng.below(2) == 0, rng.below(2) == 0);
                let (low, high) = match op {
                    ScanOp::Prod if dtype.is_inexact() => (0.999, 1.001),
                    _ if dtype.is_inexact() => (-1.0, 1.0),
                    _ => (0.0, 5.0),
                };
                let mut t = rng.tensor(dtype, shape, low, high);
                if dtype == Bool {
                    let v: Vec<f64> = (0..t.size()).map(|_| rng.below(2) as f64).collect();
                    t = Tensor::from_f64(&v, Bool, shape);
                }
                let wider = if dtype == Bool && op == ScanOp::Sum { I32 } else { dtype };
                let prim = Prim::Scan { op, axis, reverse, inclusive };
                let out = run(&prim, &[&t], wider, shape);
                let got = out.scalars();
                let x = t.scalars();
                let mut acc = 0.0;
                let mut exact = 0i128;
                let mut count = 0.0;
                walk(shape, axis as usize, reverse, |previous, at| {
                    let what = format!("{op:?} {dtype} {shape:?} {axis} {at}: {:?}", got[at]);
                    if previous.is_none() {
                        count = 0.0;
                        acc = match op {
                            ScanOp::Sum => 0.0,
                            ScanOp::Prod => 1.0,
                            ScanOp::Min => f64::INFINITY,
                            _ => f64::NEG_INFINITY,
                        };
                        let limit = |v: f64| match wider {
                            Bool => (v > 0.0) as i128,
                            d => Scalar::from_f64(v, d).to_i128(),
                        };
                        exact = match op {
                            ScanOp::Sum | ScanOp::Prod => acc as i128,
                            _ => limit(acc),
                        };
                    }
                    count += 1.0;
                    let (v, i) = (x[at].to_f64(), x[at].to_i128());
                    let after = reference(op, acc, v);
                    let exact_after = match op {
                        ScanOp::Sum if wider == Bool => exact | i,
                        ScanOp::Sum => exact.wrapping_add(i),
                        ScanOp::Prod => exact.wrapping_mul(i),
                        ScanOp::Min => exact.min(i),
                        _ => exact.max(i),
                    };
                    let (want, whole) = if inclusive { (after, exact_after) } else { (acc, exact) };
                    (acc, exact) = (after, exact_after);
                    if wider.is_inexact() {
                        let unit = match wider {
                            F16 => 1e-3,
                            BF16 => 8e-3,
                            F64 => 1e-12,
                            // Every rounding of a product counts, whatever the order.
                            _ if op == ScanOp::Prod => 1e-4,
                            _ => 1e-5,
                        };
                        let scale = if op == ScanOp::Sum {
                            want.abs() + 0.2 * f64::sqrt(count)
                        } else {
                            want.abs()
                        };
                        let near = (got[at].to_f64() - want).abs() <= unit * scale.max(1e-3);
                        assert!(near || got[at].to_f64() == want, "{what}, not {want}");
                    } else {
                        let mask = u64::MAX >> (64 - 8 * wider.size());
                        assert_eq!(got[at].bits, whole as u64 & mask, "{what}");
                    }
                });
            }
        }
    }
}

#[test]
fn the_bits_depend_on_neither_layout_nor_threads() {
    let mut rng = Rng(32);
    for dtype in [BF16, F32, F64] {
        for &(shape, axis) in CASES {
            let t = rng.tensor(dtype, shape, -1.0, 1.0);
            for (reverse, inclusive) in [(false, true), (true, false)] {
                let prim = Prim::Scan { op: ScanOp::Sum, axis, reverse, inclusive };
                let want = run(&prim, &[&t], dtype, shape).bits();
                for (name, l) in layouts(&t) {
                    assert_eq!(run(&prim, &[&l], dtype, shape).bits(), want, "{name} {shape:?}");
                }
                assert_eq!(inline(|| run(&prim, &[&t], dtype, shape).bits()), want);
            }
        }
    }
}

#[test]
fn nan_stays() {
    let t = Tensor::new(&[1.0f32, f32::NAN, 0.5], &[3]);
    for op in [ScanOp::Min, ScanOp::Max] {
        let prim = Prim::Scan { op, axis: 0, reverse: false, inclusive: true };
        let out = run(&prim, &[&t], F32, &[3]).to_vec::<f32>();
        assert!(out[0] == 1.0 && out[1].is_nan() && out[2].is_nan());
    }
}

//! Reductions against plain loops: every dtype, layout and path.

use crate::testing::{Rng, Tensor, inline, layouts, run};
use lazul_ir::DType::{self, *};
use lazul_ir::{ArgReduceOp, Axes, Complex32, Prim, ReduceOp, Scalar};

/// For each output, the positions of its sequence in row-major order of the operand.
fn sequences(shape: &[usize], axes: &[u8]) -> (Vec<usize>, Vec<Vec<usize>>) {
    let mut out = shape.to_vec();
    axes.iter().for_each(|&a| out[a as usize] = 1);
    let mut result = vec![Vec::new(); out.iter().product()];
    for i in 0..shape.iter().product::<usize>() {
        let (mut rest, mut o, mut step) = (i, 0, 1);
        for axis in (0..shape.len()).rev() {
            let k = rest % shape[axis];
            rest /= shape[axis];
            o += if out[axis] == 1 { 0 } else { k * step };
            step *= out[axis];
        }
        result[o].push(i);
    }
    (out, result)
}

fn prim(op: ReduceOp, axes: &[u8]) -> Prim {
    Prim::Reduce { op, axes: Axes::from_slice(axes) }
}

const CASES: &[(&[usize], &[u8])] = &[
    (&[], &[]),
    (&[1], &[0]),
    (&[7], &[0]),
    (&[2500], &[0]),
    (&[3, 5], &[]),
    (&[3, 40], &[1]),
    (&[40, 3], &[0]),
    (&[2100, 11], &[0]),
    (&[11, 2100], &[1]),
    (&[1100, 300], &[0]),
    (&[500, 4], &[1]),
    (&[6, 7, 33], &[0, 2]),
    (&[6, 700, 9], &[1]),
    (&[4, 3, 5, 6], &[1, 2]),
    (&[4, 3, 5, 6], &[0, 1, 2, 3]),
    (&[0, 3], &[0]),
    (&[3, 0], &[0]),
    (&[3, 0], &[1]),
];

#[test]
fn reductions_agree_with_a_loop() {
    let mut rng = Rng(21);
    for op in [ReduceOp::Sum, ReduceOp::Prod, ReduceOp::Min, ReduceOp::Max] {
        for dtype in DType::ALL {
            let ordered = matches!(op, ReduceOp::Min | ReduceOp::Max);
            if ordered && dtype == C64 {
                continue;
            }
            let wider = match dtype {
                Bool | I8 | I16 if !ordered => I32,
                U8 | U16 if !ordered => U32,
                d => d,
            };
            for &(shape, axes) in CASES {
                let near_one = op == ReduceOp::Prod && dtype.is_inexact();
                let (low, high) = match dtype {
                    Bool => (0.0, 1.7),
                    _ if near_one => (0.99, 1.01),
                    d if d.is_unsigned() => (0.0, 200.0),
                    _ => (-100.0, 100.0),
                };
                let mut t = rng.tensor(dtype, shape, low, high);
                if dtype == Bool {
                    let v: Vec<f64> = (0..t.size()).map(|_| rng.below(2) as f64).collect();
                    t = Tensor::from_f64(&v, Bool, shape);
                }
                let (out_shape, sequences) = sequences(shape, axes);
                if ordered && shape.contains(&0) {
                    continue;
                }
                let out = run(&prim(op, axes), &[&t], wider, &out_shape);
                let values = t.scalars();
                for (got, sequence) in out.scalars().into_iter().zip(&sequences) {
                    let what = format!("{op:?} of {dtype} {shape:?} over {axes:?}: {got:?}");
                    if wider.is_inexact() {
                        let x: Vec<f64> = sequence.iter().map(|&i| values[i].to_f64()).collect();
                        let magnitude: f64 = x.iter().map(|v| v.abs()).sum();
                        let (want, scale): (f64, f64) = match op {
                            ReduceOp::Sum => (x.iter().sum(), magnitude),
                            ReduceOp::Prod => (x.iter().product(), x.iter().product()),
                            ReduceOp::Min => (x.iter().copied().fold(f64::INFINITY, f64::min), 0.0),
                            _ => (x.iter().copied().fold(f64::NEG_INFINITY, f64::max), 0.0),
                        };
                        let unit = match wider {
                            F16 => 1e-3,
                            BF16 => 8e-3,
                            F64 => 1e-14,
                            _ => 3e-6,
                        };
                        let off = (got.to_f64() - want).abs();
                        let near = off <= 1e-6 * scale * (wider != F64) as u8 as f64
                            || off <= unit * want.abs().max(1e-30)
                            || off <= 1e-15 * scale;
                        assert!(near, "{what}, not {want}");
                    } else {
                        let x: Vec<i128> = sequence.iter().map(|&i| values[i].to_i128()).collect();
                        let want = match op {
                            ReduceOp::Sum => x.iter().fold(0i128, |a, b| a.wrapping_add(*b)),
                            ReduceOp::Prod => x.iter().fold(1i128, |a, b| a.wrapping_mul(*b)),
                            ReduceOp::Min => x.iter().copied().min().unwrap(),
                            _ => x.iter().copied().max().unwrap(),
                        };
                        let mask = u64::MAX >> (64 - 8 * wider.size());
                        assert_eq!(got.bits, want as u64 & mask, "{what}");
                    }
                }
            }
        }
    }
}

/// The product of no truth values was a byte 255, which is no truth value.
#[test]
fn the_empty_product_of_truth_values_is_true() {
    let out = run(&prim(ReduceOp::Prod, &[1]), &[&Tensor::empty(Bool, &[2, 0])], Bool, &[2, 1]);
    assert_eq!(out.bits(), [1, 1]);
}

#[test]
fn all_and_any_take_any_dtype() {
    let mut rng = Rng(22);
    for dtype in DType::ALL {
        for &(shape, axes) in CASES {
            let v: Vec<f64> =
                (0..shape.iter().product()).map(|_| (rng.below(40) != 0) as u8 as f64).collect();
            let t = Tensor::from_f64(&v, dtype, shape);
            let (out_shape, sequences) = sequences(shape, axes);
            for op in [ReduceOp::All, ReduceOp::Any] {
                let out = run(&prim(op, axes), &[&t], Bool, &out_shape).to_vec::<bool>();
                for (got, sequence) in out.into_iter().zip(&sequences) {
                    let mut x = sequence.iter().map(|&i| v[i] != 0.0);
                    let want = if op == ReduceOp::All { x.all(|b| b) } else { x.any(|b| b) };
                    assert_eq!(got, want);
                }
            }
        }
    }
}

#[test]
fn the_bits_depend_on_neither_layout_nor_threads() {
    let mut rng = Rng(23);
    for dtype in [BF16, F32, F64, C64] {
        for &(shape, axes) in CASES {
            let mut t = rng.tensor(dtype, shape, -100.0, 100.0);
            if dtype == C64 {
                let z: Vec<Complex32> = (0..t.size())
                    .map(|_| {
                        Complex32::new(rng.uniform(-9.0, 9.0) as f32, rng.uniform(-9.0, 9.0) as f32)
                    })
                    .collect();
                t = Tensor::new(&z, shape);
            }
            let (out_shape, _) = sequences(shape, axes);
            for op in [ReduceOp::Sum, ReduceOp::Prod] {
                let want = run(&prim(op, axes), &[&t], dtype, &out_shape).bits();
                for (name, l) in layouts(&t) {
                    let got = run(&prim(op, axes), &[&l], dtype, &out_shape).bits();
                    assert_eq!(got, want, "{op:?} {dtype} {shape:?} {axes:?} {name}");
                    let one = inline(|| run(&prim(op, axes), &[&l], dtype, &out_shape).bits());
                    assert_eq!(one, want);
                }
            }
        }
    }
}

#[test]
fn long_sums_are_accurate_and_cut_anywhere() {
    let mut rng = Rng(24);
    let n = 1 << 20;
    let t = rng.tensor(F32, &[n], 0.0, 1.0);
    let exact: f64 = t.to_f64().iter().sum();
    let sum = run(&prim(ReduceOp::Sum, &[0]), &[&t], F32, &[1]);
    assert!((sum.to_f64()[0] - exact).abs() <= 2e-7 * exact);
    let one = inline(|| run(&prim(ReduceOp::Sum, &[0]), &[&t], F32, &[1]));
    assert_eq!(one.bits(), sum.bits());
    // The same sequence among many others, where it is not cut, and across columns.
    let many = Tensor::strided(&t.to_vec::<f32>(), &[100, n], &[0, 1], 0);
    let rows = run(&prim(ReduceOp::Sum, &[1]), &[&many], F32, &[100, 1]);
    assert!(rows.bits().iter().all(|&b| b == sum.bits()[0]));
    let columns = many.transpose(&[1, 0]);
    let columns = run(&prim(ReduceOp::Sum, &[0]), &[&columns], F32, &[1, 100]);
    assert!(columns.bits().iter().all(|&b| b == sum.bits()[0]));
}

#[test]
fn half_sums_accumulate_in_f32() {
    for dtype in [F16, BF16] {
        let t = Tensor::from_f64(&[1.0; 5000], dtype, &[5000]);
        let sum = run(&prim(ReduceOp::Sum, &[0]), &[&t], dtype, &[1]);
        assert_eq!(sum.scalars()[0], Scalar::from_f64(5000.0, dtype));
        let wide = run(&prim(ReduceOp::Sum, &[0]), &[&t], F32, &[1]);
        assert_eq!(wide.to_f64()[0], 5000.0);
    }
}

#[test]
fn nan_wins_extrema() {
    let mut v = vec![1.0; 3000];
    v[1777] = f64::NAN;
    let t = Tensor::from_f64(&v, F32, &[3000]);
    for op in [ReduceOp::Min, ReduceOp::Max] {
        assert!(run(&prim(op, &[0]), &[&t], F32, &[1]).to_f64()[0].is_nan());
    }
}

#[test]
fn positions_of_extrema() {
    let mut rng = Rng(25);
    let cases: &[(&[usize], u8)] = &[
        (&[1], 0),
        (&[5000], 0),
        (&[200_000], 0),
        (&[30, 50], 1),
        (&[50, 30], 0),
        (&[3000, 20], 0),
        (&[300, 5], 1),
        (&[3, 70, 9], 1),
        (&[0, 3], 1),
    ];
    for dtype in DType::ALL.into_iter().filter(|&d| d != C64) {
        for &(shape, axis) in cases {
            // Few distinct values, so that there are ties; some NaN.
            let v: Vec<f64> = (0..shape.iter().product())
                .map(|_| match rng.below(2000) {
                    0 if dtype.is_float() => f64::NAN,
                    k => (k % 7) as f64,
                })
                .collect();
            let t = Tensor::from_f64(&v, dtype, shape);
            let (out_shape, sequences) = sequences(shape, &[axis]);
            let values = t.to_f64();
            for op in [ArgReduceOp::ArgMin, ArgReduceOp::ArgMax] {
                let better = |a: f64, b: f64| match op {
                    _ if b.is_nan() => false,
                    _ if a.is_nan() => true,
                    ArgReduceOp::ArgMin => a < b,
                    ArgReduceOp::ArgMax => a > b,
                };
                let want: Vec<u32> = sequences
                    .iter()
                    .map(|s| {
                        (1..s.len()).fold(0, |best, k| {
                            if better(values[s[k]], values[s[best]]) { k } else { best }
                        }) as u32
                    })
                    .collect();
                for (name, l) in layouts(&t) {
                    let out = run(&Prim::ArgReduce { op, axis }, &[&l], U32, &out_shape);
                    assert_eq!(out.to_vec::<u32>(), want, "{op:?} {dtype} {shape:?} {name}");
                }
            }
        }
    }
}

/// Tiles of truth values were once wider than the scratch that wide elements are gathered in.
#[test]
fn truth_of_wide_elements_over_many_columns() {
    for dtype in [F64, I64, C64] {
        let mut data = vec![0.0; 15_000];
        (data[4999], data[5000]) = (1.0, 1.0);
        for (layout, x) in layouts(&Tensor::from_f64(&data, dtype, &[3, 5000])) {
            let y = run(&prim(ReduceOp::Any, &[0]), &[&x], Bool, &[1, 5000]).to_f64();
            let wrong = (0..5000).find(|&i| y[i] != f64::from(u8::from(i == 0 || i == 4999)));
            assert_eq!(wrong, None, "{dtype} {layout}");
        }
    }
}

/// A program and a reduction in one pass give the bits of the two one after the other.
#[test]
fn reduced_programs_equal_their_parts() {
    use crate::testing::{run_fused, try_run};
    use lazul_ir::{BinaryOp, Step, StepOp, Tape, UnaryOp, Work};
    let mut rng = Rng(5);
    let shapes: &[(&[usize], &[u8])] = &[
        (&[1], &[0]),
        (&[300], &[0]),
        (&[70_000], &[0]),
        (&[3, 9000], &[1]),
        (&[40, 257], &[1]),
        (&[2, 3, 700], &[1, 2]),
        (&[2100, 300], &[0]),
        (&[5, 4, 1500], &[0, 1]),
        (&[3, 0], &[1]),
    ];
    for &(shape, axes) in shapes {
        for dtype in [F32, F64, F16, BF16, I32, I8] {
            let (a, b) = (rng.tensor(dtype, shape, -9.0, 9.0), rng.tensor(dtype, shape, -9.0, 9.0));
            let step = |op, args, dst| Step { op, operand: dtype, result: dtype, args, dst };
            let tape = Tape {
                inputs: [dtype, dtype].into_iter().collect(),
                steps: vec![
                    step(StepOp::Binary(BinaryOp::Multiply), [0, 1, 0], 2),
                    step(StepOp::Unary(UnaryOp::Negative), [2, 2, 2], 3),
                ],
                outputs: vec![(3, dtype)],
                registers: 4,
            };
            let to = match dtype {
                I8 => I32,
                d => d,
            };
            let mut reduced = shape.to_vec();
            axes.iter().for_each(|&x| reduced[x as usize] = 1);
            for op in [ReduceOp::Sum, ReduceOp::Max] {
                if op == ReduceOp::Max && shape.contains(&0) {
                    continue;
                }
                let to = if op == ReduceOp::Max { dtype } else { to };
                for (layout, x) in layouts(&a) {
                    let y = &run_fused(&tape, &[&x, &b], shape)[0];
                    let apart = run(&prim(op, axes), &[y], to, &reduced);
                    let axes = Axes::from_slice(axes);
                    let work = Work::Reduced { tape: &tape, op, axes: &axes };
                    let mut together = [Tensor::empty(to, &reduced)];
                    try_run(work, &[&x, &b], &mut together).unwrap();
                    let same = together[0].bits() == apart.bits();
                    assert!(same, "{op:?} {dtype} {shape:?} {layout}");
                }
            }
        }
    }
}

//! Quantization against the golden files that MLX made, and products against dense ones.

use crate::testing::{Rng, Tensor, inline, layouts, try_run};
use lazul_ir::{DType, ErrorKind, Prim, Quantization, QuantizedOp, Work};
use std::collections::HashMap;

/// Every quantization there is.
fn all() -> Vec<Quantization> {
    let affine = |bits| [32, 64, 128].map(|group_size| Quantization::Affine { group_size, bits });
    let floats = [Quantization::MxFp4, Quantization::MxFp8, Quantization::NvFp4];
    [1, 2, 3, 4, 5, 6, 8].into_iter().flat_map(affine).chain(floats).collect()
}

const AFFINE: Quantization = Quantization::Affine { group_size: 32, bits: 4 };

/// Codes, scales, and biases or a global scale.
type Parts = Vec<Tensor>;

fn quantize_with(q: Quantization, w: &Tensor, global: Option<&Tensor>) -> Parts {
    let k = w.shape[w.shape.len() - 1];
    let shape = |last: usize| [&w.shape[..w.shape.len() - 1], &[last]].concat();
    let groups = shape(k / q.group_size());
    let mut out = vec![
        Tensor::empty(DType::U32, &shape(q.words(k))),
        Tensor::empty(q.scale_dtype(w.dtype), &groups),
    ];
    if q.is_affine() {
        out.push(Tensor::empty(w.dtype, &groups));
    }
    let prim = Prim::Quantized(QuantizedOp::Quantize(q));
    let inputs: Vec<&Tensor> = std::iter::once(w).chain(global).collect();
    try_run(Work::Prim(&prim), &inputs, &mut out).unwrap();
    out.extend(global.cloned());
    out
}

fn quantize(q: Quantization, w: &Tensor) -> Parts {
    quantize_with(q, w, None)
}

fn one(op: QuantizedOp, inputs: &[&Tensor], dtype: DType, shape: &[usize]) -> Tensor {
    crate::testing::run(&Prim::Quantized(op), inputs, dtype, shape)
}

fn dequantize(q: Quantization, parts: &[Tensor], dtype: DType) -> Tensor {
    let mut shape = parts[1].shape.clone();
    *shape.last_mut().unwrap() *= q.group_size();
    let inputs: Vec<&Tensor> = parts.iter().collect();
    one(QuantizedOp::Dequantize(q), &inputs, dtype, &shape)
}

fn product(q: Quantization, transpose: bool, x: &Tensor, w: &[Tensor]) -> Tensor {
    let rank = x.shape.len();
    let mut shape = x.shape.clone();
    shape[rank - 1] =
        if transpose { w[1].shape[rank - 2] } else { w[1].shape[rank - 1] * q.group_size() };
    let op = QuantizedOp::Matmul { quantization: q, transpose };
    let inputs: Vec<&Tensor> = std::iter::once(x).chain(w).collect();
    one(op, &inputs, x.dtype, &shape)
}

/// The value of a float code: sign, exponent with a bias, mantissa, from their definitions.
fn float(code: u64, mantissa: u32, bias: i32) -> f64 {
    let bits = if mantissa == 1 { 3 } else { 7 };
    let (e, m) =
        ((code >> mantissa) & ((1 << (bits - mantissa)) - 1), code & ((1 << mantissa) - 1));
    let unit = 2f64.powi(e.max(1) as i32 - bias - mantissa as i32);
    let value = (m as f64 + if e > 0 { 2f64.powi(mantissa as i32) } else { 0.0 }) * unit;
    if code >> bits & 1 == 1 { -value } else { value }
}

/// Dequantized weights in double precision: `rows` rows of `stored` elements for each matrix.
fn weights(q: Quantization, w: &[Tensor]) -> Vec<f64> {
    let (codes, scales) = (w[0].to_f64(), w[1].to_f64());
    let third = w.get(2).map(Tensor::to_f64);
    let (group, bits) = (q.group_size(), q.bits());
    let rank = w[1].shape.len();
    let stored = w[1].shape[rank - 1] * group;
    let rows = w[1].shape[rank - 2];
    let element = |i: usize| {
        let (row, at) = (i / stored, i % stored * bits);
        let word = |t: usize| codes[row * (stored * bits / 32) + t] as u64;
        let pair = word(at / 32) | if at % 32 + bits > 32 { word(at / 32 + 1) << 32 } else { 0 };
        let code = (pair >> (at % 32)) & ((1 << bits) - 1);
        let g = i / group;
        match q {
            Quantization::Affine { .. } => scales[g] * code as f64 + third.as_ref().unwrap()[g],
            Quantization::MxFp4 => 2f64.powf(scales[g] - 127.0) * float(code, 1, 1),
            Quantization::MxFp8 => 2f64.powf(scales[g] - 127.0) * float(code, 3, 7),
            Quantization::NvFp4 => {
                let global = third.as_ref().map_or(1.0, |t| t[row / rows] / 2688.0);
                float(scales[g] as u64, 3, 7) * float(code, 1, 1) * global
            }
            Quantization::Blocks(_) => unreachable!("blocks have tests of their own"),
        }
    };
    (0..scales.len() * group).map(element).collect()
}

/// `x · w` in double precision, row by row; and a bound on the rounding of a sum in f32.
fn reference(q: Quantization, transpose: bool, x: &Tensor, w: &[Tensor]) -> Vec<(f64, f64)> {
    let rank = x.shape.len();
    let (m, k) = (x.shape[rank - 2], x.shape[rank - 1]);
    let (rows, stored) = (w[1].shape[rank - 2], w[1].shape[rank - 1] * q.group_size());
    let n = if transpose { rows } else { stored };
    let (x, w) = (x.to_f64(), weights(q, w));
    let mut out = Vec::new();
    for z in 0..x.len() / (m * k).max(1) {
        let dense = &w[z * rows * stored..];
        for i in 0..m {
            for j in 0..n {
                let (mut sum, mut size) = (0.0, 0.0);
                for p in 0..k {
                    let w = if transpose { dense[j * k + p] } else { dense[p * n + j] };
                    let term = x[(z * m + i) * k + p] * w;
                    sum += term;
                    size += term.abs();
                }
                out.push((sum, size * (k as f64 + 4.0) * 2f64.powi(-23)));
            }
        }
    }
    out
}

#[track_caller]
fn check(want: &[(f64, f64)], got: &Tensor, what: &str) {
    let rounding = match got.dtype {
        DType::F16 => 2f64.powi(-11),
        DType::BF16 => 2f64.powi(-8),
        _ => 0.0,
    };
    assert_eq!(want.len(), got.size());
    for (i, (&(want, bound), got)) in want.iter().zip(got.to_f64()).enumerate() {
        let tolerance = bound + rounding * want.abs() + 1e-30;
        assert!((got - want).abs() <= tolerance, "{what} [{i}]: {got} != {want}");
    }
}

#[test]
fn products_of_every_packing() {
    let mut rng = Rng(1);
    for q in all() {
        for (m, k, n) in [
            (1, 256, 37),
            (3, 128, 70),
            (2, 640, 33),
            (1, 640, 70),
            (9, 384, 17),
            (40, 128, 40),
            (21, 640, 150),
        ] {
            let x = rng.tensor(DType::F32, &[m, k], -1.0, 1.0);
            let w = quantize(q, &rng.tensor(DType::F32, &[n, k], -1.0, 1.0));
            let got = product(q, true, &x, &w);
            check(&reference(q, true, &x, &w), &got, &format!("{q:?} {m}x{k}x{n}"));
            let x = rng.tensor(DType::F32, &[m, n], -1.0, 1.0);
            let got = product(q, false, &x, &w);
            check(&reference(q, false, &x, &w), &got, &format!("{q:?} {m}x{n}x{k} plain"));
        }
    }
}

/// A row of nvfp4 may hold an odd number of groups of 16, which ends in the middle of what kernels
/// read at a time.
#[test]
fn rows_of_an_odd_number_of_groups() {
    let mut rng = Rng(6);
    let q = Quantization::NvFp4;
    for k in [16, 48, 144, 2064] {
        for (m, n) in [(1, 33), (2, 5), (20, 40)] {
            let w = quantize(q, &rng.tensor(DType::F32, &[n, k], -1.0, 1.0));
            let x = rng.tensor(DType::F32, &[m, k], -1.0, 1.0);
            check(&reference(q, true, &x, &w), &product(q, true, &x, &w), &format!("{m}x{k}x{n}"));
            let x = rng.tensor(DType::F32, &[m, n], -1.0, 1.0);
            check(&reference(q, false, &x, &w), &product(q, false, &x, &w), &format!("{k} plain"));
            let (ours, want) = (dequantize(q, &w, DType::F32).to_f64(), weights(q, &w));
            assert_eq!(ours, want);
        }
    }
}

#[test]
fn global_scales_belong_to_matrices() {
    let mut rng = Rng(7);
    let q = Quantization::NvFp4;
    let w = rng.tensor(DType::F32, &[3, 20, 64], -40.0, 40.0);
    let global = Tensor::new(&[40f32, 55.0, 3.0], &[3, 1, 1]);
    let parts = quantize_with(q, &w, Some(&global));
    for (i, (ours, want)) in
        dequantize(q, &parts, DType::F32).to_f64().iter().zip(weights(q, &parts)).enumerate()
    {
        assert!((ours - want).abs() <= 1e-6 * want.abs(), "{i}");
        // The third matrix has values beyond its global scale, and saturates.
        if i < 2 * 20 * 64 {
            assert!((ours - w.to_f64()[i]).abs() <= 0.2 * w.to_f64()[i].abs() + 2.0, "{i}");
        }
    }
    for m in [1, 9] {
        let x = rng.tensor(DType::F32, &[3, m, 64], -1.0, 1.0);
        check(&reference(q, true, &x, &parts), &product(q, true, &x, &parts), "transposed");
        let x = rng.tensor(DType::F32, &[3, m, 20], -1.0, 1.0);
        check(&reference(q, false, &x, &parts), &product(q, false, &x, &parts), "plain");
    }
    for bad in [0.0, -1.0, f32::NAN, f32::INFINITY] {
        let prim = Prim::Quantized(QuantizedOp::Quantize(q));
        let global = Tensor::new(&[1.0, bad, 1.0], &[3, 1, 1]);
        let mut out = parts[..2].to_vec();
        let error = try_run(Work::Prim(&prim), &[&w, &global], &mut out).unwrap_err();
        assert_eq!((error.kind(), error.op()), (ErrorKind::Value, "quantize"));
    }
}

/// A NaN or an infinity is never lost: its group becomes NaN. (MLX stores zeros or large numbers.)
#[test]
fn groups_that_are_not_finite_stay_so() {
    for q in [Quantization::MxFp4, Quantization::MxFp8, Quantization::NvFp4] {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut w = vec![0.5f32; 96];
            w[40] = bad;
            let parts = quantize(q, &Tensor::new(&w, &[1, 96]));
            let back = dequantize(q, &parts, DType::F32).to_vec::<f32>();
            let first = 40 / q.group_size() * q.group_size();
            for (i, x) in back.iter().enumerate() {
                assert_eq!(x.is_nan(), (first..first + q.group_size()).contains(&i), "{q} {i}");
            }
            for m in [1, 30] {
                let x = Tensor::new(&vec![1f32; m * 96], &[m, 96]);
                let y = product(q, true, &x, &parts).to_vec::<f32>();
                assert!(y.iter().all(|y| y.is_nan()), "{q}");
            }
        }
    }
}

/// The NaN codes of e4m3, in a weight and in a scale, reach exactly what they are part of.
#[test]
fn nan_codes_of_checkpoints() {
    let n = 70;
    for (q, part, at) in [(Quantization::MxFp8, 0, 3 * 24 + 7), (Quantization::NvFp4, 1, 3 * 6 + 2)]
    {
        for code in [0x7fu8, 0xff] {
            let mut rng = Rng(8);
            let w = quantize(q, &rng.tensor(DType::F32, &[n, 96], -1.0, 1.0));
            let mut w = w;
            w[part] = if part == 0 {
                let mut words = w[0].to_vec::<u32>();
                words[at] = words[at] & !0xff00 | (code as u32) << 8;
                Tensor::new(&words, &w[0].shape)
            } else {
                let mut bytes = w[1].to_vec::<u8>();
                bytes[at] = code;
                Tensor::new(&bytes, &w[1].shape)
            };
            for m in [1, 5, 40] {
                let x = rng.tensor(DType::F32, &[m, 96], 0.5, 1.0);
                let y = product(q, true, &x, &w).to_vec::<f32>();
                for (i, y) in y.iter().enumerate() {
                    assert_eq!(y.is_nan(), i % n == 3, "{q} {m} {i}");
                }
            }
        }
    }
}

#[test]
fn fake_quantization_is_both_ways_at_once() {
    let mut rng = Rng(9);
    for q in all() {
        let x = rng.tensor(DType::F32, &[5, 256], -3.0, 3.0);
        for stored in [DType::F32, DType::BF16] {
            let x = if stored == DType::F32 {
                x.clone()
            } else {
                Tensor::from_f64(&x.to_f64(), stored, &[5, 256])
            };
            for dtype in [DType::F32, DType::F16, DType::BF16] {
                let want = dequantize(q, &quantize(q, &x), dtype);
                let got = one(QuantizedOp::FakeQuantize(q), &[&x], dtype, &[5, 256]);
                assert_eq!(got.bits(), want.bits(), "{q} {stored} {dtype}");
            }
        }
    }
    let global = Tensor::new(&[7.5f32], &[1, 1]);
    let x = rng.tensor(DType::F32, &[5, 64], -3.0, 3.0);
    let q = Quantization::NvFp4;
    let want = dequantize(q, &quantize_with(q, &x, Some(&global)), DType::F32);
    let got = one(QuantizedOp::FakeQuantize(q), &[&x, &global], DType::F32, &[5, 64]);
    assert_eq!(got.bits(), want.bits());
}

#[test]
fn dtypes_and_layouts() {
    let mut rng = Rng(2);
    for q in [AFFINE, Quantization::MxFp8, Quantization::NvFp4] {
        for dtype in [DType::F32, DType::F16, DType::BF16] {
            for stored in [DType::F32, DType::F16, DType::BF16] {
                let x = rng.tensor(dtype, &[5, 96], -1.0, 1.0);
                let w = quantize(q, &rng.tensor(stored, &[33, 96], -1.0, 1.0));
                let want = reference(q, true, &x, &w);
                let plain = product(q, true, &x, &w).bits();
                for i in 0..=w.len() {
                    let base = if i == w.len() { &x } else { &w[i] };
                    for (name, moved) in layouts(base) {
                        let (mut x, mut w) = (x.clone(), w.clone());
                        if i == w.len() {
                            x = moved
                        } else {
                            w[i] = moved
                        }
                        let got = product(q, true, &x, &w);
                        check(&want, &got, &format!("{q}, {dtype} by {stored}, {i} {name}"));
                        assert_eq!(got.bits(), plain);
                    }
                }
            }
        }
        let w = rng.tensor(DType::BF16, &[3, 5, 64], -1.0, 1.0);
        let want = quantize(q, &w);
        for (name, moved) in layouts(&w) {
            for (a, b) in quantize(q, &moved).iter().zip(&want) {
                assert_eq!(a.bits(), b.bits(), "{name}");
            }
        }
        let plain = dequantize(q, &want, DType::BF16).bits();
        for i in 0..want.len() {
            for (name, moved) in layouts(&want[i]) {
                let mut parts = want.clone();
                parts[i] = moved;
                assert_eq!(dequantize(q, &parts, DType::BF16).bits(), plain, "{i} {name}");
            }
        }
    }
}

#[test]
fn batches_and_empties() {
    let mut rng = Rng(3);
    for q in [Quantization::Affine { group_size: 64, bits: 5 }, Quantization::MxFp4] {
        let x = rng.tensor(DType::F32, &[2, 3, 4, 128], -1.0, 1.0);
        let w = quantize(q, &rng.tensor(DType::F32, &[2, 3, 10, 128], -1.0, 1.0));
        check(&reference(q, true, &x, &w), &product(q, true, &x, &w), "different matrices");
        let w = quantize(q, &rng.tensor(DType::F32, &[10, 128], -1.0, 1.0));
        let shared: Parts = w.iter().map(|t| t.broadcast(&[2, 3, 10, t.shape[1]])).collect();
        check(&reference(q, true, &x, &shared), &product(q, true, &x, &shared), "a shared one");
        let empty = Tensor::from_f64(&[], DType::F32, &[0, 128]);
        assert_eq!(product(q, true, &empty, &w).size(), 0);
        assert_eq!(quantize(q, &empty)[0].size(), 0);
    }
}

/// A row's result does not depend on how many rows there are, nor on the number of threads.
#[test]
fn bits_depend_on_row_and_column_only() {
    let mut rng = Rng(4);
    for q in all() {
        for (m, n, k) in [(30, 150, 640), (17, 70, 128)] {
            let w = quantize(q, &rng.tensor(DType::BF16, &[n, k], -1.0, 1.0));
            for dtype in [DType::F32, DType::F16, DType::BF16] {
                let x = rng.tensor(dtype, &[m, k], -1.0, 1.0);
                let whole = product(q, true, &x, &w);
                check(&reference(q, true, &x, &w), &whole, &format!("{q:?} {dtype} whole"));
                let whole = whole.bits();
                assert_eq!(whole, inline(|| product(q, true, &x, &w)).bits());
                for rows in [1, 2, 3, 4, 5, 8, 13] {
                    let mut part = x.clone();
                    part.offset = (m - rows) * k;
                    part.shape[0] = rows;
                    let got = product(q, true, &part, &w);
                    assert!(got.bits() == whole[(m - rows) * n..], "{q:?} {dtype} {rows} rows");
                }
            }
        }
    }
}

/// Rows and columns that no matrix engine can take leave the others as they are.
#[test]
fn odd_rows_and_scales() {
    let mut rng = Rng(11);
    let (m, n, k) = (20, 70, 128);
    for q in all() {
        let w = quantize(q, &rng.tensor(DType::F32, &[n, k], -1.0, 1.0));
        let x = rng.tensor(DType::F32, &[m, k], -1.0, 1.0).to_vec::<f32>();
        let plain = product(q, true, &Tensor::new(&x, &[m, k]), &w).bits();
        for value in [f32::NAN, f32::INFINITY, 1e35, 1e-32] {
            let mut x = x.clone();
            x[5 * k + 7] = value;
            let x = Tensor::new(&x, &[m, k]);
            let got = product(q, true, &x, &w);
            let bits = got.bits();
            assert!(bits[..5 * n] == plain[..5 * n] && bits[6 * n..] == plain[6 * n..], "{q}");
            let want = reference(q, true, &x, &w);
            for (&(want, bound), got) in want.iter().zip(got.to_f64()).skip(5 * n).take(n) {
                let close = (want - got).abs() <= bound + 1e-30;
                assert!(close || !want.is_finite() && !got.is_finite(), "{q}: {got} != {want}");
            }
        }
        if q.is_affine() {
            let mut w = w.clone();
            let mut scales = w[1].to_vec::<f32>();
            scales[37 * (k / q.group_size())] = f32::INFINITY;
            w[1] = Tensor::new(&scales, &w[1].shape);
            let got = product(q, true, &Tensor::new(&x, &[m, k]), &w).to_vec::<f32>();
            for (i, (got, &bits)) in got.iter().zip(&plain).enumerate() {
                let before = f32::from_bits(bits as u32);
                let close = (got - before).abs() <= 1e-3;
                assert!(close || i % n == 37 && !got.is_finite(), "{q} {i}: {got} {before}");
            }
        }
    }
}

/// Many rows that no matrix engine can take have the bits that each has by itself.
#[test]
fn odd_rows_together() {
    let mut rng = Rng(12);
    let (m, n, k) = (40, 70, 128);
    for q in all() {
        for dtype in [DType::F32, DType::BF16] {
            let w = quantize(q, &rng.tensor(DType::F32, &[n, k], -1.0, 1.0));
            let mut x = rng.vec(m * k, -1.0, 1.0);
            for row in (0..m).filter(|row| row % 3 != 1) {
                x[row * k + row] = [1e35, f64::INFINITY, 1e-36][row % 5 % 3];
            }
            let x = Tensor::from_f64(&x, dtype, &[m, k]);
            let whole = product(q, true, &x, &w).scalars();
            for row in 0..m {
                let mut part = x.clone();
                part.offset = row * k;
                part.shape[0] = 1;
                let got = product(q, true, &part, &w).scalars();
                for (got, want) in got.iter().zip(&whole[row * n..]) {
                    // All but the sign of a NaN.
                    let nan = got.to_c128().0.is_nan() && want.to_c128().0.is_nan();
                    assert!(nan || got.bits == want.bits, "{q:?} {dtype} row {row}");
                }
            }
        }
    }
}

/// Picked products have the bits of the products themselves.
#[test]
fn gathered_products() {
    let mut rng = Rng(5);
    for q in all() {
        for (m, k, n) in [(1, 128, 70), (3, 256, 20)] {
            let x = rng.tensor(DType::F32, &[4, m, k], -1.0, 1.0);
            let w = quantize(q, &rng.tensor(DType::F32, &[5, n, k], -1.0, 1.0));
            let lhs = Tensor::new(&[3i32, 0, 1, -4, 2, 2, 1, 0], &[4, 2]);
            let rhs = Tensor::new(&[4u8, 0, 4, 1, 4, 1, 1, 0], &[4, 2]);
            let op = QuantizedOp::GatherMatmul { quantization: q, transpose: true };
            let inputs: Vec<&Tensor> = std::iter::once(&x).chain(&w).chain([&lhs, &rhs]).collect();
            let got = one(op, &inputs, DType::F32, &[4, 2, m, n]).bits();
            for i in 0..8 {
                let left = (lhs.to_f64()[i] as i64).rem_euclid(4) as usize;
                let right = rhs.to_f64()[i] as usize;
                let part = |t: &Tensor, i: usize| {
                    let mut t = t.clone();
                    t.offset = i * t.shape[1] * t.shape[2];
                    (t.shape, t.strides) = (t.shape[1..].to_vec(), t.strides[1..].to_vec());
                    t
                };
                let w: Parts = w.iter().map(|t| part(t, right)).collect();
                let want = product(q, true, &part(&x, left), &w).bits();
                assert_eq!(got[i * m * n..][..m * n], want, "{q} {i}");
            }
        }
    }
    let q = Quantization::MxFp4;
    let x = rng.tensor(DType::F32, &[4, 1, 64], -1.0, 1.0);
    let w = quantize(q, &rng.tensor(DType::F32, &[5, 8, 64], -1.0, 1.0));
    for (lhs, rhs, bad) in
        [(4, 0, "4 left"), (0, 5, "5 right"), (-5, 0, "4 left"), (0, -6, "5 right")]
    {
        let (lhs, rhs) = (Tensor::new(&[lhs], &[1]), Tensor::new(&[rhs], &[1]));
        let op = Prim::Quantized(QuantizedOp::GatherMatmul { quantization: q, transpose: true });
        let mut out = [Tensor::empty(DType::F32, &[1, 1, 8])];
        let inputs = [&x, &w[0], &w[1], &lhs, &rhs];
        let error = try_run(Work::Prim(&op), &inputs, &mut out).unwrap_err();
        assert_eq!((error.kind(), error.op()), (ErrorKind::Index, "gather_qmm"));
        assert!(error.message().contains(bad), "{error}");
    }
}

/// The tensors of a golden file.
pub(super) fn golden_tensors(name: &str) -> HashMap<String, Tensor> {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../testkit/golden");
    let file = std::fs::read(format!("{dir}/{name}.safetensors")).unwrap();
    let length = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
    let header: serde_json::Value = serde_json::from_slice(&file[8..8 + length]).unwrap();
    let data = &file[8 + length..];
    let mut tensors = HashMap::new();
    for (name, t) in header.as_object().unwrap() {
        if name == "__metadata__" {
            continue;
        }
        let numbers = |v: &serde_json::Value| -> Vec<usize> {
            v.as_array().unwrap().iter().map(|x| x.as_u64().unwrap() as usize).collect()
        };
        let (shape, range) = (numbers(&t["shape"]), numbers(&t["data_offsets"]));
        let bytes = &data[range[0]..range[1]];
        let tensor = match t["dtype"].as_str().unwrap() {
            "F32" => Tensor::new(&bytemuck::pod_collect_to_vec::<u8, f32>(bytes), &shape),
            "F16" => Tensor::new(&bytemuck::pod_collect_to_vec::<u8, half::f16>(bytes), &shape),
            "BF16" => Tensor::new(&bytemuck::pod_collect_to_vec::<u8, half::bf16>(bytes), &shape),
            "U32" => Tensor::new(&bytemuck::pod_collect_to_vec::<u8, u32>(bytes), &shape),
            "U8" => Tensor::new(bytes, &shape),
            other => panic!("dtype {other}"),
        };
        tensors.insert(name.clone(), tensor);
    }
    tensors
}

#[test]
fn golden_files() {
    let tensors = golden_tensors("quantized");
    let cases = concat!(env!("CARGO_MANIFEST_DIR"), "/../testkit/golden/quantized.json");
    let file: serde_json::Value = serde_json::from_slice(&std::fs::read(cases).unwrap()).unwrap();
    let cases = file["cases"].as_array().unwrap();
    assert!(cases.len() > 120);
    for case in cases {
        let id = case["id"].as_str().unwrap();
        let number = |key: &str| case[key].as_u64().map(|x| x as u32);
        let tensor = |key: &str| case[key].as_str().map(|name| &tensors[name]);
        let mode = case["mode"].as_str().unwrap_or("affine");
        let q = Quantization::new(mode, number("group_size"), number("bits")).unwrap();
        let parts: Parts =
            ["packed", "scales", "biases"].into_iter().filter_map(tensor).cloned().collect();
        if case["fn"] == "quantize" {
            let w = tensor("w").unwrap();
            let global = tensor("global_scale")
                .map(|t| Tensor::new(&t.to_vec::<f32>(), &vec![1; w.shape.len()]));
            let ours = quantize_with(q, w, global.as_ref());
            for (ours, theirs) in ours.iter().zip(&parts) {
                assert_eq!(ours.bits(), theirs.bits(), "{id}");
            }
            let parts: Parts = parts.into_iter().chain(global).collect();
            let theirs = tensor("dequantized").unwrap();
            let ours = dequantize(q, &parts, theirs.dtype);
            assert_eq!(ours.bits(), theirs.bits(), "{id} dequantized");
        } else {
            let mut x = tensor("x").unwrap().clone();
            let n = x.size() / x.shape[x.shape.len() - 1];
            x = Tensor::new(&x.to_vec::<f32>(), &[n, x.shape[x.shape.len() - 1]]);
            let transpose = case["transpose"].as_bool().unwrap();
            let got = product(q, transpose, &x, &parts).to_f64();
            let (rtol, atol) = (case["rtol"].as_f64().unwrap(), case["atol"].as_f64().unwrap());
            for (got, want) in got.iter().zip(tensor("out").unwrap().to_f64()) {
                assert!((got - want).abs() <= atol + rtol * want.abs(), "{id}: {got} != {want}");
            }
        }
    }
}

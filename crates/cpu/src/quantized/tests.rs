//! Quantization against the golden files that MLX made, and products against dense ones.

use crate::testing::{Rng, Tensor, inline, layouts, try_run};
use lazul_ir::{DType, Prim, Quantization, QuantizedOp, Work};
use std::collections::HashMap;

const BITS: [u32; 6] = [2, 3, 4, 5, 6, 8];
const GROUPS: [u32; 3] = [32, 64, 128];

fn quantize(q: Quantization, w: &Tensor) -> [Tensor; 3] {
    let k = w.shape[w.shape.len() - 1];
    let shape = |last: usize| [&w.shape[..w.shape.len() - 1], &[last]].concat();
    let groups = shape(k / q.group_size as usize);
    let mut out = [
        Tensor::empty(DType::U32, &shape(k * q.bits as usize / 32)),
        Tensor::empty(w.dtype, &groups),
        Tensor::empty(w.dtype, &groups),
    ];
    let prim = Prim::Quantized(QuantizedOp::Quantize(q));
    try_run(Work::Prim(&prim), &[w], &mut out).unwrap();
    out
}

fn one(op: QuantizedOp, inputs: &[&Tensor], dtype: DType, shape: &[usize]) -> Tensor {
    crate::testing::run(&Prim::Quantized(op), inputs, dtype, shape)
}

fn dequantize(q: Quantization, [codes, scales, biases]: &[Tensor; 3]) -> Tensor {
    let mut shape = scales.shape.clone();
    *shape.last_mut().unwrap() *= q.group_size as usize;
    one(QuantizedOp::Dequantize(q), &[codes, scales, biases], scales.dtype, &shape)
}

fn product(q: Quantization, transpose: bool, x: &Tensor, w: &[Tensor; 3]) -> Tensor {
    let rank = x.shape.len();
    let mut shape = x.shape.clone();
    shape[rank - 1] =
        if transpose { w[1].shape[rank - 2] } else { w[1].shape[rank - 1] * q.group_size as usize };
    let op = QuantizedOp::Matmul { quantization: q, transpose };
    one(op, &[x, &w[0], &w[1], &w[2]], x.dtype, &shape)
}

/// `x · w`, `w` from codes, scales and biases in double precision, row by row; and a bound on the
/// rounding of a sum in f32.
fn reference(q: Quantization, transpose: bool, x: &Tensor, w: &[Tensor; 3]) -> Vec<(f64, f64)> {
    let (codes, scales, biases) = (w[0].to_f64(), w[1].to_f64(), w[2].to_f64());
    let (group, bits) = (q.group_size as usize, q.bits as usize);
    let rank = x.shape.len();
    let (m, k) = (x.shape[rank - 2], x.shape[rank - 1]);
    let stored = w[1].shape[rank - 1] * group;
    let n = if transpose { w[1].shape[rank - 2] } else { stored };
    let rows = if transpose { n } else { k };
    let weight = |z: usize, row: usize, i: usize| {
        let stream = (z * rows + row) * stored * bits + i * bits;
        let word = |t: usize| codes.get(t).copied().unwrap_or(0.0) as u64;
        let pair = word(stream / 32) | word(stream / 32 + 1) << 32;
        let code = (pair >> (stream % 32)) & ((1 << bits) - 1);
        let g = (z * rows + row) * (stored / group) + i / group;
        scales[g] * code as f64 + biases[g]
    };
    let x = x.to_f64();
    let mut out = Vec::new();
    for z in 0..x.len() / (m * k).max(1) {
        let dense: Vec<f64> =
            (0..rows * stored).map(|i| weight(z, i / stored, i % stored)).collect();
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
    for bits in BITS {
        for group_size in GROUPS {
            let q = Quantization { group_size, bits };
            for (m, k, n) in [(1, 256, 37), (3, 128, 70), (9, 384, 17), (40, 128, 40)] {
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
}

#[test]
fn dtypes_and_layouts() {
    let mut rng = Rng(2);
    let q = Quantization { group_size: 32, bits: 4 };
    for dtype in [DType::F32, DType::F16, DType::BF16] {
        for stored in [DType::F32, DType::F16, DType::BF16] {
            let x = rng.tensor(dtype, &[5, 96], -1.0, 1.0);
            let w = quantize(q, &rng.tensor(stored, &[33, 96], -1.0, 1.0));
            let want = reference(q, true, &x, &w);
            let plain = product(q, true, &x, &w).bits();
            for i in 0..4 {
                let base = if i == 3 { &x } else { &w[i] };
                for (name, moved) in layouts(base) {
                    let (mut x, mut w) = (x.clone(), w.clone());
                    if i == 3 {
                        x = moved
                    } else {
                        w[i] = moved
                    }
                    let got = product(q, true, &x, &w);
                    check(&want, &got, &format!("{dtype} by {stored}, operand {i} {name}"));
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
    for i in 0..3 {
        for (name, moved) in layouts(&want[i]) {
            let mut parts = want.clone();
            parts[i] = moved;
            assert_eq!(dequantize(q, &parts).bits(), dequantize(q, &want).bits(), "{i} {name}");
        }
    }
}

#[test]
fn batches_and_empties() {
    let mut rng = Rng(3);
    let q = Quantization { group_size: 64, bits: 5 };
    let x = rng.tensor(DType::F32, &[2, 3, 4, 128], -1.0, 1.0);
    let w = quantize(q, &rng.tensor(DType::F32, &[2, 3, 10, 128], -1.0, 1.0));
    check(&reference(q, true, &x, &w), &product(q, true, &x, &w), "different matrices");
    let w = quantize(q, &rng.tensor(DType::F32, &[10, 128], -1.0, 1.0));
    let shared = [0, 1, 2].map(|i| {
        let t = &w[i];
        t.broadcast(&[2, 3, 10, t.shape[1]])
    });
    check(&reference(q, true, &x, &shared), &product(q, true, &x, &shared), "a shared one");
    let empty = Tensor::from_f64(&[], DType::F32, &[0, 128]);
    assert_eq!(product(q, true, &empty, &w).size(), 0);
    assert_eq!(quantize(q, &empty)[0].size(), 0);
}

/// A row's result does not depend on how many rows there are, nor on the number of threads.
#[test]
fn bits_depend_on_row_and_column_only() {
    let mut rng = Rng(4);
    for bits in BITS {
        for group_size in GROUPS {
            let q = Quantization { group_size, bits };
            for (m, n, k) in [(30, 150, 640), (17, 70, 128)] {
                let w = quantize(q, &rng.tensor(DType::BF16, &[n, k], -1.0, 1.0));
                let x = rng.tensor(DType::F32, &[m, k], -1.0, 1.0);
                let whole = product(q, true, &x, &w).bits();
                assert_eq!(whole, inline(|| product(q, true, &x, &w)).bits());
                for rows in [1, 2, 3, 4, 5, 8, 13] {
                    let mut part = x.clone();
                    part.offset = (m - rows) * k;
                    part.shape[0] = rows;
                    let got = product(q, true, &part, &w).bits();
                    assert_eq!(got, whole[(m - rows) * n..], "{q:?} {rows} rows");
                }
            }
        }
    }
}

/// The tensors of a safetensors file.
fn golden() -> (HashMap<String, Tensor>, serde_json::Value) {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../testkit/golden/quantized");
    let file = std::fs::read(format!("{dir}.safetensors")).unwrap();
    let cases = std::fs::read(format!("{dir}.json")).unwrap();
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
            other => panic!("dtype {other}"),
        };
        tensors.insert(name.clone(), tensor);
    }
    (tensors, serde_json::from_slice(&cases).unwrap())
}

#[test]
fn golden_files() {
    let (tensors, file) = golden();
    let cases = file["cases"].as_array().unwrap();
    assert!(cases.len() > 90);
    for case in cases {
        let id = case["id"].as_str().unwrap();
        let number = |key: &str| case[key].as_u64().unwrap() as u32;
        let tensor = |key: &str| &tensors[case[key].as_str().unwrap()];
        let q = Quantization { group_size: number("group_size"), bits: number("bits") };
        let parts = ["packed", "scales", "biases"].map(|key| tensor(key).clone());
        if case["fn"] == "quantize" {
            let ours = quantize(q, tensor("w"));
            for (ours, theirs) in ours.iter().zip(&parts) {
                assert_eq!(ours.bits(), theirs.bits(), "{id}");
            }
            let (ours, theirs) = (dequantize(q, &parts), tensor("dequantized"));
            assert_eq!(ours.bits(), theirs.bits(), "{id} dequantized");
        } else {
            let mut x = tensor("x").clone();
            let n = x.size() / x.shape[x.shape.len() - 1];
            x = Tensor::new(&x.to_vec::<f32>(), &[n, x.shape[x.shape.len() - 1]]);
            let transpose = case["transpose"].as_bool().unwrap();
            let got = product(q, transpose, &x, &parts).to_f64();
            let (rtol, atol) = (case["rtol"].as_f64().unwrap(), case["atol"].as_f64().unwrap());
            for (got, want) in got.iter().zip(tensor("out").to_f64()) {
                assert!((got - want).abs() <= atol + rtol * want.abs(), "{id}: {got} != {want}");
            }
        }
    }
}

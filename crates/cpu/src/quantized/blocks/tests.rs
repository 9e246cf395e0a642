//! Blocks against the numbers that ggml's own package makes of them, and products in double precision.

use super::*;
use crate::quantized::tests::golden_tensors;
use crate::testing::{Rng, Tensor, inline, layouts, run, try_run};
use lazul_ir::{ErrorKind, Prim, Quantization, QuantizedOp, Work};

fn dequantized(format: BlockFormat, bytes: &Tensor, dtype: DType) -> Tensor {
    let mut shape = bytes.shape.clone();
    let last = shape.last_mut().unwrap();
    *last = *last / format.bytes() * format.elements();
    let op = QuantizedOp::Dequantize(Quantization::Blocks(format));
    run(&Prim::Quantized(op), &[bytes], dtype, &shape)
}

fn product(format: BlockFormat, transpose: bool, x: &Tensor, w: &Tensor) -> Tensor {
    let rank = x.shape.len();
    let [rows, bytes] = w.shape[rank - 2..] else { unreachable!() };
    let mut shape = x.shape.clone();
    shape[rank - 1] = if transpose { rows } else { bytes / format.bytes() * format.elements() };
    let op = QuantizedOp::Matmul { quantization: Quantization::Blocks(format), transpose };
    run(&Prim::Quantized(op), &[x, w], x.dtype, &shape)
}

/// Rows of `columns` random elements; scales are those of the golden file, whose rows these repeat.
fn matrix(format: BlockFormat, rows: usize, columns: usize) -> Tensor {
    let golden = golden_tensors("blocks").remove(&format!("{}.bytes", format.name())).unwrap();
    let golden = golden.to_vec::<u8>();
    let size = format.bytes();
    let count = rows * columns / format.elements();
    let blocks = golden.len() / size;
    // A stride that visits all blocks in another order in each row.
    let bytes: Vec<u8> = (0..count)
        .flat_map(|i| golden[(i * 7 + i / 5) % blocks * size..][..size].to_vec())
        .collect();
    Tensor::new(&bytes, &[rows, columns / format.elements() * size])
}

/// `x · w` in double precision, with the sum of the magnitudes.
fn reference(x: &Tensor, w: &Tensor, transpose: bool) -> Vec<(f64, f64)> {
    let (m, k) = (x.shape[0], x.shape[1]);
    let n = if transpose { w.shape[0] } else { w.shape[1] };
    let (x, w) = (x.to_f64(), w.to_f64());
    let at = |i: usize, j: usize| {
        (0..k).fold((0.0, 0.0), |(sum, size), p| {
            let term = x[i * k + p] * if transpose { w[j * k + p] } else { w[p * n + j] };
            (sum + term, size + term.abs())
        })
    };
    (0..m * n).map(|i| at(i / n, i % n)).collect()
}

#[test]
fn numbers_are_those_of_ggml() {
    let golden = golden_tensors("blocks");
    for format in BlockFormat::ALL {
        let bytes = &golden[&format!("{}.bytes", format.name())];
        let want = &golden[&format!("{}.numbers", format.name())];
        let got = dequantized(format, bytes, DType::F32);
        assert_eq!(got.bits(), want.bits(), "{}", format.name());
        for dtype in [DType::F16, DType::BF16] {
            let got = dequantized(format, bytes, dtype);
            let rounded = Tensor::from_f64(&want.to_f64(), dtype, &want.shape);
            assert_eq!(got.bits(), rounded.bits(), "{} {dtype}", format.name());
        }
        for (name, moved) in layouts(bytes) {
            let got = dequantized(format, &moved, DType::F32);
            assert_eq!(got.bits(), want.bits(), "{} {name}", format.name());
        }
    }
}

/// Rounding of an f32 sum of `k` products; for bf16, of weights and of the result too.
fn tolerance(dtype: DType, k: usize, (sum, size): (f64, f64)) -> f64 {
    let exact = size * (k as f64 + 8.0) * 2f64.powi(-24);
    match dtype {
        DType::BF16 => exact + size * 2f64.powi(-9) + sum.abs() * 2f64.powi(-8),
        DType::F16 => exact + sum.abs() * 2f64.powi(-11) + 2f64.powi(-24),
        _ => exact,
    }
}

#[test]
fn products_of_every_format() {
    let mut rng = Rng(11);
    for format in BlockFormat::ALL {
        for (m, k, n) in [(1, 512, 37), (3, 256, 70), (8, 768, 16), (15, 512, 33), (70, 1280, 45)] {
            let w = matrix(format, n, k);
            let plain = dequantized(format, &w, DType::F32);
            for dtype in [DType::F32, DType::F16, DType::BF16] {
                let x = rng.tensor(dtype, &[m, k], -1.0, 1.0);
                let got = product(format, true, &x, &w).to_f64();
                for (i, (want, got)) in reference(&x, &plain, true).iter().zip(got).enumerate() {
                    let most = tolerance(dtype, k, *want);
                    let name = format.name();
                    assert!(
                        (got - want.0).abs() <= most,
                        "{name} {dtype} {m}x{k}x{n} [{i}]: {got} {want:?}"
                    );
                }
            }
            let x = rng.tensor(DType::F32, &[m, n], -1.0, 1.0);
            let got = product(format, false, &x, &w).to_f64();
            for (want, got) in reference(&x, &plain, false).iter().zip(got) {
                assert!(
                    (got - want.0).abs() <= tolerance(DType::F32, n, *want),
                    "{}",
                    format.name()
                );
            }
        }
    }
}

/// With few rows weights are exact, whatever the dtype of the activations.
#[test]
fn few_rows_do_not_round_weights() {
    let mut rng = Rng(12);
    for format in BlockFormat::ALL {
        let w = matrix(format, 40, 1024);
        let plain = dequantized(format, &w, DType::F32);
        for m in [1, 8] {
            let x = rng.tensor(DType::BF16, &[m, 1024], -1.0, 1.0);
            let want: Vec<f64> = reference(&x, &plain, true).iter().map(|w| w.0).collect();
            let got = product(format, true, &x, &w).to_f64();
            let scale = want.iter().fold(0f64, |most, w| most.max(w.abs()));
            for (want, got) in want.iter().zip(got) {
                let most = want.abs() * 2f64.powi(-8) + scale * 1e-5;
                assert!((got - want).abs() <= most, "{}", format.name());
            }
        }
    }
}

/// A row's bits do not hang on how many of up to eight rows there are, nor on threads and layouts.
#[test]
fn bits_of_few_rows() {
    let mut rng = Rng(13);
    for format in BlockFormat::ALL {
        let (n, k) = (150, 512);
        let w = matrix(format, n, k);
        let x = rng.tensor(DType::F32, &[8, k], -1.0, 1.0);
        let whole = product(format, true, &x, &w).bits();
        assert_eq!(whole, inline(|| product(format, true, &x, &w)).bits());
        for rows in 1..8 {
            let mut part = x.clone();
            part.offset = (8 - rows) * k;
            part.shape[0] = rows;
            assert_eq!(product(format, true, &part, &w).bits(), whole[(8 - rows) * n..]);
        }
        for (name, moved) in layouts(&x) {
            assert_eq!(product(format, true, &moved, &w).bits(), whole, "{name}");
        }
        for (name, moved) in layouts(&w) {
            assert_eq!(product(format, true, &x, &moved).bits(), whole, "{name}");
        }
    }
}

#[test]
fn batches_and_picks() {
    let mut rng = Rng(14);
    for format in [BlockFormat::Q4_0, BlockFormat::Q5K] {
        let (m, k, n) = (3, 256, 20);
        let mut w = matrix(format, 5 * n, k);
        let bytes = w.shape[1];
        w = Tensor::new(&w.to_vec::<u8>(), &[5, n, bytes]);
        let matrix = |i: usize| {
            let mut one = w.clone();
            one.offset = i * n * bytes;
            (one.shape, one.strides) = (vec![n, bytes], vec![bytes as isize, 1]);
            one
        };
        let x = rng.tensor(DType::F32, &[5, m, k], -1.0, 1.0);
        let left = |i: usize| {
            let mut one = x.clone();
            one.offset = i * m * k;
            (one.shape, one.strides) = (vec![m, k], vec![k as isize, 1]);
            one
        };
        let got = product(format, true, &x, &w).bits();
        for i in 0..5 {
            let want = product(format, true, &left(i), &matrix(i)).bits();
            assert_eq!(got[i * m * n..][..m * n], want);
        }
        let lhs = Tensor::new(&[3i32, 0, -1], &[3]);
        let rhs = Tensor::new(&[4u8, 0, 4], &[3]);
        let quantization = Quantization::Blocks(format);
        let op = Prim::Quantized(QuantizedOp::GatherMatmul { quantization, transpose: true });
        let got = run(&op, &[&x, &w, &lhs, &rhs], DType::F32, &[3, m, n]).to_f64();
        for (i, (l, r)) in [(3, 4), (0, 0), (4, 4)].into_iter().enumerate() {
            let plain = dequantized(format, &matrix(r), DType::F32);
            for (want, got) in reference(&left(l), &plain, true).iter().zip(&got[i * m * n..]) {
                assert!((got - want.0).abs() <= tolerance(DType::F32, k, *want));
            }
        }
        let far = Tensor::new(&[5u8, 0, 4], &[3]);
        let mut out = [Tensor::empty(DType::F32, &[3, m, n])];
        let error = try_run(Work::Prim(&op), &[&x, &w, &lhs, &far], &mut out).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Index);
        let empty = Tensor::from_f64(&[], DType::F32, &[0, k]);
        assert_eq!(product(format, true, &empty, &matrix(0)).size(), 0);
        // No columns at all: sums of nothing.
        let x = Tensor::from_f64(&[], DType::F32, &[2, 0]);
        let none = Tensor::from_f64(&[], DType::U8, &[3, 0]);
        assert_eq!(product(format, true, &x, &none).to_f64(), [0.0; 6]);
    }
}

/// Any bytes are blocks: nothing runs past them, and a scale that is not finite reaches its block alone.
#[test]
fn bytes_that_nobody_meant() {
    let mut rng = Rng(15);
    for format in BlockFormat::ALL {
        let (rows, columns) = (5, 512);
        let bytes = columns / format.elements() * format.bytes();
        for fill in [0u8, 0xff] {
            let w = Tensor::new(&vec![fill; rows * bytes], &[rows, bytes]);
            for m in [1, 20] {
                let x = rng.tensor(DType::BF16, &[m, columns], -1.0, 1.0);
                let y = product(format, true, &x, &w).to_f64();
                assert!(y.iter().all(|y| y.is_nan() == (fill > 0)), "{} {fill} {m}", format.name());
            }
        }
        let random: Vec<u8> = (0..rows * bytes).map(|i| (i * 97 + i / 11 * 31) as u8).collect();
        dequantized(format, &Tensor::new(&random, &[rows, bytes]), DType::F32);
    }
}

#[test]
fn blocks_are_not_made() {
    let q = Quantization::Blocks(BlockFormat::Q4_0);
    let w = Tensor::new(&[1f32; 64], &[2, 32]);
    let op = Prim::Quantized(QuantizedOp::Quantize(q));
    let mut out = [Tensor::empty(DType::U8, &[2, 18])];
    let error = try_run(Work::Prim(&op), &[&w], &mut out).unwrap_err();
    assert_eq!((error.kind(), error.op()), (ErrorKind::Value, "quantize"));
}

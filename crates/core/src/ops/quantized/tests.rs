//! Wrong arguments, and what products and tables of small floats give.

use super::*;
use crate::prelude::*;
use lazul_ir::BlockFormat;

const FLOATS: [Quantization; 3] = [Quantization::MxFp4, Quantization::MxFp8, Quantization::NvFp4];

#[track_caller]
fn fails(a: Array, kind: ErrorKind, op: &str) {
    let error = a.eval().unwrap_err();
    assert_eq!((error.kind(), error.op()), (kind, op), "{error}");
}

fn matrix(shape: &[usize]) -> Array {
    let n: usize = shape.iter().product();
    (arange(n, DType::F32).reshape(shape) * 0.37).sin()
}

#[test]
fn bad_weights() {
    let bad = |a: &Array, form, kind| {
        let error = a.quantize(form).unwrap_err();
        assert_eq!((error.kind(), error.op()), (kind, "quantize"), "{error}");
        fails(
            a.fake_quantize(form, None),
            kind,
            if kind == ErrorKind::Value { "quantize" } else { "fake_quantize" },
        );
    };
    for form in FLOATS.into_iter().chain([quantization(32, 1).unwrap()]) {
        bad(&zeros([64], DType::F32), form, ErrorKind::Shape);
        bad(&zeros([2, form.group_size() + 8], DType::F32), form, ErrorKind::Shape);
        bad(&zeros([2, 64], DType::F64), form, ErrorKind::DType);
        bad(&zeros([2, 64], DType::I32), form, ErrorKind::DType);
    }
    let w = zeros([2, 64], DType::F32);
    bad(&w, Quantization::Affine { group_size: 16, bits: 4 }, ErrorKind::Value);
    bad(&w, Quantization::Affine { group_size: 64, bits: 7 }, ErrorKind::Value);
    bad(&w, Quantization::Affine { group_size: 0, bits: 0 }, ErrorKind::Value);
}

#[test]
fn bad_global_scales() {
    let w = matrix(&[3, 2, 32]);
    let with = |form, g: &Array| w.quantize_scaled(form, Some(g)).unwrap_err().kind();
    assert_eq!(with(Quantization::MxFp4, &Array::scalar(1f32)), ErrorKind::Value);
    assert_eq!(with(quantization(32, 4).unwrap(), &Array::scalar(1f32)), ErrorKind::Value);
    assert_eq!(with(Quantization::NvFp4, &Array::scalar(1f64)), ErrorKind::DType);
    assert_eq!(with(Quantization::NvFp4, &ones([2], DType::F32)), ErrorKind::Shape);
    let q = w.quantize_scaled(Quantization::NvFp4, Some(&zeros([3], DType::F32))).unwrap();
    fails(q.dequantize(), ErrorKind::Value, "quantize");
}

#[test]
fn parts_that_do_not_belong_together() {
    let w = matrix(&[4, 64]);
    let affine = w.quantize(quantization(32, 4).unwrap()).unwrap();
    let float = w.quantize(Quantization::MxFp4).unwrap();
    let x = ones([1, 64], DType::F32);
    let bad = |q: Quantized| {
        fails(q.dequantize(), ErrorKind::Shape, "quantized");
        fails(x.quantized_matmul(&q, true), ErrorKind::Shape, "quantized");
        fails(x.gather_qmm(&q, None, None, true), ErrorKind::Shape, "quantized");
        fails(q.take_rows(&Array::scalar(0)), ErrorKind::Shape, "quantized");
    };
    bad(Quantized { biases: None, ..affine.clone() });
    bad(Quantized { biases: affine.biases.clone(), ..float.clone() });
    bad(Quantized { form: Quantization::NvFp4, ..float.clone() });
    bad(Quantized { form: Quantization::MxFp8, ..float.clone() });
    bad(Quantized { scales: float.scales.clone(), ..affine.clone() });
    bad(Quantized { scales: affine.scales.clone(), ..float.clone() });
    bad(Quantized { codes: float.codes.astype(DType::I32), ..float.clone() });
    bad(Quantized {
        codes: float.codes.at_index(0, 0),
        scales: float.scales.as_ref().map(|s| s.at_index(0, 0)),
        ..float
    });
    let huge = usize::MAX / 64;
    let scales = Array::scalar(1u8).broadcast_to([1, huge]);
    let codes = Array::scalar(1u32).broadcast_to([1, 4]);
    let form = Quantization::MxFp4;
    let q = Quantized { codes, scales: Some(scales), biases: None, global_scale: None, form };
    assert!(q.check().is_err());
    bad(Quantized { scales: None, ..affine });
}

/// Blocks of 32 codes 0..16 in Q4_0, with the scale ½.
fn blocks(rows: usize, columns: usize) -> Quantized {
    let block = [&[0, 0x38][..], &(0..16).map(|i| i | (15 - i) << 4).collect::<Vec<u8>>()].concat();
    let bytes = block.repeat(rows * columns / 32);
    Quantized {
        codes: Array::from_slice(&bytes, [rows, columns / 32 * 18]),
        scales: None,
        biases: None,
        global_scale: None,
        form: Quantization::Blocks(BlockFormat::Q4_0),
    }
}

#[test]
fn blocks_of_files() -> Result<()> {
    let w = blocks(5, 64);
    assert_eq!(w.shape()?[..], [5, 64]);
    let half: Vec<f32> =
        (0..32).map(|i| if i < 16 { i - 8 } else { 31 - i - 8 } as f32 / 2.0).collect();
    let plain = w.dequantize_to(DType::F32);
    assert_eq!(plain.to_vec::<f32>()?, half.repeat(10));
    assert_eq!(w.dequantize().dtype()?, DType::BF16);
    let at = Array::from_slice(&[4, -5, 1], [3]);
    assert!(w.take_rows(&at).array_equal(&w.dequantize().take(&at, 0), false).item::<bool>()?);
    assert_eq!(w.take_rows(&Array::scalar(2)).shape()?, [64]);
    for (m, transpose) in [(1, true), (3, true), (40, true), (1, false), (40, false)] {
        let x = matrix(&[m, if transpose { 64 } else { 5 }]);
        let f = |x: &Array| x.quantized_matmul(&w, transpose).square().sum(..);
        let w = if transpose { plain.mt() } else { plain.clone() };
        let g = |x: &Array| x.matmul(&w).square().sum(..);
        let (a, b) = (crate::grad(f)(&x)?, crate::grad(g)(&x)?);
        let error = (a - &b).abs().max(..).item::<f32>()? / b.abs().max(..).item::<f32>()?;
        assert!(error < 1e-5, "{m} {transpose}: {error}");
    }
    let bad = |q: Quantized| fails(q.dequantize(), ErrorKind::Shape, "quantized");
    bad(Quantized { codes: w.codes.slice_axis(1, 0, 35), ..w.clone() });
    bad(Quantized { codes: w.codes.astype(DType::I8), ..w.clone() });
    bad(Quantized { codes: w.codes.at_index(0, 0), ..w.clone() });
    bad(Quantized { scales: Some(Array::scalar(1u8)), ..w.clone() });
    let made = plain.quantize(w.form).unwrap_err();
    assert_eq!(made.kind(), ErrorKind::Value);
    fails(plain.fake_quantize(w.form, None), ErrorKind::Value, "fake_quantize");
    Ok(())
}

#[test]
fn bad_products() {
    let w = matrix(&[2, 4, 64]).quantize(Quantization::MxFp8).unwrap();
    let op = "quantized_matmul";
    fails(ones([1, 32], DType::F32).quantized_matmul(&w, true), ErrorKind::Shape, op);
    fails(ones([1, 64], DType::F32).quantized_matmul(&w, false), ErrorKind::Shape, op);
    fails(ones([3, 1, 64], DType::F32).quantized_matmul(&w, true), ErrorKind::Shape, op);
    fails(ones([1, 64], DType::I32).quantized_matmul(&w, true), ErrorKind::DType, op);
    fails(Array::scalar(1f32).quantized_matmul(&w, true), ErrorKind::Shape, op);
    fails(w.dequantize_to(DType::F64), ErrorKind::DType, "dequantize");
    fails(w.take_rows(&Array::scalar(0)), ErrorKind::Shape, "take_rows");
    let x = ones([1, 64], DType::F32);
    let affine = matrix(&[4, 64]).quantize(quantization(64, 4).unwrap()).unwrap();
    fails(x.qqmm(&affine, None), ErrorKind::Value, "qqmm");
    fails(x.gather_qqmm(&affine, None, None, None), ErrorKind::Value, "gather_qqmm");
    fails(x.qqmm(&w, Some(&Array::scalar(1f32))), ErrorKind::Value, "fake_quantize");
    let pick = Array::from_slice(&[2], [1]);
    fails(x.gather_qmm(&w, None, Some(&pick), true), ErrorKind::Index, "gather_qmm");
    fails(x.gather_qmm(&w, Some(&pick), None, true), ErrorKind::Index, "gather_qmm");
}

#[test]
fn vectors_and_batches() -> Result<()> {
    for form in FLOATS {
        let dense = matrix(&[2, 5, 64]);
        let w = dense.quantize(form)?;
        let plain = w.dequantize_to(DType::F32);
        let x = matrix(&[3, 1, 2, 64]);
        let y = x.quantized_matmul(&w, true);
        assert_eq!(y.shape()?, [3, 2, 2, 5]);
        let error = (y - x.matmul(&plain.mt())).abs().max(..).item::<f32>()?;
        assert!(error < 1e-5, "{form}: {error}");
        let v = matrix(&[64]);
        assert_eq!(v.quantized_matmul(&w, true).shape()?, [2, 5]);
        let pick = Array::from_slice(&[1u8, 0, 1], [3]);
        let y = v.gather_qmm(&w, None, Some(&pick), true);
        assert_eq!(y.shape()?, [3, 5]);
        let want = v.matmul(&plain.mt()).take(&pick, 0);
        assert!((y - want).abs().max(..).item::<f32>()? < 1e-5);
    }
    Ok(())
}

#[test]
fn rows_of_tables() -> Result<()> {
    for form in FLOATS.into_iter().chain([quantization(32, 1)?]) {
        let w = matrix(&[7, 96]).quantize(form)?;
        let all = w.dequantize();
        for shape in [vec![], vec![3], vec![2, 2]] {
            let n: usize = shape.iter().product();
            let at = (arange(n, DType::I32) * 3 - 7).reshape(shape);
            assert!(w.take_rows(&at).array_equal(&all.take(&at, 0), false).item::<bool>()?);
        }
    }
    let w = matrix(&[7, 96]).quantize_scaled(Quantization::NvFp4, Some(&Array::scalar(1f32)))?;
    let at = Array::from_slice(&[6, 0], [2]);
    let rows = w.take_rows(&at);
    assert!(rows.array_equal(&w.dequantize().take(&at, 0), false).item::<bool>()?);
    Ok(())
}

#[test]
fn quantized_activations() -> Result<()> {
    for form in [Quantization::NvFp4, Quantization::MxFp8] {
        let (x, w) = (matrix(&[3, 64]), matrix(&[5, 64]));
        let both = |a: &Array| a.quantize(form).map(|q| q.dequantize_to(DType::F32));
        let want = both(&x)?.matmul(&both(&w)?.mt());
        let close = |y: Array| (y - &want).abs().max(..).item::<f32>().map(|e| e < 1e-5);
        let q = w.quantize(form)?;
        assert!(close(x.qqmm(&q, None))?);
        assert!(close(x.qqmm_dense(&w, form, None, None))?);
        let batch = x.expand_dims(0).broadcast_to([2, 3, 64]);
        let pick = Array::from_slice(&[1], [1]);
        assert!(close(batch.gather_qqmm(&q, Some(&pick), None, None))?);
        assert_eq!(x.astype(DType::BF16).qqmm(&q, None).dtype()?, DType::BF16);
        assert_eq!(x.at_index(0, 0).qqmm(&q, None).shape()?, [5]);
    }
    let (x, w) = (matrix(&[3, 64]) * 1e-5, matrix(&[5, 64]));
    let q = w.quantize(Quantization::NvFp4)?;
    // Without a global scale so small activations are lost.
    assert_eq!(x.qqmm(&q, None).abs().max(..).item::<f32>()?, 0.0);
    let y = x.qqmm(&q, Some(&x.abs().max(..)));
    let want = x.matmul(&w.mt());
    let error = (y - &want).abs().max(..).item::<f32>()? / want.abs().max(..).item::<f32>()?;
    assert!(error < 0.2, "{error}");
    Ok(())
}

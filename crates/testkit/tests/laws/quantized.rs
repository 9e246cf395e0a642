//! Cases of quantized matrices. Codes have no derivative; scales, biases and global scales do.

use crate::case::{AROUND, Case, Domain, Input, PACKED};
use crate::list::QuantizedKind;
use lazul_core::{Array, BlockFormat, DType, Quantization, Quantized, Result, quantization};
use lazul_testkit::Rng;

/// A form, and whether it goes with a global scale.
type Form = (Quantization, bool);

fn forms() -> Vec<Form> {
    let affine = [(32, 1), (32, 2), (64, 3), (32, 4), (64, 5), (32, 6), (64, 8)];
    let affine = affine.map(|(g, b)| (quantization(g, b).expect("a form"), false));
    let small = [Quantization::MxFp4, Quantization::MxFp8, Quantization::NvFp4].map(|f| (f, false));
    affine.into_iter().chain(small).chain([(Quantization::NvFp4, true)]).collect()
}

fn global(low: f64) -> Input {
    Input::made(move |rng| Array::scalar((low + rng.unit()) as f32))
}

/// The bytes of a matrix `(rows…, 64)` of blocks, whatever their codes; scales are 1/16.
fn bytes(rng: &mut Rng, rows: &[usize], format: BlockFormat) -> Array {
    let shape = [rows, &[64 / format.elements() * format.bytes()]].concat();
    let mut bytes: Vec<u8> =
        (0..shape.iter().product()).map(|_| (rng.unit() * 256.0) as u8).collect();
    for block in bytes.chunks_exact_mut(format.bytes()) {
        block[..2].copy_from_slice(&[0, 0x2c]);
    }
    Array::from_slice(&bytes, &shape)
}

/// A quantized matrix of numbers.
fn drawn(rng: &mut Rng, shape: &[usize], form: Quantization) -> Quantized {
    let w = Domain::Spread(-1.0, 1.0).array(rng, shape, DType::F32);
    w.quantize(form).expect("a matrix of whole groups")
}

/// The parts of a matrix `(rows…, 64)` as arguments: codes, scales, then biases or a global scale.
fn packed(rows: &[usize], (form, has_global): Form) -> Vec<Input> {
    if let Some(format) = form.blocks() {
        let rows = rows.to_vec();
        return vec![Input::made(move |rng| bytes(rng, &rows, format))];
    }
    let shape = [rows, &[64]].concat();
    let groups = [rows, &[64 / form.group_size()]].concat();
    let codes = {
        let shape = shape.clone();
        Input::made(move |rng| drawn(rng, &shape, form).codes)
    };
    let mut parts = vec![codes];
    if form.is_affine() {
        parts.push(Input::numbers(&groups, Domain::Spread(0.05, 0.2)));
        parts.push(Input::numbers(&groups, AROUND));
    } else {
        parts.push(Input::made(move |rng| drawn(rng, &shape, form).scales.expect("scales")));
    }
    if has_global {
        parts.push(global(1000.0));
    }
    parts
}

fn matrix(x: &[Array], (form, has_global): Form) -> Quantized {
    Quantized {
        codes: x[0].clone(),
        scales: form.blocks().is_none().then(|| x[1].clone()),
        biases: form.is_affine().then(|| x[2].clone()),
        global_scale: has_global.then(|| x[2].clone()),
        form,
    }
}

pub(crate) fn cases(kind: QuantizedKind) -> Vec<Case> {
    let each = |form: Form| -> Vec<Case> {
        let name = format!("{kind:?} {} global scale {}", form.0, form.1);
        let weights = |shape: &[usize]| {
            let mut inputs = vec![Input::numbers(shape, AROUND)];
            inputs.extend(form.1.then(|| global(2.0)));
            inputs
        };
        match kind {
            // Codes jump, and what belongs to them with them: no gradient, by declaration.
            QuantizedKind::Quantize => {
                let quantize = move |x: &[Array]| -> Result<Vec<Array>> {
                    let q = x[0].quantize_scaled(form.0, x.get(1))?;
                    Ok([q.codes].into_iter().chain(q.scales).chain(q.biases).collect())
                };
                let case = |name: String, shape: &[usize]| {
                    Case::many(name, PACKED, weights(shape), quantize).exact().jumps()
                };
                vec![case(name.clone(), &[2, 64]), case(name + " batch", &[2, 1, 64])]
            }
            // The gradient passes as if nothing had been done.
            QuantizedKind::FakeQuantize => {
                let f = move |x: &[Array]| x[0].fake_quantize(form.0, x.get(1));
                let case = |name: String, shape: &[usize]| {
                    Case::new(name, PACKED, weights(shape), f).exact().straight_through()
                };
                vec![case(name.clone(), &[2, 64]), case(name + " batch", &[2, 1, 64])]
            }
            QuantizedKind::Dequantize => {
                let f = move |x: &[Array]| matrix(x, form).dequantize_to(DType::F32);
                let case = |name: String, rows: &[usize]| {
                    Case::new(name, PACKED, packed(rows, form), f).exact()
                };
                vec![case(name.clone(), &[2]), case(name + " batch", &[2, 1])]
            }
            QuantizedKind::Matmul => {
                let product = |x: &[usize], rows: &[usize], transpose: bool| {
                    let mut inputs = packed(rows, form);
                    inputs.push(Input::numbers(x, AROUND));
                    let f = move |x: &[Array]| {
                        x[x.len() - 1].quantized_matmul(&matrix(x, form), transpose)
                    };
                    let name = format!("{name} {x:?} {rows:?} transpose {transpose}");
                    Case::new(name, PACKED, inputs, f)
                };
                vec![
                    product(&[2, 64], &[3], true),
                    product(&[2, 3], &[3], false),
                    product(&[64], &[3], true),
                    product(&[2, 1, 64], &[2, 3], true),
                    product(&[0, 64], &[3], true),
                ]
            }
            QuantizedKind::GatherMatmul => {
                let product = |x: &[usize], rows: &[usize], transpose: bool| {
                    let mut inputs = packed(rows, form);
                    inputs.push(Input::numbers(x, AROUND));
                    inputs.push(Input::indices(&[3], x[0], DType::I32));
                    inputs.push(Input::indices(&[3], rows[0], DType::U32));
                    let f = move |x: &[Array]| {
                        let [x_, lhs, rhs] = [3, 2, 1].map(|i| &x[x.len() - i]);
                        x_.gather_qmm(&matrix(x, form), Some(lhs), Some(rhs), transpose)
                    };
                    let name = format!("{name} {x:?} {rows:?} transpose {transpose}");
                    Case::new(name, PACKED, inputs, f)
                };
                vec![product(&[2, 1, 64], &[2, 2], true), product(&[2, 1, 2], &[2, 2], false)]
            }
        }
    };
    // Blocks come from files.
    let made = matches!(kind, QuantizedKind::Quantize | QuantizedKind::FakeQuantize);
    let blocks = [BlockFormat::Q4_0, BlockFormat::Q8_0].map(|f| (Quantization::Blocks(f), false));
    let blocks = blocks.into_iter().filter(|_| !made);
    forms().into_iter().chain(blocks).flat_map(each).collect()
}

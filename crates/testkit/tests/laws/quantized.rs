//! Cases of quantized matrices. Codes have no derivative, scales and biases do.

use crate::case::{AROUND, Case, Domain, Input, PACKED};
use crate::list::QuantizedKind;
use lazul_core::{Array, DType, Quantization, Quantized};

/// Codes of a matrix `(rows, 64)`.
fn codes(rows: &[usize], form: Quantization) -> Input {
    let shape = [rows, &[64]].concat();
    Input::made(move |rng| {
        let w = Domain::Spread(-1.0, 1.0).array(rng, &shape, DType::F32);
        w.quantize(form).expect("a matrix of whole groups").codes
    })
}

/// Codes, scales and biases as arguments.
fn packed(rows: &[usize], form: Quantization) -> Vec<Input> {
    let groups = [rows, &[64 / form.group_size as usize]].concat();
    let scales = Input::numbers(&groups, Domain::Spread(0.05, 0.2));
    vec![codes(rows, form), scales, Input::numbers(&groups, AROUND)]
}

fn matrix(x: &[Array], form: Quantization) -> Quantized {
    let [codes, scales, biases] = [0, 1, 2].map(|i| x[i].clone());
    Quantized { codes, scales, biases, form }
}

fn forms() -> Vec<Quantization> {
    let forms = [(32, 2), (64, 3), (32, 4), (64, 5), (32, 6), (64, 8)];
    let form = |(group_size, bits)| lazul_core::quantization(group_size, bits).expect("a form");
    forms.into_iter().map(form).collect()
}

pub(crate) fn cases(kind: QuantizedKind) -> Vec<Case> {
    let each = |form: Quantization| -> Vec<Case> {
        let name = format!("{kind:?} {} bits by {}", form.bits, form.group_size);
        match kind {
            // Codes jump, and what belongs to them with them: no gradient, by declaration.
            QuantizedKind::Quantize => {
                let quantize = move |x: &[Array]| {
                    let q = x[0].quantize(form)?;
                    Ok(vec![q.codes, q.scales, q.biases])
                };
                let inputs = |shape| vec![Input::numbers(shape, AROUND)];
                vec![
                    Case::many(name.clone(), PACKED, inputs(&[2, 64]), quantize).exact().jumps(),
                    Case::many(name + " batch", PACKED, inputs(&[2, 1, 64]), quantize)
                        .exact()
                        .jumps(),
                ]
            }
            QuantizedKind::Dequantize => {
                let f = move |x: &[Array]| matrix(x, form).dequantize();
                vec![
                    Case::new(name.clone(), PACKED, packed(&[2], form), f).exact(),
                    Case::new(name + " batch", PACKED, packed(&[2, 1], form), f).exact(),
                ]
            }
            QuantizedKind::Matmul => {
                let product = |name: String, x: &[usize], rows: &[usize], transpose: bool| {
                    let mut inputs = packed(rows, form);
                    inputs.push(Input::numbers(x, AROUND));
                    let f = move |x: &[Array]| x[3].quantized_matmul(&matrix(x, form), transpose);
                    Case::new(format!("{name} {x:?} transpose {transpose}"), PACKED, inputs, f)
                };
                vec![
                    product(name.clone(), &[2, 64], &[3], true),
                    product(name.clone(), &[2, 3], &[3], false),
                    product(name.clone(), &[64], &[3], true),
                    product(name.clone(), &[2, 1, 64], &[2, 3], true),
                    product(name, &[0, 64], &[3], true),
                ]
            }
        }
    };
    forms().into_iter().flat_map(each).collect()
}

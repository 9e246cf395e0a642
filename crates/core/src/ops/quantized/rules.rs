//! Rules of quantized matrices. Codes are integers and have no gradient; the packed scales and biases do,
//! through the matrix that they stand for.

use super::*;
use crate::rules::{Call, Outputs, Slots, again, all_batched, none};
use crate::transforms::{pulled_through, pushed_through};

/// A form as its operands make it.
fn dense(form: Quantization, parts: &[Array]) -> Array {
    let [codes, scales, biases] = [0, 1, 2].map(|i| parts[i].clone());
    Quantized { codes, scales, biases, form }.dequantize()
}

/// The operation written with the dequantized matrix.
fn fallback(op: &QuantizedOp, inputs: &[Array]) -> Result<Vec<Array>> {
    Ok(vec![match op {
        QuantizedOp::Quantize(_) => return Ok(Vec::new()),
        QuantizedOp::Dequantize(form) => {
            // `scale * code + bias`, with the codes as numbers.
            let (scales, biases) = (&inputs[1], &inputs[2]);
            let plain = dense(*form, &[inputs[0].clone(), scales.ones_like(), biases.zeros_like()]);
            let codes = plain.unflatten(-1, [-1, form.group_size as i64]);
            (codes * scales.expand_dims(-1) + biases.expand_dims(-1)).flatten(-2, -1)
        }
        QuantizedOp::Matmul { quantization, transpose } => {
            let w = fallback(&QuantizedOp::Dequantize(*quantization), &inputs[1..])?.remove(0);
            let w = w.astype(inputs[0].0.dtype);
            inputs[0].matmul(&if *transpose { w.mt() } else { w })
        }
    }])
}

pub(crate) fn vjp(
    op: &QuantizedOp,
    call: &Call<'_>,
    cotangents: &[Option<Array>],
    wanted: &[bool],
) -> Result<Slots> {
    if let (QuantizedOp::Matmul { quantization, transpose }, Some(c)) = (op, &cotangents[0])
        && wanted.iter().skip(1).all(|w| !w)
    {
        // Only the activations: the product with the matrix the other way round.
        let mut inputs = call.inputs.to_vec();
        inputs[0] = c.clone();
        let op = QuantizedOp::Matmul { quantization: *quantization, transpose: !transpose };
        let x = &call.inputs[0];
        let dx = prim(Prim::Quantized(op), inputs, x.0.shape.clone(), x.0.dtype);
        let mut slots = none(call.inputs.len());
        slots[0] = Some(dx);
        return Ok(slots);
    }
    if let QuantizedOp::Quantize(_) = op {
        return Ok(none(1));
    }
    pulled_through(|inputs| fallback(op, inputs), call.inputs, cotangents, wanted)
}

pub(crate) fn jvp(op: &QuantizedOp, call: &Call<'_>, tangents: &[Option<Array>]) -> Result<Slots> {
    if let QuantizedOp::Quantize(_) = op {
        return Ok(none(3));
    }
    pushed_through(|inputs| fallback(op, inputs), call.inputs, tangents)
}

pub(crate) fn vmap(
    op: &QuantizedOp,
    inputs: &[Array],
    batched: &[bool],
    size: usize,
    outputs: &[(Shape, DType)],
) -> Result<Outputs> {
    let all = all_batched(inputs, batched, size);
    if outputs.len() == 1 {
        return Ok(again(Prim::Quantized(*op), all, size, &outputs[0]));
    }
    let many: Vec<(Shape, DType)> = outputs
        .iter()
        .map(|(shape, dtype)| (crate::rules::batch_shape(shape, size), *dtype))
        .collect();
    let inputs = Inputs::from_iter(all);
    Ok(Array::lazy_many(Prim::Quantized(*op), inputs, &many, call_site()).into_iter().collect())
}

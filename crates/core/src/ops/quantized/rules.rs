//! Rules of quantized matrices.
//!
//! Codes, scales that are bytes and blocks have no gradient, and quantizing has none: its result is made of
//! steps. What is represented depends linearly on scales and biases together, and on the global
//! scale, which gives their derivatives; and products are linear in both sides.

use super::*;
use crate::ops::creation::{arange, ones, zeros};
use crate::ops::grouped::rules::{added_at, over_batch};
use crate::rules::{Call, Outputs, Slots, again, all_batched, batch_shape, none, sum};
use lazul_ir::GroupedOp;

/// The matrix that parts represent, in float32.
fn dense(form: Quantization, parts: &[Array]) -> Array {
    let shape = represented(form, &parts[0], parts.get(1));
    let op = Prim::Quantized(QuantizedOp::Dequantize(form));
    prim(op, parts.iter().cloned(), shape, DType::F32)
}

/// Cotangents of the parts from that of the matrix that they represent, in float32.
fn parts_vjp(form: Quantization, parts: &[Array], c: &Array, wanted: &[bool]) -> Slots {
    let mut slots = none(parts.len());
    if form.is_affine() {
        let c = c.unflatten(-1, [-1, form.group_size() as i64]); // (…, groups, group)
        let shape = &parts[1].0.shape;
        if wanted[1] {
            // A scale of 1 and no bias leave the codes themselves.
            let codes = [parts[0].clone(), ones(shape, DType::F32), zeros(shape, DType::F32)];
            let codes = dense(form, &codes).unflatten(-1, [-1, form.group_size() as i64]);
            slots[1] = Some((&c * codes).sum(-1).astype(parts[1].0.dtype));
        }
        if wanted[2] {
            slots[2] = Some(c.sum(-1).astype(parts[2].0.dtype));
        }
    } else if parts.len() > 2 && wanted[2] {
        let unit = dense(form, &[parts[0].clone(), parts[1].clone(), parts[2].ones_like()]);
        slots[2] = Some((c * unit).sum_keepdims([-2, -1])); // (…, 1, 1)
    }
    slots
}

/// Parts of the tangent of the matrix that parts represent.
fn parts_jvp(
    form: Quantization,
    parts: &[Array],
    tangents: &[Option<Array>],
) -> Option<Vec<Array>> {
    if form.is_affine() {
        let [_, scales, biases] = tangents else { return None };
        if scales.is_none() && biases.is_none() {
            return None;
        }
        let or_zeros =
            |t: &Option<Array>, i: usize| t.clone().unwrap_or_else(|| parts[i].zeros_like());
        return Some(vec![parts[0].clone(), or_zeros(scales, 1), or_zeros(biases, 2)]);
    }
    let global = tangents.get(2)?.clone()?;
    Some(vec![parts[0].clone(), parts[1].clone(), global])
}

/// The rows and columns of the stored matrices.
fn stored(form: Quantization, parts: &[Array]) -> (usize, usize) {
    let shape = represented(form, &parts[0], parts.get(1));
    (shape[shape.len() - 2], shape[shape.len() - 1])
}

pub(crate) fn vjp(
    op: &QuantizedOp,
    call: &Call<'_>,
    cotangents: &[Option<Array>],
    wanted: &[bool],
) -> Result<Slots> {
    let inputs = call.inputs;
    let Some(c) = &cotangents[0] else { return Ok(none(inputs.len())) };
    let wide = |a: &Array| a.astype(DType::F32);
    Ok(match *op {
        QuantizedOp::Quantize(_) => none(inputs.len()),
        // Straight through.
        QuantizedOp::FakeQuantize(_) => {
            let mut slots = none(inputs.len());
            slots[0] = Some(c.astype(inputs[0].0.dtype));
            slots
        }
        QuantizedOp::Dequantize(form) => parts_vjp(form, inputs, &wide(c), wanted),
        QuantizedOp::Matmul { quantization: form, transpose } => {
            let (x, parts) = (&inputs[0], &inputs[1..]);
            let mut slots = Slots::new();
            slots.push(wanted[0].then(|| {
                let op = QuantizedOp::Matmul { quantization: form, transpose: !transpose };
                let operands = [c].into_iter().chain(parts).cloned();
                prim(Prim::Quantized(op), operands, x.0.shape.clone(), x.0.dtype)
            }));
            if wanted[1..].contains(&true) {
                let (x, c) = (wide(x), wide(c));
                let dw = if transpose { c.mt().matmul(&x) } else { x.mt().matmul(&c) };
                slots.extend(parts_vjp(form, parts, &dw, &wanted[1..]));
            } else {
                slots.extend(none(parts.len()));
            }
            slots
        }
        QuantizedOp::GatherMatmul { quantization: form, transpose } => {
            let (x, parts) = (&inputs[0], &inputs[1..inputs.len() - 2]);
            let [lhs, rhs] = [2, 1].map(|i| &inputs[inputs.len() - i]);
            // Products are the batch of the cotangent, each with its own row of it.
            let own = arange(lhs.0.shape.size(), DType::I64).reshape(&lhs.0.shape);
            let mut slots = Slots::new();
            slots.push(wanted[0].then(|| {
                let op = QuantizedOp::GatherMatmul { quantization: form, transpose: !transpose };
                let operands = [c].into_iter().chain(parts).chain([&own, rhs]).cloned();
                let (_, m, k) = split(x);
                let shape = lhs.0.shape.iter().copied().chain([m, k]).collect();
                let rows = prim(Prim::Quantized(op), operands, shape, x.0.dtype);
                added_at(x, lhs, &rows)
            }));
            if wanted[1..=parts.len()].contains(&true) {
                let (x, c) = (wide(x), wide(c));
                let operands =
                    if transpose { [&c, &x, &own, lhs, rhs] } else { [&x, &c, lhs, &own, rhs] };
                let (batch, ..) = split(&parts[0]);
                let (rows, columns) = stored(form, parts);
                let outer = Prim::Grouped(GroupedOp::Outer);
                let count = batch.iter().product();
                let shape = Shape::new(&[count, rows, columns]);
                let dw = prim(outer, operands.map(Array::clone), shape, DType::F32);
                let shape: Shape = batch.iter().copied().chain([rows, columns]).collect();
                slots.extend(parts_vjp(form, parts, &dw.reshape(&shape), &wanted[1..]));
            } else {
                slots.extend(none(parts.len()));
            }
            slots.extend(none(2));
            slots
        }
    })
}

pub(crate) fn jvp(op: &QuantizedOp, call: &Call<'_>, tangents: &[Option<Array>]) -> Result<Slots> {
    let (inputs, out) = (call.inputs, &call.outputs[0]);
    // The operation on other operands: it is linear in each.
    let again = |operands: Vec<Array>| {
        prim(Prim::Quantized(*op), operands, out.0.shape.clone(), out.0.dtype)
    };
    Ok(match *op {
        QuantizedOp::Quantize(form) => none(if form.is_affine() { 3 } else { 2 }),
        QuantizedOp::FakeQuantize(_) => {
            Slots::from_iter([tangents[0].as_ref().map(|t| t.astype(out.0.dtype))])
        }
        QuantizedOp::Dequantize(form) => {
            Slots::from_iter([parts_jvp(form, inputs, tangents).map(again)])
        }
        QuantizedOp::Matmul { quantization: form, .. }
        | QuantizedOp::GatherMatmul { quantization: form, .. } => {
            let picks = if matches!(op, QuantizedOp::Matmul { .. }) { 0 } else { 2 };
            let end = inputs.len() - picks;
            let by_x = tangents[0]
                .clone()
                .map(|t| again([t].into_iter().chain(inputs[1..].iter().cloned()).collect()));
            let by_w = parts_jvp(form, &inputs[1..end], &tangents[1..end]).map(|parts| {
                let picks = inputs[end..].iter().cloned();
                again([inputs[0].clone()].into_iter().chain(parts).chain(picks).collect())
            });
            Slots::from_iter([sum(by_x, by_w)])
        }
    })
}

pub(crate) fn vmap(
    op: &QuantizedOp,
    inputs: &[Array],
    batched: &[bool],
    size: usize,
    outputs: &[(Shape, DType)],
) -> Result<Outputs> {
    if let QuantizedOp::GatherMatmul { .. } = op {
        let end = inputs.len() - 2;
        let x = &inputs[0];
        let any = batched[1..end].contains(&true);
        let parts = if any {
            all_batched(&inputs[1..end], &batched[1..end], size)
        } else {
            inputs[1..end].to_vec()
        };
        let lhs = over_batch(&inputs[end], batched[end], x, batched[0], size);
        let rhs = over_batch(&inputs[end + 1], batched[end + 1], &parts[0], any, size);
        let operands = [x.clone()].into_iter().chain(parts).chain([lhs, rhs]).collect();
        return Ok(again(Prim::Quantized(*op), operands, size, &outputs[0]));
    }
    let all = all_batched(inputs, batched, size);
    if let [output] = outputs {
        return Ok(again(Prim::Quantized(*op), all, size, output));
    }
    let many: Vec<(Shape, DType)> =
        outputs.iter().map(|(shape, dtype)| (batch_shape(shape, size), *dtype)).collect();
    let inputs = Inputs::from_iter(all);
    Ok(Array::lazy_many(Prim::Quantized(*op), inputs, &many, call_site()).into_iter().collect())
}

#[cfg(test)]
mod tests {
    use crate::prelude::*;
    use crate::{ErrorKind, Result};

    fn matrix(shape: &[usize], seed: f64) -> Array {
        let n: usize = shape.iter().product();
        (arange(n, DType::F32).reshape(shape) * 0.37 + seed).sin()
    }

    #[track_caller]
    fn close(a: &Array, b: &Array) {
        assert_eq!(a.shape().unwrap(), b.shape().unwrap());
        let scale = b.abs().max(..).item::<f32>().unwrap().max(1e-3);
        let error = (a - b).abs().max(..).item::<f32>().unwrap() / scale;
        assert!(error < 2e-5, "{error}: {a} is not {b}");
    }

    fn forms() -> [Quantization; 5] {
        let affine = |bits| Quantization::Affine { group_size: 32, bits };
        [affine(4), affine(1), Quantization::MxFp4, Quantization::MxFp8, Quantization::NvFp4]
    }

    /// A form with other scales and biases, in plain operations.
    fn by_hand(q: &Quantized, scales: &Array, biases: &Array) -> Result<Array> {
        let plain = Quantized {
            scales: Some(scales.ones_like()),
            biases: Some(biases.zeros_like()),
            ..q.clone()
        };
        let codes = plain.dequantize().unflatten(-1, [-1, 32]).stop_gradient();
        Ok((codes * scales.expand_dims(-1) + biases.expand_dims(-1)).flatten(-2, -1))
    }

    #[test]
    fn products_differentiate_by_activations() -> Result<()> {
        for form in forms() {
            for transpose in [true, false] {
                let w = matrix(&[32, 64], 0.5).quantize(form)?;
                let plain = w.dequantize_to(DType::F32);
                let plain = if transpose { plain.mt() } else { plain };
                let x = matrix(&[2, 3, if transpose { 64 } else { 32 }], 1.0);
                let loss = |x: &Array| x.quantized_matmul(&w, transpose).square().sum(..);
                let want = |x: &Array| x.matmul(&plain).square().sum(..);
                close(&grad(loss)(&x)?, &grad(want)(&x)?);
                let t = matrix(x.shape()?, 3.0);
                let (_, ours) = jvp(|x: &Array| x.quantized_matmul(&w, transpose), &x, &t)?;
                close(&ours, &t.matmul(&plain));
                let each = vmap(|x: &Array| x.quantized_matmul(&w, transpose));
                close(&each(&x)?, &x.matmul(&plain));
            }
        }
        Ok(())
    }

    #[test]
    fn products_differentiate_by_scales_and_biases() -> Result<()> {
        for transpose in [true, false] {
            let q = matrix(&[2, 32, 64], 0.5).quantize(quantization(32, 4)?)?;
            let (s, b) = (q.scales.clone().unwrap(), q.biases.clone().unwrap());
            let x = matrix(&[2, 3, if transpose { 64 } else { 32 }], 1.0);
            let weights = |(s, b): &(Array, Array)| Quantized {
                scales: Some(s.clone()),
                biases: Some(b.clone()),
                ..q.clone()
            };
            let turned = |w: Array| if transpose { w.mt() } else { w };
            let ours =
                |p: &(Array, Array)| x.quantized_matmul(&weights(p), transpose).square().sum(..);
            let want = |p: &(Array, Array)| -> Result<Array> {
                Ok(x.matmul(&turned(by_hand(&q, &p.0, &p.1)?)).square().sum(..))
            };
            let at = (s.clone(), b.clone());
            let (a, b) = (grad(ours)(&at)?, grad(want)(&at)?);
            close(&a.0, &b.0);
            close(&a.1, &b.1);
            let a = grad(|p: &(Array, Array)| weights(p).dequantize().square().sum(..))(&at)?;
            let b = grad(|p: &(Array, Array)| Ok(by_hand(&q, &p.0, &p.1)?.square().sum(..)))(&at)?;
            close(&a.0, &b.0);
            close(&a.1, &b.1);
            let t = (matrix(s.shape()?, 5.0), matrix(s.shape()?, 6.0));
            let (_, a) =
                jvp(|p: &(Array, Array)| x.quantized_matmul(&weights(p), transpose), &at, &t)?;
            let (_, b) =
                jvp(|p: &(Array, Array)| Ok(x.matmul(&turned(by_hand(&q, &p.0, &p.1)?))), &at, &t)?;
            close(&a, &b);
            // Picked, with a matrix that is used twice.
            let pick = Array::from_slice(&[1, 1, 0], [3]);
            let left = Array::from_slice(&[0, 1, 1], [3]);
            let ours = |p: &(Array, Array)| {
                let y = x.gather_qmm(&weights(p), Some(&left), Some(&pick), transpose);
                y.square().sum(..)
            };
            let want = |p: &(Array, Array)| -> Result<Array> {
                let w = turned(by_hand(&q, &p.0, &p.1)?).take(&pick, 0);
                Ok(x.take(&left, 0).matmul(&w).square().sum(..))
            };
            let (a, b) = (grad(ours)(&at)?, grad(want)(&at)?);
            close(&a.0, &b.0);
            close(&a.1, &b.1);
        }
        Ok(())
    }

    #[test]
    fn global_scales_differentiate() -> Result<()> {
        let g = Array::from_slice(&[1.5f32, 2.0], [2]);
        let q = matrix(&[2, 5, 32], 0.5).quantize_scaled(Quantization::NvFp4, Some(&g))?;
        let with = |g: &Array| Quantized { global_scale: Some(g.clone()), ..q.clone() };
        let unit = with(&ones([2], DType::F32)).dequantize_to(DType::F32);
        let by_hand = |g: &Array| &unit * g.reshape([2, 1, 1]);
        let x = matrix(&[2, 3, 32], 1.0);
        let ours = grad(|g: &Array| x.quantized_matmul(&with(g), true).square().sum(..))(&g)?;
        let want = grad(|g: &Array| x.matmul(&by_hand(g).mt()).square().sum(..))(&g)?;
        close(&ours, &want);
        let pick = Array::from_slice(&[1, 1, 0], [3]);
        let ours = grad(|g: &Array| {
            x.at_index(0, 0).gather_qmm(&with(g), None, Some(&pick), true).square().sum(..)
        })(&g)?;
        let want = grad(|g: &Array| {
            x.at_index(0, 0).matmul(&by_hand(g).mt().take(&pick, 0)).square().sum(..)
        })(&g)?;
        close(&ours, &want);
        let t = Array::from_slice(&[0.5f32, -1.0], [2]);
        let (_, ours) = jvp(|g: &Array| with(g).dequantize_to(DType::F32), &g, &t)?;
        close(&ours, &by_hand(&t));
        Ok(())
    }

    #[test]
    fn picked_products_differentiate_by_activations() -> Result<()> {
        let lhs = Array::from_slice(&[1, 0, -1, 1], [2, 2]);
        let rhs = Array::from_slice(&[2u8, 0, 2, 2], [2, 2]);
        for form in forms() {
            let w = matrix(&[3, 5, 64], 0.5).quantize(form)?;
            let plain = w.dequantize_to(DType::F32).mt().take(&rhs, 0);
            let x = matrix(&[2, 3, 64], 1.0);
            let ours = |x: &Array| x.gather_qmm(&w, Some(&lhs), Some(&rhs), true);
            let want = |x: &Array| x.take(&lhs, 0).matmul(&plain);
            let (a, b) = (
                grad(|x: &Array| ours(x).square().sum(..))(&x)?,
                grad(|x: &Array| want(x).square().sum(..))(&x)?,
            );
            close(&a, &b);
            let t = matrix(&[2, 3, 64], 3.0);
            close(&jvp(ours, &x, &t)?.1, &want(&t));
            // Each example with indices of its own, and with the same ones.
            let xs = matrix(&[4, 2, 3, 64], 2.0);
            let all: Vec<Array> = (0..4).map(|i| want(&xs.at_index(0, i))).collect();
            close(&vmap(ours)(&xs)?, &stack(&all, 0));
            let picks = stack(&[rhs.clone(), rhs.zeros_like()], 0);
            let both = |(x, rhs): &(Array, Array)| x.gather_qmm(&w, None, Some(rhs), true);
            let xs = matrix(&[2, 2, 1, 64], 2.0);
            let got = vmap(both)(&(xs.clone(), picks.clone()))?;
            let all: Vec<Array> =
                (0..2).map(|i| both(&(xs.at_index(0, i), picks.at_index(0, i)))).collect();
            close(&got, &stack(&all, 0));
        }
        Ok(())
    }

    #[test]
    fn batches_of_matrices() -> Result<()> {
        for form in forms() {
            let ws = matrix(&[3, 5, 64], 0.5);
            let x = matrix(&[2, 64], 1.0);
            let f =
                |w: &Array| -> Result<Array> { Ok(x.quantized_matmul(&w.quantize(form)?, true)) };
            let want: Vec<Array> = (0..3).map(|i| f(&ws.at_index(0, i))).collect::<Result<_>>()?;
            close(&vmap(f)(&ws)?, &stack(&want, 0));
            let f = |w: &Array| w.fake_quantize(form, None);
            close(&vmap(f)(&ws)?, &f(&ws));
            let picks = Array::from_slice(&[1, 0], [2]);
            let f = |w: &Array| -> Result<Array> {
                Ok(x.gather_qmm(&w.quantize(form)?, None, Some(&picks), true))
            };
            let ws = matrix(&[3, 2, 5, 64], 0.5);
            let want: Vec<Array> = (0..3).map(|i| f(&ws.at_index(0, i))).collect::<Result<_>>()?;
            close(&vmap(f)(&ws)?, &stack(&want, 0));
        }
        Ok(())
    }

    #[test]
    fn quantizing_has_no_gradient_and_pretending_to_passes_it() -> Result<()> {
        let x = matrix(&[2, 64], 1.0);
        for form in forms() {
            let through = |x: &Array| -> Result<Array> {
                Ok(x.quantize(form)?.dequantize_to(DType::F32).square().sum(..))
            };
            let zero = grad(through)(&x)?;
            assert_eq!(zero.abs().max(..).item::<f32>()?, 0.0);
            let g = grad(|x: &Array| x.fake_quantize(form, None).square().sum(..))(&x)?;
            close(&g, &(x.fake_quantize(form, None) * 2.0));
        }
        let w = matrix(&[5, 64], 0.5);
        let form = Quantization::MxFp8;
        let y = |(x, w): &(Array, Array)| x.qqmm_dense(w, form, None, None).sum(..);
        let (dx, dw) = grad(y)(&(x.clone(), w.clone()))?;
        close(&dx, &w.fake_quantize(form, None).sum_keepdims(0).broadcast_to([2, 64]));
        close(&dw, &x.fake_quantize(form, None).sum_keepdims(0).broadcast_to([5, 64]));
        Ok(())
    }

    /// Out of bounds in one example must not reach into the next one.
    #[test]
    fn batches_keep_their_indices_to_themselves() -> Result<()> {
        let w = matrix(&[5, 64], 0.5).quantize(Quantization::MxFp4)?;
        for bad in [2i64, -3, i64::MAX, i64::MIN] {
            let pick = Array::from_slice(&[bad], [1]);
            let f = |x: &Array| x.gather_qmm(&w, Some(&pick), None, true);
            let y = vmap(f)(&matrix(&[3, 2, 1, 64], 1.0))?;
            assert_eq!(y.eval().unwrap_err().kind(), ErrorKind::Index);
        }
        let pick = Array::from_slice(&[u64::MAX], [1]);
        let f = |x: &Array| x.gather_qmm(&w, Some(&pick), None, true);
        let y = vmap(f)(&matrix(&[3, 2, 1, 64], 1.0))?;
        assert_eq!(y.eval().unwrap_err().kind(), ErrorKind::Index);
        Ok(())
    }
}

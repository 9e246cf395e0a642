//! The rules of primitives: how each is differentiated, forward and backward, and batched.
//!
//! The transforms walk graphs and know no operation; here is the one place where a primitive's rules
//! are found, by matches that the compiler keeps complete. A rule itself stands with its family in
//! [`crate::ops`], and is written with public operations, so that what it builds can be transformed
//! again. A missing gradient is an answer that a rule gives (`None`: it is zero everywhere), never an
//! omission.

use crate::error::Result;
use crate::node::Array;
use crate::ops::{
    conv, elementwise, fast, fft, grouped, index, linalg, matmul, prim as node, quantized, reduce,
    scan, search, shape, sort,
};
use crate::transforms::batch::with_batch;
use lazul_ir::{Axes, DType, Prim, Shape};
use smallvec::SmallVec;

/// One application of a primitive, as its derivative rules see it.
pub(crate) struct Call<'a> {
    pub(crate) inputs: &'a [Array],
    pub(crate) outputs: &'a [Array],
}

/// Tangents or cotangents, one a place; `None` stands for zeros.
pub(crate) type Slots = SmallVec<[Option<Array>; 3]>;

/// Results of a batched application, each with the batch as its first axis.
pub(crate) type Outputs = SmallVec<[Array; 1]>;

/// Zeros in every one of `n` places.
pub(crate) fn none(n: usize) -> Slots {
    Slots::from_elem(None, n)
}

/// One result.
pub(crate) fn one(a: Array) -> Slots {
    Slots::from_iter([Some(a)])
}

/// A tangent or cotangent, zeros written out.
pub(crate) fn or_zeros(slot: &Option<Array>, like: &Array) -> Array {
    slot.clone().unwrap_or_else(|| like.zeros_like())
}

/// The sum of two that may be zero.
pub(crate) fn sum(a: Option<Array>, b: Option<Array>) -> Option<Array> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a + b),
        (a, b) => a.or(b),
    }
}

/// Inputs that all carry the batch: those without one are repeated along it, which takes no memory.
pub(crate) fn all_batched(inputs: &[Array], batched: &[bool], size: usize) -> Vec<Array> {
    let each = inputs.iter().zip(batched);
    each.map(|(a, &b)| if b { a.clone() } else { with_batch(a, size) }).collect()
}

/// Axes of a batched array, given those of one example.
pub(crate) fn shifted(axes: &Axes) -> Axes {
    axes.iter().map(|a| a + 1).collect()
}

/// The shape of a batch of arrays.
pub(crate) fn batch_shape(shape: &Shape, size: usize) -> Shape {
    [size].into_iter().chain(shape.iter().copied()).collect()
}

/// The same primitive on operands that all carry the batch.
pub(crate) fn again(
    prim: Prim,
    inputs: Vec<Array>,
    size: usize,
    output: &(Shape, DType),
) -> Outputs {
    Outputs::from_iter([node(prim, inputs, batch_shape(&output.0, size), output.1)])
}

/// Cotangents of a primitive's inputs from those of its outputs: for each input that is wanted, in its
/// shape and dtype.
pub(crate) fn vjp(
    prim: &Prim,
    call: &Call<'_>,
    cotangents: &[Option<Array>],
    wanted: &[bool],
) -> Result<Slots> {
    if cotangents.iter().all(Option::is_none) {
        return Ok(none(call.inputs.len()));
    }
    // Of primitives with one output; others look at all cotangents.
    let c = &or_zeros(&cotangents[0], &call.outputs[0]);
    Ok(match prim {
        Prim::Arange { .. } | Prim::RandomBits => none(call.inputs.len()),
        Prim::ArgReduce { .. } | Prim::ArgSort { .. } => none(1),
        // Places do not change as values do.
        Prim::SearchSorted { .. } => none(2),
        Prim::Unary(op) => elementwise::rules::unary_vjp(*op, call, c),
        Prim::Binary(op) => elementwise::rules::binary_vjp(*op, call, c, wanted),
        Prim::Select => elementwise::rules::select_vjp(call, c, wanted),
        Prim::Cast => elementwise::rules::cast_vjp(call, c),
        Prim::View(view) => shape::rules::vjp(view, call, c),
        Prim::Copy => one(c.clone()),
        Prim::Reduce { op, axes } => reduce::rules::vjp(*op, axes, call, c)?,
        Prim::Scan { op, axis, reverse, inclusive } => scan::rules::vjp(
            *op,
            *axis,
            scan::Scan { reverse: *reverse, inclusive: *inclusive },
            call,
            c,
        )?,
        Prim::Sort { axis } => sort::rules::vjp(*axis, call, c),
        Prim::Matmul => matmul::rules::vjp(call, c, wanted),
        Prim::Conv(op) => conv::rules::vjp(op, call, c, wanted)?,
        Prim::Gather { .. }
        | Prim::GatherAxis { .. }
        | Prim::Scatter { .. }
        | Prim::ScatterAxis { .. }
        | Prim::SliceUpdate { .. }
        | Prim::DynamicSlice { .. }
        | Prim::DynamicSliceUpdate { .. } => index::rules::vjp(prim, call, c, wanted)?,
        Prim::Concatenate { axis } => shape::rules::concatenate_vjp(*axis, call, c),
        Prim::Fft { kind, axis, scale } => fft::rules::vjp(*kind, *axis, *scale, call, c),
        Prim::Linalg(op) => linalg::rules::vjp(*op, call, cotangents, wanted)?,
        Prim::Quantized(op) => quantized::rules::vjp(op, call, cotangents, wanted)?,
        Prim::Grouped(op) => grouped::rules::vjp(*op, call, c, wanted)?,
        Prim::Fast(op) => fast::rules::vjp(op, call, c, wanted)?,
    })
}

/// Tangents of a primitive's outputs from those of its inputs.
pub(crate) fn jvp(prim: &Prim, call: &Call<'_>, tangents: &[Option<Array>]) -> Result<Slots> {
    Ok(match prim {
        Prim::Arange { .. } | Prim::RandomBits => none(1),
        Prim::ArgReduce { .. } | Prim::ArgSort { .. } | Prim::SearchSorted { .. } => none(1),
        Prim::Unary(op) => elementwise::rules::unary_jvp(*op, call, tangents),
        Prim::Binary(op) => elementwise::rules::binary_jvp(*op, call, tangents),
        Prim::Select => elementwise::rules::select_jvp(call, tangents),
        Prim::Cast => elementwise::rules::cast_jvp(call, tangents),
        Prim::View(view) => shape::rules::jvp(view, call, tangents),
        Prim::Copy => Slots::from_iter([tangents[0].clone()]),
        Prim::Reduce { op, axes } => reduce::rules::jvp(*op, axes, call, tangents)?,
        Prim::Scan { op, axis, reverse, inclusive } => {
            let how = scan::Scan { reverse: *reverse, inclusive: *inclusive };
            scan::rules::jvp(*op, *axis, how, call, tangents)?
        }
        Prim::Sort { axis } => sort::rules::jvp(*axis, call, tangents),
        Prim::Matmul => matmul::rules::jvp(call, tangents),
        Prim::Conv(op) => conv::rules::jvp(op, call, tangents)?,
        Prim::Gather { .. }
        | Prim::GatherAxis { .. }
        | Prim::Scatter { .. }
        | Prim::ScatterAxis { .. }
        | Prim::SliceUpdate { .. }
        | Prim::DynamicSlice { .. }
        | Prim::DynamicSliceUpdate { .. } => index::rules::jvp(prim, call, tangents)?,
        Prim::Concatenate { axis } => shape::rules::concatenate_jvp(*axis, call, tangents),
        Prim::Fft { kind, axis, scale } => fft::rules::jvp(*kind, *axis, *scale, call, tangents),
        Prim::Linalg(op) => linalg::rules::jvp(*op, call, tangents)?,
        Prim::Quantized(op) => quantized::rules::jvp(op, call, tangents)?,
        Prim::Grouped(op) => grouped::rules::jvp(*op, call, tangents),
        Prim::Fast(op) => fast::rules::jvp(op, call, tangents)?,
    })
}

/// A primitive over a batch: inputs that are `batched` have the batch of length `size` as their first
/// axis, and every result does. `outputs` are the results' shapes and dtypes without it.
pub(crate) fn vmap(
    prim: &Prim,
    inputs: &[Array],
    batched: &[bool],
    size: usize,
    outputs: &[(Shape, DType)],
) -> Result<Outputs> {
    let all = || all_batched(inputs, batched, size);
    Ok(match prim {
        // No operand, so never over a batch.
        Prim::Arange { .. } => Outputs::new(),
        Prim::Unary(_)
        | Prim::Binary(_)
        | Prim::Select
        | Prim::Cast
        | Prim::Copy
        | Prim::Matmul => again(prim.clone(), all(), size, &outputs[0]),
        Prim::Conv(op) => conv::rules::vmap(op, inputs, batched, size, &outputs[0])?,
        Prim::View(view) => shape::rules::vmap(view, &inputs[0], size, &outputs[0]),
        Prim::Reduce { op, axes } => {
            again(Prim::Reduce { op: *op, axes: shifted(axes) }, all(), size, &outputs[0])
        }
        Prim::ArgReduce { op, axis } => {
            again(Prim::ArgReduce { op: *op, axis: axis + 1 }, all(), size, &outputs[0])
        }
        Prim::Scan { op, axis, reverse, inclusive } => {
            let (op, axis, reverse, inclusive) = (*op, axis + 1, *reverse, *inclusive);
            again(Prim::Scan { op, axis, reverse, inclusive }, all(), size, &outputs[0])
        }
        Prim::Sort { axis } => again(Prim::Sort { axis: axis + 1 }, all(), size, &outputs[0]),
        Prim::ArgSort { axis } => again(Prim::ArgSort { axis: axis + 1 }, all(), size, &outputs[0]),
        Prim::SearchSorted { right } => {
            search::rules::vmap(*right, inputs, batched, size, &outputs[0])
        }
        Prim::Gather { .. }
        | Prim::GatherAxis { .. }
        | Prim::Scatter { .. }
        | Prim::ScatterAxis { .. }
        | Prim::SliceUpdate { .. }
        | Prim::DynamicSlice { .. }
        | Prim::DynamicSliceUpdate { .. } => {
            index::rules::vmap(prim, inputs, batched, size, &outputs[0])?
        }
        Prim::Concatenate { axis } => {
            again(Prim::Concatenate { axis: axis + 1 }, all(), size, &outputs[0])
        }
        Prim::Fft { kind, axis, scale } => {
            let (kind, axis, scale) = (*kind, axis + 1, *scale);
            again(Prim::Fft { kind, axis, scale }, all(), size, &outputs[0])
        }
        Prim::Linalg(op) => linalg::rules::vmap(*op, inputs, batched, size, outputs)?,
        // A batch of keys is what the primitive takes.
        Prim::RandomBits => again(Prim::RandomBits, all(), size, &outputs[0]),
        Prim::Quantized(op) => quantized::rules::vmap(op, inputs, batched, size, outputs)?,
        Prim::Grouped(op) => grouped::rules::vmap(*op, inputs, batched, size, &outputs[0]),
        Prim::Fast(op) => fast::rules::vmap(op, inputs, batched, size, &outputs[0])?,
    })
}

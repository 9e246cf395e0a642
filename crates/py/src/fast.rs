//! `fast`: operations with kernels of their own.

use crate::args::{Count, made, op};
use crate::array::PyArray;
use crate::device::On;
use crate::value::{Arr, Value};
use lazul_core::fast::{self, Attention, GatedDelta, Mask, Rope};
use lazul_core::operand::Weak;
use lazul_core::{Array, DType};
use pyo3::exceptions::{PyNotImplementedError, PyTypeError, PyValueError};
use pyo3::prelude::*;

fn inner(a: &Option<Arr>) -> Option<&Array> {
    a.as_ref().map(|a| &a.0)
}

/// The last axis divided by its root mean square, times a weight.
///
/// >>> mx.fast.rms_norm(mx.array([3.0, 4.0]), None, 0.0)
/// array([0.848528, 1.13137], dtype=float32)
#[pyfunction]
#[pyo3(signature = (x, weight, eps, *, stream=On(None)))]
fn rms_norm(x: Arr, weight: Option<Arr>, eps: f32, stream: On) -> PyResult<PyArray> {
    op(stream, || fast::rms_norm(&x.0, inner(&weight), eps))
}

/// The last axis with mean 0 and variance 1, times a weight, plus a bias.
///
/// >>> mx.fast.layer_norm(mx.array([1.0, 3.0]), None, None, 0.0)
/// array([-1, 1], dtype=float32)
#[pyfunction]
#[pyo3(signature = (x, weight, bias, eps, *, stream=On(None)))]
fn layer_norm(
    x: Arr,
    weight: Option<Arr>,
    bias: Option<Arr>,
    eps: f32,
    stream: On,
) -> PyResult<PyArray> {
    op(stream, || fast::layer_norm(&x.0, inner(&weight), inner(&bias), eps))
}

/// The negative log probability of target classes.
///
/// >>> mx.fast.cross_entropy(mx.zeros((1, 2)), mx.array([0]))
/// array([0.693147], dtype=float32)
#[pyfunction]
#[pyo3(signature = (logits, targets, *, stream=On(None)))]
fn cross_entropy(logits: Arr, targets: Arr, stream: On) -> PyResult<PyArray> {
    op(stream, || fast::cross_entropy(&logits.0, &targets.0))
}

/// Rotary position embedding of the last axis; row ``i`` of the second-last stands at position ``offset + i``.
///
/// >>> x = mx.ones((1, 1, 2, 4))
/// >>> mx.fast.rope(x, 4, traditional=False, base=10000.0, scale=1.0, offset=0).shape
/// (1, 1, 2, 4)
#[pyfunction]
#[pyo3(signature = (a, dims, *, traditional, base, scale, offset, freqs=None, stream=On(None)))]
fn rope(
    a: Arr,
    dims: Count,
    traditional: bool,
    base: Option<f32>,
    scale: f32,
    offset: Value,
    freqs: Option<Arr>,
    stream: On,
) -> PyResult<PyArray> {
    if base.is_some() == freqs.is_some() {
        return Err(PyValueError::new_err("[rope] Only one of base or freqs can have a value."));
    }
    let offset = match offset {
        Value::Weak(Weak::Int(i)) => {
            Array::scalar(i.clamp(i64::MIN.into(), i64::MAX.into()) as i64)
        }
        Value::Array(a) => a,
        Value::Weak(_) => {
            return Err(PyTypeError::new_err("rope: offset is an integer or an array"));
        }
    };
    let how = Rope {
        dims: dims.0,
        traditional,
        base: base.unwrap_or(10_000.0),
        scale,
        freqs: freqs.map(|f| f.0.astype(DType::F32)),
    };
    op(stream, || fast::rope(&a.0, &how, &offset))
}

/// ``softmax(q @ k.T * scale + mask) @ v`` for every head, in memory that does not grow with the lengths' product.
///
/// Args:
///     q, k, v: queries ``(b, h, tq, d)``, keys ``(b, hk, tk, d)`` and values ``(b, hk, tk, dv)``; ``h`` is a multiple
///         of ``hk``.
///     scale (float): multiplies the scores.
///     mask: ``"causal"``, or an array: of bool it keeps where true, of numbers it is added to the scores.
///     sinks: an extra logit for each query head.
///
/// >>> q = mx.ones((1, 1, 2, 4))
/// >>> mx.fast.scaled_dot_product_attention(q, q, q, scale=0.5, mask="causal").shape
/// (1, 1, 2, 4)
#[pyfunction]
#[pyo3(signature = (q, k, v, *, scale, mask=None, sinks=None, force_fused=false, stream=On(None)))]
fn scaled_dot_product_attention(
    q: Arr,
    k: Arr,
    v: Arr,
    scale: f32,
    mask: Option<&Bound<'_, PyAny>>,
    sinks: Option<Arr>,
    force_fused: bool,
    stream: On,
) -> PyResult<PyArray> {
    // It is fused in any case.
    let _ = force_fused;
    let mask = match mask {
        None => Mask::None,
        Some(mask) => match mask.extract::<String>() {
            Ok(word) if word == "causal" => Mask::Causal,
            Ok(word) if word.is_empty() => Mask::None,
            Ok(word) => {
                let why = format!(
                    "[scaled_dot_product_attention] the mask '{word}' is not known; there is 'causal'"
                );
                return Err(PyValueError::new_err(why));
            }
            Err(_) => Mask::Array(mask.extract::<Arr>()?.0),
        },
    };
    let how = Attention { scale, mask, sinks: inner(&sinks), length: None };
    op(stream, || fast::scaled_dot_product_attention(&q.0, &k.0, &v.0, &how))
}

/// Linear attention with a gated delta rule: the results, and the state after them.
///
/// >>> q = mx.ones((1, 3, 2, 32)); g = mx.ones((1, 3, 2))
/// >>> y, state = mx.fast.gated_delta_update(q, q, q, g, g)
/// >>> y.shape
/// (1, 3, 2, 32)
#[pyfunction]
#[pyo3(signature = (q, k, v, gamma, beta, initial_state=None, mask=None, stream=On(None)))]
fn gated_delta_update(
    q: Arr,
    k: Arr,
    v: Arr,
    gamma: Arr,
    beta: Arr,
    initial_state: Option<Arr>,
    mask: Option<Arr>,
    stream: On,
) -> PyResult<Vec<PyArray>> {
    use crate::error::OrRaise;
    let how = GatedDelta { state: inner(&initial_state), mask: inner(&mask) };
    let (y, state) = stream
        .run(|| fast::gated_delta_update(&q.0, &k.0, &v.0, &gamma.0, &beta.0, how))?
        .or_raise()?;
    Ok(vec![made(y)?, made(state)?])
}

macro_rules! not_here {
    ($($name:ident $why:literal;)*) => {
        $(
            #[doc = $why]
            ///
            /// Raises ``NotImplementedError``.
            #[pyfunction]
            #[pyo3(signature = (*args, **kwargs))]
            fn $name(args: &Bound<'_, PyAny>, kwargs: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
                let _ = (args, kwargs);
                Err(PyNotImplementedError::new_err(concat!(stringify!($name), ": ", $why)))
            }
        )*
    };
}

not_here! {
    metal_kernel "there are no kernels of Metal here.";
    cuda_kernel "Rust has it (fast::cuda_kernel); this package does not offer it yet.";
    precompiled_cuda_kernel "Rust has it (fast::precompiled_cuda_kernel); this package does not offer it yet.";
}

pub(crate) fn add(m: &Bound<'_, PyModule>) -> PyResult<()> {
    for f in [
        wrap_pyfunction!(rms_norm, m)?,
        wrap_pyfunction!(layer_norm, m)?,
        wrap_pyfunction!(cross_entropy, m)?,
        wrap_pyfunction!(rope, m)?,
        wrap_pyfunction!(scaled_dot_product_attention, m)?,
        wrap_pyfunction!(gated_delta_update, m)?,
        wrap_pyfunction!(metal_kernel, m)?,
        wrap_pyfunction!(cuda_kernel, m)?,
        wrap_pyfunction!(precompiled_cuda_kernel, m)?,
    ] {
        m.add_function(f)?;
    }
    Ok(())
}

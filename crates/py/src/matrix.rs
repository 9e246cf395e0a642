//! Products of matrices, quantized ones included, and convolutions.

use crate::args::{Count, Int, Many, op};
use crate::array::PyArray;
use crate::device::On;
use crate::dtype::Dtype;
use crate::error::OrRaise;
use crate::value::{Arr, Value, pair};
use lazul_core::ops::conv::PerAxis;
use lazul_core::{
    Array, BlockMasks, Conv, ConvGeneral, ConvTranspose, ConvolveMode, DType, Quantization,
    Quantized,
};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyList, PyTuple};

macro_rules! products {
    ($($name:ident $doc:literal $example:literal;)*) => {
        $(
            #[doc = $doc]
            #[doc = ""]
            #[doc = $example]
            #[pyfunction]
            #[pyo3(signature = (a, b, /, *, stream=On(None)))]
            fn $name(a: Value, b: Value, stream: On) -> PyResult<PyArray> {
                let (a, b) = pair(a, b)?;
                op(stream, || a.$name(&b))
            }
        )*
    };
}

products! {
    matmul "The product of matrices, or of batches of them. Vectors are a row on the left, a column on the right." ">>> mx.matmul(mx.eye(2), mx.array([1.0, 2.0]))\narray([1, 2], dtype=float32)";
    inner "Sums of products over the last axes." ">>> mx.inner(mx.array([1.0, 2.0]), mx.array([3.0, 4.0]))\narray(11, dtype=float32)";
    outer "The products of every element of one vector with every one of another." ">>> mx.outer(mx.array([1, 2]), mx.array([3, 4]))\narray([[3, 4],\n       [6, 8]], dtype=int32)";
    kron "The Kronecker product." ">>> mx.kron(mx.array([1, 2]), mx.array([1, 1]))\narray([1, 1, 2, 2], dtype=int32)";
}

/// ``alpha * (a @ b) + beta * c``.
///
/// >>> mx.addmm(mx.ones(1), mx.ones((1, 2)), mx.ones((2, 1)))
/// array([[3]], dtype=float32)
#[pyfunction]
#[pyo3(signature = (c, a, b, /, alpha=1.0, beta=1.0, *, stream=On(None)))]
fn addmm(c: Arr, a: Arr, b: Arr, alpha: f64, beta: f64, stream: On) -> PyResult<PyArray> {
    op(stream, || c.0.addmm(&a.0, &b.0, alpha, beta))
}

/// Sums of products along an axis, with the conjugate of the first.
///
/// >>> mx.vecdot(mx.array([1.0, 2.0]), mx.array([3.0, 4.0]))
/// array(11, dtype=float32)
#[pyfunction]
#[pyo3(signature = (a, b, /, *, axis=Int(-1), stream=On(None)))]
fn vecdot(a: Arr, b: Arr, axis: Int, stream: On) -> PyResult<PyArray> {
    op(stream, || a.0.vecdot(&b.0, axis.0))
}

/// Sums of products over a number of last and first axes, or over pairs of axes.
///
/// >>> mx.tensordot(mx.ones((2, 3)), mx.ones((3, 2)), 1).shape
/// (2, 2)
#[pyfunction]
#[pyo3(signature = (a, b, /, axes=None, *, stream=On(None)))]
fn tensordot(a: Arr, b: Arr, axes: Option<&Bound<'_, PyAny>>, stream: On) -> PyResult<PyArray> {
    let Some(axes) = axes else { return op(stream, || a.0.tensordot_count(&b.0, 2)) };
    if let Ok(count) = axes.extract::<Count>() {
        return op(stream, || a.0.tensordot_count(&b.0, count.0));
    }
    let pair: Vec<Many> = axes
        .extract()
        .map_err(|_| PyTypeError::new_err("tensordot: axes are a count, or two lists of axes"))?;
    let [first, second] = &pair[..] else {
        return Err(PyValueError::new_err("[tensordot] axes must be a list of two lists."));
    };
    op(stream, || a.0.tensordot(&b.0, &first.0, &second.0))
}

/// Sums of products in Einstein's notation.
///
/// >>> mx.einsum("ij,j->i", mx.ones((2, 3)), mx.ones(3))
/// array([3, 3], dtype=float32)
#[pyfunction]
#[pyo3(signature = (subscripts, *operands, stream=On(None)))]
fn einsum(subscripts: &str, operands: Vec<Arr>, stream: On) -> PyResult<PyArray> {
    let all: Vec<Array> = operands.into_iter().map(|a| a.0).collect();
    op(stream, || lazul_core::einsum(subscripts, &all))
}

/// The order in which :func:`einsum` multiplies its operands, and a description of its cost.
///
/// >>> mx.einsum_path("ij,jk->ik", mx.ones((2, 3)), mx.ones((3, 2)))[0]
/// [(0, 1)]
#[pyfunction]
#[pyo3(signature = (subscripts, *operands))]
fn einsum_path<'py>(
    py: Python<'py>,
    subscripts: &str,
    operands: Vec<Arr>,
) -> PyResult<(Bound<'py, PyList>, String)> {
    let all: Vec<Array> = operands.into_iter().map(|a| a.0).collect();
    let path = lazul_core::einsum_path(subscripts, &all).or_raise()?;
    let steps = path.steps.iter().map(|s| PyTuple::new(py, s)).collect::<PyResult<Vec<_>>>()?;
    let text = format!(
        "  Complete contraction:  {}\n         Naive scaling:  {}\n     Optimized scaling:  {}\n      \
         Naive FLOP count:  {:.3e}\n  Optimized FLOP count:  {:.3e}\n",
        path.subscripts,
        path.naive_scaling,
        path.optimized_scaling,
        path.naive_flops,
        path.optimized_flops
    );
    Ok((PyList::new(py, steps)?, text))
}

/// Products of matrices with blocks left out, or scaled, by masks of a value for each block.
///
/// >>> x = mx.ones((32, 32))
/// >>> mx.block_masked_mm(x, x, 32, mx.array([[True]]))[0, 0].item()
/// 32.0
#[pyfunction]
#[pyo3(signature = (a, b, /, block_size=Count(64), mask_out=None, mask_lhs=None, mask_rhs=None, *, stream=On(None)))]
fn block_masked_mm(
    a: Arr,
    b: Arr,
    block_size: Count,
    mask_out: Option<Arr>,
    mask_lhs: Option<Arr>,
    mask_rhs: Option<Arr>,
    stream: On,
) -> PyResult<PyArray> {
    let get = |m: &'_ Option<Arr>| m.as_ref().map(|m| m.0.clone());
    let (out, lhs, rhs) = (get(&mask_out), get(&mask_lhs), get(&mask_rhs));
    let masks = BlockMasks { out: out.as_ref(), lhs: lhs.as_ref(), rhs: rhs.as_ref() };
    op(stream, || a.0.block_masked_mm(&b.0, block_size.0, masks))
}

/// Products of matrices picked from batches by flat indices.
///
/// >>> a, b = mx.ones((1, 2, 2)), mx.ones((3, 2, 2))
/// >>> mx.gather_mm(a, b, rhs_indices=mx.array([2])).shape
/// (1, 2, 2)
#[pyfunction]
#[pyo3(signature = (a, b, /, lhs_indices=None, rhs_indices=None, *, sorted_indices=false, stream=On(None)))]
fn gather_mm(
    a: Arr,
    b: Arr,
    lhs_indices: Option<Arr>,
    rhs_indices: Option<Arr>,
    sorted_indices: bool,
    stream: On,
) -> PyResult<PyArray> {
    let _ = sorted_indices;
    let (lhs, rhs) = (lhs_indices.map(|i| i.0), rhs_indices.map(|i| i.0));
    op(stream, || a.0.gather_mm(&b.0, lhs.as_ref(), rhs.as_ref()))
}

/// Products over ranges of the inner dimension, one for each pair of ``segments``.
///
/// >>> mx.segmented_mm(mx.ones((2, 4)), mx.ones((4, 2)), mx.array([[0, 2], [2, 4]], mx.uint32)).shape
/// (2, 2, 2)
#[pyfunction]
#[pyo3(signature = (a, b, /, segments, *, stream=On(None)))]
fn segmented_mm(a: Arr, b: Arr, segments: Arr, stream: On) -> PyResult<PyArray> {
    op(stream, || a.0.segmented_mm(&b.0, &segments.0))
}

/// The Walsh-Hadamard transform of the last axis, scaled by one over the root of its length.
///
/// >>> mx.hadamard_transform(mx.array([1.0, 0.0]), 1.0)
/// array([1, 1], dtype=float32)
#[pyfunction]
#[pyo3(signature = (a, scale=None, stream=On(None)))]
fn hadamard_transform(a: Arr, scale: Option<f64>, stream: On) -> PyResult<PyArray> {
    op(stream, || a.0.hadamard_transform(scale))
}

fn form(mode: &str, group_size: Option<u32>, bits: Option<u32>) -> PyResult<Quantization> {
    Quantization::new(mode, group_size, bits).or_raise()
}

/// A matrix as codes of a few bits in groups of its last axis: codes, scales and, in the mode "affine", biases.
///
/// >>> codes, scales, biases = mx.quantize(mx.ones((2, 64)))
/// >>> codes.shape
/// (2, 8)
#[pyfunction]
#[pyo3(signature = (w, /, group_size=None, bits=None, mode="affine", *, global_scale=None, stream=On(None)))]
fn quantize<'py>(
    py: Python<'py>,
    w: Arr,
    group_size: Option<u32>,
    bits: Option<u32>,
    mode: &str,
    global_scale: Option<Arr>,
    stream: On,
) -> PyResult<Bound<'py, PyTuple>> {
    let form = form(mode, group_size, bits)?;
    let scale = global_scale.map(|g| g.0);
    let made = stream
        .run(|| match &scale {
            Some(scale) => w.0.quantize_scaled(form, Some(scale)),
            None => w.0.quantize(form),
        })?
        .or_raise()?;
    let parts = [Some(made.codes), made.scales, made.biases];
    let parts = parts.into_iter().flatten().map(crate::args::made).collect::<PyResult<Vec<_>>>()?;
    PyTuple::new(py, parts)
}

fn quantized(
    w: Arr,
    scales: Option<Arr>,
    biases: Option<Arr>,
    global_scale: Option<Array>,
    form: Quantization,
) -> PyResult<Quantized> {
    if form.is_affine() && biases.is_none() {
        return Err(PyValueError::new_err(
            "[quantized] Biases must be provided for affine quantization.",
        ));
    }
    let made = Quantized {
        codes: w.0,
        scales: scales.map(|s| s.0),
        biases: biases.map(|b| b.0),
        global_scale,
        form,
    };
    Ok(made)
}

/// The matrix that :func:`quantize` gave the codes of.
///
/// >>> mx.dequantize(*mx.quantize(mx.ones((1, 32)), group_size=32), group_size=32)[0, 0].item()
/// 1.0
#[pyfunction]
#[pyo3(signature = (w, /, scales, biases=None, group_size=None, bits=None, mode="affine", global_scale=None, dtype=None, *, stream=On(None)))]
fn dequantize(
    w: Arr,
    scales: Arr,
    biases: Option<Arr>,
    group_size: Option<u32>,
    bits: Option<u32>,
    mode: &str,
    global_scale: Option<Arr>,
    dtype: Option<Dtype>,
    stream: On,
) -> PyResult<PyArray> {
    let form = form(mode, group_size, bits)?;
    let own = scales.0.dtype().or_raise()?;
    let dtype = dtype.map_or(if form.is_affine() { own } else { DType::BF16 }, |d| d.0);
    let w = quantized(w, Some(scales), biases, global_scale.map(|g| g.0), form)?;
    op(stream, || w.dequantize_to(dtype))
}

/// The product of a matrix with a quantized one.
///
/// >>> w = mx.quantize(mx.ones((2, 64)))
/// >>> mx.quantized_matmul(mx.ones((1, 64)), *w)
/// array([[64, 64]], dtype=float32)
#[pyfunction]
#[pyo3(signature = (x, w, /, scales, biases=None, transpose=true, group_size=None, bits=None, mode="affine", *, stream=On(None)))]
fn quantized_matmul(
    x: Arr,
    w: Arr,
    scales: Arr,
    biases: Option<Arr>,
    transpose: bool,
    group_size: Option<u32>,
    bits: Option<u32>,
    mode: &str,
    stream: On,
) -> PyResult<PyArray> {
    let w = quantized(w, Some(scales), biases, None, form(mode, group_size, bits)?)?;
    op(stream, || x.0.quantized_matmul(&w, transpose))
}

/// Products of matrices with quantized ones, picked from batches by flat indices.
///
/// >>> w = mx.quantize(mx.ones((2, 4, 64)))
/// >>> mx.gather_qmm(mx.ones((1, 1, 64)), *w, rhs_indices=mx.array([1])).shape
/// (1, 1, 4)
#[pyfunction]
#[pyo3(signature = (x, w, /, scales, biases=None, lhs_indices=None, rhs_indices=None, transpose=true, group_size=None, bits=None, mode="affine", global_scale=None, *, sorted_indices=false, stream=On(None)))]
fn gather_qmm(
    x: Arr,
    w: Arr,
    scales: Arr,
    biases: Option<Arr>,
    lhs_indices: Option<Arr>,
    rhs_indices: Option<Arr>,
    transpose: bool,
    group_size: Option<u32>,
    bits: Option<u32>,
    mode: &str,
    global_scale: Option<Arr>,
    sorted_indices: bool,
    stream: On,
) -> PyResult<PyArray> {
    let _ = sorted_indices;
    let form = form(mode, group_size, bits)?;
    let w = quantized(w, Some(scales), biases, global_scale.map(|g| g.0), form)?;
    let (lhs, rhs) = (lhs_indices.map(|i| i.0), rhs_indices.map(|i| i.0));
    op(stream, || x.0.gather_qmm(&w, lhs.as_ref(), rhs.as_ref(), transpose))
}

/// The product of a matrix, quantized on the way, with a quantized one, or with one that is quantized too.
///
/// >>> w, scales = mx.quantize(mx.ones((2, 32)), mode="mxfp8")
/// >>> mx.qqmm(mx.ones((1, 32)), w, scales, mode="mxfp8")
/// array([[32, 32]], dtype=float32)
#[pyfunction]
#[pyo3(signature = (x, w, scales=None, group_size=None, bits=None, mode="nvfp4", global_scale_x=None, global_scale_w=None, *, stream=On(None)))]
fn qqmm(
    x: Arr,
    w: Arr,
    scales: Option<Arr>,
    group_size: Option<u32>,
    bits: Option<u32>,
    mode: &str,
    global_scale_x: Option<Arr>,
    global_scale_w: Option<Arr>,
    stream: On,
) -> PyResult<PyArray> {
    let form = form(mode, group_size, bits)?;
    let (gx, gw) = (global_scale_x.map(|g| g.0), global_scale_w.map(|g| g.0));
    match scales {
        None => op(stream, || x.0.qqmm_dense(&w.0, form, gx.as_ref(), gw.as_ref())),
        Some(scales) => {
            let w = quantized(w, Some(scales), None, gw, form)?;
            op(stream, || x.0.qqmm(&w, gx.as_ref()))
        }
    }
}

/// As :func:`qqmm`, of matrices picked from batches by flat indices.
///
/// >>> w, scales = mx.quantize(mx.ones((2, 4, 32)), mode="mxfp8")
/// >>> mx.gather_qqmm(mx.ones((1, 1, 32)), w, scales, rhs_indices=mx.array([1]), mode="mxfp8").shape
/// (1, 1, 4)
#[pyfunction]
#[pyo3(signature = (x, w, /, scales=None, lhs_indices=None, rhs_indices=None, group_size=None, bits=None, mode="nvfp4", global_scale_x=None, global_scale_w=None, *, sorted_indices=false, stream=On(None)))]
fn gather_qqmm(
    x: Arr,
    w: Arr,
    scales: Option<Arr>,
    lhs_indices: Option<Arr>,
    rhs_indices: Option<Arr>,
    group_size: Option<u32>,
    bits: Option<u32>,
    mode: &str,
    global_scale_x: Option<Arr>,
    global_scale_w: Option<Arr>,
    sorted_indices: bool,
    stream: On,
) -> PyResult<PyArray> {
    let _ = sorted_indices;
    let form = form(mode, group_size, bits)?;
    let (gx, gw) = (global_scale_x.map(|g| g.0), global_scale_w.map(|g| g.0));
    let (lhs, rhs) = (lhs_indices.map(|i| i.0), rhs_indices.map(|i| i.0));
    let w = match scales {
        Some(scales) => quantized(w, Some(scales), None, gw, form)?,
        // Weights that are not quantized are, first.
        None => w.0.quantize_scaled(form, gw.as_ref()).or_raise()?,
    };
    op(stream, || x.0.gather_qqmm(&w, lhs.as_ref(), rhs.as_ref(), gx.as_ref()))
}

fn per_axis(m: &Many) -> PyResult<PerAxis> {
    match m.0[..] {
        [one] => Ok(PerAxis::from(one)),
        _ => Ok(PerAxis::from(&m.0[..])),
    }
}

fn one() -> Many {
    Many(smallvec::smallvec![1])
}

fn zero() -> Many {
    Many(smallvec::smallvec![0])
}

macro_rules! convolutions {
    ($($name:ident $doc:literal $example:literal;)*) => {
        $(
            #[doc = $doc]
            #[doc = ""]
            #[doc = $example]
            #[pyfunction]
            #[pyo3(signature = (input, weight, /, stride=one(), padding=zero(), dilation=one(), groups=Count(1), *, stream=On(None)))]
            fn $name(
                input: Arr,
                weight: Arr,
                stride: Many,
                padding: Many,
                dilation: Many,
                groups: Count,
                stream: On,
            ) -> PyResult<PyArray> {
                let how = Conv {
                    stride: per_axis(&stride)?,
                    padding: per_axis(&padding)?,
                    dilation: per_axis(&dilation)?,
                    groups: groups.0,
                };
                op(stream, || lazul_core::$name(&input.0, &weight.0, how))
            }
        )*
    };
}

convolutions! {
    conv1d "Convolution of ``input (n, l, c)`` with ``weight (o, k, c / groups)``." ">>> mx.conv1d(mx.ones((1, 5, 1)), mx.ones((1, 3, 1))).shape\n(1, 3, 1)";
    conv2d "Convolution of ``input (n, h, w, c)`` with ``weight (o, kh, kw, c / groups)``." ">>> mx.conv2d(mx.ones((1, 5, 5, 1)), mx.ones((1, 3, 3, 1))).shape\n(1, 3, 3, 1)";
    conv3d "Convolution of ``input (n, d, h, w, c)`` with ``weight (o, kd, kh, kw, c / groups)``." ">>> mx.conv3d(mx.ones((1, 3, 3, 3, 1)), mx.ones((1, 3, 3, 3, 1))).shape\n(1, 1, 1, 1, 1)";
}

macro_rules! transposed {
    ($($name:ident $doc:literal $example:literal;)*) => {
        $(
            #[doc = $doc]
            #[doc = ""]
            #[doc = $example]
            #[pyfunction]
            #[pyo3(signature = (input, weight, /, stride=one(), padding=zero(), dilation=one(), output_padding=zero(), groups=Count(1), *, stream=On(None)))]
            fn $name(
                input: Arr,
                weight: Arr,
                stride: Many,
                padding: Many,
                dilation: Many,
                output_padding: Many,
                groups: Count,
                stream: On,
            ) -> PyResult<PyArray> {
                let how = ConvTranspose {
                    stride: per_axis(&stride)?,
                    padding: per_axis(&padding)?,
                    dilation: per_axis(&dilation)?,
                    output_padding: per_axis(&output_padding)?,
                    groups: groups.0,
                };
                op(stream, || lazul_core::$name(&input.0, &weight.0, how))
            }
        )*
    };
}

transposed! {
    conv_transpose1d "The transpose of :func:`conv1d`." ">>> mx.conv_transpose1d(mx.ones((1, 3, 1)), mx.ones((1, 3, 1))).shape\n(1, 5, 1)";
    conv_transpose2d "The transpose of :func:`conv2d`." ">>> mx.conv_transpose2d(mx.ones((1, 3, 3, 1)), mx.ones((1, 3, 3, 1))).shape\n(1, 5, 5, 1)";
    conv_transpose3d "The transpose of :func:`conv3d`." ">>> mx.conv_transpose3d(mx.ones((1, 1, 1, 1, 1)), mx.ones((1, 3, 3, 3, 1))).shape\n(1, 3, 3, 3, 1)";
}

/// Convolution with all its options: padding for each side, dilation of the input, a flipped weight.
///
/// >>> mx.conv_general(mx.ones((1, 5, 1)), mx.ones((1, 3, 1)), padding=([1], [0])).shape
/// (1, 4, 1)
#[pyfunction]
#[pyo3(signature = (input, weight, /, stride=one(), padding=None, kernel_dilation=one(), input_dilation=one(), groups=Count(1), flip=false, *, stream=On(None)))]
fn conv_general(
    input: Arr,
    weight: Arr,
    stride: Many,
    padding: Option<&Bound<'_, PyAny>>,
    kernel_dilation: Many,
    input_dilation: Many,
    groups: Count,
    flip: bool,
    stream: On,
) -> PyResult<PyArray> {
    let padding = match padding {
        None => (per_axis(&zero())?, per_axis(&zero())?),
        Some(p) => match p.extract::<Many>() {
            Ok(both) => (per_axis(&both)?, per_axis(&both)?),
            Err(_) => {
                let sides: (Many, Many) = p.extract().map_err(|_| {
                    PyTypeError::new_err(
                        "conv_general: padding is a number, a list, or a pair of lists",
                    )
                })?;
                (per_axis(&sides.0)?, per_axis(&sides.1)?)
            }
        },
    };
    let how = ConvGeneral {
        stride: per_axis(&stride)?,
        padding,
        kernel_dilation: per_axis(&kernel_dilation)?,
        input_dilation: per_axis(&input_dilation)?,
        groups: groups.0,
        flip,
    };
    op(stream, || lazul_core::conv_general(&input.0, &weight.0, how))
}

/// The convolution of two vectors, as numpy's.
///
/// >>> mx.convolve(mx.array([1.0, 2.0]), mx.array([1.0, 1.0]))
/// array([1, 3, 2], dtype=float32)
#[pyfunction]
#[pyo3(signature = (a, v, /, mode="full", *, stream=On(None)))]
fn convolve(a: Arr, v: Arr, mode: &str, stream: On) -> PyResult<PyArray> {
    let mode = match mode {
        "full" => ConvolveMode::Full,
        "same" => ConvolveMode::Same,
        "valid" => ConvolveMode::Valid,
        other => {
            let why = format!("[convolve] the mode '{other}' is none of full, same, valid");
            return Err(PyValueError::new_err(why));
        }
    };
    op(stream, || lazul_core::convolve(&a.0, &v.0, mode))
}

pub(crate) fn add_to(m: &Bound<'_, PyModule>) -> PyResult<()> {
    for f in [
        wrap_pyfunction!(matmul, m)?,
        wrap_pyfunction!(inner, m)?,
        wrap_pyfunction!(outer, m)?,
        wrap_pyfunction!(kron, m)?,
        wrap_pyfunction!(addmm, m)?,
        wrap_pyfunction!(vecdot, m)?,
        wrap_pyfunction!(tensordot, m)?,
        wrap_pyfunction!(einsum, m)?,
        wrap_pyfunction!(einsum_path, m)?,
        wrap_pyfunction!(block_masked_mm, m)?,
        wrap_pyfunction!(gather_mm, m)?,
        wrap_pyfunction!(segmented_mm, m)?,
        wrap_pyfunction!(hadamard_transform, m)?,
        wrap_pyfunction!(quantize, m)?,
        wrap_pyfunction!(dequantize, m)?,
        wrap_pyfunction!(quantized_matmul, m)?,
        wrap_pyfunction!(gather_qmm, m)?,
        wrap_pyfunction!(qqmm, m)?,
        wrap_pyfunction!(gather_qqmm, m)?,
        wrap_pyfunction!(conv1d, m)?,
        wrap_pyfunction!(conv2d, m)?,
        wrap_pyfunction!(conv3d, m)?,
        wrap_pyfunction!(conv_transpose1d, m)?,
        wrap_pyfunction!(conv_transpose2d, m)?,
        wrap_pyfunction!(conv_transpose3d, m)?,
        wrap_pyfunction!(conv_general, m)?,
        wrap_pyfunction!(convolve, m)?,
    ] {
        m.add_function(f)?;
    }
    Ok(())
}

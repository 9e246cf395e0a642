//! `fft`: Fourier transforms.

use crate::args::{Axes, Count, Int, Many, op};
use crate::array::PyArray;
use crate::device::On;
use crate::value::Arr;
use lazul_core::fft::{self as core, Fft, Fftn, Istft, Norm, PadMode, Stft};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

fn norm_of(norm: Option<&str>) -> PyResult<Norm> {
    match norm {
        None | Some("backward") => Ok(Norm::Backward),
        Some("ortho") => Ok(Norm::Ortho),
        Some("forward") => Ok(Norm::Forward),
        Some(other) => {
            let why = format!("[fft] the norm '{other}' is none of backward, ortho, forward");
            Err(PyValueError::new_err(why))
        }
    }
}

fn wrong_length() -> PyErr {
    PyValueError::new_err("[fft] Invalid number of FFT output sizes: a length is positive")
}

macro_rules! one_axis {
    ($($name:ident $doc:literal $example:literal;)*) => {
        $(
            #[doc = $doc]
            #[doc = ""]
            #[doc = $example]
            #[pyfunction]
            #[pyo3(signature = (a, n=None, axis=Int(-1), norm=None, stream=On(None)))]
            fn $name(
                a: Arr,
                n: Option<Int>,
                axis: Int,
                norm: Option<&str>,
                stream: On,
            ) -> PyResult<PyArray> {
                let n = n.map(|n| usize::try_from(n.0).map_err(|_| wrong_length())).transpose()?;
                let how = Fft { n, axis: axis.0, norm: norm_of(norm)? };
                op(stream, || core::$name(&a.0, how))
            }
        )*
    };
}

one_axis! {
    fft "The Fourier transform of an axis, cut or padded to length ``n``." ">>> mx.fft.fft(mx.array([1.0, 0.0]))\narray([1+0j, 1+0j], dtype=complex64)";
    ifft "The inverse of :func:`fft`." ">>> mx.fft.ifft(mx.array([2.0, 0.0]))\narray([1+0j, 1+0j], dtype=complex64)";
    rfft "The first half of :func:`fft` of real numbers, which says it all." ">>> mx.fft.rfft(mx.array([1.0, 0.0]))\narray([1+0j, 1+0j], dtype=complex64)";
    irfft "The inverse of :func:`rfft`." ">>> mx.fft.irfft(mx.array([2 + 0j, 0j]))\narray([1, 1], dtype=float32)";
}

fn how(s: Option<Many>, axes: Option<Many>, norm: Option<&str>) -> PyResult<Fftn> {
    let s = s.map(|s| s.counts().map_err(|_| wrong_length())).transpose()?;
    Ok(Fftn { s, axes: axes.map(|a| a.0.to_vec()), norm: norm_of(norm)? })
}

macro_rules! two_axes {
    ($($name:ident $doc:literal;)*) => {
        $(
            #[doc = $doc]
            #[doc = ""]
            #[doc = concat!(">>> mx.fft.", stringify!($name), "(mx.ones((2, 2))).shape[0]\n2")]
            #[pyfunction]
            #[pyo3(signature = (a, s=None, axes=Some(Many(smallvec::smallvec![-2, -1])), norm=None, stream=On(None)))]
            fn $name(
                a: Arr,
                s: Option<Many>,
                axes: Option<Many>,
                norm: Option<&str>,
                stream: On,
            ) -> PyResult<PyArray> {
                let how = how(s, axes, norm)?;
                op(stream, || core::$name(&a.0, &how))
            }
        )*
    };
}

two_axes! {
    fft2 "The Fourier transform of two axes.";
    ifft2 "The inverse of :func:`fft2`.";
    rfft2 "The Fourier transform of two axes of real numbers.";
    irfft2 "The inverse of :func:`rfft2`.";
}

macro_rules! all_axes {
    ($($name:ident $doc:literal;)*) => {
        $(
            #[doc = $doc]
            #[doc = ""]
            #[doc = concat!(">>> mx.fft.", stringify!($name), "(mx.ones((2, 2))).shape[0]\n2")]
            #[pyfunction]
            #[pyo3(signature = (a, s=None, axes=None, norm=None, stream=On(None)))]
            fn $name(
                a: Arr,
                s: Option<Many>,
                axes: Option<Many>,
                norm: Option<&str>,
                stream: On,
            ) -> PyResult<PyArray> {
                let how = how(s, axes, norm)?;
                op(stream, || core::$name(&a.0, &how))
            }
        )*
    };
}

all_axes! {
    fftn "The Fourier transform of several axes; of all by default.";
    ifftn "The inverse of :func:`fftn`.";
    rfftn "The Fourier transform of several axes of real numbers.";
    irfftn "The inverse of :func:`rfftn`.";
}

/// The frequencies of :func:`fft` for samples that are ``d`` apart.
///
/// >>> mx.fft.fftfreq(2)
/// array([0, -0.5], dtype=float32)
#[pyfunction]
#[pyo3(signature = (n, d=1.0, stream=On(None)))]
fn fftfreq(n: Count, d: f64, stream: On) -> PyResult<PyArray> {
    op(stream, || core::fftfreq(n.0, d))
}

/// The frequencies of :func:`rfft` for samples that are ``d`` apart.
///
/// >>> mx.fft.rfftfreq(2)
/// array([0, 0.5], dtype=float32)
#[pyfunction]
#[pyo3(signature = (n, d=1.0, stream=On(None)))]
fn rfftfreq(n: Count, d: f64, stream: On) -> PyResult<PyArray> {
    op(stream, || core::rfftfreq(n.0, d))
}

/// The zero frequency moved to the middle.
///
/// >>> mx.fft.fftshift(mx.array([0, 1, -1]))
/// array([-1, 0, 1], dtype=int32)
#[pyfunction]
#[pyo3(signature = (a, axes=Axes(None), stream=On(None)))]
fn fftshift(a: Arr, axes: Axes, stream: On) -> PyResult<PyArray> {
    op(stream, || core::fftshift(&a.0, axes))
}

/// The inverse of :func:`fftshift`.
///
/// >>> mx.fft.ifftshift(mx.array([-1, 0, 1]))
/// array([0, 1, -1], dtype=int32)
#[pyfunction]
#[pyo3(signature = (a, axes=Axes(None), stream=On(None)))]
fn ifftshift(a: Arr, axes: Axes, stream: On) -> PyResult<PyArray> {
    op(stream, || core::ifftshift(&a.0, axes))
}

/// The short-time Fourier transform: the spectra of overlapping windows.
///
/// >>> mx.fft.stft(mx.ones(64), n_fft=16).shape
/// (9, 17)
#[pyfunction]
#[pyo3(signature = (x, n_fft=Count(2048), hop_length=None, win_length=None, window=None, center=true, pad_mode="reflect", norm=None, onesided=None, stream=On(None)))]
fn stft(
    x: Arr,
    n_fft: Count,
    hop_length: Option<Count>,
    win_length: Option<Count>,
    window: Option<Arr>,
    center: bool,
    pad_mode: &str,
    norm: Option<&str>,
    onesided: Option<bool>,
    stream: On,
) -> PyResult<PyArray> {
    let pad_mode = match pad_mode {
        "reflect" => PadMode::Reflect,
        "constant" => PadMode::Constant,
        "edge" => PadMode::Edge,
        other => {
            let why = format!("[stft] the pad_mode '{other}' is none of reflect, constant, edge");
            return Err(PyValueError::new_err(why));
        }
    };
    let how = Stft {
        n_fft: n_fft.0,
        hop_length: hop_length.map(|n| n.0),
        win_length: win_length.map(|n| n.0),
        window: window.map(|w| w.0),
        center,
        pad_mode,
        norm: norm_of(norm)?,
        onesided,
    };
    op(stream, || core::stft(&x.0, &how))
}

/// The inverse of :func:`stft`.
///
/// >>> mx.fft.istft(mx.fft.stft(mx.ones(64), n_fft=16), n_fft=16).shape
/// (64,)
#[pyfunction]
#[pyo3(signature = (stft_matrix, n_fft=None, hop_length=None, win_length=None, window=None, center=true, norm=None, onesided=None, length=None, stream=On(None)))]
fn istft(
    stft_matrix: Arr,
    n_fft: Option<Count>,
    hop_length: Option<Count>,
    win_length: Option<Count>,
    window: Option<Arr>,
    center: bool,
    norm: Option<&str>,
    onesided: Option<bool>,
    length: Option<Count>,
    stream: On,
) -> PyResult<PyArray> {
    let how = Istft {
        n_fft: n_fft.map(|n| n.0),
        hop_length: hop_length.map(|n| n.0),
        win_length: win_length.map(|n| n.0),
        window: window.map(|w| w.0),
        center,
        norm: norm_of(norm)?,
        onesided,
        length: length.map(|n| n.0),
    };
    op(stream, || core::istft(&stft_matrix.0, &how))
}

pub(crate) fn add(m: &Bound<'_, PyModule>) -> PyResult<()> {
    for f in [
        wrap_pyfunction!(fft, m)?,
        wrap_pyfunction!(ifft, m)?,
        wrap_pyfunction!(rfft, m)?,
        wrap_pyfunction!(irfft, m)?,
        wrap_pyfunction!(fft2, m)?,
        wrap_pyfunction!(ifft2, m)?,
        wrap_pyfunction!(rfft2, m)?,
        wrap_pyfunction!(irfft2, m)?,
        wrap_pyfunction!(fftn, m)?,
        wrap_pyfunction!(ifftn, m)?,
        wrap_pyfunction!(rfftn, m)?,
        wrap_pyfunction!(irfftn, m)?,
        wrap_pyfunction!(fftfreq, m)?,
        wrap_pyfunction!(rfftfreq, m)?,
        wrap_pyfunction!(fftshift, m)?,
        wrap_pyfunction!(ifftshift, m)?,
        wrap_pyfunction!(stft, m)?,
        wrap_pyfunction!(istft, m)?,
    ] {
        m.add_function(f)?;
    }
    Ok(())
}

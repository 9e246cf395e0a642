//! Python's buffer protocol: reading what others hold, and showing an array's memory.

use crate::array::PyArray;
use crate::error::OrRaise;
use lazul_core::foreign::HostView;
use lazul_core::{Array, Complex32, DType};
use pyo3::exceptions::{PyBufferError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use std::ffi::{CStr, CString, c_int, c_void};

/// A buffer that is released when this goes.
struct Held(ffi::Py_buffer);

impl Drop for Held {
    fn drop(&mut self) {
        // SAFETY: the buffer was filled by `PyObject_GetBuffer`, and the interpreter is held by whoever reads one.
        unsafe { ffi::PyBuffer_Release(&mut self.0) };
    }
}

/// What the elements of a buffer are.
enum Format {
    Own(DType),
    Complex128,
}

fn format(text: &str, size: usize) -> Option<Format> {
    let body = text.trim_start_matches(['@', '=', '<']);
    if body.starts_with(['>', '!']) && size > 1 {
        return None;
    }
    let dtype = match (body.trim_start_matches(['>', '!']), size) {
        ("?", 1) => DType::Bool,
        ("b", 1) => DType::I8,
        ("B" | "c", 1) => DType::U8,
        ("h", 2) => DType::I16,
        ("H", 2) => DType::U16,
        ("i" | "l" | "q" | "n", 4) => DType::I32,
        ("I" | "L" | "Q" | "N", 4) => DType::U32,
        ("i" | "l" | "q" | "n", 8) => DType::I64,
        ("I" | "L" | "Q" | "N", 8) => DType::U64,
        ("e", 2) => DType::F16,
        ("f", 4) => DType::F32,
        ("d", 8) => DType::F64,
        ("Zf", 8) => DType::C64,
        ("Zd", 16) => return Some(Format::Complex128),
        _ => return None,
    };
    Some(Format::Own(dtype))
}

/// The elements of an object that has a buffer, copied; `None` if it has none.
pub(crate) fn read(object: &Bound<'_, PyAny>) -> PyResult<Option<Array>> {
    // SAFETY: any object may be asked.
    if unsafe { ffi::PyObject_CheckBuffer(object.as_ptr()) } == 0 {
        return Ok(None);
    }
    // SAFETY: all zeros is an empty `Py_buffer`.
    let mut buffer: ffi::Py_buffer = unsafe { std::mem::zeroed() };
    // SAFETY: an object with buffers, and a place for one.
    let got = unsafe { ffi::PyObject_GetBuffer(object.as_ptr(), &mut buffer, ffi::PyBUF_FULL_RO) };
    if got != 0 {
        // It has no buffer for this content; there may be other ways to its elements.
        drop(PyErr::take(object.py()));
        return Ok(None);
    }
    let held = Held(buffer);
    let view = &held.0;
    let rank = usize::try_from(view.ndim).unwrap_or(0);
    // SAFETY: a full buffer has `ndim` lengths, unless it has no axes.
    let shape: Vec<usize> =
        (0..rank).map(|i| usize::try_from(unsafe { *view.shape.add(i) }).unwrap_or(0)).collect();
    let text = if view.format.is_null() {
        "B"
    } else {
        // SAFETY: a format is a C string that lives as long as the buffer.
        unsafe { CStr::from_ptr(view.format) }.to_str().unwrap_or("")
    };
    let size = usize::try_from(view.itemsize).unwrap_or(0);
    let Some(format) = format(text, size) else {
        let why = format!("elements of the format '{text}' cannot be an array's");
        return Err(PyValueError::new_err(why));
    };
    let bytes = usize::try_from(view.len).unwrap_or(0);
    let order = b'C' as std::ffi::c_char;
    // SAFETY: the buffer is valid; the question has no effects.
    let contiguous = unsafe { ffi::PyBuffer_IsContiguous(view, order) } != 0;
    let mut copy = Vec::new();
    let elements: &[u8] = if bytes == 0 {
        &[]
    } else if contiguous {
        // SAFETY: a contiguous buffer of that many bytes, held during this call.
        unsafe { std::slice::from_raw_parts(view.buf.cast::<u8>(), bytes) }
    } else {
        copy.resize(bytes, 0u8);
        // SAFETY: the copy has the buffer's length.
        let done =
            unsafe { ffi::PyBuffer_ToContiguous(copy.as_mut_ptr().cast(), view, view.len, order) };
        if done != 0 {
            return Err(PyErr::fetch(object.py()));
        }
        &copy
    };
    let array = match format {
        Format::Own(dtype) => Array::from_bytes(elements, shape, dtype),
        Format::Complex128 => {
            let half = |b: &[u8]| {
                let mut word = [0u8; 8];
                word.copy_from_slice(b);
                f64::from_ne_bytes(word) as f32
            };
            let all: Vec<Complex32> = elements
                .chunks_exact(16)
                .map(|c| Complex32::new(half(&c[..8]), half(&c[8..])))
                .collect();
            Array::from_slice(&all, shape)
        }
    };
    array.check().or_raise()?;
    Ok(Some(array))
}

/// What a buffer of ours points to.
struct Shown {
    _view: HostView,
    shape: Vec<isize>,
    strides: Vec<isize>,
    format: CString,
}

/// The letter for a dtype, where there is one.
pub(crate) fn letter(dtype: DType) -> Option<&'static str> {
    Some(match dtype {
        DType::Bool => "?",
        DType::U8 => "B",
        DType::U16 => "H",
        DType::U32 => "I",
        DType::U64 => "Q",
        DType::I8 => "b",
        DType::I16 => "h",
        DType::I32 => "i",
        DType::I64 => "q",
        DType::F16 => "e",
        DType::F32 => "f",
        DType::F64 => "d",
        DType::C64 => "Zf",
        DType::BF16 => return None,
    })
}

/// Whether the elements lie in column-major order without gaps.
fn is_column_major(view: &HostView) -> bool {
    let mut step = 1;
    view.shape().contains(&0)
        || view.shape().iter().zip(view.strides()).all(|(&d, &stride)| {
            let fits = d == 1 || stride == step;
            step *= d as isize;
            fits
        })
}

#[pymethods]
impl PyArray {
    // Python shows the array's memory through this: `memoryview(a)`, `numpy.array(a, copy=False)`.
    unsafe fn __getbuffer__(
        slf: Bound<'_, Self>,
        view: *mut ffi::Py_buffer,
        flags: c_int,
    ) -> PyResult<()> {
        if view.is_null() {
            return Err(PyBufferError::new_err("there is no place for the buffer"));
        }
        let py = slf.py();
        let array = slf.get().array();
        let dtype = array.dtype().or_raise()?;
        let Some(letter) = letter(dtype) else {
            let why = format!(
                "{} has no buffer format; cast it, or use DLPack",
                crate::dtype::name(dtype)
            );
            return Err(PyBufferError::new_err(why));
        };
        let mut host = py.detach(|| array.host_view()).or_raise()?;
        let wants = |flag: c_int| flags & flag == flag;
        let columns = is_column_major(&host);
        if wants(ffi::PyBUF_F_CONTIGUOUS) && !columns {
            return Err(PyBufferError::new_err("the array is not in column-major order"));
        }
        let rows = wants(ffi::PyBUF_C_CONTIGUOUS) || !wants(ffi::PyBUF_STRIDES);
        let any = wants(ffi::PyBUF_ANY_CONTIGUOUS) && !columns;
        if (rows || any) && !host.is_row_major() {
            let copy = array.contiguous();
            host = py.detach(|| copy.host_view()).or_raise()?;
        }
        let size = dtype.size() as isize;
        let mut shown = Box::new(Shown {
            shape: host.shape().iter().map(|&d| d as isize).collect(),
            strides: host.strides().iter().map(|&s| s * size).collect(),
            format: CString::new(letter).unwrap_or_default(),
            _view: host,
        });
        let count: usize = shown._view.shape().iter().product();
        // SAFETY: the caller gives a buffer to fill. What it points to lives in the box, whose address is kept
        // in `internal` until `__releasebuffer__` takes it back.
        unsafe {
            (*view).buf = shown._view.ptr().cast::<c_void>();
            (*view).len = count as isize * size;
            (*view).itemsize = size;
            (*view).readonly = 0;
            (*view).ndim = shown.shape.len() as c_int;
            (*view).format = if wants(ffi::PyBUF_FORMAT) {
                shown.format.as_ptr().cast_mut()
            } else {
                std::ptr::null_mut()
            };
            (*view).shape =
                if wants(ffi::PyBUF_ND) { shown.shape.as_mut_ptr() } else { std::ptr::null_mut() };
            (*view).strides = if wants(ffi::PyBUF_STRIDES) {
                shown.strides.as_mut_ptr()
            } else {
                std::ptr::null_mut()
            };
            (*view).suboffsets = std::ptr::null_mut();
            (*view).internal = Box::into_raw(shown).cast::<c_void>();
            (*view).obj = slf.into_ptr();
        }
        Ok(())
    }

    unsafe fn __releasebuffer__(&self, view: *mut ffi::Py_buffer) {
        // SAFETY: a buffer that `__getbuffer__` filled; its box is taken back once.
        unsafe {
            let internal = std::mem::replace(&mut (*view).internal, std::ptr::null_mut());
            if !internal.is_null() {
                drop(Box::from_raw(internal.cast::<Shown>()));
            }
        }
    }
}

//! DLPack: exchanging arrays with numpy, torch, jax and others without copies, in both its forms, with a
//! version and without.

use crate::array::PyArray;
use crate::error::OrRaise;
use lazul_core::foreign::HostView;
use lazul_core::{Array, DType};
use pyo3::exceptions::{PyBufferError, PyTypeError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::ffi::{CStr, c_void};

#[repr(C)]
#[derive(Clone, Copy)]
struct DlDevice {
    kind: i32,
    id: i32,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct DlType {
    code: u8,
    bits: u8,
    lanes: u16,
}

#[repr(C)]
struct DlTensor {
    data: *mut c_void,
    device: DlDevice,
    ndim: i32,
    dtype: DlType,
    shape: *mut i64,
    strides: *mut i64,
    byte_offset: u64,
}

#[repr(C)]
struct Managed {
    tensor: DlTensor,
    context: *mut c_void,
    deleter: Option<unsafe extern "C" fn(*mut Managed)>,
}

#[repr(C)]
struct Versioned {
    major: u32,
    minor: u32,
    context: *mut c_void,
    deleter: Option<unsafe extern "C" fn(*mut Versioned)>,
    flags: u64,
    tensor: DlTensor,
}

const CPU: i32 = 1;
const CUDA_HOST: i32 = 3;
const READ_ONLY: u64 = 1;
const COPIED: u64 = 2;
const OLD: &CStr = c"dltensor";
const NEW: &CStr = c"dltensor_versioned";
const OLD_USED: &CStr = c"used_dltensor";
const NEW_USED: &CStr = c"used_dltensor_versioned";

fn type_of(dtype: DType) -> DlType {
    let code = match dtype {
        DType::I8 | DType::I16 | DType::I32 | DType::I64 => 0,
        DType::U8 | DType::U16 | DType::U32 | DType::U64 => 1,
        DType::F16 | DType::F32 | DType::F64 => 2,
        DType::BF16 => 4,
        DType::C64 => 5,
        DType::Bool => 6,
    };
    DlType { code, bits: (8 * dtype.size()) as u8, lanes: 1 }
}

fn dtype_of(kind: DlType) -> Option<DType> {
    DType::ALL.into_iter().find(|&d| {
        let t = type_of(d);
        (t.code, t.bits, t.lanes) == (kind.code, kind.bits, kind.lanes)
    })
}

/// What an exported tensor points to.
struct Context {
    view: HostView,
    shape: Vec<i64>,
    strides: Vec<i64>,
}

fn tensor(context: &mut Context) -> DlTensor {
    DlTensor {
        data: context.view.ptr().cast(),
        device: DlDevice { kind: CPU, id: 0 },
        ndim: context.shape.len() as i32,
        dtype: type_of(context.view.dtype()),
        shape: context.shape.as_mut_ptr(),
        strides: context.strides.as_mut_ptr(),
        byte_offset: 0,
    }
}

/// Frees an exported tensor; called once, by whoever took it or by the capsule.
unsafe extern "C" fn free_old(tensor: *mut Managed) {
    // SAFETY: `export` made both boxes, and nobody else frees them.
    unsafe {
        drop(Box::from_raw((*tensor).context.cast::<Context>()));
        drop(Box::from_raw(tensor));
    }
}

unsafe extern "C" fn free_new(tensor: *mut Versioned) {
    // SAFETY: as above.
    unsafe {
        drop(Box::from_raw((*tensor).context.cast::<Context>()));
        drop(Box::from_raw(tensor));
    }
}

/// Frees what a capsule holds, if nobody has taken it: then the capsule still has its first name.
unsafe extern "C" fn drop_capsule(capsule: *mut ffi::PyObject) {
    // SAFETY: a destructor is called with the capsule; a valid name says what the pointer is.
    unsafe {
        if ffi::PyCapsule_IsValid(capsule, OLD.as_ptr()) != 0 {
            let tensor = ffi::PyCapsule_GetPointer(capsule, OLD.as_ptr()).cast::<Managed>();
            if let Some(free) = (*tensor).deleter {
                free(tensor);
            }
        } else if ffi::PyCapsule_IsValid(capsule, NEW.as_ptr()) != 0 {
            let tensor = ffi::PyCapsule_GetPointer(capsule, NEW.as_ptr()).cast::<Versioned>();
            if let Some(free) = (*tensor).deleter {
                free(tensor);
            }
        }
    }
}

fn capsule<'py>(
    py: Python<'py>,
    ptr: *mut c_void,
    name: &'static CStr,
) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: the pointer is not null, the name is static, and the destructor suits the name.
    let object = unsafe { ffi::PyCapsule_New(ptr, name.as_ptr(), Some(drop_capsule)) };
    // SAFETY: a new reference, or null with an exception set.
    unsafe { Bound::from_owned_ptr_or_err(py, object) }
}

/// A capsule of an array's memory.
fn export<'py>(
    py: Python<'py>,
    array: &Array,
    versioned: bool,
    copy: bool,
) -> PyResult<Bound<'py, PyAny>> {
    let view = py.detach(|| match copy {
        true => Array::from_bytes(&array.to_bytes()?, array.shape()?, array.dtype()?).host_view(),
        false => array.host_view(),
    });
    let view = view.or_raise()?;
    let shape = view.shape().iter().map(|&d| d as i64).collect();
    let strides = view.strides().iter().map(|&s| s as i64).collect();
    let mut context = Box::new(Context { view, shape, strides });
    let tensor = tensor(&mut context);
    let context = Box::into_raw(context).cast::<c_void>();
    if versioned {
        let flags = if copy { COPIED } else { 0 };
        let all = Versioned { major: 1, minor: 0, context, deleter: Some(free_new), flags, tensor };
        capsule(py, Box::into_raw(Box::new(all)).cast(), NEW)
    } else {
        let all = Managed { tensor, context, deleter: Some(free_old) };
        capsule(py, Box::into_raw(Box::new(all)).cast(), OLD)
    }
}

#[pymethods]
impl PyArray {
    /// A DLPack capsule of the array's memory, for ``numpy.from_dlpack`` and ``torch.from_dlpack``.
    #[pyo3(signature = (*, stream=None, max_version=None, dl_device=None, copy=None))]
    fn __dlpack__<'py>(
        &self,
        py: Python<'py>,
        stream: Option<&Bound<'py, PyAny>>,
        max_version: Option<(u32, u32)>,
        dl_device: Option<(i32, i32)>,
        copy: Option<bool>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let _ = stream;
        if dl_device.is_some_and(|(kind, _)| kind != CPU) {
            return Err(PyBufferError::new_err("arrays are handed out in the host's memory"));
        }
        let versioned = max_version.is_some_and(|(major, _)| major >= 1);
        export(py, &self.array(), versioned, copy == Some(true))
    }

    /// The kind and number of the device whose memory :meth:`__dlpack__` hands out.
    fn __dlpack_device__(&self) -> (i32, i32) {
        (CPU, 0)
    }
}

/// Frees a tensor that was taken, with the capsule that it is kept in.
unsafe extern "C" fn drop_taken_old(capsule: *mut ffi::PyObject) {
    // SAFETY: `take` made the capsule, of a tensor that is ours.
    unsafe {
        let tensor = ffi::PyCapsule_GetPointer(capsule, OLD_USED.as_ptr()).cast::<Managed>();
        if !tensor.is_null()
            && let Some(free) = (*tensor).deleter
        {
            free(tensor);
        }
    }
}

unsafe extern "C" fn drop_taken_new(capsule: *mut ffi::PyObject) {
    // SAFETY: as above.
    unsafe {
        let tensor = ffi::PyCapsule_GetPointer(capsule, NEW_USED.as_ptr()).cast::<Versioned>();
        if !tensor.is_null()
            && let Some(free) = (*tensor).deleter
        {
            free(tensor);
        }
    }
}

/// A tensor that is ours: its description, whether it may only be read, and what frees it. What frees it is a
/// Python object, so that it goes when the interpreter is held, on whatever thread the last array goes.
struct Taken {
    tensor: *const DlTensor,
    read_only: bool,
    owner: Py<PyAny>,
}

fn take(capsule: &Bound<'_, PyAny>) -> PyResult<Taken> {
    let py = capsule.py();
    let ptr = capsule.as_ptr();
    // SAFETY: capsules are asked for their names and pointers; a name is changed so that the tensor is freed by
    // us and nobody else.
    unsafe {
        if ffi::PyCapsule_IsValid(ptr, NEW.as_ptr()) != 0 {
            let tensor = ffi::PyCapsule_GetPointer(ptr, NEW.as_ptr()).cast::<Versioned>();
            if (*tensor).major != 1 {
                let why = format!("DLPack version {} is not known", (*tensor).major);
                return Err(PyBufferError::new_err(why));
            }
            if ffi::PyCapsule_SetName(ptr, NEW_USED.as_ptr()) != 0 {
                return Err(PyErr::fetch(py));
            }
            let kept = ffi::PyCapsule_New(tensor.cast(), NEW_USED.as_ptr(), Some(drop_taken_new));
            let owner = Bound::from_owned_ptr_or_err(py, kept)?.unbind();
            let read_only = (*tensor).flags & READ_ONLY != 0;
            Ok(Taken { tensor: &raw const (*tensor).tensor, read_only, owner })
        } else if ffi::PyCapsule_IsValid(ptr, OLD.as_ptr()) != 0 {
            let tensor = ffi::PyCapsule_GetPointer(ptr, OLD.as_ptr()).cast::<Managed>();
            if ffi::PyCapsule_SetName(ptr, OLD_USED.as_ptr()) != 0 {
                return Err(PyErr::fetch(py));
            }
            let kept = ffi::PyCapsule_New(tensor.cast(), OLD_USED.as_ptr(), Some(drop_taken_old));
            let owner = Bound::from_owned_ptr_or_err(py, kept)?.unbind();
            Ok(Taken { tensor: &raw const (*tensor).tensor, read_only: false, owner })
        } else {
            Err(PyTypeError::new_err("__dlpack__() gave no DLPack capsule, or one that was used"))
        }
    }
}

/// An array over the memory of an object that speaks DLPack. With `copy` false it never is a copy, with true
/// always; without it is one where the memory does not suit. Whom an array is shown may write to its memory, so that it
/// must not be one that may only be read; and its bools are 0 or 1.
pub(crate) fn import(object: &Bound<'_, PyAny>, copy: Option<bool>) -> PyResult<Array> {
    let py = object.py();
    let device: (i32, i32) = object.call_method0("__dlpack_device__")?.extract()?;
    let kwargs = PyDict::new(py);
    kwargs.set_item("max_version", (1, 0))?;
    if device.0 != CPU && device.0 != CUDA_HOST {
        if copy == Some(false) {
            return Err(PyValueError::new_err("the memory is a device's, and may not be copied"));
        }
        kwargs.set_item("dl_device", (CPU, 0))?;
    }
    let capsule = match object.call_method("__dlpack__", (), Some(&kwargs)) {
        Ok(capsule) => capsule,
        // From before there were versions.
        Err(e) if e.is_instance_of::<PyTypeError>(py) => object.call_method0("__dlpack__")?,
        Err(e) => return Err(e),
    };
    let taken = take(&capsule)?;
    // SAFETY: the owner keeps the description alive.
    let tensor = unsafe { &*taken.tensor };
    if tensor.device.kind != CPU && tensor.device.kind != CUDA_HOST {
        return Err(PyBufferError::new_err("the memory is a device's; move it to the host first"));
    }
    let Some(dtype) = dtype_of(tensor.dtype) else {
        let DlType { code, bits, lanes } = tensor.dtype;
        let why = format!("no dtype is DLPack's kind {code} of {bits} bits and {lanes} lanes");
        return Err(PyBufferError::new_err(why));
    };
    let rank = usize::try_from(tensor.ndim).unwrap_or(0);
    let wrong = || PyBufferError::new_err("a DLPack tensor with a negative length");
    // SAFETY: a tensor has `ndim` lengths.
    let shape: Vec<usize> = (0..rank)
        .map(|i| usize::try_from(unsafe { *tensor.shape.add(i) }).map_err(|_| wrong()))
        .collect::<PyResult<_>>()?;
    let strides: Vec<isize> = if tensor.strides.is_null() {
        let mut all = vec![1isize; rank];
        for i in (1..rank).rev() {
            all[i - 1] = all[i].saturating_mul(shape[i].max(1) as isize);
        }
        all
    } else {
        // SAFETY: a tensor that has strides has `ndim` of them.
        (0..rank).map(|i| unsafe { *tensor.strides.add(i) } as isize).collect()
    };
    let ptr = tensor.data.cast::<u8>().wrapping_add(tensor.byte_offset as usize);
    let aligned = (ptr as usize).is_multiple_of(dtype.size().min(8));
    let lent = |dtype: DType| {
        // SAFETY: the owner keeps the tensor's memory alive, and its maker says what is in it.
        unsafe {
            Array::from_lent(ptr, &shape, &strides, dtype, Box::new(taken.owner.clone_ref(py)))
        }
    };
    if !aligned {
        return Err(PyBufferError::new_err("the memory is not aligned for its dtype"));
    }
    // Bytes are any numbers; whether they are bools is looked at before they are taken for them.
    let raw = if dtype == DType::Bool { DType::U8 } else { dtype };
    let array = lent(raw).or_raise()?;
    let mut why = taken.read_only.then_some("the memory may only be read, and may not be copied");
    if dtype == DType::Bool {
        let bytes = py.detach(|| array.to_bytes()).or_raise()?;
        if bytes.iter().any(|&b| b > 1) {
            why = Some("bools that are neither 0 nor 1 need a copy");
        }
    }
    match (why, copy) {
        (Some(why), Some(false)) => return Err(PyValueError::new_err(why)),
        (None, None | Some(false)) => {
            return if raw == dtype { Ok(array) } else { lent(dtype).or_raise() };
        }
        _ => {}
    }
    let own = py.detach(|| Ok(Array::from_bytes(&array.to_bytes()?, &shape, dtype)));
    let own: lazul_core::Result<Array> = own;
    own.or_raise()
}

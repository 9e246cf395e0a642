//! The class `array`: a handle over one of core's arrays that can be changed to hold another, which is how
//! Python's `a += b` and `a[i] = v` are seen by everybody who has the handle.

use crate::args::{Int, Many, made, op};
use crate::device::On;
use crate::dtype::{self, Dtype};
use crate::error::OrRaise;
use crate::eval::evaluate;
use crate::value::{array_of, by_dtype};
use lazul_core::{Array, Complex32, DType, Element, bf16, f16};
use pyo3::IntoPyObjectExt;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyComplex, PyList, PyTuple, PyType};
use std::sync::{Mutex, PoisonError};

/// An n-dimensional array.
///
/// Operations are lazy: they return at once, and values are computed when they are read or asked for with
/// :func:`eval`.
///
/// Args:
///     val: a scalar, nested lists or tuples of scalars or arrays, an array of another library (anything
///         that has a buffer, ``__dlpack__`` or ``__array__``), or an array.
///     dtype (Dtype, optional): the dtype of the elements; by default that of the values, with float32
///         for Python's floats and numpy's float64, and int32 or int64 for integers.
///
/// >>> mx.array([[1, 2], [3, 4]], mx.float32).sum(axis=0)
/// array([4, 6], dtype=float32)
#[pyclass(name = "array", module = "lazul.core", frozen, weakref)]
pub(crate) struct PyArray {
    held: Mutex<Array>,
}

impl PyArray {
    #[inline]
    pub(crate) fn new(array: Array) -> PyArray {
        PyArray { held: Mutex::new(array) }
    }

    /// What the handle holds now.
    #[inline]
    pub(crate) fn array(&self) -> Array {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Makes the handle hold another array.
    pub(crate) fn set(&self, array: Array) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *held, array);
        drop(held);
        drop(before);
    }

    /// Makes the handle hold the result of an operation on what it holds.
    pub(crate) fn update(&self, array: Array) -> PyResult<()> {
        array.check().or_raise()?;
        self.set(array);
        Ok(())
    }

    pub(crate) fn dtype_of(&self) -> PyResult<DType> {
        self.array().dtype().or_raise()
    }
}

/// An element as a Python object.
trait ToPython: Element {
    fn to_python<'py>(self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>>;
}

macro_rules! to_python {
    ($($t:ty => |$py:ident, $v:ident| $e:expr;)*) => {$(
        impl ToPython for $t {
            fn to_python<'py>(self, $py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
                let $v = self;
                $e.into_bound_py_any($py)
            }
        }
    )*};
}
to_python! {
    bool => |py, v| v;
    u8 => |py, v| v;
    u16 => |py, v| v;
    u32 => |py, v| v;
    u64 => |py, v| v;
    i8 => |py, v| v;
    i16 => |py, v| v;
    i32 => |py, v| v;
    i64 => |py, v| v;
    f16 => |py, v| v.to_f64();
    bf16 => |py, v| v.to_f64();
    f32 => |py, v| v as f64;
    f64 => |py, v| v;
    Complex32 => |py, v| PyComplex::from_doubles(py, v.re as f64, v.im as f64);
}

fn one<'py, T: ToPython>(py: Python<'py>, array: &Array) -> PyResult<Bound<'py, PyAny>> {
    py.detach(|| array.item::<T>()).or_raise()?.to_python(py)
}

/// The one element of an array.
pub(crate) fn item<'py>(py: Python<'py>, array: &Array) -> PyResult<Bound<'py, PyAny>> {
    if array.size().or_raise()? != 1 {
        let why = "[convert] Only length-1 arrays can be converted to Python scalars.";
        return Err(PyValueError::new_err(why));
    }
    evaluate(py, std::slice::from_ref(array))?;
    by_dtype!(array.dtype().or_raise()?, one(py, array))
}

/// Elements as nested lists.
fn nested<'py, T: ToPython>(py: Python<'py>, array: &Array) -> PyResult<Bound<'py, PyAny>> {
    let shape = array.shape().or_raise()?.to_vec();
    let values = py.detach(|| array.to_vec::<T>()).or_raise()?;
    fn level<'py, T: ToPython>(
        py: Python<'py>,
        shape: &[usize],
        values: &[T],
    ) -> PyResult<Bound<'py, PyAny>> {
        match shape {
            [] => values[0].to_python(py),
            [n, rest @ ..] => {
                let size: usize = rest.iter().product();
                let part = |i: usize| level(py, rest, &values[i * size..(i + 1) * size]);
                let all = (0..*n).map(part).collect::<PyResult<Vec<_>>>()?;
                Ok(PyList::new(py, all)?.into_any())
            }
        }
    }
    level(py, &shape, &values)
}

#[pymethods]
impl PyArray {
    #[new]
    #[pyo3(signature = (val, dtype=None))]
    fn py_new(val: &Bound<'_, PyAny>, dtype: Option<Dtype>) -> PyResult<PyArray> {
        made(array_of(val, dtype.map(|d| d.0))?)
    }

    /// The number of elements.
    #[getter]
    fn size(&self) -> PyResult<usize> {
        self.array().size().or_raise()
    }

    /// The number of dimensions.
    #[getter]
    fn ndim(&self) -> PyResult<usize> {
        self.array().ndim().or_raise()
    }

    /// The bytes of one element.
    #[getter]
    fn itemsize(&self) -> PyResult<usize> {
        Ok(self.dtype_of()?.size())
    }

    /// The bytes of all elements.
    #[getter]
    fn nbytes(&self) -> PyResult<usize> {
        self.array().nbytes().or_raise()
    }

    /// The lengths of the dimensions.
    #[getter]
    fn shape<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, self.array().shape().or_raise()?)
    }

    /// The dtype of the elements.
    #[getter]
    fn dtype(&self, py: Python<'_>) -> PyResult<Py<Dtype>> {
        Ok(dtype::object(py, self.dtype_of()?))
    }

    /// The real parts.
    #[getter]
    fn real(&self) -> PyResult<PyArray> {
        made(self.array().real())
    }

    /// The imaginary parts.
    #[getter]
    fn imag(&self) -> PyResult<PyArray> {
        made(self.array().imag())
    }

    /// The array with its axes in reverse order.
    #[getter]
    #[allow(non_snake_case)]
    fn T(&self) -> PyResult<PyArray> {
        made(self.array().t())
    }

    /// The array with its last two axes swapped.
    #[getter]
    #[allow(non_snake_case)]
    fn mT(&self) -> PyResult<PyArray> {
        made(self.array().mt())
    }

    /// The value of an array of one element.
    ///
    /// >>> mx.array([2.5]).item()
    /// 2.5
    fn item<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        item(py, &self.array())
    }

    /// The values as nested lists; of an array without axes, the value.
    ///
    /// >>> mx.array([[1, 2], [3, 4]]).tolist()
    /// [[1, 2], [3, 4]]
    fn tolist<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let array = self.array();
        evaluate(py, std::slice::from_ref(&array))?;
        by_dtype!(array.dtype().or_raise()?, nested(py, &array))
    }

    fn __len__(&self) -> PyResult<usize> {
        match self.array().shape().or_raise()? {
            [] => Err(PyTypeError::new_err("len() 0-dimensional array.")),
            [n, ..] => Ok(*n),
        }
    }

    fn __iter__(&self) -> PyResult<ArrayIterator> {
        let array = self.array();
        match array.shape().or_raise()? {
            [] => Err(PyTypeError::new_err("iteration over a 0-dimensional array.")),
            [n, ..] => Ok(ArrayIterator { len: *n, array, next: Mutex::new(0) }),
        }
    }

    fn __bool__(&self, py: Python<'_>) -> PyResult<bool> {
        item(py, &self.array())?.is_truthy()
    }

    fn __int__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let value = item(py, &self.array())?;
        py.get_type::<pyo3::types::PyInt>().call1((value,))
    }

    fn __float__<'py>(&self, py: Python<'py>) -> PyResult<f64> {
        let value = item(py, &self.array())?;
        py.get_type::<pyo3::types::PyFloat>().call1((value,))?.extract()
    }

    fn __complex__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let value = item(py, &self.array())?;
        py.get_type::<PyComplex>().call1((value,))
    }

    fn __index__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let array = self.array();
        if array.ndim().or_raise()? != 0 || !array.dtype().or_raise()?.is_integer() {
            let why = "Only 0-dimensional integer arrays can be converted to an index.";
            return Err(PyTypeError::new_err(why));
        }
        item(py, &array)
    }

    fn __bytes__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let array = self.array();
        evaluate(py, std::slice::from_ref(&array))?;
        Ok(PyBytes::new(py, &py.detach(|| array.to_bytes()).or_raise()?))
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let array = self.array();
        evaluate(py, std::slice::from_ref(&array))?;
        crate::print::text(&array)
    }

    fn __format__(&self, py: Python<'_>, spec: &str) -> PyResult<String> {
        if spec.is_empty() {
            return self.__repr__(py);
        }
        let array = self.array();
        if array.ndim().or_raise()? != 0 {
            let why = "unsupported format string passed to mx.array.__format__";
            return Err(PyTypeError::new_err(why));
        }
        item(py, &array)?.call_method1("__format__", (spec,))?.extract()
    }

    fn __hash__(slf: &Bound<'_, Self>) -> isize {
        // As Python hashes addresses: their low bits say nothing.
        let address = slf.as_ptr() as usize;
        address.rotate_right(4) as isize
    }

    /// Pickles as bytes, shape and dtype.
    fn __reduce__<'py>(
        &self,
        py: Python<'py>,
    ) -> PyResult<(Bound<'py, PyAny>, (Bound<'py, PyBytes>, Bound<'py, PyTuple>, Py<Dtype>))> {
        let make = py.import("lazul._core")?.getattr("_array_from_bytes")?;
        Ok((make, self.__getstate__(py)?))
    }

    /// Bytes, shape and dtype.
    fn __getstate__<'py>(
        &self,
        py: Python<'py>,
    ) -> PyResult<(Bound<'py, PyBytes>, Bound<'py, PyTuple>, Py<Dtype>)> {
        Ok((self.__bytes__(py)?, self.shape(py)?, self.dtype(py)?))
    }

    /// Takes the value that ``__getstate__`` gave.
    fn __setstate__(&self, state: (Vec<u8>, Many, Dtype)) -> PyResult<()> {
        self.update(Array::from_bytes(&state.0, state.1, state.2.0))
    }

    fn __copy__(&self) -> PyResult<PyArray> {
        made(self.array())
    }

    fn __deepcopy__(&self, _memo: &Bound<'_, PyAny>) -> PyResult<PyArray> {
        made(self.array())
    }

    /// A numpy array of the same values, which shares the memory where the dtype is the same.
    #[pyo3(signature = (dtype=None, copy=None))]
    fn __array__<'py>(
        slf: &Bound<'py, Self>,
        dtype: Option<&Bound<'py, PyAny>>,
        copy: Option<bool>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let numpy = py.import("numpy")?;
        let mut out = if slf.get().dtype_of()? == DType::BF16 {
            let words = made(slf.get().array().view(DType::U16))?;
            let words = numpy.call_method1("asarray", (words,))?;
            let why = "numpy has no bfloat16 without the package ml_dtypes; cast the array first";
            let types = py.import("ml_dtypes").map_err(|_| PyTypeError::new_err(why))?;
            words.call_method1("view", (types.getattr("bfloat16")?,))?
        } else {
            let view = py.import("builtins")?.call_method1("memoryview", (slf,))?;
            numpy.call_method1("asarray", (view,))?
        };
        let wanted = match dtype {
            Some(dtype) if !dtype.is_none() => Some(numpy.call_method1("dtype", (dtype,))?),
            _ => None,
        };
        if let Some(wanted) = wanted
            && !out.getattr("dtype")?.eq(&wanted)?
        {
            if copy == Some(false) {
                return Err(PyValueError::new_err("another dtype needs a copy"));
            }
            return out.call_method1("astype", (wanted,));
        }
        if copy == Some(true) {
            out = out.call_method0("copy")?;
        }
        Ok(out)
    }

    /// The module that speaks the array API standard.
    #[pyo3(signature = (*, api_version=None))]
    fn __array_namespace__<'py>(
        &self,
        py: Python<'py>,
        api_version: Option<&str>,
    ) -> PyResult<Bound<'py, PyAny>> {
        if let Some(version) = api_version
            && !["2021.12", "2022.12", "2023.12", "2024.12"].contains(&version)
        {
            let why = format!("version '{version}' of the array API standard is not known");
            return Err(PyValueError::new_err(why));
        }
        Ok(py.import("lazul.core")?.into_any())
    }

    /// Arrays of one's own class cannot be made of other classes; for annotations.
    #[classmethod]
    fn __class_getitem__(cls: &Bound<'_, PyType>, _item: &Bound<'_, PyAny>) -> Py<PyType> {
        cls.clone().unbind()
    }

    /// The array in another dtype.
    ///
    /// >>> mx.array([1.7]).astype(mx.int32)
    /// array([1], dtype=int32)
    #[pyo3(signature = (dtype, stream=On(None)))]
    fn astype(&self, dtype: Dtype, stream: On) -> PyResult<PyArray> {
        let a = self.array();
        op(stream, || a.astype(dtype.0))
    }

    /// The same bits in another dtype.
    #[pyo3(signature = (dtype, *, stream=On(None)))]
    fn view(&self, dtype: Dtype, stream: On) -> PyResult<PyArray> {
        let a = self.array();
        op(stream, || a.view(dtype.0))
    }

    /// The array with other lengths of its dimensions; one may be -1.
    #[pyo3(signature = (*shape, stream=On(None)))]
    fn reshape(&self, shape: &Bound<'_, PyTuple>, stream: On) -> PyResult<PyArray> {
        let (a, shape) = (self.array(), variadic(shape)?);
        op(stream, || a.reshape(shape))
    }

    /// The array with its axes in another order; by default reversed.
    #[pyo3(signature = (*axes, stream=On(None)))]
    fn transpose(&self, axes: &Bound<'_, PyTuple>, stream: On) -> PyResult<PyArray> {
        let a = self.array();
        if axes.is_empty() || (axes.len() == 1 && axes.get_item(0)?.is_none()) {
            return op(stream, || a.t());
        }
        let axes = variadic(axes)?;
        op(stream, || a.transpose(axes))
    }

    /// The array with a range of axes made one.
    #[pyo3(signature = (start_axis=Int(0), end_axis=Int(-1), *, stream=On(None)))]
    fn flatten(&self, start_axis: Int, end_axis: Int, stream: On) -> PyResult<PyArray> {
        let a = self.array();
        op(stream, || a.flatten(start_axis.0, end_axis.0))
    }
}

/// Arguments that are integers, or one sequence of them.
fn variadic(arguments: &Bound<'_, PyTuple>) -> PyResult<Many> {
    if arguments.len() == 1 { arguments.get_item(0)?.extract() } else { arguments.extract() }
}

/// Goes over the first axis of an array.
#[pyclass(module = "lazul.core", frozen)]
pub(crate) struct ArrayIterator {
    array: Array,
    len: usize,
    next: Mutex<usize>,
}

#[pymethods]
impl ArrayIterator {
    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__(&self) -> PyResult<Option<PyArray>> {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        if *next >= self.len {
            return Ok(None);
        }
        *next += 1;
        made(self.array.at_index(0, *next as i64 - 1)).map(Some)
    }
}

/// The array that a pickle holds.
#[pyfunction]
fn _array_from_bytes(bytes: &[u8], shape: Many, dtype: Dtype) -> PyResult<PyArray> {
    made(Array::from_bytes(bytes, shape, dtype.0))
}

pub(crate) fn add(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<PyArray>()?;
    m.add_class::<ArrayIterator>()?;
    m.add_function(wrap_pyfunction!(_array_from_bytes, m)?)
}

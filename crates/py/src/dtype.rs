//! Dtypes and their kinds as Python objects.

use crate::array::PyArray;
use crate::error::OrRaise;
use lazul_core::DType;
use lazul_core::dtypes::{self, Category, Class};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyTuple;

/// The type of an array's elements: ``lazul.core.float32`` and the like.
#[pyclass(name = "Dtype", module = "lazul.core", frozen, eq, hash, from_py_object)]
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Dtype(pub(crate) DType);

/// MLX's name of a dtype.
pub(crate) fn name(dtype: DType) -> &'static str {
    dtype.name()
}

/// The one object of a dtype.
pub(crate) fn object(py: Python<'_>, dtype: DType) -> Py<Dtype> {
    static ALL: PyOnceLock<Vec<Py<Dtype>>> = PyOnceLock::new();
    let all =
        ALL.get_or_try_init(py, || DType::ALL.iter().map(|&d| Py::new(py, Dtype(d))).collect());
    match all {
        Ok(all) => all[DType::ALL.iter().position(|&d| d == dtype).unwrap_or(0)].clone_ref(py),
        Err(error) => {
            let error: PyErr = error;
            panic!("no memory for the dtypes: {error}")
        }
    }
}

#[pymethods]
impl Dtype {
    /// Bytes of one element.
    #[getter]
    fn size(&self) -> usize {
        self.0.size()
    }

    fn __repr__(&self) -> String {
        format!("lazul.core.{}", name(self.0))
    }

    /// Dtypes are told by name, so that a pickle brings back the one object.
    fn __reduce__<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyAny>, (&'static str,))> {
        Ok((py.import("lazul._core")?.getattr("_dtype_by_name")?, (name(self.0),)))
    }

    fn __copy__(&self, py: Python<'_>) -> Py<Dtype> {
        object(py, self.0)
    }

    fn __deepcopy__(&self, py: Python<'_>, _memo: &Bound<'_, PyAny>) -> Py<Dtype> {
        object(py, self.0)
    }
}

#[pyfunction]
fn _dtype_by_name(py: Python<'_>, text: &str) -> PyResult<Py<Dtype>> {
    let dtype = DType::ALL.iter().find(|d| name(**d) == text);
    dtype.map(|&d| object(py, d)).ok_or_else(|| PyValueError::new_err(format!("no dtype '{text}'")))
}

/// A kind of dtypes, of which :func:`issubdtype` knows which is part of which.
#[pyclass(module = "lazul.core", frozen, eq, hash, from_py_object)]
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[allow(non_camel_case_types)]
pub(crate) enum DtypeCategory {
    /// Complex numbers.
    complexfloating,
    /// Real floating-point numbers.
    floating,
    /// Real and complex floating-point numbers.
    inexact,
    /// Integers with a sign.
    signedinteger,
    /// Integers without a sign.
    unsignedinteger,
    /// All integers.
    integer,
    /// All numbers.
    number,
    /// Everything.
    generic,
}

impl DtypeCategory {
    fn category(self) -> Category {
        match self {
            DtypeCategory::complexfloating => Category::ComplexFloating,
            DtypeCategory::floating => Category::Floating,
            DtypeCategory::inexact => Category::Inexact,
            DtypeCategory::signedinteger => Category::SignedInteger,
            DtypeCategory::unsignedinteger => Category::UnsignedInteger,
            DtypeCategory::integer => Category::Integer,
            DtypeCategory::number => Category::Number,
            DtypeCategory::generic => Category::Generic,
        }
    }
}

/// A dtype or a kind of them.
#[derive(FromPyObject)]
enum Kind {
    Dtype(Dtype),
    Category(DtypeCategory),
}

impl Kind {
    fn class(self) -> Class {
        match self {
            Kind::Dtype(d) => d.0.into(),
            Kind::Category(c) => c.category().into(),
        }
    }
}

/// Whether a dtype (or kind) is of a kind.
///
/// >>> mx.issubdtype(mx.float16, mx.floating)
/// True
#[pyfunction]
#[pyo3(signature = (arg1, arg2, /))]
fn issubdtype(arg1: Kind, arg2: Kind) -> bool {
    dtypes::issubdtype(arg1.class(), arg2.class())
}

/// An array, for its dtype, or a dtype.
#[derive(FromPyObject)]
enum Typed {
    Dtype(Dtype),
    Array(Py<PyArray>),
}

impl Typed {
    fn dtype(&self) -> PyResult<DType> {
        match self {
            Typed::Dtype(d) => Ok(d.0),
            Typed::Array(a) => a.get().array().dtype().or_raise(),
        }
    }
}

/// The dtype of an operation between arrays of these dtypes.
///
/// >>> mx.result_type(mx.int32, mx.bfloat16)
/// lazul.core.bfloat16
#[pyfunction]
#[pyo3(signature = (*arrays_and_dtypes))]
fn result_type(py: Python<'_>, arrays_and_dtypes: Vec<Typed>) -> PyResult<Py<Dtype>> {
    let all = arrays_and_dtypes.iter().map(Typed::dtype).collect::<PyResult<Vec<_>>>()?;
    Ok(object(py, dtypes::result_type(&all).or_raise()?))
}

/// Whether a dtype (or an array's) becomes another beside it.
///
/// >>> mx.can_cast(mx.int32, mx.float16)
/// True
#[pyfunction]
#[pyo3(signature = (from_, to, /))]
fn can_cast(from_: Typed, to: Dtype) -> PyResult<bool> {
    Ok(dtypes::can_cast(from_.dtype()?, to.0))
}

/// Whether a dtype is of a kind that the array API standard names, or is another dtype.
///
/// >>> mx.isdtype(mx.int8, "integral")
/// True
#[pyfunction]
#[pyo3(signature = (dtype, kind))]
fn isdtype(dtype: Dtype, kind: &Bound<'_, PyAny>) -> PyResult<bool> {
    if let Ok(kind) = kind.cast::<Dtype>() {
        return Ok(kind.get().0 == dtype.0);
    }
    if let Ok(kinds) = kind.cast::<PyTuple>() {
        for kind in kinds.iter() {
            if isdtype(dtype, &kind)? {
                return Ok(true);
            }
        }
        return Ok(false);
    }
    match kind.extract::<String>() {
        Ok(kind) => dtypes::isdtype(dtype.0, &kind).or_raise(),
        Err(_) => {
            Err(PyTypeError::new_err("isdtype: a kind is a dtype, a text or a tuple of them"))
        }
    }
}

/// The limits of a float dtype.
///
/// >>> mx.finfo(mx.float16).max
/// 65504.0
#[pyclass(name = "finfo", module = "lazul.core", frozen)]
pub(crate) struct FInfo(dtypes::FloatInfo);

#[pymethods]
impl FInfo {
    #[new]
    #[pyo3(signature = (dtype, /))]
    fn new(dtype: Dtype) -> PyResult<FInfo> {
        Ok(FInfo(dtypes::finfo(dtype.0).or_raise()?))
    }
    /// Bits of one element.
    #[getter]
    fn bits(&self) -> usize {
        self.0.bits
    }
    /// The lowest number.
    #[getter]
    fn min(&self) -> f64 {
        self.0.min
    }
    /// The highest number.
    #[getter]
    fn max(&self) -> f64 {
        self.0.max
    }
    /// The distance from 1 to the next number.
    #[getter]
    fn eps(&self) -> f64 {
        self.0.eps
    }
    /// The smallest positive number of full precision.
    #[getter]
    fn smallest_normal(&self) -> f64 {
        self.0.smallest_normal
    }
    /// The dtype.
    #[getter]
    fn dtype(&self, py: Python<'_>) -> Py<Dtype> {
        object(py, self.0.dtype)
    }
    fn __repr__(&self) -> String {
        let (min, max) =
            (crate::print::general(self.0.min, 6), crate::print::general(self.0.max, 6));
        format!("finfo(min={min}, max={max}, dtype={})", name(self.0.dtype))
    }
}

/// The limits of an integer dtype.
///
/// >>> mx.iinfo(mx.int8).max
/// 127
#[pyclass(name = "iinfo", module = "lazul.core", frozen)]
pub(crate) struct IInfo(dtypes::IntInfo);

#[pymethods]
impl IInfo {
    #[new]
    #[pyo3(signature = (dtype, /))]
    fn new(dtype: Dtype) -> PyResult<IInfo> {
        Ok(IInfo(dtypes::iinfo(dtype.0).or_raise()?))
    }
    /// Bits of one element.
    #[getter]
    fn bits(&self) -> usize {
        self.0.bits
    }
    /// The lowest number.
    #[getter]
    fn min(&self) -> i64 {
        self.0.min
    }
    /// The highest number.
    #[getter]
    fn max(&self) -> u64 {
        self.0.max
    }
    /// The dtype.
    #[getter]
    fn dtype(&self, py: Python<'_>) -> Py<Dtype> {
        object(py, self.0.dtype)
    }
    fn __repr__(&self) -> String {
        format!("iinfo(min={}, max={}, dtype={})", self.0.min, self.0.max, name(self.0.dtype))
    }
}

pub(crate) fn add(m: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = m.py();
    m.add_class::<Dtype>()?;
    m.add_class::<DtypeCategory>()?;
    m.add_class::<FInfo>()?;
    m.add_class::<IInfo>()?;
    for dtype in DType::ALL {
        let attribute = if dtype == DType::Bool { "bool_" } else { name(dtype) };
        m.add(attribute, object(py, dtype))?;
    }
    let categories = m.getattr("DtypeCategory")?;
    for kind in [
        "complexfloating",
        "floating",
        "inexact",
        "signedinteger",
        "unsignedinteger",
        "integer",
        "number",
        "generic",
    ] {
        m.add(kind, categories.getattr(kind)?)?;
    }
    for f in [
        wrap_pyfunction!(_dtype_by_name, m)?,
        wrap_pyfunction!(issubdtype, m)?,
        wrap_pyfunction!(result_type, m)?,
        wrap_pyfunction!(can_cast, m)?,
        wrap_pyfunction!(isdtype, m)?,
    ] {
        m.add_function(f)?;
    }
    Ok(())
}

//! Python's operators on arrays: new ones, reflected ones, and those that change the handle.

use crate::args::made;
use crate::array::PyArray;
use crate::value::{Value, pair};
use lazul_core::Array;
use pyo3::basic::CompareOp;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyString;

/// The other side of an operator, if an array can be made of it; otherwise whether that side may try itself.
pub(crate) enum Other {
    Value(Value),
    TheirTurn,
}

pub(crate) fn other(object: &Bound<'_, PyAny>, what: &str, theirs: &str) -> PyResult<Other> {
    match object.extract::<Value>() {
        Ok(value) => Ok(Other::Value(value)),
        Err(error) => {
            if object.is_none() {
                return Ok(Other::TheirTurn);
            }
            let kind = object.get_type();
            let own = kind.getattr("__module__").is_ok_and(|m| m.eq("builtins").unwrap_or(false));
            if !own && kind.hasattr(theirs)? {
                return Ok(Other::TheirTurn);
            }
            if !error.is_instance_of::<PyValueError>(object.py()) {
                return Err(error);
            }
            let why = format!("Cannot perform {what} on a lazul.core.array and {}", kind.name()?);
            Err(PyValueError::new_err(why))
        }
    }
}

/// An array, or what tells Python to ask the other side.
fn answer(py: Python<'_>, array: Option<PyArray>) -> PyResult<Py<PyAny>> {
    match array {
        Some(array) => Ok(Py::new(py, array)?.into_any()),
        None => Ok(py.NotImplemented()),
    }
}

fn forward(
    a: &PyArray,
    b: &Bound<'_, PyAny>,
    what: &str,
    theirs: &str,
    f: impl FnOnce(&Array, &Array) -> Array,
) -> PyResult<Py<PyAny>> {
    let done = match other(b, what, theirs)? {
        Other::Value(b) => {
            let (a, b) = pair(Value::Array(a.array()), b)?;
            Some(made(crate::device::On(None).run(|| f(&a, &b))?)?)
        }
        Other::TheirTurn => None,
    };
    answer(b.py(), done)
}

fn backward(
    b: &PyArray,
    a: &Bound<'_, PyAny>,
    what: &str,
    theirs: &str,
    f: impl FnOnce(&Array, &Array) -> Array,
) -> PyResult<Py<PyAny>> {
    let done = match other(a, what, theirs)? {
        Other::Value(a) => {
            let (a, b) = pair(a, Value::Array(b.array()))?;
            Some(made(crate::device::On(None).run(|| f(&a, &b))?)?)
        }
        Other::TheirTurn => None,
    };
    answer(a.py(), done)
}

fn in_place(
    a: &PyArray,
    b: &Bound<'_, PyAny>,
    what: &str,
    f: impl FnOnce(&Array, &Array) -> Array,
) -> PyResult<()> {
    match other(b, what, "")? {
        Other::Value(b) => {
            let (x, b) = pair(Value::Array(a.array()), b)?;
            a.update(crate::device::On(None).run(|| f(&x, &b))?)
        }
        Other::TheirTurn => {
            let kind = b.get_type();
            let kind = kind.name()?;
            Err(PyTypeError::new_err(format!(
                "{what} of a lazul.core.array and {kind} is not known"
            )))
        }
    }
}

macro_rules! operators {
    ($($forward:ident $backward:ident $inplace:ident $what:literal $theirs:literal $method:ident;)*) => {
        #[pymethods]
        impl PyArray {
            $(
                fn $forward(&self, other: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
                    forward(self, other, $what, $theirs, |a, b| a.$method(b))
                }
                fn $backward(&self, other: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
                    backward(self, other, $what, $theirs, |a, b| a.$method(b))
                }
                fn $inplace(&self, other: &Bound<'_, PyAny>) -> PyResult<()> {
                    in_place(self, other, $what, |a, b| a.$method(b))
                }
            )*
        }
    };
}

operators! {
    __add__ __radd__ __iadd__ "addition" "__radd__" add;
    __sub__ __rsub__ __isub__ "subtraction" "__rsub__" subtract;
    __mul__ __rmul__ __imul__ "multiplication" "__rmul__" multiply;
    __truediv__ __rtruediv__ __itruediv__ "division" "__rtruediv__" divide;
    __floordiv__ __rfloordiv__ __ifloordiv__ "floor division" "__rfloordiv__" floor_divide;
    __mod__ __rmod__ __imod__ "modulo" "__rmod__" remainder;
    __matmul__ __rmatmul__ __imatmul__ "matrix multiplication" "__rmatmul__" matmul;
    __and__ __rand__ __iand__ "bitwise and" "__rand__" bitwise_and;
    __or__ __ror__ __ior__ "bitwise or" "__ror__" bitwise_or;
    __xor__ __rxor__ __ixor__ "bitwise xor" "__rxor__" bitwise_xor;
    __lshift__ __rlshift__ __ilshift__ "left shift" "__rlshift__" left_shift;
    __rshift__ __rrshift__ __irshift__ "right shift" "__rrshift__" right_shift;
}

#[pymethods]
impl PyArray {
    fn __pow__(
        &self,
        other: &Bound<'_, PyAny>,
        modulo: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        if modulo.is_some() {
            return Err(PyTypeError::new_err("pow() of an array has no third argument"));
        }
        forward(self, other, "power", "__rpow__", |a, b| a.power(b))
    }

    fn __rpow__(
        &self,
        other: &Bound<'_, PyAny>,
        modulo: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        let _ = modulo;
        backward(self, other, "power", "__rpow__", |a, b| a.power(b))
    }

    fn __ipow__(
        &self,
        other: &Bound<'_, PyAny>,
        modulo: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let _ = modulo;
        in_place(self, other, "power", |a, b| a.power(b))
    }

    fn __divmod__<'py>(
        &self,
        other: Value,
        py: Python<'py>,
    ) -> PyResult<(Bound<'py, PyArray>, Bound<'py, PyArray>)> {
        let (a, b) = pair(Value::Array(self.array()), other)?;
        let (q, r) = a.divmod(&b);
        Ok((Bound::new(py, made(q)?)?, Bound::new(py, made(r)?)?))
    }

    /// Division, under the name that Python 2 had for it.
    fn __div__(&self, other: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        self.__truediv__(other)
    }

    /// Division of something by the array, under the name that Python 2 had for it.
    fn __rdiv__(&self, other: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        self.__rtruediv__(other)
    }

    fn __richcmp__(&self, other: &Bound<'_, PyAny>, how: CompareOp) -> PyResult<Py<PyAny>> {
        let py = other.py();
        let equality = matches!(how, CompareOp::Eq | CompareOp::Ne);
        if equality && other.is_none() {
            return Err(PyTypeError::new_err(
                "an array is not compared with None; write `is None`",
            ));
        }
        let b = match self::other(other, "comparison", "") {
            Ok(Other::Value(b)) => b,
            Ok(Other::TheirTurn) => return Ok(py.NotImplemented()),
            // Nothing else equals an array.
            Err(_) if equality && !other.is_instance_of::<PyArray>() => {
                if !other.is_instance_of::<PyString>() && other.get_type().hasattr("__array__")? {
                    return Ok(py.NotImplemented());
                }
                let differs = matches!(how, CompareOp::Ne);
                return Ok(pyo3::types::PyBool::new(py, differs).to_owned().into_any().unbind());
            }
            Err(error) => return Err(error),
        };
        let (a, b) = pair(Value::Array(self.array()), b)?;
        let result = crate::device::On(None).run(|| match how {
            CompareOp::Eq => a.equal(&b),
            CompareOp::Ne => a.not_equal(&b),
            CompareOp::Lt => a.less(&b),
            CompareOp::Le => a.less_equal(&b),
            CompareOp::Gt => a.greater(&b),
            CompareOp::Ge => a.greater_equal(&b),
        })?;
        answer(py, Some(made(result)?))
    }

    fn __contains__(&self, py: Python<'_>, value: Value) -> PyResult<bool> {
        let (a, b) = pair(Value::Array(self.array()), value)?;
        crate::array::item(py, &a.equal(&b).any(..))?.is_truthy()
    }
}

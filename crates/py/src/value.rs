//! Python's values as arrays and weak scalars.

use crate::array::PyArray;
use crate::buffer;
use crate::dlpack;
use crate::error::OrRaise;
use lazul_core::operand::Weak;
use lazul_core::{Array, Complex32, DType, Element, bf16, f16};
use pyo3::exceptions::{PyOverflowError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyComplex, PyDict, PyFloat, PyInt, PyList, PyString, PyTuple};

/// An array, or a scalar that takes the dtype of the array it meets.
pub(crate) enum Value {
    Array(Array),
    Weak(Weak),
}

/// A Python number as a weak scalar.
fn weak(object: &Bound<'_, PyAny>) -> PyResult<Option<Weak>> {
    Ok(Some(if let Ok(f) = object.cast::<PyFloat>() {
        Weak::Float(f.value())
    } else if let Ok(b) = object.cast::<PyBool>() {
        Weak::Bool(b.is_true())
    } else if object.is_instance_of::<PyInt>() {
        match object.extract::<i64>() {
            Ok(small) => Weak::Int(small.into()),
            Err(_) => Weak::Int(object.extract::<i128>().map_err(|_| {
                PyOverflowError::new_err("an integer that needs more than 128 bits")
            })?),
        }
    } else if let Ok(c) = object.cast::<PyComplex>() {
        Weak::Complex(Complex32::new(c.real() as f32, c.imag() as f32))
    } else {
        return Ok(None);
    }))
}

impl<'a, 'py> FromPyObject<'a, 'py> for Value {
    type Error = PyErr;

    fn extract(object: Borrowed<'a, 'py, PyAny>) -> PyResult<Value> {
        if let Ok(array) = object.cast::<PyArray>() {
            return Ok(Value::Array(array.get().array()));
        }
        if let Some(weak) = weak(&object)? {
            return Ok(Value::Weak(weak));
        }
        if object.is_none() {
            return Err(PyTypeError::new_err("an array or a scalar is expected, not None"));
        }
        match foreign(&object)? {
            Some(array) => Ok(Value::Array(array)),
            None => Err(invalid(&object)),
        }
    }
}

impl Value {
    /// As an array by itself.
    pub(crate) fn array(self) -> PyResult<Array> {
        match self {
            Value::Array(a) => Ok(a),
            Value::Weak(w) => scalar(w, own_dtype(w)),
        }
    }

    /// As an array beside one of `dtype`.
    pub(crate) fn beside(self, dtype: DType) -> PyResult<Array> {
        match self {
            Value::Array(a) => Ok(a),
            Value::Weak(w) => scalar(w, dtype_beside(w, dtype)),
        }
    }

    /// The dtype of an array, or `None`.
    pub(crate) fn dtype(&self) -> PyResult<Option<DType>> {
        match self {
            Value::Array(a) => a.dtype().map(Some).or_raise(),
            Value::Weak(_) => Ok(None),
        }
    }
}

/// Both arguments of an operation as arrays.
#[inline]
pub(crate) fn pair(a: Value, b: Value) -> PyResult<(Array, Array)> {
    match (a, b) {
        (Value::Array(a), Value::Array(b)) => Ok((a, b)),
        (Value::Array(a), b) => {
            let b = b.beside(a.dtype().or_raise()?)?;
            Ok((a, b))
        }
        (a, Value::Array(b)) => Ok((a.beside(b.dtype().or_raise()?)?, b)),
        (Value::Weak(a), Value::Weak(b)) => {
            // Two scalars take the wider kind.
            let dtype = DType::promote(own_dtype(a), own_dtype(b));
            Ok((scalar(a, own_dtype(a))?.astype(dtype), scalar(b, own_dtype(b))?.astype(dtype)))
        }
    }
}

/// An argument that is an array, or counts as one.
pub(crate) struct Arr(pub(crate) Array);

impl<'a, 'py> FromPyObject<'a, 'py> for Arr {
    type Error = PyErr;
    #[inline]
    fn extract(object: Borrowed<'a, 'py, PyAny>) -> PyResult<Arr> {
        if let Ok(array) = object.cast::<PyArray>() {
            return Ok(Arr(array.get().array()));
        }
        object.extract::<Value>()?.array().map(Arr)
    }
}

/// Several arrays: a list or tuple, whose scalars take the dtype of the first array.
pub(crate) struct Arrays(pub(crate) Vec<Array>);

impl<'a, 'py> FromPyObject<'a, 'py> for Arrays {
    type Error = PyErr;
    fn extract(object: Borrowed<'a, 'py, PyAny>) -> PyResult<Arrays> {
        if let Ok(array) = object.cast::<PyArray>() {
            return array.get().array().unstack(0).map(Arrays).or_raise();
        }
        let wrong = |_| PyTypeError::new_err("a list of arrays is expected");
        if object.is_instance_of::<PyString>() || object.is_instance_of::<PyDict>() {
            return Err(PyTypeError::new_err("a list of arrays is expected"));
        }
        let mut all = Vec::new();
        for item in object.try_iter().map_err(wrong)? {
            all.push(item?.extract::<Value>()?);
        }
        let dtype = all.iter().find_map(|v| v.dtype().transpose()).transpose()?;
        let one = |v: Value| match dtype {
            Some(dtype) => v.beside(dtype),
            None => v.array(),
        };
        all.into_iter().map(one).collect::<PyResult<Vec<_>>>().map(Arrays)
    }
}

pub(crate) fn invalid(object: &Bound<'_, PyAny>) -> PyErr {
    let kind = object.get_type().name().map(|n| n.to_string()).unwrap_or_default();
    PyValueError::new_err(format!("Invalid type {kind} received in array initialization."))
}

fn int_dtype(v: i128) -> DType {
    if i32::try_from(v).is_ok() {
        DType::I32
    } else if i64::try_from(v).is_ok() {
        DType::I64
    } else {
        DType::U64
    }
}

fn own_dtype(w: Weak) -> DType {
    match w {
        Weak::Bool(_) => DType::Bool,
        Weak::Int(v) => int_dtype(v),
        Weak::Float(_) => DType::F32,
        Weak::Complex(_) => DType::C64,
    }
}

fn dtype_beside(w: Weak, other: DType) -> DType {
    match w {
        Weak::Bool(_) => other,
        Weak::Int(v) if other == DType::Bool => int_dtype(v),
        Weak::Int(_) => other,
        Weak::Float(_) if other.is_inexact() => other,
        Weak::Float(_) => DType::F32,
        Weak::Complex(_) => DType::C64,
    }
}

/// A weak scalar as an array; an integer that does not fit an integer dtype is an error.
fn scalar(w: Weak, dtype: DType) -> PyResult<Array> {
    if let (Weak::Int(v), true) = (w, dtype.is_integer()) {
        let info = lazul_core::dtypes::iinfo(dtype).or_raise()?;
        if v < info.min.into() || v > info.max.into() {
            let name = crate::dtype::name(dtype);
            let why = format!("Converting {v} to {name} would result in overflow.");
            return Err(PyValueError::new_err(why));
        }
    }
    Ok(filled(&[w], &[], dtype))
}

/// Types that a weak scalar can be turned into, as C's casts do it: integers wrap, floats saturate.
trait Cast: Element {
    fn cast(w: Weak) -> Self;
}

macro_rules! casts {
    (int $($t:ty)*) => {$(
        impl Cast for $t {
            fn cast(w: Weak) -> $t {
                match w {
                    Weak::Bool(b) => b as $t,
                    Weak::Int(v) => v as $t,
                    Weak::Float(v) => v as $t,
                    Weak::Complex(c) => c.re as $t,
                }
            }
        }
    )*};
    (float $($t:ty => |$v:ident| $e:expr;)*) => {$(
        impl Cast for $t {
            fn cast(w: Weak) -> $t {
                let $v: f64 = match w {
                    Weak::Bool(b) => b as u8 as f64,
                    Weak::Int(v) => v as f64,
                    Weak::Float(v) => v,
                    Weak::Complex(c) => c.re as f64,
                };
                $e
            }
        }
    )*};
}
casts!(int u8 u16 u32 u64 i8 i16 i32 i64);
casts!(float f16 => |v| f16::from_f64(v); bf16 => |v| bf16::from_f64(v); f32 => |v| v as f32; f64 => |v| v;);

impl Cast for bool {
    fn cast(w: Weak) -> bool {
        match w {
            Weak::Bool(b) => b,
            Weak::Int(v) => v != 0,
            Weak::Float(v) => v != 0.0,
            Weak::Complex(c) => c.re != 0.0 || c.im != 0.0,
        }
    }
}

impl Cast for Complex32 {
    fn cast(w: Weak) -> Complex32 {
        match w {
            Weak::Complex(c) => c,
            other => Complex32::new(f32::cast(other), 0.0),
        }
    }
}

/// Calls `$f::<T>($args)` with the element type of a dtype.
macro_rules! by_dtype {
    ($dtype:expr, $f:ident($($arg:expr),*)) => {
        match $dtype {
            DType::Bool => $f::<bool>($($arg),*),
            DType::U8 => $f::<u8>($($arg),*),
            DType::U16 => $f::<u16>($($arg),*),
            DType::U32 => $f::<u32>($($arg),*),
            DType::U64 => $f::<u64>($($arg),*),
            DType::I8 => $f::<i8>($($arg),*),
            DType::I16 => $f::<i16>($($arg),*),
            DType::I32 => $f::<i32>($($arg),*),
            DType::I64 => $f::<i64>($($arg),*),
            DType::F16 => $f::<f16>($($arg),*),
            DType::BF16 => $f::<bf16>($($arg),*),
            DType::F32 => $f::<f32>($($arg),*),
            DType::F64 => $f::<f64>($($arg),*),
            DType::C64 => $f::<Complex32>($($arg),*),
        }
    };
}
pub(crate) use by_dtype;

fn filled(values: &[Weak], shape: &[usize], dtype: DType) -> Array {
    fn of<T: Cast>(values: &[Weak], shape: &[usize]) -> Array {
        if let ([one], []) = (values, shape) {
            return Array::scalar(T::cast(*one));
        }
        let all: Vec<T> = values.iter().map(|&w| T::cast(w)).collect();
        Array::from_slice(&all, shape)
    }
    by_dtype!(dtype, of(values, shape))
}

/// Nested lists being read: the numbers in row-major order, and the lengths so far.
#[derive(Default)]
struct Lists {
    values: Vec<Weak>,
    /// Whole arrays that stand for axes of their own; numbers among them are arrays too.
    arrays: Vec<Array>,
    lengths: Vec<usize>,
    leaf_depth: Option<usize>,
}

const DEEPEST: usize = 32;

impl Lists {
    fn read(&mut self, object: &Bound<'_, PyAny>, depth: usize) -> PyResult<()> {
        let uneven = || PyValueError::new_err("Initialization encountered non-uniform length.");
        if depth > DEEPEST {
            return Err(PyValueError::new_err("lists nested deeper than an array has dimensions"));
        }
        let items: Vec<Bound<'_, PyAny>> = if let Ok(list) = object.cast::<PyList>() {
            list.iter().collect()
        } else if let Ok(tuple) = object.cast::<PyTuple>() {
            tuple.iter().collect()
        } else {
            if *self.leaf_depth.get_or_insert(depth) != depth {
                return Err(uneven());
            }
            if let Some(w) = weak(object)? {
                match self.arrays.first() {
                    None => self.values.push(w),
                    Some(first) => {
                        let dtype = dtype_beside(w, first.dtype().or_raise()?);
                        self.arrays.push(scalar(w, dtype)?);
                    }
                }
                return Ok(());
            }
            let array = match object.cast::<PyArray>() {
                Ok(a) => a.get().array(),
                Err(_) => foreign(object)?.ok_or_else(|| invalid(object))?,
            };
            // The numbers before it become arrays as well.
            let dtype = array.dtype().or_raise()?;
            for w in std::mem::take(&mut self.values) {
                self.arrays.push(scalar(w, dtype_beside(w, dtype))?);
            }
            self.arrays.push(array);
            return Ok(());
        };
        if self.leaf_depth.is_some_and(|d| d <= depth) {
            return Err(uneven());
        }
        match self.lengths.get(depth) {
            None if depth == self.lengths.len() => self.lengths.push(items.len()),
            Some(&n) if n == items.len() => {}
            _ => return Err(uneven()),
        }
        if items.is_empty() && *self.leaf_depth.get_or_insert(depth + 1) != depth + 1 {
            return Err(uneven());
        }
        items.iter().try_for_each(|item| self.read(item, depth + 1))
    }

    fn finish(self, dtype: Option<DType>) -> PyResult<Array> {
        if !self.arrays.is_empty() {
            // Leaves of one shape, stacked along the axes of the lists.
            let all =
                self.arrays.iter().map(|a| a.dtype()).collect::<Result<Vec<_>, _>>().or_raise()?;
            let together = match dtype {
                Some(dtype) => dtype,
                None => lazul_core::dtypes::result_type(&all).or_raise()?,
            };
            let leaves: Vec<Array> = self.arrays.iter().map(|a| a.astype(together)).collect();
            let stacked = lazul_core::stack(&leaves, 0);
            let mut shape = self.lengths.clone();
            shape.extend(leaves[0].shape().or_raise()?);
            let whole = stacked.reshape(shape);
            whole.check().or_raise()?;
            return Ok(whole);
        }
        let natural = self.values.iter().map(|&w| own_dtype(w)).reduce(DType::promote);
        let natural = natural.unwrap_or(DType::F32);
        if natural == DType::U64
            && self.values.iter().any(|w| matches!(w, Weak::Int(v) if u64::try_from(*v).is_err()))
        {
            return Err(PyOverflowError::new_err("an integer that fits neither int64 nor uint64"));
        }
        Ok(filled(&self.values, &self.lengths, dtype.unwrap_or(natural)))
    }
}

/// An array of a Python value, copied: what `lazul.core.array` makes.
pub(crate) fn array_of(object: &Bound<'_, PyAny>, dtype: Option<DType>) -> PyResult<Array> {
    if let Ok(array) = object.cast::<PyArray>() {
        let array = array.get().array();
        return Ok(dtype.map_or_else(|| array.clone(), |d| array.astype(d)));
    }
    if let Some(w) = weak(object)? {
        if let (Weak::Int(v), None) = (w, dtype) {
            return scalar(w, int_dtype(v));
        }
        return Ok(filled(&[w], &[], dtype.unwrap_or_else(|| own_dtype(w))));
    }
    if object.is_instance_of::<PyList>() || object.is_instance_of::<PyTuple>() {
        let mut lists = Lists::default();
        lists.read(object, 0)?;
        return lists.finish(dtype);
    }
    if object.is_none() {
        return Err(PyTypeError::new_err("array: a value is expected, not None"));
    }
    let array = foreign_as(object, dtype)?.ok_or_else(|| invalid(object))?;
    Ok(match dtype {
        Some(dtype) => array.astype(dtype),
        None => array,
    })
}

/// An array of what another library holds, copied; 64-bit floats become 32-bit ones.
fn foreign(object: &Bound<'_, PyAny>) -> PyResult<Option<Array>> {
    foreign_as(object, None)
}

fn foreign_as(object: &Bound<'_, PyAny>, dtype: Option<DType>) -> PyResult<Option<Array>> {
    if object.is_instance_of::<PyString>() || object.is_instance_of::<PyDict>() {
        return Ok(None);
    }
    let py = object.py();
    for name in ["__mlx_array__", "__lazul_array__"] {
        if let Some(method) = object.getattr_opt(name)? {
            let own = method.call0()?;
            let own = own.cast::<PyArray>().map_err(|_| {
                PyTypeError::new_err(format!("{name}() gave something that is no array"))
            })?;
            return Ok(Some(own.get().array()));
        }
    }
    if let Some(array) = buffer::read(object)? {
        return Ok(Some(narrowed(array, dtype)?));
    }
    // Numpy arrays of ml_dtypes' bfloat16 have no buffer.
    if let Some(kind) = object.getattr_opt("dtype")?
        && let Some(name) = kind.getattr_opt("name")?
        && name.extract::<String>().is_ok_and(|n| n == "bfloat16")
        && let Some(view) = object.getattr_opt("view")?
        && let Ok(words) = view.call1(("uint16",))
        && let Some(words) = buffer::read(&words)?
    {
        return Ok(Some(words.view(DType::BF16)));
    }
    if object.hasattr("__dlpack__")? {
        let lent = dlpack::import(object, None)?;
        let copy = py.detach(|| -> lazul_core::Result<Array> {
            let bytes = lent.to_bytes()?;
            Ok(Array::from_bytes(&bytes, lent.shape()?, lent.dtype()?))
        });
        return Ok(Some(copy.or_raise()?));
    }
    if let Some(method) = object.getattr_opt("__array__")? {
        let numpy = method.call0()?;
        if let Some(array) = buffer::read(&numpy)? {
            return Ok(Some(narrowed(array, dtype)?));
        }
    }
    Ok(None)
}

/// 64-bit floats as 32-bit ones, unless they are asked for.
fn narrowed(array: Array, dtype: Option<DType>) -> PyResult<Array> {
    let wide = array.dtype().or_raise()? == DType::F64 && dtype != Some(DType::F64);
    Ok(if wide { array.astype(DType::F32) } else { array })
}

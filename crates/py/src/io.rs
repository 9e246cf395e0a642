//! Files of arrays: npy, npz, safetensors and GGUF, by path or in a file object.

use crate::args::made;
use crate::device::On;
use crate::error::OrRaise;
use crate::tree;
use crate::value::Arr;
use lazul_core::Array;
use lazul_io::gguf::{GgufList, GgufValue, TextList};
use lazul_io::{Gguf, Npy, Npz, SafeTensors};
use pyo3::IntoPyObjectExt;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyString, PyTuple};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A path, or an object that is read from or written to.
enum File<'py> {
    Path(PathBuf),
    Object(Bound<'py, PyAny>),
}

fn file_of<'py>(file: &Bound<'py, PyAny>) -> PyResult<File<'py>> {
    if file.is_instance_of::<PyString>() || file.hasattr("__fspath__")? {
        return Ok(File::Path(file.extract()?));
    }
    if file.hasattr("read")? || file.hasattr("write")? {
        return Ok(File::Object(file.clone()));
    }
    let kind = file.get_type();
    Err(PyTypeError::new_err(format!("a path or a file object is expected, not {}", kind.name()?)))
}

/// The path with an ending, if it has none of it.
fn ending(path: PathBuf, end: &str) -> PathBuf {
    let there = path.to_str().is_some_and(|p| p.ends_with(end));
    if there {
        return path;
    }
    let mut name = path.into_os_string();
    name.push(end);
    PathBuf::from(name)
}

/// Writes to a path, or to a file object through a file that is gone afterwards.
fn written(
    py: Python<'_>,
    file: &Bound<'_, PyAny>,
    end: &str,
    write: impl FnOnce(&std::path::Path) -> lazul_io::Result<()> + Send,
) -> PyResult<()> {
    match file_of(file)? {
        File::Path(path) => {
            let path = ending(path, end);
            py.detach(|| write(&path)).or_raise()
        }
        File::Object(object) => {
            static NEXT: AtomicU64 = AtomicU64::new(0);
            let name = format!("lazul-{}-{}{end}", std::process::id(), NEXT.fetch_add(1, Relaxed));
            let path = std::env::temp_dir().join(name);
            let done = py.detach(|| write(&path));
            let bytes = std::fs::read(&path);
            let _ = std::fs::remove_file(&path);
            done.or_raise()?;
            object.call_method1("write", (PyBytes::new(py, &bytes?),))?;
            Ok(())
        }
    }
}

/// Writes an array to an ``.npy`` file.
///
/// >>> import io
/// >>> mx.save(io.BytesIO(), mx.array([1.0]))
#[pyfunction]
fn save(py: Python<'_>, file: &Bound<'_, PyAny>, arr: Arr) -> PyResult<()> {
    written(py, file, ".npy", |path| lazul_io::save_npy(path, &arr.0))
}

/// Arguments of `savez` with names: positional ones are `arr_0` and so on.
fn named(
    args: &Bound<'_, PyTuple>,
    kwargs: Option<&Bound<'_, PyDict>>,
) -> PyResult<Vec<(String, Array)>> {
    let mut all = Vec::new();
    for (name, value) in kwargs.into_iter().flat_map(|k| k.iter()) {
        all.push((name.extract()?, value.extract::<Arr>()?.0));
    }
    for (i, value) in args.iter().enumerate() {
        let name = format!("arr_{i}");
        if all.iter().any(|(n, _): &(String, Array)| *n == name) {
            return Err(PyValueError::new_err(format!(
                "[savez] Cannot use un-named variables and keyword {name}"
            )));
        }
        all.push((name, value.extract::<Arr>()?.0));
    }
    Ok(all)
}

/// Writes arrays to an ``.npz`` file: named ones under their names, others as ``arr_0`` and so on.
///
/// >>> import io
/// >>> mx.savez(io.BytesIO(), a=mx.array([1.0]))
#[pyfunction]
#[pyo3(signature = (file, *args, **kwargs))]
fn savez(
    py: Python<'_>,
    file: &Bound<'_, PyAny>,
    args: &Bound<'_, PyTuple>,
    kwargs: Option<&Bound<'_, PyDict>>,
) -> PyResult<()> {
    let all = named(args, kwargs)?;
    let save =
        |path: &std::path::Path| lazul_io::save_npz(path, all.iter().map(|(n, a)| (n.as_str(), a)));
    written(py, file, ".npz", save)
}

/// As :func:`savez`, compressed.
///
/// >>> import io
/// >>> mx.savez_compressed(io.BytesIO(), a=mx.array([1.0]))
#[pyfunction]
#[pyo3(signature = (file, *args, **kwargs))]
fn savez_compressed(
    py: Python<'_>,
    file: &Bound<'_, PyAny>,
    args: &Bound<'_, PyTuple>,
    kwargs: Option<&Bound<'_, PyDict>>,
) -> PyResult<()> {
    let all = named(args, kwargs)?;
    let save = |path: &std::path::Path| {
        lazul_io::save_npz_compressed(path, all.iter().map(|(n, a)| (n.as_str(), a)))
    };
    written(py, file, ".npz", save)
}

fn of_dict(arrays: &Bound<'_, PyDict>) -> PyResult<Vec<(String, Array)>> {
    arrays.iter().map(|(n, a)| Ok((n.extract()?, a.extract::<Arr>()?.0))).collect()
}

/// Writes arrays, and texts about them, to a ``.safetensors`` file.
///
/// >>> import io
/// >>> mx.save_safetensors(io.BytesIO(), {"a": mx.array([1.0])}, {"made": "here"})
#[pyfunction]
#[pyo3(signature = (file, arrays, metadata=None))]
fn save_safetensors(
    py: Python<'_>,
    file: &Bound<'_, PyAny>,
    arrays: &Bound<'_, PyDict>,
    metadata: Option<&Bound<'_, PyDict>>,
) -> PyResult<()> {
    let all = of_dict(arrays)?;
    let texts: Vec<(String, String)> = metadata
        .into_iter()
        .flat_map(|m| m.iter())
        .map(|(k, v)| Ok((k.extract()?, v.extract()?)))
        .collect::<PyResult<_>>()?;
    let texts: Vec<(&str, &str)> = texts.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    written(py, file, ".safetensors", |path| {
        lazul_io::save_safetensors(path, all.iter().map(|(n, a)| (n.as_str(), a)), &texts)
    })
}

fn gguf_value(value: &Bound<'_, PyAny>) -> PyResult<GgufValue> {
    if let Ok(text) = value.extract::<String>() {
        return Ok(GgufValue::Text(text));
    }
    if let Ok(list) = value.cast::<PyList>() {
        let texts: Vec<String> = list.extract()?;
        return Ok(GgufValue::List(GgufList::Text(
            texts.iter().map(String::as_str).collect::<TextList>(),
        )));
    }
    let array = value.extract::<Arr>()?.0;
    let single = array.ndim().or_raise()? == 0;
    macro_rules! words {
        ($($dtype:ident $t:ty => $one:ident;)*) => {
            match array.dtype().or_raise()? {
                $(lazul_core::DType::$dtype => {
                    let all = value.py().detach(|| array.to_vec::<$t>()).or_raise()?;
                    match (single, all.first()) {
                        (true, Some(&one)) => GgufValue::$one(one),
                        _ => GgufValue::List(GgufList::$one(all)),
                    }
                })*
                other => {
                    let why = format!("[save_gguf] metadata of {} cannot be written", crate::dtype::name(other));
                    return Err(PyValueError::new_err(why));
                }
            }
        };
    }
    Ok(words! {
        Bool bool => Bool; U8 u8 => U8; U16 u16 => U16; U32 u32 => U32; U64 u64 => U64;
        I8 i8 => I8; I16 i16 => I16; I32 i32 => I32; I64 i64 => I64; F32 f32 => F32; F64 f64 => F64;
    })
}

/// Writes arrays and metadata to a ``.gguf`` file.
///
/// >>> import io
/// >>> mx.save_gguf(io.BytesIO(), {"a": mx.array([1.0])}, {"general.name": "here"})
#[pyfunction]
#[pyo3(signature = (file, arrays, metadata=None))]
fn save_gguf(
    py: Python<'_>,
    file: &Bound<'_, PyAny>,
    arrays: &Bound<'_, PyDict>,
    metadata: Option<&Bound<'_, PyDict>>,
) -> PyResult<()> {
    let all = of_dict(arrays)?;
    let words: Vec<(String, GgufValue)> = metadata
        .into_iter()
        .flat_map(|m| m.iter())
        .map(|(k, v)| Ok((k.extract()?, gguf_value(&v)?)))
        .collect::<PyResult<_>>()?;
    let words: Vec<(&str, GgufValue)> =
        words.iter().map(|(k, v)| (k.as_str(), v.clone())).collect();
    written(py, file, ".gguf", |path| {
        lazul_io::save_gguf(path, all.iter().map(|(n, a)| (n.as_str(), a)), &words)
    })
}

fn list_of(list: &GgufList) -> PyResult<Option<Array>> {
    macro_rules! lists {
        ($($name:ident)*) => {
            match list {
                $(GgufList::$name(all) => Some(Array::from_slice(all, [all.len()])),)*
                _ => None,
            }
        };
    }
    Ok(lists!(U8 I8 U16 I16 U32 I32 F32 Bool U64 I64 F64))
}

fn gguf_object<'py>(py: Python<'py>, value: &GgufValue) -> PyResult<Option<Bound<'py, PyAny>>> {
    macro_rules! scalars {
        ($($name:ident)*) => {
            match value {
                $(GgufValue::$name(one) => made(Array::scalar(*one))?.into_bound_py_any(py)?,)*
                GgufValue::Text(text) => text.into_bound_py_any(py)?,
                GgufValue::List(GgufList::Text(texts)) => {
                    let all = texts.iter().map(|t| String::from_utf8_lossy(t).into_owned());
                    PyList::new(py, all.collect::<Vec<_>>())?.into_any()
                }
                GgufValue::List(list) => match list_of(list)? {
                    Some(array) => made(array)?.into_bound_py_any(py)?,
                    None => return Ok(None),
                },
                _ => return Ok(None),
            }
        };
    }
    Ok(Some(scalars!(U8 I8 U16 I16 U32 I32 F32 Bool U64 I64 F64)))
}

fn dict<'py>(
    py: Python<'py>,
    arrays: impl IntoIterator<Item = (String, Array)>,
) -> PyResult<Bound<'py, PyDict>> {
    let out = PyDict::new(py);
    for (name, array) in arrays {
        out.set_item(name, Bound::new(py, made(array)?)?)?;
    }
    Ok(out)
}

/// Arrays of a file: ``.npy`` gives one, ``.npz``, ``.safetensors`` and ``.gguf`` a dict of them. They are read when
/// they are computed.
///
/// Args:
///     file: a path or a file object.
///     format (str, optional): the format; by default the path's ending.
///     return_metadata (bool): whether to return the file's metadata too (safetensors and GGUF).
///
/// >>> import io
/// >>> f = io.BytesIO(); mx.save(f, mx.array([1.0])); _ = f.seek(0)
/// >>> mx.load(f, format="npy")
/// array([1], dtype=float32)
#[pyfunction]
#[pyo3(signature = (file, /, format=None, return_metadata=false, *, stream=On(None)))]
fn load<'py>(
    py: Python<'py>,
    file: &Bound<'py, PyAny>,
    format: Option<String>,
    return_metadata: bool,
    stream: On,
) -> PyResult<Bound<'py, PyAny>> {
    let _ = stream;
    let file = file_of(file)?;
    let format = match (&file, format) {
        (_, Some(format)) => format,
        (File::Path(path), None) => {
            let end = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
            end.to_string()
        }
        (File::Object(object), None) => {
            let name: String = object.getattr("name").and_then(|n| n.extract()).unwrap_or_default();
            name.rsplit_once('.').map(|(_, end)| end.to_string()).unwrap_or_default()
        }
    };
    if return_metadata && !matches!(format.as_str(), "safetensors" | "gguf") {
        let why = format!("[load] metadata not supported for format {format}");
        return Err(PyValueError::new_err(why));
    }
    let bytes = match &file {
        File::Path(_) => Vec::new(),
        File::Object(object) => object.call_method0("read")?.extract::<Vec<u8>>()?,
    };
    let path = match file {
        File::Path(path) => Some(path),
        File::Object(_) => None,
    };
    macro_rules! opened {
        ($kind:ident) => {
            py.detach(|| match &path {
                Some(path) => $kind::open(path),
                None => $kind::from_bytes(bytes),
            })
            .or_raise()?
        };
    }
    match format.as_str() {
        "npy" => {
            let npy = opened!(Npy);
            made(npy.array().or_raise()?)?.into_bound_py_any(py)
        }
        "npz" => {
            let npz = opened!(Npz);
            dict(py, npz.arrays().or_raise()?)?.into_bound_py_any(py)
        }
        "safetensors" => {
            let tensors = opened!(SafeTensors);
            let arrays = dict(py, tensors.arrays().or_raise()?)?;
            if !return_metadata {
                return arrays.into_bound_py_any(py);
            }
            let words = PyDict::new(py);
            for (key, value) in tensors.metadata() {
                words.set_item(key, value)?;
            }
            (arrays, words).into_bound_py_any(py)
        }
        "gguf" => {
            let gguf = opened!(Gguf);
            let arrays = dict(py, gguf.arrays().or_raise()?)?;
            if !return_metadata {
                return arrays.into_bound_py_any(py);
            }
            let words = PyDict::new(py);
            for (key, value) in gguf.metadata() {
                if let Some(object) = gguf_object(py, value)? {
                    words.set_item(key, object)?;
                }
            }
            (arrays, words).into_bound_py_any(py)
        }
        other => Err(PyValueError::new_err(format!("[load] Unknown file format '{other}'"))),
    }
}

/// Writes the graph of arrays that are not computed yet as a DOT file.
///
/// >>> import io
/// >>> f = io.StringIO()
/// >>> mx.export_to_dot(f, mx.array(1.0) + 1)
/// >>> f.getvalue().startswith("digraph")
/// True
#[pyfunction]
#[pyo3(signature = (file, *args, **kwargs))]
fn export_to_dot(
    file: &Bound<'_, PyAny>,
    args: &Bound<'_, PyTuple>,
    kwargs: Option<&Bound<'_, PyDict>>,
) -> PyResult<()> {
    let mut arrays = tree::arrays(args)?;
    if let Some(kwargs) = kwargs {
        arrays.extend(tree::arrays(kwargs)?);
    }
    let text = file.py().detach(|| lazul_core::export_to_dot(&arrays)).or_raise()?;
    match file_of(file)? {
        File::Path(path) => Ok(std::fs::write(path, text)?),
        File::Object(object) => object.call_method1("write", (text,)).map(|_| ()),
    }
}

pub(crate) fn add(m: &Bound<'_, PyModule>) -> PyResult<()> {
    for f in [
        wrap_pyfunction!(save, m)?,
        wrap_pyfunction!(savez, m)?,
        wrap_pyfunction!(savez_compressed, m)?,
        wrap_pyfunction!(save_safetensors, m)?,
        wrap_pyfunction!(save_gguf, m)?,
        wrap_pyfunction!(load, m)?,
        wrap_pyfunction!(export_to_dot, m)?,
    ] {
        m.add_function(f)?;
    }
    Ok(())
}

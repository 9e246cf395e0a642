//! `distributed`: groups of processes. There is the group of this process alone.

use crate::args::{Count, Many, op};
use crate::array::PyArray;
use crate::device::On;
use crate::dtype::Dtype;
use crate::error::OrRaise;
use crate::value::Arr;
use lazul_core::distributed as core;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

/// Processes that work together.
#[pyclass(module = "lazul.core.distributed", frozen)]
pub(crate) struct Group(core::Group);

#[pymethods]
impl Group {
    /// The number of this process in the group.
    fn rank(&self) -> usize {
        self.0.rank()
    }

    /// The number of processes of the group.
    fn size(&self) -> usize {
        self.0.size()
    }

    /// The group of those that name the same color, in the order of their keys.
    #[pyo3(signature = (color, key=-1))]
    fn split(&self, color: i64, key: i64) -> Group {
        Group(self.0.split(color, (key >= 0).then_some(key)))
    }
}

const BACKENDS: [&str; 5] = ["any", "mpi", "ring", "jaccl", "nccl"];

fn known(backend: &str) -> PyResult<()> {
    if BACKENDS.contains(&backend) {
        return Ok(());
    }
    let why = format!("[distributed] The backend '{backend}' is none of {}", BACKENDS.join(", "));
    Err(PyValueError::new_err(why))
}

/// Whether processes can work together.
///
/// >>> mx.distributed.is_available()
/// False
#[pyfunction]
#[pyo3(signature = (backend="any"))]
fn is_available(backend: &str) -> PyResult<bool> {
    known(backend)?;
    Ok(core::is_available())
}

/// The group of all processes: that of this one alone, or an error if ``strict``.
///
/// >>> mx.distributed.init().size()
/// 1
#[pyfunction]
#[pyo3(signature = (strict=false, backend="any", *, all_gather_factory=None))]
fn init(
    strict: bool,
    backend: &str,
    all_gather_factory: Option<&Bound<'_, PyAny>>,
) -> PyResult<Group> {
    let _ = all_gather_factory;
    known(backend)?;
    core::init(strict)
        .map(Group)
        .map_err(|e| pyo3::exceptions::PyRuntimeError::new_err(e.message().to_string()))
}

fn of(group: Option<Bound<'_, Group>>) -> core::Group {
    match group {
        Some(group) => group.get().0.split(0, None),
        None => core::Group::alone(),
    }
}

macro_rules! collectives {
    ($($name:ident $doc:literal;)*) => {
        $(
            #[doc = $doc]
            #[doc = ""]
            #[doc = concat!(">>> mx.distributed.", stringify!($name), "(mx.array([1.0]))\narray([1], dtype=float32)")]
            #[pyfunction]
            #[pyo3(signature = (x, *, group=None, stream=On(None)))]
            fn $name(x: Arr, group: Option<Bound<'_, Group>>, stream: On) -> PyResult<PyArray> {
                let group = of(group);
                op(stream, || core::$name(&x.0, &group))
            }
        )*
    };
}

collectives! {
    all_sum "The sum over the processes.";
    all_max "The greatest over the processes.";
    all_min "The least over the processes.";
    all_gather "The arrays of the processes, joined along the first axis.";
    sum_scatter "Each process's part of the sum over them.";
}

/// Sends an array to another process of the group.
///
/// With one process there is nobody to send to: a ``ValueError``.
#[pyfunction]
#[pyo3(signature = (x, dst, *, group=None, stream=On(None)))]
fn send(x: Arr, dst: Count, group: Option<Bound<'_, Group>>, stream: On) -> PyResult<PyArray> {
    let group = of(group);
    op(stream, || core::send(&x.0, dst.0, &group))
}

/// An array from another process of the group.
///
/// With one process there is nobody to receive from: a ``ValueError``.
#[pyfunction]
#[pyo3(signature = (shape, dtype, src, *, group=None, stream=On(None)))]
fn recv(
    shape: Many,
    dtype: Dtype,
    src: Count,
    group: Option<Bound<'_, Group>>,
    stream: On,
) -> PyResult<PyArray> {
    let group = of(group);
    op(stream, || core::recv(shape, dtype.0, src.0, &group))
}

/// As :func:`recv`, in the shape and dtype of another array.
///
/// With one process there is nobody to receive from: a ``ValueError``.
#[pyfunction]
#[pyo3(signature = (x, src, *, group=None, stream=On(None)))]
fn recv_like(x: Arr, src: Count, group: Option<Bound<'_, Group>>, stream: On) -> PyResult<PyArray> {
    let group = of(group);
    x.0.check().or_raise()?;
    op(stream, || core::recv_like(&x.0, src.0, &group))
}

pub(crate) fn add(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<Group>()?;
    for f in [
        wrap_pyfunction!(is_available, m)?,
        wrap_pyfunction!(init, m)?,
        wrap_pyfunction!(all_sum, m)?,
        wrap_pyfunction!(all_max, m)?,
        wrap_pyfunction!(all_min, m)?,
        wrap_pyfunction!(all_gather, m)?,
        wrap_pyfunction!(sum_scatter, m)?,
        wrap_pyfunction!(send, m)?,
        wrap_pyfunction!(recv, m)?,
        wrap_pyfunction!(recv_like, m)?,
    ] {
        m.add_function(f)?;
    }
    Ok(())
}

//! Memory, and what is asked of Metal and CUDA.

use crate::args::Count;
use lazul_core::device::{self, DeviceKind};
use lazul_core::memory;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

/// Bytes that arrays hold.
///
/// >>> mx.get_active_memory() >= 0
/// True
#[pyfunction]
fn get_active_memory() -> usize {
    memory::stats().active
}

/// The most bytes that arrays have held since :func:`reset_peak_memory`.
///
/// >>> mx.get_peak_memory() >= 0
/// True
#[pyfunction]
fn get_peak_memory() -> usize {
    memory::stats().peak
}

/// Begins to count the peak anew.
///
/// >>> mx.reset_peak_memory()
#[pyfunction]
fn reset_peak_memory() {
    memory::reset_peak();
}

/// Bytes of freed memory that is kept for reuse.
///
/// >>> mx.get_cache_memory() >= 0
/// True
#[pyfunction]
fn get_cache_memory() -> usize {
    memory::stats().cache
}

/// The most bytes that arrays may hold; what would pass it is an error.
///
/// >>> mx.get_memory_limit() > 0
/// True
#[pyfunction]
fn get_memory_limit() -> usize {
    memory::stats().limit
}

/// Sets the most bytes that arrays may hold; gives what held before.
///
/// >>> before = mx.set_memory_limit(1 << 40)
/// >>> mx.set_memory_limit(before)
/// 1099511627776
#[pyfunction]
fn set_memory_limit(limit: Count) -> usize {
    memory::set_limit(limit.0)
}

/// Sets the most bytes of freed memory that are kept; gives what held before.
///
/// >>> before = mx.set_cache_limit(1 << 30)
/// >>> mx.set_cache_limit(before)
/// 1073741824
#[pyfunction]
fn set_cache_limit(limit: Count) -> usize {
    memory::set_cache_limit(limit.0)
}

/// Nothing: what Metal keeps in its memory is no question here. Gives 0.
///
/// >>> mx.set_wired_limit(0)
/// 0
#[pyfunction]
fn set_wired_limit(limit: Count) -> usize {
    let _ = limit;
    0
}

/// Gives the freed memory that is kept back to the system.
///
/// >>> mx.clear_cache()
#[pyfunction]
fn clear_cache() {
    memory::clear_cache();
}

/// Whether there is Metal: no.
///
/// >>> mx.metal.is_available()
/// False
#[pyfunction(name = "is_available")]
fn metal_is_available() -> bool {
    false
}

/// Whether there is a CUDA device that can be used.
#[pyfunction(name = "is_available")]
fn cuda_is_available() -> bool {
    device::device_count(DeviceKind::Gpu) > 0 && device::is_available(device::Device::Cuda(0))
}

/// A tool of Metal, which there is not: a ``RuntimeError``.
#[pyfunction]
fn start_capture(path: &str) -> PyResult<()> {
    let _ = path;
    Err(PyRuntimeError::new_err("[metal::start_capture] there is no Metal here"))
}

/// A tool of Metal, which there is not: a ``RuntimeError``.
#[pyfunction]
fn stop_capture() -> PyResult<()> {
    Err(PyRuntimeError::new_err("[metal::stop_capture] there is no Metal here"))
}

/// What is known of the Metal device: nothing.
///
/// >>> mx.metal.device_info()
/// {}
#[pyfunction(name = "device_info")]
fn metal_device_info(py: Python<'_>) -> Bound<'_, PyDict> {
    PyDict::new(py)
}

pub(crate) fn add(m: &Bound<'_, PyModule>) -> PyResult<()> {
    for f in [
        wrap_pyfunction!(get_active_memory, m)?,
        wrap_pyfunction!(get_peak_memory, m)?,
        wrap_pyfunction!(reset_peak_memory, m)?,
        wrap_pyfunction!(get_cache_memory, m)?,
        wrap_pyfunction!(set_memory_limit, m)?,
        wrap_pyfunction!(set_cache_limit, m)?,
        wrap_pyfunction!(set_wired_limit, m)?,
        wrap_pyfunction!(clear_cache, m)?,
    ] {
        m.add_function(f)?;
    }
    Ok(())
}

pub(crate) fn add_top(m: &Bound<'_, PyModule>) -> PyResult<()> {
    add(m)?;
    m.add_function(wrap_pyfunction!(get_memory_limit, m)?)
}

pub(crate) fn add_metal(m: &Bound<'_, PyModule>) -> PyResult<()> {
    add(m)?;
    m.add_function(wrap_pyfunction!(metal_is_available, m)?)?;
    m.add_function(wrap_pyfunction!(start_capture, m)?)?;
    m.add_function(wrap_pyfunction!(stop_capture, m)?)?;
    m.add_function(wrap_pyfunction!(metal_device_info, m)?)
}

pub(crate) fn add_cuda(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(cuda_is_available, m)?)
}

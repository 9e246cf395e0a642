//! Devices and streams.
//!
//! Operations run on the device of the scope that built them. A stream is a device with a number: what runs
//! when follows from what needs what, so that the number orders nothing.

use crate::error::OrRaise;
use lazul_core::device::{self, Device as Core, DeviceKind};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyType};
use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// A kind of devices: ``mx.cpu`` or ``mx.gpu``.
#[pyclass(module = "lazul.core", frozen, from_py_object)]
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[allow(non_camel_case_types)]
pub(crate) enum DeviceType {
    /// The host.
    cpu,
    /// Accelerators.
    gpu,
}

#[pymethods]
impl DeviceType {
    fn __eq__(&self, other: &Bound<'_, PyAny>) -> bool {
        match device_of(other) {
            Some(d) if other.cast::<Stream>().is_err() => d == Device { kind: *self, index: 0 },
            _ => false,
        }
    }

    fn __hash__(&self) -> usize {
        Device { kind: *self, index: 0 }.__hash__()
    }

    /// The number of the kind.
    #[getter]
    fn value(&self) -> u8 {
        *self as u8
    }

    // Copies and pickles are read from the class again.
    fn __reduce__<'py>(
        slf: Bound<'py, Self>,
    ) -> PyResult<(Bound<'py, PyAny>, (Bound<'py, PyType>, &'static str))> {
        let getattr = slf.py().import("builtins")?.getattr("getattr")?;
        Ok((getattr, (slf.as_any().get_type(), slf.get().text())))
    }

    /// The name of the kind.
    #[getter]
    fn name(&self) -> &'static str {
        self.text()
    }
}

impl DeviceType {
    fn text(&self) -> &'static str {
        match self {
            DeviceType::cpu => "cpu",
            DeviceType::gpu => "gpu",
        }
    }
}

/// A device that operations run on.
#[pyclass(module = "lazul.core", frozen)]
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Device {
    kind: DeviceType,
    index: usize,
}

impl Device {
    pub(crate) fn core(self) -> Core {
        match self.kind {
            DeviceType::cpu => Core::Cpu,
            DeviceType::gpu => Core::Cuda(self.index),
        }
    }

    fn of(device: Core) -> Device {
        match device {
            Core::Cuda(index) => Device { kind: DeviceType::gpu, index },
            _ => Device { kind: DeviceType::cpu, index: 0 },
        }
    }
}

#[pymethods]
impl Device {
    #[new]
    #[pyo3(signature = (r#type, index=0))]
    fn new(r#type: DeviceType, index: usize) -> Device {
        Device { kind: r#type, index }
    }

    /// The kind of the device.
    #[getter]
    fn r#type(&self) -> DeviceType {
        self.kind
    }

    /// The number of the device among those of its kind.
    #[getter]
    fn index(&self) -> usize {
        self.index
    }

    fn __hash__(&self) -> usize {
        2 * self.index + self.kind as usize
    }

    fn __reduce__<'py>(slf: Bound<'py, Self>) -> (Bound<'py, PyType>, (DeviceType, usize)) {
        let own = *slf.get();
        (slf.get_type(), (own.kind, own.index))
    }

    fn __repr__(&self) -> String {
        format!("Device({}, {})", self.kind.text(), self.index)
    }

    fn __eq__(&self, other: &Bound<'_, PyAny>) -> bool {
        other.cast::<Stream>().is_err() && device_of(other) == Some(*self)
    }
}

/// A place where operations are sent to: a device, with a number.
#[pyclass(module = "lazul.core", frozen, eq, hash)]
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Stream {
    device: Device,
    index: usize,
}

#[pymethods]
impl Stream {
    /// The stream's device.
    #[getter]
    fn device(&self) -> Device {
        self.device
    }

    fn __repr__(&self) -> String {
        format!("Stream({}, {})", self.device.__repr__(), self.index)
    }
}

/// A stream that any thread may use, each as one of its own.
#[pyclass(module = "lazul.core", frozen, eq, hash)]
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct ThreadLocalStream {
    device: Device,
    index: usize,
}

#[pymethods]
impl ThreadLocalStream {
    /// The stream's device.
    #[getter]
    fn device(&self) -> Device {
        self.device
    }

    fn __repr__(&self) -> String {
        format!("ThreadLocalStream({}, {})", self.device.__repr__(), self.index)
    }
}

fn device_of(object: &Bound<'_, PyAny>) -> Option<Device> {
    if let Ok(d) = object.cast::<Device>() {
        Some(*d.get())
    } else if let Ok(k) = object.cast::<DeviceType>() {
        Some(Device { kind: *k.get(), index: 0 })
    } else if let Ok(s) = object.cast::<Stream>() {
        Some(s.get().device)
    } else if let Ok(s) = object.cast::<ThreadLocalStream>() {
        Some(s.get().device)
    } else {
        None
    }
}

/// What a `stream` argument asks for: a device, or nothing in particular.
#[derive(Clone, Copy, Default)]
pub(crate) struct On(pub(crate) Option<Device>);

impl<'a, 'py> FromPyObject<'a, 'py> for On {
    type Error = PyErr;

    fn extract(object: Borrowed<'a, 'py, PyAny>) -> PyResult<On> {
        if object.is_none() {
            return Ok(On(None));
        }
        match device_of(&object) {
            Some(device) => Ok(On(Some(device))),
            None => {
                let kind = object.get_type();
                let kind = kind.name()?;
                let why = format!("a stream, a device or None is expected, not {kind}");
                Err(PyTypeError::new_err(why))
            }
        }
    }
}

thread_local! {
    /// The device of the innermost `with mx.stream(…)` of this thread.
    static SCOPE: Cell<Option<Device>> = const { Cell::new(None) };
}

impl On {
    /// Builds operations for the device.
    #[inline]
    pub(crate) fn run<T>(self, f: impl FnOnce() -> T) -> PyResult<T> {
        match self.0.or_else(|| SCOPE.get()) {
            None => Ok(f()),
            Some(device) => device::with_device(device.core(), f)
                .map_err(|e| PyValueError::new_err(e.message().to_string())),
        }
    }
}

/// ``with mx.stream(s):`` sends what is built within to the device of ``s``.
#[pyclass(module = "lazul.core", frozen)]
pub(crate) struct StreamContext {
    device: Device,
    before: std::sync::Mutex<Vec<Option<Device>>>,
}

#[pymethods]
impl StreamContext {
    #[new]
    fn new(s: &Bound<'_, PyAny>) -> PyResult<StreamContext> {
        let device = device_of(s)
            .ok_or_else(|| PyTypeError::new_err("stream: a stream or a device is expected"))?;
        Ok(StreamContext { device, before: std::sync::Mutex::default() })
    }

    fn __enter__(&self) -> PyResult<()> {
        if let Some(why) = device::unavailable(self.device.core()) {
            return Err(PyValueError::new_err(why));
        }
        let before = SCOPE.replace(Some(self.device));
        self.before.lock().unwrap_or_else(|e| e.into_inner()).push(before);
        Ok(())
    }

    #[pyo3(signature = (exc_type=None, exc_value=None, traceback=None))]
    fn __exit__(
        &self,
        exc_type: Option<&Bound<'_, PyAny>>,
        exc_value: Option<&Bound<'_, PyAny>>,
        traceback: Option<&Bound<'_, PyAny>>,
    ) {
        let _ = (exc_type, exc_value, traceback);
        if let Some(before) = self.before.lock().unwrap_or_else(|e| e.into_inner()).pop() {
            SCOPE.set(before);
        }
    }
}

/// A context in which a stream's device is used.
///
/// >>> with mx.stream(mx.cpu):
/// ...     x = mx.ones(3)
#[pyfunction]
fn stream(s: &Bound<'_, PyAny>) -> PyResult<StreamContext> {
    StreamContext::new(s)
}

fn wanted(object: &Bound<'_, PyAny>) -> PyResult<Device> {
    device_of(object).ok_or_else(|| PyTypeError::new_err("a device is expected"))
}

/// The device that operations run on where nothing else is said.
///
/// >>> mx.default_device()
/// Device(cpu, 0)
#[pyfunction]
fn default_device() -> Device {
    SCOPE.get().unwrap_or_else(|| Device::of(device::default_device()))
}

/// Sets the device that operations run on where nothing else is said.
///
/// >>> mx.set_default_device(mx.cpu)
#[pyfunction]
fn set_default_device(device: &Bound<'_, PyAny>) -> PyResult<()> {
    let device = wanted(device)?;
    device::set_default_device(device.core())
        .map_err(|e| PyValueError::new_err(e.message().to_string()))
}

/// Whether a device is there and can be used.
///
/// >>> mx.is_available(mx.cpu)
/// True
#[pyfunction]
fn is_available(device: &Bound<'_, PyAny>) -> PyResult<bool> {
    Ok(device::is_available(wanted(device)?.core()))
}

/// How many devices of a kind there are.
///
/// >>> mx.device_count(mx.cpu)
/// 1
#[pyfunction]
fn device_count(device_type: DeviceType) -> usize {
    device::device_count(match device_type {
        DeviceType::cpu => DeviceKind::Cpu,
        DeviceType::gpu => DeviceKind::Gpu,
    })
}

/// What is known of a device.
///
/// >>> mx.device_info(mx.cpu)["architecture"]  # doctest: +SKIP
/// 'x86_64'
#[pyfunction]
#[pyo3(signature = (d=None))]
pub(crate) fn device_info<'py>(
    py: Python<'py>,
    d: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyDict>> {
    let device = match d {
        Some(d) => wanted(d)?,
        None => default_device(),
    };
    let info = device::device_info(device.core())
        .ok_or_else(|| PyValueError::new_err(format!("no device {}", device.__repr__())))?;
    let out = PyDict::new(py);
    out.set_item("device_name", info.name)?;
    out.set_item("architecture", info.architecture)?;
    if !info.instructions.is_empty() {
        out.set_item("instructions", info.instructions)?;
    }
    if info.threads > 0 {
        out.set_item("threads", info.threads)?;
    }
    if info.memory > 0 {
        out.set_item("memory_size", info.memory)?;
    }
    Ok(out)
}

/// The stream of a device that operations are sent to.
///
/// >>> mx.default_stream(mx.cpu)
/// Stream(Device(cpu, 0), 0)
#[pyfunction]
fn default_stream(device: &Bound<'_, PyAny>) -> PyResult<Stream> {
    Ok(Stream { device: wanted(device)?, index: 0 })
}

/// Makes a stream's device the default.
///
/// >>> mx.set_default_stream(mx.default_stream(mx.cpu))
#[pyfunction]
fn set_default_stream(stream: &Bound<'_, PyAny>) -> PyResult<()> {
    set_default_device(stream)
}

fn next() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(1);
    NEXT.fetch_add(1, Relaxed)
}

/// A new stream of a device.
///
/// >>> s = mx.new_stream(mx.cpu)
#[pyfunction]
fn new_stream(device: &Bound<'_, PyAny>) -> PyResult<Stream> {
    Ok(Stream { device: wanted(device)?, index: next() })
}

/// A new stream of a device. Every stream may be used by any thread.
///
/// >>> s = mx.new_thread_unsafe_stream(mx.cpu)
#[pyfunction(name = "new_thread_unsafe_stream")]
fn new_free_stream(device: &Bound<'_, PyAny>) -> PyResult<Stream> {
    new_stream(device)
}

/// A new stream of a device. Every stream may be used by any thread.
///
/// >>> s = mx.new_thread_local_stream(mx.cpu)
#[pyfunction]
fn new_thread_local_stream(device: &Bound<'_, PyAny>) -> PyResult<ThreadLocalStream> {
    Ok(ThreadLocalStream { device: wanted(device)?, index: next() })
}

/// Waits for what was started, as streams hold nothing else.
///
/// >>> mx.clear_streams()
#[pyfunction]
fn clear_streams(py: Python<'_>) -> PyResult<()> {
    py.detach(device::synchronize).or_raise()
}

/// Waits until everything that was started is done.
///
/// >>> mx.synchronize()
#[pyfunction]
#[pyo3(signature = (stream=On(None)))]
fn synchronize(py: Python<'_>, stream: On) -> PyResult<()> {
    let _ = stream;
    py.detach(device::synchronize).or_raise()
}

pub(crate) fn add(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<Device>()?;
    m.add_class::<DeviceType>()?;
    m.add_class::<Stream>()?;
    m.add_class::<ThreadLocalStream>()?;
    m.add_class::<StreamContext>()?;
    m.add("cpu", DeviceType::cpu)?;
    m.add("gpu", DeviceType::gpu)?;
    for f in [
        wrap_pyfunction!(stream, m)?,
        wrap_pyfunction!(default_device, m)?,
        wrap_pyfunction!(set_default_device, m)?,
        wrap_pyfunction!(is_available, m)?,
        wrap_pyfunction!(device_count, m)?,
        wrap_pyfunction!(device_info, m)?,
        wrap_pyfunction!(default_stream, m)?,
        wrap_pyfunction!(set_default_stream, m)?,
        wrap_pyfunction!(new_stream, m)?,
        wrap_pyfunction!(new_free_stream, m)?,
        wrap_pyfunction!(new_thread_local_stream, m)?,
        wrap_pyfunction!(clear_streams, m)?,
        wrap_pyfunction!(synchronize, m)?,
    ] {
        m.add_function(f)?;
    }
    Ok(())
}

//! Streams: work in order; and events, by which streams wait for one another.
//!
//! A kernel that meets an index out of bounds reads or writes nothing there and leaves a note in its
//! stream's *fault*, a few words of host memory that the device can write. [`Stream::wait`] is the
//! boundary at which the note becomes an error.

use crate::device::Device;
use crate::driver::{cu, sys};
use lazul_ir::{ErrorKind, OpError};

/// Work that a device does in order.
pub struct Stream {
    device: &'static Device,
    pub(crate) raw: sys::CUstream,
    fault: *mut Fault,
    fault_address: u64,
}

// SAFETY: the driver lets any thread use a stream; the fault is read with volatile loads after the
// stream was waited for.
unsafe impl Send for Stream {}
// SAFETY: as above.
unsafe impl Sync for Stream {}

/// A note of a kernel's, as `Fault` in the kernels' prelude.
#[repr(C)]
#[derive(Clone, Copy)]
struct Fault {
    code: u32,
    op: u32,
    index: i64,
    axis: u32,
    block: u32,
    size: u64,
}

/// Operations that can fail while they run, by the number that kernels note.
pub(crate) const FALLIBLE: [&str; 7] = [
    "take",
    "take_along_axis",
    "scatter",
    "put_along_axis",
    "dynamic_slice",
    "dynamic_slice_update",
    ATTENTION,
];

const ATTENTION: &str = "scaled_dot_product_attention";

impl Fault {
    fn error(&self) -> OpError {
        let op = FALLIBLE.get((self.op & 0xff) as usize).copied().unwrap_or("cuda");
        let Fault { index, axis, block, size, .. } = *self;
        let message = match block {
            _ if op == ATTENTION => format!("{index} keys in use, but there is room for {size}"),
            0 | 1 => format!("index {index} is out of bounds for axis {axis} of size {size}"),
            _ => format!(
                "a block of {block} at index {index} is out of bounds for axis {axis} of size {size}"
            ),
        };
        OpError::new(ErrorKind::Index, op, message)
    }
}

impl Stream {
    /// A stream of `device`, beside those there are.
    ///
    /// # Errors
    /// The driver's.
    pub fn new(device: &'static Device) -> Result<Stream, OpError> {
        device.enter()?;
        let mut raw = std::ptr::null_mut();
        let flags = sys::CUstream_flags::CU_STREAM_NON_BLOCKING as u32;
        cu!(cuStreamCreate(&mut raw, flags))?;
        let mut fault = std::ptr::null_mut();
        let flags = sys::CU_MEMHOSTALLOC_DEVICEMAP | sys::CU_MEMHOSTALLOC_PORTABLE;
        cu!(cuMemHostAlloc(&mut fault, size_of::<Fault>(), flags))?;
        let mut fault_address = 0;
        cu!(cuMemHostGetDevicePointer_v2(&mut fault_address, fault, 0))?;
        // SAFETY: fresh memory of that size.
        unsafe { fault.cast::<u8>().write_bytes(0, size_of::<Fault>()) };
        Ok(Stream { device, raw, fault: fault.cast(), fault_address })
    }

    /// The stream of a device that only compiles.
    pub(crate) fn nowhere(device: &'static Device) -> Stream {
        let null = std::ptr::null_mut();
        Stream { device, raw: std::ptr::null_mut(), fault: null, fault_address: 0 }
    }

    /// Whose work it is.
    pub fn device(&self) -> &'static Device {
        self.device
    }

    /// Where kernels note faults.
    pub(crate) fn fault(&self) -> u64 {
        self.fault_address
    }

    /// Waits until everything enqueued so far is done, and leaves a note of an index out of bounds
    /// where it is.
    ///
    /// # Errors
    /// The driver's, if the device failed.
    pub fn sync(&self) -> Result<(), OpError> {
        if self.device.is_compile_only() {
            return Ok(());
        }
        self.device.enter()?;
        cu!(cuStreamSynchronize(self.raw))
    }

    /// Waits until everything enqueued so far is done.
    ///
    /// # Errors
    /// [`ErrorKind::Index`] if a kernel met an index out of bounds since the last call, in whichever
    /// of the jobs; the driver's, if the device failed.
    pub fn wait(&self) -> Result<(), OpError> {
        self.take_fault()?.map_or(Ok(()), |(_, error)| Err(error))
    }

    /// Waits until everything enqueued so far is done; answers the first index out of bounds that a
    /// kernel met since the last call, with the tag that its job had.
    ///
    /// # Errors
    /// The driver's, if the device failed.
    pub fn take_fault(&self) -> Result<Option<(u32, OpError)>, OpError> {
        self.sync()?;
        if self.fault.is_null() {
            return Ok(None);
        }
        // SAFETY: memory of this stream; kernels that write it are done.
        let fault = unsafe { self.fault.read_volatile() };
        if fault.code == 0 {
            return Ok(None);
        }
        // SAFETY: as above.
        unsafe { self.fault.cast::<u8>().write_bytes(0, size_of::<Fault>()) };
        Ok(Some((fault.op >> 8, fault.error())))
    }

    /// Whether everything enqueued so far is done.
    ///
    /// # Errors
    /// The driver's, if the device failed.
    pub fn is_idle(&self) -> Result<bool, OpError> {
        if self.device.is_compile_only() {
            return Ok(true);
        }
        self.device.enter()?;
        // SAFETY: a live stream.
        match unsafe { sys::cuStreamQuery(self.raw) } {
            sys::CUresult::CUDA_ERROR_NOT_READY => Ok(false),
            status => crate::driver::check("cuStreamQuery", status).map(|()| true),
        }
    }

    /// Enqueues a wait for what was enqueued before `event` was recorded, on any stream.
    ///
    /// # Errors
    /// The driver's.
    pub fn wait_for(&self, event: &Event) -> Result<(), OpError> {
        self.device.enter()?;
        cu!(cuStreamWaitEvent(self.raw, event.raw, 0))
    }

    /// An event at this point of the stream.
    ///
    /// # Errors
    /// The driver's.
    pub fn record(&self) -> Result<Event, OpError> {
        let event = Event::new(self.device)?;
        cu!(cuEventRecord(event.raw, self.raw))?;
        Ok(event)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if !self.raw.is_null() && self.device.enter().is_ok() {
            let _ = cu!(cuStreamSynchronize(self.raw));
            let _ = cu!(cuStreamDestroy_v2(self.raw));
            let _ = cu!(cuMemFreeHost(self.fault.cast()));
        }
    }
}

/// A point in a stream.
pub struct Event {
    device: &'static Device,
    raw: sys::CUevent,
}

// SAFETY: the driver lets any thread use an event.
unsafe impl Send for Event {}
// SAFETY: as above.
unsafe impl Sync for Event {}

impl Event {
    fn new(device: &'static Device) -> Result<Event, OpError> {
        device.enter()?;
        let mut raw = std::ptr::null_mut();
        cu!(cuEventCreate(&mut raw, 0))?;
        Ok(Event { device, raw })
    }

    /// Whether what came before it is done.
    ///
    /// # Errors
    /// The driver's, if the device failed.
    pub fn is_done(&self) -> Result<bool, OpError> {
        self.device.enter()?;
        // SAFETY: a live event.
        match unsafe { sys::cuEventQuery(self.raw) } {
            sys::CUresult::CUDA_ERROR_NOT_READY => Ok(false),
            status => crate::driver::check("cuEventQuery", status).map(|()| true),
        }
    }

    /// Waits for it.
    ///
    /// # Errors
    /// The driver's, if the device failed.
    pub fn wait(&self) -> Result<(), OpError> {
        self.device.enter()?;
        cu!(cuEventSynchronize(self.raw))
    }

    /// Seconds from `earlier` to this event; both must be done.
    ///
    /// # Errors
    /// The driver's.
    pub fn seconds_since(&self, earlier: &Event) -> Result<f64, OpError> {
        Ok(crate::driver::elapsed(earlier.raw, self.raw)? as f64 * 1e-3)
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        if self.device.enter().is_ok() {
            let _ = cu!(cuEventDestroy_v2(self.raw));
        }
    }
}

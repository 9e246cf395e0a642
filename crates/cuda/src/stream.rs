//! Streams: work in order; and events, by which streams wait for one another.
//!
//! A kernel that meets an index out of bounds reads or writes nothing there and leaves a note in its
//! stream's *fault*, a few words of host memory that the device can write. [`Stream::wait`] is the
//! boundary at which the note becomes an error.

use crate::device::Device;
use crate::driver::{cu, sys};
use crate::kernel::{Args, Grid, Kernel};
use crate::replay::{Figures, On, Replay};
use crate::source::{Defs, Family, Key};
use lazul_ir::{ErrorKind, OpError};
use std::collections::VecDeque;
use std::sync::Mutex;

/// Work that a device does in order.
pub struct Stream {
    device: &'static Device,
    raw: sys::CUstream,
    replay: Replay,
    marks: Mutex<VecDeque<(u64, Event)>>,
    fault: *mut Fault,
    fault_address: u64,
}

// SAFETY: the driver lets any thread use a stream; the fault is read with volatile loads after the
// stream was waited for.
unsafe impl Send for Stream {}
// SAFETY: as above.
unsafe impl Sync for Stream {}

/// An index out of bounds that was met.
#[derive(Debug)]
pub struct Met {
    /// The evaluation in which it was, where that has ended.
    pub evaluation: Option<u64>,
    /// The tag of its job.
    pub tag: u32,
    /// What it was.
    pub error: OpError,
}

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
    /// The evaluation in which it was met; written when that ends.
    evaluation: u64,
}

/// What became of a fault.
const SEALED: u32 = 2;
/// Ends of evaluations that are remembered.
const MARKS: usize = 64;

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
        let (replay, marks) = Default::default();
        Ok(Stream { device, raw, replay, marks, fault: fault.cast(), fault_address })
    }

    /// The stream of a device that only compiles.
    pub(crate) fn nowhere(device: &'static Device) -> Stream {
        let null = std::ptr::null_mut();
        let (replay, marks) = Default::default();
        let raw = std::ptr::null_mut();
        Stream { device, raw, replay, marks, fault: null, fault_address: 0 }
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
        cu!(cuStreamSynchronize(self.raw()?))
    }

    /// Waits until everything enqueued so far is done.
    ///
    /// # Errors
    /// [`ErrorKind::Index`] if a kernel met an index out of bounds since the last call, in whichever
    /// of the jobs; the driver's, if the device failed.
    pub fn wait(&self) -> Result<(), OpError> {
        self.take_fault()?.map_or(Ok(()), |fault| Err(fault.error))
    }

    /// Waits until everything enqueued so far is done; answers the first index out of bounds that a
    /// kernel met since the last call.
    ///
    /// # Errors
    /// The driver's, if the device failed.
    pub fn take_fault(&self) -> Result<Option<Met>, OpError> {
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
        let evaluation = (fault.code == SEALED).then_some(fault.evaluation);
        Ok(Some(Met { evaluation, tag: fault.op >> 8, error: fault.error() }))
    }

    /// Whether an evaluation that is done, or still running, met an index out of bounds; waits for
    /// nothing.
    pub fn is_faulty(&self) -> bool {
        // SAFETY: live memory of this stream.
        !self.fault.is_null()
            && unsafe { (&raw const (*self.fault).code).read_volatile() } == SEALED
    }

    /// The driver's stream; what was collected for it is launched first.
    pub(crate) fn raw(&self) -> Result<sys::CUstream, OpError> {
        self.replay.cut(self.on())?;
        Ok(self.raw)
    }

    /// A number for the stream.
    pub(crate) fn id(&self) -> usize {
        self.raw as usize
    }

    fn on(&self) -> On {
        On { stream: self.raw, early: self.device.early }
    }

    pub(crate) fn launch(&self, kernel: Kernel, grid: Grid, args: &Args) -> Result<(), OpError> {
        self.replay.launch(self.on(), kernel, grid, args)
    }

    /// The evaluation `key` begins: its kernels are collected where they were seen before, until
    /// [`Stream::end`].
    ///
    /// # Errors
    /// The driver's.
    pub fn begin(&self, key: u64) -> Result<(), OpError> {
        self.device.enter()?;
        if !self.device.is_compile_only() {
            self.replay.begin(key);
        }
        Ok(())
    }

    /// The evaluation that began is enqueued, and is number `number` from now on. If it is `fallible`, an index out of bounds
    /// that it met is noted as its own.
    ///
    /// # Errors
    /// The driver's, of this or of what was collected.
    pub fn end(&self, number: u64, fallible: bool) -> Result<(), OpError> {
        if fallible {
            let mut args = Args::new();
            let at = self.fault_address + std::mem::offset_of!(Fault, evaluation) as u64;
            args.push(self.fault_address).push(at).push(number);
            self.note("seal", &args)?;
        }
        self.replay.end(self.on())?;
        // Nobody asks for the end of an evaluation without a number.
        if number == 0 || self.device.is_compile_only() {
            return Ok(());
        }
        let mut marks = self.marks.lock().unwrap_or_else(|e| e.into_inner());
        let event = match marks.len() < MARKS {
            true => Event::new(self.device)?,
            false => marks.pop_front().map_or_else(|| Event::new(self.device), |(_, e)| Ok(e))?,
        };
        cu!(cuEventRecord(event.raw, self.raw))?;
        marks.push_back((number, event));
        Ok(())
    }

    /// The end of evaluation `number`, or of a later one.
    fn mark(&self, number: u64) -> Option<sys::CUevent> {
        let marks = self.marks.lock().unwrap_or_else(|e| e.into_inner());
        // Events are recorded anew, for later evaluations, and live as long as the stream.
        marks.iter().find(|(n, _)| *n >= number).map(|(_, event)| event.raw)
    }

    /// Waits until evaluation `number` is done; later ones may still run.
    ///
    /// # Errors
    /// The driver's, if the device failed.
    pub fn wait_until(&self, number: u64) -> Result<(), OpError> {
        self.device.enter()?;
        self.mark(number).map_or_else(|| self.sync(), |event| cu!(cuEventSynchronize(event)))
    }

    /// Enqueues on `self` a wait for the end of evaluation `number` of `other`.
    pub(crate) fn follow(&self, other: &Stream, number: u64) -> Result<(), OpError> {
        let raw = self.raw()?;
        other
            .mark(number)
            .map_or_else(|| other.sync(), |event| cu!(cuStreamWaitEvent(raw, event, 0)))
    }

    /// Writes eight bytes at `to`, in order.
    ///
    /// # Errors
    /// The driver's.
    ///
    /// # Safety
    /// `to` must be the address of eight bytes of the device's memory, aligned to eight.
    pub unsafe fn poke(&self, to: *mut u8, bits: u64) -> Result<(), OpError> {
        self.device.enter()?;
        let mut args = Args::new();
        args.push(to as u64).push(bits);
        self.note("poke", &args)
    }

    fn note(&self, entry: &'static str, args: &Args) -> Result<(), OpError> {
        let key = Key::Family(Family::Notes, entry, Defs::new());
        let kernel = self.device.kernel(key)?;
        self.launch(kernel, Grid::new(1, 1), args)
    }

    /// How kernels were launched so far.
    pub fn launches(&self) -> Figures {
        self.replay.figures()
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
        let raw = self.raw()?;
        // SAFETY: a live stream.
        match unsafe { sys::cuStreamQuery(raw) } {
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
        cu!(cuStreamWaitEvent(self.raw()?, event.raw, 0))
    }

    /// An event at this point of the stream.
    ///
    /// # Errors
    /// The driver's.
    pub fn record(&self) -> Result<Event, OpError> {
        let event = Event::new(self.device)?;
        cu!(cuEventRecord(event.raw, self.raw()?))?;
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

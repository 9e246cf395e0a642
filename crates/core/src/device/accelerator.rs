//! What the evaluator asks of a device that has memory of its own, and how it finds one.
//!
//! A [`Place`] is a number: the host's memory is 0, that of NVIDIA device `i` is `1 + i`. Devices are
//! opened when they are first asked for; one that cannot be had is a reason in one line, for ever.

use super::launch::Launches;
use super::{DeviceInfo, cuda};
use crate::error::{Error, ErrorKind, Result};
use lazul_ir::{Buffer, FastOp, HOST, Job, MemoryStats, Place, Prim, QuantizedOp, Work};
use std::sync::{Arc, OnceLock};

/// Why a job was not enqueued.
// Without a device to enqueue on, nothing refuses.
#[cfg_attr(not(any(feature = "cuda", feature = "mock")), allow(dead_code))]
pub(crate) enum Refusal {
    /// There is no kernel for it: it belongs on the CPU. Nothing was enqueued.
    Lacks(&'static str),
    /// It went wrong.
    Failed(Error),
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Refusal {
        Refusal::Failed(error)
    }
}

/// An index out of bounds that a device met.
#[derive(Debug)]
pub(crate) struct Met {
    /// The number of the evaluation in which it was; none for the one under way.
    pub(crate) evaluation: Option<u64>,
    /// Its job's tag.
    pub(crate) tag: u32,
    pub(crate) error: Error,
}

/// A kernel that a user wrote.
#[derive(Clone, Debug)]
#[cfg_attr(not(feature = "cuda"), allow(dead_code))]
pub(crate) enum UserCode {
    /// A source, but for the types that all begin with; it defines `user_kernel`.
    Source(Arc<str>),
    /// Compiled code, and the kernel's name in it.
    Compiled(Arc<[u8]>, Arc<str>),
}

/// An argument of such a kernel.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(not(feature = "cuda"), allow(dead_code))]
pub(crate) enum UserArg<'a> {
    Pointer(u64),
    Words(&'a [u64]),
    I32(i32),
    F32(f32),
    Bool(bool),
}

/// A call of such a kernel.
#[cfg_attr(not(feature = "cuda"), allow(dead_code))]
pub(crate) struct UserLaunch<'a> {
    pub(crate) code: &'a UserCode,
    pub(crate) blocks: [u32; 3],
    pub(crate) threads: [u32; 3],
    /// Bytes of dynamic shared memory of a block.
    pub(crate) shared: u32,
    pub(crate) arguments: &'a [UserArg<'a>],
}

/// A device with memory of its own, that runs jobs in the order in which they are enqueued.
///
/// Buffers that are dropped are free after what was enqueued before; so a job's operands may be let go
/// as soon as it is enqueued.
pub(crate) trait Accelerator: Send + Sync {
    /// What it is.
    fn info(&self) -> DeviceInfo;

    /// Why there is no kernel for such work whatever the operands are, if there is none.
    fn lacks(&self, work: &Work<'_>) -> Option<&'static str>;

    /// Memory on the device, not initialised.
    fn alloc(&'static self, bytes: usize) -> Result<Buffer>;

    /// Enqueues a job and returns at once. An index out of bounds is noted with `tag` (24 bits).
    ///
    /// # Safety
    /// Operands and targets must be live memory of this device, as for [`lazul_ir::Backend::run`].
    unsafe fn enqueue(&self, job: &Job<'_>, tag: u32) -> Result<(), Refusal>;

    /// Enqueues a copy of `src`, which may change after the call, to the device.
    ///
    /// # Safety
    /// `dst` must be live memory of this device.
    unsafe fn upload(&self, dst: *mut u8, src: &[u8]) -> Result<()>;

    /// Copies from the device after what was enqueued before, and waits for it.
    ///
    /// # Safety
    /// `src` must be live memory of this device.
    unsafe fn download(&self, dst: &mut [u8], src: *const u8) -> Result<()>;

    /// Waits for what was enqueued.
    fn wait(&self) -> Result<()>;

    /// Copies from the device what evaluation `number` or one before it wrote, and waits for that alone.
    ///
    /// # Safety
    /// `src` must be live memory of this device.
    unsafe fn download_after(&self, dst: &mut [u8], src: *const u8, number: u64) -> Result<()>;

    /// Enqueues writing eight bytes.
    ///
    /// # Safety
    /// `dst` must be live memory of this device, aligned to eight bytes.
    unsafe fn poke(&self, dst: *mut u8, bits: u64) -> Result<()>;

    /// An evaluation begins; those of one form have the same key, a hint by which the device may know what
    /// comes.
    fn begin(&self, key: u64) -> Result<()>;

    /// The evaluation that began is enqueued; it is number `number` from now on. What it met of indices out
    /// of bounds, if it is `fallible`, is noted as its own.
    fn end(&self, number: u64, fallible: bool) -> Result<()>;

    /// Waits until evaluation `number` is done.
    fn wait_until(&self, number: u64) -> Result<()>;

    /// Whether an evaluation that has ended is known to have met an index out of bounds; waits for nothing.
    fn is_faulty(&self) -> bool;

    /// Waits for what was enqueued; answers the first index out of bounds that was noted since the last
    /// call.
    fn take_fault(&self) -> Result<Option<Met>>;

    /// Whether it runs kernels that users wrote.
    fn runs_user_kernels(&self) -> bool {
        false
    }

    /// Enqueues such a kernel.
    ///
    /// # Safety
    /// Pointers must be live memory of this device, which the kernel must keep within.
    unsafe fn enqueue_user(&self, launch: &UserLaunch<'_>) -> Result<()> {
        let _ = launch;
        Err(Error::new(ErrorKind::Device, "cuda_kernel", "this device runs no CUDA kernels"))
    }

    /// How kernels were launched so far.
    fn launches(&self) -> Launches {
        Launches::default()
    }

    /// Memory figures, of this device alone.
    fn memory(&self) -> MemoryStats;
    /// Sets the highest `active` allowed; returns the old one.
    fn set_memory_limit(&self, bytes: usize) -> usize;
    /// Sets how much freed memory may be kept; returns the old limit.
    fn set_cache_limit(&self, bytes: usize) -> usize;
    /// Gives all cached memory back.
    fn clear_cache(&self);
    /// Starts `peak` anew.
    fn reset_peak(&self);
}

/// Places there may be.
pub(crate) const PLACES: usize = 66;
/// The memory of the device that tests use.
#[cfg(feature = "mock")]
pub(crate) const MOCK: Place = 65;

type Opened = Result<&'static dyn Accelerator, String>;

static OPENED: [OnceLock<Opened>; PLACES] = [const { OnceLock::new() }; PLACES];

/// The device whose memory `place` is.
///
/// # Errors
/// The reason for there being none.
pub(crate) fn accelerator(place: Place) -> Result<&'static dyn Accelerator> {
    let opened = OPENED[usize::from(place).min(PLACES - 1)].get_or_init(|| open(place));
    opened.as_ref().map_or_else(|why| Err(unavailable(why)), |a| Ok(*a))
}

fn unavailable(why: &str) -> Error {
    Error::new(ErrorKind::Device, "device", why)
}

fn open(place: Place) -> Opened {
    match place {
        HOST => Err("the host's memory has no device of its own".to_string()),
        #[cfg(feature = "mock")]
        MOCK => Ok(super::mock::device()),
        _ => cuda::open(usize::from(place) - 1),
    }
}

/// The devices that were opened so far.
pub(crate) fn opened() -> impl Iterator<Item = (Place, &'static dyn Accelerator)> {
    OPENED.iter().enumerate().filter_map(|(place, slot)| match slot.get() {
        Some(Ok(device)) => Some((place as Place, *device)),
        _ => None,
    })
}

/// Whether a primitive looks at values that may be out of bounds.
pub(crate) fn is_fallible(prim: &Prim) -> bool {
    matches!(
        prim,
        Prim::Gather { .. }
            | Prim::GatherAxis { .. }
            | Prim::Scatter { .. }
            | Prim::ScatterAxis { .. }
            | Prim::DynamicSlice { .. }
            | Prim::DynamicSliceUpdate { .. }
            | Prim::Grouped(_)
            | Prim::Fast(FastOp::Attention { length: true, .. })
            | Prim::Quantized(QuantizedOp::GatherMatmul { .. })
    )
}

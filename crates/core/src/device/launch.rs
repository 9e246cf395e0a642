//! Handing jobs to whoever runs them, and counting what became of them.

use super::accelerator::{Refusal, accelerator, is_fallible};
use super::session::{Note, enter};
use crate::error::{Error, ErrorKind, Result};
use crate::eval::backend;
use lazul_ir::{HOST, Job, Place, Shape, Work};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::sync::Mutex;

/// Runs a job whose operands and targets are in `place`, or has it run; `Some` of the reason where the
/// device there has no kernel for it, in which case nothing was done.
///
/// # Errors
/// What the primitive documents, no memory, or the device's failure.
pub(crate) fn launch(
    place: Place,
    job: &Job<'_>,
    site: &'static Location<'static>,
) -> Result<Option<&'static str>> {
    if place == HOST {
        return on_host(job).map(|()| None);
    }
    let device = accelerator(place)?;
    let note = match job.work {
        Work::Prim(prim) if is_fallible(prim) => {
            let operands = job.inputs.iter().map(|i| (i.dtype, Shape::new(i.shape))).collect();
            Some(Note { site, operands })
        }
        _ => None,
    };
    let tag = enter(place, note)?;
    // SAFETY: operands are slots of this evaluation in the device's memory, targets are fresh buffers
    // there, or donated ones that nobody else holds.
    match guarded(job, || unsafe { device.enqueue(job, tag) })? {
        Ok(()) => Ok(None),
        Err(Refusal::Lacks(why)) => Ok(Some(why)),
        Err(Refusal::Failed(error)) => Err(error),
    }
}

fn on_host(job: &Job<'_>) -> Result<()> {
    // SAFETY: as above, in the host's memory.
    guarded(job, || unsafe { backend().run(job) })?
}

/// A kernel that panics is an error.
fn guarded<T>(job: &Job<'_>, f: impl FnOnce() -> T) -> Result<T> {
    catch_unwind(AssertUnwindSafe(f)).map_err(|panic| {
        let text = panic
            .downcast_ref::<&str>()
            .map(|s| s.to_string())
            .or_else(|| panic.downcast_ref::<String>().cloned())
            .unwrap_or_default();
        let message = format!("the kernel panicked: {text}");
        Error::new(ErrorKind::Internal, job.name(), message)
    })
}

/// How a device's kernels were launched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Launches {
    /// Kernels that were launched one by one.
    pub single: u64,
    /// Graphs of kernels that were made, out of evaluations that came again.
    pub graphs: u64,
    /// How often a graph was launched.
    pub replays: u64,
    /// Kernels in those launches.
    pub replayed: u64,
    /// Of these, the ones whose arguments had changed since the launch before.
    pub changed: u64,
}

/// How kernels were launched so far on a device; `None` if it was not used yet, or is the host.
///
/// ```
/// use lazul_core::device::{Device, launches};
/// assert_eq!(launches(Device::Cpu), None);
/// ```
pub fn launches(device: super::Device) -> Option<Launches> {
    let place = device.choice();
    super::accelerator::opened().find(|(p, _)| *p == place).map(|(_, d)| d.launches())
}

/// Work that ran on the CPU because a device has no kernel for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fallback {
    /// The operation.
    pub op: &'static str,
    /// What the device lacks.
    pub why: &'static str,
    /// How often.
    pub count: u64,
}

static FALLBACKS: Mutex<BTreeMap<(&str, &str), u64>> = Mutex::new(BTreeMap::new());

/// Counts a job that a device has no kernel for.
pub(crate) fn record_fallback(op: &'static str, why: &'static str) {
    let mut all = FALLBACKS.lock().unwrap_or_else(|e| e.into_inner());
    *all.entry((op, why)).or_insert(0) += 1;
}

/// What ran on the CPU although it was meant for a device, because the device has no kernel for it, since
/// the program started or [`reset_fallbacks`] was called. The results are the same; the time is not, and
/// operands and results travel.
///
/// ```
/// use lazul_core::device::{Device, fallbacks, with_device};
/// use lazul_core::prelude::*;
/// let x = with_device(Device::Cpu, || arange(3, DType::F32).exp())?;
/// x.eval()?;
/// assert!(fallbacks().iter().all(|f| f.op != "exp"));
/// # Ok::<(), lazul_core::Error>(())
/// ```
pub fn fallbacks() -> Vec<Fallback> {
    let all = FALLBACKS.lock().unwrap_or_else(|e| e.into_inner());
    all.iter().map(|(&(op, why), &count)| Fallback { op, why, count }).collect()
}

/// Starts the list of [`fallbacks`] anew.
///
/// ```standalone_crate
/// use lazul_core::device::{fallbacks, reset_fallbacks};
/// reset_fallbacks();
/// assert!(fallbacks().is_empty());
/// ```
pub fn reset_fallbacks() {
    FALLBACKS.lock().unwrap_or_else(|e| e.into_inner()).clear();
}

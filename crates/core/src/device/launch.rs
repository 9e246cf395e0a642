//! Handing jobs to whoever runs them, and telling at the end of an evaluation what went wrong on a
//! device.
//!
//! A device runs behind: an index out of bounds shows only when its job is done. Every job that may
//! meet one carries the number of a note that says where it was built; before an evaluation publishes
//! results it waits for the device and looks whether one of its notes was meant. Evaluations that use
//! a device therefore enter it one at a time, which costs little, since the device does their work one
//! after another.

use super::accelerator::{Refusal, accelerator, is_fallible};
use crate::error::{Error, ErrorKind, Result};
use crate::eval::backend;
use lazul_ir::{DType, HOST, Job, Place, Shape, Work};
use smallvec::SmallVec;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::sync::{Mutex, MutexGuard};

/// Where a job that may fail was built, and its operands.
struct Note {
    site: &'static Location<'static>,
    operands: Vec<(DType, Shape)>,
}

/// The devices that the calling thread's evaluation uses.
#[derive(Default)]
struct Session {
    entered: Option<MutexGuard<'static, ()>>,
    used: SmallVec<[Place; 2]>,
    notes: Vec<Note>,
    /// What went wrong on a device: nothing of the evaluation that ran after it is to be trusted.
    fault: Option<Error>,
}

thread_local! {
    static SESSION: RefCell<Option<Session>> = const { RefCell::new(None) };
}

/// Notes are numbered with 24 bits; evaluations with more look at the device in between.
const MOST_NOTES: usize = 1 << 20;

/// An evaluation on the calling thread; what it began on devices ends with it.
pub(crate) struct Evaluation {
    outer: bool,
}

impl Evaluation {
    pub(crate) fn start() -> Evaluation {
        SESSION.with_borrow_mut(|s| {
            let outer = s.is_none();
            if outer {
                *s = Some(Session::default());
            }
            Evaluation { outer }
        })
    }

    /// Looks whether jobs that may fail did; with `wait`, returns when everything is done.
    pub(crate) fn finish(self, wait: bool) -> Result<()> {
        settle()?;
        if wait {
            used().into_iter().try_for_each(|place| accelerator(place)?.wait())?;
        }
        Ok(())
    }
}

impl Drop for Evaluation {
    fn drop(&mut self) {
        if self.outer {
            // After an error the device's notes are nobody's.
            let _ = settle();
            SESSION.with_borrow_mut(|s| *s = None);
        }
    }
}

fn used() -> SmallVec<[Place; 2]> {
    SESSION.with_borrow(|s| s.as_ref().map(|s| s.used.clone()).unwrap_or_default())
}

/// Waits for the jobs of this evaluation that may fail; an error if one did, now or before.
pub(crate) fn settle() -> Result<()> {
    let session = SESSION.with_borrow_mut(|s| {
        s.as_mut().map(|s| (std::mem::take(&mut s.notes), s.used.clone(), s.fault.clone()))
    });
    let Some((notes, used, fault)) = session else { return Ok(()) };
    let mut first = fault;
    if !notes.is_empty() {
        // Every device is asked: what one leaves standing would be the next evaluation's fault.
        for place in used {
            let error = match accelerator(place).and_then(|device| device.take_fault()) {
                Ok(None) => continue,
                Ok(Some((tag, error))) => match notes.get(tag as usize) {
                    Some(note) => error.at(note.site).operands(note.operands.clone()),
                    None => error,
                },
                Err(error) => error,
            };
            first.get_or_insert(error);
        }
    }
    let Some(error) = first else { return Ok(()) };
    SESSION.with_borrow_mut(|s| s.iter_mut().for_each(|s| s.fault = Some(error.clone())));
    Err(error)
}

/// Enters a device for the rest of the evaluation; answers the job's tag.
fn enter(place: Place, note: Option<Note>) -> Result<u32> {
    /// One evaluation at a time.
    static ENTERED: Mutex<()> = Mutex::new(());
    let full = SESSION.with_borrow_mut(|s| {
        let Some(s) = s else { return false };
        if s.entered.is_none() {
            s.entered = Some(ENTERED.lock().unwrap_or_else(|e| e.into_inner()));
        }
        if !s.used.contains(&place) {
            s.used.push(place);
        }
        s.notes.len() >= MOST_NOTES
    });
    if full {
        settle()?;
    }
    Ok(SESSION.with_borrow_mut(|s| match (s, note) {
        (Some(s), Some(note)) => {
            s.notes.push(note);
            s.notes.len() as u32 - 1
        }
        _ => 0,
    }))
}

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

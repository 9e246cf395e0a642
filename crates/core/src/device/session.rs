//! What an evaluation has going on devices, and telling at its end what went wrong there.
//!
//! A device runs behind: an index out of bounds shows only when its job is done. Every job that may
//! meet one carries the number of a note that says where it was built. An evaluation that is waited for
//! looks, before it publishes results, whether one of its notes was meant. One that runs ahead publishes them
//! with its own number, and stays *pending* until something of it, or of a later one, comes back to the host
//! or is waited for; if the device then tells of a fault, whatever has its number or a later one is an error
//! wherever it is used. Evaluations enter a device one at a time, which costs little, since the device does
//! their work one after another.

use super::accelerator::{Met, accelerator};
use super::replica::alloc;
use crate::error::{Error, Result};
use crate::eval::Mode;
use lazul_ir::{Buffer, DType, Place, Shape};
use smallvec::SmallVec;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::panic::Location;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};

/// Where a job that may fail was built, and its operands.
pub(crate) struct Note {
    pub(super) site: &'static Location<'static>,
    pub(super) operands: Vec<(DType, Shape)>,
}

impl Note {
    fn explain(&self, error: Error) -> Error {
        error.at(self.site).operands(self.operands.clone())
    }
}

/// The devices that the calling thread's evaluation uses.
struct Session {
    /// What names the evaluation's form.
    key: u64,
    mode: Mode,
    entered: Option<MutexGuard<'static, u64>>,
    used: SmallVec<[Place; 2]>,
    notes: Vec<Note>,
    /// What went wrong on a device: nothing of the evaluation that ran after it is to be trusted.
    fault: Option<Error>,
    /// Whether something came back from a device, which the host may have computed with.
    came_back: bool,
    /// Whether the devices were told that everything is enqueued.
    ended: bool,
    constants: Constants,
}

impl Session {
    fn new(key: u64, mode: Mode) -> Session {
        let (entered, fault, came_back, ended) = (None, None, false, false);
        let (used, notes, constants) = Default::default();
        Session { key, mode, entered, used, notes, fault, came_back, ended, constants }
    }
}

/// Constants of one evaluation.
#[derive(Default)]
struct Constants {
    block: Option<Buffer>,
    values: SmallVec<[u64; 8]>,
}

thread_local! {
    static SESSION: RefCell<Option<Session>> = const { RefCell::new(None) };
}

/// Notes are numbered with 24 bits; evaluations with more look at the device in between.
const MOST_NOTES: usize = 1 << 20;
/// Constants of one evaluation that have a place of their own.
const MOST_CONSTANTS: usize = 256;
/// Evaluations that may be running and not looked at.
const MOST_PENDING: usize = 8;

/// One evaluation at a time uses devices; the number of the last one that did.
static ENTERED: Mutex<u64> = Mutex::new(0);

fn lock<T>(mutex: &'static Mutex<T>) -> MutexGuard<'static, T> {
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}

/// An evaluation whose results are given out although a device may still find it at fault.
struct Pending {
    number: u64,
    place: Place,
    notes: Vec<Note>,
}

static PENDING: Mutex<VecDeque<Pending>> = Mutex::new(VecDeque::new());

/// Evaluations from the first to the second number are wrong, because of this.
static FAILED: Mutex<Vec<(u64, u64, Error)>> = Mutex::new(Vec::new());
static ANY_FAILED: AtomicBool = AtomicBool::new(false);

/// An error if what evaluation `number` gave is not to be used.
#[inline]
pub(crate) fn trusted(number: u64) -> Result<()> {
    if number == 0 || !ANY_FAILED.load(Ordering::Acquire) {
        return Ok(());
    }
    let all = lock(&FAILED);
    let found = all.iter().find(|(first, last, _)| (first..=last).contains(&&number));
    found.map_or(Ok(()), |(_, _, error)| Err(error.clone()))
}

/// An evaluation on the calling thread; what it began on devices ends with it.
pub(crate) struct Evaluation {
    outer: bool,
}

impl Evaluation {
    /// `key` is the same for evaluations of one form.
    pub(crate) fn start(key: u64, mode: Mode) -> Evaluation {
        SESSION.with_borrow_mut(|s| {
            let outer = s.is_none();
            if outer {
                *s = Some(Session::new(key, mode));
            }
            Evaluation { outer }
        })
    }

    /// Waits as the evaluation's mode says; answers the number by which results are known until a device has
    /// shown that they are good, or 0 if it has. What is not `good` is never looked at later.
    pub(crate) fn finish(self, good: bool) -> Result<u64> {
        let mut wait = false;
        let later = SESSION.with_borrow_mut(|s| match s {
            Some(s) => {
                wait = s.mode == Mode::Wait && good;
                let sure = s.fault.is_none() && !s.came_back;
                let late = s.mode == Mode::Ahead || (s.mode == Mode::Start && s.notes.is_empty());
                if !(self.outer && good && sure && late) {
                    return None;
                }
                match (&s.entered, &s.used[..]) {
                    (Some(number), &[place]) => {
                        s.ended = true;
                        Some(Pending {
                            number: **number,
                            place,
                            notes: std::mem::take(&mut s.notes),
                        })
                    }
                    _ => None,
                }
            }
            _ => None,
        });
        let Some(pending) = later else {
            settle()?;
            if self.outer && good {
                // What is not launched yet may fail to.
                SESSION.with_borrow_mut(|s| s.iter_mut().for_each(|s| s.ended = true));
                used().into_iter().try_for_each(|place| accelerator(place)?.end(0, false))?;
            }
            if wait {
                used().into_iter().try_for_each(|place| accelerator(place)?.wait())?;
            }
            return Ok(0);
        };
        let (number, fallible) = (pending.number, !pending.notes.is_empty());
        accelerator(pending.place)?.end(number, fallible)?;
        if fallible {
            lock(&PENDING).push_back(pending);
            look_at_oldest()?;
        }
        Ok(number)
    }
}

impl Drop for Evaluation {
    fn drop(&mut self) {
        if self.outer {
            // After an error the device's notes are nobody's.
            let _ = settle();
            let ended = SESSION.with_borrow(|s| s.as_ref().is_none_or(|s| s.ended));
            if !ended {
                for place in used() {
                    let _ = accelerator(place).and_then(|device| device.end(0, false));
                }
            }
            let session = SESSION.with_borrow_mut(Option::take);
            drop(session);
        }
    }
}

/// Waits for the first of more pending evaluations than there may be.
fn look_at_oldest() -> Result<()> {
    let oldest = {
        let pending = lock(&PENDING);
        (pending.len() > MOST_PENDING).then(|| pending.front().map(|p| (p.place, p.number)))
    };
    let Some(Some((place, number))) = oldest else { return Ok(()) };
    accelerator(place)?.wait_until(number)?;
    confirm(place, number)
}

fn used() -> SmallVec<[Place; 2]> {
    SESSION.with_borrow(|s| s.as_ref().map(|s| s.used.clone()).unwrap_or_default())
}

/// What a fault that was met on the device of `place` means: an error of the calling thread's evaluation, or
/// of one before it, which is then marked as failed, with everything since.
fn blame(place: Place, met: Met, last: u64, notes: &[Note]) -> Error {
    let Met { evaluation, tag, error } = met;
    let Some(first) = evaluation else {
        return match notes.get(tag as usize) {
            Some(note) => note.explain(error),
            None => error,
        };
    };
    let mut pending = lock(&PENDING);
    let at = pending.iter().position(|p| p.place == place && p.number == first);
    let error = match at.and_then(|at| pending[at].notes.get(tag as usize)) {
        Some(note) => note.explain(error),
        None => error,
    };
    // The device was waited for.
    pending.retain(|p| p.place != place);
    lock(&FAILED).push((first, last, error.clone()));
    ANY_FAILED.store(true, Ordering::Release);
    error
}

/// After evaluation `number` is done on the device of `place`: an error if what it gave is not to be used.
pub(crate) fn confirm(place: Place, number: u64) -> Result<()> {
    let device = accelerator(place)?;
    if device.is_faulty() {
        let (inside, last) = SESSION.with_borrow(|s| {
            let entered = s.as_ref().and_then(|s| s.entered.as_ref());
            (entered.is_some(), entered.map_or(0, |number| **number))
        });
        let entered = (!inside).then(|| lock(&ENTERED));
        let last = entered.as_ref().map_or(last, |number| **number);
        if let Some(met) = device.take_fault()? {
            let own = met.evaluation.is_none();
            let error = SESSION.with_borrow_mut(|s| {
                let error = blame(place, met, last, s.as_ref().map_or(&[], |s| &s.notes));
                if let (Some(s), true) = (s, own || inside) {
                    s.fault.get_or_insert(error.clone());
                }
                error
            });
            if own || inside {
                return Err(error);
            }
        }
    } else if number > 0 {
        let mut pending = lock(&PENDING);
        while pending.front().is_some_and(|p| p.place == place && p.number <= number) {
            pending.pop_front();
        }
    }
    trusted(number)
}

/// Something that came from a device is about to be used by the host.
pub(crate) fn came_back() {
    SESSION.with_borrow_mut(|s| s.iter_mut().for_each(|s| s.came_back = true));
}

/// Waits for the jobs of this evaluation that may fail; an error if one did, now or before.
pub(crate) fn settle() -> Result<()> {
    let session = SESSION.with_borrow_mut(|s| {
        s.as_mut().map(|s| {
            let last = s.entered.as_ref().map_or(0, |number| **number);
            (std::mem::take(&mut s.notes), s.used.clone(), s.fault.clone(), last)
        })
    });
    let Some((notes, used, fault, last)) = session else { return Ok(()) };
    let mut first = fault;
    if !notes.is_empty() {
        // Every device is asked: what one leaves standing would be the next evaluation's fault.
        for place in used {
            let error = match accelerator(place).and_then(|device| device.take_fault()) {
                Ok(None) => continue,
                Ok(Some(met)) => blame(place, met, last, &notes),
                Err(error) => error,
            };
            first.get_or_insert(error);
        }
    }
    let Some(error) = first else { return Ok(()) };
    SESSION.with_borrow_mut(|s| s.iter_mut().for_each(|s| s.fault = Some(error.clone())));
    Err(error)
}

/// Looks at every evaluation that is pending, once it is done.
fn settle_pending(last: u64) -> Result<()> {
    let places: SmallVec<[Place; 2]> = lock(&PENDING).iter().map(|p| p.place).collect();
    for place in places {
        if let Some(met) = accelerator(place)?.take_fault()? {
            // Whoever needs what failed learns of it when they use it.
            let _ = blame(place, met, last, &[]);
        }
    }
    lock(&PENDING).clear();
    Ok(())
}

/// Enters a device for the rest of the evaluation; answers the job's tag.
pub(crate) fn enter(place: Place, note: Option<Note>) -> Result<u32> {
    let (new, first, full) = SESSION.with_borrow_mut(|s| {
        let Some(s) = s else { return (None, None, false) };
        let mut first = None;
        if s.entered.is_none() {
            let mut number = lock(&ENTERED);
            first = (s.mode != Mode::Ahead).then_some(*number);
            *number += 1;
            s.entered = Some(number);
        }
        let new = !s.used.contains(&place);
        if new {
            s.used.push(place);
        }
        (new.then_some(s.key), first, s.notes.len() >= MOST_NOTES)
    });
    if let Some(last) = first {
        settle_pending(last)?;
    }
    if let Some(key) = new {
        accelerator(place)?.begin(key)?;
    }
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

/// The address of a constant that other evaluations of the same form may have another value for, and what
/// keeps it; `None` outside of an evaluation, and where it has too many. The same evaluation finds it at the
/// same place each time, if memory is as it was.
pub(crate) fn constant(place: Place, bits: u64) -> Result<Option<(*mut u8, Buffer)>> {
    if SESSION.with_borrow(Option::is_none) {
        return Ok(None);
    }
    enter(place, None)?;
    let known = SESSION.with_borrow(|s| {
        let constants = &s.as_ref()?.constants;
        let at = constants.values.iter().position(|v| *v == bits);
        Some((constants.block.clone(), at, constants.values.len()))
    });
    let Some((block, at, count)) = known else { return Ok(None) };
    let block = match block {
        Some(block) if block.place() == place => block,
        None => alloc(place, MOST_CONSTANTS * size_of::<u64>())?,
        Some(_) => return Ok(None),
    };
    let ptr = block.ptr().wrapping_add(at.unwrap_or(count) * size_of::<u64>());
    if at.is_none() {
        if count == MOST_CONSTANTS {
            return Ok(None);
        }
        // SAFETY: a word of the block, which is live memory of the device.
        unsafe { accelerator(place)?.poke(ptr, bits) }?;
    }
    SESSION.with_borrow_mut(|s| {
        if let Some(s) = s {
            if at.is_none() {
                s.constants.values.push(bits);
            }
            s.constants.block = Some(block.clone());
        }
    });
    Ok(Some((ptr, block)))
}

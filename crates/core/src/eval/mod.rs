//! Evaluation: claim → plan → run.
//!
//! 1. `claim` takes, under one short lock, every node that the asked-for arrays need and nobody has
//!    taken yet, and numbers them: a program. Nodes that an earlier evaluation holds become inputs
//!    to wait for; since a claim takes all its nodes at once, waits never form a circle.
//! 2. `plan` decides what is fused, in which order steps run and when memory is free again.
//!    Programs of the same form (operations, shapes, who holds what) share a plan through
//!    `cache`, so a loop plans once.
//! 3. `run` allocates, hands jobs to the backend and publishes results.

mod cache;
pub(crate) mod claim;
mod explain;
mod fuse;
pub(crate) mod plan;
pub(crate) mod queue;
pub(crate) mod run;
pub(crate) mod view;

pub use explain::explain;

use crate::error::{Error, ErrorKind, Result};
use crate::node::Array;
use lazul_cpu::CpuBackend;
use smallvec::SmallVec;
use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, OnceLock};

/// The backend of the host, which is always there.
pub(crate) fn backend() -> &'static dyn lazul_ir::Backend {
    static CPU: CpuBackend = CpuBackend;
    &CPU
}

thread_local! {
    /// What is asked between the steps of an evaluation on this thread: whether it shall end.
    static STOP: Cell<Option<fn() -> bool>> = const { Cell::new(None) };
}

/// Runs `f`, whose evaluations ask `stop` between their steps whether they shall end, on this thread. What was
/// not computed then stays lazy and may be asked for again. A compiled function, a loop and a branch are one step.
///
/// ```
/// use lazul_core::{eval::interruptible, prelude::*};
/// let x = arange(4, DType::F32).sort(-1);
/// assert!(interruptible(|| true, || x.eval()).is_err());
/// assert_eq!(x.to_vec::<f32>()?, [0.0, 1.0, 2.0, 3.0]);
/// # Ok::<(), lazul_core::Error>(())
/// ```
pub fn interruptible<R>(stop: fn() -> bool, f: impl FnOnce() -> R) -> R {
    struct Back(Option<fn() -> bool>);
    impl Drop for Back {
        fn drop(&mut self) {
            STOP.set(self.0);
        }
    }
    let _back = Back(STOP.replace(Some(stop)));
    f()
}

/// An error if the evaluation on this thread shall end.
#[inline]
pub(crate) fn go_on() -> Result<()> {
    match STOP.get() {
        Some(stop) if stop() => {
            Err(Error::new(ErrorKind::Value, "eval", "the evaluation was interrupted"))
        }
        _ => Ok(()),
    }
}

/// Whether an array's values are there already.
///
/// ```
/// use lazul_core::{eval::is_evaluated, prelude::*};
/// let x = arange(4, DType::F32).exp();
/// assert!(!is_evaluated(&x));
/// x.eval()?;
/// assert!(is_evaluated(&x));
/// # Ok::<(), lazul_core::Error>(())
/// ```
pub fn is_evaluated(array: &Array) -> bool {
    array.is_ready()
}

/// The right to compute a set of nodes, and the means to wait for whoever has it.
pub(crate) struct Ticket {
    pub(crate) id: u64,
    done: Mutex<Option<Result<()>>>,
    wake: Condvar,
}

impl Ticket {
    fn new(id: u64) -> Ticket {
        Ticket { id, done: Mutex::new(None), wake: Condvar::new() }
    }

    fn finish(&self, result: Result<()>) {
        *self.done.lock().unwrap_or_else(|e| e.into_inner()) = Some(result);
        self.wake.notify_all();
    }

    pub(crate) fn wait(&self) -> Result<()> {
        let mut done = self.done.lock().unwrap_or_else(|e| e.into_inner());
        loop {
            if let Some(result) = &*done {
                return result.clone();
            }
            done = self.wake.wait(done).unwrap_or_else(|e| e.into_inner());
        }
    }
}

/// Computes arrays, all at once, and returns when they are there.
///
/// What several of them need is computed once. Arrays that are there already cost nothing.
///
/// ```
/// use lazul_core::prelude::*;
/// let x = arange(4, DType::F32);
/// let (a, b) = (&x + 1.0, &x * 2.0);
/// eval([&a, &b])?;
/// # Ok::<(), lazul_core::Error>(())
/// ```
///
/// # Errors
/// The error of a wrong call that an array is built on; or what went wrong while computing (an index
/// out of bounds, no memory, a file that cannot be read), in which case what could not be computed
/// stays lazy and may be asked for again.
pub fn eval<'a>(arrays: impl IntoIterator<Item = &'a Array>) -> Result<()> {
    let roots: SmallVec<[&Array; 8]> = arrays.into_iter().collect();
    compute(&roots)?;
    roots.iter().try_for_each(|root| root.confirm())
}

/// Computes arrays; what [`eval_ahead`] started may still show to be wrong when it is read.
pub(crate) fn compute(roots: &[&Array]) -> Result<()> {
    while let Some(program) = claim::claim(roots)? {
        match execute(program, Mode::Wait) {
            Outcome::Done(result) => return result,
            // What another evaluation could not compute is lazy again; whether these arrays need the
            // part that failed shows when it is claimed here.
            Outcome::OthersFailed(_) => {}
        }
    }
    Ok(())
}

/// Starts to compute arrays and returns at once; whoever reads one of them waits for it. Each is started in
/// its stream ([`crate::device::Stream`]): what is started in one runs in order, and beside other streams.
///
/// ```
/// use lazul_core::prelude::*;
/// let y = arange(1000, DType::F32).sum(..);
/// async_eval([&y])?;
/// assert_eq!(y.item::<f32>()?, 499_500.0);
/// # Ok::<(), lazul_core::Error>(())
/// ```
///
/// # Errors
/// The error of a wrong call that an array is built on. What goes wrong while computing is reported
/// by the next evaluation that needs the result.
pub fn async_eval<'a>(arrays: impl IntoIterator<Item = &'a Array>) -> Result<()> {
    queue::start(arrays.into_iter().collect(), Mode::Start)
}

/// As [`async_eval`], and does not wait for a device even where an index could be out of bounds: for loops
/// in which a step begins before the one before it was looked at, as when tokens are generated.
///
/// ```
/// use lazul_core::{eval_ahead, prelude::*};
/// let x = arange(10, DType::I32);
/// let index = x.slice_axis(0, 3, 4);
/// let y = x.take(&index, 0);
/// eval_ahead([&y])?;
/// assert_eq!(y.item::<i32>()?, 3);
/// # Ok::<(), lazul_core::Error>(())
/// ```
///
/// # Errors
/// As [`async_eval`]. If a device meets an index out of bounds, everything that this call started, and what was
/// started behind it, is that error wherever it is read or used, for good: it cannot be computed again.
pub fn eval_ahead<'a>(arrays: impl IntoIterator<Item = &'a Array>) -> Result<()> {
    queue::start(arrays.into_iter().collect(), Mode::Ahead)
}

/// When an evaluation ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Mode {
    /// When devices are done.
    Wait,
    /// When everything is enqueued, unless a device may find an index out of bounds.
    Start,
    /// When everything is enqueued.
    Ahead,
}

/// How an evaluation ended.
enum Outcome {
    /// It ran.
    Done(Result<()>),
    /// It did not run, because another that it waited for failed.
    OthersFailed(Error),
}

/// Waits for what a program needs from others, runs it, and tells those who wait for it.
fn execute(program: claim::Program, mode: Mode) -> Outcome {
    /// Finishes the ticket even if something below panics: nobody waits for ever.
    struct Finish(Arc<Ticket>);
    impl Drop for Finish {
        fn drop(&mut self) {
            let mut done = self.0.done.lock().unwrap_or_else(|e| e.into_inner());
            if done.is_none() {
                let message = "the evaluation panicked";
                *done = Some(Err(Error::new(ErrorKind::Internal, "eval", message)));
                self.0.wake.notify_all();
            }
        }
    }
    let finish = Finish(program.ticket.clone());
    // Dropped before `finish`, even by a panic: those who then look find the nodes given back.
    let mut program = program;
    if let Err(error) = program.waits.iter().try_for_each(|ticket| ticket.wait()) {
        drop(program);
        finish.0.finish(Err(error.clone()));
        return Outcome::OthersFailed(error);
    }
    let plan = cache::plan_for(&program);
    if explain::asked() {
        eprint!("{}", explain::describe(&program, &plan));
    }
    let result = run::run(&mut program, &plan, mode);
    // The program's hold on its arrays ends first: those who wait may then use up their memory.
    drop(program);
    finish.0.finish(result.clone());
    Outcome::Done(result)
}

static FUSION: AtomicBool = AtomicBool::new(true);

/// Whether element-wise regions are fused; the environment variable `LAZUL_FUSION=0` turns it off
/// from the start.
///
/// ```standalone_crate
/// let before = lazul_core::fusion();
/// lazul_core::set_fusion(!before);
/// assert_ne!(lazul_core::fusion(), before);
/// lazul_core::set_fusion(before);
/// ```
pub fn fusion() -> bool {
    static FROM_ENV: OnceLock<()> = OnceLock::new();
    FROM_ENV.get_or_init(|| {
        if std::env::var("LAZUL_FUSION").is_ok_and(|v| v == "0") {
            FUSION.store(false, Relaxed);
        }
    });
    FUSION.load(Relaxed)
}

/// Turns fusion of element-wise regions on or off, for the whole process. Results are the same bits
/// either way; this is for measuring and for finding bugs.
///
/// ```standalone_crate
/// use lazul_core::prelude::*;
/// let y = || (linspace(0.0, 1.0, 50, DType::F32).exp() * 0.1).sin().to_vec::<f32>();
/// let fused = y()?;
/// lazul_core::set_fusion(false);
/// assert_eq!(y()?, fused);
/// lazul_core::set_fusion(true);
/// # Ok::<(), lazul_core::Error>(())
/// ```
pub fn set_fusion(on: bool) {
    fusion();
    FUSION.store(on, Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prelude::*;
    use std::sync::atomic::AtomicUsize;

    static ASKED: AtomicUsize = AtomicUsize::new(0);
    static LAST: AtomicUsize = AtomicUsize::new(0);

    /// Whatever step is the last before an interruption, a state that would be used up is still there.
    #[test]
    fn an_interruption_leaves_the_state_of_compiled_functions() -> Result<()> {
        let step = compile_with_state(|w: &mut Array, x: &Array| {
            for _ in 0..3 {
                *w = (&*w + x).sort(-1);
            }
            w.sum(..)
        });
        let x = ones([8], DType::F32);
        for last in 0..6 {
            let mut w = zeros([8], DType::F32) + 1.0;
            w.eval()?;
            let sum = step(&mut w, &x)?;
            ASKED.store(0, Relaxed);
            let stop = || ASKED.fetch_add(1, Relaxed) == LAST.load(Relaxed);
            LAST.store(last, Relaxed);
            let _ = interruptible(stop, || eval([&w, &sum]));
            assert_eq!(w.to_vec::<f32>()?, [4.0; 8]);
            assert_eq!(sum.item::<f32>()?, 32.0);
        }
        Ok(())
    }
}

//! The persistent thread pool that kernels run on.
//!
//! [`parallel`] runs chunks `0..n` on the caller's thread and on as many workers as come in time. The
//! caller never waits for a worker that has not started: a region closes when the chunks are gone,
//! and only workers inside it are waited for. A caller that finds the pool busy (another thread's
//! region, or a kernel inside a kernel) runs its chunks itself. Chunk bounds are the kernel's and
//! depend on shapes alone, so the number of threads never changes a result.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::*};
use std::sync::{Condvar, Mutex, OnceLock};
use std::time::{Duration, Instant};

/// How long a worker looks for new work before it sleeps. A decode step has a parallel region every
/// few microseconds, and waking a sleeper costs tens of them.
const SPIN: Duration = Duration::from_micros(50);

const OPEN: u64 = 1 << 31;
const COUNT: u64 = OPEN - 1;
const EPOCH: u64 = 1 << 32;

struct Pool {
    /// Number of workers beside the caller.
    workers: usize,
    /// Held by the thread whose region is running.
    busy: Mutex<()>,
    /// `epoch << 32 | open << 31 | workers inside`.
    state: AtomicU64,
    task: AtomicU64Pair,
    next: AtomicUsize,
    total: AtomicUsize,
    failed: AtomicBool,
    sleepers: Mutex<usize>,
    wake: Condvar,
}

/// The two words of a `*const dyn Fn(usize)`, written before a region opens.
#[derive(Default)]
struct AtomicU64Pair([AtomicUsize; 2]);

type Task = *const (dyn Fn(usize) + Sync);

impl AtomicU64Pair {
    fn store(&self, task: Task) {
        // SAFETY: a fat pointer is two words; it is only taken apart to be put together in `load`.
        let words: [usize; 2] = unsafe { std::mem::transmute(task) };
        self.0[0].store(words[0], Relaxed);
        self.0[1].store(words[1], Relaxed);
    }

    fn load(&self) -> Task {
        let words = [self.0[0].load(Relaxed), self.0[1].load(Relaxed)];
        // SAFETY: the words of `store`; readers load them only inside the region that stored them.
        unsafe { std::mem::transmute(words) }
    }
}

static POOL: OnceLock<&'static Pool> = OnceLock::new();

/// Number of threads that take part in a region: `LAZUL_NUM_THREADS`, or what the process's affinity
/// and its container's quota allow.
pub fn threads() -> usize {
    pool().workers + 1
}

fn configured_threads() -> usize {
    let available = || std::thread::available_parallelism().map_or(1, |n| n.get());
    match std::env::var("LAZUL_NUM_THREADS") {
        Ok(text) => match text.trim().parse::<usize>() {
            Ok(n) if (1..=1024).contains(&n) => n,
            _ => {
                eprintln!(
                    "lazul: LAZUL_NUM_THREADS={text:?} is not a number from 1 to 1024; ignored"
                );
                available()
            }
        },
        Err(_) => available(),
    }
}

fn pool() -> &'static Pool {
    POOL.get_or_init(|| {
        let pool: &'static Pool = Box::leak(Box::new(Pool {
            workers: configured_threads() - 1,
            busy: Mutex::new(()),
            state: AtomicU64::new(0),
            task: AtomicU64Pair::default(),
            next: AtomicUsize::new(0),
            total: AtomicUsize::new(0),
            failed: AtomicBool::new(false),
            sleepers: Mutex::new(0),
            wake: Condvar::new(),
        }));
        for i in 0..pool.workers {
            let spawned =
                std::thread::Builder::new().name(format!("lazul-{i}")).spawn(move || pool.work());
            if spawned.is_err() {
                // Fewer workers are still correct: chunks that nobody takes the caller runs.
                break;
            }
        }
        pool
    })
}

/// Calls `f(i)` once for each `i < n`, in no particular order and possibly at once.
///
/// # Panics
/// If a call panics, after all others have ended.
pub fn parallel(n: usize, f: impl Fn(usize) + Sync) {
    if n <= 1 {
        if n == 1 {
            f(0);
        }
        return;
    }
    let pool = pool();
    let guard = if pool.workers == 0 { None } else { pool.busy.try_lock().ok() };
    let Some(_guard) = guard else {
        (0..n).for_each(f);
        return;
    };
    pool.region(n, &f);
}

/// Splits `0..n` into chunks of `grain` and calls `f(start, end)` for each, in parallel.
pub fn parallel_ranges(n: usize, grain: usize, f: impl Fn(usize, usize) + Sync) {
    let grain = grain.max(1);
    parallel(n.div_ceil(grain), |i| f(i * grain, ((i + 1) * grain).min(n)));
}

impl Pool {
    fn region(&self, n: usize, f: &(dyn Fn(usize) + Sync)) {
        // SAFETY: the lifetime is erased; no worker touches the task after `close` below.
        self.task.store(unsafe { std::mem::transmute::<&(dyn Fn(usize) + Sync), Task>(f) });
        self.next.store(0, Relaxed);
        self.total.store(n, Relaxed);
        let epoch = (self.state.load(Relaxed) & !(EPOCH - 1)).wrapping_add(EPOCH);
        // SeqCst on both sides: either this thread sees the sleeper, or the sleeper sees the region.
        self.state.store(epoch | OPEN, SeqCst);
        {
            let sleepers = self.sleepers.lock().unwrap_or_else(|e| e.into_inner());
            if *sleepers > 0 {
                self.wake.notify_all();
            }
        }
        let mine = catch_unwind(AssertUnwindSafe(|| self.drain(f, n)));
        if mine.is_err() {
            self.next.store(n, Relaxed);
        }
        self.state.fetch_and(!OPEN, AcqRel);
        let mut spins = 0u32;
        while self.state.load(Acquire) & COUNT != 0 {
            spins += 1;
            if spins < 10_000 { std::hint::spin_loop() } else { std::thread::yield_now() }
        }
        let failed = self.failed.swap(false, Relaxed);
        match mine {
            Err(panic) => resume_unwind(panic),
            Ok(()) if failed => panic!("a kernel panicked on a pool thread"),
            Ok(()) => {}
        }
    }

    fn drain(&self, f: &(dyn Fn(usize) + Sync), n: usize) {
        loop {
            let i = self.next.fetch_add(1, Relaxed);
            if i >= n {
                break;
            }
            f(i);
        }
    }

    /// A worker's life: look for an open region, help, look again, sleep.
    fn work(&self) {
        let mut seen = 0;
        loop {
            let mut since = Instant::now();
            let mut spins = 0u32;
            loop {
                let state = self.state.load(Acquire);
                if state & OPEN != 0 && state >> 32 != seen {
                    if self.state.compare_exchange_weak(state, state + 1, AcqRel, Relaxed).is_ok() {
                        seen = state >> 32;
                        // SAFETY: the region is open and this thread is counted inside, so the
                        // caller waits for it before the task goes away.
                        let task = unsafe { &*self.task.load() };
                        let total = self.total.load(Relaxed);
                        if catch_unwind(AssertUnwindSafe(|| self.drain(task, total))).is_err() {
                            self.next.store(total, Relaxed);
                            self.failed.store(true, Relaxed);
                        }
                        self.state.fetch_sub(1, AcqRel);
                        since = Instant::now();
                        spins = 0;
                    }
                    continue;
                }
                std::hint::spin_loop();
                spins = spins.wrapping_add(1);
                if spins.is_multiple_of(64) && since.elapsed() > SPIN {
                    break;
                }
            }
            let mut sleepers = self.sleepers.lock().unwrap_or_else(|e| e.into_inner());
            *sleepers += 1;
            loop {
                let state = self.state.load(SeqCst);
                if state & OPEN != 0 && state >> 32 != seen {
                    break;
                }
                sleepers = self.wake.wait(sleepers).unwrap_or_else(|e| e.into_inner());
            }
            *sleepers -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_chunk_runs_once() {
        for n in [0, 1, 2, 7, 1000] {
            let hits: Vec<AtomicUsize> = (0..n).map(|_| AtomicUsize::new(0)).collect();
            parallel(n, |i| {
                hits[i].fetch_add(1, Relaxed);
            });
            assert!(hits.iter().all(|h| h.load(Relaxed) == 1));
        }
    }

    /// What a region costs beside its work, with workers awake:
    /// `cargo test --release -p lazul-cpu --lib speed_of_regions -- --ignored --nocapture`.
    #[test]
    #[ignore = "a measurement"]
    fn speed_of_regions() {
        let mut least = Duration::MAX;
        for _ in 0..200 {
            let start = Instant::now();
            for _ in 0..100 {
                parallel(threads(), |_| {});
            }
            least = least.min(start.elapsed() / 100);
        }
        println!("{} threads: a region costs {least:?}", threads());
    }

    #[test]
    fn regions_nest_and_come_from_many_threads() {
        let sum = AtomicUsize::new(0);
        std::thread::scope(|s| {
            for _ in 0..8 {
                s.spawn(|| {
                    for _ in 0..200 {
                        parallel(4, |_| {
                            parallel(4, |_| {
                                sum.fetch_add(1, Relaxed);
                            })
                        });
                    }
                });
            }
        });
        assert_eq!(sum.load(Relaxed), 8 * 200 * 16);
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_lives_on() {
        let caught = catch_unwind(|| parallel(8, |i| assert!(i != 5)));
        assert!(caught.is_err());
        let count = AtomicUsize::new(0);
        parallel(8, |_| {
            count.fetch_add(1, Relaxed);
        });
        assert_eq!(count.load(Relaxed), 8);
    }
}

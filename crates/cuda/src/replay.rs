//! Replaying: kernels of evaluations that come again are enqueued with one call.
//!
//! An evaluation has a key. The first time a key comes, its kernels are launched one by one, and counted.
//! The second time they are collected and become a graph. From then on they are collected again, the
//! graph's nodes are given the arguments that changed, which are few where a loop gets the same memory in
//! every turn, and the graph is launched. Whatever else uses the stream in between (a copy, a library's
//! kernel) ends a *segment*, which is launched before that; each segment has a graph of its own. Keys are
//! hints: a segment that is not the one expected is launched kernel by kernel.

use crate::driver::{cu, sys};
use crate::kernel::{Args, Grid, Kernel};
use lazul_ir::OpError;
use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Kernels that a segment must have to be worth a graph, and may have at most.
const WORTH: std::ops::RangeInclusive<usize> = 8..=8192;
/// Kernels that all graphs of a stream may have together.
const MOST: usize = 1 << 16;
/// Segments whose numbers of kernels are remembered.
const REMEMBERED: usize = 1 << 12;
/// So many times in a row a segment may differ from what was expected of it.
const PATIENCE: u32 = 8;

/// A kernel to launch.
pub(crate) struct Call {
    pub(crate) kernel: Kernel,
    pub(crate) grid: Grid,
    pub(crate) args: Args,
}

/// What a stream knows of evaluations.
#[derive(Default)]
pub(crate) struct Replay {
    /// Whether an evaluation is under way.
    active: AtomicBool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    key: u64,
    segment: u32,
    mode: Mode,
    /// Kernels of this segment so far, and a hash of which they are.
    count: usize,
    hash: u64,
    calls: Vec<Call>,
    known: HashMap<(u64, u32), Known>,
    clock: u64,
    figures: Figures,
}

/// What becomes of a kernel that is launched.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
enum Mode {
    #[default]
    Launch,
    Collect,
}

struct Known {
    count: usize,
    hash: u64,
    graph: Option<Graph>,
    /// How often in a row it was not what was expected.
    missed: u32,
    used: u64,
}

/// What became of kernels so far.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct Figures {
    /// Graphs made.
    pub made: u64,
    /// Graphs launched.
    pub replayed: u64,
    /// Kernels in them.
    pub kernels: u64,
    /// Of these, kernels whose arguments had changed.
    pub changed: u64,
    /// Kernels launched one by one.
    pub single: u64,
}

/// A graph of kernels, one after another, and what each was last given.
struct Graph {
    raw: sys::CUgraphExec,
    graph: sys::CUgraph,
    calls: Vec<(Call, sys::CUgraphNode)>,
}

// SAFETY: the driver lets any thread use a graph, one at a time, which the state's lock sees to.
unsafe impl Send for Graph {}

impl Drop for Graph {
    fn drop(&mut self) {
        // A graph that is running is destroyed when it is done.
        let _ = cu!(cuGraphExecDestroy(self.raw));
        let _ = cu!(cuGraphDestroy(self.graph));
    }
}

fn enabled() -> bool {
    static ENABLED: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
    *ENABLED.get_or_init(|| std::env::var_os("LAZUL_CUDA_GRAPHS").is_none_or(|v| v != "0"))
}

/// The stream and how its device launches.
#[derive(Clone, Copy)]
pub(crate) struct On {
    pub(crate) stream: sys::CUstream,
    pub(crate) early: bool,
}

impl Replay {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// The evaluation `key` begins.
    pub(crate) fn begin(&self, key: u64) {
        if !enabled() {
            return;
        }
        let mut state = self.lock();
        (state.key, state.segment) = (key, 0);
        state.open();
        self.active.store(true, Relaxed);
    }

    /// Launches what was collected.
    pub(crate) fn cut(&self, on: On) -> Result<(), OpError> {
        if !self.active.load(Relaxed) {
            return Ok(());
        }
        let mut state = self.lock();
        let result = state.close(on);
        state.segment += 1;
        state.open();
        result
    }

    /// The evaluation is enqueued.
    pub(crate) fn end(&self, on: On) -> Result<(), OpError> {
        if !self.active.load(Relaxed) {
            return Ok(());
        }
        let mut state = self.lock();
        self.active.store(false, Relaxed);
        let result = state.close(on);
        state.mode = Mode::Launch;
        result
    }

    pub(crate) fn launch(
        &self,
        on: On,
        kernel: Kernel,
        grid: Grid,
        args: &Args,
    ) -> Result<(), OpError> {
        if !self.active.load(Relaxed) {
            self.lock().figures.single += 1;
            return kernel.launch(on.stream, grid, args, on.early);
        }
        let mut state = self.lock();
        state.count += 1;
        state.hash = (state.hash.rotate_left(5) ^ kernel.id()).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        match state.mode {
            Mode::Launch => {
                state.figures.single += 1;
                kernel.launch(on.stream, grid, args, on.early)
            }
            Mode::Collect => {
                state.calls.push(Call { kernel, grid, args: args.clone() });
                if state.calls.len() > *WORTH.end() {
                    state.mode = Mode::Launch;
                    return state.flush(on);
                }
                Ok(())
            }
        }
    }

    pub(crate) fn figures(&self) -> Figures {
        self.lock().figures
    }
}

impl State {
    /// A segment begins.
    fn open(&mut self) {
        (self.count, self.hash) = (0, 0);
        self.clock += 1;
        let worth = |k: &Known| WORTH.contains(&k.count) && k.missed < PATIENCE;
        self.mode = match self.known.get_mut(&(self.key, self.segment)) {
            Some(known) if worth(known) => Mode::Collect,
            _ => Mode::Launch,
        };
    }

    /// A segment ends.
    fn close(&mut self, on: On) -> Result<(), OpError> {
        if self.count == 0 {
            return Ok(());
        }
        let at = (self.key, self.segment);
        let (count, hash, clock) = (self.count, self.hash, self.clock);
        if !self.known.contains_key(&at) && self.known.len() >= REMEMBERED {
            // The older half goes.
            let mut used: Vec<u64> = self.known.values().map(|k| k.used).collect();
            used.sort_unstable();
            let middle = used[used.len() / 2];
            self.known.retain(|_, k| k.used > middle);
        }
        let known = self.known.entry(at).or_insert_with(|| Known {
            count,
            hash,
            graph: None,
            missed: 0,
            used: clock,
        });
        known.used = clock;
        if (known.count, known.hash) != (count, hash) {
            known.missed += 1;
            (known.count, known.hash, known.graph) = (count, hash, None);
            return self.flush(on);
        }
        if self.calls.is_empty() {
            // Launched one by one.
            return Ok(());
        }
        known.missed = 0;
        let mut made = false;
        match &mut known.graph {
            Some(graph) => {
                self.figures.changed += graph.update(&mut self.calls)?;
            }
            None => match Graph::new(std::mem::take(&mut self.calls), on.early) {
                Ok(graph) => {
                    known.graph = Some(graph);
                    made = true;
                }
                Err(calls) => {
                    // A driver that does not record them so.
                    known.missed = PATIENCE;
                    self.calls = calls;
                    return self.flush(on);
                }
            },
        }
        let raw = known.graph.as_ref().map_or(std::ptr::null_mut(), |g| g.raw);
        cu!(cuGraphLaunch(raw, on.stream))?;
        self.figures.replayed += 1;
        self.figures.kernels += count as u64;
        if made {
            self.figures.made += 1;
            self.limit(at);
        }
        Ok(())
    }

    /// Launches what was collected one by one.
    fn flush(&mut self, on: On) -> Result<(), OpError> {
        self.figures.single += self.calls.len() as u64;
        let mut calls = std::mem::take(&mut self.calls);
        let result =
            calls.iter().try_for_each(|c| c.kernel.launch(on.stream, c.grid, &c.args, on.early));
        calls.clear();
        self.calls = calls;
        result
    }

    /// Lets graphs go that were not used for long, where there are too many; not the one at `at`.
    fn limit(&mut self, at: (u64, u32)) {
        let size = |k: &Known| k.graph.as_ref().map_or(0, |g| g.calls.len());
        let mut all: usize = self.known.values().map(size).sum();
        while all > MOST {
            let others = self.known.iter_mut().filter(|(k, v)| **k != at && v.graph.is_some());
            let Some((_, oldest)) = others.min_by_key(|(_, v)| v.used) else { return };
            all -= size(oldest);
            oldest.graph = None;
        }
    }
}

/// The driver's description of a kernel; `pointers` holds the addresses of its arguments.
fn params(call: &Call, pointers: &mut crate::kernel::Pointers) -> sys::CUDA_KERNEL_NODE_PARAMS {
    *pointers = call.args.pointers();
    let ([gx, gy, gz], [bx, by, bz]) = (call.grid.blocks, call.grid.threads);
    sys::CUDA_KERNEL_NODE_PARAMS {
        func: call.kernel.raw(),
        gridDimX: gx,
        gridDimY: gy,
        gridDimZ: gz,
        blockDimX: bx,
        blockDimY: by,
        blockDimZ: bz,
        sharedMemBytes: call.grid.shared,
        kernelParams: pointers.as_mut_ptr(),
        extra: std::ptr::null_mut(),
        kern: std::ptr::null_mut(),
        ctx: std::ptr::null_mut(),
    }
}

impl Graph {
    /// A graph of these kernels, or the kernels where the driver does not make it.
    fn new(calls: Vec<Call>, early: bool) -> Result<Graph, Vec<Call>> {
        let mut graph = std::ptr::null_mut();
        if cu!(cuGraphCreate(&mut graph, 0)).is_err() {
            return Err(calls);
        }
        let mut nodes = Vec::with_capacity(calls.len());
        let mut build = || -> Result<sys::CUgraphExec, OpError> {
            let mut pointers = Default::default();
            for call in &calls {
                call.kernel.prepare(call.grid)?;
                let params = params(call, &mut pointers);
                let mut node = std::ptr::null_mut();
                let (before, count) = match nodes.last() {
                    Some(before) if !early => (std::ptr::from_ref(before), 1),
                    _ => (std::ptr::null(), 0),
                };
                cu!(cuGraphAddKernelNode_v2(&mut node, graph, before, count, &params))?;
                nodes.push(node);
            }
            let (before, after) = (&nodes[..nodes.len() - 1], &nodes[1..]);
            if early {
                // The successor may begin once all blocks of a kernel said that it may.
                let edge = sys::CUgraphEdgeData {
                    from_port: 1,
                    to_port: 0,
                    type_: sys::CUgraphDependencyType::CU_GRAPH_DEPENDENCY_TYPE_PROGRAMMATIC as u8,
                    reserved: [0; 5],
                };
                let edges = vec![edge; before.len()];
                cu!(cuGraphAddDependencies_v2(
                    graph,
                    before.as_ptr(),
                    after.as_ptr(),
                    edges.as_ptr(),
                    edges.len()
                ))?;
            }
            let mut raw = std::ptr::null_mut();
            cu!(cuGraphInstantiateWithFlags(&mut raw, graph, 0))?;
            Ok(raw)
        };
        let made = build();
        // Nodes name themselves in the executable graph for as long as the graph is there.
        match made {
            Ok(raw) => Ok(Graph { raw, graph, calls: calls.into_iter().zip(nodes).collect() }),
            Err(_) => {
                let _ = cu!(cuGraphDestroy(graph));
                Err(calls)
            }
        }
    }

    /// Gives the nodes these calls' arguments, and answers how many had others.
    fn update(&mut self, calls: &mut Vec<Call>) -> Result<u64, OpError> {
        let mut changed = 0;
        let mut pointers = Default::default();
        for ((old, node), new) in self.calls.iter_mut().zip(calls.drain(..)) {
            if old.grid == new.grid && old.args == new.args {
                continue;
            }
            changed += 1;
            new.kernel.prepare(new.grid)?;
            let params = params(&new, &mut pointers);
            cu!(cuGraphExecKernelNodeSetParams_v2(self.raw, *node, &params))?;
            *old = new;
        }
        Ok(changed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ON: On = On { stream: std::ptr::null_mut(), early: false };

    /// An evaluation of `count` kernels that nothing runs; whether they were collected.
    fn evaluation(replay: &Replay, key: u64, count: usize) -> bool {
        replay.begin(key);
        let collected = replay.lock().mode == Mode::Collect;
        for _ in 0..count {
            replay.launch(ON, Kernel::none(), Grid::new(1, 32), &Args::new()).unwrap();
        }
        replay.end(ON).unwrap();
        collected
    }

    #[test]
    fn what_never_comes_again_is_launched_by_itself() {
        let replay = Replay::default();
        let mut all = 0;
        for turn in 0..2 * PATIENCE as usize {
            let count = *WORTH.start() + turn;
            let collected = evaluation(&replay, 7, count);
            // The first is only counted, and patience ends.
            assert_eq!(collected, turn > 0 && turn <= PATIENCE as usize, "turn {turn}");
            all += count as u64;
            assert_eq!(replay.figures(), Figures { single: all, ..Figures::default() });
        }
        // Too few kernels are never collected, too many not either.
        for count in [WORTH.start() - 1, WORTH.end() + 1] {
            assert!(!evaluation(&replay, count as u64, count));
            assert!(!evaluation(&replay, count as u64, count));
        }
        assert!(!evaluation(&replay, 9, 10), "another key is another evaluation");
    }

    #[test]
    fn segments_end_where_something_else_uses_the_stream() {
        let replay = Replay::default();
        let halves = |first: usize, second: usize| {
            replay.begin(3);
            let mut collected = Vec::new();
            for count in [first, second] {
                collected.push(replay.lock().mode == Mode::Collect);
                for _ in 0..count {
                    replay.launch(ON, Kernel::none(), Grid::new(1, 32), &Args::new()).unwrap();
                }
                replay.cut(ON).unwrap();
                assert!(replay.lock().calls.is_empty(), "nothing waits behind what cut it off");
            }
            replay.end(ON).unwrap();
            collected
        };
        assert_eq!(halves(3, 20), [false, false]);
        assert_eq!(halves(4, 21), [false, true]);
    }
}

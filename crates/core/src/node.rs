//! Nodes of the graph: what an array is, and the states it passes through.
//!
//! ```text
//! Lazy (operation, inputs) ──claim──▶ Claimed (ticket) ──run──▶ Ready (memory, layout)
//!                            ◀──────── run-time error
//! Failed (error): from a bad call, for ever; Consumed: its memory went into an operation that failed
//! ```
//!
//! A node that a running transform may look at keeps its operation and inputs when it is `Ready`.
//!
//! A node's shape and dtype never change. Its state sits behind a lock that is held for a few
//! instructions at a time; kernels never run under it.

use crate::control::Control;
use crate::device::choice::{Scope, current};
use crate::error::Error;
use crate::eval::Ticket;
use crate::source::ByteSource;
use crate::trace::{Trace, inherited};
use lazul_ir::{Buffer, DType, Prim, Scalar, Shape, Strides};
use smallvec::SmallVec;
use std::panic::Location;
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::sync::{Arc, Mutex, MutexGuard};

/// Inputs of an operation; up to three are stored in the node.
pub(crate) type Inputs = SmallVec<[Array; 3]>;

/// An n-dimensional array: a node of a lazy graph.
///
/// Operations build graphs and return at once; values are computed when they are read
/// ([`Array::item`], [`Array::to_vec`], printing, saving) or asked for ([`crate::eval()`]). An array has
/// no device, and cloning it copies a pointer.
///
/// A call with wrong arguments returns a *failed array*: everything built on it fails likewise, and
/// the next boundary that returns a `Result` ([`Array::check`], [`Array::shape`], `eval`, `item`)
/// reports what was wrong and on which line.
///
/// ```
/// use lazul_core::prelude::*;
/// # fn main() -> lazul_core::Result<()> {
/// let x = Array::from_slice(&[1.0f32, 2.0, 3.0, 4.0], [2, 2]);
/// let y = (&x * 2.0).sum(-1);
/// assert_eq!(y.to_vec::<f32>()?, [6.0, 14.0]);
/// # Ok(()) }
/// ```
#[must_use = "operations are lazy: an array that is never read is never computed"]
#[derive(Clone)]
pub struct Array(pub(crate) Arc<Node>);

/// What a lazy node will compute.
#[derive(Clone)]
pub(crate) enum Op {
    /// A primitive of the backends.
    Prim(Prim),
    /// Output `i` of the node's one input, which has several.
    Pick(u32),
    /// Bytes of a file.
    Load(Arc<Load>),
    /// The one input itself; gradients do not pass where `stop` is set.
    Identity { stop: bool },
    /// An argument of a function that is being looked at: it has a shape and a dtype, and no value.
    Placeholder,
    /// A function with a graph of its own, or with rules of its own.
    Control(Arc<Control>),
}

impl From<Prim> for Op {
    fn from(prim: Prim) -> Op {
        Op::Prim(prim)
    }
}

impl Op {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Op::Prim(p) => p.name(),
            Op::Pick(_) => "output",
            Op::Load(_) => "load",
            Op::Identity { stop: false } => "identity",
            Op::Identity { stop: true } => "stop_gradient",
            Op::Placeholder => "argument",
            Op::Control(c) => c.name(),
        }
    }
}

/// A range of a source that holds an array's elements, little-endian and row-major.
pub(crate) struct Load {
    pub(crate) source: Arc<dyn ByteSource>,
    pub(crate) offset: u64,
}

/// Where an evaluated array's elements are.
pub(crate) struct Data {
    pub(crate) storage: Storage,
    pub(crate) strides: Strides,
    pub(crate) offset: usize,
    /// The evaluation that it is from, where a device may yet show that to be wrong; or 0.
    pub(crate) number: u64,
}

/// The memory behind an evaluated array.
#[derive(Clone)]
pub(crate) enum Storage {
    /// A block of memory, shared with the array's views; it may have replicas on devices.
    Buffer(Buffer),
    /// One element, kept here: constants never allocate.
    Inline(Scalar),
}

impl Clone for Data {
    fn clone(&self) -> Data {
        let strides = Strides::from_slice(&self.strides);
        let (offset, number) = (self.offset, self.number);
        Data { storage: self.storage.clone(), strides, offset, number }
    }
}

impl Data {
    /// One value over a shape of `rank` axes.
    pub(crate) fn constant(value: Scalar, rank: usize) -> Data {
        let strides = Strides::from_elem(0, rank);
        Data { storage: Storage::Inline(value), strides, offset: 0, number: 0 }
    }

    /// A buffer in row-major order.
    pub(crate) fn contiguous(buffer: Buffer, shape: &Shape) -> Data {
        Data { storage: Storage::Buffer(buffer), strides: shape.strides(), offset: 0, number: 0 }
    }
}

pub(crate) enum State {
    Lazy { op: Op, inputs: Inputs },
    Claimed(Arc<Ticket>),
    Ready { data: Data, more: Box<[Data]>, from: Option<Box<Origin>> },
    Failed(Error),
    Consumed,
}

/// What an evaluated node was computed from, kept while a transform may want to know.
pub(crate) struct Origin {
    pub(crate) op: Op,
    pub(crate) inputs: Inputs,
}

pub(crate) struct Node {
    pub(crate) shape: Shape,
    pub(crate) dtype: DType,
    /// Set at construction and for ever: the array comes from a wrong call.
    pub(crate) failed: bool,
    /// Shapes and dtypes of outputs after the first, for nodes that have several.
    pub(crate) more: Box<[(Shape, DType)]>,
    pub(crate) site: &'static Location<'static>,
    /// The device that it was built for, and the stream.
    pub(crate) scope: Scope,
    /// The transform that may look at this node.
    pub(crate) trace: Option<Arc<Trace>>,
    state: Mutex<State>,
    /// Last evaluation that visited the node and the node's number in it; written and read under
    /// the claim lock only.
    pub(crate) visit: AtomicU64,
    pub(crate) number: AtomicU32,
}

impl Node {
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        // No code that can panic runs under the lock.
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }
}

/// That a primitive may rely on what it is given: see [`lazul_ir::check()`].
#[cfg(debug_assertions)]
fn assert_fits(op: &Op, inputs: &[Array], outputs: &[(Shape, DType)]) {
    if let Op::Prim(prim) = op {
        let inputs: Vec<_> = inputs.iter().map(|a| (a.0.shape.clone(), a.0.dtype)).collect();
        if let Err(error) = lazul_ir::check(prim, &inputs, outputs) {
            panic!("a node that does not fit: {error}; {prim:?} gives {outputs:?}");
        }
    }
}

impl Array {
    pub(crate) fn from_state(
        shape: Shape,
        dtype: DType,
        state: State,
        site: &'static Location<'static>,
        trace: Option<Arc<Trace>>,
    ) -> Array {
        Array(Arc::new(Node {
            shape,
            dtype,
            failed: matches!(state, State::Failed(_)),
            more: Box::default(),
            site,
            scope: current(),
            trace,
            state: Mutex::new(state),
            visit: AtomicU64::new(0),
            number: AtomicU32::new(0),
        }))
    }

    /// A lazy array.
    pub(crate) fn lazy(
        op: Op,
        inputs: Inputs,
        shape: Shape,
        dtype: DType,
        site: &'static Location<'static>,
    ) -> Array {
        #[cfg(debug_assertions)]
        assert_fits(&op, &inputs, &[(shape.clone(), dtype)]);
        let trace = inherited(&inputs);
        Array::from_state(shape, dtype, State::Lazy { op, inputs }, site, trace)
    }

    /// The array itself as a new node that carries `trace`: an argument handed to a function.
    pub(crate) fn marked(&self, trace: &Arc<Trace>) -> Array {
        if self.0.failed {
            return self.clone();
        }
        let (inputs, op) = (Inputs::from_iter([self.clone()]), Op::Identity { stop: false });
        let state = State::Lazy { op, inputs };
        let node = &self.0;
        // The mark of a transform on another thread stays.
        let trace = match &node.trace {
            Some(own) if own.is_live() => Trace::joined(trace, own),
            _ => trace.clone(),
        };
        Array::from_state(node.shape.clone(), node.dtype, state, node.site, Some(trace))
    }

    /// An argument that has no value.
    pub(crate) fn placeholder(
        shape: Shape,
        dtype: DType,
        trace: &Arc<Trace>,
        site: &'static Location<'static>,
    ) -> Array {
        let state = State::Lazy { op: Op::Placeholder, inputs: Inputs::new() };
        Array::from_state(shape, dtype, state, site, Some(trace.clone()))
    }

    /// The outputs of an operation that has several.
    pub(crate) fn lazy_many(
        op: impl Into<Op>,
        inputs: Inputs,
        outputs: &[(Shape, DType)],
        site: &'static Location<'static>,
    ) -> Vec<Array> {
        if outputs.is_empty() {
            return Vec::new();
        }
        let group = Array::group(op.into(), inputs, outputs, site);
        (0..outputs.len()).map(|i| group.pick(i)).collect()
    }

    /// A node that has all of these outputs; at least one.
    pub(crate) fn group(
        op: Op,
        inputs: Inputs,
        outputs: &[(Shape, DType)],
        site: &'static Location<'static>,
    ) -> Array {
        #[cfg(debug_assertions)]
        assert_fits(&op, &inputs, outputs);
        let (first, rest) = (&outputs[0], &outputs[1..]);
        let trace = inherited(&inputs);
        Array(Arc::new(Node {
            shape: first.0.clone(),
            dtype: first.1,
            failed: false,
            more: rest.into(),
            site,
            scope: current(),
            trace,
            state: Mutex::new(State::Lazy { op, inputs }),
            visit: AtomicU64::new(0),
            number: AtomicU32::new(0),
        }))
    }

    /// Output `i` of a node that has several.
    pub(crate) fn pick(&self, i: usize) -> Array {
        let node = &self.0;
        let (shape, dtype) = match i.checked_sub(1) {
            None => (node.shape.clone(), node.dtype),
            Some(i) => node.more[i].clone(),
        };
        let inputs = Inputs::from_iter([self.clone()]);
        Array::lazy(Op::Pick(i as u32), inputs, shape, dtype, node.site)
    }

    /// What the node is, or was, computed from; `None` if it has forgotten or never was.
    pub(crate) fn origin(&self) -> Option<(Op, Inputs)> {
        loop {
            let ticket = match &*self.0.lock() {
                State::Lazy { op, inputs } => return Some((op.clone(), inputs.clone())),
                State::Ready { from, .. } => {
                    return from.as_ref().map(|o| (o.op.clone(), o.inputs.clone()));
                }
                State::Claimed(ticket) => ticket.clone(),
                State::Failed(_) | State::Consumed => return None,
            };
            // A failed evaluation leaves the node lazy again.
            let _ = ticket.wait();
        }
    }

    /// Forgets what an evaluated node was computed from, if no transform looks at it any more.
    pub(crate) fn forget(&self) {
        if self.0.trace.as_ref().is_some_and(|t| t.is_live()) {
            return;
        }
        let forgotten = match &mut *self.0.lock() {
            State::Ready { from, .. } => from.take(),
            _ => None,
        };
        // Dropped after the lock is: it may be the last hold on a long chain.
        drop(forgotten);
    }

    /// An array that is there already.
    pub(crate) fn ready(
        shape: Shape,
        dtype: DType,
        data: Data,
        site: &'static Location<'static>,
    ) -> Array {
        let state = State::Ready { data, more: Box::default(), from: None };
        Array::from_state(shape, dtype, state, site, None)
    }

    /// A failed array.
    pub(crate) fn fail(error: Error, site: &'static Location<'static>) -> Array {
        let mut error = error.at(site);
        if let Some(path) = crate::scope::current() {
            error = error.scope(&path);
        }
        if strict() {
            panic!("{error}");
        }
        Array::from_state(Shape::scalar(), DType::F32, State::Failed(error), site, None)
    }

    pub(crate) fn is_ready(&self) -> bool {
        matches!(*self.0.lock(), State::Ready { .. })
    }
}

/// Whether `LAZUL_STRICT=1` asks for a panic at the call that was wrong.
fn strict() -> bool {
    static STRICT: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
    *STRICT.get_or_init(|| std::env::var("LAZUL_STRICT").is_ok_and(|v| v == "1"))
}

/// Graphs may be millions of nodes deep, so a node takes its inputs apart in a loop, not by
/// recursion.
impl Drop for Node {
    fn drop(&mut self) {
        let Some(inputs) = inputs_of(&mut self.state) else { return };
        if inputs.is_empty() {
            return;
        }
        let mut stack: Vec<Array> = inputs.drain(..).collect();
        while let Some(array) = stack.pop() {
            // Exactly one of several owners dropping at once gets the node here.
            if let Some(mut node) = Arc::into_inner(array.0)
                && let Some(inputs) = inputs_of(&mut node.state)
            {
                stack.extend(inputs.drain(..));
            }
        }
    }
}

fn inputs_of(state: &mut Mutex<State>) -> Option<&mut Inputs> {
    match state.get_mut().unwrap_or_else(|e| e.into_inner()) {
        State::Lazy { inputs, .. } => Some(inputs),
        State::Ready { from: Some(origin), .. } => Some(&mut origin.inputs),
        _ => None,
    }
}

//! Nodes of the graph: what an array is, and the states it passes through.
//!
//! ```text
//! Lazy (operation, inputs) ──claim──▶ Claimed (ticket) ──run──▶ Ready (memory, layout)
//!                            ◀──────── run-time error
//! Failed (error): from a bad call, for ever; Consumed: its memory went into an operation that failed
//! ```
//!
//! A node's shape and dtype never change. Its state sits behind a lock that is held for a few
//! instructions at a time; kernels never run under it.

use crate::error::Error;
use crate::eval::Ticket;
use crate::source::ByteSource;
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
    Pick(u8),
    /// Bytes of a file.
    Load(Arc<Load>),
}

impl Op {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Op::Prim(p) => p.name(),
            Op::Pick(_) => "output",
            Op::Load(_) => "load",
        }
    }
}

/// A range of a source that holds an array's elements, little-endian and row-major.
pub(crate) struct Load {
    pub(crate) source: Arc<dyn ByteSource>,
    pub(crate) offset: u64,
}

/// Where an evaluated array's elements are.
#[derive(Clone)]
pub(crate) struct Data {
    pub(crate) storage: Storage,
    pub(crate) strides: Strides,
    pub(crate) offset: usize,
}

/// The memory behind an evaluated array.
#[derive(Clone)]
pub(crate) enum Storage {
    /// A block of memory, shared with the array's views.
    Buffer(Buffer),
    /// One element, kept here: constants never allocate.
    Inline(Scalar),
}

impl Data {
    /// One value over a shape of `rank` axes.
    pub(crate) fn constant(value: Scalar, rank: usize) -> Data {
        Data { storage: Storage::Inline(value), strides: Strides::from_elem(0, rank), offset: 0 }
    }

    /// A buffer in row-major order.
    pub(crate) fn contiguous(buffer: Buffer, shape: &Shape) -> Data {
        Data { storage: Storage::Buffer(buffer), strides: shape.strides(), offset: 0 }
    }

    /// The address of the element at index `(0, …, 0)`, valid while `self` stays where it is.
    pub(crate) fn ptr(&self, dtype: DType) -> *mut u8 {
        match &self.storage {
            // An empty array's offset may lie past a buffer's end; its address is never read.
            Storage::Buffer(b) => b.ptr().wrapping_add(self.offset * dtype.size()),
            Storage::Inline(value) => (&raw const value.bits) as *mut u8,
        }
    }
}

pub(crate) enum State {
    Lazy { op: Op, inputs: Inputs },
    Claimed(Arc<Ticket>),
    Ready { data: Data, more: Box<[Data]> },
    Failed(Error),
    Consumed,
}

pub(crate) struct Node {
    pub(crate) shape: Shape,
    pub(crate) dtype: DType,
    /// Set at construction and for ever: the array comes from a wrong call.
    pub(crate) failed: bool,
    /// Shapes and dtypes of outputs after the first, for nodes that have several.
    pub(crate) more: Box<[(Shape, DType)]>,
    pub(crate) site: &'static Location<'static>,
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

impl Array {
    pub(crate) fn from_state(
        shape: Shape,
        dtype: DType,
        state: State,
        site: &'static Location<'static>,
    ) -> Array {
        Array(Arc::new(Node {
            shape,
            dtype,
            failed: matches!(state, State::Failed(_)),
            more: Box::default(),
            site,
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
        Array::from_state(shape, dtype, State::Lazy { op, inputs }, site)
    }

    /// The outputs of an operation that has several.
    pub(crate) fn lazy_many(
        prim: Prim,
        inputs: Inputs,
        outputs: &[(Shape, DType)],
        site: &'static Location<'static>,
    ) -> Vec<Array> {
        let (first, rest) = (&outputs[0], &outputs[1..]);
        let group = Array(Arc::new(Node {
            shape: first.0.clone(),
            dtype: first.1,
            failed: false,
            more: rest.into(),
            site,
            state: Mutex::new(State::Lazy { op: Op::Prim(prim), inputs }),
            visit: AtomicU64::new(0),
            number: AtomicU32::new(0),
        }));
        outputs
            .iter()
            .enumerate()
            .map(|(i, (shape, dtype))| {
                let inputs = Inputs::from_iter([group.clone()]);
                Array::lazy(Op::Pick(i as u8), inputs, shape.clone(), *dtype, site)
            })
            .collect()
    }

    /// An array that is there already.
    pub(crate) fn ready(
        shape: Shape,
        dtype: DType,
        data: Data,
        site: &'static Location<'static>,
    ) -> Array {
        Array::from_state(shape, dtype, State::Ready { data, more: Box::default() }, site)
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
        Array::from_state(Shape::scalar(), DType::F32, State::Failed(error), site)
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
        let State::Lazy { inputs, .. } = self.state.get_mut().unwrap_or_else(|e| e.into_inner())
        else {
            return;
        };
        if inputs.is_empty() {
            return;
        }
        let mut stack: Vec<Array> = inputs.drain(..).collect();
        while let Some(array) = stack.pop() {
            // Exactly one of several owners dropping at once gets the node here.
            if let Some(mut node) = Arc::into_inner(array.0)
                && let State::Lazy { inputs, .. } =
                    node.state.get_mut().unwrap_or_else(|e| e.into_inner())
            {
                stack.extend(inputs.drain(..));
            }
        }
    }
}

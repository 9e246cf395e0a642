//! Which nodes a running transform may still want to look at.
//!
//! A transform marks the arrays that it hands to a user's function, and whatever is built on a marked
//! array inherits the mark: the innermost (highest) one of its inputs. A marked node keeps its
//! operation and inputs when it is evaluated, so that the transform can walk over it afterwards. When
//! the transform ends its mark is dead; new nodes then inherit the nearest enclosing transform that
//! still runs, or none. Nothing here is a global switch: arrays of other threads, and arrays that do
//! not depend on a transform's arguments, are not touched by it.

use crate::node::Array;
use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

/// One run of a transform.
pub(crate) struct Trace {
    /// Later runs have higher numbers, so what depends on this one's arguments carries a mark that
    /// is at least this one's.
    pub(crate) id: u64,
    parent: Option<Arc<Trace>>,
    live: AtomicBool,
}

thread_local! {
    static CURRENT: RefCell<Vec<Arc<Trace>>> = const { RefCell::new(Vec::new()) };
}

impl Trace {
    /// The innermost run, of this and those around it, that has not ended.
    fn live(self: &Arc<Trace>) -> Option<&Arc<Trace>> {
        let mut trace = Some(self);
        while let Some(t) = trace {
            if t.live.load(Relaxed) {
                return Some(t);
            }
            trace = t.parent.as_ref();
        }
        None
    }

    /// Whether this run, or one around it, has not ended.
    pub(crate) fn is_live(self: &Arc<Trace>) -> bool {
        self.live().is_some()
    }
}

/// A run of a transform on this thread; it ends when this is dropped.
pub(crate) struct Running(pub(crate) Arc<Trace>);

impl Running {
    pub(crate) fn start() -> Running {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let parent = CURRENT.with_borrow(|c| c.last().cloned());
        let id = NEXT.fetch_add(1, Relaxed);
        let trace = Arc::new(Trace { id, parent, live: AtomicBool::new(true) });
        CURRENT.with_borrow_mut(|c| c.push(trace.clone()));
        Running(trace)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.live.store(false, Relaxed);
        // Runs end in the opposite order of their starts, unless one was sent to another thread.
        CURRENT.with_borrow_mut(|c| c.retain(|t| t.id != self.0.id));
    }
}

/// The mark of a node with these inputs.
#[inline]
pub(crate) fn inherited(inputs: &[Array]) -> Option<Arc<Trace>> {
    let mut best: Option<&Arc<Trace>> = None;
    for input in inputs {
        if let Some(trace) = &input.0.trace
            && best.is_none_or(|b| b.id < trace.id)
            && let Some(live) = trace.live()
            && best.is_none_or(|b| b.id < live.id)
        {
            best = Some(live);
        }
    }
    best.cloned()
}

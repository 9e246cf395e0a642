//! Which nodes a running transform may still want to look at.
//!
//! A transform marks the arrays that it hands to a user's function, and whatever is built on a marked
//! array inherits the mark: the innermost (highest) one of its inputs, or one that stands for several
//! where neither transform runs within the other. A marked node keeps its operation and inputs when it
//! is evaluated, so that the transform can walk over it afterwards. When the transform ends its mark is
//! dead; new nodes then inherit the nearest enclosing transform that still runs, or none. Nothing here is
//! a global switch: arrays of other threads, and arrays that do not depend on a transform's arguments, are
//! not touched by it.

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
    live: Arc<AtomicBool>,
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

    /// Whether every run that `other` and those around it stand for is one of these too.
    fn covers(&self, other: &Trace) -> bool {
        let mut ours = Some(self);
        let mut theirs = Some(other);
        while let Some(t) = theirs {
            while ours.is_some_and(|o| o.id > t.id) {
                ours = ours.and_then(|o| o.parent.as_deref());
            }
            match ours {
                Some(o) if std::ptr::eq(o, t) => return true,
                Some(o) if o.id == t.id => theirs = t.parent.as_deref(),
                _ if !t.live.load(Relaxed) => theirs = t.parent.as_deref(),
                _ => return false,
            }
        }
        true
    }

    /// A mark that stands for both. Runs on one thread are one around the other, and then it is the
    /// inner one; a run on another thread knows nothing of those here.
    pub(crate) fn joined(a: &Arc<Trace>, b: &Arc<Trace>) -> Arc<Trace> {
        if a.covers(b) {
            return a.clone();
        }
        if b.covers(a) {
            return b.clone();
        }
        let mut all: Vec<&Trace> = Vec::new();
        for first in [a, b] {
            let mut next = Some(&**first);
            while let Some(t) = next {
                all.extend(Some(t).filter(|t| t.live.load(Relaxed)));
                next = t.parent.as_deref();
            }
        }
        all.sort_by_key(|t| t.id);
        all.dedup_by_key(|t| t.id);
        let around =
            |parent, t: &&Trace| Some(Arc::new(Trace { id: t.id, parent, live: t.live.clone() }));
        all.iter().fold(None, around).unwrap_or_else(|| a.clone())
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
        let trace = Arc::new(Trace { id, parent, live: Arc::new(AtomicBool::new(true)) });
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
    let mut best: Option<Arc<Trace>> = None;
    for input in inputs {
        if let Some(trace) = &input.0.trace
            && let Some(live) = trace.live()
        {
            best = Some(match best {
                Some(best) if Arc::ptr_eq(&best, live) => best,
                Some(best) => Trace::joined(&best, live),
                None => live.clone(),
            });
        }
    }
    best
}

//! What is made of Python's functions: calling them with other arrays, exceptions on their way through core, how
//! deep calls may nest.

use crate::array::PyArray;
use crate::tree::PyTree;
use lazul_core::{Array, Error, ErrorKind};
use pyo3::exceptions::{PyRecursionError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use std::cell::{Cell, RefCell};

/// Exceptions of Python's functions on their way through core's transforms, which know only core's errors.
pub(crate) mod stash {
    use super::{Error, ErrorKind, PyErr, RefCell};
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

    const OP: &str = "python";
    const FEW: usize = 8;

    thread_local! {
        static ALL: RefCell<Vec<(String, PyErr)>> = const { RefCell::new(Vec::new()) };
    }

    /// An error that stands for an exception.
    pub(crate) fn put(exception: PyErr) -> Error {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = format!("exception {} of a function: {exception}", NEXT.fetch_add(1, Relaxed));
        let oldest = ALL.with_borrow_mut(|all| {
            // Those that nobody asked for go, the oldest first.
            let oldest = (all.len() >= FEW).then(|| all.remove(0));
            all.push((name.clone(), exception));
            oldest
        });
        // An exception that goes may run any code, that of a transform too.
        drop(oldest);
        Error::new(ErrorKind::Value, OP, name)
    }

    /// The exception that an error stands for.
    pub(crate) fn take(error: &Error) -> Option<PyErr> {
        if error.op() != OP {
            return None;
        }
        ALL.with_borrow_mut(|all| {
            let at = all.iter().position(|(name, _)| name == error.message())?;
            Some(all.remove(at).1)
        })
    }
}

/// A call of a transformed function within others. Each takes much of the thread's native stack, which Python's own
/// limit of recursion does not know of.
pub(crate) struct Deeper(());

thread_local! {
    static DEPTH: Cell<usize> = const { Cell::new(0) };
}

impl Deeper {
    const DEEPEST: usize = 64;

    pub(crate) fn enter() -> PyResult<Deeper> {
        if DEPTH.get() >= Deeper::DEEPEST {
            let why = format!("transformed functions are nested deeper than {}", Deeper::DEEPEST);
            return Err(PyRecursionError::new_err(why));
        }
        DEPTH.set(DEPTH.get() + 1);
        Ok(Deeper(()))
    }
}

impl Drop for Deeper {
    fn drop(&mut self) {
        DEPTH.set(DEPTH.get() - 1);
    }
}

/// Always true. Python may look for garbage while it makes the dict of an object whose fields are still zeros: this
/// one tells `__traverse__` whether the others are there.
#[derive(Clone, Copy)]
pub(crate) struct Made(pub(crate) bool);

pub(crate) fn callable(fun: &Bound<'_, PyAny>, what: &str) -> PyResult<()> {
    if fun.is_callable() {
        return Ok(());
    }
    let kind = fun.get_type();
    Err(PyTypeError::new_err(format!("{what}: a function is expected, not {}", kind.name()?)))
}

/// Handles that a function was called with, which hold what they held before once it is done: the function may
/// have kept them.
#[derive(Default)]
pub(crate) struct Lent(Vec<(Py<PyArray>, Array, Array)>);

impl Lent {
    pub(crate) fn give(&mut self, handle: &Bound<'_, PyArray>, original: Array) {
        self.0.push((handle.clone().unbind(), handle.get().array(), original));
    }

    pub(crate) fn back(self) {
        for (handle, lent, original) in self.0 {
            if handle.get().array().ptr_eq(&lent) {
                handle.get().set(original);
            }
        }
    }
}

/// Calls a function with trees whose arrays are others, and takes from the result what is wanted while handles hold
/// those arrays: the function may give back what it was given.
pub(crate) fn call<'py, R>(
    py: Python<'py>,
    fun: &Py<PyAny>,
    tree: &PyTree,
    originals: &[Array],
    take: impl FnOnce(Bound<'py, PyAny>) -> PyResult<R>,
) -> PyResult<R> {
    let mut lent = Lent::default();
    let mut next = originals.iter();
    let both = tree.object(py, |handle| {
        if let Some(original) = next.next() {
            lent.give(handle, original.clone());
        }
    })?;
    let (args, kwargs): (Bound<'py, PyTuple>, Bound<'py, PyDict>) = both.extract()?;
    let result = fun.bind(py).call(args, Some(&kwargs)).and_then(take);
    lent.back();
    result
}

/// A transformed function in a class is a method, as a function is.
pub(crate) fn bound_method<'py>(
    function: Bound<'py, PyAny>,
    object: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    match object {
        Some(object) if !object.is_none() => {
            let method = function.py().import("types")?.getattr("MethodType")?;
            method.call1((function, object))
        }
        _ => Ok(function),
    }
}

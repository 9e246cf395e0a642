//! Compiled functions. Python's captured state (`inputs=`, `outputs=`) is the explicit state of core's: before a
//! trace its handles are made to hold placeholders, and after a call its containers get the results.

use crate::array::PyArray;
use crate::error::OrRaise;
use crate::function::{Deeper, Made, bound_method, call, stash};
use crate::random;
use crate::tree::{self, PyTree, Snapshot};
use lazul_core::{Array, Tree};
use pyo3::exceptions::{PyRuntimeError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// The captured arrays, and by what trees of them are told apart.
#[derive(Clone)]
struct State {
    leaves: Vec<Array>,
    words: Vec<u64>,
}

impl Tree for State {
    fn visit<'a>(&'a self, f: &mut dyn FnMut(&'a Array)) {
        self.leaves.iter().for_each(f);
    }
    fn visit_mut(&mut self, f: &mut dyn FnMut(&mut Array)) {
        self.leaves.iter_mut().for_each(f);
    }
    fn structure(&self, words: &mut Vec<u64>) {
        words.push(self.leaves.len() as u64);
        words.extend_from_slice(&self.words);
    }
}

type Step = Box<dyn Fn(&mut State, &PyTree) -> lazul_core::Result<PyTree> + Send + Sync>;

/// What the function and its captures are, shared with the traced form.
struct Parts {
    fun: Py<PyAny>,
    inputs: Option<Py<PyAny>>,
    outputs: Option<Py<PyAny>>,
    /// Whether the function draws random numbers without a key, so that the state of the generator is state of
    /// the function.
    draws: AtomicBool,
}

thread_local! {
    /// The running calls, the innermost last.
    static CALLS: RefCell<Vec<Call>> = const { RefCell::new(Vec::new()) };
}

/// A running call: the arrays that its arguments hold and, if it traced, what the captures were before.
struct Call {
    originals: Vec<Array>,
    before: Option<Snapshot>,
}

impl Parts {
    /// The trees that are captured: what the user said, and the generator.
    fn captured(&self, py: Python<'_>, tree: &Option<Py<PyAny>>) -> PyResult<Vec<Py<PyArray>>> {
        let mut all = match tree {
            Some(tree) => tree::handles(tree.bind(py))?,
            None => Vec::new(),
        };
        if self.draws.load(Relaxed) {
            let state = random::state(py)?;
            let generator = tree::handles(state.as_any())?;
            let there = generator.iter().any(|g| all.iter().any(|h| h.is(g)));
            if !there {
                all.extend(generator);
            }
        }
        Ok(all)
    }

    /// Puts results into the captured outputs.
    fn store(&self, py: Python<'_>, arrays: &[Array]) -> PyResult<()> {
        let own = match &self.outputs {
            Some(tree) => {
                let n = tree::handles(tree.bind(py))?.len();
                tree::assign(tree.bind(py), arrays)?;
                n
            }
            None => 0,
        };
        if let [key] = &arrays[own.min(arrays.len())..] {
            tree::assign(random::state(py)?.as_any(), std::slice::from_ref(key))?;
        }
        Ok(())
    }

    /// Keeps what the captures are before the running call's first trace, and puts it back before others: a trace
    /// leaves its placeholders in the containers.
    fn begin(&self, py: Python<'_>) -> PyResult<Vec<Array>> {
        let (originals, before) = CALLS.with_borrow_mut(|all| match all.last_mut() {
            Some(call) => (call.originals.clone(), call.before.take()),
            None => (Vec::new(), None),
        });
        let before = match before {
            Some(before) => {
                before.put_back(py)?;
                before
            }
            None => {
                let mut now = Snapshot::default();
                for tree in [&self.inputs, &self.outputs].into_iter().flatten() {
                    now.add(tree.bind(py))?;
                }
                now
            }
        };
        CALLS.with_borrow_mut(|all| {
            if let Some(call) = all.last_mut() {
                call.before = Some(before);
            }
        });
        Ok(originals)
    }

    /// Calls the function with its captures holding the arrays of `state`.
    fn trace(&self, py: Python<'_>, state: &mut State, argument: &PyTree) -> PyResult<PyTree> {
        let originals = self.begin(py)?;
        let handles = self.captured(py, &self.inputs)?;
        let before: Vec<Array> = handles.iter().map(|h| h.get().array()).collect();
        for (handle, array) in handles.iter().zip(&state.leaves) {
            handle.get().set(array.clone());
        }
        let draws = random::draws();
        let result = call(py, &self.fun, argument, &originals, |r| {
            let outputs = self.captured(py, &self.outputs)?;
            let made: Vec<Array> = outputs.iter().map(|h| h.get().array()).collect();
            Ok((PyTree::of(&r)?, made))
        });
        // What the handles of the inputs held is theirs again; results come with the end of the call.
        for (handle, array) in handles.iter().zip(before) {
            handle.get().set(array);
        }
        let (result, made) = result?;
        state.leaves = made;
        let drew = random::draws() != draws;
        if drew && !self.draws.load(Relaxed) && !self.captures_generator(py)? {
            self.draws.store(true, Relaxed);
            return Err(PyRuntimeError::new_err(AGAIN));
        }
        Ok(result)
    }

    fn captures_generator(&self, py: Python<'_>) -> PyResult<bool> {
        let generator = tree::handles(random::state(py)?.as_any())?;
        let inside = |tree: &Option<Py<PyAny>>| -> PyResult<bool> {
            let Some(tree) = tree else { return Ok(false) };
            let all = tree::handles(tree.bind(py))?;
            Ok(generator.iter().any(|g| all.iter().any(|h| h.is(g))))
        };
        Ok(inside(&self.inputs)? || inside(&self.outputs)?)
    }
}

/// Says that a trace has to be made again with the generator as state.
const AGAIN: &str = "the trace is made again with the random state";

/// A compiled function; called like the function itself.
#[pyclass(module = "lazul.core", frozen, dict, weakref)]
pub(crate) struct Compiled {
    parts: std::sync::Arc<Parts>,
    step: Step,
    made: Made,
}

#[pymethods]
impl Compiled {
    #[pyo3(signature = (*args, **kwargs))]
    fn __call__<'py>(
        &self,
        py: Python<'py>,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let _deeper = Deeper::enter()?;
        let kwargs = kwargs.cloned().unwrap_or_else(|| PyDict::new(py));
        let both = PyTuple::new(py, [args.as_any().clone(), kwargs.into_any()])?;
        let argument = PyTree::of(both.as_any())?;
        // Twice at most: the second time the generator is captured.
        for _ in 0..2 {
            let handles = self.parts.captured(py, &self.parts.inputs)?;
            let leaves: Vec<Array> = handles.iter().map(|h| h.get().array()).collect();
            drop(handles);
            let mut words = vec![self.parts.draws.load(Relaxed) as u64];
            if let Some(tree) = &self.parts.inputs {
                PyTree::of(tree.bind(py))?.structure(&mut words);
            }
            let mut state = State { leaves, words };
            let call = Call { originals: argument.leaves.clone(), before: None };
            CALLS.with_borrow_mut(|all| all.push(call));
            // The step may wait for an evaluation of another thread, which may wait for the interpreter.
            let done = py.detach(|| (self.step)(&mut state, &argument));
            let call = CALLS.with_borrow_mut(|all| all.pop());
            let done = done.or_raise();
            if let (Err(_), Some(before)) = (&done, call.and_then(|call| call.before)) {
                before.put_back(py)?;
            }
            match done {
                Ok(result) => {
                    self.parts.store(py, &state.leaves)?;
                    return result.object(py, |_| {});
                }
                Err(e) if e.is_instance_of::<PyRuntimeError>(py) && e.value(py).str()? == AGAIN => {
                }
                Err(e) => return Err(e),
            }
        }
        Err(PyRuntimeError::new_err("compile: the function captured its random state in vain"))
    }

    /// The function that was compiled.
    #[getter]
    fn __wrapped__(&self, py: Python<'_>) -> Py<PyAny> {
        self.parts.fun.clone_ref(py)
    }

    fn __get__<'py>(
        slf: Bound<'py, Self>,
        object: Option<&Bound<'py, PyAny>>,
        _class: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        bound_method(slf.into_any(), object)
    }

    fn __traverse__(&self, visit: pyo3::PyVisit<'_>) -> Result<(), pyo3::PyTraverseError> {
        if !self.made.0 {
            return Ok(());
        }
        visit.call(&self.parts.fun)?;
        visit.call(&self.parts.inputs)?;
        visit.call(&self.parts.outputs)
    }
}

/// A function that runs as one step: it is called once for each structure, shapes and dtypes of its arguments, and
/// what it built is run from then on.
///
/// Args:
///     fun: the function.
///     inputs (list or dict, optional): arrays that the function reads besides its arguments and that change from
///         call to call. Others that it reads are constants.
///     outputs (list or dict, optional): arrays that the function changes.
///     shapeless (bool): whether the function is called for few sizes of its arguments only.
///
/// Random numbers without a key are new ones in every call.
///
/// >>> mx.compile(lambda x: mx.exp(x) + 1)(mx.array(0.0))
/// array(2, dtype=float32)
#[pyfunction]
#[pyo3(signature = (fun, inputs=None, outputs=None, shapeless=false))]
fn compile(
    fun: &Bound<'_, PyAny>,
    inputs: Option<Py<PyAny>>,
    outputs: Option<Py<PyAny>>,
    shapeless: bool,
) -> PyResult<Compiled> {
    if !fun.is_callable() {
        let kind = fun.get_type();
        return Err(PyTypeError::new_err(format!(
            "compile: a function is expected, not {}",
            kind.name()?
        )));
    }
    let draws = AtomicBool::new(false);
    let fun = fun.clone().unbind();
    let parts = std::sync::Arc::new(Parts { fun, inputs, outputs, draws });
    let own = parts.clone();
    let f = move |state: &mut State, argument: &PyTree| -> lazul_core::Result<PyTree> {
        Python::attach(|py| own.trace(py, state, argument)).map_err(stash::put)
    };
    let step: Step = match shapeless {
        true => Box::new(lazul_core::compile_shapeless_with_state(f)),
        false => Box::new(lazul_core::compile_with_state(f)),
    };
    Ok(Compiled { parts, step, made: Made(true) })
}

/// Lets compiled functions call the functions themselves, so that values can be read within them.
///
/// >>> mx.disable_compile()
/// >>> mx.enable_compile()
#[pyfunction]
fn disable_compile() {
    lazul_core::set_compiling(false);
}

/// Lets compiled functions run as one step again.
///
/// >>> mx.enable_compile()
#[pyfunction]
fn enable_compile() {
    lazul_core::set_compiling(true);
}

pub(crate) fn add(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<Compiled>()?;
    m.add_function(wrap_pyfunction!(compile, m)?)?;
    m.add_function(wrap_pyfunction!(disable_compile, m)?)?;
    m.add_function(wrap_pyfunction!(enable_compile, m)?)
}

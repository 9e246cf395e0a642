//! Functions of Python's with derivative and batching rules of their own.

use crate::error::OrRaise;
use crate::function::{Deeper, Made, bound_method, call, callable, stash};
use crate::transforms::axes_of;
use crate::tree::{self, PyTree};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use std::sync::{Arc, Mutex};

/// A function that may have its own vjp, jvp and vmap: a decorator.
///
/// >>> @mx.custom_function
/// ... def f(x):
/// ...     return x * 2
/// >>> @f.vjp
/// ... def f_vjp(primals, cotangent, output):
/// ...     return cotangent * 5
/// >>> mx.grad(f)(mx.array(1.0))
/// array(5, dtype=float32)
#[pyclass(name = "custom_function", module = "lazul.core", frozen, dict, weakref)]
pub(crate) struct CustomFunction {
    fun: Py<PyAny>,
    rules: Mutex<Rules>,
    made: Made,
}

#[derive(Clone, Default)]
struct Rules {
    vjp: Option<Arc<Py<PyAny>>>,
    jvp: Option<Arc<Py<PyAny>>>,
    vmap: Option<Arc<Py<PyAny>>>,
}

impl CustomFunction {
    fn rules(&self) -> std::sync::MutexGuard<'_, Rules> {
        self.rules.lock().unwrap_or_else(|e| e.into_inner())
    }
}

/// One argument alone, or all of them as a tuple: how rules get primals.
fn unwrapped<'py>(both: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let (args, _): (Bound<'py, PyTuple>, Bound<'py, PyAny>) = both.extract()?;
    if args.len() == 1 { args.get_item(0) } else { Ok(args.into_any()) }
}

/// What a rule gave, in the tree that it goes with.
fn matched(given: &Bound<'_, PyAny>, like: &PyTree, rule: &str) -> PyResult<PyTree> {
    let leaves = tree::arrays(given)?;
    if leaves.len() != like.leaves.len() {
        let why = format!(
            "[custom_function] the {rule} gave {} arrays instead of {}",
            leaves.len(),
            like.leaves.len()
        );
        return Err(PyValueError::new_err(why));
    }
    Ok(like.with(leaves))
}

#[pymethods]
impl CustomFunction {
    #[new]
    fn new(f: Bound<'_, PyAny>) -> PyResult<CustomFunction> {
        callable(&f, "custom_function")?;
        Ok(CustomFunction { fun: f.unbind(), rules: Mutex::default(), made: Made(true) })
    }

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
        let at = PyTree::of(both.as_any())?;
        let originals = at.leaves.clone();
        let output: Arc<Mutex<Option<PyTree>>> = Arc::default();
        let f = |tree: &PyTree| -> lazul_core::Result<PyTree> {
            let result = call(py, &self.fun, tree, &originals, |r| PyTree::of(&r));
            let result = result.map_err(stash::put)?;
            *output.lock().unwrap_or_else(|e| e.into_inner()) = Some(result.clone());
            Ok(result)
        };
        let rules = self.rules().clone();
        let mut custom = lazul_core::custom_function(f);
        if let Some(rule) = rules.vjp {
            custom = custom.vjp(move |p: &PyTree, c: &PyTree, o: &PyTree| {
                Python::attach(|py| -> PyResult<PyTree> {
                    let primals = unwrapped(p.object(py, |_| {})?)?;
                    let (c, o) = (c.object(py, |_| {})?, o.object(py, |_| {})?);
                    matched(&rule.bind(py).call1((primals, c, o))?, p, "vjp")
                })
                .map_err(stash::put)
            });
        }
        if let Some(rule) = rules.jvp {
            let output = output.clone();
            custom = custom.jvp(move |p: &PyTree, t: &PyTree| {
                Python::attach(|py| -> PyResult<PyTree> {
                    let primals = unwrapped(p.object(py, |_| {})?)?;
                    let tangents = unwrapped(t.object(py, |_| {})?)?;
                    let given = rule.bind(py).call1((primals, tangents))?;
                    let like = output.lock().unwrap_or_else(|e| e.into_inner()).clone();
                    let like =
                        like.ok_or_else(|| PyValueError::new_err("[custom_function] no result"))?;
                    matched(&given, &like, "jvp")
                })
                .map_err(stash::put)
            });
        }
        if let Some(rule) = rules.vmap {
            let output = output.clone();
            custom = custom.vmap(move |a: &PyTree, batched: &[bool], size: usize| {
                Python::attach(|py| -> PyResult<PyTree> {
                    let inputs = unwrapped(a.object(py, |_| {})?)?;
                    let axes: Vec<Option<i64>> = batched.iter().map(|&b| b.then_some(0)).collect();
                    let axes = if axes.len() == 1 {
                        axes[0].into_pyobject(py)?
                    } else {
                        PyTuple::new(py, axes)?.into_any()
                    };
                    let (given, out): (Bound<'_, PyAny>, Bound<'_, PyAny>) =
                        rule.bind(py).call1((inputs, axes))?.extract()?;
                    let like = output.lock().unwrap_or_else(|e| e.into_inner()).clone();
                    let like =
                        like.ok_or_else(|| PyValueError::new_err("[custom_function] no result"))?;
                    let mut found = matched(&given, &like, "vmap")?;
                    let mut where_to = Vec::new();
                    axes_of(&out, &given, &mut where_to, 0)?;
                    for (leaf, axis) in found.leaves.iter_mut().zip(where_to) {
                        *leaf = match axis {
                            Some(axis) => leaf.moveaxis(axis, 0),
                            None => {
                                let mut shape = vec![size];
                                shape.extend(leaf.shape().or_raise()?);
                                leaf.broadcast_to(shape)
                            }
                        };
                    }
                    Ok(found)
                })
                .map_err(stash::put)
            });
        }
        custom.call(&at).or_raise()?.object(py, |_| {})
    }

    /// Sets ``f(primals, cotangents, outputs)`` for the cotangents of the primals: a decorator.
    fn vjp(&self, py: Python<'_>, f: Py<PyAny>) -> Py<PyAny> {
        self.rules().vjp = Some(Arc::new(f.clone_ref(py)));
        f
    }

    /// Sets ``f(primals, tangents)`` for the tangents of the outputs: a decorator.
    fn jvp(&self, py: Python<'_>, f: Py<PyAny>) -> Py<PyAny> {
        self.rules().jvp = Some(Arc::new(f.clone_ref(py)));
        f
    }

    /// Sets ``f(inputs, axes)`` for the outputs over a batch and their axes: a decorator.
    fn vmap(&self, py: Python<'_>, f: Py<PyAny>) -> Py<PyAny> {
        self.rules().vmap = Some(Arc::new(f.clone_ref(py)));
        f
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
        visit.call(&self.fun)?;
        // Rules that a graph holds too, or that are just being changed, are not this object's alone.
        if let Ok(rules) = self.rules.try_lock() {
            for rule in [&rules.vjp, &rules.jvp, &rules.vmap].into_iter().flatten() {
                if Arc::strong_count(rule) == 1 {
                    visit.call(&**rule)?;
                }
            }
        }
        Ok(())
    }

    fn __clear__(&self) {
        let rules = std::mem::take(&mut *self.rules());
        drop(rules);
    }
}

pub(crate) fn add(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<CustomFunction>()
}

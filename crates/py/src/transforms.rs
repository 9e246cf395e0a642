//! Function transforms of Python's functions, over Python's trees.

use crate::args::made;
use crate::array::PyArray;
use crate::error::OrRaise;
use crate::function::{Deeper, Lent, Made, bound_method, call, callable, stash};
use crate::tree::{self, PyTree};
use crate::value::Arrays;
use lazul_core::Array;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyString, PyTuple};
use std::cell::RefCell;

/// Which arguments a gradient is taken by.
struct Wanted {
    numbers: Vec<usize>,
    /// Whether the gradients by position are a tuple.
    many: bool,
    names: Vec<String>,
}

fn wanted(
    argnums: Option<&Bound<'_, PyAny>>,
    argnames: Option<&Bound<'_, PyAny>>,
) -> PyResult<Wanted> {
    let names: Vec<String> = match argnames {
        None => Vec::new(),
        Some(n) if n.is_none() => Vec::new(),
        Some(n) if n.is_instance_of::<PyString>() => vec![n.extract()?],
        Some(n) => {
            n.extract().map_err(|_| PyTypeError::new_err("argnames: a text or a list of them"))?
        }
    };
    let one = |i: i64| {
        let why = || {
            PyValueError::new_err(format!(
                "[grad] Can't compute the gradient of negative argument index {i}"
            ))
        };
        usize::try_from(i).map_err(|_| why())
    };
    let (numbers, many) = match argnums {
        None if names.is_empty() => (vec![0], false),
        None => (Vec::new(), false),
        Some(n) => match n.extract::<i64>() {
            Ok(i) => (vec![one(i)?], false),
            Err(_) => {
                let all: Vec<i64> = n
                    .extract()
                    .map_err(|_| PyTypeError::new_err("argnums: an integer or a list of them"))?;
                (all.into_iter().map(one).collect::<PyResult<Vec<_>>>()?, true)
            }
        },
    };
    let mut seen = numbers.clone();
    seen.sort_unstable();
    seen.dedup();
    if seen.len() != numbers.len() {
        return Err(PyValueError::new_err("[grad] Duplicate argument indices"));
    }
    Ok(Wanted { many: many && numbers.len() > 1, numbers, names })
}

/// A function that was transformed; called like the function itself.
#[pyclass(module = "lazul.core", frozen, dict, weakref)]
pub(crate) struct Transformed {
    fun: Py<PyAny>,
    how: How,
    made: Made,
}

enum How {
    Grad { wanted: Wanted, value: bool },
    Vmap { inputs: Py<PyAny>, outputs: Py<PyAny> },
    Checkpoint,
}

#[pymethods]
impl Transformed {
    #[pyo3(signature = (*args, **kwargs))]
    fn __call__<'py>(
        &self,
        py: Python<'py>,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let _deeper = Deeper::enter()?;
        let kwargs = kwargs.cloned().unwrap_or_else(|| PyDict::new(py));
        match &self.how {
            How::Grad { wanted, value } => self.grad(py, wanted, *value, args, &kwargs),
            How::Vmap { inputs, outputs } => {
                if !kwargs.is_empty() {
                    return Err(PyTypeError::new_err(
                        "vmap: a mapped function has no named arguments",
                    ));
                }
                self.vmap(py, inputs.bind(py), outputs.bind(py), args)
            }
            How::Checkpoint => self.checkpoint(py, args, &kwargs),
        }
    }

    /// The function that was transformed.
    #[getter]
    fn __wrapped__(&self, py: Python<'_>) -> Py<PyAny> {
        self.fun.clone_ref(py)
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
        match &self.how {
            How::Vmap { inputs, outputs } => {
                visit.call(inputs)?;
                visit.call(outputs)
            }
            How::Grad { .. } | How::Checkpoint => Ok(()),
        }
    }
}

impl Transformed {
    fn grad<'py>(
        &self,
        py: Python<'py>,
        wanted: &Wanted,
        with_value: bool,
        args: &Bound<'py, PyTuple>,
        kwargs: &Bound<'py, PyDict>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let name = if with_value { "value_and_grad" } else { "grad" };
        for &i in &wanted.numbers {
            if i >= args.len() {
                let why = format!(
                    "[{name}] Can't compute the gradient of argument index {i} because the function is called with only {} positional arguments.",
                    args.len()
                );
                return Err(PyValueError::new_err(why));
            }
        }
        // What is differentiated by, as one tree: a tuple and a dict.
        let by: Vec<Bound<'py, PyAny>> =
            wanted.numbers.iter().map(|&i| args.get_item(i)).collect::<PyResult<_>>()?;
        let by_name = PyDict::new(py);
        for key in &wanted.names {
            let value = kwargs.get_item(key)?.ok_or_else(|| {
                PyValueError::new_err(format!(
                    "[{name}] Can't compute the gradient of keyword argument '{key}' because the function is called without it."
                ))
            })?;
            by_name.set_item(key, value)?;
        }
        let by = PyTuple::new(py, by)?;
        tree::only_arrays(by.as_any())?;
        tree::only_arrays(by_name.as_any())?;
        let both = PyTuple::new(py, [by.into_any(), by_name.into_any()])?;
        let at = PyTree::of(both.as_any())?;
        let originals = at.leaves.clone();
        let returned: RefCell<Option<Bound<'py, PyAny>>> = RefCell::new(None);
        let loss_of = |tree: &PyTree| -> PyResult<Array> {
            let mut lent = Lent::default();
            let mut next = originals.iter();
            let both = tree.object(py, |handle| {
                if let Some(original) = next.next() {
                    lent.give(handle, original.clone());
                }
            })?;
            let (by, by_name): (Bound<'py, PyTuple>, Bound<'py, PyDict>) = both.extract()?;
            let mut all: Vec<Bound<'py, PyAny>> = args.iter().collect();
            for (&i, value) in wanted.numbers.iter().zip(by.iter()) {
                all[i] = value;
            }
            let words = kwargs.copy()?;
            words.update(by_name.as_mapping())?;
            let result = self.fun.bind(py).call(PyTuple::new(py, all)?, Some(&words));
            // The loss is taken while the handles hold what was given: it may be one of them.
            let loss = result.as_ref().ok().and_then(|r| {
                let first = match r.cast::<PyTuple>() {
                    Ok(t) if with_value && !t.is_empty() => t.get_item(0).ok()?,
                    _ => r.clone(),
                };
                Some(first.cast::<PyArray>().ok()?.get().array())
            });
            lent.back();
            let result = result?;
            let loss = loss.ok_or_else(|| {
                let kind = result.get_type().name().map(|n| n.to_string()).unwrap_or_default();
                let more = if with_value {
                    "either a scalar array or a tuple with the first value being a scalar array (Union[array, tuple[array, Any, ...]])"
                } else {
                    "a scalar array"
                };
                PyValueError::new_err(format!(
                    "[{name}] The return value of the function whose gradient we want to compute should be {more}; but {kind} was returned."
                ))
            })?;
            returned.replace(Some(result));
            Ok(loss)
        };
        let f = |tree: &PyTree| -> lazul_core::Result<Array> { loss_of(tree).map_err(stash::put) };
        let (_, grads) = lazul_core::value_and_grad(f)(&at).or_raise()?;
        let both = grads.object(py, |_| {})?;
        let (by, by_name): (Bound<'py, PyTuple>, Bound<'py, PyDict>) = both.extract()?;
        let positional = match (wanted.numbers.len(), wanted.many) {
            (0, _) => py.None().into_bound(py),
            (1, _) | (_, false) => by.get_item(0)?,
            _ => by.into_any(),
        };
        let gradient = match wanted.names.is_empty() {
            true => positional,
            false => PyTuple::new(py, [positional, by_name.into_any()])?.into_any(),
        };
        if !with_value {
            return Ok(gradient);
        }
        let value = returned.take().unwrap_or_else(|| py.None().into_bound(py));
        Ok(PyTuple::new(py, [value, gradient])?.into_any())
    }

    fn vmap<'py>(
        &self,
        py: Python<'py>,
        inputs: &Bound<'py, PyAny>,
        outputs: &Bound<'py, PyAny>,
        args: &Bound<'py, PyTuple>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let mut axes = Vec::new();
        match inputs.cast::<PyTuple>() {
            Ok(each) if each.len() == args.len() => {
                for (axis, argument) in each.iter().zip(args.iter()) {
                    axes_of(&axis, &argument, &mut axes, 0)?;
                }
            }
            Ok(each) => {
                let why =
                    format!("[vmap] {} axes are given for {} arguments", each.len(), args.len());
                return Err(PyValueError::new_err(why));
            }
            Err(_) => {
                let single = args.len() == 1;
                for argument in args.iter() {
                    if single || inputs.is_none() || inputs.extract::<i64>().is_ok() {
                        axes_of(inputs, &argument, &mut axes, 0)?;
                    } else {
                        return Err(PyValueError::new_err(
                            "[vmap] in_axes does not go with the arguments",
                        ));
                    }
                }
            }
        }
        let kwargs = PyDict::new(py);
        let both = PyTuple::new(py, [args.as_any().clone(), kwargs.into_any()])?;
        let at = PyTree::of(both.as_any())?;
        if axes.iter().all(Option::is_none) {
            return Err(PyValueError::new_err("[vmap] At least one of in_axes must be non-None."));
        }
        let originals = at.leaves.clone();
        let f = |tree: &PyTree| -> lazul_core::Result<PyTree> {
            call(py, &self.fun, tree, &originals, |r| PyTree::of(&r)).map_err(stash::put)
        };
        let plain = outputs.is_none() || outputs.extract::<i64>().is_ok();
        let out: Vec<Option<i64>> = if plain {
            vec![outputs.extract()?]
        } else {
            // Which leaf gets which axis shows when the result is there.
            let probe = lazul_core::vmap_axes(f, &axes, &[Some(0)])(&at).or_raise()?;
            let mut found = Vec::new();
            axes_of(outputs, &probe.object(py, |_| {})?, &mut found, 0)?;
            found
        };
        let result = lazul_core::vmap_axes(f, &axes, &out)(&at).or_raise()?;
        result.object(py, |_| {})
    }

    fn checkpoint<'py>(
        &self,
        py: Python<'py>,
        args: &Bound<'py, PyTuple>,
        kwargs: &Bound<'py, PyDict>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let both = PyTuple::new(py, [args.as_any().clone(), kwargs.as_any().clone()])?;
        let at = PyTree::of(both.as_any())?;
        let originals = at.leaves.clone();
        let f = |tree: &PyTree| -> lazul_core::Result<PyTree> {
            call(py, &self.fun, tree, &originals, |r| PyTree::of(&r)).map_err(stash::put)
        };
        lazul_core::checkpoint(f)(&at).or_raise()?.object(py, |_| {})
    }
}

/// The axis of every array of a tree, from a tree of axes that may stop early.
pub(crate) fn axes_of(
    axes: &Bound<'_, PyAny>,
    tree: &Bound<'_, PyAny>,
    found: &mut Vec<Option<i64>>,
    depth: usize,
) -> PyResult<()> {
    let wrong =
        || PyValueError::new_err("[vmap] the tree of axes does not go with the tree of arrays");
    if depth > 64 {
        return Err(wrong());
    }
    if axes.is_none() || axes.extract::<i64>().is_ok() {
        let axis: Option<i64> = axes.extract()?;
        return tree::visit(tree, &mut |_| {
            found.push(axis);
            Ok(())
        });
    }
    if let (Ok(axes), Ok(dict)) = (axes.cast::<PyDict>(), tree.cast::<PyDict>()) {
        for (key, part) in dict.iter() {
            let axis = axes.get_item(&key)?.ok_or_else(wrong)?;
            axes_of(&axis, &part, found, depth + 1)?;
        }
        return Ok(());
    }
    let sequence =
        |o: &Bound<'_, PyAny>| o.is_instance_of::<PyList>() || o.is_instance_of::<PyTuple>();
    if !sequence(axes) || !sequence(tree) || axes.len()? != tree.len()? {
        return Err(wrong());
    }
    for (axis, part) in axes.try_iter()?.zip(tree.try_iter()?) {
        axes_of(&axis?, &part?, found, depth + 1)?;
    }
    Ok(())
}

/// A function that gives the gradient of a function of arrays that returns one number.
///
/// Args:
///     fun: the function. The arguments that are differentiated by may be trees of arrays.
///     argnums (int or list of int, optional): positions of arguments; the first by default.
///     argnames (str or list of str, optional): names of arguments.
///
/// >>> mx.grad(lambda x: x * x)(mx.array(3.0))
/// array(6, dtype=float32)
#[pyfunction]
#[pyo3(signature = (fun, argnums=None, argnames=None))]
fn grad(
    fun: &Bound<'_, PyAny>,
    argnums: Option<&Bound<'_, PyAny>>,
    argnames: Option<&Bound<'_, PyAny>>,
) -> PyResult<Transformed> {
    callable(fun, "grad")?;
    let how = How::Grad { wanted: wanted(argnums, argnames)?, value: false };
    Ok(Transformed { fun: fun.clone().unbind(), how, made: Made(true) })
}

/// A function that gives the value and the gradient of a function, which may return a tuple of one number and
/// anything else.
///
/// >>> mx.value_and_grad(lambda x: x * x)(mx.array(3.0))
/// (array(9, dtype=float32), array(6, dtype=float32))
#[pyfunction]
#[pyo3(signature = (fun, argnums=None, argnames=None))]
fn value_and_grad(
    fun: &Bound<'_, PyAny>,
    argnums: Option<&Bound<'_, PyAny>>,
    argnames: Option<&Bound<'_, PyAny>>,
) -> PyResult<Transformed> {
    callable(fun, "value_and_grad")?;
    let how = How::Grad { wanted: wanted(argnums, argnames)?, value: true };
    Ok(Transformed { fun: fun.clone().unbind(), how, made: Made(true) })
}

/// A function over a batch, from one for a single example.
///
/// Args:
///     fun: the function; arguments and results may be trees of arrays.
///     in_axes: the axis of every argument that is mapped over, ``None`` for one that all examples share: one
///         for all, or a tuple or tree of them.
///     out_axes: where the batch goes in every result.
///
/// >>> mx.vmap(lambda x, y: x + y, in_axes=(0, None))(mx.array([1, 2]), mx.array(1))
/// array([2, 3], dtype=int32)
#[pyfunction]
#[pyo3(signature = (fun, in_axes=None, out_axes=None))]
#[pyo3(text_signature = "(fun, in_axes=0, out_axes=0)")]
fn vmap(
    py: Python<'_>,
    fun: &Bound<'_, PyAny>,
    in_axes: Option<Bound<'_, PyAny>>,
    out_axes: Option<Bound<'_, PyAny>>,
) -> PyResult<Transformed> {
    callable(fun, "vmap")?;
    let zero = || 0i64.into_pyobject(py).map(|z| z.into_any().unbind());
    let or_zero = |axes: Option<Bound<'_, PyAny>>| -> PyResult<Py<PyAny>> {
        match axes {
            Some(axes) => Ok(axes.unbind()),
            None => Ok(zero()?),
        }
    };
    let how = How::Vmap { inputs: or_zero(in_axes)?, outputs: or_zero(out_axes)? };
    Ok(Transformed { fun: fun.clone().unbind(), how, made: Made(true) })
}

/// A function that keeps nothing but its arguments for its gradient, and is computed again there.
///
/// >>> mx.grad(mx.checkpoint(lambda x: x * x))(mx.array(3.0))
/// array(6, dtype=float32)
#[pyfunction]
fn checkpoint(fun: &Bound<'_, PyAny>) -> PyResult<Transformed> {
    callable(fun, "checkpoint")?;
    Ok(Transformed { fun: fun.clone().unbind(), how: How::Checkpoint, made: Made(true) })
}

/// The arrays that a function returned: one, or a list or tuple of them.
fn results(result: &Bound<'_, PyAny>, what: &str) -> PyResult<Vec<Array>> {
    if let Ok(one) = result.cast::<PyArray>() {
        return Ok(vec![one.get().array()]);
    }
    let wrong = || {
        PyValueError::new_err(format!(
            "[{what}] The function should return an array or a list of arrays."
        ))
    };
    if !(result.is_instance_of::<PyList>() || result.is_instance_of::<PyTuple>()) {
        return Err(wrong());
    }
    let mut all = Vec::new();
    for item in result.try_iter()? {
        all.push(item?.cast::<PyArray>().map_err(|_| wrong())?.get().array());
    }
    Ok(all)
}

fn on_list<'py>(
    py: Python<'py>,
    fun: &Bound<'py, PyAny>,
    arrays: &[Array],
    originals: &[Array],
    what: &str,
) -> PyResult<Vec<Array>> {
    let mut lent = Lent::default();
    let mut handles = Vec::with_capacity(arrays.len());
    for (array, original) in arrays.iter().zip(originals) {
        let handle = Bound::new(py, PyArray::new(array.clone()))?;
        lent.give(&handle, original.clone());
        handles.push(handle);
    }
    let found = fun.call1(PyTuple::new(py, handles)?).and_then(|r| results(&r, what));
    lent.back();
    found
}

fn list(arrays: Vec<Array>) -> PyResult<Vec<PyArray>> {
    arrays.into_iter().map(made).collect()
}

/// The results of a function of arrays, and the cotangents of its arguments for those of its results.
///
/// >>> mx.vjp(lambda x: x * 2, [mx.array(1.0)], [mx.array(3.0)])[1]
/// [array(6, dtype=float32)]
#[pyfunction]
#[pyo3(signature = (fun, primals, cotangents))]
fn vjp(
    py: Python<'_>,
    fun: &Bound<'_, PyAny>,
    primals: Arrays,
    cotangents: Arrays,
) -> PyResult<(Vec<PyArray>, Vec<PyArray>)> {
    callable(fun, "vjp")?;
    let f = |xs: &Vec<Array>| on_list(py, fun, xs, &primals.0, "vjp").map_err(stash::put);
    let (value, found) = lazul_core::vjp(f, &primals.0, &cotangents.0).or_raise()?;
    Ok((list(value)?, list(found)?))
}

/// The results of a function of arrays, and their tangents for those of its arguments.
///
/// >>> mx.jvp(lambda x: x * 2, [mx.array(1.0)], [mx.array(3.0)])[1]
/// [array(6, dtype=float32)]
#[pyfunction]
#[pyo3(signature = (fun, primals, tangents))]
fn jvp(
    py: Python<'_>,
    fun: &Bound<'_, PyAny>,
    primals: Arrays,
    tangents: Arrays,
) -> PyResult<(Vec<PyArray>, Vec<PyArray>)> {
    callable(fun, "jvp")?;
    let f = |xs: &Vec<Array>| on_list(py, fun, xs, &primals.0, "jvp").map_err(stash::put);
    let (value, found) = lazul_core::jvp(f, &primals.0, &tangents.0).or_raise()?;
    Ok((list(value)?, list(found)?))
}

pub(crate) fn add(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<Transformed>()?;
    for f in [
        wrap_pyfunction!(grad, m)?,
        wrap_pyfunction!(value_and_grad, m)?,
        wrap_pyfunction!(vmap, m)?,
        wrap_pyfunction!(checkpoint, m)?,
        wrap_pyfunction!(vjp, m)?,
        wrap_pyfunction!(jvp, m)?,
    ] {
        m.add_function(f)?;
    }
    Ok(())
}

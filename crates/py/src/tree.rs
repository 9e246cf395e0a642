//! Python's trees of arrays: lists, tuples, named tuples and dicts (modules are dicts), nested as one likes.

use crate::array::PyArray;
use lazul_core::{Array, Tree};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyFloat, PyInt, PyList, PyString, PyTuple};
use std::sync::Arc;

/// Deeper than this a tree is taken for one that contains itself.
const DEEPEST: usize = 256;

fn too_deep() -> PyErr {
    PyValueError::new_err("a tree that is nested too deep, or contains itself")
}

/// Shows every array's handle to `f`, in order.
pub(crate) fn visit(
    object: &Bound<'_, PyAny>,
    f: &mut dyn FnMut(&Bound<'_, PyArray>) -> PyResult<()>,
) -> PyResult<()> {
    fn level(
        object: &Bound<'_, PyAny>,
        f: &mut dyn FnMut(&Bound<'_, PyArray>) -> PyResult<()>,
        depth: usize,
    ) -> PyResult<()> {
        if depth > DEEPEST {
            return Err(too_deep());
        }
        if let Ok(array) = object.cast::<PyArray>() {
            f(array)
        } else if let Ok(list) = object.cast::<PyList>() {
            list.iter().try_for_each(|o| level(&o, f, depth + 1))
        } else if let Ok(tuple) = object.cast::<PyTuple>() {
            tuple.iter().try_for_each(|o| level(&o, f, depth + 1))
        } else if let Ok(dict) = object.cast::<PyDict>() {
            // A copy of the entries: `f` may change the dict.
            let values: Vec<Bound<'_, PyAny>> = dict.iter().map(|(_, v)| v).collect();
            values.iter().try_for_each(|o| level(o, f, depth + 1))
        } else {
            Ok(())
        }
    }
    level(object, f, 0)
}

/// All arrays of a tree, in order.
pub(crate) fn arrays(object: &Bound<'_, PyAny>) -> PyResult<Vec<Array>> {
    let mut all = Vec::new();
    visit(object, &mut |a| {
        all.push(a.get().array());
        Ok(())
    })?;
    Ok(all)
}

/// All arrays' handles of a tree, in order.
pub(crate) fn handles(object: &Bound<'_, PyAny>) -> PyResult<Vec<Py<PyArray>>> {
    let mut all = Vec::new();
    visit(object, &mut |a| {
        all.push(a.clone().unbind());
        Ok(())
    })?;
    Ok(all)
}

/// Puts new handles for arrays into the containers of a tree; where a container cannot be changed, into the
/// handles that are there.
pub(crate) fn assign(object: &Bound<'_, PyAny>, arrays: &[Array]) -> PyResult<()> {
    fn level(object: &Bound<'_, PyAny>, next: &mut std::slice::Iter<'_, Array>) -> PyResult<()> {
        let py = object.py();
        let new = |next: &mut std::slice::Iter<'_, Array>| -> PyResult<Option<Py<PyArray>>> {
            next.next().map(|a| Py::new(py, PyArray::new(a.clone()))).transpose()
        };
        if let Ok(array) = object.cast::<PyArray>() {
            if let Some(value) = next.next() {
                array.get().set(value.clone());
            }
        } else if let Ok(list) = object.cast::<PyList>() {
            for i in 0..list.len() {
                let item = list.get_item(i)?;
                match item.cast::<PyArray>() {
                    Ok(_) => {
                        if let Some(handle) = new(next)? {
                            list.set_item(i, handle)?;
                        }
                    }
                    Err(_) => level(&item, next)?,
                }
            }
        } else if let Ok(tuple) = object.cast::<PyTuple>() {
            for item in tuple.iter() {
                level(&item, next)?;
            }
        } else if let Ok(dict) = object.cast::<PyDict>() {
            let entries: Vec<(Bound<'_, PyAny>, Bound<'_, PyAny>)> = dict.iter().collect();
            for (key, item) in entries {
                match item.cast::<PyArray>() {
                    Ok(_) => {
                        if let Some(handle) = new(next)? {
                            // The dict's own entry, whatever its class makes of assignments.
                            dict.set_item(key, handle)?;
                        }
                    }
                    Err(_) => level(&item, next)?,
                }
            }
        }
        Ok(())
    }
    level(object, &mut arrays.iter())
}

/// What the containers of trees, and the handles in them, hold.
#[derive(Default)]
pub(crate) struct Snapshot {
    lists: Vec<(Py<PyList>, Vec<Py<PyAny>>)>,
    dicts: Vec<(Py<PyDict>, Vec<(Py<PyAny>, Py<PyAny>)>)>,
    handles: Vec<(Py<PyArray>, Array)>,
}

impl Snapshot {
    /// Keeps what a tree holds now.
    pub(crate) fn add(&mut self, object: &Bound<'_, PyAny>) -> PyResult<()> {
        self.level(object, 0)
    }

    fn level(&mut self, object: &Bound<'_, PyAny>, depth: usize) -> PyResult<()> {
        if depth > DEEPEST {
            return Err(too_deep());
        }
        if let Ok(array) = object.cast::<PyArray>() {
            self.handles.push((array.clone().unbind(), array.get().array()));
        } else if let Ok(list) = object.cast::<PyList>() {
            let items: Vec<Bound<'_, PyAny>> = list.iter().collect();
            items.iter().try_for_each(|o| self.level(o, depth + 1))?;
            let items = items.into_iter().map(Bound::unbind).collect();
            self.lists.push((list.clone().unbind(), items));
        } else if let Ok(tuple) = object.cast::<PyTuple>() {
            tuple.iter().try_for_each(|o| self.level(&o, depth + 1))?;
        } else if let Ok(dict) = object.cast::<PyDict>() {
            let entries: Vec<(Bound<'_, PyAny>, Bound<'_, PyAny>)> = dict.iter().collect();
            entries.iter().try_for_each(|(_, o)| self.level(o, depth + 1))?;
            let entries = entries.into_iter().map(|(k, v)| (k.unbind(), v.unbind())).collect();
            self.dicts.push((dict.clone().unbind(), entries));
        }
        Ok(())
    }

    /// Lets everything hold what it held then.
    pub(crate) fn put_back(&self, py: Python<'_>) -> PyResult<()> {
        for (list, items) in &self.lists {
            let list = list.bind(py);
            list.set_slice(0, list.len(), PyList::new(py, items)?.as_any())?;
        }
        for (dict, entries) in &self.dicts {
            // The dict's own entries, whatever its class makes of assignments.
            let dict = dict.bind(py);
            dict.clear();
            entries.iter().try_for_each(|(key, value)| dict.set_item(key, value))?;
        }
        for (handle, array) in &self.handles {
            handle.get().set(array.clone());
        }
        Ok(())
    }
}

/// What a tree is besides its arrays.
enum Node {
    Leaf,
    Constant(Py<PyAny>),
    List(Vec<Node>),
    /// With the class of a named tuple.
    Tuple(Option<Py<PyAny>>, Vec<Node>),
    Dict(Vec<(Py<PyAny>, Node)>),
}

/// A Python tree as one of core's: its arrays, and the rest, by which trees are told apart.
#[derive(Clone)]
pub(crate) struct PyTree {
    pub(crate) leaves: Vec<Array>,
    node: Arc<Node>,
    words: Arc<Vec<u64>>,
}

impl PyTree {
    pub(crate) fn of(object: &Bound<'_, PyAny>) -> PyResult<PyTree> {
        let (mut leaves, mut words) = (Vec::new(), Vec::new());
        let node = taken(object, &mut leaves, &mut words, 0)?;
        Ok(PyTree { leaves, node: Arc::new(node), words: Arc::new(words) })
    }

    /// A tree of this structure with other arrays, as many.
    pub(crate) fn with(&self, leaves: Vec<Array>) -> PyTree {
        PyTree { leaves, node: self.node.clone(), words: self.words.clone() }
    }

    /// The Python object, with new handles for the arrays, which `seen` is shown.
    pub(crate) fn object<'py>(
        &self,
        py: Python<'py>,
        mut seen: impl FnMut(&Bound<'py, PyArray>),
    ) -> PyResult<Bound<'py, PyAny>> {
        built(py, &self.node, &mut self.leaves.iter(), &mut seen)
    }
}

impl Tree for PyTree {
    fn visit<'a>(&'a self, f: &mut dyn FnMut(&'a Array)) {
        self.leaves.iter().for_each(f);
    }
    fn visit_mut(&mut self, f: &mut dyn FnMut(&mut Array)) {
        self.leaves.iter_mut().for_each(f);
    }
    fn structure(&self, words: &mut Vec<u64>) {
        words.push(self.words.len() as u64);
        words.extend_from_slice(&self.words);
    }
}

fn text(words: &mut Vec<u64>, bytes: &[u8]) {
    words.push(bytes.len() as u64);
    for chunk in bytes.chunks(8) {
        let mut word = [0u8; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        words.push(u64::from_le_bytes(word));
    }
}

/// Words for what is no array: equal ones for equal values of Python's own kinds, the address for the rest,
/// which is kept alive.
fn constant(object: &Bound<'_, PyAny>, words: &mut Vec<u64>) -> PyResult<()> {
    if object.is_none() {
        words.push(1);
    } else if let Ok(b) = object.cast::<PyBool>() {
        words.extend([2, b.is_true() as u64]);
    } else if object.is_exact_instance_of::<PyInt>() {
        match object.extract::<i64>() {
            Ok(i) => words.extend([3, i as u64]),
            Err(_) => {
                words.push(4);
                text(words, object.str()?.to_string().as_bytes());
            }
        }
    } else if let Ok(f) = object.cast_exact::<PyFloat>() {
        words.extend([5, f.value().to_bits()]);
    } else if let Ok(s) = object.cast_exact::<PyString>() {
        words.push(6);
        text(words, s.to_string_lossy().as_bytes());
    } else {
        words.extend([7, object.as_ptr() as usize as u64]);
    }
    Ok(())
}

fn taken(
    object: &Bound<'_, PyAny>,
    leaves: &mut Vec<Array>,
    words: &mut Vec<u64>,
    depth: usize,
) -> PyResult<Node> {
    if depth > DEEPEST {
        return Err(too_deep());
    }
    if let Ok(array) = object.cast::<PyArray>() {
        words.push(10);
        leaves.push(array.get().array());
        return Ok(Node::Leaf);
    }
    if let Ok(list) = object.cast::<PyList>() {
        words.extend([11, list.len() as u64]);
        let parts = list.iter().map(|o| taken(&o, leaves, words, depth + 1));
        return Ok(Node::List(parts.collect::<PyResult<_>>()?));
    }
    if let Ok(tuple) = object.cast::<PyTuple>() {
        words.extend([12, tuple.len() as u64]);
        let named = tuple.hasattr("_fields")?.then(|| tuple.get_type().into_any().unbind());
        words.push(named.as_ref().map_or(0, |n| n.as_ptr() as usize as u64));
        let parts = tuple.iter().map(|o| taken(&o, leaves, words, depth + 1));
        return Ok(Node::Tuple(named, parts.collect::<PyResult<_>>()?));
    }
    if let Ok(dict) = object.cast::<PyDict>() {
        words.extend([13, dict.len() as u64]);
        let mut parts = Vec::with_capacity(dict.len());
        for (key, value) in dict.iter() {
            constant(&key, words)?;
            parts.push((key.unbind(), taken(&value, leaves, words, depth + 1)?));
        }
        return Ok(Node::Dict(parts));
    }
    constant(object, words)?;
    Ok(Node::Constant(object.clone().unbind()))
}

fn built<'py>(
    py: Python<'py>,
    node: &Node,
    leaves: &mut std::slice::Iter<'_, Array>,
    seen: &mut dyn FnMut(&Bound<'py, PyArray>),
) -> PyResult<Bound<'py, PyAny>> {
    Ok(match node {
        Node::Leaf => {
            let array = leaves.next().cloned();
            let array = array.ok_or_else(|| PyValueError::new_err("a tree with fewer arrays"))?;
            let handle = Bound::new(py, PyArray::new(array))?;
            seen(&handle);
            handle.into_any()
        }
        Node::Constant(object) => object.bind(py).clone(),
        Node::List(parts) => {
            let all =
                parts.iter().map(|n| built(py, n, leaves, seen)).collect::<PyResult<Vec<_>>>()?;
            PyList::new(py, all)?.into_any()
        }
        Node::Tuple(named, parts) => {
            let all =
                parts.iter().map(|n| built(py, n, leaves, seen)).collect::<PyResult<Vec<_>>>()?;
            let tuple = PyTuple::new(py, all)?;
            match named {
                Some(class) => class.bind(py).call1(tuple)?,
                None => tuple.into_any(),
            }
        }
        Node::Dict(parts) => {
            let dict = PyDict::new(py);
            for (key, part) in parts {
                dict.set_item(key, built(py, part, leaves, seen)?)?;
            }
            dict.into_any()
        }
    })
}

/// A tree like `object` with other arrays.
pub(crate) fn rebuilt<'py>(
    object: &Bound<'py, PyAny>,
    arrays: Vec<Array>,
) -> PyResult<Bound<'py, PyAny>> {
    PyTree::of(object)?.with(arrays).object(object.py(), |_| {})
}

/// An error unless a tree has nothing but arrays.
pub(crate) fn only_arrays(object: &Bound<'_, PyAny>) -> PyResult<()> {
    fn level(node: &Node) -> bool {
        match node {
            Node::Leaf => true,
            Node::Constant(_) => false,
            Node::List(parts) | Node::Tuple(_, parts) => parts.iter().all(level),
            Node::Dict(parts) => parts.iter().all(|(_, n)| level(n)),
        }
    }
    match level(&PyTree::of(object)?.node) {
        true => Ok(()),
        false => {
            Err(PyValueError::new_err("[tree_flatten] The argument should contain only arrays"))
        }
    }
}

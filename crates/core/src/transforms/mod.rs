//! Function transforms: derivatives in both directions, and vectorising.
//!
//! A transform calls a function on marked arrays and walks over the graph that this builds; rules for
//! single operations stand with the operations. Functions take one [`Tree`] (an array, a tuple, a
//! vector, a struct that derives it) and return a tree or a `Result` of one. What a transform builds is
//! an ordinary graph, so transforms nest in any order.
//!
//! | transform | gives |
//! |---|---|
//! | [`grad`], [`value_and_grad`] | the gradient of a scalar function |
//! | [`vjp`] | cotangents of arguments from those of results |
//! | [`jvp`] | tangents of results from those of arguments |
//! | [`vmap`], [`vmap_axes`] | the function over a batch |
//! | [`jacobian`], [`hessian`] | all first, all second derivatives |
//!
//! Arrays that a function captures are constants to it. An argument that shall be one too is wrapped
//! in [`Fixed`](crate::Fixed).

pub(crate) mod batch;
mod forward;
mod reverse;

use crate::control::Control;
use crate::control::graph::{Graph, GraphStep, Spec, spec};
use crate::error::{Error, ErrorKind, Result};
use crate::node::{Array, Inputs, Op};
use crate::ops::creation::identity;
use crate::ops::error;
use crate::rules::{Outputs, Slots};
use crate::scope::call_site;
use crate::trace::Running;
use crate::tree::{IntoResult, Tree};
use batch::{vectorised, with_batch};
use lazul_ir::Shape;
use std::panic::Location;

/// Cotangents of `inputs` through a function of arrays.
pub(crate) fn pulled_through(
    f: impl FnOnce(&[Array]) -> Result<Vec<Array>>,
    inputs: &[Array],
    cotangents: &[Option<Array>],
    wanted: &[bool],
) -> Result<Slots> {
    let running = Running::start();
    let given: Vec<Array> = inputs
        .iter()
        .zip(wanted)
        .map(|(a, &wanted)| if wanted { a.marked(&running.0) } else { a.clone() })
        .collect();
    let outputs = f(&given)?;
    let id = running.0.id;
    drop(running);
    let leaves: Vec<Array> =
        given.iter().zip(wanted).filter(|(_, w)| **w).map(|(a, _)| a.clone()).collect();
    let mut found = reverse::pull_back(&outputs, cotangents, &leaves, id)?.into_iter();
    Ok(wanted.iter().map(|&w| if w { found.next().flatten() } else { None }).collect())
}

/// Tangents of a function's results.
pub(crate) fn pushed_through(
    f: impl FnOnce(&[Array]) -> Result<Vec<Array>>,
    inputs: &[Array],
    tangents: &[Option<Array>],
) -> Result<Slots> {
    let running = Running::start();
    let given: Vec<Array> = inputs
        .iter()
        .zip(tangents)
        .map(|(a, t)| if t.is_some() { a.marked(&running.0) } else { a.clone() })
        .collect();
    let outputs = f(&given)?;
    let id = running.0.id;
    drop(running);
    Ok(forward::push_forward(&outputs, &given, tangents, id)?.into_iter().collect())
}

/// A function of arrays over a batch: inputs that are `batched` have it as first axis, and all results do.
pub(crate) fn vectorised_through(
    f: impl FnOnce(&[Array]) -> Result<Vec<Array>>,
    inputs: &[Array],
    batched: &[bool],
    size: usize,
) -> Result<Outputs> {
    let specs: Vec<_> = inputs
        .iter()
        .zip(batched)
        .filter(|(_, b)| **b)
        .map(|(a, _)| (Shape::new(&a.0.shape[1..]), a.0.dtype))
        .collect();
    let graph = Graph::trace(&specs, |placeholders| {
        let mut next = placeholders.iter();
        let given: Vec<Array> = inputs
            .iter()
            .zip(batched)
            .map(
                |(a, &b)| {
                    if b { next.next().cloned().unwrap_or_else(|| a.clone()) } else { a.clone() }
                },
            )
            .collect();
        f(&given)
    })?;
    let arguments: Vec<Array> =
        inputs.iter().zip(batched).filter(|(_, b)| **b).map(|(a, _)| a.clone()).collect();
    let made = vectorised(&graph, &arguments, size)?;
    Ok(made.into_iter().map(|(a, b)| if b { a } else { with_batch(&a, size) }).collect())
}

/// What a rule gave has the shape and dtype that belong there.
fn fits(step: &GraphStep, rule: &str, like: &Spec, made: &Array) -> Result<()> {
    let site = step.node.0.site;
    made.check().map_err(|e| e.at(site))?;
    let given = spec(made);
    if given == *like {
        return Ok(());
    }
    // Only functions with rules of their own have rules that are not ours.
    let kind = match &step.op {
        Op::Control(c) if matches!(**c, Control::Custom(_)) => ErrorKind::Value,
        _ => ErrorKind::Internal,
    };
    let why = format!("the {rule} rule gave another shape or dtype");
    let pair = [like.clone(), given].map(|(shape, dtype)| (dtype, shape));
    Err(Error::new(kind, step.op.name(), why).operands(pair).at(site))
}

/// The leaves of a tree.
fn owned<T: Tree>(tree: &T) -> Vec<Array> {
    tree.leaves().into_iter().cloned().collect()
}

/// What [`grad`] and [`value_and_grad`] differentiate: the one number that a function returns, alone or
/// first in a pair whose second part (any tree) is passed through.
pub trait Objective: Tree {
    /// The number that is differentiated.
    fn loss(&self) -> &Array;
}

impl Objective for Array {
    fn loss(&self) -> &Array {
        self
    }
}

impl<A: Tree> Objective for (Array, A) {
    fn loss(&self) -> &Array {
        &self.0
    }
}

/// A function that gives the value of `f` and its gradient, which has the argument's tree, shapes and
/// dtypes. `f` returns a real scalar array, or a pair of one and anything else.
///
/// Integer leaves have zeros for their gradient.
///
/// ```
/// use lazul_core::prelude::*;
/// let loss = |(w, b): &(Array, Array)| (w * 3.0 + b).square().sum(..);
/// let at = (Array::scalar(2.0f32), Array::scalar(1.0f32));
/// let (value, (dw, db)) = value_and_grad(loss)(&at)?;
/// assert_eq!(value.item::<f32>()?, 49.0);
/// assert_eq!((dw.item::<f32>()?, db.item::<f32>()?), (42.0, 14.0));
/// # Ok::<(), lazul_core::Error>(())
/// ```
///
/// # Errors
/// Of the returned function: those of `f`; if the loss is not a real scalar of a float dtype; and where
/// an operation has no gradient.
#[track_caller]
pub fn value_and_grad<T: Tree, O: Objective, R: IntoResult<O>>(
    f: impl Fn(&T) -> R,
) -> impl Fn(&T) -> Result<(O, T)> {
    let site = call_site();
    move |at| {
        let running = Running::start();
        let leaves: Vec<Array> = owned(at).iter().map(|a| a.marked(&running.0)).collect();
        let value = f(&at.with_leaves(leaves.iter().cloned())).into_result()?;
        let loss = value.loss();
        loss.check()?;
        if loss.0.shape.size() != 1 || !loss.0.dtype.is_float() {
            let why = "a function that is differentiated returns one real number";
            return Err(error(ErrorKind::Shape, "grad", why, &[loss]).at(site));
        }
        let id = running.0.id;
        drop(running);
        let one = [Some(loss.ones_like())];
        let found = reverse::pull_back(std::slice::from_ref(loss), &one, &leaves, id)?;
        let grads =
            found.into_iter().zip(&leaves).map(|(g, l)| g.unwrap_or_else(|| l.zeros_like()));
        let grads = at.with_leaves(grads);
        Ok((value, grads))
    }
}

/// A function that gives the gradient of `f`; see [`value_and_grad`].
///
/// ```
/// use lazul_core::prelude::*;
/// let cube = |x: &Array| x * x.square();
/// let second = grad(grad(cube));
/// assert_eq!(second(&Array::scalar(2.0f32))?.item::<f32>()?, 12.0);
/// # Ok::<(), lazul_core::Error>(())
/// ```
///
/// # Errors
/// Of the returned function: as [`value_and_grad`].
#[track_caller]
pub fn grad<T: Tree, O: Objective, R: IntoResult<O>>(
    f: impl Fn(&T) -> R,
) -> impl Fn(&T) -> Result<T> {
    let both = value_and_grad(f);
    move |at| Ok(both(at)?.1)
}

/// The value of `f` at `primals`, and the cotangents of the primals for those of the results: the
/// vector-Jacobian product. For complex numbers it is the adjoint: the conjugate transpose.
///
/// ```
/// use lazul_core::prelude::*;
/// let x = Array::from_slice(&[1.0f32, 2.0], [2]);
/// let (y, dx) = vjp(|x: &Array| x.square(), &x, &Array::from_slice(&[1.0f32, 10.0], [2]))?;
/// assert_eq!(y.to_vec::<f32>()?, [1.0, 4.0]);
/// assert_eq!(dx.to_vec::<f32>()?, [2.0, 40.0]);
/// # Ok::<(), lazul_core::Error>(())
/// ```
///
/// # Errors
/// Those of `f`; if cotangents and results differ in number or shape; and where an operation has no
/// gradient.
#[track_caller]
pub fn vjp<T: Tree, O: Tree, R: IntoResult<O>>(
    f: impl Fn(&T) -> R,
    primals: &T,
    cotangents: &O,
) -> Result<(O, T)> {
    let running = Running::start();
    let leaves: Vec<Array> = owned(primals).iter().map(|a| a.marked(&running.0)).collect();
    let value = f(&primals.with_leaves(leaves.iter().cloned())).into_result()?;
    let outputs = owned(&value);
    outputs.iter().try_for_each(|o| o.check())?;
    let given = matching("vjp", &outputs, cotangents)?;
    let id = running.0.id;
    drop(running);
    let found = reverse::pull_back(&outputs, &given, &leaves, id)?;
    let found = found.into_iter().zip(&leaves).map(|(g, l)| g.unwrap_or_else(|| l.zeros_like()));
    let found = primals.with_leaves(found);
    Ok((value, found))
}

/// The value of `f` at `primals`, and the tangents of the results for those of the primals: the
/// Jacobian-vector product.
///
/// ```
/// use lazul_core::prelude::*;
/// let x = Array::from_slice(&[1.0f32, 2.0], [2]);
/// let (_, dy) = jvp(|x: &Array| x.square().sum(..), &x, &Array::from_slice(&[1.0f32, 10.0], [2]))?;
/// assert_eq!(dy.item::<f32>()?, 42.0);
/// # Ok::<(), lazul_core::Error>(())
/// ```
///
/// # Errors
/// Those of `f`; if tangents and primals differ in number or shape; and where an operation has no
/// derivative.
#[track_caller]
pub fn jvp<T: Tree, O: Tree, R: IntoResult<O>>(
    f: impl Fn(&T) -> R,
    primals: &T,
    tangents: &T,
) -> Result<(O, O)> {
    let running = Running::start();
    let leaves: Vec<Array> = owned(primals).iter().map(|a| a.marked(&running.0)).collect();
    leaves.iter().try_for_each(|l| l.check())?;
    let given = matching("jvp", &leaves, tangents)?;
    let value = f(&primals.with_leaves(leaves.iter().cloned())).into_result()?;
    let outputs = owned(&value);
    outputs.iter().try_for_each(|o| o.check())?;
    let id = running.0.id;
    drop(running);
    let found = forward::push_forward(&outputs, &leaves, &given, id)?;
    let found = found.into_iter().zip(&outputs).map(|(t, o)| t.unwrap_or_else(|| o.zeros_like()));
    let found = value.with_leaves(found);
    Ok((value, found))
}

/// Tangents or cotangents that go with `arrays`; none where an array is no number.
#[track_caller]
fn matching<T: Tree>(op: &'static str, arrays: &[Array], given: &T) -> Result<Vec<Option<Array>>> {
    let (given, site) = (owned(given), call_site());
    if given.len() != arrays.len() {
        let why = format!("{} arrays go with {}", given.len(), arrays.len());
        return Err(Error::new(ErrorKind::Value, op, why).at(site));
    }
    arrays
        .iter()
        .zip(given)
        .map(|(a, g)| {
            g.check()?;
            if g.0.shape != a.0.shape {
                let why = "shapes differ from those that they go with";
                return Err(error(ErrorKind::Shape, op, why, &[a, &g]).at(site));
            }
            Ok(a.0.dtype.is_inexact().then(|| g.astype(a.0.dtype)))
        })
        .collect()
}

/// A function over a batch: `f` is written for one example, and maps over the first axis of every
/// leaf. Results have the batch as their first axis.
///
/// ```
/// use lazul_core::prelude::*;
/// let dot = |(a, b): &(Array, Array)| (a * b).sum(..);
/// let rows = arange(6, DType::F32).reshape([2, 3]);
/// let dots = vmap(dot)(&(rows.clone(), rows))?;
/// assert_eq!(dots.to_vec::<f32>()?, [5.0, 50.0]);
/// # Ok::<(), lazul_core::Error>(())
/// ```
///
/// # Errors
/// Of the returned function: those of `f`; if the leaves have no first axis of one length; if `f`
/// reads the value of its argument.
#[track_caller]
pub fn vmap<T: Tree, O: Tree, R: IntoResult<O>>(f: impl Fn(&T) -> R) -> impl Fn(&T) -> Result<O> {
    vmap_axes(f, &[Some(0)], &[Some(0)])
}

/// As [`vmap`], over other axes: for each leaf of the argument the axis that is mapped over, or `None`
/// for a leaf that all examples share; for each leaf of the result where the batch goes, or `None` for one
/// that does not depend on the example. A single entry holds for all leaves.
///
/// ```
/// use lazul_core::prelude::*;
/// let f = |(x, w): &(Array, Array)| x * w;
/// let (x, w) = (ones([3, 2], DType::F32), arange(3, DType::F32));
/// let y = vmap_axes(f, &[Some(1), None], &[Some(1)])(&(x, w))?;
/// assert_eq!(y.shape()?, &[3, 2]);
/// # Ok::<(), lazul_core::Error>(())
/// ```
///
/// # Errors
/// Of the returned function: as [`vmap`]; if the axes are not one or one a leaf, or no axis of their
/// leaf; if a result for `None` depends on the example.
#[track_caller]
pub fn vmap_axes<T: Tree, O: Tree, R: IntoResult<O>, F: Fn(&T) -> R>(
    f: F,
    inputs: &[Option<i64>],
    outputs: &[Option<i64>],
) -> impl Fn(&T) -> Result<O> + use<T, O, R, F> {
    let (inputs, outputs) = (inputs.to_vec(), outputs.to_vec());
    let site = call_site();
    move |argument| map_over(&f, argument, &inputs, &outputs, site)
}

fn map_over<T: Tree, O: Tree, R: IntoResult<O>>(
    f: &impl Fn(&T) -> R,
    argument: &T,
    inputs: &[Option<i64>],
    outputs: &[Option<i64>],
    site: &'static Location<'static>,
) -> Result<O> {
    let wrong = |why: String| Error::new(ErrorKind::Axis, "vmap", why).at(site);
    let axis_in = |axis: i64, a: &Array, rank: usize| {
        let at = if axis < 0 { axis + rank as i64 } else { axis };
        let why = || format!("axis {axis} is out of range for {rank} dimensions");
        let inside = (0..rank as i64).contains(&at);
        inside.then_some(at).ok_or_else(|| error(ErrorKind::Axis, "vmap", why(), &[a]).at(site))
    };
    let leaves = owned(argument);
    let axes = one_each(inputs, leaves.len()).map_err(wrong)?;
    let mut size: Option<usize> = None;
    let mut arguments = Vec::with_capacity(leaves.len());
    for (leaf, axis) in leaves.iter().zip(&axes) {
        leaf.check()?;
        let Some(axis) = *axis else { continue };
        let axis = axis_in(axis, leaf, leaf.0.shape.len())?;
        let n = leaf.0.shape[axis as usize];
        if size.is_some_and(|s| s != n) {
            let all: Vec<&Array> = leaves.iter().collect();
            let why = "the axes that are mapped over differ in length";
            return Err(error(ErrorKind::Shape, "vmap", why, &all).at(site));
        }
        size = Some(n);
        arguments.push(leaf.moveaxis(axis, 0));
    }
    let Some(size) = size else {
        return Err(wrong("no leaf of the argument is mapped over".to_string()));
    };
    let specs: Vec<_> =
        arguments.iter().map(|a| (Shape::new(&a.0.shape[1..]), a.0.dtype)).collect();
    let mut template: Option<O> = None;
    let graph = Graph::trace_at(site, &specs, |placeholders| {
        let mut next = placeholders.iter();
        let given = leaves.iter().zip(&axes).map(|(leaf, axis)| match axis {
            Some(_) => next.next().cloned().unwrap_or_else(|| leaf.clone()),
            None => leaf.clone(),
        });
        let value = f(&argument.with_leaves(given)).into_result()?;
        let made = owned(&value);
        template = Some(value);
        Ok(made)
    })?;
    let template = template.ok_or_else(|| wrong("the function gave nothing".to_string()))?;
    let made = vectorised(&graph, &arguments, size)?;
    let axes = one_each(outputs, made.len()).map_err(wrong)?;
    let mut results = Vec::with_capacity(made.len());
    for ((array, batched), axis) in made.into_iter().zip(axes) {
        results.push(match (axis, batched) {
            (Some(axis), _) => {
                let array = if batched { array } else { with_batch(&array, size) };
                array.moveaxis(0, axis_in(axis, &array, array.0.shape.len())?)
            }
            (None, false) => array,
            (None, true) => {
                let why = "a result without a batch axis depends on the example";
                return Err(error(ErrorKind::Value, "vmap", why, &[&array]).at(site));
            }
        });
    }
    results.iter().try_for_each(|r| r.check())?;
    Ok(template.with_leaves(results))
}

/// One entry a leaf; a single entry is for all.
fn one_each(axes: &[Option<i64>], n: usize) -> Result<Vec<Option<i64>>, String> {
    match axes {
        [axis] => Ok(vec![*axis; n]),
        _ if axes.len() == n => Ok(axes.to_vec()),
        _ => Err(format!("{} axes are given for {n} leaves", axes.len())),
    }
}

/// A function that gives all first derivatives of `f`, an array's function that gives an array:
/// `(result's shape…, argument's shape…)`.
///
/// ```
/// use lazul_core::prelude::*;
/// let j = jacobian(|x: &Array| x.square())(&Array::from_slice(&[1.0f32, 2.0], [2]))?;
/// assert_eq!(j.to_vec::<f32>()?, [2.0, 0.0, 0.0, 4.0]);
/// # Ok::<(), lazul_core::Error>(())
/// ```
///
/// # Errors
/// Of the returned function: as [`vjp`].
#[track_caller]
pub fn jacobian<R: IntoResult<Array>>(f: impl Fn(&Array) -> R) -> impl Fn(&Array) -> Result<Array> {
    move |x| {
        let y = f(x).into_result()?;
        y.check()?;
        let n = y.0.shape.size();
        let mut rows = vec![n];
        rows.extend_from_slice(&y.0.shape);
        let basis = identity(n, y.0.dtype).reshape(rows);
        let back =
            |c: &Array| -> Result<Array> { Ok(vjp(|x: &Array| f(x).into_result(), x, c)?.1) };
        let all = vmap(back)(&basis)?; // (n, argument…)
        let mut shape = y.0.shape.to_vec();
        shape.extend_from_slice(&x.0.shape);
        Ok(all.reshape(shape))
    }
}

/// A function that gives all second derivatives of a scalar function of an array:
/// `(argument's shape…, argument's shape…)`.
///
/// ```
/// use lazul_core::prelude::*;
/// let h = hessian(|x: &Array| (x * x.square()).sum(..))(&Array::from_slice(&[1.0f32, 2.0], [2]))?;
/// assert_eq!(h.to_vec::<f32>()?, [6.0, 0.0, 0.0, 12.0]);
/// # Ok::<(), lazul_core::Error>(())
/// ```
///
/// # Errors
/// Of the returned function: as [`value_and_grad`].
#[track_caller]
pub fn hessian<R: IntoResult<Array>>(f: impl Fn(&Array) -> R) -> impl Fn(&Array) -> Result<Array> {
    jacobian(grad(move |x: &Array| f(x).into_result()))
}

impl Array {
    /// The array itself, through which no gradient passes: to derivatives it is a constant.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// let f = |x: &Array| x * x.stop_gradient();
    /// assert_eq!(grad(f)(&Array::scalar(3.0f32))?.item::<f32>()?, 3.0);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    #[track_caller]
    pub fn stop_gradient(&self) -> Array {
        if self.0.failed || self.0.trace.is_none() {
            return self.clone();
        }
        let op = Op::Identity { stop: true };
        let inputs = Inputs::from_iter([self.clone()]);
        let (shape, dtype) = spec(self);
        Array::lazy(op, inputs, shape, dtype, call_site())
    }
}

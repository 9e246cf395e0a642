//! Branches: one of two functions, chosen by a value.

use super::Control;
use super::graph::{Graph, Spec, spec};
use super::whiles::truth;
use crate::device::choice::Places;
use crate::error::{Error, ErrorKind, Result};
use crate::node::{Array, Data, Inputs, Op};
use crate::ops::elementwise::where_;
use crate::ops::error;
use crate::rules::{Call, Outputs, Slots, none, or_zeros};
use crate::scope::call_site;
use crate::transforms::{pulled_through, pushed_through, vectorised_through};
use crate::tree::{IntoResult, Tree, structure_of};
use lazul_ir::DType;
use std::sync::Arc;

/// The node: inputs are the condition, arguments, captures of the first function, of the second.
pub(crate) struct Branch {
    pub(crate) then: Arc<Graph>,
    pub(crate) other: Arc<Graph>,
}

/// What `then` gives for `argument` where `condition`, one bool, is true, and what `other` gives where it
/// is not. Both are traced; only one runs.
///
/// ```
/// use lazul_core::prelude::*;
/// let x = Array::scalar(4.0f32);
/// let root = |x: &Array| x.sqrt();
/// let y = cond(&x.greater(0.0), root, |x: &Array| x.zeros_like(), &x)?;
/// assert_eq!(y.item::<f32>()?, 2.0);
/// # Ok::<(), lazul_core::Error>(())
/// ```
///
/// # Errors
/// Those of the functions; if the condition is not one bool; if the functions give trees of different
/// structure, numbers of arrays, shapes or dtypes.
#[track_caller]
pub fn cond<T: Tree, O: Tree, R: IntoResult<O>, S: IntoResult<O>>(
    condition: &Array,
    then: impl Fn(&T) -> R,
    other: impl Fn(&T) -> S,
    argument: &T,
) -> Result<O> {
    let arguments: Vec<Array> = argument.leaves().into_iter().cloned().collect();
    let (mut template, mut second) = (None, None);
    let made = branched(
        condition,
        |xs| {
            let value = then(&argument.with_leaves(xs.iter().cloned())).into_result()?;
            let leaves = value.leaves().into_iter().cloned().collect();
            template = Some(value);
            Ok(leaves)
        },
        |xs| {
            let value = other(&argument.with_leaves(xs.iter().cloned())).into_result()?;
            second = Some(structure_of(&value));
            Ok(value.leaves().into_iter().cloned().collect())
        },
        &arguments,
    )?;
    if template.as_ref().map(structure_of) != second {
        let why = "the two functions give trees of different structure";
        return Err(Error::new(ErrorKind::Value, "cond", why).at(call_site()));
    }
    Ok(template.map(|t: O| t.with_leaves(made)).unwrap_or_else(|| unreachable!("it was traced")))
}

#[track_caller]
fn branched(
    condition: &Array,
    then: impl FnOnce(&[Array]) -> Result<Vec<Array>>,
    other: impl FnOnce(&[Array]) -> Result<Vec<Array>>,
    arguments: &[Array],
) -> Result<Vec<Array>> {
    const OP: &str = "cond";
    let site = call_site();
    condition.check()?;
    if condition.0.dtype != DType::Bool || condition.0.shape.size() != 1 {
        let why = "the condition must be one bool";
        return Err(error(ErrorKind::Shape, OP, why, &[condition]).at(site));
    }
    arguments.iter().try_for_each(|a| a.check())?;
    let specs: Vec<Spec> = arguments.iter().map(spec).collect();
    let then = Graph::trace(&specs, then).map_err(|e| e.at(site))?;
    let other = Graph::trace(&specs, other).map_err(|e| e.at(site))?;
    let outputs: Vec<Spec> = then.outputs.iter().map(spec).collect();
    if outputs.len() != other.outputs.len() {
        let (a, b) = (outputs.len(), other.outputs.len());
        let why = format!("one function gives {a} arrays, the other {b}");
        return Err(Error::new(ErrorKind::Value, OP, why).at(site));
    }
    for (a, b) in then.outputs.iter().zip(&other.outputs) {
        if spec(a) != spec(b) {
            let why = "the two functions give different shapes or dtypes";
            return Err(error(ErrorKind::Shape, OP, why, &[a, b]).at(site));
        }
    }
    let inputs: Inputs = [condition]
        .into_iter()
        .chain(arguments)
        .chain(&then.captures)
        .chain(&other.captures)
        .cloned()
        .collect();
    let control = Control::Branch(Branch { then: Arc::new(then), other: Arc::new(other) });
    Ok(Array::lazy_many(Op::Control(Arc::new(control)), inputs, &outputs, site))
}

impl Branch {
    /// Arguments and captures of the first function, and of the second, as they stand after the condition.
    fn parts<T: Clone>(&self, inputs: &[T]) -> [Vec<T>; 2] {
        let (arguments, captures) = inputs.split_at(self.then.arguments.len());
        let (a, b) = captures.split_at(self.then.captures.len());
        [[arguments, a].concat(), [arguments, b].concat()]
    }

    /// One of the functions on arguments and captures.
    fn replay(&self, graph: &Graph, inputs: &[Array]) -> Vec<Array> {
        let (arguments, captures) = inputs.split_at(graph.arguments.len());
        graph.replay(arguments, captures)
    }

    pub(super) fn run(&self, mut inputs: Vec<Data>, places: Places) -> Result<Vec<Data>> {
        let rest = inputs.split_off(1);
        let [a, b] = self.parts(&rest);
        drop(rest);
        if truth(&inputs[0])? { self.then.run(a, places) } else { self.other.run(b, places) }
    }

    pub(super) fn vjp(
        &self,
        call: &Call<'_>,
        cotangents: &[Option<Array>],
        wanted: &[bool],
    ) -> Result<Slots> {
        let inputs = &call.inputs[1..];
        let wanted = &wanted[1..];
        let n = inputs.len();
        // Cotangents become arguments: both functions take all of them.
        let given: Vec<usize> =
            (0..cotangents.len()).filter(|&i| cotangents[i].is_some()).collect();
        let mut arguments = inputs.to_vec();
        arguments.extend(cotangents.iter().flatten().cloned());
        let back = |graph: &Graph, which: usize, xs: &[Array]| -> Result<Vec<Array>> {
            let (xs, cs) = xs.split_at(n);
            let mut full = vec![None; cotangents.len()];
            given.iter().zip(cs).for_each(|(&i, c)| full[i] = Some(c.clone()));
            let own = self.parts(xs)[which].clone();
            let positions = self.parts(&(0..n).collect::<Vec<_>>())[which].clone();
            let flags: Vec<bool> = positions.iter().map(|&p| wanted[p]).collect();
            let found = pulled_through(|xs| Ok(self.replay(graph, xs)), &own, &full, &flags)?;
            let mut all: Vec<Option<Array>> = vec![None; n];
            positions.iter().zip(found).for_each(|(&p, c)| all[p] = c);
            let wanted = (0..n).filter(|&i| wanted[i]);
            Ok(wanted.map(|i| or_zeros(&all[i], &xs[i])).collect())
        };
        let made = branched(
            &call.inputs[0],
            |xs| back(&self.then, 0, xs),
            |xs| back(&self.other, 1, xs),
            &arguments,
        )?;
        let mut slots = none(n + 1);
        let wanted = (0..n).filter(|&i| wanted[i]);
        wanted.zip(made).for_each(|(i, c)| slots[i + 1] = Some(c));
        Ok(slots)
    }

    pub(super) fn jvp(&self, call: &Call<'_>, tangents: &[Option<Array>]) -> Result<Slots> {
        let inputs = &call.inputs[1..];
        let tangents = &tangents[1..];
        let n = inputs.len();
        let moved: Vec<usize> = (0..n).filter(|&i| tangents[i].is_some()).collect();
        let mut arguments = inputs.to_vec();
        arguments.extend(tangents.iter().flatten().cloned());
        let real: Vec<usize> =
            (0..call.outputs.len()).filter(|&i| call.outputs[i].0.dtype.is_inexact()).collect();
        let forth = |graph: &Graph, which: usize, xs: &[Array]| -> Result<Vec<Array>> {
            let (xs, ts) = xs.split_at(n);
            let mut full = vec![None; n];
            moved.iter().zip(ts).for_each(|(&i, t)| full[i] = Some(t.clone()));
            let own = self.parts(xs)[which].clone();
            let given = self.parts(&full)[which].clone();
            let mut made = Vec::new();
            let f = |xs: &[Array]| {
                made = self.replay(graph, xs);
                Ok(made.clone())
            };
            let found = pushed_through(f, &own, &given)?;
            Ok(real.iter().map(|&i| or_zeros(&found[i], &made[i])).collect())
        };
        let made = branched(
            &call.inputs[0],
            |xs| forth(&self.then, 0, xs),
            |xs| forth(&self.other, 1, xs),
            &arguments,
        )?;
        let mut slots = none(call.outputs.len());
        real.iter().zip(made).for_each(|(&i, t)| slots[i] = Some(t));
        Ok(slots)
    }

    pub(super) fn vmap(&self, inputs: &[Array], batched: &[bool], size: usize) -> Result<Outputs> {
        let (condition, inputs) = (&inputs[0], &inputs[1..]);
        let flags = self.parts(&batched[1..]);
        let over = |graph: &Graph, which: usize, xs: &[Array]| -> Result<Vec<Array>> {
            let own = self.parts(xs)[which].clone();
            let f = |xs: &[Array]| Ok(self.replay(graph, xs));
            Ok(vectorised_through(f, &own, &flags[which], size)?.into_vec())
        };
        if !batched[0] {
            let made = branched(
                condition,
                |xs| over(&self.then, 0, xs),
                |xs| over(&self.other, 1, xs),
                inputs,
            )?;
            return Ok(made.into_iter().collect());
        }
        // Each example chooses for itself, so both run.
        let (a, b) = (over(&self.then, 0, inputs)?, over(&self.other, 1, inputs)?);
        let chosen = a.iter().zip(&b).map(|(a, b)| {
            let mut column = vec![1usize; a.0.shape.len()];
            column[0] = size;
            where_(condition.reshape(column), a, b)
        });
        Ok(chosen.collect())
    }
}

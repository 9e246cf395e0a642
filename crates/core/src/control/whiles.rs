//! Loops whose number of steps depends on values.

use super::Control;
use super::graph::{Graph, Spec, spec};
use crate::device::choice::Places;
use crate::device::session::settle;
use crate::error::{Error, ErrorKind, Result};
use crate::node::{Array, Data, Inputs, Op};
use crate::ops::elementwise::where_;
use crate::ops::error;
use crate::rules::{Call, Outputs, Slots, all_batched, none, or_zeros};
use crate::scope::call_site;
use crate::transforms::{pushed_through, vectorised_through};
use crate::tree::{IntoResult, Tree, structure_of};
use lazul_ir::{DType, HOST};
use std::sync::Arc;

/// The node: inputs are first values, captures of the condition, captures of the body.
pub(crate) struct While {
    pub(crate) condition: Arc<Graph>,
    pub(crate) body: Arc<Graph>,
}

/// Calls `body` on its own result, beginning with `init`, for as long as `condition` gives true, and gives
/// the last value.
///
/// Both functions are traced once; how often the body runs is known only when the graph does. The value
/// keeps its shapes and dtypes. Forward derivatives and batches pass through; a reverse gradient does not
/// ([`scan`](crate::scan) has one).
///
/// ```
/// use lazul_core::prelude::*;
/// let halve = |x: &Array| x * 0.5;
/// let x = while_loop(|x: &Array| x.greater(1.0), halve, &Array::scalar(100.0f32))?;
/// assert_eq!(x.item::<f32>()?, 0.78125);
/// # Ok::<(), lazul_core::Error>(())
/// ```
///
/// # Errors
/// Those of the functions; if the condition is not one bool; if the body changes shapes, dtypes, or the
/// number or structure of arrays.
#[track_caller]
pub fn while_loop<T: Tree, B: IntoResult<Array>, R: IntoResult<T>>(
    condition: impl Fn(&T) -> B,
    body: impl Fn(&T) -> R,
    init: &T,
) -> Result<T> {
    let first: Vec<Array> = init.leaves().into_iter().cloned().collect();
    let mut template = None;
    let made = repeated(
        |xs| condition(&init.with_leaves(xs.iter().cloned())).into_result(),
        |xs| {
            let value = body(&init.with_leaves(xs.iter().cloned())).into_result()?;
            if structure_of(&value) != structure_of(init) {
                let why = "the body changes the structure of its value";
                return Err(Error::new(ErrorKind::Value, "while_loop", why));
            }
            let leaves = value.leaves().into_iter().cloned().collect();
            template = Some(value);
            Ok(leaves)
        },
        &first,
    )?;
    Ok(template.unwrap_or_else(|| init.clone()).with_leaves(made))
}

#[track_caller]
fn repeated(
    condition: impl FnOnce(&[Array]) -> Result<Array>,
    body: impl FnOnce(&[Array]) -> Result<Vec<Array>>,
    init: &[Array],
) -> Result<Vec<Array>> {
    const OP: &str = "while_loop";
    let site = call_site();
    init.iter().try_for_each(|a| a.check())?;
    let specs: Vec<Spec> = init.iter().map(spec).collect();
    let keyed = crate::random::Keyed::start(OP);
    let condition = Graph::trace(&specs, |xs| {
        let go = condition(xs)?;
        go.check()?;
        if go.0.dtype != DType::Bool || go.0.shape.size() != 1 {
            let why = "the condition must be one bool";
            return Err(error(ErrorKind::Shape, OP, why, &[&go]));
        }
        Ok(vec![go])
    })
    .map_err(|e| e.at(site))?;
    let body = Graph::trace(&specs, |xs| {
        let made = body(xs)?;
        if made.len() != init.len() {
            let why = format!("the body gives {} arrays for {}", made.len(), init.len());
            return Err(Error::new(ErrorKind::Value, OP, why));
        }
        for (before, after) in init.iter().zip(&made) {
            after.check()?;
            if spec(before) != spec(after) {
                let why = "the body changes a shape or dtype";
                return Err(error(ErrorKind::Shape, OP, why, &[before, after]));
            }
        }
        Ok(made)
    })
    .map_err(|e| e.at(site))?;
    drop(keyed);
    let inputs: Inputs =
        init.iter().chain(&condition.captures).chain(&body.captures).cloned().collect();
    let control = Control::While(While { condition: Arc::new(condition), body: Arc::new(body) });
    Ok(Array::lazy_many(Op::Control(Arc::new(control)), inputs, &specs, site))
}

/// The one bool that `data` holds.
pub(super) fn truth(data: &Data) -> Result<bool> {
    let place = data.home();
    if place == HOST {
        let held = data.at(HOST, DType::Bool)?;
        // SAFETY: the data is one initialised bool, as was checked when its function was traced; bools
        // are bytes of 0 or 1.
        return Ok(unsafe { *held.ptr != 0 });
    }
    let mut byte = 0u8;
    // SAFETY: as above, on a device.
    unsafe { data.download(place, DType::Bool, &mut byte, 1) }?;
    // What an index out of bounds left behind decides nothing.
    settle()?;
    Ok(byte != 0)
}

impl While {
    fn values(&self) -> usize {
        self.body.arguments.len()
    }

    fn split<'a, T>(&self, inputs: &'a [T]) -> (&'a [T], &'a [T], &'a [T]) {
        let (init, rest) = inputs.split_at(self.values());
        let (condition, body) = rest.split_at(self.condition.captures.len());
        (init, condition, body)
    }

    pub(super) fn run(&self, mut inputs: Vec<Data>, places: Places) -> Result<Vec<Data>> {
        let mut captures = inputs.split_off(self.values());
        let of_body = captures.split_off(self.condition.captures.len());
        let mut values = inputs;
        loop {
            let given = values.iter().chain(&captures).cloned().collect();
            if !truth(&self.condition.run(given, places)?[0])? {
                return Ok(values);
            }
            values.extend(of_body.iter().cloned());
            values = self.body.run(values, places)?;
        }
    }

    pub(super) fn vjp(&self) -> Result<Slots> {
        let why = "a loop of unknown length has no reverse gradient; scan has one";
        Err(Error::new(ErrorKind::Value, "while_loop", why))
    }

    pub(super) fn jvp(&self, call: &Call<'_>, tangents: &[Option<Array>]) -> Result<Slots> {
        let (init, of_condition, of_body) = self.split(call.inputs);
        let (t_init, _, t_body) = self.split(tangents);
        let n = self.values();
        let real: Vec<usize> = (0..n).filter(|&i| init[i].0.dtype.is_inexact()).collect();
        let mut first = init.to_vec();
        first.extend(real.iter().map(|&i| or_zeros(&t_init[i], &init[i])));
        let go = |xs: &[Array]| Ok(self.condition.replay(&xs[..n], of_condition).remove(0));
        let step = |xs: &[Array]| {
            let (x, t) = xs.split_at(n);
            let all = [x, of_body].concat();
            let mut given = vec![None; n];
            real.iter().zip(t).for_each(|(&i, t)| given[i] = Some(t.clone()));
            given.extend(t_body.iter().cloned());
            let mut made = Vec::new();
            let f = |all: &[Array]| {
                made = self.body.replay(&all[..n], &all[n..]);
                Ok(made.clone())
            };
            let found = pushed_through(f, &all, &given)?;
            let tangents: Vec<Array> =
                real.iter().map(|&i| or_zeros(&found[i], &made[i])).collect();
            Ok([made, tangents].concat())
        };
        let last = repeated(go, step, &first)?;
        let mut slots = none(n);
        real.iter().zip(&last[n..]).for_each(|(&i, t)| slots[i] = Some(t.clone()));
        Ok(slots)
    }

    /// The loop runs until every example is done; those that are keep their values.
    pub(super) fn vmap(&self, inputs: &[Array], batched: &[bool], size: usize) -> Result<Outputs> {
        let (init, of_condition, of_body) = self.split(inputs);
        let (in_init, in_condition, in_body) = self.split(batched);
        let n = self.values();
        let first = all_batched(init, in_init, size);
        let each = |xs: &[Array]| -> Result<Array> {
            let all = [xs, of_condition].concat();
            let flags = [&vec![true; n][..], in_condition].concat();
            let f = |all: &[Array]| Ok(self.condition.replay(&all[..n], &all[n..]));
            Ok(vectorised_through(f, &all, &flags, size)?.remove(0).reshape([size]))
        };
        let step = |xs: &[Array]| {
            let go = each(xs)?;
            let all = [xs, of_body].concat();
            let flags = [&vec![true; n][..], in_body].concat();
            let f = |all: &[Array]| Ok(self.body.replay(&all[..n], &all[n..]));
            let made = vectorised_through(f, &all, &flags, size)?;
            let chosen = made.iter().zip(xs).map(|(new, old)| {
                let mut column = vec![1usize; new.0.shape.len()];
                column[0] = size;
                where_(go.reshape(column), new, old)
            });
            Ok(chosen.collect())
        };
        let last = repeated(|xs| Ok(each(xs)?.any(..)), step, &first)?;
        Ok(last.into_iter().collect())
    }
}

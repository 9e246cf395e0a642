//! Loops over the first axis of arrays: one node, whatever the length.
//!
//! The gradient of a loop is a loop backwards. It needs the carry before each step; a loop that a
//! transform looks at keeps them (its *history*) as further results, and within a step everything is
//! computed again.

use super::Control;
use super::graph::{Graph, Spec, spec};
use crate::array::check_shape;
use crate::device::choice::Places;
use crate::device::replica::alloc;
use crate::error::{Error, ErrorKind, Result};
use crate::eval::view::copy_to;
use crate::node::{Array, Data, Inputs, Op};
use crate::ops::error;
use crate::rules::{Call, Outputs, Slots, all_batched, batch_shape, none, or_zeros};
use crate::scope::call_site;
use crate::trace::inherited;
use crate::transforms::{pulled_through, pushed_through, vectorised_through};
use crate::tree::{IntoResult, Tree, structure_of};
use lazul_ir::{Buffer, Place, Shape, Strides};
use std::sync::Arc;

/// How a loop runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Loop {
    /// Number of steps; needed only where nothing is looped over.
    pub length: Option<usize>,
    /// From the last element to the first; results stand where their elements do.
    pub reverse: bool,
}

/// The node: inputs are first carries, what is looped over, captures; results are last carries, stacked
/// results, and the history if it is kept.
pub(crate) struct Scan {
    pub(crate) body: Arc<Graph>,
    pub(crate) carries: usize,
    pub(crate) xs: usize,
    pub(crate) length: usize,
    pub(crate) reverse: bool,
    pub(crate) history: bool,
}

/// Calls `f(carry, x)` for each slice `x` of `xs` along the first axis of its leaves, passing the carry
/// on, and gives the last carry and what each step gave beside it, stacked along a new first axis.
///
/// One step is traced, whatever the length; the loop is one node of the graph, differentiable and
/// vectorisable like any other. The carry keeps its shapes and dtypes.
///
/// ```
/// use lazul_core::prelude::*;
/// let x = arange_step(1, 5, 1, DType::F32);
/// let (sum, sums) = scan(|c: &Array, x: &Array| (c + x, c + x), &Array::scalar(0.0f32), &x)?;
/// assert_eq!(sum.item::<f32>()?, 10.0);
/// assert_eq!(sums.to_vec::<f32>()?, [1.0, 3.0, 6.0, 10.0]);
/// # Ok::<(), lazul_core::Error>(())
/// ```
///
/// # Errors
/// Those of `f`; if leaves of `xs` have no first axis of one length; if the carry changes its shapes,
/// dtypes, number or structure.
#[track_caller]
pub fn scan<C: Tree, X: Tree, Y: Tree, R: IntoResult<(C, Y)>>(
    f: impl Fn(&C, &X) -> R,
    init: &C,
    xs: &X,
) -> Result<(C, Y)> {
    scan_with(f, init, xs, Loop::default())
}

/// As [`scan`], backwards, or for a number of steps over nothing.
///
/// ```
/// use lazul_core::prelude::*;
/// let double = |c: &Array, _: &()| (c * 2.0, ());
/// let steps = Loop { length: Some(10), ..Default::default() };
/// let (x, ()) = scan_with(double, &Array::scalar(1.0f32), &(), steps)?;
/// assert_eq!(x.item::<f32>()?, 1024.0);
/// # Ok::<(), lazul_core::Error>(())
/// ```
///
/// # Errors
/// As [`scan`]; if nothing is looped over and no length is given, or another one than that of `xs`.
#[track_caller]
pub fn scan_with<C: Tree, X: Tree, Y: Tree, R: IntoResult<(C, Y)>>(
    f: impl Fn(&C, &X) -> R,
    init: &C,
    xs: &X,
    how: Loop,
) -> Result<(C, Y)> {
    let first: Vec<Array> = init.leaves().into_iter().cloned().collect();
    let over: Vec<Array> = xs.leaves().into_iter().cloned().collect();
    let mut template: Option<(C, Y)> = None;
    let body = |carry: &[Array], x: &[Array]| {
        let carry = init.with_leaves(carry.iter().cloned());
        let x = xs.with_leaves(x.iter().cloned());
        let (carry, y) = f(&carry, &x).into_result()?;
        if structure_of(&carry) != structure_of(init) {
            let why = "a step changes the structure of what it carries";
            return Err(Error::new(ErrorKind::Value, "scan", why));
        }
        let made = [&carry.leaves()[..], &y.leaves()[..]]
            .map(|l| l.iter().map(|a| (*a).clone()).collect());
        template = Some((carry, y));
        Ok(made)
    };
    let (carries, ys) = looped(body, &first, &over, how)?;
    let Some((carry, y)) = template else { unreachable!("the body was traced") };
    Ok((carry.with_leaves(carries), y.with_leaves(ys)))
}

/// The loop over arrays.
#[track_caller]
fn looped(
    body: impl FnOnce(&[Array], &[Array]) -> Result<[Vec<Array>; 2]>,
    init: &[Array],
    xs: &[Array],
    how: Loop,
) -> Result<(Vec<Array>, Vec<Array>)> {
    let site = call_site();
    let length = length_of(xs, how.length)?;
    let slices = xs.iter().map(|x| (Shape::new(&x.0.shape[1..]), x.0.dtype));
    let specs: Vec<Spec> = init.iter().map(spec).chain(slices).collect();
    init.iter().try_for_each(|c| c.check())?;
    let mut ys = 0;
    let keyed = crate::random::Keyed::start("scan");
    let graph = Graph::trace(&specs, |given| {
        let [carries, y] = body(&given[..init.len()], &given[init.len()..])?;
        if carries.len() != init.len() {
            let why = format!("a step gives {} arrays to carry for {}", carries.len(), init.len());
            return Err(Error::new(ErrorKind::Value, "scan", why));
        }
        for (before, after) in init.iter().zip(&carries) {
            after.check()?;
            if spec(before) != spec(after) {
                let why = "a step changes the shape or dtype of what it carries";
                return Err(error(ErrorKind::Shape, "scan", why, &[before, after]));
            }
        }
        ys = y.len();
        Ok(carries.into_iter().chain(y).collect())
    })
    .map_err(|e| e.at(site))?;
    drop(keyed);
    let graph = Arc::new(graph);
    let inputs: Inputs = init.iter().chain(xs).chain(&graph.captures).cloned().collect();
    let history = inherited(&inputs).is_some();
    let stacked = |s: Spec| (batch_shape(&s.0, length), s.1);
    let mut outputs: Vec<Spec> = init.iter().map(spec).collect();
    outputs.extend(graph.outputs[init.len()..].iter().map(|y| stacked(spec(y))));
    if history {
        outputs.extend(init.iter().map(|c| stacked(spec(c))));
    }
    outputs.iter().try_for_each(|o| check_shape("scan", &o.0)).map_err(|e| e.at(site))?;
    let (carries, reverse) = (init.len(), how.reverse);
    let scan = Scan { body: graph, carries, xs: xs.len(), length, reverse, history };
    let op = Op::Control(Arc::new(Control::Scan(scan)));
    let mut made = Array::lazy_many(op, inputs, &outputs, site);
    made.truncate(carries + ys);
    let ys = made.split_off(carries);
    Ok((made, ys))
}

#[track_caller]
fn length_of(xs: &[Array], asked: Option<usize>) -> Result<usize> {
    let site = call_site();
    let wrong = |why: &str| Error::new(ErrorKind::Value, "scan", why).at(site);
    let mut length = asked;
    for x in xs {
        x.check()?;
        let Some(&n) = x.0.shape.first() else {
            let why = "what is looped over has no first axis";
            return Err(error(ErrorKind::Shape, "scan", why, &[x]).at(site));
        };
        if length.is_some_and(|l| l != n) {
            let all: Vec<&Array> = xs.iter().collect();
            let why = "what is looped over differs in length";
            return Err(error(ErrorKind::Shape, "scan", why, &all).at(site));
        }
        length = Some(n);
    }
    length.ok_or_else(|| wrong("nothing is looped over, and no length is given"))
}

/// Index `i` along the first axis of data with a shape.
fn slice(data: &Data, i: usize) -> Data {
    let step = data.strides.first().copied().unwrap_or(0);
    let offset = (data.offset as isize + step * i as isize) as usize;
    let strides: Strides = data.strides.iter().skip(1).copied().collect();
    Data { storage: data.storage.clone(), strides, offset, number: data.number }
}

/// Row-major memory that slices are written into.
struct Stack {
    buffer: Buffer,
    spec: Spec,
    place: Place,
}

impl Stack {
    fn new(spec: Spec, length: usize, place: Place) -> Result<Stack> {
        // The node's shapes were checked, and so their bytes can be counted.
        let bytes = batch_shape(&spec.0, length).size() * spec.1.size();
        Ok(Stack { buffer: alloc(place, bytes)?, spec, place })
    }

    fn put(&self, i: usize, data: &Data) -> Result<()> {
        let (shape, dtype) = &self.spec;
        let bytes = shape.size() * dtype.size();
        if bytes == 0 {
            return Ok(());
        }
        // The buffer holds `length` slices of `bytes` bytes, and `i` is below the length.
        let ptr = self.buffer.ptr().wrapping_add(i * bytes);
        copy_to(self.place, data, shape, *dtype, ptr)
    }

    fn done(self, length: usize) -> Data {
        Data::contiguous(self.buffer, &batch_shape(&self.spec.0, length))
    }
}

impl Scan {
    pub(super) fn run(&self, mut inputs: Vec<Data>, places: Places) -> Result<Vec<Data>> {
        let captures = inputs.split_off(self.carries + self.xs);
        let xs = inputs.split_off(self.carries);
        let mut carry = inputs;
        let stacks = |arrays: &[Array]| -> Result<Vec<Stack>> {
            arrays.iter().map(|a| Stack::new(spec(a), self.length, places.default)).collect()
        };
        let ys = stacks(&self.body.outputs[self.carries..])?;
        let history = stacks(&self.body.arguments[..if self.history { self.carries } else { 0 }])?;
        for step in 0..self.length {
            let i = if self.reverse { self.length - 1 - step } else { step };
            for (stack, c) in history.iter().zip(&carry) {
                stack.put(i, c)?;
            }
            let mut given = carry;
            given.extend(xs.iter().map(|x| slice(x, i)));
            given.extend(captures.iter().cloned());
            let mut made = self.body.run(given, places)?;
            let y = made.split_off(self.carries);
            for (stack, y) in ys.iter().zip(&y) {
                stack.put(i, y)?;
            }
            carry = made;
        }
        carry.extend(ys.into_iter().chain(history).map(|s| s.done(self.length)));
        Ok(carry)
    }

    fn how(&self, reverse: bool) -> Loop {
        Loop { length: Some(self.length), reverse }
    }

    fn split<'a, T>(&self, inputs: &'a [T]) -> (&'a [T], &'a [T], &'a [T]) {
        let (init, rest) = inputs.split_at(self.carries);
        let (xs, captures) = rest.split_at(self.xs);
        (init, xs, captures)
    }

    /// The carry before each step, stacked.
    fn history(&self, call: &Call<'_>) -> Result<Vec<Array>> {
        if self.history {
            return Ok(call.outputs[call.outputs.len() - self.carries..].to_vec());
        }
        let (init, xs, captures) = self.split(call.inputs);
        let body = |carry: &[Array], x: &[Array]| {
            let given = [carry, x].concat();
            let made = self.body.replay(&given, captures);
            Ok([made[..self.carries].to_vec(), carry.to_vec()])
        };
        Ok(looped(body, init, xs, self.how(self.reverse))?.1)
    }

    pub(super) fn vjp(
        &self,
        call: &Call<'_>,
        cotangents: &[Option<Array>],
        wanted: &[bool],
    ) -> Result<Slots> {
        let (init, xs, captures) = self.split(call.inputs);
        let (_, _, wanted_captures) = self.split(wanted);
        let history = self.history(call)?;
        let ys = self.body.outputs.len() - self.carries;
        let float = |a: &Array| a.0.dtype.is_inexact();
        // Carried backwards: cotangents of real carries, then sums for captures.
        let real: Vec<usize> = (0..self.carries).filter(|&i| float(&init[i])).collect();
        let kept: Vec<usize> =
            (0..captures.len()).filter(|&i| float(&captures[i]) && wanted_captures[i]).collect();
        let real_x: Vec<usize> = (0..self.xs).filter(|&i| float(&xs[i])).collect();
        let real_y: Vec<usize> =
            (0..ys).filter(|&i| float(&self.body.outputs[self.carries + i])).collect();
        let mut first: Vec<Array> =
            real.iter().map(|&i| or_zeros(&cotangents[i], &init[i])).collect();
        first.extend(kept.iter().map(|&i| captures[i].zeros_like()));
        let mut over: Vec<Array> = [&history[..], xs].concat();
        let given_y =
            |i: usize| or_zeros(&cotangents[self.carries + i], &call.outputs[self.carries + i]);
        over.extend(real_y.iter().map(|&i| given_y(i)));
        // Gradients of gradients read the history, so it has cotangents too.
        let of_history = |i: usize| cotangents.get(self.carries + ys + i)?.clone();
        let read: Vec<usize> = real.iter().copied().filter(|&i| of_history(i).is_some()).collect();
        over.extend(read.iter().filter_map(|&i| of_history(i)));
        let back = |carry: &[Array], x: &[Array]| {
            let (c_carry, sums) = carry.split_at(real.len());
            let (inputs, rest) = x.split_at(self.carries + self.xs);
            let (c_y, c_read) = rest.split_at(real_y.len());
            let mut given = vec![None; self.carries + ys];
            real.iter().zip(c_carry).for_each(|(&i, c)| given[i] = Some(c.clone()));
            real_y.iter().zip(c_y).for_each(|(&i, c)| given[self.carries + i] = Some(c.clone()));
            let all = [inputs, captures].concat();
            let wanted: Vec<bool> = (0..all.len())
                .map(|i| match i.checked_sub(inputs.len()) {
                    Some(i) => kept.contains(&i),
                    None => float(&all[i]),
                })
                .collect();
            let step = |all: &[Array]| {
                let (inputs, captures) = all.split_at(inputs.len());
                Ok(self.body.replay(inputs, captures))
            };
            let found = pulled_through(step, &all, &given, &wanted)?;
            let at = |i: usize| or_zeros(&found[i], &all[i]);
            let before = |i: usize| match read.iter().position(|&r| r == i) {
                Some(r) => at(i) + &c_read[r],
                None => at(i),
            };
            let mut carry: Vec<Array> = real.iter().map(|&i| before(i)).collect();
            carry.extend(kept.iter().zip(sums).map(|(&i, s)| match &found[inputs.len() + i] {
                Some(c) => s + c,
                None => s.clone(),
            }));
            Ok([carry, real_x.iter().map(|&i| at(self.carries + i)).collect()])
        };
        let (last, of_xs) = looped(back, &first, &over, self.how(!self.reverse))?;
        let mut slots = none(call.inputs.len());
        let (of_init, of_captures) = last.split_at(real.len());
        real.iter().zip(of_init).for_each(|(&i, c)| slots[i] = Some(c.clone()));
        real_x.iter().zip(of_xs).for_each(|(&i, c)| slots[self.carries + i] = Some(c));
        let from = self.carries + self.xs;
        kept.iter().zip(of_captures).for_each(|(&i, c)| slots[from + i] = Some(c.clone()));
        Ok(slots)
    }

    pub(super) fn jvp(&self, call: &Call<'_>, tangents: &[Option<Array>]) -> Result<Slots> {
        let (init, xs, captures) = self.split(call.inputs);
        let (t_init, t_xs, t_captures) = self.split(tangents);
        let float = |a: &Array| a.0.dtype.is_inexact();
        let real: Vec<usize> = (0..self.carries).filter(|&i| float(&init[i])).collect();
        let moved_x: Vec<usize> = (0..self.xs).filter(|&i| t_xs[i].is_some()).collect();
        let ys = self.body.outputs.len() - self.carries;
        let real_y: Vec<usize> =
            (0..ys).filter(|&i| float(&self.body.outputs[self.carries + i])).collect();
        let mut first = init.to_vec();
        first.extend(real.iter().map(|&i| or_zeros(&t_init[i], &init[i])));
        let mut over = xs.to_vec();
        over.extend(moved_x.iter().filter_map(|&i| t_xs[i].clone()));
        let forth = |carry: &[Array], x: &[Array]| {
            let (carry, t_carry) = carry.split_at(self.carries);
            let (x, t_x) = x.split_at(self.xs);
            let all = [carry, x, captures].concat();
            let mut given = vec![None; all.len()];
            real.iter().zip(t_carry).for_each(|(&i, t)| given[i] = Some(t.clone()));
            moved_x.iter().zip(t_x).for_each(|(&i, t)| given[self.carries + i] = Some(t.clone()));
            let from = self.carries + self.xs;
            t_captures.iter().enumerate().for_each(|(i, t)| given[from + i] = t.clone());
            let mut made = Vec::new();
            let step = |all: &[Array]| {
                made = self.body.replay(&all[..from], &all[from..]);
                Ok(made.clone())
            };
            let found = pushed_through(step, &all, &given)?;
            let at = |i: usize| or_zeros(&found[i], &made[i]);
            let mut carry = made[..self.carries].to_vec();
            carry.extend(real.iter().map(|&i| at(i)));
            Ok([carry, real_y.iter().map(|&i| at(self.carries + i)).collect()])
        };
        let (last, of_ys) = looped(forth, &first, &over, self.how(self.reverse))?;
        let mut slots = none(call.outputs.len());
        let of_carries = &last[self.carries..];
        real.iter().zip(of_carries).for_each(|(&i, t)| slots[i] = Some(t.clone()));
        real_y.iter().zip(of_ys).for_each(|(&i, t)| slots[self.carries + i] = Some(t));
        if self.history {
            // How the history moves: the tangent of each carry before its step.
            let mut first = init.to_vec();
            first.extend(real.iter().map(|&i| or_zeros(&t_init[i], &init[i])));
            let before = |carry: &[Array], x: &[Array]| {
                let [after, _] = forth(carry, x)?;
                Ok([after, carry[self.carries..].to_vec()])
            };
            let (_, of_history) = looped(before, &first, &over, self.how(self.reverse))?;
            let from = call.outputs.len() - self.carries;
            real.iter().zip(of_history).for_each(|(&i, t)| slots[from + i] = Some(t));
        }
        Ok(slots)
    }

    pub(super) fn vmap(&self, inputs: &[Array], batched: &[bool], size: usize) -> Result<Outputs> {
        let (init, xs, captures) = self.split(inputs);
        let (in_init, in_xs, in_captures) = self.split(batched);
        let first = all_batched(init, in_init, size);
        // The loop runs over the first axis: (batch, length, …) → (length, batch, …).
        let over: Vec<Array> = xs
            .iter()
            .zip(in_xs)
            .map(|(x, &b)| if b { x.moveaxis(0, 1) } else { x.clone() })
            .collect();
        let body = |carry: &[Array], x: &[Array]| {
            let all = [carry, x, captures].concat();
            let flags = [&vec![true; self.carries][..], in_xs, in_captures].concat();
            let from = self.carries + self.xs;
            let step = |all: &[Array]| Ok(self.body.replay(&all[..from], &all[from..]));
            let mut made = vectorised_through(step, &all, &flags, size)?.into_vec();
            let mut y = made.split_off(self.carries);
            if self.history {
                y.extend_from_slice(carry);
            }
            Ok([made, y])
        };
        let (last, ys) = looped(body, &first, &over, self.how(self.reverse))?;
        let stacked = ys.into_iter().map(|y| y.moveaxis(1, 0));
        Ok(last.into_iter().chain(stacked).collect())
    }
}

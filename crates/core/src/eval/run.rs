//! Running a planned program.
//!
//! Each value has a slot for its memory and layout while the program runs. A stage takes its operands
//! from their slots, in the place where it runs, gets memory there for its results (or an operand's, where
//! nobody else needs that any more: donation), and hands over a job. What a device has no kernel for runs
//! on the host. Views only compute a layout.

use super::Mode;
use super::claim::{Program, Role, Value};
use super::plan::{Fused, Plan, Work};
use super::view::{copy_to, read, view_of};
use crate::control::Control;
use crate::device::accelerator::{accelerator, is_fallible, opened};
use crate::device::choice::Places;
use crate::device::launch::{launch, record_fallback};
use crate::device::replica::alloc;
use crate::device::session::{Evaluation, enter};
use crate::error::{Error, ErrorKind, Result};
use crate::node::{Array, Data, Op, Origin, State, Storage};
use lazul_ir::{Buffer, DType, HOST, Job, Operand, Place, Prim, Shape, Target};
use smallvec::SmallVec;
use std::cell::RefCell;
use std::sync::Arc;

struct Run<'a> {
    values: &'a [Value],
    places: Places,
    slots: Vec<Option<Data>>,
    /// Leaves that were let go, where an error may still show that things must be as they were.
    gone: Option<Vec<(u32, Data)>>,
    /// Further outputs of values that have several.
    more: RefCell<Vec<(u32, Box<[Data]>)>>,
    /// Values whose memory the present stage has taken over for its results.
    used_up: RefCell<SmallVec<[u32; 4]>>,
    /// Whether it is the evaluation itself, and no function within.
    outer: bool,
}

/// What a stage made: values and their data.
type Results = SmallVec<[(u32, Data); 1]>;

/// Runs a program and publishes its results; on an error, what was not computed is lazy again.
pub(super) fn run(program: &mut Program, plan: &Plan, mode: Mode) -> Result<()> {
    let places = Places::choose(|place| suits(&program.values, place))?;
    let evaluation = Evaluation::start(plan as *const Plan as u64, mode);
    let slots = program.values.iter().map(take_leaf).collect();
    let gone = program.values.iter().any(|v| may_fail(v, places)).then(Vec::new);
    let (more, used_up) = Default::default();
    let mut run = Run { values: &program.values, places, slots, gone, more, used_up, outer: true };
    let mut result = run.stages(plan);
    let mut slots = run.slots;
    let (more, gone) = (run.more, run.gone);
    // An index out of bounds on a device explains whatever else went wrong after it.
    let mut number = 0;
    match evaluation.finish(result.is_ok()) {
        Ok(given) => number = given,
        Err(error) => {
            for (value, slot) in program.values.iter().zip(&mut slots) {
                if matches!(value.role, Role::Step { .. }) {
                    *slot = None;
                }
            }
            result = Err(error);
        }
    }
    if result.is_err() {
        gone.into_iter().flatten().for_each(|(id, data)| slots[id as usize] = Some(data));
    }
    publish(program, slots, more.into_inner(), result.is_ok(), number);
    result
}

/// Runs the values of a closed graph with `leaves` for the data of its leaves, and gives the data of
/// `outputs`. The graph itself is not changed.
pub(crate) fn run_closed(
    values: &[Value],
    plan: &Plan,
    leaves: impl Iterator<Item = (u32, Data)>,
    outputs: &[u32],
    places: Places,
) -> Result<Vec<Data>> {
    let mut slots: Vec<Option<Data>> = Vec::new();
    slots.resize_with(values.len(), || None);
    leaves.for_each(|(id, data)| slots[id as usize] = Some(data));
    // A leaf may be let go before the end, though it is a result too.
    let early: Vec<Option<Data>> = outputs
        .iter()
        .map(|&id| match values[id as usize].role {
            Role::Leaf => slots[id as usize].clone(),
            Role::Step { .. } => None,
        })
        .collect();
    let (more, used_up) = Default::default();
    let mut run = Run { values, places, slots, gone: None, more, used_up, outer: false };
    run.stages(plan)?;
    outputs
        .iter()
        .zip(early)
        .map(|(&id, early)| early.map_or_else(|| run.slot(id).cloned(), Ok))
        .collect()
}

/// Whether a step can fail while a device runs it.
fn may_fail(value: &Value, places: Places) -> bool {
    match &value.role {
        Role::Step { op: Op::Prim(prim), .. } => {
            is_fallible(prim) && places.of(value.node.0.scope.choice) != HOST
        }
        // Steps within may name devices.
        Role::Step { op: Op::Control(_), .. } => opened().next().is_some(),
        _ => false,
    }
}

/// Elements from which on a program is worth a device that none of its data is on.
const WORTH_MOVING: usize = 1 << 22;

/// Whether a program should run on a device, if nobody said where: where some of its data is there, or
/// so much is computed that moving the rest there pays.
pub(super) fn suits(values: &[Value], place: Place) -> bool {
    let mut work = 0usize;
    for value in values {
        match &value.role {
            Role::Leaf => {
                if let State::Ready { data, .. } = &*value.node.0.lock()
                    && data.is_in(place)
                {
                    return true;
                }
            }
            Role::Step { .. } => work = work.saturating_add(value.node.0.shape.size()),
        }
    }
    work >= WORTH_MOVING
}

/// The data of a leaf; a leaf that nobody else can see gives it away, so that it can be donated.
///
/// Who can see it is asked now, not when the program was claimed: an evaluation that was still running
/// then, and has ended since, no longer counts.
fn take_leaf(value: &Value) -> Option<Data> {
    if !matches!(value.role, Role::Leaf) {
        return None;
    }
    let seen = value.needed || Arc::strong_count(&value.node.0) > 1 + value.uses as usize;
    let mut state = value.node.0.lock();
    match &mut *state {
        State::Ready { data, more, .. } if seen || !more.is_empty() => Some(data.clone()),
        State::Ready { .. } => match std::mem::replace(&mut *state, State::Consumed) {
            State::Ready { data, .. } => Some(data),
            _ => unreachable!("the state was just read"),
        },
        _ => None,
    }
}

/// A stage that failed, and the values whose memory it had taken over by then.
struct Failure {
    error: Error,
    lost: SmallVec<[u32; 4]>,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure { error, lost: SmallVec::new() }
    }
}

impl Run<'_> {
    fn stages(&mut self, plan: &Plan) -> Result<()> {
        for stage in &plan.stages {
            // A function's operands may be used up: it runs to its end.
            if self.outer {
                super::go_on()?;
            }
            let release = &plan.released[stage.release.start as usize..stage.release.end as usize];
            let (at, made) = match &stage.work {
                Work::Single(id) => match &self.values[*id as usize].role {
                    Role::Step { op: Op::Control(c), ids, .. } => {
                        (*id, self.control(*id, c, ids, release))
                    }
                    _ => (*id, self.single(*id, release)),
                },
                Work::Fused(fused) => {
                    let root = *fused.outputs.last().expect("a region has an output");
                    (root, self.fused(fused, release))
                }
            };
            match made {
                Ok(results) => {
                    // They hold the results now: nothing brings them back, whatever fails later.
                    for id in self.used_up.get_mut().drain(..) {
                        self.slots[id as usize] = None;
                    }
                    for (id, data) in results {
                        self.slots[id as usize] = Some(data);
                    }
                }
                Err(Failure { error, lost }) => {
                    // What was in a donated buffer is gone.
                    lost.iter().for_each(|&id| self.slots[id as usize] = None);
                    return Err(self.explain(at, error));
                }
            }
            let more = self.more.get_mut();
            for &id in release {
                let data = self.slots[id as usize].take();
                if let (Some(gone), Some(data), Role::Leaf) =
                    (&mut self.gone, data, &self.values[id as usize].role)
                {
                    gone.push((id, data));
                }
                more.retain(|(group, _)| *group != id);
            }
        }
        Ok(())
    }

    /// Adds operands and line of value `id` to an error.
    fn explain(&self, id: u32, error: Error) -> Error {
        let node = &self.values[id as usize].node.0;
        let error = error.at(node.site);
        match &self.values[id as usize].role {
            Role::Step { inputs, .. } if !inputs.is_empty() => {
                error.operands(inputs.iter().map(|a| (a.0.dtype, a.0.shape.clone())))
            }
            _ => error,
        }
    }

    /// A function with a graph of its own. Operands that nobody needs afterwards are handed over, so
    /// that their memory may be used up.
    fn control(
        &mut self,
        id: u32,
        control: &Control,
        ids: &[u32],
        release: &[u32],
    ) -> Result<Results, Failure> {
        let operands = ids.iter().map(|&i| self.slot(i).cloned()).collect::<Result<Vec<_>>>()?;
        let lost: SmallVec<[u32; 4]> =
            release.iter().copied().filter(|id| ids.contains(id)).collect();
        lost.iter().for_each(|&id| self.slots[id as usize] = None);
        let made = control.run(operands, self.places.inside(self.place(id)));
        let mut results = made.map_err(|error| Failure { error, lost })?.into_iter();
        let first = results
            .next()
            .ok_or_else(|| Error::new(ErrorKind::Internal, "eval", "a function gave no result"))?;
        let more: Box<[Data]> = results.collect();
        if !more.is_empty() {
            self.more.borrow_mut().push((id, more));
        }
        Ok(Results::from_iter([(id, first)]))
    }

    fn single(&self, id: u32, release: &[u32]) -> Result<Results, Failure> {
        let value = &self.values[id as usize];
        let Role::Step { op, ids, .. } = &value.role else { return Ok(Results::new()) };
        let node = &value.node.0;
        let data = match op {
            Op::Load(load) => read(load, &node.shape, node.dtype, self.place(id))?,
            Op::Pick(i) => {
                let group = ids[0];
                match i.checked_sub(1) {
                    None => self.slot(group)?.clone(),
                    Some(i) => self.further(group, i as usize)?,
                }
            }
            Op::Identity { .. } => self.slot(ids[0])?.clone(),
            Op::Placeholder | Op::Control(_) => {
                let message = "this is not run as a single operation";
                return Err(Error::new(ErrorKind::Internal, "eval", message).into());
            }
            Op::Prim(Prim::View(view)) => {
                let from = &self.values[ids[0] as usize].node.0;
                let (from, to) = ((&from.shape, from.dtype), (&node.shape, node.dtype));
                view_of(view, self.slot(ids[0])?, from, to, self.place(id))?
            }
            Op::Prim(prim) => {
                let place = self.place(id);
                if place != HOST {
                    match self.primitive(id, prim, ids, release, place)? {
                        Ok(data) => return Ok(Results::from_iter([(id, data)])),
                        Err(why) => record_fallback(prim.name(), why),
                    }
                }
                self.primitive(id, prim, ids, release, HOST)?.map_err(refused)?
            }
        };
        Ok(Results::from_iter([(id, data)]))
    }

    /// A primitive in a place; the inner error is the reason for which the device there does not do it.
    fn primitive(
        &self,
        id: u32,
        prim: &Prim,
        ids: &[u32],
        release: &[u32],
        place: Place,
    ) -> Result<Result<Data, &'static str>, Failure> {
        let node = &self.values[id as usize].node.0;
        let (shape, dtype) = (&node.shape, node.dtype);
        if place != HOST
            && let Some(why) = accelerator(place)?.lacks(&lazul_ir::Work::Prim(prim))
        {
            return Ok(Err(why));
        }
        prepare(place)?;
        let mut constants = SmallVec::new();
        let mut operands: SmallVec<[Operand<'_>; 4]> = SmallVec::new();
        for &i in ids {
            operands.push(self.operand(i, place, &mut constants)?);
        }
        let donor = self.donor(prim, ids, &operands, shape, dtype, release, place);
        let given = donor.as_ref().map(|(id, _)| *id);
        let buffer = match &donor {
            Some((_, buffer)) => buffer.clone(),
            None => {
                let buffer = alloc(place, shape.size() * dtype.size())?;
                if prim.updates_in_place() {
                    copy_to(place, self.slot(ids[0])?, shape, dtype, buffer.ptr())?;
                }
                buffer
            }
        };
        let mut targets: SmallVec<[Target<'_>; 1]> = SmallVec::new();
        targets.push(Target { ptr: buffer.ptr(), dtype, shape });
        let mut further = Vec::new();
        for (shape, dtype) in &node.more {
            let buffer = alloc(place, shape.size() * dtype.size())?;
            targets.push(Target { ptr: buffer.ptr(), dtype: *dtype, shape });
            further.push(Data::contiguous(buffer, shape));
        }
        if targets.iter().any(|t| t.size() > 0) {
            let work = lazul_ir::Work::Prim(prim);
            let job = Job { work, inputs: &operands, outputs: &targets };
            let refused = launch(place, &job, node.site)
                .map_err(|error| Failure { error, lost: given.into_iter().collect() })?;
            if let Some(why) = refused {
                return Ok(Err(why));
            }
        }
        if given.is_some() {
            buffer.drop_replicas();
            self.used_up.borrow_mut().extend(given);
        }
        if !further.is_empty() {
            self.more.borrow_mut().push((id, further.into()));
        }
        Ok(Ok(Data::contiguous(buffer, shape)))
    }

    fn fused(&self, fused: &Fused, release: &[u32]) -> Result<Results, Failure> {
        let place = self.place(*fused.outputs.last().expect("a region has an output"));
        if place != HOST {
            match self.region(fused, release, place)? {
                Ok(results) => return Ok(results),
                Err(why) => record_fallback("fused", why),
            }
        }
        Ok(self.region(fused, release, HOST)?.map_err(refused)?)
    }

    /// A fused region in a place; the inner error is as for [`Run::primitive`].
    fn region(
        &self,
        fused: &Fused,
        release: &[u32],
        place: Place,
    ) -> Result<Result<Results, &'static str>, Failure> {
        prepare(place)?;
        let mut constants = SmallVec::new();
        let mut operands: SmallVec<[Operand<'_>; 16]> = SmallVec::new();
        for &i in &fused.inputs {
            operands.push(self.operand(i, place, &mut constants)?);
        }
        let node = &self.values[fused.outputs[0] as usize].node.0;
        let shape = &node.shape;
        let mut lost: SmallVec<[u32; 4]> = SmallVec::new();
        let mut results = Results::new();
        let mut targets: SmallVec<[Target<'_>; 2]> = SmallVec::new();
        if let Some((op, axes)) = &fused.reduced {
            let id = fused.outputs[0];
            let dtype = node.dtype;
            let buffer = alloc(place, shape.size() * dtype.size())?;
            let target = Target { ptr: buffer.ptr(), dtype, shape };
            let work = lazul_ir::Work::Reduced { tape: &fused.tape, op: *op, axes };
            if shape.size() > 0 {
                let job = Job { work, inputs: &operands, outputs: &[target] };
                if let Some(why) = launch(place, &job, node.site)? {
                    return Ok(Err(why));
                }
            }
            results.push((id, Data::contiguous(buffer, shape)));
            return Ok(Ok(results));
        }
        let mut donated: SmallVec<[Buffer; 2]> = SmallVec::new();
        for (&id, &(_, dtype)) in fused.outputs.iter().zip(&fused.tape.outputs) {
            let donor = fused.inputs.iter().zip(&operands).find_map(|(&id, operand)| {
                if lost.contains(&id) || operand.dtype.size() != dtype.size() {
                    return None;
                }
                let buffer = self.donation(id, operand, release, place)?;
                lost.push(id);
                Some(buffer)
            });
            let buffer = match donor {
                Some(buffer) => {
                    donated.push(buffer.clone());
                    buffer
                }
                None => alloc(place, shape.size() * dtype.size())?,
            };
            targets.push(Target { ptr: buffer.ptr(), dtype, shape });
            results.push((id, Data::contiguous(buffer, shape)));
        }
        if shape.size() > 0 {
            let work = lazul_ir::Work::Fused(&fused.tape);
            let job = Job { work, inputs: &operands, outputs: &targets };
            let refused = launch(place, &job, node.site)
                .map_err(|error| Failure { error, lost: lost.clone() })?;
            if let Some(why) = refused {
                return Ok(Err(why));
            }
        }
        donated.iter().for_each(Buffer::drop_replicas);
        self.used_up.borrow_mut().extend(lost);
        Ok(Ok(results))
    }

    /// Where a step runs.
    fn place(&self, id: u32) -> Place {
        self.places.of(self.values[id as usize].node.0.scope.choice)
    }

    fn slot(&self, id: u32) -> Result<&Data> {
        self.slots[id as usize].as_ref().ok_or_else(|| {
            let name = match &self.values[id as usize].role {
                Role::Step { op, .. } => op.name(),
                Role::Leaf => "array",
            };
            Error::new(ErrorKind::Internal, "eval", format!("the result of {name} is not there"))
        })
    }

    /// Output `i + 1` of a value that has several, computed here or before.
    fn further(&self, group: u32, i: usize) -> Result<Data> {
        if let Some((_, more)) = self.more.borrow().iter().find(|(id, _)| *id == group) {
            return Ok(more[i].clone());
        }
        match &*self.values[group as usize].node.0.lock() {
            State::Ready { more, .. } if i < more.len() => Ok(more[i].clone()),
            _ => Err(Error::new(ErrorKind::Internal, "eval", "a further output is not there")),
        }
    }

    /// A value in a place. Constants on a device are in blocks that `constants` holds.
    fn operand(
        &self,
        id: u32,
        place: Place,
        constants: &mut SmallVec<[Buffer; 2]>,
    ) -> Result<Operand<'_>> {
        let node = &self.values[id as usize].node.0;
        let data = self.slot(id)?;
        let held = data.at(place, node.dtype)?;
        constants.extend(held.constant);
        let strides = &data.strides;
        Ok(Operand { ptr: held.ptr, dtype: node.dtype, shape: &node.shape, strides })
    }

    /// The buffer of an operand that may become the output's: it dies here, nobody shares it, and its
    /// elements lie where and as the output's will.
    fn donation(
        &self,
        id: u32,
        operand: &Operand<'_>,
        release: &[u32],
        place: Place,
    ) -> Option<Buffer> {
        let data = self.slots[id as usize].as_ref()?;
        let Storage::Buffer(buffer) = &data.storage else { return None };
        let whole = data.offset == 0
            && buffer.place() == place
            && data.storage.is_unique_buffer()
            && operand.is_contiguous()
            && buffer.capacity() <= 2 * (operand.size() * operand.dtype.size()).max(256);
        (whole && release.contains(&id)).then(|| buffer.clone())
    }

    fn donor(
        &self,
        prim: &Prim,
        ids: &[u32],
        operands: &[Operand<'_>],
        shape: &Shape,
        dtype: DType,
        release: &[u32],
        place: Place,
    ) -> Option<(u32, Buffer)> {
        let candidates = if prim.updates_in_place() {
            // An update must not share memory with what it reads: uniqueness of the buffer rules
            // out views, and an array may also be updated by itself.
            if ids[1..].contains(&ids[0]) {
                return None;
            }
            0..1
        } else if prim.is_elementwise() {
            0..ids.len()
        } else {
            return None;
        };
        candidates.into_iter().find_map(|i| {
            let fits =
                operands[i].dtype.size() == dtype.size() && operands[i].shape[..] == shape[..];
            if !fits {
                return None;
            }
            Some((ids[i], self.donation(ids[i], &operands[i], release, place)?))
        })
    }
}

/// Enters a device before operands are looked at: what is known of earlier evaluations by then is what says
/// whether operands can be trusted.
fn prepare(place: Place) -> Result<()> {
    if place != HOST {
        enter(place, None)?;
    }
    Ok(())
}

/// The host refuses nothing.
fn refused(why: &'static str) -> Error {
    Error::new(ErrorKind::Internal, "eval", why)
}

/// Gives every node its new state; results are from evaluation `number`.
fn publish(
    program: &mut Program,
    mut slots: Vec<Option<Data>>,
    mut all: Vec<(u32, Box<[Data]>)>,
    complete: bool,
    number: u64,
) {
    for (id, value) in program.values.iter_mut().enumerate() {
        let data = slots[id].take();
        match std::mem::replace(&mut value.role, Role::Leaf) {
            Role::Leaf => {
                // A leaf that was taken and not used up goes back, should the node live on.
                if let (Some(data), false) = (data, complete) {
                    let mut state = value.node.0.lock();
                    if matches!(*state, State::Consumed) {
                        *state = State::Ready { data, more: Box::default(), from: None };
                    }
                }
            }
            Role::Step { op, inputs, .. } => {
                let state = match data {
                    Some(mut data) => {
                        data.number = data.number.max(number);
                        let at = all.iter().position(|(i, _)| *i as usize == id);
                        let mut more = at.map(|at| all.swap_remove(at).1).unwrap_or_default();
                        more.iter_mut().for_each(|d| d.number = d.number.max(number));
                        let from = value.kept.then(|| Box::new(Origin { op, inputs }));
                        State::Ready { data, more, from }
                    }
                    None if complete => continue,
                    None => State::Lazy { op, inputs },
                };
                *value.node.0.lock() = state;
            }
        }
    }
}

/// What a program needs to cross to the evaluation thread.
const _: fn() = || {
    fn send<T: Send>() {}
    send::<Program>();
    send::<Array>();
};

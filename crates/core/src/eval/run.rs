//! Running a planned program.
//!
//! Each value has a slot for its memory and layout while the program runs. A stage takes its operands
//! from their slots, gets memory for its results (or an operand's, where nobody else needs that any
//! more: donation), and hands a job to the backend. Views only compute a layout.

use super::backend;
use super::claim::{Program, Role, Value};
use super::plan::{Fused, Plan, Work};
use crate::control::Control;
use crate::error::{Error, ErrorKind, Result};
use crate::node::{Array, Data, Load, Op, Origin, State, Storage};
use lazul_ir::{Buffer, DType, Job, Layout, Operand, Prim, Shape, Target, ViewOp};
use smallvec::SmallVec;
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

struct Run<'a> {
    values: &'a [Value],
    slots: Vec<Option<Data>>,
    /// Further outputs of values that have several.
    more: RefCell<Vec<(u32, Box<[Data]>)>>,
}

/// What a stage made: values and their data.
type Results = SmallVec<[(u32, Data); 1]>;

/// Runs a program and publishes its results; on an error, what was not computed is lazy again.
pub(super) fn run(program: &mut Program, plan: &Plan) -> Result<()> {
    let slots = program.values.iter().map(take_leaf).collect();
    let mut run = Run { values: &program.values, slots, more: RefCell::new(Vec::new()) };
    let result = run.stages(plan);
    let Run { slots, more, .. } = run;
    publish(program, slots, more.into_inner(), result.is_ok());
    result
}

/// Runs the values of a closed graph with `leaves` for the data of its leaves, and gives the data of
/// `outputs`. The graph itself is not changed.
pub(crate) fn run_closed(
    values: &[Value],
    plan: &Plan,
    leaves: impl Iterator<Item = (u32, Data)>,
    outputs: &[u32],
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
    let mut run = Run { values, slots, more: RefCell::new(Vec::new()) };
    run.stages(plan)?;
    outputs
        .iter()
        .zip(early)
        .map(|(&id, early)| early.map_or_else(|| run.slot(id).cloned(), Ok))
        .collect()
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
                self.slots[id as usize] = None;
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
        let made = control.run(operands);
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
            Op::Load(load) => read(load, &node.shape, node.dtype)?,
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
                view_of(view, self.slot(ids[0])?, &from.shape, from.dtype, &node.shape, node.dtype)?
            }
            Op::Prim(prim) => {
                let (shape, dtype) = (&node.shape, node.dtype);
                let mut operands: SmallVec<[Operand<'_>; 4]> = SmallVec::new();
                for &i in ids {
                    operands.push(self.operand(i)?);
                }
                let donor = self.donor(prim, ids, &operands, shape, dtype, release);
                let given = donor.as_ref().map(|(id, _)| *id);
                let buffer = match donor {
                    Some((_, buffer)) => buffer,
                    None => {
                        let buffer = backend().alloc(shape.size() * dtype.size())?;
                        if prim.updates_in_place() {
                            let target = Target { ptr: buffer.ptr(), dtype, shape };
                            launch(&Prim::Copy, &operands[..1], &[target])?;
                        }
                        buffer
                    }
                };
                let mut targets: SmallVec<[Target<'_>; 1]> = SmallVec::new();
                targets.push(Target { ptr: buffer.ptr(), dtype, shape });
                let mut further = Vec::new();
                for (shape, dtype) in &node.more {
                    let buffer = backend().alloc(shape.size() * dtype.size())?;
                    targets.push(Target { ptr: buffer.ptr(), dtype: *dtype, shape });
                    further.push(Data::contiguous(buffer, shape));
                }
                if targets.iter().any(|t| t.size() > 0) {
                    launch(prim, &operands, &targets)
                        .map_err(|error| Failure { error, lost: given.into_iter().collect() })?;
                }
                if !further.is_empty() {
                    self.more.borrow_mut().push((id, further.into()));
                }
                Data::contiguous(buffer, shape)
            }
        };
        Ok(Results::from_iter([(id, data)]))
    }

    fn fused(&self, fused: &Fused, release: &[u32]) -> Result<Results, Failure> {
        let mut operands: SmallVec<[Operand<'_>; 16]> = SmallVec::new();
        for &i in &fused.inputs {
            operands.push(self.operand(i)?);
        }
        let shape = &self.values[fused.outputs[0] as usize].node.0.shape;
        let mut lost: SmallVec<[u32; 4]> = SmallVec::new();
        let mut results = Results::new();
        let mut targets: SmallVec<[Target<'_>; 2]> = SmallVec::new();
        if let Some((op, axes)) = &fused.reduced {
            let id = fused.outputs[0];
            let dtype = self.values[id as usize].node.0.dtype;
            let buffer = backend().alloc(shape.size() * dtype.size())?;
            let target = Target { ptr: buffer.ptr(), dtype, shape };
            let work = lazul_ir::Work::Reduced { tape: &fused.tape, op: *op, axes };
            if shape.size() > 0 {
                launch_job(&Job { work, inputs: &operands, outputs: &[target] })?;
            }
            results.push((id, Data::contiguous(buffer, shape)));
            return Ok(results);
        }
        for (&id, &(_, dtype)) in fused.outputs.iter().zip(&fused.tape.outputs) {
            let donor = fused.inputs.iter().zip(&operands).find_map(|(&id, operand)| {
                if lost.contains(&id) || operand.dtype.size() != dtype.size() {
                    return None;
                }
                let buffer = self.donation(id, operand, release)?;
                lost.push(id);
                Some(buffer)
            });
            let buffer = match donor {
                Some(buffer) => buffer,
                None => backend().alloc(shape.size() * dtype.size())?,
            };
            targets.push(Target { ptr: buffer.ptr(), dtype, shape });
            results.push((id, Data::contiguous(buffer, shape)));
        }
        if shape.size() > 0 {
            let work = lazul_ir::Work::Fused(&fused.tape);
            launch_job(&Job { work, inputs: &operands, outputs: &targets })
                .map_err(|error| Failure { error, lost })?;
        }
        Ok(results)
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

    fn operand(&self, id: u32) -> Result<Operand<'_>> {
        let node = &self.values[id as usize].node.0;
        let data = self.slot(id)?;
        let ptr = data.ptr(node.dtype);
        Ok(Operand { ptr, dtype: node.dtype, shape: &node.shape, strides: &data.strides })
    }

    /// The buffer of an operand that may become the output's: it dies here, nobody shares it, and its
    /// elements lie as the output's will.
    fn donation(&self, id: u32, operand: &Operand<'_>, release: &[u32]) -> Option<Buffer> {
        let data = self.slots[id as usize].as_ref()?;
        let Storage::Buffer(buffer) = &data.storage else { return None };
        let whole = data.offset == 0
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
            Some((ids[i], self.donation(ids[i], &operands[i], release)?))
        })
    }
}

/// Gives every node its new state.
fn publish(
    program: &mut Program,
    mut slots: Vec<Option<Data>>,
    mut all: Vec<(u32, Box<[Data]>)>,
    complete: bool,
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
                    Some(data) => {
                        let at = all.iter().position(|(i, _)| *i as usize == id);
                        let more = at.map(|at| all.swap_remove(at).1).unwrap_or_default();
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

pub(crate) fn launch(prim: &Prim, inputs: &[Operand<'_>], outputs: &[Target<'_>]) -> Result<()> {
    launch_job(&Job { work: lazul_ir::Work::Prim(prim), inputs, outputs })
}

fn launch_job(job: &Job<'_>) -> Result<()> {
    // SAFETY: operands are slots of this run, targets are fresh buffers or donated ones that nobody
    // else holds.
    match catch_unwind(AssertUnwindSafe(|| unsafe { backend().run(job) })) {
        Ok(result) => result,
        Err(panic) => {
            let text = panic
                .downcast_ref::<&str>()
                .map(|s| s.to_string())
                .or_else(|| panic.downcast_ref::<String>().cloned())
                .unwrap_or_default();
            let message = format!("the kernel panicked: {text}");
            Err(Error::new(ErrorKind::Internal, job.name(), message))
        }
    }
}

/// Reads an array from its file.
fn read(load: &Arc<Load>, shape: &Shape, dtype: DType) -> Result<Data> {
    let bytes = shape.size() * dtype.size();
    let buffer = backend().alloc(bytes)?;
    // SAFETY: the buffer is fresh, so nobody else reads or writes it. Its bytes need not be
    // initialised for `read_exact_at`, which only writes, but a slice of them must be: fill first.
    let into = unsafe {
        std::ptr::write_bytes(buffer.ptr(), 0, bytes);
        std::slice::from_raw_parts_mut(buffer.ptr(), bytes)
    };
    load.source.read_exact_at(into, load.offset).map_err(|e| {
        let message =
            format!("{}: {bytes} bytes at offset {}: {e}", load.source.describe(), load.offset);
        Error::new(ErrorKind::Io, "load", message)
    })?;
    if dtype == DType::Bool {
        into.iter_mut().for_each(|b| *b = (*b != 0) as u8);
    }
    Ok(Data::contiguous(buffer, shape))
}

/// The layout of a view; a copy where strides cannot express it.
fn view_of(
    view: &ViewOp,
    data: &Data,
    from: &Shape,
    from_dtype: DType,
    shape: &Shape,
    dtype: DType,
) -> Result<Data> {
    let layout =
        || Layout { shape: from.clone(), strides: data.strides.clone(), offset: data.offset };
    let with =
        |l: Layout| Data { storage: data.storage.clone(), strides: l.strides, offset: l.offset };
    match view {
        ViewOp::Transpose(perm) => Ok(with(layout().transpose(perm))),
        ViewOp::Broadcast => Ok(with(layout().broadcast(shape))),
        ViewOp::Slice { starts, steps } => Ok(with(layout().slice(starts, steps, shape))),
        ViewOp::Reshape => match layout().reshape(shape) {
            Some(l) => Ok(with(l)),
            None => Ok(Data::contiguous(copy(data, from, from_dtype)?, shape)),
        },
        ViewOp::Strided { strides, offset } => match (&data.storage, shape.size()) {
            // Every element is the one that is there.
            (Storage::Inline(value), 1..) => Ok(Data::constant(*value, shape.len())),
            _ => match layout().strided(strides, *offset, shape) {
                Some(l) => Ok(with(l)),
                None => {
                    let copied = Data::contiguous(copy(data, from, from_dtype)?, from);
                    let (strides, offset) =
                        (strides.iter().map(|&s| s as isize).collect(), *offset);
                    Ok(Data { strides, offset, ..copied })
                }
            },
        },
        ViewOp::Bitcast => {
            let (a, b) = (from_dtype.size(), dtype.size());
            let buffered = matches!(data.storage, Storage::Buffer(_));
            if a == b && buffered {
                return Ok(data.clone());
            }
            let aligned =
                buffered && layout().is_contiguous() && (data.offset * a).is_multiple_of(b);
            if aligned {
                let offset = data.offset * a / b;
                return Ok(Data {
                    storage: data.storage.clone(),
                    strides: shape.strides(),
                    offset,
                });
            }
            Ok(Data::contiguous(copy(data, from, from_dtype)?, shape))
        }
    }
}

/// The elements in row-major order in a buffer of their own.
fn copy(data: &Data, shape: &Shape, dtype: DType) -> Result<Buffer> {
    let buffer = backend().alloc(shape.size() * dtype.size())?;
    if shape.size() > 0 {
        let operand = Operand { ptr: data.ptr(dtype), dtype, shape, strides: &data.strides };
        launch(&Prim::Copy, &[operand], &[Target { ptr: buffer.ptr(), dtype, shape }])?;
    }
    Ok(buffer)
}

/// What a program needs to cross to the evaluation thread.
const _: fn() = || {
    fn send<T: Send>() {}
    send::<Program>();
    send::<Array>();
};

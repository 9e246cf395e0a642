//! What an evaluation would do, in words: the steps, what was fused and what was not and why, and the
//! bytes that each step moves.

use super::cache::plan_for;
use super::claim::{Program, Role, claim};
use super::plan::{Plan, Work};
use crate::device::Device;
use crate::device::accelerator::accelerator;
use crate::device::choice::Places;
use crate::error::{Error, ErrorKind, Result};
use crate::node::{Array, Op};
use lazul_ir::{HOST, Prim};
use std::fmt::Write;

/// Describes how an array would be computed, without computing it: one line a step, with the operation or
/// the fused operations, the result, the bytes read and written, which operand's memory is used again,
/// for an element-wise step that stands alone why it was not fused, and where it runs if that is not the
/// CPU, or why it runs there all the same.
///
/// With `LAZUL_EXPLAIN=1` in the environment every evaluation prints this to stderr first.
///
/// ```
/// use lazul_core::prelude::*;
/// let x = arange(1000, DType::F32);
/// x.eval()?;
/// let y = (x * 2.0 + 1.0).exp().sum(..);
/// let text = explain(&y)?;
/// assert!(text.contains("fused multiply, add, exp, sum"), "{text}");
/// # Ok::<(), lazul_core::Error>(())
/// ```
///
/// # Errors
/// The error of a wrong call that the array is built on.
pub fn explain(array: &Array) -> Result<String> {
    match claim(&[array])? {
        None => Ok("nothing to do: the array is there\n".to_string()),
        Some(program) => {
            let plan = plan_for(&program);
            let text = describe(&program, &plan);
            // Whoever came to wait in the meantime claims for themselves.
            let ticket = program.ticket.clone();
            drop(program);
            ticket.finish(Err(Error::new(ErrorKind::Value, "eval", "it was only explained")));
            Ok(text)
        }
    }
}

/// Whether evaluations are to be explained.
pub(super) fn asked() -> bool {
    static ASKED: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
    *ASKED.get_or_init(|| std::env::var("LAZUL_EXPLAIN").is_ok_and(|v| v == "1"))
}

fn name(program: &Program, id: u32) -> &'static str {
    match &program.values[id as usize].role {
        Role::Step { op: Op::Prim(Prim::Cast), .. } => "astype",
        Role::Step { op, .. } => op.name(),
        Role::Leaf => "array",
    }
}

fn bytes(program: &Program, id: u32) -> usize {
    let node = &program.values[id as usize].node.0;
    node.shape.size() * node.dtype.size()
}

fn result(program: &Program, id: u32) -> String {
    let node = &program.values[id as usize].node.0;
    format!("{}{}", node.dtype, node.shape)
}

pub(super) fn describe(program: &Program, plan: &Plan) -> String {
    let mut out = String::new();
    let (mut total, mut steps) = (0usize, 0usize);
    let places = Places::choose(|place| super::run::suits(&program.values, place));
    for stage in &plan.stages {
        let release = &plan.released[stage.release.start as usize..stage.release.end as usize];
        let (what, inputs, outputs, note) = match &stage.work {
            Work::Fused(fused) => {
                let last = fused.outputs.last().copied().unwrap_or(0);
                let names = fused.tape.steps.iter().map(|s| s.op.name());
                let names: Vec<&str> =
                    names.chain(fused.reduced.iter().map(|(op, _)| op.name())).collect();
                let held = fused.outputs.len() - 1;
                let note = match held {
                    0 => String::new(),
                    n => format!("; {n} inner results are kept, because something else reads them"),
                };
                (
                    format!("fused {} -> {}", names.join(", "), result(program, last)),
                    fused.inputs.to_vec(),
                    fused.outputs.to_vec(),
                    note,
                )
            }
            Work::Single(id) => {
                let Role::Step { op, ids, .. } = &program.values[*id as usize].role else {
                    continue;
                };
                let what = format!("{} -> {}", name(program, *id), result(program, *id));
                if let Op::Prim(Prim::View(_)) | Op::Pick(_) | Op::Identity { .. } = op {
                    let _ = writeln!(out, "      {what}: a view");
                    continue;
                }
                let note = match op {
                    Op::Prim(p) if p.is_elementwise() => alone(program, *id),
                    _ => String::new(),
                };
                (what, ids.to_vec(), vec![*id], note)
            }
        };
        let note = match &places {
            Ok(places) => note + &whereabouts(program, *places, &stage.work),
            Err(error) => format!("{note}; {}", error.message()),
        };
        steps += 1;
        let mut inputs = inputs;
        inputs.sort_unstable();
        inputs.dedup();
        let read: usize = inputs.iter().map(|&i| bytes(program, i)).sum();
        let written: usize = outputs.iter().map(|&i| bytes(program, i)).sum();
        total += read + written;
        let again = inputs.iter().any(|i| {
            release.contains(i) && outputs.iter().any(|&o| bytes(program, o) == bytes(program, *i))
        });
        let memory =
            if again { "in an operand's memory if nobody shares it" } else { "new memory" };
        let _ =
            writeln!(out, "{steps:>4}  {what}: reads {read} B, writes {written} B, {memory}{note}");
    }
    let _ = writeln!(out, "{steps} steps, {total} B moved");
    out
}

/// Where a step runs, if that is a device or was meant to be one.
fn whereabouts(program: &Program, places: Places, work: &Work) -> String {
    let id = match work {
        Work::Single(id) => *id,
        Work::Fused(fused) => *fused.outputs.last().expect("a region has an output"),
    };
    let value = &program.values[id as usize];
    let place = places.of(value.node.0.scope.choice);
    if place == HOST {
        return String::new();
    }
    let device = Device::of(place);
    let lacks = match (&value.role, work) {
        (Role::Step { op: Op::Prim(prim), .. }, Work::Single(_)) => {
            accelerator(place).ok().and_then(|a| a.lacks(&lazul_ir::Work::Prim(prim)))
        }
        _ => None,
    };
    match lacks {
        Some(why) => format!("; on cpu, because {device} has no kernel: {why}"),
        None => format!("; on {device}"),
    }
}

/// Why an element-wise step runs by itself.
fn alone(program: &Program, id: u32) -> String {
    if !super::fusion() {
        return "; not fused, because fusion is off".to_string();
    }
    let shape = &program.values[id as usize].node.0.shape;
    let readers: Vec<u32> = (0..program.values.len() as u32)
        .filter(|&r| match &program.values[r as usize].role {
            Role::Step { ids, .. } => ids.contains(&id),
            Role::Leaf => false,
        })
        .collect();
    let elementwise = |r: u32| match &program.values[r as usize].role {
        Role::Step { op: Op::Prim(p), .. } => p.is_elementwise(),
        _ => false,
    };
    let why = match readers[..] {
        [] => return String::new(),
        [r] if !elementwise(r) => {
            format!("{} reads it, which is not element-wise", name(program, r))
        }
        [r] if program.values[r as usize].node.0.shape != *shape => {
            format!("{} has another shape", name(program, r))
        }
        [_] => "the region that reads it is full".to_string(),
        _ => format!("{} steps that are not in one region read it", readers.len()),
    };
    format!("; not fused with what follows: {why}")
}

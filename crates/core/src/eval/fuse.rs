//! Finding element-wise regions that run in one pass, and writing their tapes.
//!
//! A region grows backwards from one value, its root: a value joins if it is element-wise, has the
//! root's shape, and all that read it are inside. So nothing outside waits for a part of the region,
//! and a value inside that somebody still holds is just one more output.

use super::claim::{Ids, Role, Value};
use super::plan::Fused;
use crate::node::Op;
use lazul_ir::{DType, Prim, Step, StepOp, Tape};

/// Steps a region may have: more registers than this would not stay in the first-level cache.
const MOST_STEPS: u32 = 48;
/// Operands a region may have.
const MOST_INPUTS: usize = 16;

const NONE: u32 = u32::MAX;
const MIXED: u32 = u32::MAX - 1;

/// Where each value of a program stands.
pub(super) struct Regions {
    /// Root of the region that a value belongs to, or `NONE`.
    root: Vec<u32>,
    /// Members of each region with more than one, ascending, by root.
    members: std::collections::HashMap<u32, Vec<u32>>,
}

/// Where one value stands.
pub(super) enum Place<'a> {
    /// Runs by itself.
    Alone,
    /// Is computed within another's region.
    Inside,
    /// Ends the region of these values.
    Root(&'a [u32]),
}

impl Regions {
    pub(super) fn of(&self, id: u32) -> Place<'_> {
        match self.root[id as usize] {
            r if r != NONE && r != id => Place::Inside,
            _ => match self.members.get(&id) {
                Some(members) => Place::Root(members),
                None => Place::Alone,
            },
        }
    }
}

fn elementwise(values: &[Value], id: u32) -> Option<(&Prim, &Ids)> {
    match &values[id as usize].role {
        Role::Step { op: Op::Prim(p), ids, .. } if p.is_elementwise() => Some((p, ids)),
        _ => None,
    }
}

/// Partitions a program.
pub(super) fn regions(values: &[Value], fusion: bool) -> Regions {
    let n = values.len();
    let mut regions = Regions { root: vec![NONE; n], members: Default::default() };
    if !fusion {
        return regions;
    }
    // The region that all readers seen so far agree on.
    let mut wanted = vec![NONE; n];
    let mut steps = vec![0u32; n];
    let mut inputs: Vec<u16> = vec![0; n];
    for id in (0..n as u32).rev() {
        let Role::Step { ids, .. } = &values[id as usize].role else { continue };
        let mut region = MIXED;
        if elementwise(values, id).is_some() {
            let want = wanted[id as usize];
            let fits = want < MIXED
                && steps[want as usize] < MOST_STEPS
                && inputs[want as usize] as usize + ids.len() <= MOST_INPUTS
                && values[want as usize].node.0.shape == values[id as usize].node.0.shape;
            region = if fits { want } else { id };
            regions.root[id as usize] = region;
            steps[region as usize] += 1;
            // An upper bound: an input may yet join, or be read twice.
            inputs[region as usize] += ids.len() as u16 - u16::from(region != id);
            if region != id {
                regions.members.entry(region).or_insert_with(|| vec![region]).push(id);
            }
        }
        for &input in ids {
            let want = &mut wanted[input as usize];
            *want = if *want == NONE || *want == region { region } else { MIXED };
        }
    }
    for members in regions.members.values_mut() {
        members.reverse();
    }
    regions
}

/// Writes the tape of a region's values.
pub(super) fn tape(values: &[Value], members: &[u32]) -> Fused {
    let root = *members.last().expect("a region is not empty");
    // Readers inside the region that are still to come, by value.
    let mut left: std::collections::HashMap<u32, u32> = Default::default();
    let mut inputs = Ids::new();
    let inside = |id: u32| members.binary_search(&id).is_ok();
    for &m in members {
        let (_, ids) = elementwise(values, m).expect("members are element-wise");
        for &id in ids {
            *left.entry(id).or_insert(0) += 1;
            if !inside(id) && !inputs.contains(&id) {
                inputs.push(id);
            }
        }
    }
    let mut register: std::collections::HashMap<u32, u16> =
        inputs.iter().enumerate().map(|(i, &id)| (id, i as u16)).collect();
    let mut free: Vec<u16> = Vec::new();
    let mut registers = inputs.len() as u16;
    let mut steps = Vec::with_capacity(members.len());
    let mut outputs: Vec<(u16, DType)> = Vec::new();
    let mut output_ids = Ids::new();
    for &m in members {
        let (prim, ids) = elementwise(values, m).expect("members are element-wise");
        let dtype = |id: u32| values[id as usize].node.0.dtype;
        let mut args = [register[&ids[0]]; 3];
        for (arg, id) in args.iter_mut().zip(ids) {
            *arg = register[id];
        }
        for id in ids {
            let left = left.get_mut(id).expect("every argument was counted");
            *left -= 1;
            if *left == 0 && inside(*id) && !values[*id as usize].held {
                free.push(register[id]);
            }
        }
        let dst = free.pop().unwrap_or_else(|| {
            registers += 1;
            registers - 1
        });
        let (op, operand) = match prim {
            Prim::Unary(op) => (StepOp::Unary(*op), dtype(ids[0])),
            Prim::Binary(op) => (StepOp::Binary(*op), dtype(ids[0])),
            Prim::Select => (StepOp::Select, dtype(ids[1])),
            _ => (StepOp::Cast, dtype(ids[0])),
        };
        steps.push(Step { op, operand, result: dtype(m), args, dst });
        register.insert(m, dst);
        if m == root || values[m as usize].held {
            output_ids.push(m);
            outputs.push((dst, dtype(m)));
        }
    }
    let tape = Tape {
        inputs: inputs.iter().map(|&id| values[id as usize].node.0.dtype).collect(),
        steps,
        outputs,
        registers,
    };
    Fused { tape, inputs, outputs: output_ids }
}

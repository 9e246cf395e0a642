//! Finding element-wise regions that run in one pass, and writing their tapes.
//!
//! A region grows backwards from one value, its root: a value joins if it is element-wise, has the
//! root's shape and device, and all that read it are inside. So nothing outside waits for a part of the region,
//! and a value inside that somebody still holds is just one more output. A root may also be a reduction
//! over the first or the last axes of element-wise values that nobody else wants: these are then never
//! written to memory.

use super::claim::{Ids, Role, Value};
use super::plan::Fused;
use crate::node::Op;
use lazul_ir::{Axes, DType, Prim, ReduceOp, Shape, Step, StepOp, Tape};

/// Steps a region may have: more registers than this would not stay in the first-level cache.
const MOST_STEPS: u32 = 48;
/// Operands a region may have.
const MOST_INPUTS: usize = 16;

/// Values that a reduction must take in at a time for its region to be worth it: the program is started
/// for each run of neighbours.
const LEAST_RUN: usize = 256;

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

/// Operation, axes and operand of a reduction that can take its operand's values as they are made.
fn reduction(values: &[Value], id: u32) -> Option<(ReduceOp, &Axes, u32)> {
    let Role::Step { op: Op::Prim(Prim::Reduce { op, axes }), ids, .. } = &values[id as usize].role
    else {
        return None;
    };
    let operand = &values[ids[0] as usize];
    let shape = &operand.node.0.shape[..];
    let (rank, k) = (shape.len(), axes.len());
    let consecutive = axes.windows(2).all(|w| w[0] + 1 == w[1]);
    let last = k > 0 && consecutive && axes[k - 1] as usize + 1 == rank;
    let first = k > 0 && consecutive && axes[0] == 0;
    // Neighbours that are folded together, or beside one another.
    let run: usize =
        if last { shape[rank - k..].iter().product() } else { shape[k..].iter().product() };
    let alone = operand.uses == 1
        && !operand.held
        && operand.node.0.scope.choice == values[id as usize].node.0.scope.choice;
    (alone && (last || first) && run >= LEAST_RUN && elementwise(values, ids[0]).is_some())
        .then_some((*op, axes, ids[0]))
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
                && *space(values, want) == values[id as usize].node.0.shape
                && values[want as usize].node.0.scope.choice == values[id as usize].node.0.scope.choice
                // A reduction's region has no other output.
                && !(values[id as usize].held && reduction(values, want).is_some());
            region = if fits { want } else { id };
            regions.root[id as usize] = region;
            steps[region as usize] += 1;
            // An upper bound: an input may yet join, or be read twice.
            inputs[region as usize] += ids.len() as u16 - u16::from(region != id);
            if region != id {
                regions.members.entry(region).or_insert_with(|| vec![region]).push(id);
            }
        }
        if let Some((_, _, operand)) = reduction(values, id) {
            regions.root[id as usize] = id;
            (steps[id as usize], inputs[id as usize], wanted[operand as usize]) = (1, 1, id);
            continue;
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

/// The shape of the values of the region that ends in `root`.
fn space(values: &[Value], root: u32) -> &Shape {
    let at = reduction(values, root).map_or(root, |(_, _, operand)| operand);
    &values[at as usize].node.0.shape
}

/// Writes the tape of a region's values.
pub(super) fn tape(values: &[Value], members: &[u32]) -> Fused {
    let end = *members.last().expect("a region is not empty");
    let reduced = reduction(values, end).map(|(op, axes, _)| (op, axes.clone()));
    let members = if reduced.is_some() { &members[..members.len() - 1] } else { members };
    let root = *members.last().expect("a reduction's operand is in its region");
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
    if reduced.is_some() {
        output_ids = Ids::from_slice(&[end]);
    }
    Fused { tape, inputs, outputs: output_ids, reduced }
}

//! Deciding how a program runs: which steps are fused, and when each value's memory is last needed.

use super::claim::{Ids, Role, Value};
use super::fuse;
use lazul_ir::{Axes, ReduceOp, Tape};
use std::sync::Arc;

/// How a program runs. Plans know numbers, not arrays, so programs of one form share them.
pub(crate) struct Plan {
    pub(crate) stages: Vec<Stage>,
    /// Values to let go after each stage, back to back; see [`Stage::release`].
    pub(crate) released: Vec<u32>,
}

/// One piece of work.
pub(crate) struct Stage {
    pub(crate) work: Work,
    /// Range of [`Plan::released`] that nobody needs after this stage.
    pub(crate) release: std::ops::Range<u32>,
}

/// What a stage does.
pub(crate) enum Work {
    /// One value by its own operation.
    Single(u32),
    /// Several element-wise values in one pass, perhaps reduced at once.
    Fused(Box<Fused>),
}

/// A fused region.
pub(crate) struct Fused {
    pub(crate) tape: Tape,
    /// Values that are the tape's operands.
    pub(crate) inputs: Ids,
    /// Values that the stage gives, ascending: the tape's outputs, the region's root last; or the one
    /// value that the tape's output is reduced to.
    pub(crate) outputs: Ids,
    /// How the tape's one output is reduced, if it is.
    pub(crate) reduced: Option<(ReduceOp, Axes)>,
}

pub(crate) fn plan(values: &[Value], fusion: bool) -> Plan {
    let n = values.len();
    let regions = fuse::regions(values, fusion);
    let mut stages: Vec<Work> = Vec::with_capacity(n);
    // The stage in which a value is last read; written by walking stages in order.
    let mut last = vec![u32::MAX; n];
    for id in 0..n as u32 {
        let Role::Step { ids, .. } = &values[id as usize].role else { continue };
        match regions.of(id) {
            fuse::Place::Alone => {
                let stage = stages.len() as u32;
                ids.iter().for_each(|&i| last[i as usize] = stage);
                stages.push(Work::Single(id));
            }
            fuse::Place::Inside => {}
            fuse::Place::Root(members) => {
                let fused = fuse::tape(values, members);
                let stage = stages.len() as u32;
                fused.inputs.iter().for_each(|&i| last[i as usize] = stage);
                stages.push(Work::Fused(Box::new(fused)));
            }
        }
    }
    // Bucket the values by last reader; what nobody reads and nobody holds was never claimed.
    let mut counts = vec![0u32; stages.len() + 1];
    // A leaf's node keeps its memory by itself, should somebody hold it.
    let releasable = |id: usize| {
        let value = &values[id];
        last[id] != u32::MAX && (matches!(value.role, Role::Leaf) || !value.held)
    };
    for id in 0..n {
        if releasable(id) {
            counts[last[id] as usize + 1] += 1;
        }
    }
    for i in 1..counts.len() {
        counts[i] += counts[i - 1];
    }
    let mut released = vec![0u32; counts[stages.len()] as usize];
    let mut fill = counts.clone();
    for id in 0..n {
        if releasable(id) {
            let slot = &mut fill[last[id] as usize];
            released[*slot as usize] = id as u32;
            *slot += 1;
        }
    }
    let stages = stages
        .into_iter()
        .enumerate()
        .map(|(i, work)| Stage { work, release: counts[i]..counts[i + 1] })
        .collect();
    Plan { stages, released }
}

/// Plans are shared between threads.
const _: fn() = || {
    fn shared<T: Send + Sync>() {}
    shared::<Arc<Plan>>();
};

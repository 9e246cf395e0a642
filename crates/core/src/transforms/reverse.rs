//! Reverse mode: from cotangents of results to cotangents of arguments.

use super::fits;
use crate::control::graph::{ByNode, GraphStep, address, dependents, spec};
use crate::error::Result;
use crate::node::{Array, Op};
use crate::rules::{self, Call, Slots};
use crate::scope::with_site;

/// The cotangents of `leaves`, given those of `outputs` that were built on them under the mark `trace`.
pub(crate) fn pull_back(
    outputs: &[Array],
    cotangents: &[Option<Array>],
    leaves: &[Array],
    trace: u64,
) -> Result<Vec<Option<Array>>> {
    let steps = dependents(outputs, leaves, trace);
    let grads = through(&steps, outputs, cotangents, leaves);
    // Nothing more is asked of the nodes in between.
    steps.iter().for_each(|s| s.node.forget());
    grads
}

/// Walks steps backwards.
fn through(
    steps: &[GraphStep],
    outputs: &[Array],
    cotangents: &[Option<Array>],
    leaves: &[Array],
) -> Result<Vec<Option<Array>>> {
    let mut inside: ByNode<()> = leaves.iter().map(|l| (address(l), ())).collect();
    steps.iter().for_each(|s| {
        inside.insert(address(&s.node), ());
    });
    let mut sums: ByNode<Slots> = ByNode::new();
    for (output, cotangent) in outputs.iter().zip(cotangents) {
        if let Some(c) = cotangent
            && inside.contains_key(&address(output))
        {
            add(&mut sums, output, 0, c.clone())?;
        }
    }
    for step in steps.iter().rev() {
        // Results that nothing read have no cotangent, nor have those before them.
        let Some(own) = sums.remove(&address(&step.node)) else { continue };
        match &step.op {
            Op::Pick(i) => {
                if let Some(c) = own.into_iter().next().flatten() {
                    add(&mut sums, &step.inputs[0], *i as usize, c)?;
                }
            }
            Op::Identity { stop: false } => {
                if let Some(c) = own.into_iter().next().flatten() {
                    add(&mut sums, &step.inputs[0], 0, c)?;
                }
            }
            Op::Identity { stop: true } | Op::Load(_) | Op::Placeholder => {}
            Op::Prim(_) | Op::Control(_) => {
                let wanted: Vec<bool> = step
                    .inputs
                    .iter()
                    .map(|i| i.0.dtype.is_inexact() && inside.contains_key(&address(i)))
                    .collect();
                if !wanted.contains(&true) {
                    continue;
                }
                let results = step.results();
                let call = Call { inputs: &step.inputs, outputs: &results };
                let given = with_site(step.node.0.site, || match &step.op {
                    Op::Prim(prim) => rules::vjp(prim, &call, &own, &wanted),
                    Op::Control(control) => control.vjp(&call, &own, &wanted),
                    _ => Ok(Slots::new()),
                })
                .map_err(|e| e.at(step.node.0.site))?;
                for ((input, cotangent), wanted) in step.inputs.iter().zip(given).zip(wanted) {
                    if let (Some(c), true) = (cotangent, wanted) {
                        fits(step, "gradient", &spec(input), &c)?;
                        add(&mut sums, input, 0, c)?;
                    }
                }
            }
        }
    }
    Ok(leaves
        .iter()
        .map(|l| sums.get_mut(&address(l)).and_then(|s| s.get_mut(0)).and_then(|c| c.clone()))
        .collect())
}

fn add(sums: &mut ByNode<Slots>, of: &Array, at: usize, cotangent: Array) -> Result<()> {
    let slots =
        sums.entry(address(of)).or_insert_with(|| Slots::from_elem(None, 1 + of.0.more.len()));
    slots[at] = Some(match slots[at].take() {
        None => cotangent,
        Some(sum) => sum + cotangent,
    });
    Ok(())
}

impl GraphStep {
    /// The step's results, each as an array.
    pub(crate) fn results(&self) -> Slotless {
        match self.node.0.more.len() {
            0 => Slotless::from_iter([self.node.clone()]),
            n => (0..=n).map(|i| self.node.pick(i)).collect(),
        }
    }
}

/// A few arrays.
pub(crate) type Slotless = smallvec::SmallVec<[Array; 1]>;

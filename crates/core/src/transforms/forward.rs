//! Forward mode: from tangents of arguments to tangents of results.

use super::fits;
use crate::control::graph::{ByNode, address, dependents, spec};
use crate::error::Result;
use crate::node::{Array, Op};
use crate::rules::{self, Call, Slots};
use crate::scope::with_site;

/// The tangents of `outputs`, given those of the `leaves` on which they were built under the mark `trace`.
pub(crate) fn push_forward(
    outputs: &[Array],
    leaves: &[Array],
    tangents: &[Option<Array>],
    trace: u64,
) -> Result<Vec<Option<Array>>> {
    let steps = dependents(outputs, leaves, trace);
    let mut known: ByNode<Slots> = ByNode::new();
    for (leaf, tangent) in leaves.iter().zip(tangents) {
        known.insert(address(leaf), Slots::from_iter([tangent.clone()]));
    }
    let first = |known: &ByNode<Slots>, a: &Array| -> Option<Array> {
        known.get(&address(a)).and_then(|s| s.first().cloned()).flatten()
    };
    for step in &steps {
        let made = match &step.op {
            Op::Pick(i) => {
                let group = known.get(&address(&step.inputs[0]));
                Slots::from_iter([group.and_then(|s| s.get(*i as usize).cloned()).flatten()])
            }
            Op::Identity { stop: false } => Slots::from_iter([first(&known, &step.inputs[0])]),
            Op::Identity { stop: true } | Op::Load(_) | Op::Placeholder => Slots::new(),
            Op::Prim(_) | Op::Control(_) => {
                let given: Slots = step.inputs.iter().map(|i| first(&known, i)).collect();
                if given.iter().all(Option::is_none) {
                    continue;
                }
                let results = step.results();
                let call = Call { inputs: &step.inputs, outputs: &results };
                let made = with_site(step.node.0.site, || match &step.op {
                    Op::Prim(prim) => rules::jvp(prim, &call, &given),
                    Op::Control(control) => control.jvp(&call, &given),
                    _ => Ok(Slots::new()),
                });
                let mut made = made.map_err(|e| e.at(step.node.0.site))?;
                for (tangent, result) in made.iter_mut().zip(&results) {
                    if !result.0.dtype.is_inexact() {
                        *tangent = None;
                    }
                    if let Some(t) = tangent {
                        fits(step, "tangent", &spec(result), t)?;
                    }
                }
                made
            }
        };
        known.insert(address(&step.node), made);
    }
    let made = outputs.iter().map(|o| first(&known, o)).collect();
    steps.iter().for_each(|s| s.node.forget());
    Ok(made)
}

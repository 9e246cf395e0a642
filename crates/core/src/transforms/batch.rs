//! Vectorising: a graph written for one example, rebuilt for a batch.

use super::fits;
use crate::control::graph::{ByNode, Graph, Spec, address, spec};
use crate::error::Result;
use crate::node::{Array, Op};
use crate::rules::{self, Outputs, batch_shape};
use crate::scope::with_site;

/// The outputs of `graph` for arguments that carry a batch of length `size` as first axis; each with
/// whether it has the batch too.
pub(crate) fn vectorised(
    graph: &Graph,
    arguments: &[Array],
    size: usize,
) -> Result<Vec<(Array, bool)>> {
    let mut now: ByNode<Outputs> = ByNode::new();
    for (old, new) in graph.arguments.iter().zip(arguments) {
        now.insert(address(old), Outputs::from_iter([new.clone()]));
    }
    for step in &graph.steps {
        let made = match &step.op {
            Op::Pick(i) => {
                let group = &now[&address(&step.inputs[0])];
                Outputs::from_iter([group[*i as usize].clone()])
            }
            Op::Identity { stop } => {
                let x = &now[&address(&step.inputs[0])][0];
                Outputs::from_iter([if *stop { x.stop_gradient() } else { x.clone() }])
            }
            // These have no inputs, so they are not inside.
            Op::Load(_) | Op::Placeholder => continue,
            Op::Prim(_) | Op::Control(_) => {
                let mut inputs = Vec::with_capacity(step.inputs.len());
                let mut batched = Vec::with_capacity(step.inputs.len());
                for input in &step.inputs {
                    let other = now.get(&address(input));
                    batched.push(other.is_some());
                    inputs.push(other.map_or_else(|| input.clone(), |o| o[0].clone()));
                }
                let outputs: Vec<Spec> = [spec(&step.node)]
                    .into_iter()
                    .chain(step.node.0.more.iter().cloned())
                    .collect();
                let made = with_site(step.node.0.site, || match &step.op {
                    Op::Control(c) => c.vmap(&inputs, &batched, size, &outputs),
                    Op::Prim(prim) => rules::vmap(prim, &inputs, &batched, size, &outputs),
                    _ => Ok(Outputs::new()),
                });
                let made = made.map_err(|e| e.at(step.node.0.site))?;
                for (a, (shape, dtype)) in made.iter().zip(&outputs) {
                    fits(step, "batch", &(batch_shape(shape, size), *dtype), a)?;
                }
                made
            }
        };
        now.insert(address(&step.node), made);
    }
    Ok(graph
        .outputs
        .iter()
        .map(|o| match now.get(&address(o)) {
            Some(made) => (made[0].clone(), true),
            None => (o.clone(), false),
        })
        .collect())
}

/// `a` with a batch axis of length `size` put in front.
pub(crate) fn with_batch(a: &Array, size: usize) -> Array {
    let shape: Vec<usize> = [size].into_iter().chain(a.0.shape.iter().copied()).collect();
    a.broadcast_to(shape)
}

//! Calls of traced functions, and [`checkpoint`].

use super::Control;
use super::graph::{Graph, Spec, spec};
use crate::error::Result;
use crate::node::{Array, Inputs, Op};
use crate::rules::{Call, Outputs, Slots};
use crate::scope::call_site;
use crate::transforms::{pulled_through, pushed_through, vectorised_through};
use crate::tree::{IntoResult, Tree};
use std::panic::Location;
use std::sync::Arc;

/// A call: inputs are arguments, then captures.
pub(crate) struct Called {
    pub(crate) name: &'static str,
    pub(crate) graph: Arc<Graph>,
}

impl Called {
    fn replay(&self, inputs: &[Array]) -> Result<Vec<Array>> {
        let (arguments, captures) = inputs.split_at(self.graph.arguments.len());
        Ok(self.graph.replay(arguments, captures))
    }

    /// The function is computed again from its inputs; nothing in between was kept.
    pub(super) fn vjp(
        &self,
        call: &Call<'_>,
        cotangents: &[Option<Array>],
        wanted: &[bool],
    ) -> Result<Slots> {
        pulled_through(|inputs| self.replay(inputs), call.inputs, cotangents, wanted)
    }

    pub(super) fn jvp(&self, call: &Call<'_>, tangents: &[Option<Array>]) -> Result<Slots> {
        pushed_through(|inputs| self.replay(inputs), call.inputs, tangents)
    }

    pub(super) fn vmap(&self, inputs: &[Array], batched: &[bool], size: usize) -> Result<Outputs> {
        vectorised_through(|inputs| self.replay(inputs), inputs, batched, size)
    }
}

/// The results of calling `graph` as one node.
pub(crate) fn call(
    name: &'static str,
    graph: &Arc<Graph>,
    arguments: Vec<Array>,
    site: &'static Location<'static>,
) -> Vec<Array> {
    let outputs: Vec<Spec> = graph.outputs.iter().map(spec).collect();
    let inputs: Inputs = arguments.into_iter().chain(graph.captures.iter().cloned()).collect();
    let called = Control::Call(Called { name, graph: graph.clone() });
    Array::lazy_many(Op::Control(Arc::new(called)), inputs, &outputs, site)
}

/// A function whose intermediate results are not kept for its gradient but computed again: less memory
/// for more work.
///
/// ```
/// use lazul_core::prelude::*;
/// let block = checkpoint(|x: &Array| x.sin().exp().cos());
/// let loss = |x: &Array| Ok::<_, lazul_core::Error>(block(x)?.sum(..));
/// let x = Array::scalar(0.5f32);
/// let plain = grad(|x: &Array| x.sin().exp().cos().sum(..))(&x)?;
/// assert_eq!(grad(loss)(&x)?.item::<f32>()?, plain.item::<f32>()?);
/// # Ok::<(), lazul_core::Error>(())
/// ```
///
/// # Errors
/// Of the returned function: those of `f`.
#[track_caller]
pub fn checkpoint<T: Tree, O: Tree, R: IntoResult<O>>(
    f: impl Fn(&T) -> R,
) -> impl Fn(&T) -> Result<O> {
    let site = call_site();
    move |argument| {
        let leaves: Vec<Array> = argument.leaves().into_iter().cloned().collect();
        leaves.iter().try_for_each(|l| l.check())?;
        let specs: Vec<Spec> = leaves.iter().map(spec).collect();
        let mut template: Option<O> = None;
        let graph = Graph::trace_at(site, &specs, |placeholders| {
            let value = f(&argument.with_leaves(placeholders.iter().cloned())).into_result()?;
            let made = value.leaves().into_iter().cloned().collect();
            template = Some(value);
            Ok(made)
        })?;
        let made = call("checkpoint", &Arc::new(graph), leaves, site);
        Ok(template.map(|t| t.with_leaves(made)).unwrap_or_else(|| unreachable!("f was called")))
    }
}

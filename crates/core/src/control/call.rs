//! Calls of traced functions, [`checkpoint`], and [`depends`].

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

/// `values` that are computed only after `dependencies` are, though they do not need their results: to order
/// work, for example to keep what is in memory at one time small. Derivatives and batches pass through.
///
/// ```
/// use lazul_core::prelude::*;
/// let (x, first) = (arange(3, DType::F32), arange(4, DType::F32).exp());
/// let y = depends(&(x * 2.0), &[first.clone()])?;
/// assert_eq!(y.to_vec::<f32>()?, [0.0, 2.0, 4.0]); // and `first` is there too
/// # Ok::<(), lazul_core::Error>(())
/// ```
///
/// # Errors
/// If one of the arrays is a failed one.
#[track_caller]
pub fn depends<T: Tree, D: Tree>(values: &T, dependencies: &D) -> Result<T> {
    let site = call_site();
    let (own, others) = (values.leaves(), dependencies.leaves());
    own.iter().chain(&others).try_for_each(|a| a.check())?;
    let n = own.len();
    let all: Vec<Array> = own.into_iter().chain(others).cloned().collect();
    let specs: Vec<Spec> = all.iter().map(spec).collect();
    let graph = Graph::trace_at(site, &specs, |xs| Ok(xs[..n].to_vec()))?;
    Ok(values.with_leaves(call("depends", &Arc::new(graph), all, site)))
}

#[cfg(test)]
mod tests {
    use crate::prelude::*;

    #[test]
    fn dependencies_are_computed_first_and_change_nothing() {
        let first = arange(4, DType::F32).exp();
        let (a, b) = (arange(3, DType::F32), arange(2, DType::I32));
        let (c, d) = depends(&(&a * 2.0, b.clone()), &vec![first.clone()]).unwrap();
        assert!(!first.is_ready());
        assert_eq!(c.to_vec::<f32>().unwrap(), [0.0, 2.0, 4.0]);
        assert!(first.is_ready());
        assert_eq!(d.to_vec::<i32>().unwrap(), [0, 1]);
        let loss = |x: &Array| Ok::<_, crate::Error>(depends(&x.square(), &first)?.sum(..));
        assert_eq!(grad(loss)(&a).unwrap().to_vec::<f32>().unwrap(), [0.0, 2.0, 4.0]);
        let each = |x: &Array| depends(&(x + 1.0), &x.exp());
        assert_eq!(vmap(each)(&a).unwrap().to_vec::<f32>().unwrap(), [1.0, 2.0, 3.0]);
        let failed = a.reshape([7]);
        let error = depends(&a, &failed).unwrap_err().to_string();
        assert!(error.starts_with("[reshape] 3 elements do not fill shape (7,)"), "{error}");
    }
}

//! Functions with derivative and batching rules of their own.

use super::Control;
use super::graph::{Spec, spec};
use crate::error::{Error, ErrorKind, Result};
use crate::node::{Array, Data, Inputs, Op};
use crate::rules::{Call, Outputs, Slots, all_batched, none, or_zeros};
use crate::scope::call_site;
use crate::transforms::vectorised_through;
use crate::tree::{IntoResult, Tree};
use std::sync::Arc;

/// Cotangents of primals from primals, cotangents of results, results.
type Pull = Arc<dyn Fn(&[Array], &[Array], &[Array]) -> Result<Vec<Array>> + Send + Sync>;
/// Tangents of results from primals and their tangents.
type Push = Arc<dyn Fn(&[Array], &[Array]) -> Result<Vec<Array>> + Send + Sync>;
/// Results with the batch first, from primals and which of them have it first.
type Batch = Arc<dyn Fn(&[Array], &[bool], usize) -> Result<Vec<Array>> + Send + Sync>;

/// The node: inputs are the primals, then the results as the function's own graph makes them, which pass
/// through unchanged.
#[derive(Clone)]
pub(crate) struct Custom {
    primals: usize,
    vjp: Option<Pull>,
    jvp: Option<Push>,
    vmap: Option<Batch>,
}

fn somes(arrays: Vec<Array>) -> Slots {
    arrays.into_iter().map(Some).collect()
}

impl Custom {
    pub(super) fn run(&self, mut inputs: Vec<Data>) -> Vec<Data> {
        inputs.split_off(self.primals)
    }

    pub(super) fn vjp(&self, call: &Call<'_>, cotangents: &[Option<Array>]) -> Result<Slots> {
        let Some(rule) = &self.vjp else {
            // Without a rule the gradient goes the function's own way.
            return Ok(none(self.primals).into_iter().chain(cotangents.iter().cloned()).collect());
        };
        let (primals, results) = call.inputs.split_at(self.primals);
        let cotangents: Vec<Array> =
            cotangents.iter().zip(results).map(|(c, r)| or_zeros(c, r)).collect();
        let mut slots = somes(rule(primals, &cotangents, call.outputs)?);
        slots.resize(call.inputs.len(), None);
        Ok(slots)
    }

    pub(super) fn jvp(&self, call: &Call<'_>, tangents: &[Option<Array>]) -> Result<Slots> {
        let Some(rule) = &self.jvp else {
            return Ok(tangents[self.primals..].iter().cloned().collect());
        };
        let primals = &call.inputs[..self.primals];
        let tangents: Vec<Array> =
            tangents.iter().zip(primals).map(|(t, p)| or_zeros(t, p)).collect();
        Ok(somes(rule(primals, &tangents)?))
    }

    pub(super) fn vmap(
        &self,
        inputs: &[Array],
        batched: &[bool],
        size: usize,
        results: usize,
    ) -> Result<Outputs> {
        let n = self.primals;
        if let Some(rule) = &self.vmap {
            return Ok(rule(&inputs[..n], &batched[..n], size)?.into_iter().collect());
        }
        // The function's own graph is over the batch already; the rules are made so.
        let over = |rule: Pull| -> Pull {
            Arc::new(move |primals, cotangents, outputs| {
                let all: Vec<Array> =
                    primals.iter().chain(cotangents).chain(outputs).cloned().collect();
                let (a, b) = (primals.len(), primals.len() + cotangents.len());
                let one = |xs: &[Array]| rule(&xs[..a], &xs[a..b], &xs[b..]);
                Ok(vectorised_through(one, &all, &vec![true; all.len()], size)?.into_vec())
            })
        };
        let over_push = |rule: Push| -> Push {
            Arc::new(move |primals, tangents| {
                let all: Vec<Array> = primals.iter().chain(tangents).cloned().collect();
                let one = |xs: &[Array]| rule(&xs[..primals.len()], &xs[primals.len()..]);
                Ok(vectorised_through(one, &all, &vec![true; all.len()], size)?.into_vec())
            })
        };
        let custom = Custom {
            primals: n,
            vjp: self.vjp.clone().map(over),
            jvp: self.jvp.clone().map(over_push),
            vmap: None,
        };
        let all = all_batched(inputs, batched, size);
        let outputs: Vec<Spec> = all[n..n + results].iter().map(spec).collect();
        let op = Op::Control(Arc::new(Control::Custom(custom)));
        let inputs = Inputs::from_iter(all);
        Ok(Array::lazy_many(op, inputs, &outputs, call_site()).into_iter().collect())
    }
}

/// A function that may have its own vjp, jvp and batching; made by [`custom_function`].
pub struct CustomFunction<T, O, F> {
    f: F,
    vjp: Option<Arc<dyn Fn(&T, &O, &O) -> Result<T> + Send + Sync>>,
    jvp: Option<Arc<dyn Fn(&T, &T) -> Result<O> + Send + Sync>>,
    #[allow(clippy::type_complexity)]
    vmap: Option<Arc<dyn Fn(&T, &[bool], usize) -> Result<O> + Send + Sync>>,
}

/// A function whose derivative and batching rules can be replaced, to make them more stable or cheaper
/// than what its operations give.
///
/// ```
/// use lazul_core::prelude::*;
/// // The identity, whose gradient is limited to one.
/// let clipped = custom_function(|x: &Array| x.clone())
///     .vjp(|_x: &Array, c: &Array, _y: &Array| c.clip(Some(-1.0), Some(1.0)));
/// let loss = |x: &Array| Ok::<_, lazul_core::Error>((clipped.call(x)? * 5.0).sum(..));
/// assert_eq!(grad(loss)(&Array::scalar(2.0f32))?.item::<f32>()?, 1.0);
/// # Ok::<(), lazul_core::Error>(())
/// ```
pub fn custom_function<T, O, R, F>(f: F) -> CustomFunction<T, O, F>
where
    T: Tree + Send + Sync + 'static,
    O: Tree + Send + Sync + 'static,
    R: IntoResult<O>,
    F: Fn(&T) -> R,
{
    CustomFunction { f, vjp: None, jvp: None, vmap: None }
}

impl<T, O, F> CustomFunction<T, O, F>
where
    T: Tree + Send + Sync + 'static,
    O: Tree + Send + Sync + 'static,
{
    /// With `rule(primals, cotangents, results)` for the cotangents of the primals.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// // Rounding, through which gradients pass as if it were not there.
    /// let round = custom_function(|x: &Array| x.round(0)).vjp(|_x: &Array, c: &Array, _y: &Array| c.clone());
    /// let loss = |x: &Array| Ok::<_, lazul_core::Error>(round.call(x)?.square().sum(..));
    /// assert_eq!(grad(loss)(&Array::scalar(2.6f32))?.item::<f32>()?, 6.0);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    #[must_use]
    pub fn vjp<R: IntoResult<T>>(
        mut self,
        rule: impl Fn(&T, &O, &O) -> R + Send + Sync + 'static,
    ) -> Self {
        self.vjp = Some(Arc::new(move |p, c, o| rule(p, c, o).into_result()));
        self
    }

    /// With `rule(primals, tangents)` for the tangents of the results.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// let round = custom_function(|x: &Array| x.round(0)).jvp(|_x: &Array, t: &Array| t * 2.0);
    /// let (y, slope) = jvp(|x: &Array| round.call(x), &Array::scalar(2.6f32), &Array::scalar(1.0f32))?;
    /// assert_eq!((y.item::<f32>()?, slope.item::<f32>()?), (3.0, 2.0));
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    #[must_use]
    pub fn jvp<R: IntoResult<O>>(
        mut self,
        rule: impl Fn(&T, &T) -> R + Send + Sync + 'static,
    ) -> Self {
        self.jvp = Some(Arc::new(move |p, t| rule(p, t).into_result()));
        self
    }

    /// With `rule(arguments, batched, size)` for the results over a batch: leaves that are `batched` have
    /// the batch of `size` as first axis, and every leaf of the result must.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// // The sum of a vector, for a batch of them in one reduction.
    /// let sum = custom_function(|x: &Array| x.sum(..))
    ///     .vmap(|x: &Array, _batched: &[bool], _size: usize| x.sum(1));
    /// let x = arange(6, DType::F32).reshape([2, 3]);
    /// assert_eq!(vmap(|x: &Array| sum.call(x))(&x)?.to_vec::<f32>()?, [3.0, 12.0]);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    #[must_use]
    pub fn vmap<R: IntoResult<O>>(
        mut self,
        rule: impl Fn(&T, &[bool], usize) -> R + Send + Sync + 'static,
    ) -> Self {
        self.vmap = Some(Arc::new(move |a, b, n| rule(a, b, n).into_result()));
        self
    }

    /// Calls the function.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// let double = custom_function(|x: &Array| x * 2.0);
    /// assert_eq!(double.call(&Array::scalar(4.0f32))?.item::<f32>()?, 8.0);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of the function. A rule that gives another number of arrays, other shapes or dtypes is an
    /// error of the transform that uses it.
    #[track_caller]
    pub fn call<R: IntoResult<O>>(&self, argument: &T) -> Result<O>
    where
        F: Fn(&T) -> R,
    {
        let site = call_site();
        let value = (self.f)(argument).into_result()?;
        let primals: Vec<Array> = argument.leaves().into_iter().cloned().collect();
        // Without a transform around there is nothing to replace.
        if primals.iter().all(|p| p.0.trace.is_none()) {
            return Ok(value);
        }
        let results: Vec<Array> = value.leaves().into_iter().cloned().collect();
        results.iter().try_for_each(|r| r.check())?;
        let (count, made) = (primals.len(), results.len());
        let (t, o) = (argument.clone(), value.clone());
        let vjp = self.vjp.clone().map(|rule| -> Pull {
            let (t, o) = (t.clone(), o.clone());
            Arc::new(move |primals, cotangents, results| {
                let p = t.with_leaves(primals.iter().cloned());
                let c = o.with_leaves(cotangents.iter().cloned());
                let r = o.with_leaves(results.iter().cloned());
                flat("vjp", &rule(&p, &c, &r)?, count)
            })
        });
        let jvp = self.jvp.clone().map(|rule| -> Push {
            let t = t.clone();
            Arc::new(move |primals, tangents| {
                let p = t.with_leaves(primals.iter().cloned());
                let d = t.with_leaves(tangents.iter().cloned());
                flat("jvp", &rule(&p, &d)?, made)
            })
        });
        let vmap = self.vmap.clone().map(|rule| -> Batch {
            let t = t.clone();
            Arc::new(move |primals, batched, size| {
                flat("vmap", &rule(&t.with_leaves(primals.iter().cloned()), batched, size)?, made)
            })
        });
        let custom = Control::Custom(Custom { primals: count, vjp, jvp, vmap });
        let outputs: Vec<Spec> = results.iter().map(spec).collect();
        let inputs: Inputs = primals.into_iter().chain(results).collect();
        let made = Array::lazy_many(Op::Control(Arc::new(custom)), inputs, &outputs, site);
        Ok(value.with_leaves(made))
    }
}

/// The leaves of what a rule gave, which must be `n`.
fn flat<T: Tree>(rule: &'static str, tree: &T, n: usize) -> Result<Vec<Array>> {
    let leaves: Vec<Array> = tree.leaves().into_iter().cloned().collect();
    if leaves.len() != n {
        let why = format!("the {rule} rule gave {} arrays instead of {n}", leaves.len());
        return Err(Error::new(ErrorKind::Value, "custom_function", why));
    }
    leaves.iter().try_for_each(|l| l.check())?;
    Ok(leaves)
}

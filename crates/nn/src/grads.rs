//! Gradients by the parameters of a module.

use crate::module::{Module, Parameters};
use lazul_core::{Array, IntoResult, Objective, Result, Tree};
use std::collections::BTreeSet;
use std::marker::PhantomData;
use std::ops::Deref;

/// Gradients by the parameters of a module of type `M`: its tree, with nothing where a parameter is frozen
/// or has no gradient.
///
/// It is used as the map of those that are there ([`Parameters`]).
///
/// ```
/// use lazul_core::prelude::*;
/// use lazul_nn::{Linear, Trainable, optim::clip_grad_norm, value_and_grad};
/// let mut model = Trainable::new(Linear::init(3, 2, true, None)?).freeze("bias");
/// let loss = |m: &mut Trainable<Linear>| m.forward(&ones([1, 3], DType::F32)).sum(..);
/// let (_, grads) = value_and_grad(loss)(&mut model)?;
/// assert_eq!(grads.absent().collect::<Vec<_>>(), ["bias"]);
/// assert_eq!(grads["weight"].shape()?, [2, 3]);
/// // It is a tree of those that are there.
/// let (clipped, norm) = clip_grad_norm(&grads, 1.0);
/// assert!((norm.item::<f32>()? - 6f32.sqrt()).abs() < 1e-6);
/// assert_eq!(clipped.len(), 1);
/// # Ok::<(), lazul_core::Error>(())
/// ```
pub struct Grads<M> {
    present: Parameters,
    absent: BTreeSet<String>,
    module: PhantomData<fn() -> M>,
}

impl<M: Module> Grads<M> {
    /// These gradients of a module's parameters; the others are absent.
    pub fn new(module: &M, present: Parameters) -> Grads<M> {
        let paths = module.parameters().into_iter().map(|(path, _)| path);
        let absent = paths.filter(|path| !present.contains_key(path)).collect();
        Grads { present, absent, module: PhantomData }
    }
}

impl<M> Grads<M> {
    /// Paths of parameters and buffers without a gradient.
    pub fn absent(&self) -> impl Iterator<Item = &str> {
        self.absent.iter().map(String::as_str)
    }

    /// The gradients alone.
    pub fn into_parameters(self) -> Parameters {
        self.present
    }
}

impl<M> Deref for Grads<M> {
    type Target = Parameters;
    fn deref(&self) -> &Parameters {
        &self.present
    }
}

impl<'a, M> IntoIterator for &'a Grads<M> {
    type Item = (&'a String, &'a Array);
    type IntoIter = std::collections::btree_map::Iter<'a, String, Array>;
    fn into_iter(self) -> Self::IntoIter {
        self.present.iter()
    }
}

impl<M> Clone for Grads<M> {
    fn clone(&self) -> Self {
        let (present, absent) = (self.present.clone(), self.absent.clone());
        Grads { present, absent, module: PhantomData }
    }
}

impl<M> std::fmt::Debug for Grads<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Grads")
            .field("present", &self.present)
            .field("absent", &self.absent)
            .finish()
    }
}

impl<M> Tree for Grads<M> {
    fn visit<'a>(&'a self, f: &mut dyn FnMut(&'a Array)) {
        self.present.visit(f);
    }
    fn visit_mut(&mut self, f: &mut dyn FnMut(&mut Array)) {
        self.present.visit_mut(f);
    }
    fn structure(&self, words: &mut Vec<u64>) {
        self.present.structure(words);
        words.push(self.absent.len() as u64);
        self.absent.iter().for_each(|path| path.structure(words));
    }
}

/// A function that gives the value of `f` and its gradients by all trainable parameters of a module;
/// see [`value_and_grad_of`].
///
/// ```
/// use lazul_core::prelude::*;
/// use lazul_nn::{Linear, losses::{Reduction, mse_loss}, value_and_grad};
/// let mut model = Linear::new(ones([1, 2], DType::F32), Some(zeros([1], DType::F32)));
/// let (x, y) = (ones([4, 2], DType::F32), zeros([4, 1], DType::F32));
/// let loss = |m: &mut Linear| mse_loss(&m.forward(&x), &y, Reduction::Mean);
/// let (value, grads) = value_and_grad(loss)(&mut model)?;
/// assert_eq!(value.item::<f32>()?, 4.0);
/// assert_eq!(grads["weight"].to_vec::<f32>()?, [4.0, 4.0]);
/// assert_eq!(grads["bias"].to_vec::<f32>()?, [4.0]);
/// # Ok::<(), lazul_core::Error>(())
/// ```
///
/// # Errors
/// Of the returned function: as that of [`value_and_grad_of`].
pub fn value_and_grad<M: Module + Clone, O: Objective, R: IntoResult<O>>(
    f: impl Fn(&mut M) -> R,
) -> impl Fn(&mut M) -> Result<(O, Grads<M>)> {
    value_and_grad_of(f, |_| true)
}

/// A function that gives the value of `f` and its gradients by those trainable parameters of a module
/// whose path `wanted` accepts; the others are constants.
///
/// `f` returns a real scalar array, or a pair of one and any tree. It gets a copy of the module; what it
/// does to the copy's buffers (running statistics, by
/// [`Layer::forward_mut`](crate::layers::Layer::forward_mut)) is done to the module in the end.
///
/// ```
/// use lazul_core::prelude::*;
/// use lazul_nn::{Linear, value_and_grad_of};
/// let mut model = Linear::new(ones([1, 2], DType::F32), Some(zeros([1], DType::F32)));
/// let loss = |m: &mut Linear| m.forward(&ones([1, 2], DType::F32)).sum(..);
/// let (_, grads) = value_and_grad_of(loss, |path| path.ends_with("bias"))(&mut model)?;
/// assert_eq!(grads.keys().collect::<Vec<_>>(), ["bias"]);
/// # Ok::<(), lazul_core::Error>(())
/// ```
///
/// # Errors
/// Of the returned function: those of `f`; if the loss is not a real scalar of a float dtype; where an
/// operation has no gradient.
pub fn value_and_grad_of<M: Module + Clone, O: Objective, R: IntoResult<O>>(
    f: impl Fn(&mut M) -> R,
    wanted: impl Fn(&str) -> bool,
) -> impl Fn(&mut M) -> Result<(O, Grads<M>)> {
    move |model| {
        let mut parameters = model.trainable_parameters();
        parameters.retain(|path, _| wanted(path));
        let start: &M = model;
        let objective = |p: &Parameters| -> Result<(Array, (O, Parameters))> {
            let mut copy = start.clone();
            copy.update(p)?;
            let value = f(&mut copy).into_result()?;
            // Those alone that were changed: the module keeps the others as they are.
            let (old, mut buffers) = (start.buffers(), copy.buffers());
            buffers.retain(|path, b| old.get(path).is_none_or(|old| !old.ptr_eq(b)));
            // Statistics of a step are no function of the parameters to later ones.
            let buffers = buffers.map_leaves(|b| b.stop_gradient());
            Ok((value.loss().clone(), (value, buffers)))
        };
        let ((_, (value, buffers)), grads) = lazul_core::value_and_grad(objective)(&parameters)?;
        model.update(&buffers)?;
        Ok((value, Grads::new(&*model, grads)))
    }
}

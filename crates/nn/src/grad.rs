//! Gradients by the parameters of a module.

use crate::module::{Module, Parameters};
use lazul_core::{IntoResult, Objective, Result, Tree};

/// A function that gives the value of `f` and its gradients by all trainable parameters of a module, by
/// path; see [`value_and_grad_of`].
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
) -> impl Fn(&mut M) -> Result<(O, Parameters)> {
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
) -> impl Fn(&mut M) -> Result<(O, Parameters)> {
    move |model| {
        let mut parameters = model.trainable_parameters();
        parameters.retain(|path, _| wanted(path));
        let start: &M = model;
        let objective = |p: &Parameters| -> Result<(lazul_core::Array, (O, Parameters))> {
            let mut copy = start.clone();
            copy.update(p)?;
            let value = f(&mut copy).into_result()?;
            // Statistics of a step are no function of the parameters to later ones.
            let buffers = copy.buffers().map_leaves(|b| b.stop_gradient());
            Ok((value.loss().clone(), (value, buffers)))
        };
        let ((_, (value, buffers)), grads) = lazul_core::value_and_grad(objective)(&parameters)?;
        model.update(&buffers)?;
        Ok((value, grads))
    }
}

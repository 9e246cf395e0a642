//! Clipping of gradients.

use lazul_core::{Array, DType, Tree};

/// Gradients scaled down to a norm of all of them together of at most `max_norm`, and the norm that they
/// had, f32 (f64 if any is f64). Each keeps its dtype.
///
/// ```
/// use lazul_core::prelude::*;
/// use lazul_nn::optim::clip_grad_norm;
/// let grads = vec![Array::scalar(3.0f32), Array::scalar(4.0f32)];
/// let (clipped, norm) = clip_grad_norm(&grads, 1.0);
/// assert_eq!(norm.item::<f32>()?, 5.0);
/// assert!((clipped[1].item::<f32>()? - 0.8).abs() < 1e-6);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[track_caller]
pub fn clip_grad_norm<T: Tree>(grads: &T, max_norm: f64) -> (T, Array) {
    let wide = |g: &Array| match g.dtype() {
        Ok(DType::F64) => g.clone(),
        _ => g.astype(DType::F32),
    };
    let zero = Array::scalar(0f32);
    let squares = grads.leaves().into_iter().fold(zero, |sum, g| sum + wide(g).square().sum(..));
    let norm = squares.sqrt();
    let scale = (Array::scalar(max_norm as f32) / (&norm + 1e-6)).minimum(1);
    let clipped = grads.map_leaves(|g| match g.dtype() {
        Ok(dtype) if dtype.is_float() => (wide(g) * &scale).astype(dtype),
        _ => g * &scale,
    });
    (clipped, norm)
}

//! Activation functions.

use lazul_core::Array;

/// `x * sigmoid(x)`. Source: Elfwing, Uchibe and Doya, 2017.
#[track_caller]
pub fn silu(x: &Array) -> Array {
    x * x.sigmoid()
}

/// `max(x, 0)`.
#[track_caller]
pub fn relu(x: &Array) -> Array {
    x.maximum(0)
}

/// `x * Φ(x)` with the error function. Source: Hendrycks and Gimpel, 2016.
#[track_caller]
pub fn gelu(x: &Array) -> Array {
    x * ((x * std::f64::consts::FRAC_1_SQRT_2).erf() + 1.0) * 0.5
}

/// GELU by a hyperbolic tangent.
///
/// ```
/// use lazul_core::prelude::*;
/// use lazul_nn::activations::{gelu, gelu_approx};
/// let x = linspace(-3.0, 3.0, 7, DType::F32);
/// let apart = (gelu(&x) - gelu_approx(&x)).abs().max(..).item::<f32>()?;
/// assert!(apart < 1e-3);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[track_caller]
pub fn gelu_approx(x: &Array) -> Array {
    let inner = (x + x.square() * x * 0.044715) * (2.0 / std::f64::consts::PI).sqrt();
    x * (inner.tanh() + 1.0) * 0.5
}

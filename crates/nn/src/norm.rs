//! Normalisation layers.

use crate::weights::Weights;
use lazul_core::{Array, Result, fast};

/// Root-mean-square normalisation over the last axis with a learned scale.
#[derive(Clone, Debug, crate::Module)]
pub struct RmsNorm {
    /// Scale, `(d)`.
    pub weight: Array,
    /// Added to the mean square.
    #[module(skip)]
    pub eps: f32,
}

impl RmsNorm {
    /// The norm at this place of a checkpoint.
    ///
    /// # Errors
    /// If `weight` is missing or has another shape.
    pub fn load(weights: &Weights<'_>, d: usize, eps: f32) -> Result<RmsNorm> {
        Ok(RmsNorm { weight: weights.tensor("weight", &[d])?, eps })
    }

    /// `x (…, d)` → same shape and dtype.
    #[track_caller]
    pub fn forward(&self, x: &Array) -> Array {
        fast::rms_norm(x, Some(&self.weight), self.eps)
    }
}

/// Layer normalisation over the last axis with learned scale and shift.
#[derive(Clone, Debug, crate::Module)]
pub struct LayerNorm {
    /// Scale, `(d)`.
    pub weight: Option<Array>,
    /// Shift, `(d)`.
    pub bias: Option<Array>,
    /// Added to the variance.
    #[module(skip)]
    pub eps: f32,
}

impl LayerNorm {
    /// `x (…, d)` → same shape and dtype.
    #[track_caller]
    pub fn forward(&self, x: &Array) -> Array {
        fast::layer_norm(x, self.weight.as_ref(), self.bias.as_ref(), self.eps)
    }
}

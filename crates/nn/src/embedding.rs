//! Tables of vectors.

use crate::linear::Weight;
use crate::weights::Weights;
use lazul_core::{Array, Result};

/// A table `(n, d)` whose rows stand for tokens.
#[derive(Clone, Debug, crate::Module)]
pub struct Embedding {
    /// The table.
    #[module(flatten)]
    pub weight: Weight,
}

impl Embedding {
    /// A dense table.
    pub fn new(weight: Array) -> Embedding {
        Embedding { weight: Weight::Dense(weight) }
    }

    /// The table at this place of a checkpoint, quantized where the checkpoint says so.
    ///
    /// # Errors
    /// If a tensor is missing or has another shape.
    pub fn load(weights: &Weights<'_>, n: usize, d: usize) -> Result<Embedding> {
        Ok(Embedding { weight: weights.matrix(n, d)? })
    }

    /// The rows at `tokens`, integers of any shape: `(…tokens, d)`.
    #[track_caller]
    pub fn forward(&self, tokens: &Array) -> Array {
        self.weight.rows(tokens)
    }

    /// The table used as a linear map, as models with tied embeddings end: `x (…, d)` → `(…, n)`.
    #[track_caller]
    pub fn as_linear(&self, x: &Array) -> Array {
        self.weight.apply(x)
    }
}

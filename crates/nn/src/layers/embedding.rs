//! Tables of vectors.

use super::Weight;
use crate::weights::Weights;
use lazul_core::{Array, DType, Result, random};

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

    /// A table of `n` rows of `d` features, f32, normal with deviation `1 / sqrt(d)`.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// use lazul_nn::Embedding;
    /// let table = Embedding::init(10, 4, Some(&random::key(0)))?;
    /// assert_eq!(table.forward(&Array::from_slice(&[1, 7, 7], [3])).shape()?, &[3, 4]);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// If the table is larger than an array can be.
    pub fn init(n: usize, d: usize, key: Option<&Array>) -> Result<Embedding> {
        let std = 1.0 / (d.max(1) as f64).sqrt();
        let weight = random::normal_with(0.0, std, [n, d], DType::F32, key);
        weight.check()?;
        Ok(Embedding::new(weight))
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

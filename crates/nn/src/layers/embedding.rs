//! Tables of vectors.

use super::{Adapter, AdapterOptions, Weight};
use crate::module::{Module, tree_of_module};
use crate::visitor::{Matrix, Visitor, VisitorMut};
use crate::weights::Weights;
use lazul_core::{Array, DType, Result, attempt, random};

/// A table `(n, d)` whose rows stand for tokens.
#[derive(Clone, Debug)]
pub struct Embedding {
    /// The table.
    pub weight: Weight,
    /// What fine-tuning adds to the table.
    pub adapter: Option<Box<Adapter>>,
}

impl Module for Embedding {
    fn visit<'a>(&'a self, visitor: &mut Visitor<'_, 'a>) {
        self.weight.visit(visitor);
        self.adapter.visit(visitor);
    }
    fn visit_mut(&mut self, visitor: &mut VisitorMut<'_>) {
        visitor.matrix(Matrix::Embedding(self));
        self.weight.visit_mut(visitor);
        self.adapter.visit_mut(visitor);
    }
    fn structure(&self, words: &mut Vec<u64>) {
        self.weight.structure(words);
        self.adapter.structure(words);
    }
}
tree_of_module!(Embedding);

impl Embedding {
    /// A dense table.
    pub fn new(weight: Array) -> Embedding {
        Embedding { weight: Weight::Dense(weight), adapter: None }
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
        Ok(Embedding { weight: weights.matrix(n, d)?, adapter: None })
    }

    /// The rows at `tokens`, integers of any shape: `(…tokens, d)`.
    #[track_caller]
    pub fn forward(&self, tokens: &Array) -> Array {
        match &self.adapter {
            None => self.weight.rows(tokens),
            Some(adapter) => attempt(|| adapter.rows(tokens, &self.weight)),
        }
    }

    /// The table used as a linear map, as models with tied embeddings end: `x (…, d)` → `(…, n)`.
    #[track_caller]
    pub fn as_linear(&self, x: &Array) -> Array {
        match &self.adapter {
            None => self.weight.apply(x),
            Some(adapter) => attempt(|| adapter.as_linear(x, &self.weight)),
        }
    }

    /// Puts a new adapter beside the table, which adds nothing until it is trained.
    ///
    /// # Errors
    /// If the rank is 0, or the probability of dropout is none.
    pub fn adapt(&mut self, options: &AdapterOptions, key: Option<&Array>) -> Result<()> {
        self.adapter = Some(Box::new(Adapter::of_embedding(&self.weight, options, key)?));
        Ok(())
    }

    /// The table with its adapter in it, quantized again if it was, unless `dequantize`.
    ///
    /// # Errors
    /// If the adapter's sizes are not the table's, or it cannot be quantized again.
    pub fn fuse(&self, dequantize: bool) -> Result<Embedding> {
        let weight = match &self.adapter {
            Some(adapter) => adapter.fused(&self.weight, true, dequantize)?,
            None if dequantize => Weight::Dense(self.weight.dense()),
            None => self.weight.clone(),
        };
        Ok(Embedding { weight, adapter: None })
    }
}

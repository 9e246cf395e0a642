//! Affine maps, dense or quantized.

use crate::module::{Module, Visitor, VisitorMut};
use crate::weights::Weights;
use lazul_core::{Array, Quantization, Quantized, Result};

/// A matrix `(out, in)` as it is stored.
#[derive(Clone, Debug)]
pub enum Weight {
    /// Plain elements of a float dtype.
    Dense(Array),
    /// Codes of a few bits in groups.
    Quantized(Quantized),
}

impl Weight {
    /// `x (…, in)` times the transposed matrix: `(…, out)`.
    #[track_caller]
    pub fn apply(&self, x: &Array) -> Array {
        match self {
            Weight::Dense(w) => x.matmul(&w.mt()),
            Weight::Quantized(w) => x.quantized_matmul(w, true),
        }
    }

    /// Rows of the matrix: `(…indices, in)`.
    #[track_caller]
    pub fn rows(&self, indices: &Array) -> Array {
        match self {
            Weight::Dense(w) => w.take(indices, 0),
            Weight::Quantized(w) => w.take_rows(indices),
        }
    }

    /// The matrix quantized; one that is quantized already stays as it is.
    ///
    /// # Errors
    /// As [`Array::quantize`].
    pub fn quantize(&self, form: Quantization) -> Result<Weight> {
        Ok(match self {
            Weight::Dense(w) => Weight::Quantized(w.quantize(form)?),
            quantized => quantized.clone(),
        })
    }
}

impl Module for Weight {
    fn visit<'a>(&'a self, visitor: &mut Visitor<'_, 'a>) {
        match self {
            Weight::Dense(w) => visitor.field("weight", w),
            Weight::Quantized(w) => w.visit(visitor),
        }
    }
    fn visit_mut(&mut self, visitor: &mut VisitorMut<'_>) {
        match self {
            Weight::Dense(w) => visitor.field("weight", w),
            Weight::Quantized(w) => w.visit_mut(visitor),
        }
    }
}

/// `x Wᵀ + b` with `W (out, in)`.
#[derive(Clone, Debug, crate::Module)]
pub struct Linear {
    /// The matrix.
    #[module(flatten)]
    pub weight: Weight,
    /// Added to each result, `(out)`.
    pub bias: Option<Array>,
}

impl Linear {
    /// A dense map.
    pub fn new(weight: Array, bias: Option<Array>) -> Linear {
        Linear { weight: Weight::Dense(weight), bias }
    }

    /// The map at this place of a checkpoint: `weight`, and `bias` if asked for; quantized where the
    /// checkpoint says so.
    ///
    /// # Errors
    /// If a tensor is missing or has another shape.
    pub fn load(weights: &Weights<'_>, input: usize, output: usize, bias: bool) -> Result<Linear> {
        let weight = weights.matrix(output, input)?;
        let bias = if bias { Some(weights.tensor("bias", &[output])?) } else { None };
        Ok(Linear { weight, bias })
    }

    /// `x (…, in)` → `(…, out)`.
    #[track_caller]
    pub fn forward(&self, x: &Array) -> Array {
        let y = self.weight.apply(x);
        match &self.bias {
            Some(bias) => y + bias,
            None => y,
        }
    }
}

//! Gradients of several batches as one: a large batch in the memory of a small one.

use crate::module::Parameters;
use lazul_core::{DType, Error, ErrorKind, Result, Tree};

/// A sum of gradients; those of f16 and bf16 are added in f32.
///
/// ```
/// use lazul_core::prelude::*;
/// use lazul_nn::optim::Accumulator;
/// let batch = |x: f32| [("w".to_string(), Array::scalar(x))].into();
/// let mut accumulated = Accumulator::default();
/// accumulated.add(&batch(1.0))?;
/// accumulated.add(&batch(2.0))?;
/// let mean = accumulated.take(2);
/// assert_eq!(mean["w"].item::<f32>()?, 1.5);
/// assert!(accumulated.is_empty());
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[derive(Clone, Debug, Default, Tree)]
pub struct Accumulator {
    sum: Parameters,
}

impl Accumulator {
    /// Whether nothing was added since the last [`Accumulator::take`].
    pub fn is_empty(&self) -> bool {
        self.sum.is_empty()
    }

    /// The sums so far.
    pub(crate) fn sums(&self) -> &Parameters {
        &self.sum
    }

    /// Adds the gradients of a batch.
    ///
    /// # Errors
    /// If they are of other parameters or shapes than those before; nothing is added then.
    pub fn add(&mut self, gradients: &Parameters) -> Result<()> {
        let mut next = Parameters::new();
        for (path, gradient) in gradients {
            let wide = match gradient.dtype()? {
                DType::F64 => gradient.clone(),
                _ => gradient.astype(DType::F32),
            };
            let sum = match self.sum.get(path) {
                Some(sum) if sum.shape()? == wide.shape()? => wide + sum,
                None if self.sum.is_empty() => wide,
                _ => return Err(Error::new(ErrorKind::Value, "accumulate", strange(path))),
            };
            next.insert(path.clone(), sum);
        }
        if let Some(path) = self.sum.keys().find(|path| !next.contains_key(*path)) {
            return Err(Error::new(ErrorKind::Value, "accumulate", strange(path)));
        }
        self.sum = next;
        Ok(())
    }

    /// The mean over `batches` batches, f32 or f64; the sum starts anew.
    pub fn take(&mut self, batches: usize) -> Parameters {
        let sum = std::mem::take(&mut self.sum);
        sum.map_leaves(|g| g / batches.max(1) as f64)
    }
}

fn strange(path: &str) -> String {
    format!("{path} has no gradient of the same shape in every batch")
}

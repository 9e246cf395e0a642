//! Gradients of several batches as one: a large batch in the memory of a small one.

use crate::module::Parameters;
use lazul_core::{Array, DType, Error, ErrorKind, Result, Tree, where_};

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
    /// Batches in it, f32, where some were left out.
    count: Option<Array>,
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

    /// How many batches [`Accumulator::add_where`] added; none before its first call.
    pub(crate) fn count(&self) -> Option<&Array> {
        self.count.as_ref()
    }

    /// Sums and count as they were.
    pub(crate) fn restored(sum: Parameters, count: Option<Array>) -> Accumulator {
        Accumulator { sum, count }
    }

    /// Adds the gradients of a batch if `take`, a bool scalar, holds.
    ///
    /// # Errors
    /// As [`Accumulator::add`].
    pub(crate) fn add_where(&mut self, take: &Array, gradients: &Parameters) -> Result<()> {
        // Not a product: zero times NaN is NaN.
        self.add(&gradients.map_leaves(|g| where_(take, g, 0)))?;
        let one = take.astype(DType::F32);
        self.count = Some(self.count.take().map_or(one.clone(), |count| count + one));
        Ok(())
    }

    /// The mean over the batches that [`Accumulator::add_where`] took, and whether there was one; the sum
    /// starts anew.
    pub(crate) fn take_counted(&mut self) -> (Parameters, Array) {
        let Accumulator { sum, count } = std::mem::take(self);
        let count = count.unwrap_or_else(|| Array::scalar(0f32));
        let most = count.maximum(1.0);
        (sum.map_leaves(|g| g / &most), count.greater(0.0))
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
        let Accumulator { sum, .. } = std::mem::take(self);
        sum.map_leaves(|g| g / batches.max(1) as f64)
    }
}

fn strange(path: &str) -> String {
    format!("{path} has no gradient of the same shape in every batch")
}

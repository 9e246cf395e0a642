//! Weight decay apart from the gradient, for some parameters only.

use super::{One, Optimizer, Rate, Slots, Step, within};
use lazul_core::{Array, Result};
use std::sync::Arc;

/// Which parameters decay, by path and value.
type Mask = Arc<dyn Fn(&str, &Array) -> bool + Send + Sync>;

/// An optimizer before whose steps parameters shrink: `w = w * (1 - rate * decay)`. Source: Loshchilov and
/// Hutter, 2019.
///
/// With [`Adam`](super::Adam) this is [`AdamW`](super::AdamW), and with [`WeightDecay::only`] it leaves out
/// what should not shrink: biases, norms, embeddings.
///
/// ```
/// use lazul_core::prelude::*;
/// use lazul_nn::optim::{Adam, Optimizer, WeightDecay};
/// let optimizer =
///     WeightDecay::new(Adam::new(0.1), 0.5).only(|_, value| value.ndim().is_ok_and(|n| n > 1));
/// let w: lazul_nn::Parameters = [
///     ("bias".to_string(), ones([2], DType::F32)),
///     ("weight".to_string(), ones([2, 2], DType::F32)),
/// ]
/// .into();
/// let still = w.map_leaves(|a| a.zeros_like());
/// let moved = optimizer.apply(&mut optimizer.init(&w)?, &still, &w)?;
/// assert_eq!(moved["bias"].to_vec::<f32>()?, [1.0, 1.0]);
/// assert_eq!(moved["weight"].to_vec::<f32>()?, [0.95; 4]);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[derive(Clone)]
pub struct WeightDecay<O> {
    /// The optimizer.
    pub inner: O,
    /// Times the rate, the share of a parameter that goes away in a step.
    pub decay: f64,
    mask: Option<Mask>,
}

impl<O: Optimizer> WeightDecay<O> {
    /// An optimizer with decay of all parameters.
    pub fn new(inner: O, decay: f64) -> WeightDecay<O> {
        WeightDecay { inner, decay, mask: None }
    }

    /// Decay of those parameters only whose path and value `mask` accepts.
    pub fn only(mut self, mask: impl Fn(&str, &Array) -> bool + Send + Sync + 'static) -> Self {
        self.mask = Some(Arc::new(mask));
        self
    }
}

impl<O: Optimizer> Optimizer for WeightDecay<O> {
    fn rates(&self) -> Vec<&Rate> {
        self.inner.rates()
    }

    fn validate(&self) -> Result<()> {
        within("WeightDecay", "decay", self.decay, true)?;
        self.inner.validate()
    }

    fn slots(&self, one: &One<'_>) -> Slots {
        self.inner.slots(one)
    }

    fn step(&self, at: &Step<'_>, one: &One<'_>, slots: &mut Slots) -> Result<Array> {
        if self.mask.as_ref().is_some_and(|mask| !mask(one.path, one.value)) {
            return self.inner.step(at, one, slots);
        }
        let rate = at.rate(one.value.dtype()?)?;
        let value = &self.inner.shrink(one, &(-(rate * self.decay) + 1.0), slots)?;
        self.inner.step(at, &One { value, ..*one }, slots)
    }

    fn shrink(&self, one: &One<'_>, factor: &Array, slots: &mut Slots) -> Result<Array> {
        self.inner.shrink(one, factor, slots)
    }

    fn is_never_negative(&self, one: &One<'_>, slot: &str) -> bool {
        self.inner.is_never_negative(one, slot)
    }
}

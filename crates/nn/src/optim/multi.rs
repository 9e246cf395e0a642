//! Several optimizers, each for its own parameters.

use super::{One, Optimizer, Rate, Slots, Step, refuse};
use lazul_core::{Array, Result};

/// Which parameters an optimizer is for, by path and gradient.
type Filter = Box<dyn Fn(&str, &Array) -> bool + Send + Sync>;

/// Several optimizers: a parameter goes to the first whose filter accepts it, or to the last, which has
/// no filter.
///
/// ```
/// use lazul_core::prelude::*;
/// use lazul_nn::optim::{MultiOptimizer, Muon, Optimizer, Sgd};
/// let optimizer = MultiOptimizer::new(Sgd::new(0.5))
///     .before(Muon::new(0.02), |_, gradient| gradient.ndim().is_ok_and(|n| n == 2));
/// let parameters = [
///     ("bias".to_string(), ones([2], DType::F32)),
///     ("weight".to_string(), ones([2, 2], DType::F32)),
/// ]
/// .into();
/// let mut state = optimizer.init(&parameters)?;
/// let moved = optimizer.apply(&mut state, &parameters, &parameters)?;
/// assert_eq!(moved["bias"].to_vec::<f32>()?, [0.5, 0.5]);
/// # Ok::<(), lazul_core::Error>(())
/// ```
pub struct MultiOptimizer {
    filtered: Vec<(Filter, Box<dyn Optimizer + Send + Sync>)>,
    last: Box<dyn Optimizer + Send + Sync>,
}

impl MultiOptimizer {
    /// One optimizer for all parameters that no filter accepts.
    pub fn new(last: impl Optimizer + Send + Sync + 'static) -> MultiOptimizer {
        MultiOptimizer { filtered: Vec::new(), last: Box::new(last) }
    }

    /// One more, after those with filters so far, for parameters whose path and gradient `filter`
    /// accepts.
    pub fn before(
        mut self,
        optimizer: impl Optimizer + Send + Sync + 'static,
        filter: impl Fn(&str, &Array) -> bool + Send + Sync + 'static,
    ) -> MultiOptimizer {
        self.filtered.push((Box::new(filter), Box::new(optimizer)));
        self
    }

    /// All optimizers, in the order of their filters.
    fn all(&self) -> impl Iterator<Item = &(dyn Optimizer + Send + Sync)> {
        self.filtered.iter().map(|(_, o)| &**o).chain([&*self.last])
    }

    /// The optimizer of a parameter, and the number of learning rates before its own.
    fn of(&self, one: &One<'_>) -> (&(dyn Optimizer + Send + Sync), usize) {
        let mut rates = 0;
        for (filter, optimizer) in &self.filtered {
            if filter(one.path, one.gradient) {
                return (&**optimizer, rates);
            }
            rates += optimizer.rates().len();
        }
        (&*self.last, rates)
    }
}

impl Optimizer for MultiOptimizer {
    fn rates(&self) -> Vec<&Rate> {
        self.all().flat_map(|o| o.rates()).collect()
    }

    fn validate(&self) -> Result<()> {
        self.all().try_for_each(|o| o.validate())
    }

    fn slots(&self, one: &One<'_>) -> Slots {
        self.of(one).0.slots(one)
    }

    fn step(&self, at: &Step<'_>, one: &One<'_>, slots: &mut Slots) -> Result<Array> {
        let (optimizer, from) = self.of(one);
        let Some(rates) = at.rates.get(from..from + optimizer.rates().len()) else {
            refuse("MultiOptimizer", "the state has too few learning rates")?;
            return Ok(one.value.clone());
        };
        optimizer.step(&Step { rates, ..*at }, one, slots)
    }

    fn shrink(&self, one: &One<'_>, factor: &Array, slots: &mut Slots) -> Result<Array> {
        self.of(one).0.shrink(one, factor, slots)
    }

    fn is_never_negative(&self, one: &One<'_>, slot: &str) -> bool {
        self.of(one).0.is_never_negative(one, slot)
    }
}

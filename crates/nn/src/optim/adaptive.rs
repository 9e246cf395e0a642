//! Optimizers that divide by the size of past gradients, element by element.

use super::{One, Optimizer, Rate, Slots, Step, keep, moment, within, zeros_like};
use lazul_core::{Array, Result};

/// RMSprop: `v = alpha * v + (1 - alpha) * g²`, `w = w - rate * g / (sqrt(v) + eps)`. Source: Tieleman and
/// Hinton, 2012.
///
/// ```
/// use lazul_core::prelude::*;
/// use lazul_nn::optim::{Optimizer, RmsProp};
/// let optimizer = RmsProp { alpha: 0.75, ..RmsProp::new(0.25) };
/// let w = [("w".to_string(), Array::scalar(1.0f32))].into();
/// let mut state = optimizer.init(&w)?;
/// assert!((optimizer.apply(&mut state, &w, &w)?["w"].item::<f32>()? - 0.5).abs() < 1e-6);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct RmsProp {
    /// Learning rate.
    pub rate: Rate,
    /// Share of the moment that stays; 0.99.
    pub alpha: f64,
    /// Added to the root; 1e-8.
    pub eps: f64,
}

impl RmsProp {
    /// With a rate, and defaults for the rest.
    pub fn new(rate: impl Into<Rate>) -> RmsProp {
        RmsProp { rate: rate.into(), alpha: 0.99, eps: 1e-8 }
    }
}

impl Optimizer for RmsProp {
    fn rates(&self) -> Vec<&Rate> {
        vec![&self.rate]
    }

    fn validate(&self) -> Result<()> {
        within("RmsProp", "alpha", self.alpha, self.alpha >= 0.0)?;
        within("RmsProp", "eps", self.eps, self.eps > 0.0)
    }

    fn slots(&self, one: &One<'_>) -> Slots {
        zeros_like(one, &["v"])
    }

    fn step(&self, at: &Step<'_>, one: &One<'_>, slots: &mut Slots) -> Result<Array> {
        let rate = at.rate(one.value.dtype()?)?;
        let v = moment(slots, "v")? * self.alpha + one.gradient.square() * (1.0 - self.alpha);
        keep(slots, "v", &v);
        Ok(one.value - rate * one.gradient / (v.sqrt() + self.eps))
    }

    fn is_never_negative(&self, _: &One<'_>, slot: &str) -> bool {
        slot == "v"
    }
}

/// Adagrad: `v = v + g²`, `w = w - rate * g / (sqrt(v) + eps)`. Source: Duchi, Hazan and Singer, 2011.
///
/// ```
/// use lazul_core::prelude::*;
/// use lazul_nn::optim::{Adagrad, Optimizer};
/// let optimizer = Adagrad::new(0.25);
/// let w = [("w".to_string(), Array::scalar(1.0f32))].into();
/// let mut state = optimizer.init(&w)?;
/// assert!((optimizer.apply(&mut state, &w, &w)?["w"].item::<f32>()? - 0.75).abs() < 1e-6);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Adagrad {
    /// Learning rate.
    pub rate: Rate,
    /// Added to the root; 1e-8.
    pub eps: f64,
}

impl Adagrad {
    /// With a rate, and the default for the rest.
    pub fn new(rate: impl Into<Rate>) -> Adagrad {
        Adagrad { rate: rate.into(), eps: 1e-8 }
    }
}

impl Optimizer for Adagrad {
    fn rates(&self) -> Vec<&Rate> {
        vec![&self.rate]
    }

    fn validate(&self) -> Result<()> {
        within("Adagrad", "eps", self.eps, self.eps > 0.0)
    }

    fn slots(&self, one: &One<'_>) -> Slots {
        zeros_like(one, &["v"])
    }

    fn step(&self, at: &Step<'_>, one: &One<'_>, slots: &mut Slots) -> Result<Array> {
        let rate = at.rate(one.value.dtype()?)?;
        let v = moment(slots, "v")? + one.gradient.square();
        keep(slots, "v", &v);
        Ok(one.value - rate * one.gradient / (v.sqrt() + self.eps))
    }

    fn is_never_negative(&self, _: &One<'_>, slot: &str) -> bool {
        slot == "v"
    }
}

/// AdaDelta: gradients over the root of their mean square, times that of past steps. Source: Zeiler,
/// 2012.
///
/// ```
/// use lazul_core::prelude::*;
/// use lazul_nn::optim::{AdaDelta, Optimizer};
/// let optimizer = AdaDelta::new(1.0);
/// let w = [("w".to_string(), Array::scalar(1.0f32))].into();
/// let mut state = optimizer.init(&w)?;
/// assert!(optimizer.apply(&mut state, &w, &w)?["w"].item::<f32>()? < 1.0);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct AdaDelta {
    /// Learning rate.
    pub rate: Rate,
    /// Share of the moments that stays; 0.9.
    pub rho: f64,
    /// Added under the roots; 1e-6.
    pub eps: f64,
}

impl AdaDelta {
    /// With a rate, and defaults for the rest.
    pub fn new(rate: impl Into<Rate>) -> AdaDelta {
        AdaDelta { rate: rate.into(), rho: 0.9, eps: 1e-6 }
    }
}

impl Optimizer for AdaDelta {
    fn rates(&self) -> Vec<&Rate> {
        vec![&self.rate]
    }

    fn validate(&self) -> Result<()> {
        within("AdaDelta", "rho", self.rho, self.rho >= 0.0)?;
        within("AdaDelta", "eps", self.eps, self.eps > 0.0)
    }

    fn slots(&self, one: &One<'_>) -> Slots {
        zeros_like(one, &["v", "u"])
    }

    fn step(&self, at: &Step<'_>, one: &One<'_>, slots: &mut Slots) -> Result<Array> {
        let rate = at.rate(one.value.dtype()?)?;
        let (rho, eps) = (self.rho, self.eps);
        let (v, u) = (moment(slots, "v")?, moment(slots, "u")?);
        let v = v * rho + one.gradient.square() * (1.0 - rho);
        let d = (&u + eps).sqrt() / (&v + eps).sqrt() * one.gradient;
        keep(slots, "u", &(u * rho + d.square() * (1.0 - rho)));
        keep(slots, "v", &v);
        Ok(one.value - rate * d)
    }

    fn is_never_negative(&self, _: &One<'_>, slot: &str) -> bool {
        matches!(slot, "v" | "u")
    }
}

/// Checks of Adam and its kin.
fn adam_options(op: &'static str, betas: [f64; 2], eps: f64) -> Result<()> {
    for beta in betas {
        within(op, "beta", beta, (0.0..1.0).contains(&beta))?;
    }
    within(op, "eps", eps, eps >= 0.0)
}

/// Adam: a moment of gradients over the root of one of their squares. Source: Kingma and Ba, 2015.
///
/// As in MLX moments are not corrected for their start at zero, unless asked for.
///
/// ```
/// use lazul_core::prelude::*;
/// use lazul_nn::optim::{Adam, Optimizer};
/// let optimizer = Adam { bias_correction: true, ..Adam::new(0.25) };
/// let w = [("w".to_string(), Array::scalar(1.0f32))].into();
/// let mut state = optimizer.init(&w)?;
/// assert!((optimizer.apply(&mut state, &w, &w)?["w"].item::<f32>()? - 0.75).abs() < 1e-4);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Adam {
    /// Learning rate.
    pub rate: Rate,
    /// Shares of the two moments that stay; 0.9 and 0.999.
    pub betas: [f64; 2],
    /// Added to the root; 1e-8.
    pub eps: f64,
    /// Whether moments are divided by the weights that they have gathered; false.
    pub bias_correction: bool,
}

impl Adam {
    /// With a rate, and defaults for the rest.
    pub fn new(rate: impl Into<Rate>) -> Adam {
        Adam { rate: rate.into(), betas: [0.9, 0.999], eps: 1e-8, bias_correction: false }
    }
}

impl Optimizer for Adam {
    fn rates(&self) -> Vec<&Rate> {
        vec![&self.rate]
    }

    fn validate(&self) -> Result<()> {
        adam_options("Adam", self.betas, self.eps)
    }

    fn slots(&self, one: &One<'_>) -> Slots {
        zeros_like(one, &["m", "v"])
    }

    fn step(&self, at: &Step<'_>, one: &One<'_>, slots: &mut Slots) -> Result<Array> {
        let dtype = one.value.dtype()?;
        let rate = at.rate(dtype)?;
        let [b1, b2] = self.betas;
        let m = moment(slots, "m")? * b1 + one.gradient * (1.0 - b1);
        let v = moment(slots, "v")? * b2 + one.gradient.square() * (1.0 - b2);
        keep(slots, "m", &m);
        keep(slots, "v", &v);
        if !self.bias_correction {
            return Ok(one.value - rate * m / (v.sqrt() + self.eps));
        }
        let gathered = |beta: f64| {
            let step = at.number.astype(dtype);
            -Array::scalar(beta).astype(dtype).power(step) + 1.0
        };
        let (rate, scale) = (rate / gathered(b1), gathered(b2).rsqrt());
        Ok(one.value - rate * m / (v.sqrt() * scale + self.eps))
    }

    fn is_never_negative(&self, _: &One<'_>, slot: &str) -> bool {
        slot == "v"
    }
}

/// Adam with decay of the parameters themselves: each step begins with `w = w * (1 - rate *
/// weight_decay)`. Source: Loshchilov and Hutter, 2019.
///
/// ```
/// use lazul_core::prelude::*;
/// use lazul_nn::optim::{Adam, AdamW, Optimizer};
/// let optimizer = AdamW { weight_decay: 0.5, ..AdamW::new(0.25) };
/// let w = [("w".to_string(), Array::scalar(1.0f32))].into();
/// let none = [("w".to_string(), Array::scalar(0.0f32))].into();
/// let mut state = optimizer.init(&w)?;
/// assert_eq!(optimizer.apply(&mut state, &none, &w)?["w"].item::<f32>()?, 0.875);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct AdamW {
    /// The rule within.
    pub adam: Adam,
    /// Times the rate, the share of a parameter that goes away; 0.01.
    pub weight_decay: f64,
}

impl AdamW {
    /// With a rate, and defaults for the rest.
    pub fn new(rate: impl Into<Rate>) -> AdamW {
        AdamW { adam: Adam::new(rate), weight_decay: 0.01 }
    }
}

impl Optimizer for AdamW {
    fn rates(&self) -> Vec<&Rate> {
        self.adam.rates()
    }

    fn validate(&self) -> Result<()> {
        adam_options("AdamW", self.adam.betas, self.adam.eps)?;
        within("AdamW", "weight_decay", self.weight_decay, true)
    }

    fn slots(&self, one: &One<'_>) -> Slots {
        self.adam.slots(one)
    }

    fn step(&self, at: &Step<'_>, one: &One<'_>, slots: &mut Slots) -> Result<Array> {
        let rate = at.rate(one.value.dtype()?)?;
        let value = &(one.value * (-(rate * self.weight_decay) + 1.0));
        self.adam.step(at, &One { value, ..*one }, slots)
    }

    fn is_never_negative(&self, _: &One<'_>, slot: &str) -> bool {
        slot == "v"
    }
}

/// Adam with the largest past gradient instead of a root. Source: Kingma and Ba, 2015.
///
/// ```
/// use lazul_core::prelude::*;
/// use lazul_nn::optim::{Adamax, Optimizer};
/// let optimizer = Adamax { betas: [0.5, 0.999], ..Adamax::new(0.5) };
/// let w = [("w".to_string(), Array::scalar(1.0f32))].into();
/// let mut state = optimizer.init(&w)?;
/// assert!((optimizer.apply(&mut state, &w, &w)?["w"].item::<f32>()? - 0.75).abs() < 1e-6);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Adamax {
    /// Learning rate.
    pub rate: Rate,
    /// Share of the moment that stays, and of the largest gradient; 0.9 and 0.999.
    pub betas: [f64; 2],
    /// Added to the largest gradient; 1e-8.
    pub eps: f64,
}

impl Adamax {
    /// With a rate, and defaults for the rest.
    pub fn new(rate: impl Into<Rate>) -> Adamax {
        Adamax { rate: rate.into(), betas: [0.9, 0.999], eps: 1e-8 }
    }
}

impl Optimizer for Adamax {
    fn rates(&self) -> Vec<&Rate> {
        vec![&self.rate]
    }

    fn validate(&self) -> Result<()> {
        adam_options("Adamax", self.betas, self.eps)?;
        within("Adamax", "eps", self.eps, self.eps >= 0.0)
    }

    fn slots(&self, one: &One<'_>) -> Slots {
        zeros_like(one, &["m", "v"])
    }

    fn step(&self, at: &Step<'_>, one: &One<'_>, slots: &mut Slots) -> Result<Array> {
        let rate = at.rate(one.value.dtype()?)?;
        let [b1, b2] = self.betas;
        let m = moment(slots, "m")? * b1 + one.gradient * (1.0 - b1);
        let v = (moment(slots, "v")? * b2).maximum(one.gradient.abs());
        keep(slots, "m", &m);
        keep(slots, "v", &v);
        Ok(one.value - rate * m / (v + self.eps))
    }

    fn is_never_negative(&self, _: &One<'_>, slot: &str) -> bool {
        slot == "v"
    }
}

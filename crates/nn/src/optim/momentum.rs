//! Optimizers with one moment or none: SGD, Lion, Muon.

use super::{One, Optimizer, Rate, Slots, Step, keep, moment, refuse, within, zeros_like};
use lazul_core::{Array, Result};

/// Stochastic gradient descent: `v = momentum * v + (1 - dampening) * g`, `w = w - rate * v`.
///
/// ```
/// use lazul_core::prelude::*;
/// use lazul_nn::optim::{Optimizer, Sgd};
/// let optimizer = Sgd { momentum: 0.5, ..Sgd::new(0.1) };
/// let w = [("w".to_string(), Array::scalar(1.0f32))].into();
/// let mut state = optimizer.init(&w)?;
/// let w = optimizer.apply(&mut state, &w, &w)?; // the gradient of w² / 2 is w
/// assert_eq!(w["w"].item::<f32>()?, 0.9);
/// assert_eq!(state.slots["w"]["v"].item::<f32>()?, 1.0);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Sgd {
    /// Learning rate.
    pub rate: Rate,
    /// Share of the moment that stays; 0.
    pub momentum: f64,
    /// Times the parameter is added to its gradient; 0.
    pub weight_decay: f64,
    /// Share of the gradient that the moment does not take; 0.
    pub dampening: f64,
    /// Whether the gradient is looked at after the moment's step; false. Needs momentum and no dampening.
    pub nesterov: bool,
}

impl Sgd {
    /// With a rate, and defaults for the rest.
    pub fn new(rate: impl Into<Rate>) -> Sgd {
        let rate = rate.into();
        Sgd { rate, momentum: 0.0, weight_decay: 0.0, dampening: 0.0, nesterov: false }
    }
}

impl Optimizer for Sgd {
    fn rates(&self) -> Vec<&Rate> {
        vec![&self.rate]
    }

    fn validate(&self) -> Result<()> {
        if self.nesterov && (self.momentum <= 0.0 || self.dampening != 0.0) {
            return refuse("Sgd", "Nesterov's momentum needs momentum, and no dampening");
        }
        within("Sgd", "momentum", self.momentum, self.momentum >= 0.0)?;
        within("Sgd", "dampening", self.dampening, true)?;
        within("Sgd", "weight_decay", self.weight_decay, true)
    }

    fn slots(&self, one: &One<'_>) -> Slots {
        zeros_like(one, if self.momentum > 0.0 { &["v"] } else { &[] })
    }

    fn step(&self, at: &Step<'_>, one: &One<'_>, slots: &mut Slots) -> Result<Array> {
        let rate = at.rate(one.value.dtype()?)?;
        let g = match self.weight_decay {
            0.0 => one.gradient.clone(),
            decay => one.gradient + one.value * decay,
        };
        if self.momentum <= 0.0 {
            return Ok(one.value - rate * g);
        }
        let v = moment(slots, "v")? * self.momentum + &g * (1.0 - self.dampening);
        keep(slots, "v", &v);
        let along = if self.nesterov { g + v * self.momentum } else { v };
        Ok(one.value - rate * along)
    }
}

/// Lion: along the sign of a moment. Source: Chen et al., 2023.
///
/// ```
/// use lazul_core::prelude::*;
/// use lazul_nn::optim::{Lion, Optimizer};
/// let optimizer = Lion::new(0.25);
/// let w = [("w".to_string(), Array::scalar(1.0f32))].into();
/// let mut state = optimizer.init(&w)?;
/// assert_eq!(optimizer.apply(&mut state, &w, &w)?["w"].item::<f32>()?, 0.75);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Lion {
    /// Learning rate.
    pub rate: Rate,
    /// Share of the moment in the step, and the share that stays; 0.9 and 0.99.
    pub betas: [f64; 2],
    /// Times the rate, the share of a parameter that goes away; 0.
    pub weight_decay: f64,
}

impl Lion {
    /// With a rate, and defaults for the rest.
    pub fn new(rate: impl Into<Rate>) -> Lion {
        Lion { rate: rate.into(), betas: [0.9, 0.99], weight_decay: 0.0 }
    }
}

impl Optimizer for Lion {
    fn rates(&self) -> Vec<&Rate> {
        vec![&self.rate]
    }

    fn validate(&self) -> Result<()> {
        for beta in self.betas {
            within("Lion", "beta", beta, (0.0..1.0).contains(&beta))?;
        }
        within("Lion", "weight_decay", self.weight_decay, true)
    }

    fn slots(&self, one: &One<'_>) -> Slots {
        zeros_like(one, &["m"])
    }

    fn step(&self, at: &Step<'_>, one: &One<'_>, slots: &mut Slots) -> Result<Array> {
        let rate = at.rate(one.value.dtype()?)?;
        let [b1, b2] = self.betas;
        let m = moment(slots, "m")?;
        let along = (&m * b1 + one.gradient * (1.0 - b1)).sign();
        keep(slots, "m", &(m * b2 + one.gradient * (1.0 - b2)));
        let value = match self.weight_decay {
            0.0 => one.value.clone(),
            decay => one.value - one.value * (&rate * decay),
        };
        Ok(value - rate * along)
    }
}

/// Muon: a moment made orthogonal by Newton-Schulz iterations. Axes after the first are one; vectors and
/// scalars follow the moment itself, and are better left to another optimizer
/// ([`MultiOptimizer`](super::MultiOptimizer)). Source: Jordan et al., 2024.
///
/// ```
/// use lazul_core::prelude::*;
/// use lazul_nn::optim::{Muon, Optimizer};
/// let optimizer = Muon { weight_decay: 0.0, ..Muon::new(0.1) };
/// let w = [("w".to_string(), eye(2, 2, 0, DType::F32))].into();
/// let mut state = optimizer.init(&w)?;
/// let moved = optimizer.apply(&mut state, &w, &w)?["w"].to_vec::<f32>()?;
/// assert!((moved[0] - 0.9).abs() < 0.05 && moved[1].abs() < 1e-6);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Muon {
    /// Learning rate.
    pub rate: Rate,
    /// Share of the moment that stays; 0.95.
    pub momentum: f64,
    /// Times the parameter is added to its gradient; 0.01.
    pub weight_decay: f64,
    /// Whether the gradient is looked at after the moment's step; true.
    pub nesterov: bool,
    /// Number of iterations; 5.
    pub ns_steps: usize,
}

impl Muon {
    /// With a rate, and defaults for the rest.
    pub fn new(rate: impl Into<Rate>) -> Muon {
        let rate = rate.into();
        Muon { rate, momentum: 0.95, weight_decay: 0.01, nesterov: true, ns_steps: 5 }
    }
}

/// A matrix with about the same singular vectors, and singular values about 1.
fn orthogonalised(x: &Array, steps: usize) -> Result<Array> {
    let [rows, columns] = x.dims()?;
    let tall = rows > columns;
    let x = if tall { x.t() } else { x.clone() };
    let mut x = &x / (x.square().sum(..).sqrt() + 1e-7);
    for _ in 0..steps {
        let a = x.matmul(&x.t());
        let b = &a * -4.775 + a.matmul(&a) * 2.0315;
        x = &x * 3.4445 + b.matmul(&x);
    }
    Ok(if tall { x.t() } else { x })
}

impl Optimizer for Muon {
    fn rates(&self) -> Vec<&Rate> {
        vec![&self.rate]
    }

    fn validate(&self) -> Result<()> {
        within("Muon", "momentum", self.momentum, (0.0..1.0).contains(&self.momentum))?;
        within("Muon", "weight_decay", self.weight_decay, true)
    }

    fn slots(&self, one: &One<'_>) -> Slots {
        zeros_like(one, &["v"])
    }

    fn step(&self, at: &Step<'_>, one: &One<'_>, slots: &mut Slots) -> Result<Array> {
        let mut rate = at.rate(one.value.dtype()?)?;
        let g = match self.weight_decay {
            0.0 => one.gradient.clone(),
            decay => one.gradient + one.value * decay,
        };
        let rest = 1.0 - self.momentum;
        let v = moment(slots, "v")? * self.momentum + &g * rest;
        keep(slots, "v", &v);
        let mut along = if self.nesterov { g * rest + v * self.momentum } else { v };
        let shape = one.value.shape()?;
        if let &[first, .., last] = shape
            && one.value.size()? > 0
        {
            along = orthogonalised(&along.reshape([first as i64, -1]), self.ns_steps)?;
            along = along.reshape(shape);
            let ratio = shape[shape.len() - 2] as f64 / last as f64;
            rate *= ratio.max(1.0).sqrt();
        }
        Ok(one.value - rate * along)
    }
}

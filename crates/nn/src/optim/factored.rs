//! Adafactor: second moments of matrices kept as row and column means.

use super::{One, Optimizer, Rate, Slots, Step, keep, moment, refuse, within};
use lazul_core::{Array, DType, Result, zeros};

/// Adafactor. Source: Shazeer and Stern, 2018.
///
/// ```
/// use lazul_core::prelude::*;
/// use lazul_nn::optim::{Adafactor, Optimizer};
/// let optimizer = Adafactor::default();
/// let w = [("w".to_string(), ones([2, 3], DType::F32))].into();
/// let mut state = optimizer.init(&w)?;
/// // A relative step of 0.01.
/// let moved = optimizer.apply(&mut state, &w, &w)?;
/// assert!((moved["w"].max(..).item::<f32>()? - 0.99).abs() < 1e-5);
/// assert_eq!(state.slots["w"]["exp_avg_sq_row"].shape()?, &[2]);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Adafactor {
    /// Learning rate; none. Needed without `relative_step` only.
    pub rate: Option<Rate>,
    /// Added to squares of gradients, and the least scale of a parameter; 1e-30 and 1e-3.
    pub eps: [f64; 2],
    /// Greatest root mean square of a step before scaling; 1.
    pub clip_threshold: f64,
    /// The second moment keeps `1 - step^decay_rate`; -0.8.
    pub decay_rate: f64,
    /// Share of a first moment that stays, if there is one; none.
    pub beta_1: Option<f64>,
    /// Times the rate, the share of a parameter that goes away; 0.
    pub weight_decay: f64,
    /// Whether rates are relative to the parameter's root mean square; true.
    pub scale_parameter: bool,
    /// Whether the rate is `min(0.01, 1 / sqrt(step))`; true.
    pub relative_step: bool,
    /// Whether it is `min(1e-6 * step, 1 / sqrt(step))`; false.
    pub warmup_init: bool,
}

impl Default for Adafactor {
    fn default() -> Adafactor {
        Adafactor {
            rate: None,
            eps: [1e-30, 1e-3],
            clip_threshold: 1.0,
            decay_rate: -0.8,
            beta_1: None,
            weight_decay: 0.0,
            scale_parameter: true,
            relative_step: true,
            warmup_init: false,
        }
    }
}

/// Root mean square of all elements.
fn rms(x: &Array) -> Array {
    x.square().mean(..).sqrt()
}

impl Adafactor {
    fn rate(&self, at: &Step<'_>, value: &Array, dtype: DType) -> Result<Array> {
        let rate = if self.relative_step {
            let step = at.number;
            let least = if self.warmup_init { step * 1e-6 } else { step.full_like(1e-2) };
            least.minimum(step.rsqrt()).astype(dtype)
        } else {
            at.rate(dtype)?
        };
        Ok(if self.scale_parameter { rms(value).maximum(self.eps[1]) * rate } else { rate })
    }
}

impl Optimizer for Adafactor {
    fn rates(&self) -> Vec<&Rate> {
        self.rate.iter().collect()
    }

    fn validate(&self) -> Result<()> {
        const OP: &str = "Adafactor";
        if !self.relative_step && self.rate.is_none() {
            return refuse(OP, "needs a learning rate where steps are not relative");
        }
        if let Some(beta) = self.beta_1 {
            within(OP, "beta_1", beta, (0.0..1.0).contains(&beta))?;
        }
        within(OP, "clip_threshold", self.clip_threshold, self.clip_threshold > 0.0)?;
        within(OP, "decay_rate", self.decay_rate, self.decay_rate <= 0.0)?;
        within(OP, "weight_decay", self.weight_decay, true)
    }

    fn is_never_negative(&self, _: &One<'_>, slot: &str) -> bool {
        slot.starts_with("exp_avg_sq")
    }

    fn slots(&self, one: &One<'_>) -> Slots {
        let mut slots = Slots::new();
        // A failed array is reported by the step.
        let (Ok(shape), Ok(dtype)) = (one.value.shape(), one.value.dtype()) else { return slots };
        if let [lead @ .., rows, columns] = shape {
            let row = [lead, &[*rows]].concat();
            let column = [lead, &[*columns]].concat();
            keep(&mut slots, "exp_avg_sq_row", &zeros(row, dtype));
            keep(&mut slots, "exp_avg_sq_col", &zeros(column, dtype));
        } else {
            keep(&mut slots, "exp_avg_sq", &one.value.zeros_like());
        }
        if self.beta_1.is_some() {
            keep(&mut slots, "exp_avg", &one.value.zeros_like());
        }
        slots
    }

    fn step(&self, at: &Step<'_>, one: &One<'_>, slots: &mut Slots) -> Result<Array> {
        let dtype = one.value.dtype()?;
        let rate = self.rate(at, one.value, dtype)?;
        // What the moment takes of a new square.
        let taken = at.number.astype(dtype).power(self.decay_rate);
        let kept = -&taken + 1.0;
        let squares = one.gradient.square() + self.eps[0];
        let moved = |slots: &Slots, name: &str, new: Array| -> Result<Array> {
            Ok(moment(slots, name)? * &kept + new * &taken)
        };
        let mut along = if one.value.ndim()? >= 2 {
            let row = moved(slots, "exp_avg_sq_row", squares.mean(-1))?;
            let column = moved(slots, "exp_avg_sq_col", squares.mean(-2))?;
            keep(slots, "exp_avg_sq_row", &row);
            keep(slots, "exp_avg_sq_col", &column);
            let row = (&row / row.mean_keepdims(-1)).rsqrt().expand_dims(-1);
            row * column.rsqrt().expand_dims(-2) * one.gradient
        } else {
            let all = moved(slots, "exp_avg_sq", squares)?;
            keep(slots, "exp_avg_sq", &all);
            all.rsqrt() * one.gradient
        };
        along = &along / (rms(&along) / self.clip_threshold).maximum(1) * &rate;
        if let Some(beta) = self.beta_1 {
            along = moment(slots, "exp_avg")? * beta + along * (1.0 - beta);
            keep(slots, "exp_avg", &along);
        }
        let value = match self.weight_decay {
            0.0 => one.value.clone(),
            decay => one.value - one.value * (rate * decay),
        };
        Ok(value - along)
    }
}

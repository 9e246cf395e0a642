//! From logits to the next token: penalties, filters, and the draw, in MLX's order.
//!
//! Penalties work on logits. Then, on log-probabilities without temperature: top-p, min-p, XTC,
//! top-k; then a draw at the temperature, or the likeliest token where the temperature is zero.
//! Everything is array operations, so the next step can start before the token is read.

use crate::error::{Error, Result};
use lazul_core::{Array, DType, Scan, random, where_};

/// How tokens are chosen.
#[derive(Debug, Clone, PartialEq)]
pub struct Sampling {
    /// 0 takes the likeliest token; higher is more varied.
    pub temp: f32,
    /// Keeps the likeliest tokens whose probabilities reach this sum; 0 and 1 keep all.
    pub top_p: f32,
    /// Keeps tokens at least this likely, as a fraction of the likeliest; 0 keeps all.
    pub min_p: f32,
    /// Tokens that min-p keeps at least.
    pub min_tokens_to_keep: usize,
    /// Keeps so many of the likeliest tokens; 0 keeps all.
    pub top_k: usize,
    /// Probability that XTC applies to a token.
    pub xtc_probability: f32,
    /// XTC drops tokens likelier than this, except the least likely of them; at most 0.5.
    pub xtc_threshold: f32,
    /// Tokens that XTC never drops.
    pub xtc_special_tokens: Vec<u32>,
    /// Divides positive logits of recent tokens and multiplies negative ones; 1 changes nothing.
    pub repetition_penalty: f32,
    /// How many tokens back count as recent.
    pub repetition_context_size: usize,
    /// Seed of the draws; `None` takes one from the clock.
    pub seed: Option<u64>,
}

impl Default for Sampling {
    fn default() -> Sampling {
        Sampling {
            temp: 0.0,
            top_p: 0.0,
            min_p: 0.0,
            min_tokens_to_keep: 1,
            top_k: 0,
            xtc_probability: 0.0,
            xtc_threshold: 0.0,
            xtc_special_tokens: Vec::new(),
            repetition_penalty: 1.0,
            repetition_context_size: 20,
            seed: None,
        }
    }
}

impl Sampling {
    /// Checks the ranges.
    ///
    /// # Errors
    /// If a number is outside its range or not finite.
    pub fn check(&self) -> Result<()> {
        let within = |name: &str, x: f32, low: f32, high: f32| {
            if (low..=high).contains(&x) {
                return Ok(());
            }
            Err(Error::Argument(format!("{name} must be from {low} to {high}, is {x}")))
        };
        within("temp", self.temp, 0.0, 1e4)?;
        within("top_p", self.top_p, 0.0, 1.0)?;
        within("min_p", self.min_p, 0.0, 1.0)?;
        within("xtc_probability", self.xtc_probability, 0.0, 1.0)?;
        within("xtc_threshold", self.xtc_threshold, 0.0, 0.5)?;
        within("repetition_penalty", self.repetition_penalty, 1e-3, 1e3)
    }
}

/// Chooses tokens for one sequence.
#[derive(Debug)]
pub struct Sampler {
    how: Sampling,
    key: Array,
}

impl Sampler {
    /// A sampler.
    ///
    /// # Errors
    /// As [`Sampling::check`].
    pub fn new(how: Sampling) -> Result<Sampler> {
        how.check()?;
        let clock = || {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
            now.map_or(0, |t| t.as_nanos() as u64)
        };
        let key = random::key(how.seed.unwrap_or_else(clock));
        Ok(Sampler { how, key })
    }

    /// The next token, u32 `(1,)`, lazily: from logits `(vocabulary,)` and the sequence so far
    /// (`recent`, integers `(n,)`; only its end matters).
    ///
    /// # Errors
    /// If an argument is a failed array.
    pub fn sample(&mut self, logits: &Array, recent: Option<&Array>) -> Result<Array> {
        let mut logits = logits.astype(DType::F32);
        if let Some(recent) = recent
            && self.how.repetition_penalty != 1.0
        {
            let n = recent.dim(0)?.saturating_sub(self.how.repetition_context_size) as i64;
            let recent = recent.slice_axis(0, n, None);
            logits = repetition_penalty(&logits, &recent, self.how.repetition_penalty);
        }
        if self.how.temp == 0.0 {
            return Ok(logits.argmax(-1).reshape([1]));
        }
        let mut logprobs = &logits - logits.logsumexp(-1);
        if self.how.top_p > 0.0 && self.how.top_p < 1.0 {
            logprobs = top_p(&logprobs, self.how.top_p);
        }
        if self.how.min_p > 0.0 {
            logprobs = min_p(&logprobs, self.how.min_p, self.how.min_tokens_to_keep)?;
        }
        if self.how.xtc_probability > 0.0 {
            let dropped = xtc(&logprobs, self.how.xtc_threshold, &self.how.xtc_special_tokens);
            let u = random::uniform(0.0, 1.0, (), DType::F32, Some(&self.next_key()?));
            logprobs = where_(u.greater(self.how.xtc_probability), logprobs, dropped);
        }
        if self.how.top_k > 0 {
            logprobs = top_k(&logprobs, self.how.top_k)?;
        }
        let key = self.next_key()?;
        Ok(random::categorical(&(logprobs / self.how.temp), -1, Some(1), Some(&key)))
    }

    /// A fresh key, as MLX's generator would give it for the same seed.
    fn next_key(&mut self) -> Result<Array> {
        let both = random::split(&self.key, 2);
        self.key = both.at_index(0, 0);
        // Computed at once: the state must not become a graph of all draws so far.
        self.key.eval()?;
        Ok(both.at_index(0, 1))
    }

    /// How many of the last tokens [`Sampler::sample`] wants to see.
    pub fn context(&self) -> usize {
        if self.how.repetition_penalty == 1.0 { 0 } else { self.how.repetition_context_size }
    }
}

/// Logits `(vocabulary,)` with those of `recent` tokens moved away from being chosen.
pub fn repetition_penalty(logits: &Array, recent: &Array, penalty: f32) -> Array {
    let chosen = logits.take(recent, 0);
    let moved = where_(chosen.less(0.0), &chosen * penalty, &chosen / penalty);
    logits.put_along_axis(recent, moved, 0)
}

/// Keeps the likeliest tokens whose probabilities together reach `p`, and those as likely as the last
/// of them. Source: Holtzman et al., 2019.
pub fn top_p(logprobs: &Array, p: f32) -> Array {
    let sorted = logprobs.sort(-1); // least likely first
    let below = sorted.exp().cumsum(-1, Scan::default());
    let edge = where_(below.greater(1.0 - p), &sorted, f32::INFINITY).min(-1);
    where_(logprobs.greater_equal(edge), logprobs, f32::NEG_INFINITY)
}

/// Keeps tokens at least `p` times as likely as the likeliest, and `least` tokens in any case.
/// Source: Nguyen et al., 2024.
///
/// # Errors
/// If the argument is a failed array.
pub fn min_p(logprobs: &Array, p: f32, least: usize) -> Result<Array> {
    let bound = logprobs.max(-1) + p.ln();
    let mut keep = logprobs.greater_equal(&bound);
    if least > 1 {
        let n = logprobs.dim(-1)?;
        let top = logprobs.topk(least.min(n), -1).slice_axis(-1, 0, 1);
        keep = keep.logical_or(logprobs.greater_equal(top));
    }
    Ok(where_(keep, logprobs, f32::NEG_INFINITY))
}

/// Keeps the `k` likeliest tokens; of equally likely ones at the edge, those of lower number.
///
/// # Errors
/// If the argument is a failed array.
pub fn top_k(logprobs: &Array, k: usize) -> Result<Array> {
    let n = logprobs.dim(-1)?;
    if k >= n {
        return Ok(logprobs.clone());
    }
    let order = logprobs.negative().argsort(-1);
    let dropped = order.slice_axis(-1, k as i64, None);
    Ok(logprobs.put_along_axis(&dropped, f32::NEG_INFINITY, -1))
}

/// Drops all tokens likelier than `threshold` but the least likely of them; `special` ones stay.
pub fn xtc(logprobs: &Array, threshold: f32, special: &[u32]) -> Array {
    let p = logprobs.softmax(-1);
    let likely = p.greater(threshold);
    let edge = where_(&likely, &p, f32::INFINITY).min(-1);
    let mut drop = p.greater(edge);
    if !special.is_empty() {
        drop = drop.put_along_axis(&Array::from_slice(special, [special.len()]), false, -1);
    }
    where_(drop, f32::NEG_INFINITY, logprobs)
}

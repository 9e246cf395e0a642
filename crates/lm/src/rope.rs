//! The frequencies of rotary embeddings, with every scaling that Llama-family configurations name.
//!
//! A scaling changes the inverse frequencies of the pairs once (`linear`, `llama3`, `yarn`), or with
//! the length of the sequence (`dynamic`, `longrope`); yarn and longrope also sharpen attention.
//! Formulas: Chen et al. 2023 (linear), Peng et al. 2023 (yarn), Ding et al. 2024 (longrope),
//! Llama 3.1's model card (llama3).

use crate::config::Fields;
use crate::error::{Error, Result};
use lazul_core::{Array, fast};
use serde_json::Value;
use std::f64::consts::PI;

/// A rotary embedding of whole heads.
#[derive(Clone)]
pub struct Rope {
    dims: usize,
    traditional: bool,
    base: f64,
    scaling: Scaling,
    /// Frequencies that do not depend on length, worked out once.
    fixed: fast::Rope,
    /// Multiplies attention scores, for scalings that ask for it.
    pub score_scale: f64,
}

/// Without the frequencies, which follow from the rest: the text tells embeddings apart in the structure of a
/// model, and is made at every call of a compiled function.
impl std::fmt::Debug for Rope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Rope { dims, traditional, base, scaling, fixed: _, score_scale } = self;
        f.debug_struct("Rope")
            .field("dims", dims)
            .field("traditional", traditional)
            .field("base", base)
            .field("scaling", scaling)
            .field("score_scale", score_scale)
            .finish()
    }
}

#[derive(Debug, Clone)]
enum Scaling {
    None,
    Linear {
        factor: f64,
    },
    Dynamic {
        factor: f64,
        longest: usize,
    },
    Llama3 {
        factor: f64,
        low: f64,
        high: f64,
        original: f64,
    },
    Yarn {
        factor: f64,
        fast: f64,
        slow: f64,
        original: f64,
        truncate: bool,
    },
    Long {
        short: Vec<f64>,
        long: Vec<f64>,
        original: usize,
    },
    /// What each pair's wavelength is multiplied by.
    Factors(Vec<f64>),
}

impl Rope {
    /// The embedding that a model's configuration asks for: `rope_theta`, and `rope_scaling` or
    /// `rope_parameters`.
    ///
    /// # Errors
    /// If a value makes no sense, or the scaling is not one of those that are known.
    pub fn from_config(config: &Value, dims: usize) -> Result<Rope> {
        let top = Fields::new(config, "");
        let longest = top.count("max_position_embeddings", 1)?.unwrap_or(2048);
        let block = top.get("rope_parameters").or_else(|| top.get("rope_scaling"));
        let empty = Value::Null;
        let scaling = Fields::new(block.unwrap_or(&empty), "rope_scaling.");
        let theta = top.positive("rope_theta", 10_000.0)?;
        let base = scaling.positive("rope_theta", theta)?;
        let kind = match scaling.text("rope_type")? {
            Some(kind) => kind,
            None => scaling.text("type")?.unwrap_or("default"),
        };
        let factor = || scaling.positive("factor", 1.0);
        let original = || -> Result<usize> {
            let own = scaling.count("original_max_position_embeddings", 1)?;
            let outer = top.count("original_max_position_embeddings", 1)?;
            Ok(own.or(outer).unwrap_or(longest))
        };
        let mut score_scale = 1.0;
        let scaling = match kind {
            "default" | "mrope" => Scaling::None,
            "linear" => Scaling::Linear { factor: factor()? },
            "dynamic" | "yarn" if dims <= 2 || base <= 1.0 => {
                let why =
                    format!("rope_scaling {kind} needs heads of more than 2 and a base above 1");
                return Err(Error::Config(why));
            }
            "dynamic" => Scaling::Dynamic { factor: factor()?, longest: original()? },
            "llama3" => {
                let low = scaling.positive("low_freq_factor", 1.0)?;
                let high = scaling.positive("high_freq_factor", 4.0)?;
                if high <= low {
                    let why = "rope_scaling.high_freq_factor must be above low_freq_factor";
                    return Err(Error::Config(why.to_string()));
                }
                let original = original()? as f64;
                Scaling::Llama3 { factor: factor()?, low, high, original }
            }
            "yarn" => {
                let factor = match scaling.get("factor") {
                    Some(_) => factor()?,
                    None => longest as f64 / original()? as f64,
                };
                let sharpen = |mscale: f64| match factor > 1.0 {
                    true => 0.1 * mscale * factor.ln() + 1.0,
                    false => 1.0,
                };
                let one = scaling.float("mscale", 0.0)?;
                let all = scaling.float("mscale_all_dim", 0.0)?;
                let natural = if one != 0.0 && all != 0.0 {
                    sharpen(one) / sharpen(all)
                } else {
                    sharpen(1.0)
                };
                // Queries and keys are both multiplied, so scores are twice.
                score_scale = scaling.positive("attention_factor", natural)?.powi(2);
                Scaling::Yarn {
                    factor,
                    fast: scaling.positive("beta_fast", 32.0)?,
                    slow: scaling.positive("beta_slow", 1.0)?,
                    original: original()? as f64,
                    truncate: scaling.flag("truncate", true)?,
                }
            }
            "longrope" | "su" => {
                let original = original()?;
                let read = |key: &str| -> Result<Vec<f64>> {
                    let list = scaling.floats(key)?.unwrap_or_default();
                    let sane = list.len() == dims / 2 && list.iter().all(|&x| x > 0.0);
                    let why = format!("rope_scaling.{key} needs {} factors above zero", dims / 2);
                    if sane { Ok(list) } else { Err(Error::Config(why)) }
                };
                let factor = scaling.positive("factor", longest as f64 / original as f64)?;
                let natural = match factor > 1.0 && original > 1 {
                    true => (1.0 + factor.ln() / (original as f64).ln()).sqrt(),
                    false => 1.0,
                };
                score_scale = scaling.positive("attention_factor", natural)?.powi(2);
                Scaling::Long { short: read("short_factor")?, long: read("long_factor")?, original }
            }
            // The form in which GGUF files have `llama3`: worked out.
            "factors" => {
                let list = scaling.floats("factors")?.unwrap_or_default();
                if list.len() != dims / 2 || !list.iter().all(|&x| x > 0.0) {
                    let why = format!("rope_scaling.factors needs {} factors above zero", dims / 2);
                    return Err(Error::Config(why));
                }
                Scaling::Factors(list)
            }
            other => {
                return Err(Error::Config(format!("rope_scaling of type {other:?} is not known")));
            }
        };
        let traditional = top.flag("rope_traditional", false)?;
        let mut rope =
            Rope { dims, traditional, base, scaling, fixed: fast::Rope::default(), score_scale };
        rope.fixed = rope.at_length(0);
        Ok(rope)
    }

    /// The frequencies for sequences of `length` tokens.
    fn at_length(&self, length: usize) -> fast::Rope {
        let plain = fast::Rope {
            dims: self.dims,
            traditional: self.traditional,
            base: self.base as f32,
            ..Default::default()
        };
        let n = self.dims as f64;
        let with = |wavelengths: Vec<f64>| {
            let values: Vec<f32> = wavelengths.iter().map(|&w| w as f32).collect();
            let freqs = Some(Array::from_slice(&values, [values.len()]));
            fast::Rope { freqs, ..plain.clone() }
        };
        // base^(2j/dims): a pair's wavelength over 2π.
        let wave = |base: f64| (0..self.dims / 2).map(move |j| base.powf(2.0 * j as f64 / n));
        match &self.scaling {
            Scaling::None => plain,
            Scaling::Linear { factor } => fast::Rope { scale: (1.0 / factor) as f32, ..plain },
            Scaling::Dynamic { factor, longest } => {
                if length <= *longest {
                    return plain;
                }
                let stretch = factor * length as f64 / *longest as f64 - (factor - 1.0);
                with(wave(self.base * stretch.powf(n / (n - 2.0))).collect())
            }
            Scaling::Llama3 { factor, low, high, original } => with(
                wave(self.base)
                    .map(|w| {
                        let wavelength = 2.0 * PI * w;
                        if wavelength < original / high {
                            w
                        } else if wavelength > original / low {
                            w * factor
                        } else {
                            let smooth = (original / wavelength - low) / (high - low);
                            1.0 / ((1.0 - smooth) / (factor * w) + smooth / w)
                        }
                    })
                    .collect(),
            ),
            Scaling::Yarn { factor, fast, slow, original, truncate } => {
                let dim_of =
                    |turns: f64| n * (original / (turns * 2.0 * PI)).ln() / (2.0 * self.base.ln());
                let (mut low, mut high) = (dim_of(*fast), dim_of(*slow));
                if *truncate {
                    (low, high) = (low.floor(), high.ceil());
                }
                let (low, mut high) = (low.max(0.0), high.min(n - 1.0));
                if low == high {
                    high += 0.001;
                }
                with(
                    wave(self.base)
                        .enumerate()
                        .map(|(j, w)| {
                            let ramp = ((j as f64 - low) / (high - low)).clamp(0.0, 1.0);
                            1.0 / (ramp / (factor * w) + (1.0 - ramp) / w)
                        })
                        .collect(),
                )
            }
            Scaling::Factors(factors) => {
                with(wave(self.base).zip(factors).map(|(w, f)| w * f).collect())
            }
            Scaling::Long { short, long, original } => {
                let factors = if length > *original { long } else { short };
                with(wave(self.base).zip(factors).map(|(w, f)| w * f).collect())
            }
        }
    }

    /// `x (b, h, t, d)` turned for positions `offset ..`.
    pub fn forward(&self, x: &Array, offset: usize) -> lazul_core::Result<Array> {
        let start = Array::scalar(i32::try_from(offset).unwrap_or(i32::MAX));
        let by_length = matches!(self.scaling, Scaling::Dynamic { .. } | Scaling::Long { .. });
        Ok(if by_length {
            let length = offset + x.dim(-2)?;
            fast::rope(x, &self.at_length(length), &start)
        } else {
            fast::rope(x, &self.fixed, &start)
        })
    }
}

//! The optimizer and the learning rate that options name.

use super::config::{TuneConfig, bad, known, named};
use crate::config::Fields;
use crate::error::Result;
use lazul_nn::optim::{
    Adafactor, Adam, AdamW, Muon, Optimizer, Rate, Schedule, Sgd, cosine_decay, exponential_decay,
    join_schedules, linear_schedule, step_decay,
};
use serde_json::{Value, json};

impl TuneConfig {
    /// The learning rate or its schedule.
    ///
    /// # Errors
    /// If the schedule is not known, or its arguments make no sense.
    pub fn rate(&self) -> Result<Rate> {
        match &self.all["lr_schedule"] {
            Value::Null => Ok(self.learning_rate.into()),
            block => Ok(schedule(block)?.into()),
        }
    }

    /// The optimizer.
    ///
    /// # Errors
    /// If its name or an option of it is not known.
    pub fn optimizer(&self) -> Result<Box<dyn Optimizer + Send + Sync>> {
        let rate = self.rate()?;
        let name = self.optimizer.to_ascii_lowercase();
        let all = &self.all["optimizer_config"];
        known(all, &["adam", "adamw", "muon", "sgd", "adafactor"], "optimizer_config")?;
        let empty = json!({});
        let block = all.get(&name).filter(|b| !b.is_null()).unwrap_or(&empty);
        let what = format!("optimizer_config.{name}");
        let place = format!("{what}.");
        let fields = Fields::new(block, &place);
        let float = |key: &str, default: f64| fields.float(key, default).map_err(|e| named(&e));
        let flag = |key: &str, default: bool| fields.flag(key, default).map_err(|e| named(&e));
        let pair = |key: &str, default: [f64; 2]| -> Result<[f64; 2]> {
            let Some(list) = fields.floats(key).map_err(|e| named(&e))? else { return Ok(default) };
            let n = list.len();
            <[f64; 2]>::try_from(list)
                .map_err(|_| bad(format!("{place}{key} has {n} numbers, not 2")))
        };
        let adam = || -> Result<Adam> {
            Ok(Adam {
                betas: pair("betas", [0.9, 0.999])?,
                eps: float("eps", 1e-8)?,
                bias_correction: flag("bias_correction", false)?,
                ..Adam::new(rate.clone())
            })
        };
        let optimizer: Box<dyn Optimizer + Send + Sync> = match name.as_str() {
            "adam" => {
                known(block, &["betas", "eps", "bias_correction"], &what)?;
                Box::new(adam()?)
            }
            "adamw" => {
                known(block, &["betas", "eps", "bias_correction", "weight_decay"], &what)?;
                Box::new(AdamW { adam: adam()?, weight_decay: float("weight_decay", 0.01)? })
            }
            "sgd" => {
                known(block, &["momentum", "weight_decay", "dampening", "nesterov"], &what)?;
                Box::new(Sgd {
                    momentum: float("momentum", 0.0)?,
                    weight_decay: float("weight_decay", 0.0)?,
                    dampening: float("dampening", 0.0)?,
                    nesterov: flag("nesterov", false)?,
                    ..Sgd::new(rate)
                })
            }
            "muon" => {
                known(block, &["momentum", "weight_decay", "nesterov", "ns_steps"], &what)?;
                Box::new(Muon {
                    momentum: float("momentum", 0.95)?,
                    weight_decay: float("weight_decay", 0.01)?,
                    nesterov: flag("nesterov", true)?,
                    ns_steps: fields.count("ns_steps", 1).map_err(|e| named(&e))?.unwrap_or(5),
                    ..Muon::new(rate)
                })
            }
            "adafactor" => {
                let names = [
                    "eps",
                    "clip_threshold",
                    "decay_rate",
                    "beta_1",
                    "weight_decay",
                    "scale_parameter",
                    "relative_step",
                    "warmup_init",
                ];
                known(block, &names, &what)?;
                let usual = Adafactor::default();
                Box::new(Adafactor {
                    rate: Some(rate),
                    eps: pair("eps", usual.eps)?,
                    clip_threshold: float("clip_threshold", usual.clip_threshold)?,
                    decay_rate: float("decay_rate", usual.decay_rate)?,
                    beta_1: fields.get("beta_1").map(|_| float("beta_1", 0.0)).transpose()?,
                    weight_decay: float("weight_decay", usual.weight_decay)?,
                    scale_parameter: flag("scale_parameter", usual.scale_parameter)?,
                    relative_step: flag("relative_step", usual.relative_step)?,
                    warmup_init: flag("warmup_init", usual.warmup_init)?,
                })
            }
            other => {
                let why =
                    format!("optimizer {other:?} is none of adam, adamw, muon, sgd, adafactor");
                return Err(bad(why));
            }
        };
        optimizer.validate()?;
        Ok(optimizer)
    }
}

/// A schedule with warmup, as `lr_schedule` says.
fn schedule(block: &Value) -> Result<Schedule> {
    known(block, &["name", "arguments", "warmup", "warmup_init"], "lr_schedule")?;
    let fields = Fields::new(block, "lr_schedule.");
    let name = fields.text("name").map_err(|e| named(&e))?;
    let name = name.ok_or_else(|| bad("lr_schedule.name is missing"))?;
    let arguments = fields.floats("arguments").map_err(|e| named(&e))?.unwrap_or_default();
    let steps = |x: f64| match x {
        x if x.fract() == 0.0 && (1.0..=u32::MAX as f64).contains(&x) => Ok(x as u32),
        _ => Err(bad(format!("lr_schedule: {x} is no number of steps"))),
    };
    let schedule = match (name, arguments.as_slice()) {
        ("cosine_decay", &[init, n]) => cosine_decay(init, steps(n)?, 0.0)?,
        ("cosine_decay", &[init, n, end]) => cosine_decay(init, steps(n)?, end)?,
        ("linear_schedule", &[init, end, n]) => linear_schedule(init, end, steps(n)?)?,
        ("exponential_decay", &[init, rate]) => exponential_decay(init, rate),
        ("step_decay", &[init, rate, n]) => step_decay(init, rate, steps(n)?)?,
        ("cosine_decay" | "linear_schedule" | "exponential_decay" | "step_decay", other) => {
            return Err(bad(format!(
                "lr_schedule: {name} does not take {} arguments",
                other.len()
            )));
        }
        _ => {
            let why = "is none of cosine_decay, linear_schedule, exponential_decay, step_decay";
            return Err(bad(format!("lr_schedule: {name:?} {why}")));
        }
    };
    match fields.count("warmup", 0).map_err(|e| named(&e))? {
        None | Some(0) => Ok(schedule),
        Some(warmup) => {
            let from = fields.float("warmup_init", 0.0).map_err(|e| named(&e))?;
            let warmup = steps(warmup as f64)?;
            let up = linear_schedule(from, arguments[0], warmup)?;
            Ok(join_schedules(vec![up, schedule], vec![warmup.saturating_add(1)])?)
        }
    }
}

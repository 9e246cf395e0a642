//! Options of a fine-tuning: mlx-lm's names and defaults, from a YAML file and the command line.

use crate::config::Fields;
use crate::error::{Error, Result};
use lazul_nn::layers::AdapterOptions;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// What is trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TuneType {
    /// Low-rank adapters.
    Lora,
    /// Low-rank adapters and the lengths of rows.
    Dora,
    /// The weights of the last layers themselves.
    Full,
}

impl TuneType {
    /// `lora`, `dora` or `full`.
    pub fn name(self) -> &'static str {
        match self {
            TuneType::Lora => "lora",
            TuneType::Dora => "dora",
            TuneType::Full => "full",
        }
    }
}

/// Which matrices have adapters, and which.
#[derive(Clone, Debug, PartialEq)]
pub struct LoraParameters {
    /// Names of matrices within a layer (`self_attn.q_proj`), or of the model (`lm_head`); if there are none,
    /// all matrices of the layers.
    pub keys: Option<Vec<String>>,
    /// Columns of the first factor.
    pub rank: usize,
    /// Multiplies what adapters add.
    pub scale: f64,
    /// Probability of a zero in an adapter's input.
    pub dropout: f64,
}

/// Options of a fine-tuning.
///
/// ```
/// use lazul_lm::tune::{TuneConfig, TuneType};
/// let yaml = TuneConfig::read_yaml("learning_rate: 1e-4\nlora_parameters: {rank: 4, scale: 10.0, dropout: 0.0}")?;
/// let flags = serde_json::json!({ "iters": 50 });
/// let config = TuneConfig::merged(&[flags.as_object().unwrap(), &yaml])?;
/// assert_eq!((config.iters, config.learning_rate, config.batch_size), (50, 1e-4, 4));
/// assert_eq!((config.lora.rank, config.kind), (4, TuneType::Lora));
/// # Ok::<(), lazul_lm::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct TuneConfig {
    /// The model's folder or name.
    pub model: String,
    /// Whether to train.
    pub train: bool,
    /// Whether to evaluate on the test set afterwards.
    pub test: bool,
    /// What is trained.
    pub kind: TuneType,
    /// The optimizer's name.
    pub optimizer: String,
    /// The folder of `train.jsonl`, `valid.jsonl` and `test.jsonl`.
    pub data: String,
    /// Of adapters, dropout and the order of batches.
    pub seed: u64,
    /// Layers that are trained, from the last; all if there is no number.
    pub num_layers: Option<usize>,
    /// Examples in a batch.
    pub batch_size: usize,
    /// Batches to train on.
    pub iters: u64,
    /// Batches of a validation; all if there is no number.
    pub val_batches: Option<usize>,
    /// The learning rate, unless there is a schedule.
    pub learning_rate: f64,
    /// Batches between reports.
    pub steps_per_report: u64,
    /// Batches between validations.
    pub steps_per_eval: u64,
    /// Weights to begin with.
    pub resume_adapter_file: Option<String>,
    /// Where adapters are written, and read from for a test.
    pub adapter_path: String,
    /// Batches between saves.
    pub save_every: u64,
    /// Batches of the test; all if there is no number.
    pub test_batches: Option<usize>,
    /// Tokens of an example that are used.
    pub max_seq_length: usize,
    /// Whether gradients compute inner results of layers again.
    pub grad_checkpoint: bool,
    /// Batches whose gradients are one step.
    pub grad_accumulation_steps: usize,
    /// Unused memory that may be kept; no bound if there is no number.
    pub clear_cache_threshold: Option<usize>,
    /// Whether the loss leaves prompts out.
    pub mask_prompt: bool,
    /// Whether several short examples share a row ([`packed_batches`](super::packed_batches)).
    pub pack: bool,
    /// The adapters.
    pub lora: LoraParameters,
    /// The names of an example's fields.
    pub features: Features,
    /// Whether somebody asked for so many layers: the default is cut to what a model has.
    pub(super) layers_given: bool,
    /// Everything as it was given, defaults filled in: what `adapter_config.json` says.
    pub(super) all: Map<String, Value>,
}

/// The names of an example's fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Features {
    /// `prompt`
    pub prompt: String,
    /// `completion`
    pub completion: String,
    /// `text`
    pub text: String,
    /// `messages`
    pub chat: String,
}

fn defaults() -> Map<String, Value> {
    let all = json!({
        "model": "mlx_model",
        "train": false,
        "fine_tune_type": "lora",
        "optimizer": "adam",
        "optimizer_config": { "adam": {}, "adamw": {}, "muon": {}, "sgd": {}, "adafactor": {} },
        "data": "data",
        "seed": 0,
        "num_layers": 16,
        "batch_size": 4,
        "iters": 1000,
        "val_batches": 25,
        "learning_rate": 1e-5,
        "steps_per_report": 10,
        "steps_per_eval": 200,
        "resume_adapter_file": null,
        "adapter_path": "adapters",
        "save_every": 100,
        "test": false,
        "test_batches": 500,
        "max_seq_length": 2048,
        "config": null,
        "grad_checkpoint": false,
        "grad_accumulation_steps": 1,
        "clear_cache_threshold": null,
        "lr_schedule": null,
        "lora_parameters": { "rank": 8, "dropout": 0.0, "scale": 20.0 },
        "mask_prompt": false,
        "report_to": null,
        "project_name": null,
        "trust_remote_code": false,
    });
    match all {
        Value::Object(map) => map,
        _ => unreachable!("an object stands above"),
    }
}

/// Keys that have no default.
const FURTHER: [&str; 5] =
    ["pack", "prompt_feature", "completion_feature", "text_feature", "chat_feature"];

pub(super) fn bad(why: impl Into<String>) -> Error {
    Error::Argument(why.into())
}

/// Refuses names that nobody reads: a slip of the pen must not be a default.
pub(super) fn known(block: &Value, names: &[&str], what: &str) -> Result<()> {
    let Some(block) = block.as_object() else {
        return Err(bad(format!("{what} must be a mapping, is {block}")));
    };
    match block.keys().find(|key| !names.contains(&key.as_str())) {
        Some(key) => Err(bad(format!("{what} has no {key}; it has {}", names.join(", ")))),
        None => Ok(()),
    }
}

/// A count, or nothing for -1.
fn count_or_all(all: &Value, key: &str) -> Result<Option<usize>> {
    if all[key] == -1 {
        return Ok(None);
    }
    Ok(Some(count(all, key, 0)?))
}

/// As [`count_or_all`], where none would be no number of batches to take a mean of.
fn batches_or_all(all: &Value, key: &str) -> Result<Option<usize>> {
    match count_or_all(all, key)? {
        Some(0) => Err(bad(format!("{key} must be 1 or more, or -1 for all, is 0"))),
        other => Ok(other),
    }
}

fn count(all: &Value, key: &str, least: u64) -> Result<usize> {
    let n = Fields::new(all, "").count(key, least).map_err(|e| named(&e))?;
    n.ok_or_else(|| bad(format!("{key} is missing")))
}

/// The error of a field of `config.json`, which this is not.
pub(super) fn named(e: &Error) -> Error {
    match e {
        Error::Config(why) => bad(why.clone()),
        other => bad(other.to_string()),
    }
}

impl TuneConfig {
    /// The keys of a YAML file.
    ///
    /// # Errors
    /// If it is no YAML mapping.
    pub fn read_yaml(text: &str) -> Result<Map<String, Value>> {
        let value: Value =
            serde_saphyr::from_str(text).map_err(|e| bad(format!("the configuration: {e}")))?;
        match value {
            Value::Object(map) => Ok(map),
            Value::Null => Ok(Map::new()),
            other => Err(bad(format!("the configuration must be a mapping, is {other}"))),
        }
    }

    /// Options from several places, of which the first that has a key counts; then the defaults. A null is as
    /// good as none.
    ///
    /// # Errors
    /// If a key is not known, or a value is none that it can have.
    pub fn merged(places: &[&Map<String, Value>]) -> Result<TuneConfig> {
        let mut all = defaults();
        for place in places.iter().rev() {
            for (key, value) in *place {
                if key == "hf_dataset" {
                    let why = "hf_dataset: data sets are read from folders; save its rows as train.jsonl, valid.jsonl and test.jsonl";
                    return Err(bad(why));
                }
                if !all.contains_key(key) && !FURTHER.contains(&key.as_str()) {
                    return Err(bad(format!("there is no option {key}")));
                }
                if !value.is_null() {
                    all.insert(key.clone(), value.clone());
                }
            }
        }
        let given = |p: &&Map<String, Value>| p.get("num_layers").is_some_and(|n| !n.is_null());
        let layers_given = places.iter().any(given);
        Ok(TuneConfig { layers_given, ..TuneConfig::from_map(all)? })
    }

    fn from_map(map: Map<String, Value>) -> Result<TuneConfig> {
        let all = &Value::Object(map.clone());
        let fields = Fields::new(all, "");
        let text = |key: &str| -> Result<Option<String>> {
            Ok(fields.text(key).map_err(|e| named(&e))?.map(str::to_string))
        };
        let need = |key: &str| text(key)?.ok_or_else(|| bad(format!("{key} is missing")));
        let flag = |key: &str| fields.flag(key, false).map_err(|e| named(&e));
        let steps = |key: &str| Ok::<u64, Error>(count(all, key, 1)? as u64);
        let kind = match need("fine_tune_type")?.as_str() {
            "lora" => TuneType::Lora,
            "dora" => TuneType::Dora,
            "full" => TuneType::Full,
            other => {
                return Err(bad(format!("fine_tune_type {other:?} is none of lora, dora, full")));
            }
        };
        // NumPy's, whose order of batches mlx-lm has.
        let seed = all["seed"].as_u64().filter(|&seed| seed < 1 << 32);
        let rate = fields.float("learning_rate", 1e-5).map_err(|e| named(&e))?;
        let feature = |key: &str, default: &str| {
            Ok::<String, Error>(text(key)?.unwrap_or_else(|| default.to_string()))
        };
        let config = TuneConfig {
            model: need("model")?,
            train: flag("train")?,
            test: flag("test")?,
            kind,
            optimizer: need("optimizer")?,
            data: need("data")?,
            seed: seed.ok_or_else(|| bad("seed must be a whole number from 0 to 2^32 - 1"))?,
            num_layers: count_or_all(all, "num_layers")?,
            batch_size: count(all, "batch_size", 1)?,
            iters: steps("iters")?,
            val_batches: batches_or_all(all, "val_batches")?,
            learning_rate: rate,
            steps_per_report: steps("steps_per_report")?,
            steps_per_eval: steps("steps_per_eval")?,
            resume_adapter_file: text("resume_adapter_file")?,
            adapter_path: need("adapter_path")?,
            save_every: steps("save_every")?,
            test_batches: batches_or_all(all, "test_batches")?,
            max_seq_length: count(all, "max_seq_length", 2)?,
            grad_checkpoint: flag("grad_checkpoint")?,
            grad_accumulation_steps: count(all, "grad_accumulation_steps", 1)?,
            clear_cache_threshold: match &all["clear_cache_threshold"] {
                Value::Null => None,
                _ => Some(count(all, "clear_cache_threshold", 0)?),
            },
            mask_prompt: flag("mask_prompt")?,
            pack: flag("pack")?,
            lora: LoraParameters::from_json(&all["lora_parameters"])?,
            features: Features {
                prompt: feature("prompt_feature", "prompt")?,
                completion: feature("completion_feature", "completion")?,
                text: feature("text_feature", "text")?,
                chat: feature("chat_feature", "messages")?,
            },
            layers_given: false,
            all: map,
        };
        // What is wrong with the optimizer is said before anything is loaded.
        config.optimizer()?;
        Ok(config)
    }

    /// What `adapter_config.json` says: every option, sorted.
    pub fn to_json(&self) -> Value {
        let mut sorted: BTreeMap<&String, &Value> = self.all.iter().collect();
        let none = Value::Null;
        if self.kind == TuneType::Full
            && let Some(lora) = sorted.get_mut(&"lora_parameters".to_string())
        {
            *lora = &none;
        }
        sorted.into_iter().map(|(key, value)| (key.clone(), value.clone())).collect()
    }

    /// What the numbers of a training depend on: a training goes on from a checkpoint only with the same.
    pub fn fingerprint(&self) -> Value {
        const ELSEWHERE: [&str; 14] = [
            "train",
            "test",
            "iters",
            "val_batches",
            "steps_per_report",
            "steps_per_eval",
            "adapter_path",
            "save_every",
            "test_batches",
            "config",
            "clear_cache_threshold",
            "report_to",
            "project_name",
            "grad_checkpoint",
        ];
        let mut all = self.to_json();
        if let Some(all) = all.as_object_mut() {
            ELSEWHERE.iter().for_each(|key| drop(all.shift_remove(*key)));
        }
        all
    }
}

impl LoraParameters {
    /// Reads `lora_parameters`.
    ///
    /// # Errors
    /// If a number is missing or none that it can have.
    pub fn from_json(block: &Value) -> Result<LoraParameters> {
        if block.is_null() {
            return LoraParameters::from_json(&defaults()["lora_parameters"]);
        }
        if block.get("alpha").is_some() && block.get("scale").is_none() {
            let why = "lora_parameters has alpha and no scale: what is added is multiplied by scale, where others say alpha / rank";
            return Err(bad(why));
        }
        known(block, &["keys", "rank", "scale", "dropout"], "lora_parameters")?;
        let fields = Fields::new(block, "lora_parameters.");
        let keys = match fields.get("keys") {
            None => None,
            Some(list) => {
                let names = list.as_array().map(|l| l.iter().map(|v| v.as_str().map(String::from)));
                let names: Option<Vec<String>> = names.and_then(|names| names.collect());
                Some(names.ok_or_else(|| bad("lora_parameters.keys must be a list of names"))?)
            }
        };
        let need = |key: &str| match fields.get(key) {
            Some(_) => fields.float(key, 0.0).map_err(|e| named(&e)),
            None => Err(bad(format!("lora_parameters.{key} is missing"))),
        };
        Ok(LoraParameters {
            keys,
            rank: fields.required_count("rank").map_err(|e| named(&e))?,
            scale: need("scale")?,
            dropout: fields.float("dropout", 0.0).map_err(|e| named(&e))?,
        })
    }

    /// As options of each adapter.
    pub fn options(&self, dora: bool) -> AdapterOptions {
        AdapterOptions { rank: self.rank, scale: self.scale, dropout: self.dropout, dora }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lazul_core::Array;

    fn read(yaml: &str) -> Result<TuneConfig> {
        TuneConfig::merged(&[&TuneConfig::read_yaml(yaml)?])
    }

    #[test]
    fn a_file_like_those_of_mlx_lm() -> Result<()> {
        let config = read(
            "# a comment\nmodel: \"org/name\"\ntrain: true\nfine_tune_type: dora\noptimizer: adamw\n\
             optimizer_config:\n  adamw:\n    betas: [0.9, 0.98]\n    eps: 1e-6\n    weight_decay: 0.05\n\
             num_layers: -1\nval_batches: -1\nlearning_rate: 1e-5\n\
             lora_parameters:\n  keys: [\"self_attn.q_proj\", \"self_attn.v_proj\"]\n  rank: 8\n  scale: 20.0\n  dropout: 0.0\n\
             lr_schedule:\n  name: cosine_decay\n  warmup: 100\n  warmup_init: 1e-7\n  arguments: [1e-5, 1000, 1e-7]\n",
        )?;
        assert_eq!(
            (config.kind, config.num_layers, config.val_batches),
            (TuneType::Dora, None, None)
        );
        assert_eq!(config.lora.keys.as_ref().unwrap().len(), 2);
        let rate = |step: i64| config.rate().unwrap().at(&Array::scalar(step)).item::<f32>();
        assert!((rate(0)? - 1e-7).abs() < 1e-12);
        assert!((rate(100)? - 1e-5).abs() < 1e-9);
        assert!((rate(5000)? - 1e-7).abs() < 1e-9);
        let written = config.to_json();
        let keys: Vec<&String> = written.as_object().unwrap().keys().collect();
        assert!(keys.is_sorted() && keys.len() == 30);
        assert_eq!(written["lora_parameters"]["rank"], 8);
        Ok(())
    }

    #[test]
    fn the_first_place_counts() -> Result<()> {
        let flags = json!({ "iters": 7, "train": true, "seed": null });
        let yaml = TuneConfig::read_yaml("iters: 9\nseed: 3\nbatch_size: 2")?;
        let config = TuneConfig::merged(&[flags.as_object().unwrap(), &yaml])?;
        assert_eq!((config.iters, config.seed, config.batch_size), (7, 3, 2));
        assert_eq!(TuneConfig::merged(&[])?.lora.scale, 20.0);
        Ok(())
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        for (yaml, said) in [
            ("learning_rat: 1", "there is no option learning_rat"),
            ("iters: 0", "iters must be a whole number from 1"),
            ("iters: many", "iters"),
            ("batch_size: 1.5", "batch_size"),
            ("val_batches: 0", "val_batches must be 1 or more, or -1 for all"),
            ("test_batches: 0", "test_batches must be 1 or more, or -1 for all"),
            ("seed: 4294967296", "seed must be a whole number from 0 to 2^32 - 1"),
            ("fine_tune_type: qlora", "qlora"),
            ("optimizer: adamx", "adamx"),
            (
                "optimizer: sgd\noptimizer_config: {sgd: {beta: 1}}",
                "optimizer_config.sgd has no beta",
            ),
            ("optimizer: adam\noptimizer_config: {adam: {betas: [0.9]}}", "1 numbers, not 2"),
            ("lora_parameters: {rank: 8, alpha: 16}", "alpha / rank"),
            ("lora_parameters: {rank: 0, scale: 1}", "rank"),
            ("lora_parameters: {rank: 8}", "lora_parameters.scale is missing"),
            ("lr_schedule: {name: cosine, arguments: [1]}", "cosine_decay"),
            ("lr_schedule: {name: cosine_decay, arguments: [1]}", "1 arguments"),
            (
                "lr_schedule: {name: step_decay, arguments: [1, 0.5, 0.5]}",
                "0.5 is no number of steps",
            ),
            ("hf_dataset: {path: a}", "train.jsonl"),
            ("- a", "mapping"),
            ("a: [", "configuration"),
        ] {
            let error = read(yaml).expect_err(yaml).to_string();
            assert!(error.contains(said), "{yaml}: {error}");
        }
    }
}

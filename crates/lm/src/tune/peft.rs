//! Adapters as Hugging Face's PEFT keeps them: a folder with `adapter_model.safetensors`
//! (`base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight` and so on) and an `adapter_config.json` of
//! its own form.
//!
//! Its factors are those here transposed: `lora_A` `(r, in)`, `lora_B` `(out, r)`; of an embedding
//! `lora_embedding_A` `(r, n)` and `lora_embedding_B` `(d, r)`; `lora_magnitude_vector` `(out)` of DoRA.

use super::config::{TuneType, bad, named};
use crate::config::Fields;
use crate::error::{Error, Result};
use crate::models::LanguageModel;
use lazul_core::{Array, Shape};
use lazul_io::{json, save_safetensors, write_file};
use lazul_nn::layers::{Adapter, Dropout};
use lazul_nn::{Matrix, Module, Parameters, Weight};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// The file of PEFT's tensors.
pub(super) const FILE: &str = "adapter_model.safetensors";

/// What stands before the name of a module.
const PREFIX: &str = "base_model.model.";

/// What PEFT's configuration says.
struct Described {
    alpha: f64,
    /// Whether `alpha` is divided by the root of the rank.
    by_root: bool,
    dora: bool,
    dropout: f64,
    /// Other numbers than [`Described::alpha`], by the ends of names.
    alphas: Vec<(String, f64)>,
}

/// Whether a configuration is one of PEFT's.
pub(super) fn is_peft(config: &Value) -> bool {
    config.get("peft_type").is_some()
}

fn described(config: &Value) -> Result<Described> {
    let fields = Fields::new(config, "adapter_config.json: ");
    let refuse = |why: &str| Err(bad(format!("adapter_config.json: {why}")));
    let flag = |name: &str| fields.flag(name, false).map_err(|e| named(&e));
    let kind = fields.text("peft_type").map_err(|e| named(&e))?.unwrap_or_default();
    if kind != "LORA" {
        return refuse(&format!("peft_type {kind:?} is not known; LORA is"));
    }
    for name in ["fan_in_fan_out", "lora_bias"] {
        if flag(name)? {
            return refuse(&format!("{name} is not known to these models"));
        }
    }
    // These change the base as well, and a file has only their half.
    if let Some(how) = config.get("init_lora_weights").and_then(Value::as_str)
        && (["olora", "loftq", "corda", "lora_ga"].contains(&how) || how.starts_with("pissa"))
    {
        return refuse(&format!("adapters of init_lora_weights {how:?} go with a changed base"));
    }
    let named_alphas = match config.get("alpha_pattern") {
        None | Some(Value::Null) => Map::new(),
        Some(Value::Object(map)) => map.clone(),
        Some(other) => return refuse(&format!("alpha_pattern must be a mapping, is {other}")),
    };
    let mut alphas = Vec::new();
    for (name, alpha) in &named_alphas {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.');
        match alpha.as_f64() {
            Some(alpha) if name.chars().all(plain) => alphas.push((name.clone(), alpha)),
            _ => return refuse(&format!("alpha_pattern has {name:?}: {alpha}, which is not read")),
        }
    }
    // The rank is that of the tensors.
    Ok(Described {
        alpha: fields.float("lora_alpha", 8.0).map_err(|e| named(&e))?,
        by_root: flag("use_rslora")?,
        dora: flag("use_dora")?,
        dropout: fields.float("lora_dropout", 0.0).map_err(|e| named(&e))?,
        alphas,
    })
}

impl Described {
    /// What multiplies the product of the factors of a module.
    fn scale(&self, path: &str, rank: usize) -> f64 {
        let ends = |name: &str| {
            path.strip_suffix(name).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        };
        let own = self.alphas.iter().find(|(name, _)| ends(name)).map(|(_, alpha)| *alpha);
        let rank = rank as f64;
        own.unwrap_or(self.alpha) / if self.by_root { rank.sqrt() } else { rank }
    }
}

/// Puts PEFT's adapters beside the model's matrices.
pub(super) fn put(
    model: &mut dyn LanguageModel,
    config: &Value,
    mut tensors: Parameters,
    file: &Path,
) -> Result<TuneType> {
    let how = described(config)?;
    let dropout = Dropout::new(how.dropout)?;
    let tied = tied(model);
    let mut failed: Option<Error> = None;
    let mut count = 0;
    model.matrices_mut(&mut |path, matrix| {
        let mut take = |name: &str| tensors.remove(&format!("{PREFIX}{path}.{name}"));
        let (a, b) = match &matrix {
            Matrix::Linear(_) => (take("lora_A.weight"), take("lora_B.weight")),
            Matrix::Embedding(_) => (take("lora_embedding_A"), take("lora_embedding_B")),
        };
        let m = take("lora_magnitude_vector");
        // PEFT saves the table along with its adapter.
        let base = take("base_layer.weight");
        let (slot, dims) = match matrix {
            Matrix::Linear(linear) => {
                let dims = linear.weight.dims().map(|[out, input]| [input, out]);
                (&mut linear.adapter, dims)
            }
            Matrix::Embedding(table) => {
                let dims = table.weight.dims();
                if a.is_some() && tied {
                    let why = "the embedding is the output as well, of which PEFT's adapter is not";
                    failed = failed.take().or(Some(bad(format!("{path}: {why}"))));
                    return;
                }
                if let Some(base) = base {
                    match replaced(&table.weight, &base) {
                        Ok(weight) => table.weight = weight,
                        Err(e) => return failed = failed.take().or(Some(e)),
                    }
                }
                (&mut table.adapter, dims)
            }
        };
        let made = match (a, b) {
            (None, None) => return,
            (Some(a), Some(b)) => adapter(&how, path, dims, &a, &b, m, &dropout),
            _ => Err(bad(format!("{}: {path} has one factor of two", file.display()))),
        };
        match made {
            Ok(adapter) => {
                *slot = Some(Box::new(adapter));
                count += 1;
            }
            Err(e) => failed = failed.take().or(Some(e)),
        }
    });
    if let Some(e) = failed {
        return Err(e);
    }
    if let Some(name) = tensors.keys().next() {
        let why = format!("{name}: not an adapter parameter in the model");
        return Err(bad(format!("{}: {why}", file.display())));
    }
    if count == 0 {
        return Err(bad(format!("{}: there is no adapter", file.display())));
    }
    Ok(if how.dora { TuneType::Dora } else { TuneType::Lora })
}

/// Whether the embedding is the output projection as well.
fn tied(model: &dyn LanguageModel) -> bool {
    !model.parameters().iter().any(|(path, _)| path.starts_with("lm_head."))
}

/// A table's weight replaced by one of its shape, in its dtype.
fn replaced(old: &Weight, new: &Array) -> Result<Weight> {
    let dense = old.dense();
    if dense.shape()? != new.shape()? {
        let (is, want) = (Shape::new(new.shape()?), Shape::new(dense.shape()?));
        return Err(bad(format!("the embedding has shape {is}, and the model's {want}")));
    }
    Ok(Weight::Dense(new.astype(dense.dtype()?)))
}

fn adapter(
    how: &Described,
    path: &str,
    dims: lazul_core::Result<[usize; 2]>,
    a: &Array,
    b: &Array,
    m: Option<Array>,
    dropout: &Dropout,
) -> Result<Adapter> {
    let [input, output] = dims?;
    let rank = a.shape()?.first().copied().unwrap_or(0);
    let fits = |x: &Array, want: &[usize]| -> Result<()> {
        let shape = x.shape()?;
        if shape == want && rank > 0 {
            return Ok(());
        }
        let (is, want) = (Shape::new(shape), Shape::new(want));
        Err(bad(format!("{path}: a factor has shape {is}, and the model has {want}")))
    };
    fits(a, &[rank, input])?;
    fits(b, &[output, rank])?;
    match &m {
        Some(m) if how.dora => fits(m, &[output])?,
        None if !how.dora => {}
        _ => return Err(bad(format!("{path}: lengths of rows and use_dora belong together"))),
    }
    Ok(Adapter {
        lora_a: a.t(),
        lora_b: b.t(),
        m,
        scale: how.scale(path, rank),
        dropout: dropout.clone(),
    })
}

/// Writes a model's adapters as PEFT reads them, to a new folder or an empty one; `base` is the model that
/// they go with. Returns how many there are.
///
/// ```
/// use lazul_core::random::Generator;
/// use lazul_lm::tune::{LoraParameters, attach, load_adapters, save_peft};
/// # let sizes = serde_json::json!({
/// #     "model_type": "llama", "vocab_size": 16, "hidden_size": 16, "intermediate_size": 32,
/// #     "num_hidden_layers": 2, "num_attention_heads": 2,
/// # });
/// # let place = std::env::temp_dir().join(format!("lazul-peft-{}", std::process::id()));
/// # std::fs::create_dir_all(&place)?;
/// let base = lazul_lm::pretrain::init(&sizes, 0)?;
/// let mut model = base.clone();
/// let lora = LoraParameters { keys: None, rank: 2, scale: 10.0, dropout: 0.0 };
/// attach(&mut *model, None, &lora, false, &mut Generator::new(0))?;
/// let folder = place.join("adapters");
/// assert_eq!(save_peft(&*model, "some/model", &folder)?, 14);
/// let mut again = base.clone();
/// load_adapters(&mut again, &folder)?;
/// # std::fs::remove_dir_all(place)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// If there are none, the folder holds something, or cannot be written.
pub fn save_peft(model: &dyn LanguageModel, base: &str, folder: &Path) -> Result<usize> {
    let mut tensors = Parameters::new();
    let mut adapters: BTreeMap<String, (usize, f64)> = BTreeMap::new();
    let mut plain = BTreeSet::new();
    let (mut dora, mut dropout, mut failed) = (BTreeSet::new(), 0.0, None);
    let (tied, mut tables) = (tied(model), 0);
    // Only to be shown the matrices.
    model.clone_model().matrices_mut(&mut |path, matrix| {
        let (adapter, names) = match matrix {
            Matrix::Linear(l) => (&l.adapter, ["lora_A.weight", "lora_B.weight"]),
            Matrix::Embedding(t) => {
                tables += usize::from(t.adapter.is_some());
                (&t.adapter, ["lora_embedding_A", "lora_embedding_B"])
            }
        };
        let Some(adapter) = adapter else {
            plain.insert(last(path).to_string());
            return;
        };
        let rank = match adapter.lora_b.dim(0) {
            Ok(rank) => rank,
            Err(e) => return failed = Some(e),
        };
        let at = |name: &str| format!("{PREFIX}{path}.{name}");
        tensors.insert(at(names[0]), adapter.lora_a.t().contiguous());
        tensors.insert(at(names[1]), adapter.lora_b.t().contiguous());
        if let Some(m) = &adapter.m {
            tensors.insert(at("lora_magnitude_vector"), m.clone());
        }
        dora.insert(adapter.m.is_some());
        dropout = adapter.dropout.p;
        adapters.insert(path.to_string(), (rank, adapter.scale * rank as f64));
    });
    if let Some(e) = failed {
        return Err(e.into());
    }
    let Some(&(rank, alpha)) = adapters.values().next() else {
        return Err(bad("the model has no adapters to write"));
    };
    if dora.len() > 1 {
        return Err(bad("PEFT has lengths of rows in all adapters or in none"));
    }
    if tied && tables > 0 {
        let why = "the embedding is the output as well, of which PEFT's adapter is not";
        return Err(bad(why));
    }
    // Short names mean every module that is called so.
    let short: BTreeSet<&str> = adapters.keys().map(|path| last(path)).collect();
    let all = short.iter().all(|name| !plain.contains(*name));
    let targets: Vec<&str> =
        if all { short.into_iter().collect() } else { adapters.keys().map(|p| &**p).collect() };
    let others = |of: &dyn Fn(&(usize, f64)) -> Option<Value>| -> Map<String, Value> {
        adapters.iter().filter_map(|(path, both)| Some((path.clone(), of(both)?))).collect()
    };
    let config = json!({
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "inference_mode": true,
        "r": rank,
        "lora_alpha": alpha,
        "lora_dropout": dropout,
        "target_modules": targets,
        "rank_pattern": others(&|(r, _)| (*r != rank).then(|| json!(r))),
        "alpha_pattern": others(&|(_, a)| (*a != alpha).then(|| json!(a))),
        "use_dora": dora.contains(&true),
        "use_rslora": false,
        "bias": "none",
        "fan_in_fan_out": false,
        "init_lora_weights": true,
        "modules_to_save": null,
    });
    let at = |e: std::io::Error| bad(format!("{}: {e}", folder.display()));
    std::fs::create_dir_all(folder).map_err(at)?;
    if std::fs::read_dir(folder).map_err(at)?.next().is_some() {
        return Err(bad(format!("{} is no empty folder", folder.display())));
    }
    save_safetensors(folder.join(FILE), &tensors, &[("format", "pt")])?;
    // The configuration comes last: without it, this is no folder of adapters.
    write_file(&folder.join("adapter_config.json"), json::to_string(&config).as_bytes())?;
    Ok(adapters.len())
}

/// The last name of a path.
fn last(path: &str) -> &str {
    path.rsplit('.').next().unwrap_or(path)
}

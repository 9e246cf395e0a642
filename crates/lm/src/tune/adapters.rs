//! Adapters of a language model: put beside its matrices, read, merged.
//!
//! Files are mlx-lm's: a folder with `adapters.safetensors` (`model.layers.0.self_attn.q_proj.lora_a` and so
//! on) and `adapter_config.json`; or [PEFT's](super::peft).

use super::config::{LoraParameters, TuneType};
use super::peft;
use crate::config::Fields;
use crate::error::{Error, Result};
use crate::models::LanguageModel;
use lazul_core::random::Generator;
use lazul_core::{Quantization, Shape};
use lazul_io::{Root, SafeTensors, json};
use lazul_nn::layers::Adapter;
use lazul_nn::{Matrix, Module, Parameters, Trainable, Weight};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// A model of which some parameters are trained.
pub type Tuned = Trainable<Box<dyn LanguageModel>>;

fn bad(why: impl Into<String>) -> Error {
    Error::Argument(why.into())
}

/// The number of the first layer that is trained.
fn first_layer(model: &dyn LanguageModel, layers: Option<usize>) -> usize {
    let all = model.layers().1;
    // As in mlx-lm, none means all.
    all - layers.filter(|&n| n > 0).unwrap_or(all).min(all)
}

/// Puts new adapters beside matrices of the last `layers` layers (all, if there is no number); returns how
/// many.
///
/// ```
/// use lazul_core::random::Generator;
/// use lazul_lm::tune::{LoraParameters, attach, fuse};
/// # let sizes = serde_json::json!({
/// #     "model_type": "llama", "vocab_size": 16, "hidden_size": 16, "intermediate_size": 32,
/// #     "num_hidden_layers": 2, "num_attention_heads": 2,
/// # });
/// let mut model = lazul_lm::pretrain::init(&sizes, 0)?;
/// let keys = Some(vec!["self_attn.q_proj".to_string()]);
/// let lora = LoraParameters { keys, rank: 2, scale: 10.0, dropout: 0.0 };
/// let count = attach(&mut *model, Some(1), &lora, false, &mut Generator::new(0))?;
/// assert_eq!(count, 1); // of the last layer
/// assert!(model.parameters().iter().any(|(p, _)| p == "model.layers.1.self_attn.q_proj.lora_a"));
/// // Merged, they are part of the matrices.
/// assert_eq!(fuse(&mut *model, false)?, 1);
/// assert!(model.parameters().iter().all(|(p, _)| !p.ends_with("lora_a")));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// If no matrix has one of the names, or the options make no adapter.
pub fn attach(
    model: &mut dyn LanguageModel,
    layers: Option<usize>,
    lora: &LoraParameters,
    dora: bool,
    generator: &mut Generator,
) -> Result<usize> {
    let (prefix, _) = model.layers();
    let first = first_layer(model, layers);
    let options = lora.options(dora);
    let (mut count, mut failed, mut seen) = (0, None, Vec::new());
    model.matrices_mut(&mut |path, matrix| {
        let inner = path.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('.'));
        let inner = inner.and_then(|rest| rest.split_once('.'));
        let late = inner.filter(|(i, _)| i.parse().is_ok_and(|i: usize| i >= first));
        let named =
            |name: &str| lora.keys.as_ref().is_none_or(|keys| keys.iter().any(|k| k == name));
        let chosen = match late {
            Some((_, name)) => named(name) || lora.keys.is_some() && named(path),
            None => lora.keys.is_some() && named(path),
        };
        if !chosen {
            let name = inner.map_or(path, |(_, name)| name);
            if !seen.iter().any(|s| s == name) {
                seen.push(name.to_string());
            }
            return;
        }
        let key = generator.next_key();
        let made = match matrix {
            Matrix::Linear(linear) => linear.adapt(&options, Some(&key)),
            Matrix::Embedding(table) => table.adapt(&options, Some(&key)),
        };
        match made {
            Ok(()) => count += 1,
            Err(e) => failed = failed.take().or(Some(e)),
        }
    });
    match failed {
        Some(e) => Err(e.into()),
        None if count == 0 => {
            let why = format!("lora_parameters.keys name no matrix; there are {}", seen.join(", "));
            Err(bad(why))
        }
        None => Ok(count),
    }
}

/// A model of which that is trained which a fine-tuning of this kind trains.
pub fn trainable(model: Box<dyn LanguageModel>, kind: TuneType, layers: Option<usize>) -> Tuned {
    let (prefix, all) = model.layers();
    let first = first_layer(&*model, layers);
    let tuned = Trainable::new(model).freeze("");
    match kind {
        TuneType::Lora | TuneType::Dora => {
            ["**.lora_a", "**.lora_b", "**.m"].into_iter().fold(tuned, Trainable::unfreeze)
        }
        TuneType::Full => (first..all).fold(tuned, |t, i| t.unfreeze(&format!("{prefix}.{i}"))),
    }
}

/// Numbers of elements that are trained, and of all; quantized matrices count as they would be dense.
///
/// # Errors
/// If a parameter is a failed array.
pub fn sizes(model: &Tuned) -> Result<(usize, usize)> {
    let trained: lazul_core::Result<Vec<usize>> =
        model.trainable_parameters().values().map(|a| a.size()).collect();
    let mut all = model.num_parameters()?;
    let mut failed = None;
    model.clone().matrices_mut(&mut |_, matrix| {
        let weight = match matrix {
            Matrix::Linear(linear) => &linear.weight,
            Matrix::Embedding(table) => &table.weight,
        };
        let Weight::Quantized(w) = weight else { return };
        match (weight.dims(), w.num_parameters()) {
            (Ok([rows, columns]), Ok(stored)) => all = all - stored + rows * columns,
            (Err(e), _) | (_, Err(e)) => failed = Some(e),
        }
    });
    match failed {
        Some(e) => Err(e.into()),
        None => Ok((trained?.into_iter().sum(), all)),
    }
}

/// What a folder of adapters says of them.
struct Described {
    kind: TuneType,
    layers: Option<usize>,
    lora: LoraParameters,
}

fn described(config: &Value) -> Result<Described> {
    let fields = Fields::new(config, "adapter_config.json: ");
    let text = fields.text("fine_tune_type").map_err(|e| bad(e.to_string()))?;
    let kind = match text.unwrap_or("lora") {
        "lora" => TuneType::Lora,
        "dora" => TuneType::Dora,
        "full" => TuneType::Full,
        other => {
            return Err(bad(format!("adapter_config.json: fine_tune_type {other:?} is not known")));
        }
    };
    let layers = match config.get("num_layers").and_then(Value::as_i64) {
        Some(n) => usize::try_from(n).ok(),
        None if kind == TuneType::Full => None,
        None => return Err(bad("adapter_config.json: num_layers is missing")),
    };
    let lora = config.get("lora_parameters").unwrap_or(&Value::Null);
    if lora.is_null() && kind != TuneType::Full {
        return Err(bad("adapter_config.json: lora_parameters is missing"));
    }
    Ok(Described { kind, layers, lora: LoraParameters::from_json(lora)? })
}

/// Puts the adapters of a folder (of mlx-lm or of PEFT) beside the model's matrices, or its weights in place of
/// the model's, where those of whole layers were trained. Adapters that are there already stay: what both add is
/// added. The model is in inference mode then. The [module](super) has an example.
///
/// ```
/// # let sizes = serde_json::json!({
/// #     "model_type": "llama", "vocab_size": 16, "hidden_size": 16, "intermediate_size": 32,
/// #     "num_hidden_layers": 2, "num_attention_heads": 2,
/// # });
/// # let place = std::env::temp_dir().join(format!("lazul-two-{}", std::process::id()));
/// # std::fs::create_dir_all(&place)?;
/// # use lazul_lm::tune::{LoraParameters, attach, save_peft};
/// # let base = lazul_lm::pretrain::init(&sizes, 0)?;
/// # for name in ["style", "facts"] {
/// #     let mut model = base.clone();
/// #     let lora = LoraParameters { keys: None, rank: 2, scale: 10.0, dropout: 0.0 };
/// #     attach(&mut *model, None, &lora, false, &mut lazul_core::random::Generator::new(0))?;
/// #     save_peft(&*model, "", &place.join(name))?;
/// # }
/// use lazul_lm::tune::load_adapters;
/// // Two adapters on one base, whose arrays are there once;
/// let (mut style, mut both) = (base.clone(), base.clone());
/// load_adapters(&mut style, &place.join("style"))?;
/// load_adapters(&mut both, &place.join("style"))?;
/// // and two at once.
/// load_adapters(&mut both, &place.join("facts"))?;
/// # std::fs::remove_dir_all(place)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// If a file is missing or malformed, or a tensor is none of the model's adapters; [`Error::Incomplete`] if
/// some of them are not there; if adapters of DoRA are to be added to others. The model is then as it was.
pub fn load_adapters(model: &mut Box<dyn LanguageModel>, folder: &Path) -> Result<TuneType> {
    let root = Root::open(folder)?;
    let config = root.read("adapter_config.json", 1 << 20)?;
    let missing = || bad(format!("{}: there is no adapter_config.json", folder.display()));
    let config = json::parse(&config.ok_or_else(missing)?)?;
    let read = |name: &str| -> Result<Parameters> {
        Ok(SafeTensors::from_source(Arc::new(root.open_file(name)?))?.arrays()?)
    };
    let mut adapted = model.clone();
    let before = taken(&mut *adapted);
    let kind = if peft::is_peft(&config) {
        let kind = peft::put(&mut *adapted, &config, read(peft::FILE)?, folder)?;
        adapted.train(false);
        kind
    } else {
        let Described { kind, layers, lora } = described(&config)?;
        let arrays = read("adapters.safetensors")?;
        if kind != TuneType::Full {
            let dora = kind == TuneType::Dora;
            attach(&mut *adapted, layers, &lora, dora, &mut Generator::new(0))?;
        }
        let mut tuned = trainable(adapted, kind, layers);
        put(&mut tuned, arrays, kind, folder)?;
        tuned.train(false);
        adapted = tuned.into_inner();
        kind
    };
    put_back(&mut *adapted, before)?;
    *model = adapted;
    Ok(kind)
}

/// Where a matrix has its adapter.
fn slot<'a>(matrix: Matrix<'a>) -> &'a mut Option<Box<Adapter>> {
    match matrix {
        Matrix::Linear(linear) => &mut linear.adapter,
        Matrix::Embedding(table) => &mut table.adapter,
    }
}

/// Takes all adapters from their matrices, by path.
fn taken(model: &mut dyn LanguageModel) -> BTreeMap<String, Box<Adapter>> {
    let mut all = BTreeMap::new();
    model.matrices_mut(&mut |path, matrix| {
        all.extend(slot(matrix).take().map(|adapter| (path.to_string(), adapter)));
    });
    all
}

/// Puts adapters back, beside those that are there now.
fn put_back(
    model: &mut dyn LanguageModel,
    mut adapters: BTreeMap<String, Box<Adapter>>,
) -> Result<()> {
    let mut failed = None;
    model.matrices_mut(&mut |path, matrix| {
        let Some(old) = adapters.remove(path) else { return };
        let slot = slot(matrix);
        match slot.take() {
            None => *slot = Some(old),
            Some(new) => match old.joined(&new) {
                Ok(both) => *slot = Some(Box::new(both)),
                Err(e) => failed = failed.take().or(Some(e)),
            },
        }
    });
    failed.map_or(Ok(()), |e| Err(e.into()))
}

/// Replaces what is trained of a model in a fine-tuning of this kind by a file's, which must have all of it:
/// adapters that stayed as they are made would pass for trained ones.
pub(super) fn put(
    model: &mut Tuned,
    arrays: Parameters,
    kind: TuneType,
    file: &Path,
) -> Result<()> {
    let own: Parameters =
        model.parameters().into_iter().map(|(path, a)| (path, a.clone())).collect();
    let may = |name: &str| match kind {
        TuneType::Full => true,
        _ => matches!(name.rsplit('.').next(), Some("lora_a" | "lora_b" | "m")),
    };
    let mut errors = Vec::new();
    for (name, array) in &arrays {
        match own.get(name).filter(|_| may(name)) {
            None => errors.push(format!("{name}: not an adapter parameter in the model")),
            Some(old) if old.shape()? != array.shape()? => errors.push(format!(
                "{name}: shape {} is not the model's {}",
                Shape::new(array.shape()?),
                Shape::new(old.shape()?)
            )),
            Some(_) => {}
        }
    }
    let mut missing = model.trainable_parameters();
    missing.retain(|name, _| !arrays.contains_key(name));
    match errors.as_slice() {
        [] if !missing.is_empty() => {
            let tensors = missing.into_keys().collect();
            Err(Error::Incomplete { file: file.to_path_buf(), tensors })
        }
        [] => Ok(model.update(&arrays)?),
        [first, rest @ ..] => {
            let more =
                if rest.is_empty() { String::new() } else { format!(", and {} more", rest.len()) };
            Err(bad(format!("{}: {first}{more}", file.display())))
        }
    }
}

/// Merges adapters into their matrices (see [`attach`] for an example), which are quantized again if they were, unless `dequantize`: then all
/// matrices of the model become dense. Returns how many had an adapter.
///
/// # Errors
/// If a matrix cannot be quantized again.
pub fn fuse(model: &mut dyn LanguageModel, dequantize: bool) -> Result<usize> {
    let (mut count, mut failed) = (0, None);
    model.matrices_mut(&mut |_, matrix| {
        let fused = match matrix {
            Matrix::Linear(linear) => {
                count += usize::from(linear.adapter.is_some());
                linear.fuse(dequantize).map(|fused| *linear = fused)
            }
            Matrix::Embedding(table) => {
                count += usize::from(table.adapter.is_some());
                table.fuse(dequantize).map(|fused| *table = fused)
            }
        };
        if let Err(e) = fused {
            failed = failed.take().or(Some(e));
        }
    });
    failed.map_or(Ok(count), |e| Err(e.into()))
}

/// Whether a matrix of the model is stored in a form that folders of safetensors do not have.
pub fn has_blocks(model: &dyn LanguageModel) -> bool {
    let mut found = false;
    model.clone_model().matrices_mut(&mut |_, matrix| {
        let weight = match matrix {
            Matrix::Linear(linear) => &linear.weight,
            Matrix::Embedding(table) => &table.weight,
        };
        found |=
            matches!(weight, Weight::Quantized(w) if matches!(w.form, Quantization::Blocks(_)));
    });
    found
}

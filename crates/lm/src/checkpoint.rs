//! Opening a language model: from a folder, from the hub's cache, from a GGUF file, or from bytes in
//! the program.

use crate::error::{Error, Result};
use crate::gguf::{self, GgufTensors};
use crate::models::{self, LanguageModel};
use crate::text::{TextFiles, TextModel};
use lazul_core::{Array, ByteSource, Quantization};
use lazul_io::{Gguf, ModelFolder, SafeTensors, json};
use lazul_nn::{Module, TensorSource, Weights};
use serde_json::Value;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

/// A language model with its tokenizer and configuration.
pub struct Checkpoint {
    /// Path, hub id or name that it was opened by.
    pub name: String,
    /// `config.json`, or what it would say for a GGUF file.
    pub config: Value,
    /// The network.
    pub model: Box<dyn LanguageModel>,
    /// Tokenizer, chat template and end tokens.
    pub text: TextModel,
}

impl std::fmt::Debug for Checkpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Checkpoint").field("name", &self.name).field("text", &self.text).finish()
    }
}

/// Files of a model by name, in the program's own memory.
pub type EmbeddedFiles = &'static [(&'static str, &'static [u8])];

struct Tensors(BTreeMap<String, Array>);

impl TensorSource for Tensors {
    fn tensor(&self, name: &str) -> lazul_core::Result<Option<Array>> {
        Ok(self.0.get(name).cloned())
    }
}

/// The names of the files that say how a model reads and writes text.
const TEXT_FILES: [&str; 8] = [
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "chat_template.json",
    "generation_config.json",
    "config.json",
];

fn text_model(bytes: &dyn Fn(&str) -> Result<Option<Vec<u8>>>) -> Result<TextModel> {
    let mut files: Vec<Option<Vec<u8>>> = Vec::new();
    for name in TEXT_FILES {
        // The SentencePiece model is asked for only where there is nothing newer.
        let skip = name == "tokenizer.model" && files.first().is_some_and(Option::is_some);
        files.push(if skip { None } else { bytes(name)? });
    }
    let at = |i: usize| files.get(i).and_then(Option::as_deref);
    Ok(TextModel::load(&TextFiles {
        tokenizer_json: at(0),
        tokenizer_model: at(1),
        tokenizer_config: at(2),
        special_tokens_map: at(3),
        chat_template: at(4),
        chat_template_json: at(5),
        generation_config: at(6),
        config: at(7),
    })?)
}

impl Checkpoint {
    /// Opens a model folder (Hugging Face or MLX layout), a GGUF file, or a model of the hub by its id.
    ///
    /// Weights are read when they are first used; call [`Checkpoint::preload`] to read them now.
    ///
    /// # Errors
    /// If a file is missing or malformed, or the architecture is not known.
    pub fn open(path_or_id: &str) -> Result<Checkpoint> {
        let path = Path::new(path_or_id);
        let gguf = path.extension().is_some_and(|end| end.eq_ignore_ascii_case("gguf"));
        if path.is_file() || gguf && !path.is_dir() {
            return Checkpoint::from_gguf(path_or_id, &Gguf::open(path)?);
        }
        Checkpoint::from_folder(path_or_id, &ModelFolder::open(path_or_id)?)
    }

    /// A model from a GGUF file that is open. Block-quantized matrices stay as they lie in the file.
    ///
    /// # Errors
    /// As [`Checkpoint::open`]; if a tensor is of a type that is not read.
    pub fn from_gguf(name: &str, file: &Gguf) -> Result<Checkpoint> {
        let config = gguf::config(file)?;
        let text = gguf::text(file)?;
        let tensors = GgufTensors::new(file)?;
        let used = RefCell::new(BTreeSet::new());
        let model = models::load(&config, &Weights::tracking(&tensors, &used))?;
        let used: BTreeSet<String> =
            used.into_inner().iter().map(|name| gguf::translated(name)).collect();
        warn_unused(name, &tensors.unused(&|name| used.contains(name)));
        Ok(Checkpoint { name: name.to_string(), config, model, text })
    }

    /// A model from a folder that is open.
    ///
    /// # Errors
    /// As [`Checkpoint::open`].
    pub fn from_folder(name: &str, folder: &ModelFolder) -> Result<Checkpoint> {
        let text = text_model(&|name| Ok(folder.bytes(name)?))?;
        let tensors = Tensors(folder.weights()?.arrays);
        Checkpoint::assemble(name, folder.config().clone(), &tensors, text)
    }

    /// A model whose files are part of the program.
    ///
    /// # Errors
    /// As [`Checkpoint::open`].
    pub fn embedded(name: &str, files: EmbeddedFiles) -> Result<Checkpoint> {
        let find = |wanted: &str| files.iter().find(|(n, _)| *n == wanted).map(|(_, bytes)| *bytes);
        let need = |wanted: &str| {
            find(wanted).ok_or_else(|| Error::Argument(format!("{name}: {wanted} is missing")))
        };
        let config = json::parse(need("config.json")?)?;
        let source: Arc<dyn ByteSource> = Arc::new(need("model.safetensors")?);
        let tensors = Tensors(SafeTensors::from_source(source)?.arrays()?);
        let text = text_model(&|name| Ok(find(name).map(<[u8]>::to_vec)))?;
        Checkpoint::assemble(name, config, &tensors, text)
    }

    fn assemble(
        name: &str,
        config: Value,
        tensors: &Tensors,
        text: TextModel,
    ) -> Result<Checkpoint> {
        check_quantization(&config)?;
        let used = RefCell::new(BTreeSet::new());
        let model = models::load(&config, &Weights::tracking(tensors, &used))?;
        let used = used.into_inner();
        let unused = tensors.0.keys().filter(|name| !used.contains(*name) && !is_harmless(name));
        warn_unused(name, &unused.map(String::as_str).collect::<Vec<_>>());
        Ok(Checkpoint { name: name.to_string(), config, model, text })
    }

    /// Reads all weights now.
    ///
    /// # Errors
    /// If a file cannot be read, or there is not enough memory.
    pub fn preload(&self) -> Result<()> {
        Ok(lazul_core::eval(self.model.parameters().into_iter().map(|(_, array)| array))?)
    }
}

fn warn_unused(name: &str, unused: &[&str]) {
    if let Some(first) = unused.first() {
        tracing::warn!("{name}: {} tensors are not used, {first} among them", unused.len());
    }
}

/// Tensors that checkpoints carry along and models compute themselves, or share.
fn is_harmless(name: &str) -> bool {
    name.ends_with("rotary_emb.inv_freq") || name.starts_with("lm_head.")
}

/// Refuses quantizations whose numbers would be taken for something else. How each matrix is quantized
/// its tensors tell; what the configuration says of it, on the whole or of one module, must exist.
fn check_quantization(config: &Value) -> Result<()> {
    let block = config.get("quantization").or_else(|| config.get("quantization_config"));
    let Some(Value::Object(block)) = block else { return Ok(()) };
    if let Some(method) = block.get("quant_method").and_then(Value::as_str) {
        return Err(Error::Config(format!("quantization by {method:?} is not known")));
    }
    let modules = block.values().filter_map(Value::as_object);
    for form in std::iter::once(block).chain(modules) {
        let bad = |key: &str, value: &Value| {
            Error::Config(format!("quantization: {key} is {value}, which is not known"))
        };
        let number = |key: &str| match form.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => {
                let number = value.as_u64().and_then(|n| u32::try_from(n).ok());
                number.map(Some).ok_or_else(|| bad(key, value))
            }
        };
        let mode = match form.get("mode") {
            None | Some(Value::Null) => "affine",
            Some(value) => value.as_str().ok_or_else(|| bad("mode", value))?,
        };
        Quantization::new(mode, number("group_size")?, number("bits")?)
            .map_err(|e| Error::Config(format!("quantization: {}", e.message())))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantizations_of_a_configuration() {
        let check =
            |block: Value| check_quantization(&serde_json::json!({ "quantization": block }));
        for good in [
            serde_json::json!({}),
            serde_json::json!({ "group_size": 64, "bits": 4 }),
            serde_json::json!({ "group_size": 32, "bits": 4, "mode": "mxfp4" }),
            serde_json::json!({ "mode": "nvfp4", "a.b": { "mode": "mxfp8", "bits": 8 }, "c": false }),
            serde_json::json!({ "bits": 1, "a.b": true, "c": { "group_size": 16, "mode": "nvfp4", "global_scale": true } }),
        ] {
            check(good.clone()).unwrap_or_else(|e| panic!("{good}: {e}"));
        }
        for bad in [
            serde_json::json!({ "bits": 7 }),
            serde_json::json!({ "bits": -4 }),
            serde_json::json!({ "bits": "4" }),
            serde_json::json!({ "bits": 1u64 << 33 }),
            serde_json::json!({ "mode": "nf4" }),
            serde_json::json!({ "mode": 4 }),
            serde_json::json!({ "group_size": 64, "bits": 4, "mode": "mxfp4" }),
            serde_json::json!({ "a.b": { "mode": "mxfp8", "bits": 4 } }),
            serde_json::json!({ "quant_method": "gptq", "bits": 4 }),
        ] {
            assert!(check(bad.clone()).is_err(), "{bad}");
        }
    }
}

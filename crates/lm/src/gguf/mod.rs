//! Language models from GGUF files: metadata as a configuration, tensors under the names of the
//! architecture, blocks as they lie in the file.
//!
//! The file has the rows of queries and keys in the order in which neighbouring features are turned
//! together, so they are turned so here (`rope_traditional`); no matrix is rearranged or unpacked. The
//! model computes in the dtype of the embedding, or in bfloat16 where that is made of blocks.

mod export;

pub use export::export_gguf;

use crate::error::{Error, Result};
use crate::text::{GgufVocab, TextModel};
use lazul_core::{Array, DType, Quantization, zeros};
use lazul_io::ErrorKind;
use lazul_io::gguf::{Gguf, GgufList, GgufTensorInfo};
use lazul_nn::TensorSource;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// The architectures that are read; further ones of the same family go by these names too.
const ARCHITECTURES: [&str; 1] = ["llama"];

/// The names of tensors: of a layer, and of the rest.
const LAYER: [(&str, &str); 9] = [
    ("self_attn.q_proj", "attn_q"),
    ("self_attn.k_proj", "attn_k"),
    ("self_attn.v_proj", "attn_v"),
    ("self_attn.o_proj", "attn_output"),
    ("mlp.gate_proj", "ffn_gate"),
    ("mlp.up_proj", "ffn_up"),
    ("mlp.down_proj", "ffn_down"),
    ("input_layernorm", "attn_norm"),
    ("post_attention_layernorm", "ffn_norm"),
];
const REST: [(&str, &str); 3] =
    [("model.embed_tokens", "token_embd"), ("model.norm", "output_norm"), ("lm_head", "output")];

/// The factors of wavelengths that a file may bring along.
const ROPE_FACTORS: &str = "rope_freqs.weight";

/// The name that a file gives a tensor of the model.
fn file_name(name: &str) -> Option<String> {
    let (path, kind) = name.rsplit_once('.')?;
    let find = |table: &[(&str, &str)], path: &str| {
        table.iter().find(|(ours, _)| *ours == path).map(|(_, theirs)| (*theirs).to_owned())
    };
    let path = match path.strip_prefix("model.layers.") {
        Some(rest) => {
            let (layer, path) = rest.split_once('.')?;
            format!("blk.{layer}.{}", find(&LAYER, path)?)
        }
        None => find(&REST, path)?,
    };
    Some(format!("{path}.{kind}"))
}

/// The tensors of a file under the names of the architecture.
#[derive(Debug)]
pub(crate) struct GgufTensors<'a> {
    file: &'a Gguf,
    dtype: DType,
}

impl<'a> GgufTensors<'a> {
    pub(crate) fn new(file: &'a Gguf) -> Result<GgufTensors<'a>> {
        let table = file.get("token_embd.weight")?.dtype()?;
        let blocks = file.info("token_embd.weight").and_then(GgufTensorInfo::blocks);
        let dtype = match (blocks, table) {
            (None, DType::F16 | DType::F32) => table,
            _ => DType::BF16,
        };
        Ok(GgufTensors { file, dtype })
    }

    fn find(&self, name: &str) -> Option<(String, &GgufTensorInfo)> {
        let name = file_name(name)?;
        self.file.info(&name).map(|info| (name, info))
    }

    /// The tensors that no model asks for.
    pub(crate) fn unused<'b>(&'b self, used: &'b dyn Fn(&str) -> bool) -> Vec<&'b str> {
        self.file.names().filter(|name| *name != ROPE_FACTORS && !used(name)).collect()
    }
}

/// The file's name for a name that the model has asked for.
pub(crate) fn translated(name: &str) -> String {
    file_name(name).unwrap_or_default()
}

fn load_error(error: lazul_io::Error) -> lazul_core::Error {
    let kind = match error.kind() {
        ErrorKind::Unsupported => lazul_core::ErrorKind::DType,
        _ => lazul_core::ErrorKind::Value,
    };
    lazul_core::Error::new(kind, "load", error.to_string())
}

impl TensorSource for GgufTensors<'_> {
    fn tensor(&self, name: &str) -> lazul_core::Result<Option<Array>> {
        let Some((found, info)) = self.find(name) else {
            // Where some projections of attention have biases, those of the others are zero.
            let twin = name.strip_suffix(".bias").map(|path| format!("{path}.weight"));
            let twin = twin.and_then(|twin| self.find(&twin));
            return Ok(twin.map(|(_, info)| zeros([info.shape()[0]], self.dtype)));
        };
        if info.blocks().is_some() && info.shape().len() > 1 {
            return Ok(Some(self.file.quantized(&found).map_err(load_error)?.codes));
        }
        // Norms and biases are f32 in most files.
        let array = self.file.get(&found).map_err(load_error)?;
        Ok(Some(if array.dtype()? == self.dtype { array } else { array.astype(self.dtype) }))
    }

    fn form(&self, name: &str) -> Option<Quantization> {
        let (_, info) = self.find(name)?;
        info.blocks().filter(|_| info.shape().len() > 1).map(Quantization::Blocks)
    }
}

/// What `config.json` would say of the model.
pub(crate) fn config(file: &Gguf) -> Result<Value> {
    let Some(arch) = file.text("general.architecture")? else {
        let what = format!("{}: general.architecture is missing: not a model", file.describe());
        return Err(Error::Argument(what));
    };
    if !ARCHITECTURES.contains(&arch) {
        let known = ARCHITECTURES.join(", ");
        let why = format!("{}: the architecture {arch:?} is not one of {known}", file.describe());
        return Err(Error::Argument(why));
    }
    let key = |name: &str| format!("{arch}.{name}");
    let count = |name: &str| file.count(&key(name));
    let needed = |name: &str| -> Result<u64> {
        match count(name)? {
            Some(n) => Ok(n),
            None => Err(file.wrong(&key(name), "is missing").into()),
        }
    };
    let float = |name: &str| file.float(&key(name));
    if count("expert_count")?.is_some_and(|n| n > 0) {
        let why = format!("{}: mixtures of experts are not read yet", file.describe());
        return Err(Error::Argument(why));
    }
    let mut config = Map::new();
    let mut put = |name: &str, value: Value| config.insert(name.to_owned(), value);
    put("model_type", json!(arch));
    put("hidden_size", json!(needed("embedding_length")?));
    put("num_hidden_layers", json!(needed("block_count")?));
    put("intermediate_size", json!(each_layer(file, &key("feed_forward_length"))?));
    let heads = each_layer(file, &key("attention.head_count"))?;
    put("num_attention_heads", json!(heads));
    let kv_heads = match file.value(&key("attention.head_count_kv")) {
        None => heads,
        Some(_) => each_layer(file, &key("attention.head_count_kv"))?,
    };
    put("num_key_value_heads", json!(kv_heads));
    let hidden = needed("embedding_length")?;
    let head = match (count("attention.key_length")?, heads) {
        (Some(length), _) => length,
        (None, 0) => return Err(file.wrong(&key("attention.head_count"), "is 0").into()),
        (None, heads) if hidden % heads == 0 => hidden / heads,
        (None, heads) => {
            let why = format!("{heads} does not divide the {hidden} features");
            return Err(file.wrong(&key("attention.head_count"), why).into());
        }
    };
    put("head_dim", json!(head));
    for name in ["attention.value_length", "rope.dimension_count"] {
        if let Some(n) = count(name)?
            && n != head
        {
            let why = format!("is {n}; only the {head} of a whole head are possible");
            return Err(file.wrong(&key(name), why).into());
        }
    }
    let eps = "attention.layer_norm_rms_epsilon";
    match float(eps)? {
        Some(x) if x > 0.0 => put("rms_norm_eps", json!(x)),
        Some(x) => return Err(file.wrong(&key(eps), format!("is {x}, not above zero")).into()),
        None => return Err(file.wrong(&key(eps), "is missing").into()),
    };
    let context = count("context_length")?.unwrap_or(2048);
    put("max_position_embeddings", json!(context));
    if let Some(window) = count("attention.sliding_window")?.filter(|&n| n > 0) {
        put("sliding_window", json!(window));
    }
    put("rope_theta", json!(float("rope.freq_base")?.unwrap_or(10_000.0)));
    put("rope_traditional", json!(true));
    let vocab = file.info("token_embd.weight").map(GgufTensorInfo::shape);
    let rows = match vocab {
        Some(&[rows, _]) => rows,
        _ => {
            let why = format!("{}: token_embd.weight is missing or no matrix", file.describe());
            return Err(Error::Argument(why));
        }
    };
    put("vocab_size", json!(rows));
    let has = |name: &str| file.info(name).is_some();
    put("tie_word_embeddings", json!(!has("output.weight")));
    put("attention_bias", json!(has("blk.0.attn_q.bias")));
    put("mlp_bias", json!(has("blk.0.ffn_up.bias")));
    put("num_parameters", json!(parameters(file)));
    let formats = block_formats(file);
    if !formats.is_empty() {
        put("quantization", json!({ "mode": formats.join(", "), "format": "gguf" }));
    }
    if let Some(scaling) = rope_scaling(file, arch, context)? {
        put("rope_scaling", scaling);
    }
    Ok(Value::Object(config))
}

/// Elements of all tensors that are parameters.
fn parameters(file: &Gguf) -> usize {
    let tensors = file.names().filter(|name| *name != ROPE_FACTORS).filter_map(|n| file.info(n));
    tensors.map(|info| info.shape().iter().product::<usize>()).fold(0, usize::saturating_add)
}

/// The block formats of a file, those of most bytes first.
fn block_formats(file: &Gguf) -> Vec<&'static str> {
    let mut bytes: BTreeMap<&'static str, u64> = BTreeMap::new();
    for info in file.names().filter_map(|name| file.info(name)) {
        if let Some(format) = info.blocks() {
            let sum = bytes.entry(format.name()).or_default();
            *sum = sum.saturating_add(info.bytes());
        }
    }
    let mut formats: Vec<(&'static str, u64)> = bytes.into_iter().collect();
    formats.sort_by_key(|&(_, bytes)| std::cmp::Reverse(bytes));
    formats.into_iter().map(|(name, _)| name).collect()
}

/// A count that may be given for each layer, and must be the same for all.
fn each_layer(file: &Gguf, key: &str) -> Result<u64> {
    let list = match file.value(key) {
        Some(value) if value.count().is_none() => file.list(key)?.and_then(GgufList::integers),
        Some(_) => return Ok(file.count(key)?.unwrap_or(0)),
        None => return Err(file.wrong(key, "is missing").into()),
    };
    let first = list.as_ref().and_then(|list| list.first().copied());
    match (list, first.map(u64::try_from)) {
        (Some(list), Some(Ok(n))) if list.iter().all(|&x| Some(x) == first) => Ok(n),
        _ => Err(file.wrong(key, "differs between layers, or is no count").into()),
    }
}

/// How rotary embeddings are stretched.
fn rope_scaling(file: &Gguf, arch: &str, context: u64) -> Result<Option<Value>> {
    let key = |name: &str| format!("{arch}.rope.{name}");
    let kind = match file.text(&key("scaling.type"))? {
        Some(kind) => kind,
        // The form of the oldest files.
        None if file.float(&key("scale_linear"))?.is_some() => "linear",
        None => "none",
    };
    let factor = match file.float(&key("scaling.factor"))? {
        None => file.float(&key("scale_linear"))?.unwrap_or(0.0),
        Some(factor) => factor,
    };
    // As in llama.cpp, 0 stands for no stretching.
    let factor = if factor == 0.0 { 1.0 } else { factor };
    let factors = match file.info(ROPE_FACTORS) {
        Some(_) => {
            let factors = file.get(ROPE_FACTORS)?.astype(DType::F32).to_vec::<f32>()?;
            Some(factors)
        }
        None => None,
    };
    let original =
        file.count(&key("scaling.original_context_length"))?.filter(|&n| n > 0).unwrap_or(context);
    Ok(match (kind, factors) {
        ("none", None) => None,
        ("none", Some(factors)) => Some(json!({ "rope_type": "factors", "factors": factors })),
        ("linear", None) => Some(json!({ "rope_type": "linear", "factor": factor })),
        ("yarn", None) => {
            let sharpen = 1.0 + 0.1 * factor.max(1.0).ln();
            let attention = file.float(&key("scaling.attn_factor"))?.unwrap_or(1.0);
            Some(json!({
                "rope_type": "yarn",
                "factor": factor,
                "original_max_position_embeddings": original,
                "attention_factor": attention * sharpen,
            }))
        }
        (other, factors) => {
            let with = if factors.is_some() { ", with rope_freqs" } else { "" };
            let why = format!("{other:?}{with} is not known");
            return Err(file.wrong(&key("scaling.type"), why).into());
        }
    })
}

/// How the model reads and writes text.
pub(crate) fn text(file: &Gguf) -> Result<TextModel> {
    let key = |name: &str| format!("tokenizer.ggml.{name}");
    let Some(model) = file.text(&key("model"))? else {
        return Err(Error::Argument(format!("{}: there is no tokenizer", file.describe())));
    };
    let id = |name: &str| -> Result<Option<u32>> {
        let Some(n) = file.count(&key(name))? else { return Ok(None) };
        // All bits set mean none.
        if n == u64::from(u32::MAX) {
            return Ok(None);
        }
        match u32::try_from(n) {
            Ok(n) => Ok(Some(n)),
            Err(_) => Err(file.wrong(&key(name), format!("is {n}, not a token")).into()),
        }
    };
    let spm = model == "llama";
    let or = |id: Option<u32>, default: u32| id.or(spm.then_some(default));
    let tokens = file.texts(&key("tokens"))?;
    let tokens: Vec<&[u8]> = tokens.map(|list| list.iter().collect()).unwrap_or_default();
    let types = match file.list(&key("token_type"))? {
        Some(list) => match list.integers() {
            Some(types) => Some(types),
            None => return Err(file.wrong(&key("token_type"), "must be integers").into()),
        },
        None => None,
    };
    let mut ends = Vec::new();
    for name in ["eot_token_id", "eom_token_id"] {
        ends.extend(id(name)?);
    }
    let (first, second) = (or(id("bos_token_id")?, 1), or(id("eos_token_id")?, 2));
    let known = |id: Option<u32>| id.filter(|_| tokens.len() > 2 || !spm);
    let mut templates = Vec::new();
    let names = file.texts("tokenizer.chat_templates")?;
    let names: Vec<String> = names
        .map(|list| list.iter().map(|name| String::from_utf8_lossy(name).into_owned()).collect())
        .unwrap_or_default();
    let named: Vec<(String, String)> =
        names.into_iter().map(|name| (format!("tokenizer.chat_template.{name}"), name)).collect();
    if let Some(template) = file.text("tokenizer.chat_template")? {
        templates.push(("default", template));
    }
    for (key, name) in &named {
        if let Some(template) = file.text(key)?
            && name != "default"
        {
            templates.push((name.as_str(), template));
        }
    }
    let vocab = GgufVocab {
        model,
        pre: file.text(&key("pre"))?,
        scores: file.floats(&key("scores"))?,
        types,
        merges: file.texts(&key("merges"))?.map(|list| list.iter().collect()),
        bos: known(first),
        eos: known(second),
        unk: or(id("unknown_token_id")?, 0),
        pad: id("padding_token_id")?,
        ends,
        add_bos: file.flag(&key("add_bos_token"))?,
        add_eos: file.flag(&key("add_eos_token"))?,
        add_space_prefix: file.flag(&key("add_space_prefix"))?,
        remove_extra_whitespaces: file.flag(&key("remove_extra_whitespaces"))?,
        templates,
        tokens,
    };
    let rows = file.info("token_embd.weight").and_then(|info| info.shape().first().copied());
    if rows.is_some_and(|rows| vocab.tokens.len() > rows) {
        let why = format!(
            "has {} tokens, more than the {} rows of the embedding",
            vocab.tokens.len(),
            rows.unwrap_or(0)
        );
        return Err(file.wrong(&key("tokens"), why).into());
    }
    Ok(TextModel::from_gguf(&vocab)?)
}

//! Language models as GGUF files, for llama.cpp and what is built on it.
//!
//! Matrices are f16, norms and biases f32. The rows of queries and keys are put in the order of the format, in which
//! neighbouring features are turned together. The vocabulary comes from `tokenizer.json`: byte-level merges as
//! `gpt2`, those over pieces with `▁` as `llama`, where a piece scores higher the earlier its merge comes.

use crate::config::Fields;
use crate::error::{Error, Result};
use crate::models::LanguageModel;
use crate::text::{TextModel, pre_tokenizer_name};
use lazul_core::{Array, DType};
use lazul_io::gguf::{GgufList, GgufValue, save_gguf};
use lazul_io::json;
use lazul_nn::{Matrix, Module, Weight};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

fn bad(why: impl Into<String>) -> Error {
    Error::Argument(why.into())
}

/// Writes a model of the Llama family with its vocabulary. `config` is its `config.json`, and `file` gives the
/// bytes of `tokenizer.json`, `tokenizer_config.json` and `chat_template.jinja`, where they are. Quantized matrices
/// are written as they would be dense.
///
/// ```no_run
/// use lazul_io::ModelFolder;
/// use lazul_lm::{Checkpoint, export_gguf};
/// let folder = ModelFolder::open("my-model")?;
/// let model = Checkpoint::from_folder("my-model", &folder)?;
/// let file = |name: &str| Ok(folder.bytes(name)?);
/// export_gguf(&*model.model, &model.config, &model.text, &file, "my-model.gguf".as_ref())?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// If the model is of another family, has adapters that are not merged, or a vocabulary that the format does not
/// have; if the file cannot be written.
pub fn export_gguf(
    model: &dyn LanguageModel,
    config: &Value,
    text: &TextModel,
    file: &dyn Fn(&str) -> Result<Option<Vec<u8>>>,
    path: &Path,
) -> Result<()> {
    let kind = config.get("model_type").and_then(Value::as_str).unwrap_or_default();
    if !["llama", "mistral"].contains(&kind) {
        return Err(bad(format!("model type {kind:?} has no form in GGUF here")));
    }
    let read = |name: &str| -> Result<Option<Value>> {
        file(name)?.map(|bytes| Ok(json::parse(&bytes)?)).transpose()
    };
    let none = || bad("a vocabulary comes from tokenizer.json, which is not there");
    let tokenizer = read("tokenizer.json")?.ok_or_else(none)?;
    let settings = read("tokenizer_config.json")?.unwrap_or(Value::Null);
    let template = match file("chat_template.jinja")? {
        Some(bytes) => String::from_utf8(bytes).ok(),
        None => settings.get("chat_template").and_then(Value::as_str).map(str::to_string),
    };
    let mut metadata = architecture(config, model.vocab_size())?;
    metadata.extend(vocabulary(&tokenizer, text, model.vocab_size())?);
    metadata.extend(template.map(|t| ("tokenizer.chat_template", GgufValue::Text(t))));
    let arrays = tensors(model, config)?;
    Ok(save_gguf(path, &arrays, &metadata)?)
}

/// What the file says of the architecture.
fn architecture(config: &Value, tokens: usize) -> Result<Vec<(&'static str, GgufValue)>> {
    let fields = Fields::new(config, "");
    let count = |name: &str| -> Result<u32> { Ok(fields.required_count(name)? as u32) };
    let (hidden, heads) = (count("hidden_size")?, count("num_attention_heads")?);
    let kv_heads = fields.count("num_key_value_heads", 1)?.map_or(heads, |n| n as u32);
    let head = fields.count("head_dim", 1)?.map_or(hidden / heads, |n| n as u32);
    let context = fields.count("max_position_embeddings", 1)?.unwrap_or(2048) as u32;
    // As `Rope::from_config` reads it.
    let block = fields.get("rope_parameters").or_else(|| fields.get("rope_scaling"));
    let rope = Fields::new(block.unwrap_or(&Value::Null), "rope_scaling.");
    let base = rope.positive("rope_theta", fields.positive("rope_theta", 1e4)?)?;
    let kind = match rope.text("rope_type")? {
        Some(kind) => kind,
        None => rope.text("type")?.unwrap_or("default"),
    };
    let factor = match kind {
        "default" => 1.0,
        "linear" => rope.positive("factor", 1.0)?,
        _ => return Err(bad(format!("rope_scaling {kind:?} is not written to GGUF"))),
    };
    let name = config.get("_name_or_path").and_then(Value::as_str).unwrap_or("llama");
    let text = |text: &str| GgufValue::Text(text.to_string());
    let mut all = vec![
        ("general.architecture", text("llama")),
        ("general.name", text(name.rsplit('/').next().unwrap_or(name))),
        // Mostly f16.
        ("general.file_type", GgufValue::U32(1)),
        ("general.quantization_version", GgufValue::U32(2)),
        ("llama.context_length", GgufValue::U32(context)),
        ("llama.embedding_length", GgufValue::U32(hidden)),
        ("llama.block_count", GgufValue::U32(count("num_hidden_layers")?)),
        ("llama.feed_forward_length", GgufValue::U32(count("intermediate_size")?)),
        ("llama.attention.head_count", GgufValue::U32(heads)),
        ("llama.attention.head_count_kv", GgufValue::U32(kv_heads)),
        ("llama.attention.key_length", GgufValue::U32(head)),
        ("llama.attention.value_length", GgufValue::U32(head)),
        ("llama.rope.dimension_count", GgufValue::U32(head)),
        ("llama.vocab_size", GgufValue::U32(tokens as u32)),
        (
            "llama.attention.layer_norm_rms_epsilon",
            GgufValue::F32(fields.positive("rms_norm_eps", 1e-6)? as f32),
        ),
        ("llama.rope.freq_base", GgufValue::F32(base as f32)),
    ];
    if let Some(window) = fields.count("sliding_window", 1)? {
        all.push(("llama.attention.sliding_window", GgufValue::U32(window as u32)));
    }
    if factor != 1.0 {
        all.push(("llama.rope.scaling.type", text("linear")));
        all.push(("llama.rope.scaling.factor", GgufValue::F32(factor as f32)));
    }
    Ok(all)
}

/// Kinds of tokens.
const NORMAL: i32 = 1;
const UNKNOWN: i32 = 2;
const CONTROL: i32 = 3;
const USER: i32 = 4;
const UNUSED: i32 = 5;
const BYTE: i32 = 6;

/// What the file says of the vocabulary: a token for each of `rows` of the embedding.
fn vocabulary(
    json: &Value,
    text: &TextModel,
    rows: usize,
) -> Result<Vec<(&'static str, GgufValue)>> {
    let model = &json["model"];
    let vocab = model["vocab"].as_object().filter(|_| model["type"] == "BPE");
    let vocab = vocab.ok_or_else(|| bad("tokenizer.json is not of byte pairs (BPE)"))?;
    let pair = |merge: &Value| -> Option<[String; 2]> {
        let both = match merge {
            Value::String(text) => text.split_once(' ').map(|(a, b)| [a, b]),
            Value::Array(two) => two.first()?.as_str().zip(two.get(1)?.as_str()).map(Into::into),
            _ => None,
        };
        both.map(|both| both.map(str::to_string))
    };
    let merges: Option<Vec<[String; 2]>> =
        model["merges"].as_array().map_or(Some(Vec::new()), |all| all.iter().map(pair).collect());
    let merges = merges.ok_or_else(|| bad("tokenizer.json has a merge that is no pair"))?;
    let mut tokens = vec![String::new(); rows];
    let mut kinds = vec![UNUSED; rows];
    let mut put = |id: Option<u64>, token: &str, kind: i32| -> Result<()> {
        let slot = id.and_then(|id| usize::try_from(id).ok()).filter(|&id| id < rows);
        let slot = slot.ok_or_else(|| bad(format!("{token:?} is no token of the model")))?;
        (tokens[slot], kinds[slot]) = (token.to_string(), kind);
        Ok(())
    };
    let is_byte = |t: &str| t.len() == 6 && t.starts_with("<0x") && t.ends_with('>');
    let pieces = model["byte_fallback"] == true;
    for (token, id) in vocab {
        put(id.as_u64(), token, if pieces && is_byte(token) { BYTE } else { NORMAL })?;
    }
    for added in json["added_tokens"].as_array().into_iter().flatten() {
        let token = added["content"].as_str().unwrap_or_default();
        let unknown = model["unk_token"] == token && !token.is_empty();
        let kind = match added["special"] == true {
            true if unknown => UNKNOWN,
            true => CONTROL,
            false => USER,
        };
        put(added["id"].as_u64(), token, kind)?;
    }
    for (id, token) in tokens.iter_mut().enumerate().filter(|(id, _)| kinds[*id] == UNUSED) {
        *token = format!("[PAD{id}]");
    }
    let ids = text.tokenizer().special_ids();
    let starts = text.tokenizer().encode("a", true)?.first().copied();
    let plain = text.tokenizer().encode("a", false)?.first().copied();
    let mut all = Vec::new();
    if pieces {
        // The score of a piece is what the merge is worth that makes it.
        let rank: BTreeMap<String, usize> =
            merges.iter().enumerate().rev().map(|(i, [a, b])| (format!("{a}{b}"), i)).collect();
        let score = |t: &String| rank.get(t).map_or(-1e6, |&i| -(i as f32));
        let scores = tokens.iter().map(score).collect();
        all.push(("tokenizer.ggml.model", GgufValue::Text("llama".to_string())));
        all.push(("tokenizer.ggml.scores", GgufValue::List(GgufList::F32(scores))));
        let prefix = json["normalizer"].to_string().contains("Prepend")
            || json["pre_tokenizer"]["prepend_scheme"].as_str().is_some_and(|s| s != "never");
        all.push(("tokenizer.ggml.add_space_prefix", GgufValue::Bool(prefix)));
    } else {
        let pre = pre_tokenizer_name(&json["pre_tokenizer"])
            .ok_or_else(|| bad("tokenizer.json cuts texts in a way that GGUF has no name for"))?;
        let merges = merges.iter().map(|[a, b]| format!("{a} {b}")).collect();
        all.push(("tokenizer.ggml.model", GgufValue::Text("gpt2".to_string())));
        all.push(("tokenizer.ggml.pre", GgufValue::Text(pre.to_string())));
        all.push(("tokenizer.ggml.merges", GgufValue::List(GgufList::Text(merges))));
    }
    let tokens = tokens.iter().collect();
    all.push(("tokenizer.ggml.tokens", GgufValue::List(GgufList::Text(tokens))));
    all.push(("tokenizer.ggml.token_type", GgufValue::List(GgufList::I32(kinds))));
    let begins = ids.bos.is_some() && starts == ids.bos && plain != ids.bos;
    all.push(("tokenizer.ggml.add_bos_token", GgufValue::Bool(begins)));
    for (key, id) in [
        ("tokenizer.ggml.bos_token_id", ids.bos),
        ("tokenizer.ggml.eos_token_id", ids.eos),
        ("tokenizer.ggml.unknown_token_id", ids.unk),
        ("tokenizer.ggml.padding_token_id", ids.pad),
    ] {
        all.extend(id.map(|id| (key, GgufValue::U32(id))));
    }
    Ok(all)
}

/// The model's arrays by the file's names, in its order and dtypes.
fn tensors(model: &dyn LanguageModel, config: &Value) -> Result<BTreeMap<String, Array>> {
    let fields = Fields::new(config, "");
    let heads = fields.required_count("num_attention_heads")?;
    let kv_heads = fields.count("num_key_value_heads", 1)?.unwrap_or(heads);
    // Rows that are in the format's order already.
    let traditional = fields.flag("rope_traditional", false)?;
    // Dense matrices, without what fine-tuning put beside them.
    let mut dense = model.clone_model();
    let mut adapted = false;
    dense.matrices_mut(&mut |_, matrix| {
        let (weight, adapter) = match matrix {
            Matrix::Linear(linear) => (&mut linear.weight, &linear.adapter),
            Matrix::Embedding(table) => (&mut table.weight, &table.adapter),
        };
        adapted |= adapter.is_some();
        *weight = Weight::Dense(weight.dense());
    });
    if adapted {
        return Err(bad("adapters are merged before a model is written to GGUF"));
    }
    let mut all = BTreeMap::new();
    for (name, array) in dense.parameters() {
        let file_name =
            super::file_name(&name).ok_or_else(|| bad(format!("{name} has no name in GGUF")))?;
        let array = match () {
            () if traditional => array.clone(),
            () if name.contains("self_attn.q_proj") => turned(array, heads)?,
            () if name.contains("self_attn.k_proj") => turned(array, kv_heads)?,
            () => array.clone(),
        };
        let dtype = if array.ndim()? > 1 { DType::F16 } else { DType::F32 };
        all.insert(file_name, array.astype(dtype));
    }
    Ok(all)
}

/// Rows `(heads * d, …)`, of which those of the two halves of a head are turned together, so that neighbours are.
fn turned(rows: &Array, heads: usize) -> Result<Array> {
    let shape = rows.shape()?.to_vec();
    let half = shape[0] / heads / 2;
    Ok(rows.unflatten(0, [heads, 2, half]).swapaxes(1, 2).reshape(shape))
}

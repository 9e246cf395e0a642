//! `lazul info`: what a model is and what it needs.

use crate::args::InfoArgs;
use crate::{open, output};
use lazul_lm::Checkpoint;
use lazul_nn::Module;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::process::ExitCode;

pub(crate) fn run(args: InfoArgs) -> anyhow::Result<ExitCode> {
    let name = args.model.or(args.model_flag);
    let checkpoint = open::by_name(name.as_deref())?;
    let context = args.context.unwrap_or_else(|| {
        let made_for = checkpoint.config.get("max_position_embeddings").and_then(Value::as_u64);
        made_for.map_or(4096, |n| n.min(4096) as usize)
    });
    let facts = Facts::of(&checkpoint, context)?;
    let text = if args.json {
        format!("{}\n", facts.to_json(&checkpoint))
    } else {
        facts.to_text(&checkpoint)
    };
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

struct Facts {
    parameters: usize,
    bytes: usize,
    dtypes: BTreeMap<String, usize>,
    context: usize,
    cache_bytes: usize,
}

impl Facts {
    fn of(checkpoint: &Checkpoint, context: usize) -> anyhow::Result<Facts> {
        let quantized = quantization(&checkpoint.config);
        let bits = quantized.and_then(|q| q.get("bits")).and_then(Value::as_u64).filter(|&b| b > 0);
        let bits = bits.unwrap_or(4) as usize;
        let parameters = checkpoint.model.parameters();
        let names: BTreeMap<&str, &lazul_core::Array> =
            parameters.iter().map(|(name, array)| (name.as_str(), *array)).collect();
        let mut count = 0;
        let mut bytes = 0;
        let mut dtypes: BTreeMap<String, usize> = BTreeMap::new();
        for (name, array) in &names {
            let size = array.nbytes()?;
            bytes += size;
            *dtypes.entry(array.dtype()?.to_string()).or_default() += size;
            let base = name.strip_suffix("weight").unwrap_or(name);
            let is_codes =
                name.ends_with("weight") && names.contains_key(format!("{base}scales").as_str());
            let is_group = name.ends_with("scales") || name.ends_with("biases");
            if is_codes {
                // Words of 32 bits; the groups tell how many codes they hold.
                count += array.size()? * 32 / bits;
            } else if !is_group {
                count += array.size()?;
            }
        }
        let config = &checkpoint.config;
        // A GGUF file says it itself: its blocks are bytes here.
        if let Some(known) = config.get("num_parameters").and_then(Value::as_u64) {
            count = known as usize;
        }
        let number = |key: &str| config.get(key).and_then(Value::as_u64).unwrap_or(0) as usize;
        let heads = number("num_attention_heads").max(1);
        let kv_heads =
            if number("num_key_value_heads") > 0 { number("num_key_value_heads") } else { heads };
        let head =
            if number("head_dim") > 0 { number("head_dim") } else { number("hidden_size") / heads };
        // Keys and values of all layers, in two bytes each unless the model computes in f32.
        let width = if dtypes.contains_key("float32") { 4 } else { 2 };
        let position = 2 * number("num_hidden_layers") * kv_heads * head * width;
        let cache_bytes = position.saturating_mul(context);
        Ok(Facts { parameters: count, bytes, dtypes, context, cache_bytes })
    }

    fn to_text(&self, checkpoint: &Checkpoint) -> String {
        let config = &checkpoint.config;
        let show = |key: &str| match config.get(key) {
            Some(Value::String(text)) => text.clone(),
            Some(value) if !value.is_null() => value.to_string(),
            _ => "-".to_string(),
        };
        let mut out = String::new();
        let mut line = |label: &str, value: String| {
            let _ = writeln!(out, "{label:<16}{value}"); // a String takes everything
        };
        line("model", checkpoint.name.clone());
        line("architecture", show("model_type"));
        let size = self.parameters as f64;
        let size = match size {
            _ if size >= 1e9 => format!("{:.2} billion", size / 1e9),
            _ if size >= 1e6 => format!("{:.1} million", size / 1e6),
            _ => self.parameters.to_string(),
        };
        line("parameters", size);
        line("layers", show("num_hidden_layers"));
        line("hidden size", show("hidden_size"));
        let kv = if show("num_key_value_heads") == "-" {
            show("num_attention_heads")
        } else {
            show("num_key_value_heads")
        };
        line("heads", format!("{} query, {kv} key/value", show("num_attention_heads")));
        line("vocabulary", show("vocab_size"));
        line("context", format!("{} tokens", show("max_position_embeddings")));
        line(
            "quantization",
            match quantization(config) {
                Some(q) if q.get("format").and_then(Value::as_str) == Some("gguf") => {
                    let mode = q.get("mode").and_then(Value::as_str).unwrap_or("-");
                    format!("{mode}, blocks of GGUF")
                }
                Some(q) => {
                    let field = |key: &str| q.get(key).map_or("-".to_string(), Value::to_string);
                    let mode = q.get("mode").and_then(Value::as_str).unwrap_or("affine");
                    format!("{mode}, {} bits in groups of {}", field("bits"), field("group_size"))
                }
                None => "none".to_string(),
            },
        );
        let parts: Vec<String> =
            self.dtypes.iter().map(|(d, b)| format!("{} {d}", output::bytes(*b))).collect();
        line("weights", format!("{} ({})", output::bytes(self.bytes), parts.join(", ")));
        line(
            "memory needed",
            format!(
                "{} with {} tokens of context ({} for keys and values)",
                output::bytes(self.bytes.saturating_add(self.cache_bytes)),
                self.context,
                output::bytes(self.cache_bytes)
            ),
        );
        let template = if checkpoint.text.template().is_some() { "yes" } else { "no" };
        line("chat template", template.to_string());
        out
    }

    fn to_json(&self, checkpoint: &Checkpoint) -> Value {
        json!({
            "model": checkpoint.name,
            "model_type": checkpoint.config.get("model_type"),
            "parameters": self.parameters,
            "weight_bytes": self.bytes,
            "bytes_by_dtype": self.dtypes,
            "quantization": quantization(&checkpoint.config),
            "context": self.context,
            "cache_bytes": self.cache_bytes,
            "memory_needed": self.bytes.saturating_add(self.cache_bytes),
            "chat_template": checkpoint.text.template().is_some(),
        })
    }
}

fn quantization(config: &Value) -> Option<&Value> {
    config
        .get("quantization")
        .or_else(|| config.get("quantization_config"))
        .filter(|q| q.is_object())
}

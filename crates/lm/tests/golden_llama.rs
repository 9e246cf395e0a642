//! The Llama family against transformers and mlx-lm: logits for prefill, chunked prefill and steps, and
//! greedy tokens, on tiny random checkpoints.

use lazul_core::prelude::*;
use lazul_core::{Result, quantization};
use lazul_io::{ModelFolder, SafeTensors, json};
use lazul_lm::generate::{GenerateOptions, Tokens};
use lazul_lm::models::{self, LanguageModel};
use lazul_nn::Weights;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;

fn golden() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../testkit/golden/llama")
}

struct Reference {
    cases: Vec<Value>,
    tensors: SafeTensors,
}

impl Reference {
    fn open() -> Reference {
        let text = std::fs::read(golden().join("reference.json")).unwrap();
        let all: Value = serde_json::from_slice(&text).unwrap();
        Reference {
            cases: all["cases"].as_array().unwrap().clone(),
            tensors: SafeTensors::open(golden().join("reference.safetensors")).unwrap(),
        }
    }

    fn tensor(&self, case: &Value, key: &str) -> Array {
        self.tensors.get(case[key].as_str().unwrap()).unwrap()
    }
}

type Tensors = BTreeMap<String, Array>;

/// A folder's tensors, float ones in `dtype`.
fn tensors(folder: &ModelFolder, dtype: DType) -> Tensors {
    let cast = |array: Array| match array.dtype().unwrap() {
        DType::U32 | DType::U8 => array,
        _ => array.astype(dtype),
    };
    let arrays = folder.weights().unwrap().arrays;
    arrays.into_iter().map(|(name, array)| (name, cast(array))).collect()
}

/// The model of a case, made as the reference made its own.
fn model(case: &Value) -> Box<dyn LanguageModel> {
    let base = case["folder"].as_str().or(case["base"].as_str()).unwrap();
    let folder = ModelFolder::open_dir(golden().join(base)).unwrap();
    let config = match case["config"].as_str() {
        Some(name) => json::parse(&std::fs::read(golden().join(base).join(name)).unwrap()).unwrap(),
        None => folder.config().clone(),
    };
    let bf16 = case["compute"] == "bfloat16";
    let mut tensors = tensors(&folder, if bf16 { DType::BF16 } else { DType::F32 });
    if case["folder"].is_null() {
        let number = |key: &str| case[key].as_u64().unwrap() as u32;
        let form = quantization(number("group_size"), number("bits")).unwrap();
        let matrices: Vec<String> = tensors
            .iter()
            .filter(|(_, a)| a.ndim().unwrap() == 2)
            .filter(|(_, a)| a.dim(-1).unwrap() % form.group_size() == 0)
            .map(|(name, _)| name.clone())
            .collect();
        for name in matrices {
            let q = tensors[&name].quantize(form).unwrap();
            let path = name.strip_suffix("weight").unwrap();
            tensors.insert(format!("{path}scales"), q.scales.unwrap());
            tensors.insert(format!("{path}biases"), q.biases.unwrap());
            tensors.insert(name, q.codes);
        }
    }
    models::load(&config, &Weights::new(&tensors)).unwrap()
}

/// Logits `(t, vocabulary)` with the prompt given in pieces of `chunk`.
fn logits(model: &dyn LanguageModel, ids: &[u32], chunk: usize) -> Result<Array> {
    let mut cache = model.new_cache();
    let mut parts = Vec::new();
    for part in ids.chunks(chunk) {
        let tokens = Array::from_slice(part, [1, part.len()]);
        parts.push(model.forward(&tokens, &mut cache)?.astype(DType::F32).squeeze(0));
    }
    Ok(concatenate(&parts, 0))
}

/// Largest difference over the largest reference value.
fn apart(a: &Array, b: &Array) -> Result<f32> {
    let scale = b.abs().max(..).item::<f32>()?;
    Ok((a - b).abs().max(..).item::<f32>()? / scale)
}

#[test]
fn logits_equal_the_reference() -> Result<()> {
    let reference = Reference::open();
    let mut lines = Vec::new();
    for case in &reference.cases {
        let ids: Vec<u32> =
            reference.tensor(case, "ids").reshape([-1]).astype(DType::U32).to_vec()?;
        let expected = reference.tensor(case, "logits").astype(DType::F32);
        let expected = expected.reshape([-1, expected.dim(-1)? as i64]);
        let rows = expected.dim(0)? as i64;
        let model = model(case);
        let bound = if case["compute"] == "bfloat16" { 2e-2 } else { 1e-4 };
        // Frequencies that depend on length make chunks a different computation.
        let chunks: &[usize] = if case["id"] == "rope.dynamic" { &[4096] } else { &[4096, 7, 1] };
        for &chunk in chunks {
            let ours = logits(&*model, &ids, chunk)?.slice_axis(0, -rows, None);
            let against = match case["compute"] == "bfloat16" {
                // Another bfloat16 rounds elsewhere; the float32 logits are the truth of both.
                true => reference.tensor(case, "float32_logits").reshape([rows, -1]),
                false => expected.clone(),
            };
            let error = apart(&ours, &against)?;
            let theirs = apart(&expected, &against)?;
            let bound = if theirs > 0.0 { theirs.max(bound) } else { bound };
            if error.is_nan() || error > bound {
                lines.push(format!(
                    "{} in chunks of {chunk}: {error:.2e} > {bound:.2e}",
                    case["id"]
                ));
            }
        }
    }
    assert!(lines.is_empty(), "{}", lines.join("\n"));
    Ok(())
}

#[test]
fn greedy_tokens_equal_the_reference() {
    let reference = Reference::open();
    let mut wrong = Vec::new();
    let mut compared = 0;
    for case in &reference.cases {
        let Some(expected) = case["greedy"].as_array() else { continue };
        let read = |v: &Value| v.as_u64().unwrap() as u32;
        let expected: Vec<u32> = expected.iter().map(read).collect();
        let prompt: Vec<u32> = case["prompt"].as_array().unwrap().iter().map(read).collect();
        let model = model(case);
        let mut cache = model.new_cache();
        let options = GenerateOptions { max_tokens: expected.len(), ..Default::default() };
        let tokens = Tokens::new(&*model, &prompt, &mut cache, &options, |_, _| {}).unwrap();
        let ours: Vec<u32> = tokens.collect::<Result<_, _>>().unwrap();
        compared += 1;
        if ours != expected {
            wrong.push(format!("{}: {ours:?}\n  expected {expected:?}", case["id"]));
        }
    }
    assert!(compared >= 10 && wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn dequantized_weights_equal_mlx_bit_for_bit() -> Result<()> {
    let reference = Reference::open();
    let mut compared = 0;
    for case in &reference.cases {
        let (Some(tensor), true) = (case["tensor"].as_str(), case["folder"].is_null()) else {
            continue;
        };
        let id = case["id"].as_str().unwrap();
        let get = |part: &str| reference.tensors.get(&format!("{id}.{tensor}.{part}"));
        let (Ok(codes), Ok(scales), Ok(biases)) = (get("weight"), get("scales"), get("biases"))
        else {
            continue;
        };
        let number = |key: &str| case[key].as_u64().unwrap() as u32;
        let form = quantization(number("group_size"), number("bits"))?;
        let biases = Some(biases);
        let q =
            lazul_core::Quantized { codes, scales: Some(scales), biases, global_scale: None, form };
        let ours = q.dequantize();
        if let Ok(expected) = get("dequantized") {
            let rows = expected.dim(0)? as i64;
            let same = ours.slice_axis(0, 0, rows).array_equal(&expected, false);
            assert!(same.item::<bool>()?, "{id}");
            compared += 1;
        }
    }
    assert!(compared > 0, "no case was compared");
    Ok(())
}

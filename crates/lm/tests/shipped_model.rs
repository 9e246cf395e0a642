//! The model that ships with the program: its held-out perplexity and its words.

use lazul_core::prelude::*;
use lazul_lm::Checkpoint;
use lazul_lm::generate::{GenerateOptions, Tokens};
use serde_json::Value;
use std::path::PathBuf;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn open() -> Checkpoint {
    Checkpoint::open(root().join("assets/rust-docs-lm").to_str().unwrap()).unwrap()
}

fn reference() -> Value {
    let text = std::fs::read(root().join("recipes/rust-docs-lm/reference.json")).unwrap();
    serde_json::from_slice(&text).unwrap()
}

/// The first two windows of the held-out text, against the evaluator's definition.
#[test]
fn perplexity_on_held_out_text_is_that_of_the_recipe() -> Result<(), Box<dyn std::error::Error>> {
    let checkpoint = open();
    let text = std::fs::read_to_string(root().join("recipes/rust-docs-lm/heldout.txt"))?;
    let reference = reference();
    let mut ids: Vec<u32> = Vec::new();
    for document in text.split("<|endoftext|>").filter(|d| !d.is_empty()) {
        ids.push(0);
        ids.extend(checkpoint.text.tokenizer().encode(document, false)?);
    }
    assert_eq!(ids.len() as u64, reference["heldout"]["tokens"].as_u64().unwrap());
    let (mut sum, mut count) = (0.0, 0);
    for window in 0..8 {
        let inputs = &ids[window * 1024..(window + 1) * 1024];
        let targets = &ids[window * 1024 + 1..(window + 1) * 1024 + 1];
        let mut cache = checkpoint.model.new_cache();
        let tokens = Array::from_slice(inputs, [1, 1024]);
        let logits = checkpoint.model.forward(&tokens, &mut cache)?.squeeze(0).astype(DType::F32);
        let target = Array::from_slice(targets, [1024, 1]);
        let losses = logits.logsumexp(-1) - logits.take_along_axis(&target, -1).squeeze(-1);
        sum += losses.sum(..).item::<f32>()? as f64;
        count += 1024;
    }
    let loss = sum / count as f64;
    let expected = reference["heldout"]["loss"].as_f64().unwrap();
    // A third of the text, computed in bfloat16: near the whole, not equal to it.
    assert!((loss - expected).abs() < 0.25, "loss {loss:.4}, the recipe has {expected:.4}");
    Ok(())
}

/// Greedy tokens follow the float32 reference up to the first step at which two tokens are nearly
/// as likely.
#[test]
fn greedy_tokens_follow_the_recipe() -> Result<(), Box<dyn std::error::Error>> {
    let checkpoint = open();
    let reference = reference();
    let greedy = &reference["greedy"];
    let list = |key: &str| greedy[key].as_array().unwrap();
    let prompt = checkpoint.text.tokenizer().encode(greedy["prompt"].as_str().unwrap(), true)?;
    let expected: Vec<u32> = list("ids").iter().map(|v| v.as_u64().unwrap() as u32).collect();
    assert_eq!(prompt, [490, 1083, 4309]);
    let mut cache = checkpoint.model.new_cache();
    let options = GenerateOptions { max_tokens: expected.len(), ..Default::default() };
    let tokens = Tokens::new(&*checkpoint.model, &prompt, &mut cache, &options, |_, _| {})?;
    let ours: Vec<u32> = tokens.collect::<Result<_, _>>()?;
    assert_eq!(ours.len(), expected.len());
    if let Some(step) = ours.iter().zip(&expected).position(|(a, b)| a != b) {
        let gap = list("top2_logit_gap")[step].as_f64().unwrap();
        assert!(gap < 0.15, "step {step} differs although the gap is {gap}");
    }
    Ok(())
}

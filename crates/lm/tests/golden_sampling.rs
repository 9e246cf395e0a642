//! Filters, penalties and seeded draws against mlx-lm.

use lazul_core::prelude::*;
use lazul_lm::sample::{Sampler, Sampling, min_p, repetition_penalty, top_k, top_p, xtc};
use serde_json::Value;

fn golden() -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../testkit/golden/sampling.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn float(v: &Value) -> f32 {
    match v.as_str() {
        Some("-inf") => f32::NEG_INFINITY,
        Some(other) => other.parse().unwrap(),
        None => v.as_f64().unwrap() as f32,
    }
}

fn floats(v: &Value) -> Vec<f32> {
    v.as_array().unwrap().iter().map(float).collect()
}

fn ints(v: &Value) -> Vec<u32> {
    v.as_array().unwrap().iter().map(|v| v.as_u64().unwrap() as u32).collect()
}

fn logits(all: &Value, case: &Value) -> Array {
    let values = floats(&all["logits"][case["logits"].as_str().unwrap()]);
    Array::from_slice(&values, [values.len()])
}

fn near(a: f32, b: f32) -> bool {
    a == b || (a - b).abs() <= 1e-5 * (1.0 + b.abs())
}

#[test]
fn filters_keep_the_same_tokens() -> Result<(), Box<dyn std::error::Error>> {
    let all = golden();
    let mut count = 0;
    for case in all["cases"].as_array().unwrap() {
        let Some(steps) = case["steps"].as_array() else { continue };
        let x = logits(&all, case);
        let mut x = &x - x.logsumexp(-1);
        for step in steps {
            let number = |key: &str| float(&step[key]);
            let whole = |key: &str| step[key].as_u64().unwrap() as usize;
            x = match step["fn"].as_str().unwrap() {
                "top_p" => top_p(&x, number("p")),
                "min_p" => min_p(&x, number("p"), whole("keep"))?,
                "top_k" => top_k(&x, whole("k"))?,
                "xtc" => xtc(&x, number("threshold"), &ints(&step["special"])),
                other => panic!("{other}"),
            };
        }
        let x = x / float(&case["temp"]);
        let p = (&x - x.logsumexp(-1)).to_vec::<f32>()?;
        let kept: Vec<u32> = (0..p.len() as u32).filter(|&i| p[i as usize].is_finite()).collect();
        assert_eq!(kept, ints(&case["kept"]), "{}", case["id"]);
        for (&i, expected) in kept.iter().zip(floats(&case["logprobs"])) {
            assert!(near(p[i as usize], expected), "{} token {i}", case["id"]);
        }
        count += 1;
    }
    assert!(count > 90, "{count} cases");
    Ok(())
}

#[test]
fn repetition_penalties_are_equal() -> Result<(), Box<dyn std::error::Error>> {
    let all = golden();
    let mut count = 0;
    for case in all["cases"].as_array().unwrap() {
        let Some(processors) = case["processors"].as_object() else { continue };
        let known = |key: &String| key.starts_with("repetition_");
        if !processors.keys().all(known) {
            continue;
        }
        let tokens = ints(&case["tokens"]);
        let context = processors.get("repetition_context_size").map_or(20, |v| v.as_u64().unwrap());
        let from = tokens.len().saturating_sub(context as usize);
        let recent = Array::from_slice(&tokens[from..], [tokens.len() - from]);
        let penalty = float(&processors["repetition_penalty"]);
        let ours = repetition_penalty(&logits(&all, case), &recent, penalty).to_vec::<f32>()?;
        for (a, b) in ours.iter().zip(floats(&case["result"])) {
            assert!(near(*a, b), "{}", case["id"]);
        }
        count += 1;
    }
    assert!(count >= 9, "{count} cases");
    Ok(())
}

#[test]
fn the_same_seed_draws_the_same_tokens() -> Result<(), Box<dyn std::error::Error>> {
    let all = golden();
    let mut count = 0;
    for case in all["cases"].as_array().unwrap() {
        let Some(how) = case["sampler"].as_object() else { continue };
        let number = |key: &str| how.get(key).map_or(0.0, float);
        let mut sampler = Sampler::new(Sampling {
            temp: number("temp"),
            top_p: number("top_p"),
            min_p: number("min_p"),
            top_k: number("top_k") as usize,
            seed: case["seed"].as_u64(),
            ..Sampling::default()
        })?;
        let x = logits(&all, case);
        for (i, &expected) in ints(&case["draws"]).iter().enumerate() {
            let token = sampler.sample(&x, None)?.item::<u32>()?;
            assert_eq!(token, expected, "{} draw {i}", case["id"]);
        }
        count += 1;
    }
    assert_eq!(count, 16);
    Ok(())
}

#[test]
fn numbers_out_of_range_are_refused() {
    let wrong = [
        Sampling { temp: f32::NAN, ..Sampling::default() },
        Sampling { temp: -1.0, ..Sampling::default() },
        Sampling { top_p: 1.5, ..Sampling::default() },
        Sampling { min_p: -0.1, ..Sampling::default() },
        Sampling { repetition_penalty: 0.0, ..Sampling::default() },
        Sampling { xtc_threshold: 0.9, ..Sampling::default() },
    ];
    for how in wrong {
        assert!(Sampler::new(how.clone()).is_err(), "{how:?}");
    }
}

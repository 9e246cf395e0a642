//! Adapters of PEFT: those that it wrote are read here, and those written here are what it reads
//! (`golden/peft_adapters.py`, whose `check` holds a folder against its logits).

use lazul_core::prelude::*;
use lazul_io::ModelFolder;
use lazul_lm::models::{self, LanguageModel};
use lazul_lm::tune::{TuneType, fuse, load_adapters, save_peft};
use lazul_nn::{Module, Parameters, Weights};
use serde_json::Value;
use std::path::PathBuf;

fn golden(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

fn model(name: &str) -> Box<dyn LanguageModel> {
    let folder = format!("{}/../testkit/golden/llama/{name}", env!("CARGO_MANIFEST_DIR"));
    let folder = ModelFolder::open_dir(folder).unwrap();
    let tensors: Parameters = folder.weights().unwrap().arrays;
    let mut model = models::load(folder.config(), &Weights::new(&tensors)).unwrap();
    model.set_dtype(DType::F32);
    model
}

fn reference() -> Value {
    serde_json::from_slice(&std::fs::read(golden("peft_adapters.json")).unwrap()).unwrap()
}

fn logits(model: &dyn LanguageModel) -> Vec<f32> {
    let tokens: Vec<i32> = (0..12).map(|i| (i * 7 + 3) % 128).collect();
    let tokens = Array::from_slice(&tokens, [1, 12]);
    let logits = model.forward(&tokens, &mut model.new_cache()).unwrap();
    logits.at_index(1, -1).to_vec::<f32>().unwrap()
}

fn assert_near(got: &[f32], reference: &Value, what: &str) {
    let want: Vec<f32> =
        reference[what].as_array().unwrap().iter().map(|x| x.as_f64().unwrap() as f32).collect();
    let far = got.iter().zip(&want).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    let size = want.iter().fold(0f32, |m, x| m.max(x.abs()));
    assert!(far < 1e-4 * size.max(1.0) && got.len() == want.len(), "{what}: {far} of {size}");
}

#[test]
fn adapters_of_peft_are_read() {
    let reference = reference();
    assert_near(&logits(&*model("llama2")), &reference, "base");
    for (name, kind) in
        [("lora", TuneType::Lora), ("dora", TuneType::Dora), ("patterns", TuneType::Lora)]
    {
        let mut adapted = model("llama2");
        let folder = golden("peft_adapters").join(name);
        assert_eq!(load_adapters(&mut adapted, &folder).unwrap(), kind);
        assert_near(&logits(&*adapted), &reference, name);
        fuse(&mut *adapted, false).unwrap();
        assert_near(&logits(&*adapted), &reference, name);
    }
}

#[test]
fn adapters_for_peft_come_back() {
    let reference = reference();
    for name in ["lora", "dora", "patterns"] {
        let place = tempfile::tempdir().unwrap();
        let mut adapted = model("llama2");
        load_adapters(&mut adapted, &golden("peft_adapters").join(name)).unwrap();
        let n = save_peft(&*adapted, "some/base", place.path()).unwrap();
        assert_eq!(
            n,
            if name == "lora" {
                7
            } else if name == "dora" {
                6
            } else {
                3
            }
        );
        let mut again = model("llama2");
        load_adapters(&mut again, place.path()).unwrap();
        assert_near(&logits(&*again), &reference, name);
        // Names and shapes are PEFT's own.
        let read = |folder: PathBuf| {
            let file =
                lazul_io::load_safetensors(folder.join("adapter_model.safetensors")).unwrap();
            let shape = |a: &Array| a.shape().unwrap().to_vec();
            let all = file.iter().filter(|(n, _)| !n.contains("base_layer"));
            all.map(|(name, a)| (name.clone(), shape(a))).collect::<Vec<_>>()
        };
        let (ours, theirs) = (read(place.path().into()), read(golden("peft_adapters").join(name)));
        assert_eq!(ours, theirs);
        // A folder that holds something stays.
        assert!(save_peft(&*adapted, "some/base", place.path()).is_err());
    }
}

#[test]
fn two_adapters_add_up() {
    let one = |name: &str| {
        let mut adapted = model("llama2");
        load_adapters(&mut adapted, &golden("peft_adapters").join(name)).unwrap();
        adapted
    };
    let mut both = one("lora");
    load_adapters(&mut both, &golden("peft_adapters/patterns")).unwrap();
    // Merging one after the other is the same.
    let mut merged = one("lora");
    fuse(&mut *merged, false).unwrap();
    load_adapters(&mut merged, &golden("peft_adapters/patterns")).unwrap();
    let far =
        logits(&*both).iter().zip(logits(&*merged)).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(far < 1e-4, "{far}");
    assert_ne!(logits(&*both), logits(&*one("lora")));
    // Lengths of rows do not add up; the model stays as it was then.
    let before = logits(&*both);
    let why = load_adapters(&mut both, &golden("peft_adapters/dora")).unwrap_err().to_string();
    assert!(why.contains("DoRA"), "{why}");
    assert_eq!(logits(&*both), before);
}

#[test]
fn what_is_not_read_is_said() {
    let place = tempfile::tempdir().unwrap();
    let from = golden("peft_adapters/patterns");
    let weights = "adapter_model.safetensors";
    std::fs::copy(from.join(weights), place.path().join(weights)).unwrap();
    let config = std::fs::read(from.join("adapter_config.json")).unwrap();
    let config: Value = serde_json::from_slice(&config).unwrap();
    for (key, value, said) in [
        ("peft_type", "IA3".into(), "IA3"),
        ("fan_in_fan_out", true.into(), "fan_in_fan_out"),
        ("init_lora_weights", "pissa".into(), "pissa"),
        ("use_dora", true.into(), "belong together"),
        ("lora_alpha", "many".into(), "lora_alpha"),
    ] {
        let mut config = config.clone();
        config[key] = value;
        std::fs::write(place.path().join("adapter_config.json"), config.to_string()).unwrap();
        let why = load_adapters(&mut model("llama2"), place.path()).unwrap_err().to_string();
        assert!(why.contains(said), "{key}: {why}");
    }
    // Another model: sizes differ, and a tied embedding is no table alone.
    let why = load_adapters(&mut model("mistral"), &from).unwrap_err().to_string();
    assert!(why.contains("shape"), "{why}");
    let lora = golden("peft_adapters/lora");
    let why = load_adapters(&mut model("llama3"), &lora).unwrap_err().to_string();
    assert!(why.contains("output as well"), "{why}");
}

//! Fine-tunings against mlx-lm's: losses of every step from the same adapters and data, and its adapters
//! loaded here (`golden/tune.py`).

use lazul_core::Quantization;
use lazul_core::prelude::*;
use lazul_io::{ModelFolder, SafeTensors, save_safetensors};
use lazul_lm::models::{self, LanguageModel};
use lazul_lm::tune::{
    Batch, Example, TrainOptions, TuneConfig, TuneType, batch, evaluate, fuse, load_adapters, loss,
    prepare, sizes, train,
};
use lazul_nn::train::{Ending, Event};
use lazul_nn::{Matrix, Module, Parameters, Weights};
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};

fn golden(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

/// The model in f32, its matrices of 4 bits if asked for.
fn model(quantize: bool) -> Box<dyn LanguageModel> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../testkit/golden/llama/llama3");
    let folder = ModelFolder::open_dir(folder).unwrap();
    let tensors: Parameters = folder.weights().unwrap().arrays;
    let mut model = models::load(folder.config(), &Weights::new(&tensors)).unwrap();
    model.set_dtype(DType::F32);
    if quantize {
        let form = Quantization::new("affine", Some(64), Some(4)).unwrap();
        model.matrices_mut(&mut |_, matrix| {
            let weight = match matrix {
                Matrix::Linear(linear) => &mut linear.weight,
                Matrix::Embedding(table) => &mut table.weight,
            };
            *weight = weight.quantize(form).unwrap();
        });
    }
    model
}

fn rows() -> Vec<Example> {
    let row = |row: u32| Example {
        tokens: (0..10 + row % 9 * 5).map(|i| (i * 7 + row * 13 + (i * i) % 5) % 128).collect(),
        offset: (row % 4) as usize,
    };
    (0..24).map(row).collect()
}

struct Case {
    name: String,
    quantize: bool,
    config: Map<String, Value>,
    losses: Vec<f64>,
}

fn cases() -> (Vec<Case>, SafeTensors) {
    let text = std::fs::read(golden("tune.json")).unwrap();
    let all: Vec<Value> = serde_json::from_slice(&text).unwrap();
    let case = |case: &Value| Case {
        name: case["name"].as_str().unwrap().to_string(),
        quantize: case["quantize"].as_bool().unwrap(),
        config: case["config"].as_object().unwrap().clone(),
        losses: case["losses"].as_array().unwrap().iter().map(|l| l.as_f64().unwrap()).collect(),
    };
    let tensors = SafeTensors::open(golden("tune.safetensors")).unwrap();
    (all.iter().map(case).collect(), tensors)
}

/// Tensors under a name, without it.
fn group(tensors: &SafeTensors, prefix: &str) -> Parameters {
    let names = tensors.names().filter_map(|n| Some((n.strip_prefix(prefix)?.to_string(), n)));
    names.map(|(short, name)| (short, tensors.get(name).unwrap())).collect()
}

fn config(case: &Case, folder: &Path, more: Value) -> TuneConfig {
    let own = json!({
        "batch_size": 4,
        "max_seq_length": 48,
        "seed": 3,
        "iters": case.losses.len(),
        "steps_per_report": 1,
        "save_every": 1000,
        "adapter_path": folder.to_str().unwrap(),
    });
    TuneConfig::merged(&[more.as_object().unwrap(), &case.config, own.as_object().unwrap()])
        .unwrap()
}

fn logits(model: &dyn LanguageModel) -> Array {
    let tokens: Vec<i32> = rows()[5].tokens[..12].iter().map(|&t| t as i32).collect();
    let tokens = Array::from_slice(&tokens, [1, 12]);
    model.forward(&tokens, &mut model.new_cache()).unwrap()
}

fn far(a: &Array, b: &Array) -> f32 {
    (a - b).abs().max(..).item::<f32>().unwrap()
}

#[test]
fn losses_are_mlx_lms_step_by_step() {
    let (cases, tensors) = cases();
    assert_eq!(cases.len(), 5);
    for case in &cases {
        let name = &case.name;
        let folder = tempfile::tempdir().unwrap();
        let first = folder.path().join("first.safetensors");
        let begin = group(&tensors, &format!("{name}/first/"));
        let mut more = json!({});
        if !begin.is_empty() {
            save_safetensors(&first, &begin, &[]).unwrap();
            more["resume_adapter_file"] = json!(first.to_str().unwrap());
        }
        let config = config(case, folder.path(), more);
        let tuned = prepare(model(case.quantize), &config).unwrap();
        let trained: Vec<String> = tuned.trainable_parameters().into_keys().collect();
        if !begin.is_empty() {
            assert_eq!(trained, begin.keys().cloned().collect::<Vec<_>>(), "{name}");
        }
        let mut losses = Vec::new();
        let mut watch = |event: &Event| {
            if let Event::Report(report) = event {
                losses.push(report.loss);
            }
        };
        let options = TrainOptions::default();
        let (tuned, outcome) = train(tuned, &config, rows(), &[], &options, &mut watch).unwrap();
        assert_eq!((outcome.ending, losses.len()), (Ending::Done, case.losses.len()));
        let most = losses.iter().zip(&case.losses).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        let mut inner = tuned.into_inner();
        inner.eval();
        let apart = far(&logits(&*inner), &tensors.get(&format!("{name}/logits")).unwrap());
        println!("{name}: losses within {most:.1e}, logits in the end within {apart:.1e}");
        assert!(most < 1e-3, "{name}: {most}");
        assert!(apart < 2e-2, "{name}: {apart}");
        // What was written is what was trained.
        let mut again = model(case.quantize);
        load_adapters(&mut again, folder.path()).unwrap();
        assert_eq!(far(&logits(&*again), &logits(&*inner)), 0.0, "{name}");
        for file in ["loss.html", "metrics.jsonl", "adapter_config.json"] {
            assert!(folder.path().join(file).is_file(), "{file}");
        }
    }
}

#[test]
fn adapters_of_mlx_lm_load_and_merge() {
    let (cases, tensors) = cases();
    for case in cases.iter().filter(|case| case.name != "full") {
        let name = &case.name;
        let folder = tempfile::tempdir().unwrap();
        let at = |file: &str| folder.path().join(file);
        let last = group(&tensors, &format!("{name}/last/"));
        save_safetensors(at("adapters.safetensors"), &last, &[]).unwrap();
        let described = Value::Object(case.config.clone()).to_string();
        std::fs::write(at("adapter_config.json"), &described).unwrap();
        let mut adapted = model(case.quantize);
        load_adapters(&mut adapted, folder.path()).unwrap();
        let wanted = tensors.get(&format!("{name}/logits")).unwrap();
        let apart = far(&logits(&*adapted), &wanted);
        assert!(apart < 1e-4, "{name}: {apart}");
        // Merged, the model needs no adapter; of 4 bits it is only near.
        for dequantize in [false, true] {
            let mut merged = adapted.clone();
            assert!(fuse(&mut *merged, dequantize).unwrap() > 0);
            assert!(merged.parameters().iter().all(|(path, _)| !path.contains("lora")));
            let apart = far(&logits(&*merged), &wanted);
            let codes = case.quantize && !dequantize;
            assert_eq!(codes, merged.parameters().iter().any(|(p, _)| p.ends_with("scales")));
            assert!(apart < if codes { 10.0 } else { 1e-3 }, "{name}: {apart}");
        }
        // What does not belong there is named, and the model stays.
        for (wrong, said) in [
            ("model.norm.weight", "not an adapter parameter"),
            ("model.layers.9.self_attn.q_proj.lora_a", "not an adapter parameter"),
            ("model.layers.1.self_attn.q_proj.lora_a", "shape (3,)"),
        ] {
            let mut arrays = last.clone();
            arrays.insert(wrong.to_string(), zeros([3], DType::F32));
            save_safetensors(at("adapters.safetensors"), &arrays, &[]).unwrap();
            let mut untouched = model(case.quantize);
            let error = load_adapters(&mut untouched, folder.path()).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
            assert!(untouched.parameters().iter().all(|(path, _)| !path.contains("lora")));
        }
        let mut arrays = last.clone();
        let (lost, _) = arrays.pop_first().unwrap();
        for few in [arrays, Parameters::new()] {
            save_safetensors(at("adapters.safetensors"), &few, &[]).unwrap();
            let error = load_adapters(&mut model(case.quantize), folder.path()).unwrap_err();
            let lazul_lm::Error::Incomplete { tensors, .. } = &error else { panic!("{error}") };
            assert_eq!((tensors.len(), &tensors[0]), (last.len() - few.len(), &lost));
        }
        let alpha = described.replace("\"scale\"", "\"alpha\"");
        std::fs::write(at("adapter_config.json"), alpha).unwrap();
        let error = load_adapters(&mut model(case.quantize), folder.path()).unwrap_err();
        assert!(error.to_string().contains("alpha"), "{error}");
    }
}

fn lora_case() -> Case {
    cases().0.into_iter().find(|case| case.name == "lora").unwrap()
}

#[test]
fn layers_that_compute_again_train_alike_with_dropout() {
    let case = lora_case();
    let run = |checkpoint: bool| {
        let folder = tempfile::tempdir().unwrap();
        let more = json!({
            "iters": 6,
            "grad_checkpoint": checkpoint,
            "lora_parameters": { "rank": 4, "scale": 10.0, "dropout": 0.3 },
        });
        let config = config(&case, folder.path(), more);
        let tuned = prepare(model(false), &config).unwrap();
        let mut losses = Vec::new();
        let mut watch = |event: &Event| {
            if let Event::Step { loss, .. } = event {
                losses.push(*loss);
            }
        };
        train(tuned, &config, rows(), &[], &TrainOptions::default(), &mut watch).unwrap();
        losses
    };
    let (plain, again) = (run(false), run(true));
    assert!(plain.last() < plain.first());
    for (a, b) in plain.iter().zip(&again) {
        assert!((a - b).abs() < 1e-5, "{plain:?} {again:?}");
    }
}

#[test]
fn a_fine_tuning_goes_on_bit_for_bit() {
    let case = lora_case();
    let (whole, parts) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let run = |folder: &Path, iters: u64, resume: bool| {
        let more = json!({
            "iters": iters,
            "grad_accumulation_steps": 2,
            "lora_parameters": { "rank": 4, "scale": 10.0, "dropout": 0.3 },
        });
        let config = config(&case, folder, more);
        let tuned = prepare(model(true), &config)?;
        let options = TrainOptions { resume, cancel: None };
        train(tuned, &config, rows(), &rows()[..4], &options, &mut |_| ())
    };
    run(whole.path(), 9, false).unwrap();
    run(parts.path(), 4, false).unwrap();
    // A training that is refused leaves what describes the other's adapters.
    let described = std::fs::read(parts.path().join("adapter_config.json")).unwrap();
    let error = run(parts.path(), 9, false).err().unwrap().to_string();
    assert!(error.contains("holds a training already"), "{error}");
    assert_eq!(std::fs::read(parts.path().join("adapter_config.json")).unwrap(), described);
    let other = json!({ "lora_parameters": { "rank": 2, "scale": 1.0, "dropout": 0.0 } });
    let other = config(&case, parts.path(), other);
    let tuned = prepare(model(true), &other).unwrap();
    let resume = TrainOptions { resume: true, cancel: None };
    assert!(train(tuned, &other, rows(), &[], &resume, &mut |_| ()).is_err());
    assert_eq!(std::fs::read(parts.path().join("adapter_config.json")).unwrap(), described);
    run(parts.path(), 9, true).unwrap();
    let read = |folder: &Path| std::fs::read(folder.join("adapters.safetensors")).unwrap();
    assert!(read(whole.path()) == read(parts.path()));
}

/// A process that was killed between its last checkpoint and its adapters left the old ones for ever, as
/// there was no step to make any more.
#[test]
fn what_was_not_published_is_made_up_for() {
    let case = lora_case();
    let folder = tempfile::tempdir().unwrap();
    let run = || {
        let config = config(&case, folder.path(), json!({ "iters": 4, "save_every": 2 }));
        let tuned = prepare(model(false), &config).unwrap();
        let options = TrainOptions { resume: true, cancel: None };
        train(tuned, &config, rows(), &[], &options, &mut |_| ()).unwrap().1
    };
    run();
    let names = ["adapters.safetensors", "0000004_adapters.safetensors", "adapter_config.json"];
    let at = |name: &str| folder.path().join(name);
    let before = names.map(|name| std::fs::read(at(name)).unwrap());
    names.iter().for_each(|name| std::fs::remove_file(at(name)).unwrap());
    assert_eq!(run().step, 4);
    assert!(before == names.map(|name| std::fs::read(at(name)).unwrap()));
}

/// Adapters that could not be written were found out about at the end of a long training.
#[test]
fn what_cannot_be_written_ends_the_training() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(folder.path().join("adapters.safetensors/in/the/way")).unwrap();
    let config = config(&lora_case(), folder.path(), json!({ "iters": 20, "save_every": 2 }));
    let tuned = prepare(model(false), &config).unwrap();
    let cancel = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let options = TrainOptions { resume: false, cancel: Some(cancel.clone()) };
    let mut steps = 0;
    let mut watch = |event: &Event| steps += u32::from(matches!(event, Event::Step { .. }));
    let error = train(tuned, &config, rows(), &[], &options, &mut watch).err().unwrap();
    assert!(error.to_string().contains("adapters.safetensors"), "{error}");
    assert!(steps <= 3, "{steps}");
    // The flag is the caller's.
    assert!(!cancel.load(std::sync::atomic::Ordering::Relaxed));
}

#[test]
fn who_asks_for_the_end_gets_adapters() {
    let folder = tempfile::tempdir().unwrap();
    let more = json!({ "iters": 20, "grad_checkpoint": true });
    let config = config(&lora_case(), folder.path(), more);
    let tuned = prepare(model(false), &config).unwrap();
    let cancel = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true));
    let options = TrainOptions { resume: false, cancel: Some(cancel) };
    let (tuned, outcome) = train(tuned, &config, rows(), &[], &options, &mut |_| ()).unwrap();
    assert_eq!((outcome.ending, outcome.step), (Ending::Cancelled, 1));
    // What was a means of training is over with it: no trace tells the models apart.
    let mut again = model(false);
    load_adapters(&mut again, folder.path()).unwrap();
    let mut trained = tuned.into_inner();
    trained.eval();
    let words = |model: &dyn LanguageModel| {
        let mut words = Vec::new();
        model.structure(&mut words);
        words
    };
    assert_eq!(words(&*trained), words(&*again));
}

#[test]
fn prompts_that_fill_a_batch_say_nothing() {
    let model = model(false);
    let all_prompt = Example { tokens: vec![1, 2, 3], offset: 9 };
    let one: Batch = batch(&[&all_prompt], 48);
    let (mean, count) = loss(&*model, &one).unwrap();
    assert_eq!((mean.item::<f32>().unwrap(), count.item::<i32>().unwrap()), (0.0, 0));
    let folder = tempfile::tempdir().unwrap();
    let config = config(&lora_case(), folder.path(), json!({ "batch_size": 1 }));
    let evaluated = evaluate(&*model, &[all_prompt], &config, None, &mut |_, _| ());
    assert!(evaluated.unwrap_err().to_string().contains("no token"));
}

#[test]
fn what_cannot_be_trained_is_said() {
    let case = lora_case();
    let folder = tempfile::tempdir().unwrap();
    let refuse = |more: Value| {
        let config = config(&case, folder.path(), more);
        prepare(model(false), &config).err().unwrap().to_string()
    };
    assert!(refuse(json!({ "num_layers": 3 })).contains("only has 2 layers"));
    let keys = json!({ "rank": 2, "scale": 1.0, "keys": ["q_proj"] });
    assert!(refuse(json!({ "lora_parameters": keys })).contains("self_attn.q_proj"));
    let config = config(&case, folder.path(), json!({}));
    let quantized = sizes(&prepare(model(true), &config).unwrap()).unwrap();
    assert_eq!(quantized, sizes(&prepare(model(false), &config).unwrap()).unwrap());
    assert_eq!(config.kind, TuneType::Lora);
}

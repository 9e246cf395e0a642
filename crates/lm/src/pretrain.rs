//! Pretraining: a language model from nothing but texts.
//!
//! Texts become one stream of tokens, each text followed by the token that ends it, and the stream windows of
//! one token more than the context; the last twentieth of the windows is for validation. What a training
//! writes is a model folder at any time: `config.json`, tokenizer, `model.safetensors`, and beside them the
//! checkpoints, figures and page of [`fit`].

use crate::error::{Error, Result};
use crate::models::{self, LanguageModel};
use crate::publish::Publisher;
use crate::text::TextModel;
use crate::tune::{Batch, Example, batch, loss};
use lazul_core::random::Generator;
use lazul_core::{Array, DType, eval, ones, random, zeros};
use lazul_io::{save_safetensors, write_file};
use lazul_nn::optim::{Adam, WeightDecay, cosine_decay, join_schedules, linear_schedule};
use lazul_nn::train::{
    self, Batching, Event, FitOptions, Loader, Outcome, Session, fit, read_texts,
};
use lazul_nn::{Module, TensorSource, Trainable, Weights};
use serde_json::{Value, json};
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

/// A checkpoint that makes its tensors up: matrices are normal with deviation 0.02, biases zero, other vectors
/// one.
struct Drawn(Mutex<Generator>);

impl TensorSource for Drawn {
    fn tensor(&self, _: &str) -> lazul_core::Result<Option<Array>> {
        // Nothing is there that nobody gives a shape: no scales, no head of its own.
        Ok(None)
    }

    fn sized(&self, name: &str, shape: &[usize]) -> lazul_core::Result<Option<Array>> {
        let mut generator = self.0.lock().unwrap_or_else(|e| e.into_inner());
        let array = match shape {
            [_] if name.ends_with("bias") => zeros(shape, DType::F32),
            [_] => ones(shape, DType::F32),
            _ => {
                let key = generator.next_key();
                random::normal_with(0.0, 0.02, shape, DType::F32, Some(&key))
            }
        };
        array.check()?;
        Ok(Some(array))
    }
}

/// The model of a configuration with parameters drawn at random, f32.
///
/// ```
/// use lazul_core::prelude::*;
/// let sizes = serde_json::json!({
///     "model_type": "llama", "vocab_size": 16, "hidden_size": 16, "intermediate_size": 32,
///     "num_hidden_layers": 2, "num_attention_heads": 2,
/// });
/// let model = lazul_lm::pretrain::init(&sizes, 0)?;
/// let tokens = Array::from_slice(&[3, 1, 4], [1, 3]);
/// let logits = model.forward(&tokens, &mut model.new_cache())?;
/// assert_eq!(logits.shape()?, [1, 3, 16]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// If the architecture is not known, or the configuration makes no sense.
pub fn init(config: &Value, seed: u64) -> Result<Box<dyn LanguageModel>> {
    let source = Drawn(Mutex::new(Generator::new(seed)));
    let model = models::load(config, &Weights::new(&source))?;
    eval(model.parameters().into_iter().map(|(_, array)| array))?;
    Ok(model)
}

/// Sizes and schedule of a pretraining.
#[derive(Clone, Debug, PartialEq)]
pub struct PretrainConfig {
    /// Layers; 4.
    pub layers: usize,
    /// Features of a token; 256.
    pub dim: usize,
    /// Heads, which divide the features evenly; 4.
    pub heads: usize,
    /// Tokens that a prediction sees; 256.
    pub context: usize,
    /// Windows in a batch; 16.
    pub batch_size: usize,
    /// Batches; 1000.
    pub iters: u64,
    /// The highest learning rate; it rises for a twentieth of the training and falls by a cosine to a tenth.
    pub learning_rate: f64,
    /// Times the rate, the share of each matrix that goes away in a step; 0.1.
    pub weight_decay: f64,
    /// Of parameters and the order of windows; 0.
    pub seed: u64,
    /// Batches between reports; 10.
    pub report_every: u64,
    /// Batches between validations; 100.
    pub evaluate_every: u64,
    /// Batches between checkpoints; 100.
    pub save_every: u64,
}

impl Default for PretrainConfig {
    fn default() -> PretrainConfig {
        PretrainConfig {
            layers: 4,
            dim: 256,
            heads: 4,
            context: 256,
            batch_size: 16,
            iters: 1000,
            learning_rate: 1e-3,
            weight_decay: 0.1,
            seed: 0,
            report_every: 10,
            evaluate_every: 100,
            save_every: 100,
        }
    }
}

impl PretrainConfig {
    /// `config.json` of a model of the Llama family of these sizes.
    ///
    /// # Errors
    /// If the features do not divide into heads of an even number, or a size is beyond what a model can have.
    pub fn model(&self, text: &TextModel) -> Result<Value> {
        let PretrainConfig { layers, dim, heads, context, .. } = *self;
        if heads == 0 || layers == 0 || dim == 0 || dim % heads != 0 || dim / heads % 2 != 0 {
            let why = format!("{dim} features do not divide into {heads} heads of an even number");
            return Err(Error::Argument(why));
        }
        if context < 2 {
            return Err(Error::Argument(format!("a context of {context} predicts nothing")));
        }
        // Two thirds of four times the features, as a gate has half as much again.
        let inner = dim.checked_mul(8).and_then(|n| (n / 3).checked_next_multiple_of(64));
        let most = 1usize << 31;
        let Some(inner) = inner.filter(|&n| n <= most && context < most) else {
            let why =
                format!("{dim} features or a context of {context} are beyond what there can be");
            return Err(Error::Argument(why));
        };
        let ids = text.tokenizer().special_ids();
        Ok(json!({
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "vocab_size": text.tokenizer().vocab_size(),
            "hidden_size": dim,
            "intermediate_size": inner,
            "num_hidden_layers": layers,
            "num_attention_heads": heads,
            "num_key_value_heads": heads,
            "max_position_embeddings": context,
            "rms_norm_eps": 1e-5,
            "rope_theta": 10000.0,
            "hidden_act": "silu",
            "tie_word_embeddings": true,
            "bos_token_id": ids.bos,
            "eos_token_id": ids.eos,
            "torch_dtype": "float32",
        }))
    }
}

/// Windows of `context + 1` tokens, to train on and to validate with, of a text or a folder of texts.
///
/// ```
/// use lazul_lm::pretrain::windows;
/// use lazul_lm::text::{TextFiles, TextModel};
/// let tokenizer = br#"{"model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "c": 2}, "merges": []}}"#;
/// let text = TextModel::load(&TextFiles { tokenizer_json: Some(tokenizer), ..Default::default() })?;
/// # let folder = std::env::temp_dir().join(format!("lazul-windows-{}", std::process::id()));
/// # std::fs::create_dir_all(&folder)?;
/// let path = folder.join("a.txt");
/// std::fs::write(&path, "abcabcabcabc")?;
/// let [train, valid] = windows(&path, &text, 3)?;
/// assert_eq!((train.len(), valid.len()), (2, 1));
/// assert_eq!(train[1].tokens, [1, 2, 0, 1]);
/// # std::fs::remove_dir_all(folder)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// If a file cannot be read, the texts are shorter than two windows, or a window is longer than what there
/// can be.
pub fn windows(path: &Path, text: &TextModel, context: usize) -> Result<[Vec<Example>; 2]> {
    let tokenizer = text.tokenizer();
    let mut stream = Vec::new();
    for (_, content) in read_texts(path)? {
        stream.extend(tokenizer.encode(&content, false)?);
        stream.extend(tokenizer.special_ids().eos);
    }
    let Some(size) = context.checked_add(1) else {
        return Err(Error::Argument(format!("a context of {context} is beyond what there can be")));
    };
    let whole = stream.chunks_exact(size);
    let mut train: Vec<Example> =
        whole.map(|w| Example { tokens: w.to_vec(), offset: 0 }).collect();
    if train.len() < 2 {
        let why =
            format!("{}: {} tokens are no two windows of {size}", path.display(), stream.len());
        return Err(Error::Argument(why));
    }
    let valid = train.split_off(train.len() - train.len().div_ceil(20));
    Ok([train, valid])
}

fn loader(examples: Vec<Example>, size: usize, seed: u64, longest: usize) -> Result<Loader<Batch>> {
    let how = Batching { size: size.min(examples.len()), seed, ..Batching::default() };
    let lengths = vec![1; examples.len()];
    let make = move |rows: &[usize]| {
        let rows: Vec<&Example> = rows.iter().filter_map(|&i| examples.get(i)).collect();
        Ok(batch(&rows, longest))
    };
    Ok(Loader::new(lengths, how, make)?)
}

/// Trains a model of `config.model` on [`windows`] of texts and writes it to `folder`, where `text`'s files are
/// already: `config.json` and `model.safetensors` with every checkpoint; with `resume` it goes on from the
/// last checkpoint there.
///
/// # Errors
/// Those of [`fit`]; if the sizes make no model; if a file cannot be written, which ends the training.
pub fn pretrain(
    config: &PretrainConfig,
    text: &TextModel,
    [examples, valid]: [Vec<Example>; 2],
    folder: &Path,
    resume: bool,
    cancel: Option<Arc<AtomicBool>>,
    observe: &mut dyn FnMut(&Event),
) -> Result<(Box<dyn LanguageModel>, Outcome)> {
    let described = config.model(text)?;
    let model = Trainable::new(init(&described, config.seed)?);
    let longest = config.context + 1;
    let iters = u32::try_from(config.iters.max(2)).unwrap_or(u32::MAX);
    let warmup = (iters / 20).max(1);
    let rate = config.learning_rate;
    let rise = linear_schedule(rate / warmup as f64, rate, warmup)?;
    let fall = cosine_decay(rate, (iters - warmup).max(1), rate / 10.0)?;
    let rate = join_schedules(vec![rise, fall], vec![warmup])?;
    let adam = Adam { betas: [0.9, 0.95], bias_correction: true, ..Adam::new(rate) };
    // Norms stay what they are.
    let optimizer = WeightDecay::new(adam, config.weight_decay)
        .only(|_, value| value.ndim().is_ok_and(|n| n > 1));
    let mut session = Session::new(model, &optimizer, config.seed)?;
    let mut batches = loader(examples, config.batch_size, config.seed, longest)?;
    let held = loader(valid, config.batch_size, config.seed, longest)?;
    let mut validate = |m: &mut Trainable<Box<dyn LanguageModel>>| -> train::Result<f64> {
        let (mut sum, mut n) = (0.0, 0.0);
        for batch in held.pass() {
            sum += f64::from(loss(&***m, &batch?)?.0.item::<f32>()?);
            n += 1.0;
        }
        Ok(sum / n)
    };
    let PretrainConfig { iters, report_every, evaluate_every, save_every, .. } = *config;
    let mut options = FitOptions {
        steps: iters,
        clip: Some(1.0),
        report_every,
        evaluate_every,
        save_every,
        folder: Some(folder.to_path_buf()),
        resume,
        cancel,
        title: format!("Pretraining of {}", folder.display()),
        // Another number of batches is another schedule.
        config: json!({
            "model": described,
            "batch_size": config.batch_size,
            "iters": iters,
            "learning_rate": config.learning_rate,
            "weight_decay": config.weight_decay,
            "seed": config.seed,
        }),
        ..FitOptions::default()
    };
    // The configuration goes where the weights go, so that it is never another's.
    let text = lazul_io::json::to_string(&described);
    let mut publisher = Publisher::new(&mut options, |_, arrays| {
        write_file(&folder.join("config.json"), text.as_bytes())?;
        Ok(save_safetensors(folder.join("model.safetensors"), arrays, &[("format", "mlx")])?)
    });
    let mut watch = |event: &Event| {
        publisher.watch(event);
        observe(event);
    };
    let step = |m: &mut Trainable<Box<dyn LanguageModel>>, batch: &Batch| loss(&***m, batch);
    let outcome = fit(
        &mut session,
        &optimizer,
        &mut batches,
        step,
        Some(&mut validate),
        &options,
        &mut watch,
    );
    let outcome = publisher.finish(outcome)?;
    Ok((session.model.into_inner(), outcome))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::TextFiles;

    fn text() -> TextModel {
        let json =
            br#"{"model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "c": 2}, "merges": []}}"#;
        TextModel::load(&TextFiles { tokenizer_json: Some(json), ..Default::default() }).unwrap()
    }

    fn small() -> PretrainConfig {
        PretrainConfig {
            layers: 1,
            dim: 8,
            heads: 2,
            context: 3,
            batch_size: 2,
            iters: 4,
            save_every: 2,
            ..PretrainConfig::default()
        }
    }

    /// `lazul train --context 18446744073709551615` was a panic.
    #[test]
    fn sizes_beyond_measure_are_refused() {
        let refused = |config: PretrainConfig| match config.model(&text()) {
            Err(Error::Argument(why)) => why,
            other => panic!("{other:?}"),
        };
        for context in [usize::MAX, 1 << 31] {
            let why = refused(PretrainConfig { context, ..small() });
            assert!(why.contains(&context.to_string()), "{why}");
        }
        for dim in [1 << (usize::BITS - 2), 1 << 31] {
            let why = refused(PretrainConfig { dim, ..small() });
            assert!(why.contains(&dim.to_string()), "{why}");
        }
        let place = tempfile::tempdir().unwrap();
        std::fs::write(place.path().join("a.txt"), "abcabc").unwrap();
        let windows = windows(place.path(), &text(), usize::MAX);
        assert!(matches!(windows, Err(Error::Argument(_))));
    }

    /// A process that was killed between its last checkpoint and the weights left none, or old ones, for ever.
    #[test]
    fn what_was_not_published_is_made_up_for() {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name);
        std::fs::write(at("a.txt"), "abc".repeat(20)).unwrap();
        // Half a configuration, or another's, is none to keep.
        std::fs::write(at("config.json"), "{").unwrap();
        let run = |config: &PretrainConfig| {
            let data = windows(&at("a.txt"), &text(), config.context)?;
            pretrain(config, &text(), data, place.path(), true, None, &mut |_| ())
        };
        run(&small()).unwrap();
        let read =
            || ["config.json", "model.safetensors"].map(|name| std::fs::read(at(name)).unwrap());
        let before = read();
        assert!(before[0].starts_with(b"{") && before[0].len() > 1);
        std::fs::remove_file(at("model.safetensors")).unwrap();
        assert_eq!(run(&small()).unwrap().1.step, 4);
        assert!(before == read());
        // Another training is refused, and what describes the weights stays.
        assert!(run(&PretrainConfig { layers: 2, ..small() }).is_err());
        assert!(before == read());
    }
}

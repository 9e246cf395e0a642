//! Pretraining: a language model from nothing but texts.
//!
//! Texts become streams of tokens ([`Corpus`]), and streams batches of windows. Parameters are f32; the arithmetic
//! of a step may be bf16 ([`PretrainConfig::dtype`]): matrices are rounded where they are used, and gradients
//! arrive at the exact ones. What a training writes is a model folder at any time: `config.json`, tokenizer,
//! `model.safetensors`, and beside them the checkpoints, figures and page of [`fit`].

mod corpus;

pub use corpus::Corpus;

use crate::cache::KvCache;
use crate::error::{Error, Result};
use crate::models::{self, LanguageModel};
use crate::publish::Publisher;
use crate::text::TextModel;
use lazul_core::random::Generator;
use lazul_core::{Array, DType, eval, ones, random, zeros};
use lazul_io::{save_safetensors, write_file};
use lazul_nn::losses::{CrossEntropy, Reduction, cross_entropy};
use lazul_nn::optim::{Adam, WeightDecay, cosine_decay, join_schedules, linear_schedule};
use lazul_nn::train::{self, Event, FitOptions, Outcome, Session, fit};
use lazul_nn::{Module, TensorSource, Trainable, Weights};
use serde_json::{Value, json};
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

/// A checkpoint that makes its tensors up: matrices are normal with deviation 0.02, biases zero, other vectors
/// one. Matrices whose results are added to what flows through the layers are smaller, so that the sum over all
/// layers is not: Radford et al., 2019.
struct Drawn {
    generator: Mutex<Generator>,
    /// Sums that flow through the model: two a layer.
    sums: usize,
}

impl TensorSource for Drawn {
    fn tensor(&self, _: &str) -> lazul_core::Result<Option<Array>> {
        // Nothing is there that nobody gives a shape: no scales, no head of its own.
        Ok(None)
    }

    fn sized(&self, name: &str, shape: &[usize]) -> lazul_core::Result<Option<Array>> {
        let mut generator = self.generator.lock().unwrap_or_else(|e| e.into_inner());
        let array = match shape {
            [_] if name.ends_with("bias") => zeros(shape, DType::F32),
            [_] => ones(shape, DType::F32),
            _ => {
                let key = generator.next_key();
                let added = ["o_proj.weight", "down_proj.weight"].iter().any(|n| name.ends_with(n));
                let std = if added { 0.02 / (self.sums as f64).sqrt() } else { 0.02 };
                random::normal_with(0.0, std, shape, DType::F32, Some(&key))
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
    let layers = config.get("num_hidden_layers").and_then(Value::as_u64).unwrap_or(1);
    let sums = 2 * (layers.clamp(1, 1 << 16) as usize);
    let source = Drawn { generator: Mutex::new(Generator::new(seed)), sums };
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
    /// Heads of keys and values, which divide the heads evenly; as many as heads.
    pub kv_heads: Option<usize>,
    /// Features inside the feed-forward net; 8/3 of the features, rounded up to a multiple of 64.
    pub inner: Option<usize>,
    /// Tokens that a prediction sees; 256.
    pub context: usize,
    /// Windows in a batch; 16.
    pub batch_size: usize,
    /// Batches; 1000.
    pub iters: u64,
    /// The highest learning rate; it rises for a twentieth of the training and falls by a cosine to zero.
    pub learning_rate: f64,
    /// Times the rate, the share of each matrix that goes away in a step; 0.1.
    pub weight_decay: f64,
    /// Probability that a feature is dropped where it enters the model or is added to what flows through it; 0.
    pub dropout: f64,
    /// What steps compute in; f32. Parameters and what the optimizer keeps are f32 in any case.
    pub dtype: DType,
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
            kv_heads: None,
            inner: None,
            context: 256,
            batch_size: 16,
            iters: 1000,
            learning_rate: 1e-3,
            weight_decay: 0.1,
            dropout: 0.0,
            dtype: DType::F32,
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
        let kv_heads = self.kv_heads.unwrap_or(heads);
        if kv_heads == 0 || heads % kv_heads != 0 {
            let why = format!("{heads} heads are no multiple of {kv_heads} heads of keys");
            return Err(Error::Argument(why));
        }
        // Two thirds of four times the features, as a gate has half as much again.
        let usual = || dim.checked_mul(8).and_then(|n| (n / 3).checked_next_multiple_of(64));
        let most = 1usize << 31;
        let inner = self.inner.or_else(usual).filter(|&n| n > 0 && n <= most);
        let Some(inner) = inner.filter(|_| dim <= most && context < most) else {
            let why =
                format!("{dim} features or a context of {context} are beyond what there can be");
            return Err(Error::Argument(why));
        };
        if !matches!(self.dtype, DType::F32 | DType::BF16) {
            let why = format!("steps compute in float32 or bfloat16, not in {}", self.dtype);
            return Err(Error::Argument(why));
        }
        let ids = text.tokenizer().special_ids();
        Ok(json!({
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "vocab_size": text.tokenizer().vocab_size(),
            "hidden_size": dim,
            "intermediate_size": inner,
            "num_hidden_layers": layers,
            "num_attention_heads": heads,
            "num_key_value_heads": kv_heads,
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

/// `model` with parameters of `dtype`, through which gradients reach its own.
fn rounded(model: &dyn LanguageModel, dtype: DType) -> Box<dyn LanguageModel> {
    let mut model = model.clone_model();
    if dtype != DType::F32 {
        model.set_dtype(dtype);
    }
    model
}

/// The mean loss of windows `(b, t + 1)`: each token but the first is predicted from those before it. Logits are
/// f32 at least.
fn window_loss(model: &dyn LanguageModel, tokens: &Array) -> lazul_core::Result<Array> {
    let inputs = tokens.slice_axis(1, 0, -1); // (b, t)
    let targets = tokens.slice_axis(1, 1, None); // (b, t)
    let mut cache: Vec<KvCache> = (0..model.layers().1).map(|_| KvCache::passing()).collect();
    let logits = model.forward(&inputs, &mut cache)?.astype(DType::F32); // (b, t, vocabulary)
    let how = CrossEntropy { reduction: Reduction::Mean, ..CrossEntropy::default() };
    Ok(cross_entropy(&logits, &targets, how))
}

/// The mean loss of a stream of tokens: all but the first are predicted, in windows of `context` tokens that do
/// not overlap and of which the last may be shorter, `batch_size` of them at a time. Its exponential is the
/// perplexity.
///
/// ```
/// # let sizes = serde_json::json!({
/// #     "model_type": "llama", "vocab_size": 16, "hidden_size": 16, "intermediate_size": 32,
/// #     "num_hidden_layers": 2, "num_attention_heads": 2,
/// # });
/// let model = lazul_lm::pretrain::init(&sizes, 0)?;
/// let loss = lazul_lm::pretrain::stream_loss(&*model, &[3, 1, 4, 1, 5, 9, 2, 6], 3, 2)?;
/// assert!((loss.exp() - 16.0).abs() < 2.0); // it knows nothing yet
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// If there are fewer than two tokens, or they do not fit the model.
pub fn stream_loss(
    model: &dyn LanguageModel,
    tokens: &[u32],
    context: usize,
    batch_size: usize,
) -> Result<f64> {
    let (context, batch_size) = (context.max(1), batch_size.max(1));
    let predicted = tokens.len().saturating_sub(1);
    if predicted == 0 {
        return Err(Error::Argument(format!("{} tokens have none to predict", tokens.len())));
    }
    let (mut sum, mut at) = (0.0, 0);
    while at < predicted {
        let left = predicted - at;
        let (rows, width) = match left / context {
            0 => (1, left),
            n => (n.min(batch_size), context),
        };
        let starts = (0..rows).map(|row| at + row * width);
        let batch: Vec<i32> =
            starts.flat_map(|from| &tokens[from..from + width + 1]).map(|&t| t as i32).collect();
        let batch = Array::from_slice(&batch, [rows, width + 1]);
        let loss = f64::from(window_loss(model, &batch)?.item::<f32>()?);
        sum += loss * (rows * width) as f64;
        at += rows * width;
    }
    Ok(sum / predicted as f64)
}

/// Trains a model of `config.model` on windows of a corpus and writes it to `folder`, where `text`'s files are
/// already: `config.json` and `model.safetensors` with every checkpoint; with `resume` it goes on from the
/// last checkpoint there.
///
/// # Errors
/// Those of [`fit`]; if the sizes make no model; if a file cannot be written, which ends the training.
pub fn pretrain(
    config: &PretrainConfig,
    text: &TextModel,
    corpus: &Corpus,
    folder: &Path,
    resume: bool,
    cancel: Option<Arc<AtomicBool>>,
    observe: &mut dyn FnMut(&Event),
) -> Result<(Box<dyn LanguageModel>, Outcome)> {
    let described = config.model(text)?;
    let mut model = init(&described, config.seed)?;
    model.set_dropout(config.dropout)?;
    let model = Trainable::new(model);
    let mut batches = corpus.batches(config.batch_size, config.context, config.seed)?;
    let iters = u32::try_from(config.iters.max(2)).unwrap_or(u32::MAX);
    let warmup = (iters / 20).max(1);
    let rate = config.learning_rate;
    let rise = linear_schedule(rate / warmup as f64, rate, warmup)?;
    let fall = cosine_decay(rate, (iters - warmup).max(1), 0.0)?;
    let rate = join_schedules(vec![rise, fall], vec![warmup])?;
    let adam = Adam { betas: [0.9, 0.95], bias_correction: true, ..Adam::new(rate) };
    // Norms stay what they are.
    let optimizer = WeightDecay::new(adam, config.weight_decay)
        .only(|_, value| value.ndim().is_ok_and(|n| n > 1));
    let mut session = Session::new(model, &optimizer, config.seed)?;
    let dtype = config.dtype;
    let mut validate = |m: &mut Trainable<Box<dyn LanguageModel>>| -> train::Result<f64> {
        let model = rounded(&***m, dtype);
        stream_loss(&*model, &corpus.valid, config.context, config.batch_size)
            .map_err(|e| train::Error::Data(e.to_string()))
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
            "dropout": config.dropout,
            "dtype": config.dtype.to_string(),
            "tokens": corpus.tokens(),
            "shares": corpus.shares().map(|(name, share)| json!([name, share])).collect::<Vec<_>>(),
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
    let step = |m: &mut Trainable<Box<dyn LanguageModel>>, tokens: &Array| {
        let loss = window_loss(&*rounded(&***m, dtype), tokens)?;
        let [b, t] = tokens.dims()?;
        Ok((loss, Array::scalar((b * (t - 1)) as i32)))
    };
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
    let mut model = session.model.into_inner();
    model.set_dropout(0.0)?;
    Ok((model, outcome))
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
        let corpus = Corpus::read(place.path(), None, &text()).unwrap();
        assert!(matches!(corpus.batches(1, usize::MAX, 0), Err(Error::Argument(_))));
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
            let corpus = Corpus::read(&at("a.txt"), None, &text())?;
            pretrain(config, &text(), &corpus, place.path(), true, None, &mut |_| ())
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

    /// Steps in bf16 move exact parameters; dropout and the order of windows go on where they were.
    #[test]
    fn a_training_in_bf16_with_dropout_goes_on_bit_for_bit() {
        let place = tempfile::tempdir().unwrap();
        let texts = place.path().join("a.txt");
        std::fs::write(&texts, "abcacb".repeat(20)).unwrap();
        let corpus = Corpus::read(&texts, None, &text()).unwrap();
        let config = PretrainConfig { dropout: 0.3, dtype: DType::BF16, save_every: 2, ..small() };
        let at = |name: &str| {
            let folder = place.path().join(name);
            std::fs::create_dir_all(&folder).unwrap();
            folder
        };
        let (whole, parts) = (at("whole"), at("parts"));
        pretrain(&config, &text(), &corpus, &whole, false, None, &mut |_| ()).unwrap();
        let end = Arc::new(AtomicBool::new(false));
        // Noticed at the next event.
        let mut stop = |event: &Event| {
            if matches!(event, Event::Step { step: 1, .. }) {
                end.store(true, std::sync::atomic::Ordering::Relaxed);
            }
        };
        let ended =
            pretrain(&config, &text(), &corpus, &parts, false, Some(end.clone()), &mut stop);
        assert_eq!(ended.unwrap().1.step, 2);
        let weights = |folder: &Path| std::fs::read(folder.join("model.safetensors")).unwrap();
        assert_ne!(weights(&whole), weights(&parts));
        pretrain(&config, &text(), &corpus, &parts, true, None, &mut |_| ()).unwrap();
        assert!(weights(&whole) == weights(&parts));
        let arrays = lazul_io::load_safetensors(whole.join("model.safetensors")).unwrap();
        assert!(arrays.values().all(|a| a.dtype().unwrap() == DType::F32));
    }

    /// The last window is shorter than the others, and batches may be of any size.
    #[test]
    fn the_loss_of_a_stream_does_not_depend_on_batches() {
        let sizes = json!({
            "model_type": "llama", "vocab_size": 16, "hidden_size": 16, "intermediate_size": 32,
            "num_hidden_layers": 1, "num_attention_heads": 2,
        });
        let model = init(&sizes, 0).unwrap();
        let tokens: Vec<u32> = (0..30).map(|i| i * 5 % 16).collect();
        let losses = [1, 2, 3, 100].map(|b| stream_loss(&*model, &tokens, 4, b).unwrap());
        assert!(losses.iter().all(|l| (l - losses[0]).abs() < 1e-6), "{losses:?}");
        let alone = stream_loss(&*model, &tokens, 29, 1).unwrap();
        assert!((alone - losses[0]).abs() > 1e-6, "what a token sees counts");
        assert!(stream_loss(&*model, &tokens[..1], 4, 1).is_err());
    }
}

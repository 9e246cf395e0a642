//! The training of a language model and its evaluation.

use super::adapters::{Tuned, attach, put, trainable};
use super::config::{TuneConfig, TuneType};
use super::data::{Batch, Example, batches};
use super::pack::{Packed, packed_batches, packed_loss};
use crate::cache::KvCache;
use crate::error::{Error, Result};
use crate::models::LanguageModel;
use crate::publish::Publisher;
use lazul_core::random::Generator;
use lazul_core::{Array, DType, arange, eval};
use lazul_io::{load_safetensors, save_safetensors, write_file};
use lazul_nn::Parameters;
use lazul_nn::losses::{CrossEntropy, cross_entropy};
use lazul_nn::train::{self, Event, FitOptions, Outcome, Session, fit};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// The mean cross-entropy of the tokens of a batch, and how many they are. Of a row with an offset `o` and
/// `n` tokens those from the `o`-th on count (the first has nothing before it), and, where a row is
/// padded, one more: as mlx-lm counts.
///
/// ```
/// use lazul_lm::tune::{Example, batch, loss};
/// # let sizes = serde_json::json!({
/// #     "model_type": "llama", "vocab_size": 16, "hidden_size": 16, "intermediate_size": 32,
/// #     "num_hidden_layers": 2, "num_attention_heads": 2,
/// # });
/// let model = lazul_lm::pretrain::init(&sizes, 0)?;
/// let example = Example { tokens: vec![3, 1, 4, 1, 5], offset: 2 };
/// let (mean, count) = loss(&*model, &batch(&[&example], 5))?;
/// assert_eq!(count.item::<i32>()?, 3); // 4, 1 and 5
/// assert!((mean.item::<f32>()? - 16f32.ln()).abs() < 0.5); // it knows nothing yet
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// If the batch does not fit the model.
pub fn loss(
    model: &dyn LanguageModel,
    (tokens, lengths): &Batch,
) -> lazul_core::Result<(Array, Array)> {
    let inputs = tokens.slice_axis(1, 0, -1); // (b, t)
    let targets = tokens.slice_axis(1, 1, None); // (b, t)
    let mut cache: Vec<KvCache> = (0..model.layers().1).map(|_| KvCache::passing()).collect();
    let logits = model.forward(&inputs, &mut cache)?; // (b, t, vocabulary)
    let at = arange(targets.dim(1)? as i64, DType::I32) + 1; // (t)
    let (offset, length) = (lengths.slice_axis(1, 0, 1), lengths.slice_axis(1, 1, 2)); // (b, 1)
    let mask = at.greater_equal(offset).logical_and(at.less_equal(length)); // (b, t)
    let each = cross_entropy(&logits, &targets, CrossEntropy::default()).astype(DType::F32);
    let count = mask.astype(DType::I32).sum(..);
    // A batch whose prompts fill it says nothing, rather than NaN.
    let mean = (each * mask).sum(..) / count.maximum(1);
    Ok((mean, count))
}

/// The loss of examples: of all batches, or of the first in the order of the seed. `progress` is told of each
/// batch.
///
/// ```
/// use lazul_lm::tune::{Example, TuneConfig, evaluate};
/// # let sizes = serde_json::json!({
/// #     "model_type": "llama", "vocab_size": 16, "hidden_size": 16, "intermediate_size": 32,
/// #     "num_hidden_layers": 2, "num_attention_heads": 2,
/// # });
/// let model = lazul_lm::pretrain::init(&sizes, 0)?;
/// let rows = vec![Example { tokens: vec![3, 1, 4, 1, 5], offset: 0 }; 8];
/// let config = TuneConfig::merged(&[])?; // batches of 4
/// let mut told = Vec::new();
/// let loss = evaluate(&*model, &rows, &config, None, &mut |done, all| told.push((done, all)))?;
/// assert!((loss - 16f64.ln()).abs() < 0.5);
/// assert_eq!(told, [(1, 2), (2, 2)]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// If there are fewer examples than a batch has, or one does not fit the model.
pub fn evaluate(
    model: &dyn LanguageModel,
    examples: &[Example],
    config: &TuneConfig,
    most: Option<usize>,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<f64> {
    let loader = batches(examples.to_vec(), config.batch_size, config.max_seq_length, config.seed)?;
    let all = most.unwrap_or(usize::MAX).min(loader.batches());
    let (mut sum, mut tokens) = (0.0, 0.0);
    for (i, batch) in loader.pass().take(all).enumerate() {
        let (mean, count) = loss(model, &batch?)?;
        eval([&mean, &count])?;
        let count = f64::from(count.item::<i32>()?);
        sum += f64::from(mean.item::<f32>()?) * count;
        tokens += count;
        progress(i + 1, all);
    }
    if tokens == 0.0 {
        let why = "the examples have no token to predict".to_string();
        return Err(Error::Argument(why));
    }
    Ok(sum / tokens)
}

/// Sets the seed of first adapters apart from others: `LoRA` in ASCII.
const ADAPTERS: u64 = 0x4c6f_5241 << 32;

/// The model of a fine-tuning before its first step: with adapters, or with layers to train, and with the
/// weights that it is to begin with.
///
/// ```
/// use lazul_lm::tune::{TuneConfig, prepare, sizes};
/// # let shape = serde_json::json!({
/// #     "model_type": "llama", "vocab_size": 16, "hidden_size": 16, "intermediate_size": 32,
/// #     "num_hidden_layers": 2, "num_attention_heads": 2,
/// # });
/// let model = lazul_lm::pretrain::init(&shape, 0)?;
/// let yaml = TuneConfig::read_yaml("lora_parameters: {keys: [self_attn.v_proj], rank: 2, scale: 10.0}")?;
/// let tuned = prepare(model, &TuneConfig::merged(&[&yaml])?)?;
/// let (trained, all) = sizes(&tuned)?;
/// assert_eq!(trained, 2 * 2 * (16 + 16)); // two layers, two factors of rank 2
/// assert!(all > trained);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// If more layers are asked for than there are, names fit nothing, or the file does not fit the model or lacks
/// something that is trained ([`Error::Incomplete`]).
pub fn prepare(mut model: Box<dyn LanguageModel>, config: &TuneConfig) -> Result<Tuned> {
    let all = model.layers().1;
    if let Some(n) = config.num_layers.filter(|&n| n > all && config.layers_given) {
        let why = format!(
            "Requested to train {n} layers but the model only has {all} layers (num_layers -1 trains all)"
        );
        return Err(Error::Argument(why));
    }
    if config.kind != TuneType::Full {
        // Not the keys that dropout draws with: the session's generator starts from the seed itself.
        let mut generator = Generator::new(config.seed ^ ADAPTERS);
        let dora = config.kind == TuneType::Dora;
        attach(&mut *model, config.num_layers, &config.lora, dora, &mut generator)?;
    }
    model.set_grad_checkpoint(config.grad_checkpoint);
    let mut tuned = trainable(model, config.kind, config.num_layers);
    if let Some(file) = &config.resume_adapter_file {
        put(&mut tuned, load_safetensors(file)?, config.kind, Path::new(file))?;
    }
    Ok(tuned)
}

/// What a training has beside its configuration.
#[derive(Clone, Debug, Default)]
pub struct TrainOptions {
    /// Whether to go on from the last checkpoint in the folder.
    pub resume: bool,
    /// Ends the training, with a checkpoint, when it becomes true.
    pub cancel: Option<Arc<AtomicBool>>,
}

/// Trains a model that [`prepare`] made. The folder [`TuneConfig::adapter_path`] gets
/// `adapter_config.json`, `adapters.safetensors`, a numbered copy at every save, and what
/// [`fit`] writes: checkpoints, `metrics.jsonl` and `loss.html`. A training that is refused leaves all of them
/// as they are. The [module](super) has an example. The model that comes back keeps what it computes ([`LanguageModel::set_grad_checkpoint`]).
///
/// # Errors
/// Those of [`fit`]; if there are fewer examples than a batch has; if a file cannot be written, which ends the
/// training.
pub fn train(
    model: Tuned,
    config: &TuneConfig,
    examples: Vec<Example>,
    valid: &[Example],
    options: &TrainOptions,
    observe: &mut dyn FnMut(&Event),
) -> Result<(Tuned, Outcome)> {
    let folder = PathBuf::from(&config.adapter_path);
    let at = |e: std::io::Error| Error::Argument(format!("{}: {e}", folder.display()));
    std::fs::create_dir_all(&folder).map_err(at)?;
    let optimizer = config.optimizer()?;
    let mut session = Session::new(model, &*optimizer, config.seed)?;
    let mut how = FitOptions {
        steps: config.iters,
        accumulate: config.grad_accumulation_steps,
        report_every: config.steps_per_report,
        evaluate_every: config.steps_per_eval,
        folder: Some(folder.clone()),
        save_every: config.save_every,
        keep: 2,
        trained_only: true,
        resume: options.resume,
        config: config.fingerprint(),
        title: format!("{} of {}", config.kind.name(), config.model),
        cancel: options.cancel.clone(),
        cache_limit: config.clear_cache_threshold,
        ..FitOptions::default()
    };
    let mut validate = |m: &mut Tuned| -> train::Result<f64> {
        evaluate(&***m, valid, config, config.val_batches, &mut |_, _| ())
            .map_err(|e| train::Error::Data(e.to_string()))
    };
    let validate: Option<train::Evaluate<'_, Tuned>> =
        if valid.is_empty() { None } else { Some(&mut validate) };
    let mut publisher =
        Publisher::new(&mut how, |step, arrays| publish(arrays, &folder, config, step));
    let mut watch = |event: &Event| {
        publisher.watch(event);
        observe(event);
    };
    let (size, longest, seed) = (config.batch_size, config.max_seq_length, config.seed);
    let (session_of, optimizer) = (&mut session, &*optimizer);
    let outcome = if config.pack {
        let mut loader = packed_batches(examples, size, longest, seed)?;
        let loss = |m: &mut Tuned, batch: &Packed| packed_loss(&***m, batch);
        fit(session_of, optimizer, &mut loader, loss, validate, &how, &mut watch)
    } else {
        let mut loader = batches(examples, size, longest, seed)?;
        let loss = |m: &mut Tuned, batch: &Batch| loss(&***m, batch);
        fit(session_of, optimizer, &mut loader, loss, validate, &how, &mut watch)
    };
    let outcome = publisher.finish(outcome)?;
    session.model.set_grad_checkpoint(false);
    Ok((session.model, outcome))
}

/// Writes the trained weights of a checkpoint under the names that mlx-lm gives them, and what they are.
fn publish(arrays: &Parameters, folder: &Path, config: &TuneConfig, step: u64) -> Result<()> {
    let text = lazul_io::json::to_string(&config.to_json());
    write_file(&folder.join("adapter_config.json"), text.as_bytes())?;
    save_safetensors(folder.join("adapters.safetensors"), arrays, &[])?;
    if step.is_multiple_of(config.save_every) {
        save_safetensors(folder.join(format!("{step:07}_adapters.safetensors")), arrays, &[])?;
    }
    Ok(())
}

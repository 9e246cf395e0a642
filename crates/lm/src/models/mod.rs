//! Model architectures: one file each, found by `model_type` from one table.

mod llama;

pub use llama::{Llama, LlamaConfig};

use crate::cache::KvCache;
use crate::error::{Error, Result};
use lazul_core::Array;
use lazul_nn::{Module, Weights};
use serde_json::Value;

/// A decoder-only language model.
///
/// What the numbers of a model depend on beside its arrays belongs to its [structure](Module::structure), and
/// so does its type, for the sake of `Box<dyn LanguageModel>`: a compiled function goes by it. A configuration
/// that is a `#[module(option)]` is both.
pub trait LanguageModel: Module + CloneModel + Send + Sync {
    /// The last layer's features: `tokens (b, t)` integers that follow what is in `cache` →
    /// `(b, t, d)`.
    ///
    /// # Errors
    /// If the tokens or the cache do not fit the model.
    fn features(&self, tokens: &Array, cache: &mut [KvCache]) -> lazul_core::Result<Array>;

    /// Features `(…, d)` → logits `(…, vocabulary)`.
    ///
    /// # Errors
    /// If the features do not fit the model.
    fn logits(&self, features: &Array) -> lazul_core::Result<Array>;

    /// `tokens (b, t)` → logits `(b, t, vocabulary)`.
    ///
    /// # Errors
    /// As [`LanguageModel::features`].
    fn forward(&self, tokens: &Array, cache: &mut [KvCache]) -> lazul_core::Result<Array> {
        self.logits(&self.features(tokens, cache)?)
    }

    /// An empty cache for each layer.
    fn new_cache(&self) -> Vec<KvCache>;

    /// Number of tokens that the model knows.
    fn vocab_size(&self) -> usize;

    /// The path of the list of layers, and how many there are.
    fn layers(&self) -> (&'static str, usize);

    /// Says whether gradients keep what is between layers only and compute the rest again. Where caches keep
    /// something (are not [`KvCache::passing`]) it changes nothing.
    fn set_grad_checkpoint(&mut self, on: bool);

    /// The probability with which training drops a feature of an embedding, or of what a layer adds to its
    /// input; 0 as a model is loaded.
    ///
    /// # Errors
    /// If it is not from 0 to below 1.
    fn set_dropout(&mut self, p: f64) -> lazul_core::Result<()>;
}

/// A model that can be copied behind a pointer: every [`Clone`] is one. Arrays are not copied.
pub trait CloneModel {
    /// A copy.
    fn clone_model(&self) -> Box<dyn LanguageModel>;
}

impl<M: LanguageModel + Clone + 'static> CloneModel for M {
    fn clone_model(&self) -> Box<dyn LanguageModel> {
        Box::new(self.clone())
    }
}

impl Clone for Box<dyn LanguageModel> {
    fn clone(&self) -> Self {
        (**self).clone_model()
    }
}

type Load = fn(&Value, &Weights<'_>) -> Result<Box<dyn LanguageModel>>;

/// The table of architectures: `model_type` and how it is loaded.
const ARCHITECTURES: &[(&str, Load)] = &[
    ("llama", |config, weights| Ok(Box::new(Llama::load(config, weights)?))),
    ("mistral", |config, weights| Ok(Box::new(Llama::load(config, weights)?))),
];

/// The `model_type`s that can be loaded.
pub fn architectures() -> impl Iterator<Item = &'static str> {
    ARCHITECTURES.iter().map(|(name, _)| *name)
}

/// The model that a configuration describes, with its parameters from `weights`.
///
/// # Errors
/// If the architecture is not known, the configuration makes no sense, or a tensor is missing or has
/// another shape.
pub fn load(config: &Value, weights: &Weights<'_>) -> Result<Box<dyn LanguageModel>> {
    let kind = config.get("model_type").and_then(Value::as_str).unwrap_or_default();
    match ARCHITECTURES.iter().find(|(name, _)| *name == kind) {
        Some((_, load)) => load(config, weights),
        None => {
            let known: Vec<&str> = architectures().collect();
            Err(Error::Config(format!("model_type {kind:?} is not one of {}", known.join(", "))))
        }
    }
}

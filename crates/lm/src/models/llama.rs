//! The Llama family: Llama 1 to 3.x, Mistral, and what shares their architecture.
//!
//! Pre-normalised decoder layers of rotary self-attention with grouped key heads and a gated
//! feed-forward net. Sources: Touvron et al. 2023 (Llama), Jiang et al. 2023 (Mistral).

use super::LanguageModel;
use crate::cache::KvCache;
use crate::config::Fields;
use crate::error::{Error, Result};
use crate::rope::Rope;
use lazul_core::fast::{Attention, Mask, scaled_dot_product_attention};
use lazul_core::{Array, checkpoint, scope};
use lazul_nn::layers::Dropout;
use lazul_nn::{Embedding, Linear, Module, RmsNorm, Weights, activations};
use serde_json::Value;

/// What `config.json` says.
#[derive(Debug, Clone)]
pub struct LlamaConfig {
    /// Features of a token.
    pub hidden_size: usize,
    /// Decoder layers.
    pub num_hidden_layers: usize,
    /// Features inside the feed-forward net.
    pub intermediate_size: usize,
    /// Query heads.
    pub num_attention_heads: usize,
    /// Key and value heads; query heads are a multiple of them.
    pub num_key_value_heads: usize,
    /// Features of a head.
    pub head_dim: usize,
    /// Tokens known.
    pub vocab_size: usize,
    /// Added to mean squares.
    pub rms_norm_eps: f32,
    /// Whether the projections of attention have a bias.
    pub attention_bias: bool,
    /// Whether those of the feed-forward net have one.
    pub mlp_bias: bool,
    /// Whether the embedding is the output projection too.
    pub tie_word_embeddings: bool,
    /// Keys that a query sees, itself included, if not all.
    pub sliding_window: Option<usize>,
    /// Activation of the gate.
    pub activation: Activation,
    /// Rotary embedding of a head.
    pub rope: Rope,
}

/// Activation of a gated feed-forward net.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// `x * sigmoid(x)`.
    Silu,
    /// GELU by the error function.
    Gelu,
    /// GELU by a hyperbolic tangent.
    GeluTanh,
}

impl LlamaConfig {
    /// Reads and checks a configuration.
    ///
    /// # Errors
    /// If a number is missing, out of range, or does not fit the others.
    pub fn from_json(config: &Value) -> Result<LlamaConfig> {
        let fields = Fields::new(config, "");
        let hidden_size = fields.required_count("hidden_size")?;
        let heads = fields.required_count("num_attention_heads")?;
        let kv_heads = fields.count("num_key_value_heads", 1)?.unwrap_or(heads);
        let layers = fields.required_count("num_hidden_layers")?;
        let head_dim = match fields.count("head_dim", 1)? {
            Some(d) => d,
            None if hidden_size % heads == 0 => hidden_size / heads,
            None => {
                let why = format!("hidden_size {hidden_size} does not divide into {heads} heads");
                return Err(Error::Config(why));
            }
        };
        if heads % kv_heads != 0 {
            let why = format!("{heads} query heads are not a multiple of {kv_heads} key heads");
            return Err(Error::Config(why));
        }
        if head_dim % 2 != 0 || head_dim > 1 << 16 {
            return Err(Error::Config(format!(
                "head_dim {head_dim} is not an even number below 2^16"
            )));
        }
        if layers > 4096 {
            return Err(Error::Config(format!("num_hidden_layers {layers} is beyond 4096")));
        }
        let activation = match fields.text("hidden_act")?.unwrap_or("silu") {
            "silu" | "swish" => Activation::Silu,
            "gelu" => Activation::Gelu,
            "gelu_new" | "gelu_pytorch_tanh" => Activation::GeluTanh,
            other => return Err(Error::Config(format!("hidden_act {other:?} is not known"))),
        };
        Ok(LlamaConfig {
            hidden_size,
            num_hidden_layers: layers,
            intermediate_size: fields.required_count("intermediate_size")?,
            num_attention_heads: heads,
            num_key_value_heads: kv_heads,
            head_dim,
            vocab_size: fields.required_count("vocab_size")?,
            rms_norm_eps: fields.positive("rms_norm_eps", 1e-6)? as f32,
            attention_bias: fields.flag("attention_bias", false)?,
            mlp_bias: fields.flag("mlp_bias", false)?,
            tie_word_embeddings: fields.flag("tie_word_embeddings", false)?,
            sliding_window: fields.count("sliding_window", 1)?,
            activation,
            rope: Rope::from_config(config, head_dim)?,
        })
    }
}

/// A model of the Llama family. Field names are those of published checkpoints.
#[derive(Clone, Module)]
pub struct Llama {
    model: Decoder,
    lm_head: Option<Linear>,
    // Its text has the type's name, too: behind a `Box<dyn LanguageModel>` a model of another type and equal
    // shapes is another structure.
    #[module(option)]
    config: LlamaConfig,
    /// Whether gradients compute the inner results of layers again.
    #[module(option)]
    grad_checkpoint: bool,
}

#[derive(Clone, Module)]
struct Decoder {
    embed_tokens: Embedding,
    layers: Vec<Layer>,
    norm: RmsNorm,
    dropout: Dropout,
}

#[derive(Clone, Module)]
struct Layer {
    input_layernorm: RmsNorm,
    self_attn: SelfAttention,
    post_attention_layernorm: RmsNorm,
    mlp: Mlp,
    /// Of what is added to the input.
    dropout: Dropout,
}

#[derive(Clone, Module)]
struct SelfAttention {
    q_proj: Linear,
    k_proj: Linear,
    v_proj: Linear,
    o_proj: Linear,
}

#[derive(Clone, Module)]
struct Mlp {
    gate_proj: Linear,
    up_proj: Linear,
    down_proj: Linear,
}

impl Llama {
    /// The model of a configuration with its parameters from `weights`.
    ///
    /// # Errors
    /// If the configuration makes no sense, or a tensor is missing or has another shape.
    pub fn load(config: &Value, weights: &Weights<'_>) -> Result<Llama> {
        let config = LlamaConfig::from_json(config)?;
        let model = weights.at("model");
        let mut layers = Vec::new();
        for i in 0..config.num_hidden_layers {
            layers.push(Layer::load(&model.at(format_args!("layers.{i}")), &config)?);
        }
        let (d, vocab) = (config.hidden_size, config.vocab_size);
        let tied = config.tie_word_embeddings || !weights.at("lm_head").has("weight")?;
        let lm_head =
            if tied { None } else { Some(Linear::load(&weights.at("lm_head"), d, vocab, false)?) };
        let model = Decoder {
            embed_tokens: Embedding::load(&model.at("embed_tokens"), vocab, d)?,
            layers,
            norm: RmsNorm::load(&model.at("norm"), d, config.rms_norm_eps)?,
            dropout: Dropout::new(0.0)?,
        };
        Ok(Llama { model, lm_head, config, grad_checkpoint: false })
    }

    /// The configuration.
    pub fn config(&self) -> &LlamaConfig {
        &self.config
    }
}

impl Layer {
    fn load(weights: &Weights<'_>, config: &LlamaConfig) -> Result<Layer> {
        let (d, inner, eps) = (config.hidden_size, config.intermediate_size, config.rms_norm_eps);
        let q = config.num_attention_heads * config.head_dim;
        let kv = config.num_key_value_heads * config.head_dim;
        let attn = weights.at("self_attn");
        let mlp = weights.at("mlp");
        let (ab, mb) = (config.attention_bias, config.mlp_bias);
        Ok(Layer {
            input_layernorm: RmsNorm::load(&weights.at("input_layernorm"), d, eps)?,
            self_attn: SelfAttention {
                q_proj: Linear::load(&attn.at("q_proj"), d, q, ab)?,
                k_proj: Linear::load(&attn.at("k_proj"), d, kv, ab)?,
                v_proj: Linear::load(&attn.at("v_proj"), d, kv, ab)?,
                o_proj: Linear::load(&attn.at("o_proj"), q, d, ab)?,
            },
            post_attention_layernorm: RmsNorm::load(
                &weights.at("post_attention_layernorm"),
                d,
                eps,
            )?,
            mlp: Mlp {
                gate_proj: Linear::load(&mlp.at("gate_proj"), d, inner, mb)?,
                up_proj: Linear::load(&mlp.at("up_proj"), d, inner, mb)?,
                down_proj: Linear::load(&mlp.at("down_proj"), inner, d, mb)?,
            },
            dropout: Dropout::new(0.0)?,
        })
    }

    fn forward(
        &self,
        x: &Array,
        cache: &mut KvCache,
        config: &LlamaConfig,
    ) -> lazul_core::Result<Array> {
        let attended = self.self_attn.forward(&self.input_layernorm.forward(x), cache, config)?;
        let h = x + self.dropout.forward(&attended); // (b, t, d)
        let fed = self.mlp.forward(&self.post_attention_layernorm.forward(&h), config);
        Ok(&h + self.dropout.forward(&fed))
    }
}

impl SelfAttention {
    fn forward(
        &self,
        x: &Array,
        cache: &mut KvCache,
        config: &LlamaConfig,
    ) -> lazul_core::Result<Array> {
        let [b, t, _] = x.dims()?;
        let (heads, kv_heads, d) =
            (config.num_attention_heads, config.num_key_value_heads, config.head_dim);
        let split = |y: Array, heads: usize| y.reshape([b, t, heads, d]).transpose([0, 2, 1, 3]);
        let q = split(self.q_proj.forward(x), heads); // (b, heads, t, d)
        let k = split(self.k_proj.forward(x), kv_heads); // (b, kv_heads, t, d)
        let v = split(self.v_proj.forward(x), kv_heads); // (b, kv_heads, t, d)
        let offset = cache.len();
        let q = config.rope.forward(&q, offset)?;
        let k = config.rope.forward(&k, offset)?;
        let stored = cache.update(&k, &v)?; // (b, kv_heads, capacity, d)
        let window = config.sliding_window.filter(|&window| offset + t > window);
        let mask = match (cache.segment_mask(window), window) {
            (Some(mask), _) => Mask::Array(mask),
            (None, Some(window)) => Mask::Window(window),
            // A single query sees every key in use.
            (None, None) if t > 1 => Mask::Causal,
            (None, None) => Mask::None,
        };
        let scale = (config.rope.score_scale / (d as f64).sqrt()) as f32;
        let how = Attention { scale, mask, length: stored.length.as_ref(), ..Default::default() };
        let y = scaled_dot_product_attention(&q, &stored.keys, &stored.values, &how);
        let y = y.transpose([0, 2, 1, 3]).reshape([b, t, heads * d]); // (b, t, heads * d)
        Ok(self.o_proj.forward(&y)) // (b, t, hidden)
    }
}

impl Mlp {
    fn forward(&self, x: &Array, config: &LlamaConfig) -> Array {
        let gate = self.gate_proj.forward(x); // (b, t, inner)
        let gate = match config.activation {
            Activation::Silu => activations::silu(&gate),
            Activation::Gelu => activations::gelu(&gate),
            Activation::GeluTanh => activations::gelu_approx(&gate),
        };
        self.down_proj.forward(&(gate * self.up_proj.forward(x)))
    }
}

impl LanguageModel for Llama {
    fn features(&self, tokens: &Array, cache: &mut [KvCache]) -> lazul_core::Result<Array> {
        if cache.len() != self.model.layers.len() {
            let why = format!("a cache of {} for {} layers", cache.len(), self.model.layers.len());
            return Err(lazul_core::Error::new(lazul_core::ErrorKind::Value, "features", why));
        }
        let h = self.model.embed_tokens.forward(tokens); // (b, t, d)
        let mut h = self.model.dropout.forward(&h);
        for (i, (layer, cache)) in self.model.layers.iter().zip(cache).enumerate() {
            h = scope(&format!("model.layers.{i}"), || {
                // What is computed twice must not be remembered twice: caches that keep something are for
                // generation, which has no gradients to save memory for.
                if !self.grad_checkpoint || !cache.is_passing() {
                    return layer.forward(&h, cache, &self.config);
                }
                let run = |h: &Array| layer.forward(h, &mut cache.clone(), &self.config);
                checkpoint(run)(&h)
            })?;
        }
        Ok(self.model.norm.forward(&h))
    }

    fn logits(&self, features: &Array) -> lazul_core::Result<Array> {
        Ok(match &self.lm_head {
            Some(head) => head.forward(features),
            None => self.model.embed_tokens.as_linear(features),
        })
    }

    fn new_cache(&self) -> Vec<KvCache> {
        self.model.layers.iter().map(|_| KvCache::new()).collect()
    }

    fn vocab_size(&self) -> usize {
        self.config.vocab_size
    }

    fn layers(&self) -> (&'static str, usize) {
        ("model.layers", self.model.layers.len())
    }

    fn set_grad_checkpoint(&mut self, on: bool) {
        self.grad_checkpoint = on;
    }

    fn set_dropout(&mut self, p: f64) -> lazul_core::Result<()> {
        self.model.dropout.p = Dropout::new(p)?.p;
        self.model.layers.iter_mut().for_each(|layer| layer.dropout.p = p);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::LanguageModel;
    use lazul_core::compile;
    use lazul_nn::Trainable;
    use serde_json::json;

    fn model(more: Value) -> Box<dyn LanguageModel> {
        let mut config = json!({
            "model_type": "llama", "vocab_size": 16, "hidden_size": 16, "intermediate_size": 32,
            "num_hidden_layers": 2, "num_attention_heads": 2,
        });
        for (key, value) in more.as_object().unwrap() {
            config[key] = value.clone();
        }
        crate::pretrain::init(&config, 0).unwrap()
    }

    /// A model that computed again with caches of its own forgot all tokens before the last.
    #[test]
    fn checkpointing_does_not_forget_the_cache() -> lazul_core::Result<()> {
        let mut model = model(json!({}));
        let tokens = [3i32, 1, 4, 1, 5];
        let mut last = || -> lazul_core::Result<Vec<f32>> {
            let mut cache = model.new_cache();
            let mut logits = Vec::new();
            for &token in &tokens {
                let token = Array::from_slice(&[token], [1, 1]);
                logits = model.forward(&token, &mut cache)?.to_vec::<f32>()?;
            }
            assert_eq!(cache[1].len(), tokens.len());
            model.set_grad_checkpoint(true);
            Ok(logits)
        };
        let plain = last()?;
        assert_eq!(plain, last()?);
        Ok(())
    }

    /// Equal shapes are not an equal function.
    #[test]
    fn compiled_functions_tell_configurations_apart() -> lazul_core::Result<()> {
        let tokens = Array::from_slice(&[3i32, 1, 4, 1, 5], [1, 5]);
        let run = |m: &Trainable<Box<dyn LanguageModel>>| -> lazul_core::Result<Array> {
            m.forward(&tokens, &mut m.new_cache())
        };
        let compiled = compile(run);
        for more in [
            json!({}),
            json!({ "rope_theta": 100.0 }),
            json!({ "rope_scaling": { "rope_type": "linear", "factor": 2.0 } }),
            json!({ "hidden_act": "gelu" }),
            json!({ "sliding_window": 2 }),
            json!({ "num_attention_heads": 4 }),
        ] {
            let model = Trainable::new(model(more.clone()));
            let apart = (compiled(&model)? - run(&model)?).abs().max(..).item::<f32>()?;
            assert!(apart < 1e-5, "{more}: {apart}");
        }
        Ok(())
    }
}

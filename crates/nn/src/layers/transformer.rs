//! Encoder and decoder stacks of attention and two-layer perceptrons. Source: Vaswani et al., 2017.
//!
//! Names of parameters are MLX's, so its checkpoints fit.

use super::{Activation, Dropout, Keys, LayerNorm, Linear, MultiHeadAttention};
use lazul_core::fast::Mask;
use lazul_core::{Array, Result, attempt, checkpoint};

/// Sizes and options of all layers of a transformer.
#[derive(Clone, Copy, Debug)]
pub struct TransformerOptions {
    /// Number of features; 512.
    pub dims: usize,
    /// Number of heads; 8.
    pub heads: usize,
    /// Features between the two maps of a perceptron; `4 * dims`.
    pub mlp_dims: Option<usize>,
    /// Probability of dropout; 0.
    pub dropout: f64,
    /// Between the two maps; ReLU.
    pub activation: Activation,
    /// Whether norms stand before what they norm rather than after the sum; true.
    pub norm_first: bool,
    /// Whether gradients compute the inner results of a layer again instead of keeping them; false.
    pub checkpoint: bool,
}

impl Default for TransformerOptions {
    fn default() -> Self {
        TransformerOptions {
            dims: 512,
            heads: 8,
            mlp_dims: None,
            dropout: 0.0,
            activation: Activation::Relu,
            norm_first: true,
            checkpoint: false,
        }
    }
}

impl TransformerOptions {
    fn norm(&self) -> LayerNorm {
        LayerNorm::new(self.dims, 1e-5)
    }

    fn perceptron(&self, keys: &mut Keys) -> Result<[Linear; 2]> {
        let inner = self.mlp_dims.unwrap_or(self.dims.saturating_mul(4));
        Ok([
            Linear::init(self.dims, inner, true, keys.next().as_ref())?,
            Linear::init(inner, self.dims, true, keys.next().as_ref())?,
        ])
    }
}

/// `x + f(norm(x))`, or `norm(x + f(x))`.
#[track_caller]
fn residual(x: &Array, norm: &LayerNorm, first: bool, f: impl FnOnce(&Array) -> Array) -> Array {
    if first { x + f(&norm.forward(x)) } else { norm.forward(&(x + f(x))) }
}

/// Self-attention and a perceptron.
///
/// ```
/// use lazul_core::{fast::Mask, prelude::*};
/// use lazul_nn::layers::{TransformerEncoderLayer, TransformerOptions};
/// let options = TransformerOptions { dims: 8, heads: 2, ..Default::default() };
/// let layer = TransformerEncoderLayer::init(&options, Some(&random::key(0)))?;
/// assert_eq!(layer.forward(&ones([1, 3, 8], DType::F32), &Mask::None).shape()?, &[1, 3, 8]);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[derive(Clone, Debug, crate::Module)]
pub struct TransformerEncoderLayer {
    /// Self-attention.
    pub attention: MultiHeadAttention,
    /// Norm of the attention.
    pub ln1: LayerNorm,
    /// Norm of the perceptron.
    pub ln2: LayerNorm,
    /// The perceptron's first map.
    pub linear1: Linear,
    /// The perceptron's second map.
    pub linear2: Linear,
    /// After the attention.
    pub dropout1: Dropout,
    /// Within the perceptron.
    pub dropout2: Dropout,
    /// Within the perceptron.
    #[module(skip)]
    pub activation: Activation,
    /// Whether norms come first.
    #[module(skip)]
    pub norm_first: bool,
}

impl TransformerEncoderLayer {
    /// A layer of these sizes.
    ///
    /// # Errors
    /// If features do not divide into heads, or the probability of dropout is none.
    pub fn init(options: &TransformerOptions, key: Option<&Array>) -> Result<Self> {
        let mut keys = Keys::new(key);
        let attention =
            MultiHeadAttention::init(options.dims, options.heads, keys.next().as_ref())?;
        let [linear1, linear2] = options.perceptron(&mut keys)?;
        Ok(TransformerEncoderLayer {
            attention,
            ln1: options.norm(),
            ln2: options.norm(),
            linear1,
            linear2,
            dropout1: Dropout::new(options.dropout)?,
            dropout2: Dropout::new(options.dropout)?,
            activation: options.activation,
            norm_first: options.norm_first,
        })
    }

    /// `x (b, t, d)` → same shape.
    #[track_caller]
    pub fn forward(&self, x: &Array, mask: &Mask) -> Array {
        attempt(|| {
            let x = residual(x, &self.ln1, self.norm_first, |y| {
                self.dropout1.forward(&self.attention.forward(y, y, y, mask))
            });
            Ok(residual(&x, &self.ln2, self.norm_first, |y| {
                let y = self.activation.forward(&self.linear1.forward(y));
                self.linear2.forward(&self.dropout2.forward(&y))
            }))
        })
    }
}

/// Encoder layers, and a norm at the end.
///
/// ```
/// use lazul_core::{fast::Mask, prelude::*};
/// use lazul_nn::layers::{TransformerEncoder, TransformerOptions};
/// let options = TransformerOptions { dims: 8, heads: 2, ..Default::default() };
/// let encoder = TransformerEncoder::init(2, &options, Some(&random::key(0)))?;
/// assert_eq!(encoder.forward(&ones([1, 3, 8], DType::F32), &Mask::Causal).shape()?, &[1, 3, 8]);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[derive(Clone, Debug, crate::Module)]
pub struct TransformerEncoder {
    /// The layers.
    pub layers: Vec<TransformerEncoderLayer>,
    /// The norm at the end.
    pub ln: LayerNorm,
    /// Whether gradients compute inner results again.
    #[module(skip)]
    pub checkpoint: bool,
}

impl TransformerEncoder {
    /// So many layers of these sizes.
    ///
    /// # Errors
    /// As [`TransformerEncoderLayer::init`].
    pub fn init(layers: usize, options: &TransformerOptions, key: Option<&Array>) -> Result<Self> {
        let mut keys = Keys::new(key);
        let layers = (0..layers)
            .map(|_| TransformerEncoderLayer::init(options, keys.next().as_ref()))
            .collect::<Result<_>>()?;
        Ok(TransformerEncoder { layers, ln: options.norm(), checkpoint: options.checkpoint })
    }

    /// `x (b, t, d)` → same shape.
    #[track_caller]
    pub fn forward(&self, x: &Array, mask: &Mask) -> Array {
        attempt(|| {
            let mut x = x.clone();
            for layer in &self.layers {
                x = if self.checkpoint {
                    checkpoint(|x: &Array| layer.forward(x, mask))(&x)?
                } else {
                    layer.forward(&x, mask)
                };
            }
            Ok(self.ln.forward(&x))
        })
    }
}

/// Self-attention, attention to an encoder's results, and a perceptron.
///
/// ```
/// use lazul_core::{fast::Mask, prelude::*};
/// use lazul_nn::layers::{TransformerDecoderLayer, TransformerOptions};
/// let options = TransformerOptions { dims: 8, heads: 2, ..Default::default() };
/// let layer = TransformerDecoderLayer::init(&options, Some(&random::key(0)))?;
/// let (x, memory) = (ones([1, 3, 8], DType::F32), ones([1, 5, 8], DType::F32));
/// assert_eq!(layer.forward(&x, &memory, &Mask::Causal, &Mask::None).shape()?, &[1, 3, 8]);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[derive(Clone, Debug, crate::Module)]
pub struct TransformerDecoderLayer {
    /// Self-attention.
    pub self_attention: MultiHeadAttention,
    /// Attention to the encoder's results.
    pub cross_attention: MultiHeadAttention,
    /// Norm of the self-attention.
    pub ln1: LayerNorm,
    /// Norm of the other attention.
    pub ln2: LayerNorm,
    /// Norm of the perceptron.
    pub ln3: LayerNorm,
    /// The perceptron's first map.
    pub linear1: Linear,
    /// The perceptron's second map.
    pub linear2: Linear,
    /// After the self-attention.
    pub dropout1: Dropout,
    /// After the other attention.
    pub dropout2: Dropout,
    /// Within the perceptron.
    pub dropout3: Dropout,
    /// Within the perceptron.
    #[module(skip)]
    pub activation: Activation,
    /// Whether norms come first.
    #[module(skip)]
    pub norm_first: bool,
}

impl TransformerDecoderLayer {
    /// A layer of these sizes.
    ///
    /// # Errors
    /// If features do not divide into heads, or the probability of dropout is none.
    pub fn init(options: &TransformerOptions, key: Option<&Array>) -> Result<Self> {
        let mut keys = Keys::new(key);
        let mut attention =
            || MultiHeadAttention::init(options.dims, options.heads, keys.next().as_ref());
        let (self_attention, cross_attention) = (attention()?, attention()?);
        let [linear1, linear2] = options.perceptron(&mut keys)?;
        Ok(TransformerDecoderLayer {
            self_attention,
            cross_attention,
            ln1: options.norm(),
            ln2: options.norm(),
            ln3: options.norm(),
            linear1,
            linear2,
            dropout1: Dropout::new(options.dropout)?,
            dropout2: Dropout::new(options.dropout)?,
            dropout3: Dropout::new(options.dropout)?,
            activation: options.activation,
            norm_first: options.norm_first,
        })
    }

    /// `x (b, t, d)`, `memory (b, tm, d)` → shape of `x`.
    #[track_caller]
    pub fn forward(&self, x: &Array, memory: &Array, mask: &Mask, memory_mask: &Mask) -> Array {
        attempt(|| {
            let x = residual(x, &self.ln1, self.norm_first, |y| {
                self.dropout1.forward(&self.self_attention.forward(y, y, y, mask))
            });
            let x = residual(&x, &self.ln2, self.norm_first, |y| {
                let y = self.cross_attention.forward(y, memory, memory, memory_mask);
                self.dropout2.forward(&y)
            });
            Ok(residual(&x, &self.ln3, self.norm_first, |y| {
                let y = self.activation.forward(&self.linear1.forward(y));
                self.linear2.forward(&self.dropout3.forward(&y))
            }))
        })
    }
}

/// Decoder layers, and a norm at the end.
///
/// ```
/// use lazul_core::{fast::Mask, prelude::*};
/// use lazul_nn::layers::{TransformerDecoder, TransformerOptions};
/// let options = TransformerOptions { dims: 8, heads: 2, ..Default::default() };
/// let decoder = TransformerDecoder::init(2, &options, Some(&random::key(0)))?;
/// let (x, memory) = (ones([1, 3, 8], DType::F32), ones([1, 5, 8], DType::F32));
/// assert_eq!(decoder.forward(&x, &memory, &Mask::Causal, &Mask::None).shape()?, &[1, 3, 8]);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[derive(Clone, Debug, crate::Module)]
pub struct TransformerDecoder {
    /// The layers.
    pub layers: Vec<TransformerDecoderLayer>,
    /// The norm at the end.
    pub ln: LayerNorm,
    /// Whether gradients compute inner results again.
    #[module(skip)]
    pub checkpoint: bool,
}

impl TransformerDecoder {
    /// So many layers of these sizes.
    ///
    /// # Errors
    /// As [`TransformerDecoderLayer::init`].
    pub fn init(layers: usize, options: &TransformerOptions, key: Option<&Array>) -> Result<Self> {
        let mut keys = Keys::new(key);
        let layers = (0..layers)
            .map(|_| TransformerDecoderLayer::init(options, keys.next().as_ref()))
            .collect::<Result<_>>()?;
        Ok(TransformerDecoder { layers, ln: options.norm(), checkpoint: options.checkpoint })
    }

    /// `x (b, t, d)`, `memory (b, tm, d)` → shape of `x`.
    #[track_caller]
    pub fn forward(&self, x: &Array, memory: &Array, mask: &Mask, memory_mask: &Mask) -> Array {
        attempt(|| {
            let mut x = x.clone();
            for layer in &self.layers {
                x = if self.checkpoint {
                    let run =
                        |(x, memory): &(Array, Array)| layer.forward(x, memory, mask, memory_mask);
                    checkpoint(run)(&(x, memory.clone()))?
                } else {
                    layer.forward(&x, memory, mask, memory_mask)
                };
            }
            Ok(self.ln.forward(&x))
        })
    }
}

/// An encoder and a decoder.
///
/// ```
/// use lazul_core::{fast::Mask, prelude::*};
/// use lazul_nn::layers::{Transformer, TransformerOptions};
/// let options = TransformerOptions { dims: 8, heads: 2, ..Default::default() };
/// let model = Transformer::init(1, 1, &options, Some(&random::key(0)))?;
/// let (source, target) = (ones([1, 5, 8], DType::F32), ones([1, 3, 8], DType::F32));
/// let y = model.forward(&source, &target, &Mask::None, &Mask::Causal, &Mask::None);
/// assert_eq!(y.shape()?, &[1, 3, 8]);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[derive(Clone, Debug, crate::Module)]
pub struct Transformer {
    /// Of the source.
    pub encoder: TransformerEncoder,
    /// Of the target.
    pub decoder: TransformerDecoder,
}

impl Transformer {
    /// So many layers each (MLX: 6 and 6) of these sizes.
    ///
    /// # Errors
    /// If features do not divide into heads, or the probability of dropout is none.
    pub fn init(
        encoder_layers: usize,
        decoder_layers: usize,
        options: &TransformerOptions,
        key: Option<&Array>,
    ) -> Result<Transformer> {
        let mut keys = Keys::new(key);
        Ok(Transformer {
            encoder: TransformerEncoder::init(encoder_layers, options, keys.next().as_ref())?,
            decoder: TransformerDecoder::init(decoder_layers, options, keys.next().as_ref())?,
        })
    }

    /// `source (b, ts, d)`, `target (b, tt, d)` → `(b, tt, d)`.
    #[track_caller]
    pub fn forward(
        &self,
        source: &Array,
        target: &Array,
        source_mask: &Mask,
        target_mask: &Mask,
        memory_mask: &Mask,
    ) -> Array {
        let memory = self.encoder.forward(source, source_mask);
        self.decoder.forward(target, &memory, target_mask, memory_mask)
    }
}

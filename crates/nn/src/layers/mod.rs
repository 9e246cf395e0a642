//! Layers: modules that make an array of an array, and a few that need more than one.
//!
//! Layouts are MLX's: channels last, weights `(out, kernel…, in / groups)`, and the same names of
//! parameters, so that checkpoints fit. A layer made by a constructor has f32 parameters drawn as MLX
//! draws them; [`Module::set_dtype`] makes others of them, and [`Module::update`] or a `load` fills
//! in trained ones. Constructors check sizes and return errors; `forward` gives failed arrays where the
//! input does not fit.

mod activation;
mod attention;
mod container;
mod conv;
mod dropout;
mod embedding;
pub(crate) mod linear;
mod norm;
mod pooling;
mod position;
mod recurrent;
#[cfg(test)]
mod tests;
mod transformer;
mod upsample;

pub use activation::{Activation, Prelu};
pub use attention::{MultiHeadAttention, MultiHeadDims, additive_causal_mask};
pub use container::{Identity, Sequential};
pub use conv::{Conv1d, Conv2d, Conv3d, ConvTranspose1d, ConvTranspose2d, ConvTranspose3d};
pub use dropout::{Dropout, Dropout2d, Dropout3d};
pub use embedding::Embedding;
pub use linear::{Bilinear, Linear, Weight};
pub use norm::{BatchNorm, GroupNorm, InstanceNorm, LayerNorm, RmsNorm};
pub use pooling::{AvgPool1d, AvgPool2d, AvgPool3d, MaxPool1d, MaxPool2d, MaxPool3d};
pub use position::{Alibi, Rope, SinusoidalPositionalEncoding};
pub use recurrent::{Gru, Lstm, Rnn};
pub use transformer::{
    Transformer, TransformerDecoder, TransformerDecoderLayer, TransformerEncoder,
    TransformerEncoderLayer, TransformerOptions,
};
pub use upsample::{Interpolate, Upsample, upsample};

use crate::module::Module;
use lazul_core::{Array, Error, ErrorKind, Shape, random};

/// A module that makes one array of another, so that a [`Sequential`] can hold it.
///
/// ```
/// use lazul_core::prelude::*;
/// use lazul_nn::{Layer, Module, Sequential};
/// #[derive(Clone, Module)]
/// struct Twice {}
/// impl Layer for Twice {
///     fn forward(&self, x: &Array) -> Array {
///         x * 2.0
///     }
/// }
/// let model = Sequential::new().then(Twice {}).then(Twice {});
/// assert_eq!(model.forward(&Array::scalar(1.0f32)).item::<f32>()?, 4.0);
/// # Ok::<(), lazul_core::Error>(())
/// ```
pub trait Layer: Module + CloneLayer + Send + Sync {
    /// What the layer makes of `x`.
    fn forward(&self, x: &Array) -> Array;

    /// As `forward`; a layer with running statistics moves them, in training.
    fn forward_mut(&mut self, x: &Array) -> Array {
        self.forward(x)
    }
}

/// A layer that can be copied behind a pointer: every [`Clone`] is one.
pub trait CloneLayer {
    /// A copy.
    fn clone_layer(&self) -> Box<dyn Layer>;
}

impl<L: Layer + Clone + 'static> CloneLayer for L {
    fn clone_layer(&self) -> Box<dyn Layer> {
        Box::new(self.clone())
    }
}

impl Clone for Box<dyn Layer> {
    fn clone(&self) -> Self {
        (**self).clone_layer()
    }
}

/// `Layer` for types that have such a method of their own.
macro_rules! layers {
    ($($layer:ty),* $(,)?) => {$(
        impl Layer for $layer {
            #[track_caller]
            fn forward(&self, x: &Array) -> Array {
                <$layer>::forward(self, x)
            }
        }
    )*};
}
layers! {
    Activation, Prelu, Identity, Linear, Embedding, LayerNorm, RmsNorm, GroupNorm, InstanceNorm,
    Dropout, Dropout2d, Dropout3d,
    Conv1d, Conv2d, Conv3d, ConvTranspose1d, ConvTranspose2d, ConvTranspose3d,
    MaxPool1d, MaxPool2d, MaxPool3d, AvgPool1d, AvgPool2d, AvgPool3d,
    SinusoidalPositionalEncoding, Upsample, Rnn, Gru,
}

/// As many keys as are asked for out of one, or those of the global generator.
struct Keys(Option<Array>);

impl Keys {
    fn new(key: Option<&Array>) -> Keys {
        Keys(key.cloned())
    }

    fn next(&mut self) -> Option<Array> {
        let both = random::split(self.0.as_ref()?, 2);
        self.0 = Some(both.at_index(0, 0));
        Some(both.at_index(0, 1))
    }
}

/// An error of a layer with the arrays that it was given.
fn error(kind: ErrorKind, op: &'static str, why: impl Into<String>, arrays: &[&Array]) -> Error {
    let operands = arrays.iter();
    let operands = operands.filter_map(|a| Some((a.dtype().ok()?, Shape::new(a.shape().ok()?))));
    Error::new(kind, op, why).operands(operands)
}

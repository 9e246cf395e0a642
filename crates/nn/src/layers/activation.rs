//! Activation functions as layers.

use crate::activations as f;
use crate::module::{Module, Visitor, VisitorMut};
use lazul_core::{Array, full};

/// One of the functions of [`activations`](crate::activations) as a layer without parameters, with the
/// same arguments.
///
/// ```
/// use lazul_core::prelude::*;
/// use lazul_nn::layers::Activation;
/// let x = Array::from_slice(&[-2.0f32, 3.0], [2]);
/// assert_eq!(Activation::Relu.forward(&x).to_vec::<f32>()?, [0.0, 3.0]);
/// assert_eq!(Activation::LeakyRelu(0.5).forward(&x).to_vec::<f32>()?, [-1.0, 3.0]);
/// let square = Activation::Custom(|x| x.square());
/// assert_eq!(square.forward(&x).to_vec::<f32>()?, [4.0, 9.0]);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub enum Activation {
    /// [`celu`](f::celu) with its `alpha`.
    Celu(f64),
    /// [`elu`](f::elu) with its `alpha`.
    Elu(f64),
    /// [`gelu`](f::gelu).
    Gelu,
    /// [`gelu_approx`](f::gelu_approx).
    GeluApprox,
    /// [`gelu_fast_approx`](f::gelu_fast_approx).
    GeluFastApprox,
    /// [`glu`](f::glu) along an axis.
    Glu(i64),
    /// [`hard_shrink`](f::hard_shrink) with its `lambda`.
    HardShrink(f64),
    /// [`hard_tanh`](f::hard_tanh) between two values.
    HardTanh(f64, f64),
    /// [`hardswish`](f::hardswish).
    Hardswish,
    /// [`leaky_relu`](f::leaky_relu) with its slope.
    LeakyRelu(f64),
    /// [`log_sigmoid`](f::log_sigmoid).
    LogSigmoid,
    /// [`log_softmax`](f::log_softmax) along an axis.
    LogSoftmax(i64),
    /// [`mish`](f::mish).
    Mish,
    /// [`relu`](f::relu).
    Relu,
    /// [`relu2`](f::relu2).
    Relu2,
    /// [`relu6`](f::relu6).
    Relu6,
    /// [`selu`](f::selu).
    Selu,
    /// [`sigmoid`](f::sigmoid).
    Sigmoid,
    /// [`silu`](f::silu).
    Silu,
    /// [`softmax`](f::softmax) along an axis.
    Softmax(i64),
    /// [`softmin`](f::softmin) along an axis.
    Softmin(i64),
    /// [`softplus`](f::softplus).
    Softplus,
    /// [`softshrink`](f::softshrink) with its `lambda`.
    Softshrink(f64),
    /// [`softsign`](f::softsign).
    Softsign,
    /// [`step`](f::step) at a threshold.
    Step(f64),
    /// [`tanh`](f::tanh).
    Tanh,
    /// A function of one's own.
    Custom(fn(&Array) -> Array),
}

impl Activation {
    /// The function of `x`.
    #[track_caller]
    pub fn forward(&self, x: &Array) -> Array {
        match *self {
            Activation::Celu(alpha) => f::celu(x, alpha),
            Activation::Elu(alpha) => f::elu(x, alpha),
            Activation::Gelu => f::gelu(x),
            Activation::GeluApprox => f::gelu_approx(x),
            Activation::GeluFastApprox => f::gelu_fast_approx(x),
            Activation::Glu(axis) => f::glu(x, axis),
            Activation::HardShrink(lambda) => f::hard_shrink(x, lambda),
            Activation::HardTanh(min, max) => f::hard_tanh(x, min, max),
            Activation::Hardswish => f::hardswish(x),
            Activation::LeakyRelu(slope) => f::leaky_relu(x, slope),
            Activation::LogSigmoid => f::log_sigmoid(x),
            Activation::LogSoftmax(axis) => f::log_softmax(x, axis),
            Activation::Mish => f::mish(x),
            Activation::Relu => f::relu(x),
            Activation::Relu2 => f::relu2(x),
            Activation::Relu6 => f::relu6(x),
            Activation::Selu => f::selu(x),
            Activation::Sigmoid => f::sigmoid(x),
            Activation::Silu => f::silu(x),
            Activation::Softmax(axis) => f::softmax(x, axis),
            Activation::Softmin(axis) => f::softmin(x, axis),
            Activation::Softplus => f::softplus(x),
            Activation::Softshrink(lambda) => f::softshrink(x, lambda),
            Activation::Softsign => f::softsign(x),
            Activation::Step(threshold) => f::step(x, threshold),
            Activation::Tanh => f::tanh(x),
            Activation::Custom(f) => f(x),
        }
    }
}

/// Has no parameters.
impl Module for Activation {
    fn visit<'a>(&'a self, _: &mut Visitor<'_, 'a>) {}
    fn visit_mut(&mut self, _: &mut VisitorMut<'_>) {}
}

/// [`prelu`](f::prelu) with learned slopes.
///
/// ```
/// use lazul_core::prelude::*;
/// use lazul_nn::layers::Prelu;
/// let x = Array::from_slice(&[-2.0f32, 3.0], [2]);
/// assert_eq!(Prelu::new(1, 0.25).forward(&x).to_vec::<f32>()?, [-0.5, 3.0]);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[derive(Clone, Debug, crate::Module)]
pub struct Prelu {
    /// One slope, or one for each channel of the last axis.
    pub weight: Array,
}

impl Prelu {
    /// `channels` slopes (MLX: 1) that are `slope` at first (MLX: 0.25).
    pub fn new(channels: usize, slope: f32) -> Prelu {
        Prelu { weight: full(channels, Array::scalar(slope)) }
    }

    /// `x (…, channels)` → same shape.
    #[track_caller]
    pub fn forward(&self, x: &Array) -> Array {
        f::prelu(x, &self.weight)
    }
}

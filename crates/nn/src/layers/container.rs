//! Layers in a row.

use super::Layer;
use crate::module::{Module, Visitor, VisitorMut};
use lazul_core::{Array, attempt, scope};

/// Layers that are applied one after another; parameters are called `layers.0.weight` and so on.
///
/// ```
/// use lazul_core::prelude::*;
/// use lazul_nn::{Layer, Linear, Module, Sequential, layers::Activation};
/// let key = random::key(0);
/// let model = Sequential::new()
///     .then(Linear::init(4, 8, true, Some(&key))?)
///     .then(Activation::Relu)
///     .then(Linear::init(8, 2, false, Some(&key))?);
/// assert_eq!(model.forward(&ones([3, 4], DType::F32)).shape()?, &[3, 2]);
/// let names: Vec<String> = model.parameters().into_iter().map(|(name, _)| name).collect();
/// assert_eq!(names, ["layers.0.weight", "layers.0.bias", "layers.2.weight"]);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[derive(Clone, Default)]
pub struct Sequential {
    /// The layers, first to last.
    pub layers: Vec<Box<dyn Layer>>,
}

impl Sequential {
    /// No layers: the identity.
    pub fn new() -> Sequential {
        Sequential::default()
    }

    /// One layer more.
    pub fn then(mut self, layer: impl Layer + 'static) -> Sequential {
        self.layers.push(Box::new(layer));
        self
    }
}

impl Module for Sequential {
    fn visit<'a>(&'a self, visitor: &mut Visitor<'_, 'a>) {
        visitor.field("layers", &self.layers);
    }
    fn visit_mut(&mut self, visitor: &mut VisitorMut<'_>) {
        visitor.field("layers", &mut self.layers);
    }
}

impl Layer for Sequential {
    #[track_caller]
    fn forward(&self, x: &Array) -> Array {
        // The caller's line is lost behind a pointer to a layer, so it is kept here.
        attempt(|| {
            let layers = self.layers.iter().enumerate();
            Ok(layers.fold(x.clone(), |x, (i, layer)| within(i, || layer.forward(&x))))
        })
    }

    #[track_caller]
    fn forward_mut(&mut self, x: &Array) -> Array {
        attempt(|| {
            let layers = self.layers.iter_mut().enumerate();
            Ok(layers.fold(x.clone(), |x, (i, layer)| within(i, || layer.forward_mut(&x))))
        })
    }
}

/// Runs a layer so that its errors say which it is.
fn within(i: usize, f: impl FnOnce() -> Array) -> Array {
    scope(&format!("layers.{i}"), f)
}

/// Gives its input.
///
/// ```
/// use lazul_core::prelude::*;
/// use lazul_nn::layers::Identity;
/// assert_eq!(Identity {}.forward(&Array::scalar(3)).item::<i32>()?, 3);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, crate::Module)]
pub struct Identity {}

impl Identity {
    /// `x`, whatever it is.
    pub fn forward(&self, x: &Array) -> Array {
        x.clone()
    }
}

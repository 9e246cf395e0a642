//! Modules as trees of named parameters.

use crate::visitor::{Matrix, Visitor, VisitorMut};
use lazul_core::{Array, DType, Error, ErrorKind, Quantized, Result, Shape};
use std::collections::BTreeMap;

/// Arrays by their paths: parameters, their gradients, buffers. A [`Tree`](lazul_core::Tree).
pub type Parameters = BTreeMap<String, Array>;

/// What an array of a module is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It is learned.
    Parameter,
    /// It could be learned, but a [`Trainable`](crate::Trainable) says that it stays.
    Frozen,
    /// It is part of a checkpoint, but nothing that gradients change: running statistics, codes.
    Buffer,
}

/// A tree of parameters.
///
/// The derive macro writes [`Tree`](lazul_core::Tree) too, so that a module can be the argument or the
/// state of a function that is transformed.
///
/// ```
/// use lazul_core::prelude::*;
/// use lazul_nn::{Linear, Module};
///
/// #[derive(Clone, Module)]
/// struct Mlp {
///     up: Linear,
///     down: Linear,
///     #[module(option)]
///     dropout: f32,
/// }
/// let linear = |o: usize, i: usize| Linear::new(zeros([o, i], DType::F32), None);
/// let mlp = Mlp { up: linear(8, 4), down: linear(4, 8), dropout: 0.1 };
/// let names: Vec<String> = mlp.parameters().into_iter().map(|(name, _)| name).collect();
/// assert_eq!(names, ["up.weight", "down.weight"]);
/// assert_eq!(mlp.num_parameters()?, 64);
/// assert_eq!(mlp.leaves().len(), 2);
/// # let _ = mlp.dropout;
/// # Ok::<(), lazul_core::Error>(())
/// ```
pub trait Module {
    /// Shows every parameter to `visitor`.
    fn visit<'a>(&'a self, visitor: &mut Visitor<'_, 'a>);

    /// Shows every parameter to `visitor`, to be changed.
    fn visit_mut(&mut self, visitor: &mut VisitorMut<'_>);

    /// Appends what tells this module from others of its type, as
    /// [`Tree::structure`](lazul_core::Tree::structure): a compiled function is traced again where it
    /// differs.
    fn structure(&self, words: &mut Vec<u64>);

    /// Paths and arrays of all parameters and buffers, in the order of fields.
    fn parameters(&self) -> Vec<(String, &Array)> {
        let mut all = Vec::new();
        let mut keep = |path: &str, array, _| all.push((path.to_string(), array));
        self.visit(&mut Visitor::new(&mut keep));
        all
    }

    /// Parameters of float dtypes, by path: what [`value_and_grad`](crate::value_and_grad)
    /// differentiates by. Buffers are not among them.
    fn trainable_parameters(&self) -> Parameters {
        let mut all = Parameters::new();
        let mut keep = |path: &str, array: &Array, role| {
            if role == Role::Parameter && array.dtype().map_or(true, |d| d.is_float()) {
                all.insert(path.to_string(), array.clone());
            }
        };
        self.visit(&mut Visitor::new(&mut keep));
        all
    }

    /// Buffers, by path.
    fn buffers(&self) -> Parameters {
        let mut all = Parameters::new();
        let mut keep = |path: &str, array: &Array, role| {
            if role == Role::Buffer {
                all.insert(path.to_string(), array.clone());
            }
        };
        self.visit(&mut Visitor::new(&mut keep));
        all
    }

    /// Replaces every parameter and buffer by what `change` makes of its path and value.
    fn map(&mut self, change: &mut dyn FnMut(&str, &Array) -> Array) {
        let mut each = |path: &str, array: &mut Array, _| *array = change(path, array);
        self.visit_mut(&mut VisitorMut::new(&mut each));
    }

    /// Replaces the parameters and buffers that `values` names.
    ///
    /// # Errors
    /// If a name is that of none, or a shape is another; nothing is changed then.
    fn update(&mut self, values: &Parameters) -> Result<()> {
        let refuse = |kind, why| Err(Error::new(kind, "Module::update", why));
        let mut found = 0;
        for (path, old) in self.parameters() {
            let Some(new) = values.get(&path) else { continue };
            found += 1;
            if new.shape()? != old.shape()? {
                let (new, old) = (Shape::new(new.shape()?), Shape::new(old.shape()?));
                return refuse(ErrorKind::Shape, format!("{path} has shape {old}, not {new}"));
            }
        }
        if found < values.len() {
            let known: BTreeMap<String, &Array> = self.parameters().into_iter().collect();
            let unknown = values.keys().find(|name| !known.contains_key(*name));
            let why = format!("there is no parameter {}", unknown.map_or("", |name| name));
            return refuse(ErrorKind::Value, why);
        }
        self.map(&mut |path, old| values.get(path).unwrap_or(old).clone());
        Ok(())
    }

    /// Casts parameters and buffers of float dtypes to `dtype`; codes and other integers stay.
    fn set_dtype(&mut self, dtype: DType) {
        self.map(&mut |_, a| match a.dtype() {
            Ok(d) if d.is_float() => a.astype(dtype),
            _ => a.clone(),
        });
    }

    /// Shows every matrix that can be quantized or adapted, by the path of its layer, to be changed.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// use lazul_nn::{Linear, Matrix, Module};
    /// let mut model = vec![Linear::init(64, 8, false, None)?, Linear::init(8, 8, false, None)?];
    /// let mut found = Vec::new();
    /// model.matrices_mut(&mut |path, matrix| {
    ///     if let Matrix::Linear(_) = matrix {
    ///         found.push(path.to_string());
    ///     }
    /// });
    /// assert_eq!(found, ["0", "1"]);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    fn matrices_mut(&mut self, change: &mut dyn FnMut(&str, Matrix<'_>)) {
        let mut nothing = |_: &str, _: &mut Array, _| {};
        let mut visitor = VisitorMut::new(&mut nothing);
        visitor.matrices = Some(change);
        self.visit_mut(&mut visitor);
    }

    /// Switches layers that behave differently in training (dropout, batch normalisation) to training,
    /// as they are made, or to inference.
    fn train(&mut self, training: bool) {
        let mut nothing = |_: &str, _: &mut Array, _| {};
        let mut visitor = VisitorMut::new(&mut nothing);
        visitor.training = Some(training);
        self.visit_mut(&mut visitor);
    }

    /// Switches layers to inference: `train(false)`.
    fn eval(&mut self) {
        self.train(false);
    }

    /// Number of elements of all parameters as they are stored: packed codes count as words.
    ///
    /// # Errors
    /// If a parameter is a failed array.
    fn num_parameters(&self) -> Result<usize> {
        self.parameters().into_iter().map(|(_, a)| a.size()).sum()
    }

    /// Bytes that all parameters take.
    ///
    /// # Errors
    /// If a parameter is a failed array.
    fn nbytes(&self) -> Result<usize> {
        self.parameters().into_iter().map(|(_, a)| a.nbytes()).sum()
    }

    /// The module as an indented tree of names, with the shape and dtype of each array, what is not
    /// learned, and numbers of elements.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// use lazul_nn::{Linear, Module, Sequential, layers::BatchNorm};
    /// let model = Sequential::new().then(Linear::init(3, 2, true, None)?).then(BatchNorm::new(2));
    /// println!("{}", model.summary()?);
    /// # assert_eq!(model.summary()?, "\
    /// # layers
    /// #   0
    /// #     weight        (2,3)  float32
    /// #     bias          (2,)   float32
    /// #   1
    /// #     weight        (2,)   float32
    /// #     bias          (2,)   float32
    /// #     running_mean  (2,)   float32  buffer
    /// #     running_var   (2,)   float32  buffer
    /// # 16 elements, 12 of them trainable".replace("    # ", ""));
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// If a parameter is a failed array.
    fn summary(&self) -> Result<String> {
        crate::summary::summary(self)
    }
}

impl Module for Array {
    fn visit<'a>(&'a self, visitor: &mut Visitor<'_, 'a>) {
        visitor.array(self);
    }
    fn visit_mut(&mut self, visitor: &mut VisitorMut<'_>) {
        visitor.array(self);
    }
    fn structure(&self, _: &mut Vec<u64>) {}
}

impl<M: Module> Module for Option<M> {
    fn visit<'a>(&'a self, visitor: &mut Visitor<'_, 'a>) {
        if let Some(module) = self {
            module.visit(visitor);
        }
    }
    fn visit_mut(&mut self, visitor: &mut VisitorMut<'_>) {
        if let Some(module) = self {
            module.visit_mut(visitor);
        }
    }
    fn structure(&self, words: &mut Vec<u64>) {
        words.push(self.is_some() as u64);
        self.iter().for_each(|m| m.structure(words));
    }
}

impl<M: Module> Module for Vec<M> {
    fn visit<'a>(&'a self, visitor: &mut Visitor<'_, 'a>) {
        self.iter().enumerate().for_each(|(i, m)| visitor.field(&i.to_string(), m));
    }
    fn visit_mut(&mut self, visitor: &mut VisitorMut<'_>) {
        self.iter_mut().enumerate().for_each(|(i, m)| visitor.field(&i.to_string(), m));
    }
    fn structure(&self, words: &mut Vec<u64>) {
        words.push(self.len() as u64);
        self.iter().for_each(|m| m.structure(words));
    }
}

impl<M: Module + ?Sized> Module for Box<M> {
    fn visit<'a>(&'a self, visitor: &mut Visitor<'_, 'a>) {
        (**self).visit(visitor);
    }
    fn visit_mut(&mut self, visitor: &mut VisitorMut<'_>) {
        (**self).visit_mut(visitor);
    }
    fn structure(&self, words: &mut Vec<u64>) {
        (**self).structure(words);
    }
}

/// Codes, scales, biases and global scale, under the names that MLX gives them: buffers, as codes cannot
/// follow a gradient.
impl Module for Quantized {
    fn visit<'a>(&'a self, visitor: &mut Visitor<'_, 'a>) {
        visitor.buffers(|visitor| {
            visitor.field("weight", &self.codes);
            visitor.field("scales", &self.scales);
            visitor.field("biases", &self.biases);
            visitor.field("global_scale", &self.global_scale);
        });
    }
    fn visit_mut(&mut self, visitor: &mut VisitorMut<'_>) {
        visitor.buffers(|visitor| {
            visitor.field("weight", &mut self.codes);
            visitor.field("scales", &mut self.scales);
            visitor.field("biases", &mut self.biases);
            visitor.field("global_scale", &mut self.global_scale);
        });
    }
    fn structure(&self, words: &mut Vec<u64>) {
        option(&self.form, words);
        for part in [&self.scales, &self.biases, &self.global_scale] {
            part.structure(words);
        }
    }
}

/// The structure of what is no array: its text.
#[doc(hidden)]
pub fn option(value: &dyn std::fmt::Debug, words: &mut Vec<u64>) {
    lazul_core::Tree::structure(&format!("{value:?}"), words);
}

/// `Tree` for modules whose `Module` is written by hand: its leaves are all arrays of the module.
macro_rules! tree_of_module {
    ($($t:ty),* $(,)?) => {$(
        impl lazul_core::Tree for $t {
            fn visit<'a>(&'a self, f: &mut dyn FnMut(&'a lazul_core::Array)) {
                crate::visitor::visit(self, f);
            }
            fn visit_mut(&mut self, f: &mut dyn FnMut(&mut lazul_core::Array)) {
                crate::visitor::visit_mut(self, f);
            }
            fn structure(&self, words: &mut Vec<u64>) {
                $crate::Module::structure(self, words);
            }
        }
    )*};
}
pub(crate) use tree_of_module;

/// `Module` and `Tree` for types without arrays: all that there is of them is an option.
macro_rules! options_only {
    ($($t:ty),* $(,)?) => {$(
        /// Has no parameters.
        impl crate::Module for $t {
            fn visit<'a>(&'a self, _: &mut crate::Visitor<'_, 'a>) {}
            fn visit_mut(&mut self, _: &mut crate::VisitorMut<'_>) {}
            fn structure(&self, words: &mut Vec<u64>) {
                crate::module::option(self, words);
            }
        }
        crate::module::tree_of_module!($t);
    )*};
}
pub(crate) use options_only;

/// An array of a module that gradients do not change, like a running mean.
///
/// ```
/// use lazul_core::prelude::*;
/// use lazul_nn::{Buffer, Module};
/// #[derive(Clone, Module)]
/// struct Scaler {
///     weight: Array,
///     mean: Buffer,
/// }
/// let mut scaler = Scaler { weight: ones(1, DType::F32), mean: Buffer(zeros(1, DType::F32)) };
/// assert!(scaler.trainable_parameters().contains_key("weight"));
/// assert!(scaler.buffers().contains_key("mean"));
/// scaler.update(&[("mean".to_string(), ones(1, DType::F32))].into())?;
/// assert_eq!(scaler.mean.item::<f32>()?, 1.0);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Buffer(pub Array);

impl std::ops::Deref for Buffer {
    type Target = Array;
    fn deref(&self) -> &Array {
        &self.0
    }
}

impl Module for Buffer {
    fn visit<'a>(&'a self, visitor: &mut Visitor<'_, 'a>) {
        visitor.buffers(|visitor| self.0.visit(visitor));
    }
    fn visit_mut(&mut self, visitor: &mut VisitorMut<'_>) {
        visitor.buffers(|visitor| self.0.visit_mut(visitor));
    }
    fn structure(&self, _: &mut Vec<u64>) {}
}

/// Whether a layer is in training: a field of layers that behave differently then, set by
/// [`Module::train`]. True at first.
///
/// ```
/// use lazul_nn::{Module, Training, layers::Dropout};
/// let mut dropout = Dropout::new(0.5)?;
/// assert_eq!(dropout.training, Training(true));
/// dropout.train(false);
/// assert_eq!(dropout.training, Training(false));
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Training(pub bool);

impl Default for Training {
    fn default() -> Training {
        Training(true)
    }
}

/// Has no arrays.
impl Module for Training {
    fn visit<'a>(&'a self, _: &mut Visitor<'_, 'a>) {}
    fn visit_mut(&mut self, visitor: &mut VisitorMut<'_>) {
        self.0 = visitor.training.unwrap_or(self.0);
    }
    fn structure(&self, words: &mut Vec<u64>) {
        words.push(self.0 as u64);
    }
}

tree_of_module!(Buffer, Training);

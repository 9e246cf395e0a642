//! Modules as trees of named parameters.

use lazul_core::{Array, DType, Error, ErrorKind, Quantized, Result, Shape};
use std::collections::BTreeMap;

/// Arrays by their paths: parameters, their gradients, buffers. A [`Tree`](lazul_core::Tree).
pub type Parameters = BTreeMap<String, Array>;

/// What an array of a module is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It is learned.
    Parameter,
    /// It is part of a checkpoint, but nothing that gradients change: running statistics, codes.
    Buffer,
}

/// A tree of parameters.
///
/// ```
/// use lazul_core::prelude::*;
/// use lazul_nn::{Linear, Module};
///
/// #[derive(Module)]
/// struct Mlp {
///     up: Linear,
///     down: Linear,
///     #[module(skip)]
///     dropout: f32,
/// }
/// let linear = |o: usize, i: usize| Linear::new(zeros([o, i], DType::F32), None);
/// let mlp = Mlp { up: linear(8, 4), down: linear(4, 8), dropout: 0.1 };
/// let names: Vec<String> = mlp.parameters().into_iter().map(|(name, _)| name).collect();
/// assert_eq!(names, ["up.weight", "down.weight"]);
/// assert_eq!(mlp.num_parameters()?, 64);
/// # let _ = mlp.dropout;
/// # Ok::<(), lazul_core::Error>(())
/// ```
pub trait Module {
    /// Shows every parameter to `visitor`.
    fn visit<'a>(&'a self, visitor: &mut Visitor<'_, 'a>);

    /// Shows every parameter to `visitor`, to be changed.
    fn visit_mut(&mut self, visitor: &mut VisitorMut<'_>);

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

    /// Switches layers that behave differently in training (dropout, batch normalisation) to training,
    /// as they are made, or to inference.
    fn train(&mut self, training: bool) {
        let mut nothing = |_: &str, _: &mut Array, _| {};
        let mut visitor = VisitorMut::new(&mut nothing);
        visitor.training = Some(training);
        self.visit_mut(&mut visitor);
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
}

/// Carries the path while a module is traversed.
pub struct Visitor<'v, 'a> {
    path: String,
    role: Role,
    each: &'v mut dyn FnMut(&str, &'a Array, Role),
}

/// Carries the path while a module is traversed to be changed.
pub struct VisitorMut<'v> {
    path: String,
    role: Role,
    each: &'v mut dyn FnMut(&str, &mut Array, Role),
    /// The mode that layers are to take on.
    training: Option<bool>,
}

fn enter(path: &mut String, name: &str) -> usize {
    let before = path.len();
    if before > 0 {
        path.push('.');
    }
    path.push_str(name);
    before
}

impl<'v, 'a> Visitor<'v, 'a> {
    fn new(each: &'v mut dyn FnMut(&str, &'a Array, Role)) -> Self {
        Visitor { path: String::new(), role: Role::Parameter, each }
    }

    /// Runs `f`, to which every array is a buffer.
    pub fn buffers(&mut self, f: impl FnOnce(&mut Self)) {
        let before = std::mem::replace(&mut self.role, Role::Buffer);
        f(self);
        self.role = before;
    }

    /// Visits a field under its name.
    pub fn field<M: Module + ?Sized>(&mut self, name: &str, field: &'a M) {
        let before = enter(&mut self.path, name);
        field.visit(self);
        self.path.truncate(before);
    }
}

impl<'v> VisitorMut<'v> {
    fn new(each: &'v mut dyn FnMut(&str, &mut Array, Role)) -> Self {
        VisitorMut { path: String::new(), role: Role::Parameter, each, training: None }
    }

    /// Runs `f`, to which every array is a buffer.
    pub fn buffers(&mut self, f: impl FnOnce(&mut Self)) {
        let before = std::mem::replace(&mut self.role, Role::Buffer);
        f(self);
        self.role = before;
    }

    /// Visits a field under its name.
    pub fn field<M: Module + ?Sized>(&mut self, name: &str, field: &mut M) {
        let before = enter(&mut self.path, name);
        field.visit_mut(self);
        self.path.truncate(before);
    }
}

impl Module for Array {
    fn visit<'a>(&'a self, visitor: &mut Visitor<'_, 'a>) {
        (visitor.each)(&visitor.path, self, visitor.role);
    }
    fn visit_mut(&mut self, visitor: &mut VisitorMut<'_>) {
        (visitor.each)(&visitor.path, self, visitor.role);
    }
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
}

impl<M: Module> Module for Vec<M> {
    fn visit<'a>(&'a self, visitor: &mut Visitor<'_, 'a>) {
        self.iter().enumerate().for_each(|(i, m)| visitor.field(&i.to_string(), m));
    }
    fn visit_mut(&mut self, visitor: &mut VisitorMut<'_>) {
        self.iter_mut().enumerate().for_each(|(i, m)| visitor.field(&i.to_string(), m));
    }
}

impl<M: Module + ?Sized> Module for Box<M> {
    fn visit<'a>(&'a self, visitor: &mut Visitor<'_, 'a>) {
        (**self).visit(visitor);
    }
    fn visit_mut(&mut self, visitor: &mut VisitorMut<'_>) {
        (**self).visit_mut(visitor);
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
}

/// An array of a module that gradients do not change, like a running mean.
///
/// ```
/// use lazul_core::prelude::*;
/// use lazul_nn::{Buffer, Module};
/// #[derive(Module)]
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
}

//! Modules as trees of named parameters.

use lazul_core::{Array, Quantized, Result};

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

    /// Paths and arrays of all parameters, in the order of fields.
    fn parameters(&self) -> Vec<(String, &Array)> {
        let mut all = Vec::new();
        let mut keep = |path: &str, array| all.push((path.to_string(), array));
        self.visit(&mut Visitor { path: String::new(), each: &mut keep });
        all
    }

    /// Replaces every parameter by what `change` makes of its path and value.
    fn map(&mut self, change: &mut dyn FnMut(&str, &Array) -> Array) {
        let mut each = |path: &str, array: &mut Array| *array = change(path, array);
        self.visit_mut(&mut VisitorMut { path: String::new(), each: &mut each });
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
    each: &'v mut dyn FnMut(&str, &'a Array),
}

/// Carries the path while a module is traversed to be changed.
pub struct VisitorMut<'v> {
    path: String,
    each: &'v mut dyn FnMut(&str, &mut Array),
}

fn enter(path: &mut String, name: &str) -> usize {
    let before = path.len();
    if before > 0 {
        path.push('.');
    }
    path.push_str(name);
    before
}

impl<'a> Visitor<'_, 'a> {
    /// Visits a field under its name.
    pub fn field<M: Module + ?Sized>(&mut self, name: &str, field: &'a M) {
        let before = enter(&mut self.path, name);
        field.visit(self);
        self.path.truncate(before);
    }
}

impl VisitorMut<'_> {
    /// Visits a field under its name.
    pub fn field<M: Module + ?Sized>(&mut self, name: &str, field: &mut M) {
        let before = enter(&mut self.path, name);
        field.visit_mut(self);
        self.path.truncate(before);
    }
}

impl Module for Array {
    fn visit<'a>(&'a self, visitor: &mut Visitor<'_, 'a>) {
        (visitor.each)(&visitor.path, self);
    }
    fn visit_mut(&mut self, visitor: &mut VisitorMut<'_>) {
        (visitor.each)(&visitor.path, self);
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

/// Codes, scales, biases and global scale, under the names that MLX gives them.
impl Module for Quantized {
    fn visit<'a>(&'a self, visitor: &mut Visitor<'_, 'a>) {
        visitor.field("weight", &self.codes);
        visitor.field("scales", &self.scales);
        visitor.field("biases", &self.biases);
        visitor.field("global_scale", &self.global_scale);
    }
    fn visit_mut(&mut self, visitor: &mut VisitorMut<'_>) {
        visitor.field("weight", &mut self.codes);
        visitor.field("scales", &mut self.scales);
        visitor.field("biases", &mut self.biases);
        visitor.field("global_scale", &mut self.global_scale);
    }
}

//! How a module is traversed: path, role and freezing rules on the way down, arrays at the ends.

use crate::layers::{Embedding, Linear};
use crate::module::{Module, Role};
use crate::trainable::Rules;
use lazul_core::Array;

/// A layer whose matrix can be quantized or adapted.
#[derive(Debug)]
pub enum Matrix<'m> {
    /// An affine map.
    Linear(&'m mut Linear),
    /// A table.
    Embedding(&'m mut Embedding),
}

/// Where a traversal stands.
struct Place {
    path: String,
    role: Role,
    /// Rules of the [`Trainable`](crate::Trainable)s around, outermost first, and how long the path was there.
    rules: Vec<(usize, Rules)>,
}

impl Place {
    fn top() -> Place {
        Place { path: String::new(), role: Role::Parameter, rules: Vec::new() }
    }

    /// Goes down; the length of the path before.
    fn enter(&mut self, name: &str) -> usize {
        let before = self.path.len();
        if before > 0 {
            self.path.push('.');
        }
        self.path.push_str(name);
        before
    }

    /// The role of an array here.
    fn role(&self) -> Role {
        let frozen = |(from, rules): &(usize, Rules)| {
            rules.freeze(self.path[*from..].trim_start_matches('.'))
        };
        match self.role {
            Role::Parameter if self.rules.iter().any(frozen) => Role::Frozen,
            role => role,
        }
    }
}

/// Carries the path while a module is traversed.
pub struct Visitor<'v, 'a> {
    place: Place,
    each: &'v mut dyn FnMut(&str, &'a Array, Role),
}

/// Carries the path while a module is traversed to be changed.
pub struct VisitorMut<'v> {
    place: Place,
    each: &'v mut dyn FnMut(&str, &mut Array, Role),
    /// The mode that layers are to take on.
    pub(crate) training: Option<bool>,
    /// What is shown matrices.
    pub(crate) matrices: Option<&'v mut dyn FnMut(&str, Matrix<'_>)>,
}

impl<'v, 'a> Visitor<'v, 'a> {
    pub(crate) fn new(each: &'v mut dyn FnMut(&str, &'a Array, Role)) -> Self {
        Visitor { place: Place::top(), each }
    }

    /// Runs `f`, to which every array is a buffer.
    pub fn buffers(&mut self, f: impl FnOnce(&mut Self)) {
        let before = std::mem::replace(&mut self.place.role, Role::Buffer);
        f(self);
        self.place.role = before;
    }

    /// Visits a field under its name.
    pub fn field<M: Module + ?Sized>(&mut self, name: &str, field: &'a M) {
        let before = self.place.enter(name);
        field.visit(self);
        self.place.path.truncate(before);
    }

    /// Runs `f`, within which `rules` hold.
    pub(crate) fn ruled(&mut self, rules: &Rules, f: impl FnOnce(&mut Self)) {
        self.place.rules.push((self.place.path.len(), rules.clone()));
        f(self);
        self.place.rules.pop();
    }

    /// Shows the array that stands here.
    pub(crate) fn array(&mut self, array: &'a Array) {
        (self.each)(&self.place.path, array, self.place.role());
    }
}

impl<'v> VisitorMut<'v> {
    pub(crate) fn new(each: &'v mut dyn FnMut(&str, &mut Array, Role)) -> Self {
        VisitorMut { place: Place::top(), each, training: None, matrices: None }
    }

    /// Runs `f`, to which every array is a buffer.
    pub fn buffers(&mut self, f: impl FnOnce(&mut Self)) {
        let before = std::mem::replace(&mut self.place.role, Role::Buffer);
        f(self);
        self.place.role = before;
    }

    /// Visits a field under its name.
    pub fn field<M: Module + ?Sized>(&mut self, name: &str, field: &mut M) {
        let before = self.place.enter(name);
        field.visit_mut(self);
        self.place.path.truncate(before);
    }

    /// Runs `f`, within which `rules` hold.
    pub(crate) fn ruled(&mut self, rules: &Rules, f: impl FnOnce(&mut Self)) {
        self.place.rules.push((self.place.path.len(), rules.clone()));
        f(self);
        self.place.rules.pop();
    }

    /// Shows the array that stands here.
    pub(crate) fn array(&mut self, array: &mut Array) {
        (self.each)(&self.place.path, array, self.place.role());
    }

    /// Shows the layer that stands here.
    pub(crate) fn matrix(&mut self, matrix: Matrix<'_>) {
        if let Some(f) = &mut self.matrices {
            f(&self.place.path, matrix);
        }
    }
}

/// A module's arrays as leaves of a tree; what the derive macro writes calls these.
#[doc(hidden)]
pub fn visit<'a, M: Module + ?Sized>(module: &'a M, f: &mut dyn FnMut(&'a Array)) {
    module.visit(&mut Visitor::new(&mut |_, a, _| f(a)));
}

/// As [`visit`], to replace them.
#[doc(hidden)]
pub fn visit_mut<M: Module + ?Sized>(module: &mut M, f: &mut dyn FnMut(&mut Array)) {
    module.visit_mut(&mut VisitorMut::new(&mut |_, a, _| f(a)));
}

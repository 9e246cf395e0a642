//! Trees of arrays: what functions that are transformed take and give.

use crate::error::{Error, Result};
use crate::node::Array;
use std::collections::{BTreeMap, HashMap};
use std::ops::{Deref, DerefMut};

/// A value made of arrays: an array, a tuple, a vector, a map, or a struct that derives it.
///
/// The arrays are its leaves, in a fixed order. Other fields (numbers, texts) are part of its
/// structure: two trees are alike if their structures are equal.
///
/// ```
/// use lazul_core::prelude::*;
/// use lazul_core::Tree;
/// let x = Array::scalar(1.0f32);
/// let tree = (x.clone(), vec![x.clone(), x.clone()]);
/// assert_eq!(tree.leaves().len(), 3);
///
/// #[derive(Clone, Tree)]
/// struct Line {
///     slope: Array,
///     intercept: Option<Array>,
///     name: String,
/// }
/// let line = Line { slope: x.clone(), intercept: Some(x), name: "first".into() };
/// let loss = |l: &Line| match &l.intercept {
///     Some(b) => (&l.slope * 2.0 + b).square().sum(..),
///     None => l.slope.square().sum(..),
/// };
/// assert_eq!(grad(loss)(&line)?.slope.item::<f32>()?, 12.0);
/// # Ok::<(), lazul_core::Error>(())
/// ```
pub trait Tree: Clone {
    /// Shows every leaf to `f`, in order.
    fn visit<'a>(&'a self, f: &mut dyn FnMut(&'a Array));

    /// Shows every leaf to `f`, in the same order, to be replaced.
    fn visit_mut(&mut self, f: &mut dyn FnMut(&mut Array));

    /// Appends what distinguishes this tree's structure from others of its type: lengths, presence,
    /// and the values of parts that are no arrays.
    fn structure(&self, words: &mut Vec<u64>);

    /// The leaves, in order.
    fn leaves(&self) -> Vec<&Array> {
        let mut all = Vec::new();
        self.visit(&mut |a| all.push(a));
        all
    }

    /// This tree with other leaves, which must be as many.
    fn with_leaves(&self, leaves: impl IntoIterator<Item = Array>) -> Self {
        let mut tree = self.clone();
        let mut leaves = leaves.into_iter();
        tree.visit_mut(&mut |a| {
            let leaf = leaves.next();
            debug_assert!(leaf.is_some(), "fewer leaves than the tree has");
            if let Some(leaf) = leaf {
                *a = leaf;
            }
        });
        debug_assert!(leaves.next().is_none(), "more leaves than the tree has");
        tree
    }

    /// This tree with every leaf replaced by what `f` makes of it.
    fn map_leaves(&self, mut f: impl FnMut(&Array) -> Array) -> Self {
        let mut tree = self.clone();
        tree.visit_mut(&mut |a| *a = f(a));
        tree
    }
}

/// What tells a tree's structure from others of its type.
pub(crate) fn structure_of<T: Tree>(tree: &T) -> Vec<u64> {
    let mut words = Vec::new();
    tree.structure(&mut words);
    words
}

impl Tree for Array {
    fn visit<'a>(&'a self, f: &mut dyn FnMut(&'a Array)) {
        f(self);
    }
    fn visit_mut(&mut self, f: &mut dyn FnMut(&mut Array)) {
        f(self);
    }
    fn structure(&self, _: &mut Vec<u64>) {}
}

impl<T: Tree> Tree for Vec<T> {
    fn visit<'a>(&'a self, f: &mut dyn FnMut(&'a Array)) {
        self.iter().for_each(|t| t.visit(f));
    }
    fn visit_mut(&mut self, f: &mut dyn FnMut(&mut Array)) {
        self.iter_mut().for_each(|t| t.visit_mut(f));
    }
    fn structure(&self, words: &mut Vec<u64>) {
        words.push(self.len() as u64);
        self.iter().for_each(|t| t.structure(words));
    }
}

impl<T: Tree, const N: usize> Tree for [T; N] {
    fn visit<'a>(&'a self, f: &mut dyn FnMut(&'a Array)) {
        self.iter().for_each(|t| t.visit(f));
    }
    fn visit_mut(&mut self, f: &mut dyn FnMut(&mut Array)) {
        self.iter_mut().for_each(|t| t.visit_mut(f));
    }
    fn structure(&self, words: &mut Vec<u64>) {
        self.iter().for_each(|t| t.structure(words));
    }
}

impl<T: Tree> Tree for Option<T> {
    fn visit<'a>(&'a self, f: &mut dyn FnMut(&'a Array)) {
        self.iter().for_each(|t| t.visit(f));
    }
    fn visit_mut(&mut self, f: &mut dyn FnMut(&mut Array)) {
        self.iter_mut().for_each(|t| t.visit_mut(f));
    }
    fn structure(&self, words: &mut Vec<u64>) {
        words.push(self.is_some() as u64);
        self.iter().for_each(|t| t.structure(words));
    }
}

impl<T: Tree> Tree for Box<T> {
    fn visit<'a>(&'a self, f: &mut dyn FnMut(&'a Array)) {
        (**self).visit(f);
    }
    fn visit_mut(&mut self, f: &mut dyn FnMut(&mut Array)) {
        (**self).visit_mut(f);
    }
    fn structure(&self, words: &mut Vec<u64>) {
        (**self).structure(words);
    }
}

fn text(words: &mut Vec<u64>, text: &str) {
    words.push(text.len() as u64);
    for chunk in text.as_bytes().chunks(8) {
        let mut word = [0u8; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        words.push(u64::from_le_bytes(word));
    }
}

/// Keys that name the parts of a map.
pub trait Key: Clone + Ord + std::hash::Hash {
    /// Appends the key to a structure.
    fn words(&self, words: &mut Vec<u64>);
}

impl Key for String {
    fn words(&self, words: &mut Vec<u64>) {
        text(words, self);
    }
}
impl Key for &'static str {
    fn words(&self, words: &mut Vec<u64>) {
        text(words, self);
    }
}
impl Key for usize {
    fn words(&self, words: &mut Vec<u64>) {
        words.push(*self as u64);
    }
}

impl<K: Key, T: Tree> Tree for BTreeMap<K, T> {
    fn visit<'a>(&'a self, f: &mut dyn FnMut(&'a Array)) {
        self.values().for_each(|t| t.visit(f));
    }
    fn visit_mut(&mut self, f: &mut dyn FnMut(&mut Array)) {
        self.values_mut().for_each(|t| t.visit_mut(f));
    }
    fn structure(&self, words: &mut Vec<u64>) {
        words.push(self.len() as u64);
        for (k, t) in self {
            k.words(words);
            t.structure(words);
        }
    }
}

/// Leaves come in the order of keys.
impl<K: Key, T: Tree, S: std::hash::BuildHasher + Clone> Tree for HashMap<K, T, S> {
    fn visit<'a>(&'a self, f: &mut dyn FnMut(&'a Array)) {
        let mut parts: Vec<_> = self.iter().collect();
        parts.sort_by(|a, b| a.0.cmp(b.0));
        parts.into_iter().for_each(|(_, t)| t.visit(f));
    }
    fn visit_mut(&mut self, f: &mut dyn FnMut(&mut Array)) {
        let mut parts: Vec<_> = self.iter_mut().collect();
        parts.sort_by(|a, b| a.0.cmp(b.0));
        parts.into_iter().for_each(|(_, t)| t.visit_mut(f));
    }
    fn structure(&self, words: &mut Vec<u64>) {
        let mut parts: Vec<_> = self.iter().collect();
        parts.sort_by(|a, b| a.0.cmp(b.0));
        words.push(self.len() as u64);
        for (k, t) in parts {
            k.words(words);
            t.structure(words);
        }
    }
}

macro_rules! tuples {
    ($($($name:ident)*;)*) => {$(
        #[allow(non_snake_case)]
        impl<$($name: Tree),*> Tree for ($($name,)*) {
            fn visit<'a>(&'a self, _f: &mut dyn FnMut(&'a Array)) {
                let ($($name,)*) = self;
                $($name.visit(_f);)*
            }
            fn visit_mut(&mut self, _f: &mut dyn FnMut(&mut Array)) {
                let ($($name,)*) = self;
                $($name.visit_mut(_f);)*
            }
            fn structure(&self, _words: &mut Vec<u64>) {
                let ($($name,)*) = self;
                $($name.structure(_words);)*
            }
        }
    )*};
}
tuples! {
    ;
    A;
    A B;
    A B C;
    A B C D;
    A B C D E;
    A B C D E F;
    A B C D E F G;
    A B C D E F G H;
}

macro_rules! plain {
    ($($t:ty: |$v:ident, $words:ident| $e:expr;)*) => {$(
        /// No array: part of the structure.
        impl Tree for $t {
            fn visit<'a>(&'a self, _: &mut dyn FnMut(&'a Array)) {}
            fn visit_mut(&mut self, _: &mut dyn FnMut(&mut Array)) {}
            fn structure(&self, $words: &mut Vec<u64>) {
                let $v = self;
                $e;
            }
        }
    )*};
}
plain! {
    bool: |v, words| words.push(*v as u64);
    u8: |v, words| words.push(*v as u64);
    u32: |v, words| words.push(*v as u64);
    u64: |v, words| words.push(*v);
    usize: |v, words| words.push(*v as u64);
    i32: |v, words| words.push(*v as u64);
    i64: |v, words| words.push(*v as u64);
    f32: |v, words| words.push(v.to_bits() as u64);
    f64: |v, words| words.push(v.to_bits());
    String: |v, words| text(words, v);
    &'static str: |v, words| text(words, v);
    lazul_ir::DType: |v, words| words.push(*v as u64);
}

/// A part of an argument that transforms leave alone: `grad` does not differentiate by it, `vmap` does
/// not map over it.
///
/// ```
/// use lazul_core::prelude::*;
/// let f = |(w, x): &(Array, Fixed<Array>)| (w * &**x).sum(..);
/// let (w, x) = (Array::scalar(2.0f32), Fixed(Array::scalar(3.0f32)));
/// let (dw, _) = grad(f)(&(w, x))?;
/// assert_eq!(dw.item::<f32>()?, 3.0);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Fixed<T>(pub T);

impl<T> Deref for Fixed<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> DerefMut for Fixed<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

/// Has no leaves; the arrays within are part of the structure, each told by which array it is.
impl<T: Tree> Tree for Fixed<T> {
    fn visit<'a>(&'a self, _: &mut dyn FnMut(&'a Array)) {}
    fn visit_mut(&mut self, _: &mut dyn FnMut(&mut Array)) {}
    fn structure(&self, words: &mut Vec<u64>) {
        self.0.structure(words);
        // A compiled function must not take one constant for another.
        self.0.visit(&mut |a| words.push(std::sync::Arc::as_ptr(&a.0) as usize as u64));
    }
}

/// What a function may return where a tree is wanted: the tree, or a `Result` of it.
pub trait IntoResult<T> {
    /// The result.
    ///
    /// # Errors
    /// The function's own.
    fn into_result(self) -> Result<T>;
}

impl<T: Tree> IntoResult<T> for T {
    fn into_result(self) -> Result<T> {
        Ok(self)
    }
}

impl<T: Tree> IntoResult<T> for Result<T, Error> {
    fn into_result(self) -> Result<T> {
        self
    }
}

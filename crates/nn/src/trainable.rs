//! Freezing: which parameters of a module are trained, said by patterns of paths.

use crate::module::Module;
use crate::visitor::{Visitor, VisitorMut};
use lazul_core::{Array, Tree};
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

/// Patterns and whether each freezes, in the order of calls; the last that fits a path counts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rules(Arc<Vec<(String, bool)>>);

impl Rules {
    /// Whether the parameter at `path` stays as it is.
    pub(crate) fn freeze(&self, path: &str) -> bool {
        let rule = self.0.iter().rev().find(|(pattern, _)| fits(pattern, path));
        rule.is_some_and(|(_, frozen)| *frozen)
    }

    fn push(&mut self, pattern: &str, frozen: bool) {
        let rules = Arc::make_mut(&mut self.0);
        if is_everything(pattern) {
            rules.clear();
        }
        rules.retain(|(p, _)| p != pattern);
        rules.push((pattern.to_string(), frozen));
    }
}

fn is_everything(pattern: &str) -> bool {
    pattern.is_empty() || pattern == "**"
}

/// Whether a path, or a module above it, fits a pattern.
fn fits(pattern: &str, path: &str) -> bool {
    fn segments(pattern: &[&str], path: &[&str]) -> bool {
        match pattern.split_first() {
            None => true,
            Some((&"**", rest)) => (0..=path.len()).any(|skip| segments(rest, &path[skip..])),
            Some((first, rest)) => match path.split_first() {
                Some((name, below)) => (*first == "*" || first == name) && segments(rest, below),
                None => false,
            },
        }
    }
    if is_everything(pattern) {
        return true;
    }
    let pattern: Vec<&str> = pattern.split('.').collect();
    segments(&pattern, &path.split('.').collect::<Vec<_>>())
}

/// A module, or a part of one, some of whose parameters are frozen.
///
/// Patterns are paths; `*` stands for one name and `**` for any number of them. A pattern means all that is
/// below it too: `layers.0` freezes a layer, `**.bias` every bias, `layers.*.norm` the norms of all layers,
/// and `""` everything. Of several patterns that fit a path the one given last counts. Buffers are never
/// trained.
///
/// ```
/// use lazul_core::prelude::*;
/// use lazul_nn::{Linear, Module, Trainable, value_and_grad};
/// let linear = Linear::new(ones([2, 3], DType::F32), Some(zeros(2, DType::F32)));
/// let mut model = Trainable::new(linear).freeze("").unfreeze("**.bias");
/// assert_eq!(model.trainable_parameters().into_keys().collect::<Vec<_>>(), ["bias"]);
/// // The module is used as before.
/// let loss = |m: &mut Trainable<Linear>| m.forward(&ones([1, 3], DType::F32)).sum(..);
/// let (_, grads) = value_and_grad(loss)(&mut model)?;
/// assert!(grads.get("weight").is_none());
/// assert_eq!(grads["bias"].to_vec::<f32>()?, [1.0, 1.0]);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Trainable<M> {
    module: M,
    rules: Rules,
}

impl<M> Trainable<M> {
    /// A module all of whose parameters are trained.
    pub fn new(module: M) -> Trainable<M> {
        Trainable { module, rules: Rules::default() }
    }

    /// Keeps parameters that fit a pattern as they are.
    pub fn freeze(mut self, pattern: &str) -> Trainable<M> {
        self.set_frozen(pattern, true);
        self
    }

    /// Trains parameters that fit a pattern again.
    pub fn unfreeze(mut self, pattern: &str) -> Trainable<M> {
        self.set_frozen(pattern, false);
        self
    }

    /// As [`Trainable::freeze`] and [`Trainable::unfreeze`], in place.
    pub fn set_frozen(&mut self, pattern: &str, frozen: bool) {
        self.rules.push(pattern, frozen);
    }

    /// The module without its rules.
    pub fn into_inner(self) -> M {
        self.module
    }
}

impl<M: Module> Module for Trainable<M> {
    fn visit<'a>(&'a self, visitor: &mut Visitor<'_, 'a>) {
        visitor.ruled(&self.rules, |visitor| self.module.visit(visitor));
    }
    fn visit_mut(&mut self, visitor: &mut VisitorMut<'_>) {
        let module = &mut self.module;
        visitor.ruled(&self.rules, |visitor| module.visit_mut(visitor));
    }
    fn structure(&self, words: &mut Vec<u64>) {
        for (pattern, frozen) in self.rules.0.iter() {
            Tree::structure(pattern, words);
            words.push(*frozen as u64);
        }
        words.push(self.rules.0.len() as u64);
        self.module.structure(words);
    }
}

impl<M: Module + Clone> Tree for Trainable<M> {
    fn visit<'a>(&'a self, f: &mut dyn FnMut(&'a Array)) {
        crate::visitor::visit(self, f);
    }
    fn visit_mut(&mut self, f: &mut dyn FnMut(&mut Array)) {
        crate::visitor::visit_mut(self, f);
    }
    fn structure(&self, words: &mut Vec<u64>) {
        Module::structure(self, words);
    }
}

impl<M> Deref for Trainable<M> {
    type Target = M;
    fn deref(&self) -> &M {
        &self.module
    }
}

impl<M> DerefMut for Trainable<M> {
    fn deref_mut(&mut self) -> &mut M {
        &mut self.module
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Linear, Sequential};
    use lazul_core::Result;

    #[test]
    fn patterns_mean_names_and_what_is_below() {
        for (pattern, path, want) in [
            ("layers.1", "layers.1.weight", true),
            ("layers.1", "layers.10.weight", false),
            ("layers.*.bias", "layers.3.bias", true),
            ("layers.*.bias", "layers.3.norm.bias", false),
            ("**.bias", "bias", true),
            ("**.bias", "a.b.bias", true),
            ("**.bias", "a.bias_of.x", false),
            ("a.**.c", "a.c", true),
            ("a.**.c", "a.b.b.c.d", true),
            ("weight", "layers.0.weight", false),
            ("", "anything.at.all", true),
        ] {
            assert_eq!(fits(pattern, path), want, "{pattern} {path}");
        }
    }

    #[test]
    fn later_rules_win_and_inner_ones_hold_within() -> Result<()> {
        let linear = || Linear::init(2, 2, true, None);
        let names = |m: &dyn Module| m.trainable_parameters().into_keys().collect::<Vec<_>>();
        let inner = Trainable::new(linear()?).freeze("bias");
        let part = vec![inner.clone(), Trainable::new(linear()?)];
        assert_eq!(names(&part), ["0.weight", "1.bias", "1.weight"]);
        let outer = Trainable::new(part).freeze("0").unfreeze("0.bias");
        assert_eq!(names(&outer), ["1.bias", "1.weight"]);
        let model = Sequential::new().then(linear()?).then(linear()?);
        let model = Trainable::new(model).freeze("").unfreeze("layers.1").freeze("**.bias");
        assert_eq!(names(&model), ["layers.1.weight"]);
        assert_eq!(names(&model.unfreeze("")).len(), 4);
        Ok(())
    }
}

//! All that changes in a training, as one tree and as arrays by name.

use super::error::{Error, Result};
use crate::module::{Module, Parameters};
use crate::optim::{Accumulator, Optimizer, State};
use lazul_core::random::Generator;
use lazul_core::{Shape, Tree};
use std::collections::{BTreeMap, BTreeSet};

/// The name of the number of batches in the sums.
const COUNT: &str = "accumulated_batches";

/// A model in training. The state of a compiled step.
#[derive(Clone, Debug, Tree)]
pub struct Session<M> {
    /// The model.
    pub model: M,
    /// What the optimizer remembers.
    pub optimizer: State,
    /// Where dropout and the like draw from.
    pub generator: Generator,
    /// Gradients of batches that wait for others.
    pub accumulated: Accumulator,
}

impl<M: Module + Tree> Session<M> {
    /// A training that begins: the optimizer's first state, and a generator of this seed.
    ///
    /// # Errors
    /// As [`Optimizer::init`].
    pub fn new(model: M, optimizer: &dyn Optimizer, seed: u64) -> lazul_core::Result<Session<M>> {
        let optimizer = optimizer.init(&model.trainable_parameters())?;
        let generator = Generator::new(seed);
        Ok(Session { model, optimizer, generator, accumulated: Accumulator::default() })
    }

    /// Parameters and buffers of the model by path, or those alone that are trained.
    pub(super) fn weights(&self, trained_only: bool) -> Parameters {
        match trained_only {
            true => self.model.trainable_parameters(),
            false => {
                let all = self.model.parameters().into_iter();
                all.map(|(path, array)| (path, array.clone())).collect()
            }
        }
    }

    /// Buffers of these paths under the names that they have among [`Session::rest`]'s.
    pub(super) fn buffers(&self, paths: &BTreeSet<String>) -> Parameters {
        let mut buffers = self.model.buffers();
        buffers.retain(|path, _| paths.contains(path));
        buffers.into_iter().map(|(path, array)| (format!("buffers/{path}"), array)).collect()
    }

    /// Everything else by name.
    pub(super) fn rest(&self) -> Parameters {
        let mut all = Parameters::new();
        let count = self.accumulated.count().cloned();
        all.extend(count.map(|count| (COUNT.to_string(), count)));
        all.insert("generator".to_string(), self.generator.key.clone());
        let sums = self.accumulated.sums().iter();
        all.extend(sums.map(|(path, sum)| (format!("accumulated/{path}"), sum.clone())));
        let State { step, rates, slots } = &self.optimizer;
        all.insert("optimizer/step".to_string(), step.clone());
        let rates = rates.iter().enumerate();
        all.extend(rates.map(|(i, rate)| (format!("optimizer/rates/{i}"), rate.clone())));
        for (path, slots) in slots {
            let named = slots.iter().map(|(name, a)| (format!("slots/{path}/{name}"), a.clone()));
            all.extend(named);
        }
        all
    }

    /// Puts back what [`Session::weights`], [`Session::buffers`] and [`Session::rest`] gave, the latter two
    /// together.
    pub(super) fn restore(&mut self, weights: &Parameters, rest: &Parameters) -> Result<()> {
        let strange = |name: &str| {
            Error::Options(format!("the checkpoint has {name}, which this training has not"))
        };
        let missing = |name: &str| Error::Options(format!("the checkpoint has no {name}"));
        let mut next = self.clone();
        let mut mine: Vec<String> = next.weights(true).into_keys().collect();
        mine.retain(|path| !weights.contains_key(path));
        if let Some(path) = mine.first() {
            return Err(missing(path));
        }
        next.model.update(weights)?;
        next.accumulated = Accumulator::default();
        let before = next.rest();
        let (mut sums, mut count) = (Parameters::new(), None);
        let mut buffers = Parameters::new();
        let mut slots: BTreeMap<String, Parameters> = BTreeMap::new();
        let mut known = 0;
        for (name, array) in rest {
            if let Some(path) = name.strip_prefix("accumulated/") {
                sums.insert(path.to_string(), array.clone());
                continue;
            }
            if let Some(path) = name.strip_prefix("buffers/") {
                buffers.insert(path.to_string(), array.clone());
                continue;
            }
            if name == COUNT {
                count = Some(array.clone());
                continue;
            }
            let old = before.get(name).ok_or_else(|| strange(name))?;
            known += 1;
            if old.shape()? != array.shape()? || old.dtype()? != array.dtype()? {
                let (a, b) = (Shape::new(array.shape()?), Shape::new(old.shape()?));
                let why = format!("the checkpoint's {name} has shape {a}, this training's {b}");
                return Err(Error::Options(why));
            }
            match name.split_once('/') {
                Some(("optimizer", "step")) => next.optimizer.step = array.clone(),
                Some(("optimizer", rate)) => {
                    let i = rate.rsplit('/').next().and_then(|i| i.parse::<usize>().ok());
                    let slot = i.and_then(|i| next.optimizer.rates.get_mut(i));
                    *slot.ok_or_else(|| strange(name))? = array.clone();
                }
                Some((_, slot)) => {
                    let (path, slot) = slot.rsplit_once('/').ok_or_else(|| strange(name))?;
                    slots
                        .entry(path.to_string())
                        .or_default()
                        .insert(slot.to_string(), array.clone());
                }
                None => next.generator.key = array.clone(),
            }
        }
        if known < before.len() {
            let name = before.keys().find(|name| !rest.contains_key(*name));
            return Err(missing(name.map_or("", |name| name)));
        }
        // Parameters without moments have no names in the file.
        for (path, slots) in slots {
            next.optimizer.slots.insert(path, slots);
        }
        next.model.update(&buffers)?;
        next.accumulated = Accumulator::restored(sums, count);
        *self = next;
        Ok(())
    }
}

//! Averages of parameters over the steps of a training.

use crate::module::Parameters;
use lazul_core::{Array, DType, Error, ErrorKind, Result, Tree};

/// An exponential moving average of parameters, f32 or f64, which often does better than the parameters of
/// any one step.
///
/// After `t` steps the share that stays is at most `(1 + t) / (10 + t)`, so that the values of the
/// beginning are soon forgotten.
///
/// ```
/// use lazul_core::prelude::*;
/// use lazul_nn::{Linear, Module, optim::Ema};
/// let mut model = Linear::new(zeros([1, 1], DType::F32), None);
/// let mut ema = Ema::new(0.999, &model.trainable_parameters())?;
/// model.update(&[("weight".to_string(), ones([1, 1], DType::F32))].into())?;
/// ema.update(&model.trainable_parameters())?;
/// model.update(&ema.values(&model.trainable_parameters())?)?; // to evaluate
/// assert!((model.weight.dense().item::<f32>()? - 0.9).abs() < 1e-6);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[derive(Clone, Debug, Tree)]
pub struct Ema {
    /// Number of steps, i64.
    pub step: Array,
    /// The averages.
    pub average: Parameters,
    decay: f64,
}

impl Ema {
    /// Averages that are the parameters' values at first, of which the share `decay` stays in a step.
    ///
    /// # Errors
    /// If `decay` is not from 0 to below 1, or a parameter is a failed array.
    pub fn new(decay: f64, parameters: &Parameters) -> Result<Ema> {
        super::within("Ema", "decay", decay, (0.0..1.0).contains(&decay))?;
        let average = parameters.map_leaves(wide);
        average.values().try_for_each(|a| a.check())?;
        Ok(Ema { step: Array::scalar(0i64), average, decay })
    }

    /// One step: the averages move towards the parameters.
    ///
    /// # Errors
    /// If the parameters are others than those that the averages are of.
    pub fn update(&mut self, parameters: &Parameters) -> Result<()> {
        let t = self.step.astype(DType::F32);
        let keep = ((&t + 1.0) / (t + 10.0)).minimum(self.decay);
        let mut next = Parameters::new();
        for (path, average) in &self.average {
            let value = wide(known(parameters, path)?);
            let move_by = (-&keep + 1.0).astype(average.dtype()?);
            let moved = average + (value - average) * move_by;
            moved.check()?;
            next.insert(path.clone(), moved);
        }
        self.step = &self.step + 1;
        self.average = next;
        Ok(())
    }

    /// The averages in the parameters' dtypes, for [`Module::update`](crate::Module::update).
    ///
    /// # Errors
    /// As [`Ema::update`].
    pub fn values(&self, parameters: &Parameters) -> Result<Parameters> {
        let cast = |(path, average): (&String, &Array)| {
            Ok((path.clone(), average.astype(known(parameters, path)?.dtype()?)))
        };
        self.average.iter().map(cast).collect()
    }
}

fn wide(value: &Array) -> Array {
    match value.dtype() {
        Ok(DType::F64) => value.clone(),
        _ => value.astype(DType::F32),
    }
}

fn known<'p>(parameters: &'p Parameters, path: &str) -> Result<&'p Array> {
    let none = || Error::new(ErrorKind::Value, "Ema", format!("there is no parameter {path}"));
    parameters.get(path).ok_or_else(none)
}

//! A checkpoint seen from one place of a model.

use crate::linear::Weight;
use lazul_core::{Array, Error, ErrorKind, Quantized, Result, quantization};
use std::cell::RefCell;
use std::collections::BTreeSet;

/// Tensors by name: an opened checkpoint.
pub trait TensorSource {
    /// The tensor called `name`, or `None` if there is none.
    ///
    /// # Errors
    /// If it is there but cannot be had.
    fn tensor(&self, name: &str) -> Result<Option<Array>>;
}

impl TensorSource for std::collections::BTreeMap<String, Array> {
    fn tensor(&self, name: &str) -> Result<Option<Array>> {
        Ok(self.get(name).cloned())
    }
}

/// A checkpoint seen from one module: `at` goes down a path, tensors are asked for by short names and
/// checked for their shape. [`Weights::tracking`] remembers which names were asked for, so that a strict
/// load can name tensors that nobody wanted.
///
/// ```
/// use lazul_core::prelude::*;
/// use lazul_nn::{Linear, Weights};
/// use std::collections::BTreeMap;
/// let tensors = BTreeMap::from([("model.up.weight".to_string(), ones([3, 2], DType::F32))]);
/// let weights = Weights::new(&tensors);
/// let up = Linear::load(&weights.at("model.up"), 2, 3, false)?;
/// assert_eq!(up.forward(&ones([1, 2], DType::F32)).to_vec::<f32>()?, [2.0; 3]);
/// assert!(Linear::load(&weights.at("model.down"), 2, 3, false).is_err());
/// # Ok::<(), lazul_core::Error>(())
/// ```
pub struct Weights<'a> {
    source: &'a dyn TensorSource,
    used: Option<&'a RefCell<BTreeSet<String>>>,
    path: String,
}

impl<'a> Weights<'a> {
    /// A checkpoint seen from the top.
    pub fn new(source: &'a dyn TensorSource) -> Weights<'a> {
        Weights { source, used: None, path: String::new() }
    }

    /// A checkpoint seen from the top; names asked for are added to `used`.
    pub fn tracking(
        source: &'a dyn TensorSource,
        used: &'a RefCell<BTreeSet<String>>,
    ) -> Weights<'a> {
        Weights { source, used: Some(used), path: String::new() }
    }

    /// The checkpoint seen from the module `path` below this one.
    pub fn at(&self, path: impl std::fmt::Display) -> Weights<'a> {
        let path =
            if self.path.is_empty() { path.to_string() } else { format!("{}.{path}", self.path) };
        Weights { source: self.source, used: self.used, path }
    }

    /// The module path.
    pub fn path(&self) -> &str {
        &self.path
    }

    fn name(&self, short: &str) -> String {
        if self.path.is_empty() { short.to_string() } else { format!("{}.{short}", self.path) }
    }

    /// Whether there is a tensor of this short name.
    ///
    /// # Errors
    /// If it is there but cannot be had.
    pub fn has(&self, short: &str) -> Result<bool> {
        Ok(self.source.tensor(&self.name(short))?.is_some())
    }

    fn any(&self, short: &str) -> Result<Array> {
        let name = self.name(short);
        let found = self.source.tensor(&name)?;
        if let Some(used) = self.used {
            used.borrow_mut().insert(name.clone());
        }
        found.ok_or_else(|| {
            Error::new(ErrorKind::Value, "load", format!("the checkpoint lacks the tensor {name}"))
        })
    }

    /// The tensor of a short name, which must have the given shape.
    ///
    /// # Errors
    /// If it is missing or has another shape.
    pub fn tensor(&self, short: &str, shape: &[usize]) -> Result<Array> {
        let array = self.any(short)?;
        if array.shape()? == shape {
            return Ok(array);
        }
        let why = format!(
            "{} has shape {:?}, the model needs {shape:?}",
            self.name(short),
            array.shape()?
        );
        Err(Error::new(ErrorKind::Shape, "load", why))
    }

    /// The matrix `weight (rows, columns)`: dense, or quantized where `scales` stand beside it.
    ///
    /// # Errors
    /// If a tensor is missing or does not fit.
    pub fn matrix(&self, rows: usize, columns: usize) -> Result<Weight> {
        if !self.has("scales")? {
            return Ok(Weight::Dense(self.tensor("weight", &[rows, columns])?));
        }
        let (codes, scales, biases) =
            (self.any("weight")?, self.any("scales")?, self.any("biases")?);
        let bad =
            |why: String| Error::new(ErrorKind::Shape, "load", format!("{}: {why}", self.path));
        // A word holds 32 bits: lengths of codes and scales tell bits and group size.
        let (words, groups) = (codes.dim(-1)?, scales.dim(-1)?);
        let whole = columns > 0
            && groups > 0
            && columns.is_multiple_of(groups)
            && words.checked_mul(32).is_some_and(|bits| bits.is_multiple_of(columns));
        if !whole {
            return Err(bad(format!("{words} words and {groups} groups for {columns} columns")));
        }
        let group = u32::try_from(columns / groups).unwrap_or(u32::MAX);
        let form = quantization(group, u32::try_from(words * 32 / columns).unwrap_or(u32::MAX))?;
        let matrix = Quantized { codes, scales, biases, form };
        let shape = matrix.shape()?;
        if shape[..] != [rows, columns] {
            return Err(bad(format!("is {shape}, the model needs ({rows},{columns})")));
        }
        Ok(Weight::Quantized(matrix))
    }
}

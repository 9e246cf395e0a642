//! A checkpoint seen from one place of a model.

use crate::linear::Weight;
use lazul_core::{Array, DType, Error, ErrorKind, Quantization, Quantized, Result, quantization};
use std::cell::RefCell;
use std::collections::BTreeSet;

/// Tensors by name: an opened checkpoint.
pub trait TensorSource {
    /// The tensor called `name`, or `None` if there is none.
    ///
    /// # Errors
    /// If it is there but cannot be had.
    fn tensor(&self, name: &str) -> Result<Option<Array>>;

    /// The form of a tensor that is a quantized matrix all by itself: blocks of a GGUF file, whose bytes
    /// do not tell how they are to be read.
    fn form(&self, _name: &str) -> Option<Quantization> {
        None
    }
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

    /// The matrix `weight (rows, columns)`: dense, or quantized where `scales` stand beside it. How it
    /// is quantized the tensors tell: scales that are bytes belong to small floats, others to affine
    /// codes; lengths tell bits and groups. Of blocks the source knows ([`TensorSource::form`]).
    ///
    /// # Errors
    /// If a tensor is missing or does not fit.
    pub fn matrix(&self, rows: usize, columns: usize) -> Result<Weight> {
        let bad =
            |why: String| Error::new(ErrorKind::Shape, "load", format!("{}: {why}", self.path));
        let whole = |matrix: Quantized| -> Result<Weight> {
            let shape = matrix.shape()?;
            if shape[..] != [rows, columns] {
                return Err(bad(format!("is {shape}, the model needs ({rows},{columns})")));
            }
            Ok(Weight::Quantized(matrix))
        };
        if let Some(form) = self.source.form(&self.name("weight")) {
            let codes = self.any("weight")?;
            return whole(Quantized {
                codes,
                scales: None,
                biases: None,
                global_scale: None,
                form,
            });
        }
        if !self.has("scales")? {
            return Ok(Weight::Dense(self.tensor("weight", &[rows, columns])?));
        }
        let (codes, scales) = (self.any("weight")?, self.any("scales")?);
        // A word holds 32 bits.
        let (words, groups) = (codes.dim(-1)?, scales.dim(-1)?);
        let fits = columns > 0
            && groups > 0
            && columns.is_multiple_of(groups)
            && words.checked_mul(32).is_some_and(|bits| bits.is_multiple_of(columns));
        if !fits {
            return Err(bad(format!("{words} words and {groups} groups for {columns} columns")));
        }
        let (group, bits) = (columns / groups, words * 32 / columns);
        let form = match (scales.dtype()?, group, bits) {
            (DType::U8, 32, 4) => Quantization::MxFp4,
            (DType::U8, 32, 8) => Quantization::MxFp8,
            (DType::U8, 16, 4) => Quantization::NvFp4,
            (DType::U8, ..) => {
                return Err(bad(format!(
                    "no floats of {bits} bits in groups of {group} are known"
                )));
            }
            _ => {
                let size = |x: usize| u32::try_from(x).unwrap_or(u32::MAX);
                quantization(size(group), size(bits))?
            }
        };
        let biases = if form.is_affine() { Some(self.any("biases")?) } else { None };
        let global_scale = match form {
            Quantization::NvFp4 if self.has("global_scale")? => Some(self.any("global_scale")?),
            _ => None,
        };
        whole(Quantized { codes, scales: Some(scales), biases, global_scale, form })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lazul_core::prelude::*;
    use std::collections::BTreeMap;

    type Tensors = BTreeMap<String, Array>;

    fn put(tensors: &mut Tensors, path: &str, q: &Quantized) {
        let parts = [("weight", Some(&q.codes)), ("scales", q.scales.as_ref())];
        let more = [("biases", q.biases.as_ref()), ("global_scale", q.global_scale.as_ref())];
        for (name, part) in parts.into_iter().chain(more) {
            if let Some(part) = part {
                tensors.insert(format!("{path}.{name}"), part.clone());
            }
        }
    }

    fn table() -> Array {
        (arange(5 * 64, DType::F32).reshape([5, 64]) * 0.37).sin()
    }

    #[test]
    fn every_form_is_told_by_its_tensors() -> Result<()> {
        let mut forms = vec![Quantization::MxFp4, Quantization::MxFp8, Quantization::NvFp4];
        for bits in [1, 2, 3, 4, 5, 6, 8] {
            forms.extend([quantization(32, bits)?, quantization(64, bits)?]);
        }
        let x = ones([2, 64], DType::F32);
        for form in forms {
            let scales: &[Option<Array>] = match form {
                Quantization::NvFp4 => &[None, Some(Array::scalar(1.0f32))],
                _ => &[None],
            };
            for global in scales {
                let q = table().quantize_scaled(form, global.as_ref())?;
                let mut tensors = Tensors::new();
                put(&mut tensors, "up", &q);
                let used = RefCell::new(BTreeSet::new());
                let up = crate::Linear::load(
                    &Weights::tracking(&tensors, &used).at("up"),
                    64,
                    5,
                    false,
                )?;
                assert_eq!(used.borrow().len(), tensors.len());
                let Weight::Quantized(read) = &up.weight else {
                    panic!("{form} was read as dense")
                };
                assert_eq!(read.form, form);
                let names = crate::Module::parameters(&up);
                assert_eq!(names.len(), tensors.len());
                let same = up.forward(&x).array_equal(&x.quantized_matmul(&q, true), false);
                assert!(same.item::<bool>()?);
                let rows = crate::Embedding::load(&Weights::new(&tensors).at("up"), 5, 64)?;
                let rows = rows.forward(&Array::from_slice(&[3, 1], [2]));
                let want = q.dequantize().take(Array::from_slice(&[3, 1], [2]), 0);
                assert!(rows.array_equal(&want, false).item::<bool>()?);
            }
        }
        Ok(())
    }

    /// Bytes do not tell how they are to be read; the source does.
    #[test]
    fn blocks_are_told_by_the_source() -> Result<()> {
        struct Source(Array);
        impl TensorSource for Source {
            fn tensor(&self, name: &str) -> Result<Option<Array>> {
                Ok((name == "up.weight").then(|| self.0.clone()))
            }
            fn form(&self, _name: &str) -> Option<Quantization> {
                Some(Quantization::Blocks(lazul_core::BlockFormat::Q8_0))
            }
        }
        // A scale of ½, and codes 0 to 31.
        let block: Vec<u8> = [0, 0x38].into_iter().chain(0..32).collect();
        let source = Source(Array::from_slice(&block.repeat(6), [3, 68]));
        let weights = Weights::new(&source);
        let up = crate::Linear::load(&weights.at("up"), 64, 3, false)?;
        assert_eq!(up.forward(&ones([1, 64], DType::F32)).to_vec::<f32>()?, [496.0; 3]);
        assert!(crate::Linear::load(&weights.at("up"), 32, 3, false).is_err());
        assert!(crate::Linear::load(&weights.at("up"), 64, 4, false).is_err());
        Ok(())
    }

    #[test]
    fn tensors_that_belong_to_no_form() -> Result<()> {
        let q = table().quantize(Quantization::MxFp4)?;
        let scales = |f: &dyn Fn(&Array) -> Array| q.scales.as_ref().map(f);
        let wrong = [
            Quantized { scales: scales(&|s| s.repeat(2, -1).repeat(2, -1)), ..q.clone() },
            Quantized { codes: q.codes.repeat(4, -1), ..q.clone() },
            Quantized { scales: scales(&|s| s.astype(DType::F32)), ..q.clone() },
            Quantized { codes: q.codes.astype(DType::I32), ..q.clone() },
            Quantized { codes: q.codes.slice_axis(0, 0, 4), ..q.clone() },
        ];
        for q in wrong {
            let mut tensors = Tensors::new();
            put(&mut tensors, "up", &q);
            assert!(crate::Linear::load(&Weights::new(&tensors).at("up"), 64, 5, false).is_err());
        }
        Ok(())
    }
}

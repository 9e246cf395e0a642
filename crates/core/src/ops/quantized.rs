//! Quantized matrices: codes of a few bits in groups along the last axis, bit for bit as MLX packs
//! them.
//!
//! [`Quantization`] says how numbers become codes: integers with a scale and a bias a group
//! (`affine`), or small floats with a scale a group (`mxfp4`, `mxfp8`, `nvfp4`). [`Quantized`] is a
//! matrix, or a batch of them, in that form. Products read it as it is; it is never unpacked as a whole.
//! The blocks of GGUF files are such forms too: they come from files and are not made here.

pub(crate) mod rules;
#[cfg(test)]
mod tests;

use super::grouped::Pick;
use super::{attempt, error, prim};
use crate::error::{Error, ErrorKind, Result};
use crate::node::{Array, Inputs};
use crate::scope::call_site;
use lazul_ir::{DType, Prim, Quantization, QuantizedOp, Shape};

/// A quantized matrix, or a batch of them.
#[derive(Clone, Debug)]
pub struct Quantized {
    /// u32 words of packed codes, `(…, words)`; for blocks, their bytes as u8, `(…, bytes)`.
    pub codes: Array,
    /// One factor a group, `(…, k / group_size)`: in the weights' dtype in the affine mode, else bytes.
    /// Blocks have them inside.
    pub scales: Option<Array>,
    /// In the affine mode one offset a group, as `scales`.
    pub biases: Option<Array>,
    /// For nvfp4, if it has one: the f32 magnitude that stands for the largest code in the group of
    /// largest scale; one number, or one for each matrix of the batch.
    pub global_scale: Option<Array>,
    /// Mode, bits and group size.
    pub form: Quantization,
}

/// The affine quantization with `bits` bits in groups of `group_size`.
///
/// ```
/// use lazul_core::prelude::*;
/// assert_eq!(quantization(64, 4)?.mode(), "affine");
/// assert!(quantization(64, 7).is_err());
/// # Ok::<(), lazul_core::Error>(())
/// ```
///
/// # Errors
/// If bits is none of 1, 2, 3, 4, 5, 6, 8 or the group size none of 32, 64, 128.
#[track_caller]
pub fn quantization(group_size: u32, bits: u32) -> Result<Quantization> {
    let site = call_site();
    Quantization::new("affine", Some(group_size), Some(bits)).map_err(|e| e.at(site))
}

/// Whether a dtype can be quantized, and multiplied by what is.
fn is_weight(dtype: DType) -> bool {
    matches!(dtype, DType::F16 | DType::BF16 | DType::F32)
}

/// A global scale as primitives take it: `(…, 1, 1)`, one for each of `batch` matrices.
fn global_operand(
    op: &'static str,
    form: Quantization,
    scale: &Array,
    batch: &[usize],
) -> Result<Array> {
    scale.check()?;
    if form != Quantization::NvFp4 {
        let why = format!("{} has no global scale; nvfp4 does", form.mode());
        return Err(Error::new(ErrorKind::Value, op, why));
    }
    if scale.0.dtype != DType::F32 {
        return Err(error(ErrorKind::DType, op, "a global scale is float32", &[scale]));
    }
    let shape: Shape = batch.iter().copied().chain([1, 1]).collect();
    if scale.0.shape.size() == 1 {
        return Ok(scale.reshape([0i64; 0]).broadcast_to(&shape));
    }
    if scale.0.shape[..] != *batch {
        let why = format!("a global scale is one number, or one for each of {batch:?} matrices");
        return Err(error(ErrorKind::Shape, op, why, &[scale]));
    }
    Ok(scale.reshape(&shape))
}

impl Array {
    /// Quantizes a float matrix `(…, k)` (two dimensions or more) along its last axis, which must be
    /// a multiple of the group size.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// let w = arange(128, DType::F32).reshape([2, 64]) / 128.0;
    /// let q = w.quantize(quantization(64, 8)?)?;
    /// let error = (q.dequantize() - &w).abs().max(..).item::<f32>()?;
    /// assert!(error < 0.01);
    ///
    /// let q = w.quantize(Quantization::MxFp4)?;
    /// assert_eq!(q.scales.unwrap().dtype()?, DType::U8);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Array::check`]; for a dtype other than f16, bf16 and f32; for a bad shape or form. Blocks of
    /// GGUF files are read and not made.
    #[track_caller]
    pub fn quantize(&self, form: Quantization) -> Result<Quantized> {
        self.quantize_scaled(form, None)
    }

    /// [`Array::quantize`] to nvfp4 with a global scale, float32: the largest magnitude of the tensor,
    /// or of each of its matrices, which makes the most of the scales' range. One that is not
    /// positive and finite is an error of the evaluation.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// let w = arange(64, DType::F32).reshape([2, 32]) * 1e-6;
    /// let q = w.quantize_scaled(Quantization::NvFp4, Some(&w.abs().max(..)))?;
    /// let error = (q.dequantize_to(DType::F32) - &w).abs().max(..).item::<f32>()?;
    /// assert!(error < 1.1e-5); // half of the widest gap between codes
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Array::quantize`]; if another mode is given a global scale.
    #[track_caller]
    pub fn quantize_scaled(
        &self,
        form: Quantization,
        global_scale: Option<&Array>,
    ) -> Result<Quantized> {
        let site = call_site();
        let inputs = self.to_quantize("quantize", form, global_scale).map_err(|e| e.at(site))?;
        let last = |n: usize| -> Shape {
            let mut shape = self.0.shape.clone();
            let at = shape.len() - 1;
            shape[at] = n;
            shape
        };
        let k = self.0.shape[self.0.shape.len() - 1];
        let (codes, groups) = (last(form.words(k)), last(k / form.group_size()));
        let scales = (groups.clone(), form.scale_dtype(self.0.dtype));
        let mut outputs = vec![(codes, DType::U32), scales];
        if form.is_affine() {
            outputs.push((groups, self.0.dtype));
        }
        let quantize = Prim::Quantized(QuantizedOp::Quantize(form));
        let mut made = Array::lazy_many(quantize, inputs, &outputs, site).into_iter();
        let (Some(codes), Some(scales)) = (made.next(), made.next()) else {
            unreachable!("two outputs or three")
        };
        let global_scale = global_scale.cloned();
        Ok(Quantized { codes, scales: Some(scales), biases: made.next(), global_scale, form })
    }

    /// What quantizing and dequantizing make of this array, in its dtype: for training with quantized
    /// weights or activations. Gradients pass as if nothing had been done to it.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// let x = full([1, 32], 1.1f32).fake_quantize(Quantization::MxFp4, None);
    /// assert_eq!(x.to_vec::<f32>()?, [1.0; 32]);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    #[track_caller]
    pub fn fake_quantize(&self, form: Quantization, global_scale: Option<&Array>) -> Array {
        self.fake_quantize_to(form, global_scale, self.0.dtype)
    }

    #[track_caller]
    fn fake_quantize_to(
        &self,
        form: Quantization,
        global_scale: Option<&Array>,
        dtype: DType,
    ) -> Array {
        attempt(|| {
            let inputs = self.to_quantize("fake_quantize", form, global_scale)?;
            let op = Prim::Quantized(QuantizedOp::FakeQuantize(form));
            Ok(prim(op, inputs, self.0.shape.clone(), dtype))
        })
    }

    /// The operands of quantizing, checked.
    fn to_quantize(
        &self,
        op: &'static str,
        form: Quantization,
        global_scale: Option<&Array>,
    ) -> Result<Inputs> {
        self.check()?;
        form.check()?;
        if let Some(format) = form.blocks() {
            let why = format!("blocks of {} are read from files, not made", format.name());
            return Err(error(ErrorKind::Value, op, why, &[self]));
        }
        if !is_weight(self.0.dtype) {
            let why = "needs float16, bfloat16 or float32";
            return Err(error(ErrorKind::DType, op, why, &[self]));
        }
        let &[ref batch @ .., _, k] = &self.0.shape[..] else {
            let why = "needs two dimensions or more";
            return Err(error(ErrorKind::Shape, op, why, &[self]));
        };
        if !k.is_multiple_of(form.group_size()) {
            let why = format!("needs a last axis of whole groups of {}", form.group_size());
            return Err(error(ErrorKind::Shape, op, why, &[self]));
        }
        let global = global_scale.map(|g| global_operand(op, form, g, batch)).transpose()?;
        Ok([self.clone()].into_iter().chain(global).collect())
    }

    /// The product with a quantized matrix: `x (…, m, k)` times its transpose `(n, k)` if
    /// `transpose`, or times `(k, n)` as it is. f32 accumulation; the result has this array's dtype,
    /// which must be f16, bf16 or f32. Batch axes broadcast.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// let w = ones([3, 64], DType::F32).quantize(Quantization::NvFp4)?;
    /// let y = ones([2, 64], DType::F32).quantized_matmul(&w, true);
    /// assert_eq!(y.shape()?, [2, 3]);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    #[track_caller]
    pub fn quantized_matmul(&self, w: &Quantized, transpose: bool) -> Array {
        attempt(|| {
            let (x, n) = self.meet("quantized_matmul", w, transpose)?;
            let (batch_x, m, k) = split(&x);
            let (batch_w, ..) = split(&w.codes);
            let Some(batch) = Shape::broadcast(batch_x, batch_w) else {
                let why = "batch dimensions cannot be broadcast";
                return Err(error(ErrorKind::Shape, "quantized_matmul", why, &[self, &w.codes]));
            };
            let with = |x: &Shape, tail: &[usize]| -> Shape {
                x.iter().copied().chain(tail.iter().copied()).collect()
            };
            let product = Prim::Quantized(QuantizedOp::Matmul { quantization: w.form, transpose });
            let mut shape = with(&batch, &[m, n]);
            let parts = w.parts()?;
            // One matrix for the whole batch: a single tall product.
            let out = if batch_w.is_empty() {
                let rows = batch.size() * m;
                let inputs = [x.reshape([rows, k])].into_iter().chain(parts);
                prim(product, inputs, Shape::new(&[rows, n]), self.0.dtype)
            } else {
                let tail = |a: &Array| a.0.shape[a.0.shape.len() - 2..].to_vec();
                let fit = |a: Array| a.broadcast_to(&with(&batch, &tail(&a)));
                let inputs = [x].into_iter().chain(parts).map(fit);
                prim(product, inputs, shape.clone(), self.0.dtype)
            };
            if self.0.shape.len() == 1 {
                shape.remove(shape.len() - 2);
            }
            Ok(out.reshape(&shape))
        })
    }

    /// As [`Array::quantized_matmul`], with matrices picked from the batches of both sides by indices;
    /// see [`Array::gather_mm`].
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// // Two tokens, three experts: each token goes to two of them.
    /// let x = ones([2, 1, 1, 64], DType::F32);
    /// let experts = ones([3, 5, 64], DType::F32).quantize(quantization(32, 4)?)?;
    /// let pick = Array::from_slice(&[0, 2, 1, 0], [2, 2]);
    /// let y = x.gather_qmm(&experts, None, Some(&pick), true);
    /// assert_eq!(y.shape()?, [2, 2, 1, 5]);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    #[track_caller]
    pub fn gather_qmm(
        &self,
        w: &Quantized,
        lhs_indices: Option<&Array>,
        rhs_indices: Option<&Array>,
        transpose: bool,
    ) -> Array {
        attempt(|| {
            let op = "gather_qmm";
            let (x, n) = self.meet(op, w, transpose)?;
            let (_, m, _) = split(&x);
            let pick = Pick::new(op, &x, &w.codes, lhs_indices, rhs_indices)?;
            let mut shape = pick.shape(m, n);
            let product =
                Prim::Quantized(QuantizedOp::GatherMatmul { quantization: w.form, transpose });
            let inputs = [x].into_iter().chain(w.parts()?).chain([pick.lhs, pick.rhs]);
            let out = prim(product, inputs, shape.clone(), self.0.dtype);
            if self.0.shape.len() == 1 {
                shape.remove(shape.len() - 2);
            }
            Ok(out.reshape(&shape))
        })
    }

    /// The product `x (…, m, k) · wᵀ` with activations that are quantized on the fly as the matrix
    /// `w (…, n, k)` is, to nvfp4 or mxfp8; `global_scale` is that of the activations, for nvfp4.
    /// Values are multiplied in f32; the result has this array's dtype.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// let w = full([3, 32], 2.0f32).quantize(Quantization::MxFp8)?;
    /// let y = full([1, 32], 1.01f32).qqmm(&w, None); // 1.01 is nearest to 1
    /// assert_eq!(y.to_vec::<f32>()?, [64.0; 3]);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    #[track_caller]
    pub fn qqmm(&self, w: &Quantized, global_scale: Option<&Array>) -> Array {
        attempt(|| {
            let x = self.activations("qqmm", w.form, global_scale)?;
            Ok(x.quantized_matmul(w, true).astype(self.0.dtype))
        })
    }

    /// [`Array::qqmm`] with a matrix `w (…, n, k)` that is quantized on the fly too, so that it can
    /// have gradients: they pass as if nothing had been quantized.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// let (x, w) = (full([1, 32], 1.01f32), full([3, 32], 2.0f32)); // 1.01 is nearest to 1
    /// let product = |w: &Array| x.qqmm_dense(w, Quantization::MxFp8, None, None);
    /// assert_eq!(product(&w).to_vec::<f32>()?, [64.0; 3]);
    /// assert_eq!(grad(|w: &Array| product(w).sum(..))(&w)?.shape()?, [3, 32]);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    #[track_caller]
    pub fn qqmm_dense(
        &self,
        w: &Array,
        form: Quantization,
        global_scale: Option<&Array>,
        global_scale_w: Option<&Array>,
    ) -> Array {
        attempt(|| {
            let x = self.activations("qqmm", form, global_scale)?;
            let w = w.fake_quantize_to(form, global_scale_w, DType::F32);
            w.check()?;
            Ok(x.matmul(&w.mt()).astype(self.0.dtype))
        })
    }

    /// [`Array::qqmm`] with matrices picked from the batches of both sides by indices; see
    /// [`Array::gather_mm`].
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// let w = full([2, 3, 32], 2.0f32).quantize(Quantization::MxFp8)?;
    /// let x = ones([1, 1, 32], DType::F32);
    /// let y = x.gather_qqmm(&w, None, Some(&Array::from_slice(&[1, 0, 1], [3])), None);
    /// assert_eq!(y.shape()?, [3, 1, 3]);
    /// assert_eq!(y.max(..).item::<f32>()?, 64.0);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    #[track_caller]
    pub fn gather_qqmm(
        &self,
        w: &Quantized,
        lhs_indices: Option<&Array>,
        rhs_indices: Option<&Array>,
        global_scale: Option<&Array>,
    ) -> Array {
        attempt(|| {
            let x = self.activations("gather_qqmm", w.form, global_scale)?;
            Ok(x.gather_qmm(w, lhs_indices, rhs_indices, true).astype(self.0.dtype))
        })
    }

    /// Activations quantized on the fly, as float32.
    fn activations(
        &self,
        op: &'static str,
        form: Quantization,
        global_scale: Option<&Array>,
    ) -> Result<Array> {
        self.check()?;
        if !matches!(form, Quantization::NvFp4 | Quantization::MxFp8) {
            let why = format!("activations are quantized to nvfp4 or mxfp8, not to {form}");
            return Err(Error::new(ErrorKind::Value, op, why));
        }
        let vector = self.0.shape.len() == 1;
        let x = if vector { self.expand_dims(0) } else { self.clone() };
        let x = x.fake_quantize_to(form, global_scale, DType::F32);
        x.check()?;
        Ok(if vector { x.squeeze(0) } else { x })
    }

    /// Checks the operands of a product with a quantized matrix; this array as a matrix, and the
    /// number of columns of the result.
    fn meet(&self, op: &'static str, w: &Quantized, transpose: bool) -> Result<(Array, usize)> {
        w.check()?;
        self.check()?;
        if !is_weight(self.0.dtype) {
            let why = "needs float16, bfloat16 or float32";
            return Err(error(ErrorKind::DType, op, why, &[self]));
        }
        let x = if self.0.shape.len() == 1 { self.expand_dims(0) } else { self.clone() };
        let matrix = w.shape()?;
        let (&[.., k], &[.., rows, columns]) = (&x.0.shape[..], &matrix[..]) else {
            return Err(error(ErrorKind::Shape, op, "needs matrices", &[self, &w.codes]));
        };
        let (n, inner) = if transpose { (rows, columns) } else { (columns, rows) };
        if inner != k {
            let why = format!("inner dimensions {k} and {inner} differ");
            return Err(error(ErrorKind::Shape, op, why, &[self, &w.codes]));
        }
        Ok((x, n))
    }
}

/// Batch axes, rows and columns of an array of two dimensions or more.
fn split(x: &Array) -> (&[usize], usize, usize) {
    let rank = x.0.shape.len();
    (&x.0.shape[..rank - 2], x.0.shape[rank - 2], x.0.shape[rank - 1])
}

/// The shape of the matrix that codes and scales represent.
fn represented(form: Quantization, codes: &Array, scales: Option<&Array>) -> Shape {
    let groups = |row: usize| match form.blocks() {
        Some(format) => row / format.bytes(),
        None => row,
    };
    let mut shape = scales.unwrap_or(codes).0.shape.clone();
    let last = shape.len() - 1;
    shape[last] = groups(shape[last]) * form.group_size();
    shape
}

impl Quantized {
    /// The shape of the matrix that is represented.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// let w = zeros([8, 64], DType::F32).quantize(Quantization::MxFp4)?;
    /// assert_eq!(w.shape()?[..], [8, 64]);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// If one of the arrays failed, or their shapes do not belong together.
    pub fn shape(&self) -> Result<Shape> {
        self.check()?;
        Ok(represented(self.form, &self.codes, self.scales.as_ref()))
    }

    /// Checks that codes, scales, biases and global scale belong together.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// let mut w = zeros([8, 64], DType::F32).quantize(Quantization::MxFp4)?;
    /// assert!(w.check().is_ok());
    /// w.scales = None;
    /// assert!(w.check().is_err());
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// If one of the arrays failed, or shapes or dtypes do not fit.
    pub fn check(&self) -> Result<()> {
        let Quantized { codes, scales, biases, global_scale, form } = self;
        let all: Vec<&Array> = [codes].into_iter().chain(scales).chain(biases).collect();
        all.iter().try_for_each(|a| a.check())?;
        form.check()?;
        let c = &codes.0.shape;
        if let Some(format) = form.blocks() {
            let rows = codes.0.dtype == DType::U8
                && c.len() >= 2
                && c[c.len() - 1].is_multiple_of(format.bytes())
                && (c[c.len() - 1] / format.bytes()).checked_mul(format.elements()).is_some();
            if rows && all.len() == 1 && global_scale.is_none() {
                return Ok(());
            }
            let why = format!("{form} is rows of whole blocks of {} bytes alone", format.bytes());
            return Err(error(ErrorKind::Shape, "quantized", why, &all));
        }
        let Some(scales) = scales else {
            let why = format!("{form} needs scales");
            return Err(error(ErrorKind::Shape, "quantized", why, &all));
        };
        let s = &scales.0.shape;
        let dtype = scales.0.dtype;
        let dtypes = codes.0.dtype == DType::U32
            && (if form.is_affine() { is_weight(dtype) } else { dtype == DType::U8 })
            && biases.iter().all(|b| b.0.dtype == dtype);
        let k = s.last().and_then(|groups| groups.checked_mul(form.group_size()));
        let fits = dtypes
            && biases.is_some() == form.is_affine()
            && biases.iter().all(|b| b.0.shape == *s)
            && c.len() == s.len()
            && c.len() >= 2
            && c[..c.len() - 1] == s[..s.len() - 1]
            && k.is_some_and(|k| c[c.len() - 1] == form.words(k));
        if !fits {
            let why = format!("codes, scales and biases do not belong together for {form}");
            return Err(error(ErrorKind::Shape, "quantized", why, &all));
        }
        if let Some(g) = global_scale {
            global_operand("quantized", *form, g, &c[..c.len() - 2])?.check()?;
        }
        Ok(())
    }

    /// The operands of primitives: codes, scales, biases, global scale.
    fn parts(&self) -> Result<Inputs> {
        let (batch, ..) = split(&self.codes);
        let global = self.global_scale.as_ref();
        let global =
            global.map(|g| global_operand("quantized", self.form, g, batch)).transpose()?;
        let (scales, biases) = (self.scales.clone(), self.biases.clone());
        Ok([self.codes.clone()].into_iter().chain(scales).chain(biases).chain(global).collect())
    }

    /// The matrix in the scales' dtype, or in bfloat16 where scales are bytes, as in MLX; blocks too
    /// come out in bfloat16.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// let w = full([2, 64], 3.0f32).quantize(Quantization::MxFp4)?;
    /// assert_eq!(w.dequantize().dtype()?, DType::BF16);
    /// assert_eq!(w.dequantize().max(..).astype(DType::F32).item::<f32>()?, 3.0);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    #[track_caller]
    pub fn dequantize(&self) -> Array {
        let scales = self.scales.as_ref().filter(|_| self.form.is_affine());
        self.dequantize_to(scales.map_or(DType::BF16, |scales| scales.0.dtype))
    }

    /// The matrix in float16, bfloat16 or float32; computed in float32 and rounded once.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// let w = full([1, 32], 3.0f32).quantize(Quantization::MxFp8)?;
    /// assert_eq!(w.dequantize_to(DType::F32).to_vec::<f32>()?, [3.0; 32]);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    #[track_caller]
    pub fn dequantize_to(&self, dtype: DType) -> Array {
        attempt(|| {
            let shape = self.shape()?;
            if !is_weight(dtype) {
                let why = format!("to float16, bfloat16 or float32, not to {dtype}");
                return Err(Error::new(ErrorKind::DType, "dequantize", why));
            }
            let dequantize = Prim::Quantized(QuantizedOp::Dequantize(self.form));
            Ok(prim(dequantize, self.parts()?, shape, dtype))
        })
    }

    /// The rows at `indices` of a two-dimensional matrix, dequantized: `(…indices, k)`.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// let table = arange(4, DType::F32).expand_dims(1).broadcast_to([4, 32]);
    /// let table = table.quantize(Quantization::MxFp4)?;
    /// let rows = table.take_rows(&Array::from_slice(&[3, 0], [2]));
    /// assert_eq!(rows.astype(DType::F32).max(1).to_vec::<f32>()?, [3.0, 0.0]);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    #[track_caller]
    pub fn take_rows(&self, indices: &Array) -> Array {
        attempt(|| {
            self.check()?;
            if self.codes.0.shape.len() != 2 {
                let why = "rows are taken from one matrix";
                return Err(error(ErrorKind::Shape, "take_rows", why, &[&self.codes, indices]));
            }
            // A single row is a matrix of one row to the kernels.
            let single = indices.0.shape.is_empty() && !indices.0.failed;
            let indices = if single { indices.expand_dims(0) } else { indices.clone() };
            // Taken before the last axis goes: (…indices, words) is a batch of matrices.
            let pick = |a: &Array| {
                let rows = a.take(&indices, 0);
                rows.check().map(|()| rows)
            };
            let rows = Quantized {
                codes: pick(&self.codes)?,
                scales: self.scales.as_ref().map(pick).transpose()?,
                biases: self.biases.as_ref().map(pick).transpose()?,
                global_scale: self.global_scale.clone(),
                form: self.form,
            };
            let out = rows.dequantize();
            Ok(if single { out.squeeze(0) } else { out })
        })
    }
}

//! Quantized matrices: affine codes of 2 to 8 bits in groups along the last axis, bit for bit as MLX
//! packs them.

pub(crate) mod rules;

use super::{attempt, error, prim};
use crate::error::{Error, ErrorKind, Result};
use crate::node::{Array, Inputs};
use crate::scope::call_site;
use lazul_ir::{DType, Prim, Quantization, QuantizedOp, Shape};

/// A quantized matrix: `w ≈ scale * code + bias` for each group of the last axis.
#[derive(Clone, Debug)]
pub struct Quantized {
    /// u32 words of packed codes, `(…, k * bits / 32)`.
    pub codes: Array,
    /// One factor a group, `(…, k / group_size)`.
    pub scales: Array,
    /// One offset a group, as `scales`.
    pub biases: Array,
    /// Bits and group size.
    pub form: Quantization,
}

/// Checks bits and group size.
///
/// # Errors
/// If bits is none of 2, 3, 4, 5, 6, 8 or the group size none of 32, 64, 128.
pub fn quantization(group_size: u32, bits: u32) -> Result<Quantization> {
    if !matches!(bits, 2 | 3 | 4 | 5 | 6 | 8) {
        let why = format!("{bits} bits; 2, 3, 4, 5, 6 and 8 are possible");
        return Err(Error::new(ErrorKind::Value, "quantize", why));
    }
    if !matches!(group_size, 32 | 64 | 128) {
        let why = format!("groups of {group_size}; 32, 64 and 128 are possible");
        return Err(Error::new(ErrorKind::Value, "quantize", why));
    }
    Ok(Quantization { group_size, bits })
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
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Array::check`]; for a dtype other than f16, bf16 and f32; for a bad shape.
    #[track_caller]
    pub fn quantize(&self, form: Quantization) -> Result<Quantized> {
        let site = call_site();
        self.check()?;
        let form = quantization(form.group_size, form.bits).map_err(|e| e.at(site))?;
        if !matches!(self.0.dtype, DType::F16 | DType::BF16 | DType::F32) {
            let why = "needs float16, bfloat16 or float32";
            return Err(error(ErrorKind::DType, "quantize", why, &[self]).at(site));
        }
        let k = self.0.shape.last().copied().unwrap_or(0);
        if self.0.shape.len() < 2 || k % form.group_size as usize != 0 {
            let why = format!(
                "needs two dimensions and a last axis of whole groups of {}",
                form.group_size
            );
            return Err(error(ErrorKind::Shape, "quantize", why, &[self]).at(site));
        }
        let last = |n: usize| -> Shape {
            let mut shape = self.0.shape.clone();
            let at = shape.len() - 1;
            shape[at] = n;
            shape
        };
        let codes = last(k * form.bits as usize / 32);
        let groups = last(k / form.group_size as usize);
        let outputs = [(codes, DType::U32), (groups.clone(), self.0.dtype), (groups, self.0.dtype)];
        let quantize = Prim::Quantized(QuantizedOp::Quantize(form));
        let made = Array::lazy_many(quantize, Inputs::from_iter([self.clone()]), &outputs, site);
        let [codes, scales, biases] =
            <[Array; 3]>::try_from(made).unwrap_or_else(|_| unreachable!());
        Ok(Quantized { codes, scales, biases, form })
    }

    /// The product with a quantized matrix: `x (…, m, k)` times its transpose `(n, k)` if
    /// `transpose`, or times `(k, n)` as it is. f32 accumulation; the result has this array's dtype,
    /// which must be f16, bf16 or f32.
    #[track_caller]
    pub fn quantized_matmul(&self, w: &Quantized, transpose: bool) -> Array {
        attempt(|| {
            w.check()?;
            self.check()?;
            if !matches!(self.0.dtype, DType::F16 | DType::BF16 | DType::F32) {
                let why = "needs float16, bfloat16 or float32";
                return Err(error(ErrorKind::DType, "quantized_matmul", why, &[self]));
            }
            let x = if self.0.shape.len() == 1 { self.expand_dims(0) } else { self.clone() };
            let matrix = w.shape()?;
            let (&[ref batch_x @ .., m, k], &[ref batch_w @ .., rows, columns]) =
                (&x.0.shape[..], &matrix[..])
            else {
                let why = "needs matrices";
                return Err(error(ErrorKind::Shape, "quantized_matmul", why, &[self, &w.codes]));
            };
            let (n, inner) = if transpose { (rows, columns) } else { (columns, rows) };
            if inner != k {
                let why = format!("inner dimensions {k} and {inner} differ");
                return Err(error(ErrorKind::Shape, "quantized_matmul", why, &[self, &w.codes]));
            }
            let Some(batch) = Shape::broadcast(batch_x, batch_w) else {
                let why = "batch dimensions cannot be broadcast";
                return Err(error(ErrorKind::Shape, "quantized_matmul", why, &[self, &w.codes]));
            };
            let with = |x: &Shape, tail: &[usize]| -> Shape {
                x.iter().copied().chain(tail.iter().copied()).collect()
            };
            let product = Prim::Quantized(QuantizedOp::Matmul { quantization: w.form, transpose });
            let mut shape = with(&batch, &[m, n]);
            // One matrix for the whole batch: a single tall product.
            let out = if batch_w.is_empty() {
                let rows = batch.size() * m;
                let inputs =
                    [x.reshape([rows, k]), w.codes.clone(), w.scales.clone(), w.biases.clone()];
                prim(product, inputs, Shape::new(&[rows, n]), self.0.dtype)
            } else {
                let tail = |a: &Array| a.0.shape[a.0.shape.len() - 2..].to_vec();
                let fit = |a: &Array| a.broadcast_to(&with(&batch, &tail(a)));
                let inputs = [fit(&x), fit(&w.codes), fit(&w.scales), fit(&w.biases)];
                prim(product, inputs, shape.clone(), self.0.dtype)
            };
            if self.0.shape.len() == 1 {
                shape.remove(shape.len() - 2);
            }
            Ok(out.reshape(&shape))
        })
    }
}

impl Quantized {
    /// The shape of the matrix that is represented.
    ///
    /// # Errors
    /// If one of the arrays failed, or their shapes do not belong together.
    pub fn shape(&self) -> Result<Shape> {
        self.check()?;
        let mut shape = self.scales.0.shape.clone();
        let last = shape.len() - 1;
        shape[last] *= self.form.group_size as usize;
        Ok(shape)
    }

    /// Checks that codes, scales and biases belong together.
    ///
    /// # Errors
    /// If one of the arrays failed, or shapes or dtypes do not fit.
    pub fn check(&self) -> Result<()> {
        let Quantized { codes, scales, biases, form } = self;
        [codes, scales, biases].into_iter().try_for_each(|a| a.check())?;
        quantization(form.group_size, form.bits)?;
        let (c, s) = (&codes.0.shape, &scales.0.shape);
        let fits = codes.0.dtype == DType::U32
            && matches!(scales.0.dtype, DType::F16 | DType::BF16 | DType::F32)
            && biases.0.dtype == scales.0.dtype
            && s == &biases.0.shape
            && c.len() == s.len()
            && c.len() >= 2
            && c[..c.len() - 1] == s[..s.len() - 1]
            && c[c.len() - 1] * 32
                == s[s.len() - 1] * form.group_size as usize * form.bits as usize;
        if fits {
            return Ok(());
        }
        let why = format!(
            "codes, scales and biases do not belong together for {} bits in groups of {}",
            form.bits, form.group_size
        );
        Err(error(ErrorKind::Shape, "quantized", why, &[codes, scales, biases]))
    }

    /// The matrix in the scales' dtype.
    #[track_caller]
    pub fn dequantize(&self) -> Array {
        attempt(|| {
            let shape = self.shape()?;
            let inputs = [self.codes.clone(), self.scales.clone(), self.biases.clone()];
            let dequantize = Prim::Quantized(QuantizedOp::Dequantize(self.form));
            Ok(prim(dequantize, inputs, shape, self.scales.0.dtype))
        })
    }

    /// The rows at `indices` of a two-dimensional matrix, dequantized: `(…indices, k)`.
    #[track_caller]
    pub fn take_rows(&self, indices: &Array) -> Array {
        let pick = |a: &Array| a.take(indices, 0);
        let rows = Quantized {
            codes: pick(&self.codes),
            scales: pick(&self.scales),
            biases: pick(&self.biases),
            form: self.form,
        };
        if indices.0.shape.is_empty() {
            // A single row is a matrix of one row to the kernels.
            let lift = |a: &Array| a.expand_dims(0);
            let one = Quantized {
                codes: lift(&rows.codes),
                scales: lift(&rows.scales),
                biases: lift(&rows.biases),
                form: self.form,
            };
            return one.dequantize().squeeze(0);
        }
        rows.dequantize()
    }
}

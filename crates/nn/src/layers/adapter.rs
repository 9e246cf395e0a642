//! Low-rank adapters: what fine-tuning adds to a matrix that itself stays as it is.
//!
//! An adapter stands beside the weight of a [`Linear`](super::Linear) or an
//! [`Embedding`](super::Embedding), dense or quantized, under the names and layouts of mlx-lm: `lora_a`
//! `(in, r)`, `lora_b` `(r, out)`, and for DoRA the lengths of the matrix's rows, `m` `(out)`. Sources: Hu
//! et al., 2021 (LoRA); Dettmers et al., 2023 (quantized bases); Liu et al., 2024 (DoRA).

use super::{Dropout, Keys, Weight, error};
use lazul_core::{Array, DType, Error, ErrorKind, Result, concatenate, random, where_, zeros};

/// Which adapter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdapterOptions {
    /// Columns of `lora_a`, at least 1; 8.
    pub rank: usize,
    /// Multiplies what the adapter adds; 20.
    pub scale: f64,
    /// Probability of a zero in the adapter's input, in training; 0.
    pub dropout: f64,
    /// Whether lengths of rows are learned apart from their directions (DoRA); false.
    pub dora: bool,
}

impl Default for AdapterOptions {
    fn default() -> AdapterOptions {
        AdapterOptions { rank: 8, scale: 20.0, dropout: 0.0, dora: false }
    }
}

/// A low-rank adapter.
///
/// ```
/// use lazul_core::prelude::*;
/// use lazul_nn::{Linear, Module, layers::AdapterOptions};
/// let base = Linear::init(64, 8, true, Some(&random::key(0)))?;
/// let quantized = Linear { weight: base.weight.quantize(Quantization::MxFp4)?, ..base };
/// let mut adapted = quantized.clone();
/// adapted.adapt(&AdapterOptions { rank: 4, ..Default::default() }, Some(&random::key(1)))?;
/// let x = ones([2, 64], DType::F32);
/// // An adapter adds nothing at first.
/// assert!(adapted.forward(&x).array_equal(&quantized.forward(&x), false).item::<bool>()?);
/// let names: Vec<String> = adapted.trainable_parameters().into_keys().collect();
/// assert_eq!(names, ["bias", "lora_a", "lora_b"]);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[derive(Clone, Debug, crate::Module)]
pub struct Adapter {
    /// `(in, r)`; of an embedding `(n, r)`.
    pub lora_a: Array,
    /// `(r, out)`; of an embedding `(r, d)`.
    pub lora_b: Array,
    /// Lengths of the adapted matrix's rows, f32 `(out)`; of an embedding `(n)`. DoRA alone has them.
    pub m: Option<Array>,
    /// Multiplies what the adapter adds.
    #[module(option)]
    pub scale: f64,
    /// Of the adapter's input.
    pub dropout: Dropout,
}

/// Lengths of a matrix's rows.
fn lengths(matrix: &Array) -> Array {
    matrix.square().sum(-1).sqrt()
}

impl Adapter {
    /// An adapter that adds nothing yet, `input` to `output` features, f32: `lora_a` is uniform within `1 / sqrt(input)`.
    fn init(
        [input, output]: [usize; 2],
        rows_of: &Weight,
        options: &AdapterOptions,
        key: Option<&Array>,
    ) -> Result<Adapter> {
        if options.rank == 0 || !options.scale.is_finite() {
            let why = format!(
                "a rank of {} and a scale of {} make no adapter",
                options.rank, options.scale
            );
            return Err(Error::new(ErrorKind::Value, "adapt", why));
        }
        let limit = 1.0 / (input.max(1) as f64).sqrt();
        let key = Keys::new(key).next();
        let lora_a =
            random::uniform(-limit, limit, [input, options.rank], DType::F32, key.as_ref());
        lora_a.check()?;
        let m = options.dora.then(|| lengths(&rows_of.dense().astype(DType::F32)));
        Ok(Adapter {
            lora_a,
            lora_b: zeros([options.rank, output], DType::F32),
            m,
            scale: options.scale,
            dropout: Dropout::new(options.dropout)?,
        })
    }

    /// For a map by `weight (out, in)`.
    pub(super) fn of_linear(
        weight: &Weight,
        options: &AdapterOptions,
        key: Option<&Array>,
    ) -> Result<Adapter> {
        let [output, input] = weight.dims()?;
        Adapter::init([input, output], weight, options, key)
    }

    /// For a table `weight (n, d)`.
    pub(super) fn of_embedding(
        weight: &Weight,
        options: &AdapterOptions,
        key: Option<&Array>,
    ) -> Result<Adapter> {
        Adapter::init(weight.dims()?, weight, options, key)
    }

    /// One adapter that adds what this one and another add, with the columns of both.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// use lazul_nn::{Linear, layers::AdapterOptions};
    /// let mut linear = Linear::init(4, 3, false, Some(&random::key(0)))?;
    /// let mut two = Vec::new();
    /// for (rank, scale) in [(2, 1.0), (1, 5.0)] {
    ///     linear.adapt(&AdapterOptions { rank, scale, ..Default::default() }, None)?;
    ///     let mut adapter = linear.adapter.take().unwrap();
    ///     adapter.lora_b = ones([rank, 3], DType::F32);
    ///     two.push(adapter);
    /// }
    /// let both = two[0].joined(&two[1])?;
    /// assert_eq!(both.lora_a.shape()?, [4, 3]);
    /// let product = |a: &lazul_nn::layers::Adapter| a.lora_a.matmul(&a.lora_b) * a.scale;
    /// let sum = product(&two[0]) + product(&two[1]);
    /// assert!(product(&both).allclose(&sum, Tolerance::default()).item::<bool>()?);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// If one of them has lengths of rows (DoRA): there is no sum then; if they are not for one matrix.
    pub fn joined(&self, other: &Adapter) -> Result<Adapter> {
        let both = [self, other];
        if both.iter().any(|a| a.m.is_some()) {
            let why = "adapters with lengths of rows (DoRA) do not add up";
            return Err(Error::new(ErrorKind::Value, "joined", why));
        }
        let lora_a = concatenate(&both.map(|a| &a.lora_a * a.scale), 1);
        let lora_b = concatenate(&both.map(|a| a.lora_b.clone()), 0);
        lora_a.check()?;
        lora_b.check()?;
        Ok(Adapter { lora_a, lora_b, m: None, scale: 1.0, dropout: self.dropout.clone() })
    }

    /// What is added to a result `y` of dtype of `like`.
    fn added(&self, y: Array, z: Array, like: &Array) -> Result<Array> {
        Ok(y + (z * self.scale).astype(like.dtype()?))
    }

    /// `scale * (lora_a lora_b)`: for a table as it stands, for a map transposed.
    fn delta(&self) -> Array {
        self.lora_a.matmul(&self.lora_b) * self.scale
    }

    /// Rows scaled to the learned lengths: `m / |row|`, whose length no gradient sees through. A row of length
    /// 0 has no direction and stays as it is.
    fn stretch(&self, m: &Array, adapted: &Array) -> Array {
        let lengths = lengths(adapted).stop_gradient();
        let zero = lengths.equal(0.0);
        where_(&zero, 1.0, m / where_(&zero, 1.0, &lengths))
    }

    /// `x (…, in)` through a map `weight (out, in)` with this adapter: `(…, out)`.
    pub(super) fn linear(&self, x: &Array, weight: &Weight) -> Result<Array> {
        let z = self.dropout.forward(x).matmul(&self.lora_a).matmul(&self.lora_b); // (…, out)
        let y = self.added(weight.apply(x), z, x)?;
        Ok(match &self.m {
            None => y,
            Some(m) => {
                let adapted = weight.dense() + self.delta().t(); // (out, in)
                self.stretch(m, &adapted).astype(x.dtype()?) * y
            }
        })
    }

    /// Rows of a table with this adapter: `(…indices, d)`.
    pub(super) fn rows(&self, indices: &Array, weight: &Weight) -> Result<Array> {
        let y = weight.rows(indices);
        let z = self.lora_a.take(indices, 0).matmul(&self.lora_b); // (…, d)
        let Some(m) = &self.m else {
            return self.added(y.clone(), self.dropout.forward(&z), &y);
        };
        let out = self.added(y.clone(), self.dropout.forward(&z), &y)?;
        let dtype = y.dtype()?;
        let adapted = y + z * self.scale;
        Ok((self.stretch(&m.take(indices, 0), &adapted).expand_dims(-1) * out).astype(dtype))
    }

    /// A table with this adapter as a map: `x (…, d)` → `(…, n)`.
    pub(super) fn as_linear(&self, x: &Array, weight: &Weight) -> Result<Array> {
        let z = self.dropout.forward(x).matmul(&self.lora_b.t()).matmul(&self.lora_a.t());
        let y = self.added(weight.apply(x), z, x)?;
        Ok(match &self.m {
            None => y,
            Some(m) => {
                let adapted = weight.dense() + self.delta(); // (n, d)
                self.stretch(m, &adapted).astype(x.dtype()?) * y
            }
        })
    }

    /// The matrix with what the adapter adds, quantized again if it was and `dequantize` is false.
    pub(super) fn fused(&self, weight: &Weight, table: bool, dequantize: bool) -> Result<Weight> {
        let dense = weight.dense();
        let dtype = dense.dtype()?;
        let delta = if table { self.delta() } else { self.delta().t() };
        if delta.shape()? != dense.shape()? {
            let why = "the adapter and the matrix have different sizes";
            return Err(error(
                ErrorKind::Shape,
                "fuse",
                why,
                &[&dense, &self.lora_a, &self.lora_b],
            ));
        }
        let mut fused = dense + delta.astype(dtype);
        if let Some(m) = &self.m {
            fused = (self.stretch(m, &fused).expand_dims(-1) * fused).astype(dtype);
        }
        fused.check()?;
        match weight {
            Weight::Quantized(w) if !dequantize => Weight::Dense(fused).quantize(w.form),
            _ => Ok(Weight::Dense(fused)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Embedding, Linear, Module, value_and_grad};
    use lazul_core::ones;

    fn dora() -> AdapterOptions {
        AdapterOptions { rank: 2, dora: true, ..Default::default() }
    }

    /// Rows of a table in bf16 became f32.
    #[test]
    fn results_have_the_dtype_of_the_base() -> Result<()> {
        let indices = Array::from_slice(&[1, 0, 3], [3]);
        for options in [dora(), AdapterOptions { dora: false, ..dora() }] {
            for dtype in [DType::BF16, DType::F16, DType::F32] {
                let mut table = Embedding::init(4, 8, Some(&random::key(0)))?;
                let mut linear = Linear::init(8, 4, true, Some(&random::key(1)))?;
                table.set_dtype(dtype);
                linear.set_dtype(dtype);
                let (plain, x) = (table.clone(), ones([2, 8], dtype));
                table.adapt(&options, Some(&random::key(2)))?;
                linear.adapt(&options, Some(&random::key(2)))?;
                let rows = table.forward(&indices);
                assert_eq!(rows.dtype()?, dtype);
                assert_eq!(table.as_linear(&x).dtype()?, dtype);
                assert_eq!(linear.forward(&x).dtype()?, dtype);
                // An adapter changes nothing at first.
                let off = (rows - plain.forward(&indices)).abs().max(..);
                assert!(off.astype(DType::F32).item::<f32>()? < 2e-2);
            }
        }
        Ok(())
    }

    /// Padding of a table, or pruned rows: 0 / 0.
    #[test]
    fn rows_of_zeros_are_no_nan() -> Result<()> {
        let zero = Array::from_slice(&[0.0f32, 0.0, 3.0, 4.0], [2, 2]);
        let mut linear = Linear::new(zero.clone(), None);
        linear.adapt(&dora(), Some(&random::key(0)))?;
        let x = ones([1, 2], DType::F32);
        assert_eq!(linear.forward(&x).to_vec::<f32>()?, [0.0, 7.0]);
        let run = value_and_grad(|m: &mut Linear| m.forward(&x).sum(..));
        for gradient in run(&mut linear)?.1.values() {
            assert!(gradient.isfinite().all(..).item::<bool>()?);
        }
        let mut table = Embedding::new(zero);
        table.adapt(&dora(), Some(&random::key(0)))?;
        let rows = table.forward(&Array::from_slice(&[0, 1], [2]));
        assert_eq!(rows.to_vec::<f32>()?, [0.0, 0.0, 3.0, 4.0]);
        assert_eq!(table.as_linear(&x).to_vec::<f32>()?, [0.0, 7.0]);
        Ok(())
    }
}

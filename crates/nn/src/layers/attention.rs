//! Attention over several heads.

use super::{Keys, Linear, error};
use lazul_core::dtypes::finfo;
use lazul_core::fast::{Attention, Mask, scaled_dot_product_attention};
use lazul_core::{Array, DType, Error, ErrorKind, Result, arange, attempt, where_};

/// Numbers of features of a [`MultiHeadAttention`]; what is `None` follows from others.
#[derive(Clone, Copy, Debug, Default)]
pub struct MultiHeadDims {
    /// Of queries as they come in; `dims`.
    pub query_input: Option<usize>,
    /// Of keys; `dims`.
    pub key_input: Option<usize>,
    /// Of values; as keys.
    pub value_input: Option<usize>,
    /// Of values within, all heads together; `dims`.
    pub value: Option<usize>,
    /// Of results; `dims`.
    pub value_output: Option<usize>,
}

/// Scaled dot-product attention between projections, head by head. Source: Vaswani et al., 2017.
///
/// ```
/// use lazul_core::prelude::*;
/// use lazul_core::fast::Mask;
/// use lazul_nn::layers::MultiHeadAttention;
/// let attention = MultiHeadAttention::init(16, 4, Some(&random::key(0)))?;
/// let x = ones([2, 5, 16], DType::F32);
/// assert_eq!(attention.forward(&x, &x, &x, &Mask::Causal).shape()?, &[2, 5, 16]);
/// assert!(MultiHeadAttention::init(16, 3, None).is_err());
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[derive(Clone, Debug, crate::Module)]
pub struct MultiHeadAttention {
    /// Queries' projection.
    pub query_proj: Linear,
    /// Keys' projection.
    pub key_proj: Linear,
    /// Values' projection.
    pub value_proj: Linear,
    /// Results' projection.
    pub out_proj: Linear,
    /// Number of heads.
    #[module(skip)]
    pub heads: usize,
}

impl MultiHeadAttention {
    /// Attention of `dims` features in `heads` heads, without biases.
    ///
    /// # Errors
    /// If features do not divide into heads.
    pub fn init(dims: usize, heads: usize, key: Option<&Array>) -> Result<MultiHeadAttention> {
        MultiHeadAttention::init_with(dims, heads, MultiHeadDims::default(), false, key)
    }

    /// As [`MultiHeadAttention::init`], with other numbers of features, and biases if asked for.
    ///
    /// # Errors
    /// If features do not divide into heads.
    pub fn init_with(
        dims: usize,
        heads: usize,
        others: MultiHeadDims,
        bias: bool,
        key: Option<&Array>,
    ) -> Result<MultiHeadAttention> {
        let key_input = others.key_input.unwrap_or(dims);
        let value = others.value.unwrap_or(dims);
        if heads == 0 || !dims.is_multiple_of(heads) || !value.is_multiple_of(heads) {
            let why = format!("{dims} and {value} features do not divide into {heads} heads");
            return Err(Error::new(ErrorKind::Value, "MultiHeadAttention", why));
        }
        let mut keys = Keys::new(key);
        let mut linear = |i, o| Linear::init(i, o, bias, keys.next().as_ref());
        Ok(MultiHeadAttention {
            query_proj: linear(others.query_input.unwrap_or(dims), dims)?,
            key_proj: linear(key_input, dims)?,
            value_proj: linear(others.value_input.unwrap_or(key_input), value)?,
            out_proj: linear(value, others.value_output.unwrap_or(dims))?,
            heads,
        })
    }

    /// `queries (b, tq, d)`, `keys` and `values (b, tk, d)` → `(b, tq, d)`; an array as mask broadcasts to
    /// `(b, heads, tq, tk)`.
    #[track_caller]
    pub fn forward(&self, queries: &Array, keys: &Array, values: &Array, mask: &Mask) -> Array {
        attempt(|| {
            let split = |x: &Array, proj: &Linear| -> Result<Array> {
                if x.ndim()? != 3 {
                    let why = "needs inputs (b, t, d)";
                    return Err(error(ErrorKind::Shape, "MultiHeadAttention", why, &[x]));
                }
                // (b, t, h * d) → (b, h, t, d)
                let y = proj.forward(x).unflatten(-1, [self.heads as i64, -1]);
                Ok(y.transpose([0, 2, 1, 3]))
            };
            let q = split(queries, &self.query_proj)?;
            let k = split(keys, &self.key_proj)?;
            let v = split(values, &self.value_proj)?;
            let scale = 1.0 / (q.dim(-1)? as f32).sqrt();
            let how = Attention { scale, mask: mask.clone(), ..Default::default() };
            let y = scaled_dot_product_attention(&q, &k, &v, &how); // (b, h, tq, dv)
            Ok(self.out_proj.forward(&y.transpose([0, 2, 1, 3]).flatten(-2, -1)))
        })
    }
}

/// `(n, n)` of a float dtype: 0 where a query sees a key, the least finite number where the key comes
/// later.
///
/// ```
/// use lazul_core::prelude::*;
/// use lazul_nn::layers::additive_causal_mask;
/// let mask = additive_causal_mask(2, DType::F32);
/// assert_eq!(mask.to_vec::<f32>()?, [0.0, f32::MIN, 0.0, 0.0]);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[track_caller]
pub fn additive_causal_mask(n: usize, dtype: DType) -> Array {
    attempt(|| {
        let least = finfo(dtype)?.min;
        let at = arange(n as i64, DType::I64);
        let later = at.expand_dims(1).less(&at);
        Ok(where_(later, least, 0.0).astype(dtype))
    })
}

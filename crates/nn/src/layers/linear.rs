//! Affine maps, dense or quantized.

use super::{Keys, error};
use crate::module::{Module, Visitor, VisitorMut};
use crate::weights::Weights;
use lazul_core::{Array, DType, ErrorKind, Quantization, Quantized, Result, attempt, random};

/// A matrix `(out, in)` as it is stored.
#[derive(Clone, Debug)]
pub enum Weight {
    /// Plain elements of a float dtype.
    Dense(Array),
    /// Codes of a few bits in groups.
    Quantized(Quantized),
}

impl Weight {
    /// `x (…, in)` times the transposed matrix: `(…, out)`.
    #[track_caller]
    pub fn apply(&self, x: &Array) -> Array {
        match self {
            Weight::Dense(w) => x.matmul(&w.mt()),
            Weight::Quantized(w) => x.quantized_matmul(w, true),
        }
    }

    /// Rows of the matrix: `(…indices, in)`.
    #[track_caller]
    pub fn rows(&self, indices: &Array) -> Array {
        match self {
            Weight::Dense(w) => w.take(indices, 0),
            Weight::Quantized(w) => w.take_rows(indices),
        }
    }

    /// The matrix quantized; one that is quantized already stays as it is.
    ///
    /// # Errors
    /// As [`Array::quantize`].
    pub fn quantize(&self, form: Quantization) -> Result<Weight> {
        Ok(match self {
            Weight::Dense(w) => Weight::Quantized(w.quantize(form)?),
            quantized => quantized.clone(),
        })
    }
}

impl Module for Weight {
    fn visit<'a>(&'a self, visitor: &mut Visitor<'_, 'a>) {
        match self {
            Weight::Dense(w) => visitor.field("weight", w),
            Weight::Quantized(w) => w.visit(visitor),
        }
    }
    fn visit_mut(&mut self, visitor: &mut VisitorMut<'_>) {
        match self {
            Weight::Dense(w) => visitor.field("weight", w),
            Weight::Quantized(w) => w.visit_mut(visitor),
        }
    }
}

/// `x Wᵀ + b` with `W (out, in)`.
#[derive(Clone, Debug, crate::Module)]
pub struct Linear {
    /// The matrix.
    #[module(flatten)]
    pub weight: Weight,
    /// Added to each result, `(out)`.
    pub bias: Option<Array>,
}

impl Linear {
    /// A dense map.
    pub fn new(weight: Array, bias: Option<Array>) -> Linear {
        Linear { weight: Weight::Dense(weight), bias }
    }

    /// A map from `input` to `output` features, f32, uniform within `1 / sqrt(input)`.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// use lazul_nn::Linear;
    /// let linear = Linear::init(3, 5, true, Some(&random::key(0)))?;
    /// assert_eq!(linear.forward(&ones([2, 3], DType::F32)).shape()?, &[2, 5]);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// If the matrix is larger than an array can be.
    pub fn init(input: usize, output: usize, bias: bool, key: Option<&Array>) -> Result<Linear> {
        let mut draw = uniform_within(input, key);
        let weight = draw(&[output, input])?;
        let bias = if bias { Some(draw(&[output])?) } else { None };
        Ok(Linear::new(weight, bias))
    }

    /// The map at this place of a checkpoint: `weight`, and `bias` if asked for; quantized where the
    /// checkpoint says so.
    ///
    /// # Errors
    /// If a tensor is missing or has another shape.
    pub fn load(weights: &Weights<'_>, input: usize, output: usize, bias: bool) -> Result<Linear> {
        let weight = weights.matrix(output, input)?;
        let bias = if bias { Some(weights.tensor("bias", &[output])?) } else { None };
        Ok(Linear { weight, bias })
    }

    /// `x (…, in)` → `(…, out)`.
    #[track_caller]
    pub fn forward(&self, x: &Array) -> Array {
        let y = self.weight.apply(x);
        match &self.bias {
            Some(bias) => y + bias,
            None => y,
        }
    }
}

/// Draws parameters uniform within `1 / sqrt(input)`.
fn uniform_within(input: usize, key: Option<&Array>) -> impl FnMut(&[usize]) -> Result<Array> {
    let limit = 1.0 / (input.max(1) as f64).sqrt();
    let mut keys = Keys::new(key);
    move |shape| {
        let x = random::uniform(-limit, limit, shape, DType::F32, keys.next().as_ref());
        x.check()?;
        Ok(x)
    }
}

/// A number for each pair of vectors and each output: `x2ᵀ W x1 + b`.
///
/// ```
/// use lazul_core::prelude::*;
/// use lazul_nn::layers::Bilinear;
/// let weight = ones([5, 3, 2], DType::F32); // (out, in2, in1)
/// let y = Bilinear::new(weight, None).forward(&ones([4, 2], DType::F32), &ones([4, 3], DType::F32));
/// assert_eq!(y.to_vec::<f32>()?, [6.0; 20]);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[derive(Clone, Debug, crate::Module)]
pub struct Bilinear {
    /// `(out, in2, in1)`.
    pub weight: Array,
    /// Added to each result, `(out)`.
    pub bias: Option<Array>,
}

impl Bilinear {
    /// A map with parameters of one's own.
    pub fn new(weight: Array, bias: Option<Array>) -> Bilinear {
        Bilinear { weight, bias }
    }

    /// A map of vectors of `input1` and `input2` features, f32, uniform within `1 / sqrt(input1)`.
    ///
    /// # Errors
    /// If the weight is larger than an array can be.
    pub fn init(
        input1: usize,
        input2: usize,
        output: usize,
        bias: bool,
        key: Option<&Array>,
    ) -> Result<Bilinear> {
        let mut draw = uniform_within(input1, key);
        let weight = draw(&[output, input2, input1])?;
        let bias = if bias { Some(draw(&[output])?) } else { None };
        Ok(Bilinear { weight, bias })
    }

    /// `x1 (…, in1)` and `x2 (…, in2)` of the same leading axes → `(…, out)`.
    #[track_caller]
    pub fn forward(&self, x1: &Array, x2: &Array) -> Array {
        attempt(|| {
            let [out, in2, in1] = self.weight.dims()?;
            let lead = |x: &Array, d: usize| -> Result<Option<Vec<usize>>> {
                let shape = x.shape()?.split_last();
                Ok(shape.filter(|(last, _)| **last == d).map(|(_, lead)| lead.to_vec()))
            };
            let (Some(lead1), Some(lead2)) = (lead(x1, in1)?, lead(x2, in2)?) else {
                let why = format!("needs inputs (…, {in1}) and (…, {in2})");
                return Err(error(ErrorKind::Shape, "Bilinear", why, &[x1, x2]));
            };
            if lead1 != lead2 {
                let why = "the leading axes of the inputs differ";
                return Err(error(ErrorKind::Shape, "Bilinear", why, &[x1, x2]));
            }
            // (…, in1) · (in1, out * in2) → (…, out, in2); · (…, in2, 1) → (…, out, 1)
            let rows = x1.matmul(&self.weight.reshape([out * in2, in1]).t());
            let rows = rows.unflatten(-1, [out, in2]);
            let y = rows.matmul(&x2.expand_dims(-1)).squeeze(-1);
            Ok(match &self.bias {
                Some(bias) => y + bias,
                None => y,
            })
        })
    }
}

//! What a law is tried on: a function of arrays, and how its arguments are drawn.

use lazul_core::{Array, Complex32, DType, Result};
use lazul_testkit::Rng;
use std::sync::Arc;

/// A function under test.
pub(crate) type Function = Arc<dyn Fn(&[Array]) -> Result<Vec<Array>> + Send + Sync>;

/// Every dtype.
pub(crate) const ALL: &[DType] = &DType::ALL;
/// Dtypes that have an order.
pub(crate) const REAL: &[DType] = &{
    use DType::*;
    [Bool, U8, U16, U32, U64, I8, I16, I32, I64, F16, BF16, F32, F64]
};
/// Float dtypes.
pub(crate) const FLOATS: &[DType] = &[DType::F16, DType::BF16, DType::F32, DType::F64];
/// Float dtypes that quantized matrices come in.
pub(crate) const PACKED: &[DType] = &[DType::F16, DType::BF16, DType::F32];

/// Which numbers an argument holds: away from where the function has a kink or no value.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Domain {
    /// Distinct, evenly spread over an interval, in random order.
    Spread(f64, f64),
    /// Between -3 and 3, away from integers and halves.
    OffSteps,
    /// Some of these.
    Choice(&'static [f64]),
    /// Distinct, except that about a third are zero.
    WithZeros,
}

/// Numbers of either sign.
pub(crate) const AROUND: Domain = Domain::Spread(-2.1, 1.7);

impl Domain {
    fn draw(self, rng: &mut Rng, n: usize) -> Vec<f64> {
        let spread = |rng: &mut Rng, low: f64, high: f64| -> Vec<f64> {
            let step = (high - low) / n as f64;
            let at = |i: usize, rng: &mut Rng| low + step * (i as f64 + 0.3 + 0.4 * rng.unit());
            let mut all: Vec<f64> = (0..n).map(|i| at(i, rng)).collect();
            rng.shuffle(&mut all);
            all
        };
        match self {
            Domain::Spread(low, high) => spread(rng, low, high),
            Domain::OffSteps => {
                let mut one = || {
                    let half = (rng.below(12) as f64 - 6.0) / 2.0;
                    half + 0.2 + 0.1 * rng.unit()
                };
                (0..n).map(|_| one()).collect()
            }
            Domain::Choice(all) => (0..n).map(|_| *rng.pick(all)).collect(),
            Domain::WithZeros => {
                let zero = |v: f64, rng: &mut Rng| if rng.once_in(3) { 0.0 } else { v };
                spread(rng, -1.6, 1.9).into_iter().map(|v| zero(v, rng)).collect()
            }
        }
    }

    /// An array of these numbers, as near as the dtype has them.
    pub(crate) fn array(self, rng: &mut Rng, shape: &[usize], dtype: DType) -> Array {
        let n = shape.iter().product();
        let reals = self.draw(rng, n);
        match dtype {
            DType::C64 => {
                let mut other = Domain::Spread(0.15, 0.38).draw(rng, n);
                other.iter_mut().zip(&reals).for_each(|(im, re)| {
                    *im = if *re == 0.0 { 0.0 } else { *im };
                });
                let both = reals.iter().zip(&other);
                let all: Vec<Complex32> =
                    both.map(|(&re, &im)| Complex32::new(re as f32, im as f32)).collect();
                Array::from_slice(&all, shape)
            }
            d if d.is_float() => evaluated(Array::from_slice(&reals, shape).astype(dtype)),
            DType::Bool => {
                let all: Vec<bool> = reals.iter().map(|v| v.fract().abs() < 0.5).collect();
                Array::from_slice(&all, shape)
            }
            d => {
                // Twice as large, so that narrow intervals hold several integers.
                let ints = reals.iter().map(|v| (2.0 * v).round());
                let ints = ints.map(|v| if d.is_unsigned() { v.abs() } else { v });
                let all: Vec<i64> = ints.map(|v| v as i64).collect();
                evaluated(Array::from_slice(&all, shape).astype(d))
            }
        }
    }
}

/// `x`, with its value there.
pub(crate) fn evaluated(x: Array) -> Array {
    x.eval().expect("an argument has a value");
    x
}

/// One argument.
#[derive(Clone)]
pub(crate) struct Input {
    make: Arc<dyn Fn(&mut Rng, DType) -> Array + Send + Sync>,
}

impl Input {
    /// Numbers in the dtype that a law is tried in.
    pub(crate) fn numbers(shape: &[usize], domain: Domain) -> Input {
        let shape = shape.to_vec();
        Input { make: Arc::new(move |rng, dtype| domain.array(rng, &shape, dtype)) }
    }

    /// Indices from `-n` to below `n`, duplicates among them.
    pub(crate) fn indices(shape: &[usize], n: usize, dtype: DType) -> Input {
        let shape = shape.to_vec();
        Input::made(move |rng| {
            let size: usize = shape.iter().product();
            let low = if dtype.is_unsigned() { 0 } else { -(n as i64) };
            let span = (n as i64 - low) as usize;
            let all: Vec<i64> = (0..size).map(|_| low + rng.below(span) as i64).collect();
            Array::from_slice(&all, &shape).astype(dtype)
        })
    }

    /// Where blocks begin: integers from 0 to `most`, one for each entry.
    pub(crate) fn starts(most: &[usize], dtype: DType) -> Input {
        let most = most.to_vec();
        Input::made(move |rng| {
            let all: Vec<i64> = most.iter().map(|&m| rng.below(m + 1) as i64).collect();
            Array::from_slice(&all, [all.len()]).astype(dtype)
        })
    }

    /// Truth values.
    pub(crate) fn mask(shape: &[usize]) -> Input {
        let shape = shape.to_vec();
        Input::made(move |rng| {
            let size: usize = shape.iter().product();
            let all: Vec<bool> = (0..size).map(|_| rng.once_in(2)).collect();
            Array::from_slice(&all, &shape)
        })
    }

    /// Whatever `make` draws, the same whichever dtype a law is tried in.
    pub(crate) fn made(make: impl Fn(&mut Rng) -> Array + Send + Sync + 'static) -> Input {
        Input { make: Arc::new(move |rng, _| evaluated(make(rng))) }
    }
}

/// What the derivative of a function is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Derivative {
    /// What finite differences tell.
    True,
    /// Zero, by declaration.
    Zero,
    /// Something else, by declaration.
    Declared,
}

/// A function and what is known of it.
#[derive(Clone)]
pub(crate) struct Case {
    /// What it is called in reports.
    pub(crate) name: String,
    pub(crate) inputs: Vec<Input>,
    pub(crate) function: Function,
    /// Dtypes that its numbers may have; all of them are tried.
    pub(crate) dtypes: Vec<DType>,
    /// Whether a batch gives the bits that its examples give alone: each result is made from the same
    /// operands in the same order.
    pub(crate) exact: bool,
    /// What its derivative is.
    pub(crate) derivative: Derivative,
    /// Whether it has a gradient in reverse.
    pub(crate) reverse: bool,
    /// The dtype that it computes in whatever it is given, if that is less than float64.
    pub(crate) inner: Option<DType>,
}

impl Case {
    pub(crate) fn new(
        name: impl Into<String>,
        dtypes: &[DType],
        inputs: Vec<Input>,
        function: impl Fn(&[Array]) -> Array + Send + Sync + 'static,
    ) -> Case {
        Case::many(name, dtypes, inputs, move |x| Ok(vec![function(x)]))
    }

    /// A case of several results.
    pub(crate) fn many(
        name: impl Into<String>,
        dtypes: &[DType],
        inputs: Vec<Input>,
        function: impl Fn(&[Array]) -> Result<Vec<Array>> + Send + Sync + 'static,
    ) -> Case {
        Case {
            name: name.into(),
            inputs,
            function: Arc::new(function),
            dtypes: dtypes.to_vec(),
            exact: false,
            derivative: Derivative::True,
            reverse: true,
            inner: None,
        }
    }

    /// The case with another function, which should do the same.
    pub(crate) fn with(
        &self,
        function: impl Fn(&[Array]) -> Result<Vec<Array>> + Send + Sync + 'static,
    ) -> Case {
        Case { function: Arc::new(function), ..self.clone() }
    }

    pub(crate) fn exact(self) -> Case {
        Case { exact: true, ..self }
    }

    pub(crate) fn jumps(self) -> Case {
        Case { derivative: Derivative::Zero, ..self }
    }

    pub(crate) fn straight_through(self) -> Case {
        Case { derivative: Derivative::Declared, ..self }
    }

    pub(crate) fn forward_only(self) -> Case {
        Case { reverse: false, ..self }
    }

    pub(crate) fn inside(self, dtype: DType) -> Case {
        Case { inner: Some(dtype), ..self }
    }

    /// Arguments in a dtype: for one seed always the same.
    pub(crate) fn draw(&self, seed: u64, dtype: DType) -> Vec<Array> {
        let one = |(i, input): (usize, &Input)| {
            (input.make)(&mut Rng::of(seed * 1000 + i as u64, &self.name), dtype)
        };
        self.inputs.iter().enumerate().map(one).collect()
    }

    /// The results for some arguments.
    pub(crate) fn call(&self, x: &[Array]) -> Result<Vec<Array>> {
        (self.function)(x)
    }

    /// Arrays like the inexact ones of `like`, with numbers between -1 and 1; zeros like the others.
    pub(crate) fn directions(&self, seed: u64, like: &[Array]) -> Result<Vec<Array>> {
        let one = |(i, a): (usize, &Array)| -> Result<Array> {
            let dtype = a.dtype()?;
            if !dtype.is_inexact() {
                return Ok(a.zeros_like());
            }
            let mut rng = Rng::of(seed * 1000 + i as u64, &self.name);
            Ok(Domain::Spread(-1.0, 1.1).array(&mut rng, a.shape()?, dtype))
        };
        like.iter().enumerate().map(one).collect()
    }
}

//! Recurrent layers. A sequence is one loop of the graph ([`scan`]), whatever its length.
//!
//! Inputs are `(…, t, d)` with time as second-last axis; states start at zero unless given. Parameters
//! have MLX's names and layouts, and are drawn uniformly within `1 / sqrt(hidden)`.

use super::{Activation, Keys, error};
use lazul_core::{Array, DType, Error, ErrorKind, Result, attempt, random, scan, zeros};

/// Draws parameters.
struct Draw {
    keys: Keys,
    limit: f64,
}

impl Draw {
    fn new(op: &'static str, hidden: usize, key: Option<&Array>) -> Result<Draw> {
        if hidden == 0 {
            return Err(Error::new(ErrorKind::Value, op, "needs at least one hidden feature"));
        }
        Ok(Draw { keys: Keys::new(key), limit: 1.0 / (hidden as f64).sqrt() })
    }

    fn draw(&mut self, shape: &[usize]) -> Result<Array> {
        let key = self.keys.next();
        let x = random::uniform(-self.limit, self.limit, shape, DType::F32, key.as_ref());
        x.check()?;
        Ok(x)
    }
}

/// A sequence projected by `weight (gates * hidden, d)`, and the number of hidden features.
fn projected(
    op: &'static str,
    x: &Array,
    weight: &Array,
    bias: Option<&Array>,
    gates: usize,
) -> Result<(Array, usize)> {
    let [rows, d] = weight.dims()?;
    if x.ndim()? < 2 || x.dim(-1)? != d {
        let why = format!("needs an input (…, t, {d})");
        return Err(error(ErrorKind::Shape, op, why, &[x]));
    }
    let y = x.matmul(&weight.t());
    let y = match bias {
        Some(bias) => y + bias,
        None => y,
    };
    y.check()?;
    Ok((y, rows / gates))
}

/// The state before the first step, `(…, hidden)`: as given, or zeros.
fn start(op: &'static str, gates: &Array, hidden: usize, given: Option<&Array>) -> Result<Array> {
    let all = gates.shape()?;
    let mut shape = all[..all.len() - 2].to_vec();
    shape.push(hidden);
    let Some(given) = given else { return Ok(zeros(&shape, gates.dtype()?)) };
    if given.shape()? != shape {
        let why = format!("the state needs shape {}", lazul_core::Shape::new(&shape));
        return Err(error(ErrorKind::Shape, op, why, &[given]));
    }
    Ok(given.astype(gates.dtype()?))
}

/// Elman's network: `h' = f(x Wxhᵀ + h Whhᵀ + bias)`.
///
/// ```
/// use lazul_core::prelude::*;
/// use lazul_nn::layers::Rnn;
/// let rnn = Rnn::init(3, 5, true, Some(&random::key(0)))?;
/// assert_eq!(rnn.forward(&ones([2, 7, 3], DType::F32)).shape()?, &[2, 7, 5]);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[derive(Clone, Debug, crate::Module)]
pub struct Rnn {
    /// From inputs, `(hidden, d)`.
    #[module(rename = "Wxh")]
    pub wxh: Array,
    /// From states, `(hidden, hidden)`.
    #[module(rename = "Whh")]
    pub whh: Array,
    /// Added, `(hidden)`.
    pub bias: Option<Array>,
    /// `f`; the hyperbolic tangent.
    #[module(skip)]
    pub nonlinearity: Activation,
}

impl Rnn {
    /// A layer from `d` to `hidden` features.
    ///
    /// # Errors
    /// If there are no hidden features, or more than an array can have.
    pub fn init(d: usize, hidden: usize, bias: bool, key: Option<&Array>) -> Result<Rnn> {
        let mut draw = Draw::new("Rnn", hidden, key)?;
        Ok(Rnn {
            wxh: draw.draw(&[hidden, d])?,
            whh: draw.draw(&[hidden, hidden])?,
            bias: if bias { Some(draw.draw(&[hidden])?) } else { None },
            nonlinearity: Activation::Tanh,
        })
    }

    /// `x (…, t, d)` → the state after each step, `(…, t, hidden)`.
    #[track_caller]
    pub fn forward(&self, x: &Array) -> Array {
        self.forward_from(x, None)
    }

    /// As [`Rnn::forward`], from a state `(…, hidden)`.
    #[track_caller]
    pub fn forward_from(&self, x: &Array, hidden: Option<&Array>) -> Array {
        attempt(|| {
            let (x, n) = projected("Rnn", x, &self.wxh, self.bias.as_ref(), 1)?;
            let first = start("Rnn", &x, n, hidden)?;
            let step = |h: &Array, x: &Array| {
                let h = self.nonlinearity.forward(&(x + h.matmul(&self.whh.t())));
                (h.clone(), h)
            };
            // Time first: (t, …, hidden).
            let (_, all) = scan(step, &first, &x.moveaxis(-2, 0))?;
            Ok(all.moveaxis(0, -2))
        })
    }
}

/// Gated recurrent unit: with `r, z = sigmoid(…)`, `n = tanh(Wₙ x + bₙ + r (Uₙ h + bhn))`,
/// `h' = (1 - z) n + z h`. Source: Cho et al., 2014.
///
/// ```
/// use lazul_core::prelude::*;
/// use lazul_nn::layers::Gru;
/// let gru = Gru::init(3, 5, true, Some(&random::key(0)))?;
/// assert_eq!(gru.forward(&ones([2, 7, 3], DType::F32)).shape()?, &[2, 7, 5]);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[derive(Clone, Debug, crate::Module)]
pub struct Gru {
    /// From inputs to r, z, n, `(3 hidden, d)`.
    #[module(rename = "Wx")]
    pub wx: Array,
    /// From states to r, z, n, `(3 hidden, hidden)`.
    #[module(rename = "Wh")]
    pub wh: Array,
    /// Added to all three, `(3 hidden)`.
    pub b: Option<Array>,
    /// Added to the state's part of n, `(hidden)`.
    pub bhn: Option<Array>,
}

impl Gru {
    /// A layer from `d` to `hidden` features.
    ///
    /// # Errors
    /// If there are no hidden features, or more than an array can have.
    pub fn init(d: usize, hidden: usize, bias: bool, key: Option<&Array>) -> Result<Gru> {
        let mut draw = Draw::new("Gru", hidden, key)?;
        let gates = hidden.saturating_mul(3);
        Ok(Gru {
            wx: draw.draw(&[gates, d])?,
            wh: draw.draw(&[gates, hidden])?,
            b: if bias { Some(draw.draw(&[gates])?) } else { None },
            bhn: if bias { Some(draw.draw(&[hidden])?) } else { None },
        })
    }

    /// `x (…, t, d)` → the state after each step, `(…, t, hidden)`.
    #[track_caller]
    pub fn forward(&self, x: &Array) -> Array {
        self.forward_from(x, None)
    }

    /// As [`Gru::forward`], from a state `(…, hidden)`.
    #[track_caller]
    pub fn forward_from(&self, x: &Array, hidden: Option<&Array>) -> Array {
        attempt(|| {
            let (x, n) = projected("Gru", x, &self.wx, self.b.as_ref(), 3)?;
            let first = start("Gru", &x, n, hidden)?;
            let n = n as i64;
            let step = |h: &Array, x: &Array| {
                let u = h.matmul(&self.wh.t());
                let rz = (x.slice_axis(-1, 0, 2 * n) + u.slice_axis(-1, 0, 2 * n)).sigmoid();
                let (r, z) = (rz.slice_axis(-1, 0, n), rz.slice_axis(-1, n, None));
                let mut u = u.slice_axis(-1, 2 * n, None);
                if let Some(bhn) = &self.bhn {
                    u += bhn;
                }
                let new = (x.slice_axis(-1, 2 * n, None) + r * u).tanh();
                let h = &new + z * (h - &new);
                (h.clone(), h)
            };
            let (_, all) = scan(step, &first, &x.moveaxis(-2, 0))?;
            Ok(all.moveaxis(0, -2))
        })
    }
}

/// Long short-term memory: with `i, f, o = sigmoid(…)` and `g = tanh(…)`, `c' = f c + i g` and
/// `h' = o tanh(c')`. Source: Hochreiter and Schmidhuber, 1997.
///
/// ```
/// use lazul_core::prelude::*;
/// use lazul_nn::layers::Lstm;
/// let lstm = Lstm::init(3, 5, true, Some(&random::key(0)))?;
/// let (hidden, cell) = lstm.forward(&ones([2, 7, 3], DType::F32), None)?;
/// assert_eq!((hidden.shape()?, cell.shape()?), (&[2, 7, 5][..], &[2, 7, 5][..]));
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[derive(Clone, Debug, crate::Module)]
pub struct Lstm {
    /// From inputs to i, f, g, o, `(4 hidden, d)`.
    #[module(rename = "Wx")]
    pub wx: Array,
    /// From states to i, f, g, o, `(4 hidden, hidden)`.
    #[module(rename = "Wh")]
    pub wh: Array,
    /// Added to all four, `(4 hidden)`.
    pub bias: Option<Array>,
}

impl Lstm {
    /// A layer from `d` to `hidden` features.
    ///
    /// # Errors
    /// If there are no hidden features, or more than an array can have.
    pub fn init(d: usize, hidden: usize, bias: bool, key: Option<&Array>) -> Result<Lstm> {
        let mut draw = Draw::new("Lstm", hidden, key)?;
        let gates = hidden.saturating_mul(4);
        Ok(Lstm {
            wx: draw.draw(&[gates, d])?,
            wh: draw.draw(&[gates, hidden])?,
            bias: if bias { Some(draw.draw(&[gates])?) } else { None },
        })
    }

    /// `x (…, t, d)` → hidden and cell states after each step, both `(…, t, hidden)`; from zeros, or from
    /// a hidden and a cell state `(…, hidden)`.
    ///
    /// # Errors
    /// If shapes or dtypes do not fit.
    #[track_caller]
    pub fn forward(&self, x: &Array, from: Option<(&Array, &Array)>) -> Result<(Array, Array)> {
        let (x, n) = projected("Lstm", x, &self.wx, self.bias.as_ref(), 4)?;
        let first =
            (start("Lstm", &x, n, from.map(|f| f.0))?, start("Lstm", &x, n, from.map(|f| f.1))?);
        let n = n as i64;
        let step = |(h, c): &(Array, Array), x: &Array| {
            let all = x + h.matmul(&self.wh.t());
            let gate = |i: i64| all.slice_axis(-1, i * n, (i + 1) * n);
            let c = gate(1).sigmoid() * c + gate(0).sigmoid() * gate(2).tanh();
            let h = gate(3).sigmoid() * c.tanh();
            ((h.clone(), c.clone()), (h, c))
        };
        let (_, (hidden, cell)) = scan(step, &first, &x.moveaxis(-2, 0))?;
        Ok((hidden.moveaxis(0, -2), cell.moveaxis(0, -2)))
    }
}

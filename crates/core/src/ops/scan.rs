//! Running reductions along an axis, and differences of neighbours.

pub(crate) mod rules;

use super::{attempt, axis_of, error, prim};
use crate::error::ErrorKind;
use crate::node::Array;
use lazul_ir::{DType, Prim, ScanOp, dtype::Kind};

/// How a running reduction runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scan {
    /// From the end toward the start.
    pub reverse: bool,
    /// Whether an element counts in its own position.
    pub inclusive: bool,
}

impl Default for Scan {
    fn default() -> Scan {
        Scan { reverse: false, inclusive: true }
    }
}

#[track_caller]
fn scan(op: ScanOp, x: &Array, axis: i64, how: Scan) -> Array {
    attempt(|| {
        x.check()?;
        let axis = axis_of(op.name(), axis, x)?;
        let dtype = match (op, x.0.dtype) {
            (ScanOp::Sum | ScanOp::Prod, DType::Bool) => DType::I32,
            (ScanOp::LogAddExp, d) => d.to_inexact(),
            (_, d) => d,
        };
        if dtype.kind() == Kind::Complex && !matches!(op, ScanOp::Sum | ScanOp::Prod) {
            return Err(error(ErrorKind::DType, op.name(), "is not defined for complex64", &[x]));
        }
        let Scan { reverse, inclusive } = how;
        let scan = Prim::Scan { op, axis: axis as u8, reverse, inclusive };
        Ok(prim(scan, [x.clone()], x.0.shape.clone(), dtype))
    })
}

macro_rules! scans {
    ($($(#[$doc:meta])* $name:ident $op:ident;)*) => {
        impl Array {$(
            $(#[$doc])*
            #[track_caller]
            pub fn $name(&self, axis: i64, how: Scan) -> Array {
                scan(ScanOp::$op, self, axis, how)
            }
        )*}
    };
}
scans! {
    /// Running sum along an axis. bool gives i32, other dtypes stay (and integers wrap); f16 and
    /// bf16 accumulate in f32.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// let x = Array::from_slice(&[1, 2, 3], [3]);
    /// assert_eq!(x.cumsum(0, Scan::default()).to_vec::<i32>()?, [1, 3, 6]);
    /// let exclusive = Scan { inclusive: false, ..Default::default() };
    /// assert_eq!(x.cumsum(0, exclusive).to_vec::<i32>()?, [0, 1, 3]);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    cumsum Sum;
    /// Running product along an axis. Dtypes as [`Array::cumsum`].
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// let x = Array::from_slice(&[2, 1, 3], [3]);
    /// assert_eq!(x.cumprod(0, Scan::default()).to_vec::<i32>()?, [2, 2, 6]);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    cumprod Prod;
    /// Running minimum along an axis; NaN stays once met.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// let x = Array::from_slice(&[2, 1, 3], [3]);
    /// assert_eq!(x.cummin(0, Scan::default()).to_vec::<i32>()?, [2, 1, 1]);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    cummin Min;
    /// Running maximum along an axis; NaN stays once met.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// let x = Array::from_slice(&[2, 1, 3], [3]);
    /// assert_eq!(x.cummax(0, Scan::default()).to_vec::<i32>()?, [2, 2, 3]);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    cummax Max;
    /// Running `log(sum(exp))` along an axis. Integers give f32.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// let x = zeros([3], DType::F32);
    /// let y = x.logcumsumexp(0, Scan::default()).round(4);
    /// assert_eq!(y.to_vec::<f32>()?, [0.0, 0.6931, 1.0986]);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    logcumsumexp LogAddExp;
}

impl Array {
    /// Differences of neighbours along an axis, taken `n` times: each time the axis is shorter by one.
    /// Unsigned integers wrap; of bool it is whether neighbours differ.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// let x = Array::from_slice(&[1, 2, 4, 8], [4]);
    /// assert_eq!(x.diff(1, -1).to_vec::<i32>()?, [1, 2, 4]);
    /// assert_eq!(x.diff(2, -1).to_vec::<i32>()?, [1, 2]);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    #[track_caller]
    pub fn diff(&self, n: usize, axis: i64) -> Array {
        attempt(|| {
            self.check()?;
            let axis = axis_of("diff", axis, self)?;
            let length = self.0.shape[axis];
            if n >= length {
                return Ok(if n == 0 { self.clone() } else { self.slice_axis(axis as i64, 0, 0) });
            }
            let axis = axis as i64;
            Ok((0..n).fold(self.clone(), |x, _| {
                let (here, before) = (x.slice_axis(axis, 1, None), x.slice_axis(axis, 0, -1));
                match self.0.dtype {
                    DType::Bool => here.not_equal(before),
                    _ => here.subtract(before),
                }
            }))
        })
    }
}

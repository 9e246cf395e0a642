//! Updates of selected elements: `x.at((.., 0)).set(v)`, `x.at(&rows).add(v)`.

use super::select::{Selection, is_mask};
use super::words::{Index, Indices, IntoIndices};
use crate::error::{ErrorKind, Result};
use crate::node::Array;
use crate::operand::IntoOperand;
use crate::ops::elementwise::where_;
use crate::ops::{attempt, error, prim};
use lazul_ir::{DType, Prim, ScatterOp, Shape};

impl Array {
    /// The elements that an index selects, with NumPy's rules: integers take an axis away (and must be
    /// in bounds), ranges cut it, [`crate::NewAxis`] adds one, [`crate::Ellipsis`] stands for the axes
    /// that are left, arrays of integers (lists too) pick positions, and masks select where they are
    /// true. Words that move no element are views; masks are evaluated.
    ///
    /// Arrays broadcast to one shape, which takes their place where they stand side by side, and comes
    /// first where other words stand between them. An integer of an array that is out of bounds is an
    /// error of the evaluation.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// let x = arange(12, DType::I32).reshape([3, 4]);
    /// assert_eq!(x.index((-1, 1..3)).to_vec::<i32>()?, [9, 10]);
    /// assert_eq!(x.index((.., NewAxis, (..).step(-2))).shape()?, &[3, 1, 2]);
    /// assert_eq!(x.index((Ellipsis, 0)).to_vec::<i32>()?, [0, 4, 8]);
    /// assert_eq!(x.index(([2, 0], [1, 1])).to_vec::<i32>()?, [9, 1]);
    /// assert_eq!(x.index(x.greater(9)).to_vec::<i32>()?, [10, 11]);
    /// assert!(x.index(3).check().is_err());
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    #[track_caller]
    pub fn index(&self, index: impl IntoIndices) -> Array {
        let words = index.into_indices();
        attempt(|| {
            self.check()?;
            Ok(Selection::new("index", self, &words)?.read(self))
        })
    }

    /// Where an update goes: an index as [`Array::index`] takes it. See [`At`].
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// let x = zeros(3, DType::F32).at([0, 0, 2]).add(1.0);
    /// assert_eq!(x.to_vec::<f32>()?, [2.0, 0.0, 1.0]);
    /// let y = zeros([2, 3], DType::I32).at((.., (..).step(2))).set(7);
    /// assert_eq!(y.to_vec::<i32>()?, [7, 0, 7, 7, 0, 7]);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    pub fn at(&self, index: impl IntoIndices) -> At {
        At { array: self.clone(), words: index.into_indices() }
    }
}

/// Elements of an array, selected by an index, that an update goes to.
///
/// Values are cast to the array's dtype and broadcast to the shape of what is selected. Where an index
/// array names a place more than once, every value counts; of several that are *set* the last stays. An
/// update gives a new array; where nobody else holds the old one its memory is reused.
///
/// A mask is evaluated only if the values differ from one selected element to the next.
#[must_use]
pub struct At {
    array: Array,
    words: Indices,
}

/// What an update does.
#[derive(Clone, Copy, PartialEq)]
enum Update {
    Set,
    Add,
    Subtract,
    Multiply,
    Divide,
    Max,
    Min,
}

impl At {
    /// The array with the elements replaced.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// let x = arange(4, DType::I32);
    /// assert_eq!(x.at(x.greater(1)).set(0).to_vec::<i32>()?, [0, 1, 0, 0]);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    #[track_caller]
    pub fn set(self, values: impl IntoOperand) -> Array {
        self.update(Update::Set, values)
    }

    /// The array with values added.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// let x = arange(3, DType::I32).at([0, 0]).add(5);
    /// assert_eq!(x.to_vec::<i32>()?, [10, 1, 2]);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    #[track_caller]
    #[allow(clippy::should_implement_trait)] // It is MLX's name, and `At` is no number.
    pub fn add(self, values: impl IntoOperand) -> Array {
        self.update(Update::Add, values)
    }

    /// The array with values subtracted. Not for bool.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// let x = full(3, 9).at([1, 1]).subtract(Array::from_slice(&[1, 2], [2]));
    /// assert_eq!(x.to_vec::<i32>()?, [9, 6, 9]);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    #[track_caller]
    pub fn subtract(self, values: impl IntoOperand) -> Array {
        self.update(Update::Subtract, values)
    }

    /// The array with elements multiplied by values.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// let x = full(3, 2).at(1..).multiply(5);
    /// assert_eq!(x.to_vec::<i32>()?, [2, 10, 10]);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    #[track_caller]
    pub fn multiply(self, values: impl IntoOperand) -> Array {
        self.update(Update::Multiply, values)
    }

    /// The array with elements divided by values. Not for integers and bool.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// let x = ones(3, DType::F32).at([0, 0]).divide(2.0);
    /// assert_eq!(x.to_vec::<f32>()?, [0.25, 1.0, 1.0]);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    #[track_caller]
    pub fn divide(self, values: impl IntoOperand) -> Array {
        self.update(Update::Divide, values)
    }

    /// The array with the larger of old and new values; NaN if either is. Not for complex64.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// let x = arange(3, DType::I32).at(..2).maximum(1);
    /// assert_eq!(x.to_vec::<i32>()?, [1, 1, 2]);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    #[track_caller]
    pub fn maximum(self, values: impl IntoOperand) -> Array {
        self.update(Update::Max, values)
    }

    /// The array with the smaller of old and new values; NaN if either is. Not for complex64.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// let x = arange(3, DType::I32).at(1..).minimum(1);
    /// assert_eq!(x.to_vec::<i32>()?, [0, 1, 1]);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    #[track_caller]
    pub fn minimum(self, values: impl IntoOperand) -> Array {
        self.update(Update::Min, values)
    }

    #[track_caller]
    fn update(self, how: Update, values: impl IntoOperand) -> Array {
        let x = &self.array;
        let values = values.into_operand().into_array_beside("at", x.0.dtype);
        attempt(|| {
            x.check()?;
            values.check()?;
            let dtype = x.0.dtype;
            match how {
                Update::Divide if !dtype.is_inexact() => {
                    let why = "integers and bool cannot hold quotients";
                    return Err(error(ErrorKind::DType, "at", why, &[x]));
                }
                Update::Subtract if dtype == DType::Bool => {
                    let why = "bool has no differences";
                    return Err(error(ErrorKind::DType, "at", why, &[x]));
                }
                Update::Max | Update::Min if dtype == DType::C64 => {
                    return Err(error(ErrorKind::DType, "at", "complex has no order", &[x]));
                }
                _ => {}
            }
            let values = values.astype(dtype);
            if let Some(masked) = self.masked(how, &values)? {
                return Ok(masked);
            }
            let s = Selection::new("at", x, &self.words)?;
            let values = fitting(x, values, s.result())?;
            if !s.has_arrays() {
                let new = how.combine(|| s.view(x), s.scattered(&values));
                return Ok(s.put_view(x, &new));
            }
            let (axes, arrays) = s.arrays();
            let arrays: Vec<Array> = arrays.collect();
            let scatter = |into: Array, op: ScatterOp, values: Array| {
                let shape = into.0.shape.clone();
                let inputs = [into].into_iter().chain(arrays.iter().cloned()).chain([values]);
                prim(Prim::Scatter { op, axes: axes.clone() }, inputs, shape, dtype)
            };
            let (view, values) = (s.view(x), s.scattered(&values));
            let new = match how {
                Update::Set => scatter(view, ScatterOp::Assign, values),
                Update::Add => scatter(view, ScatterOp::Add, values),
                Update::Subtract => scatter(view, ScatterOp::Add, values.negative()),
                Update::Multiply => scatter(view, ScatterOp::Multiply, values),
                // Multiplying by reciprocals would round twice.
                Update::Divide => {
                    let divisor = scatter(view.ones_like(), ScatterOp::Multiply, values);
                    view.divide(divisor)
                }
                Update::Max => scatter(view, ScatterOp::Max, values),
                Update::Min => scatter(view, ScatterOp::Min, values),
            };
            Ok(s.put_view(x, &new))
        })
    }

    /// The update by a single mask, if the values are the same at every true element: then the mask
    /// need not be known.
    #[track_caller]
    fn masked(&self, how: Update, values: &Array) -> Result<Option<Array>> {
        let x = &self.array;
        let [Index::Array(mask)] = &self.words[..] else { return Ok(None) };
        mask.check()?;
        let k = mask.0.shape.len();
        let whole = is_mask(mask) && k <= x.0.shape.len() && mask.0.shape[..] == x.0.shape[..k];
        if !whole {
            return Ok(None);
        }
        let rest = x.0.shape.len() - k;
        let lead = values.0.shape.len().saturating_sub(rest);
        if values.0.shape[..lead].iter().any(|&d| d != 1) {
            return Ok(None);
        }
        let own: Shape = values.0.shape[lead..].into();
        let values = values.reshape(&own);
        let inner: Shape = x.0.shape[k..].into();
        if Shape::broadcast(&values.0.shape, &inner).as_ref() != Some(&inner) {
            return Ok(None);
        }
        let ones = std::iter::repeat_n(1, rest);
        let mask = mask.reshape(&mask.0.shape.iter().copied().chain(ones).collect::<Shape>());
        let new = how.combine(|| x.clone(), values);
        Ok(Some(where_(mask, new, x)))
    }
}

impl Update {
    /// Old elements and as many values, each element once.
    #[track_caller]
    fn combine(self, old: impl Fn() -> Array, values: Array) -> Array {
        match self {
            Update::Set => values,
            Update::Add => old().add(values),
            Update::Subtract => old().subtract(values),
            Update::Multiply => old().multiply(values),
            Update::Divide => old().divide(values),
            Update::Max => old().maximum(values),
            Update::Min => old().minimum(values),
        }
    }
}

/// `values` broadcast to `shape`; axes of length one before it are dropped.
#[track_caller]
fn fitting(x: &Array, values: Array, shape: &Shape) -> Result<Array> {
    let mut own = values.0.shape.clone();
    while own.len() > shape.len() && own[0] == 1 {
        own.remove(0);
    }
    if Shape::broadcast(&own, shape).as_ref() != Some(shape) {
        let why = format!("the values do not broadcast to {shape}, the shape of what is selected");
        return Err(error(ErrorKind::Shape, "at", why, &[x, &values]));
    }
    Ok(values.reshape(&own).broadcast_to(shape))
}

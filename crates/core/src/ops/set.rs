//! The different elements of an array.

use super::{attempt, error};
use crate::error::{ErrorKind, Result};
use crate::node::Array;
use crate::ops::creation::{arange, zeros};
use crate::ops::elementwise::where_;
use crate::ops::join::concatenate;
use crate::ops::scan::Scan;
use crate::ops::search::Side;
use crate::scope::call_site;
use lazul_ir::DType;

/// The different elements of a flattened array. What is not read is not computed.
#[derive(Clone, Debug)]
pub struct Unique {
    /// The elements in ascending order, NaN last: `(n)` in the array's dtype.
    pub values: Array,
    /// Where each stands first in the flattened array, as u32 `(n)`.
    pub index: Array,
    /// For each element of the array its place in `values`, as u32 of the array's shape.
    pub inverse: Array,
    /// How often each occurs, as i32 `(n)`.
    pub counts: Array,
}

/// The sorted array with what marks its runs.
struct Runs {
    /// Elements in order, and where they came from.
    sorted: Array,
    order: Array,
    /// The number of the run of each.
    run: Array,
}

impl Runs {
    /// `x` is not empty. `one_nan`: whether all NaNs are one run.
    #[track_caller]
    fn of(x: &Array, one_nan: bool) -> Runs {
        let flat = x.reshape([-1]);
        let order = flat.argsort(0);
        let sorted = flat.take(&order, 0);
        let (here, before) = (sorted.slice_axis(0, 1, None), sorted.slice_axis(0, 0, -1));
        let mut new = here.not_equal(&before);
        if one_nan {
            new = new.logical_and(here.isnan().logical_and(before.isnan()).logical_not());
        }
        let starts = concatenate(&[zeros(1, DType::Bool), new], 0);
        let run = starts.astype(DType::U32).cumsum(0, Scan::default());
        Runs { sorted, order, run }
    }

    /// The first `size` runs; where there are fewer, the first one stands in their place.
    #[track_caller]
    fn describe(self, x: &Array, size: usize) -> Unique {
        let (n, run) = (self.order.0.shape.size(), &self.run);
        let which = arange(size, DType::U32);
        let (start, end) =
            (run.searchsorted(&which, Side::Left), run.searchsorted(&which, Side::Right));
        let first = where_(start.less(n as u32), &start, 0);
        let place = run.minimum(size.saturating_sub(1) as u32);
        let inverse = zeros([n], DType::U32).at(&self.order).set(place);
        Unique {
            values: self.sorted.take(&first, 0),
            index: self.order.take(&first, 0),
            inverse: inverse.reshape(&x.0.shape),
            counts: (end - start).astype(DType::I32),
        }
    }
}

impl Array {
    /// The different elements of the flattened array, as NumPy has them: all NaNs are one. Evaluates
    /// the array, since its elements tell how many there are.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// let x = Array::from_slice(&[3, 1, 3], [3]);
    /// let u = x.unique()?;
    /// assert_eq!(u.values.to_vec::<i32>()?, [1, 3]);
    /// assert_eq!(u.counts.to_vec::<i32>()?, [1, 2]);
    /// assert_eq!(u.values.take(&u.inverse, 0).to_vec::<i32>()?, [3, 1, 3]);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`crate::eval()`], and for an array of 2^32 elements or more.
    #[track_caller]
    pub fn unique(&self) -> Result<Unique> {
        check_size(self).map_err(|e| e.at(call_site()))?;
        if self.0.shape.size() == 0 {
            return Ok(nothing(self));
        }
        let runs = Runs::of(self, true);
        let count = runs.run.at_index(0, -1) + 1;
        // The order of the elements is computed with it, once.
        crate::eval([&runs.sorted, &runs.order, &runs.run, &count])?;
        let count = count.item::<u32>()? as usize;
        Ok(runs.describe(self, count))
    }

    /// The `size` smallest different elements of the flattened array, as MLX has them: each NaN is one of
    /// its own. Nothing is evaluated.
    ///
    /// Where there are fewer, `values` goes on with `fill` (the smallest element for `None`), `index` with
    /// the place of the smallest element, and `counts` with 0. Where there are more, `inverse` is cut to the
    /// last place.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// let x = Array::from_slice(&[3, 1, 3], [3]);
    /// let u = x.unique_sized(4, Some(&Array::scalar(-1)));
    /// assert_eq!(u.values.to_vec::<i32>()?, [1, 3, -1, -1]);
    /// assert_eq!(u.counts.to_vec::<i32>()?, [1, 2, 0, 0]);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    ///
    /// # Errors (as failed arrays)
    /// For an empty array without `fill`, unless `size` is 0, and for 2^32 elements or more.
    #[track_caller]
    pub fn unique_sized(&self, size: usize, fill: Option<&Array>) -> Unique {
        let wrong = |e| {
            let failed = attempt(|| Err(e));
            Unique {
                values: failed.clone(),
                index: failed.clone(),
                inverse: failed.clone(),
                counts: failed,
            }
        };
        if let Err(e) = check_size(self).and_then(|()| fill.map_or(Ok(()), |f| f.check())) {
            return wrong(e);
        }
        let cast = |fill: &Array| fill.astype(self.0.dtype).broadcast_to([size]);
        if self.0.shape.size() == 0 {
            let mut out = nothing(self);
            match fill {
                Some(fill) => out.values = cast(fill),
                None if size > 0 => {
                    let why = "an empty array needs a value to fill with";
                    return wrong(error(ErrorKind::Value, "unique", why, &[self]));
                }
                None => {}
            }
            out.index = zeros([size], DType::U32);
            out.counts = zeros([size], DType::I32);
            return out;
        }
        let mut out = Runs::of(self, false).describe(self, size);
        if let Some(fill) = fill {
            out.values = where_(out.counts.greater(0), &out.values, cast(fill));
        }
        out
    }
}

fn check_size(x: &Array) -> Result<()> {
    x.check()?;
    if x.0.shape.size() > u32::MAX as usize {
        let why = "there are more elements than u32 counts";
        return Err(error(ErrorKind::Shape, "unique", why, &[x]));
    }
    Ok(())
}

/// The different elements of an empty array.
#[track_caller]
fn nothing(x: &Array) -> Unique {
    Unique {
        values: zeros(0, x.0.dtype),
        index: zeros(0, DType::U32),
        inverse: zeros(&x.0.shape, DType::U32),
        counts: zeros(0, DType::I32),
    }
}

impl Array {
    /// Whether each element is among `others`, as bool. NaN is among none.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// let x = arange(4, DType::I32);
    /// let odd = Array::from_slice(&[1, 3], [2]);
    /// assert_eq!(x.isin(&odd).to_vec::<bool>()?, [false, true, false, true]);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    #[track_caller]
    pub fn isin(&self, others: &Array) -> Array {
        attempt(|| {
            self.check()?;
            others.check()?;
            if others.0.shape.size() == 0 {
                return Ok(zeros(&self.0.shape, DType::Bool));
            }
            let dtype = DType::promote(self.0.dtype, others.0.dtype);
            let sorted = others.reshape([-1]).astype(dtype).sort(0);
            let x = self.astype(dtype);
            let last = sorted.0.shape.size() as u32 - 1;
            let found = sorted.searchsorted(&x, Side::Left).minimum(last);
            Ok(sorted.take(&found, 0).equal(x))
        })
    }
}

#[cfg(test)]
mod tests {
    use crate::prelude::*;

    #[test]
    fn nothing_has_no_elements() {
        let u = zeros([0, 2], DType::F32).unique().unwrap();
        assert_eq!(u.values.shape().unwrap(), &[0]);
        assert_eq!(u.inverse.shape().unwrap(), &[0, 2]);
        let x = zeros(0, DType::I32);
        assert!(x.unique_sized(1, None).values.check().is_err());
        assert_eq!(x.unique_sized(0, None).values.shape().unwrap(), &[0]);
        let filled = x.unique_sized(2, Some(&Array::scalar(5)));
        assert_eq!(filled.values.to_vec::<i32>().unwrap(), [5, 5]);
        assert_eq!(filled.counts.to_vec::<i32>().unwrap(), [0, 0]);
        let failed = zeros(3, DType::F32).reshape(5);
        assert!(failed.unique().is_err() && failed.unique_sized(1, None).index.check().is_err());
    }

    #[test]
    fn nans_are_one_or_many() {
        let x = Array::from_slice(&[f32::NAN, 1.0, f32::NAN, -0.0, 0.0], [5]);
        let u = x.unique().unwrap();
        assert_eq!(u.counts.to_vec::<i32>().unwrap(), [2, 1, 2]);
        assert_eq!(u.inverse.to_vec::<u32>().unwrap(), [2, 1, 2, 0, 0]);
        let u = x.unique_sized(4, None);
        assert_eq!(u.counts.to_vec::<i32>().unwrap(), [2, 1, 1, 1]);
        assert_eq!(u.index.to_vec::<u32>().unwrap(), [3, 1, 0, 2]);
        // Cut off.
        let u = x.unique_sized(1, None);
        assert_eq!(u.inverse.to_vec::<u32>().unwrap(), [0; 5]);
        assert_eq!(x.unique_sized(0, None).counts.shape().unwrap(), &[0]);
    }

    #[test]
    fn membership() {
        let x = Array::from_slice(&[f32::NAN, 1.0, -0.0], [3]);
        let among = Array::from_slice(&[0.0, f32::NAN, f32::INFINITY], [3]);
        assert_eq!(x.isin(&among).to_vec::<bool>().unwrap(), [false, false, true]);
        assert_eq!(x.isin(&zeros(0, DType::F32)).to_vec::<bool>().unwrap(), [false; 3]);
    }
}

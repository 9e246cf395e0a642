//! Shapes and axes as a caller naturally writes them.

use lazul_ir::Shape;
use smallvec::SmallVec;

/// A few integers.
pub type Ints = SmallVec<[i64; 6]>;

/// Whatever names a shape, or several axes: one integer, an array, a slice, a vector, a range, or `()`
/// for none.
///
/// ```
/// use lazul_core::prelude::*;
/// let a = zeros([2, 3], DType::F32);
/// let b = zeros(6, DType::F32).reshape(vec![2usize, 3]);
/// assert_eq!(a.shape()?, b.shape()?);
/// # Ok::<(), lazul_core::Error>(())
/// ```
pub trait IntoInts {
    /// The integers.
    fn into_ints(self) -> Ints;
}

/// Which axes a reduction runs over: integers (negative from the end), or `..` for all.
pub trait IntoAxes {
    /// The axes, or `None` for all.
    fn into_axes(self) -> Option<Ints>;
}

impl IntoAxes for std::ops::RangeFull {
    fn into_axes(self) -> Option<Ints> {
        None
    }
}

impl<T: IntoInts> IntoAxes for T {
    fn into_axes(self) -> Option<Ints> {
        Some(self.into_ints())
    }
}

macro_rules! into_ints {
    ($($t:ty)*) => {$(
        impl IntoInts for $t {
            fn into_ints(self) -> Ints { Ints::from_iter([to_i64(self as i128)]) }
        }
        impl<const N: usize> IntoInts for [$t; N] {
            fn into_ints(self) -> Ints { self.iter().map(|&d| to_i64(d as i128)).collect() }
        }
        impl<const N: usize> IntoInts for &[$t; N] {
            fn into_ints(self) -> Ints { self.iter().map(|&d| to_i64(d as i128)).collect() }
        }
        impl IntoInts for &[$t] {
            fn into_ints(self) -> Ints { self.iter().map(|&d| to_i64(d as i128)).collect() }
        }
        impl IntoInts for Vec<$t> {
            fn into_ints(self) -> Ints { self.as_slice().into_ints() }
        }
        impl IntoInts for &Vec<$t> {
            fn into_ints(self) -> Ints { self.as_slice().into_ints() }
        }
        impl IntoInts for std::ops::Range<$t> {
            fn into_ints(self) -> Ints { self.map(|d| to_i64(d as i128)).collect() }
        }
    )*};
}
into_ints!(i32 i64 isize usize u32);

/// Out-of-range values become extremes, which no shape or axis accepts.
fn to_i64(value: i128) -> i64 {
    value.clamp(i64::MIN as i128, i64::MAX as i128) as i64
}

impl IntoInts for () {
    fn into_ints(self) -> Ints {
        Ints::new()
    }
}

impl IntoInts for &Shape {
    fn into_ints(self) -> Ints {
        self.iter().map(|&d| d as i64).collect()
    }
}

impl IntoInts for Ints {
    fn into_ints(self) -> Ints {
        self
    }
}

//! The words of an index, as they are written in Rust: `x.index((0, 1.., NewAxis, Ellipsis, &rows))`.
//!
//! | NumPy | here |
//! |---|---|
//! | `x[0]` | `x.index(0)` |
//! | `x[1:-1, ::2]` | `x.index((1..-1, (..).step(2)))` |
//! | `x[::-1]` | `x.index((..).step(-1))` |
//! | `x[..., 0]` | `x.index((Ellipsis, 0))` |
//! | `x[:, None]` | `x.index((.., NewAxis))` |
//! | `x[[2, 0]]` | `x.index([2, 0])` |
//! | `x[rows, :, cols]` | `x.index((&rows, .., &cols))` |
//! | `x[x > 0]` | `x.index(x.greater(0))` |

use crate::node::Array;
use smallvec::SmallVec;
use std::ops::{Range, RangeFrom, RangeFull, RangeInclusive, RangeTo, RangeToInclusive};

/// A new axis of length one, as one word of an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewAxis;

/// As many whole axes as the other words of an index leave, as one word of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ellipsis;

/// `start, start + step, …` up to but without `stop`, with Python's meaning: negative bounds count
/// from the end, bounds beyond the axis are cut to it, and `None` is the natural end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slice {
    /// The first index.
    pub start: Option<i64>,
    /// The first index that does not belong to it.
    pub stop: Option<i64>,
    /// Distance between indices; not zero.
    pub step: i64,
}

/// One word of an index.
#[derive(Clone, Debug)]
pub enum Index {
    /// One position of an axis, which goes away; negative from the end.
    At(i64),
    /// Positions of an axis at equal distances.
    Slice(Slice),
    /// A new axis of length one.
    NewAxis,
    /// As many whole axes as the other words leave.
    Ellipsis,
    /// Positions of an axis, if the array is of integers; if it is of bool, a mask over as many axes as
    /// it has.
    Array(Array),
}

/// The words of an index, one after the other.
pub type Indices = SmallVec<[Index; 4]>;

/// What can be a word of an index: an integer, a range of integers (with [`Step::step`] for steps
/// other than 1), [`NewAxis`], [`Ellipsis`], an array of integers, a mask, or a list of either.
pub trait IntoIndex {
    /// The word.
    fn into_index(self) -> Index;
}

/// What can be an index: one word, a tuple of them, `()` for none, or a list of [`Index`] or of arrays.
pub trait IntoIndices {
    /// The words.
    fn into_indices(self) -> Indices;
}

/// Ranges with steps: `(1..-1).step(2)`, `(..).step(-1)`.
pub trait Step: Into<Slice> {
    /// Every `step`-th element of the range; backwards for a negative step, and then from the end to
    /// the start where the range leaves them open.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// let x = arange(6, DType::I32);
    /// assert_eq!(x.index((1..).step(2)).to_vec::<i32>()?, [1, 3, 5]);
    /// assert_eq!(x.index((..).step(-2)).to_vec::<i32>()?, [5, 3, 1]);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    fn step(self, step: i64) -> Slice {
        Slice { step, ..self.into() }
    }
}

impl<T: Into<Slice>> Step for T {}

impl Slice {
    /// A whole axis.
    pub const ALL: Slice = Slice { start: None, stop: None, step: 1 };
}

impl From<RangeFull> for Slice {
    fn from(_: RangeFull) -> Slice {
        Slice::ALL
    }
}

impl IntoIndex for RangeFull {
    fn into_index(self) -> Index {
        Index::Slice(Slice::ALL)
    }
}

impl IntoIndex for Slice {
    fn into_index(self) -> Index {
        Index::Slice(self)
    }
}

impl IntoIndex for NewAxis {
    fn into_index(self) -> Index {
        Index::NewAxis
    }
}

impl IntoIndex for Ellipsis {
    fn into_index(self) -> Index {
        Index::Ellipsis
    }
}

impl IntoIndex for Index {
    fn into_index(self) -> Index {
        self
    }
}

impl IntoIndex for Array {
    fn into_index(self) -> Index {
        Index::Array(self)
    }
}

impl IntoIndex for &Array {
    fn into_index(self) -> Index {
        Index::Array(self.clone())
    }
}

/// The end of a slice that `last` belongs to.
fn after(last: i64) -> Option<i64> {
    // One past the last element, counted from the end, is no number.
    if last == -1 { None } else { Some(last.saturating_add(1)) }
}

/// Values beyond an i64 become extremes, which are out of bounds as they were.
fn wide(value: i128) -> i64 {
    value.clamp(i64::MIN as i128, i64::MAX as i128) as i64
}

macro_rules! integers {
    ($($t:ty)*) => {$(
        impl IntoIndex for $t {
            fn into_index(self) -> Index { Index::At(wide(self as i128)) }
        }
        integers! { @range $t;
            Range<$t>, |r| (Some(wide(r.start as i128)), Some(wide(r.end as i128)));
            RangeFrom<$t>, |r| (Some(wide(r.start as i128)), None);
            RangeTo<$t>, |r| (None, Some(wide(r.end as i128)));
            RangeInclusive<$t>, |r| (Some(wide(*r.start() as i128)), after(wide(*r.end() as i128)));
            RangeToInclusive<$t>, |r| (None, after(wide(r.end as i128)));
        }
        impl<const N: usize> IntoIndex for [$t; N] {
            fn into_index(self) -> Index { self.as_slice().into_index() }
        }
        impl<const N: usize> IntoIndex for &[$t; N] {
            fn into_index(self) -> Index { self.as_slice().into_index() }
        }
        impl IntoIndex for Vec<$t> {
            fn into_index(self) -> Index { self.as_slice().into_index() }
        }
        impl IntoIndex for &Vec<$t> {
            fn into_index(self) -> Index { self.as_slice().into_index() }
        }
        impl IntoIndex for &[$t] {
            fn into_index(self) -> Index {
                let all: Vec<i64> = self.iter().map(|&i| wide(i as i128)).collect();
                Index::Array(Array::from_slice(&all, [all.len()]))
            }
        }
    )*};
    (@range $t:ty; $($range:ty, |$r:ident| $bounds:expr;)*) => {$(
        impl From<$range> for Slice {
            fn from($r: $range) -> Slice {
                let (start, stop) = $bounds;
                Slice { start, stop, step: 1 }
            }
        }
        impl IntoIndex for $range {
            fn into_index(self) -> Index { Index::Slice(self.into()) }
        }
    )*};
}
integers!(i32 i64 isize usize u32);

impl IntoIndex for &[bool] {
    fn into_index(self) -> Index {
        Index::Array(Array::from_slice(self, [self.len()]))
    }
}

impl IntoIndex for Vec<bool> {
    fn into_index(self) -> Index {
        self.as_slice().into_index()
    }
}

impl<const N: usize> IntoIndex for [bool; N] {
    fn into_index(self) -> Index {
        self.as_slice().into_index()
    }
}

impl<T: IntoIndex> IntoIndices for T {
    fn into_indices(self) -> Indices {
        Indices::from_iter([self.into_index()])
    }
}

impl IntoIndices for () {
    fn into_indices(self) -> Indices {
        Indices::new()
    }
}

impl IntoIndices for Indices {
    fn into_indices(self) -> Indices {
        self
    }
}

impl IntoIndices for Vec<Index> {
    fn into_indices(self) -> Indices {
        Indices::from_vec(self)
    }
}

impl IntoIndices for &[Index] {
    fn into_indices(self) -> Indices {
        self.iter().cloned().collect()
    }
}

impl IntoIndices for &[Array] {
    fn into_indices(self) -> Indices {
        self.iter().cloned().map(Index::Array).collect()
    }
}

impl<const N: usize> IntoIndices for &[Array; N] {
    fn into_indices(self) -> Indices {
        self.as_slice().into_indices()
    }
}

impl IntoIndices for &Vec<Array> {
    fn into_indices(self) -> Indices {
        self.as_slice().into_indices()
    }
}

macro_rules! tuples {
    ($(($($t:ident)*))*) => {$(
        impl<$($t: IntoIndex),*> IntoIndices for ($($t,)*) {
            #[allow(non_snake_case)]
            fn into_indices(self) -> Indices {
                let ($($t,)*) = self;
                Indices::from_iter([$($t.into_index()),*])
            }
        }
    )*};
}
tuples! {
    (A) (A B) (A B C) (A B C D) (A B C D E) (A B C D E F) (A B C D E F G) (A B C D E F G H)
}

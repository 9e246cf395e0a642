//! Dimensions of an array, and the checked arithmetic that belongs to them.

use smallvec::SmallVec;
use std::ops::{Deref, DerefMut};

/// The dimensions of an array, outermost first; up to four are stored inline.
#[derive(PartialEq, Eq, Hash, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Shape(SmallVec<[usize; 4]>);

/// Distances between neighbours along each axis, in elements; negative and zero are allowed.
pub type Strides = SmallVec<[isize; 4]>;

/// A copy of a few words; the derived one would go element by element.
impl Clone for Shape {
    #[inline]
    fn clone(&self) -> Shape {
        Shape::new(&self.0)
    }
}

impl Shape {
    /// The shape of a scalar: no dimensions, one element.
    pub fn scalar() -> Shape {
        Shape::default()
    }

    /// Whether an array can have this shape: at most 32 axes, and elements whose bytes can be counted in
    /// every dtype.
    pub fn is_countable(&self) -> bool {
        const MOST: usize = isize::MAX as usize / 8;
        self.len() <= 32 && self.checked_size().is_some_and(|n| n <= MOST)
    }

    /// A shape from its dimensions.
    #[inline]
    pub fn new(dims: &[usize]) -> Shape {
        Shape(SmallVec::from_slice(dims))
    }

    /// The number of elements. Shapes of arrays that exist never overflow; see
    /// [`Shape::checked_size`] for those from outside.
    #[inline]
    pub fn size(&self) -> usize {
        self.0.iter().product()
    }

    /// The number of elements, or `None` where it (or the product of the non-zero dimensions, from
    /// which strides come) does not fit `isize`.
    pub fn checked_size(&self) -> Option<usize> {
        let mut product = 1usize;
        for &d in self.0.iter() {
            product = product.checked_mul(d.max(1))?;
        }
        if product > isize::MAX as usize {
            return None;
        }
        Some(if self.0.contains(&0) { 0 } else { product })
    }

    /// Row-major strides.
    pub fn strides(&self) -> Strides {
        let mut strides = Strides::from_elem(0, self.0.len());
        let mut step = 1isize;
        for (s, &d) in strides.iter_mut().zip(self.0.iter()).rev() {
            *s = step;
            step = step.wrapping_mul(d.max(1) as isize);
        }
        strides
    }

    /// Appends a dimension.
    pub fn push(&mut self, dim: usize) {
        self.0.push(dim);
    }

    /// Removes the dimension at `axis`.
    pub fn remove(&mut self, axis: usize) -> usize {
        self.0.remove(axis)
    }

    /// Inserts a dimension at `axis`.
    pub fn insert(&mut self, axis: usize, dim: usize) {
        self.0.insert(axis, dim);
    }

    /// The shape that `a` and `b` broadcast to by NumPy's rule, or `None`.
    ///
    /// ```
    /// use lazul_ir::Shape;
    /// let s = Shape::broadcast(&Shape::new(&[3, 1]), &Shape::new(&[2, 1, 4]));
    /// assert_eq!(s, Some(Shape::new(&[2, 3, 4])));
    /// ```
    pub fn broadcast(a: &[usize], b: &[usize]) -> Option<Shape> {
        let rank = a.len().max(b.len());
        let mut out = SmallVec::from_elem(1, rank);
        for i in 0..rank {
            let da = if i < a.len() { a[a.len() - 1 - i] } else { 1 };
            let db = if i < b.len() { b[b.len() - 1 - i] } else { 1 };
            out[rank - 1 - i] = match (da, db) {
                (x, y) if x == y => x,
                (1, y) => y,
                (x, 1) => x,
                _ => return None,
            };
        }
        Some(Shape(out))
    }
}

impl Deref for Shape {
    type Target = [usize];
    #[inline]
    fn deref(&self) -> &[usize] {
        &self.0
    }
}

impl DerefMut for Shape {
    fn deref_mut(&mut self) -> &mut [usize] {
        &mut self.0
    }
}

impl FromIterator<usize> for Shape {
    fn from_iter<I: IntoIterator<Item = usize>>(iter: I) -> Shape {
        Shape(iter.into_iter().collect())
    }
}

impl From<&[usize]> for Shape {
    fn from(dims: &[usize]) -> Shape {
        Shape::new(dims)
    }
}

impl<const N: usize> From<[usize; N]> for Shape {
    fn from(dims: [usize; N]) -> Shape {
        Shape::new(&dims)
    }
}

/// `(2,3)`, `(4,)`, `()`: as NumPy writes it.
impl std::fmt::Display for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(")?;
        for (i, d) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str(",")?;
            }
            write!(f, "{d}")?;
        }
        f.write_str(if self.0.len() == 1 { ",)" } else { ")" })
    }
}

impl std::fmt::Debug for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

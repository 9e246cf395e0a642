//! Where the elements of an array lie in its buffer: shape, strides and offset.
//!
//! Every view (transpose, slice, broadcast, most reshapes) is a pure function on layouts; no element
//! moves.

use crate::{Shape, Strides};
use smallvec::SmallVec;

/// Shape, strides and offset, all in elements.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Layout {
    /// Dimensions.
    pub shape: Shape,
    /// Distance between neighbours along each axis.
    pub strides: Strides,
    /// Position of the element at index `(0, …, 0)`.
    pub offset: usize,
}

impl Layout {
    /// Row-major, from the start of the buffer.
    pub fn contiguous(shape: Shape) -> Layout {
        let strides = shape.strides();
        Layout { shape, strides, offset: 0 }
    }

    /// Number of elements.
    #[inline]
    pub fn size(&self) -> usize {
        self.shape.size()
    }

    /// Whether the elements lie in row-major order without gaps (axes of length one do not count;
    /// an empty array is contiguous).
    pub fn is_contiguous(&self) -> bool {
        is_row_major(&self.shape, &self.strides)
    }

    /// Axes in the order `perm`: axis `i` of the result is axis `perm[i]` of this one.
    pub fn transpose(&self, perm: &[u8]) -> Layout {
        Layout {
            shape: perm.iter().map(|&p| self.shape[p as usize]).collect(),
            strides: perm.iter().map(|&p| self.strides[p as usize]).collect(),
            offset: self.offset,
        }
    }

    /// Broadcast to `shape`, which must be compatible.
    pub fn broadcast(&self, shape: &Shape) -> Layout {
        let lead = shape.len() - self.shape.len();
        let mut strides = Strides::from_elem(0, shape.len());
        for (i, (&d, &s)) in self.shape.iter().zip(self.strides.iter()).enumerate() {
            strides[lead + i] = if d == 1 && shape[lead + i] != 1 { 0 } else { s };
        }
        Layout { shape: shape.clone(), strides, offset: self.offset }
    }

    /// The elements `starts[i] + k * steps[i]` for `k < shape[i]` along each axis.
    pub fn slice(&self, starts: &[i64], steps: &[i64], shape: &Shape) -> Layout {
        if shape.size() == 0 {
            let strides = shape.strides();
            return Layout { shape: shape.clone(), strides, offset: self.offset };
        }
        let mut offset = self.offset as isize;
        let mut strides = Strides::with_capacity(shape.len());
        for i in 0..shape.len() {
            offset += starts[i] as isize * self.strides[i];
            strides.push(self.strides[i] * steps[i] as isize);
        }
        Layout { shape: shape.clone(), strides, offset: offset as usize }
    }

    /// The elements at `offset + index · strides` of these ones in row-major order, if they lie so.
    pub fn strided(&self, strides: &[i64], offset: usize, shape: &Shape) -> Option<Layout> {
        if shape.size() == 0 {
            let strides = shape.strides();
            return Some(Layout { shape: shape.clone(), strides, offset: self.offset });
        }
        self.is_contiguous().then(|| Layout {
            shape: shape.clone(),
            strides: strides.iter().map(|&s| s as isize).collect(),
            offset: self.offset + offset,
        })
    }

    /// The same elements in row-major order under another shape, if that needs no copy.
    pub fn reshape(&self, shape: &Shape) -> Option<Layout> {
        if shape.size() == 0 || self.is_contiguous() {
            return Some(Layout {
                shape: shape.clone(),
                strides: shape.strides(),
                offset: self.offset,
            });
        }
        // Merge old axes into runs that are contiguous among themselves, then split each run.
        let old: SmallVec<[(usize, isize); 6]> = self
            .shape
            .iter()
            .zip(self.strides.iter())
            .filter(|(d, _)| **d != 1)
            .map(|(d, s)| (*d, *s))
            .collect();
        let mut strides = Strides::from_elem(0, shape.len());
        let (mut oi, mut ni) = (0, 0);
        while oi < old.len() && ni < shape.len() {
            let (mut op, mut np) = (old[oi].0, shape[ni]);
            let (mut oj, mut nj) = (oi + 1, ni + 1);
            while op != np {
                if np < op {
                    np *= *shape.get(nj)?;
                    nj += 1;
                } else {
                    op *= old.get(oj)?.0;
                    oj += 1;
                }
            }
            for k in oi..oj - 1 {
                if old[k].1 != old[k + 1].0 as isize * old[k + 1].1 {
                    return None;
                }
            }
            let mut step = old[oj - 1].1;
            for k in (ni..nj).rev() {
                strides[k] = step;
                step *= shape[k] as isize;
            }
            oi = oj;
            ni = nj;
        }
        // What remains of the new shape are ones; their stride never matters.
        Some(Layout { shape: shape.clone(), strides, offset: self.offset })
    }
}

/// Whether `strides` are row-major for `shape` (axes of length one do not count).
#[inline]
pub fn is_row_major(shape: &[usize], strides: &[isize]) -> bool {
    let mut expect = 1isize;
    for (&d, &s) in shape.iter().zip(strides.iter()).rev() {
        if d != 1 {
            if s != expect {
                return shape.contains(&0);
            }
            expect = expect.wrapping_mul(d as isize);
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(shape: &[usize], strides: &[isize]) -> Layout {
        Layout { shape: Shape::new(shape), strides: strides.into(), offset: 0 }
    }

    #[test]
    fn reshape_of_a_transpose_needs_a_copy() {
        let t = Layout::contiguous(Shape::new(&[2, 3])).transpose(&[1, 0]);
        assert!(t.reshape(&Shape::new(&[6])).is_none());
        assert!(t.reshape(&Shape::new(&[3, 1, 2])).is_some());
    }

    #[test]
    fn reshape_splits_and_merges_runs() {
        // Columns 0..4 of an 8-column matrix: rows stay apart, columns may split.
        let l = layout(&[6, 4], &[8, 1]);
        assert_eq!(&l.reshape(&Shape::new(&[2, 3, 2, 2])).unwrap().strides[..], &[24, 8, 2, 1]);
        assert!(l.reshape(&Shape::new(&[24])).is_none());
        let r = layout(&[4], &[0]);
        assert_eq!(&r.reshape(&Shape::new(&[2, 2])).unwrap().strides[..], &[0, 0]);
    }

    #[test]
    fn ones_and_empties() {
        assert!(layout(&[1, 3], &[99, 1]).is_contiguous());
        assert!(layout(&[0, 3], &[7, 7]).is_contiguous());
        assert!(layout(&[3, 1], &[2, 5]).reshape(&Shape::new(&[1, 3])).is_some());
    }
}

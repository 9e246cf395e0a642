//! Layouts as kernels want them: few axes, divisions prepared, moves in units of up to 16 bytes.

use crate::kernel::Args;
use lazul_ir::{DType, Operand, Target};
use smallvec::SmallVec;

pub(crate) type Dims = SmallVec<[usize; 6]>;
pub(crate) type Steps = SmallVec<[isize; 6]>;

/// Axes merged where every operand allows it; axes of length one are gone, and at least one is left.
/// `strides[o]` are operand `o`'s.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Axes {
    pub(crate) shape: Dims,
    pub(crate) strides: SmallVec<[Steps; 4]>,
}

impl Axes {
    pub(crate) fn merge(shape: &[usize], strides: &[&[isize]]) -> Axes {
        let mut axes =
            Axes { shape: Dims::new(), strides: strides.iter().map(|_| Steps::new()).collect() };
        for (i, &d) in shape.iter().enumerate() {
            if d == 1 {
                continue;
            }
            let joins = !axes.shape.is_empty()
                && strides
                    .iter()
                    .zip(&axes.strides)
                    .all(|(s, done)| done.last().copied() == Some(s[i].wrapping_mul(d as isize)));
            if joins {
                let last = axes.shape.len() - 1;
                axes.shape[last] *= d;
                for (s, done) in strides.iter().zip(&mut axes.strides) {
                    done[last] = s[i];
                }
            } else {
                axes.shape.push(d);
                for (s, done) in strides.iter().zip(&mut axes.strides) {
                    done.push(s[i]);
                }
            }
        }
        if axes.shape.is_empty() {
            axes.shape.push(1);
            axes.strides.iter_mut().for_each(|s| s.push(0));
        }
        axes
    }

    pub(crate) fn rank(&self) -> usize {
        self.shape.len()
    }

    pub(crate) fn size(&self) -> usize {
        self.shape.iter().product()
    }

    /// Splits along the first axes into pieces of at most `2^30` positions, so that kernels can count
    /// in 32 bits; a piece of a row-major operand is row-major. Calls `f(axes, offsets)` for each.
    pub(crate) fn pieces<E>(
        &self,
        f: &mut impl FnMut(&Axes, &[isize]) -> Result<(), E>,
    ) -> Result<(), E> {
        let start: Steps = self.strides.iter().map(|_| 0).collect();
        self.cut(&start, f)
    }

    fn cut<E>(
        &self,
        offsets: &[isize],
        f: &mut impl FnMut(&Axes, &[isize]) -> Result<(), E>,
    ) -> Result<(), E> {
        const MOST: usize = 1 << 30;
        if self.size() <= MOST {
            return f(self, offsets);
        }
        // Merged axes are longer than one, so the first can be halved.
        let d = self.shape[0];
        let half = match self.rank() {
            1 => (d / 2).next_multiple_of(4096), // vectors stay whole
            _ => d / 2,
        };
        let part = |length: usize| {
            let mut shape = self.shape.clone();
            shape[0] = length;
            let strides: SmallVec<[&[isize]; 8]> = self.strides.iter().map(|s| &s[..]).collect();
            Axes::merge(&shape, &strides)
        };
        part(half).cut(offsets, f)?;
        let moved: Steps =
            offsets.iter().zip(&self.strides).map(|(o, s)| o + half as isize * s[0]).collect();
        part(d - half).cut(&moved, f)
    }
}

/// What replaces a division of numbers below `2^31` by `d`: `(mul, shift)`.
pub(crate) fn divisor(d: usize) -> (u32, u32) {
    debug_assert!((1..1 << 31).contains(&d));
    let shift = usize::BITS - (d - 1).leading_zeros();
    let mul = ((1u64 << 32) * ((1u64 << shift) - d as u64) / d as u64 + 1) as u32;
    (mul, shift)
}

/// Adds the structure `Walk` of the kernels: strides of each operand (`i64[operands][rank]`), then
/// sizes, and what divides by them.
pub(crate) fn push_walk(args: &mut Args, axes: &Axes) {
    args.begin();
    walk_fields(args, axes);
}

/// The fields of [`push_walk`], in a structure that holds them.
pub(crate) fn walk_fields(args: &mut Args, axes: &Axes) {
    for strides in &axes.strides {
        strides.iter().for_each(|&s| {
            args.field(s as i64);
        });
    }
    axes.shape.iter().for_each(|&d| {
        args.field(d as u32);
    });
    // An empty axis is never walked.
    axes.shape.iter().for_each(|&d| {
        args.field(divisor(d.max(1)).0);
    });
    axes.shape.iter().for_each(|&d| {
        args.field(divisor(d.max(1)).1);
    });
}

/// Row-major strides.
pub(crate) fn row_major(shape: &[usize]) -> Steps {
    let mut strides: Steps = SmallVec::from_elem(0, shape.len());
    let mut step = 1isize;
    for (s, &d) in strides.iter_mut().zip(shape).rev() {
        *s = step;
        step = step.wrapping_mul(d.max(1) as isize);
    }
    strides
}

/// An array on the device with its layout, owned.
#[derive(Clone, Debug)]
pub(crate) struct View {
    pub(crate) ptr: u64,
    pub(crate) dtype: DType,
    pub(crate) shape: Dims,
    pub(crate) strides: Steps,
}

impl View {
    pub(crate) fn of(operand: &Operand<'_>) -> View {
        View {
            ptr: operand.ptr as u64,
            dtype: operand.dtype,
            shape: operand.shape.into(),
            strides: operand.strides.into(),
        }
    }

    pub(crate) fn of_target(target: &Target<'_>) -> View {
        View::dense(target.ptr as u64, target.dtype, target.shape)
    }

    /// Row-major.
    pub(crate) fn dense(ptr: u64, dtype: DType, shape: &[usize]) -> View {
        View { ptr, dtype, shape: shape.into(), strides: row_major(shape) }
    }

    pub(crate) fn size(&self) -> usize {
        self.shape.iter().product()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.size() * self.dtype.size()
    }

    pub(crate) fn is_dense(&self) -> bool {
        lazul_ir::layout::is_row_major(&self.shape, &self.strides)
    }

    /// The last axis as rows: `(rows, length, distance between rows in elements)`, if rows are
    /// contiguous and evenly spaced.
    pub(crate) fn rows(&self) -> Option<Rows> {
        let Some((&len, lead)) = self.shape.split_last() else {
            return Some(Rows { ptr: self.ptr, count: 1, len: 1, stride: 1 });
        };
        let (&step, lead_strides) = self.strides.split_last()?;
        if len > 1 && step != 1 {
            return None;
        }
        let axes = Axes::merge(lead, &[lead_strides]);
        if axes.rank() > 1 {
            return None;
        }
        let count = axes.size();
        Some(Rows { ptr: self.ptr, count, len, stride: axes.strides[0][0] })
    }
}

/// Evenly spaced rows of contiguous elements.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Rows {
    pub(crate) ptr: u64,
    pub(crate) count: usize,
    pub(crate) len: usize,
    /// In elements.
    pub(crate) stride: isize,
}

impl Rows {
    /// The most elements of `size` bytes, at most `most`, that can be read together everywhere.
    pub(crate) fn vector(&self, size: usize, most: usize) -> usize {
        let mut n = most;
        while n > 1
            && (!self.len.is_multiple_of(n)
                || !self.ptr.is_multiple_of((n * size).min(16) as u64)
                || (self.count > 1
                    && !(self.stride.unsigned_abs() * size).is_multiple_of((n * size).min(16))))
        {
            n /= 2;
        }
        n
    }
}

/// The shape and strides of a move of elements of `size` bytes in units: as many bytes together as
/// contiguous runs and addresses allow, up to 16. Answers the shape in units and a unit's bytes.
pub(crate) fn units(
    shape: &[usize],
    strides: &mut [Steps],
    ptrs: &[u64],
    size: usize,
) -> (Dims, usize) {
    let mut shape: Dims = shape.into();
    let Some(last) = shape.len().checked_sub(1) else { return (shape, size) };
    let mut unit = size;
    let contiguous = strides.iter().all(|s| s[last] == 1);
    if contiguous {
        while unit < 16
            && (shape[last] * size).is_multiple_of(unit * 2)
            && ptrs.iter().all(|p| p.is_multiple_of(unit as u64 * 2))
            && strides.iter().all(|s| {
                s[..last].iter().all(|s| (s.unsigned_abs() * size).is_multiple_of(unit * 2))
            })
        {
            unit *= 2;
        }
        let factor = unit / size;
        shape[last] /= factor;
        for s in strides {
            s[..last].iter_mut().for_each(|s| *s /= factor as isize);
        }
    }
    (shape, unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn division_by_multiplication() {
        let numbers =
            [0u64, 1, 2, 3, 6, 7, 8, 9, 100, 4095, 4096, 65537, (1 << 30) + 7, (1 << 31) - 1];
        for d in (1..70).chain([127, 128, 1000, 4097, 1 << 20, (1 << 30) - 1, (1 << 31) - 1]) {
            let (mul, shift) = divisor(d);
            for n in numbers.into_iter().chain([d as u64 - 1, d as u64]) {
                let q = (((n * mul as u64) >> 32) + n) >> shift;
                assert_eq!(q, n / d as u64, "{n} / {d}");
            }
        }
    }

    #[test]
    fn axes_merge_where_all_operands_allow() {
        let a = Axes::merge(&[2, 3, 1, 4], &[&[12, 4, 99, 1]]);
        assert_eq!((a.shape.as_slice(), a.strides[0].as_slice()), (&[24][..], &[1][..]));
        let a = Axes::merge(&[2, 3, 4], &[&[12, 4, 1], &[0, 4, 1]]);
        assert_eq!(a.shape.as_slice(), [2, 12]);
        assert_eq!(a.strides[1].as_slice(), [0, 1]);
        assert_eq!(Axes::merge(&[1, 1], &[&[5, 5]]).shape.as_slice(), [1]);
        assert_eq!(Axes::merge(&[4, 5], &[&[0, 0]]).shape.as_slice(), [20]);
    }

    #[test]
    fn huge_arrays_are_cut() {
        let a = Axes::merge(&[3, (1 << 30) + 5], &[&[1 << 40, 1], &[(1 << 30) + 5, 1]]);
        let mut next = 0;
        a.pieces::<()>(&mut |piece, offsets| {
            assert!(piece.size() <= 1 << 30 && piece.rank() == 1);
            // The second operand is row-major, and so are its pieces, one after the other.
            assert_eq!(offsets[1], next);
            let (row, column) = (next / ((1 << 30) + 5), next % ((1 << 30) + 5));
            assert_eq!(offsets[0], (row << 40) + column);
            next += piece.size() as isize;
            Ok(())
        })
        .unwrap();
        assert_eq!(next, 3 * ((1 << 30) + 5));
    }

    #[test]
    fn rows_and_units() {
        let v = View {
            ptr: 64,
            dtype: DType::F16,
            shape: [2, 3, 8].as_slice().into(),
            strides: [48, 16, 1].as_slice().into(),
        };
        let rows = v.rows().unwrap();
        assert_eq!(rows, Rows { ptr: 64, count: 6, len: 8, stride: 16 });
        assert_eq!(rows.vector(2, 8), 8);
        assert_eq!(Rows { ptr: 68, ..rows }.vector(2, 8), 2);
        let mut strides = [Steps::from_slice(&[16, 1]), Steps::from_slice(&[8, 1])];
        let (shape, unit) = units(&[6, 8], &mut strides, &[64, 128], 2);
        assert_eq!((shape.as_slice(), unit), (&[6, 1][..], 16));
        assert_eq!(strides[0].as_slice(), [2, 1]);
    }
}

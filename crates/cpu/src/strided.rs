//! Walking operands of any strides.

use smallvec::SmallVec;

/// Dimensions merged where every operand allows it, so that kernels see as few, as long axes as
/// possible. `strides[o][i]` is operand `o`'s stride along merged axis `i`; axes of length one are
/// gone. At least one axis is always present.
#[derive(Debug, PartialEq)]
pub(crate) struct Collapsed {
    pub(crate) shape: SmallVec<[usize; 4]>,
    pub(crate) strides: SmallVec<[SmallVec<[isize; 4]>; 4]>,
}

/// Merges axes of `shape` that are neighbours in memory for all of `strides`.
pub(crate) fn collapse(shape: &[usize], strides: &[&[isize]]) -> Collapsed {
    let mut out = Collapsed {
        shape: SmallVec::new(),
        strides: strides.iter().map(|_| SmallVec::new()).collect(),
    };
    for (axis, &d) in shape.iter().enumerate() {
        if d == 1 {
            continue;
        }
        let merges = match out.shape.last() {
            None => false,
            Some(_) => strides
                .iter()
                .zip(&out.strides)
                .all(|(s, done)| done[done.len() - 1] == s[axis].wrapping_mul(d as isize)),
        };
        if merges {
            let last = out.shape.len() - 1;
            out.shape[last] *= d;
            for (s, done) in strides.iter().zip(out.strides.iter_mut()) {
                done[last] = s[axis];
            }
        } else {
            out.shape.push(d);
            for (s, done) in strides.iter().zip(out.strides.iter_mut()) {
                done.push(s[axis]);
            }
        }
    }
    if out.shape.is_empty() {
        out.shape.push(1);
        out.strides.iter_mut().for_each(|s| s.push(1));
    }
    out
}

/// The position, in elements, of the row-major index `linear` of `shape` under `strides`.
#[inline]
pub(crate) fn offset_of(mut linear: usize, shape: &[usize], strides: &[isize]) -> isize {
    let mut offset = 0;
    for (&d, &s) in shape.iter().zip(strides).rev() {
        offset += (linear % d) as isize * s;
        linear /= d;
    }
    offset
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contiguous_operands_become_one_axis() {
        let c = collapse(&[2, 1, 3, 4], &[&[12, 12, 4, 1], &[12, 0, 4, 1]]);
        assert_eq!(&c.shape[..], &[24]);
    }

    #[test]
    fn a_broadcast_row_keeps_two_axes() {
        let c = collapse(&[2, 3, 4], &[&[12, 4, 1], &[0, 0, 1]]);
        assert_eq!(&c.shape[..], &[6, 4]);
        assert_eq!(&c.strides[1][..], &[0, 1]);
        assert_eq!(offset_of(9, &c.shape, &c.strides[0]), 9);
        assert_eq!(offset_of(9, &c.shape, &c.strides[1]), 1);
    }
}

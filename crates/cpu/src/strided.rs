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

/// Calls `f(start, offsets, len)` for every piece of an innermost row that lies in the row-major
/// range `start..end` of `shape`: `len` neighbours along the last axis, the first of which has
/// row-major index `start` and lies at `offsets[o]` in operand `o`.
#[inline]
pub(crate) fn rows<const N: usize>(
    shape: &[usize],
    strides: [&[isize]; N],
    start: usize,
    end: usize,
    mut f: impl FnMut(usize, [isize; N], usize),
) {
    if start >= end {
        return;
    }
    let last = shape.len() - 1;
    let width = shape[last];
    let mut index: SmallVec<[usize; 8]> = SmallVec::from_elem(0, shape.len());
    let mut rest = start;
    for axis in (0..shape.len()).rev() {
        index[axis] = rest % shape[axis];
        rest /= shape[axis];
    }
    let mut offsets = [0isize; N];
    for (offset, strides) in offsets.iter_mut().zip(strides) {
        *offset = index.iter().zip(strides).map(|(&i, &s)| i as isize * s).sum();
    }
    let mut at = start;
    loop {
        let len = (width - index[last]).min(end - at);
        f(at, offsets, len);
        at += len;
        if at >= end {
            return;
        }
        // Back to the row's start, then one step along the axis before, with carries.
        for (offset, strides) in offsets.iter_mut().zip(strides) {
            *offset -= index[last] as isize * strides[last];
        }
        index[last] = 0;
        for axis in (0..last).rev() {
            index[axis] += 1;
            for (offset, strides) in offsets.iter_mut().zip(strides) {
                *offset += strides[axis];
            }
            if index[axis] < shape[axis] {
                break;
            }
            for (offset, strides) in offsets.iter_mut().zip(strides) {
                *offset -= shape[axis] as isize * strides[axis];
            }
            index[axis] = 0;
        }
    }
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

    #[test]
    fn rows_visit_every_element_of_a_range() {
        let (shape, a, b) = ([3, 2, 5], [-1isize, 100, 7], [10isize, 5, 1]);
        for start in 0..=30 {
            for end in start..=30 {
                let mut next = start;
                rows(&shape, [&a, &b], start, end, |at, [oa, ob], len| {
                    assert_eq!(at, next);
                    assert_eq!(ob, at as isize);
                    assert_eq!(oa, offset_of(at, &shape, &a));
                    next += len;
                });
                assert_eq!(next, end);
            }
        }
    }
}

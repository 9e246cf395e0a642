//! `src, index…` → `I ++ (src's other dimensions)`.
//!
//! Chunks of indices are resolved to positions in `src`; at each lies a slice over the axes that are
//! not indexed, copied whole where its rows are contiguous (the rows of an embedding table), or
//! element by element.

use super::{Faults, by_size, read_indices, resolve, runs};
use crate::pool::parallel;
use crate::rows::{apart, at};
use crate::strided::{Collapsed, collapse};
use lazul_ir::{Axes, Job, OpError, Operand, Target};
use smallvec::SmallVec;

/// See [`lazul_ir::Prim::Gather`].
pub(crate) fn gather(axes: &Axes, job: &Job<'_>) -> Result<(), OpError> {
    let out = job.outputs[0];
    apart(&out, job.inputs, |out| by_size!(out.dtype.size(), T => gather_in::<T>(axes, job, out)))
}

/// Index operands of a gather or scatter, with what is needed to resolve them.
pub(super) struct Indices<'a> {
    operands: &'a [Operand<'a>],
    layouts: SmallVec<[Collapsed; 2]>,
    /// For each index operand: axis, its size, and the stride to multiply by.
    axes: SmallVec<[(usize, usize, isize); 4]>,
    /// Number of index tuples.
    pub(super) count: usize,
}

impl<'a> Indices<'a> {
    /// Indices into an array of `shape` with `strides`.
    pub(super) fn new(
        operands: &'a [Operand<'a>],
        axes: &Axes,
        shape: &[usize],
        strides: &[isize],
    ) -> Indices<'a> {
        Indices {
            operands,
            layouts: operands.iter().map(|o| collapse(o.shape, &[o.strides])).collect(),
            axes: axes
                .iter()
                .map(|&a| (a as usize, shape[a as usize], strides[a as usize]))
                .collect(),
            count: operands.first().map_or(1, |o| o.size()),
        }
    }

    /// Positions that tuples `start..start + positions.len()` name. A bad one is noted, and 0 put in
    /// its place; the answer is whether all are good.
    pub(super) fn resolve(&self, start: usize, positions: &mut [isize], faults: &Faults) -> bool {
        let mut good = true;
        let mut values = [0i64; 256];
        positions.fill(0);
        for (block, part) in positions.chunks_mut(256).enumerate() {
            for (k, operand) in self.operands.iter().enumerate() {
                let (axis, size, stride) = self.axes[k];
                let values = &mut values[..part.len()];
                let first = start + block * 256;
                // SAFETY: tuples `first..` of a live operand.
                unsafe { read_indices(operand, &self.layouts[k], first, values) };
                for (i, (position, &index)) in part.iter_mut().zip(values.iter()).enumerate() {
                    match resolve(index, size) {
                        Some(p) => *position += p as isize * stride,
                        None => {
                            faults.add((first + i) * self.operands.len() + k, index, axis, size);
                            good = false;
                        }
                    }
                }
            }
        }
        good
    }
}

/// The axes of `shape` that are not in `axes`.
pub(super) fn others(axes: &Axes, rank: usize) -> impl Iterator<Item = usize> + '_ {
    (0..rank).filter(|&a| !axes.contains(&(a as u8)))
}

fn gather_in<T: Copy + Send + Sync>(
    axes: &Axes,
    job: &Job<'_>,
    out: &Target<'_>,
) -> Result<(), OpError> {
    let src = &job.inputs[0];
    let indices = Indices::new(&job.inputs[1..], axes, src.shape, src.strides);
    let shape: SmallVec<[usize; 6]> = others(axes, src.shape.len()).map(|a| src.shape[a]).collect();
    let strides: SmallVec<[isize; 6]> =
        others(axes, src.shape.len()).map(|a| src.strides[a]).collect();
    let size: usize = shape.iter().product();
    let faults = Faults::default();
    let c = collapse(&shape, &[&strides]);
    // Work is cut into chunks of tuples, and within a large slice into pieces of it.
    let piece = size.clamp(1, 1 << 15);
    let pieces = size.div_ceil(piece).max(1);
    let grain = ((1 << 14) / piece).max(1);
    let chunks = indices.count.div_ceil(grain);
    parallel(chunks * pieces, |i| {
        let (first, from) = (i / pieces * grain, i % pieces * piece);
        let to = size.min(from + piece);
        let mut positions = vec![0isize; grain.min(indices.count - first)];
        if !indices.resolve(first, &mut positions, &faults) {
            return;
        }
        let (src, step) = (src.ptr.cast::<T>(), c.strides[0][c.shape.len() - 1]);
        let dst = at(out, first * size).cast::<T>();
        // SAFETY: positions were checked, so every element read lies in `src`; the elements written
        // are those of this chunk of the output.
        unsafe {
            if size == 1 {
                for (k, &p) in positions.iter().enumerate() {
                    *dst.add(k) = *src.offset(p);
                }
            } else if c.shape.len() == 1 && step == 1 {
                for (k, &p) in positions.iter().enumerate() {
                    let row = src.offset(p).add(from);
                    std::ptr::copy_nonoverlapping(row, dst.add(k * size + from), to - from);
                }
            } else {
                for (k, &p) in positions.iter().enumerate() {
                    runs::<1>(&c, from, to, |linear, [offset], length| {
                        let (src, dst) = (src.offset(p + offset), dst.add(k * size + linear));
                        super::slice::copy_run(dst, 1, src, step, length);
                    });
                }
            }
        }
    });
    faults.result(job.name())
}

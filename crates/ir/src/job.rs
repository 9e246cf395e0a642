//! A primitive with its operands in memory: what a backend is asked to run.

use crate::{Axes, DType, Prim, ReduceOp, Tape};

/// An operand: elements at `ptr + strides · index`, in units of the dtype.
///
/// `ptr` is the address of the element at index `(0, …, 0)`; strides may be zero or negative.
#[derive(Clone, Copy)]
pub struct Operand<'a> {
    /// Address of the first element.
    pub ptr: *const u8,
    /// Element type.
    pub dtype: DType,
    /// Dimensions.
    pub shape: &'a [usize],
    /// Distances between neighbours, in elements.
    pub strides: &'a [isize],
}

/// An output: row-major memory of `shape`, not initialised unless the primitive says so.
///
/// It may be the memory of an operand that has the same dtype, size and row-major order (a donated
/// buffer); element-wise jobs must therefore read an element's operands before they write it.
#[derive(Clone, Copy)]
pub struct Target<'a> {
    /// Address of the first element.
    pub ptr: *mut u8,
    /// Element type.
    pub dtype: DType,
    /// Dimensions.
    pub shape: &'a [usize],
}

// SAFETY: operands and targets are addresses; the evaluator that makes a job keeps the memory alive
// and free of other writers for as long as the job runs.
unsafe impl Send for Operand<'_> {}
// SAFETY: as above.
unsafe impl Sync for Operand<'_> {}
// SAFETY: as above.
unsafe impl Send for Target<'_> {}
// SAFETY: as above.
unsafe impl Sync for Target<'_> {}

impl Operand<'_> {
    /// Number of elements.
    #[inline]
    pub fn size(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether the elements are in row-major order without gaps.
    #[inline]
    pub fn is_contiguous(&self) -> bool {
        crate::layout::is_row_major(self.shape, self.strides)
    }
}

impl Target<'_> {
    /// Number of elements.
    #[inline]
    pub fn size(&self) -> usize {
        self.shape.iter().product()
    }
}

/// What a job computes.
#[derive(Clone, Copy)]
pub enum Work<'a> {
    /// One primitive; never a [`Prim::View`].
    Prim(&'a Prim),
    /// A fused program: operand `i` is register `i`, target `i` is output `i`; all have one shape.
    Fused(&'a Tape),
    /// A fused program of one output whose values are reduced as they are made: operands have one shape,
    /// the target has length 1 along `axes`, as in [`Prim::Reduce`]. The bits are those of the two one
    /// after the other.
    Reduced {
        /// The program.
        tape: &'a Tape,
        /// What is computed of its values.
        op: ReduceOp,
        /// Reduced axes, ascending: the first ones of the shape, or the last ones.
        axes: &'a Axes,
    },
}

/// One piece of work for a backend.
#[derive(Clone, Copy)]
pub struct Job<'a> {
    /// What to compute.
    pub work: Work<'a>,
    /// Operands, as the primitive documents them.
    pub inputs: &'a [Operand<'a>],
    /// Where the results go.
    pub outputs: &'a [Target<'a>],
}

impl Job<'_> {
    /// The name of what is computed, for errors and traces.
    pub fn name(&self) -> &'static str {
        match self.work {
            Work::Prim(p) => p.name(),
            Work::Fused(_) => "fused",
            Work::Reduced { op, .. } => op.name(),
        }
    }
}

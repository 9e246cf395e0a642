//! Operands and targets from plain vectors, for kernel tests.
//!
//! A [`Tensor`] owns memory and a layout over it. [`layouts`] gives the same values under every kind
//! of layout that kernels meet, [`run`] runs a primitive through the backend, and [`inline`] runs a
//! closure on this thread alone, to compare results with those of the pool.
#![allow(dead_code)]

use crate::{CpuBackend, pool};
use lazul_ir::{Backend, DType, Element, Job, OpError, Operand, Prim, Scalar, Tape, Target, Work};
use std::sync::{Mutex, PoisonError};

/// Elements of one dtype in memory of their own, under a layout.
#[derive(Clone)]
pub(crate) struct Tensor {
    memory: Vec<u64>,
    pub(crate) dtype: DType,
    pub(crate) shape: Vec<usize>,
    pub(crate) strides: Vec<isize>,
    /// Position of the element at index `(0, …, 0)`.
    pub(crate) offset: usize,
}

/// Memory of `bytes` bytes or a few more, with huge pages where the allocator would use them, full of
/// values that nobody expects.
fn nonsense(bytes: usize) -> Vec<u64> {
    let mut memory = vec![0u64; bytes.div_ceil(8) + 1];
    #[cfg(target_os = "linux")]
    if bytes >= 4 << 20 {
        let start = (memory.as_mut_ptr() as usize).next_multiple_of(4096);
        let end = memory.as_mut_ptr_range().end as usize / 4096 * 4096;
        // SAFETY: whole pages inside the vector; the advice changes no value.
        unsafe { libc::madvise(start as *mut _, end - start, libc::MADV_HUGEPAGE) };
    }
    memory.fill(0xa5a5_a5a5_a5a5_a5a5);
    memory
}

/// Row-major strides of a shape.
pub(crate) fn row_major(shape: &[usize]) -> Vec<isize> {
    lazul_ir::Shape::new(shape).strides().to_vec()
}

impl Tensor {
    /// `memory` seen through `shape`, `strides` and `offset`.
    pub(crate) fn strided<T: Element>(
        memory: &[T],
        shape: &[usize],
        strides: &[isize],
        offset: usize,
    ) -> Tensor {
        let mut t = Tensor {
            memory: nonsense(size_of_val(memory)),
            dtype: T::DTYPE,
            shape: shape.to_vec(),
            strides: strides.to_vec(),
            offset,
        };
        // SAFETY: the vector holds at least as many bytes as the slice.
        unsafe {
            std::ptr::copy_nonoverlapping(
                memory.as_ptr(),
                t.memory.as_mut_ptr().cast(),
                memory.len(),
            );
        }
        t.check(memory.len());
        t
    }

    /// Row-major elements.
    pub(crate) fn new<T: Element>(values: &[T], shape: &[usize]) -> Tensor {
        assert_eq!(values.len(), shape.iter().product::<usize>());
        Tensor::strided(values, shape, &row_major(shape), 0)
    }

    /// Row-major elements, converted as [`Scalar::from_f64`] does.
    pub(crate) fn from_f64(values: &[f64], dtype: DType, shape: &[usize]) -> Tensor {
        assert_eq!(values.len(), shape.iter().product::<usize>());
        let mut t = Tensor::empty(dtype, shape);
        for (i, &v) in values.iter().enumerate() {
            t.set_bits(i, Scalar::from_f64(v, dtype).bits);
        }
        t
    }

    /// Row-major memory full of nonsense.
    pub(crate) fn empty(dtype: DType, shape: &[usize]) -> Tensor {
        let bytes = shape.iter().product::<usize>() * dtype.size();
        Tensor {
            memory: nonsense(bytes),
            dtype,
            shape: shape.to_vec(),
            strides: row_major(shape),
            offset: 0,
        }
    }

    fn check(&self, len: usize) {
        if self.shape.contains(&0) {
            return;
        }
        let (mut low, mut high) = (self.offset as isize, self.offset as isize);
        for (&d, &s) in self.shape.iter().zip(&self.strides) {
            let reach = (d as isize - 1) * s;
            if reach < 0 { low += reach } else { high += reach }
        }
        assert!(low >= 0 && (high as usize) < len, "layout leaves its memory");
    }

    fn set_bits(&mut self, position: usize, bits: u64) {
        let size = self.dtype.size();
        // SAFETY: callers pass positions inside the layout's memory.
        unsafe {
            let dst = self.memory.as_mut_ptr().cast::<u8>().add(position * size);
            std::ptr::copy_nonoverlapping(bits.to_le_bytes().as_ptr(), dst, size);
        }
    }

    /// The tensor as an operand.
    pub(crate) fn operand(&self) -> Operand<'_> {
        // SAFETY: the offset lies inside the memory (or the tensor is empty).
        let ptr = unsafe { self.memory.as_ptr().cast::<u8>().add(self.offset * self.dtype.size()) };
        Operand { ptr, dtype: self.dtype, shape: &self.shape, strides: &self.strides }
    }

    /// The tensor, row-major, as a target.
    pub(crate) fn target(&mut self) -> Target<'_> {
        assert!(lazul_ir::layout::is_row_major(&self.shape, &self.strides));
        // SAFETY: as in `operand`.
        let ptr =
            unsafe { self.memory.as_mut_ptr().cast::<u8>().add(self.offset * self.dtype.size()) };
        Target { ptr, dtype: self.dtype, shape: &self.shape }
    }

    /// Number of elements.
    pub(crate) fn size(&self) -> usize {
        self.shape.iter().product()
    }

    /// Every element's bits, in row-major order of the shape.
    pub(crate) fn bits(&self) -> Vec<u64> {
        let size = self.dtype.size();
        (0..self.size())
            .map(|i| {
                let at =
                    self.offset as isize + crate::strided::offset_of(i, &self.shape, &self.strides);
                let mut bytes = [0u8; 8];
                // SAFETY: layouts were checked to stay inside the memory.
                unsafe {
                    let src = self.memory.as_ptr().cast::<u8>().add(at as usize * size);
                    std::ptr::copy_nonoverlapping(src, bytes.as_mut_ptr(), size);
                }
                u64::from_le_bytes(bytes)
            })
            .collect()
    }

    /// Every element, in row-major order of the shape.
    pub(crate) fn to_vec<T: Element>(&self) -> Vec<T> {
        assert_eq!(T::DTYPE, self.dtype);
        // SAFETY: `bits` holds the bytes of elements of this very type in its low bytes.
        self.bits().iter().map(|b| unsafe { (b as *const u64).cast::<T>().read() }).collect()
    }

    /// Every element as a double (real parts), in row-major order of the shape.
    pub(crate) fn to_f64(&self) -> Vec<f64> {
        self.bits().iter().map(|&bits| Scalar { bits, dtype: self.dtype }.to_f64()).collect()
    }

    /// Every element as a scalar, in row-major order of the shape.
    pub(crate) fn scalars(&self) -> Vec<Scalar> {
        self.bits().iter().map(|&bits| Scalar { bits, dtype: self.dtype }).collect()
    }

    /// Axis `i` of the result is axis `perm[i]` of this tensor; no element moves.
    pub(crate) fn transpose(&self, perm: &[usize]) -> Tensor {
        Tensor {
            shape: perm.iter().map(|&p| self.shape[p]).collect(),
            strides: perm.iter().map(|&p| self.strides[p]).collect(),
            ..self.clone()
        }
    }

    /// Broadcast to `shape` by stride 0; no element moves.
    pub(crate) fn broadcast(&self, shape: &[usize]) -> Tensor {
        let lead = shape.len() - self.shape.len();
        let mut strides = vec![0; shape.len()];
        for i in 0..self.shape.len() {
            let d = self.shape[i];
            assert!(d == shape[lead + i] || d == 1);
            strides[lead + i] = if d == 1 { 0 } else { self.strides[i] };
        }
        Tensor { shape: shape.to_vec(), strides, ..self.clone() }
    }

    /// The same elements with storage whose element `index` lies at `index · strides` from `offset`
    /// in `len` elements of memory.
    pub(crate) fn stored(&self, len: usize, strides: &[isize], offset: usize) -> Tensor {
        let mut t = Tensor {
            memory: nonsense(len * self.dtype.size()),
            dtype: self.dtype,
            shape: self.shape.clone(),
            strides: strides.to_vec(),
            offset,
        };
        t.check(len);
        for (i, bits) in self.bits().into_iter().enumerate() {
            let at = offset as isize + crate::strided::offset_of(i, &t.shape, strides);
            t.set_bits(at as usize, bits);
        }
        t
    }
}

/// The same elements under several layouts: row-major, column-major, with gaps between rows, with a
/// step of two, reversed, and at an offset.
pub(crate) fn layouts(t: &Tensor) -> Vec<(&'static str, Tensor)> {
    let shape = &t.shape;
    let n = t.size();
    let row = row_major(shape);
    let mut column = vec![0; shape.len()];
    let mut step = 1;
    for (s, &d) in column.iter_mut().zip(shape) {
        *s = step;
        step *= d.max(1) as isize;
    }
    let twice: Vec<isize> = row.iter().map(|s| s * 2).collect();
    let reversed: Vec<isize> = row.iter().map(|s| -s).collect();
    let mut padded = row.clone();
    let mut padded_len = n;
    if let Some(&last) = shape.last() {
        let mut step = last as isize + 3;
        for (s, &d) in padded.iter_mut().zip(shape).rev().skip(1) {
            *s = step;
            step *= d.max(1) as isize;
        }
        padded_len = step.unsigned_abs();
    }
    vec![
        ("row-major", t.stored(n, &row, 0)),
        ("offset", t.stored(n + 3, &row, 3)),
        ("column-major", t.stored(n, &column, 0)),
        ("step two", t.stored(2 * n, &twice, 0)),
        ("reversed", t.stored(n, &reversed, n.saturating_sub(1))),
        ("padded rows", t.stored(padded_len, &padded, 0)),
    ]
}

/// Runs work into targets given as row-major tensors.
pub(crate) fn try_run(
    work: Work<'_>,
    inputs: &[&Tensor],
    outputs: &mut [Tensor],
) -> Result<(), OpError> {
    let inputs: Vec<Operand<'_>> = inputs.iter().map(|t| t.operand()).collect();
    let outputs: Vec<Target<'_>> = outputs.iter_mut().map(|t| t.target()).collect();
    // SAFETY: tensors own memory of the stated extent, and outputs are borrowed exclusively.
    unsafe { CpuBackend.run(&Job { work, inputs: &inputs, outputs: &outputs }) }
}

/// Runs a primitive with one output.
pub(crate) fn run(prim: &Prim, inputs: &[&Tensor], dtype: DType, shape: &[usize]) -> Tensor {
    let mut out = [Tensor::empty(dtype, shape)];
    try_run(Work::Prim(prim), inputs, &mut out).unwrap();
    let [out] = out;
    out
}

/// Runs a primitive whose output starts as a copy of operand 0.
pub(crate) fn run_update(prim: &Prim, inputs: &[&Tensor]) -> Result<Tensor, OpError> {
    let src = inputs[0];
    let mut out = [src.stored(src.size(), &row_major(&src.shape), 0)];
    try_run(Work::Prim(prim), inputs, &mut out)?;
    let [out] = out;
    Ok(out)
}

/// Runs a fused program.
pub(crate) fn run_fused(tape: &Tape, inputs: &[&Tensor], shape: &[usize]) -> Vec<Tensor> {
    let mut out: Vec<Tensor> =
        tape.outputs.iter().map(|&(_, dtype)| Tensor::empty(dtype, shape)).collect();
    try_run(Work::Fused(tape), inputs, &mut out).unwrap();
    out
}

/// Calls `f` so that every kernel inside runs on this thread alone, as with one thread.
pub(crate) fn inline<T: Send>(f: impl FnOnce() -> T + Send) -> T {
    let (f, result) = (Mutex::new(Some(f)), Mutex::new(None));
    let lock = |m: &Mutex<Option<T>>, v| *m.lock().unwrap_or_else(PoisonError::into_inner) = v;
    // Inside a region the pool is busy, so nested regions run on their caller's thread.
    pool::parallel(2, |i| {
        if i == 0 {
            let f = f.lock().unwrap_or_else(PoisonError::into_inner).take().unwrap();
            lock(&result, Some(f()));
        }
    });
    result.into_inner().unwrap_or_else(PoisonError::into_inner).unwrap()
}

/// A small generator of test values (SplitMix64).
pub(crate) struct Rng(pub(crate) u64);

impl Rng {
    /// 64 random bits.
    pub(crate) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        (self.bits() % n as u64) as usize
    }

    /// A number from `[low, high)`.
    pub(crate) fn uniform(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// `n` numbers from `[low, high)`.
    pub(crate) fn vec(&mut self, n: usize, low: f64, high: f64) -> Vec<f64> {
        (0..n).map(|_| self.uniform(low, high)).collect()
    }

    /// A row-major tensor of numbers from `[low, high)`, converted to `dtype`.
    pub(crate) fn tensor(&mut self, dtype: DType, shape: &[usize], low: f64, high: f64) -> Tensor {
        let n = shape.iter().product();
        Tensor::from_f64(&self.vec(n, low, high), dtype, shape)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_layout_holds_the_same_values() {
        let t = Rng(1).tensor(DType::I16, &[2, 3, 5], -100.0, 100.0);
        for (name, l) in layouts(&t) {
            assert_eq!(l.to_vec::<i16>(), t.to_vec::<i16>(), "{name}");
        }
    }
}

//! Operands as rows along their last axis, in the type that a kernel computes in.
//!
//! Softmax, the norms, rope and attention read a row of any float dtype and any stride into f32 (f64
//! where they compute in f64), work on plain slices, and write the row back. [`Real`] is what such a
//! kernel is generic over; its functions are inlined into the kernels' vectorised loops.

use crate::{convert, math};
use lazul_ir::{DType, Operand, Target};
use std::ops::{Add, AddAssign, Div, Mul, MulAssign, Neg, Sub};

/// Lanes of partial sums. Fixed, so that sums are the same bits at every instruction-set level
/// and for every number of threads.
pub(crate) const LANES: usize = 16;

/// f32 or f64: a type that kernels compute in.
pub(crate) trait Real:
    Copy
    + Send
    + Sync
    + PartialOrd
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + AddAssign
    + MulAssign
    + 'static
{
    const DTYPE: DType;
    const ZERO: Self;
    const ONE: Self;
    const INFINITY: Self;
    fn from_f64(x: f64) -> Self;
    fn to_f64(self) -> f64;
    /// `e^self`; 0 below the range, infinity above, NaN for NaN.
    fn exp(self) -> Self;
    fn is_finite(self) -> bool;

    /// Reads neighbouring elements of a float dtype.
    ///
    /// # Safety
    /// `src` must be valid for `dst.len()` elements of `dtype` and not overlap `dst`.
    unsafe fn load(src: *const u8, dtype: DType, dst: &mut [Self]);

    /// Writes neighbouring elements of a float dtype.
    ///
    /// # Safety
    /// `dst` must be valid for `src.len()` elements of `dtype` and not overlap `src`.
    unsafe fn store(src: &[Self], dtype: DType, dst: *mut u8);
}

impl Real for f32 {
    const DTYPE: DType = DType::F32;
    const ZERO: f32 = 0.0;
    const ONE: f32 = 1.0;
    const INFINITY: f32 = f32::INFINITY;
    #[inline(always)]
    fn from_f64(x: f64) -> f32 {
        x as f32
    }
    #[inline(always)]
    fn to_f64(self) -> f64 {
        self as f64
    }
    #[inline(always)]
    fn exp(self) -> f32 {
        math::exp(self)
    }
    #[inline(always)]
    fn is_finite(self) -> bool {
        f32::is_finite(self)
    }

    #[inline]
    unsafe fn load(src: *const u8, dtype: DType, dst: &mut [f32]) {
        if dtype == DType::F64 {
            // SAFETY: the caller vouches for the elements.
            let src = unsafe { std::slice::from_raw_parts(src.cast::<f64>(), dst.len()) };
            dst.iter_mut().zip(src).for_each(|(d, &s)| *d = s as f32);
        } else {
            // SAFETY: as above.
            unsafe { convert::load_f32(src, dtype, dst) }
        }
    }

    #[inline]
    unsafe fn store(src: &[f32], dtype: DType, dst: *mut u8) {
        if dtype == DType::F64 {
            // SAFETY: the caller vouches for the elements.
            let dst = unsafe { std::slice::from_raw_parts_mut(dst.cast::<f64>(), src.len()) };
            dst.iter_mut().zip(src).for_each(|(d, &s)| *d = s as f64);
        } else {
            // SAFETY: as above.
            unsafe { convert::store_f32(src, dtype, dst) }
        }
    }
}

impl Real for f64 {
    const DTYPE: DType = DType::F64;
    const ZERO: f64 = 0.0;
    const ONE: f64 = 1.0;
    const INFINITY: f64 = f64::INFINITY;
    #[inline(always)]
    fn from_f64(x: f64) -> f64 {
        x
    }
    #[inline(always)]
    fn to_f64(self) -> f64 {
        self
    }
    #[inline(always)]
    fn exp(self) -> f64 {
        math::double::exp(self)
    }
    #[inline(always)]
    fn is_finite(self) -> bool {
        f64::is_finite(self)
    }

    unsafe fn load(src: *const u8, dtype: DType, dst: &mut [f64]) {
        if dtype == DType::F64 {
            // SAFETY: the caller vouches for the elements.
            let src = unsafe { std::slice::from_raw_parts(src.cast::<f64>(), dst.len()) };
            dst.copy_from_slice(src);
        } else {
            for (i, d) in dst.iter_mut().enumerate() {
                // SAFETY: the caller vouches for element `i`.
                *d = unsafe { convert::load_f32_one(src.add(i * dtype.size()), dtype) } as f64;
            }
        }
    }

    unsafe fn store(src: &[f64], dtype: DType, dst: *mut u8) {
        for (i, &s) in src.iter().enumerate() {
            // SAFETY: the caller vouches for element `i`.
            unsafe {
                match dtype {
                    DType::F64 => dst.cast::<f64>().add(i).write(s),
                    DType::F16 => dst.cast::<half::f16>().add(i).write(half::f16::from_f64(s)),
                    DType::BF16 => dst.cast::<half::bf16>().add(i).write(half::bf16::from_f64(s)),
                    _ => dst.cast::<f32>().add(i).write(s as f32),
                }
            }
        }
    }
}

/// Reads `dst.len()` elements that lie `stride` elements apart.
///
/// # Safety
/// The elements must be valid, of float dtype `dtype`, and not overlap `dst`.
pub(crate) unsafe fn read<R: Real>(src: *const u8, dtype: DType, stride: isize, dst: &mut [R]) {
    if stride == 1 || dst.len() <= 1 {
        // SAFETY: the caller vouches for the elements.
        return unsafe { R::load(src, dtype, dst) };
    }
    if stride == 0 {
        // SAFETY: one element, read once.
        unsafe { R::load(src, dtype, &mut dst[..1]) };
        let first = dst[0];
        return dst.fill(first);
    }
    let mut bytes = [0u64; 64];
    let size = dtype.size();
    for (block, part) in dst.chunks_mut(64).enumerate() {
        for i in 0..part.len() {
            // SAFETY: the caller vouches for the element; the buffer holds 64 of any dtype.
            unsafe {
                let from = src.offset((block * 64 + i) as isize * stride * size as isize);
                let to = bytes.as_mut_ptr().cast::<u8>().add(i * size);
                match size {
                    2 => to.cast::<u16>().write(from.cast::<u16>().read()),
                    4 => to.cast::<u32>().write(from.cast::<u32>().read()),
                    _ => to.cast::<u64>().write(from.cast::<u64>().read()),
                }
            }
        }
        // SAFETY: the buffer holds `part.len()` elements of `dtype`.
        unsafe { R::load(bytes.as_ptr().cast(), dtype, part) };
    }
}

/// Reads one integer of any integer dtype; a u64 beyond i64 becomes the largest i64.
///
/// # Safety
/// `src` must be valid for one element of `dtype`.
#[inline(always)]
pub(crate) unsafe fn read_int(src: *const u8, dtype: DType) -> i64 {
    // SAFETY: the caller vouches for the element.
    unsafe {
        match dtype {
            DType::Bool | DType::U8 => *src as i64,
            DType::U16 => *src.cast::<u16>() as i64,
            DType::U32 => *src.cast::<u32>() as i64,
            DType::U64 => (*src.cast::<u64>()).min(i64::MAX as u64) as i64,
            DType::I8 => *src.cast::<i8>() as i64,
            DType::I16 => *src.cast::<i16>() as i64,
            DType::I32 => *src.cast::<i32>() as i64,
            DType::I64 => *src.cast::<i64>(),
            other => unreachable!("an index of dtype {other}"),
        }
    }
}

/// An operand as rows along its last axis.
pub(crate) struct Rows<'a> {
    operand: Operand<'a>,
    /// Length of a row.
    pub(crate) len: usize,
    /// Distance between neighbours in a row.
    pub(crate) stride: isize,
    /// Number of rows.
    pub(crate) count: usize,
}

impl<'a> Rows<'a> {
    pub(crate) fn new(operand: Operand<'a>) -> Rows<'a> {
        let len = operand.shape.last().copied().unwrap_or(1);
        let stride = operand.strides.last().copied().unwrap_or(1);
        let lead = operand.shape.len().saturating_sub(1);
        let count = operand.shape[..lead].iter().product();
        Rows { operand, len, stride, count }
    }

    /// Address of the first element of row `row`.
    #[inline]
    pub(crate) fn ptr(&self, row: usize) -> *const u8 {
        let lead = self.operand.shape.len().saturating_sub(1);
        let (shape, strides) = (&self.operand.shape[..lead], &self.operand.strides[..lead]);
        let offset = crate::strided::offset_of(row, shape, strides);
        self.operand.ptr.wrapping_offset(offset * self.operand.dtype.size() as isize)
    }

    /// Reads row `row`, from element `start`.
    ///
    /// # Safety
    /// The operand's memory must be live, and `start + dst.len() <= len`.
    #[inline]
    pub(crate) unsafe fn read<R: Real>(&self, row: usize, start: usize, dst: &mut [R]) {
        let dtype = self.operand.dtype;
        let skip = start as isize * self.stride * dtype.size() as isize;
        // SAFETY: the caller vouches for the elements.
        unsafe { read(self.ptr(row).wrapping_offset(skip), dtype, self.stride, dst) }
    }
}

/// A whole operand of float dtype, in row-major order.
///
/// # Safety
/// The operand's memory must be live.
pub(crate) unsafe fn to_vec<R: Real>(operand: &Operand<'_>) -> Vec<R> {
    let rows = Rows::new(*operand);
    let mut out = vec![R::ZERO; operand.size()];
    if rows.len > 0 {
        for (row, part) in out.chunks_mut(rows.len).enumerate() {
            // SAFETY: `row` is below the number of rows.
            unsafe { rows.read(row, 0, part) };
        }
    }
    out
}

/// A pointer that chunks of a parallel region share; each writes its own part.
pub(crate) struct Shared<T>(*mut T);

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Shared<T> {}

// SAFETY: an address; kernels that share one keep their parts disjoint.
unsafe impl<T> Send for Shared<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for Shared<T> {}

impl<T> Shared<T> {
    pub(crate) fn new(ptr: *mut T) -> Shared<T> {
        Shared(ptr)
    }

    #[inline(always)]
    pub(crate) fn get(self) -> *mut T {
        self.0
    }

    /// Elements `start..start + len`.
    ///
    /// # Safety
    /// They must be valid, initialised, and nobody else's for as long as the slice lives.
    #[inline(always)]
    pub(crate) unsafe fn slice<'a>(self, start: usize, len: usize) -> &'a mut [T] {
        // SAFETY: the caller vouches for the elements.
        unsafe { std::slice::from_raw_parts_mut(self.0.add(start), len) }
    }
}

/// Address of element `index` of a target, in row-major order.
#[inline(always)]
pub(crate) fn at(target: &Target<'_>, index: usize) -> *mut u8 {
    target.ptr.wrapping_add(index * target.dtype.size())
}

/// Runs `f` with a target that shares no memory with the operands: the given one, or where an
/// operand was donated to it, scratch memory that is copied over at the end.
pub(crate) fn apart<T>(
    target: &Target<'_>,
    operands: &[Operand<'_>],
    f: impl FnOnce(&Target<'_>) -> T,
) -> T {
    let bytes = target.size() * target.dtype.size();
    let (low, high) = (target.ptr as usize, target.ptr as usize + bytes);
    let meets = |o: &Operand<'_>| {
        let (mut first, mut last) = (o.ptr as isize, o.ptr as isize + o.dtype.size() as isize);
        for (&d, &s) in o.shape.iter().zip(o.strides) {
            let reach = (d as isize - 1) * s * o.dtype.size() as isize;
            if reach < 0 { first += reach } else { last += reach }
        }
        o.size() > 0 && (first as usize) < high && low < last as usize
    };
    if !operands.iter().any(meets) {
        return f(target);
    }
    let mut scratch = vec![0u64; bytes.div_ceil(8)];
    let result = f(&Target { ptr: scratch.as_mut_ptr().cast(), ..*target });
    // SAFETY: both hold `bytes` bytes.
    unsafe { std::ptr::copy_nonoverlapping(scratch.as_ptr().cast(), target.ptr, bytes) };
    result
}

//! Elements of any dtype and strides as neighbouring elements of a compute type, and back: what
//! reductions and scans read and write.

use crate::convert::{load_f32, store_f32};
use crate::copy::copy_row;
use crate::elementwise::{cast, kernels::Kernel};
use crate::strided::rows;
use lazul_ir::DType;
use std::mem::MaybeUninit;

/// Most elements loaded at once.
pub(crate) const BLOCK: usize = 1024;

/// How many rows ahead of their use rows are fetched.
pub(crate) const AHEAD: usize = 6;

/// Asks for `bytes` bytes from an address on, which need not be valid.
#[inline(always)]
pub(crate) fn prefetch(ptr: *const u8, bytes: usize) {
    #[cfg(target_arch = "x86_64")]
    for k in (0..bytes).step_by(64) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: prefetching does not fault, whatever the address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(ptr.wrapping_add(k).cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (ptr, bytes);
}

/// Fetches row `r` of `bytes` bytes, rows being `stride` bytes apart, into the cache. The hardware
/// does so by itself within a page, but not from a row to the next where rows lie far apart.
#[inline(always)]
pub(crate) fn prefetch_row(src: *const u8, r: usize, stride: isize, bytes: usize) {
    if stride.unsigned_abs() >= 2048 {
        prefetch(src.wrapping_offset(r as isize * stride), bytes);
    }
}

/// Room for a block in each stage of conversion.
#[repr(align(64))]
pub(crate) struct Scratch([MaybeUninit<[u64; BLOCK]>; 3]);

impl Scratch {
    pub(crate) const fn new() -> Scratch {
        Scratch([const { MaybeUninit::uninit() }; 3])
    }
}

/// Conversion from a stored dtype to the compute type of another.
#[derive(Clone, Copy)]
pub(crate) struct Loader {
    from: DType,
    cast: Option<Kernel>,
}

impl Loader {
    /// From `from` to `to`'s compute type.
    pub(crate) fn new(from: DType, to: DType) -> Loader {
        let (f, t) = (from.compute(), to.compute());
        Loader { from, cast: (f != t).then(|| cast::kernel(f, t)) }
    }

    /// Whether elements are used as they are stored.
    pub(crate) fn is_direct(&self) -> bool {
        self.cast.is_none() && self.from.compute() == self.from
    }

    /// Bytes of a stored element.
    pub(crate) fn size(&self) -> usize {
        self.from.size()
    }

    /// `len <= BLOCK` elements, `stride` apart. The result lies in the operand or the scratch.
    ///
    /// # Safety
    /// The elements must be valid, and the result's type that of the conversion.
    #[inline]
    pub(crate) unsafe fn run<'a, T>(
        &self,
        src: *const u8,
        stride: isize,
        len: usize,
        scratch: &'a mut Scratch,
    ) -> &'a [T] {
        // SAFETY: the caller's promise.
        unsafe { self.sequence(src, &[len], &[stride], 0, len, scratch) }
    }

    /// Elements `start..start + len` in row-major order of `shape`, `len <= BLOCK`.
    ///
    /// # Safety
    /// As for [`Loader::run`].
    #[inline]
    pub(crate) unsafe fn sequence<'a, T>(
        &self,
        src: *const u8,
        shape: &[usize],
        strides: &[isize],
        start: usize,
        len: usize,
        scratch: &'a mut Scratch,
    ) -> &'a [T] {
        let [raw, wide, done] = &mut scratch.0;
        let raw = raw.as_mut_ptr().cast::<u8>();
        // SAFETY: the caller's promise; the scratch holds `BLOCK` elements of any type.
        unsafe {
            let mut at = if let [1] = strides {
                src.add(start * self.from.size())
            } else {
                match self.from.size() {
                    1 => gather::<u8>(src, shape, strides, start, len, raw),
                    2 => gather::<u16>(src, shape, strides, start, len, raw),
                    4 => gather::<u32>(src, shape, strides, start, len, raw),
                    _ => gather::<u64>(src, shape, strides, start, len, raw),
                }
                raw.cast_const()
            };
            if self.from.compute() != self.from {
                let wide = wide.as_mut_ptr().cast::<f32>();
                load_f32(at, self.from, std::slice::from_raw_parts_mut(wide, len));
                at = wide.cast_const().cast();
            }
            if let Some(Kernel::One(cast)) = self.cast {
                let done = done.as_mut_ptr().cast::<u8>();
                cast(at, done, len);
                at = done;
            }
            std::slice::from_raw_parts(at.cast(), len)
        }
    }
}

/// Gathers elements `at..at + len` in row-major order.
///
/// # Safety
/// `src` must be valid for the layout and `dst` for `len` elements.
pub(crate) unsafe fn gather<T: Copy>(
    src: *const u8,
    shape: &[usize],
    strides: &[isize],
    at: usize,
    len: usize,
    dst: *mut u8,
) {
    let (src, dst) = (src.cast::<T>(), dst.cast::<T>());
    let step = strides[strides.len() - 1];
    rows(shape, [strides], at, at + len, |i, [offset], n| {
        // SAFETY: `rows` stays inside the layout and the range.
        unsafe { copy_row(src.offset(offset), step, dst.add(i - at), 1, n) };
    });
}

/// Writes compute values to elements `step` apart of a stored dtype, rounding to a half type.
///
/// # Safety
/// The places must be valid, and `T` the compute type of `dtype`.
pub(crate) unsafe fn store<T: Copy>(values: &[T], dtype: DType, dst: *mut u8, step: isize) {
    // SAFETY: the caller's promise.
    unsafe {
        if dtype.compute() == dtype {
            return copy_row(values.as_ptr(), 1, dst.cast::<T>(), step, values.len());
        }
        let values = std::slice::from_raw_parts(values.as_ptr().cast::<f32>(), values.len());
        if step == 1 {
            return store_f32(values, dtype, dst);
        }
        let mut half = [0u16; 64];
        for (k, part) in values.chunks(64).enumerate() {
            store_f32(part, dtype, half.as_mut_ptr().cast());
            let dst = dst.cast::<u16>().offset((k * 64) as isize * step);
            copy_row(half.as_ptr(), 1, dst, step, part.len());
        }
    }
}

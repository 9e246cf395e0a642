//! Copies from any strides to any strides.
//!
//! Dimensions are merged first. Rows that are contiguous on both sides go through `memcpy`. Where
//! the source runs along another axis than the destination (a transposition), tiles of one cache
//! line each way are turned in registers, so every line is read and written once. The rest is
//! gathered element by element. Work is cut by row-major position, whatever the shape.

use crate::load::prefetch_row;
use crate::pool::parallel_ranges;
use crate::strided::{collapse, offset_of, rows};
use lazul_ir::{Job, Shape};
use smallvec::SmallVec;

/// Bytes a task copies.
const GRAIN: usize = 256 << 10;

/// The operand in row-major order.
pub(crate) fn copy(job: &Job<'_>) {
    let (src, dst) = (&job.inputs[0], &job.outputs[0]);
    if src.is_contiguous() {
        // SAFETY: both hold the output's elements without gaps.
        return unsafe { copy_bytes(src.ptr, dst.ptr, dst.size() * dst.dtype.size()) };
    }
    let strides = Shape::new(src.shape).strides();
    // SAFETY: the job's operands are valid for their layouts and do not overlap.
    unsafe { copy_strided(src.shape, src.dtype.size(), src.ptr, src.strides, dst.ptr, &strides) }
}

/// A pointer that tasks may share: they touch disjoint parts.
#[derive(Clone, Copy)]
pub(crate) struct Shared<T>(pub(crate) T);
// SAFETY: whoever makes one vouches that tasks write disjoint parts.
unsafe impl<T> Send for Shared<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for Shared<T> {}
impl<T: Copy> Shared<T> {
    /// The pointer; a method, so that closures capture the wrapper.
    #[inline(always)]
    pub(crate) fn get(&self) -> T {
        self.0
    }
}

/// `memcpy` by several threads.
///
/// # Safety
/// As for [`std::ptr::copy_nonoverlapping`], except that `src` may equal `dst`.
pub(crate) unsafe fn copy_bytes(src: *const u8, dst: *mut u8, bytes: usize) {
    if src == dst.cast_const() || bytes == 0 {
        return;
    }
    let pointers = Shared((src, dst));
    parallel_ranges(bytes, GRAIN, |start, end| {
        let (src, dst) = pointers.get();
        // SAFETY: the range lies inside both.
        unsafe { std::ptr::copy_nonoverlapping(src.add(start), dst.add(start), end - start) };
    });
}

/// Copies elements of `size` bytes (1, 2, 4 or 8) between two layouts of one shape.
///
/// # Safety
/// Both pointers must be valid for their layouts, which must not overlap one another; the
/// destination's elements must be distinct.
pub(crate) unsafe fn copy_strided(
    shape: &[usize],
    size: usize,
    src: *const u8,
    src_strides: &[isize],
    dst: *mut u8,
    dst_strides: &[isize],
) {
    if shape.contains(&0) {
        return;
    }
    // SAFETY: the caller's promise, for an element type of that size.
    unsafe {
        match size {
            1 => typed::<u8>(shape, src, src_strides, dst, dst_strides),
            2 => typed::<u16>(shape, src, src_strides, dst, dst_strides),
            4 => typed::<u32>(shape, src, src_strides, dst, dst_strides),
            8 => typed::<u64>(shape, src, src_strides, dst, dst_strides),
            _ => unreachable!("elements of {size} bytes"),
        }
    }
}

/// # Safety
/// As for [`copy_strided`].
unsafe fn typed<T: Copy + Send + Sync>(
    shape: &[usize],
    src: *const u8,
    src_strides: &[isize],
    dst: *mut u8,
    dst_strides: &[isize],
) {
    let c = collapse(shape, &[src_strides, dst_strides]);
    let (src, dst) = (src.cast::<T>(), dst.cast::<T>());
    let n: usize = c.shape.iter().product();
    let last = c.shape.len() - 1;
    let (s, d) = (c.strides[0][last], c.strides[1][last]);
    if c.shape.len() == 1 && s == 1 && d == 1 {
        // SAFETY: one contiguous run on both sides.
        return unsafe { copy_bytes(src.cast(), dst.cast(), n * size_of::<T>()) };
    }
    if s != 1 && d == 1 && c.shape[last] > 1 {
        let across = (0..last).find(|&a| c.strides[0][a] == 1 && c.shape[a] > 1);
        if let Some(axis) = across {
            // SAFETY: the caller's promise.
            return unsafe { transpose(&c.shape, axis, src, &c.strides[0], dst, &c.strides[1]) };
        }
    }
    let pointers = Shared((src, dst));
    parallel_ranges(n, GRAIN / size_of::<T>(), |start, end| {
        let (src, dst) = pointers.get();
        rows(&c.shape, [&c.strides[0], &c.strides[1]], start, end, |_, [so, d0], len| {
            // SAFETY: `rows` stays inside the layouts.
            unsafe { copy_row(src.offset(so), s, dst.offset(d0), d, len) };
        });
    });
}

/// # Safety
/// `len` elements at these distances must be valid, and the two runs must not overlap.
#[inline]
pub(crate) unsafe fn copy_row<T: Copy>(src: *const T, s: isize, dst: *mut T, d: isize, len: usize) {
    // SAFETY: the caller's promise; every index is below `len`.
    unsafe {
        match (s, d) {
            (1, 1) if len * size_of::<T>() >= 64 => std::ptr::copy_nonoverlapping(src, dst, len),
            (1, 1) => (0..len).for_each(|i| *dst.add(i) = *src.add(i)),
            (0, 1) => std::slice::from_raw_parts_mut(dst, len).fill(*src),
            (-1, 1) => {
                let low = src.offset(1 - len as isize);
                (0..len).for_each(|i| *dst.add(i) = *low.add(len - 1 - i));
            }
            (2, 1) => (0..len).for_each(|i| *dst.add(i) = *src.add(2 * i)),
            (_, 1) => (0..len).for_each(|i| *dst.add(i) = *src.offset(i as isize * s)),
            _ => (0..len as isize).for_each(|i| *dst.offset(i * d) = *src.offset(i * s)),
        }
    }
}

/// Copies where the source is contiguous along `axis` and the destination along the last axis.
///
/// # Safety
/// As for [`copy_strided`].
unsafe fn transpose<T: Copy + Send + Sync>(
    shape: &[usize],
    axis: usize,
    src: *const T,
    src_strides: &[isize],
    dst: *mut T,
    dst_strides: &[isize],
) {
    let last = shape.len() - 1;
    let (height, width) = (shape[axis], shape[last]);
    let (s, d) = (src_strides[last], dst_strides[axis]);
    let line = 64 / size_of::<T>();
    // What remains beside the two axes of a plane.
    let rest: SmallVec<[usize; 6]> = (0..last).filter(|&a| a != axis).collect();
    let outer: SmallVec<[usize; 6]> = rest.iter().map(|&a| shape[a]).collect();
    let outer_src: SmallVec<[isize; 6]> = rest.iter().map(|&a| src_strides[a]).collect();
    let outer_dst: SmallVec<[isize; 6]> = rest.iter().map(|&a| dst_strides[a]).collect();
    // A strip is a line's worth of `axis` by a long stretch of the last axis.
    let stretch = 64 * line;
    let strips = height.div_ceil(line);
    let stretches = width.div_ceil(stretch);
    let planes: usize = outer.iter().product();
    let tasks = planes * strips * stretches;
    let strip_bytes = line.min(height) * stretch.min(width) * size_of::<T>();
    let pointers = Shared((src, dst));
    parallel_ranges(tasks, (GRAIN / strip_bytes).max(1), |start, end| {
        let (src, dst) = pointers.get();
        for task in start..end {
            let (plane, within) = (task / (strips * stretches), task % (strips * stretches));
            // Neighbouring tasks write neighbouring rows.
            let (j0, i0) = (within / strips * stretch, within % strips * line);
            let (h, w) = (line.min(height - i0), stretch.min(width - j0));
            // SAFETY: all positions are inside the layouts.
            unsafe {
                let src = src.offset(offset_of(plane, &outer, &outer_src));
                let dst = dst.offset(offset_of(plane, &outer, &outer_dst));
                let src = src.offset(i0 as isize + j0 as isize * s);
                let dst = dst.offset(i0 as isize * d + j0 as isize);
                strip(src, s, dst, d, h, w);
            }
        }
    });
}

/// `dst[i * d + j] = src[j * s + i]` for `i < h`, `j < w`.
///
/// # Safety
/// All these positions must be valid; `h` is at most a cache line of elements.
unsafe fn strip<T: Copy>(src: *const T, s: isize, dst: *mut T, d: isize, h: usize, w: usize) {
    let line = 64 / size_of::<T>();
    let mut j = 0;
    #[cfg(target_arch = "x86_64")]
    if h == line {
        while j + line <= w {
            for k in 0..line {
                let ahead = (j + 2 * line + k) as isize * s;
                prefetch_row(src.wrapping_offset(ahead).cast(), 0, 4096, 64);
            }
            // SAFETY: a full tile lies inside.
            unsafe { sse2::tile(src.offset(j as isize * s), s, dst.add(j), d) };
            j += line;
        }
    }
    for j0 in (j..w).step_by(line) {
        let stop = (j0 + line).min(w);
        for i in 0..h {
            for j in j0..stop {
                // SAFETY: the caller's promise.
                unsafe {
                    *dst.offset(i as isize * d + j as isize) =
                        *src.offset(j as isize * s + i as isize)
                };
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod sse2 {
    use std::arch::x86_64::*;

    /// Turns a tile of one cache line each way. SSE2 is part of every x86-64.
    ///
    /// # Safety
    /// The tile must be valid at both ends.
    pub(super) unsafe fn tile<T: Copy>(src: *const T, s: isize, dst: *mut T, d: isize) {
        // SAFETY: the caller's promise; the parts below make up the tile.
        unsafe {
            match size_of::<T>() {
                1 => lines::<T, 16>(src, s, dst, d),
                2 => lines::<T, 8>(src, s, dst, d),
                4 => lines::<T, 4>(src, s, dst, d),
                _ => lines::<T, 2>(src, s, dst, d),
            }
        }
    }

    /// The tile as 4 by 4 squares of `N` by `N` elements, each in `N` registers of 16 bytes.
    unsafe fn lines<T: Copy, const N: usize>(src: *const T, s: isize, dst: *mut T, d: isize) {
        #[repr(align(64))]
        struct Tile {
            _bytes: [[u8; 64]; 64],
        }
        let mut tile = std::mem::MaybeUninit::<Tile>::uninit();
        let buffer = tile.as_mut_ptr().cast::<u8>();
        // SAFETY: squares `(p, q)` with `p, q < 4` cover the tile, and the buffer holds `4 * N`
        // lines of 64 bytes.
        unsafe {
            for q in 0..4 {
                for p in 0..4 {
                    let at = src.offset((q * N) as isize * s + (p * N) as isize);
                    let mut r = [_mm_setzero_si128(); N];
                    for (k, r) in r.iter_mut().enumerate() {
                        *r = _mm_loadu_si128(at.offset(k as isize * s).cast());
                    }
                    // Each pass interleaves row k with row k + N/2; log2(N) of them transpose.
                    let mut passes = N;
                    while passes > 1 {
                        let mut t = r;
                        for k in 0..N / 2 {
                            let (low, high) = interleave::<N>(r[k], r[k + N / 2]);
                            t[2 * k] = low;
                            t[2 * k + 1] = high;
                        }
                        r = t;
                        passes /= 2;
                    }
                    for (k, r) in r.iter().enumerate() {
                        _mm_store_si128(buffer.add((p * N + k) * 64 + q * 16).cast(), *r);
                    }
                }
            }
            for i in 0..4 * N {
                let from = buffer.add(i * 64).cast::<__m128i>();
                let to = dst.offset(i as isize * d).cast::<__m128i>();
                for k in 0..4 {
                    _mm_storeu_si128(to.add(k), _mm_load_si128(from.add(k)));
                }
            }
        }
    }

    #[inline(always)]
    fn interleave<const N: usize>(a: __m128i, b: __m128i) -> (__m128i, __m128i) {
        // SAFETY: SSE2 is part of every x86-64.
        unsafe {
            match N {
                16 => (_mm_unpacklo_epi8(a, b), _mm_unpackhi_epi8(a, b)),
                8 => (_mm_unpacklo_epi16(a, b), _mm_unpackhi_epi16(a, b)),
                4 => (_mm_unpacklo_epi32(a, b), _mm_unpackhi_epi32(a, b)),
                _ => (_mm_unpacklo_epi64(a, b), _mm_unpackhi_epi64(a, b)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{Rng, Tensor, inline, layouts, run};
    use lazul_ir::{DType, Prim};

    fn check(t: &Tensor, name: &str) {
        let out = run(&Prim::Copy, &[t], t.dtype, &t.shape);
        assert_eq!(out.bits(), t.bits(), "{name} {:?} of {}", t.shape, t.dtype);
    }

    #[test]
    fn every_layout_and_size_copies() {
        let mut rng = Rng(7);
        for dtype in [DType::U8, DType::BF16, DType::F32, DType::C64] {
            for shape in
                [&[][..], &[1], &[0, 3], &[5], &[3, 4], &[65, 130], &[7, 1, 33, 66], &[200, 3]]
            {
                let t = rng.tensor(dtype, shape, 0.0, 200.0);
                for (name, l) in layouts(&t) {
                    check(&l, name);
                }
            }
        }
    }

    #[test]
    fn every_permutation_copies() {
        let mut rng = Rng(8);
        for dtype in [DType::I8, DType::F16, DType::I32, DType::F64] {
            let t = rng.tensor(dtype, &[19, 70, 67], -100.0, 100.0);
            for p in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
                check(&t.transpose(&p), "permuted");
            }
        }
    }

    #[test]
    fn broadcasts_copy() {
        let mut rng = Rng(9);
        let row = rng.tensor(DType::F32, &[1, 50], 0.0, 1.0);
        check(&row.broadcast(&[30, 50]), "row");
        let column = rng.tensor(DType::F32, &[50, 1], 0.0, 1.0);
        check(&column.broadcast(&[50, 300]), "column");
        check(&rng.tensor(DType::U8, &[], 0.0, 9.0).broadcast(&[4, 5]), "scalar");
    }

    #[test]
    fn large_copies_do_not_depend_on_threads() {
        let t = Rng(10).tensor(DType::F32, &[600, 900], 0.0, 1.0);
        for l in [t.clone(), t.transpose(&[1, 0])] {
            check(&l, "large");
            let one = inline(|| run(&Prim::Copy, &[&l], l.dtype, &l.shape));
            assert_eq!(one.bits(), l.bits());
        }
    }
}

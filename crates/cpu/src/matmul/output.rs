//! Where products go: row-major memory of any dtype.

use super::driver::Store;
use crate::convert;
#[cfg(target_arch = "x86_64")]
use crate::isa::{Isa, isa};
use lazul_ir::DType;

/// Row-major `(batch, m, n)` memory of any dtype.
pub(crate) struct Output {
    pub(crate) ptr: *mut u8,
    pub(crate) dtype: DType,
    pub(crate) m: usize,
    pub(crate) n: usize,
    /// Whether products compute the transpose of what is stored.
    pub(crate) transposed: bool,
}

// SAFETY: tiles are disjoint, and the target has no other user while its job runs.
unsafe impl Sync for Output {}

impl Output {
    /// Address and stride of `count` elements that start with row `row`, column `col` of a product.
    fn at(&self, batch: usize, row: usize, col: usize) -> (*mut u8, usize) {
        let (row, col, step) = if self.transposed { (col, row, self.n) } else { (row, col, 1) };
        let element = (batch * self.m + row) * self.n + col;
        // SAFETY: the element lies inside the target.
        (unsafe { self.ptr.add(element * self.dtype.size()) }, step)
    }

    /// Writes a tile of elements through `convert`.
    ///
    /// # Safety
    /// `S` must be the type of `dtype`, and the tile must lie inside the product.
    unsafe fn write<T: Copy, S>(
        &self,
        (batch, row, col): (usize, usize, usize),
        cols: usize,
        tile: &[T],
        ld: usize,
        convert: impl Fn(T) -> S,
    ) {
        for (i, line) in tile.chunks(ld).enumerate() {
            let (ptr, step) = self.at(batch, row + i, col);
            for (j, &x) in line[..cols].iter().enumerate() {
                // SAFETY: the caller vouches for the tile.
                unsafe { ptr.cast::<S>().add(j * step).write(convert(x)) };
            }
        }
    }
}

impl Store<f32> for Output {
    fn direct(&self, batch: usize) -> Option<(*mut f32, usize)> {
        let here = self.dtype == DType::F32 && !self.transposed;
        here.then(|| (self.at(batch, 0, 0).0.cast(), self.n))
    }

    fn place(&self, batch: usize, row: usize, col: usize) -> Option<(*const u8, usize)> {
        let step = self.n * self.dtype.size();
        (!self.transposed).then(|| (self.at(batch, row, col).0.cast_const(), step))
    }

    fn store(
        &self,
        batch: usize,
        row: usize,
        col: usize,
        rows: usize,
        cols: usize,
        tile: &[f32],
        ld: usize,
    ) {
        let place = (batch, row, col);
        #[cfg(target_arch = "x86_64")]
        if isa() == Isa::Avx512 && !self.transposed && self.dtype != DType::C64 {
            assert!(cols <= ld && tile.len() >= rows * ld);
            let (dst, step) = (self.at(batch, row, col).0, self.n * self.dtype.size());
            // SAFETY: the driver stores tiles inside the product; the level has AVX-512.
            return unsafe {
                match self.dtype {
                    DType::F32 => wide::store::<wide::F32>(tile, ld, rows, cols, dst, step),
                    DType::F16 => wide::store::<wide::F16>(tile, ld, rows, cols, dst, step),
                    _ => wide::store::<wide::Bf16>(tile, ld, rows, cols, dst, step),
                }
            };
        }
        let tile = &tile[..rows * ld];
        // SAFETY: the driver stores tiles inside the product; types follow the dtype.
        unsafe {
            match self.dtype {
                DType::C64 => {
                    for (i, pair) in tile.chunks(2 * ld).enumerate() {
                        let (ptr, step) = self.at(batch, row / 2 + i, col);
                        for j in 0..cols {
                            ptr.cast::<[f32; 2]>().add(j * step).write([pair[j], pair[ld + j]]);
                        }
                    }
                }
                DType::F32 => self.write(place, cols, tile, ld, |x| x),
                _ if !self.transposed => {
                    for (i, line) in tile.chunks(ld).enumerate() {
                        convert::store_f32(
                            &line[..cols],
                            self.dtype,
                            self.at(batch, row + i, col).0,
                        );
                    }
                }
                DType::F16 => self.write(place, cols, tile, ld, half::f16::from_f32),
                _ => self.write(place, cols, tile, ld, half::bf16::from_f32),
            }
        }
    }
}

impl Store<f64> for Output {
    fn direct(&self, batch: usize) -> Option<(*mut f64, usize)> {
        (!self.transposed).then(|| (self.at(batch, 0, 0).0.cast(), self.n))
    }

    fn store(
        &self,
        batch: usize,
        row: usize,
        col: usize,
        rows: usize,
        cols: usize,
        tile: &[f64],
        ld: usize,
    ) {
        // SAFETY: the driver stores tiles inside the product; the dtype is f64.
        unsafe { self.write((batch, row, col), cols, &tile[..rows * ld], ld, |x| x) }
    }
}

impl Store<i64> for Output {
    fn direct(&self, batch: usize) -> Option<(*mut i64, usize)> {
        (!self.transposed).then(|| (self.at(batch, 0, 0).0.cast(), self.n))
    }

    fn store(
        &self,
        batch: usize,
        row: usize,
        col: usize,
        rows: usize,
        cols: usize,
        tile: &[i64],
        ld: usize,
    ) {
        // SAFETY: the driver stores tiles inside the product; the dtype has 64 bits.
        unsafe { self.write((batch, row, col), cols, &tile[..rows * ld], ld, |x| x) }
    }
}

impl Store<i32> for Output {
    fn direct(&self, batch: usize) -> Option<(*mut i32, usize)> {
        let here = self.dtype.size() == 4 && !self.transposed;
        here.then(|| (self.at(batch, 0, 0).0.cast(), self.n))
    }

    fn store(
        &self,
        batch: usize,
        row: usize,
        col: usize,
        rows: usize,
        cols: usize,
        tile: &[i32],
        ld: usize,
    ) {
        let (place, tile) = ((batch, row, col), &tile[..rows * ld]);
        // SAFETY: the driver stores tiles inside the product; types have the dtype's size.
        unsafe {
            match self.dtype.size() {
                // The sum of zeros and ones is the number of products that are true.
                1 if self.dtype == DType::Bool => {
                    self.write(place, cols, tile, ld, |x| (x != 0) as u8)
                }
                1 => self.write(place, cols, tile, ld, |x| x as u8),
                2 => self.write(place, cols, tile, ld, |x| x as u16),
                _ => self.write(place, cols, tile, ld, |x| x),
            }
        }
    }
}

/// Rows of f32 to memory of a dtype (AVX-512).
#[cfg(target_arch = "x86_64")]
mod wide {
    use std::arch::x86_64::*;

    /// A dtype that f32 is stored as.
    pub(super) trait Stored {
        /// Bytes of an element.
        const SIZE: usize;

        /// Rounds and stores the elements in `mask`.
        ///
        /// # Safety
        /// They must be writable; the level must have AVX-512.
        unsafe fn store(dst: *mut u8, mask: __mmask16, x: __m512);
    }

    pub(super) struct F32;
    pub(super) struct F16;
    pub(super) struct Bf16;

    impl Stored for F32 {
        const SIZE: usize = 4;

        #[inline(always)]
        unsafe fn store(dst: *mut u8, mask: __mmask16, x: __m512) {
            // SAFETY: the caller's contract.
            unsafe { _mm512_mask_storeu_ps(dst.cast(), mask, x) }
        }
    }

    impl Stored for F16 {
        const SIZE: usize = 2;

        #[inline(always)]
        unsafe fn store(dst: *mut u8, mask: __mmask16, x: __m512) {
            // SAFETY: the caller's contract.
            unsafe {
                let half = _mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(x);
                _mm256_mask_storeu_epi16(dst.cast(), mask, half);
            }
        }
    }

    impl Stored for Bf16 {
        const SIZE: usize = 2;

        #[inline(always)]
        unsafe fn store(dst: *mut u8, mask: __mmask16, x: __m512) {
            // SAFETY: the caller's contract.
            unsafe {
                let bits = _mm512_castps_si512(x);
                let one = _mm512_set1_epi32(1);
                let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), one);
                let half = _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff));
                let nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(x, x);
                let quiet = _mm512_or_si512(bits, _mm512_set1_epi32(0x40_0000));
                let bits = _mm512_mask_mov_epi32(_mm512_add_epi32(bits, half), nan, quiet);
                let words = _mm512_cvtepi32_epi16(_mm512_srli_epi32::<16>(bits));
                _mm256_mask_storeu_epi16(dst.cast(), mask, words);
            }
        }
    }

    /// Stores `rows` rows of `cols` elements at distance `step` bytes.
    ///
    /// # Safety
    /// They must be writable, the tile must have rows of `ld >= cols`, and the level AVX-512.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    pub(super) unsafe fn store<S: Stored>(
        tile: &[f32],
        ld: usize,
        rows: usize,
        cols: usize,
        dst: *mut u8,
        step: usize,
    ) {
        for i in 0..rows {
            let (src, dst) = (tile.as_ptr().wrapping_add(i * ld), dst.wrapping_add(i * step));
            for j in (0..cols).step_by(16) {
                let mask = ((1u32 << (cols - j).min(16)) - 1) as __mmask16;
                // SAFETY: the caller vouches for rows of both.
                unsafe {
                    let x = _mm512_maskz_loadu_ps(mask, src.add(j));
                    S::store(dst.add(j * S::SIZE), mask, x);
                }
            }
        }
    }
}

//! Products of few rows with blocks, each of which passes through the registers once.
//!
//! A weight matrix is a stream of bytes here: threads take runs of its rows, so memory is read from front
//! to back. In the common formats a block turns into vectors that are multiplied at once ([`wide`]);
//! in the others a row of weights becomes an array in the first cache, and rows are multiplied with that.
//! Sums run in 32 lanes (16, 8 or fewer where vectors are shorter), element `i` in lane `i % 32`, and
//! lanes are added in a fixed order: the result does not hang on the number of rows or threads.

use super::{GRAIN, Weights, unpack};
#[cfg(target_arch = "x86_64")]
use crate::isa::{Isa, isa};
use crate::matmul::Output;
use crate::matmul::driver::{Pack, Store, with_scratch};
use crate::matmul::pack::Dense;
use crate::pool;
#[cfg(target_arch = "x86_64")]
use lazul_ir::BlockFormat;

/// `c (m, n) = x (m, k) · wᵀ` for each matrix of a batch; `k` is not zero.
pub(super) fn products(
    w: &Weights,
    (batch, m, n, k): (usize, usize, usize, usize),
    x: &Dense,
    c: &Output,
) {
    with_scratch::<f32, _>(m * k, |rows| {
        for batch in 0..batch {
            for (i, row) in rows.chunks_exact_mut(k).enumerate() {
                Pack::<f32>::pack(x, batch, i..i + 1, 0..k, 1, row);
            }
            let rows = &*rows;
            pool::parallel_ranges(n, GRAIN / k, |start, end| {
                let width = end - start;
                with_scratch::<f32, _>(m * width, |tile| {
                    columns(w, batch, start, rows, tile, width, k);
                    c.store(batch, 0, start, m, width, tile, width);
                });
            });
        }
    });
}

/// Columns `start..start + width` of a product, as a tile of rows.
fn columns(
    w: &Weights,
    batch: usize,
    start: usize,
    rows: &[f32],
    tile: &mut [f32],
    width: usize,
    k: usize,
) {
    let blocks = 0..k / w.format.elements();
    #[cfg(target_arch = "x86_64")]
    if isa() == Isa::Avx512
        && let Some(run) = wide::of(w.format)
    {
        for j in 0..width {
            // SAFETY: a whole stored row, and as many elements of each row; the level has AVX-512.
            unsafe {
                let blocks = w.blocks(batch, start + j, blocks.clone());
                run(blocks, rows, k, &mut tile[j..], width);
            }
        }
        return;
    }
    with_scratch::<f32, _>(k, |line| {
        for j in 0..width {
            unpack(w.format, w.blocks(batch, start + j, blocks.clone()), line);
            for (i, row) in rows.chunks_exact(k).enumerate() {
                tile[i * width + j] = dot(line, row);
            }
        }
    });
}

/// The sum of the products of two lines.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx2,fma")]
        fn avx2(a: &[f32], b: &[f32]) -> f32 {
            dot_any(a, b, f32::mul_add)
        }
        #[target_feature(enable = "avx512f,avx512vl,avx512dq")]
        fn avx512(a: &[f32], b: &[f32]) -> f32 {
            dot_any(a, b, f32::mul_add)
        }
        match isa() {
            // SAFETY: the level has these instructions.
            Isa::Avx512 => return unsafe { avx512(a, b) },
            // SAFETY: the level has these instructions.
            Isa::Avx2 => return unsafe { avx2(a, b) },
            Isa::Scalar => {}
        }
    }
    dot_any(a, b, |x, y, sum| x * y + sum)
}

/// Lines are whole blocks, so their length is a multiple of 32.
#[inline(always)]
fn dot_any(a: &[f32], b: &[f32], mul_add: impl Fn(f32, f32, f32) -> f32) -> f32 {
    let mut sums = [0f32; 32];
    for (a, b) in a.chunks_exact(32).zip(b.chunks_exact(32)) {
        for ((sum, &x), &y) in sums.iter_mut().zip(a).zip(b) {
            *sum = mul_add(x, y, *sum);
        }
    }
    let mut n = 16;
    while n > 0 {
        for i in 0..n {
            sums[i] += sums[i + n];
        }
        n /= 2;
    }
    sums[0]
}

/// The formats whose blocks turn into vectors of 16 (AVX-512).
#[cfg(target_arch = "x86_64")]
mod wide {
    use super::super::formats::{Format, Q4_0, Q4K, Q6K, Q8_0, six_bits};
    use super::BlockFormat;
    use std::arch::x86_64::*;

    /// One stored row with all rows: `tile[i * width]` becomes the sum for row `i`.
    ///
    /// # Safety
    /// The row of blocks stands for `k` elements, `rows` holds rows of as many, `tile` has a place for
    /// each, and the processor must have AVX-512 BW, DQ and VL.
    type Run = unsafe fn(blocks: &[u8], rows: &[f32], k: usize, tile: &mut [f32], width: usize);

    pub(super) fn of(format: BlockFormat) -> Option<Run> {
        Some(match format {
            BlockFormat::Q4_0 => each::<Q4_0>,
            BlockFormat::Q8_0 => each::<Q8_0>,
            BlockFormat::Q4K => each::<Q4K>,
            BlockFormat::Q6K => each::<Q6K>,
            BlockFormat::Q4_1
            | BlockFormat::Q5_0
            | BlockFormat::Q5_1
            | BlockFormat::Q2K
            | BlockFormat::Q3K
            | BlockFormat::Q5K => return None,
        })
    }

    /// A format with vectors. A block is cut into pieces of `VECTORS` vectors.
    trait Wide: Format {
        /// At most four; twice as many where there is one piece alone would need no head.
        const VECTORS: usize;
        /// What the pieces of a block share.
        type Head;

        /// # Safety
        /// `block` must be a whole block; AVX-512 BW, DQ and VL.
        unsafe fn head(block: *const u8) -> Self::Head;

        /// The numbers of piece `p`, in the first `VECTORS` vectors.
        ///
        /// # Safety
        /// As for [`Wide::head`].
        unsafe fn piece(block: *const u8, head: &Self::Head, p: usize) -> [__m512; 4];
    }

    /// # Safety
    /// As for [`Run`].
    unsafe fn each<F: Wide>(blocks: &[u8], rows: &[f32], k: usize, tile: &mut [f32], width: usize) {
        let count = rows.len() / k;
        assert!(blocks.len() / F::BYTES * F::ELEMENTS == k && tile.len() > (count - 1) * width);
        let mut i = 0;
        while i < count {
            // SAFETY: so many rows are left, with a place for each; the rest is the caller's contract.
            unsafe {
                let (x, out) = (rows[i * k..].as_ptr(), tile[i * width..].as_mut_ptr());
                i += match count - i {
                    8.. => dots::<F, 8>(blocks, x, k, out, width),
                    4.. => dots::<F, 4>(blocks, x, k, out, width),
                    2.. => dots::<F, 2>(blocks, x, k, out, width),
                    _ => dots::<F, 1>(blocks, x, k, out, width),
                };
            }
        }
    }

    /// As [`each`], for `M` rows; `M`.
    ///
    /// # Safety
    /// As for [`Run`], for rows of `k` elements at `x` and places `width` apart at `out`.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
    unsafe fn dots<F: Wide, const M: usize>(
        blocks: &[u8],
        x: *const f32,
        k: usize,
        out: *mut f32,
        width: usize,
    ) -> usize {
        let mut sums = [[_mm512_setzero_ps(); 2]; M];
        for (b, block) in blocks.chunks_exact(F::BYTES).enumerate() {
            let x = x.wrapping_add(b * F::ELEMENTS);
            // SAFETY: a whole block, and its elements in each row.
            unsafe {
                // The hardware fetches within a page; this reaches into the next.
                _mm_prefetch::<_MM_HINT_T0>(block.as_ptr().wrapping_add(1024).cast());
                let head = F::head(block.as_ptr());
                for p in 0..F::ELEMENTS / (16 * F::VECTORS) {
                    let w = F::piece(block.as_ptr(), &head, p);
                    for v in 0..F::VECTORS {
                        for i in 0..M {
                            let x = x.add(i * k + (p * F::VECTORS + v) * 16);
                            let sum = &mut sums[i][v % 2];
                            *sum = _mm512_fmadd_ps(_mm512_loadu_ps(x), w[v], *sum);
                        }
                    }
                }
            }
        }
        for (i, [a, b]) in sums.into_iter().enumerate() {
            // SAFETY: a place for each row.
            unsafe { *out.add(i * width) = _mm512_reduce_add_ps(_mm512_add_ps(a, b)) };
        }
        M
    }

    /// The f16 number at `at` in every lane.
    ///
    /// # Safety
    /// Two bytes must be readable.
    #[inline]
    #[target_feature(enable = "avx512f,avx512vl")]
    unsafe fn half(at: *const u8) -> __m512 {
        // SAFETY: the caller vouches for the bytes.
        let bits = unsafe { at.cast::<u16>().read_unaligned() };
        let wide = _mm512_castps128_ps512(_mm_cvtph_ps(_mm_cvtsi32_si128(i32::from(bits))));
        _mm512_broadcastss_ps(_mm512_castps512_ps128(wide))
    }

    /// Sixteen bytes as words.
    ///
    /// # Safety
    /// They must be readable.
    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn words(at: *const u8) -> __m512i {
        // SAFETY: the caller vouches for the bytes.
        _mm512_cvtepu8_epi32(unsafe { _mm_loadu_si128(at.cast()) })
    }

    /// 0 to 15, plus `first`.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn count(first: f32) -> __m512 {
        let all = _mm512_setr_ps(
            0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0, 12.0, 13.0, 14.0, 15.0,
        );
        _mm512_add_ps(all, _mm512_set1_ps(first))
    }

    impl Wide for Q4_0 {
        const VECTORS: usize = 2;
        /// The sixteen numbers that there are.
        type Head = __m512;

        #[inline]
        #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
        unsafe fn head(block: *const u8) -> __m512 {
            // SAFETY: the caller's contract.
            unsafe { _mm512_mul_ps(half(block), count(-8.0)) }
        }

        #[inline]
        #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
        unsafe fn piece(block: *const u8, table: &__m512, _p: usize) -> [__m512; 4] {
            // SAFETY: the caller's contract. A permutation takes the low four bits of its index.
            let codes = unsafe { words(block.add(2)) };
            let low = _mm512_permutexvar_ps(codes, *table);
            let high = _mm512_permutexvar_ps(_mm512_srli_epi32::<4>(codes), *table);
            [low, high, low, high]
        }
    }

    impl Wide for Q8_0 {
        const VECTORS: usize = 2;
        type Head = __m512;

        #[inline]
        #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
        unsafe fn head(block: *const u8) -> __m512 {
            // SAFETY: the caller's contract.
            unsafe { half(block) }
        }

        #[inline]
        #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
        unsafe fn piece(block: *const u8, scale: &__m512, _p: usize) -> [__m512; 4] {
            // SAFETY: the caller's contract.
            let [low, high] = [2, 18].map(|at| unsafe {
                let codes = _mm512_cvtepi8_epi32(_mm_loadu_si128(block.add(at).cast()));
                _mm512_mul_ps(*scale, _mm512_cvtepi32_ps(codes))
            });
            [low, high, low, high]
        }
    }

    impl Wide for Q4K {
        const VECTORS: usize = 4;
        /// Scales and offsets of the eight sub-blocks.
        type Head = ([f32; 8], [f32; 8]);

        #[inline]
        #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
        unsafe fn head(block: *const u8) -> ([f32; 8], [f32; 8]) {
            let (mut scales, mut offsets) = ([0f32; 8], [0f32; 8]);
            // SAFETY: the caller's contract.
            unsafe {
                let (s, o) = six_bits(std::slice::from_raw_parts(block.add(4), 12));
                for (bytes, factor, to) in
                    [(s, half(block), &mut scales), (o, half(block.add(2)), &mut offsets)]
                {
                    let bytes = _mm_cvtsi64_si128(i64::from_le_bytes(bytes));
                    let numbers = _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(bytes));
                    let scaled = _mm256_mul_ps(numbers, _mm512_castps512_ps256(factor));
                    _mm256_storeu_ps(to.as_mut_ptr(), scaled);
                }
            }
            (scales, offsets)
        }

        #[inline]
        #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
        unsafe fn piece(
            block: *const u8,
            (scales, offsets): &([f32; 8], [f32; 8]),
            p: usize,
        ) -> [__m512; 4] {
            let count = count(0.0);
            // The sixteen numbers of a sub-block.
            let table = |i: usize| {
                let scaled = _mm512_mul_ps(_mm512_set1_ps(scales[i]), count);
                _mm512_sub_ps(scaled, _mm512_set1_ps(offsets[i]))
            };
            let (low, high) = (table(2 * p), table(2 * p + 1));
            // SAFETY: the caller's contract. A permutation takes the low four bits of its index.
            let (a, b) = unsafe { (words(block.add(16 + p * 32)), words(block.add(32 + p * 32))) };
            [
                _mm512_permutexvar_ps(a, low),
                _mm512_permutexvar_ps(b, low),
                _mm512_permutexvar_ps(_mm512_srli_epi32::<4>(a), high),
                _mm512_permutexvar_ps(_mm512_srli_epi32::<4>(b), high),
            ]
        }
    }

    impl Wide for Q6K {
        const VECTORS: usize = 4;
        /// The scales of the sixteen sub-blocks.
        type Head = [f32; 16];

        #[inline]
        #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
        unsafe fn head(block: *const u8) -> [f32; 16] {
            let mut scales = [0f32; 16];
            // SAFETY: the caller's contract.
            unsafe {
                let bytes = _mm512_cvtepi8_epi32(_mm_loadu_si128(block.add(192).cast()));
                let scaled = _mm512_mul_ps(half(block.add(208)), _mm512_cvtepi32_ps(bytes));
                _mm512_storeu_ps(scales.as_mut_ptr(), scaled);
            }
            scales
        }

        #[inline]
        #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
        unsafe fn piece(block: *const u8, scales: &[f32; 16], p: usize) -> [__m512; 4] {
            // Pieces of 64: two runs of 32 that have the same nibble of 64 bytes.
            let (half, nibble) = (p / 2, p % 2);
            // SAFETY: the caller's contract.
            let (low, high) = unsafe {
                let low = _mm512_loadu_si512(block.add(half * 64).cast());
                (low, _mm256_loadu_si256(block.add(128 + half * 32).cast()))
            };
            let shift = |x, by: usize| _mm512_srl_epi16(x, _mm_cvtsi64_si128(by as i64));
            let low = _mm512_and_si512(shift(low, 4 * nibble), _mm512_set1_epi8(15));
            // Two bits of the first run, then of the second.
            let high = shift(_mm512_broadcast_i64x4(high), 4 * nibble);
            let second = _mm512_srli_epi16::<2>(high);
            let high = _mm512_mask_mov_epi64(high, 0xf0, second);
            let high = _mm512_slli_epi16::<4>(_mm512_and_si512(high, _mm512_set1_epi8(3)));
            let codes = _mm512_sub_epi8(_mm512_or_si512(low, high), _mm512_set1_epi8(32));
            let part = |bytes: __m128i, i: usize| {
                let scale = _mm512_set1_ps(scales[p * 4 + i]);
                _mm512_mul_ps(scale, _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes)))
            };
            [
                part(_mm512_extracti32x4_epi32::<0>(codes), 0),
                part(_mm512_extracti32x4_epi32::<1>(codes), 1),
                part(_mm512_extracti32x4_epi32::<2>(codes), 2),
                part(_mm512_extracti32x4_epi32::<3>(codes), 3),
            ]
        }
    }
}

//! Rows that run along `k`, turned so that vectors lie across them (AVX-512).
//!
//! Micro-kernels keep one column of `b` per vector lane, while a weight matrix stored `(n, k)` has
//! `k` contiguous. [`turn`] reads a cache line of each of 16 rows and transposes it as 16 × 16 words
//! of 32 bits; the words are then f32 values, pairs of half-precision values, or parts of quantized
//! rows. [`pack`] writes them as a panel; [`multiply`] feeds them to accumulators at once, which is
//! what a product of few rows wants: each weight passes through the registers once, on its way from
//! memory.

use lazul_ir::DType;
use std::arch::x86_64::*;

/// Writes the transpose of 16 rows of 16 words: vector `w` at `dst + w * step` holds word `w` of each.
///
/// # Safety
/// The vectors must be writable.
#[inline]
#[target_feature(enable = "avx512f")]
pub(crate) unsafe fn deal(mut r: [__m512i; 16], dst: *mut __m512i, step: usize) {
    // SAFETY: the caller vouches for the vectors.
    unsafe {
        let mut t = r;
        for i in 0..8 {
            t[2 * i] = _mm512_unpacklo_epi32(r[2 * i], r[2 * i + 1]);
            t[2 * i + 1] = _mm512_unpackhi_epi32(r[2 * i], r[2 * i + 1]);
        }
        for i in 0..4 {
            r[4 * i] = _mm512_unpacklo_epi64(t[4 * i], t[4 * i + 2]);
            r[4 * i + 1] = _mm512_unpackhi_epi64(t[4 * i], t[4 * i + 2]);
            r[4 * i + 2] = _mm512_unpacklo_epi64(t[4 * i + 1], t[4 * i + 3]);
            r[4 * i + 3] = _mm512_unpackhi_epi64(t[4 * i + 1], t[4 * i + 3]);
        }
        // Now r[4i + j] holds, in 128-bit part p, word 4p + j of rows 4i..4i+4.
        for j in 0..4 {
            t[j] = _mm512_shuffle_i32x4::<0x88>(r[j], r[4 + j]);
            t[4 + j] = _mm512_shuffle_i32x4::<0xdd>(r[j], r[4 + j]);
            t[8 + j] = _mm512_shuffle_i32x4::<0x88>(r[8 + j], r[12 + j]);
            t[12 + j] = _mm512_shuffle_i32x4::<0xdd>(r[8 + j], r[12 + j]);
        }
        for j in 0..4 {
            let out = |w: usize, v| _mm512_storeu_si512(dst.add(w * step).cast(), v);
            out(j, _mm512_shuffle_i32x4::<0x88>(t[j], t[8 + j]));
            out(8 + j, _mm512_shuffle_i32x4::<0xdd>(t[j], t[8 + j]));
            out(4 + j, _mm512_shuffle_i32x4::<0x88>(t[4 + j], t[12 + j]));
            out(12 + j, _mm512_shuffle_i32x4::<0xdd>(t[4 + j], t[12 + j]));
        }
    }
}

/// Reads `bytes <= 64` bytes at `src` from each of `rows` rows, 16 at most, at distance `stride` bytes, and
/// writes the transpose: vector `w` at `dst + w * step` holds word `w` of each row. Rows and bytes
/// that are not there read as zero. Always writes 16 vectors.
///
/// # Safety
/// The bytes must be readable, the vectors writable.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
pub(crate) unsafe fn turn(
    src: *const u8,
    stride: isize,
    rows: usize,
    bytes: usize,
    dst: *mut __m512i,
    step: usize,
) {
    let rows = rows.min(16);
    // SAFETY: the caller vouches for both sides; masked loads touch no masked byte.
    unsafe {
        let mut r = [_mm512_setzero_si512(); 16];
        if rows == 16 && bytes == 64 {
            for i in 0..16 {
                let p = src.wrapping_offset(i as isize * stride);
                r[i] = _mm512_loadu_si512(p.cast());
            }
        } else {
            let mask = if bytes >= 64 { u64::MAX } else { (1 << bytes) - 1 };
            for i in 0..rows {
                let p = src.wrapping_offset(i as isize * stride);
                r[i] = _mm512_maskz_loadu_epi8(mask, p.cast());
            }
        }
        deal(r, dst, step);
    }
}

/// Walks, line by line and row after row, over what a kernel will read next, and asks for it.
///
/// A kernel reads a line of each of many rows at a time, which the processor's own prefetchers do
/// not follow; in this order they, the page tables and the memory's rows are at their best.
pub(crate) struct Prefetch {
    row: *const u8,
    stride: isize,
    bytes: usize,
    at: usize,
}

impl Prefetch {
    /// Starts at `row`; rows are `stride` bytes apart, and `bytes` of each are wanted.
    pub(crate) fn new(row: *const u8, stride: isize, bytes: usize) -> Prefetch {
        Prefetch { row, stride, bytes, at: 0 }
    }

    /// Asks for the next line.
    #[inline(always)]
    pub(crate) fn line(&mut self) {
        // SAFETY: a prefetch may have any address.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(self.row.wrapping_add(self.at).cast()) };
        self.at += 64;
        if self.at >= self.bytes {
            self.at = 0;
            self.row = self.row.wrapping_offset(self.stride);
        }
    }
}

/// What the words of a row are.
pub(crate) trait Words {
    /// Elements in a word.
    const PER_WORD: usize;

    /// Element `i` of each word, as f32.
    fn get(words: __m512i, i: usize) -> __m512;

    /// 16 neighbouring elements, those in `mask`, as f32.
    ///
    /// # Safety
    /// They must be readable.
    unsafe fn load(src: *const u8, mask: __mmask16) -> __m512;
}

pub(crate) struct F32;
pub(crate) struct Bf16;
pub(crate) struct F16;

impl Words for F32 {
    const PER_WORD: usize = 1;

    #[inline(always)]
    fn get(words: __m512i, _i: usize) -> __m512 {
        // SAFETY: kernels that use this run at a level with AVX-512.
        unsafe { _mm512_castsi512_ps(words) }
    }

    #[inline(always)]
    unsafe fn load(src: *const u8, mask: __mmask16) -> __m512 {
        // SAFETY: the caller vouches for the elements; the level as above.
        unsafe { _mm512_maskz_loadu_ps(mask, src.cast()) }
    }
}

impl Words for Bf16 {
    const PER_WORD: usize = 2;

    #[inline(always)]
    fn get(words: __m512i, i: usize) -> __m512 {
        // SAFETY: as above.
        unsafe {
            _mm512_castsi512_ps(match i {
                0 => _mm512_slli_epi32::<16>(words),
                _ => _mm512_and_si512(words, _mm512_set1_epi32(0xffff_0000u32 as i32)),
            })
        }
    }

    #[inline(always)]
    unsafe fn load(src: *const u8, mask: __mmask16) -> __m512 {
        // SAFETY: as above.
        unsafe {
            let half = _mm256_maskz_loadu_epi16(mask, src.cast());
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(half)))
        }
    }
}

impl Words for F16 {
    const PER_WORD: usize = 2;

    #[inline(always)]
    fn get(words: __m512i, i: usize) -> __m512 {
        // SAFETY: as above.
        unsafe {
            let words = if i == 0 { words } else { _mm512_srli_epi32::<16>(words) };
            _mm512_cvtph_ps(_mm512_cvtepi32_epi16(words))
        }
    }

    #[inline(always)]
    unsafe fn load(src: *const u8, mask: __mmask16) -> __m512 {
        // SAFETY: as above.
        unsafe { _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(mask, src.cast())) }
    }
}

/// Calls `$f::<Words, …>` for the type of a dtype's words.
macro_rules! by_words {
    ($dtype:expr, $f:ident $(<$rows:literal>)?($($arg:expr),*)) => {
        match $dtype {
            DType::F32 => $f::<F32 $(, $rows)?>($($arg),*),
            DType::BF16 => $f::<Bf16 $(, $rows)?>($($arg),*),
            DType::F16 => $f::<F16 $(, $rows)?>($($arg),*),
            other => unreachable!("words of {other}"),
        }
    };
}

/// A block of rows: `lanes` of them at distance `stride` bytes, `k` elements of `dtype` each.
#[derive(Clone, Copy)]
pub(crate) struct Block {
    pub(crate) src: *const u8,
    pub(crate) dtype: DType,
    pub(crate) stride: isize,
    pub(crate) lanes: usize,
    pub(crate) k: usize,
}

/// Packs a block as panels `[k][width]`; lanes past the last become zero.
///
/// # Safety
/// The block must be readable, and the processor must have AVX-512 BW. `dst` must hold `k` times
/// the number of lanes, rounded up to `width`.
pub(crate) unsafe fn pack(block: &Block, width: usize, dst: &mut [f32]) {
    assert!(dst.len() >= block.k * block.lanes.next_multiple_of(width));
    // SAFETY: the caller's contract, and the assertion.
    unsafe { by_words!(block.dtype, pack_words(block, width, dst.as_mut_ptr())) }
}

/// # Safety
/// As for [`pack`].
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn pack_words<W: Words>(block: &Block, width: usize, dst: *mut f32) {
    let Block { src, stride, lanes, k, .. } = *block;
    let line = 16 * W::PER_WORD;
    let mut words = [_mm512_setzero_si512(); 16];
    for first in (0..lanes).step_by(width) {
        // SAFETY: lanes and elements stay inside the block and the panels.
        unsafe {
            let panel = dst.add(first * k);
            for j in (0..width).step_by(16) {
                let rows = lanes.saturating_sub(first + j).min(16);
                let mask = ((1u32 << (width - j).min(16)) - 1) as __mmask16;
                let src = src.wrapping_offset((first + j) as isize * stride);
                let next = src.wrapping_offset(16 * stride);
                let mut prefetch = Prefetch::new(next, stride, k * 4 / W::PER_WORD);
                for p in (0..k).step_by(line) {
                    let count = line.min(k - p);
                    let bytes = count * 4 / W::PER_WORD;
                    let at = src.wrapping_add(p * 4 / W::PER_WORD);
                    turn(at, stride, rows, bytes, words.as_mut_ptr(), 1);
                    (0..16).for_each(|_| prefetch.line());
                    let dst = panel.add(p * width + j);
                    if count == line && mask == u16::MAX {
                        for i in 0..line {
                            let x = W::get(words[i / W::PER_WORD], i % W::PER_WORD);
                            _mm512_storeu_ps(dst.add(i * width), x);
                        }
                    } else {
                        for i in 0..count {
                            let x = W::get(words[i / W::PER_WORD], i % W::PER_WORD);
                            _mm512_mask_storeu_ps(dst.add(i * width), mask, x);
                        }
                    }
                }
            }
        }
    }
}

/// `c = a · b`, or `c += a · b` if `add`, for up to `width` lanes and `rows <= 12`; `a` is a panel
/// `[k][rows]`, and `c` has `rows` rows of `width` elements (a multiple of 16) at distance `ldc`.
///
/// # Safety
/// The block must be readable, `a` and `c` of that extent, and the processor must have AVX-512 BW.
pub(crate) unsafe fn multiply(
    block: &Block,
    width: usize,
    rows: usize,
    a: *const f32,
    c: *mut f32,
    ldc: usize,
    add: bool,
) {
    macro_rules! by_rows {
        ($($rows:literal)+) => {
            match rows {
                $($rows => {
                    by_words!(block.dtype, multiply_words<$rows>(block, width, a, c, ldc, add))
                })+
                _ => unreachable!("{rows} rows"),
            }
        };
    }
    // SAFETY: the caller's contract.
    unsafe { by_rows!(1 2 3 4 5 6 7 8 9 10 11 12) }
}

/// # Safety
/// As for [`multiply`], with `M` rows.
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn multiply_words<W: Words, const M: usize>(
    block: &Block,
    width: usize,
    a: *const f32,
    c: *mut f32,
    ldc: usize,
    add: bool,
) {
    let Block { src, stride, lanes, k, .. } = *block;
    let line = 16 * W::PER_WORD;
    let mut words = [_mm512_setzero_si512(); 16];
    for first in (0..width).step_by(16) {
        // SAFETY: the caller vouches for operands and target.
        unsafe {
            let rows = lanes.saturating_sub(first).min(16);
            let src = src.wrapping_offset(first as isize * stride);
            let next = src.wrapping_offset(16 * stride);
            let mut prefetch = Prefetch::new(next, stride, k * 4 / W::PER_WORD);
            let c = c.add(first);
            let mut acc = [_mm512_setzero_ps(); M];
            if add {
                for i in 0..M {
                    acc[i] = _mm512_loadu_ps(c.add(i * ldc));
                }
            }
            for p in (0..k).step_by(line) {
                let count = line.min(k - p);
                let at = src.wrapping_add(p * 4 / W::PER_WORD);
                turn(at, stride, rows, count * 4 / W::PER_WORD, words.as_mut_ptr(), 1);
                let mut x = a.add(p * M);
                for l in 0..count {
                    let (word, part) = (l / W::PER_WORD, l % W::PER_WORD);
                    if part == 0 {
                        prefetch.line();
                    }
                    let y = W::get(words[word], part);
                    for i in 0..M {
                        acc[i] = _mm512_fmadd_ps(_mm512_set1_ps(*x.add(i)), y, acc[i]);
                    }
                    x = x.add(M);
                }
            }
            for i in 0..M {
                _mm512_storeu_ps(c.add(i * ldc), acc[i]);
            }
        }
    }
}

/// [`multiply`] for lanes that are neighbours in memory: `block.stride` lies between rows of `k`, any
/// number of lanes, and `c` has rows of exactly that many elements.
///
/// # Safety
/// As for [`multiply`].
pub(crate) unsafe fn multiply_columns(
    block: &Block,
    rows: usize,
    a: *const f32,
    c: *mut f32,
    ldc: usize,
    add: bool,
) {
    macro_rules! by_rows {
        ($($rows:literal)+) => {
            match rows {
                $($rows => by_words!(block.dtype, columns_words<$rows>(block, a, c, ldc, add)),)+
                _ => unreachable!("{rows} rows"),
            }
        };
    }
    // SAFETY: the caller's contract.
    unsafe { by_rows!(1 2 3 4 5 6 7 8 9 10 11 12) }
}

/// # Safety
/// As for [`multiply_columns`], with `M` rows.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
unsafe fn columns_words<W: Words, const M: usize>(
    block: &Block,
    a: *const f32,
    c: *mut f32,
    ldc: usize,
    add: bool,
) {
    /// Rows of `k` that pass through the accumulators at a time.
    const STEP: usize = 8;
    let Block { src, stride, lanes, k, .. } = *block;
    let size = 4 / W::PER_WORD;
    if k == 0 && !add {
        for i in 0..M {
            // SAFETY: the caller vouches for the rows of `c`.
            unsafe { c.add(i * ldc).write_bytes(0, lanes) };
        }
    }
    for p in (0..k).step_by(STEP) {
        let src = src.wrapping_offset(p as isize * stride);
        let count = STEP.min(k - p);
        for j in (0..lanes).step_by(16) {
            // SAFETY: the caller vouches for operands and target; masks end at the last lane.
            unsafe {
                let mask = ((1u32 << (lanes - j).min(16)) - 1) as __mmask16;
                let mut y = [_mm512_setzero_ps(); STEP];
                for q in 0..count {
                    let row = src.wrapping_offset(q as isize * stride).wrapping_add(j * size);
                    let ahead = row.wrapping_offset(STEP as isize * stride);
                    _mm_prefetch::<_MM_HINT_T0>(ahead.cast());
                    y[q] = W::load(row, mask);
                }
                for i in 0..M {
                    let c = c.add(i * ldc + j);
                    let x = a.add(p * M + i);
                    let mut acc = _mm512_setzero_ps();
                    if add || p > 0 {
                        acc = _mm512_maskz_loadu_ps(mask, c);
                    }
                    if count == STEP {
                        for q in 0..STEP {
                            acc = _mm512_fmadd_ps(_mm512_set1_ps(*x.add(q * M)), y[q], acc);
                        }
                    } else {
                        for q in 0..count {
                            acc = _mm512_fmadd_ps(_mm512_set1_ps(*x.add(q * M)), y[q], acc);
                        }
                    }
                    _mm512_mask_storeu_ps(c, mask, acc);
                }
            }
        }
    }
}

//! Quantized rows straight from memory into the accumulators of a product of few rows (AVX-512).
//!
//! Lines of 16 rows are turned (see [`crate::matmul::turn`]), so a vector holds one word of each of
//! them and decoding is the same shifts for all: code `i` of a chunk of 32 lies at a place known at
//! compile time. Up to five bits a permutation turns codes into floats, taking its index from the low
//! bits and ignoring the others; wider codes are masked and converted. [`pack`] writes the
//! dequantized weights as panels, [`multiply`] feeds them to accumulators. Both compute a weight as
//! `fma(scale, code, bias)`, so products of few and of many rows agree to the last bit.

use super::codes::by_bits;
use crate::matmul::turn::{Prefetch, turn};
use std::arch::x86_64::*;

/// A block of quantized rows: `lanes` of them, `k` elements each, from the start of a group on.
#[derive(Clone, Copy)]
pub(super) struct Block {
    /// Codes of the first row.
    pub(super) codes: *const u8,
    /// Bytes between rows of codes.
    pub(super) stride: isize,
    pub(super) bits: u32,
    pub(super) group: usize,
    pub(super) lanes: usize,
    pub(super) k: usize,
}

/// Vectors of a turned line, with room for the most words that are decoded at a time.
const WORDS: usize = 48;

/// Codes decoded at a time: a whole number of chunks of 32, and of lines where that is possible.
const fn span(bits: usize) -> usize {
    match bits {
        2 | 3 | 6 => 256,
        5 => 288,
        4 => 128,
        _ => 64,
    }
}

/// Tables from the low bits of a word to a code as f32.
struct Tables(__m512, __m512);

impl Tables {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    fn new(bits: usize) -> Tables {
        let mask = (1i32 << bits.min(5)) - 1;
        let index = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
        let entry = |i| _mm512_cvtepi32_ps(_mm512_and_si512(i, _mm512_set1_epi32(mask)));
        Tables(entry(index), entry(_mm512_add_epi32(index, _mm512_set1_epi32(16))))
    }
}

/// Code `i` of a chunk of 32 whose words are at `words`, in each lane.
///
/// # Safety
/// `BITS` vectors must be readable.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn code<const BITS: usize>(words: *const __m512i, i: usize, tables: &Tables) -> __m512 {
    let (word, shift) = (i * BITS / 32, i * BITS % 32);
    // SAFETY: the caller vouches for the words.
    let mut v = unsafe { _mm512_load_si512(words.add(word)) };
    if shift > 0 {
        v = _mm512_srlv_epi32(v, _mm512_set1_epi32(shift as i32));
    }
    if shift + BITS > 32 {
        // SAFETY: as above; a code that goes on is not in the chunk's last word.
        let rest = unsafe { _mm512_load_si512(words.add(word + 1)) };
        let rest = _mm512_sllv_epi32(rest, _mm512_set1_epi32(32 - shift as i32));
        v = _mm512_or_si512(v, rest);
    }
    match BITS {
        2..=4 => _mm512_permutexvar_ps(v, tables.0),
        5 => _mm512_permutex2var_ps(tables.0, v, tables.1),
        _ => {
            if shift + BITS != 32 {
                v = _mm512_and_si512(v, _mm512_set1_epi32((1 << BITS) - 1));
            }
            _mm512_cvtepi32_ps(v)
        }
    }
}

/// Turns the words of `count` codes of 16 rows.
///
/// # Safety
/// The codes must be readable, and `words` must have room for [`WORDS`] vectors.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn turn_words<const BITS: usize>(
    src: *const u8,
    stride: isize,
    rows: usize,
    count: usize,
    words: *mut __m512i,
) {
    let bytes = count * BITS / 8;
    for at in (0..bytes).step_by(64) {
        // SAFETY: the caller vouches for codes and words.
        unsafe {
            let (src, dst) = (src.wrapping_add(at), words.add(at / 4));
            turn(src, stride, rows, (bytes - at).min(64), dst, 1);
        }
    }
}

/// Calls `$step!(i)` for each code of a chunk.
macro_rules! chunk {
    ($step:ident) => {
        $step!(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
        $step!(16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31);
    };
}

/// Packs a block as panels `[k][width]`; lanes past the last become zero. `scales` and `biases` are
/// such panels of their own, a row for each group.
///
/// # Safety
/// The block must be readable, panels of that extent, and the processor must have AVX-512 BW.
pub(super) unsafe fn pack(
    block: &Block,
    scales: &[f32],
    biases: &[f32],
    width: usize,
    dst: &mut [f32],
) {
    let lanes = block.lanes.next_multiple_of(width);
    assert!(scales.len() >= block.k / block.group * lanes && biases.len() >= scales.len());
    assert!(dst.len() >= block.k * lanes);
    assert!(width.is_multiple_of(16) && block.k.is_multiple_of(block.group));
    // SAFETY: the caller's contract, and the assertions.
    unsafe {
        let (s, b) = (scales.as_ptr(), biases.as_ptr());
        by_bits!(block.bits, pack_bits(block, s, b, width, dst.as_mut_ptr()))
    }
}

/// # Safety
/// As for [`pack`], with slices of sufficient length.
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn pack_bits<const BITS: usize>(
    block: &Block,
    scales: *const f32,
    biases: *const f32,
    width: usize,
    dst: *mut f32,
) {
    let Block { codes, stride, group, lanes, k, .. } = *block;
    let tables = Tables::new(BITS);
    let mut words = [_mm512_setzero_si512(); WORDS];
    for lane in (0..lanes.next_multiple_of(width)).step_by(16) {
        let (panel, column) = (lane / width * width, lane % width);
        let src = codes.wrapping_offset(lane as isize * stride);
        for p in (0..k).step_by(span(BITS)) {
            let count = span(BITS).min(k - p);
            // SAFETY: the caller vouches for block and panels.
            unsafe {
                let rows = lanes.saturating_sub(lane);
                turn_words::<BITS>(
                    src.wrapping_add(p * BITS / 8),
                    stride,
                    rows,
                    count,
                    words.as_mut_ptr(),
                );
                for c in (0..count).step_by(32) {
                    let words = words.as_ptr().add(c * BITS / 32);
                    let at = panel * (k / group) + (p + c) / group * width + column;
                    let s = _mm512_loadu_ps(scales.add(at));
                    let b = _mm512_loadu_ps(biases.add(at));
                    let dst = dst.add(panel * k + (p + c) * width + column);
                    macro_rules! step {
                        ($($i:literal),+) => { $(
                            let w = _mm512_fmadd_ps(s, code::<BITS>(words, $i, &tables), b);
                            _mm512_storeu_ps(dst.add($i * width), w);
                        )+ };
                    }
                    chunk!(step);
                }
            }
        }
    }
}

/// `c = a · w`, or `c += a · w` if `add`, for up to `width` lanes of weights and `rows <= 8`; `a` is
/// a panel `[k][rows]`, `scales` and `biases` are panels `[groups][width]`, and `c` has `rows` rows
/// of `width` elements (a multiple of 32) at distance `ldc`.
///
/// # Safety
/// The block must be readable, the rest of that extent, and the processor must have AVX-512 BW.
pub(super) unsafe fn multiply(
    block: &Block,
    scales: *const f32,
    biases: *const f32,
    width: usize,
    rows: usize,
    a: *const f32,
    c: *mut f32,
    ldc: usize,
    add: bool,
) {
    // SAFETY: the caller's contract.
    unsafe {
        by_bits!(block.bits, multiply_rows(block, scales, biases, width, rows, a, c, ldc, add))
    }
}

/// # Safety
/// As for [`multiply`].
unsafe fn multiply_rows<const BITS: usize>(
    block: &Block,
    scales: *const f32,
    biases: *const f32,
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
                    multiply_bits::<BITS, $rows>(block, scales, biases, width, a, c, ldc, add)
                })+
                _ => unreachable!("{rows} rows"),
            }
        };
    }
    // SAFETY: the caller's contract.
    unsafe { by_rows!(1 2 3 4 5 6 7 8) }
}

/// # Safety
/// As for [`multiply`], with `M` rows.
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn multiply_bits<const BITS: usize, const M: usize>(
    block: &Block,
    scales: *const f32,
    biases: *const f32,
    width: usize,
    a: *const f32,
    c: *mut f32,
    ldc: usize,
    add: bool,
) {
    /// Vectors of lanes that go side by side, so that additions need not wait for one another.
    const V: usize = 2;
    let Block { codes, stride, group, lanes, k, .. } = *block;
    let tables = Tables::new(BITS);
    let mut words = [[_mm512_setzero_si512(); WORDS]; V];
    for lane in (0..width).step_by(16 * V) {
        let src = codes.wrapping_offset(lane as isize * stride);
        let next = src.wrapping_offset((16 * V) as isize * stride);
        let mut prefetch = Prefetch::new(next, stride, k * BITS / 8);
        // SAFETY: the caller vouches for operands and target.
        unsafe {
            let c = c.add(lane);
            let mut acc = [[_mm512_setzero_ps(); V]; M];
            if add {
                for i in 0..M {
                    for v in 0..V {
                        acc[i][v] = _mm512_loadu_ps(c.add(i * ldc + v * 16));
                    }
                }
            }
            for p in (0..k).step_by(span(BITS)) {
                let count = span(BITS).min(k - p);
                for v in 0..V {
                    let rows = lanes.saturating_sub(lane + v * 16);
                    let src = src.wrapping_offset((v * 16) as isize * stride);
                    let src = src.wrapping_add(p * BITS / 8);
                    turn_words::<BITS>(src, stride, rows, count, words[v].as_mut_ptr());
                }
                for chunk in (0..count).step_by(32) {
                    // A chunk is `BITS` words of each of `16 V` rows.
                    for _ in 0..BITS * V {
                        prefetch.line();
                    }
                    let at = (p + chunk) / group * width + lane;
                    let mut s = [_mm512_setzero_ps(); V];
                    let mut b = [_mm512_setzero_ps(); V];
                    for v in 0..V {
                        s[v] = _mm512_loadu_ps(scales.add(at + v * 16));
                        b[v] = _mm512_loadu_ps(biases.add(at + v * 16));
                    }
                    let x = a.add((p + chunk) * M);
                    macro_rules! step {
                        ($($i:literal),+) => { $(
                            for v in 0..V {
                                let words = words[v].as_ptr().add(chunk * BITS / 32);
                                let w = code::<BITS>(words, $i, &tables);
                                let w = _mm512_fmadd_ps(s[v], w, b[v]);
                                for i in 0..M {
                                    let x = _mm512_set1_ps(*x.add($i * M + i));
                                    acc[i][v] = _mm512_fmadd_ps(x, w, acc[i][v]);
                                }
                            }
                        )+ };
                    }
                    chunk!(step);
                }
            }
            for i in 0..M {
                for v in 0..V {
                    _mm512_storeu_ps(c.add(i * ldc + v * 16), acc[i][v]);
                }
            }
        }
    }
}

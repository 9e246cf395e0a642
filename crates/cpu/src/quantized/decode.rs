//! Quantized rows straight from memory into the accumulators of a product of few rows (AVX-512).
//!
//! Lines of 16 rows are turned (see [`crate::matmul::turn`]), so a vector holds one word of each of
//! them and decoding is the same shifts for all: code `i` of a chunk of 32 lies at a place known at
//! compile time. Up to five bits a permutation turns codes into floats, taking its index from the low
//! bits and ignoring the others, and so it does with e2m1 codes and with sign and exponent of e4m3
//! codes; wider integers are masked and converted. [`pack`] writes the dequantized weights as panels,
//! [`multiply`] feeds them to accumulators. Both compute a weight as `fma(scale, code, bias)`, or
//! `scale * code` where there are no biases, so products of few and of many rows agree to the last
//! bit.

use super::codes::by_code;
use super::floats;
use crate::matmul::turn::{Prefetch, turn};
use lazul_ir::Quantization;
use std::arch::x86_64::*;

/// A block of quantized rows: `lanes` of them, `k` elements each, from the start of a group on.
#[derive(Clone, Copy)]
pub(super) struct Block {
    /// Codes of the first row.
    pub(super) codes: *const u8,
    /// Bytes between rows of codes.
    pub(super) stride: isize,
    pub(super) q: Quantization,
    pub(super) lanes: usize,
    pub(super) k: usize,
}

/// Vectors of a turned line, with room for the most words that are decoded at a time.
pub(super) const WORDS: usize = 48;

/// Codes decoded at a time: a whole number of chunks of 32, and of lines where that is possible.
pub(super) const fn span(bits: usize) -> usize {
    match bits {
        1 => 512,
        2 | 3 | 6 => 256,
        5 => 288,
        4 => 128,
        _ => 64,
    }
}

/// Tables from the low bits of a word to floats.
pub(super) struct Tables {
    /// From a code to its value; two vectors for codes of five bits. For e4m3, from sign and exponent
    /// to the value of the mantissa 0.
    values: (__m512, __m512),
    /// For e4m3: from sign and exponent to what one unit of the mantissa is worth.
    units: (__m512, __m512),
    /// For e4m3: from the low bits of a code to its mantissa.
    mantissa: __m512,
}

impl Tables {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    pub(super) fn new<const BITS: usize, const FLOAT: bool>() -> Tables {
        // Thirty-two entries each: (value, unit) of an index.
        let (mut values, mut units) = ([0f32; 32], [0f32; 32]);
        for i in 0..32u32 {
            let (value, unit) = match (BITS, FLOAT) {
                (8, true) => {
                    let (exponent, sign) = (i & 15, (i & 16) << 3);
                    // The exponent 0 has the steps of 1.
                    let unit = 2f32.powi(exponent.max(1) as i32 - 10);
                    (floats::e4m3(exponent << 3 | sign), if sign == 0 { unit } else { -unit })
                }
                (_, true) => (floats::e2m1(i), 0.0),
                _ => ((i & ((1 << BITS.min(5)) - 1)) as f32, 0.0),
            };
            (values[i as usize], units[i as usize]) = (value, unit);
        }
        let mantissa: [f32; 16] = std::array::from_fn(|i| (i & 7) as f32);
        // SAFETY: sixteen floats each.
        unsafe {
            let pair =
                |t: &[f32; 32]| (_mm512_loadu_ps(t.as_ptr()), _mm512_loadu_ps(t[16..].as_ptr()));
            Tables {
                values: pair(&values),
                units: pair(&units),
                mantissa: _mm512_loadu_ps(mantissa.as_ptr()),
            }
        }
    }

    /// The values of the e4m3 codes in the low bits of each lane; NaNs come out as ±480.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    fn e4m3(&self, codes: __m512i) -> __m512 {
        let index = _mm512_srlv_epi32(codes, _mm512_set1_epi32(3));
        let value = _mm512_permutex2var_ps(self.values.0, index, self.values.1);
        let unit = _mm512_permutex2var_ps(self.units.0, index, self.units.1);
        _mm512_fmadd_ps(_mm512_permutexvar_ps(codes, self.mantissa), unit, value)
    }
}

/// `values` with a NaN wherever the low byte of `codes` is one in e4m3.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) fn with_nans(values: __m512, codes: __m512i) -> __m512 {
    let mask = _mm512_set1_epi32(0x7f);
    let nan = _mm512_cmpeq_epi32_mask(_mm512_and_si512(codes, mask), mask);
    _mm512_mask_mov_ps(values, nan, _mm512_set1_ps(f32::NAN))
}

/// A word with code `i` of a chunk of 32, whose words are at `words`, in its low bits, in each lane.
/// What lies in the higher bits is not said.
///
/// # Safety
/// `BITS` vectors must be readable.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) unsafe fn code<const BITS: usize>(words: *const __m512i, i: usize) -> __m512i {
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
    v
}

/// The values of the codes in the low bits; NaNs of e4m3 come out as ±480.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) fn value<const BITS: usize, const FLOAT: bool>(
    codes: __m512i,
    tables: &Tables,
) -> __m512 {
    match (BITS, FLOAT) {
        (8, true) => tables.e4m3(codes),
        (1..=4, _) => _mm512_permutexvar_ps(codes, tables.values.0),
        (5, _) => _mm512_permutex2var_ps(tables.values.0, codes, tables.values.1),
        _ => _mm512_cvtepi32_ps(_mm512_and_si512(codes, _mm512_set1_epi32((1 << BITS) - 1))),
    }
}

/// `scale * value + bias`; small floats have no bias.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn scaled<const FLOAT: bool>(value: __m512, scale: __m512, bias: __m512) -> __m512 {
    if FLOAT { _mm512_mul_ps(scale, value) } else { _mm512_fmadd_ps(scale, value, bias) }
}

/// Writes scales that are bytes as panels of f32: `[groups][width]` for each `width` of `lanes`,
/// lanes past the last as that of 0, each times `factor`.
///
/// # Safety
/// `groups` bytes must be readable from each of `lanes` rows at distance `stride`, and the processor
/// must have AVX-512 BW.
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) unsafe fn scales(
    q: Quantization,
    src: *const u8,
    stride: isize,
    lanes: usize,
    groups: usize,
    width: usize,
    factor: f32,
    dst: &mut [f32],
) {
    assert!(dst.len() >= groups * lanes.next_multiple_of(width) && width.is_multiple_of(16));
    let tables = Tables::new::<8, true>();
    let mut words = [_mm512_setzero_si512(); 16];
    for lane in (0..lanes.next_multiple_of(width)).step_by(16) {
        let (panel, column) = (lane / width * width, lane % width);
        let src = src.wrapping_offset(lane as isize * stride);
        for first in (0..groups).step_by(64) {
            let count = (groups - first).min(64);
            let rows = lanes.saturating_sub(lane);
            // SAFETY: the caller vouches for the bytes.
            unsafe { turn(src.wrapping_add(first), stride, rows, count, words.as_mut_ptr(), 1) };
            for g in 0..count {
                let shift = _mm512_set1_epi32((g % 4 * 8) as i32);
                let codes = _mm512_srlv_epi32(words[g / 4], shift);
                let scale = if q == Quantization::NvFp4 {
                    let value = with_nans(tables.e4m3(codes), codes);
                    _mm512_mul_ps(value, _mm512_set1_ps(factor))
                } else {
                    let codes = _mm512_and_si512(codes, _mm512_set1_epi32(0xff));
                    let bits = _mm512_slli_epi32::<23>(codes);
                    _mm512_castsi512_ps(_mm512_max_epu32(bits, _mm512_set1_epi32(1 << 22)))
                };
                // SAFETY: a row of a panel, by the assertion.
                unsafe {
                    let dst = dst.as_mut_ptr().add(panel * groups + (first + g) * width + column);
                    _mm512_storeu_ps(dst, scale);
                }
            }
        }
    }
}

/// Turns the words of `count` codes of 16 rows.
///
/// # Safety
/// The codes must be readable, and `words` must have room for [`WORDS`] vectors.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) unsafe fn turn_words<const BITS: usize>(
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

/// Calls `$step!(i)` for each code of a chunk, and `$half!(0)` and `$half!(16)` before each sixteen.
macro_rules! chunk {
    ($half:ident, $step:ident) => {
        $half!(0);
        $step!(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
        $half!(16);
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
    let group = block.q.group_size();
    assert!(scales.len() >= block.k / group * lanes);
    assert!(biases.len() >= scales.len() || !block.q.is_affine());
    assert!(dst.len() >= block.k * lanes);
    assert!(width.is_multiple_of(16) && block.k.is_multiple_of(group));
    // SAFETY: the caller's contract, and the assertions.
    unsafe {
        let (s, b) = (scales.as_ptr(), biases.as_ptr());
        by_code!(block.q, pack_code(block, s, b, width, dst.as_mut_ptr()))
    }
}

/// # Safety
/// As for [`pack`], with slices of sufficient length.
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn pack_code<const BITS: usize, const FLOAT: bool>(
    block: &Block,
    scales: *const f32,
    biases: *const f32,
    width: usize,
    dst: *mut f32,
) {
    let Block { codes, stride, q, lanes, k } = *block;
    let group = q.group_size();
    let tables = Tables::new::<BITS, FLOAT>();
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
                    let dst = dst.add(panel * k + (p + c) * width + column);
                    let (mut s, mut b);
                    macro_rules! half {
                        ($first:literal) => {
                            // Groups of 16 may end in the middle of a chunk.
                            if FLOAT && BITS == 4 && $first > 0 && c + $first >= count {
                                break;
                            }
                            let at =
                                panel * (k / group) + (p + c + $first) / group * width + column;
                            s = _mm512_loadu_ps(scales.add(at));
                            b = _mm512_setzero_ps();
                            if !FLOAT {
                                b = _mm512_loadu_ps(biases.add(at));
                            }
                        };
                    }
                    macro_rules! step {
                        ($($i:literal),+) => { $(
                            let codes = code::<BITS>(words, $i);
                            let mut v = value::<BITS, FLOAT>(codes, &tables);
                            if FLOAT && BITS == 8 {
                                v = with_nans(v, codes);
                            }
                            _mm512_storeu_ps(dst.add($i * width), scaled::<FLOAT>(v, s, b));
                        )+ };
                    }
                    chunk!(half, step);
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
    unsafe { by_code!(block.q, multiply_rows(block, scales, biases, width, rows, a, c, ldc, add)) }
}

/// # Safety
/// As for [`multiply`].
unsafe fn multiply_rows<const BITS: usize, const FLOAT: bool>(
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
                    multiply_code::<BITS, FLOAT, $rows>(block, scales, biases, width, a, c, ldc, add)
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
unsafe fn multiply_code<const BITS: usize, const FLOAT: bool, const M: usize>(
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
    let Block { codes, stride, q, lanes, k } = *block;
    let group = q.group_size();
    let tables = Tables::new::<BITS, FLOAT>();
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
            // The greatest low seven bits of each byte of a code: 127 is the mark of a NaN in e4m3.
            let mut most = [_mm512_setzero_si512(); V];
            for p in (0..k).step_by(span(BITS)) {
                let count = span(BITS).min(k - p);
                for v in 0..V {
                    let rows = lanes.saturating_sub(lane + v * 16);
                    let src = src.wrapping_offset((v * 16) as isize * stride);
                    let src = src.wrapping_add(p * BITS / 8);
                    turn_words::<BITS>(src, stride, rows, count, words[v].as_mut_ptr());
                    if FLOAT && BITS == 8 {
                        for w in &words[v][..count * BITS / 32] {
                            let low = _mm512_and_si512(*w, _mm512_set1_epi8(0x7f));
                            most[v] = _mm512_max_epu8(most[v], low);
                        }
                    }
                }
                for chunk in (0..count).step_by(32) {
                    // A chunk is `BITS` words of each of `16 V` rows.
                    for _ in 0..BITS * V {
                        prefetch.line();
                    }
                    let x = a.add((p + chunk) * M);
                    let mut s = [_mm512_setzero_ps(); V];
                    let mut b = [_mm512_setzero_ps(); V];
                    macro_rules! half {
                        ($first:literal) => {
                            // Groups of 16 may end in the middle of a chunk.
                            if FLOAT && BITS == 4 && $first > 0 && chunk + $first >= count {
                                break;
                            }
                            let at = (p + chunk + $first) / group * width + lane;
                            for v in 0..V {
                                s[v] = _mm512_loadu_ps(scales.add(at + v * 16));
                                if !FLOAT {
                                    b[v] = _mm512_loadu_ps(biases.add(at + v * 16));
                                }
                            }
                        };
                    }
                    macro_rules! step {
                        ($($i:literal),+) => { $(
                            for v in 0..V {
                                let words = words[v].as_ptr().add(chunk * BITS / 32);
                                let w = value::<BITS, FLOAT>(code::<BITS>(words, $i), &tables);
                                let w = scaled::<FLOAT>(w, s[v], b[v]);
                                for i in 0..M {
                                    let x = _mm512_set1_ps(*x.add($i * M + i));
                                    acc[i][v] = _mm512_fmadd_ps(x, w, acc[i][v]);
                                }
                            }
                        )+ };
                    }
                    chunk!(half, step);
                }
            }
            if FLOAT && BITS == 8 {
                for v in 0..V {
                    let nans = _mm512_cmpeq_epi8_mask(most[v], _mm512_set1_epi8(0x7f));
                    let lanes = _mm512_movm_epi8(nans);
                    let lanes = _mm512_test_epi32_mask(lanes, lanes);
                    for i in 0..M {
                        acc[i][v] = _mm512_mask_mov_ps(acc[i][v], lanes, _mm512_set1_ps(f32::NAN));
                    }
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

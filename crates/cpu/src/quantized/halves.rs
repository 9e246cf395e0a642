//! Codes as bf16 numbers, which hold every one of them exactly (AVX-512 with VBMI and bf16).
//!
//! Unlike in [`super::decode`], a vector lies along a row: 32 codes in their order make 32 words of 16
//! bits, as the tile unit wants them.

use super::codes::by_code;
use super::floats;
use lazul_ir::Quantization;
use std::arch::x86_64::*;

/// Whether the processor has what this file needs beside AVX-512.
pub(super) fn available() -> bool {
    is_x86_feature_detected!("avx512vbmi") && is_x86_feature_detected!("avx512bf16")
}

/// The upper half of an f32 that ends in zeros.
const fn upper(x: f32) -> u16 {
    (x.to_bits() >> 16) as u16
}

/// What vectors of codes are turned with.
struct Tables {
    /// From the low bits of a word to the value of a code; two vectors for codes of six bits.
    values: (__m512i, __m512i),
    /// For each byte, which byte of the chunk it is taken from.
    bytes: __m512i,
    /// For each byte, the bit of its quarter of four words at which a code begins.
    bits: __m512i,
}

impl Tables {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    fn new<const BITS: usize, const FLOAT: bool>() -> Tables {
        let value = |code: usize| match (BITS, FLOAT) {
            // Subnormal ones, which have no exponent.
            (8, true) => floats::e4m3(code as u32 & 7),
            (_, true) => floats::e2m1(code as u32 & 15),
            _ => (code & ((1 << BITS) - 1)) as f32,
        };
        let values: [u16; 64] = std::array::from_fn(|i| upper(value(i)));
        // Codes `4q..4q + 4` lie in the eight bytes from that of the first on.
        let first = |q: usize| 4 * BITS * q / 8;
        let bytes: [u8; 64] = std::array::from_fn(|i| (first(i / 8) + i % 8) as u8);
        let bits: [u8; 64] =
            std::array::from_fn(|i| (4 * BITS * (i / 8) % 8 + BITS * (i % 8 / 2)) as u8);
        // SAFETY: arrays of 128 and of 64 bytes.
        unsafe {
            Tables {
                values: (
                    _mm512_loadu_si512(values.as_ptr().cast()),
                    _mm512_loadu_si512(values[32..].as_ptr().cast()),
                ),
                bytes: _mm512_loadu_si512(bytes.as_ptr().cast()),
                bits: _mm512_loadu_si512(bits.as_ptr().cast()),
            }
        }
    }
}

/// The values of 32 codes, of which the bytes at `src` that `bytes` has a bit for are read.
///
/// # Safety
/// The bytes must be readable.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512bf16")]
unsafe fn decode<const BITS: usize, const FLOAT: bool>(
    src: *const u8,
    bytes: __mmask32,
    tables: &Tables,
) -> __m512i {
    // SAFETY: the caller vouches for the bytes; masked ones are not touched.
    let codes = unsafe { _mm256_maskz_loadu_epi8(bytes, src.cast()) };
    match (BITS, FLOAT) {
        (8, true) => {
            let words = _mm512_cvtepu8_epi16(codes);
            let low = _mm512_and_si512(words, _mm512_set1_epi16(0x7f));
            let sign = _mm512_slli_epi16::<8>(_mm512_sub_epi16(words, low));
            // The exponent's bias goes from 7 to 127.
            let normal = _mm512_add_epi16(_mm512_slli_epi16::<4>(low), _mm512_set1_epi16(120 << 7));
            let small = _mm512_cmplt_epu16_mask(low, _mm512_set1_epi16(8));
            let value = _mm512_mask_permutexvar_epi16(normal, small, low, tables.values.0);
            let nan = _mm512_cmpeq_epi16_mask(low, _mm512_set1_epi16(0x7f));
            let value = _mm512_mask_mov_epi16(value, nan, _mm512_set1_epi16(0x7fc0));
            _mm512_or_si512(value, sign)
        }
        (8, false) => {
            let low = _mm512_cvtepu8_epi32(_mm256_castsi256_si128(codes));
            let high = _mm512_cvtepu8_epi32(_mm256_extracti128_si256::<1>(codes));
            let (low, high) = (_mm512_cvtepi32_ps(low), _mm512_cvtepi32_ps(high));
            let both = _mm512_cvtne2ps_pbh(high, low);
            // SAFETY: both are 64 plain bytes.
            unsafe { std::mem::transmute::<__m512bh, __m512i>(both) }
        }
        (4, _) => {
            // Two codes of a byte go to the low bits of two words.
            let bytes = _mm512_cvtepu8_epi32(_mm256_castsi256_si128(codes));
            let words = _mm512_or_si512(bytes, _mm512_slli_epi32::<12>(bytes));
            _mm512_permutexvar_epi16(words, tables.values.0)
        }
        _ => {
            let spread = _mm512_permutexvar_epi8(tables.bytes, _mm512_castsi256_si512(codes));
            let words = _mm512_multishift_epi64_epi8(tables.bits, spread);
            if BITS <= 5 {
                _mm512_permutexvar_epi16(words, tables.values.0)
            } else {
                _mm512_permutex2var_epi16(tables.values.0, words, tables.values.1)
            }
        }
    }
}

/// A part of a panel: 16 stored rows, some of them past the end, over some steps of codes.
#[derive(Clone, Copy)]
pub(super) struct Part {
    pub(super) q: Quantization,
    /// Codes of the first row.
    pub(super) codes: *const u8,
    /// Bytes between rows.
    pub(super) stride: isize,
    pub(super) rows: usize,
    pub(super) steps: usize,
    /// Codes of a step: 16 or 32.
    pub(super) step: usize,
}

/// Writes a part as 16 rows of bf16 at distance `lane` bytes, one step after another. Calls `each` after
/// every row. What follows a row up to the next multiple of 64 bytes may be written too.
///
/// # Safety
/// The codes must be readable, the rows writable, and the processor must have AVX-512 and be
/// [`available`].
pub(super) unsafe fn unpack(part: &Part, dst: *mut u8, lane: usize, each: impl FnMut()) {
    // SAFETY: the caller's contract.
    unsafe { by_code!(part.q, unpack_code(part, dst, lane, each)) }
}

/// # Safety
/// As for [`unpack`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512bf16")]
unsafe fn unpack_code<const BITS: usize, const FLOAT: bool>(
    part: &Part,
    dst: *mut u8,
    lane: usize,
    mut each: impl FnMut(),
) {
    let tables = Tables::new::<BITS, FLOAT>();
    let bytes = part.step * BITS / 8;
    let mask = u32::MAX >> (32 - bytes);
    for row in 0..16 {
        let src = part.codes.wrapping_offset(row as isize * part.stride);
        let dst = dst.wrapping_add(row * lane);
        for step in 0..part.steps {
            // SAFETY: the caller vouches for codes and rows.
            unsafe {
                let values = if row < part.rows {
                    decode::<BITS, FLOAT>(src.add(step * bytes), mask, &tables)
                } else {
                    _mm512_setzero_si512()
                };
                _mm512_storeu_si512(dst.add(step * 2 * part.step).cast(), values);
            }
        }
        each();
    }
}

/// Scales that are bytes as f32, times `factor`.
///
/// # Safety
/// `dst.len()` bytes must be readable, and the processor must have AVX-512 and be [`available`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512bf16")]
pub(super) unsafe fn scales(q: Quantization, src: *const u8, factor: f32, dst: &mut [f32]) {
    let tables = Tables::new::<8, true>();
    for (i, out) in dst.chunks_mut(16).enumerate() {
        let mask = u32::MAX >> (32 - out.len());
        // SAFETY: the caller vouches for the bytes; masked ones are not touched.
        unsafe {
            let src = src.add(16 * i);
            let scale = if q == Quantization::NvFp4 {
                let words = decode::<8, true>(src, mask, &tables);
                let words = _mm512_cvtepu16_epi32(_mm512_castsi512_si256(words));
                let value = _mm512_castsi512_ps(_mm512_slli_epi32::<16>(words));
                _mm512_mul_ps(value, _mm512_set1_ps(factor))
            } else {
                let bytes = _mm_maskz_loadu_epi8(mask as u16, src.cast());
                // The least one is subnormal.
                let bits = _mm512_slli_epi32::<23>(_mm512_cvtepu8_epi32(bytes));
                _mm512_castsi512_ps(_mm512_max_epu32(bits, _mm512_set1_epi32(1 << 22)))
            };
            _mm512_mask_storeu_ps(out.as_mut_ptr(), mask as u16, scale);
        }
    }
}

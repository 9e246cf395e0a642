//! Blocks of stored elements to and from the compute types of kernels.
//!
//! f16 and bf16 are computed in f32. Rounding to them is to nearest, ties to even; NaN stays NaN.

use crate::dispatch;
use half::{bf16, f16};
use lazul_ir::DType;

dispatch! {
/// bf16 to f32: exact.
pub(crate) fn bf16_to_f32(src: &[u16], dst: &mut [f32]) {
    for (d, &s) in dst.iter_mut().zip(src) {
        *d = f32::from_bits((s as u32) << 16);
    }
}
}

dispatch! {
/// f32 to bf16, to nearest even.
pub(crate) fn f32_to_bf16(src: &[f32], dst: &mut [u16]) {
    for (d, &s) in dst.iter_mut().zip(src) {
        *d = round_bf16_bits(s);
    }
}
}

#[inline(always)]
fn round_bf16_bits(x: f32) -> u16 {
    let b = x.to_bits();
    let rounded = (b.wrapping_add(0x7fff + ((b >> 16) & 1)) >> 16) as u16;
    let nan = ((b >> 16) as u16) | 0x40;
    if x.is_nan() { nan } else { rounded }
}

dispatch! {
/// Rounds f32 values to bf16 precision in place.
pub(crate) fn round_to_bf16(x: &mut [f32]) {
    for v in x {
        *v = f32::from_bits((round_bf16_bits(*v) as u32) << 16);
    }
}
}

/// f16 to f32: exact.
pub(crate) fn f16_to_f32(src: &[u16], dst: &mut [f32]) {
    #[cfg(target_arch = "x86_64")]
    if crate::isa::isa() >= crate::isa::Isa::Avx2 {
        // SAFETY: the level includes AVX2 and F16C.
        return unsafe { f16c::to_f32(src, dst) };
    }
    for (d, &s) in dst.iter_mut().zip(src) {
        *d = f16::from_bits(s).to_f32();
    }
}

/// f32 to f16, to nearest even.
pub(crate) fn f32_to_f16(src: &[f32], dst: &mut [u16]) {
    #[cfg(target_arch = "x86_64")]
    if crate::isa::isa() >= crate::isa::Isa::Avx2 {
        // SAFETY: the level includes AVX2 and F16C.
        return unsafe { f16c::from_f32(src, dst) };
    }
    for (d, &s) in dst.iter_mut().zip(src) {
        *d = f16::from_f32(s).to_bits();
    }
}

/// Rounds f32 values to f16 precision in place.
pub(crate) fn round_to_f16(x: &mut [f32]) {
    let mut bits = [0u16; 64];
    for chunk in x.chunks_mut(64) {
        f32_to_f16(chunk, &mut bits[..chunk.len()]);
        f16_to_f32(&bits[..chunk.len()], chunk);
    }
}

/// Reads `dst.len()` neighbouring elements of a float dtype other than f64 as f32.
///
/// # Safety
/// `src` must be valid for that many elements of `dtype`.
pub(crate) unsafe fn load_f32(src: *const u8, dtype: DType, dst: &mut [f32]) {
    let n = dst.len();
    // SAFETY: the caller vouches for `n` elements; buffers are aligned for their dtype.
    unsafe {
        match dtype {
            DType::F32 => dst.copy_from_slice(std::slice::from_raw_parts(src.cast(), n)),
            DType::BF16 => bf16_to_f32(std::slice::from_raw_parts(src.cast(), n), dst),
            DType::F16 => f16_to_f32(std::slice::from_raw_parts(src.cast(), n), dst),
            other => unreachable!("load_f32 of {other}"),
        }
    }
}

/// Writes neighbouring elements of a float dtype other than f64 from f32.
///
/// # Safety
/// `dst` must be valid for `src.len()` elements of `dtype`.
pub(crate) unsafe fn store_f32(src: &[f32], dtype: DType, dst: *mut u8) {
    let n = src.len();
    // SAFETY: as for `load_f32`.
    unsafe {
        match dtype {
            DType::F32 => std::slice::from_raw_parts_mut(dst.cast(), n).copy_from_slice(src),
            DType::BF16 => f32_to_bf16(src, std::slice::from_raw_parts_mut(dst.cast(), n)),
            DType::F16 => f32_to_f16(src, std::slice::from_raw_parts_mut(dst.cast(), n)),
            other => unreachable!("store_f32 of {other}"),
        }
    }
}

/// Reads one element of a float dtype other than f64 as f32.
///
/// # Safety
/// `src` must be valid for one element of `dtype`.
#[inline(always)]
pub(crate) unsafe fn load_f32_one(src: *const u8, dtype: DType) -> f32 {
    // SAFETY: the caller vouches for the element.
    unsafe {
        match dtype {
            DType::F32 => *src.cast::<f32>(),
            DType::BF16 => (*src.cast::<bf16>()).to_f32(),
            DType::F16 => (*src.cast::<f16>()).to_f32(),
            other => unreachable!("load_f32_one of {other}"),
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod f16c {
    use half::f16;
    use std::arch::x86_64::*;

    #[target_feature(enable = "avx2,f16c")]
    pub(super) fn to_f32(src: &[u16], dst: &mut [f32]) {
        let n = src.len().min(dst.len());
        let body = n / 8 * 8;
        for i in (0..body).step_by(8) {
            // SAFETY: `i + 8 <= n` elements of both slices.
            unsafe {
                let h = _mm_loadu_si128(src.as_ptr().add(i).cast());
                _mm256_storeu_ps(dst.as_mut_ptr().add(i), _mm256_cvtph_ps(h));
            }
        }
        for i in body..n {
            dst[i] = f16::from_bits(src[i]).to_f32();
        }
    }

    #[target_feature(enable = "avx2,f16c")]
    pub(super) fn from_f32(src: &[f32], dst: &mut [u16]) {
        let n = src.len().min(dst.len());
        let body = n / 8 * 8;
        for i in (0..body).step_by(8) {
            // SAFETY: `i + 8 <= n` elements of both slices.
            unsafe {
                let v = _mm256_loadu_ps(src.as_ptr().add(i));
                let h = _mm256_cvtps_ph::<{ _MM_FROUND_TO_NEAREST_INT }>(v);
                _mm_storeu_si128(dst.as_mut_ptr().add(i).cast(), h);
            }
        }
        for i in body..n {
            dst[i] = f16::from_f32(src[i]).to_bits();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_half_value_survives_the_round_trip() {
        let all: Vec<u16> = (0..=u16::MAX).collect();
        let mut wide = vec![0f32; all.len()];
        let mut back = vec![0u16; all.len()];
        f16_to_f32(&all, &mut wide);
        f32_to_f16(&wide, &mut back);
        for (&a, &b) in all.iter().zip(&back) {
            assert!(a == b || f16::from_bits(a).is_nan() && f16::from_bits(b).is_nan());
        }
        bf16_to_f32(&all, &mut wide);
        f32_to_bf16(&wide, &mut back);
        for (&a, &b) in all.iter().zip(&back) {
            assert!(a == b || bf16::from_bits(a).is_nan() && bf16::from_bits(b).is_nan());
        }
    }

    #[test]
    fn bf16_rounds_to_even_like_half() {
        for bits in (0..u32::MAX).step_by(65_537 * 3) {
            let x = f32::from_bits(bits);
            if !x.is_nan() {
                assert_eq!(round_bf16_bits(x), bf16::from_f32(x).to_bits());
            }
        }
    }
}

//! Scales and biases of a panel of stored rows as f32, row after row or group after group.

use super::halves;
use super::{LANES, SUMS, Task};
use crate::matmul::pack::Dense;
use crate::matmul::turn::deal;
use crate::quantized::pack::Weights;
use lazul_ir::DType;
use std::arch::x86_64::*;
use std::sync::atomic::Ordering::Relaxed;

impl Task<'_> {
    /// Scales of a panel as f32, row after row at distance `plan.stride()`, and biases if there are any.
    ///
    /// # Safety
    /// The processor must have AVX-512 and what [`halves`] asks for.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512bf16")]
    pub(super) unsafe fn scales(&self, panel: usize, scales: &mut [f32], biases: &mut [f32]) {
        let (w, groups, stride) = (self.product.w, self.plan.groups, self.plan.stride());
        let mut odd = 0;
        for i in 0..LANES {
            for first in (0..stride).step_by(LANES) {
                let count =
                    if i < self.rows(panel) { groups.saturating_sub(first).min(LANES) } else { 0 };
                let at = i * stride + first;
                // SAFETY: a stored row has a scale and a bias for each group.
                unsafe {
                    let scale = numbers(w, &w.scales, panel * LANES + i, first, count);
                    odd |= not_finite(scale);
                    _mm512_storeu_ps(scales[at..at + LANES].as_mut_ptr(), scale);
                    if let Some(b) = &w.biases {
                        let bias = numbers(w, b, panel * LANES + i, first, count);
                        odd |= not_finite(bias);
                        _mm512_storeu_ps(biases[at..at + LANES].as_mut_ptr(), bias);
                    }
                }
            }
        }
        if odd != 0 {
            self.bad[panel].store(true, Relaxed);
        }
    }

    /// As [`Self::scales`], with the 16 rows' numbers of each group next to one another.
    ///
    /// # Safety
    /// As for [`Self::scales`].
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512bf16")]
    pub(super) unsafe fn turned_scales(
        &self,
        panel: usize,
        scales: &mut [f32],
        biases: &mut [f32],
    ) {
        let (w, groups) = (self.product.w, self.plan.groups);
        let rows = self.rows(panel);
        let mut odd = 0;
        // Eight groups of both go through one transposition, or sixteen where there are scales alone.
        let wide = if w.biases.is_some() { LANES / 2 } else { LANES };
        for first in (0..groups).step_by(wide) {
            let count = (groups - first).min(wide);
            let mut lines = [_mm512_setzero_si512(); LANES];
            // SAFETY: a stored row has a scale and a bias for each group, and targets hold groups up
            // to a multiple of 16.
            unsafe {
                for (i, line) in lines.iter_mut().enumerate().take(rows) {
                    let mut v = numbers(w, &w.scales, panel * LANES + i, first, count);
                    if let Some(b) = &w.biases {
                        let bias = numbers(w, b, panel * LANES + i, first, count);
                        v = _mm512_shuffle_f32x4::<0x44>(v, bias);
                    }
                    odd |= not_finite(v);
                    *line = _mm512_castps_si512(v);
                }
                let mut turned = [_mm512_setzero_si512(); LANES];
                deal(lines, turned.as_mut_ptr(), 1);
                let turned = (&raw const turned).cast::<f32>();
                let turned = std::slice::from_raw_parts(turned, SUMS);
                scales[first * LANES..][..wide * LANES].copy_from_slice(&turned[..wide * LANES]);
                if w.biases.is_some() {
                    let biases = &mut biases[first * LANES..][..wide * LANES];
                    biases.copy_from_slice(&turned[wide * LANES..]);
                }
            }
        }
        if odd != 0 {
            self.bad[panel].store(true, Relaxed);
        }
    }
}

/// Up to 16 scales or biases of a stored row as f32, from group `first` on; zeros after them.
///
/// # Safety
/// The row must have that many groups, and the processor AVX-512 and what [`halves`] asks for.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512bf16")]
unsafe fn numbers(w: &Weights, of: &Dense, row: usize, first: usize, count: usize) -> __m512 {
    let src = of.at(0, row, first);
    let mask = ((1u32 << count) - 1) as u16;
    // SAFETY: the caller vouches for the groups; masked loads touch no masked element.
    unsafe {
        match of.dtype {
            DType::BF16 => {
                let words = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, src.cast()));
                _mm512_castsi512_ps(_mm512_slli_epi32::<16>(words))
            }
            DType::F16 => _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(mask, src.cast())),
            DType::F32 => _mm512_maskz_loadu_ps(mask, src.cast()),
            _ => {
                let mut values = [0f32; LANES];
                halves::scales(w.q, src, w.factor(0), &mut values[..count]);
                _mm512_loadu_ps(values.as_ptr())
            }
        }
    }
}

/// Which lanes are infinite or not a number.
#[inline]
#[target_feature(enable = "avx512f")]
fn not_finite(x: __m512) -> __mmask16 {
    let exponent = _mm512_set1_epi32(0x7f80_0000);
    let bits = _mm512_and_si512(_mm512_castps_si512(x), exponent);
    _mm512_cmpeq_epi32_mask(bits, exponent)
}

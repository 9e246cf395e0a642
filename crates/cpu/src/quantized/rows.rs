//! Products of up to three rows of bf16 (or one of f16 or f32) by vectors, in the tile unit's order of summation (AVX-512).
//!
//! For so few rows the unit costs more than it saves: its tiles must be written and read again. Vectors
//! lie across 32 stored rows as in [`super::decode`], and every sum is the one that the unit makes: of
//! the even and of the odd codes of a step, one multiply-add after another, then of both, then of the
//! steps of a group. Only then is it scaled. [`super::tiles`] lets no number come here that could make
//! a difference: the unit reads and writes subnormal numbers as zero.

use super::codes::by_code;
use super::decode::{Tables, WORDS, code, span, turn_words, value, with_nans};
use crate::matmul::turn::Prefetch;
use lazul_ir::Quantization;
use std::arch::x86_64::*;

/// Vectors of stored rows that go side by side.
const V: usize = 2;
/// Stored rows of a call.
pub(super) const WIDTH: usize = 16 * V;
/// Rows of `x`, each counted as often as it has parts.
pub(super) const MOST: usize = 3;

/// Up to 32 stored rows times a few rows of `x`.
pub(super) struct Call {
    pub(super) q: Quantization,
    /// Codes of the first stored row, bytes between rows, and how many rows there are.
    pub(super) codes: *const u8,
    pub(super) stride: isize,
    pub(super) lanes: usize,
    pub(super) groups: usize,
    /// Codes of a step of the unit.
    pub(super) step: usize,
    /// Rows of `x`, and the parts of each: at most [`MOST`] together.
    pub(super) rows: usize,
    pub(super) parts: usize,
    /// For each code the parts of each row.
    pub(super) x: *const f32,
    /// For each group a total of each row, 16 elements apart.
    pub(super) totals: *const f32,
    /// For each vector of stored rows its scales: 16 a group.
    pub(super) scales: [*const f32; V],
    /// As `scales`; not read for small floats, which have none.
    pub(super) biases: [*const f32; V],
    /// For each row of `x` 32 sums.
    pub(super) out: *mut f32,
}

/// Runs a call.
///
/// # Safety
/// Everything must be readable and writable to the extent that the fields say, and the processor must
/// have AVX-512 BW.
pub(super) unsafe fn multiply(call: &Call) {
    // SAFETY: the caller's contract.
    unsafe { by_code!(call.q, multiply_rows(call)) }
}

/// # Safety
/// As for [`multiply`].
unsafe fn multiply_rows<const BITS: usize, const FLOAT: bool>(call: &Call) {
    // SAFETY: the caller's contract.
    unsafe {
        match (call.rows, call.parts) {
            (1, 1) => multiply_code::<BITS, FLOAT, 1, 1>(call),
            (2, 1) => multiply_code::<BITS, FLOAT, 2, 1>(call),
            (3, 1) => multiply_code::<BITS, FLOAT, 3, 1>(call),
            (1, 2) => multiply_code::<BITS, FLOAT, 1, 2>(call),
            (1, 3) => multiply_code::<BITS, FLOAT, 1, 3>(call),
            other => unreachable!("{other:?} rows and parts"),
        }
    }
}

/// # Safety
/// As for [`multiply`], with `M` rows of `P` parts.
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn multiply_code<const BITS: usize, const FLOAT: bool, const M: usize, const P: usize>(
    call: &Call,
) {
    let group = call.q.group_size();
    let (k, step) = (call.groups * group, call.step);
    let tables = Tables::new::<BITS, FLOAT>();
    let mut words = [[_mm512_setzero_si512(); WORDS]; V];
    let next = call.codes.wrapping_offset(WIDTH as isize * call.stride);
    let mut prefetch = Prefetch::new(next, call.stride, k * BITS / 8);
    let zero = _mm512_setzero_ps();
    // The results; sums of the group; sums of the even and of the odd codes of the step.
    let mut results = [[zero; V]; M];
    let mut sums = [[zero; V]; M];
    let mut even = [[[zero; V]; P]; M];
    let mut odd = [[[zero; V]; P]; M];
    // SAFETY: the caller vouches for operands and target.
    unsafe {
        for p in (0..k).step_by(span(BITS)) {
            let count = span(BITS).min(k - p);
            for v in 0..V {
                let rows = call.lanes.saturating_sub(v * 16);
                let src = call.codes.wrapping_offset((v * 16) as isize * call.stride);
                let src = src.wrapping_add(p * BITS / 8);
                turn_words::<BITS>(src, call.stride, rows, count, words[v].as_mut_ptr());
            }
            for chunk in (0..count).step_by(32) {
                // A chunk is `BITS` words of each of `16 V` rows.
                for _ in 0..BITS * V {
                    prefetch.line();
                }
                let x = call.x.add((p + chunk) * M * P);
                macro_rules! codes {
                    ($($i:literal),+) => { $(
                        for v in 0..V {
                            let words = words[v].as_ptr().add(chunk * BITS / 32);
                            let codes = code::<BITS>(words, $i);
                            let mut w = value::<BITS, FLOAT>(codes, &tables);
                            if FLOAT && BITS == 8 {
                                w = with_nans(w, codes);
                            }
                            for m in 0..M {
                                for part in 0..P {
                                    let x = _mm512_set1_ps(*x.add(($i * M + m) * P + part));
                                    let sums = if $i % 2 == 0 { &mut even } else { &mut odd };
                                    sums[m][part][v] = _mm512_fmadd_ps(x, w, sums[m][part][v]);
                                }
                            }
                        }
                    )+ };
                }
                macro_rules! end {
                    ($done:expr) => {
                        let done = p + chunk + $done;
                        if done % step == 0 {
                            for m in 0..M {
                                for v in 0..V {
                                    for part in 0..P {
                                        let both = _mm512_add_ps(even[m][part][v], odd[m][part][v]);
                                        sums[m][v] = _mm512_add_ps(sums[m][v], both);
                                        (even[m][part][v], odd[m][part][v]) = (zero, zero);
                                    }
                                }
                            }
                        }
                        if done % group == 0 {
                            let g = done / group - 1;
                            for m in 0..M {
                                for v in 0..V {
                                    let scale = _mm512_loadu_ps(call.scales[v].add(g * 16));
                                    let mut y = _mm512_fmadd_ps(sums[m][v], scale, results[m][v]);
                                    if !FLOAT {
                                        let total = _mm512_set1_ps(*call.totals.add(g * 16 + m));
                                        let bias = _mm512_loadu_ps(call.biases[v].add(g * 16));
                                        y = _mm512_fmadd_ps(total, bias, y);
                                    }
                                    (results[m][v], sums[m][v]) = (y, zero);
                                }
                            }
                        }
                    };
                }
                codes!(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
                if FLOAT && BITS == 4 {
                    end!(16);
                    // Groups of 16 may end in the middle of a chunk.
                    if chunk + 16 >= count {
                        break;
                    }
                }
                codes!(16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31);
                end!(32);
            }
        }
        for m in 0..M {
            for v in 0..V {
                _mm512_storeu_ps(call.out.add(m * WIDTH + v * 16), results[m][v]);
            }
        }
    }
}

//! Rows of the left operand, packed for the tile unit: as bf16 numbers or sums of several, with the total
//! of each group.

use super::{GRAIN, LANES, Line, Plan, SUMS, TileProduct};
use crate::convert;
use crate::matmul::driver::{Shared, with_scratch};
use crate::matmul::turn::turn;
use crate::pool;
use half::bf16;
use std::arch::x86_64::*;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

impl TileProduct<'_> {
    /// Packs rows, and says which of them the unit cannot take.
    pub(super) fn pack(
        &self,
        plan: &Plan,
        lines: &[Line],
        words: &mut [u32],
        totals: &mut [f32],
    ) -> Vec<AtomicBool> {
        let strange: Vec<AtomicBool> = lines.iter().map(|_| AtomicBool::new(false)).collect();
        let (words, totals) = (Shared(words.as_mut_ptr()), Shared(totals.as_mut_ptr()));
        let grain = (GRAIN / (LANES * self.k)).max(1);
        pool::parallel_ranges(lines.len().div_ceil(LANES), grain, |start, end| {
            let (words, totals) = (&words, &totals);
            for block in start..end {
                let rows = block * LANES..((block + 1) * LANES).min(lines.len());
                // SAFETY: blocks have their own places in both buffers; the processor has the unit,
                // and so AVX-512.
                unsafe {
                    let words = words.0.add(block * plan.words());
                    let totals = totals.0.add(block * plan.groups * LANES);
                    self.pack_block(plan, &lines[rows.clone()], words, totals, &strange[rows]);
                }
            }
        });
        strange
    }

    /// Reads a row of the left operand.
    ///
    /// # Safety
    /// `row` must be as long as the operand's rows.
    pub(super) unsafe fn load(&self, line: &Line, row: &mut [f32]) {
        let (dtype, distance) = self.x;
        let size = dtype.size() as isize;
        // SAFETY: a row of a live operand.
        unsafe {
            if distance == 1 {
                return convert::load_f32(line.x, dtype, row);
            }
            for (p, v) in row.iter_mut().enumerate() {
                let x = line.x.wrapping_offset(p as isize * distance * size);
                *v = convert::load_f32_one(x, dtype);
            }
        }
    }

    /// # Safety
    /// There must be room for a block at `words` and `totals`, and the processor must have AVX-512.
    #[target_feature(enable = "avx512f,avx512bw")]
    unsafe fn pack_block(
        &self,
        plan: &Plan,
        lines: &[Line],
        words: *mut u32,
        totals: *mut f32,
        strange: &[AtomicBool],
    ) {
        let k = self.k;
        // Rows lie at whole cache lines apart, in `parts` pieces each.
        let stride = (2 * k).next_multiple_of(64);
        with_scratch::<u16, _>(lines.len() * plan.parts * stride / 2, |pieces| {
            with_scratch::<f32, _>(k, |row| {
                for (i, line) in lines.iter().enumerate() {
                    // SAFETY: a row of the operand; `totals` has 16 elements a group.
                    unsafe {
                        self.load(line, row);
                        if !usable(row, plan.parts) {
                            strange[i].store(true, Relaxed);
                            row.fill(0.0);
                        }
                        for (g, group) in row.chunks_exact(plan.group).enumerate() {
                            *totals.add(g * LANES + i) = total(group);
                        }
                    }
                    for part in 0..plan.parts {
                        let piece = &mut pieces[(i * plan.parts + part) * stride / 2..][..k];
                        convert::f32_to_bf16(row, piece);
                        if part + 1 < plan.parts {
                            for (v, &p) in row.iter_mut().zip(&*piece) {
                                *v -= bf16::from_bits(p).to_f32();
                            }
                        }
                    }
                }
                for i in lines.len()..LANES {
                    for g in 0..plan.groups {
                        // SAFETY: as above.
                        unsafe { *totals.add(g * LANES + i) = 0.0 };
                    }
                }
                if plan.few {
                    let all = lines.len() * plan.parts;
                    for (i, piece) in pieces.chunks_exact(stride / 2).enumerate() {
                        for (p, &x) in piece[..k].iter().enumerate() {
                            // SAFETY: a few rows take less room than a block.
                            unsafe { *words.add(p * all + i) = (x as u32) << 16 };
                        }
                    }
                    return;
                }
                for part in 0..plan.parts {
                    let src = pieces[part * stride / 2..].as_ptr().cast::<u8>();
                    let between = (plan.parts * stride) as isize;
                    for step in 0..plan.steps {
                        let bytes = 2 * plan.step;
                        // SAFETY: a step of each row; the tile is one of the block's.
                        unsafe {
                            let dst = words.add((step * plan.parts + part) * SUMS);
                            turn(src.add(step * bytes), between, lines.len(), bytes, dst.cast(), 1);
                        }
                    }
                }
            });
        });
    }
}

/// Whether the unit can take a row: numbers are finite, sums of their products with codes are, and
/// neither they nor their parts, products and sums are subnormal, which the unit reads as zero.
/// All sums are whole multiples of the last bit of a number times that of a code, 2^-9 at the least.
fn usable(row: &[f32], parts: usize) -> bool {
    // The exponents from which on that multiple is no subnormal number, with room.
    let smallest = if parts == 1 { 127 - 100 } else { 127 - 90 };
    let (mut least, mut most) = (u32::MAX, 0);
    for x in row {
        let size = x.to_bits() & 0x7fff_ffff;
        most = most.max(size);
        // Zero is no small number.
        least = least.min(size.wrapping_sub(1));
    }
    most < (127 + 112) << 23 && least >= smallest << 23
}

/// The sum of a group of 16 or more.
#[inline]
#[target_feature(enable = "avx512f")]
fn total(group: &[f32]) -> f32 {
    let mut sum = _mm512_setzero_ps();
    for part in group.chunks_exact(16) {
        // SAFETY: sixteen elements.
        sum = _mm512_add_ps(sum, unsafe { _mm512_loadu_ps(part.as_ptr()) });
    }
    _mm512_reduce_add_ps(sum)
}

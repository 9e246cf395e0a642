//! Micro-kernels for sums over groups: `c += scale · (codes · x) + bias · (sum of x)`, group by group.
//!
//! The unit multiplies the codes of 16 stored rows with up to 16 rows of `x` and sums over one group
//! of neighbours along `k`; vectors then scale that sum and add it to `c`. A tile of `a` is 16 stored
//! rows by a step of 32 codes (16 where groups are that short), a tile of `b` the same step of 16 rows
//! of `x`, two neighbours to a word. An element's sums come in one order whatever is computed beside it.

use super::kernel::{Config, TILE, Tiles, load, multiply, store};
use std::arch::asm;
use std::arch::x86_64::*;

/// Rows of a panel of codes, and of a block of `x`.
pub(crate) const LANES: usize = 16;
/// Elements of a tile of sums.
pub(crate) const SUMS: usize = LANES * LANES;

/// The registers for steps of some codes: 0 to 3 hold sums, 4 and 5 codes, 6 and 7 numbers.
const fn shape(step: u8) -> Config {
    let (sums, codes, numbers) = ((16, 64), (16, 2 * step), (step / 2, 64));
    Config::new([sums, sums, sums, sums, codes, codes, numbers, numbers])
}

/// Configures the registers for steps of 16 or 32 codes.
///
/// # Safety
/// As for [`Tiles::new`].
pub(crate) unsafe fn configure(step: usize) -> Tiles {
    static SHORT: Config = shape(16);
    static LONG: Config = shape(32);
    // SAFETY: the caller's contract; the shapes fit.
    unsafe { Tiles::shaped(if step == 16 { &SHORT } else { &LONG }) }
}

/// One or two panels of codes times one or two blocks of `x`, over some groups.
pub(crate) struct Block {
    /// For each panel its rows of bf16 numbers.
    pub(crate) codes: [*const u8; 2],
    /// Bytes between rows of a panel.
    pub(crate) lane: usize,
    /// Bytes between steps of a panel: 32 or 64.
    pub(crate) step: usize,
    /// For each block of `x` its tiles: step after step, part after part.
    pub(crate) x: [*const u8; 2],
    /// For each panel, its rows' scales: group after group, `stride` elements between rows.
    pub(crate) scales: [*const f32; 2],
    /// As `scales`; null where there are none.
    pub(crate) biases: [*const f32; 2],
    pub(crate) stride: usize,
    /// For each block of `x`, sums of each group: 16 rows after one another.
    pub(crate) totals: [*const f32; 2],
    /// For each panel and block, the sums: 16 rows of `x` for each stored row.
    pub(crate) c: [[*mut f32; 2]; 2],
    pub(crate) groups: usize,
    /// Steps of a group.
    pub(crate) steps: usize,
    /// Parts whose sum an element of `x` is.
    pub(crate) parts: usize,
    /// Whether `c` counts.
    pub(crate) add: bool,
    /// Room for four tiles of sums a group.
    pub(crate) scratch: *mut f32,
}

/// Runs the kernel for `(panels, blocks)`.
///
/// # Safety
/// Everything must be readable and writable to the extent that the fields say, a guard of [`configure`]
/// alive on this thread, and the processor must have AVX-512.
pub(crate) unsafe fn run(size: (usize, usize), block: &Block) {
    // SAFETY: the caller's contract.
    unsafe {
        match size {
            (1, 1) => multiply_groups::<1, 1>(block),
            (1, 2) => multiply_groups::<1, 2>(block),
            (2, 1) => multiply_groups::<2, 1>(block),
            (2, 2) => multiply_groups::<2, 2>(block),
            other => unreachable!("{other:?} tiles"),
        }
    }
}

/// # Safety
/// As for [`run`], for `N` panels and `M` blocks.
#[target_feature(enable = "avx512f")]
unsafe fn multiply_groups<const N: usize, const M: usize>(block: &Block) {
    let Block { mut codes, lane, step, mut x, scratch, .. } = *block;
    // SAFETY: the caller vouches for operands, targets and tile registers.
    unsafe {
        for group in 0..block.groups {
            asm!("tilezero tmm0", options(nostack, nomem, preserves_flags));
            if M > 1 {
                asm!("tilezero tmm1", options(nostack, nomem, preserves_flags));
            }
            if N > 1 {
                asm!("tilezero tmm2", options(nostack, nomem, preserves_flags));
            }
            if N > 1 && M > 1 {
                asm!("tilezero tmm3", options(nostack, nomem, preserves_flags));
            }
            for _ in 0..block.steps {
                load!("tileloadd ", "tmm4", codes[0], lane);
                if N > 1 {
                    load!("tileloadd ", "tmm5", codes[1], lane);
                }
                for _ in 0..block.parts {
                    load!("tileloadd ", "tmm6", x[0], 64usize);
                    multiply!("tdpbf16ps ", "tmm0", "tmm4", "tmm6");
                    if M > 1 {
                        load!("tileloadd ", "tmm7", x[1], 64usize);
                        multiply!("tdpbf16ps ", "tmm1", "tmm4", "tmm7");
                    }
                    if N > 1 {
                        multiply!("tdpbf16ps ", "tmm2", "tmm5", "tmm6");
                    }
                    if N > 1 && M > 1 {
                        multiply!("tdpbf16ps ", "tmm3", "tmm5", "tmm7");
                    }
                    x = x.map(|x| x.wrapping_add(TILE));
                }
                codes = codes.map(|codes| codes.wrapping_add(step));
            }
            let at = |tile: usize| scratch.wrapping_add((4 * group + tile) * SUMS);
            store!("tmm0", at(0), 64usize);
            if M > 1 {
                store!("tmm1", at(1), 64usize);
            }
            if N > 1 {
                store!("tmm2", at(2), 64usize);
            }
            if N > 1 && M > 1 {
                store!("tmm3", at(3), 64usize);
            }
        }
        for n in 0..N {
            for m in 0..M {
                let sums = scratch.wrapping_add((2 * n + m) * SUMS);
                if block.biases[n].is_null() {
                    scale_groups::<false>(block, n, m, sums);
                } else {
                    scale_groups::<true>(block, n, m, sums);
                }
            }
        }
    }
}

/// Scales the sums of panel `n` and block `m`, which lie four tiles apart, and adds them to `c`.
///
/// # Safety
/// As for [`run`].
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn scale_groups<const BIAS: bool>(block: &Block, n: usize, m: usize, sums: *const f32) {
    let (c, totals) = (block.c[n][m], block.totals[m]);
    // SAFETY: the caller vouches for operands and targets.
    unsafe {
        for lane in 0..LANES {
            let scales = block.scales[n].add(lane * block.stride);
            let biases = block.biases[n].wrapping_add(lane * block.stride);
            let c = c.add(lane * LANES);
            let mut sum = if block.add { _mm512_loadu_ps(c) } else { _mm512_setzero_ps() };
            for group in 0..block.groups {
                let s = _mm512_loadu_ps(sums.add(4 * group * SUMS + lane * LANES));
                sum = _mm512_fmadd_ps(s, _mm512_set1_ps(*scales.add(group)), sum);
                if BIAS {
                    let total = _mm512_loadu_ps(totals.add(group * LANES));
                    sum = _mm512_fmadd_ps(total, _mm512_set1_ps(*biases.add(group)), sum);
                }
            }
            _mm512_storeu_ps(c, sum);
        }
    }
}

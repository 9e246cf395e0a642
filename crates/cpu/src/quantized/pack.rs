//! Panels of a quantized matrix for the micro-kernels, dequantized while they are packed.

use super::codes;
#[cfg(target_arch = "x86_64")]
use super::decode;
use crate::convert;
#[cfg(target_arch = "x86_64")]
use crate::isa::{Isa, isa};
#[cfg(target_arch = "x86_64")]
use crate::matmul::driver::Fused;
use crate::matmul::driver::{Pack, with_scratch};
use crate::matmul::kernel::Compute;
use crate::matmul::pack::{Dense, pack_lines};
use lazul_ir::Quantization;
use std::ops::Range;

/// The right operand of a quantized product. In the three parts a lane is a stored row.
pub(super) struct Weights {
    pub(super) q: Quantization,
    /// Whether stored rows are columns of the product's right operand.
    pub(super) transpose: bool,
    pub(super) codes: Dense,
    pub(super) scales: Dense,
    pub(super) biases: Dense,
}

impl Weights {
    /// Whether the kernels of [`decode`] apply.
    #[cfg(target_arch = "x86_64")]
    fn turns(&self) -> bool {
        self.transpose && isa() == Isa::Avx512
    }

    /// A block of stored rows, and their scales and biases as panels.
    #[cfg(target_arch = "x86_64")]
    fn block(
        &self,
        batch: usize,
        lanes: Range<usize>,
        ks: Range<usize>,
        width: usize,
        scales: &mut [f32],
        biases: &mut [f32],
    ) -> decode::Block {
        let (bits, group) = (self.q.bits as usize, self.q.group_size as usize);
        let groups = ks.start / group..ks.end / group;
        self.scales.pack(batch, lanes.clone(), groups.clone(), width, scales);
        self.biases.pack(batch, lanes.clone(), groups, width, biases);
        decode::Block {
            codes: self.codes.at(batch, lanes.start, ks.start * bits / 32),
            stride: self.codes.lane * 4,
            bits: self.q.bits,
            group,
            lanes: lanes.len(),
            k: ks.len(),
        }
    }

    /// Elements `range` of a stored row, dequantized. `range` need not begin with a group.
    fn row(&self, batch: usize, row: usize, range: Range<usize>, out: &mut [f32]) {
        let (bits, group) = (self.q.bits as usize, self.q.group_size as usize);
        // Streams are read in chunks of 32 codes.
        let first = range.start / 32 * 32;
        let words = self.codes.at(batch, row, first / 32 * bits).cast::<u32>();
        let count = (range.end.div_ceil(32) - first / 32) * bits;
        // SAFETY: rows hold whole groups, so whole chunks of 32 codes.
        let words = unsafe { std::slice::from_raw_parts(words, count) };
        codes::unpack(self.q.bits, words, range.start - first, out);
        let mut at = range.start;
        while at < range.end {
            let end = (at / group + 1).saturating_mul(group).min(range.end);
            let scale = self.scales.at(batch, row, at / group);
            let bias = self.biases.at(batch, row, at / group);
            // SAFETY: the row has a scale and a bias for each of its groups.
            let (scale, bias) = unsafe {
                (
                    convert::load_f32_one(scale, self.scales.dtype),
                    convert::load_f32_one(bias, self.biases.dtype),
                )
            };
            for v in &mut out[at - range.start..end - range.start] {
                *v = <f32 as Compute>::mul_add(scale, *v, bias);
            }
            at = end;
        }
    }
}

impl Pack<f32> for Weights {
    fn pack(
        &self,
        batch: usize,
        lanes: Range<usize>,
        ks: Range<usize>,
        width: usize,
        dst: &mut [f32],
    ) {
        if ks.is_empty() {
            return;
        }
        #[cfg(target_arch = "x86_64")]
        if self.turns() && width.is_multiple_of(16) {
            let len = ks.len() / self.q.group_size as usize * lanes.len().next_multiple_of(width);
            return with_scratch::<f32, _>(2 * len, |scratch| {
                let (s, b) = scratch.split_at_mut(len);
                let block = self.block(batch, lanes, ks, width, s, b);
                // SAFETY: the block lies inside the operand; the level has AVX-512.
                unsafe { decode::pack(&block, s, b, width, dst) }
            });
        }
        if self.transpose {
            pack_lines(lanes.len(), ks.len(), width, dst, |lane, line| {
                self.row(batch, lanes.start + lane, ks.clone(), line);
            });
        } else {
            let size = width * ks.len();
            with_scratch::<f32, _>(lanes.len().next_multiple_of(width), |line| {
                line[lanes.len()..].fill(0.0);
                for (i, k) in ks.clone().enumerate() {
                    self.row(batch, k, lanes.clone(), &mut line[..lanes.len()]);
                    for (p, part) in line.chunks_exact(width).enumerate() {
                        dst[p * size + i * width..][..width].copy_from_slice(part);
                    }
                }
            });
        }
    }

    fn runs_along_k(&self) -> bool {
        self.transpose
    }

    #[cfg(target_arch = "x86_64")]
    fn fused(&self, rows: usize) -> Fused {
        if self.turns() && rows <= 8 { Fused::Panel } else { Fused::No }
    }

    #[cfg(target_arch = "x86_64")]
    unsafe fn multiply(
        &self,
        batch: usize,
        lanes: Range<usize>,
        ks: Range<usize>,
        width: usize,
        rows: usize,
        a: *const f32,
        c: *mut f32,
        ldc: usize,
        add: bool,
    ) {
        let len = ks.len() / self.q.group_size as usize * width;
        with_scratch::<f32, _>(2 * len, |scratch| {
            let (s, b) = scratch.split_at_mut(len);
            let block = self.block(batch, lanes, ks, width, s, b);
            // SAFETY: the block lies inside the operand; the level has AVX-512, or else `fused`
            // says no; the rest is the caller's contract.
            unsafe { decode::multiply(&block, s.as_ptr(), b.as_ptr(), width, rows, a, c, ldc, add) }
        });
    }
}

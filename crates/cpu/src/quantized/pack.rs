//! Panels of a quantized matrix for the micro-kernels, dequantized while they are packed.

#[cfg(target_arch = "x86_64")]
use super::decode;
use super::{codes, floats};
use crate::convert;
#[cfg(target_arch = "x86_64")]
use crate::isa::{Isa, isa};
#[cfg(target_arch = "x86_64")]
use crate::matmul::driver::Fused;
use crate::matmul::driver::{Pack, with_scratch};
use crate::matmul::kernel::Compute;
use crate::matmul::pack::{Dense, pack_lines};
use lazul_ir::{NVFP4_RANGE, Quantization};
use std::ops::Range;

/// The right operand of a quantized product. In the parts a lane is a stored row.
pub(super) struct Weights {
    pub(super) q: Quantization,
    /// Whether stored rows are columns of the product's right operand.
    pub(super) transpose: bool,
    pub(super) codes: Dense,
    pub(super) scales: Dense,
    /// In the affine mode.
    pub(super) biases: Option<Dense>,
    /// One number a matrix, where nvfp4 has it.
    pub(super) global: Option<Dense>,
}

impl Weights {
    /// Matrix `batch` alone, from stored row `first` on.
    #[cfg(target_arch = "x86_64")]
    pub(super) fn rows_from(&self, batch: usize, first: usize) -> Weights {
        let one = |d: &Dense, first: usize| Dense {
            ptr: d.at(batch, first, 0),
            dtype: d.dtype,
            batch_shape: Default::default(),
            batch_strides: Default::default(),
            lane: d.lane,
            k: d.k,
        };
        Weights {
            q: self.q,
            transpose: self.transpose,
            codes: one(&self.codes, first),
            scales: one(&self.scales, first),
            biases: self.biases.as_ref().map(|b| one(b, first)),
            global: self.global.as_ref().map(|g| one(g, 0)),
        }
    }

    /// What scales of a matrix are multiplied by.
    pub(super) fn factor(&self, batch: usize) -> f32 {
        // SAFETY: there is one element for each matrix.
        let global = |g: &Dense| unsafe { convert::load_f32_one(g.at(batch, 0, 0), g.dtype) };
        self.global.as_ref().map_or(1.0, |g| global(g) / NVFP4_RANGE)
    }

    /// Whether the kernels of [`decode`] apply.
    #[cfg(target_arch = "x86_64")]
    fn turns(&self) -> bool {
        self.transpose && isa() == Isa::Avx512
    }

    /// Elements that the scales of a block take as panels of `width`; biases take as many.
    #[cfg(target_arch = "x86_64")]
    fn panel_len(&self, lanes: usize, k: usize, width: usize) -> (usize, usize) {
        let len = k / self.q.group_size() * lanes.next_multiple_of(width);
        (len, if self.biases.is_some() { len } else { 0 })
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
        let (bits, group) = (self.q.bits(), self.q.group_size());
        let groups = ks.start / group..ks.end / group;
        if let Some(b) = &self.biases {
            self.scales.pack(batch, lanes.clone(), groups.clone(), width, scales);
            b.pack(batch, lanes.clone(), groups, width, biases);
        } else {
            let (src, stride) =
                (self.scales.at(batch, lanes.start, groups.start), self.scales.lane);
            let factor = self.factor(batch);
            // SAFETY: rows have a byte for each group; the level has AVX-512.
            unsafe {
                let (lanes, groups) = (lanes.len(), groups.len());
                decode::scales(self.q, src, stride, lanes, groups, width, factor, scales);
            }
        }
        decode::Block {
            codes: self.codes.at(batch, lanes.start, ks.start / 32 * bits),
            stride: self.codes.lane * 4,
            q: self.q,
            lanes: lanes.len(),
            k: ks.len(),
        }
    }

    /// Elements `range` of a stored row, dequantized. `range` need not begin with a group.
    fn row(&self, batch: usize, row: usize, range: Range<usize>, out: &mut [f32]) {
        let group = self.q.group_size();
        // Streams are read in chunks of 32 codes; a row's last group may end in the middle of one.
        let first = range.start / 32 * 32;
        let words = self.codes.at(batch, row, self.q.words(first)).cast::<u32>();
        let count = self.q.words(range.end.next_multiple_of(group)) - self.q.words(first);
        // SAFETY: rows hold whole groups.
        let words = unsafe { std::slice::from_raw_parts(words, count) };
        codes::unpack(self.q, words, range.start - first, out);
        let factor = self.factor(batch);
        let mut at = range.start;
        while at < range.end {
            let end = (at / group + 1).saturating_mul(group).min(range.end);
            let out = &mut out[at - range.start..end - range.start];
            let scale = self.scales.at(batch, row, at / group);
            // SAFETY: the row has a scale and a bias for each of its groups.
            unsafe {
                if let Some(biases) = &self.biases {
                    let bias = biases.at(batch, row, at / group);
                    let bias = convert::load_f32_one(bias, biases.dtype);
                    let scale = convert::load_f32_one(scale, self.scales.dtype);
                    for v in out {
                        *v = <f32 as Compute>::mul_add(scale, *v, bias);
                    }
                } else {
                    let scale = scale_of(self.q, *scale, factor);
                    for v in out {
                        *v *= scale;
                    }
                }
            }
            at = end;
        }
    }
}

/// Packs lanes that come beside each other, as lines across `k`: `fill(k, line)` writes one.
pub(super) fn across(
    lanes: &Range<usize>,
    ks: &Range<usize>,
    width: usize,
    dst: &mut [f32],
    fill: impl Fn(usize, &mut [f32]),
) {
    let size = width * ks.len();
    with_scratch::<f32, _>(lanes.len().next_multiple_of(width), |line| {
        line[lanes.len()..].fill(0.0);
        for (i, k) in ks.clone().enumerate() {
            fill(k, &mut line[..lanes.len()]);
            for (p, part) in line.chunks_exact(width).enumerate() {
                dst[p * size + i * width..][..width].copy_from_slice(part);
            }
        }
    });
}

/// The number that multiplies small floats, from the code of their scale.
pub(super) fn scale_of(q: Quantization, code: u8, factor: f32) -> f32 {
    match q {
        Quantization::NvFp4 => floats::e4m3(code as u32) * factor,
        _ => floats::e8m0(code),
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
            let (len, more) = self.panel_len(lanes.len(), ks.len(), width);
            return with_scratch::<f32, _>(len + more, |scratch| {
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
            across(&lanes, &ks, width, dst, |k, line| self.row(batch, k, lanes.clone(), line));
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
        let (len, more) = self.panel_len(width, ks.len(), width);
        with_scratch::<f32, _>(len + more, |scratch| {
            let (s, b) = scratch.split_at_mut(len);
            let block = self.block(batch, lanes, ks, width, s, b);
            // SAFETY: the block lies inside the operand; the level has AVX-512, or else `fused`
            // says no; the rest is the caller's contract.
            unsafe { decode::multiply(&block, s.as_ptr(), b.as_ptr(), width, rows, a, c, ldc, add) }
        });
    }
}

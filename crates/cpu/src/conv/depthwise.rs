//! Convolutions with one input channel a group, directly.
//!
//! There is nothing to multiply across channels here, so vectors lie along them: an output row is
//! cut into tiles of several windows by 16 channels, whose sums stay in registers while the taps run.
//! Fewer than 16 channels, with a stride of 1, are read as 16 windows of them at a time, with weights
//! repeated to match. Windows that reach over the edge of a row are computed one by one.

use super::axis::Axis;
use super::patches::Patches;
use super::target::Target;
use super::vector::{Array, Bool, LANES, Lane, Read, Stored, Vector};
use crate::copy::Shared;
use crate::matmul::driver::with_scratch;
use crate::pool;
use half::{bf16, f16};
use lazul_ir::{DType, Operand};
use smallvec::SmallVec;

/// Multiply-adds of a task, about.
const GRAIN: usize = 1 << 16;

/// Whether a convolution of so many groups should come here.
pub(super) fn pays(groups: usize, x: &Operand<'_>, out: &lazul_ir::Target<'_>) -> bool {
    let (c_in, c_out) = (x.shape[x.shape.len() - 1], out.shape[out.shape.len() - 1]);
    c_in == groups && x.dtype != DType::C64 && (groups >= LANES || c_out == groups)
}

/// Convolves the windows with weights `(c_out, taps…)`, row-major.
pub(super) fn run(patches: &Patches, weights: *const u8, target: &Target) {
    match patches.dtype {
        DType::F32 => convolve::<f32>(patches, weights.cast(), target),
        DType::F16 => convolve::<f16>(patches, weights.cast(), target),
        DType::BF16 => convolve::<bf16>(patches, weights.cast(), target),
        DType::F64 => convolve::<f64>(patches, weights.cast(), target),
        DType::I64 | DType::U64 => convolve::<i64>(patches, weights.cast(), target),
        DType::I32 | DType::U32 => convolve::<i32>(patches, weights.cast(), target),
        DType::I16 | DType::U16 => convolve::<u16>(patches, weights.cast(), target),
        DType::I8 | DType::U8 => convolve::<u8>(patches, weights.cast(), target),
        DType::Bool => convolve::<Bool>(patches, weights.cast(), target),
        DType::C64 => unreachable!("complex convolutions are products"),
    }
}

/// One row of outputs, or a segment of it.
struct Line<'a, S: Stored> {
    axis: Axis,
    /// Distance between neighbours along the row, in elements.
    step: isize,
    channels: usize,
    /// Outputs a channel.
    multiplier: usize,
    /// Taps of a window, on all rows.
    taps: usize,
    /// `(multiplier, taps, channels)`.
    weights: &'a [S::T],
    /// `(taps, LANES * channels)`: the weights repeated, if channels are few and rows contiguous.
    repeated: &'a [S::T],
    /// The rows of taps that meet the input: address of tap 0 of window 0, and number of its weight.
    rows: &'a [(*const S, usize)],
    /// Where window 0 begins.
    start: isize,
    /// First output of window 0, and distance to that of the next.
    out: (*mut S, usize),
    from: usize,
    to: usize,
}

fn convolve<S: Engine>(patches: &Patches, weights: *const S, target: &Target) {
    let (axis, step) = patches.row();
    let (channels, multiplier) = (target.channels / target.group, target.group);
    let tap_rows = patches.tap_rows();
    let taps = tap_rows * axis.taps;
    let few = channels < LANES
        && multiplier == 1
        && axis.stride * step == channels as isize
        && target.row_step() == 1;
    let repeat = if few { LANES * channels * taps } else { 0 };
    with_scratch::<S::T, _>(target.channels * taps + repeat, |scratch| {
        let (turned, repeated) = scratch.split_at_mut(target.channels * taps);
        for c in 0..channels {
            for j in 0..multiplier {
                for t in 0..taps {
                    // SAFETY: the weights have that many elements.
                    let w = unsafe { weights.add((c * multiplier + j) * taps + t).read() };
                    turned[(j * taps + t) * channels + c] = w.to();
                }
            }
        }
        for (line, w) in
            repeated.chunks_exact_mut(LANES * channels).zip(turned.chunks_exact(channels))
        {
            line.chunks_exact_mut(channels).for_each(|part| part.copy_from_slice(w));
        }
        let (turned, repeated) = (&*turned, &*repeated);

        let lines = patches.windows() / axis.windows;
        // Few long rows are cut into segments.
        let segment = axis.windows.min((axis.windows * lines).div_ceil(64).max(512));
        let segments = axis.windows.div_ceil(segment);
        let work = segment.saturating_mul(target.channels).saturating_mul(taps).max(1);
        let shared = Shared((patches.ptr.cast::<S>(), target.ptr.cast::<S>()));
        pool::parallel_ranges(lines * segments, GRAIN / work, |begin, end| {
            let (src, dst) = shared.get();
            let mut rows: SmallVec<[(*const S, usize); 16]> = SmallVec::new();
            for task in begin..end {
                let (line, part) = (task / segments, task % segments);
                let first = line * axis.windows;
                let window = patches.window(first);
                rows.clear();
                for r in 0..tap_rows {
                    if patches.meets(&window.starts, r) {
                        let at = window.at.wrapping_add(patches.distance(r, 0));
                        rows.push((src.wrapping_offset(at), r * axis.taps));
                    }
                }
                let line = Line {
                    axis,
                    step,
                    channels,
                    multiplier,
                    taps,
                    weights: turned,
                    repeated,
                    rows: &rows,
                    start: window.starts[window.starts.len() - 1],
                    out: (
                        dst.wrapping_add(target.pixel(first) * target.channels),
                        target.row_step() * target.channels,
                    ),
                    from: part * segment,
                    to: ((part + 1) * segment).min(axis.windows),
                };
                S::run(&line);
            }
        });
    });
}

/// A stored type with kernels.
trait Engine: Stored {
    /// Computes a line with the vectors of this processor.
    fn run(line: &Line<'_, Self>);
}

macro_rules! engine {
    ($($s:ty: $wide:ident, $pair:ident, $height:literal;)+) => {$(
        impl Engine for $s {
            fn run(line: &Line<'_, Self>) {
                #[cfg(target_arch = "x86_64")]
                {
                    use super::vector::x86::{$pair, $wide};
                    use crate::isa::{Isa, isa};
                    #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl")]
                    fn avx512(line: &Line<'_, $s>) {
                        line.run::<$wide, true, 8>();
                    }
                    #[target_feature(enable = "avx2,fma,f16c")]
                    fn avx2(line: &Line<'_, $s>) {
                        line.run::<$pair, true, $height>();
                    }
                    match isa() {
                        // SAFETY: `isa()` answers only with levels that the processor has.
                        Isa::Avx512 => return unsafe { avx512(line) },
                        // SAFETY: as above.
                        Isa::Avx2 => return unsafe { avx2(line) },
                        Isa::Scalar => {}
                    }
                }
                line.run::<Array<_>, false, 2>();
            }
        }
    )+};
    (portable $($s:ty)+) => {$(
        impl Engine for $s {
            fn run(line: &Line<'_, Self>) {
                line.run::<Array<_>, false, 2>();
            }
        }
    )+};
}
engine! {
    f32: Wide, Pair, 4;
    bf16: Wide, Pair, 4;
    f16: Wide, Pair, 4;
    f64: WideDouble, PairDouble, 2;
}
engine!(portable i64 i32 u16 u8 Bool);

impl<S: Stored> Line<'_, S> {
    /// Tiles of `P` windows.
    #[inline(always)]
    fn run<V: Vector<T = S::T>, const FUSED: bool, const P: usize>(&self)
    where
        S: Read<V>,
    {
        let Axis { taps, stride, dilation, len, .. } = self.axis;
        // The windows from `low` to `high` lie inside the input as a whole.
        let reach = (taps as isize - 1) * dilation;
        let first = self.start + reach.min(0);
        let last = len as isize - 1 - (self.start + reach.max(0));
        let (mut low, mut high) = (self.from, self.to);
        while low < high && first + (low as isize) * stride < 0 {
            low += 1;
        }
        while high > low && (high as isize - 1) * stride > last {
            high -= 1;
        }
        for q in self.from..low {
            self.window::<V, FUSED>(q);
        }
        for q in high..self.to {
            self.window::<V, FUSED>(q);
        }

        let mut done = low;
        if !self.repeated.is_empty() {
            let jump = stride.wrapping_mul(self.step);
            let (groups, width) = ((high - low) / LANES, LANES * self.channels);
            for c in (0..width).step_by(LANES) {
                let tile = Tile {
                    weights: &self.repeated[c..],
                    weight_step: width,
                    from: (low as isize).wrapping_mul(jump).wrapping_add(c as isize),
                    jump: (LANES as isize).wrapping_mul(jump),
                    out: self.out.0.wrapping_add(low * self.out.1 + c),
                    out_jump: LANES * self.out.1,
                    out_step: 1,
                };
                self.tiles::<V, P>(&tile, groups);
            }
            done += groups * LANES;
        } else if self.channels >= LANES {
            for c in (0..self.channels - LANES + 1).step_by(LANES) {
                for j in 0..self.multiplier {
                    self.tiles::<V, P>(&self.block(low, c, j), high - low);
                }
            }
            done = high;
            let rest = self.channels / LANES * LANES;
            if rest < self.channels {
                for q in low..high {
                    self.channels_of::<FUSED>(q, rest, 0..taps);
                }
            }
        }
        for q in done..high {
            self.channels_of::<FUSED>(q, 0, 0..taps);
        }
    }

    /// Outputs `j` of channels `c..c + LANES` of the windows from `low` on.
    #[inline(always)]
    fn block(&self, low: usize, c: usize, j: usize) -> Tile<'_, S> {
        let jump = self.axis.stride.wrapping_mul(self.step);
        Tile {
            weights: &self.weights[j * self.taps * self.channels + c..],
            weight_step: self.channels,
            from: (low as isize).wrapping_mul(jump).wrapping_add(c as isize),
            jump,
            out: self.out.0.wrapping_add(low * self.out.1 + c * self.multiplier + j),
            out_jump: self.out.1,
            out_step: self.multiplier,
        }
    }

    /// A window that may reach over the edge.
    #[inline(always)]
    fn window<V: Vector<T = S::T>, const FUSED: bool>(&self, q: usize)
    where
        S: Read<V>,
    {
        let inside = self.axis.inside(self.start + q as isize * self.axis.stride);
        let mut c = 0;
        while c + LANES <= self.channels {
            for j in 0..self.multiplier {
                // SAFETY: the taps inside have all channels there, and the outputs are the line's.
                unsafe { self.tile::<V, 1>(&self.block(q, c, j), 0, inside.clone()) };
            }
            c += LANES;
        }
        if c < self.channels {
            self.channels_of::<FUSED>(q, c, inside);
        }
    }

    /// Channels `from..` of a window, over some taps of each row.
    #[inline(always)]
    fn channels_of<const FUSED: bool>(
        &self,
        q: usize,
        from: usize,
        inside: std::ops::Range<usize>,
    ) {
        let at = (q as isize * self.axis.stride).wrapping_mul(self.step);
        let tap = self.axis.dilation.wrapping_mul(self.step);
        for c in (from..self.channels).step_by(LANES) {
            let count = LANES.min(self.channels - c);
            for j in 0..self.multiplier {
                let mut sums = [S::T::default(); LANES];
                for &(row, first) in self.rows {
                    for u in inside.clone() {
                        let w = (j * self.taps + first + u) * self.channels + c;
                        let w = &self.weights[w..][..count];
                        let x = at.wrapping_add(tap.wrapping_mul(u as isize));
                        let x = row.wrapping_offset(x.wrapping_add(c as isize));
                        for (i, (sum, &w)) in sums.iter_mut().zip(w).enumerate() {
                            // SAFETY: a tap inside the input has all channels there.
                            let x = unsafe { x.add(i).read() }.to();
                            *sum = S::T::multiply_add::<FUSED>(x, w, *sum);
                        }
                    }
                }
                let out = q * self.out.1 + c * self.multiplier + j;
                // SAFETY: the window's outputs belong to this line.
                unsafe {
                    S::store(&sums[..count], self.out.0.wrapping_add(out), self.multiplier);
                }
            }
        }
    }

    /// `count` vectors of outputs that see all taps, `P` at a time.
    #[inline(always)]
    fn tiles<V: Vector<T = S::T>, const P: usize>(&self, tile: &Tile<'_, S>, count: usize)
    where
        S: Read<V>,
    {
        let mut i = 0;
        // SAFETY: outputs `i..` up to `count` exist, and what they see lies inside the input.
        unsafe {
            while i + P <= count {
                self.tile::<V, P>(tile, i, 0..self.axis.taps);
                i += P;
            }
            while i < count {
                self.tile::<V, 1>(tile, i, 0..self.axis.taps);
                i += 1;
            }
        }
    }

    /// Vectors `first..first + P`, over some taps of each row.
    ///
    /// # Safety
    /// They must exist, and what those taps see must lie inside the input.
    #[inline(always)]
    unsafe fn tile<V: Vector<T = S::T>, const P: usize>(
        &self,
        tile: &Tile<'_, S>,
        first: usize,
        inside: std::ops::Range<usize>,
    ) where
        S: Read<V>,
    {
        let tap = self.axis.dilation.wrapping_mul(self.step);
        let from = tile.from.wrapping_add(tile.jump.wrapping_mul(first as isize));
        // SAFETY: the caller's contract; the vectors are those of this processor.
        unsafe {
            let mut sums = [V::zero(); P];
            for &(row, weight) in self.rows {
                let mut x = row.wrapping_offset(from.wrapping_add(tap * inside.start as isize));
                for u in inside.clone() {
                    let w = &tile.weights[(weight + u) * tile.weight_step..][..LANES];
                    let w = V::load(w.as_ptr());
                    for p in 0..P {
                        let x: V = S::read(x.wrapping_offset(tile.jump * p as isize));
                        sums[p] = x.multiply_add(w, sums[p]);
                    }
                    x = x.wrapping_offset(tap);
                }
            }
            for p in 0..P {
                let mut line = [S::T::default(); LANES];
                sums[p].store(line.as_mut_ptr());
                S::store(&line, tile.out.wrapping_add((first + p) * tile.out_jump), tile.out_step);
            }
        }
    }
}

/// Vectors of outputs, each of which sees all taps: 16 channels, or 16 windows of few.
struct Tile<'a, S: Stored> {
    weights: &'a [S::T],
    /// Distance between the weights of neighbouring taps.
    weight_step: usize,
    /// Distance of what vector 0 sees from the start of a row of taps.
    from: isize,
    /// Distance between what neighbouring vectors see.
    jump: isize,
    out: *mut S,
    /// Distance between neighbouring vectors of outputs.
    out_jump: usize,
    /// Distance between neighbouring lanes of outputs.
    out_step: usize,
}

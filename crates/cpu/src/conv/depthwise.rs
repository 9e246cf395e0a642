//! Convolutions with one input channel a group, directly.
//!
//! There is nothing to multiply across channels here, so vectors lie along them: an output row is
//! cut into tiles of several windows by 16 channels, whose sums stay in registers while the taps run.
//! Fewer than 16 channels, with a stride of 1, are read as 16 windows of them at a time, with weights
//! repeated to match. Windows that reach over the edge of a row are computed one by one.

use super::axis::Axis;
use super::patches::Patches;
use super::target::Target;
use crate::copy::Shared;
use crate::matmul::driver::with_scratch;
use crate::matmul::kernel::Compute;
use crate::{convert, pool};
use half::{bf16, f16};
use lazul_ir::{DType, Operand};
use smallvec::SmallVec;

/// Lanes of a vector, in elements; processors with shorter ones use several.
const LANES: usize = 16;
/// Multiply-adds of a task, about.
const GRAIN: usize = 1 << 16;

/// Whether a convolution of so many groups should come here.
pub(super) fn pays(groups: usize, x: &Operand<'_>, out: &lazul_ir::Target<'_>) -> bool {
    let (c_in, c_out) = (x.shape[x.shape.len() - 1], out.shape[out.shape.len() - 1]);
    c_in == groups && x.dtype != DType::C64 && (groups >= LANES || c_out == groups)
}

/// A compute type.
trait Lane: Compute {
    /// `a * b + c`, fused where `FUSED` says that the processor can.
    fn multiply_add<const FUSED: bool>(a: Self, b: Self, c: Self) -> Self;
}

macro_rules! lane {
    ($($t:ty: $fused:expr),+) => {$(
        impl Lane for $t {
            #[inline(always)]
            fn multiply_add<const FUSED: bool>(a: $t, b: $t, c: $t) -> $t {
                if FUSED { $fused(a, b, c) } else { <$t as Compute>::mul_add(a, b, c) }
            }
        }
    )+};
}
lane!(f32: f32::mul_add, f64: f64::mul_add, i32: Compute::mul_add, i64: Compute::mul_add);

/// A stored type and its compute type.
trait Stored: Copy {
    type T: Lane;

    fn to(self) -> Self::T;
    fn from(x: Self::T) -> Self;

    /// 16 neighbours; `FUSED` says that the processor has AVX2 and F16C.
    ///
    /// # Safety
    /// They must be readable, and the processor as `FUSED` says.
    #[inline(always)]
    unsafe fn load<const FUSED: bool>(src: *const Self) -> [Self::T; LANES] {
        // SAFETY: the caller's contract.
        std::array::from_fn(|i| unsafe { src.add(i).read_unaligned() }.to())
    }

    /// Writes elements at distance `step`.
    ///
    /// # Safety
    /// They must be writable.
    #[inline(always)]
    unsafe fn store(values: &[Self::T], dst: *mut Self, step: usize) {
        for (i, &x) in values.iter().enumerate() {
            // SAFETY: the caller's contract.
            unsafe { dst.add(i * step).write(Self::from(x)) };
        }
    }
}

macro_rules! stored {
    ($($s:ty => $t:ty: $to:expr, $from:expr;)+) => {$(
        impl Stored for $s {
            type T = $t;
            #[inline(always)]
            fn to(self) -> $t { $to(self) }
            #[inline(always)]
            fn from(x: $t) -> $s { $from(x) }
        }
    )+};
}

/// A byte that is zero or one.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct Bool(u8);

// Wrapping products and sums have the same low bits whatever the sign.
stored! {
    f32 => f32: |x| x, |x| x;
    f64 => f64: |x| x, |x| x;
    i64 => i64: |x| x, |x| x;
    i32 => i32: |x| x, |x| x;
    u16 => i32: |x| x as i32, |x| x as u16;
    u8 => i32: |x| x as i32, |x| x as u8;
    Bool => i32: |x: Bool| x.0 as i32, |x| Bool((x != 0) as u8);
}

impl Stored for bf16 {
    type T = f32;
    #[inline(always)]
    fn to(self) -> f32 {
        f32::from_bits((self.to_bits() as u32) << 16)
    }
    #[inline(always)]
    fn from(x: f32) -> bf16 {
        bf16::from_f32(x)
    }
    #[inline(always)]
    unsafe fn store(values: &[f32], dst: *mut bf16, step: usize) {
        // SAFETY: the caller's contract.
        unsafe { store_half(values, DType::BF16, dst, step) }
    }
}

impl Stored for f16 {
    type T = f32;
    #[inline(always)]
    fn to(self) -> f32 {
        self.to_f32()
    }
    #[inline(always)]
    fn from(x: f32) -> f16 {
        f16::from_f32(x)
    }
    #[inline(always)]
    unsafe fn load<const FUSED: bool>(src: *const f16) -> [f32; LANES] {
        #[cfg(target_arch = "x86_64")]
        if FUSED {
            use std::arch::x86_64::*;
            // SAFETY: the caller's contract: the elements are readable, the level has F16C.
            unsafe {
                let half = |i: usize| _mm256_cvtph_ps(_mm_loadu_si128(src.add(8 * i).cast()));
                return std::mem::transmute::<[__m256; 2], [f32; LANES]>([half(0), half(1)]);
            }
        }
        // SAFETY: as above.
        std::array::from_fn(|i| unsafe { src.add(i).read_unaligned() }.to_f32())
    }
    #[inline(always)]
    unsafe fn store(values: &[f32], dst: *mut f16, step: usize) {
        // SAFETY: the caller's contract.
        unsafe { store_half(values, DType::F16, dst, step) }
    }
}

/// # Safety
/// As for [`Stored::store`]; `S` must be the type of `dtype`.
#[inline(always)]
unsafe fn store_half<S: Stored<T = f32>>(values: &[f32], dtype: DType, dst: *mut S, step: usize) {
    // SAFETY: the caller's contract.
    unsafe {
        if step == 1 {
            return convert::store_f32(values, dtype, dst.cast());
        }
        for (i, &x) in values.iter().enumerate() {
            dst.add(i * step).write(S::from(x));
        }
    }
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

fn convolve<S: Stored>(patches: &Patches, weights: *const S, target: &Target) {
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
                line.run();
            }
        });
    });
}

impl<S: Stored> Line<'_, S> {
    fn run(&self) {
        #[cfg(target_arch = "x86_64")]
        {
            use crate::isa::{Isa, isa};
            #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl")]
            fn avx512<S: Stored>(line: &Line<'_, S>) {
                line.at_level::<true, 8>();
            }
            #[target_feature(enable = "avx2,fma,f16c")]
            fn avx2<S: Stored>(line: &Line<'_, S>) {
                line.at_level::<true, 4>();
            }
            match isa() {
                // SAFETY: `isa()` answers only with levels that the processor has.
                Isa::Avx512 => return unsafe { avx512(self) },
                // SAFETY: as above.
                Isa::Avx2 => return unsafe { avx2(self) },
                Isa::Scalar => {}
            }
        }
        self.at_level::<false, 2>();
    }

    /// Tiles of `P` windows.
    #[inline(always)]
    fn at_level<const FUSED: bool, const P: usize>(&self) {
        let Axis { taps, stride, dilation, len, .. } = self.axis;
        // The windows from `low` to `high` lie inside the input as a whole.
        let reach = (taps as isize - 1) * dilation;
        let full = |q: usize| {
            let start = self.start + q as isize * stride;
            start + reach.min(0) >= 0 && start + reach.max(0) < len as isize
        };
        let (mut low, mut high) = (self.from, self.to);
        while low < high && !full(low) {
            low += 1;
        }
        while high > low && !full(high - 1) {
            high -= 1;
        }
        (self.from..low).chain(high..self.to).for_each(|q| self.window::<FUSED>(q));

        let jump = stride.wrapping_mul(self.step);
        let mut done = low;
        if !self.repeated.is_empty() {
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
                self.tiles::<FUSED, P>(&tile, groups);
            }
            done += groups * LANES;
        } else if self.channels >= LANES {
            let wide = self.channels / LANES * LANES;
            for c in (0..wide).step_by(LANES) {
                for j in 0..self.multiplier {
                    let tile = Tile {
                        weights: &self.weights[j * self.taps * self.channels + c..],
                        weight_step: self.channels,
                        from: (low as isize).wrapping_mul(jump).wrapping_add(c as isize),
                        jump,
                        out: self.out.0.wrapping_add(low * self.out.1 + c * self.multiplier + j),
                        out_jump: self.out.1,
                        out_step: self.multiplier,
                    };
                    self.tiles::<FUSED, P>(&tile, high - low);
                }
            }
            if wide < self.channels {
                (low..high).for_each(|q| self.channels_of::<FUSED>(q, wide, 0..taps));
            }
            done = high;
        }
        (done..high).for_each(|q| self.channels_of::<FUSED>(q, 0, 0..taps));
    }

    /// A window that may reach over the edge.
    #[inline(always)]
    fn window<const FUSED: bool>(&self, q: usize) {
        let inside = self.axis.inside(self.start + q as isize * self.axis.stride);
        self.channels_of::<FUSED>(q, 0, inside);
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
    fn tiles<const FUSED: bool, const P: usize>(&self, tile: &Tile<'_, S>, count: usize) {
        let mut i = 0;
        // SAFETY: outputs `i..` up to `count` exist, and what they see lies inside the input.
        unsafe {
            while i + P <= count {
                self.tile::<FUSED, P>(tile, i);
                i += P;
            }
            while i < count {
                self.tile::<FUSED, 1>(tile, i);
                i += 1;
            }
        }
    }

    /// # Safety
    /// Vectors `first..first + P` must exist, and what they see must lie inside the input.
    #[inline(always)]
    unsafe fn tile<const FUSED: bool, const P: usize>(&self, tile: &Tile<'_, S>, first: usize) {
        let tap = self.axis.dilation.wrapping_mul(self.step);
        let from = tile.from.wrapping_add(tile.jump.wrapping_mul(first as isize));
        let mut sums = [[S::T::default(); LANES]; P];
        for &(row, weight) in self.rows {
            let mut x = row.wrapping_offset(from);
            for u in 0..self.axis.taps {
                let w = &tile.weights[(weight + u) * tile.weight_step..][..LANES];
                for p in 0..P {
                    // SAFETY: the caller's contract.
                    let x = unsafe {
                        S::load::<FUSED>(x.wrapping_offset(tile.jump.wrapping_mul(p as isize)))
                    };
                    for l in 0..LANES {
                        sums[p][l] = S::T::multiply_add::<FUSED>(x[l], w[l], sums[p][l]);
                    }
                }
                x = x.wrapping_offset(tap);
            }
        }
        for p in 0..P {
            let out = tile.out.wrapping_add((first + p) * tile.out_jump);
            // SAFETY: the caller's contract.
            unsafe { S::store(&sums[p], out, tile.out_step) };
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

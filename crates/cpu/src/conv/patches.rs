//! Windows of the input as panels of a matrix product.
//!
//! A lane is a window, and `k` runs over its taps, row-major, and the channels of a group in each.
//! Along `k` a window is a sequence of runs that are contiguous in memory, or zero where it reaches
//! over the edge: the channels of a tap, or, where neighbouring taps are neighbours in memory too, of
//! a whole row of taps. Panels are filled run by run; with AVX-512, 16 windows at a time are turned
//! in registers on their way from the input.

use super::axis::Axis;
use crate::convert::load_f32;
#[cfg(target_arch = "x86_64")]
use crate::isa::{Isa, isa};
use crate::matmul::driver::Pack;
use crate::matmul::pack::pack_lines;
use lazul_ir::DType;
use smallvec::SmallVec;
use std::ops::Range;

/// A spatial axis of the input in memory.
#[derive(Clone, Copy)]
pub(super) struct Spatial {
    pub(super) axis: Axis,
    /// Distance between neighbours, in elements.
    pub(super) step: isize,
}

/// The windows of an input `(n, spatial…, channels)` whose channels are neighbours in memory.
#[derive(Clone)]
pub(super) struct Patches {
    pub(super) ptr: *const u8,
    pub(super) dtype: DType,
    /// Channels of a group.
    pub(super) channels: usize,
    /// Distance between images, in elements.
    pub(super) batch_step: isize,
    pub(super) spatial: SmallVec<[Spatial; 3]>,
    /// `(n, windows…)`.
    pub(super) shape: SmallVec<[usize; 4]>,
}

// SAFETY: an operand's memory has no writer while its job runs.
unsafe impl Sync for Patches {}

/// Where a window lies.
pub(super) struct Window {
    /// Position of its tap 0, in elements; perhaps outside of the input.
    pub(super) at: isize,
    /// Where it begins along each axis.
    pub(super) starts: SmallVec<[isize; 3]>,
}

impl Patches {
    /// Number of windows.
    pub(super) fn windows(&self) -> usize {
        self.shape.iter().product()
    }

    /// Windows `first` of the first axis of one image, seen by one group alone.
    #[cfg(target_arch = "x86_64")]
    pub(super) fn part(&self, image: usize, group: usize, first: Range<usize>) -> Patches {
        let mut part = self.clone();
        part.ptr = self.address(group, image as isize * self.batch_step);
        let axis = &mut part.spatial[0].axis;
        axis.offset += first.start as isize * axis.stride;
        axis.windows = first.len();
        (part.shape[0], part.shape[1]) = (1, first.len());
        part
    }

    /// Complex channels as pairs of real ones.
    pub(super) fn pairs(&self) -> Patches {
        let double = |s: &Spatial| Spatial { step: 2 * s.step, ..*s };
        Patches {
            dtype: DType::F32,
            channels: 2 * self.channels,
            batch_step: 2 * self.batch_step,
            spatial: self.spatial.iter().map(double).collect(),
            ..self.clone()
        }
    }

    /// The axis along which rows of taps lie, the last one.
    fn last(&self) -> &Spatial {
        &self.spatial[self.spatial.len() - 1]
    }

    /// Where a window lies.
    pub(super) fn window(&self, mut number: usize) -> Window {
        let mut window = Window { at: 0, starts: SmallVec::from_elem(0, self.spatial.len()) };
        for (i, s) in self.spatial.iter().enumerate().rev() {
            let q = number % s.axis.windows;
            number /= s.axis.windows;
            window.starts[i] = s.axis.offset + q as isize * s.axis.stride;
            window.at = window.at.wrapping_add(window.starts[i].wrapping_mul(s.step));
        }
        window.at = window.at.wrapping_add((number as isize).wrapping_mul(self.batch_step));
        window
    }

    /// Distance of tap `u` of row `row` of taps from tap 0, in elements.
    pub(super) fn distance(&self, mut row: usize, u: usize) -> isize {
        let last = self.last();
        let mut distance = (u as isize * last.axis.dilation).wrapping_mul(last.step);
        for s in self.spatial.iter().rev().skip(1) {
            let u = (row % s.axis.taps) as isize;
            row /= s.axis.taps;
            distance = distance.wrapping_add((u * s.axis.dilation).wrapping_mul(s.step));
        }
        distance
    }

    /// Whether row `row` of a window's taps meets the input along all axes but the last.
    pub(super) fn meets(&self, starts: &[isize], mut row: usize) -> bool {
        for (s, start) in self.spatial.iter().zip(starts).rev().skip(1) {
            let u = (row % s.axis.taps) as isize;
            row /= s.axis.taps;
            if (start + u * s.axis.dilation) as usize >= s.axis.len {
                return false;
            }
        }
        true
    }

    /// The axis along which rows of windows and taps lie, and the distance of neighbours there.
    pub(super) fn row(&self) -> (Axis, isize) {
        (self.last().axis, self.last().step)
    }

    /// Rows of taps in a window.
    pub(super) fn tap_rows(&self) -> usize {
        self.spatial.iter().rev().skip(1).map(|s| s.axis.taps).product()
    }

    /// Address of a position of a group, in elements.
    pub(super) fn address(&self, group: usize, position: isize) -> *const u8 {
        let position = position.wrapping_add((group * self.channels) as isize);
        self.ptr.wrapping_offset(position.wrapping_mul(self.dtype.size() as isize))
    }

    /// Whether the taps of a row are neighbours in memory, with nothing between their channels.
    fn merges(&self) -> bool {
        let last = self.last();
        last.axis.dilation == 1 && last.step == self.channels as isize
    }

    /// Calls `f(k - ks.start, len, address)` for every run of a window in `ks`; the address is missing
    /// where the run is zero.
    fn runs(
        &self,
        group: usize,
        window: usize,
        ks: Range<usize>,
        mut f: impl FnMut(usize, usize, Option<*const u8>),
    ) {
        let (c, taps, merges) = (self.channels, self.last().axis.taps, self.merges());
        let Window { at, starts } = self.window(window);
        let inside = self.last().axis.inside(starts[starts.len() - 1]);
        let mut k = ks.start;
        let (mut row, mut u, mut ci) = (k / c / taps, k / c % taps, k % c);
        let mut meets = self.meets(&starts, row);
        while k < ks.end {
            let met = meets && inside.contains(&u);
            let until = match met {
                true if merges => inside.end,
                true => u + 1,
                false if meets && u < inside.start => inside.start,
                false => taps,
            };
            let len = ((until - u) * c - ci).min(ks.end - k);
            let position = at.wrapping_add(self.distance(row, u)).wrapping_add(ci as isize);
            f(k - ks.start, len, met.then(|| self.address(group, position)));
            k += len;
            ci += len;
            if ci >= c {
                u += ci / c;
                ci %= c;
            }
            if u >= taps {
                u = 0;
                row += 1;
                meets = self.meets(&starts, row);
            }
        }
    }

    /// Packs elements of type `S` through `convert`.
    ///
    /// # Safety
    /// The dtype must be that of `S`.
    #[inline(always)]
    unsafe fn convert<S: Copy, T: Copy + Default>(
        &self,
        (group, lanes, ks, width): (usize, Range<usize>, Range<usize>, usize),
        dst: &mut [T],
        convert: impl Fn(S) -> T,
    ) {
        if ks.is_empty() {
            return;
        }
        for (p, panel) in dst.chunks_exact_mut(width * ks.len()).enumerate() {
            let first = lanes.start + p * width;
            let filled = width.min(lanes.end - first);
            if filled < width {
                panel.fill(T::default());
            }
            for j in 0..filled {
                self.runs(group, first + j, ks.clone(), |k, len, src| {
                    let lane = panel[k * width..][..len * width].iter_mut().skip(j).step_by(width);
                    match src {
                        None => lane.for_each(|d| *d = T::default()),
                        // SAFETY: runs with an address lie inside the input.
                        Some(src) => unsafe {
                            let src = src.cast::<S>();
                            lane.enumerate().for_each(|(i, d)| *d = convert(src.add(i).read()));
                        },
                    }
                });
            }
        }
    }
}

/// Packs by [`Patches::convert`], from each dtype that is computed in `$t`.
macro_rules! pack_for {
    ($t:ty, $($dtype:ident: $s:ty => $convert:expr),+ $(,)?) => {
        impl Pack<$t> for Patches {
            fn pack(
                &self,
                batch: usize,
                lanes: Range<usize>,
                ks: Range<usize>,
                width: usize,
                dst: &mut [$t],
            ) {
                let block = (batch, lanes, ks, width);
                match self.dtype {
                    // SAFETY: the type is that of the dtype.
                    $(DType::$dtype => unsafe { self.convert::<$s, $t>(block, dst, $convert) },)+
                    other => unreachable!("{other} is not computed in {}", stringify!($t)),
                }
            }

            fn runs_along_k(&self) -> bool {
                true
            }
        }
    };
}

pack_for!(f64, F64: f64 => |x| x);
pack_for!(
    i32,
    Bool: u8 => |x| x as i32,
    U8: u8 => |x| x as i32,
    U16: u16 => |x| x as i32,
    U32: u32 => |x| x as i32,
    I8: i8 => |x| x as i32,
    I16: i16 => |x| x as i32,
    I32: i32 => |x| x,
);
pack_for!(i64, U64: u64 => |x| x as i64, I64: i64 => |x| x);

impl Pack<f32> for Patches {
    fn pack(
        &self,
        batch: usize,
        lanes: Range<usize>,
        ks: Range<usize>,
        width: usize,
        dst: &mut [f32],
    ) {
        #[cfg(target_arch = "x86_64")]
        if isa() == Isa::Avx512 {
            assert!(dst.len() >= ks.len() * lanes.len().next_multiple_of(width));
            // SAFETY: the level has AVX-512, and the panels lie inside `dst`.
            return unsafe { wide::pack(self, batch, lanes, ks, width, dst.as_mut_ptr()) };
        }
        pack_lines(lanes.len(), ks.len(), width, dst, |lane, line| {
            self.runs(batch, lanes.start + lane, ks.clone(), |k, len, src| match src {
                None => line[k..][..len].fill(0.0),
                // SAFETY: runs with an address lie inside the input.
                Some(src) => unsafe { load_f32(src, self.dtype, &mut line[k..][..len]) },
            });
        });
    }

    fn runs_along_k(&self) -> bool {
        true
    }
}

#[cfg(target_arch = "x86_64")]
impl crate::matmul::tile::pack::Tiled for Patches {}

/// Packing with AVX-512, 16 windows at a time.
#[cfg(target_arch = "x86_64")]
mod wide {
    use super::Patches;
    use crate::matmul::turn::{Bf16, F16, F32, Words, deal};
    use lazul_ir::DType;
    use smallvec::SmallVec;
    use std::arch::x86_64::*;
    use std::ops::Range;

    /// [`Pack::pack`](crate::matmul::driver::Pack::pack) of [`Patches`].
    ///
    /// # Safety
    /// The processor must have AVX-512 BW and VL, and `dst` must hold the panels.
    pub(super) unsafe fn pack(
        patches: &Patches,
        group: usize,
        lanes: Range<usize>,
        ks: Range<usize>,
        width: usize,
        dst: *mut f32,
    ) {
        // SAFETY: the caller's contract; words follow the dtype.
        unsafe {
            match patches.dtype {
                DType::F32 => panels::<F32>(patches, group, lanes, ks, width, dst),
                DType::BF16 => panels::<Bf16>(patches, group, lanes, ks, width, dst),
                DType::F16 => panels::<F16>(patches, group, lanes, ks, width, dst),
                other => unreachable!("{other} is not computed in f32"),
            }
        }
    }

    /// # Safety
    /// As for [`pack`].
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    unsafe fn panels<W: Words>(
        patches: &Patches,
        group: usize,
        lanes: Range<usize>,
        ks: Range<usize>,
        width: usize,
        dst: *mut f32,
    ) {
        for first in (0..lanes.len()).step_by(width) {
            for j in (0..width).step_by(16) {
                let columns = (width - j).min(16);
                let from = lanes.start + (first + j).min(lanes.len());
                let filled = columns.min(lanes.end - from);
                let side = ((1u32 << columns) - 1) as __mmask16;
                // SAFETY: the columns lie inside the panel, the windows among the lanes.
                unsafe {
                    let dst = dst.add(first * ks.len() + j);
                    let windows = Windows::new(patches, from..from + filled);
                    pack_columns::<W>(patches, group, &windows, ks.clone(), width, side, dst);
                }
            }
        }
    }

    /// Up to 16 windows side by side.
    struct Windows {
        count: usize,
        /// Where they lie; see [`Window`](super::Window).
        at: [isize; 16],
        /// Where they begin along each axis but the last.
        starts: SmallVec<[[isize; 16]; 2]>,
        /// The taps of a row that meet the input along the last axis.
        low: [usize; 16],
        high: [usize; 16],
    }

    impl Windows {
        fn new(patches: &Patches, windows: Range<usize>) -> Windows {
            let (last, outer) = (patches.last(), patches.spatial.len() - 1);
            let mut new = Windows {
                count: windows.len(),
                at: [0; 16],
                starts: SmallVec::from_elem([0; 16], outer),
                low: [0; 16],
                high: [0; 16],
            };
            if windows.is_empty() {
                return new;
            }
            let mut window = patches.window(windows.start);
            let mut left = last.axis.windows - windows.start % last.axis.windows;
            for i in 0..new.count {
                if left == 0 {
                    window = patches.window(windows.start + i);
                    left = last.axis.windows;
                }
                new.at[i] = window.at;
                let inside = last.axis.inside(window.starts[outer]);
                (new.low[i], new.high[i]) = (inside.start, inside.end);
                for (starts, start) in new.starts.iter_mut().zip(&window.starts) {
                    starts[i] = *start;
                }
                // On to the next of the row.
                left -= 1;
                window.starts[outer] += last.axis.stride;
                window.at = window.at.wrapping_add(last.axis.stride.wrapping_mul(last.step));
            }
            new
        }

        /// Those that meet the input with row `row` of their taps, along all axes but the last.
        fn meet(&self, patches: &Patches, mut row: usize) -> u16 {
            let mut all = ((1u32 << self.count) - 1) as u16;
            let outer = &patches.spatial[..self.starts.len()];
            for (s, starts) in outer.iter().zip(&self.starts).rev() {
                let at = (row % s.axis.taps) as isize * s.axis.dilation;
                row /= s.axis.taps;
                for (i, start) in starts.iter().enumerate() {
                    all &= !(u16::from((start + at) as usize >= s.axis.len) << i);
                }
            }
            all
        }

        /// Those that meet the input with tap `u` along the last axis, and those that do with every
        /// tap from there to the last of `taps`.
        fn meet_along(&self, u: usize, taps: usize) -> (u16, u16) {
            let (mut here, mut on) = (0, 0);
            for i in 0..16 {
                let met = self.low[i] <= u && u < self.high[i];
                here |= u16::from(met) << i;
                on |= u16::from(met && self.high[i] == taps) << i;
            }
            (here, on)
        }
    }

    /// Packs windows as columns of a panel of `width`; those not there become zero.
    ///
    /// # Safety
    /// As for [`pack`]; the columns in `side` must be writable in each of `ks.len()` rows.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    unsafe fn pack_columns<W: Words>(
        patches: &Patches,
        group: usize,
        windows: &Windows,
        ks: Range<usize>,
        width: usize,
        side: __mmask16,
        dst: *mut f32,
    ) {
        let (c, taps, merges) = (patches.channels, patches.last().axis.taps, patches.merges());
        let size = patches.dtype.size();
        let base = patches.address(group, 0);
        let mut src = [std::ptr::null::<u8>(); 16];
        let mut k = ks.start;
        let (mut row, mut u, mut ci) = (k / c / taps, k / c % taps, k % c);
        let mut meet = windows.meet(patches, row);
        // Whether no window reaches over the edge of a row.
        let all = ((1u32 << windows.count) - 1) as u16;
        let whole = windows.meet_along(0, taps).1 == all;
        let (mut met, mut until) = (meet, taps);
        while k < ks.end {
            if !whole || !merges {
                until = u + 1;
            }
            if !whole {
                let (here, on) = windows.meet_along(u, taps);
                met = meet & here;
                if merges && meet & on == meet {
                    until = taps;
                }
            }
            if meet == 0 {
                until = taps;
            }
            let len = ((until - u) * c - ci).min(ks.end - k);
            let distance = patches.distance(row, u).wrapping_add(ci as isize);
            for i in 0..16 {
                let position = windows.at[i].wrapping_add(distance);
                src[i] = base.wrapping_offset(position.wrapping_mul(size as isize));
            }
            // SAFETY: runs of windows that meet the input lie inside it; the rows inside the panel.
            unsafe {
                let dst = dst.add((k - ks.start) * width);
                run::<W>(&src, met, len, size, dst, width, side);
            }
            k += len;
            ci += len;
            if ci >= c {
                u += ci / c;
                ci %= c;
            }
            if u >= taps {
                u = 0;
                row += 1;
                meet = windows.meet(patches, row);
                met = meet;
            }
        }
    }

    /// Writes a run of `len` elements of 16 windows as `len` rows; those not `valid` are zero.
    ///
    /// # Safety
    /// `len` elements must be readable at `src` of each valid window, and the columns in `side`
    /// writable in `len` rows.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    unsafe fn run<W: Words>(
        src: &[*const u8; 16],
        valid: u16,
        len: usize,
        size: usize,
        dst: *mut f32,
        width: usize,
        side: __mmask16,
    ) {
        let line = 16 * W::PER_WORD;
        let mut words = [_mm512_setzero_si512(); 16];
        // SAFETY: the caller's contract; masked loads and stores touch no masked element.
        unsafe {
            if valid == 0 {
                for p in 0..len {
                    _mm512_mask_storeu_ps(dst.add(p * width), side, _mm512_setzero_ps());
                }
                return;
            }
            let mut p = 0;
            while p < len {
                let at = p * size;
                let mut count = line.min(len - p);
                if count * size <= 32 {
                    // Four words of each window: less to turn than a whole line.
                    count = count.min(line / 4);
                    let four = narrow(src, at, valid, count * size);
                    words[..4].copy_from_slice(&four);
                } else if valid == u16::MAX && count == line {
                    let mut r = [_mm512_setzero_si512(); 16];
                    for i in 0..16 {
                        r[i] = _mm512_loadu_si512(src[i].add(at).cast());
                    }
                    deal(r, words.as_mut_ptr(), 1);
                } else {
                    let bytes = u64::MAX >> (64 - count * size);
                    let mut r = [_mm512_setzero_si512(); 16];
                    for i in 0..16 {
                        let mask = if valid >> i & 1 == 1 { bytes } else { 0 };
                        r[i] = _mm512_maskz_loadu_epi8(mask, src[i].wrapping_add(at).cast());
                    }
                    deal(r, words.as_mut_ptr(), 1);
                }
                let dst = dst.add(p * width);
                for i in 0..count {
                    let x = W::get(words[i / W::PER_WORD], i % W::PER_WORD);
                    _mm512_mask_storeu_ps(dst.add(i * width), side, x);
                }
                p += count;
            }
        }
    }

    /// The transpose of `bytes <= 16` bytes, from byte `at` on, of each valid window.
    ///
    /// # Safety
    /// They must be readable.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    unsafe fn narrow(src: &[*const u8; 16], at: usize, valid: u16, bytes: usize) -> [__m512i; 4] {
        let mask = ((1u32 << bytes) - 1) as __mmask16;
        let mut rows = [_mm_setzero_si128(); 16];
        for i in 0..16 {
            let mask = if valid >> i & 1 == 1 { mask } else { 0 };
            // SAFETY: the caller's contract; masked bytes are not touched.
            rows[i] = unsafe { _mm_maskz_loadu_epi8(mask, src[i].wrapping_add(at).cast()) };
        }
        // Part p of r[i] is window 4p + i.
        let mut r = [_mm512_setzero_si512(); 4];
        for i in 0..4 {
            let x = _mm512_castsi128_si512(rows[i]);
            let x = _mm512_inserti32x4::<1>(x, rows[4 + i]);
            let x = _mm512_inserti32x4::<2>(x, rows[8 + i]);
            r[i] = _mm512_inserti32x4::<3>(x, rows[12 + i]);
        }
        let (a, b) = (_mm512_unpacklo_epi32(r[0], r[1]), _mm512_unpackhi_epi32(r[0], r[1]));
        let (c, d) = (_mm512_unpacklo_epi32(r[2], r[3]), _mm512_unpackhi_epi32(r[2], r[3]));
        [
            _mm512_unpacklo_epi64(a, c),
            _mm512_unpackhi_epi64(a, c),
            _mm512_unpacklo_epi64(b, d),
            _mm512_unpackhi_epi64(b, d),
        ]
    }
}

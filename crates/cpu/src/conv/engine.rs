//! Convolutions on the tile unit (AMX), without a matrix of windows.
//!
//! A tile of `a` is 16 windows by 32 channels of one tap. Where windows are neighbours they lie at one distance from
//! each other in the input, so the unit loads such a tile from memory as it is, once elements are bf16:
//! a *strip*, the input of some rows of windows, is written with its padding, channels cut into steps
//! of 32 and numbers into their parts ([`Scheme`]), and every tap of every window is read from
//! it. That is one pass over the input however many taps there are, into memory that stays in the second cache.
//!
//! Where rows of windows follow each other at one distance too, all of a strip are one row of lanes: those
//! between two rows are computed for nothing, which is less than tiles that are not full would be.
//!
//! **Order of summation.** An element starts from zero and takes steps of 32 channels, tap after tap; so its bits
//! depend on its window and its weights alone. Strips whose numbers the unit cannot take in parts go to
//! the multiply-add kernels; their bounds are those of the shape of an image, so that hangs neither on
//! the batch nor on threads.

use super::patches::{Patches, Spatial};
use super::target::Target;
use crate::isa::tiles;
use crate::matmul::driver::{Shared, Store, with_scratch};
use crate::matmul::pack::{Dense, Side};
use crate::matmul::tile::Scheme;
use crate::matmul::tile::kernel::{Call, PAIR, PANEL, TILE, Tiles};
use crate::matmul::tile::pack::{Extent, Tiled, lanes};
use crate::pool::parallel;
use lazul_ir::DType;
use smallvec::SmallVec;
use std::ops::Range;

/// Bytes of a strip, about.
const STRIP: usize = 1 << 20;
/// Channels of a step.
const STEP: usize = 32;

/// How a convolution goes on the unit.
pub(super) struct Engine<'a> {
    scheme: Scheme,
    patches: &'a Patches,
    /// `(c_out, taps · channels)` of each group.
    weights: &'a Dense,
    groups: usize,
    /// Output channels of a group.
    rows: usize,
    /// Steps of a tap, and bytes of a pixel of a strip.
    steps: usize,
    pixel: usize,
    /// Windows of a strip along the first axis.
    tall: usize,
}

/// A row of lanes, and how many there are.
struct Lanes {
    /// Lanes of a row.
    count: usize,
    /// Lanes from one row of windows to the next, and windows of each.
    pitch: usize,
    windows: usize,
    /// Rows of lanes.
    rows: usize,
    /// Axes that a row of lanes takes in: one or two.
    axes: usize,
}

/// Elements of a strip along an axis: the first, counted from that of the input, and how many.
fn span(s: &Spatial, windows: usize) -> (isize, usize) {
    let reach = (s.axis.taps as isize - 1).saturating_mul(s.axis.dilation);
    let along = (windows as isize - 1).saturating_mul(s.axis.stride);
    let len = along.saturating_add(reach.saturating_abs()).saturating_add(1);
    (s.axis.offset.saturating_add(reach.min(0)), len as usize)
}

/// Rows of lanes over the windows of a strip.
fn rows_of_lanes(windows: &[usize], spans: &[(isize, usize)], spatial: &[Spatial]) -> Lanes {
    let last = windows.len() - 1;
    let outer = |axes: usize| windows[..windows.len() - axes].iter().product();
    let single = Lanes {
        count: windows[last],
        pitch: windows[last],
        windows: windows[last],
        rows: outer(1),
        axes: 1,
    };
    if last == 0 {
        return single;
    }
    let (stride, beside) = (spatial[last].axis.stride, spatial[last - 1].axis.stride);
    let distance = beside as usize * spans[last].1;
    if !distance.is_multiple_of(stride as usize) {
        return single;
    }
    let pitch = distance / stride as usize;
    let count = (windows[last - 1] - 1) * pitch + windows[last];
    let all = Lanes { count, pitch, windows: windows[last], rows: outer(2), axes: 2 };
    let tiles = |l: &Lanes| l.rows * l.count.div_ceil(16);
    if tiles(&all) < tiles(&single) { all } else { single }
}

impl<'a> Engine<'a> {
    /// The way of a convolution of `groups` groups of `rows` output channels, if it pays.
    pub(super) fn new(
        patches: &'a Patches,
        weights: &'a Dense,
        groups: usize,
        rows: usize,
    ) -> Option<Engine<'a>> {
        let scheme = match patches.dtype {
            _ if !tiles() => return None,
            DType::BF16 => Scheme::Bf16,
            DType::F16 => Scheme::Halves,
            DType::F32 => Scheme::Thirds,
            _ => return None,
        };
        let (channels, spatial) = (patches.channels, &patches.spatial);
        if channels < STEP / 2 || rows < 16 {
            return None;
        }
        let steps = channels.div_ceil(STEP);
        let pixel = steps * scheme.parts() * 64;
        // Padding and gaps between windows must not make a strip much larger than the input.
        let spread = |s: &Spatial| span(s, s.axis.windows).1;
        let pixels = spatial.iter().try_fold(1usize, |n, s| n.checked_mul(spread(s)))?;
        let there: usize = spatial.iter().map(|s| s.axis.len).product();
        if pixels > there.saturating_mul(4).saturating_add(1 << 12) {
            return None;
        }
        let line = pixel * pixels / spread(&spatial[0]);
        let first = &spatial[0].axis;
        let halo = (first.taps - 1) * first.dilation.unsigned_abs();
        let fitting = (STRIP / line).saturating_sub(halo) / first.stride as usize;
        let tall = fitting.max(first.taps).min(first.windows);
        let tall = first.windows.div_ceil(first.windows.div_ceil(tall));
        let engine = Engine { scheme, patches, weights, groups, rows, steps, pixel, tall };

        // The share of the unit's work that is asked for; multiply-adds are slower by about as much as the
        // bounds say.
        let (windows, spans) = engine.strip(&(0..tall));
        let lanes = rows_of_lanes(&windows, &spans, spatial);
        let useful = windows.iter().product::<usize>() * channels * rows;
        let tiles = lanes.rows * lanes.count.div_ceil(16) * 16;
        let done = tiles * steps * STEP * rows.next_multiple_of(16);
        let bound = if scheme == Scheme::Thirds { 60 } else { 25 };
        (useful * 100 >= done * bound).then_some(engine)
    }

    /// Windows of a strip along each axis, and its span.
    fn strip(&self, first: &Range<usize>) -> (SmallVec<[usize; 3]>, SmallVec<[(isize, usize); 3]>) {
        let spatial = &self.patches.spatial;
        let mut windows: SmallVec<[usize; 3]> = spatial.iter().map(|s| s.axis.windows).collect();
        windows[0] = first.len();
        let mut spans: SmallVec<[_; 3]> =
            spatial.iter().zip(&windows).map(|(s, &n)| span(s, n)).collect();
        spans[0].0 += first.start as isize * spatial[0].axis.stride;
        (windows, spans)
    }

    /// Convolves. What the unit cannot take `plain` does, for windows `first` of the first axis of image `n` in
    /// group `g`.
    pub(super) fn run(&self, target: &Target, plain: &(dyn Fn(usize, usize, Range<usize>) + Sync)) {
        let patches = self.patches;
        let taps: usize = patches.spatial.iter().map(|s| s.axis.taps).product();
        let panels = self.rows.div_ceil(PANEL);
        let tap = self.steps * self.scheme.parts() * PAIR;
        let panel = taps * tap;
        let mut target = target.clone();
        target.windows_are_rows = true;
        with_scratch::<u8, _>(self.groups * panels * panel, |packed| {
            with_scratch::<Extent, _>(self.groups * panels, |extents| {
                let shared = (Shared(packed.as_mut_ptr()), Shared(extents.as_mut_ptr()));
                parallel(self.groups * panels, |i| {
                    let shared = &shared;
                    let (group, first) = (i / panels, i % panels * PANEL);
                    let columns = first..(first + PANEL).min(self.rows);
                    let mut extent = Extent::NONE;
                    for t in 0..taps {
                        let ks = t * patches.channels..(t + 1) * patches.channels;
                        // SAFETY: each task has a panel of its own; the level has what tiles need.
                        extent.join(unsafe {
                            let dst = shared.0.0.add(i * panel + t * tap);
                            let (weights, lanes) = (self.weights, columns.clone());
                            weights.panel(self.scheme, Side::Right, 2, group, lanes, ks, dst)
                        });
                    }
                    // SAFETY: as above.
                    unsafe { shared.1.0.add(i).write(extent) };
                });
                let strips = patches.spatial[0].axis.windows.div_ceil(self.tall);
                parallel(patches.shape[0] * self.groups * strips, |i| {
                    let (image, group) = (i / strips / self.groups, i / strips % self.groups);
                    let start = i % strips * self.tall;
                    let end = (start + self.tall).min(patches.spatial[0].axis.windows);
                    let mut extent = Extent::NONE;
                    extents[group * panels..][..panels].iter().for_each(|&e| extent.join(e));
                    let weights = &packed[group * panels * panel..][..panels * panel];
                    if !self.task(&target, (image, group), start..end, weights, extent) {
                        plain(image, group, start..end);
                    }
                });
            });
        });
    }

    /// Convolves a strip, unless its numbers are none for the unit.
    fn task(
        &self,
        target: &Target,
        (image, group): (usize, usize),
        first: Range<usize>,
        weights: &[u8],
        extent: Extent,
    ) -> bool {
        let (windows, spans) = self.strip(&first);
        let pixels: usize = spans.iter().map(|s| s.1).product();
        let high = 16 * self.scheme.tiles();
        let sums = high * PANEL * 4;
        let distance = self.patches.row().0.stride as usize * self.pixel;
        // Tiles that are not full read on.
        let own = pixels * self.pixel + high * distance;
        with_scratch::<u8, _>(own + sums + TILE, |scratch| {
            let strip = scratch.as_mut_ptr();
            // SAFETY: there is room for all pixels.
            let here = unsafe { self.fill(image, group, &spans, strip) };
            if !self.scheme.holds(here, extent) {
                return false;
            }
            // SAFETY: convolutions come here only where the unit is; no task runs inside another.
            let _guard = unsafe { Tiles::new() };
            let (sum, sink) = (strip.wrapping_add(own), strip.wrapping_add(own + sums));
            self.multiply(
                target,
                (image, group),
                &first,
                (&windows, &spans),
                weights,
                strip,
                sum,
                sink,
            );
            true
        })
    }

    /// Writes a strip, zero where there is no input.
    ///
    /// # Safety
    /// `strip` must have room for its pixels.
    unsafe fn fill(
        &self,
        image: usize,
        group: usize,
        spans: &[(isize, usize)],
        strip: *mut u8,
    ) -> Extent {
        let (patches, last) = (self.patches, spans.len() - 1);
        let size = patches.dtype.size() as isize;
        let lines: usize = spans[..last].iter().map(|s| s.1).product();
        let line = spans[last].1 * self.pixel;
        let mut extent = Extent::NONE;
        let inner = &patches.spatial[last];
        // The part of a line that is input.
        let (low, len) = spans[last];
        let from = (-low).clamp(0, len as isize) as usize;
        let to = (inner.axis.len as isize - low).clamp(from as isize, len as isize) as usize;
        for i in 0..lines {
            let (mut rest, mut inside) = (i, from < to);
            let mut at = image as isize * patches.batch_step;
            at += (low + from as isize) * inner.step;
            for (s, span) in patches.spatial[..last].iter().zip(spans).rev() {
                let position = span.0 + (rest % span.1) as isize;
                rest /= span.1;
                inside &= (position as usize) < s.axis.len;
                at = at.wrapping_add(position.wrapping_mul(s.step));
            }
            // SAFETY: a line of the strip; pixels that are input lie in it.
            unsafe {
                let dst = strip.add(i * line);
                if !inside {
                    dst.write_bytes(0, line);
                    continue;
                }
                dst.write_bytes(0, from * self.pixel);
                let src = patches.address(group, at);
                let (stride, dst_) = (inner.step * size, dst.add(from * self.pixel));
                let channels = patches.channels;
                extent.join(lanes(self.scheme, src, stride, to - from, channels, dst_));
                dst.add(to * self.pixel).write_bytes(0, (len - to) * self.pixel);
            }
        }
        extent
    }

    /// Multiplies all windows of a strip with all weights of a group.
    fn multiply(
        &self,
        target: &Target,
        (image, group): (usize, usize),
        first: &Range<usize>,
        (windows, spans): (&[usize], &[(isize, usize)]),
        weights: &[u8],
        strip: *mut u8,
        sum: *mut u8,
        sink: *mut u8,
    ) {
        let (scheme, spatial) = (self.scheme, &self.patches.spatial);
        let rank = spatial.len();
        // Bytes between neighbours along each axis of the strip, and the first window's place.
        let mut pitches: SmallVec<[isize; 3]> = SmallVec::from_elem(self.pixel as isize, rank);
        for a in (0..rank - 1).rev() {
            pitches[a] = pitches[a + 1] * spans[a + 1].1 as isize;
        }
        let back = |s: &Spatial| ((s.axis.taps as isize - 1) * s.axis.dilation).min(0);
        let origin: isize = spatial.iter().zip(&pitches).map(|(s, p)| -back(s) * p).sum();

        // Taps that follow each other in memory are one run.
        let (last, taps) = (&spatial[rank - 1].axis, |a: usize| spatial[a].axis.taps);
        let whole = last.dilation == 1;
        let (steps, each) =
            if whole { (last.taps * self.steps, 1) } else { (self.steps, last.taps) };
        let rows: usize = (0..rank - 1).map(taps).product();
        let mut runs: SmallVec<[isize; 32]> = SmallVec::new();
        for run in 0..rows * each {
            let (mut rest, u) = (run / each, run % each);
            let mut at = u as isize * last.dilation * pitches[rank - 1];
            for a in (0..rank - 1).rev() {
                at += (rest % taps(a)) as isize * spatial[a].axis.dilation * pitches[a];
                rest /= taps(a);
            }
            runs.push(at);
        }

        let lanes = rows_of_lanes(windows, spans, spatial);
        let high = 16 * scheme.tiles();
        let distance = last.stride as usize * self.pixel;
        let panel = weights.len() / self.rows.div_ceil(PANEL);
        for column in (0..self.rows).step_by(PANEL) {
            let columns = PANEL.min(self.rows - column);
            let b = weights[column / PANEL * panel..].as_ptr();
            for row in 0..lanes.rows {
                // Place of the row's first window, and its number.
                let (mut rest, mut at, mut number, mut step) = (row, origin, 0, 1);
                for a in (0..rank).rev() {
                    let q = if a + lanes.axes >= rank {
                        0
                    } else {
                        let q = rest % windows[a];
                        rest /= windows[a];
                        q
                    };
                    at += q as isize * spatial[a].axis.stride * pitches[a];
                    number += if a == 0 { (first.start + q) * step } else { q * step };
                    step *= spatial[a].axis.windows;
                }
                number += image * step;
                for lane in (0..lanes.count).step_by(high) {
                    let count = high.min(lanes.count - lane);
                    let call = Call {
                        a: strip.wrapping_offset(at).wrapping_add(lane * distance),
                        a_strides: (distance, 16 * distance, scheme.parts() * 64),
                        a_part: 64,
                        runs: (runs.len() - 1, runs[1..].as_ptr()),
                        b,
                        c: sum,
                        steps,
                        tiles: (count.div_ceil(16), columns.div_ceil(16)),
                        add: false,
                        ahead: strip,
                        lines: 0,
                        store: (0, strip, 0),
                        sink,
                    };
                    // SAFETY: tiles of the strip and of packed weights; the registers are in use.
                    unsafe { scheme.run(&call, false) };
                    // SAFETY: the kernel has written that many sums.
                    let tile =
                        unsafe { std::slice::from_raw_parts(sum.cast::<f32>(), high * PANEL) };
                    let mut l = lane;
                    while l < lane + count {
                        let (y, x) = (l / lanes.pitch, l % lanes.pitch);
                        let run = lanes.pitch.min(x + lane + count - l) - x;
                        if x < lanes.windows {
                            let met = run.min(lanes.windows - x);
                            let window = number + y * lanes.windows + x;
                            let tile = &tile[(l - lane) * PANEL..];
                            target.store(group, window, column, met, columns, tile, PANEL);
                        }
                        l += run;
                    }
                }
            }
        }
    }
}

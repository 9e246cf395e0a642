//! Products with quantized matrices on the tile unit (AMX).
//!
//! Codes are small integers or small floats, which bf16 holds exactly. 16 stored rows are unpacked to
//! bf16 ([`halves`]), the unit multiplies them with rows of `x` and sums over one group at a time, and
//! vectors scale that sum ([`groups`]). No weight is rounded, and a weight costs two instructions
//! instead of a multiply-add for each row. An f16 of `x` is the sum of two bf16 numbers, an f32 that of
//! three; both sums are exact.
//!
//! Rows of `x` are packed once, at most [`CHUNK`] of them at a time. With up to 16 rows a task takes one
//! or two panels of codes after another and keeps nothing; with more it takes [`WIDE`] panels, a block of
//! `k` at a time, and keeps their sums in its cache. Up to three parts of rows are multiplied by
//! vectors ([`rows`]), to the same bits but for the sign of a NaN.
//!
//! Where a row of `x` holds numbers that are too large, too small or not finite, or a panel's scales
//! are not finite, that row or that panel is left to the multiply-add kernels of
//! [`crate::matmul::driver`]. The choice hangs on that row or panel alone, so an element's bits depend
//! on nothing but its row, its column, and whether its panel's scales are finite.

mod activations;
mod scales;

use super::halves::{self, Part};
use super::pack::Weights;
use super::rows;
use crate::convert;
use crate::isa::tiles;
use crate::matmul::Output;
use crate::matmul::driver::{Product, with_scratch};
use crate::matmul::pack::Dense;
use crate::matmul::tile::groups::{self, Block, LANES, SUMS};
use crate::matmul::turn::{Prefetch, deal};
use crate::pool;
use lazul_ir::DType;
use std::arch::x86_64::*;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Rows of `x` that are packed at a time.
const CHUNK: usize = 512;
/// Panels of a task of many rows.
const WIDE: usize = 8;
/// Codes along `k` of a block of many rows, and of few.
const DEEP: usize = 128;
const LONG: usize = 1024;
/// Codes of a task of few rows, at least.
const GRAIN: usize = 1 << 15;

/// A row of the left operand, and where its products go.
#[derive(Clone, Copy)]
struct Line {
    x: *const u8,
    out: *mut u8,
}

// SAFETY: operands have no writer, and targets no other user, while a job runs.
unsafe impl Sync for Line {}

/// Products of rows with one quantized matrix whose stored rows are the columns of the result.
struct TileProduct<'a> {
    /// The matrix: batch 0.
    w: &'a Weights,
    lines: &'a [Line],
    n: usize,
    k: usize,
    /// Dtype of the left operand, and distance between its neighbours along `k`.
    x: (DType, isize),
    out: DType,
}

/// Whether products with these weights go to the unit.
pub(super) fn supports(w: &Weights) -> bool {
    static THERE: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
    w.transpose && *THERE.get_or_init(|| tiles() && halves::available())
}

/// Products `(m, k) · (k, n)` with matrix `matrix` of `w`: for each pair `(i, j)`, matrix `i` of `x` makes
/// matrix `j` of `out`, which is row-major.
pub(super) fn products(
    (m, n, k): (usize, usize, usize),
    x: &Dense,
    (w, matrix): (&Weights, usize),
    out: &Output,
    pairs: impl Iterator<Item = (usize, usize)>,
) {
    let row = n * out.dtype.size();
    let lines: Vec<Line> = pairs
        .flat_map(|(i, j)| {
            (0..m).map(move |r| Line {
                x: x.at(i, r, 0),
                out: out.ptr.wrapping_add((j * m + r) * row),
            })
        })
        .collect();
    let w = &w.rows_from(matrix, 0);
    TileProduct { w, lines: &lines, n, k, x: (x.dtype, x.k), out: out.dtype }.run();
}

/// The shape of everything, in steps and groups.
#[derive(Clone, Copy)]
struct Plan {
    /// Codes of a group, and of a step of the unit.
    group: usize,
    step: usize,
    /// Steps along `k`, and groups.
    steps: usize,
    groups: usize,
    /// bf16 numbers whose sum an element of `x` is.
    parts: usize,
    /// Whether rows are few enough for [`rows`].
    few: bool,
}

impl Plan {
    fn steps_a_group(&self) -> usize {
        self.group / self.step
    }

    /// Words of a packed block of `x`.
    fn words(&self) -> usize {
        self.steps * self.parts * SUMS
    }

    /// Groups of a block of about `codes`.
    fn deep(&self, codes: usize) -> usize {
        (codes / self.group).clamp(1, self.groups)
    }

    /// Bytes between the rows of a panel of some groups. Rows at distances of whole pages would all
    /// want the same places in the cache.
    fn lane(&self, groups: usize) -> usize {
        (2 * groups * self.group).next_multiple_of(64) + 64
    }

    /// Elements between rows of a panel's scales.
    fn stride(&self) -> usize {
        self.groups.next_multiple_of(LANES)
    }
}

/// Rows of `x`, packed.
#[derive(Clone, Copy)]
struct Packed<'a> {
    /// For each 16 rows, tiles: step after step, part after part. Of a few rows, for each element along
    /// `k` the parts of each row as f32.
    words: &'a [u32],
    /// For each 16 rows, sums of each group.
    totals: &'a [f32],
}

impl TileProduct<'_> {
    fn run(&self) {
        let group = self.w.q.group_size();
        let step = group.min(32);
        let parts = match self.x.0 {
            DType::BF16 => 1,
            DType::F16 => 2,
            _ => 3,
        };
        // Panels whose scales are not finite, found by whoever unpacks them.
        let bad: Vec<AtomicBool> =
            (0..self.n.div_ceil(LANES)).map(|_| AtomicBool::new(false)).collect();
        for lines in self.lines.chunks(CHUNK) {
            let blocks = lines.len().div_ceil(LANES);
            let (steps, groups) = (self.k / step, self.k / group);
            let few = lines.len() * parts <= rows::MOST;
            let plan = Plan { group, step, steps, groups, parts, few };
            with_scratch::<u32, _>(blocks * plan.words(), |words| {
                with_scratch::<f32, _>(blocks * plan.groups * LANES, |totals| {
                    let strange = self.pack(&plan, lines, words, totals);
                    self.multiply(&plan, lines, Packed { words, totals }, &bad);
                    let strange = lines.iter().zip(&strange).filter(|(_, s)| s.load(Relaxed));
                    let strange: Vec<Line> = strange.map(|(line, _)| *line).collect();
                    self.by_vectors(&strange, 0..self.n);
                });
            });
        }
        for panel in (0..bad.len()).filter(|&i| bad[i].load(Relaxed)) {
            let columns = panel * LANES..((panel + 1) * LANES).min(self.n);
            for lines in self.lines.chunks(CHUNK) {
                self.by_vectors(lines, columns.clone());
            }
        }
    }

    /// Some columns of some rows, by multiply-adds.
    fn by_vectors(&self, lines: &[Line], columns: Range<usize>) {
        if lines.is_empty() {
            return;
        }
        let (m, n, k) = (lines.len(), columns.len(), self.k);
        let size = self.out.size();
        // Rows lie anywhere, but those of a product at equal distances.
        with_scratch::<f32, _>(m * k, |x| {
            with_scratch::<u8, _>(m * n * size, |y| {
                for (line, row) in lines.iter().zip(x.chunks_exact_mut(k)) {
                    // SAFETY: rows are `k` long.
                    unsafe { self.load(line, row) };
                }
                let (batch_shape, batch_strides) = Default::default();
                let (ptr, dtype, lane) = (x.as_ptr().cast(), DType::F32, k as isize);
                let a = Dense { ptr, dtype, batch_shape, batch_strides, lane, k: 1 };
                let b = self.w.rows_from(0, columns.start);
                let (ptr, dtype) = (y.as_mut_ptr(), self.out);
                let c = Output { ptr, dtype, m, n, transposed: false };
                Product::<f32> { batch: 1, m, n, k, a: &a, b: &b, c: &c }.run();
                for (line, row) in lines.iter().zip(y.chunks_exact(n * size)) {
                    // SAFETY: columns of a row of the result.
                    unsafe {
                        let out = line.out.add(columns.start * size);
                        std::ptr::copy_nonoverlapping(row.as_ptr(), out, row.len());
                    }
                }
            });
        });
    }

    /// Multiplies packed rows with all panels.
    fn multiply(&self, plan: &Plan, lines: &[Line], x: Packed<'_>, bad: &[AtomicBool]) {
        let panels = self.n.div_ceil(LANES);
        let blocks = lines.len().div_ceil(LANES);
        if blocks == 1 {
            // Long runs: what a thread asks the memory for ahead of time is then its own.
            let share = panels.div_ceil(4 * pool::threads());
            let grain = (GRAIN / (LANES * self.k)).max(share).max(1).next_multiple_of(2);
            pool::parallel_ranges(panels, grain, |start, end| {
                let task = Task { product: self, plan, lines, x, bad };
                if plan.few {
                    // SAFETY: [`supports`] has found the unit, and with it what this needs.
                    unsafe { task.few_rows(start..end) };
                    return;
                }
                // SAFETY: the unit is there, and no kernel is running on this thread.
                let _guard = unsafe { groups::configure(plan.step) };
                for first in (start..end).step_by(2) {
                    task.panels(first..(first + 2).min(end), 0..1, LONG);
                }
            });
            return;
        }
        // As many panels a task as leave each thread a few tasks.
        let mut wide = WIDE;
        while wide > 2 && panels.div_ceil(wide) < 4 * pool::threads() {
            wide /= 2;
        }
        let tasks = panels.div_ceil(wide);
        let cuts = (2 * pool::threads()).div_ceil(tasks).min(blocks);
        let long = blocks.div_ceil(cuts).next_multiple_of(2);
        let cuts = blocks.div_ceil(long);
        pool::parallel(tasks * cuts, |i| {
            let (first, cut) = (i / cuts * wide, i % cuts * long);
            // SAFETY: the unit is there, and no kernel is running on this thread.
            let _guard = unsafe { groups::configure(plan.step) };
            let task = Task { product: self, plan, lines, x, bad };
            task.panels(first..(first + wide).min(panels), cut..(cut + long).min(blocks), DEEP);
        });
    }
}

/// What one thread does, with the tile registers in its hands.
struct Task<'a> {
    product: &'a TileProduct<'a>,
    plan: &'a Plan,
    lines: &'a [Line],
    x: Packed<'a>,
    bad: &'a [AtomicBool],
}

impl Task<'_> {
    /// Stored rows of a panel.
    fn rows(&self, panel: usize) -> usize {
        (self.product.n - panel * LANES).min(LANES)
    }

    /// Some groups of a panel's codes.
    fn part(&self, panel: usize, groups: Range<usize>) -> Part {
        let w = self.product.w;
        let first = groups.start * self.plan.group;
        Part {
            q: w.q,
            codes: w.codes.at(0, panel * LANES, 0).wrapping_add(first * w.q.bits() / 8),
            stride: w.codes.lane * 4,
            rows: self.rows(panel),
            steps: groups.len() * self.plan.steps_a_group(),
            step: self.plan.step,
        }
    }

    /// A few rows of `x` with some panels, by vectors.
    ///
    /// # Safety
    /// The processor must have AVX-512 and what [`halves`] asks for.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512bf16")]
    unsafe fn few_rows(&self, panels: Range<usize>) {
        let (product, plan) = (self.product, self.plan);
        let (w, rows) = (product.w, self.lines.len());
        let size = plan.stride() * LANES;
        with_scratch::<f32, _>(4 * size, |floats| {
            let (scales, biases) = floats.split_at_mut(2 * size);
            for first in panels.clone().step_by(2) {
                let count = (panels.end - first).min(2);
                for i in 0..count {
                    let range = i * size..(i + 1) * size;
                    // SAFETY: the caller's contract.
                    unsafe {
                        let scales = &mut scales[range.clone()];
                        self.turned_scales(first + i, scales, &mut biases[range]);
                    }
                }
                let column = first * LANES;
                let lanes = (product.n - column).min(rows::WIDTH);
                let mut sums = [0f32; rows::MOST * rows::WIDTH];
                // The second panel's scales are not used where there is none.
                let pair = |s: &[f32]| [s.as_ptr(), s[size..].as_ptr()];
                let call = rows::Call {
                    q: w.q,
                    codes: w.codes.at(0, column, 0),
                    stride: w.codes.lane * 4,
                    lanes,
                    groups: plan.groups,
                    step: plan.step,
                    rows,
                    parts: plan.parts,
                    x: self.x.words.as_ptr().cast(),
                    totals: self.x.totals.as_ptr(),
                    scales: pair(scales),
                    biases: pair(biases),
                    out: sums.as_mut_ptr(),
                };
                // SAFETY: operands and targets are as large as the fields say.
                unsafe {
                    rows::multiply(&call);
                    for (line, sums) in self.lines.iter().zip(sums.chunks_exact(rows::WIDTH)) {
                        let out = line.out.add(column * product.out.size());
                        convert::store_f32(&sums[..lanes], product.out, out);
                    }
                }
            }
        });
    }

    /// Some panels with some blocks of rows, about `long` codes along `k` at a time.
    fn panels(&self, panels: Range<usize>, blocks: Range<usize>, long: usize) {
        let (product, plan) = (self.product, self.plan);
        let (w, stride) = (product.w, plan.stride());
        let affine = w.biases.is_some();
        let deep = plan.deep(long);
        let lane = plan.lane(deep);
        let row_bytes = product.k * w.q.bits() / 8;
        let sums = panels.len() * blocks.len() * SUMS;
        let scales_of = panels.len() * LANES * stride;
        with_scratch::<u8, _>(panels.len() * LANES * lane, |codes| {
            with_scratch::<f32, _>(sums + 2 * scales_of + 4 * deep * SUMS, |floats| {
                let (c, floats) = floats.split_at_mut(sums);
                let (scales, floats) = floats.split_at_mut(scales_of);
                let (biases, scratch) = floats.split_at_mut(scales_of);
                for (i, panel) in panels.clone().enumerate() {
                    let range = i * LANES * stride..(i + 1) * LANES * stride;
                    // SAFETY: [`supports`] has found the unit, and with it what this needs.
                    unsafe {
                        self.scales(panel, &mut scales[range.clone()], &mut biases[range]);
                    }
                }
                let next = w.codes.at(0, panels.end * LANES, 0);
                let mut ahead = Prefetch::new(next, w.codes.lane * 4, row_bytes);
                for first in (0..plan.groups).step_by(deep) {
                    let groups = first..(first + deep).min(plan.groups);
                    let lines = (groups.len() * plan.group * w.q.bits()).div_ceil(512);
                    for (i, panel) in panels.clone().enumerate() {
                        let part = self.part(panel, groups.clone());
                        // SAFETY: the part lies inside the matrix, and the tiles have room.
                        unsafe {
                            let codes = codes.as_mut_ptr().add(i * LANES * lane);
                            halves::unpack(&part, codes, lane, || {
                                (0..lines).for_each(|_| ahead.line());
                            });
                        }
                    }
                    for i in (0..panels.len()).step_by(2) {
                        let n = (panels.len() - i).min(2);
                        for j in (0..blocks.len()).step_by(2) {
                            let m = (blocks.len() - j).min(2);
                            self.block(
                                (i, n),
                                (blocks.start + j, m),
                                groups.clone(),
                                (codes, lane),
                                (scales, affine.then_some(&*biases)),
                                scratch,
                                |p, q| (p * blocks.len() + j + q) * SUMS,
                                c,
                            );
                        }
                    }
                }
                for (i, panel) in panels.clone().enumerate() {
                    for (j, block) in blocks.clone().enumerate() {
                        let c = &c[(i * blocks.len() + j) * SUMS..][..SUMS];
                        // SAFETY: the processor has the unit, and so AVX-512.
                        unsafe { self.store(panel, block, c) };
                    }
                }
            });
        });
    }

    /// One call of the kernel: `n` of the task's panels from the `i`th on, `m` blocks from block `j` on.
    #[inline]
    fn block(
        &self,
        (i, n): (usize, usize),
        (j, m): (usize, usize),
        groups: Range<usize>,
        (codes, lane): (&[u8], usize),
        (scales, biases): (&[f32], Option<&[f32]>),
        scratch: &mut [f32],
        place: impl Fn(usize, usize) -> usize,
        c: &mut [f32],
    ) {
        let plan = self.plan;
        let stride = plan.stride();
        let step = groups.start * plan.steps_a_group();
        // What is not there is not used: its address is that of what is.
        let pair = |first: usize, count: usize| [first, first + count - 1];
        let c = c.as_mut_ptr();
        let scale = |s: &[f32]| pair(i, n).map(|p| s[p * LANES * stride + groups.start..].as_ptr());
        let block = Block {
            codes: pair(i, n).map(|p| codes[p * LANES * lane..].as_ptr()),
            lane,
            step: 2 * plan.step,
            x: pair(j, m).map(|b| {
                self.x.words[b * plan.words() + step * plan.parts * SUMS..].as_ptr().cast()
            }),
            scales: scale(scales),
            biases: biases.map_or([std::ptr::null(); 2], scale),
            stride,
            totals: pair(j, m)
                .map(|b| self.x.totals[(b * plan.groups + groups.start) * LANES..].as_ptr()),
            c: pair(i, n).map(|p| pair(0, m).map(|q| c.wrapping_add(place(p, q)))),
            groups: groups.len(),
            steps: plan.steps_a_group(),
            parts: plan.parts,
            add: groups.start > 0,
            scratch: scratch.as_mut_ptr(),
        };
        // SAFETY: operands, targets and scratch memory are as large as the fields say, the registers
        // are taken, and the processor has the unit.
        unsafe { groups::run((n, m), &block) };
    }

    /// Stores sums `[stored row][row of x]`.
    ///
    /// # Safety
    /// The processor must have AVX-512.
    #[target_feature(enable = "avx512f")]
    unsafe fn store(&self, panel: usize, block: usize, c: &[f32]) {
        let columns = self.rows(panel);
        let at = panel * LANES * self.product.out.size();
        let mut turned = [_mm512_setzero_si512(); LANES];
        // SAFETY: sixteen rows of sixteen elements; columns of the panel in rows of the result.
        unsafe {
            let rows =
                std::array::from_fn(|i| _mm512_loadu_si512(c.as_ptr().add(i * LANES).cast()));
            deal(rows, turned.as_mut_ptr(), 1);
            let lines = self.lines[block * LANES..].iter().take(LANES);
            for (line, sums) in lines.zip(&turned) {
                let sums = std::slice::from_raw_parts((&raw const *sums).cast::<f32>(), columns);
                convert::store_f32(sums, self.product.out, line.out.add(at));
            }
        }
    }
}

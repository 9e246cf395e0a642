//! Products on the tile unit (AMX): the loops around its micro-kernels.
//!
//! A product is cut into tasks of up to a few hundred rows and columns. A task walks `k` in blocks:
//! it packs its columns for the block, then takes 32 rows after 32, packs those and runs the
//! [`kernel`] against each panel of columns, while it asks the memory for the rows that come next.
//! Sums stay in the task's own cache until the last block of `k`, after which they are stored. What
//! is `a` to the unit may be the right operand: whichever lies along `k` is packed by plain loads,
//! and weights `(n, k)` that few rows are multiplied with are not packed at all but loaded into
//! tiles as they lie in memory.
//!
//! **Order of summation.** The unit sums the products of 32 neighbours along `k` (even and odd ones
//! apart) and adds that to the element of `c`; steps follow one another from 0 on. So an element's
//! bits depend on its row and column alone, as in [`super::driver`], though they are other bits. The
//! unit reads subnormal numbers as zero and returns none.
//!
//! **Other types than bf16.** An f16 is the sum of two bf16 numbers and an f32 that of three. Their
//! products are exact in f32, and there are fewer and shorter sums than in a chain of multiply-adds,
//! so the result is closer to the truth. Where numbers are too large, too small or not finite, the
//! multiply-add kernel takes over for that block of 32 rows, 32 columns and one block of `k`: the
//! choice hangs on the data and on fixed bounds, never on threads.

pub(crate) mod groups;
pub(crate) mod kernel;
pub(crate) mod pack;

use super::driver::{Shared, Store, with_scratch};
use super::kernel::Compute;
use super::pack::Side;
use super::turn::deal;
use crate::isa::tiles;
use crate::pool;
use kernel::{Bytes, Call, Halves, PAIR, PANEL, Pairs, Step, TILE, Thirds, Tiles};
use lazul_ir::DType;
use pack::{Extent, Tiled};
use std::arch::x86_64::*;
use std::ops::Range;

/// How elements are multiplied.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Scheme {
    /// bf16 numbers as they are.
    Bf16,
    /// Bytes as they are. Products are those of unsigned bytes; in eight bits they are any bytes'.
    Bytes,
    /// f16 numbers as two bf16 parts.
    Halves,
    /// f32 numbers as three bf16 parts.
    Thirds,
}

impl Scheme {
    /// How products of a dtype and of the size `(batch, m, n, k)` go best on the unit, if they do.
    pub(crate) fn of(dtype: DType, (_, m, n, k): (usize, usize, usize, usize)) -> Option<Scheme> {
        if !tiles() {
            return None;
        }
        // Fewer rows or columns do not pay for splitting.
        let large = m.min(n) >= 32 && k >= 32;
        match dtype {
            DType::BF16 => Some(Scheme::Bf16),
            DType::I8 | DType::U8 | DType::Bool => Some(Scheme::Bytes),
            DType::F16 if large => Some(Scheme::Halves),
            DType::F32 if large => Some(Scheme::Thirds),
            _ => None,
        }
    }

    /// Parts of an element.
    pub(crate) fn parts(self) -> usize {
        match self {
            Scheme::Bf16 | Scheme::Bytes => 1,
            Scheme::Halves => 2,
            Scheme::Thirds => 3,
        }
    }

    /// Tiles of a panel of rows.
    pub(crate) fn tiles(self) -> usize {
        match self {
            Scheme::Bf16 => Pairs::TILES,
            Scheme::Bytes => Bytes::TILES,
            Scheme::Halves => Halves::<false>::TILES,
            Scheme::Thirds => Thirds::<false>::TILES,
        }
    }

    /// Elements along `k` in a step.
    pub(crate) fn step(self) -> usize {
        if self == Scheme::Bytes { 64 } else { 32 }
    }

    /// Steps of a block of `k`.
    fn steps(self) -> usize {
        match self {
            Scheme::Bf16 | Scheme::Bytes => 64,
            Scheme::Halves | Scheme::Thirds => 16,
        }
    }

    /// Whether numbers of two panels can be multiplied in parts.
    pub(crate) fn holds(self, a: Extent, b: Extent) -> bool {
        let exponent = |bits: u32| bits >> 23;
        match self {
            Scheme::Bf16 | Scheme::Bytes => true,
            // Finite.
            Scheme::Halves => exponent(a.most) < 255 && exponent(b.most) < 255,
            // No part is subnormal; no sum that counts is, nor does one overflow on its way.
            Scheme::Thirds => {
                let (least, most) = (exponent(a.least) + exponent(b.least), a.most.max(b.most));
                exponent(a.least).min(exponent(b.least)) >= 25
                    && least >= 2 * 127 - 100
                    && exponent(most) < 127 + 60
            }
        }
    }

    /// Runs the kernel, for rows that are the right operand's if `swapped`.
    ///
    /// # Safety
    /// As for [`kernel::run`].
    pub(crate) unsafe fn run(self, call: &Call, swapped: bool) {
        // SAFETY: the caller's contract.
        unsafe {
            match (self, swapped) {
                (Scheme::Bf16, _) => kernel::run::<Pairs>(call),
                (Scheme::Bytes, _) => kernel::run::<Bytes>(call),
                (Scheme::Halves, false) => kernel::run::<Halves<false>>(call),
                (Scheme::Halves, true) => kernel::run::<Halves<true>>(call),
                (Scheme::Thirds, false) => kernel::run::<Thirds<false>>(call),
                (Scheme::Thirds, true) => kernel::run::<Thirds<true>>(call),
            }
        }
    }
}

const _: () = assert!(Pairs::PARTS == 1 && Bytes::PARTS == 1);
const _: () = assert!(Halves::<true>::PARTS == 2 && Thirds::<true>::PARTS == 3);

/// What the unit sums in.
pub(crate) trait Sum: Compute {
    /// What a step of f32 numbers falls back to, where there is that.
    ///
    /// # Safety
    /// As for [`plain`].
    unsafe fn plain(
        rows: (&dyn Tiled, &Range<usize>),
        columns: (&dyn Tiled, &Range<usize>),
        batch: usize,
        ks: &Range<usize>,
        c: *mut Self,
        add: bool,
    );
}

impl Sum for f32 {
    unsafe fn plain(
        rows: (&dyn Tiled, &Range<usize>),
        columns: (&dyn Tiled, &Range<usize>),
        batch: usize,
        ks: &Range<usize>,
        c: *mut f32,
        add: bool,
    ) {
        // SAFETY: the caller's contract.
        unsafe { plain(rows, columns, batch, ks, c, add) }
    }
}

impl Sum for i32 {
    unsafe fn plain(
        _: (&dyn Tiled, &Range<usize>),
        _: (&dyn Tiled, &Range<usize>),
        _: usize,
        _: &Range<usize>,
        _: *mut i32,
        _: bool,
    ) {
        unreachable!("bytes always hold")
    }
}

/// A batch of products `c = a · b` for the tile unit.
pub(crate) struct TileProduct<'a, T> {
    pub(crate) scheme: Scheme,
    pub(crate) batch: usize,
    pub(crate) m: usize,
    pub(crate) n: usize,
    pub(crate) k: usize,
    pub(crate) a: &'a dyn Tiled,
    pub(crate) b: &'a dyn Tiled,
    pub(crate) c: &'a dyn Store<T>,
}

/// Work, as [`cost`] counts it, below which other threads only cost time.
const SERIAL: usize = 1 << 19;
/// Work of a task that reads rows where they lie, about.
const STREAM: usize = 1 << 18;
/// Lanes of the shorter side up to which the longer one passes through once.
const FEW: usize = 64;
/// Bytes of a task's packed rows, which stay in the second cache.
const ROWS: usize = 768 << 10;
/// Panels of rows of a task, at most.
const MOST: usize = 16;
/// Bytes of packed columns that tasks share, and of those that a task has for itself.
const SHARED: usize = 16 << 20;
const PRIVATE: usize = 1 << 20;
/// Panels of columns that are packed together where rows of memory run across them.
const BESIDE: usize = 8;
/// Steps that are packed together.
const STRETCH: usize = 16;

/// Multiply-adds, those of whole tiles: what a product of few rows costs is reading the others.
fn cost(m: usize, n: usize, k: usize) -> usize {
    m.max(16).saturating_mul(n.max(16)).saturating_mul(k.max(1))
}

/// How one product is cut, and which operand gives the rows of blocks.
struct Plan<'a> {
    rows: &'a dyn Tiled,
    columns: &'a dyn Tiled,
    /// Whether `rows` is `b`.
    swapped: bool,
    height: usize,
    width: usize,
    /// Rows of a panel.
    high: usize,
    /// Rows and columns of a task, whole panels.
    tall: usize,
    wide: usize,
    /// Columns that are packed at a time.
    group: usize,
    /// Whether there is one task for each group, which packs it.
    private: bool,
    /// Steps of a block of `k`, and such blocks.
    steps: usize,
    blocks: usize,
    /// Whether rows are loaded as they lie.
    in_place: bool,
}

impl<T: Sum> TileProduct<'_, T> {
    /// Computes all of them.
    pub(crate) fn run(&self) {
        if self.batch == 0 || self.m == 0 || self.n == 0 {
            return;
        }
        let work = cost(self.m, self.n, self.k);
        let many = self.batch > 1 && (work <= 1 << 24 || self.batch >= 4 * pool::threads());
        if work.saturating_mul(self.batch) <= SERIAL {
            let plan = self.plan(1);
            (0..self.batch).for_each(|i| self.one(&plan, i, false));
        } else if many {
            let plan = self.plan(1);
            pool::parallel_ranges(self.batch, SERIAL / 2 / work, |start, end| {
                (start..end).for_each(|i| self.one(&plan, i, false));
            });
        } else {
            let plan = self.plan(pool::threads());
            (0..self.batch).for_each(|i| self.one(&plan, i, work > SERIAL));
        }
    }

    /// Only bounds of blocks along `k` may hang on nothing but the shape; all others are free.
    fn plan(&self, threads: usize) -> Plan<'_> {
        let swapped = match (self.a.along(), self.b.along()) {
            (true, true) => self.n > self.m,
            (a, b) => b && !a,
        };
        let (rows, columns) = if swapped { (self.b, self.a) } else { (self.a, self.b) };
        let (height, width) = if swapped { (self.n, self.m) } else { (self.m, self.n) };
        let parts = self.scheme.parts();
        let total = self.k.div_ceil(self.scheme.step()).max(1);
        let in_place = parts == 1 && width <= FEW && rows.lines(0, 0, 0).is_some();
        let blocks = total.div_ceil(if in_place { 512 } else { self.scheme.steps() });
        let steps = total.div_ceil(blocks);

        let private = !in_place && height <= FEW;
        let packed = if private { PRIVATE } else { SHARED };
        let panel = total * parts * PAIR;
        let group = (packed / panel).max(1).min(width.div_ceil(PANEL)) * PANEL;

        let high = 16 * self.scheme.tiles();
        let up = |x: usize| x.next_multiple_of(high);
        let most = ROWS / (64 * steps * parts) / high * high;
        let mut tall = up(most.clamp(high, MOST * high).min(height));
        let mut wide = group;
        let work = |tall: usize, wide: usize| cost(tall.min(height), wide.min(width), self.k);
        let least = if in_place { STREAM } else { SERIAL };
        let tasks = |tall: usize, wide: usize| height.div_ceil(tall) * group.div_ceil(wide);
        while threads > 1
            && !private
            && tasks(tall, wide) < 4 * threads
            && tall.max(wide) > 2 * PANEL
            && work(tall, wide) > least
        {
            if wide > tall {
                wide = (wide / 2).next_multiple_of(PANEL)
            } else {
                tall = up(tall / 2)
            }
        }
        tall = up(height.div_ceil(height.div_ceil(tall)));
        Plan {
            rows,
            columns,
            swapped,
            height,
            width,
            high,
            tall,
            wide,
            group,
            private,
            steps,
            blocks,
            in_place,
        }
    }

    /// One product, on this thread alone or on all of them.
    fn one(&self, plan: &Plan<'_>, batch: usize, threads: bool) {
        let groups = plan.width.div_ceil(plan.group);
        let group = |i: usize, threads: bool| {
            let start = i * plan.group;
            let columns = start..(start + plan.group).min(plan.width);
            self.group(plan, batch, columns, threads);
        };
        if plan.private && threads {
            pool::parallel(groups, |i| group(i, false));
        } else {
            (0..groups).for_each(|i| group(i, threads));
        }
    }

    /// Packs a group of columns, and multiplies all rows with it.
    fn group(&self, plan: &Plan<'_>, batch: usize, group: Range<usize>, threads: bool) {
        let each = |n: usize, f: &(dyn Fn(usize) + Sync)| {
            if threads { pool::parallel(n, f) } else { (0..n).for_each(f) }
        };
        let panels = group.len().div_ceil(PANEL);
        let panel = self.k.div_ceil(self.scheme.step()) * self.scheme.parts() * PAIR;
        with_scratch::<u8, _>(panels * panel, |packed| {
            with_scratch::<Extent, _>(panels * plan.blocks, |extents| {
                let shared = (Shared(packed.as_mut_ptr()), Shared(extents.as_mut_ptr()));
                let beside = BESIDE.min(panels);
                each(panels.div_ceil(beside) * plan.blocks, &|i| {
                    let shared = &shared;
                    let (first, block) = (i / plan.blocks * beside, i % plan.blocks);
                    let panels = first..(first + beside).min(panels);
                    // SAFETY: each task has blocks of panels for itself.
                    unsafe {
                        self.pack_columns(
                            plan, batch, &group, panels, block, shared.0.0, shared.1.0,
                        );
                    }
                });
                let (packed, extents) = (&*packed, &*extents);
                let tall = plan.height.div_ceil(plan.tall);
                let wide = group.len().div_ceil(plan.wide);
                each(tall * wide, &|i| {
                    let (r, c) = (i / wide * plan.tall, i % wide * plan.wide);
                    self.task(
                        plan,
                        &Task {
                            batch,
                            rows: r..(r + plan.tall).min(plan.height),
                            columns: group.start + c..(group.start + c + plan.wide).min(group.end),
                            packed: &packed[c / PANEL * panel..],
                            panel,
                            extents: &extents[c / PANEL * plan.blocks..],
                        },
                    );
                });
            });
        });
    }

    /// Packs block `block` of some panels of a group of columns.
    ///
    /// # Safety
    /// `packed` and `extents` have room for all panels of the group, and nobody else uses this part.
    unsafe fn pack_columns(
        &self,
        plan: &Plan<'_>,
        batch: usize,
        group: &Range<usize>,
        panels: Range<usize>,
        block: usize,
        packed: *mut u8,
        extents: *mut Extent,
    ) {
        let (scheme, step) = (self.scheme, self.scheme.step());
        let bytes = scheme.parts() * PAIR;
        let panel = self.k.div_ceil(step) * bytes;
        // Rows of memory that run across panels are read together, one step at a time.
        let stretch = if plan.columns.along() { STRETCH } else { 1 };
        let first = block * plan.steps;
        let mut all = [Extent::NONE; BESIDE];
        for s in (first..first + plan.steps).step_by(stretch) {
            let end = (s + stretch).min(first + plan.steps);
            let ks = (s * step).min(self.k)..(end * step).min(self.k);
            if ks.is_empty() {
                break;
            }
            for j in panels.clone() {
                // SAFETY: the lanes are the operand's, and the panel is one of `packed`.
                let extent = unsafe {
                    let dst = packed.add(j * panel + s * bytes);
                    let lanes = part(group, j, PANEL);
                    plan.columns.panel(scheme, Side::Right, 2, batch, lanes, ks.clone(), dst)
                };
                all[j - panels.start].join(extent);
            }
        }
        for j in panels.clone() {
            // SAFETY: the caller's contract.
            unsafe { extents.add(j * plan.blocks + block).write(all[j - panels.start]) };
        }
    }

    /// Rows and columns of one product.
    fn task(&self, plan: &Plan<'_>, task: &Task<'_>) {
        let (ni, nj) = (task.rows.len().div_ceil(plan.high), task.columns.len().div_ceil(PANEL));
        let (scheme, step) = (self.scheme, self.scheme.step());
        let a_step = scheme.parts() * scheme.tiles() * TILE;
        let b_step = scheme.parts() * PAIR;
        let size = plan.high * PANEL * size_of::<T>();
        // Rows, sums, one more block of sums, and what the kernel writes for nothing.
        let own = if plan.in_place { a_step } else { ni * plan.steps * a_step };
        let sums = if plan.blocks == 1 { 1 } else { ni * nj };
        with_scratch::<u8, _>(own + (sums + 1) * size + TILE, |scratch| {
            let own_panels = scratch.as_mut_ptr();
            let sum = own_panels.wrapping_add(own);
            let spare = sum.wrapping_add(sums * size);
            // SAFETY: products come here only where the unit is; no task runs inside another.
            let _guard = unsafe { Tiles::new() };
            if plan.in_place {
                self.ask(plan, task);
            }
            for block in 0..plan.blocks {
                let k0 = block * plan.steps * step;
                let ks = k0.min(self.k)..(k0 + plan.steps * step).min(self.k);
                let mut extents = [Extent::NONE; MOST];
                if !plan.in_place {
                    for i in 0..ni {
                        let lanes = part(&task.rows, i, plan.high);
                        let (rows, tiles) = (plan.rows, scheme.tiles());
                        // SAFETY: the lanes are the operand's, and the panel is one of the scratch.
                        extents[i] = unsafe {
                            let dst = own_panels.add(i * plan.steps * a_step);
                            rows.panel(
                                scheme,
                                Side::Left,
                                tiles,
                                task.batch,
                                lanes,
                                ks.clone(),
                                dst,
                            )
                        };
                    }
                }
                for (j, i) in (0..nj).flat_map(|j| (0..ni).map(move |i| (j, i))) {
                    let rows = part(&task.rows, i, plan.high);
                    let columns = part(&task.columns, j, PANEL);
                    let at = if plan.blocks == 1 { 0 } else { j * ni + i };
                    let b = task.packed[j * task.panel + k0 / step * b_step..].as_ptr();
                    let steps = ks.len().div_ceil(step);
                    // Each row of blocks asks for its part of the next panel of columns.
                    let lines = (32 * scheme.parts()).div_ceil(ni);
                    let mut call = Call {
                        a: own_panels.wrapping_add(i * plan.steps * a_step),
                        a_strides: (64, TILE, a_step),
                        a_part: PAIR,
                        runs: (0, std::ptr::null()),
                        b,
                        c: sum.wrapping_add(at * size),
                        steps,
                        tiles: (rows.len().div_ceil(16), columns.len().div_ceil(16)),
                        add: block > 0,
                        ahead: b.wrapping_add(task.panel + i * lines * steps * 64),
                        lines,
                        store: (64, sum.wrapping_add((at + 1) * size), 64),
                        sink: spare.wrapping_add(size),
                    };
                    let last = block + 1 == plan.blocks;
                    if last {
                        let (mut at, mut count) = ((rows.start, columns.start), rows.len());
                        if plan.swapped {
                            (at, count) = ((at.1, at.0), columns.len());
                        }
                        if let Some((ptr, step)) = self.c.place(task.batch, at.0, at.1) {
                            call.store = (count, ptr, step);
                        }
                    }
                    let extent = task.extents[j * plan.blocks + block];
                    // SAFETY: panels were packed; sums of later blocks have been written.
                    unsafe {
                        if plan.in_place {
                            self.in_place(plan, task, &ks, (i, j), nj, own_panels, call);
                        } else if scheme.holds(extents[i], extent) {
                            scheme.run(&call, plan.swapped);
                        } else {
                            let (a, b) = ((plan.rows, &rows), (plan.columns, &columns));
                            T::plain(a, b, task.batch, &ks, call.c.cast(), call.add);
                        }
                        if last {
                            self.finish(plan, task.batch, &rows, &columns, call.c, spare);
                        }
                    }
                }
            }
        });
    }

    /// Asks for the first rows of a task in the order of memory, which is quicker than a line of each at a
    /// time. Those after them are asked for on the way.
    fn ask(&self, plan: &Plan<'_>, task: &Task<'_>) {
        let Some((ptr, stride)) = plan.rows.lines(task.batch, task.rows.start, 0) else { return };
        let rows = task.rows.len().min(plan.high);
        if stride as usize == self.k * 64 / self.scheme.step() {
            for line in 0..(rows * stride as usize / 64).min(1024) {
                // SAFETY: a prefetch may have any address.
                unsafe { _mm_prefetch::<_MM_HINT_T1>(ptr.wrapping_add(line * 64).cast()) };
            }
        }
    }

    /// A call of the kernel with rows as they lie in memory.
    ///
    /// # Safety
    /// As for [`kernel::run`] but for `call.a`; `own` has room for a step.
    unsafe fn in_place(
        &self,
        plan: &Plan<'_>,
        task: &Task<'_>,
        ks: &Range<usize>,
        (i, j): (usize, usize),
        nj: usize,
        own: *mut u8,
        mut call: Call,
    ) {
        let (scheme, step) = (self.scheme, self.scheme.step());
        let lanes = part(&task.rows, i, plan.high);
        let lines = plan.rows.lines(task.batch, lanes.start, ks.start);
        let Some((ptr, stride)) = lines else { unreachable!("rows that lie along k") };
        // The next rows, if they follow in memory.
        call.lines = plan.high.div_ceil(nj);
        if stride != 64 * call.steps as isize {
            call.lines = 0;
        }
        let ahead = ptr.wrapping_offset(plan.high as isize * stride);
        call.ahead = ahead.wrapping_add(j * call.lines * call.steps * 64);
        // Whole tiles are loaded; what is left goes through a packed step.
        let whole = if lanes.len().is_multiple_of(16) { ks.len() / step } else { 0 };
        // SAFETY: tiles of whole steps lie inside the operand, the others are packed.
        unsafe {
            if whole > 0 || call.steps == 0 {
                let a_strides = (stride as usize, (16 * stride) as usize, 64);
                scheme.run(&Call { a: ptr, a_strides, steps: whole, ..call }, plan.swapped);
            }
            for s in whole..call.steps {
                let ks = ks.start + s * step..(ks.start + (s + 1) * step).min(ks.end);
                let tiles = scheme.tiles();
                plan.rows.panel(scheme, Side::Left, tiles, task.batch, lanes.clone(), ks, own);
                let b = call.b.wrapping_add(s * PAIR);
                let add = call.add || s > 0;
                scheme.run(&Call { a: own, b, add, steps: 1, ..call }, plan.swapped);
            }
        }
    }

    /// Stores a block of sums.
    ///
    /// # Safety
    /// `block` and `spare` are blocks of sums.
    unsafe fn finish(
        &self,
        plan: &Plan<'_>,
        batch: usize,
        rows: &Range<usize>,
        columns: &Range<usize>,
        block: *mut u8,
        spare: *mut u8,
    ) {
        let size = plan.high * PANEL;
        // SAFETY: the caller's contract.
        unsafe {
            if plan.swapped {
                turn_block(block, plan.high / 16, columns.len(), spare);
                let tile = std::slice::from_raw_parts(spare.cast::<T>(), size);
                let (r, c) = (columns, rows);
                self.c.store(batch, r.start, c.start, r.len(), c.len(), tile, plan.high);
            } else {
                let tile = std::slice::from_raw_parts(block.cast::<T>(), size);
                let (r, c) = (rows, columns);
                self.c.store(batch, r.start, c.start, r.len(), c.len(), tile, PANEL);
            }
        }
    }
}

/// Rows by columns of one product, the columns packed.
struct Task<'a> {
    batch: usize,
    rows: Range<usize>,
    columns: Range<usize>,
    packed: &'a [u8],
    /// Bytes between packed panels.
    panel: usize,
    extents: &'a [Extent],
}

/// Lanes of panel `i`, of `width`, of a range.
fn part(range: &Range<usize>, i: usize, width: usize) -> Range<usize> {
    let start = range.start + i * width;
    start..(start + width).min(range.end)
}

/// Transposes a block of `16 * tiles` rows of 32 words, of which the first `columns` count.
///
/// # Safety
/// Both must be blocks of that size; the level must have AVX-512.
#[target_feature(enable = "avx512f")]
unsafe fn turn_block(src: *const u8, tiles: usize, columns: usize, dst: *mut u8) {
    // SAFETY: words and tiles of each block.
    unsafe {
        if columns <= 4 {
            // What decoding needs: collecting words takes less than turning tiles.
            let rows = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
            let rows = _mm512_slli_epi32::<5>(rows);
            for column in 0..columns {
                for i in 0..tiles {
                    let src = src.add(i * 16 * 128 + column * 4);
                    let words = _mm512_i32gather_epi32::<4>(rows, src.cast());
                    _mm512_storeu_si512(dst.add((column * tiles + i) * 64).cast(), words);
                }
            }
            return;
        }
        for i in 0..tiles {
            for j in 0..columns.div_ceil(16) {
                let src = src.add(i * 16 * 128 + j * 64);
                let mut rows = [_mm512_setzero_si512(); 16];
                for row in 0..16 {
                    rows[row] = _mm512_loadu_si512(src.add(row * 128).cast());
                }
                deal(rows, dst.add((j * 16 * tiles + i) * 64).cast(), tiles);
            }
        }
    }
}

/// The product of at most 32 rows and 32 columns over `ks` by multiply-adds, into a block of 32 × 32.
///
/// # Safety
/// `c` must be such a block, initialised if `add`.
unsafe fn plain(
    (rows, lanes): (&dyn Tiled, &Range<usize>),
    (columns, across): (&dyn Tiled, &Range<usize>),
    batch: usize,
    ks: &Range<usize>,
    c: *mut f32,
    add: bool,
) {
    let kernel = f32::kernel(PANEL);
    assert_eq!(kernel.nr, PANEL);
    let k = ks.len();
    with_scratch::<f32, _>((PANEL + kernel.mr) * k, |scratch| {
        let (b, a) = scratch.split_at_mut(PANEL * k);
        columns.pack(batch, across.clone(), ks.clone(), PANEL, b);
        for first in (0..lanes.len()).step_by(kernel.mr) {
            let count = kernel.mr.min(lanes.len() - first);
            let start = lanes.start + first;
            let a = &mut a[..count * k];
            rows.pack(batch, start..start + count, ks.clone(), count, a);
            // SAFETY: whole panels; the block has `count` more rows of 32.
            unsafe {
                let c = c.add(first * PANEL);
                (kernel.run)(count, k, a.as_ptr(), b.as_ptr(), c, PANEL, add);
            }
        }
    });
}

//! The loops around the micro-kernels: blocking, packing, threads.
//!
//! A product of `a (m, k)` and `b (k, n)` is cut into tiles of `c`. The rows of `a` are packed once
//! into panels `[k][rows]`, in parallel; then each tile walks `k` in blocks, packs its columns of
//! `b` into panels `[k][nr]` that stay in cache, and runs the micro-kernel over every pair of panels.
//!
//! **Order of summation.** Every element of `c` starts at zero and takes `a[i][p] * b[p][j]` for
//! `p = 0, 1, …` one after the other, on one accumulator, with fused multiply-adds where the
//! instruction set has them. Cutting `k` into blocks only parks the accumulator in memory of its own
//! type. So an element's bits depend on its row and its column alone: not on `m`, `n`, the batch,
//! the tile sizes or the number of threads, which leaves tiles free to follow all of these.

use super::kernel::{Compute, Kernel};
pub(crate) use super::scratch::with_scratch;
use crate::pool;
use std::ops::Range;

/// An operand of a product as the micro-kernels read it: lanes (rows of `a`, columns of `b`) by `k`.
pub(crate) trait Pack<T>: Sync {
    /// Writes the lanes as panels of `width` lanes, each `[k][width]`; what lies past the last lane
    /// in the last panel becomes zero.
    ///
    /// `dst` holds `ks.len() * lanes.len()` elements, the number of lanes rounded up to `width`.
    fn pack(
        &self,
        batch: usize,
        lanes: Range<usize>,
        ks: Range<usize>,
        width: usize,
        dst: &mut [T],
    );

    /// Whether neighbours along `k`, rather than neighbouring lanes, are neighbours in memory.
    fn runs_along_k(&self) -> bool;

    /// Whether there is a [`Pack::multiply`] for products of so many rows.
    fn fused(&self, _rows: usize) -> Fused {
        Fused::No
    }

    /// What packing at most `width` lanes and running the micro-kernel on them with a panel of
    /// `rows` rows would do, in one go and to the same bits.
    ///
    /// # Safety
    /// `a` holds `ks.len() * rows` elements; `c` has `rows` rows at distance `ldc`, of `width`
    /// elements for [`Fused::Panel`] and of one for each lane otherwise, initialised if `add`.
    unsafe fn multiply(
        &self,
        _batch: usize,
        _lanes: Range<usize>,
        _ks: Range<usize>,
        _width: usize,
        _rows: usize,
        _a: *const T,
        _c: *mut T,
        _ldc: usize,
        _add: bool,
    ) {
        unreachable!("no fused kernel")
    }
}

/// Kernels that read an operand as it lies.
#[derive(Clone, Copy, PartialEq)]
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
pub(crate) enum Fused {
    /// None.
    No,
    /// For one panel of the micro-kernel's width (32 or 64).
    Panel,
    /// For strips of any number of lanes.
    Strip,
}

/// Where a product goes.
pub(crate) trait Store<T>: Sync {
    /// Row-major memory of the compute type, and its row stride, if tiles may be written in place.
    fn direct(&self, batch: usize) -> Option<(*mut T, usize)>;

    /// Address of `c[row][col]` and bytes between rows, if rows are contiguous: where a tile will be
    /// stored, for those who want to have it at hand by then.
    fn place(&self, _batch: usize, _row: usize, _col: usize) -> Option<(*const u8, usize)> {
        None
    }

    /// Takes a finished tile whose first element is `c[row][col]`; `tile` has row stride `ld`.
    fn store(
        &self,
        batch: usize,
        row: usize,
        col: usize,
        rows: usize,
        cols: usize,
        tile: &[T],
        ld: usize,
    );
}

/// A batch of products `c = a · b`.
pub(crate) struct Product<'a, T> {
    pub(crate) batch: usize,
    pub(crate) m: usize,
    pub(crate) n: usize,
    pub(crate) k: usize,
    pub(crate) a: &'a dyn Pack<T>,
    pub(crate) b: &'a dyn Pack<T>,
    pub(crate) c: &'a dyn Store<T>,
}

/// Work, in multiply-adds, below which other threads only cost time.
const SERIAL: usize = 1 << 16;
/// Work of one task, at least.
const GRAIN: usize = 1 << 16;
/// Elements of `a` packed at a time.
const A_BLOCK: usize = 1 << 21;

/// How one product is cut.
#[derive(Clone, Copy)]
struct Plan {
    /// Rows of `a` packed at a time.
    block_rows: usize,
    /// Rows of a tile.
    tile_rows: usize,
    /// Columns of `b` packed at a time.
    tile_cols: usize,
    /// Columns a task takes, a multiple of `tile_cols`.
    task_cols: usize,
    /// Length of a block along `k`.
    kc: usize,
    /// Whether tiles are computed by [`Pack::multiply`].
    fused: Fused,
}

impl<T: Compute> Product<'_, T> {
    /// Computes all of them.
    pub(crate) fn run(&self) {
        if self.batch == 0 || self.m == 0 || self.n == 0 {
            return;
        }
        let kernel = T::kernel(self.m);
        let work = self.m.saturating_mul(self.n).saturating_mul(self.k.max(1));
        let plan = self.plan(&kernel, work);
        if work.saturating_mul(self.batch) <= SERIAL {
            for i in 0..self.batch {
                self.one(&kernel, &plan, i, false);
            }
        } else if self.batch > 1 && (work <= 1 << 22 || self.batch >= 4 * pool::threads()) {
            let grain = (GRAIN / work).max(1);
            pool::parallel_ranges(self.batch, grain, |start, end| {
                for i in start..end {
                    self.one(&kernel, &plan, i, false);
                }
            });
        } else {
            for i in 0..self.batch {
                self.one(&kernel, &plan, i, true);
            }
        }
    }

    fn plan(&self, kernel: &Kernel<T>, work: usize) -> Plan {
        let (m, n, k) = (self.m, self.n, self.k.max(1));
        let up = |x: usize, to: usize| x.div_ceil(to) * to;
        if m <= kernel.mr {
            // Each weight is used m times only: panels live in L1, and streams are long.
            let fused = self.b.fused(m);
            let (tile_rows, block_rows) = (m, m);
            match fused {
                Fused::Panel => {
                    let (tile_cols, kc) = (kernel.nr, 2048);
                    // Long runs: what a thread asks the memory for ahead of time is then its own.
                    let share = n.div_ceil(4 * pool::threads());
                    let task_cols = up((GRAIN / k).max(share).clamp(1, n), tile_cols);
                    return Plan { block_rows, tile_rows, tile_cols, task_cols, kc, fused };
                }
                Fused::Strip => {
                    let tile_cols = up(n.div_ceil(2 * pool::threads()), 64).clamp(128, 512);
                    let task_cols = up((GRAIN / k).clamp(1, n), tile_cols);
                    return Plan { block_rows, tile_rows, tile_cols, task_cols, kc: 2048, fused };
                }
                Fused::No => {}
            }
            let (tile_cols, kc) = if self.b.runs_along_k() {
                (kernel.nr, kernel.kc / 2)
            } else {
                (up(512, kernel.nr), kernel.kc / 4)
            };
            let task_cols = up((GRAIN * 2 / (m * k)).clamp(1, n), tile_cols);
            return Plan {
                block_rows: m,
                tile_rows: m,
                tile_cols,
                task_cols,
                kc,
                fused: Fused::No,
            };
        }
        let block_rows = up((A_BLOCK / k).max(256).min(m), kernel.mr);
        let tile_cols = up(128, kernel.nr);
        let mut tile_rows = block_rows.min(up(512, kernel.mr));
        let tasks = |rows: usize| m.min(block_rows).div_ceil(rows) * n.div_ceil(tile_cols);
        while tile_rows > 4 * kernel.mr
            && tasks(tile_rows) < 4 * pool::threads()
            && work / tasks(tile_rows) > GRAIN
        {
            tile_rows = up(tile_rows / 2, kernel.mr);
        }
        Plan {
            block_rows,
            tile_rows,
            tile_cols,
            task_cols: tile_cols,
            kc: kernel.kc,
            fused: Fused::No,
        }
    }

    fn one(&self, kernel: &Kernel<T>, plan: &Plan, batch: usize, threads: bool) {
        let each = |n: usize, f: &(dyn Fn(usize) + Sync)| {
            if threads { pool::parallel(n, f) } else { (0..n).for_each(f) }
        };
        for r0 in (0..self.m).step_by(plan.block_rows) {
            let rows = plan.block_rows.min(self.m - r0);
            with_scratch::<T, _>(rows * self.k, |packed| {
                self.pack_a(kernel, plan, batch, r0, rows, packed, &each);
                let packed = &*packed;
                let (tiles, strips) =
                    (rows.div_ceil(plan.tile_rows), self.n.div_ceil(plan.task_cols));
                each(tiles * strips, &|task| {
                    let (tile, strip) = (task % tiles, task / tiles);
                    let t0 = tile * plan.tile_rows;
                    let c0 = strip * plan.task_cols;
                    let c1 = (c0 + plan.task_cols).min(self.n);
                    for c in (c0..c1).step_by(plan.tile_cols) {
                        let tile = Tile {
                            batch,
                            block: r0,
                            block_rows: rows,
                            rows: t0..(t0 + plan.tile_rows).min(rows),
                            cols: c..(c + plan.tile_cols).min(c1),
                        };
                        self.tile(kernel, plan, &tile, packed);
                    }
                });
            });
        }
    }

    /// Packs rows `r0..r0 + rows` of `a`: blocks along `k`, in each the panels of `mr` rows.
    fn pack_a(
        &self,
        kernel: &Kernel<T>,
        plan: &Plan,
        batch: usize,
        r0: usize,
        rows: usize,
        packed: &mut [T],
        each: &dyn Fn(usize, &(dyn Fn(usize) + Sync)),
    ) {
        let blocks = self.k.div_ceil(plan.kc);
        let shared = Shared(packed.as_mut_ptr());
        let pack = |block: usize| {
            let shared = &shared;
            let k0 = block * plan.kc;
            let kc = plan.kc.min(self.k - k0);
            for p in (0..rows).step_by(kernel.mr) {
                let width = kernel.mr.min(rows - p);
                // SAFETY: blocks are disjoint parts of `packed`, which holds `rows * k` elements.
                let dst = unsafe {
                    std::slice::from_raw_parts_mut(shared.0.add(k0 * rows + p * kc), width * kc)
                };
                self.a.pack(batch, r0 + p..r0 + p + width, k0..k0 + kc, width, dst);
            }
        };
        if rows * self.k >= 1 << 14 { each(blocks, &pack) } else { (0..blocks).for_each(pack) }
    }

    fn tile(&self, kernel: &Kernel<T>, plan: &Plan, tile: &Tile, packed: &[T]) {
        let Tile { batch, block, block_rows, .. } = *tile;
        let (rows, cols) = (tile.rows.len(), tile.cols.len());
        let wide = cols.next_multiple_of(kernel.nr);
        let direct = self.c.direct(batch);
        let panels = if plan.fused != Fused::No { 0 } else { wide * plan.kc.min(self.k) };
        let spare = kernel.mr * kernel.nr;
        let own = if direct.is_none() { rows * wide } else { 0 };
        with_scratch::<T, _>(panels + spare + own, |scratch| {
            let (panels, rest) = scratch.split_at_mut(panels);
            let (spare, own) = rest.split_at_mut(spare);
            let (c, ldc) = match direct {
                Some((c, ld)) => {
                    // SAFETY: the tile lies inside `c`.
                    let c = unsafe { c.add((block + tile.rows.start) * ld + tile.cols.start) };
                    (c, ld)
                }
                None => (own.as_mut_ptr(), wide),
            };
            let mut k0 = 0;
            loop {
                let kc = plan.kc.min(self.k - k0);
                if plan.fused != Fused::No {
                    let a = &packed[k0 * block_rows..][..rows * kc];
                    let ks = k0..k0 + kc;
                    let run = |c: *mut T, ldc: usize, add: bool| {
                        // SAFETY: `a` is a whole panel; `c` has `nr` elements in each row.
                        unsafe {
                            let lanes = tile.cols.clone();
                            self.b.multiply(
                                batch,
                                lanes,
                                ks.clone(),
                                kernel.nr,
                                rows,
                                a.as_ptr(),
                                c,
                                ldc,
                                add,
                            );
                        }
                    };
                    if plan.fused == Fused::Strip || cols == kernel.nr || direct.is_none() {
                        run(c, ldc, k0 > 0);
                    } else {
                        // SAFETY: the tile has `rows` rows of `cols` elements.
                        unsafe { edge(run, (rows, cols), c, ldc, k0 > 0, spare, kernel.nr) };
                    }
                    k0 += kc;
                    if k0 >= self.k {
                        break;
                    }
                    continue;
                }
                let b = &mut panels[..wide * kc];
                self.b.pack(batch, tile.cols.clone(), k0..k0 + kc, kernel.nr, b);
                for r in (0..rows).step_by(kernel.mr) {
                    let height = kernel.mr.min(rows - r);
                    let a = &packed[k0 * block_rows + (tile.rows.start + r) * kc..][..height * kc];
                    for j in (0..cols).step_by(kernel.nr) {
                        let width = kernel.nr.min(cols - j);
                        let b = &b[j * kc..][..kernel.nr * kc];
                        // SAFETY: `a` and `b` are whole panels; `c` has `height` rows of `nr`
                        // elements at this place, or else the spare tile stands in for it.
                        unsafe {
                            let c = c.add(r * ldc + j);
                            if width == kernel.nr || direct.is_none() {
                                (kernel.run)(height, kc, a.as_ptr(), b.as_ptr(), c, ldc, k0 > 0);
                            } else {
                                let run = |c: *mut T, ldc: usize, add: bool| {
                                    (kernel.run)(height, kc, a.as_ptr(), b.as_ptr(), c, ldc, add);
                                };
                                edge(run, (height, width), c, ldc, k0 > 0, spare, kernel.nr);
                            }
                        }
                    }
                }
                k0 += kc;
                if k0 >= self.k {
                    break;
                }
            }
            if direct.is_none() {
                self.c.store(
                    batch,
                    block + tile.rows.start,
                    tile.cols.start,
                    rows,
                    cols,
                    own,
                    wide,
                );
            }
        });
    }
}

/// A tile of `c`: `rows` count from row `block`, the first of the packed block.
struct Tile {
    batch: usize,
    block: usize,
    block_rows: usize,
    rows: Range<usize>,
    cols: Range<usize>,
}

/// Runs a kernel on a spare tile with row stride `nr`, for a tile of `c` narrower than the kernel.
///
/// # Safety
/// `c` has `height` rows of `width` elements at distance `ldc`, initialised if `add`.
unsafe fn edge<T: Compute>(
    run: impl FnOnce(*mut T, usize, bool),
    (height, width): (usize, usize),
    c: *mut T,
    ldc: usize,
    add: bool,
    spare: &mut [T],
    nr: usize,
) {
    // SAFETY: the caller vouches for the rows of `c`.
    unsafe {
        if add {
            for i in 0..height {
                let row = std::slice::from_raw_parts(c.add(i * ldc), width);
                spare[i * nr..][..width].copy_from_slice(row);
            }
        }
        run(spare.as_mut_ptr(), nr, add);
        for i in 0..height {
            let row = std::slice::from_raw_parts_mut(c.add(i * ldc), width);
            row.copy_from_slice(&spare[i * nr..][..width]);
        }
    }
}

/// A pointer that tasks share; each writes a part of its own.
pub(crate) struct Shared<T>(pub(crate) *mut T);

// SAFETY: tasks write disjoint parts.
unsafe impl<T: Send> Sync for Shared<T> {}

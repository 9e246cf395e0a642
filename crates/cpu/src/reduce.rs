//! Reductions over any axes and strides.
//!
//! The elements behind one output, in row-major order of the reduced axes, are its *sequence*. The
//! order of additions is a function of the sequence's length alone, so the result does not depend on
//! strides, threads or the path taken: blocks of 1024 elements; inside a block `L` lanes (one cache
//! line of accumulators), lane `l` folding positions `l, l + L, …`; lanes joined as a tree; blocks
//! joined pairwise. The error of a sum therefore grows with the logarithm of the length.
//!
//! Two paths compute it. *Along*: one output at a time, lanes across the sequence, for sequences that
//! are contiguous. *Across*: a tile of neighbouring outputs at a time, each lane a row of
//! accumulators, for operands that are contiguous along a kept axis (column sums) and for short
//! sequences. Long sequences are cut at whole subtrees of the block tree, for parallelism.

mod arg;
mod fused;

pub(crate) use arg::arg_reduce;
pub(crate) use fused::reduce_fused;

use crate::copy::Shared;
use crate::dispatch;
use crate::load::{AHEAD, BLOCK, Loader, Scratch, prefetch_row, store};
use crate::pool::parallel_ranges;
use crate::strided::{collapse, offset_of, rows};
use lazul_ir::{Axes, Complex32, DType, Job, Operand, ReduceOp, Target};
use smallvec::SmallVec;
use std::mem::MaybeUninit;

/// Elements that a task should have at least.
const TASK: usize = 64 << 10;
/// Most lanes of any accumulator type.
const MOST_LANES: usize = 64;
/// Bytes of a tile's row of accumulators.
const TILE_BYTES: usize = 2048;

/// Reduces `axes`.
pub(crate) fn reduce(op: ReduceOp, axes: &Axes, job: &Job<'_>) {
    reduce_from(op, axes, &Input::Memory(job.inputs[0]), &job.outputs[0]);
}

/// What is reduced.
enum Input<'a> {
    /// Elements in memory.
    Memory(Operand<'a>),
    /// Values of a shape that are computed when they are asked for.
    Values(fused::Values<'a>),
}

fn reduce_from(op: ReduceOp, axes: &Axes, input: &Input<'_>, out: &Target<'_>) {
    let dtype = match op {
        ReduceOp::All | ReduceOp::Any => DType::Bool,
        _ => out.dtype,
    };
    let acc = dtype.compute();
    macro_rules! exact {
        ($fold:ident) => {
            match acc {
                DType::Bool | DType::U8 => fold::<u8, $fold>(axes, dtype, input, out),
                DType::U16 => fold::<u16, $fold>(axes, dtype, input, out),
                DType::U32 => fold::<u32, $fold>(axes, dtype, input, out),
                DType::U64 => fold::<u64, $fold>(axes, dtype, input, out),
                DType::I8 => fold::<i8, $fold>(axes, dtype, input, out),
                DType::I16 => fold::<i16, $fold>(axes, dtype, input, out),
                DType::I32 => fold::<i32, $fold>(axes, dtype, input, out),
                DType::I64 => fold::<i64, $fold>(axes, dtype, input, out),
                DType::F64 => fold::<f64, $fold>(axes, dtype, input, out),
                DType::C64 => unreachable!("{} of complex64", op.name()),
                _ => fold::<f32, $fold>(axes, dtype, input, out),
            }
        };
    }
    // Wrapping sums and products do not see the sign.
    macro_rules! wrapping {
        ($fold:ident) => {
            match acc.size() {
                8 if acc == DType::F64 => fold::<f64, $fold>(axes, dtype, input, out),
                8 if acc == DType::C64 => fold::<Complex32, $fold>(axes, dtype, input, out),
                4 if acc == DType::F32 => fold::<f32, $fold>(axes, dtype, input, out),
                1 => fold::<u8, $fold>(axes, dtype, input, out),
                2 => fold::<u16, $fold>(axes, dtype, input, out),
                4 => fold::<u32, $fold>(axes, dtype, input, out),
                _ => fold::<u64, $fold>(axes, dtype, input, out),
            }
        };
    }
    match op {
        ReduceOp::Sum if acc == DType::Bool => fold::<u8, Max>(axes, dtype, input, out),
        ReduceOp::Prod if acc == DType::Bool => fold::<u8, All>(axes, dtype, input, out),
        ReduceOp::All => fold::<u8, All>(axes, dtype, input, out),
        ReduceOp::Any => fold::<u8, Max>(axes, dtype, input, out),
        ReduceOp::Sum => wrapping!(Sum),
        ReduceOp::Prod => wrapping!(Prod),
        ReduceOp::Min => exact!(Min),
        ReduceOp::Max => exact!(Max),
    }
}

/// An associative operation with a neutral element.
pub(crate) trait Fold<T>: Copy + Default {
    const NEUTRAL: T;
    /// Whether the order of folding matters.
    const ORDERED: bool;
    /// Whether it is a few instructions.
    const CHEAP: bool = true;
    fn join(a: T, b: T) -> T;
}

#[derive(Clone, Copy, Default)]
pub(crate) struct Sum;
#[derive(Clone, Copy, Default)]
pub(crate) struct Prod;
#[derive(Clone, Copy, Default)]
pub(crate) struct Min;
#[derive(Clone, Copy, Default)]
pub(crate) struct Max;
/// Minimum of truth values; the empty one is true.
#[derive(Clone, Copy, Default)]
struct All;

macro_rules! folds {
    ($($fold:ident $ordered:literal [$($t:ty = $neutral:expr),*] |$a:ident, $b:ident| $join:expr;)*) => {
        $($(
            impl Fold<$t> for $fold {
                const NEUTRAL: $t = $neutral;
                const ORDERED: bool = $ordered;
                #[inline(always)]
                fn join($a: $t, $b: $t) -> $t {
                    $join
                }
            }
        )*)*
    };
}
folds! {
    Sum false [u8 = 0, u16 = 0, u32 = 0, u64 = 0, i8 = 0, i16 = 0, i32 = 0, i64 = 0]
        |a, b| a.wrapping_add(b);
    Sum true [f32 = 0.0, f64 = 0.0] |a, b| a + b;
    Sum true [Complex32 = Complex32::new(0.0, 0.0)]
        |a, b| Complex32::new(a.re + b.re, a.im + b.im);
    Prod false [u8 = 1, u16 = 1, u32 = 1, u64 = 1, i8 = 1, i16 = 1, i32 = 1, i64 = 1]
        |a, b| a.wrapping_mul(b);
    Prod true [f32 = 1.0, f64 = 1.0] |a, b| a * b;
    Prod true [Complex32 = Complex32::new(1.0, 0.0)]
        |a, b| Complex32::new(a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re);
    Min false [u8 = u8::MAX, u16 = u16::MAX, u32 = u32::MAX, u64 = u64::MAX,
               i8 = i8::MAX, i16 = i16::MAX, i32 = i32::MAX, i64 = i64::MAX]
        |a, b| if a < b { a } else { b };
    Max false [u8 = u8::MIN, u16 = u16::MIN, u32 = u32::MIN, u64 = u64::MIN,
               i8 = i8::MIN, i16 = i16::MIN, i32 = i32::MIN, i64 = i64::MIN]
        |a, b| if a > b { a } else { b };
    // Ordered, because zeros of either sign and NaNs of any payload are equally good.
    Min true [f32 = f32::INFINITY, f64 = f64::INFINITY]
        |a, b| if a < b || a.is_nan() { a } else { b };
    Max true [f32 = f32::NEG_INFINITY, f64 = f64::NEG_INFINITY]
        |a, b| if a > b || a.is_nan() { a } else { b };
    All false [u8 = 1] |a, b| a & b;
}

/// Outputs in a tile: at most what a loader's scratch holds.
fn tile_width<T>() -> usize {
    (TILE_BYTES / size_of::<T>()).min(BLOCK)
}

/// Number of lanes: a cache line of accumulators.
const fn lanes<T>() -> usize {
    64 / size_of::<T>()
}

/// `acc[i] = acc[i] ∘ row[i]`.
#[inline(always)]
fn join_into<T: Copy, F: Fold<T>>(acc: &mut [T], row: &[T]) {
    for (a, &x) in acc.iter_mut().zip(row) {
        *a = F::join(*a, x);
    }
}

dispatch! {
/// Folds a block along its length.
fn fold_block<T: Copy, F: Fold<T>>(x: &[T], _f: F) -> T {
    let l = lanes::<T>();
    let mut acc = [F::NEUTRAL; MOST_LANES];
    let acc = &mut acc[..l];
    let chunks = x.chunks_exact(l);
    let rest = chunks.remainder();
    for chunk in chunks {
        join_into::<T, F>(acc, chunk);
    }
    join_into::<T, F>(acc, rest);
    // Lanes that got nothing take no part.
    let mut used = l.min(x.len());
    while used > 1 {
        let width = used.next_power_of_two() / 2;
        let (low, high) = acc.split_at_mut(width);
        join_into::<T, F>(low, &high[..used - width]);
        used = width;
    }
    acc[0]
}
}

dispatch! {
/// Folds `count` rows of `n` elements, `stride` apart from `src` on, into rows of accumulators
/// beginning with row `first` and starting over after `lanes`.
///
/// Callers promise that the rows are valid.
fn fold_rows<T: Copy, F: Fold<T>>(
    acc: &mut [T], n: usize, lanes: usize, first: usize,
    src: *const T, stride: isize, count: usize, _f: F,
) {
    for k in 0..count {
        let lane = (first + k) % lanes;
        let size = size_of::<T>();
        prefetch_row(src.cast(), k + AHEAD, stride * size as isize, n * size);
        // SAFETY: the callers' promise.
        let row = unsafe { std::slice::from_raw_parts(src.offset(k as isize * stride), n) };
        join_into::<T, F>(&mut acc[lane * n..][..n], row);
    }
}
}

/// `acc[i] = acc[i] ∘ row[i]`.
fn fold_row<T: Copy, F: Fold<T>>(acc: &mut [T], row: &[T], f: F) {
    fold_rows(acc, row.len(), 1, 0, row.as_ptr(), 0, 1, f);
}

/// Joins `used` rows of `n` accumulators as a tree, into the first.
fn join_lanes<T: Copy, F: Fold<T>>(acc: &mut [T], used: usize, n: usize, f: F) {
    let mut rest = used;
    while rest > 1 {
        let width = rest.next_power_of_two() / 2;
        let (low, high) = acc.split_at_mut(width * n);
        fold_row(&mut low[..(rest - width) * n], &high[..(rest - width) * n], f);
        rest = width;
    }
}

/// Joins what is pushed pairwise, as a binary counter does: equal for any way of cutting the
/// sequence at multiples of a power of two.
struct Pairwise<V> {
    levels: SmallVec<[Option<V>; 8]>,
}

impl<V> Pairwise<V> {
    fn new() -> Pairwise<V> {
        Pairwise { levels: SmallVec::new() }
    }

    fn push(&mut self, mut value: V, join: impl Fn(V, V) -> V) {
        for level in &mut self.levels {
            match level.take() {
                None => {
                    *level = Some(value);
                    return;
                }
                Some(earlier) => value = join(earlier, value),
            }
        }
        self.levels.push(Some(value));
    }

    fn finish(self, join: impl Fn(V, V) -> V) -> Option<V> {
        let mut result = None;
        for level in self.levels {
            result = match (level, result) {
                (Some(earlier), Some(later)) => Some(join(earlier, later)),
                (one, other) => one.or(other),
            };
        }
        result
    }
}

/// Kept and reduced axes of an operand, each group merged by itself.
pub(crate) struct Split {
    pub(crate) kept: SmallVec<[usize; 4]>,
    pub(crate) kept_strides: SmallVec<[isize; 4]>,
    pub(crate) reduced: SmallVec<[usize; 4]>,
    pub(crate) reduced_strides: SmallVec<[isize; 4]>,
}

impl Split {
    pub(crate) fn new(operand: &Operand<'_>, is_reduced: impl Fn(usize) -> bool) -> Split {
        let group = |reduced: bool| {
            let axes = (0..operand.shape.len()).filter(|&a| is_reduced(a) == reduced);
            let (shape, strides): (SmallVec<[usize; 6]>, SmallVec<[isize; 6]>) =
                axes.map(|a| (operand.shape[a], operand.strides[a])).unzip();
            let mut c = collapse(&shape, &[&strides]);
            (c.shape, c.strides.swap_remove(0))
        };
        let (kept, kept_strides) = group(false);
        let (reduced, reduced_strides) = group(true);
        Split { kept, kept_strides, reduced, reduced_strides }
    }

    /// The kept axis that tiles of outputs run along, if the path across outputs is the better one.
    pub(crate) fn across(&self) -> Option<usize> {
        let m: usize = self.reduced.iter().product();
        let inner = self.reduced_strides[self.reduced.len() - 1];
        let unit = (0..self.kept.len()).find(|&a| self.kept_strides[a] == 1 && self.kept[a] >= 8);
        if inner == 1 && m > 32 {
            return None;
        }
        let last = self.kept.len() - 1;
        unit.or_else(|| (m <= 32 && self.kept[last] >= 8).then_some(last))
    }
}

/// Results of a task: one row of accumulators.
type Row<T> = SmallVec<[T; 64]>;

fn fold<T, F>(axes: &Axes, dtype: DType, input: &Input<'_>, out: &Target<'_>)
where
    T: Copy + Send + Sync,
    F: Fold<T> + Sync,
{
    let outputs = out.size();
    if outputs == 0 {
        return;
    }
    let ptr = Shared(out.ptr);
    let put = |first: usize, step: usize, values: &[T]| {
        // SAFETY: every output belongs to one task, and its compute type is `T`.
        unsafe {
            let at = ptr.get().add(first * out.dtype.size());
            store(values, out.dtype, at, step as isize);
        }
    };
    let shape = match input {
        Input::Memory(operand) => operand.shape,
        Input::Values(values) => values.shape,
    };
    let m: usize = axes.iter().map(|&a| shape[a as usize]).product();
    if m == 0 {
        return (0..outputs).for_each(|o| put(o, 1, &[F::NEUTRAL]));
    }
    let input = match input {
        Input::Memory(operand) => operand,
        Input::Values(values) => {
            return fused::fold_values::<T, F>(values, axes, dtype, outputs, m, &put);
        }
    };
    let split = Split::new(input, |a| axes.contains(&(a as u8)));
    let folder = Folder::<T, F> {
        input: Shared(input.ptr),
        loader: Loader::new(input.dtype, dtype),
        split: &split,
        f: F::default(),
        values: std::marker::PhantomData,
    };
    match split.across() {
        None => {
            let piece = piece_length(m, outputs, 1);
            cut(outputs, outputs, m, piece, 1, F::join, &put, &|o, start, end, sink| {
                // SAFETY: the range lies inside the sequence.
                sink(o, 1, &[unsafe { folder.along(o, start, end) }]);
            });
        }
        Some(axis) => {
            let tiles = Tiles::new(&split, axis, tile_width::<T>());
            let piece = piece_length(m, tiles.count, tiles.size);
            cut(
                tiles.count,
                outputs,
                m,
                piece,
                tiles.size,
                F::join,
                &put,
                &|t, start, end, sink| {
                    let (first, n) = tiles.get(t);
                    // SAFETY: the range lies inside the sequence, and `n` outputs follow along `axis`.
                    let values = unsafe { folder.across(first, axis, n, start, end) };
                    sink(first, tiles.step, &values);
                },
            );
        }
    }
}

/// Outputs cut into runs of neighbours along a kept axis.
pub(crate) struct Tiles {
    pub(crate) count: usize,
    /// Outputs in a full tile.
    pub(crate) size: usize,
    width: usize,
    /// Distance in the output between neighbours.
    pub(crate) step: usize,
}

impl Tiles {
    pub(crate) fn new(split: &Split, axis: usize, most: usize) -> Tiles {
        let width = split.kept[axis];
        let size = most.min(width);
        let others: usize = split.kept.iter().product::<usize>() / width;
        let step = split.kept[axis + 1..].iter().product();
        Tiles { count: others * width.div_ceil(size), size, width, step }
    }

    /// The first output of tile `t`, and how many it has. Tiles of one plane follow one another.
    pub(crate) fn get(&self, t: usize) -> (usize, usize) {
        let tiles = self.width.div_ceil(self.size);
        let (plane, at) = (t / tiles, t % tiles * self.size);
        let (outer, inner) = (plane / self.step, plane % self.step);
        ((outer * self.width + at) * self.step + inner, self.size.min(self.width - at))
    }
}

/// Length of the pieces that a sequence of `m` is cut into: whole where there are enough other
/// tasks, else the least power of two of blocks that is worth a task.
pub(crate) fn piece_length(m: usize, tasks: usize, width: usize) -> usize {
    let blocks = m.div_ceil(BLOCK).next_power_of_two();
    let worth = (TASK / (BLOCK * width)).max(1).next_power_of_two();
    BLOCK * if tasks >= 64 { blocks } else { worth.min(blocks) }
}

/// Runs `f(task, start, end, sink)` for every task and every piece of the sequence `0..m`, and hands
/// the results (`sink(first output, distance, values)`) to `put`, joined pairwise where a sequence
/// has several pieces. A task yields at most `width` values.
pub(crate) fn cut<T: Copy + Send + Sync>(
    tasks: usize,
    outputs: usize,
    m: usize,
    piece: usize,
    width: usize,
    join: fn(T, T) -> T,
    put: &(dyn Fn(usize, usize, &[T]) + Sync),
    f: &(dyn Fn(usize, usize, usize, &mut dyn FnMut(usize, usize, &[T])) + Sync),
) {
    let pieces = m.div_ceil(piece);
    let grain = (TASK / (m.min(piece) * width)).max(1);
    if pieces == 1 {
        return parallel_ranges(tasks, grain, |a, b| {
            (a..b).for_each(|task| f(task, 0, m, &mut |first, step, v| put(first, step, v)));
        });
    }
    let mut partial: Vec<MaybeUninit<T>> = Vec::with_capacity(pieces * outputs);
    // SAFETY: uninitialised values need no initialisation.
    unsafe { partial.set_len(pieces * outputs) };
    let results = Shared(partial.as_mut_ptr());
    parallel_ranges(tasks * pieces, grain, |a, b| {
        for i in a..b {
            let (p, task) = (i / tasks, i % tasks);
            let (start, end) = (p * piece, m.min((p + 1) * piece));
            f(task, start, end, &mut |first, step, values| {
                for (k, &v) in values.iter().enumerate() {
                    // SAFETY: every piece of every output is written by one task.
                    unsafe {
                        results.get().add(p * outputs + first + k * step).write(MaybeUninit::new(v))
                    };
                }
            });
        }
    });
    parallel_ranges(outputs, (TASK / pieces).max(1), |a, b| {
        for o in a..b {
            let mut tree = Pairwise::new();
            for p in 0..pieces {
                // SAFETY: all pieces of all outputs were written above.
                tree.push(unsafe { results.get().add(p * outputs + o).read().assume_init() }, join);
            }
            if let Some(value) = tree.finish(join) {
                put(o, 1, &[value]);
            }
        }
    });
}

/// Folds sequences of one operand.
struct Folder<'a, T, F> {
    input: Shared<*const u8>,
    loader: Loader,
    split: &'a Split,
    f: F,
    values: std::marker::PhantomData<fn() -> T>,
}

impl<T: Copy, F: Fold<T>> Folder<'_, T, F> {
    /// The first element of output `o`'s sequence.
    unsafe fn base(&self, o: usize) -> *const u8 {
        let offset = offset_of(o, &self.split.kept, &self.split.kept_strides);
        // SAFETY: the caller passes an output of the job.
        unsafe { self.input.get().offset(offset * self.loader.size() as isize) }
    }

    /// Folds positions `start..end` of one output's sequence.
    ///
    /// # Safety
    /// The output and the positions must exist.
    unsafe fn along(&self, o: usize, start: usize, end: usize) -> T {
        let (shape, strides) = (&self.split.reduced, &self.split.reduced_strides);
        let mut scratch = Scratch::new();
        let mut tree = Pairwise::new();
        let mut single = F::NEUTRAL;
        for at in (start..end).step_by(BLOCK) {
            let n = BLOCK.min(end - at);
            // SAFETY: the caller's promise.
            single = unsafe {
                let x = self.loader.sequence(self.base(o), shape, strides, at, n, &mut scratch);
                fold_block(x, self.f)
            };
            if end - start > BLOCK {
                tree.push(single, F::join);
            }
        }
        tree.finish(F::join).unwrap_or(single)
    }

    /// Folds positions `start..end` of the sequences of `n` outputs along kept axis `axis`.
    ///
    /// # Safety
    /// The outputs and the positions must exist.
    unsafe fn across(
        &self,
        first: usize,
        axis: usize,
        n: usize,
        start: usize,
        end: usize,
    ) -> Row<T> {
        let (shape, strides) = (&self.split.reduced, &self.split.reduced_strides);
        let size = self.loader.size() as isize;
        let step = self.split.kept_strides[axis];
        let lanes = if F::ORDERED { lanes::<T>() } else { 1 };
        let block = if F::ORDERED { BLOCK } else { end - start };
        let direct = self.loader.is_direct() && step == 1;
        let inner = strides[strides.len() - 1];
        let join = |mut a: Row<T>, b: Row<T>| {
            fold_row(&mut a, &b, self.f);
            a
        };
        let mut scratch = Scratch::new();
        let mut tree = Pairwise::new();
        let mut acc: SmallVec<[T; 256]> = SmallVec::new();
        for at in (start..end).step_by(block) {
            let stop = end.min(at + block);
            let used = lanes.min(stop - at);
            acc.clear();
            acc.resize(used * n, F::NEUTRAL);
            rows(shape, [strides], at, stop, |position, [offset], count| {
                // SAFETY: the caller's promise; `rows` stays inside the sequence.
                unsafe {
                    let src = self.base(first).offset(offset * size);
                    let lane = position - at;
                    if direct {
                        return fold_rows(
                            &mut acc,
                            n,
                            used,
                            lane,
                            src.cast(),
                            inner,
                            count,
                            self.f,
                        );
                    }
                    for k in 0..count {
                        prefetch_row(src, k + AHEAD, inner * size, n * size as usize);
                        let src = src.offset(k as isize * inner * size);
                        let row = self.loader.run(src, step, n, &mut scratch);
                        fold_row(&mut acc[(lane + k) % used * n..][..n], row, self.f);
                    }
                }
            });
            join_lanes(&mut acc, used, n, self.f);
            tree.push(Row::from_slice(&acc[..n]), join);
        }
        tree.finish(join).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;

//! Running reductions along an axis.
//!
//! The order of operations is a function of shape and position alone. An axis is cut into *strands*;
//! inside one a local fold runs from the neutral element, and the result at a position is
//! `base ∘ local`, where `base` is the running fold of whole strands. So strands are independent but
//! for their base, errors grow slowly, and the result does not depend on threads or strides. An axis
//! that is long, with little beside it, is scanned in two passes: folds of all strands, then, with
//! their bases known, the strands themselves.
//!
//! Two paths: *along* scans one sequence, sixteen positions at a time as a tree (strands of 1024);
//! *across* scans a tile of neighbouring sequences, a row after the other (strands of 128).

use crate::copy::Shared;
use crate::dispatch;
use crate::load::{AHEAD, BLOCK, Loader, Scratch, prefetch_row, store};
use crate::math;
use crate::pool::parallel_ranges;
use crate::reduce::{Fold, Max, Min, Prod, Sum};
use crate::strided::{collapse, offset_of};
use lazul_ir::{Complex32, DType, Job, ScanOp};
use smallvec::SmallVec;
use std::mem::MaybeUninit;

/// Positions that are folded as a tree.
const CHUNK: usize = 16;
/// Positions of the path across that are folded one after another.
const STRAND: usize = 128;
/// Elements that a task should have at least.
const TASK: usize = 32 << 10;
/// Tasks beside one another that make a second pass, for the parallelism of one sequence, needless.
const MANY: usize = 16;
/// Sequences in a tile of the path across.
const TILE: usize = 256;

/// Running reduction along `axis`.
pub(crate) fn scan(op: ScanOp, axis: usize, reverse: bool, inclusive: bool, job: &Job<'_>) {
    let out = job.outputs[0].dtype.compute();
    macro_rules! run {
        ($t:ty, $fold:ident) => {
            Scan::<$t, $fold>::new(axis, reverse, inclusive, job).run(job)
        };
    }
    macro_rules! wrapping {
        ($fold:ident) => {
            match out.size() {
                8 if out == DType::F64 => run!(f64, $fold),
                8 if out == DType::C64 => run!(Complex32, $fold),
                4 if out == DType::F32 => run!(f32, $fold),
                1 => run!(u8, $fold),
                2 => run!(u16, $fold),
                4 => run!(u32, $fold),
                _ => run!(u64, $fold),
            }
        };
    }
    macro_rules! ordered {
        ($fold:ident) => {
            match out {
                DType::Bool | DType::U8 => run!(u8, $fold),
                DType::U16 => run!(u16, $fold),
                DType::U32 => run!(u32, $fold),
                DType::U64 => run!(u64, $fold),
                DType::I8 => run!(i8, $fold),
                DType::I16 => run!(i16, $fold),
                DType::I32 => run!(i32, $fold),
                DType::I64 => run!(i64, $fold),
                DType::F64 => run!(f64, $fold),
                DType::C64 => unreachable!("no order on complex64"),
                _ => run!(f32, $fold),
            }
        };
    }
    match op {
        ScanOp::Sum if out == DType::Bool => run!(u8, Any),
        ScanOp::Prod | ScanOp::Min if out == DType::Bool => run!(u8, All),
        ScanOp::Max if out == DType::Bool => run!(u8, Any),
        ScanOp::Sum => wrapping!(Sum),
        ScanOp::Prod => wrapping!(Prod),
        ScanOp::Min => ordered!(Min),
        ScanOp::Max => ordered!(Max),
        ScanOp::LogAddExp if out == DType::F64 => run!(f64, LogAddExp),
        ScanOp::LogAddExp => run!(f32, LogAddExp),
    }
}

#[derive(Clone, Copy, Default)]
struct LogAddExp;
/// Truth values.
#[derive(Clone, Copy, Default)]
struct All;
#[derive(Clone, Copy, Default)]
struct Any;

macro_rules! folds {
    ($($fold:ident $cheap:literal $t:ty = $neutral:expr, |$a:ident, $b:ident| $join:expr;)*) => {$(
        impl Fold<$t> for $fold {
            const NEUTRAL: $t = $neutral;
            const ORDERED: bool = true;
            const CHEAP: bool = $cheap;
            #[inline(always)]
            fn join($a: $t, $b: $t) -> $t {
                $join
            }
        }
    )*};
}
folds! {
    LogAddExp false f32 = f32::NEG_INFINITY, |a, b| math::logaddexp(a, b);
    LogAddExp false f64 = f64::NEG_INFINITY, |a, b| math::double::logaddexp(a, b);
    All true u8 = 1, |a, b| a & b;
    Any true u8 = 0, |a, b| a | b;
}

/// Folds of `v[..=i]` for each `i`, as a tree.
#[inline(always)]
fn prefixes<T: Copy, F: Fold<T>>(mut v: [T; CHUNK]) -> [T; CHUNK] {
    macro_rules! step {
        ($distance:literal) => {
            let before = v;
            let mut i = $distance;
            while i < CHUNK {
                v[i] = F::join(before[i - $distance], before[i]);
                i += 1;
            }
        };
    }
    step!(1);
    step!(2);
    step!(4);
    step!(8);
    v
}

/// Scans up to a block from the neutral element into `y`; returns the fold of all.
#[inline(always)]
fn local<T: Copy, F: Fold<T>>(x: &[T], y: &mut [T], inclusive: bool) -> T {
    let mut carry = F::NEUTRAL;
    if !F::CHEAP {
        for (&x, y) in x.iter().zip(y) {
            let after = F::join(carry, x);
            *y = if inclusive { after } else { carry };
            carry = after;
        }
        return carry;
    }
    let whole = x.len() / CHUNK * CHUNK;
    for (x, y) in x[..whole].chunks_exact(CHUNK).zip(y[..whole].chunks_exact_mut(CHUNK)) {
        let mut v = [F::NEUTRAL; CHUNK];
        v.copy_from_slice(x);
        carry = local_chunk::<T, F>(v, y, carry, inclusive);
    }
    if whole < x.len() {
        let mut v = [F::NEUTRAL; CHUNK];
        for (v, &x) in v.iter_mut().zip(&x[whole..]) {
            *v = x;
        }
        carry = local_chunk::<T, F>(v, &mut y[whole..], carry, inclusive);
    }
    carry
}

/// One chunk that follows `carry`; returns the next carry. (A function and no closure: closures are
/// not always inlined, and would miss the instruction set.)
#[inline(always)]
fn local_chunk<T: Copy, F: Fold<T>>(v: [T; CHUNK], y: &mut [T], carry: T, inclusive: bool) -> T {
    let v = prefixes::<T, F>(v);
    if inclusive {
        for (y, v) in y.iter_mut().zip(v) {
            *y = F::join(carry, v);
        }
    } else {
        y[0] = carry;
        for (y, &v) in y[1..].iter_mut().zip(&v) {
            *y = F::join(carry, v);
        }
    }
    F::join(carry, v[CHUNK - 1])
}

dispatch! {
/// Scans up to a block that follows `base`; returns the base of what follows.
fn scan_block<T: Copy, F: Fold<T>>(x: &[T], y: &mut [T], base: T, inclusive: bool, _f: F) -> T {
    let total = local::<T, F>(x, y, inclusive);
    for y in y {
        *y = F::join(base, *y);
    }
    F::join(base, total)
}
}

dispatch! {
/// The fold of up to a block, as [`scan_block`] computes it.
fn fold_block<T: Copy, F: Fold<T>>(x: &[T], _f: F) -> T {
    let mut carry = F::NEUTRAL;
    if !F::CHEAP {
        return x.iter().fold(carry, |a, &x| F::join(a, x));
    }
    for x in x.chunks(CHUNK) {
        let mut v = [F::NEUTRAL; CHUNK];
        v[..x.len()].copy_from_slice(x);
        carry = F::join(carry, prefixes::<T, F>(v)[CHUNK - 1]);
    }
    carry
}
}

dispatch! {
/// One position of a tile of sequences.
fn scan_row<T: Copy, F: Fold<T>>(
    base: &[T], local: &mut [T], x: &[T], y: &mut [T], inclusive: bool, _f: F,
) {
    if inclusive {
        for (((&base, local), &x), y) in base.iter().zip(local).zip(x).zip(y) {
            *local = F::join(*local, x);
            *y = F::join(base, *local);
        }
    } else {
        for (((&base, local), &x), y) in base.iter().zip(local).zip(x).zip(y) {
            *y = F::join(base, *local);
            *local = F::join(*local, x);
        }
    }
}
}

dispatch! {
/// `a[i] = a[i] ∘ b[i]`.
fn join_row<T: Copy, F: Fold<T>>(a: &mut [T], b: &[T], _f: F) {
    for (a, &b) in a.iter_mut().zip(b) {
        *a = F::join(*a, b);
    }
}
}

struct Scan<'a, T, F> {
    loader: Loader,
    src: Shared<*const u8>,
    dst: Shared<*mut u8>,
    dtype: DType,
    outer: &'a [usize],
    outer_strides: &'a [isize],
    inner: SmallVec<[usize; 4]>,
    inner_strides: SmallVec<[isize; 4]>,
    /// Length of the axis, and the distance between neighbours along it in the operand.
    m: usize,
    stride: isize,
    /// Sequences beside one another in the output.
    width: usize,
    reverse: bool,
    inclusive: bool,
    f: F,
    values: std::marker::PhantomData<fn() -> T>,
}

/// A block of `T`, uninitialised.
#[repr(align(64))]
struct Buffer<T>([MaybeUninit<T>; BLOCK]);

impl<T: Copy> Buffer<T> {
    fn new() -> Buffer<T> {
        Buffer([const { MaybeUninit::uninit() }; BLOCK])
    }

    /// # Safety
    /// The elements must be written before they are read.
    unsafe fn slice(&mut self, n: usize) -> &mut [T] {
        // SAFETY: the caller's promise; `T` is a plain number.
        unsafe { std::slice::from_raw_parts_mut(self.0[..n].as_mut_ptr().cast(), n) }
    }
}

impl<'a, T: Copy + Send + Sync, F: Fold<T> + Sync> Scan<'a, T, F> {
    fn new(axis: usize, reverse: bool, inclusive: bool, job: &Job<'a>) -> Scan<'a, T, F> {
        let (input, out) = (&job.inputs[0], &job.outputs[0]);
        let c = collapse(&input.shape[axis + 1..], &[&input.strides[axis + 1..]]);
        let [inner_strides] = <[_; 1]>::try_from(c.strides.into_vec()).unwrap_or_default();
        Scan {
            loader: Loader::new(input.dtype, out.dtype),
            src: Shared(input.ptr),
            dst: Shared(out.ptr),
            dtype: out.dtype,
            outer: &input.shape[..axis],
            outer_strides: &input.strides[..axis],
            inner: c.shape,
            inner_strides,
            m: input.shape[axis],
            stride: input.strides[axis],
            width: input.shape[axis + 1..].iter().product(),
            reverse,
            inclusive,
            f: F::default(),
            values: std::marker::PhantomData,
        }
    }

    fn run(&self, job: &Job<'_>) {
        if job.outputs[0].size() == 0 {
            return;
        }
        let planes: usize = self.outer.iter().product();
        if self.width < 8 { self.run_along(planes * self.width) } else { self.run_across(planes) }
    }

    /// The index along the axis of a position of the sequence.
    fn index(&self, position: usize) -> usize {
        if self.reverse { self.m - 1 - position } else { position }
    }

    /// The operand's element at an index along the axis, of the sequences from `at` of a plane on.
    ///
    /// # Safety
    /// The element must exist.
    unsafe fn element(&self, plane: usize, index: usize) -> *const u8 {
        let offset =
            offset_of(plane, self.outer, self.outer_strides) + index as isize * self.stride;
        // SAFETY: the caller's promise.
        unsafe { self.src.get().offset(offset * self.loader.size() as isize) }
    }

    /// Positions `at..at + n` of sequence `s`.
    ///
    /// # Safety
    /// They must exist.
    unsafe fn load_along<'s>(
        &self,
        s: usize,
        at: usize,
        n: usize,
        scratch: &'s mut Scratch,
    ) -> &'s [T] {
        let inner = offset_of(s % self.width, &self.inner, &self.inner_strides);
        let stride = if self.reverse { -self.stride } else { self.stride };
        // SAFETY: the caller's promise.
        unsafe {
            let src = self.element(s / self.width, self.index(at));
            self.loader.run(src.offset(inner * self.loader.size() as isize), stride, n, scratch)
        }
    }

    /// Scans positions `start..end` of sequence `s`, which follow `base`.
    ///
    /// # Safety
    /// They must exist, belong to this call, and begin at a strand.
    unsafe fn along(&self, s: usize, start: usize, end: usize, mut base: T) {
        let (mut scratch, mut buffer) = (Scratch::new(), Buffer::<T>::new());
        let step = if self.reverse { -(self.width as isize) } else { self.width as isize };
        for at in (start..end).step_by(BLOCK) {
            let n = BLOCK.min(end - at);
            // SAFETY: the caller's promise.
            unsafe {
                let y = buffer.slice(n);
                let x = self.load_along(s, at, n, &mut scratch);
                base = scan_block(x, y, base, self.inclusive, self.f);
                let row = s / self.width * self.m + self.index(at);
                let dst = row * self.width + s % self.width;
                store(y, self.dtype, self.dst.get().add(dst * self.dtype.size()), step);
            }
        }
    }

    fn run_along(&self, sequences: usize) {
        let m = self.m;
        if sequences >= MANY || m <= TASK {
            return parallel_ranges(sequences, (TASK / m).max(1), |a, b| {
                for s in a..b {
                    // SAFETY: all positions exist, and each sequence is one task's.
                    unsafe { self.along(s, 0, m, F::NEUTRAL) };
                }
            });
        }
        let (strands, pieces) = (m.div_ceil(BLOCK), m.div_ceil(TASK));
        let mut bases = vec![F::NEUTRAL; sequences * strands];
        let shared = Shared(bases.as_mut_ptr());
        parallel_ranges(sequences * pieces, 1, |a, _| {
            let (s, p) = (a / pieces, a % pieces);
            let mut scratch = Scratch::new();
            for at in (p * TASK..m.min((p + 1) * TASK)).step_by(BLOCK) {
                // SAFETY: the positions exist, and the strand is this task's.
                unsafe {
                    let x = self.load_along(s, at, BLOCK.min(m - at), &mut scratch);
                    *shared.get().add(s * strands + at / BLOCK) = fold_block(x, self.f);
                }
            }
        });
        for sequence in bases.chunks_mut(strands) {
            let mut base = F::NEUTRAL;
            for total in sequence {
                let after = F::join(base, *total);
                *total = base;
                base = after;
            }
        }
        parallel_ranges(sequences * pieces, 1, |a, _| {
            let (s, p) = (a / pieces, a % pieces);
            let base = bases[s * strands + p * TASK / BLOCK];
            // SAFETY: the positions exist and are this task's.
            unsafe { self.along(s, p * TASK, m.min((p + 1) * TASK), base) };
        });
    }

    /// Row `position` of the sequences `at..at + n` of a plane.
    ///
    /// # Safety
    /// They must exist.
    unsafe fn load_row<'s>(
        &self,
        plane: usize,
        position: usize,
        at: usize,
        n: usize,
        scratch: &'s mut Scratch,
    ) -> &'s [T] {
        // SAFETY: the caller's promise.
        unsafe {
            let src = self.element(plane, self.index(position));
            self.loader.sequence(src, &self.inner, &self.inner_strides, at, n, scratch)
        }
    }

    /// Scans positions `start..end` of the sequences `t0..t0 + base.len()` of a plane.
    ///
    /// # Safety
    /// They must exist, belong to this call, and begin at a strand.
    unsafe fn across(&self, plane: usize, t0: usize, start: usize, end: usize, base: &mut [T]) {
        let (mut scratch, mut rows) = (Scratch::new(), [Buffer::<T>::new(), Buffer::new()]);
        let n = base.len();
        let [local, y] = &mut rows;
        // SAFETY: the caller's promise; buffers are written before they are read.
        unsafe {
            let (local, y) = (local.slice(n), y.slice(n));
            for strand in (start..end).step_by(STRAND) {
                local.fill(F::NEUTRAL);
                for position in strand..end.min(strand + STRAND) {
                    let size = self.loader.size();
                    let step = if self.reverse { -self.stride } else { self.stride };
                    let row = self.element(plane, self.index(position)).wrapping_add(t0 * size);
                    prefetch_row(row, AHEAD, step * size as isize, n * size);
                    let x = self.load_row(plane, position, t0, n, &mut scratch);
                    scan_row(base, local, x, y, self.inclusive, self.f);
                    let dst = (plane * self.m + self.index(position)) * self.width + t0;
                    store(y, self.dtype, self.dst.get().add(dst * self.dtype.size()), 1);
                }
                join_row(base, local, self.f);
            }
        }
    }

    fn run_across(&self, planes: usize) {
        let (m, width) = (self.m, self.width);
        let tile = TILE.min(width);
        let tiles = width.div_ceil(tile);
        let tasks = planes * tiles;
        let place = |t: usize| (t / tiles, t % tiles * tile, tile.min(width - t % tiles * tile));
        // Rows of a piece: whole strands.
        let piece = (TASK / tile).next_multiple_of(STRAND);
        if tasks >= MANY || m <= piece {
            return parallel_ranges(tasks, (TASK / (m * tile)).max(1), |a, b| {
                for t in a..b {
                    let (plane, t0, n) = place(t);
                    let mut base: SmallVec<[T; 64]> = SmallVec::from_elem(F::NEUTRAL, n);
                    // SAFETY: the positions exist and are this task's.
                    unsafe { self.across(plane, t0, 0, m, &mut base) };
                }
            });
        }
        let (strands, pieces) = (m.div_ceil(STRAND), m.div_ceil(piece));
        // (planes, strands, width)
        let mut bases = vec![F::NEUTRAL; planes * strands * width];
        let shared = Shared(bases.as_mut_ptr());
        parallel_ranges(tasks * pieces, 1, |a, _| {
            let (p, (plane, t0, n)) = (a / tasks, place(a % tasks));
            let mut scratch = Scratch::new();
            for position in p * piece..m.min((p + 1) * piece) {
                let at = (plane * strands + position / STRAND) * width + t0;
                // SAFETY: the positions exist, and their strands are this task's.
                unsafe {
                    let total = std::slice::from_raw_parts_mut(shared.get().add(at), n);
                    join_row(total, self.load_row(plane, position, t0, n, &mut scratch), self.f);
                }
            }
        });
        let mut base: Vec<T> = Vec::new();
        for plane in bases.chunks_mut(strands * width) {
            base.clear();
            base.resize(width, F::NEUTRAL);
            for row in plane.chunks_mut(width) {
                // `base` becomes `base ∘ total`, and the old one takes the total's place.
                for (total, base) in row.iter_mut().zip(&mut base) {
                    let after = F::join(*base, *total);
                    *total = *base;
                    *base = after;
                }
            }
        }
        parallel_ranges(tasks * pieces, 1, |a, _| {
            let (p, (plane, t0, n)) = (a / tasks, place(a % tasks));
            let at = (plane * strands + p * piece / STRAND) * width + t0;
            let mut base: SmallVec<[T; 64]> = SmallVec::from_slice(&bases[at..at + n]);
            // SAFETY: the positions exist and are this task's.
            unsafe { self.across(plane, t0, p * piece, m.min((p + 1) * piece), &mut base) };
        });
    }
}

#[cfg(test)]
mod tests;

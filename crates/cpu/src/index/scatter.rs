//! `src, index…, updates` → `src` with updates applied.
//!
//! Updates to one place are applied in row-major order of the updates, whatever the number of threads.
//! Two ways keep threads apart. Slices of some length are grouped: index tuples are sorted by
//! destination, and groups, whose destinations are disjoint, run in parallel. Single elements
//! are dealt to ranges of the output, each of which is one chunk's. Sums and products of f16 and bf16 are always grouped, taken in f32 and rounded
//! once a destination.

use super::gather::{Indices, others};
use super::{Faults, row_major, runs, slice::copy_run};
use crate::dispatch;
use crate::pool::{parallel, parallel_ranges};
use crate::rows::Shared;
use crate::strided::{Collapsed, collapse, offset_of};
use lazul_ir::{Axes, Complex32, Job, OpError, ScatterOp, bf16, f16};
use smallvec::SmallVec;

/// An element that updates can be applied to.
pub(super) trait Update: Copy + Send + Sync + 'static {
    /// The type that sums and products are taken in.
    type Wide: Update;
    /// Whether that is another type.
    const ROUNDS: bool;
    fn widen(self) -> Self::Wide;
    fn narrow(wide: Self::Wide) -> Self;
    fn apply(op: ScatterOp, old: Self, new: Self) -> Self;
}

/// A stored bool: addition is or, multiplication is and.
#[derive(Clone, Copy)]
pub(super) struct Truth(u8);

macro_rules! update {
    ($t:ty, $wide:ty, $rounds:expr, |$w:ident| $widen:expr, |$n:ident| $narrow:expr,
     |$a:ident, $b:ident| $add:expr, $mul:expr, $min:expr, $max:expr) => {
        impl Update for $t {
            type Wide = $wide;
            const ROUNDS: bool = $rounds;
            #[inline(always)]
            fn widen(self) -> $wide {
                let $w = self;
                $widen
            }
            #[inline(always)]
            fn narrow($n: $wide) -> $t {
                $narrow
            }
            #[inline(always)]
            fn apply(op: ScatterOp, $a: $t, $b: $t) -> $t {
                match op {
                    ScatterOp::Assign => $b,
                    ScatterOp::Add => $add,
                    ScatterOp::Multiply => $mul,
                    ScatterOp::Min => $min,
                    ScatterOp::Max => $max,
                }
            }
        }
    };
}
macro_rules! integers {
    ($($t:ty)*) => {$(
        update!($t, $t, false, |w| w, |n| n,
            |a, b| a.wrapping_add(b), a.wrapping_mul(b), a.min(b), a.max(b));
    )*};
}
integers!(u8 u16 u32 u64 i8 i16 i32 i64);
macro_rules! floats {
    ($($t:ty, $wide:ty, $rounds:expr, |$w:ident| $widen:expr, |$n:ident| $narrow:expr;)*) => {$(
        // A NaN on either side stays.
        update!($t, $wide, $rounds, |$w| $widen, |$n| $narrow, |a, b| a + b, a * b,
            if b.is_nan() || b < a { b } else { a },
            if b.is_nan() || b > a { b } else { a });
    )*};
}
floats! {
    f32, f32, false, |w| w, |n| n;
    f64, f64, false, |w| w, |n| n;
    f16, f32, true, |w| w.to_f32(), |n| f16::from_f32(n);
    bf16, f32, true, |w| w.to_f32(), |n| bf16::from_f32(n);
}
update!(
    Truth,
    Truth,
    false,
    |w| w,
    |n| n,
    |a, b| Truth(a.0 | b.0),
    Truth(a.0 & b.0),
    Truth(a.0 & b.0),
    Truth(a.0 | b.0)
);
update!(
    Complex32,
    Complex32,
    false,
    |w| w,
    |n| n,
    |a, b| a + b,
    a * b,
    if b.is_nan() || (b.re, b.im) < (a.re, a.im) { b } else { a },
    if b.is_nan() || (b.re, b.im) > (a.re, a.im) { b } else { a }
);

/// Picks the type of an update and runs the block with `$t` as it; an assignment only needs the size.
macro_rules! by_update {
    ($op:expr, $dtype:expr, $t:ident => $body:expr) => {{
        use lazul_ir::DType;
        match ($op, $dtype) {
            (ScatterOp::Assign, d) => crate::index::by_size!(d.size(), $t => $body),
            (_, DType::Bool) => { type $t = crate::index::scatter::Truth; $body }
            (_, DType::U8) => { type $t = u8; $body }
            (_, DType::U16) => { type $t = u16; $body }
            (_, DType::U32) => { type $t = u32; $body }
            (_, DType::U64) => { type $t = u64; $body }
            (_, DType::I8) => { type $t = i8; $body }
            (_, DType::I16) => { type $t = i16; $body }
            (_, DType::I32) => { type $t = i32; $body }
            (_, DType::I64) => { type $t = i64; $body }
            (_, DType::F16) => { type $t = lazul_ir::f16; $body }
            (_, DType::BF16) => { type $t = lazul_ir::bf16; $body }
            (_, DType::F32) => { type $t = f32; $body }
            (_, DType::F64) => { type $t = f64; $body }
            (_, DType::C64) => { type $t = lazul_ir::Complex32; $body }
        }
    }};
}
pub(super) use by_update;

/// Whether updates to one place must be gathered before the result is rounded.
pub(super) fn keep_exact<T: Update>(op: ScatterOp) -> bool {
    T::ROUNDS && matches!(op, ScatterOp::Add | ScatterOp::Multiply)
}

/// See [`lazul_ir::Prim::Scatter`].
pub(crate) fn scatter(op: ScatterOp, axes: &Axes, job: &Job<'_>) -> Result<(), OpError> {
    by_update!(op, job.outputs[0].dtype, T => scatter_in::<T>(op, axes, job))
}

/// Ranges of the output that single elements are dealt to.
const BUCKETS: usize = 64;

/// What all chunks share.
struct Scatter<T> {
    op: ScatterOp,
    out: Shared<T>,
    updates: *const T,
    /// The updates' layout over index tuples, and over the slices of the output and of updates.
    tuples: Collapsed,
    slices: Collapsed,
    /// Elements of a slice.
    size: usize,
}

// SAFETY: addresses of memory that outlives the job; chunks write disjoint parts of the output.
unsafe impl<T> Sync for Scatter<T> {}

fn scatter_in<T: Update>(op: ScatterOp, axes: &Axes, job: &Job<'_>) -> Result<(), OpError> {
    let (updates, out) = (&job.inputs[job.inputs.len() - 1], job.outputs[0]);
    let to = row_major(out.shape);
    let indices = Indices::new(&job.inputs[1..job.inputs.len() - 1], axes, out.shape, &to);
    let lead = job.inputs[1..job.inputs.len() - 1].first().map_or(0, |o| o.shape.len());
    let shape: SmallVec<[usize; 6]> = others(axes, out.shape.len()).map(|a| out.shape[a]).collect();
    let strides: SmallVec<[isize; 6]> = others(axes, out.shape.len()).map(|a| to[a]).collect();

    let scatter = Scatter::<T> {
        op,
        out: Shared::new(out.ptr.cast()),
        updates: updates.ptr.cast(),
        tuples: collapse(&updates.shape[..lead], &[&updates.strides[..lead]]),
        slices: collapse(&shape, &[&strides, &updates.strides[lead..]]),
        size: shape.iter().product(),
    };
    let singles = scatter.size <= 4 && indices.count >= 4096 && !keep_exact::<T>(op);
    let positions = indices.all(job.name(), !singles)?;
    if scatter.size == 0 || indices.count == 0 {
        return Ok(());
    }
    if singles {
        scatter.by_range(out.size(), &indices);
    } else {
        scatter.by_group(&positions);
    }
    Ok(())
}

impl Indices<'_> {
    /// Checks every tuple, and where asked to answers their positions.
    fn all(&self, op: &'static str, keep: bool) -> Result<Vec<isize>, OpError> {
        let mut positions = vec![0isize; if keep { self.count } else { 0 }];
        let faults = Faults::default();
        let resolved = Shared::new(positions.as_mut_ptr());
        parallel_ranges(self.count, 1 << 14, |first, last| {
            if keep {
                // SAFETY: this chunk's part of the positions.
                self.resolve(first, unsafe { resolved.slice(first, last - first) }, &faults);
                return;
            }
            let mut part = [0isize; 256];
            for at in (first..last).step_by(256) {
                self.resolve(at, &mut part[..256.min(last - at)], &faults);
            }
        });
        faults.result(op).map(|()| positions)
    }
}

impl<T: Update> Scatter<T> {
    fn update(&self, tuple: usize) -> *const T {
        let t = &self.tuples;
        let offset = match t.shape.len() {
            1 => tuple as isize * t.strides[0][0],
            _ => offset_of(tuple, &t.shape, &t.strides[0]),
        };
        self.updates.wrapping_offset(offset)
    }

    /// Tuples are dealt to buckets, each a range of the output, in order; buckets run in parallel.
    /// This goes on in rounds that stay in cache.
    fn by_range(&self, total: usize, indices: &Indices<'_>) {
        const ROUND: usize = 1 << 17;
        const PART: usize = 1 << 13;
        let shift = total.div_ceil(BUCKETS).next_power_of_two().trailing_zeros();
        let bucket = |position: isize| position as usize >> shift;
        let (mut positions, mut dealt) = (vec![0isize; ROUND], vec![(0isize, 0usize); ROUND]);
        let mut starts = vec![[0usize; BUCKETS]; ROUND / PART];
        for round in (0..indices.count).step_by(ROUND) {
            let count = ROUND.min(indices.count - round);
            let parts = count.div_ceil(PART);
            let (all, counts) =
                (Shared::new(positions.as_mut_ptr()), Shared::new(starts.as_mut_ptr()));
            parallel(parts, |c| {
                let first = c * PART;
                // SAFETY: this chunk's positions and counts.
                let (part, counts) = unsafe {
                    (all.slice(first, PART.min(count - first)), &mut *counts.get().add(c))
                };
                indices.resolve(round + first, part, &Faults::default());
                counts.fill(0);
                part.iter().for_each(|&p| counts[bucket(p)] += 1);
            });
            let mut bounds = [0usize; BUCKETS + 1];
            let mut next = 0;
            for b in 0..BUCKETS {
                for part in &mut starts[..parts] {
                    (part[b], next) = (next, next + part[b]);
                }
                bounds[b + 1] = next;
            }
            let (tuples, places) =
                (Shared::new(dealt.as_mut_ptr()), Shared::new(starts.as_mut_ptr()));
            parallel(parts, |c| {
                let first = c * PART;
                let part = &positions[first..count.min(first + PART)];
                // SAFETY: this chunk's places, which are disjoint from those of other chunks.
                let places = unsafe { &mut *places.get().add(c) };
                for (i, &p) in part.iter().enumerate() {
                    let place = &mut places[bucket(p)];
                    // SAFETY: as above.
                    unsafe { *tuples.get().add(*place) = (p, round + first + i) };
                    *place += 1;
                }
            });
            parallel(BUCKETS, |b| {
                for &(position, tuple) in &dealt[bounds[b]..bounds[b + 1]] {
                    let update = self.update(tuple);
                    if self.size == 1 {
                        // SAFETY: a checked position, in this chunk's range.
                        unsafe {
                            let to = self.out.get().offset(position);
                            *to = T::apply(self.op, *to, *update);
                        }
                    } else {
                        self.slice(position, update, 0, self.size);
                    }
                }
            });
        }
    }

    /// Groups of tuples that share a destination run in parallel; so do pieces of long slices.
    fn by_group(&self, positions: &[isize]) {
        let mut order: Vec<(isize, usize)> =
            positions.iter().copied().enumerate().map(|(tuple, p)| (p, tuple)).collect();
        if !order.is_sorted() {
            order.sort_unstable();
        }
        let piece = self.size.min(1 << 13);
        let pieces = self.size.div_ceil(piece);
        let grain = ((1 << 13) / piece).max(1);
        parallel(order.len().div_ceil(grain) * pieces, |i| {
            let (mut first, from) = (i / pieces * grain, i % pieces * piece);
            let (end, to) = (order.len().min(first + grain), self.size.min(from + piece));
            // Groups belong to the chunk in which they begin.
            while first > 0 && first < end && order[first].0 == order[first - 1].0 {
                first += 1;
            }
            while first < end {
                let position = order[first].0;
                let length = order[first..].iter().take_while(|o| o.0 == position).count();
                let group = &order[first..first + length];
                if length > 1 && keep_exact::<T>(self.op) {
                    self.group(position, group, from, to);
                } else {
                    for &(_, tuple) in group {
                        self.slice(position, self.update(tuple), from, to);
                    }
                }
                first += length;
            }
        });
    }

    /// Applies elements `from..to` of one update slice.
    fn slice(&self, position: isize, update: *const T, from: usize, to: usize) {
        let inner = self.slices.shape.len() - 1;
        let steps = [self.slices.strides[0][inner], self.slices.strides[1][inner]];
        runs::<2>(&self.slices, from, to, |_, [d, u], length| {
            // SAFETY: the slice lies in the output, since its position was checked, and no other
            // chunk has this part of it; the update slice lies in the updates.
            unsafe {
                let (dst, src) = (self.out.get().offset(position + d), update.offset(u));
                match (self.op, steps) {
                    (ScatterOp::Assign, _) => copy_run(dst, steps[0], src, steps[1], length),
                    (_, [1, 1]) => {
                        let dst = std::slice::from_raw_parts_mut(dst, length);
                        apply_all(self.op, dst, std::slice::from_raw_parts(src, length));
                    }
                    _ => {
                        for i in 0..length as isize {
                            let dst = dst.offset(i * steps[0]);
                            *dst = T::apply(self.op, *dst, *src.offset(i * steps[1]));
                        }
                    }
                }
            }
        });
    }

    /// Applies elements `from..to` of several update slices to one destination, rounding once.
    fn group(&self, position: isize, group: &[(isize, usize)], from: usize, to: usize) {
        let inner = self.slices.shape.len() - 1;
        let [d_step, u_step] = [self.slices.strides[0][inner], self.slices.strides[1][inner]];
        let mut wide: Vec<T::Wide> = Vec::new();
        runs::<2>(&self.slices, from, to, |_, [d, u], length| {
            // SAFETY: as in `slice`.
            unsafe {
                let dst = self.out.get().offset(position + d);
                wide.clear();
                wide.extend((0..length as isize).map(|i| (*dst.offset(i * d_step)).widen()));
                for &(_, tuple) in group {
                    let src = self.update(tuple).offset(u);
                    if u_step == 1 {
                        apply_wide(self.op, &mut wide, std::slice::from_raw_parts(src, length));
                    } else {
                        for (i, w) in wide.iter_mut().enumerate() {
                            let update = (*src.offset(i as isize * u_step)).widen();
                            *w = T::Wide::apply(self.op, *w, update);
                        }
                    }
                }
                for (i, &w) in wide.iter().enumerate() {
                    *dst.offset(i as isize * d_step) = T::narrow(w);
                }
            }
        });
    }
}

dispatch! {
fn apply_all<T: Update>(op: ScatterOp, dst: &mut [T], src: &[T]) {
    macro_rules! with {
        ($op:expr) => {
            dst.iter_mut().zip(src).for_each(|(d, &s)| *d = T::apply($op, *d, s))
        };
    }
    match op {
        ScatterOp::Assign => dst.copy_from_slice(src),
        ScatterOp::Add => with!(ScatterOp::Add),
        ScatterOp::Multiply => with!(ScatterOp::Multiply),
        ScatterOp::Min => with!(ScatterOp::Min),
        ScatterOp::Max => with!(ScatterOp::Max),
    }
}
}

dispatch! {
fn apply_wide<T: Update>(op: ScatterOp, dst: &mut [T::Wide], src: &[T]) {
    if op == ScatterOp::Add {
        for (d, &s) in dst.iter_mut().zip(src) {
            *d = T::Wide::apply(ScatterOp::Add, *d, s.widen());
        }
    } else {
        for (d, &s) in dst.iter_mut().zip(src) {
            *d = T::Wide::apply(ScatterOp::Multiply, *d, s.widen());
        }
    }
}
}

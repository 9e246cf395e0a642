//! Gather and scatter along one axis, every other coordinate staying what it is.

use super::scatter::{Update, by_update, keep_exact};
use super::{Faults, by_size, read_run, resolve, row_major, runs};
use crate::pool::{parallel, parallel_ranges};
use crate::rows::{Shared, apart, at};
use crate::strided::{collapse, offset_of};
use lazul_ir::{Job, OpError, ScatterOp, Target};
use smallvec::SmallVec;

/// See [`lazul_ir::Prim::GatherAxis`].
pub(crate) fn gather_axis(axis: usize, job: &Job<'_>) -> Result<(), OpError> {
    let out = job.outputs[0];
    apart(&out, job.inputs, |out| by_size!(out.dtype.size(), T => gather_in::<T>(axis, job, out)))
}

fn gather_in<T: Copy>(axis: usize, job: &Job<'_>, out: &Target<'_>) -> Result<(), OpError> {
    let (src, index) = (job.inputs[0], job.inputs[1]);
    let (size, stride) = (src.shape[axis], src.strides[axis]);
    let mut others: SmallVec<[isize; 6]> = src.strides.into();
    others[axis] = 0;
    let c = collapse(index.shape, &[&others, index.strides]);
    let inner = c.shape.len() - 1;
    let (src_step, index_step) = (c.strides[0][inner], c.strides[1][inner]);
    let faults = Faults::default();
    let (src, index) = (&src, &index);
    parallel_ranges(index.size(), 1 << 14, |start, end| {
        let mut values = [0i64; STEPS];
        runs::<2>(&c, start, end, |linear, [base, first], length| {
            for done in (0..length).step_by(STEPS) {
                let values = &mut values[..STEPS.min(length - done)];
                // SAFETY: elements `linear + done..` of the index operand.
                unsafe { read_run(index, first + done as isize * index_step, index_step, values) };
                let to = at(out, linear + done).cast::<T>();
                let from = src.ptr.cast::<T>().wrapping_offset(base + done as isize * src_step);
                for (i, &value) in values.iter().enumerate() {
                    let Some(p) = resolve(value, size) else {
                        return faults.add(linear + done + i, value, axis, size);
                    };
                    let offset = i as isize * src_step + p as isize * stride;
                    // SAFETY: the position was checked; the output's element is this chunk's.
                    unsafe { *to.add(i) = *from.offset(offset) };
                }
            }
        });
    });
    faults.result(job.name())
}

/// Indices read at once.
const STEPS: usize = 256;
/// Lines handled together, so that neighbours in memory are read together.
const LINES: usize = 32;

/// See [`lazul_ir::Prim::ScatterAxis`]. Sums and products of f16 and bf16 are taken in f32 and
/// rounded once.
pub(crate) fn scatter_axis(op: ScatterOp, axis: usize, job: &Job<'_>) -> Result<(), OpError> {
    by_update!(op, job.outputs[0].dtype, T => scatter_in::<T>(op, axis, job))
}

fn scatter_in<T: Update>(op: ScatterOp, axis: usize, job: &Job<'_>) -> Result<(), OpError> {
    let (index, updates, out) = (job.inputs[1], job.inputs[2], job.outputs[0]);
    let (steps, size) = (index.shape[axis], out.shape[axis]);
    let to = row_major(out.shape);
    let without = |s: &[isize]| -> SmallVec<[isize; 6]> {
        s.iter().enumerate().filter(|(a, _)| *a != axis).map(|(_, &s)| s).collect()
    };
    let shape: SmallVec<[usize; 6]> =
        index.shape.iter().enumerate().filter(|(a, _)| *a != axis).map(|(_, &d)| d).collect();
    let strides = [without(index.strides), without(updates.strides), without(&to)];
    let lines: usize = shape.iter().product();
    if lines == 0 || steps == 0 {
        return Ok(());
    }
    let inner: usize = index.shape[axis + 1..].iter().product();
    let (index_step, update_step, out_step) =
        (index.strides[axis], updates.strides[axis], to[axis]);
    // Few long lines are cut by destination, so that no two chunks write the same place.
    let ranges = if lines < 8 && steps >= 1 << 14 { 8 } else { 1 };
    let range = size.div_ceil(ranges).max(1);
    let grain = if ranges > 1 { 1 } else { LINES.min((1 << 16) / steps.min(1 << 16)).max(1) };
    let faults = Faults::default();
    let target = Shared::new(out.ptr.cast::<T>());
    let (index, updates) = (&index, &updates);
    parallel(lines.div_ceil(grain) * ranges, |chunk| {
        let first = chunk / ranges * grain;
        let low = chunk % ranges * range;
        let high = size.min(low + range);
        let offsets: SmallVec<[[isize; 3]; LINES]> = (first..lines.min(first + grain))
            .map(|l| std::array::from_fn(|o| offset_of(l, &shape, &strides[o])))
            .collect();
        let nth = |line: usize, step: usize| {
            let line = first + line;
            (line / inner * steps + step) * inner + line % inner
        };
        // Calls `f(position, step)` for each step of a line whose destination is this chunk's.
        let each = |line: usize, first: usize, last: usize, f: &mut dyn FnMut(usize, usize)| {
            let mut values = [0i64; STEPS];
            let values = &mut values[..last - first];
            // SAFETY: elements of the index operand.
            unsafe {
                let start = offsets[line][0] + first as isize * index_step;
                read_run(index, start, index_step, values);
            }
            for (i, &value) in values.iter().enumerate() {
                match resolve(value, size) {
                    Some(p) if low <= p && p < high => f(p, first + i),
                    Some(_) => {}
                    None => faults.add(nth(line, first + i), value, axis, size),
                }
            }
        };
        // SAFETY: an element of the updates.
        let update = |line: usize, step: usize| unsafe {
            let offset = offsets[line][1] + step as isize * update_step;
            *updates.ptr.cast::<T>().offset(offset)
        };
        // SAFETY: a checked position of the output, in a line and range that are this chunk's.
        let place = |line: usize, p: usize| unsafe {
            target.get().offset(offsets[line][2] + p as isize * out_step)
        };
        let blocks = || (0..steps).step_by(STEPS).map(|s| (s, steps.min(s + STEPS)));
        if !keep_exact::<T>(op) {
            for (from, to) in blocks() {
                for line in 0..offsets.len() {
                    each(line, from, to, &mut |p, step| {
                        let to = place(line, p);
                        // SAFETY: `place` answers with valid addresses.
                        unsafe { *to = T::apply(op, *to, update(line, step)) };
                    });
                }
            }
            return;
        }
        let mut order: Vec<(usize, usize)> = Vec::with_capacity(steps);
        for line in 0..offsets.len() {
            order.clear();
            for (from, to) in blocks() {
                each(line, from, to, &mut |p, step| order.push((p, step)));
            }
            order.sort_unstable();
            for group in order.chunk_by(|a, b| a.0 == b.0) {
                let to = place(line, group[0].0);
                // SAFETY: `place` answers with valid addresses.
                let start = unsafe { *to }.widen();
                let sum = group.iter().fold(start, |sum, &(_, step)| {
                    T::Wide::apply(op, sum, update(line, step).widen())
                });
                // SAFETY: as above.
                unsafe { *to = T::narrow(sum) };
            }
        }
    });
    faults.result(job.name())
}

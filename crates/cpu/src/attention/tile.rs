//! A tile of attention: some queries of the heads that share a key head, against a segment of keys.

use super::simd::{Engine, Kernels};
use super::{Attention, SEGMENT, State};
use crate::dispatch;
use crate::rows::{self, LANES, Real, at};
use crate::softmax;
use lazul_ir::{DType, Operand};
use std::ops::Range;

/// Keys or values that are converted at once and stay in the first-level cache.
const BLOCK: usize = 32;

/// Rows are ordered by head, then by query.
pub(super) struct Tile<'a, R> {
    job: &'a Attention<'a, R>,
    batch: usize,
    key_head: usize,
    /// The first of the query heads.
    head: usize,
    /// Queries `first..last`.
    first: usize,
    last: usize,
    pub(super) rows: usize,
    /// Depths padded to whole vectors.
    width: usize,
    pub(super) value_width: usize,
    /// Keys that some query sees.
    keys: Range<usize>,
    /// Keys that every query sees, masks aside.
    common: Range<usize>,
}

/// Memory that a segment works in.
pub(super) struct Scratch<R> {
    /// `(rows, SEGMENT)`
    scores: Vec<R>,
    /// `(BLOCK, width)` of keys or values.
    block: Vec<R>,
    /// A row of an additive mask.
    mask: Vec<R>,
}

impl<R: Engine> Scratch<R> {
    pub(super) fn new(tile: &Tile<'_, R>) -> Scratch<R> {
        Scratch {
            scores: vec![R::ZERO; tile.rows * SEGMENT],
            block: vec![R::ZERO; BLOCK * tile.width.max(tile.value_width)],
            mask: vec![R::ZERO; if tile.job.mask.is_some() { SEGMENT } else { 0 }],
        }
    }
}

/// Address of the row at `(batch, head, i)` of a `(b, h, t, d)` operand.
fn row(o: &Operand<'_>, batch: usize, head: usize, i: usize) -> *const u8 {
    let s = o.strides;
    let offset = batch as isize * s[0] + head as isize * s[1] + i as isize * s[2];
    o.ptr.wrapping_offset(offset * o.dtype.size() as isize)
}

impl<'a, R: Engine> Tile<'a, R> {
    /// Queries `first..last` of a pair of batch and key head.
    pub(super) fn new(job: &'a Attention<'a, R>, pair: usize, first: usize, last: usize) -> Self {
        let group = job.heads / job.key_heads;
        let key_head = pair % job.key_heads;
        let ((low, low_end), (high, high_end)) = (job.visible(first), job.visible(last - 1));
        Tile {
            job,
            batch: pair / job.key_heads,
            key_head,
            head: key_head * group,
            first,
            last,
            rows: group * (last - first),
            width: job.depth.next_multiple_of(LANES),
            value_width: job.value_depth.next_multiple_of(LANES),
            keys: low..high_end,
            common: high..low_end.max(high),
        }
    }

    /// The segments that some query sees.
    pub(super) fn segments(&self) -> Range<usize> {
        if self.keys.is_empty() {
            return 0..0;
        }
        self.keys.start / SEGMENT..self.keys.end.div_ceil(SEGMENT)
    }

    /// The tile's queries, `(rows, width)`, padded with zeros.
    pub(super) fn queries(&self) -> Vec<R> {
        let (q, count) = (&self.job.q, self.last - self.first);
        let mut out = vec![R::ZERO; self.rows * self.width];
        for (r, part) in out.chunks_exact_mut(self.width.max(1)).enumerate() {
            let from = row(q, self.batch, self.head + r / count, self.first + r % count);
            // SAFETY: a row of a live operand.
            unsafe { rows::read(from, q.dtype, q.strides[3], &mut part[..self.job.depth]) };
        }
        out
    }

    /// Rows `start..start + count` of keys or values, padded with zeros to `width`: where they lie,
    /// if the kernels can read them there, or converted in `block`. Answers kernels for them, their
    /// address and distance.
    fn block(
        &self,
        o: &Operand<'_>,
        start: usize,
        count: usize,
        width: usize,
        block: &mut [R],
        convert: bool,
    ) -> (Kernels<R>, *const u8, isize) {
        let depth = o.shape[3];
        if depth == width && o.strides[3] == 1 {
            let there = row(o, self.batch, self.key_head, start);
            if o.dtype == R::DTYPE {
                return (self.job.kernels, there, o.strides[2]);
            }
            // Few rows use a key once or twice: converting it into memory first would not pay.
            if let (false, true, Some(kernels)) = (convert, self.rows <= 8, self.job.converting) {
                return (kernels, there, o.strides[2]);
            }
        }
        for (i, part) in block.chunks_exact_mut(width.max(1)).take(count).enumerate() {
            let from = row(o, self.batch, self.key_head, start + i);
            // SAFETY: a row of a live operand.
            unsafe { rows::read(from, o.dtype, o.strides[3], &mut part[..depth]) };
            part[depth..].fill(R::ZERO);
        }
        (self.job.kernels, block.as_ptr().cast(), width as isize)
    }

    /// Attention of the tile's queries `q` to one segment of keys, into `state`.
    pub(super) fn segment(
        &self,
        q: &[R],
        segment: usize,
        scratch: &mut Scratch<R>,
        state: State<'_, R>,
    ) {
        let job = self.job;
        let base = segment * SEGMENT;
        let start = self.keys.start.max(base) / BLOCK * BLOCK;
        let end = self.keys.end.min(base + SEGMENT);
        let scores = &mut scratch.scores;

        // scores = q · kᵀ, (rows, SEGMENT)
        for first in (start..end).step_by(BLOCK) {
            let count = BLOCK.min(end - first);
            let (kernels, k, distance) =
                self.block(&job.k, first, count, self.width, &mut scratch.block, false);
            // SAFETY: `rows` rows of `width` queries, `count` rows of `width` keys, and columns
            // `first - base..` of the scores.
            unsafe {
                let out = scores.as_mut_ptr().add(first - base);
                (kernels.scores)(q.as_ptr(), self.rows, k, distance, count, self.width, out);
            }
        }

        // Scores become weights; everything from the first to the last vector touched is defined.
        let (low, high) = (start - base, (end - base).next_multiple_of(LANES));
        let count = self.last - self.first;
        for r in 0..self.rows {
            let query = self.first + r % count;
            let line = &mut scores[r * SEGMENT..][..SEGMENT];
            let (from, to) = job.visible(query);
            let from = from.clamp(start, end) - base;
            let to = to.clamp(start, end) - base;
            line[low..from].fill(-R::INFINITY);
            line[to.max(from)..high].fill(-R::INFINITY);
            if from < to {
                let visible = &mut line[from..to];
                softmax::scale(visible, job.scale);
                if let Some(mask) = &job.mask {
                    let head = self.head + r / count;
                    let m = row(mask, self.batch, head, query);
                    let m = m.wrapping_offset(
                        (base + from) as isize * mask.strides[3] * mask.dtype.size() as isize,
                    );
                    // SAFETY: keys `base + from..base + to` of a row of the mask.
                    unsafe {
                        apply_mask(m, mask.dtype, mask.strides[3], visible, &mut scratch.mask)
                    };
                }
            }
            let line = &mut line[low..high];
            let max = softmax::max(line);
            let shift = if max == -R::INFINITY { R::ZERO } else { max };
            state.max[r] = max;
            state.sum[r] = softmax::exp_sum(line, shift);
        }

        // out = weights · v, (rows, value_width)
        state.out.fill(R::ZERO);
        for first in (start..end).step_by(BLOCK) {
            let count = BLOCK.min(end - first);
            let width = self.value_width;
            let all = job.mask.is_none()
                && self.common.start <= first
                && first + count <= self.common.end;
            let (kernels, v, distance) =
                self.block(&job.v, first, count, width, &mut scratch.block, !all);
            let weights = &scores[first - base..];
            // SAFETY: `count` rows of `width` values, of the compute type unless `all`.
            let clean = all || unsafe { all_finite::<R>(v.cast(), distance, count, width) };
            // SAFETY: as above, `rows` rows of weights `SEGMENT` apart, and of the output.
            unsafe {
                let (w, out) = (weights.as_ptr(), state.out.as_mut_ptr());
                if clean {
                    (kernels.values)(w, self.rows, v, distance, count, width, out);
                } else {
                    add_visible(w, self.rows, v.cast(), distance, count, width, out);
                }
            }
        }
    }

    /// Adds what a later segment found to what the earlier ones did.
    pub(super) fn combine(&self, total: State<'_, R>, part: State<'_, R>) {
        let width = self.value_width;
        for r in 0..self.rows {
            let (max, sum) = (part.max[r], part.sum[r]);
            if max == -R::INFINITY && sum == R::ZERO {
                continue;
            }
            let top = if max > total.max[r] { max } else { total.max[r] };
            let (a, b) = ((total.max[r] - top).exp(), (max - top).exp());
            total.max[r] = top;
            total.sum[r] = total.sum[r] * a + sum * b;
            let range = r * width..(r + 1) * width;
            blend(&mut total.out[range.clone()], a, &part.out[range], b);
        }
    }

    /// Normalises and writes the tile's rows.
    pub(super) fn finish(&self, total: State<'_, R>) {
        let (job, count, width) = (self.job, self.last - self.first, self.value_width);
        for r in 0..self.rows {
            let head = self.head + r / count;
            let line = &mut total.out[r * width..][..job.value_depth];
            let mut factor = R::ONE;
            let mut sum = total.sum[r];
            if let Some(&sink) = job.sinks.get(head) {
                let top = if sink > total.max[r] { sink } else { total.max[r] };
                if top > -R::INFINITY {
                    factor = (total.max[r] - top).exp();
                    sum = sum * factor + (sink - top).exp();
                }
            }
            if sum != R::ZERO {
                softmax::scale(line, factor / sum);
            }
            let place = (self.batch * job.heads + head) * job.queries + self.first + r % count;
            // SAFETY: a row of the output that is this tile's alone.
            unsafe { R::store(line, job.out.dtype, at(&job.out, place * job.value_depth)) };
        }
    }
}

/// Applies a mask to the scores of consecutive keys.
///
/// # Safety
/// `mask` must be valid for `scores.len()` elements of `dtype`, `stride` apart.
unsafe fn apply_mask<R: Real>(
    mask: *const u8,
    dtype: DType,
    stride: isize,
    scores: &mut [R],
    scratch: &mut [R],
) {
    if dtype != DType::Bool {
        let row = &mut scratch[..scores.len()];
        // SAFETY: the caller vouches for the mask.
        unsafe { rows::read(mask, dtype, stride, row) };
        add(scores, row);
    } else if stride == 1 {
        // SAFETY: as above.
        keep(scores, unsafe { std::slice::from_raw_parts(mask, scores.len()) });
    } else {
        for (i, s) in scores.iter_mut().enumerate() {
            // SAFETY: as above.
            if unsafe { *mask.offset(i as isize * stride) } == 0 {
                *s = -R::INFINITY;
            }
        }
    }
}

dispatch! {
fn add<R: Real>(scores: &mut [R], mask: &[R]) {
    for (s, &m) in scores.iter_mut().zip(mask) {
        *s += m;
    }
}
}

dispatch! {
fn keep<R: Real>(scores: &mut [R], mask: &[u8]) {
    for (s, &m) in scores.iter_mut().zip(mask) {
        *s = if m != 0 { *s } else { -R::INFINITY };
    }
}
}

dispatch! {
fn blend<R: Real>(total: &mut [R], a: R, part: &[R], b: R) {
    for (t, &p) in total.iter_mut().zip(part) {
        *t = *t * a + p * b;
    }
}
}

/// Whether `count` rows of values hold no NaN and no infinity.
///
/// # Safety
/// `v` must be valid for `count` rows of `width`, `distance` apart.
unsafe fn all_finite<R: Real>(v: *const R, distance: isize, count: usize, width: usize) -> bool {
    (0..count).all(|j| {
        // SAFETY: the caller vouches for the rows.
        row_finite(unsafe { std::slice::from_raw_parts(v.offset(j as isize * distance), width) })
    })
}

dispatch! {
fn row_finite<R: Real>(x: &[R]) -> bool {
    // 0 * x is 0 for every finite number and NaN for the others.
    let mut zeros = [R::ZERO; LANES];
    for part in x.chunks_exact(LANES) {
        for l in 0..LANES {
            zeros[l] += part[l] * R::ZERO;
        }
    }
    zeros.iter().all(|&z| z == R::ZERO)
}
}

/// Adds weighted values where some are not finite: zero weights are skipped. Where all are finite the
/// result is that of [`super::simd`]'s kernel, since adding zero changes nothing.
///
/// # Safety
/// As for the kernel.
unsafe fn add_visible<R: Engine>(
    weights: *const R,
    rows: usize,
    v: *const R,
    distance: isize,
    count: usize,
    width: usize,
    out: *mut R,
) {
    for r in 0..rows {
        for j in 0..count {
            // SAFETY: the caller vouches for all three.
            unsafe {
                let w = *weights.add(r * SEGMENT + j);
                if w == R::ZERO {
                    continue;
                }
                let v = v.offset(j as isize * distance);
                for c in 0..width {
                    let to = out.add(r * width + c);
                    *to = R::multiply_add(w, *v.add(c), *to);
                }
            }
        }
    }
}

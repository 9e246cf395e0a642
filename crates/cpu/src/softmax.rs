//! Softmax and logsumexp over the last axis.
//!
//! A row is reduced in blocks of [`BLOCK`] elements, each summed in fixed lanes, and the blocks' sums
//! are added in f64 in order: the result of a row depends on the row alone, not on how many rows or
//! threads there are. Many rows run in parallel; of few and long rows (the logits of a language
//! model) the blocks do.
//!
//! NaN in a row makes the whole row NaN. Softmax of a row of only -inf, or with a +inf, is NaN;
//! logsumexp of these is -inf and +inf.

use crate::dispatch;
use crate::pool::{parallel, parallel_ranges};
use crate::rows::{LANES, Real, Rows, Shared, at};
use lazul_ir::{DType, Job, Target};

/// Elements whose sum is taken in the compute type.
const BLOCK: usize = 4096;
/// Rows at least this long are worth several threads of their own.
const LONG: usize = 1 << 15;

/// `x` → softmax over the last axis.
pub(crate) fn softmax(job: &Job<'_>) {
    match job.inputs[0].dtype {
        DType::F64 => softmax_in::<f64>(job),
        _ => softmax_in::<f32>(job),
    }
}

/// `x (…, n)` → `(…, 1)`.
pub(crate) fn logsumexp(job: &Job<'_>) {
    match job.inputs[0].dtype {
        DType::F64 => logsumexp_in::<f64>(job),
        _ => logsumexp_in::<f32>(job),
    }
}

/// Where the exponentials of a row are kept: the output itself if it has the compute type.
struct Work<'a, R> {
    rows: Rows<'a>,
    out: Target<'a>,
    direct: bool,
    _real: std::marker::PhantomData<R>,
}

impl<R: Real> Work<'_, R> {
    fn out(&self, row: usize, start: usize) -> *mut u8 {
        at(&self.out, row * self.rows.len + start)
    }

    /// Brings elements `start..` of a row into `work`, unless `work` is the very memory.
    ///
    /// # Safety
    /// `start + work.len()` must not pass the row's length.
    unsafe fn read(&self, row: usize, start: usize, work: &mut [R]) {
        let size = R::DTYPE.size();
        let from = self.rows.ptr(row).wrapping_offset(self.rows.stride * (start * size) as isize);
        if self.direct && self.rows.stride == 1 && std::ptr::eq(from, work.as_ptr().cast()) {
            return;
        }
        // SAFETY: the caller vouches for the range.
        unsafe { self.rows.read(row, start, work) }
    }
}

fn softmax_in<R: Real>(job: &Job<'_>) {
    let (rows, out) = (Rows::new(job.inputs[0]), job.outputs[0]);
    let (len, count) = (rows.len, rows.count);
    if len == 0 || count == 0 {
        return;
    }
    let work = Work::<R> { rows, out, direct: out.dtype == R::DTYPE, _real: Default::default() };
    if len >= LONG && count < 8 {
        let mut scratch = vec![R::ZERO; if work.direct { 0 } else { len }];
        for row in 0..count {
            let buffer = if work.direct { work.out(row, 0).cast() } else { scratch.as_mut_ptr() };
            softmax_long(&work, row, Shared::new(buffer));
        }
        return;
    }
    let grain = (8192 / len).max(1);
    parallel_ranges(count, grain, |first, last| {
        let mut scratch = vec![R::ZERO; if work.direct { 0 } else { len }];
        for row in first..last {
            let buffer = if work.direct { work.out(row, 0).cast() } else { scratch.as_mut_ptr() };
            // SAFETY: this row of the output, or the scratch row; nobody else has either.
            let x = unsafe { std::slice::from_raw_parts_mut(buffer, len) };
            // SAFETY: the whole row.
            unsafe { work.read(row, 0, x) };
            let shift = max(x);
            let sum: f64 = x.chunks_mut(BLOCK).map(|b| exp_sum(b, shift).to_f64()).sum();
            scale(x, R::from_f64(1.0 / sum));
            if !work.direct {
                // SAFETY: `len` elements of row `row`.
                unsafe { R::store(x, work.out.dtype, work.out(row, 0)) };
            }
        }
    });
}

/// One row, its blocks in parallel.
fn softmax_long<R: Real>(work: &Work<'_, R>, row: usize, buffer: Shared<R>) {
    let len = work.rows.len;
    let blocks = len.div_ceil(BLOCK);
    let block = |i: usize| {
        let start = i * BLOCK;
        // SAFETY: each chunk of a region has its own block of the row.
        (start, unsafe { buffer.slice(start, BLOCK.min(len - start)) })
    };
    let mut partial = vec![R::ZERO; blocks];
    let partials = Shared::new(partial.as_mut_ptr());
    parallel(blocks, |i| {
        let (start, x) = block(i);
        // SAFETY: the block lies in the row, and slot `i` is this chunk's.
        unsafe {
            work.read(row, start, x);
            *partials.get().add(i) = max(x);
        }
    });
    let shift = max(&partial);
    let partials = Shared::new(partial.as_mut_ptr());
    parallel(blocks, |i| {
        // SAFETY: slot `i` is this chunk's.
        unsafe { *partials.get().add(i) = exp_sum(block(i).1, shift) };
    });
    let sum: f64 = partial.iter().map(|s| s.to_f64()).sum();
    let factor = R::from_f64(1.0 / sum);
    parallel(blocks, |i| {
        let (start, x) = block(i);
        scale(x, factor);
        if !work.direct {
            // SAFETY: the block's part of the row.
            unsafe { R::store(x, work.out.dtype, work.out(row, start)) };
        }
    });
}

fn logsumexp_in<R: Real>(job: &Job<'_>) {
    let (rows, out) = (Rows::new(job.inputs[0]), job.outputs[0]);
    let (len, count) = (rows.len, rows.count);
    if count == 0 {
        return;
    }
    let blocks = len.div_ceil(BLOCK);
    let finish = |shift: R, sum: f64, row: usize| {
        let value = R::from_f64(shift.to_f64() + sum.ln());
        // SAFETY: element `row` of the output.
        unsafe { R::store(&[value], out.dtype, at(&out, row)) };
    };
    // An infinite maximum would make NaN of `x - max`; shifted by zero, the infinities speak.
    let finite = |m: R| if m.is_finite() { m } else { R::ZERO };
    if len >= LONG && count < 8 {
        let mut scratch = vec![R::ZERO; len];
        let buffer = Shared::new(scratch.as_mut_ptr());
        let mut partial = vec![R::ZERO; blocks];
        for row in 0..count {
            let partials = Shared::new(partial.as_mut_ptr());
            let block = |i: usize| {
                let start = i * BLOCK;
                // SAFETY: each chunk of a region has its own block of the scratch row.
                (start, unsafe { buffer.slice(start, BLOCK.min(len - start)) })
            };
            parallel(blocks, |i| {
                let (start, x) = block(i);
                // SAFETY: the block lies in the row, and slot `i` is this chunk's.
                unsafe {
                    rows.read(row, start, x);
                    *partials.get().add(i) = max(x);
                }
            });
            let shift = finite(max(&partial));
            let partials = Shared::new(partial.as_mut_ptr());
            parallel(blocks, |i| {
                // SAFETY: slot `i` is this chunk's.
                unsafe { *partials.get().add(i) = exp_sum(block(i).1, shift) };
            });
            finish(shift, partial.iter().map(|s| s.to_f64()).sum(), row);
        }
        return;
    }
    parallel_ranges(count, (8192 / len.max(1)).max(1), |first, last| {
        let mut x = vec![R::ZERO; len];
        for row in first..last {
            // SAFETY: the whole row.
            unsafe { rows.read(row, 0, &mut x) };
            let shift = finite(max(&x));
            let sum = x.chunks_mut(BLOCK).map(|b| exp_sum(b, shift).to_f64()).sum();
            finish(shift, sum, row);
        }
    });
}

dispatch! {
/// The largest element that is not NaN; -inf if there is none.
pub(crate) fn max<R: Real>(x: &[R]) -> R {
    let mut best = [-R::INFINITY; 4 * LANES];
    let (body, rest) = x.split_at(x.len() / (4 * LANES) * (4 * LANES));
    for part in body.chunks_exact(4 * LANES) {
        for l in 0..4 * LANES {
            best[l] = if part[l] > best[l] { part[l] } else { best[l] };
        }
    }
    let mut top = -R::INFINITY;
    for &v in best.iter().chain(rest) {
        top = if v > top { v } else { top };
    }
    top
}
}

dispatch! {
/// Replaces each element by `e^(x - shift)` and returns their sum.
pub(crate) fn exp_sum<R: Real>(x: &mut [R], shift: R) -> R {
    let mut sums = [R::ZERO; LANES];
    let body = x.len() / LANES * LANES;
    let (head, tail) = x.split_at_mut(body);
    for part in head.chunks_exact_mut(LANES) {
        for l in 0..LANES {
            let e = (part[l] - shift).exp();
            part[l] = e;
            sums[l] += e;
        }
    }
    for (l, v) in tail.iter_mut().enumerate() {
        *v = (*v - shift).exp();
        sums[l] += *v;
    }
    let mut width = LANES / 2;
    while width > 0 {
        for l in 0..width {
            sums[l] += sums[l + width];
        }
        width /= 2;
    }
    sums[0]
}
}

dispatch! {
/// Multiplies every element.
pub(crate) fn scale<R: Real>(x: &mut [R], by: R) {
    for v in x {
        *v *= by;
    }
}
}

#[cfg(test)]
mod tests {
    use super::LONG;
    use crate::testing::{Rng, Tensor, inline, layouts, run};
    use lazul_ir::{DType, FastOp, Prim};

    const SOFTMAX: Prim = Prim::Fast(FastOp::Softmax);
    const LOGSUMEXP: Prim = Prim::Fast(FastOp::LogSumExp);
    const FLOATS: [DType; 4] = [DType::F32, DType::F16, DType::BF16, DType::F64];

    fn reference(x: &[f64], len: usize) -> (Vec<f64>, Vec<f64>) {
        let mut soft = Vec::new();
        let mut log = Vec::new();
        for row in x.chunks(len) {
            let max = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = row.iter().map(|v| (v - max).exp()).sum();
            soft.extend(row.iter().map(|v| (v - max).exp() / sum));
            log.push(max + sum.ln());
        }
        (soft, log)
    }

    fn check(x: &Tensor, what: &str) {
        let (dtype, shape) = (x.dtype, x.shape.clone());
        let len = shape[shape.len() - 1];
        let mut last = shape.clone();
        *last.last_mut().unwrap() = 1;
        let (soft, log) = reference(&x.to_f64(), len);
        let tolerance = match dtype {
            DType::F64 => 1e-14,
            DType::F32 => 4e-6, // `x - max` is rounded
            DType::F16 => 6e-4,
            _ => 5e-3,
        };
        for (prim, want, shape) in [(SOFTMAX, soft, shape), (LOGSUMEXP, log, last)] {
            let got = run(&prim, &[x], dtype, &shape);
            for (g, w) in got.to_f64().iter().zip(&want) {
                // f16 results below its normal range keep an absolute accuracy only.
                let least = if dtype == DType::F16 { 6e-8 } else { 1e-44 };
                assert!(
                    (g - w).abs() <= tolerance * w.abs() + least,
                    "{what} {dtype}: {g}, not {w}"
                );
            }
            let alone = inline(|| run(&prim, &[x], dtype, &shape));
            assert_eq!(got.bits(), alone.bits(), "{what} {dtype}: threads");
        }
    }

    #[test]
    fn agrees_with_the_definition_in_every_layout() {
        let mut rng = Rng(1);
        for dtype in FLOATS {
            for shape in [vec![3, 5], vec![2, 3, 64], vec![1], vec![70, 129], vec![2, 5000]] {
                let x = rng.tensor(dtype, &shape, -30.0, 30.0);
                for (name, x) in layouts(&x) {
                    check(&x, name);
                }
            }
            check(&rng.tensor(dtype, &[4, 1], -1.0, 1.0).broadcast(&[4, 9]), "broadcast");
            run(&SOFTMAX, &[&Tensor::empty(dtype, &[0, 4])], dtype, &[0, 4]);
            run(&SOFTMAX, &[&Tensor::empty(dtype, &[4, 0])], dtype, &[4, 0]);
            let none = run(&LOGSUMEXP, &[&Tensor::empty(dtype, &[2, 0])], dtype, &[2, 1]);
            assert_eq!(none.to_f64(), [f64::NEG_INFINITY; 2]);
        }
    }

    #[test]
    fn a_row_does_not_depend_on_its_neighbours() {
        let mut rng = Rng(2);
        for dtype in FLOATS {
            let len = LONG + 4321;
            let x = rng.tensor(dtype, &[9, len], -9.0, 9.0);
            check(&x, "many long rows");
            let all = run(&SOFTMAX, &[&x], dtype, &[9, len]).bits();
            let mut one = x.clone();
            one.shape[0] = 1;
            check(&one, "one long row");
            assert_eq!(run(&SOFTMAX, &[&one], dtype, &[1, len]).bits(), all[..len]);
        }
    }

    #[test]
    fn extremes() {
        let inf = f64::INFINITY;
        let rows = [[-inf, -inf, -inf], [inf, 0.0, -inf], [f64::NAN, 1.0, 2.0], [-inf, 0.0, 0.0]];
        for dtype in FLOATS {
            let x = Tensor::from_f64(&rows.concat(), dtype, &[4, 3]);
            let soft = run(&SOFTMAX, &[&x], dtype, &[4, 3]).to_f64();
            assert!(soft[..3].iter().chain(&soft[6..9]).all(|v| v.is_nan()));
            assert!(soft[3].is_nan());
            assert_eq!(soft[9..], [0.0, 0.5, 0.5]);
            let log = run(&LOGSUMEXP, &[&x], dtype, &[4, 1]).to_f64();
            assert_eq!(log[..2], [-inf, inf]);
            assert!(log[2].is_nan());
        }
        let x = Tensor::from_f64(&[65504.0, -65504.0, 65504.0], DType::F16, &[1, 3]);
        let soft = run(&SOFTMAX, &[&x], DType::F16, &[1, 3]).to_f64();
        assert_eq!(soft, [0.5, 0.0, 0.5]);
    }
}

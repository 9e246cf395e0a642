//! RMS and layer normalisation over the last axis.
//!
//! A row is converted once into scratch that stays in cache, reduced there in fixed lanes, and
//! written once. Weight and bias may have any float dtype. Statistics are f32 (f64 for f64); layer
//! norm subtracts the mean before it squares.

use crate::dispatch;
use crate::pool::parallel_ranges;
use crate::rows::{self, LANES, Real, Rows};
use lazul_ir::{DType, Job, Operand};

/// `x (…, d) [, weight (d)]` → `x * rsqrt(mean(x²) + eps) * weight`.
pub(crate) fn rms_norm(eps: f32, job: &Job<'_>) {
    let weight = job.inputs.get(1);
    match job.inputs[0].dtype {
        DType::F64 => rms_norm_in::<f64>(eps as f64, weight, job),
        _ => rms_norm_in::<f32>(eps, weight, job),
    }
}

/// `x (…, d) [, weight (d)] [, bias (d)]` → normalised, scaled, shifted.
pub(crate) fn layer_norm(eps: f32, weight: bool, bias: bool, job: &Job<'_>) {
    let w = if weight { Some(&job.inputs[1]) } else { None };
    let b = if bias { Some(&job.inputs[1 + weight as usize]) } else { None };
    match job.inputs[0].dtype {
        DType::F64 => layer_norm_in::<f64>(eps as f64, w, b, job),
        _ => layer_norm_in::<f32>(eps, w, b, job),
    }
}

/// A weight or bias in the compute type.
enum Param<'a, R> {
    Borrowed(&'a [R]),
    Owned(Vec<R>),
}

impl<'a, R: Real> Param<'a, R> {
    fn new(operand: Option<&Operand<'a>>) -> Option<Param<'a, R>> {
        let o = operand?;
        Some(if o.dtype == R::DTYPE && o.is_contiguous() {
            // SAFETY: the operand's memory is live and of this type.
            Param::Borrowed(unsafe { std::slice::from_raw_parts(o.ptr.cast(), o.size()) })
        } else {
            // SAFETY: the operand's memory is live.
            Param::Owned(unsafe { rows::to_vec(o) })
        })
    }

    fn get(&self) -> &[R] {
        match self {
            Param::Borrowed(s) => s,
            Param::Owned(v) => v,
        }
    }
}

/// Reads each row, hands it to `f`, writes it.
fn each_row<R: Real>(job: &Job<'_>, f: impl Fn(&mut [R]) + Sync) {
    let (rows, out) = (Rows::new(job.inputs[0]), job.outputs[0]);
    if rows.len == 0 {
        return;
    }
    parallel_ranges(rows.count, (16384 / rows.len).max(1), |first, last| {
        let mut x = vec![R::ZERO; rows.len];
        for row in first..last {
            // SAFETY: the whole row; the output's row is this chunk's alone.
            unsafe {
                rows.read(row, 0, &mut x);
                f(&mut x);
                R::store(&x, out.dtype, rows::at(&out, row * rows.len));
            }
        }
    });
}

fn rms_norm_in<R: Real>(eps: R, weight: Option<&Operand<'_>>, job: &Job<'_>) {
    let weight = Param::<R>::new(weight);
    each_row::<R>(job, |x| {
        let mean = sum_squares(x).to_f64() / x.len() as f64;
        let factor = R::from_f64(1.0 / (mean + eps.to_f64()).sqrt());
        match &weight {
            Some(w) => scale_by(x, factor, w.get()),
            None => crate::softmax::scale(x, factor),
        }
    });
}

fn layer_norm_in<R: Real>(
    eps: R,
    weight: Option<&Operand<'_>>,
    bias: Option<&Operand<'_>>,
    job: &Job<'_>,
) {
    let (weight, bias) = (Param::<R>::new(weight), Param::<R>::new(bias));
    each_row::<R>(job, |x| {
        let mean = R::from_f64(sum(x).to_f64() / x.len() as f64);
        add(x, -mean);
        let variance = sum_squares(x).to_f64() / x.len() as f64;
        let factor = R::from_f64(1.0 / (variance + eps.to_f64()).sqrt());
        match &weight {
            Some(w) => scale_by(x, factor, w.get()),
            None => crate::softmax::scale(x, factor),
        }
        if let Some(b) = &bias {
            add_each(x, b.get());
        }
    });
}

/// Sums `f(x)` in four groups of lanes.
#[inline(always)]
fn lanes_sum<R: Real>(x: &[R], f: impl Fn(R) -> R) -> R {
    const WIDE: usize = 4 * LANES;
    let mut sums = [R::ZERO; WIDE];
    let (body, rest) = x.split_at(x.len() / WIDE * WIDE);
    for part in body.chunks_exact(WIDE) {
        for l in 0..WIDE {
            sums[l] += f(part[l]);
        }
    }
    for (l, &v) in rest.iter().enumerate() {
        sums[l] += f(v);
    }
    let mut width = WIDE / 2;
    while width > 0 {
        for l in 0..width {
            sums[l] = sums[l] + sums[l + width];
        }
        width /= 2;
    }
    sums[0]
}

dispatch! {
fn sum<R: Real>(x: &[R]) -> R {
    lanes_sum(x, |v| v)
}
}

dispatch! {
fn sum_squares<R: Real>(x: &[R]) -> R {
    lanes_sum(x, |v| v * v)
}
}

dispatch! {
fn add<R: Real>(x: &mut [R], by: R) {
    for v in x {
        *v += by;
    }
}
}

dispatch! {
fn add_each<R: Real>(x: &mut [R], by: &[R]) {
    for (v, &b) in x.iter_mut().zip(by) {
        *v += b;
    }
}
}

dispatch! {
fn scale_by<R: Real>(x: &mut [R], factor: R, weight: &[R]) {
    for (v, &w) in x.iter_mut().zip(weight) {
        *v = *v * factor * w;
    }
}
}

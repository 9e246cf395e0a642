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
        let variance = sum_squares_from(x, mean).to_f64() / x.len() as f64;
        let factor = R::from_f64(1.0 / (variance + eps.to_f64()).sqrt());
        match (&weight, &bias) {
            (Some(w), Some(b)) => affine(x, mean, factor, w.get(), b.get()),
            (Some(w), None) => {
                add(x, -mean);
                scale_by(x, factor, w.get());
            }
            (None, bias) => {
                add(x, -mean);
                crate::softmax::scale(x, factor);
                if let Some(b) = bias {
                    add_each(x, b.get());
                }
            }
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
            sums[l] += sums[l + width];
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
fn sum_squares_from<R: Real>(x: &[R], mean: R) -> R {
    lanes_sum(x, |v| (v - mean) * (v - mean))
}
}

dispatch! {
fn affine<R: Real>(x: &mut [R], mean: R, factor: R, weight: &[R], bias: &[R]) {
    for ((v, &w), &b) in x.iter_mut().zip(weight).zip(bias) {
        *v = (*v - mean) * factor * w + b;
    }
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

#[cfg(test)]
mod tests {
    use crate::testing::{Rng, Tensor, inline, layouts, run};
    use lazul_ir::{DType, F32Bits, FastOp, Prim};

    const FLOATS: [DType; 4] = [DType::F32, DType::F16, DType::BF16, DType::F64];
    const EPS: F32Bits = F32Bits::new(1e-5);

    fn reference(
        x: &[f64],
        d: usize,
        centred: bool,
        w: Option<&[f64]>,
        b: Option<&[f64]>,
    ) -> Vec<f64> {
        let mut out = Vec::new();
        for row in x.chunks(d) {
            let mean = if centred { row.iter().sum::<f64>() / d as f64 } else { 0.0 };
            let square: f64 = row.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / d as f64;
            let factor = 1.0 / (square + 1e-5f32 as f64).sqrt();
            for (i, v) in row.iter().enumerate() {
                out.push((v - mean) * factor * w.map_or(1.0, |w| w[i]) + b.map_or(0.0, |b| b[i]));
            }
        }
        out
    }

    fn check(x: &Tensor, w: Option<&Tensor>, b: Option<&Tensor>, what: &str) {
        let d = *x.shape.last().unwrap();
        let (wv, bv) = (w.map(|w| w.to_f64()), b.map(|b| b.to_f64()));
        let tolerance = match x.dtype {
            DType::F64 => 1e-12,
            DType::F32 => 5e-6,
            DType::F16 => 2e-3,
            _ => 1.6e-2,
        };
        let mut cases = vec![(
            Prim::Fast(FastOp::LayerNorm { eps: EPS, weight: w.is_some(), bias: b.is_some() }),
            reference(&x.to_f64(), d, true, wv.as_deref(), bv.as_deref()),
            vec![Some(x), w, b],
        )];
        if b.is_none() {
            cases.push((
                Prim::Fast(FastOp::RmsNorm { eps: EPS }),
                reference(&x.to_f64(), d, false, wv.as_deref(), None),
                vec![Some(x), w],
            ));
        }
        for (prim, want, inputs) in cases {
            let inputs: Vec<&Tensor> = inputs.into_iter().flatten().collect();
            let got = run(&prim, &inputs, x.dtype, &x.shape);
            for (g, r) in got.to_f64().iter().zip(&want) {
                assert!(
                    (g - r).abs() <= tolerance * (1.0 + r.abs()),
                    "{what} {}: {g}, not {r}",
                    x.dtype
                );
            }
            let alone = inline(|| run(&prim, &inputs, x.dtype, &x.shape));
            assert_eq!(got.bits(), alone.bits(), "{what}: threads");
        }
    }

    #[test]
    fn agrees_with_the_definition_in_every_layout() {
        let mut rng = Rng(1);
        for dtype in FLOATS {
            for shape in [vec![3, 5], vec![2, 3, 64], vec![1], vec![300, 130], vec![2, 5000]] {
                let x = rng.tensor(dtype, &shape, -3.0, 5.0);
                let d = [*shape.last().unwrap()];
                for (name, x) in layouts(&x) {
                    check(&x, None, None, name);
                }
                for other in FLOATS {
                    let w = rng.tensor(other, &d, -2.0, 2.0);
                    let b = rng.tensor(other, &d, -2.0, 2.0);
                    check(&x, Some(&w), None, "weight");
                    check(&x, None, Some(&b), "bias");
                    for ((name, w), (_, b)) in layouts(&w).iter().zip(layouts(&b)) {
                        check(&x, Some(w), Some(&b), name);
                    }
                }
            }
            let one = rng.tensor(dtype, &[3, 1], -1.0, 1.0).broadcast(&[3, 20]);
            check(&one, None, None, "broadcast");
            for shape in [[0, 4], [4, 0]] {
                let p = Prim::Fast(FastOp::RmsNorm { eps: EPS });
                run(&p, &[&Tensor::empty(dtype, &shape)], dtype, &shape);
            }
        }
    }

    #[test]
    fn half_precision_squares_do_not_overflow() {
        let x = Tensor::from_f64(&[1e4; 512], DType::F16, &[1, 512]);
        let got = run(&Prim::Fast(FastOp::RmsNorm { eps: EPS }), &[&x], DType::F16, &[1, 512]);
        assert!(got.to_f64().iter().all(|&v| v == 1.0));
    }

    #[test]
    fn nan_stays_in_its_row() {
        let x = Tensor::from_f64(&[1.0, f64::NAN, 3.0, 4.0], DType::F32, &[2, 2]);
        let p = Prim::Fast(FastOp::LayerNorm { eps: EPS, weight: false, bias: false });
        let got = run(&p, &[&x], DType::F32, &[2, 2]).to_f64();
        assert!(got[0].is_nan() && got[1].is_nan() && got[2].is_finite() && got[3].is_finite());
    }
}

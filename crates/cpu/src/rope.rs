//! Rotary position embedding.
//!
//! Cosines and sines are tabulated once a job, for every position (and batch, where each has its own
//! offset), and reused over heads; rows are then rotated in parallel. An angle is the f32 product of
//! the f32 position and the f32 inverse frequency, as in MLX and transformers; its cosine and sine
//! are reduced in f64 and right to the last bit or so at any position.

use crate::dispatch;
use crate::pool::parallel_ranges;
use crate::rows::{self, Real, Rows, Shared, at};
use lazul_ir::{DType, FastOp, Job, Operand};

/// `x (b, …, t, d), offset [, freqs]` → `x` with its first `dims` features rotated.
pub(crate) fn rope(op: &FastOp, job: &Job<'_>) {
    match job.inputs[0].dtype {
        DType::F64 => rope_in::<f64>(op, job),
        _ => rope_in::<f32>(op, job),
    }
}

fn rope_in<R: Angle>(op: &FastOp, job: &Job<'_>) {
    let &FastOp::Rope { dims, traditional, base, scale, freqs } = op else {
        unreachable!("rope of {op:?}")
    };
    let (x, out) = (job.inputs[0], job.outputs[0]);
    let (rows, dims) = (Rows::new(x), dims as usize);
    if rows.count == 0 || rows.len == 0 {
        return;
    }
    let rank = x.shape.len();
    let steps = if rank >= 2 { x.shape[rank - 2] } else { 1 }; // t
    let batches = if rank >= 3 { x.shape[0] } else { 1 };
    let inverse = if freqs {
        // SAFETY: the operand's memory is live.
        let mut f = unsafe { rows::to_vec::<f32>(&job.inputs[2]) };
        f.iter_mut().for_each(|f| *f = 1.0 / *f);
        f
    } else {
        inverse_frequencies(dims, base.get())
    };
    let half = dims / 2;
    let offsets = offsets(&job.inputs[1]);
    let tables = if offsets.len() == 1 { 1 } else { batches };

    // (tables, t, half)
    let mut cos = vec![R::ZERO; tables * steps * half];
    let mut sin = vec![R::ZERO; tables * steps * half];
    let (cos_out, sin_out) = (Shared::new(cos.as_mut_ptr()), Shared::new(sin.as_mut_ptr()));
    parallel_ranges(tables * steps, (2048 / half.max(1)).max(1), |first, last| {
        let mut angles = vec![0f32; half];
        for row in first..last {
            let position = offsets[row / steps].wrapping_add((row % steps) as i64);
            let position = position as f32 * scale.get();
            for (a, &f) in angles.iter_mut().zip(&inverse) {
                *a = position * f;
            }
            // SAFETY: row `row` of the tables is this chunk's alone.
            unsafe {
                R::cos_sin(
                    &angles,
                    cos_out.slice(row * half, half),
                    sin_out.slice(row * half, half),
                );
            }
        }
    });

    let (len, per_batch) = (rows.len, rows.count / batches);
    parallel_ranges(rows.count, (8192 / len).max(1), |first, last| {
        let mut y = vec![R::ZERO; len];
        for row in first..last {
            let table = if tables == 1 { 0 } else { row / per_batch };
            let entry = (table * steps + row % steps) * half;
            let (c, s) = (&cos[entry..entry + half], &sin[entry..entry + half]);
            // SAFETY: the whole row; the output's row is this chunk's alone.
            unsafe { rows.read(row, 0, &mut y) };
            if traditional {
                rotate_pairs(&mut y[..dims], c, s);
            } else {
                rotate_halves(&mut y[..dims], c, s);
            }
            // SAFETY: as above.
            unsafe { R::store(&y, out.dtype, at(&out, row * len)) };
        }
    });
}

/// `base^(-2j/dims)`, in f64, rounded to f32. The last answer is kept: a model asks the same
/// question once a layer and token.
fn inverse_frequencies(dims: usize, base: f32) -> Vec<f32> {
    thread_local! {
        static LAST: std::cell::RefCell<(usize, u32, Vec<f32>)> = const {
            std::cell::RefCell::new((0, 0, Vec::new()))
        };
    }
    LAST.with_borrow_mut(|(d, b, f)| {
        if (*d, *b) != (dims, base.to_bits()) {
            let frequency = |j| (base as f64).powf(-2.0 * j as f64 / dims as f64) as f32;
            *f = (0..dims / 2).map(frequency).collect();
            (*d, *b) = (dims, base.to_bits());
        }
        f.clone()
    })
}

fn offsets(operand: &Operand<'_>) -> Vec<i64> {
    let element = |i| {
        let offset = crate::strided::offset_of(i, operand.shape, operand.strides);
        let ptr = operand.ptr.wrapping_offset(offset * operand.dtype.size() as isize);
        // SAFETY: element `i` of a live operand.
        unsafe { rows::read_int(ptr, operand.dtype) }
    };
    (0..operand.size()).map(element).collect()
}

trait Angle: Real {
    fn cos_sin(angles: &[f32], cos: &mut [Self], sin: &mut [Self]);
}

impl Angle for f32 {
    fn cos_sin(angles: &[f32], cos: &mut [f32], sin: &mut [f32]) {
        cos_sin_f32(angles, cos, sin);
    }
}

impl Angle for f64 {
    fn cos_sin(angles: &[f32], cos: &mut [f64], sin: &mut [f64]) {
        for ((c, s), &a) in cos.iter_mut().zip(sin).zip(angles) {
            (*s, *c) = (a as f64).sin_cos();
        }
    }
}

dispatch! {
fn cos_sin_f32(angles: &[f32], cos: &mut [f32], sin: &mut [f32]) {
    const ROUND: f64 = 6_755_399_441_055_744.0; // 1.5 * 2^52: adding it rounds to an integer.
    const PI_2_HIGH: f64 = 1.570_796_326_734_125_6; // 33 bits of pi/2, and the rest
    const PI_2_LOW: f64 = 6.077_100_506_506_192e-11;
    for ((c, s), &a) in cos.iter_mut().zip(sin.iter_mut()).zip(angles) {
        let a = a as f64;
        let shifted = a * std::f64::consts::FRAC_2_PI + ROUND;
        let n = shifted - ROUND;
        let quadrant = shifted.to_bits();
        let r = (a - n * PI_2_HIGH) - n * PI_2_LOW;
        let z = r * r;
        // Taylor: on [-pi/4, pi/4] the terms left out are below 1e-10.
        let p = z * (1.0 / 362_880.0) - 1.0 / 5_040.0;
        let p = z * p + 1.0 / 120.0;
        let p = z * p - 1.0 / 6.0;
        let sine = r + r * z * p;
        let q = z * (-1.0 / 3_628_800.0) + 1.0 / 40_320.0;
        let q = z * q - 1.0 / 720.0;
        let q = z * q + 1.0 / 24.0;
        let q = z * q - 0.5;
        let cosine = 1.0 + z * q;
        let swap = quadrant & 1 != 0;
        let (x, y) = if swap { (sine, cosine) } else { (cosine, sine) };
        let x_sign = ((quadrant + 1) & 2) << 62;
        let y_sign = (quadrant & 2) << 62;
        *c = f64::from_bits(x.to_bits() ^ x_sign) as f32;
        *s = f64::from_bits(y.to_bits() ^ y_sign) as f32;
    }
}
}

dispatch! {
fn rotate_halves<R: Real>(x: &mut [R], cos: &[R], sin: &[R]) {
    let (a, b) = x.split_at_mut(cos.len());
    for (((a, b), &c), &s) in a.iter_mut().zip(b).zip(cos).zip(sin) {
        (*a, *b) = (*a * c - *b * s, *b * c + *a * s);
    }
}
}

dispatch! {
fn rotate_pairs<R: Real>(x: &mut [R], cos: &[R], sin: &[R]) {
    for ((pair, &c), &s) in x.chunks_exact_mut(2).zip(cos).zip(sin) {
        let (a, b) = (pair[0], pair[1]);
        pair[0] = a * c - b * s;
        pair[1] = b * c + a * s;
    }
}
}

#[cfg(test)]
mod tests {
    use super::cos_sin_f32;
    use crate::testing::{Rng, Tensor, inline, layouts, run};
    use lazul_ir::{DType, F32Bits, FastOp, Prim};

    fn prim(dims: u32, traditional: bool, freqs: bool) -> Prim {
        let (base, scale) = (F32Bits::new(10000.0), F32Bits::new(0.5));
        Prim::Fast(FastOp::Rope { dims, traditional, base, scale, freqs })
    }

    fn reference(
        x: &Tensor,
        dims: usize,
        traditional: bool,
        offsets: &[f64],
        freqs: Option<&[f64]>,
    ) -> Vec<f64> {
        let rank = x.shape.len();
        let (t, d, b) = (x.shape[rank - 2], x.shape[rank - 1], x.shape[0]);
        let values = x.to_f64();
        let mut out = values.clone();
        let per_batch = values.len() / b;
        for row in 0..values.len() / d {
            let offset = offsets[if offsets.len() == 1 { 0 } else { row * d / per_batch }];
            let p = ((offset + (row % t) as f64) as f32 * 0.5) as f64;
            for j in 0..dims / 2 {
                let f = match freqs {
                    Some(f) => (1.0 / f[j] as f32) as f64,
                    None => 10000f64.powf(-2.0 * j as f64 / dims as f64) as f32 as f64,
                };
                let angle = (p as f32 * f as f32) as f64;
                let (i, k) = if traditional { (2 * j, 2 * j + 1) } else { (j, j + dims / 2) };
                let (a, b) = (values[row * d + i], values[row * d + k]);
                out[row * d + i] = a * angle.cos() - b * angle.sin();
                out[row * d + k] = b * angle.cos() + a * angle.sin();
            }
        }
        out
    }

    fn check(
        x: &Tensor,
        dims: u32,
        traditional: bool,
        offset: &Tensor,
        freqs: Option<&Tensor>,
        what: &str,
    ) {
        let offsets: Vec<f64> = offset.to_f64();
        let f = freqs.map(|f| f.to_f64());
        let want = reference(x, dims as usize, traditional, &offsets, f.as_deref());
        let mut inputs = vec![x, offset];
        inputs.extend(freqs);
        let p = prim(dims, traditional, freqs.is_some());
        let got = run(&p, &inputs, x.dtype, &x.shape);
        let tolerance = match x.dtype {
            DType::F64 => 1e-12,
            DType::F32 => 5e-7,
            DType::F16 => 1e-3,
            _ => 8e-3,
        };
        for (g, w) in got.to_f64().iter().zip(&want) {
            assert!(
                (g - w).abs() <= tolerance * (1.0 + w.abs()),
                "{what} {}: {g}, not {w}",
                x.dtype
            );
        }
        let alone = inline(|| run(&p, &inputs, x.dtype, &x.shape));
        assert_eq!(got.bits(), alone.bits(), "{what}: threads");
    }

    #[test]
    fn agrees_with_the_definition() {
        let mut rng = Rng(1);
        for dtype in [DType::F32, DType::F16, DType::BF16, DType::F64] {
            let one = Tensor::new(&[7i32], &[]);
            let each = Tensor::new(&[3i64, 999_000], &[2]);
            let freqs = rng.tensor(DType::F32, &[4], 1.0, 50.0);
            for shape in [vec![2, 3, 5, 12], vec![2, 1, 12], vec![2, 2, 2, 40, 12]] {
                let x = rng.tensor(dtype, &shape, -3.0, 3.0);
                for traditional in [false, true] {
                    for (name, x) in layouts(&x) {
                        check(&x, 12, traditional, &one, None, name);
                        check(&x, 8, traditional, &each, Some(&freqs), name);
                    }
                    check(&x, 8, traditional, &each, None, "each");
                }
            }
            let x = rng.tensor(dtype, &[2, 1, 3, 8], -1.0, 1.0);
            check(&x.transpose(&[0, 2, 1, 3]), 8, false, &one, None, "transposed heads");
            run(
                &prim(8, false, false),
                &[&Tensor::empty(dtype, &[1, 0, 8]), &one],
                dtype,
                &[1, 0, 8],
            );
        }
    }

    #[test]
    fn cosines_and_sines_are_right_at_any_angle() {
        let mut rng = Rng(2);
        let mut angles: Vec<f32> = vec![0.0, -0.0, 1e-30, 1e6, -1e6, 16_777_216.0, 3e8];
        for scale in [1.0, 100.0, 1e4, 1e6, 1e7] {
            angles.extend(rng.vec(2000, -scale, scale).iter().map(|&a| a as f32));
        }
        let (mut c, mut s) = (vec![0f32; angles.len()], vec![0f32; angles.len()]);
        cos_sin_f32(&angles, &mut c, &mut s);
        for i in 0..angles.len() {
            let (sin, cos) = (angles[i] as f64).sin_cos();
            assert!((c[i] as f64 - cos).abs() < 6.1e-8, "cos {}", angles[i]);
            assert!((s[i] as f64 - sin).abs() < 6.1e-8, "sin {}", angles[i]);
        }
    }
}

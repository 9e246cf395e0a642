//! Evenly spaced numbers.

use crate::copy::Shared;
use crate::dispatch;
use crate::pool::parallel_ranges;
use half::{bf16, f16};
use lazul_ir::{Complex32, DType, Job, Scalar};

/// Elements a task writes.
const GRAIN: usize = 64 << 10;

/// `start + i * step`.
pub(crate) fn arange(start: Scalar, step: Scalar, job: &Job<'_>) {
    let dtype = job.outputs[0].dtype;
    if dtype.is_inexact() {
        let (a, b) = (start.to_f64(), step.to_f64());
        let at = move |i: usize| a + i as f64 * b;
        return match dtype {
            DType::F32 => write(job, |first, dst| floats32(first, a, b, dst)),
            DType::F64 => write(job, |first, dst| floats64(first, a, b, dst)),
            DType::F16 => write(job, |first, dst: &mut [f16]| {
                dst.iter_mut().enumerate().for_each(|(i, d)| *d = f16::from_f64(at(first + i)));
            }),
            DType::BF16 => write(job, |first, dst: &mut [bf16]| {
                dst.iter_mut().enumerate().for_each(|(i, d)| *d = bf16::from_f64(at(first + i)));
            }),
            _ => write(job, |first, dst: &mut [Complex32]| {
                for (i, d) in dst.iter_mut().enumerate() {
                    *d = Complex32::new(at(first + i) as f32, 0.0);
                }
            }),
        };
    }
    let (a, b) = (start.to_i128() as i64, step.to_i128() as i64);
    match dtype.size() {
        1 if dtype == DType::Bool => write(job, |first, dst: &mut [u8]| {
            for (i, d) in dst.iter_mut().enumerate() {
                *d = (a.wrapping_add(b.wrapping_mul((first + i) as i64)) != 0) as u8;
            }
        }),
        1 => write(job, |first, dst| integers8(first, a, b, dst)),
        2 => write(job, |first, dst| integers16(first, a, b, dst)),
        4 => write(job, |first, dst| integers32(first, a, b, dst)),
        _ => write(job, |first, dst| integers64(first, a, b, dst)),
    }
}

/// Calls `f(first index, elements)` for pieces of the output, in parallel.
fn write<T: Copy>(job: &Job<'_>, f: impl Fn(usize, &mut [T]) + Sync) {
    let out = &job.outputs[0];
    let ptr = Shared(out.ptr.cast::<T>());
    parallel_ranges(out.size(), GRAIN, |start, end| {
        // SAFETY: pieces are disjoint parts of the output, whose dtype has `T`'s size.
        f(start, unsafe { std::slice::from_raw_parts_mut(ptr.get().add(start), end - start) });
    });
}

dispatch! {
fn floats32(first: usize, start: f64, step: f64, dst: &mut [f32]) {
    let first = first as f64;
    for (i, d) in dst.iter_mut().enumerate() {
        *d = (start + (first + i as i32 as f64) * step) as f32;
    }
}
}

dispatch! {
fn floats64(first: usize, start: f64, step: f64, dst: &mut [f64]) {
    let first = first as f64;
    for (i, d) in dst.iter_mut().enumerate() {
        *d = start + (first + i as i32 as f64) * step;
    }
}
}

macro_rules! integers {
    ($($name:ident $t:ty;)*) => {$(
        dispatch! {
        fn $name(first: usize, start: i64, step: i64, dst: &mut [$t]) {
            // Truncation commutes with wrapping arithmetic.
            let start = start.wrapping_add(step.wrapping_mul(first as i64)) as $t;
            let step = step as $t;
            for (i, d) in dst.iter_mut().enumerate() {
                *d = start.wrapping_add(step.wrapping_mul(i as $t));
            }
        }
        }
    )*};
}
integers! { integers8 u8; integers16 u16; integers32 u32; integers64 u64; }

#[cfg(test)]
mod tests {
    use crate::testing::run;
    use lazul_ir::{DType, Prim, Scalar};

    #[test]
    fn floats_are_evenly_spaced_in_double_precision() {
        for dtype in [DType::F16, DType::BF16, DType::F32, DType::F64, DType::C64] {
            let prim = Prim::Arange { start: Scalar::new(-1.5f64), step: Scalar::new(0.1f64) };
            let out = run(&prim, &[], dtype, &[100_000]);
            for (i, s) in out.scalars().into_iter().enumerate() {
                assert_eq!(s, Scalar::from_f64(-1.5 + i as f64 * 0.1, dtype), "{i} {dtype}");
            }
        }
    }

    #[test]
    fn integers_wrap() {
        for dtype in DType::ALL.into_iter().filter(|d| d.is_integer()) {
            let prim = Prim::Arange { start: Scalar::new(-3i64), step: Scalar::new(7i64) };
            let out = run(&prim, &[], dtype, &[70_001]);
            let mask = u64::MAX >> (64 - 8 * dtype.size());
            for (i, b) in out.bits().into_iter().enumerate() {
                assert_eq!(b, (-3 + 7 * i as i64) as u64 & mask);
            }
        }
    }
}

//! Where values belong among sorted ones: a binary search each, by the keys that sorting uses, so that
//! what sorting puts in order is found in that order (NaN last, -0 beside 0).
//!
//! The search halves a range without a branch on what it finds: the next probe is chosen by a
//! conditional move, and probes of neighbouring values overlap in the processor.

use super::keys::Sortable;
use super::words::Number;
use crate::pool::parallel_ranges;
use crate::rows::{Shared, apart};
use crate::strided::offset_of;
use lazul_ir::{Complex32, DType, Job, Target, bf16, f16};

/// Values that one chunk of work searches for.
const GRAIN: usize = 1 << 12;

/// See [`lazul_ir::Prim::SearchSorted`].
pub(crate) fn searchsorted(right: bool, job: &Job<'_>) {
    let out = job.outputs[0];
    if out.size() == 0 {
        return;
    }
    apart(&out, job.inputs, |out| {
        macro_rules! with {
            ($t:ty) => {
                search::<$t>(right, job, out)
            };
        }
        match job.inputs[0].dtype {
            DType::Bool | DType::U8 => with!(u8),
            DType::U16 => with!(u16),
            DType::U32 => with!(u32),
            DType::U64 => with!(u64),
            DType::I8 => with!(i8),
            DType::I16 => with!(i16),
            DType::I32 => with!(i32),
            DType::I64 => with!(i64),
            DType::F16 => with!(f16),
            DType::BF16 => with!(bf16),
            DType::F32 => with!(f32),
            DType::F64 => with!(f64),
            DType::C64 => with!(Complex32),
        }
    });
}

fn search<T: Sortable>(right: bool, job: &Job<'_>, out: &Target<'_>) {
    let (sorted, values) = (&job.inputs[0], &job.inputs[1]);
    let (n, m) = (sorted.shape[1], values.shape[1]);
    let step = sorted.strides[1];
    let dst = Shared::new(out.ptr.cast::<u32>());
    parallel_ranges(values.size(), GRAIN, |start, end| {
        for i in start..end {
            let row = (i / m) as isize * sorted.strides[0];
            let at = offset_of(i, values.shape, values.strides);
            // SAFETY: `i` is an element of the values and of the output, which no other range has;
            // positions below `n` are elements of a row of the sorted operand.
            unsafe {
                let value = (*values.ptr.cast::<T>().offset(at)).key().widen();
                let row = sorted.ptr.cast::<T>().offset(row);
                *dst.get().add(i) = count(row, step, n, value, right) as u32;
            }
        }
    });
}

/// How many of `n` ascending elements come before `value`.
///
/// # Safety
/// `row + i * step` must be elements for `i < n`.
#[inline(always)]
unsafe fn count<T: Sortable>(
    row: *const T,
    step: isize,
    n: usize,
    value: u64,
    right: bool,
) -> usize {
    let (mut base, mut size) = (0usize, n);
    while size > 0 {
        let half = size / 2;
        // SAFETY: `base + half < base + size <= n`.
        let key = unsafe { *row.offset((base + half) as isize * step) }.key().widen();
        let before = key < value || right && key == value;
        base = if before { base + half + 1 } else { base };
        size = if before { size - half - 1 } else { half };
    }
    base
}

#[cfg(test)]
mod tests {
    use crate::testing::{Rng, Tensor, inline, layouts, run};
    use lazul_ir::{DType, Prim};

    fn sorted(rng: &mut Rng, dtype: DType, b: usize, n: usize) -> Tensor {
        let x = rng.tensor(dtype, &[b, n], -9.0, 9.0);
        run(&Prim::Sort { axis: 1 }, &[&x], dtype, &[b, n])
    }

    /// A walk along the row.
    fn expected(sorted: &Tensor, values: &Tensor, right: bool) -> Vec<u32> {
        let (n, m) = (sorted.shape[1], values.shape[1]);
        let (s, v) = (sorted.scalars(), values.scalars());
        let order = |x: &lazul_ir::Scalar| x.to_c128();
        (0..v.len())
            .map(|i| {
                let row = &s[i / m * n..(i / m + 1) * n];
                let before = |x: &&lazul_ir::Scalar| {
                    let (x, v) = (order(x), order(&v[i]));
                    x < v || right && x == v
                };
                row.iter().filter(before).count() as u32
            })
            .collect()
    }

    #[test]
    fn every_dtype_layout_and_side() {
        let mut rng = Rng(7);
        for dtype in DType::ALL {
            for (b, n, m) in [(1, 0, 3), (1, 1, 2), (3, 17, 9), (2, 64, 5)] {
                let s = sorted(&mut rng, dtype, b, n);
                let v = rng.tensor(dtype, &[b, m], -10.0, 10.0);
                for right in [false, true] {
                    let want = expected(&s, &v, right);
                    for ((name, s), (_, v)) in layouts(&s).into_iter().zip(layouts(&v)) {
                        let prim = Prim::SearchSorted { right };
                        let got = run(&prim, &[&s, &v], DType::U32, &[b, m]);
                        assert_eq!(got.to_vec::<u32>(), want, "{dtype} {b} {n} {m} {right} {name}");
                    }
                }
            }
        }
    }

    #[test]
    fn nan_is_last_and_zeros_are_equal() {
        let nan = f32::NAN;
        let s = Tensor::new(
            &[f32::NEG_INFINITY, -1.0, -0.0, 0.0, 2.0, f32::INFINITY, nan, nan],
            &[1, 8],
        );
        let v = Tensor::new(&[nan, f32::INFINITY, 0.0, -0.0, f32::NEG_INFINITY, -nan], &[1, 6]);
        let find = |right| run(&Prim::SearchSorted { right }, &[&s, &v], DType::U32, &[1, 6]);
        assert_eq!(find(false).to_vec::<u32>(), [6, 5, 2, 2, 0, 6]);
        assert_eq!(find(true).to_vec::<u32>(), [8, 6, 4, 4, 1, 8]);
    }

    #[test]
    fn threads_do_not_change_it() {
        let mut rng = Rng(3);
        let s = sorted(&mut rng, DType::F32, 1, 5000);
        let v = rng.tensor(DType::F32, &[1, 40_000], -10.0, 10.0);
        let find = || run(&Prim::SearchSorted { right: true }, &[&s, &v], DType::U32, &[1, 40_000]);
        assert_eq!(find().bits(), inline(find).bits());
    }
}

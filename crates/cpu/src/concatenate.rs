//! Operands one after the other along an axis: each is copied into its slice of the output.

use crate::copy::copy_strided;
use lazul_ir::{Job, Shape};

/// Joins operands along `axis`.
pub(crate) fn concatenate(axis: usize, job: &Job<'_>) {
    let out = &job.outputs[0];
    let strides = Shape::new(out.shape).strides();
    let size = out.dtype.size();
    let mut at = 0;
    for input in job.inputs {
        // SAFETY: the slice `at..at + d` of the output along `axis` is this operand's alone.
        unsafe {
            let dst = out.ptr.offset(at * strides[axis] * size as isize);
            copy_strided(input.shape, size, input.ptr, input.strides, dst, &strides);
        }
        at += input.shape[axis] as isize;
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{Rng, layouts, run};
    use lazul_ir::{DType, Prim};

    #[test]
    fn operands_follow_one_another_along_every_axis() {
        let mut rng = Rng(3);
        for dtype in [DType::Bool, DType::F16, DType::I32, DType::C64] {
            for axis in 0..3usize {
                let (mut s1, mut s2, mut s3) = ([3, 4, 5], [3, 4, 5], [3, 4, 5]);
                (s1[axis], s2[axis], s3[axis]) = (2, 0, 7);
                let a = rng.tensor(dtype, &s1, 0.0, 9.0);
                let b = rng.tensor(dtype, &s2, 0.0, 9.0);
                let c = rng.tensor(dtype, &s3, 0.0, 9.0);
                let mut shape = s1;
                shape[axis] = 9;
                for (name, c) in layouts(&c) {
                    let prim = Prim::Concatenate { axis: axis as u8 };
                    let out = run(&prim, &[&a, &b, &c], dtype, &shape).bits();
                    let mut at = 0;
                    for i in 0..shape[0] {
                        for j in 0..shape[1] {
                            for k in 0..shape[2] {
                                let mut index = [i, j, k];
                                let first = index[axis] < 2;
                                let (t, s) = if first { (&a, s1) } else { (&c, s3) };
                                index[axis] -= if first { 0 } else { 2 };
                                let from = (index[0] * s[1] + index[1]) * s[2] + index[2];
                                assert_eq!(out[at], t.bits()[from], "{name} {index:?}");
                                at += 1;
                            }
                        }
                    }
                }
            }
        }
    }
}

//! Cases of the matrix product.

use crate::case::{ALL, AROUND, Case, Input};

pub(crate) fn matmul() -> Vec<Case> {
    let of: [[&[usize]; 2]; 11] = [
        [&[3, 4], &[4, 2]],
        [&[2, 3, 4], &[2, 4, 2]],
        [&[2, 3, 4], &[4, 2]],
        [&[3, 4], &[2, 4, 2]],
        [&[2, 1, 2, 3], &[3, 3, 2]],
        [&[4], &[4, 3]],
        [&[3, 4], &[4]],
        [&[4], &[4]],
        [&[1, 5], &[5, 1]],
        [&[0, 3], &[3, 2]],
        [&[2, 0], &[0, 3]],
    ];
    let case = |[a, b]: [&[usize]; 2]| {
        let inputs = vec![Input::numbers(a, AROUND), Input::numbers(b, AROUND)];
        Case::new(format!("matmul {a:?} {b:?}"), ALL, inputs, |x| x[0].matmul(&x[1]))
    };
    let mut all: Vec<Case> = of.into_iter().map(case).collect();
    let inputs = vec![Input::numbers(&[3, 2], AROUND)];
    all.push(Case::new("matmul x x^T", ALL, inputs, |x| x[0].matmul(&x[0].t())));
    all
}

//! Cases of products: of matrices, picked matrices and parts of them, and of convolutions.

use crate::case::{ALL, AROUND, Case, Input};
use lazul_core::{
    Array, Conv, ConvGeneral, ConvTranspose, ConvolveMode, DType, conv_general, conv_transpose2d,
    conv1d, conv2d, conv3d, convolve,
};
use lazul_ir::GroupedOp;

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

pub(crate) fn grouped(op: GroupedOp) -> Vec<Case> {
    let gather = |a: &[usize], b: &[usize], lhs: &[usize], rhs: &[usize]| {
        let count = |x: &[usize]| x[..x.len() - 2].iter().product();
        let inputs = vec![
            Input::numbers(a, AROUND),
            Input::numbers(b, AROUND),
            Input::indices(lhs, count(a), DType::I32),
            Input::indices(rhs, count(b), DType::U32),
        ];
        let f = |x: &[Array]| x[0].gather_mm(&x[1], Some(&x[2]), Some(&x[3]));
        Case::new(format!("gather_mm {a:?} {b:?} at {lhs:?} {rhs:?}"), ALL, inputs, f)
    };
    match op {
        GroupedOp::Gather => vec![
            gather(&[2, 2, 3], &[3, 3, 2], &[4], &[4]),
            gather(&[2, 1, 1, 2], &[3, 2, 2], &[2, 1], &[3]),
            gather(&[1, 2, 2], &[2, 2, 1], &[], &[]),
            gather(&[2, 2, 2], &[2, 2, 2], &[0], &[0]),
        ],
        // The gradient of picked products by their matrices: its cases are the second derivatives above,
        // and the batches of gradients. Here with one side in order.
        GroupedOp::Outer => {
            let inputs = vec![
                Input::numbers(&[3, 1, 2], AROUND),
                Input::numbers(&[2, 2, 2], AROUND),
                Input::indices(&[3], 2, DType::I64),
            ];
            let f = |x: &[Array]| x[0].gather_mm(&x[1], None, Some(&x[2]));
            vec![Case::new("gather_mm in order", ALL, inputs, f)]
        }
        GroupedOp::Segments => {
            let inputs = vec![
                Input::numbers(&[2, 5], AROUND),
                Input::numbers(&[5, 3], AROUND),
                Input::made(|rng| {
                    let mut cut = || {
                        let (a, b) = (rng.below(6) as i32, rng.below(6) as i32);
                        [a.min(b), a.max(b)]
                    };
                    Array::from_slice(&[cut(), cut(), cut(), [1, 1]].concat(), [2, 2, 2])
                }),
            ];
            vec![Case::new("segmented_mm", ALL, inputs, |x| x[0].segmented_mm(&x[1], &x[2]))]
        }
    }
}

pub(crate) fn conv() -> Vec<Case> {
    let with = |name: &str, x: &[usize], w: &[usize], f: fn(&Array, &Array) -> Array| {
        let inputs = vec![Input::numbers(x, AROUND), Input::numbers(w, AROUND)];
        Case::new(format!("{name} {x:?} {w:?}"), ALL, inputs, move |x| f(&x[0], &x[1]))
    };
    vec![
        with("conv1d", &[2, 4, 2], &[3, 2, 2], |x, w| conv1d(x, w, Conv::default())),
        with("conv1d strided and padded", &[1, 5, 1], &[2, 3, 1], |x, w| {
            conv1d(x, w, Conv { stride: 2.into(), padding: 1.into(), ..Default::default() })
        }),
        with("conv1d dilated in groups", &[1, 5, 4], &[2, 2, 2], |x, w| {
            conv1d(x, w, Conv { dilation: 2.into(), groups: 2, ..Default::default() })
        }),
        with("conv1d depthwise", &[1, 3, 3], &[3, 2, 1], |x, w| {
            conv1d(x, w, Conv { groups: 3, ..Default::default() })
        }),
        with("conv2d", &[1, 3, 4, 1], &[2, 2, 2, 1], |x, w| {
            conv2d(x, w, Conv { padding: [1, 0].into(), ..Default::default() })
        }),
        with("conv3d", &[1, 2, 2, 3, 1], &[1, 2, 1, 2, 1], |x, w| conv3d(x, w, Conv::default())),
        with("conv_transpose2d", &[1, 2, 2, 2], &[1, 2, 2, 2], |x, w| {
            let how = ConvTranspose { stride: 2.into(), padding: 1.into(), ..Default::default() };
            conv_transpose2d(x, w, ConvTranspose { output_padding: 1.into(), ..how })
        }),
        with("conv_general", &[1, 3, 2], &[2, 2, 1], |x, w| {
            let how = ConvGeneral {
                input_dilation: 2.into(),
                groups: 2,
                flip: true,
                ..Default::default()
            };
            conv_general(x, w, ConvGeneral { padding: (2.into(), (-1).into()), ..how })
        }),
        with("convolve", &[4], &[3], |a, v| convolve(a, v, ConvolveMode::Full)),
        with("conv1d of nothing", &[0, 4, 2], &[3, 2, 2], |x, w| conv1d(x, w, Conv::default())),
    ]
}

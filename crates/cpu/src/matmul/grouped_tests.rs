//! Grouped products against the products that they stand for.

use crate::testing::{Rng, Tensor, inline, layouts, run, try_run};
use lazul_ir::{DType, ErrorKind, GroupedOp, Prim, Work};

const DTYPES: [DType; 8] = [
    DType::F32,
    DType::F16,
    DType::BF16,
    DType::F64,
    DType::C64,
    DType::I32,
    DType::U8,
    DType::I64,
];

/// Matrix `i` of a row-major batch.
fn part(t: &Tensor, i: usize) -> Tensor {
    let mut t = t.clone();
    let rank = t.shape.len();
    t.offset += i * t.shape[rank - 2] * t.shape[rank - 1];
    t.shape.drain(..rank - 2);
    t.strides.drain(..rank - 2);
    t
}

fn matmul(a: &Tensor, b: &Tensor) -> Tensor {
    run(&Prim::Matmul, &[a, b], a.dtype, &[a.shape[0], b.shape[1]])
}

fn gather(a: &Tensor, b: &Tensor, lhs: &Tensor, rhs: &Tensor) -> Tensor {
    let (m, n) = (a.shape[a.shape.len() - 2], b.shape[b.shape.len() - 1]);
    let shape = [&lhs.shape[..], &[m, n]].concat();
    run(&Prim::Grouped(GroupedOp::Gather), &[a, b, lhs, rhs], a.dtype, &shape)
}

fn wrapped(t: &Tensor, count: usize) -> Vec<usize> {
    t.to_f64().iter().map(|&i| (i as i64).rem_euclid(count as i64) as usize).collect()
}

#[test]
fn gathered_products_have_the_bits_of_products() {
    let mut rng = Rng(1);
    for dtype in DTYPES {
        for (m, k, n) in [(1, 40, 70), (3, 17, 33), (20, 5, 130), (2, 0, 3)] {
            let a = rng.tensor(dtype, &[2, 3, m, k], -2.0, 2.0);
            let b = rng.tensor(dtype, &[4, k, n], -2.0, 2.0);
            let lhs = Tensor::new(&[5i64, 0, -1, 2, 2, 3, 1, 0, 4, -6], &[5, 2]);
            let rhs = Tensor::new(&[3u16, 0, 3, 1, 0, 3, 1, 1, 3, 0], &[5, 2]);
            let got = gather(&a, &b, &lhs, &rhs);
            assert_eq!(got.bits(), inline(|| gather(&a, &b, &lhs, &rhs)).bits());
            let (left, right) = (wrapped(&lhs, 6), wrapped(&rhs, 4));
            let want: Vec<u64> = (0..10)
                .flat_map(|i| matmul(&part(&a, left[i]), &part(&b, right[i])).bits())
                .collect();
            assert_eq!(got.bits(), want, "{dtype} {m}x{k}x{n}");
            for ((name, a), (_, b)) in layouts(&a).into_iter().zip(layouts(&b)) {
                assert_eq!(gather(&a, &b, &lhs, &rhs).bits(), want, "{dtype} {name}");
            }
            for ((name, lhs), (_, rhs)) in layouts(&lhs).into_iter().zip(layouts(&rhs)) {
                assert_eq!(gather(&a, &b, &lhs, &rhs).bits(), want, "{dtype} indices {name}");
            }
        }
    }
}

/// Many experts, few and many rows each, so that groups run at once and one after another.
#[test]
fn many_products() {
    let mut rng = Rng(2);
    for (count, skew) in [(64, false), (200, true), (3, false)] {
        let a = rng.tensor(DType::F32, &[50, 1, 96], -1.0, 1.0);
        let b = rng.tensor(DType::F32, &[40, 64, 96], -1.0, 1.0).transpose(&[0, 2, 1]);
        let pick = |rng: &mut Rng, n: f64| rng.uniform(0.0, n).floor() as i32;
        let lhs: Vec<i32> = (0..count).map(|_| pick(&mut rng, 50.0)).collect();
        let most = if skew { 1.5 } else { 40.0 };
        let rhs: Vec<i32> = (0..count).map(|_| pick(&mut rng, most)).collect();
        let (l, r) = (Tensor::new(&lhs, &[count]), Tensor::new(&rhs, &[count]));
        let got = gather(&a, &b, &l, &r);
        assert_eq!(got.bits(), inline(|| gather(&a, &b, &l, &r)).bits());
        for (i, got) in got.bits().chunks_exact(64).enumerate() {
            let mut right = b.clone();
            right.offset += rhs[i] as usize * 64 * 96;
            (right.shape, right.strides) = (right.shape[1..].to_vec(), right.strides[1..].to_vec());
            assert_eq!(got, matmul(&part(&a, lhs[i] as usize), &right).bits(), "{i}");
        }
    }
}

#[test]
fn sums_of_outer_products() {
    let mut rng = Rng(3);
    for dtype in DTYPES {
        for (m, k, n) in [(1, 20, 40), (5, 33, 3), (2, 7, 130)] {
            // Whole numbers, so that no order of summation rounds.
            let whole = |rng: &mut Rng, shape: &[usize]| {
                let t = rng.tensor(dtype, shape, 0.0, 3.0);
                let values: Vec<f64> = t.to_f64().iter().map(|x| x.floor()).collect();
                Tensor::from_f64(&values, dtype, shape)
            };
            let a = whole(&mut rng, &[2, 3, m, k]);
            let b = whole(&mut rng, &[4, m, n]);
            let lhs = Tensor::new(&[5i32, 0, -1, 2, 2, 3], &[2, 3]);
            let rhs = Tensor::new(&[3i32, 0, 3, 1, 0, -1], &[2, 3]);
            let to = Tensor::new(&[2i32, 0, 2, 2, -4, 2], &[2, 3]);
            let outer = |a: &Tensor, b: &Tensor| {
                let op = Prim::Grouped(GroupedOp::Outer);
                run(&op, &[a, b, &lhs, &rhs, &to], dtype, &[4, k, n])
            };
            let mut want = vec![0.0; 4 * k * n];
            let (left, right, to) = (wrapped(&lhs, 6), wrapped(&rhs, 4), wrapped(&to, 4));
            for i in 0..6 {
                let (a, b) = (part(&a, left[i]).to_f64(), part(&b, right[i]).to_f64());
                for (p, j, r) in (0..k)
                    .flat_map(|p| (0..n).map(move |j| (p, j)))
                    .flat_map(|(p, j)| (0..m).map(move |r| (p, j, r)))
                {
                    want[(to[i] * k + p) * n + j] += a[r * k + p] * b[r * n + j];
                }
            }
            let got = outer(&a, &b);
            assert_eq!(got.to_f64(), want, "{dtype} {m} {k} {n}");
            for ((name, a), (_, b)) in layouts(&a).into_iter().zip(layouts(&b)) {
                assert_eq!(outer(&a, &b).bits(), got.bits(), "{dtype} {name}");
            }
        }
    }
}

#[test]
fn segments_of_the_inner_axis() {
    let mut rng = Rng(4);
    for dtype in DTYPES {
        for (m, k, n) in [(1, 300, 70), (7, 64, 33)] {
            let a = rng.tensor(dtype, &[m, k], -2.0, 2.0);
            let b = rng.tensor(dtype, &[k, n], -2.0, 2.0);
            let ends = [0, k, 0, 0, 5, 6, 3, k - 1, k, k, 31, 64];
            let segments = Tensor::new(&ends.map(|x| x as u32), &[3, 2, 2]);
            let product = |a: &Tensor, b: &Tensor| {
                let op = Prim::Grouped(GroupedOp::Segments);
                run(&op, &[a, b, &segments], dtype, &[3, 2, m, n])
            };
            let got = product(&a, &b);
            for (pair, got) in ends.chunks_exact(2).zip(got.bits().chunks_exact(m * n)) {
                let (mut left, mut right) = (a.clone(), b.clone());
                left.offset += pair[0];
                right.offset += pair[0] * n;
                (left.shape[1], right.shape[0]) = (pair[1] - pair[0], pair[1] - pair[0]);
                assert_eq!(got, matmul(&left, &right).bits(), "{dtype} {pair:?}");
            }
            for ((name, a), (_, b)) in layouts(&a).into_iter().zip(layouts(&b)) {
                assert_eq!(product(&a, &b).bits(), got.bits(), "{dtype} {name}");
            }
        }
    }
}

#[test]
fn indices_are_checked() {
    let a = Tensor::new(&[1f32; 12], &[3, 2, 2]);
    let at = |i: i64| Tensor::new(&[0, i], &[2]);
    let fails = |op: GroupedOp, inputs: &[&Tensor], shape: &[usize], what: &str| {
        let prim = Prim::Grouped(op);
        let mut out = [Tensor::empty(DType::F32, shape)];
        let error = try_run(Work::Prim(&prim), inputs, &mut out).unwrap_err();
        assert_eq!((error.kind(), error.op()), (ErrorKind::Index, op.name()));
        assert!(error.message().contains(what), "{error}");
    };
    for bad in [3, -4, i64::MIN, i64::MAX] {
        let said = format!("index {bad} is out of bounds for 3");
        fails(GroupedOp::Gather, &[&a, &a, &at(bad), &at(0)], &[2, 2, 2], &said);
        fails(GroupedOp::Gather, &[&a, &a, &at(0), &at(bad)], &[2, 2, 2], &said);
        fails(GroupedOp::Outer, &[&a, &a, &at(bad), &at(0), &at(0)], &[3, 2, 2], &said);
        fails(GroupedOp::Outer, &[&a, &a, &at(0), &at(bad), &at(0)], &[3, 2, 2], &said);
        fails(GroupedOp::Outer, &[&a, &a, &at(0), &at(0), &at(bad)], &[3, 2, 2], &said);
    }
    // An index is checked even where there is nothing to compute.
    let empty = Tensor::from_f64(&[], DType::F32, &[3, 0, 2]);
    fails(GroupedOp::Gather, &[&empty, &a, &at(7), &at(0)], &[2, 0, 2], "index 7");
    let b = Tensor::new(&[1f32; 4], &[2, 2]);
    for (start, end) in [(0, 3), (2, 1), (-1, 1), (3, 3), (0, i64::MAX)] {
        let pair = Tensor::new(&[start, end], &[1, 2]);
        let said = format!("{start}..{end}");
        fails(GroupedOp::Segments, &[&b, &b, &pair], &[1, 2, 2], &said);
    }
}

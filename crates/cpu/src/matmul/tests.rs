//! Products against a naive reference in double precision (and in wide integers).

use crate::testing::{Rng, Tensor, inline, layouts, run};
use lazul_ir::{Complex32, DType, Kind, Prim};

/// Naive product of row-major values; `(re, im)` pairs, and the sum of absolute products.
fn reference(a: &Tensor, b: &Tensor) -> (Vec<(f64, f64)>, Vec<f64>) {
    let rank = a.shape.len();
    let (m, k, n) = (a.shape[rank - 2], a.shape[rank - 1], b.shape[rank - 1]);
    let batch: usize = a.shape[..rank - 2].iter().product();
    let values =
        |t: &Tensor| -> Vec<(f64, f64)> { t.scalars().iter().map(|s| s.to_c128()).collect() };
    let (av, bv) = (values(a), values(b));
    let mut out = vec![(0.0, 0.0); batch * m * n];
    let mut sizes = vec![0.0; batch * m * n];
    for z in 0..batch {
        for i in 0..m {
            for p in 0..k {
                let x = av[(z * m + i) * k + p];
                for j in 0..n {
                    let y = bv[(z * k + p) * n + j];
                    let o = &mut out[(z * m + i) * n + j];
                    o.0 += x.0 * y.0 - x.1 * y.1;
                    o.1 += x.0 * y.1 + x.1 * y.0;
                    let size = (x.0.abs() + x.1.abs()) * (y.0.abs() + y.1.abs());
                    sizes[(z * m + i) * n + j] += size;
                }
            }
        }
    }
    (out, sizes)
}

fn random(rng: &mut Rng, dtype: DType, shape: &[usize]) -> Tensor {
    match dtype.kind() {
        Kind::Complex => {
            let n = shape.iter().product();
            let v: Vec<Complex32> = (0..n)
                .map(|_| {
                    Complex32::new(rng.uniform(-1.0, 1.0) as f32, rng.uniform(-1.0, 1.0) as f32)
                })
                .collect();
            Tensor::new(&v, shape)
        }
        Kind::Bool => {
            let n = shape.iter().product();
            let v: Vec<f64> = (0..n).map(|_| (rng.below(4) == 0) as u8 as f64).collect();
            Tensor::from_f64(&v, dtype, shape)
        }
        Kind::Int => rng.tensor(dtype, shape, if dtype.is_unsigned() { 0.0 } else { -90.0 }, 90.0),
        Kind::Float => rng.tensor(dtype, shape, -1.0, 1.0),
    }
}

/// Whether `got` is the product: integers exactly (wrapping), floats within rounding.
#[track_caller]
fn check(a: &Tensor, b: &Tensor, got: &Tensor, what: &str) {
    let (want, sizes) = reference(a, b);
    let k = a.shape[a.shape.len() - 1] as f64;
    let epsilon = match a.dtype {
        DType::F64 => 2f64.powi(-52),
        _ => 2f64.powi(-23),
    };
    let rounding = match a.dtype {
        DType::F16 => 2f64.powi(-11),
        DType::BF16 => 2f64.powi(-8),
        _ => 0.0,
    };
    for (i, (got, (&want, &size))) in got.scalars().iter().zip(want.iter().zip(&sizes)).enumerate()
    {
        match a.dtype.kind() {
            Kind::Bool => assert_eq!(got.bits != 0, want.0 != 0.0, "{what} [{i}]"),
            Kind::Int => {
                // Test values are small enough for the sum to be exact in a double.
                let bits = 8 * a.dtype.size() as u32;
                let mask = if bits == 64 { u64::MAX } else { (1 << bits) - 1 };
                assert_eq!(got.bits & mask, want.0 as i64 as u64 & mask, "{what} [{i}]");
            }
            _ => {
                let (re, im) = got.to_c128();
                let tolerance =
                    epsilon * (k + 2.0) * size + rounding * want.0.abs() + 1e-7 * rounding;
                assert!((re - want.0).abs() <= tolerance, "{what} [{i}]: {re} != {}", want.0);
                assert!((im - want.1).abs() <= tolerance, "{what} [{i}]: {im} != {} i", want.1);
            }
        }
    }
}

fn product(a: &Tensor, b: &Tensor) -> Tensor {
    let rank = a.shape.len();
    let mut shape = a.shape.clone();
    shape[rank - 1] = b.shape[rank - 1];
    run(&Prim::Matmul, &[a, b], a.dtype, &shape)
}

#[test]
fn every_dtype_and_layout() {
    let mut rng = Rng(1);
    for dtype in DType::ALL {
        for (m, k, n) in [(1, 1, 1), (4, 4, 4), (7, 19, 33), (3, 40, 5), (1, 70, 9), (30, 3, 2)] {
            let (a, b) = (random(&mut rng, dtype, &[m, k]), random(&mut rng, dtype, &[k, n]));
            for (la, a) in layouts(&a) {
                for (lb, b) in layouts(&b) {
                    let what = format!("{dtype} {m}x{k}x{n}, {la} by {lb}");
                    check(&a, &b, &product(&a, &b), &what);
                }
            }
        }
    }
}

#[test]
fn sizes_around_the_edges_of_blocks() {
    let mut rng = Rng(2);
    for m in [1, 2, 4, 5, 11, 12, 13, 25, 64] {
        for n in [1, 7, 8, 15, 16, 17, 31, 32, 33, 63, 64, 65, 129] {
            for k in [0, 1, 2, 15, 16, 17, 33] {
                let a = random(&mut rng, DType::F32, &[m, k]);
                let b = random(&mut rng, DType::F32, &[n, k]).transpose(&[1, 0]);
                check(&a, &b, &product(&a, &b), &format!("{m}x{k}x{n}"));
            }
        }
    }
    for (m, k, n) in [(3, 511, 70), (14, 513, 260), (70, 1025, 131), (530, 300, 40), (2, 2000, 600)]
    {
        for dtype in [DType::F32, DType::F64, DType::F16, DType::BF16, DType::I32, DType::C64] {
            let (a, b) = (random(&mut rng, dtype, &[m, k]), random(&mut rng, dtype, &[k, n]));
            let t = random(&mut rng, dtype, &[n, k]).transpose(&[1, 0]);
            check(&a, &b, &product(&a, &b), &format!("{dtype} {m}x{k}x{n}"));
            check(&a, &t, &product(&a, &t), &format!("{dtype} {m}x{k}x{n} transposed"));
        }
    }
}

#[test]
fn empty_products() {
    for dtype in DType::ALL {
        let empty = |shape: &[usize]| Tensor::from_f64(&[], dtype, shape);
        let zeros = product(&empty(&[2, 3, 0]), &empty(&[2, 0, 5]));
        assert!(zeros.bits().iter().all(|&b| b == 0), "{dtype}");
        assert_eq!(product(&empty(&[0, 3, 4]), &empty(&[0, 4, 5])).size(), 0);
        assert_eq!(product(&empty(&[0, 4]), &Rng(3).tensor(dtype, &[4, 5], 0.0, 1.0)).size(), 0);
    }
}

#[test]
fn batches_with_shared_and_permuted_operands() {
    let mut rng = Rng(4);
    for dtype in [DType::F32, DType::BF16, DType::I16, DType::C64] {
        for m in [1, 3] {
            let a = random(&mut rng, dtype, &[2, 3, m, 9]);
            let w = random(&mut rng, dtype, &[9, 20]);
            let b = random(&mut rng, dtype, &[3, 9, 20]);
            let each = random(&mut rng, dtype, &[2, 3, 9, 20]);
            let one = random(&mut rng, dtype, &[m, 9]);
            for (name, a, b) in [
                ("shared right", a.clone(), w.broadcast(&[2, 3, 9, 20])),
                ("right shared by the outer axis", a.clone(), b.broadcast(&[2, 3, 9, 20])),
                ("all different", a.clone(), each.clone()),
                ("shared left", one.broadcast(&[2, 3, m, 9]), each.clone()),
                (
                    "permuted left",
                    random(&mut rng, dtype, &[3, m, 2, 9]).transpose(&[2, 0, 1, 3]),
                    w.broadcast(&[2, 3, 9, 20]),
                ),
            ] {
                check(&a, &b, &product(&a, &b), &format!("{dtype} m={m} {name}"));
            }
        }
    }
    let a = random(&mut rng, DType::F32, &[300, 8, 8]);
    let b = random(&mut rng, DType::F32, &[300, 8, 8]);
    check(&a, &b, &product(&a, &b), "many small ones");
}

#[test]
fn integers_wrap() {
    let a = Tensor::new(&[200u8, 100], &[1, 2]);
    let b = Tensor::new(&[3u8, 7], &[2, 1]);
    assert_eq!(product(&a, &b).to_vec::<u8>(), [(200u32 * 3 + 700) as u8]);
    let a = Tensor::new(&[i64::MAX, 5], &[1, 2]);
    let b = Tensor::new(&[3i64, 7], &[2, 1]);
    assert_eq!(product(&a, &b).to_vec::<i64>(), [i64::MAX.wrapping_mul(3).wrapping_add(35)]);
}

#[test]
fn not_a_number_spreads_along_its_row_only() {
    let mut a = Rng(5).vec(20 * 40, -1.0, 1.0);
    a[3 * 40 + 17] = f64::NAN;
    for dtype in [DType::F16, DType::BF16, DType::F32, DType::F64] {
        let a = Tensor::from_f64(&a, dtype, &[20, 40]);
        let b = Rng(6).tensor(dtype, &[40, 50], -1.0, 1.0);
        for (i, x) in product(&a, &b).to_f64().iter().enumerate() {
            assert_eq!(x.is_nan(), i / 50 == 3);
        }
    }
}

/// A row's result has the same bits in a product of one row, of many, and in a batch; whether `b`
/// is transposed or not; and for any number of threads.
#[test]
fn bits_depend_on_row_and_column_only() {
    let mut rng = Rng(7);
    for dtype in [DType::F32, DType::F64, DType::F16, DType::BF16, DType::C64] {
        for (m, k, n) in [(40, 700, 90), (5, 1500, 333), (33, 257, 7), (70, 2600, 70)] {
            let a = random(&mut rng, dtype, &[m, k]);
            let b = random(&mut rng, dtype, &[k, n]);
            let bt = b.transpose(&[1, 0]);
            let bt = bt.stored(n * k, &[k as isize, 1], 0).transpose(&[1, 0]);
            let whole = product(&a, &b).bits();
            assert_eq!(whole, product(&a, &bt).bits(), "{dtype} transposed");
            assert_eq!(whole, inline(|| product(&a, &b)).bits(), "{dtype} on one thread");
            // Split numbers go to the matrix engine only where there are rows enough.
            let split = crate::isa::tiles() && matches!(dtype, DType::F16 | DType::F32);
            for rows in [1, 2, 3, 8, 13].into_iter().filter(|_| !split) {
                let rows = rows.min(m);
                let mut part = a.clone();
                part.offset = (m - rows) * k;
                part.shape[0] = rows;
                for b in [&b, &bt] {
                    let got = product(&part, b).bits();
                    assert_eq!(got, whole[(m - rows) * n..], "{dtype} {rows} of {m} rows");
                }
            }
            let batch = product(&a.broadcast(&[3, m, k]), &b.broadcast(&[3, k, n])).bits();
            assert_eq!(batch[m * n..2 * m * n], whole, "{dtype} in a batch");
        }
    }
}

/// Sizes around the panels, steps and blocks of the matrix engine (other levels see them too), with
/// operands that lie in every way, in place and packed, on one thread and on all.
#[test]
fn sizes_around_the_edges_of_tiles() {
    let mut rng = Rng(8);
    for (m, k, n) in [
        (1, 31, 1),
        (1, 4099, 17),
        (16, 64, 15),
        (17, 65, 49),
        (31, 33, 48),
        (48, 96, 97),
        (47, 95, 64),
        (49, 2080, 33),
        (64, 1031, 65),
        (65, 129, 64),
        (97, 32, 96),
        (200, 577, 130),
        (33, 4129, 40),
        (3, 2048, 700),
    ] {
        for dtype in [DType::BF16, DType::F16, DType::F32, DType::I8, DType::U8, DType::Bool] {
            let (a, b) = (random(&mut rng, dtype, &[m, k]), random(&mut rng, dtype, &[k, n]));
            let at = random(&mut rng, dtype, &[k, m]).transpose(&[1, 0]);
            let bt = random(&mut rng, dtype, &[n, k]).transpose(&[1, 0]);
            for (name, a, b) in [("nn", &a, &b), ("nt", &a, &bt), ("tn", &at, &b), ("tt", &at, &bt)]
            {
                let what = format!("{dtype} {m}x{k}x{n} {name}");
                let got = product(a, b);
                check(a, b, &got, &what);
                assert_eq!(got.bits(), inline(|| product(a, b)).bits(), "{what} on one thread");
            }
        }
    }
}

/// Numbers that bf16 parts cannot hold (too large, too small, not finite) among others that they can:
/// every element is as right as by multiply-adds.
#[test]
fn extreme_numbers_stay_right() {
    let mut rng = Rng(9);
    let (m, k, n) = (70, 600, 66);
    let fill = |rng: &mut Rng, scale: f64, count: usize| -> Vec<f64> {
        rng.vec(count, -1.0, 1.0).iter().map(|x| x * scale).collect()
    };
    for (dtype, left, right) in [
        (DType::F32, 1e-38, 1e30),
        (DType::F32, 1e-42, 1e34),
        (DType::F32, 1e37, 1e-30),
        (DType::F32, 1e-20, 1e-17),
        (DType::F32, 1e-14, 1e-14),
        (DType::F16, 6e-8, 1e3),
        (DType::F16, 1e-5, 1.0),
    ] {
        let (mut a, b) = (fill(&mut rng, 1.0, m * k), fill(&mut rng, right, k * n));
        for row in [0, 3, 40] {
            a[row * k..][..k].iter_mut().for_each(|x| *x *= left);
        }
        let (a, b) = (Tensor::from_f64(&a, dtype, &[m, k]), Tensor::from_f64(&b, dtype, &[k, n]));
        check(&a, &b, &product(&a, &b), &format!("{dtype} {left:e} by {right:e}"));
    }
    for dtype in [DType::F16, DType::F32, DType::BF16] {
        for bad in [f64::INFINITY, f64::NEG_INFINITY, f64::NAN] {
            let mut a = fill(&mut rng, 1.0, m * k);
            a[5 * k + 577] = bad;
            let b: Vec<f64> = fill(&mut rng, 1.0, k * n).iter().map(|x| x.abs() + 0.1).collect();
            let (a, b) =
                (Tensor::from_f64(&a, dtype, &[m, k]), Tensor::from_f64(&b, dtype, &[k, n]));
            for (i, x) in product(&a, &b).to_f64().into_iter().enumerate() {
                match i / n == 5 {
                    true if bad.is_nan() => assert!(x.is_nan(), "{dtype} {bad} [{i}]: {x}"),
                    true => assert_eq!(x, bad, "{dtype} [{i}]"),
                    false => assert!(x.is_finite(), "{dtype} {bad} [{i}]: {x}"),
                }
            }
        }
    }
}

/// The root mean square error of a product of normal-looking numbers, in units of the sum of the
/// absolute products: f32 and f16 are no worse on the matrix engine than by multiply-adds.
#[test]
fn split_numbers_lose_nothing() {
    let mut rng = Rng(10);
    for (dtype, limit) in [(DType::F32, 3.0e-8), (DType::F16, 8e-5)] {
        for k in [64, 1000, 3000] {
            let (a, b) = (random(&mut rng, dtype, &[64, k]), random(&mut rng, dtype, &[k, 64]));
            let (want, sizes) = reference(&a, &b);
            let got = product(&a, &b).to_f64();
            let squares = got.iter().zip(want.iter().zip(&sizes));
            let sum: f64 = squares.map(|(g, (w, s))| ((g - w.0) / s).powi(2)).sum();
            let error = (sum / got.len() as f64).sqrt();
            eprintln!("{dtype} k={k}: {error:e}");
            assert!(error < limit, "{dtype} k={k}: {error:e}");
        }
    }
}

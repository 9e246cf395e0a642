//! Factorizations by what they promise: products give the matrix back, bases are orthonormal, triangles
//! are triangles; over shapes on both sides of every threshold, layouts, ranks, and sizes of numbers.

use crate::testing::{Rng, Tensor, inline, layouts, run, try_run};
use lazul_ir::{Complex32, DType, ErrorKind, LinalgOp, Prim, Vectors, Work};
use num_complex::Complex64;

type Dense = Vec<Vec<Complex64>>;

fn prim(op: LinalgOp) -> Prim {
    Prim::Linalg(op)
}

/// A matrix of a tensor `(…, m, n)`.
fn dense(t: &Tensor, index: usize) -> Dense {
    let (m, n) = (t.shape[t.shape.len() - 2], t.shape[t.shape.len() - 1]);
    let values: Vec<Complex64> = match t.dtype {
        DType::C64 => {
            let wide = |z: &Complex32| Complex64::new(z.re as f64, z.im as f64);
            t.to_vec::<Complex32>().iter().map(wide).collect()
        }
        _ => t.to_f64().iter().map(|&x| Complex64::new(x, 0.0)).collect(),
    };
    let part = &values[index * m * n..(index + 1) * m * n];
    (0..m).map(|i| part[i * n..(i + 1) * n].to_vec()).collect()
}

fn product(a: &Dense, b: &Dense) -> Dense {
    let n = b.first().map_or(0, |r| r.len());
    let entry = |row: &[Complex64], j: usize| row.iter().zip(b).map(|(x, b)| x * b[j]).sum();
    a.iter().map(|row| (0..n).map(|j| entry(row, j)).collect()).collect()
}

fn adjoint(a: &Dense) -> Dense {
    let n = a.first().map_or(0, |r| r.len());
    (0..n).map(|j| a.iter().map(|r| r[j].conj()).collect()).collect()
}

/// The columns of a matrix times numbers.
fn scaled(a: &Dense, by: &[Complex64]) -> Dense {
    a.iter().map(|r| r.iter().zip(by).map(|(x, s)| x * s).collect()).collect()
}

fn largest(a: &Dense) -> f64 {
    a.iter().flatten().map(|x| x.norm()).fold(0.0, f64::max)
}

#[track_caller]
fn near(a: &Dense, b: &Dense, bound: f64) {
    assert_eq!((a.len(), a.first().map(|r| r.len())), (b.len(), b.first().map(|r| r.len())));
    for (i, (x, y)) in a.iter().zip(b).enumerate() {
        for (j, (x, y)) in x.iter().zip(y).enumerate() {
            let error = (x - y).norm();
            assert!(error <= bound, "({i},{j}): {x} and {y} differ by {error:e} > {bound:e}");
        }
    }
}

/// `qᴴq = 1`.
#[track_caller]
fn orthonormal(q: &Dense, bound: f64) {
    let n = q.first().map_or(0, |r| r.len());
    let one = (0..n)
        .map(|i| (0..n).map(|j| Complex64::new((i == j) as u8 as f64, 0.0)).collect())
        .collect();
    near(&product(&adjoint(q), q), &one, bound);
}

#[track_caller]
fn upper_triangular(r: &Dense) {
    let below = r.iter().enumerate().flat_map(|(i, r)| r.iter().take(i));
    assert!(below.into_iter().all(|x| x.norm() == 0.0));
}

/// Random entries from -1 to 1.
fn random(rng: &mut Rng, dtype: DType, shape: &[usize]) -> Tensor {
    if dtype != DType::C64 {
        return rng.tensor(dtype, shape, -1.0, 1.0);
    }
    let n: usize = shape.iter().product();
    let value = |rng: &mut Rng| rng.uniform(-1.0, 1.0) as f32;
    let values: Vec<_> = (0..n).map(|_| Complex32::new(value(rng), value(rng))).collect();
    Tensor::new(&values, shape)
}

/// A tensor of real matrices, made by a function of batch index, row and column.
fn made(dtype: DType, shape: [usize; 3], entry: impl Fn(usize, usize, usize) -> f64) -> Tensor {
    let [b, m, n] = shape;
    let values: Vec<f64> = (0..b * m * n).map(|k| entry(k / (m * n), k / n % m, k % n)).collect();
    Tensor::from_f64(&values, dtype, &shape)
}

/// `x·xᴴ + 1`, a positive definite matrix.
fn positive(rng: &mut Rng, dtype: DType, b: usize, n: usize) -> Tensor {
    let x = random(rng, dtype, &[b, n, n]);
    let mut values = Vec::new();
    for i in 0..b {
        let x = dense(&x, i);
        for (i, row) in product(&x, &adjoint(&x)).iter().enumerate() {
            for (j, z) in row.iter().enumerate() {
                values.push(z + if i == j { 1.0 } else { 0.0 });
            }
        }
    }
    if dtype == DType::C64 {
        let values: Vec<_> =
            values.iter().map(|z| Complex32::new(z.re as f32, z.im as f32)).collect();
        return Tensor::new(&values, &[b, n, n]);
    }
    let values: Vec<_> = values.iter().map(|z| z.re).collect();
    Tensor::from_f64(&values, dtype, &[b, n, n])
}

/// Runs an operation with several outputs.
fn several(op: LinalgOp, inputs: &[&Tensor], outputs: &[(DType, &[usize])]) -> Vec<Tensor> {
    let mut out: Vec<_> = outputs.iter().map(|(d, s)| Tensor::empty(*d, s)).collect();
    try_run(Work::Prim(&prim(op)), inputs, &mut out).unwrap();
    out
}

const DTYPES: [DType; 3] = [DType::F32, DType::F64, DType::C64];

/// How far a product of rounded factors may be off, a unit of the numbers' size.
fn rounding(dtype: DType, n: usize) -> f64 {
    let one = if dtype == DType::F64 { 4e-16 } else { 1.2e-7 };
    one * (n as f64).sqrt().max(1.0) * 8.0
}

fn real(dtype: DType) -> DType {
    if dtype == DType::C64 { DType::F32 } else { dtype }
}

const SHAPES: [[usize; 2]; 12] = [
    [1, 1],
    [2, 2],
    [3, 5],
    [5, 3],
    [17, 17],
    [40, 33],
    [33, 40],
    [70, 20],
    [20, 70],
    [64, 64],
    [130, 100],
    [9, 1],
];

#[test]
fn lu_gives_the_rows_back() {
    let mut rng = Rng(11);
    for dtype in DTYPES {
        for [m, n] in SHAPES {
            let (a, k) = (random(&mut rng, dtype, &[2, m, n]), m.min(n));
            let outputs: [(DType, &[usize]); 3] =
                [(dtype, &[2, m, n]), (DType::U32, &[2, k]), (DType::U32, &[2, m])];
            let out = several(LinalgOp::Lu, &[&a], &outputs);
            let (pivots, order) = (out[1].to_vec::<u32>(), out[2].to_vec::<u32>());
            for b in 0..2 {
                let (a, lu) = (dense(&a, b), dense(&out[0], b));
                let zero = Complex64::default();
                let l: Dense = (0..m)
                    .map(|i| {
                        let one = Complex64::new(1.0, 0.0);
                        let entry = |j| if j < i { lu[i][j] } else { zero };
                        (0..k).map(|j| if i == j { one } else { entry(j) }).collect()
                    })
                    .collect();
                let u: Dense = (0..k)
                    .map(|i| (0..n).map(|j| if j >= i { lu[i][j] } else { zero }).collect())
                    .collect();
                assert!(largest(&l) <= if dtype == DType::C64 { 1.5 } else { 1.0 });
                let order = &order[b * m..(b + 1) * m];
                let rows: Dense = order.iter().map(|&i| a[i as usize].clone()).collect();
                near(&product(&l, &u), &rows, rounding(dtype, k) * 4.0);
                let mut swapped: Vec<u32> = (0..m as u32).collect();
                for (i, &p) in pivots[b * k..(b + 1) * k].iter().enumerate() {
                    assert!(p as usize >= i);
                    swapped.swap(i, p as usize);
                }
                assert_eq!(swapped, order);
            }
        }
    }
}

#[test]
fn lu_of_singular_matrices() {
    for n in [2, 20, 50] {
        // Rank one, and a zero column in front.
        for zeros in [0, 1] {
            let a = made(DType::F64, [1, n, n], |_, i, j| {
                if j < zeros { 0.0 } else { (1.0 + i as f64) * (2.0 - j as f64) }
            });
            let outputs: [(DType, &[usize]); 3] =
                [(DType::F64, &[1, n, n]), (DType::U32, &[1, n]), (DType::U32, &[1, n])];
            let out = several(LinalgOp::Lu, &[&a], &outputs);
            assert!(out[0].to_f64().iter().all(|x| x.is_finite()));
            let lu = dense(&out[0], 0);
            assert!((0..n).any(|i| lu[i][i].norm() == 0.0), "{n}");
        }
    }
}

#[test]
fn determinants() {
    let det = |a: &Tensor| run(&prim(LinalgOp::Det), &[a], a.dtype, &a.shape[..1]).to_f64();
    let a = Tensor::from_f64(&[1.0, 2.0, 3.0, 4.0, 0.0, 1.0, -1.0, 0.0], DType::F32, &[2, 2, 2]);
    assert_eq!(det(&a), [-2.0, 1.0]);
    assert_eq!(det(&Tensor::empty(DType::F64, &[3, 0, 0])), [1.0; 3]);
    let ones = made(DType::F64, [1, 40, 40], |_, _, _| 1.0);
    assert_eq!(det(&ones), [0.0]);
    // A permutation of n rows by one place, times i + 1: an odd one for even n.
    let shift = made(
        DType::F64,
        [1, 20, 20],
        |_, i, j| {
            if (i + 1) % 20 == j { i as f64 + 1.0 } else { 0.0 }
        },
    );
    let factorial: f64 = (1..=20).map(f64::from).product();
    assert_eq!(det(&shift), [-factorial]);
}

#[track_caller]
fn check_qr(a: &Tensor, full: bool) {
    let dtype = a.dtype;
    let (lead, tail) = a.shape.split_at(a.shape.len() - 2);
    let (m, n) = (tail[0], tail[1]);
    let p = if full { m } else { m.min(n) };
    let (qs, rs) = ([lead, &[m, p]].concat(), [lead, &[p, n]].concat());
    let out = several(LinalgOp::Qr { full }, &[a], &[(dtype, &qs), (dtype, &rs)]);
    for b in 0..lead.iter().product() {
        let (a, q, r) = (dense(a, b), dense(&out[0], b), dense(&out[1], b));
        let bound = rounding(dtype, m.max(n));
        orthonormal(&q, bound);
        upper_triangular(&r);
        assert!((0..p.min(n)).all(|i| r[i][i].im == 0.0));
        near(&product(&q, &r), &a, bound * largest(&a));
    }
}

#[test]
fn qr_gives_the_matrix_back() {
    let mut rng = Rng(12);
    for dtype in DTYPES {
        for [m, n] in SHAPES {
            for full in [false, true] {
                check_qr(&random(&mut rng, dtype, &[2, m, n]), full);
            }
        }
    }
}

/// Matrices that are nearly or exactly of low rank, to full precision.
#[test]
fn qr_of_dependent_columns() {
    let mut rng = Rng(13);
    let noise = rng.vec(300 * 10, -1.0, 1.0);
    let cases = [
        made(DType::F64, [1, 100, 100], |_, i, j| 1.0 / (1 + i + j) as f64),
        made(DType::F64, [1, 200, 40], |_, i, j| (i as f64 / 200.0).powi(j as i32)),
        made(DType::F64, [1, 300, 10], |_, i, j| noise[i] + 1e-12 * noise[i * 10 + j]),
        made(DType::F64, [1, 50, 40], |_, _, _| 1.0),
        made(DType::F64, [1, 30, 40], |_, _, _| 0.0),
        made(DType::F64, [1, 5, 5], |_, i, j| 1e300 * (1.0 + (i * 3 + j * j) as f64 / 9.0)),
        made(DType::F64, [1, 5, 5], |_, i, j| 1e-305 * (1.0 + (i * 3 + j * j) as f64)),
    ];
    for a in &cases {
        check_qr(a, false);
        check_qr(a, true);
    }
}

#[track_caller]
fn check_svd(a: &Tensor) -> Vec<f64> {
    let dtype = a.dtype;
    let (lead, tail) = a.shape.split_at(a.shape.len() - 2);
    let (m, n, k) = (tail[0], tail[1], tail[0].min(tail[1]));
    let at = |tail: &[usize]| [lead, tail].concat();
    let alone = run(&prim(LinalgOp::Svd(Vectors::No)), &[a], real(dtype), &at(&[k])).to_f64();
    for vectors in [Vectors::Reduced, Vectors::Full] {
        let (p, q) = if vectors == Vectors::Full { (m, n) } else { (k, k) };
        let out = several(
            LinalgOp::Svd(vectors),
            &[a],
            &[(dtype, &at(&[m, p])), (real(dtype), &at(&[k])), (dtype, &at(&[q, n]))],
        );
        let s = out[1].to_f64();
        for b in 0..lead.iter().product() {
            let (a, u, vh) = (dense(a, b), dense(&out[0], b), dense(&out[2], b));
            let s = &s[b * k..(b + 1) * k];
            assert!(s.windows(2).all(|w| w[0] >= w[1]) && s.iter().all(|&s| s >= 0.0));
            let bound = rounding(dtype, m.max(n));
            orthonormal(&u, bound);
            orthonormal(&adjoint(&vh), bound);
            let s: Vec<_> = s.iter().map(|&s| Complex64::new(s, 0.0)).collect();
            let left: Dense = u.iter().map(|r| r[..k].to_vec()).collect();
            let right: Dense = vh[..k].to_vec();
            let size = s.first().map_or(0.0, |s| s.re);
            near(&product(&scaled(&left, &s), &right), &a, bound * size);
            for (x, y) in s.iter().zip(&alone[b * k..]) {
                assert!((x.re - y).abs() <= bound * size);
            }
        }
    }
    alone
}

#[test]
fn svd_gives_the_matrix_back() {
    let mut rng = Rng(14);
    for dtype in DTYPES {
        for [m, n] in SHAPES.into_iter().chain([[150, 140]]) {
            check_svd(&random(&mut rng, dtype, &[2, m, n]));
        }
    }
}

#[test]
fn svd_of_special_matrices() {
    // Singular values of a diagonal matrix are its entries' sizes.
    let entries = [3.0, -2.0, 0.0, 1e-9, 5.0];
    let a = made(DType::F64, [1, 5, 5], |_, i, j| if i == j { entries[i] } else { 0.0 });
    let s = check_svd(&a);
    for (s, want) in s.iter().zip([5.0, 3.0, 2.0, 1e-9, 0.0]) {
        assert!((s - want).abs() < 1e-15);
    }
    check_svd(&made(DType::F64, [1, 30, 12], |_, _, _| 0.0));
    check_svd(&made(DType::F64, [1, 40, 40], |_, _, _| 1.0));
    check_svd(&made(DType::F32, [1, 30, 30], |_, i, j| (i == j) as u8 as f64));
    for size in [1e300, 1e-300, 1e-310] {
        let s = check_svd(&made(DType::F64, [1, 6, 4], |_, i, j| {
            size * (1.0 + (i * 3 + j * j) as f64 / 7.0)
        }));
        assert!(s[0].is_finite() && s[0] > size);
    }
    // Tall, with columns that nearly depend on one another: the least value keeps its digits. The two
    // columns are (1, …) and (1, …) + ε(1, -1, 1, …); the least value is √(m/2)·ε.
    let (m, e) = (200, 1e-9);
    let s = check_svd(&made(DType::F64, [1, m, 2], |_, i, j| {
        if j == 0 { 1.0 } else { 1.0 + e * if i % 2 == 0 { 1.0 } else { -1.0 } }
    }));
    let want = (m as f64 / 2.0).sqrt() * e;
    assert!((s[1] - want).abs() < 1e-6 * want, "{} {want}", s[1]);
}

#[track_caller]
fn check_eigh(a: &Tensor, upper: bool) {
    let dtype = a.dtype;
    let (lead, n) = (&a.shape[..a.shape.len() - 2], a.shape[a.shape.len() - 1]);
    let at = |tail: &[usize]| [lead, tail].concat();
    let values = LinalgOp::Eigh { upper, vectors: false };
    let alone = run(&prim(values), &[a], real(dtype), &at(&[n])).to_f64();
    let out = several(
        LinalgOp::Eigh { upper, vectors: true },
        &[a],
        &[(real(dtype), &at(&[n])), (dtype, &at(&[n, n]))],
    );
    let w = out[0].to_f64();
    for b in 0..lead.iter().product() {
        let (mut a, v) = (dense(a, b), dense(&out[1], b));
        for i in 0..n {
            for j in 0..n {
                // What the triangle that is read says of the other.
                if (i < j) == upper && i != j {
                    a[j][i] = a[i][j].conj();
                }
            }
            a[i][i].im = 0.0;
        }
        let w = &w[b * n..(b + 1) * n];
        assert!(w.windows(2).all(|w| w[0] <= w[1]));
        let (bound, size) = (rounding(dtype, n), w.iter().fold(0.0f64, |m, w| m.max(w.abs())));
        orthonormal(&v, bound);
        let values: Vec<_> = w.iter().map(|&w| Complex64::new(w, 0.0)).collect();
        near(&product(&a, &v), &scaled(&v, &values), bound * size.max(1e-300) * 4.0);
        for (x, y) in w.iter().zip(&alone[b * n..]) {
            assert!((x - y).abs() <= bound * size * 4.0);
        }
    }
}

#[test]
fn eigh_reads_one_triangle() {
    let mut rng = Rng(15);
    for dtype in DTYPES {
        for n in [1, 2, 3, 16, 33, 70, 140] {
            for upper in [false, true] {
                check_eigh(&random(&mut rng, dtype, &[2, n, n]), upper);
            }
        }
    }
    for size in [1.0, 1e300, 1e-300] {
        check_eigh(&made(DType::F64, [1, 9, 9], |_, i, j| size * (i + j) as f64 / 9.0), false);
        check_eigh(&made(DType::F64, [1, 9, 9], |_, i, j| size * (i == j) as u8 as f64), false);
    }
    check_eigh(&made(DType::F64, [1, 9, 9], |_, _, _| 0.0), true);
}

#[track_caller]
fn check_eig(a: &Tensor) -> Vec<Complex64> {
    let (lead, n) = (&a.shape[..a.shape.len() - 2], a.shape[a.shape.len() - 1]);
    let at = |tail: &[usize]| [lead, tail].concat();
    let c = DType::C64;
    let out = several(LinalgOp::Eig { vectors: true }, &[a], &[(c, &at(&[n])), (c, &at(&[n, n]))]);
    let wide = |z: &Complex32| Complex64::new(z.re as f64, z.im as f64);
    let w: Vec<_> = out[0].to_vec::<Complex32>().iter().map(wide).collect();
    let alone = run(&prim(LinalgOp::Eig { vectors: false }), &[a], c, &at(&[n]));
    let alone: Vec<_> = alone.to_vec::<Complex32>().iter().map(wide).collect();
    for b in 0..lead.iter().product() {
        let (a, v) = (dense(a, b), dense(&out[1], b));
        let w = &w[b * n..(b + 1) * n];
        let size = largest(&a).max(1e-300);
        for j in 0..n {
            let length: f64 = v.iter().map(|r| r[j].norm_sqr()).sum();
            assert!((length - 1.0).abs() < 1e-5, "column {j} has length² {length}");
        }
        near(&product(&a, &v), &scaled(&v, w), 1e-5 * size * (n as f64).sqrt());
        // The same values, in whatever order.
        for x in &alone[b * n..(b + 1) * n] {
            let nearest = w.iter().map(|y| (x - y).norm()).fold(f64::INFINITY, f64::min);
            assert!(nearest <= 2e-2 * size, "{x} is not among {w:?}");
        }
    }
    w
}

#[test]
fn eig_of_any_matrix() {
    let mut rng = Rng(16);
    for dtype in DTYPES {
        for n in [1, 2, 3, 10, 33, 80] {
            check_eig(&random(&mut rng, dtype, &[2, n, n]));
        }
    }
    let rotation = made(DType::F64, [1, 2, 2], |_, i, j| (i as f64) - (j as f64));
    let mut w = check_eig(&rotation);
    w.sort_by(|a, b| a.im.total_cmp(&b.im));
    assert_eq!(w, [Complex64::new(0.0, -1.0), Complex64::new(0.0, 1.0)]);
    check_eig(&made(DType::F64, [1, 30, 30], |_, i, j| ((i + 1) % 30 == j) as u8 as f64));
    check_eig(&made(DType::F64, [1, 6, 6], |_, _, _| 0.0));
    check_eig(&made(DType::F64, [1, 20, 20], |_, i, j| (i == j) as u8 as f64));
    check_eig(&made(DType::F32, [1, 5, 5], |_, i, j| 1e30 * (1 + i * 2 + j * j) as f64));
}

/// One eigenvalue with one vector, however large the block.
#[test]
fn eig_of_jordan_blocks() {
    for n in [2, 8, 30, 100] {
        let a = made(DType::F64, [1, n, n], |_, i, j| match (i == j, i + 1 == j) {
            (true, _) => 2.0,
            (_, true) => 1.0,
            _ => 0.0,
        });
        let w = check_eig(&a);
        assert!(w.iter().all(|w| (w - 2.0).norm() < 1e-6), "{w:?}");
    }
}

#[test]
fn cholesky_of_either_triangle() {
    let mut rng = Rng(17);
    for dtype in DTYPES {
        for n in [1, 2, 5, 40, 130] {
            let a = positive(&mut rng, dtype, 2, n);
            for upper in [false, true] {
                // The other triangle does not count.
                let mut other = a.clone();
                if dtype == DType::F64 {
                    let mut values = a.to_f64();
                    for (k, x) in values.iter_mut().enumerate() {
                        let (i, j) = (k / n % n, k % n);
                        if if upper { i > j } else { i < j } {
                            *x = f64::NAN;
                        }
                    }
                    other = Tensor::from_f64(&values, dtype, &a.shape);
                }
                let op = prim(LinalgOp::Cholesky { upper });
                let l = run(&op, &[&other], dtype, &[2, n, n]);
                for b in 0..2 {
                    let (a, l) = (dense(&a, b), dense(&l, b));
                    let l = if upper { adjoint(&l) } else { l };
                    upper_triangular(&adjoint(&l));
                    let bound = rounding(dtype, n) * largest(&a);
                    near(&product(&l, &adjoint(&l)), &a, bound);
                }
            }
        }
    }
}

#[test]
fn triangles_are_solved() {
    let mut rng = Rng(18);
    for dtype in DTYPES {
        for (n, k) in [(1, 1), (2, 3), (20, 1), (70, 5), (33, 40)] {
            let (a, b) = (random(&mut rng, dtype, &[2, n, n]), random(&mut rng, dtype, &[2, n, k]));
            for (upper, unit) in [(false, false), (false, true), (true, false), (true, true)] {
                // Off the diagonal small, so that solutions are.
                let triangle: Vec<Dense> = (0..2)
                    .map(|m| {
                        let mut a = dense(&a, m);
                        for i in 0..n {
                            for j in 0..n {
                                let counts = if upper { i < j } else { i > j };
                                if i == j {
                                    a[i][j] = if unit { 1.0.into() } else { a[i][j] + 2.0 };
                                } else {
                                    a[i][j] = if counts { a[i][j] / n as f64 } else { 0.0.into() };
                                }
                            }
                        }
                        a
                    })
                    .collect();
                // What does not count holds nonsense.
                let values: Vec<Complex64> = triangle
                    .iter()
                    .flat_map(|a| {
                        a.iter().enumerate().flat_map(move |(i, row)| {
                            row.iter().enumerate().map(move |(j, &x)| {
                                let other = if upper { i > j } else { i < j };
                                if other || unit && i == j { (-7.0).into() } else { x }
                            })
                        })
                    })
                    .collect();
                let stored = if dtype == DType::C64 {
                    let values: Vec<_> = values
                        .iter()
                        .map(|z: &Complex64| Complex32::new(z.re as f32, z.im as f32))
                        .collect();
                    Tensor::new(&values, &[2, n, n])
                } else {
                    let values: Vec<_> = values.iter().map(|z| z.re).collect();
                    Tensor::from_f64(&values, dtype, &[2, n, n])
                };
                let op = prim(LinalgOp::SolveTriangular { upper, unit });
                let x = run(&op, &[&stored, &b], dtype, &[2, n, k]);
                for m in 0..2 {
                    let bound = rounding(dtype, n) * 4.0;
                    near(&product(&triangle[m], &dense(&x, m)), &dense(&b, m), bound);
                }
            }
        }
    }
}

#[test]
fn systems_are_solved_and_matrices_inverted() {
    let mut rng = Rng(19);
    for dtype in DTYPES {
        for n in [1, 2, 3, 17, 50, 100] {
            let (a, b) = (positive(&mut rng, dtype, 2, n), random(&mut rng, dtype, &[2, n, 3]));
            let x = run(&prim(LinalgOp::Solve), &[&a, &b], dtype, &[2, n, 3]);
            let inverse = run(&prim(LinalgOp::Inverse), &[&a], dtype, &[2, n, n]);
            for m in 0..2 {
                let a = dense(&a, m);
                let bound = rounding(dtype, n) * largest(&a) * 4.0;
                near(&product(&a, &dense(&x, m)), &dense(&b, m), bound);
                let x = product(&dense(&inverse, m), &dense(&b, m));
                near(&product(&a, &x), &dense(&b, m), bound * 4.0);
            }
        }
    }
}

/// `a·p·a = a`, `p·a·p = p`, and both products Hermitian.
#[test]
fn pseudo_inverses() {
    let mut rng = Rng(20);
    for dtype in DTYPES {
        for [m, n] in SHAPES {
            // Of full rank, and of rank one less.
            for drop in [false, true] {
                let mut a = random(&mut rng, dtype, &[1, m, n]);
                if drop && dtype == DType::F64 {
                    let mut values = a.to_f64();
                    for i in 0..m {
                        values[i * n + n - 1] = values[i * n] * 2.0;
                    }
                    a = Tensor::from_f64(&values, dtype, &[1, m, n]);
                }
                let p = run(&prim(LinalgOp::PseudoInverse), &[&a], dtype, &[1, n, m]);
                let (a, p) = (dense(&a, 0), dense(&p, 0));
                let (ap, pa) = (product(&a, &p), product(&p, &a));
                let bound = rounding(dtype, m.max(n)) * largest(&p).max(1.0) * 30.0;
                near(&product(&ap, &a), &a, bound);
                near(&product(&pa, &p), &p, bound * largest(&p).max(1.0));
                near(&ap, &adjoint(&ap), bound);
                near(&pa, &adjoint(&pa), bound);
            }
        }
    }
}

#[test]
fn layouts_and_threads_change_no_bit() {
    let mut rng = Rng(21);
    for dtype in DTYPES {
        let (a, b) = (positive(&mut rng, dtype, 7, 5), random(&mut rng, dtype, &[7, 5, 2]));
        let solve =
            |a: &Tensor, b: &Tensor| run(&prim(LinalgOp::Solve), &[a, b], dtype, &[7, 5, 2]);
        let want = solve(&a, &b).bits();
        for (name, a) in layouts(&a) {
            for (other, b) in layouts(&b) {
                assert_eq!(solve(&a, &b).bits(), want, "{name}, {other}");
            }
        }
        let many = positive(&mut rng, dtype, 200, 20);
        let inverse = || run(&prim(LinalgOp::Inverse), &[&many], dtype, &[200, 20, 20]).bits();
        assert_eq!(inverse(), inline(inverse));
        let one = random(&mut rng, dtype, &[1, 4, 4]).broadcast(&[3, 4, 4]);
        let op = LinalgOp::Qr { full: false };
        let outputs: [(DType, &[usize]); 2] = [(dtype, &[3, 4, 4]), (dtype, &[3, 4, 4])];
        let q = several(op, &[&one], &outputs)[0].bits();
        assert_eq!(q[..16], q[16..32]);
    }
}

#[test]
fn matrices_without_entries() {
    for dtype in DTYPES {
        let tall = Tensor::empty(dtype, &[2, 3, 0]);
        let out = several(
            LinalgOp::Qr { full: true },
            &[&tall],
            &[(dtype, &[2, 3, 3]), (dtype, &[2, 3, 0])],
        );
        orthonormal(&dense(&out[0], 1), 0.0);
        for (a, m, n) in [(&tall, 3, 0), (&Tensor::empty(dtype, &[2, 0, 3]), 0, 3)] {
            let out = several(
                LinalgOp::Svd(Vectors::Full),
                &[a],
                &[(dtype, &[2, m, m]), (real(dtype), &[2, 0]), (dtype, &[2, n, n])],
            );
            orthonormal(&dense(&out[0], 1), 0.0);
            orthonormal(&dense(&out[2], 1), 0.0);
            let op = prim(LinalgOp::PseudoInverse);
            assert_eq!(run(&op, &[a], dtype, &[2, n, m]).size(), 0);
            let op = LinalgOp::Lu;
            let outputs: [(DType, &[usize]); 3] =
                [(dtype, &[2, m, n]), (DType::U32, &[2, 0]), (DType::U32, &[2, m])];
            let order = several(op, &[a], &outputs)[2].to_vec::<u32>();
            assert_eq!(order[..m], (0..m as u32).collect::<Vec<_>>()[..]);
        }
    }
}

/// The error of an operation on two matrices of which the second is the given one.
#[track_caller]
fn refused(op: LinalgOp, second: &[f64]) -> String {
    let mut values = vec![2.0, 0.0, 0.0, 1.0];
    values.extend_from_slice(second);
    let a = Tensor::from_f64(&values, DType::F32, &[1, 2, 2, 2]);
    let b = Tensor::from_f64(&[1.0; 4], DType::F32, &[1, 2, 2, 1]);
    let inputs = match op {
        LinalgOp::Solve | LinalgOp::SolveTriangular { .. } => vec![&a, &b],
        _ => vec![&a],
    };
    let (m, v) = ([1, 2, 2, 2], [1, 2, 2]);
    let (f, c) = (DType::F32, DType::C64);
    let outputs: Vec<(DType, &[usize])> = match op {
        LinalgOp::Lu => vec![(f, &m), (DType::U32, &v), (DType::U32, &v)],
        LinalgOp::Det => vec![(f, &[1, 2])],
        LinalgOp::Qr { .. } => vec![(f, &m), (f, &m)],
        LinalgOp::Svd(_) => vec![(f, &m), (f, &v), (f, &m)],
        LinalgOp::Eigh { .. } => vec![(f, &v), (f, &m)],
        LinalgOp::Eig { .. } => vec![(c, &v), (c, &m)],
        LinalgOp::Solve | LinalgOp::SolveTriangular { .. } => vec![(f, &[1, 2, 2, 1])],
        _ => vec![(f, &m)],
    };
    let mut out: Vec<_> = outputs.iter().map(|(d, s)| Tensor::empty(*d, s)).collect();
    let error = try_run(Work::Prim(&prim(op)), &inputs, &mut out).unwrap_err();
    assert_eq!((error.kind(), error.op()), (ErrorKind::Value, op.name()));
    assert!(error.message().starts_with("the matrix at (0,1) "), "{error}");
    error.message().to_string()
}

#[test]
fn what_is_wrong_with_a_matrix_is_said() {
    let every = [
        LinalgOp::Lu,
        LinalgOp::Det,
        LinalgOp::Qr { full: false },
        LinalgOp::Svd(Vectors::Reduced),
        LinalgOp::Eigh { upper: false, vectors: true },
        LinalgOp::Eig { vectors: true },
        LinalgOp::Cholesky { upper: false },
        LinalgOp::SolveTriangular { upper: false, unit: false },
        LinalgOp::Solve,
        LinalgOp::Inverse,
        LinalgOp::PseudoInverse,
    ];
    for op in every {
        for wrong in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let text = refused(op, &[1.0, 1.0, wrong, 2.0]);
            assert!(text.ends_with("has an entry that is NaN or infinite"), "{text}");
        }
    }
    for op in [LinalgOp::Solve, LinalgOp::Inverse] {
        let text = refused(op, &[1.0, 2.0, 2.0, 4.0]);
        assert!(text.ends_with("is singular: pivot 1 is zero"), "{text}");
        assert!(refused(op, &[0.0; 4]).ends_with("is singular: pivot 0 is zero"));
    }
    let lower = LinalgOp::SolveTriangular { upper: false, unit: false };
    assert!(refused(lower, &[1.0, 0.0, 5.0, 0.0]).ends_with("is singular: pivot 1 is zero"));
    for matrix in [[-1.0, 0.0, 0.0, 1.0], [1.0, 2.0, 2.0, 1.0], [0.0; 4]] {
        let text = refused(LinalgOp::Cholesky { upper: false }, &matrix);
        assert!(text.ends_with("is not positive definite"), "{text}");
    }
}

//! Linear algebra: what is refused, shapes and dtypes, errors of evaluation, and every derivative against
//! finite differences. Values are compared with NumPy's, SciPy's and PyTorch's in `lazul-testkit`.

use super::*;
use crate::error::ErrorKind;
use crate::ops::creation::{eye, full, ones, zeros};
use crate::random;
use crate::transforms::{grad, jvp, vjp, vmap};
use lazul_ir::Complex32;

fn random(shape: &[usize], dtype: DType, seed: u64) -> Array {
    let uniform = |seed| random::uniform(-1.0, 1.0, shape, DType::F32, Some(&random::key(seed)));
    if dtype == DType::C64 {
        return uniform(seed) + uniform(seed + 1000) * Complex32::new(0.0, 1.0);
    }
    uniform(seed).astype(dtype)
}

/// Sum of products of real and imaginary parts.
fn inner(a: &Array, b: &Array) -> f64 {
    (a * b.conj()).real().sum(..).astype(DType::F64).item().unwrap()
}

fn largest(a: &Array) -> f64 {
    if a.size().unwrap() == 0 { 0.0 } else { a.abs().max(..).astype(DType::F64).item().unwrap() }
}

#[track_caller]
fn assert_close(a: &Array, b: &Array, bound: f64, what: &str) {
    assert_eq!(a.shape().unwrap(), b.shape().unwrap(), "{what}");
    assert_eq!(a.dtype().unwrap(), b.dtype().unwrap(), "{what}");
    let (far, size) = (largest(&(a - b)), largest(b).max(1.0));
    assert!(far <= bound * size, "{what}: {far:e} of {size:e}\n{a}\n{b}");
}

/// How a derivative is looked at: the step, and how near it has to be to the difference quotient.
#[derive(Clone, Copy)]
struct Step(f64, f64);

/// Double precision, and single precision inside or outside.
const FINE: Step = Step(1e-5, 1e-7);
const COARSE: Step = Step(1e-2, 4e-3);

/// Forward derivatives are difference quotients, backward ones the adjoints of forward ones, and a batch
/// is one by one.
#[track_caller]
fn check(what: &str, f: impl Fn(&Array) -> Array, x: &Array, step: Step) {
    let (f, Step(h, bound)) = (&f, step);
    let quotient =
        |g: &dyn Fn(&Array) -> Array, t: &Array| (g(&(x + t * h)) - g(&(x - t * h))) * (0.5 / h);
    let like = |a: &Array, seed| random(a.shape().unwrap(), a.dtype().unwrap(), seed);
    let t = like(x, 1);
    let (y, dy) = jvp(f, x, &t).unwrap();
    assert_close(&dy, &quotient(f, &t), bound, &format!("{what}: forward"));
    let c = like(&y, 2);
    let (_, dx) = vjp(f, x, &c).unwrap();
    assert_eq!(dx.dtype().unwrap(), x.dtype().unwrap());
    let (a, b) = (inner(&c, &dy), inner(&dx, &t));
    let adjoint = if step.0 == FINE.0 { 1e-9 } else { 1e-3 };
    assert!((a - b).abs() <= adjoint * (1.0 + a.abs()), "{what}: {a} forward, {b} backward");
    // Once more.
    let back = |x: &Array| vjp(f, x, &c).unwrap().1;
    let u = like(x, 3);
    let (_, second) = jvp(back, x, &u).unwrap();
    assert_close(&second, &quotient(&back, &u), bound * 100.0, &format!("{what}: second"));
    let many = stack(&[x.clone(), x + &t * 0.01], 0);
    let each = stack(&[f(x), f(&(x + &t * 0.01))], 0);
    assert_close(&vmap(f)(&many).unwrap(), &each, 1e-5, &format!("{what}: batch"));
}

/// The columns' outer products with themselves, weighted: what is left of a basis when signs and
/// directions do not count.
fn shape_of(v: &Array, by: &Array) -> Array {
    (v * by.expand_dims(-2)).matmul(&v.mt().conj())
}

fn symmetric(x: &Array) -> Array {
    (x + x.mt().conj()) * 0.5
}

fn positive(x: &Array) -> Array {
    let n = x.dim(-1).unwrap();
    symmetric(x) + identity(n, DType::F32).astype(x.0.dtype) * 4.0
}

#[test]
fn derivatives_of_solvers() {
    for (dtype, step) in [(DType::F64, FINE), (DType::C64, COARSE)] {
        let n = 4;
        let wide = |x: &Array| x + identity(n, dtype) * 3.0;
        let (x, b) = (random(&[2, n, n], dtype, 10), random(&[2, n, 3], dtype, 11));
        check("inv", |x| inv(&wide(x)), &x, step);
        check("solve, a", |x| solve(&wide(x), &b), &x, step);
        check("solve, b", |b| solve(&wide(&x), b), &b, step);
        check("solve, both", |x| solve(&wide(x), x), &x, step);
        let (one, vector) = (x.at_index(0, 0), random(&[n], dtype, 12));
        check("solve, one", |b| solve(&wide(&one), b), &b, step);
        check("solve, vector", |x| solve(&wide(x), &vector), &x, step);
        for upper in [false, true] {
            let op = |a: &Array, b: &Array| solve_triangular(&wide(a), b, upper);
            check("solve_triangular, a", |x| op(x, &b), &x, step);
            check("solve_triangular, b", |b| op(&x, b), &b, step);
            let unit = |a: &Array, b: &Array| triangular(&wide(a), b, upper, true);
            check("unit triangle, a", |x| unit(x, &b), &x, step);
            check("unit triangle, b", |b| unit(&x, b), &b, step);
            check("tri_inv", |x| tri_inv(&wide(x), upper), &x, step);
            check("cholesky", |x| cholesky(&positive(x), upper), &x, step);
            let inverse = |x: &Array| cholesky_inv(&cholesky(&positive(x), upper), upper);
            check("cholesky_inv", inverse, &x, step);
        }
        check("matrix_power", |x| matrix_power(&wide(x), 3), &x, step);
        check("matrix_power, negative", |x| matrix_power(&wide(x), -2), &x, step);
    }
}

#[test]
fn derivatives_of_pseudo_inverses() {
    for (dtype, step) in [(DType::F64, FINE), (DType::C64, COARSE)] {
        for (m, n) in [(3, 3), (5, 3), (3, 5)] {
            let x = random(&[2, m, n], dtype, 20) + eye(m, n, 0, dtype) * 2.0;
            check("pinv", pinv, &x, step);
            let b = random(&[2, m, 2], dtype, 21);
            check("lstsq", |x| lstsq(x, &b), &x, step);
        }
    }
    // An orthogonal matrix, all of whose singular values are 1, and one of low rank along changes that
    // keep the rank.
    check("pinv of 1", pinv, &identity(3, DType::F64), FINE);
    let (a, b) = (random(&[4, 2], DType::F64, 22), random(&[2, 5], DType::F64, 23));
    check("pinv of rank 2", |a| pinv(&a.matmul(&b)), &a, FINE);
}

#[test]
fn derivatives_of_determinants() {
    for (dtype, step) in [(DType::F64, FINE), (DType::C64, COARSE)] {
        let x = random(&[2, 4, 4], dtype, 30);
        check("det", det, &x, step);
        check("slogdet", |x| slogdet(x).1, &(&x + identity(4, dtype) * 2.0), step);
        check("direction", |x| slogdet(x).0, &(&x + identity(4, dtype) * 2.0), step);
    }
}

/// The determinant is a polynomial: it has a gradient where there is no inverse.
#[test]
fn determinants_of_singular_matrices() {
    let rank_one = Array::from_slice(&[1.0f64, 2.0, 2.0, 4.0], [2, 2]);
    let gradient = |a: &Array| grad(det)(a).unwrap();
    assert_eq!(gradient(&rank_one).round(6).to_vec::<f64>().unwrap(), [4.0, -2.0, -2.0, 1.0]);
    let none = gradient(&zeros([3, 3], DType::F64));
    assert_eq!(none.abs().round(6).to_vec::<f64>().unwrap(), [0.0; 9]);
    // Ones above the diagonal: only the corner below matters.
    let n = 6;
    let shifted = gradient(&eye(n, n, 1, DType::F32));
    let corner = eye(n, n, -(n as i64) + 1, DType::F32) * -1.0;
    assert_close(&shifted, &corner, 1e-6, "nilpotent");
    let singular = slogdet(&rank_one);
    assert_eq!(singular.0.item::<f64>().unwrap(), 0.0);
    assert_eq!(singular.1.item::<f64>().unwrap(), f64::NEG_INFINITY);
}

#[test]
fn derivatives_of_lu() {
    for (dtype, step) in [(DType::F64, FINE), (DType::C64, COARSE)] {
        for (m, n) in [(4, 4), (5, 3), (3, 5), (1, 3), (3, 1)] {
            let x = random(&[2, m, n], dtype, 40) + eye(m, n, 0, dtype) * 2.0;
            check("lu_factor", |x| lu_factor(x).0, &x, step);
            check("lu, lower", |x| lu(x).1, &x, step);
            check("lu, upper", |x| lu(x).2, &x, step);
        }
    }
}

#[test]
fn derivatives_of_qr() {
    for (dtype, step) in [(DType::F64, FINE), (DType::C64, COARSE)] {
        for (m, n) in [(3, 3), (5, 3), (3, 5), (1, 2), (2, 1)] {
            let x = random(&[2, m, n], dtype, 50) + eye(m, n, 0, dtype) * 2.0;
            for factors in [Factors::Reduced, Factors::Full] {
                let k = m.min(n) as i64;
                let what = |part: &str| format!("qr {m}x{n} {factors:?} {dtype} {part}");
                check(&what("q"), |x| qr(x, factors).0.slice_axis(-1, 0, k), &x, step);
                check(&what("r"), |x| qr(x, factors).1, &x, step);
                let rest = |x: &Array| {
                    let q = qr(x, factors).0.slice_axis(-1, k, None);
                    q.matmul(&q.mt().conj())
                };
                if factors == Factors::Full && m > n {
                    check(&what("rest"), rest, &x, step);
                }
                let both = |x: &Array| {
                    let (q, r) = qr(x, factors);
                    q.abs().square().sum([-2, -1]) + r.abs().square().square().sum([-2, -1])
                };
                check(&what("both"), both, &x, step);
            }
        }
    }
}

#[test]
fn derivatives_of_svd() {
    for (dtype, step) in [(DType::F64, FINE), (DType::C64, COARSE)] {
        for (m, n) in [(3, 3), (5, 3), (3, 5), (1, 2), (2, 1)] {
            let k = m.min(n);
            // Singular values about 1, 2, 3 apart from one another.
            let spread = eye(m, n, 0, dtype) * (arange(n, DType::F32) + 1.0);
            let x = random(&[2, m, n], dtype, 60) * 0.3 + spread;
            let weights = arange(k, DType::F32).cos() + 2.0;
            check("svdvals", svdvals, &x, step);
            for factors in [Factors::Reduced, Factors::Full] {
                let what = |part: &str| format!("svd {m}x{n} {factors:?} {dtype} {part}");
                let left = |x: &Array| {
                    let u = svd(x, factors).0.slice_axis(-1, 0, k as i64);
                    shape_of(&u, &weights)
                };
                let right = |x: &Array| {
                    let vh = svd(x, factors).2.slice_axis(-2, 0, k as i64);
                    shape_of(&vh.mt().conj(), &weights)
                };
                let product = |x: &Array| {
                    let (u, s, vh) = svd(x, factors);
                    let u = u.slice_axis(-1, 0, k as i64) * (s.square() + &weights).expand_dims(-2);
                    u.matmul(&vh.slice_axis(-2, 0, k as i64))
                };
                check(&what("values"), |x| svd(x, factors).1, &x, step);
                check(&what("left"), left, &x, step);
                check(&what("right"), right, &x, step);
                check(&what("product"), product, &x, step);
                if factors == Factors::Full {
                    let rest_left = |x: &Array| {
                        let u = svd(x, factors).0.slice_axis(-1, k as i64, None);
                        u.matmul(&u.mt().conj())
                    };
                    let rest_right = |x: &Array| {
                        let v = svd(x, factors).2.slice_axis(-2, k as i64, None);
                        v.mt().conj().matmul(&v)
                    };
                    check(&what("rest, left"), rest_left, &x, step);
                    check(&what("rest, right"), rest_right, &x, step);
                }
            }
        }
    }
}

#[test]
fn derivatives_of_eigh() {
    for (dtype, step) in [(DType::F64, FINE), (DType::C64, COARSE)] {
        for n in [1, 2, 4] {
            let spread = identity(n, dtype) * arange(n, DType::F32);
            let x = random(&[2, n, n], dtype, 70) * 0.3 + spread;
            let weights = arange(n, DType::F32).cos() + 2.0;
            for upper in [false, true] {
                check("eigvalsh", |x| eigvalsh(&symmetric(x), upper), &x, step);
                check("eigh, values", |x| eigh(&symmetric(x), upper).0, &x, step);
                let vectors = |x: &Array| shape_of(&eigh(&symmetric(x), upper).1, &weights);
                check("eigh, vectors", vectors, &x, step);
                let exponential = |x: &Array| {
                    let (w, v) = eigh(&symmetric(x), upper);
                    shape_of(&v, &w.exp())
                };
                check("eigh, exponential", exponential, &x, step);
            }
        }
    }
}

#[test]
fn derivatives_of_eig() {
    for dtype in [DType::F32, DType::F64, DType::C64] {
        for n in [1, 2, 3] {
            let spread = identity(n, dtype) * (arange(n, DType::F32) * 2.0 + 1.0);
            let x = random(&[2, n, n], dtype, 80) * 0.5 + spread;
            // What does not depend on the order of the values and the directions of the vectors.
            check("eigvals", |x| eigvals(x).square().sum(-1), &x, COARSE);
            check("eig, values", |x| eig(x).0.square().square().sum(-1) * 0.1, &x, COARSE);
            let vectors = |x: &Array| {
                let (w, v) = eig(x);
                (v.abs().square() * (w * 0.5).expand_dims(-2)).sum(-1)
            };
            check("eig, vectors", vectors, &x, COARSE);
        }
    }
    // Values that come in conjugate pairs.
    let turn = Array::from_slice(&[0.5f64, -2.0, 1.0, 0.2], [2, 2]);
    check("eig, pair", |x| eig(x).0.square().imag().abs().sum(-1), &turn, COARSE);
    check("eig, pair", |x| eig(x).1.abs().square().sum(-1), &turn, COARSE);
}

#[test]
fn derivatives_of_norms() {
    for (dtype, step) in [(DType::F64, FINE), (DType::C64, COARSE)] {
        let x = random(&[3, 4, 2], dtype, 90);
        let orders = [None]
            .into_iter()
            .chain([Order::Inf, Order::NegInf].map(Some))
            .chain([1.0, -1.0, 2.0, -2.0, 3.0, 0.5, -3.0].map(|p| Some(Order::P(p))));
        for order in orders {
            let how = Norm { order, axes: Some(vec![1]), ..Norm::default() };
            check(&format!("{how:?}"), |x| norm(x, &how), &x, step);
        }
        let orders = [Order::Frobenius, Order::Nuclear, Order::Inf, Order::NegInf].into_iter();
        for order in orders.chain([1.0, -1.0, 2.0, -2.0].map(Order::P)) {
            for axes in [vec![0, 1], vec![2, -3]] {
                let how = Norm { order: Some(order), axes: Some(axes), keepdims: true };
                check(&format!("{how:?}"), |x| norm(x, &how), &x, step);
            }
        }
        let (a, b) = (random(&[4, 3], dtype, 91), random(&[2, 1, 3], dtype, 92));
        check("cross, a", |a| cross(a, &b, -1), &a, step);
        check("cross, b", |b| cross(&a, b, -1), &b, step);
    }
    let at_zero = |order| {
        let how = Norm { order, ..Norm::default() };
        let x = zeros([3], DType::F32);
        grad(move |x: &Array| norm(x, &how))(&x).unwrap().to_vec::<f32>().unwrap()
    };
    assert_eq!(at_zero(None), [0.0; 3]);
    assert_eq!(at_zero(Some(Order::P(2.0))), [0.0; 3]);
    assert_eq!(at_zero(Some(Order::P(3.0))), [0.0; 3]);
}

/// Gradients of values are right where vectors have none, and those of vectors are no number at all.
#[test]
fn coinciding_values() {
    let one = identity(3, DType::F64);
    let sum = grad(|x: &Array| svdvals(x).sum(..))(&one).unwrap();
    assert_close(&sum, &one, 1e-12, "nuclear norm");
    let sum = grad(|x: &Array| eigvalsh(x, false).sum(..))(&one).unwrap();
    assert_close(&sum, &one, 1e-12, "trace");
    let vectors = grad(|x: &Array| (eigh(x, false).1 * random(&[3, 3], DType::F64, 5)).sum(..));
    assert!(vectors(&one).unwrap().to_vec::<f64>().unwrap().iter().any(|x| x.is_nan()));
}

#[test]
fn shapes_and_dtypes() {
    for dtype in DType::ALL {
        let a = (identity(3, DType::F32) * 2.0).astype(dtype).broadcast_to([5, 3, 3]);
        let expected = match dtype {
            DType::F64 | DType::C64 => dtype,
            _ => DType::F32,
        };
        let real = if expected == DType::C64 { DType::F32 } else { expected };
        let is = |a: &Array, shape: &[usize], dtype| {
            a.eval().unwrap();
            assert_eq!((a.shape().unwrap(), a.dtype().unwrap()), (shape, dtype));
        };
        let b = ones([3], dtype);
        is(&inv(&a), &[5, 3, 3], expected);
        is(&pinv(&a.slice_axis(1, 0, 2)), &[5, 3, 2], expected);
        is(&det(&a), &[5], expected);
        is(&slogdet(&a).0, &[5], expected);
        is(&slogdet(&a).1, &[5], real);
        is(&solve(&a, &b), &[5, 3], expected);
        is(&solve_triangular(&a, &b, true), &[5, 3], expected);
        is(&lstsq(&a, &b), &[5, 3], expected);
        is(&cholesky(&a, false), &[5, 3, 3], expected);
        is(&svdvals(&a), &[5, 3], real);
        is(&eigvalsh(&a, false), &[5, 3], real);
        is(&eigh(&a, true).1, &[5, 3, 3], expected);
        is(&eigvals(&a), &[5, 3], DType::C64);
        is(&eig(&a).1, &[5, 3, 3], DType::C64);
        is(&matrix_power(&a, 0), &[5, 3, 3], expected);
        let (p, l, u) = lu(&a.slice_axis(1, 0, 2));
        is(&p, &[5, 2], DType::U32);
        is(&l, &[5, 2, 2], expected);
        is(&u, &[5, 2, 3], expected);
        let (lu, pivots) = lu_factor(&a.slice_axis(2, 0, 1));
        is(&lu, &[5, 3, 1], expected);
        is(&pivots, &[5, 1], DType::U32);
        let tall = a.slice_axis(2, 0, 2);
        is(&qr(&tall, Factors::Full).0, &[5, 3, 3], expected);
        is(&qr(&tall, Factors::Full).1, &[5, 3, 2], expected);
        is(&qr(&tall, Factors::Reduced).0, &[5, 3, 2], expected);
        is(&svd(&tall, Factors::Full).0, &[5, 3, 3], expected);
        is(&svd(&tall, Factors::Reduced).0, &[5, 3, 2], expected);
        is(&svd(&tall, Factors::Full).1, &[5, 2], real);
        let kept = match dtype {
            DType::F16 | DType::BF16 => dtype,
            _ => real,
        };
        is(&norm(&a, &Norm::default()), &[], kept);
        if dtype != DType::Bool {
            is(&cross(&b, &b, 0), &[3], dtype);
        }
    }
}

#[test]
fn wrong_arguments() {
    let square = zeros([2, 2], DType::F32);
    let (wide, flat) = (zeros([2, 3], DType::F32), zeros([4], DType::F32));
    let kind = |y: Array| y.check().unwrap_err().kind();
    let (_, l, _) = lu(&flat);
    assert_eq!(l.check().unwrap_err().site().unwrap().file(), file!());
    type One = fn(&Array) -> Array;
    let square_only: [One; 12] = [
        inv,
        det,
        |a| tri_inv(a, false),
        |a| cholesky(a, false),
        |a| cholesky_inv(a, true),
        |a| eigh(a, false).0,
        |a| eigvalsh(a, true),
        |a| eig(a).1,
        eigvals,
        |a| slogdet(a).1,
        |a| matrix_power(a, 2),
        |a| solve(a, a),
    ];
    for f in square_only {
        assert_eq!(kind(f(&wide)), ErrorKind::Shape);
        assert_eq!(kind(f(&flat)), ErrorKind::Shape);
    }
    let any: [One; 6] = [
        pinv,
        svdvals,
        |a| svd(a, Factors::Full).2,
        |a| qr(a, Factors::Reduced).0,
        |a| lu(a).0,
        |a| lu_factor(a).1,
    ];
    for f in any {
        assert_eq!(kind(f(&flat)), ErrorKind::Shape);
        assert_eq!(kind(f(&Array::scalar(1.0f32))), ErrorKind::Shape);
        f(&wide).check().unwrap();
    }
    for f in [solve, |a: &Array, b: &Array| solve_triangular(a, b, false), lstsq] {
        assert_eq!(kind(f(&square, &flat)), ErrorKind::Shape);
        assert_eq!(kind(f(&square, &Array::scalar(1.0f32))), ErrorKind::Shape);
    }
    let (three, two) = (zeros([3, 2, 2], DType::F32), zeros([2, 2, 1], DType::F32));
    assert_eq!(kind(solve(&three, &two)), ErrorKind::Shape);
    assert_eq!(kind(cross(&flat, &flat, 0)), ErrorKind::Shape);
    assert_eq!(kind(cross(&square, &square, 2)), ErrorKind::Axis);
    assert_eq!(
        kind(cross(&zeros([2, 3], DType::F32), &zeros([4, 3], DType::F32), -1)),
        ErrorKind::Shape
    );
    // A whole basis of so many rows is too large to be.
    let long = full([1usize << 40, 1], 1.0);
    assert_eq!(kind(qr(&long, Factors::Full).0), ErrorKind::Shape);
    assert_eq!(kind(svd(&long, Factors::Full).0), ErrorKind::Shape);
    assert_eq!(kind(lu(&long).0), ErrorKind::Shape);
    let failed = zeros([2, 2], DType::F32).reshape([3]);
    assert_eq!(inv(&failed).check().unwrap_err().op(), "reshape");
}

#[test]
fn wrong_norms() {
    let x = ones([2, 3, 4], DType::F32);
    let of = |order, axes: &[i64]| {
        let y = norm(&x, &Norm { order, axes: Some(axes.to_vec()), keepdims: false });
        y.check().map_err(|e| e.kind())
    };
    assert_eq!(of(Some(Order::Frobenius), &[0]), Err(ErrorKind::Value));
    assert_eq!(of(Some(Order::Nuclear), &[0]), Err(ErrorKind::Value));
    assert_eq!(of(Some(Order::P(f64::NAN)), &[0]), Err(ErrorKind::Value));
    assert_eq!(of(Some(Order::P(0.0)), &[0, 1]), Err(ErrorKind::Value));
    assert_eq!(of(Some(Order::P(3.0)), &[0, 1]), Err(ErrorKind::Value));
    assert_eq!(of(Some(Order::P(2.0)), &[0, 1, 2]), Err(ErrorKind::Axis));
    assert_eq!(of(Some(Order::P(2.0)), &[]), Err(ErrorKind::Axis));
    assert_eq!(of(None, &[0, -3]), Err(ErrorKind::Axis));
    assert_eq!(of(None, &[3]), Err(ErrorKind::Axis));
    assert_eq!(of(None, &[0, 1, 2]), Ok(()));
    let empty = zeros([0, 3], DType::F32);
    let how = |order| Norm { order: Some(order), ..Norm::default() };
    assert_eq!(norm(&empty, &how(Order::Nuclear)).item::<f32>().unwrap(), 0.0);
    assert_eq!(norm(&empty, &Norm::default()).item::<f32>().unwrap(), 0.0);
    assert!(norm(&empty, &how(Order::P(2.0))).check().is_err());
    assert!(norm(&empty, &how(Order::Inf)).check().is_err());
}

/// The error of an evaluation names the matrix and the line of the call.
#[test]
fn wrong_matrices() {
    let good = identity(2, DType::F32);
    let singular = Array::from_slice(&[1.0f32, 2.0, 2.0, 4.0], [2, 2]);
    let batch = stack(&[good.clone(), good.clone(), singular.clone()], 0);
    let error = inv(&batch).eval().unwrap_err();
    assert_eq!((error.kind(), error.op()), (ErrorKind::Value, "inv"));
    assert_eq!(error.message(), "the matrix at (2,) is singular: pivot 1 is zero");
    assert_eq!(error.site().unwrap().file(), file!());
    let error = solve(&singular, &ones([2], DType::F32)).eval().unwrap_err();
    assert_eq!(error.message(), "the matrix is singular: pivot 1 is zero");
    let error = cholesky(&-good, false).eval().unwrap_err();
    assert_eq!(error.message(), "the matrix is not positive definite");
    let nan = Array::from_slice(&[f32::NAN, 0.0, 0.0, 1.0], [2, 2]);
    for f in [pinv, svdvals, det, |a: &Array| qr(a, Factors::Full).1] {
        let error = f(&nan).eval().unwrap_err();
        assert_eq!(error.message(), "the matrix has an entry that is NaN or infinite");
    }
    // What is built on it fails too, and what is not goes on.
    assert!((inv(&singular) + 1.0).eval().is_err());
    assert_eq!(det(&singular).item::<f32>().unwrap(), 0.0);
    // A gradient that does not exist is an error as well.
    let none = zeros([2, 2], DType::F32);
    let gradient = grad(|x: &Array| qr(x, Factors::Reduced).0.sum(..))(&none).unwrap();
    assert!(gradient.eval().unwrap_err().message().contains("is singular"));
}

#[test]
fn matrices_without_entries() {
    for dtype in [DType::F32, DType::F64, DType::C64] {
        let none = zeros([3, 0, 0], dtype);
        assert_eq!(inv(&none).to_bytes().unwrap(), []);
        assert_close(&det(&none), &ones([3], dtype), 0.0, "det");
        let (sign, logdet) = slogdet(&none);
        assert_close(&sign, &ones([3], dtype), 0.0, "sign");
        assert_eq!(largest(&logdet), 0.0);
        assert_eq!(solve(&none, &zeros([0, 4], dtype)).shape().unwrap(), &[3, 0, 4]);
        let (tall, wide) = (zeros([2, 4, 0], dtype), zeros([0, 2, 3], dtype));
        let q = qr(&tall, Factors::Full).0;
        assert_close(&q, &identity(4, dtype).broadcast_to([2, 4, 4]), 0.0, "q");
        assert_eq!(svd(&tall, Factors::Reduced).0.shape().unwrap(), &[2, 4, 0]);
        assert_eq!(eigvals(&none).to_bytes().unwrap(), []);
        assert_eq!(pinv(&wide).to_bytes().unwrap(), []);
        // Gradients of what has no entries.
        let g = grad(|x: &Array| svdvals(x).sum(..) + det(x).real().sum(..))(&none).unwrap();
        assert_eq!(g.shape().unwrap(), &[3, 0, 0]);
        g.eval().unwrap();
    }
}

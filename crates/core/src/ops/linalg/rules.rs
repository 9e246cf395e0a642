//! Derivatives of decompositions and solvers, and how they run over a batch.
//!
//! With `Ω` antisymmetric (anti-Hermitian), a change of an orthonormal basis `Q` is `Q·Ω`; products with
//! the known factors on both sides turn the change of a decomposition's product into one equation for
//! the triangle or diagonal and one for `Ω`. Where a basis is only one of many (vectors of a Full
//! decomposition that the product does not need, directions of complex vectors), the one that moves
//! least is followed. Each backward rule is the adjoint of the forward rule beside it, under the real
//! inner product. Sources: Giles, "Collected matrix derivative results" (2008); Townsend,
//! "Differentiating the singular value decomposition" (2016); Murray, "Differentiation of the Cholesky
//! decomposition" (2016).

use super::*;
use crate::ops::creation::eye;
use crate::ops::elementwise::where_;
use crate::rules::{Call, Outputs, Slots, all_batched, batch_shape, none, one, sum};

/// The conjugate transpose.
#[track_caller]
fn h(a: &Array) -> Array {
    if a.0.dtype == DType::C64 { a.mt().conj() } else { a.mt() }
}

/// A matrix with a vector on its diagonal and zeros elsewhere.
#[track_caller]
fn diagonal_matrix(v: &Array, dtype: DType) -> Array {
    let n = v.0.shape[v.0.shape.len() - 1];
    let mask = identity(n, DType::Bool);
    let v = v.astype(dtype);
    where_(mask, v.expand_dims(-1), v.zeros_like().expand_dims(-1))
}

/// The matrix with zeros on its diagonal.
#[track_caller]
fn off_diagonal(a: &Array) -> Array {
    let n = a.0.shape[a.0.shape.len() - 1];
    where_(identity(n, DType::Bool), a.zeros_like(), a)
}

/// `x[j] - x[i]` at `(i, j)`, with ones on the diagonal, to divide by.
#[track_caller]
fn gaps(x: &Array) -> Array {
    let n = x.0.shape[x.0.shape.len() - 1];
    let gaps = x.expand_dims(-2) - x.expand_dims(-1);
    where_(identity(n, DType::Bool), gaps.ones_like(), gaps)
}

/// `(a + aᴴ) / 2`.
#[track_caller]
fn hermitian_part(a: &Array) -> Array {
    (a + h(a)) * 0.5
}

/// `(a - aᴴ) / 2`.
#[track_caller]
fn skew_part(a: &Array) -> Array {
    (a - h(a)) * 0.5
}

/// `i·x` on a diagonal, for the directions of complex vectors.
#[track_caller]
fn turning(x: &Array) -> Array {
    diagonal_matrix(&(x * lazul_ir::Complex32::new(0.0, 1.0)), DType::C64)
}

/// The lower triangle with half its diagonal.
#[track_caller]
fn half_lower(a: &Array) -> Array {
    let n = a.0.shape[a.0.shape.len() - 1];
    where_(identity(n, DType::Bool), a * 0.5, a.tril(-1))
}

/// Columns `start..` up to `end` of a matrix.
#[track_caller]
fn columns(a: &Array, start: usize, end: usize) -> Array {
    a.slice_axis(-1, start as i64, end as i64)
}

/// Rows `start..` up to `end` of a matrix.
#[track_caller]
fn rows(a: &Array, start: usize, end: usize) -> Array {
    a.slice_axis(-2, start as i64, end as i64)
}

/// `x·r⁻¹` for an upper triangular `r`, or `x·r⁻ᴴ`.
#[track_caller]
fn over_upper(x: &Array, r: &Array, adjoint: bool) -> Array {
    if adjoint {
        h(&triangular(r, &h(x), true, false))
    } else {
        h(&triangular(&h(r), &h(x), false, false))
    }
}

fn add(total: &mut Option<Array>, term: Array) {
    *total = sum(total.take(), Some(term));
}

/// Cotangents of the operands from those of the outputs.
pub(crate) fn vjp(
    op: LinalgOp,
    call: &Call<'_>,
    cotangents: &[Option<Array>],
    wanted: &[bool],
) -> Result<Slots> {
    let (a, out) = (&call.inputs[0], call.outputs);
    let c = |i: usize| cotangents.get(i).and_then(Option::as_ref);
    let first = match op {
        LinalgOp::Lu => c(0).map(|c| lu_vjp(&out[0], &out[2], c)),
        LinalgOp::Det => match c(0) {
            Some(c) => Some(matrix_of(c) * cofactors(a)?.conj()),
            None => None,
        },
        LinalgOp::Qr { .. } => qr_vjp(a, &out[0], &out[1], c(0), c(1)),
        LinalgOp::Svd(Vectors::No) => {
            let (u, s, vh) = svd(a, Factors::Reduced);
            svd_vjp(&u, &s, &vh, None, c(0), None)
        }
        LinalgOp::Svd(_) => svd_vjp(&out[0], &out[1], &out[2], c(0), c(1), c(2)),
        LinalgOp::Eigh { upper, vectors: false } => {
            let (w, v) = eigh(a, upper);
            eigh_vjp(&w, &v, c(0), None)
        }
        LinalgOp::Eigh { .. } => eigh_vjp(&out[0], &out[1], c(0), c(1)),
        LinalgOp::Eig { vectors: false } => {
            let (w, v) = eig(a);
            eig_vjp(a, &w, &v, c(0), None)
        }
        LinalgOp::Eig { .. } => eig_vjp(a, &out[0], &out[1], c(0), c(1)),
        LinalgOp::Cholesky { upper } => c(0).map(|c| cholesky_vjp(&out[0], c, upper)),
        LinalgOp::Solve | LinalgOp::SolveTriangular { .. } => {
            return Ok(c(0).map_or_else(|| none(2), |c| solve_vjp(op, a, &out[0], c, wanted)));
        }
        LinalgOp::Inverse => c(0).map(|c| {
            let x = h(&out[0]);
            x.matmul(c).matmul(&x).negative()
        }),
        LinalgOp::PseudoInverse => c(0).map(|c| pseudo_inverse_vjp(a, &out[0], c)),
    };
    Ok(Slots::from_iter([first]))
}

/// Tangents of the outputs from those of the operands.
pub(crate) fn jvp(op: LinalgOp, call: &Call<'_>, tangents: &[Option<Array>]) -> Result<Slots> {
    let (a, out) = (&call.inputs[0], call.outputs);
    if let LinalgOp::Solve | LinalgOp::SolveTriangular { .. } = op {
        return Ok(solve_jvp(op, a, &out[0], tangents));
    }
    let Some(t) = &tangents[0] else { return Ok(none(out.len())) };
    let two = |(x, y): (Array, Array)| Slots::from_iter([Some(x), Some(y)]);
    Ok(match op {
        LinalgOp::Lu => Slots::from_iter([Some(lu_jvp(&out[0], &out[2], t)), None, None]),
        LinalgOp::Det => one((cofactors(a)? * t).sum([-2, -1])),
        LinalgOp::Qr { .. } => two(qr_jvp(a, &out[0], &out[1], t)),
        LinalgOp::Svd(Vectors::No) => {
            let (u, s, vh) = svd(a, Factors::Reduced);
            let [_, ds, _] = svd_jvp(&u, &s, &vh, t);
            one(ds)
        }
        LinalgOp::Svd(_) => svd_jvp(&out[0], &out[1], &out[2], t).into_iter().map(Some).collect(),
        LinalgOp::Eigh { upper, vectors: false } => {
            let (w, v) = eigh(a, upper);
            one(eigh_jvp(&w, &v, t).0)
        }
        LinalgOp::Eigh { .. } => two(eigh_jvp(&out[0], &out[1], t)),
        LinalgOp::Eig { vectors: false } => {
            let (w, v) = eig(a);
            one(eig_jvp(&w, &v, t).0)
        }
        LinalgOp::Eig { .. } => two(eig_jvp(&out[0], &out[1], t)),
        LinalgOp::Cholesky { upper } => one(cholesky_jvp(&out[0], t, upper)),
        LinalgOp::Inverse => one(out[0].matmul(t).matmul(&out[0]).negative()),
        LinalgOp::PseudoInverse => one(pseudo_inverse_jvp(a, &out[0], t)),
        LinalgOp::Solve | LinalgOp::SolveTriangular { .. } => unreachable!("above"),
    })
}

/// One more axis of the batch.
pub(crate) fn vmap(
    op: LinalgOp,
    inputs: &[Array],
    batched: &[bool],
    size: usize,
    outputs: &[(Shape, DType)],
) -> Result<Outputs> {
    if let (LinalgOp::Solve | LinalgOp::SolveTriangular { .. }, [false, true]) = (op, batched) {
        // One matrix: its factors serve the whole batch.
        return Ok(Outputs::from_iter([system(op.name(), op, &inputs[0], &inputs[1])?]));
    }
    let many: Vec<(Shape, DType)> =
        outputs.iter().map(|(shape, dtype)| (batch_shape(shape, size), *dtype)).collect();
    many.iter().try_for_each(|(shape, _)| check_shape(op.name(), shape))?;
    let inputs = all_batched(inputs, batched, size);
    if let [(shape, dtype)] = &many[..] {
        return Ok(Outputs::from_iter([prim(Prim::Linalg(op), inputs, shape.clone(), *dtype)]));
    }
    let inputs = Inputs::from_iter(inputs);
    Ok(Array::lazy_many(Prim::Linalg(op), inputs, &many, call_site()).into_iter().collect())
}

/// A number of each matrix, as a matrix of one entry.
#[track_caller]
fn matrix_of(x: &Array) -> Array {
    x.expand_dims([-2, -1])
}

// With `P·a = L·U`: `L⁻¹·P·da·U⁻¹ = L⁻¹·dL + dU·U⁻¹`, a strict lower and an upper triangle. Factors are
// made square by ones on their diagonals.

/// The square triangles `L (…, m, m)` and `U (…, n, n)`.
#[track_caller]
fn whole_triangles(lu: &Array) -> (Array, Array) {
    let &[.., m, n] = &lu.0.shape[..] else { unreachable!("a matrix") };
    let (l, u) = triangles(lu);
    let rank = lu.0.shape.len();
    let (k, dtype) = (m.min(n), lu.0.dtype);
    let widen = |x: Array, axis: usize, by: usize| {
        let mut widths = vec![(0, 0); rank];
        widths[axis] = (0, by);
        if by == 0 { x } else { x.pad(&widths, crate::ops::join::Pad::Constant(0.0)) }
    };
    // Ones where the triangle itself has no column, or no row.
    let rest = |n: usize| {
        let inside = arange(n, DType::I64).less(k as i64);
        where_(inside, 0.0, eye(n, n, 0, DType::F32)).astype(dtype)
    };
    let l = widen(l, rank - 1, m - k);
    let u = widen(u, rank - 2, n - k);
    (if m > k { l + rest(m) } else { l }, if n > k { u + rest(n) } else { u })
}

fn lu_jvp(lu: &Array, order: &Array, t: &Array) -> Array {
    let (l, u) = whole_triangles(lu);
    let t = t.take_along_axis(&order.expand_dims(-1), -2);
    let z = over_upper(&triangular(&l, &t, false, true), &u, false);
    l.matmul(&z.tril(-1)) + z.triu(0).matmul(&u)
}

fn lu_vjp(lu: &Array, order: &Array, c: &Array) -> Array {
    let (l, u) = whole_triangles(lu);
    let z = h(&l).matmul(c).tril(-1) + c.matmul(&h(&u)).triu(0);
    let x = over_upper(&triangular(&h(&l), &z, true, true), &u, true);
    x.take_along_axis(&order.argsort(-1).expand_dims(-1), -2)
}

/// The derivatives of the determinant by each entry. For singular matrices, whose inverse does not
/// exist, by factors whose zero pivots are made tiny: exact in the limit.
fn cofactors(a: &Array) -> Result<Array> {
    let n = a.0.shape[a.0.shape.len() - 1];
    let wide = if a.0.dtype == DType::C64 { DType::C64 } else { DType::F64 };
    let [lu, pivots, order] = packed("det", &a.astype(wide))?;
    let (l, u) = triangles(&lu);
    let diagonal = u.diagonal(0);
    let tiny = where_(diagonal.equal(0.0), (-40f64).exp2(), 0.0).astype(wide);
    let (u, diagonal) = (u + diagonal_matrix(&tiny, wide), diagonal + tiny);
    let det = diagonal.prod(-1) * parity(&pivots).astype(wide);
    // With P·a = L·U: a⁻ᵀ = Pᵀ·L⁻ᵀ·U⁻ᵀ.
    let one = identity(n, wide).broadcast_to(&a.0.shape);
    let inverse = triangular(&u.mt(), &one, false, false);
    let inverse = triangular(&l.mt(), &inverse, true, true);
    let inverse = inverse.take_along_axis(&order.argsort(-1).expand_dims(-1), -2);
    Ok((matrix_of(&det) * inverse).astype(a.0.dtype))
}

// With `X = da·R⁻¹`: `QᴴX = Ω + dR·R⁻¹`, of which `Ω` is known below the diagonal.

/// `(q, r)` as far as the product of the first columns needs them: `q1 (…, m, k)`, `r1 (…, k, k)`, and
/// what is left, `q2` of a full basis and the columns `r2` of a wide matrix.
struct QrParts {
    q1: Array,
    q2: Option<Array>,
    r1: Array,
    r2: Option<Array>,
    k: usize,
    n: usize,
}

impl QrParts {
    fn new(q: &Array, r: &Array) -> QrParts {
        let (&[.., m, p], n) = (&q.0.shape[..], r.0.shape[r.0.shape.len() - 1]) else {
            unreachable!("a matrix")
        };
        let k = m.min(n);
        QrParts {
            q1: columns(q, 0, k),
            q2: (p > k).then(|| columns(q, k, p)),
            r1: columns(&rows(r, 0, k), 0, k),
            r2: (n > k).then(|| columns(&rows(r, 0, k), k, n)),
            k,
            n,
        }
    }
}

fn qr_jvp(a: &Array, q: &Array, r: &Array, t: &Array) -> (Array, Array) {
    let parts = QrParts::new(q, r);
    let QrParts { q1, q2, r1, r2, k, n } = &parts;
    let x = over_upper(&columns(t, 0, *k), r1, false);
    let along = h(q1).matmul(&x);
    let mut turn = along.tril(-1) - h(&along.tril(-1));
    if q.0.dtype == DType::C64 {
        turn += turning(&along.diagonal(0).imag());
    }
    let mut dq = q1.matmul(&(&turn - &along)) + &x;
    let mut dr = (along - turn).triu(0).matmul(r1);
    if r2.is_some() {
        let (a2, t2) = (columns(a, *k, *n), columns(t, *k, *n));
        let dr2 = h(&dq).matmul(&a2) + h(q1).matmul(&t2);
        dr = concatenate(&[dr, dr2], -1);
    }
    if let Some(q2) = q2 {
        let dq2 = q1.matmul(&h(&h(q2).matmul(&x))).negative();
        dq = concatenate(&[dq, dq2], -1);
        let rank = dr.0.shape.len();
        let mut widths = vec![(0, 0); rank];
        widths[rank - 2] = (0, r.0.shape[rank - 2] - k);
        dr = dr.pad(&widths, crate::ops::join::Pad::Constant(0.0));
    }
    (dq, dr)
}

fn qr_vjp(
    a: &Array,
    q: &Array,
    r: &Array,
    cq: Option<&Array>,
    cr: Option<&Array>,
) -> Option<Array> {
    if cq.is_none() && cr.is_none() {
        return None;
    }
    let parts = QrParts::new(q, r);
    let QrParts { q1, q2, r1, r2, k, n } = &parts;
    let mut cq1 = cq.map(|c| columns(c, 0, *k));
    let cr = cr.map(|c| rows(c, 0, *k));
    let mut da2 = None;
    if let (Some(_), Some(cr)) = (r2, &cr) {
        // The further columns of r are q1ᴴ times those of a.
        let cr2 = columns(cr, *k, *n);
        add(&mut cq1, columns(a, *k, *n).matmul(&h(&cr2)));
        da2 = Some(q1.matmul(&cr2));
    }
    let mut inner = None;
    if let Some(cr) = &cr {
        add(&mut inner, r1.matmul(&h(&columns(cr, 0, *k).triu(0))));
    }
    if let Some(cq1) = &cq1 {
        add(&mut inner, h(cq1).matmul(q1).negative());
    }
    // Copies the lower triangle to the upper one; the diagonal is real.
    let mut x = inner.map(|m| {
        let lower = m.tril(-1);
        let diagonal = diagonal_matrix(&m.diagonal(0).real(), m.0.dtype);
        q1.matmul(&(&lower + h(&lower) + diagonal))
    });
    if let Some(cq1) = cq1 {
        add(&mut x, cq1);
    }
    if let (Some(q2), Some(cq)) = (q2, cq) {
        let cq2 = columns(cq, *k, q.0.shape[q.0.shape.len() - 1]);
        add(&mut x, q2.matmul(&h(&cq2).matmul(q1)).negative());
    }
    let da1 = over_upper(&x?, r1, true);
    Some(if n > k {
        let mut shape = a.0.shape.clone();
        let last = shape.len() - 1;
        shape[last] = n - k;
        let da2 = da2.unwrap_or_else(|| crate::ops::creation::zeros(&shape, a.0.dtype));
        concatenate(&[da1, da2], -1)
    } else {
        da1
    })
}

// With `D = Uᴴ·da·V`: `D = Ωu·S + dS + S·Ωvᴴ`, solved by `(D·S + S·Dᴴ) / (s_j² - s_i²)` for `Ωu` and
// `(S·D + Dᴴ·S) / (s_j² - s_i²)` for `Ωv`.

/// The vectors that the product needs, and those of a full basis behind them.
fn split_basis(basis: &Array, k: usize) -> (Array, Option<Array>) {
    let p = basis.0.shape[basis.0.shape.len() - 1];
    (columns(basis, 0, k), (p > k).then(|| columns(basis, k, p)))
}

fn svd_jvp(u: &Array, s: &Array, vh: &Array, t: &Array) -> [Array; 3] {
    let (k, dtype) = (s.0.shape[s.0.shape.len() - 1], u.0.dtype);
    let &[.., m, n] = &t.0.shape[..] else { unreachable!("a matrix") };
    let ((u1, u2), (v1, v2)) = (split_basis(u, k), split_basis(&h(vh), k));
    let d = h(&u1).matmul(t).matmul(&v1);
    let ds = d.diagonal(0).real();
    let (s_row, s_column) = (s.expand_dims(-2), s.expand_dims(-1));
    let gaps = gaps(&s.square());
    let mut turn_u = off_diagonal(&((&d * &s_row + &s_column * h(&d)) / &gaps));
    let mut turn_v = off_diagonal(&((&s_column * &d + h(&d) * &s_row) / &gaps));
    if dtype == DType::C64 {
        let phase = turning(&(d.diagonal(0).imag() / (s * 2.0)));
        turn_u += &phase;
        turn_v -= &phase;
    }
    let mut du = u1.matmul(&turn_u);
    let mut dv = v1.matmul(&turn_v);
    if m > k {
        let x = t.matmul(&v1) / &s_row;
        du += &x - u1.matmul(&h(&u1).matmul(&x));
        if let Some(u2) = u2 {
            let du2 = u1.matmul(&h(&h(&u2).matmul(&x))).negative();
            du = concatenate(&[du, du2], -1);
        }
    }
    if n > k {
        let x = h(t).matmul(&u1) / &s_row;
        dv += &x - v1.matmul(&h(&v1).matmul(&x));
        if let Some(v2) = v2 {
            let dv2 = v1.matmul(&h(&h(&v2).matmul(&x))).negative();
            dv = concatenate(&[dv, dv2], -1);
        }
    }
    [du, ds, h(&dv)]
}

fn svd_vjp(
    u: &Array,
    s: &Array,
    vh: &Array,
    cu: Option<&Array>,
    cs: Option<&Array>,
    cvh: Option<&Array>,
) -> Option<Array> {
    let (k, dtype) = (s.0.shape[s.0.shape.len() - 1], u.0.dtype);
    let (m, n) = (u.0.shape[u.0.shape.len() - 2], vh.0.shape[vh.0.shape.len() - 1]);
    let ((u1, u2), (v1, v2)) = (split_basis(u, k), split_basis(&h(vh), k));
    let (s_row, s_column) = (s.expand_dims(-2), s.expand_dims(-1));
    let gaps = gaps(&s.square());
    let mut inner = cs.map(|c| diagonal_matrix(c, dtype));
    let mut outer = None;
    // Of the products of basis and cotangent only the antisymmetric part turns the basis.
    let mut turning_of = |basis: &Array, c: &Array, left: bool| {
        let product = h(basis).matmul(c);
        let turn = off_diagonal(&(skew_part(&product) * 2.0 / &gaps));
        add(&mut inner, if left { turn * &s_row } else { &s_column * turn });
        if dtype == DType::C64 {
            let phase = product.diagonal(0).imag() / (s * 2.0);
            let phase = turning(&phase);
            add(&mut inner, if left { phase } else { phase.negative() });
        }
        product
    };
    if let Some(c) = cu {
        let c1 = columns(c, 0, k);
        let product = turning_of(&u1, &c1, true);
        if m > k {
            let x = (&c1 - u1.matmul(&product)) / &s_row;
            add(&mut outer, x.matmul(&h(&v1)));
        }
        if let Some(u2) = u2 {
            let c2 = columns(c, k, m);
            let x = u2.matmul(&h(&c2).matmul(&u1)) / &s_row;
            add(&mut outer, x.matmul(&h(&v1)).negative());
        }
    }
    if let Some(c) = cvh {
        let c = h(c);
        let c1 = columns(&c, 0, k);
        let product = turning_of(&v1, &c1, false);
        if n > k {
            let x = (&c1 - v1.matmul(&product)) / &s_row;
            add(&mut outer, u1.matmul(&h(&x)));
        }
        if let Some(v2) = v2 {
            let c2 = columns(&c, k, n);
            let x = v2.matmul(&h(&c2).matmul(&v1)) / &s_row;
            add(&mut outer, u1.matmul(&h(&x)).negative());
        }
    }
    let inner = inner.map(|x| u1.matmul(&x).matmul(&h(&v1)));
    sum(inner, outer)
}

// With `D = Vᴴ·da·V`: `D = dW + Ω·W - W·Ω`.

fn eigh_jvp(w: &Array, v: &Array, t: &Array) -> (Array, Array) {
    let d = h(v).matmul(&hermitian_part(t)).matmul(v);
    let turn = off_diagonal(&(&d / gaps(w)));
    (d.diagonal(0).real(), v.matmul(&turn))
}

fn eigh_vjp(w: &Array, v: &Array, cw: Option<&Array>, cv: Option<&Array>) -> Option<Array> {
    let mut inner = cw.map(|c| diagonal_matrix(c, v.0.dtype));
    if let Some(c) = cv {
        add(&mut inner, off_diagonal(&(skew_part(&h(v).matmul(c)) / gaps(w))));
    }
    Some(hermitian_part(&v.matmul(&inner?).matmul(&h(v))))
}

// With `D = V⁻¹·da·V`: values change by its diagonal, vectors by the rest over the gaps, less what would
// change their length.

fn eig_jvp(w: &Array, v: &Array, t: &Array) -> (Array, Array) {
    let d = solve(v, &t.astype(DType::C64).matmul(v));
    let dv = v.matmul(&off_diagonal(&(&d / gaps(w))));
    let growth = (v.conj() * &dv).real().sum_keepdims(-2); // (…, 1, n)
    (d.diagonal(0), dv - v * growth)
}

fn eig_vjp(
    a: &Array,
    w: &Array,
    v: &Array,
    cw: Option<&Array>,
    cv: Option<&Array>,
) -> Option<Array> {
    let mut inner = cw.map(|c| diagonal_matrix(c, DType::C64));
    if let Some(c) = cv {
        let growth = (v.conj() * c).real().sum_keepdims(-2); // (…, 1, n)
        let along = h(v).matmul(&(c - v * growth));
        add(&mut inner, off_diagonal(&(along / gaps(w).conj())));
    }
    let x = solve(&h(v), &inner?.matmul(&h(v)));
    Some(if a.0.dtype == DType::C64 { x } else { x.real().astype(a.0.dtype) })
}

// With `a = L·Lᴴ`: `L⁻¹·da·L⁻ᴴ = L⁻¹·dL + (L⁻¹·dL)ᴴ`.

fn cholesky_jvp(l: &Array, t: &Array, upper: bool) -> Array {
    let l = if upper { h(l) } else { l.clone() };
    let x = triangular(&l, &hermitian_part(t), false, false);
    let x = h(&triangular(&l, &h(&x), false, false));
    let dl = l.matmul(&half_lower(&x));
    if upper { h(&dl) } else { dl }
}

fn cholesky_vjp(l: &Array, c: &Array, upper: bool) -> Array {
    let (l, c) = if upper { (h(l), h(c)) } else { (l.clone(), c.clone()) };
    let middle = hermitian_part(&half_lower(&h(&l).matmul(&c.tril(0))));
    let x = triangular(&h(&l), &middle, true, false);
    h(&triangular(&h(&l), &h(&x), true, false))
}

/// The system with `aᴴ`.
#[track_caller]
fn adjoint_system(op: LinalgOp, a: &Array, b: &Array) -> Array {
    let op = match op {
        LinalgOp::SolveTriangular { upper, unit } => {
            LinalgOp::SolveTriangular { upper: !upper, unit }
        }
        other => other,
    };
    single(op, &[&h(a), b], b.0.shape.clone())
}

/// The entries of a matrix that a system reads.
#[track_caller]
fn read_by(op: LinalgOp, a: &Array) -> Array {
    match op {
        LinalgOp::SolveTriangular { upper: true, unit } => a.triu(unit as i64),
        LinalgOp::SolveTriangular { upper: false, unit } => a.tril(-(unit as i64)),
        _ => a.clone(),
    }
}

fn solve_jvp(op: LinalgOp, a: &Array, x: &Array, tangents: &[Option<Array>]) -> Slots {
    let by_a = tangents[0].as_ref().map(|t| read_by(op, t).matmul(x).negative());
    let Some(b) = sum(by_a, tangents[1].clone()) else { return none(1) };
    one(single(op, &[a, &b], b.0.shape.clone()))
}

fn solve_vjp(op: LinalgOp, a: &Array, x: &Array, c: &Array, wanted: &[bool]) -> Slots {
    let db = adjoint_system(op, a, c);
    let da = wanted[0].then(|| read_by(op, &db.matmul(&h(x)).negative()));
    Slots::from_iter([da, Some(db)])
}

// `dp = -p·da·p + p·pᴴ·daᴴ·(1 - a·p) + (1 - p·a)·daᴴ·pᴴ·p` (Golub and Pereyra, 1973).

fn pseudo_inverse_jvp(a: &Array, p: &Array, t: &Array) -> Array {
    let (ph, th) = (h(p), h(t));
    let right = &th - th.matmul(a).matmul(p); // daᴴ·(1 - a·p)
    let left = &th - p.matmul(a).matmul(&th); // (1 - p·a)·daᴴ
    let first = p.matmul(t).matmul(p);
    p.matmul(&ph).matmul(&right) + left.matmul(&ph).matmul(p) - first
}

fn pseudo_inverse_vjp(a: &Array, p: &Array, c: &Array) -> Array {
    let (ph, ch) = (h(p), h(c));
    let left = &ch - a.matmul(p).matmul(&ch); // (1 - a·p)·cᴴ
    let right = &ch - ch.matmul(p).matmul(a); // cᴴ·(1 - p·a)
    let first = ph.matmul(c).matmul(&ph);
    left.matmul(p).matmul(&ph) + ph.matmul(p).matmul(&right) - first
}

//! Cases of linear algebra, on matrices whose eigenvalues and singular values lie apart. Where a
//! decomposition is one of many, a function of it that is the same for all of them is looked at.

use crate::case::{AROUND, Case, Input};
use crate::list::LinalgKind;
use lazul_core::linalg::{self, Factors};
use lazul_core::{Array, DType, Result, eye, linspace};

/// What is computed with, and two dtypes that are taken as float32.
const DTYPES: &[DType] = &[DType::F32, DType::F64, DType::C64, DType::F16, DType::I32];

/// Changes of a matrix whose diagonal ascends.
fn apart(x: &Array) -> Result<Array> {
    let &[.., m, n] = x.shape()? else { return Ok(x.clone()) };
    let diagonal = linspace(2.0, 5.0, n, DType::F32) * eye(m, n, 0, DType::F32);
    Ok(x * 0.2 + diagonal.astype(x.dtype()?))
}

fn adjoint(x: &Array) -> Array {
    x.mt().conj()
}

/// `a·diag(d)·b`.
fn product(a: &Array, d: &Array, b: &Array) -> Array {
    (a * d.astype(a.dtype().unwrap_or(DType::F32)).expand_dims(-2)).matmul(b)
}

fn on(
    name: &str,
    shape: &[usize],
    f: impl Fn(&Array) -> Result<Vec<Array>> + Send + Sync + 'static,
) -> Case {
    let inputs = vec![Input::numbers(shape, AROUND)];
    Case::many(format!("{name} {shape:?}"), DTYPES, inputs, move |x| f(&apart(&x[0])?))
}

/// Operations of a matrix and right sides.
fn system(
    name: &str,
    a: &[usize],
    b: &[usize],
    f: impl Fn(&Array, &Array) -> Array + Send + Sync + 'static,
) -> Case {
    let inputs = vec![Input::numbers(a, AROUND), Input::numbers(b, AROUND)];
    Case::many(format!("{name} {a:?} {b:?}"), DTYPES, inputs, move |x| {
        Ok(vec![f(&apart(&x[0])?, &x[1])])
    })
}

pub(crate) fn cases(kind: LinalgKind) -> Vec<Case> {
    fn list((a, b): (Array, Array)) -> Result<Vec<Array>> {
        Ok(vec![a, b])
    }
    match kind {
        LinalgKind::Lu => [&[3, 3][..], &[2, 3], &[3, 2], &[2, 2, 2]]
            .map(|shape| on("lu_factor", shape, |a| list(linalg::lu_factor(a))))
            .into(),
        LinalgKind::Det => vec![
            on("det", &[3, 3], |a| Ok(vec![linalg::det(a)])),
            on("det", &[2, 1, 1], |a| Ok(vec![linalg::det(a)])),
            on("slogdet", &[3, 3], |a| list(linalg::slogdet(a))),
        ],
        LinalgKind::Qr => {
            let mut all: Vec<Case> = [&[3, 3][..], &[3, 2], &[2, 3], &[2, 2, 2]]
                .map(|shape| on("qr", shape, |a| list(linalg::qr(a, Factors::Reduced))))
                .into();
            // Of the further columns of a whole basis only their span is known.
            all.push(on("full qr", &[3, 1], |a| {
                let (q, r) = linalg::qr(a, Factors::Full);
                let rest = q.slice_axis(-1, 1, None);
                Ok(vec![r, rest.matmul(&adjoint(&rest))])
            }));
            all
        }
        LinalgKind::Svd => {
            let mut all: Vec<Case> = [&[3, 3][..], &[3, 2], &[2, 3], &[2, 2, 2]]
                .map(|shape| {
                    on("svd", shape, |a| {
                        let (u, s, vh) = linalg::svd(a, Factors::Reduced);
                        Ok(vec![product(&u, &s.sin(), &vh), s])
                    })
                })
                .into();
            all.push(on("svdvals", &[3, 2], |a| Ok(vec![linalg::svdvals(a)])));
            all.push(on("full svd", &[3, 2], |a| {
                let (u, s, _) = linalg::svd(a, Factors::Full);
                let rest = u.slice_axis(-1, 2, None);
                Ok(vec![s, rest.matmul(&adjoint(&rest))])
            }));
            all
        }
        LinalgKind::Eigh => {
            let whole = |upper: bool| {
                move |a: &Array| {
                    let (w, v) = linalg::eigh(&(a + adjoint(a)), upper);
                    Ok(vec![product(&v, &w.sin(), &adjoint(&v)), w])
                }
            };
            vec![
                on("eigh of the lower triangle", &[3, 3], whole(false)),
                on("eigh of the upper triangle", &[2, 2, 2], whole(true)),
                on("eigvalsh", &[3, 3], |a| Ok(vec![linalg::eigvalsh(&(a + adjoint(a)), false)])),
            ]
        }
        LinalgKind::Eig => vec![
            on("eig", &[3, 3], |a| {
                let (w, v) = linalg::eig(a);
                Ok(vec![product(&v, &w.sin(), &linalg::inv(&v)), (&w * &w).sum(-1)])
            }),
            on("eigvals", &[2, 2, 2], |a| Ok(vec![linalg::eigvals(a).sin().sum(-1)])),
        ],
        LinalgKind::Cholesky => [(false, &[3, 3][..]), (true, &[2, 2, 2])]
            .map(|(upper, shape)| {
                on(&format!("cholesky upper {upper}"), shape, move |a| {
                    Ok(vec![linalg::cholesky(&(a.matmul(&adjoint(a)) + 1.0), upper)])
                })
            })
            .into(),
        LinalgKind::SolveTriangular => vec![
            system("solve_triangular", &[3, 3], &[3, 2], |a, b| {
                linalg::solve_triangular(a, b, false)
            }),
            system("solve_triangular", &[2, 2, 2], &[2, 2, 1], |a, b| {
                linalg::solve_triangular(a, b, true)
            }),
            on("tri_inv", &[3, 3], |a| Ok(vec![linalg::tri_inv(a, true)])),
        ],
        LinalgKind::Solve => vec![
            system("solve", &[3, 3], &[3, 2], linalg::solve),
            system("solve", &[3, 3], &[3], linalg::solve),
            system("solve", &[2, 2, 2], &[2, 2, 1], linalg::solve),
        ],
        LinalgKind::Inverse => vec![
            on("inv", &[3, 3], |a| Ok(vec![linalg::inv(a)])),
            on("inv", &[2, 2, 2], |a| Ok(vec![linalg::inv(a)])),
            on("inv", &[0, 0], |a| Ok(vec![linalg::inv(a)])),
        ],
        LinalgKind::PseudoInverse => [&[3, 3][..], &[3, 2], &[2, 3], &[2, 2, 1]]
            .map(|shape| on("pinv", shape, |a| Ok(vec![linalg::pinv(a)])))
            .into(),
    }
}

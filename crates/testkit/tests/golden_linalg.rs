//! Linear algebra against `linalg.json`: values of NumPy and SciPy in double precision, gradients of
//! PyTorch's automatic differentiation.

use lazul_core::linalg::{self, Factors, Norm, Order};
use lazul_core::{Array, DType, arange, vjp};
use lazul_testkit::{Case, Golden, Report, Rule, compare};

fn adjoint(a: &Array) -> Array {
    a.mt().conj()
}

/// The columns of a basis times 1, 2, 3, …
fn weighted(v: &Array) -> Array {
    v * (arange(v.dim(-1).unwrap(), DType::F64) + 1.0).astype(real(v.dtype().unwrap()))
}

fn real(dtype: DType) -> DType {
    if dtype == DType::C64 { DType::F32 } else { dtype }
}

/// `q` and `r` with the diagonal of `r` positive.
fn positive_qr(a: &Array) -> (Array, Array) {
    let (q, r) = linalg::qr(a, Factors::Reduced);
    let sign = r.diagonal(0).sign();
    (q * sign.expand_dims(-2), r * sign.expand_dims(-1))
}

fn order(attrs: &Case) -> Option<Order> {
    match attrs.get("ord") {
        serde_json::Value::Null => None,
        serde_json::Value::String(s) => Some(match s.as_str() {
            "fro" => Order::Frobenius,
            "nuc" => Order::Nuclear,
            "inf" => Order::Inf,
            "-inf" => Order::NegInf,
            other => panic!("{other} is no order"),
        }),
        number => number.as_f64().map(Order::P),
    }
}

fn call(name: &str, x: &[Array], attrs: &Case) -> Array {
    let (a, upper) = (&x[0], attrs.flag("upper"));
    match name {
        "inv" => linalg::inv(a),
        "solve" => linalg::solve(a, &x[1]),
        "det" => linalg::det(a),
        "logdet" => linalg::slogdet(a).1,
        "sign" => linalg::slogdet(a).0,
        "solve_triangular" => linalg::solve_triangular(a, &x[1], upper),
        "tri_inv" => linalg::tri_inv(a, upper),
        "cholesky" => linalg::cholesky(a, upper),
        "matrix_power" => linalg::matrix_power(a, attrs.get("power").as_i64().unwrap()),
        "pinv" => linalg::pinv(a),
        "lstsq" => linalg::lstsq(a, &x[1]),
        "qr_q" => positive_qr(a).0,
        "qr_r" => positive_qr(a).1,
        "svdvals" => linalg::svdvals(a),
        "svd_left" => {
            let u = linalg::svd(a, Factors::Reduced).0;
            weighted(&u).matmul(&adjoint(&u))
        }
        "svd_right" => {
            let vh = linalg::svd(a, Factors::Reduced).2;
            weighted(&adjoint(&vh)).matmul(&vh)
        }
        "svd_both" => {
            let (u, _, vh) = linalg::svd(a, Factors::Reduced);
            weighted(&u).matmul(&vh)
        }
        "lu_l" => {
            // SciPy's second factor of `p·l·u`.
            linalg::lu(a).1
        }
        "lu_u" => linalg::lu(a).2,
        "eigvalsh" => linalg::eigvalsh(a, upper),
        "eigh" => {
            let v = linalg::eigh(a, upper).1;
            weighted(&v).matmul(&adjoint(&v))
        }
        "eigvals" => {
            let w = linalg::eigvals(a);
            (&w * &w * &w).sum(-1)
        }
        "eig" => {
            let (w, v) = linalg::eig(a);
            (v.abs().square() * w.expand_dims(-2)).sum(-1)
        }
        "norm" => {
            let axes = attrs.get("axis").as_array().map(|_| attrs.ints("axis"));
            let how = Norm { order: order(attrs), axes, keepdims: attrs.flag("keepdims") };
            linalg::norm(a, &how)
        }
        "cross" => linalg::cross(a, &x[1], attrs.get("axis").as_i64().unwrap()),
        other => panic!("{other} is no function of the file"),
    }
}

#[test]
fn linalg_matches_numpy_and_gradients_match_pytorch() {
    let golden = Golden::load("linalg");
    let mut report = Report::new();
    for case in &golden.cases {
        let inputs = golden.tensors_of(case, "inputs");
        let theirs = golden.tensor_of(case, "output");
        let (rtol, atol) = (case.float("rtol"), case.float("atol"));
        let rule = Rule { rtol, atol, signed_zero: false };
        let (name, attrs) = (case.str("fn"), case.inner("attrs"));
        report.case(case.id(), compare(&call(name, &inputs, &attrs), &theirs, rule));
        // The same numbers with the axes in another order in memory.
        let turned: Vec<Array> = inputs.iter().map(|x| x.t().contiguous().t()).collect();
        report.case(case.id(), compare(&call(name, &turned, &attrs), &theirs, rule));
        if case.get("gradients").is_null() {
            continue;
        }
        let weights = golden.tensor_of(case, "weights");
        match vjp(|x: &Vec<Array>| call(name, x, &attrs), &inputs, &weights) {
            Ok((_, ours)) => {
                for (i, theirs) in golden.tensors_of(case, "gradients").iter().enumerate() {
                    let id = format!("{}, gradient {i}", case.id());
                    report.case(id, compare(&ours[i], theirs, rule));
                }
            }
            Err(e) => report.case(format!("{}, gradient", case.id()), Err::<(), _>(e)),
        }
    }
    report.finish();
}

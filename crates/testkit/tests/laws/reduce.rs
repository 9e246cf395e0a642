//! Cases of reductions, running reductions, sorting and searching.

use crate::case::{ALL, AROUND, Case, Domain, Input, REAL};
use lazul_core::{Array, DType, Scan, Side};
use lazul_ir::{ArgReduceOp, ReduceOp, ScanOp};

/// Shapes and axes to reduce; none for all.
const AXES: &[(&[usize], Option<&[i64]>)] = &[
    (&[3, 4], Some(&[0])),
    (&[3, 4], Some(&[-1])),
    (&[3, 4], None),
    (&[2, 3, 4], Some(&[0, 2])),
    (&[2, 1, 3], Some(&[1])),
    (&[3, 4], Some(&[])),
    (&[], None),
    (&[1], None),
    (&[3, 0], Some(&[0])),
    (&[0, 3], Some(&[0])),
    (&[0], None),
];

pub(crate) fn reduce(op: ReduceOp) -> Vec<Case> {
    type F = fn(&Array, Vec<i64>) -> Array;
    type Whole = fn(&Array) -> Array;
    let (f, whole, domain): (F, Whole, Domain) = match op {
        ReduceOp::Sum => (|x, a| x.sum(a), |x| x.sum(..), AROUND),
        ReduceOp::Prod => (|x, a| x.prod(a), |x| x.prod(..), Domain::WithZeros),
        ReduceOp::Min => (|x, a| x.min(a), |x| x.min(..), AROUND),
        ReduceOp::Max => (|x, a| x.max(a), |x| x.max(..), AROUND),
        ReduceOp::All => (|x, a| x.all(a), |x| x.all(..), Domain::WithZeros),
        ReduceOp::Any => (|x, a| x.any(a), |x| x.any(..), Domain::WithZeros),
    };
    let ordered = matches!(op, ReduceOp::Min | ReduceOp::Max);
    let mut all = Vec::new();
    for &(shape, axes) in AXES {
        let empty = match axes {
            None => shape.contains(&0),
            Some(axes) => {
                axes.iter().any(|&a| shape[a.rem_euclid(shape.len() as i64) as usize] == 0)
            }
        };
        if ordered && empty {
            // An empty extremum is an error, not a value.
            continue;
        }
        let dtypes = if ordered { REAL } else { ALL };
        let inputs = vec![Input::numbers(shape, domain)];
        let name = format!("{} {shape:?} over {axes:?}", op.name());
        all.push(Case::new(name, dtypes, inputs, move |x| match axes {
            None => whole(&x[0]),
            Some(axes) => f(&x[0], axes.to_vec()),
        }));
    }
    if op == ReduceOp::Prod {
        let inputs = vec![Input::numbers(&[2, 4], AROUND)];
        all.push(Case::new("prod without zeros", ALL, inputs, |x| x[0].prod(-1)));
    }
    all
}

pub(crate) fn arg_reduce(op: ArgReduceOp) -> Vec<Case> {
    let f: fn(&Array, i64) -> Array = match op {
        ArgReduceOp::ArgMin => Array::argmin,
        ArgReduceOp::ArgMax => Array::argmax,
    };
    let case = |(shape, axis): (&[usize], i64)| {
        let inputs = vec![Input::numbers(shape, Domain::Choice(&[-1.5, 0.0, 0.5, 2.0]))];
        let name = format!("{op:?} {shape:?} along {axis}");
        Case::new(name, REAL, inputs, move |x| f(&x[0], axis)).exact()
    };
    let of: [(&[usize], i64); 4] = [(&[3, 4], 0), (&[3, 4], 1), (&[5], 0), (&[0, 2], 1)];
    of.into_iter().map(case).collect()
}

pub(crate) fn scan(op: ScanOp) -> Vec<Case> {
    type F = fn(&Array, i64, Scan) -> Array;
    let (f, domain, dtypes): (F, Domain, &[DType]) = match op {
        ScanOp::Sum => (Array::cumsum, AROUND, ALL),
        ScanOp::Prod => (Array::cumprod, Domain::WithZeros, ALL),
        ScanOp::Min => (Array::cummin, AROUND, REAL),
        ScanOp::Max => (Array::cummax, AROUND, REAL),
        ScanOp::LogAddExp => (Array::logcumsumexp, AROUND, REAL),
    };
    let mut all = Vec::new();
    let shapes: [(&[usize], i64); 5] =
        [(&[3, 4], 0), (&[3, 4], 1), (&[2, 7], 1), (&[1], 0), (&[0, 3], 0)];
    for (shape, axis) in shapes {
        for reverse in [false, true] {
            for inclusive in [true, false] {
                let how = Scan { reverse, inclusive };
                let inputs = vec![Input::numbers(shape, domain)];
                let name = format!(
                    "{} {shape:?} along {axis} reverse {reverse} inclusive {inclusive}",
                    op.name()
                );
                all.push(Case::new(name, dtypes, inputs, move |x| f(&x[0], axis, how)));
            }
        }
    }
    all
}

/// Shapes and axes to sort along.
const ORDERS: &[(&[usize], i64)] =
    &[(&[3, 4], 0), (&[3, 4], 1), (&[6], 0), (&[1], 0), (&[0, 2], 1), (&[2, 0], 1)];

pub(crate) fn sort() -> Vec<Case> {
    let case = |&(shape, axis): &(&[usize], i64)| {
        let inputs = vec![Input::numbers(shape, AROUND)];
        let name = format!("sort {shape:?} along {axis}");
        Case::new(name, ALL, inputs, move |x| x[0].sort(axis)).exact()
    };
    let mut all: Vec<Case> = ORDERS.iter().map(case).collect();
    let inputs = || vec![Input::numbers(&[2, 5], AROUND)];
    all.push(Case::new("topk", ALL, inputs(), |x| x[0].topk(2, -1)).exact());
    all.push(Case::new("median", REAL, inputs(), |x| x[0].median(-1)).exact());
    all
}

pub(crate) fn argsort() -> Vec<Case> {
    let case = |&(shape, axis): &(&[usize], i64)| {
        let inputs = vec![Input::numbers(shape, Domain::Choice(&[-1.5, 0.0, 0.5, 2.0]))];
        let name = format!("argsort {shape:?} along {axis}");
        Case::new(name, ALL, inputs, move |x| x[0].argsort(axis)).exact()
    };
    ORDERS.iter().map(case).collect()
}

pub(crate) fn searchsorted() -> Vec<Case> {
    const FEW: Domain = Domain::Choice(&[-1.5, 0.0, 0.5, 2.0]);
    let find = |rows: &[usize], values: &[usize], side: Side| {
        let inputs = vec![Input::numbers(rows, FEW), Input::numbers(values, FEW)];
        let name = format!("searchsorted {rows:?} {values:?} {side:?}");
        Case::new(name, ALL, inputs, move |x| x[0].sort(-1).searchsorted(&x[1], side)).exact()
    };
    let mut all = Vec::new();
    for side in [Side::Left, Side::Right] {
        all.extend([
            find(&[5], &[2, 3], side),
            find(&[2, 4], &[2, 3], side),
            find(&[4], &[], side),
            find(&[0], &[2], side),
        ]);
    }
    let interp = |x: &[Array]| x[0].interp(&x[1].sort(0), &x[2]);
    let points = || Input::numbers(&[4], AROUND);
    let inputs = vec![Input::numbers(&[2, 3], Domain::Spread(-1.6, 1.2)), points(), points()];
    all.push(Case::new("interp", &[DType::F32, DType::F64], inputs, interp));
    all
}

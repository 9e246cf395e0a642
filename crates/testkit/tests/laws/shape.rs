//! Cases of creation, views, copies and joins.

use crate::case::{ALL, AROUND, Case, Input};
use crate::list::ViewKind;
use lazul_core::{Array, DType, Pad, arange as range, full, ones};

fn one(name: &str, shape: &[usize], f: impl Fn(&Array) -> Array + Send + Sync + 'static) -> Case {
    let inputs = vec![Input::numbers(shape, AROUND)];
    Case::new(format!("{name} {shape:?}"), ALL, inputs, move |x| f(&x[0])).exact()
}

/// Nothing of an argument is in them: they are constants to every transform.
pub(crate) fn arange() -> Vec<Case> {
    vec![
        one("arange beside", &[2, 3], |x| x * range(3, DType::U8)),
        one("arange alone", &[2], |_| range(4, DType::F32)),
        one("arange of no size", &[0], |x| x * range(0, DType::U8)),
        // Constants are arrays of their own, which no primitive makes.
        one("zeros like", &[2, 3], Array::zeros_like),
        one("full beside", &[2, 3], |x| x + full([3], Array::scalar(2u8))),
        one("full of an argument", &[], |x| full([2, 2], x)),
        one("ones of no size", &[0, 2], |x| x * ones([0, 2], DType::U8)),
    ]
}

pub(crate) fn copy() -> Vec<Case> {
    let shapes: [&[usize]; 3] = [&[2, 3], &[], &[0, 2]];
    let mut all: Vec<Case> =
        shapes.iter().map(|s| one("contiguous", s, Array::contiguous)).collect();
    all.push(one("contiguous of a view", &[2, 3], |x| x.t().flip(0).contiguous()));
    all
}

pub(crate) fn view(kind: ViewKind) -> Vec<Case> {
    match kind {
        ViewKind::Reshape => vec![
            one("reshape to [2, 6]", &[3, 4], |x| x.reshape([2, 6])),
            one("reshape to [12]", &[3, 4], |x| x.reshape([-1])),
            one("reshape of a transposed array", &[3, 4], |x| x.t().reshape([2, 6])),
            one("reshape to [1, 1]", &[], |x| x.reshape([1, 1])),
            one("reshape to []", &[1, 1], |x| x.reshape(())),
            one("reshape to [3, 0]", &[0, 2], |x| x.reshape([3, 0])),
            one("flatten", &[2, 2, 3], |x| x.flatten(1, 2)),
        ],
        ViewKind::Transpose => vec![
            one("transpose 2 0 1", &[2, 3, 4], |x| x.transpose([2, 0, 1])),
            one("t", &[3, 4], Array::t),
            one("t", &[0, 4], Array::t),
            one("moveaxis 0 2", &[2, 3, 4], |x| x.moveaxis(0, 2)),
        ],
        ViewKind::Broadcast => vec![
            one("broadcast to [2, 3, 4]", &[3, 1], |x| x.broadcast_to([2, 3, 4])),
            one("broadcast to [2, 2]", &[], |x| x.broadcast_to([2, 2])),
            one("broadcast to [0, 3]", &[1, 3], |x| x.broadcast_to([0, 3])),
            one("broadcast to [2, 0, 1]", &[0, 1], |x| x.broadcast_to([2, 0, 1])),
            one("broadcast to [2, 1]", &[1, 1], |x| x.broadcast_to([2, 1])),
        ],
        ViewKind::Slice => vec![
            one("rows 1..4", &[5, 3], |x| x.slice_axis(0, 1, 4)),
            one("every second column", &[2, 5], |x| x.slice_step(1, None, None, 2)),
            one("rows backwards by 2", &[5, 2], |x| x.slice_step(0, 4, None, -2)),
            one("flip", &[2, 3], |x| x.flip(())),
            one("no rows", &[3, 2], |x| x.slice_axis(0, 2, 2)),
            one("one element", &[3, 2], |x| x.at_index(0, 1).at_index(0, -1)),
            one("diagonal", &[3, 4], |x| x.diagonal(1)),
            one("edge padding", &[2, 3], |x| x.pad(&[(1, 0), (2, 1)], Pad::Edge)),
        ],
        ViewKind::Strided => vec![
            one("windows", &[6], |x| x.as_strided([4, 3], [1, 1], 0)),
            one("backwards and repeated", &[2, 4], |x| x.as_strided([2, 2, 3], [-3, 0, 1], 4)),
            one("one element", &[2, 2], |x| x.as_strided((), (), 3)),
            one("strided of a view", &[3, 3], |x| x.t().as_strided([3], [4], 0)),
            one("no elements", &[3], |x| x.as_strided([0, 2], [1, 1], 1)),
        ],
        ViewKind::Bitcast => bitcast(),
    }
}

/// The parts of complex numbers are numbers; bits of other dtypes have no derivative.
fn bitcast() -> Vec<Case> {
    let mut all = Vec::new();
    for from in DType::ALL {
        for to in DType::ALL.into_iter().filter(|&d| d != DType::Bool) {
            let inputs = vec![Input::numbers(&[2, 8], AROUND)];
            let name = format!("{from} viewed as {to}");
            let case = Case::new(name, &[from], inputs, move |x| x[0].view(to)).exact();
            let numbers = from == to
                || matches!((from, to), (DType::C64, DType::F32) | (DType::F32, DType::C64));
            all.push(if numbers { case } else { case.jumps() });
        }
    }
    all
}

pub(crate) fn concatenate() -> Vec<Case> {
    let join = |shapes: &[&[usize]], axis: i64| {
        let inputs = shapes.iter().map(|s| Input::numbers(s, AROUND)).collect();
        let name = format!("concatenate {shapes:?} along {axis}");
        Case::new(name, ALL, inputs, move |x| lazul_core::concatenate(x, axis)).exact()
    };
    vec![
        join(&[&[2, 3], &[1, 3]], 0),
        join(&[&[2, 3], &[2, 1], &[2, 2]], 1),
        join(&[&[2, 3], &[0, 3]], 0),
        join(&[&[0], &[0]], 0),
        join(&[&[2, 2, 1], &[2, 2, 2]], -1),
        one("with itself", &[2, 2], |x| lazul_core::concatenate(&[x.clone(), x.t()], 1)),
        one("stack", &[2, 2], |x| lazul_core::stack(&[x.clone(), x.t()], 1)),
        one("constant padding", &[2, 3], |x| x.pad(&[(1, 0), (2, 1)], Pad::Constant(1.0))),
    ]
}

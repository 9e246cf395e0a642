//! Cases of operations that hold functions: calls, loops, branches, and functions with rules of their own.

use crate::case::{ALL, AROUND, Case, Domain, FLOATS, Input};
use crate::list::ControlKind;
use lazul_core::prelude::*;
use lazul_core::{Result, scan_with};

/// Floats and complex numbers.
const INEXACT: &[DType] = &[DType::F16, DType::BF16, DType::F32, DType::F64, DType::C64];

fn numbers(shape: &[usize]) -> Input {
    Input::numbers(shape, AROUND)
}

pub(crate) fn cases(kind: ControlKind) -> Vec<Case> {
    match kind {
        ControlKind::Checkpoint => checkpoints(),
        ControlKind::Compile => compiled(),
        ControlKind::Cond => branches(),
        ControlKind::CustomFunction => customs(),
        ControlKind::Scan => scans(),
        ControlKind::WhileLoop => whiles(),
    }
}

fn checkpoints() -> Vec<Case> {
    vec![
        Case::many("checkpoint", INEXACT, vec![numbers(&[2, 3])], |x| {
            Ok(vec![checkpoint(|x: &Array| x.sin() * x.exp())(&x[0])?])
        })
        .exact(),
        // A capture, several results, one of them an argument as it came.
        Case::many(
            "checkpoint with a capture",
            INEXACT,
            vec![numbers(&[3]), numbers(&[2, 3])],
            |x| {
                let w = x[1].clone();
                let f = move |x: &Array| (x * &w, w.sum(..), x.clone());
                let (a, b, c) = checkpoint(f)(&x[0])?;
                Ok(vec![a, b, c])
            },
        ),
        Case::many("checkpoint of integers too", ALL, vec![numbers(&[3])], |x| {
            let f = |x: &Array| (x.astype(DType::I32) + 1, x * 2u8);
            let (a, b) = checkpoint(f)(&x[0])?;
            Ok(vec![a, b])
        })
        .exact(),
        Case::many("checkpoint in a checkpoint", INEXACT, vec![numbers(&[2])], |x| {
            let f = |x: &Array| {
                let inner = checkpoint(|y: &Array| y.sin() * x)(x)?;
                Ok::<_, lazul_core::Error>(inner.cos())
            };
            Ok(vec![checkpoint(f)(&x[0])?])
        })
        .exact(),
    ]
}

fn compiled() -> Vec<Case> {
    vec![
        Case::many("compile", INEXACT, vec![numbers(&[2, 3]), numbers(&[3])], |x| {
            let f = compile(|(x, y): &(Array, Array)| (x.sin() * y, (x * y).sum(-1), y.sin()));
            let (a, b, c) = f(&(x[0].clone(), x[1].clone()))?;
            Ok(vec![a, b, c])
        }),
        Case::many("compile with a capture", INEXACT, vec![numbers(&[3]), numbers(&[3])], |x| {
            let w = x[1].clone();
            Ok(vec![compile(move |x: &Array| x * &w + w.cos())(&x[0])?])
        })
        .exact(),
        Case::many("compile of integers", ALL, vec![numbers(&[3])], |x| {
            Ok(vec![compile(|x: &Array| x + x)(&x[0])?])
        })
        .exact(),
        // Steps that differ in nothing but the dtype or shape of their result.
        Case::many("compile of alike steps", FLOATS, vec![numbers(&[4])], |x| {
            let f = compile(|x: &Array| {
                let [a, b, c] =
                    [DType::F16, DType::BF16, DType::F32].map(|d| x.astype(d).astype(DType::F32));
                (a + b * 2.0 + c * 4.0, x.reshape([2, 2]).t(), x.reshape([4, 1]), x.reshape([2, 2]))
            });
            let (a, b, c, d) = f(&x[0])?;
            Ok(vec![a, b, c, d])
        })
        .exact()
        .inside(DType::BF16),
        Case::many("compile with state", INEXACT, vec![numbers(&[3]), numbers(&[3])], |x| {
            let step = compile_with_state(|s: &mut Array, x: &Array| {
                *s = &*s * x + 1.0;
                s.sin()
            });
            let mut state = x[0].clone();
            let first = step(&mut state, &x[1])?;
            let second = step(&mut state, &x[1])?;
            Ok(vec![first, second, state])
        })
        .exact(),
    ]
}

fn branches() -> Vec<Case> {
    let flag = || Input::mask(&[]);
    vec![
        Case::many("cond", INEXACT, vec![flag(), numbers(&[2, 3])], |x| {
            Ok(vec![cond(&x[0], |x: &Array| x.sin(), |x: &Array| x * x, &x[1])?])
        })
        .exact(),
        Case::many(
            "cond with captures",
            INEXACT,
            vec![flag(), numbers(&[3]), numbers(&[3]), numbers(&[])],
            |x| {
                let (a, b) = (x[2].clone(), x[3].clone());
                let then = |x: &Array| (x * &a, x.exp());
                let other = |x: &Array| (x.cos() + &b, &a + &b);
                let (p, q) = cond(&x[0], then, other, &x[1])?;
                Ok(vec![p, q])
            },
        )
        .exact(),
        Case::many("cond on the argument", FLOATS, vec![numbers(&[4])], |x| {
            let sum = x[0].sum(..);
            Ok(vec![cond(&sum.greater(0.0), |x: &Array| x.sin(), |x: &Array| x * x, &x[0])?])
        }),
        Case::many("cond of integers", ALL, vec![flag(), numbers(&[3])], |x| {
            Ok(vec![cond(&x[0], |x: &Array| x + x, |x: &Array| x * x, &x[1])?])
        })
        .exact(),
        Case::many("cond that ignores its argument", INEXACT, vec![flag(), numbers(&[3])], |x| {
            let ones = |x: &Array| x.ones_like();
            Ok(vec![cond(&x[0], ones, |x: &Array| x.sin(), &x[1])?])
        })
        .exact(),
    ]
}

fn customs() -> Vec<Case> {
    let plain = Case::many("custom_function without rules", INEXACT, vec![numbers(&[2, 3])], |x| {
        Ok(vec![custom_function(|x: &Array| x.sin() * x).call(&x[0])?])
    });
    let ruled = Case::many(
        "custom_function with vjp and jvp",
        INEXACT,
        vec![numbers(&[3]), numbers(&[3])],
        |x| {
            let f = custom_function(|(a, b): &(Array, Array)| (a * b, a.sin()))
                .vjp(|(a, b), (c, d): &(Array, Array), _| {
                    (c * b.conj() + d * a.cos().conj(), c * a.conj())
                })
                .jvp(|(a, b), (s, t): &(Array, Array)| (s * b + a * t, s * a.cos()));
            let (p, q) = f.call(&(x[0].clone(), x[1].clone()))?;
            Ok(vec![p, q])
        },
    );
    let by_result =
        Case::many("custom_function whose vjp uses the result", FLOATS, vec![numbers(&[3])], |x| {
            let f = custom_function(|x: &Array| x.exp())
                .vjp(|_: &Array, c: &Array, y: &Array| c * y)
                .jvp(|x: &Array, t: &Array| t * x.exp());
            Ok(vec![f.call(&x[0])?])
        });
    let batched =
        Case::many("custom_function with a batch rule", FLOATS, vec![numbers(&[3])], |x| {
            let f = custom_function(|x: &Array| x.sin()).vmap(|x: &Array, _: &[bool], _| x.sin());
            Ok(vec![f.call(&x[0])?])
        });
    vec![plain.exact(), ruled.exact(), by_result.exact(), batched.exact()]
}

fn scans() -> Vec<Case> {
    // c ← sin(c · w + x), y = c · x.
    fn step(w: &Array, c: &Array, x: &Array) -> (Array, Array) {
        let next = (c * w + x).sin();
        (next.clone(), next * x)
    }
    let three = || vec![numbers(&[2]), numbers(&[3, 2]), numbers(&[2])];
    let way = |reverse: bool| {
        Case::many(format!("scan reverse {reverse}"), INEXACT, three(), move |x| {
            let w = x[2].clone();
            let how = Loop { reverse, ..Default::default() };
            let (c, y) = scan_with(|c: &Array, x: &Array| step(&w, c, x), &x[0], &x[1], how)?;
            Ok(vec![c, y])
        })
        .exact()
    };
    let counted = Case::many("scan that counts", ALL, vec![numbers(&[3, 2])], |x| {
        let zero = (Array::scalar(0i32), x[0].at_index(0, 0));
        let f = |(n, c): &(Array, Array), x: &Array| ((n + 1, x.clone()), (c.clone(), n * 2));
        let ((n, c), (y, m)) = scan(f, &zero, &x[0])?;
        Ok(vec![n, c, y, m])
    })
    .exact();
    let alone = Case::many("scan over nothing", INEXACT, vec![numbers(&[2])], |x| {
        let how = Loop { length: Some(3), ..Default::default() };
        let (c, ()) = scan_with(|c: &Array, _: &()| (c.sin() * 1.5, ()), &x[0], &(), how)?;
        Ok(vec![c])
    })
    .exact();
    let empty = Case::many(
        "scan of no steps",
        INEXACT,
        vec![numbers(&[2]), numbers(&[0, 2]), numbers(&[2])],
        |x| {
            let w = x[2].clone();
            let (c, y) = scan(|c: &Array, x: &Array| step(&w, c, x), &x[0], &x[1])?;
            Ok(vec![c, y])
        },
    )
    .exact();
    let nested =
        Case::many("scan in a scan", INEXACT, vec![numbers(&[2]), numbers(&[2, 2, 2])], |x| {
            let outer = |c: &Array, rows: &Array| {
                let inner = |c: &Array, x: &Array| ((c * x).sin(), c + x);
                scan(inner, c, rows)
            };
            let (c, y) = scan(outer, &x[0], &x[1])?;
            Ok(vec![c, y])
        })
        .exact();
    let captured = Case::many(
        "scan of a captured product",
        INEXACT,
        vec![numbers(&[3]), numbers(&[2, 3]), numbers(&[3, 3])],
        |x| {
            let w = x[2].clone();
            let f = |c: &Array, x: &Array| ((w.matmul(c) * 0.5 + x).sin(), ());
            let (c, ()) = scan(f, &x[0], &x[1])?;
            Ok(vec![c])
        },
    );
    vec![way(false), way(true), counted, alone, empty, nested, captured]
}

fn whiles() -> Vec<Case> {
    let halve = Case::many(
        "while_loop",
        FLOATS,
        vec![Input::numbers(&[3], Domain::Spread(5.0, 9.0))],
        |x| {
            let go = |x: &Array| x.max(..).greater(2.0);
            Ok(vec![while_loop(go, |x: &Array| x * 0.5, &x[0])?])
        },
    );
    let counted = Case::many(
        "while_loop with captures",
        FLOATS,
        vec![numbers(&[2]), numbers(&[2]), Input::starts(&[4], DType::I32)],
        |x| {
            let (w, n) = (x[1].clone(), x[2].reshape(()));
            let go = move |(i, _): &(Array, Array)| i.less(&n);
            let body = move |(i, x): &(Array, Array)| (i + 1, (x * &w).sin());
            let zero = Array::scalar(0i32);
            let (i, x) = while_loop(go, body, &(zero, x[0].clone()))?;
            Ok::<_, lazul_core::Error>(vec![i, x])
        },
    );
    let integers = Case::many(
        "while_loop of integers",
        &[DType::I32, DType::U8, DType::I64],
        vec![numbers(&[])],
        |x| -> Result<Vec<Array>> {
            let go = |x: &Array| x.less(20);
            Ok(vec![while_loop(go, |x: &Array| x + 3u8, &x[0])?])
        },
    );
    vec![
        halve.exact().forward_only(),
        counted.exact().forward_only(),
        integers.exact().forward_only(),
    ]
}

//! Transforms in transforms, in all orders.
//!
//! Functions of three numbers are wrapped again and again. Beside each stands what it means: a compiled,
//! checkpointed or branching function is the function itself, a loop is written out, a batch goes
//! example by example. Gradients and tangents are taken of both, and must agree.

use lazul_core::prelude::*;
use lazul_core::{ErrorKind, Result};
use lazul_testkit::{Report, Rng, Rule, compare};
use std::sync::Arc;

type Function = Arc<dyn Fn(&Array) -> Result<Array> + Send + Sync>;

/// A function and its meaning.
#[derive(Clone)]
struct Pair {
    ours: Function,
    plain: Function,
    /// Whether it is a loop of unknown length, and whether a gradient of such a loop is taken.
    endless: bool,
    refused: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wrap {
    Grad,
    Jvp,
    Vmap,
    Compile,
    Checkpoint,
    Custom,
    Ruled,
    Scan,
    While,
    Cond,
}

const WRAPS: [Wrap; 10] = {
    use Wrap::*;
    [Grad, Jvp, Vmap, Compile, Checkpoint, Custom, Ruled, Scan, While, Cond]
};

fn numbers(values: [f64; 3]) -> Array {
    Array::from_slice(&values, [3])
}

fn weights() -> Array {
    numbers([0.7, -1.1, 0.4])
}

fn gradient(f: &Function) -> Function {
    let f = f.clone();
    Arc::new(move |x| grad(|x: &Array| Ok::<_, lazul_core::Error>((f(x)? * weights()).sum(..)))(x))
}

fn tangent(f: &Function) -> Function {
    let f = f.clone();
    Arc::new(move |x| Ok(jvp(|x: &Array| f(x), x, &weights())?.1))
}

/// Three examples that depend on `x`.
fn examples(x: &Array) -> [Array; 3] {
    [x.clone(), x * 0.5, x.sin()]
}

fn wrapped(pair: &Pair, wrap: Wrap) -> Pair {
    let Pair { ours: f, plain: p, endless, refused } = pair.clone();
    let both = |ours: Function, plain: Function| Pair { ours, plain, endless, refused };
    match wrap {
        Wrap::Grad => Pair { refused: refused || endless, ..both(gradient(&f), gradient(&p)) },
        Wrap::Jvp => both(tangent(&f), tangent(&p)),
        Wrap::Vmap => {
            let ours = move |x: &Array| {
                let all = vmap(|x: &Array| f(x))(&stack(&examples(x), 0))?;
                Ok((all * numbers([1.0, 2.0, 3.0]).expand_dims(1)).sum(0))
            };
            let plain = move |x: &Array| {
                let [a, b, c] = examples(x);
                Ok(p(&a)? + p(&b)? * 2.0 + p(&c)? * 3.0)
            };
            both(Arc::new(ours), Arc::new(plain))
        }
        Wrap::Compile => {
            // One compiled function for all calls, whatever looks at them.
            let g = compile(move |x: &Array| f(x));
            both(Arc::new(g), p)
        }
        Wrap::Checkpoint => both(Arc::new(move |x| checkpoint(|x: &Array| f(x))(x)), p),
        Wrap::Custom => both(Arc::new(move |x| custom_function(|x: &Array| f(x)).call(x)), p),
        Wrap::Ruled => {
            let ours = move |x: &Array| {
                let (g, h) = (f.clone(), f.clone());
                custom_function(|x: &Array| f(x))
                    .vjp(move |x: &Array, c: &Array, _: &Array| {
                        Ok::<_, lazul_core::Error>(vjp(|x: &Array| g(x), x, c)?.1)
                    })
                    .jvp(move |x: &Array, t: &Array| {
                        Ok::<_, lazul_core::Error>(jvp(|x: &Array| h(x), x, t)?.1)
                    })
                    .call(x)
            };
            both(Arc::new(ours), p)
        }
        Wrap::Scan => {
            let ours = move |x: &Array| {
                let step = |c: &Array, s: &Array| -> Result<(Array, Array)> {
                    let next = f(c)? * s + x;
                    Ok((next.tanh(), next))
                };
                let (last, all) = scan(step, x, &numbers([0.5, -0.3, 0.2]))?;
                Ok(last + all.sum(0) * 0.1)
            };
            let plain = move |x: &Array| {
                let (mut c, mut sum) = (x.clone(), x.zeros_like());
                for s in [0.5, -0.3, 0.2] {
                    let next = p(&c)? * s + x;
                    c = next.tanh();
                    sum += next;
                }
                Ok(c + sum * 0.1)
            };
            both(Arc::new(ours), Arc::new(plain))
        }
        Wrap::While => {
            let ours = move |x: &Array| {
                let body = |(i, y): &(Array, Array)| -> Result<(Array, Array)> {
                    Ok((i + 1, (f(y)? * 0.5 + x).tanh()))
                };
                let go = |(i, _): &(Array, Array)| i.less(2);
                Ok(while_loop(go, body, &(Array::scalar(0i32), x.clone()))?.1)
            };
            let plain = move |x: &Array| {
                let once = (p(x)? * 0.5 + x).tanh();
                Ok((p(&once)? * 0.5 + x).tanh())
            };
            Pair { endless: true, ..both(Arc::new(ours), Arc::new(plain)) }
        }
        Wrap::Cond => {
            let ours = move |x: &Array| {
                let other = |x: &Array| Ok::<_, lazul_core::Error>(x.cos());
                cond(&x.sum(..).greater(-100.0), |x: &Array| f(x), other, x)
            };
            both(Arc::new(ours), p)
        }
    }
}

fn base() -> Pair {
    let f: Function = Arc::new(|x: &Array| {
        let s = x.sin() * x.sum(..) + x.cumsum(0, Scan::default()).tanh();
        Ok(&s * 0.5 + s.matmul(&s) * 0.1)
    });
    Pair { ours: f.clone(), plain: f, endless: false, refused: false }
}

fn check(wraps: &[Wrap], report: &mut Report) {
    let pair = wraps.iter().fold(base(), |pair, &w| wrapped(&pair, w));
    let x = numbers([0.3, -0.4, 0.9]);
    let outcome = (pair.ours)(&x);
    let id = format!("{wraps:?}, innermost first");
    if pair.refused {
        let right = outcome.is_err_and(|e| e.op() == "while_loop" && e.kind() == ErrorKind::Value);
        report.expect(id, right, || "a gradient of a loop of unknown length".to_string());
        return;
    }
    let near = Rule { rtol: 1e-11, atol: 1e-11, signed_zero: false };
    let outcome = outcome.and_then(|a| Ok((a, (pair.plain)(&x)?)));
    report.case(
        id,
        match outcome {
            Ok((ours, plain)) => compare(&ours, &plain, near),
            Err(e) => Err(e.to_string()),
        },
    );
}

#[test]
fn all_orders_of_two() {
    let mut report = Report::new();
    for a in WRAPS {
        check(&[a], &mut report);
        for b in WRAPS {
            check(&[a, b], &mut report);
        }
    }
    report.finish();
}

#[test]
fn all_orders_of_three() {
    let mut report = Report::new();
    for a in WRAPS {
        for b in WRAPS {
            for c in WRAPS {
                check(&[a, b, c], &mut report);
            }
        }
    }
    report.finish();
}

#[test]
fn some_orders_of_four() {
    let mut rng = Rng::new(4);
    let mut report = Report::new();
    for _ in 0..150 {
        let wraps: Vec<Wrap> = (0..4).map(|_| *rng.pick(&WRAPS)).collect();
        check(&wraps, &mut report);
    }
    report.finish();
}

/// The loss of a network of two layers, of all its parameters in one vector.
fn network(w: &Array) -> Array {
    let x = Array::from_slice(&[0.5, -1.0, 0.25, 2.0, 1.5, -0.75], [3, 2]);
    let part = |from: i64, to: i64| w.slice_axis(0, from, to);
    let (w1, b1, w2) = (part(0, 8).reshape([2, 4]), part(8, 12), part(12, 16));
    let hidden = (x.matmul(&w1) + b1).tanh(); // (3, 4)
    let y = hidden.matmul(&w2); // (3)
    (y - numbers([1.0, 0.0, -1.0])).square().mean(..)
}

#[test]
fn hessian_of_a_network() -> Result<()> {
    let w = random::normal([16], DType::F32, Some(&random::key(3))).astype(DType::F64);
    let h = hessian(network)(&w)?;
    assert_eq!(h.shape()?, &[16, 16]);
    let symmetric = Rule { rtol: 0.0, atol: 1e-14, signed_zero: false };
    compare(&h, &h.t(), symmetric).unwrap_or_else(|e| panic!("{e}"));
    let g = grad(network);
    let step = 1e-5;
    let rows = (0..16)
        .map(|i| {
            let e = identity(16, DType::F64).at_index(0, i) * step;
            Ok((g(&(&w + &e))? - g(&(&w - &e))?) / (2.0 * step))
        })
        .collect::<Result<Vec<_>>>()?;
    let near = Rule { rtol: 0.0, atol: 1e-9, signed_zero: false };
    compare(&h, &stack(&rows, 0), near).unwrap_or_else(|e| panic!("{e}"));
    // Forward over reverse, one column at a time, and reverse over forward.
    let columns = vmap(|v: &Array| Ok::<_, lazul_core::Error>(jvp(grad(network), &w, v)?.1))(
        &identity(16, DType::F64),
    )?;
    compare(&columns, &h, symmetric).unwrap_or_else(|e| panic!("{e}"));
    let slope = |v: &Array| grad(|w: &Array| Ok::<_, lazul_core::Error>(jvp(network, w, v)?.1))(&w);
    let rows = vmap(slope)(&identity(16, DType::F64))?;
    compare(&rows, &h, symmetric).unwrap_or_else(|e| panic!("{e}"));
    Ok(())
}

#[test]
fn jacobian_of_a_map() -> Result<()> {
    let x = Array::from_slice(&[0.3, 0.7], [2]);
    let f = |x: &Array| stack(&[x.prod(..), x.sum(..), x.at_index(0, 0).sin()], 0);
    let j = jacobian(f)(&x)?;
    let theirs = [0.7, 0.3, 1.0, 1.0, 0.3f64.cos(), 0.0];
    compare(
        &j,
        &Array::from_slice(&theirs, [3, 2]),
        Rule { rtol: 0.0, atol: 1e-15, signed_zero: false },
    )
    .unwrap_or_else(|e| panic!("{e}"));
    Ok(())
}

/// The inner derivative must not take the outer variable for its own.
#[test]
fn variables_of_nested_transforms_stay_apart() -> Result<()> {
    let one = Array::scalar(1.0f64);
    // d/dx (x · d/dy (x + y)) = 1, d/dx (x · d/dy (x · y)) = 2x.
    let sum = |x: &Array| Ok::<_, lazul_core::Error>(x * grad(|y: &Array| x + y)(&one)?);
    assert_eq!(grad(sum)(&Array::scalar(3.0f64))?.item::<f64>()?, 1.0);
    let product = |x: &Array| Ok::<_, lazul_core::Error>(x * grad(|y: &Array| x * y)(&one)?);
    assert_eq!(grad(product)(&Array::scalar(3.0f64))?.item::<f64>()?, 6.0);
    let ahead = |x: &Array| Ok::<_, lazul_core::Error>(x * jvp(|y: &Array| x * y, &one, &one)?.1);
    let (y, t) = jvp(ahead, &Array::scalar(3.0f64), &one)?;
    assert_eq!((y.item::<f64>()?, t.item::<f64>()?), (9.0, 6.0));
    assert_eq!(grad(ahead)(&Array::scalar(3.0f64))?.item::<f64>()?, 6.0);
    // An inner batch whose function uses the outer one's example.
    let outer = |x: &Array| vmap(|y: &Array| x * 10.0 + y)(&arange(2, DType::F32));
    let y = vmap(outer)(&arange(3, DType::F32))?;
    assert_eq!(y.to_vec::<f32>()?, [0.0, 1.0, 10.0, 11.0, 20.0, 21.0]);
    Ok(())
}

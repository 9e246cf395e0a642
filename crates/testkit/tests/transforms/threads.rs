//! Many threads that transform at once, with arrays, graphs and compiled functions in common.

use lazul_core::prelude::*;
use lazul_core::{Error, Result};
use std::sync::Barrier;

const THREADS: usize = 8;

/// Runs `f` on several threads that begin together, and gives what each gave.
fn at_once<R: Send>(f: impl Fn(usize) -> Result<R> + Sync) -> Vec<R> {
    let barrier = Barrier::new(THREADS);
    std::thread::scope(|scope| {
        let run = |i: usize| {
            let (barrier, f) = (&barrier, &f);
            scope.spawn(move || {
                barrier.wait();
                f(i).unwrap_or_else(|e| panic!("thread {i}: {e}"))
            })
        };
        let all: Vec<_> = (0..THREADS).map(run).collect();
        all.into_iter().map(|t| t.join().expect("no panic")).collect()
    })
}

fn loss(w: &Array, x: &Array) -> Array {
    let y = x.matmul(w).tanh();
    y.softmax(-1).square().sum(..) + y.sort(0).cumsum(0, Scan::default()).mean(..)
}

fn drawn(seed: u64, shape: [usize; 2]) -> Array {
    random::normal(shape, DType::F32, Some(&random::key(seed)))
}

fn bits(a: &Array) -> Result<Vec<u32>> {
    Ok(a.to_vec::<f32>()?.into_iter().map(f32::to_bits).collect())
}

#[test]
fn gradients_of_shared_arrays() -> Result<()> {
    // Lazy and shared: whoever comes first evaluates it.
    let shared = || (drawn(1, [6, 4]) * 2.0).exp();
    let alone = {
        let (w, x) = (drawn(2, [4, 5]), shared());
        bits(&grad(|w: &Array| loss(w, &x))(&w)?)?
    };
    for _ in 0..10 {
        let (w, x) = (drawn(2, [4, 5]), shared());
        let all = at_once(|_| {
            let g = grad(|w: &Array| loss(w, &x))(&w)?;
            bits(&g)
        });
        assert!(all.iter().all(|g| *g == alone));
    }
    Ok(())
}

#[test]
fn every_transform_on_every_thread() -> Result<()> {
    let (w, x) = (drawn(3, [4, 5]), drawn(4, [6, 4]));
    let f = |w: &Array| loss(w, &x);
    let work = |i: usize| -> Result<Vec<Vec<u32>>> {
        let mut made: Vec<Array> = Vec::new();
        for k in 0..6 {
            match (i + k) % 6 {
                0 => made.push(grad(f)(&w)?),
                1 => made.push(jvp(f, &w, &w)?.1),
                2 => made.push(vmap(|r: &Array| r.sin().sum(..))(&w)?),
                3 => made.push(grad(|w: &Array| Ok::<_, Error>(grad(f)(w)?.square().sum(..)))(&w)?),
                4 => made.push(compile(grad(f))(&w)?),
                _ => {
                    made.push(scan(|c: &Array, x: &Array| (c + x, c * x), &x.at_index(0, 0), &x)?.1)
                }
            }
        }
        // In the order of the kinds, whatever the order of the work.
        let place = |kind: usize| (kind + 6 - i % 6) % 6;
        (0..6).map(|kind| bits(&made[place(kind)])).collect()
    };
    let alone = work(0)?;
    for _ in 0..5 {
        assert!(at_once(work).iter().all(|r| *r == alone));
    }
    Ok(())
}

#[test]
fn one_compiled_function_for_all_threads() -> Result<()> {
    let x = drawn(5, [6, 4]);
    let step = compile_with_state(|w: &mut Array, x: &Array| {
        let (value, g) = value_and_grad(|w: &Array| loss(w, x))(w)?;
        *w -= g * 0.1;
        Ok::<_, Error>(value)
    });
    let train = |_: usize| -> Result<Vec<u32>> {
        let mut w = drawn(6, [4, 5]);
        for _ in 0..20 {
            step(&mut w, &x)?.eval()?;
        }
        bits(&w)
    };
    let all = at_once(train);
    let alone = train(0)?;
    assert!(all.iter().all(|w| *w == alone));
    Ok(())
}

#[test]
fn threads_within_a_function() -> Result<()> {
    // Parts of what is differentiated are built and evaluated by other threads.
    let f = |x: &Array| -> Result<Array> {
        let parts = std::thread::scope(|scope| {
            let part = |i: usize| {
                scope.spawn(move || -> Result<Array> {
                    let y = (x * (i + 1) as f64).sin();
                    if i.is_multiple_of(2) {
                        y.eval()?;
                    }
                    Ok(y)
                })
            };
            let all: Vec<_> = (0..4).map(part).collect();
            all.into_iter().map(|t| t.join().expect("no panic")).collect::<Result<Vec<_>>>()
        })?;
        Ok(stack(&parts, 0).sum(..))
    };
    let x = Array::scalar(0.3f64);
    let theirs: f64 = (1..5).map(|k| k as f64 * (0.3 * k as f64).cos()).sum();
    assert!((grad(f)(&x)?.item::<f64>()? - theirs).abs() < 1e-14);
    // A transform on another thread inside one on this.
    let inner = |x: &Array| {
        std::thread::scope(|scope| {
            scope.spawn(|| grad(|y: &Array| y.square() * x)(x)).join().expect("no panic")
        })
    };
    assert_eq!(grad(inner)(&Array::scalar(3.0f64))?.item::<f64>()?, 12.0);
    Ok(())
}

//! Training for long takes no more memory than training for a while, and functions that are dropped
//! take what they hold with them. One test: the figures are the process' own.

use lazul_core::prelude::*;
use lazul_core::{Error, Result, memory};
use std::sync::{Arc, Weak};

/// Bytes of the process that are in memory; `None` where the system does not say.
fn resident() -> Option<usize> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    Some(text.split_whitespace().nth(1)?.parse::<usize>().ok()? * 4096)
}

/// Runs `step` for a while, then much longer: neither arrays nor anything else may pile up.
fn steady(name: &str, mut step: impl FnMut() -> Result<()>) -> Result<()> {
    for _ in 0..500 {
        step()?;
    }
    let (active, before) = (memory::stats().active, resident());
    for _ in 0..10_000 {
        step()?;
    }
    let grown = memory::stats().active as i64 - active as i64;
    assert!(grown <= 0, "{name}: arrays take {grown} bytes more after 10,000 steps");
    if let (Some(before), Some(after)) = (before, resident()) {
        let grown = after as i64 - before as i64;
        // A node takes some hundred bytes: one left behind a step would be megabytes.
        assert!(grown < 1 << 20, "{name}: {grown} bytes more after 10,000 steps");
    }
    Ok(())
}

type Weights = (Array, Array);

fn loss((a, b): &Weights, x: &Array) -> Array {
    (x.matmul(a).tanh().matmul(b) - x.slice_axis(-1, 0, 2)).square().mean(..)
}

fn weights() -> Weights {
    let draw =
        |seed, shape: [usize; 2]| random::normal(shape, DType::F32, Some(&random::key(seed)));
    (draw(1, [3, 4]) * 0.3, draw(2, [4, 2]) * 0.3)
}

/// The gradient of attention holds the scores of some queries at a time, not those of all.
fn gradient_of_long_attention() -> Result<()> {
    let shape = [1, 4, 2048, 8];
    let draw = |seed| random::normal(shape, DType::F32, Some(&random::key(seed)));
    let inputs: Vec<Array> = (0..4).map(draw).collect();
    eval(&inputs)?;
    let before = memory::stats().active;
    memory::reset_peak();
    let how = fast::Attention { scale: 0.3, mask: fast::Mask::Causal, ..Default::default() };
    let loss = |x: &Vec<Array>| {
        (fast::scaled_dot_product_attention(&x[0], &x[1], &x[2], &how) * &x[3]).sum(..)
    };
    eval(&grad(loss)(&inputs)?)?;
    // All scores would take 64 MiB, and a gradient needs several arrays of that size.
    let most = memory::stats().peak - before;
    assert!(most < 160 << 20, "the gradient of attention took {most} bytes");
    Ok(())
}

#[test]
fn nothing_piles_up() -> Result<()> {
    gradient_of_long_attention()?;
    let x = random::normal([5, 3], DType::F32, Some(&random::key(3)));

    let mut w = weights();
    steady("gradient", || {
        let (value, (a, b)) = value_and_grad(|w: &Weights| loss(w, &x))(&w)?;
        w = (&w.0 - a * 0.05, &w.1 - b * 0.05);
        eval([&value, &w.0, &w.1])
    })?;
    assert!(loss(&w, &x).item::<f32>()? < 0.1);

    // The loss is read, the weights are lazy until the next step reads them.
    let mut w = weights();
    steady("gradient, lazily", || {
        let (value, (a, b)) = value_and_grad(|w: &Weights| loss(w, &x))(&w)?;
        w = (&w.0 - a * 0.05, &w.1 - b * 0.05);
        value.item::<f32>().map(drop)
    })?;

    let step = compile_with_state(|w: &mut Weights, x: &Array| {
        let (value, (a, b)) = value_and_grad(|w: &Weights| loss(w, x))(w)?;
        w.0 -= a * 0.05;
        w.1 -= b * 0.05;
        Ok::<_, Error>(value)
    });
    let mut w = weights();
    steady("compiled", || step(&mut w, &x)?.item::<f32>().map(drop))?;

    let mut w = weights();
    let rescaled = custom_function(|x: &Array| x.clone())
        .vjp(|_: &Array, c: &Array, _: &Array| c / (c.square().sum(..) + 1.0).sqrt());
    steady("custom function, checkpoint and loop", || {
        let inner = |w: &Weights| -> Result<Array> {
            let block = checkpoint(|x: &Array| loss(w, x));
            let step = |c: &Array, x: &Array| (c * 0.5 + x, ());
            let (last, ()) = scan(step, &zeros(3, DType::F32), &x)?;
            Ok(block(&x)? + rescaled.call(&last.expand_dims(0).matmul(&w.0))?.mean(..))
        };
        let g = grad(inner)(&w)?;
        w = (&w.0 - g.0 * 0.01, &w.1 - g.1 * 0.01);
        eval([&w.0, &w.1])
    })?;

    steady("second derivatives and batches", || {
        let f = |x: &Array| x.sin().prod(..);
        hessian(f)(&x.at_index(0, 0))?.eval()?;
        vmap(grad(f))(&x)?.eval()
    })?;

    steady("failing steps", || {
        let bad = |w: &Weights| loss(w, &x).reshape([7]);
        assert!(grad(bad)(&w).is_err());
        let late = |w: &Weights| loss(w, &x) + w.0.take(Array::from_slice(&[9], [1]), 0).sum(..);
        assert!(grad(late)(&w)?.0.eval().is_err());
        assert!(value_and_grad(late)(&w)?.0.eval().is_err());
        Ok(())
    })?;

    functions_let_go()
}

/// A value that a closure holds, and a way to see whether it is gone.
fn held() -> (Arc<()>, Weak<()>) {
    let strong = Arc::new(());
    let weak = Arc::downgrade(&strong);
    (strong, weak)
}

fn functions_let_go() -> Result<()> {
    let big = || {
        let a = ones([1000, 1000], DType::F32).contiguous();
        a.eval().map(|()| a)
    };
    let before = memory::stats().active;
    let x = ones([1000], DType::F32);
    let mut gone: Vec<(&str, Weak<()>)> = Vec::new();

    // Compiled functions hold what they capture, and no longer than they live.
    let (token, weak) = held();
    gone.push(("compile", weak));
    let w = big()?;
    let f = compile(move |x: &Array| {
        let _ = &token;
        w.matmul(x).sin()
    });
    f(&x)?.eval()?;
    f(&ones([1000, 2], DType::F32))?.eval()?;
    grad(|x: &Array| Ok::<_, Error>(f(x)?.sum(..)))(&x)?.eval()?;
    vmap(|x: &Array| f(x))(&ones([2, 1000], DType::F32))?.eval()?;
    drop(f);

    // A compiled function within a compiled function, and one that kept its own result.
    let (token, weak) = held();
    gone.push(("nested compile", weak));
    let w = big()?;
    let inner = compile(move |x: &Array| {
        let _ = &token;
        w.matmul(x)
    });
    let outer = compile(move |x: &Array| Ok::<_, Error>(inner(x)? * 2.0));
    let y = outer(&x)?;
    y.eval()?;
    drop(outer);
    drop(y);

    // Rules of custom functions are held by the graph, and by nothing else.
    let (token, weak) = held();
    gone.push(("custom function", weak));
    let w = big()?;
    let f = custom_function(|x: &Array| x.sin()).vjp(move |_: &Array, c: &Array, _: &Array| {
        let _ = &token;
        w.matmul(c)
    });
    let g = grad(|x: &Array| Ok::<_, Error>(f.call(x)?.sum(..)))(&x)?;
    g.eval()?;
    let compiled = compile(grad(|x: &Array| Ok::<_, Error>(f.call(x)?.sum(..))));
    compiled(&x)?.eval()?;
    drop(compiled);
    drop(f);
    drop(g);

    // A checkpointed block and loops that captured, evaluated and not.
    let w = big()?;
    let y = checkpoint(|x: &Array| w.matmul(x))(&x)?;
    let (z, ()) = scan(|c: &Array, x: &Array| (w.matmul(c) * x, ()), &x, &ones([2], DType::F32))?;
    z.eval()?;
    drop((w, y, z));

    // A rule that captures the array it is applied to.
    let (token, weak) = held();
    gone.push(("rule with its own argument", weak));
    let loss = |x: &Array| -> Result<Array> {
        let (own, token) = (x.clone(), token.clone());
        let f = custom_function(|x: &Array| x.sin()).vjp(move |_: &Array, c: &Array, _: &Array| {
            let _ = &token;
            c * own.cos()
        });
        Ok(f.call(x)?.sum(..))
    };
    grad(loss)(&x)?.eval()?;
    drop(token);

    for (name, weak) in &gone {
        assert!(weak.upgrade().is_none(), "{name}: what it held is still there");
    }
    drop(x);
    let left = memory::stats().active as i64 - before as i64;
    assert!(left <= 0, "{left} bytes of arrays are left");
    Ok(())
}

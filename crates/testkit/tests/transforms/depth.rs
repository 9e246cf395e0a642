//! Graphs of a million nodes through every transform, on the stack that a thread has by default, and
//! dropped there.

use lazul_core::prelude::*;
use lazul_core::{Error, Result};

/// Runs `f` on a thread with a stack of 2 MiB.
fn on_a_small_stack<R: Send + 'static>(f: impl FnOnce() -> Result<R> + Send + 'static) -> R {
    let thread = std::thread::Builder::new().stack_size(2 << 20).spawn(f).expect("a thread");
    thread.join().expect("no overflow of the stack").unwrap_or_else(|e| panic!("{e}"))
}

const MILLION: usize = 1_000_000;

fn chain(x: &Array, n: usize) -> Array {
    (0..n).fold(x.clone(), |y, i| if i % 2 == 0 { y * 0.999_999 } else { y + x })
}

fn start() -> Array {
    Array::from_slice(&[1.0f64, 2.0], [2])
}

#[test]
fn a_million_nodes_through_a_gradient() {
    let (g, slope) = on_a_small_stack(|| {
        let f = |x: &Array| chain(x, MILLION).sum(..);
        let g = grad(f)(&start())?.to_vec::<f64>()?;
        // Linear, so the gradient is the value's ratio.
        Ok((g, f(&start()).item::<f64>()? / 3.0))
    });
    assert!((g[0] - slope).abs() < 1e-9 * slope && g[0] == g[1], "{g:?} {slope}");
}

#[test]
fn a_million_nodes_forward_and_over_a_batch() {
    on_a_small_stack(|| {
        let f = |x: &Array| chain(x, MILLION);
        let (y, t) = jvp(f, &start(), &start())?;
        assert_eq!(y.to_vec::<f64>()?, t.to_vec::<f64>()?);
        let rows = stack(&[start(), start() * 2.0], 0);
        let both = vmap(f)(&rows)?.to_vec::<f64>()?;
        assert_eq!(both[..2], y.to_vec::<f64>()?);
        Ok(())
    });
}

#[test]
fn results_that_nobody_reads_drop() {
    on_a_small_stack(|| {
        let f = |x: &Array| chain(x, MILLION / 2).sum(..);
        drop(grad(f)(&start())?);
        drop(value_and_grad(f)(&start())?);
        drop(jvp(f, &start(), &start())?);
        drop(vmap(f)(&stack(&[start(), start()], 0))?);
        drop(checkpoint(f)(&start())?);
        // A graph that has been evaluated while a transform looked at it, and kept all of itself.
        let watched = |x: &Array| {
            let y = chain(x, MILLION / 2);
            y.eval()?;
            Ok::<_, Error>(y.sum(..))
        };
        drop(grad(watched)(&start())?);
        Ok(())
    });
}

#[test]
fn long_compiled_and_looped_functions() {
    on_a_small_stack(|| {
        let f = compile(|x: &Array| chain(x, MILLION / 4));
        let y = f(&start())?.to_vec::<f64>()?;
        assert_eq!(y, chain(&start(), MILLION / 4).to_vec::<f64>()?);
        drop(f);
        let step = |c: &Array, _: &()| (c * 0.999_9 + 1.0, ());
        let long = Loop { length: Some(20_000), ..Default::default() };
        let loss = |x: &Array| Ok::<_, Error>(scan_with(step, x, &(), long)?.0.sum(..));
        let g = grad(loss)(&start())?.to_vec::<f64>()?;
        assert!((g[0] - 0.999_9f64.powi(20_000)).abs() < 1e-12, "{g:?}");
        Ok(())
    });
}

/// Functions held by a chain of nodes, each of which captures the node before.
#[test]
fn chains_of_functions_drop() {
    const LONG: usize = 30_000;
    on_a_small_stack(|| {
        let one = start();
        let mut y = one.clone();
        for _ in 0..LONG {
            let before = y.clone();
            y = checkpoint(move |x: &Array| x * 0.5 + &before * 0.5)(&one)?;
        }
        drop(y);
        let mut y = one.clone();
        for _ in 0..LONG {
            let before = y.clone();
            y = cond(
                &one.sum(..).greater(0.0),
                |x: &Array| x + &before,
                |x: &Array| x - &before,
                &one,
            )?;
        }
        drop(y);
        let custom = |x: &Array| {
            let f = custom_function(|x: &Array| x.sin())
                .vjp(|x: &Array, c: &Array, _: &Array| c * x.cos());
            (0..LONG).try_fold(x.clone(), |y, _| f.call(&y))
        };
        let g = grad(|x: &Array| Ok::<_, Error>(custom(x)?.sum(..)))(&start())?;
        assert!(g.to_vec::<f64>()?.iter().all(|g| g.is_finite()));
        drop(grad(|x: &Array| Ok::<_, Error>(custom(x)?.sum(..)))(&start())?);
        drop(vmap(custom)(&start())?);
        Ok(())
    });
}

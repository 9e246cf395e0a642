//! Values read and evaluated in the middle of a transform, constants within functions, and arrays that
//! outlive the transform in which they were made.

use lazul_core::prelude::*;
use lazul_core::{Error, Result};
use std::cell::RefCell;

fn scalar(v: f64) -> Array {
    Array::scalar(v)
}

/// Branches on a value: x² above 1, else 3x.
fn bent(x: &Array) -> Result<Array> {
    Ok(if x.item::<f64>()? > 1.0 { x.square() } else { x * 3.0 })
}

#[test]
fn a_function_may_read_its_argument() -> Result<()> {
    assert_eq!(grad(bent)(&scalar(2.0))?.item::<f64>()?, 4.0);
    assert_eq!(grad(bent)(&scalar(0.5))?.item::<f64>()?, 3.0);
    assert_eq!(grad(grad(bent))(&scalar(2.0))?.item::<f64>()?, 2.0);
    assert_eq!(grad(grad(bent))(&scalar(0.5))?.item::<f64>()?, 0.0);
    assert_eq!(jvp(bent, &scalar(2.0), &scalar(10.0))?.1.item::<f64>()?, 40.0);
    // A compiled function is traced without values, but calls its own under a gradient.
    let compiled = compile(bent);
    assert!(compiled(&scalar(2.0)).is_err());
    assert_eq!(grad(|x: &Array| compiled(x))(&scalar(2.0))?.item::<f64>()?, 4.0);
    // Reading something that does not depend on the argument is always possible.
    let c = scalar(2.0);
    let f = |x: &Array| Ok::<_, Error>(x * (&c * 2.0).item::<f64>()?);
    assert_eq!(vmap(f)(&Array::from_slice(&[1.0, 2.0], [2]))?.to_vec::<f64>()?, [4.0, 8.0]);
    Ok(())
}

#[test]
fn evaluating_in_between_changes_nothing() -> Result<()> {
    let f = |evaluate: bool| {
        move |x: &Array| -> Result<Array> {
            let mut y = x.sin();
            for i in 0..5 {
                if evaluate {
                    y.eval()?;
                }
                y = y.exp() * x - i as f64;
                if evaluate {
                    let _ = (format!("{y}"), y.to_vec::<f64>()?, async_eval([&y])?);
                }
                y = y.tanh() + x.stop_gradient();
            }
            Ok(y.sum(..))
        }
    };
    let x = Array::from_slice(&[0.3, -0.8], [2]);
    let bits = |a: Array| -> Result<Vec<u64>> {
        Ok(a.to_vec::<f64>()?.into_iter().map(f64::to_bits).collect())
    };
    assert_eq!(bits(grad(f(true))(&x)?)?, bits(grad(f(false))(&x)?)?);
    let second = |e: bool| grad(move |x: &Array| Ok::<_, Error>(grad(f(e))(x)?.square().sum(..)));
    assert_eq!(bits(second(true)(&x)?)?, bits(second(false)(&x)?)?);
    let v = Array::from_slice(&[1.0, -2.0], [2]);
    assert_eq!(bits(jvp(f(true), &x, &v)?.1)?, bits(jvp(f(false), &x, &v)?.1)?);
    // Evaluating the inner gradient inside the outer function.
    let inner = |x: &Array| -> Result<Array> {
        let g = grad(f(false))(x)?;
        g.eval()?;
        Ok(g.square().sum(..))
    };
    assert_eq!(bits(grad(inner)(&x)?)?, bits(second(false)(&x)?)?);
    Ok(())
}

#[test]
fn arrays_of_a_graph_that_is_there_already() -> Result<()> {
    // The argument is lazy, its graph partly evaluated, and it is used outside too.
    let a = arange(3, DType::F64) + 1.0;
    let b = &a * 2.0;
    b.eval()?;
    let x = &b + &a;
    let dx = grad(|x: &Array| (x * &b).sum(..) + (&a * &a).sum(..))(&x)?;
    assert_eq!(dx.to_vec::<f64>()?, [2.0, 4.0, 6.0]);
    assert_eq!(x.to_vec::<f64>()?, [3.0, 6.0, 9.0]);
    // The argument itself captured by the function is a constant.
    let y = scalar(3.0);
    assert_eq!(grad(|x: &Array| x * &y)(&y)?.item::<f64>()?, 3.0);
    // An identity gives the argument's own cotangent.
    assert_eq!(grad(|x: &Array| x.clone())(&y)?.item::<f64>()?, 1.0);
    // Results that do not depend on the argument.
    assert_eq!(grad(|_: &Array| scalar(1.0))(&y)?.item::<f64>()?, 0.0);
    assert_eq!(jvp(|_: &Array| scalar(1.0), &y, &y)?.1.item::<f64>()?, 0.0);
    Ok(())
}

#[test]
fn stop_gradient_is_a_wall() -> Result<()> {
    let f = |x: &Array| x * x.stop_gradient() + x.sin().stop_gradient().exp();
    assert_eq!(grad(f)(&scalar(3.0))?.item::<f64>()?, 3.0);
    assert_eq!(jvp(f, &scalar(3.0), &scalar(1.0))?.1.item::<f64>()?, 3.0);
    assert_eq!(grad(grad(f))(&scalar(3.0))?.item::<f64>()?, 0.0);
    assert_eq!(grad(compile(f))(&scalar(3.0))?.item::<f64>()?, 3.0);
    assert_eq!(compile(grad(f))(&scalar(3.0))?.item::<f64>()?, 3.0);
    assert_eq!(grad(checkpoint(f))(&scalar(3.0))?.item::<f64>()?, 3.0);
    let rows = Array::from_slice(&[1.0, 2.0], [2]);
    assert_eq!(vmap(grad(f))(&rows)?.to_vec::<f64>()?, [1.0, 2.0]);
    let sum = |x: &Array| Ok::<_, Error>(vmap(f)(x)?.sum(..));
    assert_eq!(grad(sum)(&rows)?.to_vec::<f64>()?, [1.0, 2.0]);
    let looped = |x: &Array| {
        let step = |c: &Array, _: &()| (c.stop_gradient() * 2.0 + x, ());
        let how = Loop { length: Some(3), ..Default::default() };
        Ok::<_, Error>(scan_with(step, x, &(), how)?.0)
    };
    assert_eq!(grad(looped)(&scalar(1.0))?.item::<f64>()?, 1.0);
    // The value passes, and so does an array that nobody looks at.
    assert_eq!(f(&scalar(0.0)).item::<f64>()?, 1.0);
    let x = scalar(2.0);
    assert_eq!(x.stop_gradient().item::<f64>()?, 2.0);
    // A wall for the inner transform is one for the outer.
    let inner = |x: &Array| grad(|y: &Array| y * x.stop_gradient() * x)(x);
    assert_eq!(grad(inner)(&scalar(5.0))?.item::<f64>()?, 5.0);
    Ok(())
}

#[test]
fn arrays_that_leave_their_transform() -> Result<()> {
    let kept: RefCell<Vec<Array>> = RefCell::default();
    let f = |x: &Array| {
        let y = x.square();
        kept.borrow_mut().push(y.clone());
        y.sum(..)
    };
    let x = Array::from_slice(&[1.0, 2.0], [2]);
    grad(f)(&x)?.eval()?;
    // Of a gradient: an array like any other, to compute with and to differentiate.
    let y = kept.borrow_mut().remove(0);
    assert_eq!((&y + 1.0).to_vec::<f64>()?, [2.0, 5.0]);
    assert_eq!(grad(|z: &Array| (z * &y).sum(..))(&x)?.to_vec::<f64>()?, [1.0, 4.0]);
    assert_eq!(vmap(|z: &Array| z * &y)(&x)?.shape()?, &[2, 2]);
    // Of a batch: it has no value, and says so.
    vmap(f)(&x)?.eval()?;
    let y = kept.borrow_mut().remove(0);
    let error = (&y + 1.0).eval().expect_err("it never had a value");
    assert!(error.message().contains("has no value"), "{error}");
    assert!(grad(|z: &Array| (z * &y).sum(..))(&x)?.eval().is_err());
    // What the outer transform knows, its inner ones may use.
    let outer = |x: &Array| -> Result<Array> {
        let side: RefCell<Option<Array>> = RefCell::default();
        let g = grad(|y: &Array| {
            *side.borrow_mut() = Some(y * x);
            y.square() * x
        })(x)?;
        let side = side.take().expect("the function was called");
        Ok(g + side)
    };
    // g = 2x·x, and the array kept on the side is x·x.
    assert_eq!(grad(outer)(&scalar(3.0))?.item::<f64>()?, 18.0);
    Ok(())
}

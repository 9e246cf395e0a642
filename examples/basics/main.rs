//! A tour of Lazul in a minute: arrays that are computed when they are needed, functions of functions.

use lazul::prelude::*;

fn main() -> lazul::Result<()> {
    println!("# Arrays are lazy: nothing is computed before somebody looks.");
    let x = arange(6, DType::F32).reshape([2, 3]);
    let y = (&x * 2.0 + 1.0).sqrt();
    println!("{y}\n");

    println!("# Slices are views, and indices may come from arrays.");
    let rows = Array::from_slice(&[1, 0, 1], [3]);
    println!("last column {}", x.at_index(1, -1));
    println!("rows 1, 0, 1 {:?}\n", x.take(&rows, 0).shape()?);

    println!("# grad gives a function, which may be differentiated again.");
    let f = |x: &Array| x.sin();
    let first = grad(f)(&Array::scalar(0.5f32))?;
    let second = grad(grad(f))(&Array::scalar(0.5f32))?;
    println!("sin'(0.5) = {first}, sin''(0.5) = {second}\n");

    println!("# vmap makes a function of one thing a function of many.");
    let length = |v: &Array| v.square().sum(..).sqrt();
    println!("lengths of the rows: {}\n", vmap(length)(&x)?);

    println!("# compile traces once and runs as one step.");
    let gelu = compile(|x: &Array| x * 0.5 * ((x / 2f32.sqrt()).erf() + 1.0));
    println!("gelu: {}\n", gelu(&x)?);

    println!("# Random numbers come from keys: the same key, the same numbers.");
    let key = random::key(42);
    let (a, b) =
        (random::normal([3], DType::F32, Some(&key)), random::normal([3], DType::F32, Some(&key)));
    println!("{a}\nequal: {}\n", a.array_equal(&b, false));

    println!("# A loop is an operation, with a derivative: x halved until it is below 1.");
    let halved = while_loop(
        |x: &Array| x.greater_equal(1.0),
        |x: &Array| x / 2.0,
        &Array::scalar(100.0f32),
    )?;
    println!("{halved}\n");

    println!("# A wrong call is an array that failed; whoever looks at it is told where it was.");
    let wrong = x.matmul(&x).exp() + 1.0;
    println!("{}", wrong.check().err().map_or(String::new(), |e| e.to_string()));
    Ok(())
}

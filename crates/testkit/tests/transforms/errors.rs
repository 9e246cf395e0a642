//! Every wrong call of a transform, and what it says: the operation, what was wrong, the operands, and
//! the caller's line.

use lazul_core::prelude::*;
use lazul_core::{Error, Result};
use std::fmt::Debug;

fn vector(n: usize) -> Array {
    ones(n, DType::F32)
}

const NO_VALUE: &str = "[eval] this array stands for an argument of a function that is being \
     compiled, vectorised or made a loop of, and has no value there";

fn scalar() -> Array {
    Array::scalar(1.0f32)
}

/// The message without its place, which must be in this file.
#[track_caller]
fn says<T: Debug>(outcome: Result<T>, message: &str) {
    let error = outcome.expect_err("a wrong call");
    let text = error.to_string();
    let (what, place) = match text.split_once("; at ") {
        Some((what, place)) => (what, place),
        None => (&text[..], ""),
    };
    assert_eq!(what, message);
    assert!(place.contains("transforms/errors.rs"), "the place of {message:?} is {place:?}");
}

#[test]
fn gradients() {
    let not_one = |x: &Array| x * 2.0;
    says(
        grad(not_one)(&vector(3)),
        "[grad] a function that is differentiated returns one real number; operands: float32(3,)",
    );
    let integer = |x: &Array| x.astype(DType::I32);
    says(
        grad(integer)(&scalar()),
        "[grad] a function that is differentiated returns one real number; operands: int32()",
    );
    let complex = |x: &Array| x.astype(DType::C64);
    says(
        grad(complex)(&scalar()),
        "[grad] a function that is differentiated returns one real number; operands: complex64()",
    );
    let wrong_inside = |x: &Array| x.matmul(&vector(4)).sum(..);
    says(
        grad(wrong_inside)(&vector(3)),
        "[matmul] inner dimensions 3 and 4 differ; operands: float32(3,), float32(4,)",
    );
    says(
        grad(|x: &Array| x.sum(..))(&vector(3).reshape([2, 2])),
        "[reshape] 3 elements do not fill shape (2,2); operands: float32(3,)",
    );
    let own = |_: &Array| {
        Err::<Array, _>(
            Error::new(lazul_core::ErrorKind::Value, "model", "no such layer")
                .at(std::panic::Location::caller()),
        )
    };
    says(grad(own)(&vector(3)), "[model] no such layer");
    says(
        hessian(|x: &Array| x * 1.0)(&vector(2)),
        "[grad] a function that is differentiated returns one real number; operands: float32(2,)",
    );
}

#[test]
fn products() {
    let f = |x: &Array| x.sin();
    says(
        vjp(f, &vector(3), &vector(4)),
        "[vjp] shapes differ from those that they go with; operands: float32(3,), float32(4,)",
    );
    says(
        jvp(f, &vector(3), &scalar()),
        "[jvp] shapes differ from those that they go with; operands: float32(3,), float32()",
    );
    let two = |x: &Array| vec![x.sin(), x.cos()];
    says(vjp(two, &vector(3), &vec![vector(3)]), "[vjp] 1 arrays go with 2");
    let xs = |x: &Vec<Array>| x[0].sin();
    says(jvp(xs, &vec![vector(3)], &vec![]), "[jvp] 0 arrays go with 1");
    says(
        vjp(f, &vector(3), &vector(3).reshape([7])),
        "[reshape] 3 elements do not fill shape (7,); operands: float32(3,)",
    );
}

#[test]
fn batches() {
    let sum = |(a, b): &(Array, Array)| a + b;
    says(
        vmap(sum)(&(vector(3), vector(4))),
        "[vmap] the axes that are mapped over differ in length; operands: float32(3,), float32(4,)",
    );
    says(
        vmap(|x: &Array| x.sin())(&scalar()),
        "[vmap] axis 0 is out of range for 0 dimensions; operands: float32()",
    );
    let f = |x: &Array| x.sin();
    says(
        vmap_axes(f, &[Some(2)], &[Some(0)])(&vector(3)),
        "[vmap] axis 2 is out of range for 1 dimensions; operands: float32(3,)",
    );
    says(
        vmap_axes(f, &[None], &[Some(0)])(&vector(3)),
        "[vmap] no leaf of the argument is mapped over",
    );
    says(
        vmap_axes(f, &[Some(0), Some(0)], &[Some(0)])(&vector(3)),
        "[vmap] 2 axes are given for 1 leaves",
    );
    says(
        vmap_axes(f, &[Some(0)], &[Some(0), None])(&vector(3)),
        "[vmap] 2 axes are given for 1 leaves",
    );
    says(
        vmap_axes(f, &[Some(0)], &[None])(&vector(3)),
        "[vmap] a result without a batch axis depends on the example; operands: float32(3,)",
    );
    says(
        vmap_axes(f, &[Some(0)], &[Some(1)])(&vector(3)),
        "[vmap] axis 1 is out of range for 1 dimensions; operands: float32(3,)",
    );
    says(vmap(|x: &Array| x.item::<f32>().map(|v| x * v))(&vector(3)), NO_VALUE);
    says(
        vmap(|x: &Array| x.matmul(&vector(2)))(&ones([4, 3], DType::F32)),
        "[matmul] inner dimensions 3 and 2 differ; operands: float32(3,), float32(2,)",
    );
}

#[test]
fn compiled_functions() {
    let reads = compile(|x: &Array| {
        if x.item::<f32>()? > 0.0 {
            Ok(x.sin())
        } else {
            Err(Error::new(lazul_core::ErrorKind::Value, "f", "no"))
        }
    });
    says(reads(&scalar()), NO_VALUE);
    let wrong = compile(|x: &Array| x.reshape([5]));
    says(wrong(&vector(3)), "[reshape] 3 elements do not fill shape (5,); operands: float32(3,)");
    says(
        wrong(&vector(3).reshape([4])),
        "[reshape] 3 elements do not fill shape (4,); operands: float32(3,)",
    );
    let index = compile(|(x, i): &(Array, Array)| x.take(i, 0));
    let y = index(&(vector(3), Array::from_slice(&[7], [1])));
    says(
        y.and_then(|y| y.eval()),
        "[take] index 7 is out of bounds for axis 0 of size 3; operands: float32(3,), int32(1,)",
    );
}

#[test]
fn loops() {
    let grows = |c: &Array, x: &Array| (concatenate(&[c.clone(), x.expand_dims(0)], 0), ());
    says(
        scan(grows, &vector(1), &vector(3)),
        "[scan] a step changes the shape or dtype of what it carries; operands: float32(1,), float32(2,)",
    );
    let casts = |c: &Array, x: &Array| ((c + x).astype(DType::F64), ());
    says(
        scan(casts, &scalar(), &vector(3)),
        "[scan] a step changes the shape or dtype of what it carries; operands: float32(), float64()",
    );
    let more = |c: &Vec<Array>, _: &Array| (vec![c[0].clone(), c[0].clone()], ());
    says(
        scan(more, &vec![scalar()], &vector(3)),
        "[scan] a step changes the structure of what it carries",
    );
    let fine = |c: &Array, x: &(Array, Array)| (c + &x.0 + &x.1, ());
    says(
        scan(fine, &scalar(), &(vector(3), vector(2))),
        "[scan] what is looped over differs in length; operands: float32(3,), float32(2,)",
    );
    says(
        scan(|c: &Array, x: &Array| (c + x, ()), &scalar(), &scalar()),
        "[scan] what is looped over has no first axis; operands: float32()",
    );
    says(
        scan(|c: &Array, _: &()| (c * 2.0, ()), &scalar(), &()),
        "[scan] nothing is looped over, and no length is given",
    );
    let how = Loop { length: Some(4), ..Default::default() };
    says(
        scan_with(|c: &Array, x: &Array| (c + x, ()), &scalar(), &vector(3), how),
        "[scan] what is looped over differs in length; operands: float32(3,)",
    );
    says(
        scan(|c: &Array, x: &Array| (c.matmul(x), ()), &scalar(), &vector(3)),
        "[matmul] operands need at least one dimension; operands: float32(), float32()",
    );

    let go = |x: &Array| x.less(10.0);
    says(
        while_loop(go, |x: &Array| x * 2.0, &vector(2)),
        "[while_loop] the condition must be one bool; operands: bool(2,)",
    );
    says(
        while_loop(|x: &Array| x.sum(..), |x: &Array| x * 2.0, &vector(2)),
        "[while_loop] the condition must be one bool; operands: float32()",
    );
    says(
        while_loop(go, |x: &Array| x.astype(DType::F16), &scalar()),
        "[while_loop] the body changes a shape or dtype; operands: float32(), float16()",
    );
    let less = |_: &Vec<Array>| Vec::<Array>::new();
    says(
        while_loop(|x: &Vec<Array>| x[0].less(1.0), less, &vec![scalar()]),
        "[while_loop] the body changes the structure of its value",
    );
    let doubled = |x: &Array| while_loop(go, |x: &Array| x * 2.0, x);
    says(
        grad(doubled)(&scalar()),
        "[while_loop] a loop of unknown length has no reverse gradient; scan has one",
    );
}

#[test]
fn branches() {
    let yes = Array::scalar(true);
    let (id, half) = (|x: &Array| x.clone(), |x: &Array| x.slice_axis(0, 0, 1));
    says(
        cond(&yes, id, half, &vector(2)),
        "[cond] the two functions give different shapes or dtypes; operands: float32(2,), float32(1,)",
    );
    let cast = |x: &Array| x.astype(DType::BF16);
    says(
        cond(&yes, id, cast, &vector(2)),
        "[cond] the two functions give different shapes or dtypes; operands: float32(2,), bfloat16(2,)",
    );
    let (one, two) = (|x: &Array| vec![x.clone()], |x: &Array| vec![x.clone(), x.clone()]);
    says(cond(&yes, one, two, &vector(2)), "[cond] one function gives 1 arrays, the other 2");
    says(
        cond(&vector(2), id, id, &vector(2)),
        "[cond] the condition must be one bool; operands: float32(2,)",
    );
    says(
        cond(&vector(2).greater(0.0), id, id, &vector(2)),
        "[cond] the condition must be one bool; operands: bool(2,)",
    );
    // What the branch that is not taken would do wrong is wrong all the same.
    says(
        cond(&yes, id, |x: &Array| x.reshape([9]), &vector(2)),
        "[reshape] 2 elements do not fill shape (9,); operands: float32(2,)",
    );
}

#[test]
fn functions_with_rules() {
    let f = custom_function(|x: &Array| x.sin()).vjp(|_: &Array, _: &Array, _: &Array| vector(7));
    let loss = |x: &Array| Ok::<_, Error>(f.call(x)?.sum(..));
    says(
        grad(loss)(&vector(2)),
        "[custom_function] the gradient rule gave another shape or dtype; operands: float32(2,), float32(7,)",
    );
    let f = custom_function(|x: &Vec<Array>| x[0].sin())
        .vjp(|_: &Vec<Array>, _: &Array, _: &Array| Vec::<Array>::new());
    let loss = |x: &Vec<Array>| Ok::<_, Error>(f.call(x)?.sum(..));
    says(grad(loss)(&vec![vector(2)]), "[custom_function] the vjp rule gave 0 arrays instead of 1");
    let f = custom_function(|x: &Array| x.sin()).jvp(|_: &Array, _: &Array| vector(7));
    says(
        jvp(|x: &Array| f.call(x), &vector(2), &vector(2)),
        "[custom_function] the tangent rule gave another shape or dtype; operands: float32(2,), float32(7,)",
    );
    let f = custom_function(|x: &Array| x.sin()).vmap(|x: &Array, _: &[bool], _| x.sum(..));
    says(
        vmap(|x: &Array| f.call(x))(&ones([3, 2], DType::F32)),
        "[custom_function] the batch rule gave another shape or dtype; operands: float32(3,2), float32()",
    );
    let refuses = custom_function(|x: &Array| x.sin()).vjp(|_: &Array, _: &Array, _: &Array| {
        Err::<Array, _>(Error::new(lazul_core::ErrorKind::Value, "mine", "not differentiable"))
    });
    let loss = |x: &Array| Ok::<_, Error>(refuses.call(x)?.sum(..));
    says(grad(loss)(&vector(2)), "[mine] not differentiable");
}

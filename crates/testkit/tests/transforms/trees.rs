//! Arguments and results that are trees.

use lazul_core::prelude::*;
use lazul_core::{Error, Result};
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

fn scalar(v: f32) -> Array {
    Array::scalar(v)
}

fn value(a: &Array) -> f32 {
    a.item().expect("a number")
}

#[test]
fn gradients_have_the_arguments_tree() -> Result<()> {
    let (g, list, fixed) =
        grad(|(a, list, three): &(Array, Vec<Array>, [Array; 3])| {
            a * &list[0] + list[1].square() + &three[2] * 7.0
        })(&(scalar(2.0), vec![scalar(3.0), scalar(4.0)], [1.0, 2.0, 3.0].map(scalar)))?;
    assert_eq!((value(&g), value(&list[0]), value(&list[1])), (3.0, 2.0, 8.0));
    assert_eq!(fixed.each_ref().map(value), [0.0, 0.0, 7.0]);

    let mut map = BTreeMap::new();
    map.insert("weight".to_string(), scalar(2.0));
    map.insert("bias".to_string(), scalar(5.0));
    let line = |m: &BTreeMap<String, Array>| &m["weight"] * 3.0 + &m["bias"];
    let g = grad(line)(&map)?;
    assert_eq!((value(&g["weight"]), value(&g["bias"])), (3.0, 1.0));

    let map: HashMap<&'static str, Vec<Array>> = HashMap::from([
        ("a", vec![scalar(2.0)]),
        ("b", vec![]),
        ("c", vec![scalar(3.0), scalar(4.0)]),
    ]);
    let f = |m: &HashMap<&'static str, Vec<Array>>| &m["a"][0] * &m["c"][0] * &m["c"][1];
    let g = grad(f)(&map)?;
    assert_eq!((value(&g["a"][0]), value(&g["c"][0]), value(&g["c"][1])), (12.0, 8.0, 6.0));
    assert!(g["b"].is_empty());

    type Parts = (Option<Array>, Option<Array>, Box<Array>, usize);
    let f = |(a, b, c, n): &Parts| match (a, b) {
        (Some(a), None) => a * &**c * *n as f32,
        _ => c.zeros_like(),
    };
    let (a, b, c, n) = grad(f)(&(Some(scalar(2.0)), None, Box::new(scalar(5.0)), 10))?;
    assert_eq!((a.as_ref().map(value), b.is_none(), value(&c), n), (Some(50.0), true, 20.0, 10));
    Ok(())
}

#[test]
fn fixed_parts_are_constants() -> Result<()> {
    let f = |(w, x): &(Array, Fixed<(Array, Array)>)| (w * &x.0.0 + &x.0.1).square().sum(..);
    let x = Fixed((scalar(3.0), scalar(1.0)));
    let (dw, same) = grad(f)(&(scalar(2.0), x.clone()))?;
    assert_eq!((value(&dw), value(&same.0.0)), (42.0, 3.0));
    // Not mapped over.
    let f = |(x, table): &(Array, Fixed<Array>)| table.take(x, 0);
    let (rows, table) = (Array::from_slice(&[2, 0], [2]), arange(3, DType::F32));
    let y = vmap(f)(&(rows, Fixed(table)))?;
    assert_eq!(y.to_vec::<f32>()?, [2.0, 0.0]);
    // Nothing to differentiate by is no error.
    let none = grad(|x: &Fixed<Array>| x.square())(&Fixed(scalar(3.0)))?;
    assert_eq!(value(&none), 3.0);
    Ok(())
}

#[test]
fn what_stands_beside_the_loss_passes_through() -> Result<()> {
    let f = |(w, x): &(Array, Array)| {
        let y = w * x;
        (y.square().sum(..), (y.clone(), vec![y.sum(..)]))
    };
    let at = (scalar(2.0), Array::from_slice(&[1.0f32, 3.0], [2]));
    let ((loss, (y, sums)), (dw, dx)) = value_and_grad(f)(&at)?;
    assert_eq!((value(&loss), value(&sums[0]), value(&dw)), (40.0, 8.0, 40.0));
    assert_eq!((y.to_vec::<f32>()?, dx.to_vec::<f32>()?), (vec![2.0, 6.0], vec![8.0, 24.0]));
    // A function that gives a `Result`.
    let g = value_and_grad(|w: &Array| {
        let [n] = w.dims()?;
        Ok::<_, Error>((w.sum(..) * n as f32, ()))
    });
    let ((loss, ()), dw) = g(&ones(3, DType::F32))?;
    assert_eq!((value(&loss), dw.to_vec::<f32>()?), (9.0, vec![3.0; 3]));
    Ok(())
}

#[test]
fn products_with_derivatives_of_trees() -> Result<()> {
    let f = |(a, b): &(Array, Array)| vec![a * b, a + b, b.sin()];
    let at = (scalar(2.0), scalar(0.0));
    let (y, (da, db)) = vjp(f, &at, &vec![scalar(1.0), scalar(10.0), scalar(100.0)])?;
    assert_eq!(y.iter().map(value).collect::<Vec<_>>(), [0.0, 2.0, 0.0]);
    assert_eq!((value(&da), value(&db)), (10.0, 112.0));
    let (_, t) = jvp(f, &at, &(scalar(1.0), scalar(10.0)))?;
    assert_eq!(t.iter().map(value).collect::<Vec<_>>(), [20.0, 11.0, 10.0]);
    Ok(())
}

#[test]
fn batches_of_trees() -> Result<()> {
    let f = |(x, w): &(Vec<Array>, Array)| (x[0].matmul(w), &x[1] + 1.0, w.sum(..));
    let x = vec![arange(6, DType::F32).reshape([3, 2]), arange(3, DType::F32)];
    let w = Array::from_slice(&[1.0f32, 10.0], [2]);
    let axes = [Some(0), Some(0), None];
    let g = vmap_axes(f, &axes, &[Some(0), Some(0), None]);
    let (a, b, c) = g(&(x.clone(), w.clone()))?;
    assert_eq!(a.to_vec::<f32>()?, [10.0, 32.0, 54.0]);
    assert_eq!((b.to_vec::<f32>()?, value(&c)), (vec![1.0, 2.0, 3.0], 11.0));
    // Asked for an axis, what does not depend on the example is repeated.
    let (_, _, c) = vmap_axes(f, &axes, &[Some(0)])(&(x, w))?;
    assert_eq!(c.to_vec::<f32>()?, [11.0; 3]);
    // Negative axes, and a batch in the middle.
    let f = |x: &Array| x.sum_keepdims(0);
    let y = vmap_axes(f, &[Some(-1)], &[Some(-1)])(&ones([2, 4, 3], DType::F32))?;
    assert_eq!(y.shape()?, &[1, 4, 3]);
    Ok(())
}

/// How often a compiled function's own code ran.
#[test]
fn compiled_functions_know_trees_apart() -> Result<()> {
    let calls = AtomicUsize::new(0);
    let f = compile(|(x, y, n): &(Array, Option<Array>, usize)| {
        calls.fetch_add(1, Relaxed);
        let sum = x * *n as f32;
        match y {
            Some(y) => sum + y,
            None => sum,
        }
    });
    let x = ones(2, DType::F32);
    let run = |x: &Array, y: Option<&Array>, n: usize| -> Result<Vec<f32>> {
        f(&(x.clone(), y.cloned(), n))?.to_vec()
    };
    assert_eq!(run(&x, None, 2)?, [2.0, 2.0]);
    assert_eq!(run(&(&x * 3.0), None, 2)?, [6.0, 6.0]);
    assert_eq!(calls.load(Relaxed), 1);
    assert_eq!(run(&x, Some(&x), 2)?, [3.0, 3.0]);
    assert_eq!(run(&x, None, 3)?, [3.0, 3.0]);
    assert_eq!(run(&ones([1], DType::F32), None, 3)?, [3.0]);
    assert_eq!(calls.load(Relaxed), 4);
    assert_eq!(run(&x, Some(&x), 2)?, [3.0, 3.0]);
    assert_eq!(calls.load(Relaxed), 4);
    // Another dtype is another function: bool times a float scalar is f32.
    let g = f(&(zeros(2, DType::Bool), None, 2))?;
    assert_eq!((g.dtype()?, calls.load(Relaxed)), (DType::F32, 5));
    // Vectors of other lengths, maps of other keys.
    let count = AtomicUsize::new(0);
    let sum = compile(|m: &BTreeMap<String, Vec<Array>>| {
        count.fetch_add(1, Relaxed);
        m.values().flatten().fold(zeros((), DType::F32), |s, a| s + a.sum(..))
    });
    let map =
        |key: &str, n: usize| BTreeMap::from([(key.to_string(), vec![ones(3, DType::F32); n])]);
    for (key, n, calls) in [("a", 2, 1), ("a", 2, 1), ("b", 2, 2), ("a", 1, 3), ("a", 2, 3)] {
        assert_eq!(value(&sum(&map(key, n))?), 3.0 * n as f32);
        assert_eq!(count.load(Relaxed), calls, "{key} {n}");
    }
    Ok(())
}

#[test]
fn a_fixed_constant_is_not_taken_for_another() -> Result<()> {
    let f = compile(|(x, c): &(Array, Fixed<Array>)| x * &**c);
    for k in 0..50 {
        // Each constant dies before the next is made; its address may come again.
        let c = Array::from_slice(&[k as f32, 1.0], [2]);
        let y = f(&(ones(2, DType::F32), Fixed(c)))?;
        assert_eq!(y.to_vec::<f32>()?, [k as f32, 1.0]);
    }
    Ok(())
}

#[test]
fn a_fixed_value_that_was_read_is_not_taken_for_another() -> Result<()> {
    let f = compile(|(x, c): &(Array, Fixed<Array>)| Ok::<_, Error>(x * c.item::<f32>()?));
    let x = ones(2, DType::F32);
    for k in 0..50 {
        // The graph holds no part of the constant. It dies last, so its address is the next to come again.
        let c = Fixed(Array::scalar(k as f32));
        let y = f(&(x.clone(), c.clone()))?.to_vec::<f32>()?;
        assert_eq!(y, [k as f32; 2]);
        drop(c);
    }
    Ok(())
}

#[test]
fn state_is_a_tree_too() -> Result<()> {
    type State = (Array, Vec<Array>, usize);
    let step = compile_with_state(|(w, moments, rate): &mut State, x: &Array| {
        let loss = |w: &Array| (w - x).square().sum(..);
        let (loss, g) = value_and_grad(loss)(w)?;
        moments[0] = &moments[0] * 0.5 + g;
        *w -= &moments[0] / *rate as f32;
        Ok::<_, Error>(loss)
    });
    let mut state: State = (zeros(2, DType::F32), vec![zeros(2, DType::F32)], 8);
    let x = ones(2, DType::F32);
    let losses =
        (0..20).map(|_| step(&mut state, &x)?.item::<f32>()).collect::<Result<Vec<_>>>()?;
    assert!(losses[0] == 2.0 && losses[19] < 0.01, "{losses:?}");
    // The same by hand.
    let (mut w, mut m) = (0.0f32, 0.0f32);
    for _ in 0..20 {
        m = m * 0.5 + 2.0 * (w - 1.0);
        w -= m / 8.0;
    }
    assert!((state.0.to_vec::<f32>()?[0] - w).abs() < 1e-6);
    // A failed step leaves the state as it was.
    let bad = compile_with_state(|w: &mut Array, x: &Array| {
        *w += 1.0;
        w.matmul(x)
    });
    let mut w = ones(3, DType::F32);
    assert!(bad(&mut w, &ones(2, DType::F32)).is_err());
    assert_eq!(w.to_vec::<f32>()?, [1.0; 3]);
    Ok(())
}

#[test]
fn functions_within_keep_the_structure() {
    type Counted = (Array, usize);
    let init: Counted = (scalar(1.0), 0);
    let xs = arange(3, DType::F32);
    let step = |(c, n): &Counted, x: &Array| ((c + x, n + 1), ());
    let error = scan(step, &init, &xs).map(|_| ()).unwrap_err();
    assert_eq!(error.op(), "scan");
    assert!(error.message().contains("structure"), "{error}");

    let grow = |(c, n): &Counted| (c * 2.0, n + 1);
    let error = while_loop(|(c, _): &Counted| c.less(9.0), grow, &init).map(|_| ()).unwrap_err();
    assert!(error.op() == "while_loop" && error.message().contains("structure"), "{error}");

    let named = |name: &'static str| move |x: &Array| BTreeMap::from([(name, x.clone())]);
    let x = scalar(1.0);
    let error = cond(&x.greater(0.0), named("a"), named("b"), &x).map(|_| ()).unwrap_err();
    assert!(error.op() == "cond" && error.message().contains("structure"), "{error}");
    assert!(cond(&x.greater(0.0), named("a"), named("a"), &x).is_ok());
}

#[test]
fn stacked_results_that_no_memory_could_hold() {
    for length in [1 << 62, (1 << 62) + 1, usize::MAX] {
        let how = Loop { length: Some(length), ..Default::default() };
        let made = scan_with(|c: &Array, _: &()| (c.clone(), c + 1.0), &scalar(0.0), &(), how);
        let error = made.map(|_| ()).unwrap_err();
        assert!(error.op() == "scan" && error.message().contains("too many elements"), "{error}");
    }
}

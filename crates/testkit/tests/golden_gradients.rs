//! Gradients of composite functions against PyTorch's in float64, and products with their Hessians.

use lazul_core::fast::{self, Attention, Mask, Rope};
use lazul_core::prelude::*;
use lazul_core::{Error, Result};
use lazul_testkit::{Case, Golden, Report, Rule, compare};

/// The function of a case.
fn function(case: &Case, x: &[Array]) -> Result<Array> {
    let attrs = case.inner("attrs");
    let how = Scan::default();
    Ok(match case.str("op") {
        "mlp" => {
            let hidden = (x[4].matmul(&x[0]) + &x[1]).tanh();
            let logits = hidden.matmul(&x[2]) + &x[3]; // (rows, classes)
            let picked = logits.take_along_axis(&x[5].expand_dims(-1), -1).squeeze(-1);
            (logits.logsumexp(-1) - picked).mean(..)
        }
        "layer_norm" => {
            fast::layer_norm(&x[0], Some(&x[1]), Some(&x[2]), attrs.float("eps") as f32)
        }
        "rms_norm" => fast::rms_norm(&x[0], Some(&x[1]), attrs.float("eps") as f32),
        "attention" => {
            let mask = match attrs.str("mask") {
                "causal" => Mask::Causal,
                "bool" | "added" => Mask::Array(x[3].clone()),
                _ => Mask::None,
            };
            let sinks = (attrs.str("mask") == "sinks").then(|| &x[3]);
            let how = Attention { scale: 0.5, mask, sinks, length: None };
            fast::scaled_dot_product_attention(&x[0], &x[1], &x[2], &how)
        }
        "rope" => {
            let traditional = attrs.flag("traditional");
            let how = Rope { dims: 4, traditional, base: 10.0, scale: 1.0, freqs: None };
            fast::rope(&x[0], &how, &Array::scalar(3))
        }
        "logcumsumexp" => x[0].logcumsumexp(1, how),
        "prod" => x[0].prod(1),
        "cumprod" => x[0].cumprod(1, how),
        "max" => x[0].max(1),
        "logsumexp" => x[0].logsumexp(..),
        "softmax" => x[0].softmax(0),
        "std" => x[0].std(0, 1),
        "sort" => x[0].sort(1),
        "topk" => x[0].topk(3, 1),
        "take" => x[0].take(&x[1], 0),
        "take_along_axis" => x[0].take_along_axis(&x[1], 1),
        "add_at" => x[0].at(&x[1]).add(&x[2]),
        "multiply_at" => x[0].at(&x[1]).multiply(&x[2]),
        "max_at" => x[0].at(&x[1]).maximum(&x[2]),
        "set_at" => x[0].at(&x[1]).set(&x[2]),
        "power" => x[0].power(&x[1]),
        "power_of_base" => x[0].power(3.0),
        "complex_abs" => x[0].abs(),
        "complex_conj_product" => x[0].conj() * &x[0] * &x[0],
        "complex_exp" => x[0].exp(),
        "complex_matmul" => x[0].matmul(&x[1]),
        "complex_parts" => x[0].real() * x[0].imag(),
        "complex_divide" => &x[0] / &x[1],
        "complex_prod" => x[0].prod(1),
        "complex_normalise" => x[0].sign(),
        other => panic!("{other} is no function of this test"),
    })
}

/// All arguments, with those that are differentiated replaced.
fn with(all: &[Array], moving: &[usize], these: &[Array]) -> Vec<Array> {
    let mut all = all.to_vec();
    moving.iter().zip(these).for_each(|(&i, a)| all[i] = a.clone());
    all
}

/// What a case compares: name, ours, theirs.
type Pairs = Vec<(String, Array, Array)>;

fn run(golden: &Golden, case: &Case) -> Result<Pairs> {
    let inputs = golden.tensors_of(case, "inputs");
    let moving: Vec<usize> =
        (0..inputs.len()).filter(|&i| inputs[i].dtype().is_ok_and(|d| d.is_inexact())).collect();
    let x: Vec<Array> = moving.iter().map(|&i| inputs[i].clone()).collect();
    let f = |x: &Vec<Array>| function(case, &with(&inputs, &moving, x));
    let c = golden.tensor_of(case, "cotangent");
    let back = |x: &Vec<Array>| Ok::<_, Error>(vjp(f, x, &c)?.1);
    let (y, grads) = vjp(f, &x, &c)?;
    let mut pairs: Pairs = vec![("output".to_string(), y, golden.tensor_of(case, "output"))];
    let mut add = |what: &str, ours: Vec<Array>, key: &str| {
        let theirs = golden.tensors_of(case, key);
        assert_eq!(ours.len(), theirs.len(), "{}: {what}", case.id());
        let each = ours.into_iter().zip(theirs).enumerate();
        pairs.extend(each.map(|(i, (a, b))| (format!("{what} {i}"), a, b)));
    };
    add("compiled gradient", compile(back)(&x)?, "grads");
    add("gradient", grads, "grads");
    if !case.get("directions").is_null() {
        let v = golden.tensors_of(case, "directions");
        add("forward over reverse", jvp(back, &x, &v)?.1, "second");
        add("reverse over reverse", vjp(back, &x, &v)?.1, "second");
    }
    Ok(pairs)
}

#[test]
fn gradients_are_those_of_pytorch() {
    let golden = Golden::load("gradients");
    let mut report = Report::new();
    for case in &golden.cases {
        let pairs = match run(&golden, case) {
            Ok(pairs) => pairs,
            Err(e) => {
                report.case(case.id(), Err(e));
                continue;
            }
        };
        let bound = case.float("rtol");
        let near = Rule { rtol: bound, atol: bound, signed_zero: false };
        for (what, ours, theirs) in pairs {
            report.case(format!("{}: {what}", case.id()), compare(&ours, &theirs, near));
        }
    }
    report.finish();
}

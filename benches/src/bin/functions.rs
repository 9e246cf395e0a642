//! Speed of single functions: reads names of cases, one a line, and answers each with one JSON line that
//! holds the seconds of a call. `run.py functions` asks this program and the peers' in turns.
//!
//! `copy`, `read`, `peak` and `tiles` are the machine's limits: bytes a second of copying between two large
//! buffers, read and write both counted, and of reading one; `f32` operations a second of the multipliers, and `bf16`
//! operations of the matrix engine.

use lazul_benches::{limits, until_steady};
use lazul_core::prelude::*;
use lazul_core::{IntoInts, Result};
use lazul_nn::activations::gelu;
use lazul_nn::layers::Activation;
use lazul_nn::losses::{CrossEntropy, Reduction, cross_entropy};
use lazul_nn::optim::{Adam, Optimizer, State};
use lazul_nn::{Layer, Linear, Module, Sequential, value_and_grad};
use std::io::BufRead;

/// Elements of the large element-wise case.
const LARGE: i64 = 64 << 20;
/// Elements of the sort.
const SORTED: i64 = 10_000_000;
/// Elements of the sort that gives places.
const ARGSORTED: i64 = 1_000_000;

/// Uniform numbers around zero.
fn numbers(shape: impl IntoInts, seed: u64) -> Result<Array> {
    let x = random::uniform(-1.0, 1.0, shape, DType::F32, Some(&random::key(seed)));
    x.eval()?;
    Ok(x)
}

/// Seconds of a call of `f`, evaluated.
fn seconds(f: impl Fn() -> Array) -> Result<f64> {
    f().eval()?;
    Ok(until_steady(|| f().eval().unwrap_or_else(|e| panic!("{e}"))))
}

fn measure(case: &str) -> anyhow::Result<f64> {
    let square = || numbers([4096, 4096], 1);
    Ok(match case {
        "gelu" | "gelu, compiled" => {
            let (x, w, b) = (numbers([LARGE], 1)?, numbers([LARGE], 2)?, numbers([LARGE], 3)?);
            if case == "gelu" {
                seconds(|| gelu(&(&x * &w + &b)))?
            } else {
                let f = compile(|(x, w, b): &(Array, Array, Array)| gelu(&(x * w + b)));
                let args = (x, w, b);
                seconds(|| f(&args).unwrap_or_else(|e| panic!("{e}")))?
            }
        }
        "add" => {
            let (x, w) = (numbers([LARGE], 1)?, numbers([LARGE], 2)?);
            seconds(|| &x + &w)?
        }
        "softmax" => {
            let x = square()?;
            seconds(|| x.softmax(-1))?
        }
        "layer_norm" => {
            let (x, w, b) = (square()?, numbers([4096], 2)?, numbers([4096], 3)?);
            seconds(|| fast::layer_norm(&x, Some(&w), Some(&b), 1e-5))?
        }
        "sum" => {
            let x = square()?;
            seconds(|| x.sum(..))?
        }
        "sum, axis 0" => {
            let x = square()?;
            seconds(|| x.sum(0))?
        }
        "sum, axis 1" => {
            let x = square()?;
            seconds(|| x.sum(1))?
        }
        "sort" => {
            let x = numbers([SORTED], 1)?;
            seconds(|| x.sort(-1))?
        }
        "argsort" => {
            let x = numbers([ARGSORTED], 1)?;
            seconds(|| x.argsort(-1))?
        }
        "cumsum, axis 0" => {
            let x = square()?;
            seconds(|| x.cumsum(0, Scan::default()))?
        }
        "cumsum, axis 1" => {
            let x = square()?;
            seconds(|| x.cumsum(1, Scan::default()))?
        }
        "take rows" => {
            let x = numbers([65_536, 256], 1)?;
            let at = random::randint(0, 65_536, [131_072], DType::I32, Some(&random::key(2)));
            at.eval()?;
            seconds(|| x.take(&at, 0))?
        }
        "take elements" => {
            let x = numbers([SORTED], 1)?;
            let at = random::randint(0, SORTED, [SORTED], DType::I32, Some(&random::key(2)));
            at.eval()?;
            seconds(|| x.take(&at, 0))?
        }
        "transpose" => {
            let x = square()?;
            seconds(|| x.t().contiguous())?
        }
        "fft 2^20" | "fft 1024x1024" => {
            let shape = if case == "fft 2^20" { [1, 1 << 20] } else { [1024, 1024] };
            let x = numbers(shape, 1)?.astype(DType::C64);
            x.eval()?;
            seconds(|| fft::fft(&x, fft::Fft::default()))?
        }
        "rfft" => {
            let x = numbers([1024, 4096], 1)?;
            seconds(|| fft::rfft(&x, fft::Fft::default()))?
        }
        "conv2d" | "conv2d bf16" => {
            let dtype = if case == "conv2d" { DType::F32 } else { DType::BF16 };
            let x = numbers([8, 56, 56, 64], 1)?.astype(dtype);
            let w = numbers([64, 3, 3, 64], 2)?.astype(dtype);
            eval([&x, &w])?;
            seconds(|| conv2d(&x, &w, Conv { padding: 1.into(), ..Default::default() }))?
        }
        "mlp" => train(false)?,
        "mlp, compiled" => train(true)?,
        "copy" => limits::copy(lazul_core::threads()),
        "read" => limits::read(lazul_core::threads()),
        "peak" => limits::peak(lazul_core::threads()),
        "tiles" => match limits::tiles() {
            Some(rate) => rate,
            None => anyhow::bail!("there is no matrix engine"),
        },
        _ => match case.strip_prefix("matmul ") {
            Some(which) => product(which)?,
            None => anyhow::bail!("there is no case {case:?}"),
        },
    })
}

/// Seconds of a product of square matrices; `2048`, `bf16 2048` or `f16 2048`.
fn product(which: &str) -> anyhow::Result<f64> {
    let (dtype, n) = match which.split_once(' ') {
        None => (DType::F32, which),
        Some(("bf16", n)) => (DType::BF16, n),
        Some(("f16", n)) => (DType::F16, n),
        Some((other, _)) => anyhow::bail!("there is no product of {other}"),
    };
    let n: i64 = n.parse()?;
    let (a, b) = (numbers([n, n], 1)?.astype(dtype), numbers([n, n], 2)?.astype(dtype));
    eval([&a, &b])?;
    Ok(seconds(|| a.matmul(&b))?)
}

/// A model and its optimizer's state.
type Trained = (Sequential, State);

/// Seconds of a training step of a perceptron 784-256-256-10 with Adam, 256 examples at once.
fn train(compiled: bool) -> Result<f64> {
    let key = random::split(&random::key(1), 3);
    let layer = |i: i64, from, to| Linear::init(from, to, true, Some(&key.at_index(0, i)));
    let model = Sequential::new()
        .then(layer(0, 784, 256)?)
        .then(Activation::Relu)
        .then(layer(1, 256, 256)?)
        .then(Activation::Relu)
        .then(layer(2, 256, 10)?);
    let x = numbers([256, 784], 2)?;
    let y = random::randint(0, 10, [256], DType::I32, Some(&random::key(3)));
    y.eval()?;
    let optimizer = Adam::new(1e-3);
    let state = optimizer.init(&model.trainable_parameters())?;
    let step = |(model, state): &mut Trained, (x, y): &(Array, Array)| -> Result<Array> {
        let how = CrossEntropy { reduction: Reduction::Mean, ..Default::default() };
        let loss = |m: &mut Sequential| cross_entropy(&m.forward(x), y, how);
        let (value, grads) = value_and_grad(loss)(model)?;
        optimizer.update(state, model, &grads)?;
        Ok(value)
    };
    let quick = compile_with_state(step);
    let (mut all, data) = ((model, state), (x, y));
    let mut once = || -> Result<()> {
        let loss = if compiled { quick(&mut all, &data)? } else { step(&mut all, &data)? };
        eval(all.leaves().into_iter().chain([&loss]))
    };
    once()?;
    Ok(until_steady(|| once().unwrap_or_else(|e| panic!("{e}"))))
}

fn main() -> anyhow::Result<()> {
    for case in std::io::stdin().lock().lines() {
        let case = case?;
        let answer = match measure(&case) {
            Ok(value) => serde_json::json!({ "value": value }),
            Err(error) => serde_json::json!({ "error": error.to_string() }),
        };
        println!("{answer}");
        lazul_core::memory::clear_cache();
    }
    Ok(())
}

//! The peer candle: `candle-peer functions` reads names of cases, one a line, and answers each with one JSON
//! line; `candle-peer ops` adds 4x4 arrays. The cases are those of `benches/src/bin/functions.rs`; threads are
//! set by RAYON_NUM_THREADS.

use anyhow::Result;
use candle_core::{DType, Device, Tensor};
use std::io::BufRead;
use std::time::Instant;

const CPU: Device = Device::Cpu;
const LARGE: usize = 64 << 20;
const SORTED: usize = 10_000_000;
const ARGSORTED: usize = 1_000_000;
const CHAIN: usize = 10_000;

fn numbers(shape: impl Into<candle_core::Shape>) -> Result<Tensor> {
    Ok(Tensor::rand(-1f32, 1f32, shape.into(), &CPU)?)
}

fn indices(n: usize, below: usize) -> Result<Tensor> {
    Ok(Tensor::rand(0f32, 1f32, n, &CPU)?.affine(below as f64 - 1.0, 0.0)?.to_dtype(DType::U32)?)
}

/// The middle of the seconds that calls take; the same rule as `lazul_benches::until_steady`.
fn seconds(f: impl Fn() -> candle_core::Result<Tensor>) -> Result<f64> {
    f()?;
    let start = Instant::now();
    let mut times = Vec::new();
    loop {
        let call = Instant::now();
        f()?;
        times.push(call.elapsed().as_secs_f64());
        let spent = start.elapsed().as_secs_f64();
        if (times.len() >= 3 && spent > 0.5) || spent > 2.0 {
            times.sort_by(f64::total_cmp);
            return Ok(times[times.len() / 2]);
        }
    }
}

fn measure(case: &str) -> Result<f64> {
    let square = || numbers((4096, 4096));
    match case {
        "gelu" => {
            let (x, w, b) = (numbers(LARGE)?, numbers(LARGE)?, numbers(LARGE)?);
            seconds(|| ((&x * &w)? + &b)?.gelu_erf())
        }
        "add" => {
            let (x, w) = (numbers(LARGE)?, numbers(LARGE)?);
            seconds(|| &x + &w)
        }
        "softmax" => {
            let x = square()?;
            seconds(|| candle_nn::ops::softmax_last_dim(&x))
        }
        "layer_norm" => {
            let (x, w, b) = (square()?, numbers(4096)?, numbers(4096)?);
            seconds(|| candle_nn::ops::layer_norm(&x, &w, &b, 1e-5))
        }
        "sum" => {
            let x = square()?;
            seconds(|| x.sum_all())
        }
        "sum, axis 0" => {
            let x = square()?;
            seconds(|| x.sum(0))
        }
        "sum, axis 1" => {
            let x = square()?;
            seconds(|| x.sum(1))
        }
        "sort" => {
            let x = numbers(SORTED)?;
            seconds(|| Ok(x.sort_last_dim(true)?.0))
        }
        "argsort" => {
            let x = numbers(ARGSORTED)?;
            seconds(|| x.arg_sort_last_dim(true))
        }
        "cumsum, axis 0" => {
            let x = square()?;
            seconds(|| x.cumsum(0))
        }
        "cumsum, axis 1" => {
            let x = square()?;
            seconds(|| x.cumsum(1))
        }
        "take rows" => {
            let (x, at) = (numbers((65_536, 256))?, indices(131_072, 65_536)?);
            seconds(|| x.index_select(&at, 0))
        }
        "take elements" => {
            let (x, at) = (numbers(SORTED)?, indices(SORTED, SORTED)?);
            seconds(|| x.index_select(&at, 0))
        }
        "transpose" => {
            let x = square()?;
            seconds(|| x.t()?.contiguous())
        }
        "conv2d" => {
            let (x, w) = (numbers((8, 64, 56, 56))?, numbers((64, 64, 3, 3))?);
            seconds(|| x.conv2d(&w, 1, 1, 1, 1))
        }
        "conv2d bf16" => {
            let (x, w) = (numbers((8, 64, 56, 56))?, numbers((64, 64, 3, 3))?);
            let (x, w) = (x.to_dtype(DType::BF16)?, w.to_dtype(DType::BF16)?);
            seconds(|| x.conv2d(&w, 1, 1, 1, 1))
        }
        "mlp" => train(),
        "fft 2^20" | "fft 1024x1024" | "rfft" => anyhow::bail!("has no such function"),
        _ => match case.strip_prefix("matmul ") {
            Some(which) => product(which),
            None => anyhow::bail!("there is no case {case:?}"),
        },
    }
}

/// Seconds of a product of square matrices; `2048`, `bf16 2048` or `f16 2048`.
fn product(which: &str) -> Result<f64> {
    let (dtype, n) = match which.split_once(' ') {
        None => (DType::F32, which),
        Some(("bf16", n)) => (DType::BF16, n),
        Some(("f16", n)) => (DType::F16, n),
        Some((other, _)) => anyhow::bail!("there is no product of {other}"),
    };
    let n: usize = n.parse()?;
    let (a, b) = (numbers((n, n))?.to_dtype(dtype)?, numbers((n, n))?.to_dtype(dtype)?);
    seconds(|| a.matmul(&b))
}

/// Seconds of a training step of a perceptron 784-256-256-10 with Adam, 256 examples at once.
fn train() -> Result<f64> {
    use candle_nn::{AdamW, Module, Optimizer, ParamsAdamW, VarBuilder, VarMap, linear};

    let map = VarMap::new();
    let vars = VarBuilder::from_varmap(&map, DType::F32, &CPU);
    let model = candle_nn::seq()
        .add(linear(784, 256, vars.pp("0"))?)
        .add(candle_nn::Activation::Relu)
        .add(linear(256, 256, vars.pp("1"))?)
        .add(candle_nn::Activation::Relu)
        .add(linear(256, 10, vars.pp("2"))?);
    // Without decay it is Adam.
    let params = ParamsAdamW { lr: 1e-3, weight_decay: 0.0, ..Default::default() };
    let optimizer = std::cell::RefCell::new(AdamW::new(map.all_vars(), params)?);
    let (x, y) = (numbers((256, 784))?, indices(256, 10)?);
    seconds(|| {
        let loss = candle_nn::loss::cross_entropy(&model.forward(&x)?, &y)?;
        optimizer.borrow_mut().backward_step(&loss)?;
        Ok(loss)
    })
}

fn main() -> Result<()> {
    if std::env::args().nth(1).as_deref() == Some("ops") {
        let x = numbers((4, 4))?;
        let time = seconds(|| {
            let mut y = x.zeros_like()?;
            for _ in 0..CHAIN {
                y = (&y + &x)?;
            }
            Ok(y)
        })?;
        println!("{}", serde_json::json!({ "case": "candle", "ops_per_second": CHAIN as f64 / time }));
        return Ok(());
    }
    for case in std::io::stdin().lock().lines() {
        let answer = match measure(&case?) {
            Ok(value) => serde_json::json!({ "value": value }),
            Err(error) => serde_json::json!({ "error": error.to_string() }),
        };
        println!("{answer}");
    }
    Ok(())
}

//! Speed of single functions: reads names of cases, one a line, and answers each with one JSON line that
//! holds the seconds of a call. `run.py functions` asks this program and the peers' in turns.
//!
//! `copy` and `peak` are the machine's limits: bytes a second of copying between two large buffers, read
//! and write both counted, and `f32` operations a second of the multipliers.

use lazul_benches::{limits, until_steady};
use lazul_core::prelude::*;
use lazul_core::{IntoInts, Result};
use lazul_nn::activations::gelu;
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
        "conv2d" => {
            let (x, w) = (numbers([8, 56, 56, 64], 1)?, numbers([64, 3, 3, 64], 2)?);
            seconds(|| conv2d(&x, &w, Conv { padding: 1.into(), ..Default::default() }))?
        }
        "matmul 1024" | "matmul 2048" => {
            let n = if case == "matmul 1024" { 1024 } else { 2048 };
            let (a, b) = (numbers([n, n], 1)?, numbers([n, n], 2)?);
            seconds(|| a.matmul(&b))?
        }
        "copy" => limits::copy(lazul_core::threads()),
        "peak" => limits::peak(lazul_core::threads()),
        _ => anyhow::bail!("there is no case {case:?}"),
    })
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

//! Operations on the default device (`LAZUL_DEVICE`): one line of JSON for each, with the seconds that one
//! takes while the device is kept busy, and what it moves or computes in that time.
//!
//! `device [NAME…]`: without names, all of them.

use lazul_benches::median;
use lazul_core::prelude::*;
use lazul_core::{device, memory};
use std::time::Instant;

type Result<T> = lazul_core::Result<T>;

/// Seconds that one result of `f` takes when `n` are started one after another.
fn seconds(n: usize, f: impl Fn() -> Array) -> Result<f64> {
    let run = || -> Result<f64> {
        let start = Instant::now();
        for _ in 0..n {
            async_eval([&f()])?;
        }
        device::synchronize()?;
        Ok(start.elapsed().as_secs_f64() / n as f64)
    };
    run()?;
    run()?;
    Ok(median(&(0..5).map(|_| run()).collect::<Result<Vec<_>>>()?))
}

fn random(shape: &[usize]) -> Array {
    let key = random::key(shape.iter().sum::<usize>() as u64);
    random::normal(shape, DType::F32, Some(&key)).astype(DType::BF16)
}

fn main() -> anyhow::Result<()> {
    let names: Vec<String> = std::env::args().skip(1).collect();
    let cpu = device::default_device() == device::Device::Cpu;
    // A processor takes a fraction of the work.
    let n: usize = if cpu { 2048 } else { 8192 };
    let side = n as f64;
    let (x, w, b) = (random(&[n, n]), random(&[n]), random(&[n]));
    eval([&x, &w, &b])?;
    let square = side * side * 2.0;
    let report = |name: &str, unit: &str, amount: f64, f: &dyn Fn() -> Array| -> Result<()> {
        if !names.is_empty() && names.iter().all(|n| n != name) {
            return Ok(());
        }
        let s = seconds(if cpu { 2 } else { 20 }, f)?;
        println!(
            "{}",
            serde_json::json!({"case": name, "seconds": s, "rate": amount / s, "unit": unit})
        );
        Ok(())
    };
    report("copy", "B/s", 2.0 * square, &|| &x + 0.0)?;
    report("gelu(x*w+b)", "B/s", 2.0 * square, &|| {
        let y = &x * &w + &b;
        &y * (1.0 + (&y * std::f32::consts::FRAC_1_SQRT_2).erf()) * 0.5
    })?;
    report("softmax", "B/s", 2.0 * square, &|| x.softmax(-1))?;
    report("rms_norm", "B/s", 2.0 * square, &|| fast::rms_norm(&x, Some(&w), 1e-5))?;
    report("layer_norm", "B/s", 2.0 * square, &|| fast::layer_norm(&x, Some(&w), Some(&b), 1e-5))?;
    report("sum rows", "B/s", square, &|| x.sum(-1))?;
    report("sum columns", "B/s", square, &|| x.sum(0))?;
    report("sum", "B/s", square, &|| x.sum(..))?;
    report("sum of squares", "B/s", square, &|| x.square().sum(-1))?;
    report("transpose", "B/s", 2.0 * square, &|| x.t().contiguous())?;
    report("sort rows", "B/s", 2.0 * square, &|| x.sort(-1))?;
    let y = random(&[n, n]);
    y.eval()?;
    report("matmul", "FLOP/s", 2.0 * side.powi(3), &|| x.matmul(&y))?;
    report("matmul transposed", "FLOP/s", 2.0 * side.powi(3), &|| x.matmul(&y.t()))?;
    let (h, t, d) = (32, n / 2, 128);
    let [q, k, v] = [1, 2, 3].map(|i| random(&[i, h, t, d]).slice_axis(0, 0, 1).contiguous());
    eval([&q, &k, &v])?;
    let work = 2.0 * (h * t * t * d) as f64;
    report("causal attention", "FLOP/s", work, &|| {
        let how = fast::Attention { scale: 0.088, mask: fast::Mask::Causal, ..Default::default() };
        fast::scaled_dot_product_attention(&q, &k, &v, &how)
    })?;
    let one = random(&[16, 16]);
    one.eval()?;
    lazul_core::set_fusion(false);
    report("1000 tiny ops", "op/s", 1000.0, &|| {
        let mut y = one.clone();
        for _ in 0..1000 {
            y += 1.0;
        }
        y
    })?;
    let stats = memory::stats();
    println!(
        "{}",
        serde_json::json!({
            "device": device::default_device().to_string(),
            "uploaded": stats.uploaded,
            "downloaded": stats.downloaded,
            "fallbacks": device::fallbacks().iter().map(|f| format!("{} {}: {}", f.count, f.op, f.why)).collect::<Vec<_>>(),
        })
    );
    Ok(())
}

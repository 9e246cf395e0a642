//! Attention with as many queries and features as kernels for half types are made for, beside the definition in
//! double precision on the CPU, on whatever device is the default.

use lazul_core::device::{Device, with_device};
use lazul_core::fast::{Attention, Mask, scaled_dot_product_attention};
use lazul_core::prelude::*;

type Result<T = ()> = std::result::Result<T, lazul_core::Error>;

/// Standard normal values, the same for one seed.
fn draw(seed: u64, shape: &[usize], dtype: DType) -> Result<Array> {
    let key = random::key(seed);
    let x =
        with_device(Device::Cpu, || random::normal(shape, DType::F32, Some(&key)).astype(dtype))?;
    x.eval()?;
    Ok(x)
}

/// `softmax(q kᵀ / √d + hidden) v` in double precision: `hidden` of query i and key j.
fn defined(
    q: &Array,
    k: &Array,
    v: &Array,
    seen: impl Fn(usize, usize) -> bool,
) -> Result<Vec<f64>> {
    let [b, h, t, d] = q.dims::<4>()?;
    let [_, kv, n, dv] = v.dims::<4>()?;
    let values =
        |x: &Array| with_device(Device::Cpu, || x.astype(DType::F64).contiguous())?.to_vec::<f64>();
    let (q, k, v) = (values(q)?, values(k)?, values(v)?);
    let mut out = Vec::new();
    for row in 0..b * h * t {
        let (i, head, batch) = (row % t, row / t % h, row / t / h);
        let at = batch * kv + head / (h / kv);
        let query = &q[row * d..][..d];
        let scores: Vec<f64> = (0..n)
            .map(|j| {
                let key = &k[(at * n + j) * d..][..d];
                let dot: f64 = query.iter().zip(key).map(|(a, b)| a * b).sum();
                if seen(i, j) { dot / (d as f64).sqrt() } else { f64::NEG_INFINITY }
            })
            .collect();
        let top = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let weights: Vec<f64> = scores.iter().map(|s| (s - top).exp()).collect();
        let sum: f64 = weights.iter().sum();
        for f in 0..dv {
            let y: f64 =
                weights.iter().enumerate().map(|(j, w)| w * v[(at * n + j) * dv + f]).sum();
            out.push(y / sum);
        }
    }
    Ok(out)
}

#[test]
fn attention_of_many_queries_is_its_definition() -> Result {
    // Sequences that do and do not fill tiles of 128; heads that share keys; some keys of a cache in use.
    let sizes = [
        (1, 2, 2, 128, 128, 128, None),
        (2, 4, 2, 130, 130, 64, None),
        (1, 4, 1, 200, 333, 128, None),
        (1, 2, 2, 70, 512, 64, Some(301)),
        (1, 2, 1, 129, 256, 128, Some(140)),
    ];
    for (case, (b, h, kv, t, n, d, length)) in sizes.into_iter().enumerate() {
        // Both half types take the same way; one size shows that of float16.
        for dtype in [DType::BF16, DType::F16].into_iter().take(1 + (case == 1) as usize) {
            let seed = 10 * case as u64;
            let q = draw(seed, &[b, h, t, d], dtype)?;
            let k = draw(seed + 1, &[b, kv, n, d], dtype)?;
            // Values not around zero: a key too many or too few shows.
            let v = with_device(Device::Cpu, || draw(seed + 2, &[b, kv, n, d], dtype))?? + 0.5;
            let used = length.unwrap_or(n);
            let masks = [(Mask::None, None), (Mask::Causal, None), (Mask::Window(50), Some(50))];
            for (mask, window) in masks {
                let causal = !matches!(mask, Mask::None);
                let count = length.map(|n| Array::scalar(n as i32));
                let scale = 1.0 / (d as f32).sqrt();
                let how = Attention { scale, mask, length: count.as_ref(), ..Default::default() };
                let ours = scaled_dot_product_attention(&q, &k, &v, &how);
                let ours = ours.astype(DType::F64).to_vec::<f64>()?;
                let expected = defined(&q, &k, &v, |i, j| {
                    let last = used - t + i;
                    j < used && (!causal || (j <= last && window.is_none_or(|w| j + w > last)))
                })?;
                let (mut wrong, mut all) = (0.0, 0.0);
                for (a, b) in ours.iter().zip(&expected) {
                    wrong += (a - b).powi(2);
                    all += b * b;
                }
                let error = (wrong / all).sqrt();
                let what =
                    format!("{dtype} b{b} h{h}/{kv} t{t} n{n} d{d} {length:?} window {window:?}");
                assert!(error < if dtype == DType::BF16 { 8e-3 } else { 1e-3 }, "{what}: {error}");
            }
        }
    }
    Ok(())
}

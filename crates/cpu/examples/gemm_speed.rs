//! How quick matrix products are, against what the processor and its memory can do.
//!
//!     cargo run --release -p lazul-cpu --example gemm_speed [filter]
//!
//! `LAZUL_NUM_THREADS` and `LAZUL_ISA` apply. Weights of the memory-bound cases rotate over more
//! memory than the caches hold. Figures are the best of several runs.

mod measure;
#[path = "measure/peak.rs"]
mod peak;

use lazul_cpu::pool;
use lazul_ir::{DType, Prim, Quantization, QuantizedOp};
use measure::{Tensor, best, run};

/// Bytes of weights that a memory-bound case rotates over.
const COLD: usize = 256 << 20;

fn main() {
    let filter = std::env::args().nth(1).unwrap_or_default();
    let wanted = |name: &str| name.contains(&filter);
    let (isa, tiles) = (lazul_cpu::isa::isa(), lazul_cpu::isa::tiles());
    println!("{} threads, {isa:?}{}", pool::threads(), if tiles { " with tiles" } else { "" });
    let row = |name: &str, seconds: f64, figure: f64, unit: &str| {
        println!("{name:<44} {:>10.3} ms {figure:>9.1} {unit}", seconds * 1e3);
    };

    if wanted("read") {
        let big = Tensor::new(DType::F64, &[COLD / 8]);
        // SAFETY: the tensor holds that many words.
        let big = unsafe { std::slice::from_raw_parts(big.memory.ptr().cast::<u64>(), COLD / 8) };
        let chunk = 1 << 16;
        let t = best(|_| {
            pool::parallel(big.len() / chunk, |i| {
                let mut sums = [0u64; 16];
                for part in big[i * chunk..][..chunk].chunks_exact(16) {
                    for (s, &x) in sums.iter_mut().zip(part) {
                        *s = s.wrapping_add(x);
                    }
                }
                std::hint::black_box(sums);
            });
        });
        row("read memory", t, COLD as f64 / t / 1e9, "GB/s");
    }

    if wanted("peak") {
        let rate = |name: &str, rate: Option<f64>| {
            if let Some(rate) = rate {
                println!("{name:<59} {rate:>9.1} GFLOP/s");
            }
        };
        rate("peak: f32 multiply-adds", peak::fma());
        rate("peak: bf16 tiles with their loads", peak::tiles());
    }
    for dtype in
        [DType::F32, DType::BF16, DType::F16, DType::I8, DType::F64, DType::C64, DType::I32]
    {
        let large = matches!(dtype, DType::F32 | DType::BF16 | DType::F16 | DType::I8);
        for size in [256, 1024, 2048, 4096] {
            let name = format!("gemm {dtype} {size}x{size}x{size}");
            if (size > 1024 && !large) || !wanted(&name) {
                continue;
            }
            let (a, b) = (Tensor::new(dtype, &[size, size]), Tensor::new(dtype, &[size, size]));
            let mut c = Tensor::new(dtype, &[size, size]);
            let operations = 2.0 * (size as f64).powi(3);
            let t = best(|_| run(&Prim::Matmul, &[&a, &b], &mut c));
            row(&name, t, operations / t / 1e9, "GFLOP/s");
            let b = b.transposed();
            let t = best(|_| run(&Prim::Matmul, &[&a, &b], &mut c));
            row(&format!("{name} b^T"), t, operations / t / 1e9, "GFLOP/s");
        }
    }

    for dtype in [DType::F32, DType::BF16, DType::F16] {
        for plain in [false, true] {
            for m in [1, 4, 8, 16] {
                let (k, n) = (2048, 5632);
                let name = format!("gemv {dtype} {m}x{k}x{n}{}", if plain { "" } else { " b^T" });
                if !wanted(&name) {
                    continue;
                }
                let bytes = n * k * dtype.size();
                let w: Vec<Tensor> = (0..COLD.div_ceil(bytes))
                    .map(|_| match plain {
                        true => Tensor::new(dtype, &[k, n]),
                        false => Tensor::new(dtype, &[n, k]).transposed(),
                    })
                    .collect();
                let a = Tensor::new(dtype, &[m, k]);
                let mut c = Tensor::new(dtype, &[m, n]);
                let t = best(|i| run(&Prim::Matmul, &[&a, &w[i % w.len()]], &mut c));
                row(&name, t, bytes as f64 / t / 1e9, "GB/s of weights");
            }
        }
    }

    for (name, batch, m, k, n) in [("tiny", 1, 4, 4, 4), ("batched", 512, 64, 64, 64)] {
        let name = format!("{name} f32 {batch}x {m}x{k}x{n}");
        if wanted(&name) {
            let (a, b) =
                (Tensor::new(DType::F32, &[batch, m, k]), Tensor::new(DType::F32, &[batch, k, n]));
            let mut c = Tensor::new(DType::F32, &[batch, m, n]);
            let times = if batch == 1 { 1000 } else { 1 };
            let t = best(|_| (0..times).for_each(|_| run(&Prim::Matmul, &[&a, &b], &mut c)));
            let t = t / times as f64;
            row(&name, t, 2.0 * (batch * m * k * n) as f64 / t / 1e9, "GFLOP/s");
        }
    }

    let affine = |bits| Quantization::Affine { group_size: 64, bits };
    let floats = [Quantization::MxFp4, Quantization::MxFp8, Quantization::NvFp4];
    for q in [4, 8, 1, 2, 3, 5, 6].map(affine).into_iter().chain(floats) {
        for m in [1, 4, 8, 512] {
            let (k, n) = (2048, 5632);
            let name = match q {
                Quantization::Affine { bits, .. } => format!("quantized {bits} bits {m}x{k}x{n}"),
                other => format!("quantized {} {m}x{k}x{n}", other.mode()),
            };
            if !wanted(&name) {
                continue;
            }
            let prim = Prim::Quantized(QuantizedOp::Matmul { quantization: q, transpose: true });
            let (words, groups) = (q.words(k), k / q.group_size());
            let scales = q.scale_dtype(DType::BF16);
            let parts = if q.is_affine() { 2 } else { 1 };
            let bytes = n * words * 4 + parts * n * groups * scales.size();
            let w: Vec<Vec<Tensor>> = (0..COLD.div_ceil(bytes))
                .map(|_| {
                    let scales = (0..parts).map(|_| Tensor::new(scales, &[n, groups]));
                    std::iter::once(Tensor::new(DType::U32, &[n, words])).chain(scales).collect()
                })
                .collect();
            let x = Tensor::new(DType::BF16, &[m, k]);
            let mut c = Tensor::new(DType::BF16, &[m, n]);
            let t = best(|i| {
                let inputs: Vec<&Tensor> = std::iter::once(&x).chain(&w[i % w.len()]).collect();
                run(&prim, &inputs, &mut c);
            });
            if m < 100 {
                row(&name, t, bytes as f64 / t / 1e9, "GB/s of weights");
            } else {
                row(&name, t, 2.0 * (m * k * n) as f64 / t / 1e9, "GFLOP/s");
            }
        }
    }
}

//! How quick matrix products are, against what the processor and its memory can do.
//!
//!     cargo run --release -p lazul-cpu --example gemm_speed [filter]
//!
//! `LAZUL_NUM_THREADS` and `LAZUL_ISA` apply. Weights of the memory-bound cases rotate over more
//! memory than the caches hold. Figures are the best of several runs.

use lazul_cpu::{CpuBackend, pool};
use lazul_ir::{
    Backend, Buffer, DType, Job, Operand, Prim, Quantization, QuantizedOp, Scalar, Shape, Target,
    Work,
};

/// Bytes of weights that a memory-bound case rotates over.
const COLD: usize = 256 << 20;

struct Tensor {
    memory: Buffer,
    dtype: DType,
    shape: Vec<usize>,
    strides: Vec<isize>,
}

impl Tensor {
    fn new(dtype: DType, shape: &[usize]) -> Tensor {
        let n: usize = shape.iter().product();
        let words = (n * dtype.size()).div_ceil(8);
        let buffer = CpuBackend.alloc(words * 8).unwrap();
        // SAFETY: the buffer is new and has that many bytes, any of which make integers.
        let memory = unsafe {
            buffer.ptr().write_bytes(0, words * 8);
            std::slice::from_raw_parts_mut(buffer.ptr().cast::<u64>(), words)
        };
        let mut state = 1u64;
        if dtype == DType::U32 {
            for word in memory.iter_mut() {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                *word = state ^ state >> 29;
            }
        } else {
            let per = 8 / dtype.size();
            for word in memory.iter_mut() {
                for i in 0..per {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    let x = (state >> 40) as f64 / (1u64 << 24) as f64 - 0.5;
                    *word |= Scalar::from_f64(x, dtype).bits << (i * 8 * dtype.size());
                }
            }
        }
        let strides = Shape::new(shape).strides().to_vec();
        Tensor { memory: buffer, dtype, shape: shape.to_vec(), strides }
    }

    fn transposed(mut self) -> Tensor {
        let rank = self.shape.len();
        self.shape.swap(rank - 2, rank - 1);
        self.strides.swap(rank - 2, rank - 1);
        self
    }

    fn operand(&self) -> Operand<'_> {
        let ptr = self.memory.ptr();
        Operand { ptr, dtype: self.dtype, shape: &self.shape, strides: &self.strides }
    }
}

fn run(prim: &Prim, inputs: &[&Tensor], out: &mut Tensor) {
    let inputs: Vec<_> = inputs.iter().map(|t| t.operand()).collect();
    let outputs = [Target { ptr: out.memory.ptr(), dtype: out.dtype, shape: &out.shape }];
    // SAFETY: tensors own memory of the stated extent.
    unsafe { CpuBackend.run(&Job { work: Work::Prim(prim), inputs: &inputs, outputs: &outputs }) }
        .unwrap();
}

/// Seconds since some moment; with `LAZUL_CPU_TIME=1`, of this process's own time, which on a busy
/// machine and with one thread is the better measure.
fn now() -> f64 {
    let clock = match std::env::var_os("LAZUL_CPU_TIME") {
        Some(_) => libc::CLOCK_PROCESS_CPUTIME_ID,
        None => libc::CLOCK_MONOTONIC,
    };
    let mut t = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `t` is a valid place for the answer.
    unsafe { libc::clock_gettime(clock, &mut t) };
    t.tv_sec as f64 + t.tv_nsec as f64 * 1e-9
}

/// Seconds of the quickest call of `f(i)`, over at least 0.3 seconds.
fn best(mut f: impl FnMut(usize)) -> f64 {
    f(0);
    let (start, mut least, mut i) = (now(), f64::MAX, 1);
    while i < 6 || now() - start < 0.3 {
        let t = now();
        f(i);
        least = least.min(now() - t);
        i += 1;
    }
    least
}

fn main() {
    let filter = std::env::args().nth(1).unwrap_or_default();
    let wanted = |name: &str| name.contains(&filter);
    println!("{} threads, {:?}", pool::threads(), lazul_cpu::isa::isa());
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

    for dtype in [DType::F32, DType::BF16, DType::F16, DType::F64, DType::C64, DType::I32] {
        for (m, k, n) in [(256, 256, 256), (1024, 1024, 1024), (2048, 2048, 2048)] {
            if m == 2048 && !matches!(dtype, DType::F32 | DType::BF16) {
                continue;
            }
            let name = format!("gemm {dtype} {m}x{k}x{n}");
            if wanted(&name) {
                let (a, b) = (Tensor::new(dtype, &[m, k]), Tensor::new(dtype, &[k, n]));
                let mut c = Tensor::new(dtype, &[m, n]);
                let t = best(|_| run(&Prim::Matmul, &[&a, &b], &mut c));
                row(&name, t, 2.0 * (m * k * n) as f64 / t / 1e9, "GFLOP/s");
                let b = Tensor::new(dtype, &[n, k]).transposed();
                let t = best(|_| run(&Prim::Matmul, &[&a, &b], &mut c));
                row(&format!("{name} b^T"), t, 2.0 * (m * k * n) as f64 / t / 1e9, "GFLOP/s");
            }
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

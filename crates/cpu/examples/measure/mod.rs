//! What the measuring programs share: operands full of numbers, and the time that a kernel takes.

use lazul_cpu::CpuBackend;
use lazul_ir::{Backend, Buffer, DType, Job, Operand, Prim, Scalar, Shape, Target, Work};

/// Row-major memory of some dtype, or its transpose.
pub(crate) struct Tensor {
    pub(crate) memory: Buffer,
    dtype: DType,
    shape: Vec<usize>,
    strides: Vec<isize>,
}

impl Tensor {
    /// Numbers between -0.5 and 0.5, or any bits of u32.
    pub(crate) fn new(dtype: DType, shape: &[usize]) -> Tensor {
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

    /// The last two axes swapped.
    #[allow(dead_code)]
    pub(crate) fn transposed(mut self) -> Tensor {
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

/// Runs a primitive with one output.
pub(crate) fn run(prim: &Prim, inputs: &[&Tensor], out: &mut Tensor) {
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
pub(crate) fn best(mut f: impl FnMut(usize)) -> f64 {
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

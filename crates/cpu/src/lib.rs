//! Lazul's CPU backend.
//!
//! A [`Job`] arrives at [`CpuBackend::run`], whose one exhaustive match sends it to the file of its
//! family. Every kernel splits its work into chunks whose bounds depend on shapes alone, so results
//! are the same bits for any number of threads, and hands them to the persistent [`pool`]. Which
//! instruction set a kernel uses is decided once per process in [`isa`].

pub mod alloc;
mod arange;
mod attention;
mod concatenate;
mod conv;
mod convert;
mod copy;
mod elementwise;
mod fft;
mod index;
pub mod isa;
#[cfg(feature = "linalg")]
mod linalg;
mod load;
mod math;
mod matmul;
mod norm;
pub mod pool;
mod quantized;
mod random;
mod reduce;
mod rope;
mod rows;
mod scan;
mod softmax;
mod sort;
mod strided;
#[cfg(test)]
mod testing;

use lazul_ir::{
    Backend, Buffer, FastOp, GroupedOp, Job, MemoryStats, OpError, Prim, QuantizedOp, Work,
};

/// The processor that runs this program: memory is the system's, work runs on the caller's thread
/// and the [`pool`].
#[derive(Debug, Default)]
pub struct CpuBackend;

impl Backend for CpuBackend {
    fn name(&self) -> &'static str {
        "cpu"
    }

    fn alloc(&self, bytes: usize) -> Result<Buffer, OpError> {
        alloc::alloc(bytes)
    }

    unsafe fn run(&self, job: &Job<'_>) -> Result<(), OpError> {
        let prim = match job.work {
            Work::Fused(tape) => {
                elementwise::fused(tape, job);
                return Ok(());
            }
            Work::Reduced { tape, op, axes } => {
                reduce::reduce_fused(tape, op, axes, job);
                return Ok(());
            }
            Work::Prim(prim) => prim,
        };
        match prim {
            Prim::Arange { start, step } => arange::arange(*start, *step, job),
            Prim::Unary(op) => elementwise::unary(*op, job),
            Prim::Binary(op) => elementwise::binary(*op, job),
            Prim::Select => elementwise::select(job),
            Prim::Cast => elementwise::cast(job),
            Prim::View(_) | Prim::Copy => copy::copy(job),
            Prim::Reduce { op, axes } => reduce::reduce(*op, axes, job),
            Prim::ArgReduce { op, axis } => reduce::arg_reduce(*op, *axis as usize, job),
            Prim::Scan { op, axis, reverse, inclusive } => {
                scan::scan(*op, *axis as usize, *reverse, *inclusive, job)
            }
            Prim::Sort { axis } => return sort::sort(*axis as usize, job),
            Prim::ArgSort { axis } => return sort::argsort(*axis as usize, job),
            Prim::SearchSorted { right } => sort::searchsorted(*right, job),
            Prim::Matmul => matmul::matmul(job),
            Prim::Conv(op) => return conv::conv(op, job),
            Prim::Gather { axes } => return index::gather(axes, job),
            Prim::GatherAxis { axis } => return index::gather_axis(*axis as usize, job),
            Prim::Scatter { op, axes } => return index::scatter(*op, axes, job),
            Prim::ScatterAxis { op, axis } => return index::scatter_axis(*op, *axis as usize, job),
            Prim::SliceUpdate { starts, steps } => index::slice_update(starts, steps, job),
            Prim::DynamicSlice { axes } => return index::dynamic_slice(axes, job),
            Prim::DynamicSliceUpdate { axes } => return index::dynamic_slice_update(axes, job),
            Prim::Concatenate { axis } => concatenate::concatenate(*axis as usize, job),
            Prim::RandomBits => random::bits(job),
            Prim::Fft { kind, axis, scale } => {
                return fft::fft(*kind, *axis as usize, scale.get(), job);
            }
            #[cfg(feature = "linalg")]
            Prim::Linalg(op) => return linalg::linalg(*op, job),
            #[cfg(not(feature = "linalg"))]
            Prim::Linalg(op) => {
                let why = "this program was built without the feature `linalg`";
                return Err(OpError::new(lazul_ir::ErrorKind::Device, op.name(), why));
            }
            Prim::Quantized(op) => match *op {
                QuantizedOp::Quantize(q) => return quantized::quantize(q, job),
                QuantizedOp::Dequantize(q) => quantized::dequantize(q, job),
                QuantizedOp::FakeQuantize(q) => return quantized::fake_quantize(q, job),
                QuantizedOp::Matmul { quantization, transpose } => {
                    quantized::matmul(quantization, transpose, job)
                }
                QuantizedOp::GatherMatmul { quantization, transpose } => {
                    return quantized::gather(quantization, transpose, job);
                }
            },
            Prim::Grouped(op) => match op {
                GroupedOp::Gather => return matmul::grouped::gather(job),
                GroupedOp::Outer => return matmul::grouped::outer(job),
                GroupedOp::Segments => return matmul::grouped::segments(job),
            },
            Prim::Fast(op) => match op {
                FastOp::Softmax => softmax::softmax(job),
                FastOp::LogSumExp => softmax::logsumexp(job),
                FastOp::RmsNorm { eps } => norm::rms_norm(eps.get(), job),
                FastOp::LayerNorm { eps, weight, bias } => {
                    norm::layer_norm(eps.get(), *weight, *bias, job)
                }
                FastOp::Rope { .. } => rope::rope(op, job),
                FastOp::Attention { .. } => return attention::attention(op, job),
            },
        }
        Ok(())
    }

    fn memory(&self) -> MemoryStats {
        alloc::stats()
    }

    fn set_memory_limit(&self, bytes: usize) -> usize {
        alloc::set_memory_limit(bytes)
    }

    fn set_cache_limit(&self, bytes: usize) -> usize {
        alloc::set_cache_limit(bytes)
    }

    fn clear_cache(&self) {
        alloc::clear_cache();
    }

    fn reset_peak(&self) {
        alloc::reset_peak();
    }
}

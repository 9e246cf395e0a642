//! From a primitive to the file of its family.

use crate::error::{Result, RunError, Unsupported};
use crate::exec::Exec;
use crate::layout::row_major;
use crate::stream::Stream;
use crate::{
    Device, arange, attention, copy, elementwise, index, matmul, quantized, random, reduce,
};
use crate::{rope, rows, scan, sort};
use lazul_ir::{
    Axes, Backend, Buffer, FastOp, Job, MemoryStats, OpError, Operand, Prim, QuantizedOp, ReduceOp,
    StepOp, Tape, Target, Work,
};

impl Stream {
    /// Enqueues a job: it is run after what was enqueued before, and the call returns at once.
    ///
    /// Pointers of operands and targets are addresses on this stream's device. An index out of bounds
    /// is an error of a later [`Stream::wait`].
    ///
    /// # Errors
    /// [`RunError::Unsupported`] where the device has no kernel for the job, before anything of it
    /// was enqueued; [`RunError::Op`] for a device out of memory, or that failed.
    ///
    /// # Safety
    /// Operands and targets must describe device memory of the stated extent that lives until the job
    /// is done; targets must not overlap one another, nor an operand except as [`lazul_ir::Target`]
    /// allows.
    pub unsafe fn enqueue(&self, job: &Job<'_>) -> Result<(), RunError> {
        // SAFETY: the caller's promise.
        unsafe { self.enqueue_tagged(job, 0) }
    }

    /// As [`Stream::enqueue`]; an index out of bounds is noted with `tag`, a number of 24 bits, for
    /// [`Stream::take_fault`].
    ///
    /// # Errors
    /// As [`Stream::enqueue`].
    ///
    /// # Safety
    /// As [`Stream::enqueue`].
    pub unsafe fn enqueue_tagged(&self, job: &Job<'_>, tag: u32) -> Result<(), RunError> {
        self.device().enter()?;
        if let Some(why) = lacks(&job.work) {
            return Err(Unsupported { op: job.name(), why }.into());
        }
        let exec = &Exec { stream: self, op: job.name(), tag };
        let prim = match job.work {
            Work::Fused(tape) => return elementwise::run(exec, tape, job.inputs, job.outputs),
            Work::Reduced { tape, op, axes } => return reduced(exec, tape, op, axes, job),
            Work::Prim(prim) => prim,
        };
        match prim {
            Prim::Arange { start, step } => arange::arange(exec, *start, *step, job),
            Prim::Unary(op) => elementwise::single(exec, StepOp::Unary(*op), job),
            Prim::Binary(op) => elementwise::single(exec, StepOp::Binary(*op), job),
            Prim::Select => elementwise::single(exec, StepOp::Select, job),
            Prim::Cast => elementwise::single(exec, StepOp::Cast, job),
            Prim::View(_) | Prim::Copy => copy::copy(exec, job),
            Prim::Reduce { op, axes } => reduce::reduce(exec, *op, axes, job),
            Prim::ArgReduce { op, axis } => reduce::arg_reduce(exec, *op, *axis as usize, job),
            Prim::Scan { op, axis, reverse, inclusive } => {
                scan::scan(exec, *op, *axis as usize, *reverse, *inclusive, job)
            }
            Prim::Sort { axis } => sort::sort(exec, *axis as usize, false, job),
            Prim::ArgSort { axis } => sort::sort(exec, *axis as usize, true, job),
            Prim::SearchSorted { right } => sort::search(exec, *right, job),
            Prim::Matmul => matmul::matmul(exec, job),
            Prim::Gather { axes } => index::gather(exec, axes, job),
            Prim::GatherAxis { axis } => index::gather_axis(exec, *axis as usize, job),
            Prim::Scatter { op, axes } => index::scatter(exec, *op, axes, job),
            Prim::ScatterAxis { op, axis } => index::scatter_axis(exec, *op, *axis as usize, job),
            Prim::SliceUpdate { starts, steps } => copy::slice_update(exec, starts, steps, job),
            Prim::DynamicSlice { axes } => index::dynamic_slice(exec, axes, job),
            Prim::DynamicSliceUpdate { axes } => index::dynamic_slice_update(exec, axes, job),
            Prim::Concatenate { axis } => copy::concatenate(exec, *axis as usize, job),
            Prim::RandomBits => random::bits(exec, job),
            Prim::Quantized(QuantizedOp::FakeQuantize(_) | QuantizedOp::GatherMatmul { .. })
            | Prim::Conv(_)
            | Prim::Fft { .. }
            | Prim::Linalg(_)
            | Prim::Grouped(_) => exec.unsupported(NO_FAMILY),
            Prim::Quantized(QuantizedOp::Quantize(q)) => quantized::quantize(exec, *q, job),
            Prim::Quantized(QuantizedOp::Dequantize(q)) => quantized::dequantize(exec, *q, job),
            Prim::Quantized(QuantizedOp::Matmul { quantization, transpose }) => {
                quantized::matmul(exec, *quantization, *transpose, job)
            }
            Prim::Fast(op) => match op {
                FastOp::Softmax => rows::softmax(exec, job),
                FastOp::LogSumExp => rows::logsumexp(exec, job),
                FastOp::RmsNorm { eps } => rows::rms_norm(exec, eps.get(), job),
                FastOp::LayerNorm { eps, weight, bias } => {
                    rows::layer_norm(exec, eps.get(), *weight, *bias, job)
                }
                FastOp::Rope { .. } => rope::rope(exec, op, job),
                FastOp::Attention { .. } => attention::attention(exec, op, job),
            },
        }
    }
}

const NO_FAMILY: &str = "this family has no kernel here";

/// Why there is no kernel for such work whatever the operands are; `None` where there may be one.
pub fn lacks(work: &Work<'_>) -> Option<&'static str> {
    let Work::Prim(prim) = work else { return None };
    match prim {
        Prim::Quantized(QuantizedOp::FakeQuantize(_) | QuantizedOp::GatherMatmul { .. }) => {
            Some("only quantize, dequantize and the plain product")
        }
        Prim::Quantized(
            QuantizedOp::Quantize(q)
            | QuantizedOp::Dequantize(q)
            | QuantizedOp::Matmul { quantization: q, .. },
        ) => (!q.is_affine() || q.bits() == 1).then_some("only affine codes of two bits and more"),
        Prim::Conv(_) | Prim::Fft { .. } | Prim::Linalg(_) | Prim::Grouped(_) => Some(NO_FAMILY),
        _ => None,
    }
}

/// The program's values in memory of their own, and these reduced.
fn reduced(exec: &Exec<'_>, tape: &Tape, op: ReduceOp, axes: &Axes, job: &Job<'_>) -> Result<()> {
    let [(_, dtype)] = tape.outputs[..] else {
        return exec.unsupported("several results to reduce");
    };
    let Some(shape) = job.inputs.first().map(|i| i.shape) else {
        return exec.unsupported("values that depend on nothing");
    };
    let values = exec.scratch(shape.iter().product::<usize>() * dtype.size())?;
    let target = Target { ptr: values.ptr as *mut u8, dtype, shape };
    elementwise::run(exec, tape, job.inputs, &[target])?;
    let strides = row_major(shape);
    let operand = Operand { ptr: values.ptr as *const u8, dtype, shape, strides: &strides };
    let job = Job { work: job.work, inputs: &[operand], outputs: job.outputs };
    reduce::reduce(exec, op, axes, &job)
}

/// A device as a backend whose jobs end before `run` returns. Graphs that keep a device busy use
/// [`Stream::enqueue`].
#[derive(Clone, Copy, Debug)]
pub struct CudaBackend(pub &'static Device);

impl Backend for CudaBackend {
    fn name(&self) -> &'static str {
        "cuda"
    }

    fn alloc(&self, bytes: usize) -> Result<Buffer, OpError> {
        self.0.alloc(bytes)
    }

    unsafe fn run(&self, job: &Job<'_>) -> Result<(), OpError> {
        // SAFETY: the caller's promise; the job is done when this returns.
        unsafe { self.0.stream().enqueue(job) }?;
        self.0.stream().wait()
    }

    fn memory(&self) -> MemoryStats {
        self.0.memory()
    }

    fn set_memory_limit(&self, bytes: usize) -> usize {
        self.0.set_memory_limit(bytes)
    }

    fn set_cache_limit(&self, bytes: usize) -> usize {
        self.0.set_cache_limit(bytes)
    }

    fn clear_cache(&self) {
        self.0.clear_cache();
    }

    fn reset_peak(&self) {
        self.0.reset_peak();
    }
}

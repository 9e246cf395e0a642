//! Element-wise operations: one blocked interpreter for single operations and fused tapes alike.
//!
//! A job becomes a [`plan::Plan`]: which operands are read where they lie and which are first loaded
//! (converted, splatted, gathered) into an L1-sized block, which kernel each step runs, and where
//! its result goes. [`run`] then walks chunks of the row-major output in parallel, and blocks of each
//! chunk in order. Kernels exist per *compute* type ([`unary`], [`binary`], [`cast`]); the half types
//! are widened to f32 when a block is loaded and rounded after each step, so a fused tape gives the
//! same bits as its operations one by one.
//!
//! A single operation on a few hundred contiguous elements skips all of it: one kernel call.

mod binary;
pub(crate) mod cast;
mod complex;
pub(crate) mod fp8;
pub(crate) mod kernels;
mod plan;
mod rename;
mod run;
mod unary;

use kernels::{Kernel, k3};
use lazul_ir::{BinaryOp, DType, Job, Step, StepOp, Tape, Target, UnaryOp};

/// Runs a fused program.
pub(crate) fn fused(tape: &Tape, job: &Job<'_>) {
    let plan =
        plan::Plan::new(&tape.inputs, &tape.steps, &tape.outputs, tape.registers, job, false);
    run::run(&plan, job);
}

/// Hands `f` the means to compute any range of a program's one output: `fill(start, end, dst)` writes its
/// values `start..end`, in row-major order of the operands' shape, to memory of the output's dtype.
pub(crate) fn with_values(tape: &Tape, job: &Job<'_>, f: impl FnOnce(&Fill<'_>)) {
    // The plan asks for the shape of the values, not for their memory.
    let values =
        Target { ptr: std::ptr::null_mut(), dtype: tape.outputs[0].1, shape: job.inputs[0].shape };
    let job = Job { work: job.work, inputs: job.inputs, outputs: &[values] };
    let plan =
        plan::Plan::new(&tape.inputs, &tape.steps, &tape.outputs, tape.registers, &job, true);
    run::with_values(&plan, &job, f);
}

/// Computes values `start..end` into memory.
///
/// # Safety
/// The range must lie inside the values, and the memory hold them.
pub(crate) type Fill<'a> = dyn Fn(usize, usize, *mut u8) + Sync + 'a;

/// One operation of one operand.
pub(crate) fn unary(op: UnaryOp, job: &Job<'_>) {
    single(StepOp::Unary(op), job);
}

/// One operation of two operands.
pub(crate) fn binary(op: BinaryOp, job: &Job<'_>) {
    single(StepOp::Binary(op), job);
}

/// `condition, a, b`.
pub(crate) fn select(job: &Job<'_>) {
    single(StepOp::Select, job);
}

/// The operand in the output's dtype.
pub(crate) fn cast(job: &Job<'_>) {
    single(StepOp::Cast, job);
}

/// A program of one step.
fn single(op: StepOp, job: &Job<'_>) {
    let operand = job.inputs[job.inputs.len() - 1].dtype;
    let result = job.outputs[0].dtype;
    if run::small(op, operand, result, job) {
        return;
    }
    let args = match op {
        StepOp::Unary(_) | StepOp::Cast => [0, 0, 0],
        StepOp::Binary(_) => [0, 1, 0],
        StepOp::Select => [0, 1, 2],
    };
    let inputs = job.inputs.len();
    let dtypes: smallvec::SmallVec<[_; 3]> = job.inputs.iter().map(|i| i.dtype).collect();
    let dst = inputs as u16;
    let step = Step { op, operand, result, args, dst };
    let plan = plan::Plan::new(&dtypes, &[step], &[(dst, result)], dst + 1, job, false);
    run::run(&plan, job);
}

/// The kernel of a step.
fn kernel(kind: rename::Kind, operand: DType, result: DType) -> Kernel {
    use rename::Kind;
    match kind {
        Kind::Step(StepOp::Unary(op)) => unary::kernel(op, operand.compute()),
        Kind::Step(StepOp::Binary(op)) => binary::kernel(op, operand.compute()),
        Kind::Step(StepOp::Select) => kernels::select(operand.compute().size()),
        Kind::Step(StepOp::Cast) => cast::kernel(operand, result),
        Kind::ProductSum if operand == DType::F32 => k3!(f32, |a, b, c| a * b + c),
        Kind::ProductSum => k3!(f64, |a, b, c| a * b + c),
        Kind::SumProduct if operand == DType::F32 => k3!(f32, |a, b, c| (a + b) * c),
        Kind::SumProduct => k3!(f64, |a, b, c| (a + b) * c),
    }
}

#[cfg(test)]
mod speed;
#[cfg(test)]
mod tests;

//! Evenly spaced numbers, and one value everywhere, which some kernels begin with.

use crate::error::Result;
use crate::exec::Exec;
use crate::kernel::{Args, Grid};
use crate::source::{Family, Key, defs, unit_type};
use lazul_ir::{Job, Scalar};

/// One value over the output's shape.
pub(crate) fn fill(exec: &Exec<'_>, value: Scalar, job: &Job<'_>) -> Result<()> {
    let out = &job.outputs[0];
    let (size, bytes) = (out.dtype.size(), out.size() * out.dtype.size());
    if bytes == 0 {
        return Ok(());
    }
    let first = value.bits as u8;
    if (0..size).all(|i| (value.bits >> (8 * i)) as u8 == first) {
        return exec.fill_bytes(out.ptr as u64, first, bytes);
    }
    let key = Key::Family(Family::Arange, "fill", defs![UNIT = unit_type(size)]);
    let mut args = Args::new();
    args.push(out.ptr as u64).push(value.bits).push(out.size() as u64);
    exec.launch(key, Grid::cover(out.size().min(1 << 22), 256), &args)
}

/// `start + i * step`.
pub(crate) fn arange(exec: &Exec<'_>, start: Scalar, step: Scalar, job: &Job<'_>) -> Result<()> {
    let out = &job.outputs[0];
    if out.size() == 0 {
        return Ok(());
    }
    let dtype = out.dtype;
    let entry = match (dtype.is_inexact(), dtype == lazul_ir::DType::Bool) {
        (true, _) => "floats",
        (false, true) => "truths",
        (false, false) => "integers",
    };
    let key = Key::Family(Family::Arange, entry, defs![T = dtype]);
    let mut args = Args::new();
    args.push(out.ptr as u64);
    if dtype.is_inexact() {
        args.push(start.to_f64()).push(step.to_f64());
    } else {
        args.push(start.to_i128() as i64).push(step.to_i128() as i64);
    }
    args.push(out.size() as u64);
    exec.launch(key, Grid::cover(out.size().min(1 << 22), 256), &args)
}

//! Running reductions along an axis.
//!
//! The operand is row-major `(lines, n, inner)`, copied where it is not. Long lines with little beside
//! them are cut into chunks, which takes two more, small passes.

use crate::error::Result;
use crate::exec::Exec;
use crate::kernel::{Args, Grid};
use crate::source::{Defs, Family, Key, defs};
use lazul_ir::{DType, Job, ScanOp};

/// Running reduction along `axis`.
pub(crate) fn scan(
    exec: &Exec<'_>,
    op: ScanOp,
    axis: usize,
    reverse: bool,
    inclusive: bool,
    job: &Job<'_>,
) -> Result<()> {
    let out = &job.outputs[0];
    if out.size() == 0 {
        return Ok(());
    }
    let (input, output) = (job.inputs[0].dtype, out.dtype);
    let bool = output == DType::Bool;
    // By the numbers of the kernels' `SCAN_…`.
    let scan = match op {
        ScanOp::Sum | ScanOp::Max if bool => 6,
        ScanOp::Prod | ScanOp::Min if bool => 5,
        ScanOp::Sum => 0,
        ScanOp::Prod => 1,
        ScanOp::Min => 2,
        ScanOp::Max => 3,
        ScanOp::LogAddExp => 4usize,
    };
    if output == DType::C64 && scan >= 2 {
        return exec.unsupported("complex numbers have no order");
    }
    if op == ScanOp::LogAddExp && !output.is_float() {
        return exec.unsupported("logarithms of sums are floats");
    }
    let x = exec.dense(&job.inputs[0])?;
    let n = out.shape[axis];
    let outer: usize = out.shape[..axis].iter().product();
    let inner: usize = out.shape[axis + 1..].iter().product();
    let lines = outer * inner;

    let with = |folds: bool| -> Defs {
        defs![
            T = input,
            O = output,
            SCAN = scan,
            TRUTH = bool,
            REVERSE = reverse,
            INCLUSIVE = inclusive,
            FOLDS = folds
        ]
    };
    // Chunks of at least `least`, so many that a device has work.
    let (least, enough) = if inner == 1 { (4096, 2048) } else { (128, 64 << 10) };
    let wanted = (enough / lines).min(n / least).max(1);
    let chunk = n.div_ceil(wanted);
    let chunk = if inner == 1 { chunk.next_multiple_of(1024) } else { chunk };
    let chunks = n.div_ceil(chunk);
    let size = output.compute().size();
    let bases = exec.scratch(if chunks > 1 { lines * chunks * size } else { 1 })?;

    let pass = |folds: bool| -> Result<()> {
        let mut args = Args::new();
        args.push(x.ptr()).push(out.ptr as u64).push(bases.ptr).push(n as u64);
        if inner == 1 {
            args.push(chunks as u32).push(chunk as u64);
            if lines * chunks >= 1 << 31 {
                return exec.unsupported("more than 2^31 lines");
            }
            let key = Key::Family(Family::Scan, "along", with(folds));
            return exec.launch(key, Grid::new(lines * chunks, 256), &args);
        }
        args.push(inner as u64).push(lines as u64).push(chunks as u64).push(chunk as u64);
        let key = Key::Family(Family::Scan, "across", with(folds));
        exec.launch(key, Grid::cover(lines * chunks, 256), &args)
    };
    if chunks > 1 {
        pass(true)?;
        let defs = with(false);
        let mut args = Args::new();
        args.push(bases.ptr).push(lines as u64).push(chunks as u32);
        if chunks > 64 && lines < 1 << 31 {
            let key = Key::Family(Family::Scan, "long_bases", defs);
            exec.launch(key, Grid::new(lines, 256), &args)?;
        } else {
            let key = Key::Family(Family::Scan, "bases", defs);
            exec.launch(key, Grid::cover(lines, 256), &args)?;
        }
    }
    pass(false)
}

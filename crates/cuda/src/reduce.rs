//! Reductions over any axes and strides, and positions of extrema.
//!
//! Axes fall into those kept and those reduced, each merged by itself. Where the innermost reduced axis
//! is contiguous, threads read along the sequence of an output; where a kept axis is, they read across
//! neighbouring outputs. Which path, how many threads and how many splits is decided by the shape.

use crate::error::Result;
use crate::exec::Exec;
use crate::kernel::{Args, Grid};
use crate::layout::{Axes, Dims, Steps, push_walk, row_major};
use crate::source::{Defs, Family, Key, Value, defs};
use lazul_ir::{ArgReduceOp, DType, Job, ReduceOp};

/// The operations, by the numbers of the kernels' `FOLD_…`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fold {
    Sum,
    Prod,
    Min,
    Max,
    And,
    Or,
    ArgMin,
    ArgMax,
}

/// What is folded, of which dtype to which.
#[derive(Clone, Copy)]
struct Plan {
    fold: Fold,
    input: DType,
    output: DType,
    truth: bool,
}

impl Plan {
    fn is_arg(&self) -> bool {
        matches!(self.fold, Fold::ArgMin | Fold::ArgMax)
    }

    fn defs(&self, partial: bool) -> Defs {
        defs![
            T = self.input,
            O = if self.is_arg() { self.input } else { self.output },
            FOLD = self.fold as usize,
            TRUTH = self.truth,
            PARTIAL = partial
        ]
    }

    /// Bytes of a partial result.
    fn partial(&self) -> usize {
        match self.is_arg() {
            true => self.input.compute().size().max(4) * 2,
            false => self.output.compute().size(),
        }
    }
}

/// Reduces `axes`.
pub(crate) fn reduce(exec: &Exec<'_>, op: ReduceOp, axes: &[u8], job: &Job<'_>) -> Result<()> {
    let (input, output) = (job.inputs[0].dtype, job.outputs[0].dtype);
    let bool = output == DType::Bool;
    let fold = match op {
        ReduceOp::Sum if bool => Fold::Or,
        ReduceOp::Prod if bool => Fold::And,
        ReduceOp::Min if bool => Fold::And,
        ReduceOp::Max if bool => Fold::Or,
        ReduceOp::Sum => Fold::Sum,
        ReduceOp::Prod => Fold::Prod,
        ReduceOp::Min => Fold::Min,
        ReduceOp::Max => Fold::Max,
        ReduceOp::All => Fold::And,
        ReduceOp::Any => Fold::Or,
    };
    if output == DType::C64 && matches!(fold, Fold::Min | Fold::Max) {
        return exec.unsupported("complex numbers have no order");
    }
    run(exec, Plan { fold, input, output, truth: bool }, &|a| axes.contains(&(a as u8)), job)
}

/// Index of the extremum along `axis`.
pub(crate) fn arg_reduce(
    exec: &Exec<'_>,
    op: ArgReduceOp,
    axis: usize,
    job: &Job<'_>,
) -> Result<()> {
    let input = job.inputs[0].dtype;
    if input == DType::C64 {
        return exec.unsupported("complex numbers have no order");
    }
    let fold = match op {
        ArgReduceOp::ArgMin => Fold::ArgMin,
        ArgReduceOp::ArgMax => Fold::ArgMax,
    };
    run(exec, Plan { fold, input, output: DType::U32, truth: false }, &|a| a == axis, job)
}

fn run(
    exec: &Exec<'_>,
    plan: Plan,
    is_reduced: &dyn Fn(usize) -> bool,
    job: &Job<'_>,
) -> Result<()> {
    let (input, out) = (&job.inputs[0], &job.outputs[0]);
    if out.size() == 0 {
        return Ok(());
    }
    let group = |reduced: bool| -> (Dims, Steps) {
        (0..input.shape.len())
            .filter(|&a| is_reduced(a) == reduced)
            .map(|a| (input.shape[a], input.strides[a]))
            .unzip()
    };
    let (kept, kept_strides) = group(false);
    let (reduced, reduced_strides) = group(true);
    let sequence = Axes::merge(&reduced, &[&reduced_strides]);
    let length: usize = reduced.iter().product();
    if length >= 1 << 31 && sequence.rank() > 1 {
        return exec.unsupported("more than 2^31 positions along axes that do not merge");
    }
    let kept = Axes::merge(&kept, &[&kept_strides, &row_major(&kept)]);
    kept.pieces(&mut |kept, offsets| {
        let from = offsets[0] * plan.input.size() as isize;
        let to = offsets[1] as usize * plan.output.size();
        let ptr = (input.ptr as u64).wrapping_add_signed(from as i64);
        let kept = Axes {
            shape: kept.shape.clone(),
            strides: [kept.strides[0].clone()].into_iter().collect(),
        };
        piece(exec, plan, &kept, &sequence, length, ptr, out.ptr as u64 + to as u64)
    })
}

/// Outputs of `2^30` at most, row-major at `to`.
fn piece(
    exec: &Exec<'_>,
    plan: Plan,
    kept: &Axes,
    sequence: &Axes,
    length: usize,
    from: u64,
    to: u64,
) -> Result<()> {
    let size = plan.input.size();
    let outputs = kept.size();
    let (k, r) = (kept.rank() - 1, sequence.rank() - 1);
    let (kept_step, step) = (kept.strides[0][k], sequence.strides[0][r]);
    // Across outputs where those are neighbours in memory and the sequence's elements are not, or
    // where sequences are so short that a thread each is best.
    let across = kept_step == 1 && kept.shape[k] >= 8 && (step != 1 || length <= 8);
    let vector = |inner: usize, axes: &Axes, others: &[&[isize]]| {
        let mut n = (16 / size).min(8);
        let unit = |n: usize| (n * size) as u64;
        while n > 1
            && (!inner.is_multiple_of(n)
                || !from.is_multiple_of(unit(n))
                || axes.strides[0][..axes.rank() - 1]
                    .iter()
                    .chain(others.iter().flat_map(|o| o.iter()))
                    .any(|s| !(s.unsigned_abs() as u64 * size as u64).is_multiple_of(unit(n))))
        {
            n /= 2;
        }
        n
    };
    if across {
        let n = vector(kept.shape[k], kept, &[&sequence.strides[0]]);
        let groups = outputs / n;
        let blocks = groups.div_ceil(32);
        let splits = splits(length, 64, blocks);
        let per_split = length.div_ceil(splits).max(1);
        let mut defs = plan.defs(false);
        push(&mut defs, kept, sequence, n);
        let mut axes = kept.clone();
        axes.shape[k] /= n;
        axes.strides[0][k] *= n as isize;
        return twice(exec, plan, outputs, splits, to, &mut |exec, to, splits| {
            let mut args = Args::new();
            args.push(from).push(to).push(groups as u32).push(splits as u32);
            args.push(length as u64).push(per_split as u64);
            push_walk(&mut args, &axes);
            push_walk(&mut args, sequence);
            let key = Key::Family(Family::Reduce, "across", defs.clone());
            let grid = Grid::new(blocks, 32).and(splits, 1);
            exec.launch(key, Grid { threads: [32, 8, 1], ..grid }, &args)
        });
    }
    let n = if step == 1 { vector(sequence.shape[r], sequence, &[&kept.strides[0]]) } else { 1 };
    let vectors = length / n;
    // Threads an output; a warp is enough for long sequences too, where there are many.
    let per = match vectors {
        0..=4 => 1,
        5..=256 => 32,
        257..=4096 if outputs >= 2048 => 32,
        _ => 256,
    };
    let splits = if per == 256 { splits(vectors, 1024, outputs) } else { 1 };
    let per_split = vectors.div_ceil(splits).max(1);
    let mut defs = plan.defs(false);
    push(&mut defs, kept, sequence, n);
    defs.push(("PER", Value::Int(per as i64)));
    let mut axes = sequence.clone();
    axes.shape[r] = (axes.shape[r] / n).max(1);
    axes.strides[0][r] *= n as isize;
    if length >= 1 << 31 {
        axes.shape[r] = 1; // one axis: its size is not used
    }
    twice(exec, plan, outputs, splits, to, &mut |exec, to, splits| {
        let mut args = Args::new();
        args.push(from).push(to).push(outputs as u32).push(splits as u32);
        args.push(vectors as u64).push(per_split as u64);
        push_walk(&mut args, kept);
        push_walk(&mut args, &axes);
        let key = Key::Family(Family::Reduce, "along", defs.clone());
        exec.launch(key, Grid::new(outputs.div_ceil(256 / per), 256).and(splits, 1), &args)
    })
}

/// Pieces that sequences of `length` are cut into, at least `least` long, where `blocks` blocks alone
/// would leave a device idle.
fn splits(length: usize, least: usize, blocks: usize) -> usize {
    (1024 / blocks.max(1)).min(length / least).clamp(1, 1024)
}

fn push(defs: &mut Defs, kept: &Axes, sequence: &Axes, vector: usize) {
    defs.push(("KEPT", Value::Int(kept.rank() as i64)));
    defs.push(("REDUCED", Value::Int(sequence.rank() as i64)));
    defs.push(("VEC", Value::Int(vector as i64)));
}

/// Runs a first pass, into partial results if there are several splits, and then the second.
fn twice(
    exec: &Exec<'_>,
    plan: Plan,
    outputs: usize,
    splits: usize,
    to: u64,
    first: &mut dyn FnMut(&Exec<'_>, u64, usize) -> Result<()>,
) -> Result<()> {
    if splits == 1 {
        return first(exec, to, 1);
    }
    let partial = exec.scratch(outputs * splits * plan.partial())?;
    first(exec, partial.ptr, splits)?;
    // (splits, outputs) → (outputs)
    let kept = Axes::merge(&[outputs], &[&[1]]);
    let sequence = Axes::merge(&[splits], &[&[outputs as isize]]);
    let mut defs = plan.defs(true);
    push(&mut defs, &kept, &sequence, 1);
    let mut args = Args::new();
    args.push(partial.ptr).push(to).push(outputs as u32).push(1u32);
    args.push(splits as u64).push(splits as u64);
    push_walk(&mut args, &kept);
    push_walk(&mut args, &sequence);
    if outputs < 256 {
        defs.push(("PER", Value::Int(32)));
        let key = Key::Family(Family::Reduce, "along", defs);
        return exec.launch(key, Grid::new(outputs.div_ceil(8), 256), &args);
    }
    let key = Key::Family(Family::Reduce, "across", defs);
    let grid = Grid::new(outputs.div_ceil(32), 32);
    exec.launch(key, Grid { threads: [32, 8, 1], ..grid }, &args)
}

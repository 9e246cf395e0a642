//! Softmax, logsumexp, RMS and layer normalisation: what works on rows.
//!
//! Rows that fit a block's registers are read once; longer ones two or three times. In-place results
//! are fine: a thread writes what it read itself.

use crate::error::Result;
use crate::exec::Exec;
use crate::kernel::{Args, Grid};
use crate::layout::Rows;
use crate::source::{Defs, Family, Key, Value, defs};
use lazul_ir::{DType, Job, Operand};

/// How a row is spread over threads.
struct Spread {
    threads: usize,
    vector: usize,
    /// Vectors a thread; none if the row does not fit.
    count: Option<usize>,
}

/// Elements a thread may hold.
const HELD: usize = 32;

fn spread(len: usize, vector: usize) -> Spread {
    for threads in [32, 128, 256, 512, 1024] {
        let count = len.div_ceil(threads * vector).next_power_of_two();
        if count * vector <= HELD {
            return Spread { threads, vector, count: Some(count) };
        }
    }
    Spread { threads: 1024, vector: 1, count: None }
}

impl Spread {
    fn defs(&self, dtype: DType) -> Defs {
        defs![
            T = dtype,
            VEC = self.vector,
            COUNT = self.count.unwrap_or(1),
            THREADS = self.threads,
            PRECISE = matches!(dtype, DType::F32 | DType::F64)
        ]
    }

    /// Blocks for `rows` rows, and their threads.
    fn grid(&self, rows: usize) -> Grid {
        match self.threads {
            32 => Grid::new(rows.div_ceil(4), 128),
            threads => Grid::new(rows, threads as u32),
        }
    }
}

fn rows_of<'a>(exec: &Exec<'a>, x: &Operand<'_>) -> Result<(Rows, crate::exec::Plain<'a>)> {
    let (rows, plain) = exec.rows(x)?;
    if rows.count >= 1 << 31 || rows.len >= 1 << 31 {
        return exec.unsupported("more than 2^31 rows or columns");
    }
    Ok((rows, plain))
}

/// `x` → softmax over the last axis.
pub(crate) fn softmax(exec: &Exec<'_>, job: &Job<'_>) -> Result<()> {
    simple(exec, job, "softmax")
}

/// `x` → `(…, 1)`.
pub(crate) fn logsumexp(exec: &Exec<'_>, job: &Job<'_>) -> Result<()> {
    simple(exec, job, "logsumexp")
}

fn simple(exec: &Exec<'_>, job: &Job<'_>, entry: &'static str) -> Result<()> {
    let (x, out) = (&job.inputs[0], &job.outputs[0]);
    if out.size() == 0 {
        return Ok(());
    }
    let dtype = x.dtype;
    if x.size() == 0 {
        // Sums of nothing: logsumexp is -inf.
        let value = lazul_ir::Scalar::from_f64(f64::NEG_INFINITY, dtype);
        return crate::arange::fill(exec, value, job);
    }
    let (rows, _plain) = rows_of(exec, x)?;
    let vector = vector_of(&rows, out.ptr as u64, dtype);
    let spread = spread(rows.len, vector);
    let few = rows.count <= 128 && rows.len >= 8192;
    if few || spread.count.is_none() {
        return split(exec, entry, rows, out.ptr as u64, dtype, vector);
    }
    let mut args = Args::new();
    args.push(rows.ptr).push(out.ptr as u64);
    args.push(rows.count as u32).push(rows.len as u32).push(rows.stride as i64);
    let key = Key::Family(Family::Rows, entry, spread.defs(dtype));
    exec.launch(key, spread.grid(rows.count), &args)
}

/// Few or very long rows: several blocks a row.
fn split(
    exec: &Exec<'_>,
    entry: &'static str,
    rows: Rows,
    out: u64,
    dtype: DType,
    vector: usize,
) -> Result<()> {
    let piece = 256 * 16;
    let splits = rows.len.div_ceil(piece);
    if rows.count >= 1 << 16 {
        return exec.unsupported("2^16 rows of more than 32768 elements");
    }
    let spread = Spread { threads: 256, vector, count: Some(16 / vector) };
    let stats = exec.scratch(rows.count * splits * 2 * dtype.compute().size())?;
    let mut args = Args::new();
    args.push(rows.ptr).push(stats.ptr).push(splits as u32).push(rows.len as u64);
    args.push(rows.stride as i64);
    let grid = Grid::new(splits, 256).and(rows.count, 1);
    exec.launch(Key::Family(Family::Rows, "pieces", spread.defs(dtype)), grid, &args)?;
    let mut args = Args::new();
    if entry == "logsumexp" {
        args.push(out).push(stats.ptr).push(splits as u32);
        let key = Key::Family(Family::Rows, "joined_logsumexp", spread.defs(dtype));
        return exec.launch(key, Grid::new(rows.count, 256), &args);
    }
    args.push(rows.ptr).push(out).push(stats.ptr).push(splits as u32).push(rows.len as u64);
    args.push(rows.stride as i64);
    exec.launch(Key::Family(Family::Rows, "joined_softmax", spread.defs(dtype)), grid, &args)
}

/// The most elements that can be read, and written at `out`, together.
fn vector_of(rows: &Rows, out: u64, dtype: DType) -> usize {
    let size = dtype.size();
    let target = Rows { ptr: out, stride: rows.len as isize, ..*rows };
    rows.vector(size, 16 / size).min(target.vector(size, 16 / size))
}

/// `x (…, d) [, weight (d)]` → `x * rsqrt(mean(x²) + eps) * weight`.
pub(crate) fn rms_norm(exec: &Exec<'_>, eps: f32, job: &Job<'_>) -> Result<()> {
    norm(exec, eps, false, job.inputs.get(1), None, job)
}

/// `x (…, d) [, weight (d)] [, bias (d)]` → normalised, scaled, shifted.
pub(crate) fn layer_norm(
    exec: &Exec<'_>,
    eps: f32,
    weight: bool,
    bias: bool,
    job: &Job<'_>,
) -> Result<()> {
    let w = if weight { Some(&job.inputs[1]) } else { None };
    let b = if bias { Some(&job.inputs[1 + weight as usize]) } else { None };
    norm(exec, eps, true, w, b, job)
}

fn norm(
    exec: &Exec<'_>,
    eps: f32,
    centred: bool,
    weight: Option<&Operand<'_>>,
    bias: Option<&Operand<'_>>,
    job: &Job<'_>,
) -> Result<()> {
    let (x, out) = (&job.inputs[0], &job.outputs[0]);
    if out.size() == 0 {
        return Ok(());
    }
    let dtype = x.dtype;
    let (rows, _plain) = rows_of(exec, x)?;
    let weight = weight.map(|w| exec.dense(w)).transpose()?;
    let bias = bias.map(|b| exec.dense(b)).transpose()?;
    let mut vector = vector_of(&rows, out.ptr as u64, dtype);
    for p in [&weight, &bias].into_iter().flatten() {
        let row = Rows { ptr: p.ptr(), count: 1, len: rows.len, stride: 0 };
        vector = vector.min(row.vector(p.dtype().size(), vector));
    }
    let spread = spread(rows.len, vector);
    let mut defs = spread.defs(dtype);
    defs.push(("CENTRED", Value::from(centred)));
    defs.push(("WEIGHT", Value::from(weight.is_some())));
    defs.push(("BIAS", Value::from(bias.is_some())));
    defs.push(("W", Value::from(weight.as_ref().map_or(dtype, |w| w.dtype()))));
    defs.push(("B", Value::from(bias.as_ref().map_or(dtype, |b| b.dtype()))));
    let mut args = Args::new();
    args.push(rows.ptr).push(out.ptr as u64);
    args.push(weight.as_ref().map_or(0, |w| w.ptr())).push(bias.as_ref().map_or(0, |b| b.ptr()));
    let entry = match spread.count {
        Some(_) => {
            args.push(rows.count as u32).push(rows.len as u32);
            "normalize"
        }
        None => {
            args.push(rows.len as u64);
            "long_normalize"
        }
    };
    args.push(rows.stride as i64);
    match dtype {
        DType::F64 => args.push(eps as f64),
        _ => args.push(eps),
    };
    exec.launch(Key::Family(Family::Rows, entry, defs), spread.grid(rows.count), &args)
}

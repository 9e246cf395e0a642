//! Rotary position embedding.
//!
//! Positions are read from device memory, so that a recorded graph can be replayed at others.

use crate::error::Result;
use crate::exec::Exec;
use crate::kernel::{Args, Grid};
use crate::layout::{Axes, View};
use crate::source::{Family, Key, defs};
use lazul_ir::{DType, FastOp, Job};

/// `x (b, …, t, d), offset [, freqs]` → `x` with its first `dims` features rotated.
pub(crate) fn rope(exec: &Exec<'_>, op: &FastOp, job: &Job<'_>) -> Result<()> {
    let &FastOp::Rope { dims, traditional, base, scale, freqs } = op else {
        unreachable!("rope of {op:?}")
    };
    let (x, out) = (&job.inputs[0], &job.outputs[0]);
    if out.size() == 0 {
        return Ok(());
    }
    let view = View::of(x);
    let rank = view.shape.len();
    let (t, d) = (if rank >= 2 { view.shape[rank - 2] } else { 1 }, view.shape[rank - 1]);
    let batch = if rank >= 3 { view.shape[0] } else { 1 };
    let lead = rank.saturating_sub(2).min(1);
    let middles = lead..rank.saturating_sub(2).max(lead);
    let merged = Axes::merge(&view.shape[middles.clone()], &[&view.strides[middles.clone()]]);
    let plain = exec.plain(view, merged.rank() == 1)?;
    let view = &plain.view;
    let middle: usize = view.shape[middles.clone()].iter().product();
    let merged = Axes::merge(&view.shape[middles.clone()], &[&view.strides[middles]]);
    let batch_stride = if rank >= 3 { view.strides[0] } else { 0 };
    let t_stride = if rank >= 2 { view.strides[rank - 2] } else { 0 };

    let offset = exec.dense(&job.inputs[1])?;
    let each = (job.inputs[1].size() > 1) as i64;
    let (freq_ptr, freq_step) = match job.inputs.get(2) {
        Some(f) if freqs => (f.ptr as u64, f.strides.last().copied().unwrap_or(0)),
        _ => (0, 0),
    };
    // Heads that share a cosine and sine; few where there is little to do.
    let heads = if t * batch >= 256 { 8 } else { 2 };
    let lanes = (dims as usize / 2) + d - dims as usize;
    if batch >= 1 << 16 || middle.div_ceil(heads) >= 1 << 16 || t * lanes >= 1 << 37 {
        return exec.unsupported("more than 2^16 sequences");
    }
    let dtype: DType = x.dtype;
    let key = Key::Family(
        Family::Rope,
        "rope",
        defs![T = dtype, TRADITIONAL = traditional, FREQS = freqs],
    );
    let mut args = Args::new();
    args.push(view.ptr).push(out.ptr as u64);
    args.push(offset.ptr()).push(offset.dtype() as i32).push(each);
    args.push(freq_ptr).push(freq_step as i64);
    args.push(middle as u32).push(t as u32).push(d as u32).push(dims).push(heads as u32);
    args.push((base.get() as f64).log2()).push(scale.get());
    args.push(batch_stride as i64).push(merged.strides[0][0] as i64);
    args.push(t_stride as i64).push(view.strides[rank - 1] as i64);
    exec.launch(key, Grid::cover(t * lanes, 128).and(middle.div_ceil(heads), batch), &args)
}

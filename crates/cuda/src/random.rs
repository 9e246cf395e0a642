//! Random bits: Threefry-2x32, as on the CPU, bit for bit.

use crate::error::Result;
use crate::exec::Exec;
use crate::kernel::{Args, Grid};
use crate::source::{Family, Key, defs};
use lazul_ir::Job;

/// `keys u32 (B…, 2)` → `(B…, s…)`.
pub(crate) fn bits(exec: &Exec<'_>, job: &Job<'_>) -> Result<()> {
    let (keys, out) = (&job.inputs[0], &job.outputs[0]);
    let count: usize = keys.shape[..keys.shape.len() - 1].iter().product();
    if count == 0 || out.size() == 0 {
        return Ok(());
    }
    let bytes = out.size() / count * out.dtype.size(); // of one key
    let counters = bytes.div_ceil(4).div_ceil(2);
    let keys = exec.dense(keys)?;
    let mut args = Args::new();
    args.push(out.ptr as u64).push(keys.ptr()).push(bytes as u64);
    args.push(counters as u64).push((count * counters) as u64);
    let key = Key::Family(Family::Random, "bits", defs![]);
    exec.launch(key, Grid::cover((count * counters).min(1 << 28), 256), &args)
}

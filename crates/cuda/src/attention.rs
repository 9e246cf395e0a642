//! Scaled dot-product attention.

use crate::error::Result;
use crate::exec::{Exec, Plain};
use crate::kernel::{Args, Grid};
use crate::layout::View;
use crate::memory::Scratch;
use crate::source::{Defs, Family, Key, Value, defs};
use lazul_ir::{DType, FastOp, Job};

/// Keys that a split has at least.
const SPLIT: usize = 256;
/// Most rows (queries times heads that share a key head) that are handled like one query.
const FEW: usize = 64;

/// Operands and sizes of one job.
struct Attention<'a> {
    q: View,
    k: View,
    v: View,
    mask: Option<View>,
    sinks: Option<Plain<'a>>,
    /// Where the number of keys in use is.
    length: Option<u64>,
    out: u64,
    scale: f32,
    causal: bool,
    window: u32,
}

/// `q, k, v [, mask] [, sinks] [, length]` → `(b, h, tq, dv)`.
pub(crate) fn attention(exec: &Exec<'_>, op: &FastOp, job: &Job<'_>) -> Result<()> {
    let &FastOp::Attention { scale, causal, window, mask, sinks, length } = op else {
        unreachable!("attention of {op:?}")
    };
    let out = &job.outputs[0];
    if out.size() == 0 {
        return Ok(());
    }
    // The result may be the memory of an operand, which other rows still read.
    let apart = |i: usize| -> Result<Plain<'_>> {
        let view = View::of(&job.inputs[i]);
        let shared = view.ptr == out.ptr as u64;
        exec.plain(view, !shared)
    };
    let (q, k, v) = (apart(0)?, apart(1)?, apart(2)?);
    let sinks = match job.inputs.get(3 + mask as usize) {
        Some(s) if sinks => Some(exec.dense(s)?),
        _ => None,
    };
    let attention = Attention {
        q: q.view.clone(),
        k: k.view.clone(),
        v: v.view.clone(),
        mask: mask.then(|| View::of(&job.inputs[3])),
        sinks,
        length: job.inputs.last().filter(|_| length).map(|l| l.ptr as u64),
        out: out.ptr as u64,
        scale: scale.get(),
        causal,
        window,
    };
    attention.run(exec)
}

impl Attention<'_> {
    fn defs(&self) -> Defs {
        let t = self.q.dtype;
        let mask = self.mask.as_ref().map_or(0usize, |m| 1 + (m.dtype != DType::Bool) as usize);
        defs![
            T = t,
            KT = self.k.dtype,
            VT = self.v.dtype,
            M = self.mask.as_ref().map_or(t, |m| m.dtype),
            MASK = mask,
            S = self.sinks.as_ref().map_or(t, |s| s.dtype()),
            SINKS = self.sinks.is_some(),
            LENGTH = self.length.is_some()
        ]
    }

    /// The kernels' structure `Problem`.
    fn push(&self, exec: &Exec<'_>, args: &mut Args) {
        args.begin().field(self.q.ptr).field(self.k.ptr).field(self.v.ptr);
        args.field(self.mask.as_ref().map_or(0, |m| m.ptr));
        args.field(self.sinks.as_ref().map_or(0, |s| s.ptr())).field(self.out);
        args.field(self.length.unwrap_or(0)).field(exec.stream.fault());
        let none = [0isize; 4];
        let mask = self.mask.as_ref().map_or(&none[..], |m| &m.strides[..]);
        for strides in [&self.q.strides[..], &self.k.strides, &self.v.strides, mask] {
            strides.iter().for_each(|&s| {
                args.field(s as i64);
            });
        }
        args.field(1i64).field(self.scale as f64);
        let (q, k, v) = (&self.q.shape, &self.k.shape, &self.v.shape);
        for n in [q[0], q[1], k[1], q[2], k[2], q[3], v[3]] {
            args.field(n as u32);
        }
        args.field(self.causal as u32).field(self.window).field(exec.number());
    }

    fn run(&self, exec: &Exec<'_>) -> Result<()> {
        let (q, k) = (&self.q.shape, &self.k.shape);
        let rows = q[0] * q[1] * q[2];
        let value_depth = self.v.shape[3];
        if rows >= 1 << 33 || k[2] >= 1 << 31 || value_depth > 512 {
            return exec.unsupported("values of more than 512 features, or 2^31 keys");
        }
        if self.suits_tensor_cores(exec) {
            let group = q[1] / k[1];
            if group * q[2] <= FEW {
                return self.decode(exec);
            }
            return if self.suits_hopper(exec) { self.hopper(exec) } else { self.prefill(exec) };
        }
        let size = self.q.dtype.compute().size();
        // Few rows leave most of a device idle, unless keys are split among blocks.
        let splits = (2048 / rows.max(1)).min(k[2].div_ceil(SPLIT)).clamp(1, 64);
        let per_split = k[2].div_ceil(splits).next_multiple_of(32).max(32);
        let splits = k[2].div_ceil(per_split).max(1);
        let partial = self.partial(exec, rows, splits, size)?;
        let mut defs = self.defs();
        defs.push(("CHUNKS", Value::from(value_depth.div_ceil(32).max(1))));
        let mut args = Args::new();
        self.push(exec, &mut args);
        args.push(splits as u32).push(per_split as u32).push(partial.ptr);
        let grid = Grid::new(rows.div_ceil(4), 128).and(splits, 1).shared(4 * q[3] * size);
        exec.launch(Key::Family(Family::Attention, "simple", defs), grid, &args)?;
        self.combine(exec, rows, splits, partial.ptr)
    }

    fn partial<'s>(
        &self,
        exec: &Exec<'s>,
        rows: usize,
        splits: usize,
        size: usize,
    ) -> Result<Scratch<'s>> {
        let each = (self.v.shape[3] + 2) * size;
        exec.scratch(if splits > 1 { splits * rows * each } else { 1 })
    }

    fn combine(&self, exec: &Exec<'_>, rows: usize, splits: usize, partial: u64) -> Result<()> {
        if splits == 1 {
            return Ok(());
        }
        let mut args = Args::new();
        self.push(exec, &mut args);
        args.push(splits as u32).push(partial);
        let key = Key::Family(Family::Attention, "combine", self.defs());
        exec.launch(key, Grid::new(rows, 128), &args)
    }

    /// Half types throughout, with rows that can be read 16 bytes at a time.
    fn suits_tensor_cores(&self, exec: &Exec<'_>) -> bool {
        let dtype = self.q.dtype;
        let aligned = |v: &View| {
            let whole = |s: &isize| s.unsigned_abs().is_multiple_of(8);
            v.dtype == dtype
                && v.ptr.is_multiple_of(16)
                && (v.strides[3] == 1 || v.shape[3] == 1)
                && v.strides[..3].iter().zip(&v.shape[..3]).all(|(s, &d)| d == 1 || whole(s))
        };
        matches!(dtype, DType::F16 | DType::BF16)
            && exec.device().is_ampere()
            && [&self.q, &self.k, &self.v].into_iter().all(aligned)
            && [self.q.shape[3], self.v.shape[3]]
                .iter()
                .all(|&d| d.is_multiple_of(16) && (16..=256).contains(&d))
            && self.q.shape[0] < 1 << 16
            && self.q.shape[1] < 1 << 16
            && self.k.shape[2] > 0
    }

    fn tensor_defs(&self) -> Defs {
        let mut defs = self.defs();
        defs.push(("D", Value::from(self.q.shape[3])));
        defs.push(("DV", Value::from(self.v.shape[3])));
        defs
    }

    fn decode(&self, exec: &Exec<'_>) -> Result<()> {
        let (q, k) = (&self.q.shape, &self.k.shape);
        let (batches, heads, queries) = (q[0], q[1], q[2]);
        let (key_heads, keys, dv) = (k[1], k[2], self.v.shape[3]);
        let rows = batches * heads * queries;
        let tiles = key_heads * (heads / key_heads * queries).div_ceil(16);
        // A warp's keys: at least 32, and so many that there is work for every multiprocessor.
        let blocks = (1024 / (batches * tiles)).clamp(1, 256);
        let per_split = keys.div_ceil(4 * blocks).next_multiple_of(16).max(32);
        let splits = keys.div_ceil(4 * per_split);
        let partial = self.partial(exec, rows, splits, 4)?;
        let mut args = Args::new();
        self.push(exec, &mut args);
        args.push(splits as u32).push(per_split as u32).push(partial.ptr);
        let grid = Grid::new(splits, 128).and(tiles, batches).shared(4 * 16 * (dv + 4) * 4);
        exec.launch(Key::Family(Family::Flash, "decode", self.tensor_defs()), grid, &args)?;
        self.combine(exec, rows, splits, partial.ptr)
    }

    /// What the kernel for Hopper is made for: many queries, no mask, 64 or 128 features.
    fn suits_hopper(&self, exec: &Exec<'_>) -> bool {
        let (q, d) = (&self.q.shape, self.q.shape[3]);
        let positive =
            |v: &View| v.strides[..3].iter().zip(&v.shape).all(|(&s, &n)| n == 1 || s > 0);
        exec.device().info().capability == (9, 0)
            && exec.device().compiler.makes_bound((9, 0))
            && self.mask.is_none()
            && self.scale > 0.0
            && q[2] > 64
            && matches!(d, 64 | 128)
            && self.v.shape[3] == d
            && [&self.q, &self.k, &self.v].into_iter().all(positive)
            && q[0] * q[1] * q[2].div_ceil(128) < 1 << 31
    }

    fn hopper(&self, exec: &Exec<'_>) -> Result<()> {
        let (q, d) = (&self.q.shape, self.q.shape[3]);
        let mut defs = self.tensor_defs();
        let half = if self.q.dtype == DType::F16 { "\"f16\"" } else { "\"bf16\"" };
        defs.push(("TYPE", Value::Text(half)));
        let tiles = q[2].div_ceil(128);
        let total = q[0] * q[1] * tiles;
        let mut args = Args::new();
        self.push(exec, &mut args);
        for view in [&self.q, &self.k, &self.v] {
            args.push_words(&exec.tensor_map(view, [64, 128])?);
        }
        args.push(tiles as u32).push(total as u32);
        let blocks = total.min(exec.device().info().multiprocessors as usize);
        let grid = Grid::new(blocks, 384).shared(5 * 128 * d * 2 + 1024);
        exec.launch(Key::Family(Family::Hopper, "hopper", defs), grid, &args)
    }

    fn prefill(&self, exec: &Exec<'_>) -> Result<()> {
        let q = &self.q.shape;
        let (d, dv) = (q[3], self.v.shape[3]);
        // Accumulators of 32 rows a warp fit registers up to 128 features.
        let (tiles, keys) = if dv <= 128 { (2usize, 64usize) } else { (1, 32) };
        let shared = ((64 * tiles + keys) * (d + 8) + keys * (dv + 8)) * 2;
        let mut defs = self.tensor_defs();
        defs.push(("MT", Value::from(tiles)));
        defs.push(("BN", Value::from(keys)));
        let mut args = Args::new();
        self.push(exec, &mut args);
        let grid = Grid::new(q[2].div_ceil(64 * tiles), 128).and(q[1], q[0]).shared(shared);
        exec.launch(Key::Family(Family::Flash, "prefill", defs), grid, &args)
    }
}

//! Affine quantized matrices.
//!
//! Few rows are multiplied by a matrix as it lies, codes and all. Many rows are multiplied by parts of
//! the matrix that are dequantized first, each small enough to stay in the second-level cache, by the
//! tensor cores' library.

use crate::error::Result;
use crate::exec::{Exec, Plain};
use crate::kernel::{Args, Grid};
use crate::layout::{Axes, View, row_major};
use crate::source::{Defs, Family, Key, Value, defs};
use lazul_ir::{DType, Job, Quantization};

/// Most rows that are multiplied by codes as they lie.
const FEW: usize = 8;
/// Most rows that tensor cores multiply by codes as they lie; for more, dequantizing first pays.
const TENSOR: usize = 96;
/// Bytes of a dequantized part.
const PART: usize = 32 << 20;

fn base(q: Quantization, scales: DType) -> Defs {
    defs![T = scales, BITS = q.bits(), GROUP = q.group_size()]
}

/// `w (…, k)` → `codes (…, k*bits/32), scales (…, k/group), biases`.
pub(crate) fn quantize(exec: &Exec<'_>, q: Quantization, job: &Job<'_>) -> Result<()> {
    let w = exec.dense(&job.inputs[0])?;
    let groups = w.view.size() / q.group_size();
    if groups == 0 {
        return Ok(());
    }
    let mut args = Args::new();
    args.push(w.ptr());
    job.outputs.iter().for_each(|o| {
        args.push(o.ptr as u64);
    });
    args.push(groups as u64);
    let key = Key::Family(Family::Quantized, "quantize", base(q, w.dtype()));
    exec.launch(key, Grid::cover(groups, 128), &args)
}

/// `codes, scales, biases` → `w` in the scales' dtype.
pub(crate) fn dequantize(exec: &Exec<'_>, q: Quantization, job: &Job<'_>) -> Result<()> {
    let out = &job.outputs[0];
    if out.size() == 0 {
        return Ok(());
    }
    let [codes, scales, biases] = [0, 1, 2].map(|i| exec.dense(&job.inputs[i]));
    let (codes, scales, biases) = (codes?, scales?, biases?);
    let parts = [codes.ptr(), scales.ptr(), biases.ptr()];
    unpack(exec, q, out.ptr as u64, out.dtype, parts, scales.dtype(), out.size() / 32)
}

/// Dequantizes `chunks` chunks of 32 codes.
fn unpack(
    exec: &Exec<'_>,
    q: Quantization,
    out: u64,
    dtype: DType,
    parts: [u64; 3],
    scales: DType,
    chunks: usize,
) -> Result<()> {
    let mut defs = base(q, scales);
    defs.push(("O", Value::from(dtype)));
    let mut args = Args::new();
    args.push(out).push(parts[0]).push(parts[1]).push(parts[2]).push(chunks as u64);
    exec.launch(Key::Family(Family::Quantized, "dequantize", defs), Grid::cover(chunks, 128), &args)
}

/// `x (…, m, k)` times a quantized matrix.
pub(crate) fn matmul(
    exec: &Exec<'_>,
    q: Quantization,
    transpose: bool,
    job: &Job<'_>,
) -> Result<()> {
    let (x, out) = (&job.inputs[0], &job.outputs[0]);
    if out.size() == 0 {
        return Ok(());
    }
    let rank = x.shape.len();
    let (m, k, n) = (x.shape[rank - 2], x.shape[rank - 1], out.shape[rank - 1]);
    if k == 0 {
        return exec.fill_bytes(out.ptr as u64, 0, out.size() * out.dtype.size());
    }
    // Matrices without gaps; a batch of them may repeat.
    let matrix = |i: usize| -> Result<Plain<'_>> {
        let view = View::of(&job.inputs[i]);
        let (rows, columns) = (view.shape[rank - 2], view.shape[rank - 1]);
        let dense = lazul_ir::layout::is_row_major(&[rows, columns], &view.strides[rank - 2..]);
        exec.plain(view, dense)
    };
    let parts = [matrix(1)?, matrix(2)?, matrix(3)?];
    let x = View::of(x);
    let contiguous =
        (k == 1 || x.strides[rank - 1] == 1) && (m == 1 || x.strides[rank - 2] >= k as isize);
    let x = exec.plain(x, contiguous)?;
    let out_strides = row_major(out.shape);
    let lead = rank - 2;
    let mut axes = Axes::merge(
        &out.shape[..lead],
        &[
            &x.view.strides[..lead],
            &parts[0].view.strides[..lead],
            &parts[1].view.strides[..lead],
            &parts[2].view.strides[..lead],
            &out_strides[..lead],
        ],
    );
    // A batch of rows that meet one matrix is one product of more rows.
    let (mut m, mut x_row) = (m, x.view.strides[rank - 2]);
    let last = axes.rank() - 1;
    let (more, step) = (axes.shape[last], axes.strides[0][last]);
    let shared = axes.strides[1..4].iter().all(|s| s[last] == 0);
    let follow = if m == 1 { step >= k as isize } else { step == x_row * m as isize };
    if more > 1 && shared && follow {
        x_row = if m == 1 { step } else { x_row };
        m *= more;
        axes.shape[last] = 1;
    }
    let rows = Rows {
        q,
        transpose,
        m,
        n,
        k,
        x_row: if m == 1 { k as isize } else { x_row },
        dtype: x.dtype(),
        scales: parts[1].dtype(),
    };
    for i in 0..axes.size() {
        let mut rest = i;
        let mut at = [0isize; 5];
        for axis in (0..axes.rank()).rev() {
            let c = (rest % axes.shape[axis]) as isize;
            rest /= axes.shape[axis];
            (0..5).for_each(|o| at[o] += c * axes.strides[o][axis]);
        }
        let moved = |ptr: u64, o: usize, size: usize| {
            ptr.wrapping_add_signed((at[o] * size as isize) as i64)
        };
        rows.run(
            exec,
            moved(out.ptr as u64, 4, out.dtype.size()),
            moved(x.ptr(), 0, x.dtype().size()),
            [
                moved(parts[0].ptr(), 1, 4),
                moved(parts[1].ptr(), 2, parts[1].dtype().size()),
                moved(parts[2].ptr(), 3, parts[2].dtype().size()),
            ],
        )?;
    }
    Ok(())
}

/// One product: `(m, k)` rows, `x_row` apart, and one matrix.
struct Rows {
    q: Quantization,
    transpose: bool,
    m: usize,
    n: usize,
    k: usize,
    x_row: isize,
    dtype: DType,
    scales: DType,
}

impl Rows {
    fn run(&self, exec: &Exec<'_>, out: u64, x: u64, parts: [u64; 3]) -> Result<()> {
        if !self.transpose {
            return self.whole(exec, out, x, parts);
        }
        if self.m <= TENSOR && self.suits_tensor_cores(exec, x, parts) {
            return self.tensor(exec, out, x, parts);
        }
        let shared = self.k / 32 * 36 * 4 * self.m;
        let most = exec.device().info().shared.min(160 << 10);
        let aligned = parts[0].is_multiple_of(16);
        if self.m <= FEW && aligned && shared <= most {
            return self.few(exec, out, x, parts, shared);
        }
        self.by_columns(exec, out, x, parts)
    }

    /// A half type in rows of whole 16 bytes, and codes that lanes can take in whole words.
    fn suits_tensor_cores(&self, exec: &Exec<'_>, x: u64, parts: [u64; 3]) -> bool {
        let words = match self.q.group_size() {
            32 => matches!(self.q.bits(), 4 | 8),
            _ => matches!(self.q.bits(), 2 | 4 | 6 | 8),
        };
        matches!(self.dtype, DType::F16 | DType::BF16)
            && exec.device().is_ampere()
            && words
            && x.is_multiple_of(16)
            && (self.m == 1 || self.x_row.unsigned_abs().is_multiple_of(8))
            && parts[0].is_multiple_of(16)
            && self.k < 1 << 31
            && self.n < 1 << 31
    }

    fn tensor(&self, exec: &Exec<'_>, out: u64, x: u64, parts: [u64; 3]) -> Result<()> {
        // Tiles of 8 rows of x, of 16 columns, steps whose loads are in flight together, and blocks on
        // a multiprocessor.
        let (mt, rt, unroll, resident) = match self.m {
            0..=8 => (1usize, 1usize, 4usize, 2usize),
            9..=16 => (2, 1, 2, 2),
            _ => (4, 2, 1, 1),
        };
        let mut defs = base(self.q, self.scales);
        defs.push(("X", Value::from(self.dtype)));
        defs.push(("MT", Value::from(mt)));
        defs.push(("RT", Value::from(rt)));
        defs.push(("UNROLL", Value::from(unroll)));
        defs.push(("RESIDENT", Value::from(resident)));
        let words = self.k * self.q.bits() / 32;
        let groups = self.k / self.q.group_size();
        let mut args = Args::new();
        args.push(out).push(x).push(parts[0]).push(parts[1]).push(parts[2]);
        args.push(self.m as u32).push(self.n as u32).push(self.k as u32);
        args.push(self.x_row as i64).push(words as i64).push(groups as i64).push(self.n as i64);
        let grid = Grid::new(self.n.div_ceil(16 * rt), 256).and(self.m.div_ceil(8 * mt), 1);
        exec.launch(Key::Family(Family::Quantized, "tensor", defs), grid, &args)
    }

    fn few(&self, exec: &Exec<'_>, out: u64, x: u64, parts: [u64; 3], shared: usize) -> Result<()> {
        let mut defs = base(self.q, self.scales);
        defs.push(("X", Value::from(self.dtype)));
        defs.push(("ROWS", Value::from(self.m)));
        let words = self.k * self.q.bits() / 32;
        let groups = self.k / self.q.group_size();
        let mut args = Args::new();
        args.push(out).push(x).push(parts[0]).push(parts[1]).push(parts[2]);
        args.push(self.n as u32).push(self.k as u32).push(self.x_row as i64);
        args.push(words as i64).push(groups as i64);
        let blocks = self.n.div_ceil(4).min(132 * 16);
        let key = Key::Family(Family::Quantized, "rows", defs);
        exec.launch(key, Grid::new(blocks, 128).shared(shared), &args)
    }

    fn x(&self, ptr: u64) -> View {
        let shape = [self.m, self.k].as_slice().into();
        View { ptr, dtype: self.dtype, shape, strides: [self.x_row, 1].as_slice().into() }
    }

    /// Stored `(n, k)`: some columns of the product at a time.
    fn by_columns(&self, exec: &Exec<'_>, out: u64, x: u64, parts: [u64; 3]) -> Result<()> {
        let size = self.dtype.size();
        let (words, groups) = (self.k * self.q.bits() / 32, self.k / self.q.group_size());
        let columns = (PART / (self.k * size)).clamp(1, self.n);
        let columns =
            if columns < self.n { columns.next_multiple_of(256).min(self.n) } else { columns };
        let part = exec.scratch(columns * self.k * size)?;
        for first in (0..self.n).step_by(columns) {
            let count = columns.min(self.n - first);
            let moved = [
                parts[0] + (first * words * 4) as u64,
                parts[1] + (first * groups * self.scales.size()) as u64,
                parts[2] + (first * groups * self.scales.size()) as u64,
            ];
            unpack(exec, self.q, part.ptr, self.dtype, moved, self.scales, count * self.k / 32)?;
            let w = View::dense(part.ptr, self.dtype, &[count, self.k]);
            let w = crate::matmul::transposed(&w);
            let mut to = View::dense(out + (first * size) as u64, self.dtype, &[self.m, count]);
            to.strides[0] = self.n as isize;
            crate::matmul::product(exec, self.x(x), w, to)?;
        }
        Ok(())
    }

    /// Stored `(k, n)`: dequantized as a whole.
    fn whole(&self, exec: &Exec<'_>, out: u64, x: u64, parts: [u64; 3]) -> Result<()> {
        let w = View::dense(0, self.dtype, &[self.k, self.n]);
        let part = exec.scratch(w.bytes())?;
        unpack(exec, self.q, part.ptr, self.dtype, parts, self.scales, self.k * self.n / 32)?;
        let w = View { ptr: part.ptr, ..w };
        let out = View::dense(out, self.dtype, &[self.m, self.n]);
        crate::matmul::product(exec, self.x(x), w, out)
    }
}

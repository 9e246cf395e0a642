//! Matrix products: cuBLASLt for floats and complex numbers, our own for few rows, for integers, and
//! for everything where the library is not installed.

use crate::blas::{Matrix, Problem};
use crate::error::Result;
use crate::exec::{Exec, Plain};
use crate::kernel::{Args, Grid};
use crate::layout::{Axes, View, push_walk, row_major};
use crate::source::{Family, Key, Value, defs};
use lazul_ir::{DType, Job};

/// Most rows that [`gemv`] multiplies at once; the library is quicker from there on.
const FEW: usize = 1;

/// `a (…, m, k) · b (…, k, n)`.
pub(crate) fn matmul(exec: &Exec<'_>, job: &Job<'_>) -> Result<()> {
    let (a, b) = (View::of(&job.inputs[0]), View::of(&job.inputs[1]));
    product(exec, a, b, View::of_target(&job.outputs[0]))
}

/// `out = a · b`. The result is row-major, or, if it is a single matrix, has rows at any distance.
pub(crate) fn product(exec: &Exec<'_>, a: View, b: View, out: View) -> Result<()> {
    if out.size() == 0 {
        return Ok(());
    }
    let rank = a.shape.len();
    let (k, dtype) = (a.shape[rank - 1], a.dtype);
    if k == 0 && out.is_dense() {
        return exec.fill_bytes(out.ptr, 0, out.bytes());
    }
    if dtype == DType::Bool {
        return exec.unsupported("matrices of truth values");
    }
    let library = !exec.device().is_compile_only() && exec.device().blas().is_some();
    let floats = dtype.is_inexact();
    // Operands as the library and the kernels for few rows want them: contiguous one way or the other.
    let a = Operand::new(exec, a, floats)?;
    let b = Operand::new(exec, b, floats)?;
    let (m, n) = (out.shape[rank - 2], out.shape[rank - 1]);
    let batch = &out.shape[..rank - 2];
    let out_strides = if rank > 2 { row_major(&out.shape) } else { out.strides.clone() };
    let axes = Axes::merge(
        batch,
        &[&a.view.strides[..rank - 2], &b.view.strides[..rank - 2], &out_strides[..rank - 2]],
    );
    let mut size = Size { m, n, k, out_row: out_strides[rank - 2] };
    let mut axes = axes;
    let mut a = a;
    // A batch of rows that meet one matrix is one product of more rows.
    let last = axes.rank() - 1;
    let (more, step) = (axes.shape[last], axes.strides[0][last]);
    let follow = match m {
        1 => step >= k as isize,
        _ => step == a.row * m as isize,
    };
    if more > 1 && axes.strides[1][last] == 0 && follow && !a.by_column(k) {
        if m == 1 {
            a.row = step;
        }
        size.m *= more;
        axes.shape[last] = 1;
        let strides: Vec<&[isize]> = axes.strides.iter().map(|s| &s[..]).collect();
        axes = Axes::merge(&axes.shape, &strides);
    }
    batched(exec, dtype, size, &a, &b, out.ptr, &axes, library && floats)
}

#[derive(Clone, Copy)]
struct Size {
    m: usize,
    n: usize,
    k: usize,
    /// Distance between rows of the result.
    out_row: isize,
}

/// A matrix operand, its last two strides picked out.
struct Operand<'a> {
    view: View,
    row: isize,
    column: isize,
    _plain: Option<Plain<'a>>,
}

impl<'a> Operand<'a> {
    fn new(exec: &Exec<'a>, view: View, contiguous: bool) -> Result<Operand<'a>> {
        let rank = view.shape.len();
        let (rows, columns) = (view.shape[rank - 2], view.shape[rank - 1]);
        let (row, column) = (view.strides[rank - 2], view.strides[rank - 1]);
        let along = (columns == 1 || column == 1) && (rows == 1 || row >= columns as isize);
        let down = (rows == 1 || row == 1) && (columns == 1 || column >= rows as isize);
        let plain = exec.plain(view, !contiguous || along || down)?;
        let view = plain.view.clone();
        let (row, column) = (view.strides[rank - 2], view.strides[rank - 1]);
        Ok(Operand { row, column, view, _plain: Some(plain) })
    }

    /// Whether columns are what is contiguous; `columns` is their number.
    fn by_column(&self, columns: usize) -> bool {
        columns > 1 && self.column != 1
    }

    /// As the library sees it.
    fn matrix(&self, rows: usize, columns: usize, batch: isize, ptr: u64) -> Matrix {
        let size = self.view.dtype.size();
        let aligned = |n: u64| 1u32 << (n | 256).trailing_zeros();
        let transposed = self.by_column(columns);
        let (rows, columns, stride) = match transposed {
            true => (columns, rows, self.column),
            false => (rows, columns, self.row),
        };
        // A single row has no stride of its own.
        let stride = if rows == 1 { columns } else { stride as usize };
        let alignment = aligned(ptr | (batch.unsigned_abs() as u64 * size as u64));
        Matrix { rows, columns, stride, transposed, batch, alignment }
    }
}

/// Products over the axes of a batch (operands 0 and 1, output 2).
fn batched(
    exec: &Exec<'_>,
    dtype: DType,
    size: Size,
    a: &Operand<'_>,
    b: &Operand<'_>,
    out: u64,
    axes: &Axes,
    library: bool,
) -> Result<()> {
    let bytes = dtype.size() as isize;
    let Size { m, n, k, out_row } = size;
    let one = axes.size() == 1;
    if one && m <= FEW && n >= 64 && dtype != DType::C64 && dtype.is_float() && b.column != 1 {
        let vector = gemv_vector(dtype, size, a, b, m);
        if b.row == 1 && vector * dtype.size() == 16 {
            return gemv(exec, dtype, size, a, b, out, vector);
        }
    }
    let last = axes.rank() - 1;
    if library && axes.strides.iter().all(|s| s[last] >= 0) {
        // All but the last axis of the batch one after another.
        let outer: usize = axes.shape[..last].iter().product();
        let step = |o: usize| axes.strides[o][last];
        let mut done = true;
        for i in 0..outer {
            let mut rest = i;
            let mut at = [0isize; 3];
            for axis in (0..last).rev() {
                let c = (rest % axes.shape[axis]) as isize;
                rest /= axes.shape[axis];
                (0..3).for_each(|o| at[o] += c * axes.strides[o][axis]);
            }
            let ptr = |base: u64, o: usize| base.wrapping_add_signed((at[o] * bytes) as i64);
            let (pa, pb, po) = (ptr(a.view.ptr, 0), ptr(b.view.ptr, 1), ptr(out, 2));
            let out_bits = po | (step(2).unsigned_abs() as u64 * bytes as u64) | 256;
            let problem = Problem {
                dtype,
                a: a.matrix(m, k, step(0), pa),
                b: b.matrix(k, n, step(1), pb),
                m,
                n,
                batch: axes.shape[last],
                out_row: out_row as usize,
                out_batch: step(2),
                out_alignment: 1 << out_bits.trailing_zeros(),
            };
            let blas = exec.device().blas();
            done = match blas {
                Some(blas) => blas.matmul(exec.stream, problem, [po, pa, pb])?,
                None => false,
            };
            if !done {
                break;
            }
        }
        if done {
            return Ok(());
        }
    }
    tiled(exec, dtype, size, a, b, out, axes)
}

fn tiled(
    exec: &Exec<'_>,
    dtype: DType,
    Size { m, n, k, out_row }: Size,
    a: &Operand<'_>,
    b: &Operand<'_>,
    out: u64,
    axes: &Axes,
) -> Result<()> {
    const SIDE: usize = 64;
    let (down, across) = (m.div_ceil(SIDE), n.div_ceil(SIDE));
    if m.max(n).max(k) >= 1 << 31 || down * across * axes.size() >= 1 << 31 {
        return exec.unsupported("matrices of more than 2^31 rows, or tiles");
    }
    let walk =
        Axes { shape: axes.shape.clone(), strides: axes.strides[..2].iter().cloned().collect() };
    let mut args = Args::new();
    args.push(out).push(a.view.ptr).push(b.view.ptr);
    args.push(m as u32).push(n as u32).push(k as u32);
    args.push(across as u32).push((down * across) as u32);
    args.push(a.row as i64).push(a.column as i64).push(b.row as i64).push(b.column as i64);
    args.push(out_row as i64).push((m * n) as i64);
    push_walk(&mut args, &walk);
    let key = Key::Family(Family::Matmul, "tiled", defs![T = dtype, RANK = walk.rank()]);
    exec.launch(key, Grid::new(down * across * walk.size(), 256), &args)
}

/// Elements that rows of both operands can be read in together.
fn gemv_vector(dtype: DType, size: Size, a: &Operand<'_>, b: &Operand<'_>, m: usize) -> usize {
    let bytes = dtype.size();
    if size.k > 1 && a.column != 1 {
        return 0;
    }
    let row = |ptr, count, stride| crate::layout::Rows { ptr, count, len: size.k, stride };
    let x = row(a.view.ptr, m, a.row).vector(bytes, 16 / bytes);
    let w = row(b.view.ptr, size.n, b.column).vector(bytes, 16 / bytes);
    x.min(w)
}

/// Few rows times a matrix that is stored transposed.
fn gemv(
    exec: &Exec<'_>,
    dtype: DType,
    Size { m, n, k, out_row }: Size,
    a: &Operand<'_>,
    b: &Operand<'_>,
    out: u64,
    vector: usize,
) -> Result<()> {
    let mut defs = defs![T = dtype, ROWS = m];
    defs.push(("VEC", Value::from(vector)));
    let mut args = Args::new();
    args.push(out).push(a.view.ptr).push(b.view.ptr).push(n as u32).push(k as u32);
    args.push(a.row as i64).push(b.column as i64).push(out_row as i64);
    exec.launch(Key::Family(Family::Matmul, "gemv", defs), Grid::new(n.div_ceil(4), 128), &args)
}

/// The last two axes exchanged.
pub(crate) fn transposed(view: &View) -> View {
    let rank = view.shape.len();
    let mut out = view.clone();
    out.shape.swap(rank - 2, rank - 1);
    out.strides.swap(rank - 2, rank - 1);
    out
}

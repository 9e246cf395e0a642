//! Matrix products of every dtype.
//!
//! [`matmul`] merges batch axes into rows where the right operand is shared, picks the type that the
//! product is computed in (f32 for the half types; i32 or i64, wrapping, for integers; a real
//! product of twice the size for complex), and hands packers for both operands to [`driver`], which
//! blocks, packs and runs the micro-kernels of [`kernel`]. No operand is copied as a whole:
//! transposed, sliced and broadcast ones are packed as they lie.

pub(crate) mod driver;
pub(crate) mod grouped;
#[cfg(test)]
mod grouped_tests;
pub(crate) mod kernel;
mod output;
pub(crate) mod pack;
mod scratch;
#[cfg(test)]
mod tests;
#[cfg(target_arch = "x86_64")]
pub(crate) mod tile;
#[cfg(target_arch = "x86_64")]
pub(crate) mod turn;

use crate::strided::{Collapsed, collapse};
use driver::{Pack, Product, Store};
use kernel::Compute;
use lazul_ir::{DType, ErrorKind, Job, OpError};
pub(crate) use output::Output;
use pack::{Complex, Dense, Side};

/// `a (…, m, k) · b (…, k, n)`.
pub(crate) fn matmul(job: &Job<'_>) {
    let (a, b, out) = (&job.inputs[0], &job.inputs[1], &job.outputs[0]);
    let rank = a.shape.len();
    let (m, k, n) = (a.shape[rank - 2], a.shape[rank - 1], b.shape[rank - 1]);
    if out.size() == 0 {
        return;
    }
    let strides_of = |x: &lazul_ir::Operand<'_>| (x.strides[rank - 2], x.strides[rank - 1]);
    let ((a_row, a_k), (b_k, b_col)) = (strides_of(a), strides_of(b));
    let a_lead = [&a.strides[..rank - 2], &[a_row]].concat();
    let b_lead = [&b.strides[..rank - 2], &[0]].concat();
    let rows = Rows::merge(&a.shape[..rank - 1], &[&a_lead, &b_lead], m);

    let dtype = a.dtype;
    let left = Dense::new(a.ptr, dtype, &rows.batch, 0, rows.stride, a_k);
    let right = Dense::new(b.ptr, dtype, &rows.batch, 1, b_col, b_k);
    let shape = (rows.batch.shape.iter().product(), rows.count, n, k);
    let output = Output { ptr: out.ptr, dtype, m: rows.count, n, transposed: false };
    #[cfg(target_arch = "x86_64")]
    if let Some(scheme) = tile::Scheme::of(dtype, shape) {
        let (batch, m, n, k) = shape;
        let (a, b) = (&left, &right);
        match scheme {
            tile::Scheme::Bytes => {
                tile::TileProduct::<i32> { scheme, batch, m, n, k, a, b, c: &output }.run();
            }
            _ => tile::TileProduct::<f32> { scheme, batch, m, n, k, a, b, c: &output }.run(),
        }
        return;
    }
    match dtype {
        DType::F16 | DType::BF16 | DType::F32 => run::<f32>(shape, &left, &right, output),
        DType::F64 => run::<f64>(shape, &left, &right, output),
        DType::U64 | DType::I64 => run::<i64>(shape, &left, &right, output),
        DType::C64 => run_complex(shape, left, right, output),
        _ => run::<i32>(shape, &left, &right, output),
    }
}

/// The error of an index that names nothing.
fn index_error(op: &'static str, why: String) -> OpError {
    OpError::new(ErrorKind::Index, op, why)
}

/// The rows of the left operand, with as many batch axes merged into them as its layout and the
/// sharing of the right operand allow.
pub(crate) struct Rows {
    /// Rows of one product.
    pub(crate) count: usize,
    /// Distance between rows.
    pub(crate) stride: isize,
    /// What is left of the batch: operand 0 is the left one, others are as given.
    pub(crate) batch: Collapsed,
}

impl Rows {
    /// `shape` is the left operand's without its last axis. `strides[0]` are its strides, the others
    /// those of what lies on the right, with 0 in the place of the row axis.
    pub(crate) fn merge(shape: &[usize], strides: &[&[isize]], m: usize) -> Rows {
        let mut batch = collapse(shape, strides);
        let last = batch.shape.len() - 1;
        // With one row the last axis may be one along which the right operand differs.
        if batch.strides[1..].iter().any(|s| s[last] != 0) {
            debug_assert!(m == 1);
            return Rows { count: 1, stride: 0, batch };
        }
        let count = batch.shape.pop().unwrap_or(1);
        let stride = batch.strides[0][last];
        batch.strides.iter_mut().for_each(|s| s.truncate(last));
        Rows { count, stride, batch }
    }
}

/// Runs products with as many lanes as possible along the vectors of the kernels: those of the
/// longer of `m` and `n`, if the other fills no vector.
fn run<T: Compute>(
    (batch, m, n, k): (usize, usize, usize, usize),
    a: &dyn Pack<T>,
    b: &dyn Pack<T>,
    output: Output,
) where
    Output: Store<T>,
{
    if n < 16 && m > n {
        let c = Output { transposed: true, ..output };
        Product { batch, m: n, n: m, k, a: b, b: a, c: &c }.run();
    } else {
        Product { batch, m, n, k, a, b, c: &output }.run();
    }
}

fn run_complex((batch, m, n, k): (usize, usize, usize, usize), a: Dense, b: Dense, output: Output) {
    // The two orders sum the imaginary part differently, so the choice must not depend on `m`.
    let swap = n < 16;
    let (left, right) = if swap { (b, a) } else { (a, b) };
    let (rows, cols) = if swap { (n, m) } else { (m, n) };
    Product::<f32> {
        batch,
        m: 2 * rows,
        n: cols,
        k: 2 * k,
        a: &Complex { dense: left, side: Side::Left },
        b: &Complex { dense: right, side: Side::Right },
        c: &Output { transposed: swap, ..output },
    }
    .run();
}

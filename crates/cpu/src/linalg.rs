//! Linear algebra, matrix by matrix over a batch.
//!
//! A matrix of any layout is brought into column-major f64 (or complex f64), computed there, and
//! rounded back once: results in single precision are right to their last bit or nearly so. Singular
//! values and eigenvalues are `faer`'s; the LU and QR factorizations are written here on its products,
//! since its own divide by zero pivots and drop what looks like rounding. Matrices of a batch run in
//! parallel, each on one thread, so threads change no bit. What is wrong with a matrix is an error that
//! says which one it was.

mod eigen;
mod field;
mod lu;
mod matrix;
mod qr;
mod svd;
#[cfg(test)]
mod tests;

use crate::pool::parallel_ranges;
use crate::strided::offset_of;
use faer::Par;
use faer::dyn_stack::{MemBuffer, MemStack};
use faer::linalg::cholesky::llt::factor;
use faer::linalg::triangular_solve as triangular;
use field::Field;
use lazul_ir::{DType, ErrorKind, Job, LinalgOp, OpError, Operand, Shape, Target, Vectors};
use matrix::Matrix;
use num_complex::Complex64;
use std::sync::{Mutex, PoisonError};

/// Multiplications that make a task worth its while.
const TASK: usize = 1 << 15;

/// What can be wrong with a matrix.
#[derive(Debug)]
enum Trouble {
    NotFinite,
    /// Index of the pivot that is zero.
    Singular(usize),
    NotPositive,
    NoConvergence,
    Memory,
}

/// Runs one of the operations.
pub(crate) fn linalg(op: LinalgOp, job: &Job<'_>) -> Result<(), OpError> {
    match job.inputs[0].dtype {
        DType::C64 => batch::<Complex64>(op, job),
        _ => batch::<f64>(op, job),
    }
}

fn batch<T: Field>(op: LinalgOp, job: &Job<'_>) -> Result<(), OpError> {
    let a = &job.inputs[0];
    let (lead, tail) = a.shape.split_at(a.shape.len() - 2);
    let count: usize = lead.iter().product();
    let cost = tail[0] * tail[1] * tail[0].min(tail[1]).max(1);
    let first: Mutex<Option<(usize, Trouble)>> = Mutex::new(None);
    parallel_ranges(count, TASK / cost.max(1), |start, end| {
        for i in start..end {
            if let Err(trouble) = one::<T>(op, job, i) {
                let mut first = first.lock().unwrap_or_else(PoisonError::into_inner);
                if first.as_ref().is_none_or(|(at, _)| i < *at) {
                    *first = Some((i, trouble));
                }
            }
        }
    });
    let first = first.into_inner().unwrap_or_else(PoisonError::into_inner);
    first.map_or(Ok(()), |(i, trouble)| Err(describe(op, lead, i, trouble)))
}

/// The error about matrix `i`.
fn describe(op: LinalgOp, lead: &[usize], i: usize, trouble: Trouble) -> OpError {
    let matrix = if lead.is_empty() {
        "the matrix".to_string()
    } else {
        let mut rest = i;
        let mut index: Vec<usize> = lead.iter().rev().map(|&d| (rest % d, rest /= d).0).collect();
        index.reverse();
        format!("the matrix at {}", Shape::new(&index))
    };
    let (kind, what) = match trouble {
        Trouble::NotFinite => (ErrorKind::Value, "has an entry that is NaN or infinite".into()),
        Trouble::Singular(pivot) => {
            (ErrorKind::Value, format!("is singular: pivot {pivot} is zero"))
        }
        Trouble::NotPositive => (ErrorKind::Value, "is not positive definite".into()),
        Trouble::NoConvergence => {
            (ErrorKind::Value, "has a decomposition that did not converge".into())
        }
        Trouble::Memory => (ErrorKind::OutOfMemory, "leaves no memory to work in".into()),
    };
    OpError::new(kind, op.name(), format!("{matrix} {what}"))
}

/// Which entries of a matrix count.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    All,
    Lower,
    Upper,
    StrictLower,
    StrictUpper,
}

impl Part {
    fn has(self, i: usize, j: usize) -> bool {
        match self {
            Part::All => true,
            Part::Lower => i >= j,
            Part::Upper => i <= j,
            Part::StrictLower => i > j,
            Part::StrictUpper => i < j,
        }
    }

    fn triangle(upper: bool, unit: bool) -> Part {
        match (upper, unit) {
            (false, false) => Part::Lower,
            (true, false) => Part::Upper,
            (false, true) => Part::StrictLower,
            (true, true) => Part::StrictUpper,
        }
    }
}

/// Matrix `index` of an operand; entries that do not count are zero.
fn load<T: Field>(operand: &Operand<'_>, index: usize, part: Part) -> Result<Matrix<T>, Trouble> {
    let lead = operand.shape.len() - 2;
    let (rows, columns) = (operand.shape[lead], operand.shape[lead + 1]);
    let (down, right) = (operand.strides[lead], operand.strides[lead + 1]);
    let mut out = Matrix::zeros(rows, columns)?;
    let base = offset_of(index, &operand.shape[..lead], &operand.strides[..lead]);
    let size = operand.dtype.size() as isize;
    for j in 0..columns {
        for (i, to) in out.column_mut(j).iter_mut().enumerate() {
            if part.has(i, j) {
                let at = (base + i as isize * down + j as isize * right) * size;
                // SAFETY: the operand has matrix `index` and its entry `(i, j)`.
                *to = unsafe { T::read(operand.ptr.offset(at), operand.dtype) };
            }
        }
    }
    Ok(out)
}

/// As [`load`], all entries that count being finite.
fn load_finite<T: Field>(
    operand: &Operand<'_>,
    index: usize,
    part: Part,
) -> Result<Matrix<T>, Trouble> {
    let out = load::<T>(operand, index, part)?;
    if out.values.iter().all(|x| x.finite()) { Ok(out) } else { Err(Trouble::NotFinite) }
}

/// The lower triangle of a Hermitian matrix, of which the lower or the upper one is read.
fn load_hermitian<T: Field>(
    operand: &Operand<'_>,
    index: usize,
    upper: bool,
) -> Result<Matrix<T>, Trouble> {
    let mut a = load_finite::<T>(operand, index, Part::triangle(upper, false))?;
    if upper {
        a = a.adjoint()?;
    }
    for i in 0..a.rows {
        let diagonal = &mut a.column_mut(i)[i];
        *diagonal = T::from_real(diagonal.real_part());
    }
    Ok(a)
}

/// Writes matrix `index` of a target.
fn store<T: Field>(target: &Target<'_>, index: usize, entry: impl Fn(usize, usize) -> T) {
    let lead = target.shape.len() - 2;
    let (rows, columns) = (target.shape[lead], target.shape[lead + 1]);
    for i in 0..rows {
        for j in 0..columns {
            let at = (index * rows + i) * columns + j;
            // SAFETY: the target has matrix `index` and its entry `(i, j)`, this task's alone.
            unsafe { entry(i, j).write(target.ptr.add(at * target.dtype.size()), target.dtype) };
        }
    }
}

/// Writes vector `index` of a target of floating-point or complex numbers.
fn store_vector<T: Field>(target: &Target<'_>, index: usize, values: &[T]) {
    for (i, value) in values.iter().enumerate() {
        let at = (index * values.len() + i) * target.dtype.size();
        // SAFETY: the target has vector `index` of this length, this task's alone.
        unsafe { value.write(target.ptr.add(at), target.dtype) };
    }
}

/// Writes vector `index` of a target of u32.
fn store_indices(target: &Target<'_>, index: usize, values: &[usize]) {
    for (i, &value) in values.iter().enumerate() {
        let at = index * values.len() + i;
        // SAFETY: the target has vector `index` of this length, this task's alone.
        unsafe { target.ptr.cast::<u32>().add(at).write(value as u32) };
    }
}

/// Memory that an algorithm of `faer` asks for.
fn scratch(size: faer::dyn_stack::StackReq) -> Result<MemBuffer, Trouble> {
    MemBuffer::try_new(size).map_err(|_| Trouble::Memory)
}

/// Runs an operation on matrix `i` of the batch.
fn one<T: Field>(op: LinalgOp, job: &Job<'_>, i: usize) -> Result<(), Trouble> {
    let (a, out) = (&job.inputs[0], job.outputs);
    match op {
        LinalgOp::Lu => {
            let mut a = load_finite::<T>(a, i, Part::All)?;
            let pivots = lu::factor(&mut a);
            store(&out[0], i, |r, c| a.at(r, c));
            store_indices(&out[1], i, &pivots);
            store_indices(&out[2], i, &lu::order(&pivots, a.rows));
        }
        LinalgOp::Det => {
            let det = lu::determinant(&mut load_finite::<T>(a, i, Part::All)?);
            store_vector(&out[0], i, &[det]);
        }
        LinalgOp::Qr { full } => {
            let mut a = load_finite::<T>(a, i, Part::All)?;
            let (rows, k) = (a.rows, a.rows.min(a.columns));
            let unit = a.normalise();
            let qr = qr::factor(a)?;
            let q = qr.q(if full { rows } else { k })?;
            store(&out[0], i, |r, c| q.at(r, c));
            store(&out[1], i, |r, c| qr.r(r, c) * T::from_real(unit));
        }
        LinalgOp::Svd(vectors) => {
            let svd = svd::svd(load_finite::<T>(a, i, Part::All)?, vectors)?;
            if vectors == Vectors::No {
                store_vector(&out[0], i, &svd.s);
            } else {
                store(&out[0], i, |r, c| svd.u.at(r, c));
                store_vector(&out[1], i, &svd.s);
                store(&out[2], i, |r, c| svd.v.at(c, r).conjugate());
            }
        }
        LinalgOp::PseudoInverse => {
            let precision = match a.dtype {
                DType::F64 => f64::EPSILON,
                _ => f32::EPSILON as f64,
            };
            let p = svd::pseudo_inverse(load_finite::<T>(a, i, Part::All)?, precision)?;
            store(&out[0], i, |r, c| p.at(r, c));
        }
        LinalgOp::Eigh { upper, vectors } => {
            let a = load_hermitian::<T>(a, i, upper)?;
            let (w, v) = eigen::hermitian(a, vectors)?;
            store_vector(&out[0], i, &w);
            if let Some(v) = v {
                store(&out[1], i, |r, c| v.at(r, c));
            }
        }
        LinalgOp::Eig { vectors } => {
            let (w, v) = eigen::general(load_finite::<T>(a, i, Part::All)?, vectors)?;
            store_vector(&out[0], i, &w);
            if let Some(v) = v {
                store(&out[1], i, |r, c| v.at(r, c));
            }
        }
        LinalgOp::Cholesky { upper } => {
            let mut a = load_hermitian::<T>(a, i, upper)?;
            let n = a.rows;
            let mut memory =
                scratch(factor::cholesky_in_place_scratch::<T>(n, Par::Seq, Default::default()))?;
            let stack = MemStack::new(&mut memory);
            let (regular, params) = (Default::default(), Default::default());
            factor::cholesky_in_place(a.view_mut(), regular, Par::Seq, stack, params)
                .map_err(|_| Trouble::NotPositive)?;
            let zero = T::from_real(0.0);
            if upper {
                store(&out[0], i, |r, c| if r <= c { a.at(c, r).conjugate() } else { zero });
            } else {
                store(&out[0], i, |r, c| if r >= c { a.at(r, c) } else { zero });
            }
        }
        LinalgOp::SolveTriangular { upper, unit } => {
            let a = load_finite::<T>(a, i, Part::triangle(upper, unit))?;
            let mut b = load::<T>(&job.inputs[1], i, Part::All)?;
            if let (false, Some(pivot)) = (unit, a.zero_on_diagonal()) {
                return Err(Trouble::Singular(pivot));
            }
            let (a, x) = (a.view(), b.view_mut());
            match (upper, unit) {
                (false, false) => triangular::solve_lower_triangular_in_place(a, x, Par::Seq),
                (true, false) => triangular::solve_upper_triangular_in_place(a, x, Par::Seq),
                (false, true) => triangular::solve_unit_lower_triangular_in_place(a, x, Par::Seq),
                (true, true) => triangular::solve_unit_upper_triangular_in_place(a, x, Par::Seq),
            }
            store(&out[0], i, |r, c| b.at(r, c));
        }
        LinalgOp::Solve => {
            let mut a = load_finite::<T>(a, i, Part::All)?;
            let mut b = load::<T>(&job.inputs[1], i, Part::All)?;
            lu::solve(&mut a, &mut b)?;
            store(&out[0], i, |r, c| b.at(r, c));
        }
        LinalgOp::Inverse => {
            let mut a = load_finite::<T>(a, i, Part::All)?;
            let mut b = Matrix::identity(a.rows, a.rows)?;
            lu::solve(&mut a, &mut b)?;
            store(&out[0], i, |r, c| b.at(r, c));
        }
    }
    Ok(())
}

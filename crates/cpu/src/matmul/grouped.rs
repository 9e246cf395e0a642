//! Products of matrices that indices pick from batches, and of parts of matrices.
//!
//! No picked matrix is copied. Products with one and the same right operand become one tall product:
//! its rows are those of the left operands ([`Picked`]), and go to where the products belong
//! ([`Placed`]); a mixture of experts thus reads each expert once, in whatever order its tokens come.
//! Sums of outer products ([`outer`]) are one product a group, whose inner axis runs through the
//! operands one after another ([`Stacked`]). Since an element's bits depend on its row and column
//! alone (see [`super::driver`]), grouping changes no result of a gather.

use super::driver::{Fused, Pack, Product, Store, with_scratch};
use super::kernel::Compute;
use super::pack::{Complex, Dense, Side};
use super::{Output, index_error};
use crate::pool;
use crate::rows::read_int;
use crate::strided::{collapse, offset_of};
use lazul_ir::{DType, Job, OpError, Operand};
use std::ops::Range;

/// Products by the right operand that they share.
pub(crate) struct Picks {
    /// The products' numbers, those of a group next to one another and in ascending order.
    order: Vec<usize>,
    /// The left operand of each, in the order of `order`.
    left: Vec<usize>,
    /// A right operand and its products' places in `order`.
    groups: Vec<(usize, Range<usize>)>,
}

impl Picks {
    /// Reads and checks indices into `lefts` and `rights` matrices.
    pub(crate) fn new(
        op: &'static str,
        lhs: &Operand<'_>,
        rhs: &Operand<'_>,
        lefts: usize,
        rights: usize,
    ) -> Result<Picks, OpError> {
        let left = indices(op, "left", lhs, lefts)?;
        let right = indices(op, "right", rhs, rights)?;
        let order = order_of(&right);
        let mut groups: Vec<(usize, Range<usize>)> = Vec::new();
        for (place, &i) in order.iter().enumerate() {
            match groups.last_mut() {
                Some((matrix, range)) if *matrix == right[i] => range.end = place + 1,
                _ => groups.push((right[i], place..place + 1)),
            }
        }
        let left = order.iter().map(|&i| left[i]).collect();
        Ok(Picks { order, left, groups })
    }

    /// Each right operand, with its products: their left operands and their numbers.
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn groups(
        &self,
    ) -> impl Iterator<Item = (usize, impl Iterator<Item = (usize, usize)>)> {
        self.groups.iter().map(|(matrix, range)| {
            let range = range.clone();
            (*matrix, range.map(|place| (self.left[place], self.order[place])))
        })
    }
}

/// Numbers in the order of their keys; equal keys in that of the numbers.
fn order_of(keys: &[usize]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..keys.len()).collect();
    order.sort_by_key(|&i| keys[i]);
    order
}

/// The indices of an operand, which name one of `count` matrices each.
fn indices(
    op: &'static str,
    side: &str,
    x: &Operand<'_>,
    count: usize,
) -> Result<Vec<usize>, OpError> {
    let read = |i| {
        let at = offset_of(i, x.shape, x.strides) * x.dtype.size() as isize;
        // SAFETY: an element of the operand.
        let index = unsafe { read_int(x.ptr.offset(at), x.dtype) };
        let from_start = if index < 0 { index.wrapping_add(count as i64) } else { index };
        if (from_start as u64) < count as u64 {
            return Ok(from_start as usize);
        }
        let why = format!("index {index} is out of bounds for {count} {side} matrices");
        Err(index_error(op, why))
    };
    (0..x.size()).map(read).collect()
}

/// The matrices of a batch, rows as lanes.
pub(crate) fn matrices(x: &Operand<'_>) -> Dense {
    let rank = x.shape.len();
    dense(x, x.strides[rank - 2], x.strides[rank - 1])
}

/// The matrices of a batch, columns as lanes.
fn columns(x: &Operand<'_>) -> Dense {
    let rank = x.shape.len();
    dense(x, x.strides[rank - 1], x.strides[rank - 2])
}

fn dense(x: &Operand<'_>, lane: isize, k: isize) -> Dense {
    let rank = x.shape.len();
    let batch = collapse(&x.shape[..rank - 2], &[&x.strides[..rank - 2]]);
    Dense::new(x.ptr, x.dtype, &batch, 0, lane, k)
}

/// Number of matrices of an operand.
fn count(x: &Operand<'_>) -> usize {
    x.shape[..x.shape.len() - 2].iter().product()
}

/// Calls `$f::<T>(dims, left, right, …)` with the type that products of a dtype are computed in; a
/// complex product is a real one of twice the rows and twice the inner length.
macro_rules! compute {
    ($dtype:expr, $f:ident, $m:expr, $n:expr, $k:expr, $left:expr, $right:expr $(, $arg:expr)*) => {
        match $dtype {
            DType::F16 | DType::BF16 | DType::F32 => {
                $f::<f32>(($m, $n, $k), &$left, &$right $(, $arg)*)
            }
            DType::F64 => $f::<f64>(($m, $n, $k), &$left, &$right $(, $arg)*),
            DType::U64 | DType::I64 => $f::<i64>(($m, $n, $k), &$left, &$right $(, $arg)*),
            DType::C64 => {
                let left = Complex { dense: $left, side: Side::Left };
                let right = Complex { dense: $right, side: Side::Right };
                $f::<f32>((2 * $m, $n, 2 * $k), &left, &right $(, $arg)*)
            }
            _ => $f::<i32>(($m, $n, $k), &$left, &$right $(, $arg)*),
        }
    };
}

/// `a (…, m, k), b (…, k, n), lhs (I), rhs (I)` → `(I…, m, n)`.
pub(crate) fn gather(job: &Job<'_>) -> Result<(), OpError> {
    let [a, b, lhs, rhs] = job.inputs else { unreachable!("four operands") };
    let picks = Picks::new(job.name(), lhs, rhs, count(a), count(b))?;
    let out = &job.outputs[0];
    if out.size() == 0 {
        return Ok(());
    }
    let (m, k) = (a.shape[a.shape.len() - 2], a.shape[a.shape.len() - 1]);
    let n = b.shape[b.shape.len() - 1];
    let c = Output { ptr: out.ptr, dtype: out.dtype, m, n, transposed: false };
    compute!(a.dtype, products, m, n, k, matrices(a), columns(b), &picks, &c);
    Ok(())
}

/// Computes picked products `(m, k) · (k, n)`.
pub(crate) fn products<T: Compute>(
    (m, n, k): (usize, usize, usize),
    left: &dyn Pack<T>,
    right: &dyn Pack<T>,
    picks: &Picks,
    out: &Output,
) where
    Output: Store<T>,
{
    let sizes: Vec<usize> = picks.groups.iter().map(|(_, range)| range.len()).collect();
    each(&sizes, m.saturating_mul(n).saturating_mul(k), |group| {
        let (matrix, range) = &picks.groups[group];
        let order = &picks.order[range.clone()];
        let neighbours = order.windows(2).all(|pair| pair[1] == pair[0] + 1);
        Product {
            batch: 1,
            m: order.len() * m,
            n,
            k,
            a: &Picked { of: left, matrix: &picks.left[range.clone()], rows: m },
            b: &Fixed { of: right, matrix: *matrix },
            c: &Placed { out, products: order, rows: m, neighbours },
        }
        .run();
    });
}

/// Calls `f` for each of several pieces of work, of `sizes` times `unit` multiply-adds: at once where
/// there are enough of about one size, else one after another, each by all threads.
fn each(sizes: &[usize], unit: usize, f: impl Fn(usize) + Sync) {
    let threads = pool::threads();
    let total: usize = sizes.iter().sum();
    let largest = sizes.iter().max().copied().unwrap_or(0);
    let even = sizes.len() >= 4 * threads && largest.saturating_mul(2 * threads) <= total;
    if even && total.saturating_mul(unit) > 1 << 16 {
        pool::parallel(sizes.len(), f);
    } else {
        (0..sizes.len()).for_each(f);
    }
}

/// Rows of several matrices of a batch, one matrix after another.
struct Picked<'a, T> {
    of: &'a dyn Pack<T>,
    matrix: &'a [usize],
    /// Rows of a matrix.
    rows: usize,
}

impl<T: Compute> Pack<T> for Picked<'_, T> {
    fn pack(
        &self,
        _batch: usize,
        lanes: Range<usize>,
        ks: Range<usize>,
        width: usize,
        dst: &mut [T],
    ) {
        let place = |lane: usize| (self.matrix[lane / self.rows], lane % self.rows);
        let (matrix, row) = place(lanes.start);
        if row + lanes.len() <= self.rows {
            return self.of.pack(matrix, row..row + lanes.len(), ks, width, dst);
        }
        let k = ks.len();
        with_scratch::<T, _>(k, |line| {
            for first in (0..lanes.len().next_multiple_of(width)).step_by(width) {
                let panel = &mut dst[first * k..][..width * k];
                for j in 0..width {
                    if first + j >= lanes.len() {
                        panel.chunks_exact_mut(width).for_each(|row| row[j] = T::default());
                        continue;
                    }
                    let (matrix, row) = place(lanes.start + first + j);
                    self.of.pack(matrix, row..row + 1, ks.clone(), 1, line);
                    for (row, &x) in panel.chunks_exact_mut(width).zip(&*line) {
                        row[j] = x;
                    }
                }
            }
        });
    }

    fn runs_along_k(&self) -> bool {
        self.of.runs_along_k()
    }
}

/// One matrix of a batch.
struct Fixed<'a, T> {
    of: &'a dyn Pack<T>,
    matrix: usize,
}

impl<T: Compute> Pack<T> for Fixed<'_, T> {
    fn pack(
        &self,
        _batch: usize,
        lanes: Range<usize>,
        ks: Range<usize>,
        width: usize,
        dst: &mut [T],
    ) {
        self.of.pack(self.matrix, lanes, ks, width, dst);
    }

    fn runs_along_k(&self) -> bool {
        self.of.runs_along_k()
    }

    fn fused(&self, rows: usize) -> Fused {
        self.of.fused(rows)
    }

    unsafe fn multiply(
        &self,
        _batch: usize,
        lanes: Range<usize>,
        ks: Range<usize>,
        width: usize,
        rows: usize,
        a: *const T,
        c: *mut T,
        ldc: usize,
        add: bool,
    ) {
        // SAFETY: the caller's contract is that of the packer.
        unsafe { self.of.multiply(self.matrix, lanes, ks, width, rows, a, c, ldc, add) }
    }
}

/// The places of several products of a batch, taken for one tall product.
struct Placed<'a> {
    out: &'a Output,
    products: &'a [usize],
    /// Rows of a product.
    rows: usize,
    /// Whether the products lie one after another.
    neighbours: bool,
}

impl<T: Compute> Store<T> for Placed<'_>
where
    Output: Store<T>,
{
    fn direct(&self, _batch: usize) -> Option<(*mut T, usize)> {
        if self.neighbours { self.out.direct(self.products[0]) } else { None }
    }

    fn store(
        &self,
        _batch: usize,
        row: usize,
        col: usize,
        rows: usize,
        cols: usize,
        tile: &[T],
        ld: usize,
    ) {
        let mut done = 0;
        while done < rows {
            let (product, first) = ((row + done) / self.rows, (row + done) % self.rows);
            let count = (self.rows - first).min(rows - done);
            let tile = &tile[done * ld..];
            self.out.store(self.products[product], first, col, count, cols, tile, ld);
            done += count;
        }
    }
}

/// `a (…, m, k), b (…, m, n), lhs (I), rhs (I), to (I)` → `(e, k, n)`.
pub(crate) fn outer(job: &Job<'_>) -> Result<(), OpError> {
    let [a, b, lhs, rhs, to] = job.inputs else { unreachable!("five operands") };
    let out = &job.outputs[0];
    let op = job.name();
    let left = indices(op, "left", lhs, count(a))?;
    let right = indices(op, "right", rhs, count(b))?;
    let to = indices(op, "resulting", to, out.shape[0])?;
    if out.size() == 0 {
        return Ok(());
    }
    let order = order_of(&to);
    let pick = |of: &[usize]| order.iter().map(|&i| of[i]).collect::<Vec<_>>();
    let sums = Sums { left: pick(&left), right: pick(&right), to: pick(&to), out: out.shape[0] };
    let m = a.shape[a.shape.len() - 2];
    let (k, n) = (out.shape[1], out.shape[2]);
    let c = Output { ptr: out.ptr, dtype: out.dtype, m: k, n, transposed: false };
    // Lanes of the left operand are its columns, and the inner axis is that of rows.
    compute!(a.dtype, outer_as, k, n, m, columns(a), columns(b), &sums, &c);
    Ok(())
}

/// Terms of sums, in the order of the sums.
struct Sums {
    left: Vec<usize>,
    right: Vec<usize>,
    to: Vec<usize>,
    /// Number of sums.
    out: usize,
}

fn outer_as<T: Compute>(
    (m, n, k): (usize, usize, usize),
    left: &dyn Pack<T>,
    right: &dyn Pack<T>,
    sums: &Sums,
    out: &Output,
) where
    Output: Store<T>,
{
    let start = |i| sums.to.partition_point(|&t| t < i);
    let sizes: Vec<usize> = (0..sums.out).map(|i| start(i + 1) - start(i)).collect();
    each(&sizes, m.saturating_mul(n).saturating_mul(k), |sum| {
        let terms = start(sum)..start(sum + 1);
        Product {
            batch: 1,
            m,
            n,
            k: terms.len() * k,
            a: &Stacked { of: left, matrix: &sums.left[terms.clone()], k },
            b: &Stacked { of: right, matrix: &sums.right[terms.clone()], k },
            c: &Placed { out, products: &[sum], rows: m, neighbours: true },
        }
        .run();
    });
}

/// Several matrices of a batch, one after another along the inner axis.
struct Stacked<'a, T> {
    of: &'a dyn Pack<T>,
    matrix: &'a [usize],
    /// Inner length of a matrix.
    k: usize,
}

impl<T: Compute> Pack<T> for Stacked<'_, T> {
    fn pack(
        &self,
        _batch: usize,
        lanes: Range<usize>,
        ks: Range<usize>,
        width: usize,
        dst: &mut [T],
    ) {
        let wide = lanes.len().next_multiple_of(width);
        with_scratch::<T, _>(wide * self.k.min(ks.len()), |part| {
            let mut at = ks.start;
            while at < ks.end {
                let (matrix, first) = (self.matrix[at / self.k], at % self.k);
                let count = (self.k - first).min(ks.end - at);
                let part = &mut part[..wide * count];
                self.of.pack(matrix, lanes.clone(), first..first + count, width, part);
                for (i, panel) in part.chunks_exact(width * count).enumerate() {
                    let row = i * ks.len() + at - ks.start;
                    dst[row * width..][..width * count].copy_from_slice(panel);
                }
                at += count;
            }
        });
    }

    fn runs_along_k(&self) -> bool {
        self.of.runs_along_k()
    }
}

/// `a (m, k), b (k, n), segments (S…, 2)` → `(S…, m, n)`.
pub(crate) fn segments(job: &Job<'_>) -> Result<(), OpError> {
    let [a, b, segments] = job.inputs else { unreachable!("three operands") };
    let (m, k, n) = (a.shape[0], a.shape[1], b.shape[1]);
    let read = |i| {
        let at = offset_of(i, segments.shape, segments.strides) * segments.dtype.size() as isize;
        // SAFETY: an element of the operand.
        unsafe { read_int(segments.ptr.offset(at), segments.dtype) }
    };
    let pair = |i| {
        let (start, end) = (read(2 * i), read(2 * i + 1));
        if 0 <= start && start <= end && end as u64 <= k as u64 {
            return Ok(start as usize..end as usize);
        }
        let why = format!("the segment {start}..{end} does not lie inside 0..{k}");
        Err(index_error(job.name(), why))
    };
    let ranges = (0..segments.size() / 2).map(pair).collect::<Result<Vec<_>, _>>()?;
    let out = &job.outputs[0];
    if out.size() == 0 {
        return Ok(());
    }
    let c = Output { ptr: out.ptr, dtype: out.dtype, m, n, transposed: false };
    compute!(a.dtype, segments_as, m, n, 1, matrices(a), columns(b), &ranges, &c);
    Ok(())
}

fn segments_as<T: Compute>(
    (m, n, unit): (usize, usize, usize),
    left: &dyn Pack<T>,
    right: &dyn Pack<T>,
    ranges: &[Range<usize>],
    out: &Output,
) where
    Output: Store<T>,
{
    let sizes: Vec<usize> = ranges.iter().map(ExactSizeIterator::len).collect();
    each(&sizes, m.saturating_mul(n).saturating_mul(unit), |i| {
        let start = ranges[i].start * unit;
        Product {
            batch: 1,
            m,
            n,
            k: ranges[i].len() * unit,
            a: &From { of: left, start },
            b: &From { of: right, start },
            c: &Placed { out, products: &[i], rows: m, neighbours: true },
        }
        .run();
    });
}

/// A matrix from a position of the inner axis on.
struct From<'a, T> {
    of: &'a dyn Pack<T>,
    start: usize,
}

impl<T: Compute> Pack<T> for From<'_, T> {
    fn pack(
        &self,
        batch: usize,
        lanes: Range<usize>,
        ks: Range<usize>,
        width: usize,
        dst: &mut [T],
    ) {
        self.of.pack(batch, lanes, ks.start + self.start..ks.end + self.start, width, dst);
    }

    fn runs_along_k(&self) -> bool {
        self.of.runs_along_k()
    }

    fn fused(&self, rows: usize) -> Fused {
        self.of.fused(rows)
    }

    unsafe fn multiply(
        &self,
        batch: usize,
        lanes: Range<usize>,
        ks: Range<usize>,
        width: usize,
        rows: usize,
        a: *const T,
        c: *mut T,
        ldc: usize,
        add: bool,
    ) {
        let ks = ks.start + self.start..ks.end + self.start;
        // SAFETY: the caller's contract is that of the packer.
        unsafe { self.of.multiply(batch, lanes, ks, width, rows, a, c, ldc, add) }
    }
}

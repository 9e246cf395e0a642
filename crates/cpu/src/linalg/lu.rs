//! Elimination with partial pivoting, by halves: most of the work is in matrix products.

use super::Trouble;
use super::field::{Field, subtract};
use super::matrix::Matrix;
use faer::linalg::matmul::matmul;
use faer::linalg::triangular_solve as triangular;
use faer::reborrow::*;
use faer::{Accum, MatMut, Par};

/// Columns that are eliminated one by one.
const NARROW: usize = 16;

/// Replaces `a` by its factors; gives for each step the row (at or below it) that was swapped with its
/// own. A column without a pivot stays as it is: zero from the diagonal down.
pub(super) fn factor<T: Field>(a: &mut Matrix<T>) -> Vec<usize> {
    let k = a.rows.min(a.columns);
    let mut pivots = vec![0; k];
    let (mut left, mut right) = a.view_mut().split_at_col_mut(k);
    eliminate(left.rb_mut(), &mut pivots);
    if right.ncols() > 0 {
        swap_rows(right.rb_mut(), &pivots);
        triangular::solve_unit_lower_triangular_in_place(left.rb(), right, Par::Seq);
    }
    pivots
}

/// The rows of the original matrix in the order in which the factors have them.
pub(super) fn order(pivots: &[usize], rows: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..rows).collect();
    pivots.iter().enumerate().for_each(|(i, &p)| order.swap(i, p));
    order
}

/// The determinant of `a`, which is replaced by its factors.
pub(super) fn determinant<T: Field>(a: &mut Matrix<T>) -> T {
    let pivots = factor(a);
    let odd = pivots.iter().enumerate().filter(|&(i, &p)| i != p).count() % 2 == 1;
    let one = T::from_real(if odd { -1.0 } else { 1.0 });
    (0..a.rows).fold(one, |product, i| product * a.at(i, i))
}

/// Replaces `b` by the solution of `a·x = b`, and `a` by its factors.
pub(super) fn solve<T: Field>(a: &mut Matrix<T>, b: &mut Matrix<T>) -> Result<(), Trouble> {
    let pivots = factor(a);
    if let Some(pivot) = a.zero_on_diagonal() {
        return Err(Trouble::Singular(pivot));
    }
    forward(a, &pivots, b);
    triangular::solve_upper_triangular_in_place(a.view(), b.view_mut(), Par::Seq);
    Ok(())
}

/// Replaces `b` by the solution of a system with the lower factor.
pub(super) fn forward<T: Field>(factors: &Matrix<T>, pivots: &[usize], b: &mut Matrix<T>) {
    swap_rows(b.view_mut(), pivots);
    triangular::solve_unit_lower_triangular_in_place(factors.view(), b.view_mut(), Par::Seq);
}

/// A column of a matrix that is stored column after column.
fn column<'a, T: Field>(a: MatMut<'a, T>, j: usize) -> &'a mut [T] {
    a.col_mut(j).try_as_col_major_mut().expect("columns are contiguous").as_slice_mut()
}

fn swap_rows<T: Field>(mut a: MatMut<'_, T>, pivots: &[usize]) {
    for j in 0..a.ncols() {
        let column = column(a.rb_mut(), j);
        pivots.iter().enumerate().for_each(|(i, &p)| column.swap(i, p));
    }
}

/// Factors a matrix that has at least as many rows as columns.
fn eliminate<T: Field>(mut a: MatMut<'_, T>, pivots: &mut [usize]) {
    let n = a.ncols();
    if n <= NARROW {
        return narrow(a, pivots);
    }
    let half = n / 2;
    let (mut left, mut right) = a.rb_mut().split_at_col_mut(half);
    eliminate(left.rb_mut(), &mut pivots[..half]);
    swap_rows(right.rb_mut(), &pivots[..half]);
    let (l_top, mut l_bottom) = left.split_at_row_mut(half);
    let (mut r_top, mut r_bottom) = right.split_at_row_mut(half);
    triangular::solve_unit_lower_triangular_in_place(l_top.rb(), r_top.rb_mut(), Par::Seq);
    let minus = T::from_real(-1.0);
    matmul(r_bottom.rb_mut(), Accum::Add, l_bottom.rb(), r_top.rb(), minus, Par::Seq);
    eliminate(r_bottom, &mut pivots[half..]);
    swap_rows(l_bottom.rb_mut(), &pivots[half..]);
    pivots[half..].iter_mut().for_each(|p| *p += half);
}

/// The same, one column after the other.
fn narrow<T: Field>(mut a: MatMut<'_, T>, pivots: &mut [usize]) {
    for j in 0..a.ncols() {
        let mut best = (j, 0.0);
        for (i, x) in column(a.rb_mut(), j).iter().enumerate().skip(j) {
            let size = x.real_part().abs() + x.imaginary_part().abs();
            if size > best.1 {
                best = (i, size);
            }
        }
        pivots[j] = best.0;
        if best.1 == 0.0 {
            continue;
        }
        if best.0 != j {
            for c in 0..a.ncols() {
                column(a.rb_mut(), c).swap(j, best.0);
            }
        }
        let (left, mut right) = a.rb_mut().split_at_col_mut(j + 1);
        let pivot_column = column(left, j);
        let pivot = pivot_column[j];
        pivot_column[j + 1..].iter_mut().for_each(|x| *x /= pivot);
        for c in 0..right.ncols() {
            let other = column(right.rb_mut(), c);
            let factor = other[j];
            subtract(&mut other[j + 1..], factor, &pivot_column[j + 1..]);
        }
    }
}

//! Einstein summation: products of arrays whose axes are named by letters, summed over the letters that
//! the result does not have.
//!
//! ```text
//! "bqd,bkd->bqk" ──words──▶ labels ──path──▶ pairs ──contract──▶ matrix products
//! ```
//!
//! Operands are taken in pairs, in the order that costs the fewest multiplications ([`einsum_path`]).
//! Each pair is one matrix product over the labels it sums, batched over those that both have and that
//! are still needed, or an element-wise product if it sums none.

mod path;
mod words;

use super::attempt;
use crate::error::Result;
use crate::node::Array;
use lazul_ir::{DType, Shape};
pub use path::EinsumPath;
use std::borrow::Borrow;
use words::{Equation, Label};

/// The sum of products that `subscripts` name: for each operand the letters of its axes, and after `->`
/// those of the result. An operand's axis that two letters share is a diagonal; `...` stands for axes
/// that broadcast. Without `->` the result has the letters that occur once, in alphabetical order.
/// Axes of length one broadcast. Dtypes are promoted, and the result has that dtype; integers wrap.
///
/// ```
/// use lazul_core::prelude::*;
/// let a = arange(6, DType::F32).reshape([2, 3]);
/// let b = ones([3, 2], DType::F32);
/// assert_eq!(einsum("ij,jk->ik", &[&a, &b]).to_vec::<f32>()?, [3.0, 3.0, 12.0, 12.0]);
/// assert_eq!(einsum("ij->ji", &[&a]).shape()?, &[3, 2]);
/// assert_eq!(einsum("ij,ij->", &[&a, &a]).item::<f32>()?, 55.0);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[track_caller]
pub fn einsum<T: Borrow<Array>>(subscripts: &str, operands: &[T]) -> Array {
    let operands: Vec<Array> = operands.iter().map(|a| a.borrow().clone()).collect();
    attempt(|| {
        operands.iter().try_for_each(Array::check)?;
        let equation = Equation::parse("einsum", subscripts, &operands)?;
        let steps = path::path(&equation).steps;
        let dtype = operands.iter().map(|a| a.0.dtype).reduce(DType::promote);
        let dtype = dtype.unwrap_or(DType::F32);
        let mut terms: Vec<Term> = operands
            .iter()
            .zip(&equation.inputs)
            .map(|(x, labels)| Term { x: x.astype(dtype), labels: labels.clone() }.diagonals())
            .collect();
        for step in &steps {
            let [i, j] = step[..] else { continue };
            let (b, a) = (terms.remove(i.max(j)), terms.remove(i.min(j)));
            let needed = |l: &Label| {
                equation.output.contains(l) || terms.iter().any(|t| t.labels.contains(l))
            };
            let both = contract(a, b, needed)?;
            terms.push(both);
        }
        let last = terms.remove(0).summed(|l| equation.output.contains(l));
        let order: Vec<usize> = equation
            .output
            .iter()
            .filter_map(|l| last.labels.iter().position(|m| m == l))
            .collect();
        // Sums of narrow integers are wider than their terms.
        Ok(last.x.transpose(order).astype(dtype))
    })
}

/// The order in which [`einsum`] takes its operands, and what it costs. The cheapest order for up to
/// eight operands; for more, the pair is taken next whose result is smallest beside what it replaces.
///
/// ```
/// use lazul_core::prelude::*;
/// let (a, b, c) = (ones([2, 3], DType::F32), ones([3, 4], DType::F32), ones([4, 5], DType::F32));
/// let path = einsum_path("ij,jk,kl->il", &[a, b, c])?;
/// assert_eq!(path.steps, [vec![0, 1], vec![0, 1]]);
/// assert!(path.optimized_flops < path.naive_flops);
/// # Ok::<(), lazul_core::Error>(())
/// ```
///
/// # Errors
/// If an operand failed, or does not fit the subscripts.
#[track_caller]
pub fn einsum_path<T: Borrow<Array>>(subscripts: &str, operands: &[T]) -> Result<EinsumPath> {
    let operands: Vec<Array> = operands.iter().map(|a| a.borrow().clone()).collect();
    operands.iter().try_for_each(Array::check)?;
    let site = crate::scope::call_site();
    let equation = Equation::parse("einsum_path", subscripts, &operands).map_err(|e| e.at(site))?;
    Ok(path::path(&equation))
}

/// An array and the labels of its axes.
struct Term {
    x: Array,
    labels: Vec<Label>,
}

impl Term {
    /// Axes of one label become the diagonal that they span.
    #[track_caller]
    fn diagonals(mut self) -> Term {
        let twice = |labels: &[Label]| {
            (0..labels.len())
                .find_map(|j| labels[..j].iter().position(|l| *l == labels[j]).map(|i| (i, j)))
        };
        while let Some((i, j)) = twice(&self.labels) {
            self.x = self.x.diagonal_of(0, i as i64, j as i64);
            let label = self.labels.remove(j);
            self.labels.remove(i);
            self.labels.push(label);
        }
        self
    }

    /// Summed over the labels that nobody needs.
    #[track_caller]
    fn summed(mut self, needed: impl Fn(&Label) -> bool) -> Term {
        let axes: Vec<usize> =
            (0..self.labels.len()).filter(|&i| !needed(&self.labels[i])).collect();
        if !axes.is_empty() {
            self.x = self.x.sum(axes);
            self.labels.retain(needed);
        }
        self
    }

    /// The array with its axes in the order of `labels`, and their lengths.
    #[track_caller]
    fn arranged(&self, labels: &[&[Label]]) -> Array {
        let position = |l: &Label| self.labels.iter().position(|m| m == l);
        self.x.transpose(
            labels.iter().flat_map(|l| l.iter()).filter_map(position).collect::<Vec<_>>(),
        )
    }

    fn length(&self, label: Label) -> usize {
        let at = self.labels.iter().position(|l| *l == label);
        at.map_or(1, |i| self.x.0.shape[i])
    }
}

/// The product of two terms, summed over the labels that nobody needs.
#[track_caller]
fn contract(a: Term, b: Term, needed: impl Fn(&Label) -> bool) -> Result<Term> {
    let a = a.summed(|l| needed(l) || b.labels.contains(l));
    let b = b.summed(|l| needed(l) || a.labels.contains(l));
    a.x.check()?;
    b.x.check()?;
    let pick = |from: &Term, f: &dyn Fn(&Label) -> bool| -> Vec<Label> {
        from.labels.iter().copied().filter(f).collect()
    };
    let (in_a, in_b) = (|l: &Label| a.labels.contains(l), |l: &Label| b.labels.contains(l));
    let batch = pick(&a, &|l| in_b(l) && needed(l));
    let inner = pick(&a, &|l| in_b(l) && !needed(l));
    let (rows, columns) = (pick(&a, &|l| !in_b(l)), pick(&b, &|l| !in_a(l)));
    let labels = [&batch[..], &rows, &columns].concat();
    let sizes = |t: &Term, l: &[Label]| l.iter().map(|&l| t.length(l)).collect::<Vec<_>>();
    let (x, y) = (a.arranged(&[&batch, &rows, &inner]), b.arranged(&[&batch, &inner, &columns]));
    let (m, n) = (sizes(&a, &rows), sizes(&b, &columns));
    if inner.is_empty() {
        // (batch, rows, 1…) · (batch, 1…, columns)
        let left = [sizes(&a, &batch), m, vec![1; n.len()]].concat();
        let right = [sizes(&b, &batch), vec![1; rows.len()], n].concat();
        return Ok(Term { x: x.reshape(left).multiply(y.reshape(right)), labels });
    }
    // (batch, m, k) · (batch, k, n)
    let k: Vec<usize> = inner.iter().map(|&l| a.length(l).max(b.length(l))).collect();
    let broadcast = |x: &Array, shape: Vec<usize>| x.broadcast_to(shape);
    let x = broadcast(&x, [sizes(&a, &batch), m.clone(), k.clone()].concat());
    let y = broadcast(&y, [sizes(&b, &batch), k.clone(), n.clone()].concat());
    let size = |d: &[usize]| d.iter().product::<usize>();
    let x = x.reshape([sizes(&a, &batch), vec![size(&m), size(&k)]].concat());
    let y = y.reshape([sizes(&b, &batch), vec![size(&k), size(&n)]].concat());
    let out = x.matmul(&y);
    out.check()?;
    let shape: Shape = out.0.shape[..batch.len()].iter().chain(&m).chain(&n).copied().collect();
    Ok(Term { x: out.reshape(&shape), labels })
}

#[cfg(test)]
mod tests {
    use crate::prelude::*;

    #[test]
    fn subscripts_that_do_not_fit() {
        let x = ones([2, 3], DType::F32);
        let one = |s: &str| einsum(s, &[&x]);
        let bad = [
            "",
            "i",
            "ijk",
            "i.j",
            "ij->ik",
            "ij->ii",
            "ij-i",
            "ij>i",
            "...ijk",
            "ij,jk",
            "......ij",
            "...ij->ij ...k",
            "i1",
            "ii",
            "ij->i->j",
            "......",
        ];
        for s in bad {
            assert!(one(s).check().is_err(), "{s}");
        }
        assert!(einsum::<Array>("", &[]).check().is_err());
        assert!(einsum("ij,kj", &[&x, &ones([2, 4], DType::F32)]).check().is_err());
        assert!(einsum_path("ij", &[x.reshape(7)]).is_err());
        assert!(one("...i->i").check().is_err());
    }

    #[test]
    fn ones_broadcast_and_integers_wrap() {
        let a = arange(3, DType::F32).reshape([3, 1]);
        let b = arange(4, DType::F32).reshape([1, 4]);
        let sum = einsum("ij,ij->", &[&a, &b]);
        assert_eq!(sum.item::<f32>().unwrap(), 18.0);
        assert_eq!(einsum("ij,ij->j", &[a, b]).to_vec::<f32>().unwrap(), [0.0, 3.0, 6.0, 9.0]);
        let bytes = full([3], 100).astype(DType::U8);
        assert_eq!(einsum("i->", &[&bytes]).item::<u8>().unwrap(), 44);
        assert_eq!(einsum("i,i->", &[&bytes, &bytes]).item::<u8>().unwrap(), 48);
        let truth = Array::from_slice(&[false, true], [2]);
        assert!(einsum("i->", &[truth]).item::<bool>().unwrap());
    }

    #[test]
    fn nothing_sums_to_zero() {
        let (a, b) = (zeros([2, 0], DType::F32), zeros([0, 3], DType::F32));
        assert_eq!(einsum("ij,jk", &[&a, &b]).to_vec::<f32>().unwrap(), [0.0; 6]);
        assert_eq!(einsum("ij->i", &[a]).to_vec::<f32>().unwrap(), [0.0; 2]);
    }

    #[test]
    fn many_operands() {
        let matrices: Vec<Array> =
            (0..12).map(|i| ones([2 + i % 3, 2 + (i + 1) % 3], DType::F64)).collect();
        let subscripts: Vec<String> =
            (0..12u8).map(|i| format!("{}{}", (b'a' + i) as char, (b'b' + i) as char)).collect();
        let chained = einsum(&format!("{}->am", subscripts.join(",")), &matrices);
        let product = matrices[1..].iter().fold(matrices[0].clone(), |x, y| x.matmul(y));
        assert_eq!(chained.to_vec::<f64>().unwrap(), product.to_vec::<f64>().unwrap());
    }
}

//! In which order the operands of a sum of products are taken.
//!
//! Sets of labels are bits of a word, so that the cheapest order of a few operands can be found by
//! trying every way to part every subset of them in two.

use super::words::{Equation, Label};
use std::fmt::{Display, Formatter};

/// Up to this many operands every order is tried.
const FEW: usize = 8;

/// An order of contraction, and its cost in multiplications and additions.
#[derive(Clone, Debug, PartialEq)]
pub struct EinsumPath {
    /// Which operands are taken next, by their places in the list of those that are left; what they give
    /// is put at its end. One place if there is only one operand.
    pub steps: Vec<Vec<usize>>,
    /// Operations of a single loop over all labels.
    pub naive_flops: f64,
    /// Operations in this order.
    pub optimized_flops: f64,
    /// How many labels the single loop runs over.
    pub naive_scaling: usize,
    /// How many labels the largest step runs over.
    pub optimized_scaling: usize,
    /// The subscripts, with those of the result.
    pub subscripts: String,
}

impl Display for EinsumPath {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "  Complete contraction:  {}", self.subscripts)?;
        writeln!(f, "         Naive scaling:  {}", self.naive_scaling)?;
        writeln!(f, "     Optimized scaling:  {}", self.optimized_scaling)?;
        writeln!(f, "      Naive FLOP count:  {}", self.naive_flops)?;
        writeln!(f, "  Optimized FLOP count:  {}", self.optimized_flops)
    }
}

/// A set of labels.
type Set = u128;

struct Labels {
    sizes: Vec<f64>,
    output: Set,
}

impl Labels {
    /// The number of index values of a set.
    fn size(&self, set: Set) -> f64 {
        (0..self.sizes.len()).filter(|i| set >> i & 1 == 1).map(|i| self.sizes[i]).product()
    }

    /// Operations of one step over `set`, of which `kept` are left.
    fn flops(&self, set: Set, kept: Set, terms: usize) -> f64 {
        let sums = usize::from(set != kept);
        self.size(set) * ((terms - 1).max(1) + sums) as f64
    }
}

pub(super) fn path(equation: &Equation) -> EinsumPath {
    let order: Vec<Label> = equation.sizes.keys().copied().collect();
    let set = |labels: &[Label]| -> Set {
        labels.iter().filter_map(|l| order.iter().position(|m| m == l)).fold(0, |s, i| s | 1 << i)
    };
    let labels = Labels {
        sizes: equation.sizes.values().map(|&d| d as f64).collect(),
        output: set(&equation.output),
    };
    let inputs: Vec<Set> = equation.inputs.iter().map(|l| set(l)).collect();
    let all = inputs.iter().fold(0, |s, i| s | i);
    let n = inputs.len();
    let steps = match n {
        1 => vec![vec![0]],
        2..=FEW => cheapest(&inputs, &labels),
        _ => greedy(&inputs, &labels),
    };
    // What the steps cost.
    let mut left = inputs.clone();
    let (mut flops, mut scaling) = (0.0, 0);
    for step in &steps {
        let taken: Vec<Set> = step.iter().rev().map(|&i| left.remove(i)).collect();
        let union = taken.iter().fold(0, |s, t| s | t);
        let kept = union & left.iter().fold(labels.output, |s, l| s | l);
        flops += labels.flops(union, kept, taken.len());
        scaling = scaling.max(union.count_ones() as usize);
        left.push(kept);
    }
    EinsumPath {
        steps,
        naive_flops: labels.flops(all, all & labels.output, n),
        optimized_flops: flops,
        naive_scaling: all.count_ones() as usize,
        optimized_scaling: scaling,
        subscripts: equation.text.clone(),
    }
}

/// The cheapest order, by the cheapest way to part each subset in two.
fn cheapest(inputs: &[Set], labels: &Labels) -> Vec<Vec<usize>> {
    let n = inputs.len();
    let full = (1usize << n) - 1;
    let union =
        |subset: usize| (0..n).filter(|i| subset >> i & 1 == 1).fold(0, |s: Set, i| s | inputs[i]);
    // What is left of a subset's labels once it is contracted.
    let kept: Vec<Set> =
        (0..=full).map(|s| union(s) & (labels.output | union(full & !s))).collect();
    let mut cost = vec![0.0f64; full + 1];
    let mut split = vec![0usize; full + 1];
    for subset in 1..=full {
        if subset.is_power_of_two() {
            continue;
        }
        cost[subset] = f64::INFINITY;
        let lowest = subset & subset.wrapping_neg();
        let mut part = (subset - 1) & subset;
        while part > 0 {
            if part & lowest != 0 {
                // An operand by itself still has all of its labels.
                let of = |s: usize| if s.is_power_of_two() { union(s) } else { kept[s] };
                let both = of(part) | of(subset & !part);
                let total = cost[part] + cost[subset & !part] + labels.flops(both, kept[subset], 2);
                if total < cost[subset] || split[subset] == 0 {
                    (cost[subset], split[subset]) = (total, part);
                }
            }
            part = (part - 1) & subset;
        }
    }
    let mut left: Vec<usize> = (0..n).map(|i| 1 << i).collect();
    let mut steps = Vec::new();
    // Subsets in the order in which they must be there, the largest last.
    let mut stack = vec![full];
    let mut order = Vec::new();
    while let Some(subset) = stack.pop() {
        if !subset.is_power_of_two() {
            order.push(subset);
            stack.extend([split[subset], subset & !split[subset]]);
        }
    }
    for &subset in order.iter().rev() {
        let place = |s: usize| left.iter().position(|&l| l == s).unwrap_or(0);
        let (a, b) = (place(split[subset]), place(subset & !split[subset]));
        steps.push(vec![a.min(b), a.max(b)]);
        left.remove(a.max(b));
        left.remove(a.min(b));
        left.push(subset);
    }
    steps
}

/// Pair by pair: the one whose result is smallest beside what it replaces, the cheaper of equals.
fn greedy(inputs: &[Set], labels: &Labels) -> Vec<Vec<usize>> {
    let mut left = inputs.to_vec();
    let mut steps = Vec::new();
    while left.len() > 1 {
        // How many of those left have each label.
        let mut counts = vec![0usize; labels.sizes.len()];
        for &set in &left {
            (0..counts.len()).filter(|i| set >> i & 1 == 1).for_each(|i| counts[i] += 1);
        }
        let mut best = ((f64::INFINITY, f64::INFINITY), (0, 1), 0);
        for i in 0..left.len() {
            for j in i + 1..left.len() {
                let (a, b) = (left[i], left[j]);
                let others = (0..counts.len()).filter(|&l| {
                    let here = (a >> l & 1) as usize + (b >> l & 1) as usize;
                    counts[l] > here
                });
                let kept = (a | b) & others.fold(labels.output, |s, l| s | 1 << l);
                let grows = labels.size(kept) - labels.size(a) - labels.size(b);
                let key = (grows, labels.flops(a | b, kept, 2));
                if key < best.0 || (i, j) == (0, 1) {
                    best = (key, (i, j), kept);
                }
            }
        }
        let (_, (i, j), kept) = best;
        steps.push(vec![i, j]);
        left.remove(j);
        left.remove(i);
        left.push(kept);
    }
    steps
}

#[cfg(test)]
mod tests {
    use crate::prelude::*;

    fn path(subscripts: &str, shapes: &[&[usize]]) -> super::EinsumPath {
        let operands: Vec<Array> = shapes.iter().map(|s| zeros(*s, DType::F32)).collect();
        einsum_path(subscripts, &operands).unwrap()
    }

    #[test]
    fn the_cheap_end_of_a_chain_comes_first() {
        let p = path("ij,jk,kl->il", &[&[2, 100], &[100, 100], &[100, 3]]);
        assert_eq!(p.steps, [vec![0, 1], vec![0, 1]]);
        let p = path("ij,jk,kl->il", &[&[100, 100], &[100, 100], &[100, 3]]);
        assert_eq!(p.steps, [vec![1, 2], vec![0, 1]]);
        let text = "  Complete contraction:  ij,jk,kl->il\n         Naive scaling:  4\n     \
                    Optimized scaling:  3\n      Naive FLOP count:  9000000\n  \
                    Optimized FLOP count:  120000\n";
        assert_eq!(p.to_string(), text);
        assert_eq!(path("ii", &[&[3, 3]]).steps, [vec![0]]);
    }

    #[test]
    fn many_operands_are_taken_greedily() {
        let shapes: Vec<&[usize]> = vec![&[4, 4]; 10];
        let p = path("ab,bc,cd,de,ef,fg,gh,hi,ij,jk->ak", &shapes);
        assert_eq!(p.steps.len(), 9);
        assert_eq!((p.naive_scaling, p.optimized_scaling), (11, 3));
    }

    #[test]
    fn the_order_is_the_cheapest_of_all() {
        let sizes = [3usize, 50, 2, 40, 7, 90];
        let shapes: Vec<[usize; 2]> = sizes.windows(2).map(|w| [w[0], w[1]]).collect();
        let shapes: Vec<&[usize]> = shapes.iter().map(|s| &s[..]).collect();
        let p = path("ab,bc,cd,de,ef->af", &shapes);
        assert_eq!(p.optimized_flops, 2.0 * matrix_chain(&sizes));
    }

    /// Multiplications of the best order of a chain of matrices.
    fn matrix_chain(sizes: &[usize]) -> f64 {
        let n = sizes.len() - 1;
        let mut cost = vec![vec![0.0f64; n]; n];
        for length in 2..=n {
            for i in 0..=n - length {
                let j = i + length - 1;
                cost[i][j] = (i..j)
                    .map(|k| {
                        let step = sizes[i] * sizes[k + 1] * sizes[j + 1];
                        cost[i][k] + cost[k + 1][j] + step as f64
                    })
                    .fold(f64::INFINITY, f64::min);
            }
        }
        cost[0][n - 1]
    }
}

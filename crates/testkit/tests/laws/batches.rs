//! Laws of batches: a function over a batch gives what it gives for each example, and so do its
//! derivatives.

use crate::case::Case;
use crate::numbers::{alike, all_flat, coarsest, near, pull, push, unit};
use lazul_core::{Array, DType, Result, stack, vjp, vmap_axes};
use lazul_testkit::Report;

/// Examples in a batch.
const SIZE: usize = 3;

/// Arguments of a batch: of `chosen` the examples differ, the rest they share.
struct Batch {
    examples: Vec<Vec<Array>>,
    stacked: Vec<Array>,
    axes: Vec<Option<i64>>,
}

impl Batch {
    fn new(case: &Case, dtype: DType, chosen: u32, axis: i64) -> Batch {
        let mut examples: Vec<Vec<Array>> =
            (0..SIZE as u64).map(|k| case.draw(10 + k, dtype)).collect();
        let mut stacked = examples[0].clone();
        let mut axes = vec![None; stacked.len()];
        for i in 0..stacked.len() {
            if chosen >> i & 1 == 1 {
                let column: Vec<Array> = examples.iter().map(|e| e[i].clone()).collect();
                // Scalars have no other place for the batch than the first.
                let rank = column[0].ndim().unwrap_or(0) as i64;
                let at = if axis < 0 || axis <= rank { axis } else { 0 };
                stacked[i] = stack(&column, at);
                axes[i] = Some(at);
            } else {
                let first = examples[0][i].clone();
                examples.iter_mut().for_each(|e| e[i] = first.clone());
            }
        }
        Batch { examples, stacked, axes }
    }

    /// What each example gives, stacked along an axis.
    fn one_by_one(
        &self,
        f: impl Fn(&[Array]) -> Result<Vec<Array>>,
        axis: i64,
    ) -> Result<Vec<Array>> {
        let each = self.examples.iter().map(|e| f(e)).collect::<Result<Vec<_>>>()?;
        let column = |i: usize| stack(&each.iter().map(|r| r[i].clone()).collect::<Vec<_>>(), axis);
        Ok((0..each[0].len()).map(column).collect())
    }
}

fn subsets(n: usize) -> impl Iterator<Item = u32> {
    1..1u32 << n
}

/// The function over batches of every subset of its arguments, in every dtype.
pub(crate) fn functions(case: &Case, report: &mut Report) {
    for &dtype in &case.dtypes {
        for chosen in subsets(case.inputs.len()) {
            let id = format!("{} {dtype}, batched {chosen:b}", case.name);
            let outcome = over(case, dtype, chosen, 0, 0);
            report.case(id, outcome.unwrap_or_else(|e| Err(format!("error: {e}"))));
        }
        let all = (1 << case.inputs.len()) - 1;
        let id = format!("{} {dtype}, axes 1 to -1", case.name);
        let outcome = over(case, dtype, all, 1, -1);
        report.case(id, outcome.unwrap_or_else(|e| Err(format!("error: {e}"))));
        let id = format!("{} {dtype}, no examples", case.name);
        report.case(id, nothing(case, dtype).unwrap_or_else(|e| Err(format!("error: {e}"))));
    }
}

fn over(case: &Case, dtype: DType, chosen: u32, from: i64, to: i64) -> Result<Result<(), String>> {
    let batch = Batch::new(case, dtype, chosen, from);
    let f = |x: &Vec<Array>| case.call(x);
    let ours = vmap_axes(f, &batch.axes, &[Some(to)])(&batch.stacked)?;
    let theirs = batch.one_by_one(|x| case.call(x), to)?;
    let bound = match case.exact {
        true => None,
        false => Some(32.0 * unit(coarsest(case, dtype, &theirs)?)),
    };
    Ok(alike(&ours, &theirs, bound))
}

/// A batch without examples has results without elements, of the right shape and dtype.
fn nothing(case: &Case, dtype: DType) -> Result<Result<(), String>> {
    let batch = Batch::new(case, dtype, (1 << case.inputs.len()) - 1, 0);
    let none: Vec<Array> = batch.stacked.iter().map(|a| a.slice_axis(0, 0, 0)).collect();
    let f = |x: &Vec<Array>| case.call(x);
    let ours = vmap_axes(f, &batch.axes, &[Some(0)])(&none)?;
    let theirs = batch.one_by_one(|x| case.call(x), 0)?;
    let theirs: Vec<Array> = theirs.iter().map(|a| a.slice_axis(0, 0, 0)).collect();
    Ok(alike(&ours, &theirs, None))
}

/// A batch of batches is a loop in a loop, whichever of the arguments each of them has.
pub(crate) fn nested(case: &Case, report: &mut Report) {
    let widest = [DType::F32, DType::F64, DType::I32];
    let Some(&dtype) = widest.iter().find(|d| case.dtypes.contains(d)) else { return };
    let n = case.inputs.len();
    let (all, odd) = ((1u32 << n) - 1, 0xaaaa_aaaau32 & ((1 << n) - 1));
    for (outer, inner) in [(all, all), (odd, all & !odd), (all & !odd, all)] {
        if outer == 0 || inner == 0 {
            continue;
        }
        let id = format!("{} {dtype}, batched {outer:b} around {inner:b}", case.name);
        let outcome = in_two(case, dtype, outer, inner);
        report.case(id, outcome.unwrap_or_else(|e| Err(format!("error: {e}"))));
    }
}

fn in_two(case: &Case, dtype: DType, outer: u32, inner: u32) -> Result<Result<(), String>> {
    // Example (j, k) of an argument is one of `SIZE`; it varies only with the batches that it has.
    let drawn: Vec<Vec<Array>> = (0..SIZE as u64).map(|k| case.draw(10 + k, dtype)).collect();
    let has = |set: u32, i: usize| set >> i & 1 == 1;
    let example = |i: usize, j: usize, k: usize| {
        let at = j * usize::from(has(outer, i)) + k * usize::from(has(inner, i));
        drawn[at % SIZE][i].clone()
    };
    let column = |f: &dyn Fn(usize) -> Array| stack(&[0, 1, 2].map(f), 0);
    let stacked = |i: usize| match (has(outer, i), has(inner, i)) {
        (true, true) => column(&|j| column(&|k| example(i, j, k))),
        (true, false) => column(&|j| example(i, j, 0)),
        (false, true) => column(&|k| example(i, 0, k)),
        (false, false) => example(i, 0, 0),
    };
    let n = case.inputs.len();
    let x: Vec<Array> = (0..n).map(stacked).collect();
    let axes = |set: u32| (0..n).map(|i| has(set, i).then_some(0)).collect::<Vec<_>>();
    let f = |x: &Vec<Array>| case.call(x);
    let once = vmap_axes(f, &axes(inner), &[Some(0)]);
    let ours = vmap_axes(|x: &Vec<Array>| once(x), &axes(outer), &[Some(0)])(&x)?;
    let one = |j: usize, k: usize| case.call(&(0..n).map(|i| example(i, j, k)).collect::<Vec<_>>());
    let mut each = Vec::new();
    for j in 0..SIZE {
        each.push((0..SIZE).map(|k| one(j, k)).collect::<Result<Vec<_>>>()?);
    }
    let result = |r: usize| column(&|j| column(&|k| each[j][k][r].clone()));
    let theirs: Vec<Array> = (0..each[0][0].len()).map(result).collect();
    let bound = match case.exact {
        true => None,
        false => Some(32.0 * unit(coarsest(case, dtype, &theirs)?)),
    };
    Ok(alike(&ours, &theirs, bound))
}

/// Derivatives over a batch, and the gradient of a function over a batch.
pub(crate) fn gradients(case: &Case, report: &mut Report) {
    let widest = [DType::F64, DType::C64, DType::F32];
    let dtypes: Vec<DType> =
        widest.into_iter().filter(|d| case.dtypes.contains(d)).take(2).collect();
    for dtype in dtypes {
        for chosen in subsets(case.inputs.len()) {
            let id = |law: &str| format!("{} {dtype}, batched {chosen:b}: {law}", case.name);
            let mut run = || -> Result<()> {
                let batch = Batch::new(case, dtype, chosen, 0);
                let y = case.call(&batch.examples[0])?;
                let u = case.directions(2, &y)?;
                let worst = coarsest(case, dtype, &[&batch.stacked[..], &y[..]].concat())?;
                let bound = 64.0 * unit(worst);
                let v = case.directions(3, &batch.examples[0])?;
                let f = |x: &Vec<Array>| push(case, x, &v);
                let ours = vmap_axes(f, &batch.axes, &[Some(0)])(&batch.stacked)?;
                let theirs = batch.one_by_one(|x| push(case, x, &v), 0)?;
                report.case(id("vmap of jvp"), alike(&ours, &theirs, Some(bound)));
                if !case.reverse {
                    return Ok(());
                }
                let f = |x: &Vec<Array>| pull(case, x, &u);
                let ours = vmap_axes(f, &batch.axes, &[Some(0)])(&batch.stacked)?;
                let theirs = batch.one_by_one(|x| pull(case, x, &u), 0)?;
                report.case(id("vmap of vjp"), alike(&ours, &theirs, Some(bound)));
                // What examples share has the sum of their gradients.
                let over = |x: &Vec<Array>| {
                    vmap_axes(|x: &Vec<Array>| case.call(x), &batch.axes, &[Some(0)])(x)
                };
                let wide: Vec<Array> = u.iter().map(|u| stack(&vec![u.clone(); SIZE], 0)).collect();
                let (_, ours) = vjp(over, &batch.stacked, &wide)?;
                let sums: Vec<Array> = theirs
                    .iter()
                    .zip(&batch.axes)
                    .map(|(g, axis)| if axis.is_some() { g.clone() } else { g.sum(0) })
                    .collect();
                let outcome = near(&all_flat(&ours)?, &all_flat(&sums)?, bound);
                report.case(id("vjp of vmap"), outcome);
                Ok(())
            };
            if let Err(e) = run() {
                report.case(id("gradients"), Err(format!("error: {e}")));
            }
        }
    }
}

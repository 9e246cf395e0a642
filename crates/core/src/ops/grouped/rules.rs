//! Rules of grouped products. They are linear in both operands; the gradient of what is picked is
//! added up where it was picked from: rows of products by a scatter, sums of outer products by a
//! primitive that does not write the terms down.

use super::*;
use crate::rules::{Call, Outputs, Slots, again, none, sum};
use crate::transforms::batch::with_batch;

/// Rows and columns of a matrix.
fn dims(x: &Array) -> [usize; 2] {
    let rank = x.0.shape.len();
    [x.0.shape[rank - 2], x.0.shape[rank - 1]]
}

/// The batch axes of an array of matrices.
fn batch(x: &Array) -> &[usize] {
    &x.0.shape[..x.0.shape.len() - 2]
}

/// Zeros of the shape of `x (…, m, k)` with `rows (I…, m, k)` added to the matrices at `index (I)`.
pub(crate) fn added_at(x: &Array, index: &Array, rows: &Array) -> Array {
    let [m, k] = dims(x);
    let count: usize = batch(x).iter().product();
    // Half precision is added up in float32.
    let wide = match x.0.dtype {
        DType::F16 | DType::BF16 => DType::F32,
        dtype => dtype,
    };
    let (index, rows) = (index.reshape([-1]), rows.reshape([index.0.shape.size(), m, k]));
    let zeros = crate::zeros([count, m, k], wide);
    zeros.at(&[index]).add(rows.astype(wide)).astype(x.0.dtype).reshape(&x.0.shape)
}

/// Indices for a batch: `index` (with the batch as first axis if `batched`) into the matrices of `x`,
/// which lie one example after another if `over`. One out of bounds stays so.
pub(crate) fn over_batch(
    index: &Array,
    batched: bool,
    x: &Array,
    over: bool,
    size: usize,
) -> Array {
    let index = if batched { index.clone() } else { with_batch(index, size) };
    if !over {
        return index;
    }
    let count: usize = batch(x)[1..].iter().product();
    beside(&index, count, size)
}

/// The shape of `size` numbers along the first of `rank` axes.
fn column(size: usize, rank: usize) -> Shape {
    std::iter::once(size).chain(std::iter::repeat_n(1, rank - 1)).collect()
}

/// The conjugate; real numbers as they are.
fn conj(x: &Array) -> Array {
    if x.0.dtype == DType::C64 { x.conj() } else { x.clone() }
}

/// Indices `(size, …)` into `count` things for each example, which lie one example after another.
fn beside(index: &Array, count: usize, size: usize) -> Array {
    // Numbers that int64 cannot hold are out of bounds in any case.
    let index = match index.0.dtype {
        DType::U64 => index.minimum(count as u64),
        _ => index.clone(),
    };
    let index = index.astype(DType::I64);
    let (count, all) = (count as i64, (count * size) as i64);
    let inside = index.greater_equal(-count).logical_and(index.less(count));
    let from_start = where_(index.less(0), &index + count, &index);
    let first = (arange(size, DType::I64) * count).reshape(&column(size, index.0.shape.len()));
    where_(inside, from_start + first, all)
}

/// `a[lhs] · b[rhs]`.
fn gathered(a: &Array, b: &Array, lhs: &Array, rhs: &Array) -> Array {
    let ([m, _], [_, n]) = (dims(a), dims(b));
    let shape = lhs.0.shape.iter().copied().chain([m, n]).collect();
    let inputs = [a, b, lhs, rhs].map(Array::clone);
    prim(Prim::Grouped(GroupedOp::Gather), inputs, shape, a.0.dtype)
}

/// The sums of `a[lhs]ᵀ · b[rhs]` by `to`, an index into `batch` matrices.
fn outer(a: &Array, b: &Array, [lhs, rhs, to]: [&Array; 3], batch: &[usize]) -> Array {
    let ([_, k], [_, n]) = (dims(a), dims(b));
    let count: usize = batch.iter().product();
    let inputs = [a, b, lhs, rhs, to].map(Array::clone);
    let shape = Shape::new(&[count, k, n]);
    let out = prim(Prim::Grouped(GroupedOp::Outer), inputs, shape, a.0.dtype);
    let shape: Shape = batch.iter().copied().chain([k, n]).collect();
    out.reshape(&shape)
}

/// For each segment, whether a position of the inner axis belongs to it: `(S, k)`.
fn members(segments: &Array, k: usize) -> Array {
    let pairs = segments.reshape([segments.0.shape.size() / 2, 2]).astype(DType::I64);
    let at = arange(k, DType::I64);
    let (from, to) = (pairs.slice_axis(1, 0, 1), pairs.slice_axis(1, 1, 2));
    at.greater_equal(from).logical_and(at.less(to))
}

pub(crate) fn vjp(op: GroupedOp, call: &Call<'_>, c: &Array, wanted: &[bool]) -> Result<Slots> {
    let inputs = call.inputs;
    let (a, b) = (&inputs[0], &inputs[1]);
    let mut slots = none(inputs.len());
    match op {
        GroupedOp::Gather => {
            let (lhs, rhs) = (&inputs[2], &inputs[3]);
            let own = arange(lhs.0.shape.size(), DType::I64).reshape(&lhs.0.shape);
            if wanted[0] {
                let rows = gathered(c, &conj(b).mt(), &own, rhs); // (I…, m, k)
                slots[0] = Some(added_at(a, lhs, &rows));
            }
            if wanted[1] {
                slots[1] = Some(outer(&conj(a), c, [lhs, &own, rhs], batch(b)));
            }
        }
        GroupedOp::Outer => {
            let [lhs, rhs, to] = [2, 3, 4].map(|i| &inputs[i]);
            if wanted[0] {
                let rows = gathered(&conj(b), &c.mt(), rhs, to); // (I…, m, k)
                slots[0] = Some(added_at(a, lhs, &rows));
            }
            if wanted[1] {
                let rows = gathered(&conj(a), c, lhs, to); // (I…, m, n)
                slots[1] = Some(added_at(b, rhs, &rows));
            }
        }
        GroupedOp::Segments => {
            let ([m, k], [_, n]) = (dims(a), dims(b));
            let segments = &inputs[2];
            let count = segments.0.shape.size() / 2;
            let c = c.reshape([count, m, n]);
            let inside = members(segments, k); // (S, k)
            let nothing = || crate::zeros([0i64; 0], a.0.dtype);
            if wanted[0] {
                let all = c.matmul(&conj(b).t()); // (S, m, k)
                slots[0] = Some(where_(inside.expand_dims(1), all, nothing()).sum(0));
            }
            if wanted[1] {
                let all = conj(a).t().matmul(&c); // (S, k, n)
                slots[1] = Some(where_(inside.expand_dims(2), all, nothing()).sum(0));
            }
        }
    }
    Ok(slots)
}

pub(crate) fn jvp(op: GroupedOp, call: &Call<'_>, tangents: &[Option<Array>]) -> Slots {
    let out = &call.outputs[0];
    let with = |i: usize| {
        let mut inputs = call.inputs.to_vec();
        inputs[i] = tangents[i].clone()?;
        Some(prim(Prim::Grouped(op), inputs, out.0.shape.clone(), out.0.dtype))
    };
    Slots::from_iter([sum(with(0), with(1))])
}

pub(crate) fn vmap(
    op: GroupedOp,
    inputs: &[Array],
    batched: &[bool],
    size: usize,
    output: &(Shape, DType),
) -> Outputs {
    let (a, b) = (&inputs[0], &inputs[1]);
    let index = |i: usize, x: &Array, over: bool| over_batch(&inputs[i], batched[i], x, over, size);
    match op {
        GroupedOp::Gather => {
            let lhs = index(2, a, batched[0]);
            let rhs = index(3, b, batched[1]);
            again(Prim::Grouped(op), vec![a.clone(), b.clone(), lhs, rhs], size, output)
        }
        GroupedOp::Outer => {
            let (lhs, rhs) = (index(2, a, batched[0]), index(3, b, batched[1]));
            let to = if batched[4] { inputs[4].clone() } else { with_batch(&inputs[4], size) };
            let (count, k, n) = (output.0[0], output.0[1], output.0[2]);
            let to = beside(&to, count, size);
            let inputs = vec![a.clone(), b.clone(), lhs, rhs, to];
            let shape = Shape::new(&[size * count, k, n]);
            let out = prim(Prim::Grouped(op), inputs, shape, output.1);
            Outputs::from_iter([out.reshape([size, count, k, n])])
        }
        GroupedOp::Segments => {
            // Examples one after another along the inner axis.
            let all = crate::rules::all_batched(inputs, batched, size);
            let [_, m, k] = all[0].0.shape[..] else { return Outputs::new() };
            let n = all[1].0.shape[2];
            let a = all[0].moveaxis(0, 1).reshape([m, size * k]);
            let b = all[1].reshape([size * k, n]);
            // A position may be the end of an example too; negative ones are no positions.
            let segments = match all[2].0.dtype {
                DType::U64 => all[2].minimum(k as u64 + 1),
                _ => all[2].clone(),
            };
            let segments = segments.astype(DType::I64);
            let inside = segments.greater_equal(0).logical_and(segments.less_equal(k));
            let first = column(size, segments.0.shape.len());
            let first = (arange(size, DType::I64) * k as i64).reshape(&first);
            let segments = where_(inside, segments + first, -1i64);
            again(Prim::Grouped(op), vec![a, b, segments], size, output)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::members;
    use crate::prelude::*;
    use crate::{ErrorKind, Result};

    fn matrix(shape: &[usize], seed: f64) -> Array {
        let n: usize = shape.iter().product();
        (arange(n, DType::F32).reshape(shape) * 0.37 + seed).sin()
    }

    #[track_caller]
    fn close(a: &Array, b: &Array) {
        assert_eq!(a.shape().unwrap(), b.shape().unwrap());
        let scale = b.abs().max(..).item::<f32>().unwrap().max(1e-3);
        let error = (a - b).abs().max(..).item::<f32>().unwrap() / scale;
        assert!(error < 2e-5, "{error}: {a} is not {b}");
    }

    fn picks() -> (Array, Array) {
        let lhs = Array::from_slice(&[1, 0, -1, 1], [2, 2]);
        (lhs, Array::from_slice(&[2u8, 0, 2, 2], [2, 2]))
    }

    /// Ours and the same in plain operations.
    fn gather(a: &Array, b: &Array) -> (Array, Array) {
        let (lhs, rhs) = picks();
        let ours = a.gather_mm(b, Some(&lhs), Some(&rhs));
        (ours, a.take(&lhs, 0).matmul(&b.take(&rhs, 0)))
    }

    fn segmented(a: &Array, b: &Array, segments: &Array) -> (Array, Array) {
        let inside = members(segments, 6).astype(DType::F32).expand_dims(1);
        (a.segmented_mm(b, segments), (a * inside).matmul(b))
    }

    #[test]
    fn picked_products_differentiate() -> Result<()> {
        let at = (matrix(&[2, 3, 6], 0.0), matrix(&[3, 6, 4], 1.0));
        let ours = |(a, b): &(Array, Array)| gather(a, b).0.square().sum(..);
        let want = |(a, b): &(Array, Array)| gather(a, b).1.square().sum(..);
        let (x, y) = (grad(ours)(&at)?, grad(want)(&at)?);
        close(&x.0, &y.0);
        close(&x.1, &y.1);
        let t = (matrix(&[2, 3, 6], 2.0), matrix(&[3, 6, 4], 3.0));
        let (_, x) = jvp(|(a, b): &(Array, Array)| gather(a, b).0, &at, &t)?;
        let (_, y) = jvp(|(a, b): &(Array, Array)| gather(a, b).1, &at, &t)?;
        close(&x, &y);
        // Twice: through the sums of outer products and the rows that were added up.
        let twice = |f: fn(&Array, &Array) -> Array| {
            grad(move |at: &(Array, Array)| -> Result<Array> {
                let f = |(a, b): &(Array, Array)| f(a, b).sin().sum(..);
                let (da, db) = grad(f)(at)?;
                Ok(da.square().sum(..) + (db * 0.5).square().sum(..))
            })
        };
        let x = twice(|a, b| gather(a, b).0)(&at)?;
        let y = twice(|a, b| gather(a, b).1)(&at)?;
        close(&x.0, &y.0);
        close(&x.1, &y.1);
        Ok(())
    }

    #[test]
    fn picked_products_over_batches() -> Result<()> {
        let (a, b) = (matrix(&[2, 3, 6], 0.0), matrix(&[3, 6, 4], 1.0));
        let (many_a, many_b) = (matrix(&[5, 2, 3, 6], 2.0), matrix(&[5, 3, 6, 4], 3.0));
        let loop_over = |f: &dyn Fn(usize) -> Array| stack(&(0..5).map(f).collect::<Vec<_>>(), 0);
        close(
            &vmap(|a: &Array| gather(a, &b).0)(&many_a)?,
            &loop_over(&|i| gather(&many_a.at_index(0, i as i64), &b).1),
        );
        close(
            &vmap(|b: &Array| gather(&a, b).0)(&many_b)?,
            &loop_over(&|i| gather(&a, &many_b.at_index(0, i as i64)).1),
        );
        let both = (many_a.clone(), many_b.clone());
        let at = |i: usize| (many_a.at_index(0, i as i64), many_b.at_index(0, i as i64));
        close(
            &vmap(|(a, b): &(Array, Array)| gather(a, b).0)(&both)?,
            &loop_over(&|i| gather(&at(i).0, &at(i).1).1),
        );
        // Gradients of a batch are batches of what gradients are made of.
        let loss = |(a, b): &(Array, Array)| gather(a, b).0.square().sum(..);
        let (x, y) = vmap(grad(loss))(&both)?;
        let each: Vec<(Array, Array)> =
            (0..5).map(|i| grad(loss)(&at(i))).collect::<Result<_>>()?;
        close(&x, &loop_over(&|i| each[i].0.clone()));
        close(&y, &loop_over(&|i| each[i].1.clone()));
        let picks = Array::from_slice(&[0i64, -1, 2, 1, 1], [5]);
        let one = |i: &Array| a.at_index(0, 0).gather_mm(&b, None, Some(i));
        close(&vmap(one)(&picks)?, &loop_over(&|i| one(&picks.at_index(0, i as i64))));
        Ok(())
    }

    #[test]
    fn complex_products_differentiate_as_their_parts_do() -> Result<()> {
        let complex = |shape: &[usize], seed| {
            let i = Array::scalar(Complex32::new(0.0, 1.0));
            matrix(shape, seed) + matrix(shape, seed + 0.5) * i
        };
        let at = (complex(&[2, 3, 6], 0.0), complex(&[3, 6, 4], 1.0));
        let loss = |y: Array| (y.real() * 2.0 + y.imag().square()).sum(..);
        let x = grad(|(a, b): &(Array, Array)| loss(gather(a, b).0))(&at)?;
        let y = grad(|(a, b): &(Array, Array)| loss(gather(a, b).1))(&at)?;
        for (x, y) in [(x.0, y.0), (x.1, y.1)] {
            close(&x.real(), &y.real());
            close(&x.imag(), &y.imag());
        }
        Ok(())
    }

    #[test]
    fn segments_differentiate_and_batch() -> Result<()> {
        let segments = Array::from_slice(&[0, 2, 1, 6, 3, 3], [3, 2]);
        let at = (matrix(&[3, 6], 0.0), matrix(&[6, 4], 1.0));
        let ours = |(a, b): &(Array, Array)| segmented(a, b, &segments).0;
        let want = |(a, b): &(Array, Array)| segmented(a, b, &segments).1;
        close(&ours(&at), &want(&at));
        let x = grad(|at: &(Array, Array)| ours(at).square().sum(..))(&at)?;
        let y = grad(|at: &(Array, Array)| want(at).square().sum(..))(&at)?;
        close(&x.0, &y.0);
        close(&x.1, &y.1);
        let t = (matrix(&[3, 6], 2.0), matrix(&[6, 4], 3.0));
        close(&jvp(ours, &at, &t)?.1, &jvp(want, &at, &t)?.1);
        let many = (matrix(&[5, 3, 6], 2.0), matrix(&[5, 6, 4], 3.0));
        close(&vmap(ours)(&many)?, &vmap(want)(&many)?);
        let one = |a: &Array| a.segmented_mm(&at.1, &segments);
        close(&vmap(one)(&many.0)?, &vmap(|a: &Array| segmented(a, &at.1, &segments).1)(&many.0)?);
        let pairs = Array::from_slice(&[0, 2, 1, 6, 3, 3], [3, 1, 2]);
        let one = |s: &Array| at.0.segmented_mm(&at.1, s);
        close(&vmap(one)(&pairs)?.squeeze(1), &ours(&at));
        Ok(())
    }

    /// Out of bounds in one example must not reach into the next one.
    #[test]
    fn batches_keep_their_indices_to_themselves() -> Result<()> {
        let (a, b) = (matrix(&[5, 2, 3, 6], 0.0), matrix(&[6, 4], 1.0));
        for bad in [2, -3] {
            let pick = Array::from_slice(&[bad], [1]);
            let y = vmap(|a: &Array| a.gather_mm(&b, Some(&pick), None))(&a)?;
            assert_eq!(y.eval().unwrap_err().kind(), ErrorKind::Index);
        }
        for (from, to) in [(0, 7), (-1, 2), (3, 2), (7, 8)] {
            let pair = Array::from_slice(&[from, to], [1, 2]);
            let y = vmap(|a: &Array| a.segmented_mm(&b, &pair))(&a.at_index(1, 0))?;
            assert_eq!(y.eval().unwrap_err().kind(), ErrorKind::Index, "{from}..{to}");
        }
        Ok(())
    }
}

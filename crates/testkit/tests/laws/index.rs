//! Cases of reading and writing by index.

use crate::case::{ALL, AROUND, Case, Domain, Input, REAL};
use lazul_core::{Array, DType, Index, Slice};
use lazul_ir::ScatterOp;

const I32: DType = DType::I32;

pub(crate) fn gather() -> Vec<Case> {
    let take = |shape: &[usize], index: &[usize], axis: i64, dtype: DType| {
        let n = shape[axis.rem_euclid(shape.len() as i64) as usize];
        let inputs = vec![Input::numbers(shape, AROUND), Input::indices(index, n, dtype)];
        let name = format!("take {shape:?} {dtype}{index:?} along {axis}");
        Case::new(name, ALL, inputs, move |x| x[0].take(&x[1], axis)).exact()
    };
    vec![
        take(&[4, 3], &[5], 0, I32),
        take(&[2, 3], &[2, 2], 1, DType::I64),
        take(&[2, 3, 2], &[2], 1, DType::U8),
        take(&[3], &[], 0, DType::U32),
        take(&[3, 2], &[0], 0, I32),
        take(&[3, 0], &[2], 0, I32),
        pick(&[3, 4, 2], &[0, 1], &[&[2, 1], &[3]]),
        pick(&[3, 2, 4], &[0, 2], &[&[3], &[3]]),
        pick(&[2, 2], &[0, 1], &[&[], &[]]),
    ]
}

/// Elements at places that index arrays name, one for each of some axes.
fn pick(shape: &[usize], axes: &[usize], indices: &[&[usize]]) -> Case {
    let mut inputs = vec![Input::numbers(shape, AROUND)];
    inputs.extend(indices.iter().zip(axes).map(|(i, &a)| Input::indices(i, shape[a], I32)));
    let name = format!("index {shape:?} axes {axes:?} {indices:?}");
    let axes = axes.to_vec();
    let f = move |x: &[Array]| {
        let word = |a: usize| match axes.iter().position(|&b| b == a) {
            Some(i) => Index::Array(x[1 + i].clone()),
            None => Index::Slice(Slice::ALL),
        };
        let words: Vec<Index> = (0..=axes[axes.len() - 1]).map(word).collect();
        x[0].index(words)
    };
    Case::new(name, ALL, inputs, f).exact()
}

pub(crate) fn gather_axis() -> Vec<Case> {
    let take = |shape: &[usize], index: &[usize], axis: i64, dtype: DType| {
        let n = shape[axis.rem_euclid(shape.len() as i64) as usize];
        let inputs = vec![Input::numbers(shape, AROUND), Input::indices(index, n, dtype)];
        let name = format!("take_along_axis {shape:?} {dtype}{index:?} along {axis}");
        Case::new(name, ALL, inputs, move |x| x[0].take_along_axis(&x[1], axis)).exact()
    };
    vec![
        take(&[3, 4], &[3, 2], 1, I32),
        take(&[3, 2], &[4, 2], 0, DType::U32),
        take(&[1, 4], &[3, 2], 1, DType::I64),
        take(&[3, 4], &[1, 2], -1, I32),
        take(&[4], &[3], 0, DType::I16),
        take(&[2, 3], &[2, 0], 1, I32),
    ]
}

pub(crate) fn scatter(op: ScatterOp) -> Vec<Case> {
    type F = fn(&Array, &[Array], &Array) -> Array;
    let (f, domain, dtypes): (F, Domain, &[DType]) = match op {
        ScatterOp::Assign => (|x, i, v| x.at(i).set(v), AROUND, ALL),
        ScatterOp::Add => (|x, i, v| x.at(i).add(v), AROUND, ALL),
        ScatterOp::Multiply => (|x, i, v| x.at(i).multiply(v), Domain::WithZeros, ALL),
        ScatterOp::Min => (|x, i, v| x.at(i).minimum(v), AROUND, REAL),
        ScatterOp::Max => (|x, i, v| x.at(i).maximum(v), AROUND, REAL),
    };
    // The array, shape of each index, updates; duplicates are likely.
    let of: [(&[usize], &[&[usize]], &[usize]); 7] = [
        (&[3, 2], &[&[5]], &[5, 2]),
        (&[3, 2], &[&[4], &[4]], &[4]),
        (&[3, 2], &[&[2, 1], &[3]], &[2, 3]),
        (&[4], &[&[2, 3]], &[3]),
        (&[4], &[&[]], &[]),
        (&[3, 2], &[&[0]], &[0, 2]),
        (&[3, 0], &[&[2]], &[2, 0]),
    ];
    let case = |(shape, indices, updates): (&[usize], &[&[usize]], &[usize])| {
        let mut inputs = vec![Input::numbers(shape, domain), Input::numbers(updates, domain)];
        inputs.extend(indices.iter().zip(shape).map(|(i, &n)| Input::indices(i, n, I32)));
        let name = format!("scatter {op:?} {shape:?} at {indices:?} of {updates:?}");
        Case::new(name, dtypes, inputs, move |x| f(&x[0], &x[2..], &x[1]))
    };
    of.into_iter().map(case).collect()
}

pub(crate) fn scatter_axis() -> Vec<Case> {
    type F = fn(&Array, &Array, &Array, i64) -> Array;
    let put: F = |x, i, v, axis| x.put_along_axis(i, v, axis);
    let add: F = |x, i, v, axis| x.add_along_axis(i, v, axis);
    let of: [(&[usize], &[usize], &[usize], i64); 5] = [
        (&[3, 4], &[3, 5], &[3, 5], 1),
        (&[3, 2], &[4, 2], &[2], 0),
        (&[3, 4], &[1, 2], &[], 1),
        (&[4], &[3], &[3], 0),
        (&[2, 3], &[2, 0], &[2, 0], 1),
    ];
    let case = |(name, f): (&str, F),
                (shape, index, values, axis): (&[usize], &[usize], &[usize], i64)| {
        let inputs = vec![
            Input::numbers(shape, AROUND),
            Input::indices(index, shape[axis as usize], I32),
            Input::numbers(values, AROUND),
        ];
        let name = format!("{name}_along_axis {shape:?} {index:?} {values:?} along {axis}");
        Case::new(name, ALL, inputs, move |x| f(&x[0], &x[1], &x[2], axis))
    };
    [("put", put), ("add", add)].into_iter().flat_map(|f| of.map(|s| case(f, s))).collect()
}

pub(crate) fn slice_update() -> Vec<Case> {
    let update = |shape: &[usize], block: &[usize], starts: &[i64]| {
        let inputs = vec![Input::numbers(shape, AROUND), Input::numbers(block, AROUND)];
        let name = format!("slice_update {shape:?} with {block:?} at {starts:?}");
        let starts = starts.to_vec();
        Case::new(name, ALL, inputs, move |x| x[0].slice_update(&x[1], &starts)).exact()
    };
    vec![
        update(&[3, 4], &[2, 2], &[1, 2]),
        update(&[4], &[1], &[3]),
        update(&[3, 2], &[0, 2], &[3, 0]),
        update(&[2, 2], &[2, 2], &[0, 0]),
        update(&[], &[], &[]),
    ]
}

pub(crate) fn dynamic_slice() -> Vec<Case> {
    let slice = |shape: &[usize], axes: &[i64], sizes: &[usize], dtype: DType| {
        let most: Vec<usize> =
            axes.iter().map(|&a| shape[a as usize] - sizes[a as usize]).collect();
        let inputs = vec![Input::numbers(shape, AROUND), Input::starts(&most, dtype)];
        let name = format!("dynamic_slice {shape:?} axes {axes:?} sizes {sizes:?} {dtype}");
        let (axes, sizes) = (axes.to_vec(), sizes.to_vec());
        Case::new(name, ALL, inputs, move |x| x[0].dynamic_slice(&x[1], &axes, &sizes)).exact()
    };
    vec![
        slice(&[4, 3], &[0], &[2, 3], I32),
        slice(&[4, 3], &[1, 0], &[2, 2], DType::I64),
        slice(&[2, 5, 3], &[1], &[2, 2, 3], DType::U32),
        slice(&[5], &[0], &[1], DType::U8),
        slice(&[3, 2], &[0], &[0, 2], I32),
    ]
}

pub(crate) fn dynamic_slice_update() -> Vec<Case> {
    let update = |shape: &[usize], axes: &[i64], block: &[usize], dtype: DType| {
        let most: Vec<usize> =
            axes.iter().map(|&a| shape[a as usize] - block[a as usize]).collect();
        let inputs = vec![
            Input::numbers(shape, AROUND),
            Input::numbers(block, AROUND),
            Input::starts(&most, dtype),
        ];
        let name = format!("dynamic_slice_update {shape:?} axes {axes:?} block {block:?} {dtype}");
        let axes = axes.to_vec();
        Case::new(name, ALL, inputs, move |x| x[0].dynamic_slice_update(&x[1], &x[2], &axes))
            .exact()
    };
    vec![
        update(&[4, 3], &[0], &[2, 3], I32),
        update(&[4, 3], &[1, 0], &[2, 2], DType::I64),
        update(&[2, 5, 2], &[1], &[2, 2, 2], DType::U32),
        update(&[5], &[0], &[1], DType::U8),
        update(&[3, 2], &[0], &[0, 2], I32),
    ]
}

//! Reading and writing at computed positions: gather, scatter, and slices whose start is data.
//!
//! Every index is checked before it is used: a negative one counts from the end, one out of bounds
//! is an [`ErrorKind::Index`] error that names it, its axis and the axis's length, and nothing outside
//! of operands and outputs is ever touched. Of several bad indices the first in row-major order
//! is reported, whatever the number of threads.

mod axis;
mod gather;
mod scatter;
mod slice;

pub(crate) use axis::{gather_axis, scatter_axis};
pub(crate) use gather::gather;
pub(crate) use scatter::scatter;
pub(crate) use slice::{dynamic_slice, dynamic_slice_update, slice_update};

use crate::rows::read_int;
use crate::strided::Collapsed;
use lazul_ir::{DType, ErrorKind, OpError, Operand};
use smallvec::SmallVec;
use std::sync::Mutex;

/// The position that `index` names on an axis of `size`, or `None` when out of bounds.
#[inline(always)]
fn resolve(index: i64, size: usize) -> Option<usize> {
    let at = if index < 0 { index.wrapping_add(size as i64) } else { index };
    if (at as u64) < size as u64 { Some(at as usize) } else { None }
}

/// The bad index that comes first in row-major order, gathered from parallel chunks.
#[derive(Default)]
struct Faults(Mutex<Option<(usize, i64, usize, usize)>>);

impl Faults {
    #[cold]
    fn add(&self, place: usize, index: i64, axis: usize, size: usize) {
        let mut first = self.0.lock().unwrap_or_else(|e| e.into_inner());
        if first.is_none_or(|f| place < f.0) {
            *first = Some((place, index, axis, size));
        }
    }

    fn result(self, op: &'static str) -> Result<(), OpError> {
        match self.0.into_inner().unwrap_or_else(|e| e.into_inner()) {
            None => Ok(()),
            Some((_, index, axis, size)) => Err(out_of_bounds(op, index, axis, size)),
        }
    }
}

fn out_of_bounds(op: &'static str, index: i64, axis: usize, size: usize) -> OpError {
    let message = format!("index {index} is out of bounds for axis {axis} of size {size}");
    OpError::new(ErrorKind::Index, op, message)
}

/// Calls `f(linear, offsets, length)` for each run along the last merged axis of the row-major
/// positions `start..end`; `offsets` are the operands' positions at the start of the run.
#[inline(always)]
fn runs<const N: usize>(
    c: &Collapsed,
    start: usize,
    end: usize,
    mut f: impl FnMut(usize, [isize; N], usize),
) {
    if start >= end {
        return;
    }
    let inner = c.shape.len() - 1;
    let mut index: SmallVec<[usize; 6]> = SmallVec::from_elem(0, inner + 1);
    let mut rest = start;
    for i in (0..=inner).rev() {
        index[i] = rest % c.shape[i];
        rest /= c.shape[i];
    }
    let mut at: [isize; N] = std::array::from_fn(|o| {
        index.iter().zip(&c.strides[o]).map(|(&i, &s)| i as isize * s).sum()
    });
    let mut linear = start;
    while linear < end {
        let length = (c.shape[inner] - index[inner]).min(end - linear);
        f(linear, at, length);
        linear += length;
        // Next row: the last axis starts over, the axes before it count up.
        for o in 0..N {
            at[o] -= index[inner] as isize * c.strides[o][inner];
        }
        index[inner] = 0;
        for i in (0..inner).rev() {
            index[i] += 1;
            for o in 0..N {
                at[o] += c.strides[o][i];
            }
            if index[i] < c.shape[i] {
                break;
            }
            for o in 0..N {
                at[o] -= index[i] as isize * c.strides[o][i];
            }
            index[i] = 0;
        }
    }
}

/// Reads `dst.len()` indices from row-major position `start` on.
///
/// # Safety
/// The operand's memory must be live and hold that many; `c` must be its collapsed layout.
unsafe fn read_indices(operand: &Operand<'_>, c: &Collapsed, start: usize, dst: &mut [i64]) {
    let step = c.strides[0][c.shape.len() - 1];
    runs::<1>(c, start, start + dst.len(), |linear, [at], length| {
        // SAFETY: the caller vouches for the elements.
        unsafe { read_run(operand, at, step, &mut dst[linear - start..][..length]) };
    });
}

/// Reads the indices at positions `first`, `first + step`, ….
///
/// # Safety
/// They must be elements of a live operand.
#[inline]
unsafe fn read_run(operand: &Operand<'_>, first: isize, step: isize, dst: &mut [i64]) {
    macro_rules! read {
        ($t:ty) => {{
            let from = operand.ptr.cast::<$t>().wrapping_offset(first);
            for (i, d) in dst.iter_mut().enumerate() {
                // SAFETY: the caller vouches for the element.
                *d = unsafe { *from.offset(i as isize * step) } as i64;
            }
        }};
    }
    match operand.dtype {
        DType::I32 => read!(i32),
        DType::U32 => read!(u32),
        DType::I64 => read!(i64),
        dtype => {
            for (i, d) in dst.iter_mut().enumerate() {
                let offset = (first + i as isize * step) * dtype.size() as isize;
                // SAFETY: as above.
                *d = unsafe { read_int(operand.ptr.offset(offset), dtype) };
            }
        }
    }
}

/// Picks the unsigned integer type of an element size and runs the block with `$t` as it.
macro_rules! by_size {
    ($size:expr, $t:ident => $body:expr) => {
        match $size {
            1 => {
                type $t = u8;
                $body
            }
            2 => {
                type $t = u16;
                $body
            }
            4 => {
                type $t = u32;
                $body
            }
            _ => {
                type $t = u64;
                $body
            }
        }
    };
}
use by_size;

/// Strides of row-major memory of `shape`.
fn row_major(shape: &[usize]) -> SmallVec<[isize; 6]> {
    let mut strides = SmallVec::from_elem(0, shape.len());
    let mut step = 1isize;
    for i in (0..shape.len()).rev() {
        strides[i] = step;
        step *= shape[i].max(1) as isize;
    }
    strides
}

#[cfg(test)]
mod tests {
    use crate::testing::{Rng, Tensor, inline, layouts, row_major, run, run_update, try_run};
    use lazul_ir::{DType, ErrorKind, Prim, Scalar, ScatterOp, Work};

    const INTEGERS: [DType; 8] = [
        DType::U8,
        DType::U16,
        DType::U32,
        DType::U64,
        DType::I8,
        DType::I16,
        DType::I32,
        DType::I64,
    ];
    const OPS: [ScatterOp; 5] =
        [ScatterOp::Assign, ScatterOp::Add, ScatterOp::Multiply, ScatterOp::Min, ScatterOp::Max];

    /// Indices into an axis of `size`, from both ends where the dtype has a sign.
    fn indices(rng: &mut Rng, dtype: DType, shape: &[usize], size: usize) -> Tensor {
        let n = shape.iter().product();
        let low = if dtype.is_signed_integer() { -(size as f64) } else { 0.0 };
        let values: Vec<f64> = (0..n).map(|_| rng.uniform(low, size as f64).floor()).collect();
        Tensor::from_f64(&values, dtype, shape)
    }

    fn wrap(index: f64, size: usize) -> usize {
        (if index < 0.0 { index + size as f64 } else { index }) as usize
    }

    /// Row-major coordinates of a position.
    fn coordinates(mut linear: usize, shape: &[usize]) -> Vec<usize> {
        let mut out = vec![0; shape.len()];
        for i in (0..shape.len()).rev() {
            out[i] = linear % shape[i];
            linear /= shape[i];
        }
        out
    }

    fn linear(index: &[usize], shape: &[usize]) -> usize {
        index.iter().zip(shape).fold(0, |x, (&i, &d)| x * d + i)
    }

    /// For each element of `I ++ others`, its position in the indexed array.
    fn places(shape: &[usize], axes: &[u8], indices: &[&Tensor]) -> Vec<usize> {
        let others: Vec<usize> = (0..shape.len()).filter(|&a| !axes.contains(&(a as u8))).collect();
        let rest: usize = others.iter().map(|&a| shape[a]).product();
        let values: Vec<Vec<f64>> = indices.iter().map(|t| t.to_f64()).collect();
        let tuples = indices.first().map_or(1, |t| t.size());
        let mut out = Vec::new();
        for tuple in 0..tuples {
            for r in 0..rest {
                let mut at = vec![0; shape.len()];
                let dims: Vec<usize> = others.iter().map(|&a| shape[a]).collect();
                for (&a, c) in others.iter().zip(coordinates(r, &dims)) {
                    at[a] = c;
                }
                for (&a, v) in axes.iter().zip(&values) {
                    at[a as usize] = wrap(v[tuple], shape[a as usize]);
                }
                out.push(linear(&at, shape));
            }
        }
        out
    }

    fn gathered_shape(shape: &[usize], axes: &[u8], index: &[usize]) -> Vec<usize> {
        let others = (0..shape.len()).filter(|&a| !axes.contains(&(a as u8))).map(|a| shape[a]);
        index.iter().copied().chain(others).collect()
    }

    #[test]
    fn gather_of_every_dtype_and_layout() {
        let mut rng = Rng(1);
        let shape = [4, 6, 5];
        for dtype in DType::ALL {
            let src = rng.tensor(dtype, &shape, -50.0, 50.0);
            for axes in [vec![0u8], vec![1], vec![2], vec![2, 0], vec![0, 1, 2]] {
                for index_dtype in INTEGERS {
                    let index: Vec<Tensor> = axes
                        .iter()
                        .map(|&a| indices(&mut rng, index_dtype, &[3, 7], shape[a as usize]))
                        .collect();
                    let index: Vec<&Tensor> = index.iter().collect();
                    let places = places(&shape, &axes, &index);
                    let bits = src.bits();
                    let want: Vec<u64> = places.iter().map(|&p| bits[p]).collect();
                    let out = gathered_shape(&shape, &axes, &[3, 7]);
                    let prim = Prim::Gather { axes: axes.iter().copied().collect() };
                    for (name, src) in layouts(&src) {
                        let inputs: Vec<&Tensor> =
                            std::iter::once(&src).chain(index.clone()).collect();
                        assert_eq!(
                            run(&prim, &inputs, dtype, &out).bits(),
                            want,
                            "{name} {axes:?}"
                        );
                    }
                }
            }
            // Indices of any layout; a broadcast source.
            let index = indices(&mut rng, DType::I32, &[3, 4], 6);
            let wide = src.broadcast(&[2, 4, 6, 5]);
            let bits = wide.bits();
            let want: Vec<u64> =
                places(&[2, 4, 6, 5], &[2], &[&index]).iter().map(|&p| bits[p]).collect();
            for (name, index) in layouts(&index) {
                let prim = Prim::Gather { axes: [2].into_iter().collect() };
                let got = run(&prim, &[&wide, &index], dtype, &[3, 4, 2, 4, 5]);
                assert_eq!(got.bits(), want, "{name}");
            }
        }
    }

    #[test]
    fn gather_of_many_and_of_long_rows_and_of_nothing() {
        let mut rng = Rng(2);
        let table = rng.tensor(DType::BF16, &[11, 40_000], -1.0, 1.0);
        let bits = table.bits();
        for n in [0, 1, 5] {
            let index = indices(&mut rng, DType::I64, &[n], 11);
            let want: Vec<u64> =
                places(&[11, 40_000], &[0], &[&index]).iter().map(|&p| bits[p]).collect();
            let prim = Prim::Gather { axes: [0].into_iter().collect() };
            assert_eq!(run(&prim, &[&table, &index], DType::BF16, &[n, 40_000]).bits(), want);
        }
        let src = rng.tensor(DType::F32, &[999], -1.0, 1.0);
        let index = indices(&mut rng, DType::U16, &[100_003], 999);
        let (bits, at) = (src.bits(), index.to_f64());
        let prim = Prim::Gather { axes: [0].into_iter().collect() };
        let got = run(&prim, &[&src, &index], DType::F32, &[100_003]).bits();
        assert!(got.iter().zip(&at).all(|(&g, &i)| g == bits[i as usize]));
    }

    #[test]
    fn gather_axis_of_every_dtype_and_layout() {
        let mut rng = Rng(3);
        for dtype in DType::ALL {
            for axis in 0..3 {
                let shape = [3, 4, 5];
                let src = rng.tensor(dtype, &shape, -50.0, 50.0);
                for index_dtype in INTEGERS {
                    let mut out = shape;
                    out[axis] = 7;
                    let index = indices(&mut rng, index_dtype, &out, shape[axis]);
                    let (bits, values) = (src.bits(), index.to_f64());
                    let want: Vec<u64> = (0..index.size())
                        .map(|i| {
                            let mut at = coordinates(i, &out);
                            at[axis] = wrap(values[i], shape[axis]);
                            bits[linear(&at, &shape)]
                        })
                        .collect();
                    let prim = Prim::GatherAxis { axis: axis as u8 };
                    for ((name, src), (_, index)) in layouts(&src).into_iter().zip(layouts(&index))
                    {
                        assert_eq!(run(&prim, &[&src, &index], dtype, &out).bits(), want, "{name}");
                    }
                }
            }
        }
    }

    /// Applies updates one after the other in f64; f16 and bf16 are rounded at the end.
    fn applied(src: &Tensor, places: &[usize], updates: &Tensor, op: ScatterOp) -> Vec<u64> {
        let (mut values, news) = (src.to_f64(), updates.to_f64());
        let dtype = src.dtype;
        let mut bits = src.bits();
        for (&p, (&u, &b)) in places.iter().zip(news.iter().zip(&updates.bits())) {
            let old = values[p];
            let new = match op {
                ScatterOp::Assign => u,
                ScatterOp::Add => old + u,
                ScatterOp::Multiply => old * u,
                ScatterOp::Min => old.min(u),
                ScatterOp::Max => old.max(u),
            };
            let bounded = if dtype == DType::Bool { (new != 0.0) as u8 as f64 } else { new };
            values[p] = bounded;
            bits[p] =
                if op == ScatterOp::Assign { b } else { Scalar::from_f64(bounded, dtype).bits };
        }
        bits
    }

    #[test]
    fn scatter_of_every_dtype_operation_and_layout() {
        let mut rng = Rng(4);
        let shape = [4, 6, 5];
        for dtype in DType::ALL {
            // Small numbers, so that no result wraps or rounds.
            let src = rng.tensor(dtype, &shape, 0.0, 3.0);
            let src = Tensor::from_f64(
                &src.to_f64().iter().map(|x| x.floor()).collect::<Vec<_>>(),
                dtype,
                &shape,
            );
            for axes in [vec![0u8], vec![1], vec![2], vec![2, 0], vec![0, 1, 2]] {
                let index: Vec<Tensor> = axes
                    .iter()
                    .map(|&a| indices(&mut rng, DType::I32, &[2, 3], shape[a as usize]))
                    .collect();
                let index: Vec<&Tensor> = index.iter().collect();
                let places = places(&shape, &axes, &index);
                let dims = gathered_shape(&shape, &axes, &[2, 3]);
                let values: Vec<f64> = (0..places.len()).map(|_| rng.below(3) as f64).collect();
                let updates = Tensor::from_f64(&values, dtype, &dims);
                for op in OPS {
                    let prim = Prim::Scatter { op, axes: axes.iter().copied().collect() };
                    let want = applied(&src, &places, &updates, op);
                    for (name, updates) in layouts(&updates) {
                        let inputs: Vec<&Tensor> =
                            std::iter::once(&src).chain(index.clone()).chain([&updates]).collect();
                        let got = run_update(&prim, &inputs).unwrap().bits();
                        assert_eq!(got, want, "{dtype} {axes:?} {op:?} {name}");
                    }
                }
            }
            for axis in 0..3 {
                let mut dims = shape;
                dims[axis] = 9;
                let index = indices(&mut rng, DType::I64, &dims, shape[axis]);
                let at = index.to_f64();
                let places: Vec<usize> = (0..index.size())
                    .map(|i| {
                        let mut c = coordinates(i, &dims);
                        c[axis] = wrap(at[i], shape[axis]);
                        linear(&c, &shape)
                    })
                    .collect();
                let values: Vec<f64> = (0..places.len()).map(|_| rng.below(3) as f64).collect();
                let updates = Tensor::from_f64(&values, dtype, &dims);
                for op in OPS {
                    let prim = Prim::ScatterAxis { op, axis: axis as u8 };
                    let want = applied(&src, &places, &updates, op);
                    for ((name, updates), (_, index)) in
                        layouts(&updates).iter().zip(layouts(&index))
                    {
                        let got = run_update(&prim, &[&src, &index, updates]).unwrap().bits();
                        assert_eq!(got, want, "{dtype} axis {axis} {op:?} {name}");
                    }
                }
            }
        }
    }

    #[test]
    fn many_updates_collide_in_order_on_any_number_of_threads() {
        let mut rng = Rng(5);
        for dtype in [DType::F32, DType::BF16, DType::I32] {
            for (rows, width, count) in
                [(50, 1, 60_000), (1000, 3, 9000), (30, 9000, 100), (8, 64, 4000)]
            {
                let src = Tensor::from_f64(&vec![1.0; rows * width], dtype, &[rows, width]);
                let index = indices(&mut rng, DType::I32, &[count], rows);
                let updates = rng.tensor(dtype, &[count, width], -1.0, 1.0);
                let places = places(&[rows, width], &[0], &[&index]);
                for op in [ScatterOp::Assign, ScatterOp::Add] {
                    let prim = Prim::Scatter { op, axes: [0].into_iter().collect() };
                    let got = run_update(&prim, &[&src, &index, &updates]).unwrap();
                    let alone = inline(|| run_update(&prim, &[&src, &index, &updates]).unwrap());
                    assert_eq!(got.bits(), alone.bits());
                    if op == ScatterOp::Assign {
                        assert_eq!(got.bits(), applied(&src, &places, &updates, op));
                        continue;
                    }
                    let mut sums = src.to_f64();
                    for (&p, u) in places.iter().zip(updates.to_f64()) {
                        sums[p] += u;
                    }
                    let tolerance = if dtype == DType::BF16 { 4e-3 } else { 1e-6 };
                    for (g, w) in got.to_f64().iter().zip(&sums) {
                        assert!(
                            (g - w).abs() <= tolerance * w.abs() + 1e-3,
                            "{dtype}: {g}, not {w}"
                        );
                    }
                }
            }
            // One long line along an axis.
            let (n, size) = (70_000, 300);
            let src = Tensor::from_f64(&vec![0.0; size], dtype, &[size]);
            let index = indices(&mut rng, DType::I32, &[n], size);
            let updates = Tensor::from_f64(&vec![1.0; n], dtype, &[n]);
            let prim = Prim::ScatterAxis { op: ScatterOp::Add, axis: 0 };
            let got = run_update(&prim, &[&src, &index, &updates]).unwrap();
            let places = places(&[size], &[0], &[&index]);
            let mut counts = vec![0.0; size];
            places.iter().for_each(|&p| counts[p] += 1.0);
            assert_eq!(got.bits(), Tensor::from_f64(&counts, dtype, &[size]).bits());
            let prim = Prim::ScatterAxis { op: ScatterOp::Assign, axis: 0 };
            let updates = rng.tensor(dtype, &[n], -9.0, 9.0);
            let got = run_update(&prim, &[&src, &index, &updates]).unwrap();
            assert_eq!(got.bits(), applied(&src, &places, &updates, ScatterOp::Assign));
        }
    }

    #[test]
    fn minimum_and_maximum_keep_nan() {
        let src = Tensor::new(&[1.0f32, f32::NAN, 1.0], &[3]);
        let index = Tensor::new(&[0u8, 1, 2, 2], &[4]);
        let updates = Tensor::new(&[f32::NAN, 0.0, f32::NAN, 5.0], &[4]);
        for op in [ScatterOp::Min, ScatterOp::Max] {
            let prim = Prim::Scatter { op, axes: [0].into_iter().collect() };
            let got = run_update(&prim, &[&src, &index, &updates]).unwrap().to_f64();
            assert!(got.iter().all(|x| x.is_nan()));
        }
    }

    #[test]
    fn the_first_bad_index_is_named_and_nothing_is_written() {
        let src = Tensor::new(&[1.0f32; 12], &[4, 3]);
        let cases: [(Tensor, &str); 4] = [
            (Tensor::new(&[0i32, 4, -9], &[3]), "index 4 is out of bounds for axis 0 of size 4"),
            (Tensor::new(&[0i8, -5, 7], &[3]), "index -5 is out of bounds for axis 0 of size 4"),
            (Tensor::new(&[u64::MAX, 0, 0], &[3]), "index 9223372036854775807 is out of bounds"),
            (Tensor::new(&[i64::MIN, 0, 0], &[3]), "index -9223372036854775808 is out of bounds"),
        ];
        for (index, message) in cases {
            let gather = Prim::Gather { axes: [0].into_iter().collect() };
            let mut out = [Tensor::empty(DType::F32, &[3, 3])];
            let e = try_run(Work::Prim(&gather), &[&src, &index], &mut out).unwrap_err();
            assert!(e.kind() == ErrorKind::Index && e.message().contains(message), "{e}");
            assert_eq!(e.op(), "take");
            let scatter = Prim::Scatter { op: ScatterOp::Add, axes: [0].into_iter().collect() };
            let e = run_update(&scatter, &[&src, &index, &Tensor::new(&[1f32; 9], &[3, 3])]);
            assert!(e.err().unwrap().message().contains(message));
            let flat = Tensor::new(&[1.0f32; 4], &[4]);
            let prim = Prim::GatherAxis { axis: 0 };
            let mut out = [Tensor::empty(DType::F32, &[3])];
            let e = try_run(Work::Prim(&prim), &[&flat, &index], &mut out).unwrap_err();
            assert!(e.message().contains(message), "{e}");
            let prim = Prim::ScatterAxis { op: ScatterOp::Assign, axis: 0 };
            let e = run_update(&prim, &[&flat, &index, &Tensor::new(&[1f32; 3], &[3])]);
            assert!(e.err().unwrap().message().contains(message));
        }
        // An axis of length zero has no index at all.
        let gather = Prim::Gather { axes: [0].into_iter().collect() };
        let mut out = [Tensor::empty(DType::F32, &[1, 3])];
        let none = Tensor::empty(DType::F32, &[0, 3]);
        let e = try_run(Work::Prim(&gather), &[&none, &Tensor::new(&[0i32], &[1])], &mut out);
        assert_eq!(e.unwrap_err().kind(), ErrorKind::Index);
        // Of many, the first, however many threads look.
        let mut many = vec![0i32; 200_000];
        many[150_000] = 7;
        many[150_001] = 8;
        many[199_999] = 9;
        let mut out = [Tensor::empty(DType::F32, &[200_000, 3])];
        let e = try_run(Work::Prim(&gather), &[&src, &Tensor::new(&many, &[200_000])], &mut out);
        assert!(e.unwrap_err().message().contains("index 7"));
    }

    #[test]
    fn slices_are_updated_with_any_step_and_layout() {
        let mut rng = Rng(6);
        for dtype in DType::ALL {
            let src = rng.tensor(dtype, &[5, 6, 7], -50.0, 50.0);
            let update = rng.tensor(dtype, &[2, 3, 4], -50.0, 50.0);
            for (starts, steps) in
                [([1, 0, 3], [1, 1, 1]), ([4, 5, 6], [-3, -2, -2]), ([0, 1, 0], [4, 2, 2])]
            {
                let mut want = src.bits();
                for (i, b) in update.bits().into_iter().enumerate() {
                    let c = coordinates(i, &[2, 3, 4]);
                    let at: Vec<usize> =
                        (0..3).map(|a| (starts[a] + c[a] as i64 * steps[a]) as usize).collect();
                    want[linear(&at, &[5, 6, 7])] = b;
                }
                let prim = Prim::SliceUpdate { starts: Box::new(starts), steps: Box::new(steps) };
                for (name, update) in layouts(&update) {
                    assert_eq!(run_update(&prim, &[&src, &update]).unwrap().bits(), want, "{name}");
                }
            }
            let prim =
                Prim::SliceUpdate { starts: Box::new([0, 0, 0]), steps: Box::new([1, 1, 1]) };
            let none = Tensor::empty(dtype, &[0, 6, 7]);
            assert_eq!(run_update(&prim, &[&src, &none]).unwrap().bits(), src.bits());
        }
    }

    #[test]
    fn dynamic_slices_read_and_write_a_block() {
        let mut rng = Rng(7);
        for dtype in [DType::Bool, DType::F16, DType::F32, DType::C64] {
            let src = rng.tensor(dtype, &[5, 6, 7], -50.0, 50.0);
            let update = rng.tensor(dtype, &[2, 6, 4], -50.0, 50.0);
            let axes = || [2u8, 0].into_iter().collect();
            for index_dtype in INTEGERS {
                let start = Tensor::from_f64(&[3.0, 1.0], index_dtype, &[2]);
                let place = |i: usize| {
                    let c = coordinates(i, &[2, 6, 4]);
                    linear(&[c[0] + 1, c[1], c[2] + 3], &[5, 6, 7])
                };
                let bits = src.bits();
                let want: Vec<u64> = (0..48).map(|i| bits[place(i)]).collect();
                for (name, src) in layouts(&src) {
                    let prim = Prim::DynamicSlice { axes: axes() };
                    assert_eq!(
                        run(&prim, &[&src, &start], dtype, &[2, 6, 4]).bits(),
                        want,
                        "{name}"
                    );
                }
                let mut want = bits.clone();
                update.bits().into_iter().enumerate().for_each(|(i, b)| want[place(i)] = b);
                for (name, update) in layouts(&update) {
                    let prim = Prim::DynamicSliceUpdate { axes: axes() };
                    let got = run_update(&prim, &[&src, &update, &start]).unwrap();
                    assert_eq!(got.bits(), want, "{name}");
                }
            }
            for bad in [[4i64, 1], [3, 4], [-1, 0], [0, i64::MIN], [i64::MAX, 0]] {
                let start = Tensor::new(&bad, &[2]);
                let prim = Prim::DynamicSliceUpdate { axes: axes() };
                let e = run_update(&prim, &[&src, &update, &start]).err().unwrap();
                assert_eq!(e.kind(), ErrorKind::Index, "{e}");
                let prim = Prim::DynamicSlice { axes: axes() };
                let mut out = [Tensor::empty(dtype, &[2, 6, 4])];
                let e = try_run(Work::Prim(&prim), &[&src, &start], &mut out).unwrap_err();
                assert!(e.message().contains("out of bounds for axis"), "{e}");
            }
        }
    }

    #[test]
    fn an_operand_donated_to_the_output_is_read_before_it_is_written() {
        let memory = Tensor::new(&[10.0f32, 11.0, 12.0, 13.0], &[4]);
        let index = Tensor::new(&[3i32, 2, 1, 0], &[4]);
        let mut out = memory.clone();
        let target = out.target();
        let src = lazul_ir::Operand {
            ptr: target.ptr,
            dtype: DType::F32,
            shape: &[4],
            strides: &row_major(&[4]),
        };
        let prim = Prim::Gather { axes: [0].into_iter().collect() };
        let inputs = [src, index.operand()];
        let job = lazul_ir::Job { work: Work::Prim(&prim), inputs: &inputs, outputs: &[target] };
        super::gather(&[0].into_iter().collect(), &job).unwrap();
        assert_eq!(out.to_f64(), [13.0, 12.0, 11.0, 10.0]);
    }
}

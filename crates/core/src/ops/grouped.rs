//! Products of matrices that indices pick from batches, of parts of matrices, and of matrices with
//! blocks masked out.

pub(crate) mod rules;

use super::index::check_index;
use super::{attempt, cast_unchecked, error, prim};
use crate::error::{Error, ErrorKind, Result};
use crate::node::Array;
use crate::ops::creation::arange;
use crate::ops::elementwise::where_;
use crate::scope::call_site;
use lazul_ir::{DType, GroupedOp, Prim, Shape};

/// Which matrices of two batches are multiplied.
pub(crate) struct Pick {
    pub(crate) lhs: Array,
    pub(crate) rhs: Array,
}

impl Pick {
    /// Indices into the batches of `a` and `b`, of two dimensions or more, broadcast to one shape.
    pub(crate) fn new(
        op: &'static str,
        a: &Array,
        b: &Array,
        lhs: Option<&Array>,
        rhs: Option<&Array>,
    ) -> Result<Pick> {
        let own = |x: &Array, given: Option<&Array>| -> Result<Array> {
            if let Some(index) = given {
                check_index(op, index)?;
                return Ok(index.clone());
            }
            let batch: Shape = x.0.shape[..x.0.shape.len() - 2].into();
            let all = arange(batch.size(), DType::I64).reshape(&batch);
            all.check()?;
            Ok(all)
        };
        let (lhs, rhs) = (own(a, lhs)?, own(b, rhs)?);
        let Some(shape) = Shape::broadcast(&lhs.0.shape, &rhs.0.shape) else {
            let why = "left and right indices cannot be broadcast";
            return Err(error(ErrorKind::Shape, op, why, &[&lhs, &rhs]));
        };
        Ok(Pick { lhs: lhs.broadcast_to(&shape), rhs: rhs.broadcast_to(&shape) })
    }

    /// The shape of products of `m` rows and `n` columns.
    pub(crate) fn shape(&self, m: usize, n: usize) -> Shape {
        self.lhs.0.shape.iter().copied().chain([m, n]).collect()
    }
}

impl Array {
    /// Products of matrices that are picked from both batches: `a (…, m, k)` and `b (…, k, n)` →
    /// `(I…, m, n)`.
    ///
    /// Indices are integers and count the matrices of a batch, whatever its axes; negative ones count
    /// from the end, and one out of bounds is an error of the evaluation. Without indices a side's
    /// matrices are taken in order. Both sides' indices broadcast to the shape `I`.
    ///
    /// No matrix is copied. Products that share a right matrix are found and computed as one, so
    /// indices need not be sorted: MLX's `sorted_indices` has no counterpart here.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// // Two tokens, three experts: each token goes to two of them.
    /// let x = ones([2, 1, 1, 4], DType::F32);
    /// let experts = arange(3, DType::F32).reshape([3, 1, 1]) * ones([3, 4, 5], DType::F32);
    /// let pick = Array::from_slice(&[0, 2, 1, 0], [2, 2]);
    /// let y = x.gather_mm(&experts, None, Some(&pick));
    /// assert_eq!(y.shape()?, [2, 2, 1, 5]);
    /// assert_eq!(y.max([-1, -2]).to_vec::<f32>()?, [0.0, 8.0, 4.0, 0.0]);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    #[track_caller]
    pub fn gather_mm(
        &self,
        other: &Array,
        lhs_indices: Option<&Array>,
        rhs_indices: Option<&Array>,
    ) -> Array {
        let (op, site) = ("gather_mm", call_site());
        attempt(|| {
            self.check()?;
            other.check()?;
            let (ra, rb) = (self.0.shape.len(), other.0.shape.len());
            if ra == 0 || rb == 0 {
                let why = "operands need at least one dimension";
                return Err(error(ErrorKind::Shape, op, why, &[self, other]));
            }
            let dtype = DType::promote(self.0.dtype, other.0.dtype);
            let a = if ra == 1 { self.expand_dims(0) } else { self.clone() };
            let b = if rb == 1 { other.expand_dims(1) } else { other.clone() };
            let (&[.., m, k], &[.., kb, n]) = (&a.0.shape[..], &b.0.shape[..]) else {
                unreachable!("both operands have two axes now")
            };
            if k != kb {
                let why = format!("inner dimensions {k} and {kb} differ");
                return Err(error(ErrorKind::Shape, op, why, &[self, other]));
            }
            let pick = Pick::new(op, &a, &b, lhs_indices, rhs_indices)?;
            let mut shape = pick.shape(m, n);
            let [a, b] = [a, b].map(|x| cast_unchecked(&x, dtype, site));
            let inputs = [a, b, pick.lhs, pick.rhs];
            let out = prim(Prim::Grouped(GroupedOp::Gather), inputs, shape.clone(), dtype);
            if rb == 1 {
                shape.remove(shape.len() - 1);
            }
            if ra == 1 {
                shape.remove(shape.len() - if rb == 1 { 1 } else { 2 });
            }
            Ok(out.reshape(&shape))
        })
    }

    /// A product cut into pieces along the inner axis: for `a (m, k)`, `b (k, n)` and integer
    /// `segments (S…, 2)` of first and last positions (exclusive), `(S…, m, n)` holds the product of
    /// each piece. Pieces may overlap, be empty and leave gaps; one that does not ascend, or does not
    /// lie inside `k`, is an error of the evaluation.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// let (a, b) = (ones([2, 4], DType::F32), ones([4, 3], DType::F32));
    /// let y = a.segmented_mm(&b, &Array::from_slice(&[0u32, 1, 1, 4], [2, 2]));
    /// assert_eq!(y.max([-1, -2]).to_vec::<f32>()?, [1.0, 3.0]);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    #[track_caller]
    pub fn segmented_mm(&self, other: &Array, segments: &Array) -> Array {
        let (op, site) = ("segmented_mm", call_site());
        attempt(|| {
            self.check()?;
            other.check()?;
            check_index(op, segments)?;
            let (&[m, k], &[kb, n]) = (&self.0.shape[..], &other.0.shape[..]) else {
                let why = "needs two matrices without batch axes";
                return Err(error(ErrorKind::Shape, op, why, &[self, other]));
            };
            if k != kb {
                let why = format!("inner dimensions {k} and {kb} differ");
                return Err(error(ErrorKind::Shape, op, why, &[self, other]));
            }
            let &[ref lead @ .., 2] = &segments.0.shape[..] else {
                let why = "segments are pairs: their last axis has length 2";
                return Err(error(ErrorKind::Shape, op, why, &[segments]));
            };
            let dtype = DType::promote(self.0.dtype, other.0.dtype);
            let shape = lead.iter().copied().chain([m, n]).collect();
            let [a, b] = [self, other].map(|x| cast_unchecked(x, dtype, site));
            let inputs = [a, b, segments.clone()];
            Ok(prim(Prim::Grouped(GroupedOp::Segments), inputs, shape, dtype))
        })
    }

    /// The product `a (…, m, k) · b (…, k, n)` with blocks masked out.
    ///
    /// Masks have an element for each `block_size × block_size` block of their matrix, those at its
    /// ends possibly smaller. A bool keeps a block or makes it zero, whatever was in it; a number
    /// multiplies it. Batch axes of masks broadcast with those of their matrix. Floats only.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// let (a, b) = (ones([2, 64], DType::F32), ones([64, 3], DType::F32));
    /// let left = Array::from_slice(&[true, false], [1, 2]);
    /// let masks = BlockMasks { lhs: Some(&left), ..Default::default() };
    /// let y = a.block_masked_mm(&b, 32, masks);
    /// assert_eq!(y.to_vec::<f32>()?, [32.0; 6]);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    #[track_caller]
    pub fn block_masked_mm(
        &self,
        other: &Array,
        block_size: usize,
        masks: BlockMasks<'_>,
    ) -> Array {
        let (op, site) = ("block_masked_mm", call_site());
        attempt(|| {
            self.check()?;
            other.check()?;
            if !matches!(block_size, 32 | 64) {
                let why = format!("blocks of {block_size}; 32 and 64 are possible");
                return Err(Error::new(ErrorKind::Value, op, why));
            }
            let dtype = DType::promote(self.0.dtype, other.0.dtype);
            if !dtype.is_inexact() {
                let why = "needs floats";
                return Err(error(ErrorKind::DType, op, why, &[self, other]));
            }
            let (ra, rb) = (self.0.shape.len(), other.0.shape.len());
            if ra == 0 || rb == 0 {
                let why = "operands need at least one dimension";
                return Err(error(ErrorKind::Shape, op, why, &[self, other]));
            }
            let a = if ra == 1 { self.expand_dims(0) } else { self.clone() };
            let b = if rb == 1 { other.expand_dims(1) } else { other.clone() };
            let [a, b] = [a, b].map(|x| cast_unchecked(&x, dtype, site));
            let a = masked(op, &a, masks.lhs, block_size)?;
            let b = masked(op, &b, masks.rhs, block_size)?;
            let product = a.matmul(&b);
            product.check()?;
            let mut out = masked(op, &product, masks.out, block_size)?;
            if rb == 1 {
                out = out.squeeze(-1);
            }
            Ok(if ra == 1 { out.squeeze(if rb == 1 { -1 } else { -2 }) } else { out })
        })
    }
}

/// Masks of [`Array::block_masked_mm`], one element a block.
#[derive(Clone, Copy, Default)]
pub struct BlockMasks<'a> {
    /// Mask of the result, `(…, ⌈m/block⌉, ⌈n/block⌉)`.
    pub out: Option<&'a Array>,
    /// Mask of the left matrix, `(…, ⌈m/block⌉, ⌈k/block⌉)`.
    pub lhs: Option<&'a Array>,
    /// Mask of the right matrix, `(…, ⌈k/block⌉, ⌈n/block⌉)`.
    pub rhs: Option<&'a Array>,
}

/// `x` with blocks masked out or scaled.
fn masked(op: &'static str, x: &Array, mask: Option<&Array>, block: usize) -> Result<Array> {
    let Some(mask) = mask else { return Ok(x.clone()) };
    mask.check()?;
    let &[ref batch @ .., m, n] = &x.0.shape[..] else { unreachable!("a matrix") };
    let (rows, columns) = (m.div_ceil(block), n.div_ceil(block));
    let lead = match &mask.0.shape[..] {
        &[ref lead @ .., r, c] if (r, c) == (rows, columns) => Shape::broadcast(batch, lead),
        _ => None,
    };
    let Some(lead) = lead else {
        let why = format!("a mask of ({rows},{columns}) blocks was expected");
        return Err(error(ErrorKind::Shape, op, why, &[x, mask]));
    };
    if mask.0.dtype == DType::C64 && x.0.dtype != DType::C64 {
        return Err(error(ErrorKind::DType, op, "a complex mask of real numbers", &[x, mask]));
    }
    let mask = mask.repeat(block, -1).slice_axis(-1, 0, n as i64);
    let mask = mask.repeat(block, -2).slice_axis(-2, 0, m as i64);
    let shape: Shape = lead.iter().copied().chain([m, n]).collect();
    let x = x.broadcast_to(&shape);
    Ok(match mask.0.dtype {
        DType::Bool => where_(&mask, &x, x.zeros_like()),
        _ => &x * mask.astype(x.0.dtype),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prelude::*;

    fn matrix(shape: &[usize], seed: f64) -> Array {
        let n: usize = shape.iter().product();
        (arange(n, DType::F32).reshape(shape) * 0.37 + seed).sin()
    }

    #[track_caller]
    fn fails(a: Array, kind: ErrorKind, op: &str) {
        let error = a.eval().unwrap_err();
        assert_eq!((error.kind(), error.op()), (kind, op), "{error}");
    }

    #[track_caller]
    fn close(a: &Array, b: &Array) {
        assert_eq!(a.shape().unwrap(), b.shape().unwrap());
        let error = (a - b).abs().max(..).item::<f32>().unwrap();
        assert!(error < 1e-5, "{error}: {a} is not {b}");
    }

    #[test]
    fn indices_of_either_side_or_none() -> Result<()> {
        let (a, b) = (matrix(&[2, 3, 4, 5], 0.0), matrix(&[3, 5, 6], 1.0));
        close(&a.gather_mm(&b, None, None), &a.matmul(&b));
        let one = Array::from_slice(&[5u8, 0, 1], [3]);
        let flat = a.reshape([6, 4, 5]);
        close(&a.gather_mm(&b, Some(&one), None), &flat.take(&one, 0).matmul(&b));
        let two = Array::from_slice(&[2, -1, 0, 1], [4, 1]);
        let got = a.gather_mm(&b, Some(&one), Some(&two));
        close(&got, &flat.take(&one, 0).matmul(&b.take(&two, 0)));
        let single = flat.at_index(0, 0);
        let zeros = one.zeros_like();
        close(&single.gather_mm(&b, None, Some(&zeros)), &single.matmul(&b.take(&zeros, 0)));
        let v = matrix(&[5], 2.0);
        assert_eq!(v.gather_mm(&b, None, Some(&two)).shape()?, [4, 1, 6]);
        assert_eq!(a.gather_mm(&v, Some(&one), None).shape()?, [3, 4]);
        assert_eq!(v.gather_mm(&v, None, None).shape()?, [0usize; 0]);
        let half = a.astype(DType::F16).gather_mm(&b.astype(DType::BF16), None, None);
        assert_eq!(half.dtype()?, DType::F32);
        Ok(())
    }

    #[test]
    fn bad_gathers() {
        let (op, a, b) = ("gather_mm", matrix(&[2, 4, 5], 0.0), matrix(&[3, 5, 6], 1.0));
        fails(a.gather_mm(&b, None, None), ErrorKind::Shape, op);
        fails(a.gather_mm(&a, None, None), ErrorKind::Shape, op);
        fails(Array::scalar(1f32).gather_mm(&b, None, None), ErrorKind::Shape, op);
        let floats = zeros([2], DType::F32);
        fails(a.gather_mm(&b, Some(&floats), None), ErrorKind::DType, op);
        for bad in [3, -4] {
            let pick = Array::from_slice(&[0, bad], [2]);
            fails(a.gather_mm(&b, None, Some(&pick)), ErrorKind::Index, op);
        }
        let none = zeros([0, 4, 5], DType::F32);
        fails(
            none.gather_mm(&b, Some(&Array::scalar(0)), Some(&Array::scalar(0))),
            ErrorKind::Index,
            op,
        );
        fails(a.matmul(&a).gather_mm(&b, None, None), ErrorKind::Shape, "matmul");
    }

    #[test]
    fn bad_segments() {
        let (op, a, b) = ("segmented_mm", matrix(&[4, 5], 0.0), matrix(&[5, 6], 1.0));
        let pair = |x: i32, y: i32| Array::from_slice(&[x, y], [1, 2]);
        assert_eq!(a.segmented_mm(&b, &zeros([0, 2], DType::U32)).shape().unwrap(), [0, 4, 6]);
        fails(a.segmented_mm(&a, &pair(0, 1)), ErrorKind::Shape, op);
        fails(a.expand_dims(0).segmented_mm(&b, &pair(0, 1)), ErrorKind::Shape, op);
        fails(a.segmented_mm(&b, &zeros([3], DType::U32)), ErrorKind::Shape, op);
        fails(a.segmented_mm(&b, &Array::scalar(0)), ErrorKind::Shape, op);
        fails(a.segmented_mm(&b, &zeros([1, 2], DType::F32)), ErrorKind::DType, op);
        for (x, y) in [(0, 6), (3, 2), (-1, 2)] {
            fails(a.segmented_mm(&b, &pair(x, y)), ErrorKind::Index, op);
        }
    }

    #[test]
    fn masks_keep_scale_and_forget() -> Result<()> {
        let (a, b) = (matrix(&[2, 40, 70], 0.0), matrix(&[70, 33], 1.0));
        let kept = [[true, false, true], [true, true, false]];
        let left = Array::from_slice(&kept.concat(), [2, 3]);
        let full = |m: &Array| m.repeat(32, 0).repeat(32, 1);
        let plain = full(&left).slice_axis(0, 0, 40).slice_axis(1, 0, 70);
        let masks = BlockMasks { lhs: Some(&left), ..Default::default() };
        let want = (&a * plain.astype(DType::F32)).matmul(&b);
        close(&a.block_masked_mm(&b, 32, masks), &want);
        // What is masked out is gone, even if it is no number.
        let nan = where_(&plain, &a, f32::NAN);
        close(&nan.block_masked_mm(&b, 32, masks), &want);
        let out = Array::from_slice(&[2f32, 1.0, 0.5, 0.0], [2, 2]);
        let masks = BlockMasks { out: Some(&out), ..Default::default() };
        let scales = full(&out).slice_axis(0, 0, 40).slice_axis(1, 0, 33);
        close(&a.block_masked_mm(&b, 32, masks), &(a.matmul(&b) * &scales));
        let masks = BlockMasks { rhs: Some(&ones([2, 1], DType::I32)), ..Default::default() };
        close(&a.block_masked_mm(&b, 64, masks), &a.matmul(&b));
        let batch = stack(&[out.clone(), out.zeros_like()], 0);
        let masks = BlockMasks { out: Some(&batch), ..Default::default() };
        let got = a.at_index(0, 0).block_masked_mm(&b, 32, masks);
        assert_eq!(got.shape()?, [2, 40, 33]);
        let v = matrix(&[70], 2.0);
        let masks = BlockMasks {
            out: Some(&Array::from_slice(&[false, true], [1, 2])),
            ..Default::default()
        };
        let y = v.block_masked_mm(&b, 32, masks);
        close(&y.slice_axis(0, 32, 33), &v.matmul(&b).slice_axis(0, 32, 33));
        assert_eq!(y.slice_axis(0, 0, 32).abs().max(..).item::<f32>()?, 0.0);
        Ok(())
    }

    #[test]
    fn bad_masks() {
        let (op, a, b) = ("block_masked_mm", matrix(&[40, 70], 0.0), matrix(&[70, 33], 1.0));
        let none = BlockMasks::default();
        fails(a.block_masked_mm(&b, 16, none), ErrorKind::Value, op);
        fails(a.block_masked_mm(&a, 32, none), ErrorKind::Shape, "matmul");
        let whole = a.astype(DType::I32).block_masked_mm(&b.astype(DType::I32), 32, none);
        fails(whole, ErrorKind::DType, op);
        for shape in [vec![2], vec![2, 2], vec![3, 2], vec![5, 2, 3]] {
            let mask = ones(&shape, DType::Bool);
            let lhs = BlockMasks { lhs: Some(&mask), ..Default::default() };
            let a = a.expand_dims(0).broadcast_to([2, 40, 70]);
            fails(a.block_masked_mm(&b, 32, lhs), ErrorKind::Shape, op);
        }
    }
}

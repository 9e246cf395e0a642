//! The loss of classification, over vocabularies of any size.

use super::float_only;
use crate::error::{ErrorKind, Result};
use crate::node::Array;
use crate::ops::{attempt, error};
use lazul_ir::DType;

/// Cross entropy of classes: `logsumexp(logits, -1) - logits[…, target]`.
///
/// `logits (…, classes)` of a float dtype, `targets (…)` of an integer dtype, each in `0..classes` (negative ones
/// count from the end). The result has the shape of `targets` and is f32 (f64 for f64 logits); sums are taken in
/// that dtype too. Source: MLX's `fast.cross_entropy`.
///
/// ```
/// use lazul_core::prelude::*;
/// let logits = Array::from_slice(&[2.0f32, -1.0, -1.0, 2.0], [2, 2]).astype(DType::BF16);
/// let loss = fast::cross_entropy(&logits, &Array::from_slice(&[0, 1], [2]));
/// assert_eq!(loss.dtype()?, DType::F32);
/// assert!((loss.to_vec::<f32>()?[0] - 0.048_587).abs() < 1e-6);
/// # Ok::<(), lazul_core::Error>(())
/// ```
///
/// # Errors
/// Of the result: if the dtypes or shapes are others; a class that does not exist, when it is evaluated.
#[track_caller]
pub fn cross_entropy(logits: &Array, targets: &Array) -> Array {
    attempt(|| {
        logits.check()?;
        targets.check()?;
        float_only("cross_entropy", logits)?;
        check_targets(logits, targets)?;
        let dtype = if logits.0.dtype == DType::F64 { DType::F64 } else { DType::F32 };
        let score = logits.take_along_axis(&targets.expand_dims(-1), -1).squeeze(-1);
        Ok(logits.astype(dtype).logsumexp(-1) - score.astype(dtype))
    })
}

fn check_targets(logits: &Array, targets: &Array) -> Result<()> {
    if !targets.0.dtype.is_integer() {
        let why = "targets are classes, of an integer dtype";
        return Err(error(ErrorKind::DType, "cross_entropy", why, &[logits, targets]));
    }
    match logits.0.shape.split_last() {
        Some((_, rest)) if *rest == targets.0.shape[..] => Ok(()),
        _ => {
            let why = "targets need the shape of the logits without the last axis";
            Err(error(ErrorKind::Shape, "cross_entropy", why, &[logits, targets]))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prelude::*;

    #[test]
    fn halves_are_summed_in_single_precision() {
        // Each of 5000 classes weighs as much: in f16 their sum would be infinite times too coarse.
        let x = (arange(10_000, DType::F32) * 0.37).sin().reshape([2, 5000]).astype(DType::F16);
        let classes = Array::from_slice(&[17i64, -1], [2]);
        let loss = cross_entropy(&x, &classes).to_vec::<f32>().unwrap();
        let wide = cross_entropy(&x.astype(DType::F64), &classes).to_vec::<f64>().unwrap();
        for (a, b) in loss.iter().zip(&wide) {
            assert!((*a as f64 - b).abs() < 1e-5, "{a} {b}");
        }
        let classes = Array::from_slice(&[0u8, 5], [2]);
        let slope = grad(|x: &Array| cross_entropy(x, &classes).sum(..))(&x).unwrap();
        let p = x.astype(DType::F32).softmax(-1);
        let expected = &p - p.zeros_like().at((0, 0)).set(1).at((1, 5)).set(1);
        let far = (slope.astype(DType::F32) - expected).abs().max(..).item::<f32>().unwrap();
        assert!(slope.dtype().unwrap() == DType::F16 && far < 1e-3, "{far}");
    }

    #[test]
    fn wrong_operands() {
        let x = zeros([2, 3], DType::F32);
        let kind = |x: &Array, t: &Array| cross_entropy(x, t).check().unwrap_err().kind();
        assert_eq!(kind(&x, &zeros([2], DType::F32)), ErrorKind::DType);
        assert_eq!(kind(&x, &zeros([3], DType::I32)), ErrorKind::Shape);
        assert_eq!(kind(&x.astype(DType::I32), &zeros([2], DType::I32)), ErrorKind::DType);
        assert_eq!(kind(&Array::scalar(1.0f32), &Array::scalar(0)), ErrorKind::Shape);
        let high = Array::from_slice(&[0, 3], [2]);
        assert_eq!(cross_entropy(&x, &high).eval().unwrap_err().kind(), ErrorKind::Index);
    }
}

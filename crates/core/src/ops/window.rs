//! Windows of signal processing: weights that fall off toward the ends, as f32 vectors.

use crate::node::Array;
use crate::ops::creation::{arange, ones};
use lazul_ir::DType;
use std::f64::consts::PI;

/// A window of `m` weights from the places `0 .. m` and the last of them, in f64; a single weight is 1.
#[track_caller]
fn window(m: usize, weights: impl FnOnce(Array, f64) -> Array) -> Array {
    if m <= 1 {
        return ones([m], DType::F32);
    }
    weights(arange(m, DType::F64), (m - 1) as f64).astype(DType::F32)
}

/// The triangle from 0 up to 1 in the middle and down to 0.
///
/// ```
/// use lazul_core::bartlett;
/// assert_eq!(bartlett(5).to_vec::<f32>()?, [0.0, 0.5, 1.0, 0.5, 0.0]);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[track_caller]
pub fn bartlett(m: usize) -> Array {
    window(m, |i, last| 1.0 - (i * (2.0 / last) - 1.0).abs())
}

/// The raised cosine: `0.5 - 0.5 cos(2 pi i / (m - 1))`.
///
/// ```
/// use lazul_core::hanning;
/// assert_eq!(hanning(3).to_vec::<f32>()?, [0.0, 1.0, 0.0]);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[track_caller]
pub fn hanning(m: usize) -> Array {
    window(m, |i, last| 0.5 - (i * (2.0 * PI / last)).cos() * 0.5)
}

/// The raised cosine that does not reach 0: `0.54 - 0.46 cos(2 pi i / (m - 1))`.
///
/// ```
/// use lazul_core::hamming;
/// assert_eq!(hamming(3).to_vec::<f32>()?, [0.08, 1.0, 0.08]);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[track_caller]
pub fn hamming(m: usize) -> Array {
    window(m, |i, last| 0.54 - (i * (2.0 * PI / last)).cos() * 0.46)
}

/// Three terms of cosines: `0.42 - 0.5 cos(2 pi i / (m - 1)) + 0.08 cos(4 pi i / (m - 1))`.
///
/// ```
/// use lazul_core::blackman;
/// let w = blackman(3).to_vec::<f32>()?;
/// assert!(w[0].abs() < 1e-7 && (w[1] - 1.0).abs() < 1e-7);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[track_caller]
pub fn blackman(m: usize) -> Array {
    window(m, |i, last| {
        let angle = i * (2.0 * PI / last);
        0.42 - angle.cos() * 0.5 + (angle * 2.0).cos() * 0.08
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_of_few_places() {
        for window in [bartlett, hanning, hamming, blackman] {
            assert_eq!(window(0).shape().unwrap(), &[0]);
            assert_eq!(window(1).to_vec::<f32>().unwrap(), [1.0]);
            assert_eq!(window(2).shape().unwrap(), &[2]);
        }
        assert!(hanning(usize::MAX).check().is_err());
    }
}

//! The Walsh–Hadamard transform.
//!
//! A Hadamard matrix of order `m * 2^k` is the Kronecker product of one of order `m`, from the tables
//! below, and of `k` times `[[1, 1], [1, -1]]`. The transform takes these factors one after another,
//! several of order two at a time, as products with small matrices.

use super::{attempt, error};
use crate::error::{ErrorKind, Result};
use crate::node::Array;
use lazul_ir::DType;

/// Twos of an order that one product takes together, at most.
const TWOS: usize = 6;

impl Array {
    /// The Walsh–Hadamard transform along the last axis, times `scale`, by default `1/√n`, with which
    /// it is orthonormal.
    ///
    /// The axis has a length `n = m * 2^k` with `m` one of 1, 12, 20 and 28; the matrices are those of
    /// MLX. Computed in float32 for half precision, which is rounded once; integers give float32.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// let x = Array::from_slice(&[1.0f32, 2.0, 3.0, 4.0], [4]);
    /// assert_eq!(x.hadamard_transform(None).to_vec::<f32>()?, [5.0, -1.0, -2.0, 0.0]);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    #[track_caller]
    pub fn hadamard_transform(&self, scale: Option<f64>) -> Array {
        attempt(|| {
            self.check()?;
            let n = self.0.shape.last().copied().unwrap_or(1);
            let power = |m: usize| (n.is_multiple_of(m) && (n / m).is_power_of_two()).then_some(m);
            let Some(m) = [1, 12, 20, 28].into_iter().find_map(power) else {
                let why =
                    format!("a last axis of {n}; m * 2^k with m = 1, 12, 20 or 28 is possible");
                return Err(error(ErrorKind::Shape, "hadamard_transform", why, &[self]));
            };
            let out = if self.0.dtype.is_inexact() { self.0.dtype } else { DType::F32 };
            let compute = if matches!(out, DType::F16 | DType::BF16) { DType::F32 } else { out };
            let mut x = self.astype(compute);
            // The axis as (before, factor, after), for one factor after another.
            let mut after = n;
            for factor in factors(m, (n / m).trailing_zeros() as usize) {
                after /= factor;
                let h = matrix(factor, compute)?;
                // (…, factor, after), or rows where nothing comes after.
                x = if after == 1 {
                    x.reshape([-1, factor as i64]).matmul(&h.t())
                } else {
                    h.matmul(&x.reshape([-1, factor as i64, after as i64]))
                };
            }
            let scale = scale.unwrap_or(1.0 / (n as f64).sqrt());
            Ok((x.reshape(&self.0.shape) * scale).astype(out))
        })
    }
}

/// Orders whose product is `m * 2^twos`: `m` first, then twos, about as many to each.
fn factors(m: usize, twos: usize) -> Vec<usize> {
    let parts = twos.div_ceil(TWOS);
    let rest = (0..parts).map(|i| 1 << (twos * (i + 1) / parts - twos * i / parts));
    (m > 1).then_some(m).into_iter().chain(rest).collect()
}

/// The Hadamard matrix of an order that is a power of two or in the tables.
fn matrix(order: usize, dtype: DType) -> Result<Array> {
    let rows: Option<&[&str]> = match order {
        12 => Some(&H12),
        20 => Some(&H20),
        28 => Some(&H28),
        _ => None,
    };
    let sign = |i: usize, j: usize| match rows {
        Some(rows) => rows[i].as_bytes()[j] == b'+',
        None => (i & j).count_ones().is_multiple_of(2),
    };
    let entries: Vec<f32> = (0..order * order)
        .map(|at| if sign(at / order, at % order) { 1.0 } else { -1.0 })
        .collect();
    let matrix = Array::from_slice(&entries, [order, order]).astype(dtype);
    matrix.check()?;
    Ok(matrix)
}

/// Order 12.
const H12: [&str; 12] = [
    "+-++++++++++",
    "--+-+-+-+-+-",
    "+++-++----++",
    "+---+--+-++-",
    "+++++-++----",
    "+-+---+--+-+",
    "++--+++-++--",
    "+--++---+--+",
    "++----+++-++",
    "+--+-++---+-",
    "++++----+++-",
    "+-+--+-++---",
];

/// Order 20.
const H20: [&str; 20] = [
    "+----+----++--++-++-",
    "-+----+---+++---+-++",
    "--+----+---+++-+-+-+",
    "---+----+---+++++-+-",
    "----+----++--++-++-+",
    "-+++++-----+--+++--+",
    "+-+++-+---+-+--+++--",
    "++-++--+---+-+--+++-",
    "+++-+---+---+-+--+++",
    "++++-----++--+-+--++",
    "--++-+-++-+-----++++",
    "---++-+-++-+---+-+++",
    "+---++-+-+--+--++-++",
    "++---++-+----+-+++-+",
    "-++---++-+----+++++-",
    "-+--+--++-+----+----",
    "+-+-----++-+----+---",
    "-+-+-+---+--+----+--",
    "--+-+++------+----+-",
    "+--+--++------+----+",
];

/// Order 28.
const H28: [&str; 28] = [
    "+------++----++-+--+-+--++--",
    "-+-----+++-----+-+--+-+--++-",
    "--+-----+++---+-+-+----+--++",
    "---+-----+++---+-+-+-+--+--+",
    "----+-----+++---+-+-+++--+--",
    "-----+-----++++--+-+--++--+-",
    "------++----++-+--+-+--++--+",
    "--++++-+-------++--+++-+--+-",
    "---++++-+-----+-++--+-+-+--+",
    "+---+++--+----++-++--+-+-+--",
    "++---++---+----++-++--+-+-+-",
    "+++---+----+----++-++--+-+-+",
    "++++--------+-+--++-++--+-+-",
    "-++++--------+++--++--+--+-+",
    "-+-++-++--++--+--------++++-",
    "+-+-++--+--++--+--------++++",
    "-+-+-++--+--++--+----+---+++",
    "+-+-+-++--+--+---+---++---++",
    "++-+-+-++--+------+--+++---+",
    "-++-+-+-++--+------+-++++---",
    "+-++-+---++--+------+-++++--",
    "-++--++-+-++-+++----++------",
    "+-++--++-+-++-+++-----+-----",
    "++-++---+-+-++-+++-----+----",
    "-++-++-+-+-+-+--+++-----+---",
    "--++-++++-+-+----+++-----+--",
    "+--++-+-++-+-+----+++-----+-",
    "++--++-+-++-+-+----++------+",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prelude::*;

    #[test]
    fn rows_are_orthogonal_and_twice_is_once() -> Result<()> {
        for n in [1usize, 2, 4, 12, 20, 24, 28, 40, 64, 112, 128, 8192] {
            if n <= 128 {
                let h = identity(n, DType::F32).hadamard_transform(Some(1.0));
                let square = h.matmul(&h.t());
                let want = identity(n, DType::F32) * n as f64;
                assert!(square.array_equal(&want, false).item::<bool>()?, "{n}");
            }
            if n.is_power_of_two() {
                let x = (arange(3 * n, DType::F32).reshape([3, n]) * 0.37).sin();
                let back = x.hadamard_transform(None).hadamard_transform(None);
                assert!((back - &x).abs().max(..).item::<f32>()? < 1e-5, "{n}");
            }
        }
        Ok(())
    }

    #[test]
    fn orders_that_split() {
        assert_eq!(factors(1, 0), [0usize; 0]);
        assert_eq!(factors(12, 0), [12]);
        assert_eq!(factors(1, 6), [64]);
        assert_eq!(factors(1, 13), [16, 16, 32]);
        assert_eq!(factors(28, 7), [28, 8, 16]);
    }

    #[test]
    fn dtypes_and_bad_lengths() -> Result<()> {
        let x = Array::from_slice(&[1, 2, 3, 5], [2, 2]);
        let y = x.hadamard_transform(Some(1.0));
        assert_eq!(y.to_vec::<f32>()?, [3.0, -1.0, 8.0, -2.0]);
        for dtype in [DType::F16, DType::BF16, DType::F64, DType::C64] {
            let y = x.astype(dtype).hadamard_transform(Some(1.0));
            assert_eq!(y.dtype()?, dtype);
            assert_eq!(y.real().astype(DType::F32).to_vec::<f32>()?, [3.0, -1.0, 8.0, -2.0]);
        }
        assert_eq!(Array::scalar(3f32).hadamard_transform(None).item::<f32>()?, 3.0);
        for n in [0, 3, 36, 7 * 28] {
            let error = zeros([2, n], DType::F32).hadamard_transform(None).check().unwrap_err();
            assert_eq!((error.kind(), error.op()), (ErrorKind::Shape, "hadamard_transform"));
        }
        assert_eq!(zeros([0, 24], DType::F32).hadamard_transform(None).shape()?, [0, 24]);
        Ok(())
    }

    #[test]
    fn it_is_its_own_kind_of_gradient() -> Result<()> {
        for n in [16, 24] {
            let x = (arange(n, DType::F32) * 0.37).sin();
            let c = (arange(n, DType::F32) * 0.73).cos();
            let h = identity(n, DType::F32).hadamard_transform(None); // row i is column i of H
            let g = grad(|x: &Array| (x.hadamard_transform(None) * &c).sum(..))(&x)?;
            let want = h.matmul(&c);
            assert!((g - want).abs().max(..).item::<f32>()? < 1e-5);
        }
        Ok(())
    }
}

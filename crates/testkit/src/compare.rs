//! Judging one array against another.
//!
//! A value passes if `|ours - theirs| <= atol + rtol * |theirs|`. NaN equals NaN and nothing else,
//! infinities must be equal, integers of 64 bits are compared as integers. Dtype and shape must be
//! equal.

use lazul_core::{Array, Complex32, DType, bf16, f16};

/// How near values must be.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rule {
    /// Relative to theirs.
    pub rtol: f64,
    /// Absolute.
    pub atol: f64,
    /// Whether zeros must have the same sign.
    pub signed_zero: bool,
}

impl Rule {
    /// Equal values, zeros of equal sign. Any NaN is any other.
    pub const EXACT: Rule = Rule { rtol: 0.0, atol: 0.0, signed_zero: true };
}

/// The elements of an array in a type that holds them all.
#[derive(Clone, Debug)]
pub enum Values {
    /// Of an integer dtype or bool.
    Int(Vec<i128>),
    /// Of a float dtype.
    Real(Vec<f64>),
    /// Of complex64.
    Complex(Vec<[f64; 2]>),
}

impl Values {
    /// Evaluates `x` and reads it.
    ///
    /// # Errors
    /// As the evaluation.
    pub fn of(x: &Array) -> lazul_core::Result<Values> {
        macro_rules! int {
            ($ty:ty) => {
                Values::Int(x.to_vec::<$ty>()?.into_iter().map(|v| v as i128).collect())
            };
        }
        Ok(match x.dtype()? {
            DType::Bool => int!(bool),
            DType::U8 => int!(u8),
            DType::U16 => int!(u16),
            DType::U32 => int!(u32),
            DType::U64 => int!(u64),
            DType::I8 => int!(i8),
            DType::I16 => int!(i16),
            DType::I32 => int!(i32),
            DType::I64 => int!(i64),
            DType::F16 => Values::Real(x.to_vec::<f16>()?.iter().map(|v| v.to_f64()).collect()),
            DType::BF16 => Values::Real(x.to_vec::<bf16>()?.iter().map(|v| v.to_f64()).collect()),
            DType::F32 => Values::Real(x.to_vec::<f32>()?.iter().map(|&v| v as f64).collect()),
            DType::F64 => Values::Real(x.to_vec::<f64>()?),
            DType::C64 => {
                let parts = |v: Complex32| [v.re as f64, v.im as f64];
                Values::Complex(x.to_vec::<Complex32>()?.into_iter().map(parts).collect())
            }
        })
    }
}

impl Rule {
    fn int(&self, ours: i128, theirs: i128) -> bool {
        ours == theirs
            || (ours - theirs).abs() as f64 <= self.atol + self.rtol * theirs.abs() as f64
    }

    fn real(&self, ours: f64, theirs: f64) -> bool {
        if ours.is_nan() || theirs.is_nan() {
            return ours.is_nan() && theirs.is_nan();
        }
        if self.signed_zero && ours == 0.0 && theirs == 0.0 {
            return ours.is_sign_negative() == theirs.is_sign_negative();
        }
        ours == theirs
            || theirs.is_finite() && (ours - theirs).abs() <= self.atol + self.rtol * theirs.abs()
    }

    /// Finite numbers by their distance, others part by part.
    fn complex(&self, ours: [f64; 2], theirs: [f64; 2]) -> bool {
        if self.real(ours[0], theirs[0]) && self.real(ours[1], theirs[1]) {
            return true;
        }
        let all_finite = ours.iter().chain(&theirs).all(|v| v.is_finite());
        let distance = (ours[0] - theirs[0]).hypot(ours[1] - theirs[1]);
        all_finite && distance <= self.atol + self.rtol * theirs[0].hypot(theirs[1])
    }
}

/// Whether `ours` is `theirs` by `rule`; what differs, in words, if not.
///
/// # Errors
/// A description of the difference: dtype, shape, or how many elements and the worst of them.
pub fn compare(ours: &Array, theirs: &Array, rule: Rule) -> Result<(), String> {
    let text = |e: lazul_core::Error| format!("error: {e}");
    let (shape, expected) = (ours.shape().map_err(text)?, theirs.shape().map_err(text)?);
    let (dtype, wanted) = (ours.dtype().map_err(text)?, theirs.dtype().map_err(text)?);
    if shape != expected || dtype != wanted {
        return Err(format!("got {dtype}{shape:?}, expected {wanted}{expected:?}"));
    }
    let (a, b) = (Values::of(ours).map_err(text)?, Values::of(theirs).map_err(text)?);
    let (bad, n): (Vec<(usize, String)>, usize) = match (a, b) {
        (Values::Int(a), Values::Int(b)) => differences(&a, &b, |x, y| rule.int(x, y)),
        (Values::Real(a), Values::Real(b)) => differences(&a, &b, |x, y| rule.real(x, y)),
        (Values::Complex(a), Values::Complex(b)) => differences(&a, &b, |x, y| rule.complex(x, y)),
        _ => return Err("dtypes of different kinds".to_string()),
    };
    if bad.is_empty() {
        return Ok(());
    }
    let first: Vec<&str> = bad.iter().take(4).map(|(_, s)| s.as_str()).collect();
    let count = bad.len();
    Err(format!("{dtype}{shape:?}: {count} of {n} differ: {}", first.join("; ")))
}

fn differences<T: Copy + std::fmt::Debug>(
    ours: &[T],
    theirs: &[T],
    same: impl Fn(T, T) -> bool,
) -> (Vec<(usize, String)>, usize) {
    let pairs = ours.iter().zip(theirs).enumerate();
    let bad = pairs
        .filter(|(_, (a, b))| !same(**a, **b))
        .map(|(i, (a, b))| (i, format!("[{i}] {a:?}, expected {b:?}")))
        .collect();
    (bad, ours.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_for_special_values() {
        let near = Rule { rtol: 1e-3, atol: 0.0, signed_zero: false };
        assert!(
            near.real(f64::NAN, f64::NAN) && !near.real(0.0, f64::NAN) && !near.real(f64::NAN, 0.0)
        );
        assert!(
            near.real(f64::INFINITY, f64::INFINITY) && !near.real(f64::INFINITY, f64::NEG_INFINITY)
        );
        assert!(!near.real(1e300, f64::INFINITY) && !near.real(f64::INFINITY, 1e300));
        assert!(near.real(-0.0, 0.0) && !Rule::EXACT.real(-0.0, 0.0));
        assert!(near.real(1.0005, 1.0) && !near.real(1.002, 1.0));
        assert!(!Rule::EXACT.int(i64::MAX as i128, i64::MAX as i128 - 1));
    }

    #[test]
    fn shapes_and_dtypes_count() {
        let x = Array::from_slice(&[1.0f32], [1]);
        assert!(compare(&x, &x, Rule::EXACT).is_ok());
        assert!(compare(&x, &x.reshape(()), Rule::EXACT).is_err());
        assert!(compare(&x, &x.astype(DType::F64), Rule::EXACT).is_err());
    }
}

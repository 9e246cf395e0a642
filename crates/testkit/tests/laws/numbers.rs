//! Arrays as plain numbers on the host: products, differences, and how near two lists of arrays are.

use crate::case::Case;
use lazul_core::{Array, Complex32, DType, Result, jvp, vjp};
use lazul_testkit::{Rule, Values, compare};

/// The numbers of an inexact array, real and imaginary parts one after the other; none of others.
pub(crate) fn flat(a: &Array) -> Result<Vec<f64>> {
    Ok(match Values::of(a)? {
        Values::Int(_) => Vec::new(),
        Values::Real(v) => v,
        Values::Complex(v) => v.into_iter().flatten().collect(),
    })
}

/// The numbers of several arrays, one after the other.
pub(crate) fn all_flat(arrays: &[Array]) -> Result<Vec<f64>> {
    Ok(arrays.iter().map(flat).collect::<Result<Vec<_>>>()?.concat())
}

/// The array of such numbers that has the shape and dtype of `like`.
pub(crate) fn unflat(numbers: &[f64], like: &Array) -> Result<Array> {
    let (shape, dtype) = (like.shape()?, like.dtype()?);
    Ok(match dtype {
        DType::C64 => {
            let pairs = numbers.chunks(2).map(|p| Complex32::new(p[0] as f32, p[1] as f32));
            Array::from_slice(&pairs.collect::<Vec<_>>(), shape)
        }
        d => Array::from_slice(numbers, shape).astype(d),
    })
}

/// The product of two lists of numbers.
pub(crate) fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Arguments moved by `t` along `v`; those that are no numbers stay.
pub(crate) fn moved(x: &[Array], v: &[Array], t: f64) -> Result<Vec<Array>> {
    let one = |(x, v): (&Array, &Array)| -> Result<Array> {
        Ok(if x.dtype()?.is_inexact() { x + v * t } else { x.clone() })
    };
    x.iter().zip(v).map(one).collect()
}

/// How finite differences are taken in a dtype, and how near a derivative must be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step {
    pub(crate) h: f64,
    pub(crate) bound: f64,
}

impl Step {
    pub(crate) fn of(dtype: DType) -> Step {
        match dtype {
            DType::F64 => Step { h: 1e-3, bound: 1e-7 },
            _ => Step { h: 0.04, bound: 2e-3 },
        }
    }

    /// The derivative at 0 of numbers that depend on one: central differences of fourth order.
    /// Numbers that are infinite stay so nearby, and have the derivative zero.
    pub(crate) fn slope(&self, f: impl Fn(f64) -> Result<Vec<f64>>) -> Result<Vec<f64>> {
        let h = self.h;
        let [a, b, c, d] = [f(h)?, f(-h)?, f(2.0 * h)?, f(-2.0 * h)?];
        let one = |i: usize| {
            if a[i].is_infinite() && a[i] == b[i] {
                return 0.0;
            }
            (8.0 * (a[i] - b[i]) - (c[i] - d[i])) / (12.0 * h)
        };
        Ok((0..a.len()).map(one).collect())
    }
}

/// The lowest precision among dtypes in which a case computes.
pub(crate) fn coarsest(case: &Case, dtype: DType, arrays: &[Array]) -> Result<DType> {
    let rank = |d: DType| match d {
        DType::BF16 => 0,
        DType::F16 => 1,
        DType::C64 | DType::F32 => 2,
        _ => 3,
    };
    let mut all = vec![dtype];
    all.extend(case.inner);
    for a in arrays {
        all.extend(Some(a.dtype()?).filter(|d| d.is_inexact()));
    }
    Ok(all.into_iter().min_by_key(|d| rank(*d)).unwrap_or(dtype))
}

/// Half a unit in the last place of 1.
pub(crate) fn unit(dtype: DType) -> f64 {
    match dtype {
        DType::BF16 => 2f64.powi(-8),
        DType::F16 => 2f64.powi(-11),
        DType::C64 | DType::F32 => 2f64.powi(-24),
        _ => 2f64.powi(-53),
    }
}

/// Whether numbers agree, by the largest of them.
pub(crate) fn near(ours: &[f64], theirs: &[f64], bound: f64) -> Result<(), String> {
    if ours.len() != theirs.len() {
        return Err(format!("{} numbers, expected {}", ours.len(), theirs.len()));
    }
    let scale = theirs.iter().fold(1.0f64, |m, v| if v.is_finite() { m.max(v.abs()) } else { m });
    for (i, (a, b)) in ours.iter().zip(theirs).enumerate() {
        let same = a == b || a.is_nan() && b.is_nan() || (a - b).abs() <= bound * scale;
        if !same {
            return Err(format!("number {i} is {a:e}, expected {b:e}, scale {scale:.1e}"));
        }
    }
    Ok(())
}

/// Whether arrays are equal in number, shapes and dtypes, and their values bit for bit or within a bound.
pub(crate) fn alike(ours: &[Array], theirs: &[Array], bound: Option<f64>) -> Result<(), String> {
    if ours.len() != theirs.len() {
        return Err(format!("{} arrays, expected {}", ours.len(), theirs.len()));
    }
    for (i, (a, b)) in ours.iter().zip(theirs).enumerate() {
        let inexact = b.dtype().is_ok_and(|d| d.is_inexact());
        let outcome = match bound {
            Some(bound) if inexact => same_form(a, b).and_then(|()| {
                let text = |e: lazul_core::Error| format!("error: {e}");
                near(&flat(a).map_err(text)?, &flat(b).map_err(text)?, bound)
            }),
            _ => compare(a, b, Rule::EXACT),
        };
        outcome.map_err(|why| format!("array {i}: {why}"))?;
    }
    Ok(())
}

/// Whether shape and dtype agree.
pub(crate) fn same_form(a: &Array, b: &Array) -> Result<(), String> {
    let form = |x: &Array| -> Result<String> { Ok(format!("{}{:?}", x.dtype()?, x.shape()?)) };
    match (form(a), form(b)) {
        (Ok(a), Ok(b)) if a == b => Ok(()),
        (Ok(a), Ok(b)) => Err(format!("got {a}, expected {b}")),
        (Err(e), _) | (_, Err(e)) => Err(format!("error: {e}")),
    }
}

/// Cotangents of arguments.
pub(crate) fn pull(case: &Case, x: &[Array], u: &[Array]) -> Result<Vec<Array>> {
    Ok(vjp(|x: &Vec<Array>| case.call(x), &x.to_vec(), &u.to_vec())?.1)
}

/// Tangents of results.
pub(crate) fn push(case: &Case, x: &[Array], v: &[Array]) -> Result<Vec<Array>> {
    Ok(jvp(|x: &Vec<Array>| case.call(x), &x.to_vec(), &v.to_vec())?.1)
}

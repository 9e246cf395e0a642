//! complex64 arithmetic. Functions beyond `+ - *` are computed in double precision and rounded
//! once, which also keeps intermediate squares from overflowing.

use lazul_ir::Complex32;
use num_complex::Complex64;

/// Applies a function of doubles.
#[inline(always)]
pub(super) fn wide(z: Complex32, f: impl FnOnce(Complex64) -> Complex64) -> Complex32 {
    let w = f(Complex64::new(z.re as f64, z.im as f64));
    Complex32::new(w.re as f32, w.im as f32)
}

#[inline(always)]
pub(super) fn mul(a: Complex32, b: Complex32) -> Complex32 {
    Complex32::new(a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re)
}

#[inline(always)]
pub(super) fn div(a: Complex32, b: Complex32) -> Complex32 {
    let (ar, ai, br, bi) = (a.re as f64, a.im as f64, b.re as f64, b.im as f64);
    let d = br * br + bi * bi;
    Complex32::new(((ar * br + ai * bi) / d) as f32, ((ai * br - ar * bi) / d) as f32)
}

#[inline(always)]
pub(super) fn abs(z: Complex32) -> f32 {
    let (re, im) = (z.re as f64, z.im as f64);
    let r = (re * re + im * im).sqrt() as f32;
    if z.re.is_infinite() | z.im.is_infinite() { f32::INFINITY } else { r }
}

/// `z / |z|`, and 0 for 0.
#[inline(always)]
pub(super) fn sign(z: Complex32) -> Complex32 {
    let (re, im) = (z.re as f64, z.im as f64);
    let r = (re * re + im * im).sqrt();
    let r = if r == 0.0 { 1.0 } else { r };
    Complex32::new((re / r) as f32, (im / r) as f32)
}

#[inline]
pub(super) fn recip64(z: Complex64) -> Complex64 {
    let d = z.re * z.re + z.im * z.im;
    Complex64::new(z.re / d, -z.im / d)
}

/// Accurate near `|z| = 1`, where the logarithm's real part vanishes.
#[inline]
pub(super) fn log(z: Complex64) -> Complex64 {
    let (x, y) = (z.re.abs().max(z.im.abs()), z.re.abs().min(z.im.abs()));
    let re = if x > 0.5 && x < 2.0 {
        0.5 * ((x - 1.0) * (x + 1.0) + y * y).ln_1p()
    } else {
        x.hypot(y).ln()
    };
    let re = if z.re.is_nan() || z.im.is_nan() { f64::NAN } else { re };
    Complex64::new(re, z.im.atan2(z.re))
}

#[inline]
pub(super) fn log1p(z: Complex64) -> Complex64 {
    if z.re.abs() < 0.5 && z.im.abs() < 0.5 {
        let re = 0.5 * (z.re * (2.0 + z.re) + z.im * z.im).ln_1p();
        return Complex64::new(re, z.im.atan2(1.0 + z.re));
    }
    log(Complex64::new(1.0 + z.re, z.im))
}

#[inline]
pub(super) fn expm1(z: Complex64) -> Complex64 {
    let (sin, cos) = z.im.sin_cos();
    let half = (0.5 * z.im).sin();
    let e = z.re.exp_m1();
    Complex64::new(e * cos - 2.0 * half * half, (e + 1.0) * sin)
}

#[inline]
pub(super) fn sigmoid(z: Complex64) -> Complex64 {
    recip64(Complex64::new(1.0, 0.0) + (-z).exp())
}

/// `(sinh 2x + i sin 2y) / (cosh 2x + cos 2y)`, and ±1 where the hyperbolic functions overflow.
#[inline]
pub(super) fn tanh(z: Complex64) -> Complex64 {
    if z.re.abs() > 200.0 {
        let im = if z.im.is_finite() { 0f64.copysign((2.0 * z.im).sin()) } else { 0.0 };
        return Complex64::new(1f64.copysign(z.re), im);
    }
    // cosh 2x + cos 2y = 2 (sinh² x + cos² y), without cancellation.
    let (sinh, cosh) = (z.re.sinh(), z.re.cosh());
    let (sin, cos) = z.im.sin_cos();
    let d = sinh * sinh + cos * cos;
    Complex64::new(sinh * cosh / d, sin * cos / d)
}

#[inline]
pub(super) fn tan(z: Complex64) -> Complex64 {
    let w = tanh(Complex64::new(-z.im, z.re));
    Complex64::new(w.im, -w.re)
}

/// Kahan's formulas through square roots of `1 ± z` (Branch cuts for complex elementary functions).
#[inline]
pub(super) fn asin(z: Complex64) -> Complex64 {
    let (a, b) = roots(z);
    let re = z.re.atan2(a.re * b.re - a.im * b.im);
    // Im(conj(sqrt(1 - z)) * sqrt(1 + z))
    let im = (a.re * b.im - a.im * b.re).asinh();
    Complex64::new(re, im)
}

#[inline]
pub(super) fn acos(z: Complex64) -> Complex64 {
    let (a, b) = roots(z);
    let re = 2.0 * a.re.atan2(b.re);
    // Im(conj(sqrt(1 + z)) * sqrt(1 - z))
    let im = (b.re * a.im - b.im * a.re).asinh();
    Complex64::new(re, im)
}

/// `sqrt(1 - z)` and `sqrt(1 + z)`.
#[inline]
fn roots(z: Complex64) -> (Complex64, Complex64) {
    (Complex64::new(1.0 - z.re, -z.im).sqrt(), Complex64::new(1.0 + z.re, z.im).sqrt())
}

#[inline]
pub(super) fn asinh(z: Complex64) -> Complex64 {
    // asinh z = -i asin(iz), asin(w) with w = iz
    let w = asin(Complex64::new(-z.im, z.re));
    Complex64::new(w.im, -w.re)
}

#[inline]
pub(super) fn acosh(z: Complex64) -> Complex64 {
    let a = Complex64::new(z.re - 1.0, z.im).sqrt();
    let b = Complex64::new(z.re + 1.0, z.im).sqrt();
    Complex64::new((a.re * b.re + a.im * b.im).asinh(), 2.0 * a.im.atan2(b.re))
}

#[inline]
pub(super) fn atanh(z: Complex64) -> Complex64 {
    let (x, y) = (z.re, z.im);
    let d = (1.0 - x) * (1.0 - x) + y * y;
    let re = 0.25 * (4.0 * x / d).ln_1p();
    let im = 0.5 * (2.0 * y).atan2((1.0 - x) * (1.0 + x) - y * y);
    Complex64::new(re, im)
}

#[inline]
pub(super) fn atan(z: Complex64) -> Complex64 {
    let w = atanh(Complex64::new(-z.im, z.re));
    Complex64::new(w.im, -w.re)
}

/// `e^(b log a)`; `z^0` is 1, and `0^b` is 0 where `b` has a positive real part.
pub(super) fn pow(a: Complex32, b: Complex32) -> Complex32 {
    if b.re == 0.0 && b.im == 0.0 {
        return Complex32::new(1.0, 0.0);
    }
    if a.re == 0.0 && a.im == 0.0 && b.re > 0.0 {
        return Complex32::new(0.0, 0.0);
    }
    let b = Complex64::new(b.re as f64, b.im as f64);
    // Small whole exponents by products: exact where the result is.
    if b.im == 0.0 && b.re.fract() == 0.0 && b.re.abs() <= 64.0 {
        return wide(a, |z| z.powi(b.re as i32));
    }
    wide(a, |z| (b * log(z)).exp())
}

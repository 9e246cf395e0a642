//! Transcendental functions of f64: the standard library's, and the error function and its inverse,
//! which it lacks.

/// `e^x` and its like, under the names of [`super`].
macro_rules! std_functions {
    ($($name:ident $method:ident;)*) => {$(
        #[inline]
        pub(crate) fn $name(x: f64) -> f64 {
            x.$method()
        }
    )*};
}
std_functions! {
    exp exp; expm1 exp_m1; log ln; log2 log2; log10 log10; log1p ln_1p;
    asin asin; acos acos; atan atan; sinh sinh; cosh cosh; tanh tanh;
}

/// Through `log1p`, without cancellation; odd exactly.
#[inline]
pub(crate) fn asinh(x: f64) -> f64 {
    let a = x.abs();
    let y = if a > 1e150 {
        a.ln() + std::f64::consts::LN_2
    } else {
        (a + a * a / (1.0 + (a * a + 1.0).sqrt())).ln_1p()
    };
    y.copysign(x)
}

/// NaN below 1.
#[inline]
pub(crate) fn acosh(x: f64) -> f64 {
    if x > 1e150 {
        return x.ln() + std::f64::consts::LN_2;
    }
    let t = x - 1.0;
    if t < 0.0 { f64::NAN } else { (t + (t * (x + 1.0)).sqrt()).ln_1p() }
}

/// Through `log1p`; odd exactly.
#[inline]
pub(crate) fn atanh(x: f64) -> f64 {
    let a = x.abs();
    (0.5 * (2.0 * a / (1.0 - a)).ln_1p()).copysign(x)
}

#[inline]
pub(crate) fn sigmoid(x: f64) -> f64 {
    let e = (-x.abs()).exp();
    let y = if x < 0.0 { e } else { 1.0 };
    y / (1.0 + e)
}

#[inline]
pub(crate) fn pow(a: f64, b: f64) -> f64 {
    a.powf(b)
}

#[inline]
pub(crate) fn atan2(a: f64, b: f64) -> f64 {
    a.atan2(b)
}

#[inline]
pub(crate) fn logaddexp(a: f64, b: f64) -> f64 {
    let (high, low) = if a > b { (a, b) } else { (b, a) };
    if a.is_nan() || b.is_nan() {
        f64::NAN
    } else if high.is_infinite() {
        high
    } else {
        high + (low - high).exp().ln_1p()
    }
}

/// `c[0] + c[1] x + c[2] x² + …`
#[inline(always)]
pub(crate) fn poly<const N: usize>(x: f64, c: [f64; N]) -> f64 {
    let mut y = c[N - 1];
    for k in (0..N - 1).rev() {
        y = y.mul_add(x, c[k]);
    }
    y
}

/// Error function: `x P(x²)` below 1, `1 - erfc(x)` above.
pub(crate) fn erf(x: f64) -> f64 {
    let a = x.abs();
    if a < 1.0 {
        // Relative error 2^-62.
        const P: [f64; 13] = [
            std::f64::consts::FRAC_2_SQRT_PI,
            -0.3761263890318375,
            0.11283791670954857,
            -0.026866170645072893,
            0.005223977624780861,
            -0.0008548326978741865,
            0.00012055331036887063,
            -1.492559350658369e-05,
            1.6460972812048818e-06,
            -1.6350025169603512e-07,
            1.465787948579141e-08,
            -1.136566459391442e-09,
            5.945259463190106e-11,
        ];
        return x * poly(x * x, P);
    }
    (1.0 - erfc_above_one(a)).copysign(x)
}

/// `erfc(x)` for `x >= 1` (NaN for NaN).
fn erfc_above_one(x: f64) -> f64 {
    // `e^(x²) erfc(x) (x + 3)` in `(x - 3) / (x + 3)`, for x from 1 to 28; relative error 2^-56.
    const Q: [f64; 19] = [
        1.0740069070883398,
        -0.8833944531698842,
        0.5902283571041034,
        -0.31046726190048823,
        0.11952776128711659,
        -0.026827234627892615,
        -0.0012124166199510439,
        0.0030340620657705224,
        -0.0005483098391186995,
        -0.00027677846750021745,
        0.00010756311050626394,
        3.0401246163461698e-05,
        -1.748072267231656e-05,
        -4.755653320238356e-06,
        2.801145963904567e-06,
        9.945260075161952e-07,
        -4.732389951693876e-07,
        -1.9274824345409665e-07,
        9.297735425759595e-08,
    ];
    if x > 28.0 {
        return 0.0;
    }
    // x² in two parts, so that the exponential keeps its relative accuracy.
    let s = f64::from_bits(x.to_bits() & 0xffff_ffff_f800_0000);
    let scale = (-s * s).exp() * ((s - x) * (s + x)).exp();
    scale * poly((x - 3.0) / (x + 3.0), Q) / (x + 3.0)
}

/// Inverse error function: a single-precision guess, then Newton's (Halley's) steps.
pub(crate) fn erfinv(x: f64) -> f64 {
    let a = x.abs();
    if a >= 1.0 || a.is_nan() {
        return if a == 1.0 { f64::INFINITY.copysign(x) } else { f64::NAN };
    }
    // Winitzki's approximation.
    let l = (-a * a).ln_1p();
    let k = 2.0 / (std::f64::consts::PI * 0.147) + 0.5 * l;
    let mut y = ((k * k - l / 0.147).sqrt() - k).max(0.0).sqrt();
    if a < 1e-3 {
        y = a * (0.5 * std::f64::consts::PI.sqrt());
    }
    for _ in 0..3 {
        // erf(y) - a, by the complement where that keeps more digits.
        let error = if y < 1.0 { erf(y) - a } else { (1.0 - a) - erfc_above_one(y) };
        let slope = std::f64::consts::FRAC_2_SQRT_PI * (-y * y).exp();
        let step = error / slope;
        y -= step / (1.0 + y * step);
    }
    y.copysign(x)
}

macro_rules! kernels {
    ($($name:ident $method:ident;)*) => {$(
        /// # Safety
        /// Both must be valid for `n` doubles and not overlap.
        pub(crate) unsafe fn $name(a: *const u8, d: *mut u8, n: usize) {
            for i in 0..n {
                // SAFETY: the caller's promise.
                unsafe { *d.cast::<f64>().add(i) = (*a.cast::<f64>().add(i)).$method() };
            }
        }
    )*};
}
kernels! { sin_kernel sin; cos_kernel cos; tan_kernel tan; }

/// Remainder with the divisor's sign.
///
/// # Safety
/// All must be valid for `n` doubles, and `d` not overlap the others.
pub(crate) unsafe fn remainder_kernel(a: *const u8, b: *const u8, d: *mut u8, n: usize) {
    for i in 0..n {
        // SAFETY: the caller's promise.
        unsafe {
            let (a, b) = (*a.cast::<f64>().add(i), *b.cast::<f64>().add(i));
            let r = a % b;
            *d.cast::<f64>().add(i) = if r != 0.0 && (r < 0.0) != (b < 0.0) { r + b } else { r };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// (x, erf(x)) from mpmath with 30 digits.
    const ERF: [(f64, f64); 7] = [
        (1e-10, 1.1283791670955126e-10),
        (0.25, 0.27632639016823696),
        (0.9999, 0.8426592780487595),
        (1.5, 0.9661051464753108),
        (2.75, 0.9998993780778803),
        (4.0, 0.9999999845827421),
        (6.5, 1.0),
    ];

    #[test]
    fn erf_is_right_to_the_last_digit_or_two() {
        for (x, y) in ERF {
            assert!((erf(x) - y).abs() <= 3e-16 * y, "{x}: {} {y}", erf(x));
            assert_eq!(erf(-x), -erf(x));
        }
        assert!(erf(f64::NAN).is_nan());
        assert_eq!(erf(f64::INFINITY), 1.0);
        assert!((erfc_above_one(5.0) / 1.5374597944280348502e-12 - 1.0).abs() < 1e-15);
        assert!((erfc_above_one(20.0) / 5.3958656116079009289e-176 - 1.0).abs() < 2e-15);
    }

    #[test]
    fn erfinv_inverts_erf() {
        for i in 1..2000 {
            let y = i as f64 * 0.0015;
            let x = erf(y);
            let slope = std::f64::consts::FRAC_2_SQRT_PI * (-y * y).exp();
            let back = erfinv(x);
            assert!((back - y).abs() <= 4e-16 * y + 2e-16 / slope, "{y}: {back}");
        }
        assert_eq!(erfinv(1.0), f64::INFINITY);
        assert_eq!(erfinv(-1.0), f64::NEG_INFINITY);
        assert!(erfinv(1.5).is_nan() && erfinv(f64::NAN).is_nan());
        assert_eq!(erfinv(-0.0).to_bits(), (-0.0f64).to_bits());
        assert!((erfinv(1.0 - 1e-15) - 5.675703838855).abs() < 0.03);
    }

    #[test]
    fn hyperbolic_inverses_keep_small_values() {
        for x in [1e-300, 1e-12, 0.3, 5.0, 1e200] {
            let y = asinh(x);
            let reference = f64::asinh(x);
            assert!((y - reference).abs() <= 1e-14 * reference || x < 1e-10 && y == x, "{x}");
            assert_eq!(asinh(-x), -y);
        }
        assert_eq!(acosh(1.0), 0.0);
        assert!(acosh(0.5).is_nan());
        assert!((acosh(1.0 + 1e-12) - 1.4142135623729769e-6).abs() < 1e-10);
        assert_eq!(atanh(1.0), f64::INFINITY);
        assert!(atanh(2.0).is_nan());
        assert_eq!(atanh(1e-300), 1e-300);
    }
}

//! Transcendental functions of f32, written so that the compiler turns a loop over one into vector
//! code; [`double`] has those of f64.
//!
//! There is no branch in them but selections, no table, and every multiply-add says whether it is fused, so
//! they give the same bits at every instruction-set level and in a vector's tail; where the processor has no
//! fused multiply-add (the scalar level) they are exact through a function, and slow. [`exp`], [`log`],
//! [`tanh`], [`erf`] and [`erfinv`] are in single precision throughout, within two units of the last place;
//! the others compute in double precision, whose error is invisible after the one rounding to f32. Polynomials
//! are minimax fits (Remez) made for the intervals stated with them. The tests measure every function on each
//! 997th bit pattern.

pub(crate) mod double;

use double::poly;
use std::f64::consts::{FRAC_PI_2, LN_2, LOG2_E, LOG10_E, PI};

/// Adding and subtracting this rounds a double of moderate size to an integer, whose two's
/// complement is meanwhile in the low bits.
const ROUND: f64 = 6755399441055744.0; // 1.5 * 2^52

/// `c[0] + c[1] x + c[2] x² + …`
#[inline(always)]
fn poly32<const N: usize>(x: f32, c: [f32; N]) -> f32 {
    let mut y = c[N - 1];
    for k in (0..N - 1).rev() {
        y = y.mul_add(x, c[k]);
    }
    y
}

/// [`poly32`] with a rounding after every product and sum.
#[inline(always)]
fn poly32_unfused<const N: usize>(x: f32, c: [f32; N]) -> f32 {
    let mut y = c[N - 1];
    for k in (0..N - 1).rev() {
        y = y * x + c[k];
    }
    y
}

/// `x` between `low` and `high`; NaN stays.
#[inline(always)]
fn clamp(x: f64, low: f64, high: f64) -> f64 {
    let x = if x > high { high } else { x };
    if x < low { low } else { x }
}

/// `e^x` in double precision, for |x| < 700; relative error 2^-45.
#[inline(always)]
fn exp64(x: f64) -> f64 {
    // (e^r - 1 - r) / r² for |r| <= ln(2) / 2
    const P: [f64; 8] = [
        0.4999999999966189,
        0.16666666667273752,
        0.04166666696389087,
        0.00833333309183031,
        0.001388881085098268,
        0.000198415428257214,
        2.4880960916748528e-05,
        2.7491747540362543e-06,
    ];
    let t = x * LOG2_E + ROUND;
    let r = x - (t - ROUND) * LN_2;
    let y = 1.0 + (r + r * r * poly(r, P));
    f64::from_bits(y.to_bits().wrapping_add(t.to_bits() << 52))
}

/// `(n, log m)` with `x = 2^n m` and `m` around 1, for positive normal doubles.
#[inline(always)]
fn log_parts(x: f64) -> (f64, f64) {
    // log((1 + s) / (1 - s)) / s in s², for m between sqrt(1/2) and sqrt(2); error 2^-52
    const P: [f64; 7] = [
        2.0000000000000004,
        0.6666666666655152,
        0.40000000062333024,
        0.28571415929642974,
        0.22223440915204376,
        0.18121730841859388,
        0.16840093142928447,
    ];
    const SQRT_HALF: u64 = 0x3fe6_a09e_667f_3bcd;
    const ONE: u64 = 0x3ff0_0000_0000_0000;
    let t = x.to_bits().wrapping_add(ONE - SQRT_HALF);
    let n = f64::from_bits((t >> 52) | ROUND.to_bits()) - (ROUND + 1023.0);
    let m = f64::from_bits((t & 0x000f_ffff_ffff_ffff) + SQRT_HALF);
    let s = (m - 1.0) / (m + 1.0);
    (n, s * poly(s * s, P))
}

/// Natural logarithm in double precision of a finite positive normal double.
#[inline(always)]
fn log64(x: f64) -> f64 {
    let (n, l) = log_parts(x);
    n * LN_2 + l
}

/// `y` where `x` is positive and finite; what a logarithm gives elsewhere.
#[inline(always)]
fn log_ends(x: f64, y: f64) -> f64 {
    let y = if x < f64::INFINITY { y } else { x };
    let y = if x == 0.0 { f64::NEG_INFINITY } else { y };
    if x < 0.0 { f64::NAN } else { y }
}

/// `(y, n)` with `e^x = y 2^n`, `y` around 1 and `n` in the low bits, for |x| below some hundreds.
#[inline(always)]
fn exp_parts(x: f32) -> (f32, u32) {
    const ROUND: f32 = 12582912.0; // 1.5 * 2^23
    // ln 2 in two parts; products of the first with small integers are exact.
    const LN2_HIGH: f32 = 0.693359375;
    const LN2_LOW: f32 = -2.1219444e-4;
    // (e^r - 1 - r) / r² for |r| <= ln(2) / 2; relative error of e^r 2^-34
    const P: [f32; 6] = [0.5, 0.16666666, 0.041666292, 0.0083335, 0.0013944875, 0.00019789299];
    let t = x.mul_add(std::f32::consts::LOG2_E, ROUND);
    let n = t - ROUND;
    let r = n.mul_add(-LN2_LOW, n.mul_add(-LN2_HIGH, x));
    let y = 1.0 + (r * r).mul_add(poly32(r, P), r);
    (y, t.to_bits().wrapping_sub(ROUND.to_bits()))
}

/// `e^x` for |x| < 87, where it is a normal number.
#[inline(always)]
fn exp_normal(x: f32) -> f32 {
    let (y, n) = exp_parts(x);
    // A product and no addition of exponents, which could turn a NaN into a number.
    y * power_of_two(n as i32)
}

/// `e^x`.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    // Beyond, the result is infinite or zero.
    let x = if x > 89.0 { 89.0 } else { x };
    let x = if x < -104.0 { -104.0 } else { x };
    let (y, n) = exp_parts(x);
    // 2^n in two factors, since one could overflow or be subnormal.
    let half = n as i32 >> 1;
    y * power_of_two(half) * power_of_two((n as i32).wrapping_sub(half))
}

#[inline(always)]
fn power_of_two(n: i32) -> f32 {
    f32::from_bits((n.wrapping_add(127) as u32) << 23)
}

/// `e^x - 1`.
#[inline(always)]
pub(crate) fn expm1(x: f32) -> f32 {
    let x = clamp(x as f64, -40.0, 100.0);
    let near = x * (1.0 + x * (0.5 + x * (1.0 / 6.0)));
    (if x.abs() < 0.0009765625 { near } else { exp64(x) - 1.0 }) as f32
}

/// log(1 + f) = f - f²/2 + f³ P(f) for sqrt(1/2) <= 1 + f <= sqrt(2)
const LOG_1P: [f32; 9] = [
    0.33333313,
    -0.2500001,
    0.20002122,
    -0.16668017,
    0.1421949,
    -0.12405151,
    0.11888201,
    -0.116784738,
    0.067501036,
];

/// `(n, f)` with `x = 2^n (1 + f)` and `1 + f` around 1, for positive normal floats.
#[inline(always)]
fn split_power(x: f32) -> (f32, f32) {
    const SQRT_HALF: u32 = 0x3f35_04f3;
    const ONE: u32 = 0x3f80_0000;
    let t = x.to_bits().wrapping_add(ONE - SQRT_HALF);
    let n = ((t >> 23) as i32 - 127) as f32;
    (n, f32::from_bits((t & 0x007f_ffff) + SQRT_HALF) - 1.0)
}

/// Natural logarithm.
#[inline(always)]
pub(crate) fn log(x: f32) -> f32 {
    const LN2_HIGH: f32 = 0.693359375;
    const LN2_LOW: f32 = -2.1219444e-4;
    let subnormal = x < f32::MIN_POSITIVE;
    let (n, f) = split_power(if subnormal { x * 8388608.0 } else { x });
    let n = if subnormal { n - 23.0 } else { n };
    let l = (f * f).mul_add(f.mul_add(poly32(f, LOG_1P), -0.5), f);
    let y = n.mul_add(LN2_HIGH, n.mul_add(LN2_LOW, l));
    let y = if x < f32::INFINITY { y } else { x };
    let y = if x == 0.0 { f32::NEG_INFINITY } else { y };
    if x < 0.0 { f32::NAN } else { y }
}

/// Logarithm to base 2.
#[inline(always)]
pub(crate) fn log2(x: f32) -> f32 {
    let x = x as f64;
    let (n, l) = log_parts(x);
    log_ends(x, n + l * LOG2_E) as f32
}

/// Logarithm to base 10.
#[inline(always)]
pub(crate) fn log10(x: f32) -> f32 {
    let x = x as f64;
    log_ends(x, log64(x) * LOG10_E) as f32
}

/// `log(1 + x)`.
#[inline(always)]
pub(crate) fn log1p(x: f32) -> f32 {
    let x = x as f64;
    let near = x * (1.0 - x * (0.5 - x * (1.0 / 3.0)));
    let far = log_ends(1.0 + x, log64(1.0 + x));
    (if x.abs() < 0.0009765625 { near } else { far }) as f32
}

/// `1 / (1 + e^-x)`.
#[inline(always)]
pub(crate) fn sigmoid(x: f32) -> f32 {
    let e = exp(-x.abs()) as f64;
    ((if x < 0.0 { e } else { 1.0 }) / (1.0 + e)) as f32
}

/// Hyperbolic tangent.
#[inline(always)]
pub(crate) fn tanh(x: f32) -> f32 {
    // (tanh(x)/x - 1) / x² in x² for x <= 0.625; relative error 2^-32
    const P: [f32; 6] =
        [-0.33333331, 0.1333321, -0.053947205, 0.021702969, -0.008182678, 0.0021475403];
    let a = x.abs();
    let u = a * a;
    let near = (a * u).mul_add(poly32(u, P), a);
    // From 9.1 on the result is 1.
    let far = 1.0 - 2.0 / (1.0 + exp_normal(2.0 * if a > 10.0 { 10.0 } else { a }));
    (if a < 0.625 { near } else { far }).copysign(x)
}

/// Hyperbolic sine.
#[inline(always)]
pub(crate) fn sinh(x: f32) -> f32 {
    let a = (x as f64).abs();
    let u = a * a;
    let near = a * (1.0 + u * (1.0 / 6.0 + u * (1.0 / 120.0)));
    let e = exp64(clamp(a, 0.0, 100.0));
    let far = 0.5 * (e - 1.0 / e);
    ((if a < 0.015625 { near } else { far }) as f32).copysign(x)
}

/// Hyperbolic cosine.
#[inline(always)]
pub(crate) fn cosh(x: f32) -> f32 {
    let e = exp64(clamp((x as f64).abs(), 0.0, 100.0));
    (0.5 * (e + 1.0 / e)) as f32
}

/// Inverse hyperbolic sine.
#[inline(always)]
pub(crate) fn asinh(x: f32) -> f32 {
    let a = (x as f64).abs();
    let u = a * a;
    let near = a * (1.0 - u * (1.0 / 6.0 - u * (3.0 / 40.0)));
    let z = a + (u + 1.0).sqrt();
    let far = log_ends(z, log64(z));
    ((if a < 0.015625 { near } else { far }) as f32).copysign(x)
}

/// Inverse hyperbolic cosine; NaN below 1.
#[inline(always)]
pub(crate) fn acosh(x: f32) -> f32 {
    let x = x as f64;
    let z = x + (x * x - 1.0).sqrt();
    let y = log_ends(z, log64(z));
    (if x < 1.0 { f64::NAN } else { y }) as f32
}

/// Inverse hyperbolic tangent; infinite at ±1, NaN beyond.
#[inline(always)]
pub(crate) fn atanh(x: f32) -> f32 {
    let a = (x as f64).abs();
    let u = a * a;
    let near = a * (1.0 + u * (1.0 / 3.0 + u * (1.0 / 5.0)));
    let z = (1.0 + a) / (1.0 - a);
    let far = 0.5 * log_ends(z, log64(z));
    ((if a < 0.015625 { near } else { far }) as f32).copysign(x)
}

/// `atan(t)` for `0 <= t <= 1`; relative error 2^-36.
#[inline(always)]
fn atan_unit(t: f64) -> f64 {
    const P: [f64; 13] = [
        0.9999999999906538,
        -0.3333333300532874,
        0.19999980837840498,
        -0.14285271440819147,
        0.11105741753495257,
        -0.09051620500207112,
        0.07503963034650679,
        -0.060426360544283915,
        0.04396727174627832,
        -0.026338629227211675,
        0.011646616126499493,
        -0.0032782994499385163,
        0.0004329579664770278,
    ];
    t * poly(t * t, P)
}

/// Inverse tangent.
#[inline(always)]
pub(crate) fn atan(x: f32) -> f32 {
    let a = (x as f64).abs();
    let steep = a > 1.0;
    let y = atan_unit(if steep { 1.0 / a } else { a });
    ((if steep { FRAC_PI_2 - y } else { y }) as f32).copysign(x)
}

/// Angle of the point `(x, y)`.
#[inline(always)]
pub(crate) fn atan2(y: f32, x: f32) -> f32 {
    let (b, a) = ((y as f64).abs(), (x as f64).abs());
    let steep = b > a;
    let (low, high) = if steep { (a, b) } else { (b, a) };
    let t = low / high;
    // 0/0 is on an axis, ∞/∞ on a diagonal.
    let t = if high == 0.0 { 0.0 } else { t };
    let t = if low == f64::INFINITY { 1.0 } else { t };
    let p = atan_unit(t);
    let p = if steep { FRAC_PI_2 - p } else { p };
    let p = if x.is_sign_negative() { PI - p } else { p };
    let p = if y.is_nan() | x.is_nan() { f64::NAN } else { p };
    (p as f32).copysign(y)
}

/// `asin(t) / t` in `u = t²`, for `0 <= t <= 1/2`; relative error 2^-35.
#[inline(always)]
fn asin_half(u: f64) -> f64 {
    const P: [f64; 8] = [
        0.9999999999849032,
        0.16666667421676015,
        0.07499938198473019,
        0.04466203568329759,
        0.03009220767223227,
        0.024711552144983908,
        0.007223800732718946,
        0.03495158597214831,
    ];
    poly(u, P)
}

/// Inverse sine; NaN outside of -1 to 1.
#[inline(always)]
pub(crate) fn asin(x: f32) -> f32 {
    let a = (x as f64).abs();
    let u = if a > 0.5 { 0.5 - 0.5 * a } else { a * a };
    let t = if a > 0.5 { u.sqrt() } else { a };
    let y = t * asin_half(u);
    ((if a > 0.5 { FRAC_PI_2 - 2.0 * y } else { y }) as f32).copysign(x)
}

/// Inverse cosine; NaN outside of -1 to 1.
#[inline(always)]
pub(crate) fn acos(x: f32) -> f32 {
    let x = x as f64;
    let a = x.abs();
    let u = if a > 0.5 { 0.5 - 0.5 * a } else { x * x };
    let t = if a > 0.5 { u.sqrt() } else { x };
    let y = t * asin_half(u);
    let outer = if x < 0.0 { PI - 2.0 * y } else { 2.0 * y };
    (if a > 0.5 { outer } else { FRAC_PI_2 - y }) as f32
}

/// Error function.
#[inline(always)]
pub(crate) fn erf(x: f32) -> f32 {
    // erf(x)/x - 1 in x² for x <= 0.93; relative error 2^-31
    const P: [f32; 7] = [
        0.12837917,
        -0.37612633,
        0.11283687,
        -0.026858941,
        0.005199907,
        -0.0008130013,
        8.3167766e-05,
    ];
    // log(1 - erf(x)) for 0.93 <= x <= 4; error of erf 2^-29
    const Q: [f32; 7] = [
        -0.00021131339,
        -1.1276112,
        -0.63729043,
        -0.1038369,
        0.022181383,
        -0.0030318188,
        0.00019477755,
    ];
    let a = x.abs();
    // From there on the result is 1.
    let a = if a > 4.0 { 4.0 } else { a };
    let near = a.mul_add(poly32(a * a, P), a);
    let far = 1.0 - exp_normal(poly32(a, Q));
    (if a < 0.93 { near } else { far }).copysign(x)
}

/// Inverse error function, in single precision with nothing but rounded additions and products, so that
/// every backend can give the same bits: random normals come from it.
///
/// As in Giles, "Approximating the erfinv function", it is `x` times a polynomial of
/// `w = -log(1 - x²)`, one below 5 and one above.
#[inline(always)]
pub(crate) fn erfinv(x: f32) -> f32 {
    const NEAR: [f32; 11] = [
        0.88622693,
        0.23201356,
        0.011550335,
        -0.0023385403,
        -0.00012200306,
        4.048711e-05,
        5.8354903e-06,
        -2.4978457e-06,
        3.0979147e-07,
        -1.716087e-08,
        3.355222e-10,
    ];
    const FAR: [f32; 11] = [
        3.1127602539555,
        0.15334619489097,
        -0.0034485353587,
        0.00014807640583,
        -7.2386667380e-06,
        3.0429866967e-07,
        -3.3734449818e-09,
        -1.3184324795e-09,
        2.6804395682e-10,
        -3.4667043690e-11,
        1.9221871387e-12,
    ];
    let y = (1.0 - x) * (1.0 + x);
    let (n, f) = split_power(y);
    let l = f - f * f * (0.5 - f * poly32_unfused(f, LOG_1P));
    let w = -(n * std::f32::consts::LN_2 + l);
    let p = if w < 5.0 { poly32_unfused(w, NEAR) } else { poly32_unfused(w - 10.75, FAR) };
    let ends = if y == 0.0 { f32::INFINITY.copysign(x) } else { f32::NAN };
    if y > 0.0 { x * p } else { ends }
}

/// `log(e^a + e^b)`.
#[inline(always)]
pub(crate) fn logaddexp(a: f32, b: f32) -> f32 {
    let (high, low) = if a > b { (a, b) } else { (b, a) };
    let (h, l) = (high as f64, low as f64);
    let y = h + log64(1.0 + exp64(clamp(l - h, -100.0, 0.0)));
    let y = if h.abs() == f64::INFINITY { h } else { y };
    (if a.is_nan() | b.is_nan() { f64::NAN } else { y }) as f32
}

/// Whether `|x|` is an integer.
#[inline(always)]
fn is_integer(x: f32) -> bool {
    const LARGE: f32 = 8388608.0; // 2^23: no fractions from here on
    let a = x.abs();
    (a >= LARGE) | ((a + LARGE) - LARGE == a)
}

/// `a^b`, with the special cases of IEEE 754.
#[inline(always)]
pub(crate) fn pow(a: f32, b: f32) -> f32 {
    let m = (a as f64).abs();
    let l = log_ends(m, log64(m));
    let y = exp64(clamp(b as f64 * l, -120.0, 120.0)) as f32;
    let y = if (m == 1.0) & !b.is_nan() { 1.0 } else { y };
    let odd = is_integer(b) & !is_integer(0.5 * b);
    let negative = a.is_sign_negative();
    let y = if negative & odd { -y } else { y };
    let undefined = (a < 0.0) & !is_integer(b) & (a != f32::NEG_INFINITY);
    let y = if undefined { f32::NAN } else { y };
    if (b == 0.0) | (a == 1.0) { 1.0 } else { y }
}

/// Remainder of f32 values with the divisor's sign.
///
/// # Safety
/// All must be valid for `n` floats, and `d` not overlap the others.
pub(crate) unsafe fn remainder_kernel(a: *const u8, b: *const u8, d: *mut u8, n: usize) {
    // SAFETY: the caller's promise.
    let (a, b, d) = unsafe {
        let a = std::slice::from_raw_parts(a.cast::<f32>(), n);
        let b = std::slice::from_raw_parts(b.cast::<f32>(), n);
        (a, b, std::slice::from_raw_parts_mut(d.cast::<f32>(), n))
    };
    if !remainders(a, b, d) {
        for ((&a, &b), d) in a.iter().zip(b).zip(d) {
            let r = a % b;
            *d = if (r != 0.0) & ((r < 0.0) != (b < 0.0)) { r + b } else { r };
        }
    }
}

crate::dispatch! {
/// Remainders by a division in double precision; says whether every quotient was small enough for
/// `quotient * b` to be exact.
fn remainders(a: &[f32], b: &[f32], d: &mut [f32]) -> bool {
    let mut exact = true;
    for ((&a, &b), d) in a.iter().zip(b).zip(d) {
        let (x, y) = (a as f64, b as f64);
        let q = x / y;
        exact &= (q.abs() < 268435456.0) | (y == 0.0) | q.is_nan(); // 2^28
        // Nearest integer; the remainder is then at most half of y, of either sign.
        let r = x - ((q + ROUND) - ROUND) * y;
        let r = if (r != 0.0) & ((r < 0.0) != (y < 0.0)) { r + y } else { r };
        // A zero keeps the dividend's sign; nothing is left of 0/0.
        let r = if r == 0.0 { 0f64.copysign(x) } else { r };
        let r = if (y.abs() == f64::INFINITY) & (x.abs() < f64::INFINITY) {
            if (x != 0.0) & ((x < 0.0) != (y < 0.0)) { y } else { x }
        } else {
            r
        };
        *d = (if y == 0.0 { f64::NAN } else { r }) as f32;
    }
    exact
}
}

/// Where the reduction of angles to a quarter turn below is exact.
const LARGEST_ANGLE: f32 = 1.0e6;

/// `(quarter turns, sin(r), cos(r))` for `x = turns * π/2 + r`; absolute errors 2^-45.
#[inline(always)]
fn quarter(x: f64) -> (u64, f64, f64) {
    // π/2 in two parts; products of the first, of 33 bits, with turns are exact.
    const HIGH: f64 = 1.5707963267341256;
    const LOW: f64 = 6.077100506506192e-11;
    // (sin(r)/r - 1) / r², (cos(r) - 1 + r²/2) / r⁴ in r² for |r| <= π/4
    const SIN: [f64; 5] = [
        -0.1666666666663145,
        0.008333333325244986,
        -0.00019841263807849656,
        2.755535445166481e-06,
        -2.476140702355469e-08,
    ];
    const COS: [f64; 4] = [
        0.04166666662265333,
        -0.0013888883738048833,
        2.4799515889635286e-05,
        -2.7209892748055724e-07,
    ];
    let t = x * std::f64::consts::FRAC_2_PI + ROUND;
    let n = t - ROUND;
    let r = (x - n * HIGH) - n * LOW;
    let u = r * r;
    (t.to_bits(), r * (1.0 + u * poly(u, SIN)), 1.0 - 0.5 * u + u * u * poly(u, COS))
}

/// `y` with its sign changed if `flip & 2`.
#[inline(always)]
fn flip(y: f64, flip: u64) -> f64 {
    f64::from_bits(y.to_bits() ^ ((flip & 2) << 62))
}

#[inline(always)]
fn sin(x: f32) -> f32 {
    let (q, sin, cos) = quarter(x as f64);
    flip(if q & 1 == 0 { sin } else { cos }, q) as f32
}

#[inline(always)]
fn cos(x: f32) -> f32 {
    let (q, sin, cos) = quarter(x as f64);
    flip(if q & 1 == 0 { cos } else { sin }, q.wrapping_add(1)) as f32
}

#[inline(always)]
fn tan(x: f32) -> f32 {
    let (q, sin, cos) = quarter(x as f64);
    let (a, b) = if q & 1 == 0 { (sin, cos) } else { (-cos, sin) };
    (a / b) as f32
}

macro_rules! angles {
    ($($kernel:ident $block:ident $f:ident;)*) => {$(
        crate::dispatch! {
        /// Says whether every angle was small enough.
        fn $block(a: &[f32], d: &mut [f32]) -> bool {
            let mut small = true;
            for (&x, d) in a.iter().zip(d) {
                small &= x.abs() <= LARGEST_ANGLE || x.is_nan();
                *d = $f(x);
            }
            small
        }
        }

        /// The function over a block; angles beyond [`LARGEST_ANGLE`] go to the standard library.
        ///
        /// # Safety
        /// Both must be valid for `n` floats and not overlap.
        pub(crate) unsafe fn $kernel(a: *const u8, d: *mut u8, n: usize) {
            // SAFETY: the caller's promise.
            let (a, d) = unsafe {
                let a = std::slice::from_raw_parts(a.cast::<f32>(), n);
                (a, std::slice::from_raw_parts_mut(d.cast::<f32>(), n))
            };
            if !$block(a, d) {
                for (&x, d) in a.iter().zip(d) {
                    if x.abs() > LARGEST_ANGLE {
                        *d = (x as f64).$f() as f32;
                    }
                }
            }
        }
    )*};
}
angles! { sin_kernel sin_block sin; cos_kernel cos_block cos; tan_kernel tan_block tan; }

#[cfg(test)]
mod tests;

//! Transcendental functions of f32, and in [`double`] of f64.

pub(crate) mod double;

macro_rules! std_functions {
    ($($name:ident $method:ident;)*) => {$(
        #[inline]
        pub(crate) fn $name(x: f32) -> f32 {
            x.$method()
        }
    )*};
}
std_functions! {
    exp exp; expm1 exp_m1; log ln; log2 log2; log10 log10; log1p ln_1p;
    asin asin; acos acos; atan atan; sinh sinh; cosh cosh; tanh tanh;
}
macro_rules! via_double {
    ($($name:ident;)*) => {$(
        #[inline]
        pub(crate) fn $name(x: f32) -> f32 {
            double::$name(x as f64) as f32
        }
    )*};
}
via_double! { asinh; acosh; atanh; erf; erfinv; sigmoid; }

#[inline]
pub(crate) fn pow(a: f32, b: f32) -> f32 {
    a.powf(b)
}

#[inline]
pub(crate) fn atan2(a: f32, b: f32) -> f32 {
    a.atan2(b)
}

#[inline]
pub(crate) fn logaddexp(a: f32, b: f32) -> f32 {
    double::logaddexp(a as f64, b as f64) as f32
}

macro_rules! kernels {
    ($($name:ident $method:ident;)*) => {$(
        /// # Safety
        /// Both must be valid for `n` floats and not overlap.
        pub(crate) unsafe fn $name(a: *const u8, d: *mut u8, n: usize) {
            for i in 0..n {
                // SAFETY: the caller's promise.
                unsafe { *d.cast::<f32>().add(i) = (*a.cast::<f32>().add(i)).$method() };
            }
        }
    )*};
}
kernels! { sin_kernel sin; cos_kernel cos; tan_kernel tan; }

/// Remainder with the divisor's sign.
///
/// # Safety
/// All must be valid for `n` floats, and `d` not overlap the others.
pub(crate) unsafe fn remainder_kernel(a: *const u8, b: *const u8, d: *mut u8, n: usize) {
    for i in 0..n {
        // SAFETY: the caller's promise.
        unsafe {
            let (a, b) = (*a.cast::<f32>().add(i), *b.cast::<f32>().add(i));
            let r = a % b;
            *d.cast::<f32>().add(i) = if r != 0.0 && (r < 0.0) != (b < 0.0) { r + b } else { r };
        }
    }
}

//! The two small matrix products of attention, register-tiled.
//!
//! A dot product runs over its features in 16 lanes, whose sums are added as a tree; a weighted sum of
//! values runs over keys in order. Neither depends on how rows and keys are tiled, so tile sizes are
//! free to follow the registers of each instruction-set level.

use super::SEGMENT;
use crate::isa::{Isa, isa};
use crate::rows::{LANES, Real};

/// `(q, rows, k, distance, keys, width, out)`: `out[r * SEGMENT + j] = q[r] · k[j]`, with rows of `q`
/// `width` apart and rows of `k` `distance` apart; `width` is a multiple of [`LANES`].
type Scores<R> = unsafe fn(*const R, usize, *const R, isize, usize, usize, *mut R);
/// `(weights, rows, v, distance, keys, width, out)`: `out[r] += weights[r * SEGMENT + j] * v[j]` for
/// each `j` in order, with rows of `out` `width` apart.
type Values<R> = unsafe fn(*const R, usize, *const R, isize, usize, usize, *mut R);

/// The products at one level.
pub(super) struct Kernels<R> {
    pub(super) scores: Scores<R>,
    pub(super) values: Values<R>,
}

/// A compute type with kernels.
pub(super) trait Engine: Real {
    fn kernels() -> Kernels<Self>;
    /// `a * b + c`, rounded as the kernels of this level do.
    fn multiply_add(a: Self, b: Self, c: Self) -> Self;
}

fn fused() -> bool {
    cfg!(target_arch = "x86_64") && isa() >= Isa::Avx2
}

impl Engine for f32 {
    fn kernels() -> Kernels<f32> {
        #[cfg(target_arch = "x86_64")]
        match isa() {
            Isa::Avx512 => return Kernels { scores: x86::scores_512, values: x86::values_512 },
            Isa::Avx2 => return Kernels { scores: x86::scores_256, values: x86::values_256 },
            Isa::Scalar => {}
        }
        Kernels { scores: scores::<Portable<f32>, 2, 2>, values: values::<Portable<f32>, 2, 2> }
    }

    #[inline(always)]
    fn multiply_add(a: f32, b: f32, c: f32) -> f32 {
        if fused() { a.mul_add(b, c) } else { a * b + c }
    }
}

impl Engine for f64 {
    fn kernels() -> Kernels<f64> {
        Kernels { scores: scores::<Portable<f64>, 2, 2>, values: values::<Portable<f64>, 2, 2> }
    }

    #[inline(always)]
    fn multiply_add(a: f64, b: f64, c: f64) -> f64 {
        a * b + c
    }
}

/// Sixteen numbers.
trait Vector: Copy {
    type Item: Real;
    unsafe fn zero() -> Self;
    unsafe fn load(from: *const Self::Item) -> Self;
    unsafe fn store(self, to: *mut Self::Item);
    unsafe fn splat(x: Self::Item) -> Self;
    /// `self * by + plus`
    unsafe fn multiply_add(self, by: Self, plus: Self) -> Self;
    /// Halves added to halves until one number is left.
    unsafe fn sum(self) -> Self::Item;
}

#[derive(Clone, Copy)]
struct Portable<R>([R; LANES]);

impl<R: Real> Vector for Portable<R> {
    type Item = R;
    #[inline(always)]
    unsafe fn zero() -> Self {
        Portable([R::ZERO; LANES])
    }
    #[inline(always)]
    unsafe fn load(from: *const R) -> Self {
        // SAFETY: the caller vouches for sixteen elements.
        Portable(unsafe { from.cast::<[R; LANES]>().read_unaligned() })
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut R) {
        // SAFETY: the caller vouches for sixteen elements.
        unsafe { to.cast::<[R; LANES]>().write_unaligned(self.0) }
    }
    #[inline(always)]
    unsafe fn splat(x: R) -> Self {
        Portable([x; LANES])
    }
    #[inline(always)]
    unsafe fn multiply_add(self, by: Self, plus: Self) -> Self {
        let mut out = plus.0;
        for l in 0..LANES {
            out[l] = self.0[l] * by.0[l] + out[l];
        }
        Portable(out)
    }
    #[inline(always)]
    unsafe fn sum(self) -> R {
        let mut x = self.0;
        let mut width = LANES / 2;
        while width > 0 {
            for l in 0..width {
                x[l] = x[l] + x[l + width];
            }
            width /= 2;
        }
        x[0]
    }
}

/// See [`Scores`]; tiles of `M` rows by `N` keys.
///
/// # Safety
/// As [`Scores`] says.
#[inline(always)]
unsafe fn scores<V: Vector, const M: usize, const N: usize>(
    q: *const V::Item,
    rows: usize,
    k: *const V::Item,
    distance: isize,
    keys: usize,
    width: usize,
    out: *mut V::Item,
) {
    #[inline(always)]
    unsafe fn tile<V: Vector, const M: usize, const N: usize>(
        q: *const V::Item,
        k: *const V::Item,
        distance: isize,
        width: usize,
        out: *mut V::Item,
    ) {
        // SAFETY: the caller's rows and keys reach at least `M` and `N` from here.
        unsafe {
            let mut sums = [[V::zero(); N]; M];
            let mut c = 0;
            while c < width {
                let mut keys = [V::zero(); N];
                for j in 0..N {
                    keys[j] = V::load(k.offset(j as isize * distance).add(c));
                }
                for r in 0..M {
                    let x = V::load(q.add(r * width + c));
                    for j in 0..N {
                        sums[r][j] = x.multiply_add(keys[j], sums[r][j]);
                    }
                }
                c += LANES;
            }
            for r in 0..M {
                for j in 0..N {
                    *out.add(r * SEGMENT + j) = sums[r][j].sum();
                }
            }
        }
    }
    let mut r = 0;
    while r < rows {
        let full = r + M <= rows;
        let mut j = 0;
        while j < keys {
            // SAFETY: rows `r..` and keys `j..` exist for as many as the tile takes.
            unsafe {
                let (q, k) = (q.add(r * width), k.offset(j as isize * distance));
                let out = out.add(r * SEGMENT + j);
                match (full, j + N <= keys) {
                    (true, true) => tile::<V, M, N>(q, k, distance, width, out),
                    (true, false) => tile::<V, M, 1>(q, k, distance, width, out),
                    (false, true) => tile::<V, 1, N>(q, k, distance, width, out),
                    (false, false) => tile::<V, 1, 1>(q, k, distance, width, out),
                }
            }
            j += if j + N <= keys { N } else { 1 };
        }
        r += if full { M } else { 1 };
    }
}

/// See [`Values`]; tiles of `M` rows by `N` vectors of features.
///
/// # Safety
/// As [`Values`] says.
#[inline(always)]
unsafe fn values<V: Vector, const M: usize, const N: usize>(
    weights: *const V::Item,
    rows: usize,
    v: *const V::Item,
    distance: isize,
    keys: usize,
    width: usize,
    out: *mut V::Item,
) {
    #[inline(always)]
    unsafe fn tile<V: Vector, const M: usize, const N: usize>(
        weights: *const V::Item,
        v: *const V::Item,
        distance: isize,
        keys: usize,
        width: usize,
        out: *mut V::Item,
    ) {
        // SAFETY: the caller's rows and features reach at least `M` and `N` vectors from here.
        unsafe {
            let mut sums = [[V::zero(); N]; M];
            for r in 0..M {
                for n in 0..N {
                    sums[r][n] = V::load(out.add(r * width + n * LANES));
                }
            }
            for j in 0..keys {
                let mut values = [V::zero(); N];
                for n in 0..N {
                    values[n] = V::load(v.offset(j as isize * distance).add(n * LANES));
                }
                for r in 0..M {
                    let w = V::splat(*weights.add(r * SEGMENT + j));
                    for n in 0..N {
                        sums[r][n] = w.multiply_add(values[n], sums[r][n]);
                    }
                }
            }
            for r in 0..M {
                for n in 0..N {
                    sums[r][n].store(out.add(r * width + n * LANES));
                }
            }
        }
    }
    let mut c = 0;
    while c < width {
        let wide = c + N * LANES <= width;
        let mut r = 0;
        while r < rows {
            let full = r + M <= rows;
            // SAFETY: rows `r..` and features `c..` exist for as many as the tile takes.
            unsafe {
                let (w, v) = (weights.add(r * SEGMENT), v.add(c));
                let out = out.add(r * width + c);
                match (full, wide) {
                    (true, true) => tile::<V, M, N>(w, v, distance, keys, width, out),
                    (true, false) => tile::<V, M, 1>(w, v, distance, keys, width, out),
                    (false, true) => tile::<V, 1, N>(w, v, distance, keys, width, out),
                    (false, false) => tile::<V, 1, 1>(w, v, distance, keys, width, out),
                }
            }
            r += if full { M } else { 1 };
        }
        c += if wide { N * LANES } else { LANES };
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{Vector, scores, values};
    use std::arch::x86_64::*;

    #[derive(Clone, Copy)]
    struct Wide(__m512);

    // SAFETY of all functions below: reached only through the kernels of their level.
    impl Vector for Wide {
        type Item = f32;
        #[inline(always)]
        unsafe fn zero() -> Self {
            // SAFETY: AVX-512F.
            Wide(unsafe { _mm512_setzero_ps() })
        }
        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            // SAFETY: AVX-512F; the caller vouches for sixteen elements.
            Wide(unsafe { _mm512_loadu_ps(from) })
        }
        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            // SAFETY: AVX-512F; the caller vouches for sixteen elements.
            unsafe { _mm512_storeu_ps(to, self.0) }
        }
        #[inline(always)]
        unsafe fn splat(x: f32) -> Self {
            // SAFETY: AVX-512F.
            Wide(unsafe { _mm512_set1_ps(x) })
        }
        #[inline(always)]
        unsafe fn multiply_add(self, by: Self, plus: Self) -> Self {
            // SAFETY: AVX-512F.
            Wide(unsafe { _mm512_fmadd_ps(self.0, by.0, plus.0) })
        }
        #[inline(always)]
        unsafe fn sum(self) -> f32 {
            // SAFETY: AVX-512DQ.
            unsafe {
                let high = _mm512_extractf32x8_ps::<1>(self.0);
                sum_eight(_mm256_add_ps(_mm512_castps512_ps256(self.0), high))
            }
        }
    }

    #[derive(Clone, Copy)]
    struct Pair(__m256, __m256);

    impl Vector for Pair {
        type Item = f32;
        #[inline(always)]
        unsafe fn zero() -> Self {
            // SAFETY: AVX.
            unsafe { Pair(_mm256_setzero_ps(), _mm256_setzero_ps()) }
        }
        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            // SAFETY: AVX; the caller vouches for sixteen elements.
            unsafe { Pair(_mm256_loadu_ps(from), _mm256_loadu_ps(from.add(8))) }
        }
        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            // SAFETY: AVX; the caller vouches for sixteen elements.
            unsafe {
                _mm256_storeu_ps(to, self.0);
                _mm256_storeu_ps(to.add(8), self.1);
            }
        }
        #[inline(always)]
        unsafe fn splat(x: f32) -> Self {
            // SAFETY: AVX.
            unsafe { Pair(_mm256_set1_ps(x), _mm256_set1_ps(x)) }
        }
        #[inline(always)]
        unsafe fn multiply_add(self, by: Self, plus: Self) -> Self {
            // SAFETY: FMA.
            unsafe {
                Pair(
                    _mm256_fmadd_ps(self.0, by.0, plus.0),
                    _mm256_fmadd_ps(self.1, by.1, plus.1),
                )
            }
        }
        #[inline(always)]
        unsafe fn sum(self) -> f32 {
            // SAFETY: AVX.
            unsafe { sum_eight(_mm256_add_ps(self.0, self.1)) }
        }
    }

    #[inline(always)]
    unsafe fn sum_eight(x: __m256) -> f32 {
        // SAFETY: AVX.
        unsafe {
            let four = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
            let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps::<1>(two, two)))
        }
    }

    macro_rules! kernel {
        ($name:ident, $features:literal, $generic:ident::<$v:ty, $m:literal, $n:literal>) => {
            /// # Safety
            /// As the generic kernel; and the processor must have the level.
            #[target_feature(enable = $features)]
            pub(super) unsafe fn $name(
                a: *const f32,
                rows: usize,
                b: *const f32,
                distance: isize,
                keys: usize,
                width: usize,
                out: *mut f32,
            ) {
                // SAFETY: the caller's, passed on.
                unsafe { $generic::<$v, $m, $n>(a, rows, b, distance, keys, width, out) }
            }
        };
    }
    kernel!(scores_512, "avx2,fma,avx512f,avx512dq,avx512vl", scores::<Wide, 4, 4>);
    kernel!(values_512, "avx2,fma,avx512f,avx512dq,avx512vl", values::<Wide, 4, 4>);
    kernel!(scores_256, "avx2,fma", scores::<Pair, 2, 2>);
    kernel!(values_256, "avx2,fma", values::<Pair, 2, 2>);
}

//! The two small matrix products of attention, register-tiled.
//!
//! A dot product runs over its features in 16 lanes, whose sums are added as a tree; a weighted sum of
//! values runs over keys in order. Neither depends on how rows and keys are tiled, so tile sizes are
//! free to follow the registers of each instruction-set level.

use super::SEGMENT;
use crate::isa::{Isa, isa};
use crate::rows::{LANES, Real};
use lazul_ir::{DType, bf16, f16};

/// Both products have this form. Scores: `(q, rows, k, distance, keys, width, out)` puts `q[r] · k[j]`
/// at `out[r * SEGMENT + j]`, with rows of `q` `width` apart. Values: `(weights, rows, v, distance,
/// keys, width, out)` adds `weights[r * SEGMENT + j] * v[j]` to `out[r]` for each `j` in order, with
/// rows of `out` `width` apart. Rows of `k` and `v`, in the dtype that the kernel was asked for, are
/// `distance` elements apart; `width` is a multiple of [`LANES`].
pub(super) type Kernel<R> = unsafe fn(*const R, usize, *const u8, isize, usize, usize, *mut R);

/// The products at one level, for keys and values of one dtype.
#[derive(Clone, Copy)]
pub(super) struct Kernels<R> {
    pub(super) scores: Kernel<R>,
    pub(super) values: Kernel<R>,
}

/// A compute type with kernels.
pub(super) trait Engine: Real {
    /// The kernels for keys and values of the compute type.
    fn kernels() -> Kernels<Self>;
    /// Kernels that convert keys and values as they read them, where there are any.
    fn converting(dtype: DType) -> Option<Kernels<Self>>;
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
            Isa::Avx512 => return x86::wide::F32,
            Isa::Avx2 => return x86::pair::F32,
            Isa::Scalar => {}
        }
        portable()
    }

    fn converting(dtype: DType) -> Option<Kernels<f32>> {
        #[cfg(target_arch = "x86_64")]
        match (isa(), dtype) {
            (Isa::Avx512, DType::BF16) => return Some(x86::wide::BF16),
            (Isa::Avx512, DType::F16) => return Some(x86::wide::F16),
            (Isa::Avx2, DType::BF16) => return Some(x86::pair::BF16),
            (Isa::Avx2, DType::F16) => return Some(x86::pair::F16),
            _ => {}
        }
        None
    }

    #[inline(always)]
    fn multiply_add(a: f32, b: f32, c: f32) -> f32 {
        if fused() { a.mul_add(b, c) } else { a * b + c }
    }
}

impl Engine for f64 {
    fn kernels() -> Kernels<f64> {
        #[cfg(target_arch = "x86_64")]
        match isa() {
            Isa::Avx512 => return x86::double::WIDE,
            Isa::Avx2 => return x86::double::PAIR,
            Isa::Scalar => {}
        }
        portable()
    }

    fn converting(_: DType) -> Option<Kernels<f64>> {
        None
    }

    #[inline(always)]
    fn multiply_add(a: f64, b: f64, c: f64) -> f64 {
        a * b + c
    }
}

fn portable<R: Source<Portable<R>> + Real>() -> Kernels<R> {
    Kernels { scores: scores::<Portable<R>, R, 2, 2>, values: values::<Portable<R>, R, 2, 2> }
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
    /// Stores the [`Vector::sum`] of each vector.
    #[inline(always)]
    unsafe fn store_sums<const N: usize>(vectors: &[Self; N], to: *mut Self::Item) {
        for (i, v) in vectors.iter().enumerate() {
            // SAFETY: the caller vouches for `N` elements.
            unsafe { *to.add(i) = v.sum() };
        }
    }
}

/// An element that sixteen of can be read as a vector.
trait Source<V>: Copy {
    unsafe fn read(from: *const Self) -> V;
}

impl<V: Vector<Item = R>, R: Real> Source<V> for R {
    #[inline(always)]
    unsafe fn read(from: *const R) -> V {
        // SAFETY: the caller vouches for sixteen elements.
        unsafe { V::load(from) }
    }
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
                x[l] += x[l + width];
            }
            width /= 2;
        }
        x[0]
    }
}

/// Scores of [`Kernel`]; tiles of `M` rows by `N` keys.
///
/// # Safety
/// As [`Kernel`] says.
#[inline(always)]
unsafe fn scores<V: Vector, S: Source<V>, const M: usize, const N: usize>(
    q: *const V::Item,
    rows: usize,
    k: *const u8,
    distance: isize,
    keys: usize,
    width: usize,
    out: *mut V::Item,
) {
    #[inline(always)]
    unsafe fn tile<V: Vector, S: Source<V>, const M: usize, const N: usize>(
        q: *const V::Item,
        k: *const S,
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
                    keys[j] = S::read(k.offset(j as isize * distance).add(c));
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
                V::store_sums(&sums[r], out.add(r * SEGMENT));
            }
        }
    }
    let k = k.cast::<S>();
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
                    (true, true) => tile::<V, S, M, N>(q, k, distance, width, out),
                    (true, false) => tile::<V, S, M, 1>(q, k, distance, width, out),
                    (false, true) => tile::<V, S, 1, N>(q, k, distance, width, out),
                    (false, false) => tile::<V, S, 1, 1>(q, k, distance, width, out),
                }
            }
            j += if j + N <= keys { N } else { 1 };
        }
        r += if full { M } else { 1 };
    }
}

/// Values of [`Kernel`]; tiles of `M` rows by `N` vectors of features.
///
/// # Safety
/// As [`Kernel`] says.
#[inline(always)]
unsafe fn values<V: Vector, S: Source<V>, const M: usize, const N: usize>(
    weights: *const V::Item,
    rows: usize,
    v: *const u8,
    distance: isize,
    keys: usize,
    width: usize,
    out: *mut V::Item,
) {
    #[inline(always)]
    unsafe fn tile<V: Vector, S: Source<V>, const M: usize, const N: usize>(
        weights: *const V::Item,
        v: *const S,
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
                    values[n] = S::read(v.offset(j as isize * distance).add(n * LANES));
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
    let v = v.cast::<S>();
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
                    (true, true) => tile::<V, S, M, N>(w, v, distance, keys, width, out),
                    (true, false) => tile::<V, S, M, 1>(w, v, distance, keys, width, out),
                    (false, true) => tile::<V, S, 1, N>(w, v, distance, keys, width, out),
                    (false, false) => tile::<V, S, 1, 1>(w, v, distance, keys, width, out),
                }
            }
            r += if full { M } else { 1 };
        }
        c += if wide { N * LANES } else { LANES };
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{Kernels, Portable, Source, Vector, bf16, f16, scores, values};
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
        #[inline(always)]
        unsafe fn store_sums<const N: usize>(v: &[Self; N], to: *mut f32) {
            // SAFETY: AVX-512F; the caller vouches for `N` elements.
            unsafe {
                if N != 4 {
                    (0..N).for_each(|i| *to.add(i) = v[i].sum());
                    return;
                }
                // The same additions as `sum`, four at a time.
                let halves = |a: __m512, b: __m512| {
                    let low = _mm512_shuffle_f32x4::<0x44>(a, b);
                    _mm512_add_ps(low, _mm512_shuffle_f32x4::<0xee>(a, b))
                };
                let (ab, cd) = (halves(v[0].0, v[1].0), halves(v[2].0, v[3].0));
                let even = _mm512_shuffle_f32x4::<0x88>(ab, cd);
                let four = _mm512_add_ps(even, _mm512_shuffle_f32x4::<0xdd>(ab, cd));
                let two = _mm512_add_ps(four, _mm512_permute_ps::<0x4e>(four));
                let one = _mm512_add_ps(two, _mm512_permute_ps::<0xb1>(two));
                let firsts = _mm512_setr_epi32(0, 4, 8, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);
                let sums = _mm512_castps512_ps128(_mm512_permutexvar_ps(firsts, one));
                _mm_storeu_ps(to, sums);
            }
        }
    }

    impl Source<Wide> for bf16 {
        #[inline(always)]
        unsafe fn read(from: *const bf16) -> Wide {
            // SAFETY: AVX-512F; the caller vouches for sixteen elements.
            unsafe {
                let wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(from.cast()));
                Wide(_mm512_castsi512_ps(_mm512_slli_epi32::<16>(wide)))
            }
        }
    }

    impl Source<Wide> for f16 {
        #[inline(always)]
        unsafe fn read(from: *const f16) -> Wide {
            // SAFETY: AVX-512F; the caller vouches for sixteen elements.
            Wide(unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(from.cast())) })
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
                Pair(_mm256_fmadd_ps(self.0, by.0, plus.0), _mm256_fmadd_ps(self.1, by.1, plus.1))
            }
        }
        #[inline(always)]
        unsafe fn sum(self) -> f32 {
            // SAFETY: AVX.
            unsafe { sum_eight(_mm256_add_ps(self.0, self.1)) }
        }
    }

    impl Source<Pair> for bf16 {
        #[inline(always)]
        unsafe fn read(from: *const bf16) -> Pair {
            // SAFETY: AVX2; the caller vouches for sixteen elements.
            unsafe {
                let half = |i| {
                    let wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(from.add(i).cast()));
                    _mm256_castsi256_ps(_mm256_slli_epi32::<16>(wide))
                };
                Pair(half(0), half(8))
            }
        }
    }

    impl Source<Pair> for f16 {
        #[inline(always)]
        unsafe fn read(from: *const f16) -> Pair {
            // SAFETY: F16C; the caller vouches for sixteen elements.
            unsafe {
                let half = |i| _mm256_cvtph_ps(_mm_loadu_si128(from.add(i).cast()));
                Pair(half(0), half(8))
            }
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

    macro_rules! kernels {
        ($name:ident, $features:literal, $real:ty, $vector:ty, $source:ty, $m:literal, $n:literal) => {
            pub(in super::super) const $name: Kernels<$real> = {
                /// # Safety
                /// As [`super::super::Kernel`] says; and the processor must have the level.
                #[target_feature(enable = $features)]
                unsafe fn dot(
                    q: *const $real,
                    rows: usize,
                    k: *const u8,
                    distance: isize,
                    keys: usize,
                    width: usize,
                    out: *mut $real,
                ) {
                    // SAFETY: the caller's, passed on.
                    unsafe {
                        scores::<$vector, $source, $m, $n>(q, rows, k, distance, keys, width, out)
                    }
                }
                /// # Safety
                /// As above.
                #[target_feature(enable = $features)]
                unsafe fn weigh(
                    weights: *const $real,
                    rows: usize,
                    v: *const u8,
                    distance: isize,
                    keys: usize,
                    width: usize,
                    out: *mut $real,
                ) {
                    // SAFETY: the caller's, passed on.
                    unsafe {
                        values::<$vector, $source, $m, $n>(
                            weights, rows, v, distance, keys, width, out,
                        )
                    }
                }
                Kernels { scores: dot, values: weigh }
            };
        };
    }

    pub(super) mod wide {
        use super::*;
        kernels!(F32, "avx2,fma,avx512f,avx512dq,avx512vl", f32, Wide, f32, 4, 4);
        kernels!(BF16, "avx2,fma,avx512f,avx512dq,avx512vl", f32, Wide, bf16, 4, 4);
        kernels!(F16, "avx2,fma,avx512f,avx512dq,avx512vl", f32, Wide, f16, 4, 4);
    }

    pub(super) mod pair {
        use super::*;
        kernels!(F32, "avx2,fma", f32, Pair, f32, 2, 2);
        kernels!(BF16, "avx2,fma", f32, Pair, bf16, 2, 2);
        kernels!(F16, "avx2,fma,f16c", f32, Pair, f16, 2, 2);
    }

    pub(super) mod double {
        use super::*;
        kernels!(WIDE, "avx2,avx512f,avx512dq,avx512vl", f64, Portable<f64>, f64, 2, 2);
        kernels!(PAIR, "avx2", f64, Portable<f64>, f64, 2, 1);
    }
}

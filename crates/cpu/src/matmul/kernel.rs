//! Micro-kernels: a tile of `c` that stays in registers while `k` runs.
//!
//! A kernel takes a panel of `a`, `[k][rows]` with at most `mr` rows, and a panel of `b`, `[k][nr]`,
//! and adds their product to `rows × nr` elements of `c`. Vectors lie along `nr`; elements of `a` are
//! broadcast. Each accumulator takes its products in the order of `k` (see [`super::driver`]).

#[cfg(target_arch = "x86_64")]
use crate::isa::{Isa, isa};
use bytemuck::Pod;

/// A type that products are computed in.
pub(crate) trait Compute: Pod + Default + Send + Sync {
    /// The kernel for products of `m` rows.
    fn kernel(m: usize) -> Kernel<Self>;

    /// `a * b + c`, fused where the target always can.
    fn mul_add(a: Self, b: Self, c: Self) -> Self;
}

/// `run(rows, k, a, b, c, ldc, add)`: `c = a · b`, or `c += a · b` if `add`.
///
/// # Safety
/// `a` holds `k * rows` elements, `b` holds `k * nr`, `c` has `rows` rows of `nr` elements at distance
/// `ldc`, initialised if `add`; `1 <= rows <= mr`.
type Run<T> = unsafe fn(usize, usize, *const T, *const T, *mut T, usize, bool);

/// A micro-kernel and the panels it wants.
pub(crate) struct Kernel<T> {
    /// Most rows of `a` in a panel.
    pub(crate) mr: usize,
    /// Columns of `b` in a panel.
    pub(crate) nr: usize,
    /// Length of a block along `k`; a multiple of 512.
    pub(crate) kc: usize,
    /// The kernel.
    pub(crate) run: Run<T>,
}

/// Defines a [`Run`] that calls `$body` with `$m` the number of rows as a constant.
macro_rules! by_rows {
    ($name:ident: $t:ty, $($rows:literal)|+, $m:ident => $body:expr) => {
        /// # Safety
        /// As for [`Run`].
        pub(super) unsafe fn $name(
            rows: usize,
            k: usize,
            a: *const $t,
            b: *const $t,
            c: *mut $t,
            ldc: usize,
            add: bool,
        ) {
            match rows {
                $($rows => {
                    const $m: usize = $rows;
                    // SAFETY: the caller keeps the contract of `Run`; `kernel` picks a level that
                    // the processor has.
                    unsafe { $body(k, a, b, c, ldc, add) }
                })+
                _ => unreachable!("{rows} rows"),
            }
        }
    };
}

impl Compute for f32 {
    fn kernel(m: usize) -> Kernel<f32> {
        #[cfg(target_arch = "x86_64")]
        match isa() {
            Isa::Avx512 if m <= 4 => return Kernel { mr: 4, nr: 64, kc: 256, run: x86::f32_4x64 },
            Isa::Avx512 => return Kernel { mr: 12, nr: 32, kc: 256, run: x86::f32_12x32 },
            Isa::Avx2 => return Kernel { mr: 6, nr: 16, kc: 256, run: x86::f32_6x16 },
            Isa::Scalar => {}
        }
        let _ = m;
        Kernel { mr: 4, nr: 8, kc: 256, run: portable_f32 }
    }

    #[inline(always)]
    fn mul_add(a: f32, b: f32, c: f32) -> f32 {
        if cfg!(any(target_arch = "aarch64", target_feature = "fma")) {
            a.mul_add(b, c)
        } else {
            a * b + c
        }
    }
}

impl Compute for f64 {
    fn kernel(_m: usize) -> Kernel<f64> {
        #[cfg(target_arch = "x86_64")]
        match isa() {
            Isa::Avx512 => return Kernel { mr: 12, nr: 16, kc: 256, run: x86::f64_12x16 },
            Isa::Avx2 => return Kernel { mr: 6, nr: 8, kc: 256, run: x86::f64_6x8 },
            Isa::Scalar => {}
        }
        Kernel { mr: 4, nr: 4, kc: 256, run: portable_f64 }
    }

    #[inline(always)]
    fn mul_add(a: f64, b: f64, c: f64) -> f64 {
        if cfg!(any(target_arch = "aarch64", target_feature = "fma")) {
            a.mul_add(b, c)
        } else {
            a * b + c
        }
    }
}

impl Compute for i32 {
    fn kernel(_m: usize) -> Kernel<i32> {
        #[cfg(target_arch = "x86_64")]
        match isa() {
            Isa::Avx512 => return Kernel { mr: 8, nr: 32, kc: 256, run: x86::i32_8x32 },
            Isa::Avx2 => return Kernel { mr: 4, nr: 16, kc: 256, run: x86::i32_4x16 },
            Isa::Scalar => {}
        }
        Kernel { mr: 4, nr: 8, kc: 256, run: portable_i32 }
    }

    #[inline(always)]
    fn mul_add(a: i32, b: i32, c: i32) -> i32 {
        a.wrapping_mul(b).wrapping_add(c)
    }
}

impl Compute for i64 {
    fn kernel(_m: usize) -> Kernel<i64> {
        #[cfg(target_arch = "x86_64")]
        match isa() {
            Isa::Avx512 => return Kernel { mr: 8, nr: 16, kc: 256, run: x86::i64_8x16 },
            Isa::Avx2 => return Kernel { mr: 4, nr: 8, kc: 256, run: x86::i64_4x8 },
            Isa::Scalar => {}
        }
        Kernel { mr: 4, nr: 4, kc: 256, run: portable_i64 }
    }

    #[inline(always)]
    fn mul_add(a: i64, b: i64, c: i64) -> i64 {
        a.wrapping_mul(b).wrapping_add(c)
    }
}

/// The kernel in plain Rust: arrays that the compiler keeps in registers.
///
/// # Safety
/// As for [`Run`], with exactly `M` rows and `N` columns.
#[inline(always)]
unsafe fn portable<T: Compute, const M: usize, const N: usize>(
    k: usize,
    a: *const T,
    b: *const T,
    c: *mut T,
    ldc: usize,
    add: bool,
) {
    // SAFETY: the caller vouches for the panels and the tile.
    unsafe {
        let mut acc = [[T::default(); N]; M];
        if add {
            for i in 0..M {
                acc[i] = c.add(i * ldc).cast::<[T; N]>().read_unaligned();
            }
        }
        for p in 0..k {
            let (x, y) = (a.add(p * M), b.add(p * N));
            for i in 0..M {
                for j in 0..N {
                    acc[i][j] = T::mul_add(*x.add(i), *y.add(j), acc[i][j]);
                }
            }
        }
        for i in 0..M {
            c.add(i * ldc).cast::<[T; N]>().write_unaligned(acc[i]);
        }
    }
}

by_rows!(portable_f32: f32, 1 | 2 | 3 | 4, M => portable::<f32, M, 8>);
by_rows!(portable_f64: f64, 1 | 2 | 3 | 4, M => portable::<f64, M, 4>);
by_rows!(portable_i32: i32, 1 | 2 | 3 | 4, M => portable::<i32, M, 8>);
by_rows!(portable_i64: i64, 1 | 2 | 3 | 4, M => portable::<i64, M, 4>);

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{Compute, portable};
    use std::arch::x86_64::*;

    by_rows!(f32_4x64: f32, 1 | 2 | 3 | 4, M => f32_512::<M, 4>);
    by_rows!(f32_12x32: f32, 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8 | 9 | 10 | 11 | 12, M => f32_512::<M, 2>);
    by_rows!(f32_6x16: f32, 1 | 2 | 3 | 4 | 5 | 6, M => f32_256::<M, 2>);
    by_rows!(f64_12x16: f64, 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8 | 9 | 10 | 11 | 12, M => f64_512::<M, 2>);
    by_rows!(f64_6x8: f64, 1 | 2 | 3 | 4 | 5 | 6, M => f64_256::<M, 2>);
    by_rows!(i32_8x32: i32, 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8, M => i32_512::<M, 2>);
    by_rows!(i32_4x16: i32, 1 | 2 | 3 | 4, M => i32_256::<M, 2>);
    by_rows!(i64_8x16: i64, 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8, M => i64_512::<M, 2>);
    by_rows!(i64_4x8: i64, 1 | 2 | 3 | 4, M => int_256::<i64, M, 8>);

    /// A kernel of `M` rows by `V` vectors.
    macro_rules! vector_kernel {
        ($name:ident: $t:ty, $features:literal, $lanes:literal, $zero:ident, $load:ident, $set1:ident, $fma:ident, $store:ident) => {
            /// # Safety
            /// As for [`super::Run`], with `M` rows and `V` vectors of columns.
            #[target_feature(enable = $features)]
            unsafe fn $name<const M: usize, const V: usize>(
                k: usize,
                a: *const $t,
                b: *const $t,
                c: *mut $t,
                ldc: usize,
                add: bool,
            ) {
                // SAFETY: the caller vouches for the panels and the tile.
                unsafe {
                    let mut acc = [[$zero(); V]; M];
                    if add {
                        for i in 0..M {
                            for v in 0..V {
                                acc[i][v] = $load(c.add(i * ldc + v * $lanes));
                            }
                        }
                    }
                    let (mut a, mut b) = (a, b);
                    for _ in 0..k {
                        let mut y = [$zero(); V];
                        for v in 0..V {
                            y[v] = $load(b.add(v * $lanes));
                        }
                        for i in 0..M {
                            let x = $set1(*a.add(i));
                            for v in 0..V {
                                acc[i][v] = $fma(x, y[v], acc[i][v]);
                            }
                        }
                        a = a.add(M);
                        b = b.add(V * $lanes);
                    }
                    for i in 0..M {
                        for v in 0..V {
                            $store(c.add(i * ldc + v * $lanes), acc[i][v]);
                        }
                    }
                }
            }
        };
    }

    vector_kernel!(f32_512: f32, "avx512f", 16, _mm512_setzero_ps, _mm512_loadu_ps, _mm512_set1_ps, _mm512_fmadd_ps, _mm512_storeu_ps);
    vector_kernel!(f64_512: f64, "avx512f", 8, _mm512_setzero_pd, _mm512_loadu_pd, _mm512_set1_pd, _mm512_fmadd_pd, _mm512_storeu_pd);
    vector_kernel!(f32_256: f32, "avx2,fma", 8, _mm256_setzero_ps, _mm256_loadu_ps, _mm256_set1_ps, _mm256_fmadd_ps, _mm256_storeu_ps);
    vector_kernel!(f64_256: f64, "avx2,fma", 4, _mm256_setzero_pd, _mm256_loadu_pd, _mm256_set1_pd, _mm256_fmadd_pd, _mm256_storeu_pd);

    /// Loads, stores, and `a * b + c` of integer vectors under the names of the float ones.
    macro_rules! int_vectors {
        ($t:ty, $v:ty, $features:literal, $load:ident = $loadu:ident, $store:ident = $storeu:ident, $madd:ident = $mul:ident, $add:ident) => {
            /// # Safety
            /// A vector must be readable.
            #[inline]
            #[target_feature(enable = $features)]
            unsafe fn $load(p: *const $t) -> $v {
                // SAFETY: the caller's contract.
                unsafe { $loadu(p.cast()) }
            }

            /// # Safety
            /// A vector must be writable.
            #[inline]
            #[target_feature(enable = $features)]
            unsafe fn $store(p: *mut $t, v: $v) {
                // SAFETY: the caller's contract.
                unsafe { $storeu(p.cast(), v) }
            }

            #[inline]
            #[target_feature(enable = $features)]
            fn $madd(a: $v, b: $v, c: $v) -> $v {
                $add($mul(a, b), c)
            }
        };
    }

    int_vectors!(
        i32,
        __m512i,
        "avx512f",
        load_i32 = _mm512_loadu_si512,
        store_i32 = _mm512_storeu_si512,
        madd_i32 = _mm512_mullo_epi32,
        _mm512_add_epi32
    );
    int_vectors!(
        i64,
        __m512i,
        "avx512f,avx512dq",
        load_i64 = _mm512_loadu_si512,
        store_i64 = _mm512_storeu_si512,
        madd_i64 = _mm512_mullo_epi64,
        _mm512_add_epi64
    );
    int_vectors!(
        i32,
        __m256i,
        "avx2",
        load_half_i32 = _mm256_loadu_si256,
        store_half_i32 = _mm256_storeu_si256,
        madd_half_i32 = _mm256_mullo_epi32,
        _mm256_add_epi32
    );

    vector_kernel!(i32_512: i32, "avx512f", 16, _mm512_setzero_si512, load_i32, _mm512_set1_epi32, madd_i32, store_i32);
    vector_kernel!(i64_512: i64, "avx512f,avx512dq", 8, _mm512_setzero_si512, load_i64, _mm512_set1_epi64, madd_i64, store_i64);
    vector_kernel!(i32_256: i32, "avx2", 8, _mm256_setzero_si256, load_half_i32, _mm256_set1_epi32, madd_half_i32, store_half_i32);

    /// # Safety
    /// As for [`portable`].
    #[target_feature(enable = "avx2,fma")]
    unsafe fn int_256<T: Compute, const M: usize, const N: usize>(
        k: usize,
        a: *const T,
        b: *const T,
        c: *mut T,
        ldc: usize,
        add: bool,
    ) {
        // SAFETY: the caller's contract is this function's.
        unsafe { portable::<T, M, N>(k, a, b, c, ldc, add) }
    }
}

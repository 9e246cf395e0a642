//! What the direct kernel computes with: stored types, their compute types, and vectors of 16.
//!
//! Compilers keep arrays of arrays in memory, so floats have vectors of registers on x86-64; other
//! types are arrays. `FUSED` says that the processor has AVX2, FMA and F16C: elements beside the
//! vectors are then computed to the same bits as inside.

use crate::convert;
use crate::matmul::kernel::Compute;
use half::{bf16, f16};
use lazul_ir::DType;

/// Elements of a vector.
pub(super) const LANES: usize = 16;

/// A compute type.
pub(super) trait Lane: Compute {
    /// `a * b + c`, fused where `FUSED` says that the processor can.
    fn multiply_add<const FUSED: bool>(a: Self, b: Self, c: Self) -> Self;
}

macro_rules! lane {
    ($($t:ty: $fused:expr),+) => {$(
        impl Lane for $t {
            #[inline(always)]
            fn multiply_add<const FUSED: bool>(a: $t, b: $t, c: $t) -> $t {
                if FUSED { $fused(a, b, c) } else { <$t as Compute>::mul_add(a, b, c) }
            }
        }
    )+};
}
lane!(f32: f32::mul_add, f64: f64::mul_add, i32: Compute::mul_add, i64: Compute::mul_add);

/// A stored type and its compute type.
pub(super) trait Stored: Copy + Read<Array<Self::T>> {
    type T: Lane;

    fn to(self) -> Self::T;
    fn from(x: Self::T) -> Self;

    /// Writes elements at distance `step`.
    ///
    /// # Safety
    /// They must be writable.
    #[inline(always)]
    unsafe fn store(values: &[Self::T], dst: *mut Self, step: usize) {
        for (i, &x) in values.iter().enumerate() {
            // SAFETY: the caller's contract.
            unsafe { dst.add(i * step).write(Self::from(x)) };
        }
    }
}

macro_rules! stored {
    ($($s:ty => $t:ty: $to:expr, $from:expr $(, $half:expr)?;)+) => {$(
        impl Stored for $s {
            type T = $t;
            #[inline(always)]
            fn to(self) -> $t { $to(self) }
            #[inline(always)]
            fn from(x: $t) -> $s { $from(x) }
            $(
                #[inline(always)]
                unsafe fn store(values: &[f32], dst: *mut $s, step: usize) {
                    // SAFETY: the caller's contract; the type is that of the dtype.
                    unsafe { store_half(values, $half, dst, step) }
                }
            )?
        }
    )+};
}

/// A byte that is zero or one.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(super) struct Bool(u8);

// Wrapping products and sums have the same low bits whatever the sign.
stored! {
    f32 => f32: |x| x, |x| x;
    bf16 => f32: |x: bf16| f32::from_bits((x.to_bits() as u32) << 16), bf16::from_f32, DType::BF16;
    f16 => f32: f16::to_f32, f16::from_f32, DType::F16;
    f64 => f64: |x| x, |x| x;
    i64 => i64: |x| x, |x| x;
    i32 => i32: |x| x, |x| x;
    u16 => i32: |x| x as i32, |x| x as u16;
    u8 => i32: |x| x as i32, |x| x as u8;
    Bool => i32: |x: Bool| x.0 as i32, |x| Bool((x != 0) as u8);
}

/// # Safety
/// As for [`Stored::store`]; `S` must be the type of `dtype`.
#[inline(always)]
unsafe fn store_half<S: Stored<T = f32>>(values: &[f32], dtype: DType, dst: *mut S, step: usize) {
    // SAFETY: the caller's contract.
    unsafe {
        if step == 1 {
            return convert::store_f32(values, dtype, dst.cast());
        }
        for (i, &x) in values.iter().enumerate() {
            dst.add(i * step).write(S::from(x));
        }
    }
}

/// 16 numbers. All functions ask for memory of as many, and for a processor that has the vector's
/// instructions.
pub(super) trait Vector: Copy {
    type T: Lane;
    unsafe fn zero() -> Self;
    unsafe fn load(src: *const Self::T) -> Self;
    unsafe fn store(self, dst: *mut Self::T);
    /// `self * by + plus`.
    unsafe fn multiply_add(self, by: Self, plus: Self) -> Self;
}

/// A stored type of which 16 neighbours can be read as a vector.
pub(super) trait Read<V> {
    /// # Safety
    /// As for [`Vector`].
    unsafe fn read(src: *const Self) -> V;
}

/// Numbers without vectors of their own.
#[derive(Clone, Copy)]
pub(super) struct Array<T>([T; LANES]);

impl<T: Lane> Vector for Array<T> {
    type T = T;
    #[inline(always)]
    unsafe fn zero() -> Self {
        Array([T::default(); LANES])
    }
    #[inline(always)]
    unsafe fn load(src: *const T) -> Self {
        // SAFETY: the caller's contract.
        Array(unsafe { src.cast::<[T; LANES]>().read_unaligned() })
    }
    #[inline(always)]
    unsafe fn store(self, dst: *mut T) {
        // SAFETY: the caller's contract.
        unsafe { dst.cast::<[T; LANES]>().write_unaligned(self.0) }
    }
    #[inline(always)]
    unsafe fn multiply_add(self, by: Self, plus: Self) -> Self {
        let mut sum = plus.0;
        for l in 0..LANES {
            sum[l] = T::mul_add(self.0[l], by.0[l], sum[l]);
        }
        Array(sum)
    }
}

impl<S: Stored> Read<Array<S::T>> for S {
    #[inline(always)]
    unsafe fn read(src: *const S) -> Array<S::T> {
        // SAFETY: the caller's contract.
        unsafe {
            let mut read = Array::zero();
            for l in 0..LANES {
                read.0[l] = src.add(l).read().to();
            }
            read
        }
    }
}

/// Vectors of registers. Functions are reached only through kernels of their level.
#[cfg(target_arch = "x86_64")]
pub(super) mod x86 {
    use super::{Read, Vector};
    use half::{bf16, f16};
    use std::arch::x86_64::*;

    macro_rules! vector {
        ($name:ident: $t:ty, $register:ty, $count:literal, $zero:ident, $load:ident, $store:ident, $fma:ident) => {
            #[derive(Clone, Copy)]
            pub(crate) struct $name([$register; $count]);

            impl Vector for $name {
                type T = $t;
                #[inline(always)]
                unsafe fn zero() -> Self {
                    // SAFETY: the processor has the instructions.
                    $name([unsafe { $zero() }; $count])
                }
                #[inline(always)]
                unsafe fn load(src: *const $t) -> Self {
                    // SAFETY: the caller's contract.
                    unsafe {
                        let mut v = Self::zero();
                        for i in 0..$count {
                            v.0[i] = $load(src.add(i * (16 / $count)));
                        }
                        v
                    }
                }
                #[inline(always)]
                unsafe fn store(self, dst: *mut $t) {
                    for i in 0..$count {
                        // SAFETY: the caller's contract.
                        unsafe { $store(dst.add(i * (16 / $count)), self.0[i]) };
                    }
                }
                #[inline(always)]
                unsafe fn multiply_add(self, by: Self, plus: Self) -> Self {
                    let mut sum = plus;
                    for i in 0..$count {
                        // SAFETY: the processor has the instructions.
                        sum.0[i] = unsafe { $fma(self.0[i], by.0[i], plus.0[i]) };
                    }
                    sum
                }
            }

            impl Read<$name> for $t {
                #[inline(always)]
                unsafe fn read(src: *const $t) -> $name {
                    // SAFETY: the caller's contract.
                    unsafe { $name::load(src) }
                }
            }
        };
    }

    vector!(Wide: f32, __m512, 1, _mm512_setzero_ps, _mm512_loadu_ps, _mm512_storeu_ps, _mm512_fmadd_ps);
    vector!(WideDouble: f64, __m512d, 2, _mm512_setzero_pd, _mm512_loadu_pd, _mm512_storeu_pd, _mm512_fmadd_pd);
    vector!(Pair: f32, __m256, 2, _mm256_setzero_ps, _mm256_loadu_ps, _mm256_storeu_ps, _mm256_fmadd_ps);
    vector!(PairDouble: f64, __m256d, 4, _mm256_setzero_pd, _mm256_loadu_pd, _mm256_storeu_pd, _mm256_fmadd_pd);

    // SAFETY of the blocks below: the caller's contract.
    impl Read<Wide> for bf16 {
        #[inline(always)]
        unsafe fn read(src: *const bf16) -> Wide {
            // SAFETY: as above.
            unsafe {
                let words = _mm512_cvtepu16_epi32(_mm256_loadu_si256(src.cast()));
                Wide([_mm512_castsi512_ps(_mm512_slli_epi32::<16>(words))])
            }
        }
    }

    impl Read<Wide> for f16 {
        #[inline(always)]
        unsafe fn read(src: *const f16) -> Wide {
            // SAFETY: as above.
            Wide([unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(src.cast())) }])
        }
    }

    impl Read<Pair> for bf16 {
        #[inline(always)]
        unsafe fn read(src: *const bf16) -> Pair {
            // SAFETY: as above.
            unsafe {
                let mut v = Pair::zero();
                for i in 0..2 {
                    let words = _mm256_cvtepu16_epi32(_mm_loadu_si128(src.add(8 * i).cast()));
                    v.0[i] = _mm256_castsi256_ps(_mm256_slli_epi32::<16>(words));
                }
                v
            }
        }
    }

    impl Read<Pair> for f16 {
        #[inline(always)]
        unsafe fn read(src: *const f16) -> Pair {
            // SAFETY: as above.
            unsafe {
                let mut v = Pair::zero();
                for i in 0..2 {
                    v.0[i] = _mm256_cvtph_ps(_mm_loadu_si128(src.add(8 * i).cast()));
                }
                v
            }
        }
    }
}

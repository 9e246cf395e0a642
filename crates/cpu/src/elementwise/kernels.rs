//! Block kernels as plain function pointers, and the macros that make them.
//!
//! A kernel computes `n` neighbouring elements of compute types. Its destination never overlaps an
//! argument (the executor sees to it), so the compiler vectorises the loop; [`dispatch!`] compiles
//! it for each instruction-set level.

use crate::dispatch;

/// `(argument, destination, n)`.
pub(crate) type Kernel1 = unsafe fn(*const u8, *mut u8, usize);
/// `(arguments, destination, n)`.
pub(crate) type Kernel2 = unsafe fn(*const u8, *const u8, *mut u8, usize);
/// `(arguments, destination, n)`; where it chooses, the condition comes first.
pub(crate) type Kernel3 = unsafe fn(*const u8, *const u8, *const u8, *mut u8, usize);

/// What one step runs.
#[derive(Clone, Copy)]
pub(crate) enum Kernel {
    One(Kernel1),
    Two(Kernel2),
    Three(Kernel3),
}

/// An element-wise function of one argument, inlined into its loop.
pub(super) trait Map1<A, D>: Copy + Default {
    fn apply(self, a: A) -> D;
}

/// An element-wise function of two arguments, inlined into its loop.
pub(super) trait Map2<A, D>: Copy + Default {
    fn apply(self, a: A, b: A) -> D;
}

/// An element-wise function of three arguments, inlined into its loop.
pub(super) trait Map3<T>: Copy + Default {
    fn apply(self, a: T, b: T, c: T) -> T;
}

dispatch! {
fn map1<A: Copy, D: Copy, F: Map1<A, D>>(a: &[A], d: &mut [D], f: F) {
    for (d, &a) in d.iter_mut().zip(a) {
        *d = f.apply(a);
    }
}
}

dispatch! {
fn map2<A: Copy, D: Copy, F: Map2<A, D>>(a: &[A], b: &[A], d: &mut [D], f: F) {
    for ((d, &a), &b) in d.iter_mut().zip(a).zip(b) {
        *d = f.apply(a, b);
    }
}
}

dispatch! {
fn map3<T: Copy, F: Map3<T>>(a: &[T], b: &[T], c: &[T], d: &mut [T], f: F) {
    for (((d, &a), &b), &c) in d.iter_mut().zip(a).zip(b).zip(c) {
        *d = f.apply(a, b, c);
    }
}
}

dispatch! {
fn choose<T: Copy>(c: &[u8], a: &[T], b: &[T], d: &mut [T]) {
    for (((d, &c), &a), &b) in d.iter_mut().zip(c).zip(a).zip(b) {
        *d = if c != 0 { a } else { b };
    }
}
}

/// # Safety
/// `a` and `d` must be valid for `n` elements and not overlap.
pub(super) unsafe fn erased1<A: Copy, D: Copy, F: Map1<A, D>>(a: *const u8, d: *mut u8, n: usize) {
    // SAFETY: the caller's promise; operands are aligned for their dtype.
    unsafe {
        let a = std::slice::from_raw_parts(a.cast(), n);
        map1::<A, D, F>(a, std::slice::from_raw_parts_mut(d.cast(), n), F::default());
    }
}

/// # Safety
/// `a`, `b` and `d` must be valid for `n` elements; `d` must not overlap the others.
pub(super) unsafe fn erased2<A: Copy, D: Copy, F: Map2<A, D>>(
    a: *const u8,
    b: *const u8,
    d: *mut u8,
    n: usize,
) {
    // SAFETY: the caller's promise; operands are aligned for their dtype.
    unsafe {
        let (a, b) =
            (std::slice::from_raw_parts(a.cast(), n), std::slice::from_raw_parts(b.cast(), n));
        map2::<A, D, F>(a, b, std::slice::from_raw_parts_mut(d.cast(), n), F::default());
    }
}

/// # Safety
/// All must be valid for `n` elements; `d` must not overlap the others.
pub(super) unsafe fn erased_chain<T: Copy, F: Map3<T>>(
    a: *const u8,
    b: *const u8,
    c: *const u8,
    d: *mut u8,
    n: usize,
) {
    // SAFETY: the caller's promise; operands are aligned for their dtype.
    unsafe {
        let [a, b, c] = [a, b, c].map(|x| std::slice::from_raw_parts(x.cast(), n));
        map3::<T, F>(a, b, c, std::slice::from_raw_parts_mut(d.cast(), n), F::default());
    }
}

/// # Safety
/// All must be valid for `n` elements; `d` must not overlap the others.
unsafe fn erased3<T: Copy>(c: *const u8, a: *const u8, b: *const u8, d: *mut u8, n: usize) {
    // SAFETY: the caller's promise; operands are aligned for their dtype.
    unsafe {
        let c = std::slice::from_raw_parts(c, n);
        let (a, b) =
            (std::slice::from_raw_parts(a.cast(), n), std::slice::from_raw_parts(b.cast(), n));
        choose::<T>(c, a, b, std::slice::from_raw_parts_mut(d.cast(), n));
    }
}

/// The kernel that chooses between elements of `size` bytes.
pub(super) fn select(size: usize) -> Kernel {
    Kernel::Three(match size {
        1 => erased3::<u8>,
        2 => erased3::<u16>,
        4 => erased3::<u32>,
        _ => erased3::<u64>,
    })
}

/// The kernel that copies elements of `size` bytes.
pub(super) fn copy(size: usize) -> Kernel {
    Kernel::One(match size {
        1 => k1!(u8 => u8, |x| x),
        2 => k1!(u16 => u16, |x| x),
        4 => k1!(u32 => u32, |x| x),
        _ => k1!(u64 => u64, |x| x),
    })
}

/// A [`Kernel1`] from an expression: `k1!(f32 => u8, |x| x.is_nan() as u8)`.
macro_rules! k1 {
    ($a:ty => $d:ty, |$x:ident| $body:expr) => {{
        #[derive(Clone, Copy, Default)]
        struct F;
        impl $crate::elementwise::kernels::Map1<$a, $d> for F {
            #[inline(always)]
            fn apply(self, $x: $a) -> $d {
                $body
            }
        }
        $crate::elementwise::kernels::erased1::<$a, $d, F> as $crate::elementwise::kernels::Kernel1
    }};
}

/// A [`Kernel2`] from an expression: `k2!(u32 => u8, |a, b| (a < b) as u8)`.
macro_rules! k2 {
    ($a:ty => $d:ty, |$x:ident, $y:ident| $body:expr) => {{
        #[derive(Clone, Copy, Default)]
        struct F;
        impl $crate::elementwise::kernels::Map2<$a, $d> for F {
            #[inline(always)]
            fn apply(self, $x: $a, $y: $a) -> $d {
                $body
            }
        }
        $crate::elementwise::kernels::erased2::<$a, $d, F> as $crate::elementwise::kernels::Kernel2
    }};
}

/// A kernel from an expression of three arguments of one type: `k3!(f32, |a, b, c| a * b + c)`.
macro_rules! k3 {
    ($t:ty, |$x:ident, $y:ident, $z:ident| $body:expr) => {{
        #[derive(Clone, Copy, Default)]
        struct F;
        impl $crate::elementwise::kernels::Map3<$t> for F {
            #[inline(always)]
            fn apply(self, $x: $t, $y: $t, $z: $t) -> $t {
                $body
            }
        }
        $crate::elementwise::kernels::Kernel::Three(
            $crate::elementwise::kernels::erased_chain::<$t, F>,
        )
    }};
}

pub(super) use {k1, k2, k3};

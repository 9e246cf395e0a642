//! The numbers of linear algebra: f64, and pairs of them.

use super::{Trouble, scratch};
use crate::linalg::matrix::Matrix;
use faer::Par;
use faer::diag::DiagMut;
use faer::dyn_stack::MemStack;
use faer::linalg::evd::{self, ComputeEigenvectors};
use faer::traits::ComplexField;
use lazul_ir::{Complex32, DType};
use num_complex::Complex64;
use std::ops::{Add, AddAssign, Div, DivAssign, Mul, MulAssign, Neg, Sub, SubAssign};

/// f64 or complex f64: what matrices are computed in.
pub(super) trait Field:
    ComplexField<Real = f64>
    + Copy
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + AddAssign
    + SubAssign
    + MulAssign
    + DivAssign
    + 'static
{
    fn from_real(x: f64) -> Self;
    fn real_part(self) -> f64;
    fn imaginary_part(self) -> f64;
    fn conjugate(self) -> Self;

    /// Distance from zero.
    fn magnitude(self) -> f64 {
        self.real_part().hypot(self.imaginary_part())
    }

    fn finite(self) -> bool {
        self.real_part().is_finite() && self.imaginary_part().is_finite()
    }

    /// Reads an element of a dtype, which is complex only if the type is.
    ///
    /// # Safety
    /// It must exist.
    unsafe fn read(src: *const u8, dtype: DType) -> Self;

    /// Writes an element of a dtype, which is real or complex as the type is.
    ///
    /// # Safety
    /// The place must exist.
    unsafe fn write(self, dst: *mut u8, dtype: DType);

    /// Eigenvalues of a matrix with finite entries, and the vectors, of any length, if asked for.
    fn eigen(
        a: &Matrix<Self>,
        vectors: bool,
    ) -> Result<(Vec<Complex64>, Option<Matrix<Complex64>>), Trouble>;
}

impl Field for f64 {
    #[inline(always)]
    fn from_real(x: f64) -> f64 {
        x
    }
    #[inline(always)]
    fn real_part(self) -> f64 {
        self
    }
    #[inline(always)]
    fn imaginary_part(self) -> f64 {
        0.0
    }
    #[inline(always)]
    fn conjugate(self) -> f64 {
        self
    }
    #[inline(always)]
    fn magnitude(self) -> f64 {
        self.abs()
    }

    #[inline(always)]
    unsafe fn read(src: *const u8, dtype: DType) -> f64 {
        // SAFETY: the caller's promise.
        unsafe {
            match dtype {
                DType::F64 => src.cast::<f64>().read(),
                _ => src.cast::<f32>().read() as f64,
            }
        }
    }

    #[inline(always)]
    unsafe fn write(self, dst: *mut u8, dtype: DType) {
        // SAFETY: the caller's promise.
        unsafe {
            match dtype {
                DType::F64 => dst.cast::<f64>().write(self),
                _ => dst.cast::<f32>().write(self as f32),
            }
        }
    }

    fn eigen(
        a: &Matrix<f64>,
        vectors: bool,
    ) -> Result<(Vec<Complex64>, Option<Matrix<Complex64>>), Trouble> {
        let n = a.rows;
        let (mut re, mut im) = (vec![0.0; n], vec![0.0; n]);
        let mut u = Matrix::zeros(n, if vectors { n } else { 0 })?;
        let (no, right) = (ComputeEigenvectors::No, compute(vectors));
        let mut memory =
            scratch(evd::evd_scratch::<f64>(n, no, right, Par::Seq, Default::default()))?;
        evd::evd_real(
            a.view(),
            DiagMut::from_slice_mut(&mut re),
            DiagMut::from_slice_mut(&mut im),
            None,
            vectors.then(|| u.view_mut()),
            Par::Seq,
            MemStack::new(&mut memory),
            Default::default(),
        )
        .map_err(|_| Trouble::NoConvergence)?;
        let w = re.iter().zip(&im).map(|(&re, &im)| Complex64::new(re, im)).collect();
        if !vectors {
            return Ok((w, None));
        }
        // A pair of conjugate values has the real and the imaginary part of the first one's vector.
        let mut v = Matrix::zeros(n, n)?;
        let mut j = 0;
        while j < n {
            let pair = im[j] != 0.0 && j + 1 < n;
            for i in 0..n {
                let z = Complex64::new(u.at(i, j), if pair { u.at(i, j + 1) } else { 0.0 });
                v.column_mut(j)[i] = z;
                if pair {
                    v.column_mut(j + 1)[i] = z.conj();
                }
            }
            j += if pair { 2 } else { 1 };
        }
        Ok((w, Some(v)))
    }
}

impl Field for Complex64 {
    #[inline(always)]
    fn from_real(x: f64) -> Complex64 {
        Complex64::new(x, 0.0)
    }
    #[inline(always)]
    fn real_part(self) -> f64 {
        self.re
    }
    #[inline(always)]
    fn imaginary_part(self) -> f64 {
        self.im
    }
    #[inline(always)]
    fn conjugate(self) -> Complex64 {
        self.conj()
    }

    #[inline(always)]
    unsafe fn read(src: *const u8, _: DType) -> Complex64 {
        // SAFETY: the caller's promise.
        let z = unsafe { src.cast::<Complex32>().read() };
        Complex64::new(z.re as f64, z.im as f64)
    }

    #[inline(always)]
    unsafe fn write(self, dst: *mut u8, _: DType) {
        // SAFETY: the caller's promise.
        unsafe { dst.cast::<Complex32>().write(Complex32::new(self.re as f32, self.im as f32)) }
    }

    fn eigen(
        a: &Matrix<Complex64>,
        vectors: bool,
    ) -> Result<(Vec<Complex64>, Option<Matrix<Complex64>>), Trouble> {
        let n = a.rows;
        let mut w = vec![Complex64::default(); n];
        let mut v = Matrix::zeros(n, if vectors { n } else { 0 })?;
        let (no, right) = (ComputeEigenvectors::No, compute(vectors));
        let mut memory =
            scratch(evd::evd_scratch::<Complex64>(n, no, right, Par::Seq, Default::default()))?;
        evd::evd_cplx::<f64>(
            a.view(),
            DiagMut::from_slice_mut(&mut w),
            None,
            vectors.then(|| v.view_mut()),
            Par::Seq,
            MemStack::new(&mut memory),
            Default::default(),
        )
        .map_err(|_| Trouble::NoConvergence)?;
        Ok((w, vectors.then_some(v)))
    }
}

fn compute(vectors: bool) -> ComputeEigenvectors {
    if vectors { ComputeEigenvectors::Yes } else { ComputeEigenvectors::No }
}

/// `Σ conj(x[i])·y[i]`, in eight strands.
pub(super) fn dot<T: Field>(x: &[T], y: &[T]) -> T {
    const LANES: usize = 8;
    let mut lanes = [T::from_real(0.0); LANES];
    let (x, y) = (&x[..y.len()], y);
    let (xs, ys) = (x.chunks_exact(LANES), y.chunks_exact(LANES));
    let rest = xs.remainder().iter().zip(ys.remainder());
    for (x, y) in xs.clone().zip(ys.clone()) {
        for l in 0..LANES {
            lanes[l] += x[l].conjugate() * y[l];
        }
    }
    let mut sum = lanes.into_iter().fold(T::from_real(0.0), |a, b| a + b);
    for (&x, &y) in rest {
        sum += x.conjugate() * y;
    }
    sum
}

/// `y[i] -= a·x[i]`.
pub(super) fn subtract<T: Field>(y: &mut [T], a: T, x: &[T]) {
    for (y, &x) in y.iter_mut().zip(x) {
        *y -= a * x;
    }
}

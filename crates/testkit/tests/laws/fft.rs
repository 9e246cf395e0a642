//! Cases of Fourier transforms, which are in single precision whatever they are given.

use crate::case::{ALL, AROUND, Case, Input, REAL};
use lazul_core::fft::{self, Fft, Norm};
use lazul_core::{Array, DType};
use lazul_ir::FftKind;

pub(crate) fn cases(kind: FftKind) -> Vec<Case> {
    type F = fn(&Array, Fft) -> Array;
    let (f, dtypes): (F, &[DType]) = match kind {
        FftKind::Forward => (fft::fft, ALL),
        FftKind::Inverse => (fft::ifft, ALL),
        FftKind::RealToHalf => (fft::rfft, REAL),
        FftKind::HalfToReal => (fft::irfft, ALL),
    };
    let case = |shape: &[usize], how: Fft| {
        let name = format!("{} {shape:?} {how:?}", kind.name());
        let inputs = vec![Input::numbers(shape, AROUND)];
        Case::new(name, dtypes, inputs, move |x| f(&x[0], how)).inside(DType::F32)
    };
    let whole = Fft::default();
    vec![
        case(&[2, 4], whole),
        case(&[5, 2], Fft { axis: 0, norm: Norm::Ortho, ..whole }),
        case(&[3], Fft { n: Some(5), norm: Norm::Forward, ..whole }),
        case(&[6], Fft { n: Some(4), ..whole }),
        case(&[3], Fft { n: Some(1), ..whole }),
        case(&[0, 3], whole),
    ]
}

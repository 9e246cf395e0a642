//! Fourier transforms: what is refused, shapes and dtypes, and the rules against their definitions.
//! Values are compared with NumPy's in `lazul-testkit`.

use super::*;
use crate::error::ErrorKind;
use crate::ops::creation::{identity, ones, zeros};
use crate::ops::join::{concatenate, stack};
use crate::random;
use crate::transforms::{grad, jvp, vjp, vmap};
use lazul_ir::Complex32;

fn values(shape: &[usize], seed: u64) -> Array {
    random::uniform(-1.0, 1.0, shape, DType::F32, Some(&random::key(seed)))
}

fn complex(shape: &[usize], seed: u64) -> Array {
    values(shape, seed) + values(shape, seed + 1) * Complex32::new(0.0, 1.0)
}

fn assert_close(a: &Array, b: &Array) {
    assert_eq!(a.shape().unwrap(), b.shape().unwrap());
    assert_eq!(a.dtype().unwrap(), b.dtype().unwrap());
    let far = (a - b).abs().max(..).item::<f32>().unwrap();
    assert!(far < 1e-5, "{far}\n{a}\n{b}");
}

/// Sum of products of real and imaginary parts.
fn inner(a: &Array, b: &Array) -> f32 {
    (a * b.conj()).real().sum(..).item().unwrap()
}

#[test]
fn dtypes_and_shapes() {
    let how = Fft::default();
    for dtype in DType::ALL {
        let x = ones([2, 6], DType::F32).astype(dtype);
        let y = fft(&x, how);
        assert_eq!((y.shape().unwrap(), y.dtype().unwrap()), (&[2, 6][..], DType::C64));
        assert_eq!(ifft(&x, how).dtype().unwrap(), DType::C64);
        let z = irfft(&x, how);
        assert_eq!((z.shape().unwrap(), z.dtype().unwrap()), (&[2, 10][..], DType::F32));
        let half = rfft(&x, how);
        if dtype == DType::C64 {
            assert_eq!(half.check().unwrap_err().kind(), ErrorKind::DType);
        } else {
            assert_eq!(half.shape().unwrap(), &[2, 4]);
            assert_eq!(half.at_index(1, 0).real().to_vec::<f32>().unwrap(), [6.0, 6.0]);
        }
    }
    let empty = fft(&zeros([0, 3], DType::F32), how);
    assert_eq!(empty.to_vec::<Complex32>().unwrap(), []);
}

#[test]
fn wrong_arguments() {
    let x = zeros([3, 4], DType::F32);
    let kind = |y: Array| y.check().unwrap_err().kind();
    assert_eq!(kind(fft(&x, Fft { axis: 2, ..Fft::default() })), ErrorKind::Axis);
    assert_eq!(kind(fft(&x, Fft { n: Some(0), ..Fft::default() })), ErrorKind::Shape);
    assert_eq!(kind(fft(&zeros([2, 0], DType::F32), Fft::default())), ErrorKind::Shape);
    assert_eq!(kind(irfft(&zeros([2, 1], DType::F32), Fft::default())), ErrorKind::Shape);
    let huge = Fft { n: Some(usize::MAX), ..Fft::default() };
    for f in [fft, ifft, rfft, irfft] {
        assert_eq!(kind(f(&x, huge)), ErrorKind::Shape);
        assert_eq!(kind(f(&Array::scalar(1.0f32), Fft::default())), ErrorKind::Axis);
    }
    let twice = Fftn { axes: Some(vec![0, -2]), ..Fftn::default() };
    assert_eq!(kind(fftn(&x, &twice)), ErrorKind::Axis);
    let unpaired = Fftn { s: Some(vec![2]), axes: Some(vec![0, 1]), ..Fftn::default() };
    assert_eq!(kind(fftn(&x, &unpaired)), ErrorKind::Shape);
    assert_eq!(kind(fft2(&zeros([3], DType::F32), &Fftn::default())), ErrorKind::Axis);
    assert_eq!(kind(rfftn(&Array::scalar(1.0f32), &Fftn::default())), ErrorKind::Axis);
    assert_eq!(fftn(&Array::scalar(2.0f32), &Fftn::default()).dtype().unwrap(), DType::C64);
    for f in [fftfreq, rfftfreq] {
        assert_eq!(kind(f(0, 1.0)), ErrorKind::Value);
        assert_eq!(kind(f(4, 0.0)), ErrorKind::Value);
        assert_eq!(kind(f(4, f64::NAN)), ErrorKind::Value);
    }
    assert_eq!(kind(fftshift(&x, 5)), ErrorKind::Axis);
    let error = rfft(&complex(&[2], 1), Fft::default()).check().unwrap_err();
    assert_eq!(error.op(), "rfft");
    assert_eq!(error.site().unwrap().file(), file!());
}

#[test]
fn wrong_frames() {
    let x = zeros([40], DType::F32);
    let kind = |y: Array| y.check().unwrap_err().kind();
    let small = Stft { n_fft: 8, ..Stft::default() };
    let with = |change: fn(&mut Stft)| {
        let mut how = small.clone();
        change(&mut how);
        how
    };
    assert_eq!(kind(stft(&x, &with(|h| h.n_fft = 0))), ErrorKind::Value);
    assert_eq!(kind(stft(&x, &with(|h| h.n_fft = 3))), ErrorKind::Value);
    assert_eq!(kind(stft(&x, &with(|h| h.hop_length = Some(0)))), ErrorKind::Value);
    assert_eq!(kind(stft(&x, &with(|h| h.win_length = Some(9)))), ErrorKind::Value);
    assert_eq!(kind(stft(&x, &with(|h| h.win_length = Some(0)))), ErrorKind::Value);
    let two = |h: &mut Stft| h.window = Some(ones([2, 2], DType::F32));
    assert_eq!(kind(stft(&x, &with(two))), ErrorKind::Shape);
    let other = |h: &mut Stft| {
        h.window = Some(ones([4], DType::F32));
        h.win_length = Some(5);
    };
    assert_eq!(kind(stft(&x, &with(other))), ErrorKind::Shape);
    let complex_window = |h: &mut Stft| h.window = Some(complex(&[8], 1));
    assert_eq!(kind(stft(&x, &with(complex_window))), ErrorKind::DType);
    let long = Stft { n_fft: 64, center: false, ..Stft::default() };
    assert_eq!(kind(stft(&x, &long)), ErrorKind::Shape);
    let onesided = with(|h| h.onesided = Some(true));
    assert_eq!(kind(stft(&complex(&[40], 1), &onesided)), ErrorKind::DType);
    assert_eq!(kind(stft(&Array::scalar(1.0f32), &small)), ErrorKind::Shape);
    assert_eq!(kind(stft(&zeros([0], DType::F32), &small)), ErrorKind::Shape);
    assert_eq!(kind(stft(&x, &with(|h| h.n_fft = usize::MAX))), ErrorKind::Shape);

    let y = complex(&[5, 6], 2);
    let back = Istft::default();
    assert_eq!(istft(&y, &back).shape().unwrap(), &[10]);
    let odd = Istft { n_fft: Some(10), ..Istft::default() };
    assert_eq!(kind(istft(&y, &odd)), ErrorKind::Shape);
    assert_eq!(kind(istft(&complex(&[5], 2), &back)), ErrorKind::Shape);
    assert_eq!(kind(istft(&zeros([5, 0], DType::C64), &back)), ErrorKind::Shape);
    assert_eq!(kind(istft(&zeros([0, 5], DType::C64), &back)), ErrorKind::Shape);
    let far = Istft { hop_length: Some(usize::MAX), ..Istft::default() };
    assert_eq!(kind(istft(&y, &far)), ErrorKind::Shape);
}

#[test]
fn frames_come_back_as_a_signal() {
    let x = values(&[2, 3, 50], 5);
    let window = (arange(8, DType::F32) * 0.4 + 0.3).sin();
    for (n, hop, center) in [(8, 2, true), (9, 3, true), (8, 1, false), (12, 4, true)] {
        let how = Stft {
            n_fft: n,
            hop_length: Some(hop),
            window: Some(window.clone()),
            center,
            ..Stft::default()
        };
        let y = stft(&x, &how);
        let back = Istft {
            n_fft: Some(n),
            hop_length: Some(hop),
            window: Some(window.clone()),
            center,
            length: Some(40),
            ..Istft::default()
        };
        let z = istft(&y, &back);
        assert_eq!(z.shape().unwrap(), &[2, 3, 40]);
        // Past the last whole frame there is nothing to come back.
        assert_close(&z.slice_axis(-1, 0, 36), &x.slice_axis(-1, 0, 36));
    }
}

const KINDS: [FftKind; 4] =
    [FftKind::Forward, FftKind::Inverse, FftKind::RealToHalf, FftKind::HalfToReal];

fn random_input(kind: FftKind, shape: [usize; 2], axis: usize, n: usize, seed: u64) -> Array {
    let mut shape = shape;
    shape[axis] = if kind == FftKind::HalfToReal { n / 2 + 1 } else { n };
    if kind == FftKind::RealToHalf { values(&shape, seed) } else { complex(&shape, seed) }
}

fn random_like(x: &Array, seed: u64) -> Array {
    let shape = x.shape().unwrap();
    if x.dtype().unwrap() == DType::C64 { complex(shape, seed) } else { values(shape, seed) }
}

/// `<c, F t> = <F* c, t>` for every kind: forward, the rule is the transform itself, so backward it is
/// right exactly if this holds.
#[test]
fn backward_is_the_adjoint_of_forward() {
    for kind in KINDS {
        for n in [1, 2, 3, 8, 9] {
            for axis in [0, 1] {
                let x = random_input(kind, [3, 3], axis, n, 10);
                let f = |x: &Array| apply(kind, x, axis, n, 0.7);
                let (t, c) = (random_like(&x, 20), random_like(&f(&x), 30));
                let (_, forward) = jvp(f, &x, &t).unwrap();
                assert_close(&forward, &f(&t));
                let (_, back) = vjp(f, &x, &c).unwrap();
                assert_eq!(back.dtype().unwrap(), x.dtype().unwrap());
                let (a, b) = (inner(&c, &forward), inner(&back, &t));
                assert!((a - b).abs() < 1e-4, "{kind:?} n={n} axis={axis}: {a} {b}");
                // There are no imaginary parts where the transform has none to read.
                if kind == FftKind::HalfToReal {
                    let first = back.slice_axis(axis as i64, 0, 1).imag();
                    assert_eq!(first.abs().max(..).item::<f32>().unwrap(), 0.0);
                }
            }
        }
    }
}

#[test]
fn batched_is_one_by_one() {
    for kind in KINDS {
        for (axis, n) in [(0, 5), (1, 6)] {
            let all: Vec<Array> =
                (0..4).map(|i| random_input(kind, [2, 3], axis, n, 40 + 2 * i)).collect();
            let f = |x: &Array| apply(kind, x, axis, n, 0.5);
            let each: Vec<Array> = all.iter().map(f).collect();
            assert_close(&vmap(f)(&stack(&all, 0)).unwrap(), &stack(&each, 0));
        }
    }
}

/// By finite differences: the energy of a windowed signal's spectrum, and the way back.
#[test]
fn gradients_through_frames() {
    let x = values(&[40], 70);
    let how = Stft { n_fft: 8, ..Stft::default() };
    let loss = |x: &Array| {
        let y = stft(x, &how);
        let back = istft(&(&y * &y), &Istft::default());
        y.abs().square().sum(..) + (back * x).sum(..)
    };
    let gradient = grad(loss)(&x).unwrap();
    let t = values(&[40], 71);
    let at = |h: f32| loss(&(&x + &t * h)).item::<f32>().unwrap();
    let (numeric, ours) = ((at(0.01) - at(-0.01)) / 0.02, inner(&gradient, &t));
    assert!((numeric - ours).abs() < 2e-3 * ours.abs().max(1.0), "{numeric} {ours}");
}

#[test]
fn several_axes_are_one_after_the_other() {
    let x = values(&[3, 4, 5], 50);
    let at = |axis| Fft { axis, norm: Norm::Ortho, ..Fft::default() };
    let how =
        |axes: &[i64]| Fftn { axes: Some(axes.to_vec()), norm: Norm::Ortho, ..Fftn::default() };
    assert_close(&fftn(&x, &how(&[0, 2])), &fft(&fft(&x, at(0)), at(2)));
    let half = rfftn(&x, &how(&[2, 0, 1]));
    assert_close(&half, &fft(&fft(&rfft(&x, at(1)), at(0)), at(2)));
    let back = irfftn(&half, &Fftn { s: Some(vec![5, 3, 4]), ..how(&[2, 0, 1]) });
    assert_close(&back, &x);
}

/// The transform's matrix is the transform of the identity.
#[test]
fn a_matrix_of_its_own() {
    let f = fft(&identity(6, DType::F32), Fft { norm: Norm::Ortho, ..Fft::default() });
    let product = f.matmul(&f.conj().t());
    assert_close(&product, &identity(6, DType::C64));
    let x = values(&[6], 60);
    let y = concatenate(&[x.clone(), zeros([3], DType::F32)], 0);
    let padded = Fft { n: Some(9), ..Fft::default() };
    assert_close(&fft(&x, padded), &fft(&y, Fft::default()));
}

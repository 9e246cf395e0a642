//! Fourier transforms against their definition in double precision, over lengths, layouts, axes and
//! thread counts.

use crate::testing::{Rng, Tensor, inline, layouts, run};
use lazul_ir::{Complex32, DType, F32Bits, FftKind, Prim};

type Complex = [f64; 2];

/// `Σ x[j] exp(sign · 2πi·jk/n)`, by definition.
fn dft(x: &[Complex], sign: f64) -> Vec<Complex> {
    let n = x.len();
    (0..n)
        .map(|k| {
            let mut sum = [0.0; 2];
            for (j, x) in x.iter().enumerate() {
                let angle = sign * std::f64::consts::TAU * (j * k % n) as f64 / n as f64;
                let (sin, cos) = angle.sin_cos();
                sum[0] += x[0] * cos - x[1] * sin;
                sum[1] += x[0] * sin + x[1] * cos;
            }
            sum
        })
        .collect()
}

/// What a transform of one line gives.
fn reference(kind: FftKind, x: &[Complex], n: usize) -> Vec<Complex> {
    match kind {
        FftKind::Forward => dft(x, -1.0),
        FftKind::Inverse => dft(x, 1.0),
        FftKind::RealToHalf => dft(x, -1.0)[..n / 2 + 1].to_vec(),
        FftKind::HalfToReal => {
            let mut full = vec![[0.0; 2]; n];
            for (k, &[re, im]) in x.iter().enumerate() {
                let own = k == 0 || 2 * k == n;
                full[k] = [re, if own { 0.0 } else { im }];
                if !own {
                    full[n - k] = [re, -im];
                }
            }
            dft(&full, 1.0).iter().map(|z| [z[0], 0.0]).collect()
        }
    }
}

const KINDS: [FftKind; 4] =
    [FftKind::Forward, FftKind::Inverse, FftKind::RealToHalf, FftKind::HalfToReal];

/// Length of a line of the operand and of the output, and their dtypes, for `n` points.
fn form(kind: FftKind, n: usize) -> (usize, usize, DType, DType) {
    match kind {
        FftKind::Forward | FftKind::Inverse => (n, n, DType::C64, DType::C64),
        FftKind::RealToHalf => (n, n / 2 + 1, DType::F32, DType::C64),
        FftKind::HalfToReal => (n / 2 + 1, n, DType::C64, DType::F32),
    }
}

fn random(rng: &mut Rng, dtype: DType, shape: &[usize]) -> Tensor {
    if dtype == DType::F32 {
        return rng.tensor(dtype, shape, -1.0, 1.0);
    }
    let n: usize = shape.iter().product();
    let value = |rng: &mut Rng| rng.uniform(-1.0, 1.0) as f32;
    let values: Vec<_> = (0..n).map(|_| Complex32::new(value(rng), value(rng))).collect();
    Tensor::new(&values, shape)
}

fn complex(t: &Tensor) -> Vec<Complex> {
    if t.dtype == DType::F32 {
        return t.to_f64().into_iter().map(|x| [x, 0.0]).collect();
    }
    t.to_vec::<Complex32>().iter().map(|z| [z.re as f64, z.im as f64]).collect()
}

fn prim(kind: FftKind, axis: usize, scale: f32) -> Prim {
    Prim::Fft { kind, axis: axis as u8, scale: F32Bits::new(scale) }
}

/// Checks a transform of `(outer, n, inner)` along axis 1.
fn check(kind: FftKind, [outer, n, inner]: [usize; 3], x: &Tensor, y: &Tensor, scale: f64) {
    let (m, k, ..) = form(kind, n);
    let (x, y) = (complex(x), complex(y));
    for o in 0..outer {
        for i in 0..inner {
            let line: Vec<_> = (0..m).map(|j| x[(o * m + j) * inner + i]).collect();
            let want = reference(kind, &line, n);
            let size = want.iter().map(|z| z[0].hypot(z[1])).fold(0.0, f64::max);
            for (j, want) in want.iter().enumerate() {
                let got = y[(o * k + j) * inner + i];
                let error = (got[0] - scale * want[0]).hypot(got[1] - scale * want[1]);
                let bound = 4e-7 * scale * size.max((n as f64).sqrt());
                assert!(error <= bound, "{kind:?} n={n} line ({o},{i}) at {j}: off by {error}");
            }
        }
    }
}

#[test]
fn every_length_is_its_definition() {
    let mut rng = Rng(3);
    let lengths = (1..40).chain([64, 97, 100, 127, 128, 211, 243, 257, 360, 499, 512, 1009, 1200]);
    for n in lengths {
        for kind in KINDS {
            let (m, k, from, to) = form(kind, n);
            let x = random(&mut rng, from, &[2, m]);
            let y = run(&prim(kind, 1, 0.5), &[&x], to, &[2, k]);
            check(kind, [2, n, 1], &x, &y, 0.5);
        }
    }
}

/// Powers of two on both sides of the bounds between one way and another of computing them: tables of all
/// roots or of some, lines that threads share. What comes out is compared at some places only.
#[test]
fn long_powers_of_two_are_their_definition() {
    let mut rng = Rng(9);
    for bits in [8, 9, 10, 11, 13, 14, 15, 16, 17] {
        let n = 1usize << bits;
        for kind in KINDS {
            let (m, k, from, to) = form(kind, n);
            let x = random(&mut rng, from, &[2, m]);
            let on = || run(&prim(kind, 1, 0.5), &[&x], to, &[2, k]);
            let y = on();
            assert_eq!(y.bits(), inline(on).bits(), "{kind:?} n={n} on one thread");
            let (x, y) = (complex(&x)[m..].to_vec(), complex(&y)[k..].to_vec());
            let sign =
                if matches!(kind, FftKind::Inverse | FftKind::HalfToReal) { 1.0 } else { -1.0 };
            let size = (n as f64).sqrt() * 2.0;
            let places = [
                0,
                1,
                2,
                15,
                16,
                17,
                255,
                k / 2 - 1,
                k / 2,
                k / 2 + 1,
                k / 3,
                k - 17,
                k - 2,
                k - 1,
            ];
            for at in places.into_iter().filter(|&at| at < k) {
                let mut sum = [0.0; 2];
                let mut add = |j: usize, [re, im]: Complex| {
                    let angle = sign * std::f64::consts::TAU * (j * at % n) as f64 / n as f64;
                    let (sin, cos) = angle.sin_cos();
                    sum[0] += re * cos - im * sin;
                    sum[1] += re * sin + im * cos;
                };
                for (j, &[re, im]) in x.iter().enumerate() {
                    match kind {
                        FftKind::HalfToReal if j == 0 || j == n / 2 => add(j, [re, 0.0]),
                        FftKind::HalfToReal => {
                            add(j, [re, im]);
                            add(n - j, [re, -im]);
                        }
                        _ => add(j, [re, im]),
                    }
                }
                let error = (y[at][0] - 0.5 * sum[0]).hypot(y[at][1] - 0.5 * sum[1]);
                assert!(error < 4e-7 * size, "{kind:?} n={n} at {at}: off by {error:e}");
            }
        }
    }
}

/// A long line that lies across memory, and numbers that are not finite in one line of several.
#[test]
fn long_lines_lie_anywhere_and_keep_to_themselves() {
    let mut rng = Rng(10);
    for kind in KINDS {
        for [outer, n, inner] in [[1, 256, 3], [2, 1024, 9], [1, 1 << 15, 2]] {
            let (m, k, from, to) = form(kind, n);
            let x = random(&mut rng, from, &[outer, m, inner]);
            let turned = x.transpose(&[0, 2, 1]);
            let across = run(&prim(kind, 1, 1.0), &[&x], to, &[outer, k, inner]);
            let along = run(&prim(kind, 2, 1.0), &[&turned], to, &[outer, inner, k]);
            assert_eq!(across.transpose(&[0, 2, 1]).bits(), along.bits(), "{kind:?} n={n}");
        }
        let (m, k, from, to) = form(kind, 512);
        let x = random(&mut rng, from, &[3, m]);
        let whole = run(&prim(kind, 1, 1.0), &[&x], to, &[3, k]).bits();
        let x = if from == DType::F32 {
            let mut values = x.to_vec::<f32>();
            values[m + 5] = f32::NAN;
            Tensor::new(&values, &[3, m])
        } else {
            let mut values = x.to_vec::<Complex32>();
            values[m + 5].re = f32::NAN;
            Tensor::new(&values, &[3, m])
        };
        let y = run(&prim(kind, 1, 1.0), &[&x], to, &[3, k]);
        let bits = y.bits();
        assert_eq!(bits[..k], whole[..k], "{kind:?}");
        assert_eq!(bits[2 * k..], whole[2 * k..], "{kind:?}");
        assert!(complex(&y)[k..2 * k].iter().all(|z| z[0].is_nan() || z[1].is_nan()), "{kind:?}");
    }
}

#[test]
fn any_axis_and_any_layout() {
    let mut rng = Rng(4);
    for kind in KINDS {
        for [outer, n, inner] in [[1, 12, 19], [3, 7, 5], [2, 30, 1], [5, 1, 3], [2, 16, 64]] {
            let (m, k, from, to) = form(kind, n);
            let x = random(&mut rng, from, &[outer, m, inner]);
            for (name, x) in layouts(&x) {
                let y = run(&prim(kind, 1, 1.0), &[&x], to, &[outer, k, inner]);
                eprintln!("{kind:?} {name}");
                check(kind, [outer, n, inner], &x, &y, 1.0);
            }
        }
    }
}

#[test]
fn a_line_broadcast_over_a_batch() {
    let mut rng = Rng(5);
    for kind in KINDS {
        let (m, k, from, to) = form(kind, 10);
        let x = random(&mut rng, from, &[1, m, 1]).broadcast(&[4, m, 9]);
        let y = run(&prim(kind, 1, 1.0), &[&x], to, &[4, k, 9]);
        check(kind, [4, 10, 9], &x, &y, 1.0);
    }
}

#[test]
fn imaginary_parts_that_cannot_be_do_not_count() {
    for n in [1usize, 2, 6, 7] {
        let half: Vec<_> = (0..n / 2 + 1).map(|k| Complex32::new(k as f32 + 1.0, 0.0)).collect();
        let mut odd = half.clone();
        odd[0].im = 5.0;
        if n.is_multiple_of(2) {
            odd[n / 2].im = -3.0;
        }
        let of = |x: &[Complex32]| {
            let x = Tensor::new(x, &[x.len()]);
            run(&prim(FftKind::HalfToReal, 0, 1.0), &[&x], DType::F32, &[n]).bits()
        };
        assert_eq!(of(&half), of(&odd), "{n} points");
    }
}

#[test]
fn threads_change_no_bit() {
    let mut rng = Rng(6);
    for kind in KINDS {
        for [outer, n, inner] in [[600, 60, 1], [3, 101, 200]] {
            let (m, k, from, to) = form(kind, n);
            let x = random(&mut rng, from, &[outer, m, inner]);
            let on = || run(&prim(kind, 1, 1.0), &[&x], to, &[outer, k, inner]).bits();
            assert_eq!(on(), inline(on), "{kind:?}");
        }
    }
}

#[test]
fn plans_of_ever_new_lengths_are_let_go() {
    let mut rng = Rng(7);
    for n in 1..1500 {
        let x = random(&mut rng, DType::C64, &[n]);
        let y = run(&prim(FftKind::Forward, 0, 1.0), &[&x], DType::C64, &[n]);
        let sum = complex(&x).iter().fold([0.0; 2], |s, z| [s[0] + z[0], s[1] + z[1]]);
        let first = complex(&y)[0];
        assert!((first[0] - sum[0]).hypot(first[1] - sum[1]) < 1e-3, "{n} points");
    }
}

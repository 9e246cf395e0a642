//! Convolutions against the definition, in double precision (and in wide integers).

use crate::testing::{Rng, Tensor, inline, layouts, run};
use lazul_ir::{Complex32, ConvAxis, ConvOp, DType, Kind, Prim};

/// The definition, element by element: `(re, im)` pairs, and the sums of absolute products.
fn reference(op: &ConvOp, x: &Tensor, w: &Tensor, out: &[usize]) -> (Vec<(f64, f64)>, Vec<f64>) {
    let values =
        |t: &Tensor| -> Vec<(f64, f64)> { t.scalars().iter().map(|s| s.to_c128()).collect() };
    let (xs, ws) = (values(x), values(w));
    let rank = op.axes.len();
    let unravel = |mut i: usize, shape: &[usize]| -> Vec<usize> {
        let mut index = vec![0; shape.len()];
        for a in (0..shape.len()).rev() {
            index[a] = i % shape[a];
            i /= shape[a];
        }
        index
    };
    let size = out.iter().product();
    let (mut sums, mut sizes) = (vec![(0.0, 0.0); size], vec![0.0; size]);
    let (per_in, per_out) = (w.shape[rank + 1], out[rank + 1] / op.groups);
    let taps = &w.shape[1..=rank];
    for o in 0..size {
        let at = unravel(o, out);
        let group = at[rank + 1] / per_out;
        'taps: for t in 0..taps.iter().product() {
            let tap = unravel(t, taps);
            let (mut xi, mut wi) = (at[0], at[rank + 1]);
            for a in 0..rank {
                let axis = &op.axes[a];
                let position = (at[1 + a] * axis.stride + tap[a] * axis.kernel_dilation) as isize
                    - axis.padding.0;
                let element = position.div_euclid(axis.input_dilation as isize);
                let between = position.rem_euclid(axis.input_dilation as isize) != 0;
                if between || !(0..x.shape[1 + a] as isize).contains(&element) {
                    continue 'taps;
                }
                xi = xi * x.shape[1 + a] + element as usize;
                wi = wi * taps[a] + if op.flip { taps[a] - 1 - tap[a] } else { tap[a] };
            }
            for c in 0..per_in {
                let (p, q) = (xs[xi * x.shape[rank + 1] + group * per_in + c], ws[wi * per_in + c]);
                sums[o].0 += p.0 * q.0 - p.1 * q.1;
                sums[o].1 += p.0 * q.1 + p.1 * q.0;
                sizes[o] += (p.0.abs() + p.1.abs()) * (q.0.abs() + q.1.abs());
            }
        }
    }
    (sums, sizes)
}

fn random(rng: &mut Rng, dtype: DType, shape: &[usize]) -> Tensor {
    let n = shape.iter().product();
    match dtype.kind() {
        Kind::Complex => {
            let mut part = || rng.uniform(-1.0, 1.0) as f32;
            let v: Vec<_> = (0..n).map(|_| Complex32::new(part(), part())).collect();
            Tensor::new(&v, shape)
        }
        Kind::Bool => {
            let v: Vec<f64> = (0..n).map(|_| (rng.below(6) == 0) as u8 as f64).collect();
            Tensor::from_f64(&v, dtype, shape)
        }
        Kind::Int => rng.tensor(dtype, shape, if dtype.is_unsigned() { 0.0 } else { -90.0 }, 90.0),
        Kind::Float => rng.tensor(dtype, shape, -1.0, 1.0),
    }
}

fn out_shape(op: &ConvOp, x: &Tensor, w: &Tensor) -> Vec<usize> {
    let rank = op.axes.len();
    let mut out = vec![x.shape[0]];
    out.extend((0..rank).map(|a| op.axes[a].output(x.shape[1 + a], w.shape[1 + a]).unwrap()));
    out.push(w.shape[0]);
    out
}

fn conv(op: &ConvOp, x: &Tensor, w: &Tensor) -> Tensor {
    run(&Prim::Conv(Box::new(op.clone())), &[x, w], x.dtype, &out_shape(op, x, w))
}

/// Whether the convolution is what the definition says: integers exactly (wrapping), floats within
/// rounding.
#[track_caller]
fn check(op: &ConvOp, x: &Tensor, w: &Tensor, what: &str) -> Tensor {
    let got = conv(op, x, w);
    let (want, sizes) = reference(op, x, w, &got.shape);
    let terms = w.shape[1..].iter().product::<usize>() as f64;
    let (epsilon, rounding) = match x.dtype {
        DType::F64 => (2f64.powi(-52), 0.0),
        DType::F16 => (2f64.powi(-23), 2f64.powi(-11)),
        DType::BF16 => (2f64.powi(-23), 2f64.powi(-8)),
        _ => (2f64.powi(-23), 0.0),
    };
    let what = format!("{what}: {op:?} of {:?} and {:?}", x.shape, w.shape);
    for (i, (got, (&want, &size))) in got.scalars().iter().zip(want.iter().zip(&sizes)).enumerate()
    {
        match x.dtype.kind() {
            Kind::Bool => assert_eq!(got.bits != 0, want.0 != 0.0, "{what} [{i}]"),
            Kind::Int => {
                // Test values are small enough for the sum to be exact in a double.
                let bits = 8 * x.dtype.size() as u32;
                let mask = if bits == 64 { u64::MAX } else { (1 << bits) - 1 };
                assert_eq!(got.bits & mask, want.0 as i64 as u64 & mask, "{what} [{i}]");
            }
            _ => {
                let (re, im) = got.to_c128();
                let near =
                    epsilon * (terms + 2.0) * size + rounding * want.0.abs() + 1e-7 * rounding;
                assert!((re - want.0).abs() <= near, "{what} [{i}]: {re} != {}", want.0);
                assert!((im - want.1).abs() <= near, "{what} [{i}]: {im} != {} i", want.1);
            }
        }
    }
    got
}

fn op(axes: &[(usize, isize, isize, usize, usize)], groups: usize, flip: bool) -> ConvOp {
    let axis = |&(stride, low, high, kernel_dilation, input_dilation)| ConvAxis {
        stride,
        padding: (low, high),
        kernel_dilation,
        input_dilation,
    };
    ConvOp { axes: axes.iter().map(axis).collect(), groups, flip }
}

/// A random convolution of some rank, with its operands.
fn any(rng: &mut Rng, dtype: DType, rank: usize) -> (ConvOp, Tensor, Tensor) {
    let groups = [1, 1, 1, 2, 3, 4][rng.below(6)];
    let (c_in, c_out) = match rng.below(4) {
        // One channel a group; a few; enough to fill vectors.
        0 => (groups, groups * (1 + rng.below(2))),
        1 => (groups * (1 + rng.below(4)), groups * (1 + rng.below(5))),
        2 => (groups * (1 + rng.below(4)), groups * (10 + rng.below(40))),
        _ => (groups * (14 + rng.below(12)), groups * (1 + rng.below(20))),
    };
    let rare = |rng: &mut Rng, most: usize| if rng.below(3) == 0 { 1 + rng.below(most) } else { 1 };
    let axes: Vec<_> = (0..rank)
        .map(|_| {
            let low = rng.below(5) as isize - 1;
            (rare(rng, 3), low, rng.below(5) as isize - 1, rare(rng, 3), rare(rng, 4))
        })
        .collect();
    let op = op(&axes, groups, rng.below(3) == 0);
    let longest = [0, 40, 12, 6][rank.min(3)];
    let mut x = vec![rng.below(4)];
    let mut w = vec![c_out];
    for _ in 0..rank {
        x.push(1 + rng.below(longest));
        w.push(1 + rng.below(4));
    }
    x.push(c_in);
    w.push(c_in / groups);
    (op, random(rng, dtype, &x), random(rng, dtype, &w))
}

#[test]
fn every_dtype() {
    let mut rng = Rng(1);
    for dtype in DType::ALL {
        for i in 0..60 {
            let (op, x, w) = any(&mut rng, dtype, 1 + i % 3);
            check(&op, &x, &w, dtype.name());
        }
    }
}

#[test]
fn random_configurations() {
    let mut rng = Rng(2);
    for dtype in [DType::F32, DType::F64, DType::BF16] {
        for i in 0..300 {
            let (op, x, w) = any(&mut rng, dtype, 1 + i % 4);
            check(&op, &x, &w, dtype.name());
        }
    }
}

#[test]
fn every_layout() {
    let mut rng = Rng(3);
    for dtype in [DType::F32, DType::F16, DType::I16, DType::C64] {
        let shapes: [(&[usize], &[usize], usize); 4] = [
            (&[2, 9, 8, 3], &[5, 3, 3, 3], 1),
            (&[2, 7, 6, 20], &[20, 3, 2, 1], 20),
            (&[1, 5, 6, 36], &[8, 2, 3, 18], 2),
            (&[2, 4, 5, 6], &[7, 1, 1, 6], 1),
        ];
        for (xs, ws, groups) in shapes {
            let op = op(&[(1, 1, 0, 1, 1), (2, 1, 1, 1, 1)], groups, false);
            let plain = ConvOp { axes: [ConvAxis::default(); 2].into(), ..op.clone() };
            let (x, w) = (random(&mut rng, dtype, xs), random(&mut rng, dtype, ws));
            for (lx, x) in layouts(&x) {
                for (lw, w) in layouts(&w) {
                    check(&op, &x, &w, &format!("{dtype}, {lx} by {lw}"));
                    check(&plain, &x, &w, &format!("{dtype}, {lx} by {lw}"));
                }
            }
        }
    }
}

/// Sizes at which tiles, panels and blocks of the product and of the direct kernel are not full.
#[test]
fn sizes_around_the_edges_of_blocks() {
    let mut rng = Rng(4);
    let padded = op(&[(1, 1, 1, 1, 1), (1, 1, 1, 1, 1)], 1, false);
    for (size, c_in, c_out) in [
        (15, 1, 33),
        (16, 3, 64),
        (17, 16, 16),
        (31, 17, 3),
        (13, 70, 13),
        (9, 130, 100),
        (3, 300, 40),
    ] {
        for dtype in [DType::F32, DType::BF16, DType::F16, DType::F64, DType::C64] {
            let x = random(&mut rng, dtype, &[2, size, size + 1, c_in]);
            let w = random(&mut rng, dtype, &[c_out, 3, 3, c_in]);
            check(&padded, &x, &w, dtype.name());
        }
    }
    for channels in [1, 2, 3, 15, 16, 17, 40, 64] {
        for width in [3, 14, 15, 16, 18, 40, 300] {
            for dtype in [DType::F32, DType::BF16, DType::F16, DType::F64, DType::U8] {
                let depthwise = ConvOp { groups: channels, ..padded.clone() };
                let x = random(&mut rng, dtype, &[2, 5, width, channels]);
                let w = random(&mut rng, dtype, &[channels, 3, 3, 1]);
                check(&depthwise, &x, &w, dtype.name());
                if channels >= 16 && width < 40 {
                    let w = random(&mut rng, dtype, &[2 * channels, 2, 5, 1]);
                    check(&depthwise, &x, &w, dtype.name());
                }
            }
        }
    }
}

/// Convolutions with channels enough for the matrix engine (other levels see them too): strides, dilations
/// both ways, padding, taps in either order, groups, one to three axes.
#[test]
fn many_channels() {
    let mut rng = Rng(8);
    for i in 0..90 {
        let (rank, groups) = (1 + i % 3, 1 + rng.below(2));
        let one =
            |rng: &mut Rng, most: usize| if rng.below(2) == 0 { 1 + rng.below(most) } else { 1 };
        let axes: Vec<_> = (0..rank)
            .map(|_| {
                let (low, high) = (rng.below(4) as isize - 1, rng.below(4) as isize - 1);
                (one(&mut rng, 3), low, high, one(&mut rng, 2), one(&mut rng, 2))
            })
            .collect();
        let op = op(&axes, groups, rng.below(3) == 0);
        let (c_in, c_out) = (16 + rng.below(60), 16 + rng.below(60));
        let (mut x, mut w) = (vec![1 + rng.below(3)], vec![groups * c_out]);
        for _ in 0..rank {
            x.push(3 + rng.below([0, 60, 12, 5][rank]));
            w.push(1 + rng.below(3));
        }
        x.push(groups * c_in);
        w.push(c_in);
        for dtype in [DType::F32, DType::BF16, DType::F16] {
            let (x, w) = (random(&mut rng, dtype, &x), random(&mut rng, dtype, &w));
            let got = check(&op, &x, &w, dtype.name());
            assert_eq!(got.bits(), inline(|| conv(&op, &x, &w)).bits(), "{dtype} {op:?}");
        }
    }
}

/// Images of several strips; numbers that the engine cannot take in some of them.
#[test]
fn strips_and_numbers_beyond_the_engine() {
    let mut rng = Rng(9);
    let same = op(&[(1, 1, 1, 1, 1), (1, 1, 1, 1, 1)], 1, false);
    let (height, width, c_in, c_out) = (90, 15, 96, 17);
    let line = width * c_in;
    let w = rng.vec(c_out * 9 * c_in, 0.1, 1.0);
    for (dtype, scale) in
        [(DType::F32, 1e-38), (DType::F32, 1e30), (DType::F16, 1e-6), (DType::BF16, 1e-30)]
    {
        let w = Tensor::from_f64(&w, dtype, &[c_out, 3, 3, c_in]);
        let mut x = rng.vec(2 * height * line, -1.0, 1.0);
        x[(height + 40) * line..][..line].iter_mut().for_each(|x| *x *= scale);
        let x = Tensor::from_f64(&x, dtype, &[2, height, width, c_in]);
        let whole = check(&same, &x, &w, &format!("{dtype} {scale:e}"));
        let mut last = x.clone();
        (last.offset, last.shape[0]) = (height * line, 1);
        let part = conv(&same, &last, &w).bits();
        assert_eq!(part, whole.bits()[whole.size() / 2..], "{dtype} batch");
    }
    for dtype in [DType::F32, DType::F16, DType::BF16] {
        let w = Tensor::from_f64(&w, dtype, &[c_out, 3, 3, c_in]);
        for bad in [f64::NAN, f64::INFINITY] {
            let mut x = rng.vec(height * line, -1.0, 1.0);
            x[70 * line + 4 * c_in + 90] = bad;
            let x = Tensor::from_f64(&x, dtype, &[1, height, width, c_in]);
            for (i, y) in conv(&same, &x, &w).to_f64().into_iter().enumerate() {
                let (row, column) = (i / c_out / width, i / c_out % width);
                let meets = row.abs_diff(70) <= 1 && column.abs_diff(4) <= 1;
                assert_eq!(y.is_finite(), !meets, "{dtype} {bad} at {row}, {column}: {y}");
            }
        }
    }
}

/// The shapes of gradients of weights: windows as large as images, few outputs.
#[test]
fn long_windows() {
    let mut rng = Rng(5);
    for dtype in [DType::F32, DType::BF16, DType::F64] {
        let x = random(&mut rng, dtype, &[3, 22, 25, 2]);
        let w = random(&mut rng, dtype, &[20, 20, 23, 2]);
        check(&op(&[(1, 0, 0, 1, 1), (1, 1, 1, 1, 1)], 1, false), &x, &w, dtype.name());
        let x = random(&mut rng, dtype, &[1, 900, 1]);
        let w = random(&mut rng, dtype, &[1, 700, 1]);
        check(&op(&[(1, 699, 699, 1, 1)], 1, true), &x, &w, dtype.name());
        check(&op(&[(7, 3, 0, 1, 2)], 1, false), &x, &w, dtype.name());
    }
}

#[test]
fn windows_without_input() {
    let mut rng = Rng(6);
    for dtype in DType::ALL {
        let zeros = |t: Tensor| t.bits().iter().all(|&b| b == 0);
        let x = random(&mut rng, dtype, &[2, 3, 4]);
        let w = random(&mut rng, dtype, &[5, 2, 4]);
        // Some windows, then all of them, see nothing but padding.
        check(&op(&[(1, 6, 6, 1, 9)], 1, false), &x, &w, dtype.name());
        let got = conv(&op(&[(40, 2, 90, 1, 1)], 1, false), &x, &w);
        assert!(got.shape == [2, 3, 5] && zeros(got));
        // A larger window than the input, an empty batch, no channels, no output channels.
        assert_eq!(conv(&op(&[(1, 0, 0, 4, 1)], 1, false), &x, &w).size(), 0);
        let empty = |shape: &[usize]| Tensor::from_f64(&[], dtype, shape);
        let same = op(&[(1, 1, 0, 1, 1)], 1, false);
        assert_eq!(conv(&same, &empty(&[0, 3, 4]), &w).shape, [0, 3, 5]);
        let got = conv(&same, &empty(&[2, 3, 0]), &empty(&[5, 2, 0]));
        assert!(got.shape == [2, 3, 5] && zeros(got));
        let got = conv(&op(&[(1, 2, 2, 1, 1)], 1, false), &empty(&[2, 0, 4]), &w);
        assert!(got.shape == [2, 3, 5] && zeros(got));
        assert_eq!(conv(&same, &x, &empty(&[0, 2, 4])).size(), 0);
        // Negative padding takes elements away; all of them, if it is large.
        let w = random(&mut rng, dtype, &[5, 1, 4]);
        check(&op(&[(1, -1, -1, 1, 1)], 1, false), &x, &w, dtype.name());
        assert_eq!(conv(&op(&[(1, -2, -2, 1, 1)], 1, false), &x, &w).size(), 0);
    }
}

/// An image's outputs have the same bits in any batch, and for any number of threads.
#[test]
fn bits_do_not_depend_on_batch_and_threads() {
    let mut rng = Rng(7);
    for dtype in [DType::F32, DType::F64, DType::F16, DType::C64] {
        for (c_in, c_out, groups) in [(24, 40, 1), (40, 40, 40), (3, 64, 1), (32, 64, 4)] {
            for size in [3, 20] {
                let op = op(&[(1, 1, 1, 1, 1), (2, 1, 1, 1, 1)], groups, false);
                let x = random(&mut rng, dtype, &[5, size, size, c_in]);
                let w = random(&mut rng, dtype, &[c_out, 3, 3, c_in / groups]);
                let whole = conv(&op, &x, &w);
                assert_eq!(whole.bits(), inline(|| conv(&op, &x, &w)).bits(), "{dtype} threads");
                let mut last = x.clone();
                (last.offset, last.shape[0]) = (4 * size * size * c_in, 1);
                let part = conv(&op, &last, &w).bits();
                assert_eq!(part, whole.bits()[whole.size() / 5 * 4..], "{dtype} batch");
            }
        }
    }
}

#[test]
fn integers_wrap() {
    let x = Tensor::new(&[200u8, 100], &[1, 2, 1]);
    let w = Tensor::new(&[3u8, 7], &[1, 2, 1]);
    let plain = op(&[(1, 0, 0, 1, 1)], 1, false);
    assert_eq!(conv(&plain, &x, &w).to_vec::<u8>(), [(200u32 * 3 + 700) as u8]);
    let x = Tensor::new(&[i64::MAX, 5], &[1, 1, 2]);
    let w = Tensor::new(&[3i64, 7], &[1, 1, 2]);
    let want = i64::MAX.wrapping_mul(3).wrapping_add(35);
    assert_eq!(conv(&plain, &x, &w).to_vec::<i64>(), [want]);
}

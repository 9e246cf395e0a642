//! What is refused, and laws that derivatives and batches of convolutions obey.

use super::*;
use crate::{Complex32, grad, jvp, ones, random, vjp, vmap_axes, zeros};

/// A general convolution with operands: forward through every option of the primitive.
struct Setting {
    how: ConvGeneral,
    x: Array,
    w: Array,
}

impl Setting {
    fn run(&self, x: &Array, w: &Array) -> Array {
        conv_general(x, w, self.how.clone())
    }
}

/// Strides, dilations, paddings of either sign, groups and flips, over one to three axes.
fn settings(dtype: DType) -> Vec<Setting> {
    let mut all = Vec::new();
    let table: &[(&[usize], &[usize], [&[i64]; 5], usize, bool)] = &[
        (&[2, 7, 3], &[4, 3, 3], [&[1], &[0], &[0], &[1], &[1]], 1, false),
        (&[2, 9, 4], &[6, 3, 2], [&[2], &[1], &[2], &[2], &[1]], 2, true),
        (&[1, 6, 3], &[6, 2, 1], [&[1], &[2], &[0], &[1], &[3]], 3, false),
        (&[3, 8, 1], &[2, 3, 1], [&[3], &[-1], &[-2], &[1], &[2]], 1, true),
        (&[2, 5, 6, 2], &[3, 2, 3, 2], [&[2, 1], &[1, 0], &[0, 2], &[1, 2], &[1, 1]], 1, false),
        (&[1, 6, 5, 4], &[4, 3, 2, 2], [&[1, 3], &[2, -1], &[1, 3], &[2, 1], &[2, 3]], 2, true),
        (&[2, 4, 4, 5], &[5, 2, 2, 1], [&[1, 2], &[1, 1], &[1, 1], &[1, 1], &[1, 1]], 5, false),
        // The last rows of the input meet no window.
        (&[1, 8, 8, 2], &[2, 3, 3, 2], [&[4, 3], &[0, 0], &[0, 0], &[1, 1], &[1, 1]], 1, false),
        (
            &[2, 3, 4, 3, 2],
            &[4, 2, 2, 3, 1],
            [&[1, 2, 1], &[1], &[0, 1, 2], &[1], &[1, 2, 1]],
            2,
            false,
        ),
        (&[1, 4, 3], &[2, 1, 3], [&[1], &[0], &[0], &[1], &[1]], 1, false),
    ];
    for (x, w, [stride, low, high, kernel, input], groups, flip) in table {
        let how = ConvGeneral {
            stride: (*stride).into(),
            padding: ((*low).into(), (*high).into()),
            kernel_dilation: (*kernel).into(),
            input_dilation: (*input).into(),
            groups: *groups,
            flip: *flip,
        };
        all.push(Setting { how, x: zeros(*x, dtype), w: zeros(*w, dtype) });
    }
    all
}

/// Numbers in the shape and dtype of `a`.
fn like(a: &Array, seed: u64) -> Array {
    let uniform = |seed| {
        let key = random::key(seed);
        random::uniform(-1.0, 1.0, &a.0.shape, DType::F32, Some(&key))
    };
    if a.0.dtype == DType::C64 {
        return uniform(seed) + uniform(seed + 1) * Complex32::new(0.0, 1.0);
    }
    uniform(seed).astype(a.0.dtype)
}

/// The real inner product.
fn dot(a: &Array, b: &Array) -> f64 {
    (a * b.conj()).real().astype(DType::F64).sum(..).item::<f64>().unwrap()
}

#[track_caller]
fn near(a: f64, b: f64) {
    assert!((a - b).abs() <= 2e-5 * (1.0 + a.abs().max(b.abs())), "{a} and {b}");
}

/// `⟨u, J v⟩ = ⟨Jᵀ u, v⟩` in each operand, and `J` is the difference of two values, since a convolution
/// is linear in each.
#[test]
fn derivatives_are_adjoint_and_right() {
    for dtype in [DType::F64, DType::F32, DType::C64] {
        for s in settings(dtype) {
            let (x, w) = (like(&s.x, 10), like(&s.w, 20));
            let (dx, dw) = (like(&x, 30), like(&w, 40));
            let f = |(x, w): &(Array, Array)| s.run(x, w);
            let at = (x.clone(), w.clone());
            let (y, dy) = jvp(f, &at, &(dx.clone(), dw.clone())).unwrap();
            let c = like(&y, 50);
            let (_, (cx, cw)) = vjp(f, &at, &c).unwrap();
            assert_eq!(
                (cx.shape().unwrap(), cw.shape().unwrap()),
                (x.shape().unwrap(), w.shape().unwrap())
            );
            near(dot(&c, &s.run(&dx, &w)), dot(&cx, &dx));
            near(dot(&c, &s.run(&x, &dw)), dot(&cw, &dw));
            near(dot(&c, &dy), dot(&c, &(s.run(&dx, &w) + s.run(&x, &dw))));
        }
    }
}

/// Gradients differentiate again: the second derivative of `Σ c·conv(x, w)²` along a direction, by
/// gradients of gradients and by differences of gradients, which are exact for a quadratic function.
#[test]
fn gradients_of_gradients() {
    for s in settings(DType::F64) {
        let (x, w, v) = (like(&s.x, 1), like(&s.w, 2), like(&s.x, 3));
        let loss = |x: &Array| s.run(x, &w).square().sum(..);
        let slope = |x: &Array| Ok::<_, Error>((grad(loss)(x)? * &v).sum(..));
        let twice = grad(slope)(&x).unwrap();
        let differences = grad(loss)(&(&x + &v)).unwrap() - grad(loss)(&x).unwrap();
        let apart = (twice - differences).abs().max(..).item::<f64>().unwrap();
        assert!(apart < 1e-9, "{apart}");
    }
}

/// A batch is a loop: of inputs, of weights, and of both.
#[test]
fn batches_are_loops() {
    let size = 3;
    for s in settings(DType::F64) {
        let many = |a: &Array, seed| {
            let shape: Vec<usize> = [size].into_iter().chain(a.0.shape.iter().copied()).collect();
            like(&zeros(&shape, DType::F64), seed)
        };
        let (xs, ws) = (many(&s.x, 1), many(&s.w, 2));
        let one = |a: &Array, i: usize| a.at_index(0, i as i64);
        for (bx, bw) in [(true, false), (false, true), (true, true)] {
            let x = if bx { xs.clone() } else { s.x.clone() };
            let w = if bw { ws.clone() } else { s.w.clone() };
            let axis = |b: bool| b.then_some(0);
            let f = |(x, w): &(Array, Array)| s.run(x, w);
            let got =
                vmap_axes(f, &[axis(bx), axis(bw)], &[Some(0)])(&(x.clone(), w.clone())).unwrap();
            for i in 0..size {
                let x = if bx { one(&x, i) } else { x.clone() };
                let w = if bw { one(&w, i) } else { w.clone() };
                let (want, got) = (s.run(&x, &w), one(&got, i));
                assert_eq!(want.shape().unwrap(), got.shape().unwrap());
                let apart = (want - got).abs().max(..).item::<f64>().unwrap();
                assert!(apart < 1e-12, "{apart}, batched {bx} {bw}");
            }
        }
        let none = zeros([&[0], &s.x.0.shape[..]].concat(), DType::F64);
        let f = |(x, w): &(Array, Array)| s.run(x, w);
        let got = vmap_axes(f, &[Some(0), None], &[Some(0)])(&(none, s.w.clone())).unwrap();
        assert_eq!(got.shape().unwrap()[0], 0);
    }
}

/// Empty batches and missing channels have gradients, of zeros where nothing contributes.
#[test]
fn gradients_of_empty_operands() {
    for (x, w) in [([0, 5, 2], [3, 2, 2]), ([2, 5, 0], [3, 2, 0]), ([2, 5, 2], [0, 2, 2])] {
        let (x, w) = (ones(x, DType::F32), ones(w, DType::F32));
        let f = |(x, w): &(Array, Array)| conv1d(x, w, Conv::default()).sum(..);
        let (dx, dw) = grad(f)(&(x.clone(), w.clone())).unwrap();
        for (d, a) in [(dx, x), (dw, w)] {
            assert_eq!(d.shape().unwrap(), a.shape().unwrap());
            assert!(d.to_vec::<f32>().unwrap().iter().all(|&v| v == 0.0));
        }
    }
    // Padding alone makes windows of an empty input.
    let x = zeros([2, 0, 3], DType::F32);
    let w = ones([4, 2, 3], DType::F32);
    let f = |w: &Array| conv1d(&x, w, Conv { padding: 2.into(), ..Default::default() });
    assert_eq!(f(&w).to_vec::<f32>().unwrap(), [0.0; 2 * 3 * 4]);
    assert_eq!(grad(|w: &Array| f(w).sum(..))(&w).unwrap().to_vec::<f32>().unwrap(), [0.0; 24]);
}

#[test]
fn dtypes_are_promoted() {
    let y = conv1d(&ones([1, 3, 1], DType::I16), &ones([1, 2, 1], DType::I32), Conv::default());
    assert_eq!(y.to_vec::<i32>().unwrap(), [2, 2]);
    let y = conv1d(&ones([1, 3, 1], DType::F16), &ones([1, 2, 1], DType::F32), Conv::default());
    assert_eq!(y.dtype().unwrap(), DType::F32);
}

/// Half precision accumulates in f32: 4096 ones are 4096, not 2048 or 256.
#[test]
fn half_precision_accumulates_in_single() {
    for dtype in [DType::F16, DType::BF16] {
        for (groups, channels) in [(1, 4096), (1, 1), (16, 16)] {
            let taps = 4096 / (channels / groups);
            let x = ones([1, taps, channels], dtype);
            let w = ones([groups, taps, channels / groups], dtype);
            let y = conv1d(&x, &w, Conv { groups, ..Default::default() });
            let y = y.astype(DType::F32).to_vec::<f32>().unwrap();
            assert!(y.iter().all(|&v| v == 4096.0), "{dtype} {groups} {channels}: {y:?}");
        }
    }
}

#[test]
fn wrong_calls_say_what_is_wrong() {
    let (x, w) = (ones([1, 5, 4], DType::F32), ones([6, 3, 4], DType::F32));
    let says = |y: Array, op: &str, words: &str| {
        let e = y.check().unwrap_err();
        assert!(e.op() == op && e.message().contains(words), "{e}");
    };
    let conv = |how: Conv| conv1d(&x, &w, how);
    let default = Conv::default;
    says(conv(Conv { groups: 0, ..default() }), "conv1d", "at least one group");
    says(
        conv(Conv { groups: 2, ..default() }),
        "conv1d",
        "4 input channels are not 2 groups of the weights' 4",
    );
    says(conv(Conv { groups: usize::MAX, ..default() }), "conv1d", "input channels");
    says(conv(Conv { stride: 0.into(), ..default() }), "conv1d", "stride is 0, but at least 1");
    says(conv(Conv { dilation: (-1).into(), ..default() }), "conv1d", "dilation is -1");
    says(
        conv(Conv { stride: [1, 2].into(), ..default() }),
        "conv1d",
        "2 values of stride for 1 spatial axes",
    );
    says(conv(Conv { padding: ().into(), ..default() }), "conv1d", "0 values of padding");
    says(
        conv(Conv { dilation: 3.into(), ..default() }),
        "conv1d",
        "kernel spans 7 positions, the input 5",
    );
    says(conv(Conv { padding: (-2).into(), ..default() }), "conv1d", "no window fits");
    says(conv(Conv { padding: i64::MAX.into(), ..default() }), "conv1d", "too many to count");
    says(conv(Conv { padding: i64::MIN.into(), ..default() }), "conv1d", "too many to count");
    says(conv(Conv { dilation: i64::MAX.into(), ..default() }), "conv1d", "too many to count");
    says(conv(Conv { padding: (1i64 << 59).into(), ..default() }), "conv1d", "too many elements");
    says(conv2d(&x, &w, default()), "conv2d", "2 spatial axes");
    says(conv1d(&x.at_index(0, 0), &w, default()), "conv1d", "1 spatial axis");
    says(
        conv1d(&x, &zeros([6, 0, 4], DType::F32), default()),
        "conv1d",
        "empty along spatial axis 0",
    );
    says(
        conv1d(&x, &ones([3, 3, 2], DType::F32), Conv { groups: 2, ..default() }),
        "conv1d",
        "3 output channels do not divide into 2 groups",
    );
    let general = |x: &Array, w: &Array| conv_general(x, w, ConvGeneral::default());
    says(
        general(&ones([2, 3], DType::F32), &ones([4, 3], DType::F32)),
        "conv_general",
        "spatial axes",
    );
    says(general(&ones((), DType::F32), &ones((), DType::F32)), "conv_general", "spatial axes");
    let spread = |how: ConvTranspose| conv_transpose1d(&x, &w, how);
    let default = ConvTranspose::default;
    says(
        spread(ConvTranspose { stride: 0.into(), ..default() }),
        "conv_transpose1d",
        "stride is 0",
    );
    says(
        spread(ConvTranspose { output_padding: (-1).into(), ..default() }),
        "conv_transpose1d",
        "output_padding is -1",
    );
    says(
        spread(ConvTranspose { padding: 9.into(), ..default() }),
        "conv_transpose1d",
        "no output is left",
    );
    says(
        spread(ConvTranspose { padding: i64::MIN.into(), ..default() }),
        "conv_transpose1d",
        "too many",
    );
    says(
        spread(ConvTranspose { stride: i64::MAX.into(), ..default() }),
        "conv_transpose1d",
        "too many",
    );
    says(
        spread(ConvTranspose { dilation: i64::MAX.into(), ..default() }),
        "conv_transpose1d",
        "too many",
    );
    let line = ones(3, DType::F32);
    says(convolve(&line, &zeros(0, DType::F32), ConvolveMode::Full), "convolve", "needs elements");
    says(
        convolve(&line, &ones([1, 3], DType::F32), ConvolveMode::Full),
        "convolve",
        "one dimension",
    );
    // A failed operand stays the failure that it is.
    says(
        conv1d(&conv(Conv { groups: 0, ..Conv::default() }), &w, Conv::default()),
        "conv1d",
        "at least one group",
    );
}

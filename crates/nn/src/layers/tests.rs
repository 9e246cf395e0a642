//! Wrong inputs, gradients through loops, statistics, dtypes: what golden files do not show.

use super::*;
use crate::losses::{CrossEntropy, Reduction, cross_entropy, mse_loss};
use crate::{Buffer, Parameters, value_and_grad};
use lazul_core::fast::Mask;
use lazul_core::{Conv, ConvTranspose, DType, Result, bf16, eval, ones, zeros};

fn key(n: u64) -> Array {
    random::key(n)
}

#[test]
fn inputs_of_the_wrong_shape_are_failed_arrays() -> Result<()> {
    let scalar = Array::scalar(1.0f32);
    let flat = ones([3], DType::F32);
    let options = TransformerOptions { dims: 4, heads: 2, ..Default::default() };
    let all: Vec<(&str, Box<dyn Layer>)> = vec![
        ("MaxPool1d", Box::new(MaxPool1d::new(2)?)),
        ("AvgPool3d", Box::new(AvgPool3d::new(2)?)),
        ("conv2d", Box::new(Conv2d::init(3, 4, 2, true, Conv::default(), None)?)),
        (
            "conv_transpose1d",
            Box::new(ConvTranspose1d::init(3, 4, 2, true, ConvTranspose::default(), None)?),
        ),
        ("BatchNorm", Box::new(BatchNorm::new(2))),
        ("GroupNorm", Box::new(GroupNorm::new(1, 2)?)),
        ("InstanceNorm", Box::new(InstanceNorm::new(2, 1e-5, true))),
        ("layer_norm", Box::new(LayerNorm::new(2, 1e-5))),
        ("rms_norm", Box::new(RmsNorm::new(2, 1e-5))),
        ("Dropout2d", Box::new(Dropout2d::new(0.5)?)),
        ("Dropout3d", Box::new(Dropout3d::new(0.5)?)),
        ("Rnn", Box::new(Rnn::init(2, 2, true, None)?)),
        ("Gru", Box::new(Gru::init(2, 2, true, None)?)),
        ("upsample", Box::new(Upsample::new(&[2.0], Interpolate::Nearest)?)),
    ];
    for (op, layer) in all {
        let layer = Sequential { layers: vec![layer] };
        let error = layer.forward(&flat).check().expect_err(op);
        assert_eq!(error.op(), op, "{error}");
        assert!(error.site().is_some_and(|s| s.file().ends_with("tests.rs")), "{error}");
        assert!(error.to_string().contains("in layers.0"), "{error}");
        // What was wrong before stays what is reported.
        let before = layer.forward(&flat.reshape([7])).check().expect_err(op);
        assert_eq!(before.op(), "reshape");
    }
    let attention = MultiHeadAttention::init(4, 2, None)?;
    assert!(attention.forward(&flat, &flat, &flat, &Mask::None).check().is_err());
    let encoder = TransformerEncoder::init(1, &options, None)?;
    assert!(encoder.forward(&flat, &Mask::None).check().is_err());
    assert!(Lstm::init(2, 2, true, None)?.forward(&scalar, None).is_err());
    let bilinear = Bilinear::init(3, 3, 2, true, None)?;
    assert_eq!(bilinear.forward(&flat, &scalar).check().unwrap_err().op(), "Bilinear");
    Ok(())
}

#[test]
fn sizes_that_no_layer_can_have() {
    let conv = |groups| Conv { groups, ..Default::default() };
    assert!(Conv1d::init(3, 4, 2, true, conv(2), None).is_err());
    assert!(Conv1d::init(3, 4, 2, true, conv(0), None).is_err());
    assert!(Conv2d::init(3, 4, [2, 0], true, conv(1), None).is_err());
    assert!(Conv2d::init(3, 4, [2, 2, 2], true, conv(1), None).is_err());
    assert!(Conv1d::init(usize::MAX, usize::MAX, 1, true, conv(1), None).is_err());
    assert!(MaxPool2d::new([1, 2, 3]).is_err());
    assert!(MaxPool2d::new(-1).is_err());
    assert!(Rnn::init(2, 0, true, None).is_err());
    assert!(Lstm::init(2, usize::MAX, true, None).is_err());
    assert!(Linear::init(usize::MAX, usize::MAX, true, None).is_err());
    assert!(Dropout::new(f64::NAN).is_err());
    assert!(Upsample::new(&[f64::NAN], Interpolate::Nearest).is_err());
    assert!(SinusoidalPositionalEncoding::new(3).is_err());
    let x = ones([1, 2, 1], DType::F32);
    let huge = MaxPool1d::new(i64::MAX).unwrap();
    assert_eq!(huge.forward(&x).check().unwrap_err().op(), "MaxPool1d");
    let both = Interpolate::Cubic { align_corners: true, antialias: true };
    assert!(upsample(&x, &[2.0], both).check().is_err());
    assert!(upsample(&x, &[0.1], Interpolate::Nearest).check().is_err());
    assert!(upsample(&x, &[1e30], Interpolate::Nearest).check().is_err());
}

#[test]
fn gradients_through_a_loop_are_slopes() -> Result<()> {
    let x = random::normal([2, 4, 3], DType::F32, Some(&key(0)));
    let loss = |m: &mut Lstm| -> Result<Array> {
        let (hidden, cell) = m.forward(&x, None)?;
        Ok(hidden.sum(..) + cell.square().sum(..))
    };
    let mut model = Lstm::init(3, 2, true, Some(&key(1)))?;
    let (_, grads) = value_and_grad(loss)(&mut model)?;
    assert_eq!(grads.keys().collect::<Vec<_>>(), ["Wh", "Wx", "bias"]);
    for (name, gradient) in &grads {
        let direction = random::normal(gradient.shape()?, DType::F32, Some(&key(2)));
        let at = |step: f32| -> Result<f32> {
            let mut moved = model.clone();
            let values = model.trainable_parameters();
            let one = [(name.clone(), &values[name] + &direction * step)];
            moved.update(&Parameters::from(one))?;
            loss(&mut moved)?.item::<f32>()
        };
        let slope = (at(1e-2)? - at(-1e-2)?) / 2e-2;
        let ours = (gradient * &direction).sum(..).item::<f32>()?;
        assert!((slope - ours).abs() < 1e-2 * (1.0 + slope.abs()), "{name}: {ours}, slope {slope}");
    }
    Ok(())
}

#[test]
fn statistics_of_a_step_come_back_to_the_model() -> Result<()> {
    let mut model = Sequential::new()
        .then(Linear::init(3, 2, true, Some(&key(0)))?)
        .then(BatchNorm::new(2))
        .then(Activation::Relu);
    let x = random::normal([16, 3], DType::F32, Some(&key(1)));
    let target = zeros([16, 2], DType::F32);
    let loss = |m: &mut Sequential| mse_loss(&m.forward_mut(&x), &target, Reduction::Mean);
    let before = model.buffers();
    let (_, grads) = value_and_grad(loss)(&mut model)?;
    assert!(!grads.contains_key("layers.1.running_mean"));
    let after = model.buffers();
    let mean = model.layers[0].forward(&x).mean(0) * 0.1;
    let moved = &after["layers.1.running_mean"];
    assert!((moved - mean).abs().max(..).item::<f32>()? < 1e-6);
    assert!(!moved.array_equal(&before["layers.1.running_mean"], false).item::<bool>()?);
    // In inference nothing moves, and each row is on its own.
    model.train(false);
    let one = model.forward_mut(&x.slice_axis(0, 0, 1));
    let all = model.forward(&x).slice_axis(0, 0, 1);
    assert!((one - all).abs().max(..).item::<f32>()? < 1e-6);
    let same = model.buffers()["layers.1.running_mean"].array_equal(moved, false);
    assert!(same.item::<bool>()?);
    Ok(())
}

#[test]
fn half_precision_stays_and_is_near_single() -> Result<()> {
    let x = random::normal([2, 6, 6, 4], DType::F32, Some(&key(0)));
    let half = x.astype(DType::BF16);
    let x = half.astype(DType::F32);
    let layers: Vec<Box<dyn Layer>> = vec![
        Box::new(AvgPool2d::new(3)?.stride(2)?.padding(1)?),
        Box::new(MaxPool2d::new(2)?),
        Box::new(GroupNorm::new(2, 4)?),
        Box::new(InstanceNorm::new(4, 1e-5, true)),
        Box::new(BatchNorm::new(4)),
        Box::new(Activation::Gelu),
        Box::new(Upsample::new(
            &[1.5],
            Interpolate::Cubic { align_corners: true, antialias: false },
        )?),
    ];
    for (i, layer) in layers.iter().enumerate() {
        let (ours, wide) = (layer.forward(&half), layer.forward(&x));
        assert_eq!(ours.dtype()?, DType::BF16, "layer {i}");
        // Rounded once: half a unit in the last place.
        let apart = (ours.astype(DType::F32) - &wide).abs() - wide.abs() * 2f32.powi(-8) - 1e-6;
        assert!(apart.max(..).item::<f32>()? <= 0.0, "layer {i}");
    }
    Ok(())
}

#[test]
fn losses_of_half_precision_are_rounded_once() -> Result<()> {
    // The logarithm of the sum is 100: in bf16 it and the score would cancel to nothing.
    let logits = Array::from_slice(&[100.0f32, 95.0], [1, 2]).astype(DType::BF16);
    let loss = cross_entropy(&logits, &Array::from_slice(&[0], [1]), CrossEntropy::default());
    let exact = (1.0 + (-5f64).exp()).ln();
    let ours = loss.to_vec::<bf16>()?[0].to_f64();
    assert!((ours - exact).abs() < exact * 2f64.powi(-8), "{ours}, expected {exact}");
    // A class that is none is an error of the evaluation, not a value.
    let none = cross_entropy(&logits, &Array::from_slice(&[2], [1]), CrossEntropy::default());
    assert!(none.check().is_ok() && eval([&none]).is_err());
    Ok(())
}

#[test]
fn values_that_do_not_belong_are_refused_whole() -> Result<()> {
    let mut linear = Linear::init(2, 2, true, Some(&key(0)))?;
    let before = linear.trainable_parameters();
    let zero = |name: &str, n: usize| (name.to_string(), zeros([n], DType::F32));
    let unknown = Parameters::from([zero("bias", 2), zero("nothing", 1)]);
    assert!(linear.update(&unknown).unwrap_err().message().contains("nothing"));
    let misshapen = Parameters::from([zero("bias", 3)]);
    assert_eq!(linear.update(&misshapen).unwrap_err().kind(), ErrorKind::Shape);
    for (name, value) in linear.trainable_parameters() {
        assert!(value.array_equal(&before[&name], false).item::<bool>()?);
    }
    linear.set_dtype(DType::F16);
    assert_eq!(linear.bias.as_ref().unwrap().dtype()?, DType::F16);
    let codes = Linear {
        weight: ones([2, 64], DType::F32)
            .quantize(lazul_core::Quantization::MxFp4)
            .map(Weight::Quantized)?,
        bias: None,
    };
    assert!(codes.trainable_parameters().is_empty());
    let buffer = Buffer(zeros([1], DType::F32));
    assert!(buffer.trainable_parameters().is_empty() && buffer.buffers().len() == 1);
    Ok(())
}

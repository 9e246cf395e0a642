//! Layers, activations, losses and 20 steps of optimizers give what MLX gives in f32; `golden/train.py` made the
//! numbers.

use lazul_core::Result;
use lazul_core::prelude::*;
use lazul_nn::activations as act;
use lazul_nn::layers::{
    AvgPool2d, BatchNorm, GroupNorm, Gru, InstanceNorm, Layer, Lstm, SinusoidalPositionalEncoding,
};
use lazul_nn::losses::{self, CrossEntropy, Reduction};
use lazul_nn::optim::{AdaDelta, Adagrad, Adam, AdamW, Adamax, Optimizer, RmsProp};
use std::collections::BTreeMap;

fn wave(shape: &[usize], f: f32) -> Array {
    let n: usize = shape.iter().product();
    ((arange(n as i32, DType::F32) * f).sin() * 0.5).reshape(shape)
}

/// Lines of the file by their names.
struct Golden(BTreeMap<String, Vec<f32>>);

impl Golden {
    fn read() -> Self {
        let lines = include_str!("../golden/train.txt").lines();
        let parse = |line: &str| {
            let mut words = line.split(' ');
            let name = words.next().unwrap().to_string();
            (name, words.map(|w| w.parse().unwrap()).collect())
        };
        Golden(lines.map(parse).collect())
    }

    fn check(&self, name: &str, got: &Array) -> Result<()> {
        let got = got.astype(DType::F32).to_vec::<f32>()?;
        let want = &self.0[name];
        assert_eq!(got.len(), want.len(), "{name}");
        for (i, (g, w)) in got.iter().zip(want).enumerate() {
            assert!((g - w).abs() <= 2e-5 * (1.0 + w.abs()), "{name}[{i}]: {g} is not {w}");
        }
        Ok(())
    }
}

#[test]
fn activations_are_mlx_s() -> Result<()> {
    let golden = Golden::read();
    let x = &(wave(&[12], 0.7) * 8.0);
    for (name, y) in [
        ("celu", act::celu(x, 1.0)),
        ("elu", act::elu(x, 1.0)),
        ("gelu", act::gelu(x)),
        ("gelu_approx", act::gelu_approx(x)),
        ("gelu_fast_approx", act::gelu_fast_approx(x)),
        ("glu", act::glu(x, -1)),
        ("hard_shrink", act::hard_shrink(x, 0.5)),
        ("hard_tanh", act::hard_tanh(x, -1.0, 1.0)),
        ("hardswish", act::hardswish(x)),
        ("leaky_relu", act::leaky_relu(x, 0.01)),
        ("log_sigmoid", act::log_sigmoid(x)),
        ("log_softmax", act::log_softmax(x, -1)),
        ("mish", act::mish(x)),
        ("relu", act::relu(x)),
        ("relu2", act::relu2(x)),
        ("relu6", act::relu6(x)),
        ("selu", act::selu(x)),
        ("sigmoid", act::sigmoid(x)),
        ("silu", act::silu(x)),
        ("softmax", act::softmax(x, -1)),
        ("softmin", act::softmin(x, -1)),
        ("softplus", act::softplus(x)),
        ("softshrink", act::softshrink(x, 0.5)),
        ("softsign", act::softsign(x)),
        ("step", act::step(x, 0.0)),
        ("tanh", act::tanh(x)),
    ] {
        golden.check(name, &y)?;
    }
    Ok(())
}

#[test]
fn losses_are_mlx_s() -> Result<()> {
    let golden = Golden::read();
    let (a, b, none) = (&wave(&[2, 4], 0.7), &wave(&[2, 4], 0.4), Reduction::None);
    let how = CrossEntropy { label_smoothing: 0.1, ..Default::default() };
    let classes = Array::from_slice(&[1i32, 3], [2]);
    golden.check("cross_entropy", &losses::cross_entropy(a, &classes, how))?;
    golden.check("l1_loss", &losses::l1_loss(a, b, none))?;
    golden.check("mse_loss", &losses::mse_loss(a, b, none))?;
    golden.check("smooth_l1_loss", &losses::smooth_l1_loss(a, b, 1.0, none))?;
    golden.check("huber_loss", &losses::huber_loss(a, b, 1.0, none))?;
    golden.check("log_cosh_loss", &losses::log_cosh_loss(a, b, none))?;
    golden.check("hinge_loss", &losses::hinge_loss(a, b, none))?;
    golden.check("kl_div_loss", &losses::kl_div_loss(a, b, -1, none))?;
    let cosine = losses::cosine_similarity_loss(a, b, 1, 1e-8, none);
    golden.check("cosine_similarity_loss", &cosine)?;
    golden.check("margin", &losses::margin_ranking_loss(a, b, &b.sign(), 0.1, none))
}

#[test]
fn twenty_steps_are_mlx_s() -> Result<()> {
    let golden = Golden::read();
    let rules: [(&str, Box<dyn Optimizer>); 6] = [
        ("rmsprop", Box::new(RmsProp::new(0.1))),
        ("adagrad", Box::new(Adagrad::new(0.1))),
        ("adadelta", Box::new(AdaDelta::new(0.1))),
        ("adam", Box::new(Adam::new(0.1))),
        ("adamw", Box::new(AdamW::new(0.1))),
        ("adamax", Box::new(Adamax::new(0.1))),
    ];
    for (name, rule) in rules {
        let mut all = BTreeMap::from([("weight".to_string(), wave(&[2, 3], 0.7))]);
        let mut state = rule.init(&all)?;
        for i in 0..20 {
            let g = &all["weight"] + wave(&[2, 3], 0.2 * (i + 1) as f32);
            let gradients = BTreeMap::from([("weight".to_string(), g)]);
            all = rule.apply(&mut state, &gradients, &all)?;
        }
        golden.check(name, &all["weight"])?;
    }
    Ok(())
}

#[test]
fn layers_are_mlx_s() -> Result<()> {
    let golden = Golden::read();
    let x = wave(&[2, 5, 4], 0.7);
    let bias = Some(wave(&[12], 0.7));
    let lstm = Lstm { wx: wave(&[12, 4], 0.3), wh: wave(&[12, 3], 0.9), bias };
    golden.check("lstm", &lstm.forward(&x, None)?.0)?;
    let (b, bhn) = (Some(wave(&[9], 0.7)), Some(wave(&[3], 0.7)));
    let gru = Gru { wx: wave(&[9, 4], 0.3), wh: wave(&[9, 3], 0.9), b, bhn };
    golden.check("gru", &gru.forward_from(&x, Some(&zeros([2, 3], DType::F32))))?;
    let mut group = GroupNorm::new(2, 4)?;
    golden.check("group", &group.forward(&x))?;
    group.pytorch_compatible = true;
    golden.check("group_torch", &group.forward(&x))?;
    golden.check("instance", &InstanceNorm::new(4, 1e-5, false).forward(&x))?;
    let mut norm = BatchNorm::new(4);
    golden.check("batch", &norm.forward_mut(&x))?;
    golden.check("batch_var", norm.running_var.as_ref().unwrap())?;
    let image = wave(&[1, 4, 4, 2], 0.7);
    golden.check("avg_pool", &AvgPool2d::new([2, 2])?.forward(&image))?;
    let places = arange(3, DType::F32);
    golden.check("sinusoidal", &SinusoidalPositionalEncoding::new(8)?.forward(&places))
}

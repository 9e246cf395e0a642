//! Activations, losses, layers, optimizers and schedules against `nn.json`: MLX's in float32.

use lazul_core::fast::Mask;
use lazul_core::{Array, Conv, ConvTranspose, DType, Result, grad};
use lazul_nn::layers::*;
use lazul_nn::losses::*;
use lazul_nn::optim::*;
use lazul_nn::{Layer, Module, Parameters, activations as f};
use lazul_testkit::{Case, Golden, Report, Rule, compare};

const NEAR: Rule = Rule { rtol: 2e-5, atol: 2e-6, signed_zero: false };

/// The number under `key`, or MLX's default.
fn number(attrs: &Case, key: &str, default: f64) -> f64 {
    attrs.get(key).as_f64().unwrap_or(default)
}

fn int(attrs: &Case, key: &str, default: i64) -> i64 {
    attrs.get(key).as_i64().unwrap_or(default)
}

fn activation(op: &str, inputs: &[Array], a: &Case) -> Array {
    let x = &inputs[0];
    let axis = int(a, "axis", -1);
    match op {
        "sigmoid" => f::sigmoid(x),
        "tanh" => f::tanh(x),
        "silu" => f::silu(x),
        "relu" => f::relu(x),
        "relu2" => f::relu2(x),
        "relu6" => f::relu6(x),
        "selu" => f::selu(x),
        "gelu" => f::gelu(x),
        "gelu_approx" => f::gelu_approx(x),
        "gelu_fast_approx" => f::gelu_fast_approx(x),
        "hardswish" => f::hardswish(x),
        "log_sigmoid" => f::log_sigmoid(x),
        "softplus" => f::softplus(x),
        "softsign" => f::softsign(x),
        "mish" => f::mish(x),
        "leaky_relu" => f::leaky_relu(x, a.float("negative_slope")),
        "elu" => f::elu(x, a.float("alpha")),
        "celu" => f::celu(x, a.float("alpha")),
        "hard_shrink" => f::hard_shrink(x, a.float("lambd")),
        "softshrink" => f::softshrink(x, a.float("lambd")),
        "step" => f::step(x, a.float("threshold")),
        "softmax" => f::softmax(x, axis),
        "softmin" => f::softmin(x, axis),
        "log_softmax" => f::log_softmax(x, axis),
        "glu" => f::glu(x, axis),
        "hard_tanh" => f::hard_tanh(x, a.float("min_val"), a.float("max_val")),
        "prelu" => f::prelu(x, &inputs[1]),
        other => panic!("no activation {other}"),
    }
}

fn loss(op: &str, inputs: &[Array], a: &Case) -> Array {
    let reduction = match a.str("reduction") {
        "none" => Reduction::None,
        "mean" => Reduction::Mean,
        _ => Reduction::Sum,
    };
    let (x, y, weights) = (&inputs[0], &inputs[1], inputs.get(2));
    match op {
        "cross_entropy" => {
            let (axis, label_smoothing) = (int(a, "axis", -1), a.float("label_smoothing"));
            cross_entropy(x, y, CrossEntropy { weights, axis, label_smoothing, reduction })
        }
        "binary_cross_entropy" => {
            let with_logits = a.get("with_logits").as_bool().unwrap_or(true);
            binary_cross_entropy(x, y, BinaryCrossEntropy { weights, with_logits, reduction })
        }
        "l1_loss" => l1_loss(x, y, reduction),
        "mse_loss" => mse_loss(x, y, reduction),
        "hinge_loss" => hinge_loss(x, y, reduction),
        "log_cosh_loss" => log_cosh_loss(x, y, reduction),
        "nll_loss" => nll_loss(x, y, -1, reduction),
        "gaussian_nll_loss" => {
            let how = GaussianNll { full: a.flag("full"), eps: number(a, "eps", 1e-6), reduction };
            gaussian_nll_loss(x, y, &inputs[2], how)
        }
        "kl_div_loss" => kl_div_loss(x, y, -1, reduction),
        "smooth_l1_loss" => smooth_l1_loss(x, y, a.float("beta"), reduction),
        "huber_loss" => huber_loss(x, y, a.float("delta"), reduction),
        "triplet_loss" => {
            let how = Triplet { margin: a.float("margin"), reduction, ..Default::default() };
            triplet_loss(x, y, &inputs[2], how)
        }
        "cosine_similarity_loss" => cosine_similarity_loss(x, y, 1, 1e-8, reduction),
        "margin_ranking_loss" => {
            margin_ranking_loss(x, y, &inputs[2], a.float("margin"), reduction)
        }
        other => panic!("no loss {other}"),
    }
}

fn inputs_of(golden: &Golden, case: &Case) -> Vec<Array> {
    let count = case.get("inputs").as_u64().unwrap_or(0);
    (0..count).map(|i| golden.tensor(&format!("{}.in{i}", case.id()))).collect()
}

#[test]
fn activations_and_losses_with_their_gradients() {
    let golden = Golden::load("nn");
    let mut report = Report::new();
    for case in &golden.cases {
        let function = match case.str("kind") {
            "activation" => activation,
            "loss" => loss,
            _ => continue,
        };
        let (id, op, attrs) = (case.id(), case.str("op"), case.inner("attrs"));
        let inputs = inputs_of(&golden, case);
        let tensor = |part: &str| golden.tensor(&format!("{id}.{part}"));
        report.case(id, compare(&function(op, &inputs, &attrs), &tensor("out"), NEAR));
        if case.flag("grad") {
            let value = |x: &Array| {
                let inputs: Vec<Array> = [x].into_iter().chain(&inputs[1..]).cloned().collect();
                (function(op, &inputs, &attrs) * tensor("cotangent")).sum(..)
            };
            let ours = grad(value)(&inputs[0]).map_err(|e| e.to_string());
            let outcome = ours.and_then(|ours| compare(&ours, &tensor("grad"), NEAR));
            report.case(format!("{id} gradient"), outcome);
        }
    }
    report.finish();
}

/// A layer with the case's parameters.
fn filled<M: Module>(mut module: M, golden: &Golden, case: &Case) -> Result<M> {
    let names = case.get("parameters").as_array().unwrap();
    let named = names.iter().map(|n| n.as_str().unwrap());
    let values: Parameters =
        named.map(|n| (n.to_string(), golden.tensor(&format!("{}.p.{n}", case.id())))).collect();
    let ours: Vec<String> = module.parameters().into_iter().map(|(name, _)| name).collect();
    let all_named = ours.iter().all(|name| values.contains_key(name));
    assert!(all_named && ours.len() == values.len(), "{}: our names are {ours:?}", case.id());
    module.update(&values)?;
    module.train(case.inner("attrs").flag("train"));
    Ok(module)
}

fn conv(a: &Case) -> Conv {
    Conv {
        stride: int(a, "stride", 1).into(),
        padding: int(a, "padding", 0).into(),
        dilation: int(a, "dilation", 1).into(),
        groups: int(a, "groups", 1) as usize,
    }
}

fn conv_transpose(a: &Case) -> ConvTranspose {
    ConvTranspose {
        stride: int(a, "stride", 1).into(),
        padding: int(a, "padding", 0).into(),
        output_padding: int(a, "output_padding", 0).into(),
        ..Default::default()
    }
}

/// What the layer of a case gives.
fn run_layer(golden: &Golden, case: &Case, x: &[Array]) -> Result<Vec<Array>> {
    let (op, a) = (case.str("op"), case.inner("attrs"));
    macro_rules! one {
        ($layer:expr) => {
            vec![filled($layer, golden, case)?.forward(&x[0])]
        };
    }
    macro_rules! pool {
        ($name:ident) => {{
            let kernel = int(&a, "kernel_size", 0);
            let pool = $name::new(kernel)?.stride(int(&a, "stride", kernel))?;
            one!(pool.padding(int(&a, "padding", 0))?)
        }};
    }
    let options = TransformerOptions {
        dims: 8,
        heads: 2,
        mlp_dims: Some(12),
        norm_first: a.flag("norm_first"),
        ..Default::default()
    };
    Ok(match op {
        "MaxPool1d" => pool!(MaxPool1d),
        "MaxPool2d" => pool!(MaxPool2d),
        "MaxPool3d" => pool!(MaxPool3d),
        "AvgPool1d" => pool!(AvgPool1d),
        "AvgPool2d" => pool!(AvgPool2d),
        "AvgPool3d" => pool!(AvgPool3d),
        "Conv1d" => one!(Conv1d::init(4, 6, 2, true, conv(&a), None)?),
        "Conv2d" => one!(Conv2d::init(4, 6, 2, true, conv(&a), None)?),
        "Conv3d" => one!(Conv3d::init(4, 6, 2, true, conv(&a), None)?),
        "ConvTranspose1d" => {
            one!(ConvTranspose1d::init(4, 3, 2, true, conv_transpose(&a), None)?)
        }
        "ConvTranspose2d" => {
            one!(ConvTranspose2d::init(4, 3, 2, true, conv_transpose(&a), None)?)
        }
        "ConvTranspose3d" => {
            one!(ConvTranspose3d::init(4, 3, 2, true, conv_transpose(&a), None)?)
        }
        "BatchNorm" => {
            let mut norm = filled(BatchNorm::new(4), golden, case)?;
            let mut all = vec![norm.forward_mut(&x[0])];
            if a.flag("train") {
                all.extend(norm.running_mean.into_iter().chain(norm.running_var).map(|b| b.0));
            }
            all
        }
        "GroupNorm" => {
            let mut norm = GroupNorm::new(2, 4)?;
            norm.pytorch_compatible = a.flag("pytorch_compatible");
            one!(norm)
        }
        "InstanceNorm" => one!(InstanceNorm::new(4, 1e-5, a.flag("affine"))),
        "LayerNorm" => one!(LayerNorm::new(4, 1e-5)),
        "RMSNorm" => one!(RmsNorm::new(4, 1e-5)),
        "Linear" => one!(Linear::init(4, 3, true, None)?),
        "Bilinear" => {
            let layer = filled(Bilinear::init(4, 3, 5, true, None)?, golden, case)?;
            vec![layer.forward(&x[0], &x[1])]
        }
        "Embedding" => one!(Embedding::init(7, 4, None)?),
        "PReLU" => one!(Prelu::new(1, 0.25)),
        "RoPE" => {
            let mut rope = Rope::new(int(&a, "dims", 0) as usize);
            rope.how.traditional = a.flag("traditional");
            rope.how.base = number(&a, "base", 1e4) as f32;
            rope.how.scale = number(&a, "scale", 1.0) as f32;
            vec![rope.forward(&x[0], int(&a, "offset", 0) as i32)]
        }
        "SinusoidalPositionalEncoding" => {
            let mut layer = SinusoidalPositionalEncoding::new(6)?;
            layer.cos_first = a.flag("cos_first");
            layer.full_turns = a.flag("full_turns");
            layer.scale = number(&a, "scale", layer.scale);
            layer.min_freq = number(&a, "min_freq", layer.min_freq);
            layer.max_freq = number(&a, "max_freq", layer.max_freq);
            one!(layer)
        }
        "ALiBi" => vec![Alibi {}.forward(&x[0], int(&a, "offset", 0) as usize, None)],
        "RNN" => {
            let layer = filled(Rnn::init(4, 3, true, None)?, golden, case)?;
            vec![layer.forward_from(&x[0], x.get(1))]
        }
        "GRU" => {
            let bias = case.get("parameters").as_array().unwrap().len() > 2;
            let layer = filled(Gru::init(4, 3, bias, None)?, golden, case)?;
            vec![layer.forward_from(&x[0], x.get(1))]
        }
        "LSTM" => {
            let layer = filled(Lstm::init(4, 3, true, None)?, golden, case)?;
            let (hidden, cell) = layer.forward(&x[0], x.get(1).zip(x.get(2)))?;
            vec![hidden, cell]
        }
        "MultiHeadAttention" => {
            let layer = MultiHeadAttention::init_with(8, 2, MultiHeadDims::default(), true, None)?;
            vec![filled(layer, golden, case)?.forward(&x[0], &x[1], &x[2], &Mask::None)]
        }
        "TransformerEncoder" => {
            let options = TransformerOptions { activation: Activation::Gelu, ..options };
            let plain = filled(TransformerEncoder::init(2, &options, None)?, golden, case)?;
            let again = TransformerEncoder { checkpoint: true, ..plain.clone() };
            let mask = Mask::Array(additive_causal_mask(4, DType::F32));
            // Recomputation changes nothing, and neither does saying what is causal.
            for same in [again.forward(&x[0], &mask), plain.forward(&x[0], &Mask::Causal)] {
                let expected = golden.tensor(&format!("{}.out0", case.id()));
                compare(&same, &expected, NEAR).unwrap();
            }
            vec![plain.forward(&x[0], &mask)]
        }
        "Transformer" => {
            let model = filled(Transformer::init(1, 1, &options, None)?, golden, case)?;
            vec![model.forward(&x[0], &x[1], &Mask::None, &Mask::Causal, &Mask::None)]
        }
        "Upsample" => {
            let (align_corners, antialias) = (a.flag("align_corners"), a.flag("antialias"));
            let how = match a.str("mode") {
                "nearest" => Interpolate::Nearest,
                "linear" => Interpolate::Linear { align_corners, antialias },
                _ => Interpolate::Cubic { align_corners, antialias },
            };
            one!(Upsample::new(&[a.float("scale_factor")], how)?)
        }
        other => panic!("no layer {other}"),
    })
}

#[test]
fn layers_with_the_same_parameters() {
    let golden = Golden::load("nn");
    let mut report = Report::new();
    for case in golden.cases.iter().filter(|c| c.str("kind") == "layer") {
        let outputs = case.get("outputs").as_u64().unwrap() as usize;
        match run_layer(&golden, case, &inputs_of(&golden, case)) {
            Err(e) => report.case(case.id(), Err(e.to_string())),
            Ok(ours) => {
                assert_eq!(ours.len(), outputs, "{}", case.id());
                for (i, ours) in ours.iter().enumerate() {
                    let theirs = golden.tensor(&format!("{}.out{i}", case.id()));
                    report.case(format!("{} {i}", case.id()), compare(ours, &theirs, NEAR));
                }
            }
        }
    }
    report.finish();
}

fn optimizer(op: &str, rate: Option<f64>, a: &Case) -> Box<dyn Optimizer> {
    let decay = |default: f64| number(a, "weight_decay", default);
    let given = rate.unwrap_or(0.0);
    let adam = |betas: [f64; 2]| Adam {
        betas: a.get("betas").as_array().map_or(betas, |b| [0, 1].map(|i| b[i].as_f64().unwrap())),
        eps: number(a, "eps", 1e-8),
        bias_correction: a.flag("bias_correction"),
        ..Adam::new(given)
    };
    match op {
        "SGD" => Box::new(Sgd {
            momentum: a.float("momentum"),
            weight_decay: decay(0.0),
            dampening: a.float("dampening"),
            nesterov: a.flag("nesterov"),
            ..Sgd::new(given)
        }),
        "RMSprop" => Box::new(RmsProp::new(given)),
        "Adagrad" => Box::new(Adagrad::new(given)),
        "AdaDelta" => Box::new(AdaDelta::new(given)),
        "Adam" => Box::new(adam([0.9, 0.999])),
        "AdamW" => Box::new(AdamW { adam: adam([0.9, 0.999]), weight_decay: decay(0.01) }),
        "Adamax" => Box::new(Adamax::new(given)),
        "Lion" => Box::new(Lion { weight_decay: decay(0.0), ..Lion::new(given) }),
        "Adafactor" => Box::new(Adafactor {
            rate: rate.map(Rate::from),
            clip_threshold: number(a, "clip_threshold", 1.0),
            beta_1: a.get("beta_1").as_f64(),
            weight_decay: decay(0.0),
            scale_parameter: a.get("scale_parameter").as_bool().unwrap_or(true),
            relative_step: a.get("relative_step").as_bool().unwrap_or(true),
            warmup_init: a.flag("warmup_init"),
            ..Default::default()
        }),
        "Muon" => Box::new(Muon {
            momentum: number(a, "momentum", 0.95),
            weight_decay: decay(0.01),
            nesterov: a.get("nesterov").as_bool().unwrap_or(true),
            ..Muon::new(given)
        }),
        other => panic!("no optimizer {other}"),
    }
}

#[test]
fn optimizers_step_by_step() {
    let golden = Golden::load("nn");
    let mut report = Report::new();
    for case in golden.cases.iter().filter(|c| c.str("kind") == "optimizer") {
        let (id, attrs) = (case.id(), case.inner("attrs"));
        let rule = optimizer(case.str("op"), case.get("rate").as_f64(), &attrs);
        let names = case.get("names").as_array().unwrap();
        let named = |prefix: &str| -> Parameters {
            let names = names.iter().map(|n| n.as_str().unwrap());
            names.map(|n| (n.to_string(), golden.tensor(&format!("{id}.{prefix}.{n}")))).collect()
        };
        let mut now = named("0");
        let mut state = rule.init(&now).unwrap();
        for step in 1..=case.get("steps").as_u64().unwrap() {
            let gradients = named(&format!("{step}.g"));
            now = rule.apply(&mut state, &gradients, &now).unwrap();
            for (name, theirs) in named(&step.to_string()) {
                report.case(format!("{id} {name} {step}"), compare(&now[&name], &theirs, NEAR));
            }
        }
        assert_eq!(state.step.item::<i64>().unwrap(), 5);
    }
    report.finish();
}

#[test]
fn schedules_at_steps() {
    let golden = Golden::load("nn");
    let mut seen = 0;
    for case in golden.cases.iter().filter(|c| c.str("kind") == "schedule") {
        let of = |i: usize| case.get("attrs")[i].as_f64().unwrap();
        let steps = |i: usize| of(i) as u32;
        let schedule = match case.str("op") {
            "exponential_decay" => exponential_decay(of(0), of(1)),
            "step_decay" => step_decay(of(0), of(1), steps(2)).unwrap(),
            "cosine_decay" => cosine_decay(of(0), steps(1), of(2)).unwrap(),
            "linear_schedule" => linear_schedule(of(0), of(1), steps(2)).unwrap(),
            _ => {
                let parts = [linear_schedule(0.0, 1.0, 5), cosine_decay(1.0, 10, 0.1)];
                join_schedules(parts.into_iter().collect::<Result<_>>().unwrap(), vec![5]).unwrap()
            }
        };
        let rates = case.get("rates").as_array().unwrap();
        for (step, theirs) in case.ints("steps").into_iter().zip(rates) {
            let (ours, theirs) = (
                schedule.at(&Array::scalar(step)).item::<f32>().unwrap(),
                theirs.as_f64().unwrap(),
            );
            let apart = (ours as f64 - theirs).abs();
            assert!(apart < 1e-6, "{} at {step}: {ours}, expected {theirs}", case.id());
            seen += 1;
        }
    }
    assert_eq!(seen, 50);
}

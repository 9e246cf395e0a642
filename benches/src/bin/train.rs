//! Training steps: `train CASE STEPS [MODEL]` prints how many tokens or examples a second a step takes, of each
//! step but the first two (which compile), the losses and the peak resident memory as JSON.
//!
//! Cases: `lora` (rank 8 beside all matrices of the last 16 layers of MODEL, batch 4 of 256 tokens), `full` (all of
//! a Llama of 15 million parameters in f32, batch 8 of 256 tokens), `mlp` (784-1024-1024-10, batch 256), `conv` (two
//! convolutions and two maps, batch 64 of 32 by 32 points). The optimizer is Adam everywhere.

use anyhow::{Context, bail};
use lazul_benches::peak_rss_mb;
use lazul_core::prelude::*;
use lazul_core::{device, random};
use lazul_lm::Checkpoint;
use lazul_lm::models::LanguageModel;
use lazul_lm::tune::{Batch, Example, TuneConfig, batch, loss, prepare};
use lazul_nn::layers::{Activation, Conv2d, MaxPool2d};
use lazul_nn::losses::{CrossEntropy, Reduction, cross_entropy};
use lazul_nn::optim::{Adam, Optimizer, State};
use lazul_nn::{Layer, Linear, Module, Sequential, Trainable, activations, value_and_grad};
use serde_json::json;
use std::time::Instant;

/// Seconds and losses of compiled steps.
fn steps<M: Module + Tree + Clone, B: Tree>(
    model: M,
    batch: &B,
    count: usize,
    loss: impl Fn(&mut M, &B) -> lazul_core::Result<Array>,
) -> anyhow::Result<(Vec<f64>, Vec<f32>)> {
    let optimizer = Adam::new(1e-4);
    let state = optimizer.init(&model.trainable_parameters())?;
    let step = compile_with_state(|(model, state): &mut (M, State), batch: &B| {
        let run = value_and_grad(|m: &mut M| loss(m, batch));
        let (value, grads) = run(model)?;
        optimizer.update(state, model, &grads)?;
        Ok::<_, lazul_core::Error>(value)
    });
    let mut all = (model, state);
    let (mut seconds, mut losses) = (Vec::new(), Vec::new());
    for _ in 0..count + 2 {
        let begin = Instant::now();
        let value = step(&mut all, batch)?;
        eval(all.leaves().into_iter().chain([&value]))?;
        seconds.push(begin.elapsed().as_secs_f64());
        losses.push(value.astype(DType::F32).item::<f32>()?);
    }
    Ok((seconds.split_off(2), losses))
}

/// Rows of tokens that follow from a rule.
fn rows(count: u32, length: u32, vocab: u32) -> Batch {
    let token = |row: u32, i: u32| (i * 7919 + row * 104_729 + 13) % (vocab - 10) + 5;
    let rows: Vec<Example> = (0..count)
        .map(|row| Example { tokens: (0..=length).map(|i| token(row, i)).collect(), offset: 0 })
        .collect();
    batch(&rows.iter().collect::<Vec<_>>(), length as usize + 1)
}

fn language(
    model: Trainable<Box<dyn LanguageModel>>,
    size: [u32; 2],
    count: usize,
) -> anyhow::Result<(Vec<f64>, Vec<f32>)> {
    let data = rows(size[0], size[1], model.vocab_size() as u32);
    steps(model, &data, count, |m, data| Ok(loss(&***m, data)?.0))
}

#[derive(Clone, Module)]
struct ConvNet {
    first: Conv2d,
    second: Conv2d,
    inner: Linear,
    last: Linear,
}

impl ConvNet {
    fn forward(&self, x: &Array) -> lazul_core::Result<Array> {
        let pool = MaxPool2d::new(2)?;
        let x = pool.forward(&activations::relu(&self.first.forward(x))); // (n, 16, 16, 32)
        let x = pool.forward(&activations::relu(&self.second.forward(&x))); // (n, 8, 8, 64)
        Ok(self.last.forward(&activations::relu(&self.inner.forward(&x.flatten(1, -1)))))
    }
}

fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let usage = "usage: train CASE STEPS [MODEL]";
    let case = args.next().context(usage)?;
    let count: usize = args.next().context(usage)?.parse()?;
    let mean = CrossEntropy { reduction: Reduction::Mean, ..Default::default() };
    let classes = |n: usize| arange(n, DType::I32).remainder(10);
    let normal = |shape: &[usize]| random::normal(shape, DType::F32, Some(&random::key(1)));
    let linear = |i, o| Linear::init(i, o, true, Some(&random::key(o as u64)));
    let (items, (seconds, losses)) = match &*case {
        "lora" => {
            let checkpoint = Checkpoint::open(&args.next().context(usage)?)?;
            checkpoint.preload()?;
            let model = prepare(checkpoint.model, &TuneConfig::merged(&[])?)?;
            (4 * 256, language(model, [4, 256], count)?)
        }
        "full" => {
            let config = json!({
                "model_type": "llama", "vocab_size": 8192, "hidden_size": 384,
                "intermediate_size": 1024, "num_hidden_layers": 7, "num_attention_heads": 6,
                "num_key_value_heads": 2, "tie_word_embeddings": true, "rms_norm_eps": 1e-5,
            });
            let model = Trainable::new(lazul_lm::pretrain::init(&config, 0)?);
            (8 * 256, language(model, [8, 256], count)?)
        }
        "mlp" => {
            let model = Sequential::new()
                .then(linear(784, 1024)?)
                .then(Activation::Relu)
                .then(linear(1024, 1024)?)
                .then(Activation::Relu)
                .then(linear(1024, 10)?);
            let data = (normal(&[256, 784]), classes(256));
            let loss = |m: &mut Sequential, (x, y): &(Array, Array)| {
                Ok(cross_entropy(&m.forward(x), y, mean))
            };
            (256, steps(model, &data, count, loss)?)
        }
        "conv" => {
            let conv = |from, to| {
                let how = Conv { padding: 1.into(), ..Conv::default() };
                Conv2d::init(from, to, 3, true, how, Some(&random::key(to as u64)))
            };
            let model = ConvNet {
                first: conv(3, 32)?,
                second: conv(32, 64)?,
                inner: linear(8 * 8 * 64, 128)?,
                last: linear(128, 10)?,
            };
            let data = (normal(&[64, 32, 32, 3]), classes(64));
            let loss = |m: &mut ConvNet, (x, y): &(Array, Array)| {
                Ok(cross_entropy(&m.forward(x)?, y, mean))
            };
            (64, steps(model, &data, count, loss)?)
        }
        other => bail!("there is no case {other}: {usage}"),
    };
    println!(
        "{}",
        json!({
            "per_second": seconds.iter().map(|s| items as f64 / s).collect::<Vec<_>>(),
            "losses": losses,
            "maxrss_mb": peak_rss_mb(),
            "threads": lazul_core::threads(),
            "device": device::default_device().to_string(),
        })
    );
    Ok(())
}

//! A residual net that names what is on small colour pictures (He et al., 2015, for pictures of 32 by 32 points): a
//! ResNet-8 on every other point, and with `--depth 3` the ResNet-20 on all.
//!
//! The pictures are drawn here. With `--data FOLDER` they are those of CIFAR-10 in its binary form
//! (`data_batch_1.bin` to `test_batch.bin`); `--steps N` trains longer than a minute.

use lazul::nn::layers::{AvgPool2d, BatchNorm, Conv2d};
use lazul::nn::losses::{CrossEntropy, Reduction, cross_entropy};
use lazul::nn::optim::{Adam, WeightDecay, cosine_decay};
use lazul::nn::train::{FitOptions, Session, fit};
use lazul::nn::{Linear, activations};
use lazul::prelude::*;
use lazul::random::Generator;
use lazul_examples::picture::{COLOURS, save_grid};
use lazul_examples::{accuracy, flag, out, progress, rows, shapes};

/// Two convolutions whose result is added to what came in.
#[derive(Clone, Module)]
struct Block {
    conv1: Conv2d,
    bn1: BatchNorm,
    conv2: Conv2d,
    bn2: BatchNorm,
    #[module(option)]
    stride: usize,
}

fn conv(from: usize, to: usize, stride: usize, random: &mut Generator) -> lazul::Result<Conv2d> {
    let how = Conv { stride: [stride].into(), padding: [1].into(), ..Conv::default() };
    Conv2d::init(from, to, 3, false, how, Some(&random.next_key()))
}

impl Block {
    fn init(from: usize, to: usize, stride: usize, random: &mut Generator) -> lazul::Result<Block> {
        Ok(Block {
            conv1: conv(from, to, stride, random)?,
            bn1: BatchNorm::new(to),
            conv2: conv(to, to, 1, random)?,
            bn2: BatchNorm::new(to),
            stride,
        })
    }

    /// `x (n, h, w, from)` → `(n, h / stride, w / stride, to)`.
    fn forward_mut(&mut self, x: &Array) -> lazul::Result<Array> {
        let y = activations::relu(&self.bn1.forward_mut(&self.conv1.forward(x)));
        let y = self.bn2.forward_mut(&self.conv2.forward(&y));
        let mut short = x.clone();
        if self.stride > 1 {
            // Fewer places, and zeros in the new channels.
            let more = y.dim(-1)? - x.dim(-1)?;
            let pad = [(0, 0), (0, 0), (0, 0), (more / 2, more - more / 2)];
            short = AvgPool2d::new(self.stride)?.forward(x).pad(&pad, Pad::Constant(0.0));
        }
        Ok(activations::relu(&(y + short)))
    }
}

#[derive(Clone, Module)]
struct ResNet {
    conv: Conv2d,
    bn: BatchNorm,
    blocks: Vec<Block>,
    linear: Linear,
}

impl ResNet {
    /// Three stages of `depth` blocks; each has half the places of the one before and twice the channels.
    fn init(depth: usize, random: &mut Generator) -> lazul::Result<ResNet> {
        let mut blocks = Vec::new();
        for (from, to) in [(16, 16), (16, 32), (32, 64)] {
            blocks.push(Block::init(from, to, to / from, random)?);
            for _ in 1..depth {
                blocks.push(Block::init(to, to, 1, random)?);
            }
        }
        Ok(ResNet {
            conv: conv(3, 16, if depth < 3 { 2 } else { 1 }, random)?,
            bn: BatchNorm::new(16),
            blocks,
            linear: Linear::init(64, 10, true, Some(&random.next_key()))?,
        })
    }

    /// Pictures `(n, 32, 32, 3)` → scores `(n, 10)`. In training, running statistics move.
    fn forward_mut(&mut self, x: &Array) -> lazul::Result<Array> {
        let mut x = activations::relu(&self.bn.forward_mut(&self.conv.forward(&(x * 4.0 - 2.0))));
        for block in &mut self.blocks {
            x = block.forward_mut(&x)?;
        }
        Ok(self.linear.forward(&x.mean([1, 2])))
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let ((x, y), (unseen, answers)) = match flag("--data") {
        Some(folder) => {
            let names: Vec<String> = (1..=5).map(|i| format!("data_batch_{i}.bin")).collect();
            (shapes::cifar(&folder, &names)?, shapes::cifar(&folder, &["test_batch.bin".into()])?)
        }
        None => (shapes::drawn(4_000, 0)?, shapes::drawn(400, 1)?),
    };
    eval([&x, &y, &unseen, &answers])?;
    let number = |name: &str, usual: u32| {
        flag(name).map_or(Ok(usual), |n| n.to_string_lossy().parse::<u32>())
    };
    let (steps, depth) = (number("--steps", 1500)?, number("--depth", 1)?);
    let mut loader = rows(x, y, 64, 0)?;
    let mean = CrossEntropy { reduction: Reduction::Mean, ..Default::default() };
    let loss = |m: &mut ResNet, (x, y): &(Array, Array)| -> lazul::Result<(Array, Array)> {
        Ok((cross_entropy(&m.forward_mut(x)?, y, mean), Array::scalar(x.dim(0)? as i32)))
    };
    let rate = cosine_decay(4e-3, steps, 1e-5)?;
    let optimizer = WeightDecay::new(Adam { bias_correction: true, ..Adam::new(rate) }, 1e-2);
    let model = ResNet::init(depth as usize, &mut Generator::new(0))?;
    println!("{} parameters", model.num_parameters()?);
    let options = FitOptions { steps: steps.into(), report_every: 100, ..FitOptions::default() };
    let mut session = Session::new(model, &optimizer, 3)?;
    let mut watch = progress(options.steps);
    let outcome = fit(&mut session, &optimizer, &mut loader, loss, None, &options, &mut watch)?;

    session.model.eval();
    let scores = session.model.forward_mut(&unseen)?;
    println!("last loss {:.4}", outcome.loss);
    println!("accuracy on unseen pictures {:.4}", accuracy(&scores, &answers)?);
    let (guesses, answers) = (scores.argmax(-1).to_vec::<u32>()?, answers.to_vec::<i32>()?);
    let wrong = |i: usize| guesses[i] as i32 != answers[i];
    let frames: Vec<_> = (0..40).map(|i| wrong(i).then_some(COLOURS[1])).collect();
    let path = out("cifar.png")?;
    save_grid(&path, &unseen.slice_axis(0, 0, 40), 10, 2, &frames)?;
    println!("{}: some of them, misread where framed", path.display());
    Ok(())
}

//! A convolutional variational autoencoder (Kingma and Welling, 2013): pictures of digits through a narrow place of
//! eight numbers and back, and new digits from numbers drawn at random.
//!
//! The digits are drawn here; `--data FOLDER` takes those of MNIST, `--steps N` trains longer than a minute.

use lazul::nn::layers::{BatchNorm, Conv2d, Interpolate, upsample};
use lazul::nn::losses::{Reduction, mse_loss};
use lazul::nn::optim::AdamW;
use lazul::nn::train::{FitOptions, Session, fit};
use lazul::nn::{Linear, activations};
use lazul::prelude::*;
use lazul::random::Generator;
use lazul_examples::picture::save_grid;
use lazul_examples::{digits, flag, out, progress, rows};

const LATENT: usize = 8;
/// Channels after one, two and three convolutions, each of which halves a side of 32.
const CHANNELS: [usize; 4] = [1, 16, 32, 64];
const SIDE: usize = 32;

/// A convolution, its norm, and a bend.
#[derive(Clone, Module)]
struct Stage {
    conv: Conv2d,
    norm: BatchNorm,
}

impl Stage {
    fn forward_mut(&mut self, x: &Array) -> Array {
        activations::leaky_relu(&self.norm.forward_mut(&self.conv.forward(x)), 0.01)
    }
}

#[derive(Clone, Module)]
struct Vae {
    down: Vec<Stage>,
    mean: Linear,
    log_variance: Linear,
    from_latent: Linear,
    up: Vec<Stage>,
    last: Conv2d,
}

impl Vae {
    fn init(random: &mut Generator) -> lazul::Result<Vae> {
        let mut conv = |from: usize, to: usize, stride: usize| {
            let how = Conv { stride: [stride].into(), padding: [1].into(), ..Conv::default() };
            Conv2d::init(from, to, 3, true, how, Some(&random.next_key()))
        };
        let pairs = || CHANNELS.windows(2).map(|w| (w[0], w[1]));
        let mut down = Vec::new();
        for (from, to) in pairs() {
            down.push(Stage { conv: conv(from, to, 2)?, norm: BatchNorm::new(to) });
        }
        let mut up = Vec::new();
        for (to, from) in pairs().skip(1).collect::<Vec<_>>().into_iter().rev() {
            up.push(Stage { conv: conv(from, to, 1)?, norm: BatchNorm::new(to) });
        }
        let last = conv(CHANNELS[1], 1, 1)?;
        let narrow = CHANNELS[3] * (SIDE / 8) * (SIDE / 8);
        let mut linear = |i, o| Linear::init(i, o, true, Some(&random.next_key()));
        Ok(Vae {
            down,
            mean: linear(narrow, LATENT)?,
            log_variance: linear(narrow, LATENT)?,
            from_latent: linear(LATENT, narrow)?,
            up,
            last,
        })
    }

    /// Pictures `(n, 32, 32, 1)` → mean and logarithm of the variance of their numbers, `(n, LATENT)` each.
    fn encode(&mut self, x: &Array) -> [Array; 2] {
        let mut h = x.clone();
        for stage in &mut self.down {
            h = stage.forward_mut(&h);
        }
        let h = h.flatten(1, -1);
        [self.mean.forward(&h), self.log_variance.forward(&h)]
    }

    /// Numbers `(n, LATENT)` → pictures `(n, 32, 32, 1)`.
    fn decode(&mut self, z: &Array) -> Array {
        let h = self.from_latent.forward(z).unflatten(-1, [SIDE / 8, SIDE / 8, CHANNELS[3]]);
        let mut h = upsample(&h, &[2.0, 2.0], Interpolate::Nearest);
        for stage in &mut self.up {
            h = stage.forward_mut(&h);
            h = upsample(&h, &[2.0, 2.0], Interpolate::Nearest);
        }
        activations::sigmoid(&self.last.forward(&h))
    }

    /// How far pictures are from what comes back, and how far their numbers are from a normal distribution: the
    /// sum over a picture, the mean over pictures.
    fn loss(&mut self, x: &Array) -> lazul::Result<Array> {
        let [mean, log_variance] = self.encode(x);
        let noise = random::normal(mean.shape()?, DType::F32, None);
        let back = self.decode(&(&mean + (&log_variance * 0.5).exp() * noise));
        let away = mse_loss(&back, x, Reduction::Sum);
        let apart = (log_variance.exp() + mean.square() - log_variance - 1.0).sum(..) * 0.5;
        Ok((away + apart) / x.dim(0)? as f32)
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (pictures, labels) = match flag("--data") {
        Some(folder) => {
            let (x, y) = digits::mnist(&folder, "train")?;
            (x.pad(&[(0, 0), (2, 2), (2, 2)], Pad::Constant(0.0)), y)
        }
        None => digits::drawn(4_000, SIDE, 0)?,
    };
    let x = pictures.expand_dims(-1); // (n, 32, 32, 1)
    eval([&x, &labels])?;
    let steps = flag("--steps").map_or(Ok(300), |n| n.to_string_lossy().parse::<u64>())?;
    let mut loader = rows(x.clone(), labels, 64, 0)?;
    let loss = |m: &mut Vae, (x, _): &(Array, Array)| -> lazul::Result<(Array, Array)> {
        Ok((m.loss(x)?, Array::scalar(x.dim(0)? as i32)))
    };
    let optimizer = AdamW::new(2e-3);
    let model = Vae::init(&mut Generator::new(0))?;
    println!("{} parameters", model.num_parameters()?);
    let mut session = Session::new(model, &optimizer, 1)?;
    let options = FitOptions { steps, report_every: 20, ..FitOptions::default() };
    let mut watch = progress(steps);
    let outcome = fit(&mut session, &optimizer, &mut loader, loss, None, &options, &mut watch)?;
    println!("last loss {:.2}", outcome.loss);

    let model = &mut session.model;
    model.eval();
    let some = x.slice_axis(0, 0, 32);
    let [mean, _] = model.encode(&some);
    let back = model.decode(&mean);
    println!(
        "squared error of a picture {:.2}",
        (mse_loss(&back, &some, Reduction::Sum) / 32.0).item::<f32>()?
    );
    // Rows of pictures, each above what came back.
    let (a, b) = (some.reshape([4, 8, SIDE, SIDE]), back.reshape([4, 8, SIDE, SIDE]));
    let pairs = stack(&[a, b], 1).reshape([64, SIDE, SIDE]);
    save_grid(&out("cvae_reconstructed.png")?, &pairs, 8, 2, &[])?;
    let z = random::normal([64, LATENT], DType::F32, Some(&random::key(9)));
    let new = model.decode(&z).squeeze(-1);
    save_grid(&out("cvae_generated.png")?, &new, 8, 2, &[])?;
    println!("{} and cvae_reconstructed.png", out("cvae_generated.png")?.display());
    Ok(())
}

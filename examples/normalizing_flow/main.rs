//! A normalizing flow: RealNVP (Dinh et al., 2016) learns the density of two half moons, from which points are drawn
//! then.
//!
//! A coupling moves and stretches one coordinate by functions of the other, so that it can be undone and its change
//! of volume is known.

use lazul::nn::layers::Activation;
use lazul::nn::optim::{Adam, cosine_decay};
use lazul::nn::train::{FitOptions, Session, fit};
use lazul::nn::{Linear, Sequential};
use lazul::prelude::*;
use lazul::random::Generator;
use lazul_examples::picture::{COLOURS, Plot};
use lazul_examples::{out, progress, rows};
use std::f32::consts::{PI, TAU};

/// `n` points `(n, 2)` of two moons.
fn moons(n: usize, seed: u64) -> lazul::Result<Array> {
    let keys = random::split(&random::key(seed), 2);
    let turns = random::uniform(0.0, 1.0, [n], DType::F32, Some(&keys.at_index(0, 0)));
    let points: Vec<f32> = turns
        .to_vec::<f32>()?
        .into_iter()
        .enumerate()
        .flat_map(|(i, turn)| {
            let (sin, cos) = (turn * PI).sin_cos();
            if i % 2 == 0 { [cos - 0.5, sin - 0.25] } else { [0.5 - cos, 0.25 - sin] }
        })
        .collect();
    let noise = random::normal([n, 2], DType::F32, Some(&keys.at_index(0, 1)));
    Ok(Array::from_slice(&points, [n, 2]) + noise * 0.06)
}

/// Couplings, each with a net that gives stretch and shift.
#[derive(Clone, Module)]
struct Flow {
    nets: Vec<Sequential>,
}

impl Flow {
    fn init(couplings: usize, hidden: usize, random: &mut Generator) -> lazul::Result<Flow> {
        let mut net = || {
            let mut linear = |i, o| Linear::init(i, o, true, Some(&random.next_key()));
            let net = Sequential::new().then(linear(1, hidden)?).then(Activation::Gelu);
            let net = net.then(linear(hidden, hidden)?).then(Activation::Gelu);
            // Nothing is moved at first.
            let mut last = linear(hidden, 2)?;
            last.map(&mut |_, weight| weight * 0.01);
            lazul::Result::Ok(net.then(last))
        };
        Ok(Flow { nets: (0..couplings).map(|_| net()).collect::<lazul::Result<_>>()? })
    }

    /// What a coupling does by its fixed coordinate `(n, 1)`: logarithm of the stretch, and shift, `(n, 1)` each.
    fn turn(&self, i: usize, fixed: &Array) -> [Array; 2] {
        let both = self.nets[i].forward(fixed); // (n, 2)
        [both.slice_axis(1, 0, 1).tanh() * 2.0, both.slice_axis(1, 1, 2)]
    }

    /// The logarithm of the density at points `(n, 2)`: `(n)`.
    fn log_density(&self, x: &Array) -> Array {
        let (mut fixed, mut moved) = (x.slice_axis(1, 0, 1), x.slice_axis(1, 1, 2));
        let mut volume = fixed.zeros_like();
        for i in 0..self.nets.len() {
            let [stretch, shift] = self.turn(i, &fixed);
            moved = (moved - shift) * (-&stretch).exp();
            volume -= stretch;
            std::mem::swap(&mut fixed, &mut moved);
        }
        // Where all was turned back there is a normal distribution.
        let normal = (fixed.square() + moved.square()) * -0.5 - TAU.ln();
        (normal + volume).squeeze(1)
    }

    /// `n` points `(n, 2)`.
    fn sample(&self, n: usize, key: &Array) -> Array {
        let z = random::normal([n, 2], DType::F32, Some(key));
        let (mut fixed, mut moved) = (z.slice_axis(1, 0, 1), z.slice_axis(1, 1, 2));
        for i in (0..self.nets.len()).rev() {
            std::mem::swap(&mut fixed, &mut moved);
            let [stretch, shift] = self.turn(i, &fixed);
            moved = moved * stretch.exp() + shift;
        }
        concatenate(&[fixed, moved], 1)
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let data = moons(8_000, 0)?;
    let steps = 2_000;
    let mut loader = rows(data.clone(), data.clone(), 256, 0)?;
    let loss = |m: &mut Flow, (x, _): &(Array, Array)| -> lazul::Result<(Array, Array)> {
        Ok((-m.log_density(x).mean(..), Array::scalar(x.dim(0)? as i32)))
    };
    let optimizer = Adam::new(cosine_decay(2e-3, steps, 1e-5)?);
    let mut session = Session::new(Flow::init(8, 64, &mut Generator::new(0))?, &optimizer, 1)?;
    let options = FitOptions { steps: steps.into(), report_every: 200, ..Default::default() };
    let mut watch = progress(options.steps);
    fit(&mut session, &optimizer, &mut loader, loss, None, &options, &mut watch)?;

    let flow = &session.model;
    let unseen = moons(2_000, 1)?;
    println!(
        "log density of unseen points {:.3}",
        flow.log_density(&unseen).mean(..).item::<f32>()?
    );
    let drawn = flow.sample(2_000, &random::key(5));
    println!(
        "log density of drawn points  {:.3}",
        flow.log_density(&drawn).mean(..).item::<f32>()?
    );
    // Left the points of the moons, right those drawn.
    let mut plot = Plot::new(1200, 500, [[-2.0, -1.5], [5.2, 1.5]]);
    for (points, shift, colour) in [(&unseen, 0.0, COLOURS[0]), (&drawn, 3.2, COLOURS[1])] {
        for point in points.to_vec::<f32>()?.chunks(2) {
            plot.dot([point[0] + shift, point[1]], 1.8, colour);
        }
    }
    let path = out("normalizing_flow.png")?;
    plot.save(&path)?;
    println!("{}: left the moons, right what the flow draws", path.display());
    Ok(())
}

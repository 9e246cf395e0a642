//! A perceptron that reads digits.
//!
//! The digits are drawn here, so that nothing has to be downloaded. With `--data FOLDER` they are those of MNIST,
//! whose four files are in the folder, packed or not.

use lazul::nn::layers::{Activation, Dropout};
use lazul::nn::losses::{CrossEntropy, Reduction, cross_entropy};
use lazul::nn::optim::{AdamW, cosine_decay};
use lazul::nn::train::{FitOptions, Session, fit};
use lazul::nn::{Linear, Sequential};
use lazul::prelude::*;
use lazul_examples::picture::{COLOURS, save_grid};
use lazul_examples::{accuracy, digits, flag, out, progress, rows};

/// Pictures to train with and digits on them, and the same to test with.
fn data() -> Result<[(Array, Array); 2], Box<dyn std::error::Error>> {
    if let Some(folder) = flag("--data") {
        return Ok([digits::mnist(&folder, "train")?, digits::mnist(&folder, "t10k")?]);
    }
    let noisy = |n: usize, seed: u64| -> lazul::Result<(Array, Array)> {
        let (x, y) = digits::drawn(n, 14, seed)?;
        let noise = random::normal(x.shape()?, DType::F32, Some(&random::key(seed + 100)));
        Ok((x + noise * 0.15, y))
    };
    Ok([noisy(6_000, 0)?, noisy(1_000, 1)?])
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let [(pictures, y), (unseen, answers)] = data()?;
    let flat = |x: &Array| x.flatten(1, -1);
    let (x, test) = (flat(&pictures), flat(&unseen));
    eval([&x, &y, &test, &answers])?;

    let keys = random::split(&random::key(2), 3);
    let linear = |i, o, k| Linear::init(i, o, true, Some(&keys.at_index(0, k)));
    let model = Sequential::new()
        .then(linear(x.dim(1)?, 128, 0)?)
        .then(Activation::Relu)
        .then(Dropout::new(0.1)?)
        .then(linear(128, 64, 1)?)
        .then(Activation::Relu)
        .then(linear(64, 10, 2)?);
    println!("{}", model.summary()?);

    let mut loader = rows(x, y, 100, 0)?;
    let mean = CrossEntropy { reduction: Reduction::Mean, ..Default::default() };
    let loss = |m: &mut Sequential, (x, y): &(Array, Array)| -> lazul::Result<(Array, Array)> {
        Ok((cross_entropy(&m.forward(x), y, mean), Array::scalar(x.dim(0)? as i32)))
    };
    let mut evaluate = |m: &mut Sequential| {
        Ok(cross_entropy(&m.forward(&test), &answers, mean).item::<f32>()?.into())
    };

    let steps = 900;
    let optimizer = AdamW::new(cosine_decay(3e-3, steps, 1e-5)?);
    let options = FitOptions {
        steps: steps.into(),
        evaluate_every: 300,
        report_every: 60,
        ..Default::default()
    };
    let mut session = Session::new(model, &optimizer, 3)?;
    let mut watch = progress(options.steps);
    fit(&mut session, &optimizer, &mut loader, loss, Some(&mut evaluate), &options, &mut watch)?;

    session.model.eval();
    let scores = session.model.forward(&test);
    println!("accuracy on unseen digits {:.4}", accuracy(&scores, &answers)?);
    // Pictures that were read, those that were misread first.
    let guesses = scores.argmax(-1).to_vec::<u32>()?;
    let right: Vec<bool> =
        guesses.iter().zip(answers.to_vec::<i32>()?).map(|(g, a)| *g as i32 == a).collect();
    let mut shown: Vec<usize> = (0..right.len()).collect();
    shown.sort_by_key(|&i| right[i]);
    shown.truncate(40);
    let indices: Vec<i32> = shown.iter().map(|&i| i as i32).collect();
    let some = unseen.take(Array::from_slice(&indices, [indices.len()]), 0);
    let frames: Vec<_> = shown.iter().map(|&i| (!right[i]).then_some(COLOURS[1])).collect();
    let path = out("mnist.png")?;
    save_grid(&path, &some, 10, 3, &frames)?;
    let read: Vec<u32> = shown.iter().map(|&i| guesses[i]).collect();
    println!("{}: read as {read:?}, misread where framed", path.display());
    Ok(())
}

//! A perceptron that reads digits.
//!
//! The digits are drawn here, so that nothing has to be downloaded: glyphs of 5 by 7 dots, shifted, stretched,
//! of any brightness, in noise, on a field of 14 by 14.

use lazul::nn::layers::{Activation, Dropout};
use lazul::nn::losses::{CrossEntropy, Reduction, cross_entropy};
use lazul::nn::optim::{AdamW, cosine_decay};
use lazul::nn::train::{Batching, Event, FitOptions, Loader, Progress, Session, fit};
use lazul::nn::{Linear, Sequential};
use lazul::prelude::*;

const GLYPHS: [[u8; 7]; 10] = [
    [0b01110, 0b10001, 0b10011, 0b10101, 0b11001, 0b10001, 0b01110],
    [0b00100, 0b01100, 0b00100, 0b00100, 0b00100, 0b00100, 0b01110],
    [0b01110, 0b10001, 0b00001, 0b00110, 0b01000, 0b10000, 0b11111],
    [0b11111, 0b00010, 0b00100, 0b00010, 0b00001, 0b10001, 0b01110],
    [0b00010, 0b00110, 0b01010, 0b10010, 0b11111, 0b00010, 0b00010],
    [0b11111, 0b10000, 0b11110, 0b00001, 0b00001, 0b10001, 0b01110],
    [0b00110, 0b01000, 0b10000, 0b11110, 0b10001, 0b10001, 0b01110],
    [0b11111, 0b00001, 0b00010, 0b00100, 0b01000, 0b01000, 0b01000],
    [0b01110, 0b10001, 0b10001, 0b01110, 0b10001, 0b10001, 0b01110],
    [0b01110, 0b10001, 0b10001, 0b01111, 0b00001, 0b00010, 0b01100],
];
const SIDE: usize = 14;

/// `n` pictures `(n, 196)` and the digits on them `(n)`.
fn digits(n: usize, seed: u64) -> lazul::Result<(Array, Array)> {
    let keys = random::split(&random::key(seed), 2);
    // For each picture: digit, place, stretch, brightness.
    let draws = random::uniform(0.0, 1.0, [n, 6], DType::F32, Some(&keys.at_index(0, 0)));
    let (mut pictures, mut labels) = (vec![0f32; n * SIDE * SIDE], Vec::new());
    for (picture, draw) in pictures.chunks_mut(SIDE * SIDE).zip(draws.to_vec::<f32>()?.chunks(6)) {
        let digit = ((draw[0] * 10.0) as usize).min(9);
        labels.push(digit as i32);
        let (wide, high) = (1.1 + draw[1] * 0.9, 1.1 + draw[2] * 0.7);
        let left = (SIDE as f32 - 5.0 * wide) / 2.0 + (draw[3] - 0.5) * 3.0;
        let top = (SIDE as f32 - 7.0 * high) / 2.0 + (draw[4] - 0.5) * 3.0;
        for (i, dot) in picture.iter_mut().enumerate() {
            let column = ((i % SIDE) as f32 - left) / wide;
            let row = ((i / SIDE) as f32 - top) / high;
            let inside = (0.0..5.0).contains(&column) && (0.0..7.0).contains(&row);
            if inside && GLYPHS[digit][row as usize] >> (4 - column as usize) & 1 == 1 {
                *dot = 0.4 + 0.6 * draw[5];
            }
        }
    }
    let noise = random::normal([n, SIDE * SIDE], DType::F32, Some(&keys.at_index(0, 1))) * 0.15;
    Ok((Array::from_slice(&pictures, [n, SIDE * SIDE]) + noise, Array::from_slice(&labels, [n])))
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (x, y) = digits(6_000, 0)?;
    let (unseen, answers) = digits(1_000, 1)?;
    eval([&x, &y, &unseen, &answers])?;

    let keys = random::split(&random::key(2), 3);
    let linear = |i, o, k| Linear::init(i, o, true, Some(&keys.at_index(0, k)));
    let model = Sequential::new()
        .then(linear(SIDE * SIDE, 128, 0)?)
        .then(Activation::Relu)
        .then(Dropout::new(0.1)?)
        .then(linear(128, 64, 1)?)
        .then(Activation::Relu)
        .then(linear(64, 10, 2)?);
    println!("{}", model.summary()?);

    let how = Batching { size: 100, ..Default::default() };
    let rows = move |batch: &[usize]| {
        let rows: Vec<i32> = batch.iter().map(|&i| i as i32).collect();
        let rows = Array::from_slice(&rows, [rows.len()]);
        Ok((x.take(&rows, 0), y.take(&rows, 0)))
    };
    let mut loader = Loader::new(vec![1; 6_000], how, rows)?;
    let mean = CrossEntropy { reduction: Reduction::Mean, ..Default::default() };
    let loss = |m: &mut Sequential, (x, y): &(Array, Array)| -> lazul::Result<(Array, Array)> {
        Ok((cross_entropy(&m.forward(x), y, mean), Array::scalar(x.dim(0)? as i32)))
    };
    let accuracy = |m: &Sequential| -> lazul::Result<f64> {
        let right = m.forward(&unseen).argmax(-1).astype(DType::I32).equal(&answers);
        Ok(right.astype(DType::F32).mean(..).item::<f32>()?.into())
    };
    let mut evaluate = |m: &mut Sequential| {
        Ok(cross_entropy(&m.forward(&unseen), &answers, mean).item::<f32>()?.into())
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
    let mut progress = Progress::new(options.steps);
    let mut observe = |event: &Event| progress.show(event);
    fit(&mut session, &optimizer, &mut loader, loss, Some(&mut evaluate), &options, &mut observe)?;

    session.model.eval();
    println!("accuracy on unseen digits {:.4}", accuracy(&session.model)?);
    let (some, _) = digits(4, 5)?;
    let guesses = session.model.forward(&some).argmax(-1).to_vec::<u32>()?;
    let dots = some.to_vec::<f32>()?;
    for row in 0..SIDE {
        let line = |picture: usize| -> String {
            let at = (picture * SIDE + row) * SIDE;
            dots[at..at + SIDE]
                .iter()
                .map(|&d| [' ', '·', '▒', '█'][(d * 4.0).clamp(0.0, 3.0) as usize])
                .collect()
        };
        println!("{}", (0..4).map(line).collect::<Vec<_>>().join("   "));
    }
    println!("read as {guesses:?}");
    Ok(())
}

//! A transformer that writes letter by letter, trained from nothing on a text.
//!
//! The text is the part of the Rust documentation that the recipe in `recipes/rust-docs-lm` holds back, or the file
//! after `--data`.

use lazul::fast::Mask;
use lazul::nn::Linear;
use lazul::nn::layers::{
    Embedding, SinusoidalPositionalEncoding, TransformerEncoder, TransformerOptions,
};
use lazul::nn::losses::{CrossEntropy, Reduction, cross_entropy};
use lazul::nn::optim::{AdamW, cosine_decay, join_schedules, linear_schedule};
use lazul::nn::train::{Batching, FitOptions, Loader, Session, fit};
use lazul::prelude::*;
use lazul::random::Generator;
use lazul_examples::{flag, progress};

const CONTEXT: usize = 64;
const DIMS: usize = 128;

/// Bytes in, scores of the next byte out.
#[derive(Clone, Module)]
struct TransformerLm {
    embedding: Embedding,
    position: SinusoidalPositionalEncoding,
    transformer: TransformerEncoder,
    out: Linear,
}

impl TransformerLm {
    fn init(blocks: usize, random: &mut Generator) -> lazul::Result<TransformerLm> {
        let options = TransformerOptions {
            dims: DIMS,
            heads: 4,
            mlp_dims: Some(4 * DIMS),
            norm_first: true,
            ..Default::default()
        };
        Ok(TransformerLm {
            embedding: Embedding::init(256, DIMS, Some(&random.next_key()))?,
            position: SinusoidalPositionalEncoding::new(DIMS)?,
            transformer: TransformerEncoder::init(blocks, &options, Some(&random.next_key()))?,
            out: Linear::init(DIMS, 256, true, Some(&random.next_key()))?,
        })
    }

    /// Bytes `(b, t)` → scores `(b, t, 256)`.
    fn forward(&self, x: &Array) -> lazul::Result<Array> {
        let places = self.position.forward(&arange(x.dim(1)? as i64, DType::F32));
        let h = self.embedding.forward(x) + places; // (b, t, DIMS)
        Ok(self.out.forward(&self.transformer.forward(&h, &Mask::Causal)))
    }

    /// The mean loss of windows `(b, CONTEXT + 1)`.
    fn loss(&self, windows: &Array) -> lazul::Result<Array> {
        let (x, y) = (windows.slice_axis(1, 0, -1), windows.slice_axis(1, 1, None));
        let how = CrossEntropy { reduction: Reduction::Mean, ..Default::default() };
        Ok(cross_entropy(&self.forward(&x)?, &y, how))
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let text = match flag("--data") {
        Some(file) => std::fs::read(file)?,
        None => include_bytes!("../../recipes/rust-docs-lm/heldout.txt").to_vec(),
    };
    let bytes: Vec<i32> = text.into_iter().map(i32::from).collect();
    if bytes.len() < 20 * (CONTEXT + 1) {
        return Err("the text is too short".into());
    }
    // Every byte begins a window; the last tenth is for validation.
    let (train, held) = bytes.split_at(bytes.len() / 10 * 9);
    let windows = |bytes: &[i32], starts: &[usize]| {
        let rows = starts.iter().flat_map(|&at| bytes[at..at + CONTEXT + 1].iter().copied());
        Array::from_slice(&rows.collect::<Vec<_>>(), [starts.len(), CONTEXT + 1])
    };
    let starts: Vec<usize> = (0..held.len() - CONTEXT - 1).step_by(CONTEXT).take(100).collect();
    let valid = windows(held, &starts);
    let (count, train) = (train.len() - CONTEXT, train.to_vec());
    let how = Batching { size: 16, ..Default::default() };
    let mut loader = Loader::new(vec![1; count], how, move |rows| Ok(windows(&train, rows)))?;

    let model = TransformerLm::init(2, &mut Generator::new(0))?;
    println!(
        "Training a transformer with {:.3} M parameters",
        model.num_parameters()? as f64 / 1e6
    );
    let steps: u32 = flag("--steps").map_or(Ok(700), |n| n.to_string_lossy().parse())?;
    let warm = steps / 10 + 1;
    let rise = linear_schedule(1e-5, 3e-3, warm)?;
    let fall = cosine_decay(3e-3, steps.saturating_sub(warm).max(1), 1e-5)?;
    let optimizer = AdamW::new(join_schedules(vec![rise, fall], vec![warm])?);
    let mut session = Session::new(model, &optimizer, 1)?;
    let loss = |m: &mut TransformerLm, x: &Array| -> lazul::Result<(Array, Array)> {
        Ok((m.loss(x)?, Array::scalar((x.dim(0)? * CONTEXT) as i32)))
    };
    let mut evaluate = |m: &mut TransformerLm| Ok(m.loss(&valid)?.item::<f32>()?.into());
    let options = FitOptions {
        steps: steps.into(),
        evaluate_every: 350,
        report_every: 50,
        clip: Some(1.0),
        ..Default::default()
    };
    let mut watch = progress(options.steps);
    let outcome = fit(
        &mut session,
        &optimizer,
        &mut loader,
        loss,
        Some(&mut evaluate),
        &options,
        &mut watch,
    )?;
    let best = outcome.best.map_or(f64::NAN, |(loss, _)| loss);
    println!("validation loss {best:.4}, bits of a byte {:.3}", best / std::f64::consts::LN_2);

    // Letters one after another, the likelier the more often.
    session.model.eval();
    let mut written: Vec<i32> = b"The ".iter().map(|&b| i32::from(b)).collect();
    for i in 0..160 {
        let seen = &written[written.len().saturating_sub(CONTEXT)..];
        let scores = session.model.forward(&Array::from_slice(seen, [1, seen.len()]))?;
        let last = scores.at_index(1, -1) / 0.7; // (1, 256)
        let next = random::categorical(&last, -1, None, Some(&random::key(i)));
        written.push(next.item::<u32>()? as i32);
    }
    let written: Vec<u8> = written.into_iter().map(|b| b as u8).collect();
    println!("{}", String::from_utf8_lossy(&written));
    Ok(())
}

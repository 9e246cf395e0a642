//! A keyword transformer (Berg et al., 2021) that hears which of ten words is said.
//!
//! The words are spoken by a synthesiser of our own, by voices of any pitch, size and pace, in noise. What the net
//! sees of a second are the energies of 40 bands of hearing in 49 steps.

use lazul::fast::Mask;
use lazul::nn::layers::{Activation, TransformerEncoder, TransformerOptions};
use lazul::nn::losses::{CrossEntropy, Reduction, cross_entropy};
use lazul::nn::optim::{AdamW, cosine_decay};
use lazul::nn::train::{FitOptions, Session, fit};
use lazul::nn::{LayerNorm, Linear};
use lazul::prelude::*;
use lazul::random::Generator;
use lazul_examples::picture::save_grid;
use lazul_examples::words::{RATE, WORDS, said};
use lazul_examples::{accuracy, out, progress, rows};

/// Samples of a window of 32 ms, and between windows: 20 ms.
const WINDOW: usize = 256;
const HOP: usize = 160;
const BANDS: usize = 40;
const DIMS: usize = 64;

/// How much each frequency of a window counts for each band, `(WINDOW / 2 + 1, BANDS)`: triangles of equal width
/// by the scale of mels.
fn bands() -> Array {
    let mel = |hertz: f32| 1127.0 * (1.0 + hertz / 700.0).ln();
    let (low, high) = (mel(60.0), mel(RATE as f32 / 2.0));
    let width = (high - low) / (BANDS + 1) as f32;
    let mut weights = Vec::new();
    for bin in 0..=WINDOW / 2 {
        let at = mel((bin * RATE / WINDOW) as f32);
        let centres = (1..=BANDS).map(|band| low + width * band as f32);
        weights.extend(centres.map(|centre| (1.0 - (at - centre).abs() / width).max(0.0)));
    }
    Array::from_slice(&weights, [WINDOW / 2 + 1, BANDS])
}

/// Waves `(n, RATE)` → logarithms of energies `(n, t, BANDS)`, those of a second with mean 0 and deviation 1.
fn heard(waves: &Array) -> Array {
    let how = fft::Stft {
        n_fft: WINDOW,
        hop_length: Some(HOP),
        window: Some(lazul::hanning(WINDOW)),
        center: false,
        ..Default::default()
    };
    let spectra = fft::stft(waves, &how).swapaxes(-1, -2); // (n, t, frequencies)
    let energies = spectra.abs().square();
    let log = (energies.matmul(&bands()) + 1e-4).log();
    let (mean, var) = (log.mean([1, 2]), log.var([1, 2], 0));
    (log - mean.expand_dims(1).expand_dims(2)) * var.rsqrt().expand_dims(1).expand_dims(2)
}

#[derive(Clone, Module)]
struct KeywordTransformer {
    patch: Linear,
    /// Stands before the steps, `(DIMS)`: what it becomes decides.
    class: Array,
    /// `(1 + t, DIMS)`
    position: Array,
    transformer: TransformerEncoder,
    norm: LayerNorm,
    head: Linear,
}

impl KeywordTransformer {
    fn init(steps: usize, random: &mut Generator) -> lazul::Result<KeywordTransformer> {
        let options = TransformerOptions {
            dims: DIMS,
            heads: 4,
            dropout: 0.05,
            activation: Activation::Gelu,
            ..Default::default()
        };
        let mut small = |shape: &[usize]| {
            random::normal_with(0.0, 0.02, shape, DType::F32, Some(&random.next_key()))
        };
        Ok(KeywordTransformer {
            class: small(&[DIMS]),
            position: small(&[1 + steps, DIMS]),
            patch: Linear::init(BANDS, DIMS, true, Some(&random.next_key()))?,
            transformer: TransformerEncoder::init(3, &options, Some(&random.next_key()))?,
            norm: LayerNorm::new(DIMS, 1e-5),
            head: Linear::init(DIMS, WORDS.len(), true, Some(&random.next_key()))?,
        })
    }

    /// Energies `(n, t, BANDS)` → scores `(n, words)`.
    fn forward(&self, x: &Array) -> lazul::Result<Array> {
        let n = x.dim(0)?;
        let class = self.class.broadcast_to([n, 1, DIMS]);
        let h = concatenate(&[class, self.patch.forward(x)], 1) + &self.position;
        let h = self.transformer.forward(&h, &Mask::None).at_index(1, 0);
        Ok(self.head.forward(&self.norm.forward(&h)))
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let ((waves, y), (unseen, answers)) = (said(2_000, 0)?, said(400, 1)?);
    let (x, test) = (heard(&waves), heard(&unseen));
    eval([&x, &test, &y, &answers])?;
    let model = KeywordTransformer::init(x.dim(1)?, &mut Generator::new(0))?;
    println!("{} parameters, {} steps of a word", model.num_parameters()?, x.dim(1)?);
    // A word of each kind as the net hears it, low bands below.
    let labels = answers.to_vec::<i32>()?;
    let firsts: Vec<i32> = (0..WORDS.len() as i32)
        .filter_map(|word| labels.iter().position(|&l| l == word).map(|i| i as i32))
        .collect();
    let some =
        test.take(Array::from_slice(&firsts, [firsts.len()]), 0).flip(2).transpose([0, 2, 1]);
    let path = out("speechcommands.png")?;
    save_grid(&path, &((some + 2.0) / 5.0), 5, 4, &[])?;
    println!("{}: {}", path.display(), WORDS.join(", "));

    let steps = 400;
    let mut loader = rows(x, y, 64, 0)?;
    let mean = CrossEntropy { reduction: Reduction::Mean, ..Default::default() };
    let loss = |m: &mut KeywordTransformer, (x, y): &(Array, Array)| -> lazul::Result<_> {
        Ok((cross_entropy(&m.forward(x)?, y, mean), Array::scalar(x.dim(0)? as i32)))
    };
    let mut evaluate = |m: &mut KeywordTransformer| {
        Ok(cross_entropy(&m.forward(&test)?, &answers, mean).item::<f32>()?.into())
    };
    let optimizer = AdamW { weight_decay: 0.1, ..AdamW::new(cosine_decay(2e-3, steps, 1e-5)?) };
    let options = FitOptions {
        steps: steps.into(),
        report_every: 40,
        evaluate_every: 200,
        clip: Some(1.0),
        ..FitOptions::default()
    };
    let mut session = Session::new(model, &optimizer, 1)?;
    let mut watch = progress(options.steps);
    fit(&mut session, &optimizer, &mut loader, loss, Some(&mut evaluate), &options, &mut watch)?;
    session.model.eval();
    let scores = session.model.forward(&test)?;
    println!("accuracy on unseen words {:.4}", accuracy(&scores, &answers)?);
    Ok(())
}

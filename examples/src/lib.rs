//! What several examples share: flags, drawn digits, rows of a data set as batches, and pictures as files.

pub mod digits;
pub mod picture;
pub mod shapes;
pub mod words;

use lazul::nn::train::{Batching, Event, Loader, Progress, Result};
use lazul::prelude::*;
use std::path::PathBuf;

/// The path after a flag: `--data FOLDER`.
pub fn flag(name: &str) -> Option<PathBuf> {
    let mut arguments = std::env::args_os().skip_while(|a| a != name);
    arguments.nth(1).map(PathBuf::from)
}

/// Where an example's pictures go: the folder after `--out`, or `pictures`. The folder is made.
pub fn out(name: &str) -> std::io::Result<PathBuf> {
    let folder = flag("--out").unwrap_or_else(|| PathBuf::from("pictures"));
    std::fs::create_dir_all(&folder)?;
    Ok(folder.join(name))
}

/// Batches of rows of `x` and `y`.
pub fn rows(x: Array, y: Array, size: usize, seed: u64) -> Result<Loader<(Array, Array)>> {
    let how = Batching { size, seed, ..Batching::default() };
    let n = x.dim(0)?;
    let make = move |batch: &[usize]| {
        let rows: Vec<i32> = batch.iter().map(|&i| i as i32).collect();
        let rows = Array::from_slice(&rows, [rows.len()]);
        Ok((x.take(&rows, 0), y.take(&rows, 0)))
    };
    Loader::new(vec![1; n], how, make)
}

/// How often the largest score is that of the right class: `scores (n, classes)`, `answers (n)`.
pub fn accuracy(scores: &Array, answers: &Array) -> lazul::Result<f64> {
    let right = scores.argmax(-1).astype(DType::I32).equal(answers);
    Ok(right.astype(DType::F32).mean(..).item::<f32>()?.into())
}

/// Shows what happens in a training of so many steps.
pub fn progress(steps: u64) -> impl FnMut(&Event) {
    let mut progress = Progress::new(steps);
    move |event| progress.show(event)
}

//! Trainings that end and go on, that meet NaN, that stop early.

use super::*;
use crate::layers::{Activation, Dropout};
use crate::losses::{Reduction, mse_loss};
use crate::optim::{AdamW, cosine_decay};
use crate::{Layer, Linear, Sequential};
use lazul_core::{Array, DType, Tree, random};
use serde_json::json;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

type Batch = (Array, Array);

fn model() -> Sequential {
    let keys = random::split(&random::key(3), 2);
    let linear =
        |i, o, k| Linear::init(i, o, true, Some(&keys.at_index(0, k))).expect("sizes are fine");
    Sequential::new()
        .then(linear(3, 8, 0))
        .then(Activation::Tanh)
        .then(Dropout::new(0.3).expect("a probability"))
        .then(linear(8, 1, 1))
}

fn optimizer() -> AdamW {
    AdamW::new(cosine_decay(0.05, 100, 0.0).expect("a schedule"))
}

/// Batches of 50 rows, the row at `broken` NaN.
fn loader(broken: Option<usize>) -> Loader<Batch> {
    let x = random::normal([50, 3], DType::F32, Some(&random::key(1)));
    let y = x.square().sum(1).expand_dims(1);
    let rows = move |batch: &[usize]| -> Result<Batch> {
        let rows: Vec<i32> = batch.iter().map(|&i| i as i32).collect();
        let rows = Array::from_slice(&rows, [rows.len()]);
        let hit = broken.is_some_and(|b| batch.contains(&b));
        let nan = if hit { f32::NAN } else { 0.0 };
        Ok((x.take(&rows, 0) + nan, y.take(&rows, 0)))
    };
    Loader::new(vec![1; 50], Batching { size: 8, seed: 4, ..Default::default() }, rows)
        .expect("enough rows")
}

fn loss(m: &mut Sequential, (x, y): &Batch) -> lazul_core::Result<(Array, Array)> {
    Ok((mse_loss(&m.forward(x), y, Reduction::Mean), Array::scalar(x.dim(0)? as i32)))
}

struct Ran {
    session: Session<Sequential>,
    outcome: Result<Outcome>,
    losses: Vec<f64>,
    events: Vec<String>,
}

fn run(options: &FitOptions, seed: u64, broken: Option<usize>) -> Ran {
    let optimizer = optimizer();
    let mut session = Session::new(model(), &optimizer, seed).expect("a session");
    let (mut losses, mut events) = (Vec::new(), Vec::new());
    let mut observe = |event: &Event| match event {
        Event::Step { loss, .. } => losses.push(*loss),
        other => events.push(format!("{other:?}")),
    };
    let mut loader = loader(broken);
    let outcome = fit(&mut session, &optimizer, &mut loader, loss, None, options, &mut observe);
    Ran { session, outcome, losses, events }
}

fn bytes(session: &Session<Sequential>) -> Vec<Vec<u8>> {
    session.leaves().into_iter().map(|a| a.to_bytes().expect("values")).collect()
}

fn in_folder(folder: &Path, steps: u64) -> FitOptions {
    let folder = Some(folder.to_path_buf());
    FitOptions { steps, folder, resume: true, accumulate: 3, clip: Some(1.0), ..Default::default() }
}

#[test]
fn a_training_in_three_parts_is_the_training() {
    for seed in 0..3 {
        let whole = tempfile::tempdir().unwrap();
        let parts = tempfile::tempdir().unwrap();
        let at_once = run(&in_folder(whole.path(), 100), seed, None);
        let mut losses = Vec::new();
        let mut last = None;
        for steps in [33, 66, 100] {
            let part = run(&in_folder(parts.path(), steps), seed, None);
            assert_eq!(part.outcome.unwrap().step, steps);
            losses.extend(part.losses);
            last = Some(part.session);
        }
        assert_eq!(losses, at_once.losses);
        assert!(losses[99] < losses[0]);
        assert!(bytes(&last.unwrap()) == bytes(&at_once.session), "seed {seed}");
        // Making no step more changes nothing.
        let again = run(&in_folder(parts.path(), 100), seed, None);
        assert!(again.losses.is_empty() && bytes(&again.session) == bytes(&at_once.session));
        // A folder that holds a training is not taken for another one.
        let options = FitOptions { resume: false, ..in_folder(parts.path(), 120) };
        let error = run(&options, seed, None).outcome.unwrap_err();
        assert!(matches!(error, Error::Resume { .. }), "{error}");
        let options = FitOptions { config: json!({ "rate": 1 }), ..in_folder(parts.path(), 120) };
        let error = run(&options, seed, None).outcome.unwrap_err();
        assert!(error.to_string().contains("rate"), "{error}");
    }
}

#[test]
fn checkpoints_of_other_models_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    run(&in_folder(folder.path(), 5), 0, None).outcome.unwrap();
    let wider = Sequential::new().then(Linear::init(3, 9, true, None).unwrap());
    let sgd = crate::optim::Sgd::new(0.1);
    for (model, optimizer) in [
        (wider, &optimizer() as &dyn crate::optim::Optimizer),
        (model(), &sgd as &dyn crate::optim::Optimizer),
    ] {
        let mut session = Session::new(model, optimizer, 0).unwrap();
        let before = bytes(&session);
        let options = in_folder(folder.path(), 9);
        let ran =
            fit(&mut session, optimizer, &mut loader(None), loss, None, &options, &mut |_| ());
        assert!(matches!(ran.unwrap_err(), Error::Resume { .. }));
        assert!(bytes(&session) == before);
    }
}

#[test]
fn nan_stops_the_training_and_leaves_good_checkpoints() {
    let folder = tempfile::tempdir().unwrap();
    let options = FitOptions { save_every: 1, accumulate: 1, ..in_folder(folder.path(), 50) };
    let ran = run(&options, 0, Some(7));
    let Error::NotFinite { step, tensor } = ran.outcome.unwrap_err() else {
        panic!("another error")
    };
    assert_eq!(tensor, "the gradient of layers.0.bias");
    assert_eq!(ran.losses.len() as u64, step - 1);
    let (saved, rejected) = Checkpoints::open(folder.path(), 3).unwrap().latest().unwrap();
    let saved = saved.unwrap();
    assert_eq!((saved.step, rejected.len()), (step - 1, 0));
    for array in saved.arrays["weights"].values() {
        assert!(array.isfinite().all(..).item::<bool>().unwrap());
    }
}

#[test]
fn batches_with_nan_are_left_out() {
    for accumulate in [1, 3] {
        let folder = tempfile::tempdir().unwrap();
        let options =
            FitOptions { not_finite: NotFinite::Skip, accumulate, ..in_folder(folder.path(), 60) };
        let ran = run(&options, 0, Some(7));
        assert_eq!(ran.outcome.unwrap().step, 60);
        let skipped = ran.events.iter().filter(|e| e.starts_with("Skipped")).count();
        // Six batches an epoch, one of which has the row most times.
        assert!((6..=10).contains(&skipped), "{skipped}");
        for leaf in ran.session.leaves() {
            assert!(leaf.isfinite().all(..).item::<bool>().unwrap());
        }
        assert!(ran.losses.last().unwrap() < ran.losses.first().unwrap());
        let metrics = std::fs::read_to_string(folder.path().join("metrics.jsonl")).unwrap();
        assert!(metrics.contains("not_finite") && metrics.contains("learning_rate"));
    }
}

#[test]
fn evaluation_stops_what_gets_no_better() {
    let optimizer = optimizer();
    let mut session = Session::new(model(), &optimizer, 0).unwrap();
    let values = [3.0, 2.0, 2.5, 2.6, 1.0];
    let mut seen = Vec::new();
    let mut evaluate = |m: &mut Sequential| -> Result<f64> {
        // Inference mode: dropout is off.
        let x = Array::from_slice(&[1.0f32, 2.0, 3.0], [1, 3]);
        let twice = [(); 2].map(|()| m.forward(&x).item::<f32>());
        assert_eq!(twice[0].as_ref().unwrap(), twice[1].as_ref().unwrap());
        seen.push(());
        Ok(values[seen.len() - 1])
    };
    let options =
        FitOptions { steps: 100, evaluate_every: 5, patience: Some(2), ..Default::default() };
    let outcome = fit(
        &mut session,
        &optimizer,
        &mut loader(None),
        loss,
        Some(&mut evaluate),
        &options,
        &mut |_| (),
    )
    .unwrap();
    assert_eq!(outcome.ending, Ending::NoBetter);
    assert_eq!((outcome.step, outcome.best), (15, Some((2.0, 5))));
}

#[test]
fn a_training_that_is_cancelled_goes_on_later() {
    let folder = tempfile::tempdir().unwrap();
    let cancel = Arc::new(AtomicBool::new(true));
    let options = FitOptions { cancel: Some(cancel.clone()), ..in_folder(folder.path(), 20) };
    let ran = run(&options, 0, None);
    let outcome = ran.outcome.unwrap();
    assert_eq!((outcome.step, outcome.ending), (1, Ending::Cancelled));
    cancel.store(false, Relaxed);
    let ran = run(&options, 0, None);
    assert_eq!(ran.losses.len(), 19);
    assert!(ran.events[0].starts_with("Resumed"), "{:?}", ran.events);
}

#[test]
fn options_that_make_no_sense() {
    for options in [
        FitOptions { accumulate: 0, ..Default::default() },
        FitOptions { save_every: 0, ..Default::default() },
        FitOptions { clip: Some(f64::NAN), ..Default::default() },
    ] {
        assert!(matches!(run(&options, 0, None).outcome, Err(Error::Options(_))));
    }
}

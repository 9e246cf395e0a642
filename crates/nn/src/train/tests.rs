//! Trainings that end and go on, that meet NaN, that stop early.

use super::*;
use crate::layers::{Activation, BatchNorm, Dropout};
use crate::losses::{Reduction, mse_loss};
use crate::optim::{Adam, AdamW, Optimizer, Sgd, cosine_decay};
use crate::{Buffer, Layer, Linear, Module, Sequential};
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
    // The first is no number: it is not the best, and others can be better.
    let values = [f64::NAN, 2.0, 2.5, 2.6, 1.0];
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

/// A model with running statistics and a table that no step changes.
#[derive(Clone, crate::Module)]
struct Normed {
    linear: Linear,
    norm: BatchNorm,
    mask: Buffer,
}

fn normed() -> Normed {
    Normed {
        linear: Linear::init(3, 1, true, Some(&random::key(2))).expect("sizes are fine"),
        norm: BatchNorm::new(1),
        mask: Buffer(Array::from_slice(&[0.0f32, f32::NEG_INFINITY], [2])),
    }
}

fn normed_loss(m: &mut Normed, (x, y): &Batch) -> lazul_core::Result<(Array, Array)> {
    let y_hat = m.norm.forward_mut(&m.linear.forward(x));
    Ok((mse_loss(&y_hat, y, Reduction::Mean), Array::scalar(x.dim(0)? as i32)))
}

/// Batches by the number of a step, from 0; those of `broken` have NaN.
fn numbered(broken: &'static [usize]) -> Loader<Batch> {
    let make = move |batch: &[usize]| -> Result<Batch> {
        let n = batch[0];
        let x = random::normal([8, 3], DType::F32, Some(&random::key(n as u64)));
        let y = x.sum(1).expand_dims(1);
        Ok((if broken.contains(&n) { x + f32::NAN } else { x }, y))
    };
    let how = Batching { size: 1, shuffle: false, ..Default::default() };
    Loader::new(vec![1; 100], how, make).expect("enough rows")
}

/// Steps of the model above.
fn steps(
    session: &mut Session<Normed>,
    optimizer: &dyn Optimizer,
    broken: &'static [usize],
    options: &FitOptions,
) -> Result<Outcome> {
    fit(session, optimizer, &mut numbered(broken), normed_loss, None, options, &mut |_| ())
}

fn values(array: &Array) -> Vec<f32> {
    array.to_vec().expect("values")
}

/// A batch with NaN made running statistics NaN for ever.
#[test]
fn batches_that_are_left_out_leave_running_statistics() {
    let optimizer = Sgd::new(0.1);
    for (accumulate, finite) in [(1, &[1][..]), (2, &[0, 3])] {
        let options =
            FitOptions { steps: 4, accumulate, not_finite: NotFinite::Skip, ..Default::default() };
        let broken: &'static [usize] = if accumulate == 1 { &[0, 2, 3] } else { &[1, 2] };
        let mut session = Session::new(normed(), &optimizer, 0).unwrap();
        steps(&mut session, &optimizer, broken, &options).unwrap();
        // What the finite batches alone come to, one step for each.
        let mut alone = Session::new(normed(), &optimizer, 0).unwrap();
        for &n in finite {
            let mut loader = numbered(&[]);
            loader.seek(Position { epoch: 0, batch: n });
            let one = FitOptions { steps: 1, ..Default::default() };
            fit(&mut alone, &optimizer, &mut loader, normed_loss, None, &one, &mut |_| ()).unwrap();
        }
        for ((path, a), (_, b)) in
            session.model.parameters().into_iter().zip(alone.model.parameters())
        {
            for (a, b) in values(a).into_iter().zip(values(b)) {
                assert!(a == b || (a - b).abs() < 1e-6, "{accumulate}: {path}: {a} {b}");
            }
        }
    }
}

/// A batch that was left out counted as a gradient of zero, and moved moments.
#[test]
fn a_step_without_a_finite_batch_is_none() {
    let optimizer = Adam::new(0.1);
    let options =
        FitOptions { steps: 2, accumulate: 2, not_finite: NotFinite::Skip, ..Default::default() };
    let mut session = Session::new(normed(), &optimizer, 0).unwrap();
    let before = session.leaves().into_iter().map(|a| a.to_bytes().unwrap()).collect::<Vec<_>>();
    let key = session.generator.key.to_bytes().unwrap();
    steps(&mut session, &optimizer, &[0, 1], &options).unwrap();
    let after = session.leaves().into_iter().map(|a| a.to_bytes().unwrap());
    let moved: Vec<_> = after.zip(before).filter(|(a, b)| a != b).map(|(_, b)| b).collect();
    assert!(moved.iter().all(|b| *b == key), "{} leaves", moved.len());
    assert!(session.accumulated.is_empty());
}

/// A checkpoint of what is trained had no running statistics.
#[test]
fn running_statistics_are_in_checkpoints_of_what_is_trained() {
    for not_finite in [NotFinite::Stop, NotFinite::Skip] {
        let optimizer = Adam::new(0.05);
        let [whole, parts] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let run = |folder: &Path, steps_: u64| {
            let options =
                FitOptions { trained_only: true, not_finite, ..in_folder(folder, steps_) };
            let broken: &[usize] = if not_finite == NotFinite::Skip { &[4, 9] } else { &[] };
            let mut session = Session::new(normed(), &optimizer, 0).unwrap();
            steps(&mut session, &optimizer, broken, &options).unwrap();
            session.leaves().into_iter().map(|a| a.to_bytes().unwrap()).collect::<Vec<_>>()
        };
        let at_once = run(whole.path(), 12);
        // Within batches that wait for others, one of which was left out.
        run(parts.path(), 5);
        assert!(run(parts.path(), 12) == at_once);
        let (saved, _) = Checkpoints::open(parts.path(), 3).unwrap().latest().unwrap();
        let saved = saved.unwrap();
        let state = &saved.arrays["state"];
        let buffers: Vec<_> = state.keys().filter(|name| name.starts_with("buffers/")).collect();
        assert_eq!(buffers, ["buffers/norm.running_mean", "buffers/norm.running_var"]);
        assert!(!saved.arrays["weights"].contains_key("mask"));
    }
}

/// Only trained parameters were looked at.
#[test]
fn no_array_of_a_checkpoint_is_nan() {
    let nan = || Array::from_slice(&[f32::NAN], [1]);
    let optimizer = Adam::new(0.05);
    for (trained_only, wanted) in [
        (false, "norm.running_mean"),
        (true, "buffers/norm.running_mean"),
        (false, "slots/linear.bias/v"),
        (false, "mask"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let options = FitOptions { trained_only, accumulate: 1, ..in_folder(folder.path(), 2) };
        let mut session = Session::new(normed(), &optimizer, 0).unwrap();
        match wanted {
            "mask" => session.model.mask = Buffer(nan()),
            "slots/linear.bias/v" => {
                // A step that nothing of shows.
                let slots = session.optimizer.slots.get_mut("linear.bias").unwrap();
                slots.insert("v".to_string(), Array::from_slice(&[f32::INFINITY], [1]));
            }
            _ => session.model.norm.running_mean = Some(Buffer(nan())),
        }
        let error = steps(&mut session, &optimizer, &[], &options).unwrap_err();
        let Error::NotFinite { tensor, .. } = error else { panic!("{error}") };
        assert_eq!(tensor, wanted);
        assert!(Checkpoints::open(folder.path(), 3).unwrap().steps().unwrap().is_empty());
    }
}

/// Where all checkpoints are damaged, a training that was to go on began anew and wrote over the weights.
#[test]
fn a_training_does_not_begin_anew_where_it_was_to_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let options = FitOptions { save_every: 1, ..in_folder(folder.path(), 2) };
    run(&options, 0, None).outcome.unwrap();
    for step in [1, 2] {
        let weights = folder.path().join(format!("step-000000{step}/weights.safetensors"));
        std::fs::write(weights, "no").unwrap();
    }
    for _ in 0..2 {
        let ran = run(&FitOptions { steps: 4, ..options.clone() }, 0, None);
        let error = ran.outcome.unwrap_err();
        assert!(matches!(error, Error::Resume { .. }), "{error}");
        assert!(ran.losses.is_empty());
        assert!(error.to_string().contains("weights.safetensors is not"), "{error}");
    }
}

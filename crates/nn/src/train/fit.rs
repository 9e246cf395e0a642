//! The loop: steps, reports, evaluation, checkpoints, and when to stop.

use super::checkpoint::{Checkpoints, Rejected};
use super::data::{Loader, Position};
use super::error::{Error, Result};
use super::metrics::Metrics;
use super::session::Session;
use crate::grads::value_and_grad;
use crate::module::{Module, Parameters};
use crate::optim::{Optimizer, clip_grad_norm, select};
use lazul_core::{Array, DType, Tree, compile_with_state, eval, memory, stack, where_};
use serde_json::{Value, json};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Instant;

/// What to do where a loss or a gradient is NaN or infinite.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NotFinite {
    /// End with an error that names the first such tensor; nothing of the step is saved.
    #[default]
    Stop,
    /// Leave the batch out: parameters, buffers and moments stay, and of batches that are one step together
    /// the others make the mean.
    Skip,
}

/// Options of [`fit`].
#[derive(Clone, Debug)]
pub struct FitOptions {
    /// Batches to train on; 1000.
    pub steps: u64,
    /// Batches whose gradients are one step of the optimizer; 1.
    pub accumulate: usize,
    /// Most norm of all gradients together; none.
    pub clip: Option<f64>,
    /// What to do about NaN.
    pub not_finite: NotFinite,
    /// Steps between reports; 10.
    pub report_every: u64,
    /// Steps between evaluations, which the first and the last step have too; 200.
    pub evaluate_every: u64,
    /// Evaluations without a better loss after which to stop; none.
    pub patience: Option<u32>,
    /// Where figures and checkpoints go; nowhere.
    pub folder: Option<PathBuf>,
    /// Steps between checkpoints, which the last step has too; 100.
    pub save_every: u64,
    /// How many checkpoints stay; 3.
    pub keep: usize,
    /// Whether checkpoints have what a training changes alone (trained parameters, buffers that steps change),
    /// and not the rest of the model; false.
    pub trained_only: bool,
    /// Whether to go on from the last whole checkpoint in the folder, if it has any; false.
    pub resume: bool,
    /// What the training depends on beside the code (data, sizes, rates): a training goes on only from a
    /// checkpoint with the same.
    pub config: Value,
    /// The title of the page of curves; "Training".
    pub title: String,
    /// Ends the training after the step in which it becomes true, with a checkpoint; none.
    pub cancel: Option<Arc<AtomicBool>>,
    /// Bytes of unused memory that may be kept between steps; no bound.
    pub cache_limit: Option<usize>,
}

impl Default for FitOptions {
    fn default() -> FitOptions {
        FitOptions {
            steps: 1000,
            accumulate: 1,
            clip: None,
            not_finite: NotFinite::Stop,
            report_every: 10,
            evaluate_every: 200,
            patience: None,
            folder: None,
            save_every: 100,
            keep: 3,
            trained_only: false,
            resume: false,
            config: Value::Null,
            title: "Training".to_string(),
            cancel: None,
            cache_limit: None,
        }
    }
}

/// The figures of the steps since the last report.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Report {
    /// Steps made.
    pub step: u64,
    /// Mean loss of the steps.
    pub loss: f64,
    /// The learning rate, of optimizers that have one.
    pub learning_rate: Option<f64>,
    /// Steps in a second.
    pub iterations_per_second: f64,
    /// Tokens (whatever the loss counts) in a second.
    pub tokens_per_second: f64,
    /// Tokens since the beginning.
    pub trained_tokens: u64,
    /// Most bytes in use so far.
    pub peak_memory: usize,
}

/// Something that happened in a training.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event {
    /// The training goes on from a checkpoint.
    Resumed {
        /// Steps made before.
        step: u64,
    },
    /// A damaged checkpoint was put aside.
    Rejected(Rejected),
    /// A step was made.
    Step {
        /// Its number, from 1.
        step: u64,
        /// Its loss.
        loss: f64,
    },
    /// It is time for a report.
    Report(Report),
    /// A batch was left out.
    Skipped {
        /// The step.
        step: u64,
        /// What is not finite.
        tensor: String,
    },
    /// The model was evaluated.
    Evaluated {
        /// Steps made; 0 before the first.
        step: u64,
        /// What the evaluation gave.
        loss: f64,
        /// How long it took.
        seconds: f64,
    },
    /// A checkpoint was written.
    Saved {
        /// Steps made.
        step: u64,
        /// Where.
        folder: PathBuf,
    },
    /// The training ended before its last step.
    Stopped {
        /// Steps made.
        step: u64,
        /// Why.
        why: &'static str,
    },
}

/// How a training ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// All steps were made.
    Done,
    /// The evaluation got no better.
    NoBetter,
    /// It was asked to end.
    Cancelled,
}

/// What a training came to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outcome {
    /// Steps made, those before a checkpoint among them.
    pub step: u64,
    /// The last step's loss; NaN if no step was made.
    pub loss: f64,
    /// The best evaluation, and after how many steps it was.
    pub best: Option<(f64, u64)>,
    /// How it ended.
    pub ending: Ending,
}

/// How a model is evaluated: the loss of some data. The model is in inference mode then.
pub type Evaluate<'f, M> = &'f mut dyn FnMut(&mut M) -> Result<f64>;

/// What goes on from step to step beside the session.
#[derive(Clone, Copy, Debug, Default)]
struct Course {
    step: u64,
    tokens: u64,
    best: Option<(f64, u64)>,
    worse: u32,
}

/// Trains: `loss` of model and batch gives the mean loss and how many tokens (or examples) it is the mean of;
/// steps are compiled, once for each structure and shapes of a batch. Batches come from `loader`; `evaluate`
/// is called before the first step, every [`FitOptions::evaluate_every`] steps and at the end; `observe` is
/// shown every [`Event`]. See the [module](super) for an example.
///
/// # Errors
/// Those of loss, loader and evaluation; if options make no sense; if a file cannot be written; if the
/// folder holds a training that this one does not go on with; where numbers are not finite.
pub fn fit<M: Module + Tree, B: Tree + Send + 'static>(
    session: &mut Session<M>,
    optimizer: &dyn Optimizer,
    loader: &mut Loader<B>,
    loss: impl Fn(&mut M, &B) -> lazul_core::Result<(Array, Array)>,
    mut evaluate: Option<Evaluate<'_, M>>,
    options: &FitOptions,
    observe: &mut dyn FnMut(&Event),
) -> Result<Outcome> {
    check(options)?;
    let mut course = Course::default();
    let mut record = Record::open(session, loader, options, &mut course, observe)?;
    let names: Vec<String> = session.model.trainable_parameters().into_keys().collect();
    // Tracing a step tells which buffers it changes.
    let moving = RefCell::new(BTreeSet::new());
    let one = |session: &mut Session<M>, (batch, update): &(B, bool)| {
        step(session, optimizer, &loss, batch, *update, options, &moving)
    };
    let compiled = compile_with_state(one);
    session.model.train(true);
    let mut run = Run { began: Instant::now(), losses: Vec::new(), tokens: 0 };
    let mut last = f64::NAN;
    let mut ending = Ending::Done;
    while course.step < options.steps {
        if course.step == 0 && evaluate.is_some() {
            assess(session, &mut evaluate, &mut course, &mut record, observe)?;
            run.began = Instant::now();
        }
        let number = course.step + 1;
        let update = number.is_multiple_of(options.accumulate as u64);
        let batch = loader.next()?;
        let (value, count, finite) = compiled(session, &(batch, update))?;
        eval(session.leaves().into_iter().chain([&value, &count, &finite]))?;
        last = value.astype(DType::F64).item::<f64>()?;
        if let Some(tensor) = first_not_finite(&finite, &names)? {
            match options.not_finite {
                NotFinite::Stop => return Err(Error::NotFinite { step: number, tensor }),
                NotFinite::Skip => record.tell(Event::Skipped { step: number, tensor }, observe)?,
            }
        } else {
            run.losses.push(last);
            let tokens = count.astype(DType::F64).item::<f64>()? as u64;
            run.tokens += tokens;
            course.tokens += tokens;
        }
        course.step = number;
        observe(&Event::Step { step: number, loss: last });
        if let Some(limit) = options.cache_limit
            && memory::stats().cache > limit
        {
            memory::clear_cache();
        }
        let end = number == options.steps;
        if number.is_multiple_of(options.report_every) || end {
            let rate = session.optimizer.rates.first().map(|r| r.item::<f32>()).transpose()?;
            let report = run.report(number, rate.map(f64::from), course.tokens);
            record.tell(Event::Report(report), observe)?;
        }
        if evaluate.is_some() && (number.is_multiple_of(options.evaluate_every) || end) {
            let began = Instant::now();
            assess(session, &mut evaluate, &mut course, &mut record, observe)?;
            run.began += began.elapsed();
            if options.patience.is_some_and(|p| course.worse >= p) && !end {
                ending = Ending::NoBetter;
            }
        }
        if options.cancel.as_ref().is_some_and(|c| c.load(Relaxed)) && !end {
            ending = Ending::Cancelled;
        }
        let stop = end || ending != Ending::Done;
        if number.is_multiple_of(options.save_every) || stop {
            record.save(session, &moving.borrow(), loader.position(), &course, observe)?;
        }
        if stop {
            break;
        }
    }
    let why = match ending {
        Ending::Done => None,
        Ending::NoBetter => Some("the evaluation gets no better"),
        Ending::Cancelled => Some("as asked"),
    };
    if let Some(why) = why {
        record.tell(Event::Stopped { step: course.step, why }, observe)?;
    }
    Ok(Outcome { step: course.step, loss: last, best: course.best, ending })
}

fn check(options: &FitOptions) -> Result<()> {
    let counts = [
        ("accumulate", options.accumulate as u64),
        ("report_every", options.report_every),
        ("evaluate_every", options.evaluate_every),
        ("save_every", options.save_every),
    ];
    for (name, count) in counts {
        if count == 0 {
            return Err(Error::Options(format!("{name} must be 1 or more")));
        }
    }
    match options.clip {
        Some(clip) if clip.is_nan() || clip <= 0.0 => {
            Err(Error::Options(format!("clip must be above zero, is {clip}")))
        }
        _ => Ok(()),
    }
}

/// One step: loss, count, and whether each gradient and the loss are finite; paths of buffers that it changes
/// are added to `moving`.
fn step<M: Module + Tree, B: Tree>(
    session: &mut Session<M>,
    optimizer: &dyn Optimizer,
    loss: &impl Fn(&mut M, &B) -> lazul_core::Result<(Array, Array)>,
    batch: &B,
    update: bool,
    options: &FitOptions,
    moving: &RefCell<BTreeSet<String>>,
) -> lazul_core::Result<(Array, Array, Array)> {
    let Session { model, optimizer: state, generator, accumulated } = session;
    let buffers = model.buffers();
    let run = value_and_grad(|m: &mut M| loss(m, batch));
    let ((value, count), grads) = generator.scope(|| run(model))?;
    let mut grads = grads.into_parameters();
    let each = grads.values().chain([&value]).map(|g| g.isfinite().all(..));
    let finite = stack(&each.collect::<Vec<_>>(), 0);
    let fine = finite.all(..);
    let skip = options.not_finite == NotFinite::Skip;
    let mut changed = model.buffers();
    changed.retain(|path, b| buffers.get(path).is_none_or(|old| !old.ptr_eq(b)));
    moving.borrow_mut().extend(changed.keys().cloned());
    if skip {
        for (path, new) in &mut changed {
            if let Some(old) = buffers.get(path) {
                *new = where_(&fine, &*new, old);
            }
        }
        model.update(&changed)?;
    }
    // Whether there is a step to make.
    let mut any = fine.clone();
    if options.accumulate > 1 {
        accumulated.add_where(&fine, &grads)?;
        if !update {
            return Ok((value, count, finite));
        }
        (grads, any) = accumulated.take_counted();
    } else if skip {
        grads = grads.map_leaves(|g| where_(&fine, g, 0));
    }
    if let Some(most) = options.clip {
        grads = clip_grad_norm(&grads, most).0;
    }
    let before = (model.trainable_parameters(), state.clone());
    optimizer.update(state, model, &grads)?;
    if skip {
        let after = (model.trainable_parameters(), state.clone());
        let (weights, kept) = select(&any, &after, &before)?;
        model.update(&weights)?;
        *state = kept;
    }
    Ok((value, count, finite))
}

/// The name of the first tensor that is not finite.
fn first_not_finite(finite: &Array, names: &[String]) -> Result<Option<String>> {
    let finite = finite.to_vec::<bool>()?;
    // A gradient says more than the loss that it comes with.
    let first = finite.iter().position(|&f| !f);
    Ok(first.map(|i| match names.get(i) {
        Some(name) => format!("the gradient of {name}"),
        None => "the loss".to_string(),
    }))
}

/// The name of the first array that is to be saved and is not finite. In what steps do not change infinity
/// may have a meaning (a mask); NaN has none.
fn not_finite<M: Module + Tree>(
    session: &Session<M>,
    weights: &Parameters,
    rest: &Parameters,
    moving: &BTreeSet<String>,
) -> Result<Option<String>> {
    let trained = session.model.trainable_parameters();
    let constant = |name: &String| !trained.contains_key(name) && !moving.contains(name);
    let mut checks = Vec::new();
    for (name, array) in weights {
        if array.dtype()?.is_float() {
            let bad = if constant(name) { array.isnan() } else { array.isfinite().logical_not() };
            checks.push((name, bad.any(..)));
        }
    }
    for (name, array) in rest {
        if array.dtype()?.is_float() {
            checks.push((name, array.isfinite().logical_not().any(..)));
        }
    }
    eval(checks.iter().map(|(_, bad)| bad))?;
    for (name, bad) in checks {
        if bad.item::<bool>()? {
            return Ok(Some(name.clone()));
        }
    }
    Ok(None)
}

fn assess<M: Module + Tree>(
    session: &mut Session<M>,
    evaluate: &mut Option<Evaluate<'_, M>>,
    course: &mut Course,
    record: &mut Record<'_>,
    observe: &mut dyn FnMut(&Event),
) -> Result<()> {
    let Some(evaluate) = evaluate else { return Ok(()) };
    let began = Instant::now();
    session.model.train(false);
    let value = evaluate(&mut session.model);
    session.model.train(true);
    let value = value?;
    // Nothing would ever be better than NaN.
    if value.is_finite() && course.best.is_none_or(|(best, _)| value < best) {
        (course.best, course.worse) = (Some((value, course.step)), 0);
    } else {
        course.worse += 1;
    }
    let seconds = began.elapsed().as_secs_f64();
    record.tell(Event::Evaluated { step: course.step, loss: value, seconds }, observe)
}

/// Steps since the last report.
struct Run {
    began: Instant,
    losses: Vec<f64>,
    tokens: u64,
}

impl Run {
    fn report(&mut self, step: u64, learning_rate: Option<f64>, trained_tokens: u64) -> Report {
        let seconds = self.began.elapsed().as_secs_f64().max(1e-9);
        let n = self.losses.len() as f64;
        let report = Report {
            step,
            loss: self.losses.iter().sum::<f64>() / n,
            learning_rate,
            iterations_per_second: n / seconds,
            tokens_per_second: self.tokens as f64 / seconds,
            trained_tokens,
            peak_memory: memory::stats().peak,
        };
        *self = Run { began: Instant::now(), losses: Vec::new(), tokens: 0 };
        report
    }
}

/// What is written down of a training.
struct Record<'o> {
    options: &'o FitOptions,
    files: Option<(Checkpoints, Metrics)>,
}

impl<'o> Record<'o> {
    /// Opens the folder, if there is one, and goes on from its last checkpoint, if that is asked for.
    fn open<M: Module + Tree, B: Send + 'static>(
        session: &mut Session<M>,
        loader: &mut Loader<B>,
        options: &'o FitOptions,
        course: &mut Course,
        observe: &mut dyn FnMut(&Event),
    ) -> Result<Record<'o>> {
        let Some(folder) = &options.folder else { return Ok(Record { options, files: None }) };
        let refuse = |why: String| Error::Resume { folder: folder.clone(), why };
        let checkpoints = Checkpoints::open(folder, options.keep)?;
        if !options.resume && !checkpoints.steps()?.is_empty() {
            let why = "holds a training already; go on with it (resume), or take another folder";
            return Err(refuse(why.to_string()));
        }
        let (saved, rejected) = checkpoints.latest()?;
        if saved.is_none()
            && let Some(newest) = rejected.first()
        {
            let why = format!(
                "no checkpoint is whole ({}: {}); move them away to begin anew",
                newest.folder.display(),
                newest.why
            );
            return Err(refuse(why));
        }
        let mut news: Vec<Event> = rejected.into_iter().map(Event::Rejected).collect();
        if let Some(saved) = saved {
            let notes = &saved.notes;
            if notes["config"] != options.config {
                let why = format!(
                    "the training here was of {}, and this one is of {}",
                    notes["config"], options.config
                );
                return Err(refuse(why));
            }
            let group = |name: &str| {
                let none = || refuse(format!("the checkpoint has no {name}"));
                saved.arrays.get(name).ok_or_else(none)
            };
            session
                .restore(group("weights")?, group("state")?)
                .map_err(|e| refuse(e.to_string()))?;
            let number = |value: &Value| value.as_u64().unwrap_or(0);
            let place = &notes["position"];
            let (epoch, batch) = (number(&place["epoch"]), number(&place["batch"]));
            loader.seek(Position { epoch, batch });
            let best = notes["best"].as_f64().map(|best| (best, number(&notes["best_step"])));
            *course = Course {
                step: saved.step,
                tokens: number(&notes["trained_tokens"]),
                best,
                worse: number(&notes["worse"]) as u32,
            };
            news.push(Event::Resumed { step: saved.step });
        }
        let metrics = Metrics::open(folder, &options.title, course.step)?;
        news.iter().for_each(observe);
        Ok(Record { options, files: Some((checkpoints, metrics)) })
    }

    fn tell(&mut self, event: Event, observe: &mut dyn FnMut(&Event)) -> Result<()> {
        observe(&event);
        match &mut self.files {
            Some((_, metrics)) => metrics.event(&event),
            None => Ok(()),
        }
    }

    /// Writes a checkpoint, unless a number in it is not finite. `moving` are paths of buffers that steps change.
    fn save<M: Module + Tree>(
        &mut self,
        session: &Session<M>,
        moving: &BTreeSet<String>,
        position: Position,
        course: &Course,
        observe: &mut dyn FnMut(&Event),
    ) -> Result<()> {
        let Some((checkpoints, _)) = &self.files else { return Ok(()) };
        let weights = session.weights(self.options.trained_only);
        let mut rest = session.rest();
        if self.options.trained_only {
            rest.extend(session.buffers(moving));
        }
        if let Some(tensor) = not_finite(session, &weights, &rest, moving)? {
            return Err(Error::NotFinite { step: course.step, tensor });
        }
        let notes = json!({
            "config": self.options.config,
            "position": { "epoch": position.epoch, "batch": position.batch },
            "trained_tokens": course.tokens,
            "best": course.best.map(|(best, _)| best),
            "best_step": course.best.map(|(_, step)| step),
            "worse": course.worse,
        });
        let groups = [("weights", &weights), ("state", &rest)];
        let folder = checkpoints.save(course.step, &groups, &notes)?;
        self.tell(Event::Saved { step: course.step, folder }, observe)
    }
}

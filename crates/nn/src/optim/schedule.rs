//! Learning rates, and schedules that compute them from the number of steps made.
//!
//! A schedule is evaluated within the graph, so a compiled step follows it.

use lazul_core::{Array, DType, Error, ErrorKind, Result, where_};
use std::f64::consts::PI;
use std::fmt;
use std::sync::Arc;

/// A function from the number of steps made (i64) to a rate.
#[derive(Clone)]
pub struct Schedule(Arc<dyn Fn(&Array) -> Array + Send + Sync>);

impl fmt::Debug for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Schedule")
    }
}

impl Schedule {
    /// A schedule of one's own, from the number of steps made, an i64 scalar, to a scalar.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// use lazul_nn::optim::Schedule;
    /// let half = Schedule::new(|step| 1.0 / (step + 1).astype(DType::F32));
    /// assert_eq!(half.at(&Array::scalar(3i64)).item::<f32>()?, 0.25);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    pub fn new(f: impl Fn(&Array) -> Array + Send + Sync + 'static) -> Schedule {
        Schedule(Arc::new(f))
    }

    /// The rate after `step` steps, f32.
    pub fn at(&self, step: &Array) -> Array {
        (self.0)(step).astype(DType::F32)
    }
}

/// A learning rate: a number, or a [`Schedule`].
#[derive(Clone, Debug)]
pub enum Rate {
    /// The same until the state is changed.
    Constant(f64),
    /// Computed anew in each step.
    Schedule(Schedule),
}

impl Rate {
    /// The rate after `step` steps, f32.
    pub fn at(&self, step: &Array) -> Array {
        match self {
            Rate::Constant(rate) => Array::scalar(*rate as f32),
            Rate::Schedule(schedule) => schedule.at(step),
        }
    }

    pub(super) fn is_schedule(&self) -> bool {
        matches!(self, Rate::Schedule(_))
    }
}

impl From<f64> for Rate {
    fn from(rate: f64) -> Rate {
        Rate::Constant(rate)
    }
}

impl From<Schedule> for Rate {
    fn from(schedule: Schedule) -> Rate {
        Rate::Schedule(schedule)
    }
}

/// `base` to the power of `exponent`, in f32.
fn power(base: f64, exponent: &Array) -> Array {
    Array::scalar(base as f32).power(exponent.astype(DType::F32))
}

/// `init * decay_rate^step`.
///
/// ```
/// use lazul_core::prelude::*;
/// use lazul_nn::optim::exponential_decay;
/// assert_eq!(exponential_decay(8.0, 0.5).at(&Array::scalar(3i64)).item::<f32>()?, 1.0);
/// # Ok::<(), lazul_core::Error>(())
/// ```
pub fn exponential_decay(init: f64, decay_rate: f64) -> Schedule {
    Schedule::new(move |step| power(decay_rate, step) * init)
}

/// `init * decay_rate^floor(step / step_size)`.
///
/// ```
/// use lazul_core::prelude::*;
/// use lazul_nn::optim::step_decay;
/// assert_eq!(step_decay(8.0, 0.5, 10)?.at(&Array::scalar(29i64)).item::<f32>()?, 2.0);
/// # Ok::<(), lazul_core::Error>(())
/// ```
///
/// # Errors
/// If `step_size` is 0.
pub fn step_decay(init: f64, decay_rate: f64, step_size: u32) -> Result<Schedule> {
    some_steps("step_decay", step_size)?;
    Ok(Schedule::new(move |step| power(decay_rate, &step.floor_divide(step_size as i64)) * init))
}

/// Half a cosine from `init` to `end` in `decay_steps` steps, then `end` (MLX: 0).
///
/// ```
/// use lazul_core::prelude::*;
/// use lazul_nn::optim::cosine_decay;
/// let schedule = cosine_decay(1.0, 10, 0.5)?;
/// assert_eq!(schedule.at(&Array::scalar(5i64)).item::<f32>()?, 0.75);
/// assert_eq!(schedule.at(&Array::scalar(99i64)).item::<f32>()?, 0.5);
/// # Ok::<(), lazul_core::Error>(())
/// ```
///
/// # Errors
/// If there are no steps.
pub fn cosine_decay(init: f64, decay_steps: u32, end: f64) -> Result<Schedule> {
    some_steps("cosine_decay", decay_steps)?;
    Ok(Schedule::new(move |step| {
        let s = step.minimum(decay_steps as i64).astype(DType::F32);
        ((s * (PI / decay_steps as f64)).cos() + 1.0) * (0.5 * (init - end)) + end
    }))
}

/// A straight line from `init` to `end` in `steps` steps, then `end`.
///
/// ```
/// use lazul_core::prelude::*;
/// use lazul_nn::optim::linear_schedule;
/// assert_eq!(linear_schedule(0.0, 2.0, 4)?.at(&Array::scalar(1i64)).item::<f32>()?, 0.5);
/// # Ok::<(), lazul_core::Error>(())
/// ```
///
/// # Errors
/// If there are no steps.
pub fn linear_schedule(init: f64, end: f64, steps: u32) -> Result<Schedule> {
    some_steps("linear_schedule", steps)?;
    Ok(Schedule::new(move |step| {
        let s = step.minimum(steps as i64).astype(DType::F32);
        s * ((end - init) / steps as f64) + init
    }))
}

/// Schedules one after another: each of `boundaries` is the number of steps at which the next begins, with
/// its own count from 0.
///
/// ```
/// use lazul_core::prelude::*;
/// use lazul_nn::optim::{cosine_decay, join_schedules, linear_schedule};
/// let warmup = linear_schedule(0.0, 1.0, 10)?;
/// let schedule = join_schedules(vec![warmup, cosine_decay(1.0, 100, 0.0)?], vec![10])?;
/// assert_eq!(schedule.at(&Array::scalar(5i64)).item::<f32>()?, 0.5);
/// assert_eq!(schedule.at(&Array::scalar(10i64)).item::<f32>()?, 1.0);
/// # Ok::<(), lazul_core::Error>(())
/// ```
///
/// # Errors
/// If there are no schedules, or boundaries are not one fewer than they.
pub fn join_schedules(schedules: Vec<Schedule>, boundaries: Vec<u32>) -> Result<Schedule> {
    if schedules.len() != boundaries.len() + 1 {
        let why = format!("{} boundaries between {} schedules", boundaries.len(), schedules.len());
        return Err(Error::new(ErrorKind::Value, "join_schedules", why));
    }
    Ok(Schedule::new(move |step| {
        let later = boundaries.iter().zip(&schedules[1..]);
        later.fold(schedules[0].at(step), |before, (&boundary, schedule)| {
            let boundary = boundary as i64;
            where_(step.less(boundary), before, schedule.at(&(step - boundary)))
        })
    }))
}

fn some_steps(op: &'static str, steps: u32) -> Result<()> {
    if steps == 0 { super::refuse(op, "needs at least one step") } else { Ok(()) }
}

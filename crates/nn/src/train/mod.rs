//! Training: batches, the loop, what is shown and written down, checkpoints that a training goes on from.
//!
//! [`Loader`] makes batches ahead of time in an order that a seed gives. [`fit`] runs compiled steps on a
//! [`Session`], which is all that changes: model, optimizer's state, random generator, gradients of
//! batches that wait for others. With a folder it writes `metrics.jsonl`, a page with the curves
//! (`loss.html`), events for TensorBoard and [`Checkpoints`], from which a training goes on bit for bit as if it had not ended.
//!
//! ```
//! use lazul_core::prelude::*;
//! use lazul_nn::losses::{Reduction, mse_loss};
//! use lazul_nn::optim::Adam;
//! use lazul_nn::train::{Batching, FitOptions, Loader, Session, fit};
//! use lazul_nn::{Linear, Module};
//!
//! let x = random::normal([256, 3], DType::F32, Some(&random::key(0)));
//! let y = x.matmul(&Array::from_slice(&[1.0f32, -2.0, 3.0], [3, 1]));
//! let rows = move |batch: &[usize]| {
//!     let rows: Vec<i32> = batch.iter().map(|&i| i as i32).collect();
//!     let rows = Array::from_slice(&rows, [rows.len()]);
//!     Ok((x.take(&rows, 0), y.take(&rows, 0)))
//! };
//! let mut loader = Loader::new(vec![1; 256], Batching::default(), rows)?;
//! let optimizer = Adam::new(0.1);
//! let model = Linear::init(3, 1, true, Some(&random::key(1)))?;
//! let mut session = Session::new(model, &optimizer, 7)?;
//! let loss = |m: &mut Linear, (x, y): &(Array, Array)| -> lazul_core::Result<(Array, Array)> {
//!     // The mean loss, and how many examples it is the mean of.
//!     Ok((mse_loss(&m.forward(x), y, Reduction::Mean), Array::scalar(x.dim(0)? as i32)))
//! };
//! let options = FitOptions { steps: 150, ..Default::default() };
//! let outcome = fit(&mut session, &optimizer, &mut loader, loss, None, &options, &mut |_| ())?;
//! assert!(outcome.loss < 1e-2);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod checkpoint;
mod data;
mod error;
mod fit;
#[cfg(feature = "images")]
mod images;
mod metrics;
mod progress;
mod session;
mod tensorboard;
#[cfg(test)]
mod tests;

pub use checkpoint::{Checkpoints, Rejected, Saved};
pub use data::{Batching, Loader, Position, batches, read_jsonl, read_texts};
pub use error::{Error, Result};
pub use fit::{Ending, Evaluate, Event, FitOptions, NotFinite, Outcome, Report, fit};
#[cfg(feature = "images")]
pub use images::ImageFolder;
pub use progress::Progress;
pub use session::Session;

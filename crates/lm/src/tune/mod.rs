//! Fine-tuning: low-rank adapters (LoRA, DoRA) beside dense or quantized matrices, or whole layers.
//!
//! Options, data sets and files are mlx-lm's: what it writes is read here, and the other way round.
//! [`TuneConfig`] has the options; [`load`] reads examples; [`prepare`] puts adapters beside the matrices;
//! [`train()`] trains; [`load_adapters`] reads adapters and [`fuse`] merges them.

mod adapters;
mod config;
mod data;
mod order;
mod run;

pub use adapters::{Tuned, attach, fuse, has_blocks, load_adapters, sizes, trainable};
pub use config::{Features, LoraParameters, TuneConfig, TuneType};
pub use data::{Batch, Example, batch, batches, load};
pub use run::{TrainOptions, evaluate, loss, prepare, train};

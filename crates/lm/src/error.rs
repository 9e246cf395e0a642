//! What can go wrong with a language model.

use crate::text::TextError;
use std::path::PathBuf;

/// A result with a language model's error.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of loading or running a language model.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A computation went wrong.
    #[error(transparent)]
    Array(#[from] lazul_core::Error),
    /// A file could not be read.
    #[error(transparent)]
    File(#[from] lazul_io::Error),
    /// A tokenizer or chat template could not be used.
    #[error(transparent)]
    Text(#[from] TextError),
    /// A training could not go on.
    #[error(transparent)]
    Train(#[from] lazul_nn::train::Error),
    /// The model's configuration is not one that makes sense.
    #[error("config.json: {0}")]
    Config(String),
    /// The generation was asked to stop before it gave a token.
    #[error("cancelled")]
    Cancelled,
    /// A file of adapters or trained weights lacks some of them.
    #[error("{}: has no {}", file.display(), tensors.join(", "))]
    Incomplete {
        /// The file, or its folder.
        file: PathBuf,
        /// What it lacks, sorted.
        tensors: Vec<String>,
    },
    /// An argument is not allowed.
    #[error("{0}")]
    Argument(String),
}

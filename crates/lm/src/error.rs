//! What can go wrong with a language model.

use crate::text::TextError;

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
    /// The model's configuration is not one that makes sense.
    #[error("config.json: {0}")]
    Config(String),
    /// The generation was asked to stop before it gave a token.
    #[error("cancelled")]
    Cancelled,
    /// An argument is not allowed.
    #[error("{0}")]
    Argument(String),
}

//! What can end a training.

use std::path::PathBuf;

/// A result of training.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of a training.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A computation went wrong.
    #[error(transparent)]
    Array(#[from] lazul_core::Error),
    /// A file could not be read or written.
    #[error(transparent)]
    File(#[from] lazul_io::Error),
    /// Data cannot be used.
    #[error("{0}")]
    Data(String),
    /// An option makes no sense, or does not fit the others.
    #[error("{0}")]
    Options(String),
    /// A number is NaN or infinite, and nothing was saved since.
    #[error("step {step}: {tensor} is not finite")]
    NotFinite {
        /// The step.
        step: u64,
        /// What was looked at: `the loss`, `the gradient of PATH`, or the name of an array that was to be saved
        /// (`PATH` of the model, `slots/PATH/NAME` of the optimizer).
        tensor: String,
    },
    /// The folder of a training cannot be gone on with.
    #[error("{}: {why}", folder.display())]
    Resume {
        /// The folder.
        folder: PathBuf,
        /// What is in the way.
        why: String,
    },
}

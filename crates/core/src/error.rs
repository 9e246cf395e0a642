//! The error type of array operations, and how arrays remember one.

pub use lazul_ir::{ErrorKind, OpError as Error};

/// A result whose error is, unless said otherwise, an [`Error`] of an array operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;

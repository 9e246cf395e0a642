//! Lazul's files: safetensors, GGUF, npy and npz, exported functions, model folders, the hub cache.
//!
//! Arrays that come from files are lazy: opening a file reads and judges its header, and each array
//! reads its own bytes when it is evaluated. Saving is atomic: a file or folder appears under its
//! name whole or not at all.
//!
//! ```
//! use lazul_core::Array;
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! # let path = folder.path().join("weights.safetensors");
//! let w = Array::from_slice(&[1.0f32, 2.0, 3.0], [3]);
//! lazul_io::save_safetensors(&path, [("w", &w)], &[])?;
//! let loaded = lazul_io::load_safetensors(&path)?;
//! assert_eq!(loaded["w"].to_vec::<f32>()?, [1.0, 2.0, 3.0]);
//! # Ok(()) }
//! ```
//!
//! # Files are hostile until proven otherwise
//!
//! Whatever a file contains, loading it ends with a value or a typed [`Error`]: no panic, no
//! abort, no unbounded memory, no path outside the folder, no code run. Four chokepoints, and
//! nothing that goes around them, keep that promise: one bounded reader for headers, one calculator
//! for sizes, one resolver for paths ([`Root`]), one strict reader for JSON ([`json`]). A file that
//! is truncated or rewritten after it was opened is an error at evaluation.

#![forbid(unsafe_code)]
// What a parser must not do, the compiler refuses: tests are free of it.
#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::as_conversions,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::unwrap_used
    )
)]

mod atomic;
mod bounded;
mod error;
pub mod folder;
pub mod function;
pub mod gguf;
#[cfg(feature = "hub")]
pub mod hub;
pub mod json;
pub mod npy;
pub mod npz;
pub mod root;
pub mod safetensors;
pub mod shards;
mod size;
mod source;
mod zip;

pub use atomic::write_file;
pub use error::{Error, ErrorKind, Result};
pub use folder::{FolderWriter, ModelFolder, WeightOptions};
pub use function::{Exporter, ImportedFunction, export_function, import_function};
pub use gguf::{Gguf, load_gguf, save_gguf};
pub use npy::{Npy, load_npy, save_npy};
pub use npz::{Npz, load_npz, save_npz, save_npz_compressed};
pub use root::Root;
pub use safetensors::{SafeTensors, StoredDType, TensorInfo, load_safetensors, save_safetensors};
pub use shards::Weights;
pub use source::{FileSource, MemorySource};

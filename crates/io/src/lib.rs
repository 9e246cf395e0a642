//! Lazul's files: safetensors, npy and npz, model folders, the hub cache.
#![forbid(unsafe_code)]
mod atomic;
mod bounded;
mod error;
pub mod json;
mod root;
mod safetensors;
mod size;
mod source;
pub use error::{Error, ErrorKind, Result};
pub use root::Root;
pub use safetensors::{SafeTensors, StoredDType, TensorInfo, load_safetensors, save_safetensors};
pub use source::{FileSource, MemorySource};

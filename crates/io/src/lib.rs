//! Lazul's files: safetensors, npy and npz, model folders, the hub cache.
#![forbid(unsafe_code)]
mod atomic;
mod bounded;
mod error;
mod folder;
pub mod json;
mod npy;
mod npz;
mod root;
mod safetensors;
mod shards;
mod size;
mod source;
mod zip;
pub use error::{Error, ErrorKind, Result};
pub use folder::{FolderWriter, ModelFolder, WeightOptions};
pub use npy::{Npy, load_npy, save_npy};
pub use npz::{Npz, load_npz, save_npz, save_npz_compressed};
pub use root::Root;
pub use safetensors::{SafeTensors, StoredDType, TensorInfo, load_safetensors, save_safetensors};
pub use shards::Weights;
pub use source::{FileSource, MemorySource};

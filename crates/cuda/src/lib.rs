//! Lazul's backend for NVIDIA devices.
//!
//! Nothing of NVIDIA's is needed to build it or to run a program that has it: the driver, the run-time
//! compiler (NVRTC) and the matrix library (cuBLASLt) are looked for when a [`Device`] is asked for,
//! and a device that cannot be had is an [`Unavailable`], one line that says why.
//!
//! A job ([`lazul_ir::Job`], whose pointers are device addresses) is enqueued on a [`Stream`] by
//! [`Stream::enqueue`]. Kernels are CUDA sources in `kernels/`, compiled on first use for the device at
//! hand and exactly the dtypes of the job, and kept on disk; fused programs become generated sources.
//! No floating-point operation is contracted, and reductions are cut by shape alone: the same job gives
//! the same bits.
//!
//! Reading order: [`driver`], [`device`], [`stream`], [`memory`], [`transfer`], [`graph`]; then
//! `source` and `kernel` (how text becomes a function), `exec`, and one file a family of primitives.

mod arange;
mod attention;
mod blas;
mod cache;
mod copy;
pub mod device;
pub mod driver;
mod elementwise;
pub mod error;
mod exec;
pub mod graph;
mod hash;
mod index;
mod kernel;
mod layout;
mod library;
mod matmul;
pub mod memory;
mod nvrtc;
mod quantized;
mod random;
mod reduce;
pub mod replay;
mod rope;
mod rows;
mod run;
mod scan;
mod sort;
mod source;
pub mod stream;
pub mod transfer;
mod user;

pub use device::{Device, PLACES};
pub use driver::{DeviceInfo, devices};
pub use error::{RunError, Unavailable, Unsupported};
pub use graph::Graph;
pub use replay::Figures;
pub use run::{CudaBackend, lacks};
pub use stream::{Event, Met, Stream};
pub use transfer::{Pinned, Traffic};
pub use user::{UserArg, UserCode};

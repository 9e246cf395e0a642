//! Lazul, an array framework for machine learning: lazy arrays, modules, files, language models.
//!
//! This is the crate to depend on. It has no code of its own: the root is [`lazul_core`] (arrays and
//! operations), and three modules, each behind a feature of its name that is on by default, are the
//! crates that stand on it:
//!
//! | module | what is in it |
//! |---|---|
//! | `nn` | `#[derive(Module)]`, layers, activations, losses, initializers, optimizers |
//! | `io` | safetensors, npy and npz, model folders, the Hugging Face hub |
//! | `lm` | tokenizers, chat templates, models, generation |
//!
//! ```
//! use lazul::prelude::*;
//!
//! # fn main() -> lazul::Result<()> {
//! let x = Array::from_slice(&[1.0f32, 2.0, 3.0, 4.0], [2, 2]);
//! let y = (&x + x.t()) / 2.0; // nothing has run yet
//! assert_eq!(y.to_vec::<f32>()?, [1.0, 2.5, 2.5, 4.0]); // now it has
//! # Ok(()) }
//! ```
//!
//! Operations return arrays, not results. A wrong call gives a *failed array*, and the next boundary
//! (`check`, `eval`, `item`, `to_vec`, `shape`, …) says what was wrong, and where:
//!
//! ```
//! use lazul::prelude::*;
//!
//! let (a, b) = (zeros([2, 3], DType::F32), zeros([4, 5], DType::F32));
//! let y = a.matmul(&b).exp() + 1.0;
//! let error = y.check().unwrap_err();
//! assert_eq!(error.op(), "matmul");
//! assert_eq!(error.message(), "inner dimensions 3 and 4 differ");
//! assert_eq!(error.site().map(|line| line.file()), Some(file!()));
//! ```
//!
//! Environment variables such as `LAZUL_NUM_THREADS`, and guides, are in the book (folder `docs` of
//! the repository).

#![cfg_attr(docsrs, feature(doc_cfg))]
#![forbid(unsafe_code)]

pub use lazul_core::*;

#[cfg(feature = "io")]
pub use lazul_io as io;
#[cfg(feature = "lm")]
pub use lazul_lm as lm;
#[cfg(feature = "nn")]
pub use lazul_nn as nn;

/// What a program that uses Lazul needs: arrays and operations, and with the feature `nn` the trait
/// and derive macro `Module` and the trait `Layer`.
pub mod prelude {
    pub use lazul_core::prelude::*;
    #[cfg(feature = "nn")]
    pub use lazul_nn::{Layer, Module};
}

/// The examples of the README and of the book are tests.
#[cfg(doctest)]
mod pages {
    #[doc = include_str!("../../../README.md")]
    mod readme {}
    #[doc = include_str!("../../../docs/src/introduction.md")]
    mod introduction {}
    #[doc = include_str!("../../../docs/src/for-mlx-users.md")]
    mod for_mlx_users {}
    #[doc = include_str!("../../../docs/src/for-pytorch-users.md")]
    mod for_pytorch_users {}
    #[doc = include_str!("../../../docs/src/lazy-evaluation.md")]
    mod lazy_evaluation {}
    #[doc = include_str!("../../../docs/src/transforms.md")]
    mod transforms {}
    #[doc = include_str!("../../../docs/src/indexing.md")]
    mod indexing {}
    #[doc = include_str!("../../../docs/src/compile.md")]
    mod compile {}
    #[doc = include_str!("../../../docs/src/errors.md")]
    mod errors {}
    #[doc = include_str!("../../../docs/src/exported-functions.md")]
    mod exported_functions {}
    #[doc = include_str!("../../../docs/src/numerics.md")]
    mod numerics {}
    #[doc = include_str!("../../../docs/src/adding-a-model.md")]
    mod adding_a_model {}
}

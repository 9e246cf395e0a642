//! Neural-network modules over Lazul's arrays.
//!
//! A [`Module`] is a struct whose fields are parameters ([`Array`](lazul_core::Array)), other modules, or vectors and
//! options of them; `#[derive(Module)]` writes the traversal. A parameter's path is made of field
//! names and indices (`layers.0.self_attn.q_proj.weight`), which are also its names in published
//! checkpoints: loading is a look-up ([`Weights`]).
//!
//! Quantization is a property of [`Linear`] and [`Embedding`] ([`Weight`]), never a second set of
//! models.

// The derive macro writes paths of this crate's name, here too.
extern crate self as lazul_nn;

mod embedding;
mod linear;
mod module;
mod norm;
mod weights;

pub mod activations;
pub mod init;
pub mod losses;

pub use embedding::Embedding;
pub use lazul_macros::Module;
pub use linear::{Linear, Weight};
pub use module::{Module, Visitor, VisitorMut};
pub use norm::{LayerNorm, RmsNorm};
pub use weights::{TensorSource, Weights};

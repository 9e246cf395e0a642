//! Neural-network modules over Lazul's arrays.
//!
//! A [`Module`] is a struct whose fields are parameters ([`Array`](lazul_core::Array)), other modules, or vectors and
//! options of them; `#[derive(Module)]` writes the traversal. A parameter's path is made of field
//! names and indices (`layers.0.self_attn.q_proj.weight`), which are also its names in published
//! checkpoints: loading is a look-up ([`Weights`]).
//!
//! [`layers`] are modules, most of them a [`Layer`] that a [`Sequential`] can hold; [`activations`],
//! [`losses`] and [`init`] are functions; [`value_and_grad`] differentiates by a module's parameters, and
//! [`optim`] moves them. Names of parameters, layouts and defaults are MLX's.
//!
//! Quantization is a property of [`Linear`] and [`Embedding`] ([`Weight`]), never a second set of
//! models.

// The derive macro writes paths of this crate's name, here too.
extern crate self as lazul_nn;

mod grad;
mod module;
mod weights;

pub mod activations;
pub mod init;
pub mod layers;
pub mod losses;
pub mod optim;

use layers::linear;

pub use grad::{value_and_grad, value_and_grad_of};
pub use layers::{Embedding, Layer, LayerNorm, Linear, RmsNorm, Sequential, Weight};
pub use lazul_macros::Module;
pub use module::{Buffer, Module, Parameters, Role, Training, Visitor, VisitorMut};
pub use weights::{TensorSource, Weights};

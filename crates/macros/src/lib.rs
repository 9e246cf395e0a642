//! Derive macros of Lazul.
//!
//! `#[derive(Module)]` implements `lazul_nn::Module` for a struct: its fields are visited in order
//! under their names, so a parameter's path is the path of field names that leads to it, and matches
//! the names in published checkpoints; it implements `lazul_core::Tree` as well. `#[derive(Tree)]` implements `lazul_core::Tree`, so that a type of
//! one's own can be the argument or result of a function that is transformed.

mod module;
mod paths;
mod tree;

use proc_macro::TokenStream;
use syn::{DeriveInput, Error, parse_macro_input};

/// Implements `Module`, and `Tree`, whose leaves are all arrays of the module; the struct is `Clone`.
///
/// Fields are parameters and modules by default.
/// - `#[module(option)]`: no array, but what the module does depends on it (a number, a mode). It is
///   `Debug`; a compiled function is traced again where its text differs.
/// - `#[module(skip)]`: left out altogether.
/// - `#[module(rename = "q_proj")]`: has this name in paths.
/// - `#[module(flatten)]`: is visited without a name of its own.
/// - `#[module(frozen)]`: its arrays are buffers, part of checkpoints that gradients do not change.
#[proc_macro_derive(Module, attributes(module))]
pub fn derive_module(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    module::expand(&input).unwrap_or_else(Error::into_compile_error).into()
}

/// Implements `Tree` for a struct or an enum: its leaves are those of its fields, in order.
///
/// Every field is a `Tree` itself: arrays and what holds them, and plain values, which are part of the
/// structure. A field of another type is left out by `#[tree(skip)]`; a compiled function then does not
/// notice that it changed.
#[proc_macro_derive(Tree, attributes(tree))]
pub fn derive_tree(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    tree::expand(&input).unwrap_or_else(Error::into_compile_error).into()
}

//! Derive macros of Lazul.
//!
//! `#[derive(Module)]` implements `lazul_nn::Module` for a struct: its fields are visited in order
//! under their names, so a parameter's path is the path of field names that leads to it, and matches
//! the names in published checkpoints. `#[derive(Tree)]` implements `lazul_core::Tree`, so that a type of
//! one's own can be the argument or result of a function that is transformed.

mod module;
mod paths;
mod tree;

use proc_macro::TokenStream;
use syn::{DeriveInput, Error, parse_macro_input};

/// Implements `Module`.
///
/// Fields are parameters and modules by default. `#[module(skip)]` leaves a field out (options,
/// numbers), `#[module(rename = "q_proj")]` gives it another name in paths, and
/// `#[module(flatten)]` visits it without a name of its own.
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

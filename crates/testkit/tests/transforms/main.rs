//! Transforms as their users meet them: nested in every order, over trees, beside evaluation, on many
//! threads, on graphs of a million nodes, and wrongly called.

mod depth;
mod errors;
mod nesting;
mod threads;
mod trees;
mod values;

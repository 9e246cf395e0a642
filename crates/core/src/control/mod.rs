//! Operations that hold a function: calls of traced functions, loops, branches, and functions with
//! rules of their own.
//!
//! Each is one node with the function's arguments and captures for inputs. The evaluator runs the graph
//! within it; transforms see through it by its rules, which are written with the same public functions.

pub(crate) mod branch;
pub(crate) mod call;
mod compile;
mod custom;
pub(crate) mod graph;
pub(crate) mod kernel;
pub(crate) mod scan;
mod shapeless;
pub(crate) mod whiles;

pub use branch::cond;
pub use call::{checkpoint, depends};
pub use compile::{compile, compile_with_state, compiling, set_compiling};
pub use custom::{CustomFunction, custom_function};
pub use scan::{Loop, scan, scan_with};
pub use shapeless::{compile_shapeless, compile_shapeless_with_state};
pub use whiles::while_loop;

use crate::device::choice::Places;
use crate::error::Result;
use crate::node::{Array, Data};
use crate::rules::{Call, Outputs, Slots};
use graph::Spec;

/// A node that holds a function.
pub(crate) enum Control {
    /// One call.
    Call(call::Called),
    /// A loop over the first axis of arrays.
    Scan(scan::Scan),
    /// A loop while a condition holds.
    While(whiles::While),
    /// One of two functions.
    Branch(branch::Branch),
    /// A function with derivative rules of its own.
    Custom(custom::Custom),
    /// A kernel that a user wrote.
    Kernel(kernel::Kernel),
}

impl Control {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Control::Call(c) => c.name,
            Control::Scan(_) => "scan",
            Control::While(_) => "while_loop",
            Control::Branch(_) => "cond",
            Control::Custom(_) => "custom_function",
            Control::Kernel(_) => kernel::OP,
        }
    }

    /// The results' data from the inputs'; what was built for no device in particular runs in the default
    /// one of `places`.
    pub(crate) fn run(&self, inputs: Vec<Data>, places: Places) -> Result<Vec<Data>> {
        match self {
            Control::Call(c) => c.graph.run(inputs, places),
            Control::Scan(s) => s.run(inputs, places),
            Control::While(w) => w.run(inputs, places),
            Control::Branch(b) => b.run(inputs, places),
            Control::Custom(c) => Ok(c.run(inputs)),
            Control::Kernel(k) => k.run(inputs, places),
        }
    }

    pub(crate) fn vjp(
        &self,
        call: &Call<'_>,
        cotangents: &[Option<Array>],
        wanted: &[bool],
    ) -> Result<Slots> {
        match self {
            Control::Call(c) => c.vjp(call, cotangents, wanted),
            Control::Scan(s) => s.vjp(call, cotangents, wanted),
            Control::While(w) => w.vjp(),
            Control::Branch(b) => b.vjp(call, cotangents, wanted),
            Control::Custom(c) => c.vjp(call, cotangents),
            Control::Kernel(k) => k.vjp(call, cotangents, wanted),
        }
    }

    pub(crate) fn jvp(&self, call: &Call<'_>, tangents: &[Option<Array>]) -> Result<Slots> {
        match self {
            Control::Call(c) => c.jvp(call, tangents),
            Control::Scan(s) => s.jvp(call, tangents),
            Control::While(w) => w.jvp(call, tangents),
            Control::Branch(b) => b.jvp(call, tangents),
            Control::Custom(c) => c.jvp(call, tangents),
            Control::Kernel(k) => k.jvp(call, tangents),
        }
    }

    pub(crate) fn vmap(
        &self,
        inputs: &[Array],
        batched: &[bool],
        size: usize,
        outputs: &[Spec],
    ) -> Result<Outputs> {
        match self {
            Control::Call(c) => c.vmap(inputs, batched, size),
            Control::Scan(s) => s.vmap(inputs, batched, size),
            Control::While(w) => w.vmap(inputs, batched, size),
            Control::Branch(b) => b.vmap(inputs, batched, size),
            Control::Custom(c) => c.vmap(inputs, batched, size, outputs.len()),
            Control::Kernel(k) => k.vmap(inputs, batched, size),
        }
    }
}

//! Lazul's arrays: lazy, on unified memory, `Send + Sync`.
//!
//! An [`Array`] is a node of a graph. Operations (methods of [`Array`], and functions such as
//! [`zeros`] and [`concatenate`]) check their arguments and add nodes; [`eval()`] and everything that
//! reads values run the part of the graph that is needed: element-wise regions fused, memory reused,
//! all cores busy. There is no device to move arrays to, and no `Result` to handle in the middle of
//! mathematics: a wrong call gives a failed array, which the next boundary reports with the line of
//! the call.
//!
//! Functions of arrays are transformed by [`transforms`] (derivatives, batches) and compiled, looped
//! and branched by [`control`].
//!
//! The way through the code: [`ops`] (what users call) → `node` (the graph) → [`transforms`] (graphs from
//! graphs, by the `rules` of operations) → `eval` (claim, plan, run) → `lazul-cpu` (kernels), in the
//! vocabulary of `lazul-ir`.

pub mod array;
pub mod constants;
pub mod control;
pub mod device;
pub mod distributed;
mod dot;
pub mod dtypes;
pub mod error;
pub mod eval;
pub mod foreign;
pub mod ints;
pub mod memory;
mod node;
pub mod operand;
mod operators;
pub mod ops;
pub mod print;
pub mod program;
pub mod random;
mod rules;
mod scope;
pub mod source;
mod trace;
pub mod transforms;
mod tree;

pub use control::{
    CustomFunction, Loop, checkpoint, compile, compile_shapeless, compile_shapeless_with_state,
    compile_with_state, compiling, cond, custom_function, depends, scan, scan_with, set_compiling,
    while_loop,
};
pub use dot::export_to_dot;
pub use error::{Error, ErrorKind, Result};
pub use eval::{async_eval, eval, eval_ahead, explain, fusion, set_fusion};
pub use ints::{IntoAxes, IntoInts};
pub use lazul_ir::{BlockFormat, Complex32, DType, Element, Quantization, Shape, bf16, f16};
pub use lazul_macros::Tree;
pub use node::Array;
pub use operand::IntoOperand;
pub use ops::attempt;
pub use ops::conv::{
    Conv, ConvGeneral, ConvTranspose, ConvolveMode, PerAxis, conv_general, conv_transpose1d,
    conv_transpose2d, conv_transpose3d, conv1d, conv2d, conv3d, convolve,
};
pub use ops::creation::{
    arange, arange_step, eye, full, identity, linspace, linspace_open, meshgrid, meshgrid_sparse,
    ones, tri, zeros,
};
pub use ops::einsum::{EinsumPath, einsum, einsum_path};
pub use ops::elementwise::{Tolerance, where_};
pub use ops::fast;
pub use ops::fft;
pub use ops::grouped::BlockMasks;
pub use ops::index::{At, Ellipsis, Index, IntoIndex, IntoIndices, NewAxis, Slice, Step};
pub use ops::join::{Pad, concatenate, stack};
#[cfg(feature = "linalg")]
pub use ops::linalg;
pub use ops::quantized::{Quantized, quantization};
pub use ops::scan::Scan;
pub use ops::search::Side;
pub use ops::set::Unique;
pub use ops::shape::{broadcast_arrays, broadcast_shapes};
pub use ops::statistics::Interpolation;
pub use ops::window::{bartlett, blackman, hamming, hanning};
pub use scope::scope;
pub use source::ByteSource;
pub use transforms::{
    Objective, grad, hessian, jacobian, jvp, value_and_grad, vjp, vmap, vmap_axes,
};
pub use tree::{Fixed, IntoResult, Tree};

/// Number of threads that kernels run on.
///
/// ```
/// assert!(lazul_core::threads() >= 1);
/// ```
pub fn threads() -> usize {
    lazul_cpu::pool::threads()
}

/// What a program that uses arrays needs.
pub mod prelude {
    #[cfg(feature = "linalg")]
    pub use crate::linalg;
    pub use crate::{
        Array, BlockMasks, Complex32, Conv, ConvGeneral, ConvTranspose, ConvolveMode, DType,
        Ellipsis, Fixed, Index, Interpolation, Loop, NewAxis, Pad, Quantization, Quantized, Scan,
        Side, Slice, Step, Tolerance, Tree, arange, arange_step, async_eval, bf16,
        broadcast_arrays, checkpoint, compile, compile_shapeless, compile_shapeless_with_state,
        compile_with_state, concatenate, cond, conv_general, conv_transpose1d, conv_transpose2d,
        conv_transpose3d, conv1d, conv2d, conv3d, convolve, custom_function, depends, einsum,
        einsum_path, eval, explain, export_to_dot, eye, f16, fast, fft, full, grad, hessian,
        identity, jacobian, jvp, linspace, linspace_open, meshgrid, meshgrid_sparse, ones,
        quantization, random, scan, scan_with, scope, stack, tri, value_and_grad, vjp, vmap,
        vmap_axes, where_, while_loop, zeros,
    };
}

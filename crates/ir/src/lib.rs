//! The vocabulary that every other crate of Lazul speaks.
//!
//! A value is described by a [`DType`], a [`Shape`] and, once it lies in memory, a [`Layout`]. What is
//! to be computed is a [`Prim`]: a closed enum in families, or a [`Tape`], a fused program of
//! element-wise steps. A [`Job`] is a primitive together with its operands in memory, and a
//! [`Backend`] is whatever can run jobs. There are no kernels here and no graph: backends know this
//! crate and nothing above it, and the graph (`lazul-core`) reaches backends only through
//! `dyn Backend`.
//!
//! Reading order: [`dtype`], [`shape`], [`layout`], [`elementwise`], [`conv`], [`prim`], [`tape`],
//! [`job`], [`backend`].

pub mod backend;
pub mod buffer;
pub mod check;
pub mod conv;
pub mod dtype;
pub mod elementwise;
pub mod error;
pub mod job;
pub mod layout;
pub mod linalg;
pub mod prim;
pub mod quantized;
pub mod scalar;
pub mod shape;
pub mod tape;

pub use backend::{Backend, MemoryStats};
pub use buffer::{BlockSource, Buffer, HOST, Place};
pub use check::{Spec, check};
pub use conv::{ConvAxis, ConvOp};
pub use dtype::{DType, Element, Kind};
pub use elementwise::{BinaryOp, Expr, Slope, UnaryOp};
pub use error::{ErrorKind, OpError};
pub use half::{bf16, f16};
pub use job::{Job, Operand, Target, Work};
pub use layout::Layout;
pub use linalg::{LinalgOp, Vectors};
pub use num_complex::Complex32;
pub use prim::{
    ArgReduceOp, Axes, F32Bits, F64Bits, FastOp, FftKind, GroupedOp, Number, Prim, ReduceOp,
    ScanOp, ScatterOp, ViewOp,
};
pub use quantized::{BlockFormat, NVFP4_RANGE, Quantization, QuantizedOp};
pub use scalar::Scalar;
pub use shape::{Shape, Strides};
pub use tape::{Step, StepOp, Tape};

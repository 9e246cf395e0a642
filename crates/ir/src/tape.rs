//! A fused program: several element-wise operations over arrays of one shape, run in one pass.
//!
//! Registers hold values in the *compute* dtype of what was stored into them
//! ([`DType::compute`]: f32 for the half types). After each step the value is rounded to the step's
//! declared dtype, so a fused program gives the same bits as its operations run one by one.

use crate::{BinaryOp, DType, UnaryOp};

/// What a step computes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum StepOp {
    /// One argument.
    Unary(UnaryOp),
    /// Two arguments of one dtype.
    Binary(BinaryOp),
    /// `args[0]` is bool; gives `args[1]` where true, else `args[2]`.
    Select,
    /// Conversion of `args[0]`, as [`crate::Prim::Cast`].
    Cast,
}

impl StepOp {
    /// The public function's name.
    pub const fn name(&self) -> &'static str {
        match self {
            StepOp::Unary(op) => op.name(),
            StepOp::Binary(op) => op.name(),
            StepOp::Select => "where",
            StepOp::Cast => "astype",
        }
    }
}

/// One instruction. Registers `0..inputs` hold the operands and are never written; each step writes
/// one of the others.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Step {
    /// What is computed.
    pub op: StepOp,
    /// Dtype of the arguments (for [`StepOp::Select`], of the last two).
    pub operand: DType,
    /// Dtype of the result.
    pub result: DType,
    /// Registers read; unused ones repeat the first.
    pub args: [u16; 3],
    /// Register written: never an operand's, but it may be one of `args`.
    pub dst: u16,
}

/// A fused program in order of execution.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Tape {
    /// Dtypes of the operands, which arrive in registers `0..inputs.len()`.
    pub inputs: Vec<DType>,
    /// The instructions.
    pub steps: Vec<Step>,
    /// Registers that hold results when an element is done, with their dtypes.
    pub outputs: Vec<(u16, DType)>,
    /// Number of registers.
    pub registers: u16,
}

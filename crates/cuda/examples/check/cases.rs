//! One job a case: every primitive, in every dtype that it has, over every kind of layout.

mod elementwise;
mod index;
mod memory;
mod products;
mod reduce;
mod rows;

use crate::tensor::{Rng, Tensor, Tolerance, epsilon, layouts};
use lazul_ir::DType::{self, *};
use lazul_ir::{
    ArgReduceOp, Axes, BinaryOp, F32Bits, FastOp, Prim, Quantization, QuantizedOp, ReduceOp,
    Scalar, ScanOp, ScatterOp, Step, StepOp, Tape, UnaryOp,
};

/// What a case computes.
pub(crate) enum What {
    Prim(Prim),
    Fused(Tape),
}

/// A job with its operands, to be run here and there.
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) what: What,
    pub(crate) inputs: Vec<Tensor>,
    pub(crate) outputs: Vec<(DType, Vec<usize>)>,
    pub(crate) tolerance: Tolerance,
    /// The operand whose memory is the output's.
    pub(crate) alias: Option<usize>,
}

const FLOATS: [DType; 4] = [F32, F16, BF16, F64];
const INTEGERS: [DType; 8] = [U8, U16, U32, U64, I8, I16, I32, I64];

pub(crate) struct Cases {
    pub(crate) list: Vec<Case>,
    rng: Rng,
}

fn axes(list: &[usize]) -> Axes {
    list.iter().map(|&a| a as u8).collect()
}

fn ulps(n: f64, dtype: DType) -> Tolerance {
    Tolerance { rel: n * epsilon(dtype) * 1.001, abs: 0.0 }
}

impl Cases {
    /// All of them.
    pub(crate) fn all() -> Cases {
        let mut c = Cases { list: Vec::new(), rng: Rng(2026) };
        c.unary();
        c.binary();
        c.casts_and_selects();
        c.fused();
        c.creation();
        c.copies();
        c.reductions();
        c.scans();
        c.sorts();
        c.indexing();
        c.slices();
        c.random();
        c.rows();
        c.rope();
        c.matmul();
        c.quantized();
        c.attention();
        c
    }

    fn add(
        &mut self,
        name: String,
        prim: Prim,
        inputs: Vec<Tensor>,
        output: (DType, &[usize]),
        tolerance: Tolerance,
    ) {
        self.list.push(Case {
            name: format!("{}: {name}", prim.name()),
            what: What::Prim(prim),
            inputs,
            outputs: vec![(output.0, output.1.to_vec())],
            tolerance,
            alias: None,
        });
    }

    /// Layouts of an element-wise operand, of one shape each.
    fn operands(&mut self, dtype: DType, wild: bool) -> Vec<(&'static str, Tensor)> {
        let make = |rng: &mut Rng, shape: &[usize]| match wild {
            true => Tensor::wild(rng, dtype, shape),
            false => Tensor::random(rng, dtype, shape, -4.0, 4.0),
        };
        let mut all = layouts(&make(&mut self.rng, &[5, 48]));
        all.push(("ragged", make(&mut self.rng, &[1003])));
        all.push(("scalar", make(&mut self.rng, &[])));
        all.push(("empty", make(&mut self.rng, &[0, 4])));
        all.push(("row", make(&mut self.rng, &[1, 48]).broadcast(&[5, 48])));
        all.push(("column", make(&mut self.rng, &[5, 1]).broadcast(&[5, 48])));
        all.push(("one", make(&mut self.rng, &[1]).broadcast(&[5, 48])));
        all
    }
}

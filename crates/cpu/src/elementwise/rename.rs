//! Instructions on values instead of registers: every value is written once, and a product that only a
//! sum reads, or a sum that only a product reads, is one instruction with it, one pass over a block less.
//! Each of the two still rounds.

use lazul_ir::{BinaryOp, DType, Step, StepOp};
use smallvec::SmallVec;

/// What an instruction computes.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Kind {
    /// One step of the tape.
    Step(StepOp),
    /// `a * b + c`
    ProductSum,
    /// `(a + b) * c`
    SumProduct,
}

/// A step, or two that became one.
pub(super) struct Instruction {
    pub(super) kind: Kind,
    pub(super) operand: DType,
    pub(super) result: DType,
    /// Values read; unused ones repeat the first.
    pub(super) args: [u16; 3],
    /// The value written.
    pub(super) value: u16,
}

impl Instruction {
    /// The values read.
    pub(super) fn reads(&self) -> &[u16] {
        let arity = match self.kind {
            Kind::Step(StepOp::Unary(_) | StepOp::Cast) => 1,
            Kind::Step(StepOp::Binary(_)) => 2,
            Kind::Step(StepOp::Select) | Kind::ProductSum | Kind::SumProduct => 3,
        };
        &self.args[..arity]
    }
}

/// A tape's instructions in order, and the values of its outputs. Values are numbered operands first,
/// then the tape's steps.
pub(super) fn rename(
    inputs: usize,
    steps: &[Step],
    outputs: &[(u16, DType)],
    registers: u16,
) -> (SmallVec<[Instruction; 12]>, SmallVec<[u16; 2]>) {
    let mut current: SmallVec<[u16; 32]> = (0..registers).collect();
    let mut made: SmallVec<[Instruction; 12]> = SmallVec::new();
    let mut reads: SmallVec<[u16; 32]> = SmallVec::from_elem(0, inputs + steps.len());
    for (k, step) in steps.iter().enumerate() {
        let value = (inputs + k) as u16;
        let mut one = Instruction {
            kind: Kind::Step(step.op),
            operand: step.operand,
            result: step.result,
            args: step.args.map(|r| current[r as usize]),
            value,
        };
        let arity = one.reads().len();
        let first = one.args[0];
        one.args[arity..].fill(first);
        one.reads().iter().for_each(|&a| reads[a as usize] += 1);
        made.push(one);
        current[step.dst as usize] = value;
    }
    let results: SmallVec<[u16; 2]> =
        outputs.iter().map(|&(register, _)| current[register as usize]).collect();
    results.iter().for_each(|&value| reads[value as usize] += 1);
    chain(&mut made, &reads);
    (made, results)
}

/// Makes one instruction of two where the first one's value is read once, by the second.
fn chain(made: &mut SmallVec<[Instruction; 12]>, reads: &[u16]) {
    let mut k = 1;
    while k < made.len() {
        let found = made[k].chained().and_then(|(kind, first)| {
            (0..2).find_map(|i| {
                let value = made[k].args[i];
                let at = made[..k].iter().position(|m| m.value == value)?;
                let fits = reads[value as usize] == 1
                    && made[at].kind == Kind::Step(StepOp::Binary(first))
                    && made[at].operand == made[k].operand;
                fits.then_some((kind, at, 1 - i))
            })
        });
        match found {
            Some((kind, at, other)) => {
                let [a, b, _] = made[at].args;
                let c = made[k].args[other];
                made[k].kind = kind;
                made[k].args = [a, b, c];
                made.remove(at);
            }
            None => k += 1,
        }
    }
}

impl Instruction {
    /// What this instruction becomes with an operand's, and the operation that must have made that.
    fn chained(&self) -> Option<(Kind, BinaryOp)> {
        // Halves round in their slots between steps.
        if !matches!(self.operand, DType::F32 | DType::F64) {
            return None;
        }
        match self.kind {
            Kind::Step(StepOp::Binary(BinaryOp::Add)) => {
                Some((Kind::ProductSum, BinaryOp::Multiply))
            }
            Kind::Step(StepOp::Binary(BinaryOp::Multiply)) => {
                Some((Kind::SumProduct, BinaryOp::Add))
            }
            _ => None,
        }
    }
}

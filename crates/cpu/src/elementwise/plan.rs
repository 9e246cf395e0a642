//! From a tape and the operands' layouts to instructions on places.
//!
//! Registers are renamed so that every value is written once. A value lives in the operand's own
//! memory where that is contiguous and of its compute type, in the output's memory where it is a
//! result that may be written there, and otherwise in a slot of the thread's scratch block; slots
//! are reused once their value was read for the last time. A step never writes to a place that it
//! reads. An output that shares its memory with an operand (a donated buffer) is written from a slot
//! when the block is done.

use super::kernel;
use super::kernels::Kernel;
use crate::strided::{Collapsed, collapse};
use lazul_ir::{BinaryOp, DType, Job, Step, StepOp, UnaryOp};
use smallvec::SmallVec;

/// Where a block of a value lies.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Place {
    /// In an operand's memory.
    Input(u16),
    /// In a scratch slot.
    Slot(u16),
    /// In an output's memory, at the block's position.
    Output(u16),
}

/// How an operand gets into its slot.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Load {
    /// One value, splatted once per chunk.
    Splat,
    /// Neighbouring elements, converted to the compute type.
    Convert,
    /// One value for each row, repeated along it.
    Repeat,
    /// Any strides.
    Gather,
}

pub(super) struct PlannedLoad {
    pub(super) load: Load,
    pub(super) input: u16,
    pub(super) slot: u16,
}

pub(super) struct PlannedStep {
    pub(super) kernel: Kernel,
    pub(super) args: [Place; 3],
    pub(super) dst: Place,
    /// The half type that the result is rounded to in its slot, where a later step reads it.
    pub(super) round: Option<DType>,
}

pub(super) struct PlannedStore {
    pub(super) from: Place,
    pub(super) compute: DType,
    pub(super) output: u16,
}

pub(super) struct Plan {
    pub(super) loads: SmallVec<[PlannedLoad; 8]>,
    pub(super) steps: SmallVec<[PlannedStep; 12]>,
    pub(super) stores: SmallVec<[PlannedStore; 2]>,
    pub(super) slots: usize,
    /// Bytes of the widest compute type.
    pub(super) width: usize,
    /// Operands' merged dimensions.
    pub(super) collapsed: Collapsed,
    /// Blocks do not cross rows of the merged dimensions, so that every operand's block is
    /// neighbouring elements or one repeated.
    pub(super) by_rows: bool,
    /// Rough cost of an element, in simple vector operations.
    pub(super) cost: usize,
}

const NONE: u16 = u16::MAX;

/// A value: an operand or a step's result.
struct Value {
    place: Option<Place>,
    /// Index of the last step that reads it; `steps.len()` for a result.
    last: usize,
    /// Whether a step reads it at all.
    read: bool,
    /// The output whose memory it may be written to.
    output: u16,
    dtype: DType,
}

impl Plan {
    pub(super) fn new(
        inputs: &[DType],
        steps: &[Step],
        outputs: &[(u16, DType)],
        registers: u16,
        job: &Job<'_>,
    ) -> Plan {
        let strides: SmallVec<[&[isize]; 8]> = job.inputs.iter().map(|i| i.strides).collect();
        let collapsed = collapse(job.outputs[0].shape, &strides);

        // Rename: values are numbered inputs first, then steps.
        let mut current: SmallVec<[u16; 32]> = SmallVec::from_elem(NONE, registers as usize);
        let mut values: SmallVec<[Value; 20]> = SmallVec::new();
        let value = |dtype| Value { place: None, last: 0, read: false, output: NONE, dtype };
        for (i, &dtype) in inputs.iter().enumerate() {
            current[i] = i as u16;
            values.push(value(dtype));
        }
        let mut renamed: SmallVec<[[u16; 3]; 12]> = SmallVec::new();
        for (k, step) in steps.iter().enumerate() {
            let mut args = step.args.map(|r| current[r as usize]);
            let arity = arity(step.op);
            for i in arity..3 {
                args[i] = args[0];
            }
            for &a in &args[..arity] {
                values[a as usize].last = k;
                values[a as usize].read = true;
            }
            renamed.push(args);
            current[step.dst as usize] = values.len() as u16;
            values.push(value(step.result));
        }
        for (o, &(register, dtype)) in outputs.iter().enumerate() {
            let v = &mut values[current[register as usize] as usize];
            v.last = steps.len();
            let target = &job.outputs[o];
            let shared = job.inputs.iter().any(|i| i.ptr == target.ptr.cast_const());
            if dtype.compute() == dtype && !shared && v.output == NONE {
                v.output = o as u16;
            }
        }

        let mut plan = Plan {
            loads: SmallVec::new(),
            steps: SmallVec::new(),
            stores: SmallVec::new(),
            slots: 0,
            width: 1,
            by_rows: by_rows(&collapsed),
            collapsed,
            cost: 1,
        };
        let mut free: SmallVec<[u16; 8]> = SmallVec::new();

        for i in 0..inputs.len() {
            let v = &mut values[i];
            if !v.read && v.last < steps.len() {
                continue;
            }
            let dtype = inputs[i];
            plan.width = plan.width.max(dtype.compute().size());
            let load = plan.classify(i);
            v.place = Some(match load {
                None if dtype.compute() == dtype => Place::Input(i as u16),
                load => {
                    let slot = plan.slots as u16;
                    plan.slots += 1;
                    let load = load.unwrap_or(Load::Convert);
                    plan.loads.push(PlannedLoad { load, input: i as u16, slot });
                    Place::Slot(slot)
                }
            });
        }
        for (k, (step, args)) in steps.iter().zip(&renamed).enumerate() {
            let v = inputs.len() + k;
            plan.width = plan.width.max(step.result.compute().size());
            plan.cost += cost(step);
            let kept = values[v].output;
            let dst = if kept != NONE {
                Place::Output(kept)
            } else {
                Place::Slot(free.pop().unwrap_or_else(|| {
                    plan.slots += 1;
                    plan.slots as u16 - 1
                }))
            };
            values[v].place = Some(dst);
            let half = step.result.compute() != step.result;
            plan.steps.push(PlannedStep {
                kernel: kernel(step.op, step.operand, step.result),
                // Operands were placed above, and results before any step that reads them.
                args: args.map(|a| values[a as usize].place.unwrap_or(dst)),
                dst,
                round: (half && values[v].read).then_some(step.result),
            });
            // A splatted slot must last for all blocks of a chunk.
            for (i, &a) in args.iter().enumerate() {
                let value = &mut values[a as usize];
                if value.last == k
                    && !args[..i].contains(&a)
                    && let Some(Place::Slot(s)) = value.place
                {
                    let splat = plan.loads.iter().any(|l| l.slot == s && l.load == Load::Splat);
                    if !splat {
                        free.push(s);
                    }
                }
            }
            // A result that nothing reads.
            if let (0, false, Place::Slot(s)) = (values[v].last, values[v].read, dst) {
                free.push(s);
            }
        }
        for (o, &(register, _)) in outputs.iter().enumerate() {
            let v = &values[current[register as usize] as usize];
            let from = v.place.unwrap_or(Place::Output(o as u16));
            if from != Place::Output(o as u16) {
                plan.stores.push(PlannedStore {
                    from,
                    compute: v.dtype.compute(),
                    output: o as u16,
                });
            }
        }
        plan
    }

    /// How operand `i` must be loaded; `None` where a block's elements are neighbours.
    fn classify(&self, i: usize) -> Option<Load> {
        let strides = &self.collapsed.strides[i];
        if strides.iter().all(|&s| s == 0) {
            return Some(Load::Splat);
        }
        if lazul_ir::layout::is_row_major(&self.collapsed.shape, strides) {
            return None;
        }
        match strides[strides.len() - 1] {
            1 if self.by_rows => None,
            0 if self.by_rows => Some(Load::Repeat),
            _ => Some(Load::Gather),
        }
    }
}

/// Whether rows are long enough to be blocks, and every operand's are neighbours or repetitions.
fn by_rows(c: &Collapsed) -> bool {
    let last = c.shape.len() - 1;
    c.shape[last] >= 128 && c.strides.iter().all(|s| matches!(s[last], 0 | 1))
}

fn arity(op: StepOp) -> usize {
    match op {
        StepOp::Unary(_) | StepOp::Cast => 1,
        StepOp::Binary(_) => 2,
        StepOp::Select => 3,
    }
}

/// Rough cost in simple vector operations on four-byte elements; it only sizes chunks.
fn cost(step: &Step) -> usize {
    use UnaryOp as U;
    let class = match step.op {
        StepOp::Cast | StepOp::Select => 1,
        StepOp::Unary(op) => match op {
            U::Exp | U::Sigmoid | U::Sqrt | U::Rsqrt | U::Reciprocal => 4,
            U::Expm1 | U::Log | U::Log2 | U::Log10 | U::Log1p | U::Sin | U::Cos | U::Tan => 16,
            U::Arcsin | U::Arccos | U::Arctan | U::Sinh | U::Cosh | U::Tanh => 16,
            U::Arcsinh | U::Arccosh | U::Arctanh | U::Erf | U::Erfinv => 16,
            _ => 1,
        },
        StepOp::Binary(op) => match op {
            BinaryOp::Divide | BinaryOp::FloorDivide => 4,
            BinaryOp::Power | BinaryOp::Remainder => 32,
            BinaryOp::LogAddExp | BinaryOp::Arctan2 => 32,
            _ => 1,
        },
    };
    let wide = match step.operand {
        DType::F64 | DType::C64 if class > 1 => 8,
        DType::F64 | DType::C64 | DType::I64 | DType::U64 => 2,
        _ => 1,
    };
    class * wide
}

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
use super::rename::{Instruction, Kind, rename};
use crate::strided::{Collapsed, collapse};
use lazul_ir::{BinaryOp, DType, Job, Step, StepOp, Target, UnaryOp};
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
    /// Parts in which a block is computed while memory is fetched: more of them for slow operations.
    pub(super) pieces: u16,
    /// Bytes of an element of the operands, and of the result.
    pub(super) sizes: [u8; 2],
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
    /// Pieces of all steps.
    pub(super) pieces: usize,
    /// Outputs so large that no cache keeps them: blocks are finished in slots and pass the caches by.
    pub(super) streams: bool,
}

const NONE: u16 = u16::MAX;

/// Bytes of results from which on they pass the caches by.
const STREAMED: usize = 128 << 20;

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
    /// With `read_at_once` results go to memory that the caller reads block by block.
    pub(super) fn new(
        inputs: &[DType],
        steps: &[Step],
        outputs: &[(u16, DType)],
        registers: u16,
        job: &Job<'_>,
        read_at_once: bool,
    ) -> Plan {
        let strides: SmallVec<[&[isize]; 8]> = job.inputs.iter().map(|i| i.strides).collect();
        let collapsed = collapse(job.outputs[0].shape, &strides);

        let (renamed, results) = rename(inputs.len(), steps, outputs, registers);
        let dtypes = inputs.iter().copied().chain(steps.iter().map(|s| s.result));
        let value = |dtype| Value { place: None, last: 0, read: false, output: NONE, dtype };
        let mut values: SmallVec<[Value; 20]> = dtypes.map(value).collect();
        for (k, step) in renamed.iter().enumerate() {
            for &a in step.reads() {
                values[a as usize].last = k;
                values[a as usize].read = true;
            }
        }
        let bytes = |t: &Target<'_>| t.size() * t.dtype.size();
        let streams = !read_at_once
            && job.outputs.iter().map(bytes).sum::<usize>() >= STREAMED
            && job.outputs.iter().all(|t| t.dtype.compute() == t.dtype);
        for (o, (&(_, dtype), &result)) in outputs.iter().zip(&results).enumerate() {
            let v = &mut values[result as usize];
            v.last = renamed.len();
            let target = &job.outputs[o];
            let shared = job.inputs.iter().any(|i| i.ptr == target.ptr.cast_const());
            if dtype.compute() == dtype && !shared && !streams && v.output == NONE {
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
            pieces: 0,
            streams,
        };
        let mut free: SmallVec<[u16; 8]> = SmallVec::new();

        for i in 0..inputs.len() {
            let v = &mut values[i];
            if !v.read && v.last < renamed.len() {
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
        for (k, step) in renamed.iter().enumerate() {
            let (v, args) = (step.value as usize, &step.args);
            plan.width = plan.width.max(step.result.compute().size());
            let cost = cost(step);
            plan.cost += cost;
            // Conditions are narrower than what they choose from: such steps are simple, and whole.
            let pieces = (cost / 4).clamp(1, 4);
            plan.pieces += pieces;
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
                kernel: kernel(step.kind, step.operand, step.result),
                // Operands were placed above, and results before any step that reads them.
                args: args.map(|a| values[a as usize].place.unwrap_or(dst)),
                dst,
                round: (half && values[v].read).then_some(step.result),
                pieces: pieces as u16,
                sizes: [step.operand, step.result].map(|d| d.compute().size() as u8),
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
        for (o, &result) in results.iter().enumerate() {
            let v = &values[result as usize];
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

/// Rough cost in simple vector operations on four-byte elements; it only sizes chunks.
fn cost(step: &Instruction) -> usize {
    use UnaryOp as U;
    let Kind::Step(op) = step.kind else { return 2 };
    let class = match op {
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

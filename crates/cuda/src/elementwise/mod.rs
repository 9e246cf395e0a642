//! Element-wise jobs: a fused program, or one operation as a program of one step.
//!
//! [`emit`] writes the kernel for one kind of layouts; what kind it is, is decided here: contiguous
//! arrays in vectors of 16 bytes, rows with broadcast operands likewise, anything else an element a
//! thread.

mod emit;
mod ops;

pub(crate) use emit::{Access, Fused};

use crate::error::Result;
use crate::exec::{Exec, Plain};
use crate::kernel::{Args, Grid};
use crate::layout::{Axes, View, divisor, row_major};
use crate::source::Key;
use lazul_ir::{DType, Job, Operand, Step, StepOp, Tape, Target};
use smallvec::SmallVec;

/// Elements from which on an extra copy of an operand is worth its launch.
const LARGE: usize = 1 << 20;

/// One operation as a program.
pub(crate) fn single(exec: &Exec<'_>, op: StepOp, job: &Job<'_>) -> Result<()> {
    let inputs: Vec<DType> = job.inputs.iter().map(|i| i.dtype).collect();
    let (first, result) = (job.inputs[0].dtype, job.outputs[0].dtype);
    let operand = if op == StepOp::Select { result } else { first };
    let dst = inputs.len() as u16;
    let arg = |i: u16| if i < dst { i } else { 0 };
    let step = Step { op, operand, result, args: [0, arg(1), arg(2)], dst };
    let tape = Tape { inputs, steps: vec![step], outputs: vec![(dst, result)], registers: dst + 1 };
    run(exec, &tape, job.inputs, job.outputs)
}

/// A fused program.
pub(crate) fn run(
    exec: &Exec<'_>,
    tape: &Tape,
    inputs: &[Operand<'_>],
    outputs: &[Target<'_>],
) -> Result<()> {
    let shape = outputs[0].shape;
    if outputs[0].size() == 0 {
        return Ok(());
    }
    // A large operand that runs along another axis is turned first.
    let mut turned: SmallVec<[(usize, Plain<'_>); 2]> = SmallVec::new();
    for (k, input) in inputs.iter().enumerate() {
        if outputs[0].size() >= LARGE {
            let view = View::of(input);
            if crate::copy::is_crossed(&view) {
                turned.push((k, exec.plain(view, false)?));
            }
        }
    }
    let mut inputs: SmallVec<[Operand<'_>; 8]> = inputs.into();
    for (k, plain) in &turned {
        let view = &plain.view;
        inputs[*k] = Operand { ptr: view.ptr as *const u8, strides: &view.strides, ..inputs[*k] };
    }
    // The outputs take part in the merging, as one more operand: they are row-major.
    let row = row_major(shape);
    let mut strides: SmallVec<[&[isize]; 8]> = inputs.iter().map(|i| i.strides).collect();
    strides.push(&row);
    let axes = Axes::merge(shape, &strides);
    axes.pieces(&mut |axes, offsets| {
        let move_by = |ptr: u64, o: usize, dtype: DType| {
            ptr.wrapping_add_signed((offsets[o] * dtype.size() as isize) as i64)
        };
        let from: SmallVec<[u64; 8]> =
            inputs.iter().enumerate().map(|(k, i)| move_by(i.ptr as u64, k, i.dtype)).collect();
        let to: SmallVec<[u64; 4]> =
            outputs.iter().map(|o| move_by(o.ptr as u64, inputs.len(), o.dtype)).collect();
        piece(exec, tape, axes, &from, &to)
    })
}

fn piece(exec: &Exec<'_>, tape: &Tape, axes: &Axes, from: &[u64], to: &[u64]) -> Result<()> {
    let (rank, total) = (axes.rank(), axes.size());
    let inner = axes.shape[rank - 1];
    let step = |k: usize| axes.strides[k][rank - 1];
    let scalar = |k: usize| axes.strides[k].iter().all(|&s| s == 0);
    let vectors_ok = (0..from.len()).all(|k| matches!(step(k), 0 | 1))
        // Pieces of a huge output may lie apart; rows of it stay whole.
        && step(from.len()) == 1;
    let read = |k: usize| !scalar(k) && step(k) == 1;
    let vector = if vectors_ok {
        let sizes = (0..from.len())
            .filter(|&k| read(k))
            .map(|k| tape.inputs[k].size())
            .chain(tape.outputs.iter().map(|o| o.1.size()));
        let (smallest, largest) =
            sizes.fold((8, 1), |(low, high): (usize, usize), s| (low.min(s), high.max(s)));
        let mut n = (16 / smallest).min(32 / largest).max(1);
        let aligned = |n: usize| {
            let fits = |ptr: u64, size: usize| ptr.is_multiple_of((n * size).min(16) as u64);
            (rank == 1 || inner.is_multiple_of(n))
                && (0..from.len()).filter(|&k| read(k)).all(|k| {
                    let size = tape.inputs[k].size();
                    let outer = &axes.strides[k][..rank - 1];
                    fits(from[k], size)
                        && outer
                            .iter()
                            .all(|s| (s.unsigned_abs() * size).is_multiple_of((n * size).min(16)))
                })
                && to.iter().zip(&tape.outputs).all(|(&p, o)| fits(p, o.1.size()))
        };
        while n > 1 && !aligned(n) {
            n /= 2;
        }
        n
    } else {
        1
    };
    let access: SmallVec<[Access; 8]> = (0..from.len())
        .map(|k| match step(k) {
            _ if scalar(k) => Access::Scalar,
            0 => Access::Splat,
            1 => Access::Vector,
            _ => Access::Apart,
        })
        .collect();
    let vectors = match rank {
        1 => total.div_ceil(vector),
        _ => total / vector,
    };
    let ragged = rank == 1 && !total.is_multiple_of(vector);
    let fused = Fused { tape: tape.clone(), rank, vector, access, ragged };

    let mut args = Args::new();
    args.begin();
    match from {
        [] => {
            args.field(0u64);
        }
        _ => from.iter().for_each(|&p| {
            args.field(p);
        }),
    }
    to.iter().for_each(|&p| {
        args.field(p);
    });
    for k in 0..from.len().max(1) {
        for axis in 0..rank {
            let stride = axes.strides[k][axis];
            // The innermost axis counts vectors.
            let by = if axis == rank - 1 { vector as isize } else { 1 };
            args.field((stride * by) as i64);
        }
    }
    let size =
        |axis: usize| if axis == rank - 1 { (inner / vector).max(1) } else { axes.shape[axis] };
    (0..rank).for_each(|a| {
        args.field(size(a) as u32);
    });
    (0..rank).for_each(|a| {
        args.field(divisor(size(a)).0);
    });
    (0..rank).for_each(|a| {
        args.field(divisor(size(a)).1);
    });
    args.field(vectors as u32).field(total as u32);
    exec.launch(Key::Fused(Box::new(fused)), Grid::cover(vectors, emit::THREADS), &args)
}

//! What element-wise jobs and their neighbours take:
//! `cargo test --release -p lazul-cpu --lib speed -- --ignored --nocapture --test-threads=1`.

use crate::CpuBackend;
use crate::testing::{Rng, Tensor};
use lazul_ir::DType::{self, *};
use lazul_ir::{Axes, Backend, BinaryOp, Job, Prim, ReduceOp, ScanOp, Step, StepOp, Tape, Target};
use lazul_ir::{UnaryOp, Work};
use std::time::Instant;

/// Seconds of the fastest of several runs.
fn time(prim: &Prim, inputs: &[&Tensor], out: &mut Tensor) -> f64 {
    time_work(Work::Prim(prim), inputs, out)
}

fn time_work(work: Work<'_>, inputs: &[&Tensor], out: &mut Tensor) -> f64 {
    let operands: Vec<_> = inputs.iter().map(|t| t.operand()).collect();
    let targets: [Target<'_>; 1] = [out.target()];
    let job = Job { work, inputs: &operands, outputs: &targets };
    // SAFETY: tensors own memory of the stated extent.
    let once = || unsafe { CpuBackend.run(&job).unwrap() };
    let mut best = f64::INFINITY;
    let mut repeat = 1;
    for _ in 0..7 {
        let start = Instant::now();
        (0..repeat).for_each(|_| once());
        let t = start.elapsed().as_secs_f64() / repeat as f64;
        best = best.min(t);
        repeat = ((0.02 / t) as usize).clamp(1, 1_000_000);
    }
    best
}

fn report(name: &str, bytes: usize, seconds: f64) {
    println!("{name:<34} {:>9.2} GB/s {:>12.1} ns", bytes as f64 / seconds * 1e-9, seconds * 1e9);
}

/// `gelu(x * w + b)` as a program; constants are scalars.
fn gelu(dtype: DType) -> Tape {
    let step = |op, args, dst| Step { op, operand: dtype, result: dtype, args, dst };
    let (mul, add) = (StepOp::Binary(BinaryOp::Multiply), StepOp::Binary(BinaryOp::Add));
    Tape {
        inputs: vec![dtype; 6],
        steps: vec![
            step(mul, [0, 1, 0], 6),
            step(add, [6, 2, 0], 6),
            step(mul, [6, 3, 0], 7),
            step(StepOp::Unary(UnaryOp::Erf), [7, 7, 7], 7),
            step(add, [7, 4, 0], 7),
            step(mul, [6, 5, 0], 6),
            step(mul, [6, 7, 0], 6),
        ],
        outputs: vec![(6, dtype)],
        registers: 8,
    }
}

#[test]
#[ignore = "a measurement"]
fn speed() {
    let mut rng = Rng(1);
    println!("{:?}, {} threads", crate::isa::isa(), crate::pool::threads());
    for n in [16usize, 256, 4096, 1 << 24] {
        let a = rng.tensor(F32, &[n], -3.0, 3.0);
        let b = rng.tensor(F32, &[n], -3.0, 3.0);
        let s = rng.tensor(F32, &[], 1.0, 2.0).broadcast(&[n]);
        let mut o = Tensor::empty(F32, &[n]);
        let add = Prim::Binary(BinaryOp::Add);
        report(&format!("add f32 {n}"), 12 * n, time(&add, &[&a, &b], &mut o));
        report(&format!("add scalar f32 {n}"), 8 * n, time(&add, &[&a, &s], &mut o));
        for op in [
            UnaryOp::Exp,
            UnaryOp::Tanh,
            UnaryOp::Erf,
            UnaryOp::Log,
            UnaryOp::Sin,
            UnaryOp::Sigmoid,
            UnaryOp::Erfinv,
            UnaryOp::Sqrt,
        ] {
            let t = time(&Prim::Unary(op), &[&a], &mut o);
            report(&format!("{} f32 {n}", op.name()), 8 * n, t);
        }
        let pow = Prim::Binary(BinaryOp::Power);
        report(&format!("power f32 {n}"), 12 * n, time(&pow, &[&a, &b], &mut o));
        let (ha, hb) = (rng.tensor(BF16, &[n], -3.0, 3.0), rng.tensor(BF16, &[n], -3.0, 3.0));
        let mut ho = Tensor::empty(BF16, &[n]);
        report(&format!("add bf16 {n}"), 6 * n, time(&add, &[&ha, &hb], &mut ho));
        report(&format!("cast bf16 to f32 {n}"), 6 * n, time(&Prim::Cast, &[&ha], &mut o));
    }
    for dtype in [F32, BF16] {
        let tape = gelu(dtype);
        for n in [16usize, 4096, 1 << 24, 1 << 26] {
            let full: Vec<Tensor> = (0..3).map(|_| rng.tensor(dtype, &[n], -2.0, 2.0)).collect();
            let scalars: Vec<Tensor> =
                (0..3).map(|_| rng.tensor(dtype, &[], 0.4, 1.1).broadcast(&[n])).collect();
            let inputs: Vec<&Tensor> = full.iter().chain(&scalars).collect();
            let mut o = Tensor::empty(dtype, &[n]);
            let t = time_work(Work::Fused(&tape), &inputs, &mut o);
            report(&format!("fused gelu(x*w+b) {dtype} {n}"), 4 * dtype.size() * n, t);
        }
    }
    for (r, c) in [(64usize, 64), (512, 512), (4096, 4096)] {
        let n = r * c;
        let a = rng.tensor(F32, &[r, c], -3.0, 3.0);
        let t = a.transpose(&[1, 0]);
        let row = rng.tensor(F32, &[c], -3.0, 3.0).broadcast(&[r, c]);
        let column = rng.tensor(F32, &[r, 1], -3.0, 3.0).broadcast(&[r, c]);
        let mut o = Tensor::empty(F32, &[r, c]);
        let mut ot = Tensor::empty(F32, &[c, r]);
        let add = Prim::Binary(BinaryOp::Add);
        let name = |what: &str| format!("{what} f32 {r}x{c}");
        report(&name("copy"), 8 * n, time(&Prim::Copy, &[&a], &mut o));
        report(&name("transpose copy"), 8 * n, time(&Prim::Copy, &[&t], &mut ot));
        report(&name("add row"), 8 * n, time(&add, &[&a, &row], &mut o));
        report(&name("add column"), 8 * n, time(&add, &[&a, &column], &mut o));
        report(&name("add transposed"), 12 * n, time(&add, &[&a, &t], &mut o));
        let sum = |axes: &[u8]| Prim::Reduce { op: ReduceOp::Sum, axes: Axes::from_slice(axes) };
        report(
            &name("sum all"),
            4 * n,
            time(&sum(&[0, 1]), &[&a], &mut Tensor::empty(F32, &[1, 1])),
        );
        report(&name("sum 0"), 4 * n, time(&sum(&[0]), &[&a], &mut Tensor::empty(F32, &[1, c])));
        report(&name("sum 1"), 4 * n, time(&sum(&[1]), &[&a], &mut Tensor::empty(F32, &[r, 1])));
        let max = Prim::Reduce { op: ReduceOp::Max, axes: Axes::from_slice(&[1]) };
        report(&name("max 1"), 4 * n, time(&max, &[&a], &mut Tensor::empty(F32, &[r, 1])));
        let arg = |axis| Prim::ArgReduce { op: lazul_ir::ArgReduceOp::ArgMax, axis };
        report(&name("argmax 1"), 4 * n, time(&arg(1), &[&a], &mut Tensor::empty(U32, &[r, 1])));
        report(&name("argmax 0"), 4 * n, time(&arg(0), &[&a], &mut Tensor::empty(U32, &[1, c])));
        for axis in [0, 1] {
            let p = Prim::Scan { op: ScanOp::Sum, axis, reverse: false, inclusive: true };
            report(&name(&format!("cumsum {axis}")), 8 * n, time(&p, &[&a], &mut o));
        }
    }
    let n = 1 << 24;
    let a = rng.tensor(F32, &[n], -3.0, 3.0);
    let mut o = Tensor::empty(F32, &[n]);
    let p = Prim::Scan { op: ScanOp::Sum, axis: 0, reverse: false, inclusive: true };
    report("cumsum f32 16M", 8 * n, time(&p, &[&a], &mut o));
    let narrow = rng.tensor(F32, &[n / 4, 4], -3.0, 3.0);
    let sum = Prim::Reduce { op: ReduceOp::Sum, axes: Axes::from_slice(&[1]) };
    report("sum 1 f32 4Mx4", 4 * n, time(&sum, &[&narrow], &mut Tensor::empty(F32, &[n / 4, 1])));
    let half = rng.tensor(BF16, &[4096, 4096], -3.0, 3.0);
    report(
        "sum 1 bf16 4096x4096",
        2 * n,
        time(&sum, &[&half], &mut Tensor::empty(BF16, &[4096, 1])),
    );
    for dtype in [DType::U8, BF16, F32, F64] {
        let x = rng.tensor(dtype, &[3000, 4000], 0.0, 9.0);
        let mut y = Tensor::empty(dtype, &[4000, 3000]);
        let t = time(&Prim::Copy, &[&x.transpose(&[1, 0])], &mut y);
        report(&format!("transpose {dtype} 3000x4000"), 2 * dtype.size() * 12_000_000, t);
    }
}

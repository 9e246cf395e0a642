//! Times of what matters, each beside the device's limit as measured in the same run.
//!
//! Inputs are random. Short jobs are recorded in a graph, over several sets of operands that together
//! are larger than the cache, and the graph's time is divided; long ones are timed one by one with
//! events. The number is the median of the repetitions.

use crate::tensor::{Rng, row_major};
use lazul_cuda::{Device, RunError, Stream};
use lazul_ir::{
    Axes, BinaryOp, Buffer, DType, F32Bits, FastOp, Job, OpError, Operand, Prim, Quantization,
    QuantizedOp, ReduceOp, ScanOp, Step, StepOp, Tape, Target, UnaryOp, Work,
};
use std::time::Instant;

/// An array on the device.
struct Array {
    _buffer: Buffer,
    ptr: *mut u8,
    dtype: DType,
    shape: Vec<usize>,
    strides: Vec<isize>,
}

impl Array {
    fn operand(&self) -> Operand<'_> {
        Operand { ptr: self.ptr, dtype: self.dtype, shape: &self.shape, strides: &self.strides }
    }

    fn target(&self) -> Target<'_> {
        Target { ptr: self.ptr, dtype: self.dtype, shape: &self.shape }
    }

    fn seen(&self, shape: &[usize], strides: &[isize]) -> Array {
        let (_buffer, ptr, dtype) = (self._buffer.clone(), self.ptr, self.dtype);
        Array { _buffer, ptr, dtype, shape: shape.into(), strides: strides.into() }
    }
}

struct Bench {
    device: &'static Device,
    filter: String,
    /// Bytes a second of a large copy, read and written.
    copy: f64,
    /// Operations a second of the largest bf16 product.
    product: f64,
    lines: Vec<String>,
    seed: u64,
}

type Run<'a> = &'a mut dyn FnMut(&Stream, usize) -> Result<(), RunError>;

fn job(stream: &Stream, work: Work<'_>, inputs: &[&Array], output: &Array) -> Result<(), RunError> {
    let inputs: Vec<Operand<'_>> = inputs.iter().map(|a| a.operand()).collect();
    // SAFETY: arrays own memory of the stated extent and outlive the measurement.
    unsafe { stream.enqueue(&Job { work, inputs: &inputs, outputs: &[output.target()] }) }
}

impl Bench {
    fn empty(&self, dtype: DType, shape: &[usize]) -> Result<Array, OpError> {
        let buffer = self.device.alloc(shape.iter().product::<usize>() * dtype.size())?;
        let ptr = buffer.ptr();
        Ok(Array { _buffer: buffer, ptr, dtype, shape: shape.into(), strides: row_major(shape) })
    }

    /// Random values around zero, made on the device: bits to floats in [-1, 1), then the dtype.
    fn random(&mut self, dtype: DType, shape: &[usize]) -> Result<Array, RunError> {
        let stream = self.device.stream();
        self.seed += 1;
        let mut rng = Rng(self.seed);
        let key = self.empty(DType::U32, &[2])?;
        // SAFETY: eight bytes.
        unsafe { stream.upload(key.ptr, &rng.bits().to_le_bytes())? };
        let out = self.empty(dtype, shape)?;
        let n: usize = shape.iter().product();
        if matches!(dtype, DType::U32) {
            job(stream, Work::Prim(&Prim::RandomBits), &[&key], &out.seen(&[n], &[1]))?;
            stream.wait()?;
            return Ok(out);
        }
        // Pieces, so that the bits need little memory.
        let piece = n.min(1 << 24);
        let bits = self.empty(DType::U32, &[piece])?;
        job(stream, Work::Prim(&Prim::RandomBits), &[&key], &bits)?;
        let scale = self.empty(DType::F32, &[1])?;
        // SAFETY: four bytes.
        unsafe { stream.upload(scale.ptr, &(2f32 / 4294967296.0).to_le_bytes())? };
        let one = self.empty(DType::F32, &[1])?;
        // SAFETY: as above.
        unsafe { stream.upload(one.ptr, &1f32.to_le_bytes())? };
        let step = |op, operand, result, args, dst| Step { op, operand, result, args, dst };
        let tape = Tape {
            inputs: vec![DType::U32, DType::F32, DType::F32],
            steps: vec![
                step(StepOp::Cast, DType::U32, DType::F32, [0; 3], 3),
                step(StepOp::Binary(BinaryOp::Multiply), DType::F32, DType::F32, [3, 1, 3], 3),
                step(StepOp::Binary(BinaryOp::Subtract), DType::F32, DType::F32, [3, 2, 3], 3),
                step(StepOp::Cast, DType::F32, dtype, [3; 3], 4),
            ],
            outputs: vec![(4, dtype)],
            registers: 5,
        };
        let mut at = 0;
        while at < n {
            let count = piece.min(n - at);
            let mut part = out.seen(&[count], &[1]);
            part.ptr = part.ptr.wrapping_add(at * dtype.size());
            let inputs = [
                &bits.seen(&[count], &[1]),
                &scale.seen(&[count], &[0]),
                &one.seen(&[count], &[0]),
            ];
            job(stream, Work::Fused(&tape), &inputs, &part)?;
            at += count;
        }
        stream.wait()?;
        Ok(out)
    }

    /// Seconds a call, timed one by one.
    fn long(&self, run: Run<'_>) -> Result<f64, RunError> {
        let stream = self.device.stream();
        let mut times = Vec::new();
        for i in 0..3 {
            run(stream, i)?;
        }
        stream.wait()?;
        for i in 0..12 {
            let start = stream.record()?;
            run(stream, i)?;
            let end = stream.record()?;
            stream.wait()?;
            times.push(end.seconds_since(&start)?);
        }
        times.sort_by(f64::total_cmp);
        Ok(times[times.len() / 2])
    }

    /// Seconds a call, of `count` recorded in a graph.
    fn short(&self, count: usize, run: Run<'_>) -> Result<f64, RunError> {
        let stream = self.device.stream();
        for i in 0..2 {
            run(stream, i)?;
        }
        stream.wait()?;
        let mut graph =
            stream.record_graph::<RunError>(|| (0..count).try_for_each(|i| run(stream, i)))?;
        let mut times = Vec::new();
        for i in 0..12 {
            let start = stream.record()?;
            stream.replay(&mut graph)?;
            let end = stream.record()?;
            stream.wait()?;
            if i >= 2 {
                times.push(end.seconds_since(&start)?);
            }
        }
        times.sort_by(f64::total_cmp);
        Ok(times[times.len() / 2] / count as f64)
    }

    fn wants(&self, name: &str) -> bool {
        name.contains(&self.filter)
    }

    fn line(&mut self, name: &str, seconds: f64, rate: String, share: f64) {
        let share = if share > 0.0 { format!("{:5.1}%", 100.0 * share) } else { "     -".into() };
        let line = format!("{name:<58} {:>10.2} us  {rate:>16}  {share}", seconds * 1e6);
        println!("{line}");
        self.lines.push(line);
    }

    /// A job bound by memory: bytes read and written.
    fn bytes(&mut self, name: &str, bytes: f64, seconds: f64) {
        let rate = bytes / seconds;
        let share = if self.copy > 0.0 { rate / self.copy } else { 1.0 };
        self.line(name, seconds, format!("{:.0} GB/s", rate * 1e-9), share);
    }

    /// A job bound by arithmetic.
    fn operations(&mut self, name: &str, operations: f64, seconds: f64) {
        let rate = operations / seconds;
        let share = if self.product > 0.0 { rate / self.product } else { 0.0 };
        self.line(name, seconds, format!("{:.1} TFLOP/s", rate * 1e-12), share);
    }
}

/// Runs the timings whose name contains `filter`.
pub(crate) fn run(device: &'static Device, filter: &str) {
    let mut bench = Bench {
        device,
        filter: filter.into(),
        copy: 0.0,
        product: 0.0,
        lines: Vec::new(),
        seed: 7,
    };
    let parts: [(&str, fn(&mut Bench) -> Result<(), RunError>); 9] = [
        ("limits", limits),
        ("elementwise", elementwise),
        ("rows", rows),
        ("matmul", matmul),
        ("quantized", quantized),
        ("attention", attention),
        ("launches", launches),
        ("moves", moves),
        ("transfers", transfers),
    ];
    for (name, part) in parts {
        let start = Instant::now();
        if let Err(e) = part(&mut bench) {
            println!("FAILED {name}: {e}");
        }
        println!("  -- {name}: {:.1} s", start.elapsed().as_secs_f64());
    }
}

fn limits(b: &mut Bench) -> Result<(), RunError> {
    let n = 1 << 29;
    let from = b.random(DType::BF16, &[n])?;
    let to = b.empty(DType::BF16, &[n])?;
    let seconds = b.long(&mut |s, _| job(s, Work::Prim(&Prim::Copy), &[&from], &to))?;
    b.copy = 4.0 * n as f64 / seconds;
    b.bytes("limit: copy of 1 GiB", 4.0 * n as f64, seconds);
    let n = 8192;
    let x = b.random(DType::BF16, &[n, n])?;
    let y = b.random(DType::BF16, &[n, n])?;
    let z = b.empty(DType::BF16, &[n, n])?;
    let seconds = b.long(&mut |s, _| job(s, Work::Prim(&Prim::Matmul), &[&x, &y], &z))?;
    b.product = 2.0 * (n as f64).powi(3) / seconds;
    b.operations("limit: matmul bf16 8192^3 (cuBLASLt)", 2.0 * (n as f64).powi(3), seconds);
    Ok(())
}

fn elementwise(b: &mut Bench) -> Result<(), RunError> {
    let n = 16384;
    for dtype in [DType::BF16, DType::F16, DType::F32] {
        if !b.wants("elementwise") {
            return Ok(());
        }
        let d = dtype;
        let step = |op, args, dst| Step { op, operand: d, result: d, args, dst };
        let (mul, add) = (StepOp::Binary(BinaryOp::Multiply), StepOp::Binary(BinaryOp::Add));
        let tape = Tape {
            inputs: vec![d; 6],
            steps: vec![
                step(mul, [0, 1, 0], 6),
                step(add, [6, 2, 6], 6),
                step(mul, [6, 3, 6], 7),
                step(StepOp::Unary(UnaryOp::Erf), [7, 7, 7], 7),
                step(add, [7, 4, 7], 7),
                step(mul, [6, 7, 6], 7),
                step(mul, [7, 5, 7], 7),
            ],
            outputs: vec![(7, d)],
            registers: 8,
        };
        let x = b.random(d, &[n, n])?;
        let row = b.random(d, &[n])?;
        let out = b.empty(d, &[n, n])?;
        let one = b.random(d, &[1])?;
        let one = one.seen(&[n, n], &[0, 0]);
        let w = row.seen(&[n, n], &[0, 1]);
        let total = (n * n * d.size()) as f64;
        let seconds =
            b.long(&mut |s, _| job(s, Work::Fused(&tape), &[&x, &w, &w, &one, &one, &one], &out))?;
        b.bytes(&format!("gelu(x*w+b) {d} 268M, w and b rows"), 2.0 * total, seconds);
        let (w, c) = (b.random(d, &[n, n])?, b.random(d, &[n, n])?);
        let seconds =
            b.long(&mut |s, _| job(s, Work::Fused(&tape), &[&x, &w, &c, &one, &one, &one], &out))?;
        b.bytes(&format!("gelu(x*w+b) {d} 268M, w and b whole"), 4.0 * total, seconds);
        let seconds =
            b.long(&mut |s, _| job(s, Work::Prim(&Prim::Binary(BinaryOp::Add)), &[&x, &w], &out))?;
        b.bytes(&format!("add {d} 268M"), 3.0 * total, seconds);
        let seconds =
            b.long(&mut |s, _| job(s, Work::Prim(&Prim::Unary(UnaryOp::Sigmoid)), &[&x], &out))?;
        b.bytes(&format!("sigmoid {d} 268M"), 2.0 * total, seconds);
        let t = x.seen(&[n, n], &[1, n as isize]);
        let seconds =
            b.long(&mut |s, _| job(s, Work::Prim(&Prim::Binary(BinaryOp::Add)), &[&t, &w], &out))?;
        b.bytes(&format!("add {d} 268M, one transposed"), 3.0 * total, seconds);
    }
    Ok(())
}

fn rows(b: &mut Bench) -> Result<(), RunError> {
    if !b.wants("rows") {
        return Ok(());
    }
    let n = 8192;
    let eps = F32Bits::new(1e-5);
    for dtype in [DType::BF16, DType::F32] {
        let x = b.random(dtype, &[n, n])?;
        let w = b.random(dtype, &[n])?;
        let y = b.empty(dtype, &[n, n])?;
        let column = b.empty(dtype, &[n, 1])?;
        let row = b.empty(dtype, &[1, n])?;
        let all = b.empty(dtype, &[1, 1])?;
        let bytes = (n * n * dtype.size()) as f64;
        let axes = |list: &[u8]| -> Axes { list.iter().copied().collect() };
        let sum = |list: &[u8]| Prim::Reduce { op: ReduceOp::Sum, axes: axes(list) };
        let norm = Prim::Fast(FastOp::LayerNorm { eps, weight: true, bias: true });
        let index = b.empty(DType::U32, &[n, 1])?;
        let cases: Vec<(&str, Prim, Vec<&Array>, &Array, f64)> = vec![
            ("softmax", Prim::Fast(FastOp::Softmax), vec![&x], &y, 2.0 * bytes),
            ("rms_norm", Prim::Fast(FastOp::RmsNorm { eps }), vec![&x, &w], &y, 2.0 * bytes),
            ("layer_norm", norm, vec![&x, &w, &w], &y, 2.0 * bytes),
            ("logsumexp", Prim::Fast(FastOp::LogSumExp), vec![&x], &column, bytes),
            ("sum along rows", sum(&[1]), vec![&x], &column, bytes),
            ("sum along columns", sum(&[0]), vec![&x], &row, bytes),
            ("sum of all", sum(&[0, 1]), vec![&x], &all, bytes),
            (
                "argmax along rows",
                Prim::ArgReduce { op: lazul_ir::ArgReduceOp::ArgMax, axis: 1 },
                vec![&x],
                &index,
                bytes,
            ),
        ];
        for (name, prim, inputs, output, bytes) in cases {
            let seconds = b.long(&mut |s, _| job(s, Work::Prim(&prim), &inputs, output))?;
            b.bytes(&format!("{name} {dtype} 8192x8192"), bytes, seconds);
        }
    }
    for (rows, len) in [(1usize, 128256usize), (32, 32000), (65536, 128), (8, 4096)] {
        let x = b.random(DType::F32, &[rows, len])?;
        let y = b.empty(DType::F32, &[rows, len])?;
        let i = b.empty(DType::U32, &[rows, 1])?;
        let bytes = (rows * len * 4) as f64;
        let prim = Prim::Fast(FastOp::Softmax);
        let seconds = b.short(20, &mut |s, _| job(s, Work::Prim(&prim), &[&x], &y))?;
        b.bytes(&format!("softmax float32 {rows}x{len}, in cache"), 2.0 * bytes, seconds);
        let prim = Prim::ArgReduce { op: lazul_ir::ArgReduceOp::ArgMax, axis: 1 };
        let seconds = b.short(20, &mut |s, _| job(s, Work::Prim(&prim), &[&x], &i))?;
        b.bytes(&format!("argmax float32 {rows}x{len}, in cache"), bytes, seconds);
    }
    Ok(())
}

fn matmul(b: &mut Bench) -> Result<(), RunError> {
    if !b.wants("matmul") {
        return Ok(());
    }
    let prim = Prim::Matmul;
    for (dtype, n) in [
        (DType::F16, 8192),
        (DType::BF16, 4096),
        (DType::F32, 4096),
        (DType::F64, 4096),
        (DType::C64, 2048),
        (DType::I32, 2048),
    ] {
        let x = if dtype == DType::C64 {
            b.random(DType::F32, &[n, 2 * n])?
        } else {
            b.random(dtype, &[n, n])?
        };
        let x = Array { dtype, shape: vec![n, n], strides: row_major(&[n, n]), ..x };
        let z = b.empty(dtype, &[n, n])?;
        let seconds = b.long(&mut |s, _| job(s, Work::Prim(&prim), &[&x, &x], &z))?;
        let each = if dtype == DType::C64 { 8.0 } else { 2.0 };
        b.operations(&format!("matmul {dtype} {n}^3"), each * (n as f64).powi(3), seconds);
    }
    // Rows times weights as models store them, (n, k).
    for (k, n) in [(4096usize, 11008usize), (11008, 4096)] {
        let sets = 8;
        let weights: Vec<Array> =
            (0..sets).map(|_| b.random(DType::BF16, &[n, k])).collect::<Result<_, _>>()?;
        for m in [1usize, 4, 8, 32] {
            let x = b.random(DType::BF16, &[m, k])?;
            let z = b.empty(DType::BF16, &[m, n])?;
            let t: Vec<Array> = weights.iter().map(|w| w.seen(&[k, n], &[1, k as isize])).collect();
            let seconds =
                b.short(4 * sets, &mut |s, i| job(s, Work::Prim(&prim), &[&x, &t[i % sets]], &z))?;
            b.bytes(
                &format!("matmul bf16 {m}x{k} by {n} stored rows"),
                (n * k * 2) as f64,
                seconds,
            );
        }
    }
    Ok(())
}

fn quantized(b: &mut Bench) -> Result<(), RunError> {
    if !b.wants("quantized") {
        return Ok(());
    }
    for (bits, k, n) in
        [(4u32, 4096usize, 11008usize), (4, 11008, 4096), (4, 4096, 4096), (8, 4096, 11008)]
    {
        let q = Quantization::Affine { group_size: 64, bits };
        let prim = Prim::Quantized(QuantizedOp::Matmul { quantization: q, transpose: true });
        let sets = 12;
        let mut parts = Vec::new();
        for _ in 0..sets {
            let codes = b.random(DType::U32, &[n, k * bits as usize / 32])?;
            let scales = b.random(DType::BF16, &[n, k / 64])?;
            let biases = b.random(DType::BF16, &[n, k / 64])?;
            parts.push((codes, scales, biases));
        }
        let bytes = (n * k * bits as usize / 8 + n * k / 64 * 4) as f64;
        for m in [1usize, 2, 4, 8, 16, 32, 64] {
            let x = b.random(DType::BF16, &[m, k])?;
            let z = b.empty(DType::BF16, &[m, n])?;
            let seconds = b.short(2 * sets, &mut |s, i| {
                let (c, sc, bi) = &parts[i % sets];
                job(s, Work::Prim(&prim), &[&x, c, sc, bi], &z)
            })?;
            b.bytes(&format!("quantized matmul {bits} bits {m}x{k} by {n}"), bytes, seconds);
        }
        for m in [512usize, 2048] {
            let x = b.random(DType::BF16, &[m, k])?;
            let z = b.empty(DType::BF16, &[m, n])?;
            let (c, sc, bi) = &parts[0];
            let seconds = b.long(&mut |s, _| job(s, Work::Prim(&prim), &[&x, c, sc, bi], &z))?;
            b.operations(
                &format!("quantized matmul {bits} bits {m}x{k} by {n}"),
                2.0 * (m * k * n) as f64,
                seconds,
            );
        }
    }
    Ok(())
}

fn attention(b: &mut Bench) -> Result<(), RunError> {
    if !b.wants("attention") {
        return Ok(());
    }
    let op = |causal| {
        let scale = F32Bits::new(0.088388);
        Prim::Fast(FastOp::Attention {
            scale,
            causal,
            window: 0,
            mask: false,
            sinks: false,
            length: false,
        })
    };
    for (batch, h, hk, t) in [
        (1usize, 32usize, 8usize, 4096usize),
        (8, 32, 8, 4096),
        (1, 32, 32, 384),
        (8, 32, 32, 384),
        (32, 32, 32, 384),
        (1, 32, 8, 384),
    ] {
        let shape = [batch, hk, t, 128];
        let one = batch * hk * t * 256;
        let sets = ((256 << 20) / (2 * one)).clamp(1, 24);
        let mut kv = Vec::new();
        for _ in 0..sets {
            kv.push((b.random(DType::BF16, &shape)?, b.random(DType::BF16, &shape)?));
        }
        let q = b.random(DType::BF16, &[batch, h, 1, 128])?;
        let z = b.empty(DType::BF16, &[batch, h, 1, 128])?;
        let prim = op(true);
        let seconds = b.short(sets.max(8), &mut |s, i| {
            let (k, v) = &kv[i % sets];
            job(s, Work::Prim(&prim), &[&q, k, v], &z)
        })?;
        b.bytes(
            &format!("attention decode b{batch} h{h}/{hk} t{t} d128"),
            2.0 * one as f64,
            seconds,
        );
    }
    for (batch, h, hk, t, d, causal) in [
        (1usize, 32usize, 32usize, 2048usize, 128usize, true),
        (8, 32, 32, 2048, 128, true),
        (8, 32, 8, 2048, 128, true),
        (8, 32, 32, 2048, 64, true),
        (4, 16, 16, 2048, 128, false),
        (1, 32, 32, 512, 128, true),
    ] {
        let q = b.random(DType::BF16, &[batch, h, t, d])?;
        let k = b.random(DType::BF16, &[batch, hk, t, d])?;
        let v = b.random(DType::BF16, &[batch, hk, t, d])?;
        let z = b.empty(DType::BF16, &[batch, h, t, d])?;
        let prim = op(causal);
        let seconds = b.long(&mut |s, _| job(s, Work::Prim(&prim), &[&q, &k, &v], &z))?;
        let operations = 4.0 * (batch * h * t * t * d) as f64 * if causal { 0.5 } else { 1.0 };
        b.operations(
            &format!("attention prefill b{batch} h{h}/{hk} t{t} d{d} causal {causal}"),
            operations,
            seconds,
        );
    }
    Ok(())
}

fn launches(b: &mut Bench) -> Result<(), RunError> {
    if !b.wants("launches") {
        return Ok(());
    }
    let x = b.random(DType::F32, &[16])?;
    let prim = Prim::Binary(BinaryOp::Add);
    let mut run = |s: &Stream, _: usize| job(s, Work::Prim(&prim), &[&x, &x], &x);
    let seconds = b.short(1000, &mut run)?;
    b.line("1,000 dependent tiny operations in a graph, each", seconds, String::new(), 0.0);
    let stream = b.device.stream();
    let mut times = Vec::new();
    for _ in 0..10 {
        let start = Instant::now();
        (0..1000).try_for_each(|i| run(stream, i))?;
        let enqueued = start.elapsed().as_secs_f64();
        stream.wait()?;
        times.push((start.elapsed().as_secs_f64(), enqueued));
    }
    times.sort_by(|a, b| a.0.total_cmp(&b.0));
    b.line("the same one by one, each", times[5].0 / 1000.0, String::new(), 0.0);
    b.line("  of which the caller's", times[5].1 / 1000.0, String::new(), 0.0);
    let mut times = Vec::new();
    for i in 0..200 {
        let start = Instant::now();
        run(stream, i)?;
        stream.wait()?;
        times.push(start.elapsed().as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    b.line("one operation and a wait", times[100], String::new(), 0.0);
    let start = Instant::now();
    for _ in 0..1000 {
        let _buffer = b.device.alloc(1 << 20)?;
    }
    stream.wait()?;
    b.line("alloc and free of 1 MiB", start.elapsed().as_secs_f64() / 1000.0, String::new(), 0.0);
    Ok(())
}

fn moves(b: &mut Bench) -> Result<(), RunError> {
    if !b.wants("moves") {
        return Ok(());
    }
    let n = 8192;
    for dtype in [DType::BF16, DType::F32] {
        let x = b.random(dtype, &[n, n])?;
        let y = b.empty(dtype, &[n, n])?;
        let t = x.seen(&[n, n], &[1, n as isize]);
        let bytes = 2.0 * (n * n * dtype.size()) as f64;
        let seconds = b.long(&mut |s, _| job(s, Work::Prim(&Prim::Copy), &[&t], &y))?;
        b.bytes(&format!("transpose {dtype} 8192x8192"), bytes, seconds);
        let h = x.seen(
            &[4, 32, 2048, n * n / (4 * 32 * 2048)],
            &[(n * n / 4) as isize, 256, 32 * 256, 1],
        );
        let out = y.seen(&h.shape.clone(), &row_major(&h.shape));
        let seconds = b.long(&mut |s, _| job(s, Work::Prim(&Prim::Copy), &[&h], &out))?;
        b.bytes(&format!("heads to the front {dtype} (4,2048,32,256)"), bytes, seconds);
        let index = b.random(DType::U32, &[n])?;
        let mask = Step {
            op: StepOp::Binary(BinaryOp::Remainder),
            operand: DType::U32,
            result: DType::U32,
            args: [0, 1, 0],
            dst: 2,
        };
        let tape = Tape {
            inputs: vec![DType::U32; 2],
            steps: vec![mask],
            outputs: vec![(2, DType::U32)],
            registers: 3,
        };
        let limit = b.empty(DType::U32, &[1])?;
        // SAFETY: four bytes.
        unsafe { b.device.stream().upload(limit.ptr, &(n as u32).to_le_bytes())? };
        job(b.device.stream(), Work::Fused(&tape), &[&index, &limit.seen(&[n], &[0])], &index)?;
        let axes: Axes = [0u8].into_iter().collect();
        let gather = Prim::Gather { axes: axes.clone() };
        let seconds = b.long(&mut |s, _| job(s, Work::Prim(&gather), &[&x, &index], &y))?;
        b.bytes(&format!("take {dtype} 8192 of 8192 rows"), bytes, seconds);
        let scatter = Prim::Scatter { op: lazul_ir::ScatterOp::Add, axes };
        let seconds = b.long(&mut |s, _| job(s, Work::Prim(&scatter), &[&y, &index, &x], &y))?;
        b.bytes(&format!("scatter-add {dtype} 8192 of 8192 rows"), 1.5 * bytes, seconds);
        let scan = Prim::Scan { op: ScanOp::Sum, axis: 1, reverse: false, inclusive: true };
        let seconds = b.long(&mut |s, _| job(s, Work::Prim(&scan), &[&x], &y))?;
        b.bytes(&format!("cumsum {dtype} 8192x8192 along rows"), bytes, seconds);
        let scan = Prim::Scan { op: ScanOp::Sum, axis: 0, reverse: false, inclusive: true };
        let (flat, out) = (x.seen(&[n * n], &[1]), y.seen(&[n * n], &[1]));
        let seconds = b.long(&mut |s, _| job(s, Work::Prim(&scan), &[&flat], &out))?;
        b.bytes(&format!("cumsum {dtype} 67M"), bytes, seconds);
    }
    let x = b.random(DType::F32, &[1 << 20])?;
    let i = b.empty(DType::U32, &[1 << 20])?;
    let seconds = b.long(&mut |s, _| job(s, Work::Prim(&Prim::ArgSort { axis: 0 }), &[&x], &i))?;
    b.line("argsort float32 1M", seconds, String::new(), 0.0);
    let x = b.random(DType::F32, &[32, 128256])?;
    let i = b.empty(DType::U32, &[32, 128256])?;
    let seconds = b.long(&mut |s, _| job(s, Work::Prim(&Prim::ArgSort { axis: 1 }), &[&x], &i))?;
    b.line("argsort float32 32x128256", seconds, String::new(), 0.0);
    let key = b.random(DType::U32, &[2])?;
    let out = b.empty(DType::U32, &[1 << 28])?;
    let seconds = b.long(&mut |s, _| job(s, Work::Prim(&Prim::RandomBits), &[&key], &out))?;
    b.bytes("random bits 1 GiB", (1u64 << 30) as f64, seconds);
    let heads = b.random(DType::BF16, &[1, 32, 2048, 128])?;
    let out = b.empty(DType::BF16, &[1, 32, 2048, 128])?;
    let offset = b.empty(DType::I32, &[1])?;
    // SAFETY: four bytes.
    unsafe { b.device.stream().upload(offset.ptr, &5i32.to_le_bytes())? };
    let rope = Prim::Fast(FastOp::Rope {
        dims: 128,
        traditional: false,
        base: F32Bits::new(10000.0),
        scale: F32Bits::new(1.0),
        freqs: false,
    });
    let seconds = b.short(20, &mut |s, _| job(s, Work::Prim(&rope), &[&heads, &offset], &out))?;
    b.bytes("rope bf16 (1,32,2048,128), in cache", 2.0 * (32 * 2048 * 256) as f64, seconds);
    let (one, out) = (
        heads.seen(&[1, 32, 1, 128], &[0, 128, 128, 1]),
        out.seen(&[1, 32, 1, 128], &[0, 128, 128, 1]),
    );
    let seconds = b.short(50, &mut |s, _| job(s, Work::Prim(&rope), &[&one, &offset], &out))?;
    b.line("rope bf16 (1,32,1,128)", seconds, String::new(), 0.0);
    Ok(())
}

fn transfers(b: &mut Bench) -> Result<(), RunError> {
    if !b.wants("transfers") {
        return Ok(());
    }
    let stream = b.device.stream();
    let n = 1usize << 30;
    let buffer = b.device.alloc(n)?;
    let mut host = vec![1u8; n];
    for _ in 0..2 {
        let start = Instant::now();
        // SAFETY: a buffer of that size.
        unsafe { stream.upload(buffer.ptr(), &host)? };
        stream.wait()?;
        let up = start.elapsed().as_secs_f64();
        let start = Instant::now();
        // SAFETY: as above.
        unsafe { stream.download(&mut host, buffer.ptr())? };
        let down = start.elapsed().as_secs_f64();
        b.line(
            "upload of 1 GiB of ordinary memory",
            up,
            format!("{:.1} GB/s", n as f64 / up * 1e-9),
            0.0,
        );
        b.line("download of 1 GiB", down, format!("{:.1} GB/s", n as f64 / down * 1e-9), 0.0);
    }
    let mut pinned = lazul_cuda::Pinned::new(b.device, n)?;
    let seconds = b.long(&mut |s, _| {
        // SAFETY: the pinned memory lives until the stream was waited for.
        Ok(unsafe { s.upload_pinned(buffer.ptr(), &pinned) }?)
    })?;
    b.line(
        "upload of 1 GiB of pinned memory",
        seconds,
        format!("{:.1} GB/s", n as f64 / seconds * 1e-9),
        0.0,
    );
    let seconds = b.long(&mut |s, _| {
        // SAFETY: as above.
        Ok(unsafe { s.download_pinned(&mut pinned, buffer.ptr()) }?)
    })?;
    b.line(
        "download of 1 GiB to pinned memory",
        seconds,
        format!("{:.1} GB/s", n as f64 / seconds * 1e-9),
        0.0,
    );
    Ok(())
}

//! What is no single job: faults, exhausted memory, graphs, arrays of more than 2^31 elements, streams.

use crate::tensor::Tensor;
use lazul_cpu::CpuBackend;
use lazul_cuda::{Device, RunError, Stream};
use lazul_ir::{
    Axes, Backend, BinaryOp, Buffer, DType, ErrorKind, Job, OpError, Operand, Prim, ReduceOp,
    Scalar, ScatterOp, Target, UnaryOp, Work,
};

type Outcome = Result<(), String>;

/// Runs all of them; prints those that fail.
pub(crate) fn run(device: &'static Device) -> bool {
    let tests: [(&str, fn(&'static Device) -> Outcome); 6] = [
        ("indices out of bounds are errors, with the CPU's words", faults),
        ("exhausted memory is an error, and passes", memory),
        ("a recorded graph replays", graph),
        ("arrays of more than 2^31 elements", large),
        ("streams wait for events", streams),
        ("large copies arrive whole, and are counted", copies),
    ];
    let mut good = true;
    for (name, test) in tests {
        match test(device) {
            Ok(()) => println!("ok: {name}"),
            Err(why) => {
                good = false;
                println!("FAILED: {name}: {why}");
            }
        }
    }
    good
}

fn text(e: impl std::fmt::Display) -> String {
    e.to_string()
}

fn upload(device: &'static Device, t: &Tensor) -> Result<Buffer, OpError> {
    let bytes = t.memory.len() * 8;
    let buffer = device.alloc(bytes)?;
    // SAFETY: the tensor's memory, and a buffer of that size.
    unsafe {
        let host = std::slice::from_raw_parts(t.memory.as_ptr().cast(), bytes);
        device.stream().upload(buffer.ptr(), host)?;
    }
    Ok(buffer)
}

fn enqueue(
    stream: &Stream,
    prim: &Prim,
    inputs: &[Operand<'_>],
    output: Target<'_>,
) -> Result<(), RunError> {
    // SAFETY: callers pass buffers of the stated extent, which live until the stream was waited for.
    unsafe { stream.enqueue(&Job { work: Work::Prim(prim), inputs, outputs: &[output] }) }
}

fn faults(device: &'static Device) -> Outcome {
    let axes: Axes = [0u8].into_iter().collect();
    let src = Tensor::from_f64(DType::F32, &[5, 4], |i| i as f64);
    let bad = Tensor::from_f64(DType::I32, &[3], |i| [1.0, 7.0, 2.0][i]);
    let bad_axis = Tensor::from_f64(DType::I64, &[1, 4], |i| [0.0, -6.0, 1.0, 2.0][i]);
    let start = Tensor::from_f64(DType::I32, &[1], |_| 4.0);
    let updates = Tensor::from_f64(DType::F32, &[3, 4], |_| 1.0);
    let row = Tensor::from_f64(DType::F32, &[1, 4], |_| 1.0);
    let two = Tensor::from_f64(DType::F32, &[2, 4], |_| 1.0);
    let cases: Vec<(Prim, Vec<&Tensor>, Vec<usize>)> = vec![
        (Prim::Gather { axes: axes.clone() }, vec![&src, &bad], vec![3, 4]),
        (Prim::GatherAxis { axis: 0 }, vec![&src, &bad_axis], vec![1, 4]),
        (
            Prim::Scatter { op: ScatterOp::Add, axes: axes.clone() },
            vec![&src, &bad, &updates],
            vec![5, 4],
        ),
        (
            Prim::ScatterAxis { op: ScatterOp::Assign, axis: 0 },
            vec![&src, &bad_axis, &row],
            vec![5, 4],
        ),
        (Prim::DynamicSlice { axes: axes.clone() }, vec![&src, &start], vec![2, 4]),
        (Prim::DynamicSliceUpdate { axes }, vec![&src, &two, &start], vec![5, 4]),
    ];
    for (prim, inputs, shape) in cases {
        let mut out = Tensor::from_f64(DType::F32, &shape, |i| i as f64);
        let operands: Vec<Operand<'_>> = inputs.iter().map(|t| t.operand()).collect();
        let target =
            Target { ptr: out.memory.as_mut_ptr().cast(), dtype: DType::F32, shape: &shape };
        let job = Job { work: Work::Prim(&prim), inputs: &operands, outputs: &[target] };
        // SAFETY: tensors own their memory.
        let want = unsafe { CpuBackend.run(&job) }.err().ok_or("the CPU saw nothing")?;
        let buffers: Vec<Buffer> =
            inputs.iter().map(|t| upload(device, t)).collect::<Result<_, _>>().map_err(text)?;
        let to = upload(device, &out).map_err(text)?;
        let operands: Vec<Operand<'_>> =
            inputs.iter().zip(&buffers).map(|(t, b)| t.operand_at(b.ptr())).collect();
        let target = Target { ptr: to.ptr(), dtype: DType::F32, shape: &shape };
        enqueue(device.stream(), &prim, &operands, target).map_err(text)?;
        let got = device.stream().wait().err().ok_or(format!("{} saw nothing", prim.name()))?;
        if got.to_string() != want.to_string() || got.kind() != ErrorKind::Index {
            return Err(format!("'{got}', not '{want}'"));
        }
        device.stream().wait().map_err(|e| format!("an error came twice: {e}"))?;
    }
    Ok(())
}

fn memory(device: &'static Device) -> Outcome {
    let total = device.info().memory;
    // Fill the cache, then ask for more than is left beside it.
    drop(device.alloc(total / 2).map_err(text)?);
    let most =
        device.alloc(total * 7 / 10).map_err(|e| format!("cached memory was not released: {e}"))?;
    let e = device.alloc(total / 2).err().ok_or("more memory than there is")?;
    if e.kind() != ErrorKind::OutOfMemory {
        return Err(format!("{e:?}"));
    }
    println!("    {e}");
    drop(most);
    let before = device.memory().active;
    let old = device.set_memory_limit(before + (1 << 20));
    let limited = device.alloc(2 << 20).err().map(|e| e.kind());
    device.set_memory_limit(old);
    if limited != Some(ErrorKind::OutOfMemory) {
        return Err("the limit did not hold".into());
    }
    device.alloc(1 << 20).map_err(text)?;
    device.clear_cache();
    let stats = device.memory();
    if stats.active != before || stats.cache > 256 << 20 {
        return Err(format!("{stats:?}, active was {before}"));
    }
    device.reset_peak();
    Ok(())
}

fn graph(device: &'static Device) -> Outcome {
    let stream = device.stream();
    let x = Tensor::from_f64(DType::F32, &[4096], |i| i as f64);
    let buffer = upload(device, &x).map_err(text)?;
    let sorted = device.alloc(4096 * 4).map_err(text)?;
    let operand = x.operand_at(buffer.ptr());
    let at = |ptr: *mut u8| Target { ptr, dtype: DType::F32, shape: &x.shape };
    // x += x twice, then a sort, which needs memory of its own.
    let mut graph = stream
        .record_graph::<RunError>(|| {
            for _ in 0..2 {
                enqueue(
                    stream,
                    &Prim::Binary(BinaryOp::Add),
                    &[operand, operand],
                    at(buffer.ptr()),
                )?;
            }
            enqueue(stream, &Prim::Unary(UnaryOp::Negative), &[operand], at(buffer.ptr()))?;
            enqueue(stream, &Prim::Sort { axis: 0 }, &[operand], at(sorted.ptr()))
        })
        .map_err(text)?;
    for _ in 0..3 {
        stream.replay(&mut graph).map_err(text)?;
    }
    let mut got = Tensor::empty(DType::F32, &[4096]);
    // SAFETY: buffers of that size.
    unsafe {
        let host = std::slice::from_raw_parts_mut(got.memory.as_mut_ptr().cast(), 4096 * 4);
        stream.download(host, sorted.ptr()).map_err(text)?;
    }
    for (i, s) in got.scalars().iter().enumerate() {
        let want = -((4095 - i) as f64) * 64.0;
        if s.to_f64() != want {
            return Err(format!("element {i}: {s:?}, not {want}, of {} nodes", graph.nodes()));
        }
    }
    Ok(())
}

fn large(device: &'static Device) -> Outcome {
    let stream = device.stream();
    let n = (1usize << 31) + 4099;
    let shape = [n];
    let buffer = device.alloc(n).map_err(text)?;
    let sum = device.alloc(8).map_err(text)?;
    let operand = Operand { ptr: buffer.ptr(), dtype: DType::U8, shape: &shape, strides: &[1] };
    let target = Target { ptr: buffer.ptr(), dtype: DType::U8, shape: &shape };
    enqueue(stream, &constant(Scalar::new(3i64)), &[], target).map_err(text)?;
    enqueue(stream, &Prim::Binary(BinaryOp::Add), &[operand, operand], target).map_err(text)?;
    let axes: Axes = [0u8].into_iter().collect();
    let to = Target { ptr: sum.ptr(), dtype: DType::U64, shape: &[1] };
    enqueue(stream, &Prim::Reduce { op: ReduceOp::Sum, axes }, &[operand], to).map_err(text)?;
    let mut host = [0u8; 8];
    // SAFETY: eight bytes.
    unsafe { stream.download(&mut host, sum.ptr()) }.map_err(text)?;
    let got = u64::from_le_bytes(host);
    if got != 6 * n as u64 {
        return Err(format!("the sum is {got}, not {}", 6 * n));
    }
    Ok(())
}

/// One value over an output of one axis.
fn constant(start: Scalar) -> Prim {
    Prim::Arange { start, step: Scalar::zero(start.dtype) }
}

fn streams(device: &'static Device) -> Outcome {
    let other = Stream::new(device).map_err(text)?;
    let n = 1 << 24;
    let shape = [n];
    let a = device.alloc(n * 4).map_err(text)?;
    let b = device.alloc(n * 4).map_err(text)?;
    let operand = Operand { ptr: a.ptr(), dtype: DType::F32, shape: &shape, strides: &[1] };
    let at = |ptr: *mut u8| Target { ptr, dtype: DType::F32, shape: &shape };
    enqueue(device.stream(), &constant(Scalar::new(1.5f64)), &[], at(a.ptr())).map_err(text)?;
    for _ in 0..20 {
        enqueue(device.stream(), &Prim::Unary(UnaryOp::Square), &[operand], at(a.ptr()))
            .map_err(text)?;
        enqueue(device.stream(), &Prim::Unary(UnaryOp::Sqrt), &[operand], at(a.ptr()))
            .map_err(text)?;
    }
    let event = device.stream().record().map_err(text)?;
    other.wait_for(&event).map_err(text)?;
    enqueue(&other, &Prim::Unary(UnaryOp::Negative), &[operand], at(b.ptr())).map_err(text)?;
    let mut host = [0u8; 4];
    // SAFETY: four bytes at the end.
    unsafe { other.download(&mut host, b.ptr().add(n * 4 - 4)) }.map_err(text)?;
    let done = event.is_done().map_err(text)?;
    match f32::from_le_bytes(host) {
        -1.5 if done => Ok(()),
        got => Err(format!("{got}, event done {done}")),
    }
}

fn copies(device: &'static Device) -> Outcome {
    let stream = device.stream();
    let n = (37 << 20) + 13;
    let sent: Vec<u8> = (0..n).map(|i: usize| (i.wrapping_mul(2654435761) >> 13) as u8).collect();
    let buffer = device.alloc(n).map_err(text)?;
    let before = device.traffic();
    let mut got = vec![0u8; n];
    // SAFETY: a buffer of that size.
    unsafe {
        stream.upload(buffer.ptr(), &sent).map_err(text)?;
        stream.download(&mut got, buffer.ptr()).map_err(text)?;
    }
    let after = device.traffic();
    if got != sent {
        return Err("bytes differ".into());
    }
    if after.up - before.up != n as u64 || after.down - before.down != n as u64 {
        return Err(format!("{before:?} to {after:?}"));
    }
    Ok(())
}

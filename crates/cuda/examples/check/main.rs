//! Checks every kernel of the CUDA backend against the CPU's, and times what matters.
//!
//! ```text
//! check                        every case on device 0, then the timings
//! check compile [90 [FILTER [I N]]]  only compiles every kernel that the cases (part I of N) need:
//!                              needs no device
//! check cases [FILTER]         only the cases whose name contains FILTER
//! check time [FILTER]          only the timings whose name contains FILTER
//! ```
//!
//! Ends with a table of what failed, what has no kernel, and the times, each beside the device's own
//! limit as measured in the same run. The exit status is 0 if nothing failed.

mod cases;
mod extra;
mod tensor;
mod timings;

use cases::{Case, Cases, What};
use lazul_cpu::CpuBackend;
use lazul_cuda::{Device, RunError, Stream};
use lazul_ir::{Backend, Job, OpError, Operand, Target, Work};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;
use tensor::{Tensor, difference};

impl Case {
    fn work(&self) -> Work<'_> {
        match &self.what {
            What::Prim(prim) => Work::Prim(prim),
            What::Fused(tape) => Work::Fused(tape),
        }
    }

    /// Outputs as the job finds them: nonsense, or a copy of operand 0.
    fn fresh(&self) -> Vec<Tensor> {
        let updates = matches!(&self.what, What::Prim(p) if p.updates_in_place());
        self.outputs
            .iter()
            .map(|(dtype, shape)| match updates {
                true => self.inputs[0].dense(),
                false => Tensor::empty(*dtype, shape),
            })
            .collect()
    }

    fn on_cpu(&self) -> Result<Vec<Tensor>, OpError> {
        let outputs = self.fresh();
        let inputs: Vec<Operand<'_>> = self.inputs.iter().map(Tensor::operand).collect();
        let targets: Vec<Target<'_>> = outputs
            .iter()
            .map(|t| Target {
                ptr: t.memory.as_ptr().cast_mut().cast(),
                dtype: t.dtype,
                shape: &t.shape,
            })
            .collect();
        // SAFETY: tensors own memory of the stated extent.
        unsafe { CpuBackend.run(&Job { work: self.work(), inputs: &inputs, outputs: &targets }) }?;
        Ok(outputs)
    }

    /// Runs on the stream's device; a device that only compiles leaves the outputs as they are.
    fn on(&self, stream: &Stream) -> Result<Vec<Tensor>, RunError> {
        let device = stream.device();
        let mut outputs = self.fresh();
        let bytes = |t: &Tensor| t.memory.len() * 8;
        let mut buffers = Vec::new();
        for t in self.inputs.iter().chain(&outputs) {
            let buffer = device.alloc(bytes(t))?;
            // SAFETY: the tensor's memory, and a buffer of that size.
            unsafe {
                let host = std::slice::from_raw_parts(t.memory.as_ptr().cast(), bytes(t));
                stream.upload(buffer.ptr(), host)?;
            }
            buffers.push(buffer);
        }
        let inputs: Vec<Operand<'_>> =
            self.inputs.iter().zip(&buffers).map(|(t, b)| t.operand_at(b.ptr())).collect();
        let place = |i: usize| match self.alias {
            Some(alias) if i == 0 => buffers[alias].ptr(),
            _ => buffers[self.inputs.len() + i].ptr(),
        };
        let targets: Vec<Target<'_>> = outputs
            .iter()
            .enumerate()
            .map(|(i, t)| Target { ptr: place(i), dtype: t.dtype, shape: &t.shape })
            .collect();
        let job = Job { work: self.work(), inputs: &inputs, outputs: &targets };
        // SAFETY: buffers of the stated extent that live until the job is done.
        unsafe { stream.enqueue(&job) }?;
        let places: Vec<*mut u8> = (0..outputs.len()).map(place).collect();
        for (t, from) in outputs.iter_mut().zip(places) {
            let size = bytes(t);
            // SAFETY: as above.
            unsafe {
                let host = std::slice::from_raw_parts_mut(t.memory.as_mut_ptr().cast(), size);
                let used = t.size() * t.dtype.size();
                stream.download(&mut host[..used], from)?;
            }
        }
        Ok(outputs)
    }
}

/// What became of the cases.
#[derive(Default)]
struct Report {
    passed: usize,
    failed: Vec<String>,
    unsupported: BTreeMap<String, usize>,
}

impl Report {
    fn print(&self) {
        let mut families: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for line in &self.failed {
            families.entry(line.split(':').next().unwrap_or("")).or_default().push(line);
        }
        for (family, lines) in &families {
            println!("FAILED {family}: {} cases", lines.len());
            for line in lines.iter().take(6) {
                println!("    {}", line.chars().take(500).collect::<String>());
            }
        }
        for (what, count) in &self.unsupported {
            println!("no kernel ({count} cases): {what}");
        }
        println!("cases: {} passed, {} failed", self.passed, self.failed.len());
    }
}

/// Compiles what the cases need, with all cores, so that kernels lie in the disk's cache.
fn compile(cases: &[Case], capability: (u32, u32)) -> Result<Report, lazul_cuda::Unavailable> {
    let device = Device::compile_only(capability)?;
    let report = Mutex::new(Report::default());
    let next = AtomicUsize::new(0);
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let result = catch_unwind(AssertUnwindSafe(|| case.on(device.stream())));
                    let mut report = report.lock().unwrap();
                    match result {
                        Ok(Ok(_)) => report.passed += 1,
                        Ok(Err(RunError::Unsupported(u))) => {
                            *report.unsupported.entry(u.to_string()).or_default() += 1;
                        }
                        Ok(Err(e)) => report.failed.push(format!("{}: {e}", case.name)),
                        Err(_) => report.failed.push(format!("{}: panic", case.name)),
                    }
                }
            });
        }
    });
    println!("{} kernels for sm_{}{}", device.kernels(), capability.0, capability.1);
    Ok(report.into_inner().unwrap())
}

fn run(cases: &[Case], stream: &Stream) -> Report {
    let mut report = Report::default();
    for case in cases {
        let want = match case.on_cpu() {
            Ok(want) => want,
            Err(e) => {
                report.failed.push(format!("{}: the CPU says {e}", case.name));
                continue;
            }
        };
        let got = match catch_unwind(AssertUnwindSafe(|| case.on(stream))) {
            Ok(Ok(got)) => got,
            Ok(Err(RunError::Unsupported(u))) => {
                *report.unsupported.entry(u.to_string()).or_default() += 1;
                continue;
            }
            Ok(Err(e)) => {
                report.failed.push(format!("{}: {e}", case.name));
                if e.to_string().contains("driver says") {
                    println!("the device failed at {}: {e}", case.name);
                    break;
                }
                continue;
            }
            Err(_) => {
                report.failed.push(format!("{}: panic", case.name));
                continue;
            }
        };
        let wrong = got.iter().zip(&want).find_map(|(g, w)| difference(g, w, case.tolerance));
        match wrong {
            None => report.passed += 1,
            Some(what) => report.failed.push(format!("{}: {what}", case.name)),
        }
    }
    report
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let mode = args.first().map_or("all", String::as_str);
    let filter = args.get(1).map_or("", String::as_str);
    let start = Instant::now();
    if mode == "compile" {
        let arch: u32 = filter.parse().unwrap_or(90);
        let mut cases = Cases::all().list;
        let name = args.get(2).map_or("", String::as_str);
        cases.retain(|c| c.name.contains(name));
        // Part `i` of `n`: the compiler works on one kernel at a time in a process.
        let number = |i: usize| args.get(i).and_then(|a| a.parse::<usize>().ok());
        if let (Some(i), Some(n)) = (number(3), number(4)) {
            cases =
                cases.into_iter().enumerate().filter(|(k, _)| k % n == i).map(|c| c.1).collect();
        }
        return match compile(&cases, (arch / 10, arch % 10)) {
            Ok(report) => {
                report.print();
                println!("{:.1} s", start.elapsed().as_secs_f64());
                if report.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
            }
            Err(e) => {
                eprintln!("{e}");
                ExitCode::FAILURE
            }
        };
    }
    let device = match Device::get(0) {
        Ok(device) => device,
        Err(e) => {
            eprintln!("{e}");
            return ExitCode::FAILURE;
        }
    };
    println!("{:?}", device.info());
    let mut failed = false;
    if mode == "all" || mode == "cases" {
        let mut cases = Cases::all().list;
        cases.retain(|c| c.name.contains(filter));
        match compile(&cases, device.info().capability) {
            Ok(report) if report.failed.is_empty() => {}
            Ok(report) => report.print(),
            Err(e) => eprintln!("{e}"),
        }
        println!("compiled after {:.1} s", start.elapsed().as_secs_f64());
        let report = run(&cases, device.stream());
        failed |= !report.failed.is_empty();
        println!("cases done after {:.1} s", start.elapsed().as_secs_f64());
        if filter.is_empty() {
            failed |= !extra::run(device);
        }
        report.print();
    }
    if mode == "all" || mode == "time" {
        timings::run(device, filter);
    }
    println!(
        "{:.1} s in all, {} kernels, {:?}",
        start.elapsed().as_secs_f64(),
        device.kernels(),
        device.traffic()
    );
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

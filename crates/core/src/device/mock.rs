//! A device for tests: memory apart from the host's, with the CPU behind it.
//!
//! Its addresses are ones that no processor can read, so that touching them on the host ends the test, and
//! it looks at every address of a job, so that giving it the host's is an error. Memory is nonsense before
//! it is written and after it is freed, indices out of bounds show late, and some work is refused: all as
//! with real devices.

use super::accelerator::{Accelerator, MOCK, Met, Refusal};
use super::{DeviceInfo, DeviceKind};
use crate::error::{Error, ErrorKind, Result};
use lazul_cpu::CpuBackend;
use lazul_ir::{
    Backend, BlockSource, Buffer, DType, FastOp, Job, MemoryStats, Operand, Place, Prim,
    QuantizedOp, Target, Work,
};
use std::alloc::{Layout, alloc, dealloc};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};

/// Added to the address behind: not an address of any processor's.
const APART: usize = 1 << 62;
const NONSENSE: u8 = 0xA5;
const ALIGNMENT: usize = 256;

#[derive(Default)]
struct State {
    /// Live blocks: where they begin (behind) and their bytes.
    blocks: BTreeMap<usize, usize>,
    /// The first that was met, and the evaluation in which it was, once that has ended.
    fault: Option<Met>,
    /// The last evaluation that ended.
    ended: u64,
    stats: MemoryStats,
}

pub(super) struct Mock(Mutex<Option<State>>);

static DEVICE: Mock = Mock(Mutex::new(None));

pub(super) fn device() -> &'static dyn Accelerator {
    &DEVICE
}

impl Mock {
    fn lock(&self) -> MutexGuard<'_, Option<State>> {
        self.0.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn with<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        let limits =
            MemoryStats { limit: usize::MAX, cache_limit: usize::MAX, ..Default::default() };
        f(self.lock().get_or_insert_with(|| State { stats: limits, ..State::default() }))
    }

    /// The address behind, if these bytes are in a live block.
    fn behind(&self, ptr: *const u8, bytes: std::ops::Range<isize>) -> Result<*mut u8> {
        let wrong = |why: &str| {
            let message = format!("the mock device was given {why} ({ptr:?}, bytes {bytes:?})");
            Err(Error::new(ErrorKind::Internal, "mock", message))
        };
        if bytes.is_empty() {
            return Ok(std::ptr::dangling_mut::<u64>().cast());
        }
        let Some(at) = (ptr as usize).checked_sub(APART) else {
            return wrong("an address of the host's");
        };
        let (from, to) = (at.wrapping_add_signed(bytes.start), at.wrapping_add_signed(bytes.end));
        let found = self.with(|s| s.blocks.range(..=from).next_back().map(|(&p, &n)| (p, n)));
        match found {
            Some((start, len)) if to <= start + len => Ok(at as *mut u8),
            _ => wrong("memory that is not its own, or not alive"),
        }
    }
}

#[cfg(feature = "cuda")]
fn compiler() -> Option<&'static lazul_cuda::Device> {
    static COMPILER: std::sync::OnceLock<Option<&'static lazul_cuda::Device>> =
        std::sync::OnceLock::new();
    *COMPILER.get_or_init(|| {
        let arch: u32 = std::env::var("LAZUL_MOCK_COMPILE").ok()?.parse().expect("a number");
        Some(lazul_cuda::Device::compile_only((arch / 10, arch % 10)).expect("NVRTC is there"))
    })
}

/// Where `LAZUL_MOCK_COMPILE` names an architecture (`90`), compiles the kernels that a CUDA device would
/// need for the job, and refuses what it would refuse: tests then know more, and leave kernels behind.
#[cfg(feature = "cuda")]
fn compiled(job: &Job<'_>) -> Result<(), Refusal> {
    let Some(compiler) = compiler() else { return Ok(()) };
    // SAFETY: nothing is run.
    unsafe { compiler.stream().enqueue(job) }.map_err(|e| match e {
        lazul_cuda::RunError::Unsupported(lazul_cuda::Unsupported { why, .. }) => {
            Refusal::Lacks(why)
        }
        lazul_cuda::RunError::Op(error) => Refusal::Failed(error),
    })
}

fn compiling() -> bool {
    #[cfg(feature = "cuda")]
    return compiler().is_some();
    #[cfg(not(feature = "cuda"))]
    false
}

/// The bytes around its first element that an operand may read.
fn extent(operand: &Operand<'_>) -> std::ops::Range<isize> {
    if operand.size() == 0 {
        return 0..0;
    }
    let size = operand.dtype.size() as isize;
    let (mut low, mut high) = (0, 0);
    for (&n, &stride) in operand.shape.iter().zip(operand.strides) {
        let span = (n as isize - 1) * stride * size;
        if span < 0 { low += span } else { high += span }
    }
    low..high + size
}

impl BlockSource for Mock {
    fn place(&self) -> Place {
        MOCK
    }

    fn release(&self, ptr: *mut u8, capacity: usize) {
        let ptr = (ptr as usize - APART) as *mut u8;
        self.with(|s| {
            s.blocks.remove(&(ptr as usize));
            s.stats.active -= capacity;
        });
        // SAFETY: the block came from `alloc` with this layout, and nobody has it any more.
        unsafe {
            ptr.write_bytes(NONSENSE, capacity);
            dealloc(ptr, Layout::from_size_align_unchecked(capacity, ALIGNMENT));
        }
    }
}

impl Accelerator for Mock {
    fn info(&self) -> DeviceInfo {
        DeviceInfo {
            kind: DeviceKind::Gpu,
            name: "mock".to_string(),
            architecture: "mock".to_string(),
            instructions: "mock".to_string(),
            threads: 1,
            memory: 0,
        }
    }

    fn lacks(&self, work: &Work<'_>) -> Option<&'static str> {
        #[cfg(feature = "cuda")]
        if compiler().is_some() {
            return lazul_cuda::lacks(work);
        }
        let Work::Prim(prim) = work else { return None };
        match prim {
            Prim::Conv(_) | Prim::Fft { .. } | Prim::Linalg(_) | Prim::SearchSorted { .. } => {
                Some("the mock device lacks this family")
            }
            Prim::Quantized(QuantizedOp::Quantize(_)) => Some("the mock device does not quantize"),
            Prim::Fast(FastOp::Softmax) => Some("the mock device has no softmax"),
            _ => None,
        }
    }

    fn alloc(&'static self, bytes: usize) -> Result<Buffer> {
        let none = || {
            let message = format!("{bytes} bytes cannot be had");
            Error::new(ErrorKind::OutOfMemory, "alloc", message)
        };
        let capacity = bytes.max(1).checked_next_multiple_of(ALIGNMENT).ok_or_else(none)?;
        self.with(|s| {
            let active = s.stats.active.checked_add(capacity).filter(|a| *a <= s.stats.limit);
            s.stats.active = active.ok_or_else(none)?;
            s.stats.peak = s.stats.peak.max(s.stats.active);
            Ok::<_, Error>(())
        })?;
        let layout = Layout::from_size_align(capacity, ALIGNMENT).map_err(|_| none())?;
        // SAFETY: the layout has a size.
        let ptr = unsafe { alloc(layout) };
        if ptr.is_null() {
            self.with(|s| s.stats.active -= capacity);
            return Err(none());
        }
        // SAFETY: fresh memory of that size.
        unsafe { ptr.write_bytes(NONSENSE, capacity) };
        self.with(|s| s.blocks.insert(ptr as usize, capacity));
        // SAFETY: `release` gives it back; nobody reads or writes at the address itself.
        Ok(unsafe { Buffer::new((ptr as usize + APART) as *mut u8, bytes, capacity, &DEVICE) })
    }

    unsafe fn enqueue(&self, job: &Job<'_>, tag: u32) -> Result<(), Refusal> {
        if let Some(why) = self.lacks(&job.work) {
            return Err(Refusal::Lacks(why));
        }
        #[cfg(feature = "cuda")]
        compiled(job)?;
        if let (Work::Prim(Prim::Scan { .. }), false) = (job.work, compiling()) {
            return Err(Refusal::Lacks("the mock device refuses scans when it sees them"));
        }
        let inputs = job
            .inputs
            .iter()
            .map(|i| Ok(Operand { ptr: self.behind(i.ptr, extent(i))?, ..*i }))
            .collect::<Result<Vec<_>>>()?;
        let outputs = job
            .outputs
            .iter()
            .map(|o| {
                let bytes = (o.size() * o.dtype.size()) as isize;
                Ok(Target { ptr: self.behind(o.ptr, 0..bytes)?, ..*o })
            })
            .collect::<Result<Vec<_>>>()?;
        let behind = Job { work: job.work, inputs: &inputs, outputs: &outputs };
        // SAFETY: the caller's promise, for the memory behind.
        match unsafe { CpuBackend.run(&behind) } {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == ErrorKind::Index => {
                for output in &outputs {
                    let filled = if output.dtype == DType::Bool { 1 } else { NONSENSE };
                    // SAFETY: targets of that size.
                    unsafe {
                        output.ptr.write_bytes(filled, output.size() * output.dtype.size());
                    }
                }
                self.with(|s| s.fault.get_or_insert(Met { evaluation: None, tag, error }).tag);
                Ok(())
            }
            Err(error) => Err(Refusal::Failed(error)),
        }
    }

    unsafe fn upload(&self, dst: *mut u8, src: &[u8]) -> Result<()> {
        let dst = self.behind(dst, 0..src.len() as isize)?;
        // SAFETY: live memory of that size, as was just seen.
        unsafe { std::ptr::copy_nonoverlapping(src.as_ptr(), dst, src.len()) };
        self.with(|s| s.stats.uploaded += src.len() as u64);
        Ok(())
    }

    unsafe fn download(&self, dst: &mut [u8], src: *const u8) -> Result<()> {
        let src = self.behind(src, 0..dst.len() as isize)?;
        // SAFETY: live memory of that size, as was just seen.
        unsafe { std::ptr::copy_nonoverlapping(src, dst.as_mut_ptr(), dst.len()) };
        self.with(|s| s.stats.downloaded += dst.len() as u64);
        Ok(())
    }

    fn wait(&self) -> Result<()> {
        Ok(())
    }

    unsafe fn download_after(&self, dst: &mut [u8], src: *const u8, number: u64) -> Result<()> {
        if number > self.with(|s| s.ended) {
            let message = format!("evaluation {number} has not ended");
            return Err(Error::new(ErrorKind::Internal, "mock", message));
        }
        // SAFETY: the caller's promise.
        unsafe { self.download(dst, src) }
    }

    unsafe fn poke(&self, dst: *mut u8, bits: u64) -> Result<()> {
        let dst = self.behind(dst, 0..8)?;
        // SAFETY: eight bytes of live memory, as was just seen.
        unsafe { dst.cast::<u64>().write(bits) };
        Ok(())
    }

    fn begin(&self, _key: u64) -> Result<()> {
        Ok(())
    }

    fn end(&self, number: u64, fallible: bool) -> Result<()> {
        self.with(|s| {
            s.ended = s.ended.max(number);
            if let (Some(met @ Met { evaluation: None, .. }), true) = (&mut s.fault, fallible) {
                met.evaluation = Some(number);
            }
        });
        Ok(())
    }

    fn wait_until(&self, _number: u64) -> Result<()> {
        Ok(())
    }

    fn is_faulty(&self) -> bool {
        self.with(|s| matches!(s.fault, Some(Met { evaluation: Some(_), .. })))
    }

    fn take_fault(&self) -> Result<Option<Met>> {
        Ok(self.with(|s| s.fault.take()))
    }

    fn memory(&self) -> MemoryStats {
        self.with(|s| s.stats)
    }

    fn set_memory_limit(&self, bytes: usize) -> usize {
        self.with(|s| std::mem::replace(&mut s.stats.limit, bytes))
    }

    fn set_cache_limit(&self, bytes: usize) -> usize {
        self.with(|s| std::mem::replace(&mut s.stats.cache_limit, bytes))
    }

    fn clear_cache(&self) {}

    fn reset_peak(&self) {
        self.with(|s| s.stats.peak = s.stats.active);
    }
}

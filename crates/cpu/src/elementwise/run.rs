//! Running a plan: chunks in parallel, blocks in order.

use super::kernel;
use super::kernels::Kernel;
use super::plan::{Load, Place, Plan, PlannedLoad};
use super::rename::Kind;
use crate::alloc;
use crate::convert::{load_f32, round_to_bf16, round_to_f16, store_f32};
use crate::copy::{copy_row, copy_strided};
use crate::load::prefetch;
use crate::pool::parallel_ranges;
use crate::strided::{offset_of, rows};
use lazul_ir::layout::is_row_major;
use lazul_ir::{Buffer, DType, Job, Operand, Shape, StepOp};
use smallvec::SmallVec;
use std::cell::Cell;
use std::mem::MaybeUninit;
use std::ops::Range;

/// Elements in a block: with a handful of slots, all of them stay in L1.
const BLOCK: usize = 512;
/// Elements that are worth no plan.
const SMALL: usize = 512;
/// Elements from which on operands are hardly in a core's caches.
const FAR: usize = 512 << 10;
/// Simple operations in a chunk: some ten microseconds.
const CHUNK_COST: usize = 128 << 10;

/// Scratch of a thread, in units of an alignment.
#[repr(align(64))]
#[derive(Clone, Copy)]
struct Line {
    _bytes: [u8; 64],
}

thread_local! {
    static SCRATCH: Cell<Vec<MaybeUninit<Line>>> = const { Cell::new(Vec::new()) };
}

/// An operand as the blocks see it: contiguous copies may have taken its place.
#[derive(Clone, Copy)]
struct Source {
    ptr: *const u8,
    dtype: DType,
}

struct Run<'a> {
    plan: &'a Plan,
    sources: SmallVec<[Source; 8]>,
    /// Operands that were copied into row-major order first.
    copied: SmallVec<[bool; 8]>,
    /// Operands whose elements lie in the order of the output's.
    flat: SmallVec<[bool; 8]>,
    block: usize,
    /// Whether the next block's cache lines are fetched while this one is computed: memory and
    /// multipliers are then busy at once.
    ahead: bool,
}

/// Where a chunk's results go.
struct Results<'a> {
    outputs: &'a [(*mut u8, DType)],
    /// The element that the outputs' memory begins with.
    base: usize,
}

impl Results<'_> {
    /// The address of element `at` of output `o`.
    ///
    /// # Safety
    /// The element must exist.
    unsafe fn address(&self, o: u16, at: usize) -> (*mut u8, DType) {
        let (ptr, dtype) = self.outputs[o as usize];
        // SAFETY: the caller's promise.
        (unsafe { ptr.add((at - self.base) * dtype.size()) }, dtype)
    }
}

/// Outputs that threads write disjoint ranges of.
#[derive(Clone)]
struct Outputs(SmallVec<[(*mut u8, DType); 2]>);

// SAFETY: threads write disjoint ranges.
unsafe impl Sync for Outputs {}

// SAFETY: threads read operands and write disjoint ranges of the outputs.
unsafe impl Sync for Run<'_> {}

pub(super) fn run(plan: &Plan, job: &Job<'_>) {
    let n = job.outputs[0].size();
    if n == 0 {
        return;
    }
    let outputs = Outputs(job.outputs.iter().map(|o| (o.ptr, o.dtype)).collect());
    let (mut run, kept) = Run::new(plan, job, n);
    let chunk = (CHUNK_COST / plan.cost).clamp(BLOCK, 64 << 10) / BLOCK * BLOCK;
    if plan.slots == 0 {
        // Nothing passes through scratch.
        run.block = chunk;
    }
    let outputs = &outputs;
    parallel_ranges(n, chunk, |start, end| {
        // SAFETY: the job's operands and targets are valid, and chunks are disjoint.
        unsafe { run.range(start, end, &Results { outputs: &outputs.0, base: 0 }) };
    });
    drop(kept);
}

/// Hands `f` the means to compute any range of the plan's one output.
pub(super) fn with_values(plan: &Plan, job: &Job<'_>, f: impl FnOnce(&super::Fill<'_>)) {
    let (n, dtype) = (job.outputs[0].size(), job.outputs[0].dtype);
    let (run, kept) = Run::new(plan, job, n);
    f(&|start, end, dst| {
        // SAFETY: the job's operands are valid; the caller vouches for range and memory.
        unsafe { run.range(start, end, &Results { outputs: &[(dst, dtype)], base: start }) };
    });
    drop(kept);
}

/// A row-major copy of an operand that runs along another axis than the output, so that its cache
/// lines are read once; `None` where gathering block by block is as good.
fn straighten(operand: &Operand<'_>, collapsed: &[isize], n: usize) -> Option<Buffer> {
    let last = collapsed[collapsed.len() - 1];
    if n < 16 << 10 || matches!(last, -1..=2) || !collapsed.contains(&1) {
        return None;
    }
    let size = operand.dtype.size();
    let buffer = alloc::alloc(n * size).ok()?;
    let strides = Shape::new(operand.shape).strides();
    // SAFETY: the operand is valid for its layout, and the buffer for its elements in order.
    unsafe {
        copy_strided(operand.shape, size, operand.ptr, operand.strides, buffer.ptr(), &strides);
    }
    Some(buffer)
}

impl<'a> Run<'a> {
    /// A run over `n` elements, and the copies that it reads, to be kept until its end.
    fn new(plan: &'a Plan, job: &Job<'_>, n: usize) -> (Run<'a>, SmallVec<[Buffer; 1]>) {
        let mut run = Run {
            plan,
            sources: job.inputs.iter().map(|i| Source { ptr: i.ptr, dtype: i.dtype }).collect(),
            copied: SmallVec::from_elem(false, job.inputs.len()),
            flat: SmallVec::new(),
            block: BLOCK,
            ahead: plan.slots > 0 && plan.steps.len() > 1 && n >= FAR,
        };
        let mut kept: SmallVec<[Buffer; 1]> = SmallVec::new();
        for load in plan.loads.iter().filter(|l| l.load == Load::Gather) {
            let i = load.input as usize;
            if let Some(buffer) = straighten(&job.inputs[i], &plan.collapsed.strides[i], n) {
                run.sources[i].ptr = buffer.ptr();
                run.copied[i] = true;
                kept.push(buffer);
            }
        }
        if run.ahead {
            let c = &plan.collapsed;
            let flat = |(s, &copied): (_, &bool)| copied || is_row_major(&c.shape, s);
            run.flat = c.strides.iter().map(|s| &s[..]).zip(&run.copied).map(flat).collect();
        }
        (run, kept)
    }

    /// Computes elements `start..end` with this thread's scratch.
    ///
    /// # Safety
    /// The job's memory must be valid, the results' for the range, and nobody else may write that.
    unsafe fn range(&self, start: usize, end: usize, results: &Results<'_>) {
        let plan = self.plan;
        let lines = (plan.slots + 1) * BLOCK * plan.width.max(2) / 64;
        let mut scratch = SCRATCH.take();
        if plan.slots > 0 && scratch.len() < lines {
            scratch.resize(lines, MaybeUninit::uninit());
        }
        // SAFETY: the caller's promise.
        unsafe { self.chunk(start, end, scratch.as_mut_ptr().cast(), results) };
        SCRATCH.set(scratch);
    }

    /// # Safety
    /// The job's memory must be valid, `scratch` for the plan's slots and one more, and nobody else
    /// may write the outputs' elements `start..end`.
    unsafe fn chunk(&self, start: usize, end: usize, scratch: *mut u8, results: &Results<'_>) {
        let plan = self.plan;
        let slot_bytes = BLOCK * plan.width.max(2);
        // SAFETY: every place is valid for the block's `m` elements: operands and outputs because
        // the block lies inside them, slots because they hold `BLOCK` of the widest type. Steps
        // never write to a place that they read.
        unsafe {
            for load in plan.loads.iter().filter(|l| l.load == Load::Splat) {
                let source = self.sources[load.input as usize];
                let m = (end - start).min(self.block);
                splat(source, scratch.add(load.slot as usize * slot_bytes), m);
            }
            let mut at = start;
            let width = plan.collapsed.shape[plan.collapsed.shape.len() - 1];
            while at < end {
                let mut m = (end - at).min(self.block);
                if plan.by_rows {
                    m = m.min(width - at % width);
                }
                let read = |place: Place| match place {
                    Place::Input(i) => self.neighbours(i as usize, at),
                    Place::Slot(s) => scratch.add(s as usize * slot_bytes).cast_const(),
                    Place::Output(o) => results.address(o, at).0.cast_const(),
                };
                for load in &plan.loads {
                    let slot = scratch.add(load.slot as usize * slot_bytes);
                    let spare = scratch.add(plan.slots * slot_bytes);
                    self.load(load, at, m, slot, spare);
                }
                let mut fetched = 0;
                for step in &plan.steps {
                    let (args, dst) = (step.args.map(read), read(step.dst).cast_mut());
                    if self.ahead {
                        let next = at + m..end.min(at + m + BLOCK);
                        let pieces = step.pieces as usize;
                        let piece = m.div_ceil(pieces).next_multiple_of(64);
                        let [a, d] = step.sizes.map(|size| size as usize * piece);
                        for p in 0..pieces {
                            self.fetch(next.clone(), fetched + p, results);
                            let m = piece.min(m.saturating_sub(p * piece));
                            call(
                                step.kernel,
                                args.map(|x| x.wrapping_add(p * a)),
                                dst.wrapping_add(p * d),
                                m,
                            );
                        }
                        fetched += pieces;
                    } else {
                        call(step.kernel, args, dst, m);
                    }
                    match step.round {
                        None => {}
                        Some(DType::F16) => {
                            round_to_f16(std::slice::from_raw_parts_mut(dst.cast(), m));
                        }
                        Some(_) => round_to_bf16(std::slice::from_raw_parts_mut(dst.cast(), m)),
                    }
                }
                for store in &plan.stores {
                    let (dst, dtype) = results.address(store.output, at);
                    if plan.streams {
                        stream(read(store.from), dst, m * dtype.size());
                    } else {
                        self::store(read(store.from), store.compute, dst, dtype, m);
                    }
                }
                at += m;
            }
            if plan.streams {
                streamed();
            }
        }
    }

    /// Asks for the share that belongs to piece `k` of a block of the cache lines that block `next` will
    /// touch. There are no more of them than the core can wait for while a piece runs.
    #[inline]
    fn fetch(&self, next: Range<usize>, k: usize, results: &Results<'_>) {
        if next.is_empty() {
            return;
        }
        let pieces = self.plan.pieces;
        let lines = |ptr: *const u8, size: usize| {
            let bytes = next.len() * size;
            let share = bytes.div_ceil(pieces).next_multiple_of(64);
            let (start, end) = (k * share, bytes.min((k + 1) * share));
            prefetch(ptr.wrapping_add(start), end.saturating_sub(start));
        };
        for (source, _) in self.sources.iter().zip(&self.flat).filter(|(_, flat)| **flat) {
            let size = source.dtype.size();
            lines(source.ptr.wrapping_add(next.start * size), size);
        }
        if !self.plan.streams {
            for &(ptr, dtype) in results.outputs {
                let offset = (next.start - results.base) * dtype.size();
                lines(ptr.cast_const().wrapping_add(offset), dtype.size());
            }
        }
    }

    /// The address of an operand's element `at`, whose block is neighbouring elements.
    ///
    /// # Safety
    /// The element must exist.
    unsafe fn neighbours(&self, i: usize, at: usize) -> *const u8 {
        let Source { ptr, dtype } = self.sources[i];
        let c = &self.plan.collapsed;
        let whole = self.copied[i] || !self.plan.by_rows || c.shape.len() == 1;
        let offset = if whole { at as isize } else { offset_of(at, &c.shape, &c.strides[i]) };
        // SAFETY: the caller's promise.
        unsafe { ptr.offset(offset * dtype.size() as isize) }
    }

    /// Brings block `at..at + m` of an operand into its slot, in its compute type.
    ///
    /// # Safety
    /// As for [`Run::chunk`].
    unsafe fn load(&self, load: &PlannedLoad, at: usize, m: usize, slot: *mut u8, spare: *mut u8) {
        let i = load.input as usize;
        let Source { ptr, dtype } = self.sources[i];
        let size = dtype.size();
        let half = dtype.compute() != dtype;
        // SAFETY: the caller's promise.
        unsafe {
            match load.load {
                Load::Splat => {}
                Load::Repeat => splat(Source { ptr: self.neighbours(i, at), dtype }, slot, m),
                Load::Gather if !self.copied[i] => {
                    let raw = if half { spare } else { slot };
                    let c = &self.plan.collapsed;
                    match size {
                        1 => gather::<u8>(ptr, &c.shape, &c.strides[i], at, m, raw),
                        2 => gather::<u16>(ptr, &c.shape, &c.strides[i], at, m, raw),
                        4 => gather::<u32>(ptr, &c.shape, &c.strides[i], at, m, raw),
                        _ => gather::<u64>(ptr, &c.shape, &c.strides[i], at, m, raw),
                    }
                    if half {
                        load_f32(raw, dtype, std::slice::from_raw_parts_mut(slot.cast(), m));
                    }
                }
                _ if half => {
                    let slot = std::slice::from_raw_parts_mut(slot.cast(), m);
                    load_f32(self.neighbours(i, at), dtype, slot);
                }
                _ => std::ptr::copy_nonoverlapping(self.neighbours(i, at), slot, m * size),
            }
        }
    }
}

/// # Safety
/// `ptr` must be valid for the layout and `dst` for `m` elements.
unsafe fn gather<T: Copy>(
    ptr: *const u8,
    shape: &[usize],
    strides: &[isize],
    at: usize,
    m: usize,
    dst: *mut u8,
) {
    let (src, dst) = (ptr.cast::<T>(), dst.cast::<T>());
    let step = strides[strides.len() - 1];
    rows(shape, [strides], at, at + m, |i, [offset], len| {
        // SAFETY: `rows` stays inside the layout and the range.
        unsafe { copy_row(src.offset(offset), step, dst.add(i - at), 1, len) };
    });
}

/// Repeats one element, in its compute type.
///
/// # Safety
/// `source` must be valid for an element and `dst` for `m` of its compute type.
unsafe fn splat(source: Source, dst: *mut u8, m: usize) {
    // SAFETY: the caller's promise.
    unsafe {
        match (source.dtype.compute(), source.dtype.size()) {
            (DType::F32, _) => {
                let x = crate::convert::load_f32_one(source.ptr, source.dtype);
                std::slice::from_raw_parts_mut(dst.cast::<f32>(), m).fill(x);
            }
            (_, 1) => dst.write_bytes(*source.ptr, m),
            (_, 2) => {
                std::slice::from_raw_parts_mut(dst.cast::<u16>(), m).fill(*source.ptr.cast());
            }
            (_, 4) => {
                std::slice::from_raw_parts_mut(dst.cast::<u32>(), m).fill(*source.ptr.cast());
            }
            _ => std::slice::from_raw_parts_mut(dst.cast::<u64>(), m).fill(*source.ptr.cast()),
        }
    }
}

/// Runs a step's kernel on `m` elements.
///
/// # Safety
/// The pointers must be valid for the kernel's elements, and `dst` must not overlap the others.
#[inline(always)]
unsafe fn call(kernel: Kernel, args: [*const u8; 3], dst: *mut u8, m: usize) {
    // SAFETY: the caller's promise.
    unsafe {
        match kernel {
            Kernel::One(k) => k(args[0], dst, m),
            Kernel::Two(k) => k(args[0], args[1], dst, m),
            Kernel::Three(k) => k(args[0], args[1], args[2], dst, m),
        }
    }
}

/// Writes `bytes` bytes to memory without reading its lines first or keeping them in a cache.
///
/// # Safety
/// `from` and `dst` must be valid for them; [`streamed`] must be called before others read them.
unsafe fn stream(from: *const u8, dst: *mut u8, bytes: usize) {
    // SAFETY: the caller's promise; lines are aligned and whole.
    unsafe {
        #[cfg(target_arch = "x86_64")]
        if crate::isa::isa() >= crate::isa::Isa::Avx2 {
            let head = dst.align_offset(64).min(bytes);
            std::ptr::copy_nonoverlapping(from, dst, head);
            let lines = (bytes - head) / 64;
            stream_lines(from.add(head), dst.add(head), lines);
            let done = head + lines * 64;
            std::ptr::copy_nonoverlapping(from.add(done), dst.add(done), bytes - done);
            return;
        }
        std::ptr::copy_nonoverlapping(from, dst, bytes);
    }
}

/// # Safety
/// Both must be valid for `n` lines of 64 bytes, `dst` aligned to one; the processor must have AVX2.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
unsafe fn stream_lines(from: *const u8, dst: *mut u8, n: usize) {
    use std::arch::x86_64::{__m256i, _mm256_loadu_si256, _mm256_stream_si256};
    for k in 0..2 * n {
        // SAFETY: the caller's promise.
        unsafe {
            let half = _mm256_loadu_si256(from.cast::<__m256i>().add(k));
            _mm256_stream_si256(dst.cast::<__m256i>().add(k), half);
        }
    }
}

/// Makes what this thread streamed visible to whoever sees what it does next.
fn streamed() {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every x86-64 processor has the instruction.
    unsafe {
        std::arch::x86_64::_mm_sfence();
    }
}

/// Writes a block to an output's memory, rounding to a half type.
///
/// # Safety
/// `from` must be valid for `m` elements of the compute type, `dst` for `m` of `dtype`.
unsafe fn store(from: *const u8, compute: DType, dst: *mut u8, dtype: DType, m: usize) {
    debug_assert_eq!(compute, dtype.compute());
    // SAFETY: the caller's promise.
    unsafe {
        if dtype == compute {
            // The places may be the same where an output is an operand and shares its memory.
            std::ptr::copy(from, dst, m * dtype.size());
        } else {
            store_f32(std::slice::from_raw_parts(from.cast(), m), dtype, dst);
        }
    }
}

/// Runs a single operation on a few contiguous or repeated elements without a plan, a pool or a
/// heap; says whether it did.
pub(super) fn small(op: StepOp, operand: DType, result: DType, job: &Job<'_>) -> bool {
    let out = &job.outputs[0];
    let n = out.size();
    if n > SMALL {
        return false;
    }
    if n == 0 {
        return true;
    }
    let plain = |i: &Operand<'_>| i.is_contiguous() || i.strides.iter().all(|&s| s == 0);
    if !job.inputs.iter().all(plain) {
        return false;
    }
    #[repr(align(64))]
    struct Block(MaybeUninit<[u64; SMALL]>);
    let mut blocks = [const { Block(MaybeUninit::uninit()) }; 4];
    let [b0, b1, b2, b3] = &mut blocks;
    let mut args = [std::ptr::null::<u8>(); 3];
    let mut shared = false;
    // SAFETY: operands are valid for `n` elements, or one; blocks hold `SMALL` of any compute type;
    // the kernel's destination is the output only where that is no operand's memory.
    unsafe {
        for ((i, block), arg) in job.inputs.iter().zip([b0, b1, b2]).zip(&mut args) {
            shared |= i.ptr == out.ptr.cast_const();
            let block = block.0.as_mut_ptr().cast::<u8>();
            *arg = if !i.is_contiguous() {
                splat(Source { ptr: i.ptr, dtype: i.dtype }, block, n);
                block
            } else if i.dtype.compute() != i.dtype {
                load_f32(i.ptr, i.dtype, std::slice::from_raw_parts_mut(block.cast(), n));
                block
            } else {
                i.ptr
            };
        }
        let compute = result.compute();
        let direct = compute == result && !shared;
        let dst = if direct { out.ptr } else { b3.0.as_mut_ptr().cast() };
        match kernel(Kind::Step(op), operand, result) {
            Kernel::One(k) => k(args[0], dst, n),
            Kernel::Two(k) => k(args[0], args[1], dst, n),
            Kernel::Three(k) => k(args[0], args[1], args[2], dst, n),
        }
        if !direct {
            store(dst, compute, out.ptr, result, n);
        }
    }
    true
}

//! Fourier transforms along one axis, of any length.
//!
//! Powers of two have transforms of our own where the processor has AVX-512 ([`wide`]), which read
//! and write lines where they lie and let threads share a long one. All others are `rustfft`'s and `realfft`'s (mixed
//! radix, and Bluestein's or Rader's algorithm for large primes); this file brings lines to them and takes them
//! back. Lines are handled in tiles: those of the last axis are transformed where the output lies, others are turned into
//! neighbouring memory first, several beside one another, so that whole cache lines are moved. Tiles
//! run in parallel, and each line is computed by itself, so threads change no bit. Plans, which hold
//! the tables of a length, are kept for the next time.

#[cfg(target_arch = "x86_64")]
mod columns;
#[cfg(target_arch = "x86_64")]
mod wide;

#[cfg(target_arch = "x86_64")]
use crate::isa::{Isa, isa};
#[cfg(target_arch = "x86_64")]
use crate::matmul::driver::with_scratch;
use crate::pool::parallel_ranges;
use crate::pool::threads;
use crate::rows::Shared;
use crate::strided::offset_of;
use lazul_ir::{Complex32, ErrorKind, FftKind, Job, OpError, Shape};
use realfft::{ComplexToReal, RealFftPlanner, RealToComplex};
use rustfft::{Fft, FftPlanner};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock};

/// Points that a tile has, about.
const TILE: usize = 1 << 13;
/// Lines that lie beside one another and are turned together, at least.
const BESIDE: usize = 8;
/// Points of all plans that are kept, about: their tables take 8 bytes a point or a little more.
const KEPT: usize = 1 << 21;

/// A transform of one length.
#[derive(Clone)]
enum Plan {
    Complex(Arc<dyn Fft<f32>>),
    RealToHalf(Arc<dyn RealToComplex<f32>>),
    HalfToReal(Arc<dyn ComplexToReal<f32>>),
    #[cfg(target_arch = "x86_64")]
    Wide(Arc<wide::Wide>),
    #[cfg(target_arch = "x86_64")]
    WideReal(Arc<wide::Real>),
}

/// Plans made so far.
#[derive(Default)]
struct Plans {
    made: HashMap<(FftKind, usize), Plan>,
    points: usize,
    complex: Option<FftPlanner<f32>>,
    real: Option<RealFftPlanner<f32>>,
}

/// The plan of a kind and length.
fn plan(kind: FftKind, n: usize) -> Plan {
    static PLANS: Mutex<Option<Plans>> = Mutex::new(None);
    let mut lock = PLANS.lock().unwrap_or_else(|e| e.into_inner());
    let plans = lock.get_or_insert_with(Plans::default);
    if let Some(plan) = plans.made.get(&(kind, n)) {
        return plan.clone();
    }
    // A program that meets new lengths for ever must not keep them all.
    if plans.points.saturating_add(n) > KEPT || plans.made.len() > 1024 {
        *plans = Plans::default();
    }
    let complex = plans.complex.get_or_insert_with(FftPlanner::new);
    let real = plans.real.get_or_insert_with(RealFftPlanner::new);
    let plan = own(kind, n).unwrap_or_else(|| match kind {
        FftKind::Forward => Plan::Complex(complex.plan_fft_forward(n)),
        FftKind::Inverse => Plan::Complex(complex.plan_fft_inverse(n)),
        FftKind::RealToHalf => Plan::RealToHalf(real.plan_fft_forward(n)),
        FftKind::HalfToReal => Plan::HalfToReal(real.plan_fft_inverse(n)),
    });
    plans.points += n;
    plans.made.insert((kind, n), plan.clone());
    plan
}

/// Our own plan of a kind and length, if there is one.
#[cfg(target_arch = "x86_64")]
fn own(kind: FftKind, n: usize) -> Option<Plan> {
    let real = matches!(kind, FftKind::RealToHalf | FftKind::HalfToReal);
    let points = if real { n / 2 } else { n };
    let ours = isa() == Isa::Avx512 && n.is_power_of_two();
    (ours && (wide::LEAST..=wide::MOST).contains(&points)).then(|| match real {
        true => Plan::WideReal(Arc::new(wide::Real::new(points))),
        false => Plan::Wide(Arc::new(wide::Wide::new(points))),
    })
}

#[cfg(not(target_arch = "x86_64"))]
fn own(_kind: FftKind, _n: usize) -> Option<Plan> {
    None
}

/// `x` → its transform along `axis`, times `scale`.
pub(crate) fn fft(kind: FftKind, axis: usize, scale: f32, job: &Job<'_>) -> Result<(), OpError> {
    let (input, out) = (&job.inputs[0], &job.outputs[0]);
    let (m, k) = (input.shape[axis], out.shape[axis]);
    let n = if kind == FftKind::HalfToReal { k } else { m };
    let without = |of: &[isize]| [&of[..axis], &of[axis + 1..]].concat();
    let out_strides = Shape::new(out.shape).strides();
    let lines = Lines {
        plan: plan(kind, n),
        rest: [&input.shape[..axis], &input.shape[axis + 1..]].concat(),
        from: Side {
            ptr: Shared::new(input.ptr.cast_mut()),
            len: m,
            stride: input.strides[axis],
            rest: without(input.strides),
        },
        to: Side {
            ptr: Shared::new(out.ptr),
            len: k,
            stride: out_strides[axis],
            rest: without(&out_strides),
        },
        scale,
    };
    let count: usize = lines.rest.iter().product();
    let least = if lines.to.stride == 1 { 1 } else { BESIDE };
    #[cfg(target_arch = "x86_64")]
    if let Plan::Wide(_) | Plan::WideReal(_) = lines.plan {
        // SAFETY: the lines exist, their results belong to the job, and plans are made at a level with AVX-512.
        unsafe { lines.wide(kind, (TILE / n).max(least)) };
        return Ok(());
    }
    let failed: OnceLock<OpError> = OnceLock::new();
    parallel_ranges(count, (TILE / n).max(least), |start, end| {
        // SAFETY: the lines exist, and their results belong to this range alone.
        if let Err(e) = unsafe { lines.run(kind, start, end) } {
            let _ = failed.set(e);
        }
    });
    failed.into_inner().map_or(Ok(()), Err)
}

/// Where lines lie, in the operand or in the output.
struct Side {
    ptr: Shared<u8>,
    /// Elements of a line.
    len: usize,
    /// Distance between them.
    stride: isize,
    /// Strides of the other axes.
    rest: Vec<isize>,
}

struct Lines {
    plan: Plan,
    /// Lengths of the other axes.
    rest: Vec<usize>,
    from: Side,
    to: Side,
    scale: f32,
}

/// Zeros, unless there is no memory for them.
fn room<T: Clone + Default>(kind: FftKind, n: usize) -> Result<Vec<T>, OpError> {
    let mut out = Vec::new();
    if out.try_reserve_exact(n).is_err() {
        let message = format!("no memory for {n} elements of scratch");
        return Err(OpError::new(ErrorKind::OutOfMemory, kind.name(), message));
    }
    out.resize(n, T::default());
    Ok(out)
}

/// A number of the transforms: f32 or complex64.
trait Number: Copy + Default + std::ops::MulAssign<f32> {}
impl Number for f32 {}
impl Number for Complex32 {}

impl Lines {
    /// Transforms lines `start..end`.
    ///
    /// # Safety
    /// They must exist, and their results belong to this call alone.
    unsafe fn run(&self, kind: FftKind, start: usize, end: usize) -> Result<(), OpError> {
        let (m, k, count) = (self.from.len, self.to.len, end - start);
        match &self.plan {
            Plan::Complex(fft) => {
                let mut scratch = room(kind, fft.get_inplace_scratch_len())?;
                // SAFETY: the caller's promise.
                unsafe {
                    self.output(kind, start, end, |lines| {
                        self.load(start, end, lines);
                        fft.process_with_scratch(lines, &mut scratch);
                    })
                }
            }
            Plan::RealToHalf(fft) => {
                let mut real: Vec<f32> = room(kind, count * m)?;
                let mut scratch = room(kind, fft.get_scratch_len())?;
                // SAFETY: the caller's promise.
                unsafe {
                    self.load(start, end, &mut real);
                    self.output(kind, start, end, |lines| {
                        for (x, y) in real.chunks_mut(m).zip(lines.chunks_mut(k)) {
                            let done = fft.process_with_scratch(x, y, &mut scratch);
                            done.expect("lengths are those of the plan");
                        }
                    })
                }
            }
            Plan::HalfToReal(fft) => {
                let mut half: Vec<Complex32> = room(kind, count * m)?;
                let mut scratch = room(kind, fft.get_scratch_len())?;
                // SAFETY: the caller's promise.
                unsafe {
                    self.load(start, end, &mut half);
                    self.output(kind, start, end, |lines| {
                        for (x, y) in half.chunks_mut(m).zip(lines.chunks_mut(k)) {
                            x[0].im = 0.0;
                            if k.is_multiple_of(2) {
                                x[k / 2].im = 0.0;
                            }
                            let done = fft.process_with_scratch(x, y, &mut scratch);
                            done.expect("lengths are those of the plan");
                        }
                    })
                }
            }
            #[cfg(target_arch = "x86_64")]
            Plan::Wide(_) | Plan::WideReal(_) => unreachable!("plans that take lines as they lie"),
        }
    }

    /// Reads lines `start..end`, one after the other.
    ///
    /// # Safety
    /// They must exist and be of type `T`, and `lines` hold as many elements.
    unsafe fn load<T: Copy>(&self, start: usize, end: usize, lines: &mut [T]) {
        let (m, stride) = (self.from.len, self.from.stride);
        let src = self.from.ptr.get().cast::<T>().cast_const();
        if self.to.stride == 1 || stride == 1 {
            for (line, to) in (start..end).zip(lines.chunks_mut(m)) {
                let src = src.wrapping_offset(offset_of(line, &self.rest, &self.from.rest));
                if stride == 1 {
                    // SAFETY: the line's elements are neighbours.
                    to.copy_from_slice(unsafe { std::slice::from_raw_parts(src, m) });
                } else {
                    for (j, to) in to.iter_mut().enumerate() {
                        // SAFETY: element `j` of the line exists.
                        *to = unsafe { *src.offset(j as isize * stride) };
                    }
                }
            }
            return;
        }
        for at in (start..end).step_by(BESIDE) {
            let count = BESIDE.min(end - at);
            let mut offsets = [0isize; BESIDE];
            for (i, offset) in offsets[..count].iter_mut().enumerate() {
                *offset = offset_of(at + i, &self.rest, &self.from.rest);
            }
            let lines = &mut lines[(at - start) * m..];
            for j in 0..m {
                let row = src.wrapping_offset(j as isize * stride);
                for (i, &offset) in offsets[..count].iter().enumerate() {
                    // SAFETY: element `j` of line `at + i` exists.
                    lines[i * m + j] = unsafe { *row.offset(offset) };
                }
            }
        }
    }

    /// Has `compute` write the results of lines `start..end`, one after the other, and brings them,
    /// scaled, to their places.
    ///
    /// # Safety
    /// The places must exist, belong to this call alone, and be of type `T`.
    unsafe fn output<T: Number>(
        &self,
        kind: FftKind,
        start: usize,
        end: usize,
        compute: impl FnOnce(&mut [T]),
    ) -> Result<(), OpError> {
        let k = self.to.len;
        let dst = self.to.ptr.get().cast::<T>();
        let scale = |lines: &mut [T]| {
            if self.scale != 1.0 {
                lines.iter_mut().for_each(|x| *x *= self.scale);
            }
        };
        if self.to.stride == 1 {
            // SAFETY: rows of the output lie one after the other. Writing zeros first makes them
            // elements, which a slice must be.
            let lines = unsafe {
                dst.add(start * k).write_bytes(0, (end - start) * k);
                std::slice::from_raw_parts_mut(dst.add(start * k), (end - start) * k)
            };
            compute(lines);
            scale(lines);
            return Ok(());
        }
        let mut lines: Vec<T> = room(kind, (end - start) * k)?;
        compute(&mut lines);
        scale(&mut lines);
        // SAFETY: the caller's promise.
        unsafe { self.spread(start, end, &lines) };
        Ok(())
    }

    /// Brings lines `start..end` to their places.
    ///
    /// # Safety
    /// The places must exist, belong to this call alone, and be of type `T`.
    unsafe fn spread<T: Copy>(&self, start: usize, end: usize, lines: &[T]) {
        let k = self.to.len;
        let dst = self.to.ptr.get().cast::<T>();
        for at in (start..end).step_by(BESIDE) {
            let count = BESIDE.min(end - at);
            let mut offsets = [0isize; BESIDE];
            for (i, offset) in offsets[..count].iter_mut().enumerate() {
                *offset = offset_of(at + i, &self.rest, &self.to.rest);
            }
            let lines = &lines[(at - start) * k..];
            for j in 0..k {
                let row = dst.wrapping_offset(j as isize * self.to.stride);
                for (i, &offset) in offsets[..count].iter().enumerate() {
                    // SAFETY: element `j` of line `at + i` exists and is this call's.
                    unsafe { row.offset(offset).write(lines[i * k + j]) };
                }
            }
        }
    }
}

/// Points from which on threads share a line.
#[cfg(target_arch = "x86_64")]
const LONG: usize = 1 << 15;

/// Transforms of our own.
#[cfg(target_arch = "x86_64")]
impl Lines {
    /// Transforms all lines, `grain` of them at a time. A line that is no run of memory on one side is
    /// brought to or from one.
    ///
    /// # Safety
    /// The lines must exist, and their results belong to this call alone.
    unsafe fn wide(&self, kind: FftKind, grain: usize) {
        let count: usize = self.rest.iter().product();
        let plan = match &self.plan {
            Plan::Wide(plan) => &**plan,
            Plan::WideReal(plan) => &plan.half,
            _ => unreachable!("a plan of others"),
        };
        // SAFETY: the caller's contract; numbers of lines are f32, one or two for each element.
        unsafe {
            // A long line is shared where there are fewer lines than threads.
            if plan.n >= LONG && count < threads() {
                return (0..count).for_each(|i| self.some(kind, plan, i, i + 1, true));
            }
            parallel_ranges(count, grain, |start, end| self.some(kind, plan, start, end, false));
        }
    }

    /// Transforms lines `start..end`, on all threads or on this one.
    ///
    /// # Safety
    /// As for [`Lines::wide`].
    unsafe fn some(&self, kind: FftKind, plan: &wide::Wide, start: usize, end: usize, share: bool) {
        let (from_width, to_width) = match kind {
            FftKind::Forward | FftKind::Inverse => (2, 2),
            FftKind::RealToHalf => (1, 2),
            FftKind::HalfToReal => (2, 1),
        };
        let (m, k, lines) = (self.from.len * from_width, self.to.len * to_width, end - start);
        let (read, written) = (self.from.stride != 1, self.to.stride != 1);
        let room =
            |wanted: bool, n: usize| if wanted { n.next_multiple_of(columns::LANES) } else { 0 };
        let (sources, results) = (room(read, lines * m), room(written, lines * k));
        let spectrum = room(kind == FftKind::HalfToReal, 2 * plan.n);
        let sizes = [plan.between(), room(!share, plan.room()), spectrum, sources, results];
        with_scratch::<f32, _>(sizes.iter().sum(), |own| {
            let (between, own) = own.split_at_mut(sizes[0]);
            let (buffer, own) = own.split_at_mut(sizes[1]);
            let (spectrum, own) = own.split_at_mut(sizes[2]);
            let (sources, results) = own.split_at_mut(sizes[3]);
            let mut work = Work { between, buffer: (!share).then_some(buffer), spectrum };
            // SAFETY: the caller's contract.
            unsafe {
                if read && from_width == 2 {
                    self.load::<Complex32>(start, end, bytemuck::cast_slice_mut(sources));
                } else if read {
                    self.load::<f32>(start, end, sources);
                }
                for i in 0..lines {
                    let from = match read {
                        true => sources.as_mut_ptr().add(i * m),
                        false => {
                            let at = offset_of(start + i, &self.rest, &self.from.rest);
                            let at = at * from_width as isize;
                            self.from.ptr.get().cast::<f32>().wrapping_offset(at)
                        }
                    };
                    let to = match written {
                        true => results.as_mut_ptr().add(i * k),
                        false => self.to.ptr.get().cast::<f32>().add((start + i) * k),
                    };
                    self.line(kind, plan, from, to, &mut work);
                }
                if written && to_width == 2 {
                    self.spread::<Complex32>(start, end, bytemuck::cast_slice(results));
                } else if written {
                    self.spread::<f32>(start, end, results);
                }
            }
        });
    }

    /// Transforms a line from one run of numbers to another.
    ///
    /// # Safety
    /// They must hold the line and its result, and the latter belong to this call alone.
    unsafe fn line(
        &self,
        kind: FftKind,
        plan: &wide::Wide,
        from: *mut f32,
        to: *mut f32,
        work: &mut Work<'_>,
    ) {
        let swap = matches!(kind, FftKind::Inverse | FftKind::HalfToReal);
        let pairs = |at, scale| columns::Pairs { at, step: 0, swap, scale };
        // SAFETY: the caller's contract; the plan's level is in use.
        unsafe {
            let from = match &self.plan {
                Plan::WideReal(real) if kind == FftKind::HalfToReal => {
                    real.put_together(from, work.spectrum.as_mut_ptr());
                    work.spectrum.as_mut_ptr()
                }
                _ => from,
            };
            transform(plan, &pairs(from, 1.0), &pairs(to, self.scale), work);
            if let (Plan::WideReal(real), FftKind::RealToHalf) = (&self.plan, kind) {
                real.take_apart(to);
            }
        }
    }
}

/// Memory that a transform of our own works in.
#[cfg(target_arch = "x86_64")]
struct Work<'a> {
    between: &'a mut [f32],
    /// The buffer of this thread; none if all threads share a line.
    buffer: Option<&'a mut [f32]>,
    /// Room for the pairs of a line that comes as half of a spectrum.
    spectrum: &'a mut [f32],
}

/// Transforms the pairs of a line.
///
/// # Safety
/// They must be readable and writable, and the level have AVX-512.
#[cfg(target_arch = "x86_64")]
unsafe fn transform(
    plan: &wide::Wide,
    from: &columns::Pairs,
    to: &columns::Pairs,
    work: &mut Work<'_>,
) {
    let between = Shared::new(work.between.as_mut_ptr());
    let mut own = work.buffer.as_mut().map(|buffer| buffer.as_mut_ptr());
    // Groups of columns of a half, each of so many points.
    let mut half = |groups: usize, points: usize, run: &(dyn Fn(usize, *mut f32) + Sync)| {
        if let Some(buffer) = &mut own {
            return (0..groups).for_each(|group| run(group, *buffer));
        }
        parallel_ranges(groups, (TILE / points).max(1), |start, end| {
            with_scratch::<f32, _>(plan.room(), |buffer| {
                (start..end).for_each(|group| run(group, buffer.as_mut_ptr()));
            });
        });
    };
    let (first, second) = plan.groups();
    // SAFETY: the caller's contract; groups write places of their own.
    half(first, plan.n / first, &|group, buffer| unsafe {
        plan.first(group, from, between.get(), buffer);
    });
    // SAFETY: as above.
    half(second, plan.n / second, &|group, buffer| unsafe {
        plan.second(group, between.get(), to, buffer);
    });
}

#[cfg(test)]
mod tests;

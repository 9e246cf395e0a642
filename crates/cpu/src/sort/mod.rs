//! Stable sorting along an axis.
//!
//! Elements become unsigned keys of the same order (the sign bit of floats flipped, NaN the largest
//! key, -0 the key of +0, complex numbers lexicographic), and what is sorted is the key with the
//! element's position below it: entries are then distinct, so that any algorithm gives the one stable
//! order and threads cannot change it. Where positions are not asked for, and no two elements that
//! differ share a key, keys are sorted alone and turned back into elements. Lines run in parallel; a
//! long line is sorted by a parallel radix sort.

use crate::pool::{parallel, parallel_ranges};
use crate::rows::{Shared, apart, at};
use crate::strided::offset_of;
use lazul_ir::{Complex32, DType, Job, Operand, Target, bf16, f16};
use smallvec::SmallVec;

mod radix;
mod search;

pub(crate) use search::searchsorted;

/// `x` → its elements in ascending order along `axis`.
pub(crate) fn sort(axis: usize, job: &Job<'_>) {
    run(axis, job, false);
}

/// `x` → the u32 positions that sort it along `axis`.
pub(crate) fn argsort(axis: usize, job: &Job<'_>) {
    run(axis, job, true);
}

fn run(axis: usize, job: &Job<'_>, positions: bool) {
    let out = job.outputs[0];
    if out.size() == 0 {
        return;
    }
    apart(&out, job.inputs, |out| {
        macro_rules! with {
            ($t:ty) => {
                lines::<$t>(axis, job, out, positions)
            };
        }
        match job.inputs[0].dtype {
            DType::Bool | DType::U8 => with!(u8),
            DType::U16 => with!(u16),
            DType::U32 => with!(u32),
            DType::U64 => with!(u64),
            DType::I8 => with!(i8),
            DType::I16 => with!(i16),
            DType::I32 => with!(i32),
            DType::I64 => with!(i64),
            DType::F16 => with!(f16),
            DType::BF16 => with!(bf16),
            DType::F32 => with!(f32),
            DType::F64 => with!(f64),
            DType::C64 => with!(Complex32),
        }
    });
}

/// An element that has an order-preserving unsigned key.
trait Sortable: Copy + Send + Sync {
    type Key: radix::Key;
    /// The key with a position below it.
    type Entry: radix::Entry;
    fn key(self) -> u64;
    /// The element that has a key; one of them, where [`Sortable::shares`] holds.
    fn from_key(key: u64) -> Self;
    /// Whether the key is also that of an element with other bits: NaN, and zeros.
    fn shares(self) -> bool;
}

macro_rules! integers {
    ($($t:ty, $unsigned:ty, $flip:expr, $key:ident, $entry:ty;)*) => {$(
        impl Sortable for $t {
            type Key = radix::$key;
            type Entry = $entry;
            #[inline(always)]
            fn key(self) -> u64 {
                (self as $unsigned ^ $flip) as u64
            }
            #[inline(always)]
            fn from_key(key: u64) -> $t {
                (key as $unsigned ^ $flip) as $t
            }
            #[inline(always)]
            fn shares(self) -> bool {
                false
            }
        }
    )*};
}
integers! {
    u8, u8, 0, Key8, u64;
    u16, u16, 0, Key16, u64;
    u32, u32, 0, Key32, u64;
    u64, u64, 0, Key64, (u64, u32);
    i8, u8, 0x80, Key8, u64;
    i16, u16, 0x8000, Key16, u64;
    i32, u32, 0x8000_0000, Key32, u64;
    i64, u64, 1 << 63, Key64, (u64, u32);
}

macro_rules! floats {
    ($($t:ty, $bits:ty, $sign:expr, $key:ident, $entry:ty;)*) => {$(
        impl Sortable for $t {
            type Key = radix::$key;
            type Entry = $entry;
            #[inline(always)]
            fn key(self) -> u64 {
                let bits = self.to_bits();
                let bits = if bits == $sign { 0 } else { bits }; // -0 is 0
                let key = if bits & $sign != 0 { !bits } else { bits | $sign };
                (if self.is_nan() { !0 } else { key }) as u64
            }
            #[inline(always)]
            fn from_key(key: u64) -> $t {
                let key = key as $bits;
                <$t>::from_bits(if key & $sign != 0 { key ^ $sign } else { !key })
            }
            #[inline(always)]
            fn shares(self) -> bool {
                self.is_nan() | (self.to_bits() == $sign)
            }
        }
    )*};
}
floats! {
    f16, u16, 0x8000u16, Key16, u64;
    bf16, u16, 0x8000u16, Key16, u64;
    f32, u32, 0x8000_0000u32, Key32, u64;
    f64, u64, 1u64 << 63, Key64, (u64, u32);
}

impl Sortable for Complex32 {
    type Key = radix::Key64;
    type Entry = (u64, u32);
    #[inline(always)]
    fn key(self) -> u64 {
        if self.is_nan() { !0 } else { self.re.key() << 32 | self.im.key() }
    }
    #[inline(always)]
    fn from_key(key: u64) -> Complex32 {
        Complex32::new(f32::from_key(key >> 32), f32::from_key(key & 0xffff_ffff))
    }
    #[inline(always)]
    fn shares(self) -> bool {
        self.re.shares() | self.im.shares()
    }
}

/// Walks some lines, neighbours in memory together, long lines in parallel. An element's slot is its
/// place where lines lie one after the other.
struct Each<'a> {
    len: usize,
    /// Where each line begins in the operand, and the distance between its elements.
    offsets: &'a [isize],
    step: isize,
    /// Where each line begins in the output, and the distance between its elements.
    starts: &'a [usize],
    inner: usize,
}

impl Each<'_> {
    /// Calls `f(slot, position, element)` for every element.
    #[inline(always)]
    fn read<T: Sortable>(&self, src: &Operand<'_>, f: impl Fn(usize, u32, T) + Sync) {
        parallel_ranges(self.len, 1 << 16, |low, high| {
            for i in low..high {
                for (l, &offset) in self.offsets.iter().enumerate() {
                    let from = src.ptr.cast::<T>().wrapping_offset(offset + i as isize * self.step);
                    // SAFETY: element `i` of a line of a live operand.
                    f(l * self.len + i, i as u32, unsafe { *from });
                }
            }
        });
    }

    /// Calls `f(line, slot, place)` for every element, `place` being that in the output.
    #[inline(always)]
    fn write(&self, f: impl Fn(usize, usize, usize) + Sync) {
        parallel_ranges(self.len, 1 << 16, |low, high| {
            for i in low..high {
                for (l, &start) in self.starts.iter().enumerate() {
                    f(l, l * self.len + i, start + i * self.inner);
                }
            }
        });
    }
}

/// Lines handled together where neighbours along the axis are far apart in memory.
const LINES: usize = 16;

fn lines<T: Sortable>(axis: usize, job: &Job<'_>, out: &Target<'_>, positions: bool) {
    use radix::{Entry, Key};
    let src = &job.inputs[0];
    let len = src.shape[axis];
    assert!(len <= u32::MAX as usize, "a line of 2^32 elements or more has no u32 positions");
    let without = |s: &[isize]| -> SmallVec<[isize; 6]> {
        s.iter().enumerate().filter(|(a, _)| *a != axis).map(|(_, &s)| s).collect()
    };
    let shape: SmallVec<[usize; 6]> =
        src.shape.iter().enumerate().filter(|(a, _)| *a != axis).map(|(_, &d)| d).collect();
    let strides = without(src.strides);
    let count: usize = shape.iter().product();
    let inner: usize = src.shape[axis + 1..].iter().product();
    let step = src.strides[axis];

    // Long lines come one after the other, each in parallel within itself.
    let group = if inner > 1 && len < radix::LONG { LINES } else { 1 };
    let sort_lines = |first: usize, last: usize| {
        let n = last - first;
        let offsets: SmallVec<[isize; LINES]> =
            (first..last).map(|l| offset_of(l, &shape, &strides)).collect();
        let starts: SmallVec<[usize; LINES]> =
            (first..last).map(|l| l / inner * len * inner + l % inner).collect();
        let each = Each { len, offsets: &offsets, step, starts: &starts, inner };
        if !positions {
            let shared = std::sync::atomic::AtomicBool::new(false);
            let mut keys: Vec<T::Key> = Vec::with_capacity(n * len);
            let slots = Shared::new(keys.as_mut_ptr());
            each.read::<T>(src, |slot, _, x| {
                // SAFETY: each slot is written once.
                unsafe { slots.get().add(slot).write(T::Key::new(x.key())) };
                if x.shares() {
                    shared.store(true, std::sync::atomic::Ordering::Relaxed);
                }
            });
            if !shared.into_inner() {
                // SAFETY: all slots were written.
                unsafe { keys.set_len(n * len) };
                keys.chunks_mut(len).for_each(radix::sort);
                each.write(|_, slot, place| {
                    // SAFETY: each place of the output is written once.
                    unsafe { at(out, place).cast::<T>().write(T::from_key(keys[slot].get())) };
                });
                return;
            }
        }
        let mut entries: Vec<T::Entry> = Vec::with_capacity(n * len);
        let slots = Shared::new(entries.as_mut_ptr());
        each.read::<T>(src, |slot, position, x| {
            // SAFETY: each slot is written once.
            unsafe { slots.get().add(slot).write(T::Entry::new(x.key(), position)) };
        });
        // SAFETY: all slots were written.
        unsafe { entries.set_len(n * len) };
        entries.chunks_mut(len).for_each(radix::sort);
        each.write(|line, slot, place| {
            let position = entries[slot].position();
            // SAFETY: an element of the line; each place of the output is written once.
            unsafe {
                if positions {
                    at(out, place).cast::<u32>().write(position);
                } else {
                    let offset = offsets[line] + position as isize * step;
                    at(out, place).cast::<T>().write(*src.ptr.cast::<T>().offset(offset));
                }
            }
        });
    };
    if len >= radix::LONG && count < 8 {
        (0..count).for_each(|l| sort_lines(l, l + 1));
    } else if group > 1 {
        // Groups do not reach past the end of the axes that follow.
        let groups = inner.div_ceil(group);
        parallel(count / inner * groups, |i| {
            let (outer, first) = (i / groups * inner, i % groups * group);
            sort_lines(outer + first, outer + inner.min(first + group));
        });
    } else {
        let grain = ((1 << 13) / len).max(1);
        parallel_ranges(count, grain, |first, last| {
            (first..last).for_each(|l| sort_lines(l, l + 1));
        });
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{Rng, Tensor, inline, layouts, run};
    use lazul_ir::{Complex32, DType, Prim};
    use std::cmp::Ordering;

    /// Order of two elements: NaN last, complex numbers lexicographic.
    fn order(a: (f64, f64), b: (f64, f64)) -> Ordering {
        let nan = |x: (f64, f64)| x.0.is_nan() || x.1.is_nan();
        nan(a).cmp(&nan(b)).then(a.partial_cmp(&b).unwrap_or(Ordering::Equal))
    }

    fn check(x: &Tensor, axis: usize, what: &str) {
        let (shape, n) = (x.shape.clone(), x.shape[axis]);
        let inner: usize = shape[axis + 1..].iter().product();
        let scalars = x.scalars();
        let (mut sorted, mut positions) = (x.bits(), vec![0u64; x.size()]);
        for line in 0..x.size() / n.max(1) {
            let at = |i: usize| (line / inner * n + i) * inner + line % inner;
            let mut p: Vec<usize> = (0..n).collect();
            p.sort_by(|&a, &b| order(scalars[at(a)].to_c128(), scalars[at(b)].to_c128()));
            for (i, &p) in p.iter().enumerate() {
                positions[at(i)] = p as u64;
                sorted[at(i)] = scalars[at(p)].bits;
            }
        }
        let axis = axis as u8;
        let (s, a) = (Prim::Sort { axis }, Prim::ArgSort { axis });
        let run_sort = || run(&s, &[x], x.dtype, &shape).bits();
        let run_argsort = || run(&a, &[x], DType::U32, &shape).bits();
        assert!(run_argsort() == positions, "argsort {what} {} {shape:?} {axis}", x.dtype);
        assert!(run_sort() == sorted, "sort {what} {} {shape:?} {axis}", x.dtype);
        assert!(inline(run_sort) == sorted && inline(run_argsort) == positions, "{what}: threads");
    }

    #[test]
    fn every_dtype_layout_and_axis() {
        let mut rng = Rng(1);
        for dtype in DType::ALL {
            for shape in [vec![7], vec![3, 5], vec![2, 40, 3], vec![3, 1, 4], vec![20, 300]] {
                // Small integers: many ties.
                let x = rng.tensor(dtype, &shape, -9.0, 9.0);
                for axis in 0..shape.len() {
                    for (name, x) in layouts(&x) {
                        check(&x, axis, name);
                    }
                }
            }
            let one = rng.tensor(dtype, &[3, 1], -9.0, 9.0);
            check(&one.broadcast(&[3, 6]), 1, "broadcast");
            check(&Tensor::empty(dtype, &[0, 3]), 1, "empty");
            check(&Tensor::empty(dtype, &[3, 0]), 1, "empty lines");
        }
    }

    #[test]
    fn full_ranges_and_long_lines() {
        let mut rng = Rng(2);
        for n in [1000, 40_000, 300_001] {
            let bits: Vec<u64> = (0..n).map(|_| rng.bits()).collect();
            check(&Tensor::new(&bits, &[n]), 0, "u64");
            check(
                &Tensor::new(&bits.iter().map(|&b| b as i64).collect::<Vec<_>>(), &[n]),
                0,
                "i64",
            );
            check(
                &Tensor::new(&bits.iter().map(|&b| b as i32).collect::<Vec<_>>(), &[n]),
                0,
                "i32",
            );
            check(&Tensor::new(&bits.iter().map(|&b| b as u8).collect::<Vec<_>>(), &[n]), 0, "u8");
            // Any bit pattern is a float: NaN, infinities, subnormals and both zeros among them.
            let floats: Vec<f32> = bits.iter().map(|&b| f32::from_bits(b as u32)).collect();
            check(&Tensor::new(&floats, &[n]), 0, "f32");
            let halves: Vec<half::f16> =
                bits.iter().map(|&b| half::f16::from_bits(b as u16)).collect();
            check(&Tensor::new(&halves, &[n]), 0, "f16");
            let doubles: Vec<f64> = bits.iter().map(|&b| f64::from_bits(b)).collect();
            check(&Tensor::new(&doubles, &[n]), 0, "f64");
        }
        let x = rng.tensor(DType::F32, &[3, 50_000], -1.0, 1.0);
        check(&x, 1, "several long lines");
        check(&x.transpose(&[1, 0]), 0, "long columns");
    }

    #[test]
    fn zeros_are_equal_and_nan_is_last() {
        let nan = f32::NAN;
        let x = Tensor::new(&[0.0f32, nan, -0.0, f32::INFINITY, -nan, 0.0, -1.0, -0.0], &[8]);
        let p = run(&Prim::ArgSort { axis: 0 }, &[&x], DType::U32, &[8]);
        assert_eq!(p.to_vec::<u32>(), [6, 0, 2, 5, 7, 3, 1, 4]);
        check(&x, 0, "specials");
        let c = Complex32::new;
        let x =
            Tensor::new(&[c(1.0, nan), c(1.0, 2.0), c(1.0, -2.0), c(-0.0, 1.0), c(0.0, 0.0)], &[5]);
        let p = run(&Prim::ArgSort { axis: 0 }, &[&x], DType::U32, &[5]);
        assert_eq!(p.to_vec::<u32>(), [4, 3, 2, 1, 0]);
    }
}

//! One line: its elements in order, or their positions.

use super::keys::{Sortable, common, from_keys, tally, to_entries, to_keys};
use super::split::{self, BLOCK};
use super::words::{self, Number, Room, Word};
use crate::pool::{parallel, parallel_ranges};
use crate::rows::Shared;
use lazul_ir::OpError;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

/// Lines up to this length are sorted in memory of the stack.
const SHORT: usize = 128;
/// From this length on, elements of sixteen bits are counted: what the table costs is then little.
const COUNTED: usize = 1 << 14;
/// Elements that one thread handles at once.
const GRAIN: usize = 1 << 16;

/// A line of elements `T`, and where what is found for it goes.
pub(super) struct Line<T, D> {
    pub(super) src: *const T,
    /// How far neighbours are apart.
    pub(super) step: isize,
    pub(super) dst: Shared<D>,
    /// How far neighbours of the output are apart.
    pub(super) inner: usize,
    pub(super) len: usize,
}

// SAFETY: elements are only read, and parts of the output that threads write are disjoint.
unsafe impl<T, D> Sync for Line<T, D> {}

impl<T: Sortable, D: Copy> Line<T, D> {
    /// Calls `f(start, elements)` for blocks of neighbouring elements from `start` to `end`.
    #[inline(always)]
    fn read(&self, start: usize, end: usize, mut f: impl FnMut(usize, &[T])) {
        // SAFETY: elements of a line of a live operand.
        unsafe {
            if self.step == 1 {
                f(start, std::slice::from_raw_parts(self.src.add(start), end - start));
                return;
            }
            let mut block = [*self.src; BLOCK];
            for start in (start..end).step_by(BLOCK) {
                let block = &mut block[..BLOCK.min(end - start)];
                for (i, x) in block.iter_mut().enumerate() {
                    *x = *self.src.offset((start + i) as isize * self.step);
                }
                f(start, block);
            }
        }
    }

    /// # Safety
    /// No other thread may write place `i`.
    #[inline(always)]
    unsafe fn write(&self, i: usize, x: D) {
        // SAFETY: `i` is below the length; the caller vouches for the rest.
        unsafe { self.dst.get().add(i * self.inner).write(x) };
    }
}

/// Sorts a line.
pub(super) fn sort<T: Sortable>(line: &Line<T, T>) -> Result<(), OpError> {
    let shared = AtomicBool::new(false);
    if T::TABLE > 0 && line.len >= (T::TABLE / 4).min(COUNTED) {
        count(line, &shared);
    } else {
        by_keys(line, &shared)?;
    }
    if !shared.into_inner() {
        return Ok(());
    }
    if T::ZERO.is_some() {
        restore(line);
        return Ok(());
    }
    by_entries(line, |i, position| {
        // SAFETY: an element of the line, and a place that is written once.
        unsafe { line.write(i, *line.src.offset(position as isize * line.step)) };
    })
}

/// The positions that sort a line.
pub(super) fn argsort<T: Sortable>(line: &Line<T, u32>) -> Result<(), OpError> {
    by_entries(line, |i, position| {
        // SAFETY: each place is written once.
        unsafe { line.write(i, position) };
    })
}

/// Calls `f` with room for a line's words: on the stack, or of the allocator.
fn with_room<W: Word>(
    len: usize,
    f: impl FnOnce(*mut W) -> Result<(), OpError>,
) -> Result<(), OpError> {
    if len <= SHORT {
        return f([const { std::mem::MaybeUninit::<W>::uninit() }; SHORT].as_mut_ptr().cast());
    }
    f(Room::new(len)?.ptr())
}

fn by_keys<T: Sortable>(line: &Line<T, T>, shared: &AtomicBool) -> Result<(), OpError> {
    let read = |start: usize, words: &mut [T::Word]| {
        line.read(start, start + words.len(), |at, elements| {
            if to_keys(elements, &mut words[at - start..][..elements.len()]) {
                shared.store(true, Relaxed);
            }
        });
    };
    let sort =
        |room: *mut T::Word,
         finish: &(dyn Fn(usize, &mut [T::Word]) -> Result<(), OpError> + Sync)| {
            let (room, bounds) = (Shared::new(room), T::Word::GREATEST);
            let line =
                split::Line { len: line.len, ascending: 0, bounds, read: &read, room, finish };
            // SAFETY: the room is of that length.
            unsafe { split::sort(&line) }
        };
    let place = line.dst.get().cast::<T::Word>();
    if size_of::<T>() == size_of::<T::Word>() && line.inner == 1 && place.is_aligned() {
        // Where the elements will be.
        return sort(place, &|_, words| {
            from_keys(words, PhantomData::<T>);
            Ok(())
        });
    }
    with_room(line.len, |room| {
        sort(room, &|start, words| {
            for (i, &word) in words.iter().enumerate() {
                // SAFETY: each place is written once.
                unsafe { line.write(start + i, T::from_key(word)) };
            }
            Ok(())
        })
    })
}

/// Calls `f(i, position)` with the position of the `i`-th element in order.
fn by_entries<T: Sortable, D: Copy>(
    line: &Line<T, D>,
    f: impl Fn(usize, u32) + Sync,
) -> Result<(), OpError> {
    // An entry has a position in as many bits as the line needs, at most thirty-two, and above it as much
    // of the key as there is room for, from where keys begin to differ.
    let bits = usize::BITS - (line.len - 1).leading_zeros();
    let shift = if T::Word::BYTES > 4 { bits.saturating_sub(common_bits(line)) } else { 0 };
    let positions = (1 << bits) - 1;
    let read = |start: usize, words: &mut [u64]| {
        line.read(start, start + words.len(), |at, elements| {
            to_entries(elements, at, shift, bits, &mut words[at - start..][..elements.len()]);
        });
    };
    let finish = |start: usize, words: &mut [u64]| {
        if shift > 0 {
            refine(line, shift, bits, words)?;
        }
        words.iter().enumerate().for_each(|(i, &word)| f(start + i, (word & positions) as u32));
        Ok(())
    };
    with_room(line.len, |room| {
        let bounds = if shift > 0 { !positions } else { !0 };
        let (room, ascending) = (Shared::new(room), bits as usize / 8);
        let line =
            split::Line { len: line.len, ascending, bounds, read: &read, room, finish: &finish };
        // SAFETY: the room is of that length.
        unsafe { split::sort(&line) }
    })
}

/// How many of their highest bits all keys share.
fn common_bits<T: Sortable, D: Copy>(line: &Line<T, D>) -> u32 {
    let (all, any) = (AtomicU64::new(u64::MAX), AtomicU64::new(0));
    parallel_ranges(line.len, GRAIN, |start, end| {
        line.read(start, end, |_, elements| {
            let (every, some) = common(elements);
            all.fetch_and(every, Relaxed);
            any.fetch_or(some, Relaxed);
        });
    });
    (all.into_inner() ^ any.into_inner()).leading_zeros()
}

/// Puts entries that differ in their positions alone in the order of the keys' lowest `shift` bits.
fn refine<T: Sortable, D: Copy>(
    line: &Line<T, D>,
    shift: u32,
    bits: u32,
    words: &mut [u64],
) -> Result<(), OpError> {
    let mut start = 0;
    while start < words.len() {
        let key = words[start] >> bits;
        let same = words[start..].iter().take_while(|&&word| word >> bits == key).count();
        let run = &mut words[start..start + same];
        start += same;
        if same > 1 {
            for word in run.iter_mut() {
                let position = *word & ((1 << bits) - 1);
                // SAFETY: an element of the line.
                let key = unsafe { *line.src.offset(position as isize * line.step) }.key().widen();
                *word = (key & ((1 << shift) - 1)) << bits | position;
            }
            words::sort(run, bits as usize / 8)?;
        }
    }
    Ok(())
}

/// Sorts elements of few keys: how many there are of each is all that must be known.
fn count<T: Sortable>(line: &Line<T, T>, shared: &AtomicBool) {
    let chunk = line.len.div_ceil(8).max(16 * T::TABLE);
    let chunks = line.len.div_ceil(chunk);
    let mut counts = vec![0u32; chunks * T::TABLE];
    let tables = Shared::new(counts.as_mut_ptr());
    parallel(chunks, |c| {
        // SAFETY: this chunk's table.
        let table = unsafe { tables.slice(c * T::TABLE, T::TABLE) };
        let mut keys = [T::Word::LEAST; BLOCK];
        let mut any = false;
        line.read(c * chunk, line.len.min((c + 1) * chunk), |_, elements| {
            for elements in elements.chunks(BLOCK) {
                any |= to_keys(elements, &mut keys);
                for key in &keys[..elements.len()] {
                    table[key.widen() as usize % T::TABLE] += 1;
                }
            }
        });
        if any {
            shared.store(true, Relaxed);
        }
    });
    let (ends, others) = counts.split_at_mut(T::TABLE);
    for table in others.chunks(T::TABLE) {
        ends.iter_mut().zip(table).for_each(|(sum, count)| *sum += count);
    }
    let mut end = 0;
    for sum in ends.iter_mut() {
        end += *sum;
        *sum = end;
    }
    let ends = &*ends;
    parallel_ranges(line.len, GRAIN, |start, end| {
        let (mut i, mut key) = (start, ends.partition_point(|&end| end as usize <= start));
        while i < end {
            let next = (ends[key] as usize).min(end);
            let element = T::from_key(T::Word::narrow(key as u64));
            for i in i..next {
                // SAFETY: a place of this range.
                unsafe { line.write(i, element) };
            }
            (i, key) = (next, key + 1);
        }
    });
}

/// Writes the zeros and the NaN of sorted floats again, as they are and in their order.
fn restore<T: Sortable>(line: &Line<T, T>) {
    let chunks = line.len.div_ceil(GRAIN);
    let range = |c: usize| (c * GRAIN, line.len.min((c + 1) * GRAIN));
    let mut tallies = vec![[0usize; 3]; chunks];
    let slots = Shared::new(tallies.as_mut_ptr());
    parallel(chunks, |c| {
        let (start, end) = range(c);
        line.read(start, end, |_, elements| {
            let found = tally(elements);
            // SAFETY: this chunk's slot.
            let mine = unsafe { &mut *slots.get().add(c) };
            mine.iter_mut().zip(found).for_each(|(sum, n)| *sum += n);
        });
    });
    let sum = |k: usize| tallies.iter().map(|tally| tally[k]).sum::<usize>();
    let (mut zero, mut nan) = (sum(0), line.len - sum(2));
    let begins: Vec<(usize, usize)> = tallies
        .iter()
        .map(|tally| {
            let begin = (zero, nan);
            (zero, nan) = (zero + tally[1], nan + tally[2]);
            begin
        })
        .collect();
    parallel(chunks, |c| {
        if tallies[c][1] + tallies[c][2] == 0 {
            return;
        }
        let (start, end) = range(c);
        let (mut zero, mut nan) = begins[c];
        line.read(start, end, |_, elements| {
            for &element in elements {
                let key = element.key().widen();
                let place = if key == T::NAN {
                    &mut nan
                } else if Some(key) == T::ZERO {
                    &mut zero
                } else {
                    continue;
                };
                // SAFETY: each chunk has places of its own, as many as it counted.
                unsafe { line.write(*place, element) };
                *place += 1;
            }
        });
    });
}

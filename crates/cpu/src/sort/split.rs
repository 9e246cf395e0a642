//! Long lines: words are dealt to buckets of ascending ranges, whose bounds are words of a sample, by
//! several threads; then buckets are sorted, each by one thread. How many buckets there are depends on
//! the threads; the sorted line does not.

use super::words::{self, Word};
use crate::pool::{parallel, threads};
use crate::rows::Shared;
use lazul_ir::OpError;
use std::sync::OnceLock;

/// Lines of this length and more are worth several threads of their own.
pub(super) const LONG: usize = 1 << 16;
/// Words that are read at once.
pub(super) const BLOCK: usize = 512;
/// Most buckets.
const BUCKETS: usize = 32;
/// Lines of this length and more are divided once while they are read.
#[cfg(target_arch = "x86_64")]
const HALVED: usize = 1 << 12;
/// Words of the sample for each bucket.
const SAMPLES: usize = 32;

/// What is sorted, and where.
pub(super) struct Line<'a, W> {
    pub(super) len: usize,
    /// How many of the lowest bytes of words ascend along the line.
    pub(super) ascending: usize,
    /// The bits of a word that bounds of buckets have; words that differ in others alone stay together.
    pub(super) bounds: W,
    /// Writes the words from a position on; called up to three times for each.
    pub(super) read: &'a (dyn Fn(usize, &mut [W]) + Sync),
    /// Room for all words.
    pub(super) room: Shared<W>,
    /// Takes the sorted words that begin at a position; called for all of them, part by part.
    pub(super) finish: &'a (dyn Fn(usize, &mut [W]) -> Result<(), OpError> + Sync),
}

/// Sorts a line.
///
/// # Safety
/// The room must be valid for the line's length, and nobody else's.
pub(super) unsafe fn sort<W: Word>(line: &Line<'_, W>) -> Result<(), OpError> {
    let Line { len, room, .. } = *line;
    if len < LONG || words::vectors() && threads() == 1 {
        // SAFETY: the caller vouches for the room.
        return unsafe { alone(line) };
    }
    let bounds = bounds(line, buckets())?;
    let chunk = (len / 64).next_multiple_of(BLOCK).clamp(1 << 14, 1 << 18);
    let chunks = len.div_ceil(chunk);
    let mut places = vec![[0usize; BUCKETS]; chunks];
    let counts = Shared::new(places.as_mut_ptr());
    let blocks = |c: usize, f: &mut dyn FnMut(&[W])| {
        let mut block = [W::LEAST; BLOCK];
        for start in (c * chunk..len.min((c + 1) * chunk)).step_by(BLOCK) {
            let block = &mut block[..BLOCK.min(len - start)];
            (line.read)(start, block);
            f(block);
        }
    };
    // How many words of each chunk belong to each bucket.
    parallel(chunks, |c| {
        let mut mine = [0usize; BUCKETS];
        blocks(c, &mut |block| count(block, &bounds, &mut mine));
        // SAFETY: this chunk's counts.
        unsafe { *counts.get().add(c) = mine };
    });
    let mut starts = [0; BUCKETS + 1];
    let mut next = 0;
    for bucket in 0..BUCKETS {
        starts[bucket] = next;
        for count in places.iter_mut() {
            (count[bucket], next) = (next, next + count[bucket]);
        }
    }
    starts[BUCKETS] = len;
    parallel(chunks, |c| {
        let mut mine = places[c];
        blocks(c, &mut |block| {
            // SAFETY: `read` gives the same words again, so that as many go to each bucket as were
            // counted, and the places of this chunk are its own.
            unsafe { deal(block, &bounds, &mut mine, room.get()) };
        });
    });
    let failed: OnceLock<OpError> = OnceLock::new();
    parallel(BUCKETS, |bucket| {
        let (start, end) = (starts[bucket], starts[bucket + 1]);
        // SAFETY: all words were written, and each bucket is a part of its own.
        let bucket = unsafe { room.slice(start, end - start) };
        if let Err(error) = finish(line, start, bucket) {
            let _ = failed.set(error);
        }
    });
    failed.into_inner().map_or(Ok(()), Err)
}

/// Sorts a line on this thread.
///
/// # Safety
/// As for [`sort`].
unsafe fn alone<W: Word>(line: &Line<'_, W>) -> Result<(), OpError> {
    let Line { len, room, .. } = *line;
    #[cfg(target_arch = "x86_64")]
    if words::vectors() && len >= HALVED {
        let mut block = [W::LEAST; BLOCK];
        let (bound, mut ends) = (bounds(line, 2)?[0], (0, len));
        for start in (0..len).step_by(BLOCK) {
            let block = &mut block[..BLOCK.min(len - start)];
            (line.read)(start, block);
            // SAFETY: the processor has the features; there is room for as many words as the line has.
            unsafe { super::vector::halve(block, bound, room.get(), &mut ends) };
        }
        // SAFETY: all words were written.
        let (less, others) = unsafe { room.slice(0, len) }.split_at_mut(ends.0);
        finish(line, 0, less)?;
        return finish(line, ends.0, others);
    }
    for start in (0..len).step_by(BLOCK) {
        let count = BLOCK.min(len - start);
        // SAFETY: the caller vouches for the room; words are plain numbers.
        let block = unsafe {
            std::ptr::write_bytes(room.get().add(start), 0, count);
            room.slice(start, count)
        };
        (line.read)(start, block);
    }
    // SAFETY: all words were written.
    finish(line, 0, unsafe { room.slice(0, len) })
}

/// Sorts a bucket, and hands it on: in parts, if there is no need that words stay together.
fn finish<W: Word>(line: &Line<'_, W>, start: usize, bucket: &mut [W]) -> Result<(), OpError> {
    if line.bounds != W::GREATEST {
        words::sort(bucket, line.ascending)?;
        return (line.finish)(start, bucket);
    }
    let mut result = Ok(());
    words::sort_parts(bucket, line.ascending, &mut |at, part| {
        if let Err(error) = (line.finish)(start + at, part) {
            result = Err(error);
        }
    })?;
    result
}

/// The least words of all buckets but the first.
fn bounds<W: Word>(line: &Line<'_, W>, buckets: usize) -> Result<Vec<W>, OpError> {
    let size = buckets * SAMPLES;
    let mut sample = vec![W::LEAST; size];
    let step = line.len / size;
    for (i, word) in sample.iter_mut().enumerate() {
        // Not every `step`-th: data may have that period.
        let noise = (i as u32).wrapping_mul(0x9e37_79b9) as usize >> 8;
        (line.read)(i * step + noise % step, std::slice::from_mut(word));
    }
    words::sort(&mut sample, 0)?;
    let bound = |b: usize| W::narrow(sample[b * SAMPLES].widen() & line.bounds.widen());
    Ok((1..buckets).map(bound).collect())
}

/// Vectors deal to few buckets more quickly; otherwise buckets shall fit a core's cache.
fn buckets() -> usize {
    if words::vectors() { (4 * threads()).next_power_of_two().clamp(8, BUCKETS) } else { BUCKETS }
}

/// Adds to each bucket's count the words that belong to it: those from its bound to the next one.
fn count<W: Word>(words: &[W], bounds: &[W], counts: &mut [usize; BUCKETS]) {
    #[cfg(target_arch = "x86_64")]
    if words::vectors() {
        // SAFETY: the processor has the features.
        unsafe { super::vector::count(words, bounds, counts) };
        return;
    }
    words.iter().for_each(|&word| counts[find(word, bounds)] += 1);
}

/// Writes each word to its bucket's place, and moves the place on.
///
/// # Safety
/// Buckets must have room for their words.
unsafe fn deal<W: Word>(words: &[W], bounds: &[W], places: &mut [usize; BUCKETS], room: *mut W) {
    #[cfg(target_arch = "x86_64")]
    if words::vectors() {
        // SAFETY: the processor has the features; the caller vouches for the room.
        unsafe { super::vector::deal(words, bounds, places, room) };
        return;
    }
    for &word in words {
        let place = &mut places[find(word, bounds)];
        // SAFETY: the caller vouches for the room.
        unsafe { room.add(*place).write(word) };
        *place += 1;
    }
}

/// How many of a power of two, less one, ascending bounds are not greater: a search without branches.
#[inline(always)]
fn find<W: Word>(word: W, bounds: &[W]) -> usize {
    let (mut found, mut step) = (0, bounds.len().div_ceil(2));
    while step > 0 {
        found += if word >= bounds[found + step - 1] { step } else { 0 };
        step /= 2;
    }
    found
}

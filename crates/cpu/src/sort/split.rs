//! Long lines: words are dealt to buckets of ascending ranges, whose bounds are words of a sample, by
//! several threads; then buckets are sorted, each by one thread and within its cache.

use super::words::{self, Room, Word};
use crate::dispatch;
use crate::pool::parallel;
use crate::rows::Shared;
use lazul_ir::OpError;
use std::sync::OnceLock;

/// Lines of this length and more are worth several threads of their own.
pub(super) const LONG: usize = 1 << 16;
/// Words that are read at once.
pub(super) const BLOCK: usize = 512;
/// Most buckets.
const BUCKETS: usize = 32;
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
    /// Takes the sorted words that begin at a position.
    pub(super) finish: &'a (dyn Fn(usize, &mut [W]) -> Result<(), OpError> + Sync),
}

/// Sorts a line.
///
/// # Safety
/// The room must be valid for the line's length, and nobody else's.
pub(super) unsafe fn sort<W: Word>(line: &Line<'_, W>) -> Result<(), OpError> {
    let Line { len, room, .. } = *line;
    if len < LONG {
        // SAFETY: the caller vouches for the room, and `read` writes all of it. Words are plain
        // numbers, which a slice may hold before they are written.
        let all = unsafe {
            std::ptr::write_bytes(room.get(), 0, len);
            room.slice(0, len)
        };
        (line.read)(0, all);
        words::sort(all, line.ascending)?;
        return (line.finish)(0, all);
    }
    let bounds = bounds(line)?;
    let chunk = (len / 64).next_multiple_of(BLOCK).clamp(1 << 14, 1 << 18);
    let chunks = len.div_ceil(chunk);
    let ids: Room<u8> = Room::new(len)?;
    let ids = Shared::new(ids.ptr());
    let mut places = vec![[0usize; BUCKETS]; chunks];
    let counts = Shared::new(places.as_mut_ptr());
    let blocks = |c: usize, f: &mut dyn FnMut(usize, &[W])| {
        let mut block = [W::LEAST; BLOCK];
        for start in (c * chunk..len.min((c + 1) * chunk)).step_by(BLOCK) {
            let block = &mut block[..BLOCK.min(len - start)];
            (line.read)(start, block);
            f(start, block);
        }
    };
    // Which bucket each word belongs to, and how many of each chunk belong to each.
    parallel(chunks, |c| {
        let mut count = [0usize; BUCKETS];
        blocks(c, &mut |start, block| {
            // SAFETY: bytes of this block, which is this chunk's alone.
            let ids = unsafe {
                std::ptr::write_bytes(ids.get().add(start), 0, block.len());
                ids.slice(start, block.len())
            };
            classify(block, &bounds, ids);
            ids.iter().for_each(|&id| count[id as usize % BUCKETS] += 1);
        });
        // SAFETY: this chunk's counts.
        unsafe { *counts.get().add(c) = count };
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
        let mut places = places[c];
        blocks(c, &mut |start, block| {
            // SAFETY: `read` gives the same words again, so that as many go to each bucket as were
            // counted, and the places of this chunk are its own.
            unsafe {
                for (i, &word) in block.iter().enumerate() {
                    let place = &mut places[*ids.get().add(start + i) as usize % BUCKETS];
                    room.get().add(*place).write(word);
                    *place += 1;
                }
            }
        });
    });
    let failed: OnceLock<OpError> = OnceLock::new();
    parallel(BUCKETS, |bucket| {
        let (start, end) = (starts[bucket], starts[bucket + 1]);
        // SAFETY: all words were written, and each bucket is a part of its own.
        let bucket = unsafe { room.slice(start, end - start) };
        let sorted = words::sort(bucket, line.ascending);
        if let Err(error) = sorted.and_then(|()| (line.finish)(start, bucket)) {
            let _ = failed.set(error);
        }
    });
    failed.into_inner().map_or(Ok(()), Err)
}

/// The least words of all buckets but the first.
fn bounds<W: Word>(line: &Line<'_, W>) -> Result<Vec<W>, OpError> {
    let buckets = (line.len / (LONG / 8)).min(BUCKETS);
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

dispatch! {
    /// How many bounds are not greater than each word.
    fn classify<W: Word>(words: &[W], bounds: &[W], ids: &mut [u8]) {
        const LANES: usize = 16;
        let (mut words, mut ids) = (words.chunks_exact(LANES), ids.chunks_exact_mut(LANES));
        for (words, ids) in words.by_ref().zip(ids.by_ref()) {
            let mut count = [W::LEAST; LANES];
            for bound in bounds {
                for lane in 0..LANES {
                    count[lane] = count[lane].plus(words[lane] >= *bound);
                }
            }
            for lane in 0..LANES {
                ids[lane] = count[lane].widen() as u8;
            }
        }
        for (word, id) in words.remainder().iter().zip(ids.into_remainder()) {
            *id = bounds.iter().filter(|&bound| word >= bound).count() as u8;
        }
    }
}

//! Random bits: Threefry-2x32 with 20 rounds, in the counter layout of JAX and MLX.
//!
//! Counters are hashed in vectorised blocks, and blocks run in parallel: a word depends on its key and
//! position alone.

use crate::dispatch;
use crate::pool::{parallel, parallel_ranges};
use crate::rows::Shared;
use lazul_ir::{Job, Operand};

/// Counters hashed at once.
const BLOCK: usize = 256;
/// Counters a parallel chunk takes.
const CHUNK: usize = 32 * BLOCK;

/// `keys u32 (B…, 2)` → `(B…, s…)`.
pub(crate) fn bits(job: &Job<'_>) {
    let (keys, out) = (job.inputs[0], job.outputs[0]);
    let lead = keys.shape.len() - 1;
    let count: usize = keys.shape[..lead].iter().product();
    if count == 0 || out.size() == 0 {
        return;
    }
    let bytes = out.size() / count * out.dtype.size(); // of one key
    let counters = bytes.div_ceil(4).div_ceil(2);
    let target = Shared::new(out.ptr);
    if counters > CHUNK {
        let chunks = counters.div_ceil(CHUNK);
        parallel(count * chunks, |i| {
            let (k, start) = (i / chunks, i % chunks * CHUNK);
            let end = counters.min(start + CHUNK);
            // SAFETY: the bytes of key `k`; chunks write different words of them.
            unsafe { stream(key(&keys, k), start, end, target.get().add(k * bytes), bytes) };
        });
    } else {
        parallel_ranges(count, (CHUNK / counters).max(1), |first, last| {
            for k in first..last {
                // SAFETY: the bytes of key `k`, which no other chunk writes.
                unsafe { stream(key(&keys, k), 0, counters, target.get().add(k * bytes), bytes) };
            }
        });
    }
}

fn key(keys: &Operand<'_>, i: usize) -> [u32; 2] {
    let lead = keys.shape.len() - 1;
    let offset = crate::strided::offset_of(i, &keys.shape[..lead], &keys.strides[..lead]);
    // SAFETY: key `i` of a live operand of u32 pairs.
    unsafe {
        let first = keys.ptr.cast::<u32>().offset(offset);
        [*first, *first.offset(keys.strides[lead])]
    }
}

/// Writes what counters `start..end` of a key's stream give to its `bytes` bytes at `out`.
///
/// # Safety
/// `out` must be valid for `bytes` bytes.
unsafe fn stream(key: [u32; 2], start: usize, end: usize, out: *mut u8, bytes: usize) {
    let words = bytes.div_ceil(4);
    let (half, odd) = (words / 2, words % 2);
    let second = half + odd;
    let (mut a, mut b) = ([0u32; BLOCK], [0u32; BLOCK]);
    let mut at = start;
    while at < end {
        let n = BLOCK.min(end - at);
        for i in 0..n {
            a[i] = (at + i) as u32;
            b[i] = (second + at + i) as u32;
        }
        if at + n > half {
            b[half - at] = 0; // the counter (h, 0) of an odd number of words
        }
        threefry(key, &mut a[..n], &mut b[..n]);
        let put = |words: &[u32], word: usize| {
            let (from, to) = (word * 4, bytes.min((word + words.len()) * 4));
            if from < to {
                // SAFETY: `from..to` lies in the key's bytes, and is at most `words` long.
                unsafe {
                    let words = words.as_ptr().cast::<u8>();
                    std::ptr::copy_nonoverlapping(words, out.add(from), to - from);
                }
            }
        };
        put(&a[..n], at);
        put(&b[..n.min(half - at.min(half))], second + at);
        at += n;
    }
}

dispatch! {
/// Hashes each pair `(a[i], b[i])` in place.
fn threefry(key: [u32; 2], a: &mut [u32], b: &mut [u32]) {
    const ROTATIONS: [[u32; 4]; 2] = [[13, 15, 26, 6], [17, 29, 16, 24]];
    let k = [key[0], key[1], key[0] ^ key[1] ^ 0x1bd1_1bda];
    for (a, b) in a.iter_mut().zip(b) {
        let mut x = a.wrapping_add(k[0]);
        let mut y = b.wrapping_add(k[1]);
        for group in 0..5 {
            for r in ROTATIONS[group % 2] {
                x = x.wrapping_add(y);
                y = y.rotate_left(r) ^ x;
            }
            x = x.wrapping_add(k[(group + 1) % 3]);
            y = y.wrapping_add(k[(group + 2) % 3]).wrapping_add(group as u32 + 1);
        }
        (*a, *b) = (x, y);
    }
}
}

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

#[cfg(test)]
mod tests {
    use crate::testing::{Tensor, inline, layouts, run};
    use lazul_ir::{DType, Prim};

    /// One key's bits by the definition, a word at a time.
    fn reference(key: [u32; 2], bytes: usize) -> Vec<u8> {
        let hash = |a: usize, b: usize| {
            let (mut a, mut b) = ([a as u32], [b as u32]);
            super::threefry(key, &mut a, &mut b);
            [a[0], b[0]]
        };
        let words = bytes.div_ceil(4);
        let (half, odd) = (words / 2, words % 2);
        let mut out = vec![0u32; words];
        for i in 0..half {
            [out[i], out[half + odd + i]] = hash(i, half + odd + i);
        }
        if odd == 1 {
            out[half] = hash(half, 0)[0];
        }
        let mut out: Vec<u8> = out.iter().flat_map(|w| w.to_le_bytes()).collect();
        out.truncate(bytes);
        out
    }

    #[test]
    fn threefry_has_its_published_values() {
        for (key, counter, want) in [
            ([0, 0], [0, 0], [0x6b200159, 0x99ba4efe]),
            ([!0, !0], [!0, !0], [0x1cb996fc, 0xbb002be7]),
            ([0x13198a2e, 0x03707344], [0x243f6a88, 0x85a308d3], [0xc4923a9c, 0x483df7a0]),
        ] {
            let (mut a, mut b) = ([counter[0]], [counter[1]]);
            super::threefry(key, &mut a, &mut b);
            assert_eq!([a[0], b[0]], want);
        }
    }

    /// The `bits` and `split` cases of `testkit/golden/random.json`, one on a line.
    #[test]
    fn bits_are_those_of_mlx() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../testkit/golden/random.json");
        let text = std::fs::read_to_string(path).unwrap();
        let mut cases = 0;
        for line in
            text.lines().filter(|l| l.contains(r#""fn":"bits""#) || l.contains(r#""fn":"split""#))
        {
            let list = |name: &str| -> Vec<u64> {
                let start = line.find(&format!("\"{name}\":[")).unwrap() + name.len() + 4;
                let text = &line[start..start + line[start..].find(']').unwrap()];
                text.split(',')
                    .filter(|t| !t.is_empty())
                    .map(|t| t.trim().parse().unwrap())
                    .collect()
            };
            let shape: Vec<usize> = list("shape").iter().map(|&d| d as usize).collect();
            let name = line.split(r#""dtype":""#).nth(1).unwrap().split('"').next().unwrap();
            let dtype = DType::from_name(name).unwrap();
            let key: Vec<u32> = list("key").iter().map(|&k| k as u32).collect();
            let got = run(&Prim::RandomBits, &[&Tensor::new(&key, &[2])], dtype, &shape);
            assert_eq!(got.bits(), list("values"), "{line}");
            cases += 1;
        }
        assert!(cases > 20, "{cases}");
        let split = run(&Prim::RandomBits, &[&Tensor::new(&[0u32, 0], &[2])], DType::U32, &[2, 2]);
        assert_eq!(split.to_vec::<u32>(), [4146024105, 967050713, 2718843009, 1272950319]);
    }

    #[test]
    fn every_key_has_its_own_stream_of_any_length_and_width() {
        let keys: Vec<u32> = (0..24).map(|i: u32| i.wrapping_mul(0x9e37_79b9)).collect();
        let keys = Tensor::new(&keys, &[3, 4, 2]);
        for (name, keys) in layouts(&keys) {
            let pairs: Vec<[u32; 2]> =
                keys.to_vec::<u32>().chunks(2).map(|k| [k[0], k[1]]).collect();
            for dtype in [DType::U8, DType::U16, DType::U32] {
                for n in [0, 1, 2, 3, 5, 7, 8, 511, 513, 2049, 20_000] {
                    if n == 20_000 && name != "row-major" {
                        continue;
                    }
                    let got = run(&Prim::RandomBits, &[&keys], dtype, &[3, 4, n]);
                    let want: Vec<u64> = pairs
                        .iter()
                        .flat_map(|&key| reference(key, n * dtype.size()))
                        .collect::<Vec<u8>>()
                        .chunks(dtype.size())
                        .map(|c| c.iter().rev().fold(0, |x, &b| x << 8 | b as u64))
                        .collect();
                    assert_eq!(got.bits(), want, "{name} {dtype} {n}");
                    let alone = inline(|| run(&Prim::RandomBits, &[&keys], dtype, &[3, 4, n]));
                    assert_eq!(got.bits(), alone.bits());
                }
            }
        }
        let key = Tensor::new(&[5u32, 6], &[2]);
        let got = run(&Prim::RandomBits, &[&key], DType::U16, &[100_001]);
        let want = reference([5, 6], 200_002);
        let got: Vec<u8> = got.to_vec::<u16>().iter().flat_map(|w| w.to_le_bytes()).collect();
        assert_eq!(got, want);
    }
}

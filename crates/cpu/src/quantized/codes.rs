//! Groups of weights to codes, and streams of codes to and from words.

/// Calls `$f::<BITS>` for a number of bits known at run time.
macro_rules! by_bits {
    ($bits:expr, $f:ident($($arg:expr),*)) => {
        match $bits {
            2 => $f::<2>($($arg),*),
            3 => $f::<3>($($arg),*),
            4 => $f::<4>($($arg),*),
            5 => $f::<5>($($arg),*),
            6 => $f::<6>($($arg),*),
            8 => $f::<8>($($arg),*),
            other => unreachable!("{other} bits"),
        }
    };
}
#[cfg(target_arch = "x86_64")]
pub(super) use by_bits;

/// Quantizes one group; returns scale and bias in f32. The rule is that of
/// [`lazul_ir::QuantizedOp::Quantize`].
pub(super) fn quantize_group(bits: u32, w: &[f32], codes: &mut [u8]) -> (f32, f32) {
    let n = ((1u32 << bits) - 1) as f32;
    let (mut mn, mut mx) = (f32::INFINITY, f32::NEG_INFINITY);
    for &x in w {
        mn = if x < mn { x } else { mn };
        mx = if x > mx { x } else { mx };
    }
    let negative = mn.abs() > mx.abs();
    let step = ((mx - mn) / n).max(1e-7);
    let mut scale = if negative { step } else { -step };
    let edge = if negative { mn } else { mx };
    let q0 = (edge / scale).round_ties_even();
    let mut bias = 0.0;
    if q0 != 0.0 {
        scale = edge / q0;
        bias = edge;
    }
    for (c, &x) in codes.iter_mut().zip(w) {
        *c = ((x - bias) / scale).round_ties_even().clamp(0.0, n) as u8;
    }
    (scale, bias)
}

/// Packs codes into words; the number of codes is a multiple of 32.
pub(super) fn pack(bits: u32, codes: &[u8], words: &mut [u32]) {
    let bits = bits as usize;
    for (codes, words) in codes.chunks_exact(32).zip(words.chunks_exact_mut(bits)) {
        words.fill(0);
        for (i, &c) in codes.iter().enumerate() {
            let (word, shift) = (i * bits / 32, i * bits % 32);
            words[word] |= (c as u32) << shift;
            if shift + bits > 32 {
                words[word + 1] |= (c as u32) >> (32 - shift);
            }
        }
    }
}

/// Code `i` of a chunk of 32 codes.
#[inline(always)]
pub(super) fn code_of<const BITS: usize>(words: &[u32; BITS], i: usize) -> u32 {
    let (word, shift) = (i * BITS / 32, i * BITS % 32);
    let mut code = words[word] >> shift;
    if shift + BITS > 32 {
        code |= words[word + 1] << (32 - shift);
    }
    code & ((1 << BITS) - 1)
}

/// Codes `start..start + out.len()` of a row as floats.
pub(super) fn unpack(bits: u32, words: &[u32], start: usize, out: &mut [f32]) {
    by_bits!(bits, unpack_bits(words, start, out))
}

/// [`unpack_any`] compiled for the level in use.
fn unpack_bits<const BITS: usize>(words: &[u32], start: usize, out: &mut [f32]) {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx2")]
        fn avx2<const BITS: usize>(words: &[u32], start: usize, out: &mut [f32]) {
            unpack_any::<BITS>(words, start, out);
        }
        if crate::isa::isa() >= crate::isa::Isa::Avx2 {
            // SAFETY: the level has AVX2.
            return unsafe { avx2::<BITS>(words, start, out) };
        }
    }
    unpack_any::<BITS>(words, start, out);
}

#[inline(always)]
fn unpack_any<const BITS: usize>(words: &[u32], start: usize, out: &mut [f32]) {
    let mut done = 0;
    while done < out.len() {
        let (chunk, first) = ((start + done) / 32, (start + done) % 32);
        let words: &[u32; BITS] = words[chunk * BITS..][..BITS].try_into().unwrap();
        let count = (32 - first).min(out.len() - done);
        let out = &mut out[done..done + count];
        if let Ok(out) = <&mut [f32; 32]>::try_from(&mut *out) {
            unpack_chunk::<BITS>(words, out);
        } else {
            for (i, v) in out.iter_mut().enumerate() {
                *v = code_of(words, first + i) as f32;
            }
        }
        done += count;
    }
}

#[inline(always)]
fn unpack_chunk<const BITS: usize>(words: &[u32; BITS], out: &mut [f32; 32]) {
    for i in 0..32 {
        out[i] = code_of(words, i) as f32;
    }
}

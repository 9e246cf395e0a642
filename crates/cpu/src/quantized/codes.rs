//! Groups of weights to codes, and streams of codes to and from words.

use super::floats;
use lazul_ir::{NVFP4_RANGE, Quantization};

/// Calls `$f::<BITS, FLOAT>` for the codes of a quantization: how many bits they have, and whether
/// they are small floats.
macro_rules! by_code {
    ($q:expr, $f:ident($($arg:expr),*)) => {
        match ($q.bits(), $q.is_affine()) {
            (1, true) => $f::<1, false>($($arg),*),
            (2, true) => $f::<2, false>($($arg),*),
            (3, true) => $f::<3, false>($($arg),*),
            (4, true) => $f::<4, false>($($arg),*),
            (5, true) => $f::<5, false>($($arg),*),
            (6, true) => $f::<6, false>($($arg),*),
            (8, true) => $f::<8, false>($($arg),*),
            (4, false) => $f::<4, true>($($arg),*),
            (8, false) => $f::<8, true>($($arg),*),
            (bits, _) => unreachable!("{bits} bits"),
        }
    };
}
#[cfg(target_arch = "x86_64")]
pub(super) use by_code;

/// What stands beside the codes of a group.
pub(super) enum Group {
    /// Scale and bias of the affine mode, not rounded yet.
    Affine(f32, f32),
    /// The code of the scale.
    Float(u8),
}

/// Quantizes one group. The rules are those of [`lazul_ir::QuantizedOp::Quantize`]; `global` is for
/// nvfp4 alone.
pub(super) fn quantize_group(
    q: Quantization,
    w: &[f32],
    global: Option<f32>,
    codes: &mut [u8],
) -> Group {
    match q {
        Quantization::Affine { bits, .. } => affine(bits, w, codes),
        Quantization::MxFp4 => Group::Float(microscaled(w, 6.0, codes, floats::encode_e2m1)),
        Quantization::MxFp8 => Group::Float(microscaled(w, 448.0, codes, floats::encode_e4m3)),
        Quantization::NvFp4 => Group::Float(nvfp4(w, global, codes)),
        Quantization::Blocks(format) => unreachable!("{} is not made", format.name()),
    }
}

fn affine(bits: u32, w: &[f32], codes: &mut [u8]) -> Group {
    let n = ((1u32 << bits) - 1) as f32;
    let (mut mn, mut mx) = (f32::INFINITY, f32::NEG_INFINITY);
    for &x in w {
        mn = if x < mn { x } else { mn };
        mx = if x > mx { x } else { mx };
    }
    let step = ((mx - mn) / n).max(1e-7);
    let (scale, bias) = if bits == 1 {
        (step, mn)
    } else {
        // The end of larger magnitude is met exactly, and so is zero.
        let negative = mn.abs() > mx.abs();
        let scale = if negative { step } else { -step };
        let edge = if negative { mn } else { mx };
        let q0 = (edge / scale).round_ties_even();
        if q0 != 0.0 { (edge / q0, edge) } else { (scale, 0.0) }
    };
    for (c, &x) in codes.iter_mut().zip(w) {
        *c = ((x - bias) / scale).round_ties_even().clamp(0.0, n) as u8;
    }
    Group::Affine(scale, bias)
}

/// The largest magnitude, or NaN if there is an element that is not finite.
fn largest(w: &[f32]) -> f32 {
    let bits = w.iter().fold(0, |most, x| most.max(x.to_bits() & 0x7fff_ffff));
    if bits < 0x7f80_0000 { f32::from_bits(bits) } else { f32::NAN }
}

fn microscaled(w: &[f32], top: f32, codes: &mut [u8], encode: impl Fn(f32) -> u8) -> u8 {
    let a = largest(w);
    if a.is_nan() {
        codes.fill(0);
        return 0xff;
    }
    let scale = floats::encode_e8m0(a / top);
    let step = floats::e8m0(scale);
    for (c, &x) in codes.iter_mut().zip(w) {
        *c = encode(x / step);
    }
    scale
}

fn nvfp4(w: &[f32], global: Option<f32>, codes: &mut [u8]) -> u8 {
    let a = largest(w);
    if a.is_nan() {
        codes.fill(0);
        return 0x7f;
    }
    let factor = global.map_or(1.0, |g| NVFP4_RANGE / g);
    let scale = floats::encode_e4m3(a / 6.0 * factor);
    let step = floats::e4m3(scale as u32);
    for (c, &x) in codes.iter_mut().zip(w) {
        *c = if step == 0.0 { 0 } else { floats::encode_e2m1(x / step * factor) };
    }
    scale
}

/// Packs codes into words; together they fill whole ones.
pub(super) fn pack(bits: usize, codes: &[u8], words: &mut [u32]) {
    words.fill(0);
    for (i, &c) in codes.iter().enumerate() {
        let (word, shift) = (i * bits / 32, i * bits % 32);
        words[word] |= (c as u32) << shift;
        if shift + bits > 32 {
            words[word + 1] |= (c as u32) >> (32 - shift);
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

/// The number that a code stands for, before it is scaled.
#[inline(always)]
pub(super) fn value_of<const BITS: usize, const FLOAT: bool>(code: u32) -> f32 {
    match (BITS, FLOAT) {
        (4, true) => floats::e2m1(code),
        (8, true) => floats::e4m3(code),
        _ => code as f32,
    }
}

/// Codes `start..start + out.len()` of a row as floats, not scaled.
pub(super) fn unpack(q: Quantization, words: &[u32], start: usize, out: &mut [f32]) {
    by_code!(q, unpack_code(words, start, out))
}

/// [`unpack_any`] compiled for the level in use.
fn unpack_code<const BITS: usize, const FLOAT: bool>(words: &[u32], start: usize, out: &mut [f32]) {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx2")]
        fn avx2<const BITS: usize, const FLOAT: bool>(
            words: &[u32],
            start: usize,
            out: &mut [f32],
        ) {
            unpack_any::<BITS, FLOAT>(words, start, out);
        }
        if crate::isa::isa() >= crate::isa::Isa::Avx2 {
            // SAFETY: the level has AVX2.
            return unsafe { avx2::<BITS, FLOAT>(words, start, out) };
        }
    }
    unpack_any::<BITS, FLOAT>(words, start, out);
}

#[inline(always)]
fn unpack_any<const BITS: usize, const FLOAT: bool>(words: &[u32], start: usize, out: &mut [f32]) {
    let mut done = 0;
    while done < out.len() {
        let (chunk, first) = ((start + done) / 32, (start + done) % 32);
        let rest = &words[chunk * BITS..];
        // A row of nvfp4 may end in the middle of a chunk.
        let mut tail = [0; BITS];
        let words = match rest.first_chunk::<BITS>() {
            Some(words) => words,
            None => {
                tail[..rest.len()].copy_from_slice(rest);
                &tail
            }
        };
        let count = (32 - first).min(out.len() - done);
        let out = &mut out[done..done + count];
        if let Ok(out) = <&mut [f32; 32]>::try_from(&mut *out) {
            unpack_chunk::<BITS, FLOAT>(words, out);
        } else {
            for (i, v) in out.iter_mut().enumerate() {
                *v = value_of::<BITS, FLOAT>(code_of(words, first + i));
            }
        }
        done += count;
    }
}

#[inline(always)]
fn unpack_chunk<const BITS: usize, const FLOAT: bool>(words: &[u32; BITS], out: &mut [f32; 32]) {
    for i in 0..32 {
        out[i] = value_of::<BITS, FLOAT>(code_of(words, i));
    }
}

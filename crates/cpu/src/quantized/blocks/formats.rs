//! The block formats of GGUF files, one after the other: how a block's bytes become numbers.
//!
//! The layouts are those of ggml; [`lazul_ir::BlockFormat`] has the formulas. Every product and sum is
//! rounded to f32 on its own, so the numbers are those of ggml's own conversion bit for bit. Bits are
//! only ever taken from the block itself: whatever its bytes are, there is nothing to run past.

/// A block format.
pub(super) trait Format {
    /// Elements of a block.
    const ELEMENTS: usize;
    /// Bytes of a block.
    const BYTES: usize;

    /// Turns `BYTES` bytes into `ELEMENTS` numbers.
    fn unpack(block: &[u8], out: &mut [f32]);
}

/// The f16 number at `at`, without a branch: blocks have one for a few elements.
#[inline(always)]
pub(super) fn half(block: &[u8], at: usize) -> f32 {
    let bits = u32::from(u16::from_le_bytes([block[at], block[at + 1]]));
    let rest = bits & 0x7fff;
    // The exponent's bias differs by 112; the product also makes subnormal numbers normal.
    let finite = (f32::from_bits(rest << 13) * f32::from_bits((127 + 112) << 23)).to_bits();
    let special = 0x7f80_0000 | rest << 13;
    let magnitude = if rest < 0x7c00 { finite } else { special };
    f32::from_bits(magnitude | (bits & 0x8000) << 16)
}

/// A block's bytes as an array, with their length known.
#[inline(always)]
fn array<const N: usize>(bytes: &[u8], at: usize) -> &[u8; N] {
    match bytes[at..].first_chunk() {
        Some(chunk) => chunk,
        None => unreachable!("a whole block"),
    }
}

/// Sixteen bytes of nibbles: low ones are elements 0 to 15, high ones 16 to 31.
#[inline(always)]
fn nibbles(codes: &[u8; 16], out: &mut [f32], number: impl Fn(usize, u8) -> f32) {
    let (low, high) = out.split_at_mut(16);
    for (i, (v, &c)) in low.iter_mut().zip(codes).enumerate() {
        *v = number(i, c & 15);
    }
    for (i, (v, &c)) in high.iter_mut().zip(codes).enumerate() {
        *v = number(i + 16, c >> 4);
    }
}

/// `d: f16, q: [u8; 16]`.
pub(super) struct Q4_0;

impl Format for Q4_0 {
    const ELEMENTS: usize = 32;
    const BYTES: usize = 18;

    #[inline(always)]
    fn unpack(block: &[u8], out: &mut [f32]) {
        let d = half(block, 0);
        nibbles(array(block, 2), out, |_, q| d * (i32::from(q) - 8) as f32);
    }
}

/// `d: f16, m: f16, q: [u8; 16]`.
pub(super) struct Q4_1;

impl Format for Q4_1 {
    const ELEMENTS: usize = 32;
    const BYTES: usize = 20;

    #[inline(always)]
    fn unpack(block: &[u8], out: &mut [f32]) {
        let (d, m) = (half(block, 0), half(block, 2));
        nibbles(array(block, 4), out, |_, q| d * f32::from(q) + m);
    }
}

/// Bit `i` of a word, worth sixteen.
#[inline(always)]
fn fifth(bits: u32, i: usize) -> u8 {
    ((bits >> i & 1) << 4) as u8
}

/// `d: f16, fifth bits: u32, q: [u8; 16]`.
pub(super) struct Q5_0;

impl Format for Q5_0 {
    const ELEMENTS: usize = 32;
    const BYTES: usize = 22;

    #[inline(always)]
    fn unpack(block: &[u8], out: &mut [f32]) {
        let (d, high) = (half(block, 0), u32::from_le_bytes(*array(block, 2)));
        nibbles(array(block, 6), out, |i, q| d * (i32::from(q | fifth(high, i)) - 16) as f32);
    }
}

/// `d: f16, m: f16, fifth bits: u32, q: [u8; 16]`.
pub(super) struct Q5_1;

impl Format for Q5_1 {
    const ELEMENTS: usize = 32;
    const BYTES: usize = 24;

    #[inline(always)]
    fn unpack(block: &[u8], out: &mut [f32]) {
        let (d, m) = (half(block, 0), half(block, 2));
        let high = u32::from_le_bytes(*array(block, 4));
        nibbles(array(block, 8), out, |i, q| d * f32::from(q | fifth(high, i)) + m);
    }
}

/// `d: f16, q: [i8; 32]`.
pub(super) struct Q8_0;

impl Format for Q8_0 {
    const ELEMENTS: usize = 32;
    const BYTES: usize = 34;

    #[inline(always)]
    fn unpack(block: &[u8], out: &mut [f32]) {
        let (d, codes) = (half(block, 0), array::<32>(block, 2));
        for (v, &q) in out.iter_mut().zip(codes) {
            *v = d * f32::from(q as i8);
        }
    }
}

/// `scales: [u8; 16]` (four bits of scale, four of offset), `q: [u8; 64], d: f16, m: f16`. A byte of `q`
/// has a code of each of four runs of 32.
pub(super) struct Q2K;

impl Format for Q2K {
    const ELEMENTS: usize = 256;
    const BYTES: usize = 84;

    #[inline(always)]
    fn unpack(block: &[u8], out: &mut [f32]) {
        let (scales, codes) = (array::<16>(block, 0), array::<64>(block, 16));
        let (d, m) = (half(block, 80), half(block, 82));
        for (i, out) in out.chunks_exact_mut(16).enumerate().take(16) {
            let (part, shift) = (i / 8 * 32 + i % 2 * 16, i % 8 / 2 * 2);
            let (scale, offset) = (d * f32::from(scales[i] & 15), m * f32::from(scales[i] >> 4));
            for (v, &q) in out.iter_mut().zip(array::<16>(codes, part)) {
                *v = scale * f32::from(q >> shift & 3) - offset;
            }
        }
    }
}

/// `third bits: [u8; 32], q: [u8; 64], scales: [u8; 12], d: f16`; a third bit that is missing is
/// worth -4.
pub(super) struct Q3K;

impl Format for Q3K {
    const ELEMENTS: usize = 256;
    const BYTES: usize = 110;

    #[inline(always)]
    fn unpack(block: &[u8], out: &mut [f32]) {
        let (high, codes) = (array::<32>(block, 0), array::<64>(block, 32));
        let (scales, d) = (array::<12>(block, 96), half(block, 108));
        for (i, out) in out.chunks_exact_mut(16).enumerate().take(16) {
            let (part, shift) = (i / 8 * 32 + i % 2 * 16, i % 8 / 2 * 2);
            // Eight bytes hold the low four bits of two scales each, four the high two of four each.
            let low = scales[i % 8] >> (i / 8 * 4) & 15;
            let scale = low | (scales[8 + i % 4] >> (i / 4 * 2) & 3) << 4;
            let scale = d * (i32::from(scale) - 32) as f32;
            let codes = array::<16>(codes, part).iter().zip(array::<16>(high, i % 2 * 16));
            for (v, (&q, &h)) in out.iter_mut().zip(codes) {
                let q = (q >> shift & 3) | (h >> (i / 2) & 1) << 2;
                *v = scale * (i32::from(q) - 4) as f32;
            }
        }
    }
}

/// The eight scales and offsets of six bits in twelve bytes: of the first four, then of the others, whose
/// two high bits lie above those of the first.
#[inline(always)]
pub(super) fn six_bits(bytes: &[u8]) -> ([u8; 8], [u8; 8]) {
    let [a, b, c] = [0, 4, 8].map(|at| u32::from_le_bytes(*array::<4>(bytes, at)));
    let (low, six, two) = (0x0f0f_0f0f, 0x3f3f_3f3f, 0x0303_0303);
    let scales = [a & six, (c & low) | (a >> 6 & two) << 4];
    let offsets = [b & six, (c >> 4 & low) | (b >> 6 & two) << 4];
    let join = |[x, y]: [u32; 2]| (u64::from(x) | u64::from(y) << 32).to_le_bytes();
    (join(scales), join(offsets))
}

/// `d: f16, m: f16, scales: [u8; 12], q: [u8; 128]`; 32 bytes of `q` hold two runs of 32.
pub(super) struct Q4K;

impl Format for Q4K {
    const ELEMENTS: usize = 256;
    const BYTES: usize = 144;

    #[inline(always)]
    fn unpack(block: &[u8], out: &mut [f32]) {
        let (d, m) = (half(block, 0), half(block, 2));
        let (scales, offsets) = six_bits(&block[4..]);
        for (i, out) in out.chunks_exact_mut(32).enumerate().take(8) {
            let (scale, offset) = (d * f32::from(scales[i]), m * f32::from(offsets[i]));
            for (v, &q) in out.iter_mut().zip(array::<32>(block, 16 + i / 2 * 32)) {
                *v = scale * f32::from(q >> (i % 2 * 4) & 15) - offset;
            }
        }
    }
}

/// `d: f16, m: f16, scales: [u8; 12], fifth bits: [u8; 32], q: [u8; 128]`.
pub(super) struct Q5K;

impl Format for Q5K {
    const ELEMENTS: usize = 256;
    const BYTES: usize = 176;

    #[inline(always)]
    fn unpack(block: &[u8], out: &mut [f32]) {
        let (d, m) = (half(block, 0), half(block, 2));
        let (scales, offsets) = six_bits(&block[4..]);
        let high = array::<32>(block, 16);
        for (i, out) in out.chunks_exact_mut(32).enumerate().take(8) {
            let (scale, offset) = (d * f32::from(scales[i]), m * f32::from(offsets[i]));
            let codes = array::<32>(block, 48 + i / 2 * 32).iter().zip(high);
            for (v, (&q, &h)) in out.iter_mut().zip(codes) {
                let q = (q >> (i % 2 * 4) & 15) | (h >> i & 1) << 4;
                *v = scale * f32::from(q) - offset;
            }
        }
    }
}

/// `low bits: [u8; 128], high bits: [u8; 64], scales: [i8; 16], d: f16`; in each half of 128 elements a
/// low byte has nibbles of two runs of 32, a high byte two bits of four.
pub(super) struct Q6K;

impl Format for Q6K {
    const ELEMENTS: usize = 256;
    const BYTES: usize = 210;

    #[inline(always)]
    fn unpack(block: &[u8], out: &mut [f32]) {
        let d = half(block, 208);
        let scales = array::<16>(block, 192);
        for (i, out) in out.chunks_exact_mut(16).enumerate().take(16) {
            let (part, run, side) = (i / 8, i % 8 / 2, i % 2 * 16);
            let scale = d * f32::from(scales[i] as i8);
            let low = array::<16>(block, part * 64 + run % 2 * 32 + side);
            let high = array::<16>(block, 128 + part * 32 + side);
            for (v, (&l, &h)) in out.iter_mut().zip(low.iter().zip(high)) {
                let q = (l >> (run / 2 * 4) & 15) | (h >> (run * 2) & 3) << 4;
                *v = scale * (i32::from(q) - 32) as f32;
            }
        }
    }
}

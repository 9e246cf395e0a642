//! Operands as panels for the tile unit.
//!
//! A panel holds 32 or 48 lanes (rows of `a` or columns of `b`). Each of its tiles is 16 × 16 words: for
//! `a` a row is a lane and its words run along `k`, for `b` a row is a word along `k` and runs across
//! the lanes. So memory that runs along `k` becomes a tile of `a` by plain loads and one of `b` by a
//! turn of 16 × 16 words, and memory that runs across lanes the other way about. Conversion to the
//! parts of a [`Scheme`] and the measuring of [`Extent`] happen on the way; lanes and elements that
//! are not there become zero.

use super::Scheme;
use super::kernel::TILE;
use crate::matmul::driver::{Pack, with_scratch};
use crate::matmul::pack::{Dense, Side};
use crate::matmul::turn::{deal, turn};
use std::arch::x86_64::*;
use std::ops::Range;

/// The least and the greatest size of the elements of a panel, as the bits of an f32; zeros do not
/// count for the least.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub(crate) struct Extent {
    pub(crate) least: u32,
    pub(crate) most: u32,
}

impl Extent {
    /// That of no element.
    pub(crate) const NONE: Extent = Extent { least: u32::MAX, most: 0 };

    /// That of these elements and those of `other`.
    pub(crate) fn join(&mut self, other: Extent) {
        self.least = self.least.min(other.least);
        self.most = self.most.max(other.most);
    }
}

/// An operand that can be packed for the tile unit. What packs as f32 can.
pub(crate) trait Tiled: Pack<f32> {
    /// Writes at most `16 * tiles` lanes as a panel of so many tiles, two or three, or only those of
    /// its tiles that hold lanes.
    ///
    /// # Safety
    /// The processor must have AVX-512 BW, `dst` room for the steps of `ks`, and the operand
    /// elements that `scheme` takes.
    unsafe fn panel(
        &self,
        scheme: Scheme,
        side: Side,
        tiles: usize,
        batch: usize,
        lanes: Range<usize>,
        ks: Range<usize>,
        dst: *mut u8,
    ) -> Extent {
        // SAFETY: the caller's contract.
        unsafe { through_f32(self, scheme, side, tiles, batch, lanes, ks, dst) }
    }

    /// Address of an element and bytes between lanes, where lanes lie along `k` in memory.
    fn lines(&self, _batch: usize, _lane: usize, _k: usize) -> Option<(*const u8, isize)> {
        None
    }

    /// Whether lanes come along `k`: such lines, or what becomes rows of tiles with little work.
    fn along(&self) -> bool {
        self.lines(0, 0, 0).is_some()
    }
}

/// What elements become on their way into tiles.
trait Split {
    /// Bytes of an element in memory.
    const SIZE: usize;
    /// Elements of a step.
    const STEP: usize;
    const PARTS: usize;
    /// Whether parts are the bytes of memory.
    const RAW: bool;

    /// The words of a step of one lane from `count` neighbouring elements.
    ///
    /// # Safety
    /// They must be readable; the level must have AVX-512 BW.
    unsafe fn along(src: *const u8, count: usize, range: &mut Measure) -> [__m512i; 3];

    /// Word `word` of a step of 16 neighbouring lanes (those in `mask`) from rows at distance `k`
    /// bytes, of which the step has `count`.
    ///
    /// # Safety
    /// As for `along`.
    unsafe fn across(
        src: *const u8,
        k: isize,
        word: usize,
        count: usize,
        mask: __mmask16,
        range: &mut Measure,
    ) -> [__m512i; 3];
}

/// An [`Extent`] in the making.
#[derive(Clone, Copy)]
struct Measure {
    /// Least of bits less one, so that zero counts as the most.
    least: __m512i,
    most: __m512i,
}

impl Measure {
    #[target_feature(enable = "avx512f")]
    fn new() -> Measure {
        Measure { least: _mm512_set1_epi32(-1), most: _mm512_setzero_si512() }
    }

    #[target_feature(enable = "avx512f")]
    fn extent(self) -> Extent {
        Extent {
            least: _mm512_reduce_min_epu32(self.least).saturating_add(1),
            most: _mm512_reduce_max_epu32(self.most),
        }
    }

    /// # Safety
    /// The level must have AVX-512.
    #[inline(always)]
    unsafe fn most(&mut self, x: __m512) {
        // SAFETY: the caller's contract.
        unsafe {
            let bits = _mm512_and_si512(_mm512_castps_si512(x), _mm512_set1_epi32(i32::MAX));
            self.most = _mm512_max_epu32(self.most, bits);
        }
    }

    /// # Safety
    /// The level must have AVX-512.
    #[inline(always)]
    unsafe fn both(&mut self, x: __m512) {
        // SAFETY: the caller's contract.
        unsafe {
            let bits = _mm512_and_si512(_mm512_castps_si512(x), _mm512_set1_epi32(i32::MAX));
            self.most = _mm512_max_epu32(self.most, bits);
            let less = _mm512_sub_epi32(bits, _mm512_set1_epi32(1));
            self.least = _mm512_min_epu32(self.least, less);
        }
    }
}

const HIGH: i32 = 0xffff_0000u32 as i32;

/// Words with the upper halves of `low` below and those of `high` above.
///
/// # Safety
/// The level must have AVX-512.
#[inline(always)]
unsafe fn words(low: __m512, high: __m512) -> __m512i {
    // SAFETY: the caller's contract.
    unsafe {
        let low = _mm512_srli_epi32::<16>(_mm512_castps_si512(low));
        let high = _mm512_and_si512(_mm512_castps_si512(high), _mm512_set1_epi32(HIGH));
        _mm512_or_si512(low, high)
    }
}

/// The leading eight bits, and the rest: exact for an f16, whose rest has three.
///
/// # Safety
/// The level must have AVX-512.
#[inline(always)]
unsafe fn halves(low: __m512, high: __m512, range: &mut Measure) -> [__m512i; 3] {
    // SAFETY: the caller's contract.
    unsafe {
        range.most(low);
        range.most(high);
        let lead = |x: __m512| {
            let bits = _mm512_and_si512(_mm512_castps_si512(x), _mm512_set1_epi32(HIGH));
            _mm512_castsi512_ps(bits)
        };
        let (l, h) = (lead(low), lead(high));
        let rest = words(_mm512_sub_ps(low, l), _mm512_sub_ps(high, h));
        [words(l, h), rest, _mm512_setzero_si512()]
    }
}

/// Three bf16 parts whose sum is the number: each the nearest to what the ones before left, so that
/// what remains has 24, then 15, then at most 8 bits.
///
/// # Safety
/// The level must have AVX-512.
#[inline(always)]
unsafe fn thirds(low: __m512, high: __m512, range: &mut Measure) -> [__m512i; 3] {
    // SAFETY: the caller's contract.
    unsafe {
        range.both(low);
        range.both(high);
        let lead = |x: __m512| {
            let bits = _mm512_add_epi32(_mm512_castps_si512(x), _mm512_set1_epi32(0x8000));
            _mm512_castsi512_ps(_mm512_and_si512(bits, _mm512_set1_epi32(HIGH)))
        };
        let (l0, h0) = (lead(low), lead(high));
        let (low, high) = (_mm512_sub_ps(low, l0), _mm512_sub_ps(high, h0));
        let (l1, h1) = (lead(low), lead(high));
        let (low, high) = (_mm512_sub_ps(low, l1), _mm512_sub_ps(high, h1));
        [words(l0, h0), words(l1, h1), words(low, high)]
    }
}

struct OfBf16;
struct OfBytes;
struct OfF16;
struct OfF32;

impl Split for OfBf16 {
    const SIZE: usize = 2;
    const STEP: usize = 32;
    const PARTS: usize = 1;
    const RAW: bool = true;

    #[inline(always)]
    unsafe fn along(src: *const u8, count: usize, _: &mut Measure) -> [__m512i; 3] {
        // SAFETY: the caller's contract.
        unsafe {
            let mask = ((1u64 << count) - 1) as __mmask32;
            let v = _mm512_maskz_loadu_epi16(mask, src.cast());
            [v, _mm512_setzero_si512(), _mm512_setzero_si512()]
        }
    }

    #[inline(always)]
    unsafe fn across(
        src: *const u8,
        k: isize,
        word: usize,
        count: usize,
        mask: __mmask16,
        _: &mut Measure,
    ) -> [__m512i; 3] {
        // SAFETY: the caller's contract.
        unsafe {
            let row = |i: usize| {
                if i >= count {
                    return _mm512_setzero_si512();
                }
                let src = src.wrapping_offset(i as isize * k);
                _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, src.cast()))
            };
            let high = _mm512_slli_epi32::<16>(row(2 * word + 1));
            let v = _mm512_or_si512(row(2 * word), high);
            [v, _mm512_setzero_si512(), _mm512_setzero_si512()]
        }
    }
}

impl Split for OfBytes {
    const SIZE: usize = 1;
    const STEP: usize = 64;
    const PARTS: usize = 1;
    const RAW: bool = true;

    #[inline(always)]
    unsafe fn along(src: *const u8, count: usize, _: &mut Measure) -> [__m512i; 3] {
        // SAFETY: the caller's contract.
        unsafe {
            let mask = if count == 64 { u64::MAX } else { (1 << count) - 1 };
            let v = _mm512_maskz_loadu_epi8(mask, src.cast());
            [v, _mm512_setzero_si512(), _mm512_setzero_si512()]
        }
    }

    #[inline(always)]
    unsafe fn across(
        src: *const u8,
        k: isize,
        word: usize,
        count: usize,
        mask: __mmask16,
        _: &mut Measure,
    ) -> [__m512i; 3] {
        // SAFETY: the caller's contract.
        unsafe {
            let row = |i: usize| {
                if i >= count {
                    return _mm_setzero_si128();
                }
                let src = src.wrapping_offset(i as isize * k);
                _mm_maskz_loadu_epi8(mask, src.cast())
            };
            let [a, b, c, d] = [0, 1, 2, 3].map(|i| row(4 * word + i));
            let (low, high) = (_mm_unpacklo_epi8(a, b), _mm_unpackhi_epi8(a, b));
            let (low2, high2) = (_mm_unpacklo_epi8(c, d), _mm_unpackhi_epi8(c, d));
            let pairs = _mm512_cvtepu16_epi32(_mm256_set_m128i(high, low));
            let pairs2 = _mm512_cvtepu16_epi32(_mm256_set_m128i(high2, low2));
            let v = _mm512_or_si512(pairs, _mm512_slli_epi32::<16>(pairs2));
            [v, _mm512_setzero_si512(), _mm512_setzero_si512()]
        }
    }
}

impl Split for OfF16 {
    const SIZE: usize = 2;
    const STEP: usize = 32;
    const PARTS: usize = 2;
    const RAW: bool = false;

    #[inline(always)]
    unsafe fn along(src: *const u8, count: usize, range: &mut Measure) -> [__m512i; 3] {
        // SAFETY: the caller's contract.
        unsafe {
            let mask = ((1u64 << count) - 1) as u32;
            let half = |mask: u32, at: usize| {
                let v = _mm256_maskz_loadu_epi16(mask as __mmask16, src.wrapping_add(at).cast());
                _mm512_cvtph_ps(v)
            };
            halves(half(mask, 0), half(mask >> 16, 32), range)
        }
    }

    #[inline(always)]
    unsafe fn across(
        src: *const u8,
        k: isize,
        word: usize,
        count: usize,
        mask: __mmask16,
        range: &mut Measure,
    ) -> [__m512i; 3] {
        // SAFETY: the caller's contract.
        unsafe {
            let row = |i: usize| {
                let mask = if i < count { mask } else { 0 };
                let src = src.wrapping_offset(i as isize * k);
                _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(mask, src.cast()))
            };
            halves(row(word), row(word + 16), range)
        }
    }
}

impl Split for OfF32 {
    const SIZE: usize = 4;
    const STEP: usize = 32;
    const PARTS: usize = 3;
    const RAW: bool = false;

    #[inline(always)]
    unsafe fn along(src: *const u8, count: usize, range: &mut Measure) -> [__m512i; 3] {
        // SAFETY: the caller's contract.
        unsafe {
            let mask = ((1u64 << count) - 1) as u32;
            let low = _mm512_maskz_loadu_ps(mask as __mmask16, src.cast());
            let high =
                _mm512_maskz_loadu_ps((mask >> 16) as __mmask16, src.wrapping_add(64).cast());
            thirds(low, high, range)
        }
    }

    #[inline(always)]
    unsafe fn across(
        src: *const u8,
        k: isize,
        word: usize,
        count: usize,
        mask: __mmask16,
        range: &mut Measure,
    ) -> [__m512i; 3] {
        // SAFETY: the caller's contract.
        unsafe {
            let row = |i: usize| {
                let mask = if i < count { mask } else { 0 };
                _mm512_maskz_loadu_ps(mask, src.wrapping_offset(i as isize * k).cast())
            };
            thirds(row(word), row(word + 16), range)
        }
    }
}

/// Lanes in memory and where they go.
#[derive(Clone, Copy)]
struct Lanes {
    src: *const u8,
    /// Bytes between lanes, where they lie along `k`.
    lane: isize,
    /// Bytes between neighbours along `k`, where lanes touch.
    k: isize,
    /// Lanes and elements of each.
    lanes: usize,
    len: usize,
    dst: *mut u8,
    /// Tiles of a part of a step.
    tiles: usize,
}

impl Lanes {
    /// Tile `tile` of part `part` of step `step`.
    #[inline(always)]
    fn tile<S: Split>(&self, step: usize, part: usize, tile: usize) -> *mut __m512i {
        self.dst.wrapping_add(((step * S::PARTS + part) * self.tiles + tile) * TILE).cast()
    }
}

/// Lanes by which reading runs ahead of packing.
const AHEAD: isize = 4;

/// Asks for bytes of memory.
#[inline(always)]
fn ask(at: *const u8, bytes: usize) {
    for line in (0..bytes).step_by(64) {
        // SAFETY: a prefetch may have any address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(at.wrapping_add(line).cast()) };
    }
}

/// Packs lanes that lie along `k`.
///
/// # Safety
/// As for [`Tiled::panel`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
unsafe fn pack_along<S: Split>(x: &Lanes, side: Side) -> Extent {
    let mut range = Measure::new();
    let steps = x.len.div_ceil(S::STEP);
    // SAFETY: the caller vouches for lanes and panel.
    unsafe {
        for tile in 0..x.lanes.div_ceil(16) {
            let src = x.src.wrapping_offset((tile * 16) as isize * x.lane);
            let lanes = (x.lanes - tile * 16).min(16);
            if side == Side::Left {
                for row in 0..16 {
                    let src = src.wrapping_offset(row as isize * x.lane);
                    for step in 0..steps {
                        let count = if row < lanes { x.len - step * S::STEP } else { 0 };
                        let at = src.wrapping_add(step * S::STEP * S::SIZE);
                        ask(at.wrapping_offset(AHEAD * x.lane), S::STEP * S::SIZE);
                        let v = S::along(at, count.min(S::STEP), &mut range);
                        for part in 0..S::PARTS {
                            _mm512_store_si512(x.tile::<S>(step, part, tile).add(row), v[part]);
                        }
                    }
                }
                continue;
            }
            for step in 0..steps {
                let count = (x.len - step * S::STEP).min(S::STEP);
                let src = src.wrapping_add(step * S::STEP * S::SIZE);
                if S::RAW {
                    turn(src, x.lane, lanes, count * S::SIZE, x.tile::<S>(step, 0, tile), 1);
                    continue;
                }
                let mut rows = [[_mm512_setzero_si512(); 16]; 3];
                for row in 0..lanes {
                    let src = src.wrapping_offset(row as isize * x.lane);
                    let v = S::along(src, count, &mut range);
                    for part in 0..S::PARTS {
                        rows[part][row] = v[part];
                    }
                }
                for part in 0..S::PARTS {
                    deal(rows[part], x.tile::<S>(step, part, tile), 1);
                }
            }
        }
    }
    range.extent()
}

/// Writes the steps of lanes of `len` neighbouring elements, `stride` bytes apart in memory, as rows of tiles of `a`:
/// lane after lane, in each step after step, of each part after part, 64 bytes each.
///
/// # Safety
/// The elements must be readable and of the type that `scheme` takes, `dst` have room for them, and the level
/// have AVX-512 BW.
pub(crate) unsafe fn lanes(
    scheme: Scheme,
    src: *const u8,
    stride: isize,
    count: usize,
    len: usize,
    dst: *mut u8,
) -> Extent {
    // SAFETY: the caller's contract.
    unsafe {
        match scheme {
            Scheme::Bf16 => lanes_of::<OfBf16>(src, stride, count, len, dst),
            Scheme::Bytes => lanes_of::<OfBytes>(src, stride, count, len, dst),
            Scheme::Halves => lanes_of::<OfF16>(src, stride, count, len, dst),
            Scheme::Thirds => lanes_of::<OfF32>(src, stride, count, len, dst),
        }
    }
}

/// # Safety
/// As for [`lanes`], with elements of `S`.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
unsafe fn lanes_of<S: Split>(
    mut src: *const u8,
    stride: isize,
    count: usize,
    len: usize,
    mut dst: *mut u8,
) -> Extent {
    let mut range = Measure::new();
    for _ in 0..count {
        for k in (0..len).step_by(S::STEP) {
            // SAFETY: the caller's contract.
            unsafe {
                let at = src.wrapping_add(k * S::SIZE);
                let v = S::along(at, (len - k).min(S::STEP), &mut range);
                for v in v.iter().take(S::PARTS) {
                    _mm512_storeu_si512(dst.cast(), *v);
                    dst = dst.add(64);
                }
            }
        }
        src = src.wrapping_offset(stride);
    }
    range.extent()
}

/// Packs lanes that touch in memory.
///
/// # Safety
/// As for [`Tiled::panel`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
unsafe fn pack_across<S: Split>(x: &Lanes, side: Side) -> Extent {
    let mut range = Measure::new();
    // SAFETY: the caller vouches for lanes and panel.
    unsafe {
        for step in 0..x.len.div_ceil(S::STEP) {
            let count = (x.len - step * S::STEP).min(S::STEP);
            let src = x.src.wrapping_offset((step * S::STEP) as isize * x.k);
            let mut rows = [[[_mm512_setzero_si512(); 16]; 3]; 3];
            for word in 0..16 {
                for tile in 0..x.lanes.div_ceil(16) {
                    let mask = ((1u32 << (x.lanes - tile * 16).min(16)) - 1) as __mmask16;
                    let src = src.wrapping_add(tile * 16 * S::SIZE);
                    let v = S::across(src, x.k, word, count, mask, &mut range);
                    for part in 0..S::PARTS {
                        if side == Side::Right {
                            _mm512_store_si512(x.tile::<S>(step, part, tile).add(word), v[part]);
                        } else {
                            rows[tile][part][word] = v[part];
                        }
                    }
                }
            }
            if side == Side::Left {
                for tile in 0..x.lanes.div_ceil(16) {
                    for part in 0..S::PARTS {
                        deal(rows[tile][part], x.tile::<S>(step, part, tile), 1);
                    }
                }
            }
        }
    }
    range.extent()
}

impl Dense {
    /// # Safety
    /// As for [`Tiled::panel`], with elements of `S`.
    unsafe fn panel_of<S: Split>(
        &self,
        side: Side,
        tiles: usize,
        batch: usize,
        lanes: Range<usize>,
        ks: Range<usize>,
        dst: *mut u8,
    ) -> Extent {
        let size = S::SIZE as isize;
        let all = Lanes {
            src: self.at(batch, lanes.start, ks.start),
            lane: self.lane * size,
            k: self.k * size,
            lanes: lanes.len(),
            len: ks.len(),
            dst,
            tiles,
        };
        // SAFETY: the caller's contract.
        unsafe {
            if self.k == 1 {
                return pack_along::<S>(&all, side);
            }
            if self.lane == 1 {
                return pack_across::<S>(&all, side);
            }
            // Neither is: a step at a time is gathered first.
            let mut line = [0u64; 3 * 16 * 128 / 8];
            let line = line.as_mut_ptr().cast::<u8>();
            let row = S::STEP * S::SIZE;
            let mut extent = Extent::NONE;
            for (step, k0) in (0..all.len).step_by(S::STEP).enumerate() {
                let len = (all.len - k0).min(S::STEP);
                for lane in 0..all.lanes {
                    let src = all.src.wrapping_offset(lane as isize * all.lane);
                    for k in 0..len {
                        let src = src.wrapping_offset((k0 + k) as isize * all.k);
                        let dst = line.add(lane * row + k * S::SIZE);
                        std::ptr::copy_nonoverlapping(src, dst, S::SIZE);
                    }
                }
                let dst = dst.add(step * S::PARTS * tiles * TILE);
                let part = Lanes { src: line, lane: row as isize, len, dst, ..all };
                extent.join(pack_along::<S>(&part, side));
            }
            extent
        }
    }
}

impl Tiled for Dense {
    unsafe fn panel(
        &self,
        scheme: Scheme,
        side: Side,
        tiles: usize,
        batch: usize,
        lanes: Range<usize>,
        ks: Range<usize>,
        dst: *mut u8,
    ) -> Extent {
        debug_assert!(lanes.len() <= 16 * tiles && tiles <= 3);
        // SAFETY: the caller's contract.
        unsafe {
            match scheme {
                Scheme::Bf16 => self.panel_of::<OfBf16>(side, tiles, batch, lanes, ks, dst),
                Scheme::Bytes => self.panel_of::<OfBytes>(side, tiles, batch, lanes, ks, dst),
                Scheme::Halves => self.panel_of::<OfF16>(side, tiles, batch, lanes, ks, dst),
                Scheme::Thirds => self.panel_of::<OfF32>(side, tiles, batch, lanes, ks, dst),
            }
        }
    }

    fn lines(&self, batch: usize, lane: usize, k: usize) -> Option<(*const u8, isize)> {
        let stride = self.lane * self.dtype.size() as isize;
        (self.k == 1).then(|| (self.at(batch, lane, k), stride))
    }
}

/// Packs through panels of f32.
///
/// # Safety
/// As for [`Tiled::panel`].
pub(crate) unsafe fn through_f32(
    x: &(impl Pack<f32> + ?Sized),
    scheme: Scheme,
    side: Side,
    tiles: usize,
    batch: usize,
    lanes: Range<usize>,
    ks: Range<usize>,
    dst: *mut u8,
) -> Extent {
    let (count, len) = (lanes.len(), ks.len());
    let width = 16 * tiles;
    with_scratch::<f32, _>(len * width, |panel| {
        x.pack(batch, lanes, ks, width, panel);
        // SAFETY: the caller's contract; the panel has `len` rows.
        unsafe {
            match scheme {
                Scheme::Bf16 => split_panel::<1>(panel, tiles, count, len, side, dst),
                Scheme::Halves => split_panel::<2>(panel, tiles, count, len, side, dst),
                Scheme::Thirds => split_panel::<3>(panel, tiles, count, len, side, dst),
                Scheme::Bytes => unreachable!("bytes are not packed as f32"),
            }
        }
    })
}

/// # Safety
/// As for [`Tiled::panel`], for a panel `[len][16 * tiles]` of which `lanes` count, in `P` parts.
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn split_panel<const P: usize>(
    panel: &[f32],
    tiles: usize,
    lanes: usize,
    len: usize,
    side: Side,
    dst: *mut u8,
) -> Extent {
    let width = 16 * tiles;
    assert!(panel.len() >= len * width);
    let mut range = Measure::new();
    // SAFETY: rows of the panel; the caller vouches for `dst`.
    unsafe {
        for step in 0..len.div_ceil(32) {
            for tile in 0..lanes.div_ceil(16) {
                let row = |k: usize| {
                    let k = step * 32 + k;
                    if k >= len {
                        return _mm512_setzero_ps();
                    }
                    _mm512_loadu_ps(panel.as_ptr().add(k * width + tile * 16))
                };
                let mut parts = [[_mm512_setzero_si512(); 16]; 3];
                for word in 0..16 {
                    let v = match P {
                        1 => [words(row(2 * word), row(2 * word + 1)); 3],
                        2 => halves(row(word), row(word + 16), &mut range),
                        _ => thirds(row(word), row(word + 16), &mut range),
                    };
                    for part in 0..P {
                        parts[part][word] = v[part];
                    }
                }
                for part in 0..P {
                    let dst = dst.add(((step * P + part) * tiles + tile) * TILE).cast::<__m512i>();
                    if side == Side::Left {
                        deal(parts[part], dst, 1);
                    } else {
                        for word in 0..16 {
                            _mm512_store_si512(dst.add(word), parts[part][word]);
                        }
                    }
                }
            }
        }
    }
    range.extent()
}

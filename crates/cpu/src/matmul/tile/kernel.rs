//! The micro-kernels of the tile unit (AMX), in inline assembly.
//!
//! A *tile* is 16 rows of 64 bytes. One instruction multiplies a tile of `a`, 16 lanes by 16 words
//! along `k`, with a tile of `b`, 16 words along `k` by 16 lanes, and adds the 16 × 16 sums to a tile
//! of `c`; a word is two bf16 or four bytes that are neighbours along `k`. A kernel keeps 2 × 2 tiles
//! of `c` in registers, so that each load of `a` and of `b` feeds two products and the loads hide
//! behind the multiplier.
//!
//! Operands come as *panels* of 32 lanes: for each step along `k` (64 bytes of a lane) and each part
//! of the elements (see [`super::Scheme`]) two tiles, lanes 0..16 and 16..32.
//!
//! The compiler knows nothing of tile registers: it never touches them, and no statement here tells
//! it about them. They live from [`Tiles::new`] on, on one thread, until its guard is dropped.

use std::arch::asm;
use std::arch::x86_64::{_MM_HINT_ET0, _MM_HINT_T1, _mm_prefetch};
use std::marker::PhantomData;

/// Lanes of a panel; rows and columns of a block of `c`.
pub const PANEL: usize = 32;
/// Bytes of one part of one step of a panel.
pub const PAIR: usize = 2048;

/// The layout of the eight tile registers: palette 1, all of 16 rows of 64 bytes.
#[repr(C, align(64))]
struct Config([u8; 64]);

static CONFIG: Config = {
    let mut config = [0; 64];
    config[0] = 1;
    let mut tile = 0;
    while tile < 8 {
        config[16 + 2 * tile] = 64;
        config[48 + tile] = 16;
        tile += 1;
    }
    Config(config)
};

/// The tile registers of this thread, in use.
///
/// Taking and leaving them costs about 50 ns, and a thread that leaves them has less to save when it
/// is preempted; so a task takes them once, and no thread keeps them.
pub struct Tiles(PhantomData<*const ()>);

impl Tiles {
    /// Configures the registers.
    ///
    /// # Safety
    /// The process must have the unit ([`crate::isa::tiles`]), and this thread no other guard.
    pub unsafe fn new() -> Tiles {
        // SAFETY: the configuration is valid. The block may read memory, so it is in order with
        // whatever wrote the configuration.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const CONFIG, options(nostack)) };
        Tiles(PhantomData)
    }
}

impl Drop for Tiles {
    fn drop(&mut self) {
        // SAFETY: the registers are in use, by this guard alone.
        unsafe { asm!("tilerelease", options(nostack, nomem)) };
    }
}

/// One call of a kernel: `c = a · b`, or `c += a · b`.
#[derive(Clone, Copy)]
pub struct Call {
    /// Lanes 0 and 16 of the panel of `a`.
    pub a: [*const u8; 2],
    /// Bytes between lanes of `a`.
    pub a_stride: usize,
    /// Bytes between steps of `a`.
    pub a_step: usize,
    /// A packed panel.
    pub b: *const u8,
    /// 32 × 32 sums of four bytes.
    pub c: *mut u8,
    pub steps: usize,
    /// Tiles of `a` and of `b` that hold lanes, 1 or 2 each.
    pub tiles: (usize, usize),
    /// Whether `c` counts.
    pub add: bool,
    /// Memory to ask for before it is used, `lines` lines each step.
    pub ahead: *const u8,
    pub lines: usize,
    /// Lines that will be written: how many, the first, and bytes between them.
    pub store: (usize, *const u8, usize),
    /// 1 KiB that nobody reads.
    pub sink: *mut u8,
}

macro_rules! load {
    ($tile:literal, $p:expr, $stride:expr) => {
        load!("tileloadd ", $tile, $p, $stride)
    };
    ($op:literal, $tile:literal, $p:expr, $stride:expr) => {
        asm!(
            concat!($op, $tile, ", [{p} + {s}]"),
            p = in(reg) $p, s = in(reg) $stride,
            options(nostack, readonly, preserves_flags)
        )
    };
}

macro_rules! store {
    ($tile:literal, $p:expr) => {
        asm!(
            concat!("tilestored [{p} + {s}], ", $tile),
            p = in(reg) $p, s = in(reg) 128usize,
            options(nostack, preserves_flags)
        )
    };
}

macro_rules! zero {
    ($tile:literal) => {
        asm!(concat!("tilezero ", $tile), options(nostack, nomem, preserves_flags))
    };
}

/// `tmm0..4 += (tmm4, tmm5) · (tmm6, tmm7)`, as far as there are tiles.
macro_rules! products {
    ($op:literal, $A:ident, $B:ident) => {{
        asm!(concat!($op, " tmm0, tmm4, tmm6"), options(nostack, nomem, preserves_flags));
        if $B == 2 {
            asm!(concat!($op, " tmm1, tmm4, tmm7"), options(nostack, nomem, preserves_flags));
        }
        if $A == 2 {
            asm!(concat!($op, " tmm2, tmm5, tmm6"), options(nostack, nomem, preserves_flags));
        }
        if $A == 2 && $B == 2 {
            asm!(concat!($op, " tmm3, tmm5, tmm7"), options(nostack, nomem, preserves_flags));
        }
    }};
}

/// Loads part `$part` of both tiles of `a` into tmm4 and tmm5.
macro_rules! load_a {
    ($op:literal, $part:literal, $a:ident, $stride:ident, $A:ident) => {{
        load!($op, "tmm4", $a[0].wrapping_add($part * PAIR), $stride);
        if $A == 2 {
            load!($op, "tmm5", $a[1].wrapping_add($part * PAIR), $stride);
        }
    }};
}

/// Loads part `$part` of both tiles of `b` into tmm6 and tmm7.
macro_rules! load_b {
    ($op:literal, $part:literal, $b:ident, $B:ident) => {{
        load!($op, "tmm6", $b.wrapping_add($part * PAIR), 64usize);
        if $B == 2 {
            load!($op, "tmm7", $b.wrapping_add($part * PAIR + 1024), 64usize);
        }
    }};
}

/// The products of one step.
pub trait Step {
    /// Parts of an element.
    const PARTS: usize;
    /// Steps after which the store path is kept awake.
    const WAKE: usize;

    /// Adds the step at `a` and `b`, with `A` and `B` tiles, to tmm0..4.
    ///
    /// # Safety
    /// The tiles must be readable, and a guard of [`Tiles`] alive on this thread.
    unsafe fn step<const A: usize, const B: usize>(a: [*const u8; 2], stride: usize, b: *const u8);
}

/// Pairs of bf16, summed in f32.
pub struct Pairs;
/// Quadruples of bytes, summed in 32 bits, wrapping.
pub struct Bytes;
/// Elements in two bf16 parts.
pub struct Halves;
/// Elements in three bf16 parts.
pub struct Thirds;

impl Step for Pairs {
    const PARTS: usize = 1;
    const WAKE: usize = 16;

    #[inline(always)]
    unsafe fn step<const A: usize, const B: usize>(a: [*const u8; 2], stride: usize, b: *const u8) {
        // SAFETY: the caller's contract.
        unsafe {
            load_a!("tileloaddt1 ", 0, a, stride, A);
            load_b!("tileloaddt1 ", 0, b, B);
            products!("tdpbf16ps", A, B);
        }
    }
}

impl Step for Bytes {
    const PARTS: usize = 1;
    const WAKE: usize = 16;

    #[inline(always)]
    unsafe fn step<const A: usize, const B: usize>(a: [*const u8; 2], stride: usize, b: *const u8) {
        // SAFETY: the caller's contract.
        unsafe {
            load_a!("tileloaddt1 ", 0, a, stride, A);
            load_b!("tileloaddt1 ", 0, b, B);
            products!("tdpbuud", A, B);
        }
    }
}

impl Step for Halves {
    const PARTS: usize = 2;
    const WAKE: usize = 4;

    /// All four products, so nothing is lost but by the sums.
    #[inline(always)]
    unsafe fn step<const A: usize, const B: usize>(a: [*const u8; 2], stride: usize, b: *const u8) {
        // SAFETY: the caller's contract.
        unsafe {
            load_a!("tileloadd ", 1, a, stride, A);
            load_b!("tileloadd ", 1, b, B);
            products!("tdpbf16ps", A, B);
            load_b!("tileloadd ", 0, b, B);
            products!("tdpbf16ps", A, B);
            load_a!("tileloadd ", 0, a, stride, A);
            products!("tdpbf16ps", A, B);
            load_b!("tileloadd ", 1, b, B);
            products!("tdpbf16ps", A, B);
        }
    }
}

impl Step for Thirds {
    const PARTS: usize = 3;
    const WAKE: usize = 3;

    /// The six products whose size is at least that of an f32's rounding: parts `(i, j)` with
    /// `i + j <= 2`, in an order in which each load serves two neighbours.
    #[inline(always)]
    unsafe fn step<const A: usize, const B: usize>(a: [*const u8; 2], stride: usize, b: *const u8) {
        // SAFETY: the caller's contract.
        unsafe {
            load_a!("tileloadd ", 2, a, stride, A);
            load_b!("tileloadd ", 0, b, B);
            products!("tdpbf16ps", A, B);
            load_a!("tileloadd ", 1, a, stride, A);
            products!("tdpbf16ps", A, B);
            load_b!("tileloadd ", 1, b, B);
            products!("tdpbf16ps", A, B);
            load_a!("tileloadd ", 0, a, stride, A);
            products!("tdpbf16ps", A, B);
            load_b!("tileloadd ", 2, b, B);
            products!("tdpbf16ps", A, B);
            load_b!("tileloadd ", 0, b, B);
            products!("tdpbf16ps", A, B);
        }
    }
}

/// Runs a kernel.
///
/// # Safety
/// Panels of `steps` steps must be readable (of `a`, the tiles that hold lanes), `c` writable and
/// initialised if `add`, and a guard of [`Tiles`] alive on this thread.
pub unsafe fn run<S: Step>(call: &Call) {
    // SAFETY: the caller's contract.
    unsafe {
        match call.tiles {
            (2, 2) => block::<S, 2, 2>(call),
            (2, 1) => block::<S, 2, 1>(call),
            (1, 2) => block::<S, 1, 2>(call),
            (1, 1) => block::<S, 1, 1>(call),
            other => unreachable!("{other:?} tiles"),
        }
    }
}

/// # Safety
/// As for [`run`], for `A` by `B` tiles.
unsafe fn block<S: Step, const A: usize, const B: usize>(call: &Call) {
    let Call { mut a, a_stride, a_step, mut b, c, steps, mut ahead, lines, store, sink, .. } = *call;
    // SAFETY: the caller vouches for operands, target and tile registers; a prefetch may have any
    // address.
    unsafe {
        let at = |row: usize, column: usize| c.wrapping_add(row * 128 + column * 4);
        if call.add {
            load!("tmm0", at(0, 0), 128usize);
            if B == 2 {
                load!("tmm1", at(0, 16), 128usize);
            }
            if A == 2 {
                load!("tmm2", at(16, 0), 128usize);
            }
            if A == 2 && B == 2 {
                load!("tmm3", at(16, 16), 128usize);
            }
        } else {
            zero!("tmm0");
            zero!("tmm1");
            zero!("tmm2");
            zero!("tmm3");
        }
        for step in 0..steps {
            if step % S::WAKE == S::WAKE - 1 {
                // Without this the stores at the end wait for a path that has gone to sleep.
                asm!(
                    "tilestored [{p} + {s}], tmm4",
                    p = in(reg) sink, s = in(reg) 64usize,
                    options(nostack, preserves_flags)
                );
            }
            S::step::<A, B>(a, a_stride, b);
            for _ in 0..lines {
                _mm_prefetch::<_MM_HINT_T1>(ahead.cast());
                ahead = ahead.wrapping_add(64);
            }
            if step < store.0 {
                _mm_prefetch::<_MM_HINT_ET0>(store.1.wrapping_add(step * store.2).cast());
            }
            a = a.map(|p| p.wrapping_add(a_step));
            b = b.wrapping_add(S::PARTS * PAIR);
        }
        store!("tmm0", at(0, 0));
        if B == 2 {
            store!("tmm1", at(0, 16));
        }
        if A == 2 {
            store!("tmm2", at(16, 0));
        }
        if A == 2 && B == 2 {
            store!("tmm3", at(16, 16));
        }
    }
}

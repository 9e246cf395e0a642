//! The micro-kernels of the tile unit (AMX), in inline assembly.
//!
//! A *tile* is 16 rows of 64 bytes. One instruction multiplies a tile of `a`, 16 lanes by 16 words
//! along `k`, with a tile of `b`, 16 words along `k` by 16 lanes, and adds the 16 × 16 sums to a tile
//! of `c`; a word is two bf16 or four bytes that are neighbours along `k`. A kernel keeps 3 × 2 or 2 × 2
//! tiles of `c` in registers, so that each tile it loads feeds several products: the multiplier is
//! quicker than the second cache.
//!
//! Operands come as *panels* of 48 or 32 lanes: for each step along `k` (64 bytes of a lane) and each
//! part of the elements (see [`super::Scheme`]) the tiles of lanes 0..16, 16..32 and so on.
//!
//! The compiler knows nothing of tile registers: it never touches them, and no statement here tells
//! it about them. They live from [`Tiles::new`] on, on one thread, until its guard is dropped.

use std::arch::asm;
use std::arch::x86_64::{_MM_HINT_ET0, _MM_HINT_T1, _mm_prefetch};
use std::marker::PhantomData;

/// Bytes of a tile.
pub(crate) const TILE: usize = 1024;
/// Lanes of a panel of `b`: columns of a block of `c`.
pub(crate) const PANEL: usize = 32;
/// Bytes of one part of one step of a panel of `b`.
pub(crate) const PAIR: usize = 2 * TILE;

/// A layout of the eight tile registers.
#[repr(C, align(64))]
pub(crate) struct Config([u8; 64]);

impl Config {
    /// Palette 1; register `i` has `shapes[i]`: rows, and bytes of a row.
    pub(crate) const fn new(shapes: [(u8, u8); 8]) -> Config {
        let mut config = [0; 64];
        config[0] = 1;
        let mut tile = 0;
        while tile < 8 {
            config[16 + 2 * tile] = shapes[tile].1;
            config[48 + tile] = shapes[tile].0;
            tile += 1;
        }
        Config(config)
    }
}

/// All of 16 rows of 64 bytes.
static WHOLE: Config = Config::new([(16, 64); 8]);

/// The tile registers of this thread, in use.
///
/// Taking and leaving them costs about 50 ns, and a thread that leaves them has less to save when it
/// is preempted; so a task takes them once, and no thread keeps them.
pub(crate) struct Tiles(PhantomData<*const ()>);

impl Tiles {
    /// Configures the registers as whole ones.
    ///
    /// # Safety
    /// The process must have the unit ([`crate::isa::tiles`]), and this thread no other guard.
    pub(crate) unsafe fn new() -> Tiles {
        // SAFETY: the caller's contract.
        unsafe { Tiles::shaped(&WHOLE) }
    }

    /// Configures the registers.
    ///
    /// # Safety
    /// As for [`Tiles::new`]; shapes must be of at most 16 rows of 64 bytes.
    pub(crate) unsafe fn shaped(config: &Config) -> Tiles {
        // SAFETY: the configuration is valid. The block may read memory, so it is in order with
        // whatever wrote the configuration.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const *config, options(nostack)) };
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
pub(crate) struct Call {
    /// A panel.
    pub(crate) a: *const u8,
    /// Bytes between lanes of `a`, between its tiles, and between its steps.
    pub(crate) a_strides: (usize, usize, usize),
    /// Bytes between parts of `a`.
    pub(crate) a_part: usize,
    /// Further runs of as many steps, which `b` has one after the other: how many, and how far from
    /// `a` each begins.
    pub(crate) runs: (usize, *const isize),
    /// A packed panel.
    pub(crate) b: *const u8,
    /// Sums of four bytes, 32 in a row.
    pub(crate) c: *mut u8,
    pub(crate) steps: usize,
    /// Tiles of `a` and of `b` that hold lanes.
    pub(crate) tiles: (usize, usize),
    /// Whether `c` counts.
    pub(crate) add: bool,
    /// Memory to ask for before it is used, `lines` lines each step.
    pub(crate) ahead: *const u8,
    pub(crate) lines: usize,
    /// Lines that will be written: how many, the first, and bytes between them.
    pub(crate) store: (usize, *const u8, usize),
    /// 1 KiB that nobody reads.
    pub(crate) sink: *mut u8,
}

/// Loads a tile; `$op` is `tileloadd `, or `tileloaddt1 ` for one that is not used again soon.
macro_rules! load {
    ($op:literal, $tile:literal, $p:expr, $stride:expr) => {
        asm!(
            concat!($op, $tile, ", [{p} + {s}]"),
            p = in(reg) $p, s = in(reg) $stride,
            options(nostack, readonly, preserves_flags)
        )
    };
}

macro_rules! store {
    ($tile:literal, $p:expr, $stride:expr) => {
        asm!(
            concat!("tilestored [{p} + {s}], ", $tile),
            p = in(reg) $p, s = in(reg) $stride,
            options(nostack, preserves_flags)
        )
    };
}

macro_rules! multiply {
    ($op:literal, $c:literal, $a:literal, $b:literal) => {
        asm!(concat!($op, $c, ", ", $a, ", ", $b), options(nostack, nomem, preserves_flags))
    };
}

pub(super) use {load, multiply, store};

/// Calls `$do!(tile, row, column)` for the tiles of `c`: that of tiles `i` of `a` and `j` of `b` is
/// tmm`2i + j`.
macro_rules! sums {
    ($do:ident, $A:ident, $B:ident) => {
        $do!("tmm0", 0, 0);
        if $B > 1 {
            $do!("tmm1", 0, 1);
        }
        if $A > 1 {
            $do!("tmm2", 1, 0);
        }
        if $A > 1 && $B > 1 {
            $do!("tmm3", 1, 1);
        }
        if $A > 2 {
            $do!("tmm4", 2, 0);
        }
        if $A > 2 && $B > 1 {
            $do!("tmm5", 2, 1);
        }
    };
}

/// The products of one step.
pub(crate) trait Step {
    /// Parts of an element.
    const PARTS: usize;
    /// Most tiles of `a`.
    const TILES: usize;
    /// Steps after which the path to memory is used.
    const WAKE: usize;

    /// Adds the step at `a` and `b`, with `A` and `B` tiles, to the sums. The lanes of `a` are
    /// `lane` bytes apart, its tiles `tile`, its parts `part`.
    ///
    /// # Safety
    /// The tiles must be readable, and a guard of [`Tiles`] alive on this thread.
    unsafe fn step<const A: usize, const B: usize>(
        a: *const u8,
        lane: usize,
        tile: usize,
        part: usize,
        b: *const u8,
    );
}

/// Pairs of bf16, summed in f32.
pub(crate) struct Pairs;
/// Quadruples of bytes, summed in 32 bits, wrapping.
pub(crate) struct Bytes;
/// Elements in two bf16 parts.
pub(crate) struct Halves<const SWAPPED: bool>;
/// Elements in three bf16 parts.
pub(crate) struct Thirds<const SWAPPED: bool>;

/// Elements of one part: there and back over the tiles of `a`, so that of six sums and two operands
/// none leaves the registers in vain.
macro_rules! single {
    ($op:literal, $a:ident, $lane:ident, $tile:ident, $b:ident, $A:ident, $B:ident) => {{
        let a = |i: usize| $a.wrapping_add(i * $tile);
        load!("tileloaddt1 ", "tmm6", $b, 64usize);
        load!("tileloadd ", "tmm7", a(0), $lane);
        multiply!($op, "tmm0", "tmm7", "tmm6");
        if $A > 1 {
            load!("tileloadd ", "tmm7", a(1), $lane);
            multiply!($op, "tmm2", "tmm7", "tmm6");
        }
        if $A > 2 {
            load!("tileloadd ", "tmm7", a(2), $lane);
            multiply!($op, "tmm4", "tmm7", "tmm6");
        }
        if $B > 1 {
            load!("tileloaddt1 ", "tmm6", $b.wrapping_add(TILE), 64usize);
            if $A > 2 {
                multiply!($op, "tmm5", "tmm7", "tmm6");
                load!("tileloadd ", "tmm7", a(1), $lane);
            }
            if $A > 1 {
                multiply!($op, "tmm3", "tmm7", "tmm6");
                load!("tileloadd ", "tmm7", a(0), $lane);
            }
            multiply!($op, "tmm1", "tmm7", "tmm6");
        }
    }};
}

impl Step for Pairs {
    const PARTS: usize = 1;
    const TILES: usize = 3;
    const WAKE: usize = 10;

    #[inline(always)]
    unsafe fn step<const A: usize, const B: usize>(
        a: *const u8,
        lane: usize,
        tile: usize,
        _: usize,
        b: *const u8,
    ) {
        // SAFETY: the caller's contract.
        unsafe { single!("tdpbf16ps ", a, lane, tile, b, A, B) }
    }
}

impl Step for Bytes {
    const PARTS: usize = 1;
    const TILES: usize = 3;
    const WAKE: usize = 10;

    #[inline(always)]
    unsafe fn step<const A: usize, const B: usize>(
        a: *const u8,
        lane: usize,
        tile: usize,
        _: usize,
        b: *const u8,
    ) {
        // SAFETY: the caller's contract.
        unsafe { single!("tdpbuud ", a, lane, tile, b, A, B) }
    }
}

/// `c += (tmm4, tmm5) · (tmm6, tmm7)`, as far as there are tiles.
macro_rules! products {
    ($A:ident, $B:ident) => {{
        multiply!("tdpbf16ps ", "tmm0", "tmm4", "tmm6");
        if $B > 1 {
            multiply!("tdpbf16ps ", "tmm1", "tmm4", "tmm7");
        }
        if $A > 1 {
            multiply!("tdpbf16ps ", "tmm2", "tmm5", "tmm6");
        }
        if $A > 1 && $B > 1 {
            multiply!("tdpbf16ps ", "tmm3", "tmm5", "tmm7");
        }
    }};
}

/// Loads part `$part` of both tiles of `a` into tmm4 and tmm5.
macro_rules! load_a {
    ($part:literal, $a:ident, $lane:ident, $tile:ident, $between:ident, $A:ident) => {{
        load!("tileloadd ", "tmm4", $a.wrapping_add($part * $between), $lane);
        if $A > 1 {
            load!("tileloadd ", "tmm5", $a.wrapping_add($part * $between + $tile), $lane);
        }
    }};
}

/// Loads part `$part` of both tiles of `b` into tmm6 and tmm7.
macro_rules! load_b {
    ($part:literal, $b:ident, $B:ident) => {{
        load!("tileloadd ", "tmm6", $b.wrapping_add($part * PAIR), 64usize);
        if $B > 1 {
            load!("tileloadd ", "tmm7", $b.wrapping_add($part * PAIR + TILE), 64usize);
        }
    }};
}

/// The products of parts `(i, j)` of `$x` and `$y`, which are `a` and `b` or the other way about.
macro_rules! halves {
    ($load_x:ident, $load_y:ident, $A:ident, $B:ident) => {{
        $load_x!(1);
        $load_y!(1);
        products!($A, $B);
        $load_y!(0);
        products!($A, $B);
        $load_x!(0);
        products!($A, $B);
        $load_y!(1);
        products!($A, $B);
    }};
}

/// As [`halves`], for three parts.
macro_rules! thirds {
    ($load_x:ident, $load_y:ident, $A:ident, $B:ident) => {{
        $load_x!(2);
        $load_y!(0);
        products!($A, $B);
        $load_x!(1);
        products!($A, $B);
        $load_y!(1);
        products!($A, $B);
        $load_x!(0);
        products!($A, $B);
        $load_y!(2);
        products!($A, $B);
        $load_y!(0);
        products!($A, $B);
    }};
}

/// A step of several parts, in an order in which each load serves two neighbours. `SWAPPED` says that
/// `a` is the product's right operand; sums then come in the same order all the same.
macro_rules! parts {
    ($order:ident, $a:ident, $lane:ident, $tile:ident, $between:ident, $b:ident, $A:ident, $B:ident) => {{
        macro_rules! a {
            ($part:literal) => {
                load_a!($part, $a, $lane, $tile, $between, $A)
            };
        }
        macro_rules! b {
            ($part:literal) => {
                load_b!($part, $b, $B)
            };
        }
        if SWAPPED { $order!(b, a, $A, $B) } else { $order!(a, b, $A, $B) }
    }};
}

impl<const SWAPPED: bool> Step for Halves<SWAPPED> {
    const PARTS: usize = 2;
    const TILES: usize = 2;
    const WAKE: usize = 4;

    /// All four products, so nothing is lost but by the sums.
    #[inline(always)]
    unsafe fn step<const A: usize, const B: usize>(
        a: *const u8,
        lane: usize,
        tile: usize,
        part: usize,
        b: *const u8,
    ) {
        // SAFETY: the caller's contract.
        unsafe { parts!(halves, a, lane, tile, part, b, A, B) }
    }
}

impl<const SWAPPED: bool> Step for Thirds<SWAPPED> {
    const PARTS: usize = 3;
    const TILES: usize = 2;
    const WAKE: usize = 3;

    /// The six products whose size is at least that of an f32's rounding: parts `(i, j)` with
    /// `i + j <= 2`.
    #[inline(always)]
    unsafe fn step<const A: usize, const B: usize>(
        a: *const u8,
        lane: usize,
        tile: usize,
        part: usize,
        b: *const u8,
    ) {
        // SAFETY: the caller's contract.
        unsafe { parts!(thirds, a, lane, tile, part, b, A, B) }
    }
}

/// Runs a kernel.
///
/// # Safety
/// Panels of `steps` steps, in all runs, must be readable (of `a`, the tiles that hold lanes), `c` writable and
/// initialised if `add`, and a guard of [`Tiles`] alive on this thread.
pub(crate) unsafe fn run<S: Step>(call: &Call) {
    // SAFETY: the caller's contract.
    unsafe {
        match call.tiles {
            (1, 1) => block::<S, 1, 1>(call),
            (1, 2) => block::<S, 1, 2>(call),
            (2, 1) => block::<S, 2, 1>(call),
            (2, 2) => block::<S, 2, 2>(call),
            (3, 1) if S::TILES > 2 => block::<S, 3, 1>(call),
            (3, 2) if S::TILES > 2 => block::<S, 3, 2>(call),
            other => unreachable!("{other:?} tiles"),
        }
    }
}

/// # Safety
/// As for [`run`], for `A` by `B` tiles.
unsafe fn block<S: Step, const A: usize, const B: usize>(call: &Call) {
    let Call { mut a, a_strides, mut b, c, steps, mut ahead, lines, store, sink, .. } = *call;
    let (lane, tile, step) = a_strides;
    // SAFETY: the caller vouches for operands, target and tile registers; a prefetch may have any
    // address.
    unsafe {
        macro_rules! begin {
            ($tile:literal, $i:literal, $j:literal) => {
                if call.add {
                    let p = c.wrapping_add($i * 16 * 128 + $j * 64);
                    load!("tileloadd ", $tile, p, 128usize);
                } else {
                    asm!(concat!("tilezero ", $tile), options(nostack, nomem, preserves_flags));
                }
            };
        }
        sums!(begin, A, B);
        let (mut left, mut run) = call.runs;
        let mut count = 0;
        loop {
            for _ in 0..steps {
                if count % S::WAKE == S::WAKE - 1 {
                    // A tile store that comes half a microsecond after the last one waits for as long
                    // again; one now and then spares us that.
                    store!("tmm6", sink, 64usize);
                }
                S::step::<A, B>(a, lane, tile, call.a_part, b);
                for _ in 0..lines {
                    _mm_prefetch::<_MM_HINT_T1>(ahead.cast());
                    ahead = ahead.wrapping_add(64);
                }
                if count < store.0 {
                    _mm_prefetch::<_MM_HINT_ET0>(store.1.wrapping_add(count * store.2).cast());
                }
                a = a.wrapping_add(step);
                b = b.wrapping_add(S::PARTS * PAIR);
                count += 1;
            }
            if left == 0 {
                break;
            }
            a = call.a.wrapping_offset(*run);
            run = run.wrapping_add(1);
            left -= 1;
        }
        macro_rules! end {
            ($tile:literal, $i:literal, $j:literal) => {
                store!($tile, c.wrapping_add($i * 16 * 128 + $j * 64), 128usize)
            };
        }
        sums!(end, A, B);
    }
}

//! Which instruction set the kernels use, decided once per process.
//!
//! `LAZUL_ISA=scalar|avx2|avx512` lowers it (for tests, and to compare); a level that the processor
//! lacks is never chosen. Above the vectors, which [`isa`] tells of, there may be a matrix engine
//! ([`tiles`]). It multiplies bf16 numbers, bytes, and anything with quantized matrices, where a row's bits
//! are then the same however many others it is computed with; and products of f16 and f32 with many rows and
//! columns, in parts, which is both quicker and more exact than multiply-adds. `LAZUL_ISA=amx`, the highest level, is what
//! a processor that has it gets anyway.

use std::sync::OnceLock;

/// Instruction-set levels, each containing the ones before it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Isa {
    /// What the target guarantees; on x86-64 that is SSE2, elsewhere whatever the compiler uses.
    Scalar,
    /// AVX2, FMA and F16C.
    Avx2,
    /// AVX-512 F, BW, DQ and VL.
    Avx512,
}

static LEVEL: OnceLock<(Isa, bool)> = OnceLock::new();

/// The level of vectors in use.
#[inline]
pub fn isa() -> Isa {
    LEVEL.get_or_init(choose).0
}

/// Whether the tile unit (AMX, with bf16 and bytes) is in use; [`isa`] is then [`Isa::Avx512`].
#[inline]
pub fn tiles() -> bool {
    LEVEL.get_or_init(choose).1
}

fn choose() -> (Isa, bool) {
    let best = detect();
    let all = || (best, best == Isa::Avx512 && detect_tiles());
    let level = match std::env::var("LAZUL_ISA").as_deref() {
        Err(_) | Ok("amx") => return all(),
        Ok("scalar") => Isa::Scalar,
        Ok("avx2") => Isa::Avx2,
        Ok("avx512") => Isa::Avx512,
        Ok(other) => {
            eprintln!("lazul: LAZUL_ISA={other:?} is none of scalar, avx2, avx512, amx; ignored");
            return all();
        }
    };
    (best.min(level), false)
}

/// Whether the processor has the tile unit, the system saves its registers, and this process may use
/// them. Linux grants that on request, to all threads of the process.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
fn detect_tiles() -> bool {
    use std::arch::x86_64::{__cpuid, __cpuid_count, _xgetbv};
    const TILES: u32 = 1 << 22 | 1 << 24 | 1 << 25; // bf16, tiles, bytes
    const SAVED: u64 = 1 << 17 | 1 << 18;
    const OSXSAVE: u32 = 1 << 27;
    const ARCH_REQ_XCOMP_PERM: usize = 0x1023;
    const XTILEDATA: usize = 18;

    #[target_feature(enable = "xsave")]
    fn saved() -> u64 {
        // SAFETY: register 0 is always there.
        unsafe { _xgetbv(0) }
    }

    if !has_tile_bits(TILES, OSXSAVE) {
        return false;
    }
    // SAFETY: the processor has `xgetbv`, as the bit of `cpuid` says.
    if unsafe { saved() } & SAVED != SAVED {
        return false;
    }
    // SAFETY: the call touches no memory of ours.
    return unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XTILEDATA) == 0 };

    // Newer compilers know that `cpuid` is safe; the oldest supported one does not.
    #[allow(unused_unsafe)]
    fn has_tile_bits(tiles: u32, osxsave: u32) -> bool {
        // SAFETY: every x86-64 processor has `cpuid`; leaf 7 is asked for only if there.
        unsafe {
            __cpuid(0).eax >= 7
                && __cpuid(1).ecx & osxsave != 0
                && __cpuid_count(7, 0).edx & tiles == tiles
        }
    }
}

#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
fn detect_tiles() -> bool {
    false
}

#[cfg(target_arch = "x86_64")]
fn detect() -> Isa {
    let avx2 = is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("fma")
        && is_x86_feature_detected!("f16c");
    let avx512 = is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl");
    match (avx2, avx512) {
        (true, true) => Isa::Avx512,
        (true, false) => Isa::Avx2,
        _ => Isa::Scalar,
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn detect() -> Isa {
    Isa::Scalar
}

/// Runs one generic block of safe, inlinable code compiled for each instruction-set level.
///
/// `dispatch!(fn name(arg: Type, …) -> Ret { body })` defines a function that picks, at run time, one
/// of three copies of the body, each compiled with the features of its level; the compiler then
/// vectorises plain loops for it.
#[macro_export]
macro_rules! dispatch {
    ($(#[$meta:meta])* $vis:vis fn $name:ident $(<$($g:ident : $bound:path),+>)? ($($arg:ident : $ty:ty),* $(,)?) $(-> $ret:ty)? $body:block) => {
        $(#[$meta])*
        $vis fn $name $(<$($g: $bound),+>)? ($($arg: $ty),*) $(-> $ret)? {
            #[inline(always)]
            fn generic $(<$($g: $bound),+>)? ($($arg: $ty),*) $(-> $ret)? $body

            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2,fma,f16c")]
                fn avx2 $(<$($g: $bound),+>)? ($($arg: $ty),*) $(-> $ret)? { generic($($arg),*) }
                #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl")]
                fn avx512 $(<$($g: $bound),+>)? ($($arg: $ty),*) $(-> $ret)? { generic($($arg),*) }
                match $crate::isa::isa() {
                    // SAFETY: `isa()` answers only with levels that the processor has.
                    $crate::isa::Isa::Avx512 => return unsafe { avx512($($arg),*) },
                    // SAFETY: as above.
                    $crate::isa::Isa::Avx2 => return unsafe { avx2($($arg),*) },
                    $crate::isa::Isa::Scalar => {}
                }
            }
            generic($($arg),*)
        }
    };
}

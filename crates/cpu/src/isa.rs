//! Which instruction set the kernels use, decided once per process.
//!
//! `LAZUL_ISA=scalar|avx2|avx512` lowers it (for tests, and to compare); a level that the processor
//! lacks is never chosen.

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

static ISA: OnceLock<Isa> = OnceLock::new();

/// The level in use.
#[inline]
pub fn isa() -> Isa {
    *ISA.get_or_init(choose)
}

fn choose() -> Isa {
    let best = detect();
    match std::env::var("LAZUL_ISA").as_deref() {
        Err(_) => best,
        Ok("scalar") => Isa::Scalar,
        Ok("avx2") => best.min(Isa::Avx2),
        Ok("avx512") => best.min(Isa::Avx512),
        Ok(other) => {
            eprintln!("lazul: LAZUL_ISA={other:?} is none of scalar, avx2, avx512; ignored");
            best
        }
    }
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

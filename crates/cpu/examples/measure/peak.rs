//! What the arithmetic units can do when nothing but the first cache feeds them.
//!
//! Operands are random numbers: multiplying zeros takes less power, so the clock runs higher than it
//! does for any product worth computing.

use lazul_cpu::{isa, pool};
use std::time::Instant;

/// Operations a second, in units of 10⁹, of `once` (which does `operations`) on every thread at once.
fn rate(operations: f64, once: impl Fn() + Sync) -> f64 {
    let each = |_| {
        let (start, mut least) = (Instant::now(), f64::MAX);
        while start.elapsed().as_secs_f64() < 0.5 {
            let t = Instant::now();
            once();
            least = least.min(t.elapsed().as_secs_f64());
        }
        operations / least / 1e9
    };
    std::thread::scope(|s| {
        let threads: Vec<_> = (0..pool::threads()).map(|i| s.spawn(move || each(i))).collect();
        threads.into_iter().map(|t| t.join().unwrap()).sum()
    })
}

/// Multiply-adds of f32 vectors, in 10⁹ operations a second.
#[cfg(target_arch = "x86_64")]
pub(crate) fn fma() -> Option<f64> {
    use std::arch::{asm, x86_64::*};
    const SUMS: usize = 16;
    #[target_feature(enable = "avx512f")]
    fn wide(times: usize) {
        let (x, y) = (_mm512_set1_ps(0.999), _mm512_set1_ps(0.0013));
        // SAFETY: the block touches no memory, and says which registers it writes.
        unsafe {
            asm!(
                "2:",
                "vfmadd231ps {a}, {x}, {y}", "vfmadd231ps {b}, {x}, {y}",
                "vfmadd231ps {c}, {x}, {y}", "vfmadd231ps {d}, {x}, {y}",
                "vfmadd231ps {e}, {x}, {y}", "vfmadd231ps {f}, {x}, {y}",
                "vfmadd231ps {g}, {x}, {y}", "vfmadd231ps {h}, {x}, {y}",
                "vfmadd231ps {i}, {x}, {y}", "vfmadd231ps {j}, {x}, {y}",
                "vfmadd231ps {k}, {x}, {y}", "vfmadd231ps {l}, {x}, {y}",
                "vfmadd231ps {m}, {x}, {y}", "vfmadd231ps {n}, {x}, {y}",
                "vfmadd231ps {o}, {x}, {y}", "vfmadd231ps {p}, {x}, {y}",
                "dec {times}",
                "jnz 2b",
                a = inout(zmm_reg) y => _, b = inout(zmm_reg) y => _,
                c = inout(zmm_reg) y => _, d = inout(zmm_reg) y => _,
                e = inout(zmm_reg) y => _, f = inout(zmm_reg) y => _,
                g = inout(zmm_reg) y => _, h = inout(zmm_reg) y => _,
                i = inout(zmm_reg) y => _, j = inout(zmm_reg) y => _,
                k = inout(zmm_reg) y => _, l = inout(zmm_reg) y => _,
                m = inout(zmm_reg) y => _, n = inout(zmm_reg) y => _,
                o = inout(zmm_reg) y => _, p = inout(zmm_reg) y => _,
                x = in(zmm_reg) x, y = in(zmm_reg) y,
                times = inout(reg) times => _,
                options(nomem, nostack),
            );
        }
    }
    let times = 20_000usize;
    (isa::isa() == isa::Isa::Avx512).then(|| {
        // SAFETY: the level has AVX-512.
        rate(times as f64 * SUMS as f64 * 32.0, || unsafe { wide(times) })
    })
}

/// Products of bf16 tiles, two by two, with the four loads that they take, in 10⁹ operations a second.
#[cfg(target_arch = "x86_64")]
pub(crate) fn tiles() -> Option<f64> {
    use std::arch::asm;

    #[repr(C, align(64))]
    struct Line([u8; 64]);

    if !isa::tiles() {
        return None;
    }
    let mut state = 1u64;
    let memory: Vec<Line> = (0..4 * 16)
        .map(|_| {
            Line(std::array::from_fn(|i| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                // Upper bytes of numbers of either sign around one.
                if i % 2 == 1 { 0x3f | (state >> 63 << 7) as u8 } else { (state >> 40) as u8 }
            }))
        })
        .collect();
    let times = 20_000usize;
    Some(rate(times as f64 * 4.0 * 16384.0, || {
        let mut config = Line([0; 64]);
        config.0[0] = 1;
        for tile in 0..8 {
            config.0[16 + 2 * tile] = 64;
            config.0[48 + tile] = 16;
        }
        // SAFETY: the process may use tiles; the four tiles of `memory` are read, and the registers
        // are left as they were found.
        unsafe {
            asm!(
                "ldtilecfg [{config}]",
                "2:",
                "tileloadd tmm4, [{p} + {s}]",
                "tileloadd tmm5, [{p} + {s} + 1024]",
                "tileloadd tmm6, [{p} + {s} + 2048]",
                "tileloadd tmm7, [{p} + {s} + 3072]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "tdpbf16ps tmm2, tmm5, tmm6",
                "tdpbf16ps tmm3, tmm5, tmm7",
                "dec {n}",
                "jnz 2b",
                "tilerelease",
                config = in(reg) &config,
                p = in(reg) memory.as_ptr(),
                s = in(reg) 64usize,
                n = inout(reg) times => _,
            );
        }
    }))
}

#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn fma() -> Option<f64> {
    None
}

#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn tiles() -> Option<f64> {
    None
}

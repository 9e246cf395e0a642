//! What the machine can do at most, measured as the programs beside it are.

use std::hint::black_box;

/// Memory of `n` elements in large pages, as arrays have it, where the system gives such.
fn filled<T: Copy>(n: usize, value: T) -> Vec<T> {
    let mut memory: Vec<T> = Vec::with_capacity(n);
    #[cfg(target_os = "linux")]
    {
        let start = (memory.as_mut_ptr() as usize).next_multiple_of(4096);
        let end = (memory.as_ptr() as usize + n * size_of::<T>()) / 4096 * 4096;
        // SAFETY: whole pages of this vector's; the call changes how they are backed, and nothing in them.
        unsafe { libc::madvise(start as *mut _, end.saturating_sub(start), libc::MADV_HUGEPAGE) };
    }
    memory.resize(n, value);
    memory
}

/// Bytes a second, read and written, of copying between large buffers that are in memory already, each
/// of `threads` threads its own part.
pub fn copy(threads: usize) -> f64 {
    let n = 64usize << 20;
    let (from, mut to) = (filled(n, 1.0f32), filled(n, 2.0f32));
    let part = n.div_ceil(threads);
    let seconds = crate::until_steady(|| {
        std::thread::scope(|scope| {
            for (from, to) in from.chunks(part).zip(to.chunks_mut(part)) {
                scope.spawn(move || black_box(to).copy_from_slice(black_box(from)));
            }
        });
    });
    (2 * n * size_of::<f32>()) as f64 / seconds
}

/// Bytes a second of reading a large buffer, each of `threads` threads its own part.
pub fn read(threads: usize) -> f64 {
    let n = 64usize << 20;
    let from = filled(n, 1u64);
    let part = n.div_ceil(threads);
    let seconds = crate::until_steady(|| {
        std::thread::scope(|scope| {
            for from in from.chunks(part) {
                scope.spawn(move || {
                    let mut sums = [0u64; 32];
                    for part in black_box(from).chunks_exact(32) {
                        for (sum, &x) in sums.iter_mut().zip(part) {
                            *sum = sum.wrapping_add(x);
                        }
                    }
                    black_box(sums);
                });
            }
        });
    });
    (n * size_of::<u64>()) as f64 / seconds
}

/// `bf16` operations a second of the matrix engine, its loads from the first cache included, on all
/// threads of the pool; none without it.
pub fn tiles() -> Option<f64> {
    peak::tiles().map(|rate| rate * 1e9)
}

#[allow(dead_code)] // Its other limits are those of this file.
#[path = "../../crates/cpu/examples/measure/peak.rs"]
mod peak;

/// `f32` operations a second of multiplications with additions in registers, in `threads` threads.
pub fn peak(threads: usize) -> f64 {
    const ROUNDS: usize = 4_000_000;
    let mut operations = 0;
    let seconds = crate::until_steady(|| {
        operations = std::thread::scope(|scope| {
            let running: Vec<_> = (0..threads).map(|_| scope.spawn(|| multiply(ROUNDS))).collect();
            running.into_iter().map(|t| t.join().unwrap_or(0)).sum()
        });
    });
    operations as f64 / seconds
}

/// Runs `rounds` of multiplications with additions; says how many operations that was.
fn multiply(rounds: usize) -> usize {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f") {
            // SAFETY: the processor has the instructions.
            return unsafe { multiply_avx512(rounds) };
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            // SAFETY: the processor has the instructions.
            return unsafe { multiply_avx2(rounds) };
        }
    }
    multiply_lanes::<4, 12>(rounds)
}

/// Written with intrinsics: arrays of numbers stay in memory instead of registers here.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn multiply_avx512(rounds: usize) -> usize {
    use std::arch::x86_64::{_mm512_fmadd_ps, _mm512_set1_ps};
    let mut sums = [_mm512_set1_ps(1.0); 16];
    let (x, y) = (_mm512_set1_ps(black_box(0.999)), _mm512_set1_ps(black_box(0.001)));
    for _ in 0..rounds {
        for sum in &mut sums {
            *sum = _mm512_fmadd_ps(*sum, x, y);
        }
    }
    black_box(sums);
    2 * rounds * 16 * sums.len()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn multiply_avx2(rounds: usize) -> usize {
    use std::arch::x86_64::{_mm256_fmadd_ps, _mm256_set1_ps};
    let mut sums = [_mm256_set1_ps(1.0); 12];
    let (x, y) = (_mm256_set1_ps(black_box(0.999)), _mm256_set1_ps(black_box(0.001)));
    for _ in 0..rounds {
        for sum in &mut sums {
            *sum = _mm256_fmadd_ps(*sum, x, y);
        }
    }
    black_box(sums);
    2 * rounds * 8 * sums.len()
}

/// `CHAINS` independent chains of vectors of `LANES`: enough to fill the multipliers' pipelines.
#[inline(always)]
fn multiply_lanes<const LANES: usize, const CHAINS: usize>(rounds: usize) -> usize {
    let mut sums = [[1.0f32; LANES]; CHAINS];
    let (x, y) = (black_box([0.999f32; LANES]), black_box([0.001f32; LANES]));
    for _ in 0..rounds {
        for sum in &mut sums {
            for i in 0..LANES {
                sum[i] = sum[i].mul_add(x[i], y[i]);
            }
        }
    }
    black_box(sums);
    2 * rounds * LANES * CHAINS
}

//! Memory: figures, limits, and giving the cache back.
//!
//! Freed memory is kept for reuse up to the cache limit. What would pass the memory limit is an error
//! of the evaluation that asked for it, after the cache was given back and the request tried again;
//! the program goes on.

pub use lazul_ir::MemoryStats;

/// The figures now.
///
/// ```
/// use lazul_core::{memory, prelude::*};
/// let x = arange(1 << 20, DType::F32);
/// x.eval()?;
/// assert!(memory::stats().active >= 4 << 20);
/// # Ok::<(), lazul_core::Error>(())
/// ```
pub fn stats() -> MemoryStats {
    crate::eval::backend().memory()
}

/// Sets how many bytes live arrays may take; returns the old limit. The default is 80 % of the
/// machine's memory, or the environment variable `LAZUL_MEMORY_LIMIT`.
pub fn set_limit(bytes: usize) -> usize {
    crate::eval::backend().set_memory_limit(bytes)
}

/// Sets how many bytes of freed memory are kept for reuse; returns the old limit.
pub fn set_cache_limit(bytes: usize) -> usize {
    crate::eval::backend().set_cache_limit(bytes)
}

/// Gives all memory that is kept for reuse back to the system.
pub fn clear_cache() {
    crate::eval::backend().clear_cache();
}

/// Starts the peak figure anew.
pub fn reset_peak() {
    crate::eval::backend().reset_peak();
}

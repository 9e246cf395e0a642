//! Memory: figures, limits, and giving the cache back.
//!
//! Freed memory is kept for reuse up to the cache limit. What would pass the memory limit is an error
//! of the evaluation that asked for it, after the cache was given back and the request tried again;
//! the program goes on.

use crate::error::{ErrorKind, Result};
use crate::node::{Array, State, Storage};
use crate::ops::error;
use crate::scope::call_site;
pub use lazul_ir::MemoryStats;
use std::collections::BTreeMap;

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

/// How many bytes the memory blocks behind evaluated arrays take, each block counted once: what views
/// share is there once, and a block may be larger than its array. A constant has none.
///
/// ```
/// use lazul_core::{memory, prelude::*};
/// let x = arange(1000, DType::F32);
/// let y = x.slice_axis(0, 0, 10);
/// eval([&x, &y])?;
/// assert!(memory::buffer_size([&x, &y])? >= 4000);
/// assert_eq!(memory::buffer_size([&x, &y])?, memory::buffer_size([&x])?);
/// # Ok::<(), lazul_core::Error>(())
/// ```
///
/// # Errors
/// If an array is not evaluated, or failed.
#[track_caller]
pub fn buffer_size<'a>(arrays: impl IntoIterator<Item = &'a Array>) -> Result<usize> {
    let mut blocks = BTreeMap::new();
    for array in arrays {
        array.check()?;
        let State::Ready { data, .. } = &*array.0.lock() else {
            let why = "an array that is not evaluated has no memory yet";
            return Err(error(ErrorKind::Value, "buffer_size", why, &[array]).at(call_site()));
        };
        if let Storage::Buffer(buffer) = &data.storage {
            blocks.insert(buffer.ptr() as usize, buffer.capacity());
        }
    }
    Ok(blocks.values().sum())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prelude::*;

    #[test]
    fn only_evaluated_arrays_have_memory() {
        let lazy = arange(3, DType::F32);
        assert!(buffer_size([&lazy]).is_err());
        assert!(buffer_size([&lazy.reshape(7)]).is_err());
        assert_eq!(buffer_size([&zeros(1usize << 40, DType::F32)]).unwrap(), 0);
        assert_eq!(buffer_size([]).unwrap(), 0);
    }
}

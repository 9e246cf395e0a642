//! Memory: figures, limits, and giving the cache back.
//!
//! Freed memory is kept for reuse up to the cache limit. What would pass the memory limit is an error
//! of the evaluation that asked for it, after the cache was given back and the request tried again;
//! the program goes on.

use crate::device::Device;
use crate::device::accelerator::{accelerator, opened};
use crate::error::{ErrorKind, Result};
use crate::node::{Array, State, Storage};
use crate::ops::error;
use crate::scope::call_site;
pub use lazul_ir::MemoryStats;
use std::collections::BTreeMap;

/// The figures now: those of the host's memory and of the devices in use together, and how many bytes moved
/// between them. The limits are the host's.
///
/// ```
/// use lazul_core::{memory, prelude::*};
/// let x = arange(1 << 20, DType::F32);
/// x.eval()?;
/// assert!(memory::stats().active >= 4 << 20);
/// # Ok::<(), lazul_core::Error>(())
/// ```
pub fn stats() -> MemoryStats {
    let devices = opened().map(|(_, device)| device.memory());
    devices.fold(crate::eval::backend().memory(), |sum, device| MemoryStats {
        active: sum.active + device.active,
        peak: sum.peak + device.peak,
        cache: sum.cache + device.cache,
        uploaded: sum.uploaded + device.uploaded,
        downloaded: sum.downloaded + device.downloaded,
        ..sum
    })
}

/// The figures of one device's memory; `None` if it was not used yet. [`Device::Auto`] and
/// [`Device::Cpu`] are the host.
///
/// ```
/// use lazul_core::{device::Device, memory};
/// assert!(memory::device_stats(Device::Cpu).is_some());
/// assert!(memory::device_stats(Device::Cuda(63)).is_none());
/// ```
pub fn device_stats(device: Device) -> Option<MemoryStats> {
    match device {
        Device::Auto | Device::Cpu => Some(crate::eval::backend().memory()),
        _ => opened().find(|(place, _)| *place == device.choice()).map(|(_, d)| d.memory()),
    }
}

/// Sets how many bytes live arrays may take in a device's memory; returns the old limit, or `None` if the
/// device cannot be used.
///
/// ```
/// use lazul_core::{device::Device, memory};
/// assert_eq!(memory::set_device_limit(Device::Cuda(63), 1 << 30), None);
/// ```
pub fn set_device_limit(device: Device, bytes: usize) -> Option<usize> {
    match device {
        Device::Auto | Device::Cpu => Some(set_limit(bytes)),
        _ => accelerator(device.choice()).ok().map(|d| d.set_memory_limit(bytes)),
    }
}

/// Sets how many bytes live arrays may take in the host's memory; returns the old limit. The default is 80 % of
/// the machine's memory, or the environment variable `LAZUL_MEMORY_LIMIT`. A device may use all that it has,
/// unless [`set_device_limit`] says otherwise.
///
/// ```standalone_crate
/// use lazul_core::{memory, prelude::*};
/// let before = memory::set_limit(1 << 20);
/// assert!(arange(1 << 20, DType::F32).eval().is_err());
/// assert_eq!(memory::set_limit(before), 1 << 20);
/// arange(1 << 20, DType::F32).eval()?;
/// # Ok::<(), lazul_core::Error>(())
/// ```
pub fn set_limit(bytes: usize) -> usize {
    crate::eval::backend().set_memory_limit(bytes)
}

/// Sets how many bytes of freed memory the host and each device keep for reuse; returns the old limit.
///
/// ```standalone_crate
/// use lazul_core::{memory, prelude::*};
/// let before = memory::set_cache_limit(0);
/// drop(arange(1 << 20, DType::F32).eval()?);
/// assert_eq!(memory::stats().cache, 0);
/// memory::set_cache_limit(before);
/// # Ok::<(), lazul_core::Error>(())
/// ```
pub fn set_cache_limit(bytes: usize) -> usize {
    opened().for_each(|(_, device)| {
        device.set_cache_limit(bytes);
    });
    crate::eval::backend().set_cache_limit(bytes)
}

/// Gives all memory that is kept for reuse back to the system.
///
/// ```standalone_crate
/// use lazul_core::{memory, prelude::*};
/// arange(1 << 20, DType::F32).eval()?;
/// memory::clear_cache();
/// assert_eq!(memory::stats().cache, 0);
/// # Ok::<(), lazul_core::Error>(())
/// ```
pub fn clear_cache() {
    opened().for_each(|(_, device)| device.clear_cache());
    crate::eval::backend().clear_cache();
}

/// Starts the peak figure anew.
///
/// ```standalone_crate
/// use lazul_core::{memory, prelude::*};
/// arange(1 << 20, DType::F32).eval()?;
/// assert!(memory::stats().peak >= 4 << 20);
/// memory::reset_peak();
/// assert_eq!(memory::stats().peak, memory::stats().active);
/// # Ok::<(), lazul_core::Error>(())
/// ```
pub fn reset_peak() {
    opened().for_each(|(_, device)| device.reset_peak());
    crate::eval::backend().reset_peak();
}

/// How many bytes the memory blocks behind evaluated arrays take, each block counted once: what views
/// share is there once, and a block may be larger than its array; replicas on devices count too. A constant has
/// none.
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
            blocks.insert(buffer.ptr() as usize, buffer.capacity() + buffer.replicated());
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

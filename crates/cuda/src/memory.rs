//! Device memory: a stream-ordered pool with figures and limits.
//!
//! An allocation is usable by work enqueued after it on the same stream, and what is freed is handed
//! out again by later allocations on that stream, without waiting. Blocks of the device's own stream are
//! kept by size, so that a loop does not ask the driver; the driver's pool is behind. When the device has
//! none left, all that is kept is given back and the request tried again, before it is an error.

use crate::device::Device;
use crate::driver::{cu, sys};
use crate::stream::Stream;
use lazul_ir::{BlockSource, Buffer, ErrorKind, MemoryStats, OpError, Place};
use std::collections::{BTreeSet, HashMap};
use std::sync::Mutex;

/// Sizes are rounded up to this: the alignment that kernels may count on.
const ALIGNMENT: usize = 256;

/// Figures of a device's memory.
#[derive(Debug)]
pub(crate) struct Accounts(Mutex<Figures>);

#[derive(Debug)]
struct Figures {
    active: usize,
    peak: usize,
    limit: usize,
    cache_limit: usize,
}

impl Default for Accounts {
    fn default() -> Accounts {
        let limit = usize::MAX;
        Accounts(Mutex::new(Figures { active: 0, peak: 0, limit, cache_limit: limit }))
    }
}

impl Accounts {
    fn with<T>(&self, f: impl FnOnce(&mut Figures) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(|e| e.into_inner()))
    }

    fn add(&self, bytes: usize) -> Result<(), OpError> {
        self.with(|f| match f.active.checked_add(bytes).filter(|sum| *sum <= f.limit) {
            Some(sum) => {
                f.active = sum;
                f.peak = f.peak.max(sum);
                Ok(())
            }
            None => {
                let (active, limit) = (f.active, f.limit);
                let message = format!(
                    "{bytes} bytes would pass the limit of {limit} bytes; {active} are in use"
                );
                Err(OpError::new(ErrorKind::OutOfMemory, "alloc", message))
            }
        })
    }

    fn remove(&self, bytes: usize) {
        self.with(|f| f.active = f.active.saturating_sub(bytes));
    }
}

/// Freed blocks of the device's own stream, by size. The one with the lowest address is handed out first,
/// so that what an evaluation gets does not depend on the order in which others let theirs go.
#[derive(Default)]
pub(crate) struct Kept(Mutex<Blocks>);

#[derive(Default)]
struct Blocks {
    by_size: HashMap<usize, BTreeSet<u64>>,
    bytes: usize,
}

impl Kept {
    fn with<T>(&self, f: impl FnOnce(&mut Blocks) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(|e| e.into_inner()))
    }

    fn take(&self, bytes: usize) -> Option<u64> {
        self.with(|b| {
            let ptr = b.by_size.get_mut(&bytes)?.pop_first()?;
            b.bytes -= bytes;
            Some(ptr)
        })
    }

    /// Whether the block is kept.
    fn put(&self, ptr: u64, bytes: usize, limit: usize) -> bool {
        self.with(|b| {
            let fits = b.bytes.saturating_add(bytes) <= limit;
            if fits {
                b.by_size.entry(bytes).or_default().insert(ptr);
                b.bytes += bytes;
            }
            fits
        })
    }

    fn drain(&self) -> Vec<u64> {
        self.with(|b| {
            b.bytes = 0;
            std::mem::take(&mut b.by_size).into_values().flatten().collect()
        })
    }
}

impl BlockSource for Device {
    fn place(&self) -> Place {
        self.place()
    }

    fn release(&self, ptr: *mut u8, capacity: usize) {
        self.accounts.remove(capacity);
        self.free(self.stream(), ptr as u64, capacity);
    }
}

impl Device {
    /// Memory of `bytes` bytes on the device, not initialised, aligned to 256 bytes. It belongs to the
    /// device's own stream: work on others that uses it must be ordered by events.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfMemory`] where the limit would be passed, or the device has none left after
    /// all cached memory was given back.
    pub fn alloc(&'static self, bytes: usize) -> Result<Buffer, OpError> {
        let too_much = || {
            let message = format!("{bytes} bytes are more than any device has");
            OpError::new(ErrorKind::OutOfMemory, "alloc", message)
        };
        let capacity = bytes.max(1).checked_next_multiple_of(ALIGNMENT).ok_or_else(too_much)?;
        self.accounts.add(capacity)?;
        match self.take(self.stream(), capacity) {
            // SAFETY: fresh memory of this device, given back by `release` once. Kernels alone
            // dereference the address.
            Ok(ptr) => Ok(unsafe { Buffer::new(ptr as *mut u8, bytes, capacity, self) }),
            Err(e) => {
                self.accounts.remove(capacity);
                Err(e)
            }
        }
    }

    /// Takes memory from the pool, in the order of `stream`.
    pub(crate) fn take(&self, stream: &Stream, bytes: usize) -> Result<u64, OpError> {
        let Some(raw) = self.raw else { return Ok(1 << 40) };
        if std::ptr::eq(stream, self.stream())
            && let Some(ptr) = self.kept.take(bytes)
        {
            return Ok(ptr);
        }
        self.enter()?;
        let mut ptr = 0;
        let first = cu!(cuMemAllocFromPoolAsync(&mut ptr, bytes, raw.pool, stream.raw()?));
        match first {
            Ok(()) => Ok(ptr),
            Err(e) if e.kind() == ErrorKind::OutOfMemory => {
                self.clear_cache();
                let again = cu!(cuMemAllocFromPoolAsync(&mut ptr, bytes, raw.pool, stream.raw()?));
                again.map(|()| ptr).map_err(|e| match e.kind() {
                    ErrorKind::OutOfMemory => self.out_of_memory(bytes),
                    _ => e,
                })
            }
            Err(e) => Err(e),
        }
    }

    fn out_of_memory(&self, bytes: usize) -> OpError {
        let (mut free, mut total) = (0, 0);
        let _ = cu!(cuMemGetInfo_v2(&mut free, &mut total));
        let message = format!(
            "{bytes} bytes cannot be had: {} has {free} of {total} bytes free",
            self.info.name
        );
        OpError::new(ErrorKind::OutOfMemory, "alloc", message)
    }

    /// Gives memory of `bytes` bytes back, in the order of `stream`.
    pub(crate) fn free(&self, stream: &Stream, ptr: u64, bytes: usize) {
        if self.raw.is_some() && std::ptr::eq(stream, self.stream()) {
            let limit = self.accounts.with(|f| f.cache_limit);
            if self.kept.put(ptr, bytes, limit) {
                return;
            }
        }
        // What can fail here is a device that has failed already, which its next use will tell.
        if let (true, Ok(()), Ok(raw)) = (self.raw.is_some(), self.enter(), stream.raw()) {
            let _ = cu!(cuMemFreeAsync(ptr, raw));
        }
    }

    /// Gives all cached memory back to the device, once the work that uses it is done.
    pub fn clear_cache(&self) {
        let (Some(raw), Ok(())) = (self.raw, self.enter()) else { return };
        // Kernels that use these blocks and are not launched yet are launched by `raw`.
        let kept = self.kept.drain();
        if let Ok(stream) = self.stream().raw() {
            for ptr in kept {
                let _ = cu!(cuMemFreeAsync(ptr, stream));
            }
            let _ = self.stream().sync();
            let _ = cu!(cuMemPoolTrimTo(raw.pool, 0));
        }
    }

    fn pool_figure(&self, which: sys::CUmemPool_attribute) -> usize {
        let mut value = 0u64;
        if let (Some(raw), Ok(())) = (self.raw, self.enter()) {
            let _ = cu!(cuMemPoolGetAttribute(raw.pool, which, (&raw mut value).cast()));
        }
        value as usize
    }

    /// Memory figures.
    pub fn memory(&self) -> MemoryStats {
        use sys::CUmemPool_attribute as A;
        let reserved = self.pool_figure(A::CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT);
        let used = self.pool_figure(A::CU_MEMPOOL_ATTR_USED_MEM_CURRENT);
        let moved = self.traffic();
        self.accounts.with(|f| MemoryStats {
            active: f.active,
            peak: f.peak,
            cache: reserved.saturating_sub(used) + self.kept.with(|b| b.bytes),
            limit: f.limit,
            cache_limit: f.cache_limit,
            uploaded: moved.up,
            downloaded: moved.down,
        })
    }

    /// Sets the highest `active` allowed; returns the old one.
    pub fn set_memory_limit(&self, bytes: usize) -> usize {
        self.accounts.with(|f| std::mem::replace(&mut f.limit, bytes))
    }

    /// Sets how much memory the pool may keep at a synchronisation; returns the old limit.
    pub fn set_cache_limit(&self, bytes: usize) -> usize {
        if let (Some(raw), Ok(())) = (self.raw, self.enter()) {
            let mut keep = bytes as u64;
            let threshold = sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
            let _ = cu!(cuMemPoolSetAttribute(raw.pool, threshold, (&raw mut keep).cast()));
        }
        let old = self.accounts.with(|f| std::mem::replace(&mut f.cache_limit, bytes));
        if self.kept.with(|b| b.bytes) > bytes {
            self.clear_cache();
        }
        old
    }

    /// Starts `peak` anew at `active`.
    pub fn reset_peak(&self) {
        self.accounts.with(|f| f.peak = f.active);
    }
}

/// Memory that one job needs while it runs; given back, in order, when the job is enqueued.
pub(crate) struct Scratch<'a> {
    stream: &'a Stream,
    pub(crate) ptr: u64,
    bytes: usize,
}

impl<'a> Scratch<'a> {
    pub(crate) fn new(stream: &'a Stream, bytes: usize) -> Result<Scratch<'a>, OpError> {
        let bytes = bytes.max(1).next_multiple_of(ALIGNMENT);
        Ok(Scratch { stream, ptr: stream.device().take(stream, bytes)?, bytes })
    }
}

impl Drop for Scratch<'_> {
    fn drop(&mut self) {
        self.stream.device().free(self.stream, self.ptr, self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_kept_by_size_and_up_to_a_limit() {
        let kept = Kept::default();
        assert!(kept.put(1, 256, 600) && kept.put(2, 256, 600) && !kept.put(3, 256, 600));
        assert_eq!((kept.take(512), kept.take(256), kept.with(|b| b.bytes)), (None, Some(1), 256));
        assert!(kept.put(4, 512, usize::MAX));
        let mut all = kept.drain();
        all.sort_unstable();
        assert_eq!((all, kept.with(|b| b.bytes), kept.take(256)), (vec![2, 4], 0, None));
    }

    #[test]
    fn limits_are_errors() {
        let accounts = Accounts::default();
        accounts.add(1000).unwrap();
        accounts.with(|f| f.limit = 1500);
        let e = accounts.add(501).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::OutOfMemory);
        assert!(e.message().contains("1500") && e.message().contains("501"));
        accounts.add(500).unwrap();
        accounts.remove(1500);
        assert_eq!(accounts.with(|f| (f.active, f.peak)), (0, 1500));
        assert!(accounts.add(usize::MAX).is_err());
    }
}

//! What a device must offer.

use crate::{Buffer, Job, OpError};

/// Memory figures, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct MemoryStats {
    /// Held by live buffers.
    pub active: usize,
    /// The highest `active` since the last reset.
    pub peak: usize,
    /// Kept for reuse.
    pub cache: usize,
    /// `active` may not pass this.
    pub limit: usize,
    /// `cache` may not pass this.
    pub cache_limit: usize,
    /// Copied from the host's memory to a device's since the program started.
    pub uploaded: u64,
    /// Copied from a device's memory to the host's since the program started.
    pub downloaded: u64,
}

/// A device that holds memory and runs jobs.
///
/// Jobs are handed over in an order in which each one's operands are complete; `run` returns when
/// the outputs are.
pub trait Backend: Send + Sync {
    /// `"cpu"`.
    fn name(&self) -> &'static str;

    /// Memory of `bytes` bytes, aligned for the widest vector unit, not initialised.
    ///
    /// # Errors
    /// [`crate::ErrorKind::OutOfMemory`] where the limit would be passed or the system has none;
    /// cached memory is given back and the request tried again before that.
    fn alloc(&self, bytes: usize) -> Result<Buffer, OpError>;

    /// Runs a job to its end.
    ///
    /// # Errors
    /// What the primitive documents (an index out of bounds), or the device's failure. Outputs then
    /// hold nothing of use, but operands that are not outputs are unchanged.
    ///
    /// # Safety
    /// Operands and targets must describe live memory of the stated extent; targets must not
    /// overlap one another, nor an operand except as [`crate::Target`] allows.
    unsafe fn run(&self, job: &Job<'_>) -> Result<(), OpError>;

    /// Memory figures.
    fn memory(&self) -> MemoryStats;
    /// Sets the highest `active` allowed; returns the old one.
    fn set_memory_limit(&self, bytes: usize) -> usize;
    /// Sets how much freed memory may be kept; returns the old limit.
    fn set_cache_limit(&self, bytes: usize) -> usize;
    /// Gives all cached memory back to the system.
    fn clear_cache(&self);
    /// Starts `peak` anew at `active`.
    fn reset_peak(&self);
}

//! Handles to memory.

use std::sync::Arc;

/// Where a block of memory goes back to when its last handle is dropped.
pub trait BlockSource: Send + Sync {
    /// Takes back `capacity` bytes at `ptr`, which this source handed out.
    fn release(&self, ptr: *mut u8, capacity: usize);
}

struct Block {
    ptr: *mut u8,
    len: usize,
    capacity: usize,
    source: &'static dyn BlockSource,
}

// SAFETY: a block is plain memory; who may write it when is decided by the evaluator, which hands a
// buffer to at most one writer and to readers only after that writer is done.
unsafe impl Send for Block {}
// SAFETY: as above.
unsafe impl Sync for Block {}

impl Drop for Block {
    fn drop(&mut self) {
        self.source.release(self.ptr, self.capacity);
    }
}

/// A block of memory, shared by its clones and given back when the last one goes.
#[derive(Clone)]
pub struct Buffer(Arc<Block>);

impl Buffer {
    /// Wraps memory that came from `source`: `len` usable bytes of `capacity` at `ptr`.
    ///
    /// # Safety
    /// `ptr` must be valid for reads and writes of `capacity` bytes until `source.release` is
    /// called, and nobody else may own it.
    pub unsafe fn new(
        ptr: *mut u8,
        len: usize,
        capacity: usize,
        source: &'static dyn BlockSource,
    ) -> Buffer {
        Buffer(Arc::new(Block { ptr, len, capacity, source }))
    }

    /// The address of the first byte.
    #[inline]
    pub fn ptr(&self) -> *mut u8 {
        self.0.ptr
    }

    /// Usable bytes.
    #[inline]
    pub fn len(&self) -> usize {
        self.0.len
    }

    /// Whether the buffer holds no bytes.
    pub fn is_empty(&self) -> bool {
        self.0.len == 0
    }

    /// Bytes reserved for it.
    #[inline]
    pub fn capacity(&self) -> usize {
        self.0.capacity
    }

    /// Whether this is the only handle.
    #[inline]
    pub fn is_unique(&self) -> bool {
        let unique = Arc::strong_count(&self.0) == 1;
        if unique {
            // What others did with the memory before they let it go happened before what comes now.
            std::sync::atomic::fence(std::sync::atomic::Ordering::Acquire);
        }
        unique
    }
}

impl std::fmt::Debug for Buffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Buffer({} bytes)", self.0.len)
    }
}

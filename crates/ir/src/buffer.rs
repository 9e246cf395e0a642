//! Handles to memory.
//!
//! A block lies in one *place*: the host's memory, or a device's. What is written once and then only
//! read may have replicas in other places; they hang on the block, so that whoever shares the block
//! shares them.

use std::sync::{Arc, Mutex, MutexGuard};

/// Number of a place of memory: [`HOST`], or what a device was given.
pub type Place = u8;

/// The host's memory.
pub const HOST: Place = 0;

/// Where a block of memory goes back to when its last handle is dropped.
pub trait BlockSource: Send + Sync {
    /// Where its blocks lie.
    fn place(&self) -> Place {
        HOST
    }

    /// Whether nobody but the holders of its blocks reads or writes them. Blocks of a source that says no are
    /// never written to: they are somebody else's, who lends them.
    fn exclusive(&self) -> bool {
        true
    }

    /// Takes back `capacity` bytes at `ptr`, which this source handed out.
    fn release(&self, ptr: *mut u8, capacity: usize);
}

struct Block {
    ptr: *mut u8,
    len: usize,
    capacity: usize,
    place: Place,
    source: &'static dyn BlockSource,
    /// The same bytes in other places.
    replicas: Mutex<Vec<Buffer>>,
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
    /// `ptr` must be valid for reads of `capacity` bytes, by whoever works in the source's place, until
    /// `source.release` is called; if the source is exclusive, for writes too, and nobody else may own it.
    pub unsafe fn new(
        ptr: *mut u8,
        len: usize,
        capacity: usize,
        source: &'static dyn BlockSource,
    ) -> Buffer {
        let (place, replicas) = (source.place(), Mutex::new(Vec::new()));
        Buffer(Arc::new(Block { ptr, len, capacity, place, source, replicas }))
    }

    /// Where the memory lies.
    #[inline]
    pub fn place(&self) -> Place {
        self.0.place
    }

    fn replicas(&self) -> MutexGuard<'_, Vec<Buffer>> {
        self.0.replicas.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// The memory in `place`: this, or a replica that is there already.
    pub fn at(&self, place: Place) -> Option<Buffer> {
        if self.0.place == place {
            return Some(self.clone());
        }
        self.replicas().iter().find(|r| r.0.place == place).cloned()
    }

    /// Hangs a replica on the block, unless its place has one; gives the one that is there then.
    pub fn add_replica(&self, replica: Buffer) -> Buffer {
        let mut replicas = self.replicas();
        if let Some(there) = replicas.iter().find(|r| r.0.place == replica.0.place) {
            return there.clone();
        }
        replicas.push(replica.clone());
        replica
    }

    /// Drops all replicas, because the block is about to change.
    pub fn drop_replicas(&self) {
        let replicas = std::mem::take(&mut *self.replicas());
        drop(replicas);
    }

    /// Bytes reserved for replicas.
    pub fn replicated(&self) -> usize {
        self.replicas().iter().map(Buffer::capacity).sum()
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

    /// Whether this is the only handle, of memory that is not lent.
    #[inline]
    pub fn is_unique(&self) -> bool {
        let unique = Arc::strong_count(&self.0) == 1 && self.0.source.exclusive();
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

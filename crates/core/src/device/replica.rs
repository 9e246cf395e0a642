//! Making an array's elements be where an operation runs.
//!
//! Evaluated arrays never change, so that memory is copied to a place when something there first reads
//! it, and the copy stays with the memory for whoever reads it next. An operation that uses up an
//! operand's memory writes the block that lies where it runs, which nobody shares, and drops its
//! replicas.

use super::accelerator::{Accelerator, accelerator};
use super::session;
use crate::error::Result;
use crate::eval::backend;
use crate::node::{Data, Storage};
use lazul_ir::{Buffer, DType, HOST, Place};
use std::collections::HashMap;
use std::sync::Mutex;

/// The address of data in a place, and what keeps it there: the data, unless it is a constant.
pub(crate) struct Held {
    pub(crate) ptr: *mut u8,
    pub(crate) constant: Option<Buffer>,
}

/// Memory in a place.
pub(crate) fn alloc(place: Place, bytes: usize) -> Result<Buffer> {
    match place {
        HOST => backend().alloc(bytes),
        _ => accelerator(place)?.alloc(bytes),
    }
}

impl Data {
    /// The address of the element at index `(0, …, 0)` in the host's memory, where the data must be.
    /// Valid while `self` stays where it is.
    fn host(&self, dtype: DType) -> Option<*mut u8> {
        match &self.storage {
            // An empty array's offset may lie past a buffer's end; its address is never read.
            Storage::Buffer(b) if b.place() == HOST => {
                Some(b.ptr().wrapping_add(self.offset * dtype.size()))
            }
            Storage::Buffer(_) => None,
            Storage::Inline(value) => Some((&raw const value.bits) as *mut u8),
        }
    }

    /// The address of the element at index `(0, …, 0)` in `place`, brought there if need be. Valid while
    /// `self` stays where it is.
    #[inline]
    pub(crate) fn at(&self, place: Place, dtype: DType) -> Result<Held> {
        session::trusted(self.number)?;
        if place == HOST
            && let Some(ptr) = self.host(dtype)
        {
            return Ok(Held { ptr, constant: None });
        }
        self.brought(place, dtype)
    }

    #[cold]
    fn brought(&self, place: Place, dtype: DType) -> Result<Held> {
        match &self.storage {
            Storage::Buffer(buffer) => {
                let there = replica(buffer, place, self.number)?;
                let ptr = there.ptr().wrapping_add(self.offset * dtype.size());
                Ok(Held { ptr, constant: None })
            }
            Storage::Inline(value) => {
                // Integers are positions and lengths, which change from step to step.
                let own = match dtype.is_integer() {
                    true => session::constant(place, value.bits)?,
                    false => None,
                };
                let (ptr, keep) = own.map_or_else(|| constant(place, value.bits), Ok)?;
                Ok(Held { ptr, constant: Some(keep) })
            }
        }
    }

    /// Where the data can be read without copying: the host, if it is there.
    pub(crate) fn home(&self) -> Place {
        match &self.storage {
            Storage::Buffer(b) if b.place() != HOST && b.at(HOST).is_none() => b.place(),
            _ => HOST,
        }
    }

    /// Waits for the evaluation that the data is from, if a device may yet show that to be wrong; an error if
    /// it is.
    pub(crate) fn confirm(&self) -> Result<()> {
        let place = match &self.storage {
            Storage::Buffer(b) if self.number > 0 && b.place() != HOST => b.place(),
            _ => return session::trusted(self.number),
        };
        accelerator(place)?.wait_until(self.number)?;
        session::confirm(place, self.number)
    }

    /// Whether the data is in `place` already.
    pub(crate) fn is_in(&self, place: Place) -> bool {
        matches!(&self.storage, Storage::Buffer(b) if b.at(place).is_some())
    }

    /// Copies `bytes` bytes from the first element on to `dst`, without leaving a replica behind.
    ///
    /// # Safety
    /// `dst` must be memory of that size, and the data that many bytes in row-major order, in `place`,
    /// which is not the host's.
    pub(crate) unsafe fn download(
        &self,
        place: Place,
        dtype: DType,
        dst: *mut u8,
        bytes: usize,
    ) -> Result<()> {
        let held = self.at(place, dtype)?;
        session::came_back();
        // SAFETY: the caller's promise; every byte is written.
        unsafe {
            dst.write_bytes(0, bytes);
            let dst = std::slice::from_raw_parts_mut(dst, bytes);
            accelerator(place)?.download_after(dst, held.ptr, self.number)?;
        }
        session::confirm(place, self.number)
    }
}

/// The memory in `place`, copied there if it is not there yet.
fn replica(buffer: &Buffer, place: Place, number: u64) -> Result<Buffer> {
    if let Some(there) = buffer.at(place) {
        return Ok(there);
    }
    let bytes = buffer.len();
    let here = match buffer.at(HOST) {
        Some(here) => here,
        None => {
            let here = backend().alloc(bytes)?;
            // SAFETY: fresh memory of that size; the buffer is live memory of its device.
            unsafe {
                here.ptr().write_bytes(0, bytes);
                let dst = std::slice::from_raw_parts_mut(here.ptr(), bytes);
                accelerator(buffer.place())?.download(dst, buffer.ptr())?;
            }
            session::came_back();
            session::confirm(buffer.place(), number)?;
            buffer.add_replica(here)
        }
    };
    if place == HOST {
        return Ok(here);
    }
    let device = accelerator(place)?;
    let there = device.alloc(bytes)?;
    // SAFETY: evaluated memory, which nobody writes; the new buffer has the same size.
    unsafe { upload(device, &there, &here) }?;
    Ok(buffer.add_replica(there))
}

/// # Safety
/// `to` is memory of `device`, as large as `from`, which is the host's and which nobody writes.
unsafe fn upload(device: &dyn Accelerator, to: &Buffer, from: &Buffer) -> Result<()> {
    // Bytes that were never written are copied like others: a block's padding may be such.
    // SAFETY: the caller's promise.
    unsafe { device.upload(to.ptr(), std::slice::from_raw_parts(from.ptr(), from.len())) }
}

/// Bytes that a constant takes: those of the largest dtype.
const CONSTANT: usize = 8;
/// Constants that a block holds.
const BLOCK: usize = 8192;
/// Constants that are remembered for a device.
const MOST: usize = 1 << 20;

#[derive(Default)]
struct Constants {
    places: HashMap<u64, (usize, usize)>,
    blocks: Vec<Buffer>,
    used: usize,
}

/// The address of a constant on a device, and the block that it is in. Each value is sent once.
fn constant(place: Place, bits: u64) -> Result<(*mut u8, Buffer)> {
    static ALL: Mutex<Option<HashMap<Place, Constants>>> = Mutex::new(None);
    let mut all = ALL.lock().unwrap_or_else(|e| e.into_inner());
    let own = all.get_or_insert_default().entry(place).or_default();
    let at = |own: &Constants, (block, i): (usize, usize)| {
        let block = own.blocks[block].clone();
        (block.ptr().wrapping_add(i * CONSTANT), block)
    };
    if let Some(&found) = own.places.get(&bits) {
        return Ok(at(own, found));
    }
    if own.places.len() >= MOST {
        // Jobs that use the old blocks are enqueued, or hold them.
        *own = Constants::default();
    }
    let device = accelerator(place)?;
    if own.blocks.is_empty() || own.used == BLOCK {
        own.blocks.push(device.alloc(BLOCK * CONSTANT)?);
        own.used = 0;
    }
    let found = (own.blocks.len() - 1, own.used);
    let (ptr, block) = at(own, found);
    // SAFETY: a part of the block that nothing reads yet.
    unsafe { device.upload(ptr, &bits.to_le_bytes()) }?;
    own.used += 1;
    own.places.insert(bits, found);
    Ok((ptr, block))
}

//! Bytes between host and device, counted.
//!
//! A copy from or to ordinary memory goes through a pair of pinned pieces: while one travels, the
//! other is filled or emptied. [`Pinned`] memory travels by itself, without waiting.

use crate::device::Device;
use crate::driver::cu;
use crate::stream::{Event, Stream};
use lazul_ir::OpError;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes of a pinned piece.
const PIECE: usize = 8 << 20;
/// Up to this many bytes the driver's own staging is quicker than ours.
const SMALL: usize = 64 << 10;

/// Counters of bytes moved, and the pinned pieces.
#[derive(Default)]
pub(crate) struct Moved {
    up: AtomicU64,
    down: AtomicU64,
    across: AtomicU64,
    staging: Mutex<Option<[Pinned; 2]>>,
}

/// Bytes that a device moved so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Traffic {
    /// From the host to the device.
    pub up: u64,
    /// From the device to the host.
    pub down: u64,
    /// From other devices.
    pub across: u64,
}

impl Device {
    /// Bytes moved so far.
    pub fn traffic(&self) -> Traffic {
        let get = |n: &AtomicU64| n.load(Ordering::Relaxed);
        Traffic {
            up: get(&self.moved.up),
            down: get(&self.moved.down),
            across: get(&self.moved.across),
        }
    }
}

/// Host memory that a device reads and writes directly.
pub struct Pinned {
    device: &'static Device,
    ptr: *mut u8,
    len: usize,
}

// SAFETY: plain memory with one owner.
unsafe impl Send for Pinned {}
// SAFETY: shared references only read.
unsafe impl Sync for Pinned {}

impl Pinned {
    /// `len` bytes, zero.
    ///
    /// # Errors
    /// Where the system does not pin that much.
    pub fn new(device: &'static Device, len: usize) -> Result<Pinned, OpError> {
        device.enter()?;
        let mut ptr = std::ptr::null_mut();
        cu!(cuMemHostAlloc(&mut ptr, len.max(1), 0))?;
        // SAFETY: fresh memory of that size.
        unsafe { ptr.cast::<u8>().write_bytes(0, len) };
        Ok(Pinned { device, ptr: ptr.cast(), len })
    }

    /// The bytes. Work that writes them must be done.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: `len` live bytes; writers need the exclusive reference.
        unsafe { std::slice::from_raw_parts(self.ptr, self.len) }
    }

    /// The bytes. Work that uses them must be done.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.ptr, self.len) }
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        if self.device.enter().is_ok() {
            let _ = cu!(cuMemFreeHost(self.ptr.cast()));
        }
    }
}

impl Stream {
    /// Copies `src` to the device at `dst`. The source may be changed at once after the call; the copy
    /// itself is enqueued.
    ///
    /// # Errors
    /// The driver's.
    ///
    /// # Safety
    /// `dst` must be device memory of that many bytes.
    pub unsafe fn upload(&self, dst: *mut u8, src: &[u8]) -> Result<(), OpError> {
        if src.is_empty() || self.device().is_compile_only() {
            return Ok(());
        }
        self.device().enter()?;
        let moved = &self.device().moved;
        if src.len() <= SMALL {
            cu!(cuMemcpyHtoDAsync_v2(dst as u64, src.as_ptr().cast(), src.len(), self.raw()?))?;
        } else {
            self.with_staging(|pieces| {
                let mut sent: [Option<Event>; 2] = [None, None];
                for (i, part) in src.chunks(PIECE).enumerate() {
                    let (piece, sent) = (&mut pieces[i % 2], &mut sent[i % 2]);
                    if let Some(event) = sent.take() {
                        event.wait()?;
                    }
                    piece.bytes_mut()[..part.len()].copy_from_slice(part);
                    let to = dst as u64 + (i * PIECE) as u64;
                    cu!(cuMemcpyHtoDAsync_v2(to, piece.ptr.cast(), part.len(), self.raw()?))?;
                    *sent = Some(self.record()?);
                }
                // The pieces go back only when they have been read.
                sent.into_iter().flatten().try_for_each(|event| event.wait())
            })?;
        }
        moved.up.fetch_add(src.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    /// Copies device memory at `src` to `dst`, after everything enqueued before, and waits for it.
    ///
    /// # Errors
    /// Those of [`Stream::wait`].
    ///
    /// # Safety
    /// `src` must be device memory of that many bytes.
    pub unsafe fn download(&self, dst: &mut [u8], src: *const u8) -> Result<(), OpError> {
        // SAFETY: the caller's promise.
        unsafe { self.read(dst, src) }?;
        self.wait()
    }

    /// Copies device memory at `src` to `dst`, after everything enqueued before, and waits for
    /// it. What jobs noted of indices out of bounds stays noted.
    ///
    /// # Errors
    /// The driver's, if the device failed.
    ///
    /// # Safety
    /// `src` must be device memory of that many bytes.
    pub unsafe fn read(&self, dst: &mut [u8], src: *const u8) -> Result<(), OpError> {
        if dst.is_empty() || self.device().is_compile_only() {
            return self.sync();
        }
        self.device().enter()?;
        let total = dst.len() as u64;
        if dst.len() <= SMALL {
            cu!(cuMemcpyDtoHAsync_v2(dst.as_mut_ptr().cast(), src as u64, dst.len(), self.raw()?))?;
            self.sync()?;
        } else {
            self.with_staging(|pieces| {
                let start = |i: usize, len: usize, piece: &Pinned| -> Result<Event, OpError> {
                    let from = src as u64 + (i * PIECE) as u64;
                    cu!(cuMemcpyDtoHAsync_v2(piece.ptr.cast(), from, len, self.raw()?))?;
                    self.record()
                };
                let len = dst.len();
                let size = |i: usize| PIECE.min(len - i * PIECE);
                let count = len.div_ceil(PIECE);
                let mut next = Some(start(0, size(0), &pieces[0])?);
                for (i, part) in dst.chunks_mut(PIECE).enumerate() {
                    let arrived = next.take();
                    if i + 1 < count {
                        next = Some(start(i + 1, size(i + 1), &pieces[(i + 1) % 2])?);
                    }
                    arrived.map_or(Ok(()), |event| event.wait())?;
                    part.copy_from_slice(&pieces[i % 2].bytes()[..part.len()]);
                }
                self.sync()
            })?;
        }
        self.device().moved.down.fetch_add(total, Ordering::Relaxed);
        Ok(())
    }

    /// As [`Stream::read`], of what evaluation `number` or one before it wrote: does not wait for what was
    /// enqueued since, if it is little.
    ///
    /// # Errors
    /// The driver's, if the device failed.
    ///
    /// # Safety
    /// As [`Stream::read`].
    pub unsafe fn read_after(
        &self,
        dst: &mut [u8],
        src: *const u8,
        number: u64,
    ) -> Result<(), OpError> {
        let device = self.device();
        if number == 0 || dst.is_empty() || dst.len() > SMALL || device.is_compile_only() {
            // SAFETY: the caller's promise.
            return unsafe { self.read(dst, src) };
        }
        device.enter()?;
        let copies = match device.copies.get() {
            Some(stream) => stream,
            None => {
                let stream = Stream::new(device)?;
                device.copies.get_or_init(|| stream)
            }
        };
        copies.follow(self, number)?;
        let raw = copies.raw()?;
        cu!(cuMemcpyDtoHAsync_v2(dst.as_mut_ptr().cast(), src as u64, dst.len(), raw))?;
        copies.sync()?;
        device.moved.down.fetch_add(dst.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    /// Enqueues a copy of pinned bytes to the device.
    ///
    /// # Errors
    /// The driver's.
    ///
    /// # Safety
    /// `dst` must be device memory of as many bytes, and `src` must not be changed or dropped before
    /// the copy is done.
    pub unsafe fn upload_pinned(&self, dst: *mut u8, src: &Pinned) -> Result<(), OpError> {
        self.device().enter()?;
        cu!(cuMemcpyHtoDAsync_v2(dst as u64, src.ptr.cast(), src.len, self.raw()?))?;
        self.device().moved.up.fetch_add(src.len as u64, Ordering::Relaxed);
        Ok(())
    }

    /// Enqueues a copy of device memory to pinned bytes.
    ///
    /// # Errors
    /// The driver's.
    ///
    /// # Safety
    /// `src` must be device memory of as many bytes, and `dst` must not be read or dropped before the
    /// copy is done.
    pub unsafe fn download_pinned(&self, dst: &mut Pinned, src: *const u8) -> Result<(), OpError> {
        self.device().enter()?;
        cu!(cuMemcpyDtoHAsync_v2(dst.ptr.cast(), src as u64, dst.len, self.raw()?))?;
        self.device().moved.down.fetch_add(dst.len as u64, Ordering::Relaxed);
        Ok(())
    }

    /// Enqueues a copy of `bytes` bytes from another device's memory at `src`.
    ///
    /// # Errors
    /// The driver's.
    ///
    /// # Safety
    /// `dst` must be memory of this stream's device and `src` of `from`, of that many bytes.
    pub unsafe fn copy_from(
        &self,
        dst: *mut u8,
        from: &Device,
        src: *const u8,
        bytes: usize,
    ) -> Result<(), OpError> {
        let (Some(here), Some(there)) = (self.device().raw, from.raw) else { return Ok(()) };
        self.device().enter()?;
        let (to, at) = (dst as u64, src as u64);
        cu!(cuMemcpyPeerAsync(to, here.context, at, there.context, bytes, self.raw()?))?;
        self.device().moved.across.fetch_add(bytes as u64, Ordering::Relaxed);
        Ok(())
    }

    fn with_staging(
        &self,
        f: impl FnOnce(&mut [Pinned; 2]) -> Result<(), OpError>,
    ) -> Result<(), OpError> {
        let device = self.device();
        let mut staging = device.moved.staging.lock().unwrap_or_else(|e| e.into_inner());
        if staging.is_none() {
            *staging = Some([Pinned::new(device, PIECE)?, Pinned::new(device, PIECE)?]);
        }
        match staging.as_mut() {
            Some(pieces) => f(pieces),
            None => Ok(()),
        }
    }
}

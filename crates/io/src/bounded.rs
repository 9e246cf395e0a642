//! The one bounded reader.
//!
//! Headers are read through [`Bounded`] and nothing else. A length that a file declares is compared
//! with the bytes that remain, and with the caller's own cap, before it sizes an allocation; every
//! offset is checked arithmetic; a failure names the byte where it happened.

use std::sync::Arc;

use lazul_core::ByteSource;

use crate::error::{Error, Result};
use crate::size::{to_u64, to_usize};

/// Bytes fetched at once for small reads.
const BLOCK: u64 = 16 << 10;

/// A cursor over a window of a source.
pub(crate) struct Bounded {
    source: Arc<dyn ByteSource>,
    position: u64,
    end: u64,
    block: Vec<u8>,
    block_start: u64,
}

impl Bounded {
    /// A cursor over the whole source.
    pub(crate) fn new(source: Arc<dyn ByteSource>) -> Result<Bounded> {
        let end = source
            .len()
            .map_err(|e| Error::from_io(e, "reading the length").in_file(source.describe()))?;
        Ok(Bounded { source, position: 0, end, block: Vec::new(), block_start: 0 })
    }

    /// Absolute position of the next byte.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// Absolute position after the last byte.
    pub(crate) fn end(&self) -> u64 {
        self.end
    }

    /// Bytes left.
    pub(crate) fn remaining(&self) -> u64 {
        self.end.saturating_sub(self.position)
    }

    /// Attaches position and file to an error about what was just read.
    pub(crate) fn locate(&self, error: Error) -> Error {
        error.at_byte(self.position).in_file(self.source.describe())
    }

    /// Moves to an absolute position inside the window.
    pub(crate) fn seek(&mut self, position: u64) -> Result<()> {
        if position > self.end {
            let e = Error::truncated(format!(
                "byte {position} is needed, and the file has {} bytes",
                self.end
            ));
            return Err(self.locate(e));
        }
        self.position = position;
        Ok(())
    }

    /// Skips `count` bytes.
    pub(crate) fn skip(&mut self, count: u64, what: &str) -> Result<()> {
        let next = self.claim(count, what)?;
        self.position = next;
        Ok(())
    }

    /// The position after `count` more bytes, if the file has them.
    fn claim(&self, count: u64, what: &str) -> Result<u64> {
        if count > self.remaining() {
            let e = Error::truncated(format!(
                "{what} needs {count} bytes and {} remain",
                self.remaining()
            ));
            return Err(self.locate(e));
        }
        self.position
            .checked_add(count)
            .ok_or_else(|| self.locate(Error::limit(format!("{what} ends past 2^64"))))
    }

    /// Reads `count` bytes that a header declared: at most `cap`, and only if they exist.
    pub(crate) fn bytes(&mut self, count: u64, cap: u64, what: &str) -> Result<Vec<u8>> {
        if count > cap {
            let e = Error::limit(format!("{what} is {count} bytes; the most is {cap}"));
            return Err(self.locate(e));
        }
        let next = self.claim(count, what)?;
        let mut buffer = Vec::new();
        let size = to_usize(count, what)?;
        buffer
            .try_reserve_exact(size)
            .map_err(|_| self.locate(Error::limit(format!("no memory for {what}"))))?;
        match self.cached(size) {
            Some(bytes) => buffer.extend_from_slice(bytes),
            None => {
                buffer.resize(size, 0);
                self.fetch(&mut buffer, self.position)?;
            }
        }
        self.position = next;
        Ok(buffer)
    }

    /// Reads a fixed number of bytes.
    pub(crate) fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N]> {
        let count = to_u64(N);
        let next = self.claim(count, what)?;
        let out = match self.cached(N).and_then(|bytes| bytes.first_chunk::<N>()) {
            Some(chunk) => *chunk,
            None => {
                let size = to_usize(self.remaining().min(BLOCK.max(count)), what)?;
                let mut block = vec![0; size];
                self.fetch(&mut block, self.position)?;
                self.block = block;
                self.block_start = self.position;
                match self.block.first_chunk::<N>() {
                    Some(chunk) => *chunk,
                    None => return Err(self.locate(Error::truncated(what))),
                }
            }
        };
        self.position = next;
        Ok(out)
    }

    /// The next bytes, if they were fetched with earlier ones.
    fn cached(&self, count: usize) -> Option<&[u8]> {
        let start = self.position.checked_sub(self.block_start)?;
        self.block.get(usize::try_from(start).ok()?..)?.get(..count)
    }

    /// A little-endian u16.
    pub(crate) fn u16(&mut self, what: &str) -> Result<u16> {
        self.array(what).map(u16::from_le_bytes)
    }

    /// A little-endian u32.
    pub(crate) fn u32(&mut self, what: &str) -> Result<u32> {
        self.array(what).map(u32::from_le_bytes)
    }

    /// A little-endian u64.
    pub(crate) fn u64(&mut self, what: &str) -> Result<u64> {
        self.array(what).map(u64::from_le_bytes)
    }

    fn fetch(&self, buffer: &mut [u8], offset: u64) -> Result<()> {
        self.source
            .read_exact_at(buffer, offset)
            .map_err(|e| self.locate(Error::from_io(e, "reading")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;
    use crate::source::MemorySource;

    fn over(bytes: &[u8]) -> Bounded {
        Bounded::new(Arc::new(MemorySource::new(bytes.to_vec()))).unwrap()
    }

    #[test]
    fn a_declared_length_allocates_nothing_before_it_is_checked() {
        let mut cursor = over(&[0; 10]);
        assert_eq!(cursor.bytes(u64::MAX, u64::MAX, "x").unwrap_err().kind(), ErrorKind::Truncated);
        assert_eq!(cursor.bytes(10, 9, "x").unwrap_err().kind(), ErrorKind::Limit);
        assert_eq!(cursor.bytes(10, 10, "x").unwrap().len(), 10);
        assert_eq!(cursor.array::<1>("x").unwrap_err().byte(), Some(10));
    }

    #[test]
    fn small_reads_cross_blocks() {
        let bytes: Vec<u8> = (0..40_000u32).flat_map(u32::to_le_bytes).collect();
        let mut cursor = over(&bytes);
        cursor.skip(1, "x").unwrap();
        cursor.seek(0).unwrap();
        for expected in 0..40_000u32 {
            assert_eq!(cursor.u32("x").unwrap(), expected);
        }
        assert_eq!(cursor.remaining(), 0);
        cursor.seek(4).unwrap();
        assert_eq!(cursor.u64("x").unwrap(), (2 << 32) | 1);
    }
}

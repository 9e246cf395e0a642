//! Writing archives.

use std::io::Write;

use flate2::Compression;
use flate2::write::DeflateEncoder;

use super::{CENTRAL, END, END64, FLAG_UTF8, LOCAL, LOCATOR64, Method};
use crate::atomic::AtomicFile;
use crate::error::{Error, ErrorKind, Result};
use crate::size::to_u64;

/// Writes an archive, member after member, with sizes and checksums in both headers.
pub(crate) struct Writer {
    file: AtomicFile,
    position: u64,
    directory: Vec<u8>,
    count: u64,
}

impl Writer {
    pub(crate) fn new(file: AtomicFile) -> Writer {
        Writer { file, position: 0, directory: Vec::new(), count: 0 }
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.position = self.position.saturating_add(to_u64(bytes.len()));
        self.file.write(bytes)
    }

    /// Adds a member whose content is the concatenation of `parts`.
    pub(crate) fn add(&mut self, name: &str, parts: &[&[u8]], method: Method) -> Result<()> {
        let name_length = u16::try_from(name.len())
            .map_err(|_| Error::new(ErrorKind::Argument, "the name is too long"))?;
        let mut hasher = crc32fast::Hasher::new();
        parts.iter().for_each(|part| hasher.update(part));
        let crc = hasher.finalize();
        let size = parts.iter().fold(0u64, |sum, part| sum.saturating_add(to_u64(part.len())));
        let deflated = match method {
            Method::Stored => None,
            Method::Deflated => {
                let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
                let run = parts.iter().try_for_each(|part| encoder.write_all(part));
                let done = run.and_then(|()| encoder.finish());
                Some(done.map_err(|e| Error::from_io(e, "compressing"))?)
            }
        };
        let packed = deflated.as_ref().map_or(size, |bytes| to_u64(bytes.len()));
        let offset = self.position;
        let code: u16 = if deflated.is_some() { 8 } else { 0 };
        let flags = if name.is_ascii() { 0 } else { FLAG_UTF8 };

        // 32-bit fields that overflow are saturated and repeated in the zip64 field.
        let narrow = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
        let long = size.max(packed) >= u64::from(u32::MAX);
        let far = offset >= u64::from(u32::MAX);
        let mut wide = Vec::new();
        if long {
            wide.extend(size.to_le_bytes());
            wide.extend(packed.to_le_bytes());
        }
        let field = |content: &[u8]| -> Vec<u8> {
            let length = u16::try_from(content.len()).unwrap_or(0);
            match length {
                0 => Vec::new(),
                _ => [&1u16.to_le_bytes()[..], &length.to_le_bytes(), content].concat(),
            }
        };
        let local_extra = field(&wide);
        if far {
            wide.extend(offset.to_le_bytes());
        }
        let central_extra = field(&wide);
        let (short_size, short_packed) =
            if long { (u32::MAX, u32::MAX) } else { (narrow(size), narrow(packed)) };
        let version: u16 = if long || far { 45 } else { 20 };
        let common = |extra: &[u8]| -> Vec<u8> {
            let mut out = Vec::new();
            for short in [version, flags, code, 0, DOS_DATE] {
                out.extend(short.to_le_bytes());
            }
            for word in [crc, short_packed, short_size] {
                out.extend(word.to_le_bytes());
            }
            out.extend(name_length.to_le_bytes());
            out.extend(u16::try_from(extra.len()).unwrap_or(0).to_le_bytes());
            out
        };

        self.put(&LOCAL.to_le_bytes())?;
        self.put(&common(&local_extra))?;
        self.put(name.as_bytes())?;
        self.put(&local_extra)?;
        match &deflated {
            Some(bytes) => self.put(bytes)?,
            None => parts.iter().try_for_each(|part| self.put(part))?,
        }

        self.directory.extend(CENTRAL.to_le_bytes());
        // Made by Unix, so that the mode below means something.
        self.directory.extend(((3u16 << 8) | version).to_le_bytes());
        self.directory.extend(common(&central_extra));
        self.directory.extend([0; 6]);
        self.directory.extend((0o100_644u32 << 16).to_le_bytes());
        self.directory.extend(narrow(offset).to_le_bytes());
        self.directory.extend(name.as_bytes());
        self.directory.extend(central_extra);
        self.count = self.count.saturating_add(1);
        Ok(())
    }

    /// Writes the directory and puts the archive in its place.
    pub(crate) fn finish(mut self) -> Result<()> {
        let start = self.position;
        let directory = std::mem::take(&mut self.directory);
        let size = to_u64(directory.len());
        self.put(&directory)?;
        let short_count = u16::try_from(self.count).unwrap_or(u16::MAX);
        let narrow = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
        if short_count == u16::MAX || start.max(size) >= u64::from(u32::MAX) {
            let at = self.position;
            let mut out = END64.to_le_bytes().to_vec();
            out.extend(44u64.to_le_bytes());
            out.extend([45, 3, 45, 0]);
            out.extend([0; 8]);
            for number in [self.count, self.count, size, start] {
                out.extend(number.to_le_bytes());
            }
            out.extend(LOCATOR64.to_le_bytes());
            out.extend(0u32.to_le_bytes());
            out.extend(at.to_le_bytes());
            out.extend(1u32.to_le_bytes());
            self.put(&out)?;
        }
        let mut out = END.to_le_bytes().to_vec();
        out.extend([0; 4]);
        out.extend(short_count.to_le_bytes());
        out.extend(short_count.to_le_bytes());
        out.extend(narrow(size).to_le_bytes());
        out.extend(narrow(start).to_le_bytes());
        out.extend([0; 2]);
        self.put(&out)?;
        self.file.finish()
    }
}

/// The first of January 1980: archives of the same arrays are the same bytes.
const DOS_DATE: u16 = (1 << 5) | 1;

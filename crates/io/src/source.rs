//! Where tensor bytes come from: files, memory, and views of either.
//!
//! A [`FileSource`] is opened once and remembers the length and the modification time it saw. Each
//! read checks both again, so a file that is truncated or rewritten after it was opened gives an
//! error when an array of it is evaluated, never garbage and never SIGBUS.

use std::fs::{File, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use lazul_core::ByteSource;

use crate::error::{Error, ErrorKind, Result};
use crate::root::open_regular;
use crate::size::to_u64;

/// A regular file, opened once, checked at every read.
///
/// ```
/// use lazul_core::prelude::*;
/// use lazul_io::FileSource;
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("weights.bin");
/// std::fs::write(&path, [0, 0, 0, 0, 5, 6, 7, 8])?;
/// let source = std::sync::Arc::new(FileSource::open(&path)?);
/// let w = Array::from_source(source, 4, [2, 2], DType::U8); // nothing is read yet
/// assert_eq!(w.to_vec::<u8>()?, [5, 6, 7, 8]);
/// # Ok(()) }
/// ```
pub struct FileSource {
    file: File,
    path: PathBuf,
    seen: Stamp,
}

/// What must stay the same about an open file.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    len: u64,
    modified: Option<SystemTime>,
}

impl Stamp {
    fn of(metadata: &Metadata) -> Stamp {
        Stamp { len: metadata.len(), modified: metadata.modified().ok() }
    }
}

impl FileSource {
    /// Opens a path that the user chose: links are followed, but only a regular file is opened.
    ///
    /// ```
    /// use lazul_core::ByteSource;
    /// use lazul_io::FileSource;
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("data");
    /// std::fs::write(&path, "hello")?;
    /// let source = FileSource::open(&path)?;
    /// let mut two = [0; 2];
    /// source.read_exact_at(&mut two, 1)?;
    /// assert_eq!((source.len()?, &two), (5, b"el"));
    /// std::fs::write(&path, "another text")?;
    /// assert!(source.read_exact_at(&mut two, 1).is_err()); // it has changed
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is none; [`ErrorKind::Outside`] if it is a folder, a device
    /// or a FIFO; [`ErrorKind::Io`] if it may not be read.
    pub fn open(path: impl AsRef<Path>) -> Result<FileSource> {
        let path = path.as_ref();
        let file = open_regular(path)?;
        FileSource::from_file(file, path)
    }

    /// Takes a file that is already open; `path` is only for messages.
    ///
    /// ```
    /// use lazul_core::ByteSource;
    /// use lazul_io::FileSource;
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("data");
    /// std::fs::write(&path, "hello")?;
    /// let source = FileSource::from_file(std::fs::File::open(&path)?, "the data")?;
    /// assert_eq!((source.len()?, source.describe()), (5, "the data".into()));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Io`] if the system does not tell its length.
    pub fn from_file(file: File, path: impl Into<PathBuf>) -> Result<FileSource> {
        let path = path.into();
        let metadata = file
            .metadata()
            .map_err(|e| Error::from_io(e, "reading its metadata").in_file(path.display()))?;
        Ok(FileSource { seen: Stamp::of(&metadata), file, path })
    }

    /// The path it was opened by, as it was given.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("data");
    /// std::fs::write(&path, "hello")?;
    /// assert_eq!(lazul_io::FileSource::open(&path)?.path(), path);
    /// # Ok(()) }
    /// ```
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn check(&self) -> Result<()> {
        let metadata = self.file.metadata().map_err(|e| Error::from_io(e, "reading"))?;
        let now = Stamp::of(&metadata);
        if now == self.seen {
            return Ok(());
        }
        let what = match now.len == self.seen.len {
            true => "the file was modified after it was opened".to_owned(),
            false => format!(
                "the file had {} bytes when it was opened and has {} now",
                self.seen.len, now.len
            ),
        };
        Err(Error::new(ErrorKind::Changed, what))
    }

    fn read(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        self.check()?;
        let end = offset.checked_add(to_u64(buf.len()));
        if end.is_none_or(|end| end > self.seen.len) {
            return Err(Error::truncated(format!(
                "{} bytes at {offset} are past the end ({} bytes)",
                buf.len(),
                self.seen.len
            )));
        }
        read_at(&self.file, buf, offset)
            .map_err(|e| Error::from_io(e, "reading").at_byte(offset))?;
        // Again: a writer that came between would have given a mixture of old and new bytes.
        self.check()
    }
}

impl ByteSource for FileSource {
    fn len(&self) -> io::Result<u64> {
        Ok(self.seen.len)
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.read(buf, offset).map_err(|e| e.in_file(self.path.display()).into())
    }

    fn describe(&self) -> String {
        self.path.display().to_string()
    }
}

impl std::fmt::Debug for FileSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FileSource").field("path", &self.path).field("len", &self.seen.len).finish()
    }
}

#[cfg(unix)]
fn read_at(file: &File, buf: &mut [u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, buf, offset)
}

#[cfg(windows)]
fn read_at(file: &File, mut buf: &mut [u8], mut offset: u64) -> io::Result<()> {
    use std::os::windows::fs::FileExt;
    while !buf.is_empty() {
        match file.seek_read(buf, offset) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => {
                buf = &mut buf[n..];
                offset += n as u64;
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

#[cfg(not(any(unix, windows)))]
fn read_at(mut file: &File, buf: &mut [u8], offset: u64) -> io::Result<()> {
    use std::io::{Read, Seek, SeekFrom};
    // No positional read here: the file's one cursor is shared, so readers take turns.
    static CURSOR: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let _turn = CURSOR.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    file.seek(SeekFrom::Start(offset))?;
    file.read_exact(buf)
}

/// Bytes in memory as a source: the same readers, the same verdicts.
#[derive(Debug)]
pub struct MemorySource {
    bytes: Vec<u8>,
}

impl MemorySource {
    /// Takes the bytes. Arrays that read from it copy theirs when they are evaluated.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let source = std::sync::Arc::new(lazul_io::MemorySource::new(vec![9, 1, 0, 2, 0]));
    /// let x = Array::from_source(source, 1, [2], DType::I16); // after the first byte
    /// assert_eq!(x.to_vec::<i16>()?, [1, 2]);
    /// # Ok(()) }
    /// ```
    pub fn new(bytes: impl Into<Vec<u8>>) -> MemorySource {
        MemorySource { bytes: bytes.into() }
    }
}

impl ByteSource for MemorySource {
    fn len(&self) -> io::Result<u64> {
        Ok(to_u64(self.bytes.len()))
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let start = usize::try_from(offset).ok();
        let from = start.and_then(|start| self.bytes.get(start..));
        match from.and_then(|bytes| bytes.get(..buf.len())) {
            Some(bytes) => {
                buf.copy_from_slice(bytes);
                Ok(())
            }
            None => Err(Error::truncated("read past the end").at_byte(offset).into()),
        }
    }

    fn describe(&self) -> String {
        "<memory>".to_owned()
    }
}

/// How a [`MappedSource`] changes bytes on their way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mapping {
    /// Reverse every group of this many bytes: big-endian data.
    Swap(u8),
    /// Any non-zero byte becomes 1: what NumPy means by a boolean.
    Truth,
}

/// A window of a source whose bytes are changed as they are read.
pub(crate) struct MappedSource {
    inner: Arc<dyn ByteSource>,
    start: u64,
    len: u64,
    mapping: Mapping,
}

impl MappedSource {
    /// The caller has checked that the window lies inside `inner`.
    pub(crate) fn new(inner: Arc<dyn ByteSource>, start: u64, len: u64, mapping: Mapping) -> Self {
        MappedSource { inner, start, len, mapping }
    }

    fn read(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        let past = || Error::truncated("read past the end of the data").at_byte(offset);
        let end = offset.checked_add(to_u64(buf.len())).filter(|&end| end <= self.len);
        let end = end.ok_or_else(past)?;
        let absolute = |offset: u64| self.start.checked_add(offset).ok_or_else(past);
        let fetch = |buf: &mut [u8], at: u64| {
            self.inner.read_exact_at(buf, at).map_err(|e| Error::from_io(e, "reading"))
        };
        match self.mapping {
            Mapping::Truth => {
                fetch(buf, absolute(offset)?)?;
                buf.iter_mut().for_each(|byte| *byte = u8::from(*byte != 0));
            }
            Mapping::Swap(group) => {
                let size = u64::from(group).max(1);
                let group = usize::from(group).max(1);
                if offset.is_multiple_of(size) && end.is_multiple_of(size) {
                    fetch(buf, absolute(offset)?)?;
                    buf.chunks_exact_mut(group).for_each(<[u8]>::reverse);
                    return Ok(());
                }
                // A read that cuts a number is widened to whole numbers first. Evaluators read
                // whole elements, so this happens only at complex halves and in tests.
                let first = offset.saturating_sub(offset.checked_rem(size).unwrap_or(0));
                let last = end.checked_next_multiple_of(size).map_or(self.len, |e| e.min(self.len));
                let wide = last.checked_sub(first).and_then(|n| usize::try_from(n).ok());
                let mut whole = vec![0; wide.ok_or_else(past)?];
                fetch(&mut whole, absolute(first)?)?;
                whole.chunks_exact_mut(group).for_each(<[u8]>::reverse);
                let skip = offset.checked_sub(first).and_then(|n| usize::try_from(n).ok());
                let part = skip.and_then(|skip| whole.get(skip..)?.get(..buf.len()));
                buf.copy_from_slice(part.ok_or_else(past)?);
            }
        }
        Ok(())
    }
}

impl ByteSource for MappedSource {
    fn len(&self) -> io::Result<u64> {
        Ok(self.len)
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.read(buf, offset).map_err(|e| e.in_file(self.inner.describe()).into())
    }

    fn describe(&self) -> String {
        self.inner.describe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn kind(result: io::Result<()>) -> ErrorKind {
        Error::from_io(result.unwrap_err(), "test").kind()
    }

    #[test]
    fn a_file_that_shrinks_is_an_error_at_the_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w");
        fs::write(&path, [7; 100]).unwrap();
        let source = FileSource::open(&path).unwrap();
        let mut buf = [0; 10];
        source.read_exact_at(&mut buf, 90).unwrap();
        assert_eq!(buf, [7; 10]);
        assert_eq!(kind(source.read_exact_at(&mut buf, 91)), ErrorKind::Truncated);
        assert_eq!(kind(source.read_exact_at(&mut buf, u64::MAX)), ErrorKind::Truncated);
        fs::write(&path, [7; 50]).unwrap();
        assert_eq!(kind(source.read_exact_at(&mut buf, 0)), ErrorKind::Changed);
    }

    #[test]
    fn a_file_rewritten_in_place_is_an_error_at_the_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w");
        fs::write(&path, [7; 100]).unwrap();
        let source = FileSource::open(&path).unwrap();
        let later = SystemTime::now() + std::time::Duration::from_secs(5);
        File::options().write(true).open(&path).unwrap().set_modified(later).unwrap();
        assert_eq!(kind(source.read_exact_at(&mut [0; 4], 0)), ErrorKind::Changed);
    }

    #[test]
    fn swapped_reads_at_any_offset() {
        let bytes: Vec<u8> = (0..18).collect();
        let inner = Arc::new(MemorySource::new(bytes));
        let source = MappedSource::new(inner, 2, 16, Mapping::Swap(4));
        let mut all = [0; 16];
        source.read_exact_at(&mut all, 0).unwrap();
        assert_eq!(all[..8], [5, 4, 3, 2, 9, 8, 7, 6]);
        for start in 0..16 {
            for end in start..=16 {
                let mut part = vec![0; end - start];
                source.read_exact_at(&mut part, start as u64).unwrap();
                assert_eq!(part, all[start..end]);
            }
        }
        assert_eq!(kind(source.read_exact_at(&mut [0; 2], 15)), ErrorKind::Truncated);
    }
}

//! Where the bytes of an array that lies in a file come from.

/// Bytes that can be read at any position, as often as asked: a file, or a block of memory.
///
/// Implementations notice if the source changed since it was opened and answer with an error.
pub trait ByteSource: Send + Sync {
    /// Fills `buf` from `offset`.
    ///
    /// # Errors
    /// If fewer bytes are there, if reading fails, or if the source changed since it was opened.
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> std::io::Result<()>;

    /// Number of bytes.
    ///
    /// # Errors
    /// If the source cannot be asked.
    fn len(&self) -> std::io::Result<u64>;

    /// Whether there are no bytes.
    ///
    /// # Errors
    /// As [`ByteSource::len`].
    fn is_empty(&self) -> std::io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// A name for messages: the file's path.
    fn describe(&self) -> String;
}

/// Bytes in memory that live as long as the program, such as a model embedded in the binary.
impl ByteSource for &'static [u8] {
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> std::io::Result<()> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        match start.checked_add(buf.len()).and_then(|end| self.get(start..end)) {
            Some(bytes) => {
                buf.copy_from_slice(bytes);
                Ok(())
            }
            None => Err(std::io::ErrorKind::UnexpectedEof.into()),
        }
    }

    fn len(&self) -> std::io::Result<u64> {
        Ok((**self).len() as u64)
    }

    fn describe(&self) -> String {
        "embedded data".to_string()
    }
}

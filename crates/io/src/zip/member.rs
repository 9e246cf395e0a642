//! The content of a member as a source: read where it lies, or inflated, but never unverified.

use std::io::{self, Read};
use std::sync::{Arc, Mutex, PoisonError};

use flate2::read::DeflateDecoder;
use lazul_core::ByteSource;

use super::{Member, about};
use crate::error::{Error, ErrorKind, Result};
use crate::size::{to_u64, to_usize};

/// The part of a member that is handed out unverified, to read a header.
const PREFIX: u64 = 64 << 10;

/// A stored member: a window of the archive, whose checksum is verified once.
pub(super) struct Stored {
    pub(super) archive: Arc<dyn ByteSource>,
    pub(super) member: Member,
    pub(super) checked: Mutex<Option<Result<()>>>,
}

impl Stored {
    fn verify(&self) -> Result<()> {
        // Readers wait for the first one: data is handed out only after the verdict.
        let mut checked = self.checked.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(verdict) = &*checked {
            return verdict.clone();
        }
        let verdict = self.checksum();
        *checked = Some(verdict.clone());
        verdict
    }

    fn checksum(&self) -> Result<()> {
        let mut hasher = crc32fast::Hasher::new();
        let mut reader = Window::new(&*self.archive, &self.member);
        let mut block = vec![0; 256 << 10];
        loop {
            let count = reader.read(&mut block).map_err(|e| Error::from_io(e, "reading"))?;
            match block.get(..count) {
                Some(part) if count > 0 => hasher.update(part),
                _ => break,
            }
        }
        check_crc(hasher.finalize(), &self.member)
    }

    fn read(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        let end = offset.checked_add(to_u64(buf.len())).filter(|&end| end <= self.member.size);
        let start = self.member.data.checked_add(offset);
        let (Some(_), Some(start)) = (end, start) else { return Err(past(&self.member)) };
        // A header is judged by its own rules; what matters is that no *data* is unverified, and
        // a header that was damaged shows at the first read beyond it.
        if offset > 0 || to_u64(buf.len()) > PREFIX {
            self.verify()?;
        }
        self.archive.read_exact_at(buf, start).map_err(|e| Error::from_io(e, "reading"))
    }
}

/// A deflated member, inflated when it is read.
pub(super) struct Deflated {
    pub(super) archive: Arc<dyn ByteSource>,
    pub(super) member: Member,
    pub(super) state: Mutex<Inflated>,
}

#[derive(Default)]
pub(super) struct Inflated {
    /// The first bytes, for headers; unverified.
    prefix: Option<Vec<u8>>,
    /// Everything, verified; dropped once everything has been handed out.
    whole: Option<Vec<u8>>,
    served: u64,
}

impl Deflated {
    fn read(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        let count = to_u64(buf.len());
        let end = offset.checked_add(count).filter(|&end| end <= self.member.size);
        let end = end.ok_or_else(|| past(&self.member))?;
        let start = to_usize(offset, "the offset")?;
        let copy = |from: &[u8], buf: &mut [u8]| -> Result<()> {
            let part = from.get(start..).and_then(|from| from.get(..buf.len()));
            buf.copy_from_slice(part.ok_or_else(|| past(&self.member))?);
            Ok(())
        };
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if offset == 0 && end <= PREFIX && state.whole.is_none() {
            if state.prefix.is_none() {
                state.prefix = Some(self.inflate(PREFIX)?);
            }
            return copy(state.prefix.as_deref().unwrap_or_default(), buf);
        }
        if state.whole.is_none() {
            state.whole = Some(self.inflate_whole()?);
            state.prefix = None;
            state.served = 0;
        }
        copy(state.whole.as_deref().unwrap_or_default(), buf)?;
        state.served = state.served.saturating_add(count);
        if end == self.member.size || state.served >= self.member.size {
            state.whole = None;
        }
        Ok(())
    }

    /// Inflates at most `limit` bytes, growing as they come: the declared size allocates nothing.
    fn inflate(&self, limit: u64) -> Result<Vec<u8>> {
        let mut decoder = DeflateDecoder::new(Window::new(&*self.archive, &self.member));
        let mut out = Vec::new();
        self.pull(&mut decoder, &mut out, limit.min(self.member.size))?;
        Ok(out)
    }

    fn inflate_whole(&self) -> Result<Vec<u8>> {
        let mut decoder = DeflateDecoder::new(Window::new(&*self.archive, &self.member));
        let mut out = Vec::new();
        self.pull(&mut decoder, &mut out, self.member.size)?;
        let mut more = [0; 1];
        let rest = decoder.read(&mut more).map_err(|e| self.damaged(e))?;
        let unused = decoder.total_in() != self.member.packed;
        if rest > 0 || unused || to_u64(out.len()) != self.member.size {
            let e = Error::new(ErrorKind::Corrupt, "its data does not have the declared size");
            return Err(about(&self.member.name, e));
        }
        check_crc(crc32fast::hash(&out), &self.member)?;
        Ok(out)
    }

    fn pull(&self, decoder: &mut impl Read, out: &mut Vec<u8>, limit: u64) -> Result<()> {
        let limit = to_usize(limit, "the member")?;
        while out.len() < limit {
            let filled = out.len();
            let step = limit.saturating_sub(filled).min(filled.clamp(64 << 10, 16 << 20));
            out.try_reserve(step).map_err(|_| {
                about(&self.member.name, Error::limit("there is no memory to inflate it"))
            })?;
            out.resize(filled.saturating_add(step), 0);
            let free = out.get_mut(filled..).unwrap_or_default();
            let count = decoder.read(free).map_err(|e| self.damaged(e))?;
            out.truncate(filled.saturating_add(count));
            if count == 0 {
                break;
            }
        }
        Ok(())
    }

    fn damaged(&self, error: io::Error) -> Error {
        match error.get_ref().is_some_and(|inner| inner.is::<Error>()) {
            true => Error::from_io(error, "reading"),
            false => {
                let e =
                    Error::new(ErrorKind::Corrupt, format!("its data does not inflate: {error}"));
                about(&self.member.name, e)
            }
        }
    }
}

fn past(member: &Member) -> Error {
    about(&member.name, Error::truncated("it ends before what is read"))
}

fn check_crc(found: u32, member: &Member) -> Result<()> {
    match found == member.crc {
        true => Ok(()),
        false => {
            let e = Error::new(ErrorKind::Corrupt, "its checksum does not match its data");
            Err(about(&member.name, e))
        }
    }
}

macro_rules! member_source {
    ($($name:ident),*) => { $(
        impl ByteSource for $name {
            fn len(&self) -> io::Result<u64> {
                Ok(self.member.size)
            }

            fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
                self.read(buf, offset).map_err(|e| e.in_file(self.archive.describe()).into())
            }

            fn describe(&self) -> String {
                format!("{} in {}", self.member.name, self.archive.describe())
            }
        }
    )* };
}

member_source!(Stored, Deflated);

/// A member's packed bytes as a stream.
struct Window<'a> {
    source: &'a dyn ByteSource,
    position: u64,
    left: u64,
}

impl<'a> Window<'a> {
    fn new(source: &'a dyn ByteSource, member: &Member) -> Window<'a> {
        Window { source, position: member.data, left: member.packed }
    }
}

impl Read for Window<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let count = usize::try_from(self.left).unwrap_or(usize::MAX).min(buf.len());
        let Some(part) = buf.get_mut(..count) else { return Ok(0) };
        self.source.read_exact_at(part, self.position)?;
        self.position = self.position.saturating_add(to_u64(count));
        self.left = self.left.saturating_sub(to_u64(count));
        Ok(count)
    }
}

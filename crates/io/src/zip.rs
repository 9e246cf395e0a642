//! A strict ZIP reader and a plain writer, for npz.
//!
//! ZIP says everything twice (a directory at the end and a header before each member) and lets
//! readers choose whom to believe, so two readers can see two different archives. This reader
//! accepts only archives on which every reader agrees: one end record, a directory that ends where
//! the end record begins, members that do not overlap and whose two headers say the same. Names are
//! plain relative UTF-8 and occur once. Members are stored or deflated, not encrypted, not links.
//!
//! Sizes are judged before anything is allocated. DEFLATE cannot expand more than 1032 times, so a
//! member that claims more is refused unread; and all deflated members together may inflate to at
//! most 1 GiB, or 200 times the archive where that is more.
//!
//! A member is a [`ByteSource`]: a stored one reads from the archive's file where it lies, a
//! deflated one is inflated when its data is first read. Both verify the checksum before the first
//! data is handed out.

mod member;
mod write;

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use lazul_core::ByteSource;

use self::member::{Deflated, Inflated, Stored};
pub(crate) use self::write::Writer;
use crate::bounded::Bounded;
use crate::error::{Error, ErrorKind, Result};
use crate::root::check_name;
use crate::size::{to_u64, to_usize};

const LOCAL: u32 = 0x0403_4b50;
const CENTRAL: u32 = 0x0201_4b50;
const END: u32 = 0x0605_4b50;
const END64: u32 = 0x0606_4b50;
const LOCATOR64: u32 = 0x0706_4b50;
const DESCRIPTOR: u32 = 0x0807_4b50;

/// Size of the end record without its comment.
const END_SIZE: u64 = 22;
/// Most members of an archive.
const MAX_MEMBERS: u64 = 100_000;
/// Largest directory.
const MAX_DIRECTORY: u64 = 64 << 20;
/// DEFLATE's best ratio: 258 bytes from two bits.
const MAX_RATIO: u64 = 1032;
/// What deflated members may inflate to in an archive of any size.
const FREE_INFLATION: u64 = 1 << 30;
/// What they may inflate to per byte of the archive.
const INFLATION_PER_BYTE: u64 = 200;

/// Flags that change nothing for us: compression level, a descriptor after the data, UTF-8 names.
const HARMLESS_FLAGS: u16 = 0b0000_1000_0000_1110;
const FLAG_DESCRIPTOR: u16 = 1 << 3;
const FLAG_UTF8: u16 = 1 << 11;

/// How a member's bytes are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    Stored,
    Deflated,
}

/// One file of an archive.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) name: String,
    method: Method,
    flags: u16,
    crc: u32,
    packed: u64,
    size: u64,
    header: u64,
    data: u64,
}

/// An archive whose directory and headers agree.
pub(crate) struct Archive {
    source: Arc<dyn ByteSource>,
    members: Vec<Member>,
}

impl Archive {
    pub(crate) fn open(source: Arc<dyn ByteSource>) -> Result<Archive> {
        let members = Directory::read(source.clone()).map_err(|e| e.in_file(source.describe()))?;
        Ok(Archive { source, members })
    }

    pub(crate) fn members(&self) -> &[Member] {
        &self.members
    }

    /// A member's content.
    pub(crate) fn source(&self, member: &Member) -> Arc<dyn ByteSource> {
        let archive = self.source.clone();
        let member = member.clone();
        match member.method {
            Method::Stored => Arc::new(Stored { archive, member, checked: Mutex::new(None) }),
            Method::Deflated => {
                Arc::new(Deflated { archive, member, state: Mutex::new(Inflated::default()) })
            }
        }
    }
}

/// The central directory, found and measured.
struct Directory {
    cursor: Bounded,
    count: u64,
    start: u64,
    end: u64,
}

impl Directory {
    fn read(source: Arc<dyn ByteSource>) -> Result<Vec<Member>> {
        let mut directory = Directory::find(source)?;
        let mut members = directory.members()?;
        let mut extents = Vec::with_capacity(members.len());
        for member in &mut members {
            let end = directory
                .judge_local(member)
                .map_err(|e| about(&member.name, e).at_byte(member.header))?;
            extents.push((member.header, end, member.name.as_str()));
        }
        extents.sort_unstable();
        let mut reached = 0;
        for (start, end, name) in extents {
            if start < reached || end > directory.start {
                let e = Error::malformed("its bytes overlap those of another part");
                return Err(about(name, e).at_byte(start));
            }
            reached = end;
        }
        Ok(members)
    }

    /// Finds the one end record, and its zip64 companion, and checks that the directory lies
    /// exactly before them.
    fn find(source: Arc<dyn ByteSource>) -> Result<Directory> {
        let mut cursor = Bounded::new(source)?;
        let file = cursor.end();
        let tail_size = file.min(END_SIZE.saturating_add(u64::from(u16::MAX)));
        let tail_start = file.saturating_sub(tail_size);
        cursor.seek(tail_start)?;
        let tail = cursor.bytes(tail_size, u64::MAX, "the end of the archive")?;
        let signature = END.to_le_bytes();
        let mut ends = tail
            .windows(4)
            .enumerate()
            .rev()
            .filter(|(_, window)| *window == signature)
            .map(|(at, _)| tail_start.saturating_add(to_u64(at)));
        let Some(at) = ends.next() else {
            return Err(Error::malformed("this is not a ZIP archive: it has no end record"));
        };
        // Another record that also fits would be another archive to another reader.
        let comment_of = |at: u64| -> Option<u64> {
            let at = usize::try_from(at.checked_sub(tail_start)?).ok()?;
            let length = tail.get(at.checked_add(20)?..)?.first_chunk::<2>()?;
            Some(u64::from(u16::from_le_bytes(*length)))
        };
        let fits = |at: u64| {
            let end = at.checked_add(END_SIZE).and_then(|end| end.checked_add(comment_of(at)?));
            end == Some(file)
        };
        if !fits(at) {
            return Err(Error::malformed("the end record does not end the file").at_byte(at));
        }
        if ends.any(fits) {
            return Err(Error::malformed("the archive has two end records").at_byte(at));
        }

        cursor.seek(at)?;
        cursor.u32("the end record")?;
        let disk = cursor.u16("the end record")?;
        let first_disk = cursor.u16("the end record")?;
        let count_here = cursor.u16("the end record")?;
        let count = cursor.u16("the end record")?;
        let size = cursor.u32("the end record")?;
        let start = cursor.u32("the end record")?;
        let mut directory =
            Directory { count: u64::from(count), start: u64::from(start), end: at, cursor };
        let mut size = u64::from(size);
        let many_disks = Error::unsupported("the archive is spread over several files").at_byte(at);
        if let Some(end64) = directory.find64(at)? {
            // What the short record does state must be what the long one says.
            let agrees = |short: u64, full: u64, long: u64| short == full || short == long;
            let same = agrees(directory.count, u64::from(u16::MAX), end64.count)
                && agrees(size, u64::from(u32::MAX), end64.size)
                && agrees(directory.start, u64::from(u32::MAX), end64.start);
            if !same || (disk != 0 && disk != u16::MAX) {
                return Err(Error::malformed("the two end records disagree").at_byte(at));
            }
            directory.count = end64.count;
            directory.start = end64.start;
            directory.end = end64.at;
            size = end64.size;
        } else if disk != 0 || first_disk != 0 || count_here != count {
            return Err(many_disks);
        }
        if directory.start.checked_add(size) != Some(directory.end) {
            let what = "the directory does not end where the end record begins";
            return Err(Error::malformed(what).at_byte(at));
        }
        if directory.count > MAX_MEMBERS || size > MAX_DIRECTORY {
            let what = format!("{} members in a directory of {size} bytes", directory.count);
            return Err(Error::limit(what).at_byte(at));
        }
        if directory.count.saturating_mul(46) > size {
            let what =
                format!("{} members do not fit a directory of {size} bytes", directory.count);
            return Err(Error::malformed(what).at_byte(at));
        }
        Ok(directory)
    }

    /// Reads the zip64 end record if its locator stands before the end record at `end`.
    fn find64(&mut self, end: u64) -> Result<Option<End64>> {
        let Some(locator) = end.checked_sub(20) else { return Ok(None) };
        let cursor = &mut self.cursor;
        cursor.seek(locator)?;
        if cursor.u32("the zip64 locator")? != LOCATOR64 {
            return Ok(None);
        }
        let wrong = || Error::malformed("the zip64 end record is damaged").at_byte(locator);
        let disk = cursor.u32("the zip64 locator")?;
        let at = cursor.u64("the zip64 locator")?;
        let disks = cursor.u32("the zip64 locator")?;
        if disk != 0 || disks > 1 || at >= locator {
            return Err(wrong());
        }
        cursor.seek(at)?;
        let what = "the zip64 end record";
        let signature = cursor.u32(what)?;
        let size = cursor.u64(what)?;
        if signature != END64
            || at.checked_add(12).and_then(|n| n.checked_add(size)) != Some(locator)
        {
            return Err(wrong());
        }
        cursor.skip(4, what)?;
        let disks = (cursor.u32(what)?, cursor.u32(what)?);
        let (here, count) = (cursor.u64(what)?, cursor.u64(what)?);
        let (size, start) = (cursor.u64(what)?, cursor.u64(what)?);
        if disks != (0, 0) || here != count {
            return Err(wrong());
        }
        Ok(Some(End64 { at, count, size, start }))
    }

    fn members(&mut self) -> Result<Vec<Member>> {
        self.cursor.seek(self.start)?;
        let mut members = Vec::with_capacity(to_usize(self.count, "the member count")?);
        let mut names = HashSet::new();
        let mut inflated: u64 = 0;
        for _ in 0..self.count {
            let at = self.cursor.position();
            let member = self.member().map_err(|e| e.at_byte(at))?;
            if !names.insert(member.name.clone()) {
                let e = Error::malformed("the name occurs twice");
                return Err(about(&member.name, e).at_byte(at));
            }
            if member.method == Method::Deflated {
                inflated = inflated.saturating_add(member.size);
            }
            members.push(member);
        }
        if self.cursor.position() != self.end {
            let e = Error::malformed("the directory does not end with its last member");
            return Err(e.at_byte(self.cursor.position()));
        }
        let allowed = self.cursor.end().saturating_mul(INFLATION_PER_BYTE).max(FREE_INFLATION);
        if inflated > allowed {
            let what =
                format!("the members would inflate to {inflated} bytes; {allowed} are allowed");
            return Err(Error::limit(what));
        }
        Ok(members)
    }

    /// Reads one entry of the directory.
    fn member(&mut self) -> Result<Member> {
        let cursor = &mut self.cursor;
        let what = "the directory";
        if cursor.u32(what)? != CENTRAL {
            return Err(Error::malformed("the directory is damaged"));
        }
        let made_by = cursor.u16(what)?;
        cursor.u16(what)?;
        let flags = cursor.u16(what)?;
        let method = cursor.u16(what)?;
        cursor.u32(what)?;
        let crc = cursor.u32(what)?;
        let packed = cursor.u32(what)?;
        let size = cursor.u32(what)?;
        let name_length = cursor.u16(what)?;
        let extra_length = cursor.u16(what)?;
        let comment_length = cursor.u16(what)?;
        let disk = cursor.u16(what)?;
        cursor.u16(what)?;
        let attributes = cursor.u32(what)?;
        let offset = cursor.u32(what)?;
        let name = cursor.bytes(u64::from(name_length), u64::MAX, "a member's name")?;
        let extra = cursor.bytes(u64::from(extra_length), u64::MAX, "a member's extra field")?;
        cursor.skip(u64::from(comment_length), "a member's comment")?;

        let name = judge_name(name, flags)?;
        let judge = || -> Result<Member> {
            if flags & 1 != 0 {
                return Err(Error::unsupported("it is encrypted"));
            }
            if flags & !HARMLESS_FLAGS != 0 {
                return Err(Error::unsupported(format!("it has unknown flags {flags:#06x}")));
            }
            let method = match method {
                0 => Method::Stored,
                8 => Method::Deflated,
                other => {
                    return Err(Error::unsupported(format!(
                        "compression method {other} is not read"
                    )));
                }
            };
            if disk != 0 {
                return Err(Error::unsupported("it is in another file"));
            }
            // The upper half holds a Unix mode if a Unix program made the entry.
            if made_by >> 8 == 3 && (attributes >> 16) & 0o170_000 == 0o120_000 {
                return Err(Error::new(ErrorKind::Outside, "it is a symbolic link"));
            }
            let wide = Wide::read(&extra, size, packed, Some(offset))?;
            let member = Member {
                name: name.clone(),
                method,
                flags,
                crc,
                packed: wide.packed,
                size: wide.size,
                header: wide.offset,
                data: 0,
            };
            match member.method {
                Method::Stored if member.packed != member.size => {
                    Err(Error::malformed("it is stored, and its two sizes differ"))
                }
                Method::Deflated if member.size / MAX_RATIO > member.packed.saturating_add(1) => {
                    let what = format!("{} bytes cannot inflate to {}", member.packed, member.size);
                    Err(Error::malformed(what))
                }
                _ => Ok(member),
            }
        };
        judge().map_err(|e| about(&name, e))
    }

    /// Compares a member's own header with the directory, fills in where its data begins, and
    /// returns where all that belongs to it ends.
    fn judge_local(&mut self, member: &mut Member) -> Result<u64> {
        let cursor = &mut self.cursor;
        let what = "its header";
        cursor.seek(member.header)?;
        if cursor.u32(what)? != LOCAL {
            return Err(Error::malformed("its header is not where the directory says"));
        }
        cursor.u16(what)?;
        let flags = cursor.u16(what)?;
        let method = cursor.u16(what)?;
        cursor.u32(what)?;
        let crc = cursor.u32(what)?;
        let packed = cursor.u32(what)?;
        let size = cursor.u32(what)?;
        let name_length = cursor.u16(what)?;
        let extra_length = cursor.u16(what)?;
        let name = cursor.bytes(u64::from(name_length), u64::MAX, what)?;
        let extra = cursor.bytes(u64::from(extra_length), u64::MAX, what)?;
        let data = cursor.position();
        let wide = Wide::read(&extra, size, packed, None)?;
        let described_later = flags & FLAG_DESCRIPTOR != 0;
        let agrees = |local: u64, central: u64| local == central || (described_later && local == 0);
        let same_method = match member.method {
            Method::Stored => method == 0,
            Method::Deflated => method == 8,
        };
        if flags != member.flags
            || !same_method
            || name != member.name.as_bytes()
            || !agrees(u64::from(crc), u64::from(member.crc))
            || !agrees(wide.packed, member.packed)
            || !agrees(wide.size, member.size)
        {
            return Err(Error::malformed("its header and the directory disagree"));
        }
        member.data = data;
        cursor.skip(member.packed, "its data")?;
        if described_later {
            Directory::judge_descriptor(cursor, member)?;
        }
        Ok(cursor.position())
    }

    /// The descriptor after the data has four forms: with a signature or not, with 32-bit sizes or
    /// 64-bit ones. It must be one of them and repeat the directory.
    fn judge_descriptor(cursor: &mut Bounded, member: &Member) -> Result<()> {
        let start = cursor.position();
        for (signature, wide) in [(true, false), (true, true), (false, false), (false, true)] {
            cursor.seek(start)?;
            let mut matches = || -> Result<bool> {
                let what = "its data descriptor";
                if signature && cursor.u32(what)? != DESCRIPTOR {
                    return Ok(false);
                }
                let crc = cursor.u32(what)?;
                let mut number = || match wide {
                    true => cursor.u64(what),
                    false => cursor.u32(what).map(u64::from),
                };
                let (packed, size) = (number()?, number()?);
                Ok((crc, packed, size) == (member.crc, member.packed, member.size))
            };
            if matches().unwrap_or(false) {
                return Ok(());
            }
        }
        Err(Error::malformed("its data descriptor and the directory disagree"))
    }
}

/// The zip64 end record.
struct End64 {
    at: u64,
    count: u64,
    size: u64,
    start: u64,
}

/// Sizes and offset of a header, completed from its zip64 extra field.
struct Wide {
    size: u64,
    packed: u64,
    offset: u64,
}

impl Wide {
    fn read(extra: &[u8], size: u32, packed: u32, offset: Option<u32>) -> Result<Wide> {
        let wrong = || Error::malformed("its extra field is damaged");
        let mut zip64: Option<&[u8]> = None;
        let mut rest = extra;
        while let Some((head, tail)) = rest.split_first_chunk::<4>() {
            let [a, b, c, d] = *head;
            let (id, length) = (u16::from_le_bytes([a, b]), u16::from_le_bytes([c, d]));
            let (field, next) = tail.split_at_checked(usize::from(length)).ok_or_else(wrong)?;
            match id {
                1 if zip64.replace(field).is_some() => return Err(wrong()),
                0x7075 => return Err(Error::unsupported("it carries a second name")),
                _ => rest = next,
            }
        }
        // Alignment padding of up to three zero bytes is all that may remain.
        if rest.iter().any(|&byte| byte != 0) {
            return Err(wrong());
        }
        let mut field = zip64.unwrap_or_default();
        let mut full = |short: u32| -> Result<u64> {
            if short != u32::MAX {
                return Ok(u64::from(short));
            }
            // Without the field the number is meant as it stands.
            if zip64.is_none() {
                return Ok(u64::from(short));
            }
            let (number, next) = field.split_first_chunk::<8>().ok_or_else(wrong)?;
            field = next;
            Ok(u64::from_le_bytes(*number))
        };
        let size = full(size)?;
        let packed = full(packed)?;
        let offset = offset.map_or(Ok(0), &mut full)?;
        Ok(Wide { size, packed, offset })
    }
}

fn about(name: &str, error: Error) -> Error {
    let kind = error.kind();
    let placed = Error::new(kind, format!("member {name:?}: {}", error.message()));
    match error.byte() {
        Some(at) => placed.at_byte(at),
        None => placed,
    }
}

fn judge_name(bytes: Vec<u8>, flags: u16) -> Result<String> {
    let name = String::from_utf8(bytes).ok().filter(|n| n.is_ascii() || flags & FLAG_UTF8 != 0);
    let name = name.ok_or_else(|| Error::malformed("a member's name is not UTF-8"))?;
    check_name(&name)?;
    match name.as_bytes() {
        [drive, b':', ..] if drive.is_ascii_alphabetic() => {
            Err(Error::new(ErrorKind::Outside, format!("the name {name:?} has a drive letter")))
        }
        _ => Ok(name),
    }
}

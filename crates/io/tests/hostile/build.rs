//! Builders of files, sound and unsound: every field can be a lie.

use flate2::Compression;
use flate2::write::DeflateEncoder;
use std::io::Write;

/// A safetensors file of a header and data, its length stated truthfully.
pub(crate) fn st(header: impl AsRef<[u8]>, data: &[u8]) -> Vec<u8> {
    let header = header.as_ref();
    [&(header.len() as u64).to_le_bytes(), header, data].concat()
}

/// A tensor of a header.
pub(crate) fn tensor(name: &str, dtype: &str, shape: &str, offsets: &str) -> String {
    format!("\"{name}\":{{\"dtype\":\"{dtype}\",\"shape\":{shape},\"data_offsets\":{offsets}}}")
}

/// A header of one float tensor of 4 elements, with one of its parts replaced.
pub(crate) fn one(shape: &str, offsets: &str) -> String {
    format!("{{{}}}", tensor("a", "F32", shape, offsets))
}

/// An npy file of a version, a header and data.
pub(crate) fn npy_of(version: u8, header: impl AsRef<[u8]>, data: &[u8]) -> Vec<u8> {
    let header = header.as_ref();
    let mut out = b"\x93NUMPY".to_vec();
    out.extend([version, 0]);
    match version {
        1 => out.extend((header.len() as u16).to_le_bytes()),
        _ => out.extend((header.len() as u32).to_le_bytes()),
    }
    out.extend(header);
    out.extend(data);
    out
}

/// A version 1 file; the newline is added.
pub(crate) fn npy(header: &str, data: &[u8]) -> Vec<u8> {
    npy_of(1, format!("{header}\n"), data)
}

/// The header of a `u1` vector.
pub(crate) fn vector(length: usize) -> String {
    format!("{{'descr': '|u1', 'fortran_order': False, 'shape': ({length},), }}")
}

pub(crate) fn deflate(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A member of an archive, each field as both headers will state it.
#[derive(Clone)]
pub(crate) struct Member {
    pub(crate) local: Head,
    pub(crate) central: Head,
    pub(crate) data: Vec<u8>,
    pub(crate) descriptor: Vec<u8>,
    pub(crate) made_by: u16,
    pub(crate) attributes: u32,
    /// Where the directory says the header is; the truth if absent.
    pub(crate) offset: Option<u32>,
    /// Left out of the file: only the directory knows it.
    pub(crate) ghost: bool,
}

#[derive(Clone)]
pub(crate) struct Head {
    pub(crate) name: Vec<u8>,
    pub(crate) flags: u16,
    pub(crate) method: u16,
    pub(crate) crc: u32,
    pub(crate) packed: u32,
    pub(crate) size: u32,
    pub(crate) extra: Vec<u8>,
}

impl Member {
    fn new(name: &str, method: u16, data: Vec<u8>, content: &[u8]) -> Member {
        let head = Head {
            name: name.as_bytes().to_vec(),
            flags: 0,
            method,
            crc: crc32fast::hash(content),
            packed: data.len() as u32,
            size: content.len() as u32,
            extra: Vec::new(),
        };
        Member {
            local: head.clone(),
            central: head,
            data,
            descriptor: Vec::new(),
            made_by: 0x0314,
            attributes: 0o100_644 << 16,
            offset: None,
            ghost: false,
        }
    }

    pub(crate) fn stored(name: &str, content: &[u8]) -> Member {
        Member::new(name, 0, content.to_vec(), content)
    }

    pub(crate) fn deflated(name: &str, content: &[u8]) -> Member {
        Member::new(name, 8, deflate(content), content)
    }

    /// Changes both headers.
    pub(crate) fn both(mut self, change: impl Fn(&mut Head)) -> Member {
        change(&mut self.local);
        change(&mut self.central);
        self
    }

    /// Changes what only the member's own header says.
    pub(crate) fn local(mut self, change: impl Fn(&mut Head)) -> Member {
        change(&mut self.local);
        self
    }

    /// Changes what only the directory says.
    pub(crate) fn central(mut self, change: impl Fn(&mut Head)) -> Member {
        change(&mut self.central);
        self
    }

    /// Changes the rest.
    pub(crate) fn with(mut self, change: impl Fn(&mut Member)) -> Member {
        change(&mut self);
        self
    }
}

fn head(head: &Head) -> Vec<u8> {
    let mut out = 20u16.to_le_bytes().to_vec();
    for short in [head.flags, head.method, 0, 0x21] {
        out.extend(short.to_le_bytes());
    }
    for word in [head.crc, head.packed, head.size] {
        out.extend(word.to_le_bytes());
    }
    out.extend((head.name.len() as u16).to_le_bytes());
    out.extend((head.extra.len() as u16).to_le_bytes());
    out
}

/// The end of an archive; what is absent is stated truthfully.
#[derive(Default)]
pub(crate) struct End {
    pub(crate) prefix: Vec<u8>,
    pub(crate) count: Option<u16>,
    pub(crate) size: Option<u32>,
    pub(crate) start: Option<u32>,
    pub(crate) comment: Vec<u8>,
    /// Adds a zip64 end record with this count.
    pub(crate) count64: Option<u64>,
}

pub(crate) fn zip(members: &[Member]) -> Vec<u8> {
    zip_with(members, &End::default())
}

pub(crate) fn zip_with(members: &[Member], end: &End) -> Vec<u8> {
    let mut out = end.prefix.clone();
    let mut directory = Vec::new();
    for member in members {
        let offset = member.offset.unwrap_or(out.len() as u32);
        if !member.ghost {
            out.extend(b"PK\x03\x04");
            out.extend(head(&member.local));
            out.extend(&member.local.name);
            out.extend(&member.local.extra);
            out.extend(&member.data);
            out.extend(&member.descriptor);
        }
        directory.extend(b"PK\x01\x02");
        directory.extend(member.made_by.to_le_bytes());
        directory.extend(head(&member.central));
        directory.extend([0; 6]);
        directory.extend(member.attributes.to_le_bytes());
        directory.extend(offset.to_le_bytes());
        directory.extend(&member.central.name);
        directory.extend(&member.central.extra);
    }
    let start = out.len();
    out.extend(&directory);
    if let Some(count) = end.count64 {
        let at = out.len() as u64;
        out.extend(b"PK\x06\x06");
        out.extend(44u64.to_le_bytes());
        out.extend([45, 3, 45, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        for number in [count, count, directory.len() as u64, start as u64] {
            out.extend(number.to_le_bytes());
        }
        out.extend(b"PK\x06\x07");
        out.extend([0; 4]);
        out.extend(at.to_le_bytes());
        out.extend(1u32.to_le_bytes());
    }
    out.extend(end_record(
        end.count.unwrap_or(members.len() as u16),
        end.size.unwrap_or(directory.len() as u32),
        end.start.unwrap_or(start as u32),
        &end.comment,
    ));
    out
}

pub(crate) fn end_record(count: u16, size: u32, start: u32, comment: &[u8]) -> Vec<u8> {
    let mut out = b"PK\x05\x06\0\0\0\0".to_vec();
    out.extend(count.to_le_bytes());
    out.extend(count.to_le_bytes());
    out.extend(size.to_le_bytes());
    out.extend(start.to_le_bytes());
    out.extend((comment.len() as u16).to_le_bytes());
    out.extend(comment);
    out
}

/// A zip64 extra field.
pub(crate) fn extra64(numbers: &[u64]) -> Vec<u8> {
    let mut out = 1u16.to_le_bytes().to_vec();
    out.extend((numbers.len() as u16 * 8).to_le_bytes());
    numbers.iter().for_each(|number| out.extend(number.to_le_bytes()));
    out
}

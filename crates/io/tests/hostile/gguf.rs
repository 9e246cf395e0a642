//! The groups of hostile GGUF files that a reader can judge without knowing models.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::symlink;

use lazul_io::ErrorKind::{self, *};

use super::runner::{Case, Expect, Loader, case};

/// A GGUF file in the making: every number can be a lie.
#[derive(Clone)]
pub(crate) struct Build {
    pub(crate) magic: [u8; 4],
    pub(crate) version: u32,
    tensor_count: Option<u64>,
    key_count: Option<u64>,
    keys: Vec<u8>,
    keys_made: u64,
    tensors: Vec<u8>,
    tensors_made: u64,
    alignment: usize,
    data: Vec<u8>,
}

pub(crate) fn new() -> Build {
    Build {
        magic: *b"GGUF",
        version: 3,
        tensor_count: None,
        key_count: None,
        keys: Vec::new(),
        keys_made: 0,
        tensors: Vec::new(),
        tensors_made: 0,
        alignment: 32,
        data: Vec::new(),
    }
}

pub(crate) fn text(text: &[u8]) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes(), text].concat()
}

/// The bytes of a list.
fn list(kind: u32, count: u64, elements: &[u8]) -> Vec<u8> {
    [&kind.to_le_bytes()[..], &count.to_le_bytes(), elements].concat()
}

impl Build {
    pub(crate) fn key(mut self, key: &[u8], kind: u32, value: &[u8]) -> Build {
        self.keys.extend(text(key));
        self.keys.extend(kind.to_le_bytes());
        self.keys.extend(value);
        self.keys_made += 1;
        self
    }

    fn raw(mut self, bytes: &[u8]) -> Build {
        self.keys.extend(bytes);
        self.keys_made += 1;
        self
    }

    pub(crate) fn tensor(mut self, name: &[u8], dims: &[u64], kind: u32, offset: u64) -> Build {
        self.tensors.extend(text(name));
        self.tensors.extend((dims.len() as u32).to_le_bytes());
        dims.iter().for_each(|d| self.tensors.extend(d.to_le_bytes()));
        self.tensors.extend(kind.to_le_bytes());
        self.tensors.extend(offset.to_le_bytes());
        self.tensors_made += 1;
        self
    }

    pub(crate) fn data(mut self, data: &[u8]) -> Build {
        self.data = data.to_vec();
        self
    }

    pub(crate) fn aligned(mut self, alignment: usize) -> Build {
        self.alignment = alignment;
        self
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut out = self.magic.to_vec();
        out.extend(self.version.to_le_bytes());
        out.extend(self.tensor_count.unwrap_or(self.tensors_made).to_le_bytes());
        out.extend(self.key_count.unwrap_or(self.keys_made).to_le_bytes());
        out.extend(&self.keys);
        out.extend(&self.tensors);
        out.resize(out.len().next_multiple_of(self.alignment), 0);
        out.extend(&self.data);
        out
    }
}

const F32: u32 = 0;
const Q4_0: u32 = 2;
const U32: u32 = 4;
const TEXT: u32 = 8;
const LIST: u32 = 9;

const DATA: [u8; 32] = [7; 32];

/// One tensor of eight numbers.
fn one() -> Build {
    new().tensor(b"a", &[8], F32, 0).data(&DATA)
}

#[derive(Default)]
struct Table {
    cases: Vec<Case>,
}

impl Table {
    fn bad(&mut self, group: u8, name: &str, kind: ErrorKind, file: Build) {
        let expect = Expect::Reject(vec![kind]);
        self.cases.push(case(Loader::Gguf, group, name, expect, file.bytes()));
    }

    fn good(&mut self, group: u8, name: &str, file: Build, data: &[u8]) {
        let expect = Expect::Accept(data.to_vec());
        self.cases.push(case(Loader::Gguf, group, name, expect, file.bytes()));
    }

    fn place(
        &mut self,
        group: u8,
        name: &str,
        kind: ErrorKind,
        build: impl Fn(&std::path::Path) + 'static,
    ) {
        self.cases.push(Case {
            group,
            name: name.to_owned(),
            loader: Loader::Gguf,
            expect: Expect::Reject(vec![kind]),
            build: Box::new(build),
        });
    }
}

pub(crate) fn cases() -> Vec<Case> {
    let mut all = Table::default();
    headers(&mut all);
    keys(&mut all);
    lists(&mut all);
    tensors(&mut all);
    layout(&mut all);
    oddities(&mut all);
    all.cases
}

fn headers(all: &mut Table) {
    let with = |magic: &[u8; 4], version| Build { magic: *magic, version, ..one() };
    for magic in [b"GGML", b"gguf", b"\0\0\0\0", b"PK\x03\x04"] {
        all.bad(1, &format!("magic {magic:?}"), Malformed, with(magic, 3));
    }
    for length in [0usize, 1, 3, 4, 7, 8, 15, 23] {
        let bytes = one().bytes()[..length].to_vec();
        let expect = Expect::Reject(vec![Truncated]);
        all.cases.push(case(Loader::Gguf, 1, &format!("{length} bytes"), expect, bytes));
    }
    all.bad(2, "magic of the other order", Malformed, with(b"FUGG", 3));
    all.bad(2, "version of the other order", Unsupported, with(b"GGUF", 3u32.swap_bytes()));
    for version in [0, 1, 4, 255, u32::MAX] {
        all.bad(3, &format!("version {version}"), Unsupported, with(b"GGUF", version));
    }
    for count in [1 << 63, u64::MAX, 1 << 32] {
        let file = Build { tensor_count: Some(count), ..one() };
        all.bad(4, &format!("{count} tensors"), Limit, file);
        let file = Build { key_count: Some(count), ..one() };
        all.bad(5, &format!("{count} keys"), Limit, file);
    }
    let file = Build { tensor_count: Some(2), ..one() };
    all.bad(4, "one tensor more than there are", Limit, file.clone());
    all.bad(
        4,
        "many more than there are",
        Truncated,
        Build { tensor_count: Some(60_000), ..one() },
    );
    all.bad(
        6,
        "more keys than the file could hold",
        Truncated,
        Build { key_count: Some(60_000), ..one() },
    );
}

fn keys(all: &mut Table) {
    let raw = |length: u64, rest: &[u8]| [&length.to_le_bytes()[..], rest].concat();
    for length in [u64::MAX, 1 << 63, 65_536] {
        let file = new().raw(&raw(length, &[b'k'; 64]));
        all.bad(7, &format!("key of {length}"), Limit, file);
    }
    all.bad(8, "a key of 65,536 bytes", Limit, new().key(&[b'k'; 65_536], 0, &[1]));
    all.good(8, "a key of 65,535 bytes", one().key(&[b'k'; 65_535], 0, &[1]), &DATA);
    all.bad(7, "a key past the end", Truncated, new().raw(&raw(60_000, &[b'k'; 64])));
    all.bad(9, "an empty key", Malformed, one().key(b"", 0, &[1]));
    for (name, key) in
        [("byte ff", &b"a\xff"[..]), ("overlong", b"\xc0\x80"), ("half", b"\xed\xa0\x80")]
    {
        all.bad(10, name, Malformed, one().key(key, 0, &[1]));
    }
    all.bad(11, "a key twice", Malformed, one().key(b"k", 0, &[1]).key(b"k", 0, &[1]));
    all.bad(11, "with other values", Malformed, one().key(b"k", 0, &[1]).key(b"k", 7, &[1]));
    for kind in [13, 14, 255, u32::MAX] {
        all.bad(12, &format!("type {kind}"), Malformed, one().key(b"k", kind, &[0; 16]));
        let value = list(kind, 1, &[0; 16]);
        all.bad(12, &format!("list of type {kind}"), Malformed, one().key(b"k", LIST, &value));
    }
    for byte in [2, 255] {
        all.bad(13, &format!("truth {byte}"), Malformed, one().key(b"k", 7, &[byte]));
        let value = list(7, 2, &[1, byte]);
        all.bad(13, &format!("list of truth {byte}"), Malformed, one().key(b"k", LIST, &value));
    }
    for length in [1 << 40, u64::MAX, 1000] {
        let value = raw(length, b"short");
        all.bad(14, &format!("text of {length}"), Truncated, new().key(b"k", TEXT, &value));
        let value = list(8, 1, &value);
        all.bad(
            14,
            &format!("text of {length} in a list"),
            Truncated,
            new().key(b"k", LIST, &value),
        );
    }
    all.bad(14, "a text that is not UTF-8", Malformed, one().key(b"k", TEXT, &text(b"\xff")));
    let alignment = |n: u32| one().key(b"general.alignment", U32, &n.to_le_bytes());
    for n in [0, 3, 48, 1 << 31, 1 << 17] {
        all.bad(20, &format!("alignment {n}"), Malformed, alignment(n));
    }
    all.bad(
        20,
        "alignment i32",
        Malformed,
        one().key(b"general.alignment", 5, &32i32.to_le_bytes()),
    );
    all.bad(
        20,
        "alignment u64",
        Malformed,
        one().key(b"general.alignment", 10, &32u64.to_le_bytes()),
    );
    all.bad(20, "alignment text", Malformed, one().key(b"general.alignment", TEXT, &text(b"32")));
    for n in [8, 64, 4096] {
        all.good(20, &format!("alignment {n}"), alignment(n).aligned(n as usize), &DATA);
    }
    all.bad(
        21,
        "architecture 5",
        Malformed,
        one().key(b"general.architecture", U32, &[5, 0, 0, 0]),
    );
    let long = text(&vec![b'x'; 1 << 20]);
    all.bad(21, "architecture of 1 MiB", Limit, one().key(b"general.architecture", TEXT, &long));
    let split = |count: u16, no: u16| {
        let file = one().key(b"split.count", 2, &count.to_le_bytes());
        file.key(b"split.no", 2, &no.to_le_bytes())
    };
    all.bad(38, "a part of three", Unsupported, split(3, 0));
    all.bad(38, "a part of a lie", Unsupported, split(2, 65_535));
    all.bad(
        38,
        "a count that is a path",
        Malformed,
        one().key(b"split.count", TEXT, &text(b"../../x")),
    );
    all.good(38, "a part of one", split(1, 0), &DATA);
}

fn lists(all: &mut Table) {
    let key = |value: &[u8]| one().key(b"k", LIST, value);
    let nested = |depth: usize| {
        let mut value = list(0, 1, &[5]);
        for _ in 0..depth {
            value = list(LIST, 1, &value);
        }
        value
    };
    for depth in [9, 64, 65, 100_000] {
        all.bad(15, &format!("lists {depth} deep"), Limit, key(&nested(depth)));
    }
    all.good(15, "lists 8 deep", key(&nested(8)), &DATA);
    let headers = list(LIST, 1, &[]).repeat(100_000);
    all.bad(15, "the beginnings of 100,000 lists", Limit, key(&headers));
    for count in [1 << 63, u64::MAX, 1 << 40] {
        all.bad(16, &format!("{count} bytes"), Truncated, key(&list(0, count, &[1; 8])));
        all.bad(16, &format!("{count} truths"), Truncated, key(&list(7, count, &[1; 8])));
    }
    all.bad(
        17,
        "2^31 empty texts that are not there",
        Truncated,
        key(&list(8, 1 << 31, &[0; 800])),
    );
    all.bad(17, "2^61 empty texts", Truncated, key(&list(8, 1 << 61, &[0; 800])));
    all.good(17, "200,000 empty texts", key(&list(8, 200_000, &vec![0; 1_600_000])), &DATA);
    for (kind, count) in [(4, 1u64 << 62), (10, 1 << 61), (10, u64::MAX), (2, 1 << 63)] {
        let name = format!("{count} of type {kind} wrap");
        all.bad(18, &name, Limit, key(&list(kind, count, &[1; 8])));
    }
    let mixed = [list(0, 1, &[5]), list(LIST, 1, &list(0, 1, &[5]))].concat();
    all.bad(19, "lists of mixed depth", Malformed, key(&list(LIST, 2, &mixed)));
    let mixed = [list(0, 1, &[5]), list(7, 1, &[1])].concat();
    all.bad(19, "lists of mixed types", Malformed, key(&list(LIST, 2, &mixed)));
    all.bad(19, "more lists than bytes", Truncated, key(&list(LIST, 1 << 40, &list(0, 0, &[]))));
    let many = list(0, 0, &[]).repeat(70_000);
    all.bad(19, "70,000 lists", Limit, key(&list(LIST, 70_000, &many)));
}

fn tensors(all: &mut Table) {
    let shaped = |dims: &[u64], kind| new().tensor(b"a", dims, kind, 0).data(&DATA);
    all.bad(22, "no dimensions", Malformed, shaped(&[], F32));
    all.bad(22, "5 dimensions", Malformed, shaped(&[1; 5], F32));
    let mut file = shaped(&[8], F32);
    file.tensors[9..13].copy_from_slice(&u32::MAX.to_le_bytes());
    all.bad(22, "2^32-1 dimensions", Malformed, file);
    for dims in [&[0][..], &[8, 0], &[0, 1 << 62], &[1, 0, 1, 1]] {
        all.bad(23, &format!("{dims:?}"), Malformed, shaped(dims, F32));
        all.bad(23, &format!("{dims:?} of blocks"), Malformed, shaped(dims, Q4_0));
    }
    for dim in [1 << 63, u64::MAX] {
        all.bad(24, &format!("{dim}"), Limit, shaped(&[dim], F32));
    }
    for dims in [&[1 << 32, 1 << 32][..], &[1 << 33, 1 << 31, 2], &[1 << 62, 8], &[1 << 16; 4]] {
        all.bad(25, &format!("{dims:?}"), Limit, shaped(dims, F32));
        all.bad(25, &format!("{dims:?} of blocks"), Limit, shaped(dims, Q4_0));
    }
    all.bad(26, "bytes wrap", Limit, shaped(&[1 << 62], F32));
    all.bad(26, "bytes wrap, f64", Limit, shaped(&[1 << 60, 2], 28));
    for dims in [&[31][..], &[16, 2], &[33, 32], &[1]] {
        all.bad(27, &format!("{dims:?} of Q4_0"), Malformed, shaped(dims, Q4_0));
    }
    all.bad(27, "[128, 2] of Q4_K", Malformed, shaped(&[128, 2], 12));
    for kind in [4, 5, 31, 33, 36, 38, 42, 1000, u32::MAX] {
        all.bad(28, &format!("type {kind}"), Unsupported, shaped(&[32], kind));
    }
    for offset in [1, 16, 31, 33] {
        let file = new().tensor(b"a", &[8], F32, offset).data(&[0; 128]);
        all.bad(29, &format!("data at {offset}"), Malformed, file);
    }
    let at = |offset: u64| new().tensor(b"a", &[8], F32, offset).data(&DATA);
    all.bad(30, "data past the end", Malformed, at(1 << 40));
    let file = new().tensor(b"a", &[16], F32, 0).data(&DATA);
    all.bad(30, "data longer than the file", Truncated, file);
    all.bad(31, "the end wraps", Malformed, at(u64::MAX - 31));
    let file = new().tensor(b"a", &[1 << 56], F32, 0).tensor(b"b", &[1 << 57], F32, 1 << 58);
    all.bad(31, "two ends far beyond", Truncated, file);
    let two = |second: u64| {
        new().tensor(b"a", &[8], F32, 0).tensor(b"b", &[8], F32, second).data(&[7; 128])
    };
    all.bad(32, "the same place", Malformed, two(0));
    let file = new().tensor(b"a", &[16], F32, 0).tensor(b"b", &[8], F32, 32).data(&[7; 128]);
    all.bad(32, "one inside another", Malformed, file);
    all.bad(33, "a hole", Malformed, two(64));
    all.bad(33, "a hole at the start", Malformed, at(32));
    let file = new().tensor(b"a", &[8], F32, 0).tensor(b"a", &[8], F32, 32).data(&[7; 64]);
    all.bad(34, "a name twice", Malformed, file);
    all.bad(
        35,
        "a name of 4,097 bytes",
        Limit,
        new().tensor(&[b'n'; 4097], &[8], F32, 0).data(&DATA),
    );
    all.good(
        35,
        "a name of 100 bytes",
        new().tensor(&[b'n'; 100], &[8], F32, 0).data(&DATA),
        &DATA,
    );
    all.bad(
        35,
        "a name that is not UTF-8",
        Malformed,
        new().tensor(b"\xff", &[8], F32, 0).data(&DATA),
    );
    for name in [&b"../../etc/passwd"[..], b"", b"a\0b", b"\n", "é".as_bytes()] {
        let file = new().tensor(name, &[8], F32, 0).data(&DATA);
        all.good(35, &format!("the name {:?}", String::from_utf8_lossy(name)), file, &DATA);
    }
}

fn layout(all: &mut Table) {
    let expect = |kind| Expect::Reject(vec![kind]);
    let file = one();
    let whole = file.bytes();
    let header = whole.len() - 32;
    for cut in [1, 31, 32] {
        let bytes = whole[..whole.len() - cut].to_vec();
        let name = format!("{cut} bytes of data are missing");
        all.cases.push(case(Loader::Gguf, 37, &name, expect(Truncated), bytes));
    }
    let padding = header - (24 + 8 + 1 + 4 + 8 + 4 + 8);
    assert!(padding > 1);
    for cut in [1, padding] {
        let bytes = whole[..header - cut].to_vec();
        let name = format!("{cut} bytes of padding are missing");
        all.cases.push(case(Loader::Gguf, 36, &name, expect(Truncated), bytes));
    }
    let short = new().tensor(b"a", &[3], F32, 0).tensor(b"b", &[8], F32, 32);
    all.bad(36, "padding between tensors is missing", Truncated, short.clone().data(&[7; 44]));
    let data = [&[7; 12][..], &[0; 20], &[9; 32]].concat();
    let both = [&[7; 12][..], &[9; 32]].concat();
    all.good(36, "padded tensors", short.data(&data), &both);
    let last = new().tensor(b"a", &[3], F32, 0);
    all.good(36, "the last one is not padded", last.clone().data(&[7; 12]), &[7; 12]);
    all.good(36, "the last one is padded", last.data(&[7; 32]), &[7; 12]);
    let file = new().tensor(b"b", &[8], F32, 32).tensor(b"a", &[8], F32, 0);
    let data = [[1; 32], [2; 32]].concat();
    all.good(32, "described in another order", file.data(&data), &data);
}

fn oddities(all: &mut Table) {
    // f16 numbers of blocks: infinity, NaN, both signs.
    for bits in [0x7c00u16, 0xfc00, 0x7e00, 0xffff] {
        let block = [&bits.to_le_bytes()[..], &[0x77; 16]].concat();
        let file = new().tensor(b"a", &[32], Q4_0, 0).data(&block);
        // Zero times infinity, and -1 times it: codes are 7, which stands for -1.
        let value: u16 = match bits {
            0x7c00 => 0xfc00,
            0xfc00 => 0x7c00,
            other => other,
        };
        if bits & 0x3ff == 0 {
            all.good(42, &format!("scale {bits:x}"), file, &value.to_le_bytes().repeat(32));
        } else {
            let expect = Expect::Any;
            all.cases.push(case(
                Loader::Gguf,
                42,
                &format!("scale {bits:x}"),
                expect,
                file.bytes(),
            ));
        }
    }
    for (kind, size) in [(16, 66u64), (18, 98), (19, 50), (20, 18), (29, 56), (34, 54), (39, 17)] {
        let elements = if matches!(kind, 20 | 39) { 32 } else { 256 };
        let file = new().tensor(b"a", &[elements], kind, 0).data(&vec![0xff; size as usize]);
        all.bad(44, &format!("type {kind} is not read"), Unsupported, file);
    }
    all.good(45, "version 2", Build { version: 2, ..one() }, &DATA);
    all.good(45, "no tensors", new().key(b"k", 0, &[1]), &[]);
    all.good(45, "nothing at all", new(), &[]);
    let every = one()
        .key(b"0", 0, &[1])
        .key(b"1", 1, &[1])
        .key(b"2", 2, &[1; 2])
        .key(b"3", 3, &[1; 2])
        .key(b"4", 4, &[1; 4])
        .key(b"5", 5, &[1; 4])
        .key(b"6", 6, &[1; 4])
        .key(b"7", 7, &[1])
        .key(b"8", TEXT, &text("é\0\n".as_bytes()))
        .key(b"9", LIST, &list(8, 2, &[text(b"\xff"), text(b"")].concat()))
        .key(b"10", 10, &[1; 8])
        .key(b"11", 11, &[1; 8])
        .key(b"12", 12, &[1; 8]);
    all.good(45, "every type", every, &DATA);
    let expect = Expect::Reject(vec![Array]);
    all.cases.push(case(Loader::GgufCut, 46, "shrinks after it was opened", expect, one().bytes()));
    all.place(46, "a link to itself", Io, |path| symlink(path, path).unwrap());
    all.place(46, "a folder", Outside, |path| fs::create_dir(path).unwrap());
    all.place(6, "keys of a long sparse file", Truncated, |path| {
        let mut file = File::create(path).unwrap();
        let mut bytes = Build { key_count: Some(1), ..new() }.bytes();
        bytes.truncate(24);
        bytes.extend([text(b"k"), LIST.to_le_bytes().to_vec(), list(8, 1 << 31, &[])].concat());
        file.write_all(&bytes).unwrap();
        file.set_len(1 << 20).unwrap();
    });
}

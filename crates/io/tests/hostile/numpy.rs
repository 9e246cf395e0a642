//! The 48 groups of hostile npy and npz files.

use lazul_io::ErrorKind::{self, *};

use super::build::*;
use super::runner::{Case, Expect, Loader, case};

pub(crate) fn cases() -> Vec<Case> {
    let mut all = Table::default();
    preambles(&mut all);
    literals(&mut all);
    types(&mut all);
    shapes(&mut all);
    archives(&mut all);
    bombs(&mut all);
    members(&mut all);
    all.cases
}

#[derive(Default)]
struct Table {
    cases: Vec<Case>,
}

impl Table {
    fn bad(&mut self, group: u8, name: &str, kind: ErrorKind, bytes: Vec<u8>) {
        let expect = Expect::Reject(vec![kind]);
        self.cases.push(case(Loader::Npy, group, name, expect, bytes));
    }

    fn good(&mut self, group: u8, name: &str, bytes: Vec<u8>, data: &[u8]) {
        let expect = Expect::Accept(data.to_vec());
        self.cases.push(case(Loader::Npy, group, name, expect, bytes));
    }

    /// A bad archive. Evaluation reports its own kind of error, so any kind will do there.
    fn bad_zip(&mut self, group: u8, name: &str, kinds: &[ErrorKind], bytes: Vec<u8>) {
        let expect = Expect::Reject(kinds.to_vec());
        self.cases.push(case(Loader::Npz, group, name, expect, bytes));
    }

    fn good_zip(&mut self, group: u8, name: &str, bytes: Vec<u8>, data: &[u8]) {
        let expect = Expect::Accept(data.to_vec());
        self.cases.push(case(Loader::Npz, group, name, expect, bytes));
    }
}

const DATA: [u8; 8] = [1, 2, 3, 4, 5, 6, 7, 8];

/// A header with the given parts.
fn head(descr: &str, fortran: &str, shape: &str) -> String {
    format!("{{'descr': {descr}, 'fortran_order': {fortran}, 'shape': {shape}, }}")
}

fn preambles(all: &mut Table) {
    let good = npy(&vector(8), &DATA);
    for size in [0, 1, 5, 7, 9] {
        all.bad(1, &format!("{size} bytes"), Truncated, good[..size].to_vec());
    }
    let mut magic = good.clone();
    magic[0] = b'N';
    all.bad(2, "magic", Malformed, magic);
    all.bad(2, "text", Malformed, b"1,2,3\n4,5,6\n".to_vec());
    for version in [0, 4, 255] {
        let mut bytes = good.clone();
        bytes[6] = version;
        all.bad(3, &format!("version {version}"), Unsupported, bytes);
    }
    let mut minor = good.clone();
    minor[7] = 1;
    all.bad(3, "version 1.1", Unsupported, minor);
    let mut long = good.clone();
    long[8..10].copy_from_slice(&u16::MAX.to_le_bytes());
    all.bad(4, "header past the file", Truncated, long);
    for version in [2, 3] {
        let mut bytes = npy_of(version, format!("{}\n", vector(8)), &DATA);
        all.good(4, &format!("version {version}"), bytes.clone(), &DATA);
        bytes[8..12].copy_from_slice(&u32::MAX.to_le_bytes());
        all.bad(5, &format!("version {version} with 2^32-1"), Limit, bytes);
    }
    let latin = |version| {
        npy_of(
            version,
            b"{'descr': '|u1', 'fortran_order': False, 'shape': (8,), '\xe9': 1}\n",
            &DATA,
        )
    };
    for version in 1..=3 {
        all.bad(6, &format!("Latin-1 in version {version}"), Malformed, latin(version));
    }
    all.bad(6, "UTF-8 in version 1", Malformed, npy("{'descr': '|u1', 'é': 1}", &DATA));
    all.bad(7, "no newline", Malformed, npy_of(1, vector(8), &DATA));
    all.bad(7, "no header", Malformed, npy_of(1, "", &DATA));
}

fn literals(all: &mut Table) {
    for text in ["[]", "None", "5", "'x'", "", "()", "{", "{'descr'", "{'descr': '|u1'"] {
        all.bad(8, &format!("{text:?}"), Malformed, npy(text, &DATA));
    }
    for key in ["descr", "fortran_order", "shape"] {
        let header = vector(8);
        let start = header.find(&format!("'{key}'")).unwrap();
        let end = start + header[start..].find(", ").unwrap() + 2;
        all.bad(9, key, Malformed, npy(&format!("{}{}", &header[..start], &header[end..]), &DATA));
    }
    all.bad(10, "extra key", Malformed, npy(&vector(8).replace("{", "{'x': 1, "), &DATA));
    all.bad(
        11,
        "repeated key",
        Malformed,
        npy(&vector(8).replace("{", "{'descr': '|u1', "), &DATA),
    );
    for (name, text) in [
        ("other order", "{'shape': (8,), 'descr': '|u1', 'fortran_order': False}"),
        ("no spaces", "{'descr':'|u1','fortran_order':False,'shape':(8,)}"),
        (
            "many spaces",
            "  {  'descr' : '|u1' ,\t'fortran_order' : False , 'shape' : ( 8 , ) , }  ",
        ),
        ("double quotes", "{\"descr\": \"|u1\", \"fortran_order\": False, \"shape\": (8,)}"),
    ] {
        all.good(12, name, npy(text, &DATA), &DATA);
    }
    for value in ["1", "0", "'True'", "true", "Truee", "None", "True or False"] {
        all.bad(
            19,
            &format!("fortran_order {value}"),
            Malformed,
            npy(&head("'|u1'", value, "(8,)"), &DATA),
        );
    }
    for shape in [
        "(2**40,)",
        "(__import__('os').getpid(),)",
        "(4+4,)",
        "(0x8,)",
        "(8 if 1 else 0,)",
        "(1_0,)",
        "(08,)",
    ] {
        all.bad(26, shape, Malformed, npy(&head("'|u1'", "False", shape), &DATA));
    }
    all.bad(26, "after the dictionary", Malformed, npy(&format!("{} + x()", vector(8)), &DATA));
    let deep = npy_of(2, format!("{}\n", "(".repeat(1_000_000)), &DATA);
    all.bad(30, "a million parentheses", Malformed, deep);
    let deep = head("'|u1'", "False", &"(".repeat(1_000_000));
    all.bad(30, "in the shape", Malformed, npy_of(2, format!("{deep}\n"), &DATA));
}

fn types(all: &mut Table) {
    let typed = |descr: &str| npy(&head(&format!("'{descr}'"), "False", "(1,)"), &DATA);
    let pickle =
        [&npy(&head("'|O'", "False", "(1,)"), &[])[..], b"\x80\x04cos\nsystem\n(S'true'\ntR."];
    all.bad(13, "a pickle", Unsupported, pickle.concat());
    for record in ["[('a', '<f4'), ('b', '<i4')]", "('<f4', (2,))", "{'names': ['a']}"] {
        all.bad(14, record, Unsupported, npy(&head(record, "False", "(1,)"), &DATA));
    }
    let deep = format!("{}\n", head(&"[".repeat(100_000), "False", "(1,)"));
    all.bad(15, "nested lists", Unsupported, npy_of(2, deep, &DATA));
    for descr in ["|S8", "<U2", "|V8", "|V3", "|V2", "|a8", "|S0", "<V4", ">V2"] {
        all.bad(16, descr, Unsupported, typed(descr));
    }
    all.good(16, "bfloat16 as MLX writes it", npy(&head("'<V2'", "False", "(4,)"), &DATA), &DATA);
    all.good(17, ">f4", npy(&head("'>f4'", "False", "(2,)"), &DATA), &[4, 3, 2, 1, 8, 7, 6, 5]);
    all.good(17, ">f8", npy(&head("'>f8'", "False", "(1,)"), &DATA), &[8, 7, 6, 5, 4, 3, 2, 1]);
    all.good(17, ">c8", npy(&head("'>c8'", "False", "(1,)"), &DATA), &[4, 3, 2, 1, 8, 7, 6, 5]);
    all.good(17, ">u1", npy(&head("'>u1'", "False", "(8,)"), &DATA), &DATA);
    all.good(18, "<c8", npy(&head("'<c8'", "False", "(1,)"), &DATA), &DATA);
    for descr in [
        "<f16",
        "<c16",
        "<c32",
        "<f1",
        "<f3",
        "<i3",
        "<u16",
        "<m8",
        "<M8[ns]",
        "f4",
        "=f4",
        "|f4",
        "<",
        "",
        "<f",
        "<f-4",
        "<f+4",
        "<f4 ",
        "<f99999999999999999999",
        "<b1x",
        "<i04x",
        "|b2",
    ] {
        all.bad(18, &format!("type {descr:?}"), Unsupported, typed(descr));
    }
    let bools = npy(&head("'|b1'", "False", "(4,)"), &[0, 1, 2, 255]);
    all.good(18, "booleans other than 0 and 1", bools, &[0, 1, 1, 1]);
}

fn shapes(all: &mut Table) {
    let shaped = |shape: &str| npy(&head("'|u1'", "False", shape), &DATA);
    all.bad(20, "-1", Malformed, shaped("(-1,)"));
    all.bad(20, "2, -4", Malformed, shaped("(2, -4)"));
    all.bad(21, "10^20", Limit, shaped("(100000000000000000000,)"));
    all.bad(21, "2^64", Limit, shaped("(18446744073709551616,)"));
    for shape in [
        "(4294967296, 4294967296)",
        "(18446744073709551615, 2)",
        "(0, 9223372036854775808)",
        "(9223372036854775808,)",
    ] {
        all.bad(22, shape, Limit, shaped(shape));
    }
    let many = format!("{}\n", head("'|u1'", "False", &format!("({})", "1,".repeat(100_000))));
    all.bad(23, "100,000 dimensions", Limit, npy_of(2, many, &DATA));
    for shape in ["(8)", "8", "[8]", "(,)", "(8,,)", "(8 8)", "(8,", "('8',)", "(8.0,)", "(None,)"]
    {
        all.bad(24, shape, Malformed, shaped(shape));
    }
    all.good(25, "8L", shaped("(8L,)"), &DATA);
    all.good(25, "2L, 4L", shaped("(2L, 4L)"), &DATA);
    all.bad(25, "8LL", Malformed, shaped("(8LL,)"));
    all.bad(27, "one byte", Truncated, npy(&vector(8), &DATA[..7]));
    all.bad(27, "everything", Truncated, npy(&vector(8), &[]));
    all.good(28, "more data than the shape", npy(&vector(4), &DATA), &DATA[..4]);
    all.good(29, "rank 0", shaped("()"), &DATA[..1]);
    all.good(29, "no elements", shaped("(0,)"), &[]);
    all.good(29, "no elements, two dimensions", shaped("(3, 0)"), &[]);
    let fortran = npy(&head("'|u1'", "True", "(2, 4)"), &DATA);
    all.good(29, "Fortran order", fortran, &[1, 3, 5, 7, 2, 4, 6, 8]);
    let fortran = npy(&head("'>u2'", "True", "(2, 2)"), &DATA);
    all.good(29, "Fortran order, big endian", fortran, &[2, 1, 6, 5, 4, 3, 8, 7]);
}

fn array() -> Vec<u8> {
    npy(&vector(8), &DATA)
}

fn archives(all: &mut Table) {
    let (x, y) = (Member::stored("x.npy", &array()), Member::deflated("y.npy", &array()));
    let both = [DATA, DATA].concat();
    let good = zip(&[x.clone(), y.clone()]);
    all.good_zip(31, "a sound archive", good.clone(), &both);
    all.good_zip(31, "an empty archive", zip(&[]), &[]);
    all.bad_zip(31, "no end record", &[Malformed], good[..good.len() - 22].to_vec());
    all.bad_zip(31, "half an end record", &[Malformed], good[..good.len() - 1].to_vec());
    all.bad_zip(31, "bytes after the end", &[Malformed], [&good[..], b"x"].concat());
    all.bad_zip(31, "nothing", &[Malformed], vec![]);
    let comment =
        |comment: Vec<u8>| zip_with(std::slice::from_ref(&x), &End { comment, ..End::default() });
    all.good_zip(32, "a comment", comment(b"hello".to_vec()), &DATA);
    all.bad_zip(
        32,
        "an end record in the comment",
        &[Malformed],
        comment(end_record(0, 0, 0, b"")),
    );
    let torn = [&b"PK\x05\x06"[..], &[9; 30]].concat();
    all.bad_zip(32, "half an end record in the comment", &[Malformed], comment(torn));

    let differ: [(&str, fn(&mut Head)); 6] = [
        ("name", |h| h.name = b"z.npy".to_vec()),
        ("size", |h| h.size -= 1),
        ("packed size", |h| h.packed -= 1),
        ("method", |h| h.method = 8),
        ("checksum", |h| h.crc ^= 1),
        ("flags", |h| h.flags = 1 << 11),
    ];
    for (what, change) in differ {
        all.bad_zip(33, &format!("local {what}"), &[Malformed], zip(&[x.clone().local(change)]));
        all.bad_zip(
            33,
            &format!("central {what}"),
            &[Malformed],
            zip(&[x.clone().central(change)]),
        );
    }
    let member = std::slice::from_ref(&x);
    let end = |end: End| zip_with(member, &end);
    all.bad_zip(
        34,
        "65535 members",
        &[Malformed],
        end(End { count: Some(u16::MAX), ..End::default() }),
    );
    let lie = End { count: Some(u16::MAX), count64: Some(1 << 40), ..End::default() };
    all.bad_zip(34, "2^40 members by zip64", &[Limit], end(lie));
    let lie = End { count: Some(7), count64: Some(1), ..End::default() };
    all.bad_zip(34, "two counts", &[Malformed], end(lie));
    let zip64 = End { count: Some(u16::MAX), count64: Some(1), ..End::default() };
    all.good_zip(34, "one member by zip64", end(zip64), &DATA);
    all.bad_zip(
        34,
        "a member too few",
        &[Malformed],
        end(End { count: Some(0), ..End::default() }),
    );
    all.bad_zip(
        34,
        "a member too many",
        &[Malformed],
        end(End { count: Some(2), ..End::default() }),
    );
    all.bad_zip(
        34,
        "a directory elsewhere",
        &[Malformed],
        end(End { start: Some(0), ..End::default() }),
    );
    all.bad_zip(
        34,
        "a directory far away",
        &[Malformed],
        end(End { start: Some(u32::MAX), ..End::default() }),
    );

    let huge = x.clone().both(|h| (h.size, h.packed) = (u32::MAX, u32::MAX));
    for size in [1u64 << 63, u64::MAX] {
        let lie = huge.clone().both(|h| h.extra = extra64(&[size, size]));
        all.bad_zip(35, &format!("sizes {size}"), &[Malformed, Truncated], zip(&[lie]));
    }
    all.bad_zip(
        35,
        "short field",
        &[Malformed],
        zip(&[huge.clone().both(|h| h.extra = extra64(&[8]))]),
    );
    all.bad_zip(35, "no field", &[Malformed, Truncated], zip(&[huge]));
    let twice = |h: &mut Head| h.extra = [extra64(&[1]), extra64(&[1])].concat();
    all.bad_zip(35, "two fields", &[Malformed], zip(&[x.clone().both(twice)]));
    // As NumPy writes: the member's own header is prepared for more than it then needs.
    let (size, numpy) = (array().len() as u64, x.clone());
    let numpy = numpy.local(|h| {
        (h.size, h.packed, h.extra) = (u32::MAX, u32::MAX, extra64(&[size, size]));
    });
    all.good_zip(35, "as NumPy writes", zip(&[numpy]), &DATA);

    let prefix = |start| End { prefix: b"#!/bin/sh\n".to_vec(), start, ..End::default() };
    let members = [x.clone(), y];
    let honest = zip_with(&members, &prefix(None));
    all.good_zip(46, "a prefix that is counted", honest.clone(), &both);
    let uncounted = [&b"junk"[..], &good].concat();
    all.bad_zip(46, "a prefix that is not counted", &[Malformed], uncounted);
}

fn bombs(all: &mut Table) {
    let packed = deflate(&vec![0; 10 << 20]);
    let bomb = |size: u64| {
        let mut member = Member::deflated("x.npy", b"");
        member.data = packed.clone();
        let length = packed.len() as u64;
        member
            .both(|h| (h.size, h.packed, h.extra) = (u32::MAX, u32::MAX, extra64(&[size, length])))
    };
    all.bad_zip(36, "10 KiB to 10 GiB", &[Malformed], zip(&[bomb(10 << 30)]));
    all.bad_zip(36, "to 2^63", &[Malformed], zip(&[bomb(1 << 63)]));
    let many: Vec<Member> = (0..200)
        .map(|i| bomb(10 << 20).both(|h| h.name = format!("{i}.npy").into_bytes()))
        .collect();
    all.bad_zip(36, "200 members of 10 MiB", &[Limit], zip(&many));
    // The member claims to be small and goes on and on.
    let more = npy(&vector(8), &vec![0; 64 << 20]);
    let size = array().len() as u32;
    let endless = Member::deflated("x.npy", &more).both(|h| h.size = size);
    all.bad_zip(36, "more than it declares", &[], zip(&[endless]));
    let honest = Member::deflated("x.npy", &npy(&vector(32 << 20), &vec![0; 32 << 20]));
    all.good_zip(36, "32 MiB of zeros", zip(&[honest]), &vec![0; 32 << 20]);
    let claims = npy(&vector(1 << 40), &DATA);
    all.bad_zip(
        36,
        "a header of 2^40 elements",
        &[Truncated],
        zip(&[Member::deflated("x.npy", &claims)]),
    );

    let x = Member::stored("x.npy", &array());
    let ghost = |name: &str, offset| {
        x.clone().both(|h| h.name = name.as_bytes().to_vec()).with(|m| {
            (m.ghost, m.offset) = (true, Some(offset));
        })
    };
    all.bad_zip(
        37,
        "one member under two names",
        &[Malformed],
        zip(&[x.clone(), ghost("y.npy", 0)]),
    );
    // A member whose data is another member, header and all.
    let inner = zip(std::slice::from_ref(&x));
    let inner_size = inner.len() - 22 - (46 + 5);
    let outer = Member::stored("o.npy", &inner[..inner_size]);
    all.bad_zip(37, "a member inside another", &[Malformed], zip(&[outer, ghost("x.npy", 35)]));
    all.bad_zip(
        37,
        "a member past the end",
        &[Malformed, Truncated],
        zip(&[ghost("x.npy", u32::MAX - 1)]),
    );
    all.bad_zip(
        37,
        "a member in the directory",
        &[Malformed],
        zip(&[x.clone(), ghost("y.npy", 180)]),
    );
    all.bad_zip(
        38,
        "an archive as a member",
        &[Unsupported],
        zip(&[Member::stored("x.npz", &inner)]),
    );
    all.bad_zip(
        38,
        "an archive as an array",
        &[Malformed],
        zip(&[Member::stored("x.npy", &inner)]),
    );
    let count = 1_000_000;
    let empty: Vec<Member> = (0..count).map(|i| Member::stored(&format!("{i}.npy"), b"")).collect();
    let end = End { count: Some(u16::MAX), count64: Some(count), ..End::default() };
    all.bad_zip(48, "a million members", &[Limit], zip_with(&empty, &end));
}

fn members(all: &mut Table) {
    let x = Member::stored("x.npy", &array());
    let y = Member::deflated("x.npy", &array());
    for (name, member) in [("stored", &x), ("deflated", &y)] {
        let wrong = member.clone().both(|h| h.crc ^= 0x100);
        all.bad_zip(39, name, &[], zip(&[wrong]));
        all.bad_zip(40, name, &[Unsupported], zip(&[member.clone().both(|h| h.flags |= 1)]));
    }
    let mut damaged = x.clone();
    *damaged.data.last_mut().unwrap() ^= 1;
    all.bad_zip(39, "damaged data", &[], zip(&[damaged]));
    let mut damaged = y.clone();
    damaged.data[0] = 0xff;
    all.bad_zip(39, "damaged stream", &[], zip(&[damaged]));
    for flag in [4, 5, 6, 13, 15] {
        let name = format!("flag {flag}");
        all.bad_zip(40, &name, &[Unsupported], zip(&[x.clone().both(|h| h.flags |= 1 << flag)]));
    }
    for method in [1, 6, 9, 12, 14, 93, 95, 97, 99, u16::MAX] {
        let name = format!("method {method}");
        all.bad_zip(41, &name, &[Unsupported], zip(&[x.clone().both(|h| h.method = method)]));
    }
    all.bad_zip(42, "twice", &[Malformed], zip(&[x.clone(), x.clone()]));
    for name in [
        "../x.npy",
        "/x.npy",
        "C:\\x.npy",
        "C:x.npy",
        "a\\x.npy",
        "a/../x.npy",
        "x\0.npy",
        "a//x.npy",
        "./x.npy",
        "",
    ] {
        let named = x.clone().both(|h| h.name = name.as_bytes().to_vec());
        all.bad_zip(43, &format!("{name:?}"), &[Outside], zip(&[named]));
    }
    for (name, flags) in [("not UTF-8", 0), ("not UTF-8 though flagged", 1 << 11)] {
        let named = x.clone().both(|h| (h.name, h.flags) = (b"\xff.npy".to_vec(), flags));
        all.bad_zip(43, name, &[Malformed], zip(&[named]));
    }
    let named = x.clone().both(|h| (h.name, h.flags) = ("é.npy".as_bytes().to_vec(), 0));
    all.bad_zip(43, "UTF-8 not flagged", &[Malformed], zip(std::slice::from_ref(&named)));
    all.good_zip(43, "UTF-8 flagged", zip(&[named.both(|h| h.flags = 1 << 11)]), &DATA);
    let second = [&0x7075u16.to_le_bytes()[..], &[6, 0, 1, 0, 0, 0, 0, b'y']].concat();
    all.bad_zip(
        43,
        "a second name",
        &[Unsupported],
        zip(&[x.clone().both(|h| h.extra = second.clone())]),
    );
    all.good_zip(
        43,
        "a folder in the name",
        zip(&[x.clone().both(|h| h.name = b"a/x.npy".to_vec())]),
        &DATA,
    );

    // Written to a pipe: sizes come after the data.
    let (crc, size) = (x.local.crc, array().len() as u32);
    let streamed = |signature: &[u8], size: &[u8]| {
        let descriptor = [signature, &crc.to_le_bytes(), size, size].concat();
        x.clone().both(|h| h.flags = 8).local(|h| (h.crc, h.packed, h.size) = (0, 0, 0)).with(|m| {
            m.descriptor = descriptor.clone();
        })
    };
    let (sig, short, long) = (b"PK\x07\x08", size.to_le_bytes(), u64::from(size).to_le_bytes());
    for (name, member) in [
        ("signed", streamed(sig, &short)),
        ("bare", streamed(b"", &short)),
        ("signed, 64 bits", streamed(sig, &long)),
    ] {
        all.good_zip(44, name, zip(&[member]), &DATA);
    }
    let wrong = (size + 1).to_le_bytes();
    all.bad_zip(44, "wrong sizes", &[Malformed], zip(&[streamed(sig, &wrong)]));
    all.bad_zip(
        44,
        "no descriptor",
        &[Malformed],
        zip(&[streamed(sig, &short).with(|m| m.descriptor.clear())]),
    );
    all.bad_zip(
        44,
        "sizes 0 without the flag",
        &[Malformed],
        zip(&[streamed(sig, &short).both(|h| h.flags = 0)]),
    );
    all.bad_zip(
        45,
        "a symbolic link",
        &[Outside],
        zip(&[x.clone().with(|m| m.attributes = 0o120_777 << 16)]),
    );
    for name in ["x.txt", "x", "x.npy.bak", "x.NPY"] {
        let named = x.clone().both(|h| h.name = name.as_bytes().to_vec());
        all.bad_zip(47, name, &[Unsupported], zip(&[named]));
    }
}

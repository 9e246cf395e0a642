//! The 47 groups of hostile safetensors files.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::symlink;
use std::process::Command;

use lazul_io::ErrorKind::{self, *};

use super::build::{one, st, tensor};
use super::runner::{Case, Expect, Loader, case};

pub(crate) fn cases() -> Vec<Case> {
    let mut all = Table::default();
    lengths(&mut all);
    json(&mut all);
    tensors(&mut all);
    layout(&mut all);
    oddities(&mut all);
    places(&mut all);
    all.cases
}

#[derive(Default)]
struct Table {
    cases: Vec<Case>,
}

impl Table {
    fn bad(&mut self, group: u8, name: &str, kind: ErrorKind, bytes: Vec<u8>) {
        let expect = Expect::Reject(vec![kind]);
        self.cases.push(case(Loader::SafeTensors, group, name, expect, bytes));
    }

    fn good(&mut self, group: u8, name: &str, bytes: Vec<u8>, data: &[u8]) {
        let expect = Expect::Accept(data.to_vec());
        self.cases.push(case(Loader::SafeTensors, group, name, expect, bytes));
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
            loader: Loader::SafeTensors,
            expect: Expect::Reject(vec![kind]),
            build: Box::new(build),
        });
    }
}

const DATA: [u8; 16] = [7; 16];

fn lengths(all: &mut Table) {
    all.bad(1, "empty", Truncated, vec![]);
    for size in 1..=7 {
        all.bad(2, &format!("{size} bytes"), Truncated, vec![0; size]);
    }
    all.bad(3, "length 0", Malformed, vec![0; 8]);
    all.bad(4, "length 1", Malformed, st("{", &[]));
    let mut longer = st(one("[4]", "[0,16]"), &DATA);
    let size = longer.len() as u64;
    longer[..8].copy_from_slice(&(size - 8 + 1).to_le_bytes());
    all.bad(5, "header one byte past the file", Truncated, longer.clone());
    for length in [1u64 << 63, u64::MAX, u64::MAX - 7, u64::MAX - 8] {
        longer[..8].copy_from_slice(&length.to_le_bytes());
        all.bad(6, &format!("length {length}"), Limit, longer.clone());
    }
    longer[..8].copy_from_slice(&100_000_001u64.to_le_bytes());
    all.bad(7, "length 100,000,001 of a short file", Limit, longer);
    all.place(7, "length 100,000,001 of a long file", Limit, |path| {
        let mut file = File::create(path).unwrap();
        file.write_all(&100_000_001u64.to_le_bytes()).unwrap();
        file.set_len(100_000_009).unwrap();
    });
}

fn json(all: &mut Table) {
    for (name, bytes) in [
        ("lone 0xff", &b"\xff"[..]),
        ("overlong", b"\xc0\x80"),
        ("surrogate half", b"\xed\xa0\x80"),
        ("cut sequence", b"\xe2\x82"),
    ] {
        let header =
            [b"{\"", bytes, b"\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}"];
        all.bad(8, name, Malformed, st(header.concat(), &[]));
    }
    all.bad(9, "space first", Malformed, st(" {}", &[]));
    all.bad(9, "byte-order mark", Malformed, st("\u{feff}{}", &[]));
    for top in ["[]", "null", "5", "\"x\"", "true"] {
        all.bad(10, top, Malformed, st(top, &[]));
    }
    for text in ["{", "{\"a\"", "{\"a\":{\"dtype\":\"F32\"", "{\"a\":{}", "{}}", "{},"] {
        all.bad(11, text, Malformed, st(text, &[]));
    }
    for open in ["[", "{\"x\":"] {
        let deep = format!("{{\"a\":{{\"x\":{}", open.repeat(100_000));
        all.bad(12, &format!("deep {open}"), Limit, st(deep, &[]));
    }
    let a = tensor("a", "U8", "[0]", "[0,0]");
    let escaped = tensor("\\u0061", "U8", "[0]", "[0,0]");
    all.bad(13, "twice", Malformed, st(format!("{{{a},{a}}}"), &[]));
    all.bad(13, "twice by an escape", Malformed, st(format!("{{{a},{escaped}}}"), &[]));
    for key in ["\"dtype\":\"F32\"", "\"shape\":[4]", "\"data_offsets\":[0,16]", "\"x\":1,\"x\":1"]
    {
        let inner = one("[4]", "[0,16]").replace("\"dtype\"", &format!("{key},\"dtype\""));
        all.bad(14, key, Malformed, st(inner, &DATA));
    }
    for key in ["dtype", "shape", "data_offsets"] {
        let inner = one("[4]", "[0,16]").replace(key, "other");
        all.bad(14, &format!("no {key}"), Malformed, st(inner, &DATA));
    }
    for dtype in ["F128", "f32", "", "F32 ", "F32\\u0000"] {
        let header = format!("{{{}}}", tensor("a", dtype, "[4]", "[0,16]"));
        all.bad(15, &format!("dtype {dtype:?}"), Unsupported, st(header, &DATA));
    }
    for dtype in ["5", "null", "[\"F32\"]", "{}"] {
        let header = one("[4]", "[0,16]").replace("\"F32\"", dtype);
        all.bad(16, &format!("dtype {dtype}"), Malformed, st(header, &DATA));
    }
    for value in ["1", "null", "[]", "{}", "true"] {
        let header = format!("{{\"__metadata__\":{{\"k\":{value}}}}}");
        all.bad(32, &format!("metadata value {value}"), Malformed, st(header, &[]));
    }
    for value in ["[]", "\"x\"", "5"] {
        all.bad(
            33,
            &format!("metadata {value}"),
            Malformed,
            st(format!("{{\"__metadata__\":{value}}}"), &[]),
        );
    }
    all.bad(34, "two", Malformed, st("{\"__metadata__\":{},\"__metadata__\":{}}", &[]));
    all.bad(34, "null and one", Malformed, st("{\"__metadata__\":null,\"__metadata__\":{}}", &[]));
    all.bad(34, "one key twice", Malformed, st("{\"__metadata__\":{\"k\":\"\",\"k\":\"\"}}", &[]));
    all.bad(43, "NUL after the object", Malformed, st("{}\0\0\0\0\0\0", &[]));
    all.bad(43, "NUL before", Malformed, st("\0{}", &[]));
}

fn tensors(all: &mut Table) {
    for shape in ["[-1]", "[-0]", "[4,-1]"] {
        all.bad(17, shape, Malformed, st(one(shape, "[0,16]"), &DATA));
    }
    for shape in
        ["[4.0]", "[4e0]", "[\"4\"]", "[null]", "[true]", "[[4]]", "4", "null", "{}", "\"4\""]
    {
        all.bad(18, shape, Malformed, st(one(shape, "[0,16]"), &DATA));
    }
    for shape in ["[18446744073709551616]", "[99999999999999999999999999]"] {
        all.bad(19, shape, Malformed, st(one(shape, "[0,16]"), &DATA));
    }
    for shape in ["[4294967296,4294967296]", "[9223372036854775808,2]", "[4294967296,4294967297]"] {
        all.bad(20, shape, Limit, st(one(shape, "[0,16]"), &DATA));
    }
    for shape in ["[4611686018427387904]", "[2305843009213693952]", "[18446744073709551615]"] {
        all.bad(21, shape, Limit, st(one(shape, "[0,0]"), &[]));
    }
    for (dtype, shape, offsets) in [
        ("F4", "[3]", "[0,2]"),
        ("F4", "[1]", "[0,1]"),
        ("F6_E2M3", "[3]", "[0,3]"),
        ("F4", "[3]", "[0,1]"),
    ] {
        let header = format!("{{{}}}", tensor("a", dtype, shape, offsets));
        let size = offsets.as_bytes()[3] - b'0';
        let name = format!("{dtype} {shape} {offsets}");
        all.bad(22, &name, Malformed, st(header, &DATA[..usize::from(size)]));
    }
    all.bad(
        36,
        "a million ones",
        Limit,
        st(one(&format!("[{}1]", "1,".repeat(999_999)), "[0,4]"), &[0; 4]),
    );
    for shape in ["[0,9223372036854775808]", "[9223372036854775808,0]", "[0,4294967296,4294967296]"]
    {
        all.bad(39, shape, Limit, st(one(shape, "[0,0]"), &[]));
    }
    let long = "n".repeat(8 << 20);
    let header = format!("{{{}}}", tensor(&long, "U8", "[0]", "[0,0]"));
    all.bad(42, "a name of 8 MiB", Limit, st(header, &[]));
}

fn layout(all: &mut Table) {
    for offsets in ["[0]", "[]", "[0,16,16]", "{}", "null", "16", "[[0,16]]"] {
        all.bad(23, offsets, Malformed, st(one("[4]", offsets), &DATA));
    }
    all.bad(24, "begin after end", Malformed, st(one("[4]", "[16,0]"), &DATA));
    for offsets in ["[-16,0]", "[-0,16]", "[0,-16]"] {
        all.bad(25, offsets, Malformed, st(one("[4]", offsets), &DATA));
    }
    all.bad(26, "one byte missing", Truncated, st(one("[4]", "[0,16]"), &DATA[..15]));
    all.bad(26, "no data", Truncated, st(one("[4]", "[0,16]"), &[]));
    all.bad(
        26,
        "far away",
        Malformed,
        st(one("[4]", "[18446744073709551599,18446744073709551615]"), &DATA),
    );
    for (shape, offsets) in [
        ("[3]", "[0,16]"),
        ("[5]", "[0,16]"),
        ("[]", "[0,16]"),
        ("[4]", "[0,15]"),
        ("[0]", "[0,16]"),
    ] {
        all.bad(27, &format!("{shape} {offsets}"), Malformed, st(one(shape, offsets), &DATA));
    }
    let two = |first: &str, second: &str| {
        let (a, b) = (tensor("a", "F32", "[2]", first), tensor("b", "F32", "[2]", second));
        format!("{{{a},{b}}}")
    };
    all.bad(28, "partly", Malformed, st(two("[0,8]", "[4,12]"), &DATA[..12]));
    all.bad(28, "wholly", Malformed, st(two("[0,8]", "[0,8]"), &DATA[..8]));
    all.bad(29, "between", Malformed, st(two("[0,8]", "[12,20]"), &[0; 20]));
    all.bad(30, "one byte", Malformed, st(one("[4]", "[0,16]"), &[0; 17]));
    let polyglot = [&DATA[..], &super::build::zip(&[])].concat();
    all.bad(30, "a ZIP archive", Malformed, st(one("[4]", "[0,16]"), &polyglot));
    all.bad(30, "no tensor owns it", Malformed, st("{}", &[0; 4]));
    all.bad(31, "not at 0", Malformed, st(one("[2]", "[8,16]"), &DATA));
    let many: Vec<String> =
        (0..1_000_000).map(|i| tensor(&format!("{i}"), "U8", "[0]", "[0,0]")).collect();
    all.bad(35, "a million empty tensors", Limit, st(format!("{{{}}}", many.join(",")), &[]));
}

fn oddities(all: &mut Table) {
    let shared = format!(
        "{{{},{},{},{}}}",
        tensor("a", "U8", "[0]", "[0,0]"),
        tensor("b", "F32", "[4]", "[0,16]"),
        tensor("c", "U8", "[0]", "[16,16]"),
        tensor("d", "U8", "[2,0,3]", "[16,16]")
    );
    all.good(37, "empty tensors at both ends", st(shared, &DATA), &DATA);
    all.good(38, "rank 0", st(one("[]", "[0,4]"), &DATA[..4]), &DATA[..4]);
    all.good(40, "spaces after", st(format!("{}     ", one("[4]", "[0,16]")), &DATA), &DATA);
    all.good(40, "spaces inside", st(one("[ 4 ]", "[ 0 ,\n16 ]"), &DATA), &DATA);
    for name in ["\\u0000", "\\n", "../x", "/etc/passwd", "", "ü", "\\ud83d\\ude00"] {
        let header = format!("{{{}}}", tensor(name, "F32", "[4]", "[0,16]"));
        all.good(41, &format!("name {name}"), st(header, &DATA), &DATA);
    }
    all.good(41, "no tensors", st("{}", &[]), &[]);
    all.good(41, "null metadata, as MLX", st("{\"__metadata__\":null}", &[]), &[]);
    let signalling = [
        0x7fa0_0001u32.to_le_bytes(),
        0xffc1_2345u32.to_le_bytes(),
        0x7f80_0000u32.to_le_bytes(),
        0x8000_0001u32.to_le_bytes(),
    ]
    .concat();
    all.good(46, "NaN payloads", st(one("[4]", "[0,16]"), &signalling), &signalling);
    for dtype in ["BF16", "F16"] {
        let header = format!("{{{}}}", tensor("a", dtype, "[8]", "[0,16]"));
        all.good(46, &format!("NaN payloads of {dtype}"), st(header, &signalling), &signalling);
    }
    for pad in 0..8 {
        let header = format!("{}{}", one("[4]", "[0,16]"), " ".repeat(pad));
        all.good(47, &format!("data at {pad} mod 8"), st(header, &DATA), &DATA);
    }
    let odd =
        format!("{{{},{}}}", tensor("a", "U8", "[1]", "[0,1]"), tensor("b", "F64", "[1]", "[1,9]"));
    all.good(47, "a double at byte 1", st(odd, &DATA[..9]), &DATA[..9]);
}

fn places(all: &mut Table) {
    all.cases.push(case(
        Loader::SafeTensorsCut,
        44,
        "cut after it was opened",
        Expect::Reject(vec![]),
        st(one("[4]", "[0,16]"), &DATA),
    ));
    all.place(45, "a FIFO", Outside, |path| {
        assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
    });
    all.place(45, "a folder", Outside, |path| fs::create_dir(path).unwrap());
    all.place(45, "a device", Outside, |path| symlink("/dev/zero", path).unwrap());
    all.place(45, "a loop of links", Io, |path| symlink(path, path).unwrap());
    all.place(45, "a link to nothing", NotFound, |path| symlink("nothing", path).unwrap());
    all.place(45, "/proc/self/mem", Truncated, |path| symlink("/proc/self/mem", path).unwrap());
}

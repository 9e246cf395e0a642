//! `docs/src/parity.md` against the sources: every name of MLX is there once, and what the page says
//! we have, we have, with a test.
//!
//! Public items are found by reading the sources as rustfmt leaves them: an item that belongs to no type
//! begins its line, methods stand four spaces in within an `impl`, and the macros that make methods have
//! rows that begin with the methods' names.

use lazul_testkit::{Golden, Report};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The Rust files below a folder.
fn sources(folder: &Path, out: &mut Vec<PathBuf>) {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    for path in entries.map(|e| e.expect("an entry").path()) {
        if path.is_dir() {
            sources(&path, out);
        } else if path.extension().is_some_and(|e| e == "rs") {
            out.push(path);
        }
    }
}

/// One public item: where it is, and whether its documentation has an example.
struct Item {
    /// Folders and stem of the file, and the type that it is a method of.
    owners: BTreeSet<String>,
    example: bool,
}

/// Public items of a crate, by name, and the names that its root exports.
struct Crate {
    items: BTreeMap<String, Vec<Item>>,
    root: BTreeSet<String>,
}

/// The word that a line begins with.
fn word(text: &str) -> &str {
    text.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or("")
}

/// What follows the first of `starts` that the line begins with.
fn after<'a>(line: &'a str, starts: &[&str]) -> Option<&'a str> {
    starts.iter().find_map(|s| line.strip_prefix(s))
}

const ITEMS: [&str; 10] = [
    "pub fn ",
    "pub const fn ",
    "pub unsafe fn ",
    "pub struct ",
    "pub enum ",
    "pub const ",
    "pub trait ",
    "pub type ",
    "pub static ",
    "pub mod ",
];

/// Macros that make public functions of their rows, and the type that these are methods of.
const MACROS: [(&str, Option<&str>); 8] = [
    ("unary_methods", Some("Array")),
    ("binary_methods", Some("Array")),
    ("reductions", Some("Array")),
    ("moments", Some("Array")),
    ("scans", Some("Array")),
    ("one", None),
    ("several", None),
    ("exchanges", None),
];

impl Crate {
    fn read(name: &str) -> Crate {
        let folder = repository().join("crates").join(name).join("src");
        let mut files = Vec::new();
        sources(&folder, &mut files);
        let mut items: BTreeMap<String, Vec<Item>> = BTreeMap::new();
        for file in &files {
            let inside = file.strip_prefix(&folder).expect("below the folder").with_extension("");
            let place: BTreeSet<String> =
                inside.iter().map(|part| part.to_string_lossy().into_owned()).collect();
            let (mut owner, mut example, mut rows) = (None, false, None);
            for line in read(file).lines() {
                let text = line.trim_start();
                if text.starts_with("///") || text.starts_with("#[") {
                    example |= text.contains("```");
                    continue;
                }
                let mut add = |name: &str, owner: Option<&str>| {
                    let owners = match owner {
                        Some(owner) => BTreeSet::from([owner.to_string()]),
                        None => place.clone(),
                    };
                    items.entry(name.to_string()).or_default().push(Item { owners, example });
                };
                if line.starts_with("impl") {
                    let head = line.rsplit(" for ").next().unwrap_or(line);
                    let head = head.strip_prefix("impl ").unwrap_or(head);
                    owner = Some(word(head).to_string());
                } else if line.starts_with('}') {
                    (owner, rows) = (None, None);
                } else if let Some(made) = line.strip_suffix("! {") {
                    rows = MACROS.iter().find(|(name, _)| *name == made).map(|(_, owner)| *owner);
                } else if let Some(rest) = after(line, &ITEMS) {
                    add(word(rest), None);
                } else if let (Some(rest), Some(owner)) =
                    (after(text, &["pub fn ", "pub const fn "]), &owner)
                {
                    add(word(rest), Some(owner));
                } else if let (Some(owner), true) = (rows, text.ends_with(';')) {
                    let names = text.split_whitespace().take_while(|w| {
                        w.starts_with(|c: char| c.is_ascii_lowercase()) && *w == word(w)
                    });
                    names.for_each(|name| add(name, owner));
                }
                example = false;
            }
        }
        let lib = read(&folder.join("lib.rs"));
        let exported = lib.split("pub use ").skip(1).filter_map(|part| part.split(';').next());
        let root = exported
            .flat_map(|part| part.split(|c: char| !c.is_alphanumeric() && c != '_'))
            .map(str::to_string)
            .collect();
        Crate { items, root }
    }

    /// The items that a path names.
    fn find(&self, path: &str) -> Vec<&Item> {
        let parts: Vec<&str> = path.split("::").collect();
        let (name, owners) = parts.split_last().expect("a name");
        let named = self.items.get(*name).map_or(&[][..], Vec::as_slice);
        if owners.is_empty() {
            return if self.root.contains(*name) { named.iter().collect() } else { Vec::new() };
        }
        named.iter().filter(|item| owners.iter().all(|o| item.owners.contains(*o))).collect()
    }
}

/// Cells of the rows of a section's table.
fn rows(page: &str, section: &str) -> Vec<Vec<String>> {
    let start = page.find(&format!("\n## {section}\n")).unwrap_or_else(|| panic!("no {section}"));
    let text = &page[start + 4..];
    let text = &text[..text.find("\n## ").unwrap_or(text.len())];
    let table = text.lines().filter(|l| l.starts_with('|')).skip(2);
    table
        .map(|line| {
            // A bar within a cell is written with a backslash.
            let line = line.replace("\\|", "\u{1}");
            let cells = line.trim_matches('|').split('|');
            cells.map(|c| c.trim().trim_matches('`').replace('\u{1}', "|")).collect()
        })
        .collect()
}

struct Sources {
    ir: Crate,
    core: Crate,
    io: Crate,
    /// Operations in golden files, by file.
    golden: BTreeMap<&'static str, BTreeSet<String>>,
}

impl Sources {
    fn read() -> Sources {
        let files = [
            ("golden_ops", "ops", "op"),
            ("golden_functions", "functions", "fn"),
            ("golden_random", "random", "fn"),
            ("golden_quantized", "quantized", "fn"),
            ("golden_fft", "fft", "fn"),
            ("golden_linalg", "linalg", "fn"),
        ];
        let golden = files.into_iter().map(|(test, file, key)| {
            let cases = Golden::load(file).cases;
            (test, cases.iter().map(|c| c.str(key).to_string()).collect())
        });
        let golden = golden.collect();
        let (ir, core) = (Crate::read("ir"), Crate::read("core"));
        Sources { ir, core, io: Crate::read("io"), golden }
    }

    fn find(&self, path: &str) -> Vec<&Item> {
        match path.strip_prefix("lazul_io::") {
            Some(path) => self.io.find(path),
            None if path.starts_with("DType") => {
                // The vocabulary's own, exported by the core.
                let (outer, name) = path.split_once("::").unwrap_or((path, path));
                let named = self.ir.items.get(name).map_or(&[][..], Vec::as_slice);
                let ours = |i: &&Item| outer == name || i.owners.contains(outer);
                named.iter().filter(ours).collect()
            }
            None => self.core.find(path),
        }
    }

    /// Whether there is an item, with the test that a row names.
    fn check(&self, path: &str, test: &str) -> Result<(), String> {
        let items = self.find(path);
        if items.is_empty() {
            return Err(format!("there is no {path}"));
        }
        if test == "doctest" {
            let example = items.iter().any(|i| i.example);
            return if example { Ok(()) } else { Err(format!("{path} has no example")) };
        }
        if let Some((file, op)) = test.split_once(": ") {
            let there = self.golden.get(file).is_some_and(|ops| ops.contains(op));
            return if there { Ok(()) } else { Err(format!("{file} has no {op}")) };
        }
        let (file, function) = match test.split_once("::") {
            Some((file, function)) => (format!("crates/{file}"), Some(function)),
            None => (format!("crates/testkit/tests/{test}.rs"), None),
        };
        let text = std::fs::read_to_string(repository().join(&file))
            .map_err(|e| format!("{file}: {e}"))?;
        let there = match function {
            Some(function) => text.contains(&format!("fn {function}(")),
            None => text.contains("#[test]"),
        };
        if there { Ok(()) } else { Err(format!("{file} has no test {function:?}")) }
    }
}

#[test]
fn the_page_names_what_is_there() {
    let page = read(&repository().join("docs/src/parity.md"));
    let names = read(&repository().join("crates/testkit/golden/mlx-names.txt"));
    let sources = Sources::read();
    let mut report = Report::new();
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for (section, columns) in [("Offered", 4), ("Not offered", 2)] {
        for row in rows(&page, section) {
            let name = row[0].clone();
            *seen.entry(name.clone()).or_default() += 1;
            let outcome = match (&row[..], section) {
                _ if row.len() != columns => Err(format!("{} columns", row.len())),
                ([_, path, _, test], "Offered") => sources.check(path, test),
                ([_, why], _) if why.len() < 10 => Err("says no reason".to_string()),
                _ => Ok(()),
            };
            report.case(format!("{section}: {name}"), outcome);
        }
    }
    for row in rows(&page, "Beyond MLX") {
        report.case(&row[0], sources.check(&row[0], &row[2]));
    }
    for name in names.lines() {
        let times = seen.remove(name).unwrap_or(0);
        report.expect(name, times == 1, || format!("stands {times} times on the page"));
    }
    for name in seen.keys() {
        report.case(name, Err("is no name of MLX"));
    }
    report.finish();
}

/// The page's test itself: what is not there is not found.
#[test]
fn what_is_not_there_is_not_found() {
    let sources = Sources::read();
    let there =
        ["Array::sum", "Array::abs", "concatenate", "random::normal", "At::set", "DType::size"];
    for path in there {
        assert!(!sources.find(path).is_empty(), "{path}");
    }
    for path in ["Array::summ", "At::sum", "normal", "random::zeros", "lazul_io::zeros", "DType::x"]
    {
        assert!(sources.find(path).is_empty(), "{path}");
    }
    assert!(sources.check("Array::sum", "golden_ops: sum").is_ok());
    for test in
        ["golden_ops: summ", "golden_opps: sum", "testkit/tests/graph.rs::nothing", "no_file"]
    {
        assert!(sources.check("Array::sum", test).is_err(), "{test}");
    }
    assert!(sources.check("DeviceKind", "doctest").is_err());
}

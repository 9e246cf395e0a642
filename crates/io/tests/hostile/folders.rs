//! Hostile model folders. Repository names, revisions and downloads (groups 3 to 5) are tested
//! beside the hub client; what a configuration means (the rest of 6 to 9) beside the models.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use lazul_io::ErrorKind::{self, *};

use super::build::{one, st};
use super::runner::{Case, Expect, Loader};

const DATA: [u8; 16] = [5; 16];

#[derive(Default)]
struct Table {
    cases: Vec<Case>,
}

impl Table {
    fn add(&mut self, group: u8, name: &str, expect: Expect, build: impl Fn(&Path) + 'static) {
        let (name, loader) = (name.to_owned(), Loader::Folder);
        self.cases.push(Case { group, name, loader, expect, build: Box::new(build) });
    }

    fn bad(&mut self, group: u8, name: &str, kind: ErrorKind, build: impl Fn(&Path) + 'static) {
        self.add(group, name, Expect::Reject(vec![kind]), build);
    }

    fn good(&mut self, group: u8, name: &str, build: impl Fn(&Path) + 'static) {
        self.add(group, name, Expect::Accept(DATA.to_vec()), build);
    }
}

fn weights() -> Vec<u8> {
    st(one("[4]", "[0,16]"), &DATA)
}

/// A sound folder, but for its weights.
fn folder(path: &Path) {
    fs::create_dir_all(path).unwrap();
    fs::write(path.join("config.json"), "{\"model_type\":\"x\"}").unwrap();
}

/// A folder whose index names `file` as the shard of the one tensor.
fn index(path: &Path, file: &str) {
    folder(path);
    let text = serde_json::json!({"metadata": {}, "weight_map": {"a": file}});
    fs::write(path.join("model.safetensors.index.json"), text.to_string()).unwrap();
}

pub(crate) fn cases() -> Vec<Case> {
    let mut all = Table::default();
    weight_maps(&mut all);
    caches(&mut all);
    configurations(&mut all);
    all.cases
}

fn weight_maps(all: &mut Table) {
    for name in [
        "../secret.safetensors",
        "/etc/passwd",
        "",
        ".",
        "..",
        "a\0.safetensors",
        "a\\b.safetensors",
        "https://example.com/x.safetensors",
        "sub/x.safetensors",
        "a\n.safetensors",
        "./a.safetensors",
    ] {
        all.bad(1, &format!("{name:?}"), Outside, move |path| {
            fs::write(path.with_file_name("secret.safetensors"), weights()).unwrap();
            index(path, name);
        });
    }
    all.bad(1, "a name of 10 KiB", Outside, |path| index(path, &"n".repeat(10 << 10)));
    all.bad(1, "not a shard", Malformed, |path| index(path, "config.json"));
    all.bad(1, "missing shard", NotFound, |path| index(path, "x.safetensors"));
    all.good(1, "one shard", |path| {
        index(path, "x.safetensors");
        fs::write(path.join("x.safetensors"), weights()).unwrap();
    });
    all.bad(1, "a FIFO", Outside, |path| {
        index(path, "x.safetensors");
        let made = Command::new("mkfifo").arg(path.join("x.safetensors")).status();
        assert!(made.unwrap().success());
    });
    all.bad(1, "a folder", Outside, |path| {
        index(path, "x.safetensors");
        fs::create_dir(path.join("x.safetensors")).unwrap();
    });
    for (name, target) in [
        ("a device", "/dev/zero"),
        ("a link out", "../secret"),
        ("a link to /proc", "/proc/self/environ"),
        ("a link to a link out", "y"),
    ] {
        all.bad(1, name, Outside, move |path| {
            index(path, "x.safetensors");
            fs::write(path.with_file_name("secret"), weights()).unwrap();
            symlink("../secret", path.join("y")).unwrap();
            symlink(target, path.join("x.safetensors")).unwrap();
        });
    }
    all.good(1, "a link inside", |path| {
        index(path, "x.safetensors");
        fs::write(path.join("real"), weights()).unwrap();
        symlink("real", path.join("x.safetensors")).unwrap();
    });
    // A hard link is the file itself; a foreign file fails for what it holds.
    all.bad(1, "a hard link to something else", Truncated, |path| {
        index(path, "x.safetensors");
        fs::write(path.with_file_name("secret"), "pwd").unwrap();
        fs::hard_link(path.with_file_name("secret"), path.join("x.safetensors")).unwrap();
    });
    all.bad(1, "shard without the tensor", Missing, |path| {
        index(path, "x.safetensors");
        fs::write(path.join("x.safetensors"), st("{}", &[])).unwrap();
    });
    all.bad(1, "tensor in two shards", Malformed, |path| {
        folder(path);
        for shard in ["model-1.safetensors", "model-2.safetensors"] {
            fs::write(path.join(shard), weights()).unwrap();
        }
    });
    for (name, text) in [
        ("no map", "{}"),
        ("empty map", "{\"weight_map\":{}}"),
        ("map of numbers", "{\"weight_map\":{\"a\":1}}"),
        ("map is a list", "{\"weight_map\":[]}"),
        ("tensor twice", "{\"weight_map\":{\"a\":\"x.safetensors\",\"a\":\"x.safetensors\"}}"),
        ("two maps", "{\"weight_map\":{\"a\":\"x.safetensors\"},\"weight_map\":{}}"),
        ("NaN", "{\"metadata\":{\"total_size\":NaN},\"weight_map\":{\"a\":\"x.safetensors\"}}"),
        ("cut", "{\"weight_map\":{\"a\":\"x.safetensors\""),
    ] {
        all.bad(1, name, Malformed, move |path| {
            folder(path);
            fs::write(path.join("x.safetensors"), weights()).unwrap();
            fs::write(path.join("model.safetensors.index.json"), text).unwrap();
        });
    }
    all.bad(1, "a million entries", Limit, |path| {
        folder(path);
        let map: Vec<String> =
            (0..1_000_000).map(|i| format!("\"{i}\":\"x.safetensors\"")).collect();
        let text = format!("{{\"weight_map\":{{{}}}}}", map.join(","));
        fs::write(path.join("model.safetensors.index.json"), text).unwrap();
    });
    all.bad(1, "a shard of the set is missing", Missing, |path| {
        folder(path);
        fs::write(path.join("model-00002-of-00002.safetensors"), weights()).unwrap();
    });
    all.bad(1, "no weights", Missing, folder);
}

fn caches(all: &mut Table) {
    /// A snapshot at `path`, its weights a link to `target`.
    fn snapshot(path: &Path, target: &str) {
        let cache = path.with_file_name("cache");
        let repo = cache.join("models--org--x");
        for blobs in [repo.join("blobs"), cache.join("models--org--y/blobs")] {
            fs::create_dir_all(&blobs).unwrap();
            fs::write(blobs.join("w"), weights()).unwrap();
        }
        fs::create_dir_all(repo.join("snapshots/other")).unwrap();
        fs::write(repo.join("snapshots/other/w"), weights()).unwrap();
        fs::write(path.with_file_name("secret"), weights()).unwrap();
        let inside = repo.join("snapshots/0123");
        folder(&inside);
        symlink(target, inside.join("model.safetensors")).unwrap();
        symlink(inside, path).unwrap();
    }
    all.good(2, "a link into the repository's blobs", |path| snapshot(path, "../../blobs/w"));
    for target in [
        "../../../models--org--y/blobs/w",
        "../other/w",
        "../../../../secret",
        "../../blobs/../../../secret",
    ] {
        all.bad(2, target, Outside, move |path| snapshot(path, target));
    }
    all.bad(2, "blobs is a link out", Outside, |path| {
        snapshot(path, "../../blobs/secret");
        let repo = path.with_file_name("cache").join("models--org--x");
        fs::remove_dir_all(repo.join("blobs")).unwrap();
        symlink("../..", repo.join("blobs")).unwrap();
    });
    all.bad(4, "blobs outside of a cache", Outside, |path| {
        let inside = path.with_file_name("plain").join("snapshots/0123");
        folder(&inside);
        fs::create_dir_all(path.with_file_name("plain").join("blobs")).unwrap();
        fs::write(path.with_file_name("plain").join("blobs/w"), weights()).unwrap();
        symlink("../../blobs/w", inside.join("model.safetensors")).unwrap();
        symlink(inside, path).unwrap();
    });
    all.cases.push(Case {
        group: 10,
        name: "weights exchanged for a link after the folder was opened".to_owned(),
        loader: Loader::FolderSwap,
        expect: Expect::Reject(vec![Outside]),
        build: Box::new(|path| {
            folder(path);
            fs::write(path.join("model.safetensors"), weights()).unwrap();
        }),
    });
}

fn configurations(all: &mut Table) {
    fn with(path: &Path, file: &str, text: &str) {
        folder(path);
        fs::write(path.join("model.safetensors"), weights()).unwrap();
        fs::write(path.join(file), text).unwrap();
    }
    for (group, file) in [(6, "config.json"), (7, "generation_config.json")] {
        all.bad(group, "deep", Limit, move |path| with(path, file, &"{\"a\":".repeat(100_000)));
        all.bad(group, "deep lists", Limit, move |path| with(path, file, &"[".repeat(100_000)));
        for (name, text) in [
            ("repeated key", "{\"a\":1,\"a\":2}"),
            ("repeated inner key", "{\"a\":{\"b\":1,\"b\":2}}"),
            ("cut", "{\"a\":"),
            ("empty", ""),
            ("half a NaN", "{\"a\":Na}"),
            ("huge number", "{\"a\":1e400}"),
            ("not UTF-8", "{\"a\":\"\u{fffd}\"}\u{0}"),
            ("a comment", "{} // x"),
        ] {
            all.bad(group, name, Malformed, move |path| with(path, file, text));
        }
        all.good(group, "numbers that JSON lacks", move |path| {
            with(path, file, "{\"a\":[NaN,-Infinity,{\"__float__\":\"Infinity\"}]}");
        });
    }
    all.bad(6, "a list", Malformed, |path| with(path, "config.json", "[]"));
    all.bad(6, "17 MiB", Limit, |path| with(path, "config.json", &" ".repeat(17 << 20)));
    all.bad(6, "no configuration", NotFound, |path| fs::create_dir(path).unwrap());
    all.bad(6, "a FIFO", Outside, |path| {
        fs::create_dir(path).unwrap();
        let made = Command::new("mkfifo").arg(path.join("config.json")).status();
        assert!(made.unwrap().success());
    });
    all.good(6, "code, which does not run", |path| {
        with(path, "config.json", "{\"auto_map\":{\"AutoModel\":\"m.M\"},\"model_file\":\"m.py\"}");
        fs::write(path.join("m.py"), "open('/tmp/ran', 'w')").unwrap();
    });
    all.bad(8, "an adapter in place of a model", NotFound, |path| {
        fs::create_dir(path).unwrap();
        fs::write(path.join("adapter_config.json"), "{\"rank\":0}").unwrap();
    });
}

//! Names that become paths: repositories, revisions, files, hashes.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, ErrorKind, Result};
use crate::root::{check_name, is_reserved_on_windows};

/// What a repository holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum RepoKind {
    /// A model.
    #[default]
    Model,
    /// A data set.
    Dataset,
}

impl RepoKind {
    /// The word in URLs and in the names of cache folders.
    pub(super) fn plural(self) -> &'static str {
        match self {
            RepoKind::Model => "models",
            RepoKind::Dataset => "datasets",
        }
    }
}

/// The validated name of a repository: `ORG/NAME`, or `NAME` alone for a few old ones.
///
/// ```
/// use lazul_io::hub::RepoId;
/// assert!("mlx-community/Qwen3-0.6B-4bit".parse::<RepoId>().is_ok());
/// assert!("../../etc".parse::<RepoId>().is_err());
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RepoId {
    kind: RepoKind,
    id: String,
}

impl RepoId {
    /// The same name among the data sets, which are apart from the models on the hub and in the
    /// cache.
    ///
    /// ```
    /// use lazul_io::hub::{RepoId, RepoKind};
    /// let repo = "org/corpus".parse::<RepoId>()?.dataset();
    /// assert_eq!((repo.kind(), repo.as_str()), (RepoKind::Dataset, "org/corpus"));
    /// # Ok::<(), lazul_io::Error>(())
    /// ```
    #[must_use]
    pub fn dataset(self) -> RepoId {
        RepoId { kind: RepoKind::Dataset, ..self }
    }

    /// What it holds: a model, unless [`dataset`](Self::dataset) was called.
    ///
    /// ```
    /// use lazul_io::hub::{RepoId, RepoKind};
    /// assert_eq!("org/tiny".parse::<RepoId>()?.kind(), RepoKind::Model);
    /// # Ok::<(), lazul_io::Error>(())
    /// ```
    pub fn kind(&self) -> RepoKind {
        self.kind
    }

    /// `ORG/NAME`, as it was parsed.
    ///
    /// ```
    /// use lazul_io::hub::RepoId;
    /// assert_eq!("org/tiny".parse::<RepoId>()?.as_str(), "org/tiny");
    /// # Ok::<(), lazul_io::Error>(())
    /// ```
    pub fn as_str(&self) -> &str {
        &self.id
    }

    /// `models--ORG--NAME`.
    pub(super) fn folder(&self) -> String {
        format!("{}--{}", self.kind.plural(), self.id.replace('/', "--"))
    }
}

impl fmt::Display for RepoId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.id)
    }
}

impl FromStr for RepoId {
    type Err = Error;

    fn from_str(id: &str) -> Result<RepoId> {
        let bad = |why: &str| {
            let what = format!("{id:?} is not the name of a repository: {why}");
            Err(Error::new(ErrorKind::Argument, what))
        };
        if id.is_empty() || id.len() > 96 {
            return bad("it must have 1 to 96 characters");
        }
        if id.split('/').count() > 2 {
            return bad("it must be ORG/NAME");
        }
        if id.contains("--") || id.contains("..") {
            return bad("it may not contain '--' or '..'");
        }
        for part in id.split('/') {
            let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
            let edge = |c: Option<char>| c.is_none_or(|c| matches!(c, '-' | '.'));
            if !part.chars().all(plain) {
                return bad("it may contain letters, digits, '-', '_' and '.'");
            }
            if edge(part.chars().next()) || edge(part.chars().next_back()) {
                return bad("its parts may not begin or end with '-' or '.'");
            }
            if is_reserved_on_windows(part) {
                return bad("a part of it means a device on Windows");
            }
        }
        if id.ends_with(".git") {
            return bad("it may not end with '.git'");
        }
        Ok(RepoId { kind: RepoKind::Model, id: id.to_owned() })
    }
}

/// Checks a branch, tag, pull request or commit.
pub(super) fn check_revision(revision: &str) -> Result<()> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/' | '+');
    let good = check_name(revision).is_ok()
        && revision.len() <= 200
        && revision.chars().all(plain)
        && !revision.contains("..")
        && !revision.split('/').any(|part| part.starts_with(['-', '.']) || part.ends_with(".lock"));
    match good {
        true => Ok(()),
        false => {
            let what = format!("{revision:?} is not the name of a revision");
            Err(Error::new(ErrorKind::Argument, what))
        }
    }
}

/// A full commit hash.
pub(super) fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// A SHA-256 in hexadecimal.
pub(super) fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// Checks a file name from a listing: it becomes a path on any system that shares the cache.
pub(super) fn check_file(file: &str) -> Result<()> {
    check_name(file)?;
    let bad = |step: &str| {
        step.contains([':', '<', '>', '"', '|', '?', '*']) || is_reserved_on_windows(step)
    };
    match file.split('/').any(bad) {
        true => {
            Err(Error::new(ErrorKind::Outside, format!("the file name {file:?} is not portable")))
        }
        false => Ok(()),
    }
}

/// An ETag, without its quotes, as the name of a blob.
pub(super) fn blob_name(etag: &str) -> Result<String> {
    let name = etag.trim().trim_start_matches("W/").trim_matches('"');
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    match name.len() <= 128
        && name.chars().all(plain)
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && !name.ends_with(".incomplete")
    {
        true => Ok(name.to_owned()),
        false => {
            let what = format!("the server sent an unusable ETag {etag:?}");
            Err(Error::new(ErrorKind::Network, what))
        }
    }
}

/// Encodes everything but unreserved characters, and `/` where `slash` says so.
pub(super) fn percent(text: &str, slash: bool) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                out.push(char::from(byte));
            }
            b'/' if slash => out.push('/'),
            byte => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories() {
        for good in ["gpt2", "org/name", "a/b.c_d-e", "meta-llama/Llama-3.2-1B"] {
            assert!(good.parse::<RepoId>().is_ok(), "{good}");
        }
        let long = "a".repeat(10 << 10);
        for bad in [
            "",
            "../../x",
            "a/b/c",
            "a--b",
            "--",
            "/",
            "a/",
            "/a",
            "a\\b",
            "a b",
            "ä/b",
            "а/b",
            ".",
            "..",
            "a/..",
            "-a/b",
            "a/b.git",
            "nul/x",
            "org/COM1",
            "a\0b",
            "https://x/y",
            "org/con.txt",
            &long,
        ] {
            assert!(bad.parse::<RepoId>().is_err(), "{bad}");
        }
        let id: RepoId = "org/name".parse().unwrap();
        assert_eq!(id.folder(), "models--org--name");
        assert_eq!(id.dataset().folder(), "datasets--org--name");
    }

    #[test]
    fn revisions_files_and_etags() {
        for good in ["main", "v1.0", "refs/pr/3", "feature/x", &"0a".repeat(20)] {
            assert!(check_revision(good).is_ok(), "{good}");
        }
        for bad in
            ["", "../..", "/etc", "a//b", "a/../b", "-x", ".x", "a b", "a\nb", "x.lock", "a\\b"]
        {
            assert!(check_revision(bad).is_err(), "{bad}");
        }
        for bad in ["../x", "/x", "a/../b", "C:\\x", "a:b", "nul", "x/aux.json", "a\0", "a*"] {
            assert!(check_file(bad).is_err(), "{bad}");
        }
        assert!(check_file("unet/config.json").is_ok());
        assert_eq!(blob_name("W/\"abc\"").unwrap(), "abc");
        for bad in ["", "\"\"", "../x", "a/b", ".hidden", "x.incomplete", "a b"] {
            assert!(blob_name(bad).is_err(), "{bad}");
        }
        assert_eq!(percent("refs/pr/1", false), "refs%2Fpr%2F1");
        assert_eq!(percent("a b/ü", true), "a%20b/%C3%BC");
    }
}

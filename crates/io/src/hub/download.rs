//! Listings and files from the server into the cache.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use ring::digest::{Context, SHA256};
use ureq::http::{HeaderMap, StatusCode};

use super::cache::RepoCache;
use super::http::{Follow, Reply};
use super::name::{blob_name, check_file, is_commit, is_sha256, percent};
use super::{Hub, RepoId, RepoKind};
use crate::error::{Error, ErrorKind, Result};
use crate::json;
use crate::size::to_u64;

/// Largest listing of a repository.
const MAX_LISTING: u64 = 64 << 20;
/// Most files in a repository that are looked at.
const MAX_FILES: usize = 200_000;
/// Files downloaded at once.
const PARALLEL: usize = 4;

/// The files of a commit.
pub(super) struct Listing {
    pub(super) commit: String,
    pub(super) files: Vec<String>,
}

/// What the hub says about a file before it is downloaded.
struct FileInfo {
    commit: String,
    blob: String,
    size: Option<u64>,
}

/// Why an attempt at a file ended.
enum Attempt {
    Done,
    /// What has arrived is kept; another attempt may bring the rest.
    Again(Error),
    /// The file on the server is not the one that was announced.
    Changed(Error),
}

impl Hub {
    /// Asks for the files of a revision.
    pub(super) fn listing(&self, repo: &RepoId, revision: &str) -> Result<Listing> {
        let path =
            format!("api/{}/{repo}/revision/{}", repo.kind().plural(), percent(revision, false));
        let url = self.http.url(&path);
        let reply = self.http.send("GET", &url, None, Follow::Hub)?;
        if !reply.status.is_success() {
            let what = format!("an unexpected answer (HTTP {})", reply.status.as_u16());
            return Err(Error::new(ErrorKind::Network, what).in_file(url));
        }
        let mut text = Vec::new();
        let limit = MAX_LISTING.saturating_add(1);
        reply
            .into_reader()
            .take(limit)
            .read_to_end(&mut text)
            .map_err(|e| Error::new(ErrorKind::Network, e.to_string()).in_file(&url))?;
        if to_u64(text.len()) > MAX_LISTING {
            return Err(Error::limit("the listing is too long").in_file(url));
        }
        parse_listing(&text).map_err(|e| e.in_file(url))
    }

    fn file_url(&self, repo: &RepoId, revision: &str, file: &str) -> String {
        let kind = match repo.kind() {
            RepoKind::Model => "",
            RepoKind::Dataset => "datasets/",
        };
        let (revision, file) = (percent(revision, false), percent(file, true));
        self.http.url(&format!("{kind}{repo}/resolve/{revision}/{file}"))
    }

    fn info(&self, url: &str, revision: &str) -> Result<FileInfo> {
        let reply = self.http.send("HEAD", url, None, Follow::Hub)?;
        let header = |name: &str| text(&reply.hub_headers, name);
        let wrong = |what: &str| Error::new(ErrorKind::Network, what).in_file(url);
        let commit = header("x-repo-commit").map(str::to_owned);
        let commit = commit.or_else(|| is_commit(revision).then(|| revision.to_owned()));
        let commit = commit.filter(|commit| is_commit(commit));
        let commit = commit.ok_or_else(|| wrong("the server does not name the commit"))?;
        let etag = etag_of(&reply).unwrap_or_default();
        let blob = blob_name(etag).map_err(|e| e.in_file(url))?;
        // The length of a redirect's own body says nothing about the file.
        let direct = reply.status.is_success().then(|| header("content-length")).flatten();
        let size = match header("x-linked-size").or(direct) {
            Some(size) => Some(size.parse().map_err(|_| wrong("the server sent a bad size"))?),
            None => None,
        };
        Ok(FileInfo { commit, blob, size })
    }

    /// Downloads files side by side; the first error stops the rest.
    pub(super) fn download_all(
        &self,
        repo: &RepoId,
        cache: &RepoCache,
        commit: &str,
        files: &[&String],
    ) -> Result<()> {
        let next = AtomicUsize::new(0);
        let stop = AtomicBool::new(false);
        let failure = Mutex::new(None);
        let work = || {
            while !stop.load(Ordering::Relaxed) {
                let Some(file) = files.get(next.fetch_add(1, Ordering::Relaxed)) else { break };
                if cache.pointer(commit, file).is_file() {
                    continue;
                }
                if let Err(e) = self.download(repo, cache, commit, file) {
                    stop.store(true, Ordering::Relaxed);
                    failure.lock().unwrap_or_else(|p| p.into_inner()).get_or_insert(e);
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..files.len().min(PARALLEL) {
                scope.spawn(work);
            }
            work();
        });
        failure.into_inner().unwrap_or_else(|p| p.into_inner()).map_or(Ok(()), Err)
    }

    /// Downloads one file and returns its path in the snapshot, and the commit.
    pub(super) fn download(
        &self,
        repo: &RepoId,
        cache: &RepoCache,
        revision: &str,
        file: &str,
    ) -> Result<(PathBuf, String)> {
        let url = self.file_url(repo, revision, file);
        let mut attempt = 0;
        let mut was_corrupt = false;
        loop {
            let info = self.info(&url, revision)?;
            let lock = cache.lock(&info.blob)?;
            let blob = cache.blob(&info.blob);
            if blob.is_file() {
                // It was here already, or another process brought it while we waited.
                return Ok((cache.link(&info.commit, file, &info.blob)?, info.commit));
            }
            let incomplete = cache.incomplete(&info.blob);
            let error = match self.attempt(&url, file, &info, &incomplete)? {
                Attempt::Done => {
                    let wrap =
                        |e| Error::from_io(e, "finishing the download").in_file(blob.display());
                    fs::rename(&incomplete, &blob).map_err(wrap)?;
                    drop(lock);
                    self.progress.end(file);
                    return Ok((cache.link(&info.commit, file, &info.blob)?, info.commit));
                }
                Attempt::Again(e) => e,
                Attempt::Changed(e) => {
                    let _ = fs::remove_file(&incomplete);
                    e
                }
            };
            drop(lock);
            // What arrived whole and wrong once may be an accident; twice it is the server.
            let corrupt = error.kind() == ErrorKind::Corrupt;
            if attempt >= self.http.retries() || (corrupt && was_corrupt) {
                return Err(error.in_file(url));
            }
            was_corrupt |= corrupt;
            tracing::debug!(%error, file, "resuming");
            self.http.pause(attempt, None);
            attempt = attempt.saturating_add(1);
        }
    }

    /// One try at the content, continuing what an earlier one has left.
    fn attempt(&self, url: &str, file: &str, info: &FileInfo, path: &Path) -> Result<Attempt> {
        let disk = |e: io::Error| Error::from_io(e, "downloading").in_file(path.display());
        let mut out = File::options()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(path)
            .map_err(disk)?;
        let mut present = out.metadata().map_err(disk)?.len();
        if info.size.is_some_and(|size| present > size) {
            out.set_len(0).map_err(disk)?;
            present = 0;
        }
        if info.size == Some(present) {
            // Everything had arrived before the interruption (or there is nothing to bring).
            self.progress.begin(file, info.size, present);
            return finish(out, info, hash_of(path, info).map_err(disk)?, disk);
        }
        let range = (present > 0).then_some(present);
        let reply = self.http.send("GET", url, range, Follow::Everywhere)?;
        let plan = match judge(&reply, info, present) {
            Ok(plan) => plan,
            Err(attempt) => return Ok(attempt),
        };
        if plan.start == 0 && present > 0 {
            out.set_len(0).map_err(disk)?;
        }
        let mut hash = match plan.start {
            0 => new_hash(info),
            _ => hash_of(path, info).map_err(disk)?,
        };
        out.seek(SeekFrom::Start(plan.start)).map_err(disk)?;
        self.progress.begin(file, plan.total, plan.start);
        let total = plan.total.or(info.size);
        let mut reader = reply.into_reader();
        let mut reached = plan.start;
        let mut block = vec![0; 256 << 10];
        let broken = loop {
            match reader.read(&mut block) {
                Ok(0) => break None,
                Ok(count) => {
                    let part = block.get(..count).unwrap_or_default();
                    reached = reached.saturating_add(to_u64(count));
                    if total.is_some_and(|total| reached > total) {
                        let what = "the server sent more than it announced";
                        return Ok(Attempt::Changed(Error::new(ErrorKind::Corrupt, what)));
                    }
                    out.write_all(part).map_err(disk)?;
                    if let Some(hash) = &mut hash {
                        hash.update(part);
                    }
                    self.progress.advance(file, to_u64(count));
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => break Some(e),
            }
        };
        let short = total.is_some_and(|total| reached < total);
        if let Some(e) = broken {
            let what = format!("the connection broke at byte {reached}: {e}");
            return Ok(Attempt::Again(Error::new(ErrorKind::Network, what)));
        }
        if short {
            let what = format!("the connection ended at byte {reached} of {total:?}");
            return Ok(Attempt::Again(Error::new(ErrorKind::Network, what)));
        }
        finish(out, info, hash, disk)
    }
}

/// Where the body begins, and how long the whole file is.
struct Plan {
    start: u64,
    total: Option<u64>,
}

/// Decides what to do with an answer to a (ranged) request.
fn judge(reply: &Reply, info: &FileInfo, present: u64) -> Result<Plan, Attempt> {
    let changed = |what: &str| Attempt::Changed(Error::new(ErrorKind::Changed, what));
    // The hub repeats the hash of what it is about to send; another one means another file.
    if let Some(etag) = etag_of(reply)
        && blob_name(etag).ok().as_deref() != Some(info.blob.as_str())
    {
        return Err(changed("the file changed on the server during the download"));
    }
    let length: Option<u64> = text(&reply.headers, "content-length").and_then(|n| n.parse().ok());
    let plan = match reply.status {
        StatusCode::OK => Plan { start: 0, total: length },
        StatusCode::PARTIAL_CONTENT => {
            let range = text(&reply.headers, "content-range").and_then(content_range);
            match range {
                Some((start, total)) if start == present => {
                    Plan { start, total: total.or(info.size) }
                }
                _ => return Err(changed("the server sent another part than was asked for")),
            }
        }
        StatusCode::RANGE_NOT_SATISFIABLE => {
            return Err(changed("the server has less than has arrived already"));
        }
        status => {
            let what = format!("an unexpected answer (HTTP {})", status.as_u16());
            return Err(Attempt::Again(Error::new(ErrorKind::Network, what)));
        }
    };
    match (plan.total, info.size) {
        (Some(total), Some(size)) if total != size => {
            let what = format!("the server announced {size} bytes and sends {total}");
            Err(Attempt::Changed(Error::new(ErrorKind::Corrupt, what)))
        }
        _ => Ok(Plan { total: plan.total.or(info.size), ..plan }),
    }
}

/// Judges the whole file and flushes it to the disk.
fn finish(
    out: File,
    info: &FileInfo,
    hash: Option<Context>,
    disk: impl Fn(io::Error) -> Error,
) -> Result<Attempt> {
    let length = out.metadata().map_err(&disk)?.len();
    if info.size.is_some_and(|size| size != length) {
        let what = format!("{length} bytes arrived instead of {:?}", info.size);
        return Ok(Attempt::Changed(Error::new(ErrorKind::Corrupt, what)));
    }
    if let Some(hash) = hash {
        let found: String = hash.finish().as_ref().iter().map(|b| format!("{b:02x}")).collect();
        if found != info.blob {
            let what = format!("the SHA-256 of what arrived is {found}");
            return Ok(Attempt::Changed(Error::new(ErrorKind::Corrupt, what)));
        }
    }
    out.sync_all().map_err(&disk)?;
    Ok(Attempt::Done)
}

/// Large files are named by their SHA-256; the names of small ones are git's, and not checked.
fn new_hash(info: &FileInfo) -> Option<Context> {
    is_sha256(&info.blob).then(|| Context::new(&SHA256))
}

/// The hash of what has arrived so far.
fn hash_of(path: &Path, info: &FileInfo) -> io::Result<Option<Context>> {
    let Some(mut hash) = new_hash(info) else { return Ok(None) };
    let mut file = File::open(path)?;
    let mut block = vec![0; 256 << 10];
    loop {
        match file.read(&mut block)? {
            0 => return Ok(Some(hash)),
            count => hash.update(block.get(..count).unwrap_or_default()),
        }
    }
}

/// The hash that the hub gives for a file: of the file itself, not of the pointer to it.
fn etag_of(reply: &Reply) -> Option<&str> {
    text(&reply.hub_headers, "x-linked-etag").or_else(|| text(&reply.hub_headers, "etag"))
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// `bytes 5-9/10` is `(5, Some(10))`.
fn content_range(value: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = value.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (start, _) = range.split_once('-')?;
    Some((start.parse().ok()?, total.parse().ok()))
}

fn parse_listing(bytes: &[u8]) -> Result<Listing> {
    let value = json::parse_plain(bytes)?;
    let wrong = |what: &str| Error::malformed(format!("the listing {what}"));
    let commit = value.get("sha").and_then(|sha| sha.as_str()).filter(|sha| is_commit(sha));
    let commit = commit.ok_or_else(|| wrong("does not name the commit"))?.to_owned();
    let siblings = value.get("siblings").and_then(|s| s.as_array());
    let siblings = siblings.ok_or_else(|| wrong("has no files"))?;
    if siblings.len() > MAX_FILES {
        return Err(Error::limit(format!("the repository has more than {MAX_FILES} files")));
    }
    let mut files = Vec::with_capacity(siblings.len());
    for sibling in siblings {
        let name = sibling.get("rfilename").and_then(|name| name.as_str());
        let name = name.ok_or_else(|| wrong("has a file without a name"))?;
        check_file(name)?;
        files.push(name.to_owned());
    }
    files.sort();
    files.dedup();
    Ok(Listing { commit, files })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        assert_eq!(content_range("bytes 5-9/10"), Some((5, Some(10))));
        assert_eq!(content_range("bytes 5-9/*"), Some((5, None)));
        for bad in ["", "bytes", "bytes */10", "items 1-2/3", "bytes -1-2/3", "bytes 5/10"] {
            assert_eq!(content_range(bad), None, "{bad}");
        }
    }

    #[test]
    fn listings_are_not_trusted() {
        let sha = "0123456789012345678901234567890123456789";
        let list = |sha: &str, names: &str| {
            parse_listing(format!("{{\"sha\":\"{sha}\",\"siblings\":[{names}]}}").as_bytes())
        };
        let good = list(sha, r#"{"rfilename":"b/c.json"},{"rfilename":"a"}"#).unwrap();
        assert_eq!(good.files, ["a", "b/c.json"]);
        assert!(list("../../x", "").is_err());
        for name in ["../x", "/etc/passwd", "a/../../b", "C:\\\\x", "", "a\\u0000b", "nul"] {
            let error = list(sha, &format!("{{\"rfilename\":\"{name}\"}}")).err().unwrap();
            assert_eq!(error.kind(), ErrorKind::Outside, "{name}");
        }
        assert!(parse_listing(&[0x1f, 0x8b, 8, 0]).is_err());
    }
}

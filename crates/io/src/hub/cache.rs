//! The layout of the cache, shared with Python.
//!
//! ```text
//! models--ORG--NAME/
//!     blobs/HASH                 the files' contents; HASH.incomplete while they arrive
//!     refs/main                  the commit of a branch
//!     snapshots/COMMIT/FILE      links to ../../blobs/HASH
//! .locks/models--ORG--NAME/HASH.lock
//! ```

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use super::name::{RepoId, is_commit};
use crate::atomic::write_file;
use crate::error::{Error, ErrorKind, Result};

/// The cache folder.
pub(super) struct Cache {
    folder: PathBuf,
}

/// One repository's part of it.
pub(super) struct RepoCache {
    folder: PathBuf,
    locks: PathBuf,
    id: String,
}

/// Held while a blob is downloaded. The lock goes when the file is closed, also by a crash.
pub(super) struct BlobLock {
    _file: File,
}

impl Cache {
    pub(super) fn new(folder: &Path) -> Cache {
        Cache { folder: folder.to_owned() }
    }

    pub(super) fn repo(&self, repo: &RepoId) -> RepoCache {
        let name = repo.folder();
        RepoCache {
            folder: self.folder.join(&name),
            locks: self.folder.join(".locks").join(&name),
            id: repo.to_string(),
        }
    }
}

fn wrap(path: &Path, doing: &str) -> impl FnOnce(io::Error) -> Error {
    move |e| Error::from_io(e, doing).in_file(path.display())
}

impl RepoCache {
    /// Finished content.
    pub(super) fn blob(&self, name: &str) -> PathBuf {
        self.folder.join("blobs").join(name)
    }

    /// Content that is arriving.
    pub(super) fn incomplete(&self, name: &str) -> PathBuf {
        self.folder.join("blobs").join(format!("{name}.incomplete"))
    }

    pub(super) fn pointer(&self, commit: &str, file: &str) -> PathBuf {
        self.folder.join("snapshots").join(commit).join(file)
    }

    /// Takes the right to download a blob, waiting for whoever has it.
    pub(super) fn lock(&self, name: &str) -> Result<BlobLock> {
        let blobs = self.folder.join("blobs");
        fs::create_dir_all(&blobs).map_err(wrap(&blobs, "creating the folder"))?;
        fs::create_dir_all(&self.locks).map_err(wrap(&self.locks, "creating the folder"))?;
        let path = self.locks.join(format!("{name}.lock"));
        let run = || {
            let file = File::options().create(true).truncate(false).write(true).open(&path)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    tracing::info!(blob = name, "waiting for another download of the same file");
                    file.lock()?;
                }
                Err(TryLockError::Error(e)) => return Err(e),
            }
            Ok(BlobLock { _file: file })
        };
        run().map_err(wrap(&path, "locking"))
    }

    /// Makes a finished blob visible as a file of a snapshot.
    pub(super) fn link(&self, commit: &str, file: &str, blob: &str) -> Result<PathBuf> {
        let pointer = self.pointer(commit, file);
        let run = || -> io::Result<()> {
            if let Some(parent) = pointer.parent() {
                fs::create_dir_all(parent)?;
            }
            #[cfg(unix)]
            {
                // From snapshots/COMMIT/FILE two steps lead up, and one more for each of its own.
                let steps = file.split('/').count().saturating_add(1);
                let target = format!("{}blobs/{blob}", "../".repeat(steps));
                match std::os::unix::fs::symlink(&target, &pointer) {
                    Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                        if fs::read_link(&pointer).is_ok_and(|old| old == Path::new(&target)) {
                            return Ok(());
                        }
                        fs::remove_file(&pointer)?;
                        std::os::unix::fs::symlink(&target, &pointer)
                    }
                    done => done,
                }
            }
            #[cfg(not(unix))]
            {
                // Links need a privilege on Windows; Python's client moves the blob there too.
                if !pointer.is_file() {
                    fs::rename(self.blob(blob), &pointer)?;
                }
                Ok(())
            }
        };
        run().map_err(wrap(&pointer, "linking"))?;
        Ok(pointer)
    }

    /// Remembers the commit of a branch or tag.
    pub(super) fn write_ref(&self, revision: &str, commit: &str) -> Result<()> {
        if revision == commit {
            return Ok(());
        }
        let path = self.folder.join("refs").join(revision);
        if fs::read_to_string(&path).is_ok_and(|old| old == commit) {
            return Ok(());
        }
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(wrap(parent, "creating the folder"))?;
        }
        write_file(&path, commit.as_bytes())
    }

    /// Makes sure that a snapshot's folder exists.
    pub(super) fn create_snapshot(&self, commit: &str) -> Result<PathBuf> {
        let path = self.folder.join("snapshots").join(commit);
        fs::create_dir_all(&path).map_err(wrap(&path, "creating the folder"))?;
        Ok(path)
    }

    /// The snapshot of a revision that the cache holds.
    pub(super) fn snapshot(&self, revision: &str) -> Result<PathBuf> {
        let missing = || {
            let what = format!("revision {revision:?} is not in the cache and the hub is off line");
            Error::new(ErrorKind::Offline, what).in_file(&self.id)
        };
        let commit = match is_commit(revision) {
            true => revision.to_owned(),
            false => {
                let path = self.folder.join("refs").join(revision);
                let text = read_ref(&path).ok_or_else(missing)?;
                // A reference is a commit and nothing else: it becomes a path.
                if !is_commit(&text) {
                    let what = "the reference does not hold a commit";
                    return Err(Error::malformed(what).in_file(path.display()));
                }
                text
            }
        };
        let path = self.folder.join("snapshots").join(commit);
        path.is_dir().then_some(path).ok_or_else(missing)
    }
}

fn read_ref(path: &Path) -> Option<String> {
    // A commit has 40 characters; whatever is longer is not read.
    let length = fs::metadata(path).ok().filter(fs::Metadata::is_file)?.len();
    let text = if length <= 4096 { fs::read_to_string(path).ok()? } else { String::new() };
    Some(text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_hold_commits_and_nothing_else() {
        let place = tempfile::tempdir().unwrap();
        let repo = Cache::new(place.path()).repo(&"a/b".parse().unwrap());
        let commit = "0123456789012345678901234567890123456789";
        assert_eq!(repo.snapshot("main").unwrap_err().kind(), ErrorKind::Offline);
        repo.create_snapshot(commit).unwrap();
        repo.write_ref("refs/pr/1", commit).unwrap();
        assert!(repo.snapshot("refs/pr/1").unwrap().ends_with(commit));
        assert!(repo.snapshot(commit).unwrap().ends_with(commit));
        for bad in ["../../../etc", "main", &"0".repeat(10_000), ""] {
            fs::write(place.path().join("models--a--b/refs/main"), bad).unwrap();
            assert_eq!(
                repo.snapshot("main").unwrap_err().kind(),
                ErrorKind::Malformed,
                "{bad:.20}"
            );
        }
    }

    #[test]
    fn a_lock_keeps_others_waiting() {
        let place = tempfile::tempdir().unwrap();
        let repo = Cache::new(place.path()).repo(&"a/b".parse().unwrap());
        let held = repo.lock("x").unwrap();
        let path = place.path().join(".locks/models--a--b/x.lock");
        let other = File::options().write(true).open(&path).unwrap();
        assert!(matches!(other.try_lock(), Err(TryLockError::WouldBlock)));
        drop(held);
        assert!(other.try_lock().is_ok());
    }
}

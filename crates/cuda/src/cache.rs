//! Compiled kernels on disk.
//!
//! A file is named by the hash of what it was made from (source, options, compiler version) and holds
//! the hash of its contents, which is checked before anything is given to the driver. The folder is
//! the user's alone: one that others own or may write to is not used.
//!
//! It is `LAZUL_CUDA_CACHE`, or `lazul/cuda` in the user's cache folder; an empty variable turns the
//! cache off.

use ring::digest::{Context, Digest, SHA256};
use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

const MAGIC: &[u8; 8] = b"LZCUBIN1";

/// The hash of several texts, each with its length, so that no two lists hash alike.
pub(crate) fn key(parts: &[&[u8]]) -> String {
    let mut hash = Context::new(&SHA256);
    for part in parts {
        hash.update(&(part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hex(hash.finish())
}

fn hex(digest: Digest) -> String {
    digest.as_ref().iter().map(|b| format!("{b:02x}")).collect()
}

/// The folder in use, made if it is not there; none where there is no private one.
pub(crate) fn folder() -> Option<&'static Path> {
    static FOLDER: OnceLock<Option<PathBuf>> = OnceLock::new();
    FOLDER
        .get_or_init(|| {
            let folder = match std::env::var_os("LAZUL_CUDA_CACHE") {
                Some(path) if path.is_empty() => return None,
                Some(path) => PathBuf::from(path),
                None => user_cache()?.join("lazul").join("cuda"),
            };
            private(&folder).then_some(folder)
        })
        .as_deref()
}

fn user_cache() -> Option<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    if cfg!(windows) {
        return variable("LOCALAPPDATA");
    }
    variable("XDG_CACHE_HOME").or_else(|| variable("HOME").map(|home| home.join(".cache")))
}

/// Makes the folder if need be; answers whether it is this user's and closed to others.
#[cfg(unix)]
fn private(folder: &Path) -> bool {
    use std::os::unix::fs::{DirBuilderExt, MetadataExt};
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
    let Ok(meta) = fs::symlink_metadata(folder) else { return false };
    // SAFETY: the function has no preconditions.
    let user = unsafe { libc::geteuid() };
    made.is_ok() && meta.is_dir() && meta.uid() == user && meta.mode() & 0o077 == 0
}

#[cfg(not(unix))]
fn private(folder: &Path) -> bool {
    fs::create_dir_all(folder).is_ok()
}

/// What was stored under `key`, if it is whole.
pub(crate) fn load(folder: &Path, key: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    fs::File::open(folder.join(key)).ok()?.read_to_end(&mut bytes).ok()?;
    let body = bytes.get(40..)?;
    let whole = &bytes[..8] == MAGIC && bytes[8..40] == *seal(key, body).as_ref();
    whole.then(|| body.to_vec())
}

/// Stores `body` under `key`. A file appears at once and whole; failures only cost the next start
/// its time.
pub(crate) fn store(folder: &Path, key: &str, body: &[u8]) {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let unique = format!("{key}.{}.{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    let temporary = folder.join(unique);
    let write = || -> std::io::Result<()> {
        let mut options = fs::OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(&temporary)?;
        file.write_all(MAGIC)?;
        file.write_all(seal(key, body).as_ref())?;
        file.write_all(body)?;
        drop(file);
        fs::rename(&temporary, folder.join(key))
    };
    if write().is_err() {
        let _ = fs::remove_file(&temporary);
    }
}

/// The hash that a file carries: of its name too, so that files cannot trade places.
fn seal(key: &str, body: &[u8]) -> Digest {
    let mut hash = Context::new(&SHA256);
    hash.update(key.as_bytes());
    hash.update(body);
    hash.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_changed_on_disk_is_not_loaded() {
        let folder = tempfile::tempdir().unwrap();
        let (a, b) = (key(&[b"source", b"sm_90"]), key(&[b"sources", b"m_90"]));
        assert_ne!(a, b);
        assert_eq!(load(folder.path(), &a), None);
        store(folder.path(), &a, b"code");
        assert_eq!(load(folder.path(), &a).as_deref(), Some(&b"code"[..]));
        fs::copy(folder.path().join(&a), folder.path().join(&b)).unwrap();
        assert_eq!(load(folder.path(), &b), None, "a file under another name");
        let mut bytes = fs::read(folder.path().join(&a)).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(folder.path().join(&a), &bytes).unwrap();
        assert_eq!(load(folder.path(), &a), None, "a changed bit");
        fs::write(folder.path().join(&a), &bytes[..20]).unwrap();
        assert_eq!(load(folder.path(), &a), None, "a cut file");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "no temporary file stays");
    }

    #[cfg(unix)]
    #[test]
    fn a_folder_that_others_may_enter_is_not_used() {
        use std::os::unix::fs::PermissionsExt;
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("a").join("b");
        assert!(private(&folder));
        assert_eq!(fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o770)).unwrap();
        assert!(!private(&folder));
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).unwrap();
        let link = root.path().join("link");
        std::os::unix::fs::symlink(&folder, &link).unwrap();
        assert!(!private(&link));
    }
}

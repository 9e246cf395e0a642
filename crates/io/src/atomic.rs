//! Files and folders that appear whole or not at all.
//!
//! A writer fills a hidden temporary neighbour of the destination, flushes it to the disk and
//! renames it over the destination. A crash or a kill at any moment leaves the old content under
//! the final name; what may remain is a `.name.PID-N.tmp`, which no reader looks at.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{Error, ErrorKind, Result};

/// A file being written beside its destination.
pub(crate) struct AtomicFile {
    writer: BufWriter<File>,
    temporary: Temporary,
    destination: PathBuf,
}

/// Removes what it names unless the rename happened.
struct Temporary {
    path: PathBuf,
    is_folder: bool,
    done: bool,
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.done {
            // Nothing better can be done about a failure here: the name is hidden and unique.
            let _ = match self.is_folder {
                true => fs::remove_dir_all(&self.path),
                false => fs::remove_file(&self.path),
            };
        }
    }
}

fn neighbour(destination: &Path) -> Result<PathBuf> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let Some(name) = destination.file_name() else {
        return Err(Error::new(ErrorKind::Argument, "the path to save to has no file name")
            .in_file(destination.display()));
    };
    let unique = COUNT.fetch_add(1, Ordering::Relaxed);
    let name = format!(".{}.{}-{unique}.tmp", name.to_string_lossy(), std::process::id());
    Ok(destination.with_file_name(name))
}

/// The folder of a path, `.` for a bare name.
fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Makes a rename durable: on Unix a folder's entries are data of the folder.
fn sync_folder(folder: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}

impl AtomicFile {
    pub(crate) fn create(destination: &Path) -> Result<AtomicFile> {
        let path = neighbour(destination)?;
        let file = File::options()
            .write(true)
            .create_new(true)
            .open(&path)
            .map_err(|e| Error::from_io(e, "creating").in_file(destination.display()))?;
        Ok(AtomicFile {
            writer: BufWriter::with_capacity(1 << 20, file),
            temporary: Temporary { path, is_folder: false, done: false },
            destination: destination.to_owned(),
        })
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.writer
            .write_all(bytes)
            .map_err(|e| Error::from_io(e, "writing").in_file(self.destination.display()))
    }

    /// Flushes to the disk and puts the file in its place.
    pub(crate) fn finish(mut self) -> Result<()> {
        let mut run = || {
            self.writer.flush()?;
            self.writer.get_ref().sync_all()?;
            fs::rename(&self.temporary.path, &self.destination)?;
            self.temporary.done = true;
            sync_folder(parent(&self.destination))
        };
        run().map_err(|e| Error::from_io(e, "writing").in_file(self.destination.display()))
    }
}

/// Writes a small file whole or not at all: a crash or a kill at any moment leaves the old file, and an error
/// too.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// let path = folder.path().join("config.json");
/// lazul_io::write_file(&path, b"{}")?;
/// lazul_io::write_file(&path, b"{\"model_type\": \"llama\"}")?;
/// assert!(std::fs::read_to_string(&path)?.contains("llama"));
/// # Ok(()) }
/// ```
///
/// # Errors
/// If the file cannot be written or put in its place.
pub fn write_file(destination: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = AtomicFile::create(destination)?;
    file.write(bytes)?;
    file.finish()
}

/// A folder being filled beside its destination.
pub(crate) struct AtomicFolder {
    temporary: Temporary,
    destination: PathBuf,
    replace: bool,
}

impl AtomicFolder {
    /// Refuses a destination that exists, unless it is an empty folder or `replace` is given.
    pub(crate) fn create(destination: &Path, replace: bool) -> Result<AtomicFolder> {
        let wrap = |e| Error::from_io(e, "creating the folder").in_file(destination.display());
        if !replace && fs::symlink_metadata(destination).is_ok() {
            let empty = fs::read_dir(destination).is_ok_and(|mut entries| entries.next().is_none());
            if !empty {
                let e = Error::new(ErrorKind::Exists, "the destination exists already");
                return Err(e.in_file(destination.display()));
            }
        }
        fs::create_dir_all(parent(destination)).map_err(wrap)?;
        let path = neighbour(destination)?;
        fs::create_dir(&path).map_err(wrap)?;
        Ok(AtomicFolder {
            temporary: Temporary { path, is_folder: true, done: false },
            destination: destination.to_owned(),
            replace,
        })
    }

    /// Where to put the files.
    pub(crate) fn path(&self) -> &Path {
        &self.temporary.path
    }

    /// Puts the folder in its place; one that was there is removed afterwards.
    pub(crate) fn finish(mut self) -> Result<()> {
        let mut run = || {
            sync_folder(&self.temporary.path)?;
            #[cfg(target_os = "linux")]
            if self.replace {
                use rustix::fs::{CWD, RenameFlags, renameat_with};
                let (new, place) = (&self.temporary.path, &self.destination);
                // One step where the file system can: the name is never free. What was there is now
                // the temporary, and goes with it.
                if renameat_with(CWD, new, CWD, place, RenameFlags::EXCHANGE).is_ok() {
                    return sync_folder(parent(&self.destination));
                }
            }
            let mut old = None;
            if self.replace && fs::symlink_metadata(&self.destination).is_ok() {
                let path = neighbour(&self.destination)?;
                fs::rename(&self.destination, &path)?;
                old = Some(Temporary { path, is_folder: true, done: false });
            } else if self.destination.is_dir() {
                // It was empty when the save began; a rename replaces empty folders on Unix only.
                fs::remove_dir(&self.destination)?;
            }
            match fs::rename(&self.temporary.path, &self.destination) {
                Ok(()) => self.temporary.done = true,
                Err(e) => {
                    if let Some(mut old) = old {
                        // Should even this fail: better a stray hidden folder than no copy at all.
                        let _ = fs::rename(&old.path, &self.destination);
                        old.done = true;
                    }
                    return Err(e);
                }
            }
            drop(old);
            sync_folder(parent(&self.destination))
        };
        run().map_err(|e: io::Error| {
            Error::from_io(e, "writing the folder").in_file(self.destination.display())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(folder: &Path) -> usize {
        fs::read_dir(folder).unwrap().count()
    }

    #[test]
    fn an_unfinished_file_leaves_the_old_one_and_no_litter() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w");
        write_file(&path, b"old").unwrap();
        let mut file = AtomicFile::create(&path).unwrap();
        file.write(b"new").unwrap();
        drop(file);
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(count(folder.path()), 1);
        write_file(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(count(folder.path()), 1);
    }

    #[test]
    fn a_folder_replaces_only_when_asked() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/model");
        let save = |replace, text: &str| -> Result<()> {
            let target = AtomicFolder::create(&path, replace)?;
            fs::write(target.path().join("a"), text).unwrap();
            target.finish()
        };
        drop(AtomicFolder::create(&path, false).unwrap());
        assert!(!path.exists());
        save(false, "1").unwrap();
        assert_eq!(save(false, "2").unwrap_err().kind(), ErrorKind::Exists);
        save(true, "3").unwrap();
        assert_eq!(fs::read(path.join("a")).unwrap(), b"3");
        assert_eq!(count(&folder.path().join("deep")), 1);
    }
}

//! The one path resolver.
//!
//! A model folder names its own files: the shard list of an index, a listing of a server. Such a
//! name is hostile until proven otherwise, so every one goes through [`Root`]:
//!
//! * it must be a plain relative name (no `..`, no absolute path, no backslash, no NUL);
//! * each step is opened from the folder's descriptor without following links;
//! * a link is followed only when its target lies inside the folder or, for a snapshot of the
//!   Hugging Face cache (`models--ORG--NAME/snapshots/COMMIT`), is a file of the same repository's
//!   `blobs` folder; the target is then opened again step by step without links, so a link that is
//!   exchanged in between is an error and not an escape;
//! * what is opened must be a regular file: a FIFO would block, a device has side effects.
//!
//! A hard link is indistinguishable from the file itself and package managers make them routinely,
//! so it is accepted unless [`Root::deny_hard_links`] is asked for: formats with a header reject
//! foreign data by themselves, but raw external data should use it.

use std::fs::{self, File};
use std::io;
use std::path::{Component, Path, PathBuf};

use crate::bounded::Bounded;
use crate::error::{Error, ErrorKind, Result};
use crate::source::FileSource;

/// Longest accepted name, in bytes.
const MAX_NAME: usize = 1024;
/// Longest accepted step of a name: the limit of the usual file systems.
const MAX_STEP: usize = 255;
/// Most entries of a folder that are listed.
const MAX_ENTRIES: usize = 100_000;

/// A folder that files are opened in, and never outside of.
///
/// ```
/// use lazul_io::{ErrorKind, Root};
/// # fn main() -> lazul_io::Result<()> {
/// let root = Root::open(std::env::temp_dir())?;
/// assert_eq!(root.open_file("../etc/passwd").unwrap_err().kind(), ErrorKind::Outside);
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Root {
    base: Base,
    blobs: Option<Base>,
    deny_hard_links: bool,
}

/// A folder without links in its path, held open where the system can open relative to it.
#[derive(Debug)]
struct Base {
    path: PathBuf,
    #[cfg(unix)]
    folder: File,
}

/// What a walk met.
enum Walk {
    File(File),
    Link,
}

impl Root {
    /// Opens a folder that the user chose; links on the way to it are followed.
    ///
    /// ```
    /// # use lazul_io::{ErrorKind, Root};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// std::fs::write(folder.path().join("notes.txt"), "hello")?;
    /// assert_eq!(Root::open(folder.path())?.names()?, ["notes.txt"]);
    /// let missing = Root::open(folder.path().join("none")).unwrap_err();
    /// assert_eq!(missing.kind(), ErrorKind::NotFound);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is nothing; [`ErrorKind::Io`] if it is no folder or may not
    /// be opened.
    pub fn open(folder: impl AsRef<Path>) -> Result<Root> {
        let shown = folder.as_ref();
        let wrap = |e| Error::from_io(e, "opening the folder").in_file(shown.display());
        let path = fs::canonicalize(shown).map_err(wrap)?;
        let base = Base::open(path).map_err(wrap)?;
        let blobs = blobs_of(&base.path).and_then(|path| Base::open(path).ok());
        Ok(Root { base, blobs, deny_hard_links: false })
    }

    /// Also refuses files that have more than one name, on Unix: raw data could be another user's
    /// file under a name in this folder.
    ///
    /// ```
    /// # use lazul_io::{ErrorKind, Root};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// std::fs::write(folder.path().join("data"), "x")?;
    /// std::fs::hard_link(folder.path().join("data"), folder.path().join("same"))?;
    /// assert!(Root::open(folder.path())?.has("data"));
    /// # #[cfg(unix)]
    /// assert!(!Root::open(folder.path())?.deny_hard_links().has("data"));
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn deny_hard_links(mut self) -> Root {
        self.deny_hard_links = true;
        self
    }

    /// The folder, as an absolute path without links.
    ///
    /// ```
    /// # use lazul_io::{ErrorKind, Root};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// assert!(Root::open(folder.path())?.path().is_absolute());
    /// # Ok(()) }
    /// ```
    pub fn path(&self) -> &Path {
        &self.base.path
    }

    /// Opens a regular file by a name relative to the folder, with `/` between its steps.
    ///
    /// ```
    /// # use lazul_io::{ErrorKind, Root};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// std::fs::write(folder.path().join("data"), "hello")?;
    /// let root = Root::open(folder.path())?;
    /// assert!(root.open_file("data")?.path().ends_with("data"));
    /// assert_eq!(root.open_file("none").unwrap_err().kind(), ErrorKind::NotFound);
    /// assert_eq!(root.open_file("../data").unwrap_err().kind(), ErrorKind::Outside);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is none; [`ErrorKind::Outside`] if the name is not plain
    /// and relative, leads outside through a link, or means something else than a regular file;
    /// those of the file system.
    pub fn open_file(&self, name: &str) -> Result<FileSource> {
        self.try_open(name)?.ok_or_else(|| {
            let e = Error::new(ErrorKind::NotFound, "there is no such file");
            e.in_file(self.base.path.join(name).display())
        })
    }

    /// Like [`open_file`](Self::open_file), with `None` for a file that is not there.
    ///
    /// ```
    /// # use lazul_io::{ErrorKind, Root};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// let root = Root::open(folder.path())?;
    /// assert!(root.try_open("none")?.is_none());
    /// assert_eq!(root.try_open("/etc/passwd").unwrap_err().kind(), ErrorKind::Outside);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`open_file`](Self::open_file), without [`ErrorKind::NotFound`].
    pub fn try_open(&self, name: &str) -> Result<Option<FileSource>> {
        check_name(name)?;
        let shown = self.base.path.join(name);
        let at = |e: Error| e.in_file(shown.display());
        match self.resolve(name) {
            Ok(file) => {
                #[cfg(unix)]
                if self.deny_hard_links {
                    use std::os::unix::fs::MetadataExt;
                    let links = file.metadata().map(|m| m.nlink());
                    if links.map_err(|e| at(Error::from_io(e, "opening")))? > 1 {
                        return Err(at(outside("has another name elsewhere (a hard link)")));
                    }
                }
                FileSource::from_file(file, &shown).map(Some)
            }
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) => Err(at(e)),
        }
    }

    /// Whether a regular file of this name can be opened.
    ///
    /// ```
    /// # use lazul_io::{ErrorKind, Root};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// std::fs::write(folder.path().join("data"), "hello")?;
    /// std::fs::create_dir(folder.path().join("more"))?;
    /// let root = Root::open(folder.path())?;
    /// assert!(root.has("data"));
    /// assert!(!root.has("more") && !root.has("none"));
    /// # Ok(()) }
    /// ```
    pub fn has(&self, name: &str) -> bool {
        matches!(self.try_open(name), Ok(Some(_)))
    }

    /// Reads a whole file of at most `cap` bytes; `None` when it is not there.
    ///
    /// ```
    /// # use lazul_io::{ErrorKind, Root};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// std::fs::write(folder.path().join("data"), "hello")?;
    /// let root = Root::open(folder.path())?;
    /// assert_eq!(root.read("data", 100)?.as_deref(), Some(&b"hello"[..]));
    /// assert_eq!(root.read("data", 4).unwrap_err().kind(), ErrorKind::Limit);
    /// assert_eq!(root.read("none", 4)?, None);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Limit`] if it is longer; those of [`try_open`](Self::try_open).
    pub fn read(&self, name: &str, cap: u64) -> Result<Option<Vec<u8>>> {
        let Some(source) = self.try_open(name)? else { return Ok(None) };
        let mut cursor = Bounded::new(std::sync::Arc::new(source))?;
        let len = cursor.remaining();
        cursor.bytes(len, cap, "the file").map(Some)
    }

    /// The names of the entries directly inside, files and folders, sorted. Names that are not
    /// UTF-8 are left out: nothing that we read has such a name.
    ///
    /// ```
    /// # use lazul_io::{ErrorKind, Root};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// std::fs::write(folder.path().join("b"), "")?;
    /// std::fs::create_dir(folder.path().join("a"))?;
    /// assert_eq!(Root::open(folder.path())?.names()?, ["a", "b"]);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Limit`] if there are more than 100,000; those of the file system.
    pub fn names(&self) -> Result<Vec<String>> {
        let wrap = |e| Error::from_io(e, "listing the folder").in_file(self.base.path.display());
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.base.path).map_err(wrap)? {
            if names.len() >= MAX_ENTRIES {
                let e = Error::limit(format!("the folder has more than {MAX_ENTRIES} entries"));
                return Err(e.in_file(self.base.path.display()));
            }
            names.extend(entry.map_err(wrap)?.file_name().into_string().ok());
        }
        names.sort();
        Ok(names)
    }

    /// A folder inside this one, as a root of its own. It denies hard links if this one does.
    ///
    /// ```
    /// # use lazul_io::{ErrorKind, Root};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// std::fs::create_dir(folder.path().join("vae"))?;
    /// std::fs::write(folder.path().join("vae/config.json"), "{}")?;
    /// let root = Root::open(folder.path())?;
    /// assert!(root.subfolder("vae")?.has("config.json"));
    /// assert_eq!(root.subfolder("..").unwrap_err().kind(), ErrorKind::Outside);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Outside`] if the name is not plain and relative, or leads outside through a
    /// link; those of [`Root::open`].
    pub fn subfolder(&self, name: &str) -> Result<Root> {
        check_name(name)?;
        let wanted = self.base.path.join(name);
        let found = fs::canonicalize(&wanted)
            .map_err(|e| Error::from_io(e, "opening the folder").in_file(wanted.display()))?;
        if !found.starts_with(&self.base.path) {
            return Err(outside("leads outside of its folder").in_file(wanted.display()));
        }
        let mut inside = Root::open(found)?;
        inside.deny_hard_links = self.deny_hard_links;
        Ok(inside)
    }

    fn resolve(&self, name: &str) -> Result<File> {
        if let Walk::File(file) = self.base.walk(Path::new(name))? {
            return Ok(file);
        }
        let target = fs::canonicalize(self.base.path.join(name))
            .map_err(|e| Error::from_io(e, "following the link"))?;
        let inside = target.strip_prefix(&self.base.path).ok().map(|rest| (&self.base, rest));
        let (base, rest) = inside
            .or_else(|| {
                let blobs = self.blobs.as_ref()?;
                let rest = target.strip_prefix(&blobs.path).ok()?;
                (rest.components().count() == 1).then_some((blobs, rest))
            })
            .ok_or_else(|| outside("is a link that leads outside of its folder"))?;
        match base.walk(rest)? {
            Walk::File(file) => Ok(file),
            Walk::Link => Err(outside("is a link that changed while it was followed")),
        }
    }
}

fn outside(message: &str) -> Error {
    Error::new(ErrorKind::Outside, format!("the file {message}"))
}

fn not_regular() -> Error {
    outside("is not a regular file")
}

impl Base {
    fn open(path: PathBuf) -> io::Result<Base> {
        #[cfg(unix)]
        {
            use rustix::fs::{Mode, OFlags, open};
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
            let folder = File::from(open(&path, flags, Mode::empty())?);
            Ok(Base { path, folder })
        }
        #[cfg(not(unix))]
        {
            if !fs::metadata(&path)?.is_dir() {
                return Err(io::ErrorKind::NotADirectory.into());
            }
            Ok(Base { path })
        }
    }

    /// Opens `relative` step by step from the folder's descriptor, stopping at the first link.
    #[cfg(unix)]
    fn walk(&self, relative: &Path) -> Result<Walk> {
        use rustix::fs::{AtFlags, FileType, Mode, OFlags, openat, statat};
        use rustix::io::Errno;

        let wrap = |e: Errno| Error::from_io(e.into(), "opening");
        let mut steps: Vec<_> = relative.components().collect();
        let Some(Component::Normal(last)) = steps.pop() else { return Err(not_regular()) };
        let mut at = None;
        for step in steps {
            let Component::Normal(step) = step else { return Err(not_regular()) };
            let from = at.as_ref().unwrap_or(&self.folder);
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
            match openat(from, step, flags, Mode::empty()) {
                Ok(folder) => at = Some(File::from(folder)),
                // NOFOLLOW on a link gives ELOOP, or ENOTDIR where DIRECTORY is judged first.
                Err(Errno::LOOP | Errno::MLINK | Errno::NOTDIR) => {
                    let stat = statat(from, step, AtFlags::SYMLINK_NOFOLLOW).map_err(wrap)?;
                    return match FileType::from_raw_mode(stat.st_mode) {
                        FileType::Symlink => Ok(Walk::Link),
                        _ => Err(wrap(Errno::NOTDIR)),
                    };
                }
                Err(e) => return Err(wrap(e)),
            }
        }
        let from = at.as_ref().unwrap_or(&self.folder);
        // Look before opening: opening a device can act on it.
        let stat = statat(from, last, AtFlags::SYMLINK_NOFOLLOW).map_err(wrap)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => {}
            FileType::Symlink => return Ok(Walk::Link),
            _ => return Err(not_regular()),
        }
        let flags =
            OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = match openat(from, last, flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(Errno::LOOP | Errno::MLINK) => return Ok(Walk::Link),
            Err(e) => return Err(wrap(e)),
        };
        let metadata = file.metadata().map_err(|e| Error::from_io(e, "opening"))?;
        if metadata.is_file() { Ok(Walk::File(file)) } else { Err(not_regular()) }
    }

    /// Where folders cannot be held open, the whole path is examined and then opened.
    #[cfg(not(unix))]
    fn walk(&self, relative: &Path) -> Result<Walk> {
        let path = self.path.join(relative);
        let wrap = |e| Error::from_io(e, "opening");
        let real = fs::canonicalize(&path).map_err(wrap)?;
        if real != path {
            return Ok(Walk::Link);
        }
        open_regular(&path).map(Walk::File)
    }
}

/// Opens a path that the user chose: links are followed, but a FIFO, device or folder is refused
/// without blocking.
pub(crate) fn open_regular(path: &Path) -> Result<File> {
    let wrap = |e| Error::from_io(e, "opening").in_file(path.display());
    if !fs::metadata(path).map_err(wrap)?.is_file() {
        return Err(not_regular().in_file(path.display()));
    }
    let mut options = File::options();
    options.read(true);
    #[cfg(unix)]
    {
        use rustix::fs::OFlags;
        use std::os::unix::fs::OpenOptionsExt;
        let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits();
        options.custom_flags(i32::try_from(flags).unwrap_or(0));
    }
    let file = options.open(path).map_err(wrap)?;
    match file.metadata().map_err(wrap)?.is_file() {
        true => Ok(file),
        false => Err(not_regular().in_file(path.display())),
    }
}

/// Checks that a name from a file or a server is plain and relative.
pub(crate) fn check_name(name: &str) -> Result<()> {
    let refuse =
        |why: &str| Err(Error::new(ErrorKind::Outside, format!("the file name {name:?} {why}")));
    if name.len() > MAX_NAME {
        return refuse("is too long");
    }
    if name.chars().any(|c| c.is_control() || c == '\\') {
        return refuse("has a backslash or a control character");
    }
    for step in name.split('/') {
        if matches!(step, "" | "." | "..") {
            return refuse("is not a plain relative name");
        }
        if step.len() > MAX_STEP {
            return refuse("is too long");
        }
        if cfg!(windows) && (step.contains(':') || is_reserved_on_windows(step)) {
            return refuse("means a device or a stream on Windows");
        }
    }
    Ok(())
}

/// Checks that a name is one step: what an index may call a shard.
pub(crate) fn check_plain_name(name: &str) -> Result<()> {
    check_name(name)?;
    match name.contains('/') {
        true => Err(Error::new(
            ErrorKind::Outside,
            format!("the file name {name:?} leads into another folder"),
        )),
        false => Ok(()),
    }
}

/// Names that open a device on Windows, whatever extension follows.
pub(crate) fn is_reserved_on_windows(step: &str) -> bool {
    let stem = step.split('.').next().unwrap_or_default().trim_end().to_ascii_lowercase();
    let numbered = |prefix: &str| {
        stem.strip_prefix(prefix).is_some_and(|n| matches!(n.as_bytes(), [b'0'..=b'9']))
    };
    matches!(stem.as_str(), "con" | "prn" | "aux" | "nul") || numbered("com") || numbered("lpt")
}

/// The `blobs` folder that a snapshot's links may lead into.
fn blobs_of(folder: &Path) -> Option<PathBuf> {
    folder.ancestors().find_map(|commit| {
        let snapshots = commit.parent()?;
        let repo = snapshots.parent()?;
        let name = repo.file_name()?.to_str()?;
        let known = ["models--", "datasets--", "spaces--"].iter().any(|p| name.starts_with(p));
        (known && snapshots.file_name()? == "snapshots").then(|| repo.join("blobs"))
    })
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn kind(root: &Root, name: &str) -> ErrorKind {
        root.open_file(name).unwrap_err().kind()
    }

    #[test]
    fn opens_only_inside() {
        let folder = tempfile::tempdir().unwrap();
        let inside = folder.path().join("model");
        fs::create_dir_all(inside.join("sub")).unwrap();
        fs::write(folder.path().join("secret"), "s").unwrap();
        fs::write(inside.join("a"), "a").unwrap();
        fs::write(inside.join("sub/b"), "b").unwrap();
        symlink("../secret", inside.join("out")).unwrap();
        symlink("sub/b", inside.join("in")).unwrap();
        symlink("sub", inside.join("folder")).unwrap();
        symlink("..", inside.join("up")).unwrap();
        symlink("loop", inside.join("loop")).unwrap();
        symlink("/dev/null", inside.join("null")).unwrap();
        let root = Root::open(&inside).unwrap();
        for good in ["a", "sub/b", "in", "folder/b"] {
            assert!(root.has(good), "{good}");
        }
        for bad in ["out", "up/secret", "sub", "null", "", ".", "../secret", "/etc/passwd", "a\\b"]
        {
            assert_eq!(kind(&root, bad), ErrorKind::Outside, "{bad}");
        }
        assert_eq!(kind(&root, "loop"), ErrorKind::Io);
        assert_eq!(kind(&root, "absent"), ErrorKind::NotFound);
        assert_eq!(root.read("a", 1).unwrap().unwrap(), b"a");
        assert_eq!(root.read("a", 0).unwrap_err().kind(), ErrorKind::Limit);
        assert!(root.subfolder("up").is_err());
        assert!(root.subfolder("sub").unwrap().has("b"));
    }

    #[test]
    fn hard_links_are_refused_on_request() {
        let folder = tempfile::tempdir().unwrap();
        let inside = folder.path().join("model");
        fs::create_dir(&inside).unwrap();
        fs::write(folder.path().join("data"), "s").unwrap();
        fs::hard_link(folder.path().join("data"), inside.join("data")).unwrap();
        assert!(Root::open(&inside).unwrap().has("data"));
        assert_eq!(
            kind(&Root::open(&inside).unwrap().deny_hard_links(), "data"),
            ErrorKind::Outside
        );
    }

    #[test]
    fn a_snapshot_reaches_its_own_blobs_and_no_others() {
        let folder = tempfile::tempdir().unwrap();
        let cache = folder.path();
        let repo = cache.join("models--a--b");
        let snapshot = repo.join("snapshots/0123");
        fs::create_dir_all(snapshot.join("unet")).unwrap();
        fs::create_dir_all(repo.join("blobs/deep")).unwrap();
        fs::create_dir_all(repo.join("refs")).unwrap();
        fs::create_dir_all(cache.join("models--c--d/blobs")).unwrap();
        fs::write(repo.join("blobs/x"), "x").unwrap();
        fs::write(repo.join("blobs/deep/x"), "x").unwrap();
        fs::write(repo.join("refs/main"), "0123").unwrap();
        fs::write(cache.join("models--c--d/blobs/y"), "y").unwrap();
        symlink("../../blobs/x", snapshot.join("good")).unwrap();
        symlink("../../../blobs/x", snapshot.join("unet/good")).unwrap();
        symlink("../../blobs/deep/x", snapshot.join("deep")).unwrap();
        symlink("../../refs/main", snapshot.join("ref")).unwrap();
        symlink("../../../models--c--d/blobs/y", snapshot.join("other")).unwrap();
        let root = Root::open(&snapshot).unwrap();
        assert!(root.has("good") && root.has("unet/good"));
        assert!(root.subfolder("unet").unwrap().has("good"));
        for bad in ["deep", "ref", "other"] {
            assert_eq!(kind(&root, bad), ErrorKind::Outside, "{bad}");
        }
    }

    #[test]
    fn windows_devices() {
        assert!(is_reserved_on_windows("NUL.txt") && is_reserved_on_windows("com1"));
        assert!(!is_reserved_on_windows("config.json") && !is_reserved_on_windows("com"));
    }
}

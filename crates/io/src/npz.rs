//! NumPy's `.npz` archives: a ZIP file of `.npy` members.
//!
//! The archive is judged whole when it is opened; each array is then an array of its own
//! that reads, verifies and if need be inflates its member when it is evaluated. Every member must
//! be called `NAME.npy`; what NumPy would hand out as raw bytes is refused. A damaged or
//! unsupported member does not keep the others from loading.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use lazul_core::{Array, ByteSource};

use crate::atomic::AtomicFile;
use crate::error::{Error, ErrorKind, Result};
use crate::npy::{self, Npy};
use crate::root::check_name;
use crate::source::{FileSource, MemorySource};
use crate::zip::{Archive, Method, Writer};

const SUFFIX: &str = ".npy";

/// An open npz archive.
///
/// ```
/// use lazul_core::Array;
/// use lazul_io::{Npz, save_npz};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// let path = folder.path().join("weights.npz");
/// save_npz(&path, [("layers.0.weight", &Array::from_slice(&[1i32, 2, 3], [3]))])?;
/// let file = Npz::open(&path)?;
/// assert_eq!(file.names().collect::<Vec<_>>(), ["layers.0.weight"]);
/// assert_eq!(file.get("layers.0.weight")?.to_vec::<i32>()?, [1, 2, 3]);
/// # Ok(()) }
/// ```
pub struct Npz {
    archive: Archive,
    describe: String,
    /// Member numbers by array name.
    arrays: BTreeMap<String, usize>,
}

impl Npz {
    /// Opens an archive and judges its directory and the header of each member. The arrays are not
    /// read.
    ///
    /// ```
    /// # use lazul_core::prelude::*;
    /// # use lazul_io::{Npz, save_npz};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("w.npz");
    /// save_npz(&path, [("w", &ones([2], DType::F32))])?;
    /// assert_eq!(Npz::open(&path)?.names().len(), 1);
    /// std::fs::write(&path, "not an archive")?;
    /// assert!(Npz::open(&path).is_err());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// If the path does not lead to a regular file that can be read; if it is no ZIP archive that
    /// every reader would read alike; [`ErrorKind::Unsupported`] if a member is not called
    /// `NAME.npy`.
    pub fn open(path: impl AsRef<Path>) -> Result<Npz> {
        Npz::from_source(Arc::new(FileSource::open(path)?))
    }

    /// Reads an archive that is in memory. The arrays read from these bytes when they are
    /// evaluated.
    ///
    /// ```
    /// # use lazul_core::prelude::*;
    /// # use lazul_io::{Npz, save_npz};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("w.npz");
    /// save_npz(&path, [("w", &ones([2], DType::F32))])?;
    /// let file = Npz::from_bytes(std::fs::read(&path)?)?;
    /// assert_eq!(file.get("w")?.to_vec::<f32>()?, [1.0, 1.0]);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`Npz::open`], without those of the file system.
    pub fn from_bytes(bytes: impl Into<Vec<u8>>) -> Result<Npz> {
        Npz::from_source(Arc::new(MemorySource::new(bytes)))
    }

    /// Reads from any source: a file that a [`Root`](crate::Root) has opened, or one's own
    /// [`ByteSource`].
    ///
    /// ```
    /// # use lazul_core::prelude::*;
    /// # use lazul_io::{Npz, save_npz};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("w.npz");
    /// save_npz(&path, [("w", &arange(2, DType::I32))])?;
    /// let source = lazul_io::Root::open(folder.path())?.open_file("w.npz")?;
    /// let file = Npz::from_source(std::sync::Arc::new(source))?;
    /// assert_eq!(file.get("w")?.to_vec::<i32>()?, [0, 1]);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`Npz::open`], and those of the source.
    pub fn from_source(source: Arc<dyn ByteSource>) -> Result<Npz> {
        let describe = source.describe();
        let archive = Archive::open(source)?;
        let mut arrays = BTreeMap::new();
        for (number, member) in archive.members().iter().enumerate() {
            let Some(name) = member.name.strip_suffix(SUFFIX) else {
                let what = format!("member {:?} is not an npy file", member.name);
                return Err(Error::unsupported(what).in_file(describe));
            };
            arrays.insert(name.to_owned(), number);
        }
        Ok(Npz { archive, describe, arrays })
    }

    /// The names of the arrays, sorted by their bytes, without the `.npy` of the members.
    ///
    /// ```
    /// # use lazul_core::prelude::*;
    /// # use lazul_io::{Npz, save_npz};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("w.npz");
    /// let x = zeros([1], DType::F32);
    /// save_npz(&path, [("b", &x), ("a", &x)])?;
    /// assert_eq!(Npz::open(&path)?.names().collect::<Vec<_>>(), ["a", "b"]);
    /// # Ok(()) }
    /// ```
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.arrays.keys().map(String::as_str)
    }

    /// One member as an npy file: shape and element type without an array, or raw bytes with
    /// [`Npy::array_as`].
    ///
    /// ```
    /// # use lazul_core::prelude::*;
    /// # use lazul_io::{Npz, save_npz};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("w.npz");
    /// save_npz(&path, [("w", &zeros([2, 3], DType::F16))])?;
    /// let w = Npz::open(&path)?.npy("w")?;
    /// assert_eq!((w.descr(), w.shape()), ("<f2", &[2, 3][..]));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Missing`] if there is no such array, and those of [`Npy::from_bytes`] for the
    /// member. Whether its data matches the checksum shows when the array is evaluated.
    pub fn npy(&self, name: &str) -> Result<Npy> {
        let member = self.arrays.get(name).and_then(|&number| self.archive.members().get(number));
        let member = member.ok_or_else(|| {
            Error::new(ErrorKind::Missing, format!("there is no array {name:?}"))
                .in_file(&self.describe)
        })?;
        Npy::from_source(self.archive.source(member))
    }

    /// One array, which reads, verifies and if need be inflates its member when it is evaluated.
    ///
    /// ```
    /// # use lazul_core::prelude::*;
    /// # use lazul_io::{Npz, save_npz};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("w.npz");
    /// save_npz(&path, [("w", &arange(3, DType::F32))])?;
    /// let file = Npz::open(&path)?;
    /// assert_eq!(file.get("w")?.to_vec::<f32>()?, [0.0, 1.0, 2.0]);
    /// assert_eq!(file.get("b").unwrap_err().kind(), lazul_io::ErrorKind::Missing);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`Npz::npy`] and [`Npy::array`].
    pub fn get(&self, name: &str) -> Result<Array> {
        self.npy(name)?.array()
    }

    /// All arrays by their names, as [`Npz::get`] gives them.
    ///
    /// ```
    /// # use lazul_core::prelude::*;
    /// # use lazul_io::{Npz, save_npz};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("w.npz");
    /// save_npz(&path, [("a", &ones([2], DType::F32)), ("b", &arange(2, DType::I32))])?;
    /// let arrays = Npz::open(&path)?.arrays()?;
    /// assert_eq!(arrays.len(), 2);
    /// assert_eq!(arrays["b"].to_vec::<i32>()?, [0, 1]);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`Npz::get`], of the first that fails.
    pub fn arrays(&self) -> Result<BTreeMap<String, Array>> {
        self.names().map(|name| Ok((name.to_owned(), self.get(name)?))).collect()
    }
}

impl std::fmt::Debug for Npz {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Npz")
            .field("source", &self.describe)
            .field("arrays", &self.arrays.keys())
            .finish()
    }
}

/// Opens an archive and returns all its arrays by their names, each read when it is evaluated.
///
/// ```
/// use lazul_core::prelude::*;
/// use lazul_io::{load_npz, save_npz};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("w.npz");
/// save_npz(&path, [("a", &arange(3, DType::I32)), ("b", &ones([2, 2], DType::F32))])?;
/// let arrays = load_npz(&path)?;
/// assert_eq!(arrays["a"].to_vec::<i32>()?, [0, 1, 2]);
/// assert_eq!(arrays["b"].shape()?, [2, 2]);
/// # Ok(()) }
/// ```
///
/// # Errors
/// As [`Npz::open`] and [`Npz::arrays`].
pub fn load_npz(path: impl AsRef<Path>) -> Result<BTreeMap<String, Array>> {
    Npz::open(path)?.arrays()
}

/// Saves named arrays uncompressed, whole or not at all. Arrays have any shape and dtype; they are
/// written in the order of their names, so the same arrays give the same bytes.
///
/// ```
/// use lazul_core::prelude::*;
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("w.npz");
/// let weights = [("layers.0", ones([2], DType::F32)), ("layers.1", zeros([2], DType::F32))];
/// lazul_io::save_npz(&path, weights.iter().map(|(name, array)| (name, array)))?;
/// let read = lazul_io::load_npz(&path)?;
/// assert_eq!(read["layers.0"].to_vec::<f32>()?, [1.0, 1.0]);
/// # Ok(()) }
/// ```
///
/// # Errors
/// [`ErrorKind::Argument`] if two arrays have one name; [`ErrorKind::Outside`] if a name is not a
/// plain relative path; [`ErrorKind::Array`] if an array fails; and those of the file system.
pub fn save_npz<'a, N: AsRef<str>>(
    path: impl AsRef<Path>,
    arrays: impl IntoIterator<Item = (N, &'a Array)>,
) -> Result<()> {
    save(path.as_ref(), arrays, Method::Stored)
}

/// Saves named arrays deflated, whole or not at all; otherwise as [`save_npz`]. Masks, labels and
/// other regular data shrink much, trained weights hardly.
///
/// ```
/// use lazul_core::prelude::*;
/// use lazul_io::{load_npz, save_npz_compressed};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("mask.npz");
/// save_npz_compressed(&path, [("mask", &tri(500, 500, 0, DType::F32))])?;
/// assert!(std::fs::metadata(&path)?.len() < 100_000); // of a million
/// assert_eq!(load_npz(&path)?["mask"].sum(..).item::<f32>()?, 500.0 * 501.0 / 2.0);
/// # Ok(()) }
/// ```
///
/// # Errors
/// As [`save_npz`].
pub fn save_npz_compressed<'a, N: AsRef<str>>(
    path: impl AsRef<Path>,
    arrays: impl IntoIterator<Item = (N, &'a Array)>,
) -> Result<()> {
    save(path.as_ref(), arrays, Method::Deflated)
}

fn save<'a, N: AsRef<str>>(
    path: &Path,
    arrays: impl IntoIterator<Item = (N, &'a Array)>,
    method: Method,
) -> Result<()> {
    let at = |e: Error| e.in_file(path.display());
    let mut sorted = BTreeMap::new();
    for (name, array) in arrays {
        let name = name.as_ref();
        let member = format!("{name}{SUFFIX}");
        check_name(&member).map_err(at)?;
        if sorted.insert(member, array).is_some() {
            let what = format!("two arrays are called {name:?}");
            return Err(at(Error::new(ErrorKind::Argument, what)));
        }
    }
    let mut writer = Writer::new(AtomicFile::create(path)?);
    for (member, array) in sorted {
        let (preamble, data) = npy::encode(&member, array).map_err(at)?;
        writer.add(&member, &[&preamble, &data], method).map_err(at)?;
    }
    writer.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_methods_make_the_round_trip() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w.npz");
        let long: Vec<f32> = (0..100_000).map(|i| (i / 7) as f32).collect();
        let a = Array::from_slice(&long, [100, 1000]);
        let b = Array::from_slice(&[3u8], [1]);
        let empty = Array::from_slice::<i64>(&[], [0, 4]);
        let arrays = [("layers/é", &a), ("b", &b), ("empty", &empty)];
        for compressed in [false, true] {
            match compressed {
                false => save_npz(&path, arrays).unwrap(),
                true => save_npz_compressed(&path, arrays).unwrap(),
            }
            let npz = Npz::open(&path).unwrap();
            assert_eq!(npz.names().collect::<Vec<_>>(), ["b", "empty", "layers/é"]);
            let back = npz.arrays().unwrap();
            assert_eq!(back["layers/é"].to_vec::<f32>().unwrap(), long);
            assert_eq!(back["layers/é"].to_vec::<f32>().unwrap(), long);
            assert_eq!(back["b"].to_vec::<u8>().unwrap(), [3]);
            assert_eq!(back["empty"].shape().unwrap(), [0, 4]);
            assert_eq!(npz.get("c").unwrap_err().kind(), ErrorKind::Missing);
        }
        assert!(std::fs::metadata(&path).unwrap().len() < 100_000);
    }

    #[test]
    fn the_same_arrays_are_the_same_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let array = Array::from_slice(&[1.0f32], [1]);
        let paths = ["a", "b"].map(|name| folder.path().join(name));
        paths.iter().for_each(|path| save_npz(path, [("x", &array)]).unwrap());
        assert_eq!(std::fs::read(&paths[0]).unwrap(), std::fs::read(&paths[1]).unwrap());
    }

    #[test]
    fn damaged_data_is_an_error_at_evaluation_in_both_methods() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w.npz");
        let values: Vec<u8> = (0..200).collect();
        let array = Array::from_slice(&values, [200]);
        for compressed in [false, true] {
            match compressed {
                false => save_npz(&path, [("x", &array)]).unwrap(),
                true => save_npz_compressed(&path, [("x", &array)]).unwrap(),
            }
            let mut bytes = std::fs::read(&path).unwrap();
            let at = 30 + 5 + 128 + 20;
            bytes[at] ^= 1;
            let result = Npz::from_bytes(bytes).unwrap().get("x").map(|x| x.to_bytes());
            assert!(!matches!(result, Ok(Ok(_))));
        }
    }
}

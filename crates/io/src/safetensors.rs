//! Reading and writing safetensors.
//!
//! A file is an 8-byte little-endian header length, a JSON header and the bytes of the tensors.
//! The header is validated whole before anything else happens: names are unique, every size agrees
//! with shape and dtype, and the tensors tile the data without overlap, hole or rest. Then each
//! tensor is an array that reads its own bytes when it is evaluated; opening a 100 GB file costs
//! its header.
//!
//! What the format leaves open is decided so:
//!
//! * data need not be aligned (MLX does not align it);
//! * `"__metadata__": null` is accepted, as MLX writes it; unknown keys of a tensor are ignored;
//! * float8 tensors load as `uint8` with their raw codes, like MLX; 4- and 6-bit floats are
//!   described by [`TensorInfo`] but do not load;
//! * headers above 100,000,000 bytes (the reference's limit), names above 4,096 bytes and more than
//!   262,144 tensors in one file are refused.

mod write;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use lazul_core::{Array, ByteSource, DType};

pub(crate) use self::write::describe;
pub use self::write::save_safetensors;
use crate::bounded::Bounded;
use crate::error::{Error, ErrorKind, Result};
use crate::json::{Kind, Parser};
use crate::size::{Extent, MAX_RANK, to_usize};
use crate::source::{FileSource, MappedSource, Mapping, MemorySource};

/// Largest header, as in the reference implementation.
const MAX_HEADER: u64 = 100_000_000;
/// Most tensors in one file; the largest models have about 100,000 over all their shards.
const MAX_TENSORS: usize = 1 << 18;
/// Longest tensor name in bytes.
const MAX_NAME: usize = 4096;
/// The reserved name of the metadata.
const METADATA: &str = "__metadata__";

macro_rules! stored {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $bits:literal, $dtype:expr;)*) => {
        /// An element type as a safetensors file names it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum StoredDType { $($(#[$doc])* $name,)* }

        impl StoredDType {
            /// Finds a type by its name in the file (`"BF16"`), which is in capitals; `None` for
            /// any other text.
            ///
            /// ```
            /// use lazul_io::StoredDType;
            /// assert_eq!(StoredDType::from_name("BF16"), Some(StoredDType::BF16));
            /// assert_eq!(StoredDType::from_name("bfloat16"), None);
            /// ```
            pub fn from_name(name: &str) -> Option<StoredDType> {
                match name { $($text => Some(StoredDType::$name),)* _ => None }
            }

            /// The name in the file.
            ///
            /// ```
            /// use lazul_io::StoredDType;
            /// assert_eq!(StoredDType::F8E4M3.name(), "F8_E4M3");
            /// ```
            pub fn name(self) -> &'static str {
                match self { $(StoredDType::$name => $text,)* }
            }

            /// Bits of one element. A tensor's data takes the product of its shape times this, over
            /// 8, in bytes.
            ///
            /// ```
            /// use lazul_io::StoredDType;
            /// assert_eq!(StoredDType::BF16.bits(), 16);
            /// assert_eq!(StoredDType::F4.bits(), 4); // two elements in a byte
            /// ```
            pub fn bits(self) -> u32 {
                match self { $(StoredDType::$name => $bits,)* }
            }

            /// The dtype of the array that it loads as. `None` for 4- and 6-bit floats, which do
            /// not load.
            ///
            /// ```
            /// use lazul_core::DType;
            /// use lazul_io::StoredDType;
            /// assert_eq!(StoredDType::F16.dtype(), Some(DType::F16));
            /// assert_eq!(StoredDType::F8E4M3.dtype(), Some(DType::U8)); // the raw codes
            /// assert_eq!(StoredDType::F4.dtype(), None);
            /// ```
            pub fn dtype(self) -> Option<DType> {
                match self { $(StoredDType::$name => $dtype,)* }
            }
        }
    };
}

stored! {
    /// Booleans, one byte each.
    Bool = "BOOL", 8, Some(DType::Bool);
    /// Unsigned 8 bits.
    U8 = "U8", 8, Some(DType::U8);
    /// Signed 8 bits.
    I8 = "I8", 8, Some(DType::I8);
    /// Unsigned 16 bits.
    U16 = "U16", 16, Some(DType::U16);
    /// Signed 16 bits.
    I16 = "I16", 16, Some(DType::I16);
    /// Unsigned 32 bits.
    U32 = "U32", 32, Some(DType::U32);
    /// Signed 32 bits.
    I32 = "I32", 32, Some(DType::I32);
    /// Unsigned 64 bits.
    U64 = "U64", 64, Some(DType::U64);
    /// Signed 64 bits.
    I64 = "I64", 64, Some(DType::I64);
    /// IEEE half precision.
    F16 = "F16", 16, Some(DType::F16);
    /// bfloat16.
    BF16 = "BF16", 16, Some(DType::BF16);
    /// IEEE single precision.
    F32 = "F32", 32, Some(DType::F32);
    /// IEEE double precision.
    F64 = "F64", 64, Some(DType::F64);
    /// Complex of two singles.
    C64 = "C64", 64, Some(DType::C64);
    /// float8 with 4 exponent bits; loads as raw `uint8`.
    F8E4M3 = "F8_E4M3", 8, Some(DType::U8);
    /// float8 with 5 exponent bits; loads as raw `uint8`.
    F8E5M2 = "F8_E5M2", 8, Some(DType::U8);
    /// An 8-bit power of two, the scale of microscaled formats; loads as raw `uint8`.
    F8E8M0 = "F8_E8M0", 8, Some(DType::U8);
    /// float8 E4M3 without negative zero; loads as raw `uint8`.
    F8E4M3Fnuz = "F8_E4M3FNUZ", 8, Some(DType::U8);
    /// float8 E5M2 without negative zero; loads as raw `uint8`.
    F8E5M2Fnuz = "F8_E5M2FNUZ", 8, Some(DType::U8);
    /// 4-bit float, two to a byte; does not load.
    F4 = "F4", 4, None;
    /// 6-bit float E2M3; does not load.
    F6E2M3 = "F6_E2M3", 6, None;
    /// 6-bit float E3M2; does not load.
    F6E3M2 = "F6_E3M2", 6, None;
}

/// One tensor of a file, as the header describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    stored: StoredDType,
    shape: Box<[usize]>,
    begin: u64,
    end: u64,
}

impl TensorInfo {
    /// The element type in the file. The array may have another dtype: see [`StoredDType::dtype`].
    ///
    /// ```
    /// # use lazul_core::prelude::*;
    /// # use lazul_io::{SafeTensors, save_safetensors};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("model.safetensors");
    /// save_safetensors(&path, [("w", &zeros([2, 3], DType::BF16))], &[])?;
    /// let file = SafeTensors::open(&path)?;
    /// assert_eq!(file.info("w").unwrap().stored().name(), "BF16");
    /// # Ok(()) }
    /// ```
    pub fn stored(&self) -> StoredDType {
        self.stored
    }

    /// The shape, outermost axis first; empty for a scalar.
    ///
    /// ```
    /// # use lazul_core::prelude::*;
    /// # use lazul_io::{SafeTensors, save_safetensors};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("model.safetensors");
    /// save_safetensors(&path, [("w", &zeros([2, 3], DType::BF16))], &[])?;
    /// let file = SafeTensors::open(&path)?;
    /// assert_eq!(file.info("w").unwrap().shape(), [2, 3]);
    /// # Ok(()) }
    /// ```
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Size of the data in bytes, exactly what shape and element type need.
    ///
    /// ```
    /// # use lazul_core::prelude::*;
    /// # use lazul_io::{SafeTensors, save_safetensors};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("model.safetensors");
    /// save_safetensors(&path, [("w", &zeros([2, 3], DType::BF16))], &[])?;
    /// let file = SafeTensors::open(&path)?;
    /// assert_eq!(file.info("w").unwrap().bytes(), 2 * 3 * 2);
    /// # Ok(()) }
    /// ```
    pub fn bytes(&self) -> u64 {
        self.end.saturating_sub(self.begin)
    }
}

/// An open safetensors file.
///
/// ```
/// use lazul_core::Array;
/// use lazul_io::{SafeTensors, save_safetensors};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// let path = folder.path().join("model.safetensors");
/// let w = Array::from_slice(&[1.0f32, 2.0, 3.0, 4.0], [2, 2]);
/// save_safetensors(&path, [("w", &w)], &[("format", "mlx")])?;
///
/// let file = SafeTensors::open(&path)?;
/// assert_eq!(file.metadata()["format"], "mlx");
/// assert_eq!(file.get("w")?.to_vec::<f32>()?, [1.0, 2.0, 3.0, 4.0]);
/// # Ok(()) }
/// ```
pub struct SafeTensors {
    source: Arc<dyn ByteSource>,
    data: u64,
    tensors: BTreeMap<Box<str>, TensorInfo>,
    metadata: BTreeMap<String, String>,
}

impl SafeTensors {
    /// Opens a file and validates its header. The data is not read.
    ///
    /// ```
    /// # use lazul_core::prelude::*;
    /// # use lazul_io::{SafeTensors, save_safetensors};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("model.safetensors");
    /// save_safetensors(&path, [("w", &ones([2], DType::F32))], &[])?;
    /// assert_eq!(SafeTensors::open(&path)?.names().len(), 1);
    /// let missing = SafeTensors::open(folder.path().join("none")).unwrap_err();
    /// assert_eq!(missing.kind(), lazul_io::ErrorKind::NotFound);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// If the path does not lead to a regular file that can be read; if the header is truncated,
    /// breaks the rules of the format, declares more than the limits of this [module](self), or has
    /// a dtype that is not known; if the tensors do not tile the data.
    pub fn open(path: impl AsRef<Path>) -> Result<SafeTensors> {
        SafeTensors::from_source(Arc::new(FileSource::open(path)?))
    }

    /// Reads a file that is in memory. The arrays read from these bytes when they are evaluated.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let header = r#"{"w":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}}"#;
    /// let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    /// bytes.extend(header.as_bytes());
    /// bytes.extend([7, 9]);
    /// let file = lazul_io::SafeTensors::from_bytes(bytes)?;
    /// assert_eq!(file.get("w")?.to_vec::<u8>()?, [7, 9]);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`SafeTensors::open`], without those of the file system.
    pub fn from_bytes(bytes: impl Into<Vec<u8>>) -> Result<SafeTensors> {
        SafeTensors::from_source(Arc::new(MemorySource::new(bytes)))
    }

    /// Reads from any source: a file that a [`Root`](crate::Root) has opened, or one's own
    /// [`ByteSource`]. The arrays read from it when they are evaluated.
    ///
    /// ```
    /// use lazul_io::{Root, SafeTensors};
    /// # use lazul_core::prelude::*;
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let w = ones([2], DType::F32);
    /// # lazul_io::save_safetensors(folder.path().join("model.safetensors"), [("w", &w)], &[])?;
    /// let root = Root::open(folder.path())?; // names that come from others cannot lead out of it
    /// let file = SafeTensors::from_source(std::sync::Arc::new(root.open_file("model.safetensors")?))?;
    /// assert_eq!(file.get("w")?.to_vec::<f32>()?, [1.0, 1.0]);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`SafeTensors::open`], and those of the source.
    pub fn from_source(source: Arc<dyn ByteSource>) -> Result<SafeTensors> {
        SafeTensors::read(source.clone()).map_err(|e| e.in_file(source.describe()))
    }

    fn read(source: Arc<dyn ByteSource>) -> Result<SafeTensors> {
        let mut cursor = Bounded::new(source.clone())?;
        let length = cursor.u64("the header length")?;
        let header = cursor.bytes(length, MAX_HEADER, "the header")?;
        let data = cursor.position();
        let size = cursor.remaining();
        let header = Header::parse(&header)?;
        header.check_layout(size)?;
        Ok(SafeTensors { source, data, tensors: header.tensors, metadata: header.metadata })
    }

    /// The names of the tensors, sorted by their bytes.
    ///
    /// ```
    /// # use lazul_core::prelude::*;
    /// # use lazul_io::{SafeTensors, save_safetensors};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("model.safetensors");
    /// let x = zeros([1], DType::F32);
    /// save_safetensors(&path, [("norm.weight", &x), ("lm_head.weight", &x)], &[])?;
    /// let file = SafeTensors::open(&path)?;
    /// assert_eq!(file.names().collect::<Vec<_>>(), ["lm_head.weight", "norm.weight"]);
    /// # Ok(()) }
    /// ```
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.tensors.keys().map(|name| &**name)
    }

    /// What the header says about a tensor: element type, shape and size. `None` when there is no
    /// such tensor.
    ///
    /// ```
    /// # use lazul_core::prelude::*;
    /// # use lazul_io::{SafeTensors, save_safetensors};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("model.safetensors");
    /// save_safetensors(&path, [("w", &zeros([4, 8], DType::F16))], &[])?;
    /// let file = SafeTensors::open(&path)?;
    /// let w = file.info("w").unwrap();
    /// assert_eq!((w.shape(), w.bytes()), (&[4, 8][..], 64));
    /// assert!(file.info("b").is_none());
    /// # Ok(()) }
    /// ```
    pub fn info(&self, name: &str) -> Option<&TensorInfo> {
        self.tensors.get(name)
    }

    /// The file's own metadata, texts by keys (`__metadata__` of the header); empty when there is
    /// none.
    ///
    /// ```
    /// # use lazul_core::prelude::*;
    /// # use lazul_io::{SafeTensors, save_safetensors};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("model.safetensors");
    /// save_safetensors(&path, [("w", &zeros([1], DType::F32))], &[("format", "mlx")])?;
    /// let file = SafeTensors::open(&path)?;
    /// assert_eq!(file.metadata().get("format").map(String::as_str), Some("mlx"));
    /// # Ok(()) }
    /// ```
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// A tensor as an array of the header's shape and of [`StoredDType::dtype`]. It reads its bytes
    /// when it is evaluated.
    ///
    /// ```
    /// # use lazul_core::prelude::*;
    /// # use lazul_io::{SafeTensors, save_safetensors};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("model.safetensors");
    /// save_safetensors(&path, [("w", &arange(6, DType::F32).reshape([2, 3]))], &[])?;
    /// let w = SafeTensors::open(&path)?.get("w")?; // nothing is read yet
    /// assert_eq!(w.shape()?, [2, 3]);
    /// assert_eq!(w.sum(1).to_vec::<f32>()?, [3.0, 12.0]);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Missing`] if there is no such tensor, [`ErrorKind::Unsupported`] for 4- and
    /// 6-bit floats. That the file has changed, or cannot be read, is an error of the evaluation.
    pub fn get(&self, name: &str) -> Result<Array> {
        let info = self.tensors.get(name).ok_or_else(|| {
            Error::new(ErrorKind::Missing, format!("there is no tensor {name:?}"))
                .in_file(self.source.describe())
        })?;
        self.array(name, info)
    }

    /// All tensors by their names, as [`SafeTensors::get`] gives them.
    ///
    /// ```
    /// # use lazul_core::prelude::*;
    /// # use lazul_io::{SafeTensors, save_safetensors};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("model.safetensors");
    /// let (w, b) = (ones([2, 2], DType::F32), zeros([2], DType::F32));
    /// save_safetensors(&path, [("w", &w), ("b", &b)], &[])?;
    /// let arrays = SafeTensors::open(&path)?.arrays()?;
    /// assert_eq!(arrays.len(), 2);
    /// assert_eq!(arrays["w"].shape()?, [2, 2]);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] if one of them is of 4- or 6-bit floats.
    pub fn arrays(&self) -> Result<BTreeMap<String, Array>> {
        let arrays = self.tensors.iter();
        arrays.map(|(name, info)| Ok((name.to_string(), self.array(name, info)?))).collect()
    }

    fn array(&self, name: &str, info: &TensorInfo) -> Result<Array> {
        let Some(dtype) = info.stored.dtype() else {
            let what = format!("tensor {name:?} has dtype {}", info.stored.name());
            return Err(Error::unsupported(what).in_file(self.source.describe()));
        };
        // The layout check has shown that this is inside the file.
        let start = self.data.saturating_add(info.begin);
        Ok(match dtype {
            DType::Bool => {
                let source = self.source.clone();
                let truth = MappedSource::new(source, start, info.bytes(), Mapping::Truth);
                Array::from_source(Arc::new(truth), 0, &*info.shape, dtype)
            }
            _ => Array::from_source(self.source.clone(), start, &*info.shape, dtype),
        })
    }
}

impl fmt::Debug for SafeTensors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SafeTensors")
            .field("source", &self.source.describe())
            .field("tensors", &self.tensors)
            .field("metadata", &self.metadata)
            .finish()
    }
}

/// The header, read and judged.
#[derive(Default)]
struct Header {
    tensors: BTreeMap<Box<str>, TensorInfo>,
    metadata: BTreeMap<String, String>,
}

impl Header {
    fn parse(text: &[u8]) -> Result<Header> {
        // The header follows the eight bytes of its length.
        let mut parser = Parser::at(text, 8)?;
        if text.first() != Some(&b'{') {
            return Err(Error::malformed("the header does not start with '{'").at_byte(8));
        }
        let mut header = Header::default();
        let mut seen_metadata = false;
        parser.entries(|parser, name| {
            let repeated = || Error::malformed("the name is repeated");
            if name == METADATA {
                if std::mem::replace(&mut seen_metadata, true) {
                    return Err(repeated());
                }
                header.metadata = read_metadata(parser)?;
                return Ok(());
            }
            if name.len() > MAX_NAME {
                return Err(Error::limit(format!(
                    "a tensor name of {} bytes; the most is {MAX_NAME}",
                    name.len()
                )));
            }
            if header.tensors.len() >= MAX_TENSORS {
                return Err(Error::limit(format!("more than {MAX_TENSORS} tensors in one file")));
            }
            match header.tensors.entry(name.into_owned().into_boxed_str()) {
                Entry::Occupied(_) => return Err(repeated()),
                Entry::Vacant(free) => free.insert(read_tensor(parser)?),
            };
            Ok(())
        })?;
        parser.end()?;
        Ok(header)
    }

    /// The tensors must tile the data: sorted by place, each begins where the one before ends.
    fn check_layout(&self, size: u64) -> Result<()> {
        let mut order: Vec<(u64, u64, &str)> =
            self.tensors.iter().map(|(name, info)| (info.begin, info.end, &**name)).collect();
        order.sort_unstable();
        let mut reached = 0;
        for (begin, end, name) in order {
            if begin != reached {
                let what = match begin < reached {
                    true => "overlaps the tensor before it",
                    false => "leaves a hole before it",
                };
                let what = format!("the data begins at {begin} and {what} ({reached})");
                return Err(Error::malformed(what).under_key("data_offsets").under_key(name));
            }
            if end > size {
                let what = format!("the data ends at {end} and the file has {size} bytes of data");
                return Err(Error::truncated(what).under_key("data_offsets").under_key(name));
            }
            reached = end;
        }
        match size.checked_sub(reached) {
            Some(0) => Ok(()),
            rest => Err(Error::malformed(format!(
                "{} bytes after the last tensor belong to none",
                rest.unwrap_or_default()
            ))),
        }
    }
}

fn read_metadata(parser: &mut Parser<'_>) -> Result<BTreeMap<String, String>> {
    let mut metadata = BTreeMap::new();
    if parser.peek()? == Kind::Null {
        parser.null()?;
        return Ok(metadata);
    }
    parser.object(|parser, key| {
        let value = parser.string()?;
        metadata.insert(key.to_owned(), value.into_owned());
        Ok(())
    })?;
    Ok(metadata)
}

fn read_tensor(parser: &mut Parser<'_>) -> Result<TensorInfo> {
    let mut stored = None;
    let mut shape = None;
    let mut offsets = None;
    parser.object(|parser, key| {
        match key {
            "dtype" => {
                let name = parser.string()?;
                let found = StoredDType::from_name(&name);
                let unknown = || Error::unsupported(format!("unknown dtype {name:?}"));
                stored = Some(found.ok_or_else(unknown)?);
            }
            "shape" => shape = Some(read_shape(parser)?),
            "data_offsets" => offsets = Some(read_offsets(parser)?),
            _ => parser.skip()?,
        }
        Ok(())
    })?;
    let missing = |key: &str| Error::malformed(format!("the key {key:?} is missing"));
    let stored = stored.ok_or_else(|| missing("dtype"))?;
    let shape = shape.ok_or_else(|| missing("shape"))?;
    let (begin, end) = offsets.ok_or_else(|| missing("data_offsets"))?;
    let extent = Extent::new(&shape, stored.bits()).map_err(|e| e.under_key("shape"))?;
    if end.checked_sub(begin) != Some(extent.bytes) {
        return Err(Error::malformed(format!(
            "{} {shape:?} takes {} bytes, not those from {begin} to {end}",
            stored.name(),
            extent.bytes
        ))
        .under_key("data_offsets"));
    }
    Ok(TensorInfo { stored, shape, begin, end })
}

fn read_shape(parser: &mut Parser<'_>) -> Result<Box<[usize]>> {
    let mut dims = [0; MAX_RANK];
    let mut rank: usize = 0;
    parser.array(|parser, index| {
        let dim = to_usize(parser.u64()?, "the dimension")?;
        let Some(place) = dims.get_mut(index) else {
            return Err(Error::limit(format!("more than {MAX_RANK} dimensions")));
        };
        *place = dim;
        rank = index.saturating_add(1);
        Ok(())
    })?;
    Ok(dims.get(..rank).unwrap_or_default().into())
}

fn read_offsets(parser: &mut Parser<'_>) -> Result<(u64, u64)> {
    let mut pair = [0; 2];
    let mut count: usize = 0;
    let wrong = || Error::malformed("data_offsets must be two numbers");
    parser.array(|parser, index| {
        let place = pair.get_mut(index).ok_or_else(wrong)?;
        *place = parser.u64()?;
        count = index.saturating_add(1);
        Ok(())
    })?;
    match pair {
        [begin, end] if count == 2 => Ok((begin, end)),
        _ => Err(wrong()),
    }
}

/// Opens a file and returns all its tensors by their names, each read when it is evaluated. See
/// [`SafeTensors`] for the metadata.
///
/// ```
/// use lazul_core::prelude::*;
/// use lazul_io::{load_safetensors, save_safetensors};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("w.safetensors");
/// save_safetensors(&path, [("w", &arange(4, DType::I32))], &[])?;
/// let arrays = load_safetensors(&path)?;
/// assert_eq!(arrays["w"].to_vec::<i32>()?, [0, 1, 2, 3]);
/// # Ok(()) }
/// ```
///
/// # Errors
/// As [`SafeTensors::open`] and [`SafeTensors::arrays`].
pub fn load_safetensors(path: impl AsRef<Path>) -> Result<BTreeMap<String, Array>> {
    SafeTensors::open(path)?.arrays()
}

#[cfg(test)]
mod tests {
    use super::*;
    use half::bf16;

    fn file(header: &str, data: &[u8]) -> Vec<u8> {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.extend(data);
        bytes
    }

    #[test]
    fn reads_what_mlx_writes() {
        // No padding, data not in the order of the names, null metadata, unaligned.
        let header = r#"{"__metadata__":null,"a":{"data_offsets":[4,10],"dtype":"BF16","shape":[3]},"b":{"data_offsets":[0,4],"dtype":"F32","shape":[]},"c":{"data_offsets":[10,10],"dtype":"I8","shape":[0]}}"#;
        let mut data = 1.5f32.to_le_bytes().to_vec();
        data.extend([1.0f32, 2.0, 3.0].iter().flat_map(|x| bf16::from_f32(*x).to_le_bytes()));
        let tensors = SafeTensors::from_bytes(file(header, &data)).unwrap();
        assert_eq!(tensors.names().collect::<Vec<_>>(), ["a", "b", "c"]);
        assert_eq!(tensors.get("b").unwrap().to_vec::<f32>().unwrap(), [1.5]);
        let a: Vec<bf16> = tensors.get("a").unwrap().to_vec().unwrap();
        assert_eq!(a.iter().map(|x| x.to_f32()).collect::<Vec<_>>(), [1.0, 2.0, 3.0]);
        assert_eq!(tensors.get("c").unwrap().shape().unwrap(), [0]);
        assert!(tensors.metadata().is_empty());
        assert_eq!(tensors.get("d").unwrap_err().kind(), ErrorKind::Missing);
    }

    #[test]
    fn float8_is_raw_bytes_and_float4_does_not_load() {
        let header = r#"{"e":{"dtype":"F8_E4M3","shape":[2],"data_offsets":[0,2]},"f":{"dtype":"F4","shape":[2],"data_offsets":[2,3]},"s":{"dtype":"F8_E8M0","shape":[1],"data_offsets":[3,4]}}"#;
        let tensors = SafeTensors::from_bytes(file(header, &[0x38, 0xff, 0x21, 127])).unwrap();
        assert_eq!(tensors.get("e").unwrap().to_vec::<u8>().unwrap(), [0x38, 0xff]);
        assert_eq!(tensors.get("s").unwrap().dtype().unwrap(), DType::U8);
        assert_eq!(tensors.info("f").unwrap().stored(), StoredDType::F4);
        assert_eq!(tensors.get("f").unwrap_err().kind(), ErrorKind::Unsupported);
    }

    #[test]
    fn booleans_are_zero_or_one() {
        let header = r#"{"b":{"dtype":"BOOL","shape":[3],"data_offsets":[0,3]}}"#;
        let tensors = SafeTensors::from_bytes(file(header, &[0, 1, 0xfe])).unwrap();
        assert_eq!(tensors.get("b").unwrap().to_bytes().unwrap(), [0, 1, 1]);
    }

    #[test]
    fn errors_say_where() {
        let header = r#"{"a":{"dtype":"F32","shape":[2,"x"],"data_offsets":[0,8]}}"#;
        let error = SafeTensors::from_bytes(file(header, &[0; 8])).unwrap_err();
        assert_eq!(error.json_path().as_deref(), Some("a.shape[1]"));
        assert_eq!(error.file(), "<memory>");
        let error = SafeTensors::from_bytes(file("{} x", &[])).unwrap_err();
        assert!(error.to_string().contains("at byte 11"), "{error}");
    }

    #[test]
    fn a_failed_save_leaves_the_old_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w.safetensors");
        let one = Array::from_slice(&[1.0f32], [1]);
        save_safetensors(&path, [("a", &one)], &[("k", "v")]).unwrap();
        let before = std::fs::read(&path).unwrap();
        for names in [["x", "x"], ["x", METADATA]] {
            let arrays = names.map(|name| (name, &one));
            assert!(save_safetensors(&path, arrays, &[("k", "v")]).is_err());
        }
        assert_eq!(std::fs::read(&path).unwrap(), before);
    }
}

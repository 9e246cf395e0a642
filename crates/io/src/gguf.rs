//! Reading and writing GGUF, the format of llama.cpp.
//!
//! A file is a header of typed metadata and tensor descriptions, then the bytes of the tensors. The header
//! is validated whole before anything else happens: keys and names are unique, every size agrees with
//! shape and type, and tensors lie one after the other, each padded to the alignment. Then each tensor is
//! an array that reads its own bytes when it is evaluated. Tensors in block formats keep them:
//! [`Gguf::quantized`] gives the bytes as they lie in the file, ready for products.
//!
//! Shapes are those of arrays, last axis fastest; the file has them in reverse.
//!
//! What the format leaves open is decided so:
//!
//! * versions 2 and 3 in little-endian order are read, version 3 is written;
//! * the last tensor need not be padded (MLX does not pad it), nor do tensors have to be described in the
//!   order of their data; holes are refused;
//! * one to four dimensions, none of them 0; names of tensors up to 4,096 bytes;
//! * a key may have 65,535 bytes; a file 65,536 keys and as many tensors; lists nest 8 deep;
//! * types that are not read (codebooks, ternary digits) are described by [`GgufTensorInfo`], and are an
//!   error when the tensor is asked for;
//! * one part of a model that is split over several files is refused: merge it first.

mod types;
mod value;
mod write;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use lazul_core::{Array, BlockFormat, ByteSource, DType, Quantization, Quantized};

pub use self::types::GgufType;
use self::types::Stored;
pub use self::value::{GgufList, GgufValue, TextList};
pub use self::write::{GgufArray, save_gguf, save_gguf_with};
use crate::bounded::Bounded;
use crate::error::{Error, ErrorKind, Result};
use crate::size::to_usize;
use crate::source::{FileSource, MemorySource};

const MAGIC: [u8; 4] = *b"GGUF";
/// Longest key, as in the specification.
const MAX_KEY: u64 = 65_535;
/// Longest tensor name in bytes.
const MAX_NAME: u64 = 4096;
/// Most keys, and most tensors.
const MAX_COUNT: u64 = 1 << 16;
/// Bytes that a key and a value, or a tensor's description, take at least.
const LEAST_PAIR: u64 = 8 + 4 + 1;
const LEAST_TENSOR: u64 = 8 + 4 + 8 + 4 + 8;
/// Most dimensions.
const MAX_RANK: u32 = 4;
/// Alignment of the data where the file does not say.
const ALIGNMENT: u64 = 32;
/// Largest alignment that is believed.
const MAX_ALIGNMENT: u64 = 1 << 16;

/// One tensor of a file, as the header describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GgufTensorInfo {
    kind: GgufType,
    shape: Box<[usize]>,
    /// Position in the data.
    begin: u64,
    bytes: u64,
    /// Where in the file the description begins.
    at: u64,
}

impl GgufTensorInfo {
    /// The type of the elements or blocks.
    ///
    /// ```
    /// # use lazul_core::prelude::*;
    /// # use lazul_io::gguf::{Gguf, GgufList, GgufValue, save_gguf};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("model.gguf");
    /// # let w = ones([2, 3], DType::F32);
    /// save_gguf(&path, [("w", &w)], &[])?;
    /// assert_eq!(Gguf::open(&path)?.info("w").unwrap().kind().name(), "F32");
    /// # Ok(()) }
    /// ```
    pub fn kind(&self) -> GgufType {
        self.kind
    }

    /// The shape in elements, last axis fastest: one to four dimensions, none of them 0.
    ///
    /// ```
    /// # use lazul_core::prelude::*;
    /// # use lazul_io::gguf::{Gguf, GgufList, GgufValue, save_gguf};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("model.gguf");
    /// # let w = ones([2, 3], DType::F32);
    /// save_gguf(&path, [("w", &w)], &[])?; // the file says 3, 2
    /// assert_eq!(Gguf::open(&path)?.info("w").unwrap().shape(), [2, 3]);
    /// # Ok(()) }
    /// ```
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Size of the data in bytes, without the padding after it.
    ///
    /// ```
    /// # use lazul_core::prelude::*;
    /// # use lazul_io::gguf::{Gguf, GgufList, GgufValue, save_gguf};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("model.gguf");
    /// # let w = ones([2, 3], DType::F32);
    /// save_gguf(&path, [("w", &w)], &[])?;
    /// assert_eq!(Gguf::open(&path)?.info("w").unwrap().bytes(), 2 * 3 * 4);
    /// # Ok(()) }
    /// ```
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The block format, for a tensor that [`Gguf::quantized`] reads; `None` for plain numbers and
    /// for types that are not read.
    ///
    /// ```
    /// # use lazul_core::{BlockFormat, prelude::*};
    /// # use lazul_io::gguf::{Gguf, GgufArray, save_gguf_with};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("model.gguf");
    /// # let mut block = f16::from_f32(0.5).to_le_bytes().to_vec(); // a block of Q8_0: its scale
    /// # block.extend(0..32u8); // and 32 codes
    /// # let codes = Array::from_slice(&block, [1, 34]);
    /// # let form = Quantization::Blocks(BlockFormat::Q8_0);
    /// # let w = Quantized { codes, scales: None, biases: None, global_scale: None, form };
    /// save_gguf_with(&path, [("w", GgufArray::Blocks(&w))], &[])?;
    /// let file = Gguf::open(&path)?;
    /// assert_eq!(file.info("w").unwrap().blocks(), Some(BlockFormat::Q8_0));
    /// # Ok(()) }
    /// ```
    pub fn blocks(&self) -> Option<BlockFormat> {
        match self.kind.stored() {
            Stored::Blocks(format) => Some(format),
            _ => None,
        }
    }
}

/// An open GGUF file.
///
/// ```
/// use lazul_core::Array;
/// use lazul_io::gguf::{Gguf, GgufValue, save_gguf};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// let path = folder.path().join("model.gguf");
/// let w = Array::from_slice(&[1.0f32, 2.0, 3.0, 4.0], [2, 2]);
/// let author = GgufValue::Text("me".into());
/// save_gguf(&path, [("w", &w)], &[("general.author", author)])?;
///
/// let file = Gguf::open(&path)?;
/// assert_eq!(file.text("general.author")?, Some("me"));
/// assert_eq!(file.get("w")?.to_vec::<f32>()?, [1.0, 2.0, 3.0, 4.0]);
/// # Ok(()) }
/// ```
pub struct Gguf {
    source: Arc<dyn ByteSource>,
    version: u32,
    data: u64,
    tensors: BTreeMap<Box<str>, GgufTensorInfo>,
    metadata: BTreeMap<Box<str>, (u64, GgufValue)>,
}

impl Gguf {
    /// Opens a file and validates its header. The data is not read.
    ///
    /// ```
    /// # use lazul_core::prelude::*;
    /// # use lazul_io::gguf::{Gguf, GgufList, GgufValue, save_gguf};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("model.gguf");
    /// # let w = ones([2, 3], DType::F32);
    /// save_gguf(&path, [("w", &w)], &[])?;
    /// assert_eq!(Gguf::open(&path)?.names().len(), 1);
    /// std::fs::write(&path, "not GGUF")?;
    /// assert_eq!(Gguf::open(&path).unwrap_err().kind(), lazul_io::ErrorKind::Malformed);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// If the path does not lead to a regular file that can be read; if the header is truncated,
    /// breaks the rules of the format or declares more than the limits of this [module](self); if
    /// the tensors do not lie one after the other; [`ErrorKind::Unsupported`] for other versions,
    /// for types without a name here, and for one part of a model that is split over several files.
    pub fn open(path: impl AsRef<Path>) -> Result<Gguf> {
        Gguf::from_source(Arc::new(FileSource::open(path)?))
    }

    /// Reads a file that is in memory. The arrays read from these bytes when they are evaluated.
    ///
    /// ```
    /// # use lazul_core::prelude::*;
    /// # use lazul_io::gguf::{Gguf, GgufList, GgufValue, save_gguf};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("model.gguf");
    /// # let w = ones([2, 3], DType::F32);
    /// save_gguf(&path, [("w", &w)], &[])?;
    /// let file = Gguf::from_bytes(std::fs::read(&path)?)?;
    /// assert_eq!(file.get("w")?.to_vec::<f32>()?, [1.0; 6]);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`Gguf::open`], without those of the file system.
    pub fn from_bytes(bytes: impl Into<Vec<u8>>) -> Result<Gguf> {
        Gguf::from_source(Arc::new(MemorySource::new(bytes)))
    }

    /// Reads from any source: a file that a [`Root`](crate::Root) has opened, or one's own
    /// [`ByteSource`].
    ///
    /// ```
    /// # use lazul_core::prelude::*;
    /// # use lazul_io::gguf::{Gguf, GgufList, GgufValue, save_gguf};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("model.gguf");
    /// # let w = ones([2, 3], DType::F32);
    /// save_gguf(&path, [("w", &w)], &[])?;
    /// let source = lazul_io::Root::open(folder.path())?.open_file("model.gguf")?;
    /// let file = Gguf::from_source(std::sync::Arc::new(source))?;
    /// assert_eq!(file.get("w")?.shape()?, [2, 3]);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`Gguf::open`], and those of the source.
    pub fn from_source(source: Arc<dyn ByteSource>) -> Result<Gguf> {
        Gguf::read(source.clone()).map_err(|e| e.in_file(source.describe()))
    }

    fn read(source: Arc<dyn ByteSource>) -> Result<Gguf> {
        let mut cursor = Bounded::new(source.clone())?;
        let magic: [u8; 4] = cursor.array("the magic number")?;
        if magic != MAGIC {
            let what = match magic == [b'F', b'U', b'G', b'G'] {
                true => "a GGUF file in big-endian order is not read",
                false => "this is not a GGUF file: it does not begin with GGUF",
            };
            return Err(Error::malformed(what).at_byte(0));
        }
        let version = cursor.u32("the version")?;
        if !(2..=3).contains(&version) {
            let what = match version.swap_bytes() {
                1..=3 => "a GGUF file in big-endian order is not read".to_owned(),
                _ => format!("GGUF version {version}; 2 and 3 are read"),
            };
            return Err(Error::unsupported(what).at_byte(4));
        }
        let tensors = cursor.u64("the number of tensors")?;
        let pairs = cursor.u64("the number of keys")?;
        for (count, what) in [(tensors, "tensors"), (pairs, "keys")] {
            if count > MAX_COUNT {
                let e = Error::limit(format!("{count} {what}; the most is {MAX_COUNT}"));
                return Err(cursor.locate(e));
            }
        }
        value::enough(&cursor, pairs, LEAST_PAIR, "keys")?;
        let metadata = read_metadata(&mut cursor, pairs)?;
        value::enough(&cursor, tensors, LEAST_TENSOR, "tensors")?;
        let tensors = read_tensors(&mut cursor, tensors)?;
        let mut file = Gguf { source, version, data: 0, tensors, metadata };
        file.check_general()?;
        let alignment = file.alignment()?;
        let too_far = || Error::limit("the header ends past 2^64");
        file.data = cursor.position().checked_next_multiple_of(alignment).ok_or_else(too_far)?;
        let size = cursor.end().checked_sub(file.data);
        file.check_layout(alignment, size)?;
        Ok(file)
    }

    /// The version of the format: 2 or 3. What [`save_gguf`] writes is of version 3.
    ///
    /// ```
    /// # use lazul_core::prelude::*;
    /// # use lazul_io::gguf::{Gguf, GgufList, GgufValue, save_gguf};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("model.gguf");
    /// # let w = ones([2, 3], DType::F32);
    /// save_gguf(&path, [("w", &w)], &[])?;
    /// assert_eq!(Gguf::open(&path)?.version(), 3);
    /// # Ok(()) }
    /// ```
    pub fn version(&self) -> u32 {
        self.version
    }

    /// What the file is called in messages: its path, or `<memory>`.
    ///
    /// ```
    /// # use lazul_core::prelude::*;
    /// # use lazul_io::gguf::{Gguf, GgufList, GgufValue, save_gguf};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("model.gguf");
    /// # let w = ones([2, 3], DType::F32);
    /// save_gguf(&path, [("w", &w)], &[])?;
    /// assert!(Gguf::open(&path)?.describe().ends_with("model.gguf"));
    /// assert_eq!(Gguf::from_bytes(std::fs::read(&path)?)?.describe(), "<memory>");
    /// # Ok(()) }
    /// ```
    pub fn describe(&self) -> String {
        self.source.describe()
    }

    /// The names of the tensors, sorted by their bytes.
    ///
    /// ```
    /// # use lazul_core::prelude::*;
    /// # use lazul_io::gguf::{Gguf, GgufList, GgufValue, save_gguf};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("model.gguf");
    /// # let w = ones([2, 3], DType::F32);
    /// save_gguf(&path, [("output.weight", &w), ("blk.0.attn_q.weight", &w)], &[])?;
    /// let file = Gguf::open(&path)?;
    /// assert_eq!(file.names().collect::<Vec<_>>(), ["blk.0.attn_q.weight", "output.weight"]);
    /// # Ok(()) }
    /// ```
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.tensors.keys().map(|name| &**name)
    }

    /// What the header says about a tensor: type, shape and size. `None` when there is no such
    /// tensor.
    ///
    /// ```
    /// # use lazul_core::prelude::*;
    /// # use lazul_io::gguf::{Gguf, GgufList, GgufValue, save_gguf};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("model.gguf");
    /// # let w = ones([2, 3], DType::F32);
    /// save_gguf(&path, [("w", &w)], &[])?;
    /// let file = Gguf::open(&path)?;
    /// let info = file.info("w").unwrap();
    /// assert_eq!((info.kind().name(), info.shape(), info.bytes()), ("F32", &[2, 3][..], 24));
    /// assert!(file.info("b").is_none());
    /// # Ok(()) }
    /// ```
    pub fn info(&self, name: &str) -> Option<&GgufTensorInfo> {
        self.tensors.get(name)
    }

    /// Keys and values of the metadata, sorted by key.
    ///
    /// ```
    /// # use lazul_core::prelude::*;
    /// # use lazul_io::gguf::{Gguf, GgufList, GgufValue, save_gguf};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("model.gguf");
    /// # let w = ones([2, 3], DType::F32);
    /// let named = GgufValue::Text("tiny".into());
    /// save_gguf(&path, [("w", &w)], &[("general.name", named), ("a.count", GgufValue::U32(2))])?;
    /// let file = Gguf::open(&path)?;
    /// let keys: Vec<&str> = file.metadata().map(|(key, _)| key).collect();
    /// assert_eq!(keys, ["a.count", "general.name"]);
    /// # Ok(()) }
    /// ```
    pub fn metadata(&self) -> impl ExactSizeIterator<Item = (&str, &GgufValue)> {
        self.metadata.iter().map(|(key, (_, value))| (&**key, value))
    }

    /// The value of a key, of whatever type; `None` when there is no such key.
    /// [`text`](Self::text), [`count`](Self::count) and their neighbours also check the type.
    ///
    /// ```
    /// # use lazul_core::prelude::*;
    /// # use lazul_io::gguf::{Gguf, GgufList, GgufValue, save_gguf};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("model.gguf");
    /// # let w = ones([2, 3], DType::F32);
    /// save_gguf(&path, [("w", &w)], &[("a.count", GgufValue::U32(2))])?;
    /// let file = Gguf::open(&path)?;
    /// assert_eq!(file.value("a.count"), Some(&GgufValue::U32(2)));
    /// assert_eq!(file.value("b.count"), None);
    /// # Ok(()) }
    /// ```
    pub fn value(&self, key: &str) -> Option<&GgufValue> {
        self.metadata.get(key).map(|(_, value)| value)
    }

    /// An error about the value of a key, for a reader that finds it senseless: its sentence is the
    /// key and `what`, its place the file and the byte where the value begins.
    ///
    /// ```
    /// # use lazul_core::prelude::*;
    /// # use lazul_io::gguf::{Gguf, GgufList, GgufValue, save_gguf};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("model.gguf");
    /// # let w = ones([2, 3], DType::F32);
    /// save_gguf(&path, [("w", &w)], &[("llama.block_count", GgufValue::U32(0))])?;
    /// let file = Gguf::open(&path)?;
    /// let error = file.wrong("llama.block_count", "is 0");
    /// assert_eq!(error.message(), "llama.block_count is 0");
    /// assert!(error.byte().is_some() && error.file().ends_with("model.gguf"));
    /// # Ok(()) }
    /// ```
    pub fn wrong(&self, key: &str, what: impl fmt::Display) -> Error {
        let error = Error::malformed(format!("{key} {what}"));
        let error = match self.metadata.get(key) {
            Some((at, _)) => error.at_byte(*at),
            None => error,
        };
        error.in_file(self.source.describe())
    }

    fn typed<'a, T>(
        &'a self,
        key: &str,
        what: &str,
        get: impl Fn(&'a GgufValue) -> Option<T>,
    ) -> Result<Option<T>> {
        let Some(value) = self.value(key) else { return Ok(None) };
        match get(value) {
            Some(found) => Ok(Some(found)),
            None => Err(self.wrong(key, format_args!("must be {what}, and is {}", value.kind()))),
        }
    }

    /// The text of a key, or `None` where the key is missing.
    ///
    /// ```
    /// # use lazul_core::prelude::*;
    /// # use lazul_io::gguf::{Gguf, GgufList, GgufValue, save_gguf};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("model.gguf");
    /// # let w = ones([2, 3], DType::F32);
    /// let name = GgufValue::Text("tiny".into());
    /// save_gguf(&path, [("w", &w)], &[("general.name", name), ("a.count", GgufValue::U32(2))])?;
    /// let file = Gguf::open(&path)?;
    /// assert_eq!(file.text("general.name")?, Some("tiny"));
    /// assert_eq!(file.text("general.author")?, None);
    /// assert!(file.text("a.count").is_err());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Malformed`] if the value is not a text.
    pub fn text(&self, key: &str) -> Result<Option<&str>> {
        self.typed(key, "a text", |value| match value {
            GgufValue::Text(text) => Some(text.as_str()),
            _ => None,
        })
    }

    /// The count of a key, an integer of any type that is not negative; `None` where the key is
    /// missing.
    ///
    /// ```
    /// # use lazul_core::prelude::*;
    /// # use lazul_io::gguf::{Gguf, GgufList, GgufValue, save_gguf};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("model.gguf");
    /// # let w = ones([2, 3], DType::F32);
    /// let keys = [("llama.block_count", GgufValue::U32(16)), ("bad", GgufValue::I8(-1))];
    /// save_gguf(&path, [("w", &w)], &keys)?;
    /// let file = Gguf::open(&path)?;
    /// assert_eq!(file.count("llama.block_count")?, Some(16));
    /// assert_eq!(file.count("llama.expert_count")?, None);
    /// assert!(file.count("bad").is_err());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Malformed`] if the value is no such number.
    pub fn count(&self, key: &str) -> Result<Option<u64>> {
        self.typed(key, "a count", GgufValue::count)
    }

    /// The float of a key, single or double precision; `None` where the key is missing.
    ///
    /// ```
    /// # use lazul_core::prelude::*;
    /// # use lazul_io::gguf::{Gguf, GgufList, GgufValue, save_gguf};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("model.gguf");
    /// # let w = ones([2, 3], DType::F32);
    /// save_gguf(&path, [("w", &w)], &[("llama.rope.freq_base", GgufValue::F32(10_000.0))])?;
    /// let file = Gguf::open(&path)?;
    /// assert_eq!(file.float("llama.rope.freq_base")?, Some(10_000.0));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Malformed`] if the value is not a float, or not finite.
    pub fn float(&self, key: &str) -> Result<Option<f64>> {
        self.typed(key, "a finite float", |value| value.float().filter(|x| x.is_finite()))
    }

    /// The truth value of a key; `None` where the key is missing.
    ///
    /// ```
    /// # use lazul_core::prelude::*;
    /// # use lazul_io::gguf::{Gguf, GgufList, GgufValue, save_gguf};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("model.gguf");
    /// # let w = ones([2, 3], DType::F32);
    /// let key = "tokenizer.ggml.add_bos_token";
    /// save_gguf(&path, [("w", &w)], &[(key, GgufValue::Bool(true))])?;
    /// assert_eq!(Gguf::open(&path)?.flag(key)?, Some(true));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Malformed`] if the value is not one.
    pub fn flag(&self, key: &str) -> Result<Option<bool>> {
        self.typed(key, "a truth value", |value| match value {
            GgufValue::Bool(flag) => Some(*flag),
            _ => None,
        })
    }

    /// The list of a key, of elements of any type; `None` where the key is missing.
    ///
    /// ```
    /// # use lazul_core::prelude::*;
    /// # use lazul_io::gguf::{Gguf, GgufList, GgufValue, save_gguf};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("model.gguf");
    /// # let w = ones([2, 3], DType::F32);
    /// let kinds = GgufValue::List(GgufList::I32(vec![1, 3, 3]));
    /// save_gguf(&path, [("w", &w)], &[("tokenizer.ggml.token_type", kinds)])?;
    /// let file = Gguf::open(&path)?;
    /// let list = file.list("tokenizer.ggml.token_type")?.unwrap();
    /// assert_eq!(list.integers(), Some(vec![1, 3, 3]));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Malformed`] if the value is not one.
    pub fn list(&self, key: &str) -> Result<Option<&GgufList>> {
        self.typed(key, "a list", |value| match value {
            GgufValue::List(list) => Some(list),
            _ => None,
        })
    }

    /// The list of texts of a key, such as a vocabulary; `None` where the key is missing.
    ///
    /// ```
    /// # use lazul_core::prelude::*;
    /// # use lazul_io::gguf::{Gguf, GgufList, GgufValue, save_gguf};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("model.gguf");
    /// # let w = ones([2, 3], DType::F32);
    /// let tokens = GgufValue::List(GgufList::Text(["<s>", "a", "b"].into_iter().collect()));
    /// save_gguf(&path, [("w", &w)], &[("tokenizer.ggml.tokens", tokens)])?;
    /// let file = Gguf::open(&path)?;
    /// let tokens = file.texts("tokenizer.ggml.tokens")?.unwrap();
    /// assert_eq!((tokens.len(), tokens.get(1)), (3, Some(&b"a"[..])));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Malformed`] if the value is not one.
    pub fn texts(&self, key: &str) -> Result<Option<&TextList>> {
        self.typed(key, "a list of texts", |value| match value {
            GgufValue::List(GgufList::Text(list)) => Some(list),
            _ => None,
        })
    }

    /// The list of f32 numbers of a key; `None` where the key is missing.
    ///
    /// ```
    /// # use lazul_core::prelude::*;
    /// # use lazul_io::gguf::{Gguf, GgufList, GgufValue, save_gguf};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("model.gguf");
    /// # let w = ones([2, 3], DType::F32);
    /// let scores = GgufValue::List(GgufList::F32(vec![0.0, -1.5]));
    /// save_gguf(&path, [("w", &w)], &[("tokenizer.ggml.scores", scores)])?;
    /// assert_eq!(Gguf::open(&path)?.floats("tokenizer.ggml.scores")?, Some(&[0.0, -1.5][..]));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Malformed`] if the value is not one.
    pub fn floats(&self, key: &str) -> Result<Option<&[f32]>> {
        self.typed(key, "a list of f32 numbers", |value| match value {
            GgufValue::List(GgufList::F32(list)) => Some(list.as_slice()),
            _ => None,
        })
    }

    /// A tensor as an array of its shape that reads its bytes when it is evaluated. Plain numbers
    /// keep their dtype; blocks become float16 numbers then, as in MLX. [`Gguf::quantized`] leaves
    /// them as they are.
    ///
    /// ```
    /// # use lazul_core::{BlockFormat, prelude::*};
    /// # use lazul_io::gguf::{Gguf, GgufArray, save_gguf_with};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("model.gguf");
    /// # let mut block = f16::from_f32(0.5).to_le_bytes().to_vec(); // a block of Q8_0: its scale
    /// # block.extend(0..32u8); // and 32 codes
    /// # let codes = Array::from_slice(&block, [1, 34]);
    /// # let form = Quantization::Blocks(BlockFormat::Q8_0);
    /// # let w = Quantized { codes, scales: None, biases: None, global_scale: None, form };
    /// save_gguf_with(&path, [("w", GgufArray::Blocks(&w))], &[])?; // codes 0 to 31, scaled by 0.5
    /// let w = Gguf::open(&path)?.get("w")?;
    /// assert_eq!((w.shape()?, w.dtype()?), (&[1, 32][..], DType::F16));
    /// assert_eq!(w.astype(DType::F32).max(..).item::<f32>()?, 15.5);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Missing`] if there is no such tensor, [`ErrorKind::Unsupported`] if its type is
    /// not read.
    pub fn get(&self, name: &str) -> Result<Array> {
        let info = self.find(name)?;
        match info.kind.stored() {
            Stored::Dense(dtype) => Ok(self.array(info, &info.shape, dtype)),
            _ => Ok(self.quantized(name)?.dequantize_to(DType::F16)),
        }
    }

    /// A tensor of blocks, as they lie in the file: codes of dtype u8 and shape `(…, bytes)`, ready
    /// for products. One of a single dimension is a matrix of one row.
    ///
    /// ```
    /// # use lazul_core::{BlockFormat, prelude::*};
    /// # use lazul_io::gguf::{Gguf, GgufArray, save_gguf_with};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("model.gguf");
    /// # let mut block = f16::from_f32(0.5).to_le_bytes().to_vec(); // a block of Q8_0: its scale
    /// # block.extend(0..32u8); // and 32 codes
    /// # let codes = Array::from_slice(&block, [1, 34]);
    /// # let form = Quantization::Blocks(BlockFormat::Q8_0);
    /// # let w = Quantized { codes, scales: None, biases: None, global_scale: None, form };
    /// save_gguf_with(&path, [("w", GgufArray::Blocks(&w))], &[])?; // codes 0 to 31, scaled by 0.5
    /// let w = Gguf::open(&path)?.quantized("w")?;
    /// assert_eq!(w.codes.shape()?, [1, 34]); // the scale takes two bytes
    /// let x = ones([1, 32], DType::F32);
    /// assert_eq!(x.quantized_matmul(&w, true).item::<f32>()?, 248.0); // half of 0 + 1 + … + 31
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Missing`] if there is no such tensor, [`ErrorKind::Argument`] if it holds plain
    /// numbers, [`ErrorKind::Unsupported`] if its type is not read.
    pub fn quantized(&self, name: &str) -> Result<Quantized> {
        let info = self.find(name)?;
        let Stored::Blocks(format) = info.kind.stored() else {
            let kind = info.kind.name();
            let e = match info.kind.stored() {
                Stored::Foreign => Error::unsupported(format!(
                    "tensor {name:?} is of type {kind}, which is not read"
                )),
                _ => Error::new(
                    ErrorKind::Argument,
                    format!("tensor {name:?} is of type {kind}, not of blocks"),
                ),
            };
            return Err(e.at_byte(info.at).in_file(self.source.describe()));
        };
        let form = Quantization::Blocks(format);
        let mut shape = info.shape.to_vec();
        if let Some(last) = shape.last_mut() {
            *last = form.words(*last);
        }
        if shape.len() == 1 {
            shape.insert(0, 1);
        }
        let codes = self.array(info, &shape, DType::U8);
        Ok(Quantized { codes, scales: None, biases: None, global_scale: None, form })
    }

    /// All tensors by their names, as [`Gguf::get`] gives them.
    ///
    /// ```
    /// # use lazul_core::prelude::*;
    /// # use lazul_io::gguf::{Gguf, GgufList, GgufValue, save_gguf};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("model.gguf");
    /// # let w = ones([2, 3], DType::F32);
    /// save_gguf(&path, [("w", &w), ("b", &zeros([3], DType::F16))], &[])?;
    /// let arrays = Gguf::open(&path)?.arrays()?;
    /// assert_eq!(arrays.len(), 2);
    /// assert_eq!(arrays["b"].dtype()?, DType::F16);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] if the type of one is not read.
    pub fn arrays(&self) -> Result<BTreeMap<String, Array>> {
        self.names().map(|name| Ok((name.to_owned(), self.get(name)?))).collect()
    }

    fn find(&self, name: &str) -> Result<&GgufTensorInfo> {
        self.tensors.get(name).ok_or_else(|| {
            Error::new(ErrorKind::Missing, format!("there is no tensor {name:?}"))
                .in_file(self.source.describe())
        })
    }

    fn array(&self, info: &GgufTensorInfo, shape: &[usize], dtype: DType) -> Array {
        // The layout check has shown that this is inside the file.
        let start = self.data.saturating_add(info.begin);
        Array::from_source(self.source.clone(), start, shape, dtype)
    }

    /// What every file may say about itself.
    fn check_general(&self) -> Result<()> {
        if let Some(name) = self.text("general.architecture")?
            && name.len() > 256
        {
            let e = Error::limit(format!("general.architecture has {} bytes", name.len()));
            return Err(e);
        }
        if let Some(count) = self.count("split.count")?
            && count > 1
        {
            let number = self.count("split.no")?.unwrap_or(0).saturating_add(1);
            let e = Error::unsupported(format!(
                "this is part {number} of a model that is split into {count} files; merge them first \
                 (llama-gguf-split --merge)"
            ));
            return Err(e);
        }
        Ok(())
    }

    fn alignment(&self) -> Result<u64> {
        const KEY: &str = "general.alignment";
        match self.value(KEY) {
            None => Ok(ALIGNMENT),
            Some(&GgufValue::U32(n)) if n.is_power_of_two() && u64::from(n) <= MAX_ALIGNMENT => {
                Ok(n.into())
            }
            Some(GgufValue::U32(n)) => {
                let what = format!("is {n}, not a power of two up to {MAX_ALIGNMENT}");
                Err(self.wrong(KEY, what))
            }
            Some(other) => {
                Err(self.wrong(KEY, format_args!("must be a u32, and is {}", other.kind())))
            }
        }
    }

    /// Tensors must tile the data, each but the last padded to the alignment.
    fn check_layout(&self, alignment: u64, size: Option<u64>) -> Result<()> {
        let mut order: Vec<(u64, &str, &GgufTensorInfo)> =
            self.tensors.iter().map(|(name, info)| (info.begin, &**name, info)).collect();
        order.sort_unstable_by_key(|&(begin, name, _)| (begin, name));
        let mut reached: u64 = 0;
        for (begin, name, info) in order {
            let bad = |e: Error| e.at_byte(info.at);
            if !begin.is_multiple_of(alignment) {
                let what = format!("the data of {name:?} begins at {begin}, which is not aligned");
                return Err(bad(Error::malformed(what)));
            }
            if begin != reached {
                let what = match begin < reached {
                    true => "overlaps the tensor before it",
                    false => "leaves a hole before it",
                };
                let what = format!("the data of {name:?} begins at {begin} and {what} ({reached})");
                return Err(bad(Error::malformed(what)));
            }
            let end = begin.checked_add(info.bytes);
            let end = end.ok_or_else(|| bad(Error::limit(format!("{name:?} ends past 2^64"))))?;
            let size = size.unwrap_or(0);
            if end > size {
                let what = format!(
                    "the data of {name:?} ends at {end} and the file has {size} bytes of data"
                );
                return Err(bad(Error::truncated(what)));
            }
            let padded = end.checked_next_multiple_of(alignment);
            reached =
                padded.ok_or_else(|| bad(Error::limit(format!("{name:?} ends past 2^64"))))?;
        }
        Ok(())
    }
}

impl fmt::Debug for Gguf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gguf")
            .field("source", &self.source.describe())
            .field("version", &self.version)
            .field("tensors", &self.tensors.len())
            .field("keys", &self.metadata.len())
            .finish()
    }
}

fn read_metadata(cursor: &mut Bounded, count: u64) -> Result<BTreeMap<Box<str>, (u64, GgufValue)>> {
    let mut metadata = BTreeMap::new();
    let mut nested = 0;
    for _ in 0..count {
        let start = cursor.position();
        let key = value::text(cursor, MAX_KEY, "a key")?;
        let refuse = |cursor: &Bounded, what: String| {
            Err(cursor.locate(Error::malformed(what).at_byte(start)))
        };
        if key.is_empty() {
            return refuse(cursor, "a key is empty".to_owned());
        }
        let at = cursor.position();
        let value = value::read(cursor, &mut nested)?;
        match metadata.entry(key.into_boxed_str()) {
            Entry::Occupied(entry) => {
                return refuse(cursor, format!("the key {:?} is repeated", entry.key()));
            }
            Entry::Vacant(free) => free.insert((at, value)),
        };
    }
    Ok(metadata)
}

fn read_tensors(cursor: &mut Bounded, count: u64) -> Result<BTreeMap<Box<str>, GgufTensorInfo>> {
    let mut tensors = BTreeMap::new();
    for _ in 0..count {
        let at = cursor.position();
        let name = value::text(cursor, MAX_NAME, "the name of a tensor")?;
        let info = read_tensor(cursor, at).map_err(|e| e.at_byte(at))?;
        match tensors.entry(name.into_boxed_str()) {
            Entry::Occupied(entry) => {
                let what = format!("the tensor {:?} is described twice", entry.key());
                return Err(cursor.locate(Error::malformed(what).at_byte(at)));
            }
            Entry::Vacant(free) => free.insert(info),
        };
    }
    Ok(tensors)
}

fn read_tensor(cursor: &mut Bounded, at: u64) -> Result<GgufTensorInfo> {
    let rank = cursor.u32("the number of dimensions")?;
    if !(1..=MAX_RANK).contains(&rank) {
        return Err(Error::malformed(format!("{rank} dimensions; 1 to {MAX_RANK} are possible")));
    }
    let mut shape = Vec::new();
    for _ in 0..rank {
        let dim = cursor.u64("a dimension")?;
        if dim == 0 {
            return Err(Error::malformed("a dimension is 0"));
        }
        if dim > u64::MAX / 2 {
            return Err(Error::limit(format!("a dimension is {dim}")));
        }
        shape.push(to_usize(dim, "a dimension")?);
    }
    shape.reverse();
    let id = cursor.u32("the type of a tensor")?;
    let kind = GgufType::from_id(id)
        .ok_or_else(|| Error::unsupported(format!("tensors of type {id} are not known")))?;
    let begin = cursor.u64("the position of a tensor")?;
    let bytes = kind.extent(&shape)?.bytes;
    Ok(GgufTensorInfo { kind, shape: shape.into(), begin, bytes, at })
}

/// Opens a file and returns all its tensors by their names, blocks as float16, each read when it is
/// evaluated. See [`Gguf`] for the metadata and for blocks as they are.
///
/// ```
/// use lazul_core::prelude::*;
/// use lazul_io::{load_gguf, save_gguf};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("w.gguf");
/// save_gguf(&path, [("w", &arange(3, DType::I32))], &[])?;
/// assert_eq!(load_gguf(&path)?["w"].to_vec::<i32>()?, [0, 1, 2]);
/// # Ok(()) }
/// ```
///
/// # Errors
/// As [`Gguf::open`] and [`Gguf::arrays`].
pub fn load_gguf(path: impl AsRef<Path>) -> Result<BTreeMap<String, Array>> {
    Gguf::open(path)?.arrays()
}

#[cfg(test)]
mod tests;

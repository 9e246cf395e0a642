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

mod header;
mod metadata;
mod types;
mod value;
mod write;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use lazul_core::{Array, BlockFormat, ByteSource, DType, Quantization, Quantized};

pub use self::types::GgufType;
use self::types::Stored;
pub use self::value::{GgufList, GgufValue, TextList};
pub use self::write::{GgufArray, save_gguf, save_gguf_with};
use crate::error::{Error, ErrorKind, Result};
use crate::source::{FileSource, MemorySource};

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

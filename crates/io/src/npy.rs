//! NumPy's `.npy` files.
//!
//! Versions 1, 2 and 3 are read; the header is parsed as data, never evaluated. Both byte orders
//! and both memory orders load, lazily: big-endian numbers are swapped as they are read, and a
//! Fortran-ordered array is the transpose of what the file holds.
//!
//! | `descr` | loads as |
//! |---|---|
//! | `b1`, `u1`–`u8`, `i1`–`i8`, `f2`, `f4`, `f8`, `c8` with `<`, `>` or `\|` | the same type |
//! | `<V2` | bfloat16: this is how MLX and `ml_dtypes` write it |
//! | `\|V2` and other raw bytes | nothing, unless asked for by [`Npy::array_as`] |
//! | `\|O` (a pickle), strings, dates, records, `c16`, `f16` | nothing: [`ErrorKind::Unsupported`](crate::ErrorKind) |
//!
//! Bytes after the data are ignored: NumPy allows several arrays in one file and reads the first.

use std::path::Path;
use std::sync::Arc;

use lazul_core::{Array, ByteSource, DType};

use crate::atomic::AtomicFile;
use crate::bounded::Bounded;
use crate::error::{Error, ErrorKind, Result, printable};
use crate::safetensors::describe;
use crate::size::{Extent, MAX_RANK, to_u64, to_usize};
use crate::source::{FileSource, MappedSource, Mapping, MemorySource};

const MAGIC: &[u8; 6] = b"\x93NUMPY";
/// Largest header. NumPy itself refuses more than 10,000 bytes unless told otherwise.
const MAX_HEADER: u64 = 1 << 20;

/// What a file holds, before it is an array.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Header {
    descr: Descr,
    fortran: bool,
    shape: Vec<usize>,
}

/// A parsed `descr`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Descr {
    text: String,
    /// `None` for raw bytes (`V`).
    dtype: Option<DType>,
    item: usize,
    big_endian: bool,
}

/// An open npy file.
///
/// ```
/// use lazul_core::Array;
/// use lazul_io::{Npy, save_npy};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// let path = folder.path().join("x.npy");
/// save_npy(&path, &Array::from_slice(&[1.0f32, 2.0], [2, 1]))?;
/// let file = Npy::open(&path)?;
/// assert_eq!((file.descr(), file.shape()), ("<f4", &[2, 1][..]));
/// assert_eq!(file.array()?.to_vec::<f32>()?, [1.0, 2.0]);
/// # Ok(()) }
/// ```
pub struct Npy {
    source: Arc<dyn ByteSource>,
    header: Header,
    start: u64,
    bytes: u64,
}

impl Npy {
    /// Opens a file and validates its header. The data is not read.
    ///
    /// ```
    /// # use lazul_core::prelude::*;
    /// # use lazul_io::{Npy, save_npy};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("x.npy");
    /// save_npy(&path, &zeros([1000, 1000], DType::F32))?;
    /// assert_eq!(Npy::open(&path)?.shape(), [1000, 1000]);
    /// let missing = Npy::open(folder.path().join("none.npy")).unwrap_err();
    /// assert_eq!(missing.kind(), lazul_io::ErrorKind::NotFound);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// If the path does not lead to a regular file that can be read; if it is no npy file, is of an
    /// unknown version or shorter than its header says; [`ErrorKind::Unsupported`] for pickles,
    /// strings, dates, records and complex128.
    pub fn open(path: impl AsRef<Path>) -> Result<Npy> {
        Npy::from_source(Arc::new(FileSource::open(path)?))
    }

    /// Reads a file that is in memory. The arrays read from these bytes when they are evaluated.
    ///
    /// ```
    /// use lazul_io::Npy;
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let header = "{'descr': '>i2', 'fortran_order': True, 'shape': (2, 2), }\n";
    /// let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    /// bytes.extend((header.len() as u16).to_le_bytes());
    /// bytes.extend(header.as_bytes());
    /// bytes.extend([0, 1, 0, 2, 0, 3, 0, 4]);
    /// let x = Npy::from_bytes(bytes)?.array()?;
    /// assert_eq!(x.to_vec::<i16>()?, [1, 3, 2, 4]); // the columns became rows, the bytes were swapped
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`Npy::open`], without those of the file system.
    pub fn from_bytes(bytes: impl Into<Vec<u8>>) -> Result<Npy> {
        Npy::from_source(Arc::new(MemorySource::new(bytes)))
    }

    /// Reads from any source: a file that a [`Root`](crate::Root) has opened, or one's own
    /// [`ByteSource`].
    ///
    /// ```
    /// use lazul_io::{Npy, Root, save_npy};
    /// # use lazul_core::prelude::*;
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// save_npy(folder.path().join("x.npy"), &arange(3, DType::U8))?;
    /// let source = Root::open(folder.path())?.open_file("x.npy")?;
    /// let x = Npy::from_source(std::sync::Arc::new(source))?.array()?;
    /// assert_eq!(x.to_vec::<u8>()?, [0, 1, 2]);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`Npy::open`], and those of the source.
    pub fn from_source(source: Arc<dyn ByteSource>) -> Result<Npy> {
        Npy::read(source.clone()).map_err(|e| e.in_file(source.describe()))
    }

    fn read(source: Arc<dyn ByteSource>) -> Result<Npy> {
        let mut cursor = Bounded::new(source.clone())?;
        if &cursor.array::<6>("the magic")? != MAGIC {
            return Err(Error::malformed("this is not an npy file").at_byte(0));
        }
        let [major, minor] = cursor.array::<2>("the version")?;
        let length = match (major, minor) {
            (1, 0) => u64::from(cursor.u16("the header length")?),
            (2 | 3, 0) => u64::from(cursor.u32("the header length")?),
            _ => {
                let what = format!("npy version {major}.{minor} is not known");
                return Err(Error::unsupported(what).at_byte(6));
            }
        };
        let at = cursor.position();
        let text = cursor.bytes(length, MAX_HEADER, "the header")?;
        let header = Literal::header(&text, major == 3).map_err(|e| e.at_byte(at))?;
        let extent = Extent::new(&header.shape, bits(header.descr.item))?;
        let start = cursor.position();
        if extent.bytes > cursor.remaining() {
            return Err(Error::truncated(format!(
                "{} {:?} takes {} bytes and {} remain",
                header.descr.text,
                header.shape,
                extent.bytes,
                cursor.remaining()
            ))
            .at_byte(start));
        }
        Ok(Npy { source, header, start, bytes: extent.bytes })
    }

    /// The element type as the file writes it: byte order, kind and bytes (`"<f4"`).
    ///
    /// ```
    /// # use lazul_core::prelude::*;
    /// # use lazul_io::{Npy, save_npy};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("x.npy");
    /// save_npy(&path, &zeros([2], DType::I64))?;
    /// assert_eq!(Npy::open(&path)?.descr(), "<i8");
    /// save_npy(&path, &zeros([2], DType::Bool))?;
    /// assert_eq!(Npy::open(&path)?.descr(), "|b1");
    /// # Ok(()) }
    /// ```
    pub fn descr(&self) -> &str {
        &self.header.descr.text
    }

    /// The shape of the array, whichever memory order the file has; empty for a scalar.
    ///
    /// ```
    /// # use lazul_core::prelude::*;
    /// # use lazul_io::{Npy, save_npy};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("x.npy");
    /// save_npy(&path, &zeros([3, 0, 2], DType::F32))?;
    /// assert_eq!(Npy::open(&path)?.shape(), [3, 0, 2]);
    /// # Ok(()) }
    /// ```
    pub fn shape(&self) -> &[usize] {
        &self.header.shape
    }

    /// The array, which reads its bytes when it is evaluated. The table in the [module](self) says
    /// which dtype it has.
    ///
    /// ```
    /// # use lazul_core::prelude::*;
    /// # use lazul_io::{Npy, save_npy};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("x.npy");
    /// save_npy(&path, &arange(4, DType::F64).reshape([2, 2]))?;
    /// let x = Npy::open(&path)?.array()?;
    /// assert_eq!((x.shape()?, x.dtype()?), (&[2, 2][..], DType::F64));
    /// assert_eq!(x.to_vec::<f64>()?, [0.0, 1.0, 2.0, 3.0]);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] for raw bytes (`|V2`): [`Npy::array_as`] reads them.
    pub fn array(&self) -> Result<Array> {
        match self.header.descr.dtype {
            Some(dtype) => Ok(self.make(dtype)),
            None => Err(Error::unsupported(format!(
                "the elements are raw bytes ({}); ask for the dtype they are",
                self.header.descr.text
            ))
            .in_file(self.source.describe())),
        }
    }

    /// The array with its elements taken as `dtype`, which must have their size: for raw bytes such
    /// as a bfloat16 array that NumPy itself has written as `|V2`. Nothing is converted.
    ///
    /// ```
    /// # use lazul_core::prelude::*;
    /// # use lazul_io::Npy;
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let header = "{'descr': '|V2', 'fortran_order': False, 'shape': (1,), }\n";
    /// # let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    /// # bytes.extend((header.len() as u16).to_le_bytes());
    /// # bytes.extend(header.as_bytes());
    /// bytes.extend([0xc0, 0x3f]);
    /// let file = Npy::from_bytes(bytes)?;
    /// assert!(file.array().is_err());
    /// assert_eq!(file.array_as(DType::BF16)?.to_vec::<bf16>()?, [bf16::from_f32(1.5)]);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Argument`] if an element of `dtype` has not the size of the file's.
    pub fn array_as(&self, dtype: DType) -> Result<Array> {
        if dtype.size() != self.header.descr.item {
            let what = format!("{} elements are not {}", self.header.descr.text, dtype.name());
            return Err(Error::new(ErrorKind::Argument, what).in_file(self.source.describe()));
        }
        Ok(self.make(dtype))
    }

    fn make(&self, dtype: DType) -> Array {
        let descr = &self.header.descr;
        let mapping = match dtype {
            DType::Bool => Some(Mapping::Truth),
            // The two halves of a complex number are swapped each by itself.
            DType::C64 if descr.big_endian => Some(Mapping::Swap(4)),
            _ if descr.big_endian && descr.item > 1 => {
                u8::try_from(descr.item).ok().map(Mapping::Swap)
            }
            _ => None,
        };
        let (source, start): (Arc<dyn ByteSource>, u64) = match mapping {
            Some(mapping) => {
                let inner = self.source.clone();
                (Arc::new(MappedSource::new(inner, self.start, self.bytes, mapping)), 0)
            }
            None => (self.source.clone(), self.start),
        };
        if !self.header.fortran || self.header.shape.len() < 2 {
            return Array::from_source(source, start, &self.header.shape[..], dtype);
        }
        let reversed: Vec<usize> = self.header.shape.iter().rev().copied().collect();
        Array::from_source(source, start, &reversed[..], dtype).t()
    }
}

impl std::fmt::Debug for Npy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Npy")
            .field("source", &self.source.describe())
            .field("header", &self.header)
            .finish()
    }
}

fn bits(item: usize) -> u32 {
    u32::try_from(item).ok().and_then(|item| item.checked_mul(8)).unwrap_or(u32::MAX)
}

/// A reader of the header's Python literal: one dictionary of a string, a boolean and a tuple.
struct Literal<'a> {
    rest: &'a str,
}

impl<'a> Literal<'a> {
    fn header(bytes: &'a [u8], utf8: bool) -> Result<Header> {
        let text = std::str::from_utf8(bytes).ok().filter(|text| utf8 || text.is_ascii());
        let text = text.ok_or_else(|| Error::malformed("the header is not text"))?;
        let text = text
            .strip_suffix('\n')
            .ok_or_else(|| Error::malformed("the header does not end with a newline"))?;
        let mut literal = Literal { rest: text };
        let header = literal.dictionary()?;
        match literal.peek() {
            None => Ok(header),
            Some(_) => literal.fail("nothing more"),
        }
    }

    fn fail<T>(&self, expected: &str) -> Result<T> {
        let found = printable(self.rest, 40);
        Err(Error::malformed(format!("the header should have {expected} before {found:?}")))
    }

    fn peek(&mut self) -> Option<char> {
        self.rest = self.rest.trim_start_matches([' ', '\t', '\n', '\r']);
        self.rest.chars().next()
    }

    fn take(&mut self, token: &str) -> bool {
        self.peek();
        match self.rest.strip_prefix(token) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn dictionary(&mut self) -> Result<Header> {
        if !self.take("{") {
            return self.fail("a dictionary");
        }
        let (mut descr, mut fortran, mut shape) = (None, None, None);
        while !self.take("}") {
            let key = self.string()?;
            if !self.take(":") {
                return self.fail("':'");
            }
            let repeated = match key {
                "descr" => descr.replace(self.descr()?).is_some(),
                "fortran_order" => fortran.replace(self.boolean()?).is_some(),
                "shape" => shape.replace(self.shape()?).is_some(),
                _ => {
                    let key = printable(key, 40);
                    return Err(Error::malformed(format!("the header has an unknown key {key:?}")));
                }
            };
            if repeated {
                return Err(Error::malformed(format!("the header repeats the key {key:?}")));
            }
            if !self.take(",") {
                if !self.take("}") {
                    return self.fail("',' or '}'");
                }
                break;
            }
        }
        let missing = |key| Error::malformed(format!("the header lacks the key {key:?}"));
        Ok(Header {
            descr: descr.ok_or_else(|| missing("descr"))?,
            fortran: fortran.ok_or_else(|| missing("fortran_order"))?,
            shape: shape.ok_or_else(|| missing("shape"))?,
        })
    }

    fn string(&mut self) -> Result<&'a str> {
        let quote = match self.peek() {
            Some(quote @ ('\'' | '"')) => quote,
            _ => return self.fail("a string"),
        };
        let body = self.rest.get(1..).unwrap_or_default();
        match body.split_once(quote) {
            Some((text, rest)) if !text.contains(['\\', '\n']) => {
                self.rest = rest;
                Ok(text)
            }
            _ => self.fail("a string"),
        }
    }

    fn boolean(&mut self) -> Result<bool> {
        let value = match () {
            () if self.take("True") => true,
            () if self.take("False") => false,
            () => return self.fail("True or False"),
        };
        match self.peek() {
            Some(',' | '}') => Ok(value),
            _ => self.fail("True or False"),
        }
    }

    fn shape(&mut self) -> Result<Vec<usize>> {
        if !self.take("(") {
            return self.fail("a tuple");
        }
        let mut shape = Vec::new();
        let mut comma = true;
        while !self.take(")") {
            if !comma {
                return self.fail("','");
            }
            if shape.len() >= MAX_RANK {
                return Err(Error::limit(format!("more than {MAX_RANK} dimensions")));
            }
            shape.push(self.dimension()?);
            comma = self.take(",");
        }
        // `(3)` is a number in Python, not a tuple.
        if shape.len() == 1 && !comma {
            return self.fail("a tuple");
        }
        Ok(shape)
    }

    fn dimension(&mut self) -> Result<usize> {
        self.peek();
        let end = self.rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(self.rest.len());
        let (digits, rest) = self.rest.split_at_checked(end).unwrap_or_default();
        if digits.is_empty() || (digits.len() > 1 && digits.starts_with('0')) {
            return self.fail("a dimension");
        }
        let value = digits
            .parse::<u64>()
            .map_err(|_| Error::limit("a dimension of the header exceeds 2^64"))?;
        // Python 2 wrote long integers as `3L`.
        self.rest = rest.strip_prefix('L').unwrap_or(rest);
        to_usize(value, "the dimension")
    }

    fn descr(&mut self) -> Result<Descr> {
        if let Some('[' | '(' | '{') = self.peek() {
            return Err(Error::unsupported("records (structured dtypes) are not read"));
        }
        let text = self.string()?;
        parse_descr(text)
    }
}

fn parse_descr(text: &str) -> Result<Descr> {
    let unsupported = |why: &str| {
        let shown = printable(text, 40);
        Err(Error::unsupported(format!("elements of type {shown:?} are not read{why}")))
    };
    let mut chars = text.chars();
    let (Some(order), Some(kind)) = (chars.next(), chars.next()) else { return unsupported("") };
    if kind == 'O' || order == 'O' {
        return unsupported(": they are Python objects, and loading a pickle runs code");
    }
    let digits = chars.as_str();
    let plain = !digits.starts_with('0') && digits.bytes().all(|b| b.is_ascii_digit());
    let Some(item) = digits.parse::<usize>().ok().filter(|_| plain) else {
        return unsupported("");
    };
    let big_endian = match order {
        '<' => false,
        '>' => true,
        '|' if item == 1 || kind == 'V' => false,
        _ => return unsupported(""),
    };
    let dtype = match (kind, item) {
        ('b', 1) => DType::Bool,
        ('u', 1) => DType::U8,
        ('u', 2) => DType::U16,
        ('u', 4) => DType::U32,
        ('u', 8) => DType::U64,
        ('i', 1) => DType::I8,
        ('i', 2) => DType::I16,
        ('i', 4) => DType::I32,
        ('i', 8) => DType::I64,
        ('f', 2) => DType::F16,
        ('f', 4) => DType::F32,
        ('f', 8) => DType::F64,
        ('c', 8) => DType::C64,
        ('V', 2) if order == '<' => DType::BF16,
        ('V', 1 | 2 | 4 | 8) if order == '|' => {
            return Ok(Descr { text: text.to_owned(), dtype: None, item, big_endian });
        }
        ('c', 16) => return unsupported(": there is no complex128"),
        _ => return unsupported(""),
    };
    Ok(Descr { text: text.to_owned(), dtype: Some(dtype), item, big_endian })
}

fn descr_of(dtype: DType) -> &'static str {
    match dtype {
        DType::Bool => "|b1",
        DType::U8 => "|u1",
        DType::U16 => "<u2",
        DType::U32 => "<u4",
        DType::U64 => "<u8",
        DType::I8 => "|i1",
        DType::I16 => "<i2",
        DType::I32 => "<i4",
        DType::I64 => "<i8",
        DType::F16 => "<f2",
        DType::BF16 => "<V2",
        DType::F32 => "<f4",
        DType::F64 => "<f8",
        DType::C64 => "<c8",
    }
}

/// The whole preamble of a file, as NumPy writes it: padded so that the data is 64-byte aligned.
pub(crate) fn preamble(shape: &[usize], dtype: DType) -> Result<Vec<u8>> {
    let dims: Vec<String> = shape.iter().map(usize::to_string).collect();
    let comma = if dims.len() == 1 { "," } else { "" };
    let mut text = format!(
        "{{'descr': '{}', 'fortran_order': False, 'shape': ({}{comma}), }}",
        descr_of(dtype),
        dims.join(", ")
    );
    // Magic, version and length take 10 bytes, the newline one.
    let used = text.len().saturating_add(11);
    let padding = used.next_multiple_of(64).saturating_sub(used);
    text.extend(std::iter::repeat_n(' ', padding));
    text.push('\n');
    let length = u16::try_from(text.len()).map_err(|_| Error::limit("too many dimensions"))?;
    let mut out = MAGIC.to_vec();
    out.extend([1, 0]);
    out.extend(length.to_le_bytes());
    out.extend(text.as_bytes());
    Ok(out)
}

/// The preamble and the data of an array.
pub(crate) fn encode(name: &str, array: &Array) -> Result<(Vec<u8>, Vec<u8>)> {
    let (shape, dtype, bytes) = describe(name, array)?;
    let preamble = preamble(&shape, dtype)?;
    let data = array.to_bytes().map_err(|e| Error::from_array(e, name))?;
    if to_u64(data.len()) != bytes {
        let what = format!("{name} has {} bytes instead of {bytes}", data.len());
        return Err(Error::new(ErrorKind::Array, what));
    }
    Ok((preamble, data))
}

/// Loads one array, which reads its bytes when it is evaluated. Of several in one file, as NumPy
/// allows, it is the first.
///
/// ```
/// use lazul_core::prelude::*;
/// use lazul_io::{load_npy, save_npy};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("x.npy");
/// save_npy(&path, &arange(6, DType::F32).reshape([2, 3]))?;
/// assert_eq!(load_npy(&path)?.max(1).to_vec::<f32>()?, [2.0, 5.0]);
/// # Ok(()) }
/// ```
///
/// # Errors
/// As [`Npy::open`] and [`Npy::array`].
pub fn load_npy(path: impl AsRef<Path>) -> Result<Array> {
    Npy::open(path)?.array()
}

/// Saves one array of any shape and dtype in C order, little-endian, whole or not at all. bfloat16
/// is written as `<V2`, as MLX does.
///
/// ```
/// use lazul_core::prelude::*;
/// use lazul_io::{Npy, save_npy};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("x.npy");
/// save_npy(&path, &arange(4, DType::BF16).reshape([2, 2]).t())?;
/// let file = Npy::open(&path)?;
/// assert_eq!(file.descr(), "<V2");
/// assert_eq!(file.array()?.astype(DType::F32).to_vec::<f32>()?, [0.0, 2.0, 1.0, 3.0]);
/// # Ok(()) }
/// ```
///
/// # Errors
/// [`ErrorKind::Array`] if the array fails, and those of the file system.
pub fn save_npy(path: impl AsRef<Path>, array: &Array) -> Result<()> {
    let path = path.as_ref();
    let (preamble, data) = encode("the array", array).map_err(|e| e.in_file(path.display()))?;
    let mut file = AtomicFile::create(path)?;
    file.write(&preamble)?;
    file.write(&data)?;
    file.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use half::{bf16, f16};

    fn file(header: &str, data: &[u8]) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend([1, 0]);
        bytes.extend((header.len() as u16).to_le_bytes());
        bytes.extend(header.as_bytes());
        bytes.extend(data);
        bytes
    }

    fn load(header: &str, data: &[u8]) -> Result<Array> {
        Npy::from_bytes(file(header, data))?.array()
    }

    #[test]
    fn orders_of_bytes_and_memory() {
        let header = "{'descr': '>i2', 'fortran_order': True, 'shape': (2, 3), }\n";
        let data: Vec<u8> = (1i16..=6).flat_map(i16::to_be_bytes).collect();
        let array = load(header, &data).unwrap();
        assert_eq!(array.shape().unwrap(), [2, 3]);
        assert_eq!(array.to_vec::<i16>().unwrap(), [1, 3, 5, 2, 4, 6]);
        let header = "{'descr':'>c8','shape':(1,),'fortran_order':False}\n";
        let data: Vec<u8> = [1.5f32, -2.0].iter().flat_map(|x| x.to_be_bytes()).collect();
        let expected: Vec<u8> = [1.5f32, -2.0].iter().flat_map(|x| x.to_le_bytes()).collect();
        assert_eq!(load(header, &data).unwrap().to_bytes().unwrap(), expected);
    }

    #[test]
    fn raw_bytes_load_only_on_request() {
        let header = "{'descr': '|V2', 'fortran_order': False, 'shape': (1,), }\n";
        let npy = Npy::from_bytes(file(header, &[0x80, 0x3f])).unwrap();
        assert_eq!(npy.array().unwrap_err().kind(), ErrorKind::Unsupported);
        assert_eq!(npy.array_as(DType::F32).unwrap_err().kind(), ErrorKind::Argument);
        let array = npy.array_as(DType::BF16).unwrap();
        assert_eq!(array.to_vec::<bf16>().unwrap(), [bf16::ONE]);
    }

    #[test]
    fn every_dtype_makes_the_round_trip() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.npy");
        let bytes: Vec<u8> = (0..48u8).collect();
        let all = [
            DType::Bool,
            DType::U8,
            DType::U16,
            DType::U32,
            DType::U64,
            DType::I8,
            DType::I16,
            DType::I32,
            DType::I64,
            DType::F16,
            DType::BF16,
            DType::F32,
            DType::F64,
            DType::C64,
        ];
        for dtype in all {
            let mut bytes = bytes.clone();
            if dtype == DType::Bool {
                bytes.iter_mut().for_each(|b| *b &= 1);
            }
            for shape in [vec![48 / dtype.size()], vec![2, 24 / dtype.size()], vec![0, 3]] {
                let count: usize = shape.iter().product();
                let data = &bytes[..count * dtype.size()];
                save_npy(&path, &Array::from_bytes(data, &shape[..], dtype)).unwrap();
                let back = load_npy(&path).unwrap();
                assert_eq!(back.dtype().unwrap(), dtype);
                assert_eq!(back.shape().unwrap(), shape);
                assert_eq!(back.to_bytes().unwrap(), data);
            }
        }
        let scalar: [usize; 0] = [];
        save_npy(&path, &Array::from_slice(&[f16::from_f32(2.5)], scalar)).unwrap();
        let back = load_npy(&path).unwrap();
        assert_eq!(back.shape().unwrap(), scalar);
        assert_eq!(back.to_vec::<f16>().unwrap(), [f16::from_f32(2.5)]);
    }

    #[test]
    fn the_preamble_is_aligned_and_reads_like_numpy() {
        let bytes = preamble(&[3, 4], DType::F32).unwrap();
        assert_eq!(bytes.len() % 64, 0);
        let text = std::str::from_utf8(&bytes[10..]).unwrap();
        assert!(text.starts_with("{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }"));
        assert!(preamble(&[3], DType::F32).unwrap().windows(4).any(|w| w == b"(3,)"));
    }
}

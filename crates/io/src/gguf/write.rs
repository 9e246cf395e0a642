//! Writing GGUF, version 3.

use std::collections::BTreeSet;
use std::path::Path;

use lazul_core::{Array, Quantized};

use super::header::{ALIGNMENT, MAGIC, MAX_COUNT, MAX_KEY, MAX_NAME, MAX_RANK};
use super::types::GgufType;
use super::value::{GgufList, GgufValue};
use crate::atomic::AtomicFile;
use crate::error::{Error, ErrorKind, Result};
use crate::size::to_u64;

/// What can be saved under a name.
#[derive(Clone, Copy, Debug)]
pub enum GgufArray<'a> {
    /// An array of f32, f16, bf16, f64, i8, i16, i32 or i64.
    Dense(&'a Array),
    /// A matrix of blocks, as they are.
    Blocks(&'a Quantized),
}

/// Saves named arrays and metadata, whole or not at all: a crash leaves what was there before.
///
/// Arrays have one to four dimensions, none of them 0, and a dtype of [`GgufArray::Dense`]. Arrays
/// are written in the order of their names, one at a time held in memory; metadata in the order
/// given.
///
/// ```
/// use lazul_core::prelude::*;
/// use lazul_io::gguf::{Gguf, GgufValue, save_gguf};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("model.gguf");
/// let w = arange(6, DType::F32).reshape([2, 3]).astype(DType::F16);
/// let name = GgufValue::Text("tiny".into());
/// save_gguf(&path, [("output.weight", &w)], &[("general.name", name)])?;
/// let file = Gguf::open(&path)?;
/// assert_eq!(file.info("output.weight").unwrap().kind().name(), "F16");
/// assert_eq!(file.text("general.name")?, Some("tiny"));
/// # Ok(()) }
/// ```
///
/// # Errors
/// [`ErrorKind::Argument`] if an array has a shape or dtype that GGUF lacks, if two arrays or keys
/// have one name, if a key is empty or `general.alignment`; [`ErrorKind::Limit`] if there are more
/// arrays or keys than a file may have; [`ErrorKind::Array`] if an array fails; and those of the
/// file system.
pub fn save_gguf<'a, N: AsRef<str>>(
    path: impl AsRef<Path>,
    arrays: impl IntoIterator<Item = (N, &'a Array)>,
    metadata: &[(&str, GgufValue)],
) -> Result<()> {
    let arrays = arrays.into_iter().map(|(name, array)| (name, GgufArray::Dense(array)));
    save_gguf_with(path, arrays, metadata)
}

/// As [`save_gguf`], for arrays and matrices of blocks in one file.
///
/// ```
/// use lazul_core::{BlockFormat, prelude::*};
/// use lazul_io::gguf::{Gguf, GgufArray, save_gguf_with};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("model.gguf");
/// let mut block = f16::from_f32(0.5).to_le_bytes().to_vec(); // a block of Q8_0: its scale
/// block.extend(0..32u8); // and 32 codes
/// let codes = Array::from_slice(&block, [1, 34]);
/// let form = Quantization::Blocks(BlockFormat::Q8_0);
/// let w = Quantized { codes, scales: None, biases: None, global_scale: None, form };
/// let norm = ones([32], DType::F32);
/// let both = [("q.weight", GgufArray::Blocks(&w)), ("norm.weight", GgufArray::Dense(&norm))];
/// save_gguf_with(&path, both, &[])?;
/// assert_eq!(Gguf::open(&path)?.info("q.weight").unwrap().shape(), [1, 32]);
/// # Ok(()) }
/// ```
///
/// # Errors
/// As [`save_gguf`]; [`ErrorKind::Argument`] also for a matrix that is quantized in another way.
pub fn save_gguf_with<'a, N: AsRef<str>>(
    path: impl AsRef<Path>,
    arrays: impl IntoIterator<Item = (N, GgufArray<'a>)>,
    metadata: &[(&str, GgufValue)],
) -> Result<()> {
    let path = path.as_ref();
    let at = |e: Error| e.in_file(path.display());
    let plan = Plan::new(arrays, metadata).map_err(at)?;
    let mut file = AtomicFile::create(path)?;
    file.write(&plan.header)?;
    for tensor in plan.tensors {
        let name = &tensor.name;
        let data = tensor.array.to_bytes();
        let mut data = data.map_err(|e| at(Error::from_array(e, &format!("tensor {name:?}"))))?;
        // The header is written already, so a disagreement must not reach the disk.
        if to_u64(data.len()) != tensor.bytes {
            let what =
                format!("tensor {name:?} has {} bytes instead of {}", data.len(), tensor.bytes);
            return Err(at(Error::new(ErrorKind::Array, what)));
        }
        pad(&mut data);
        file.write(&data)?;
    }
    file.finish()
}

/// Zeros up to the alignment.
fn pad(bytes: &mut Vec<u8>) {
    let alignment = usize::try_from(ALIGNMENT).unwrap_or(32);
    let padded = bytes.len().checked_next_multiple_of(alignment).unwrap_or(bytes.len());
    bytes.resize(padded, 0);
}

struct Tensor<'a> {
    name: String,
    array: &'a Array,
    kind: GgufType,
    shape: Vec<usize>,
    bytes: u64,
}

/// What will be written, decided before the first byte is.
struct Plan<'a> {
    header: Vec<u8>,
    tensors: Vec<Tensor<'a>>,
}

impl<'a> Plan<'a> {
    fn new<N: AsRef<str>>(
        arrays: impl IntoIterator<Item = (N, GgufArray<'a>)>,
        metadata: &[(&str, GgufValue)],
    ) -> Result<Plan<'a>> {
        let mut tensors = Vec::new();
        for (name, array) in arrays {
            tensors.push(describe(name.as_ref(), array)?);
        }
        tensors.sort_by(|a, b| a.name.cmp(&b.name));
        if let Some([a, _]) = tensors.windows(2).find(|w| matches!(w, [a, b] if a.name == b.name)) {
            let what = format!("two tensors are called {:?}", a.name);
            return Err(Error::new(ErrorKind::Argument, what));
        }
        let too_many = to_u64(tensors.len().max(metadata.len())) > MAX_COUNT;
        if too_many {
            return Err(Error::limit("too many tensors or keys for one GGUF file"));
        }
        let mut out = Writer(MAGIC.to_vec());
        out.bytes(&3u32.to_le_bytes());
        out.bytes(&to_u64(tensors.len()).to_le_bytes());
        out.bytes(&to_u64(metadata.len()).to_le_bytes());
        let mut keys = BTreeSet::new();
        for (key, value) in metadata {
            let sound = !key.is_empty() && to_u64(key.len()) <= MAX_KEY && keys.insert(*key);
            if !sound || *key == "general.alignment" {
                let what = format!("{key:?} cannot be a key here");
                return Err(Error::new(ErrorKind::Argument, what));
            }
            out.text(key.as_bytes());
            out.bytes(&value.type_id().to_le_bytes());
            out.value(value)?;
        }
        let mut begin: u64 = 0;
        for tensor in &tensors {
            out.text(tensor.name.as_bytes());
            out.bytes(&u32::try_from(tensor.shape.len()).unwrap_or(0).to_le_bytes());
            for &dim in tensor.shape.iter().rev() {
                out.bytes(&to_u64(dim).to_le_bytes());
            }
            out.bytes(&tensor.kind.id().to_le_bytes());
            out.bytes(&begin.to_le_bytes());
            let end = begin.checked_add(tensor.bytes);
            begin = end
                .and_then(|end| end.checked_next_multiple_of(ALIGNMENT))
                .ok_or_else(|| Error::limit("the tensors together exceed 2^64 bytes"))?;
        }
        let mut header = out.0;
        pad(&mut header);
        Ok(Plan { header, tensors })
    }
}

fn describe<'a>(name: &str, array: GgufArray<'a>) -> Result<Tensor<'a>> {
    let refuse = |what: String| Err(Error::new(ErrorKind::Argument, what));
    let wrap = |e| Error::from_array(e, &format!("tensor {name:?}"));
    if to_u64(name.len()) > MAX_NAME {
        return refuse(format!("a tensor name of {} bytes; the most is {MAX_NAME}", name.len()));
    }
    let (array, kind, shape) = match array {
        GgufArray::Dense(array) => {
            let dtype = array.dtype().map_err(wrap)?;
            let Some(kind) = GgufType::of(dtype) else {
                return refuse(format!("tensor {name:?} is {dtype}, which GGUF does not have"));
            };
            (array, kind, array.shape().map_err(wrap)?.to_vec())
        }
        GgufArray::Blocks(matrix) => {
            let shape = matrix.shape().map_err(wrap)?.to_vec();
            let kind = matrix.form.blocks().and_then(GgufType::of_blocks);
            let Some(kind) = kind else {
                let mode = matrix.form.mode();
                return refuse(format!("tensor {name:?} is {mode}, which GGUF does not have"));
            };
            (&matrix.codes, kind, shape)
        }
    };
    let rank = u32::try_from(shape.len()).unwrap_or(u32::MAX);
    if !(1..=MAX_RANK).contains(&rank) || shape.contains(&0) {
        return refuse(format!(
            "tensor {name:?} has the shape {shape:?}; GGUF has 1 to {MAX_RANK} dimensions, none of them 0"
        ));
    }
    let bytes = kind.extent(&shape)?.bytes;
    Ok(Tensor { name: name.to_owned(), array, kind, shape, bytes })
}

struct Writer(Vec<u8>);

impl Writer {
    fn bytes(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    fn text(&mut self, text: &[u8]) {
        self.bytes(&to_u64(text.len()).to_le_bytes());
        self.bytes(text);
    }

    fn value(&mut self, value: &GgufValue) -> Result<()> {
        match value {
            GgufValue::U8(x) => self.bytes(&x.to_le_bytes()),
            GgufValue::I8(x) => self.bytes(&x.to_le_bytes()),
            GgufValue::U16(x) => self.bytes(&x.to_le_bytes()),
            GgufValue::I16(x) => self.bytes(&x.to_le_bytes()),
            GgufValue::U32(x) => self.bytes(&x.to_le_bytes()),
            GgufValue::I32(x) => self.bytes(&x.to_le_bytes()),
            GgufValue::F32(x) => self.bytes(&x.to_le_bytes()),
            GgufValue::Bool(x) => self.bytes(&[u8::from(*x)]),
            GgufValue::Text(x) => self.text(x.as_bytes()),
            GgufValue::List(x) => self.list(x, 0)?,
            GgufValue::U64(x) => self.bytes(&x.to_le_bytes()),
            GgufValue::I64(x) => self.bytes(&x.to_le_bytes()),
            GgufValue::F64(x) => self.bytes(&x.to_le_bytes()),
        }
        Ok(())
    }

    fn list(&mut self, list: &GgufList, depth: usize) -> Result<()> {
        if depth > super::value::MAX_DEPTH {
            return Err(Error::new(ErrorKind::Argument, "lists are nested too deep"));
        }
        self.bytes(&list.type_id().to_le_bytes());
        self.bytes(&to_u64(list.len()).to_le_bytes());
        match list {
            GgufList::U8(x) => self.bytes(x),
            GgufList::I8(x) => x.iter().for_each(|x| self.bytes(&x.to_le_bytes())),
            GgufList::U16(x) => x.iter().for_each(|x| self.bytes(&x.to_le_bytes())),
            GgufList::I16(x) => x.iter().for_each(|x| self.bytes(&x.to_le_bytes())),
            GgufList::U32(x) => x.iter().for_each(|x| self.bytes(&x.to_le_bytes())),
            GgufList::I32(x) => x.iter().for_each(|x| self.bytes(&x.to_le_bytes())),
            GgufList::F32(x) => x.iter().for_each(|x| self.bytes(&x.to_le_bytes())),
            GgufList::Bool(x) => x.iter().for_each(|x| self.bytes(&[u8::from(*x)])),
            GgufList::Text(x) => x.iter().for_each(|x| self.text(x)),
            GgufList::List(x) => {
                let kind = x.first().map(GgufList::type_id);
                for inner in x {
                    if Some(inner.type_id()) != kind {
                        let what = "a list of lists of different types";
                        return Err(Error::new(ErrorKind::Argument, what));
                    }
                    self.list(inner, depth.saturating_add(1))?;
                }
            }
            GgufList::U64(x) => x.iter().for_each(|x| self.bytes(&x.to_le_bytes())),
            GgufList::I64(x) => x.iter().for_each(|x| self.bytes(&x.to_le_bytes())),
            GgufList::F64(x) => x.iter().for_each(|x| self.bytes(&x.to_le_bytes())),
        }
        Ok(())
    }
}

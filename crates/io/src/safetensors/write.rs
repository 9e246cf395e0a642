//! Writing safetensors.

use std::collections::BTreeMap;
use std::path::Path;

use lazul_core::{Array, DType};
use serde_json::Value;

use super::{MAX_HEADER, MAX_NAME, MAX_TENSORS, METADATA, StoredDType};
use crate::atomic::AtomicFile;
use crate::error::{Error, ErrorKind, Result};
use crate::size::{Extent, to_u64};

/// The name of a dtype in a safetensors file.
fn stored_of(dtype: DType) -> StoredDType {
    match dtype {
        DType::Bool => StoredDType::Bool,
        DType::U8 => StoredDType::U8,
        DType::U16 => StoredDType::U16,
        DType::U32 => StoredDType::U32,
        DType::U64 => StoredDType::U64,
        DType::I8 => StoredDType::I8,
        DType::I16 => StoredDType::I16,
        DType::I32 => StoredDType::I32,
        DType::I64 => StoredDType::I64,
        DType::F16 => StoredDType::F16,
        DType::BF16 => StoredDType::BF16,
        DType::F32 => StoredDType::F32,
        DType::F64 => StoredDType::F64,
        DType::C64 => StoredDType::C64,
    }
}

/// Saves named arrays, whole or not at all: a crash leaves what was there before.
///
/// `arrays` is any map or list of names and arrays, of any shapes and dtypes; `metadata` is
/// `&[("format", "mlx")]` for a converted model and `&[]` for none. Wide dtypes come first and the
/// data starts at a multiple of 8, so every tensor is aligned, as the reference implementation
/// writes. One array at a time is evaluated and held in memory.
///
/// An array that was loaded lazily from the file being replaced stays readable.
///
/// ```
/// use lazul_core::prelude::*;
/// use lazul_io::{load_safetensors, save_safetensors};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("w.safetensors");
/// save_safetensors(&path, [("w", &ones([2], DType::F32)), ("b", &zeros([1], DType::F32))], &[])?;
/// let mut arrays = load_safetensors(&path)?;
/// arrays.insert("w".into(), &arrays["w"] * 2.0);
/// save_safetensors(&path, &arrays, &[])?; // over the file that `b` is read from
/// assert_eq!(load_safetensors(&path)?["w"].to_vec::<f32>()?, [2.0, 2.0]);
/// # Ok(()) }
/// ```
///
/// # Errors
/// [`ErrorKind::Argument`] if two arrays have one name, or a name is `__metadata__` or longer than
/// 4,096 bytes; [`ErrorKind::Limit`] if there are more tensors than a file may have;
/// [`ErrorKind::Array`] if an array fails; and those of the file system.
pub fn save_safetensors<'a, N: AsRef<str>>(
    path: impl AsRef<Path>,
    arrays: impl IntoIterator<Item = (N, &'a Array)>,
    metadata: &[(&str, &str)],
) -> Result<()> {
    let path = path.as_ref();
    let at = |e: Error| e.in_file(path.display());
    let plan = Plan::new(arrays, metadata).map_err(at)?;
    let mut file = AtomicFile::create(path)?;
    file.write(&to_u64(plan.header.len()).to_le_bytes())?;
    file.write(&plan.header)?;
    for (name, array, bytes) in plan.order {
        let data = array.to_bytes();
        let data = data.map_err(|e| at(Error::from_array(e, &format!("tensor {name:?}"))))?;
        // The header is written already, so a disagreement must not reach the disk.
        if to_u64(data.len()) != bytes {
            let what = format!("tensor {name:?} has {} bytes instead of {bytes}", data.len());
            return Err(at(Error::new(ErrorKind::Array, what)));
        }
        file.write(&data)?;
    }
    file.finish()
}

/// What will be written, decided before the first byte is.
struct Plan<'a> {
    header: Vec<u8>,
    order: Vec<(String, &'a Array, u64)>,
}

impl<'a> Plan<'a> {
    fn new<N: AsRef<str>>(
        arrays: impl IntoIterator<Item = (N, &'a Array)>,
        metadata: &[(&str, &str)],
    ) -> Result<Plan<'a>> {
        let mut tensors = BTreeMap::new();
        for (name, array) in arrays {
            let name = name.as_ref();
            if name == METADATA || name.len() > MAX_NAME {
                let what = format!("{name:?} cannot be a tensor's name");
                return Err(Error::new(ErrorKind::Argument, what));
            }
            let (shape, dtype, bytes) = describe(name, array)?;
            if tensors.insert(name.to_owned(), (array, shape, dtype, bytes)).is_some() {
                let what = format!("two tensors are called {name:?}");
                return Err(Error::new(ErrorKind::Argument, what));
            }
        }
        let mut strings = BTreeMap::new();
        for (key, value) in metadata {
            strings.insert((*key).to_owned(), Value::from(*value));
        }
        let mut order: Vec<_> = tensors.into_iter().collect();
        order.sort_by_key(|(_, (_, _, dtype, _))| std::cmp::Reverse(dtype.size()));

        let mut members = Vec::with_capacity(order.len().saturating_add(1));
        if !strings.is_empty() {
            let strings: serde_json::Map<_, _> = strings.into_iter().collect();
            members.push(format!("{:?}:{}", METADATA, Value::Object(strings)));
        }
        let mut begin: u64 = 0;
        let mut data = Vec::with_capacity(order.len());
        for (name, (array, shape, dtype, bytes)) in order {
            let end = begin
                .checked_add(bytes)
                .ok_or_else(|| Error::limit("the tensors together exceed 2^64 bytes"))?;
            members.push(format!(
                "{}:{{\"dtype\":\"{}\",\"shape\":{},\"data_offsets\":[{begin},{end}]}}",
                Value::from(name.as_str()),
                stored_of(dtype).name(),
                Value::from(shape),
            ));
            begin = end;
            data.push((name, array, bytes));
        }
        let mut header = format!("{{{}}}", members.join(",")).into_bytes();
        let padded = header.len().checked_next_multiple_of(8).unwrap_or(header.len());
        header.resize(padded, b' ');
        if to_u64(header.len()) > MAX_HEADER || data.len() > MAX_TENSORS {
            return Err(Error::limit("too many tensors for one safetensors file"));
        }
        Ok(Plan { header, order: data })
    }
}

/// Shape, dtype and size of an array, without evaluating it.
pub(crate) fn describe(name: &str, array: &Array) -> Result<(Vec<usize>, DType, u64)> {
    let wrap = |e| Error::from_array(e, &format!("tensor {name:?}"));
    let shape = array.shape().map_err(wrap)?.to_vec();
    let dtype = array.dtype().map_err(wrap)?;
    let bytes = Extent::new(&shape, stored_of(dtype).bits())?.bytes;
    Ok((shape, dtype, bytes))
}

//! Reading and checking the header of a GGUF file: nothing of it is believed before all of it fits together.

use super::{Gguf, GgufTensorInfo, GgufType, GgufValue, value};
use crate::bounded::Bounded;
use crate::error::{Error, Result};
use crate::size::to_usize;
use lazul_core::ByteSource;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

pub(super) const MAGIC: [u8; 4] = *b"GGUF";
/// Longest key, as in the specification.
pub(super) const MAX_KEY: u64 = 65_535;
/// Longest tensor name in bytes.
pub(super) const MAX_NAME: u64 = 4096;
/// Most keys, and most tensors.
pub(super) const MAX_COUNT: u64 = 1 << 16;
/// Bytes that a key and a value, or a tensor's description, take at least.
const LEAST_PAIR: u64 = 8 + 4 + 1;
const LEAST_TENSOR: u64 = 8 + 4 + 8 + 4 + 8;
/// Most dimensions.
pub(super) const MAX_RANK: u32 = 4;
/// Alignment of the data where the file does not say.
pub(super) const ALIGNMENT: u64 = 32;
/// Largest alignment that is believed.
const MAX_ALIGNMENT: u64 = 1 << 16;

impl Gguf {
    pub(super) fn read(source: Arc<dyn ByteSource>) -> Result<Gguf> {
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

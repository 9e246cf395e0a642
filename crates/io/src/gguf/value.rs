//! The metadata of GGUF files: typed values, and how they are read.
//!
//! Arrays of strings, of which a vocabulary is one, lie in one block of memory ([`TextList`]): a file
//! whose strings are empty takes no more memory than it is long.

use crate::bounded::Bounded;
use crate::error::{Error, Result};
use crate::size::{to_u64, to_usize};

/// Arrays inside arrays, at most.
pub(super) const MAX_DEPTH: usize = 8;
/// Arrays inside arrays of one file, at most.
const MAX_NESTED: usize = 1 << 16;

/// A value of a GGUF file's metadata.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum GgufValue {
    /// Unsigned 8 bits.
    U8(u8),
    /// Signed 8 bits.
    I8(i8),
    /// Unsigned 16 bits.
    U16(u16),
    /// Signed 16 bits.
    I16(i16),
    /// Unsigned 32 bits.
    U32(u32),
    /// Signed 32 bits.
    I32(i32),
    /// Single precision.
    F32(f32),
    /// A truth value.
    Bool(bool),
    /// A text.
    Text(String),
    /// A list.
    List(GgufList),
    /// Unsigned 64 bits.
    U64(u64),
    /// Signed 64 bits.
    I64(i64),
    /// Double precision.
    F64(f64),
}

/// A list of values of one type.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum GgufList {
    /// Unsigned 8 bits.
    U8(Vec<u8>),
    /// Signed 8 bits.
    I8(Vec<i8>),
    /// Unsigned 16 bits.
    U16(Vec<u16>),
    /// Signed 16 bits.
    I16(Vec<i16>),
    /// Unsigned 32 bits.
    U32(Vec<u32>),
    /// Signed 32 bits.
    I32(Vec<i32>),
    /// Single precision.
    F32(Vec<f32>),
    /// Truth values.
    Bool(Vec<bool>),
    /// Texts.
    Text(TextList),
    /// Lists.
    List(Vec<GgufList>),
    /// Unsigned 64 bits.
    U64(Vec<u64>),
    /// Signed 64 bits.
    I64(Vec<i64>),
    /// Double precision.
    F64(Vec<f64>),
}

/// Many texts in one block of memory. They are bytes: tokens of a vocabulary need not be UTF-8.
///
/// ```
/// use lazul_io::gguf::TextList;
/// let list: TextList = ["a", "", "bc"].into_iter().collect();
/// assert_eq!(list.len(), 3);
/// assert_eq!(list.get(2), Some(&b"bc"[..]));
/// assert_eq!(list.iter().collect::<Vec<_>>(), [&b"a"[..], b"", b"bc"]);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TextList {
    bytes: Vec<u8>,
    /// Where each text ends in `bytes`.
    ends: Vec<usize>,
}

impl TextList {
    /// How many texts there are.
    ///
    /// ```
    /// use lazul_io::gguf::TextList;
    /// let list: TextList = ["a", "", "bc"].into_iter().collect();
    /// assert_eq!(list.len(), 3);
    /// ```
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    ///
    /// ```
    /// use lazul_io::gguf::TextList;
    /// assert!(TextList::default().is_empty());
    /// assert!(![""].into_iter().collect::<TextList>().is_empty()); // it has one, of no bytes
    /// ```
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Text `i`, counted from 0, as its bytes; `None` past the end.
    ///
    /// ```
    /// use lazul_io::gguf::TextList;
    /// let list: TextList = ["a", "bc"].into_iter().collect();
    /// assert_eq!(list.get(1), Some(&b"bc"[..]));
    /// assert_eq!(list.get(2), None);
    /// ```
    pub fn get(&self, i: usize) -> Option<&[u8]> {
        let end = *self.ends.get(i)?;
        let start = i.checked_sub(1).map_or(Some(0), |before| self.ends.get(before).copied())?;
        self.bytes.get(start..end)
    }

    /// All of them in order, as bytes.
    ///
    /// ```
    /// use lazul_io::gguf::TextList;
    /// let list: TextList = [&b"ab"[..], b"\xff"].into_iter().collect();
    /// let text: Vec<bool> = list.iter().map(|bytes| std::str::from_utf8(bytes).is_ok()).collect();
    /// assert_eq!(text, [true, false]);
    /// ```
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        (0..self.len()).map(|i| self.get(i).unwrap_or_default())
    }
}

impl<T: AsRef<[u8]>> FromIterator<T> for TextList {
    fn from_iter<I: IntoIterator<Item = T>>(texts: I) -> TextList {
        let mut list = TextList::default();
        for text in texts {
            list.bytes.extend_from_slice(text.as_ref());
            list.ends.push(list.bytes.len());
        }
        list
    }
}

impl GgufList {
    /// The number of elements; of a list of lists, that of the lists.
    ///
    /// ```
    /// use lazul_io::gguf::GgufList;
    /// assert_eq!(GgufList::F32(vec![0.5, 1.5]).len(), 2);
    /// assert_eq!(GgufList::List(vec![GgufList::U8(vec![1, 2, 3])]).len(), 1);
    /// ```
    pub fn len(&self) -> usize {
        match self {
            GgufList::U8(x) => x.len(),
            GgufList::I8(x) => x.len(),
            GgufList::U16(x) => x.len(),
            GgufList::I16(x) => x.len(),
            GgufList::U32(x) => x.len(),
            GgufList::I32(x) => x.len(),
            GgufList::F32(x) => x.len(),
            GgufList::Bool(x) => x.len(),
            GgufList::Text(x) => x.len(),
            GgufList::List(x) => x.len(),
            GgufList::U64(x) => x.len(),
            GgufList::I64(x) => x.len(),
            GgufList::F64(x) => x.len(),
        }
    }

    /// Whether there are none.
    ///
    /// ```
    /// use lazul_io::gguf::GgufList;
    /// assert!(GgufList::U32(vec![]).is_empty());
    /// ```
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn type_id(&self) -> u32 {
        match self {
            GgufList::U8(_) => 0,
            GgufList::I8(_) => 1,
            GgufList::U16(_) => 2,
            GgufList::I16(_) => 3,
            GgufList::U32(_) => 4,
            GgufList::I32(_) => 5,
            GgufList::F32(_) => 6,
            GgufList::Bool(_) => 7,
            GgufList::Text(_) => 8,
            GgufList::List(_) => 9,
            GgufList::U64(_) => 10,
            GgufList::I64(_) => 11,
            GgufList::F64(_) => 12,
        }
    }

    /// The elements as 64-bit numbers. `None` if they are not integers, or one is above `i64::MAX`.
    ///
    /// ```
    /// use lazul_io::gguf::GgufList;
    /// assert_eq!(GgufList::I8(vec![-1, 2]).integers(), Some(vec![-1, 2]));
    /// assert_eq!(GgufList::U64(vec![u64::MAX]).integers(), None);
    /// assert_eq!(GgufList::F32(vec![1.0]).integers(), None);
    /// ```
    pub fn integers(&self) -> Option<Vec<i64>> {
        Some(match self {
            GgufList::U8(x) => x.iter().copied().map(i64::from).collect(),
            GgufList::I8(x) => x.iter().copied().map(i64::from).collect(),
            GgufList::U16(x) => x.iter().copied().map(i64::from).collect(),
            GgufList::I16(x) => x.iter().copied().map(i64::from).collect(),
            GgufList::U32(x) => x.iter().copied().map(i64::from).collect(),
            GgufList::I32(x) => x.iter().copied().map(i64::from).collect(),
            GgufList::I64(x) => x.clone(),
            GgufList::U64(x) => {
                return x.iter().map(|&x| i64::try_from(x).ok()).collect();
            }
            _ => return None,
        })
    }
}

impl GgufValue {
    pub(super) fn type_id(&self) -> u32 {
        match self {
            GgufValue::U8(_) => 0,
            GgufValue::I8(_) => 1,
            GgufValue::U16(_) => 2,
            GgufValue::I16(_) => 3,
            GgufValue::U32(_) => 4,
            GgufValue::I32(_) => 5,
            GgufValue::F32(_) => 6,
            GgufValue::Bool(_) => 7,
            GgufValue::Text(_) => 8,
            GgufValue::List(_) => 9,
            GgufValue::U64(_) => 10,
            GgufValue::I64(_) => 11,
            GgufValue::F64(_) => 12,
        }
    }

    /// The name of the type.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            GgufValue::U8(_) => "a u8",
            GgufValue::I8(_) => "an i8",
            GgufValue::U16(_) => "a u16",
            GgufValue::I16(_) => "an i16",
            GgufValue::U32(_) => "a u32",
            GgufValue::I32(_) => "an i32",
            GgufValue::F32(_) => "an f32",
            GgufValue::Bool(_) => "a truth value",
            GgufValue::Text(_) => "a text",
            GgufValue::List(_) => "a list",
            GgufValue::U64(_) => "a u64",
            GgufValue::I64(_) => "an i64",
            GgufValue::F64(_) => "an f64",
        }
    }

    /// The value as a count. `None` if it is not an integer, or negative.
    ///
    /// ```
    /// use lazul_io::gguf::GgufValue;
    /// assert_eq!(GgufValue::I32(7).count(), Some(7));
    /// assert_eq!(GgufValue::I32(-7).count(), None);
    /// assert_eq!(GgufValue::F32(7.0).count(), None);
    /// ```
    pub fn count(&self) -> Option<u64> {
        match *self {
            GgufValue::U8(x) => Some(x.into()),
            GgufValue::U16(x) => Some(x.into()),
            GgufValue::U32(x) => Some(x.into()),
            GgufValue::U64(x) => Some(x),
            GgufValue::I8(x) => x.try_into().ok(),
            GgufValue::I16(x) => x.try_into().ok(),
            GgufValue::I32(x) => x.try_into().ok(),
            GgufValue::I64(x) => x.try_into().ok(),
            _ => None,
        }
    }

    /// The value as a float, which may be infinite or no number. `None` if it is of another type.
    ///
    /// ```
    /// use lazul_io::gguf::GgufValue;
    /// assert_eq!(GgufValue::F32(0.5).float(), Some(0.5));
    /// assert_eq!(GgufValue::U8(1).float(), None);
    /// ```
    pub fn float(&self) -> Option<f64> {
        match *self {
            GgufValue::F32(x) => Some(x.into()),
            GgufValue::F64(x) => Some(x),
            _ => None,
        }
    }
}

/// Reads a value of a type.
pub(super) fn read(cursor: &mut Bounded, nested: &mut usize) -> Result<GgufValue> {
    let kind = cursor.u32("the type of a value")?;
    Ok(match kind {
        0 => GgufValue::U8(u8::from_le_bytes(cursor.array("a value")?)),
        1 => GgufValue::I8(i8::from_le_bytes(cursor.array("a value")?)),
        2 => GgufValue::U16(u16::from_le_bytes(cursor.array("a value")?)),
        3 => GgufValue::I16(i16::from_le_bytes(cursor.array("a value")?)),
        4 => GgufValue::U32(u32::from_le_bytes(cursor.array("a value")?)),
        5 => GgufValue::I32(i32::from_le_bytes(cursor.array("a value")?)),
        6 => GgufValue::F32(f32::from_le_bytes(cursor.array("a value")?)),
        7 => {
            let at = cursor.position();
            let [byte] = cursor.array("a value")?;
            GgufValue::Bool(truth(byte).map_err(|e| e.at_byte(at))?)
        }
        8 => GgufValue::Text(text(cursor, u64::MAX, "a text")?),
        9 => GgufValue::List(list(cursor, 0, nested)?),
        10 => GgufValue::U64(u64::from_le_bytes(cursor.array("a value")?)),
        11 => GgufValue::I64(i64::from_le_bytes(cursor.array("a value")?)),
        12 => GgufValue::F64(f64::from_le_bytes(cursor.array("a value")?)),
        other => {
            let e = Error::malformed(format!("values of type {other} are not known"));
            return Err(cursor.locate(e));
        }
    })
}

fn truth(byte: u8) -> Result<bool> {
    match byte {
        0 => Ok(false),
        1 => Ok(true),
        other => Err(Error::malformed(format!("a truth value is {other}, not 0 or 1"))),
    }
}

/// Reads a length and as many bytes of UTF-8.
pub(super) fn text(cursor: &mut Bounded, most: u64, what: &str) -> Result<String> {
    let length = cursor.u64(what)?;
    let at = cursor.position();
    let bytes = cursor.bytes(length, most, what)?;
    String::from_utf8(bytes).map_err(|e| {
        let valid = to_u64(e.utf8_error().valid_up_to());
        let e = Error::malformed(format!("{what} is not UTF-8")).at_byte(at.saturating_add(valid));
        cursor.locate(e)
    })
}

fn list(cursor: &mut Bounded, depth: usize, nested: &mut usize) -> Result<GgufList> {
    let kind = cursor.u32("the type of a list")?;
    let count = cursor.u64("the length of a list")?;
    macro_rules! numbers {
        ($name:ident: $t:ty) => {{
            const SIZE: usize = size_of::<$t>();
            let bytes = count.checked_mul(to_u64(SIZE));
            let bytes = bytes.ok_or_else(|| {
                cursor.locate(Error::limit(format!("a list of {count} elements")))
            })?;
            let raw = cursor.bytes(bytes, u64::MAX, "a list")?;
            let (chunks, _) = raw.as_chunks::<SIZE>();
            GgufList::$name(chunks.iter().map(|&chunk| <$t>::from_le_bytes(chunk)).collect())
        }};
    }
    Ok(match kind {
        0 => GgufList::U8(cursor.bytes(count, u64::MAX, "a list")?),
        1 => numbers!(I8: i8),
        2 => numbers!(U16: u16),
        3 => numbers!(I16: i16),
        4 => numbers!(U32: u32),
        5 => numbers!(I32: i32),
        6 => numbers!(F32: f32),
        7 => {
            let at = cursor.position();
            let bytes = cursor.bytes(count, u64::MAX, "a list")?;
            let each = bytes.iter().enumerate().map(|(i, &byte)| {
                truth(byte).map_err(|e| cursor.locate(e.at_byte(at.saturating_add(to_u64(i)))))
            });
            GgufList::Bool(each.collect::<Result<_>>()?)
        }
        8 => GgufList::Text(texts(cursor, count)?),
        9 => GgufList::List(lists(cursor, count, depth, nested)?),
        10 => numbers!(U64: u64),
        11 => numbers!(I64: i64),
        12 => numbers!(F64: f64),
        other => {
            let e = Error::malformed(format!("lists of type {other} are not known"));
            return Err(cursor.locate(e));
        }
    })
}

/// Reads `count` texts, twice: the first time only their lengths, so that the memory is exact.
fn texts(cursor: &mut Bounded, count: u64) -> Result<TextList> {
    enough(cursor, count, 8, "texts")?;
    let start = cursor.position();
    let mut total: u64 = 0;
    for _ in 0..count {
        let length = cursor.u64("the length of a text")?;
        cursor.skip(length, "a text")?;
        total = total.saturating_add(length);
    }
    cursor.seek(start)?;
    let mut list = TextList::default();
    let room = list
        .bytes
        .try_reserve_exact(to_usize(total, "the texts of a list")?)
        .and_then(|()| list.ends.try_reserve_exact(usize::try_from(count).unwrap_or(usize::MAX)));
    room.map_err(|_| cursor.locate(Error::limit("no memory for the texts of a list")))?;
    for _ in 0..count {
        let length = cursor.u64("the length of a text")?;
        let text = cursor.bytes(length, u64::MAX, "a text")?;
        list.bytes.extend_from_slice(&text);
        list.ends.push(list.bytes.len());
    }
    Ok(list)
}

/// Reads `count` lists, which must all be lists of the same type.
fn lists(
    cursor: &mut Bounded,
    count: u64,
    depth: usize,
    nested: &mut usize,
) -> Result<Vec<GgufList>> {
    if depth >= MAX_DEPTH {
        return Err(cursor.locate(Error::limit(format!("lists nested deeper than {MAX_DEPTH}"))));
    }
    enough(cursor, count, 12, "lists")?;
    let all = nested.saturating_add(usize::try_from(count).unwrap_or(usize::MAX));
    if all > MAX_NESTED {
        let e = Error::limit(format!("more than {MAX_NESTED} lists inside lists"));
        return Err(cursor.locate(e));
    }
    *nested = all;
    let mut out: Vec<GgufList> = Vec::new();
    for _ in 0..count {
        let at = cursor.position();
        let inner = list(cursor, depth.saturating_add(1), nested)?;
        if out.first().is_some_and(|first| first.type_id() != inner.type_id()) {
            let e = Error::malformed("a list of lists of different types").at_byte(at);
            return Err(cursor.locate(e));
        }
        out.push(inner);
    }
    Ok(out)
}

/// Checks that so many things of `least` bytes or more can follow.
pub(super) fn enough(cursor: &Bounded, count: u64, least: u64, what: &str) -> Result<()> {
    if count.checked_mul(least).is_none_or(|bytes| bytes > cursor.remaining()) {
        let e = Error::truncated(format!(
            "{count} {what} are declared and {} bytes remain",
            cursor.remaining()
        ));
        return Err(cursor.locate(e));
    }
    Ok(())
}

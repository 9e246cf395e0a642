//! The one error type of this crate.
//!
//! A file is written by somebody else, so an error must say precisely what is wrong with it: a
//! [`kind`](Error::kind) to branch on, the file, the place in it (a byte offset or a JSON path) and
//! a sentence. The text never exceeds 1 KiB and carries no control characters, whatever the file
//! contained: an error may be printed to a terminal or a log as it is.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::sync::Arc;

/// What went wrong, in one word. More kinds may come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The operating system refused to open, read or write.
    Io,
    /// There is no such file, folder, repository or revision.
    NotFound,
    /// The file ends before what it declares.
    Truncated,
    /// The file breaks the rules of its format.
    Malformed,
    /// The file declares more than any sound file of its kind does.
    Limit,
    /// The file is sound, but uses something that this crate does not read.
    Unsupported,
    /// A checksum, hash or size does not match the data.
    Corrupt,
    /// The file was changed after it was opened.
    Changed,
    /// A name leads outside its folder, or to something that is not a regular file.
    Outside,
    /// Something that the folder promises is absent: a shard, a tensor, a key.
    Missing,
    /// The destination of a save exists already.
    Exists,
    /// The network failed, or the server answered nonsense.
    Network,
    /// The server wants a token, or refuses the one it got.
    Denied,
    /// The network would be needed and is switched off.
    Offline,
    /// An argument of the caller is not valid.
    Argument,
    /// Evaluating an array failed.
    Array,
}

/// Where in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Nowhere,
    Byte(u64),
    /// Segments from the innermost to the outermost, as they are collected on the way up.
    Json(Vec<Segment>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    Key(String),
    Index(usize),
}

struct Inner {
    kind: ErrorKind,
    file: String,
    place: Place,
    message: String,
    source: Option<Arc<dyn StdError + Send + Sync>>,
}

/// A typed error: kind, file, place and message, at most 1 KiB and safe to print.
///
/// ```
/// use lazul_io::{ErrorKind, SafeTensors};
/// let error = SafeTensors::from_bytes(vec![1, 2, 3]).err().unwrap();
/// assert_eq!(error.kind(), ErrorKind::Truncated);
/// ```
#[derive(Clone)]
pub struct Error(Arc<Inner>);

/// The result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Longest message kept; with file and place the whole text stays under 1 KiB.
const MAX_MESSAGE: usize = 480;
const MAX_FILE: usize = 280;
const MAX_PLACE: usize = 160;

impl Error {
    /// Makes an error with a message and no file or place. Of a long message the start is kept, 480
    /// bytes; control characters are escaped.
    ///
    /// ```
    /// use lazul_io::{Error, ErrorKind};
    /// let error = Error::new(ErrorKind::Argument, "no such\x1b[2J layer");
    /// assert_eq!(error.to_string(), "no such\\u{1b}[2J layer");
    /// ```
    pub fn new(kind: ErrorKind, message: impl AsRef<str>) -> Self {
        Error(Arc::new(Inner {
            kind,
            file: String::new(),
            place: Place::Nowhere,
            message: printable(message.as_ref(), MAX_MESSAGE),
            source: None,
        }))
    }

    pub(crate) fn malformed(message: impl AsRef<str>) -> Self {
        Error::new(ErrorKind::Malformed, message)
    }

    pub(crate) fn limit(message: impl AsRef<str>) -> Self {
        Error::new(ErrorKind::Limit, message)
    }

    pub(crate) fn truncated(message: impl AsRef<str>) -> Self {
        Error::new(ErrorKind::Truncated, message)
    }

    pub(crate) fn unsupported(message: impl AsRef<str>) -> Self {
        Error::new(ErrorKind::Unsupported, message)
    }

    /// Wraps an operating-system error, keeping a typed error that a source had hidden inside.
    pub(crate) fn from_io(error: io::Error, doing: &str) -> Self {
        if let Some(typed) = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
            return typed.clone();
        }
        let kind = match error.kind() {
            io::ErrorKind::NotFound => ErrorKind::NotFound,
            io::ErrorKind::UnexpectedEof => ErrorKind::Truncated,
            io::ErrorKind::AlreadyExists => ErrorKind::Exists,
            _ => ErrorKind::Io,
        };
        Error::new(kind, format!("{doing}: {error}")).caused_by(Arc::new(error))
    }

    /// Wraps an error of the array library.
    pub(crate) fn from_array(error: lazul_core::Error, doing: &str) -> Self {
        Error::new(ErrorKind::Array, format!("{doing}: {error}")).caused_by(Arc::new(error))
    }

    fn edit(self, change: impl FnOnce(&mut Inner)) -> Self {
        let inner = &self.0;
        let mut copy = Inner {
            kind: inner.kind,
            file: inner.file.clone(),
            place: inner.place.clone(),
            message: inner.message.clone(),
            source: inner.source.clone(),
        };
        change(&mut copy);
        Error(Arc::new(copy))
    }

    fn caused_by(self, source: Arc<dyn StdError + Send + Sync>) -> Self {
        self.edit(|inner| inner.source = Some(source))
    }

    /// Names the file, unless something nearer to it has named it already.
    pub(crate) fn in_file(self, file: impl fmt::Display) -> Self {
        if !self.0.file.is_empty() {
            return self;
        }
        let file = printable_tail(&file.to_string(), MAX_FILE);
        self.edit(|inner| inner.file = file)
    }

    /// Names the byte, unless the error already has a place.
    pub(crate) fn at_byte(self, offset: u64) -> Self {
        if self.0.place != Place::Nowhere {
            return self;
        }
        self.edit(|inner| inner.place = Place::Byte(offset))
    }

    /// Adds an object key to the front of the JSON path.
    pub(crate) fn under_key(self, key: &str) -> Self {
        let key = printable(key, MAX_PLACE);
        self.edit(|inner| inner.push(Segment::Key(key)))
    }

    /// Adds an array index to the front of the JSON path.
    pub(crate) fn under_index(self, index: usize) -> Self {
        self.edit(|inner| inner.push(Segment::Index(index)))
    }

    /// What went wrong, to branch on.
    ///
    /// ```
    /// use lazul_io::{ErrorKind, load_npy};
    /// let error = load_npy("no/such/file.npy").unwrap_err();
    /// assert_eq!(error.kind(), ErrorKind::NotFound);
    /// ```
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The file, URL or source that the error is about; empty when there is none. Of a long path
    /// the end is kept.
    ///
    /// ```
    /// let error = lazul_io::load_npy("no/such/file.npy").unwrap_err();
    /// assert_eq!(error.file(), "no/such/file.npy");
    /// ```
    pub fn file(&self) -> &str {
        &self.0.file
    }

    /// The byte offset in the file, from 0, where one is known. An error has this or a
    /// [`json_path`](Self::json_path), or neither.
    ///
    /// ```
    /// let error = lazul_io::Npy::from_bytes(b"\x93NUMPY\x09\x00".to_vec()).unwrap_err();
    /// assert_eq!(error.byte(), Some(6)); // an unknown version
    /// assert!(error.to_string().ends_with("(at byte 6)"));
    /// ```
    pub fn byte(&self) -> Option<u64> {
        match self.0.place {
            Place::Byte(offset) => Some(offset),
            _ => None,
        }
    }

    /// The JSON path in the file (`weight_map.a`, `shape[2]`), where one is known; at most 160
    /// bytes.
    ///
    /// ```
    /// let error = lazul_io::json::parse(br#"{"layers": [{"n": 1, "n": 2}]}"#).unwrap_err();
    /// assert_eq!(error.json_path().as_deref(), Some("layers[0].n"));
    /// ```
    pub fn json_path(&self) -> Option<String> {
        match &self.0.place {
            Place::Json(segments) => Some(render(segments)),
            _ => None,
        }
    }

    /// The sentence alone, without file and place. `to_string` gives all three.
    ///
    /// ```
    /// let error = lazul_io::Error::new(lazul_io::ErrorKind::Missing, "there is no tensor \"w\"");
    /// assert_eq!(error.message(), "there is no tensor \"w\"");
    /// ```
    pub fn message(&self) -> &str {
        &self.0.message
    }
}

impl Inner {
    fn push(&mut self, segment: Segment) {
        match &mut self.place {
            Place::Json(segments) => segments.push(segment),
            place => *place = Place::Json(vec![segment]),
        }
    }
}

fn render(segments: &[Segment]) -> String {
    let mut path = String::new();
    for segment in segments.iter().rev() {
        match segment {
            Segment::Key(key) if path.is_empty() => path.push_str(key),
            Segment::Key(key) => {
                path.push('.');
                path.push_str(key);
            }
            Segment::Index(index) => path.push_str(&format!("[{index}]")),
        }
    }
    printable(&path, MAX_PLACE)
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.0.file.is_empty() {
            write!(f, "{}: ", self.0.file)?;
        }
        f.write_str(&self.0.message)?;
        match &self.0.place {
            Place::Nowhere => Ok(()),
            Place::Byte(offset) => write!(f, " (at byte {offset})"),
            Place::Json(segments) => write!(f, " (at {})", render(segments)),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}({self})", self.0.kind)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match &self.0.source {
            Some(source) => Some(&**source),
            None => None,
        }
    }
}

/// A source's failure travels through the evaluator as an `io::Error`.
impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        let kind = match error.kind() {
            ErrorKind::Truncated => io::ErrorKind::UnexpectedEof,
            ErrorKind::NotFound => io::ErrorKind::NotFound,
            _ => io::ErrorKind::InvalidData,
        };
        io::Error::new(kind, error)
    }
}

/// Characters that move the cursor, hide text or reorder it on a terminal.
fn is_unprintable(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

fn escape(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_unprintable) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match is_unprintable(c) {
            true => out.extend(c.escape_default()),
            false => out.push(c),
        }
    }
    Cow::Owned(out)
}

/// The start of `text`, escaped, at most `limit` bytes.
pub(crate) fn printable(text: &str, limit: usize) -> String {
    // Cut before escaping too: a hostile megabyte need not be escaped to be thrown away.
    let head = cut(text, limit);
    let escaped = escape(head);
    let kept = cut(&escaped, limit);
    let mut out = kept.to_owned();
    if head.len() < text.len() || kept.len() < escaped.len() {
        while out.len().saturating_add(3) > limit {
            out.pop();
        }
        out.push('…');
    }
    out
}

/// The end of `text`, escaped: of a long path the last part says most.
fn printable_tail(text: &str, limit: usize) -> String {
    let escaped = escape(text);
    if escaped.len() <= limit {
        return escaped.into_owned();
    }
    let mut start = escaped.len().saturating_sub(limit.saturating_sub(3));
    while !escaped.is_char_boundary(start) {
        start = start.saturating_add(1);
    }
    format!("…{}", escaped.get(start..).unwrap_or_default())
}

fn cut(text: &str, limit: usize) -> &str {
    if text.len() <= limit {
        return text;
    }
    let mut end = limit;
    while !text.is_char_boundary(end) {
        end = end.saturating_sub(1);
    }
    text.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_short_and_printable() {
        let hostile = "\u{1b}[2J\r\nfake log line \u{202e}".repeat(10_000);
        let error = Error::malformed(&hostile).in_file(&hostile).under_key(&hostile).under_index(3);
        let text = error.to_string();
        assert!(text.len() <= 1024, "{} bytes", text.len());
        assert!(!text.chars().any(is_unprintable));
    }

    #[test]
    fn path_reads_from_the_outside_in() {
        let error = Error::malformed("no").under_index(2).under_key("shape").under_key("a");
        assert_eq!(error.json_path().as_deref(), Some("a.shape[2]"));
        assert_eq!(error.to_string(), "no (at a.shape[2])");
    }

    #[test]
    fn the_first_file_and_byte_win() {
        let error = Error::truncated("short").at_byte(3).in_file("a").at_byte(9).in_file("b");
        assert_eq!((error.file(), error.byte()), ("a", Some(3)));
    }

    #[test]
    fn a_typed_error_survives_the_trip_through_io() {
        let inner = Error::new(ErrorKind::Changed, "changed").in_file("w");
        let back = Error::from_io(io::Error::from(inner), "reading");
        assert_eq!(back.kind(), ErrorKind::Changed);
    }
}

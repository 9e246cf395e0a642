//! Streaming detokenization: token ids in, final text out.
//!
//! [`Detokenizer::push`] returns the text that the new token settles and nothing more: a character
//! whose bytes are still arriving is held back, and so is a space that may yet fall off the end.
//! Joined together, the pieces are exactly what [`Tokenizer::decode`](super::Tokenizer::decode)
//! gives for the whole list, because decoding *is* streaming. Work and memory per token do not grow
//! with the length of the text.

use std::sync::Arc;

use super::decoder::{Bytes, Step};
use super::vocab::Vocab;

/// Turns a stream of token ids into a stream of text.
///
/// ```
/// use lazul_lm::text::{HfTokenizer, Tokenizer};
///
/// let json = r#"{"model": {"type": "BPE", "vocab": {"Ã": 0, "©": 1, "a": 2}, "merges": []},
///                "decoder": {"type": "ByteLevel"}}"#;
/// let tokenizer = HfTokenizer::from_json(json.as_bytes(), None)?;
/// let mut stream = tokenizer.detokenizer(true);
/// assert_eq!(stream.push(2), "a");
/// assert_eq!(stream.push(0), ""); // the first half of an é
/// assert_eq!(stream.push(1), "é");
/// assert_eq!(stream.finish(), "");
/// # Ok::<(), lazul_lm::text::TextError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Detokenizer {
    vocab: Arc<Vocab>,
    skip_special: bool,
    /// Whether no token was pushed yet (special tokens that are skipped do not count).
    first: bool,
    /// How many characters may still fall off the start of the text.
    to_trim: usize,
    /// The start of a character whose rest has not come.
    partial: [u8; 4],
    partial_len: usize,
    /// Text that falls away if nothing follows it.
    held: String,
    out: String,
    scratch: String,
}

impl Detokenizer {
    pub(super) fn new(vocab: Arc<Vocab>, skip_special: bool) -> Self {
        let to_trim = vocab.decoder.trim_start.map_or(0, |(_, n)| n);
        Detokenizer {
            vocab,
            skip_special,
            first: true,
            to_trim,
            partial: [0; 4],
            partial_len: 0,
            held: String::new(),
            out: String::new(),
            scratch: String::new(),
        }
    }

    /// Starts over, for another text with the same tokenizer.
    pub fn reset(&mut self) {
        *self = Detokenizer::new(Arc::clone(&self.vocab), self.skip_special);
    }

    /// Adds a token and returns the text that is now final.
    ///
    /// An id that the vocabulary does not have adds nothing: models often have more rows in their
    /// embedding than tokens.
    pub fn push(&mut self, id: u32) -> &str {
        self.out.clear();
        self.feed(id);
        &self.out
    }

    /// Ends the text: what was held back comes out, an unfinished character as U+FFFD.
    pub fn finish(&mut self) -> String {
        self.out.clear();
        self.flush_partial();
        let mut text = std::mem::take(&mut self.out);
        // Held text is what ends the stream, and it is held because it falls away there.
        self.held.clear();
        self.reset();
        text.shrink_to_fit();
        text
    }

    /// Decodes a whole list.
    pub(super) fn decode(mut self, ids: &[u32]) -> String {
        self.out.reserve(ids.len() * 4);
        for &id in ids {
            self.feed(id);
        }
        self.flush_partial();
        self.out
    }

    fn feed(&mut self, id: u32) {
        let vocab = Arc::clone(&self.vocab);
        let Some(token) = vocab.token(id) else { return };
        let added = vocab.is_added(id);
        if self.skip_special && vocab.is_special(id) {
            return;
        }
        let first = std::mem::replace(&mut self.first, false);
        let decoder = &vocab.decoder;
        if decoder.join && !first {
            self.emit(" ");
        }

        let mut text = std::mem::take(&mut self.scratch);
        text.clear();
        text.push_str(token);
        for step in &decoder.steps {
            apply(step, &mut text, first);
        }
        let mut tail = false;
        if let Some(suffix) = &decoder.suffix {
            // The suffix is a space unless this token ends the text, which is not known yet.
            tail = text.ends_with(suffix.as_str());
            if tail {
                text.truncate(text.len() - suffix.len());
            }
            if text.contains(suffix.as_str()) {
                text = text.replace(suffix.as_str(), " ");
            }
        }

        match decoder.bytes {
            // A token that was added as text is that text, whatever table the model's own use.
            Bytes::ByteLevel if !added => match byte_level(&text) {
                Some(bytes) => self.bytes(&bytes),
                None => self.bytes(text.as_bytes()),
            },
            Bytes::ByteLevel => self.bytes(text.as_bytes()),
            Bytes::Fallback => match fallback_byte(&text) {
                Some(byte) => self.bytes(&[byte]),
                None => {
                    self.flush_partial();
                    self.emit(&text);
                }
            },
            Bytes::Plain => self.emit(&text),
        }
        if tail {
            self.held.push(' ');
        }
        self.scratch = text;
    }

    /// Adds bytes, which need not end where a character ends.
    fn bytes(&mut self, new: &[u8]) {
        let mut joined;
        let mut rest: &[u8] = new;
        if self.partial_len > 0 {
            joined = Vec::with_capacity(self.partial_len + new.len());
            joined.extend_from_slice(&self.partial[..self.partial_len]);
            joined.extend_from_slice(new);
            self.partial_len = 0;
            rest = &joined;
        }
        loop {
            match std::str::from_utf8(rest) {
                Ok(text) => {
                    self.emit(text);
                    return;
                }
                Err(error) => {
                    let (good, bad) = rest.split_at(error.valid_up_to());
                    // The first part is valid: that is what `valid_up_to` says.
                    self.emit(std::str::from_utf8(good).unwrap_or_default());
                    match error.error_len() {
                        Some(len) => {
                            self.replacement(len);
                            rest = &bad[len..];
                        }
                        None => {
                            self.partial[..bad.len()].copy_from_slice(bad);
                            self.partial_len = bad.len();
                            return;
                        }
                    }
                }
            }
        }
    }

    fn flush_partial(&mut self) {
        if self.partial_len > 0 {
            let len = std::mem::take(&mut self.partial_len);
            self.replacement(len);
        }
    }

    /// U+FFFD for invalid bytes: one a byte where bytes are tokens (as SentencePiece does), one a
    /// broken character elsewhere (as every UTF-8 decoder does).
    fn replacement(&mut self, bytes: usize) {
        let n = if self.vocab.decoder.bytes == Bytes::Fallback { bytes } else { 1 };
        for _ in 0..n {
            self.emit("\u{fffd}");
        }
    }

    /// Puts out text, less what the ends of the text lose.
    fn emit(&mut self, mut text: &str) {
        if self.to_trim > 0 && !text.is_empty() {
            let (what, _) = self.vocab.decoder.trim_start.unwrap_or((' ', 0));
            while self.to_trim > 0 {
                match text.strip_prefix(what) {
                    Some(rest) => {
                        text = rest;
                        self.to_trim -= 1;
                        if text.is_empty() {
                            return;
                        }
                    }
                    None => self.to_trim = 0,
                }
            }
        }
        if text.is_empty() {
            return;
        }
        match self.vocab.decoder.trim_stop {
            None => {
                self.out.push_str(&self.held);
                self.held.clear();
                self.out.push_str(text);
            }
            Some((what, most)) => {
                let kept = text.trim_end_matches(what);
                if !kept.is_empty() {
                    self.out.push_str(&self.held);
                    self.held.clear();
                    self.out.push_str(kept);
                }
                self.held.push_str(&text[kept.len()..]);
                // Only so many fall off the end, so those before them are final.
                while self.held.chars().count() > most {
                    let c = self.held.remove(0);
                    self.out.push(c);
                }
            }
        }
    }
}

/// Applies one step to a token's string.
fn apply(step: &Step, text: &mut String, first: bool) {
    match step {
        Step::Replace { from, to } => {
            if text.contains(from.as_str()) {
                *text = text.replace(from.as_str(), to);
            }
        }
        Step::Strip { what, start, stop } => {
            for _ in 0..*start {
                match text.strip_prefix(*what) {
                    Some(rest) => *text = rest.to_owned(),
                    None => break,
                }
            }
            for _ in 0..*stop {
                match text.strip_suffix(*what) {
                    Some(rest) => text.truncate(rest.len()),
                    None => break,
                }
            }
        }
        Step::Metaspace { mark, trim_first } => {
            if text.contains(*mark) {
                let to = if first && *trim_first { "" } else { " " };
                *text = text.replace(*mark, to);
            }
        }
        Step::WordPiece { prefix, cleanup } => {
            if !first {
                match text.strip_prefix(prefix.as_str()) {
                    Some(rest) if !prefix.is_empty() => *text = rest.to_owned(),
                    _ => text.insert(0, ' '),
                }
            }
            if *cleanup {
                for (from, to) in CLEANUP {
                    if text.contains(from) {
                        *text = text.replace(from, to);
                    }
                }
            }
        }
    }
}

/// The tidying of BERT's decoder, in its order.
const CLEANUP: [(&str, &str); 11] = [
    (" .", "."),
    (" ?", "?"),
    (" !", "!"),
    (" ,", ","),
    (" ' ", "'"),
    (" n't", "n't"),
    (" 'm", "'m"),
    (" do not", " don't"),
    (" 's", "'s"),
    (" 've", "'ve"),
    (" 're", "'re"),
];

/// The byte of a `<0xNN>` token.
pub(super) fn fallback_byte(token: &str) -> Option<u8> {
    let hex = token.strip_prefix("<0x")?.strip_suffix('>')?;
    if hex.len() != 2 || !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    u8::from_str_radix(hex, 16).ok()
}

/// The bytes that a byte-level token string stands for.
fn byte_level(text: &str) -> Option<Vec<u8>> {
    text.chars().map(char_to_byte).collect()
}

/// GPT-2's table: printable Latin-1 characters stand for themselves, the other 68 bytes for the
/// characters from U+0100 on, in order.
pub(super) fn byte_to_char(byte: u8) -> char {
    let code = match byte {
        b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff => u32::from(byte),
        0..=0x20 => 0x100 + u32::from(byte),
        0x7f..=0xa0 => 0x121 + u32::from(byte - 0x7f),
        0xad => 0x143,
    };
    // Every value above is below the surrogates.
    char::from_u32(code).unwrap_or('\u{fffd}')
}

/// The byte that a character of GPT-2's table stands for.
pub(super) fn char_to_byte(c: char) -> Option<u8> {
    match u32::from(c) {
        code @ (0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff) => Some(code as u8),
        code @ 0x100..=0x120 => Some((code - 0x100) as u8),
        code @ 0x121..=0x142 => Some((code - 0x121 + 0x7f) as u8),
        0x143 => Some(0xad),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_byte_table_is_a_bijection() {
        for byte in 0..=255 {
            assert_eq!(char_to_byte(byte_to_char(byte)), Some(byte));
        }
        assert_eq!(byte_to_char(b' '), 'Ġ');
        assert_eq!(byte_to_char(b'\n'), 'Ċ');
        assert_eq!(byte_to_char(0xad), 'Ń');
        assert_eq!(char_to_byte('▁'), None);
    }

    #[test]
    fn fallback_bytes_are_two_hex_digits() {
        assert_eq!(fallback_byte("<0x0A>"), Some(10));
        assert_eq!(fallback_byte("<0xff>"), Some(255));
        for bad in ["<0x>", "<0x0>", "<0x0AB>", "<0x+1>", "0x0A", "<0xg0>", "<0x€>"] {
            assert_eq!(fallback_byte(bad), None, "{bad}");
        }
    }
}

//! Text normalization as tokenizer files describe it.
//!
//! Works on plain strings, without the alignment to the original text that the `tokenizers` crate
//! carries (and pays for, with 16 bytes a byte): nothing here needs offsets. Each step states how much
//! longer it may make the text before it runs, and the sum is capped, so a file cannot make one
//! request fill the memory.

use serde_json::Value;
use unicode_normalization_alignments::UnicodeNormalization;
use unicode_normalization_alignments::char::is_combining_mark;
use unicode_segmentation::UnicodeSegmentation;

use super::decoder::{Block, flatten};
use super::detokenizer::byte_to_char;
use super::error::{Result, TextError, limit};
use super::model::bert_normalize;
use super::pattern::Pattern;
use super::spec::FILE;

/// A chain of normalization steps.
#[derive(Debug, Default)]
pub(super) struct Normalizer {
    steps: Vec<Step>,
}

#[derive(Debug)]
enum Step {
    Nfc,
    Nfd,
    Nfkc,
    Nfkd,
    Nmt,
    Lowercase,
    StripAccents,
    ByteLevel,
    Strip {
        left: bool,
        right: bool,
    },
    Prepend(String),
    Replace {
        from: String,
        to: String,
    },
    ReplaceRegex {
        from: Pattern,
        to: String,
    },
    Charsmap(Charsmap),
    Bert {
        clean: bool,
        chinese: bool,
        accents: Option<bool>,
        lowercase: bool,
    },
    /// SentencePiece's `remove_extra_whitespaces`.
    CollapseSpaces,
}

impl Normalizer {
    /// Reads the `normalizer` block.
    pub(super) fn from_json(value: &Value) -> Result<Self> {
        if value.is_null() {
            return Ok(Normalizer::default());
        }
        let mut blocks = Vec::new();
        flatten(value, "normalizers", &mut blocks)?;
        let steps = blocks.iter().map(|block| Step::from_json(&Block { value: block }));
        Ok(Normalizer { steps: steps.collect::<Result<_>>()? })
    }

    /// The normalizer of a SentencePiece model.
    pub(super) fn sentencepiece(
        charsmap: Option<Charsmap>,
        collapse: bool,
        prepend: bool,
        escape: bool,
    ) -> Self {
        let mut steps: Vec<Step> = charsmap.map(Step::Charsmap).into_iter().collect();
        if collapse {
            steps.push(Step::CollapseSpaces);
        }
        if prepend {
            steps.push(Step::Prepend(if escape { "▁" } else { " " }.into()));
        }
        if escape {
            steps.push(Step::Replace { from: " ".into(), to: "▁".into() });
        }
        Normalizer { steps }
    }

    /// The normalized text.
    pub(super) fn apply(&self, text: &str) -> Result<String> {
        // NFKC can grow a text elevenfold by itself (U+FDFA).
        let most = text.len().saturating_mul(16).saturating_add(1 << 20);
        let mut text = text.to_owned();
        for step in &self.steps {
            text = step.apply(text, most)?;
            limit("a normalized text", text.len(), most)?;
        }
        Ok(text)
    }
}

impl Step {
    fn from_json(block: &Block<'_>) -> Result<Self> {
        Ok(match block.kind()? {
            "NFC" => Step::Nfc,
            "NFD" => Step::Nfd,
            "NFKC" => Step::Nfkc,
            "NFKD" => Step::Nfkd,
            "Nmt" => Step::Nmt,
            "Lowercase" => Step::Lowercase,
            "StripAccents" => Step::StripAccents,
            "ByteLevel" => Step::ByteLevel,
            "Strip" => Step::Strip {
                left: block.flag("strip_left", true)?,
                right: block.flag("strip_right", true)?,
            },
            "Prepend" => Step::Prepend(block.text("prepend", 64)?.into()),
            "Replace" => {
                let to = block.text("content", 256)?.to_owned();
                let pattern = block.field("pattern")?;
                if let Some(from) = pattern.get("String").and_then(Value::as_str) {
                    if from.is_empty() {
                        return Err(block.wrong("the pattern is empty"));
                    }
                    limit("a pattern to replace", from.len(), 1024)?;
                    Step::Replace { from: from.into(), to }
                } else if let Some(from) = pattern.get("Regex").and_then(Value::as_str) {
                    Step::ReplaceRegex { from: Pattern::new(from)?, to }
                } else {
                    return Err(block.wrong("pattern must be a String or a Regex"));
                }
            }
            "Precompiled" => {
                let text = block.text("precompiled_charsmap", 8 << 20)?;
                let bytes = base64(text).ok_or_else(|| block.wrong("not base64"))?;
                Step::Charsmap(Charsmap::new(&bytes, false)?)
            }
            "BertNormalizer" | "Bert" => Step::Bert {
                clean: block.flag("clean_text", true)?,
                chinese: block.flag("handle_chinese_chars", true)?,
                accents: block.value.get("strip_accents").and_then(Value::as_bool),
                lowercase: block.flag("lowercase", true)?,
            },
            other => {
                return Err(TextError::unsupported(FILE, format_args!("normalizer {other:?}")));
            }
        })
    }

    fn apply(&self, text: String, most: usize) -> Result<String> {
        Ok(match self {
            Step::Nfc => {
                if text.is_ascii() {
                    return Ok(text);
                }
                text.nfc().map(|(c, _)| c).collect()
            }
            Step::Nfd => text.nfd().map(|(c, _)| c).collect(),
            Step::Nfkc => text.nfkc().map(|(c, _)| c).collect(),
            Step::Nfkd => text.nfkd().map(|(c, _)| c).collect(),
            Step::Nmt => text.chars().filter_map(nmt).collect(),
            Step::Lowercase => text.chars().flat_map(char::to_lowercase).collect(),
            Step::StripAccents => text.chars().filter(|&c| !is_combining_mark(c)).collect(),
            Step::ByteLevel => text.bytes().map(byte_to_char).collect(),
            Step::Strip { left, right } => {
                let mut kept = text.as_str();
                if *left {
                    kept = kept.trim_start();
                }
                if *right {
                    kept = kept.trim_end();
                }
                kept.to_owned()
            }
            Step::Prepend(prefix) => {
                if text.is_empty() {
                    return Ok(text);
                }
                let mut out = String::with_capacity(prefix.len() + text.len());
                out.push_str(prefix);
                out.push_str(&text);
                out
            }
            Step::Replace { from, to } => {
                let count = text.matches(from.as_str()).count();
                let grown = text.len() + count.saturating_mul(to.len().saturating_sub(from.len()));
                limit("a normalized text", grown, most)?;
                text.replace(from.as_str(), to)
            }
            Step::ReplaceRegex { from, to } => {
                let matches = from.matches(&text)?;
                let grown = text.len() + matches.len().saturating_mul(to.len());
                limit("a normalized text", grown, most)?;
                let mut out = String::with_capacity(grown);
                let mut done = 0;
                for found in matches {
                    out.push_str(&text[done..found.start]);
                    out.push_str(to);
                    done = found.end;
                }
                out.push_str(&text[done..]);
                out
            }
            Step::Charsmap(map) => map.apply(&text, most)?,
            Step::Bert { clean, chinese, accents, lowercase } => {
                bert_normalize(&text, *clean, *chinese, *accents, *lowercase)?
            }
            Step::CollapseSpaces => {
                let mut out = String::with_capacity(text.len());
                for word in text.split(' ').filter(|word| !word.is_empty()) {
                    if !out.is_empty() {
                        out.push(' ');
                    }
                    out.push_str(word);
                }
                out
            }
        })
    }
}

/// The clean-up of Google's NMT pipelines.
fn nmt(c: char) -> Option<char> {
    match u32::from(c) {
        0x0001..=0x0008 | 0x000b | 0x000e..=0x001f | 0x007f | 0x008f | 0x009f => None,
        0x0009
        | 0x000a
        | 0x000c
        | 0x000d
        | 0x1680
        | 0x200b..=0x200f
        | 0x2028
        | 0x2029
        | 0x2581
        | 0xfeff
        | 0xfffd => Some(' '),
        _ => Some(c),
    }
}

/// SentencePiece's compiled rewrite rules: a double-array trie whose values point into a blob of
/// NUL-terminated replacements.
#[derive(Debug)]
pub(super) struct Charsmap {
    trie: Vec<u32>,
    blob: String,
    /// SentencePiece rewrites the longest rule at each place. The `tokenizers` crate applies the
    /// shortest rule of each grapheme instead, and models converted to it were trained so.
    longest: bool,
}

impl Charsmap {
    pub(super) fn new(bytes: &[u8], longest: bool) -> Result<Self> {
        let wrong = |reason: &str| TextError::malformed(FILE, "precompiled_charsmap", reason);
        let (head, rest) =
            bytes.split_first_chunk::<4>().ok_or_else(|| wrong("too short for its header"))?;
        let size = u32::from_le_bytes(*head) as usize;
        if size == 0 || !size.is_multiple_of(4) || size > rest.len() {
            return Err(wrong("the trie does not fit the data"));
        }
        let (trie, blob) = rest.split_at(size);
        let trie = trie
            .chunks_exact(4)
            .map(|unit| u32::from_le_bytes([unit[0], unit[1], unit[2], unit[3]]))
            .collect();
        let blob = String::from_utf8(blob.to_vec()).map_err(|_| wrong("not UTF-8"))?;
        // A rule is a replacement for some characters; one that is a novel is an attack.
        if blob.split('\0').any(|rule| rule.len() > 256) {
            return Err(wrong("a replacement is too long"));
        }
        Ok(Charsmap { trie, blob, longest })
    }

    /// The replacement of a prefix of `key`, and how long that prefix is.
    fn find(&self, key: &[u8]) -> Option<(usize, &str)> {
        let offset = |unit: u32| ((unit >> 10) << ((unit & (1 << 9)) >> 6)) as usize;
        let mut at = offset(*self.trie.first()?);
        let mut found = None;
        for (i, &byte) in key.iter().enumerate() {
            if byte == 0 {
                break;
            }
            at ^= byte as usize;
            let Some(&unit) = self.trie.get(at) else { break };
            if unit & (1 << 31 | 0xff) != u32::from(byte) {
                break;
            }
            at ^= offset(unit);
            if (unit >> 8) & 1 == 1 {
                let Some(&leaf) = self.trie.get(at) else { break };
                found = Some((i + 1, (leaf & 0x7fff_ffff) as usize));
                if !self.longest {
                    break;
                }
            }
        }
        let (len, start) = found?;
        let rest = self.blob.get(start..)?;
        Some((len, &rest[..rest.find('\0').unwrap_or(rest.len())]))
    }

    fn apply(&self, text: &str, most: usize) -> Result<String> {
        let mut out = String::with_capacity(text.len());
        if self.longest {
            let mut rest = text;
            while let Some(c) = rest.chars().next() {
                match self.find(rest.as_bytes()) {
                    Some((len, to)) if rest.is_char_boundary(len) => {
                        out.push_str(to);
                        rest = &rest[len..];
                    }
                    _ => {
                        out.push(c);
                        rest = &rest[c.len_utf8()..];
                    }
                }
                limit("a normalized text", out.len(), most)?;
            }
            return Ok(out);
        }
        for grapheme in text.graphemes(true) {
            if grapheme.len() < 6
                && let Some((_, to)) = self.find(grapheme.as_bytes())
            {
                out.push_str(to);
            } else {
                for (i, c) in grapheme.char_indices() {
                    match self.find(&grapheme.as_bytes()[i..i + c.len_utf8()]) {
                        Some((_, to)) => out.push_str(to),
                        None => out.push(c),
                    }
                }
            }
            limit("a normalized text", out.len(), most)?;
        }
        Ok(out)
    }
}

/// Standard base64, padded or not.
fn base64(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim_end_matches('=').as_bytes();
    if text.len() - digits.len() > 2 || digits.len() % 4 == 1 {
        return None;
    }
    let mut out = Vec::with_capacity(digits.len() / 4 * 3 + 3);
    let (mut bits, mut held) = (0u32, 0);
    for &digit in digits {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        held += 6;
        if held >= 8 {
            held -= 8;
            out.push((bits >> held) as u8);
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn apply(value: Value, text: &str) -> Result<String> {
        Normalizer::from_json(&value)?.apply(text)
    }

    #[test]
    fn steps_run_in_order() {
        let llama = json!({"type": "Sequence", "normalizers": [
            {"type": "Prepend", "prepend": "▁"},
            {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]});
        assert_eq!(apply(llama, "a  b").unwrap(), "▁a▁▁b");
        assert_eq!(apply(json!({"type": "NFC"}), "e\u{301}").unwrap(), "é");
        assert_eq!(apply(json!({"type": "NFKC"}), "ﬁ½").unwrap(), "fi1⁄2");
        assert_eq!(apply(json!({"type": "Lowercase"}), "ÀİB").unwrap(), "ài\u{307}b");
        let spaces = json!({"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "});
        assert_eq!(apply(spaces, "a   b c").unwrap(), "a b c");
        let bert = json!({"type": "BertNormalizer", "clean_text": true,
            "handle_chinese_chars": true, "strip_accents": null, "lowercase": true});
        assert_eq!(apply(bert, "Héllo\u{0}中").unwrap(), "hello 中 ");
    }

    #[test]
    fn growth_is_bounded() {
        let double = json!({"type": "Replace", "pattern": {"String": "a"}, "content": "aa"});
        let bomb = json!({"type": "Sequence", "normalizers": vec![double; 40]});
        assert!(matches!(apply(bomb, &"a".repeat(1 << 16)), Err(TextError::TooLarge { .. })));
        let far = json!({"type": "Sequence", "normalizers": vec![json!({"type": "NFC"}); 65]});
        assert!(matches!(apply(far, "a"), Err(TextError::TooLarge { .. })));
        let empty = json!({"type": "Replace", "pattern": {"String": ""}, "content": "a"});
        assert!(matches!(apply(empty, "a"), Err(TextError::Malformed { .. })));
        let grown = apply(json!({"type": "NFKC"}), &"\u{fdfa}".repeat(100_000)).unwrap();
        assert_eq!(grown.len(), 33 * 100_000);
    }

    #[test]
    fn base64_is_strict() {
        assert_eq!(base64("aGVsbG8=").unwrap(), b"hello");
        assert_eq!(base64("aGVsbG8").unwrap(), b"hello");
        assert_eq!(base64("").unwrap(), b"");
        for bad in ["a", "a===", "aGV$", "aGVs bG8="] {
            assert!(base64(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn a_broken_charsmap_is_an_error_or_harmless() {
        for bad in [&b""[..], b"\x04", b"\x08\0\0\0abcd", b"\0\0\0\0", b"\x04\0\0\0abcd\xff"] {
            assert!(Charsmap::new(bad, false).is_err());
        }
        // Every unit points everywhere: the walk is bounded by the key.
        for fill in [0u32, 1, 0xffff_ffff, 1 << 9 | 0x41, 0x141, 0x100] {
            let mut bytes = 1024u32.to_le_bytes().to_vec();
            bytes.extend(std::iter::repeat_n(fill.to_le_bytes(), 256).flatten());
            bytes.extend(b"x\0yz\0");
            for longest in [false, true] {
                let map = Charsmap::new(&bytes, longest).unwrap();
                let _ = map.apply("AAAA é 漢字", 1 << 20);
            }
        }
    }
}

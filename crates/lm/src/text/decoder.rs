//! How token strings become text again.
//!
//! A [`Decoder`] is the `decoder` block of a tokenizer.json in a form that works one token at a
//! time: steps that act on a token's own string, then one way of turning token strings into bytes,
//! then trims at the two ends of the text. Everything a published language model asks for fits this
//! shape, which is what lets [`Detokenizer`](super::Detokenizer) stream in constant time per token
//! and be the whole decoder at once: decoding a list is streaming it.

use serde_json::Value;

use super::error::{Result, TextError};
use super::spec::FILE;

/// How the strings of the vocabulary spell text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum DecoderKind {
    /// Each character stands for one byte, as in GPT-2, Llama 3 and Qwen.
    ByteLevel,
    /// SentencePiece: `▁` for a space, `<0xNN>` for a byte that has no piece.
    SentencePiece,
    /// WordPiece: words are joined by spaces, continuations carry a prefix.
    WordPiece,
    /// Words with an end-of-word suffix, as in CLIP.
    Suffix,
    /// Tokens are joined by spaces.
    Words,
}

/// A step that changes one token's string.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Step {
    Replace {
        from: String,
        to: String,
    },
    Strip {
        what: char,
        start: usize,
        stop: usize,
    },
    /// `▁` is a space, and nothing at the very start of the text.
    Metaspace {
        mark: char,
        trim_first: bool,
    },
    WordPiece {
        prefix: String,
        cleanup: bool,
    },
}

/// How token strings become bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bytes {
    /// The string's own bytes.
    Plain,
    /// One byte a character, by the GPT-2 table.
    ByteLevel,
    /// `<0xNN>` is a byte, everything else its own bytes.
    Fallback,
}

/// A decoder in streaming form.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Decoder {
    pub(super) kind: DecoderKind,
    pub(super) steps: Vec<Step>,
    pub(super) bytes: Bytes,
    /// Up to this many of these characters fall off the start of the text.
    pub(super) trim_start: Option<(char, usize)>,
    /// Up to this many of these characters fall off the end of the text.
    pub(super) trim_stop: Option<(char, usize)>,
    /// A suffix that is a space between tokens and nothing at the end of the text.
    pub(super) suffix: Option<String>,
    /// Whether tokens are joined by a space.
    pub(super) join: bool,
}

impl Decoder {
    fn new(kind: DecoderKind, bytes: Bytes) -> Self {
        Decoder {
            kind,
            steps: Vec::new(),
            bytes,
            trim_start: None,
            trim_stop: None,
            suffix: None,
            join: false,
        }
    }

    /// The decoder of a SentencePiece model; `trim` drops the space that encoding put in front.
    pub(super) fn sentencepiece(trim: bool) -> Self {
        Decoder {
            steps: vec![Step::Replace { from: "▁".into(), to: " ".into() }],
            trim_start: trim.then_some((' ', 1)),
            ..Decoder::new(DecoderKind::SentencePiece, Bytes::Fallback)
        }
    }

    /// Reads the `decoder` block.
    pub(super) fn from_json(value: &Value) -> Result<Self> {
        if value.is_null() {
            // What the reference does with no decoder: tokens with spaces between.
            return Ok(Decoder { join: true, ..Decoder::new(DecoderKind::Words, Bytes::Plain) });
        }
        let mut blocks = Vec::new();
        flatten(value, "decoders", &mut blocks)?;
        let mut decoder = Decoder::new(DecoderKind::SentencePiece, Bytes::Plain);
        let mut fused = false;
        for block in &blocks {
            let block = Block { value: block };
            match block.kind()? {
                "ByteLevel" => {
                    decoder.bytes = Bytes::ByteLevel;
                    decoder.kind = DecoderKind::ByteLevel;
                    fused = true;
                }
                "ByteFallback" => decoder.bytes = Bytes::Fallback,
                "Fuse" => fused = true,
                "Replace" => {
                    let pattern = block.field("pattern")?;
                    let from = pattern
                        .get("String")
                        .and_then(Value::as_str)
                        .ok_or_else(|| TextError::unsupported(FILE, "a regex in the decoder"))?;
                    let mut chars = from.chars();
                    let single = chars.next().is_some() && chars.next().is_none();
                    if from.is_empty() {
                        return Err(block.wrong("Replace needs a pattern"));
                    }
                    // One character cannot straddle tokens, so the order with Fuse is immaterial.
                    if fused && !single {
                        return Err(TextError::unsupported(FILE, "Replace after Fuse"));
                    }
                    let to = block.text("content", 256)?;
                    decoder.steps.push(Step::Replace { from: from.into(), to: to.into() });
                }
                "Strip" => {
                    let what = block.char("content")?;
                    let (start, stop) = (block.count("start")?, block.count("stop")?);
                    if fused {
                        decoder.trim_start = (start > 0).then_some((what, start));
                        decoder.trim_stop = (stop > 0).then_some((what, stop));
                    } else {
                        decoder.steps.push(Step::Strip { what, start, stop });
                    }
                }
                "Metaspace" => {
                    let never = block.value.get("add_prefix_space") == Some(&Value::Bool(false))
                        || block.value.get("prepend_scheme").and_then(Value::as_str)
                            == Some("never");
                    decoder.steps.push(Step::Metaspace {
                        mark: block.char("replacement")?,
                        trim_first: !never,
                    });
                }
                "WordPiece" => {
                    decoder.kind = DecoderKind::WordPiece;
                    let cleanup =
                        block.value.get("cleanup").and_then(Value::as_bool).unwrap_or(true);
                    let prefix = block.text("prefix", 64)?.to_owned();
                    decoder.steps.push(Step::WordPiece { prefix, cleanup });
                }
                "BPEDecoder" => {
                    decoder.kind = DecoderKind::Suffix;
                    let suffix = block.text("suffix", 64)?;
                    if !suffix.is_empty() {
                        decoder.suffix = Some(suffix.to_owned());
                    }
                }
                other => {
                    return Err(TextError::unsupported(FILE, format_args!("decoder {other:?}")));
                }
            }
        }
        Ok(decoder)
    }
}

/// The blocks of a component in order, with `Sequence`s opened.
pub(super) fn flatten<'a>(value: &'a Value, list: &str, out: &mut Vec<&'a Value>) -> Result<()> {
    const MOST: usize = 64;
    // serde_json refuses deep nesting, so this recursion is at most 128 frames.
    if value.get("type").and_then(Value::as_str) == Some("Sequence") {
        let blocks = value.get(list).and_then(Value::as_array).ok_or_else(|| {
            TextError::malformed(FILE, list, "a Sequence needs its list of steps")
        })?;
        for block in blocks {
            flatten(block, list, out)?;
        }
    } else {
        super::error::limit("the number of steps in a Sequence", out.len() + 1, MOST)?;
        out.push(value);
    }
    Ok(())
}

/// One block of a component: typed access to its fields.
pub(super) struct Block<'a> {
    pub(super) value: &'a Value,
}

impl<'a> Block<'a> {
    pub(super) fn wrong(&self, reason: impl std::fmt::Display) -> TextError {
        TextError::malformed(FILE, self.kind().unwrap_or("component"), reason)
    }

    pub(super) fn kind(&self) -> Result<&'a str> {
        self.value
            .get("type")
            .and_then(Value::as_str)
            .ok_or_else(|| TextError::malformed(FILE, "component", "a type is missing"))
    }

    pub(super) fn field(&self, name: &str) -> Result<&'a Value> {
        self.value.get(name).ok_or_else(|| self.wrong(format_args!("{name} is missing")))
    }

    pub(super) fn text(&self, name: &str, most: usize) -> Result<&'a str> {
        let text = self
            .field(name)?
            .as_str()
            .ok_or_else(|| self.wrong(format_args!("{name} must be a string")))?;
        super::error::limit("a string of a tokenizer component", text.len(), most)?;
        Ok(text)
    }

    pub(super) fn char(&self, name: &str) -> Result<char> {
        let text = self.text(name, 16)?;
        let mut chars = text.chars();
        match (chars.next(), chars.next()) {
            (Some(c), None) => Ok(c),
            _ => Err(self.wrong(format_args!("{name} must be one character"))),
        }
    }

    pub(super) fn flag(&self, name: &str, default: bool) -> Result<bool> {
        match self.value.get(name) {
            None | Some(Value::Null) => Ok(default),
            Some(value) => value
                .as_bool()
                .ok_or_else(|| self.wrong(format_args!("{name} must be true or false"))),
        }
    }

    pub(super) fn count(&self, name: &str) -> Result<usize> {
        let n = self
            .field(name)?
            .as_u64()
            .ok_or_else(|| self.wrong(format_args!("{name} must be a count")))?;
        super::error::limit("a count of a tokenizer component", n as usize, 64)?;
        Ok(n as usize)
    }
}

//! Cutting normalized text into the words that the model then splits on its own.
//!
//! The text is one buffer and the words are ranges of it; a step either cuts ranges or rewrites the
//! buffer (`ByteLevel`, `Metaspace`). The rare steps go through the `tokenizers` crate.

use std::ops::Range;

use serde_json::Value;

use super::decoder::{Block, flatten};
use super::detokenizer::byte_to_char;
use super::error::{Result, TextError};
use super::model::Foreign;
use super::pattern::{Behavior, GPT2, Pattern};
use super::spec::FILE;

/// A chain of pre-tokenization steps.
#[derive(Debug, Default)]
pub(super) struct PreTokenizer {
    steps: Vec<Step>,
}

#[derive(Debug)]
enum Step {
    Split { pattern: Pattern, behavior: Behavior, invert: bool },
    Chars { test: fn(char) -> bool, behavior: Behavior },
    Char { delimiter: char },
    ByteLevel { prefix_space: bool, pattern: Option<Pattern> },
    Metaspace { mark: char, prepend: Prepend, split: bool },
    Foreign(Foreign),
}

/// When `Metaspace` puts its mark in front of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Prepend {
    Always,
    /// Only where the whole input begins.
    First,
    Never,
}

/// Text and the words in it.
#[derive(Debug)]
pub(super) struct Words {
    pub(super) text: String,
    pub(super) ranges: Vec<Range<usize>>,
    /// Whether the first word is the beginning of the whole input.
    at_start: bool,
}

impl Words {
    fn cut(&mut self, mut cut: impl FnMut(&str) -> Result<Vec<Range<usize>>>) -> Result<()> {
        let mut ranges = Vec::with_capacity(self.ranges.len());
        for range in &self.ranges {
            for part in cut(&self.text[range.clone()])? {
                if !part.is_empty() {
                    ranges.push(range.start + part.start..range.start + part.end);
                }
            }
        }
        self.ranges = ranges;
        Ok(())
    }

    fn rewrite(&mut self, mut write: impl FnMut(&str, bool, &mut String)) {
        let mut text = String::with_capacity(self.text.len() + self.text.len() / 2);
        let first_start = self.ranges.first().map_or(0, |range| range.start);
        for range in &mut self.ranges {
            let start = text.len();
            let first = self.at_start && range.start == first_start && start == 0;
            write(&self.text[range.clone()], first, &mut text);
            *range = start..text.len();
        }
        self.text = text;
    }
}

impl PreTokenizer {
    /// Reads the `pre_tokenizer` block.
    pub(super) fn from_json(value: &Value) -> Result<Self> {
        if value.is_null() {
            return Ok(PreTokenizer::default());
        }
        let mut blocks = Vec::new();
        flatten(value, "pretokenizers", &mut blocks)?;
        let mut steps = Vec::with_capacity(blocks.len());
        for block in blocks {
            let block = Block { value: block };
            if block.kind()? == "BertPreTokenizer" {
                steps.push(WHITESPACE);
                steps.push(punctuation(Behavior::Isolated)?);
            } else {
                steps.push(Step::from_json(&block)?);
            }
        }
        Ok(PreTokenizer { steps })
    }

    /// Cuts a text at SentencePiece's marks, putting one in front if asked.
    pub(super) fn metaspace(prepend: Prepend, split: bool) -> Self {
        PreTokenizer { steps: vec![Step::Metaspace { mark: '▁', prepend, split }] }
    }

    /// Cuts a text; `at_start` says whether it is the beginning of the whole input.
    pub(super) fn apply(&self, text: String, at_start: bool) -> Result<Words> {
        let whole = 0..text.len();
        let mut words = Words { text, ranges: vec![whole], at_start };
        words.ranges.retain(|range| !range.is_empty());
        for step in &self.steps {
            step.apply(&mut words)?;
        }
        Ok(words)
    }
}

const WHITESPACE: Step = Step::Chars { test: char::is_whitespace, behavior: Behavior::Removed };

/// Cuts at punctuation: Unicode's, and what ASCII counts as such.
fn punctuation(behavior: Behavior) -> Result<Step> {
    let pattern = Pattern::new(r"[\p{P}!-/:-@\[-`{-~]")?;
    Ok(Step::Split { pattern, behavior, invert: false })
}

impl Step {
    fn from_json(block: &Block<'_>) -> Result<Self> {
        let behavior = |default: Option<Behavior>| {
            let name = block.value.get("behavior").and_then(Value::as_str);
            match (name, default) {
                (Some(name), _) => {
                    Behavior::from_name(name).ok_or_else(|| block.wrong("unknown behavior"))
                }
                (None, Some(default)) => Ok(default),
                (None, None) => Err(block.wrong("behavior is missing")),
            }
        };
        Ok(match block.kind()? {
            "Split" => {
                let pattern = block.field("pattern")?;
                let pattern = if let Some(text) = pattern.get("String").and_then(Value::as_str) {
                    if text.is_empty() {
                        return Err(block.wrong("the pattern is empty"));
                    }
                    Pattern::literal(text)?
                } else if let Some(text) = pattern.get("Regex").and_then(Value::as_str) {
                    Pattern::new(text)?
                } else {
                    return Err(block.wrong("pattern must be a String or a Regex"));
                };
                let invert = block.flag("invert", false)?;
                Step::Split { pattern, behavior: behavior(None)?, invert }
            }
            "ByteLevel" => Step::ByteLevel {
                prefix_space: block.flag("add_prefix_space", true)?,
                pattern: if block.flag("use_regex", true)? {
                    Some(Pattern::new(GPT2)?)
                } else {
                    None
                },
            },
            "Metaspace" => {
                let added = block.flag("add_prefix_space", true)?;
                let prepend = match block.value.get("prepend_scheme").and_then(Value::as_str) {
                    None if !added => Prepend::Never,
                    None | Some("always") if added => Prepend::Always,
                    Some("first") if added => Prepend::First,
                    Some("never") => Prepend::Never,
                    _ => return Err(block.wrong("prepend_scheme and add_prefix_space disagree")),
                };
                let split = block.flag("split", true)?;
                Step::Metaspace { mark: block.char("replacement")?, prepend, split }
            }
            "WhitespaceSplit" => WHITESPACE,
            "Punctuation" => punctuation(behavior(Some(Behavior::Isolated))?)?,
            "Digits" => {
                let each = block.flag("individual_digits", false)?;
                let behavior = if each { Behavior::Isolated } else { Behavior::Contiguous };
                Step::Chars { test: char::is_numeric, behavior }
            }
            "Whitespace" => Step::Split {
                pattern: Pattern::new(r"\w+|[^\w\s]+")?,
                behavior: Behavior::Removed,
                invert: true,
            },
            "CharDelimiterSplit" | "Delimiter" => {
                Step::Char { delimiter: block.char("delimiter")? }
            }
            "FixedLength" if block.value.get("length").and_then(Value::as_u64) == Some(0) => {
                return Err(block.wrong("length must not be 0"));
            }
            "UnicodeScripts" | "FixedLength" => Step::Foreign(Foreign::from_json(block.value)?),
            other => {
                return Err(TextError::unsupported(FILE, format_args!("pre_tokenizer {other:?}")));
            }
        })
    }

    fn apply(&self, words: &mut Words) -> Result<()> {
        match self {
            Step::Split { pattern, behavior, invert } => {
                words.cut(|text| Ok(behavior.cut(text.len(), &pattern.matches(text)?, *invert)))
            }
            Step::Chars { test, behavior } => {
                words.cut(|text| Ok(behavior.cut(text.len(), &find_chars(text, test), false)))
            }
            Step::Char { delimiter } => words.cut(|text| {
                let found = find_chars(text, |c| c == *delimiter);
                Ok(Behavior::Removed.cut(text.len(), &found, false))
            }),
            Step::ByteLevel { prefix_space, pattern } => {
                if *prefix_space {
                    words.rewrite(|text, _, out| {
                        if !text.starts_with(' ') {
                            out.push(' ');
                        }
                        out.push_str(text);
                    });
                }
                if let Some(pattern) = pattern {
                    words.cut(|text| {
                        Ok(Behavior::Isolated.cut(text.len(), &pattern.matches(text)?, false))
                    })?;
                }
                words.rewrite(|text, _, out| out.extend(text.bytes().map(byte_to_char)));
                Ok(())
            }
            Step::Metaspace { mark, prepend, split } => {
                words.rewrite(|text, first, out| {
                    let wanted = match prepend {
                        Prepend::Always => true,
                        Prepend::First => first,
                        Prepend::Never => false,
                    };
                    if wanted && !text.starts_with([' ', *mark]) {
                        out.push(*mark);
                    }
                    out.extend(text.chars().map(|c| if c == ' ' { *mark } else { c }));
                });
                if !split {
                    return Ok(());
                }
                words.cut(|text| {
                    let found = find_chars(text, |c| c == *mark);
                    Ok(Behavior::MergedWithNext.cut(text.len(), &found, false))
                })
            }
            Step::Foreign(foreign) => words.cut(|text| foreign.cut(text)),
        }
    }
}

fn find_chars(text: &str, test: impl Fn(char) -> bool) -> Vec<Range<usize>> {
    let hits = text.char_indices().filter(|&(_, c)| test(c));
    hits.map(|(i, c)| i..i + c.len_utf8()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn run(value: Value, text: &str) -> Vec<String> {
        let words = PreTokenizer::from_json(&value).unwrap().apply(text.into(), true).unwrap();
        words.ranges.iter().map(|range| words.text[range.clone()].to_owned()).collect()
    }

    #[test]
    fn words_are_cut_like_the_reference() {
        let byte_level = json!({"type": "ByteLevel", "add_prefix_space": false});
        assert_eq!(run(byte_level, "Hi  it's é\n"), ["Hi", "Ġ", "Ġit", "'s", "ĠÃ©", "Ċ"]);
        let metaspace =
            json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always"});
        assert_eq!(run(metaspace, "Hey  you"), ["▁Hey", "▁", "▁you"]);
        let bert = json!({"type": "BertPreTokenizer"});
        assert_eq!(run(bert, "Hey friend!  ok"), ["Hey", "friend", "!", "ok"]);
        let digits = json!({"type": "Digits", "individual_digits": true});
        assert_eq!(run(digits, "a12"), ["a", "1", "2"]);
        let contiguous = json!({"type": "Digits"});
        assert_eq!(run(contiguous, "a12b"), ["a", "12", "b"]);
        let whitespace = json!({"type": "Whitespace"});
        assert_eq!(run(whitespace, "Hey man!! x"), ["Hey", "man", "!!", "x"]);
        let fixed = json!({"type": "FixedLength", "length": 2});
        assert_eq!(run(fixed, "abcdé"), ["ab", "cd", "é"]);
        let both = json!({"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": "\\d{1,2}"}, "behavior": "Isolated"},
            {"type": "ByteLevel", "add_prefix_space": false, "use_regex": false}]});
        assert_eq!(run(both, "a 123"), ["aĠ", "12", "3"]);
    }

    #[test]
    fn the_mark_is_prepended_where_asked() {
        let first = PreTokenizer::metaspace(Prepend::First, false);
        assert_eq!(first.apply("a b".into(), true).unwrap().text, "▁a▁b");
        assert_eq!(first.apply("a b".into(), false).unwrap().text, "a▁b");
        let never = PreTokenizer::metaspace(Prepend::Never, false);
        assert_eq!(never.apply("a".into(), true).unwrap().text, "a");
    }
}

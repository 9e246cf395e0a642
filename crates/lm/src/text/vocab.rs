//! The vocabulary as a table, and the added tokens that are cut out of a text before the model sees
//! it.
//!
//! Added tokens (control tokens like `<|im_end|>` among them) are found by two Aho-Corasick
//! automata: one runs over the text as it came, one over the normalized text. Whitespace that a
//! token swallows on its left or right is scanned only between matches, so the whole is linear in
//! the text. A control token is never found across a *barrier*, which is how the text of a user
//! stays text inside a rendered prompt.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::LazyLock;

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};
use fancy_regex::Regex;

use super::decoder::Decoder;
use super::error::{Result, TextError, limit};
use super::spec::FILE;

const ABSENT: u32 = u32::MAX;
const ADDED: u8 = 1;
const SPECIAL: u8 = 2;

/// Token strings by id, and how they spell text.
#[derive(Debug)]
pub(super) struct Vocab {
    blob: String,
    /// Start and length in `blob`; a length of `ABSENT` is a hole.
    spans: Vec<(u32, u32)>,
    flags: Vec<u8>,
    pub(super) decoder: Decoder,
}

impl Vocab {
    /// A table of the model's tokens; ids are below `size`, which was checked against their count.
    pub(super) fn new<'a>(
        size: usize,
        tokens: impl Iterator<Item = (&'a str, u32)>,
        decoder: Decoder,
    ) -> Result<Self> {
        let mut vocab = Vocab {
            blob: String::new(),
            spans: vec![(0, ABSENT); size],
            flags: vec![0; size],
            decoder,
        };
        for (token, id) in tokens {
            vocab.set(id, token)?;
        }
        Ok(vocab)
    }

    fn set(&mut self, id: u32, token: &str) -> Result<()> {
        let start = self.blob.len();
        limit("the text of a vocabulary", start + token.len(), (u32::MAX - 1) as usize)?;
        self.blob.push_str(token);
        self.spans[id as usize] = (start as u32, token.len() as u32);
        Ok(())
    }

    pub(super) fn add(&mut self, token: &AddedToken) -> Result<()> {
        let id = token.id as usize;
        if id >= self.spans.len() {
            self.spans.resize(id + 1, (0, ABSENT));
            self.flags.resize(id + 1, 0);
        }
        if self.token(token.id) != Some(&*token.content) {
            self.set(token.id, &token.content)?;
        }
        self.flags[id] |= ADDED | if token.special { SPECIAL } else { 0 };
        Ok(())
    }

    pub(super) fn set_special(&mut self, id: u32) {
        if let Some(flags) = self.flags.get_mut(id as usize) {
            *flags |= SPECIAL;
        }
    }

    /// One more than the largest id.
    pub(super) fn size(&self) -> usize {
        self.spans.len()
    }

    pub(super) fn token(&self, id: u32) -> Option<&str> {
        let &(start, len) = self.spans.get(id as usize)?;
        (len != ABSENT).then(|| &self.blob[start as usize..start as usize + len as usize])
    }

    pub(super) fn is_added(&self, id: u32) -> bool {
        self.flags.get(id as usize).is_some_and(|f| f & ADDED != 0)
    }

    pub(super) fn is_special(&self, id: u32) -> bool {
        self.flags.get(id as usize).is_some_and(|f| f & SPECIAL != 0)
    }
}

/// A token that is cut out of the text before the model sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct AddedToken {
    pub(super) id: u32,
    pub(super) content: String,
    /// Only where no word character is next to it.
    pub(super) single_word: bool,
    /// Takes the whitespace on its left along.
    pub(super) lstrip: bool,
    /// Takes the whitespace on its right along.
    pub(super) rstrip: bool,
    /// Looked for in the normalized text, in normalized form.
    pub(super) normalized: bool,
    /// A control token.
    pub(super) special: bool,
}

/// Which control tokens a text may contain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Control<'a> {
    /// None: what looks like one is text. This is for text that a user wrote.
    #[default]
    AsText,
    /// All of them. This is for text that a chat template wrote.
    Parse,
    /// All that do not lie across one of these byte positions, which are in order. This is for a
    /// rendered prompt that quotes users; see [`Prompt`](super::Prompt).
    ParseExcept(&'a [usize]),
}

/// A stretch of text: an added token, or text for the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stretch {
    pub(super) range: Range<usize>,
    pub(super) token: Option<u32>,
}

/// Finds added tokens.
#[derive(Debug)]
pub(super) struct AddedTokens {
    tokens: Vec<AddedToken>,
    ids: HashMap<String, u32>,
    raw: Option<Automaton>,
    normalized: Option<Automaton>,
}

#[derive(Debug)]
struct Automaton {
    search: AhoCorasick,
    /// For each pattern: its index in `tokens`.
    tokens: Vec<u32>,
}

static WORD: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"^\w").ok());

impl AddedTokens {
    /// Builds the automata; `normalize` gives the normalized form of a token.
    pub(super) fn new(
        tokens: Vec<AddedToken>,
        normalize: impl Fn(&str) -> Result<String>,
    ) -> Result<Self> {
        let (mut raw, mut normalized) = (Vec::new(), Vec::new());
        for (i, token) in tokens.iter().enumerate() {
            if token.normalized {
                let form = normalize(&token.content)?;
                // A token that normalizes to nothing can never occur.
                if !form.is_empty() {
                    normalized.push((form, i as u32));
                }
            } else {
                raw.push((token.content.clone(), i as u32));
            }
        }
        let (raw, normalized) = (Automaton::new(raw)?, Automaton::new(normalized)?);
        let ids = tokens.iter().map(|token| (token.content.clone(), token.id)).collect();
        Ok(AddedTokens { tokens, ids, raw, normalized })
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &AddedToken> {
        self.tokens.iter()
    }

    pub(super) fn id(&self, content: &str) -> Option<u32> {
        self.ids.get(content).copied()
    }

    /// Cuts the text as it came.
    pub(super) fn split_raw(&self, text: &str, control: Control<'_>) -> Vec<Stretch> {
        self.split(text, self.raw.as_ref(), control)
    }

    /// Cuts normalized text. Positions have moved here, so the caller marks barriers in the text.
    pub(super) fn split_normalized(&self, text: &str, parse: bool) -> Vec<Stretch> {
        let control = if parse { Control::Parse } else { Control::AsText };
        self.split(text, self.normalized.as_ref(), control)
    }

    /// Whether some control token is looked for in normalized text.
    pub(super) fn normalizes_control(&self) -> bool {
        self.tokens.iter().any(|token| token.normalized && token.special)
    }

    fn split(
        &self,
        text: &str,
        automaton: Option<&Automaton>,
        control: Control<'_>,
    ) -> Vec<Stretch> {
        let mut out = Vec::new();
        let mut done = 0;
        if let Some(automaton) = automaton {
            for found in automaton.search.find_iter(text) {
                let token = &self.tokens[automaton.tokens[found.pattern().as_usize()] as usize];
                let (mut start, mut end) = (found.start(), found.end());
                let allowed = match control {
                    Control::Parse => true,
                    Control::AsText => !token.special,
                    Control::ParseExcept(positions) => {
                        let after = positions.partition_point(|&p| p <= start);
                        positions.get(after).is_none_or(|&p| p >= end)
                    }
                };
                if !allowed || start < done {
                    continue;
                }
                if token.single_word
                    && (text[..start].chars().next_back().is_some_and(is_word)
                        || text[end..].chars().next().is_some_and(is_word))
                {
                    continue;
                }
                if token.lstrip {
                    start = done + text[done..start].trim_end().len();
                }
                if token.rstrip {
                    end = text.len() - text[end..].trim_start().len();
                }
                if done < start {
                    out.push(Stretch { range: done..start, token: None });
                }
                out.push(Stretch { range: start..end, token: Some(token.id) });
                done = end;
            }
        }
        if done < text.len() {
            out.push(Stretch { range: done..text.len(), token: None });
        }
        out
    }
}

fn is_word(c: char) -> bool {
    let mut bytes = [0; 4];
    let c = c.encode_utf8(&mut bytes);
    WORD.as_ref().is_some_and(|word| word.is_match(c).unwrap_or(false))
}

impl Automaton {
    fn new(mut patterns: Vec<(String, u32)>) -> Result<Option<Self>> {
        /// Every distinct prefix is a state of the automaton, and a state is about 30 bytes.
        const MOST_STATES: usize = 1 << 19;
        if patterns.is_empty() {
            return Ok(None);
        }
        patterns.sort();
        patterns.dedup_by(|a, b| a.0 == b.0);
        let mut states = 0;
        let mut last: &[u8] = b"";
        for (pattern, _) in &patterns {
            let pattern = pattern.as_bytes();
            let shared = last.iter().zip(pattern).take_while(|(a, b)| a == b).count();
            states += pattern.len() - shared;
            last = pattern;
        }
        limit("the text of the added tokens", states, MOST_STATES)?;
        let search = AhoCorasick::builder()
            .kind(Some(AhoCorasickKind::ContiguousNFA))
            .match_kind(MatchKind::LeftmostLongest)
            .prefilter(false)
            .build(patterns.iter().map(|(pattern, _)| pattern))
            .map_err(|error| TextError::malformed(FILE, "added_tokens", error))?;
        Ok(Some(Automaton { search, tokens: patterns.into_iter().map(|(_, i)| i).collect() }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(id: u32, content: &str) -> AddedToken {
        AddedToken {
            id,
            content: content.into(),
            single_word: false,
            lstrip: false,
            rstrip: false,
            normalized: false,
            special: true,
        }
    }

    fn cut(tokens: Vec<AddedToken>, text: &str, control: Control<'_>) -> Vec<String> {
        let added = AddedTokens::new(tokens, |s| Ok(s.to_owned())).unwrap();
        let show = |s: Stretch| match s.token {
            Some(id) => format!("{id}:{}", &text[s.range]),
            None => text[s.range].to_owned(),
        };
        added.split_raw(text, control).into_iter().map(show).collect()
    }

    #[test]
    fn the_longest_token_at_the_leftmost_place_is_cut_out() {
        let tokens = vec![token(1, "<a>"), token(2, "<a><b>"), token(3, "b")];
        assert_eq!(cut(tokens, "x<a><b>by", Control::Parse), ["x", "2:<a><b>", "3:b", "y"]);
    }

    #[test]
    fn control_tokens_in_user_text_stay_text() {
        let plain = AddedToken { special: false, ..token(2, "  ") };
        let tokens = vec![token(1, "<s>"), plain];
        let text = "a<s>  b";
        assert_eq!(cut(tokens.clone(), text, Control::AsText), ["a<s>", "2:  ", "b"]);
        assert_eq!(cut(tokens.clone(), text, Control::Parse), ["a", "1:<s>", "2:  ", "b"]);
        let quoted = "<s>a<s>";
        let split = cut(tokens, quoted, Control::ParseExcept(&[5]));
        assert_eq!(split, ["1:<s>", "a<s>"]);
    }

    #[test]
    fn strips_and_single_words() {
        let mask = AddedToken { lstrip: true, rstrip: true, ..token(1, "<m>") };
        assert_eq!(
            cut(vec![mask], "a \n<m> \u{3000}b", Control::Parse),
            ["a", "1: \n<m> \u{3000}", "b"]
        );
        let word = AddedToken { single_word: true, ..token(1, "ing") };
        assert_eq!(cut(vec![word], "sing ing.", Control::Parse), ["sing ", "1:ing", "."]);
    }

    #[test]
    fn many_stripping_tokens_are_linear() {
        let mask = AddedToken { lstrip: true, rstrip: true, single_word: true, ..token(1, "<m>") };
        let text = "  <m>".repeat(200_000);
        let start = std::time::Instant::now();
        assert_eq!(cut(vec![mask], &text, Control::Parse).len(), 200_000);
        assert!(start.elapsed().as_secs_f64() < 3.0);
    }
}

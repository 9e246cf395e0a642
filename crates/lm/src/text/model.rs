//! The models that split words into tokens, and the one door to the `tokenizers` crate.
//!
//! Byte-pair encoding and Unigram are the crate's; WordPiece and WordLevel are a page of code and are
//! here. Everything that reaches the crate was checked by [`spec`](super::spec) first, and every call
//! into it is wrapped so that a panic is an error.

use std::collections::HashMap;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};

use serde_json::Value;
use tokenizers::models::bpe::{BPE, Vocab as BpeVocab};
use tokenizers::models::unigram::Unigram;
use tokenizers::normalizers::BertNormalizer;
use tokenizers::{
    Model as _, NormalizedString, Normalizer as _, OffsetReferential, OffsetType,
    PreTokenizedString, PreTokenizer as _, PreTokenizerWrapper,
};

use super::error::{Result, TextError, clip, limit};
use super::spec::FILE;

/// What a byte-pair model is made of, checked.
#[derive(Debug, Default)]
pub(super) struct Bpe {
    pub(super) vocab: BpeVocab,
    pub(super) merges: Vec<(String, String)>,
    pub(super) unk: Option<String>,
    pub(super) prefix: Option<String>,
    pub(super) suffix: Option<String>,
    pub(super) fuse_unk: bool,
    pub(super) byte_fallback: bool,
    pub(super) ignore_merges: bool,
}

/// A model that splits words into tokens.
pub(super) enum Model {
    Bpe(Box<BPE>),
    Unigram {
        model: Box<Unigram>,
        /// Bytes of pieces that may have to be looked at for one byte of text.
        cost: usize,
    },
    WordPiece(WordPiece),
    WordLevel {
        vocab: HashMap<String, u32>,
        unk: Option<u32>,
    },
}

impl std::fmt::Debug for Model {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Model::Bpe(_) => "Bpe",
            Model::Unigram { .. } => "Unigram",
            Model::WordPiece(_) => "WordPiece",
            Model::WordLevel { .. } => "WordLevel",
        })
    }
}

impl Model {
    pub(super) fn bpe(parts: Bpe) -> Result<Self> {
        let mut builder = BPE::builder()
            .vocab_and_merges(parts.vocab, parts.merges)
            .fuse_unk(parts.fuse_unk)
            .byte_fallback(parts.byte_fallback)
            .ignore_merges(parts.ignore_merges);
        if let Some(unk) = parts.unk {
            builder = builder.unk_token(unk);
        }
        if let Some(prefix) = parts.prefix {
            builder = builder.continuing_subword_prefix(prefix);
        }
        if let Some(suffix) = parts.suffix {
            builder = builder.end_of_word_suffix(suffix);
        }
        Ok(Model::Bpe(Box::new(guard(|| builder.build())?)))
    }

    pub(super) fn unigram(
        vocab: Vec<(String, f64)>,
        unk: Option<usize>,
        byte_fallback: bool,
    ) -> Result<Self> {
        let cost = prefix_cost(&vocab);
        let model = Box::new(guard(|| Unigram::from(vocab, unk, byte_fallback))?);
        Ok(Model::Unigram { model, cost })
    }

    pub(super) fn token_to_id(&self, token: &str) -> Option<u32> {
        match self {
            Model::Bpe(model) => model.token_to_id(token),
            Model::Unigram { model, .. } => model.token_to_id(token),
            Model::WordPiece(model) => model.vocab.get(token).copied(),
            Model::WordLevel { vocab, .. } => vocab.get(token).copied(),
        }
    }

    /// Appends the tokens of a word.
    ///
    /// Control tokens are cut out before words are; if the model spells one all the same (its text is
    /// an ordinary entry of the vocabulary), it is taken apart again, so that no text of a user can
    /// become one.
    pub(super) fn tokenize(
        &self,
        word: &str,
        control: &dyn Fn(u32) -> bool,
        out: &mut Vec<u32>,
    ) -> Result<()> {
        match self {
            Model::WordLevel { vocab, unk } => {
                let id = vocab.get(word).copied().filter(|&id| !control(id)).or(*unk);
                out.extend(id);
                return Ok(());
            }
            Model::WordPiece(model) => {
                model.tokenize(word, control, out);
                return Ok(());
            }
            Model::Unigram { cost, .. } => {
                const MOST_WORK: usize = 4 << 30;
                if word.len().saturating_mul(cost + 16) > MOST_WORK {
                    return Err(TextError::TooExpensive("a Unigram model on this text"));
                }
            }
            Model::Bpe(_) => {}
        }
        let tokens = guard(|| match self {
            Model::Bpe(model) => model.tokenize(word),
            Model::Unigram { model, .. } => model.tokenize(word),
            Model::WordPiece(_) | Model::WordLevel { .. } => Ok(Vec::new()),
        })?;
        out.reserve(tokens.len());
        for token in tokens {
            let mut chars = token.value.chars();
            if control(token.id) && chars.next().is_some() && !chars.as_str().is_empty() {
                let rest = chars.as_str();
                let head = &token.value[..token.value.len() - rest.len()];
                // Each part is shorter than the token, so this ends.
                self.tokenize(head, control, out)?;
                self.tokenize(rest, control, out)?;
            } else {
                out.push(token.id);
            }
        }
        Ok(())
    }
}

/// For any place in any text: the total length of the pieces that may begin there.
fn prefix_cost(vocab: &[(String, f64)]) -> usize {
    let mut pieces: Vec<&str> = vocab.iter().map(|(piece, _)| piece.as_str()).collect();
    pieces.sort_unstable();
    let mut chain: Vec<&str> = Vec::new();
    let (mut sum, mut most) = (0, 0);
    for piece in pieces {
        while let Some(last) = chain.last() {
            if piece.starts_with(last) {
                break;
            }
            sum -= last.len();
            chain.pop();
        }
        chain.push(piece);
        sum += piece.len();
        most = most.max(sum);
    }
    most
}

/// Greedy longest-match splitting, as in BERT.
#[derive(Debug)]
pub(super) struct WordPiece {
    pub(super) vocab: HashMap<String, u32>,
    pub(super) unk: u32,
    pub(super) prefix: String,
    /// Words with more characters are unknown.
    pub(super) max_chars: usize,
    /// The longest token in bytes.
    pub(super) longest: usize,
}

impl WordPiece {
    fn tokenize(&self, word: &str, control: &dyn Fn(u32) -> bool, out: &mut Vec<u32>) {
        if word.chars().nth(self.max_chars).is_some() {
            out.push(self.unk);
            return;
        }
        let mark = out.len();
        let mut key = String::new();
        let mut start = 0;
        while start < word.len() {
            key.clear();
            if start > 0 {
                key.push_str(&self.prefix);
            }
            let lead = key.len();
            let mut end = word.len().min(start + self.longest);
            while !word.is_char_boundary(end) {
                end -= 1;
            }
            key.push_str(&word[start..end]);
            let id = loop {
                if key.len() == lead {
                    // Some part has no token, so the whole word has none.
                    out.truncate(mark);
                    out.push(self.unk);
                    return;
                }
                match self.vocab.get(&key) {
                    Some(&id) if !control(id) => break id,
                    _ => {
                        key.pop();
                    }
                }
            };
            out.push(id);
            start += key.len() - lead;
        }
    }
}

/// A pre-tokenization step that the crate does.
#[derive(Debug)]
pub(super) struct Foreign(PreTokenizerWrapper);

impl Foreign {
    pub(super) fn from_json(value: &Value) -> Result<Self> {
        let made = catch_unwind(AssertUnwindSafe(|| serde_json::from_value(value.clone())));
        match made {
            Ok(Ok(step)) => Ok(Foreign(step)),
            Ok(Err(error)) => Err(TextError::malformed(FILE, "pre_tokenizer", error)),
            Err(_) => Err(TextError::malformed(FILE, "pre_tokenizer", "not readable")),
        }
    }

    pub(super) fn cut(&self, text: &str) -> Result<Vec<Range<usize>>> {
        guard(|| {
            let mut words = PreTokenizedString::from(text);
            self.0.pre_tokenize(&mut words)?;
            let splits = words.get_splits(OffsetReferential::Original, OffsetType::Byte);
            Ok(splits.into_iter().map(|(_, (start, end), _)| start..end).collect())
        })
    }
}

/// BERT's normalization.
pub(super) fn bert_normalize(
    text: &str,
    clean: bool,
    chinese: bool,
    accents: Option<bool>,
    lowercase: bool,
) -> Result<String> {
    // The crate keeps an alignment of 16 bytes a byte, so it sees a stretch at a time; every rule of
    // BERT's normalizer is local to a character and the marks that follow it.
    const STRETCH: usize = 1 << 16;
    let normalizer = BertNormalizer::new(clean, chinese, accents, lowercase);
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        let mut end = rest.len().min(STRETCH);
        while !rest.is_char_boundary(end) {
            end -= 1;
        }
        if end < rest.len() {
            // Cut before an ASCII character, which is never a mark.
            end = rest[..end].rfind(|c: char| c.is_ascii()).filter(|&i| i > 0).unwrap_or(end);
        }
        let (head, tail) = rest.split_at(end);
        out.push_str(&guard(|| {
            let mut text = NormalizedString::from(head);
            normalizer.normalize(&mut text)?;
            Ok(text.get().to_owned())
        })?);
        rest = tail;
    }
    limit("a normalized text", out.len(), text.len().saturating_mul(16) + (1 << 20))?;
    Ok(out)
}

/// Runs code of the crate; its errors and panics become ours.
fn guard<T>(work: impl FnOnce() -> tokenizers::Result<T>) -> Result<T> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(TextError::Internal(clip(&error.to_string()))),
        Err(_) => Err(TextError::Internal("the tokenizers crate panicked".into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wordpiece_takes_the_longest_match() {
        let vocab: HashMap<String, u32> = ["[UNK]", "un", "##aff", "##able", "##a", "ü"]
            .iter()
            .enumerate()
            .map(|(i, s)| (s.to_string(), i as u32))
            .collect();
        let model = WordPiece { vocab, unk: 0, prefix: "##".into(), max_chars: 100, longest: 6 };
        let run = |word: &str| {
            let mut out = Vec::new();
            model.tokenize(word, &|_| false, &mut out);
            out
        };
        assert_eq!(run("unaffable"), [1, 2, 3]);
        assert_eq!(run("ü"), [5]);
        assert_eq!(run("unx"), [0]);
        assert_eq!(run(&"u".repeat(101)), [0]);
    }

    #[test]
    fn the_cost_of_a_unigram_is_its_longest_chain() {
        let vocab = |pieces: &[&str]| -> Vec<(String, f64)> {
            pieces.iter().map(|p| (p.to_string(), 0.0)).collect()
        };
        assert_eq!(prefix_cost(&vocab(&["a", "aa", "aaa", "b"])), 6);
        assert_eq!(prefix_cost(&vocab(&["ab", "ac", "b"])), 2);
    }
}

//! Text to token ids and back.
//!
//! [`Tokenizer`] is what the rest of the library sees; [`HfTokenizer`] reads the files that published
//! models come with. Encoding is a pipeline over plain strings: cut out added tokens, normalize, cut
//! into words, let the model split the words, put the control tokens around. Every stage is linear or
//! `n log n` in the text, bounded in growth, and free of recursion over the text.
//!
//! **Text is not control.** `<|im_start|>` in the text of a user is nineteen characters, not the
//! token that begins a turn: [`Tokenizer::encode`] never produces a control token from text. A chat
//! template's output is encoded with [`Tokenizer::encode_prompt`], which knows which parts of it are
//! quotations.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;

use super::decoder::DecoderKind;
use super::detokenizer::Detokenizer;
use super::error::{Result, TextError, limit};
use super::gguf::{self, GgufVocab};
use super::sentencepiece::{self, Options};
use super::spec::{self, Parts, Post, json_text};
use super::template::Prompt;
use super::vocab::{AddedToken, AddedTokens, Control, Vocab};
use super::{model::Model, normalizer::Normalizer, pretokenizer::PreTokenizer};

/// The longest text that is encoded at once.
const MOST_TEXT: usize = 64 << 20;

/// Tokens with a role of their own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SpecialIds {
    /// Begins a sequence.
    pub bos: Option<u32>,
    /// Ends a sequence.
    pub eos: Option<u32>,
    /// Fills a batch.
    pub pad: Option<u32>,
    /// Stands for what the vocabulary cannot spell.
    pub unk: Option<u32>,
}

/// Text to token ids and back.
pub trait Tokenizer: Send + Sync {
    /// Encodes text that is only text: control tokens in it stay text.
    ///
    /// With `add_special` the tokens that the model expects around a sequence are put there.
    ///
    /// # Errors
    /// If the text is past 64 MiB or its work past the budget.
    fn encode(&self, text: &str, add_special: bool) -> Result<Vec<u32>> {
        self.encode_as(text, add_special, Control::AsText)
    }

    /// Encodes a rendered chat template: the control tokens that the template wrote are tokens, those
    /// in the texts that it quotes are text.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    fn encode_prompt(&self, prompt: &Prompt) -> Result<Vec<u32>> {
        self.encode_as(&prompt.text, false, Control::ParseExcept(&prompt.barriers))
    }

    /// Encodes text, with a say in what control tokens it may contain.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    fn encode_as(&self, text: &str, add_special: bool, control: Control<'_>) -> Result<Vec<u32>>;

    /// The text of a list of tokens; ids that the vocabulary lacks add nothing, invalid UTF-8 becomes
    /// U+FFFD.
    fn decode(&self, ids: &[u32], skip_special: bool) -> String;

    /// A streaming decoder.
    fn detokenizer(&self, skip_special: bool) -> Detokenizer;

    /// The id of a token, by its string in the vocabulary.
    fn token_to_id(&self, token: &str) -> Option<u32>;

    /// The string of a token in the vocabulary, which need not be the text it stands for.
    fn id_to_token(&self, id: u32) -> Option<&str>;

    /// One more than the largest id. A model's embedding has at least as many rows.
    fn vocab_size(&self) -> usize;

    /// Tokens with a role.
    fn special_ids(&self) -> SpecialIds;

    /// Whether this is a control token, which decoding may leave out.
    fn is_special(&self, id: u32) -> bool;

    /// How token strings spell text.
    fn decoder_kind(&self) -> DecoderKind;

    /// The strings of the added tokens: for each, whether it is a control token.
    fn added_tokens(&self) -> Vec<(&str, bool)>;
}

/// A tokenizer from a model folder: `tokenizer.json` or `tokenizer.model`.
///
/// ```
/// use lazul_lm::text::{Control, HfTokenizer, Tokenizer};
///
/// let json = r#"{
///     "added_tokens": [{"id": 3, "content": "<|end|>", "special": true}],
///     "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false},
///     "decoder": {"type": "ByteLevel"},
///     "model": {"type": "BPE", "vocab": {"h": 0, "i": 1, "hi": 2}, "merges": ["h i"]}
/// }"#;
/// let tokenizer = HfTokenizer::from_json(json.as_bytes(), None)?;
/// assert_eq!(tokenizer.encode("hi", false)?, [2]);
/// assert_eq!(tokenizer.encode_as("hi<|end|>", false, Control::Parse)?, [2, 3]);
/// assert!(!tokenizer.encode("hi<|end|>", false)?.contains(&3));
/// assert_eq!(tokenizer.decode(&[2, 3], true), "hi");
/// # Ok::<(), lazul_lm::text::TextError>(())
/// ```
#[derive(Debug)]
pub struct HfTokenizer {
    model: Model,
    vocab: Arc<Vocab>,
    added: AddedTokens,
    normalizer: Normalizer,
    pre_tokenizer: PreTokenizer,
    post: Post,
    special: SpecialIds,
}

/// What `tokenizer_config.json` and `special_tokens_map.json` say about tokens.
#[derive(Debug, Default, Deserialize)]
struct Config {
    #[serde(default)]
    add_bos_token: Option<bool>,
    #[serde(default)]
    add_eos_token: Option<bool>,
    #[serde(default)]
    legacy: Option<bool>,
    #[serde(default)]
    tokenizer_class: Option<String>,
    #[serde(default)]
    bos_token: Option<Value>,
    #[serde(default)]
    eos_token: Option<Value>,
    #[serde(default)]
    pad_token: Option<Value>,
    #[serde(default)]
    unk_token: Option<Value>,
    #[serde(default)]
    added_tokens_decoder: Option<std::collections::BTreeMap<String, ConfigToken>>,
}

#[derive(Debug, Deserialize)]
struct ConfigToken {
    content: String,
    #[serde(default)]
    lstrip: bool,
    #[serde(default)]
    rstrip: bool,
    #[serde(default)]
    single_word: bool,
    #[serde(default)]
    special: bool,
}

/// The text of a token that a configuration names: a string, or an object with its content.
pub(super) fn token_text(value: Option<&Value>) -> Option<&str> {
    let value = value?;
    let text = value.as_str().or_else(|| value.get("content").and_then(Value::as_str));
    text.filter(|text| !text.is_empty() && text.len() <= 1024)
}

impl Config {
    fn read(config: Option<&[u8]>, map: Option<&[u8]>) -> Result<Self> {
        const FILE: &str = "tokenizer_config.json";
        let mut out = match config {
            None => Config::default(),
            Some(bytes) => serde_json::from_str(json_text(bytes, FILE, 32 << 20)?)
                .map_err(|error| TextError::malformed(FILE, "the file", error))?,
        };
        if let Some(bytes) = map {
            const FILE: &str = "special_tokens_map.json";
            let names: Config = serde_json::from_str(json_text(bytes, FILE, 4 << 20)?)
                .map_err(|error| TextError::malformed(FILE, "the file", error))?;
            out.bos_token = out.bos_token.or(names.bos_token);
            out.eos_token = out.eos_token.or(names.eos_token);
            out.pad_token = out.pad_token.or(names.pad_token);
            out.unk_token = out.unk_token.or(names.unk_token);
        }
        Ok(out)
    }
}

impl HfTokenizer {
    /// Reads a `tokenizer.json`, with the model folder's `tokenizer_config.json` if there is one.
    ///
    /// # Errors
    /// If a file is malformed, inconsistent, past a limit, or asks for something unknown.
    pub fn from_json(tokenizer: &[u8], config: Option<&[u8]>) -> Result<Self> {
        Self::from_json_with(tokenizer, config, None)
    }

    /// As [`HfTokenizer::from_json`], with the `special_tokens_map.json` that older folders have.
    ///
    /// # Errors
    /// As [`HfTokenizer::from_json`].
    pub fn from_json_with(
        tokenizer: &[u8],
        config: Option<&[u8]>,
        special_tokens_map: Option<&[u8]>,
    ) -> Result<Self> {
        let config = Config::read(config, special_tokens_map)?;
        Self::build(spec::read(tokenizer)?, &config)
    }

    /// Reads a SentencePiece `tokenizer.model`.
    ///
    /// # Errors
    /// As [`HfTokenizer::from_json`].
    pub fn from_sentencepiece(
        model: &[u8],
        config: Option<&[u8]>,
        special_tokens_map: Option<&[u8]>,
    ) -> Result<Self> {
        let config = Config::read(config, special_tokens_map)?;
        // What the classes of the reference do when the file does not say.
        let t5 = config.tokenizer_class.as_deref().is_some_and(|class| class.contains("T5"));
        let options = Options {
            legacy: config.legacy.unwrap_or(true),
            bos: config.add_bos_token.unwrap_or(!t5),
            eos: config.add_eos_token.unwrap_or(t5),
        };
        let mut parts = sentencepiece::read(model, options)?;
        // Tokens beyond the pieces live in the configuration.
        for (id, token) in config.added_tokens_decoder.iter().flatten() {
            let wrong = |reason| {
                let at = "added_tokens_decoder";
                TextError::malformed("tokenizer_config.json", at, reason)
            };
            let id: u32 = id.parse().map_err(|_| wrong("an id is not a number"))?;
            if token.content.is_empty() {
                return Err(wrong("a token is empty"));
            }
            limit("an added token", token.content.len(), 1024)?;
            spec::check_id(id.into(), parts.vocab.size(), "added_tokens_decoder")?;
            if parts.vocab.token(id).is_some_and(|known| known != token.content) {
                return Err(wrong("a token does not fit the vocabulary"));
            }
            parts.added.retain(|known| known.id != id);
            parts.added.push(AddedToken {
                id,
                content: token.content.clone(),
                single_word: token.single_word,
                lstrip: token.lstrip,
                rstrip: token.rstrip,
                normalized: false,
                special: token.special,
            });
        }
        for token in &parts.added {
            parts.vocab.add(token)?;
        }
        Self::build(parts, &config)
    }

    /// Makes the tokenizer of a GGUF file.
    ///
    /// # Errors
    /// As [`HfTokenizer::from_json`].
    pub fn from_gguf(vocab: &GgufVocab<'_>) -> Result<Self> {
        Ok(Self::from_gguf_with_ends(vocab)?.0)
    }

    /// As [`HfTokenizer::from_gguf`], with the tokens that end a generation.
    pub(super) fn from_gguf_with_ends(vocab: &GgufVocab<'_>) -> Result<(Self, Vec<u32>)> {
        let read = gguf::read(vocab)?;
        let text = |id: Option<u32>| id.and_then(|id| read.parts.vocab.token(id)).map(Value::from);
        let config = Config {
            add_bos_token: Some(read.add_bos),
            add_eos_token: Some(read.add_eos),
            bos_token: text(vocab.bos),
            eos_token: text(vocab.eos),
            pad_token: text(vocab.pad),
            unk_token: text(vocab.unk),
            ..Config::default()
        };
        Ok((Self::build(read.parts, &config)?, read.ends))
    }

    fn build(mut parts: Parts, config: &Config) -> Result<Self> {
        let find = |parts: &Parts, text: Option<&str>| {
            let text = text?;
            let added = parts.added.iter().find(|token| token.content == text);
            added.map(|token| token.id).or_else(|| parts.model.token_to_id(text))
        };
        let special = SpecialIds {
            bos: find(&parts, token_text(config.bos_token.as_ref())),
            eos: find(&parts, token_text(config.eos_token.as_ref())),
            pad: find(&parts, token_text(config.pad_token.as_ref())),
            unk: parts.unk.or_else(|| find(&parts, token_text(config.unk_token.as_ref()))),
        };
        for id in [special.bos, special.eos, special.pad].into_iter().flatten() {
            parts.vocab.set_special(id);
            // A token that only the configuration calls special must be found in a prompt too.
            match parts.added.iter_mut().find(|token| token.id == id) {
                Some(token) => token.special = true,
                None => {
                    let content = parts.vocab.token(id).unwrap_or_default().to_owned();
                    parts.added.push(AddedToken {
                        id,
                        content,
                        single_word: false,
                        lstrip: false,
                        rstrip: false,
                        normalized: false,
                        special: true,
                    });
                }
            }
        }
        // The configuration's word on bos and eos stands over the post-processor's.
        let post = &mut parts.post;
        for (wanted, id, list) in [
            (config.add_bos_token, special.bos, &mut post.before),
            (config.add_eos_token, special.eos, &mut post.after),
        ] {
            match (wanted, id) {
                (Some(true), Some(id)) if !list.contains(&id) => list.push(id),
                (Some(false), Some(id)) => list.retain(|&other| other != id),
                _ => {}
            }
        }
        let added = AddedTokens::new(parts.added, |text| parts.normalizer.apply(text))?;
        Ok(HfTokenizer {
            model: parts.model,
            vocab: Arc::new(parts.vocab),
            added,
            normalizer: parts.normalizer,
            pre_tokenizer: parts.pre_tokenizer,
            post: parts.post,
            special,
        })
    }

    /// Encodes a stretch between added tokens of the raw text.
    fn stretch(
        &self,
        text: &str,
        start: usize,
        control: Control<'_>,
        out: &mut Vec<u32>,
    ) -> Result<()> {
        let mut marked = None;
        if let Control::ParseExcept(barriers) = control
            && self.added.normalizes_control()
        {
            marked = mark(text, start, barriers);
        }
        let (normalized, parse) = match &marked {
            Some(Marked::Text(text, _)) => (self.normalizer.apply(text)?, true),
            Some(Marked::Impossible) => (self.normalizer.apply(text)?, false),
            None => (self.normalizer.apply(text)?, control != Control::AsText),
        };
        for part in self.added.split_normalized(&normalized, parse) {
            if let Some(id) = part.token {
                out.push(id);
                continue;
            }
            let at_start = start == 0 && part.range.start == 0;
            let mut piece = normalized[part.range].to_owned();
            if let Some(Marked::Text(_, mark)) = marked {
                piece.retain(|c| c != mark);
            }
            self.words(piece, at_start, out)?;
        }
        Ok(())
    }

    fn words(&self, text: String, at_start: bool, out: &mut Vec<u32>) -> Result<()> {
        let unk = self.special.unk;
        let control = |id: u32| self.vocab.is_special(id) && Some(id) != unk;
        let words = self.pre_tokenizer.apply(text, at_start)?;
        out.reserve(words.ranges.len());
        for range in words.ranges {
            self.model.tokenize(&words.text[range], &control, out)?;
        }
        Ok(())
    }
}

/// A stretch of text with its barriers written into it.
enum Marked {
    Text(String, char),
    /// The text uses up every character that could mark a barrier.
    Impossible,
}

/// Writes the barriers inside a stretch into it as characters that the text does not have, so that
/// they survive normalization.
fn mark(text: &str, start: usize, barriers: &[usize]) -> Option<Marked> {
    let first = barriers.partition_point(|&at| at <= start);
    let inside = barriers[first..].iter().take_while(|&&at| at < start + text.len());
    let mut inside = inside.map(|at| at - start).filter(|&at| text.is_char_boundary(at)).peekable();
    inside.peek()?;
    let Some(mark) = ('\u{fdd0}'..='\u{fdef}').find(|&c| !text.contains(c)) else {
        return Some(Marked::Impossible);
    };
    let mut out = String::with_capacity(text.len() + 16);
    let mut done = 0;
    for at in inside {
        out.push_str(&text[done..at]);
        out.push(mark);
        done = at;
    }
    out.push_str(&text[done..]);
    Some(Marked::Text(out, mark))
}

impl Tokenizer for HfTokenizer {
    fn encode_as(&self, text: &str, add_special: bool, control: Control<'_>) -> Result<Vec<u32>> {
        limit("a text to encode", text.len(), MOST_TEXT)?;
        let mut out = Vec::with_capacity(text.len() / 4 + 4);
        if add_special {
            out.extend_from_slice(&self.post.before);
        }
        for stretch in self.added.split_raw(text, control) {
            match stretch.token {
                Some(id) => out.push(id),
                None => {
                    let start = stretch.range.start;
                    self.stretch(&text[stretch.range], start, control, &mut out)?;
                }
            }
        }
        if add_special {
            out.extend_from_slice(&self.post.after);
        }
        Ok(out)
    }

    fn decode(&self, ids: &[u32], skip_special: bool) -> String {
        self.detokenizer(skip_special).decode(ids)
    }

    fn detokenizer(&self, skip_special: bool) -> Detokenizer {
        Detokenizer::new(Arc::clone(&self.vocab), skip_special)
    }

    fn token_to_id(&self, token: &str) -> Option<u32> {
        self.added.id(token).or_else(|| self.model.token_to_id(token))
    }

    fn id_to_token(&self, id: u32) -> Option<&str> {
        self.vocab.token(id)
    }

    fn vocab_size(&self) -> usize {
        self.vocab.size()
    }

    fn special_ids(&self) -> SpecialIds {
        self.special
    }

    fn is_special(&self, id: u32) -> bool {
        self.vocab.is_special(id)
    }

    fn decoder_kind(&self) -> DecoderKind {
        self.vocab.decoder.kind
    }

    fn added_tokens(&self) -> Vec<(&str, bool)> {
        self.added.iter().map(|token| (token.content.as_str(), token.special)).collect()
    }
}

//! Reading and checking a `tokenizer.json`.
//!
//! The file comes from strangers. It is read in two passes: the first finds its parts without
//! interpreting them, the second reads each part into our own types under limits, so a refused file
//! costs little more memory than its own size. What passes is consistent: ids are dense enough to
//! index a table, merges refer to tokens, scores are numbers, and no step can loop or blow up.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::fmt;

use serde::Deserialize;
use serde::de::{Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;
use tokenizers::models::bpe::Vocab as BpeVocab;

use super::decoder::{Block, Decoder, flatten};
use super::error::{Result, TextError, limit};
use super::model::{Bpe, Model, WordPiece};
use super::normalizer::Normalizer;
use super::pretokenizer::PreTokenizer;
use super::vocab::{AddedToken, Vocab};

pub(super) const FILE: &str = "tokenizer.json";

/// The largest tokenizer.json that is read.
const MOST_BYTES: usize = 256 << 20;
/// The most tokens a model may have; the largest published vocabularies are near 2^19.
pub(super) const MOST_TOKENS: usize = 4 << 20;
const MOST_ADDED: usize = 200_000;
const MOST_ADDED_BYTES: usize = 1024;
/// The longest token of a model. Byte-level vocabularies have runs of 128 spaces and more.
pub(super) const MOST_TOKEN_BYTES: usize = 4096;

/// A tokenizer, read and checked.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) model: Model,
    pub(super) vocab: Vocab,
    pub(super) unk: Option<u32>,
    pub(super) added: Vec<AddedToken>,
    pub(super) normalizer: Normalizer,
    pub(super) pre_tokenizer: PreTokenizer,
    pub(super) post: Post,
}

/// The control tokens around a sequence.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Post {
    pub(super) before: Vec<u32>,
    pub(super) after: Vec<u32>,
}

#[derive(Deserialize)]
struct Root<'a> {
    #[serde(borrow, default)]
    version: Option<Cow<'a, str>>,
    #[serde(default)]
    truncation: Option<Truncation>,
    #[serde(default)]
    padding: Option<Padding>,
    #[serde(borrow, default)]
    added_tokens: Option<&'a RawValue>,
    #[serde(borrow, default)]
    normalizer: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pre_tokenizer: Option<&'a RawValue>,
    #[serde(borrow, default)]
    post_processor: Option<&'a RawValue>,
    #[serde(borrow, default)]
    decoder: Option<&'a RawValue>,
    #[serde(borrow)]
    model: &'a RawValue,
}

/// Prompts are never cut or padded here; the numbers are only checked.
#[derive(Deserialize)]
struct Truncation {
    max_length: u64,
    #[serde(default)]
    stride: u64,
}

#[derive(Deserialize)]
struct Padding {
    #[serde(default)]
    strategy: Value,
    #[serde(default)]
    pad_to_multiple_of: Option<u64>,
}

#[derive(Deserialize)]
struct ModelHead<'a> {
    #[serde(borrow, default, rename = "type")]
    kind: Option<Cow<'a, str>>,
    #[serde(default)]
    dropout: Option<f64>,
    #[serde(default)]
    unk_token: Option<String>,
    #[serde(default)]
    continuing_subword_prefix: Option<String>,
    #[serde(default)]
    end_of_word_suffix: Option<String>,
    #[serde(default)]
    fuse_unk: Option<bool>,
    #[serde(default)]
    byte_fallback: Option<bool>,
    #[serde(default)]
    ignore_merges: Option<bool>,
    #[serde(default)]
    unk_id: Option<u64>,
    #[serde(default)]
    max_input_chars_per_word: Option<u64>,
    #[serde(borrow)]
    vocab: &'a RawValue,
    #[serde(borrow, default)]
    merges: Option<&'a RawValue>,
}

fn wrong(at: &str, reason: impl fmt::Display) -> TextError {
    TextError::malformed(FILE, at, reason)
}

fn json<'a, T: Deserialize<'a>>(text: &'a str, at: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|error| wrong(at, error))
}

/// The text of a JSON file: UTF-8 below a size limit; a byte order mark is tolerated.
pub(super) fn json_text<'a>(bytes: &'a [u8], file: &'static str, most: usize) -> Result<&'a str> {
    limit(file, bytes.len(), most)?;
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    std::str::from_utf8(bytes).map_err(|error| {
        TextError::malformed(file, format_args!("byte {}", error.valid_up_to()), "not UTF-8")
    })
}

fn component(raw: Option<&RawValue>, at: &'static str, most: usize) -> Result<Value> {
    match raw {
        None => Ok(Value::Null),
        Some(raw) => {
            limit(at, raw.get().len(), most)?;
            json(raw.get(), at)
        }
    }
}

/// Reads a tokenizer.json.
pub(super) fn read(bytes: &[u8]) -> Result<Parts> {
    let text = json_text(bytes, FILE, MOST_BYTES)?;
    let root: Root<'_> = json(text, "the file")?;
    if let Some(version) = root.version.as_deref().filter(|&version| version != "1.0") {
        return Err(wrong("version", format_args!("unknown version {version}")));
    }
    if let Some(truncation) = &root.truncation
        && (truncation.max_length > 1 << 31 || truncation.stride >= truncation.max_length.max(1))
    {
        return Err(wrong("truncation", "max_length or stride is out of range"));
    }
    if let Some(padding) = &root.padding {
        let fixed = padding.strategy.get("Fixed").and_then(Value::as_u64).unwrap_or(0);
        if fixed > 1 << 31 || padding.pad_to_multiple_of.unwrap_or(0) > 1 << 31 {
            return Err(wrong("padding", "a length is out of range"));
        }
    }
    let added = read_added(root.added_tokens)?;
    let normalizer = Normalizer::from_json(&component(root.normalizer, "normalizer", 12 << 20)?)?;
    let pre_tokenizer =
        PreTokenizer::from_json(&component(root.pre_tokenizer, "pre_tokenizer", 1 << 20)?)?;
    let post = component(root.post_processor, "post_processor", 1 << 20)?;
    let decoder = Decoder::from_json(&component(root.decoder, "decoder", 1 << 20)?)?;

    let head: ModelHead<'_> = json(root.model.get(), "model")?;
    let (model, mut vocab, unk) = read_model(&head, decoder, &added)?;
    let mut by_id: HashSet<u32> = HashSet::new();
    for token in &added {
        if !by_id.insert(token.id) {
            return Err(wrong("added_tokens", format_args!("id {} is given twice", token.id)));
        }
        let known = model.token_to_id(&token.content);
        let taken = vocab.token(token.id).is_some_and(|other| other != token.content);
        if known.is_some_and(|id| id != token.id) || taken {
            return Err(wrong(
                "added_tokens",
                format_args!("{:?} does not fit the vocabulary at id {}", token.content, token.id),
            ));
        }
        check_id(token.id.into(), vocab.size() + added.len(), "added_tokens")?;
        vocab.add(token)?;
    }
    let post = read_post(&post, &vocab)?;
    Ok(Parts { model, vocab, unk, added, normalizer, pre_tokenizer, post })
}

/// An id must be near the number of tokens: a table of ids is as long as the largest.
pub(super) fn check_id(id: u64, count: usize, at: &str) -> Result<()> {
    let most = count as u64 * 2 + (1 << 16);
    if id >= most {
        return Err(wrong(at, format_args!("id {id} is far beyond the {count} tokens")));
    }
    Ok(())
}

fn read_added(raw: Option<&RawValue>) -> Result<Vec<AddedToken>> {
    #[derive(Deserialize)]
    struct Entry {
        id: u32,
        content: String,
        #[serde(default)]
        single_word: bool,
        #[serde(default)]
        lstrip: bool,
        #[serde(default)]
        rstrip: bool,
        #[serde(default)]
        normalized: bool,
        #[serde(default)]
        special: bool,
    }
    let Some(raw) = raw else { return Ok(Vec::new()) };
    let entries: List<Entry, MOST_ADDED> = json(raw.get(), "added_tokens")?;
    let mut seen: HashSet<&str> = HashSet::with_capacity(entries.0.len());
    for entry in &entries.0 {
        if entry.content.is_empty() {
            return Err(wrong("added_tokens", format_args!("the token {} is empty", entry.id)));
        }
        limit("an added token", entry.content.len(), MOST_ADDED_BYTES)?;
        if !seen.insert(&entry.content) {
            return Err(wrong("added_tokens", format_args!("{:?} twice", entry.content)));
        }
    }
    Ok(entries
        .0
        .into_iter()
        .map(|entry| AddedToken {
            id: entry.id,
            content: entry.content,
            single_word: entry.single_word,
            lstrip: entry.lstrip,
            rstrip: entry.rstrip,
            normalized: entry.normalized,
            special: entry.special,
        })
        .collect())
}

fn read_model(
    head: &ModelHead<'_>,
    decoder: Decoder,
    added: &[AddedToken],
) -> Result<(Model, Vocab, Option<u32>)> {
    // Files from before 2021 have no type; what they hold tells.
    let kind = match head.kind.as_deref() {
        Some(kind) => kind,
        None if head.merges.is_some() => "BPE",
        None if head.vocab.get().starts_with('[') => "Unigram",
        None if head.max_input_chars_per_word.is_some() => "WordPiece",
        None => return Err(wrong("model.type", "missing")),
    };
    if let Some(dropout) = head.dropout
        && !(0.0..=1.0).contains(&dropout)
    {
        return Err(wrong("model.dropout", "not a probability"));
    }
    for (name, text) in [
        ("model.continuing_subword_prefix", &head.continuing_subword_prefix),
        ("model.end_of_word_suffix", &head.end_of_word_suffix),
    ] {
        limit(name, text.as_deref().map_or(0, str::len), 64)?;
    }
    match kind {
        "BPE" => read_bpe(head, decoder, added),
        "Unigram" => read_unigram(head, decoder),
        "WordPiece" | "WordLevel" => {
            let vocab: TokenMap<HashMap<String, u32>> = json(head.vocab.get(), "model.vocab")?;
            let table = table(vocab.0.iter().map(|(token, &id)| (&**token, id)), decoder)?;
            let unk_token = head.unk_token.as_deref().unwrap_or("[UNK]");
            let unk = vocab.0.get(unk_token).copied();
            if kind == "WordLevel" {
                if unk.is_none() && head.unk_token.is_some() {
                    return Err(wrong("model.unk_token", "not in the vocabulary"));
                }
                return Ok((Model::WordLevel { vocab: vocab.0, unk }, table, unk));
            }
            let unk = unk.ok_or_else(|| wrong("model.unk_token", "not in the vocabulary"))?;
            let max_chars = head.max_input_chars_per_word.unwrap_or(100);
            if !(1..=1000).contains(&max_chars) {
                return Err(wrong("model.max_input_chars_per_word", "out of range"));
            }
            let model = WordPiece {
                unk,
                prefix: head.continuing_subword_prefix.clone().unwrap_or_else(|| "##".into()),
                max_chars: max_chars as usize,
                longest: vocab.0.keys().map(String::len).max().unwrap_or(1),
                vocab: vocab.0,
            };
            Ok((Model::WordPiece(model), table, Some(unk)))
        }
        other => Err(wrong("model.type", format_args!("{other:?} is not known"))),
    }
}

fn read_bpe(
    head: &ModelHead<'_>,
    decoder: Decoder,
    added: &[AddedToken],
) -> Result<(Model, Vocab, Option<u32>)> {
    let TokenMap(mut vocab) = json::<TokenMap<BpeVocab>>(head.vocab.get(), "model.vocab")?;
    let merges = head.merges.ok_or_else(|| wrong("model.merges", "missing"))?;
    let Merges(merges) = json(merges.get(), "model.merges")?;
    let table = table(vocab.iter().map(|(token, &id)| (&**token, id)), decoder)?;
    let prefix = head.continuing_subword_prefix.clone().filter(|prefix| !prefix.is_empty());
    let suffix = head.end_of_word_suffix.clone().filter(|suffix| !suffix.is_empty());

    limit("the number of merges", merges.len(), vocab.len() * 16 + 1024)?;
    check_merges(&vocab, &merges, prefix.as_deref())?;
    let byte_fallback = head.byte_fallback.unwrap_or(false);
    if byte_fallback && (0..=255u8).any(|b| !vocab.contains_key(&format!("<0x{b:02X}>"))) {
        return Err(wrong("model.byte_fallback", "a byte token is missing"));
    }
    let mut unk = None;
    if let Some(token) = head.unk_token.as_deref().filter(|token| !token.is_empty()) {
        let known = vocab
            .get(token)
            .copied()
            .or_else(|| added.iter().find(|a| a.content == token).map(|a| a.id))
            .ok_or_else(|| wrong("model.unk_token", "not in the vocabulary"))?;
        vocab.insert(token.to_owned(), known);
        unk = Some((token.to_owned(), known));
    }
    let model = Model::bpe(Bpe {
        vocab,
        merges,
        unk: unk.as_ref().map(|(token, _)| token.clone()),
        prefix,
        suffix,
        fuse_unk: head.fuse_unk.unwrap_or(false),
        byte_fallback,
        ignore_merges: head.ignore_merges.unwrap_or(false),
    })?;
    Ok((model, table, unk.map(|(_, id)| id)))
}

/// Merges must be made of tokens, and make tokens.
pub(super) fn check_merges(
    vocab: &BpeVocab,
    merges: &[(String, String)],
    prefix: Option<&str>,
) -> Result<()> {
    let mut joined = String::new();
    for (rank, (left, right)) in merges.iter().enumerate() {
        // The crate cuts the prefix off without looking.
        let tail = match prefix {
            Some(prefix) => right.strip_prefix(prefix).unwrap_or(""),
            None => right,
        };
        joined.clear();
        joined.push_str(left);
        joined.push_str(tail);
        let known = |token: &str| vocab.contains_key(token);
        if left.is_empty() || tail.is_empty() || !known(left) || !known(right) || !known(&joined) {
            let reason = format_args!("{left:?} + {right:?} is not made of tokens");
            return Err(wrong(&format!("model.merges[{rank}]"), reason));
        }
    }
    Ok(())
}

fn read_unigram(head: &ModelHead<'_>, decoder: Decoder) -> Result<(Model, Vocab, Option<u32>)> {
    let vocab: List<(String, f64), MOST_TOKENS> = json(head.vocab.get(), "model.vocab")?;
    let unk = match head.unk_id {
        Some(id) if id < vocab.0.len() as u64 => Some(id as usize),
        Some(id) => return Err(wrong("model.unk_id", format_args!("{id} is out of range"))),
        None => None,
    };
    let byte_fallback = head.byte_fallback.unwrap_or(false);
    unigram(vocab.0, unk, byte_fallback, decoder)
}

/// Checks and builds a Unigram model.
pub(super) fn unigram(
    vocab: Vec<(String, f64)>,
    unk: Option<usize>,
    byte_fallback: bool,
    decoder: Decoder,
) -> Result<(Model, Vocab, Option<u32>)> {
    if vocab.is_empty() {
        return Err(wrong("model.vocab", "empty"));
    }
    let mut seen: HashSet<&str> = HashSet::with_capacity(vocab.len());
    for (i, (piece, score)) in vocab.iter().enumerate() {
        let at = || format!("model.vocab[{i}]");
        if piece.is_empty() {
            return Err(wrong(&at(), "an empty piece"));
        }
        limit("a piece of a Unigram model", piece.len(), 1024)?;
        if !score.is_finite() || score.abs() > 1e9 {
            return Err(wrong(&at(), "the score is not a usable number"));
        }
        if !seen.insert(piece) {
            return Err(wrong(&at(), format_args!("{piece:?} is given twice")));
        }
    }
    if byte_fallback && (0..=255u8).any(|b| !seen.contains(&*format!("<0x{b:02X}>"))) {
        return Err(wrong("model.byte_fallback", "a byte token is missing"));
    }
    drop(seen);
    let table = table(vocab.iter().enumerate().map(|(i, (s, _))| (&**s, i as u32)), decoder)?;
    let model = Model::unigram(vocab, unk, byte_fallback)?;
    Ok((model, table, unk.map(|id| id as u32)))
}

/// The table of tokens, after a check that ids are dense and differ.
pub(super) fn table<'a>(
    tokens: impl Iterator<Item = (&'a str, u32)> + Clone,
    decoder: Decoder,
) -> Result<Vocab> {
    let (mut count, mut size) = (0, 0);
    for (_, id) in tokens.clone() {
        count += 1;
        size = size.max(id as usize + 1);
    }
    if size > 0 {
        check_id(size as u64 - 1, count, "model.vocab")?;
    }
    let mut seen = vec![false; size];
    for (token, id) in tokens.clone() {
        if std::mem::replace(&mut seen[id as usize], true) {
            return Err(wrong("model.vocab", format_args!("id {id} of {token:?} is given twice")));
        }
    }
    Vocab::new(size, tokens, decoder)
}

/// Reads the `post_processor` block down to the control tokens it puts around one sequence.
fn read_post(value: &Value, vocab: &Vocab) -> Result<Post> {
    let mut post = Post::default();
    if value.is_null() {
        return Ok(post);
    }
    let mut blocks = Vec::new();
    flatten(value, "processors", &mut blocks)?;
    for block in blocks {
        let block = Block { value: block };
        let one = match block.kind()? {
            "ByteLevel" => continue,
            "BertProcessing" | "RobertaProcessing" => {
                let id = |name| -> Result<u32> {
                    let pair = block.field(name)?;
                    let id = pair.get(1).and_then(Value::as_u64);
                    known(vocab, id, name)
                };
                Post { before: vec![id("cls")?], after: vec![id("sep")?] }
            }
            "TemplateProcessing" => template_processing(&block, vocab)?,
            other => {
                return Err(TextError::unsupported(FILE, format_args!("post_processor {other:?}")));
            }
        };
        post.before.splice(0..0, one.before);
        post.after.extend(one.after);
    }
    Ok(post)
}

fn known(vocab: &Vocab, id: Option<u64>, name: &str) -> Result<u32> {
    id.and_then(|id| u32::try_from(id).ok())
        .filter(|&id| vocab.token(id).is_some())
        .ok_or_else(|| wrong("post_processor", format_args!("{name}: not a token")))
}

fn template_processing(block: &Block<'_>, vocab: &Vocab) -> Result<Post> {
    let pieces = block.field("single")?.as_array();
    let pieces = pieces.ok_or_else(|| block.wrong("single must be a list"))?;
    limit("a post-processor template", pieces.len(), 64)?;
    let (mut post, mut inside) = (Post::default(), 0);
    for piece in pieces {
        let body = piece.get("SpecialToken").or_else(|| piece.get("Sequence"));
        let body = body.ok_or_else(|| block.wrong("unknown piece"))?;
        let type_id = body.get("type_id").and_then(Value::as_u64).unwrap_or(0);
        if u32::try_from(type_id).is_err() {
            return Err(block.wrong("type_id is out of range"));
        }
        if piece.get("Sequence").is_some() {
            if body.get("id").and_then(Value::as_str) != Some("A") {
                return Err(block.wrong("a single sequence is called A"));
            }
            inside += 1;
            continue;
        }
        let name = body.get("id").and_then(Value::as_str).unwrap_or_default();
        let ids = block
            .field("special_tokens")?
            .get(name)
            .and_then(|token| token.get("ids"))
            .and_then(Value::as_array)
            .ok_or_else(|| block.wrong(format_args!("{name:?} is not defined")))?;
        limit("a post-processor token", ids.len(), 64)?;
        let to = if inside == 0 { &mut post.before } else { &mut post.after };
        for id in ids {
            to.push(known(vocab, id.as_u64(), name)?);
        }
    }
    if inside != 1 {
        return Err(TextError::unsupported(FILE, "a template without exactly one sequence"));
    }
    Ok(post)
}

/// A JSON list of at most `MOST` elements.
struct List<T, const MOST: usize>(Vec<T>);

impl<'de, T: Deserialize<'de>, const MOST: usize> Deserialize<'de> for List<T, MOST> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct V<T, const MOST: usize>(std::marker::PhantomData<T>);
        impl<'de, T: Deserialize<'de>, const MOST: usize> Visitor<'de> for V<T, MOST> {
            type Value = List<T, MOST>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a list of at most {MOST} elements")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let mut out = Vec::new();
                while let Some(element) = seq.next_element()? {
                    if out.len() == MOST {
                        return Err(A::Error::custom(format_args!("more than {MOST} elements")));
                    }
                    out.push(element);
                }
                Ok(List(out))
            }
        }
        deserializer.deserialize_seq(V(std::marker::PhantomData))
    }
}

/// A JSON object of token strings and ids; a token may come once.
struct TokenMap<M>(M);

impl<'de, M> Deserialize<'de> for TokenMap<M>
where
    M: Default + Extend<(String, u32)> + MapLike,
{
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct V<M>(std::marker::PhantomData<M>);
        impl<'de, M: Default + Extend<(String, u32)> + MapLike> Visitor<'de> for V<M> {
            type Value = TokenMap<M>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of tokens and their ids")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut out = M::default();
                let mut count = 0;
                while let Some((token, id)) = map.next_entry::<String, u32>()? {
                    if token.len() > MOST_TOKEN_BYTES {
                        return Err(A::Error::custom("a token is too long"));
                    }
                    out.extend([(token, id)]);
                    count += 1;
                    if out.count() != count {
                        return Err(A::Error::custom("a token is given twice"));
                    }
                    if count > MOST_TOKENS {
                        return Err(A::Error::custom("too many tokens"));
                    }
                }
                Ok(TokenMap(out))
            }
        }
        deserializer.deserialize_map(V(std::marker::PhantomData))
    }
}

trait MapLike {
    fn count(&self) -> usize;
}

impl MapLike for HashMap<String, u32> {
    fn count(&self) -> usize {
        self.len()
    }
}

impl MapLike for BpeVocab {
    fn count(&self) -> usize {
        self.len()
    }
}

/// Merges in either form: `"a b"` or `["a", "b"]`.
struct Merges(Vec<(String, String)>);

impl<'de> Deserialize<'de> for Merges {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let list: List<Merge, { 8 << 20 }> = List::deserialize(deserializer)?;
        Ok(Merges(list.0.into_iter().filter_map(|merge| merge.0).collect()))
    }
}

/// One merge; none for the `#version` line that old files have.
struct Merge(Option<(String, String)>);

impl<'de> Deserialize<'de> for Merge {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct V;
        impl<'de> Visitor<'de> for V {
            type Value = Merge;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a merge of two tokens")
            }
            fn visit_str<E: serde::de::Error>(self, line: &str) -> Result<Merge, E> {
                if line.starts_with("#version") {
                    return Ok(Merge(None));
                }
                match line.split_once(' ') {
                    Some((left, right)) if !right.contains(' ') => {
                        Ok(Merge(Some((left.to_owned(), right.to_owned()))))
                    }
                    _ => Err(E::custom("a merge must have two parts")),
                }
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Merge, A::Error> {
                let two = || A::Error::custom("a merge must have two parts");
                let left = seq.next_element()?.ok_or_else(two)?;
                let right = seq.next_element()?.ok_or_else(two)?;
                if seq.next_element::<IgnoredAny>()?.is_some() {
                    return Err(two());
                }
                Ok(Merge(Some((left, right))))
            }
        }
        deserializer.deserialize_any(V)
    }
}

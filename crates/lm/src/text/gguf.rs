//! The tokenizers of GGUF files: vocabularies without a program to run them, named by kind.
//!
//! `llama` is SentencePiece's byte-pair encoding: pieces with scores, spaces written as `▁`, bytes as a
//! last resort. `gpt2` is byte-level byte-pair encoding: tokens and merges, and the name of the rules that
//! cut a text into words before. Those rules are a table here ([`rules`]); the names are llama.cpp's.

use std::collections::HashSet;

use serde_json::{Value, json};
use tokenizers::models::bpe::Vocab as BpeVocab;

use super::decoder::Decoder;
use super::error::{Result, TextError, limit};
use super::model::{Bpe, Model};
use super::normalizer::Normalizer;
use super::pattern::GPT2;
use super::pretokenizer::PreTokenizer;
use super::sentencepiece::{Kind, Options, Proto, parts};
use super::spec::{MOST_TOKEN_BYTES, MOST_TOKENS, Parts, Post, check_merges, table};
use super::vocab::AddedToken;

const FILE: &str = "tokenizer.ggml";

/// What a GGUF file says about its tokenizer: the values of its `tokenizer.` keys.
#[derive(Debug, Clone, Default)]
pub struct GgufVocab<'a> {
    /// `ggml.model`: `llama` or `gpt2`.
    pub model: &'a str,
    /// `ggml.pre`.
    pub pre: Option<&'a str>,
    /// `ggml.tokens`.
    pub tokens: Vec<&'a [u8]>,
    /// `ggml.scores`.
    pub scores: Option<&'a [f32]>,
    /// `ggml.token_type`.
    pub types: Option<Vec<i64>>,
    /// `ggml.merges`.
    pub merges: Option<Vec<&'a [u8]>>,
    /// `ggml.bos_token_id`.
    pub bos: Option<u32>,
    /// `ggml.eos_token_id`.
    pub eos: Option<u32>,
    /// `ggml.unknown_token_id`.
    pub unk: Option<u32>,
    /// `ggml.padding_token_id`.
    pub pad: Option<u32>,
    /// `ggml.eot_token_id`, `ggml.eom_token_id`: further ends.
    pub ends: Vec<u32>,
    /// `ggml.add_bos_token`.
    pub add_bos: Option<bool>,
    /// `ggml.add_eos_token`.
    pub add_eos: Option<bool>,
    /// `ggml.add_space_prefix`.
    pub add_space_prefix: Option<bool>,
    /// `ggml.remove_extra_whitespaces`.
    pub remove_extra_whitespaces: Option<bool>,
    /// `chat_template`, and those with names.
    pub templates: Vec<(&'a str, &'a str)>,
}

/// The texts of control tokens that end a turn in one model or another, where the file names none.
const ENDS: [&str; 9] = [
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "<|eom_id|>",
    "<EOT>",
    "<|end_of_text|>",
    "<|end_of_turn|>",
];

/// How texts are cut before byte-pair encoding.
struct Rules {
    /// Expressions that are applied one after the other; what they match, and what they leave, are words.
    split: Vec<&'static str>,
    /// Whether a word that is a token is taken whole.
    ignore_merges: bool,
    /// Whether texts begin with the first token where the file does not say.
    add_bos: bool,
}

fn wrong(at: &str, reason: impl std::fmt::Display) -> TextError {
    TextError::malformed(FILE, at, reason)
}

/// The name of the rules by which a `tokenizer.json` cuts texts into words, if they have one.
pub(crate) fn pre_tokenizer_name(json: &Value) -> Option<&'static str> {
    let mut split: Vec<String> = Vec::new();
    let steps = match json["pretokenizers"].as_array() {
        Some(steps) => steps.iter().collect(),
        None => vec![json],
    };
    for step in steps {
        match step["type"].as_str()? {
            "Split" => split.push(step["pattern"]["Regex"].as_str()?.to_string()),
            "Digits" if step["individual_digits"] == true => split.push(r"\p{N}".to_string()),
            "ByteLevel" if step["add_prefix_space"] == true => return None,
            "ByteLevel" if step["use_regex"] != false => split.push(GPT2.to_string()),
            "ByteLevel" => {}
            _ => return None,
        }
    }
    let known = ["gpt-2", "llama-bpe", "qwen2", "tekken", "gpt-4o", "smollm", "dbrx"];
    known.into_iter().find(|name| rules(name).is_ok_and(|rules| rules.split == split))
}

/// The rules of a pre-tokenizer by its name.
fn rules(pre: &str) -> Result<Rules> {
    const DIGIT: &str = r"\p{N}";
    const LLAMA3: &str = r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
    const QWEN2: &str = r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
    const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
    const O200K: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
    const BLOOM: &str = r" ?[^(\s|.,!?…。，、।۔،)]+";
    let (split, ignore_merges, add_bos): (&[&str], bool, bool) = match pre {
        "default" => {
            let marks = r"[\p{P}\$\+<=>\^~\|]+";
            (&[marks, GPT2, r"\p{N}+", "[0-9][0-9][0-9]"], false, false)
        }
        "llama3" | "llama-v3" | "llama-bpe" | "falcon3" | "falcon-h1" | "pixtral" | "lfm2" => {
            (&[LLAMA3], true, true)
        }
        "dbrx" | "smaug-bpe" | "chatglm-bpe" => (&[LLAMA3], false, false),
        "qwen2" | "deepseek-r1-qwen" | "megrez" | "stablelm2" => (&[QWEN2], false, false),
        "gpt-2" | "phi-2" | "mpt" | "olmo" | "jais" | "gigachat" | "roberta-bpe" | "mellum"
        | "jina-es" | "jina-de" | "jina-v1-en" | "jina-v2-es" | "jina-v2-de" | "jina-v2-code" => {
            (&[GPT2], false, false)
        }
        "starcoder" | "refact" | "command-r" | "smollm" | "codeshell" | "exaone" | "minerva-7b" => {
            (&[DIGIT, GPT2], false, false)
        }
        "falcon" => (&[r"[\p{P}\$\+<=>\^~\|`]+", GPT2, "[0-9][0-9][0-9]"], false, false),
        "deepseek-coder" => {
            (&["[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[一-龥ࠀ-一가-퟿]+", DIGIT], false, false)
        }
        "deepseek-v3" => {
            let rest = r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"##;
            (&[r"\p{N}{1,3}", "[一-龥぀-ゟ゠-ヿ]+", rest], false, false)
        }
        "tekken" => (&[TEKKEN], true, true),
        "gpt-4o" | "llama4" => (&[O200K], false, false),
        "bloom" | "poro-chat" | "gpt3-finnish" => (&[BLOOM], false, false),
        "viking" => (&[BLOOM, DIGIT], false, false),
        other => {
            let other = super::error::clip(other);
            return Err(TextError::unsupported(FILE, format_args!("the pre-tokenizer {other:?}")));
        }
    };
    Ok(Rules { split: split.to_vec(), ignore_merges, add_bos })
}

/// A vocabulary, read: its parts, and whether a text begins and ends with tokens of its own.
pub(super) struct Read {
    pub(super) parts: Parts,
    pub(super) add_bos: bool,
    pub(super) add_eos: bool,
    /// Tokens that end a generation.
    pub(super) ends: Vec<u32>,
}

/// Reads a vocabulary.
pub(super) fn read(vocab: &GgufVocab<'_>) -> Result<Read> {
    let count = vocab.tokens.len();
    limit("the number of tokens", count, MOST_TOKENS)?;
    if count == 0 {
        return Err(wrong("tokens", "there are none"));
    }
    for (name, length) in [
        ("scores", vocab.scores.map(<[f32]>::len)),
        ("token_type", vocab.types.as_ref().map(Vec::len)),
    ] {
        if length.is_some_and(|length| length != count) {
            let reason = format!("{} values for {count} tokens", length.unwrap_or(0));
            return Err(wrong(name, reason));
        }
    }
    for (name, id) in [
        ("bos_token_id", vocab.bos),
        ("eos_token_id", vocab.eos),
        ("unknown_token_id", vocab.unk),
        ("padding_token_id", vocab.pad),
    ]
    .into_iter()
    .chain(vocab.ends.iter().map(|&id| ("eot_token_id", Some(id))))
    {
        if id.is_some_and(|id| id as usize >= count) {
            return Err(wrong(name, format_args!("{} of {count} tokens", id.unwrap_or(0))));
        }
    }
    let mut kinds = Vec::with_capacity(count);
    for (i, kind) in vocab.types.iter().flatten().enumerate() {
        kinds.push(match kind {
            0 | 1 => Kind::Normal,
            2 => Kind::Unknown,
            3 => Kind::Control,
            4 => Kind::UserDefined,
            5 => Kind::Unused,
            6 => Kind::Byte,
            other => return Err(wrong(&format!("token_type[{i}]"), format_args!("{other}"))),
        });
    }
    kinds.resize(count, Kind::Normal);
    let (parts, add_bos) = match vocab.model {
        "llama" => (spm(vocab, &kinds)?, true),
        "gpt2" => bpe(vocab, &kinds)?,
        other => {
            let other = super::error::clip(other);
            return Err(TextError::unsupported(FILE, format_args!("the model {other:?}")));
        }
    };
    let special = parts.added.iter().filter(|token| token.special);
    let mut ends: Vec<u32> =
        special.filter(|t| ENDS.contains(&t.content.as_str())).map(|t| t.id).collect();
    if !vocab.ends.is_empty() {
        ends.clone_from(&vocab.ends);
    }
    ends.extend(vocab.eos);
    let add_bos = vocab.add_bos.unwrap_or(add_bos);
    Ok(Read { parts, add_bos, add_eos: vocab.add_eos.unwrap_or(false), ends })
}

/// The texts of all tokens, which must differ and not be empty.
fn texts(vocab: &GgufVocab<'_>, lossy: bool) -> Result<Vec<String>> {
    let mut texts = Vec::with_capacity(vocab.tokens.len());
    let mut seen: HashSet<&[u8]> = HashSet::with_capacity(vocab.tokens.len());
    for (i, &token) in vocab.tokens.iter().enumerate() {
        let at = || format!("tokens[{i}]");
        if token.is_empty() {
            return Err(wrong(&at(), "an empty token"));
        }
        limit("a token", token.len(), MOST_TOKEN_BYTES)?;
        if !seen.insert(token) {
            return Err(wrong(&at(), "the token is given twice"));
        }
        texts.push(match std::str::from_utf8(token) {
            Ok(text) => text.to_owned(),
            // Byte-level tokens spell bytes as characters: no text ever becomes this one.
            Err(_) if lossy => format!("\u{fffd}{i}"),
            Err(_) => return Err(wrong(&at(), "not UTF-8")),
        });
    }
    Ok(texts)
}

/// A SentencePiece model of byte pairs.
fn spm(vocab: &GgufVocab<'_>, kinds: &[Kind]) -> Result<Parts> {
    let texts = texts(vocab, false)?;
    let mut bytes = [false; 256];
    for (i, (text, kind)) in texts.iter().zip(kinds).enumerate() {
        if *kind == Kind::Byte {
            let digits = text.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>'));
            let byte = digits
                .filter(|d| d.len() == 2 && d.bytes().all(|b| b.is_ascii_hexdigit()))
                .and_then(|digits| u8::from_str_radix(digits, 16).ok())
                .ok_or_else(|| wrong(&format!("tokens[{i}]"), "not the token of a byte"))?;
            bytes[usize::from(byte)] = true;
        }
    }
    let zeros = vec![0.0; texts.len()];
    let scores = vocab.scores.unwrap_or(&zeros);
    if let Some(i) = scores.iter().position(|score| !score.is_finite()) {
        return Err(wrong(&format!("scores[{i}]"), "not a number"));
    }
    let some = bytes.contains(&true);
    if some && bytes.contains(&false) {
        return Err(wrong("tokens", "the token of a byte is missing"));
    }
    let id =
        |id: Option<u32>, default: i32| id.and_then(|id| i32::try_from(id).ok()).unwrap_or(default);
    let pieces = texts.into_iter().zip(scores).zip(kinds);
    let proto = Proto {
        pieces: pieces.map(|((text, &score), &kind)| (text, score, kind)).collect(),
        bpe: true,
        byte_fallback: some,
        unk: id(vocab.unk, 0),
        bos: id(vocab.bos, 1),
        eos: id(vocab.eos, 2),
        charsmap: Vec::new(),
        dummy_prefix: vocab.add_space_prefix.unwrap_or(true),
        collapse: vocab.remove_extra_whitespaces.unwrap_or(false),
    };
    parts(&proto, Options { legacy: true, bos: false, eos: false })
}

/// A byte-level model of byte pairs; whether texts begin with the first token by default.
fn bpe(vocab: &GgufVocab<'_>, kinds: &[Kind]) -> Result<(Parts, bool)> {
    let pre = match vocab.pre {
        Some(pre) => pre,
        None => {
            tracing::warn!("the file does not name its pre-tokenizer; the default may not fit");
            "default"
        }
    };
    let rules = rules(pre)?;
    let texts = texts(vocab, true)?;
    let merges = vocab.merges.as_ref().ok_or_else(|| wrong("merges", "missing"))?;
    limit("the number of merges", merges.len(), texts.len() * 16 + 1024)?;
    let mut pairs = Vec::with_capacity(merges.len());
    for (i, merge) in merges.iter().enumerate() {
        let pair = std::str::from_utf8(merge).ok().and_then(|merge| merge.split_once(' '));
        match pair {
            Some((left, right)) if !right.contains(' ') => {
                pairs.push((left.to_owned(), right.to_owned()));
            }
            _ => return Err(wrong(&format!("merges[{i}]"), "not two tokens with a space between")),
        }
    }
    let ids = |i: usize| u32::try_from(i).unwrap_or(u32::MAX);
    let tokens: BpeVocab =
        texts.iter().enumerate().map(|(i, text)| (text.clone(), ids(i))).collect();
    check_merges(&tokens, &pairs, None)?;
    let byte_level = json!({"type": "ByteLevel", "add_prefix_space": false, "use_regex": false});
    let decoder = Decoder::from_json(&byte_level)?;
    let mut table = table(texts.iter().enumerate().map(|(i, t)| (t.as_str(), ids(i))), decoder)?;
    let mut added = Vec::new();
    for (i, (text, kind)) in texts.iter().zip(kinds).enumerate() {
        if matches!(kind, Kind::Control | Kind::UserDefined | Kind::Unknown) {
            added.push(AddedToken {
                id: ids(i),
                content: text.clone(),
                single_word: false,
                lstrip: false,
                rstrip: false,
                normalized: false,
                special: *kind != Kind::UserDefined,
            });
        }
    }
    for token in &added {
        table.add(token)?;
    }
    let split = |regex: &&str| json!({"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": false});
    let mut steps: Vec<Value> = rules.split.iter().map(split).collect();
    steps.push(byte_level);
    let pre_tokenizer =
        PreTokenizer::from_json(&json!({"type": "Sequence", "pretokenizers": steps}))?;
    let model = Model::bpe(Bpe {
        vocab: tokens,
        merges: pairs,
        ignore_merges: rules.ignore_merges,
        ..Bpe::default()
    })?;
    let parts = Parts {
        model,
        vocab: table,
        unk: vocab.unk,
        added,
        normalizer: Normalizer::from_json(&Value::Null)?,
        pre_tokenizer,
        post: Post::default(),
    };
    Ok((parts, rules.add_bos))
}

#[cfg(test)]
mod tests {
    use super::super::{HfTokenizer, TextModel};
    use super::*;

    fn gpt2<'a>() -> GgufVocab<'a> {
        GgufVocab {
            model: "gpt2",
            pre: Some("gpt-2"),
            tokens: vec![b"a", b"b", b"ab", "Ġ".as_bytes(), "Ġab".as_bytes(), b"<end>"],
            types: Some(vec![1, 1, 1, 1, 1, 3]),
            merges: Some(vec![b"a b", "Ġ ab".as_bytes()]),
            eos: Some(5),
            ..GgufVocab::default()
        }
    }

    fn llama<'a>() -> GgufVocab<'a> {
        GgufVocab {
            model: "llama",
            tokens: vec![
                b"<unk>",
                b"<s>",
                b"</s>",
                "▁".as_bytes(),
                b"a",
                b"b",
                b"ab",
                "▁ab".as_bytes(),
            ],
            scores: Some(&[0.0, 0.0, 0.0, -5.0, -6.0, -7.0, -1.0, -2.0]),
            types: Some(vec![2, 3, 3, 1, 1, 1, 1, 1]),
            ..GgufVocab::default()
        }
    }

    fn ids(vocab: &GgufVocab<'_>, text: &str, special: bool) -> Vec<u32> {
        use super::super::Tokenizer as _;
        HfTokenizer::from_gguf(vocab).unwrap().encode(text, special).unwrap()
    }

    #[test]
    fn both_kinds_encode() {
        assert_eq!(ids(&gpt2(), "ab abb", true), [2, 4, 1]);
        assert_eq!(ids(&GgufVocab { add_eos: Some(true), ..gpt2() }, "ab", true), [2, 5]);
        let with_bos = GgufVocab { bos: Some(1), eos: Some(2), ..llama() };
        assert_eq!(ids(&with_bos, "ab a", true), [1, 7, 3, 4]);
        assert_eq!(ids(&with_bos, "ab a", false), [7, 3, 4]);
        assert_eq!(ids(&GgufVocab { add_bos: Some(false), ..with_bos }, "b", true), [3, 5]);
        let plain = GgufVocab { add_space_prefix: Some(false), ..llama() };
        assert_eq!(ids(&plain, "ab", false), [6]);
        let text = TextModel::from_gguf(&gpt2()).unwrap();
        assert_eq!(text.end_tokens().collect::<Vec<_>>(), [5]);
        assert_eq!(text.tokenizer().decode(&[2, 4, 5], true), "ab ab");
    }

    #[test]
    fn every_rule_is_a_pattern() {
        for pre in [
            "default",
            "llama-bpe",
            "smaug-bpe",
            "qwen2",
            "gpt-2",
            "smollm",
            "falcon",
            "deepseek-coder",
            "deepseek-v3",
            "tekken",
            "gpt-4o",
            "bloom",
            "viking",
        ] {
            assert!(
                !ids(&GgufVocab { pre: Some(pre), ..gpt2() }, "ab ab ab", false).is_empty(),
                "{pre}"
            );
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let bad = |name: &str, vocab: GgufVocab<'_>| {
            let error = HfTokenizer::from_gguf(&vocab).err();
            assert!(error.is_some(), "{name} was taken");
        };
        bad("no tokens", GgufVocab { tokens: vec![], ..gpt2() });
        bad("scores", GgufVocab { scores: Some(&[0.0]), ..llama() });
        bad("a score that is none", GgufVocab { scores: Some(&[f32::NAN; 8]), ..llama() });
        bad("types", GgufVocab { types: Some(vec![1]), ..gpt2() });
        bad("a type", GgufVocab { types: Some(vec![1, 1, 1, 1, 1, 7]), ..gpt2() });
        for id in [6, u32::MAX] {
            bad("bos", GgufVocab { bos: Some(id), ..gpt2() });
            bad("eos", GgufVocab { eos: Some(id), ..gpt2() });
            bad("unk", GgufVocab { unk: Some(id), ..gpt2() });
            bad("ends", GgufVocab { ends: vec![id], ..gpt2() });
        }
        bad("a merge of one", GgufVocab { merges: Some(vec![b"ab"]), ..gpt2() });
        bad("a merge of three", GgufVocab { merges: Some(vec![b"a b b"]), ..gpt2() });
        bad("a merge of nothing", GgufVocab { merges: Some(vec![b" b"]), ..gpt2() });
        bad("a merge of strangers", GgufVocab { merges: Some(vec![b"a c"]), ..gpt2() });
        bad("a merge to a stranger", GgufVocab { merges: Some(vec![b"b a"]), ..gpt2() });
        bad("no merges", GgufVocab { merges: None, ..gpt2() });
        bad(
            "an empty token",
            GgufVocab { tokens: vec![b"a", b"b", b"ab", b"", b"x", b"y"], ..gpt2() },
        );
        bad(
            "a token twice",
            GgufVocab { tokens: vec![b"a", b"b", b"ab", b"b", b"x", b"y"], ..gpt2() },
        );
        bad("a model", GgufVocab { model: "bert", ..gpt2() });
        bad("rules", GgufVocab { pre: Some("unheard-of"), ..gpt2() });
        for token in ["<0xZZ>", "<0x-1>", "<0x+1>", "<0x1>", "x"] {
            let mut vocab = llama();
            vocab.tokens[3] = token.as_bytes();
            vocab.types = Some(vec![2, 3, 3, 6, 1, 1, 1, 1]);
            bad(token, vocab);
        }
        let mut odd = llama();
        odd.tokens[4] = b"\xff";
        bad("bytes that are no text", odd);
        let mut odd = gpt2();
        odd.tokens[5] = b"\xff";
        assert_eq!(ids(&odd, "ab", false), [2]);
    }
}

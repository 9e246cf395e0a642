//! The text side of a model folder: tokenizer, chat template and end tokens together.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::chat::Chat;
use super::error::{Result, TextError, limit};
use super::gguf::GgufVocab;
use super::spec::json_text;
use super::stop::StopRules;
use super::template::{ChatTemplate, Prompt};
use super::tokenizer::{HfTokenizer, Tokenizer};

/// The files of a model folder that say how it reads and writes text, as bytes.
#[derive(Debug, Clone, Copy, Default)]
pub struct TextFiles<'a> {
    /// `tokenizer.json`.
    pub tokenizer_json: Option<&'a [u8]>,
    /// `tokenizer.model` (SentencePiece), used where there is no `tokenizer.json`.
    pub tokenizer_model: Option<&'a [u8]>,
    /// `tokenizer_config.json`.
    pub tokenizer_config: Option<&'a [u8]>,
    /// `special_tokens_map.json`.
    pub special_tokens_map: Option<&'a [u8]>,
    /// `chat_template.jinja`.
    pub chat_template: Option<&'a [u8]>,
    /// `chat_template.json`.
    pub chat_template_json: Option<&'a [u8]>,
    /// `generation_config.json`.
    pub generation_config: Option<&'a [u8]>,
    /// `config.json`.
    pub config: Option<&'a [u8]>,
}

/// A model's way with text.
#[derive(Clone)]
pub struct TextModel {
    tokenizer: Arc<dyn Tokenizer>,
    template: Option<ChatTemplate>,
    end: BTreeSet<u32>,
}

impl std::fmt::Debug for TextModel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TextModel")
            .field("vocab_size", &self.tokenizer.vocab_size())
            .field("template", &self.template.is_some())
            .field("end", &self.end)
            .finish()
    }
}

impl TextModel {
    /// Reads a model folder's files.
    ///
    /// # Errors
    /// If there is no tokenizer, or a file is malformed.
    pub fn load(files: &TextFiles<'_>) -> Result<Self> {
        let tokenizer: Arc<dyn Tokenizer> = match (files.tokenizer_json, files.tokenizer_model) {
            (Some(json), _) => Arc::new(HfTokenizer::from_json_with(
                json,
                files.tokenizer_config,
                files.special_tokens_map,
            )?),
            (None, Some(model)) => Arc::new(HfTokenizer::from_sentencepiece(
                model,
                files.tokenizer_config,
                files.special_tokens_map,
            )?),
            (None, None) => {
                let reason = "there is neither a tokenizer.json nor a tokenizer.model";
                return Err(TextError::Invalid(reason.into()));
            }
        };
        let mut template = ChatTemplate::from_files(
            files.chat_template,
            files.chat_template_json,
            files.tokenizer_config,
        )?;
        if let Some(template) = &mut template {
            for (bytes, file) in [
                (files.special_tokens_map, "special_tokens_map.json"),
                (files.tokenizer_config, "tokenizer_config.json"),
            ] {
                if let Some(bytes) = bytes {
                    template.set_tokens(&special_texts(bytes, file)?);
                }
            }
            template.set_added_tokens(&tokenizer.added_tokens())?;
        }
        let mut end = BTreeSet::new();
        end.extend(tokenizer.special_ids().eos);
        for (bytes, file) in
            [(files.generation_config, "generation_config.json"), (files.config, "config.json")]
        {
            if let Some(bytes) = bytes {
                end.extend(end_tokens(bytes, file)?);
            }
        }
        Ok(TextModel { tokenizer, template, end })
    }

    /// The text side of a GGUF file.
    ///
    /// # Errors
    /// If the vocabulary or a chat template is malformed, or of a kind that is not known.
    pub fn from_gguf(vocab: &GgufVocab<'_>) -> Result<Self> {
        let (tokenizer, ends) = HfTokenizer::from_gguf_with_ends(vocab)?;
        let mut template = None;
        if !vocab.templates.is_empty() {
            let mut made = ChatTemplate::from_named(vocab.templates.iter().copied())?;
            let special = tokenizer.special_ids();
            for (name, id) in [
                ("bos_token", special.bos),
                ("eos_token", special.eos),
                ("pad_token", special.pad),
                ("unk_token", special.unk),
            ] {
                if let Some(text) = id.and_then(|id| tokenizer.id_to_token(id)) {
                    made = made.with_token(name, text);
                }
            }
            made.set_added_tokens(&tokenizer.added_tokens())?;
            template = Some(made);
        }
        Ok(TextModel { tokenizer: Arc::new(tokenizer), template, end: ends.into_iter().collect() })
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &Arc<dyn Tokenizer> {
        &self.tokenizer
    }

    /// The chat templates, if the model has any.
    pub fn template(&self) -> Option<&ChatTemplate> {
        self.template.as_ref()
    }

    /// Replaces the chat template, with the quoting of this model's control tokens.
    ///
    /// # Errors
    /// If the tokens are too many to quote.
    pub fn set_template(&mut self, mut template: ChatTemplate) -> Result<()> {
        template.set_added_tokens(&self.tokenizer.added_tokens())?;
        self.template = Some(template);
        Ok(())
    }

    /// The tokens that end a generation: those of `generation_config.json`, of `config.json` and of
    /// the tokenizer, and what was added.
    pub fn end_tokens(&self) -> impl Iterator<Item = u32> {
        self.end.iter().copied()
    }

    /// Makes a token an end token, by its text.
    ///
    /// # Errors
    /// If the text is not one token.
    pub fn add_end_token(&mut self, text: &str) -> Result<()> {
        let id = self.tokenizer.token_to_id(text).ok_or_else(|| {
            let text = super::error::clip(text);
            TextError::Invalid(format!("{text:?} is not a token of this model"))
        })?;
        self.end.insert(id);
        Ok(())
    }

    /// Rules for ending a generation: this model's end tokens and the stop strings of a request.
    ///
    /// # Errors
    /// If a stop string is not acceptable.
    pub fn stop_rules(&self, strings: impl IntoIterator<Item = String>) -> Result<StopRules> {
        StopRules::new(self.end_tokens(), strings)
    }

    /// Renders a conversation.
    ///
    /// # Errors
    /// If there is no template, or it fails.
    pub fn render(&self, chat: &Chat) -> Result<Prompt> {
        self.template.as_ref().ok_or(TextError::NoTemplate)?.render(chat)
    }

    /// The tokens of a conversation.
    ///
    /// # Errors
    /// As [`TextModel::render`], or if the prompt cannot be encoded.
    pub fn encode_chat(&self, chat: &Chat) -> Result<Vec<u32>> {
        self.tokenizer.encode_prompt(&self.render(chat)?)
    }
}

/// The fields of a file that name special tokens.
fn special_texts(bytes: &[u8], file: &'static str) -> Result<Map<String, Value>> {
    #[derive(Deserialize)]
    struct Names {
        #[serde(default)]
        bos_token: Value,
        #[serde(default)]
        eos_token: Value,
        #[serde(default)]
        pad_token: Value,
        #[serde(default)]
        unk_token: Value,
    }
    let names: Names = serde_json::from_str(json_text(bytes, file, 32 << 20)?)
        .map_err(|error| TextError::malformed(file, "the file", error))?;
    Ok([
        ("bos_token", names.bos_token),
        ("eos_token", names.eos_token),
        ("pad_token", names.pad_token),
        ("unk_token", names.unk_token),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .collect())
}

/// The `eos_token_id` of a configuration: none, one or several.
fn end_tokens(bytes: &[u8], file: &'static str) -> Result<Vec<u32>> {
    #[derive(Deserialize)]
    struct Holder {
        #[serde(default)]
        eos_token_id: Value,
        #[serde(default)]
        text_config: Option<Inner>,
    }
    #[derive(Deserialize)]
    struct Inner {
        #[serde(default)]
        eos_token_id: Value,
    }
    const MOST: usize = 1024;
    let text = without_python_numbers(json_text(bytes, file, 32 << 20)?);
    let holder: Holder = serde_json::from_str(&text)
        .map_err(|error| TextError::malformed(file, "the file", error))?;
    let mut out = Vec::new();
    let inner = holder.text_config.map(|inner| inner.eos_token_id);
    for value in [Some(holder.eos_token_id), inner].into_iter().flatten() {
        let list = match value {
            Value::Null => continue,
            Value::Array(list) => list,
            one => vec![one],
        };
        limit("the list of end tokens", list.len(), MOST)?;
        for id in list {
            let id = id
                .as_u64()
                .and_then(|id| u32::try_from(id).ok())
                .ok_or_else(|| TextError::malformed(file, "eos_token_id", "not a token id"))?;
            out.push(id);
        }
    }
    Ok(out)
}

/// Python writes `NaN` and `Infinity` into JSON (the limits of state-space models, for one); here they
/// are `null`.
fn without_python_numbers(text: &str) -> Cow<'_, str> {
    if !text.contains("NaN") && !text.contains("Infinity") {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let (mut quoted, mut escaped) = (false, false);
    while let Some(c) = rest.chars().next() {
        let word = ["NaN", "-Infinity", "Infinity"].into_iter().find(|w| rest.starts_with(w));
        if let Some(word) = word.filter(|_| !quoted) {
            out.push_str("null");
            rest = &rest[word.len()..];
            continue;
        }
        quoted ^= c == '"' && !escaped;
        escaped = quoted && c == '\\' && !escaped;
        out.push(c);
        rest = &rest[c.len_utf8()..];
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn end_tokens_are_one_or_several_or_none() {
        let read = |json: &str| end_tokens(json.as_bytes(), "config.json");
        assert_eq!(read(r#"{"eos_token_id": 2}"#).unwrap(), [2]);
        assert_eq!(read(r#"{"eos_token_id": [2, 3]}"#).unwrap(), [2, 3]);
        assert_eq!(read(r#"{"eos_token_id": null, "a": [NaN, -Infinity]}"#).unwrap(), [0u32; 0]);
        assert_eq!(read(r#"{"text_config": {"eos_token_id": 7}, "s": "\\\"NaN"}"#).unwrap(), [7]);
        for bad in [r#"{"eos_token_id": -1}"#, r#"{"eos_token_id": "x"}"#, "[", "{"] {
            assert!(read(bad).is_err(), "{bad}");
        }
        let long = format!(r#"{{"eos_token_id": {:?}}}"#, vec![1; 2000]);
        assert!(matches!(read(&long), Err(TextError::TooLarge { .. })));
    }
}

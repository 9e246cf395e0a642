//! Text in and out of a language model: tokenizers, streaming detokenization, chat templates, stops.
//!
//! Everything here takes bytes and gives typed errors; nothing touches a file system, a network or an
//! array. [`TextModel`] puts the parts of one model folder together:
//!
//! ```text
//!   Chat ──ChatTemplate──▶ Prompt ──Tokenizer──▶ ids ──▶ the model ──▶ ids
//!                                                                      │
//!   shown text ◀──StopChecker── text ◀──Detokenizer────────────────────┘
//! ```
//!
//! The files come from strangers and the messages from others: sizes, depths, steps and growth are
//! bounded everywhere, control tokens in quoted text stay text, and what is refused is refused with
//! an error that says where. There is no fallback chat template: a model without one answers
//! [`TextError::NoTemplate`], and a caller who wants a plain prompt encodes it.

mod chat;
mod decoder;
mod detokenizer;
mod error;
mod gguf;
mod jinja;
mod model;
mod normalizer;
mod pattern;
mod pretokenizer;
mod sentencepiece;
mod spec;
mod stop;
mod template;
mod text_model;
mod tokenizer;
mod vocab;

pub use chat::{Chat, Message};
pub use decoder::DecoderKind;
pub use detokenizer::Detokenizer;
pub use error::{Result, TextError};
pub use gguf::GgufVocab;
pub(crate) use gguf::pre_tokenizer_name;
pub use jinja::TemplateLimits;
pub use stop::{Stop, StopChecker, StopRules};
pub use template::{ChatTemplate, Prompt};
pub use text_model::{TextFiles, TextModel};
pub use tokenizer::{HfTokenizer, SpecialIds, Tokenizer};
pub use vocab::Control;

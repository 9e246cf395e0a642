//! Text in and out of a language model.
mod decoder;
mod detokenizer;
mod error;
mod model;
mod normalizer;
mod pattern;
mod pretokenizer;
mod sentencepiece;
mod spec;
mod stop;
mod template;
mod tokenizer;
mod vocab;

pub use decoder::DecoderKind;
pub use detokenizer::Detokenizer;
pub use error::{Result, TextError};
pub use stop::{Stop, StopChecker, StopRules};
pub use template::Prompt;
pub use tokenizer::{HfTokenizer, SpecialIds, Tokenizer};
pub use vocab::Control;

//! Lazul's language models: tokenizers, chat templates, caches, the Llama family, sampling and
//! generation.
//!
//! A [`Checkpoint`] is a model with its tokenizer, opened from a folder, the hub, a GGUF file or the
//! program's own bytes. [`Checkpoint::stream`] generates text. Below it, [`generate`] makes tokens from a
//! [`LanguageModel`](models::LanguageModel), [`sample`] chooses them, [`cache`] remembers keys and values, [`tune`] fine-tunes, [`pretrain`]
//! makes a model of texts, and [`text`] is
//! everything about characters.

#![forbid(unsafe_code)]

pub mod cache;
pub mod checkpoint;
pub mod config;
pub mod error;
pub mod generate;
mod gguf;
pub mod models;
mod order;
pub mod pretrain;
mod publish;
pub mod rope;
pub mod sample;
pub mod stream;
pub mod text;
pub mod tune;

pub use cache::{KvCache, Stored};
pub use checkpoint::Checkpoint;
pub use error::{Error, Result};
pub use generate::GenerateOptions;
pub use gguf::export_gguf;
pub use sample::Sampling;
pub use stream::{Finish, Piece, Stats, TextStream};

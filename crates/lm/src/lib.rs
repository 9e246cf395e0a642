//! Lazul's language models: tokenizers, chat templates, caches, the Llama family, sampling and generation.

#![forbid(unsafe_code)]

pub mod cache;
pub mod config;
pub mod error;
pub mod generate;
pub mod models;
pub mod rope;
pub mod sample;
pub mod text;

pub use error::{Error, Result};

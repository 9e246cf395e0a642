//! Lazul's language models: tokenizers, chat templates, caches, the Llama family, sampling and generation.

#![forbid(unsafe_code)]

pub mod text;

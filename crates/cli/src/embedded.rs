//! The model that is part of the program: it has read the documentation of Rust.

use lazul_lm::checkpoint::EmbeddedFiles;

/// Its name in messages.
pub(crate) const NAME: &str = "rust-docs-lm (built in)";

macro_rules! files {
    ($($name:literal)*) => {
        &[$(($name, include_bytes!(concat!("../../../assets/rust-docs-lm/", $name)))),*]
    };
}

/// Its files.
pub(crate) const FILES: EmbeddedFiles = files! {
    "config.json"
    "generation_config.json"
    "model.safetensors"
    "tokenizer.json"
    "tokenizer_config.json"
};

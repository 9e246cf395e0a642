//! What the metadata of a GGUF file say, by key and type.

use super::{Gguf, GgufList, GgufValue, TextList};
use crate::error::{Error, Result};
use std::fmt;

impl Gguf {
    /// Keys and values of the metadata, sorted by key.
    ///
    /// ```
    /// # use lazul_core::prelude::*;
    /// # use lazul_io::gguf::{Gguf, GgufList, GgufValue, save_gguf};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("model.gguf");
    /// # let w = ones([2, 3], DType::F32);
    /// let named = GgufValue::Text("tiny".into());
    /// save_gguf(&path, [("w", &w)], &[("general.name", named), ("a.count", GgufValue::U32(2))])?;
    /// let file = Gguf::open(&path)?;
    /// let keys: Vec<&str> = file.metadata().map(|(key, _)| key).collect();
    /// assert_eq!(keys, ["a.count", "general.name"]);
    /// # Ok(()) }
    /// ```
    pub fn metadata(&self) -> impl ExactSizeIterator<Item = (&str, &GgufValue)> {
        self.metadata.iter().map(|(key, (_, value))| (&**key, value))
    }

    /// The value of a key, of whatever type; `None` when there is no such key.
    /// [`text`](Self::text), [`count`](Self::count) and their neighbours also check the type.
    ///
    /// ```
    /// # use lazul_core::prelude::*;
    /// # use lazul_io::gguf::{Gguf, GgufList, GgufValue, save_gguf};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("model.gguf");
    /// # let w = ones([2, 3], DType::F32);
    /// save_gguf(&path, [("w", &w)], &[("a.count", GgufValue::U32(2))])?;
    /// let file = Gguf::open(&path)?;
    /// assert_eq!(file.value("a.count"), Some(&GgufValue::U32(2)));
    /// assert_eq!(file.value("b.count"), None);
    /// # Ok(()) }
    /// ```
    pub fn value(&self, key: &str) -> Option<&GgufValue> {
        self.metadata.get(key).map(|(_, value)| value)
    }

    /// An error about the value of a key, for a reader that finds it senseless: its sentence is the
    /// key and `what`, its place the file and the byte where the value begins.
    ///
    /// ```
    /// # use lazul_core::prelude::*;
    /// # use lazul_io::gguf::{Gguf, GgufList, GgufValue, save_gguf};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("model.gguf");
    /// # let w = ones([2, 3], DType::F32);
    /// save_gguf(&path, [("w", &w)], &[("llama.block_count", GgufValue::U32(0))])?;
    /// let file = Gguf::open(&path)?;
    /// let error = file.wrong("llama.block_count", "is 0");
    /// assert_eq!(error.message(), "llama.block_count is 0");
    /// assert!(error.byte().is_some() && error.file().ends_with("model.gguf"));
    /// # Ok(()) }
    /// ```
    pub fn wrong(&self, key: &str, what: impl fmt::Display) -> Error {
        let error = Error::malformed(format!("{key} {what}"));
        let error = match self.metadata.get(key) {
            Some((at, _)) => error.at_byte(*at),
            None => error,
        };
        error.in_file(self.source.describe())
    }

    fn typed<'a, T>(
        &'a self,
        key: &str,
        what: &str,
        get: impl Fn(&'a GgufValue) -> Option<T>,
    ) -> Result<Option<T>> {
        let Some(value) = self.value(key) else { return Ok(None) };
        match get(value) {
            Some(found) => Ok(Some(found)),
            None => Err(self.wrong(key, format_args!("must be {what}, and is {}", value.kind()))),
        }
    }

    /// The text of a key, or `None` where the key is missing.
    ///
    /// ```
    /// # use lazul_core::prelude::*;
    /// # use lazul_io::gguf::{Gguf, GgufList, GgufValue, save_gguf};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("model.gguf");
    /// # let w = ones([2, 3], DType::F32);
    /// let name = GgufValue::Text("tiny".into());
    /// save_gguf(&path, [("w", &w)], &[("general.name", name), ("a.count", GgufValue::U32(2))])?;
    /// let file = Gguf::open(&path)?;
    /// assert_eq!(file.text("general.name")?, Some("tiny"));
    /// assert_eq!(file.text("general.author")?, None);
    /// assert!(file.text("a.count").is_err());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Malformed`](crate::ErrorKind::Malformed) if the value is not a text.
    pub fn text(&self, key: &str) -> Result<Option<&str>> {
        self.typed(key, "a text", |value| match value {
            GgufValue::Text(text) => Some(text.as_str()),
            _ => None,
        })
    }

    /// The count of a key, an integer of any type that is not negative; `None` where the key is
    /// missing.
    ///
    /// ```
    /// # use lazul_core::prelude::*;
    /// # use lazul_io::gguf::{Gguf, GgufList, GgufValue, save_gguf};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("model.gguf");
    /// # let w = ones([2, 3], DType::F32);
    /// let keys = [("llama.block_count", GgufValue::U32(16)), ("bad", GgufValue::I8(-1))];
    /// save_gguf(&path, [("w", &w)], &keys)?;
    /// let file = Gguf::open(&path)?;
    /// assert_eq!(file.count("llama.block_count")?, Some(16));
    /// assert_eq!(file.count("llama.expert_count")?, None);
    /// assert!(file.count("bad").is_err());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Malformed`](crate::ErrorKind::Malformed) if the value is no such number.
    pub fn count(&self, key: &str) -> Result<Option<u64>> {
        self.typed(key, "a count", GgufValue::count)
    }

    /// The float of a key, single or double precision; `None` where the key is missing.
    ///
    /// ```
    /// # use lazul_core::prelude::*;
    /// # use lazul_io::gguf::{Gguf, GgufList, GgufValue, save_gguf};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("model.gguf");
    /// # let w = ones([2, 3], DType::F32);
    /// save_gguf(&path, [("w", &w)], &[("llama.rope.freq_base", GgufValue::F32(10_000.0))])?;
    /// let file = Gguf::open(&path)?;
    /// assert_eq!(file.float("llama.rope.freq_base")?, Some(10_000.0));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Malformed`](crate::ErrorKind::Malformed) if the value is not a float, or not finite.
    pub fn float(&self, key: &str) -> Result<Option<f64>> {
        self.typed(key, "a finite float", |value| value.float().filter(|x| x.is_finite()))
    }

    /// The truth value of a key; `None` where the key is missing.
    ///
    /// ```
    /// # use lazul_core::prelude::*;
    /// # use lazul_io::gguf::{Gguf, GgufList, GgufValue, save_gguf};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("model.gguf");
    /// # let w = ones([2, 3], DType::F32);
    /// let key = "tokenizer.ggml.add_bos_token";
    /// save_gguf(&path, [("w", &w)], &[(key, GgufValue::Bool(true))])?;
    /// assert_eq!(Gguf::open(&path)?.flag(key)?, Some(true));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Malformed`](crate::ErrorKind::Malformed) if the value is not one.
    pub fn flag(&self, key: &str) -> Result<Option<bool>> {
        self.typed(key, "a truth value", |value| match value {
            GgufValue::Bool(flag) => Some(*flag),
            _ => None,
        })
    }

    /// The list of a key, of elements of any type; `None` where the key is missing.
    ///
    /// ```
    /// # use lazul_core::prelude::*;
    /// # use lazul_io::gguf::{Gguf, GgufList, GgufValue, save_gguf};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("model.gguf");
    /// # let w = ones([2, 3], DType::F32);
    /// let kinds = GgufValue::List(GgufList::I32(vec![1, 3, 3]));
    /// save_gguf(&path, [("w", &w)], &[("tokenizer.ggml.token_type", kinds)])?;
    /// let file = Gguf::open(&path)?;
    /// let list = file.list("tokenizer.ggml.token_type")?.unwrap();
    /// assert_eq!(list.integers(), Some(vec![1, 3, 3]));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Malformed`](crate::ErrorKind::Malformed) if the value is not one.
    pub fn list(&self, key: &str) -> Result<Option<&GgufList>> {
        self.typed(key, "a list", |value| match value {
            GgufValue::List(list) => Some(list),
            _ => None,
        })
    }

    /// The list of texts of a key, such as a vocabulary; `None` where the key is missing.
    ///
    /// ```
    /// # use lazul_core::prelude::*;
    /// # use lazul_io::gguf::{Gguf, GgufList, GgufValue, save_gguf};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("model.gguf");
    /// # let w = ones([2, 3], DType::F32);
    /// let tokens = GgufValue::List(GgufList::Text(["<s>", "a", "b"].into_iter().collect()));
    /// save_gguf(&path, [("w", &w)], &[("tokenizer.ggml.tokens", tokens)])?;
    /// let file = Gguf::open(&path)?;
    /// let tokens = file.texts("tokenizer.ggml.tokens")?.unwrap();
    /// assert_eq!((tokens.len(), tokens.get(1)), (3, Some(&b"a"[..])));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Malformed`](crate::ErrorKind::Malformed) if the value is not one.
    pub fn texts(&self, key: &str) -> Result<Option<&TextList>> {
        self.typed(key, "a list of texts", |value| match value {
            GgufValue::List(GgufList::Text(list)) => Some(list),
            _ => None,
        })
    }

    /// The list of f32 numbers of a key; `None` where the key is missing.
    ///
    /// ```
    /// # use lazul_core::prelude::*;
    /// # use lazul_io::gguf::{Gguf, GgufList, GgufValue, save_gguf};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("model.gguf");
    /// # let w = ones([2, 3], DType::F32);
    /// let scores = GgufValue::List(GgufList::F32(vec![0.0, -1.5]));
    /// save_gguf(&path, [("w", &w)], &[("tokenizer.ggml.scores", scores)])?;
    /// assert_eq!(Gguf::open(&path)?.floats("tokenizer.ggml.scores")?, Some(&[0.0, -1.5][..]));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Malformed`](crate::ErrorKind::Malformed) if the value is not one.
    pub fn floats(&self, key: &str) -> Result<Option<&[f32]>> {
        self.typed(key, "a list of f32 numbers", |value| match value {
            GgufValue::List(GgufList::F32(list)) => Some(list.as_slice()),
            _ => None,
        })
    }
}

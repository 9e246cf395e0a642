//! Model folders: what Hugging Face and MLX publish, read and written.
//!
//! [`ModelFolder`] opens a folder (or, by name, a repository of the hub), reads its configuration
//! strictly and finds its weights. [`FolderWriter`] writes one that appears whole or not at all.
//!
//! **No file of a model ever runs.** Repositories may carry Python code (`auto_map` in a
//! configuration, `model_file` in an MLX one, `*.py`); it is ignored, with a warning, because the
//! model that loads may then not be the one its authors meant.

mod write;

use std::path::{Path, PathBuf};

use serde_json::Value;

pub use self::write::{FolderWriter, WeightOptions};
use crate::error::{Error, ErrorKind, Result};
use crate::json;
use crate::root::Root;
use crate::shards::Weights;

/// Largest configuration file.
const MAX_JSON: u64 = 16 << 20;
/// Largest tokenizer file or other data file that is read whole.
const MAX_BYTES: u64 = 256 << 20;

/// The names that weights go by, in the order of preference.
const STEMS: [&str; 3] = ["model", "diffusion_pytorch_model", "weights"];

/// An open model folder.
///
/// ```
/// use lazul_core::Array;
/// use lazul_io::{FolderWriter, ModelFolder, WeightOptions};
/// use serde_json::json;
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let place = tempfile::tempdir()?;
/// # let path = place.path().join("tiny");
/// let writer = FolderWriter::create(&path)?;
/// writer.config(&json!({"model_type": "llama", "hidden_size": 4}))?;
/// let w = Array::from_slice(&[1.0f32; 4], [2, 2]);
/// writer.weights([("lm_head.weight", &w)], &WeightOptions::default())?;
/// writer.finish()?;
///
/// let folder = ModelFolder::open_dir(&path)?;
/// assert_eq!(folder.model_type(), Some("llama"));
/// assert!(folder.weights()?.arrays.contains_key("lm_head.weight"));
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct ModelFolder {
    root: Root,
    config: Value,
    generation_config: Option<Value>,
    ignored_code: Vec<String>,
}

impl ModelFolder {
    /// Opens a local folder, or else a repository of the Hugging Face hub (`ORG/NAME`), which is
    /// downloaded into the shared cache where needed.
    ///
    /// An existing folder always wins; a name that is written as a path (`./x`, `/x`, `~/x`, `../x`)
    /// is never taken for a repository.
    pub fn open(path_or_id: &str) -> Result<ModelFolder> {
        let path = Path::new(path_or_id);
        let is_path = path_or_id.starts_with(['/', '.', '~']) || path_or_id.contains('\\');
        if is_path || path.is_dir() {
            return ModelFolder::open_dir(path);
        }
        #[cfg(feature = "hub")]
        if let Ok(repo) = path_or_id.parse::<crate::hub::RepoId>() {
            return crate::hub::Hub::from_env()?.model(&repo, "main");
        }
        let what = "there is no such folder, and it is not the name of a repository";
        Err(Error::new(ErrorKind::NotFound, what).in_file(path_or_id))
    }

    /// Opens a local folder.
    pub fn open_dir(path: impl AsRef<Path>) -> Result<ModelFolder> {
        ModelFolder::from_root(Root::open(path)?)
    }

    fn from_root(root: Root) -> Result<ModelFolder> {
        let mut config = None;
        // A diffusion pipeline describes itself in model_index.json.
        for name in ["config.json", "model_index.json"] {
            config = config.or(read_json(&root, name)?);
        }
        let config = config.ok_or_else(|| {
            let what = "the folder has no config.json, so it is not a model";
            Error::new(ErrorKind::NotFound, what).in_file(root.path().display())
        })?;
        if !config.is_object() {
            let e = Error::malformed("the configuration is not an object");
            return Err(e.in_file(root.path().display()));
        }
        let generation_config = read_json(&root, "generation_config.json")?;
        let ignored_code = code_in(&config);
        for what in &ignored_code {
            tracing::warn!(
                folder = %root.path().display(),
                "this model comes with code of its own ({what}), which is NOT executed; \
                 the built-in implementation is used instead and may differ"
            );
        }
        Ok(ModelFolder { root, config, generation_config, ignored_code })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        self.root.path()
    }

    /// The folder as a place to open files in.
    pub fn root(&self) -> &Root {
        &self.root
    }

    /// `config.json`, an object. Numbers that JSON lacks are tagged; see the module [`json`].
    pub fn config(&self) -> &Value {
        &self.config
    }

    /// `generation_config.json`, where there is one.
    pub fn generation_config(&self) -> Option<&Value> {
        self.generation_config.as_ref()
    }

    /// The architecture by its `model_type`.
    pub fn model_type(&self) -> Option<&str> {
        self.config.get("model_type")?.as_str()
    }

    /// What asked for its own code to be run, and was ignored.
    pub fn ignored_code(&self) -> &[String] {
        &self.ignored_code
    }

    /// Reads a JSON file strictly; `None` when it is not there.
    pub fn json(&self, name: &str) -> Result<Option<Value>> {
        read_json(&self.root, name)
    }

    /// Reads a text file, such as `chat_template.jinja`; `None` when it is not there.
    pub fn text(&self, name: &str) -> Result<Option<String>> {
        let Some(bytes) = self.root.read(name, MAX_JSON)? else { return Ok(None) };
        String::from_utf8(bytes).map(Some).map_err(|_| {
            let at = self.root.path().join(name);
            Error::malformed("the text is not UTF-8").in_file(at.display())
        })
    }

    /// Reads a whole file, such as `tokenizer.json`, of at most 256 MiB; `None` when it is not
    /// there.
    pub fn bytes(&self, name: &str) -> Result<Option<Vec<u8>>> {
        self.root.read(name, MAX_BYTES)
    }

    /// The path of a regular file inside the folder, for readers that want one; `None` when it is
    /// not there. Prefer [`bytes`](Self::bytes): between this check and a later open the file can
    /// be exchanged.
    pub fn file_path(&self, name: &str) -> Result<Option<PathBuf>> {
        Ok(self.root.try_open(name)?.map(|source| source.path().to_owned()))
    }

    /// The files that make up the tokenizer, of those that the folder has.
    pub fn tokenizer_files(&self) -> Result<Vec<String>> {
        let mut names = self.root.names()?;
        names.retain(|name| is_tokenizer_file(name));
        Ok(names)
    }

    /// Opens the weights; each array reads its bytes when it is evaluated.
    pub fn weights(&self) -> Result<Weights> {
        for stem in STEMS {
            if let Some(weights) = Weights::find(&self.root, stem)? {
                return Ok(weights);
            }
        }
        let what = "the folder has no model*.safetensors, weights*.safetensors or weights*.npz";
        Err(Error::new(ErrorKind::Missing, what).in_file(self.path().display()))
    }

    /// A part of a pipeline (`unet`, `vae`, `text_encoder`), which is a model folder of its own.
    pub fn subfolder(&self, name: &str) -> Result<ModelFolder> {
        ModelFolder::from_root(self.root.subfolder(name)?)
    }
}

fn read_json(root: &Root, name: &str) -> Result<Option<Value>> {
    let Some(bytes) = root.read(name, MAX_JSON)? else { return Ok(None) };
    json::parse(&bytes).map(Some).map_err(|e| e.in_file(root.path().join(name).display()))
}

/// Files that a tokenizer is made of, and that a converted model must carry along.
pub(crate) fn is_tokenizer_file(name: &str) -> bool {
    matches!(
        name,
        "tokenizer.json"
            | "tokenizer_config.json"
            | "tokenizer.model"
            | "special_tokens_map.json"
            | "added_tokens.json"
            | "vocab.json"
            | "vocab.txt"
            | "merges.txt"
            | "chat_template.json"
            | "spiece.model"
    ) || name.ends_with(".jinja")
        || name.ends_with(".tiktoken")
}

/// The settings by which a configuration asks for code to be run.
fn code_in(config: &Value) -> Vec<String> {
    let keys = ["auto_map", "model_file", "custom_pipelines"];
    let asked = |value: &Value| match value {
        Value::Null | Value::Bool(false) => false,
        Value::Object(map) => !map.is_empty(),
        _ => true,
    };
    let found = keys.iter().filter(|key| config.get(**key).is_some_and(asked));
    found.map(|key| (*key).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn code_is_reported_and_never_run() {
        let place = tempfile::tempdir().unwrap();
        let config = r#"{"model_type": "x", "auto_map": {"AutoModel": "evil.Model"}, "model_file": "evil.py"}"#;
        fs::write(place.path().join("config.json"), config).unwrap();
        let folder = ModelFolder::open_dir(place.path()).unwrap();
        assert_eq!(folder.ignored_code(), ["auto_map", "model_file"]);
        assert_eq!(folder.weights().unwrap_err().kind(), ErrorKind::Missing);
    }

    #[test]
    fn a_folder_without_a_configuration_is_no_model() {
        let place = tempfile::tempdir().unwrap();
        let kind = |r: Result<ModelFolder>| r.unwrap_err().kind();
        assert_eq!(kind(ModelFolder::open_dir(place.path())), ErrorKind::NotFound);
        for bad in ["[]", "{\"a\":1,\"a\":2}", "{", ""] {
            fs::write(place.path().join("config.json"), bad).unwrap();
            let error = ModelFolder::open_dir(place.path()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Malformed);
        }
        for path in ["./no/such", "/no/such", "~/no/such", "../../x"] {
            assert_eq!(kind(ModelFolder::open(path)), ErrorKind::NotFound, "{path}");
        }
    }

    #[test]
    fn tokenizer_files_are_found() {
        let place = tempfile::tempdir().unwrap();
        for name in ["config.json", "tokenizer.json", "chat_template.jinja", "evil.py"] {
            fs::write(place.path().join(name), "{}").unwrap();
        }
        let folder = ModelFolder::open_dir(place.path()).unwrap();
        assert_eq!(folder.tokenizer_files().unwrap(), ["chat_template.jinja", "tokenizer.json"]);
        assert_eq!(folder.text("chat_template.jinja").unwrap().as_deref(), Some("{}"));
        assert_eq!(folder.bytes("tokenizer.model").unwrap(), None);
    }
}

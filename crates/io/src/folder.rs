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
    /// An existing folder always wins; a name that is written as a path (`./x`, `/x`, `~/x`,
    /// `../x`) is never taken for a repository.
    ///
    /// ```
    /// # use lazul_io::ModelFolder;
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path();
    /// std::fs::write(path.join("config.json"), r#"{"model_type": "llama"}"#)?;
    /// let folder = ModelFolder::open(&path.display().to_string())?;
    /// assert_eq!(folder.model_type(), Some("llama"));
    /// let missing = ModelFolder::open("./no/such/folder").unwrap_err();
    /// assert_eq!(missing.kind(), lazul_io::ErrorKind::NotFound);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`ModelFolder::open_dir`]; for a repository those of `hub::Hub::model`.
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

    /// Opens a local folder and reads its configuration: `config.json`, or the `model_index.json`
    /// of a diffusion pipeline. Weights are not touched.
    ///
    /// ```
    /// # use lazul_io::ModelFolder;
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path();
    /// std::fs::write(path.join("config.json"), r#"{"model_type": "llama"}"#)?;
    /// assert_eq!(ModelFolder::open_dir(path)?.config()["model_type"], "llama");
    /// std::fs::write(path.join("config.json"), r#"{"a": 1, "a": 2}"#)?;
    /// assert_eq!(ModelFolder::open_dir(path).unwrap_err().json_path().as_deref(), Some("a"));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is no such folder or no configuration in it;
    /// [`ErrorKind::Malformed`] if that is not an object in strict JSON; the same for a
    /// `generation_config.json` that is there; and those of the file system.
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

    /// The folder, as an absolute path without links.
    ///
    /// ```
    /// # use lazul_io::ModelFolder;
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path();
    /// # std::fs::write(path.join("config.json"), r#"{"model_type": "llama"}"#)?;
    /// let folder = ModelFolder::open_dir(path)?;
    /// assert!(folder.path().is_absolute());
    /// assert!(folder.path().join("config.json").is_file());
    /// # Ok(()) }
    /// ```
    pub fn path(&self) -> &Path {
        self.root.path()
    }

    /// The folder as a place to open files in, and never outside of.
    ///
    /// ```
    /// # use lazul_io::ModelFolder;
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path();
    /// # std::fs::write(path.join("config.json"), r#"{"model_type": "llama"}"#)?;
    /// let folder = ModelFolder::open_dir(path)?;
    /// assert!(folder.root().has("config.json"));
    /// assert!(folder.root().open_file("../config.json").is_err());
    /// # Ok(()) }
    /// ```
    pub fn root(&self) -> &Root {
        &self.root
    }

    /// `config.json`, an object. Numbers that JSON lacks are tagged; see the module [`json`].
    ///
    /// ```
    /// # use lazul_io::ModelFolder;
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path();
    /// std::fs::write(path.join("config.json"), r#"{"hidden_size": 64, "limit": Infinity}"#)?;
    /// let folder = ModelFolder::open_dir(path)?;
    /// assert_eq!(folder.config()["hidden_size"], 64);
    /// assert_eq!(lazul_io::json::float(&folder.config()["limit"]), Some(f64::INFINITY));
    /// # Ok(()) }
    /// ```
    pub fn config(&self) -> &Value {
        &self.config
    }

    /// `generation_config.json`, where there is one: stop tokens, temperature.
    ///
    /// ```
    /// # use lazul_io::ModelFolder;
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path();
    /// # std::fs::write(path.join("config.json"), r#"{"model_type": "llama"}"#)?;
    /// std::fs::write(path.join("generation_config.json"), r#"{"eos_token_id": 2}"#)?;
    /// let folder = ModelFolder::open_dir(path)?;
    /// assert_eq!(folder.generation_config().map(|config| &config["eos_token_id"]), Some(&2.into()));
    /// # Ok(()) }
    /// ```
    pub fn generation_config(&self) -> Option<&Value> {
        self.generation_config.as_ref()
    }

    /// The architecture by its `model_type`; `None` where the configuration names none.
    ///
    /// ```
    /// # use lazul_io::ModelFolder;
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path();
    /// std::fs::write(path.join("config.json"), r#"{"model_type": "llama"}"#)?;
    /// assert_eq!(ModelFolder::open_dir(path)?.model_type(), Some("llama"));
    /// # Ok(()) }
    /// ```
    pub fn model_type(&self) -> Option<&str> {
        self.config.get("model_type")?.as_str()
    }

    /// What asked for its own code to be run, and was ignored: the keys of the configuration. Empty
    /// for most models.
    ///
    /// ```
    /// # use lazul_io::ModelFolder;
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path();
    /// let config = r#"{"model_type": "x", "auto_map": {"AutoModel": "modeling.Model"}}"#;
    /// std::fs::write(path.join("config.json"), config)?;
    /// assert_eq!(ModelFolder::open_dir(path)?.ignored_code(), ["auto_map"]);
    /// # Ok(()) }
    /// ```
    pub fn ignored_code(&self) -> &[String] {
        &self.ignored_code
    }

    /// Reads a JSON file of at most 16 MiB strictly; `None` when it is not there.
    ///
    /// ```
    /// # use lazul_io::ModelFolder;
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path();
    /// # std::fs::write(path.join("config.json"), r#"{"model_type": "llama"}"#)?;
    /// std::fs::write(path.join("tokenizer_config.json"), r#"{"bos_token": "<s>"}"#)?;
    /// let folder = ModelFolder::open_dir(path)?;
    /// assert_eq!(folder.json("tokenizer_config.json")?.unwrap()["bos_token"], "<s>");
    /// assert_eq!(folder.json("added_tokens.json")?, None);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Malformed`] if it is not JSON; those of [`Root::read`].
    pub fn json(&self, name: &str) -> Result<Option<Value>> {
        read_json(&self.root, name)
    }

    /// Reads a text file of at most 16 MiB, such as `chat_template.jinja`; `None` when it is not
    /// there.
    ///
    /// ```
    /// # use lazul_io::ModelFolder;
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path();
    /// # std::fs::write(path.join("config.json"), r#"{"model_type": "llama"}"#)?;
    /// std::fs::write(path.join("chat_template.jinja"), "{{ messages }}")?;
    /// let folder = ModelFolder::open_dir(path)?;
    /// assert_eq!(folder.text("chat_template.jinja")?.as_deref(), Some("{{ messages }}"));
    /// assert_eq!(folder.text("merges.txt")?, None);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Malformed`] if it is not UTF-8; those of [`Root::read`].
    pub fn text(&self, name: &str) -> Result<Option<String>> {
        let Some(bytes) = self.root.read(name, MAX_JSON)? else { return Ok(None) };
        String::from_utf8(bytes).map(Some).map_err(|_| {
            let at = self.root.path().join(name);
            Error::malformed("the text is not UTF-8").in_file(at.display())
        })
    }

    /// Reads a whole file, such as `tokenizer.json`, of at most 256 MiB; `None` when it is not
    /// there.
    ///
    /// ```
    /// # use lazul_io::ModelFolder;
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path();
    /// # std::fs::write(path.join("config.json"), r#"{"model_type": "llama"}"#)?;
    /// std::fs::write(path.join("tokenizer.model"), [10, 14])?;
    /// let folder = ModelFolder::open_dir(path)?;
    /// assert_eq!(folder.bytes("tokenizer.model")?, Some(vec![10, 14]));
    /// assert_eq!(folder.bytes("tokenizer.json")?, None);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// Those of [`Root::read`].
    pub fn bytes(&self, name: &str) -> Result<Option<Vec<u8>>> {
        self.root.read(name, MAX_BYTES)
    }

    /// The path of a regular file inside the folder, for readers that want one; `None` when it is
    /// not there. Prefer [`bytes`](Self::bytes): between this check and a later open the file can
    /// be exchanged.
    ///
    /// ```
    /// # use lazul_io::ModelFolder;
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path();
    /// # std::fs::write(path.join("config.json"), r#"{"model_type": "llama"}"#)?;
    /// let folder = ModelFolder::open_dir(path)?;
    /// assert!(folder.file_path("config.json")?.is_some_and(|path| path.is_file()));
    /// assert_eq!(folder.file_path("tokenizer.json")?, None);
    /// assert!(folder.file_path("../config.json").is_err());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// Those of [`Root::try_open`].
    pub fn file_path(&self, name: &str) -> Result<Option<PathBuf>> {
        Ok(self.root.try_open(name)?.map(|source| source.path().to_owned()))
    }

    /// The names of the files that make up the tokenizer, of those that the folder has, sorted.
    ///
    /// ```
    /// # use lazul_io::ModelFolder;
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path();
    /// # std::fs::write(path.join("config.json"), r#"{"model_type": "llama"}"#)?;
    /// for name in ["tokenizer.json", "chat_template.jinja", "README.md"] {
    ///     std::fs::write(path.join(name), "{}")?;
    /// }
    /// let folder = ModelFolder::open_dir(path)?;
    /// assert_eq!(folder.tokenizer_files()?, ["chat_template.jinja", "tokenizer.json"]);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// Those of [`Root::names`].
    pub fn tokenizer_files(&self) -> Result<Vec<String>> {
        let mut names = self.root.names()?;
        names.retain(|name| is_tokenizer_file(name));
        Ok(names)
    }

    /// Opens the weights; each array reads its bytes when it is evaluated. They are called `model`,
    /// `diffusion_pytorch_model` or `weights`, in this order of preference; [`Weights::find`] says
    /// how their files are found.
    ///
    /// ```
    /// # use lazul_io::ModelFolder;
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path();
    /// # std::fs::write(path.join("config.json"), r#"{"model_type": "llama"}"#)?;
    /// # use lazul_core::prelude::*;
    /// let w = ones([2, 2], DType::F32);
    /// lazul_io::save_safetensors(path.join("model.safetensors"), [("lm_head.weight", &w)], &[])?;
    /// let weights = ModelFolder::open_dir(path)?.weights()?;
    /// assert_eq!(weights.files, ["model.safetensors"]);
    /// assert_eq!(weights.arrays["lm_head.weight"].shape()?, [2, 2]);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Missing`] if there are none; those of [`Weights::find`].
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
    ///
    /// ```
    /// # use lazul_io::ModelFolder;
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path();
    /// std::fs::write(path.join("model_index.json"), r#"{"vae": ["diffusers", "AutoencoderKL"]}"#)?;
    /// std::fs::create_dir(path.join("vae"))?;
    /// std::fs::write(path.join("vae/config.json"), r#"{"latent_channels": 4}"#)?;
    /// let vae = ModelFolder::open_dir(path)?.subfolder("vae")?;
    /// assert_eq!(vae.config()["latent_channels"], 4);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// Those of [`Root::subfolder`] and [`ModelFolder::open_dir`].
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

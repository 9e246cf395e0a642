//! Writing a model folder.

use std::collections::BTreeMap;
use std::path::Path;

use lazul_core::Array;
use serde_json::{Map, Value, json};

use super::ModelFolder;
use crate::atomic::{AtomicFolder, write_file};
use crate::error::{Error, Result};
use crate::json;
use crate::root::check_plain_name;
use crate::safetensors::{describe, save_safetensors};

/// How weights are written.
#[derive(Clone, Debug)]
pub struct WeightOptions {
    /// Most bytes of tensors in one shard; a larger tensor has a shard for itself. 5 GiB, as MLX.
    pub max_shard_bytes: u64,
    /// Metadata of each shard. `format: mlx` marks a checkpoint as converted.
    pub metadata: Vec<(String, String)>,
    /// The number of parameters for the index, where packed weights hide it; counted if absent.
    pub total_parameters: Option<u64>,
}

impl Default for WeightOptions {
    fn default() -> Self {
        WeightOptions {
            max_shard_bytes: 5 << 30,
            metadata: vec![("format".to_owned(), "mlx".to_owned())],
            total_parameters: None,
        }
    }
}

/// A model folder being written.
///
/// Files are collected in a hidden folder beside the destination, which takes its name in
/// [`finish`](Self::finish). A writer that is dropped before, or a process that is killed, leaves
/// nothing under the final name. See [`ModelFolder`] for an example.
pub struct FolderWriter {
    folder: AtomicFolder,
}

impl FolderWriter {
    /// Begins a folder; the destination must not exist, or be an empty folder. Folders that lead to
    /// it are made.
    ///
    /// ```
    /// # use lazul_io::{FolderWriter, ModelFolder};
    /// # use serde_json::json;
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("tiny");
    /// let writer = FolderWriter::create(&path)?;
    /// writer.config(&json!({"model_type": "llama"}))?;
    /// assert!(!path.exists()); // until it is finished
    /// writer.finish()?;
    /// let again = FolderWriter::create(&path).err().unwrap();
    /// assert_eq!(again.kind(), lazul_io::ErrorKind::Exists);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Exists`](crate::ErrorKind::Exists) if something is there; those of the file
    /// system.
    pub fn create(destination: impl AsRef<Path>) -> Result<FolderWriter> {
        Ok(FolderWriter { folder: AtomicFolder::create(destination.as_ref(), false)? })
    }

    /// Begins a folder that will take the place of one that may exist. What is there stays until
    /// [`finish`](Self::finish), and is removed then.
    ///
    /// ```
    /// # use lazul_io::{FolderWriter, ModelFolder};
    /// # use serde_json::json;
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("tiny");
    /// for bits in [8, 4] {
    ///     let writer = FolderWriter::replace(&path)?;
    ///     writer.config(&json!({"bits": bits}))?;
    ///     writer.finish()?;
    /// }
    /// assert_eq!(ModelFolder::open_dir(&path)?.config()["bits"], 4);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// Those of the file system.
    pub fn replace(destination: impl AsRef<Path>) -> Result<FolderWriter> {
        Ok(FolderWriter { folder: AtomicFolder::create(destination.as_ref(), true)? })
    }

    /// Writes `config.json` with its keys sorted and indented by 4, as MLX does.
    ///
    /// ```
    /// # use lazul_io::{FolderWriter, ModelFolder};
    /// # use serde_json::json;
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("tiny");
    /// let writer = FolderWriter::create(&path)?;
    /// writer.config(&json!({"vocab_size": 8, "model_type": "x"}))?;
    /// writer.finish()?;
    /// let text = std::fs::read_to_string(path.join("config.json"))?;
    /// assert_eq!(text, "{\n    \"model_type\": \"x\",\n    \"vocab_size\": 8\n}");
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// Those of the file system.
    pub fn config(&self, config: &Value) -> Result<()> {
        self.json("config.json", &sorted(config))
    }

    /// Writes a JSON file, indented by 4, its keys in the order they have.
    ///
    /// ```
    /// # use lazul_io::{FolderWriter, ModelFolder};
    /// # use serde_json::json;
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("tiny");
    /// let writer = FolderWriter::create(&path)?;
    /// # writer.config(&json!({}))?;
    /// writer.json("generation_config.json", &json!({"eos_token_id": 2}))?;
    /// writer.finish()?;
    /// assert_eq!(ModelFolder::open_dir(&path)?.generation_config().unwrap()["eos_token_id"], 2);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`FolderWriter::file`].
    pub fn json(&self, name: &str, value: &Value) -> Result<()> {
        self.file(name, json::to_string(value).as_bytes())
    }

    /// Writes a file directly inside the folder, in place of one that this writer has written
    /// before.
    ///
    /// ```
    /// # use lazul_io::{FolderWriter, ModelFolder};
    /// # use serde_json::json;
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("tiny");
    /// let writer = FolderWriter::create(&path)?;
    /// # writer.config(&json!({}))?;
    /// writer.file("README.md", b"# Tiny")?;
    /// assert!(writer.file("../README.md", b"").is_err());
    /// writer.finish()?;
    /// assert_eq!(std::fs::read(path.join("README.md"))?, b"# Tiny");
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Outside`](crate::ErrorKind::Outside) if the name is not plain, or leads into
    /// another folder; those of the file system.
    pub fn file(&self, name: &str, bytes: &[u8]) -> Result<()> {
        check_plain_name(name)?;
        write_file(&self.folder.path().join(name), bytes)
    }

    /// Copies tokenizer, chat template and generation settings from another folder, as they are.
    ///
    /// ```
    /// # use lazul_io::{FolderWriter, ModelFolder};
    /// # use serde_json::json;
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("tiny");
    /// # let source = tempfile::tempdir()?;
    /// # std::fs::write(source.path().join("config.json"), "{}")?;
    /// std::fs::write(source.path().join("tokenizer.json"), r#"{"version": "1.0"}"#)?;
    /// let writer = FolderWriter::create(&path)?;
    /// writer.config(&json!({}))?;
    /// writer.copy_tokenizer(&ModelFolder::open_dir(source.path())?)?;
    /// writer.finish()?;
    /// assert_eq!(ModelFolder::open_dir(&path)?.tokenizer_files()?, ["tokenizer.json"]);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// If a file cannot be read, is above 256 MiB, or cannot be written.
    pub fn copy_tokenizer(&self, from: &ModelFolder) -> Result<()> {
        let mut names = from.tokenizer_files()?;
        names.push("generation_config.json".to_owned());
        for name in names {
            if let Some(bytes) = from.bytes(&name)? {
                self.file(&name, &bytes)?;
            }
        }
        Ok(())
    }

    /// Writes the weights: `model.safetensors`, or shards `model-00001-of-0000N.safetensors` filled
    /// one after the other in the order of the names, and their index. One array at a time is
    /// evaluated and held in memory.
    ///
    /// ```
    /// # use lazul_io::{FolderWriter, ModelFolder};
    /// # use serde_json::json;
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("tiny");
    /// # use lazul_core::prelude::*;
    /// # use lazul_io::WeightOptions;
    /// let writer = FolderWriter::create(&path)?;
    /// writer.config(&json!({"model_type": "llama"}))?;
    /// let (a, b) = (ones([10, 10], DType::F32), zeros([10, 10], DType::F32)); // 400 bytes each
    /// let options = WeightOptions { max_shard_bytes: 500, ..Default::default() };
    /// writer.weights([("a", &a), ("b", &b)], &options)?;
    /// writer.finish()?;
    /// assert_eq!(ModelFolder::open_dir(&path)?.weights()?.files.len(), 2);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`save_safetensors`]; of arrays with one name the last is written.
    pub fn weights<'a, N: AsRef<str>>(
        &self,
        arrays: impl IntoIterator<Item = (N, &'a Array)>,
        options: &WeightOptions,
    ) -> Result<()> {
        let mut sorted = BTreeMap::new();
        for (name, array) in arrays {
            sorted.insert(name.as_ref().to_owned(), array);
        }
        let mut shards: Vec<Vec<(&str, &Array)>> = vec![Vec::new()];
        let (mut filled, mut total, mut elements) = (0u64, 0u64, 0u64);
        for (name, array) in &sorted {
            let (shape, _, bytes) = describe(name, array)?;
            if filled.saturating_add(bytes) > options.max_shard_bytes && filled > 0 {
                shards.push(Vec::new());
                filled = 0;
            }
            filled = filled.saturating_add(bytes);
            total = total.saturating_add(bytes);
            let count =
                shape.iter().fold(1u64, |n, &dim| n.saturating_mul(crate::size::to_u64(dim)));
            elements = elements.saturating_add(count);
            if let Some(shard) = shards.last_mut() {
                shard.push((name, array));
            }
        }
        let metadata: Vec<(&str, &str)> =
            options.metadata.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        let count = shards.len();
        let mut map = BTreeMap::new();
        for (number, shard) in (1usize..).zip(&shards) {
            let file = match count {
                1 => "model.safetensors".to_owned(),
                _ => format!("model-{number:05}-of-{count:05}.safetensors"),
            };
            let path = self.folder.path().join(&file);
            save_safetensors(&path, shard.iter().copied(), &metadata)?;
            map.extend(shard.iter().map(|(name, _)| ((*name).to_owned(), Value::from(&*file))));
        }
        let index = json!({
            "metadata": {
                "total_size": total,
                "total_parameters": options.total_parameters.unwrap_or(elements),
            },
            "weight_map": map.into_iter().collect::<Map<_, _>>(),
        });
        self.json("model.safetensors.index.json", &index)
    }

    /// Flushes the folder to the disk and gives it its name.
    ///
    /// ```
    /// # use lazul_io::{FolderWriter, ModelFolder};
    /// # use serde_json::json;
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("tiny");
    /// let writer = FolderWriter::create(&path)?;
    /// writer.config(&json!({"model_type": "llama"}))?;
    /// writer.finish()?;
    /// assert_eq!(ModelFolder::open_dir(&path)?.model_type(), Some("llama"));
    /// let empty = FolderWriter::create(folder.path().join("other"))?;
    /// assert!(empty.finish().is_err());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Argument`](crate::ErrorKind::Argument) if it has no `config.json`, without
    /// which it is no model; those of the file system.
    pub fn finish(self) -> Result<()> {
        if !self.folder.path().join("config.json").is_file() {
            return Err(Error::new(
                crate::ErrorKind::Argument,
                "a model folder needs a config.json before it is finished",
            ));
        }
        self.folder.finish()
    }
}

fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let sorted: BTreeMap<&String, &Value> = map.iter().collect();
            Value::Object(sorted.into_iter().map(|(k, v)| (k.clone(), v.clone())).collect())
        }
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;
    use std::fs;

    #[test]
    fn shards_fill_in_order_and_load_back() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("model");
        let arrays: Vec<(String, Array)> = (0..5)
            .map(|i| (format!("w{i}"), Array::from_slice(&[i as f32; 10], [2, 5])))
            .chain([("big".to_owned(), Array::from_slice(&[9u8; 500], [500]))])
            .collect();
        let writer = FolderWriter::create(&path).unwrap();
        let options = WeightOptions { max_shard_bytes: 100, ..Default::default() };
        writer.weights(arrays.iter().map(|(n, a)| (n, a)), &options).unwrap();
        writer.config(&json!({"b": 1, "a": {"z": 1, "y": [1.5]}})).unwrap();
        assert!(!path.exists());
        writer.finish().unwrap();

        let config = fs::read_to_string(path.join("config.json")).unwrap();
        assert_eq!(
            config,
            "{\n    \"a\": {\n        \"z\": 1,\n        \"y\": [\n            1.5\n        ]\n    },\n    \"b\": 1\n}"
        );
        let folder = ModelFolder::open_dir(&path).unwrap();
        let weights = folder.weights().unwrap();
        assert_eq!(weights.files.len(), 4);
        assert_eq!(weights.files[0], "model-00001-of-00004.safetensors");
        assert_eq!(weights.metadata["format"], "mlx");
        for (name, array) in &arrays {
            assert_eq!(weights.arrays[name].to_bytes().unwrap(), array.to_bytes().unwrap());
        }
        let index = folder.json("model.safetensors.index.json").unwrap().unwrap();
        assert_eq!(index["metadata"], json!({"total_size": 700, "total_parameters": 550}));
        assert_eq!(index["weight_map"]["big"], "model-00001-of-00004.safetensors");
    }

    #[test]
    fn an_abandoned_folder_leaves_nothing() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("model");
        let writer = FolderWriter::create(&path).unwrap();
        writer.config(&json!({})).unwrap();
        assert_eq!(writer.file("../x", b"").unwrap_err().kind(), ErrorKind::Outside);
        drop(writer);
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0);
        assert!(FolderWriter::create(&path).unwrap().finish().is_err());
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0);
    }
}

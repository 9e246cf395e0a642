//! The weights of a model, in one file or in many.
//!
//! A large model is published as shards, with an index that says which tensor is in which:
//! `model.safetensors.index.json`. Everything the index claims is checked against the headers of
//! the shards: a shard that is not there, a tensor that its shard lacks and a tensor that two
//! shards hold are errors. A tensor that the index forgot is loaded all the same: whoever
//! loads the model decides whether it is wanted.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use lazul_core::Array;

use crate::error::{Error, ErrorKind, Result};
use crate::json::Parser;
use crate::npz::Npz;
use crate::root::{Root, check_plain_name};
use crate::safetensors::SafeTensors;

/// Largest index file.
const MAX_INDEX: u64 = 64 << 20;
/// Most tensors in an index; the largest models have about 100,000.
const MAX_ENTRIES: usize = 1 << 18;

/// Named arrays, each read when it is evaluated, and where they came from.
#[derive(Debug, Default)]
pub struct Weights {
    /// The arrays by their names in the files.
    pub arrays: BTreeMap<String, Array>,
    /// The metadata of the files, merged; `format` is `mlx` for a checkpoint that was converted.
    pub metadata: BTreeMap<String, String>,
    /// The names of the files that were opened, sorted.
    pub files: Vec<String>,
}

impl Weights {
    /// Opens the weights called `stem` in a folder: by the index `STEM.safetensors.index.json`
    /// where there is one, else every `STEM*.safetensors`, else every `STEM*.npz`.
    ///
    /// Variants (`STEM.fp16.safetensors`) are taken only when there is nothing else. `None` when
    /// the folder has no such weights.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// use lazul_io::{Root, Weights, save_safetensors};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// for (file, name) in [("1-of-00002", "a"), ("2-of-00002", "b")] {
    ///     let path = folder.path().join(format!("model-0000{file}.safetensors"));
    ///     save_safetensors(path, [(name, &ones([2], DType::F32))], &[("format", "mlx")])?;
    /// }
    /// let root = Root::open(folder.path())?;
    /// let weights = Weights::find(&root, "model")?.unwrap();
    /// assert_eq!((weights.arrays.len(), weights.files.len()), (2, 2));
    /// assert_eq!(weights.metadata["format"], "mlx");
    /// assert!(Weights::find(&root, "adapters")?.is_none());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Malformed`] if the index is not sound or two files hold one tensor;
    /// [`ErrorKind::Missing`] if a shard lacks a tensor that the index says it has, or a shard of a
    /// numbered series is not there; [`ErrorKind::Outside`] if the index names a file elsewhere;
    /// and those of [`Root::open_file`], [`SafeTensors::from_source`] and [`Npz::from_source`].
    pub fn find(root: &Root, stem: &str) -> Result<Option<Weights>> {
        let index = format!("{stem}.safetensors.index.json");
        if let Some(text) = root.read(&index, MAX_INDEX)? {
            let at = |e: Error| e.in_file(root.path().join(&index).display());
            let index = Index::parse(&text).map_err(at)?;
            let opened = Weights::open(root, &index.files())?;
            index.check(&opened.owners, root).map_err(at)?;
            return Ok(Some(opened.weights));
        }
        let names = root.names()?;
        for extension in [".safetensors", ".npz"] {
            let files = pick(&names, stem, extension);
            if let Some(files) = files {
                check_complete(&files, root)?;
                return Ok(Some(Weights::open(root, &files)?.weights));
            }
        }
        Ok(None)
    }

    fn open(root: &Root, files: &[String]) -> Result<Opened> {
        let mut opened = Opened::default();
        for (number, name) in files.iter().enumerate() {
            let source = Arc::new(root.open_file(name)?);
            let mut arrays = if name.ends_with(".npz") {
                Npz::from_source(source)?.arrays()?
            } else {
                let file = SafeTensors::from_source(source)?;
                opened.weights.metadata.extend(file.metadata().clone());
                file.arrays()?
            };
            for tensor in arrays.keys() {
                if let Some(&other) = opened.owners.get(tensor) {
                    let other = files.get(other).map_or("", String::as_str);
                    let what = format!("tensor {tensor:?} is also in {other:?}");
                    return Err(Error::malformed(what).in_file(root.path().join(name).display()));
                }
                opened.owners.insert(tensor.clone(), number);
            }
            opened.weights.arrays.append(&mut arrays);
            opened.weights.files.push(name.clone());
        }
        Ok(opened)
    }
}

/// Weights with the number of the file that each tensor is in.
#[derive(Default)]
struct Opened {
    weights: Weights,
    owners: BTreeMap<String, usize>,
}

/// The index of a sharded model.
#[derive(Debug, Default, PartialEq, Eq)]
struct Index {
    /// File by tensor.
    tensors: BTreeMap<String, Arc<str>>,
}

impl Index {
    fn parse(text: &[u8]) -> Result<Index> {
        let mut parser = Parser::new(text)?;
        let mut index = Index::default();
        let mut names: BTreeSet<Arc<str>> = BTreeSet::new();
        let mut found = false;
        parser.object(|parser, key| {
            if key != "weight_map" {
                return parser.skip();
            }
            found = true;
            parser.entries(|parser, tensor| {
                let file = parser.string()?;
                if !names.contains(&*file) {
                    check_plain_name(&file)?;
                    if !file.ends_with(".safetensors") {
                        let what = format!("{file:?} is not a safetensors file");
                        return Err(Error::malformed(what));
                    }
                    names.insert(Arc::from(&*file));
                }
                let file = names.get(&*file).cloned().unwrap_or_default();
                if index.tensors.len() >= MAX_ENTRIES {
                    return Err(Error::limit(format!("more than {MAX_ENTRIES} tensors")));
                }
                match index.tensors.entry(tensor.into_owned()) {
                    Entry::Occupied(_) => Err(Error::malformed("the tensor is listed twice")),
                    Entry::Vacant(free) => {
                        free.insert(file);
                        Ok(())
                    }
                }
            })
        })?;
        parser.end()?;
        match found && !index.tensors.is_empty() {
            true => Ok(index),
            false => Err(Error::malformed("the index has no weight_map")),
        }
    }

    fn files(&self) -> Vec<String> {
        let names: BTreeSet<&Arc<str>> = self.tensors.values().collect();
        names.into_iter().map(|name| name.to_string()).collect()
    }

    /// Every tensor must be in the shard that is named for it.
    fn check(&self, owners: &BTreeMap<String, usize>, root: &Root) -> Result<()> {
        let files = self.files();
        for (tensor, file) in &self.tensors {
            let owner = owners.get(tensor).and_then(|&number| files.get(number));
            if owner.map(String::as_str) != Some(&**file) {
                let shown = root.path().join(&**file);
                let what = format!("{} does not hold the tensor", shown.display());
                let e = Error::new(ErrorKind::Missing, what);
                return Err(e.under_key(tensor).under_key("weight_map"));
            }
        }
        Ok(())
    }
}

/// The files of `stem`, leaving variants out when there are others.
fn pick(names: &[String], stem: &str, extension: &str) -> Option<Vec<String>> {
    let middle = |name: &String| {
        let middle = name.strip_prefix(stem)?.strip_suffix(extension)?;
        Some(middle.to_owned())
    };
    let all: Vec<(&String, String)> =
        names.iter().filter_map(|name| Some((name, middle(name)?))).collect();
    let is_variant = |middle: &str| {
        middle.starts_with('.')
            && !middle.trim_start_matches('.').bytes().all(|b| b.is_ascii_digit())
    };
    let plain = all.iter().any(|(_, middle)| !is_variant(middle));
    let files: Vec<String> = all
        .iter()
        .filter(|(_, middle)| !plain || !is_variant(middle))
        .map(|(name, _)| (*name).clone())
        .collect();
    (!files.is_empty()).then_some(files)
}

/// Shards named `X-00001-of-00003` must be all there, index or not.
fn check_complete(files: &[String], root: &Root) -> Result<()> {
    for name in files {
        let Some((stem, number, total)) = shard_number(name) else { continue };
        let present = |n: u64| {
            files.iter().any(|other| {
                shard_number(other).is_some_and(|(s, i, t)| (s, i, t) == (stem, n, total))
            })
        };
        // Looking at one neighbour each keeps this linear in what a hostile name can claim.
        let missing = match number {
            n if n < total => (!present(n.saturating_add(1))).then_some(n.saturating_add(1)),
            n if n == total => (!present(1)).then_some(1),
            n => Some(n),
        };
        if let Some(missing) = missing {
            let what = format!("shard {missing} of {total} is not there");
            let e = Error::new(ErrorKind::Missing, what);
            return Err(e.in_file(root.path().join(name).display()));
        }
    }
    Ok(())
}

/// `model-00001-of-00003.safetensors` is `("model", 1, 3)`.
fn shard_number(name: &str) -> Option<(&str, u64, u64)> {
    let stem = name.rsplit_once('.')?.0;
    let (rest, total) = stem.rsplit_once("-of-")?;
    let (stem, number) = rest.rsplit_once('-')?;
    Some((stem, number.parse().ok()?, total.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::save_safetensors;
    use std::fs;

    fn folder(shards: &[(&str, &[&str])]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let one = Array::from_slice(&[1.0f32], [1]);
        for (file, tensors) in shards {
            let arrays = tensors.iter().map(|name| (*name, &one));
            save_safetensors(folder.path().join(file), arrays, &[("format", "pt")]).unwrap();
        }
        folder
    }

    fn with_index(shards: &[(&str, &[&str])], map: &str) -> Result<Weights> {
        let folder = folder(shards);
        let path = folder.path().join("model.safetensors.index.json");
        fs::write(path, format!("{{\"metadata\":{{}},\"weight_map\":{map}}}")).unwrap();
        let found = Weights::find(&Root::open(folder.path())?, "model")?;
        Ok(found.unwrap())
    }

    #[test]
    fn an_index_is_believed_only_as_far_as_the_shards_agree() {
        let shards: &[(&str, &[&str])] =
            &[("s1.safetensors", &["a", "x"]), ("s2.safetensors", &["b"])];
        let good = with_index(shards, r#"{"a":"s1.safetensors","b":"s2.safetensors"}"#).unwrap();
        assert_eq!(good.arrays.keys().collect::<Vec<_>>(), ["a", "b", "x"]);
        assert_eq!(good.metadata["format"], "pt");
        for (map, kind) in [
            (r#"{"a":"s2.safetensors","b":"s2.safetensors"}"#, ErrorKind::Missing),
            (r#"{"c":"s1.safetensors"}"#, ErrorKind::Missing),
            (r#"{"a":"s3.safetensors"}"#, ErrorKind::NotFound),
            (r#"{"a":"../s1.safetensors"}"#, ErrorKind::Outside),
            (r#"{"a":"config.json"}"#, ErrorKind::Malformed),
            (r#"{"a":"s1.safetensors","a":"s1.safetensors"}"#, ErrorKind::Malformed),
            ("{}", ErrorKind::Malformed),
        ] {
            assert_eq!(with_index(shards, map).unwrap_err().kind(), kind, "{map}");
        }
        let twice: &[(&str, &[&str])] =
            &[("s1.safetensors", &["a"]), ("s2.safetensors", &["a", "b"])];
        let error = with_index(twice, r#"{"a":"s1.safetensors","b":"s2.safetensors"}"#);
        assert!(error.unwrap_err().to_string().contains("also in"));
    }

    #[test]
    fn without_an_index_the_names_decide() {
        let find = |names: &[&str]| -> Result<Vec<String>> {
            let files: Vec<[&str; 1]> = names.iter().map(|name| [*name]).collect();
            let shards: Vec<(&str, &[&str])> =
                names.iter().zip(&files).map(|(name, tensor)| (*name, &tensor[..])).collect();
            let folder = folder(&shards);
            Ok(Weights::find(&Root::open(folder.path())?, "model")?.unwrap_or_default().files)
        };
        let (one, two) = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors");
        assert_eq!(find(&[one, two, "adapters.safetensors"]).unwrap(), [one, two]);
        assert_eq!(find(&[one]).unwrap_err().kind(), ErrorKind::Missing);
        assert_eq!(find(&[two]).unwrap_err().kind(), ErrorKind::Missing);
        let both = ["model.fp16.safetensors", "model.safetensors"];
        assert_eq!(find(&both).unwrap(), ["model.safetensors"]);
        assert_eq!(find(&both[..1]).unwrap(), ["model.fp16.safetensors"]);
        assert!(find(&["other.safetensors"]).unwrap().is_empty());
    }
}

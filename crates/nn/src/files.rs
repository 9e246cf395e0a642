//! Parameters of a module in files: safetensors and npz.

use crate::module::{Module, Parameters};
use lazul_core::Shape;
use lazul_io::{Error, ErrorKind, Result, load_npz, load_safetensors, save_npz, save_safetensors};
use std::collections::BTreeMap;
use std::path::Path;

/// Names that a file and a module do not share.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unmatched {
    /// Of the module, and not in the file.
    pub missing: Vec<String>,
    /// In the file, and not of the module.
    pub unexpected: Vec<String>,
}

/// The format that a file's name says.
enum Format {
    SafeTensors,
    Npz,
}

fn format(path: &Path) -> Result<Format> {
    match path.extension().and_then(|e| e.to_str()) {
        Some("safetensors") => Ok(Format::SafeTensors),
        Some("npz") => Ok(Format::Npz),
        _ => {
            let why = format!("{}: weights are .safetensors or .npz", path.display());
            Err(Error::new(ErrorKind::Argument, why))
        }
    }
}

/// Saves all parameters and buffers of a module by their paths, whole or not at all; the file's name ends
/// with `.safetensors` or `.npz`.
///
/// ```
/// use lazul_core::prelude::*;
/// use lazul_nn::{Linear, Module, load_weights, save_weights};
/// let path = std::env::temp_dir().join(format!("lazul-doc-{}.safetensors", std::process::id()));
/// let trained = Linear::init(3, 2, true, Some(&random::key(0)))?;
/// save_weights(&trained, &path)?;
/// let mut model = Linear::init(3, 2, true, Some(&random::key(1)))?;
/// load_weights(&mut model, &path, true)?;
/// let x = ones([1, 3], DType::F32);
/// assert_eq!(model.forward(&x).to_vec::<f32>()?, trained.forward(&x).to_vec::<f32>()?);
/// // A file with other names is refused, or read as far as it fits.
/// let mut other = Linear::init(3, 2, false, None)?;
/// assert!(load_weights(&mut other, &path, true).is_err());
/// assert_eq!(load_weights(&mut other, &path, false)?.unexpected, ["bias"]);
/// # std::fs::remove_file(path)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// If the name has another ending, a parameter is a failed array, or the file cannot be written.
pub fn save_weights<M: Module + ?Sized>(module: &M, path: impl AsRef<Path>) -> Result<()> {
    let path = path.as_ref();
    let parameters = module.parameters();
    match format(path)? {
        Format::SafeTensors => save_safetensors(path, parameters, &[("format", "mlx")]),
        Format::Npz => save_npz(path, parameters),
    }
}

/// Replaces parameters and buffers of a module by those of a file that [`save_weights`] or MLX wrote.
/// Dtypes are the file's. If `strict`, the names must be the same.
///
/// # Errors
/// If the file cannot be read, or a shape is another than the module's; if `strict`, also if a name of the
/// module is not in the file, or the other way round. The module is then as it was.
pub fn load_weights<M: Module + ?Sized>(
    module: &mut M,
    path: impl AsRef<Path>,
    strict: bool,
) -> Result<Unmatched> {
    let path = path.as_ref();
    let mut arrays: Parameters = match format(path)? {
        Format::SafeTensors => load_safetensors(path)?,
        Format::Npz => load_npz(path)?,
    };
    let refuse = |kind, why: String| Err(Error::new(kind, format!("{}: {why}", path.display())));
    let mut shapes = BTreeMap::new();
    for (name, array) in module.parameters() {
        let shape = array.shape().map_err(|e| Error::new(ErrorKind::Array, e.to_string()))?;
        shapes.insert(name, Shape::new(shape));
    }
    let unmatched = Unmatched {
        missing: shapes.keys().filter(|n| !arrays.contains_key(*n)).cloned().collect(),
        unexpected: arrays.keys().filter(|n| !shapes.contains_key(*n)).cloned().collect(),
    };
    if strict && unmatched != Unmatched::default() {
        let list = |what: &str, names: &[String]| match names {
            [] => String::new(),
            [first] => format!(" {first} is {what}."),
            [first, rest @ ..] => format!(" {first} and {} more are {what}.", rest.len()),
        };
        let missing = list("not in the file", &unmatched.missing);
        let unexpected = list("not in the module", &unmatched.unexpected);
        let why = format!("the names are not the module's.{missing}{unexpected}");
        return refuse(ErrorKind::Missing, why);
    }
    arrays.retain(|name, _| shapes.contains_key(name));
    for (name, array) in &arrays {
        let found = array.shape().map_err(|e| Error::new(ErrorKind::Array, e.to_string()))?;
        let (found, wanted) = (Shape::new(found), &shapes[name]);
        if &found != wanted {
            let why = format!("{name} has shape {found}, not {wanted}");
            return refuse(ErrorKind::Malformed, why);
        }
    }
    module.map(&mut |name, old| arrays.get(name).unwrap_or(old).clone());
    Ok(unmatched)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Linear, Sequential, layers::BatchNorm};
    use lazul_core::{DType, ones};

    fn model() -> Sequential {
        let linear = Linear::new(ones([2, 3], DType::F32), None);
        Sequential::new().then(linear).then(BatchNorm::new(2))
    }

    #[test]
    fn both_formats_hold_everything() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["w.safetensors", "w.npz"] {
            let path = folder.path().join(name);
            let mut saved = model();
            saved.map(&mut |_, a| a * 3.0);
            save_weights(&saved, &path).unwrap();
            let mut read = model();
            assert_eq!(load_weights(&mut read, &path, true).unwrap(), Unmatched::default());
            for ((name, a), (_, b)) in read.parameters().into_iter().zip(saved.parameters()) {
                assert_eq!(a.to_bytes().unwrap(), b.to_bytes().unwrap(), "{name}");
            }
        }
    }

    #[test]
    fn what_does_not_fit_leaves_the_module() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w.safetensors");
        let wrong = Sequential::new().then(Linear::new(ones([2, 4], DType::F32), None));
        save_weights(&wrong, &path).unwrap();
        let mut kept = model();
        let strict = load_weights(&mut kept, &path, true).unwrap_err();
        assert!(strict.to_string().contains("layers.1.bias and 3 more are not in"), "{strict}");
        let lax = load_weights(&mut kept, &path, false).unwrap_err();
        assert!(lax.to_string().contains("has shape (2,4), not (2,3)"), "{lax}");
        assert_eq!(kept.layers[0].parameters()[0].1.to_vec::<f32>().unwrap(), [1.0; 6]);
        let ending = save_weights(&kept, folder.path().join("w.bin")).unwrap_err();
        assert_eq!(ending.kind(), ErrorKind::Argument);
    }
}

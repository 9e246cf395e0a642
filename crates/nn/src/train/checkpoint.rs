//! Checkpoints of a training: whole or not there, and known to be whole when they are read.
//!
//! `save` fills `step-N.tmp`, with a manifest of sizes and SHA-256 sums, brings files and folder to the disk and
//! renames it to `step-N`; only then are older ones removed. A kill or a power cut at any moment leaves the
//! checkpoints before. `latest` reads the newest whose every byte is what its manifest says, puts damaged
//! ones after it aside (`rejected-step-N`) and says so; one that merely cannot be read now stays where it
//! is. One process at a time has a folder.

use super::error::{Error, Result};
use crate::module::Parameters;
use lazul_core::eval;
use lazul_io::{json, load_safetensors, save_safetensors};
use ring::digest::{Context, SHA256};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

const MANIFEST: &str = "manifest.json";
const SUM: &str = "manifest.sha256";
const NOTES: &str = "notes.json";

/// The checkpoints of one training in a folder, of which the last few are kept.
///
/// ```
/// use lazul_core::prelude::*;
/// use lazul_nn::train::Checkpoints;
/// # let folder = std::env::temp_dir().join(format!("lazul-checkpoints-{}", std::process::id()));
/// let checkpoints = Checkpoints::open(&folder, 2)?;
/// for step in [10, 20, 30] {
///     let weights = [("w".to_string(), full(3, step as f32))].into();
///     checkpoints.save(step, &[("weights", &weights)], &serde_json::json!({ "loss": 0.5 }))?;
/// }
/// assert!(Checkpoints::open(&folder, 2).is_err()); // somebody has it
/// drop(checkpoints);
/// let (saved, rejected) = Checkpoints::open(&folder, 2)?.latest()?;
/// let saved = saved.unwrap();
/// assert_eq!((saved.step, rejected.len()), (30, 0));
/// assert_eq!(saved.arrays["weights"]["w"].to_vec::<f32>()?, [30.0; 3]);
/// # std::fs::remove_dir_all(folder)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Checkpoints {
    folder: PathBuf,
    keep: usize,
    _lock: File,
}

/// A checkpoint that was read.
#[derive(Clone, Debug)]
pub struct Saved {
    /// Steps that were made before it.
    pub step: u64,
    /// Arrays by the name of their file, without its ending, and their own names.
    pub arrays: BTreeMap<String, Parameters>,
    /// What was noted beside them.
    pub notes: Value,
}

/// A checkpoint that is damaged, and what is wrong with it.
#[derive(Debug)]
pub struct Rejected {
    /// Where it lies now.
    pub folder: PathBuf,
    /// What is wrong.
    pub why: String,
}

fn at(path: &Path) -> impl Fn(std::io::Error) -> Error + '_ {
    move |e| Error::Data(format!("{}: {e}", path.display()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// Size and sum of a file.
fn sum(path: &Path) -> std::io::Result<(u64, String)> {
    let mut file = File::open(path)?;
    let (mut context, mut size) = (Context::new(&SHA256), 0);
    let mut buffer = vec![0; 1 << 20];
    loop {
        let n = file.read(&mut buffer)?;
        if n == 0 {
            return Ok((size, hex(context.finish().as_ref())));
        }
        context.update(&buffer[..n]);
        size += n as u64;
    }
}

fn sync(folder: &Path) -> std::io::Result<()> {
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}

fn write(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Why a folder could not be locked: somebody has it, or there are no locks here.
fn locked(folder: &Path, e: TryLockError) -> Error {
    match e {
        TryLockError::WouldBlock => {
            let why = "another process is training here".to_string();
            Error::Resume { folder: folder.to_path_buf(), why }
        }
        TryLockError::Error(e) => Error::Data(format!("{}: cannot lock: {e}", folder.display())),
    }
}

impl Checkpoints {
    /// Opens a folder, which is made if it is not there; the last `keep` checkpoints, at least one, are kept.
    ///
    /// # Errors
    /// If it cannot be made, or another process has it.
    pub fn open(folder: impl AsRef<Path>, keep: usize) -> Result<Checkpoints> {
        let folder = folder.as_ref();
        fs::create_dir_all(folder).map_err(at(folder))?;
        let lock = folder.join(".lock");
        let lock = File::create(&lock).map_err(at(&lock))?;
        lock.try_lock().map_err(|e| locked(folder, e))?;
        let checkpoints =
            Checkpoints { folder: folder.to_path_buf(), keep: keep.max(1), _lock: lock };
        // What a killed process left.
        for (name, path) in checkpoints.entries()? {
            if !name.starts_with("step-") {
                continue;
            }
            let replaced = path.with_extension("");
            if name.ends_with(".old") && !replaced.exists() {
                fs::rename(&path, &replaced).map_err(at(&path))?;
            } else if name.ends_with(".tmp") || name.ends_with(".old") {
                fs::remove_dir_all(&path).map_err(at(&path))?;
            }
        }
        Ok(checkpoints)
    }

    fn entries(&self) -> Result<Vec<(String, PathBuf)>> {
        let mut all = Vec::new();
        for entry in fs::read_dir(&self.folder).map_err(at(&self.folder))? {
            let entry = entry.map_err(at(&self.folder))?;
            all.push((entry.file_name().to_string_lossy().into_owned(), entry.path()));
        }
        Ok(all)
    }

    /// Numbers of steps of the checkpoints that are there, oldest first.
    ///
    /// # Errors
    /// If the folder cannot be read.
    pub fn steps(&self) -> Result<Vec<u64>> {
        let name = |(name, _): (String, PathBuf)| name.strip_prefix("step-")?.parse().ok();
        let mut steps: Vec<u64> = self.entries()?.into_iter().filter_map(name).collect();
        steps.sort();
        Ok(steps)
    }

    fn path(&self, step: u64) -> PathBuf {
        self.folder.join(format!("step-{step:07}"))
    }

    /// Saves arrays, each group of them in a safetensors file of that name, and notes; then removes the oldest
    /// checkpoints.
    ///
    /// # Errors
    /// If something cannot be written; the checkpoints before are then untouched.
    pub fn save(
        &self,
        step: u64,
        arrays: &[(&str, &Parameters)],
        notes: &Value,
    ) -> Result<PathBuf> {
        let place = self.path(step);
        let temporary = place.with_extension("tmp");
        let written = self.fill(&temporary, step, arrays, notes);
        if let Err(e) = written {
            // Should this fail too, the next process removes it.
            let _ = fs::remove_dir_all(&temporary);
            return Err(e);
        }
        if place.exists() {
            let old = place.with_extension("old");
            fs::rename(&place, &old).map_err(at(&place))?;
            fs::rename(&temporary, &place).map_err(at(&place))?;
            fs::remove_dir_all(&old).map_err(at(&old))?;
        } else {
            fs::rename(&temporary, &place).map_err(at(&place))?;
        }
        sync(&self.folder).map_err(at(&self.folder))?;
        let steps = self.steps()?;
        for &old in &steps[..steps.len().saturating_sub(self.keep)] {
            if old < step {
                self.remove(old)?;
            }
        }
        Ok(place)
    }

    /// Removes a checkpoint; by another name first, so that it is never half there.
    fn remove(&self, step: u64) -> Result<()> {
        let place = self.path(step);
        let gone = place.with_extension("gone.tmp");
        fs::rename(&place, &gone).map_err(at(&place))?;
        fs::remove_dir_all(&gone).map_err(at(&gone))
    }

    fn fill(
        &self,
        folder: &Path,
        step: u64,
        arrays: &[(&str, &Parameters)],
        notes: &Value,
    ) -> Result<()> {
        if folder.exists() {
            fs::remove_dir_all(folder).map_err(at(folder))?;
        }
        fs::create_dir(folder).map_err(at(folder))?;
        let mut names = vec![NOTES.to_string()];
        for (name, group) in arrays {
            let name = format!("{name}.safetensors");
            save_safetensors(folder.join(&name), *group, &[("format", "mlx")])?;
            names.push(name);
        }
        let text = json::to_string(notes);
        write(&folder.join(NOTES), text.as_bytes()).map_err(at(folder))?;
        let mut files = Map::new();
        for name in names {
            let (bytes, sha256) = sum(&folder.join(&name)).map_err(at(folder))?;
            files.insert(name, json!({ "bytes": bytes, "sha256": sha256 }));
        }
        let manifest = json::to_string(&json!({ "version": 1, "step": step, "files": files }));
        write(&folder.join(MANIFEST), manifest.as_bytes()).map_err(at(folder))?;
        let sum = hex(ring::digest::digest(&SHA256, manifest.as_bytes()).as_ref());
        write(&folder.join(SUM), sum.as_bytes()).map_err(at(folder))?;
        sync(folder).map_err(at(folder))
    }

    /// The newest checkpoint that is whole, if there is one, and the damaged ones on the way to it. These are
    /// put aside; if none is whole, they stay where they are.
    ///
    /// # Errors
    /// If the folder or a checkpoint cannot be read (memory, permissions, a newer version), or a damaged one
    /// cannot be put aside. A checkpoint that cannot be read is not taken for a damaged one.
    pub fn latest(&self) -> Result<(Option<Saved>, Vec<Rejected>)> {
        let mut damaged = Vec::new();
        for step in self.steps()?.into_iter().rev() {
            match read(&self.path(step), step)? {
                Ok(saved) => {
                    let aside = damaged.into_iter().map(|(step, why)| self.put_aside(step, why));
                    return Ok((Some(saved), aside.collect::<Result<_>>()?));
                }
                Err(why) => damaged.push((step, why)),
            }
        }
        let stay = |(step, why)| Rejected { folder: self.path(step), why };
        Ok((None, damaged.into_iter().map(stay).collect()))
    }

    fn put_aside(&self, step: u64, why: String) -> Result<Rejected> {
        let place = self.path(step);
        let mut aside = self.folder.join(format!("rejected-step-{step:07}"));
        let mut n = 1;
        while aside.exists() {
            n += 1;
            aside = self.folder.join(format!("rejected-step-{step:07}-{n}"));
        }
        fs::rename(&place, &aside).map_err(at(&place))?;
        Ok(Rejected { folder: aside, why })
    }
}

/// Reads a checkpoint if every byte is as its manifest says; else says what is wrong with it. An error is
/// one of reading, which says nothing about the checkpoint.
fn read(folder: &Path, step: u64) -> Result<std::result::Result<Saved, String>> {
    // A file that is not there is damage; any other failure is the system's.
    let there = |name: &str, e: std::io::Error| match e.kind() {
        ErrorKind::NotFound => Ok(Err(format!("there is no {name}"))),
        _ => Err(at(&folder.join(name))(e)),
    };
    let manifest = match fs::read(folder.join(MANIFEST)) {
        Ok(manifest) => manifest,
        Err(e) => return there(MANIFEST, e),
    };
    let wanted = match fs::read(folder.join(SUM)) {
        Ok(wanted) => wanted,
        Err(e) => return there(SUM, e),
    };
    if hex(ring::digest::digest(&SHA256, &manifest).as_ref()).as_bytes() != wanted {
        return Ok(Err("the manifest is not what was written".to_string()));
    }
    let manifest = match json::parse(&manifest) {
        Ok(manifest) => manifest,
        Err(e) => return Ok(Err(format!("the manifest cannot be read: {e}"))),
    };
    if manifest["version"] != 1 {
        let why = format!("version {} of checkpoints is not known", manifest["version"]);
        return Err(Error::Resume { folder: folder.to_path_buf(), why });
    }
    if manifest["step"] != step {
        return Ok(Err(format!("is of step {}", manifest["step"])));
    }
    let Some(files) = manifest["files"].as_object() else {
        return Ok(Err("the manifest has no files".to_string()));
    };
    let mut saved = Saved { step, arrays: BTreeMap::new(), notes: Value::Null };
    for (name, entry) in files {
        let path = folder.join(name);
        let (bytes, sha256) = match sum(&path) {
            Ok(both) => both,
            Err(e) => return there(name, e),
        };
        if entry["bytes"] != bytes || entry["sha256"] != sha256.as_str() {
            return Ok(Err(format!("{name} is not what was written")));
        }
        if let Some(group) = name.strip_suffix(".safetensors") {
            let arrays = load_safetensors(&path)?;
            // The file may be removed while the arrays are in use.
            eval(arrays.values())?;
            saved.arrays.insert(group.to_string(), arrays);
        } else {
            saved.notes = json::parse(&fs::read(&path).map_err(at(&path))?)?;
        }
    }
    Ok(Ok(saved))
}

#[cfg(test)]
mod tests {
    use super::*;
    use lazul_core::Array;

    fn weights(x: f32) -> Parameters {
        [("w".to_string(), Array::from_slice(&[x; 40], [40]))].into()
    }

    fn save(checkpoints: &Checkpoints, step: u64) {
        let notes = json!({ "step": step });
        let groups = [("weights", &weights(step as f32)), ("state", &weights(0.5))];
        checkpoints.save(step, &groups, &notes).unwrap();
    }

    #[test]
    fn the_last_ones_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints::open(folder.path(), 2).unwrap();
        (1..=4).for_each(|step| save(&checkpoints, step));
        assert_eq!(checkpoints.steps().unwrap(), [3, 4]);
        save(&checkpoints, 4);
        assert_eq!(checkpoints.steps().unwrap(), [3, 4]);
        let (saved, rejected) = checkpoints.latest().unwrap();
        let saved = saved.unwrap();
        assert!(rejected.is_empty());
        assert_eq!(saved.notes, json!({ "step": 4 }));
        assert_eq!(saved.arrays["weights"]["w"].to_vec::<f32>().unwrap(), [4.0; 40]);
        let failed = [("w".to_string(), Array::from_slice(&[1.0f32], [2]))].into();
        assert!(checkpoints.save(5, &[("weights", &failed)], &Value::Null).is_err());
        assert_eq!(checkpoints.steps().unwrap(), [3, 4]);
        let names: Vec<String> =
            checkpoints.entries().unwrap().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names.len(), 3, "{names:?}");
    }

    /// One byte anywhere, a file cut short, one too few: the checkpoint before is taken.
    #[test]
    fn every_damaged_byte_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints::open(folder.path(), 9).unwrap();
        save(&checkpoints, 1);
        let mut tried = 0;
        save(&checkpoints, 2);
        let files: Vec<PathBuf> =
            fs::read_dir(checkpoints.path(2)).unwrap().map(|e| e.unwrap().path()).collect();
        assert_eq!(files.len(), 5);
        for file in files {
            let bytes = fs::read(&file).unwrap();
            let mut broken: Vec<Option<Vec<u8>>> =
                vec![None, Some(bytes[..bytes.len() / 2].into())];
            for i in (0..bytes.len()).step_by(7) {
                let mut flipped = bytes.clone();
                flipped[i] ^= 1 << (i % 8);
                broken.push(Some(flipped));
            }
            for broken in broken {
                match &broken {
                    Some(bytes) => fs::write(&file, bytes).unwrap(),
                    None => fs::remove_file(&file).unwrap(),
                }
                assert!(read(&checkpoints.path(2), 2).unwrap().is_err(), "{}", file.display());
                fs::write(&file, &bytes).unwrap();
                tried += 1;
            }
        }
        assert!(tried > 100, "{tried}");
        assert!(read(&checkpoints.path(2), 2).unwrap().is_ok());
        fs::write(checkpoints.path(2).join(NOTES), "{}").unwrap();
        let (saved, rejected) = checkpoints.latest().unwrap();
        assert_eq!(saved.unwrap().step, 1);
        assert!(rejected[0].why.contains("notes.json"), "{}", rejected[0].why);
        assert!(rejected[0].folder.ends_with("rejected-step-0000002"));
        // It does not count among those that are kept, and its name is free again.
        save(&checkpoints, 2);
        assert_eq!(checkpoints.latest().unwrap().0.unwrap().step, 2);
    }

    /// Good checkpoints were put aside where a process had no memory, rights or files left.
    #[test]
    fn what_cannot_be_read_now_is_not_put_aside() {
        let folder = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints::open(folder.path(), 9).unwrap();
        (1..=2).for_each(|step| save(&checkpoints, step));
        // Not even the superuser reads a folder as a file.
        let notes = checkpoints.path(2).join(NOTES);
        let bytes = fs::read(&notes).unwrap();
        fs::remove_file(&notes).unwrap();
        fs::create_dir(&notes).unwrap();
        let error = checkpoints.latest().unwrap_err();
        assert!(error.to_string().contains(NOTES), "{error}");
        assert_eq!(checkpoints.steps().unwrap(), [1, 2]);
        fs::remove_dir(&notes).unwrap();
        fs::write(&notes, bytes).unwrap();
        assert_eq!(checkpoints.latest().unwrap().0.unwrap().step, 2);
        // What a later version wrote.
        let manifest = "{\"version\":2}";
        let sum = hex(ring::digest::digest(&SHA256, manifest.as_bytes()).as_ref());
        fs::write(checkpoints.path(2).join(MANIFEST), manifest).unwrap();
        fs::write(checkpoints.path(2).join(SUM), sum).unwrap();
        let error = checkpoints.latest().unwrap_err();
        assert!(error.to_string().contains("version 2"), "{error}");
        assert_eq!(checkpoints.steps().unwrap(), [1, 2]);
    }

    #[test]
    fn where_none_is_whole_all_stay() {
        let folder = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints::open(folder.path(), 9).unwrap();
        (1..=2).for_each(|step| save(&checkpoints, step));
        (1..=2).for_each(|step| fs::write(checkpoints.path(step).join(SUM), "no").unwrap());
        let (saved, rejected) = checkpoints.latest().unwrap();
        assert!(saved.is_none());
        let folders: Vec<_> = rejected.into_iter().map(|r| r.folder).collect();
        assert_eq!(folders, [checkpoints.path(2), checkpoints.path(1)]);
        assert_eq!(checkpoints.steps().unwrap(), [1, 2]);
    }

    #[test]
    fn only_a_lock_that_is_held_is_another_process() {
        let at = Path::new("f");
        let held = locked(at, TryLockError::WouldBlock).to_string();
        assert_eq!(held, "f: another process is training here");
        let none = TryLockError::Error(std::io::Error::other("no locks available"));
        assert_eq!(locked(at, none).to_string(), "f: cannot lock: no locks available");
    }

    #[test]
    fn what_a_killed_process_left_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints::open(folder.path(), 2).unwrap();
        save(&checkpoints, 7);
        drop(checkpoints);
        for name in ["step-0000008.tmp", "step-0000003.gone.tmp", "step-0000007.old"] {
            fs::create_dir(folder.path().join(name)).unwrap();
            fs::write(folder.path().join(name).join("weights.safetensors"), "half").unwrap();
        }
        let checkpoints = Checkpoints::open(folder.path(), 2).unwrap();
        assert_eq!(checkpoints.entries().unwrap().len(), 2);
        assert_eq!(checkpoints.latest().unwrap().0.unwrap().step, 7);
        drop(checkpoints);
        // Killed between the two renames of a replacement.
        let place = folder.path().join("step-0000007");
        fs::rename(&place, place.with_extension("old")).unwrap();
        let checkpoints = Checkpoints::open(folder.path(), 2).unwrap();
        assert_eq!(checkpoints.latest().unwrap().0.unwrap().step, 7);
    }
}

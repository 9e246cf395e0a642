//! Finding NVIDIA's libraries where people have them: the loader's path, a toolkit, or a folder named
//! by `LAZUL_CUDA_PATH` (several, separated as in `PATH`).

use libloading::Library;
use std::path::{Path, PathBuf};

/// Majors of the toolkit whose libraries are looked for, newest first.
const MAJORS: [u32; 2] = [13, 12];

/// Opens the library `stem` (`"nvrtc"`), or says where it was looked for.
pub(crate) fn open(stem: &str) -> Result<Library, String> {
    let names = names(stem);
    for folder in folders() {
        for name in &names {
            let path = folder.join(name);
            if path.is_file()
                && let Ok(library) = open_at(&path)
            {
                return Ok(library);
            }
        }
    }
    for name in &names {
        // SAFETY: as above, found by the system's loader.
        if let Ok(library) = unsafe { Library::new(name) } {
            return Ok(library);
        }
    }
    Err(format!("{} is not installed (a folder with it can be named by LAZUL_CUDA_PATH)", names[0]))
}

/// Opens the library at `path`, a folder's.
pub(crate) fn open_at(path: &Path) -> Result<Library, String> {
    // NVRTC asks for its second half by name, which works outside of the loader's path only if that is
    // loaded already. It stays loaded.
    if let Some(folder) = path.parent()
        && let Ok(entries) = std::fs::read_dir(folder)
    {
        for entry in entries.flatten() {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if name.starts_with("libnvrtc-builtins.so") && path.to_string_lossy().contains("nvrtc")
            {
                // SAFETY: as below.
                std::mem::forget(unsafe { Library::new(entry.path()) });
            }
        }
    }
    // SAFETY: loading runs the library's initialisers; it is NVIDIA's, from a folder that the user
    // named or a toolkit's installer made.
    unsafe { Library::new(path) }.map_err(|e| e.to_string())
}

fn names(stem: &str) -> Vec<String> {
    if cfg!(windows) {
        return MAJORS
            .iter()
            .map(|m| format!("{stem}64_{m}0_0.dll"))
            .chain(MAJORS.iter().map(|m| format!("{stem}64_{m}.dll")))
            .collect();
    }
    MAJORS.iter().map(|m| format!("lib{stem}.so.{m}")).chain([format!("lib{stem}.so")]).collect()
}

/// Folders that are searched before the loader's own: those named by variables, then a toolkit's.
fn folders() -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = Vec::new();
    if let Some(list) = std::env::var_os("LAZUL_CUDA_PATH") {
        for folder in std::env::split_paths(&list) {
            folders.push(folder.join("lib64"));
            folders.push(folder.join("lib"));
            folders.push(folder);
        }
    }
    for variable in ["CUDA_PATH", "CUDA_HOME"] {
        if let Some(root) = std::env::var_os(variable) {
            folders.push(PathBuf::from(&root).join("lib64"));
            folders.push(PathBuf::from(&root).join("bin"));
        }
    }
    if cfg!(unix) {
        folders.push("/usr/local/cuda/lib64".into());
        folders.push("/opt/cuda/lib64".into());
    }
    folders
}

//! A save that is killed leaves the old content or nothing: never a readable half.

use std::process::Command;
use std::time::Duration;

use lazul_core::Array;
use lazul_io::{FolderWriter, ModelFolder, WeightOptions, load_safetensors, save_safetensors};
use serde_json::json;

const VARIABLE: &str = "LAZUL_IO_KILL";
const SIZE: usize = 200_000;

fn array(value: f32) -> Array {
    Array::from_slice(&vec![value; SIZE], [SIZE])
}

/// What a child does until it is killed: saves a file and a folder over and over.
#[test]
fn child() {
    let Some(place) = std::env::var_os(VARIABLE) else { return };
    let place = std::path::PathBuf::from(place);
    for round in 1.. {
        let w = array(round as f32);
        save_safetensors(place.join("w.safetensors"), [("w", &w)], &[]).unwrap();
        let writer = FolderWriter::replace(place.join("model")).unwrap();
        writer.config(&json!({"round": round})).unwrap();
        let options = WeightOptions { max_shard_bytes: 4 * SIZE as u64, ..Default::default() };
        writer.weights([("a", &w), ("b", &w)], &options).unwrap();
        writer.finish().unwrap();
    }
}

#[test]
fn kills() {
    let (mut files, mut folders) = (0, 0);
    for delay in 0..30u64 {
        let place = tempfile::tempdir().unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["child", "--exact"])
            .env(VARIABLE, place.path())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(10 + delay * 37 % 391));
        child.kill().unwrap();
        child.wait().unwrap();

        let whole = |array: &Array, value: Option<f32>| {
            let values = array.to_vec::<f32>().unwrap();
            assert_eq!(values.len(), SIZE);
            assert!(values.iter().all(|v| *v == value.unwrap_or(values[0])));
        };
        let file = place.path().join("w.safetensors");
        if file.exists() {
            whole(&load_safetensors(file).unwrap()["w"], None);
            files += 1;
        }
        let folder = place.path().join("model");
        if folder.exists() {
            let folder = ModelFolder::open_dir(folder).unwrap();
            let round = folder.config()["round"].as_f64().unwrap() as f32;
            let weights = folder.weights().unwrap();
            assert_eq!(weights.arrays.len(), 2);
            weights.arrays.values().for_each(|array| whole(array, Some(round)));
            folders += 1;
        }
    }
    println!("30 kills: {files} whole files, {folders} whole folders, 0 torn");
}

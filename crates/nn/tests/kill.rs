//! A training process that is killed again and again at moments from a fixed seed, or whose disk is full: no
//! checkpoint that is read is torn, no step is lost that was saved, and in the end the weights are those of a
//! training that was left alone.
#![cfg(unix)]

use lazul_core::prelude::*;
use lazul_nn::layers::{Activation, Dropout};
use lazul_nn::losses::{Reduction, mse_loss};
use lazul_nn::optim::Adam;
use lazul_nn::train::{Batching, Checkpoints, FitOptions, Loader, Result, Session, fit};
use lazul_nn::{Layer, Linear, Sequential};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const FOLDER: &str = "LAZUL_TEST_KILL_FOLDER";

fn train(folder: &Path, steps: u64) -> Result<Session<Sequential>> {
    let keys = random::split(&random::key(3), 2);
    let model = Sequential::new()
        .then(Linear::init(8, 64, true, Some(&keys.at_index(0, 0)))?)
        .then(Activation::Relu)
        .then(Dropout::new(0.2)?)
        .then(Linear::init(64, 1, true, Some(&keys.at_index(0, 1)))?);
    let optimizer = Adam::new(1e-2);
    let mut session = Session::new(model, &optimizer, 1)?;
    let x = random::normal([64, 8], DType::F32, Some(&random::key(1)));
    let y = x.sum(1).expand_dims(1);
    let rows = move |batch: &[usize]| -> Result<(Array, Array)> {
        let rows: Vec<i32> = batch.iter().map(|&i| i as i32).collect();
        let rows = Array::from_slice(&rows, [rows.len()]);
        Ok((x.take(&rows, 0), y.take(&rows, 0)))
    };
    let how = Batching { size: 8, ..Default::default() };
    let mut loader = Loader::new(vec![1; 64], how, rows)?;
    let loss =
        |m: &mut Sequential, (x, y): &(Array, Array)| -> lazul_core::Result<(Array, Array)> {
            Ok((mse_loss(&m.forward(x), y, Reduction::Mean), Array::scalar(8)))
        };
    let options = FitOptions {
        steps,
        accumulate: 2,
        save_every: 1,
        keep: 2,
        resume: true,
        folder: Some(folder.to_path_buf()),
        ..Default::default()
    };
    fit(&mut session, &optimizer, &mut loader, loss, None, &options, &mut |_| ())?;
    Ok(session)
}

/// What the killed processes run; on its own it has nothing to do.
#[test]
fn child() {
    if let Some(folder) = std::env::var_os(FOLDER) {
        // It ends by being killed.
        train(&PathBuf::from(folder), u64::MAX).unwrap();
    }
}

/// The newest checkpoint by its name alone, which a process may be writing beside.
fn newest(folder: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    let name = |e: std::io::Result<std::fs::DirEntry>| e.ok()?.file_name().into_string().ok();
    let steps = entries.filter_map(name).filter_map(|n| n.strip_prefix("step-")?.parse().ok());
    steps.max().unwrap_or(0)
}

/// A process that trains in a folder until it is killed or fails, started by `command`.
fn start(mut command: Command, folder: &Path) -> Child {
    command.env(FOLDER, folder).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

fn child_command() -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "child", "--test-threads=1"]);
    command
}

fn assert_alike(a: &Session<Sequential>, b: &Session<Sequential>) {
    for (i, (x, y)) in a.leaves().into_iter().zip(b.leaves()).enumerate() {
        assert!(x.to_bytes().unwrap() == y.to_bytes().unwrap(), "leaf {i}");
    }
}

/// Kills so many processes: every other one as soon as it may be anywhere, also before its first step, and the
/// others some time after they have written a checkpoint, wherever they are then.
fn kill(kills: u64) {
    let place = tempfile::tempdir().unwrap();
    let (killed, alone) = (place.path().join("killed"), place.path().join("alone"));
    let mut random = 0x9E37_79B9_7F4A_7C15u64;
    let (mut before, mut torn) = (0, 0);
    for i in 0..kills {
        let mut child = start(child_command(), &killed);
        random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let moment = Duration::from_micros((random >> 33) % 20_000);
        let got_on = i % 2 == 0;
        // Whatever the machine's speed, it has written a checkpoint, and is somewhere after it.
        let began = Instant::now();
        while got_on && newest(&killed) <= before {
            assert!(child.try_wait().unwrap().is_none(), "the process ended by itself");
            assert!(began.elapsed() < Duration::from_secs(120), "no checkpoint in two minutes");
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(if got_on { moment } else { moment * 3 });
        child.kill().unwrap();
        child.wait().unwrap();
        // Nothing that has the name of a checkpoint is torn, and no step is lost that was saved.
        let checkpoints = Checkpoints::open(&killed, 2).unwrap();
        let (saved, rejected) = checkpoints.latest().unwrap();
        torn += rejected.len();
        let step = saved.map_or(0, |s| s.step);
        assert!(step >= before + u64::from(got_on), "{step} after {before}");
        before = step;
    }
    assert_eq!(torn, 0);
    let steps = before + 5;
    let (a, b) = (train(&killed, steps).unwrap(), train(&alone, steps).unwrap());
    println!("{kills} kills, {torn} torn checkpoints, step {before} at the last kill");
    assert_alike(&a, &b);
}

#[test]
fn killed_trainings_lose_nothing_but_time() {
    kill(20);
}

/// The same for some minutes: `cargo test -p lazul-nn --test kill -- --ignored --nocapture`.
#[test]
#[ignore = "takes minutes"]
fn a_thousand_killed_trainings_lose_nothing_but_time() {
    kill(1000);
}

/// Where nothing can be written, the training ends with an error, what was there stays, and with room again it
/// goes on as if nothing had been.
#[test]
fn a_full_disk_ends_a_training_and_takes_nothing() {
    let place = tempfile::tempdir().unwrap();
    let (full, alone) = (place.path().join("full"), place.path().join("alone"));
    train(&full, 3).unwrap();
    // Blocks of 512 bytes that a file may have: from none to most of the largest file's.
    for blocks in [0, 1, 2, 5] {
        let mut command = Command::new("sh");
        let exe = std::env::current_exe().unwrap();
        let limited =
            format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" --exact child --test-threads=1");
        command.arg("-c").arg(limited).arg(exe);
        let ended = start(command, &full).wait().unwrap();
        assert_eq!(ended.code(), Some(101), "with {blocks} blocks: {ended}");
        let (saved, rejected) = Checkpoints::open(&full, 2).unwrap().latest().unwrap();
        assert_eq!((saved.map(|s| s.step), rejected.len()), (Some(3), 0), "{blocks} blocks");
    }
    let names = |folder: &Path| {
        let mut names: Vec<_> =
            std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let (a, b) = (train(&full, 7).unwrap(), train(&alone, 7).unwrap());
    assert_alike(&a, &b);
    assert_eq!(names(&full), names(&alone), "nothing half written stays");
}

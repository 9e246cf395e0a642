//! Runs each case in a child process: this same program, asked by an environment variable.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use lazul_core::Array;
use lazul_io::{ErrorKind, Gguf, ModelFolder, Npy, Npz, Result, SafeTensors};

/// Address space of a child in KiB: 2 GiB.
const MEMORY_KIB: u64 = 2 << 20;
/// Time of a child. The contract's second is for the release profile on a quiet machine.
const TIME: Duration = Duration::from_secs(5);
/// The contract's memory before rejection (16 MiB and twice the file), and what a test harness and
/// its threads use by themselves.
const FREE_MEMORY: u64 = (16 + 8) << 20;

const VARIABLE: &str = "LAZUL_IO_HOSTILE";

/// What must happen.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Expect {
    /// A typed error of one of these kinds; any kind if there are none.
    Reject(Vec<ErrorKind>),
    /// It loads, and these are the bytes of its arrays, one after the other by name.
    Accept(Vec<u8>),
    /// It loads, whatever comes out: a NaN may have any bits.
    Any,
}

/// How it is loaded.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Loader {
    SafeTensors,
    /// Opens, cuts the file short, then evaluates.
    SafeTensorsCut,
    Npy,
    Npz,
    Gguf,
    /// Opens, cuts the file short, then evaluates.
    GgufCut,
    Folder,
    /// Opens the folder, exchanges its weights by a link that leads out, then loads them.
    FolderSwap,
}

type Builder = Box<dyn Fn(&Path)>;

/// One line of a table.
pub(crate) struct Case {
    pub(crate) group: u8,
    pub(crate) name: String,
    pub(crate) loader: Loader,
    pub(crate) expect: Expect,
    /// Makes the file or folder at the path.
    pub(crate) build: Builder,
}

impl Case {
    pub(crate) fn label(&self) -> String {
        format!("{:?} {} {}", self.loader, self.group, self.name)
    }
}

/// A case whose file is these bytes.
pub(crate) fn case(loader: Loader, group: u8, name: &str, expect: Expect, bytes: Vec<u8>) -> Case {
    let build: Builder = Box::new(move |path| fs::write(path, &bytes).unwrap());
    Case { group, name: name.to_owned(), loader, expect, build }
}

/// What came out of a table.
pub(crate) struct Figures {
    pub(crate) groups: BTreeSet<u8>,
}

pub(crate) fn run_all(title: &str, cases: &[Case]) -> Figures {
    let mut wrong = Vec::new();
    let (mut bad, mut good, mut killed) = ((0, 0), (0, 0), 0);
    let (mut slowest, mut hungriest) = ((Duration::ZERO, ""), (0, ""));
    for case in cases {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("input");
        (case.build)(&path);
        let size = size_of(place.path());
        let start = Instant::now();
        let outcome = spawn(case, &path);
        let time = start.elapsed();
        if time > slowest.0 {
            slowest = (time, &case.name);
        }
        let count = match case.expect {
            Expect::Reject(_) => &mut bad,
            Expect::Accept(_) | Expect::Any => &mut good,
        };
        count.1 += 1;
        match outcome {
            Ok(answer) => {
                let excess = answer.memory.saturating_sub(2 * size);
                if excess > hungriest.0 {
                    hungriest = (excess, &case.name);
                }
                match judge(&answer, &case.expect, excess) {
                    Ok(()) => count.0 += 1,
                    Err(why) => wrong.push(format!("{}: {why}", case.label())),
                }
            }
            Err(why) => {
                killed += 1;
                wrong.push(format!("{}: {why}", case.label()));
            }
        }
    }
    println!(
        "{title}: rejected {}/{}, accepted {}/{}, killed {killed}; slowest {:.0?} ({}), \
         most memory beyond twice the file {} KiB ({})",
        bad.0,
        bad.1,
        good.0,
        good.1,
        slowest.0,
        slowest.1,
        hungriest.0 >> 10,
        hungriest.1
    );
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
    Figures { groups: cases.iter().map(|case| case.group).collect() }
}

/// Bytes of everything that a case has built.
fn size_of(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).unwrap().flatten();
    let size = |entry: fs::DirEntry| match entry.file_type().unwrap().is_dir() {
        true => size_of(&entry.path()),
        false => fs::symlink_metadata(entry.path()).unwrap().len(),
    };
    entries.map(size).sum()
}

/// What a child said.
struct Answer {
    verdict: String,
    text: String,
    memory: u64,
}

fn judge(answer: &Answer, expect: &Expect, excess: u64) -> Result<(), String> {
    match expect {
        Expect::Reject(kinds) => {
            let Some(kind) = answer.verdict.strip_prefix("ERR ") else {
                return Err(format!("was accepted: {}", answer.verdict));
            };
            if !kinds.is_empty() && !kinds.iter().any(|k| format!("{k:?}") == kind) {
                return Err(format!("was {kind} and not {kinds:?}: {}", answer.text));
            }
            if answer.text.len() > 1024 || answer.text.chars().any(char::is_control) {
                return Err("the message is not printable".to_owned());
            }
            if excess > FREE_MEMORY {
                return Err(format!("took {} KiB beyond twice the file", excess >> 10));
            }
            Ok(())
        }
        Expect::Any if answer.verdict.starts_with("OK ") => Ok(()),
        Expect::Any => Err(format!("{}: {}", answer.verdict, answer.text)),
        Expect::Accept(bytes) => match answer.verdict == format!("OK {:?}", hash(bytes)) {
            true => Ok(()),
            false => Err(format!("{}: {}", answer.verdict, answer.text)),
        },
    }
}

fn spawn(case: &Case, path: &Path) -> Result<Answer, String> {
    let mut child = Command::new("sh")
        .arg("-c")
        .arg(format!("ulimit -v {MEMORY_KIB} && exec \"$0\" \"$@\""))
        .arg(std::env::current_exe().unwrap())
        .args(["child", "--exact", "--nocapture", "--test-threads=1"])
        .env(VARIABLE, format!("{:?}", case.loader))
        .env("LAZUL_IO_HOSTILE_PATH", path)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let start = Instant::now();
    let status = loop {
        match child.try_wait().unwrap() {
            Some(status) => break status,
            None if start.elapsed() > TIME => {
                child.kill().unwrap();
                child.wait().unwrap();
                return Err("took too long".to_owned());
            }
            None => std::thread::sleep(Duration::from_millis(2)),
        }
    };
    let (mut out, mut err) = (String::new(), String::new());
    child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
    child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
    let line = |key: &str| {
        let found = out.lines().find_map(|line| line.strip_prefix(key));
        found.map(str::to_owned).ok_or_else(|| format!("{status}: {}", err.trim()))
    };
    if !status.success() {
        return Err(format!("{status}: {}", err.trim()));
    }
    Ok(Answer {
        verdict: line("VERDICT ")?,
        text: line("TEXT ")?,
        memory: line("MEMORY ")?.parse().unwrap(),
    })
}

/// The child: loads what it is told to, evaluates everything, prints the verdict.
pub(crate) fn child() {
    let Ok(loader) = std::env::var(VARIABLE) else { return };
    let path = std::env::var_os("LAZUL_IO_HOSTILE_PATH").unwrap();
    let before = status_kib("VmRSS:");
    let (verdict, text) = match load(&loader, Path::new(&path)) {
        Ok(bytes) => (format!("OK {:?}", hash(&bytes)), String::new()),
        Err(e) => (format!("ERR {:?}", e.kind()), e.to_string()),
    };
    let memory = status_kib("VmHWM:").saturating_sub(before) << 10;
    println!("\nVERDICT {verdict}\nTEXT {text}\nMEMORY {memory}");
    std::process::exit(0);
}

/// A line of /proc/self/status; 0 where there is none.
fn status_kib(key: &str) -> u64 {
    let text = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(key));
    line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse().ok()).unwrap_or(0)
}

fn load(loader: &str, path: &Path) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    match loader {
        "SafeTensors" => {
            for array in SafeTensors::open(path)?.arrays()?.values() {
                out.extend(evaluate(array)?);
            }
        }
        "SafeTensorsCut" => {
            let arrays = SafeTensors::open(path)?.arrays()?;
            let file = File::options().write(true).open(path).unwrap();
            file.set_len(file.metadata().unwrap().len() - 1).unwrap();
            for array in arrays.values() {
                out.extend(evaluate(array)?);
            }
        }
        "Npy" => out = evaluate(&Npy::open(path)?.array()?)?,
        "Npz" => {
            for array in Npz::open(path)?.arrays()?.values() {
                out.extend(evaluate(array)?);
            }
        }
        "Gguf" => {
            for array in Gguf::open(path)?.arrays()?.values() {
                out.extend(evaluate(array)?);
            }
        }
        "GgufCut" => {
            let arrays = Gguf::open(path)?.arrays()?;
            let file = File::options().write(true).open(path).unwrap();
            file.set_len(file.metadata().unwrap().len() - 1).unwrap();
            for array in arrays.values() {
                out.extend(evaluate(array)?);
            }
        }
        "Folder" => {
            for array in ModelFolder::open_dir(path)?.weights()?.arrays.values() {
                out.extend(evaluate(array)?);
            }
        }
        "FolderSwap" => {
            let folder = ModelFolder::open_dir(path)?;
            fs::rename(path.join("model.safetensors"), path.with_file_name("secret")).unwrap();
            std::os::unix::fs::symlink("../secret", path.join("model.safetensors")).unwrap();
            for array in folder.weights()?.arrays.values() {
                out.extend(evaluate(array)?);
            }
        }
        other => panic!("unknown loader {other}"),
    }
    Ok(out)
}

/// A failure at evaluation counts as the error that the source raised, where it is still known.
pub(crate) fn evaluate(array: &Array) -> Result<Vec<u8>> {
    array.to_bytes().map_err(|e| lazul_io::Error::new(ErrorKind::Array, e.to_string()))
}

/// FNV-1a and the length: enough to compare bits across a process boundary.
fn hash(bytes: &[u8]) -> (usize, u64) {
    let fnv = bytes.iter().fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
    });
    (bytes.len(), fnv)
}

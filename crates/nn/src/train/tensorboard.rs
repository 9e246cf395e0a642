//! The figures of a training as TensorBoard reads them: one file of events beside `metrics.jsonl`.
//!
//! A file is a list of records: length, its checksum, an event, its checksum. An event is a protocol buffer with
//! time, step and numbers by name. Checksums are CRC-32C, turned and shifted so that one over another is none by
//! chance. Sources: TensorFlow's `record_writer` and `event.proto`.

use super::error::{Error, Result};
use lazul_io::write_file;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// TensorBoard takes every file with `tfevents` in its name.
pub(super) const FILE: &str = "events.out.tfevents.lazul";

/// The file of events of a training.
#[derive(Debug)]
pub(super) struct Events {
    path: PathBuf,
}

impl Events {
    /// The events up to a step, to be gone on with: those of steps that are made again, and what is damaged, are
    /// dropped.
    pub(super) fn open(folder: &Path, step: u64) -> Result<Events> {
        let path = folder.join(FILE);
        let old = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(e) => return Err(Error::Data(format!("{}: {e}", path.display()))),
        };
        let mut kept = Vec::new();
        let mut first = Message::at(now(), 0);
        first.bytes(3, b"brain.Event:2");
        record(&mut kept, &first.0);
        for event in records(&old).skip(1) {
            if step_of(event).is_some_and(|s| s > 0 && s <= step) {
                record(&mut kept, event);
            }
        }
        write_file(&path, &kept)?;
        Ok(Events { path })
    }

    /// Adds numbers of a step; those that are not finite are left out.
    pub(super) fn write(&mut self, step: u64, scalars: &[(&str, f64)]) -> Result<()> {
        let mut summary = Message::default();
        for (name, value) in scalars.iter().filter(|(_, value)| value.is_finite()) {
            let mut one = Message::default();
            one.bytes(1, name.as_bytes());
            one.float(2, *value as f32);
            summary.bytes(1, &one.0);
        }
        let mut event = Message::at(now(), step);
        event.bytes(5, &summary.0);
        let mut bytes = Vec::new();
        record(&mut bytes, &event.0);
        let at = |e: std::io::Error| Error::Data(format!("{}: {e}", self.path.display()));
        let mut file = OpenOptions::new().create(true).append(true).open(&self.path).map_err(at)?;
        file.write_all(&bytes).map_err(at)
    }
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |d| d.as_secs_f64())
}

/// A protocol buffer as it is written.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    /// An event's time and step.
    fn at(time: f64, step: u64) -> Message {
        let mut message = Message(vec![1 << 3 | 1]);
        message.0.extend(time.to_le_bytes());
        message.0.push(2 << 3);
        message.varint(step);
        message
    }

    fn varint(&mut self, mut n: u64) {
        while n >= 0x80 {
            self.0.push(n as u8 | 0x80);
            n >>= 7;
        }
        self.0.push(n as u8);
    }

    fn bytes(&mut self, field: u8, bytes: &[u8]) {
        self.0.push(field << 3 | 2);
        self.varint(bytes.len() as u64);
        self.0.extend(bytes);
    }

    fn float(&mut self, field: u8, x: f32) {
        self.0.push(field << 3 | 5);
        self.0.extend(x.to_le_bytes());
    }
}

/// The step of an event that [`Message::at`] began.
fn step_of(event: &[u8]) -> Option<u64> {
    let rest = event.strip_prefix(&[1 << 3 | 1])?.get(8..)?.strip_prefix(&[2 << 3])?;
    let mut step = 0;
    for (i, byte) in rest.iter().take(10).enumerate() {
        step |= u64::from(byte & 0x7f) << (7 * i as u32).min(63);
        if byte & 0x80 == 0 {
            return Some(step);
        }
    }
    None
}

fn record(to: &mut Vec<u8>, data: &[u8]) {
    let length = (data.len() as u64).to_le_bytes();
    to.extend(length);
    to.extend(masked(&length).to_le_bytes());
    to.extend(data);
    to.extend(masked(data).to_le_bytes());
}

/// The records of a file up to the first that is not whole.
fn records(mut bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (length, rest) = bytes.split_first_chunk::<8>()?;
        let (check, rest) = rest.split_first_chunk::<4>()?;
        if masked(length) != u32::from_le_bytes(*check) {
            return None;
        }
        let (data, rest) = rest.split_at_checked(u64::from_le_bytes(*length).try_into().ok()?)?;
        let (check, rest) = rest.split_first_chunk::<4>()?;
        bytes = rest;
        (masked(data) == u32::from_le_bytes(*check)).then_some(data)
    })
}

/// Remainders of bytes by Castagnoli's polynomial, bits reversed.
const TABLE: [u32; 256] = {
    let mut table = [0u32; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0x82F6_3B78 } else { crc >> 1 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};

fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, &b| TABLE[(crc as u8 ^ b) as usize] ^ crc >> 8)
}

fn masked(bytes: &[u8]) -> u32 {
    crc32c(bytes).rotate_right(15).wrapping_add(0xA282_EAD8)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 3720, B.4.
    #[test]
    fn checksums_are_castagnolis() {
        assert_eq!(crc32c(&[0; 32]), 0x8A91_36AA);
        assert_eq!(crc32c(&[0xFF; 32]), 0x62A8_AB43);
        assert_eq!(crc32c(&(0..32).collect::<Vec<u8>>()), 0x46DD_794E);
        assert_eq!(crc32c(b"123456789"), 0xE306_9283);
    }

    /// Bytes that TensorBoard's own writer made: `RecordWriter(f).write(event.SerializeToString())` of
    /// `Event(wall_time=1.5, step=300, summary=Summary(value=[Value(tag="loss", simple_value=0.25)]))`.
    #[test]
    fn bytes_are_tensorboards() {
        let mut one = Message::default();
        one.bytes(1, b"loss");
        one.float(2, 0.25);
        let mut summary = Message::default();
        summary.bytes(1, &one.0);
        let mut event = Message::at(1.5, 300);
        event.bytes(5, &summary.0);
        let mut bytes = Vec::new();
        record(&mut bytes, &event.0);
        let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
        let golden = "1b000000000000001a0d9e1309000000000000f83f10ac022a0d0a0b0a046c6f7373150000803e9908deed";
        assert_eq!(hex, golden);
        assert_eq!(step_of(&event.0), Some(300));
    }

    #[test]
    fn a_training_goes_on_after_its_last_whole_event() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE);
        let mut events = Events::open(folder.path(), 0).unwrap();
        for step in [10, 20, 30] {
            events.write(step, &[("loss", 1.0), ("rate", f64::NAN)]).unwrap();
        }
        let steps = |path: &Path| -> Vec<u64> {
            let bytes = fs::read(path).unwrap();
            records(&bytes).map(|e| step_of(e).unwrap()).collect()
        };
        assert_eq!(steps(&path), [0, 10, 20, 30]);
        // Torn, and of steps that come again.
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..bytes.len() - 3]).unwrap();
        Events::open(folder.path(), 10).unwrap().write(15, &[("loss", 0.5)]).unwrap();
        assert_eq!(steps(&path), [0, 10, 15]);
        // What is no file of events at all.
        fs::write(&path, [0xAB; 100]).unwrap();
        Events::open(folder.path(), 10).unwrap();
        assert_eq!(steps(&path), [0]);
    }
}

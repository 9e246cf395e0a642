//! Small valid files, cut at every length and with every bit flipped.
//!
//! A cut file is always an error. A flipped one may still be valid; what matters is that it ends
//! with a value or a typed error, whatever the bit.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use lazul_io::{Gguf, Npy, Npz, Result, SafeTensors, json};

use super::build::*;
use super::gguf;
use super::runner::evaluate;

type Load = fn(Vec<u8>) -> Result<()>;

fn load_st(bytes: Vec<u8>) -> Result<()> {
    SafeTensors::from_bytes(bytes)?.arrays()?.values().try_for_each(|a| evaluate(a).map(drop))
}

fn load_npy(bytes: Vec<u8>) -> Result<()> {
    evaluate(&Npy::from_bytes(bytes)?.array()?).map(drop)
}

fn load_npz(bytes: Vec<u8>) -> Result<()> {
    Npz::from_bytes(bytes)?.arrays()?.values().try_for_each(|a| evaluate(a).map(drop))
}

fn load_gguf(bytes: Vec<u8>) -> Result<()> {
    Gguf::from_bytes(bytes)?.arrays()?.values().try_for_each(|a| evaluate(a).map(drop))
}

fn load_json(bytes: Vec<u8>) -> Result<()> {
    json::parse(&bytes).map(drop)
}

/// Thirteen small valid files.
fn files() -> Vec<(&'static str, Load, Vec<u8>)> {
    let three = format!(
        "{{\"__metadata__\":{{\"format\":\"mlx\"}},{},{},{}}}",
        tensor("a", "F32", "[2,2]", "[0,16]"),
        tensor("b.weight", "BF16", "[3]", "[16,22]"),
        tensor("c", "BOOL", "[]", "[22,23]")
    );
    let array = npy(&vector(40), &[3; 40]);
    let fortran = "{'descr': '>f4', 'fortran_order': True, 'shape': (2, 3), }";
    let complex = "{'descr': '<c8', 'fortran_order': False, 'shape': (), }";
    let scaled: Vec<u8> = (0..200).map(|i| i / 3).collect();
    let config = br#"{"model_type": "x", "rope": [1e4, -0.5, Infinity], "s": "a\u00e9\n", "n": null, "t": true}"#;
    vec![
        ("st", load_st, st(one("[4]", "[0,16]"), &[1; 16])),
        ("st of three", load_st, st(three, &[1; 23])),
        ("st, padded", load_st, st(format!("{}   ", one("[]", "[0,4]")), &[1; 4])),
        ("npy", load_npy, array.clone()),
        ("npy, Fortran", load_npy, npy(fortran, &[1; 24])),
        ("npy, rank 0", load_npy, npy(complex, &[1; 8])),
        ("npy, version 2", load_npy, npy_of(2, format!("{}\n", vector(5)), &[1; 5])),
        ("npz, stored", load_npz, zip(&[Member::stored("x.npy", &array)])),
        ("npz, deflated", load_npz, zip(&[Member::deflated("x.npy", &npy(&vector(200), &scaled))])),
        (
            "npz of two",
            load_npz,
            zip(&[Member::stored("x.npy", &array), Member::deflated("y.npy", &array)]),
        ),
        (
            "npz, zip64",
            load_npz,
            zip_with(
                &[Member::stored("x.npy", &array)],
                &End { count: Some(u16::MAX), count64: Some(1), ..End::default() },
            ),
        ),
        ("json", load_json, config.to_vec()),
        (
            "gguf",
            load_gguf,
            gguf::new()
                .key(b"general.alignment", 4, &[8, 0, 0, 0])
                .key(b"t", 8, &gguf::text(b"text"))
                .tensor(b"a", &[2, 1], 0, 0)
                .tensor(b"b", &[32], 2, 8)
                .data(&[1; 26])
                .aligned(8)
                .bytes(),
        ),
    ]
}

#[test]
fn truncate_all() {
    let mut count = 0;
    for (name, load, bytes) in files() {
        assert!(load(bytes.clone()).is_ok(), "{name}");
        for length in 0..bytes.len() {
            assert!(load(bytes[..length].to_vec()).is_err(), "{name} cut to {length}");
            count += 1;
        }
    }
    println!("truncate_all: rejected {count}/{count}");
}

#[test]
fn flip_all() {
    let (mut errors, mut values, mut slowest) = (0, 0, Duration::ZERO);
    for (name, load, bytes) in files() {
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let start = Instant::now();
            match catch_unwind(AssertUnwindSafe(|| load(flipped))) {
                Ok(Ok(())) => values += 1,
                Ok(Err(e)) => {
                    assert!(e.to_string().len() <= 1024);
                    errors += 1;
                }
                Err(_) => panic!("{name} with bit {bit} flipped"),
            }
            slowest = slowest.max(start.elapsed());
        }
    }
    println!("flip_all: {errors} errors, {values} values, 0 panics, slowest {slowest:.1?}");
}

//! Pictures of digits: MNIST's own files where there are some, and otherwise drawn ones.

use flate2::read::GzDecoder;
use lazul::prelude::*;
use std::io::Read;
use std::path::Path;

const GLYPHS: [[u8; 7]; 10] = [
    [0b01110, 0b10001, 0b10011, 0b10101, 0b11001, 0b10001, 0b01110],
    [0b00100, 0b01100, 0b00100, 0b00100, 0b00100, 0b00100, 0b01110],
    [0b01110, 0b10001, 0b00001, 0b00110, 0b01000, 0b10000, 0b11111],
    [0b11111, 0b00010, 0b00100, 0b00010, 0b00001, 0b10001, 0b01110],
    [0b00010, 0b00110, 0b01010, 0b10010, 0b11111, 0b00010, 0b00010],
    [0b11111, 0b10000, 0b11110, 0b00001, 0b00001, 0b10001, 0b01110],
    [0b00110, 0b01000, 0b10000, 0b11110, 0b10001, 0b10001, 0b01110],
    [0b11111, 0b00001, 0b00010, 0b00100, 0b01000, 0b01000, 0b01000],
    [0b01110, 0b10001, 0b10001, 0b01110, 0b10001, 0b10001, 0b01110],
    [0b01110, 0b10001, 0b10001, 0b01111, 0b00001, 0b00010, 0b01100],
];

/// `n` pictures `(n, side, side)` from 0 to 1 and the digits on them `(n)`: glyphs of 5 by 7 dots, shifted, stretched,
/// slanted, of any brightness, their edges smooth.
pub fn drawn(n: usize, side: usize, seed: u64) -> lazul::Result<(Array, Array)> {
    // For each picture: digit, two stretches, two shifts, brightness, slant.
    let draws = random::uniform(0.0, 1.0, [n, 7], DType::F32, Some(&random::key(seed)));
    let draws = draws.to_vec::<f32>()?;
    let unit = side as f32 / 14.0;
    let (mut pictures, mut labels) = (vec![0f32; n * side * side], Vec::new());
    for (picture, draw) in pictures.chunks_mut(side * side).zip(draws.chunks(7)) {
        let digit = ((draw[0] * 10.0) as usize).min(9);
        labels.push(digit as i32);
        let (wide, high) = ((1.2 + draw[1] * 0.8) * unit, (1.2 + draw[2] * 0.6) * unit);
        let left = (side as f32 - 5.0 * wide) / 2.0 + (draw[3] - 0.5) * 3.0 * unit;
        let top = (side as f32 - 7.0 * high) / 2.0 + (draw[4] - 0.5) * 2.0 * unit;
        let slant = (draw[6] - 0.5) * 0.5;
        let lit = |x: f32, y: f32| {
            let row = (y - top) / high;
            let column = (x - left - slant * (side as f32 / 2.0 - y)) / wide;
            let inside = (0.0..5.0).contains(&column) && (0.0..7.0).contains(&row);
            inside && GLYPHS[digit][row as usize] >> (4 - column as usize) & 1 == 1
        };
        for (i, dot) in picture.iter_mut().enumerate() {
            // Nine points of the dot.
            let points = (0..9).filter(|p| {
                let (x, y) = ((i % side) as f32, (i / side) as f32);
                lit(x + (p % 3) as f32 / 3.0 + 1.0 / 6.0, y + (p / 3) as f32 / 3.0 + 1.0 / 6.0)
            });
            *dot = points.count() as f32 / 9.0 * (0.5 + 0.5 * draw[5]);
        }
    }
    Ok((Array::from_slice(&pictures, [n, side, side]), Array::from_slice(&labels, [n])))
}

/// MNIST's pictures `(n, 28, 28)` from 0 to 1 and digits `(n)`, of the part `train` or `t10k`, from a folder with
/// its four files, packed (`.gz`) or not.
pub fn mnist(folder: &Path, part: &str) -> Result<(Array, Array), Box<dyn std::error::Error>> {
    let read = |kind: &str| -> Result<Vec<u8>, Box<dyn std::error::Error>> {
        let name = format!("{part}-{kind}-ubyte");
        let (plain, packed) = (folder.join(&name), folder.join(name + ".gz"));
        if plain.exists() {
            return Ok(std::fs::read(plain)?);
        }
        let file =
            std::fs::File::open(&packed).map_err(|e| format!("{}: {e}", packed.display()))?;
        let mut bytes = Vec::new();
        GzDecoder::new(file).take(1 << 28).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let (pictures, labels) = (read("images-idx3")?, read("labels-idx1")?);
    let n = labels.len().saturating_sub(8);
    if pictures.len() != 16 + n * 784
        || pictures[..4] != [0, 0, 8, 3]
        || labels[..4] != [0, 0, 8, 1]
    {
        return Err(format!("{}: {part} is no set of MNIST", folder.display()).into());
    }
    let pictures = Array::from_slice(&pictures[16..], [n, 28, 28]).astype(DType::F32) / 255.0;
    let labels: Vec<i32> = labels[8..].iter().map(|&label| label.into()).collect();
    Ok((pictures, Array::from_slice(&labels, [n])))
}

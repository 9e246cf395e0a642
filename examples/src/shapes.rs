//! Small colour pictures in ten classes: CIFAR-10's own files where there are some, and otherwise drawn shapes.

use lazul::prelude::*;
use std::path::Path;

/// What is drawn.
pub const SHAPES: [&str; 10] =
    ["disc", "ring", "square", "frame", "triangle", "diamond", "cross", "star", "stripes", "moon"];

/// How deep a place is inside a shape of radius 1 around the origin; below zero outside.
fn inside(shape: usize, x: f32, y: f32) -> f32 {
    let (distance, square) = ((x * x + y * y).sqrt(), x.abs().max(y.abs()));
    match shape {
        0 => 0.9 - distance,
        1 => (0.9 - distance).min(distance - 0.5),
        2 => 0.75 - square,
        3 => (0.8 - square).min(square - 0.45),
        4 => (0.5 - y).min((y + 0.95 - x.abs() * 1.8) / 2.0),
        5 => (0.9 - x.abs() * 1.5 - y.abs()) / 1.8,
        6 => (0.9 - square).min(0.25 - x.abs().min(y.abs())),
        7 => {
            let turn = (y.atan2(x) * 5.0 / std::f32::consts::TAU).rem_euclid(1.0) - 0.5;
            (0.38 + turn.abs() * 1.1 - distance) / 1.5
        }
        8 => (0.85 - square).min(0.17 - ((x + 2.125).rem_euclid(0.57) - 0.285).abs()),
        _ => (0.9 - distance).min(((x - 0.45).powi(2) + y * y).sqrt() - 0.75),
    }
}

/// `n` pictures `(n, 32, 32, 3)` from 0 to 1 and their shapes `(n)`: of any place, size, turn and colour, before a
/// background that goes from one colour to another, in noise.
pub fn drawn(n: usize, seed: u64) -> lazul::Result<(Array, Array)> {
    const DRAWS: usize = 15;
    let keys = random::split(&random::key(seed), 2);
    let draws = random::uniform(0.0, 1.0, [n, DRAWS], DType::F32, Some(&keys.at_index(0, 0)));
    let draws = draws.to_vec::<f32>()?;
    let (mut pictures, mut labels) = (Vec::with_capacity(n * 32 * 32 * 3), Vec::new());
    for d in draws.chunks(DRAWS) {
        let shape = ((d[0] * 10.0) as usize).min(9);
        labels.push(shape as i32);
        let radius = 8.0 + d[1] * 6.0;
        let (left, top) = (16.0 + (d[2] - 0.5) * 10.0, 16.0 + (d[3] - 0.5) * 10.0);
        let (sin, cos) = ((d[4] - 0.5) * 1.2).sin_cos();
        let colour = |from: usize| [d[from], d[from + 1], d[from + 2]];
        let (mut front, back, other) = (colour(5), colour(8), colour(11));
        // A shape in the colours behind it cannot be seen.
        for i in 0..3 {
            let behind = (back[i] + other[i]) / 2.0;
            front[i] = if front[i] > 0.5 { behind * 0.45 + 0.55 } else { behind * 0.45 };
        }
        for i in 0..32 * 32 {
            let (across, down) = ((i % 32) as f32 + 0.5 - left, (i / 32) as f32 + 0.5 - top);
            let (x, y) =
                ((across * cos + down * sin) / radius, (down * cos - across * sin) / radius);
            let opacity = (inside(shape, x, y) * radius + 0.5).clamp(0.0, 1.0);
            let mix = if d[14] > 0.5 { (i % 32) as f32 } else { (i / 32) as f32 } / 31.0;
            for c in 0..3 {
                let behind = back[c] * (1.0 - mix) + other[c] * mix;
                pictures.push(behind * (1.0 - opacity) + front[c] * opacity);
            }
        }
    }
    let noise = random::normal([n, 32, 32, 3], DType::F32, Some(&keys.at_index(0, 1))) * 0.06;
    let pictures = Array::from_slice(&pictures, [n, 32, 32, 3]) + noise;
    Ok((pictures.clip(Some(0.0), Some(1.0)), Array::from_slice(&labels, [n])))
}

/// The pictures `(n, 32, 32, 3)` from 0 to 1 and classes `(n)` of some of CIFAR-10's files (`data_batch_1.bin`).
pub fn cifar(
    folder: &Path,
    names: &[String],
) -> Result<(Array, Array), Box<dyn std::error::Error>> {
    const ROW: usize = 1 + 3 * 32 * 32;
    let mut bytes = Vec::new();
    for name in names {
        let path = folder.join(name);
        let more = std::fs::read(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        if more.is_empty() || more.len() % ROW != 0 {
            return Err(format!("{} is no file of CIFAR-10", path.display()).into());
        }
        bytes.extend(more);
    }
    let rows = Array::from_slice(&bytes, [bytes.len() / ROW, ROW]);
    let pictures = rows.slice_axis(1, 1, None).reshape([-1, 3, 32, 32]).transpose([0, 2, 3, 1]);
    let labels = rows.slice_axis(1, 0, 1).squeeze(1).astype(DType::I32);
    Ok((pictures.astype(DType::F32) / 255.0, labels))
}

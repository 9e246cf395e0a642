//! Pictures as PNG files: grids of small ones, and points and lines.

use image::{Rgb, RgbImage};
use lazul::prelude::*;
use std::path::Path;

/// Colours that are told apart well.
pub const COLOURS: [[u8; 3]; 4] = [[66, 105, 208], [255, 114, 92], [60, 160, 90], [160, 110, 200]];

/// A white picture to draw on, whose coordinates go from the lower left corner to the upper right one.
pub struct Plot {
    image: RgbImage,
    /// Of the left lower corner, and of the right upper one.
    corners: [[f32; 2]; 2],
}

impl Plot {
    /// A picture of `width` by `height` points, between two corners.
    pub fn new(width: u32, height: u32, corners: [[f32; 2]; 2]) -> Plot {
        Plot { image: RgbImage::from_pixel(width, height, Rgb([255; 3])), corners }
    }

    fn place(&self, [x, y]: [f32; 2]) -> [f32; 2] {
        let [[left, low], [right, high]] = self.corners;
        let across = (x - left) / (right - left) * self.image.width() as f32;
        let down = (high - y) / (high - low) * self.image.height() as f32;
        [across, down]
    }

    /// A dot with a smooth edge, `radius` points wide from its centre.
    pub fn dot(&mut self, at: [f32; 2], radius: f32, colour: [u8; 3]) {
        let [x, y] = self.place(at);
        let reach = radius.ceil() as i64 + 1;
        for j in -reach..=reach {
            for i in -reach..=reach {
                let (px, py) = (x.floor() as i64 + i, y.floor() as i64 + j);
                let (dx, dy) = (px as f32 + 0.5 - x, py as f32 + 0.5 - y);
                self.blend(px, py, colour, radius + 0.5 - (dx * dx + dy * dy).sqrt());
            }
        }
    }

    /// A line from one place to another.
    pub fn line(&mut self, from: [f32; 2], to: [f32; 2], width: f32, colour: [u8; 3]) {
        let ([x0, y0], [x1, y1]) = (self.place(from), self.place(to));
        let length = ((x1 - x0).powi(2) + (y1 - y0).powi(2)).sqrt().max(1e-6);
        let (low, high) = ((x0.min(x1) - width) as i64 - 1, (x0.max(x1) + width) as i64 + 1);
        for px in low..=high {
            for py in (y0.min(y1) - width) as i64 - 1..=(y0.max(y1) + width) as i64 + 1 {
                let (dx, dy) = (px as f32 + 0.5 - x0, py as f32 + 0.5 - y0);
                let along = ((dx * (x1 - x0) + dy * (y1 - y0)) / length).clamp(0.0, length);
                let (ox, oy) = (dx - along * (x1 - x0) / length, dy - along * (y1 - y0) / length);
                self.blend(px, py, colour, width / 2.0 + 0.5 - (ox * ox + oy * oy).sqrt());
            }
        }
    }

    fn blend(&mut self, x: i64, y: i64, colour: [u8; 3], opacity: f32) {
        let (Ok(x), Ok(y)) = (u32::try_from(x), u32::try_from(y)) else { return };
        let opacity = opacity.clamp(0.0, 1.0);
        if opacity > 0.0 && x < self.image.width() && y < self.image.height() {
            let Rgb(old) = self.image.get_pixel_mut(x, y);
            for (old, new) in old.iter_mut().zip(colour) {
                *old = (f32::from(*old) * (1.0 - opacity) + f32::from(new) * opacity) as u8;
            }
        }
    }

    /// Writes the picture.
    pub fn save(&self, path: &Path) -> image::ImageResult<()> {
        self.image.save(path)
    }
}

/// Writes pictures `(n, h, w)` or `(n, h, w, 3)`, from 0 to 1, in rows of `columns`, each point `zoom` points wide;
/// those of `frames` with a frame of a colour.
pub fn save_grid(
    path: &Path,
    pictures: &Array,
    columns: usize,
    zoom: usize,
    frames: &[Option<[u8; 3]>],
) -> Result<(), Box<dyn std::error::Error>> {
    let colour = if pictures.ndim()? == 3 {
        pictures.expand_dims(-1).broadcast_to([pictures.shape()?, &[3]].concat())
    } else {
        pictures.clone()
    };
    let [n, h, w, _] = colour.dims()?;
    let bytes =
        (colour.clip(Some(0.0), Some(1.0)) * 255.0).round(0).astype(DType::U8).to_vec::<u8>()?;
    let (gap, rows) = (4, n.div_ceil(columns));
    let (tile_w, tile_h) = (w * zoom + gap, h * zoom + gap);
    let size = |tiles: usize, tile: usize| (tiles * tile + gap) as u32;
    let mut image =
        RgbImage::from_pixel(size(columns.min(n), tile_w), size(rows, tile_h), Rgb([40; 3]));
    for tile in 0..n {
        let (left, top) = (tile % columns * tile_w, tile / columns * tile_h);
        if let Some(Some(frame)) = frames.get(tile) {
            for y in top + 1..top + tile_h + gap - 1 {
                for x in left + 1..left + tile_w + gap - 1 {
                    image.put_pixel(x as u32, y as u32, Rgb(*frame));
                }
            }
        }
        for y in 0..h * zoom {
            for x in 0..w * zoom {
                let at = ((tile * h + y / zoom) * w + x / zoom) * 3;
                let dot = Rgb([bytes[at], bytes[at + 1], bytes[at + 2]]);
                image.put_pixel((left + gap + x) as u32, (top + gap + y) as u32, dot);
            }
        }
    }
    Ok(image.save(path)?)
}

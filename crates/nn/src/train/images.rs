//! Pictures in folders: one folder a class, as many data sets come.

use super::data::{Batching, Loader};
use super::error::{Error, Result};
use image::{DynamicImage, ImageReader, Limits, imageops::FilterType};
use lazul_core::Array;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Pictures of a folder whose folders are classes: `cats/1.png`, `dogs/7.jpg`.
///
/// PNG and JPEG are read, when a batch needs them; each is brought to one size and number of channels.
///
/// ```
/// # use image::{Rgb, RgbImage};
/// # let folder = std::env::temp_dir().join(format!("lazul-images-{}", std::process::id()));
/// # for (class, colour) in [("blue", [0, 0, 255]), ("red", [255, 0, 0])] {
/// #     std::fs::create_dir_all(folder.join(class))?;
/// #     for i in 0..3 {
/// #         RgbImage::from_pixel(8, 6, Rgb(colour)).save(folder.join(class).join(format!("{i}.png")))?;
/// #     }
/// # }
/// use lazul_nn::train::{Batching, ImageFolder};
/// let images = ImageFolder::open(&folder, [4, 4], 3)?;
/// assert_eq!((images.classes(), images.len()), (&["blue".to_string(), "red".to_string()][..], 6));
/// let how = Batching { size: 2, shuffle: false, ..Batching::default() };
/// let mut loader = images.loader(how)?;
/// let (pictures, classes) = loader.next()?;
/// assert_eq!(pictures.shape()?, [2, 4, 4, 3]); // from 0 to 1
/// assert_eq!(classes.to_vec::<i32>()?, [0, 0]);
/// # std::fs::remove_dir_all(folder)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct ImageFolder {
    classes: Vec<String>,
    /// Files with their classes.
    files: Arc<Vec<(PathBuf, i32)>>,
    size: [usize; 2],
    channels: usize,
}

/// Sides of pictures that are read.
const MOST_SIDE: u32 = 1 << 15;
/// Bytes that a picture may take while it is read.
const MOST_BYTES: u64 = 1 << 30;

impl ImageFolder {
    /// The pictures of a folder, to be given as `size` (height, width) with one channel (grey), three (colour) or
    /// four (and opacity). Classes are numbered by the order of their names.
    ///
    /// # Errors
    /// If the folder cannot be read or has no pictures in folders; if the size or the channels are none.
    pub fn open(
        folder: impl AsRef<Path>,
        size: [usize; 2],
        channels: usize,
    ) -> Result<ImageFolder> {
        let folder = folder.as_ref();
        if ![1, 3, 4].contains(&channels) || size.iter().any(|&n| n == 0 || n > MOST_SIDE as usize)
        {
            let why = format!("pictures of {size:?} with {channels} channels are none");
            return Err(Error::Options(why));
        }
        let (mut classes, mut files) = (Vec::new(), Vec::new());
        for (name, path) in entries(folder)? {
            if !path.is_dir() {
                continue;
            }
            let inside = entries(&path)?.into_iter().map(|(_, file)| file);
            let pictures: Vec<PathBuf> = inside.filter(|f| f.is_file() && is_picture(f)).collect();
            if pictures.is_empty() {
                continue;
            }
            files.extend(pictures.into_iter().map(|file| (file, classes.len() as i32)));
            classes.push(name);
        }
        if files.is_empty() {
            let why = format!("{}: there are no folders with pictures", folder.display());
            return Err(Error::Data(why));
        }
        Ok(ImageFolder { classes, files: Arc::new(files), size, channels })
    }

    /// The names of the classes.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// Number of pictures.
    pub fn len(&self) -> usize {
        self.files.len()
    }

    /// Whether there are none, which cannot be.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// Pictures by their numbers, f32 from 0 to 1 `(n, height, width, channels)`, and their classes, int32 `(n)`.
    ///
    /// # Errors
    /// If a picture cannot be read; the error names it.
    pub fn batch(&self, numbers: &[usize]) -> Result<(Array, Array)> {
        let [height, width] = self.size;
        let mut pixels = Vec::with_capacity(numbers.len() * height * width * self.channels);
        let mut classes = Vec::with_capacity(numbers.len());
        for &number in numbers {
            let found = self.files.get(number);
            let missing = || Error::Data(format!("there is no picture {number}"));
            let (path, class) = found.ok_or_else(missing)?;
            pixels.extend(self.read(path)?.into_iter().map(|byte| f32::from(byte) / 255.0));
            classes.push(*class);
        }
        let n = numbers.len();
        let pictures = Array::from_slice(&pixels, [n, height, width, self.channels]);
        Ok((pictures, Array::from_slice(&classes, [n])))
    }

    /// Batches of pictures and classes.
    ///
    /// # Errors
    /// As [`Loader::new`].
    pub fn loader(&self, how: Batching) -> Result<Loader<(Array, Array)>> {
        let images = self.clone();
        Loader::new(vec![1; self.len()], how, move |numbers| images.batch(numbers))
    }

    fn read(&self, path: &Path) -> Result<Vec<u8>> {
        let at = |e: &dyn std::fmt::Display| Error::Data(format!("{}: {e}", path.display()));
        let mut reader = ImageReader::open(path).map_err(|e| at(&e))?;
        reader = reader.with_guessed_format().map_err(|e| at(&e))?;
        let mut limits = Limits::default();
        limits.max_image_width = Some(MOST_SIDE);
        limits.max_image_height = Some(MOST_SIDE);
        limits.max_alloc = Some(MOST_BYTES);
        reader.limits(limits);
        let picture = reader.decode().map_err(|e| at(&e))?;
        let [height, width] = self.size.map(|n| n as u32);
        let picture = match (picture.height(), picture.width()) == (height, width) {
            true => picture,
            false => picture.resize_exact(width, height, FilterType::Triangle),
        };
        Ok(match self.channels {
            1 => DynamicImage::into_luma8(picture).into_raw(),
            3 => picture.into_rgb8().into_raw(),
            _ => picture.into_rgba8().into_raw(),
        })
    }
}

fn is_picture(path: &Path) -> bool {
    let end = path.extension().and_then(|e| e.to_str()).map(str::to_ascii_lowercase);
    matches!(end.as_deref(), Some("png" | "jpg" | "jpeg"))
}

/// Names and paths in a folder, by name.
fn entries(folder: &Path) -> Result<Vec<(String, PathBuf)>> {
    let at = |e: std::io::Error| Error::Data(format!("{}: {e}", folder.display()));
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(at)? {
        let entry = entry.map_err(at)?;
        all.push((entry.file_name().to_string_lossy().into_owned(), entry.path()));
    }
    all.sort();
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{GrayImage, Luma, Rgb, RgbImage};

    #[test]
    fn pictures_have_one_size_and_the_class_of_their_folder() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for class in ["a", "b", "empty"] {
            std::fs::create_dir(at(class)).unwrap();
        }
        RgbImage::from_pixel(4, 4, Rgb([255, 0, 51])).save(at("a/1.png")).unwrap();
        GrayImage::from_pixel(9, 5, Luma([102])).save(at("b/2.PNG")).unwrap();
        RgbImage::from_pixel(16, 16, Rgb([0, 0, 255])).save(at("b/3.jpg")).unwrap();
        std::fs::write(at("b/notes.txt"), "no picture").unwrap();
        std::fs::write(at("loose.png"), "no picture").unwrap();
        let images = ImageFolder::open(folder.path(), [4, 4], 3).unwrap();
        assert_eq!((images.classes(), images.len()), (&["a".into(), "b".into()][..], 3));
        let (pictures, classes) = images.batch(&[2, 0, 1]).unwrap();
        assert_eq!(classes.to_vec::<i32>().unwrap(), [1, 0, 1]);
        let pixels = pictures.to_vec::<f32>().unwrap();
        let near = |a: &[f32], b: [f32; 3]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 0.02);
        assert!(near(&pixels[..3], [0.0, 0.0, 1.0]), "{:?}", &pixels[..3]);
        assert_eq!(pixels[48..51], [1.0, 0.0, 0.2]);
        assert_eq!(pixels[96..99], [0.4, 0.4, 0.4]);
        let grey = ImageFolder::open(folder.path(), [2, 3], 1).unwrap();
        assert_eq!(grey.batch(&[0]).unwrap().0.shape().unwrap(), [1, 2, 3, 1]);
    }

    #[test]
    fn what_is_no_picture_is_named() {
        let folder = tempfile::tempdir().unwrap();
        assert!(ImageFolder::open(folder.path(), [4, 4], 3).is_err());
        std::fs::create_dir(folder.path().join("a")).unwrap();
        std::fs::write(folder.path().join("a/broken.png"), b"\x89PNG\r\n\x1a\nbut no more")
            .unwrap();
        let images = ImageFolder::open(folder.path(), [4, 4], 3).unwrap();
        let why = images.batch(&[0]).unwrap_err().to_string();
        assert!(why.contains("broken.png"), "{why}");
        assert!(images.batch(&[1]).is_err());
        for (size, channels) in [([0, 4], 3), ([4, 4], 2), ([1 << 20, 4], 3)] {
            assert!(ImageFolder::open(folder.path(), size, channels).is_err());
        }
    }
}

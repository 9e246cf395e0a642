//! The short-time Fourier transform: a signal as the spectra of its overlapping frames, and back.

use super::{Fft, Norm, fft, ifft, irfft, resize, rfft};
use crate::error::{Error, ErrorKind, Result};
use crate::node::Array;
use crate::ops::creation::{arange, ones, zeros};
use crate::ops::elementwise::where_;
use crate::ops::join::Pad;
use crate::ops::{attempt, error};
use lazul_ir::DType;

/// What a signal continues with beyond its ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum PadMode {
    /// Its mirror image, the element at the end not repeated.
    #[default]
    Reflect,
    /// Zeros.
    Constant,
    /// The element at the end.
    Edge,
}

/// How [`stft`] cuts and transforms.
#[derive(Clone, Debug)]
pub struct Stft {
    /// Samples of a frame, and points of its transform.
    pub n_fft: usize,
    /// Samples from a frame to the next; `None` is `n_fft / 4`.
    pub hop_length: Option<usize>,
    /// Length of the window, at most `n_fft`; `None` is the given window's, or `n_fft`.
    pub win_length: Option<usize>,
    /// The window `(win_length)`, put in the middle of the frame; `None` is all ones.
    pub window: Option<Array>,
    /// Whether frame `t` has sample `t * hop_length` in its middle, the signal being continued at both
    /// ends; if not, that sample is the frame's first.
    pub center: bool,
    /// What the signal is continued with.
    pub pad_mode: PadMode,
    /// What is divided by the number of points.
    pub norm: Norm,
    /// Whether only the `n_fft/2 + 1` frequencies from 0 on are given; `None` is true for real signals
    /// and false for complex ones.
    pub onesided: Option<bool>,
}

impl Default for Stft {
    /// Centred frames of 2048 samples, the signal reflected at its ends, no window.
    fn default() -> Stft {
        Stft {
            n_fft: 2048,
            hop_length: None,
            win_length: None,
            window: None,
            center: true,
            pad_mode: PadMode::Reflect,
            norm: Norm::Backward,
            onesided: None,
        }
    }
}

/// How [`istft`] transforms and joins: as the [`Stft`] that made the spectra.
#[derive(Clone, Debug)]
pub struct Istft {
    /// Samples of a frame; `None` takes it from the number of frequencies, and for one-sided spectra
    /// to be even.
    pub n_fft: Option<usize>,
    /// Samples from a frame to the next; `None` is `n_fft / 4`.
    pub hop_length: Option<usize>,
    /// Length of the window, at most `n_fft`; `None` is the given window's, or `n_fft`.
    pub win_length: Option<usize>,
    /// The window `(win_length)`; `None` is all ones.
    pub window: Option<Array>,
    /// Whether frames were centred.
    pub center: bool,
    /// What is divided by the number of points.
    pub norm: Norm,
    /// Whether spectra have only the frequencies from 0 on; `None` is true.
    pub onesided: Option<bool>,
    /// Cuts the signal, or continues it with zeros, to this length.
    pub length: Option<usize>,
}

impl Default for Istft {
    /// Centred frames, one-sided spectra, no window.
    fn default() -> Istft {
        Istft {
            n_fft: None,
            hop_length: None,
            win_length: None,
            window: None,
            center: true,
            norm: Norm::Backward,
            onesided: None,
            length: None,
        }
    }
}

/// The numbers of a transform, checked, and the window over a whole frame.
struct Frames {
    n: usize,
    hop: usize,
    window: Option<Array>,
}

impl Frames {
    fn new(
        op: &'static str,
        n: usize,
        hop: Option<usize>,
        win_length: Option<usize>,
        window: Option<&Array>,
    ) -> Result<Frames> {
        let bad = |why: String| Err(Error::new(ErrorKind::Value, op, why));
        if n == 0 {
            return bad("frames of 0 samples".into());
        }
        let hop = hop.unwrap_or(n / 4);
        if hop == 0 {
            return bad("frames must lie at least one sample apart".into());
        }
        let given = match window {
            Some(w) => {
                let [length] = w.dims()?;
                if w.0.dtype == DType::C64 {
                    return Err(error(ErrorKind::DType, op, "the window must be real", &[w]));
                }
                if win_length.is_some_and(|l| l != length) {
                    let why = format!("the window is not of length {}", win_length.unwrap_or(0));
                    return Err(error(ErrorKind::Shape, op, why, &[w]));
                }
                Some(w.astype(DType::F32))
            }
            None => win_length.filter(|&l| l != n).map(|l| ones([l], DType::F32)),
        };
        let Some(window) = given else { return Ok(Frames { n, hop, window: None }) };
        let length = window.dim(0)?;
        if length == 0 || length > n {
            return bad(format!("a window of {length} samples for frames of {n}"));
        }
        let before = (n - length) / 2;
        let window = window.pad(&[(before, n - length - before)], Pad::Constant(0.0));
        Ok(Frames { n, hop, window: Some(window) })
    }

    /// Which sample stands where: `(frames, n)`.
    fn positions(&self, frames: usize) -> Array {
        let starts = arange(frames, DType::I64) * self.hop as i64;
        starts.expand_dims(1) + arange(self.n, DType::I64)
    }
}

/// The short-time Fourier transform of the last axis: `(…, samples)` → complex64
/// `(…, frequencies, frames)`, `1 + (samples - n_fft) / hop_length` frames of the signal, which is
/// continued by `n_fft / 2` samples at both ends first if frames are centred.
///
/// Real signals are computed in f32 and complex ones in complex64.
///
/// ```
/// use lazul_core::prelude::*;
/// let x = (arange(1000, DType::F32) * 0.1).sin();
/// let how = fft::Stft { n_fft: 64, ..Default::default() };
/// let spectra = fft::stft(&x, &how);
/// assert_eq!(spectra.shape()?, &[33, 63]);
/// // 0.1 radians a sample is one turn in about 64 samples: frequency 1 is the loudest.
/// assert_eq!(spectra.at_index(1, 30).abs().argmax(0).item::<u32>()?, 1);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[track_caller]
pub fn stft(x: &Array, how: &Stft) -> Array {
    attempt(|| {
        x.check()?;
        let frames =
            Frames::new("stft", how.n_fft, how.hop_length, how.win_length, how.window.as_ref())?;
        let n = frames.n;
        let complex = x.0.dtype == DType::C64;
        let onesided = how.onesided.unwrap_or(!complex);
        if onesided && complex {
            let why = "the spectrum of a complex signal has two sides";
            return Err(error(ErrorKind::DType, "stft", why, &[x]));
        }
        let Some(axis) = x.0.shape.len().checked_sub(1) else {
            return Err(error(ErrorKind::Shape, "stft", "a scalar is no signal", &[x]));
        };
        let mut x = x.astype(if complex { DType::C64 } else { DType::F32 });
        if how.center {
            let mut widths = vec![(0, 0); axis + 1];
            widths[axis] = (n / 2, n / 2);
            let mode = match how.pad_mode {
                PadMode::Reflect => Pad::Reflect,
                PadMode::Constant => Pad::Constant(0.0),
                PadMode::Edge => Pad::Edge,
            };
            x = x.pad(&widths, mode);
        }
        let samples = x.dim(-1)?;
        if samples < n {
            let why = format!("{samples} samples are not a frame of {n}");
            return Err(error(ErrorKind::Shape, "stft", why, &[&x]));
        }
        let count = 1 + (samples - n) / frames.hop;
        // (…, frames, n)
        let mut cut = x.take(frames.positions(count), -1);
        if let Some(window) = &frames.window {
            cut *= window;
        }
        let each = Fft { norm: how.norm, ..Fft::default() };
        let spectra = if onesided { rfft(&cut, each) } else { fft(&cut, each) };
        Ok(spectra.swapaxes(-1, -2))
    })
}

/// The inverse of [`stft`]: `(…, frequencies, frames)` → f32 `(…, samples)`.
///
/// Frames are transformed back, multiplied by the window, added where they overlap, and divided by the
/// sum of the squared windows there; samples that no window covers are 0. The result is real, so the
/// imaginary part of a signal that was complex is lost.
///
/// ```
/// use lazul_core::prelude::*;
/// let x = (arange(256, DType::F32) * 0.3).cos();
/// let spectra = fft::stft(&x, &fft::Stft { n_fft: 32, ..Default::default() });
/// let back = fft::istft(&spectra, &fft::Istft::default());
/// assert!(back.allclose(&x, Tolerance { atol: 1e-5, ..Default::default() }).item::<bool>()?);
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[track_caller]
pub fn istft(x: &Array, how: &Istft) -> Array {
    attempt(|| {
        x.check()?;
        let &[.., frequencies, count] = &x.0.shape[..] else {
            let why = "needs axes of frequencies and frames";
            return Err(error(ErrorKind::Shape, "istft", why, &[x]));
        };
        let onesided = how.onesided.unwrap_or(true);
        let n = how.n_fft.unwrap_or(if onesided {
            frequencies.saturating_sub(1).saturating_mul(2)
        } else {
            frequencies
        });
        let expected = if onesided { n / 2 + 1 } else { n };
        if frequencies != expected {
            let why = format!("frames of {n} samples have {expected} frequencies");
            return Err(error(ErrorKind::Shape, "istft", why, &[x]));
        }
        if count == 0 {
            return Err(error(ErrorKind::Shape, "istft", "there are no frames", &[x]));
        }
        let frames = Frames::new("istft", n, how.hop_length, how.win_length, how.window.as_ref())?;
        let each = Fft { n: Some(n), norm: how.norm, ..Fft::default() };
        let spectra = x.swapaxes(-1, -2);
        let mut cut = if onesided { irfft(&spectra, each) } else { ifft(&spectra, each).real() };
        let squared = match &frames.window {
            Some(window) => {
                cut *= window;
                window.square()
            }
            None => ones([n], DType::F32),
        };
        let samples = (count - 1)
            .checked_mul(frames.hop)
            .and_then(|s| s.checked_add(n))
            .ok_or_else(|| Error::new(ErrorKind::Shape, "istft", "too many samples"))?;
        let positions = frames.positions(count);
        let sum = zeros([samples], DType::F32)
            .at(std::slice::from_ref(&positions))
            .add(squared.broadcast_to([count, n]));
        // Scattering is along leading axes, so the batch goes behind: (frames, n, batch).
        let batch = &x.0.shape[..x.0.shape.len() - 2];
        let size = batch.iter().product::<usize>();
        let cut = cut.reshape([size, count, n]).transpose([1, 2, 0]);
        let joined = zeros([samples, size], DType::F32).at(&[positions]).add(cut).t();
        let covered = sum.greater(1e-10);
        let mut out = where_(&covered, joined / where_(&covered, &sum, 1.0), 0.0);
        if how.center {
            // A length that is asked for may reach into the last half frame.
            let end = if how.length.is_some() { samples } else { samples - n / 2 };
            out = out.slice_axis(-1, (n / 2) as i64, end as i64);
        }
        if let Some(length) = how.length {
            out = resize(&out, 1, length);
        }
        let length = out.dim(-1)?;
        let shape: Vec<usize> = batch.iter().copied().chain([length]).collect();
        Ok(out.reshape(shape))
    })
}

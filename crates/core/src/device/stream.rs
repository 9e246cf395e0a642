//! Streams: queues of work that was started and is not waited for.
//!
//! A stream belongs to a device and has a thread of its own, which runs the programs that
//! [`crate::async_eval`] starts there one after another. What needs results of another stream waits
//! for them by itself: programs enter their queues in the order in which they claim their nodes, so a
//! program only ever waits for one that was started before it.

use super::Device;
use super::accelerator::opened;
use super::choice::{self, AUTO, Scope, UNSET};
use crate::error::{Error, ErrorKind, Result};
use crate::node::Array;
use lazul_ir::HOST;
use std::sync::atomic::{AtomicU16, Ordering::Relaxed};

/// What a node remembers of its stream: a number, or this, for the default of its device.
pub(crate) const DEFAULT: u16 = u16::MAX;

/// The number of the next new stream; stream 0 is every device's first default.
static NEXT: AtomicU16 = AtomicU16::new(1);

/// The default stream of each place.
static DEFAULTS: [AtomicU16; 256] = [const { AtomicU16::new(0) }; 256];

/// A queue of work on a device: what [`crate::async_eval`] starts in one stream runs in order, and beside
/// what was started in others.
///
/// A stream is a name and costs nothing until something is started there. Operations belong to the stream
/// of the scope that built them ([`with_stream`]), or else to their device's default stream. [`crate::eval()`]
/// and everything that returns values compute in the calling thread, whatever the stream.
///
/// On the CPU a step of a program that finds the threads of the pool taken by another stream's runs in its stream's own
/// thread. Streams of a CUDA device share its one queue of kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Stream {
    device: Device,
    number: u16,
}

impl Stream {
    /// The device that the stream's work runs on.
    ///
    /// ```
    /// use lazul_core::device::{Device, new_stream};
    /// assert_eq!(new_stream(Device::Cpu)?.device(), Device::Cpu);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    pub fn device(self) -> Device {
        self.device
    }

    /// Waits until everything that was started in this stream is computed, or has failed.
    ///
    /// ```
    /// use lazul_core::device::{Device, new_stream, with_stream};
    /// use lazul_core::prelude::*;
    /// let loading = new_stream(Device::Cpu)?;
    /// let y = with_stream(loading, || arange(1000, DType::F32).sum(..))?;
    /// async_eval([&y])?;
    /// loading.synchronize()?;
    /// assert_eq!(y.item::<f32>()?, 499_500.0); // it is there
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// If no memory is left. What goes wrong in what was started is reported to who needs it.
    pub fn synchronize(self) -> Result<()> {
        drain(self.number)?;
        let place = self.device.choice();
        opened().filter(|(at, _)| *at == place || place == AUTO).try_for_each(|(_, d)| d.wait())
    }
}

impl std::fmt::Display for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "stream {} of {}", self.number, self.device)
    }
}

/// Waits for what was started in a stream.
fn drain(number: u16) -> Result<()> {
    // What is started there runs in order: this comes last.
    let here = Scope { choice: HOST, stream: number };
    let mark = choice::within(here, || Array::scalar(0u8).contiguous());
    crate::async_eval([&mark])?;
    mark.eval()
}

/// Waits until everything that [`crate::async_eval`] has started is computed, or has failed, in all streams.
///
/// ```
/// use lazul_core::{device::synchronize, prelude::*};
/// let y = arange(1000, DType::F32).sum(..);
/// async_eval([&y])?;
/// synchronize()?;
/// # Ok::<(), lazul_core::Error>(())
/// ```
///
/// # Errors
/// If no memory is left. What goes wrong in what was started is reported to who needs it.
pub fn synchronize() -> Result<()> {
    crate::eval::queue::started_streams().into_iter().try_for_each(drain)?;
    opened().try_for_each(|(_, device)| device.wait())
}

/// A new stream of a device.
///
/// ```
/// use lazul_core::device::{Device, new_stream};
/// let (a, b) = (new_stream(Device::Cpu)?, new_stream(Device::Cpu)?);
/// assert_ne!(a, b);
/// # Ok::<(), lazul_core::Error>(())
/// ```
///
/// # Errors
/// If the device cannot be used, or after 65,534 streams.
pub fn new_stream(device: Device) -> Result<Stream> {
    choice::check(device)?;
    let taken = NEXT.fetch_update(Relaxed, Relaxed, |n| n.checked_add(1).filter(|&n| n < DEFAULT));
    let number = taken.map_err(|_| {
        Error::new(ErrorKind::Value, "new_stream", "there are 65,534 streams, and no more")
    })?;
    Ok(Stream { device, number })
}

/// The stream of what is built for a device outside of every [`with_stream`].
///
/// ```
/// use lazul_core::device::{Device, default_stream};
/// assert_eq!(default_stream(Device::Cpu).device(), Device::Cpu);
/// ```
pub fn default_stream(device: Device) -> Stream {
    let number = DEFAULTS[usize::from(device.choice())].load(Relaxed);
    Stream { device, number }
}

/// Makes a stream the default of its device, for everything that is started from now on.
///
/// ```standalone_crate
/// use lazul_core::device::{Device, default_stream, new_stream, set_default_stream};
/// let stream = new_stream(Device::Cpu)?;
/// set_default_stream(stream);
/// assert_eq!(default_stream(Device::Cpu), stream);
/// # Ok::<(), lazul_core::Error>(())
/// ```
pub fn set_default_stream(stream: Stream) {
    DEFAULTS[usize::from(stream.device.choice())].store(stream.number, Relaxed);
}

/// Operations that `f` builds on this thread belong to `stream`, and run on its device. Scopes nest; a
/// [`super::with_device`] inside is another scope, of that device's default stream.
///
/// ```
/// use lazul_core::device::{Device, new_stream, with_stream};
/// use lazul_core::prelude::*;
/// let x = arange(4, DType::F32);
/// let (left, right) = (new_stream(Device::Cpu)?, new_stream(Device::Cpu)?);
/// let a = with_stream(left, || x.sin().sum(..))?;
/// let b = with_stream(right, || x.cos().sum(..))?;
/// async_eval([&a, &b])?; // side by side
/// let both = (&a + &b).item::<f32>()?; // waits for both
/// # assert!(both.is_finite());
/// # Ok::<(), lazul_core::Error>(())
/// ```
///
/// # Errors
/// If the stream's device cannot be used; `f` is not called.
pub fn with_stream<T>(stream: Stream, f: impl FnOnce() -> T) -> Result<T> {
    choice::check(stream.device)?;
    Ok(choice::within(Scope { choice: stream.device.choice(), stream: stream.number }, f))
}

/// The stream that an array's operation is started in.
pub(crate) fn stream_of(array: &Array) -> u16 {
    let Scope { choice, stream } = array.0.scope;
    match (stream, choice) {
        (DEFAULT, UNSET) => {
            // A wish of the environment that cannot be met is an error where the program runs.
            DEFAULTS[usize::from(choice::default().unwrap_or(HOST))].load(Relaxed)
        }
        (DEFAULT, place) => DEFAULTS[usize::from(place)].load(Relaxed),
        (number, _) => number,
    }
}

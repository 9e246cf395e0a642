//! The devices of this machine: which there are, and which one operations run on.
//!
//! An array has no device: operations run on one, and memory follows. What is read somewhere for the
//! first time is copied there and stays; [`crate::memory::stats`] counts the bytes.
//!
//! Operations run on the device of the scope that built them ([`with_device`]), or else on the default
//! ([`set_default_device`], or the environment variable `LAZUL_DEVICE`: `auto`, `cpu`, `cuda`, `cuda:1`).
//! What a device has no kernel for runs on the CPU and is counted ([`fallbacks`]). Work that is started and not
//! waited for goes through a device's streams ([`Stream`]).

pub(crate) mod accelerator;
pub(crate) mod choice;
mod cuda;
pub(crate) mod launch;
#[cfg(feature = "mock")]
mod mock;
pub(crate) mod replica;
pub(crate) mod session;
pub(crate) mod stream;

pub use launch::{Fallback, Launches, fallbacks, launches, reset_fallbacks};
pub use stream::{
    Stream, default_stream, new_stream, set_default_stream, synchronize, with_stream,
};

use crate::error::{Error, ErrorKind, Result};
use accelerator::accelerator;
use std::str::FromStr;

/// The sort of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DeviceKind {
    /// The processor that runs the program.
    Cpu,
    /// A graphics processor.
    Gpu,
}

/// A device, or the wish for whichever suits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Device {
    /// Where some of a program's data is, and for programs that compute 4 M elements or more the first CUDA
    /// device, if there is one.
    Auto,
    /// The processor that runs the program; what is used if nothing is said.
    #[default]
    Cpu,
    /// An NVIDIA device, by its number from 0.
    Cuda(usize),
    /// Memory apart from the host's with the CPU behind it, for tests.
    #[cfg(feature = "mock")]
    #[doc(hidden)]
    Mock,
}

impl std::fmt::Display for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Device::Auto => f.write_str("auto"),
            Device::Cpu => f.write_str("cpu"),
            Device::Cuda(i) => write!(f, "cuda:{i}"),
            #[cfg(feature = "mock")]
            Device::Mock => f.write_str("mock"),
        }
    }
}

/// `auto`, `cpu`, `cuda` (the first one), `cuda:1`.
impl FromStr for Device {
    type Err = Error;

    fn from_str(text: &str) -> Result<Device> {
        let wrong = || {
            let why = format!("'{text}' is no device; devices are auto, cpu, cuda and cuda:1");
            Error::new(ErrorKind::Value, "device", why)
        };
        match text {
            "auto" => Ok(Device::Auto),
            "cpu" => Ok(Device::Cpu),
            "cuda" => Ok(Device::Cuda(0)),
            #[cfg(feature = "mock")]
            "mock" => Ok(Device::Mock),
            _ => {
                let number = text.strip_prefix("cuda:").ok_or_else(wrong)?;
                let digits = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
                number.parse().ok().filter(|_| digits).map(Device::Cuda).ok_or_else(wrong)
            }
        }
    }
}

/// What is known of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeviceInfo {
    /// Its sort.
    pub kind: DeviceKind,
    /// The maker's name for it, or that of its architecture where that cannot be found.
    pub name: String,
    /// The architecture: `"x86_64"`, `"aarch64"`, `"sm_90"`.
    pub architecture: String,
    /// The widest vector instructions that kernels use; `"cuda"` for NVIDIA's devices.
    pub instructions: String,
    /// How many threads kernels run on; for a graphics processor, its multiprocessors.
    pub threads: usize,
    /// Bytes of memory of its own; 0 for the CPU, whose memory is the system's.
    pub memory: usize,
}

/// How many devices of a sort there are to run on.
///
/// ```
/// use lazul_core::device::{DeviceKind, device_count};
/// assert_eq!(device_count(DeviceKind::Cpu), 1);
/// ```
pub fn device_count(kind: DeviceKind) -> usize {
    match kind {
        DeviceKind::Cpu => 1,
        DeviceKind::Gpu => cuda::count().unwrap_or(0),
    }
}

/// Every device there is to run on.
///
/// ```
/// use lazul_core::device::{Device, devices};
/// assert_eq!(devices()[0], Device::Cpu);
/// ```
pub fn devices() -> Vec<Device> {
    let cuda = (0..device_count(DeviceKind::Gpu)).map(Device::Cuda);
    [Device::Cpu].into_iter().chain(cuda).collect()
}

/// Whether a device can be used. This opens it.
///
/// ```
/// use lazul_core::device::{Device, is_available};
/// assert!(is_available(Device::Cpu));
/// ```
pub fn is_available(device: Device) -> bool {
    unavailable(device).is_none()
}

/// Why a device cannot be used, in one line; `None` if it can be. This opens it.
///
/// ```
/// use lazul_core::device::{Device, unavailable};
/// assert_eq!(unavailable(Device::Cpu), None);
/// assert!(unavailable(Device::Cuda(1000)).unwrap().contains("no CUDA device"));
/// ```
pub fn unavailable(device: Device) -> Option<String> {
    choice::check(device).err().map(|e| e.message().to_string())
}

/// The device that operations run on unless a scope says otherwise: the one that was set, or else the
/// environment's. A wish that cannot be met is [`Device::Cpu`] here and an error where arrays are
/// evaluated.
///
/// ```
/// use lazul_core::device::{default_device, is_available};
/// assert!(is_available(default_device()));
/// ```
pub fn default_device() -> Device {
    choice::default().map_or(Device::Cpu, Device::of)
}

/// Sets the device that operations run on from now on, unless a scope says otherwise: those too that are
/// built and not evaluated yet.
///
/// ```standalone_crate
/// use lazul_core::device::{Device, default_device, set_default_device};
/// set_default_device(Device::Cpu)?;
/// assert_eq!(default_device(), Device::Cpu);
/// # Ok::<(), lazul_core::Error>(())
/// ```
///
/// # Errors
/// If the device cannot be used; the default stays as it is.
pub fn set_default_device(device: Device) -> Result<()> {
    choice::set_default(device)
}

/// Operations that `f` builds on this thread run on `device`, whenever they are evaluated. Scopes nest.
///
/// ```
/// use lazul_core::device::{Device, with_device};
/// use lazul_core::prelude::*;
/// let y = with_device(Device::Cpu, || arange(3, DType::F32) * 2.0)?;
/// assert_eq!(y.to_vec::<f32>()?, [0.0, 2.0, 4.0]);
/// # Ok::<(), lazul_core::Error>(())
/// ```
///
/// # Errors
/// If the device cannot be used; `f` is not called.
pub fn with_device<T>(device: Device, f: impl FnOnce() -> T) -> Result<T> {
    choice::check(device)?;
    let scope = choice::Scope { choice: device.choice(), stream: stream::DEFAULT };
    Ok(choice::within(scope, f))
}

/// What is known of a device; `None` if it cannot be used. Of [`Device::Auto`], what is known of the CPU.
///
/// ```
/// use lazul_core::device::{Device, device_info};
/// let info = device_info(Device::Cpu).unwrap();
/// assert!(info.threads >= 1 && !info.name.is_empty());
/// ```
pub fn device_info(device: Device) -> Option<DeviceInfo> {
    match device {
        Device::Auto | Device::Cpu => Some(DeviceInfo {
            kind: DeviceKind::Cpu,
            name: processor().unwrap_or_else(|| std::env::consts::ARCH.to_string()),
            architecture: std::env::consts::ARCH.to_string(),
            instructions: format!("{:?}", lazul_cpu::isa::isa()).to_lowercase(),
            threads: crate::threads(),
            memory: 0,
        }),
        _ => {
            choice::check(device).ok()?;
            Some(accelerator(device.choice()).ok()?.info())
        }
    }
}

/// The processor's name, as the system has it.
fn processor() -> Option<String> {
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|l| l.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prelude::*;

    #[test]
    fn devices_are_those_that_are_counted() {
        assert_eq!(devices().len(), 1 + device_count(DeviceKind::Gpu));
        assert!(is_available(Device::Auto) && is_available(Device::Cpu));
        let none = Device::Cuda(device_count(DeviceKind::Gpu));
        assert!(!is_available(none) && device_info(none).is_none());
        let why = unavailable(none).unwrap();
        assert!(!why.contains('\n') && why.contains("CUDA"), "{why}");
        assert_eq!(set_default_device(none).unwrap_err().kind(), ErrorKind::Device);
        assert_eq!(with_device(none, || ()).unwrap_err().message(), why);
        assert!(!is_available(Device::Cuda(usize::MAX)));
    }

    #[test]
    fn names_of_devices() {
        for device in [Device::Auto, Device::Cpu, Device::Cuda(0), Device::Cuda(12)] {
            assert_eq!(device.to_string().parse::<Device>().unwrap(), device);
        }
        assert_eq!("cuda".parse::<Device>().unwrap(), Device::Cuda(0));
        for wrong in
            ["", "gpu", "cuda:", "cuda:-1", "cuda:+1", "cuda:x", "CPU", "cuda:99999999999999999999"]
        {
            let error = wrong.parse::<Device>().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Value, "{wrong}");
        }
    }

    #[test]
    fn streams_run_in_order_and_wait_for_each_other() {
        let streams: Vec<Stream> = (0..4).map(|_| new_stream(Device::Cpu).unwrap()).collect();
        let mut x = ones([1 << 12], DType::F64);
        let mut started = Vec::new();
        for i in 0..64 {
            // Each needs the one before, which another stream computes.
            x = with_stream(streams[i * 7 % 4], || (&x * 0.5 + 1.0).sin()).unwrap();
            async_eval([&x]).unwrap();
            started.push(x.clone());
        }
        streams.iter().try_for_each(|s| s.synchronize()).unwrap();
        assert!(started.iter().all(Array::is_ready));
        let mut want = ones([1 << 12], DType::F64);
        (0..64).for_each(|_| want = (&want * 0.5 + 1.0).sin());
        assert_eq!(x.to_vec::<f64>().unwrap(), want.to_vec::<f64>().unwrap());
    }

    #[test]
    fn a_stream_does_not_wait_behind_another() {
        use std::sync::mpsc;
        let (open, gate) = mpsc::channel::<()>();
        // A source that is read when the gate opens.
        struct Gate(std::sync::Mutex<mpsc::Receiver<()>>);
        impl crate::ByteSource for Gate {
            fn read_exact_at(&self, buf: &mut [u8], _: u64) -> std::io::Result<()> {
                self.0.lock().unwrap().recv().map_err(std::io::Error::other)?;
                buf.fill(0);
                Ok(())
            }
            fn len(&self) -> std::io::Result<u64> {
                Ok(4)
            }
            fn describe(&self) -> String {
                "gate".to_string()
            }
        }
        let source = std::sync::Arc::new(Gate(std::sync::Mutex::new(gate)));
        let (slow, quick) = (new_stream(Device::Cpu).unwrap(), new_stream(Device::Cpu).unwrap());
        let held = with_stream(slow, || Array::from_source(source, 0, [1], DType::F32) + 1.0);
        let held = held.unwrap();
        let free = with_stream(quick, || arange(3, DType::F32) + 1.0).unwrap();
        async_eval([&held, &free]).unwrap();
        quick.synchronize().unwrap();
        assert!(free.is_ready() && !held.is_ready());
        open.send(()).unwrap();
        assert_eq!(held.item::<f32>().unwrap(), 1.0);
    }

    #[test]
    fn the_default_stream_of_a_device_can_be_another() {
        let before = default_stream(Device::Cpu);
        let stream = new_stream(Device::Cpu).unwrap();
        set_default_stream(stream);
        let y = arange(5, DType::F32) * 2.0;
        assert_eq!(
            stream::stream_of(&y),
            stream::stream_of(&with_stream(stream, || &y + 1.0).unwrap())
        );
        async_eval([&y]).unwrap();
        stream.synchronize().unwrap();
        assert!(y.is_ready());
        set_default_stream(before);
        assert_eq!(new_stream(Device::Cuda(1 << 20)).unwrap_err().kind(), ErrorKind::Device);
    }

    #[test]
    fn after_synchronizing_everything_is_there() {
        let started: Vec<Array> =
            (0..8).map(|i| (arange(1 << 16, DType::F32) * i).sin().sum(..)).collect();
        async_eval(&started).unwrap();
        synchronize().unwrap();
        assert!(started.iter().all(Array::is_ready));
    }
}

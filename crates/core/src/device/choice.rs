//! Which device an operation runs on: a scope of the calling thread, the process's default, the
//! environment.

use super::accelerator::accelerator;
use super::{Device, cuda, stream};
use crate::error::{Error, ErrorKind, Result};
use lazul_ir::{HOST, Place};
use std::cell::Cell;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

/// What a node remembers of the device it was built for: a place, or one of the two below.
pub(crate) type Choice = u8;

/// The default, at the time of the evaluation.
pub(crate) const UNSET: Choice = 255;
/// What suits the evaluation.
pub(crate) const AUTO: Choice = 254;

/// What a node remembers of where it was built: its device and its stream.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Scope {
    pub(crate) choice: Choice,
    pub(crate) stream: u16,
}

impl Scope {
    /// Outside of all scopes.
    pub(crate) const NONE: Scope = Scope { choice: UNSET, stream: stream::DEFAULT };
}

thread_local! {
    static SCOPE: Cell<Scope> = const { Cell::new(Scope::NONE) };
}

/// The scope of nodes that the calling thread builds now.
#[inline]
pub(crate) fn current() -> Scope {
    SCOPE.get()
}

/// Nodes that `f` builds are of `scope`.
pub(crate) fn within<T>(scope: Scope, f: impl FnOnce() -> T) -> T {
    struct Back(Scope);
    impl Drop for Back {
        fn drop(&mut self) {
            SCOPE.set(self.0);
        }
    }
    let _back = Back(SCOPE.replace(scope));
    f()
}

impl Device {
    pub(crate) fn choice(self) -> Choice {
        match self {
            Device::Auto => AUTO,
            Device::Cpu => HOST,
            // A number that no device has stays one.
            Device::Cuda(i) => i.min(63) as Choice + 1,
            #[cfg(feature = "mock")]
            Device::Mock => super::accelerator::MOCK,
        }
    }

    pub(crate) fn of(choice: Choice) -> Device {
        match choice {
            AUTO | UNSET => Device::Auto,
            HOST => Device::Cpu,
            #[cfg(feature = "mock")]
            super::accelerator::MOCK => Device::Mock,
            place => Device::Cuda(usize::from(place) - 1),
        }
    }
}

/// The default of the process; `UNSET` before it was asked for.
static DEFAULT: AtomicU8 = AtomicU8::new(UNSET);

/// What the environment asks for, as a choice.
fn from_environment() -> &'static Result<Choice, String> {
    static ASKED: OnceLock<Result<Choice, String>> = OnceLock::new();
    ASKED.get_or_init(|| match std::env::var("LAZUL_DEVICE") {
        Err(std::env::VarError::NotPresent) => Ok(HOST),
        Err(why) => Err(format!("LAZUL_DEVICE: {why}")),
        Ok(text) => {
            let device: Device = text.parse().map_err(|why| format!("LAZUL_DEVICE: {why}"))?;
            check(device).map_err(|e| format!("LAZUL_DEVICE={text}: {}", e.message()))?;
            Ok(device.choice())
        }
    })
}

/// The default.
///
/// # Errors
/// If the environment asks for a device that is not there.
pub(crate) fn default() -> Result<Choice> {
    match DEFAULT.load(Relaxed) {
        UNSET => {
            from_environment().clone().map_err(|why| Error::new(ErrorKind::Device, "device", why))
        }
        choice => Ok(choice),
    }
}

pub(super) fn set_default(device: Device) -> Result<()> {
    check(device)?;
    DEFAULT.store(device.choice(), Relaxed);
    Ok(())
}

/// An error unless there is such a device and it can be used.
pub(super) fn check(device: Device) -> Result<()> {
    match device {
        Device::Auto | Device::Cpu => Ok(()),
        Device::Cuda(i) if i > 63 => {
            let why = format!("no CUDA device {i}");
            Err(Error::new(ErrorKind::Device, "device", why))
        }
        _ => accelerator(device.choice()).map(|_| ()),
    }
}

/// Where the steps of a program run that were built for nothing in particular, and those for `AUTO`.
#[derive(Clone, Copy)]
pub(crate) struct Places {
    pub(crate) default: Place,
    pub(crate) auto: Place,
}

impl Places {
    /// `auto` is asked only where it matters.
    pub(crate) fn choose(auto: impl FnOnce(Place) -> bool) -> Result<Places> {
        let default = default()?;
        let auto = match gpu() {
            Some(place) if auto(place) => place,
            _ => HOST,
        };
        Ok(Places { default: if default == AUTO { auto } else { default }, auto })
    }

    pub(crate) fn of(self, choice: Choice) -> Place {
        match choice {
            UNSET => self.default,
            AUTO => self.auto,
            place => place,
        }
    }

    /// Inside of a function, what was built for nothing in particular runs where the function does.
    pub(crate) fn inside(self, place: Place) -> Places {
        Places { default: place, ..self }
    }
}

/// The device that `Auto` may use beside the CPU, if there is one.
fn gpu() -> Option<Place> {
    static FOUND: OnceLock<Option<Place>> = OnceLock::new();
    *FOUND.get_or_init(|| {
        let first = Device::Cuda(0).choice();
        (cuda::count().is_ok() && accelerator(first).is_ok()).then_some(first)
    })
}

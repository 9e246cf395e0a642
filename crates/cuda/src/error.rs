//! What can go wrong: a device that cannot be had, a job that it does not do, and failures while it runs.

use crate::driver::sys;
use lazul_ir::{ErrorKind, OpError};

/// Why there is no device, each in one line for people.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Unavailable {
    /// The driver's library is not installed.
    NoDriver,
    /// The driver speaks an older CUDA than is needed.
    DriverTooOld {
        /// CUDA version of the driver, as 1000 * major + 10 * minor.
        found: i32,
        /// The oldest that will do.
        needed: i32,
    },
    /// The driver sees no device, or none with this number.
    NoDevice {
        /// The device that was asked for.
        ordinal: usize,
        /// How many there are.
        count: usize,
    },
    /// The device is of a generation that is not supported.
    DeviceTooOld {
        /// Its name.
        name: String,
        /// Its compute capability.
        capability: (u32, u32),
    },
    /// The run-time compiler's library (NVRTC) is not installed or does not work.
    NoCompiler(String),
    /// The driver answered with an error.
    Failed(String),
}

fn version(v: i32) -> String {
    format!("{}.{}", v / 1000, v % 1000 / 10)
}

impl std::fmt::Display for Unavailable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Unavailable::NoDriver => {
                f.write_str("no CUDA device: the NVIDIA driver is not installed")
            }
            Unavailable::DriverTooOld { found, needed } => write!(
                f,
                "no CUDA device: the NVIDIA driver supports CUDA {}, and {} is needed",
                version(*found),
                version(*needed)
            ),
            Unavailable::NoDevice { ordinal: _, count: 0 } => {
                f.write_str("no CUDA device: the NVIDIA driver sees none")
            }
            Unavailable::NoDevice { ordinal, count } => {
                write!(f, "no CUDA device {ordinal}: there are {count}")
            }
            Unavailable::DeviceTooOld { name, capability: (major, minor) } => {
                write!(f, "{name} has compute capability {major}.{minor}, and 7.5 is needed")
            }
            Unavailable::NoCompiler(why) => write!(f, "no CUDA kernels: {why}"),
            Unavailable::Failed(why) => write!(f, "no CUDA device: {why}"),
        }
    }
}

impl std::error::Error for Unavailable {}

/// Why a job was not enqueued.
#[derive(Clone, Debug)]
pub enum RunError {
    /// The device has no kernel for it: it belongs on the CPU.
    Unsupported(Unsupported),
    /// It went wrong.
    Op(OpError),
}

/// A job for which there is no kernel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Unsupported {
    /// The operation's name.
    pub op: &'static str,
    /// What about it.
    pub why: &'static str,
}

impl std::fmt::Display for Unsupported {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "[{}] has no CUDA kernel: {}", self.op, self.why)
    }
}

impl std::fmt::Display for RunError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            RunError::Unsupported(u) => u.fmt(f),
            RunError::Op(e) => e.fmt(f),
        }
    }
}

impl std::error::Error for RunError {}

impl From<OpError> for RunError {
    fn from(error: OpError) -> RunError {
        RunError::Op(error)
    }
}

impl From<Unsupported> for RunError {
    fn from(error: Unsupported) -> RunError {
        RunError::Unsupported(error)
    }
}

impl From<RunError> for OpError {
    fn from(error: RunError) -> OpError {
        match error {
            RunError::Op(e) => e,
            RunError::Unsupported(u) => OpError::new(ErrorKind::Device, u.op, u.to_string()),
        }
    }
}

/// What launching kernels returns.
pub(crate) type Result<T, E = RunError> = std::result::Result<T, E>;

/// An error of the driver's, as an [`OpError`] of `what`.
pub(crate) fn failure(what: &'static str, status: sys::CUresult) -> OpError {
    let kind = match status {
        sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY => ErrorKind::OutOfMemory,
        _ => ErrorKind::Device,
    };
    OpError::new(kind, what, format!("the CUDA driver says: {}", crate::driver::describe(status)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_is_one_line() {
        let reasons = [
            Unavailable::NoDriver,
            Unavailable::DriverTooOld { found: 11040, needed: 12000 },
            Unavailable::NoDevice { ordinal: 0, count: 0 },
            Unavailable::NoDevice { ordinal: 3, count: 2 },
            Unavailable::DeviceTooOld { name: "Tesla P4".into(), capability: (6, 1) },
            Unavailable::NoCompiler("libnvrtc is not installed".into()),
            Unavailable::Failed("CUDA_ERROR_UNKNOWN".into()),
        ];
        for reason in reasons {
            let text = reason.to_string();
            assert!(!text.contains('\n') && text.len() < 100, "{text}");
        }
        let text = Unavailable::DriverTooOld { found: 11040, needed: 12000 }.to_string();
        assert!(text.contains("CUDA 11.4") && text.contains("12.0"));
    }
}

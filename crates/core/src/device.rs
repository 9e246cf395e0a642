//! The devices of this machine, and waiting for them.
//!
//! An array has no device: memory follows the operations. What is here tells what there is to run on.

use crate::error::Result;
use crate::node::Array;

/// The sort of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DeviceKind {
    /// The processor that runs the program.
    Cpu,
    /// A graphics processor.
    Gpu,
}

/// One device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Device {
    /// Its sort.
    pub kind: DeviceKind,
    /// Its number among those of its sort, from 0.
    pub index: usize,
}

/// What is known of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceInfo {
    /// The maker's name for it, or that of its architecture where that cannot be found.
    pub name: String,
    /// The architecture: `"x86_64"`, `"aarch64"`.
    pub architecture: String,
    /// The widest vector instructions that kernels use.
    pub instructions: String,
    /// How many threads kernels run on.
    pub threads: usize,
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
        DeviceKind::Gpu => 0,
    }
}

/// Every device there is to run on.
///
/// ```
/// use lazul_core::device::{default_device, devices};
/// assert!(devices().contains(&default_device()));
/// ```
pub fn devices() -> Vec<Device> {
    [DeviceKind::Cpu, DeviceKind::Gpu]
        .into_iter()
        .flat_map(|kind| (0..device_count(kind)).map(move |index| Device { kind, index }))
        .collect()
}

/// Whether there is such a device.
///
/// ```
/// use lazul_core::device::{Device, DeviceKind, is_available};
/// assert!(is_available(Device { kind: DeviceKind::Cpu, index: 0 }));
/// ```
pub fn is_available(device: Device) -> bool {
    device.index < device_count(device.kind)
}

/// The device that operations run on.
///
/// ```
/// use lazul_core::device::{default_device, is_available};
/// assert!(is_available(default_device()));
/// ```
pub fn default_device() -> Device {
    Device { kind: DeviceKind::Cpu, index: 0 }
}

/// What is known of a device; `None` if there is no such device.
///
/// ```
/// use lazul_core::device::{default_device, device_info};
/// let info = device_info(default_device()).unwrap();
/// assert!(info.threads >= 1 && !info.name.is_empty());
/// ```
pub fn device_info(device: Device) -> Option<DeviceInfo> {
    is_available(device).then(|| DeviceInfo {
        name: processor().unwrap_or_else(|| std::env::consts::ARCH.to_string()),
        architecture: std::env::consts::ARCH.to_string(),
        instructions: format!("{:?}", lazul_cpu::isa::isa()).to_lowercase(),
        threads: crate::threads(),
    })
}

/// The processor's name, as the system has it.
fn processor() -> Option<String> {
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|l| l.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_string())
}

/// Waits until everything that [`crate::async_eval`] has started is computed, or has failed.
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
    // What is started runs in order: this comes last.
    let mark = Array::scalar(0u8).contiguous();
    crate::async_eval([&mark])?;
    mark.eval()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prelude::*;

    #[test]
    fn devices_are_those_that_are_counted() {
        assert_eq!(devices(), [default_device()]);
        assert!(!is_available(Device { kind: DeviceKind::Gpu, index: 0 }));
        assert!(device_info(Device { kind: DeviceKind::Cpu, index: 1 }).is_none());
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

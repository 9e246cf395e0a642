//! A device: its context, its memory, its kernels.
//!
//! Devices are made once a process and live as long as it. What they do is enqueued on a [`Stream`];
//! every device has one stream of its own, [`Device::stream`], on which memory is allocated and freed
//! in order.

use crate::blas::Blas;
use crate::driver::{self, DeviceInfo, cu, sys};
use crate::error::Unavailable;
use crate::hash::Map;
use crate::kernel::Kernel;
use crate::memory::{Accounts, Kept};
use crate::nvrtc::{self, Compiler};
use crate::source::Key;
use crate::stream::Stream;
use crate::transfer::Moved;
use lazul_ir::{OpError, Place};
use std::sync::{Mutex, OnceLock, RwLock};

/// The oldest generation that kernels are written for: Turing.
const OLDEST: (u32, u32) = (7, 5);

/// The numbers of devices' memory.
pub const PLACES: std::ops::RangeInclusive<Place> = 1..=64;

/// An NVIDIA device.
pub struct Device {
    pub(crate) info: DeviceInfo,
    /// None on a device that only compiles.
    pub(crate) raw: Option<Raw>,
    pub(crate) compiler: &'static Compiler,
    pub(crate) kernels: RwLock<Map<Key, Kernel>>,
    pub(crate) accounts: Accounts,
    pub(crate) kept: Kept,
    pub(crate) moved: Moved,
    pub(crate) blas: OnceLock<Option<Blas>>,
    /// Whether kernels are launched while their predecessors run.
    pub(crate) early: bool,
    stream: OnceLock<Stream>,
    /// For copies that need not wait for all that is enqueued.
    pub(crate) copies: OnceLock<Stream>,
}

/// The driver's handles.
#[derive(Clone, Copy)]
pub(crate) struct Raw {
    pub(crate) context: sys::CUcontext,
    pub(crate) pool: sys::CUmemoryPool,
}

// SAFETY: handles that the driver lets any thread use.
unsafe impl Send for Raw {}
// SAFETY: as above.
unsafe impl Sync for Raw {}

impl std::fmt::Debug for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Device({}, {})", self.info.ordinal, self.info.name)
    }
}

impl Device {
    /// Device number `ordinal`, made on the first call.
    ///
    /// # Errors
    /// Each reason for there being none, in one line.
    pub fn get(ordinal: usize) -> Result<&'static Device, Unavailable> {
        static DEVICES: Mutex<Vec<(usize, &'static Device)>> = Mutex::new(Vec::new());
        driver::probe()?;
        let mut devices = DEVICES.lock().unwrap_or_else(|e| e.into_inner());
        if let Some((_, device)) = devices.iter().find(|(o, _)| *o == ordinal) {
            return Ok(device);
        }
        let all = driver::devices()?;
        let count = all.len().min(PLACES.count());
        let info = all.into_iter().take(count).nth(ordinal);
        let info = info.ok_or(Unavailable::NoDevice { ordinal, count })?;
        let device = Device::open(info)?;
        devices.push((ordinal, device));
        Ok(device)
    }

    /// A device that compiles every kernel that its jobs need and runs none: no driver is used. For
    /// tests on machines without a GPU. Jobs may have any addresses.
    ///
    /// # Errors
    /// Where there is no compiler.
    #[doc(hidden)]
    pub fn compile_only(capability: (u32, u32)) -> Result<&'static Device, Unavailable> {
        let info = DeviceInfo {
            ordinal: 0,
            name: format!("compiler for {}.{}", capability.0, capability.1),
            capability,
            multiprocessors: 132,
            memory: 0,
            cache: 50 << 20,
            shared: 227 << 10,
            integrated: false,
        };
        let device = Device::new(info, None)?;
        device.stream.get_or_init(|| Stream::nowhere(device));
        Ok(device)
    }

    fn new(info: DeviceInfo, raw: Option<Raw>) -> Result<&'static Device, Unavailable> {
        let compiler = nvrtc::compiler()?;
        // Recording such launches in graphs came with CUDA 12.3.
        let early = raw.is_some()
            && info.capability >= (9, 0)
            && driver::probe()? >= 12040
            && std::env::var_os("LAZUL_CUDA_EARLY").is_none_or(|v| v != "0");
        Ok(Box::leak(Box::new(Device {
            info,
            raw,
            compiler,
            kernels: RwLock::default(),
            accounts: Accounts::default(),
            kept: Kept::default(),
            moved: Moved::default(),
            blas: OnceLock::new(),
            early,
            stream: OnceLock::new(),
            copies: OnceLock::new(),
        })))
    }

    fn open(info: DeviceInfo) -> Result<&'static Device, Unavailable> {
        if info.capability < OLDEST {
            let DeviceInfo { name, capability, .. } = info;
            return Err(Unavailable::DeviceTooOld { name, capability });
        }
        let failed = |e: OpError| Unavailable::Failed(e.message().to_string());
        let raw = Raw::open(info.ordinal).map_err(failed)?;
        let device = Device::new(info, Some(raw))?;
        let stream = Stream::new(device).map_err(failed)?;
        device.stream.get_or_init(|| stream);
        Ok(device)
    }

    /// What the device is.
    pub fn info(&self) -> &DeviceInfo {
        &self.info
    }

    /// The number of its memory among all places: the host's is 0, devices follow.
    pub fn place(&self) -> Place {
        PLACES.start() + self.info.ordinal.min(usize::from(PLACES.end() - PLACES.start())) as Place
    }

    /// The device's own stream.
    pub fn stream(&self) -> &Stream {
        self.stream.get().expect("a device is given out with its stream")
    }

    pub(crate) fn is_compile_only(&self) -> bool {
        self.raw.is_none()
    }

    /// Whether tensor cores multiply bf16, and copies to shared memory are asynchronous.
    pub(crate) fn is_ampere(&self) -> bool {
        self.info.capability >= (8, 0)
    }

    /// Makes the device the calling thread's, as the driver's functions expect.
    pub(crate) fn enter(&self) -> Result<(), OpError> {
        match self.raw {
            Some(raw) => cu!(cuCtxSetCurrent(raw.context)),
            None => Ok(()),
        }
    }

    /// Whether this device can read and write `other`'s memory directly.
    pub fn reaches(&self, other: &Device) -> bool {
        let mut can = 0;
        let (a, b) = (self.info.ordinal as i32, other.info.ordinal as i32);
        self.raw.is_some() && cu!(cuDeviceCanAccessPeer(&mut can, a, b)).is_ok() && can != 0
    }

    /// How many kernels were compiled or loaded.
    pub fn kernels(&self) -> usize {
        self.kernels.read().unwrap_or_else(|e| e.into_inner()).len()
    }
}

impl Raw {
    fn open(ordinal: usize) -> Result<Raw, OpError> {
        let mut device = 0;
        cu!(cuDeviceGet(&mut device, ordinal as i32))?;
        let mut context = std::ptr::null_mut();
        // The primary context, which other libraries in the process use as well.
        cu!(cuDevicePrimaryCtxRetain(&mut context, device))?;
        cu!(cuCtxSetCurrent(context))?;
        // SAFETY: a plain structure of numbers and pointers, for which zero means "not asked for".
        let mut wanted: sys::CUmemPoolProps = unsafe { std::mem::zeroed() };
        wanted.allocType = sys::CUmemAllocationType::CU_MEM_ALLOCATION_TYPE_PINNED;
        wanted.location.type_ = sys::CUmemLocationType::CU_MEM_LOCATION_TYPE_DEVICE;
        wanted.location.id = device;
        let mut pool = std::ptr::null_mut();
        cu!(cuMemPoolCreate(&mut pool, &wanted))?;
        // Freed memory stays in the pool: giving it back at every synchronisation takes much longer
        // than allocating.
        let mut keep = u64::MAX;
        let threshold = sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
        cu!(cuMemPoolSetAttribute(pool, threshold, (&raw mut keep).cast()))?;
        Ok(Raw { context, pool })
    }
}

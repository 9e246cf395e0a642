//! The NVIDIA driver: found at run time, asked for its version before anything else is called, and
//! wrapped so that every call's status becomes an error.

pub(crate) use cudarc::driver::sys;

use crate::error::{Unavailable, failure};
use lazul_ir::OpError;
use std::ffi::CStr;
use std::sync::OnceLock;

/// The oldest CUDA version whose driver has every function that is called here.
const NEEDED: i32 = 12000;

/// Calls a driver function by name; its status becomes a `Result<(), OpError>`.
macro_rules! cu {
    ($name:ident($($arg:expr),* $(,)?)) => {{
        // SAFETY: the driver was probed, so the function is there; arguments are live and of the kind
        // that the driver's documentation asks for, as each caller sees to.
        let status = unsafe { $crate::driver::sys::$name($($arg),*) };
        $crate::driver::check(stringify!($name), status)
    }};
}
pub(crate) use cu;

/// An error if the status is one.
#[inline]
pub(crate) fn check(what: &'static str, status: sys::CUresult) -> Result<(), OpError> {
    if status == sys::CUresult::CUDA_SUCCESS { Ok(()) } else { Err(failure(what, status)) }
}

/// The driver's name and explanation of a status.
pub(crate) fn describe(status: sys::CUresult) -> String {
    let mut name = std::ptr::null();
    let mut text = std::ptr::null();
    // SAFETY: both functions write a pointer to a string that lives for ever, or null.
    unsafe {
        let _ = sys::cuGetErrorName(status, &mut name);
        let _ = sys::cuGetErrorString(status, &mut text);
    }
    let read = |p: *const std::ffi::c_char| match p.is_null() {
        true => String::new(),
        // SAFETY: a C string of the driver's.
        false => unsafe { CStr::from_ptr(p) }.to_string_lossy().into_owned(),
    };
    format!("{} ({})", read(text), read(name))
}

/// Loads and initialises the driver, once; answers its CUDA version.
pub(crate) fn probe() -> Result<i32, Unavailable> {
    static PROBE: OnceLock<Result<i32, Unavailable>> = OnceLock::new();
    PROBE
        .get_or_init(|| {
            // SAFETY: loading the driver's library runs its initialisers, which is what it is for.
            if !unsafe { sys::is_culib_present() } {
                return Err(Unavailable::NoDriver);
            }
            let failed = |e: OpError| Unavailable::Failed(e.message().to_string());
            let mut found = 0;
            // cuDriverGetVersion works before cuInit, and on every driver.
            cu!(cuDriverGetVersion(&mut found)).map_err(failed)?;
            if found < NEEDED {
                return Err(Unavailable::DriverTooOld { found, needed: NEEDED });
            }
            match cu!(cuInit(0)) {
                Ok(()) => Ok(found),
                Err(e) if e.message().contains("NO_DEVICE") => {
                    Err(Unavailable::NoDevice { ordinal: 0, count: 0 })
                }
                Err(e) => Err(failed(e)),
            }
        })
        .clone()
}

/// Milliseconds between two events. Loaded by its old name, which every driver has; the bindings know
/// only the one that came with CUDA 12.8.
pub(crate) fn elapsed(start: sys::CUevent, end: sys::CUevent) -> Result<f32, OpError> {
    type Function = unsafe extern "C" fn(*mut f32, sys::CUevent, sys::CUevent) -> sys::CUresult;
    const NAME: &str = "cuEventElapsedTime";
    let mut milliseconds = 0f32;
    // SAFETY: the driver was probed; the type is that of its header; the events are live.
    let status = unsafe {
        match sys::culib().get::<Function>(NAME.as_bytes()) {
            Ok(function) => function(&mut milliseconds, start, end),
            Err(_) => sys::CUresult::CUDA_ERROR_NOT_FOUND,
        }
    };
    check(NAME, status).map(|()| milliseconds)
}

/// What is known of a device without using it.
#[derive(Clone, PartialEq, Debug)]
pub struct DeviceInfo {
    /// The device's number, counted from 0.
    pub ordinal: usize,
    /// The product's name.
    pub name: String,
    /// Compute capability: `(9, 0)` for Hopper.
    pub capability: (u32, u32),
    /// Multiprocessors.
    pub multiprocessors: u32,
    /// Bytes of memory.
    pub memory: usize,
    /// Bytes of second-level cache.
    pub cache: usize,
    /// Shared memory that one block may have.
    pub shared: usize,
    /// Whether the device uses the host's memory, so that nothing need be copied.
    pub integrated: bool,
}

/// The devices of this machine.
///
/// # Errors
/// Where there is no driver, or it is too old. No device at all is an empty list.
pub fn devices() -> Result<Vec<DeviceInfo>, Unavailable> {
    match probe() {
        Ok(_) => {}
        Err(Unavailable::NoDevice { .. }) => return Ok(Vec::new()),
        Err(e) => return Err(e),
    }
    let failed = |e: OpError| Unavailable::Failed(e.message().to_string());
    let mut count = 0;
    cu!(cuDeviceGetCount(&mut count)).map_err(failed)?;
    (0..count).map(|i| info(i).map_err(failed)).collect()
}

fn info(ordinal: i32) -> Result<DeviceInfo, OpError> {
    use sys::CUdevice_attribute_enum as A;
    let mut device = 0;
    cu!(cuDeviceGet(&mut device, ordinal))?;
    let mut name = [0u8; 256];
    cu!(cuDeviceGetName(name.as_mut_ptr().cast(), 255, device))?;
    let mut memory = 0usize;
    cu!(cuDeviceTotalMem_v2(&mut memory, device))?;
    let attribute = |a: A| -> Result<u32, OpError> {
        let mut value = 0;
        cu!(cuDeviceGetAttribute(&mut value, a, device))?;
        Ok(value.max(0) as u32)
    };
    let name = CStr::from_bytes_until_nul(&name).map(|s| s.to_string_lossy().into_owned());
    Ok(DeviceInfo {
        ordinal: ordinal as usize,
        name: name.unwrap_or_default(),
        capability: (
            attribute(A::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
            attribute(A::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
        ),
        multiprocessors: attribute(A::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?,
        memory,
        cache: attribute(A::CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE)? as usize,
        shared: attribute(A::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)? as usize,
        integrated: attribute(A::CU_DEVICE_ATTRIBUTE_INTEGRATED)? != 0,
    })
}

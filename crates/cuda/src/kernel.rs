//! Kernels: compiled on first use, remembered by the device, on disk between processes.

use crate::driver::{cu, sys};
use crate::nvrtc::Compiler;
use crate::source::Key;
use crate::{cache, device::Device};
use lazul_ir::{ErrorKind, OpError};
use smallvec::SmallVec;
use std::ffi::c_void;

/// A function on a device. On a device that only compiles it is null, and is never launched.
#[derive(Clone, Copy)]
pub(crate) struct Kernel(sys::CUfunction);

/// Addresses of a launch's arguments.
pub(crate) type Pointers = SmallVec<[*mut c_void; 16]>;

// SAFETY: a handle that the driver lets any thread use; it lives as long as the process.
unsafe impl Send for Kernel {}
// SAFETY: as above.
unsafe impl Sync for Kernel {}

/// Machine code for `key`, from the disk's cache or freshly compiled.
///
/// # Errors
/// The compiler's log: a bug of ours.
pub(crate) fn code(
    compiler: &Compiler,
    capability: (u32, u32),
    key: &Key,
) -> Result<Vec<u8>, String> {
    let source = key.source();
    let (options, machine) = compiler.options(capability, key.is_bound());
    let version = format!("{}.{}", compiler.version.0, compiler.version.1);
    let name = cache::key(&[source.as_bytes(), options.join(" ").as_bytes(), version.as_bytes()]);
    if let Some(code) = cache::folder().and_then(|folder| cache::load(folder, &name)) {
        return Ok(code);
    }
    let mut code = compiler.compile(&source, &options, machine)?;
    if !machine {
        code.push(0); // Portable code is text, which ends in a zero for the driver.
    }
    if let Some(folder) = cache::folder() {
        cache::store(folder, &name, &code);
    }
    Ok(code)
}

impl Device {
    /// The kernel that `key` names.
    pub(crate) fn kernel(&self, key: Key) -> Result<Kernel, OpError> {
        if let Some(kernel) = self.kernels.read().unwrap_or_else(|e| e.into_inner()).get(&key) {
            return Ok(*kernel);
        }
        let failed = |why: String| match key {
            Key::User(_) => OpError::new(ErrorKind::Value, "cuda_kernel", why),
            _ => {
                let message = format!("the kernel {} does not compile: {why}", key.entry());
                OpError::new(ErrorKind::Internal, "cuda", message)
            }
        };
        let code = match key.compiled() {
            // What is text ends in a zero for the driver.
            Some(code) => code.iter().copied().chain([0]).collect(),
            None => code(self.compiler, self.info.capability, &key).map_err(failed)?,
        };
        let kernel = match self.is_compile_only() {
            true => Kernel(std::ptr::null_mut()),
            false => load(&code, key.entry())?,
        };
        self.kernels.write().unwrap_or_else(|e| e.into_inner()).insert(key, kernel);
        Ok(kernel)
    }
}

/// Gives code to the driver. Modules are never unloaded: a kernel may run as long as the process.
fn load(code: &[u8], entry: &str) -> Result<Kernel, OpError> {
    let mut module = std::ptr::null_mut();
    cu!(cuModuleLoadData(&mut module, code.as_ptr().cast()))?;
    let entry = std::ffi::CString::new(entry).map_err(|_| {
        OpError::new(ErrorKind::Value, "cuda_kernel", "a kernel's name has no zero bytes")
    })?;
    let mut function = std::ptr::null_mut();
    cu!(cuModuleGetFunction(&mut function, module, entry.as_ptr()))?;
    Ok(Kernel(function))
}

/// Arguments of a launch, by value.
#[derive(Clone, Default, PartialEq)]
pub(crate) struct Args {
    words: SmallVec<[u64; 48]>,
    starts: SmallVec<[u32; 16]>,
    /// Bytes of the last argument that are used, while it is a structure being filled.
    filled: usize,
}

/// What may be an argument: plain numbers.
pub(crate) trait Plain: Copy {
    fn bytes(self) -> ([u8; 8], usize);
}
macro_rules! plain {
    ($($t:ty)*) => {$(
        impl Plain for $t {
            fn bytes(self) -> ([u8; 8], usize) {
                let mut bytes = [0; 8];
                bytes[..size_of::<$t>()].copy_from_slice(&self.to_le_bytes());
                (bytes, size_of::<$t>())
            }
        }
    )*};
}
plain!(u32 i32 u64 i64 f32 f64);

impl Args {
    pub(crate) fn new() -> Args {
        Args::default()
    }

    /// The addresses of the arguments, valid while they stay where they are.
    pub(crate) fn pointers(&self) -> Pointers {
        let at = |&s: &u32| self.words[s as usize..].as_ptr().cast_mut().cast::<c_void>();
        self.starts.iter().map(at).collect()
    }

    /// Adds a number (or an address).
    pub(crate) fn push(&mut self, value: impl Plain) -> &mut Args {
        self.begin();
        self.field(value);
        self
    }

    /// Adds 64-bit words, a structure.
    pub(crate) fn push_words(&mut self, words: &[u64]) -> &mut Args {
        self.begin();
        words.iter().for_each(|&w| {
            self.field(w);
        });
        self
    }

    /// Begins a structure, whose fields follow; they must be of descending size.
    pub(crate) fn begin(&mut self) -> &mut Args {
        self.starts.push(self.words.len() as u32);
        self.filled = 0;
        self
    }

    /// Ends a structure within a structure: what follows begins at a multiple of eight bytes.
    pub(crate) fn pad(&mut self) -> &mut Args {
        self.filled = self.filled.next_multiple_of(8);
        self
    }

    /// Adds a field to the structure that was begun.
    pub(crate) fn field(&mut self, value: impl Plain) -> &mut Args {
        let (bytes, size) = value.bytes();
        debug_assert_eq!(self.filled % size, 0, "fields are aligned");
        if self.filled.is_multiple_of(8) {
            self.words.push(0);
        }
        let word = self.words.last_mut().expect("a word was begun");
        let mut all = word.to_le_bytes();
        all[self.filled % 8..][..size].copy_from_slice(&bytes[..size]);
        *word = u64::from_le_bytes(all);
        self.filled += size;
        self
    }
}

/// How many threads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Grid {
    pub(crate) blocks: [u32; 3],
    pub(crate) threads: [u32; 3],
    /// Dynamic shared memory of a block, in bytes.
    pub(crate) shared: u32,
}

impl Grid {
    pub(crate) fn new(blocks: usize, threads: u32) -> Grid {
        debug_assert!(blocks < 1 << 31);
        Grid { blocks: [blocks as u32, 1, 1], threads: [threads, 1, 1], shared: 0 }
    }

    /// Enough blocks of `threads` for `count` threads.
    pub(crate) fn cover(count: usize, threads: u32) -> Grid {
        Grid::new(count.div_ceil(threads as usize).max(1), threads)
    }

    pub(crate) fn and(self, y: usize, z: usize) -> Grid {
        debug_assert!(y < 1 << 16 && z < 1 << 16);
        Grid { blocks: [self.blocks[0], y as u32, z as u32], ..self }
    }

    pub(crate) fn shared(self, bytes: usize) -> Grid {
        Grid { shared: bytes as u32, ..self }
    }
}

impl Kernel {
    /// A kernel that no launch runs.
    #[cfg(test)]
    pub(crate) fn none() -> Kernel {
        Kernel(std::ptr::null_mut())
    }

    pub(crate) fn raw(self) -> sys::CUfunction {
        self.0
    }

    /// A number for it.
    pub(crate) fn id(self) -> u64 {
        self.0 as u64
    }

    /// Asks for as much shared memory as a launch needs, where that is more than every kernel may have.
    pub(crate) fn prepare(self, grid: Grid) -> Result<(), OpError> {
        if grid.shared > 48 << 10 {
            let most = sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
            cu!(cuFuncSetAttribute(self.0, most, grid.shared as i32))?;
        }
        Ok(())
    }

    /// Enqueues the kernel; `early` lets its blocks take their places while the kernel before it runs.
    pub(crate) fn launch(
        self,
        stream: sys::CUstream,
        grid: Grid,
        args: &Args,
        early: bool,
    ) -> Result<(), OpError> {
        if self.0.is_null() {
            return Ok(());
        }
        self.prepare(grid)?;
        let mut pointers = args.pointers();
        let ([gx, gy, gz], [bx, by, bz]) = (grid.blocks, grid.threads);
        let params = pointers.as_mut_ptr();
        let extra = std::ptr::null_mut();
        if !early {
            return cu!(cuLaunchKernel(
                self.0,
                gx,
                gy,
                gz,
                bx,
                by,
                bz,
                grid.shared,
                stream,
                params,
                extra
            ));
        }
        // SAFETY: plain structures of numbers and pointers, for which zero means "not asked for".
        let (mut attribute, mut config): (sys::CUlaunchAttribute, sys::CUlaunchConfig) =
            unsafe { std::mem::zeroed() };
        attribute.id =
            sys::CUlaunchAttributeID::CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION;
        attribute.value.programmaticStreamSerializationAllowed = 1;
        (config.gridDimX, config.gridDimY, config.gridDimZ) = (gx, gy, gz);
        (config.blockDimX, config.blockDimY, config.blockDimZ) = (bx, by, bz);
        config.sharedMemBytes = grid.shared;
        config.hStream = stream;
        config.attrs = &mut attribute;
        config.numAttrs = 1;
        cu!(cuLaunchKernelEx(&config, self.0, params, extra))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_lie_as_structures_do() {
        let mut args = Args::new();
        args.push(7u32).push(-1i64);
        args.begin().field(1u64).field(2u32).field(3u32).field(4u32);
        args.push(1.5f32);
        assert_eq!(args.starts.as_slice(), [0, 1, 2, 5]);
        let f = 1.5f32.to_bits() as u64;
        assert_eq!(args.words.as_slice(), [7, u64::MAX, 1, 2 | 3 << 32, 4, f]);
    }
}

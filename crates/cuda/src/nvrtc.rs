//! NVIDIA's run-time compiler: CUDA C++ text to machine code for one architecture.

use crate::error::Unavailable;
use libloading::Library;
use std::ffi::{CString, c_char, c_int, c_void};
use std::sync::OnceLock;

type Program = *mut c_void;
type Status = c_int;

/// NVRTC, loaded.
pub(crate) struct Compiler {
    create: unsafe extern "C" fn(
        *mut Program,
        *const c_char,
        *const c_char,
        c_int,
        *const *const c_char,
        *const *const c_char,
    ) -> Status,
    compile: unsafe extern "C" fn(Program, c_int, *const *const c_char) -> Status,
    destroy: unsafe extern "C" fn(*mut Program) -> Status,
    log_size: unsafe extern "C" fn(Program, *mut usize) -> Status,
    log: unsafe extern "C" fn(Program, *mut c_char) -> Status,
    cubin_size: unsafe extern "C" fn(Program, *mut usize) -> Status,
    cubin: unsafe extern "C" fn(Program, *mut c_char) -> Status,
    ptx_size: unsafe extern "C" fn(Program, *mut usize) -> Status,
    ptx: unsafe extern "C" fn(Program, *mut c_char) -> Status,
    /// `(major, minor)` of the compiler.
    pub(crate) version: (i32, i32),
    /// Architectures that it knows, ascending: 75, 80, …
    architectures: Vec<c_int>,
    _library: Library,
}

/// The compiler of this machine: the library that `LAZUL_NVRTC` names, or the one installed.
pub(crate) fn compiler() -> Result<&'static Compiler, Unavailable> {
    static COMPILER: OnceLock<Result<Compiler, String>> = OnceLock::new();
    COMPILER.get_or_init(Compiler::load).as_ref().map_err(|e| Unavailable::NoCompiler(e.clone()))
}

impl Compiler {
    fn load() -> Result<Compiler, String> {
        let library = match std::env::var_os("LAZUL_NVRTC") {
            Some(path) => crate::library::open_at(path.as_ref())
                .map_err(|e| format!("the library that LAZUL_NVRTC names cannot be loaded: {e}"))?,
            None => crate::library::open("nvrtc")?,
        };
        macro_rules! symbol {
            ($name:literal) => {{
                // SAFETY: the types are those of NVRTC's header, the same in every version since 11.2.
                let symbol = unsafe { library.get($name) };
                *symbol.map_err(|_| {
                    format!("{} is missing from NVRTC", String::from_utf8_lossy($name))
                })?
            }};
        }
        let version: unsafe extern "C" fn(*mut c_int, *mut c_int) -> Status =
            symbol!(b"nvrtcVersion");
        let count: unsafe extern "C" fn(*mut c_int) -> Status =
            symbol!(b"nvrtcGetNumSupportedArchs");
        let list: unsafe extern "C" fn(*mut c_int) -> Status = symbol!(b"nvrtcGetSupportedArchs");
        let (mut major, mut minor, mut n) = (0, 0, 0);
        // SAFETY: each writes integers to the given places; the list has the length just asked for.
        let architectures = unsafe {
            version(&mut major, &mut minor);
            count(&mut n);
            let mut architectures = vec![0; n.max(0) as usize];
            list(architectures.as_mut_ptr());
            architectures.sort_unstable();
            architectures
        };
        Ok(Compiler {
            create: symbol!(b"nvrtcCreateProgram"),
            compile: symbol!(b"nvrtcCompileProgram"),
            destroy: symbol!(b"nvrtcDestroyProgram"),
            log_size: symbol!(b"nvrtcGetProgramLogSize"),
            log: symbol!(b"nvrtcGetProgramLog"),
            cubin_size: symbol!(b"nvrtcGetCUBINSize"),
            cubin: symbol!(b"nvrtcGetCUBIN"),
            ptx_size: symbol!(b"nvrtcGetPTXSize"),
            ptx: symbol!(b"nvrtcGetPTX"),
            version: (major, minor),
            architectures,
            _library: library,
        })
    }

    /// Options that decide what is made of a source for compute capability `capability`, and whether
    /// that is machine code. A compiler older than the device makes portable code (PTX), which the
    /// driver translates. `bound` code runs on this very generation only.
    pub(crate) fn options(&self, capability: (u32, u32), bound: bool) -> (Vec<String>, bool) {
        let arch = (capability.0 * 10 + capability.1) as c_int;
        let known = self.architectures.binary_search(&arch).is_ok();
        let nearest = self.architectures.iter().rev().find(|a| **a <= arch).copied();
        let target = match known {
            true if bound => format!("--gpu-architecture=sm_{arch}a"),
            true => format!("--gpu-architecture=sm_{arch}"),
            false => format!("--gpu-architecture=compute_{}", nearest.unwrap_or(arch)),
        };
        let options = vec![
            target,
            "--std=c++17".to_string(),
            // Results may not depend on what the compiler happens to contract.
            "--fmad=false".to_string(),
            "--device-as-default-execution-space".to_string(),
        ];
        (options, known)
    }

    /// Whether it makes code with the instructions that only this generation has: from version 12 on.
    pub(crate) fn makes_bound(&self, capability: (u32, u32)) -> bool {
        let arch = (capability.0 * 10 + capability.1) as c_int;
        self.version >= (12, 0) && self.architectures.binary_search(&arch).is_ok()
    }

    /// Compiles `source`; machine code where `machine`, else portable code.
    ///
    /// # Errors
    /// The compiler's log.
    pub(crate) fn compile(
        &self,
        source: &str,
        options: &[String],
        machine: bool,
    ) -> Result<Vec<u8>, String> {
        let source = CString::new(source).map_err(|e| e.to_string())?;
        let options: Vec<CString> =
            options.iter().filter_map(|o| CString::new(o.as_str()).ok()).collect();
        let pointers: Vec<*const c_char> = options.iter().map(|o| o.as_ptr()).collect();
        let mut program = std::ptr::null_mut();
        // SAFETY: strings end in zero bytes and live through the calls; sizes are asked for before
        // buffers are filled; the program is destroyed once.
        unsafe {
            let none = std::ptr::null();
            let name = c"lazul.cu".as_ptr();
            if (self.create)(&mut program, source.as_ptr(), name, 0, none, none) != 0 {
                return Err("NVRTC cannot make a program".into());
            }
            let status = (self.compile)(program, pointers.len() as c_int, pointers.as_ptr());
            let result = if status != 0 {
                let mut size = 0;
                (self.log_size)(program, &mut size);
                let mut log = vec![0u8; size.max(1)];
                (self.log)(program, log.as_mut_ptr().cast());
                log.pop();
                Err(String::from_utf8_lossy(&log).into_owned())
            } else {
                let (size_of, get) =
                    if machine { (self.cubin_size, self.cubin) } else { (self.ptx_size, self.ptx) };
                let mut size = 0;
                size_of(program, &mut size);
                let mut code = vec![0u8; size];
                match get(program, code.as_mut_ptr().cast()) {
                    0 if size > 0 => Ok(code),
                    _ => Err("NVRTC made no code".into()),
                }
            };
            (self.destroy)(&mut program);
            result
        }
    }
}

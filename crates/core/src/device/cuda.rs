//! NVIDIA devices, through `lazul-cuda`; without the feature `cuda` there is none.

use super::accelerator::Accelerator;

#[cfg(not(feature = "cuda"))]
const WITHOUT: &str = "no CUDA device: this program was built without the feature `cuda`";

/// How many devices the driver sees, or why it sees none.
#[cfg(not(feature = "cuda"))]
pub(super) fn count() -> Result<usize, String> {
    Err(WITHOUT.to_string())
}

#[cfg(not(feature = "cuda"))]
pub(super) fn open(_ordinal: usize) -> Result<&'static dyn Accelerator, String> {
    Err(WITHOUT.to_string())
}

#[cfg(feature = "cuda")]
pub(super) use with::{count, open};

#[cfg(feature = "cuda")]
mod with {
    use super::super::accelerator::{Met, Refusal, UserArg, UserCode, UserLaunch};
    use super::super::launch::Launches;
    use super::super::{DeviceInfo, DeviceKind};
    use super::Accelerator;
    use crate::error::Result;
    use lazul_cuda::{Device, PLACES, RunError, Unsupported};
    use lazul_ir::{Buffer, Job, MemoryStats, Work};
    use std::panic::catch_unwind;

    /// What a library that is there and broken does must not end the program.
    fn guarded<T>(
        f: impl FnOnce() -> Result<T, String> + std::panic::UnwindSafe,
    ) -> Result<T, String> {
        catch_unwind(f)
            .unwrap_or_else(|_| Err("no CUDA device: NVIDIA's libraries do not load".to_string()))
    }

    pub(in super::super) fn count() -> Result<usize, String> {
        guarded(|| match lazul_cuda::devices() {
            Ok(devices) if devices.is_empty() => {
                Err("no CUDA device: the NVIDIA driver sees none".to_string())
            }
            Ok(devices) => Ok(devices.len().min(PLACES.count())),
            Err(why) => Err(why.to_string()),
        })
    }

    pub(in super::super) fn open(ordinal: usize) -> Result<&'static dyn Accelerator, String> {
        guarded(move || match Device::get(ordinal) {
            Ok(device) => Ok(device as &'static dyn Accelerator),
            Err(why) => Err(why.to_string()),
        })
    }

    impl Accelerator for Device {
        fn info(&self) -> DeviceInfo {
            let info = Device::info(self);
            let (major, minor) = info.capability;
            DeviceInfo {
                kind: DeviceKind::Gpu,
                name: info.name.clone(),
                architecture: format!("sm_{major}{minor}"),
                instructions: "cuda".to_string(),
                threads: info.multiprocessors as usize,
                memory: info.memory,
            }
        }

        fn lacks(&self, work: &Work<'_>) -> Option<&'static str> {
            lazul_cuda::lacks(work)
        }

        fn alloc(&'static self, bytes: usize) -> Result<Buffer> {
            Device::alloc(self, bytes)
        }

        unsafe fn enqueue(&self, job: &Job<'_>, tag: u32) -> Result<(), Refusal> {
            // SAFETY: the caller's promise.
            unsafe { self.stream().enqueue_tagged(job, tag) }.map_err(|e| match e {
                RunError::Unsupported(Unsupported { why, .. }) => Refusal::Lacks(why),
                RunError::Op(error) => Refusal::Failed(error),
            })
        }

        unsafe fn upload(&self, dst: *mut u8, src: &[u8]) -> Result<()> {
            // SAFETY: the caller's promise.
            unsafe { self.stream().upload(dst, src) }
        }

        unsafe fn download(&self, dst: &mut [u8], src: *const u8) -> Result<()> {
            // SAFETY: the caller's promise.
            unsafe { self.stream().read(dst, src) }
        }

        fn wait(&self) -> Result<()> {
            self.stream().sync()
        }

        unsafe fn download_after(&self, dst: &mut [u8], src: *const u8, number: u64) -> Result<()> {
            // SAFETY: the caller's promise.
            unsafe { self.stream().read_after(dst, src, number) }
        }

        unsafe fn poke(&self, dst: *mut u8, bits: u64) -> Result<()> {
            // SAFETY: the caller's promise.
            unsafe { self.stream().poke(dst, bits) }
        }

        fn begin(&self, key: u64) -> Result<()> {
            self.stream().begin(key)
        }

        fn end(&self, number: u64, fallible: bool) -> Result<()> {
            self.stream().end(number, fallible)
        }

        fn wait_until(&self, number: u64) -> Result<()> {
            self.stream().wait_until(number)
        }

        fn is_faulty(&self) -> bool {
            self.stream().is_faulty()
        }

        fn take_fault(&self) -> Result<Option<Met>> {
            let met = self.stream().take_fault()?;
            Ok(met.map(|m| Met { evaluation: m.evaluation, tag: m.tag, error: m.error }))
        }

        fn runs_user_kernels(&self) -> bool {
            true
        }

        unsafe fn enqueue_user(&self, launch: &UserLaunch<'_>) -> Result<()> {
            let code = match launch.code {
                UserCode::Source(text) => lazul_cuda::UserCode::Source(text.clone()),
                UserCode::Compiled(code, name) => {
                    lazul_cuda::UserCode::Compiled(code.clone(), name.clone())
                }
            };
            let arguments: Vec<lazul_cuda::UserArg<'_>> = launch
                .arguments
                .iter()
                .map(|argument| match *argument {
                    UserArg::Pointer(ptr) => lazul_cuda::UserArg::Pointer(ptr),
                    UserArg::Words(words) => lazul_cuda::UserArg::Words(words),
                    UserArg::I32(value) => lazul_cuda::UserArg::I32(value),
                    UserArg::F32(value) => lazul_cuda::UserArg::F32(value),
                    UserArg::Bool(value) => lazul_cuda::UserArg::Bool(value),
                })
                .collect();
            let (blocks, threads, shared) = (launch.blocks, launch.threads, launch.shared);
            // SAFETY: the caller's promise.
            unsafe { self.stream().enqueue_user(&code, blocks, threads, shared, &arguments) }
        }

        fn launches(&self) -> Launches {
            let f = self.stream().launches();
            Launches {
                single: f.single,
                graphs: f.made,
                replays: f.replayed,
                replayed: f.kernels,
                changed: f.changed,
            }
        }

        fn memory(&self) -> MemoryStats {
            Device::memory(self)
        }

        fn set_memory_limit(&self, bytes: usize) -> usize {
            Device::set_memory_limit(self, bytes)
        }

        fn set_cache_limit(&self, bytes: usize) -> usize {
            Device::set_cache_limit(self, bytes)
        }

        fn clear_cache(&self) {
            Device::clear_cache(self);
        }

        fn reset_peak(&self) {
            Device::reset_peak(self);
        }
    }
}

//! Kernels that a user wrote: CUDA sources, compiled like ours, and code that was compiled elsewhere.

use crate::kernel::{Args, Grid};
use crate::source::Key;
use crate::stream::Stream;
use lazul_ir::OpError;
use std::sync::Arc;

/// What definitions a user's source begins with: types, dimensions of operands, the thread's number.
pub(crate) const USER_PRELUDE: &str = include_str!("kernels/user.cu");

/// The name of the function that a user's source defines.
pub(crate) const USER_ENTRY: &str = "user_kernel";

/// A kernel of a user's.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum UserCode {
    /// A source that defines `user_kernel` (`extern "C"`). In front of it stand the types of
    /// `kernels/user.cu`.
    Source(Arc<str>),
    /// Machine code or PTX, and the name of the kernel in it.
    Compiled(Arc<[u8]>, Arc<str>),
}

/// An argument of such a kernel.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum UserArg<'a> {
    /// An address on the device.
    Pointer(u64),
    /// A structure of 64-bit numbers.
    Words(&'a [u64]),
    /// A 32-bit integer.
    I32(i32),
    /// A 32-bit float.
    F32(f32),
    /// One byte, 0 or 1.
    Bool(bool),
}

impl Stream {
    /// Enqueues a user's kernel of `blocks` blocks of `threads` threads, with `shared` bytes of dynamic shared
    /// memory each.
    ///
    /// # Errors
    /// The compiler's log, as an error of kind `Value`; what the driver says of code, grid or memory.
    ///
    /// # Safety
    /// The kernel must keep within its arguments' memory, which must live until it is done.
    pub unsafe fn enqueue_user(
        &self,
        code: &UserCode,
        blocks: [u32; 3],
        threads: [u32; 3],
        shared: u32,
        arguments: &[UserArg<'_>],
    ) -> Result<(), OpError> {
        self.device().enter()?;
        let kernel = self.device().kernel(Key::User(code.clone()))?;
        let mut args = Args::new();
        for argument in arguments {
            match *argument {
                UserArg::Pointer(ptr) => args.push(ptr),
                UserArg::Words(words) => args.push_words(words),
                UserArg::I32(value) => args.push(value),
                UserArg::F32(value) => args.push(value),
                UserArg::Bool(value) => args.push(u32::from(value)),
            };
        }
        // It waits for nothing by itself, as ours do: it begins when what was enqueued before is done.
        kernel.launch(self.raw()?, Grid { blocks, threads, shared }, &args, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Device, Unavailable};
    use lazul_ir::ErrorKind;

    /// A device that compiles, where NVRTC is installed.
    fn compiler() -> Option<&'static Device> {
        match Device::compile_only((9, 0)) {
            Ok(device) => Some(device),
            Err(Unavailable::NoCompiler(_)) => None,
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn sources_of_users_compile_or_say_why_not() {
        let Some(device) = compiler() else { return };
        let run = |body: &str| {
            let text = format!(
                "extern \"C\" __global__ void {USER_ENTRY}(const float16_t* x, Dims \
                 x_shape, float* y) {{ {body} }}"
            );
            let code = UserCode::Source(text.into());
            let args = [UserArg::Pointer(0), UserArg::Words(&[1; 10]), UserArg::Pointer(0)];
            // SAFETY: nothing runs on this device.
            unsafe { device.stream().enqueue_user(&code, [1; 3], [32, 1, 1], 0, &args) }
        };
        run("auto i = cooperative_groups::this_grid().thread_rank(); \
             if (i < x_shape[0]) y[i] = x[i] * 2.0f + float(bfloat16_t(1.0f));")
        .unwrap();
        let error = run("y[0] = nothing;").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Value);
        assert!(error.to_string().contains("nothing"), "{error}");
    }
}

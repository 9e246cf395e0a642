//! cuBLASLt: matrix products by NVIDIA's library, where it is installed.
//!
//! Asking for an algorithm takes a hundred times as long as starting one, so descriptors and algorithms
//! are kept, by problem. IEEE arithmetic always: float32 products are not rounded to tf32.

use crate::device::Device;
use crate::driver::cu;
use crate::error::Result;
use crate::stream::Stream;
use cudarc::cublaslt::{result, sys};
use lazul_ir::{DType, ErrorKind, OpError};
use std::collections::HashMap;
use std::ffi::c_void;
use std::sync::Mutex;

/// Memory that algorithms may use, one such piece a stream.
const WORKSPACE: usize = 64 << 20;

/// The library's state on one device.
pub(crate) struct Blas {
    handle: sys::cublasLtHandle_t,
    plans: Mutex<HashMap<Problem, Option<Plan>>>,
    workspaces: Mutex<HashMap<usize, u64>>,
    /// Keeps the library loaded.
    _library: libloading::Library,
}

// SAFETY: the library's handles may be used by any thread.
unsafe impl Send for Blas {}
// SAFETY: as above; descriptors are not changed once they are in a plan.
unsafe impl Sync for Blas {}

/// One matrix in memory, row-major: `rows` of `columns`, `stride` apart. The product sees it
/// transposed if `transposed`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Matrix {
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    pub(crate) stride: usize,
    pub(crate) transposed: bool,
    /// Distance between the batch's matrices, in elements.
    pub(crate) batch: isize,
    /// Bytes of which addresses are multiples.
    pub(crate) alignment: u32,
}

/// What decides the algorithm.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Problem {
    pub(crate) dtype: DType,
    pub(crate) a: Matrix,
    pub(crate) b: Matrix,
    pub(crate) m: usize,
    pub(crate) n: usize,
    pub(crate) batch: usize,
    /// Distance between rows of the result.
    pub(crate) out_row: usize,
    pub(crate) out_batch: isize,
    pub(crate) out_alignment: u32,
}

/// Descriptors and an algorithm, never freed.
#[derive(Clone, Copy)]
struct Plan {
    operation: sys::cublasLtMatmulDesc_t,
    a: sys::cublasLtMatrixLayout_t,
    b: sys::cublasLtMatrixLayout_t,
    c: sys::cublasLtMatrixLayout_t,
    algorithm: sys::cublasLtMatmulAlgo_t,
    workspace: usize,
}

fn failed(e: result::CublasError) -> OpError {
    OpError::new(ErrorKind::Device, "matmul", format!("cuBLASLt says: {e}"))
}

impl Device {
    /// The library on this device, or none where it is not installed.
    pub(crate) fn blas(&self) -> Option<&Blas> {
        self.blas.get_or_init(|| if self.is_compile_only() { None } else { Blas::load() }).as_ref()
    }
}

/// `(type of elements, type of sums, type of factors)`, if the library multiplies the dtype.
fn types(dtype: DType) -> Option<(sys::cudaDataType, sys::cublasComputeType_t, sys::cudaDataType)> {
    use sys::cublasComputeType_t as C;
    use sys::cudaDataType_t as D;
    Some(match dtype {
        DType::F16 => (D::CUDA_R_16F, C::CUBLAS_COMPUTE_32F, D::CUDA_R_32F),
        DType::BF16 => (D::CUDA_R_16BF, C::CUBLAS_COMPUTE_32F, D::CUDA_R_32F),
        DType::F32 => (D::CUDA_R_32F, C::CUBLAS_COMPUTE_32F, D::CUDA_R_32F),
        DType::F64 => (D::CUDA_R_64F, C::CUBLAS_COMPUTE_64F, D::CUDA_R_64F),
        DType::C64 => (D::CUDA_C_32F, C::CUBLAS_COMPUTE_32F, D::CUDA_C_32F),
        _ => return None,
    })
}

impl Blas {
    fn load() -> Option<Blas> {
        // Loaded here, from wherever it lies, it is found by its name when bindings ask for it.
        let library = crate::library::open("cublasLt").ok()?;
        // SAFETY: loading NVIDIA's library.
        if !unsafe { sys::is_culib_present() } {
            return None;
        }
        let handle = result::create_handle().ok()?;
        let (plans, workspaces) = Default::default();
        Some(Blas { handle, plans, workspaces, _library: library })
    }

    /// `out = a · b`; answers whether the library did it.
    pub(crate) fn matmul(
        &self,
        stream: &Stream,
        problem: Problem,
        [out, a, b]: [u64; 3],
    ) -> Result<bool> {
        let known = self.plans.lock().unwrap_or_else(|e| e.into_inner()).get(&problem).copied();
        let plan = match known {
            Some(plan) => plan,
            None => {
                let plan = self.plan(&problem);
                self.plans.lock().unwrap_or_else(|e| e.into_inner()).insert(problem, plan);
                plan
            }
        };
        let Some(plan) = plan else { return Ok(false) };
        let workspace = match plan.workspace {
            0 => 0,
            _ => self.workspace(stream)?,
        };
        // One and zero in every type of factors; the second half of each is an imaginary part.
        let (one32, one64, zero) = ([1f32, 0.0], 1f64, [0f64; 2]);
        let one: *const c_void = match problem.dtype {
            DType::F64 => (&raw const one64).cast(),
            _ => one32.as_ptr().cast(),
        };
        let raw = stream.raw()?;
        // Row-major matrices are the library's transposed: outᵀ = bᵀ · aᵀ.
        // SAFETY: descriptors live for ever, addresses are the caller's, the workspace is this
        // stream's own.
        unsafe {
            result::matmul(
                self.handle,
                plan.operation,
                one,
                zero.as_ptr().cast(),
                b as *const c_void,
                plan.b,
                a as *const c_void,
                plan.a,
                out as *const c_void,
                plan.c,
                out as *mut c_void,
                plan.c,
                &plan.algorithm,
                workspace as *mut c_void,
                plan.workspace,
                raw.cast(),
            )
        }
        .map_err(failed)?;
        Ok(true)
    }

    /// The stream's workspace. Allocated outside of the pool, since a graph may be being recorded.
    fn workspace(&self, stream: &Stream) -> Result<u64> {
        let mut all = self.workspaces.lock().unwrap_or_else(|e| e.into_inner());
        if let Some(ptr) = all.get(&stream.id()) {
            return Ok(*ptr);
        }
        let mut ptr = 0;
        cu!(cuMemAlloc_v2(&mut ptr, WORKSPACE))?;
        all.insert(stream.id(), ptr);
        Ok(ptr)
    }

    /// Descriptors and the library's choice of an algorithm, if it has one.
    fn plan(&self, p: &Problem) -> Option<Plan> {
        let (element, sum, factor) = types(p.dtype)?;
        use sys::cublasLtMatmulDescAttributes_t as O;
        use sys::cublasLtMatmulPreferenceAttributes_t as W;
        use sys::cublasLtMatrixLayoutAttribute_t as L;
        let layout = |rows: usize, columns: usize, stride: usize, batch: isize| {
            // The library's matrices are column-major: rows and columns change places.
            let layout =
                result::create_matrix_layout(element, columns as u64, rows as u64, stride as i64)
                    .ok()?;
            if p.batch > 1 {
                let (count, distance) = (p.batch as i32, batch as i64);
                // SAFETY: a fresh layout, attributes of the right types.
                unsafe {
                    let attribute = L::CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT;
                    let value = (&raw const count).cast();
                    result::set_matrix_layout_attribute(layout, attribute, value, 4).ok()?;
                    let attribute = L::CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET;
                    let value = (&raw const distance).cast();
                    result::set_matrix_layout_attribute(layout, attribute, value, 8).ok()?;
                }
            }
            Some(layout)
        };
        let a = layout(p.a.rows, p.a.columns, p.a.stride, p.a.batch)?;
        let b = layout(p.b.rows, p.b.columns, p.b.stride, p.b.batch)?;
        let c = layout(p.m, p.n, p.out_row, p.out_batch)?;
        let operation = result::create_matmul_desc(sum, factor).ok()?;
        // CUBLAS_OP_N is 0, CUBLAS_OP_T is 1.
        let (left, right) = (p.b.transposed as i32, p.a.transposed as i32);
        let preference = result::create_matmul_pref().ok()?;
        // SAFETY: fresh descriptors, attributes of the right types.
        let found = unsafe {
            let set = |attribute, value: &i32| {
                let value = std::ptr::from_ref(value).cast();
                result::set_matmul_desc_attribute(operation, attribute, value, 4)
            };
            set(O::CUBLASLT_MATMUL_DESC_TRANSA, &left).ok()?;
            set(O::CUBLASLT_MATMUL_DESC_TRANSB, &right).ok()?;
            let bytes = WORKSPACE;
            let attribute = W::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES;
            let value = (&raw const bytes).cast();
            result::set_matmul_pref_attribute(preference, attribute, value, 8).ok()?;
            for (attribute, alignment) in [
                (W::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, p.b.alignment),
                (W::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, p.a.alignment),
                (W::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, p.out_alignment),
                (W::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, p.out_alignment),
            ] {
                let value = (&raw const alignment).cast();
                result::set_matmul_pref_attribute(preference, attribute, value, 4).ok()?;
            }
            let found =
                result::get_matmul_algo_heuristic(self.handle, operation, b, a, c, c, preference);
            let _ = result::destroy_matmul_pref(preference);
            found.ok()?
        };
        let (algorithm, workspace) = (found.algo, found.workspaceSize);
        Some(Plan { operation, a, b, c, algorithm, workspace })
    }
}

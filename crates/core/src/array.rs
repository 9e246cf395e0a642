//! Making arrays from Rust values, and reading them back.

use crate::device::session::confirm;
use crate::error::{Error, ErrorKind, Result};
use crate::eval;
use crate::eval::view::{copied, copy_to};
use crate::ints::IntoInts;
use crate::node::{Array, Data, Inputs, Load, Op, State, Storage};
use crate::scope::call_site;
use crate::source::ByteSource;
use lazul_ir::{DType, Element, HOST, Scalar, Shape};
use std::panic::Location;
use std::sync::Arc;

/// Checks that `shape` is one that an array can have.
pub(crate) fn checked_shape(op: &'static str, shape: impl IntoInts) -> Result<Shape> {
    let ints = shape.into_ints();
    let bad = |d: i64| Error::new(ErrorKind::Shape, op, format!("dimension {d} is negative"));
    let dims: Shape =
        ints.iter().map(|&d| usize::try_from(d).map_err(|_| bad(d))).collect::<Result<_>>()?;
    check_shape(op, &dims)?;
    Ok(dims)
}

/// Checks that the result of operation `op` can have `shape`.
pub(crate) fn check_shape(op: &'static str, shape: &Shape) -> Result<()> {
    if shape.len() > 32 {
        let message = format!("{} dimensions; 32 is the most", shape.len());
        return Err(Error::new(ErrorKind::Shape, op, message));
    }
    if shape.is_countable() {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Shape, op, format!("shape {shape} has too many elements")))
}

/// The bytes of a slice of elements.
fn bytes_of<T: Element>(data: &[T]) -> &[u8] {
    // SAFETY: elements are plain values without padding (bool is 0 or 1).
    unsafe { std::slice::from_raw_parts(data.as_ptr().cast(), std::mem::size_of_val(data)) }
}

impl Array {
    /// An array of `shape` with the elements of `data` in row-major order, copied.
    ///
    /// Fails (as a failed array) if `data` does not have as many elements as `shape`.
    ///
    /// ```
    /// use lazul_core::Array;
    /// let x = Array::from_slice(&[1i32, 2, 3, 4, 5, 6], [2, 3]);
    /// assert_eq!(x.shape().unwrap(), &[2, 3]);
    /// ```
    #[track_caller]
    pub fn from_slice<T: Element>(data: &[T], shape: impl IntoInts) -> Array {
        from_raw("array", bytes_of(data), data.len(), shape, T::DTYPE, call_site())
    }

    /// Whether this is the same array as `other`, not one that is equal to it.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// let x = ones([2], DType::F32);
    /// assert!(x.ptr_eq(&x.clone()) && !x.ptr_eq(&ones([2], DType::F32)));
    /// ```
    pub fn ptr_eq(&self, other: &Array) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// An array of `shape` from little-endian bytes in row-major order, of any alignment, copied.
    /// Bytes of bool elements are true if not zero.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// let x = Array::from_bytes(&[1, 0, 2, 0], [2], DType::U16);
    /// assert_eq!(x.to_vec::<u16>()?, [1, 2]);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    #[track_caller]
    pub fn from_bytes(bytes: &[u8], shape: impl IntoInts, dtype: DType) -> Array {
        let n = bytes.len() / dtype.size();
        let site = call_site();
        if !bytes.len().is_multiple_of(dtype.size()) {
            let message = format!("{} bytes are not a whole number of {dtype}", bytes.len());
            return Array::fail(Error::new(ErrorKind::Shape, "from_bytes", message), site);
        }
        if dtype == DType::Bool {
            let clean: Vec<u8> = bytes.iter().map(|&b| (b != 0) as u8).collect();
            return from_raw("from_bytes", &clean, n, shape, dtype, site);
        }
        from_raw("from_bytes", bytes, n, shape, dtype, site)
    }

    /// An array of `shape` whose elements lie in `source` from byte `offset` on, little-endian and
    /// row-major. They are read when the array is evaluated, and a source that is too short or has
    /// changed by then is an error of that evaluation.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// use std::sync::Arc;
    /// let text = Arc::new(b"lazy".as_slice());
    /// let letters = Array::from_source(text.clone(), 1, [3], DType::U8);
    /// assert_eq!(letters.to_vec::<u8>()?, b"azy");
    /// assert!(Array::from_source(text, 2, [3], DType::U8).eval().is_err());
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    #[track_caller]
    pub fn from_source(
        source: Arc<dyn ByteSource>,
        offset: u64,
        shape: impl IntoInts,
        dtype: DType,
    ) -> Array {
        let site = call_site();
        match checked_shape("load", shape) {
            Ok(shape) => {
                let load = Op::Load(Arc::new(Load { source, offset }));
                Array::lazy(load, Inputs::new(), shape, dtype, site)
            }
            Err(e) => Array::fail(e, site),
        }
    }

    /// A zero-dimensional array of one value, in the value's own dtype.
    ///
    /// ```
    /// use lazul_core::{Array, DType};
    /// assert_eq!(Array::scalar(2.5f32).dtype().unwrap(), DType::F32);
    /// ```
    #[track_caller]
    pub fn scalar<T: Element>(value: T) -> Array {
        let data = Data::constant(Scalar::new(value), 0);
        Array::ready(Shape::scalar(), T::DTYPE, data, call_site())
    }

    /// `Ok` unless the array, or one that it is built on, comes from a wrong call. Computes nothing.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// let x = zeros([2, 3], DType::F32);
    /// assert!(x.check().is_ok());
    /// let error = (x.matmul(&x) + 1.0).check().unwrap_err();
    /// assert_eq!(error.op(), "matmul");
    /// ```
    ///
    /// # Errors
    /// What was wrong, with the line of the call.
    pub fn check(&self) -> Result<()> {
        if !self.0.failed {
            return Ok(());
        }
        match &*self.0.lock() {
            State::Failed(e) => Err(e.clone()),
            _ => unreachable!("a failed node stays failed"),
        }
    }

    /// The dimensions. Computes nothing.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// assert_eq!(zeros([2, 3], DType::F32).t().shape()?, [3, 2]);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Array::check`].
    pub fn shape(&self) -> Result<&[usize]> {
        self.check()?;
        Ok(&self.0.shape)
    }

    /// The dimensions, if there are exactly `N`. Computes nothing.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// let x = zeros([2, 3], DType::F32);
    /// let [rows, columns] = x.dims()?;
    /// assert_eq!((rows, columns), (2, 3));
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Array::check`], and if the array has another number of dimensions.
    #[track_caller]
    pub fn dims<const N: usize>(&self) -> Result<[usize; N]> {
        let shape = self.shape()?;
        shape.try_into().map_err(|_| {
            let message = format!("expected {N} dimensions, found {}", self.0.shape);
            Error::new(ErrorKind::Shape, "dims", message).at(call_site())
        })
    }

    /// The length of one axis; negative axes count from the end. Computes nothing.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// let x = zeros([2, 3], DType::F32);
    /// assert_eq!((x.dim(0)?, x.dim(-1)?), (2, 3));
    /// assert!(x.dim(2).is_err());
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Array::check`], and if there is no such axis.
    #[track_caller]
    pub fn dim(&self, axis: i64) -> Result<usize> {
        let shape = self.shape()?;
        let at = if axis < 0 { axis + shape.len() as i64 } else { axis };
        usize::try_from(at).ok().and_then(|i| shape.get(i).copied()).ok_or_else(|| {
            let message = format!("axis {axis} is out of range for {}", self.0.shape);
            Error::new(ErrorKind::Axis, "dim", message).at(call_site())
        })
    }

    /// Number of dimensions. Computes nothing.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// assert_eq!(zeros([2, 3], DType::F32).ndim()?, 2);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Array::check`].
    pub fn ndim(&self) -> Result<usize> {
        Ok(self.shape()?.len())
    }

    /// Number of elements. Computes nothing.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// assert_eq!(zeros([2, 3], DType::F32).size()?, 6);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Array::check`].
    pub fn size(&self) -> Result<usize> {
        self.check()?;
        Ok(self.0.shape.size())
    }

    /// Number of bytes that the elements take. Computes nothing.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// assert_eq!(zeros([2, 3], DType::BF16).nbytes()?, 12);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Array::check`].
    pub fn nbytes(&self) -> Result<usize> {
        Ok(self.size()? * self.0.dtype.size())
    }

    /// The dtype. Computes nothing.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// let x = zeros(3, DType::BF16);
    /// assert_eq!((&x * 0.5).dtype()?, DType::BF16);
    /// assert_eq!((&x * ones(3, DType::F32)).dtype()?, DType::F32);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Array::check`].
    pub fn dtype(&self) -> Result<DType> {
        self.check()?;
        Ok(self.0.dtype)
    }

    /// Computes the array, if that is not done yet.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// let x = arange(100, DType::F32).sum(..);
    /// x.eval()?;
    /// assert_eq!(x.item::<f32>()?, 4950.0);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`crate::eval()`].
    pub fn eval(&self) -> Result<()> {
        eval::eval([self])
    }

    /// Computes the array and gives its elements in row-major order.
    ///
    /// ```
    /// use lazul_core::Array;
    /// let x = Array::from_slice(&[1u8, 2, 3], [3]);
    /// assert_eq!(x.to_vec::<u8>()?, [1, 2, 3]);
    /// assert!(x.to_vec::<f32>().is_err());
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// If the array's dtype is not `T`'s (cast it with [`Array::astype`] first), and as
    /// [`crate::eval()`].
    #[track_caller]
    pub fn to_vec<T: Element>(&self) -> Result<Vec<T>> {
        self.expect_dtype::<T>("to_vec")?;
        let n = self.size()?;
        let mut out: Vec<T> = Vec::new();
        out.try_reserve_exact(n).map_err(|_| out_of_host_memory(n * size_of::<T>()))?;
        self.copy_out(out.as_mut_ptr().cast())?;
        // SAFETY: `copy_out` wrote all `n` elements.
        unsafe { out.set_len(n) };
        Ok(out)
    }

    /// Computes the array and gives its elements' little-endian bytes in row-major order.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// assert_eq!(Array::scalar(258u16).to_bytes()?, [2, 1]);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`crate::eval()`].
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let n = self.nbytes()?;
        let mut out: Vec<u8> = Vec::new();
        out.try_reserve_exact(n + 8).map_err(|_| out_of_host_memory(n))?;
        // The copy kernels want elements aligned to their size, which a `Vec<u8>` need not be.
        let pad = out.as_ptr().align_offset(8);
        out.resize(pad, 0);
        // SAFETY: `pad + n` bytes are reserved.
        self.copy_out(unsafe { out.as_mut_ptr().add(pad) })?;
        // SAFETY: `copy_out` wrote the `n` bytes after the padding.
        unsafe { out.set_len(pad + n) };
        out.drain(..pad);
        Ok(out)
    }

    /// Computes the array, which must have one element, and gives that.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// let x = Array::from_slice(&[1.0f32, 2.0], [2]);
    /// assert_eq!(x.sum(..).item::<f32>()?, 3.0);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// If there is not exactly one element, if the dtype is not `T`'s, and as [`crate::eval()`].
    #[track_caller]
    pub fn item<T: Element>(&self) -> Result<T> {
        self.expect_dtype::<T>("item")?;
        if self.size()? != 1 {
            let message = "only an array of one element is an item";
            return Err(Error::new(ErrorKind::Shape, "item", message)
                .operands([(self.0.dtype, self.0.shape.clone())])
                .at(call_site()));
        }
        eval::compute(&[self])?;
        let data = self.data()?;
        match data.home() {
            HOST => {
                let held = data.at(HOST, T::DTYPE)?;
                // SAFETY: an evaluated array's address holds an initialised element of its dtype.
                Ok(unsafe { *held.ptr.cast::<T>() })
            }
            place => {
                let mut bits = 0u64;
                let bytes = std::mem::size_of::<T>();
                // SAFETY: as above, on a device; the element is read into enough aligned bytes.
                unsafe {
                    data.download(place, T::DTYPE, (&raw mut bits).cast(), bytes)?;
                    Ok(*(&raw const bits).cast::<T>())
                }
            }
        }
    }

    fn expect_dtype<T: Element>(&self, op: &'static str) -> Result<()> {
        let dtype = self.dtype()?;
        if dtype == T::DTYPE {
            return Ok(());
        }
        let message = format!("the array holds {dtype}, not {}; cast it first", T::DTYPE);
        Err(Error::new(ErrorKind::DType, op, message))
    }

    /// Writes the elements to `dst`, aligned memory of at least `nbytes` bytes.
    fn copy_out(&self, dst: *mut u8) -> Result<()> {
        eval::compute(&[self])?;
        let (node, data) = (&*self.0, self.data()?);
        if node.shape.size() == 0 {
            return Ok(());
        }
        let (shape, dtype) = (&node.shape, node.dtype);
        match data.home() {
            HOST => copy_to(HOST, &data, shape, dtype, dst),
            place => {
                let (row_major, bytes) = (
                    lazul_ir::layout::is_row_major(shape, &data.strides),
                    shape.size() * dtype.size(),
                );
                let number = data.number;
                let data = if row_major { data } else { copied(place, &data, shape, dtype)? };
                // SAFETY: row-major data on the device; the caller vouches for `dst`.
                unsafe { data.download(place, dtype, dst, bytes) }?;
                // A copy says nothing of what it is a copy of.
                confirm(place, number)
            }
        }
    }

    /// Waits for the evaluation that this is from, if a device may yet show that to be wrong.
    pub(crate) fn confirm(&self) -> Result<()> {
        let data = match &*self.0.lock() {
            State::Ready { data, .. } if data.number > 0 => data.clone(),
            _ => return Ok(()),
        };
        data.confirm()
    }

    /// Memory and layout of an evaluated array.
    pub(crate) fn data(&self) -> Result<Data> {
        match &*self.0.lock() {
            State::Ready { data, .. } => Ok(data.clone()),
            _ => Err(not_ready()),
        }
    }
}

fn not_ready() -> Error {
    Error::new(ErrorKind::Internal, "eval", "an evaluated array has no data")
}

fn out_of_host_memory(bytes: usize) -> Error {
    Error::new(ErrorKind::OutOfMemory, "to_vec", format!("cannot allocate {bytes} bytes"))
}

fn from_raw(
    op: &'static str,
    bytes: &[u8],
    n: usize,
    shape: impl IntoInts,
    dtype: DType,
    site: &'static Location<'static>,
) -> Array {
    let made = checked_shape(op, shape).and_then(|shape| {
        if shape.size() != n {
            let message = format!("{n} elements do not fill shape {shape}");
            return Err(Error::new(ErrorKind::Shape, op, message));
        }
        if n == 1 {
            let mut bits = [0u8; 8];
            bits[..bytes.len()].copy_from_slice(bytes);
            let value = Scalar { bits: u64::from_le_bytes(bits), dtype };
            return Ok(Array::ready(
                shape.clone(),
                dtype,
                Data::constant(value, shape.len()),
                site,
            ));
        }
        let buffer = eval::backend().alloc(bytes.len())?;
        // SAFETY: the buffer is fresh and has at least `bytes.len()` bytes.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), buffer.ptr(), bytes.len()) };
        Ok(Array::ready(shape.clone(), dtype, Data::contiguous(buffer, &shape), site))
    });
    made.unwrap_or_else(|e| Array::fail(e, site))
}

impl<T: Element> From<T> for Array {
    #[track_caller]
    fn from(value: T) -> Array {
        Array::scalar(value)
    }
}

impl Storage {
    /// Whether nobody else shares the memory.
    pub(crate) fn is_unique_buffer(&self) -> bool {
        matches!(self, Storage::Buffer(b) if b.is_unique())
    }
}

#[cfg(test)]
mod tests {
    use crate::prelude::*;

    #[test]
    fn sizes() {
        let x = zeros([2, 3, 4], DType::F16);
        assert_eq!((x.ndim().unwrap(), x.size().unwrap(), x.nbytes().unwrap()), (3, 24, 48));
        assert_eq!((x.shape().unwrap(), x.dims().unwrap()), (&[2, 3, 4][..], [2, 3, 4]));
        assert_eq!((x.dim(0).unwrap(), x.dim(-1).unwrap()), (2, 4));
        assert!(x.dim(3).is_err() && x.dim(-4).is_err() && x.dims::<2>().is_err());
        let failed = x.reshape(7);
        assert!(failed.size().is_err() && failed.ndim().is_err() && failed.nbytes().is_err());
        assert_eq!(zeros((), DType::C64).nbytes().unwrap(), 8);
    }
}

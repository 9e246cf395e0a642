//! Memory that is shared with other libraries: arrays over memory that somebody else lends, and the memory
//! of an evaluated array for somebody else to read. This is what Python's buffers and DLPack are made of.

use crate::array::check_shape;
use crate::error::{Error, ErrorKind, Result};
use crate::eval::view::copied;
use crate::node::{Array, Data, Storage};
use crate::scope::call_site;
use lazul_ir::{BlockSource, Buffer, DType, HOST, Shape, Strides};
use std::any::Any;
use std::collections::HashMap;
use std::sync::Mutex;

/// What keeps lent memory alive.
pub type Owner = Box<dyn Any + Send + Sync>;

/// Gives lent blocks back by dropping their owners.
struct Lent;

/// Owners of the lent blocks that begin at an address. Those of one address keep the same memory alive, so
/// that any of them may go first.
static OWNERS: Mutex<Option<HashMap<usize, Vec<Owner>>>> = Mutex::new(None);

impl BlockSource for Lent {
    fn exclusive(&self) -> bool {
        false
    }

    fn release(&self, ptr: *mut u8, _capacity: usize) {
        let mut owners = OWNERS.lock().unwrap_or_else(|e| e.into_inner());
        let owner = owners.as_mut().and_then(|all| {
            let here = all.get_mut(&(ptr as usize))?;
            let owner = here.pop();
            if here.is_empty() {
                all.remove(&(ptr as usize));
            }
            owner
        });
        // An owner may run any code when it goes.
        drop(owners);
        drop(owner);
    }
}

/// The memory of an evaluated array in the host's memory, which stays as long as this does.
pub struct HostView {
    data: Data,
    shape: Shape,
    dtype: DType,
}

impl HostView {
    /// The address of the element at index `(0, …, 0)`.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// let view = arange(3, DType::I32).host_view()?;
    /// // SAFETY: the view keeps three numbers there.
    /// let first = unsafe { view.ptr().cast::<i32>().read() };
    /// assert_eq!(first, 0);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    pub fn ptr(&self) -> *mut u8 {
        match &self.data.storage {
            Storage::Buffer(b) => b.ptr().wrapping_add(self.data.offset * self.dtype.size()),
            // `host_view` makes buffers of constants.
            Storage::Inline(value) => (&raw const value.bits) as *mut u8,
        }
    }

    /// The dimensions.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// assert_eq!(ones([2, 3], DType::F32).host_view()?.shape(), [2, 3]);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Elements from one index of an axis to the next.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// let x = arange(6, DType::I32).reshape([2, 3]);
    /// assert_eq!(x.t().host_view()?.strides(), [1, 3]);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    pub fn strides(&self) -> &[isize] {
        &self.data.strides
    }

    /// The dtype.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// assert_eq!(ones([2], DType::F16).host_view()?.dtype(), DType::F16);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Whether the elements lie in row-major order without gaps.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// let x = arange(6, DType::I32).reshape([2, 3]);
    /// assert!(x.host_view()?.is_row_major() && !x.t().host_view()?.is_row_major());
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    pub fn is_row_major(&self) -> bool {
        lazul_ir::layout::is_row_major(&self.shape, &self.data.strides)
    }
}

impl Array {
    /// Computes the array and gives its memory, without a copy where it lies in the host's memory. While the
    /// view is held no operation reuses the memory.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// let x = arange(6, DType::I32).reshape([2, 3]);
    /// x.eval()?;
    /// let (whole, column) = (x.host_view()?, x.index((.., 1)).host_view()?);
    /// assert_eq!(column.ptr() as usize, whole.ptr() as usize + 4);
    /// assert_eq!((column.shape(), column.strides()), (&[2][..], &[3][..]));
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`crate::eval()`].
    pub fn host_view(&self) -> Result<HostView> {
        self.eval()?;
        let (shape, dtype) = (self.0.shape.clone(), self.0.dtype);
        let mut data = self.data()?;
        match &data.storage {
            Storage::Buffer(b) if b.place() == HOST => {}
            Storage::Buffer(_) if data.home() == HOST => {
                if let Storage::Buffer(b) = &data.storage
                    && let Some(here) = b.at(HOST)
                {
                    data.storage = Storage::Buffer(here);
                }
            }
            Storage::Buffer(_) => {
                let bytes = self.to_bytes()?;
                let here = Array::from_bytes(&bytes, &shape, dtype);
                return here.host_view();
            }
            Storage::Inline(_) => data = copied(HOST, &data, &shape, dtype)?,
        }
        Ok(HostView { data, shape, dtype })
    }

    /// An array over memory that somebody lends, without a copy. `strides` are counted in elements. No
    /// operation writes to it.
    ///
    /// ```
    /// use lazul_core::prelude::*;
    /// let numbers: Vec<i32> = (0..6).collect();
    /// let ptr = numbers.as_ptr() as *mut u8;
    /// // SAFETY: the owner is the vector, which does not change.
    /// let x = unsafe { Array::from_lent(ptr, &[3], &[2], DType::I32, Box::new(numbers)) }?;
    /// assert_eq!((&x + 1).to_vec::<i32>()?, [1, 3, 5]);
    /// # Ok::<(), lazul_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// If the address does not suit the dtype's alignment, or the shape is none.
    ///
    /// # Safety
    /// Until `owner` is dropped, all memory from the first element to the last, what lies between them too, must be
    /// readable and initialised, and every element valid for the dtype (a bool is 0 or 1). Whoever writes to the memory meanwhile changes the values of arrays that were not computed yet.
    #[track_caller]
    pub unsafe fn from_lent(
        ptr: *mut u8,
        shape: &[usize],
        strides: &[isize],
        dtype: DType,
        owner: Owner,
    ) -> Result<Array> {
        let site = call_site();
        let shape = Shape::new(shape);
        check_shape("from_lent", &shape).map_err(|e| e.at(site))?;
        let wrong = |why: &str| Err(Error::new(ErrorKind::Value, "from_lent", why).at(site));
        if shape.len() != strides.len() {
            return wrong("as many strides as dimensions are needed");
        }
        if shape.size() == 0 {
            return Ok(crate::zeros(&shape, dtype));
        }
        if !(ptr as usize).is_multiple_of(dtype.size().min(8)) {
            return wrong("the memory is not aligned for its dtype");
        }
        // The block is the span of the elements; it begins before the first one where strides are negative.
        let span = |sign: isize| -> usize {
            let one = |(&d, &s): (&usize, &isize)| {
                (d - 1).saturating_mul(s.saturating_mul(sign).max(0) as usize)
            };
            shape.iter().zip(strides).map(one).fold(0, usize::saturating_add)
        };
        let (before, after) = (span(-1), span(1));
        let bytes = before.saturating_add(after).saturating_add(1).saturating_mul(dtype.size());
        let start = ptr.wrapping_sub(before * dtype.size());
        let mut owners = OWNERS.lock().unwrap_or_else(|e| e.into_inner());
        owners.get_or_insert_default().entry(start as usize).or_default().push(owner);
        drop(owners);
        // SAFETY: the caller vouches for the memory until the owner, which `Lent` drops, is gone.
        let buffer = unsafe { Buffer::new(start, bytes, bytes, &Lent) };
        let strides = Strides::from_slice(strides);
        let data = Data { storage: Storage::Buffer(buffer), strides, offset: before, number: 0 };
        Ok(Array::ready(shape, dtype, data, site))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn lent(numbers: &Arc<Vec<f32>>, at: usize, shape: &[usize], strides: &[isize]) -> Array {
        let ptr = numbers[at..].as_ptr() as *mut u8;
        // SAFETY: the vector is held by its owner and not written to.
        unsafe { Array::from_lent(ptr, shape, strides, DType::F32, Box::new(numbers.clone())) }
            .expect("a lent array")
    }

    #[test]
    fn lent_memory_is_read_in_place_never_written_and_given_back() {
        let numbers = Arc::new((0..8).map(|i| i as f32).collect::<Vec<f32>>());
        let x = lent(&numbers, 0, &[8], &[1]);
        let same = lent(&numbers, 0, &[4], &[2]);
        let view = x.host_view().expect("a view");
        assert_eq!(view.ptr() as usize, numbers.as_ptr() as usize);
        drop(view);
        // The only holder's memory would be reused if it were ours.
        let y = x + 1.0;
        assert_eq!(y.to_vec::<f32>().expect("values")[..2], [1.0, 2.0]);
        assert_eq!(numbers[..3], [0.0, 1.0, 2.0]);
        drop(y);
        assert_eq!(same.to_vec::<f32>().expect("values"), [0.0, 2.0, 4.0, 6.0]);
        drop(same);
        assert_eq!(Arc::strong_count(&numbers), 1);
    }

    #[test]
    fn lent_memory_may_lie_backwards() {
        let numbers = Arc::new((0..6).map(|i| i as f32).collect::<Vec<f32>>());
        let x = lent(&numbers, 2, &[2, 3], &[3, -1]);
        assert_eq!(x.to_vec::<f32>().expect("values"), [2.0, 1.0, 0.0, 5.0, 4.0, 3.0]);
        drop(x);
        assert_eq!(Arc::strong_count(&numbers), 1);
    }

    #[test]
    fn constants_are_viewed_in_memory_of_their_own() {
        let view = crate::full([2, 2], 3.0f32).host_view().expect("a view");
        // SAFETY: a view of four f32.
        let held = unsafe { std::slice::from_raw_parts(view.ptr().cast::<f32>(), 4) };
        assert_eq!(held, [3.0; 4]);
        assert!(view.is_row_major());
    }
}

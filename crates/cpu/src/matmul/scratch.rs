//! Scratch memory that threads keep for their next kernel.
//!
//! Blocks are aligned to cache lines, and from 2 MiB on to huge pages: packed panels are read over and
//! over, and with small pages the address translations alone would cost a tenth of a product.

use bytemuck::Pod;
use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::cell::RefCell;
use std::ptr::NonNull;

/// Size from which blocks lie in huge pages.
const HUGE: usize = 2 << 20;
/// Bytes of one block that a thread keeps, at most.
pub(crate) const KEPT: usize = 16 << 20;

/// Initialised bytes.
struct Block {
    ptr: NonNull<u8>,
    size: usize,
}

impl Block {
    fn layout(size: usize) -> Layout {
        let align = if size >= HUGE { HUGE } else { 64 };
        Layout::from_size_align(size, align).expect("sizes of scratch memory can be counted")
    }

    /// At least `size` bytes.
    fn new(size: usize) -> Block {
        let size = size.next_multiple_of(if size >= HUGE { HUGE } else { 4096 });
        let layout = Block::layout(size);
        // SAFETY: the size is not zero.
        let Some(ptr) = NonNull::new(unsafe { alloc(layout) }) else { handle_alloc_error(layout) };
        // SAFETY: the block is new and of that size. The advice is a hint, and changes no value.
        unsafe {
            #[cfg(target_os = "linux")]
            if size >= HUGE {
                libc::madvise(ptr.as_ptr().cast(), size, libc::MADV_HUGEPAGE);
            }
            ptr.as_ptr().write_bytes(0, size);
        }
        Block { ptr, size }
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        // SAFETY: the block was allocated with this layout, and its owner is gone.
        unsafe { dealloc(self.ptr.as_ptr(), Block::layout(self.size)) };
    }
}

thread_local! {
    static FREE: RefCell<Vec<Block>> = const { RefCell::new(Vec::new()) };
}

/// The smallest free block of at least `size` bytes, or a new one in the place of the largest.
fn take(size: usize) -> Block {
    FREE.with_borrow_mut(|free| {
        let fits = |b: &&(usize, usize)| b.1 >= size;
        let sizes: smallvec::SmallVec<[(usize, usize); 8]> =
            free.iter().map(|b| b.size).enumerate().collect();
        if let Some(&(i, _)) = sizes.iter().filter(fits).min_by_key(|b| b.1) {
            return free.swap_remove(i);
        }
        if let Some(&(i, _)) = sizes.iter().max_by_key(|b| b.1) {
            free.swap_remove(i);
        }
        Block::new(size)
    })
}

/// Calls `f` with `len` elements of this thread's scratch memory, aligned to 64 bytes and holding
/// anything. Calls may nest.
pub(crate) fn with_scratch<T: Pod, R>(len: usize, f: impl FnOnce(&mut [T]) -> R) -> R {
    const { assert!(align_of::<T>() <= 64) };
    let block = take((len * size_of::<T>()).max(1));
    // SAFETY: the block is that large, aligned, initialised, and nobody else's; any bytes make a `T`.
    let slice = unsafe { std::slice::from_raw_parts_mut(block.ptr.as_ptr().cast::<T>(), len) };
    let result = f(slice);
    if block.size <= KEPT {
        FREE.with_borrow_mut(|free| free.push(block));
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nested_blocks_are_apart_and_come_back() {
        let mut places = [0; 2];
        for round in 0..3 {
            with_scratch::<u64, _>(1000, |a| {
                a.fill(1);
                with_scratch::<u64, _>(HUGE / 8 + 5, |b| {
                    b.fill(2);
                    let now = [a.as_ptr() as usize, b.as_ptr() as usize];
                    assert!(now[0].is_multiple_of(64) && now[1].is_multiple_of(HUGE));
                    assert!(round == 0 || now == places);
                    places = now;
                });
                assert!(a.iter().all(|&x| x == 1));
            });
        }
    }
}

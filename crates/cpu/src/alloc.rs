//! The caching allocator behind every CPU buffer.
//!
//! Freed blocks are kept by size and handed out again. Sizes up to 1 MiB are rounded up to classes
//! (multiples of 64 bytes to 512, then four to each doubling); those up to 32 KiB lie in free lists
//! that threads seldom share, so an allocation costs little more than its lock-free counters. Larger
//! blocks are looked up best-fit, at most a quarter too large. Everything is aligned to 64 bytes,
//! and blocks of 4 MiB and more to huge pages.
//!
//! Two counters carry the figures: `ACTIVE`, bytes in live buffers, and `TOTAL`, bytes had from the
//! system; what is cached is their difference. When the limit would be passed the cache shrinks,
//! oldest large blocks first, and only then is a request refused. Nothing here aborts.

use lazul_ir::{BlockSource, Buffer, ErrorKind, MemoryStats, OpError};
use std::alloc::Layout;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

/// What every block is aligned to: the widest vector unit, and a cache line.
const ALIGN: usize = 64;
/// Blocks from here on are aligned to, and asked to lie in, huge pages.
const HUGE: usize = 4 << 20;
const HUGE_PAGE: usize = 2 << 20;
/// Largest size with a class of its own.
const CLASSED: usize = 1 << 20;
const CLASSES: usize = 8 + 4 * 11;
/// Largest size kept in the threads' lists: class `SHARDED - 1`.
const SHARDED: usize = 8 + 4 * 6;
const SHARDED_BYTES: usize = 32 << 10;
/// Large capacities are multiples of this.
const GRANULE: usize = 16 << 10;
const SHARDS: usize = 16;

static ACTIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);
static TOTAL: AtomicUsize = AtomicUsize::new(0);
static LIMIT: AtomicUsize = AtomicUsize::new(0);
static CACHE_LIMIT: AtomicUsize = AtomicUsize::new(0);
static DEFAULTS: OnceLock<()> = OnceLock::new();

static SHARD: [Shard; SHARDS] = [const { Shard(Mutex::new(Lists::NEW)) }; SHARDS];
static CENTRAL: Mutex<Lists<CLASSES>> = Mutex::new(Lists::NEW);
static LARGE: Mutex<Large> = Mutex::new(Large { blocks: BTreeMap::new(), stamp: 0 });

struct Source;
static SOURCE: Source = Source;

impl BlockSource for Source {
    fn release(&self, ptr: *mut u8, capacity: usize) {
        release(ptr, capacity);
    }
}

/// Free blocks of one class, linked through their first bytes.
#[derive(Clone, Copy)]
struct List {
    head: *mut u8,
    len: usize,
}

struct Lists<const N: usize>([List; N]);

// SAFETY: the blocks in a list belong to it alone.
unsafe impl<const N: usize> Send for Lists<N> {}

impl<const N: usize> Lists<N> {
    const NEW: Lists<N> = Lists([List { head: std::ptr::null_mut(), len: 0 }; N]);
}

#[repr(align(128))]
struct Shard(Mutex<Lists<SHARDED>>);

impl List {
    fn push(&mut self, block: *mut u8) {
        // SAFETY: free blocks have at least 64 bytes, aligned, that nobody else uses.
        unsafe { block.cast::<*mut u8>().write(self.head) };
        self.head = block;
        self.len += 1;
    }

    fn pop(&mut self) -> Option<*mut u8> {
        if self.head.is_null() {
            return None;
        }
        let block = self.head;
        // SAFETY: blocks in the list hold the next one's address, written by `push`.
        self.head = unsafe { block.cast::<*mut u8>().read() };
        self.len -= 1;
        Some(block)
    }
}

/// Free blocks above 1 MiB, by capacity and age.
struct Large {
    blocks: BTreeMap<(usize, u64), Block>,
    stamp: u64,
}

struct Block(*mut u8);
// SAFETY: a cached block belongs to the cache alone.
unsafe impl Send for Block {}

impl Large {
    /// The smallest block of `bytes` to a quarter more.
    fn take(&mut self, bytes: usize) -> Option<(*mut u8, usize)> {
        let most = bytes.saturating_add(bytes / 4);
        let (&key, _) = self.blocks.range((bytes, 0)..=(most, u64::MAX)).next()?;
        self.blocks.remove(&key).map(|b| (b.0, key.0))
    }

    fn put(&mut self, ptr: *mut u8, capacity: usize) {
        self.stamp += 1;
        self.blocks.insert((capacity, self.stamp), Block(ptr));
    }

    fn take_oldest(&mut self) -> Option<(*mut u8, usize)> {
        let key = self.blocks.keys().copied().min_by_key(|&(_, stamp)| stamp)?;
        self.blocks.remove(&key).map(|b| (b.0, key.0))
    }
}

/// A poisoned lock only means that some thread panicked; the lists are whole at every such point.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The class whose capacity is the smallest that holds `bytes`, for `0 < bytes <= CLASSED`.
#[inline]
fn class_of(bytes: usize) -> usize {
    if bytes <= 512 {
        return (bytes - 1) / 64;
    }
    let b = bytes - 1;
    let octave = (usize::BITS - 1 - b.leading_zeros()) as usize; // 9 for 512..1024
    8 + (octave - 9) * 4 + ((b >> (octave - 2)) & 3)
}

#[inline]
fn class_capacity(class: usize) -> usize {
    if class < 8 {
        return (class + 1) * 64;
    }
    let (octave, quarter) = ((class - 8) / 4, (class - 8) % 4);
    (128 << octave) * (5 + quarter)
}

/// How many blocks of a class a thread's list keeps before half of them go to the central one.
#[inline]
fn shard_capacity(class: usize) -> usize {
    ((256 << 10) / class_capacity(class)).clamp(8, 128)
}

#[inline]
fn shard() -> &'static Mutex<Lists<SHARDED>> {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local!(static MINE: Cell<usize> = const { Cell::new(usize::MAX) });
    let i = MINE.with(|mine| {
        if mine.get() == usize::MAX {
            mine.set(NEXT.fetch_add(1, Relaxed) % SHARDS);
        }
        mine.get()
    });
    &SHARD[i].0
}

/// Memory of `bytes` bytes, not initialised, aligned to 64 bytes.
///
/// # Errors
/// [`ErrorKind::OutOfMemory`], after cached memory was given back to no avail.
pub fn alloc(bytes: usize) -> Result<Buffer, OpError> {
    if bytes == 0 {
        // SAFETY: no byte of it may be used.
        return Ok(unsafe { Buffer::new(ALIGN as *mut u8, 0, 0, &SOURCE) });
    }
    let (ptr, capacity) = if bytes <= SHARDED_BYTES {
        let class = class_of(bytes);
        let capacity = class_capacity(class);
        reserve(capacity).map_err(|()| refused(bytes))?;
        let free = lock(shard()).0[class].pop();
        match free {
            Some(ptr) => (ptr, capacity),
            None => (refill(class, capacity).ok_or_else(|| refused(bytes))?, capacity),
        }
    } else if bytes <= CLASSED {
        let class = class_of(bytes);
        let capacity = class_capacity(class);
        reserve(capacity).map_err(|()| refused(bytes))?;
        let free = lock(&CENTRAL).0[class].pop();
        match free.or_else(|| system(capacity)) {
            Some(ptr) => (ptr, capacity),
            None => return Err(refused(bytes)),
        }
    } else {
        large(bytes)?
    };
    // SAFETY: the block came from the lists or the system, for this buffer alone.
    Ok(unsafe { Buffer::new(ptr, bytes, capacity, &SOURCE) })
}

fn large(bytes: usize) -> Result<(*mut u8, usize), OpError> {
    let Some(exact) = bytes.checked_next_multiple_of(GRANULE).filter(|&n| n <= isize::MAX as usize)
    else {
        return Err(refused(bytes));
    };
    let cached = lock(&LARGE).take(exact);
    if let Some((ptr, capacity)) = cached {
        if reserve(capacity).is_ok() {
            return Ok((ptr, capacity));
        }
        // The rounding may be what does not fit.
        give_back(ptr, capacity);
    }
    reserve(exact).map_err(|()| refused(bytes))?;
    match system(exact) {
        Some(ptr) => Ok((ptr, exact)),
        None => Err(refused(bytes)),
    }
}

/// Counts `capacity` as active if the limit allows it.
#[inline]
fn reserve(capacity: usize) -> Result<(), ()> {
    let limit = match LIMIT.load(Relaxed) {
        0 => default_limits(),
        limit => limit,
    };
    let before = ACTIVE.fetch_add(capacity, Relaxed);
    let now = before.saturating_add(capacity);
    if now > limit {
        ACTIVE.fetch_sub(capacity, Relaxed);
        return Err(());
    }
    if now > PEAK.load(Relaxed) {
        PEAK.fetch_max(now, Relaxed);
    }
    Ok(())
}

#[cold]
fn refused(bytes: usize) -> OpError {
    let s = stats();
    let message = format!(
        "no memory for {bytes} bytes: {} are in use and the limit is {} (see set_memory_limit and \
         LAZUL_MEMORY_LIMIT)",
        s.active, s.limit
    );
    OpError::new(ErrorKind::OutOfMemory, "alloc", message)
}

/// A block for a thread whose list is empty: from the central list (with a few more, for the next
/// requests) or the system.
#[cold]
fn refill(class: usize, capacity: usize) -> Option<*mut u8> {
    let mut batch = List { head: std::ptr::null_mut(), len: 0 };
    {
        let mut central = lock(&CENTRAL);
        while batch.len < shard_capacity(class) / 2 {
            match central.0[class].pop() {
                Some(block) => batch.push(block),
                None => break,
            }
        }
    }
    let Some(first) = batch.pop() else { return system(capacity) };
    let mut mine = lock(shard());
    while let Some(block) = batch.pop() {
        mine.0[class].push(block);
    }
    Some(first)
}

fn layout(capacity: usize) -> Option<Layout> {
    let align = if capacity >= HUGE { HUGE_PAGE } else { ALIGN };
    Layout::from_size_align(capacity, align).ok()
}

/// A new block from the system, whose `capacity` is reserved already (and is not any more where
/// there is none).
#[cold]
fn system(capacity: usize) -> Option<*mut u8> {
    let total = TOTAL.fetch_add(capacity, Relaxed).saturating_add(capacity);
    let limit = LIMIT.load(Relaxed);
    if total > limit {
        shrink_cache(total - limit);
    }
    let block = layout(capacity).and_then(|layout| {
        // SAFETY: the size is not zero.
        let attempt = || Some(unsafe { std::alloc::alloc(layout) }).filter(|p| !p.is_null());
        attempt().or_else(|| {
            clear_cache();
            attempt()
        })
    });
    let Some(ptr) = block else {
        TOTAL.fetch_sub(capacity, Relaxed);
        ACTIVE.fetch_sub(capacity, Relaxed);
        return None;
    };
    #[cfg(target_os = "linux")]
    if capacity >= HUGE {
        // A hint: where it is refused, pages are small.
        // SAFETY: the range was just allocated and starts at a page.
        unsafe { libc::madvise(ptr.cast(), capacity, libc::MADV_HUGEPAGE) };
    }
    Some(ptr)
}

/// Gives a block that is not active back to the system.
fn give_back(ptr: *mut u8, capacity: usize) {
    TOTAL.fetch_sub(capacity, Relaxed);
    if let Some(layout) = layout(capacity) {
        // SAFETY: the block was allocated with the layout of its capacity, and nobody uses it.
        unsafe { std::alloc::dealloc(ptr, layout) };
    }
}

fn release(ptr: *mut u8, capacity: usize) {
    if capacity == 0 {
        return;
    }
    let active = ACTIVE.fetch_sub(capacity, Relaxed) - capacity;
    let cache = TOTAL.load(Relaxed).saturating_sub(active);
    let excess = cache.saturating_sub(CACHE_LIMIT.load(Relaxed));
    if capacity > CLASSED {
        lock(&LARGE).put(ptr, capacity);
        if excess > 0 {
            shrink_cache(excess);
        }
        return;
    }
    if excess > 0 {
        return give_back(ptr, capacity);
    }
    let class = class_of(capacity);
    if class >= SHARDED {
        return lock(&CENTRAL).0[class].push(ptr);
    }
    let mut mine = lock(shard());
    mine.0[class].push(ptr);
    if mine.0[class].len > shard_capacity(class) {
        spill(mine, class);
    }
}

/// Moves half of a thread's list to the central one, where other threads find it.
#[cold]
fn spill(mut mine: MutexGuard<'_, Lists<SHARDED>>, class: usize) {
    let mut batch = List { head: std::ptr::null_mut(), len: 0 };
    while batch.len < shard_capacity(class) / 2 {
        match mine.0[class].pop() {
            Some(block) => batch.push(block),
            None => break,
        }
    }
    drop(mine);
    let mut central = lock(&CENTRAL);
    while let Some(block) = batch.pop() {
        central.0[class].push(block);
    }
}

/// Gives at least `bytes` of cached memory back, if there is as much.
#[cold]
fn shrink_cache(bytes: usize) {
    let mut freed = 0usize;
    while freed < bytes {
        let oldest = lock(&LARGE).take_oldest();
        let Some((ptr, capacity)) = oldest else { break };
        give_back(ptr, capacity);
        freed += capacity;
    }
    for class in (0..CLASSES).rev() {
        while freed < bytes {
            let block = lock(&CENTRAL).0[class].pop();
            let Some(ptr) = block else { break };
            give_back(ptr, class_capacity(class));
            freed += class_capacity(class);
        }
    }
    for shard in &SHARD {
        for class in 0..SHARDED {
            while freed < bytes {
                let block = lock(&shard.0).0[class].pop();
                let Some(ptr) = block else { break };
                give_back(ptr, class_capacity(class));
                freed += class_capacity(class);
            }
        }
    }
}

/// Sets the limits on first use; returns the memory limit.
#[cold]
fn default_limits() -> usize {
    DEFAULTS.get_or_init(|| {
        let limit = configured_limit().max(1);
        CACHE_LIMIT.store(limit, Relaxed);
        LIMIT.store(limit, Relaxed);
    });
    LIMIT.load(Relaxed)
}

fn configured_limit() -> usize {
    let default = || (system_memory() as f64 * 0.8) as usize;
    match std::env::var("LAZUL_MEMORY_LIMIT") {
        Ok(text) => text.trim().parse().unwrap_or_else(|_| {
            eprintln!("lazul: LAZUL_MEMORY_LIMIT={text:?} is not a number of bytes; ignored");
            default()
        }),
        Err(_) => default(),
    }
}

/// The machine's memory, or the container's share of it.
fn system_memory() -> usize {
    let mut bytes = 64 << 30;
    #[cfg(unix)]
    {
        // SAFETY: plain queries.
        let (pages, size) =
            unsafe { (libc::sysconf(libc::_SC_PHYS_PAGES), libc::sysconf(libc::_SC_PAGESIZE)) };
        if pages > 0 && size > 0 {
            bytes = (pages as usize).saturating_mul(size as usize);
        }
    }
    for file in ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"] {
        if let Some(n) = std::fs::read_to_string(file).ok().and_then(|s| s.trim().parse().ok()) {
            bytes = bytes.min(n);
        }
    }
    bytes
}

/// Memory figures; exact while no other thread allocates or frees.
pub fn stats() -> MemoryStats {
    default_limits();
    let active = ACTIVE.load(Relaxed);
    MemoryStats {
        active,
        peak: PEAK.load(Relaxed),
        cache: TOTAL.load(Relaxed).saturating_sub(active),
        limit: LIMIT.load(Relaxed),
        cache_limit: CACHE_LIMIT.load(Relaxed),
        ..MemoryStats::default()
    }
}

/// Sets the highest `active` allowed; returns the old one. What is live stays.
pub fn set_memory_limit(bytes: usize) -> usize {
    default_limits();
    // Zero means "not set yet"; a limit of one byte refuses as much.
    let old = LIMIT.swap(bytes.max(1), Relaxed);
    let total = TOTAL.load(Relaxed);
    if total > bytes {
        shrink_cache(total - bytes);
    }
    old
}

/// Sets how much freed memory may be kept; returns the old limit.
pub fn set_cache_limit(bytes: usize) -> usize {
    default_limits();
    let old = CACHE_LIMIT.swap(bytes, Relaxed);
    let cache = stats().cache;
    if cache > bytes {
        shrink_cache(cache - bytes);
    }
    old
}

/// Gives all cached memory back to the system.
pub fn clear_cache() {
    shrink_cache(usize::MAX);
}

/// Starts `peak` anew at `active`.
pub fn reset_peak() {
    PEAK.store(ACTIVE.load(Relaxed), Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The figures are the process's: tests that read them take turns. Kernels' tests use memory of
    /// their own, so nobody else allocates here.
    static TURN: Mutex<()> = Mutex::new(());

    #[test]
    fn classes_cover_every_size_with_little_waste() {
        let mut previous = 0;
        for class in 0..CLASSES {
            let capacity = class_capacity(class);
            assert!(capacity > previous && capacity.is_multiple_of(64));
            assert_eq!(class_of(capacity), class);
            assert_eq!(class_of(previous + 1), class);
            previous = capacity;
        }
        assert_eq!(previous, CLASSED);
        assert_eq!(class_capacity(SHARDED - 1), SHARDED_BYTES);
    }

    #[test]
    fn figures_are_exact_and_blocks_are_reused() {
        let _turn = lock(&TURN);
        clear_cache();
        let before = stats();
        for bytes in [1, 64, 65, 4000, 33_000, 1 << 20, (1 << 20) + 1, 5 << 20] {
            let a = alloc(bytes).unwrap();
            assert_eq!(a.len(), bytes);
            assert!(a.capacity() >= bytes && a.capacity() <= bytes * 5 / 4 + 16_384);
            assert_eq!(a.ptr() as usize % 64, 0);
            assert_eq!(stats().active, before.active + a.capacity());
            let (ptr, capacity) = (a.ptr(), a.capacity());
            drop(a);
            assert_eq!(stats().active, before.active);
            let b = alloc(bytes).unwrap();
            assert_eq!((b.ptr(), b.capacity()), (ptr, capacity));
        }
        assert!(stats().cache > 0);
        clear_cache();
        assert_eq!(stats().cache, 0);
        reset_peak();
        let a = alloc(1 << 22).unwrap();
        drop(a);
        assert_eq!(stats().peak, before.active + (1 << 22));
        clear_cache();
    }

    #[test]
    fn a_slightly_larger_block_serves_a_large_request() {
        let _turn = lock(&TURN);
        clear_cache();
        let a = alloc(10 << 20).unwrap();
        let ptr = a.ptr();
        drop(a);
        assert_eq!(alloc(9 << 20).unwrap().ptr(), ptr);
        assert_ne!(alloc(5 << 20).unwrap().ptr(), ptr);
        clear_cache();
    }

    #[test]
    fn no_bytes_need_no_memory() {
        let a = alloc(0).unwrap();
        assert!(a.is_empty() && (a.ptr() as usize).is_multiple_of(64));
    }

    #[test]
    fn the_limit_refuses_and_the_cache_makes_room() {
        let _turn = lock(&TURN);
        clear_cache();
        let active = stats().active;
        let old = set_memory_limit(active + (8 << 20));
        drop(alloc(6 << 20).unwrap());
        assert_eq!(stats().cache, 6 << 20);
        let a = alloc(3 << 20).unwrap(); // 6 + 3 > 8: the cached block goes
        assert_eq!(stats().cache, 0);
        let e = alloc(6 << 20).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::OutOfMemory);
        assert_eq!(stats().active, active + a.capacity());
        drop(a);
        assert!(alloc(6 << 20).is_ok());
        set_memory_limit(old);
        for bytes in [usize::MAX, isize::MAX as usize, usize::MAX / 2 + 1, 1 << 60] {
            assert_eq!(alloc(bytes).unwrap_err().kind(), ErrorKind::OutOfMemory);
        }
        let old = set_memory_limit(usize::MAX);
        for bytes in [usize::MAX, isize::MAX as usize, 1 << 60] {
            assert_eq!(alloc(bytes).unwrap_err().kind(), ErrorKind::OutOfMemory);
        }
        set_memory_limit(old);
        assert_eq!(stats().active, active);
        clear_cache();
    }

    #[test]
    fn the_cache_limit_holds() {
        let _turn = lock(&TURN);
        clear_cache();
        let old = set_cache_limit(4 << 20);
        let blocks: Vec<_> = (0..8).map(|_| alloc(2 << 20).unwrap()).collect();
        let small: Vec<_> = (0..1000).map(|_| alloc(3000).unwrap()).collect();
        drop(blocks);
        drop(small);
        assert!(stats().cache <= 4 << 20);
        set_cache_limit(0);
        assert_eq!(stats().cache, 0);
        drop(alloc(100).unwrap());
        assert_eq!(stats().cache, 0);
        set_cache_limit(old);
    }

    #[test]
    fn threads_share_blocks_without_mixing_them() {
        let _turn = lock(&TURN);
        let before = stats().active;
        let (send, receive) = std::sync::mpsc::channel::<(Buffer, u8)>();
        std::thread::scope(|s| {
            for t in 0..4u8 {
                let send = send.clone();
                s.spawn(move || {
                    for i in 0..2000usize {
                        let b = alloc(1 + (i * 37) % 5000).unwrap();
                        // SAFETY: the buffer is this thread's alone.
                        unsafe { b.ptr().write_bytes(t, b.len()) };
                        send.send((b, t)).unwrap();
                    }
                });
            }
            drop(send);
            for (b, t) in receive {
                // SAFETY: the sender is done with it.
                let bytes = unsafe { std::slice::from_raw_parts(b.ptr(), b.len()) };
                assert!(bytes.iter().all(|&x| x == t));
            }
        });
        assert_eq!(stats().active, before);
        clear_cache();
    }

    /// `cargo test --release -p lazul-cpu alloc_speed -- --ignored --nocapture`
    #[test]
    #[ignore = "a measurement"]
    fn alloc_speed() {
        let _turn = lock(&TURN);
        for bytes in [64, 4096, 100_000, 8 << 20] {
            let n = 1_000_000;
            let start = std::time::Instant::now();
            for _ in 0..n {
                std::hint::black_box(alloc(bytes).unwrap());
            }
            let ns = start.elapsed().as_nanos() as f64 / n as f64;
            println!("{bytes:>8} bytes: {ns:.1} ns an allocation and release");
        }
    }
}

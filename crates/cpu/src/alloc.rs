use lazul_ir::{Buffer, MemoryStats, OpError};
pub fn alloc(_bytes: usize) -> Result<Buffer, OpError> { panic!() }
pub fn stats() -> MemoryStats { panic!() }
pub fn set_memory_limit(_b: usize) -> usize { panic!() }
pub fn set_cache_limit(_b: usize) -> usize { panic!() }
pub fn clear_cache() {}
pub fn reset_peak() {}

//! The memory limit, and memory that is used again. One test: limit and figures are the process' own.

use lazul_core::{Array, DType, ErrorKind, arange, eval, memory, zeros};

const MIB: usize = 1 << 20;

/// Bytes above those held now that were in use at the highest point of `f`.
fn peak_of<R>(f: impl FnOnce() -> R) -> (R, usize) {
    memory::reset_peak();
    let before = memory::stats().active;
    let out = f();
    (out, memory::stats().peak.saturating_sub(before))
}

#[test]
fn memory_is_limited_and_reused() {
    // A loop that replaces its array takes one array's memory, or two while the new one is made.
    let n = 4 * MIB / 4;
    let mut x = arange(n, DType::F32);
    x.eval().expect("evaluates");
    let ((), peak) = peak_of(|| {
        for _ in 0..50 {
            x = x.clone() + 1.0;
            x.eval().expect("evaluates");
        }
    });
    assert!(peak <= 5 * MIB, "x = x + 1 fifty times takes {peak} bytes more");
    assert_eq!(x.at_index(0, 7).item::<f32>().expect("evaluates"), 57.0);

    // Where nobody else holds the array, its own memory is written.
    let ((), peak) = peak_of(|| {
        for _ in 0..50 {
            x = std::mem::replace(&mut x, zeros((), DType::F32)) + 1.0;
            x.eval().expect("evaluates");
        }
    });
    assert!(peak < MIB, "a donated array takes {peak} bytes more");

    // One graph of many steps: intermediates share a few blocks.
    let (y, peak) = peak_of(|| {
        let mut y = x.clone();
        for i in 0..40 {
            // The running sum keeps steps from fusing into one.
            y = (y + i as f32).cumsum(0, Default::default()) * 0.5;
        }
        y.eval().expect("evaluates");
        y
    });
    assert!(peak <= 13 * MIB, "a chain of 40 running sums takes {peak} bytes more");
    drop(y);

    // slice_update of an array that nobody else holds writes in place, lazily too.
    let row = arange(1024, DType::F32).reshape([1, 1024]);
    let mut cache = zeros([1024, 1024], DType::F32).contiguous();
    cache.eval().expect("evaluates");
    let ((), peak) = peak_of(|| {
        for i in 0..64i64 {
            cache = std::mem::replace(&mut cache, zeros((), DType::F32)).slice_update(&row, [i, 0]);
            cache.eval().expect("evaluates");
        }
    });
    assert!(peak < MIB, "64 updates of a row take {peak} bytes more");
    let ((), peak) = peak_of(|| {
        for i in 64..128i64 {
            cache = std::mem::replace(&mut cache, zeros((), DType::F32)).slice_update(&row, [i, 0]);
        }
        cache.eval().expect("evaluates");
    });
    assert!(peak < MIB, "64 lazy updates of a row take {peak} bytes more");
    assert_eq!(cache.at_index(0, 127).at_index(0, 1000).item::<f32>().expect("evaluates"), 1000.0);
    // Held elsewhere, the old values stay.
    let old = cache.clone();
    cache = cache.slice_update(&(&row + 1.0), [0, 0]);
    assert_eq!(cache.at_index(0, 0).at_index(0, 1).item::<f32>().expect("evaluates"), 2.0);
    assert_eq!(old.at_index(0, 0).at_index(0, 1).item::<f32>().expect("evaluates"), 1.0);
    drop((old, cache));

    // Beyond the limit an evaluation ends in an error; what fits goes on, and the same array can be
    // asked for again once there is room.
    memory::clear_cache();
    let limit = memory::set_limit(memory::stats().active + 16 * MIB);
    let big = arange(16 * MIB, DType::F32) * 2.0;
    let error = big.eval().expect_err("64 MiB are beyond the limit");
    assert_eq!(error.kind(), ErrorKind::OutOfMemory, "{error}");
    let both = [&big + 1.0, arange(10, DType::F32)];
    assert_eq!(eval(&both).map_err(|e| e.kind()).err(), Some(ErrorKind::OutOfMemory));
    let small: Array = arange(1000, DType::F32).sum(..);
    assert_eq!(small.item::<f32>().expect("a small program works"), 499_500.0);
    assert_eq!(both[1].to_vec::<f32>().expect("a small program works")[9], 9.0);
    memory::set_limit(limit);
    assert_eq!(both[0].at_index(0, 5).item::<f32>().expect("there is room now"), 11.0);
}

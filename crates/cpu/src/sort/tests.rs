//! Sorting against the standard library's stable sort, in every dtype, layout and length.

use crate::testing::{Rng, Tensor, inline, layouts, run};
use lazul_ir::{Complex32, DType, Prim};
use std::cmp::Ordering;

/// Order of two elements: NaN last, complex numbers lexicographic.
fn order(a: (f64, f64), b: (f64, f64)) -> Ordering {
    let nan = |x: (f64, f64)| x.0.is_nan() || x.1.is_nan();
    nan(a).cmp(&nan(b)).then(a.partial_cmp(&b).unwrap_or(Ordering::Equal))
}

fn check(x: &Tensor, axis: usize, what: &str) {
    let (shape, n) = (x.shape.clone(), x.shape[axis]);
    let inner: usize = shape[axis + 1..].iter().product();
    let scalars = x.scalars();
    let (mut sorted, mut positions) = (x.bits(), vec![0u64; x.size()]);
    for line in 0..x.size() / n.max(1) {
        let at = |i: usize| (line / inner * n + i) * inner + line % inner;
        let mut p: Vec<usize> = (0..n).collect();
        p.sort_by(|&a, &b| order(scalars[at(a)].to_c128(), scalars[at(b)].to_c128()));
        for (i, &p) in p.iter().enumerate() {
            positions[at(i)] = p as u64;
            sorted[at(i)] = scalars[at(p)].bits;
        }
    }
    let axis = axis as u8;
    let (s, a) = (Prim::Sort { axis }, Prim::ArgSort { axis });
    let run_sort = || run(&s, &[x], x.dtype, &shape).bits();
    let run_argsort = || run(&a, &[x], DType::U32, &shape).bits();
    assert!(run_argsort() == positions, "argsort {what} {} {shape:?} {axis}", x.dtype);
    assert!(run_sort() == sorted, "sort {what} {} {shape:?} {axis}", x.dtype);
    assert!(inline(run_sort) == sorted && inline(run_argsort) == positions, "{what}: threads");
}

#[test]
fn every_dtype_layout_and_axis() {
    let mut rng = Rng(1);
    for dtype in DType::ALL {
        for shape in [vec![7], vec![3, 5], vec![2, 40, 3], vec![3, 1, 4], vec![20, 300]] {
            // Small integers: many ties.
            let x = rng.tensor(dtype, &shape, -9.0, 9.0);
            for axis in 0..shape.len() {
                for (name, x) in layouts(&x) {
                    check(&x, axis, name);
                }
            }
        }
        let one = rng.tensor(dtype, &[3, 1], -9.0, 9.0);
        check(&one.broadcast(&[3, 6]), 1, "broadcast");
        check(&Tensor::empty(dtype, &[0, 3]), 1, "empty");
        check(&Tensor::empty(dtype, &[3, 0]), 1, "empty lines");
    }
}

#[test]
fn full_ranges_and_long_lines() {
    let mut rng = Rng(2);
    for n in [1000, 40_000, 300_001] {
        let bits: Vec<u64> = (0..n).map(|_| rng.bits()).collect();
        check(&Tensor::new(&bits, &[n]), 0, "u64");
        check(&Tensor::new(&bits.iter().map(|&b| b as i64).collect::<Vec<_>>(), &[n]), 0, "i64");
        check(&Tensor::new(&bits.iter().map(|&b| b as i32).collect::<Vec<_>>(), &[n]), 0, "i32");
        check(&Tensor::new(&bits.iter().map(|&b| b as u8).collect::<Vec<_>>(), &[n]), 0, "u8");
        // Any bit pattern is a float: NaN, infinities, subnormals and both zeros among them.
        let floats: Vec<f32> = bits.iter().map(|&b| f32::from_bits(b as u32)).collect();
        check(&Tensor::new(&floats, &[n]), 0, "f32");
        let halves: Vec<half::f16> = bits.iter().map(|&b| half::f16::from_bits(b as u16)).collect();
        check(&Tensor::new(&halves, &[n]), 0, "f16");
        let doubles: Vec<f64> = bits.iter().map(|&b| f64::from_bits(b)).collect();
        check(&Tensor::new(&doubles, &[n]), 0, "f64");
    }
    let x = rng.tensor(DType::F32, &[3, 50_000], -1.0, 1.0);
    check(&x, 1, "several long lines");
    check(&x.transpose(&[1, 0]), 0, "long columns");
}

#[test]
fn zeros_are_equal_and_nan_is_last() {
    let nan = f32::NAN;
    let x = Tensor::new(&[0.0f32, nan, -0.0, f32::INFINITY, -nan, 0.0, -1.0, -0.0], &[8]);
    let p = run(&Prim::ArgSort { axis: 0 }, &[&x], DType::U32, &[8]);
    assert_eq!(p.to_vec::<u32>(), [6, 0, 2, 5, 7, 3, 1, 4]);
    check(&x, 0, "specials");
    let c = Complex32::new;
    let x = Tensor::new(&[c(1.0, nan), c(1.0, 2.0), c(1.0, -2.0), c(-0.0, 1.0), c(0.0, 0.0)], &[5]);
    let p = run(&Prim::ArgSort { axis: 0 }, &[&x], DType::U32, &[5]);
    assert_eq!(p.to_vec::<u32>(), [4, 3, 2, 1, 0]);
}

#[test]
fn every_length_and_order() {
    let mut rng = Rng(3);
    for dtype in [DType::F32, DType::U32, DType::I64, DType::F64, DType::F16, DType::I8] {
        // All that a matrix of registers holds, and what is divided once or twice.
        for n in (1..140).chain((140..700).step_by(13)) {
            let x = rng.tensor(dtype, &[n], -100.0, 100.0);
            check(&x, 0, "random");
            if n % 7 == 0 {
                let mut values = x.to_f64();
                values.sort_by(f64::total_cmp);
                check(&Tensor::from_f64(&values, dtype, &[n]), 0, "ascending");
                values.reverse();
                check(&Tensor::from_f64(&values, dtype, &[n]), 0, "descending");
                check(&rng.tensor(dtype, &[1], -9.0, 9.0).broadcast(&[n]), 0, "equal");
            }
        }
    }
}

fn of_bits(dtype: DType, bits: &[u64]) -> Tensor {
    let mut x = Tensor::empty(dtype, &[bits.len()]);
    let (ptr, size) = (x.target().ptr, dtype.size());
    for (i, bits) in bits.iter().enumerate() {
        // SAFETY: element `i` of the tensor; any bits make a float.
        unsafe {
            std::ptr::copy_nonoverlapping(bits.to_le_bytes().as_ptr(), ptr.add(i * size), size)
        };
    }
    x
}

#[test]
fn zeros_and_nan_of_long_lines_keep_their_order() {
    let mut rng = Rng(4);
    for dtype in [DType::F16, DType::BF16, DType::F32, DType::F64, DType::C64] {
        for n in [100, 5000, 70_001] {
            // Both zeros, and NaN of many bits, between others of few values.
            let x = rng.tensor(dtype, &[n], -3.0, 3.0);
            let nan = Tensor::from_f64(&[f64::NAN], dtype, &[1]).bits()[0];
            let zeros =
                Tensor::from_f64(&[0.0, -0.0, f64::INFINITY, f64::NEG_INFINITY], dtype, &[4]);
            let mut bits = x.bits();
            for b in bits.iter_mut() {
                match rng.below(8) {
                    0 | 1 => *b = nan ^ rng.below(32) as u64,
                    2 | 3 => *b = zeros.bits()[rng.below(4)],
                    _ => {}
                }
            }
            check(&of_bits(dtype, &bits), 0, "zeros and NaN");
        }
    }
}

#[test]
fn lines_that_samples_tell_little_of() {
    let n = 150_000;
    let each = |f: &dyn Fn(usize) -> u64, what: &str| {
        let bits: Vec<u64> = (0..n).map(f).collect();
        check(&Tensor::new(&bits, &[n]), 0, what);
        let halves: Vec<u32> = bits.iter().map(|&b| b as u32).collect();
        check(&Tensor::new(&halves, &[n]), 0, what);
    };
    let noise = |i: usize| (i as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    each(&|_| u64::MAX, "greatest");
    each(&|i| i as u64, "ascending");
    each(&|i| (n - i) as u64, "descending");
    each(&|i| noise(i) >> 63, "two values");
    each(&|i| if i % 1000 == 7 { noise(i) } else { 5 }, "one value and few others");
    each(&|i| (i % 4096) as u64, "a period");
    each(&|i| (i.min(n - i)) as u64, "a roof");
    // Below 2^53, as numbers are compared by their values as f64.
    // Keys that agree in the bits that are compared first, all or in long runs.
    each(&|i| 1 << 52 | noise(i) >> 40, "low bits");
    each(&|i| (noise(i) & 3) << 51 | noise(i) >> 44, "high and low bits");
    each(&|i| (i as u64 % 1000) << 40 | (noise(i) >> 20) & 0xff, "runs");
}

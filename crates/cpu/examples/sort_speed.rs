//! How quick sorts are.
//!
//!     cargo run --release -p lazul-cpu --example sort_speed [filter]
//!
//! Nanoseconds for each element, of values and of positions. `LAZUL_NUM_THREADS` and `LAZUL_ISA` apply.
//! Figures are the best of several runs.

mod measure;

use lazul_cpu::pool;
use lazul_ir::{DType, Prim};
use measure::{Tensor, best, run};

fn main() {
    let filter = std::env::args().nth(1).unwrap_or_default();
    println!("{} threads, {:?}", pool::threads(), lazul_cpu::isa::isa());
    let cases: [(&str, &[usize], u8); 6] = [
        ("10 M", &[10_000_000], 0),
        ("1 M", &[1_000_000], 0),
        ("rows of 4096", &[4096, 4096], 1),
        ("columns of 4096", &[4096, 4096], 0),
        ("rows of 100", &[40_000, 100], 1),
        ("rows of 8", &[500_000, 8], 1),
    ];
    let dtypes = [
        DType::F32,
        DType::U32,
        DType::F64,
        DType::I64,
        DType::F16,
        DType::BF16,
        DType::I16,
        DType::U8,
        DType::C64,
    ];
    for (name, shape, axis) in cases {
        for dtype in dtypes {
            if !format!("{name} {dtype}").contains(&filter) {
                continue;
            }
            let n: usize = shape.iter().product();
            let x = Tensor::new(dtype, shape);
            let (mut y, mut p) = (Tensor::new(dtype, shape), Tensor::new(DType::U32, shape));
            let values = best(|_| run(&Prim::Sort { axis }, &[&x], &mut y));
            let positions = best(|_| run(&Prim::ArgSort { axis }, &[&x], &mut p));
            let each = |t: f64| t * 1e9 / n as f64;
            println!(
                "{name:<16} {dtype:>9} {:>7.2} ns, positions {:>7.2} ns",
                each(values),
                each(positions),
            );
        }
    }
}

//! Op overhead: building and evaluating a chain of 10,000 additions of 4×4 arrays.
//!
//! `ops [fused]` prints operations a second as JSON; without `fused`, fusion is off and every addition
//! is a kernel of its own.

use lazul_benches::{median, time};
use lazul_core::prelude::*;

const CHAIN: usize = 10_000;

fn main() -> anyhow::Result<()> {
    let fused = std::env::args().nth(1).as_deref() == Some("fused");
    lazul_core::set_fusion(fused);
    let x = random::normal([4, 4], DType::F32, Some(&random::key(0)));
    x.eval()?;
    let chain = || {
        let mut y = x.zeros_like();
        for _ in 0..CHAIN {
            y += &x;
        }
        y
    };
    let build = time(20, || drop(chain()));
    let all = time(20, || chain().eval().unwrap_or_else(|e| panic!("{e}")));
    let rate = |times: &[f64]| CHAIN as f64 / median(times);
    println!(
        "{}",
        serde_json::json!({
            "case": if fused { "fused" } else { "unfused" },
            "ops_per_second": rate(&all),
            "build_only_ops_per_second": rate(&build),
            "threads": lazul_core::threads(),
        })
    );
    Ok(())
}

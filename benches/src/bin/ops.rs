//! Op overhead: building and evaluating a chain of 10,000 additions of 4×4 arrays.
//!
//! `ops [fused|compiled]` prints operations a second as JSON; without an argument fusion is off and every
//! addition is a kernel of its own; `compiled` traces the chain once and calls it.

use lazul_benches::{median, time};
use lazul_core::prelude::*;

const CHAIN: usize = 10_000;

fn main() -> anyhow::Result<()> {
    let case = std::env::args().nth(1).unwrap_or_else(|| "unfused".to_string());
    lazul_core::set_fusion(case != "unfused");
    let x = random::normal([4, 4], DType::F32, Some(&random::key(0)));
    x.eval()?;
    let adding = |x: &Array| {
        let mut y = x.zeros_like();
        for _ in 0..CHAIN {
            y += x;
        }
        y
    };
    let compiled = compile(adding);
    let chain = || match case.as_str() {
        "compiled" => compiled(&x).unwrap_or_else(|e| panic!("{e}")),
        _ => adding(&x),
    };
    let build = time(20, || drop(chain()));
    let all = time(20, || chain().eval().unwrap_or_else(|e| panic!("{e}")));
    let rate = |times: &[f64]| CHAIN as f64 / median(times);
    println!(
        "{}",
        serde_json::json!({
            "case": case,
            "ops_per_second": rate(&all),
            "build_only_ops_per_second": rate(&build),
            "threads": lazul_core::threads(),
        })
    );
    Ok(())
}

//! Picked, segmented and masked products, Hadamard transforms and e4m3 codes against the golden file.

use lazul_core::{Array, BlockMasks, DType, Quantization, Quantized};
use lazul_testkit::{Case, Golden, Report, Rule, compare};

/// What Lazul makes of a case.
fn ours(golden: &Golden, case: &Case) -> lazul_core::Result<Array> {
    let some = |key: &str| (!case.get(key).is_null()).then(|| golden.tensor_of(case, key));
    let tensor = |key: &str| golden.tensor_of(case, key);
    Ok(match case.str("fn") {
        "gather_mm" => {
            tensor("a").gather_mm(&tensor("b"), some("lhs").as_ref(), some("rhs").as_ref())
        }
        "gather_qmm" => {
            let number = |key| Some(case.float(key) as u32);
            let form = Quantization::new(case.str("mode"), number("group_size"), number("bits"))?;
            let w = Quantized {
                codes: tensor("packed"),
                scales: Some(tensor("scales")),
                biases: some("biases"),
                global_scale: None,
                form,
            };
            tensor("a").gather_qmm(&w, None, some("rhs").as_ref(), case.flag("transpose"))
        }
        "segmented_mm" => tensor("a").segmented_mm(&tensor("b"), &tensor("segments")),
        "block_masked_mm" => {
            let [out, lhs, rhs] = ["mask_out", "mask_lhs", "mask_rhs"].map(some);
            let masks = BlockMasks { out: out.as_ref(), lhs: lhs.as_ref(), rhs: rhs.as_ref() };
            let block = case.float("block_size") as usize;
            tensor("a").block_masked_mm(&tensor("b"), block, masks)
        }
        "addmm" => {
            let (alpha, beta) = (case.float("alpha"), case.float("beta"));
            tensor("c").addmm(&tensor("a"), &tensor("b"), alpha, beta)
        }
        "hadamard_transform" => tensor("a").hadamard_transform(case.get("scale").as_f64()),
        "from_fp8" => tensor("a").from_fp8(DType::F32),
        "to_fp8" => tensor("a").to_fp8(),
        other => panic!("{other} is not in the table"),
    })
}

#[test]
fn grouped_products() {
    let golden = Golden::load("grouped");
    let mut report = Report::new();
    assert!(golden.cases.len() > 50);
    for case in &golden.cases {
        let exact = case.float("atol") == 0.0;
        let rule = if exact {
            Rule::EXACT
        } else {
            Rule { rtol: 0.0, atol: case.float("atol"), signed_zero: false }
        };
        let outcome = match ours(&golden, case) {
            Ok(ours) => compare(&ours, &golden.tensor_of(case, "out"), rule),
            Err(e) => Err(e.to_string()),
        };
        report.case(case.id(), outcome);
    }
    report.finish();
}

//! Quantized matrices against the golden file: codes, scales, biases and dequantized values to the
//! bit, products within the file's tolerance.

use lazul_core::{Array, DType, Quantization, Quantized};
use lazul_testkit::{Case, Golden, Report, Rule, compare};

fn quantized(golden: &Golden, case: &Case) -> lazul_core::Result<Quantized> {
    let has = |key: &str| !case.get(key).is_null();
    let mode = if has("mode") { case.str("mode") } else { "affine" };
    let number = |key| Some(case.float(key) as u32);
    let form = Quantization::new(mode, number("group_size"), number("bits"))?;
    let tensor = |key| golden.tensor_of(case, key);
    let some = |key| has(key).then(|| tensor(key));
    let (biases, global_scale) = (some("biases"), some("global_scale"));
    Ok(Quantized {
        codes: tensor("packed"),
        scales: Some(tensor("scales")),
        biases,
        global_scale,
        form,
    })
}

#[test]
fn quantized_matrices() {
    let golden = Golden::load("quantized");
    let mut report = Report::new();
    for case in &golden.cases {
        let id = case.id();
        let q = match quantized(&golden, case) {
            Ok(q) => q,
            Err(e) => {
                report.case(id, Err(e.to_string()));
                continue;
            }
        };
        match case.str("fn") {
            "quantize" => {
                let w = golden.tensor_of(case, "w");
                // As it is, and as a view whose rows do not lie one after another.
                for (layout, w) in [("", w.clone()), (" (transposed)", w.mt().contiguous().mt())] {
                    match w.quantize_scaled(q.form, q.global_scale.as_ref()) {
                        Ok(ours) => {
                            assert_eq!(ours.biases.is_some(), q.biases.is_some());
                            let biases = ours.biases.iter().zip(&q.biases);
                            let biases = biases.map(|(ours, theirs)| ("biases", ours, theirs));
                            let scales = ours.scales.iter().zip(&q.scales);
                            let scales = scales.map(|(ours, theirs)| ("scales", ours, theirs));
                            let codes = [("codes", &ours.codes, &q.codes)].into_iter();
                            for (part, ours, theirs) in codes.chain(scales).chain(biases) {
                                let outcome = compare(ours, theirs, Rule::EXACT);
                                report.case(format!("{id} {part}{layout}"), outcome);
                            }
                        }
                        Err(e) => report.case(format!("{id}{layout}"), Err(e.to_string())),
                    }
                }
                let expected = golden.tensor_of(case, "dequantized");
                let affine = q.form.is_affine();
                let ours = if affine { q.dequantize() } else { q.dequantize_to(DType::F32) };
                report.case(format!("{id} dequantize"), compare(&ours, &expected, Rule::EXACT));
                if expected.ndim().is_ok_and(|n| n == 2) {
                    let rows = Array::from_slice(&[2i32, 0, -1], [3]);
                    let outcome =
                        compare(&q.take_rows(&rows), &q.dequantize().take(&rows, 0), Rule::EXACT);
                    report.case(format!("{id} take_rows"), outcome);
                }
            }
            "quantized_matmul" => {
                let x = golden.tensor_of(case, "x");
                let expected = golden.tensor_of(case, "out");
                let rule =
                    Rule { rtol: case.float("rtol"), atol: case.float("atol"), signed_zero: false };
                for (layout, x) in [("", x.clone()), (" (transposed)", x.mt().contiguous().mt())] {
                    let ours = x.quantized_matmul(&q, case.flag("transpose"));
                    report.case(format!("{id}{layout}"), compare(&ours, &expected, rule));
                }
            }
            other => report.case(id, Err(format!("{other} is not in the table"))),
        }
    }
    report.finish();
}

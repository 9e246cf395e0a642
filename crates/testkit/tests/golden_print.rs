//! `Display` against what MLX prints, character for character.

use lazul_testkit::{Golden, Report};

#[test]
fn printed_arrays() {
    let golden = Golden::load("print");
    let mut report = Report::new();
    for case in &golden.cases {
        let x = golden.tensor_of(case, "tensor");
        let printed = match case.get("precision").as_u64() {
            Some(decimals) => format!("{x:.*}", decimals as usize),
            None => format!("{x}"),
        };
        let expected = case.str("text");
        report.expect(case.id(), printed == expected, || {
            format!("\n{printed}\nexpected\n{expected}")
        });
    }
    report.finish();
}

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

#[test]
fn options_hold_where_the_format_says_nothing() {
    use lazul_core::print::{PrintOptions, printoptions};
    let golden = Golden::load("print");
    let mut report = Report::new();
    for case in &golden.cases {
        let Some(decimals) = case.get("precision").as_u64() else { continue };
        let x = golden.tensor_of(case, "tensor");
        let options = PrintOptions { precision: Some(decimals as usize) };
        let (printed, asked) = printoptions(options, || (x.to_string(), format!("{x:.1}")));
        report.expect(case.id(), printed == case.str("text"), || printed);
        report.expect(case.id(), asked == format!("{x:.1}"), || asked);
    }
    report.finish();
}

//! Convolutions and transposed ones, with their gradients by input and weights, against `conv.json`:
//! PyTorch's in double precision. Each also runs as the general convolution that it is.

use lazul_core::{Array, ConvGeneral, PerAxis, conv_general, vjp};
use lazul_testkit::{Case, Golden, Report, Rule, compare, convolution};

/// The same through `conv_general`: a transposed convolution is one over a dilated input.
fn general(op: &str, x: &Array, w: &Array, attrs: &Case) -> Array {
    let rank = x.ndim().unwrap() - 2;
    let all = |key: &str, otherwise: i64| match attrs.ints(key)[..] {
        [] => vec![otherwise; rank],
        [one] => vec![one; rank],
        ref each => each.to_vec(),
    };
    let (stride, padding, dilation) = (all("stride", 1), all("padding", 0), all("dilation", 1));
    let groups = attrs.get("groups").as_u64().unwrap() as usize;
    let per_axis = |f: &dyn Fn(usize) -> i64| PerAxis::from((0..rank).map(f).collect::<Vec<_>>());
    if op.starts_with("conv_transpose") {
        let more = all("output_padding", 0);
        let taps = |i: usize| w.dim(1 + i as i64).unwrap() as i64;
        let low = |i: usize| dilation[i] * (taps(i) - 1) - padding[i];
        let how = ConvGeneral {
            padding: (per_axis(&low), per_axis(&|i| low(i) + more[i])),
            kernel_dilation: dilation.clone().into(),
            input_dilation: stride.into(),
            groups,
            flip: true,
            ..Default::default()
        };
        return conv_general(x, w, how);
    }
    let how = ConvGeneral {
        stride: stride.into(),
        padding: (padding.clone().into(), padding.into()),
        kernel_dilation: dilation.into(),
        groups,
        ..Default::default()
    };
    conv_general(x, w, how)
}

#[test]
fn convolutions_and_their_gradients() {
    let golden = Golden::load("conv");
    let mut report = Report::new();
    for case in &golden.cases {
        let (id, op, attrs) = (case.id(), case.str("op"), case.inner("attrs"));
        let tensor = |part: &str| golden.tensor(&format!("{id}.{part}"));
        let rule = Rule { rtol: case.float("rtol"), atol: case.float("atol"), signed_zero: false };
        let at = (tensor("x"), tensor("w"));
        let reversed = |a: &Array| a.t().contiguous().t();
        let strided = (reversed(&at.0), reversed(&at.1));
        for (layout, at) in [("", &at), (" (column-major)", &strided)] {
            let f = |(x, w): &(Array, Array)| {
                convolution(op, x, w, &attrs).unwrap_or_else(|| panic!("{op} is no convolution"))
            };
            match vjp(f, at, &tensor("cotangent")) {
                Err(e) => report.case(format!("{id}{layout}"), Err(e.to_string())),
                Ok((y, (dx, dw))) => {
                    for (part, ours) in [("out", y), ("dx", dx), ("dw", dw)] {
                        let outcome = compare(&ours, &tensor(part), rule);
                        report.case(format!("{id} {part}{layout}"), outcome);
                    }
                }
            }
        }
        let ours = general(op, &at.0, &at.1, &attrs);
        report.case(format!("{id} general"), compare(&ours, &tensor("out"), rule));
    }
    report.finish();
}

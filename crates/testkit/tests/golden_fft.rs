//! Fourier transforms against `fft.json`: NumPy's results in double precision, rounded.

use lazul_core::{Array, DType, IntoAxes, fft, ints::Ints};
use lazul_testkit::{Case, Golden, Report, Rule, compare};

/// Axes as the file has them: null for all, or several.
struct Axes(Option<Ints>);

impl IntoAxes for Axes {
    fn into_axes(self) -> Option<Ints> {
        self.0
    }
}

fn size(case: &Case, key: &str) -> Option<usize> {
    case.get(key).as_u64().map(|n| n as usize)
}

fn norm(attrs: &Case) -> fft::Norm {
    match attrs.get("norm").as_str() {
        None | Some("backward") => fft::Norm::Backward,
        Some("ortho") => fft::Norm::Ortho,
        Some("forward") => fft::Norm::Forward,
        Some(other) => panic!("{other} is no norm"),
    }
}

fn one(attrs: &Case) -> fft::Fft {
    let axis = attrs.get("axis").as_i64().unwrap_or(-1);
    fft::Fft { n: size(attrs, "n"), axis, norm: norm(attrs) }
}

fn several(attrs: &Case) -> fft::Fftn {
    let list = |key| Some(attrs.ints(key)).filter(|list| !list.is_empty());
    fft::Fftn {
        s: list("s").map(|s| s.iter().map(|&n| n as usize).collect()),
        axes: list("axes"),
        norm: norm(attrs),
    }
}

fn short_time(attrs: &Case, window: Option<&Array>) -> fft::Stft {
    fft::Stft {
        n_fft: size(attrs, "n_fft").unwrap(),
        hop_length: size(attrs, "hop_length"),
        win_length: size(attrs, "win_length"),
        window: window.cloned(),
        center: attrs.get("center").as_bool().unwrap_or(true),
        pad_mode: match attrs.get("pad_mode").as_str() {
            None | Some("reflect") => fft::PadMode::Reflect,
            Some("constant") => fft::PadMode::Constant,
            Some("edge") => fft::PadMode::Edge,
            Some(other) => panic!("{other} is no mode"),
        },
        norm: norm(attrs),
        onesided: attrs.get("onesided").as_bool(),
    }
}

fn inverse_short_time(attrs: &Case, window: Option<&Array>) -> fft::Istft {
    fft::Istft {
        n_fft: size(attrs, "n_fft"),
        hop_length: size(attrs, "hop_length"),
        win_length: size(attrs, "win_length"),
        window: window.cloned(),
        center: attrs.get("center").as_bool().unwrap_or(true),
        norm: norm(attrs),
        onesided: attrs.get("onesided").as_bool(),
        length: size(attrs, "length"),
    }
}

fn call(name: &str, x: &[Array], attrs: &Case) -> Array {
    let axes = || Axes(attrs.get("axes").as_array().map(|_| Ints::from_vec(attrs.ints("axes"))));
    match name {
        "fft" => fft::fft(&x[0], one(attrs)),
        "ifft" => fft::ifft(&x[0], one(attrs)),
        "rfft" => fft::rfft(&x[0], one(attrs)),
        "irfft" => fft::irfft(&x[0], one(attrs)),
        "fft2" => fft::fft2(&x[0], &several(attrs)),
        "ifft2" => fft::ifft2(&x[0], &several(attrs)),
        "rfft2" => fft::rfft2(&x[0], &several(attrs)),
        "irfft2" => fft::irfft2(&x[0], &several(attrs)),
        "fftn" => fft::fftn(&x[0], &several(attrs)),
        "ifftn" => fft::ifftn(&x[0], &several(attrs)),
        "rfftn" => fft::rfftn(&x[0], &several(attrs)),
        "irfftn" => fft::irfftn(&x[0], &several(attrs)),
        "fftfreq" => fft::fftfreq(size(attrs, "n").unwrap(), attrs.float("d")),
        "rfftfreq" => fft::rfftfreq(size(attrs, "n").unwrap(), attrs.float("d")),
        "fftshift" => fft::fftshift(&x[0], axes()),
        "ifftshift" => fft::ifftshift(&x[0], axes()),
        "stft" => fft::stft(&x[0], &short_time(attrs, x.get(1))),
        "istft" => fft::istft(&x[0], &inverse_short_time(attrs, x.get(1))),
        other => panic!("{other} is no function of the file"),
    }
}

#[test]
fn fft_matches_numpy() {
    let golden = Golden::load("fft");
    let mut report = Report::new();
    for case in &golden.cases {
        let inputs = golden.tensors_of(case, "inputs");
        let theirs = golden.tensor_of(case, "output");
        let (rtol, atol) = (case.float("rtol"), case.float("atol"));
        let rule = Rule { rtol, atol, signed_zero: false };
        let attrs = case.inner("attrs");
        report.case(case.id(), compare(&call(case.str("fn"), &inputs, &attrs), &theirs, rule));
        // The same numbers with the axes in another order in memory, and, where they are real, in
        // double precision.
        let turned: Vec<Array> = inputs.iter().map(|x| x.t().contiguous().t()).collect();
        report.case(case.id(), compare(&call(case.str("fn"), &turned, &attrs), &theirs, rule));
        if inputs.iter().all(|x| x.dtype().unwrap() == DType::F32)
            && !case.str("fn").contains("shift")
        {
            let wide: Vec<Array> = inputs.iter().map(|x| x.astype(DType::F64)).collect();
            report.case(case.id(), compare(&call(case.str("fn"), &wide, &attrs), &theirs, rule));
        }
    }
    report.finish();
}

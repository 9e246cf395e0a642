//! What wrong calls of each family say: the book's page *Error messages* is this test's output.
//!
//! After a message was changed on purpose, `LAZUL_BLESS=1 cargo test -p lazul-testkit --test error_messages`
//! writes the page anew.

use lazul_core::prelude::*;
use lazul_core::{ErrorKind, Quantization, einsum, quantization};
use std::fmt::Write as _;

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/src/error-messages.md");

const HEAD: &str = "# Error messages

What wrong calls say, by family. Each line is what `Display` prints, without its end: the caller's file, line
and column, which every message has. This page is written and checked by a test
(`crates/testkit/tests/error_messages.rs`). See [Errors](errors.md) for how errors travel.
";

/// A wrong call: its source, its line, and what came of it.
struct Wrong {
    code: &'static str,
    line: u32,
    outcome: lazul_core::Result<()>,
}

/// The error of anything that can fail: an array when it is evaluated.
trait Outcome {
    fn outcome(self) -> lazul_core::Result<()>;
}

impl Outcome for Array {
    fn outcome(self) -> lazul_core::Result<()> {
        self.eval().map(|_| ())
    }
}

impl<T> Outcome for lazul_core::Result<T> {
    fn outcome(self) -> lazul_core::Result<()> {
        self.map(|_| ())
    }
}

macro_rules! wrong {
    ($($code:expr;)*) => {
        vec![$(Wrong { code: stringify!($code), line: line!(), outcome: ($code).outcome() }),*]
    };
}

fn f(shape: &[usize]) -> Array {
    ones(shape.to_vec(), DType::F32)
}

fn i(values: &[i32]) -> Array {
    Array::from_slice(values, [values.len()])
}

fn of(shape: &[usize], dtype: DType) -> Array {
    ones(shape.to_vec(), dtype)
}

fn families() -> Vec<(&'static str, Vec<Wrong>)> {
    let affine = quantization(64, 4).expect("a form");
    vec![
        (
            "Creation",
            wrong! {
                Array::from_slice(&[1, 2, 3], [2, 2]);
                zeros([-1], DType::F32);
                zeros([i64::MAX, 9], DType::F32);
                f(&[2, 3, 4]).diag(0);
            },
        ),
        (
            "Element-wise",
            wrong! {
                f(&[2, 3]) + f(&[4]);
                of(&[2], DType::C64).floor();
                of(&[2], DType::Bool).negative();
                of(&[2], DType::F32).bitwise_and(1);
                where_(of(&[2], DType::Bool), f(&[3]), 0);
                i(&[1]) + 3_000_000_000_i64;
            },
        ),
        (
            "Reductions and scans",
            wrong! {
                f(&[2, 3]).sum(2);
                f(&[2, 3]).sum([0, -2]);
                f(&[0]).max(..);
                f(&[2, 0]).argmax(1);
                f(&[2]).cumsum(1, Default::default());
            },
        ),
        (
            "Shapes",
            wrong! {
                f(&[2, 3]).reshape([4, 2]);
                f(&[2, 3]).reshape([-1, -1]);
                f(&[2, 3]).transpose([0, 0]);
                f(&[2, 3]).squeeze([0]);
                f(&[2, 3]).broadcast_to([3, 3]);
                f(&[2, 3]).expand_dims([4]);
                f(&[2, 3]).view(DType::Bool);
                f(&[2, 3]).split(2, 1);
                concatenate(&[f(&[2, 3]), f(&[2, 4])], 0);
                stack(&[f(&[2]), f(&[3])], 0);
                concatenate(&[], 0);
                f(&[4]).as_strided([3], [2], 0);
            },
        ),
        (
            "Indexing",
            wrong! {
                f(&[3]).take(i(&[3]), 0);
                f(&[3]).take(f(&[1]), 0);
                f(&[3, 2]).take_along_axis(&of(&[1], DType::I32), 0);
                f(&[3, 2]).at_index(0, 5);
                f(&[3]).put_along_axis(&i(&[-4]), 1.0, 0);
                f(&[3]).at(i(&[0, 1])).add(f(&[3]));
                f(&[3]).masked_select(&of(&[2], DType::Bool));
                f(&[3]).dynamic_slice(&i(&[2]), &[0], &[2]);
                f(&[3]).slice_update(f(&[4]), [0]);
            },
        ),
        (
            "Sorting and searching",
            wrong! {
                f(&[3]).sort(1);
                f(&[3]).topk(4, 0);
                f(&[3]).partition(3, 0);
                f(&[2, 2]).searchsorted(1.0, Side::Left);
                f(&[2]).bincount(None, 0);
            },
        ),
        (
            "Matrix products",
            wrong! {
                f(&[2, 3]).matmul(&f(&[4, 5]));
                f(&[2, 2, 3]).matmul(&f(&[3, 3, 4]));
                Array::scalar(1.0f32).matmul(&f(&[2]));
                einsum("ij,jk->ik", &[f(&[2, 3]), f(&[4, 5])]);
                einsum("ij->ik", &[f(&[2, 3])]);
                f(&[2, 3]).tensordot(&f(&[4]), &[1], &[0]);
                f(&[1, 2, 3]).gather_mm(&f(&[4, 3, 2]), None, Some(&i(&[4])));
                f(&[3]).hadamard_transform(None);
            },
        ),
        (
            "Convolutions",
            wrong! {
                conv2d(&f(&[1, 4, 4, 3]), &f(&[8, 3, 3, 2]), Default::default());
                conv1d(&f(&[1, 4, 4, 3]), &f(&[8, 3, 3]), Default::default());
            },
        ),
        (
            "Quantization",
            wrong! {
                quantization(64, 7);
                f(&[2, 63]).quantize(affine);
                of(&[2, 64], DType::F64).quantize(affine);
                f(&[1, 32]).quantized_matmul(&f(&[2, 64]).quantize(affine).expect("sound"), true);
                of(&[2, 32], DType::I32).fake_quantize(Quantization::MxFp4, None);
            },
        ),
        (
            "Random numbers",
            wrong! {
                random::uniform(0.0, 1.0, [2], DType::I32, None);
                random::bits([2], DType::F32, None);
                random::normal([2], DType::F32, Some(&i(&[1, 2])));
                random::split(&f(&[2]), 2);
            },
        ),
        (
            "Fourier transforms",
            wrong! {
                fft::fft(&f(&[0]), Default::default());
                fft::rfft(&of(&[4], DType::C64), Default::default());
            },
        ),
        (
            "Linear algebra",
            wrong! {
                linalg::inv(&f(&[2, 3]));
                linalg::inv(&zeros([2, 2], DType::F32));
                linalg::cholesky(&(f(&[2, 2]) * -1.0), false);
                linalg::solve(&f(&[2, 2]), &f(&[3, 1]));
                linalg::det(&f(&[3]));
            },
        ),
        (
            "Fast operations",
            wrong! {
                fast::rms_norm(&f(&[2, 3]), Some(&f(&[4])), 1e-5);
                fast::layer_norm(&of(&[2, 3], DType::I32), None, None, 1e-5);
                fast::scaled_dot_product_attention(
                    &f(&[1, 3, 2, 4]), &f(&[1, 2, 2, 4]), &f(&[1, 2, 2, 4]), &Default::default());
                fast::rope(&f(&[2, 4]), &fast::Rope { dims: 3, ..Default::default() }, &Array::scalar(0));
            },
        ),
    ]
}

#[test]
fn the_page_says_what_wrong_calls_say() {
    let mut page = HEAD.to_string();
    let mut sound: Vec<String> = Vec::new();
    for (family, calls) in families() {
        let _ = write!(page, "\n## {family}\n\n| call | kind | message |\n|---|---|---|\n");
        for Wrong { code, line, outcome } in calls {
            let Err(error) = outcome else {
                sound.push(format!("line {line}: {code} is no wrong call"));
                continue;
            };
            let text = error.to_string();
            let (what, place) = text.split_once("; at ").unwrap_or((&text, "nowhere"));
            if !place.contains("error_messages.rs:") {
                sound.push(format!("line {line}: {text}: {place}"));
            }
            assert_ne!(error.kind(), ErrorKind::Internal, "{code}: {text}");
            let code = code.split_whitespace().collect::<Vec<_>>().join(" ");
            let cell = |s: &str| s.replace('|', "\\|");
            let _ = writeln!(page, "| `{}` | `{:?}` | {} |", cell(&code), error.kind(), cell(what));
        }
    }
    assert!(sound.is_empty(), "{sound:#?}");
    if std::env::var_os("LAZUL_BLESS").is_some() {
        std::fs::write(PAGE, &page).expect("the page can be written");
    }
    let written = std::fs::read_to_string(PAGE).unwrap_or_default();
    for (a, b) in page.lines().zip(written.lines()) {
        assert_eq!(a, b, "the page differs: LAZUL_BLESS=1 writes it anew");
    }
    assert_eq!(page.lines().count(), written.lines().count());
}

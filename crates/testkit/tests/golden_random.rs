//! Random numbers against the golden file: equal bits where the file says so, else within its
//! tolerance.

use lazul_core::{Array, DType, random};
use lazul_testkit::{Case, Golden, Report, Rule, array_of, compare};
use serde_json::Value;

/// A number or an array of them, broadcasting, as the file has parameters of distributions.
fn parameter(value: &Value, dtype: DType) -> Array {
    match value {
        Value::Array(rows) => {
            let inner: Vec<i64> = rows[0].as_array().map(|r| r.len() as i64).into_iter().collect();
            let shape = [vec![rows.len() as i64], inner].concat();
            let flat: Vec<Value> = match rows[0].as_array() {
                Some(_) => {
                    rows.iter().flat_map(|r| r.as_array().cloned().unwrap_or_default()).collect()
                }
                None => rows.clone(),
            };
            array_of(&Value::Array(flat), &shape, dtype)
        }
        one => array_of(&Value::Array(vec![one.clone()]), &[], dtype),
    }
}

/// What the core draws for a case; `None` if it does not offer that.
fn draw(case: &Case) -> Option<Result<Array, lazul_core::Error>> {
    let args = case.inner("args");
    let words: Vec<u32> = case.ints("key").iter().map(|&w| w as u32).collect();
    let key = Array::from_slice(&words, [2]);
    let (key, shape, dtype) = (Some(&key), case.ints("shape"), case.dtype("dtype"));
    let given = |name: &str, dtype| parameter(args.get(name), dtype);
    Some(Ok(match case.str("fn") {
        "key" => random::key(args.str("seed").parse().expect("a seed")),
        "split" => random::split(key?, args.float("num") as usize),
        "bits" => random::bits(shape, dtype, key),
        "bits_long" => {
            let all = random::bits([args.float("n") as usize], dtype, key);
            let words = match all.to_vec::<u32>() {
                Ok(words) => words,
                Err(e) => return Some(Err(e)),
            };
            let sum: u64 = words.iter().map(|&w| w as u64).sum();
            assert_eq!(sum.to_string(), args.str("sum"), "{}: sum of all words", case.id());
            let xor = words.iter().fold(0, |x, w| x ^ w);
            assert_eq!(
                Some(xor as u64),
                args.get("xor").as_u64(),
                "{}: xor of all words",
                case.id()
            );
            let at: Vec<i64> = args.ints("at");
            all.take(Array::from_slice(&at, [at.len()]), 0)
        }
        "uniform" => random::uniform(given("low", dtype), given("high", dtype), shape, dtype, key),
        "randint" => {
            random::randint(given("low", DType::I64), given("high", DType::I64), shape, dtype, key)
        }
        "bernoulli" => random::bernoulli(given("p", DType::F32), shape, key),
        "permutation" => random::permutation(args.float("n") as usize, key),
        "permutation_of" => {
            random::permutation_of(&given("x", dtype), args.float("axis") as i64, key)
        }
        "normal" | "laplace" => {
            let plain = args.get("loc").is_null() && args.get("scale").is_null();
            let (loc, scale) = (args.float("loc"), args.get("scale").as_f64().unwrap_or(1.0));
            match (case.str("fn"), plain) {
                ("normal", true) => random::normal(shape, dtype, key),
                ("normal", false) => random::normal_with(loc, scale, shape, dtype, key),
                (_, true) => random::laplace(shape, dtype, key),
                (_, false) => random::laplace_with(loc, scale, shape, dtype, key),
            }
        }
        "gumbel" => random::gumbel(shape, dtype, key),
        "erfinv" => {
            let low = -1.0 + 2f64.powi(-24);
            random::uniform(low, 1.0, shape, DType::F32, key).erfinv()
        }
        "truncated_normal" => {
            let (lower, upper) = (given("lower", DType::F32), given("upper", DType::F32));
            random::truncated_normal(lower, upper, shape, dtype, key)
        }
        "multivariate_normal" => {
            // The file's shape has the vectors' axis too.
            let shape = &shape[..shape.len() - 1];
            let (mean, cov) = (given("mean", DType::F32), given("cov", DType::F32));
            random::multivariate_normal(&mean, &cov, shape, dtype, key)
        }
        "categorical" => {
            let logits = array_of(args.get("logits"), &args.ints("logits_shape"), DType::F32);
            let num = args.get("num_samples").as_u64().map(|n| n as usize);
            let axis = args.float("axis") as i64;
            match args.get("shape").is_null() {
                true => random::categorical(&logits, axis, num, key),
                false => random::categorical_shaped(&logits, axis, args.ints("shape"), key),
            }
        }
        "implicit" => {
            random::seed(args.str("seed").parse().expect("a seed"));
            for _ in 0..args.float("call") as usize {
                let _ = random::uniform(0.0, 1.0, &shape, dtype, None);
            }
            random::uniform(0.0, 1.0, shape, dtype, None)
        }
        "vmap_uniform" => {
            let keys = random::split(key?, args.float("split") as usize);
            let row = |i| random::uniform(0.0, 1.0, [shape[1]], dtype, Some(&keys.at_index(0, i)));
            lazul_core::stack(&(0..shape[0]).map(row).collect::<Vec<_>>(), 0)
        }
        _ => return None,
    }))
}

// The only test of its process that draws without a key.
#[test]
fn draws() {
    let golden = Golden::load("random");
    let mut report = Report::new();
    for case in &golden.cases {
        let id = case.id();
        let ours = match draw(case) {
            Some(Ok(ours)) => ours,
            Some(Err(e)) => {
                report.case(id, Err(e.to_string()));
                continue;
            }
            None => {
                report.case(id, Err("is not offered"));
                continue;
            }
        };
        let theirs = array_of(case.get("values"), &case.ints("shape"), case.dtype("dtype"));
        let rule = match case.flag("exact") {
            true => Rule::EXACT,
            false => {
                Rule { rtol: case.float("rtol"), atol: case.float("atol"), signed_zero: false }
            }
        };
        report.case(id, compare(&ours, &theirs, rule));
    }
    report.finish();
}

#[test]
fn continuous_distributions_are_of_floats() {
    let key = random::key(0);
    let key = Some(&key);
    for dtype in DType::ALL {
        let drawn = [
            random::normal([2], dtype, key),
            random::gumbel([2], dtype, key),
            random::laplace([2], dtype, key),
            random::truncated_normal(-1.0, 1.0, [2], dtype, key),
        ];
        for (i, x) in drawn.iter().enumerate() {
            let allowed = dtype.is_float() || i == 0 && dtype == DType::C64;
            assert_eq!(x.dtype().ok(), allowed.then_some(dtype), "{i} {dtype}");
        }
    }
}

/// Means and covariances of many draws are those asked for, also of a matrix that has no inverse.
#[test]
fn normal_vectors_have_their_mean_and_covariance() {
    let n = 40_000usize;
    let wanted = [
        ([1.0f32, -2.0, 0.5], [2.0f32, 0.6, -0.3, 0.6, 1.0, 0.2, -0.3, 0.2, 0.5]),
        ([0.0, 3.0, 1.0], [1.0, 2.0, 0.0, 2.0, 4.0, 0.0, 0.0, 0.0, 0.0]),
    ];
    for (i, (mean, cov)) in wanted.into_iter().enumerate() {
        let (m, c) = (Array::from_slice(&mean, [3]), Array::from_slice(&cov, [3, 3]));
        let key = random::key(i as u64 + 5);
        let x = random::multivariate_normal(&m, &c, [n], DType::F32, Some(&key));
        let x = x.to_vec::<f32>().unwrap();
        let average = |f: &dyn Fn(&[f32]) -> f64| x.chunks(3).map(f).sum::<f64>() / n as f64;
        let center: Vec<f64> = (0..3).map(|a| average(&|v| v[a] as f64)).collect();
        for a in 0..3 {
            // Five standard errors.
            let off = (center[a] - mean[a] as f64).abs();
            assert!(off < 5.0 * (cov[4 * a] as f64 / n as f64).sqrt() + 1e-6, "mean {a}: {off}");
            for b in 0..3 {
                let of = |v: &[f32]| (v[a] as f64 - center[a]) * (v[b] as f64 - center[b]);
                let (aa, bb, ab) = (cov[4 * a] as f64, cov[4 * b] as f64, cov[3 * a + b] as f64);
                let bound = 5.0 * ((aa * bb + ab * ab) / n as f64).sqrt() + 1e-6;
                let off = (average(&of) - ab).abs();
                assert!(off < bound, "covariance {a}, {b}: {off} of {bound}");
            }
        }
    }
}

#[test]
fn normal_vectors_of_wrong_operands() {
    let key = random::key(0);
    let draw = |mean: &Array, cov: &Array, shape: &[usize], dtype: DType| {
        let drawn = random::multivariate_normal(mean, cov, shape, dtype, Some(&key));
        drawn.check().unwrap_err().to_string()
    };
    let zeros = |shape: &[usize]| lazul_core::zeros(shape, DType::F32);
    let (mean, cov) = (zeros(&[2]), zeros(&[2, 2]));
    let says = |text: String, what: &str| assert!(text.starts_with(what), "{text}");
    says(
        draw(&mean, &zeros(&[2, 3]), &[4], DType::F32),
        "[multivariate_normal] needs means (…, d) and covariances (…, d, d); operands: \
         float32(2,), float32(2,3); at ",
    );
    says(
        draw(&zeros(&[3, 2]), &cov, &[4], DType::F32),
        "[multivariate_normal] means and covariances do not broadcast to (4,); operands: \
         float32(3,2), float32(2,2); at ",
    );
    says(draw(&mean, &cov.astype(DType::C64), &[4], DType::F32), "[multivariate_normal] means");
    says(draw(&mean, &cov, &[4], DType::I32), "[multivariate_normal] ");
    // No vectors, and vectors without elements, are none of these.
    for (d, shape) in [(2, vec![0]), (0, vec![3])] {
        let (m, c) = (zeros(&[d]), zeros(&[d, d]));
        let none = random::multivariate_normal(&m, &c, &shape[..], DType::F32, Some(&key));
        assert_eq!(none.to_vec::<f32>().unwrap(), [0f32; 0]);
    }
}

//! The lazy graph as its users meet it: very long chains, many threads, errors and what stays usable
//! after them.

use lazul_core::{
    Array, ByteSource, DType, ErrorKind, Pad, Result, arange, async_eval, concatenate, eval, ones,
    scope, where_, zeros,
};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier, mpsc};
use std::time::Duration;

/// Runs `f` on a thread with a stack of 2 MiB, the default of Rust's threads, and ends the test if it
/// takes minutes: a deadlock is a failure, not a hang.
fn watched<R: Send + 'static>(f: impl FnOnce() -> R + Send + 'static) -> R {
    let (send, receive) = mpsc::channel();
    let thread = std::thread::Builder::new().stack_size(2 << 20).spawn(move || {
        let _ = send.send(f());
    });
    let thread = thread.expect("a thread");
    match receive.recv_timeout(Duration::from_secs(300)) {
        Ok(result) => result,
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("no end after five minutes: a deadlock"),
        Err(mpsc::RecvTimeoutError::Disconnected) => match thread.join() {
            Err(panic) => std::panic::resume_unwind(panic),
            Ok(()) => unreachable!("a thread that ends sends its result"),
        },
    }
}

const MILLION: usize = 1_000_000;

#[test]
fn chain_of_a_million_nodes() {
    let sums = watched(|| -> Result<Vec<f32>> {
        let mut x = zeros([3], DType::F32);
        for _ in 0..MILLION {
            x += 1.0;
        }
        x.to_vec()
    });
    assert_eq!(sums.expect("evaluates"), [MILLION as f32; 3]);
}

#[test]
fn chain_of_a_million_views_and_kernels() {
    let last = watched(|| -> Result<Vec<i32>> {
        let mut x = arange(6, DType::I32).reshape([2, 3]);
        for i in 0..MILLION / 8 {
            // A view, a copy, a reduction that changes nothing, a step.
            x = x
                .t()
                .contiguous()
                .flip(0)
                .reshape([2, 3])
                .sum_keepdims(())
                .maximum(&x)
                .expand_dims(0);
            x = x.squeeze(0) + (i % 2);
        }
        x.to_vec()
    });
    assert_eq!(last.expect("evaluates").len(), 6);
}

#[test]
fn shared_nodes_are_computed_once() {
    // Every node is used twice by the next: as a tree this would be 2^200 nodes.
    let x = watched(|| -> Result<f32> {
        let mut x = Array::scalar(1.0f32);
        for _ in 0..200 {
            x = (&x + &x) * 0.5;
        }
        x.item()
    });
    assert_eq!(x.expect("evaluates"), 1.0);
}

#[test]
fn unevaluated_million_node_graphs_drop() {
    watched(|| {
        let mut chain = zeros([3], DType::F32);
        for _ in 0..MILLION {
            chain += 1.0;
        }
        drop(chain);
        // A failed evaluation keeps the graph; dropping it is no deeper.
        let index = Array::from_slice(&[9], [1]);
        let mut bad = arange(3, DType::F32).take(&index, 0);
        for _ in 0..MILLION / 4 {
            bad = bad.sin();
        }
        assert_eq!(bad.eval().map_err(|e| e.kind()).err(), Some(ErrorKind::Index));
        let wide: Vec<Array> = (0..1000).map(|i| &bad + i).collect();
        let all = concatenate(&wide, 0);
        drop((bad, wide));
        drop(all);
    });
}

#[test]
fn views_of_a_million_node_chain_drop_in_any_order() {
    watched(|| {
        let mut all = vec![zeros([4], DType::F32)];
        for i in 0..100_000 {
            let next = all[i].reshape([2, 2]).t().reshape([4]) + 1.0;
            all.push(next);
        }
        let last = all[100_000].clone();
        // The oldest go first, then every second, then the rest.
        let mut rest: Vec<Array> =
            all.into_iter().enumerate().filter(|(i, _)| i % 2 == 1).map(|p| p.1).collect();
        rest.reverse();
        drop(rest);
        assert_eq!(last.to_vec::<f32>().expect("evaluates"), [100_000.0; 4]);
    });
}

/// A graph with fused regions, reductions, products, sorting and views.
fn work(x: &Array, steps: usize) -> Array {
    (0..steps).fold(x.clone(), |x, i| match i % 5 {
        0 => (&x * 1.01 + 0.5).sin() * 2.0,
        1 => x.matmul(&x.t()) / 64.0,
        2 => where_(x.greater(0.1), &x, x.sum_keepdims(-1) / 64.0),
        3 => x.sort(0).t().flip(1),
        _ => x.cumsum(-1, Default::default()) / 16.0 - x.max_keepdims(0),
    })
}

fn bits(x: &Array) -> Vec<u32> {
    x.to_vec::<f32>().expect("evaluates").iter().map(|v| v.to_bits()).collect()
}

fn square(seed: usize) -> Array {
    (arange(64 * 64, DType::F32) + seed).cos().reshape([64, 64])
}

#[test]
fn many_threads_evaluate_one_graph() {
    watched(|| {
        for round in 0..20 {
            let expected = bits(&work(&square(round), 20));
            let shared = work(&square(round), 20);
            let start = Barrier::new(64);
            std::thread::scope(|s| {
                for _ in 0..64 {
                    s.spawn(|| {
                        start.wait();
                        assert!(bits(&shared) == expected, "round {round}: other bits");
                    });
                }
            });
        }
    });
}

#[test]
fn many_threads_evaluate_overlapping_graphs() {
    watched(|| {
        for round in 0..10 {
            // Thread t asks for every stage of which it is a divisor, in its own order, and adds to it.
            let stages = |seed| {
                let mut all = vec![square(seed)];
                (0..32).for_each(|i| all.push(work(&all[i], 1 + i % 5)));
                all
            };
            let alone = stages(round);
            let expected: Vec<Vec<u32>> = alone.iter().map(|x| bits(&(x + 1.0))).collect();
            let shared = stages(round);
            let start = Barrier::new(64);
            std::thread::scope(|s| {
                for t in 0..64usize {
                    let (shared, expected, start) = (&shared, &expected, &start);
                    s.spawn(move || {
                        let mut mine: Vec<usize> =
                            (0..33).filter(|i| i % (1 + t % 7) == 0).collect();
                        if t % 2 == 1 {
                            mine.reverse();
                        }
                        start.wait();
                        for i in mine {
                            let own = &shared[i] + 1.0;
                            if t % 3 == 0 {
                                async_eval([&own]).expect("starts");
                            }
                            assert!(
                                bits(&own) == expected[i],
                                "round {round}, stage {i}: other bits"
                            );
                        }
                    });
                }
            });
        }
    });
}

#[test]
fn threads_drop_graphs_that_others_evaluate() {
    watched(|| {
        for round in 0..50 {
            let x = work(&square(round), 10);
            let expected = bits(&work(&square(round), 12));
            std::thread::scope(|s| {
                for t in 0..8 {
                    let mine = x.clone();
                    let expected = &expected;
                    s.spawn(move || {
                        let more = mine.clone();
                        drop(mine);
                        if t % 2 == 0 {
                            assert!(bits(&two_steps(&more)) == *expected);
                        }
                    });
                }
                drop(x);
            });
        }
    });
    /// Steps 10 and 11 of [`work`].
    fn two_steps(x: &Array) -> Array {
        let x = (x * 1.01 + 0.5).sin() * 2.0;
        x.matmul(&x.t()) / 64.0
    }
}

#[test]
fn async_eval_then_reads_from_several_threads() {
    watched(|| {
        let expected = bits(&work(&square(3), 30));
        for _ in 0..20 {
            let x = work(&square(3), 30);
            let y = &x + 1.0;
            async_eval([&x, &y]).expect("starts");
            std::thread::scope(|s| {
                for _ in 0..8 {
                    s.spawn(|| assert!(bits(&x) == expected));
                    s.spawn(|| assert_eq!(y.size().expect("known at once"), 64 * 64));
                }
            });
            // A second start of what runs or ran is nothing to do.
            async_eval([&x, &y]).expect("starts");
        }
        // An error of a started evaluation comes out where the array is read.
        let bad = arange(3, DType::F32).take(Array::from_slice(&[3], [1]), 0);
        async_eval([&bad]).expect("starts");
        assert_eq!(bad.to_vec::<f32>().map_err(|e| e.kind()), Err(ErrorKind::Index));
        // Dropping what runs is allowed.
        for seed in 0..20 {
            async_eval([&work(&square(seed), 20)]).expect("starts");
        }
        assert_eq!(bits(&work(&square(3), 30)), expected);
    });
}

#[test]
fn failed_arrays_carry_the_line_of_the_call() {
    let a = zeros([2, 3], DType::F32);
    let b = zeros([4], DType::F32);
    let line = line!() + 1;
    let bad = &a + &b;
    for x in [
        bad.sin(),
        (bad.reshape([7]) * 2.0).sum(..),
        concatenate(&[a.clone(), bad.clone()], 0),
        where_(true, &a, &bad),
        a.matmul(&bad),
    ] {
        let errors = [
            x.check().expect_err("a wrong call"),
            x.shape().map(drop).expect_err("a wrong call"),
            x.dtype().map(drop).expect_err("a wrong call"),
            x.eval().expect_err("a wrong call"),
            x.to_vec::<f32>().map(drop).expect_err("a wrong call"),
            eval([&a, &x]).expect_err("a wrong call"),
        ];
        for e in errors {
            assert_eq!(e.kind(), ErrorKind::Shape, "{e}");
            let site = e.site().expect("a place");
            assert_eq!((site.file().ends_with("graph.rs"), site.line()), (true, line), "{e}");
            let text = e.to_string();
            assert!(text.contains("float32(2,3), float32(4,)"), "{text}");
        }
    }
    assert!(format!("{bad}").contains("graph.rs"), "{bad}");
    // Compositions report their caller too, and the module that they are in.
    let line = line!() + 1;
    let bad = scope("model", || scope("norm", || a.var(5, 0)));
    let e = bad.check().expect_err("there is no axis 5");
    assert_eq!((e.kind(), e.site().map(|s| s.line())), (ErrorKind::Axis, Some(line)), "{e}");
    assert!(e.to_string().contains("in model.norm"), "{e}");
    // What failed beside it is not touched.
    assert_eq!((&a + 1.0).to_vec::<f32>().expect("evaluates"), [1.0; 6]);
}

#[test]
fn errors_at_run_time_leave_the_rest_usable() {
    let x = arange(4, DType::F32);
    let fine = &x * 2.0;
    let index = arange(3, DType::I32) + 2;
    let line = line!() + 1;
    let bad = fine.take(&index, 0);
    let after = bad.sum(..);
    assert!(after.check().is_ok(), "the indices are known only at run time");
    for _ in 0..3 {
        let e = eval([&after, &fine]).expect_err("index 4 of 4");
        assert_eq!((e.kind(), e.site().map(|s| s.line())), (ErrorKind::Index, Some(line)), "{e}");
        assert_eq!(after.item::<f32>().map_err(|e| e.kind()), Err(ErrorKind::Index));
    }
    assert_eq!(fine.to_vec::<f32>().expect("evaluates"), [0.0, 2.0, 4.0, 6.0]);
    assert_eq!(index.to_vec::<i32>().expect("evaluates"), [2, 3, 4]);
    let negative = fine.take(Array::from_slice(&[-5i64], [1]), 0);
    assert_eq!(negative.eval().map_err(|e| e.kind()), Err(ErrorKind::Index));
    let block = fine.dynamic_slice(&Array::from_slice(&[3], [1]), &[0], &[2]);
    assert_eq!(block.eval().map_err(|e| e.kind()), Err(ErrorKind::Index));
    let write = fine.at(&[Array::from_slice(&[4], [1])]).add(1.0);
    assert_eq!(write.eval().map_err(|e| e.kind()), Err(ErrorKind::Index));
    assert_eq!(fine.to_vec::<f32>().expect("evaluates"), [0.0, 2.0, 4.0, 6.0]);
}

/// Four f32 that cannot be read while `broken`.
struct Flaky {
    broken: AtomicBool,
}

impl ByteSource for Flaky {
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> std::io::Result<()> {
        if self.broken.load(Ordering::SeqCst) {
            return Err(std::io::Error::other("the disk is away"));
        }
        let bytes: Vec<u8> = [1f32, 2.0, 3.0, 4.0].iter().flat_map(|v| v.to_le_bytes()).collect();
        buf.copy_from_slice(&bytes[offset as usize..][..buf.len()]);
        Ok(())
    }

    fn len(&self) -> std::io::Result<u64> {
        Ok(16)
    }

    fn describe(&self) -> String {
        "flaky".to_string()
    }
}

#[test]
fn what_failed_for_now_can_be_asked_for_again() {
    let source = Arc::new(Flaky { broken: AtomicBool::new(true) });
    let x = Array::from_source(source.clone(), 0, [4], DType::F32);
    let y = (&x + 1.0).sum(..);
    let z = y.sqrt() + x.max(..);
    for _ in 0..2 {
        let e = z.eval().expect_err("the disk is away");
        assert_eq!(e.kind(), ErrorKind::Io, "{e}");
        async_eval([&z]).expect("starts");
        assert_eq!(y.eval().map_err(|e| e.kind()), Err(ErrorKind::Io));
    }
    source.broken.store(false, Ordering::SeqCst);
    assert_eq!(y.item::<f32>().expect("the disk is back"), 14.0);
    assert_eq!(z.item::<f32>().expect("the disk is back"), 14f32.sqrt() + 4.0);
}

/// An update whose index is the array itself must not overwrite what it still reads.
#[test]
fn an_array_may_index_itself() -> Result<()> {
    let order = Array::from_slice(&[2i64, 0, 3, 1], [4]);
    let held = arange(4, DType::I64) + 0;
    let expected = held.put_along_axis(&order, &held, 0).to_vec::<i64>()?;
    let alone = {
        let x = arange(4, DType::I64) + 0;
        x.put_along_axis(&order, &x, 0)
    };
    assert_eq!(alone.to_vec::<i64>()?, expected);
    let y = arange(4, DType::I64) + 0;
    let sums = y.at(std::slice::from_ref(&y)).add(&y);
    drop(y);
    assert_eq!(sums.to_vec::<i64>()?, [0, 2, 4, 6]);
    Ok(())
}

/// Somebody else's failure is not the reader's: only what it needs counts.
#[test]
fn an_unrelated_failure_does_not_spread() -> Result<()> {
    for _ in 0..50 {
        let good = arange(1000, DType::F32).exp();
        let bad = arange(4, DType::F32).take(Array::from_slice(&[9], [1]), 0);
        async_eval([&good, &bad])?;
        let more = &good + 1.0;
        assert!(more.eval().is_ok());
        assert!(bad.eval().is_err());
    }
    Ok(())
}

/// Sizes that memory cannot hold, or that no integer can count, are errors.
#[test]
fn sizes_beyond_counting_are_errors() {
    let huge = 1usize << 62;
    assert!(ones([huge], DType::F32).contiguous().eval().is_err());
    assert!(ones([huge], DType::F32).to_bytes().is_err());
    let wide = zeros([1i64 << 32, 1], DType::F32) + zeros([1, 1i64 << 32], DType::F32);
    assert!(wide.eval().is_err());
    assert!(concatenate(&vec![ones([huge], DType::U8); 5], 0).eval().is_err());
    assert!(arange(3, DType::F32).pad(&[(1usize << 61, 0)], Pad::Reflect).eval().is_err());
}

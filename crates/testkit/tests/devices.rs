//! Memory follows operations: what lies where, what is copied and what is not, what a device lacks, and what
//! goes wrong on one. The device is one for tests: memory that the host cannot read, the CPU behind it.
//! Figures are the process' own, so tests take turns.

use lazul_core::device::{Device, fallbacks, reset_fallbacks, set_default_device, with_device};
use lazul_core::eval_ahead;
use lazul_core::prelude::*;
use lazul_core::{ByteSource, Error, ErrorKind, memory};
use std::sync::{Arc, Mutex, MutexGuard};

type Result<T = ()> = std::result::Result<T, Error>;

fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(|e| e.into_inner())
}

/// Bytes that `f` moves to devices, and from them.
fn moved<T>(f: impl FnOnce() -> Result<T>) -> Result<(T, u64, u64)> {
    let before = memory::stats();
    let out = f()?;
    let after = memory::stats();
    Ok((out, after.uploaded - before.uploaded, after.downloaded - before.downloaded))
}

fn on<T>(f: impl FnOnce() -> T) -> T {
    with_device(Device::Mock, f).expect("the device is there")
}

fn host(f: impl FnOnce() -> Array) -> Array {
    with_device(Device::Cpu, f).expect("the CPU is there")
}

#[test]
fn memory_is_copied_once_and_only_where_it_is_read() -> Result {
    let _turn = turn();
    let x = host(|| arange(1000, DType::F32).contiguous());
    x.eval()?;
    let (y, up, down) = moved(|| {
        let y = on(|| (&x * 2.0).exp().sum_keepdims(-1) + &x);
        y.eval()?;
        Ok(y)
    })?;
    // The array, and the constant two.
    assert!((4000..4100).contains(&up) && down == 0, "{up} up, {down} down");
    let ((), up, down) = moved(|| {
        for _ in 0..5 {
            on(|| (&x * 2.0).sqrt() + &y).eval()?;
        }
        Ok(())
    })?;
    assert_eq!((up, down), (0, 0), "what is there is not sent again");
    let (_, up, down) = moved(|| on(|| y.reshape([10, 100]).slice_axis(0, 3, 4)).to_vec::<f32>())?;
    assert_eq!((up, down), (0, 400), "of a view, what it shows is read");
    let (_, up, down) = moved(|| on(|| y.slice_axis(0, 7, 8).reshape(())).item::<f32>())?;
    assert_eq!((up, down), (0, 4), "of an element, the element");
    let (twice, up, down) = moved(|| {
        let z = host(|| &y + 1.0);
        z.eval()?;
        host(|| &y * &z).eval()?;
        on(|| &y + 1.0).eval()?;
        Ok(z)
    })?;
    assert!(down == 4000 && up < 50, "the host's copy stays: {up} up, {down} down");
    assert_eq!(twice.to_vec::<f32>()?, on(|| &y + 1.0).to_vec::<f32>()?);
    assert!(memory::device_stats(Device::Mock).is_some_and(|s| s.active > 0));
    Ok(())
}

#[test]
fn what_is_used_up_leaves_no_stale_copy() -> Result {
    let _turn = turn();
    for rounds in 0..3 {
        // On the device, with a replica on the host.
        let mut x = on(|| arange(1000, DType::F32).contiguous());
        x.eval()?;
        assert_eq!(host(|| &x + 0.0).to_vec::<f32>()?[7], 7.0);
        let keep = (rounds == 1).then(|| x.clone());
        let peak = memory::device_stats(Device::Mock).map(|s| s.active);
        x = on(|| {
            std::mem::replace(&mut x, zeros((), DType::F32)).slice_update(full(1, 5.0f32), [7])
        });
        x.eval()?;
        if rounds == 0 {
            assert_eq!(
                memory::device_stats(Device::Mock).map(|s| s.active),
                peak,
                "written in place"
            );
        }
        assert_eq!(host(|| &x + 0.0).to_vec::<f32>()?[6..9], [6.0, 5.0, 8.0]);
        x = on(|| std::mem::replace(&mut x, zeros((), DType::F32)) + 1.0);
        x.eval()?;
        assert_eq!(host(|| &x * 1.0).to_vec::<f32>()?[6..9], [7.0, 6.0, 9.0]);
        // On the host, with a replica on the device.
        let mut y = host(|| &x * 1.0);
        y.eval()?;
        assert_eq!(on(|| &y + 0.0).to_vec::<f32>()?[7], 6.0);
        y = host(|| std::mem::replace(&mut y, zeros((), DType::F32)) + 1.0);
        y.eval()?;
        assert_eq!(on(|| &y + 0.0).to_vec::<f32>()?[6..9], [8.0, 7.0, 10.0]);
        if let Some(kept) = keep {
            assert_eq!(host(|| &kept + 0.0).to_vec::<f32>()?[6..9], [6.0, 7.0, 8.0]);
        }
    }
    Ok(())
}

#[test]
fn what_a_device_lacks_runs_on_the_cpu_and_is_counted() -> Result {
    let _turn = turn();
    reset_fallbacks();
    let x = host(|| random::normal([4, 64], DType::F32, Some(&random::key(3))));
    let both = |f: &dyn Fn() -> Array| -> Result<Vec<Vec<f32>>> {
        [host(f), on(f)].map(|a| a.abs().to_vec::<f32>()).into_iter().collect()
    };
    let cases: [(&str, &dyn Fn() -> Array); 4] = [
        ("softmax", &|| (&x + 1.0).softmax(-1) * 2.0),
        ("cumsum", &|| (&x * 3.0).cumsum(-1, Default::default()).exp()),
        ("fft", &|| fft::fft(&x, Default::default()).abs().sum(-1)),
        ("cumsum", &|| (&x * 2.0).cumsum(0, Default::default()) + &x),
    ];
    for (name, f) in cases {
        let before: u64 = fallbacks().iter().map(|f| f.count).sum();
        let [cpu, device] = &both(f)?[..] else { unreachable!("there are two") };
        assert_eq!(cpu, device, "{name}");
        let after = fallbacks();
        assert_eq!(after.iter().map(|f| f.count).sum::<u64>(), before + 1, "{name}: {after:?}");
        assert!(after.iter().any(|f| f.op == name && f.why.contains("mock")), "{name}: {after:?}");
    }
    let text = explain(&on(|| (&x + 1.0).softmax(-1) * 2.0))?;
    assert!(
        text.contains("on cpu, because mock has no kernel: the mock device has no softmax"),
        "{text}"
    );
    assert!(text.contains("fused") || text.contains("; on mock"), "{text}");
    reset_fallbacks();
    assert!(fallbacks().is_empty());
    Ok(())
}

#[test]
fn indices_out_of_bounds_are_errors_of_their_program_alone() -> Result {
    let _turn = turn();
    let x = host(|| arange(10, DType::F32).contiguous());
    let bad = Array::from_slice(&[3i32, 12], [2]);
    x.eval()?;
    let y = on(|| (&x * 1.0).take(&bad, 0) + 1.0);
    let line = line!() - 1;
    for _ in 0..2 {
        let error = y.eval().expect_err("12 is out of bounds");
        assert_eq!(error.kind(), ErrorKind::Index);
        let text = error.to_string();
        assert!(text.contains("index 12 is out of bounds for axis 0 of size 10"), "{text}");
        assert!(
            text.contains("float32(10,)") && text.contains(&format!("devices.rs:{line}")),
            "{text}"
        );
    }
    assert_eq!(on(|| &x + 1.0).to_vec::<f32>()?[9], 10.0, "the next program is well");
    // What was not held by anybody else is there for another attempt.
    let lonely = on(|| (arange(10, DType::F32).contiguous() + 1.0).take(&bad, 0));
    for _ in 0..2 {
        assert_eq!(lonely.to_vec::<f32>().map_err(|e| e.kind()), Err(ErrorKind::Index));
    }
    // Threads do not see one another's errors, and nobody misses their own.
    let good = Array::from_slice(&[3i32, 9], [2]);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (x, good, bad) = (&x, &good, &bad);
            scope.spawn(move || {
                for i in 0..50 {
                    let (index, wrong) =
                        if (i + thread) % 2 == 0 { (bad, true) } else { (good, false) };
                    let y = on(|| (x + i as f32).take(index, 0));
                    match y.to_vec::<f32>() {
                        Ok(values) => assert!(!wrong && values == [3.0 + i as f32, 9.0 + i as f32]),
                        Err(e) => assert!(wrong && e.kind() == ErrorKind::Index, "{e}"),
                    }
                }
            });
        }
    });
    // A condition that nonsense decides would loop for ever.
    let looping = on(|| {
        while_loop(
            |n: &Array| Ok::<_, Error>(n.take(&bad, 0).any(..).logical_not()),
            |n: &Array| Ok::<_, Error>(n.logical_not()),
            &zeros([10], DType::Bool),
        )
    })?;
    // The loop looks at the device before the program's end: what it met there stays an error.
    let held = on(|| x.take(&bad, 0));
    assert_eq!(eval([&held, &looping]).map_err(|e| e.kind()), Err(ErrorKind::Index));
    assert_eq!(held.to_vec::<f32>().map_err(|e| e.kind()), Err(ErrorKind::Index));
    // Memory that a step took over does not come back with the step's result in it.
    let own = on(|| arange(10, DType::F32).contiguous());
    own.eval()?;
    let next = on(|| own + 1.0);
    let error = on(|| next.take(&bad, 0)).eval().expect_err("12 is out of bounds");
    assert_eq!(error.kind(), ErrorKind::Index);
    for _ in 0..2 {
        match next.to_vec::<f32>() {
            Ok(values) => assert_eq!(values[..3], [1.0, 2.0, 3.0]),
            Err(e) => assert!(e.to_string().contains("was given to"), "{e}"),
        }
    }
    Ok(())
}

/// What is not waited for is looked at when something comes back: never a wrong value.
#[test]
fn what_runs_ahead_fails_wherever_it_is_used() -> Result {
    let _turn = turn();
    let x = host(|| arange(10, DType::F32).contiguous());
    let (good, bad) = (Array::from_slice(&[3i32, 9], [2]), Array::from_slice(&[3i32, 12], [2]));
    eval([&x, &good, &bad])?;
    // Each step begins before the one before it is read, as when tokens are generated.
    let mut last = on(|| x.take(&good, 0));
    for step in 0..20 {
        let next = on(|| last.take(Array::from_slice(&[1i32, 0], [2]), 0) + step as f32);
        eval_ahead([&next])?;
        assert!(last.to_vec::<f32>()?.len() == 2);
        last = next;
    }
    let sum: f32 = (0..20).sum::<i32>() as f32;
    assert_eq!(last.to_vec::<f32>()?, [3.0 + sum, 9.0 + sum]);
    // More than may be pending, none of them read.
    let many: Vec<Array> = (0..30).map(|i| on(|| x.take(&good, 0) + i as f32)).collect();
    many.iter().try_for_each(|y| eval_ahead([y]))?;
    assert_eq!(many[29].to_vec::<f32>()?, [32.0, 38.0]);
    many[3].eval()?;

    let y = on(|| x.take(&bad, 0) + 1.0);
    let line = line!() - 1;
    eval_ahead([&y])?;
    let view = y.reshape([2, 1]);
    let behind = on(|| &y * 2.0);
    eval_ahead([&behind])?;
    let is_bad = |result: Result<()>, what: &str| {
        let error = result.expect_err(what);
        assert_eq!(error.kind(), ErrorKind::Index, "{what}");
        assert!(error.to_string().contains(&format!("devices.rs:{line}")), "{what}: {error}");
    };
    is_bad(y.to_vec::<f32>().map(drop), "what met it");
    is_bad(y.eval(), "what met it, again");
    is_bad(behind.to_vec::<f32>().map(drop), "what was made of it meanwhile");
    is_bad(view.to_vec::<f32>().map(drop), "a view");
    is_bad(on(|| &y + 1.0).eval(), "what is made of it now");
    is_bad(host(|| &y + 1.0).eval(), "and on the host");
    assert_eq!(on(|| x.take(&good, 0)).to_vec::<f32>()?, [3.0, 9.0], "the next program is well");
    // Used before anything was read.
    let unread = on(|| x.take(&bad, 0) + 2.0);
    eval_ahead([&unread])?;
    let line = line!() - 2;
    let error = on(|| &unread + 1.0).to_vec::<f32>().expect_err("what is made of it, unread");
    assert_eq!(error.kind(), ErrorKind::Index);
    assert!(error.to_string().contains(&format!("devices.rs:{line}")), "{error}");
    let unread = on(|| x.take(&bad, 0) + 3.0);
    eval_ahead([&unread])?;
    let made = on(|| unread.reshape([2, 1]).contiguous() * 2.0);
    async_eval([&made])?;
    assert!(made.to_vec::<f32>().is_err(), "started behind it");
    // One that is waited for knows its own faults from those before it.
    let ahead = on(|| x.take(&bad, 0) - 1.0);
    eval_ahead([&ahead])?;
    let after = on(|| x.take(&good, 0) - 1.0);
    after.eval()?;
    assert_eq!(after.to_vec::<f32>()?, [2.0, 8.0]);
    assert_eq!(ahead.to_vec::<f32>().map_err(|e| e.kind()), Err(ErrorKind::Index));
    Ok(())
}

#[test]
fn a_device_that_is_full_says_so() -> Result {
    let _turn = turn();
    let x = host(|| arange(1 << 18, DType::F32).contiguous());
    x.eval()?;
    let used = memory::device_stats(Device::Mock).map_or(0, |s| s.active);
    let limit = memory::set_device_limit(Device::Mock, used + (1 << 20)).expect("it is there");
    let y = on(|| (&x + 1.0).cumsum(-1, Default::default()));
    let error = y.eval().expect_err("two MiB do not fit in one");
    assert_eq!(error.kind(), ErrorKind::OutOfMemory, "{error}");
    assert_eq!(host(|| &x + 1.0).to_vec::<f32>()?[5], 6.0, "the host goes on");
    memory::set_device_limit(Device::Mock, limit);
    assert_eq!(y.to_vec::<f32>()?[2], 6.0, "with room, the same array is computed");
    Ok(())
}

#[test]
fn functions_of_functions_run_where_they_are_asked_to() -> Result {
    let _turn = turn();
    let x = host(|| arange(12, DType::F32).reshape([4, 3]).contiguous());
    let all = || -> Result<Vec<Array>> {
        let (carry, ys) = scan(|c: &Array, x: &Array| (c + x, c * x), &x.at_index(0, 0), &x)?;
        let doubled =
            while_loop(|n: &Array| n.sum(..).less(100.0), |n: &Array| n * 2.0, &(&carry + 1.0))?;
        let chosen = cond(&x.sum(..).greater(0.0), |x: &Array| x * 3.0, |x: &Array| x - 1.0, &x)?;
        let f = |x: &Array| (x * x.sin()).sum(..);
        let compiled = compile(|x: &Array| x.exp() + x.cumsum(0, Default::default()));
        Ok(vec![carry, ys, doubled, chosen, grad(f)(&x)?, compiled(&x)?, vmap(f)(&x)?])
    };
    let cpu = with_device(Device::Cpu, all)??;
    let device = on(all)?;
    eval(&cpu)?;
    eval(&device)?;
    for (i, (a, b)) in cpu.iter().zip(&device).enumerate() {
        assert_eq!(a.to_vec::<f32>()?, b.to_vec::<f32>()?, "result {i}");
    }
    // A traced function keeps the devices that it names.
    let split = compile(|x: &Array| on(|| x + 1.0) * 2.0);
    let (_, _, down) = moved(|| with_device(Device::Cpu, || split(&x))??.to_vec::<f32>())?;
    assert_eq!(down, 48, "the first step's result comes back for the second");
    Ok(())
}

#[test]
fn files_are_read_to_where_they_are_wanted() -> Result {
    let _turn = turn();
    let bytes: Vec<u8> = (0..40_000u32).flat_map(u32::to_le_bytes).collect();
    let source: Arc<dyn ByteSource> = Arc::new(&*bytes.leak());
    let ((), up, down) = moved(|| {
        let x = on(|| Array::from_source(source.clone(), 4, [100, 100], DType::U32));
        x.eval()?;
        assert!(memory::buffer_size([&x])? < 41_000, "there is no replica on the host");
        assert_eq!(on(|| x.max(..)).item::<u32>()?, 10_000);
        Ok(())
    })?;
    assert_eq!((up, down), (40_000, 4));
    let short = on(|| Array::from_source(source, 4, [200, 200], DType::U32));
    assert_eq!(short.eval().map_err(|e| e.kind()), Err(ErrorKind::Io));
    Ok(())
}

#[test]
fn the_default_device_is_asked_at_evaluation() -> Result {
    let _turn = turn();
    let y = arange(1000, DType::F32) + 1.0;
    set_default_device(Device::Mock)?;
    let ((), up, down) = moved(|| y.eval())?;
    assert!(up < 50 && down == 0);
    assert!(memory::device_stats(Device::Mock).is_some());
    let (sum, _, down) = moved(|| y.sum(..).item::<f32>())?;
    set_default_device(Device::Auto)?;
    assert_eq!((sum, down), (500_500.0, 4));
    assert_eq!(y.to_vec::<f32>()?[999], 1000.0);
    Ok(())
}

#[test]
fn many_threads_share_arrays_across_devices() -> Result {
    let _turn = turn();
    let x = host(|| arange(4096, DType::F32).contiguous());
    x.eval()?;
    std::thread::scope(|scope| {
        for thread in 0..4u32 {
            let x = &x;
            scope.spawn(move || {
                for i in 0..40 {
                    let k = (thread * 100 + i) as f32;
                    let a = on(|| x + k);
                    let b = host(|| &a * 2.0);
                    let c = on(|| (&b - &a) - k);
                    async_eval([&c]).expect("starts");
                    assert_eq!(c.to_vec::<f32>().expect("evaluates")[17], 17.0);
                }
            });
        }
    });
    Ok(())
}

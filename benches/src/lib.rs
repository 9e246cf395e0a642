//! Timing for the programs of this folder: they run one case each and print one JSON line, so that
//! `run.py` can alternate them with the peers' programs.

pub mod limits;

use std::time::{Duration, Instant};

/// Seconds that `f` takes, measured `repetitions` times after one run to warm up.
pub fn time(repetitions: usize, mut f: impl FnMut()) -> Vec<f64> {
    f();
    (0..repetitions)
        .map(|_| {
            let start = Instant::now();
            f();
            start.elapsed().as_secs_f64()
        })
        .collect()
}

/// The middle of the seconds that calls of `f` take, for half a second and at least three calls; one call
/// if that takes longer than two seconds.
pub fn until_steady(mut f: impl FnMut()) -> f64 {
    let start = Instant::now();
    let mut times = Vec::new();
    loop {
        let call = Instant::now();
        f();
        times.push(call.elapsed().as_secs_f64());
        let spent = start.elapsed();
        let enough = times.len() >= 3 && spent > Duration::from_millis(500);
        if enough || spent > Duration::from_secs(2) {
            return median(&times);
        }
    }
}

/// The middle value.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The most memory the process has held, in megabytes; 0 where the system does not tell.
pub fn peak_rss_mb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|l| l.starts_with("VmHWM:"));
    let kib = line.and_then(|l| l.split_whitespace().nth(1)).and_then(|n| n.parse::<f64>().ok());
    kib.unwrap_or(0.0) / 1024.0
}

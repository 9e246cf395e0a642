//! Numbers that programs need by name.

/// Euler's number, the base of the natural logarithm.
pub const E: f64 = std::f64::consts::E;
/// The circumference of a circle by its diameter.
pub const PI: f64 = std::f64::consts::PI;
/// Infinity.
pub const INF: f64 = f64::INFINITY;
/// Not a number.
pub const NAN: f64 = f64::NAN;
/// The Euler–Mascheroni constant: the limit of `1 + 1/2 + … + 1/n - log(n)`.
pub const EULER_GAMMA: f64 = 0.577_215_664_901_532_9;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values() {
        assert_eq!(E.ln(), 1.0);
        assert!(PI.sin().abs() < 1e-15 && INF > f64::MAX && NAN.is_nan());
        // The sum of 1/k for k up to n, less log(n), less the first terms of what is left.
        let n = 1e6f64;
        let sum: f64 = (1..=1_000_000).rev().map(|k| 1.0 / k as f64).sum();
        assert!((sum - n.ln() - 0.5 / n + 1.0 / (12.0 * n * n) - EULER_GAMMA).abs() < 1e-12);
    }
}

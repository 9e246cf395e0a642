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

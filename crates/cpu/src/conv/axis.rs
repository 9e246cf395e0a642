//! One spatial axis, freed from the dilation of its input.
//!
//! Between the elements of a dilated input lie zeros. Which taps of a window meet elements depends on
//! the window's number modulo a period, and those are every so-manieth tap: so the windows of one
//! remainder, with their taps, form a convolution of their own over the input as it lies. Outputs of
//! windows that meet no element are zero.

use lazul_ir::ConvAxis;
use std::ops::Range;

/// One spatial axis of a convolution whose input is not dilated.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Axis {
    /// Number of windows.
    pub(super) windows: usize,
    /// Window `q` is that of output `out.0 + q * out.1`.
    pub(super) out: (usize, usize),
    /// Number of taps.
    pub(super) taps: usize,
    /// Tap `u` meets weight `weight.0 + u * weight.1`.
    pub(super) weight: (usize, usize),
    /// Tap `u` of window `q` meets element `offset + q * stride + u * dilation`, if there is one.
    pub(super) offset: isize,
    /// See `offset`.
    pub(super) stride: isize,
    /// See `offset`; negative if the kernel is flipped, never zero.
    pub(super) dilation: isize,
    /// Number of elements.
    pub(super) len: usize,
}

impl Axis {
    /// The taps that meet an element, in a window that begins at `start`.
    pub(super) fn inside(&self, start: isize) -> Range<usize> {
        let (len, step) = (self.len as isize, self.dilation.abs());
        // The distance to go until a tap meets the first element, and to the last.
        let (enter, leave) =
            if self.dilation > 0 { (-start, len - 1 - start) } else { (start - (len - 1), start) };
        if leave < 0 {
            return 0..0;
        }
        let (mut low, mut high) = (0, leave as usize);
        if enter > 0 {
            low = enter as usize;
        }
        if step != 1 {
            (low, high) = (low.div_ceil(step as usize), high / step as usize);
        }
        low..(high + 1).min(self.taps).max(low)
    }
}

/// The convolutions that make up one along `axis`, without those that meet no element: `kernel`
/// taps over `len` elements with `windows` outputs, of which neither is zero.
pub(super) fn phases(
    axis: &ConvAxis,
    flip: bool,
    len: usize,
    kernel: usize,
    windows: usize,
) -> Vec<Axis> {
    let ConvAxis { stride, padding: (low, _), kernel_dilation, input_dilation } = *axis;
    let spread = if len > 1 { input_dilation } else { 1 };
    if spread == 1 {
        let all = Axis {
            windows,
            out: (0, 1),
            taps: kernel,
            weight: (0, 1),
            offset: -low,
            stride: stride as isize,
            dilation: if kernel > 1 { kernel_dilation as isize } else { 1 },
            len,
        };
        return vec![if flip { all.flipped(kernel) } else { all }];
    }
    let shared = gcd(stride, spread);
    let (period, tap_period) = (spread / shared, spread / gcd(kernel_dilation, spread));
    let inverse = inverse(stride / shared, period);
    let mut phases = Vec::new();
    for tap in 0..kernel.min(tap_period) {
        // The remainder r with r * stride + tap * kernel_dilation - low divisible by the spread.
        let shift = low as i128 - tap as i128 * kernel_dilation as i128;
        let rest = shift.rem_euclid(spread as i128) as usize;
        if !rest.is_multiple_of(shared) {
            continue;
        }
        let first = (rest / shared) as u128 * inverse as u128 % period as u128;
        let first = first as usize;
        if first >= windows {
            continue;
        }
        let offset = (first as i128 * stride as i128 - shift) / spread as i128;
        let phase = Axis {
            windows: (windows - first).div_ceil(period),
            out: (first, period),
            taps: (kernel - tap).div_ceil(tap_period),
            weight: (tap, tap_period),
            offset: offset as isize,
            stride: (stride / shared) as isize,
            dilation: (kernel_dilation / gcd(kernel_dilation, spread)) as isize,
            len,
        };
        phases.push(if flip { phase.flipped(kernel) } else { phase });
    }
    phases
}

impl Axis {
    /// The same windows with tap `t` of `kernel` meeting weight `kernel - 1 - t`, taps still in the
    /// order of the weights.
    fn flipped(self, kernel: usize) -> Axis {
        let last = self.taps - 1;
        Axis {
            weight: (kernel - 1 - self.weight.0 - last * self.weight.1, self.weight.1),
            offset: self.offset + last as isize * self.dilation,
            dilation: -self.dilation,
            ..self
        }
    }
}

fn gcd(mut a: usize, mut b: usize) -> usize {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// The inverse of `a` modulo `m`, to which it is prime.
fn inverse(a: usize, m: usize) -> usize {
    let (mut r0, mut r1) = (m as i128, (a % m) as i128);
    let (mut t0, mut t1) = (0i128, 1i128);
    while r1 != 0 {
        let q = r0 / r1;
        (r0, r1) = (r1, r0 - q * r1);
        (t0, t1) = (t1, t0 - q * t1);
    }
    t0.rem_euclid(m as i128) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Rng;

    /// The pairs (element, weight) that the window of each output meets, by the definition.
    fn expected(
        axis: &ConvAxis,
        flip: bool,
        len: usize,
        kernel: usize,
    ) -> Vec<Vec<(usize, usize)>> {
        let spread = axis.input_dilation as isize;
        let windows = axis.output(len, kernel).unwrap();
        let meet = |o: usize, t: usize| {
            let position = (o * axis.stride + t * axis.kernel_dilation) as isize - axis.padding.0;
            let element = position.div_euclid(spread);
            let met = position.rem_euclid(spread) == 0 && (0..len as isize).contains(&element);
            met.then_some((element as usize, if flip { kernel - 1 - t } else { t }))
        };
        let window = |o| {
            let mut pairs: Vec<_> = (0..kernel).filter_map(|t| meet(o, t)).collect();
            pairs.sort_by_key(|p| p.1);
            pairs
        };
        (0..windows).map(window).collect()
    }

    #[test]
    fn phases_meet_what_the_definition_says() {
        let mut rng = Rng(1);
        for _ in 0..4000 {
            let axis = ConvAxis {
                stride: 1 + rng.below(6),
                padding: (rng.below(12) as isize - 4, rng.below(12) as isize - 4),
                kernel_dilation: 1 + rng.below(6),
                input_dilation: 1 + rng.below(8),
            };
            let (len, kernel, flip) = (1 + rng.below(9), 1 + rng.below(7), rng.below(2) == 0);
            let windows = axis.output(len, kernel).unwrap();
            if windows == 0 {
                continue;
            }
            let mut got = vec![Vec::new(); windows];
            for p in phases(&axis, flip, len, kernel, windows) {
                for q in 0..p.windows {
                    let start = p.offset + q as isize * p.stride;
                    let inside = p.inside(start);
                    for u in 0..p.taps {
                        let element = start + u as isize * p.dilation;
                        let there = (0..len as isize).contains(&element);
                        assert_eq!(inside.contains(&u), there, "{p:?} {q} {u}");
                        if there {
                            let pair = (element as usize, p.weight.0 + u * p.weight.1);
                            got[p.out.0 + q * p.out.1].push(pair);
                        }
                    }
                }
            }
            assert_eq!(got, expected(&axis, flip, len, kernel), "{axis:?} {flip} {len} {kernel}");
        }
    }

    #[test]
    fn wide_dilation_makes_no_more_phases_than_taps() {
        let axis = ConvAxis { input_dilation: 1 << 40, ..Default::default() };
        let windows = axis.output(3, 1).unwrap();
        assert_eq!(phases(&axis, false, 3, 1, windows).len(), 1);
    }
}

//! What a convolution is: how windows lie along each spatial axis, and how long the output is.

use smallvec::SmallVec;

/// How the windows of a convolution lie along one spatial axis.
///
/// The input, with `input_dilation - 1` zeros between neighbours, is padded with `padding.0` zeros
/// before and `padding.1` after it; a negative padding takes elements away instead. Window `o`
/// begins at position `o * stride` of that, and its tap `t` lies `t * kernel_dilation` further on.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct ConvAxis {
    /// Distance between windows, at least 1.
    pub stride: usize,
    /// Zeros before and after the input.
    pub padding: (isize, isize),
    /// Distance between the taps of a window, at least 1.
    pub kernel_dilation: usize,
    /// Distance between the elements of the input, at least 1.
    pub input_dilation: usize,
}

impl Default for ConvAxis {
    /// Every window that lies inside the input.
    fn default() -> ConvAxis {
        ConvAxis { stride: 1, padding: (0, 0), kernel_dilation: 1, input_dilation: 1 }
    }
}

/// Positions that `len` elements at distance `dilation` take, or `None` if that is beyond counting.
/// Everything stays below a quarter of what `isize` holds, so that sums of positions do too.
fn extent(len: usize, dilation: usize) -> Option<isize> {
    let Some(steps) = len.checked_sub(1) else { return Some(0) };
    countable(isize::try_from(steps.checked_mul(dilation)?).ok()?.checked_add(1)?)
}

fn countable(n: isize) -> Option<isize> {
    (n.unsigned_abs() <= isize::MAX as usize / 4).then_some(n)
}

impl ConvAxis {
    /// Positions of the input with its dilation, without padding.
    pub fn input_extent(&self, input: usize) -> Option<isize> {
        extent(input, self.input_dilation)
    }

    /// Positions that a window of `kernel` taps takes.
    pub fn kernel_extent(&self, kernel: usize) -> Option<isize> {
        extent(kernel, self.kernel_dilation)
    }

    /// The number of windows of `kernel` taps over `input` elements; 0 if none fits. `None` if
    /// positions are too large to count.
    ///
    /// ```
    /// use lazul_ir::ConvAxis;
    /// let axis = ConvAxis { stride: 2, padding: (1, 1), ..Default::default() };
    /// assert_eq!(axis.output(7, 3), Some(4));
    /// assert_eq!(axis.output(0, 3), Some(0));
    /// ```
    pub fn output(&self, input: usize, kernel: usize) -> Option<usize> {
        let (low, high) = (countable(self.padding.0)?, countable(self.padding.1)?);
        let padded = countable(self.input_extent(input)? + low + high)?;
        let room = padded - self.kernel_extent(kernel)?;
        Some(if room < 0 { 0 } else { room as usize / self.stride + 1 })
    }
}

/// A convolution with channels last.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct ConvOp {
    /// The spatial axes, outermost first; at least one.
    pub axes: SmallVec<[ConvAxis; 2]>,
    /// Groups that channels are cut into, in order: outputs of one see the inputs of the same.
    pub groups: usize,
    /// Whether tap `t` of a window meets weight `kernel - 1 - t`, along every spatial axis, rather
    /// than weight `t`.
    pub flip: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_counted() {
        let axis = |stride, low, high, kernel_dilation, input_dilation| ConvAxis {
            stride,
            padding: (low, high),
            kernel_dilation,
            input_dilation,
        };
        assert_eq!(axis(1, 0, 0, 1, 1).output(5, 3), Some(3));
        assert_eq!(axis(1, 0, 0, 1, 1).output(2, 3), Some(0));
        assert_eq!(axis(3, 1, 2, 2, 1).output(10, 3), Some(3));
        assert_eq!(axis(1, 0, 0, 1, 3).output(4, 1), Some(10));
        assert_eq!(axis(1, -2, -1, 1, 1).output(8, 2), Some(4));
        assert_eq!(axis(1, -5, -5, 1, 1).output(8, 1), Some(0));
        assert_eq!(axis(2, 2, 2, 1, 7).output(0, 3), Some(1));
    }

    #[test]
    fn positions_beyond_counting_are_refused() {
        let huge = isize::MAX;
        let padded = ConvAxis { padding: (huge, huge), ..Default::default() };
        assert_eq!(padded.output(5, 3), None);
        let dilated = ConvAxis { kernel_dilation: usize::MAX, ..Default::default() };
        assert_eq!(dilated.output(5, 3), None);
        assert_eq!(dilated.output(5, 1), Some(5));
        let spread = ConvAxis { input_dilation: usize::MAX / 2, ..Default::default() };
        assert_eq!(spread.output(4, 1), None);
    }
}

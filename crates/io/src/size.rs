//! The one place where shapes become sizes.
//!
//! Every reader asks [`Extent::new`] how large a tensor is and gets an answer that is exact or an
//! error: no product wraps, no dimension hides behind a zero, and what is accepted fits the address
//! space of this machine. No other module multiplies dimensions.

use crate::error::{Error, Result};

/// Most dimensions a file may declare: NumPy's own limit, and more than any model has.
pub(crate) const MAX_RANK: usize = 64;

/// The checked size of a dense tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    /// Number of elements; 0 when any dimension is 0.
    pub(crate) elements: u64,
    /// Number of bytes in the file.
    pub(crate) bytes: u64,
}

impl Extent {
    /// Sizes `shape` with `bits` bits an element.
    ///
    /// A zero dimension makes a tensor empty, but the others must still multiply to something
    /// representable: strides are products of them.
    pub(crate) fn new(shape: &[usize], bits: u32) -> Result<Extent> {
        if shape.len() > MAX_RANK {
            return Err(Error::limit(format!(
                "a tensor of {} dimensions; the most is {MAX_RANK}",
                shape.len()
            )));
        }
        let overflow = || Error::limit("the shape has more elements than memory could hold");
        let mut strides: u64 = 1;
        let mut empty = false;
        for &dim in shape {
            let dim = u64::try_from(dim).map_err(|_| overflow())?;
            empty |= dim == 0;
            strides = strides.checked_mul(dim.max(1)).ok_or_else(overflow)?;
        }
        let stride_bits = strides.checked_mul(u64::from(bits)).ok_or_else(overflow)?;
        let address_space = u64::try_from(isize::MAX).unwrap_or(u64::MAX);
        if stride_bits.div_ceil(8) > address_space {
            return Err(overflow());
        }
        if empty {
            return Ok(Extent { elements: 0, bytes: 0 });
        }
        if !stride_bits.is_multiple_of(8) {
            return Err(Error::malformed(format!(
                "{strides} elements of {bits} bits do not fill whole bytes"
            )));
        }
        Ok(Extent { elements: strides, bytes: stride_bits / 8 })
    }
}

/// A file's 64-bit number as a size of this machine.
pub(crate) fn to_usize(value: u64, what: &str) -> Result<usize> {
    usize::try_from(value)
        .map_err(|_| Error::limit(format!("{what} is {value}, too large for this machine")))
}

/// A size of this machine as a file's number; every supported machine has at most 64 bits.
pub(crate) fn to_u64(value: usize) -> u64 {
    u64::try_from(value).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    #[test]
    fn sizes() {
        assert_eq!(Extent::new(&[], 32).unwrap(), Extent { elements: 1, bytes: 4 });
        assert_eq!(Extent::new(&[2, 3], 16).unwrap(), Extent { elements: 6, bytes: 12 });
        assert_eq!(Extent::new(&[4, 0], 8).unwrap(), Extent { elements: 0, bytes: 0 });
        assert_eq!(Extent::new(&[2], 4).unwrap(), Extent { elements: 2, bytes: 1 });
    }

    #[test]
    fn overflow_is_never_silent() {
        let half = 1usize << 32;
        for (shape, bits) in [
            (&[half, half][..], 8),
            (&[usize::MAX, 2], 8),
            (&[0, 1 << 63], 8),
            (&[1 << 61], 64),
            (&[1; MAX_RANK + 1], 8),
        ] {
            assert_eq!(Extent::new(shape, bits).unwrap_err().kind(), ErrorKind::Limit, "{shape:?}");
        }
        assert_eq!(Extent::new(&[3], 4).unwrap_err().kind(), ErrorKind::Malformed);
    }
}

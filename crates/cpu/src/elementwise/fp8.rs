//! 8-bit floats with 4 bits of exponent and 3 of mantissa (OCP E4M3: no infinities, largest 448,
//! NaN is `s1111111`), as uint8 codes.

/// The nearest code, ties to even, saturating at 448; NaN stays NaN.
#[inline(always)]
pub(crate) fn encode(x: f32) -> u8 {
    let bits = x.to_bits();
    let sign = (bits >> 24) as u8 & 0x80;
    let magnitude = bits & 0x7fff_ffff;
    // Below 2^-6 codes are multiples of 2^-9: adding 2^14, whose last bit is 2^-9, rounds to them.
    let subnormal =
        (f32::from_bits(magnitude) + 16384.0).to_bits().wrapping_sub(16384f32.to_bits());
    // Above, the mantissa keeps 3 bits and the exponent's bias goes from 127 to 7.
    let odd = (magnitude >> 20) & 1;
    let normal = magnitude.wrapping_add(0x7_ffff + odd).wrapping_sub(120 << 23) >> 20;
    let code = if magnitude < 121 << 23 { subnormal } else { normal };
    let code = if magnitude >= 0x43e0_0000 { 0x7e } else { code.min(0x7e) };
    let code = if magnitude > 0x7f80_0000 { 0x7f } else { code };
    code as u8 | sign
}

/// As [`encode`], without rounding twice.
#[inline(always)]
pub(super) fn encode64(x: f64) -> u8 {
    encode(super::cast::round_to_odd(x))
}

/// The value of a code.
#[inline(always)]
pub(crate) fn decode(code: u8) -> f32 {
    let sign = (code as u32 & 0x80) << 24;
    let magnitude = code as u32 & 0x7f;
    let normal = f32::from_bits((magnitude << 20) + (120 << 23));
    let subnormal = magnitude as f32 * (1.0 / 512.0);
    let value = if magnitude < 8 { subnormal } else { normal };
    let value = if magnitude == 0x7f { f32::NAN } else { value };
    f32::from_bits(value.to_bits() | sign)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_their_own() {
        for code in 0..=255u8 {
            let x = decode(code);
            if x.is_nan() {
                assert_eq!(code & 0x7f, 0x7f);
            } else {
                assert_eq!(encode(x), code, "{x}");
                assert_eq!(encode64(x as f64), code);
            }
        }
    }

    #[test]
    fn every_value_goes_to_the_nearest_code() {
        let values: Vec<f64> = (0..=0x7eu8).map(|c| decode(c) as f64).collect();
        for bits in (0..600f32.to_bits()).step_by(9_973) {
            let x = f32::from_bits(bits);
            let best = (0..values.len())
                .min_by(|&a, &b| {
                    let (da, db) = ((x as f64 - values[a]).abs(), (x as f64 - values[b]).abs());
                    da.total_cmp(&db).then((a & 1).cmp(&(b & 1)))
                })
                .unwrap();
            assert_eq!(encode(x) as usize, best, "{x}");
            assert_eq!(encode(-x) as usize, best | 0x80);
        }
        assert_eq!([1.0, 448.0, 500.0, -0.1].map(encode), [56, 126, 126, 157]);
        assert_eq!(encode(f32::INFINITY), 0x7e);
        assert_eq!(encode(f32::NAN) & 0x7f, 0x7f);
    }

    #[test]
    fn doubles_round_once() {
        // Just above the tie between 1 and 1.125: as f32 it is the tie, which would go down.
        assert_eq!(encode64(1.0625 + 1e-12), 57);
        assert_eq!(encode64(1.0625), 56);
    }
}

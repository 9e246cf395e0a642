//! Small floats that codes and scales are made of.
//!
//! | | sign | exponent | mantissa | what is special |
//! |---|---|---|---|---|
//! | e2m1 | 1 | 2, bias 1 | 1 | neither infinities nor NaN; 0 to 6 |
//! | e4m3 | 1 | 4, bias 7 | 3 | no infinities, NaN is `s1111111`; 0 to 448 |
//! | e8m0 | | 8, bias 127 | | powers of two; 255 stands for 2^128, which f32 sees as infinity |

pub(super) use crate::elementwise::fp8::encode as encode_e4m3;

/// The value of an e4m3 code.
#[inline(always)]
pub(super) fn e4m3(code: u32) -> f32 {
    crate::elementwise::fp8::decode(code as u8)
}

/// The value of an e2m1 code.
#[inline(always)]
pub(super) fn e2m1(code: u32) -> f32 {
    let magnitude = code & 7;
    // From 1 on the exponent's bias goes from 1 to 127; below lie 0 and a half.
    let normal = f32::from_bits((magnitude << 22) + (126 << 23));
    let value = if magnitude < 2 { magnitude as f32 * 0.5 } else { normal };
    f32::from_bits(value.to_bits() | (code & 8) << 28)
}

/// The nearest e2m1 code, of two the one of smaller magnitude, never the negative zero; saturating at
/// 6, and 0 for NaN.
#[inline(always)]
pub(super) fn encode_e2m1(x: f32) -> u8 {
    let middles = [0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0];
    let code = middles.iter().fold(0, |code, &middle| code + (x.abs() > middle) as u8);
    if code > 0 && x < 0.0 { code | 8 } else { code }
}

/// The value of an e8m0 code.
#[inline(always)]
pub(super) fn e8m0(code: u8) -> f32 {
    // 2^-127 has no exponent of its own in f32.
    f32::from_bits(((code as u32) << 23).max(1 << 22))
}

/// The smallest power of two of at least 2^-127 that is no less than `x >= 0`; 1 for 0.
#[inline(always)]
pub(super) fn encode_e8m0(x: f32) -> u8 {
    if x == 0.0 {
        return 127;
    }
    let bits = x.to_bits();
    let (exponent, mantissa) = (bits >> 23, bits & 0x7f_ffff);
    // Below 2^-126 the mantissa counts from 0 on; its upper half lies above 2^-127.
    let up = if exponent == 0 { mantissa > 1 << 22 } else { mantissa != 0 };
    (exponent + up as u32) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn e2m1_codes() {
        let values = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0];
        for (code, &value) in values.iter().enumerate() {
            assert_eq!(e2m1(code as u32), value);
            assert_eq!(e2m1(code as u32 | 8).to_bits(), (-value).to_bits());
            assert_eq!(encode_e2m1(value), code as u8);
            assert_eq!(encode_e2m1(-value), if code == 0 { 0 } else { code as u8 | 8 });
        }
        for (low, pair) in values.windows(2).enumerate() {
            let middle = (pair[0] + pair[1]) / 2.0;
            assert_eq!(encode_e2m1(middle), low as u8);
            assert_eq!(encode_e2m1(middle.next_up()), low as u8 + 1);
            assert_eq!(encode_e2m1(-middle), if low == 0 { 0 } else { low as u8 | 8 });
        }
        assert_eq!([1e30, f32::INFINITY, -1e30].map(encode_e2m1), [7, 7, 15]);
        assert_eq!(encode_e2m1(f32::NAN), 0);
    }

    #[test]
    fn e8m0_codes() {
        for code in 0..=254u8 {
            let x = e8m0(code);
            assert_eq!(x as f64, 2f64.powi(code as i32 - 127));
            assert_eq!(encode_e8m0(x), code);
            assert_eq!(encode_e8m0(x.next_up()), code + 1);
            assert_eq!(encode_e8m0(x.next_down()), code);
        }
        assert_eq!(e8m0(255), f32::INFINITY);
        assert_eq!([0.0, 1e-45, 2e-39].map(encode_e8m0), [127, 0, 0]);
    }
}

//! Quantized matrices: what their numbers mean, and the operations on them.
//!
//! A matrix is cut into groups along its last axis. A group has a scale, and every element a code of
//! a few bits; codes of a row are one little-endian stream of bits, cut into u32 words (bit `k` of
//! code `i` is bit `i*bits + k` of the row).
//!
//! | mode | groups | codes | scale | element |
//! |---|---|---|---|---|
//! | affine | 32, 64, 128 | 1, 2, 3, 4, 5, 6 or 8 bits | dtype of the weights | `scale * code + bias` |
//! | mxfp4 | 32 | e2m1 | e8m0 | `2^(scale - 127) * code` |
//! | mxfp8 | 32 | e4m3 | e8m0 | `2^(scale - 127) * code` |
//! | nvfp4 | 16 | e2m1 | e4m3 | `scale * code`, times `global / 2688` if there is a global scale |
//!
//! The blocks of GGUF files ([`BlockFormat`]) are whole by themselves: scales lie between the codes, and a
//! row is an array of bytes.
//!
//! e2m1 codes are 0, ½, 1, 1½, 2, 3, 4, 6 and, with the highest bit set, their negatives. The mx
//! formats are those of the OCP Microscaling Formats specification 1.0.

use crate::{DType, ErrorKind, OpError};

/// How a matrix is quantized.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Quantization {
    /// Integer codes with a scale and a bias for each group.
    Affine {
        /// Elements a group: 32, 64 or 128.
        group_size: u32,
        /// Bits a code: 1, 2, 3, 4, 5, 6 or 8.
        bits: u32,
    },
    /// e2m1 codes in groups of 32, scaled by powers of two.
    MxFp4,
    /// e4m3 codes in groups of 32, scaled by powers of two.
    MxFp8,
    /// e2m1 codes in groups of 16, scaled by e4m3 numbers.
    NvFp4,
    /// Blocks of a GGUF file, as they lie there.
    Blocks(BlockFormat),
}

/// The block formats of GGUF files: bytes that hold the codes of a run of elements with their scales.
///
/// In the tables `d`, `m` are f16 numbers, `q` codes and `s`, `o` small integers that scale and shift
/// each sub-block; an element is computed in f32, product by product.
///
/// | format | elements | bytes | element |
/// |---|---|---|---|
/// | Q4_0 | 32 | 18 | `d * (q - 8)` |
/// | Q4_1 | 32 | 20 | `d * q + m` |
/// | Q5_0 | 32 | 22 | `d * (q - 16)` |
/// | Q5_1 | 32 | 24 | `d * q + m` |
/// | Q8_0 | 32 | 34 | `d * q`, `q` signed |
/// | Q2_K | 256 | 84 | `(d * s) * q - (m * o)`, sub-blocks of 16 |
/// | Q3_K | 256 | 110 | `(d * (s - 32)) * (q - 4)`, sub-blocks of 16 |
/// | Q4_K | 256 | 144 | `(d * s) * q - (m * o)`, sub-blocks of 32 |
/// | Q5_K | 256 | 176 | `(d * s) * q - (m * o)`, sub-blocks of 32 |
/// | Q6_K | 256 | 210 | `(d * s) * (q - 32)`, sub-blocks of 16 |
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum BlockFormat {
    /// Four bits, symmetric.
    Q4_0,
    /// Four bits with an offset.
    Q4_1,
    /// Five bits, symmetric.
    Q5_0,
    /// Five bits with an offset.
    Q5_1,
    /// Eight bits, symmetric.
    Q8_0,
    /// Two bits with scales and offsets of four bits.
    Q2K,
    /// Three bits with scales of six bits.
    Q3K,
    /// Four bits with scales and offsets of six bits.
    Q4K,
    /// Five bits with scales and offsets of six bits.
    Q5K,
    /// Six bits with scales of eight bits.
    Q6K,
}

impl BlockFormat {
    /// All of them.
    pub const ALL: [BlockFormat; 10] = [
        BlockFormat::Q4_0,
        BlockFormat::Q4_1,
        BlockFormat::Q5_0,
        BlockFormat::Q5_1,
        BlockFormat::Q8_0,
        BlockFormat::Q2K,
        BlockFormat::Q3K,
        BlockFormat::Q4K,
        BlockFormat::Q5K,
        BlockFormat::Q6K,
    ];

    /// The name that GGUF tools use: `Q4_0`, `Q4_K`.
    pub const fn name(self) -> &'static str {
        match self {
            BlockFormat::Q4_0 => "Q4_0",
            BlockFormat::Q4_1 => "Q4_1",
            BlockFormat::Q5_0 => "Q5_0",
            BlockFormat::Q5_1 => "Q5_1",
            BlockFormat::Q8_0 => "Q8_0",
            BlockFormat::Q2K => "Q2_K",
            BlockFormat::Q3K => "Q3_K",
            BlockFormat::Q4K => "Q4_K",
            BlockFormat::Q5K => "Q5_K",
            BlockFormat::Q6K => "Q6_K",
        }
    }

    /// Elements a block.
    pub const fn elements(self) -> usize {
        match self {
            BlockFormat::Q4_0
            | BlockFormat::Q4_1
            | BlockFormat::Q5_0
            | BlockFormat::Q5_1
            | BlockFormat::Q8_0 => 32,
            BlockFormat::Q2K
            | BlockFormat::Q3K
            | BlockFormat::Q4K
            | BlockFormat::Q5K
            | BlockFormat::Q6K => 256,
        }
    }

    /// Bytes a block.
    pub const fn bytes(self) -> usize {
        match self {
            BlockFormat::Q4_0 => 18,
            BlockFormat::Q4_1 => 20,
            BlockFormat::Q5_0 => 22,
            BlockFormat::Q5_1 => 24,
            BlockFormat::Q8_0 => 34,
            BlockFormat::Q2K => 84,
            BlockFormat::Q3K => 110,
            BlockFormat::Q4K => 144,
            BlockFormat::Q5K => 176,
            BlockFormat::Q6K => 210,
        }
    }

    /// Bits a code, scales not counted.
    pub const fn bits(self) -> usize {
        match self {
            BlockFormat::Q2K => 2,
            BlockFormat::Q3K => 3,
            BlockFormat::Q4_0 | BlockFormat::Q4_1 | BlockFormat::Q4K => 4,
            BlockFormat::Q5_0 | BlockFormat::Q5_1 | BlockFormat::Q5K => 5,
            BlockFormat::Q6K => 6,
            BlockFormat::Q8_0 => 8,
        }
    }
}

/// The largest e4m3 number times the largest e2m1 number: what a global scale of nvfp4, the largest
/// magnitude of a tensor, is mapped to.
pub const NVFP4_RANGE: f32 = 448.0 * 6.0;

impl Quantization {
    /// A mode by the name that `config.json` files give it, with MLX's defaults: `affine` (groups of
    /// 64, 4 bits), `mxfp4` (32, 4), `mxfp8` (32, 8), `nvfp4` (16, 4).
    ///
    /// # Errors
    /// If the mode is not known, or has no such group size or number of bits.
    pub fn new(
        mode: &str,
        group_size: Option<u32>,
        bits: Option<u32>,
    ) -> Result<Quantization, OpError> {
        let form = match mode {
            "affine" => Quantization::Affine {
                group_size: group_size.unwrap_or(64),
                bits: bits.unwrap_or(4),
            },
            "mxfp4" => Quantization::MxFp4,
            "mxfp8" => Quantization::MxFp8,
            "nvfp4" => Quantization::NvFp4,
            other => {
                let why = format!("the mode {other:?} is none of affine, mxfp4, mxfp8 and nvfp4");
                return Err(OpError::new(ErrorKind::Value, "quantize", why));
            }
        };
        let (g, b) = (form.group_size() as u32, form.bits() as u32);
        if group_size.is_some_and(|x| x != g) || bits.is_some_and(|x| x != b) {
            let (asked_g, asked_b) = (group_size.unwrap_or(g), bits.unwrap_or(b));
            let why = format!("{mode} has {b} bits in groups of {g}, not {asked_b} in {asked_g}");
            return Err(OpError::new(ErrorKind::Value, "quantize", why));
        }
        form.check()?;
        Ok(form)
    }

    /// Checks group size and bits of the affine mode.
    ///
    /// # Errors
    /// If there is no such affine quantization.
    pub fn check(self) -> Result<(), OpError> {
        let Quantization::Affine { group_size, bits } = self else { return Ok(()) };
        let why = if !matches!(bits, 1 | 2 | 3 | 4 | 5 | 6 | 8) {
            format!("{bits} bits; 1, 2, 3, 4, 5, 6 and 8 are possible")
        } else if !matches!(group_size, 32 | 64 | 128) {
            format!("groups of {group_size}; 32, 64 and 128 are possible")
        } else {
            return Ok(());
        };
        Err(OpError::new(ErrorKind::Value, "quantize", why))
    }

    /// The name that `config.json` files give the mode.
    pub const fn mode(self) -> &'static str {
        match self {
            Quantization::Affine { .. } => "affine",
            Quantization::MxFp4 => "mxfp4",
            Quantization::MxFp8 => "mxfp8",
            Quantization::NvFp4 => "nvfp4",
            Quantization::Blocks(format) => format.name(),
        }
    }

    /// Elements a group.
    pub const fn group_size(self) -> usize {
        match self {
            Quantization::Affine { group_size, .. } => group_size as usize,
            Quantization::MxFp4 | Quantization::MxFp8 => 32,
            Quantization::NvFp4 => 16,
            Quantization::Blocks(format) => format.elements(),
        }
    }

    /// Bits a code.
    pub const fn bits(self) -> usize {
        match self {
            Quantization::Affine { bits, .. } => bits as usize,
            Quantization::MxFp4 | Quantization::NvFp4 => 4,
            Quantization::MxFp8 => 8,
            Quantization::Blocks(format) => format.bits(),
        }
    }

    /// Whether groups have biases, and scales the weights' dtype; otherwise codes are small floats
    /// and scales are bytes, or blocks have them inside.
    pub const fn is_affine(self) -> bool {
        matches!(self, Quantization::Affine { .. })
    }

    /// The format of blocks that are whole by themselves, with neither scales nor biases beside them.
    pub const fn blocks(self) -> Option<BlockFormat> {
        match self {
            Quantization::Blocks(format) => Some(format),
            _ => None,
        }
    }

    /// The dtype of codes: words, or bytes of blocks.
    pub const fn code_dtype(self) -> DType {
        if self.blocks().is_some() { DType::U8 } else { DType::U32 }
    }

    /// The dtype of the scales of weights in `dtype`.
    pub const fn scale_dtype(self, dtype: DType) -> DType {
        if self.is_affine() { dtype } else { DType::U8 }
    }

    /// Words that `k` codes of a row take; bytes, for blocks.
    pub const fn words(self, k: usize) -> usize {
        if let Quantization::Blocks(format) = self {
            return k / format.elements() * format.bytes();
        }
        // Rows are whole groups, and 32 divides what a group's codes take.
        k / 32 * self.bits() + k % 32 * self.bits() / 32
    }
}

impl std::fmt::Display for Quantization {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Quantization::Affine { group_size, bits } => {
                write!(f, "affine with {bits} bits in groups of {group_size}")
            }
            other => f.write_str(other.mode()),
        }
    }
}

/// Operations on quantized matrices.
///
/// `parts` stands for the operands that make up a matrix: `codes u32 (…, words)`, `scales
/// (…, k/group)`, then `biases` (as scales) in the affine mode, and for nvfp4 possibly `global f32
/// (…, 1, 1)`, one number a matrix; blocks are one operand, `u8 (…, bytes)`. Float operands are f16,
/// bf16 or f32.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum QuantizedOp {
    /// `w (…, k) [, global (…, 1, 1)]` → outputs `codes`, `scales` and in the affine mode `biases`.
    /// All arithmetic in f32.
    ///
    /// **affine**: with `mx`, `mn` of the group and `n = 2^bits - 1`, `neg = |mn| > |mx|`,
    /// `s = max((mx-mn)/n, 1e-7)`, `s = neg ? s : -s`, `edge = neg ? mn : mx`, `q0 = rint(edge/s)`;
    /// if `q0 != 0` then `s = edge/q0, b = edge` else `b = 0`; with one bit `s = max(mx-mn, 1e-7)`
    /// and `b = mn`. `code = clamp(rint((w-b)/s), 0, n)`; `rint` rounds half to even; `s`, `b` are
    /// rounded to the dtype after that.
    ///
    /// **mxfp4, mxfp8**: with the largest magnitude `a` and the largest code `c` (6 or 448), `e` is
    /// the smallest exponent of at least -127 with `2^e >= a/c` (0 if `a` is 0); the code is nearest
    /// to `w / 2^e`.
    ///
    /// **nvfp4**: the scale `s` is the e4m3 number nearest to `a/6 [* (2688/global)]`; the code is
    /// nearest to `w/s [* (2688/global)]`, and 0 if `s` is 0. A global scale that is not positive and
    /// finite is an error.
    ///
    /// Of two e2m1 codes equally near the one of smaller magnitude is taken, of two e4m3 codes the
    /// even one; e2m1 has no negative zero here. Values beyond the largest code saturate. A group
    /// with a NaN or an infinity gets the scale that makes it NaN (255, or 127 for nvfp4) and zeros
    /// for codes.
    ///
    /// **blocks** are read from files, not made: an error.
    Quantize(Quantization),
    /// `parts` → `w` in the output's dtype, computed in f32 and rounded once.
    Dequantize(Quantization),
    /// `x (…, k) [, global (…, 1, 1)]` → what quantizing and dequantizing make of it, in the output's
    /// dtype.
    FakeQuantize(Quantization),
    /// `x (…, m, k), parts` → `(…, m, n)` in `x`'s dtype, f32 accumulation. `transpose`: the matrix
    /// is stored `(…, n, k)` and the product is `x · wᵀ`; otherwise it is stored `(…, k, n)`. Batch
    /// axes are broadcast beforehand (stride 0). Products of many bf16 rows may round the weights of
    /// blocks to bf16, as [`QuantizedOp::Dequantize`] does.
    Matmul {
        /// Packing of the matrix.
        quantization: Quantization,
        /// Whether the matrix is stored `(n, k)`.
        transpose: bool,
    },
    /// `x (…, m, k), parts, lhs, rhs` → `(I…, m, n)`: as [`QuantizedOp::Matmul`] with the matrices that
    /// indices pick, as in [`GroupedOp::Gather`](crate::GroupedOp::Gather).
    GatherMatmul {
        /// Packing of the matrices.
        quantization: Quantization,
        /// Whether the matrices are stored `(n, k)`.
        transpose: bool,
    },
}

impl QuantizedOp {
    /// The public function's name.
    pub const fn name(self) -> &'static str {
        match self {
            QuantizedOp::Quantize(_) => "quantize",
            QuantizedOp::Dequantize(_) => "dequantize",
            QuantizedOp::FakeQuantize(_) => "fake_quantize",
            QuantizedOp::Matmul { .. } => "quantized_matmul",
            QuantizedOp::GatherMatmul { .. } => "gather_qmm",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_by_name() {
        let affine = |group_size, bits| Quantization::Affine { group_size, bits };
        assert_eq!(Quantization::new("affine", None, None).unwrap(), affine(64, 4));
        assert_eq!(Quantization::new("affine", Some(32), Some(1)).unwrap(), affine(32, 1));
        for (mode, form, group, bits) in [
            ("mxfp4", Quantization::MxFp4, 32, 4),
            ("mxfp8", Quantization::MxFp8, 32, 8),
            ("nvfp4", Quantization::NvFp4, 16, 4),
        ] {
            assert_eq!(Quantization::new(mode, None, None).unwrap(), form);
            assert_eq!(Quantization::new(mode, Some(group), Some(bits)).unwrap(), form);
            assert!(Quantization::new(mode, Some(64), None).is_err());
            assert!(Quantization::new(mode, None, Some(3)).is_err());
            assert_eq!((form.mode(), form.bits(), form.is_affine()), (mode, bits as usize, false));
            assert_eq!(form.scale_dtype(DType::F16), DType::U8);
        }
        for (mode, group, bits) in
            [("fp4", None, None), ("affine", Some(16), None), ("affine", None, Some(7))]
        {
            let error = Quantization::new(mode, group, bits).unwrap_err();
            assert_eq!((error.kind(), error.op()), (ErrorKind::Value, "quantize"));
        }
    }

    #[test]
    fn rows_of_blocks() {
        for format in BlockFormat::ALL {
            let form = Quantization::Blocks(format);
            let (n, bytes) = (format.elements(), format.bytes());
            assert_eq!((form.words(0), form.words(3 * n)), (0, 3 * bytes));
            assert_eq!((form.code_dtype(), form.is_affine()), (DType::U8, false));
            // Every format spends at least its codes' bits, and at most one and three quarters more.
            assert!(bytes * 8 >= n * format.bits() && bytes * 32 <= n * (4 * format.bits() + 8));
            assert!(form.check().is_ok() && Quantization::new(form.mode(), None, None).is_err());
        }
        assert_eq!(Quantization::MxFp4.code_dtype(), DType::U32);
    }

    #[test]
    fn words_of_a_row() {
        assert_eq!(Quantization::NvFp4.words(48), 6);
        assert_eq!(Quantization::MxFp8.words(32), 8);
        assert_eq!(Quantization::Affine { group_size: 32, bits: 5 }.words(96), 15);
        assert_eq!(
            Quantization::Affine { group_size: 32, bits: 1 }.words(usize::MAX / 32 * 32),
            usize::MAX / 32
        );
    }
}

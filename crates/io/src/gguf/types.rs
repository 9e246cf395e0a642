//! The types of tensors in GGUF files: one row a type.

use lazul_core::{BlockFormat, DType};

use crate::error::{Error, Result};
use crate::size::Extent;

macro_rules! types {
    ($($(#[$doc:meta])* $name:ident = $id:literal, $text:literal, $elements:literal, $bytes:literal, $as:expr;)*) => {
        /// The type of a tensor, as a GGUF file numbers it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[allow(non_camel_case_types)]
        #[non_exhaustive]
        pub enum GgufType { $($(#[$doc])* $name,)* }

        impl GgufType {
            /// The type of a number in a file; `None` for a number that has no type here.
            ///
            /// ```
            /// use lazul_io::gguf::GgufType;
            /// assert_eq!(GgufType::from_id(12), Some(GgufType::Q4_K));
            /// assert_eq!(GgufType::from_id(4), None); // was Q4_2 once
            /// ```
            pub fn from_id(id: u32) -> Option<GgufType> {
                match id { $($id => Some(GgufType::$name),)* _ => None }
            }

            /// The number in the file.
            ///
            /// ```
            /// use lazul_io::gguf::GgufType;
            /// assert_eq!(GgufType::BF16.id(), 30);
            /// ```
            pub fn id(self) -> u32 {
                match self { $(GgufType::$name => $id,)* }
            }

            /// The name that GGUF tools use.
            ///
            /// ```
            /// use lazul_io::gguf::GgufType;
            /// assert_eq!(GgufType::Q4_K.name(), "Q4_K");
            /// ```
            pub fn name(self) -> &'static str {
                match self { $(GgufType::$name => $text,)* }
            }

            /// Elements of a block, and its bytes; one element, for types without blocks.
            ///
            /// ```
            /// use lazul_io::gguf::GgufType;
            /// let (elements, bytes) = GgufType::Q4_K.block();
            /// assert_eq!(f64::from(bytes * 8) / f64::from(elements), 4.5); // bits an element
            /// ```
            pub fn block(self) -> (u32, u32) {
                match self { $(GgufType::$name => ($elements, $bytes),)* }
            }

            pub(super) fn stored(self) -> Stored {
                match self { $(GgufType::$name => $as,)* }
            }
        }
    };
}

/// What a tensor becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stored {
    Dense(DType),
    Blocks(BlockFormat),
    /// Described, but not read.
    Foreign,
}

use BlockFormat as B;
use Stored::{Blocks, Dense, Foreign};

types! {
    /// IEEE single precision.
    F32 = 0, "F32", 1, 4, Dense(DType::F32);
    /// IEEE half precision.
    F16 = 1, "F16", 1, 2, Dense(DType::F16);
    /// Four bits, symmetric.
    Q4_0 = 2, "Q4_0", 32, 18, Blocks(B::Q4_0);
    /// Four bits with an offset.
    Q4_1 = 3, "Q4_1", 32, 20, Blocks(B::Q4_1);
    /// Five bits, symmetric.
    Q5_0 = 6, "Q5_0", 32, 22, Blocks(B::Q5_0);
    /// Five bits with an offset.
    Q5_1 = 7, "Q5_1", 32, 24, Blocks(B::Q5_1);
    /// Eight bits, symmetric.
    Q8_0 = 8, "Q8_0", 32, 34, Blocks(B::Q8_0);
    /// Eight bits with a sum; an intermediate form that is not read.
    Q8_1 = 9, "Q8_1", 32, 40, Foreign;
    /// Two bits in sub-blocks.
    Q2_K = 10, "Q2_K", 256, 84, Blocks(B::Q2K);
    /// Three bits in sub-blocks.
    Q3_K = 11, "Q3_K", 256, 110, Blocks(B::Q3K);
    /// Four bits in sub-blocks.
    Q4_K = 12, "Q4_K", 256, 144, Blocks(B::Q4K);
    /// Five bits in sub-blocks.
    Q5_K = 13, "Q5_K", 256, 176, Blocks(B::Q5K);
    /// Six bits in sub-blocks.
    Q6_K = 14, "Q6_K", 256, 210, Blocks(B::Q6K);
    /// Eight bits of 256; an intermediate form that is not read.
    Q8_K = 15, "Q8_K", 256, 292, Foreign;
    /// Codebooks of about 2 bits; not read.
    IQ2_XXS = 16, "IQ2_XXS", 256, 66, Foreign;
    /// Codebooks of about 2.3 bits; not read.
    IQ2_XS = 17, "IQ2_XS", 256, 74, Foreign;
    /// Codebooks of about 3 bits; not read.
    IQ3_XXS = 18, "IQ3_XXS", 256, 98, Foreign;
    /// Codebooks of about 1.5 bits; not read.
    IQ1_S = 19, "IQ1_S", 256, 50, Foreign;
    /// Four bits by a table; not read.
    IQ4_NL = 20, "IQ4_NL", 32, 18, Foreign;
    /// Codebooks of about 3.4 bits; not read.
    IQ3_S = 21, "IQ3_S", 256, 110, Foreign;
    /// Codebooks of about 2.5 bits; not read.
    IQ2_S = 22, "IQ2_S", 256, 82, Foreign;
    /// Four bits by a table, in sub-blocks; not read.
    IQ4_XS = 23, "IQ4_XS", 256, 136, Foreign;
    /// Signed 8 bits.
    I8 = 24, "I8", 1, 1, Dense(DType::I8);
    /// Signed 16 bits.
    I16 = 25, "I16", 1, 2, Dense(DType::I16);
    /// Signed 32 bits.
    I32 = 26, "I32", 1, 4, Dense(DType::I32);
    /// Signed 64 bits.
    I64 = 27, "I64", 1, 8, Dense(DType::I64);
    /// IEEE double precision.
    F64 = 28, "F64", 1, 8, Dense(DType::F64);
    /// Codebooks of about 1.75 bits; not read.
    IQ1_M = 29, "IQ1_M", 256, 56, Foreign;
    /// bfloat16.
    BF16 = 30, "BF16", 1, 2, Dense(DType::BF16);
    /// Ternary digits; not read.
    TQ1_0 = 34, "TQ1_0", 256, 54, Foreign;
    /// Ternary digits of two bits; not read.
    TQ2_0 = 35, "TQ2_0", 256, 66, Foreign;
    /// e2m1 codes with an e8m0 scale inside; not read.
    MXFP4 = 39, "MXFP4", 32, 17, Foreign;
}

impl GgufType {
    /// Elements and bytes of a tensor; `shape` has the axis of blocks last.
    pub(super) fn extent(self, shape: &[usize]) -> Result<Extent> {
        let (elements, bytes) = self.block();
        let last = shape.last().copied().unwrap_or(1);
        let per_block = usize::try_from(elements).unwrap_or(1).max(1);
        if !last.is_multiple_of(per_block) {
            return Err(Error::malformed(format!(
                "rows of {last} elements are not whole blocks of {elements}, as {} needs",
                self.name()
            )));
        }
        // Elements too must be countable, as numbers of one byte at least.
        let elements = Extent::new(shape, 8)?.elements;
        let mut blocks = shape.to_vec();
        if let Some(last) = blocks.last_mut() {
            *last = last.checked_div(per_block).unwrap_or(0);
        }
        let size = Extent::new(&blocks, bytes.saturating_mul(8))?;
        Ok(Extent { elements, bytes: size.bytes })
    }

    /// The type of a block format.
    pub(super) fn of_blocks(format: BlockFormat) -> Option<GgufType> {
        let of = |id: &u32| GgufType::from_id(*id).filter(|kind| kind.stored() == Blocks(format));
        (0..64).find_map(|id| of(&id))
    }

    /// The type that a dtype is saved as.
    pub(super) fn of(dtype: DType) -> Option<GgufType> {
        Some(match dtype {
            DType::F32 => GgufType::F32,
            DType::F16 => GgufType::F16,
            DType::BF16 => GgufType::BF16,
            DType::F64 => GgufType::F64,
            DType::I8 => GgufType::I8,
            DType::I16 => GgufType::I16,
            DType::I32 => GgufType::I32,
            DType::I64 => GgufType::I64,
            DType::Bool | DType::U8 | DType::U16 | DType::U32 | DType::U64 | DType::C64 => {
                return None;
            }
        })
    }
}

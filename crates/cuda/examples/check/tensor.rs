//! Operands in host memory under any layout, their values, and how results are compared.

use lazul_ir::{DType, Operand, Scalar, Shape};

/// A small generator of values (SplitMix64).
pub(crate) struct Rng(pub(crate) u64);

impl Rng {
    /// 64 random bits.
    pub(crate) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        (self.bits() % n as u64) as usize
    }

    /// A number from `[low, high)`.
    pub(crate) fn uniform(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// Elements of one dtype under a layout.
#[derive(Clone)]
pub(crate) struct Tensor {
    pub(crate) memory: Vec<u64>,
    pub(crate) dtype: DType,
    pub(crate) shape: Vec<usize>,
    pub(crate) strides: Vec<isize>,
    pub(crate) offset: usize,
}

pub(crate) fn row_major(shape: &[usize]) -> Vec<isize> {
    Shape::new(shape).strides().to_vec()
}

fn offset_of(mut linear: usize, shape: &[usize], strides: &[isize]) -> isize {
    let mut offset = 0;
    for (&d, &s) in shape.iter().zip(strides).rev() {
        offset += (linear % d) as isize * s;
        linear /= d;
    }
    offset
}

impl Tensor {
    /// Row-major memory full of nonsense.
    pub(crate) fn empty(dtype: DType, shape: &[usize]) -> Tensor {
        let bytes = shape.iter().product::<usize>() * dtype.size();
        let memory = vec![0xa5a5_a5a5_a5a5_a5a5; bytes.div_ceil(8) + 2];
        Tensor { memory, dtype, shape: shape.into(), strides: row_major(shape), offset: 0 }
    }

    /// Row-major elements from bits.
    pub(crate) fn from_bits(
        dtype: DType,
        shape: &[usize],
        mut bits: impl FnMut(usize) -> u64,
    ) -> Tensor {
        let mut t = Tensor::empty(dtype, shape);
        for i in 0..t.size() {
            t.set(i, bits(i));
        }
        t
    }

    /// Row-major elements from numbers.
    pub(crate) fn from_f64(
        dtype: DType,
        shape: &[usize],
        mut value: impl FnMut(usize) -> f64,
    ) -> Tensor {
        Tensor::from_bits(dtype, shape, |i| Scalar::from_f64(value(i), dtype).bits)
    }

    /// Numbers from `[low, high)`; both parts of complex ones.
    pub(crate) fn random(
        rng: &mut Rng,
        dtype: DType,
        shape: &[usize],
        low: f64,
        high: f64,
    ) -> Tensor {
        if dtype == DType::C64 {
            return Tensor::from_bits(dtype, shape, |_| {
                let part = |x: f64| (x as f32).to_bits() as u64;
                part(rng.uniform(low, high)) | part(rng.uniform(low, high)) << 32
            });
        }
        Tensor::from_f64(dtype, shape, |_| rng.uniform(low, high))
    }

    /// Any bits, with special values of floats among them.
    pub(crate) fn wild(rng: &mut Rng, dtype: DType, shape: &[usize]) -> Tensor {
        const SPECIAL: [f64; 12] = [
            0.0,
            -0.0,
            1.0,
            -1.0,
            0.5,
            f64::INFINITY,
            f64::NEG_INFINITY,
            f64::NAN,
            1e-8,
            300.0,
            -70.0,
            2.5,
        ];
        let mask = u64::MAX >> (64 - 8 * dtype.size());
        Tensor::from_bits(dtype, shape, |i| match dtype {
            DType::Bool => rng.bits() & 1,
            d if d.is_integer() && i % 3 > 0 => rng.bits() & mask,
            d if d.is_integer() => {
                Scalar::from_f64(
                    rng.uniform(-9.0, 9.0).floor().max(if d.is_unsigned() { 0.0 } else { -9.0 }),
                    d,
                )
                .bits
            }
            DType::C64 => {
                let part = |x: f64| (x as f32).to_bits() as u64;
                part(rng.uniform(-3.0, 3.0)) | part(rng.uniform(-3.0, 3.0)) << 32
            }
            d if i % 5 == 0 => Scalar::from_f64(SPECIAL[rng.below(SPECIAL.len())], d).bits,
            d if i % 5 == 1 => Scalar::from_f64(rng.uniform(-1.0, 1.0), d).bits,
            d => Scalar::from_f64(rng.uniform(-20.0, 20.0), d).bits,
        })
    }

    pub(crate) fn size(&self) -> usize {
        self.shape.iter().product()
    }

    fn address(&self, position: usize) -> *mut u8 {
        // SAFETY: positions lie in the memory that the layout was made for.
        unsafe { self.memory.as_ptr().cast::<u8>().cast_mut().add(position * self.dtype.size()) }
    }

    pub(crate) fn set(&mut self, position: usize, bits: u64) {
        let size = self.dtype.size();
        // SAFETY: as above.
        unsafe {
            std::ptr::copy_nonoverlapping(
                bits.to_le_bytes().as_ptr(),
                self.address(position),
                size,
            );
        }
    }

    fn get(&self, position: usize) -> u64 {
        let mut bytes = [0u8; 8];
        // SAFETY: as above.
        unsafe {
            let from = self.address(position);
            std::ptr::copy_nonoverlapping(from, bytes.as_mut_ptr(), self.dtype.size());
        }
        u64::from_le_bytes(bytes)
    }

    /// Every element, in row-major order of the shape.
    pub(crate) fn scalars(&self) -> Vec<Scalar> {
        (0..self.size())
            .map(|i| {
                let at = self.offset as isize + offset_of(i, &self.shape, &self.strides);
                Scalar { bits: self.get(at as usize), dtype: self.dtype }
            })
            .collect()
    }

    /// As an operand whose memory begins at `base`.
    pub(crate) fn operand_at(&self, base: *const u8) -> Operand<'_> {
        let ptr = base.wrapping_add(self.offset * self.dtype.size());
        Operand { ptr, dtype: self.dtype, shape: &self.shape, strides: &self.strides }
    }

    pub(crate) fn operand(&self) -> Operand<'_> {
        self.operand_at(self.memory.as_ptr().cast())
    }

    /// The same elements stored at `strides` from `offset`, in `len` elements of memory.
    pub(crate) fn stored(&self, len: usize, strides: &[isize], offset: usize) -> Tensor {
        let mut t = Tensor {
            memory: vec![0xa5a5_a5a5_a5a5_a5a5; (len * self.dtype.size()).div_ceil(8) + 2],
            dtype: self.dtype,
            shape: self.shape.clone(),
            strides: strides.to_vec(),
            offset,
        };
        for (i, s) in self.scalars().into_iter().enumerate() {
            let at = offset as isize + offset_of(i, &t.shape, strides);
            t.set(at as usize, s.bits);
        }
        t
    }

    /// Row-major memory of its own.
    pub(crate) fn dense(&self) -> Tensor {
        self.stored(self.size(), &row_major(&self.shape), 0)
    }

    pub(crate) fn transpose(&self, perm: &[usize]) -> Tensor {
        Tensor {
            shape: perm.iter().map(|&p| self.shape[p]).collect(),
            strides: perm.iter().map(|&p| self.strides[p]).collect(),
            ..self.clone()
        }
    }

    /// Broadcast by stride 0.
    pub(crate) fn broadcast(&self, shape: &[usize]) -> Tensor {
        let lead = shape.len() - self.shape.len();
        let mut strides = vec![0; shape.len()];
        for (i, &d) in self.shape.iter().enumerate() {
            strides[lead + i] = if d == 1 { 0 } else { self.strides[i] };
        }
        Tensor { shape: shape.to_vec(), strides, ..self.clone() }
    }
}

/// The same elements under every kind of layout.
pub(crate) fn layouts(t: &Tensor) -> Vec<(&'static str, Tensor)> {
    let (shape, n) = (&t.shape, t.size());
    let row = row_major(shape);
    let mut column = vec![0; shape.len()];
    let mut step = 1;
    for (s, &d) in column.iter_mut().zip(shape) {
        *s = step;
        step *= d.max(1) as isize;
    }
    let twice: Vec<isize> = row.iter().map(|s| s * 2).collect();
    let reversed: Vec<isize> = row.iter().map(|s| -s).collect();
    let (mut padded, mut padded_len) = (row.clone(), n);
    if let Some(&last) = shape.last() {
        let mut step = last as isize + 3;
        for (s, &d) in padded.iter_mut().zip(shape).rev().skip(1) {
            *s = step;
            step *= d.max(1) as isize;
        }
        padded_len = step.unsigned_abs() + last;
    }
    vec![
        ("contiguous", t.stored(n, &row, 0)),
        ("offset", t.stored(n + 3, &row, 3)),
        ("column-major", t.stored(n, &column, 0)),
        ("step two", t.stored(2 * n, &twice, 0)),
        ("reversed", t.stored(n, &reversed, n.saturating_sub(1))),
        ("padded rows", t.stored(padded_len, &padded, 0)),
    ]
}

/// How far a result may be from the reference: `rel * |reference| + abs`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tolerance {
    pub(crate) rel: f64,
    pub(crate) abs: f64,
}

/// The distance of 1 to the next number.
pub(crate) fn epsilon(dtype: DType) -> f64 {
    match dtype {
        DType::BF16 => 2f64.powi(-7),
        DType::F16 => 2f64.powi(-10),
        DType::F32 | DType::C64 => 2f64.powi(-23),
        DType::F64 => 2f64.powi(-52),
        _ => 0.0,
    }
}

/// The least number that a dtype holds.
fn least(dtype: DType) -> f64 {
    match dtype {
        DType::BF16 => 1e-40,
        DType::F16 => 6e-8,
        DType::F32 | DType::C64 => 1e-44,
        _ => 0.0,
    }
}

/// The first element that is too far from the reference, described.
pub(crate) fn difference(got: &Tensor, want: &Tensor, tolerance: Tolerance) -> Option<String> {
    let (got, want) = (got.scalars(), want.scalars());
    for (i, (g, w)) in got.iter().zip(&want).enumerate() {
        let ok = if g.dtype.is_inexact() {
            let ((gr, gi), (wr, wi)) = (g.to_c128(), w.to_c128());
            let size = wr.hypot(wi);
            let bound = tolerance.rel * size + tolerance.abs + least(g.dtype);
            let near =
                |g: f64, w: f64| g == w || (g.is_nan() && w.is_nan()) || (g - w).abs() <= bound;
            // Complex results with a part that is no number have no agreed other part.
            let undefined = g.dtype == DType::C64 && !size.is_finite() && !gr.hypot(gi).is_finite();
            undefined || (near(gr, wr) && near(gi, wi))
        } else {
            g.bits == w.bits
        };
        if !ok {
            return Some(format!("element {i} of {}: {g:?}, not {w:?}", want.len()));
        }
    }
    None
}

//! Moments in 8 bits.
//!
//! A moment is cut into blocks of 256 elements, and each element is kept as the nearest of 256 numbers between
//! its block's greatest magnitude and zero. The numbers lie closer together towards zero (a dynamic tree): seven
//! decades have 128 numbers, most of them in the upper ones. Sources: Dettmers, 2016 (the numbers); Dettmers et
//! al., 2022 (blocks).

use super::{One, Optimizer, Rate, Slots, Step};
use lazul_core::{Array, DType, Pad, Result, Side};
use std::sync::LazyLock;

/// Elements that share a greatest magnitude.
const BLOCK: usize = 256;

/// An optimizer whose moments take a byte an element instead of four: of parameters with 4096 elements or more,
/// slot `m` becomes the codes `m`, u8 in the parameter's shape, and the magnitudes `m_max`, f32, one a block.
///
/// Steps are those of the optimizer with moments that are rounded in between: the loss of a training goes
/// down as fast.
///
/// ```
/// use lazul_core::prelude::*;
/// use lazul_nn::optim::{Adam, EightBit, Optimizer};
/// let w: lazul_nn::Parameters = [("w".to_string(), ones([64, 64], DType::F32))].into();
/// let bytes = |state: &lazul_nn::optim::State| -> lazul_core::Result<usize> {
///     state.slots["w"].values().map(|slot| slot.nbytes()).sum()
/// };
/// let (full, small) = (Adam::new(0.1).init(&w)?, EightBit::new(Adam::new(0.1)).init(&w)?);
/// assert_eq!((bytes(&full)?, bytes(&small)?), (32768, 8320));
/// # Ok::<(), lazul_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct EightBit<O> {
    /// The optimizer.
    pub inner: O,
    /// Parameters of fewer elements keep exact moments; 4096.
    pub least: usize,
}

impl<O: Optimizer> EightBit<O> {
    /// With exact moments for parameters of fewer than 4096 elements.
    pub fn new(inner: O) -> EightBit<O> {
        EightBit { inner, least: 4096 }
    }

    /// Whether a slot is one to keep in 8 bits: a moment of the parameter's shape, in f32.
    fn takes(&self, one: &One<'_>, slot: &Array) -> Result<bool> {
        Ok(slot.dtype()? == DType::F32
            && slot.shape()? == one.value.shape()?
            && slot.size()? >= self.least.max(1))
    }

    fn packed(&self, one: &One<'_>, exact: Slots) -> Result<Slots> {
        let mut slots = Slots::new();
        for (name, moment) in exact {
            // What a step starts from is no moment: it would be lost in the rounding.
            if name == super::mixed::MASTER || !self.takes(one, &moment)? {
                slots.insert(name, moment);
                continue;
            }
            let table = Table::of(self.inner.is_never_negative(one, &name));
            let (codes, most) = table.pack(&moment)?;
            slots.insert(format!("{name}{MOST}"), most);
            slots.insert(name, codes);
        }
        Ok(slots)
    }

    fn exact(&self, one: &One<'_>, slots: &Slots) -> Result<Slots> {
        let mut exact = Slots::new();
        for (name, slot) in slots {
            if slot.dtype()? == DType::U8
                && let Some(most) = slots.get(&format!("{name}{MOST}"))
            {
                let table = Table::of(self.inner.is_never_negative(one, name));
                exact.insert(name.clone(), table.unpack(slot, most)?);
            } else if !name.strip_suffix(MOST).is_some_and(|n| slots.contains_key(n)) {
                exact.insert(name.clone(), slot.clone());
            }
        }
        Ok(exact)
    }
}

/// What is added to a slot's name for the magnitudes of its blocks.
const MOST: &str = "_max";

impl<O: Optimizer> Optimizer for EightBit<O> {
    fn rates(&self) -> Vec<&Rate> {
        self.inner.rates()
    }

    fn validate(&self) -> Result<()> {
        self.inner.validate()
    }

    fn slots(&self, one: &One<'_>) -> Slots {
        let exact = self.inner.slots(one);
        // A slot that failed stays, for the step to say so.
        self.packed(one, exact.clone()).unwrap_or(exact)
    }

    fn step(&self, at: &Step<'_>, one: &One<'_>, slots: &mut Slots) -> Result<Array> {
        let mut exact = self.exact(one, slots)?;
        let new = self.inner.step(at, one, &mut exact)?;
        *slots = self.packed(one, exact)?;
        Ok(new)
    }

    fn shrink(&self, one: &One<'_>, factor: &Array, slots: &mut Slots) -> Result<Array> {
        let mut exact = self.exact(one, slots)?;
        let new = self.inner.shrink(one, factor, &mut exact)?;
        *slots = self.packed(one, exact)?;
        Ok(new)
    }

    fn is_never_negative(&self, one: &One<'_>, slot: &str) -> bool {
        self.inner.is_never_negative(one, slot)
    }
}

/// The numbers that codes stand for, in order.
struct Table {
    values: Vec<f32>,
    /// Between a number and the next.
    middles: Vec<f32>,
}

impl Table {
    /// For moments of any sign, or for those that are never below zero.
    fn of(never_negative: bool) -> &'static Table {
        static BOTH: LazyLock<Table> = LazyLock::new(|| Table::new(true));
        static ABOVE: LazyLock<Table> = LazyLock::new(|| Table::new(false));
        if never_negative { &ABOVE } else { &BOTH }
    }

    /// Decade by decade, from the lowest, twice as many numbers: the middles of equal parts of it.
    fn new(signed: bool) -> Table {
        let mut values = vec![0.0, 1.0];
        for decade in 0..7 {
            let parts = (if signed { 1 } else { 2 }) << decade;
            for part in 0..parts {
                let within = 0.1 + 0.9 * (part as f64 + 0.5) / parts as f64;
                let value = within * 10f64.powi(decade - 6);
                values.push(value as f32);
                if signed {
                    values.push(-value as f32);
                }
            }
        }
        values.sort_by(f32::total_cmp);
        debug_assert_eq!(values.len(), 256);
        let middles = values.windows(2).map(|w| w[0] + (w[1] - w[0]) / 2.0).collect();
        Table { values, middles }
    }

    /// Codes in the shape of `x`, and the greatest magnitude of each block.
    fn pack(&self, x: &Array) -> Result<(Array, Array)> {
        let n = x.size()?;
        let blocks = blocks(&x.flatten(0, -1), n)?; // (blocks, BLOCK)
        let most = blocks.abs().max(1); // (blocks)
        // A block of zeros stays zero.
        let unit = &blocks / most.maximum(f32::MIN_POSITIVE).expand_dims(-1);
        let middles = Array::from_slice(&self.middles, [self.middles.len()]);
        let mut codes = middles.searchsorted(&unit, Side::Left);
        if self.values[0] == 0.0 {
            // A second moment divides: rounded to zero, it would make a step of any length.
            codes = codes.maximum(blocks.greater(0.0).astype(DType::U32));
        }
        let codes = codes.astype(DType::U8);
        Ok((codes.flatten(0, -1).slice_axis(0, 0, n as i64).reshape(x.shape()?), most))
    }

    /// What [`Table::pack`] packed.
    fn unpack(&self, codes: &Array, most: &Array) -> Result<Array> {
        let n = codes.size()?;
        let values = Array::from_slice(&self.values, [self.values.len()]);
        let blocks = blocks(&codes.flatten(0, -1), n)?;
        let x = values.take(&blocks, 0) * most.expand_dims(-1); // (blocks, BLOCK)
        Ok(x.flatten(0, -1).slice_axis(0, 0, n as i64).reshape(codes.shape()?))
    }
}

/// A vector of `n` elements as rows of [`BLOCK`], the last filled up with zeros.
fn blocks(flat: &Array, n: usize) -> Result<Array> {
    let rows = n.div_ceil(BLOCK);
    let rest = rows * BLOCK - n;
    let full = if rest == 0 { flat.clone() } else { flat.pad(&[(0, rest)], Pad::Constant(0.0)) };
    full.check()?;
    Ok(full.reshape([rows, BLOCK]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::optim::{Adam, AdamW, Lion, Master};
    use crate::{Layer, Linear, Module, Sequential, layers::Activation, value_and_grad};
    use lazul_core::{eval, random};

    #[test]
    fn a_moment_comes_back_near_and_in_place() -> Result<()> {
        for signed in [true, false] {
            let table = Table::of(!signed);
            assert_eq!(table.values.len(), 256);
            assert!(table.values.windows(2).all(|w| w[0] < w[1]));
            // Blocks of magnitudes that differ much, and a last one that is not full.
            let x = random::normal([5, 131], DType::F32, Some(&random::key(0)));
            let size = Array::from_slice(&[1.0f32, 1e-3, 1e3, 1e-6, 1.0], [5, 1]);
            let x = if signed { x * size } else { x.square() * size };
            let (codes, most) = table.pack(&x)?;
            assert_eq!((codes.shape()?, codes.dtype()?), (&[5, 131][..], DType::U8));
            assert_eq!(most.shape()?, [3]);
            let back = table.unpack(&codes, &most)?.to_vec::<f32>()?;
            let most = most.to_vec::<f32>()?;
            for (i, (a, b)) in x.to_vec::<f32>()?.into_iter().zip(back).enumerate() {
                let block = most[i / BLOCK];
                // Half a step of the upper decade, 0.9 / 64 or 0.9 / 128, and relative below it.
                let step = block * if signed { 0.0071 } else { 0.0036 };
                assert!((a - b).abs() <= step * 1.01, "{i}: {a} became {b}");
                assert!(a * b >= 0.0 && (signed || (a == 0.0) == (b == 0.0)), "{a} became {b}");
            }
        }
        let zero = Array::from_slice(&[0.0f32; 300], [300]);
        let (codes, most) = Table::of(false).pack(&zero)?;
        assert_eq!(Table::of(false).unpack(&codes, &most)?.to_vec::<f32>()?, [0.0; 300]);
        Ok(())
    }

    /// A training with 8 bits goes as one without.
    #[test]
    fn losses_go_down_as_with_exact_moments() -> Result<()> {
        let x = random::normal([256, 32], DType::F32, Some(&random::key(1)));
        let w = random::normal([32, 8], DType::F32, Some(&random::key(2)));
        let y = x.matmul(&w).sin();
        let run = |optimizer: &dyn Optimizer| -> Result<Vec<f32>> {
            let mut model = Sequential::new()
                .then(Linear::init(32, 128, true, Some(&random::key(3)))?)
                .then(Activation::Tanh)
                .then(Linear::init(128, 8, true, Some(&random::key(4)))?);
            let mut state = optimizer.init(&model.trainable_parameters())?;
            let loss = |m: &mut Sequential| (m.forward(&x) - &y).square().mean(..);
            let step = value_and_grad(loss);
            let mut losses = Vec::new();
            for _ in 0..150 {
                let (loss, grads) = step(&mut model)?;
                optimizer.update(&mut state, &mut model, &grads)?;
                eval(model.parameters().into_iter().map(|(_, a)| a))?;
                losses.push(loss.item::<f32>()?);
            }
            Ok(losses)
        };
        let rate = 3e-3;
        let pairs: [(Box<dyn Optimizer>, Box<dyn Optimizer>); 3] = [
            (Box::new(Adam::new(rate)), Box::new(EightBit { least: 1, inner: Adam::new(rate) })),
            (Box::new(AdamW::new(rate)), Box::new(EightBit::new(AdamW::new(rate)))),
            (Box::new(Lion::new(1e-3)), Box::new(EightBit::new(Lion::new(1e-3)))),
        ];
        for (i, (exact, small)) in pairs.iter().enumerate() {
            let (a, b) = (run(&**exact)?, run(&**small)?);
            assert!(a[149] < a[0] * 0.9, "{i}: {a:?}");
            for (step, (a, b)) in a.iter().zip(&b).enumerate() {
                assert!((a - b).abs() < 0.1 * a + 0.01, "{i}, step {step}: {a} and {b}");
            }
            assert_ne!(a, b, "{i}: moments were not rounded");
        }
        Ok(())
    }

    #[test]
    fn exact_copies_stay_exact() -> Result<()> {
        let w = random::normal([64, 64], DType::BF16, Some(&random::key(0)));
        let w: crate::Parameters = [("w".to_string(), w)].into();
        for optimizer in [
            Box::new(EightBit::new(Master(Adam::new(1e-4)))) as Box<dyn Optimizer>,
            Box::new(Master(EightBit::new(Adam::new(1e-4)))),
        ] {
            let mut state = optimizer.init(&w)?;
            let dtypes = |state: &crate::optim::State| -> Result<Vec<(String, DType)>> {
                state.slots["w"].iter().map(|(n, a)| Ok((n.clone(), a.dtype()?))).collect()
            };
            let before = dtypes(&state)?;
            let f32 = |name: &str| (name.to_string(), DType::F32);
            let u8 = |name: &str| (name.to_string(), DType::U8);
            assert_eq!(before, [u8("m"), f32("m_max"), f32("master"), u8("v"), f32("v_max")]);
            optimizer.apply(&mut state, &w, &w)?;
            assert_eq!(dtypes(&state)?, before);
        }
        Ok(())
    }
}

//! Cases of random bits: functions of a key, which is an integer and has no derivative.

use crate::case::{Case, Input};
use lazul_core::{Array, DType, random};
use lazul_testkit::Rng;

fn key(rng: &mut Rng) -> Array {
    random::key(rng.bits())
}

pub(crate) fn bits() -> Vec<Case> {
    let mut all = Vec::new();
    for dtype in [DType::U8, DType::U16, DType::U32] {
        for shape in [&[][..], &[3], &[2, 3], &[0], &[5, 7]] {
            let name = format!("random bits {dtype}{shape:?}");
            let f = move |x: &[Array]| random::bits(shape, dtype, Some(&x[0]));
            all.push(Case::new(name, &[DType::F32], vec![Input::made(key)], f).exact());
        }
    }
    let uniform = |x: &[Array]| random::uniform(0.0, 1.0, [5], DType::F32, Some(&x[0]));
    all.push(Case::new("uniform", &[DType::F32], vec![Input::made(key)], uniform).exact());
    let split = |x: &[Array]| random::split(&x[0], 3);
    all.push(Case::new("split", &[DType::F32], vec![Input::made(key)], split).exact());
    all
}

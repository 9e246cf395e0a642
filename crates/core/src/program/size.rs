//! Numbers that follow the sizes of arguments: found from two examples, computed for others.

use lazul_ir::{F32Bits, Scalar};
use smallvec::{SmallVec, smallvec};

/// Sizes of symbols, the lengths that may vary.
pub(super) type Sizes = SmallVec<[i64; 4]>;

/// How many lengths may vary: rules are sought among the products of three of them.
pub(super) const MOST_SYMBOLS: usize = 8;

/// A product of symbols, by their numbers.
type Monomial = SmallVec<[u8; 4]>;

/// An integer that follows symbols: `(Σ factor · product of symbols + offset) / divisor`, without remainder.
#[derive(Clone, PartialEq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields))]
pub(super) struct Size {
    terms: SmallVec<[(i64, Monomial); 2]>,
    offset: i64,
    divisor: i64,
}

/// A number that follows symbols.
#[derive(Clone, PartialEq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub(super) enum Rule {
    /// The size.
    Size(Size),
    /// One divided by it.
    Reciprocal(Size),
}

/// A number of a program, in the program's form.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Value {
    Int(i64),
    Float(F32Bits),
    Scalar(Scalar),
}

impl Size {
    fn of(terms: &[(i64, &Monomial)], offset: i64, divisor: i64) -> Size {
        let terms = terms.iter().map(|(factor, m)| (*factor, (*m).clone())).collect();
        Size { terms, offset, divisor }
    }

    /// Its value; `None` if it is no integer, or too large for one.
    fn at(&self, sizes: &[i64]) -> Option<i64> {
        let mut sum = self.offset;
        for (factor, symbols) in &self.terms {
            let mut product = *factor;
            for &s in symbols {
                product = product.checked_mul(*sizes.get(s as usize)?)?;
            }
            sum = sum.checked_add(product)?;
        }
        (sum.checked_rem(self.divisor)? == 0).then_some(sum / self.divisor)
    }
}

impl Rule {
    /// Its value, in the form of `like`; `None` if there is none.
    pub(super) fn at(&self, sizes: &[i64], like: Value) -> Option<Value> {
        let real = match self {
            Rule::Size(size) => {
                let n = size.at(sizes)?;
                if let Value::Int(_) = like {
                    return Some(Value::Int(n));
                }
                n as f64
            }
            Rule::Reciprocal(size) => 1.0 / size.at(sizes)? as f64,
        };
        match like {
            Value::Int(_) => None,
            Value::Float(_) => Some(Value::Float(F32Bits::new(real as f32))),
            Value::Scalar(s) => Some(Value::Scalar(Scalar::from_f64(real, s.dtype))),
        }
    }

    /// A rule that gives `p` where symbols have the sizes `a`, and `q` where they have the sizes `b`.
    pub(super) fn find(a: &[i64], b: &[i64], p: Value, q: Value) -> Option<Rule> {
        let fits = |rule: &Rule| rule.at(a, p) == Some(p) && rule.at(b, q) == Some(q);
        let products = products(a.len());
        if let Some((i, j)) = integer(p).zip(integer(q))
            && let Some(size) = find_integer(a, b, i, j, &products)
            && let rule = Rule::Size(size)
            && fits(&rule)
        {
            return Some(rule);
        }
        if let Value::Int(_) = p {
            return None;
        }
        // Counts, rounded to the value's dtype, and what is divided by them.
        let counts =
            products.iter().flat_map(|m| [0, -1, 1].map(|offset| Size::of(&[(1, m)], offset, 1)));
        counts.flat_map(|n| [Rule::Size(n.clone()), Rule::Reciprocal(n)]).find(fits)
    }
}

/// The value as an integer, if it is one.
fn integer(value: Value) -> Option<i64> {
    let real = match value {
        Value::Int(n) => return Some(n),
        Value::Float(f) => f.get() as f64,
        Value::Scalar(s) => s.to_f64(),
    };
    (real.fract() == 0.0 && real.abs() < (1i64 << 53) as f64).then_some(real as i64)
}

/// The products of up to three of `n` symbols, shorter ones first.
fn products(n: usize) -> Vec<Monomial> {
    let mut all: Vec<Monomial> = vec![Monomial::new()];
    let mut first = 0;
    for _ in 0..3 {
        let end = all.len();
        for i in first..end {
            let from = all[i].last().copied().unwrap_or(0);
            for s in from..n as u8 {
                let mut longer = all[i].clone();
                longer.push(s);
                all.push(longer);
            }
        }
        first = end;
    }
    all.remove(0);
    all
}

fn find_integer(a: &[i64], b: &[i64], p: i64, q: i64, products: &[Monomial]) -> Option<Size> {
    let value = |m: &Monomial, sizes: &[i64]| {
        m.iter().try_fold(1i64, |n, &s| n.checked_mul(sizes[s as usize]))
    };
    let exact = |n: i64, by: i64| (n.checked_rem(by)? == 0).then(|| n / by);
    let ends: Vec<(&Monomial, i64, i64)> =
        products.iter().filter_map(|m| Some((m, value(m, a)?, value(m, b)?))).collect();
    // A multiple of a product.
    for (m, at_a, at_b) in &ends {
        if let Some(factor) = exact(p, *at_a)
            && factor.checked_mul(*at_b) == Some(q)
        {
            return Some(Size::of(&[(factor, m)], 0, 1));
        }
    }
    // A symbol, shifted.
    let symbols: Vec<&(&Monomial, i64, i64)> = ends.iter().filter(|(m, ..)| m.len() == 1).collect();
    for (m, at_a, at_b) in &symbols {
        if p.checked_sub(*at_a)? == q.checked_sub(*at_b)? {
            return Some(Size::of(&[(1, m)], p - at_a, 1));
        }
    }
    // A part of one.
    for (m, at_a, at_b) in &ends {
        if let Some(divisor) = exact(*at_a, p)
            && q.checked_mul(divisor) == Some(*at_b)
        {
            return Some(Size::of(&[(1, m)], 0, divisor));
        }
    }
    // A sum or difference of two symbols.
    for (first, a1, b1) in &symbols {
        for (second, a2, b2) in &symbols {
            for sign in [1, -1] {
                if first != second && a1 + sign * a2 == p && b1 + sign * b2 == q {
                    return Some(Size::of(&[(1, first), (sign, second)], 0, 1));
                }
            }
        }
    }
    // A symbol, scaled and shifted.
    for (m, at_a, at_b) in &symbols {
        if let Some(factor) = exact(p.checked_sub(q)?, at_a - at_b)
            && let Some(offset) = factor.checked_mul(*at_a).and_then(|n| p.checked_sub(n))
        {
            return Some(Size::of(&[(factor, m)], offset, 1));
        }
    }
    None
}

/// The symbols of arguments of which two sets of shapes are known: places whose lengths differ, by their
/// lengths in both. `None` where they differ in more ways than can be told apart.
pub(super) fn symbols(
    a: &[Vec<i64>],
    b: &[Vec<i64>],
) -> Option<(Vec<SmallVec<[(u32, u32); 2]>>, Sizes, Sizes)> {
    let (mut places, mut at_a, mut at_b) =
        (Vec::<SmallVec<[(u32, u32); 2]>>::new(), Sizes::new(), Sizes::new());
    for (argument, (x, y)) in a.iter().zip(b).enumerate() {
        for (axis, (&n, &m)) in x.iter().zip(y).enumerate() {
            if n == m {
                continue;
            }
            let place = (argument as u32, axis as u32);
            match (0..places.len()).find(|&s| (at_a[s], at_b[s]) == (n, m)) {
                Some(s) => places[s].push(place),
                None => {
                    places.push(smallvec![place]);
                    at_a.push(n);
                    at_b.push(m);
                }
            }
        }
    }
    (places.len() <= MOST_SYMBOLS).then_some((places, at_a, at_b))
}

#[cfg(test)]
mod tests {
    use super::*;
    use lazul_ir::DType;

    fn find(p: i64, q: i64) -> Option<i64> {
        let (a, b) = ([4, 10], [6, 14]);
        let rule = Rule::find(&a, &b, Value::Int(p), Value::Int(q))?;
        match rule.at(&[8, 20], Value::Int(0))? {
            Value::Int(n) => Some(n),
            _ => None,
        }
    }

    #[test]
    fn integers() {
        assert_eq!(find(4, 6), Some(8));
        assert_eq!(find(-12, -18), Some(-24));
        assert_eq!(find(40, 84), Some(160)); // both, multiplied
        assert_eq!(find(64, 216), Some(512)); // cubed
        assert_eq!(find(2, 3), Some(4)); // half of the first
        assert_eq!(find(14, 20), Some(28)); // their sum
        assert_eq!(find(-6, -8), Some(-12)); // their difference
        assert_eq!(find(3, 5), Some(7)); // the first less 1
        assert_eq!(find(7, 6), None);
    }

    #[test]
    fn values_are_counts_and_what_is_divided_by_them() {
        let (a, b) = ([300], [700]);
        for dtype in [DType::F32, DType::BF16, DType::F64] {
            let scalar = |x: f64| Value::Scalar(Scalar::from_f64(x, dtype));
            let of = |f: &dyn Fn(f64) -> f64| {
                let rule = Rule::find(&a, &b, scalar(f(300.0)), scalar(f(700.0)));
                assert_eq!(rule.unwrap().at(&[1000], scalar(0.0)), Some(scalar(f(1000.0))));
            };
            of(&|n| n);
            of(&|n| n - 1.0);
            of(&|n| 1.0 / n);
            let root = |n: f64| scalar(n.sqrt());
            assert_eq!(Rule::find(&a, &b, root(300.0), root(700.0)), None);
        }
        let float = |x: f32| Value::Float(F32Bits::new(x));
        let rule = Rule::find(&a, &b, float(1.0 / 300.0), float(1.0 / 700.0)).unwrap();
        assert_eq!(rule.at(&[9], float(0.0)), Some(float(1.0 / 9.0)));
    }

    #[test]
    fn what_overflows_or_does_not_divide_is_nothing() {
        let rule = Rule::find(&[4], &[6], Value::Int(2), Value::Int(3)).unwrap();
        assert_eq!(rule.at(&[7], Value::Int(0)), None);
        let cube = Rule::find(&[2], &[3], Value::Int(8), Value::Int(27)).unwrap();
        assert_eq!(cube.at(&[i64::MAX], Value::Int(0)), None);
        let broken = Size { terms: smallvec![(1, smallvec![9])], offset: 0, divisor: 0 };
        assert_eq!(broken.at(&[1]), None);
    }
}

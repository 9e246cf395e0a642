//! The order of batches that mlx-lm draws: NumPy's legacy generator (Mersenne Twister, Matsumoto and
//! Nishimura, 1998) and its `permutation`, so that a training of the same seed sees the same batches.

/// The generator that `numpy.random.seed` starts.
pub(crate) struct Twister {
    state: [u32; N],
    at: usize,
}

const N: usize = 624;
const M: usize = 397;

impl Twister {
    /// As `numpy.random.RandomState(seed)`.
    pub(crate) fn new(seed: u32) -> Twister {
        let mut state = [0u32; N];
        state[0] = seed;
        for i in 1..N {
            let before = state[i - 1] ^ (state[i - 1] >> 30);
            state[i] = before.wrapping_mul(1_812_433_253).wrapping_add(i as u32);
        }
        Twister { state, at: N }
    }

    fn refill(&mut self) {
        for i in 0..N {
            let y = (self.state[i] & 0x8000_0000) | (self.state[(i + 1) % N] & 0x7fff_ffff);
            let odd = if y & 1 == 1 { 0x9908_b0df } else { 0 };
            self.state[i] = self.state[(i + M) % N] ^ (y >> 1) ^ odd;
        }
        self.at = 0;
    }

    fn next(&mut self) -> u32 {
        if self.at == N {
            self.refill();
        }
        let mut y = self.state[self.at];
        self.at += 1;
        y ^= y >> 11;
        y ^= (y << 7) & 0x9d2c_5680;
        y ^= (y << 15) & 0xefc6_0000;
        y ^ (y >> 18)
    }

    /// A number up to and with `most`: draws are masked and those beyond it thrown away.
    pub(crate) fn up_to(&mut self, most: u32) -> u32 {
        let mask = u32::MAX.checked_shr(most.leading_zeros()).unwrap_or(0);
        loop {
            let draw = self.next() & mask;
            if draw <= most {
                return draw;
            }
        }
    }

    /// As `permutation(n)`.
    pub(crate) fn permutation(&mut self, n: usize) -> Vec<usize> {
        let mut all: Vec<usize> = (0..n).collect();
        for i in (1..n).rev() {
            let j = self.up_to(i.min(u32::MAX as usize) as u32) as usize;
            all.swap(i, j);
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `r = numpy.random.RandomState(s); r.permutation(n); r.permutation(n)`
    #[test]
    fn numbers_are_numpys() {
        let two = |seed, n| {
            let mut random = Twister::new(seed);
            [random.permutation(n), random.permutation(n)]
        };
        assert_eq!(
            two(0, 10),
            [vec![2, 8, 4, 9, 1, 6, 7, 3, 0, 5], vec![3, 5, 1, 2, 9, 8, 0, 6, 7, 4]]
        );
        assert_eq!(
            two(7, 13),
            [
                vec![8, 10, 2, 5, 0, 1, 12, 7, 11, 3, 6, 9, 4],
                vec![1, 5, 2, 9, 3, 12, 11, 0, 4, 6, 7, 8, 10]
            ]
        );
        assert_eq!(two(4294967295, 5), [vec![4, 1, 0, 2, 3], vec![1, 3, 2, 0, 4]]);
        assert!(Twister::new(0).permutation(0).is_empty());
        let mut long = Twister::new(9);
        let all = long.permutation(5000);
        assert_eq!(all[..5], [1081, 2241, 2723, 1028, 619]);
    }
}

//! Dice that fall the same way for the same numbers, whatever was thrown before.

/// Mixes a number so that every bit of the answer depends on every bit of it (a bijection).
pub fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A short stream of numbers that depends only on what it was made from.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64, purpose: u64, number: u64) -> Self {
        Self(mix(seed ^ mix(purpose ^ mix(number))))
    }

    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// A number in `0..bound`; 0 for a bound below 1.
    pub fn below(&mut self, bound: i64) -> i64 {
        let bound = u64::try_from(bound).unwrap_or(0).max(1);
        i64::try_from(self.roll() % bound).expect("below a positive i64")
    }

    /// An index of a list of this length, which must not be 0.
    pub fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.roll() % length.max(1) as u64).expect("below a usize")
    }

    pub fn pick<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.index(list.len())]
    }

    /// True in this share (0 to 1) of the throws.
    pub fn chance(&mut self, share: f64) -> bool {
        ((self.roll() >> 11) as f64) < share * (1_u64 << 53) as f64
    }
}

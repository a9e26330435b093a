//! Identifiers by the ULID specification: 48 bits of Unix time in milliseconds, 80 random bits,
//! monotonic within a millisecond, read as one big-endian integer.
//!
//! Uniqueness is what counts, not secrecy: a peer is told apart by its principal, never by knowing an
//! id. So the bits come from a generator that the subnet's randomness has seeded.

use candid::Deserialize;
use serde::Serialize;

/// The random bits of an id.
const RANDOM_BITS: u32 = 80;

/// Mints ids and draws jitter. Kept across upgrades: the last id must not come again.
#[derive(Serialize, Deserialize, Clone, Debug, Default)]
pub struct Ids {
    last: u128,
    chance: u64,
    seeded: bool,
}

impl Ids {
    /// Whether it has been given randomness.
    pub fn is_seeded(&self) -> bool {
        self.seeded
    }

    /// Stirs in randomness.
    pub fn seed(&mut self, entropy: &[u8]) {
        for byte in entropy {
            self.chance = self.chance.rotate_left(8) ^ u64::from(*byte);
            self.draw();
        }
        self.seeded = true;
    }

    /// 64 pseudo-random bits: SplitMix64.
    pub fn draw(&mut self) -> u64 {
        self.chance = self.chance.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mix(self.chance)
    }

    /// A number from 0 to `limit`, both included.
    pub fn up_to(&mut self, limit: u64) -> u64 {
        match limit.checked_add(1) {
            Some(numbers) => self.draw() % numbers,
            None => self.draw(),
        }
    }

    /// The next id; `now` in nanoseconds since 1970.
    pub fn mint(&mut self, now: u64) -> u128 {
        let milliseconds = u128::from(now / 1_000_000);
        let random = u128::from(self.draw()) << 16 | u128::from(self.draw() & 0xFFFF);
        // Within a millisecond, and while a clock that was set back catches up, the last one plus one.
        self.last = if milliseconds > self.last >> RANDOM_BITS {
            milliseconds << RANDOM_BITS | random
        } else {
            self.last + 1
        };
        self.last
    }
}

/// The output function of SplitMix64.
pub fn mix(state: u64) -> u64 {
    let z = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// The time in an id, in nanoseconds since 1970.
pub fn time(id: u128) -> u64 {
    u64::try_from(id >> RANDOM_BITS).unwrap_or(u64::MAX).saturating_mul(1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_rise_within_a_millisecond_and_when_the_clock_is_set_back() {
        let mut ids = Ids::default();
        ids.seed(b"some bytes");
        let minted: Vec<u128> = [5, 5, 4, 6].map(|ms| ids.mint(ms * 1_000_000)).to_vec();
        assert!(minted.windows(2).all(|pair| pair[0] < pair[1]));
        assert_eq!(minted[1], minted[0] + 1);
        assert_eq!(time(minted[0]), 5_000_000);
        assert_eq!(time(minted[3]), 6_000_000);
    }
}

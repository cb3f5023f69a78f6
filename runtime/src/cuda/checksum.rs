//! A checksum as fast as memory, against damage, not against malice.

const LANES: usize = 8;

/// The fractional digits of the golden ratio: odd, so that multiplying by it loses nothing.
const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

/// The checksum of `bytes`. Every step is a bijection of what came before, so a change that is confined to one word of
/// 8 bytes always changes the sum.
pub fn checksum(bytes: &[u8]) -> u64 {
    // Independent lanes: a multiplication takes longer than the load of its word.
    let mut lanes: [u64; LANES] = std::array::from_fn(|lane| lane as u64 + 1);
    let step = |state: u64, word: u64| (state ^ word).wrapping_mul(FACTOR).rotate_left(29);
    let mut blocks = bytes.chunks_exact(8 * LANES);
    for block in &mut blocks {
        for (lane, word) in lanes.iter_mut().zip(block.chunks_exact(8)) {
            *lane = step(
                *lane,
                u64::from_le_bytes([word[0], word[1], word[2], word[3], word[4], word[5], word[6], word[7]]),
            );
        }
    }
    let mut sum = bytes.len() as u64;
    for word in blocks.remainder().chunks(8) {
        let mut padded = [0; 8];
        padded[..word.len()].copy_from_slice(word);
        sum = step(sum, u64::from_le_bytes(padded));
    }
    lanes.into_iter().fold(sum, step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flipped_bit_changes_the_sum() {
        for len in [1, 7, 8, 63, 64, 65, 200] {
            let mut bytes: Vec<u8> = (0..len).map(|i| (i * 37) as u8).collect();
            let sum = checksum(&bytes);
            for bit in 0..len * 8 {
                bytes[bit / 8] ^= 1 << (bit % 8);
                assert_ne!(checksum(&bytes), sum, "{len} bytes, bit {bit}");
                bytes[bit / 8] ^= 1 << (bit % 8);
            }
            assert_eq!(checksum(&bytes), sum);
        }
    }

    #[test]
    fn order_and_length_count() {
        let bytes: Vec<u8> = (0..=255).collect();
        let swapped: Vec<u8> = [&bytes[8..16], &bytes[..8], &bytes[16..]].concat();
        assert_ne!(checksum(&bytes), checksum(&swapped));
        assert_ne!(checksum(&[0; 64]), checksum(&[0; 128]));
        assert_ne!(checksum(&[]), checksum(&[0]));
    }
}

//! The banks of shared memory.

use super::super::regs::LANES;

/// Passes over the banks of shared memory for a request: as it is, and without conflicts.
///
/// A pass serves 32 lanes of up to 4 bytes, 16 lanes of 8 or 8 lanes of 16. Within it every bank serves one word of 4 bytes;
/// lanes that want the same word get it together.
pub(in crate::interp) fn wavefronts(mask: u32, addresses: &[u64; LANES], bytes: u64) -> (u64, u64) {
    let words = bytes.div_ceil(4).max(1);
    let group = (LANES as u64 / words).max(1) as usize;
    let (mut passes, mut ideal) = (0, 0);
    for start in (0..LANES).step_by(group) {
        let mut seen: [[u64; LANES]; 32] = [[0; LANES]; 32];
        let mut counts = [0usize; 32];
        let mut any = false;
        for lane in (start..start + group).filter(|lane| mask >> lane & 1 != 0) {
            any = true;
            for word in (0..words).map(|i| addresses[lane] / 4 + i) {
                let bank = (word % 32) as usize;
                let known = &mut seen[bank][..];
                if !known[..counts[bank]].contains(&word) && counts[bank] < LANES {
                    known[counts[bank]] = word;
                    counts[bank] += 1;
                }
            }
        }
        if any {
            ideal += 1;
            passes += counts.iter().copied().max().unwrap_or(0).max(1) as u64;
        }
    }
    (passes, ideal)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn banks(bytes: u64, address: impl Fn(u64) -> u64) -> (u64, u64) {
        wavefronts(u32::MAX, &std::array::from_fn(|lane| address(lane as u64)), bytes)
    }

    #[test]
    fn bank_conflicts() {
        assert_eq!(banks(4, |lane| lane * 4), (1, 1), "one word a lane");
        assert_eq!(banks(4, |_| 64), (1, 1), "broadcast");
        assert_eq!(banks(4, |lane| lane * 8), (2, 1), "stride of two words");
        assert_eq!(banks(4, |lane| lane * 128), (32, 1), "a column of a tile of 32 words");
        assert_eq!(banks(4, |lane| lane * 132), (1, 1), "a column of a padded tile");
        assert_eq!(banks(1, |lane| lane), (1, 1), "bytes of eight words");
        assert_eq!(banks(8, |lane| lane * 8), (2, 2), "half a warp at a time");
        assert_eq!(banks(16, |lane| lane * 16), (4, 4), "a quarter of a warp at a time");
        assert_eq!(banks(16, |lane| lane * 32), (8, 4), "rows of 16 bytes, every other one");
        let (passes, ideal) = wavefronts(1, &[4; LANES], 4);
        assert_eq!((passes, ideal), (1, 1), "one lane");
    }
}

//! The table of RoPE's cosines and sines.

use graph::rope::{RopeTableError, rope_table};

use super::Rope;

/// The table `[max_seq, n_rot / 2, 2]` of (cosine, sine), for positions from 0. `factors` is `rope_freqs.weight`,
/// `[n_rot / 2]`. Linear scaling slows every pair down alike, so it is a factor of them all.
pub(super) fn table(
    rope: &Rope,
    factors: Option<&[f32]>,
    max_seq: usize,
) -> Result<Vec<f32>, RopeTableError> {
    let pairs = rope.n_rot / 2;
    let scaled = match factors {
        None if rope.linear_scale == 1.0 => None,
        None => Some(vec![rope.linear_scale; pairs]),
        Some(factors) => Some(factors.iter().map(|factor| factor * rope.linear_scale).collect::<Vec<_>>()),
    };
    rope_table(max_seq, rope.n_rot, rope.theta.into(), scaled.as_deref())
}

#[cfg(test)]
mod tests {
    use graph::RopeStyle;

    use super::*;

    const ROPE: Rope = Rope { style: RopeStyle::NeoX, n_rot: 4, theta: 100.0, linear_scale: 1.0 };

    #[test]
    fn angles_follow_the_formula() {
        let table = table(&ROPE, None, 3).unwrap();
        assert_eq!(table[..4], [1.0, 0.0, 1.0, 0.0]);
        let angle: f64 = 2.0 * 100f64.powf(-0.5);
        assert_eq!(table[2 * 4 + 2..], [angle.cos() as f32, angle.sin() as f32]);
    }

    #[test]
    fn scaling_and_factors_slow_the_angles_down() {
        let plain = table(&ROPE, None, 9).unwrap();
        let linear = Rope { linear_scale: 4.0, ..ROPE };
        assert_eq!(table(&linear, None, 5).unwrap()[4 * 4..], plain[4..8]);
        let slow = table(&ROPE, Some(&[4.0, 1.0]), 5).unwrap();
        assert_eq!(slow[4 * 4..4 * 4 + 2], plain[4..6]);
        assert_eq!(slow[4 * 4 + 2..], plain[4 * 4 + 2..5 * 4]);
        let both = table(&linear, Some(&[2.0, 1.0]), 9).unwrap();
        assert_eq!((&both[8 * 4..8 * 4 + 2], &both[8 * 4 + 2..]), (&plain[4..6], &plain[2 * 4 + 2..3 * 4]));
    }

    #[test]
    fn a_factor_that_is_no_positive_number_is_refused() {
        for factor in [0.0, -1.0, f32::INFINITY] {
            let expected = Err(RopeTableError::Factor { index: 1, factor });
            assert_eq!(table(&ROPE, Some(&[1.0, factor]), 2), expected);
        }
    }
}

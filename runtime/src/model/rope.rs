//! The table of RoPE's cosines and sines.

use super::{ModelError, Rope};

/// The table `[max_seq, n_rot / 2, 2]` of (cosine, sine), for positions from 0: computed in f64 and rounded once, so
/// that every engine turns by the same bits and none computes a sine.
///
/// `factors` is `rope_freqs.weight`, `[n_rot / 2]`.
///
/// # Errors
/// [`ModelError::RopeFactor`].
pub(super) fn table(rope: &Rope, factors: Option<&[f32]>, max_seq: usize) -> Result<Vec<f32>, ModelError> {
    let frequencies = frequencies(rope, factors)?;
    let mut table = Vec::with_capacity(max_seq * rope.n_rot);
    for position in 0..max_seq {
        let position = position as f64 / f64::from(rope.linear_scale);
        for frequency in &frequencies {
            let (sin, cos) = (position * frequency).sin_cos();
            table.extend([cos as f32, sin as f32]);
        }
    }
    Ok(table)
}

/// Radians for each position, of every pair: `theta^(-2 i / n_rot) / factor_i`.
fn frequencies(rope: &Rope, factors: Option<&[f32]>) -> Result<Vec<f64>, ModelError> {
    let theta = f64::from(rope.theta);
    (0..rope.n_rot / 2)
        .map(|i| {
            let frequency = theta.powf(-2.0 * i as f64 / rope.n_rot as f64);
            match factors.and_then(|factors| factors.get(i)) {
                Some(&value) if !(value.is_finite() && value > 0.0) => {
                    Err(ModelError::RopeFactor { index: i, value })
                }
                Some(&value) => Ok(frequency / f64::from(value)),
                None => Ok(frequency),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use graph::RopeStyle;

    use super::*;

    const ROPE: Rope = Rope { style: RopeStyle::NeoX, n_rot: 4, theta: 100.0, linear_scale: 1.0 };

    #[test]
    fn the_first_position_is_not_turned() {
        assert_eq!(table(&ROPE, None, 1).unwrap(), [1.0, 0.0, 1.0, 0.0]);
    }

    #[test]
    fn angles_follow_the_formula() {
        let table = table(&ROPE, None, 3).unwrap();
        let angle: f64 = 2.0 * 100f64.powf(-0.5);
        assert_eq!(table[2 * 4 + 2..], [angle.cos() as f32, angle.sin() as f32]);
    }

    #[test]
    fn scaling_and_factors_slow_the_angles_down() {
        let linear = Rope { linear_scale: 4.0, ..ROPE };
        assert_eq!(table(&linear, None, 5).unwrap()[4 * 4..], table(&ROPE, None, 2).unwrap()[4..]);
        let slow = table(&ROPE, Some(&[4.0, 1.0]), 5).unwrap();
        assert_eq!(slow[4 * 4..4 * 4 + 2], table(&ROPE, None, 2).unwrap()[4..6]);
        assert_eq!(slow[4 * 4 + 2..], table(&ROPE, None, 5).unwrap()[4 * 4 + 2..]);
    }

    #[test]
    fn a_factor_that_is_no_positive_number_is_refused() {
        for value in [0.0, -1.0, f32::INFINITY] {
            let expected = Err(ModelError::RopeFactor { index: 1, value });
            assert_eq!(table(&ROPE, Some(&[1.0, value]), 2), expected);
        }
    }
}

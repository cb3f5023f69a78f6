//! The table of rotation angles that every engine reads, so that all of them rotate by the same bits.

/// Why a table cannot be made.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RopeTableError {
    /// `n_rot` is zero or odd.
    #[error("the number of rotated features has to be even and at least 2, is {n_rot}")]
    Rotated {
        /// The number given.
        n_rot: usize,
    },
    /// The base is not a positive, finite number.
    #[error("the rope base has to be positive and finite, is {theta}")]
    Theta {
        /// The base given.
        theta: f64,
    },
    /// Not one frequency factor for each pair.
    #[error("{n_rot} rotated features need {} frequency factors, got {actual}", n_rot / 2)]
    FactorCount {
        /// The number of rotated features.
        n_rot: usize,
        /// The number of factors given.
        actual: usize,
    },
    /// A frequency factor that is not a positive, finite number.
    #[error("frequency factor {index} has to be positive and finite, is {factor}")]
    Factor {
        /// Which.
        index: usize,
        /// Its value.
        factor: f32,
    },
    /// The table does not fit in memory.
    #[error("a rope table of {max_seq} positions by {n_rot} features is too large")]
    TooLarge {
        /// Positions asked for.
        max_seq: usize,
        /// Features asked for.
        n_rot: usize,
    },
}

/// The table `[max_seq, n_rot / 2, 2]` of (cos, sin) that [`TensorOp::Rope`](crate::TensorOp::Rope) reads.
///
/// Pair `i` at position `p` is rotated by `p * theta^(-2i / n_rot) / factor[i]` radians (Su et al., RoFormer,
/// arXiv:2104.09864, section 3.2.2, with the context-extension factors of GGUF's `rope_freqs.weight`; absent factors are
/// 1). Angles, sines and cosines are computed in f64 and rounded once.
///
/// # Errors
/// [`RopeTableError`] if `n_rot` is odd or zero, if `theta` or a factor is not positive and finite, if there is not one
/// factor for each pair, or if the table does not fit in memory.
pub fn rope_table(
    max_seq: usize,
    n_rot: usize,
    theta: f64,
    freq_factors: Option<&[f32]>,
) -> Result<Vec<f32>, RopeTableError> {
    check(n_rot, theta, freq_factors)?;
    let too_large = RopeTableError::TooLarge { max_seq, n_rot };
    let len = max_seq.checked_mul(n_rot).ok_or_else(|| too_large.clone())?;
    let (mut table, mut frequencies) = (Vec::new(), Vec::new());
    table.try_reserve_exact(len).map_err(|_| too_large.clone())?;
    frequencies.try_reserve_exact(n_rot / 2).map_err(|_| too_large)?;
    frequencies.extend((0..n_rot / 2).map(|i| frequency(i, n_rot, theta, freq_factors)));
    for position in 0..max_seq {
        for &frequency in &frequencies {
            let (sin, cos) = (position as f64 * frequency).sin_cos();
            table.extend([cos as f32, sin as f32]);
        }
    }
    Ok(table)
}

/// Radians per position of pair `i`.
fn frequency(i: usize, n_rot: usize, theta: f64, factors: Option<&[f32]>) -> f64 {
    let factor = factors.map_or(1.0, |f| f64::from(f[i]));
    theta.powf(-2.0 * i as f64 / n_rot as f64) / factor
}

fn check(n_rot: usize, theta: f64, factors: Option<&[f32]>) -> Result<(), RopeTableError> {
    if n_rot == 0 || !n_rot.is_multiple_of(2) {
        return Err(RopeTableError::Rotated { n_rot });
    }
    if !(theta.is_finite() && theta > 0.0) {
        return Err(RopeTableError::Theta { theta });
    }
    if let Some(factors) = factors {
        if factors.len() != n_rot / 2 {
            return Err(RopeTableError::FactorCount { n_rot, actual: factors.len() });
        }
        if let Some(index) = factors.iter().position(|f| !(f.is_finite() && *f > 0.0)) {
            return Err(RopeTableError::Factor { index, factor: factors[index] });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn angles_follow_the_formula() {
        let table = rope_table(3, 4, 10_000.0, None).unwrap();
        // Position 0 is no rotation; pair 1 of 4 features turns by 10000^(-1/2) = 0.01 radians a position.
        assert_eq!(table[..4], [1.0, 0.0, 1.0, 0.0]);
        assert_eq!(
            table[8..],
            [2f64.cos() as f32, 2f64.sin() as f32, 0.02f64.cos() as f32, 0.02f64.sin() as f32]
        );
    }

    #[test]
    fn factors_divide_the_frequency() {
        let plain = rope_table(9, 4, 500.0, None).unwrap();
        let slowed = rope_table(9, 4, 500.0, Some(&[1.0, 4.0])).unwrap();
        for position in 0..2 {
            let (fast, slow) = (&plain[position * 4..], &slowed[position * 16..]);
            assert!((fast[2] - slow[2]).abs() < 1e-7 && (fast[3] - slow[3]).abs() < 1e-7);
        }
        assert_eq!(plain[4..6], slowed[4..6]);
    }

    #[test]
    fn late_positions_keep_their_precision() {
        // The angle 1310.71 rounded to f32 would already be off by up to 6e-5.
        let table = rope_table(131_072, 4, 10_000.0, None).unwrap();
        let (cos, sin) = (f64::from(table[4 * 131_071 + 2]), f64::from(table[4 * 131_071 + 3]));
        assert!((cos - 1310.71f64.cos()).abs() < 1e-7 && (sin - 1310.71f64.sin()).abs() < 1e-7);
    }

    #[test]
    fn bad_arguments_are_refused() {
        assert_eq!(rope_table(1, 5, 1e4, None), Err(RopeTableError::Rotated { n_rot: 5 }));
        assert_eq!(rope_table(1, 0, 1e4, None), Err(RopeTableError::Rotated { n_rot: 0 }));
        assert_eq!(rope_table(1, 4, 0.0, None), Err(RopeTableError::Theta { theta: 0.0 }));
        assert!(matches!(rope_table(1, 4, f64::NAN, None), Err(RopeTableError::Theta { .. })));
        let count = Err(RopeTableError::FactorCount { n_rot: 4, actual: 3 });
        assert_eq!(rope_table(1, 4, 1e4, Some(&[1.0; 3])), count);
        let factor = Err(RopeTableError::Factor { index: 1, factor: 0.0 });
        assert_eq!(rope_table(1, 4, 1e4, Some(&[1.0, 0.0])), factor);
        for [max_seq, n_rot] in [[usize::MAX, 4], [1, usize::MAX - 1], [0, usize::MAX - 1]] {
            let error = rope_table(max_seq, n_rot, 1e4, None).unwrap_err();
            assert_eq!(error, RopeTableError::TooLarge { max_seq, n_rot });
        }
    }
}

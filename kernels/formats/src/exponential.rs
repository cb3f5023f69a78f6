//! The exponential function and what is made of it, in operations that compilers vectorise: the same text for every level
//! of [`Simd`], with the same bits on every machine.

use crate::Simd;

/// 1.5 * 2^23: in a sum with it the last bit counts ones, and the sum is rounded to nearest even.
const SHIFT: f32 = 12_582_912.0;
/// Above this the result is infinite.
const MOST: f32 = 100.0;
/// Below this the result is zero.
const LEAST: f32 = -110.0;
/// The upper bits of the logarithm of 2: its products with exponents are exact.
const LN_2_HIGH: f32 = 355.0 / 512.0;
/// The logarithm of 2 without its upper bits.
const LN_2_LOW: f32 = -2.121_944_4e-4;
/// `(exp(r) - 1 - r) / r^2` for `r` within half a logarithm of 2, the highest power first (S. Moshier's Cephes library).
const SERIES: [f32; 6] = [1.987_569_1e-4, 1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5];

/// `exp(x)`, with an error below one unit in the last place, or below the least number where that is more. NaN for NaN.
#[inline(always)]
fn exp(x: f32) -> f32 {
    let x = if x > MOST { MOST } else { x };
    let x = if x < LEAST { LEAST } else { x };
    let shifted = x * std::f32::consts::LOG2_E + SHIFT;
    let n = shifted - SHIFT;
    let exponent = shifted.to_bits().wrapping_sub(SHIFT.to_bits()).cast_signed();
    let r = (x - n * LN_2_HIGH) - n * LN_2_LOW;
    let [first, rest @ ..] = SERIES;
    let mut series = first;
    for term in rest {
        series = series * r + term;
    }
    // The power of two in two factors, which are normal numbers where their product is none.
    let half = exponent >> 1;
    let power = |n: i32| f32::from_bits((n.wrapping_add(127) << 23).cast_unsigned());
    ((series * (r * r) + r) + 1.0) * power(half) * power(exponent.wrapping_sub(half))
}

/// `softmax(scale * x)` in place. A row that is minus infinity throughout gives NaN, as the formula does.
///
/// The result has the same bits on every machine and level of `simd`; only which of the NaNs a NaN is differs.
pub fn soft_max(simd: Simd, x: &mut [f32], scale: f32) {
    simd.soft_max(x, scale);
}

/// `x / (1 + exp(-x))` of each value, in place. For very negative `x` the exponential is infinite and the quotient -0.
///
/// The result has the same bits on every machine and level of `simd`; only which of the NaNs a NaN is differs.
pub fn silu(simd: Simd, x: &mut [f32]) {
    simd.silu(x);
}

/// [`soft_max`] with the instructions of the function that it is inlined into.
#[inline(always)]
pub(crate) fn soft_max_inline(x: &mut [f32], scale: f32) {
    let larger = |most: f32, x: f32| if x > most { x } else { most };
    // Eight maxima and eight sums, so that one does not wait for another.
    let mut most = [f32::NEG_INFINITY; 8];
    let (whole, rest) = x.as_chunks::<8>();
    for chunk in whole {
        for (most, &x) in most.iter_mut().zip(chunk) {
            *most = larger(*most, x * scale);
        }
    }
    let largest = rest.iter().map(|x| x * scale).chain(most).fold(f32::NEG_INFINITY, larger);
    for x in x.iter_mut() {
        *x = exp(*x * scale - largest);
    }
    let mut sums = [0.0f64; 8];
    let (whole, rest) = x.as_chunks::<8>();
    for chunk in whole {
        for (sum, &x) in sums.iter_mut().zip(chunk) {
            *sum += f64::from(x);
        }
    }
    let sum = sums.iter().sum::<f64>() + rest.iter().map(|&x| f64::from(x)).sum::<f64>();
    let factor = (1.0 / sum) as f32;
    for x in x {
        *x *= factor;
    }
}

/// [`silu`] with the instructions of the function that it is inlined into.
#[inline(always)]
pub(crate) fn silu_inline(x: &mut [f32]) {
    for x in x {
        *x /= 1.0 + exp(-*x);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_within_a_unit_in_the_last_place_everywhere() {
        let mut worst = 0.0f64;
        for bits in (0..=u32::MAX).step_by(509) {
            let x = f32::from_bits(bits);
            let (ours, exact) = (exp(x), f64::from(x).exp());
            if x.is_nan() {
                assert!(ours.is_nan(), "{bits:#x}");
            } else if exact >= f64::from(f32::MAX) * (1.0 + 2f64.powi(-25)) {
                assert_eq!(ours, f32::INFINITY, "{x}");
            } else {
                let nearest = exact as f32;
                let unit = f64::from(nearest.next_up()) - f64::from(nearest);
                let unit = if nearest < f32::MAX { unit } else { 2f64.powi(104) };
                worst = worst.max((f64::from(ours) - exact).abs() / unit);
            }
        }
        assert!(worst < 1.0, "{worst} units");
    }

    #[test]
    fn it_is_exact_where_that_matters() {
        assert_eq!(exp(0.0).to_bits(), 1.0f32.to_bits());
        assert_eq!(exp(-0.0).to_bits(), 1.0f32.to_bits());
        assert_eq!(exp(f32::NEG_INFINITY).to_bits(), 0);
        assert_eq!(exp(f32::MIN).to_bits(), 0);
        assert_eq!(exp(f32::INFINITY), f32::INFINITY);
        assert_eq!(exp(f32::MAX), f32::INFINITY);
        assert!(exp(f32::NAN).is_nan() && exp(-f32::NAN).is_nan());
        assert_eq!(exp(-103.0), f32::from_bits(1));
    }

    #[test]
    fn every_level_has_the_same_bits() {
        let bits = |x: &[f32]| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        for len in [0, 1, 7, 8, 9, 31, 64, 1000] {
            let x: Vec<f32> = (0..len).map(|i| ((i * 37 % 101) as f32 - 50.0) * 2.7).collect();
            let (mut weights, mut gates) = (x.clone(), x.clone());
            soft_max(Simd::PORTABLE, &mut weights, 0.3);
            silu(Simd::PORTABLE, &mut gates);
            let exact = x.iter().map(|&x| f64::from(x * 0.3).exp()).sum::<f64>();
            for (&x, (&weight, &gate)) in x.iter().zip(weights.iter().zip(&gates)) {
                assert!((f64::from(weight) - f64::from(x * 0.3).exp() / exact).abs() < 1e-6);
                assert!((f64::from(gate) - f64::from(x) / (1.0 + f64::from(-x).exp())).abs() < 1e-5);
            }
            for simd in Simd::available() {
                let (mut ours, mut theirs) = (x.clone(), x.clone());
                soft_max(simd, &mut ours, 0.3);
                silu(simd, &mut theirs);
                assert_eq!((bits(&ours), bits(&theirs)), (bits(&weights), bits(&gates)), "{len} {simd}");
            }
        }
    }

    #[test]
    fn what_is_no_number_stays_none() {
        for simd in Simd::available() {
            for at in [0, 9] {
                let mut x = [1.0; 10];
                x[at] = f32::NAN;
                soft_max(simd, &mut x, 1.0);
                assert!(x.iter().all(|x| x.is_nan()), "{simd}");
                let mut x = [1.0; 10];
                x[at] = f32::NEG_INFINITY;
                soft_max(simd, &mut x, 1.0);
                assert!(x[at] == 0.0 && (x[5] - 1.0 / 9.0).abs() < 1e-6, "{simd}");
            }
            let mut x = [f32::NEG_INFINITY; 9];
            soft_max(simd, &mut x, 1.0);
            assert!(x.iter().all(|x| x.is_nan()), "{simd}");
            let mut x = [0.0, -1000.0, 1000.0, 1.0, f32::NAN];
            silu(simd, &mut x);
            assert_eq!(x[..3], [0.0, 0.0, 1000.0]);
            assert!((x[3] - 0.731_058_6).abs() < 1e-6 && x[4].is_nan());
        }
    }
}

//! Quantisation: error against the formats' resolution, edge cases, and values that do not fit.

mod common;

use common::{BLOCK_TYPES, Random, quantized};
use proptest::prelude::*;
use tensor_formats::reference::{dequantize_row_f64, relative_l2};
use tensor_formats::{ElementType, FormatError, dequantize_row, quantize_row};

fn round_trip(ty: ElementType, values: &[f32]) -> Vec<f32> {
    let mut back = vec![f32::NAN; values.len()];
    dequantize_row(ty, &quantized(ty, values), &mut back).unwrap();
    back
}

fn rms_error(ty: ElementType, values: &[f32]) -> f64 {
    let exact: Vec<f64> = values.iter().map(|&x| f64::from(x)).collect();
    relative_l2(&round_trip(ty, values), &exact)
}

#[test]
fn error_on_normal_weights_is_that_of_a_searched_quantiser() {
    let values = Random(7).normals(256 * 256);
    // Plain rounding to the extremes of each group gives 0.0859 for Q4_0, 0.0784 for Q4_K, 0.0382 for Q5_K and 0.0188
    // for Q6_K on such weights.
    let bounds = [
        (ElementType::F32, 0.0),
        (ElementType::F16, 2.5e-4),
        (ElementType::BF16, 2e-3),
        (ElementType::Q8_0, 5.4e-3),
        (ElementType::Q6_K, 1.73e-2),
        (ElementType::Q5_K, 3.5e-2),
        (ElementType::Q4_K, 7.1e-2),
        (ElementType::Q4_0, 8.1e-2),
        (ElementType::Q8Act, 5.4e-3),
    ];
    for (ty, bound) in bounds {
        let error = rms_error(ty, &values);
        assert!(error <= bound, "{ty}: {error}");
    }
}

#[test]
fn zeros_stay_zero() {
    for ty in ElementType::WEIGHTS {
        assert!(round_trip(ty, &[0.0; 512]).iter().all(|&x| x.to_bits() == 0), "{ty}");
    }
}

/// No scale is a negative zero, which some machines might write and others not.
#[test]
fn zeros_of_either_sign_and_positive_values_have_the_scales_of_zeros() {
    let scales: [(ElementType, &[usize]); 5] = [
        (ElementType::Q4_0, &[0]),
        (ElementType::Q8_0, &[0]),
        (ElementType::Q4_K, &[0, 2]),
        (ElementType::Q5_K, &[0, 2]),
        (ElementType::Q6_K, &[208]),
    ];
    for (ty, scales) in scales {
        for pattern in [[0.0f32, 0.0], [-0.0, -0.0], [0.0, -0.0], [0.5, 0.25], [0.5, -0.0]] {
            let values: Vec<f32> = pattern.iter().copied().cycle().take(256).collect();
            let bytes = quantized(ty, &values);
            for &at in scales {
                assert_ne!(bytes[at..at + 2], [0x00, 0x80], "{ty} {pattern:?}: the scale at {at}");
            }
            if pattern.iter().all(|&x| x == 0.0) {
                assert_eq!(bytes, quantized(ty, &[0.0; 256]), "{ty} {pattern:?}");
            }
        }
    }
}

#[test]
fn constant_rows_are_nearly_exact() {
    for ty in ElementType::WEIGHTS {
        for value in [1.0f32, -1.0, 3.0e-3, -2.5e4, 4.0e4] {
            // The scale of the scales of Q5_K is only some f16 steps for the smallest of these.
            let bound = if ty == ElementType::Q5_K { 8e-3 } else { 5e-3 };
            for x in round_trip(ty, &[value; 256]) {
                assert!((x - value).abs() <= value.abs() * bound, "{ty} {value}: {x}");
            }
        }
    }
}

#[test]
fn one_large_value_does_not_erase_other_groups() {
    for ty in BLOCK_TYPES {
        let mut values = Random(8).normals(256);
        values[5] = 40.0;
        let back = round_trip(ty, &values);
        assert!((back[5] - 40.0).abs() < 1.0, "{ty}: {}", back[5]);
        let rest: Vec<f64> = values[32..].iter().map(|&x| f64::from(x)).collect();
        assert!(relative_l2(&back[32..], &rest) < 0.35, "{ty}");
    }
}

#[test]
fn scales_below_the_normal_f16_range_do_not_clip() {
    for ty in BLOCK_TYPES {
        // With scales of only a few f16 steps: coarse, but bounded by the step of the scale.
        for size in [1e-3f32, 1e-4, 3e-5] {
            let values: Vec<f32> = Random(9).normals(256).iter().map(|x| x * size).collect();
            let largest = values.iter().fold(0.0f32, |a, x| a.max(x.abs()));
            for (x, y) in values.iter().zip(round_trip(ty, &values)) {
                assert!((x - y).abs() < 0.35 * largest, "{ty} {size}: {x} {y}");
            }
        }
        assert!(round_trip(ty, &[1e-12; 256]).iter().all(|&x| x.abs() <= 1e-7), "{ty}");
    }
}

#[test]
fn values_that_no_block_can_hold_are_refused_by_index() {
    for ty in BLOCK_TYPES {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e12, -1e12] {
            let mut values = vec![1.0; 512];
            values[300] = bad;
            let mut bytes = vec![0; ty.row_bytes(512).unwrap()];
            let error = quantize_row(ty, &values, &mut bytes).unwrap_err();
            assert_eq!(error, FormatError::NotRepresentable { ty, index: 300 });
        }
    }
}

#[test]
fn the_largest_values_that_are_accepted_survive() {
    let limits = [
        (ElementType::Q8_0, tensor_formats::q8_0::LIMIT),
        (ElementType::Q6_K, tensor_formats::q6_k::LIMIT),
        (ElementType::Q5_K, tensor_formats::q5_k::LIMIT),
        (ElementType::Q4_0, tensor_formats::q4_0::LIMIT),
        (ElementType::Q4_K, tensor_formats::q4_k::LIMIT),
    ];
    for (ty, limit) in limits {
        let values: Vec<f32> = Random(10).normals(512).iter().map(|x| x.clamp(-1.0, 1.0) * limit).collect();
        assert!(rms_error(ty, &values) < 0.1, "{ty}");
    }
}

#[test]
fn lengths_and_types_that_do_not_fit_are_errors() {
    for ty in ElementType::ALL.into_iter().filter(|&ty| ty != ElementType::U32) {
        let bytes = ty.row_bytes(256).unwrap();
        assert!(matches!(
            quantize_row(ty, &[0.0; 256], &mut vec![0; bytes - 1]),
            Err(FormatError::Length { .. })
        ));
        assert!(matches!(
            dequantize_row(ty, &vec![0; bytes + 1], &mut [0.0; 256]),
            Err(FormatError::Length { .. })
        ));
        assert!(dequantize_row_f64(ty, &vec![0; bytes + 1], &mut [0.0; 256]).is_err());
    }
    assert!(matches!(
        dequantize_row(ElementType::Q8_0, &[0; 34], &mut [0.0; 33]),
        Err(FormatError::PartialBlock { .. })
    ));
    assert!(matches!(
        dequantize_row(ElementType::U32, &[0; 4], &mut [0.0]),
        Err(FormatError::NotDefined { .. })
    ));
    assert!(matches!(
        quantize_row(ElementType::U32, &[0.0], &mut [0; 4]),
        Err(FormatError::NotDefined { .. })
    ));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// No value is off by more than the grid of its group allows, whatever the mixture of sizes, signs and offsets.
    #[test]
    fn errors_are_bounded_by_the_resolution_of_the_block(
        seed: u64, offset in -3.0f32..3.0, spread in 0.0f32..2.0, exponent in -8i32..12,
    ) {
        let mut random = Random(seed);
        let size = 2f32.powi(exponent);
        let values: Vec<f32> = (0..256).map(|_| (offset + spread * random.normal()) * size).collect();
        let (low, high) = values.iter().fold((0.0f32, 0.0f32), |(l, h), &x| (l.min(x), h.max(x)));
        let largest = high.max(-low);
        // In steps of the coarsest grid in the block. The search may clip a value by one step to serve the others, and
        // scales and minima are themselves rounded, to 1/126 of the largest.
        let bounds = [
            (ElementType::Q8_0, 0.51 * largest / 127.0),
            (ElementType::Q6_K, 1.6 * largest / 32.0),
            (ElementType::Q5_K, 1.6 * (high - low) / 31.0),
            (ElementType::Q4_K, 1.6 * (high - low) / 15.0),
            (ElementType::Q4_0, 1.6 * largest / 8.0),
        ];
        for (ty, bound) in bounds {
            for (x, y) in values.iter().zip(round_trip(ty, &values)) {
                prop_assert!((x - y).abs() <= bound + 1e-6, "{ty}: {x} became {y}, bound {bound}");
            }
        }
    }

    /// Both directions agree with the f64 definition.
    #[test]
    fn dequantisation_is_the_exact_value_rounded_once(seed: u64, ty in prop::sample::select(&BLOCK_TYPES[..]), blocks in 1usize..4) {
        let bytes = common::arbitrary_blocks(&mut Random(seed), ty, blocks);
        let n = blocks * ty.block_elements();
        let (mut values, mut exact) = (vec![0.0f32; n], vec![0.0f64; n]);
        dequantize_row(ty, &bytes, &mut values).unwrap();
        dequantize_row_f64(ty, &bytes, &mut exact).unwrap();
        for (value, exact) in values.iter().zip(exact) {
            prop_assert_eq!(f64::from(*value), f64::from(exact as f32));
        }
    }

    /// A row that lies on a grid comes back as it was: quantising twice changes nothing more than rounding.
    #[test]
    fn q8_0_is_idempotent(seed: u64) {
        let once = round_trip(ElementType::Q8_0, &Random(seed).normals(64));
        let twice = round_trip(ElementType::Q8_0, &once);
        prop_assert!(once.iter().zip(&twice).all(|(a, b)| (a - b).abs() <= a.abs() * 1e-3));
    }
}

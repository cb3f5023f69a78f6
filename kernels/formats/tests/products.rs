//! Matrix products against f64, and all code paths against each other.

mod common;

use common::{BLOCK_TYPES, Random, arbitrary_blocks, quantized, weights};
use proptest::prelude::*;
use tensor_formats::reference::{dequantize_row_f64, matvec_f64, relative_l2};
use tensor_formats::{
    ElementType, FormatError, Matrix, Q8Row, Q8Rows, Simd, add_weighted_rows, dot_f32, dot_q8, has_dot_q8,
    matmul_f32, matmul_q8,
};

fn act_rows(values: &[f32], cols: usize) -> Vec<u8> {
    values.chunks_exact(cols).flat_map(|row| quantized(ElementType::Q8Act, row)).collect()
}

fn run_q8(simd: Simd, weights: Matrix<'_>, acts: Q8Rows<'_>) -> Vec<f32> {
    let mut out = vec![f32::NAN; weights.rows() * acts.rows()];
    matmul_q8(simd, weights, acts, &mut out).unwrap();
    out
}

fn run_f32(simd: Simd, weights: Matrix<'_>, x: &[f32]) -> Vec<f32> {
    let mut out = vec![f32::NAN; weights.rows() * (x.len() / weights.cols())];
    matmul_f32(simd, weights, x, &mut out).unwrap();
    out
}

/// Column `act` of an output of `n` activation rows.
fn column(out: &[f32], n: usize, act: usize) -> Vec<f32> {
    out.iter().skip(act).step_by(n).copied().collect()
}

fn as_f64(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&x| f64::from(x)).collect()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|x| x.to_bits()).collect()
}

#[test]
fn f32_products_agree_with_f64_for_every_type_and_odd_lengths() {
    let mut random = Random(1);
    for ty in ElementType::WEIGHTS {
        for cols in [1usize, 2, 7, 31, 32, 33, 64, 96, 255, 256, 257, 288, 300, 768, 8192] {
            if !cols.is_multiple_of(ty.block_elements()) {
                continue;
            }
            let bytes = weights(&mut random, ty, 5, cols);
            let matrix = Matrix::new(ty, cols, &bytes).unwrap();
            for n in [1, 2, 8, 9] {
                let x = random.normals(n * cols);
                for simd in Simd::available() {
                    let out = run_f32(simd, matrix, &x);
                    for (act, x) in x.chunks_exact(cols).enumerate() {
                        let expected = matvec_f64(ty, &bytes, &as_f64(x)).unwrap();
                        let error = relative_l2(&column(&out, n, act), &expected);
                        assert!(error < 3e-6, "{ty} {cols} n={n} {simd}: {error:e}");
                    }
                }
            }
        }
    }
}

#[test]
fn q8_products_agree_with_f64_on_the_quantised_activation_and_with_the_real_one() {
    let mut random = Random(2);
    for ty in BLOCK_TYPES {
        for cols in [32usize, 64, 224, 256, 288, 512, 768, 8192] {
            if !cols.is_multiple_of(ty.block_elements()) {
                continue;
            }
            let bytes = weights(&mut random, ty, 64, cols);
            let matrix = Matrix::new(ty, cols, &bytes).unwrap();
            let x = random.normals(cols);
            let act = act_rows(&x, cols);
            let mut x8 = vec![0.0; cols];
            dequantize_row_f64(ElementType::Q8Act, &act, &mut x8).unwrap();
            let out = run_q8(Simd::PORTABLE, matrix, Q8Rows::new(cols, &act).unwrap());
            let arithmetic = relative_l2(&out, &matvec_f64(ty, &bytes, &x8).unwrap());
            assert!(arithmetic < 1e-6, "{ty} {cols}: {arithmetic:e}");
            let quantisation = relative_l2(&out, &matvec_f64(ty, &bytes, &as_f64(&x)).unwrap());
            assert!(quantisation < 1e-2, "{ty} {cols}: {quantisation:e}");
        }
    }
}

#[test]
fn a_result_depends_on_neither_the_batch_nor_the_split_nor_the_alignment() {
    let (mut random, cols, rows) = (Random(3), 512, 7);
    for ty in ElementType::WEIGHTS {
        let bytes = weights(&mut random, ty, rows, cols);
        let shifted: Vec<u8> = [0x55].iter().chain(&bytes).copied().collect();
        let x = random.normals(71 * cols);
        let act = act_rows(&x, cols);
        let act_shifted: Vec<u8> = [0x55].iter().chain(&act).copied().collect();
        for simd in Simd::available() {
            let matrix = Matrix::new(ty, cols, &shifted[1..]).unwrap();
            let all = run_f32(simd, matrix, &x);
            let all_q8 =
                has_dot_q8(ty).then(|| run_q8(simd, matrix, Q8Rows::new(cols, &act_shifted[1..]).unwrap()));
            for n in [1, 2, 5, 8, 9, 16, 65] {
                let part = run_f32(simd, matrix.slice(2..6).unwrap(), &x[..n * cols]);
                let part_q8 = all_q8.as_ref().map(|_| {
                    let acts = &act[..n * ElementType::Q8Act.row_bytes(cols).unwrap()];
                    run_q8(simd, matrix.slice(2..6).unwrap(), Q8Rows::new(cols, acts).unwrap())
                });
                for act in 0..n {
                    assert_eq!(bits(&column(&part, n, act)), bits(&column(&all, 71, act)[2..6]), "{ty}");
                    if let (Some(part), Some(all)) = (&part_q8, &all_q8) {
                        assert_eq!(bits(&column(part, n, act)), bits(&column(all, 71, act)[2..6]), "{ty}");
                    }
                }
            }
        }
    }
}

#[test]
fn not_finite_activations_make_the_result_nan() {
    let (mut random, cols) = (Random(4), 512);
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut x = random.normals(cols);
        x[300] = bad;
        let act = act_rows(&x, cols);
        for (ty, simd) in BLOCK_TYPES.into_iter().flat_map(|ty| Simd::available().map(move |simd| (ty, simd)))
        {
            let bytes = weights(&mut random, ty, 3, cols);
            let matrix = Matrix::new(ty, cols, &bytes).unwrap();
            let out = run_q8(simd, matrix, Q8Rows::new(cols, &act).unwrap());
            assert!(out.iter().all(|y| y.is_nan()), "{ty} {simd} {bad}: {out:?}");
            assert!(run_f32(simd, matrix, &x).iter().all(|y| !y.is_finite()), "{ty} {simd} {bad}");
        }
    }
}

#[test]
fn lengths_and_types_that_do_not_fit_are_errors() {
    let simd = Simd::detect();
    let bytes = [0; 288];
    let matrix = Matrix::new(ElementType::Q4_K, 256, &bytes).unwrap();
    assert_eq!((matrix.rows(), matrix.cols(), matrix.row_bytes()), (2, 256, 144));
    assert!(matches!(Matrix::new(ElementType::Q4_K, 256, &bytes[1..]), Err(FormatError::Length { .. })));
    assert!(matches!(Matrix::new(ElementType::Q4_K, 128, &bytes), Err(FormatError::PartialBlock { .. })));
    assert!(matches!(Matrix::new(ElementType::Q4_K, 0, &[]), Err(FormatError::Length { .. })));
    assert!(matches!(Matrix::new(ElementType::Q8Act, 32, &bytes[..40]), Err(FormatError::NotDefined { .. })));
    assert!(matches!(matrix.slice(1..3), Err(FormatError::Length { expected: 2, actual: 3, .. })));
    assert_eq!(matrix.slice(2..2).unwrap().rows(), 0);

    let x = [0.0; 512];
    for (x_len, out_len) in [(256, 1), (256, 3), (255, 2), (512, 2)] {
        let mut out = vec![0.0; out_len];
        let result = matmul_f32(simd, matrix, &x[..x_len], &mut out);
        assert!(matches!(result, Err(FormatError::Length { .. })), "{x_len} {out_len}");
    }
    assert_eq!(matmul_f32(simd, matrix, &[], &mut []), Ok(()), "no activations, no output");
    assert!(dot_f32(simd, ElementType::Q4_K, &bytes, &x[..256]).is_err(), "two rows are not one");

    let act = [0; 640];
    assert!(matches!(Q8Rows::new(512, &act[1..]), Err(FormatError::Length { .. })));
    let acts = Q8Rows::new(512, &act).unwrap();
    let mismatch = FormatError::Length { what: "columns of Q8 activations", expected: 256, actual: 512 };
    assert_eq!(matmul_q8(simd, matrix, acts, &mut [0.0; 2]), Err(mismatch));
    let halves = [0; 64];
    let row = Q8Row::new(32, &act[..40]).unwrap();
    let undefined = dot_q8(simd, ElementType::F16, &halves, row).unwrap_err();
    assert_eq!(undefined.to_string(), "a product with Q8 activations is not defined for F16");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    /// Every path gives the same bits, whatever a file holds: extreme quants, subnormal and negative scales.
    #[test]
    fn q8_products_are_bit_identical_on_every_path(
        seed: u64, ty in prop::sample::select(&BLOCK_TYPES[..]), blocks in 1usize..12, rows in 1usize..4, n in 1usize..11,
        scale in prop::sample::select(vec![1e-38f32, 1e-6, 1.0, 1e6]),
    ) {
        let mut random = Random(seed);
        let cols = blocks * ty.block_elements();
        let bytes = arbitrary_blocks(&mut random, ty, blocks * rows);
        let matrix = Matrix::new(ty, cols, &bytes).unwrap();
        let x: Vec<f32> = random.normals(n * cols).iter().map(|x| x * scale).collect();
        let act = act_rows(&x, cols);
        let acts = Q8Rows::new(cols, &act).unwrap();
        let expected = run_q8(Simd::PORTABLE, matrix, acts);
        prop_assert!(expected.iter().all(|y| y.is_finite()));
        for simd in Simd::available() {
            prop_assert_eq!(bits(&run_q8(simd, matrix, acts)), bits(&expected), "{}", simd);
        }
    }

    /// With cancellation the result may be small, so the bound is relative to the sum of magnitudes.
    #[test]
    fn products_are_close_to_f64_for_any_blocks(
        seed: u64, ty in prop::sample::select(&BLOCK_TYPES[..]), blocks in 1usize..12,
    ) {
        let mut random = Random(seed);
        let cols = blocks * ty.block_elements();
        let bytes = arbitrary_blocks(&mut random, ty, blocks);
        let x = random.normals(cols);
        let act = act_rows(&x, cols);
        let mut exact_weights = vec![0.0; cols];
        dequantize_row_f64(ty, &bytes, &mut exact_weights).unwrap();
        let mut x8 = vec![0.0; cols];
        dequantize_row_f64(ElementType::Q8Act, &act, &mut x8).unwrap();
        let expect = |x: &[f64]| {
            let products = || exact_weights.iter().zip(x).map(|(w, x)| w * x);
            (products().sum::<f64>(), products().map(f64::abs).sum::<f64>())
        };
        for simd in Simd::available() {
            let (expected, magnitude) = expect(&as_f64(&x));
            let y = f64::from(dot_f32(simd, ty, &bytes, &x).unwrap());
            prop_assert!((y - expected).abs() <= 4e-6 * magnitude, "{simd}: {y} {expected} {magnitude}");
            let (expected, _) = expect(&x8);
            // Scaled quants and minima may be far larger than the weights that remain of them.
            let magnitude = spread(ty, &bytes, &x8);
            let y = f64::from(dot_q8(simd, ty, &bytes, Q8Row::new(cols, &act).unwrap()).unwrap());
            prop_assert!((y - expected).abs() <= 4e-6 * magnitude, "{simd}: {y} {expected} {magnitude}");
        }
    }

    #[test]
    fn activations_quantise_to_the_same_bytes_on_every_path(
        seed: u64, groups in 1usize..9, exponent in -130i32..120, specials in 0u64..3,
    ) {
        let mut random = Random(seed);
        let mut x = random.normals(32 * groups);
        // Quarter steps hit the ties of rounding.
        for x in &mut x {
            *x = if random.below(2) == 0 { (*x * 4.0).round() / 4.0 } else { *x } * 2f32.powi(exponent);
        }
        for _ in 0..specials {
            let at = random.below(x.len() as u64) as usize;
            x[at] = f32::from_bits(random.next() as u32);
        }
        let mut expected = vec![0; ElementType::Q8Act.row_bytes(x.len()).unwrap()];
        tensor_formats::quantize_q8(Simd::PORTABLE, &x, &mut expected).unwrap();
        for simd in Simd::available() {
            let mut bytes = vec![0xee; expected.len()];
            tensor_formats::quantize_q8(simd, &x, &mut bytes).unwrap();
            prop_assert_eq!(&bytes, &expected);
        }
        let row = Q8Row::new(x.len(), &expected).unwrap();
        for (g, (group, quants)) in x.chunks_exact(32).zip(row.quants().chunks_exact(32)).enumerate() {
            let (d, sum) = (row.scale(g), quants.iter().map(|&q| i32::from(q as i8)).sum::<i32>());
            if group.iter().any(|x| !x.is_finite()) {
                prop_assert!(d.is_nan() && row.sum(g).is_nan());
                continue;
            }
            prop_assert_eq!(row.sum(g).to_bits(), (d * sum as f32).to_bits());
            for (&x, &q) in group.iter().zip(quants) {
                prop_assert!(q as i8 != i8::MIN);
                let error = (f64::from(x) - f64::from(d) * f64::from(q as i8)).abs();
                let flushed = 127.0 * f64::from(f32::MIN_POSITIVE);
                prop_assert!(error <= f64::from(d) * 0.50001 || (d == 0.0 && error < flushed), "{x} {d} {q}");
            }
        }
    }
}

/// The sum of the magnitudes of all terms of a Q8 dot product, minima apart.
fn spread(ty: ElementType, bytes: &[u8], x: &[f64]) -> f64 {
    let absolute: Vec<f64> = x.iter().map(|x| x.abs()).collect();
    let mut bytes = bytes.to_vec();
    if matches!(ty, ElementType::Q4_K | ElementType::Q5_K) {
        // With opposite signs of `d` and `dmin`, scaled quants and minima add up.
        for block in bytes.chunks_exact_mut(ty.block_bytes()) {
            block[1] &= 0x7f;
            block[3] |= 0x80;
        }
    }
    let mut weights = vec![0.0; x.len()];
    dequantize_row_f64(ty, &bytes, &mut weights).unwrap();
    weights.iter().zip(&absolute).map(|(w, x)| w.abs() * x).sum()
}

#[test]
fn fast_f32_products_have_the_same_bits() {
    let mut random = Random(11);
    for ty in ElementType::WEIGHTS {
        for cols in [1usize, 31, 32, 33, 64, 250, 256, 300, 768] {
            if !cols.is_multiple_of(ty.block_elements()) {
                continue;
            }
            let bytes = weights(&mut random, ty, 11, cols);
            let matrix = Matrix::new(ty, cols, &bytes).unwrap();
            let x = random.normals(15 * cols);
            let mut fast = Simd::available().filter(|&simd| simd != Simd::PORTABLE);
            let Some(expected) = fast.next().map(|simd| run_f32(simd, matrix, &x)) else { return };
            for simd in fast {
                assert_eq!(bits(&run_f32(simd, matrix, &x)), bits(&expected), "{ty} {cols} {simd}");
            }
            for n in 1..15 {
                let part = run_f32(Simd::detect(), matrix, &x[..n * cols]);
                for act in 0..n {
                    let (part, all) = (column(&part, n, act), column(&expected, 15, act));
                    assert_eq!(bits(&part), bits(&all), "{ty} {cols} n={n}");
                }
            }
        }
    }
}

#[test]
fn weighted_rows_are_added_in_order_on_every_level() {
    let (mut random, n) = (Random(12), 21);
    for cols in [1, 15, 16, 17, 48, 64, 80, 100, 128, 200] {
        let rows = random.normals(n * cols);
        for sums in 0..14 {
            let weights: Vec<Vec<f32>> =
                (0..sums).map(|i| random.normals((i * 5 + sums) % (n + 1))).collect();
            let weights: Vec<&[f32]> = weights.iter().map(Vec::as_slice).collect();
            let start = random.normals(sums * cols);
            let mut expected = start.clone();
            for (weights, out) in weights.iter().zip(expected.chunks_mut(cols)) {
                for (weight, row) in weights.iter().zip(rows.chunks(cols)) {
                    for (out, value) in out.iter_mut().zip(row) {
                        *out += weight * value;
                    }
                }
            }
            for simd in Simd::available() {
                let mut out = start.clone();
                add_weighted_rows(simd, &rows, cols, &weights, &mut out).unwrap();
                assert_eq!(bits(&out), bits(&expected), "{cols} {sums} {simd}");
            }
        }
    }
}

#[test]
fn rows_behind_a_sums_weights_are_not_read() {
    for simd in Simd::available() {
        let (rows, mut out) = ([1.0, 2.0, f32::NAN, f32::INFINITY], [0.0; 4]);
        add_weighted_rows(simd, &rows, 2, &[&[2.0], &[]], &mut out).unwrap();
        assert_eq!(out, [2.0, 4.0, 0.0, 0.0]);
        for (rows, cols, weights, len) in [(4, 0, 1, 0), (3, 2, 1, 2), (4, 2, 1, 3), (4, 2, 3, 2)] {
            let weights = vec![1.0; weights];
            let result = add_weighted_rows(simd, &vec![1.0; rows], cols, &[&weights], &mut vec![0.0; len]);
            assert!(matches!(result, Err(FormatError::Length { .. })), "{rows} {cols} {len}");
        }
    }
}

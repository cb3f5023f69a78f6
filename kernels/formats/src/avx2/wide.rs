//! Products of f32 activations with weights that need no decoding, and sums of weighted rows: tiles of results in
//! registers.
//!
//! One text for two instruction sets: [`avx2`] has pairs of registers of eight floats, [`avx512`] registers of sixteen.
//! A result does not depend on the tile that it is in.

/// The functions of an instruction set, in terms of its `Wide` (sixteen floats), its operations on them, and the sizes
/// of its tiles: for each number of activations up to the last, how many halves of the partial sums registers have room for.
macro_rules! kernels {
    ($features:literal, $($count:literal => $halves:literal),+; $most:literal => $halves_of_most:literal) => {
        /// Activations of a tile.
        const ACTS: usize = $most;
        /// Bytes of weight rows that all activations are multiplied by before the next ones: a part of the second cache.
        const BAND_BYTES: usize = 1 << 17;
        /// Bytes of a row from which it has no neighbours in a tile of one activation.
        const LONG_BYTES: usize = 1 << 12;

        /// As [`crate::f32_rows::matmul`], for weights of type F32, F16 and BF16.
        #[target_feature(enable = $features)]
        pub(crate) fn matmul(weights: Matrix<'_>, x: &[f32], out: &mut [f32]) {
            match weights.ty() {
                ElementType::F32 => bands(weights, x, out, |bytes| load_bytes(bytes)),
                ElementType::F16 => bands(weights, x, out, |bytes| load_f16(bytes)),
                ElementType::BF16 => bands(weights, x, out, |bytes| load_bf16(bytes)),
                // The caller has other kernels for other types; a NaN would show if it had not.
                _ => out.fill(f32::NAN),
            }
        }

        #[target_feature(enable = $features)]
        #[inline]
        fn bands<const BYTES: usize>(
            weights: Matrix<'_>,
            x: &[f32],
            out: &mut [f32],
            load: impl Fn(&[u8; BYTES]) -> Wide + Copy,
        ) {
            let (cols, n, row_bytes) = (weights.cols(), x.len() / weights.cols(), weights.row_bytes());
            let rows = (BAND_BYTES / row_bytes).next_multiple_of(ROWS).max(ROWS);
            for (band, out) in weights.bytes().chunks(rows * row_bytes).zip(out.chunks_mut(rows * n)) {
                let mut first = 0;
                while first < n {
                    first += acts(band, row_bytes, &x[first * cols..], cols, out, (first, n), load);
                }
            }
        }

        /// The next up to [`ACTS`] activations; how many they are.
        #[target_feature(enable = $features)]
        #[inline]
        fn acts<const BYTES: usize>(
            rows: &[u8],
            row_bytes: usize,
            x: &[f32],
            cols: usize,
            out: &mut [f32],
            at: (usize, usize),
            load: impl Fn(&[u8; BYTES]) -> Wide + Copy,
        ) -> usize {
            let count = (at.1 - at.0).min(ACTS);
            match count {
                $($count => band::<BYTES, $count, $halves>(rows, row_bytes, x, cols, out, at, load),)+
                _ => band::<BYTES, ACTS, $halves_of_most>(rows, row_bytes, x, cols, out, at, load),
            }
            count
        }

        /// All rows of a band by `A` activations, the first of `x`; they are activations `first..` of `n`.
        #[target_feature(enable = $features)]
        #[inline]
        fn band<const BYTES: usize, const A: usize, const HALVES: usize>(
            band: &[u8],
            row_bytes: usize,
            x: &[f32],
            cols: usize,
            out: &mut [f32],
            (first, n): (usize, usize),
            load: impl Fn(&[u8; BYTES]) -> Wide + Copy,
        ) {
            let mut acts: [&[f32]; A] = [&[]; A];
            for (act, x) in acts.iter_mut().zip(x.chunks_exact(cols)) {
                *act = x;
            }
            // Long rows that are used once come from memory: fastest one after the other.
            let rows =
                if A == 1 && row_bytes >= LONG_BYTES { 0 } else { band.len() / row_bytes / ROWS * ROWS };
            let (tiles, rest) = band.split_at(rows * row_bytes);
            let (tile_outs, rest_outs) = out.split_at_mut(rows * n);
            let outs = tile_outs.chunks_exact_mut(ROWS * n);
            for (rows, out) in tiles.chunks_exact(ROWS * row_bytes).zip(outs) {
                let mut tiled: [&[u8]; ROWS] = [&[]; ROWS];
                for (tiled, row) in tiled.iter_mut().zip(rows.chunks_exact(row_bytes)) {
                    *tiled = row;
                }
                let sums = tile::<BYTES, ROWS, A, HALVES>(tiled, acts, load);
                for (sums, out) in sums.iter().zip(out.chunks_exact_mut(n)) {
                    out[first..first + A].copy_from_slice(sums);
                }
            }
            for (row, out) in rest.chunks_exact(row_bytes).zip(rest_outs.chunks_exact_mut(n)) {
                let [sums] = tile::<BYTES, 1, A, HALVES>([row], acts, load);
                out[first..first + A].copy_from_slice(&sums);
            }
        }

        /// The dot products of `R` rows and `A` activations, `HALVES` halves of the partial sums at a time.
        #[target_feature(enable = $features)]
        #[inline]
        fn tile<const BYTES: usize, const R: usize, const A: usize, const HALVES: usize>(
            rows: [&[u8]; R],
            x: [&[f32]; A],
            load: impl Fn(&[u8; BYTES]) -> Wide + Copy,
        ) -> [[f32; A]; R] {
            let cols = x[0].len();
            let (whole, ragged) = (cols / PARTIALS, cols % PARTIALS);
            let mut rows_whole: [&[[[u8; BYTES]; 2]]; R] = [&[]; R];
            for (whole, row) in rows_whole.iter_mut().zip(rows) {
                *whole = row.as_chunks().0.as_chunks().0;
            }
            let mut x_whole: [&[[[f32; 16]; 2]]; A] = [&[]; A];
            for (whole, x) in x_whole.iter_mut().zip(x) {
                *whole = x.as_chunks().0.as_chunks().0;
            }
            let mut folded = [[_mm256_setzero_ps(); A]; R];
            for pass in 0..2 / HALVES {
                let mut sums = [[[zero(); A]; R]; HALVES];
                steps::<BYTES, R, A, HALVES>(pass, rows_whole, x_whole, load, &mut sums);
                if ragged > 0 {
                    // The rest, padded with zeros.
                    let mut row_tails = [[[[0; BYTES]; 2]; 1]; R];
                    let mut x_tails = [[[[0.0; 16]; 2]; 1]; A];
                    let mut row_refs: [&[[[u8; BYTES]; 2]]; R] = [&[]; R];
                    let mut x_refs: [&[[[f32; 16]; 2]]; A] = [&[]; A];
                    for ((tail, reference), row) in row_tails.iter_mut().zip(&mut row_refs).zip(rows) {
                        let bytes = &row[whole * 2 * BYTES..];
                        tail.as_flattened_mut().as_flattened_mut()[..bytes.len()].copy_from_slice(bytes);
                        *reference = tail;
                    }
                    for ((tail, reference), x) in x_tails.iter_mut().zip(&mut x_refs).zip(x) {
                        let values = &x[whole * PARTIALS..];
                        tail.as_flattened_mut().as_flattened_mut()[..ragged].copy_from_slice(values);
                        *reference = tail;
                    }
                    steps::<BYTES, R, A, HALVES>(pass, row_refs, x_refs, load, &mut sums);
                }
                for half in 0..HALVES {
                    for row in 0..R {
                        for act in 0..A {
                            let sum = fold(sums[half][row][act]);
                            let first = pass + half == 0;
                            folded[row][act] = if first { sum } else { _mm256_add_ps(folded[row][act], sum) };
                        }
                    }
                }
            }
            let mut out = [[0.0; A]; R];
            for row in 0..R {
                for act in 0..A {
                    out[row][act] = sum_lanes(folded[row][act]);
                }
            }
            out
        }

        /// Adds the products of all columns, 32 at a time, in `HALVES` halves of the partial sums from `pass` on.
        #[target_feature(enable = $features)]
        #[inline]
        fn steps<const BYTES: usize, const R: usize, const A: usize, const HALVES: usize>(
            pass: usize,
            rows: [&[[[u8; BYTES]; 2]]; R],
            x: [&[[[f32; 16]; 2]]; A],
            load: impl Fn(&[u8; BYTES]) -> Wide + Copy,
            sums: &mut [[[Wide; A]; R]; HALVES],
        ) {
            let mut registers = *sums;
            let (mut rows, mut x, steps) = (rows, x, x[0].len());
            for row in &mut rows {
                *row = &row[..steps];
            }
            for x in &mut x {
                *x = &x[..steps];
            }
            for i in 0..steps {
                for half in 0..HALVES {
                    let mut weights = [zero(); R];
                    for row in 0..R {
                        weights[row] = load(&rows[row][i][pass + half]);
                    }
                    for act in 0..A {
                        let x = load_f32(&x[act][i][pass + half]);
                        for row in 0..R {
                            let sum = &mut registers[half][row][act];
                            *sum = multiply_add(weights[row], x, *sum);
                        }
                    }
                }
            }
            *sums = registers;
        }

        /// As [`crate::add_weighted_rows`].
        #[target_feature(enable = $features)]
        pub(crate) fn add_weighted_rows(rows: &[f32], cols: usize, weights: &[&[f32]], out: &mut [f32]) {
            for (weights, out) in weights.chunks(ACTS).zip(out.chunks_mut(ACTS * cols)) {
                match weights.len() {
                    $($count => mix::<$count>(rows, cols, weights, out),)+
                    _ => mix::<ACTS>(rows, cols, weights, out),
                }
            }
        }

        /// `A` activations' own weighted sums: see [`crate::add_weighted_rows`].
        #[target_feature(enable = $features)]
        #[inline]
        fn mix<const A: usize>(rows: &[f32], cols: usize, weights: &[&[f32]], out: &mut [f32]) {
            // A chunk has at least one.
            let common = weights.iter().map(|weights| weights.len()).min().unwrap_or(0);
            let mut equal: [&[f32]; A] = [&[]; A];
            for (equal, weights) in equal.iter_mut().zip(weights) {
                *equal = &weights[..common];
            }
            mix_equal(rows, cols, equal, out);
            for (weights, out) in weights.iter().zip(out.chunks_exact_mut(cols)) {
                if weights.len() > common {
                    mix_equal(&rows[common * cols..], cols, [&weights[common..]], out);
                }
            }
        }

        /// [`mix`] of equally many rows.
        #[target_feature(enable = $features)]
        #[inline]
        fn mix_equal<const A: usize>(rows: &[f32], cols: usize, weights: [&[f32]; A], out: &mut [f32]) {
            let mut col = 0;
            while cols - col >= 16 * MIXED {
                mix_cols::<A, MIXED>(rows, cols, col, weights, out);
                col += 16 * MIXED;
            }
            while cols - col >= 16 {
                mix_cols::<A, 1>(rows, cols, col, weights, out);
                col += 16;
            }
            if col < cols {
                for (weights, out) in weights.iter().zip(out.chunks_exact_mut(cols)) {
                    add_weighted_cols(rows, cols, col, weights, out);
                }
            }
        }

        /// [`mix_equal`] of `C` times 16 columns from `col` on.
        #[target_feature(enable = $features)]
        #[inline]
        fn mix_cols<const A: usize, const C: usize>(
            rows: &[f32],
            cols: usize,
            col: usize,
            weights: [&[f32]; A],
            out: &mut [f32],
        ) {
            let (mut weights, len) = (weights, weights[0].len());
            for weights in &mut weights {
                *weights = &weights[..len];
            }
            let mut sums = [[zero(); C]; A];
            for (sums, out) in sums.iter_mut().zip(out.chunks_exact(cols)) {
                for (sum, out) in sums.iter_mut().zip(out[col..].as_chunks::<16>().0) {
                    *sum = load_f32(out);
                }
            }
            for (i, row) in rows.chunks_exact(cols).take(len).enumerate() {
                let row: &[[f32; 16]] = &row[col..col + 16 * C].as_chunks().0[..C];
                let mut values = [zero(); C];
                for (value, row) in values.iter_mut().zip(row) {
                    *value = load_f32(row);
                }
                for act in 0..A {
                    let weight = splat(weights[act][i]);
                    for c in 0..C {
                        sums[act][c] = add(sums[act][c], multiply(weight, values[c]));
                    }
                }
            }
            for (sums, out) in sums.iter().zip(out.chunks_exact_mut(cols)) {
                for (&sum, out) in sums.iter().zip(out[col..].as_chunks_mut::<16>().0) {
                    store(out, sum);
                }
            }
        }
    };
}

/// Sixteen floats in two registers.
pub(crate) mod avx2 {
    use std::arch::x86_64::*;

    use super::super::{load_half, sum_lanes};
    use crate::bytes::bytes_at;
    use crate::f32_rows::PARTIALS;
    use crate::weighted::add_weighted_cols;
    use crate::{ElementType, Matrix};

    type Wide = [__m256; 2];

    /// Rows of a tile.
    const ROWS: usize = 2;
    /// Sixteens of columns of a tile of weighted sums.
    const MIXED: usize = 2;

    kernels!("avx2,fma,f16c", 1 => 2, 2 => 1; 3 => 1);

    #[target_feature(enable = "avx2")]
    #[inline]
    fn zero() -> Wide {
        [_mm256_setzero_ps(); 2]
    }

    #[target_feature(enable = "avx2")]
    #[inline]
    fn splat(value: f32) -> Wide {
        [_mm256_set1_ps(value); 2]
    }

    #[target_feature(enable = "avx2")]
    #[inline]
    fn load_f32(values: &[f32; 16]) -> Wide {
        // SAFETY: the reference covers the 64 bytes that are read, and the loads need no alignment.
        unsafe { [_mm256_loadu_ps(values.as_ptr()), _mm256_loadu_ps(values.as_ptr().add(8))] }
    }

    #[target_feature(enable = "avx2")]
    #[inline]
    fn store(values: &mut [f32; 16], wide: Wide) {
        for (values, register) in values.as_chunks_mut().0.iter_mut().zip(wide) {
            super::super::store_f32(values, register);
        }
    }

    #[target_feature(enable = "avx2")]
    #[inline]
    fn load_bytes(bytes: &[u8; 64]) -> Wide {
        let (low, high) = (super::super::load(bytes_at(bytes, 0)), super::super::load(bytes_at(bytes, 32)));
        [_mm256_castsi256_ps(low), _mm256_castsi256_ps(high)]
    }

    #[target_feature(enable = "avx2,f16c")]
    #[inline]
    fn load_f16(bytes: &[u8; 32]) -> Wide {
        let (low, high) = (load_half(bytes_at(bytes, 0)), load_half(bytes_at(bytes, 16)));
        [_mm256_cvtph_ps(low), _mm256_cvtph_ps(high)]
    }

    #[target_feature(enable = "avx2")]
    #[inline]
    fn load_bf16(bytes: &[u8; 32]) -> Wide {
        let (low, high) = (load_half(bytes_at(bytes, 0)), load_half(bytes_at(bytes, 16)));
        let low = _mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(low));
        let high = _mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(high));
        [_mm256_castsi256_ps(low), _mm256_castsi256_ps(high)]
    }

    #[target_feature(enable = "avx2,fma")]
    #[inline]
    fn multiply_add(a: Wide, b: Wide, sum: Wide) -> Wide {
        [_mm256_fmadd_ps(a[0], b[0], sum[0]), _mm256_fmadd_ps(a[1], b[1], sum[1])]
    }

    #[target_feature(enable = "avx2")]
    #[inline]
    fn multiply(a: Wide, b: Wide) -> Wide {
        [_mm256_mul_ps(a[0], b[0]), _mm256_mul_ps(a[1], b[1])]
    }

    #[target_feature(enable = "avx2")]
    #[inline]
    fn add(a: Wide, b: Wide) -> Wide {
        [_mm256_add_ps(a[0], b[0]), _mm256_add_ps(a[1], b[1])]
    }

    /// The sums of the floats that are eight apart.
    #[target_feature(enable = "avx2")]
    #[inline]
    fn fold([low, high]: Wide) -> __m256 {
        _mm256_add_ps(low, high)
    }
}

/// Sixteen floats in one register.
pub(crate) mod avx512 {
    use std::arch::x86_64::*;

    use super::super::sum_lanes;
    use crate::f32_rows::PARTIALS;
    use crate::weighted::add_weighted_cols;
    use crate::{ElementType, Matrix};

    type Wide = __m512;

    /// Rows of a tile.
    const ROWS: usize = 4;
    /// Sixteens of columns of a tile of weighted sums.
    const MIXED: usize = 4;

    kernels!("avx2,fma,f16c,avx512f,avx512vl", 1 => 2, 2 => 2, 3 => 2, 4 => 1, 5 => 1; 6 => 1);

    #[target_feature(enable = "avx512f")]
    #[inline]
    fn zero() -> Wide {
        _mm512_setzero_ps()
    }

    #[target_feature(enable = "avx512f")]
    #[inline]
    fn splat(value: f32) -> Wide {
        _mm512_set1_ps(value)
    }

    #[target_feature(enable = "avx512f")]
    #[inline]
    fn load_f32(values: &[f32; 16]) -> Wide {
        // SAFETY: the reference covers the 64 bytes that are read, and the load needs no alignment.
        unsafe { _mm512_loadu_ps(values.as_ptr()) }
    }

    #[target_feature(enable = "avx512f")]
    #[inline]
    fn store(values: &mut [f32; 16], wide: Wide) {
        // SAFETY: the exclusive reference covers the 64 bytes that are written, and the store needs no alignment.
        unsafe { _mm512_storeu_ps(values.as_mut_ptr(), wide) }
    }

    #[target_feature(enable = "avx512f")]
    #[inline]
    fn load_bytes(bytes: &[u8; 64]) -> Wide {
        // SAFETY: the reference covers the 64 bytes that are read, and the load needs no alignment.
        unsafe { _mm512_loadu_ps(bytes.as_ptr().cast()) }
    }

    #[target_feature(enable = "avx2,avx512f")]
    #[inline]
    fn load_f16(bytes: &[u8; 32]) -> Wide {
        _mm512_cvtph_ps(super::super::load(bytes))
    }

    #[target_feature(enable = "avx2,avx512f")]
    #[inline]
    fn load_bf16(bytes: &[u8; 32]) -> Wide {
        let upper = _mm512_cvtepu16_epi32(super::super::load(bytes));
        _mm512_castsi512_ps(_mm512_slli_epi32::<16>(upper))
    }

    #[target_feature(enable = "avx512f")]
    #[inline]
    fn multiply_add(a: Wide, b: Wide, sum: Wide) -> Wide {
        _mm512_fmadd_ps(a, b, sum)
    }

    #[target_feature(enable = "avx512f")]
    #[inline]
    fn multiply(a: Wide, b: Wide) -> Wide {
        _mm512_mul_ps(a, b)
    }

    #[target_feature(enable = "avx512f")]
    #[inline]
    fn add(a: Wide, b: Wide) -> Wide {
        _mm512_add_ps(a, b)
    }

    /// The sums of the floats that are eight apart.
    #[target_feature(enable = "avx2,avx512f")]
    #[inline]
    fn fold(wide: Wide) -> __m256 {
        let high = _mm256_castpd_ps(_mm512_extractf64x4_pd::<1>(_mm512_castps_pd(wide)));
        _mm256_add_ps(_mm512_castps512_ps256(wide), high)
    }
}

//! Plain f64 definitions, for tests of anything that computes with these formats.
//!
//! Written for clarity from the layouts alone, and sharing no code with the fast paths.

use crate::{ElementType, FormatError};

fn half_at(bytes: &[u8], at: usize) -> f64 {
    half::f16::from_le_bytes([bytes[at], bytes[at + 1]]).to_f64()
}

fn single_at(bytes: &[u8], at: usize) -> f64 {
    f64::from(f32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]))
}

/// Sign, exponent with bias 7 and mantissa; all ones but for the sign are no number, and there are no infinities.
fn f8_e4m3(bits: u8) -> f64 {
    let (exponent, mantissa) = (i32::from(bits >> 3 & 15), f64::from(bits & 7));
    let magnitude = match exponent {
        15 if mantissa == 7.0 => f64::NAN,
        0 => mantissa / 8.0 * 2f64.powi(-6),
        _ => (1.0 + mantissa / 8.0) * 2f64.powi(exponent - 7),
    };
    if bits & 0x80 == 0 { magnitude } else { -magnitude }
}

/// The values of one row of type `ty`, exactly as the format defines them; f64 holds each without rounding.
///
/// # Errors
/// [`FormatError::Length`] or [`FormatError::PartialBlock`] if `src` is not `dst.len()` values of `ty`;
/// [`FormatError::NotDefined`] for [`U32`](ElementType::U32).
pub fn dequantize_row_f64(ty: ElementType, src: &[u8], dst: &mut [f64]) -> Result<(), FormatError> {
    if ty == ElementType::U32 {
        return Err(FormatError::NotDefined { operation: "dequantisation", ty });
    }
    FormatError::check_len("bytes to dequantise", ty.row_bytes(dst.len())?, src.len())?;
    let n = dst.len();
    for (i, value) in dst.iter_mut().enumerate() {
        let (block, i) = (i / ty.block_elements(), i % ty.block_elements());
        let bytes =
            if ty == ElementType::Q8Act { src } else { &src[block * ty.block_bytes()..][..ty.block_bytes()] };
        *value = match ty {
            ElementType::F32 => single_at(bytes, 0),
            ElementType::F16 => half_at(bytes, 0),
            ElementType::BF16 => half::bf16::from_le_bytes([bytes[0], bytes[1]]).to_f64(),
            ElementType::Q4_0 => q4_0(bytes, i),
            ElementType::Q8_0 => half_at(bytes, 0) * f64::from(bytes[2 + i] as i8),
            ElementType::Q4_K => q4_k(bytes, i),
            ElementType::Q5_K => q5_k(bytes, i),
            ElementType::Q6_K => q6_k(bytes, i),
            ElementType::F8E4M3 => f8_e4m3(bytes[0]),
            ElementType::Q8Act => single_at(bytes, n + 8 * block) * f64::from(bytes[32 * block + i] as i8),
            ElementType::U32 => f64::NAN,
        };
    }
    Ok(())
}

fn q4_0(block: &[u8], i: usize) -> f64 {
    let byte = block[2 + i % 16];
    let nibble = if i < 16 { byte & 15 } else { byte >> 4 };
    half_at(block, 0) * (f64::from(nibble) - 8.0)
}

fn q4_k(block: &[u8], i: usize) -> f64 {
    let (group, within) = (i / 32, i % 32);
    let byte = block[16 + 32 * (group / 2) + within];
    scaled(block, group, if group % 2 == 0 { byte & 15 } else { byte >> 4 })
}

fn q5_k(block: &[u8], i: usize) -> f64 {
    let (group, within) = (i / 32, i % 32);
    let byte = block[48 + 32 * (group / 2) + within];
    let low = if group % 2 == 0 { byte & 15 } else { byte >> 4 };
    let high = (block[16 + within] >> group) & 1;
    scaled(block, group, low + 16 * high)
}

/// A value of a group of Q4_K or Q5_K.
fn scaled(block: &[u8], group: usize, quant: u8) -> f64 {
    let packed = &block[4..16];
    let (scale, min) = if group < 4 {
        (packed[group] & 63, packed[group + 4] & 63)
    } else {
        let low = packed[group + 4];
        ((low & 15) | (packed[group - 4] >> 6) << 4, (low >> 4) | (packed[group] >> 6) << 4)
    };
    half_at(block, 0) * f64::from(scale) * f64::from(quant) - half_at(block, 2) * f64::from(min)
}

fn q6_k(block: &[u8], i: usize) -> f64 {
    let (half, group, within) = (i / 128, i / 32 % 4, i % 32);
    let low_byte = block[64 * half + 32 * (group % 2) + within];
    let low = if group < 2 { low_byte & 15 } else { low_byte >> 4 };
    let high = (block[128 + 32 * half + within] >> (2 * group)) & 3;
    let quant = f64::from(low | high << 4) - 32.0;
    half_at(block, 208) * f64::from(block[192 + i / 16] as i8) * quant
}

/// The dot product of two f64 slices, summed in f64.
///
/// # Panics
/// If they are not of one length.
pub fn dot_f64(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

/// `w * x` for weights `[rows, cols]` of type `ty` and `x` `[cols]`, in f64.
///
/// # Errors
/// As [`dequantize_row_f64`] for each row.
pub fn matvec_f64(ty: ElementType, weights: &[u8], x: &[f64]) -> Result<Vec<f64>, FormatError> {
    let row_bytes = crate::matrix::whole_rows(ty, x.len(), weights)?;
    let mut row = vec![0.0; x.len()];
    weights
        .chunks_exact(row_bytes)
        .map(|bytes| dequantize_row_f64(ty, bytes, &mut row).map(|()| dot_f64(&row, x)))
        .collect()
}

/// The relative L2 distance of `actual` from `expected`: the norm of the difference over the norm of `expected`. Zero
/// if both are zero, NaN if either holds a NaN.
///
/// # Panics
/// If they are not of one length: what is missing is not near anything.
pub fn relative_l2(actual: &[f32], expected: &[f64]) -> f64 {
    assert_eq!(actual.len(), expected.len());
    let difference: f64 = actual.iter().zip(expected).map(|(&a, e)| (f64::from(a) - e).powi(2)).sum();
    let norm: f64 = expected.iter().map(|e| e * e).sum();
    if difference == 0.0 { 0.0 } else { (difference / norm).sqrt() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_relative_and_nans_are_far() {
        assert_eq!(relative_l2(&[], &[]), 0.0);
        assert_eq!(relative_l2(&[0.0, -0.0], &[0.0, 0.0]), 0.0);
        assert_eq!(relative_l2(&[3.0, 5.0], &[3.0, 4.0]), 0.2);
        assert_eq!(relative_l2(&[1e-30], &[0.0]), f64::INFINITY);
        assert!(relative_l2(&[f32::NAN, 0.0], &[0.0, 0.0]).is_nan());
        assert!(relative_l2(&[f32::INFINITY], &[f64::INFINITY]).is_nan());
    }

    #[test]
    #[should_panic(expected = "left == right")]
    fn a_result_that_is_not_there_is_not_near() {
        relative_l2(&[], &[1.0]);
    }

    #[test]
    #[should_panic(expected = "left == right")]
    fn a_product_of_unequal_lengths_is_refused() {
        dot_f64(&[1.0, 2.0], &[1.0]);
    }
}

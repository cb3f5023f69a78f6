//! Conversion of whole rows between f32 and any type.

use crate::{
    ElementType, FormatError, Simd, bf16, f8_e4m3, f16, float32, q4_0, q4_k, q5_k, q6_k, q8_0, q8_act,
};

/// Converts one row of type `ty` to f32. Each value is the format's formula rounded once.
///
/// A row may be any number of whole blocks; only [`Q8Act`](ElementType::Q8Act), being planar, has to be given exactly
/// the row that was quantised.
///
/// # Errors
/// [`FormatError::Length`] or [`FormatError::PartialBlock`] if `src` is not `dst.len()` values of `ty`;
/// [`FormatError::NotDefined`] for [`U32`](ElementType::U32).
pub fn dequantize_row(ty: ElementType, src: &[u8], dst: &mut [f32]) -> Result<(), FormatError> {
    FormatError::check_len("bytes to dequantise", ty.row_bytes(dst.len())?, src.len())?;
    match ty {
        ElementType::F32 => float32::dequantize(src, dst),
        ElementType::F16 => f16::dequantize(src, dst),
        ElementType::BF16 => bf16::dequantize(src, dst),
        ElementType::Q4_0 => q4_0::dequantize(src, dst),
        ElementType::Q8_0 => q8_0::dequantize(src, dst),
        ElementType::Q4_K => q4_k::dequantize(src, dst),
        ElementType::Q5_K => q5_k::dequantize(src, dst),
        ElementType::Q6_K => q6_k::dequantize(src, dst),
        ElementType::Q8Act => q8_act::dequantize(src, dst),
        ElementType::F8E4M3 => f8_e4m3::dequantize(src, dst),
        ElementType::U32 => return Err(FormatError::NotDefined { operation: "dequantisation", ty }),
    }
    Ok(())
}

/// Converts one row of f32 to type `ty`. The same values give the same bytes on every machine.
///
/// F16, BF16 and F8E4M3 round to nearest even; what is beyond F16 or BF16 becomes an infinity, and what is beyond F8E4M3
/// its largest number. Q4_0 and the K formats search for the scales with the least weighted squared error, at some
/// hundred operations a value. For Q8Act see [`q8_act`].
///
/// # Errors
/// [`FormatError::Length`] or [`FormatError::PartialBlock`] if `dst` is not `src.len()` values of `ty`;
/// [`FormatError::NotRepresentable`] for a value that is not finite or too large for a block format (Q8Act takes any
/// value); [`FormatError::NotDefined`] for [`U32`](ElementType::U32).
pub fn quantize_row(ty: ElementType, src: &[f32], dst: &mut [u8]) -> Result<(), FormatError> {
    FormatError::check_len("bytes for quantised values", ty.row_bytes(src.len())?, dst.len())?;
    match ty {
        ElementType::F32 => float32::quantize(src, dst),
        ElementType::F16 => f16::quantize(src, dst),
        ElementType::BF16 => bf16::quantize(src, dst),
        ElementType::Q4_0 => q4_0::quantize(src, dst)?,
        ElementType::Q8_0 => q8_0::quantize(src, dst)?,
        ElementType::Q4_K => q4_k::quantize(src, dst)?,
        ElementType::Q5_K => q5_k::quantize(src, dst)?,
        ElementType::Q6_K => q6_k::quantize(src, dst)?,
        ElementType::Q8Act => quantize_q8(Simd::detect(), src, dst)?,
        ElementType::F8E4M3 => f8_e4m3::quantize(src, dst),
        ElementType::U32 => return Err(FormatError::NotDefined { operation: "quantisation", ty }),
    }
    Ok(())
}

/// Quantises one row of activations to [`Q8Act`](ElementType::Q8Act); every level of `simd` gives the same bytes.
///
/// # Errors
/// [`FormatError::Length`] or [`FormatError::PartialBlock`] if `dst` is not one row of `src.len()` values.
pub fn quantize_q8(simd: Simd, src: &[f32], dst: &mut [u8]) -> Result<(), FormatError> {
    FormatError::check_len("bytes of a Q8Act row", ElementType::Q8Act.row_bytes(src.len())?, dst.len())?;
    simd.quantize_q8(src, dst);
    Ok(())
}

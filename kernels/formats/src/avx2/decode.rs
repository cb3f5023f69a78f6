//! Blocks to f32, for products with f32 activations.

use std::arch::x86_64::*;

use super::affine_k::Block;
use super::blocks_32::q4_0_quants;
use super::{half_to_f32, q6_k, store, store_f32};
use crate::bytes::{bytes_at, u16_at};
use crate::{q4_0, q8_0};

#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub(super) fn q4_0(src: &[u8], dst: &mut [f32]) {
    for (block, values) in src.as_chunks::<{ q4_0::BYTES }>().0.iter().zip(dst.as_chunks_mut::<32>().0) {
        let mut quants = [0; 32];
        store(&mut quants, q4_0_quants(block));
        signed(half_to_f32(u16_at(block, 0)), &quants, values);
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub(super) fn q8_0(src: &[u8], dst: &mut [f32]) {
    for (block, values) in src.as_chunks::<{ q8_0::BYTES }>().0.iter().zip(dst.as_chunks_mut::<32>().0) {
        signed(half_to_f32(u16_at(block, 0)), bytes_at(block, 2), values);
    }
}

/// `scale * quant` for 32 signed quants.
#[target_feature(enable = "avx2")]
#[inline]
fn signed(scale: f32, quants: &[u8; 32], values: &mut [f32; 32]) {
    let scale = _mm256_set1_ps(scale);
    for (i, values) in values.as_chunks_mut::<8>().0.iter_mut().enumerate() {
        let integers = _mm256_cvtepi8_epi32(load_eight(bytes_at(quants, 8 * i)));
        store_f32(values, _mm256_mul_ps(scale, _mm256_cvtepi32_ps(integers)));
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub(super) fn q4_k(src: &[u8], dst: &mut [f32]) {
    affine_k(src, dst, |block| Block::q4_k(block));
}

#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub(super) fn q5_k(src: &[u8], dst: &mut [f32]) {
    affine_k(src, dst, |block| Block::q5_k(block));
}

#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn affine_k<const BYTES: usize>(src: &[u8], dst: &mut [f32], load: impl Fn(&[u8; BYTES]) -> Block) {
    for (block, values) in src.as_chunks().0.iter().zip(dst.as_chunks_mut::<256>().0) {
        let block = load(block);
        let (mut scales, mut mins) = ([0.0; 8], [0.0; 8]);
        store_f32(&mut scales, block.scales);
        store_f32(&mut mins, block.mins);
        for (g, values) in values.as_chunks_mut::<32>().0.iter_mut().enumerate() {
            spread(block.quants[g], [scales[g]; 2], [mins[g]; 2], values);
        }
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub(super) fn q6_k(src: &[u8], dst: &mut [f32]) {
    for (bytes, values) in src.as_chunks().0.iter().zip(dst.as_chunks_mut::<256>().0) {
        let d = half_to_f32(u16_at(bytes, crate::q6_k::D));
        let quants = q6_k::quants(bytes);
        for (g, values) in values.as_chunks_mut::<32>().0.iter_mut().enumerate() {
            let scales = [0, 1].map(|half| d * f32::from(bytes[crate::q6_k::SCALES + 2 * g + half] as i8));
            spread(quants[g], scales, scales.map(|scale| 32.0 * scale), values);
        }
    }
}

/// `scale * quant - min` for 32 unsigned quants, with one scale and minimum for each half. The product is exact in f32
/// for every format, so that fusing it changes nothing.
#[target_feature(enable = "avx2,fma")]
#[inline]
fn spread(quants: __m256i, scales: [f32; 2], mins: [f32; 2], values: &mut [f32; 32]) {
    let mut bytes = [0; 32];
    store(&mut bytes, quants);
    for (i, values) in values.as_chunks_mut::<8>().0.iter_mut().enumerate() {
        let quants = _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(load_eight(bytes_at(&bytes, 8 * i))));
        let (scale, min) = (_mm256_set1_ps(scales[i / 2]), _mm256_set1_ps(mins[i / 2]));
        store_f32(values, _mm256_fmsub_ps(scale, quants, min));
    }
}

/// Eight bytes in the lower half of a register.
#[target_feature(enable = "avx2")]
#[inline]
fn load_eight(bytes: &[u8; 8]) -> __m128i {
    _mm_cvtsi64_si128(i64::from_le_bytes(*bytes))
}

//! Functions of the exponential, compiled for AVX2.

use crate::exponential::{silu_inline, soft_max_inline};

#[target_feature(enable = "avx2")]
pub(crate) fn soft_max(x: &mut [f32], scale: f32) {
    soft_max_inline(x, scale);
}

#[target_feature(enable = "avx2")]
pub(crate) fn silu(x: &mut [f32]) {
    silu_inline(x);
}

//! Matrix products with Q8 activations for every processor, in the order of operations that defines their bits.

use crate::{ElementType, Matrix, Q8Row, Q8Rows, q4_0, q4_k, q5_k, q6_k, q8_0};

/// `out[row * acts.rows() + act]` for every row and activation.
pub(crate) fn matmul_q8(weights: Matrix<'_>, acts: Q8Rows<'_>, out: &mut [f32]) {
    let dot: fn(&[u8], Q8Row<'_>) -> f32 = match weights.ty() {
        ElementType::Q4_0 => q4_0::dot_q8,
        ElementType::Q8_0 => q8_0::dot_q8,
        ElementType::Q4_K => q4_k::dot_q8,
        ElementType::Q5_K => q5_k::dot_q8,
        ElementType::Q6_K => q6_k::dot_q8,
        // The caller has refused every other type; a NaN would show if it had not.
        _ => |_, _| f32::NAN,
    };
    for (row, out) in weights.iter_rows().zip(out.chunks_exact_mut(acts.rows().max(1))) {
        for (act, out) in out.iter_mut().enumerate() {
            *out = dot(row, acts.row(act));
        }
    }
}

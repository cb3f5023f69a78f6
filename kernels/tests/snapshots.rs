//! The PTX of one small shape of every variant, as a reader sees it. A snapshot that changes without its kernel means
//! that emission is not deterministic.

use kernels::catalogue;
use ptx_builder::Target;

/// One small shape of each variant of the kernels that are not matrix-vector products.
const NAMES: [&str; 54] = [
    "add_f32_n64_b1",
    "add_f32_n77_b2",
    "add_row_f32_n64_b1",
    "add_row_f32_n77_b2",
    "advance_s4_b3",
    "argmax_f32_n64_b1",
    "argmax_f32_n77_b2",
    "argmax_f32_n32000_b1",
    "attention_bf16_h4_s2_kv2_m320_d64_b2_s3e000000",
    "attention_e4m3_h4_s2_kv2_m320_d64_b2_s3e000000",
    "attention_f16_h4_s2_kv2_m320_d64_b2_s3e000000",
    "attention_f16_h4_s2_kv2_m320_d64_b2_s3e000000_cluster8_ring4",
    "attention_f16_h8_s1_kv2_m64_d80_b1_s3de4f92e_ring3",
    "attention_f32_h4_s2_kv2_m64_d128_b2_s3db504f3",
    "attention_f32_h8_s1_kv2_m64_d80_b1_s3de4f92e",
    "copy_f16_n33_b3",
    "copy_f32_n64_b1",
    "copy_f32_n77_b2",
    "copy_f32_n78_b2",
    "embed_rows_bf16_v10_n256_b2",
    "embed_rows_f16_v10_n256_b2",
    "embed_rows_f32_v10_n256_b2",
    "embed_rows_q4_k_v10_n256_b2",
    "embed_rows_q6_k_v10_n256_b2",
    "embed_rows_q8_0_v10_n256_b2",
    "gated_projection_f16_64x512_eps3727c5ac_b1",
    "gemm_gated_projection_bf16_64x512_b160_w4",
    "gemm_gated_projection_q6_k_64x512_b160_w4",
    "gemm_residual_projection_q4_k_144x512_bias_b24_w4_c2",
    "half_rows_n4096_eps3727c5ac_b32",
    "kv_scatter_bf16_s2_kv2_m16_d33_b2",
    "kv_scatter_e4m3_s2_kv2_m16_d64_b2",
    "kv_scatter_f16_s2_kv2_m16_d64_b2",
    "kv_scatter_f32_s2_kv2_m16_d33_b2",
    "kv_scatter_f32_s2_kv2_m16_d64_b2",
    "loop_condition_8",
    "mul_f32_n77_b2",
    "residual_projection_bf16_64x512_b8",
    "rms_norm_f32_n40000_b1_eps3727c5ac",
    "rms_norm_f32_n64_b1_eps3727c5ac",
    "rms_norm_f32_n77_b2_eps3727c5ac",
    "rope_interleaved_f32_h3_d33_r32_m32_b1",
    "rope_interleaved_f32_h3_d64_r64_m32_b2",
    "rope_neox_f32_h3_d80_r32_m32_b2",
    "rope_neox_f32_h3_d64_r64_m32_b2",
    "sample_cut_n64_b1",
    "sample_draw_n77_s2_m40_b2",
    "sample_largest_n77_s2_m40_b2",
    "silu_f32_n64_b1",
    "soft_max_f32_n151936_b1_s3f800000",
    "soft_max_f32_n64_b1_s3f800000",
    "soft_max_f32_n77_b2_s3f800000",
    "stream_read_t3_b2",
    "swiglu_f32_n64_b1",
];

#[test]
fn text_of_small_shapes() {
    let catalogue = catalogue();
    for name in NAMES {
        let kernel = catalogue.iter().find(|kernel| kernel.name() == name);
        let kernel = kernel.unwrap_or_else(|| panic!("{name} is not in the catalogue"));
        let module =
            kernel.emit(Target::SM_80.max(kernel.min_target())).unwrap_or_else(|error| panic!("{error}"));
        insta::assert_snapshot!(name, ptx_builder::print(&module));
    }
}

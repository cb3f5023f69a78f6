//! Tensor element types and GGUF block formats: geometry, quantisation, dot products.
//!
//! Weights stay in the bytes of the model file, at any alignment; nothing here allocates. Activations are f32, or
//! [Q8Act](q8_act): signed bytes with an f32 scale for every 32 values.
//!
//! - [`ElementType`]: GGML numbers, names, block geometry.
//! - [`mod@f16`], [`bf16`], [`q4_0`], [`q8_0`], [`q4_k`], [`q5_k`], [`q6_k`], [`q8_act`], [`f8_e4m3`]: one module a format, with
//!   its layout.
//! - [`dequantize_row`], [`quantize_row`], [`quantize_q8`]: conversion of rows.
//! - [`matmul_f32`], [`matmul_q8`]: [`Matrix`] times one or many activation rows; [`dot_f32`], [`dot_q8`] for one row.
//! - [`add_weighted_rows`], [`soft_max`], [`silu`]: rows of f32, as attention and feed-forward networks have them.
//! - [`mod@planes`]: the same bytes in the order of a device, for wide loads.
//! - [`Simd`]: the code path, chosen once at run time. Products with Q8 activations have the same bits on all of them.
//! - [`mod@reference`]: the formats' definitions in f64, for tests.
//!
//! # Example
//! Quantise a matrix of two rows to Q4_K and multiply it by a vector, with the vector as it is and quantised:
//!
//! ```
//! use tensor_formats::{ElementType, Matrix, Q8Rows, Simd, matmul_f32, matmul_q8, quantize_q8, quantize_row};
//!
//! # fn main() -> Result<(), tensor_formats::FormatError> {
//! let (ty, rows, cols) = (ElementType::Q4_K, 2, 256);
//! let values: Vec<f32> = (0..rows * cols).map(|i| (i as f32 * 0.37).sin()).collect();
//! let mut bytes = vec![0; ty.matrix_bytes(rows, cols)?];
//! for (row, bytes) in values.chunks(cols).zip(bytes.chunks_mut(ty.row_bytes(cols)?)) {
//!     quantize_row(ty, row, bytes)?;
//! }
//! let weights = Matrix::new(ty, cols, &bytes)?;
//! let x: Vec<f32> = (0..cols).map(|i| (i as f32 * 0.36).cos()).collect();
//!
//! let simd = Simd::detect();
//! let mut y = [0.0; 2];
//! matmul_f32(simd, weights, &x, &mut y)?;
//!
//! let mut act = vec![0; ElementType::Q8Act.row_bytes(cols)?];
//! quantize_q8(simd, &x, &mut act)?;
//! let mut y8 = [0.0; 2];
//! matmul_q8(simd, weights, Q8Rows::new(cols, &act)?, &mut y8)?;
//!
//! for row in 0..rows {
//!     let exact: f32 = (0..cols).map(|i| values[row * cols + i] * x[i]).sum();
//!     assert!((y[row] - exact).abs() < 1.0 && (y8[row] - y[row]).abs() < 0.2);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # Where `unsafe` is
//! In the AVX2 kernels alone: loads and stores through references to arrays of the register's size, and the calls
//! that enter code compiled for AVX2 or AVX-512, which a [`Simd`] obtained from detection makes sound.

mod affine_k;
mod bytes;
mod element;
mod error;
mod exponential;
mod f32_rows;
mod fit;
mod float32;
mod lanes;
mod matmul;
mod matrix;
mod portable;
mod rounding;
mod row;
mod simd;
mod weighted;

#[cfg(target_arch = "x86_64")]
mod avx2;

pub mod bf16;
pub mod f16;
pub mod f8_e4m3;
pub mod planes;
pub mod q4_0;
pub mod q4_k;
pub mod q5_k;
pub mod q6_k;
pub mod q8_0;
pub mod q8_act;
pub mod reference;

pub use element::{ElementType, ggml_name};
pub use error::FormatError;
pub use exponential::{silu, soft_max};
pub use matmul::{dot_f32, dot_q8, has_dot_q8, matmul_f32, matmul_q8};
pub use matrix::Matrix;
pub use planes::{PIECE, Plane, PlaneLayout, PlaneSpan, from_planes, planes_range, to_planes};
pub use q8_act::{Q8Row, Q8Rows};
pub use row::{dequantize_row, quantize_q8, quantize_row};
pub use simd::Simd;
pub use weighted::add_weighted_rows;

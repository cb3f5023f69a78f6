//! What the tests across crates share: their data, and the golden outputs that every engine must reproduce.
//!
//! Tests that need a CUDA device are in `tests/gpu_*.rs`, marked `#[ignore]`; `cargo xtask gpu-test` runs them.

pub mod data;
pub mod golden;
pub mod gpu;
pub mod quality;
pub mod sim;
pub mod synthetic;

//! Groups: what is found, what is not, and what the memory plan makes of it.

mod build;
mod conformance;
mod find;
mod fused;
mod memory;

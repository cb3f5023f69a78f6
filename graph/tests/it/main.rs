//! Tests of the graph crate through its public interface.

mod conformance;
mod construct;
mod display;
mod execute;
mod passes;
mod plan;
mod reference;
mod support;

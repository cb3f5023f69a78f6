//! Tests of the graph crate through its public interface.

mod conformance;
mod construct;
mod display;
mod execute;
mod groups;
mod passes;
mod plan;
mod reference;
mod support;

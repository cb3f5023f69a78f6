//! Tests that cross crates: golden outputs, GPU conformance, the command line.

//! Typed PTX IR in pure Rust: build, print, parse and verify.

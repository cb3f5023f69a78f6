//! The `warpsmith` program.
fn main() {}

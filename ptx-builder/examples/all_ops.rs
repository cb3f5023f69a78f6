//! Prints a module with every form of every instruction that a target has: `all_ops sm_90a`.

use ptx_builder::{Target, all_ops_module};
use std::io::Write as _;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let name = std::env::args().nth(1).unwrap_or_else(|| "sm_80".to_owned());
    let verified = all_ops_module(name.parse::<Target>()?).verify()?;
    std::io::stdout().write_all(verified.ptx().as_bytes())?;
    Ok(())
}

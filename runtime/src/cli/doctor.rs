//! `warpsmith doctor`

use std::io::Write;

use runtime::doctor::examine;

use super::Failure;

/// Writes the report. A machine without a GPU is no failure.
pub fn run(stdout: &mut impl Write) -> Result<(), Failure> {
    write!(stdout, "{}", examine())?;
    stdout.flush()?;
    Ok(())
}

//! `cargo xtask ci`: what `.ci/run` runs after it has installed ptxas.

use std::time::Instant;

use crate::error::Result;
use crate::{ptx_verify, tidy, tools};

#[derive(clap::Args)]
pub struct Args {}

pub fn run(_args: &Args) -> Result<()> {
    step("fmt", || tools::run(tools::cargo().args(["fmt", "--all", "--check"])))?;
    step("clippy", || {
        tools::run(tools::cargo().args(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))
    })?;
    // insta records every snapshot that a test compared: the rest are orphans.
    let references =
        tempfile::NamedTempFile::new().map_err(crate::error::Error::io("snapshot references"))?;
    step("test", || {
        tools::run(
            tools::cargo()
                .args(["test", "--workspace"])
                .env("INSTA_UPDATE", "no")
                .env("INSTA_SNAPSHOT_REFERENCES_FILE", references.path()),
        )
    })?;
    step("tidy", || tidy::run(&tidy::Args { snapshot_references: Some(references.path().to_path_buf()) }))?;
    step("ptx-verify", || ptx_verify::run(&ptx_verify::Args::default()))
}

fn step(name: &str, action: impl FnOnce() -> Result<()>) -> Result<()> {
    println!("== {name}");
    let start = Instant::now();
    action()?;
    println!("== {name}: {:.1} s", start.elapsed().as_secs_f64());
    Ok(())
}

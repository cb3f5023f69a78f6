//! Developer commands of the workspace: `cargo xtask <command>`.
#![allow(clippy::print_stdout, clippy::print_stderr)] // a command line: its output is its purpose

mod budgets;
mod ci;
mod error;
mod gpu_test;
mod mutate;
mod ptx_dump;
mod ptx_verify;
mod tidy;
mod tools;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Developer commands of warpsmith")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// List the kernels of the catalogue, or print the PTX of one or all of them.
    PtxDump(ptx_dump::Args),
    /// Assemble the catalogue for every target with ptxas and compare registers and spills with the budgets.
    PtxVerify(ptx_verify::Args),
    /// Run all GPU tests on this machine, or bundle them for a CUDA machine without Rust.
    GpuTest(gpu_test::Args),
    /// Change kernels one instruction at a time and count what the conformance cases notice.
    Mutate(mutate::Args),
    /// Check the rules of the source tree.
    Tidy(tidy::Args),
    /// Everything that continuous integration runs.
    Ci(ci::Args),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::PtxDump(args) => ptx_dump::run(&args),
        Command::PtxVerify(args) => ptx_verify::run(&args),
        Command::GpuTest(args) => gpu_test::run(&args),
        Command::Mutate(args) => mutate::run(&args),
        Command::Tidy(args) => tidy::run(&args),
        Command::Ci(args) => ci::run(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

//! `cargo xtask mutate`: what share of the mutants of the kernels the conformance cases kill.

use std::fmt::Write as _;

use kernels::cases::{Subject, Verdict, cases};
use ptx_builder::Target;
use rayon::prelude::*;

use crate::error::{Error, Result};

#[derive(clap::Args)]
pub struct Args {
    /// Only kernels whose cases' names contain this.
    #[arg(default_value = "")]
    filter: String,
    /// Only every n-th mutation of a kernel.
    #[arg(long, default_value_t = 1)]
    every: usize,
    /// Target, for example sm_90a.
    #[arg(long, default_value = "sm_80")]
    target: Target,
}

pub fn run(args: &Args) -> Result<()> {
    let subjects = Subject::collect(cases(&args.filter), args.target)
        .map_err(|failure| Error::Message(failure.to_string()))?;
    let (mut invalid, mut killed, mut survived) = (0, 0, 0);
    for subject in &subjects {
        let mutations: Vec<_> = subject.mutations().into_iter().step_by(args.every.max(1)).collect();
        let verdicts: Vec<Verdict> = mutations.par_iter().map(|mutation| subject.judge(mutation)).collect();
        let mut survivors = String::new();
        for (mutation, verdict) in mutations.iter().zip(&verdicts) {
            match verdict {
                Verdict::Invalid => invalid += 1,
                Verdict::Killed { .. } => killed += 1,
                Verdict::Survived => {
                    survived += 1;
                    let function = &subject.module().functions[mutation.function];
                    let line = function.inst(mutation.at).map(|inst| function.display(inst).to_string());
                    let _ = writeln!(survivors, "    {mutation}: {}", line.unwrap_or_default());
                }
            }
        }
        let count = survivors.lines().count();
        println!("{}: {} mutants, {count} survived", subject.name, mutations.len());
        print!("{survivors}");
    }
    let valid = killed + survived;
    println!(
        "{} kernels, {valid} mutants ({invalid} more do not verify): {killed} killed, {survived} survived, {:.2} %",
        subjects.len(),
        100.0 * f64::from(killed) / f64::from(valid.max(1))
    );
    Ok(())
}

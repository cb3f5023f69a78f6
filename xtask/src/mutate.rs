//! `cargo xtask mutate`: which mistakes in the kernels' emitters the conformance cases notice.

use kernels::cases::{Subject, Survey, cases};
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
    let survey = Survey::run(&subjects, args.every, |subject, mutations| {
        mutations.par_iter().map(|mutation| subject.judge(mutation)).collect()
    });
    let (explained, missed): (Vec<_>, Vec<_>) = survey.unnoticed().partition(|(_, reason)| reason.is_some());
    for (mistake, reason) in &explained {
        println!("without effect: {mistake}: {}", reason.unwrap_or_default());
    }
    for (mistake, _) in &missed {
        println!("unnoticed: {mistake}");
    }
    println!(
        "{} kernels, {} mutants run, {} of them refused by the verifier; {} mistakes without effect; {} others, {} \
         unnoticed: {:.2} % noticed",
        subjects.len(),
        survey.mutants,
        survey.invalid,
        explained.len(),
        survey.mistakes.len() - explained.len(),
        missed.len(),
        100.0 * survey.noticed()
    );
    Ok(())
}

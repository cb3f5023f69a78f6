//! `cargo xtask mutate`: which mistakes in the kernels' emitters the conformance cases notice, as a Markdown table and
//! two lists.

use std::collections::BTreeMap;

use kernels::cases::{Subject, Survey, cases, family};
use ptx_builder::Target;
use rayon::prelude::*;

use crate::error::{Error, Result};

#[derive(clap::Args)]
pub struct Args {
    /// Only kernels whose cases' names contain one of these; all if left out.
    filters: Vec<String>,
    /// Only every n-th mistake of a family.
    #[arg(long, default_value_t = 1)]
    every: usize,
    /// Target, for example sm_90a.
    #[arg(long, default_value = "sm_80")]
    target: Target,
    /// Every mistake without effect, not only how many there are of each kind.
    #[arg(long)]
    all: bool,
}

pub fn run(args: &Args) -> Result<()> {
    let every_name = [String::new()];
    let filters = if args.filters.is_empty() { &every_name[..] } else { &args.filters };
    let mut families: BTreeMap<String, Vec<Subject>> = BTreeMap::new();
    for filter in filters {
        let subjects = Subject::collect(cases(filter), args.target)
            .map_err(|failure| Error::Message(failure.to_string()))?;
        for subject in subjects {
            let known = families.entry(family(&subject.name).to_owned()).or_default();
            if !known.iter().any(|other| other.name == subject.name) {
                known.push(subject);
            }
        }
    }
    if families.is_empty() {
        return Err(Error::Message(format!("no case is called {}", filters.join(" or "))));
    }
    let surveys: Vec<(&String, usize, Survey)> = families
        .iter()
        .map(|(family, subjects)| {
            let survey = Survey::run(subjects, args.every, |subject, mutations| {
                mutations.par_iter().map(|mutation| subject.judge(mutation)).collect()
            });
            (family, subjects.len(), survey)
        })
        .collect();
    print_table(&surveys);
    for (family, _, survey) in &surveys {
        print_lists(family, survey, args.all);
    }
    Ok(())
}

fn print_table(surveys: &[(&String, usize, Survey)]) {
    println!(
        "| family | kernels | mutants | refused by the verifier | mistakes | without effect | noticed | unnoticed | share |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- | --- |");
    for (family, kernels, survey) in surveys {
        let (explained, missed) = survey.unnoticed().fold((0, 0), |(explained, missed), (_, reason)| {
            if reason.is_some() { (explained + 1, missed) } else { (explained, missed + 1) }
        });
        let mistakes = survey.mistakes.len();
        println!(
            "| `{family}` | {kernels} | {} | {} | {mistakes} | {explained} | {} | {missed} | {:.1} % |",
            survey.mutants,
            survey.invalid,
            mistakes - explained - missed,
            100.0 * survey.noticed()
        );
    }
}

fn print_lists(family: &str, survey: &Survey, all: bool) {
    let mut kinds: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (mistake, reason) in survey.unnoticed() {
        match reason {
            Some(reason) => kinds.entry(reason).or_default().push(mistake),
            None => println!("unnoticed: {mistake}"),
        }
    }
    for (reason, mistakes) in kinds {
        println!("without effect: {family}, {}: {reason}", mistakes.len());
        for mistake in mistakes.iter().filter(|_| all) {
            println!("  {mistake}");
        }
    }
}

//! A sample of the mutants of every family but the largest: the cases notice nearly all of them. The whole, by
//! `cargo xtask mutate`, is in docs/measurements.

#![allow(clippy::print_stdout)] // What was noticed, for whoever reads the test's output.

use kernels::cases::{Subject, Survey, cases};
use ptx_builder::Target;
use rayon::prelude::*;

/// Families and the share of their mistakes that fits into a test run: every how many.
const SAMPLES: [(&str, usize); 9] = [
    ("add_f32", 3),
    ("swiglu", 3),
    ("copy", 5),
    ("embed", 11),
    ("rms_norm", 29),
    ("quantize", 5),
    ("rope", 7),
    ("kv_scatter", 5),
    ("gemv_q8_q4_k_37", 23),
];

#[test]
fn nearly_every_mistake_is_noticed() {
    let (mut mistakes, mut missed) = (0, Vec::new());
    for (family, every) in SAMPLES {
        let subjects = Subject::collect(cases(family), Target::SM_80).unwrap_or_else(|e| panic!("{e}"));
        assert!(!subjects.is_empty(), "no case is called {family}");
        let survey = Survey::run(&subjects, every, |subject, mutations| {
            mutations.par_iter().map(|mutation| subject.judge(mutation)).collect()
        });
        println!("{family}: {} mutants, {:.1} % noticed", survey.mutants, 100.0 * survey.noticed());
        assert!(survey.mutants > survey.invalid, "{family}: no mutant ran");
        mistakes += survey.mistakes.len();
        missed.extend(survey.unnoticed().filter(|(_, reason)| reason.is_none()).map(|(m, _)| m.to_owned()));
    }
    assert!(mistakes > 150, "only {mistakes}");
    assert!(
        missed.len() * 20 <= mistakes,
        "{} of {mistakes} unnoticed:\n{}",
        missed.len(),
        missed.join("\n")
    );
}

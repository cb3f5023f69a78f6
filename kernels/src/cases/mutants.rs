//! How much the conformance cases notice: kernels with one instruction changed, and whether a case fails.

use std::collections::BTreeMap;

use ptx_builder::interp::Options;
use ptx_builder::testing::{Mutation, mutations};
use ptx_builder::{Inst, Module, Target};

use super::{Case, CaseFailure, Interpreter, equivalent};

/// A kernel with all its cases, ready to be changed.
#[derive(Debug)]
pub struct Subject {
    /// The kernel's name.
    pub name: String,
    module: Module,
    target: Target,
    cases: Vec<Case>,
    fuel: u64,
}

/// What the cases say about a mutant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The verifier refuses it: it could not have been emitted.
    Invalid,
    /// A case failed: its name and why.
    Killed {
        /// The case.
        case: String,
        /// The failure.
        why: String,
    },
    /// Every case passed.
    Survived,
}

impl Subject {
    /// The kernels of `cases` for `target`, or the first that runs them where it is newer, each with its cases, the cheapest first. The unchanged kernel has to pass
    /// them.
    ///
    /// # Errors
    /// The failure of a case on the unchanged kernel.
    pub fn collect(cases: impl Iterator<Item = Case>, target: Target) -> Result<Vec<Self>, CaseFailure> {
        let mut groups: Vec<(String, Vec<Case>)> = Vec::new();
        for case in cases {
            let name = case.kernel.name();
            match groups.iter_mut().find(|(known, _)| *known == name) {
                Some((_, cases)) => cases.push(case),
                None => groups.push((name, vec![case])),
            }
        }
        groups.into_iter().map(|(name, cases)| Self::new(name, cases, target)).collect()
    }

    fn new(name: String, cases: Vec<Case>, target: Target) -> Result<Self, CaseFailure> {
        let needs = cases.iter().map(|case| case.kernel.min_target()).max();
        let target = needs.map_or(target, |needs| needs.max(target));
        let mut interpreter = Interpreter::new(target);
        let mut costs = Vec::with_capacity(cases.len());
        for case in cases {
            case.run(&mut interpreter)?;
            costs.push((interpreter.last().map_or(0, |report| report.instructions), case));
        }
        costs.sort_by_key(|(cost, _)| *cost);
        let most = costs.last().map_or(0, |(cost, _)| *cost);
        let cases: Vec<Case> = costs.into_iter().map(|(_, case)| case).collect();
        let module = cases.first().map(|case| case.kernel.emit(target)).transpose();
        let module = module
            .map_err(|source| CaseFailure::Launch { case: name.clone(), source: Box::new(source) })?
            .unwrap_or_else(|| Module::new(target));
        // A mutant may loop longer than the kernel, but not for ever.
        Ok(Self { name, module, target, cases, fuel: 4 * most + 10_000 })
    }

    /// The kernel as it is.
    pub fn module(&self) -> &Module {
        &self.module
    }

    /// Every mutation of the kernel.
    pub fn mutations(&self) -> Vec<Mutation> {
        mutations(&self.module)
    }

    /// The mistake in the emitter that a mutation stands for: the family, the place and the change, without what
    /// depends on the shape. Kernels of a family share their emitter, so a mistake counts as noticed if the cases of
    /// any of them notice it, and not only those of shapes in which it makes no difference.
    pub fn mistake(&self, mutation: &Mutation) -> String {
        let Some(function) = self.module.functions.get(mutation.function) else { return String::new() };
        let Some(block) = function.blocks.get(mutation.at.block.index()) else { return String::new() };
        let index = mutation.at.index as usize;
        let text = |inst: &Inst| without_numbers(&function.display(inst).to_string());
        let Some(line) = block.insts.get(index).map(text) else { return String::new() };
        let ordinal = block.insts[..index].iter().filter(|inst| text(inst) == line).count();
        let place = block.name.as_deref().unwrap_or("start");
        format!("{}: {place}: {line} #{ordinal}: {:?}", family(&self.name), mutation.change)
    }

    /// Runs the cases on the mutant until one fails.
    pub fn judge(&self, mutation: &Mutation) -> Verdict {
        let Ok(mutant) = mutation.apply(&self.module).verify() else { return Verdict::Invalid };
        let options = Options { threads: Some(1), fuel: self.fuel, ..Options::default() };
        let mut interpreter = Interpreter::with_options(self.target, options).running(mutant);
        for case in &self.cases {
            if let Err(failure) = case.run(&mut interpreter) {
                return Verdict::Killed { case: case.name.clone(), why: failure.to_string() };
            }
        }
        Verdict::Survived
    }
}

/// What the cases noticed of the mutants of some kernels.
#[derive(Debug, Default)]
pub struct Survey {
    /// Each [mistake](Subject::mistake), and whether a case noticed it.
    pub mistakes: BTreeMap<String, bool>,
    /// Mutants that were judged.
    pub mutants: usize,
    /// Those of them that the verifier refused.
    pub invalid: usize,
}

impl Survey {
    /// Takes every `every`-th mistake, in the order in which the subjects show them, and tries it in every subject until
    /// a case notices it. `judge` runs [`Subject::judge`] on each of some mutations of a subject, in parallel if it
    /// likes.
    pub fn run(
        subjects: &[Subject],
        every: usize,
        judge: impl Fn(&Subject, &[Mutation]) -> Vec<Verdict>,
    ) -> Self {
        let mut survey = Self::default();
        let mut numbers: BTreeMap<String, usize> = BTreeMap::new();
        for subject in subjects {
            let mut is_taken = |mistake: &str| {
                let next = numbers.len();
                numbers.entry(mistake.to_owned()).or_insert(next).is_multiple_of(every.max(1))
            };
            // A mistake that another shape has shown already need not be tried again.
            let open: Vec<(String, Mutation)> = subject
                .mutations()
                .into_iter()
                .map(|mutation| (subject.mistake(&mutation), mutation))
                .filter(|(mistake, _)| is_taken(mistake) && survey.mistakes.get(mistake) != Some(&true))
                .collect();
            let (mistakes, mutations): (Vec<_>, Vec<_>) = open.into_iter().unzip();
            survey.mutants += mutations.len();
            for (mistake, verdict) in mistakes.into_iter().zip(judge(subject, &mutations)) {
                match verdict {
                    Verdict::Invalid => survey.invalid += 1,
                    Verdict::Killed { .. } => drop(survey.mistakes.insert(mistake, true)),
                    Verdict::Survived => drop(survey.mistakes.entry(mistake).or_insert(false)),
                }
            }
        }
        survey
    }

    /// Mistakes that nothing noticed, with the reason if they make no difference.
    pub fn unnoticed(&self) -> impl Iterator<Item = (&str, Option<&'static str>)> {
        self.mistakes
            .iter()
            .filter(|(_, noticed)| !**noticed)
            .map(|(m, _)| (m.as_str(), equivalent::reason(m)))
    }

    /// The share, from 0 to 1, of the mistakes that make a difference which a case noticed.
    pub fn noticed(&self) -> f64 {
        let (explained, missed): (Vec<_>, Vec<_>) =
            self.unnoticed().partition(|(_, reason)| reason.is_some());
        let mistakes = self.mistakes.len() - explained.len();
        1.0 - missed.len() as f64 / mistakes.max(1) as f64
    }
}

/// The name of a kernel up to its shape.
pub fn family(name: &str) -> &str {
    let is_shape = |part: &str| {
        let digits = part.trim_start_matches(|c: char| c.is_ascii_lowercase());
        let letters = part.len() - digits.len();
        letters <= 2 && digits.starts_with(|c: char| c.is_ascii_digit())
    };
    let mut end = 0;
    for part in name.split('_') {
        // Formats look like shapes: q8, q4, f16.
        let is_format =
            part.len() <= 4 && (part.starts_with('q') || part.starts_with('f') || part.starts_with("bf"));
        let is_format = is_format || part == "0" && ["q4_", "q8_"].iter().any(|q| name[..end].ends_with(q));
        if end > 0 && is_shape(part) && !is_format {
            break;
        }
        end += part.len() + 1;
    }
    name[..end.min(name.len())].trim_end_matches('_')
}

/// The line without the numbers of registers and labels, and without literals that come from a shape.
fn without_numbers(line: &str) -> String {
    // Elsewhere small literals are shifts, masks and lanes.
    let counts = ["setp", "mul", "mad", "add", "sub", "min", "fma", "mov", "div", "rem", "selp", "cp.async"];
    let mnemonic =
        line.rsplit_once("@").map_or(line, |(_, rest)| rest.split_once(' ').map_or(rest, |(_, rest)| rest));
    let counting = counts.iter().any(|start| mnemonic.starts_with(start));
    let mut text = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(start) = rest.find(|c: char| c.is_ascii_digit()) {
        let (before, from) = rest.split_at(start);
        text.push_str(before);
        let is_float = from.starts_with("0f") && !before.ends_with(|c: char| c.is_ascii_alphabetic());
        let end = from.find(|c: char| !(c.is_ascii_digit() || is_float && c.is_ascii_alphanumeric()));
        let number = &from[..end.unwrap_or(from.len())];
        let word = before.rsplit(|c: char| !c.is_ascii_alphanumeric() && c != '%').next().unwrap_or_default();
        let is_register = word.starts_with('%') && word[1..].chars().all(|c| c.is_ascii_lowercase());
        let is_label = word == "L";
        let in_name = before.ends_with(|c: char| c.is_ascii_alphanumeric() || c == '_' || c == '%');
        let of_shape = !in_name
            && (is_float && number != "0f00000000"
                || number.parse::<u64>().is_ok_and(|n| n > 32 || counting && n > 0));
        if !is_register && !is_label && !of_shape {
            text.push_str(number);
        }
        rest = &from[number.len()..];
    }
    text + rest
}

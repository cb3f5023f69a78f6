//! How much the conformance cases notice: kernels with one instruction changed, and whether a case fails.

use ptx_builder::interp::Options;
use ptx_builder::testing::{Mutation, mutations};
use ptx_builder::{Module, Target};

use super::{Case, CaseFailure, Interpreter};

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
    /// The kernels of `cases` for `target`, each with its cases, the cheapest first. The unchanged kernel has to pass
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

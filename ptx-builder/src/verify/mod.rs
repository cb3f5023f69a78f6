//! The verifier.

mod instruction;
mod report;

pub use report::{Finding, Rule, VerifyErrors};

use crate::ids::{BlockId, InstId};
use crate::module::{Function, Module};
use report::Reporter;

/// A module that passed the verifier: the printer, the parser and the assembler accept it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VerifiedModule {
    module: Module,
    notes: Vec<Finding>,
}

impl VerifiedModule {
    /// The module.
    pub const fn module(&self) -> &Module {
        &self.module
    }

    /// The module, to be changed and verified again.
    pub fn into_module(self) -> Module {
        self.module
    }

    /// What is allowed but worth knowing: every use of inline text, which nobody checked.
    pub fn notes(&self) -> &[Finding] {
        &self.notes
    }

    /// The PTX text.
    pub fn ptx(&self) -> String {
        crate::print::print(&self.module)
    }
}

impl Module {
    /// Checks every rule on every function and instruction; all errors are reported together.
    pub fn verify(self) -> Result<VerifiedModule, VerifyErrors> {
        let mut reporter = Reporter::default();
        for function in &self.functions {
            for (id, inst) in function.insts() {
                instruction::check(&self, function, id, inst, &mut reporter);
            }
        }
        match reporter.finish() {
            Ok(notes) => Ok(VerifiedModule { module: self, notes }),
            Err(errors) => Err(errors),
        }
    }
}

/// Where a finding is.
#[derive(Clone, Copy)]
pub(crate) enum Place<'a> {
    Function(&'a Function),
    Block(&'a Function, BlockId),
    Inst(&'a Function, InstId),
}

//! Findings: which rule, where, the printed instruction, what is wrong.

use super::Place;
use crate::inst::named;
use crate::module::Module;
use std::fmt;

named! {
    /// A rule of the verifier.
    Rule {
        /// Names are identifiers that the text can carry, and differ.
        Name = "name",
        /// Comments are printable ASCII.
        Comment = "comment",
        /// Block sizes and register counts that hardware has.
        LaunchBounds = "launch-bounds",
        /// Sizes and alignments of parameters.
        Parameter = "parameter",
        /// Sizes and alignments of shared and local arrays.
        Array = "array",
        /// Variables at module scope and their initial values.
        Global = "global",
        /// The number of registers.
        RegisterCount = "register-count",
        /// Blocks are separated visibly, and jumps are last.
        Block = "block",
        /// Control does not run off the end.
        Termination = "termination",
        /// Every reachable block can reach an exit.
        Exit = "exit",
        /// Each operand is of the kind that the instruction asks for.
        OperandKind = "operand-kind",
        /// Registers and literals agree with the types of the instruction.
        OperandType = "operand-type",
        /// Literals are in the range of their type.
        LiteralRange = "literal-range",
        /// Types and modifiers form an instruction that exists.
        InstructionForm = "instruction-form",
        /// The target has the instruction.
        Target = "target",
        /// Inline text is reported (a note, not an error).
        InlineText = "inline-text",
        /// Callees exist, and arguments agree with their parameters.
        Call = "call",
        /// Registers are assigned before they are read.
        Definition = "definition",
        /// Constant addresses are inside their object.
        Bounds = "bounds",
        /// Accesses are aligned.
        Alignment = "alignment",
        /// No barrier under divergent control.
        DivergentBarrier = "divergent-barrier",
        /// Who launches dependents waits on its own dependencies.
        GridDependency = "grid-dependency",
    }
}

/// What the verifier has to say about one place.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    /// The rule.
    pub rule: Rule,
    /// The entity: `module`, `kernel`, `kernel L3` or `kernel L3:4`.
    pub entity: String,
    /// The printed instruction, if it is about one.
    pub inst: Option<String>,
    /// What is wrong.
    pub message: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} [{}]", self.entity, self.message, self.rule.name())?;
        match &self.inst {
            Some(inst) => write!(f, "\n    {inst}"),
            None => Ok(()),
        }
    }
}

/// Everything that is wrong with a module.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VerifyErrors {
    /// The errors, in the order of the module.
    pub errors: Vec<Finding>,
}

impl fmt::Display for VerifyErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the module is not valid, {} found", count(self.errors.len()))?;
        for error in &self.errors {
            write!(f, "\n{error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for VerifyErrors {}

fn count(n: usize) -> String {
    if n == 1 { "1 error".to_owned() } else { format!("{n} errors") }
}

pub(crate) struct Reporter<'a> {
    module: &'a Module,
    /// Is the module somebody else's, whose advice findings are notes?
    foreign: bool,
    errors: Vec<Finding>,
    notes: Vec<Finding>,
}

impl<'a> Reporter<'a> {
    pub(crate) const fn new(module: &'a Module, foreign: bool) -> Self {
        Self { module, foreign, errors: Vec::new(), notes: Vec::new() }
    }

    pub(crate) fn error(&mut self, rule: Rule, place: Place<'_>, message: String) {
        self.errors.push(finding(self.module, rule, place, message));
    }

    /// A module that may misbehave when it runs, but that every consumer accepts: an error in a module of ours, a note
    /// in a foreign one.
    pub(crate) fn advice(&mut self, rule: Rule, place: Place<'_>, message: String) {
        if self.foreign {
            self.note(rule, place, message);
        } else {
            self.error(rule, place, message);
        }
    }

    pub(crate) fn note(&mut self, rule: Rule, place: Place<'_>, message: String) {
        self.notes.push(finding(self.module, rule, place, message));
    }

    pub(crate) fn error_count(&self) -> usize {
        self.errors.len()
    }

    pub(crate) fn finish(self) -> Result<Vec<Finding>, VerifyErrors> {
        if self.errors.is_empty() { Ok(self.notes) } else { Err(VerifyErrors { errors: self.errors }) }
    }
}

fn finding(module: &Module, rule: Rule, place: Place<'_>, message: String) -> Finding {
    let (entity, inst) = match place {
        Place::Module => ("module".to_owned(), None),
        Place::Function(function) => (function.name.clone(), None),
        Place::Block(function, block) => (format!("{} {block}", function.name), None),
        Place::Inst(function, id) => {
            let inst = function.inst(id).map(|inst| module.display(function, inst).to_string());
            (format!("{} {id}", function.name), inst)
        }
    };
    Finding { rule, entity, inst, message }
}

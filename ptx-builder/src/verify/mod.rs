//! The verifier. A module that it accepts never makes the printer, the parser or the assembler fail.
//!
//! Every rule runs over the whole module and errors accumulate, each with the entity, the printed instruction
//! and a message. The passes over control flow run for the functions whose blocks and instructions are sound
//! in themselves.
//!
//! # Checked
//!
//! Declarations (`declarations.rs`)
//! - `name`: symbols, register names and block names are ASCII identifiers that the text can carry;
//!   symbols that see each other differ, also from labels. What is external has no body.
//! - `comment`: comments are printable ASCII and do not look like the markers of inline text.
//! - `launch-bounds`: block and cluster sizes and register counts that hardware has; not both `.reqntid` and
//!   `.maxntid`, and nothing of the kind for device functions.
//!   A kernel with neither is noted.
//! - `parameter`: sizes and alignments of parameters, of a kernel at most 32764 bytes in all; at most one result.
//! - `array`: sizes and alignments of shared and local arrays; at most 48 KiB of static shared memory.
//! - `global`: sizes and alignments of variables, and initial values that fit in them (`globals.rs`).
//! - `register-count`: at most [`crate::MAX_REGISTERS`] of each class.
//!
//! Blocks (`structure.rs`)
//! - `block`: there is one; boundaries between blocks are visible in the text; jumps and exits are last; jumps by
//!   index have at most 2^20 targets in all.
//! - `termination`: control does not run off the end of the function.
//! - `exit`: an exit is reachable from every block that is reachable; unreachable blocks are noted.
//!
//! Instructions (`instruction.rs`)
//! - `operand-kind`: number, kind and declaration of operands; placed labels.
//! - `operand-type`: registers and literals agree with the types of the instruction.
//! - `literal-range`: integer literals are in the range of their type.
//! - `instruction-form`: type and modifiers form an instruction that exists.
//! - `call`: callees exist; arguments and results have the sizes and alignments of their parameters (`calls.rs`).
//! - `target`: the target has the instruction.
//! - `inline-text`: noted, since only the assembler checks it.
//!
//! Flow (`definition.rs`, `address.rs`, `divergence.rs`)
//! - `definition`: on every path a register is assigned before it is read. An assignment under a guard
//!   counts for reads under the same guard within the block.
//! - `bounds`: accesses at constant addresses stay inside the parameter or array.
//! - `alignment`: an access whose address is known modulo its size is aligned; a pointer that is used
//!   without an index is declared with the alignment that the access needs.
//! - `divergent-barrier`: `bar.sync` and `bar.red` of all threads are not under a condition that differs
//!   between the threads of a block. An early exit of some threads is no such condition.
//! - `grid-dependency`: a kernel that lets dependent grids start early waits, on every path, for those that it
//!   depends on: otherwise the order of grids is not transitive.
//!
//! # Modules of others
//!
//! [`Module::verify`] is for modules that are built here: it insists on `definition`, `bounds`, `alignment`,
//! `divergent-barrier`, `grid-dependency`, `exit` and on launch bounds that have an effect. A compiler's output
//! breaks those without being wrong: a register that is read undefined on a path whose result nobody uses, a
//! pointer whose declared alignment is that of its C++ type, a barrier under a condition that is uniform for a
//! reason that only the programmer knows. [`Module::verify_foreign`] turns these findings into notes, and keeps
//! every rule whose violation the printer, the parser, the assembler or an interpreter would trip over. Execution
//! under sanitizers finds the violations that are real.
//!
//! # Not checked yet
//! - Accesses outside of arrays through computed addresses, and races: they need execution.
//! - Barriers with a thread count, warp-level barriers, shuffles and votes under divergent control.
//! - That `cp.async` groups are waited for before their data is read.
//! - Definition under guards across blocks: such kernels are refused, even if they are sound.

mod address;
mod calls;
mod declarations;
mod definition;
mod divergence;
mod flow;
mod globals;
mod instruction;
mod objects;
mod regions;
mod report;
mod structure;

pub use report::{Finding, Rule, VerifyErrors};

use crate::ids::{BlockId, InstId};
use crate::module::{Function, Module};
use crate::ops::Op;
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

    /// What is allowed but worth knowing, such as inline text, which nobody checked.
    pub fn notes(&self) -> &[Finding] {
        &self.notes
    }

    /// The PTX text.
    pub fn ptx(&self) -> String {
        crate::print::print(&self.module)
    }
}

impl Module {
    /// Checks every rule on every function and instruction.
    ///
    /// # Errors
    /// [`VerifyErrors`] with everything that is wrong.
    pub fn verify(self) -> Result<VerifiedModule, VerifyErrors> {
        self.verify_as(false)
    }

    /// Checks a module that a compiler or somebody else wrote. What makes the text, the assembler or an interpreter
    /// fail is an error, as in [`Module::verify`]; what may only misbehave when it runs is a note: compilers know
    /// more than the verifier about which registers matter, where pointers point and what all threads agree on.
    ///
    /// # Errors
    /// [`VerifyErrors`] with everything that is wrong.
    pub fn verify_foreign(self) -> Result<VerifiedModule, VerifyErrors> {
        self.verify_as(true)
    }

    fn verify_as(self, foreign: bool) -> Result<VerifiedModule, VerifyErrors> {
        let mut reporter = Reporter::new(&self, foreign);
        declarations::check_module(&self, &mut reporter);
        globals::check(&self, &mut reporter);
        for function in &self.functions {
            check_function(&self, function, &mut reporter);
        }
        match reporter.finish() {
            Ok(notes) => Ok(VerifiedModule { module: self, notes }),
            Err(errors) => Err(errors),
        }
    }
}

fn check_function(module: &Module, function: &Function, reporter: &mut Reporter<'_>) {
    if function.is_declaration() {
        return declarations::check_function(module, function, reporter);
    }
    let before = reporter.error_count();
    declarations::check_function(module, function, reporter);
    structure::check(function, reporter);
    for (id, inst) in function.insts() {
        instruction::check(module, function, id, inst, reporter);
        calls::check(module, function, id, inst, reporter);
    }
    // The remaining passes index registers, blocks and operands without looking back.
    if reporter.error_count() > before {
        return;
    }
    let flow = flow::Flow::new(function);
    structure::check_exits(function, &flow, reporter);
    definition::check(function, &flow, reporter);
    address::check(module, function, reporter);
    divergence::check(function, &flow, reporter);
    if function.launches_dependents() && !function.waits_on_grid_dependency() {
        let waits = function.insts().any(|(_, inst)| inst.op() == Op::GridDepWait);
        let how = if waits { "only on some paths" } else { "never" };
        let message = format!("the kernel launches dependents but waits on its own dependencies {how}");
        reporter.advice(Rule::GridDependency, Place::Function(function), message);
    }
}

/// Where a finding is.
#[derive(Clone, Copy)]
pub(crate) enum Place<'a> {
    Module,
    Function(&'a Function),
    Block(&'a Function, BlockId),
    Inst(&'a Function, InstId),
}

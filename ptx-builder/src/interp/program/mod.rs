//! Programs: verified modules, decoded for execution.
//!
//! Every instruction becomes a [`Step`]: operands are rows of the frame's registers, literals and addresses of
//! symbols are rows that are filled when a frame is made, jumps know the step that they lead to. The code of all
//! functions is one array, so that a program counter names an instruction of the module.

mod inline;
mod layout;
mod load;
mod lower;
mod step;

pub use load::{Kernel, LoadedProgram};

pub(super) use layout::{Constant, Layout, Source, align};
pub(super) use load::{FUNCTION_BASE, function_address};
pub(super) use step::*;

use super::launch::InterpError;
use super::memory::Memory;
use crate::ids::InstId;
use crate::inst::{Inst, Kind, Operand, Space, SpecialReg};
use crate::module::{Function, FunctionKind, Module};
use crate::ops::Op;
use crate::symbols::Global;
use crate::verify::VerifiedModule;
use lower::Lowering;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Where generic addresses of kernel parameters begin.
pub(super) const PARAM_WINDOW: u64 = 0x0300_0000_0000;

/// A decoded module. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Program(Arc<Code>);

/// Steps of all functions, and what their frames consist of.
#[derive(Debug)]
pub(super) struct Code {
    pub(super) module: Module,
    pub(super) steps: Vec<Step>,
    /// By [`crate::FuncId`].
    pub(super) functions: Vec<FunctionCode>,
    /// Parameters of kernels may be read through generic addresses.
    pub(super) generic_params: bool,
    /// Something reads where the words are that a grid synchronises by.
    pub(super) grid_words: bool,
}

fn is_grid_words(operand: &Operand) -> bool {
    matches!(operand, Operand::Special(SpecialReg::EnvReg1 | SpecialReg::EnvReg2))
}

/// A function of a program.
#[derive(Debug)]
pub(super) struct FunctionCode {
    pub(super) range: CodeRange,
    pub(super) layout: Layout,
    pub(super) shared: SharedPlan,
    /// Calls something, so that frames may be deep.
    pub(super) calls: bool,
}

/// Where the static shared memory of a kernel is, in bytes from the start of the block's shared memory: first the
/// kernel's own arrays, then variables of the module, then arrays of device functions.
#[derive(Clone, Debug, Default)]
pub(super) struct SharedPlan {
    /// Of device functions with arrays, by [`crate::FuncId`].
    pub(super) functions: BTreeMap<usize, u32>,
    /// Of variables in shared memory, by [`crate::GlobalId`].
    pub(super) globals: BTreeMap<usize, u32>,
    pub(super) bytes: u32,
}

impl Program {
    /// Decodes every function of a module. Inline text is read as part of the function; places of instructions in
    /// findings count the instructions in it.
    ///
    /// # Errors
    /// [`InterpError::Unsupported`] for an instruction that is not interpreted, or inline text that is not understood.
    pub fn new(module: &VerifiedModule) -> Result<Self, InterpError> {
        let module = inline::expand(module.module())?;
        let mut steps = Vec::new();
        let mut functions = Vec::new();
        for function in &module.functions {
            functions.push(lower_function(&module, function, &mut steps)?);
        }
        let arrays = device_arrays(&module, &functions);
        let variables: Vec<_> =
            module.globals.iter().enumerate().filter(|(_, global)| global.space == Space::Shared).collect();
        for (code, function) in functions.iter_mut().zip(&module.functions) {
            if function.kind == FunctionKind::Kernel {
                code.shared = shared_plan(code, &variables, &arrays);
            }
        }
        let insts = || module.functions.iter().flat_map(Function::insts);
        let generic_params = insts().any(|(_, inst)| inst.op() == Op::CvtaParam);
        let grid_words = insts().any(|(_, inst)| inst.operands.iter().any(is_grid_words));
        Ok(Self(Arc::new(Code { module, steps, functions, generic_params, grid_words })))
    }

    /// Allocates and initialises the module's variables.
    ///
    /// # Errors
    /// [`InterpError::Memory`] if there is no room, [`InterpError::Undefined`] for a variable that another module
    /// would have to define.
    pub fn load(&self, memory: &Memory) -> Result<LoadedProgram, InterpError> {
        load::load(&self.0, memory)
    }

    /// The module that it was made from.
    pub fn module(&self) -> &Module {
        &self.0.module
    }
}

impl Code {
    /// The function that an instruction belongs to.
    pub(super) fn function_at(&self, pc: u32) -> Option<(&FunctionCode, &Function)> {
        let after = self.functions.partition_point(|f| f.range.entry <= pc);
        // Declarations have no code and share their entry with the function that follows.
        let (code, function) = self.functions[..after].iter().zip(&self.module.functions).next_back()?;
        Some((code, function))
    }

    /// The instruction at a program counter.
    pub(super) fn inst(&self, pc: u32) -> Option<&Inst> {
        let (code, function) = self.function_at(pc)?;
        function.inst(*code.range.insts.get((pc - code.range.entry) as usize)?)
    }

    /// The instruction at a program counter: function, place and text.
    pub(super) fn describe(&self, pc: u32) -> (InstId, String) {
        let unknown = InstId { block: crate::ids::BlockId(0), index: 0 };
        let Some((code, function)) = self.function_at(pc) else { return (unknown, String::new()) };
        let at = code.range.insts.get((pc - code.range.entry) as usize).copied().unwrap_or(unknown);
        let line = function.inst(at).map(|inst| self.module.display(function, inst).to_string());
        (at, line.unwrap_or_default())
    }
}

fn lower_function(
    module: &Module,
    function: &Function,
    steps: &mut Vec<Step>,
) -> Result<FunctionCode, InterpError> {
    let too_long = || InterpError::Host(format!("{}: more than 2^32 instructions", function.name));
    let entry = u32::try_from(steps.len()).map_err(|_| too_long())?;
    let mut starts = Vec::with_capacity(function.blocks.len());
    let mut at = entry;
    for block in &function.blocks {
        starts.push(at);
        let insts = u32::try_from(block.insts.len()).map_err(|_| too_long())?;
        at = at.checked_add(insts).ok_or_else(too_long)?;
    }
    let mut lowering = Lowering { module, function, layout: Layout::new(function), starts };
    let mut insts = Vec::new();
    let mut calls = false;
    for (id, inst) in function.insts() {
        calls |= matches!(inst.kind, Kind::Call(_));
        let step = lowering.step(inst).map_err(|message| InterpError::Unsupported {
            function: function.name.clone(),
            line: module.display(function, inst).to_string(),
            message,
        })?;
        steps.push(step);
        insts.push(id);
    }
    let range = CodeRange { entry, insts };
    Ok(FunctionCode { range, layout: lowering.layout, shared: SharedPlan::default(), calls })
}

/// The device functions with arrays in shared memory, and the bytes of those.
fn device_arrays(module: &Module, functions: &[FunctionCode]) -> Vec<(usize, u32)> {
    let all = module.functions.iter().zip(functions).enumerate();
    let device = all.filter(|(_, (function, _))| function.kind == FunctionKind::Device);
    device.map(|(f, (_, code))| (f, code.layout.shared.bytes)).filter(|(_, bytes)| *bytes > 0).collect()
}

/// The shared memory of a kernel. Device functions have a place in it if the kernel calls any.
fn shared_plan(code: &FunctionCode, variables: &[(usize, &Global)], arrays: &[(usize, u32)]) -> SharedPlan {
    let mut plan = SharedPlan { bytes: code.layout.shared.bytes, ..SharedPlan::default() };
    for (id, global) in variables {
        let offset = layout::align(plan.bytes, global.align);
        plan.globals.insert(*id, offset);
        plan.bytes = offset.saturating_add(u32::try_from(global.bytes()).unwrap_or(u32::MAX));
    }
    for (function, bytes) in arrays.iter().filter(|_| code.calls) {
        let offset = layout::align(plan.bytes, 128);
        plan.functions.insert(*function, offset);
        plan.bytes = offset.saturating_add(*bytes);
    }
    plan
}

#[cfg(test)]
mod tests {
    use super::Program;
    use crate::parse;

    /// A plan says nothing of what has no place in it: otherwise plans would grow with the square of the module.
    #[test]
    fn only_kernels_have_plans_and_only_of_what_is_shared() {
        let text = "
.version 8.0
.target sm_80
.address_size 64
.global .b32 other;
.shared .align 4 .b32 common;
.func plain() { ret; }
.func with() { .shared .align 4 .b32 own[8]; .reg .b32 %r; ld.shared.b32 %r, [own]; ret; }
.visible .entry caller() { .shared .align 4 .b32 mine; .reg .b32 %r; ld.shared.b32 %r, [mine]; call with, (); ret; }
.visible .entry alone() { .reg .b32 %r; ld.shared.b32 %r, [common]; ret; }
";
        let module = parse(text).unwrap_or_else(|error| panic!("{error}"));
        let module = module.verify_foreign().unwrap_or_else(|errors| panic!("{errors}"));
        let program = Program::new(&module).unwrap();
        let plans = program.0.functions.iter().map(|code| {
            let shared = &code.shared;
            let pairs =
                |map: &super::BTreeMap<usize, u32>| map.iter().map(|(k, v)| (*k, *v)).collect::<Vec<_>>();
            (pairs(&shared.functions), pairs(&shared.globals), shared.bytes)
        });
        let nothing = (vec![], vec![], 0);
        let caller = (vec![(1, 128)], vec![(1, 4)], 160);
        let alone = (vec![], vec![(1, 0)], 4);
        assert_eq!(plans.collect::<Vec<_>>(), [nothing.clone(), nothing, caller, alone]);
    }
}

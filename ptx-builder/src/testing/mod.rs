//! Modules that use every instruction, for tests of whatever consumes PTX: assemblers, interpreters, parsers.
//!
//! The forms are found by trying every combination of type and modifiers and keeping those that the
//! instruction rules accept, so a form that the rules allow and an assembler refuses cannot hide.

mod forms;
mod mutate;
mod random;

pub use forms::forms;
pub use mutate::{Change, Mutation, mutations};
pub use random::random_module;

use crate::ids::{ArrayId, BlockId, CallParamId, FuncId, GlobalId, ParamId, RegClass, RegId, TargetsId};
use crate::inst::{
    Address, Arg, Base, Callee, Cmp, Form, Guard, Inst, Kind, Ld, Operand, Regular, Role, Setp, Space,
    SpecialReg, St, What,
};
use crate::module::{Array, Block, Function, Module, Param, ParamTy};
use crate::ops::Op;
use crate::symbols::{Global, Linkage, Prototype, Relocation, SymbolId};
use crate::target::Target;
use crate::ty::{Ty, TyKind};

/// A verifiable module with every form of every instruction that `target` has: one kernel per operation,
/// named after it, each form once with registers and once with literals where they are allowed.
pub fn all_ops_module(target: Target) -> Module {
    let mut module = Module::new(target);
    module.dynamic_shared = Some(16);
    module.globals = globals();
    module.functions.push(callee());
    for op in Op::ALL {
        let mut kernel = Scratch::new(&format!("op_{}", op.info().name.to_lowercase()));
        for kind in forms(*op).into_iter().filter(|kind| kind.requires().met_by(target)) {
            kernel.push_variants(&kind, target);
        }
        if *op == Op::GridDepLaunch && kernel.used {
            // Without this the verifier refuses the kernel.
            kernel.push_variants(&Kind::Regular(Regular::new(Op::GridDepWait, None)), target);
        }
        if kernel.used {
            module.functions.push(kernel.finish());
        }
    }
    module
}

/// A variable in global memory and one in constant memory, with addresses of each other and of the function.
fn globals() -> Vec<Global> {
    let constants = Global {
        name: "constants".to_owned(),
        linkage: Linkage::Internal,
        space: Space::Const,
        ty: Ty::B32,
        len: 16,
        align: 16,
        init: vec![1, 0, 0, 0, 2, 0, 0, 0],
        relocations: Vec::new(),
    };
    let address =
        |offset, symbol| Relocation { offset, symbol, addend: 0, generic: false, bytes: 8, first: 0 };
    let table = Global {
        name: "table".to_owned(),
        linkage: Linkage::Visible,
        space: Space::Global,
        ty: Ty::U64,
        len: 8,
        init: vec![7, 0, 0, 0, 0, 0, 0, 0],
        relocations: vec![
            Relocation { addend: 4, generic: true, ..address(8, SymbolId::Global(CONSTANTS)) },
            address(16, SymbolId::Function(CALLEE)),
        ],
        ..constants.clone()
    };
    vec![constants, table]
}

/// A device function that gives back the word that it is given.
fn callee() -> Function {
    let mut function = Function::device("callee");
    let word = |name: &str| Param { name: name.to_owned(), ty: ParamTy::Scalar(Ty::B32) };
    function.params.push(word("word"));
    function.returns.push(word("result"));
    function.blocks.push(Block::default());
    let mut scratch = Scratch { function, used: false };
    let reg = Operand::Reg(scratch.function.new_register(RegClass::B32));
    let at = |base| Operand::Addr(Address { base, offset: 0 });
    scratch.emit(Kind::Ld(Ld::plain(Space::Param, Ty::B32)), vec![reg, at(Base::Param(PARAM))]);
    scratch.emit(Kind::St(St::plain(Space::Param, Ty::B32)), vec![at(Base::Return(PARAM)), reg]);
    scratch.finish()
}

/// A kernel in the making: initialised registers of every class, arrays and parameters of every kind.
struct Scratch {
    function: Function,
    used: bool,
}

const PARAM: ParamId = ParamId(0);
const SHARED: ArrayId = ArrayId(0);
const LOCAL: ArrayId = ArrayId(1);
const CONSTANTS: GlobalId = GlobalId(0);
const TABLE: GlobalId = GlobalId(1);
const CALLEE: FuncId = FuncId(0);

impl Scratch {
    fn new(name: &str) -> Self {
        let mut function = Function::new(name);
        function.reqntid = Some([128, 1, 1]);
        function.maxnreg = Some(128);
        function.params.push(Param { name: "bytes".to_owned(), ty: ParamTy::Bytes { len: 64, align: 16 } });
        let array =
            |name: &str, space| Array { name: name.to_owned(), space, ty: Ty::B32, len: 64, align: 16 };
        function.arrays.push(array("tile", Space::Shared));
        function.arrays.push(array("stack", Space::Local));
        function.blocks.push(Block::default());
        let mut scratch = Self { function, used: false };
        let address = scratch.function.new_register(RegClass::B64);
        let load = Kind::Ld(Ld::plain(Space::Param, Ty::U64));
        let from = Operand::Addr(Address { base: Base::Param(PARAM), offset: 0 });
        scratch.emit(load, vec![Operand::Reg(address), from]);
        for class in [RegClass::B16, RegClass::B32, RegClass::F32, RegClass::F64] {
            let (ty, zero) = match class {
                RegClass::B16 => (Ty::B16, Operand::Int(1)),
                RegClass::F32 => (Ty::F32, Operand::F32(1)),
                RegClass::F64 => (Ty::F64, Operand::F64(1)),
                _ => (Ty::B32, Operand::Int(1)),
            };
            let reg = scratch.function.new_register(class);
            scratch.emit(Kind::Mov(ty), vec![Operand::Reg(reg), zero]);
        }
        let pred = scratch.function.new_register(RegClass::Pred);
        let word = Operand::Reg(RegId::new(RegClass::B32, 0));
        let setp = Setp { cmp: Cmp::Eq, combine: None, ftz: false, ty: Ty::U32 };
        scratch.emit(Kind::Setp(setp), vec![Operand::Reg(pred), Operand::None, word, Operand::Int(0)]);
        scratch
    }

    fn finish(mut self) -> Function {
        let ret = Kind::Regular(Regular::new(Op::Ret, None));
        self.emit(ret, vec![]);
        self.function
    }

    fn emit(&mut self, kind: Kind, operands: Vec<Operand>) {
        if let Some(block) = self.function.blocks.last_mut() {
            block.insts.push(Inst::new(kind, operands));
        }
    }

    fn push_variants(&mut self, kind: &Kind, target: Target) {
        self.used = true;
        match kind {
            Kind::Mov(ty) => {
                let specials = SpecialReg::ALL.iter().filter(|s| s.requires().met_by(target));
                let mut sources = vec![
                    Operand::Symbol(Base::Array(SHARED)),
                    Operand::Symbol(Base::Array(LOCAL)),
                    Operand::Symbol(Base::DynamicShared),
                    Operand::Symbol(Base::Global(CONSTANTS)),
                    Operand::Symbol(Base::Global(TABLE)),
                    Operand::Symbol(Base::Function(CALLEE)),
                ];
                sources.extend(specials.map(|s| Operand::Special(*s)));
                sources.retain(|source| mov_takes(*ty, *source));
                for source in sources {
                    let dest = self.function.new_register(ty.class());
                    self.emit(kind.clone(), vec![Operand::Reg(dest), source]);
                }
                self.push_variant(kind, false);
                self.push_variant(kind, true);
            }
            Kind::Call(call) => self.push_call(kind, call.callee),
            Kind::BrxIdx { .. } => self.push_jump_table(kind),
            _ if kind.effects().terminates => self.push_terminator(kind),
            _ => {
                self.push_variant(kind, false);
                self.push_variant(kind, true);
            }
        }
    }

    /// A guarded jump or exit, so that what follows is reachable.
    fn push_terminator(&mut self, kind: &Kind) {
        let next = BlockId(u32::try_from(self.function.blocks.len()).unwrap_or(u32::MAX));
        let operands = if kind.op() == Op::Bra { vec![Operand::Label(next)] } else { vec![] };
        let guard = Guard { pred: RegId::new(RegClass::Pred, 0), negated: true };
        if let Some(block) = self.function.blocks.last_mut() {
            block.insts.push(Inst { guard: Some(guard), ..Inst::new(kind.clone(), operands) });
        }
        self.function.blocks.push(Block::default());
    }

    fn push_call(&mut self, kind: &Kind, callee: Callee) {
        let word = |name: &str| Param { name: name.to_owned(), ty: ParamTy::Scalar(Ty::B32) };
        if self.function.call_params.is_empty() {
            self.function.call_params = vec![word("result"), word("argument")];
            let word = vec![ParamTy::Scalar(Ty::B32)];
            self.function.prototypes.push(Prototype { returns: word.clone(), params: word, noreturn: false });
        }
        let at = |id| Operand::Addr(Address { base: Base::CallParam(CallParamId(id)), offset: 0 });
        let [from, to, address] =
            [RegClass::B32, RegClass::B32, RegClass::B64].map(|class| self.function.new_register(class));
        self.emit(Kind::Mov(Ty::B32), vec![Operand::Reg(from), Operand::Int(1)]);
        self.emit(Kind::St(St::plain(Space::Param, Ty::B32)), vec![at(1), Operand::Reg(from)]);
        match callee {
            Callee::Function(_) => self.emit(kind.clone(), vec![]),
            Callee::Pointer(_) => {
                let symbol = Operand::Symbol(Base::Function(CALLEE));
                self.emit(Kind::Mov(Ty::U64), vec![Operand::Reg(address), symbol]);
                self.emit(kind.clone(), vec![Operand::Reg(address)]);
            }
        }
        self.emit(Kind::Ld(Ld::plain(Space::Param, Ty::B32)), vec![Operand::Reg(to), at(0)]);
    }

    /// A jump to the next block, whatever the index.
    fn push_jump_table(&mut self, kind: &Kind) {
        let next = BlockId(u32::try_from(self.function.blocks.len()).unwrap_or(u32::MAX));
        let targets = TargetsId(u32::try_from(self.function.branch_targets.len()).unwrap_or(u32::MAX));
        let Kind::BrxIdx { uni, .. } = *kind else { return };
        self.function.branch_targets.push(vec![next, next]);
        self.emit(Kind::BrxIdx { uni, targets }, vec![Operand::Reg(RegId::new(RegClass::B32, 0))]);
        self.function.blocks.push(Block::default());
    }

    fn push_variant(&mut self, kind: &Kind, literals: bool) {
        let mut operands = Vec::new();
        for arg in kind.signature(&[]).args() {
            for i in 0..arg.operands() {
                let operand = self.operand(kind, arg, i, operands.len(), literals);
                operands.push(operand);
            }
        }
        if literals {
            // The variant without what may be left out.
            let optional = kind.signature(&[]).args().iter().filter(|arg| arg.form == Form::Optional).count();
            operands.truncate(operands.len() - optional);
        }
        self.emit(kind.clone(), operands);
    }

    fn operand(&mut self, kind: &Kind, arg: &Arg, i: usize, position: usize, literals: bool) -> Operand {
        let old = |class| Operand::Reg(RegId::new(class, 0));
        match (arg.role, arg.what) {
            (Role::Def, _) if arg.form == Form::Pair && i == 1 => {
                if literals && kind.op() != Op::Elect {
                    Operand::None
                } else {
                    Operand::Reg(self.function.new_register(RegClass::Pred))
                }
            }
            (Role::Def, What::Reg(ty) | What::WideReg(ty) | What::Value(ty) | What::WideValue(ty)) => {
                let wider = literals && matches!(arg.what, What::WideReg(_)) && ty.fits_in(RegClass::B32);
                let class = if wider { RegClass::B32 } else { ty.class() };
                Operand::Reg(self.function.new_register(class))
            }
            (Role::Def, What::Sink) => Operand::None,
            (Role::Def, _) => Operand::Reg(self.function.new_register(RegClass::Pred)),
            // What it does not add to need not be assigned.
            (_, What::Value(Ty::Pred)) if kind.op() == Op::Wgmma => Operand::Int(0),
            (_, What::Word) if literals => Operand::Int(literal_for(kind.op(), position)),
            (_, What::Value(ty) | What::WideValue(ty) | What::MovSource(ty))
                if literals && ty.kind() != TyKind::SmallFloat =>
            {
                match ty {
                    Ty::F32 => Operand::F32(0x3F80_0000),
                    Ty::F64 => Operand::F64(0x3FF0_0000_0000_0000),
                    Ty::Pred => old(RegClass::Pred),
                    _ => Operand::Int(literal_for(kind.op(), position)),
                }
            }
            (_, What::Pred(true)) if literals => Operand::NotPred(RegId::new(RegClass::Pred, 0)),
            (_, What::Pred(_)) => old(RegClass::Pred),
            (_, What::Literal) => Operand::Int(literal_for(kind.op(), position)),
            (_, What::Address(space)) => {
                let base = if kind.op() == Op::St && space == Space::Param {
                    if self.function.call_params.is_empty() {
                        let ty = ParamTy::Bytes { len: 64, align: 16 };
                        self.function.call_params.push(Param { name: "argument".to_owned(), ty });
                    }
                    Base::CallParam(CallParamId(0))
                } else {
                    base(space)
                };
                let negative = !literals && matches!(base, Base::Reg(_));
                Operand::Addr(Address { base, offset: if negative { -16 } else { 16 } })
            }
            (_, what) => what.ty().map_or(Operand::None, |ty| old(ty.class())),
        }
    }
}

fn mov_takes(ty: Ty, source: Operand) -> bool {
    let bits = match source {
        Operand::Special(special) => special.ty().bits(),
        // Addresses in shared memory fit in 32 bits too.
        Operand::Symbol(Base::Array(LOCAL) | Base::Global(_) | Base::Function(_)) => 64,
        _ => ty.bits(),
    };
    !ty.is_float() && ty.bits() >= 32 && bits == ty.bits()
}

fn base(space: Space) -> Base {
    match space {
        Space::Shared | Space::SharedCluster => Base::Array(SHARED),
        Space::Local => Base::Array(LOCAL),
        Space::Param => Base::Param(PARAM),
        Space::Global | Space::Const | Space::Generic => Base::Reg(RegId::new(RegClass::B64, 0)),
    }
}

/// A literal that the operation accepts at an operand position.
fn literal_for(op: Op, position: usize) -> i64 {
    match (op, position) {
        (Op::CpAsyncCa | Op::CpAsyncCg | Op::CpAsyncCaL2 | Op::CpAsyncCgL2, 2) => 16,
        (Op::CpAsyncCa | Op::CpAsyncCg | Op::CpAsyncCaL2 | Op::CpAsyncCgL2, _) => 8,
        (Op::ApplyPriority | Op::ApplyPriorityAny | Op::Discard | Op::DiscardAny, _) => 128,
        (Op::BulkCopy | Op::BulkPrefetch, _) => 16,
        (Op::BarrierArrive | Op::BarrierSync, 1) => 64,
        (Op::Bfe, 2..) | (Op::Bfi, 3..) => 255,
        (Op::BarArrive | Op::BarSync, 1) => 64,
        (Op::SetMaxNRegInc | Op::SetMaxNRegDec, _) => 64,
        _ => 1,
    }
}

//! Instructions to steps.

use super::layout::{Layout, Source, file_of};
use super::step::{
    Action, AtomicStep, BarrierKind, BarrierStep, BulkStep, CallStep, CopyArrive, CopyAsync, Element,
    Exchange, MatrixStep, MbarrierStep, ParamRange, Pointer, Reduce, Step, StepGuard, StoreAsync, Transfer,
    WgmmaSource, WgmmaStep, WmmaMoveStep, WmmaStep,
};
use crate::ids::RegClass;
use crate::inst::{
    Address, Atom, AtomOrder, Base, BulkCompletion, BulkCopy, Call, Callee, Cvt, Guard, Inst, Kind,
    MatrixMove, Mbarrier, MbarrierOp, MemOrder, Operand, Red, Regular, Scope, Space, Wgmma, What, WmmaMatrix,
    WmmaMove,
};
use crate::interp::alu::{self, Place};
use crate::interp::memory::{LOCAL_WINDOW, Order, SHARED_WINDOW};
use crate::interp::program::PARAM_WINDOW;
use crate::interp::regs::{Args, File, Regs};
use crate::module::{Function, Module};
use crate::ops::Op;
use crate::ty::{Ty, TyKind};

/// Why an instruction cannot be decoded.
pub(super) type Reason = String;

/// Decodes the instructions of one function.
pub(super) struct Lowering<'a> {
    pub(super) module: &'a Module,
    pub(super) function: &'a Function,
    pub(super) layout: Layout,
    /// The first step of each block.
    pub(super) starts: Vec<u32>,
}

/// An operand that is a row: file, slot, negation.
type Row = (File, u32, bool);

impl Lowering<'_> {
    pub(super) fn step(&mut self, inst: &Inst) -> Result<Step, Reason> {
        let guard = match inst.guard {
            None => StepGuard::NONE,
            Some(Guard { pred, negated }) => StepGuard::new(self.layout.register(pred).1, negated),
        };
        let mut args = Args::default();
        let action = self.action(inst, &mut args)?;
        Ok(Step { guard, args, action })
    }

    fn action(&mut self, inst: &Inst, args: &mut Args) -> Result<Action, Reason> {
        let operands = inst.operands.as_slice();
        match &inst.kind {
            Kind::Bra { .. } => {
                let target = inst.target().ok_or("a jump without a target")?;
                Ok(Action::Jump(self.start(target)?))
            }
            Kind::BrxIdx { targets, .. } => {
                self.rows(inst, args)?;
                let targets = self.function.targets(*targets).ok_or("an unknown table of targets")?;
                let starts: Result<Box<[u32]>, Reason> =
                    targets.iter().map(|block| self.start(*block)).collect();
                Ok(Action::JumpTable(starts?))
            }
            Kind::Call(call) => {
                self.rows(inst, args)?;
                self.call(call)
            }
            Kind::Ld(ld) => {
                let count = usize::from(ld.width.count());
                let elements = self.elements(operands, 0, count, ld.ty)?;
                let pointer = self.pointer(operands.get(count), ld.space)?;
                let param = pointer.space == Space::Param;
                let transfer = Transfer { pointer, order: ld.order, nc: ld.nc, ty: ld.ty, elements };
                let transfer = Box::new(transfer);
                Ok(if param { Action::LoadParam(transfer) } else { Action::Load(transfer) })
            }
            Kind::St(st) => {
                let pointer = self.pointer(operands.first(), st.space)?;
                let elements = self.elements(operands, 1, 1 + usize::from(st.width.count()), st.ty)?;
                let param = pointer.space == Space::Param;
                let transfer = Transfer { pointer, order: st.order, nc: false, ty: st.ty, elements };
                let transfer = Box::new(transfer);
                Ok(if param { Action::StoreParam(transfer) } else { Action::Store(transfer) })
            }
            Kind::StAsync(st) => {
                let barrier = 1 + usize::from(st.width.count());
                let (space, order) = (Space::SharedCluster, MemOrder::Weak);
                let pointer = self.pointer(operands.first(), space)?;
                let elements = self.elements(operands, 1, barrier, st.ty)?;
                let store = Transfer { pointer, order, nc: false, ty: st.ty, elements };
                let barrier = self.pointer(operands.get(barrier), space)?;
                Ok(Action::StoreAsync(Box::new(StoreAsync { store, barrier })))
            }
            Kind::Atom(atom) => self.atom(atom, operands),
            Kind::Red(red) => self.red(red, operands),
            Kind::LdMatrix(matrix) => {
                let count = usize::from(matrix.count);
                let pointer = self.pointer(operands.get(count), matrix.space())?;
                let slots = self.elements(operands, 0, count, Ty::B32)?;
                Ok(Action::LoadMatrix(Box::new(matrix_step(pointer, *matrix, &slots))))
            }
            Kind::StMatrix(matrix) => {
                let pointer = self.pointer(operands.first(), matrix.space())?;
                let slots = self.elements(operands, 1, operands.len(), Ty::B32)?;
                Ok(Action::StoreMatrix(Box::new(matrix_step(pointer, *matrix, &slots))))
            }
            Kind::WmmaLoad(matrix) | Kind::WmmaStore(matrix) => self.wmma_move(*matrix, operands),
            Kind::WmmaMma(product) => {
                let mut from = 0;
                let [d, a, b, c] = product.fragments().map(|count| {
                    let elements = self.elements(operands, from, from + usize::from(count), Ty::B32);
                    from += usize::from(count);
                    elements
                });
                Ok(Action::WmmaMma(Box::new(WmmaStep { of: *product, d: d?, a: a?, b: b?, c: c? })))
            }
            Kind::Shfl(mode) => {
                self.rows(inst, args)?;
                Ok(Action::Exchange(Exchange::Shfl(*mode)))
            }
            Kind::MatchAll(ty) => {
                self.rows(inst, args)?;
                Ok(Action::Exchange(Exchange::MatchAll(file_of(ty.class()))))
            }
            Kind::Mma(_) => {
                let files = self.rows(inst, args)?;
                let place = Place { files: &files, half: false };
                let f = alu::lower(&inst.kind, &place).ok_or("a matrix shape without arithmetic")?;
                args.slots[alu::EXTRA] = alu::extra(&inst.kind, &place);
                Ok(Action::Matrix(f))
            }
            Kind::Wgmma(shape) => self.wgmma(*shape, operands),
            Kind::Elect => {
                self.rows(inst, args)?;
                Ok(Action::Exchange(Exchange::Elect))
            }
            Kind::Mbarrier(mbarrier) => self.mbarrier(inst, *mbarrier, args),
            Kind::BulkCopy(bulk) => self.bulk(bulk, operands),
            // The result is a hint that nothing here takes.
            Kind::CreatePolicy(_) => Ok(Action::Nop),
            Kind::Inline { .. } => Err("inline text is not interpreted".to_owned()),
            Kind::Mov(ty) if ty.bits() == 16 && matches!(operands.get(1), Some(Operand::Special(_))) => {
                let low = Cvt {
                    to: Ty::U16,
                    from: Ty::U32,
                    round: None,
                    ftz: false,
                    sat: false,
                    satfinite: false,
                    relu: false,
                };
                self.alu(inst, &Kind::Cvt(low), args)
            }
            Kind::Mov(_) if matches!(operands.get(1), Some(Operand::Special(s)) if is_clock(*s)) => {
                let Some(Operand::Special(special)) = operands.get(1) else {
                    return Err("no source".to_owned());
                };
                let dest = self.element(operands.first(), special.ty())?;
                args.slots[0] = dest.slot;
                Ok(Action::Clock(*special))
            }
            Kind::Regular(regular) => self.regular(inst, *regular, args),
            kind => self.alu(inst, kind, args),
        }
    }

    fn alu(&mut self, inst: &Inst, kind: &Kind, args: &mut Args) -> Result<Action, Reason> {
        let files = self.rows(inst, args)?;
        let half = matches!(inst.operands.first(), Some(Operand::Reg(reg)) if reg.class() == RegClass::B16);
        let place = Place { files: &files, half };
        let f = alu::lower(kind, &place).ok_or("no arithmetic for this form")?;
        let op = kind.op();
        args.slots[alu::EXTRA] =
            if op.sets_carry() || op.reads_carry() { self.layout.carry() } else { alu::extra(kind, &place) };
        Ok(Action::Alu(f))
    }

    fn regular(&mut self, inst: &Inst, regular: Regular, args: &mut Args) -> Result<Action, Reason> {
        let operands = inst.operands.as_slice();
        let ty = regular.ty.unwrap_or(Ty::B32);
        let file = file_of(ty.class());
        let redux = |reduce| Exchange::Redux(reduce, ty);
        let exchange = match regular.op {
            Op::VoteAll => Some(Exchange::VoteAll),
            Op::VoteAny => Some(Exchange::VoteAny),
            Op::VoteUni => Some(Exchange::VoteUni),
            Op::VoteBallot => Some(Exchange::Ballot),
            Op::MatchAny => Some(Exchange::MatchAny(file)),
            Op::ReduxAdd => Some(redux(Reduce::Add)),
            Op::ReduxMin | Op::FReduxMin => Some(redux(Reduce::Min)),
            Op::ReduxMax | Op::FReduxMax => Some(redux(Reduce::Max)),
            Op::ReduxAnd => Some(redux(Reduce::And)),
            Op::ReduxOr => Some(redux(Reduce::Or)),
            Op::ReduxXor => Some(redux(Reduce::Xor)),
            _ => None,
        };
        if let Some(exchange) = exchange {
            self.rows(inst, args)?;
            return Ok(Action::Exchange(exchange));
        }
        let copy = |this: &mut Self| -> Result<Action, Reason> {
            let to = this.pointer(operands.first(), Space::Shared)?;
            let from = this.pointer(operands.get(1), Space::Global)?;
            let Some(Operand::Int(bytes @ (4 | 8 | 16))) = operands.get(2) else {
                return Err("cp.async copies 4, 8 or 16 bytes".to_owned());
            };
            let valid = match operands.get(3) {
                None | Some(Operand::None) => None,
                some => Some(this.element(some, Ty::U32)?.slot),
            };
            let bytes = u8::try_from(*bytes).unwrap_or(16);
            let bypasses = matches!(inst.op(), Op::CpAsyncCg | Op::CpAsyncCgL2);
            Ok(Action::CopyAsync(Box::new(CopyAsync { to, from, bytes, valid, bypasses })))
        };
        match regular.op {
            Op::Ret => Ok(Action::Return),
            Op::Exit => Ok(Action::Exit),
            // Without a debugger, a breakpoint stops the kernel.
            Op::Trap | Op::Brkpt => Ok(Action::Trap),
            Op::ActiveMask => {
                self.rows(inst, args)?;
                Ok(Action::ActiveMask)
            }
            Op::BarWarpSync => {
                self.rows(inst, args)?;
                Ok(Action::WarpSync)
            }
            Op::BarSync | Op::BarrierSync => self.barrier(inst, args, BarrierKind::Sync),
            Op::BarArrive | Op::BarrierArrive => self.barrier(inst, args, BarrierKind::Arrive),
            Op::BarRedPopc | Op::BarrierRedPopc => self.barrier(inst, args, BarrierKind::Popc),
            Op::BarRedAnd | Op::BarrierRedAnd => self.barrier(inst, args, BarrierKind::And),
            Op::BarRedOr | Op::BarrierRedOr => self.barrier(inst, args, BarrierKind::Or),
            Op::CpAsyncCa | Op::CpAsyncCg | Op::CpAsyncCaL2 | Op::CpAsyncCgL2 => copy(self),
            Op::CpAsyncCommit => Ok(Action::CommitGroup),
            Op::CpAsyncWait => match operands.first() {
                Some(Operand::Int(n)) => Ok(Action::WaitGroup(u32::try_from(*n).unwrap_or(0))),
                _ => Err("the number of groups is a literal".to_owned()),
            },
            Op::CpAsyncWaitAll => Ok(Action::WaitAll),
            Op::WgmmaCommit => Ok(Action::WgmmaCommit),
            Op::WgmmaWait => match operands.first() {
                Some(Operand::Int(n)) => Ok(Action::WgmmaWait(u32::try_from(*n).unwrap_or(0))),
                _ => Err("the number of groups is a literal".to_owned()),
            },
            Op::GridDepWait => Ok(Action::GridWait),
            Op::Nanosleep => Ok(Action::Sleep),
            Op::MembarCta | Op::FenceAcqRelCta | Op::FenceScCta => fence(Scope::Cta, Order::AcqRel),
            Op::FenceAcqRelCluster | Op::FenceScCluster => fence(Scope::Cluster, Order::AcqRel),
            Op::MembarGl | Op::FenceAcqRelGpu | Op::FenceScGpu => fence(Scope::Gpu, Order::AcqRel),
            Op::MembarSys | Op::FenceAcqRelSys | Op::FenceScSys => fence(Scope::Sys, Order::AcqRel),
            Op::FenceAcquireCta => fence(Scope::Cta, Order::Acquire),
            Op::FenceAcquireCluster => fence(Scope::Cluster, Order::Acquire),
            Op::FenceAcquireGpu => fence(Scope::Gpu, Order::Acquire),
            Op::FenceAcquireSys => fence(Scope::Sys, Order::Acquire),
            Op::FenceReleaseCta => fence(Scope::Cta, Order::Release),
            Op::FenceReleaseCluster => fence(Scope::Cluster, Order::Release),
            Op::FenceReleaseGpu => fence(Scope::Gpu, Order::Release),
            Op::FenceReleaseSys => fence(Scope::Sys, Order::Release),
            Op::FenceMbarrierInit => fence(Scope::Cluster, Order::AcqRel),
            Op::ClusterArrive => Ok(Action::ClusterArrive { relaxed: false, aligned: false }),
            Op::ClusterArriveAligned => Ok(Action::ClusterArrive { relaxed: false, aligned: true }),
            Op::ClusterArriveRelaxed => Ok(Action::ClusterArrive { relaxed: true, aligned: false }),
            Op::ClusterArriveRelaxedAligned => Ok(Action::ClusterArrive { relaxed: true, aligned: true }),
            Op::ClusterWait => Ok(Action::ClusterWait { aligned: false }),
            Op::ClusterWaitAligned => Ok(Action::ClusterWait { aligned: true }),
            Op::Mapa | Op::MapaShared => {
                self.rows(inst, args)?;
                Ok(Action::Mapa(file))
            }
            Op::GetCtaRank | Op::GetCtaRankShared => {
                self.rows(inst, args)?;
                Ok(Action::Rank(file))
            }
            Op::IsGlobal => self.is_space(inst, args, Space::Global),
            Op::IsShared => self.is_space(inst, args, Space::Shared),
            Op::IsCluster => self.is_space(inst, args, Space::SharedCluster),
            Op::IsLocal => self.is_space(inst, args, Space::Local),
            Op::IsConst => self.is_space(inst, args, Space::Const),
            Op::IsParam => self.is_space(inst, args, Space::Param),
            Op::CpAsyncArrive => self.copy_arrive(operands, Space::Generic, false),
            Op::CpAsyncArriveShared => self.copy_arrive(operands, Space::Shared, false),
            Op::CpAsyncArriveNoInc => self.copy_arrive(operands, Space::Generic, true),
            Op::CpAsyncArriveNoIncShared => self.copy_arrive(operands, Space::Shared, true),
            Op::MovMatrix => {
                self.rows(inst, args)?;
                Ok(Action::Matrix(transpose))
            }
            // Hints, and copies that have happened when they are waited for: nothing that a program can observe.
            Op::PrefetchL1
            | Op::PrefetchL2
            | Op::PrefetchAnyL1
            | Op::PrefetchAnyL2
            | Op::PrefetchUniform
            | Op::PrefetchLast
            | Op::PrefetchNormal
            | Op::ApplyPriority
            | Op::ApplyPriorityAny
            | Op::BulkPrefetch
            | Op::BulkCommit
            | Op::BulkWait
            | Op::BulkWaitRead
            | Op::FenceProxyAlias
            | Op::FenceProxyAsync
            | Op::FenceProxyAsyncGlobal
            | Op::FenceProxyAsyncShared
            | Op::FenceProxyAsyncCluster
            | Op::WgmmaFence
            | Op::PmEvent
            | Op::Discard
            | Op::DiscardAny
            | Op::GridDepLaunch
            | Op::SetMaxNRegInc
            | Op::SetMaxNRegDec => Ok(Action::Nop),
            Op::CvtaShared | Op::CvtaCluster => self.window(inst, args, Op::Add, SHARED_WINDOW),
            Op::CvtaParam => self.window(inst, args, Op::Add, PARAM_WINDOW),
            Op::CvtaToParam => self.window(inst, args, Op::Sub, PARAM_WINDOW),
            Op::CvtaLocal => self.window(inst, args, Op::Add, LOCAL_WINDOW),
            Op::CvtaToShared | Op::CvtaToCluster => self.window(inst, args, Op::Sub, SHARED_WINDOW),
            Op::CvtaToLocal => self.window(inst, args, Op::Sub, LOCAL_WINDOW),
            Op::CvtaGlobal | Op::CvtaToGlobal | Op::CvtaConst | Op::CvtaToConst => {
                self.alu(inst, &Kind::Mov(Ty::U64), args)
            }
            _ => self.alu(inst, &inst.kind, args),
        }
    }

    /// `cvta`: the windows of the generic address space start at constants.
    fn window(&mut self, inst: &Inst, args: &mut Args, op: Op, window: u64) -> Result<Action, Reason> {
        let files = self.rows(inst, args)?;
        args.slots[2] = self.layout.constant(File::L, Source::Bits(window));
        let kind = Kind::Regular(Regular::new(op, Some(Ty::U64)));
        let place = Place { files: &[files[0], files[1], File::L], half: false };
        let f = alu::lower(&kind, &place).ok_or("no 64-bit addition")?;
        Ok(Action::Alu(f))
    }

    fn is_space(&mut self, inst: &Inst, args: &mut Args, space: Space) -> Result<Action, Reason> {
        self.rows(inst, args)?;
        Ok(Action::IsSpace(space))
    }

    fn copy_arrive(&mut self, operands: &[Operand], space: Space, counted: bool) -> Result<Action, Reason> {
        let pointer = self.pointer(operands.first(), space)?;
        Ok(Action::CopyArrive(Box::new(CopyArrive { pointer, counted })))
    }

    fn mbarrier(&mut self, inst: &Inst, mbarrier: Mbarrier, args: &mut Args) -> Result<Action, Reason> {
        use MbarrierOp as M;
        let operands = inst.operands.as_slice();
        let op = mbarrier.op;
        if op == M::PendingCount {
            self.rows(inst, args)?;
            return Ok(Action::PendingCount);
        }
        let results = op.arrives() || op.waits();
        let at = usize::from(results);
        let dest = match operands.first() {
            Some(Operand::None) => None,
            some if op.arrives() => Some(self.element(some, Ty::B64)?),
            some if op.waits() => Some(self.element(some, Ty::Pred)?),
            _ => None,
        };
        let pointer = self.pointer(operands.get(at), mbarrier.space)?;
        let ty = if matches!(op, M::TestWait | M::TryWait) { Ty::B64 } else { Ty::U32 };
        let value = match operands.get(at + 1) {
            None | Some(Operand::None) => None,
            some => Some(self.element(some, ty)?),
        };
        let ordered = !matches!(mbarrier.order, Some((AtomOrder::Relaxed, _)));
        Ok(Action::Mbarrier(Box::new(MbarrierStep { op, pointer, dest, value, ordered })))
    }

    fn bulk(&mut self, bulk: &BulkCopy, operands: &[Operand]) -> Result<Action, Reason> {
        let to = self.pointer(operands.first(), bulk.to)?;
        let from = self.pointer(operands.get(1), bulk.from)?;
        let bytes = self.element(operands.get(2), Ty::U32)?.slot;
        let mut next = 3;
        let mut barrier = None;
        if bulk.completion == BulkCompletion::Mbarrier {
            barrier = Some(self.pointer(operands.get(next), bulk.to)?);
            next += 1;
        }
        let multicast =
            if bulk.multicast { Some(self.element(operands.get(next), Ty::B16)?.slot) } else { None };
        Ok(Action::Bulk(Box::new(BulkStep { to, from, bytes, barrier, multicast })))
    }

    fn wgmma(&mut self, shape: Wgmma, operands: &[Operand]) -> Result<Action, Reason> {
        let count = usize::from(shape.accumulators());
        let slots = |elements: Box<[Element]>| elements.iter().map(|e| e.slot).collect::<Vec<_>>();
        let d = slots(self.elements(operands, 0, count, Ty::B32)?).into();
        let a = if shape.registers {
            let slots = slots(self.elements(operands, count, count + 4, Ty::B32)?);
            WgmmaSource::Registers(slots.try_into().map_err(|_| "operands are missing")?)
        } else {
            WgmmaSource::Descriptor(self.element(operands.get(count), Ty::B64)?.slot)
        };
        let scale = shape.scale_operand();
        let b = self.element(operands.get(scale - 1), Ty::B64)?.slot;
        let scale_slot = self.element(operands.get(scale), Ty::Pred)?.slot;
        let mut literals = operands.iter().skip(scale + 1);
        let mut literal = |there: bool| if there { literals.next() } else { None };
        let signs = [literal(shape.has_signs()), literal(shape.has_signs())];
        let a_transposed = literal(shape.has_transposed() && !shape.registers);
        let transposed = [a_transposed, literal(shape.has_transposed())];
        let negative = signs.iter().filter(|sign| **sign == Some(&Operand::Int(-1))).count() == 1;
        let transposed = transposed.map(|order| order == Some(&Operand::Int(1)));
        let step = WgmmaStep { shape, d, a, b, scale: scale_slot, negative, transposed };
        Ok(Action::Wgmma(Box::new(step)))
    }

    fn barrier(&mut self, inst: &Inst, args: &mut Args, kind: BarrierKind) -> Result<Action, Reason> {
        self.rows(inst, args)?;
        let (id, count) = match kind {
            BarrierKind::Sync | BarrierKind::Arrive => {
                let given = inst.operands.get(1).is_some_and(|operand| *operand != Operand::None);
                (args.slots[0], given.then_some(args.slots[1]))
            }
            _ => (args.slots[1], None),
        };
        // `bar` promises that the threads of a warp come together, `barrier` does not.
        let aligned = inst.op().mnemonic().starts_with("bar.");
        Ok(Action::Barrier(BarrierStep { kind, id, count, aligned }))
    }

    fn call(&mut self, call: &Call) -> Result<Action, Reason> {
        let range = |ids: &[crate::ids::CallParamId]| -> Result<Box<[ParamRange]>, Reason> {
            ids.iter()
                .map(|id| {
                    self.layout.call_params.get(id.index()).copied().ok_or("an unknown variable".to_owned())
                })
                .collect()
        };
        let callee = match call.callee {
            Callee::Function(id) => Some(id.0),
            Callee::Pointer(_) => None,
        };
        Ok(Action::Call(Box::new(CallStep {
            callee,
            args: range(&call.args)?,
            returns: range(&call.returns)?,
        })))
    }

    fn atom(&mut self, atom: &Atom, operands: &[Operand]) -> Result<Action, Reason> {
        let dest = match operands.first() {
            None | Some(Operand::None) => None,
            some => Some(self.element(some, atom.ty)?),
        };
        let pointer = self.pointer(operands.get(1), atom.space)?;
        let value = self.element(operands.get(2), atom.ty)?;
        let other = match operands.get(3) {
            None => None,
            some => Some(self.element(some, atom.ty)?),
        };
        let (acquire, release) = orders(atom.order);
        let scope = atom.scope.unwrap_or(Scope::Gpu);
        let values = [Some(value), other];
        let (op, ty) = (atom.op, atom.ty);
        Ok(Action::Atomic(Box::new(AtomicStep { pointer, op, ty, acquire, release, scope, dest, values })))
    }

    fn red(&mut self, red: &Red, operands: &[Operand]) -> Result<Action, Reason> {
        let pointer = self.pointer(operands.first(), red.space)?;
        let values = [Some(self.element(operands.get(1), red.ty)?), None];
        let (acquire, release) = orders(red.order);
        let scope = red.scope.unwrap_or(Scope::Gpu);
        let (op, ty) = (red.op, red.ty);
        Ok(Action::Atomic(Box::new(AtomicStep {
            pointer,
            op,
            ty,
            acquire,
            release,
            scope,
            dest: None,
            values,
        })))
    }

    fn start(&self, block: crate::ids::BlockId) -> Result<u32, Reason> {
        self.starts
            .get(block.index())
            .copied()
            .ok_or_else(|| format!("a jump to {block}, which does not exist"))
    }

    /// Fills the rows of all operands; gives the file of each.
    fn rows(&mut self, inst: &Inst, args: &mut Args) -> Result<Vec<File>, Reason> {
        let signature = inst.kind.signature(&inst.operands);
        let mut files = Vec::with_capacity(inst.operands.len());
        let mut operands = inst.operands.iter();
        for arg in signature.args() {
            for part in 0..arg.operands() {
                let Some(operand) = operands.next() else { break };
                // The second destination of a pair is a predicate.
                let what = if arg.form == crate::inst::Form::Pair && part == 1 {
                    What::Pred(false)
                } else {
                    arg.what
                };
                let (file, slot, negated) = self.row(what, operand)?;
                let i = files.len();
                if i >= alu::EXTRA {
                    return Err(format!("more than {} operands", alu::EXTRA));
                }
                args.slots[i] = slot;
                args.negated |= u16::from(negated) << i;
                files.push(file);
            }
        }
        Ok(files)
    }

    fn row(&mut self, what: What, operand: &Operand) -> Result<Row, Reason> {
        let ty = match what {
            What::Pred(_) => Ty::Pred,
            // Results of this kind are never kept.
            What::Sink => Ty::B64,
            What::Literal => Ty::U32,
            what => what.ty().ok_or("an operand that is no value")?,
        };
        let file = file_of(ty.class());
        let source = match operand {
            Operand::None => return Ok((file, self.layout.scratch(file), false)),
            Operand::Reg(reg) => {
                let (file, slot) = self.layout.register(*reg);
                return Ok((file, slot, false));
            }
            Operand::NotPred(reg) => return Ok((File::P, self.layout.register(*reg).1, true)),
            Operand::Int(value) => Source::Bits(literal(*value, ty)),
            Operand::F32(bits) => Source::Bits(u64::from(*bits)),
            Operand::F64(bits) => Source::Bits(*bits),
            Operand::Special(special) => Source::Special(*special),
            Operand::Symbol(base) => self.symbol(*base, 0)?,
            Operand::Addr(_) | Operand::Label(_) => return Err("an operand that is no value".to_owned()),
        };
        Ok((file, self.layout.constant(file, source), false))
    }

    /// The address of a symbol, within its own state space.
    fn symbol(&self, base: Base, offset: i32) -> Result<Source, Reason> {
        let param = |ranges: &[ParamRange], i: usize| -> Result<Source, Reason> {
            let range = ranges.get(i).ok_or("an unknown parameter")?;
            Ok(Source::Param(range.offset.wrapping_add_signed(offset)))
        };
        match base {
            Base::Reg(_) => Err("a register is no symbol".to_owned()),
            Base::Param(id) => param(&self.layout.params, id.index()),
            Base::Return(id) => param(&self.layout.returns, id.index()),
            Base::CallParam(id) => param(&self.layout.call_params, id.index()),
            Base::Array(id) => {
                let array = self.function.array(id).ok_or("an unknown array")?;
                let layout =
                    if array.space == Space::Local { &self.layout.local } else { &self.layout.shared };
                let at = layout.offsets.get(id.index()).copied().unwrap_or(0).wrapping_add_signed(offset);
                Ok(if array.space == Space::Local { Source::Local(at) } else { Source::Shared(at) })
            }
            Base::DynamicShared => Ok(Source::DynamicShared),
            Base::Global(id) => match self.module.global(id).map(|global| global.space) {
                None => Err("an unknown variable".to_owned()),
                Some(Space::Shared) => Ok(Source::ModuleShared(id)),
                Some(_) => Ok(Source::Global(id)),
            },
            Base::Function(id) => Ok(Source::Function(id)),
        }
    }

    fn pointer(&mut self, operand: Option<&Operand>, space: Space) -> Result<Pointer, Reason> {
        let Some(Operand::Addr(Address { base, offset })) = operand else {
            return Err("an address is missing".to_owned());
        };
        if let Base::Reg(reg) = base {
            let (file, slot) = self.layout.register(*reg);
            return Ok(Pointer { space, file, slot, offset: i64::from(*offset) });
        }
        // The offset of these is added at run time, with that of registers.
        let keep = matches!(base, Base::DynamicShared | Base::Global(_));
        let source = self.symbol(*base, if keep { 0 } else { *offset })?;
        let slot = self.layout.constant(File::L, source);
        Ok(Pointer { space, file: File::L, slot, offset: if keep { i64::from(*offset) } else { 0 } })
    }

    fn wmma_move(&mut self, of: WmmaMove, operands: &[Operand]) -> Result<Action, Reason> {
        let (ty, count) = of.fragment();
        let count = usize::from(count);
        let stores = of.matrix == WmmaMatrix::D;
        let (fragment, address) = if stores { (1, 0) } else { (0, count) };
        let pointer = self.pointer(operands.get(address), of.space)?;
        let fragment = self.elements(operands, fragment, fragment + count, ty)?;
        let stride = operands.get(count + 1).map(|stride| self.element(Some(stride), Ty::U32)).transpose()?;
        let step = Box::new(WmmaMoveStep { of, pointer, stride, fragment });
        Ok(if stores { Action::WmmaStore(step) } else { Action::WmmaLoad(step) })
    }

    fn elements(
        &mut self,
        operands: &[Operand],
        from: usize,
        to: usize,
        ty: Ty,
    ) -> Result<Box<[Element]>, Reason> {
        let operands = operands.get(from..to).ok_or("operands are missing")?;
        operands.iter().map(|operand| self.element(Some(operand), ty)).collect()
    }

    fn element(&mut self, operand: Option<&Operand>, ty: Ty) -> Result<Element, Reason> {
        let operand = operand.ok_or("an operand is missing")?;
        let bits = match operand {
            Operand::Reg(reg) => reg.class().bits(),
            _ => ty.bits().max(16),
        };
        let (file, slot, _) = self.row(What::Value(ty), operand)?;
        Ok(Element { file, slot, bits })
    }
}

/// `movmatrix`: lane i holds elements 2i%8 and 2i%8+1 of row i/4, and gets those of column i/4.
fn transpose(regs: &mut Regs, args: &Args, mask: u32) {
    let from = regs.w[args.slots[1] as usize];
    let half = |row: usize, column: usize| from[row * 4 + column / 2] >> (column % 2 * 16) & 0xFFFF;
    let to = &mut regs.w[args.slots[0] as usize];
    for (lane, value) in to.iter_mut().enumerate().filter(|(lane, _)| mask >> lane & 1 == 1) {
        let (column, row) = (lane / 4, lane % 4 * 2);
        *value = half(row, column) | half(row + 1, column) << 16;
    }
}

fn fence(scope: Scope, order: Order) -> Result<Action, Reason> {
    Ok(Action::Fence(scope, order))
}

fn matrix_step(pointer: Pointer, matrix: MatrixMove, elements: &[Element]) -> MatrixStep {
    MatrixStep { pointer, trans: matrix.trans, slots: elements.iter().map(|e| e.slot).collect() }
}

fn is_clock(special: crate::inst::SpecialReg) -> bool {
    use crate::inst::SpecialReg::{Clock, Clock64, ClockHi, GlobalTimer, GlobalTimerHi, GlobalTimerLo};
    matches!(special, Clock | Clock64 | ClockHi | GlobalTimer | GlobalTimerLo | GlobalTimerHi)
}

fn orders(order: Option<AtomOrder>) -> (bool, bool) {
    match order {
        None | Some(AtomOrder::Relaxed) => (false, false),
        Some(AtomOrder::Acquire) => (true, false),
        Some(AtomOrder::Release) => (false, true),
        Some(AtomOrder::AcqRel) => (true, true),
    }
}

/// An integer literal as the bits of a register: 16-bit ones are zero-extended.
fn literal(value: i64, ty: Ty) -> u64 {
    let bits = value.cast_unsigned();
    match (ty.kind(), ty.bits()) {
        (TyKind::Pred, _) => {
            if value == 0 {
                0
            } else {
                u64::MAX
            }
        }
        (_, 8 | 16) => bits & 0xFFFF,
        (_, 32) => bits & 0xFFFF_FFFF,
        _ => bits,
    }
}

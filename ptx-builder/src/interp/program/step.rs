//! Decoded instructions.

use crate::ids::InstId;
use crate::inst::{
    AtomOp, MbarrierOp, MemOrder, Scope, ShflMode, Space, SpecialReg, Wgmma, WmmaMove, WmmaProduct,
};
use crate::interp::memory::Order;
use crate::interp::regs::{AluFn, Args, File};
use crate::ty::Ty;

/// The guard of an instruction: a predicate slot and a sign, or none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::interp) struct StepGuard(u32);

impl StepGuard {
    pub(in crate::interp) const NONE: Self = Self(u32::MAX);

    pub(super) fn new(slot: u32, negated: bool) -> Self {
        Self(slot << 1 | u32::from(negated))
    }

    /// The lanes that it lets through.
    #[inline]
    pub(in crate::interp) fn lanes(self, p: &[u32]) -> u32 {
        if self == Self::NONE {
            return u32::MAX;
        }
        let lanes = p[(self.0 >> 1) as usize];
        if self.0 & 1 == 1 { !lanes } else { lanes }
    }
}

/// One instruction.
#[derive(Debug)]
pub(in crate::interp) struct Step {
    pub(in crate::interp) guard: StepGuard,
    /// Registers, in the order of the operands.
    pub(in crate::interp) args: Args,
    pub(in crate::interp) action: Action,
}

/// What it does.
#[derive(Debug)]
pub(in crate::interp) enum Action {
    /// Arithmetic, lane by lane.
    Alu(AluFn),
    /// Arithmetic over the lanes of a warp, which have to be together: `mma`.
    Matrix(AluFn),
    Nop,
    Jump(u32),
    /// The index is operand 0.
    JumpTable(Box<[u32]>),
    Call(Box<CallStep>),
    Return,
    Exit,
    Trap,
    Load(Box<Transfer>),
    Store(Box<Transfer>),
    /// `ld.param`, whose memory belongs to the frame.
    LoadParam(Box<Transfer>),
    StoreParam(Box<Transfer>),
    Atomic(Box<AtomicStep>),
    Exchange(Exchange),
    ActiveMask,
    /// The mask is operand 0.
    WarpSync,
    Barrier(BarrierStep),
    Fence(Scope, Order),
    CopyAsync(Box<CopyAsync>),
    CommitGroup,
    /// Wait until at most that many groups are open.
    WaitGroup(u32),
    /// `cp.async.wait_all`.
    WaitAll,
    LoadMatrix(Box<MatrixStep>),
    StoreMatrix(Box<MatrixStep>),
    Wgmma(Box<WgmmaStep>),
    WgmmaCommit,
    /// Wait until at most that many groups are open.
    WgmmaWait(u32),
    WmmaLoad(Box<WmmaMoveStep>),
    WmmaStore(Box<WmmaMoveStep>),
    WmmaMma(Box<WmmaStep>),
    Clock(SpecialReg),
    GridWait,
    Sleep,
    /// `isspacep`: the predicate is operand 0, the address operand 1.
    IsSpace(Space),
    /// `mapa`: address and rank are operands 1 and 2, in rows of this file.
    Mapa(File),
    /// `getctarank`.
    Rank(File),
    ClusterArrive {
        relaxed: bool,
        aligned: bool,
    },
    ClusterWait {
        aligned: bool,
    },
    Mbarrier(Box<MbarrierStep>),
    /// `mbarrier.pending_count`: operands 0 and 1.
    PendingCount,
    /// `cp.async.mbarrier.arrive`.
    CopyArrive(Box<CopyArrive>),
    Bulk(Box<BulkStep>),
    StoreAsync(Box<StoreAsync>),
}

/// Where memory is: a register and an offset.
#[derive(Clone, Copy, Debug)]
pub(in crate::interp) struct Pointer {
    pub(in crate::interp) space: Space,
    /// [`File::W`] for 32-bit addresses in shared memory.
    pub(in crate::interp) file: File,
    pub(in crate::interp) slot: u32,
    pub(in crate::interp) offset: i64,
}

/// A register that takes or gives one element of a transfer.
#[derive(Clone, Copy, Debug)]
pub(in crate::interp) struct Element {
    pub(in crate::interp) file: File,
    pub(in crate::interp) slot: u32,
    /// Width of the register.
    pub(in crate::interp) bits: u32,
}

/// `ld` or `st`.
#[derive(Debug)]
pub(in crate::interp) struct Transfer {
    pub(in crate::interp) pointer: Pointer,
    pub(in crate::interp) order: MemOrder,
    /// Through the read-only path.
    pub(in crate::interp) nc: bool,
    pub(in crate::interp) ty: Ty,
    pub(in crate::interp) elements: Box<[Element]>,
}

impl Transfer {
    /// Bytes of the whole access.
    pub(in crate::interp) fn bytes(&self) -> u32 {
        self.ty.bytes() * u32::try_from(self.elements.len()).unwrap_or(0)
    }
}

/// `atom` or `red`.
#[derive(Debug)]
pub(in crate::interp) struct AtomicStep {
    pub(in crate::interp) pointer: Pointer,
    pub(in crate::interp) op: AtomOp,
    pub(in crate::interp) ty: Ty,
    pub(in crate::interp) acquire: bool,
    pub(in crate::interp) release: bool,
    pub(in crate::interp) scope: Scope,
    pub(in crate::interp) dest: Option<Element>,
    /// The operand, and for `cas` what to store.
    pub(in crate::interp) values: [Option<Element>; 2],
}

/// What the lanes of a mask tell each other. The operands are in `args`: results, value, lane and clamp of a
/// shuffle, mask.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::interp) enum Exchange {
    Shfl(ShflMode),
    VoteAll,
    VoteAny,
    VoteUni,
    Ballot,
    Elect,
    MatchAny(File),
    MatchAll(File),
    Redux(Reduce, Ty),
}

impl Exchange {
    /// Which operand is the mask.
    pub(in crate::interp) fn mask_operand(self) -> usize {
        match self {
            Self::Shfl(_) => 5,
            Self::MatchAll(_) => 3,
            _ => 2,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::interp) enum Reduce {
    Add,
    Min,
    Max,
    And,
    Or,
    Xor,
}

/// `bar` and `barrier`. Operands in `args`: result of a reduction, barrier, predicate of a reduction; the count in
/// `count`.
#[derive(Clone, Copy, Debug)]
pub(in crate::interp) struct BarrierStep {
    pub(in crate::interp) kind: BarrierKind,
    /// The register with the number of the barrier.
    pub(in crate::interp) id: u32,
    /// The register with the number of threads; `None`: all threads of the block.
    pub(in crate::interp) count: Option<u32>,
    /// All lanes of the warp have to be there together.
    pub(in crate::interp) aligned: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::interp) enum BarrierKind {
    Sync,
    Arrive,
    Popc,
    And,
    Or,
}

/// `cp.async`.
#[derive(Debug)]
pub(in crate::interp) struct CopyAsync {
    pub(in crate::interp) to: Pointer,
    pub(in crate::interp) from: Pointer,
    pub(in crate::interp) bytes: u8,
    /// The register with the number of bytes to read; the rest is zero.
    pub(in crate::interp) valid: Option<u32>,
    /// `.cg`: past the L1 cache.
    pub(in crate::interp) bypasses: bool,
}

/// `ldmatrix` and `stmatrix`.
#[derive(Debug)]
pub(in crate::interp) struct MatrixStep {
    pub(in crate::interp) pointer: Pointer,
    pub(in crate::interp) trans: bool,
    /// One 32-bit register for each matrix.
    pub(in crate::interp) slots: Box<[u32]>,
}

/// Where `wgmma` has A from: registers, or shared memory by the descriptor in a register.
#[derive(Clone, Copy, Debug)]
pub(in crate::interp) enum WgmmaSource {
    Registers([u32; 4]),
    Descriptor(u32),
}

/// `wgmma.mma_async`.
#[derive(Debug)]
pub(in crate::interp) struct WgmmaStep {
    pub(in crate::interp) shape: Wgmma,
    pub(in crate::interp) d: Box<[u32]>,
    pub(in crate::interp) a: WgmmaSource,
    /// The register with the descriptor of B.
    pub(in crate::interp) b: u32,
    /// The predicate that says whether D is added to.
    pub(in crate::interp) scale: u32,
    /// Products are taken off rather than added.
    pub(in crate::interp) negative: bool,
    /// A and B lie transposed.
    pub(in crate::interp) transposed: [bool; 2],
}

/// `wmma.load` or `wmma.store`.
#[derive(Debug)]
pub(in crate::interp) struct WmmaMoveStep {
    pub(in crate::interp) of: WmmaMove,
    pub(in crate::interp) pointer: Pointer,
    pub(in crate::interp) stride: Option<Element>,
    pub(in crate::interp) fragment: Box<[Element]>,
}

/// `wmma.mma`.
#[derive(Debug)]
pub(in crate::interp) struct WmmaStep {
    pub(in crate::interp) of: WmmaProduct,
    pub(in crate::interp) d: Box<[Element]>,
    pub(in crate::interp) a: Box<[Element]>,
    pub(in crate::interp) b: Box<[Element]>,
    pub(in crate::interp) c: Box<[Element]>,
}

/// `mbarrier`, except `pending_count`.
#[derive(Debug)]
pub(in crate::interp) struct MbarrierStep {
    pub(in crate::interp) op: MbarrierOp,
    pub(in crate::interp) pointer: Pointer,
    /// The state before an arrival, or the predicate of a wait.
    pub(in crate::interp) dest: Option<Element>,
    /// Count, bytes, state or parity.
    pub(in crate::interp) value: Option<Element>,
    /// Not `.relaxed`.
    pub(in crate::interp) ordered: bool,
}

/// `cp.async.mbarrier.arrive`.
#[derive(Debug)]
pub(in crate::interp) struct CopyArrive {
    pub(in crate::interp) pointer: Pointer,
    /// `.noinc`: the arrival is one of those that the phase expects.
    pub(in crate::interp) counted: bool,
}

/// `cp.async.bulk`.
#[derive(Debug)]
pub(in crate::interp) struct BulkStep {
    pub(in crate::interp) to: Pointer,
    pub(in crate::interp) from: Pointer,
    /// The row with the number of bytes.
    pub(in crate::interp) bytes: u32,
    pub(in crate::interp) barrier: Option<Pointer>,
    /// The row with the mask of blocks.
    pub(in crate::interp) multicast: Option<u32>,
}

/// `st.async`.
#[derive(Debug)]
pub(in crate::interp) struct StoreAsync {
    pub(in crate::interp) store: Transfer,
    pub(in crate::interp) barrier: Pointer,
}

/// `call`.
#[derive(Debug)]
pub(in crate::interp) struct CallStep {
    /// The function, or `None` for the one whose address is in operand 0.
    pub(in crate::interp) callee: Option<u32>,
    /// Offsets in the caller's parameter memory and sizes in bytes.
    pub(in crate::interp) args: Box<[ParamRange]>,
    pub(in crate::interp) returns: Box<[ParamRange]>,
}

/// A part of the parameter memory of a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::interp) struct ParamRange {
    pub(in crate::interp) offset: u32,
    pub(in crate::interp) bytes: u32,
}

/// Where the code of a function is, and from which instructions it came.
#[derive(Debug)]
pub(in crate::interp) struct CodeRange {
    pub(in crate::interp) entry: u32,
    pub(in crate::interp) insts: Vec<InstId>,
}

//! Modules, functions, blocks: the containers of the IR.

use crate::ids::{
    ArrayId, BlockId, CallParamId, FuncId, GlobalId, InstId, ParamId, PrototypeId, RegClass, RegId, TargetsId,
};
use crate::inst::{Inst, Kind, Space};
use crate::ops::Op;
use crate::symbols::{Global, Linkage, Prototype};
use crate::target::{PtxVersion, Target};
use crate::ty::Ty;
use std::collections::BTreeMap;

/// The name under which the dynamic shared memory is declared.
pub const DYNAMIC_SHARED: &str = "dynamic_smem";

/// The function of the driver that sets the value of a conditional node of a graph.
pub(crate) const GRAPH_SET_CONDITIONAL: &str = "cudaGraphSetConditional";

/// The most registers of one class that a function may have. Far beyond any kernel; it bounds what a text
/// of a few bytes can make a reader allocate.
pub const MAX_REGISTERS: u32 = 1 << 20;

/// Threads of a block or blocks of a cluster of these extents; numbers beyond 64 bits are the largest of 64 bits.
pub(crate) fn volume(extents: [u32; 3]) -> u64 {
    extents.into_iter().fold(1, |product, n| product.saturating_mul(n.into()))
}

/// A PTX module: kernels, device functions and variables for one target.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Module {
    /// The target.
    pub target: Target,
    /// The alignment in bytes of the dynamic shared memory, if any kernel uses it.
    pub dynamic_shared: Option<u32>,
    /// Variables at module scope; [`GlobalId`] indexes them.
    pub globals: Vec<Global>,
    /// Kernels and device functions, in order; [`FuncId`] indexes them.
    pub functions: Vec<Function>,
}

/// What a function is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum FunctionKind {
    /// `.entry`: launched by the host.
    Kernel,
    /// `.func`: called.
    Device,
}

/// A kernel or a device function. One without blocks is a declaration: of a function that another module or
/// the driver provides (`vprintf`, `malloc`, `free`, `__assertfail`, `cudaGraphSetConditional`).
///
/// Blocks are stored in layout order, and a block's id is its position: the last instruction of a block
/// jumps, exits, or lets control fall into the next one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Function {
    /// The symbol.
    pub name: String,
    /// Kernel or device function.
    pub kind: FunctionKind,
    /// Who sees it.
    pub linkage: Linkage,
    /// Parameters in order; [`ParamId`] indexes them.
    pub params: Vec<Param>,
    /// Results of a device function: [`crate::Base::Return`] indexes them.
    pub returns: Vec<Param>,
    /// A device function that never returns.
    pub noreturn: bool,
    /// The exact block size.
    pub reqntid: Option<[u32; 3]>,
    /// The largest block size.
    pub maxntid: Option<[u32; 3]>,
    /// Blocks per multiprocessor that the compiler should make possible.
    pub minnctapersm: Option<u32>,
    /// The most registers per thread.
    pub maxnreg: Option<u32>,
    /// The exact cluster size in blocks.
    pub reqnctapercluster: Option<[u32; 3]>,
    /// Is the kernel launched in clusters, of whatever size the launch says?
    pub explicitcluster: bool,
    /// The most blocks per cluster.
    pub maxclusterrank: Option<u32>,
    /// Shared and local arrays; [`ArrayId`] indexes them.
    pub arrays: Vec<Array>,
    /// Variables that hold arguments and results of calls; [`CallParamId`] indexes them.
    pub call_params: Vec<Param>,
    /// Signatures of indirect calls; [`PrototypeId`] indexes them.
    pub prototypes: Vec<Prototype>,
    /// Jump targets of `brx.idx`; [`TargetsId`] indexes them.
    pub branch_targets: Vec<Vec<BlockId>>,
    /// How many registers each class has, indexed by [`RegClass`].
    pub registers: [u32; 6],
    /// Names of registers, for the reader: `%f3` named `acc` is printed `%f3_acc`.
    pub names: BTreeMap<RegId, String>,
    /// Blocks in layout order; [`BlockId`] indexes them.
    pub blocks: Vec<Block>,
}

/// A parameter, a result, or a variable for one of a call.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Param {
    /// The symbol, local to the function.
    pub name: String,
    /// What it holds.
    pub ty: ParamTy,
}

/// What a parameter holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ParamTy {
    /// A scalar.
    Scalar(Ty),
    /// A 64-bit pointer into global memory whose target is aligned to `align` bytes.
    Pointer {
        /// Alignment of what it points to, in bytes.
        align: u32,
    },
    /// A structure of `len` bytes.
    Bytes {
        /// Size in bytes.
        len: u32,
        /// Alignment in bytes.
        align: u32,
    },
}

impl ParamTy {
    /// Size in bytes.
    pub const fn bytes(self) -> u32 {
        match self {
            Self::Scalar(ty) => ty.bytes(),
            Self::Pointer { .. } => 8,
            Self::Bytes { len, .. } => len,
        }
    }

    /// Alignment in bytes of the parameter itself.
    pub const fn align(self) -> u32 {
        match self {
            Self::Scalar(ty) => ty.bytes(),
            Self::Pointer { .. } => 8,
            Self::Bytes { align, .. } => align,
        }
    }
}

/// An array in shared or local memory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Array {
    /// The symbol, local to the kernel.
    pub name: String,
    /// [`Space::Shared`] or [`Space::Local`].
    pub space: Space,
    /// Element type.
    pub ty: Ty,
    /// Number of elements.
    pub len: u32,
    /// Alignment in bytes.
    pub align: u32,
}

impl Array {
    /// Size in bytes.
    pub const fn bytes(&self) -> u64 {
        self.ty.bytes() as u64 * self.len as u64
    }
}

/// A basic block.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Block {
    /// What the label says after its number: `loop` gives `L3_loop`.
    pub name: Option<String>,
    /// Instructions; jumps and exits are last.
    pub insts: Vec<Inst>,
}

/// Bytes of kernel parameters before PTX ISA 8.1.
const OLD_PARAM_BYTES: u64 = 4352;

impl Module {
    /// An empty module.
    pub const fn new(target: Target) -> Self {
        Self { target, dynamic_shared: None, globals: Vec::new(), functions: Vec::new() }
    }

    /// The lowest PTX ISA version that has the target and everything that is used.
    pub fn version(&self) -> PtxVersion {
        let used = self.functions.iter().flat_map(Function::insts).map(|(_, inst)| inst.requires().ptx);
        // `.ptr` attributes and 64-bit addresses are older than any target here.
        let noreturn = self.functions.iter().any(|function| {
            function.noreturn || function.prototypes.iter().any(|prototype| prototype.noreturn)
        });
        let clusters = self.functions.iter().any(Function::has_cluster_directives);
        let masks = self.globals.iter().flat_map(|global| &global.relocations).any(|r| r.bytes < 8);
        let many = self.kernels().any(|(_, kernel)| kernel.param_bytes() > OLD_PARAM_BYTES);
        let directives = [
            (many, PtxVersion::new(8, 1)),
            (noreturn, PtxVersion::new(6, 4)),
            (clusters, PtxVersion::new(7, 8)),
            (masks, PtxVersion::new(7, 1)),
        ];
        let directives = directives.into_iter().filter(|(used, _)| *used).map(|(_, version)| version);
        used.chain(directives).fold(self.target.ptx_version(), PtxVersion::max)
    }

    /// A function.
    pub fn function_by_id(&self, id: FuncId) -> Option<&Function> {
        self.functions.get(id.index())
    }

    /// A variable.
    pub fn global(&self, id: GlobalId) -> Option<&Global> {
        self.globals.get(id.index())
    }

    /// The kernels with their ids, in order.
    pub fn kernels(&self) -> impl Iterator<Item = (FuncId, &Function)> {
        let functions = (0..).map(FuncId).zip(&self.functions);
        functions.filter(|(_, function)| function.kind == FunctionKind::Kernel)
    }

    /// The function of that name.
    pub fn function(&self, name: &str) -> Option<&Function> {
        self.functions.iter().find(|function| function.name == name)
    }
}

impl Function {
    /// An empty kernel; a valid one has at least one block.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            kind: FunctionKind::Kernel,
            linkage: Linkage::Visible,
            params: Vec::new(),
            returns: Vec::new(),
            noreturn: false,
            reqntid: None,
            maxntid: None,
            minnctapersm: None,
            maxnreg: None,
            reqnctapercluster: None,
            explicitcluster: false,
            maxclusterrank: None,
            arrays: Vec::new(),
            call_params: Vec::new(),
            prototypes: Vec::new(),
            branch_targets: Vec::new(),
            registers: [0; 6],
            names: BTreeMap::new(),
            blocks: Vec::new(),
        }
    }

    /// An empty device function. Without blocks it is a declaration.
    pub fn device(name: &str) -> Self {
        Self { kind: FunctionKind::Device, linkage: Linkage::Internal, ..Self::new(name) }
    }

    /// Does it say anything about clusters?
    pub(crate) const fn has_cluster_directives(&self) -> bool {
        self.reqnctapercluster.is_some() || self.explicitcluster || self.maxclusterrank.is_some()
    }

    /// Is it only declared here?
    pub const fn is_declaration(&self) -> bool {
        self.blocks.is_empty() && matches!(self.kind, FunctionKind::Device)
    }

    /// A new register of `class`.
    pub fn new_register(&mut self, class: RegClass) -> RegId {
        let count = &mut self.registers[class as usize];
        let reg = RegId::new(class, *count);
        *count += 1;
        reg
    }

    /// The number of registers of all classes.
    pub fn register_count(&self) -> usize {
        self.registers.iter().map(|n| *n as usize).sum()
    }

    /// Bytes of all parameters, with what their alignment leaves free between them.
    fn param_bytes(&self) -> u64 {
        self.params.iter().fold(0u64, |end, param| {
            end.next_multiple_of(u64::from(param.ty.align()).max(1)) + u64::from(param.ty.bytes())
        })
    }

    /// A dense index over all registers of the function, for side tables. `None` for a register that the
    /// function does not have.
    pub fn register_index(&self, reg: RegId) -> Option<usize> {
        let class = reg.class() as usize;
        let before: usize = self.registers[..class].iter().map(|n| *n as usize).sum();
        (reg.index() < self.registers[class]).then(|| before + reg.index() as usize)
    }

    /// Every instruction with its place, in layout order.
    pub fn insts(&self) -> impl Iterator<Item = (InstId, &Inst)> {
        self.blocks.iter().zip(0..).flat_map(|(block, b)| {
            block.insts.iter().zip(0..).map(move |(inst, index)| (InstId { block: BlockId(b), index }, inst))
        })
    }

    /// The instruction at a place.
    pub fn inst(&self, id: InstId) -> Option<&Inst> {
        self.blocks.get(id.block.index())?.insts.get(id.index as usize)
    }

    /// The blocks that an instruction can jump to, each once.
    pub fn jump_targets(&self, inst: &Inst) -> Vec<BlockId> {
        match &inst.kind {
            Kind::BrxIdx { targets, .. } => {
                let mut seen = std::collections::HashSet::new();
                let all = self.branch_targets.get(targets.index()).into_iter().flatten();
                all.copied().filter(|block| seen.insert(*block)).collect()
            }
            _ => inst.target().into_iter().collect(),
        }
    }

    /// The blocks that control can reach from the end of `block`, jump targets first. Targets that do
    /// not exist are left out.
    pub fn successors(&self, block: BlockId) -> impl Iterator<Item = BlockId> + use<> {
        let last = self.blocks.get(block.index()).and_then(|b| b.insts.last());
        let mut all = last.map(|inst| self.jump_targets(inst)).unwrap_or_default();
        let next = BlockId(block.0.saturating_add(1));
        if last.is_none_or(Inst::falls_through) && !all.contains(&next) {
            all.push(next);
        }
        let count = self.blocks.len();
        all.into_iter().filter(move |b| b.index() < count)
    }

    /// Does the kernel wait for the grids that it depends on (`griddepcontrol.wait`) on every path to an
    /// exit? Only then may an edge that leads to it be programmatic.
    pub fn waits_on_grid_dependency(&self) -> bool {
        // Blocks whose entry is reached without a wait so far.
        let mut reached = vec![false; self.blocks.len()];
        let mut work = vec![BlockId(0)];
        while let Some(block) = work.pop() {
            let Some(seen) = reached.get_mut(block.index()) else { return false };
            if std::mem::replace(seen, true) {
                continue;
            }
            let insts = &self.blocks[block.index()].insts;
            if insts.iter().any(|inst| inst.op() == Op::GridDepWait && inst.guard.is_none()) {
                continue;
            }
            let exits = insts.last().is_some_and(|inst| matches!(inst.op(), Op::Ret | Op::Exit));
            let falls_off =
                block.index() + 1 == self.blocks.len() && insts.last().is_none_or(Inst::falls_through);
            if exits || falls_off {
                return false;
            }
            work.extend(self.successors(block));
        }
        true
    }

    /// Does the kernel allow dependent grids to start early (`griddepcontrol.launch_dependents`)?
    pub fn launches_dependents(&self) -> bool {
        self.insts().any(|(_, inst)| inst.op() == Op::GridDepLaunch)
    }

    /// Bytes of static shared memory: arrays laid out in order, each at its alignment.
    pub fn static_shared_bytes(&self) -> u64 {
        self.arrays
            .iter()
            .filter(|array| array.space == Space::Shared)
            .fold(0, |end, array| end.next_multiple_of(u64::from(array.align.max(1))) + array.bytes())
    }

    /// A parameter.
    pub fn param(&self, id: ParamId) -> Option<&Param> {
        self.params.get(id.index())
    }

    /// A result.
    pub fn result(&self, id: ParamId) -> Option<&Param> {
        self.returns.get(id.index())
    }

    /// A variable for the argument or result of a call.
    pub fn call_param(&self, id: CallParamId) -> Option<&Param> {
        self.call_params.get(id.index())
    }

    /// The signature of an indirect call.
    pub fn prototype(&self, id: PrototypeId) -> Option<&Prototype> {
        self.prototypes.get(id.index())
    }

    /// A table of jump targets.
    pub fn targets(&self, id: TargetsId) -> Option<&[BlockId]> {
        self.branch_targets.get(id.index()).map(Vec::as_slice)
    }

    /// An array.
    pub fn array(&self, id: ArrayId) -> Option<&Array> {
        self.arrays.get(id.index())
    }
}

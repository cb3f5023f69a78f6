//! The typed builder: values with types, control flow by closures, one method per operation.
//!
//! [`Module::kernel`] hands a [`KernelBuilder`] to a closure. Its methods append instructions and return
//! typed registers; misuse of types does not compile, everything else is the verifier's business, so no
//! method returns a `Result`.

mod address;
mod atomic;
mod call;
mod compare;
mod control;
mod convert;
mod copy;
mod emit;
mod float;
mod int;
mod memory;
mod sync;
mod types;
mod value;
mod warp;
mod wgmma;

pub use address::{Addr, IntoAddr, SharedAddr};
pub use atomic::Atomic;
pub use control::Label;
pub use float::Half;
pub use int::WordOrLong;
pub use memory::{Load, Store};
pub use types::*;
pub use value::*;
pub use warp::{FULL_WARP, Redux};
pub use wgmma::{WgmmaA, WgmmaOperands};

use crate::ids::{ArrayId, BlockId, FuncId, ParamId};
use crate::inst::{Base, Guard, Operand, Space};
use crate::module::{Array, Block, Function, GRAPH_SET_CONDITIONAL, Module, Param, ParamTy};
use crate::ops::Op;
use crate::target::Target;
use std::marker::PhantomData;

/// Builds one kernel.
#[derive(Debug)]
pub struct KernelBuilder {
    target: Target,
    function: Function,
    dynamic_shared: Option<u32>,
    blocks: Vec<Block>,
    /// The block of each label, once placed. Until the end, jumps hold label numbers.
    labels: Vec<Option<BlockId>>,
    /// Does a label stand at the block that is being filled?
    labelled: bool,
    /// Can control reach the end of the block that is being filled?
    reachable: bool,
    comment: Option<String>,
    guard: Option<Guard>,
    /// `cudaGraphSetConditional` in the module, where it will be if it is not declared yet.
    set_conditional: FuncId,
    /// Is it called?
    sets_conditional: bool,
}

/// A shared or local array of elements `T`. Copies name the same array.
#[derive(Debug)]
pub struct ArrayRef<T> {
    id: ArrayId,
    marker: PhantomData<fn() -> T>,
}

/// A declared parameter of type `T`, to be loaded with [`KernelBuilder::ld_param`].
#[derive(Debug)]
pub struct ParamRef<T> {
    id: ParamId,
    marker: PhantomData<fn() -> T>,
}

impl<T> Clone for ArrayRef<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for ArrayRef<T> {}

impl<T> Clone for ParamRef<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for ParamRef<T> {}

impl<T> ArrayRef<T> {
    /// The array in the IR.
    pub const fn id(self) -> ArrayId {
        self.id
    }
}

impl<T> ParamRef<T> {
    /// The parameter in the IR.
    pub const fn id(self) -> ParamId {
        self.id
    }
}

impl Module {
    /// Builds a kernel and appends it; gives back what the closure returns. A `ret` is added at the end if
    /// control can reach it, and a function of the driver that it calls is declared before it.
    pub fn kernel<R>(&mut self, name: &str, build: impl FnOnce(&mut KernelBuilder) -> R) -> R {
        let declared = self.functions.iter().position(|function| function.name == GRAPH_SET_CONDITIONAL);
        let set_conditional = u32::try_from(declared.unwrap_or(self.functions.len())).unwrap_or(u32::MAX);
        let mut builder = KernelBuilder::new(self.target, name, FuncId(set_conditional));
        let result = build(&mut builder);
        if builder.sets_conditional && declared.is_none() {
            self.functions.push(call::set_conditional());
        }
        let (function, dynamic_shared) = builder.finish();
        self.dynamic_shared = self.dynamic_shared.max(dynamic_shared);
        self.functions.push(function);
        result
    }
}

impl KernelBuilder {
    fn new(target: Target, name: &str, set_conditional: FuncId) -> Self {
        Self {
            target,
            function: Function::new(name),
            dynamic_shared: None,
            blocks: vec![Block::default()],
            labels: Vec::new(),
            labelled: false,
            reachable: true,
            comment: None,
            guard: None,
            set_conditional,
            sets_conditional: false,
        }
    }

    fn finish(mut self) -> (Function, Option<u32>) {
        self.guard = None;
        if self.reachable {
            self.ret();
        }
        let unused = |block: &Block| block.insts.is_empty();
        if self.blocks.len() > 1 && !self.labelled && self.blocks.last().is_some_and(unused) {
            self.blocks.pop();
        }
        for inst in self.blocks.iter_mut().filter_map(|block| block.insts.last_mut()) {
            for operand in &mut inst.operands {
                if let Operand::Label(label) = operand {
                    // A label that was never placed is left dangling for the verifier to report.
                    *label = self.labels.get(label.index()).copied().flatten().unwrap_or(BlockId(u32::MAX));
                }
            }
        }
        self.function.blocks = self.blocks;
        (self.function, self.dynamic_shared)
    }

    /// The module's target, for emitters that choose by it.
    pub const fn target(&self) -> Target {
        self.target
    }

    /// The exact block size (`.reqntid`).
    pub fn reqntid(&mut self, x: u32, y: u32, z: u32) {
        self.function.reqntid = Some([x, y, z]);
    }

    /// The largest block size (`.maxntid`).
    pub fn maxntid(&mut self, x: u32, y: u32, z: u32) {
        self.function.maxntid = Some([x, y, z]);
    }

    /// The blocks per multiprocessor that the compiler should make possible.
    pub fn minnctapersm(&mut self, n: u32) {
        self.function.minnctapersm = Some(n);
    }

    /// The exact cluster size in blocks (`.reqnctapercluster`). Needs sm_90.
    pub fn reqnctapercluster(&mut self, x: u32, y: u32, z: u32) {
        self.function.reqnctapercluster = Some([x, y, z]);
    }

    /// The most registers per thread.
    pub fn maxnreg(&mut self, n: u32) {
        self.function.maxnreg = Some(n);
    }

    /// Declares a pointer into global memory and loads it. What it points to is aligned to `align` bytes.
    /// Call it at the top of the kernel: the load is emitted here.
    pub fn param_ptr(&mut self, name: &str, align: u32) -> Reg<U64> {
        let param = self.declare::<U64>(name, ParamTy::Pointer { align });
        let generic = self.ld_param(param);
        let pointer = self.regular(Op::CvtaToGlobal, U64::TY, [generic.operand()]);
        self.name(pointer, name)
    }

    /// Declares a scalar and loads it.
    pub fn param<T: RegTy>(&mut self, name: &str) -> Reg<T> {
        let param = self.declare_param::<T>(name);
        let value = self.ld_param(param);
        self.name(value, name)
    }

    /// Declares a scalar without loading it.
    pub fn declare_param<T: RegTy>(&mut self, name: &str) -> ParamRef<T> {
        self.declare(name, ParamTy::Scalar(T::PLAIN))
    }

    /// Declares a structure of `len` bytes, to be read with [`KernelBuilder::ld_param_at`].
    pub fn declare_param_bytes(&mut self, name: &str, len: u32, align: u32) -> ParamRef<B8> {
        self.declare(name, ParamTy::Bytes { len, align })
    }

    fn declare<T>(&mut self, name: &str, ty: ParamTy) -> ParamRef<T> {
        let id = ParamId(u32::try_from(self.function.params.len()).unwrap_or(u32::MAX));
        self.function.params.push(Param { name: name.to_owned(), ty });
        ParamRef { id, marker: PhantomData }
    }

    /// Declares a static shared-memory array of `len` elements, aligned to 16 bytes.
    pub fn shared<T: MemTy>(&mut self, name: &str, len: u32) -> ArrayRef<T> {
        self.array(name, Space::Shared, len, 16)
    }

    /// Declares a static shared-memory array of `len` elements with an alignment in bytes.
    pub fn shared_aligned<T: MemTy>(&mut self, name: &str, len: u32, align: u32) -> ArrayRef<T> {
        self.array(name, Space::Shared, len, align)
    }

    /// Declares an array of `len` elements in the memory of each thread, aligned to 16 bytes.
    pub fn local<T: MemTy>(&mut self, name: &str, len: u32) -> ArrayRef<T> {
        self.array(name, Space::Local, len, 16)
    }

    fn array<T: MemTy>(&mut self, name: &str, space: Space, len: u32, align: u32) -> ArrayRef<T> {
        let id = ArrayId(u32::try_from(self.function.arrays.len()).unwrap_or(u32::MAX));
        self.function.arrays.push(Array { name: name.to_owned(), space, ty: T::MEM, len, align });
        ArrayRef { id, marker: PhantomData }
    }

    /// The address of the dynamic shared memory, whose size the launch decides; `align` bytes is the least
    /// alignment that the kernel needs.
    pub fn dynamic_shared(&mut self, align: u32) -> Reg<U32> {
        self.dynamic_shared = self.dynamic_shared.max(Some(align));
        self.mov_operand(U32::TY, Operand::Symbol(Base::DynamicShared))
    }

    /// Names a register in the text: `%f3` becomes `%f3_acc`. Gives the register back.
    pub fn name<R: AnyReg>(&mut self, reg: R, name: &str) -> R {
        self.function.names.insert(reg.reg().id(), name.to_owned());
        reg
    }

    /// Puts a comment above the next instruction. Several comments are several lines.
    pub fn comment(&mut self, text: &str) {
        let comment = self.comment.get_or_insert_default();
        if !comment.is_empty() {
            comment.push('\n');
        }
        comment.push_str(text);
    }
}

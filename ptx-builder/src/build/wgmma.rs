//! Matrix products of a warpgroup.

use super::{KernelBuilder, Pred, Reg, RegTy, U32, U64, Val, Var};
use crate::inst::{Kind, MatrixDescriptor, Operand, Wgmma};
use crate::ops::Op;

/// Where A of a product is.
#[derive(Clone, Copy, Debug)]
pub enum WgmmaA {
    /// In shared memory, by its descriptor.
    Shared(Reg<U64>),
    /// In registers: those of `mma.m16n8k16` and its like, a warp for sixteen rows.
    Registers([Reg<U32>; 4]),
}

/// The operands of a product.
#[derive(Clone, Copy, Debug)]
pub struct WgmmaOperands<'a, T> {
    /// A.
    pub a: WgmmaA,
    /// The descriptor of B.
    pub b: Reg<U64>,
    /// Whether A, in shared memory, and B lie transposed; elements of 16 bits only.
    pub transposed: [bool; 2],
    /// The accumulators of a thread, [`Wgmma::accumulators`] of them: for columns `8j` to `8j + 7` of D two in row `g` of the
    /// sixteen of its warp and two in row `g + 8`, as those of `mma`.
    pub d: &'a [Var<T>],
    /// Whether the product is added to D; `None`: it is.
    pub adds: Option<Pred>,
}

impl KernelBuilder {
    /// A descriptor for `wgmma`: `layout`, of a matrix that begins at an address in shared memory.
    pub fn matrix_descriptor(&mut self, start: impl Val<U32>, layout: MatrixDescriptor) -> Reg<U64> {
        let within = self.and::<U32>(start, 0x3_FFFF);
        let chunk = self.shr::<U32>(within, 4);
        let chunk = self.cvt::<U64>(chunk);
        let layout = MatrixDescriptor { start: 0, ..layout }.bits();
        self.or::<U64>(chunk, layout)
    }

    /// Orders what this thread stored to shared memory before what products read there, once threads have met at a barrier.
    pub fn fence_proxy_async_shared(&mut self) {
        self.effect(Op::FenceProxyAsyncShared, []);
    }

    /// Orders what the threads of a warpgroup did to accumulators and to A in registers before products of them. Before
    /// the first product, and wherever registers were written since. Needs sm_90a, as all of these do.
    pub fn wgmma_fence(&mut self) {
        self.effect(Op::WgmmaFence, []);
    }

    /// `D = A * B + D` or `D = A * B`, for all threads of four warps, in the background. Where A is, `a` says, whatever
    /// `shape.registers` is.
    pub fn wgmma<T: RegTy>(&mut self, shape: Wgmma, operands: WgmmaOperands<'_, T>) {
        let WgmmaOperands { a, b, transposed, d, adds } = operands;
        let shape = Wgmma { registers: matches!(a, WgmmaA::Registers(_)), ..shape };
        let mut list: Vec<Operand> = d.iter().map(|d| d.operand()).collect();
        match a {
            WgmmaA::Shared(descriptor) => list.push(descriptor.operand()),
            WgmmaA::Registers(registers) => list.extend(registers.map(Reg::operand)),
        }
        let adds = adds.map_or(Operand::Int(1), |adds| self.plain(adds));
        list.extend([b.operand(), adds]);
        if shape.has_signs() {
            list.extend([Operand::Int(1); 2]);
        }
        if shape.has_transposed() {
            let skipped = usize::from(shape.registers);
            list.extend(transposed.into_iter().skip(skipped).map(|yes| Operand::Int(i64::from(yes))));
        }
        self.push(Kind::Wgmma(shape), list);
    }

    /// Closes a group of products.
    pub fn wgmma_commit(&mut self) {
        self.effect(Op::WgmmaCommit, []);
    }

    /// Waits until at most `pending` groups of the warpgroup are unfinished. Nobody touches accumulators, or what is read
    /// in shared memory, before.
    pub fn wgmma_wait(&mut self, pending: u32) {
        self.effect(Op::WgmmaWait, [Operand::Int(i64::from(pending))]);
    }
}

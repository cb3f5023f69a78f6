//! Exchanges between the lanes of a warp, and matrix instructions.

use super::int::WordOrLong;
use super::{
    AnyReg, B32, Bits, F32, KernelBuilder, Lane, Pred, Reg, RegTy, S32, SharedAddr, U32, Val, Var, Word,
};
use crate::inst::{Kind, MatrixMove, MmaShape, Operand, ShflMode};
use crate::ops::Op;
use crate::ty::Ty;

/// The mask of a whole warp.
pub const FULL_WARP: u32 = u32::MAX;

impl KernelBuilder {
    fn shfl<T: Lane>(
        &mut self,
        mode: ShflMode,
        value: impl Val<T>,
        lane: Operand,
        clamp: i64,
        mask: Operand,
    ) -> Reg<T> {
        let source = self.in_register::<T>(value.operand());
        let dest = self.fresh::<T>();
        let operands = vec![dest.operand(), Operand::None, source, lane, Operand::Int(clamp), mask];
        self.push(Kind::Shfl(mode), operands);
        dest
    }

    /// Shuffles take their value from a register only.
    fn in_register<T: RegTy>(&mut self, value: Operand) -> Operand {
        match value {
            Operand::Reg(_) => value,
            literal => self.mov_operand::<T>(T::PLAIN, literal).operand(),
        }
    }

    /// The value of the lane whose number differs in the bits of `lanes`; all 32 lanes take part.
    pub fn shfl_bfly<T: Lane>(&mut self, value: impl Val<T>, lanes: impl Val<U32>) -> Reg<T> {
        self.shfl(ShflMode::Bfly, value, lanes.operand(), 31, full())
    }

    /// The value of lane `self + delta`, or the own value if there is none; all 32 lanes take part.
    pub fn shfl_down<T: Lane>(&mut self, value: impl Val<T>, delta: impl Val<U32>) -> Reg<T> {
        self.shfl(ShflMode::Down, value, delta.operand(), 31, full())
    }

    /// The value of lane `self - delta`, or the own value if there is none; all 32 lanes take part.
    pub fn shfl_up<T: Lane>(&mut self, value: impl Val<T>, delta: impl Val<U32>) -> Reg<T> {
        self.shfl(ShflMode::Up, value, delta.operand(), 0, full())
    }

    /// The value of lane `lane`; all 32 lanes take part.
    pub fn shfl_idx<T: Lane>(&mut self, value: impl Val<T>, lane: impl Val<U32>) -> Reg<T> {
        self.shfl(ShflMode::Idx, value, lane.operand(), 31, full())
    }

    /// Any shuffle: `clamp` is the operand `c` of the PTX ISA (segment mask and clamp), `mask` the lanes that
    /// take part. The predicate says whether the source lane was in range.
    pub fn shfl_with<T: Lane>(
        &mut self,
        mode: ShflMode,
        value: impl Val<T>,
        lane: impl Val<U32>,
        clamp: u32,
        mask: impl Val<B32>,
    ) -> (Reg<T>, Pred) {
        let source = self.in_register::<T>(value.operand());
        let dest = self.fresh::<T>();
        let found = self.fresh_pred();
        let clamp = Operand::Int(i64::from(clamp));
        let operands =
            vec![dest.operand(), Operand::Reg(found.id), source, lane.operand(), clamp, mask.operand()];
        self.push(Kind::Shfl(mode), operands);
        (dest, found)
    }

    /// Is the predicate true in every lane of `mask`?
    pub fn vote_all(&mut self, p: Pred, mask: impl Val<B32>) -> Pred {
        self.regular_pred(Op::VoteAll, None, [Self::negatable(p), mask.operand()])
    }

    /// Is the predicate true in some lane of `mask`?
    pub fn vote_any(&mut self, p: Pred, mask: impl Val<B32>) -> Pred {
        self.regular_pred(Op::VoteAny, None, [Self::negatable(p), mask.operand()])
    }

    /// Is the predicate the same in every lane of `mask`?
    pub fn vote_uni(&mut self, p: Pred, mask: impl Val<B32>) -> Pred {
        self.regular_pred(Op::VoteUni, None, [Self::negatable(p), mask.operand()])
    }

    /// The lanes of `mask` in which the predicate is true.
    pub fn ballot(&mut self, p: Pred, mask: impl Val<B32>) -> Reg<B32> {
        self.untyped(Op::VoteBallot, [Self::negatable(p), mask.operand()])
    }

    /// The lanes of `mask` that hold the same value.
    pub fn match_any<T: Bits + WordOrLong>(&mut self, value: impl Val<T>, mask: impl Val<B32>) -> Reg<B32> {
        self.regular(Op::MatchAny, T::BITS, [value.operand(), mask.operand()])
    }

    /// `mask` and true if every lane of it holds the same value, else 0 and false.
    pub fn match_all<T: Bits + WordOrLong>(
        &mut self,
        value: impl Val<T>,
        mask: impl Val<B32>,
    ) -> (Reg<B32>, Pred) {
        let dest = self.fresh::<B32>();
        let same = self.fresh_pred();
        let operands = vec![dest.operand(), Operand::Reg(same.id), value.operand(), mask.operand()];
        self.push(Kind::MatchAll(T::BITS), operands);
        (dest, same)
    }

    /// The sum over the lanes of `mask`. Needs sm_80, as the other `redux` do.
    pub fn redux_add<T: Redux>(&mut self, value: impl Val<T>, mask: impl Val<B32>) -> Reg<T> {
        self.regular(Op::ReduxAdd, T::TY, [value.operand(), mask.operand()])
    }

    /// The smallest over the lanes of `mask`.
    pub fn redux_min<T: Redux>(&mut self, value: impl Val<T>, mask: impl Val<B32>) -> Reg<T> {
        self.regular(Op::ReduxMin, T::TY, [value.operand(), mask.operand()])
    }

    /// The largest over the lanes of `mask`.
    pub fn redux_max<T: Redux>(&mut self, value: impl Val<T>, mask: impl Val<B32>) -> Reg<T> {
        self.regular(Op::ReduxMax, T::TY, [value.operand(), mask.operand()])
    }

    /// The bitwise and over the lanes of `mask`.
    pub fn redux_and(&mut self, value: impl Val<B32>, mask: impl Val<B32>) -> Reg<B32> {
        self.regular(Op::ReduxAnd, Ty::B32, [value.operand(), mask.operand()])
    }

    /// The bitwise or over the lanes of `mask`.
    pub fn redux_or(&mut self, value: impl Val<B32>, mask: impl Val<B32>) -> Reg<B32> {
        self.regular(Op::ReduxOr, Ty::B32, [value.operand(), mask.operand()])
    }

    /// The bitwise exclusive or over the lanes of `mask`.
    pub fn redux_xor(&mut self, value: impl Val<B32>, mask: impl Val<B32>) -> Reg<B32> {
        self.regular(Op::ReduxXor, Ty::B32, [value.operand(), mask.operand()])
    }

    /// The lanes that execute this instruction together.
    pub fn activemask(&mut self) -> Reg<B32> {
        self.untyped(Op::ActiveMask, [])
    }

    /// The sum over the warp, in every lane: a butterfly of five shuffles, the same order in every lane.
    pub fn warp_sum<T: Lane + super::Arith>(&mut self, value: impl Val<T>) -> Reg<T> {
        self.butterfly(value, |k, a, b| k.add::<T>(a, b))
    }

    /// The largest over the warp, in every lane.
    pub fn warp_max<T: Lane + super::Arith>(&mut self, value: impl Val<T>) -> Reg<T> {
        self.butterfly(value, |k, a, b| k.max::<T>(a, b))
    }

    /// The smallest over the warp, in every lane.
    pub fn warp_min<T: Lane + super::Arith>(&mut self, value: impl Val<T>) -> Reg<T> {
        self.butterfly(value, |k, a, b| k.min::<T>(a, b))
    }

    fn butterfly<T: Lane>(
        &mut self,
        value: impl Val<T>,
        mut combine: impl FnMut(&mut Self, Reg<T>, Reg<T>) -> Reg<T>,
    ) -> Reg<T> {
        let mut value = match value.operand() {
            Operand::Reg(id) => Reg::new(id),
            _ => self.get(value),
        };
        for lanes in [16u32, 8, 4, 2, 1] {
            let other = self.shfl_bfly(value, lanes);
            value = combine(self, value, other);
        }
        value
    }

    /// Matrices of 8x8 16-bit elements from shared memory: `N` is 1, 2 or 4. Needs sm_75.
    pub fn ldmatrix<const N: usize>(&mut self, addr: impl SharedAddr, trans: bool) -> [Reg<B32>; N] {
        let regs: [Reg<B32>; N] = std::array::from_fn(|_| self.fresh());
        let address = Operand::Addr(addr.shared_address());
        let operands = regs.iter().map(|reg| reg.operand()).chain([address]).collect();
        self.push(Kind::LdMatrix(matrix_move::<N>(trans)), operands);
        regs
    }

    /// Matrices of 8x8 16-bit elements to shared memory: `N` is 1, 2 or 4. Needs sm_90.
    pub fn stmatrix<const N: usize>(&mut self, addr: impl SharedAddr, trans: bool, values: [Reg<B32>; N]) {
        let address = Operand::Addr(addr.shared_address());
        let operands = [address].into_iter().chain(values.map(Reg::operand)).collect();
        self.push(Kind::StMatrix(matrix_move::<N>(trans)), operands);
    }

    /// `D = A * B + C` with float accumulators. The fragments' sizes are those of the shape.
    pub fn mma_f32<const A: usize, const B: usize>(
        &mut self,
        shape: MmaShape,
        a: [impl AnyReg<T: Word>; A],
        b: [impl AnyReg<T: Word>; B],
        c: [impl AnyReg<T = F32>; 4],
    ) -> [Reg<F32>; 4] {
        self.mma(shape, ids(a), ids(b), c.map(|c| c.reg().operand()))
    }

    /// `D = A * B + C` with integer accumulators. The fragments' sizes are those of the shape.
    pub fn mma_s32<const A: usize, const B: usize>(
        &mut self,
        shape: MmaShape,
        a: [impl AnyReg<T: Word>; A],
        b: [impl AnyReg<T: Word>; B],
        c: [impl AnyReg<T = S32>; 4],
    ) -> [Reg<S32>; 4] {
        self.mma(shape, ids(a), ids(b), c.map(|c| c.reg().operand()))
    }

    /// `C = A * B + C` in place, float accumulators.
    pub fn mma_f32_acc<const A: usize, const B: usize>(
        &mut self,
        shape: MmaShape,
        a: [impl AnyReg<T: Word>; A],
        b: [impl AnyReg<T: Word>; B],
        c: [Var<F32>; 4],
    ) {
        let c = c.map(Var::operand);
        self.push_mma(shape, c, ids(a), ids(b), c);
    }

    /// `C = A * B + C` in place, integer accumulators.
    pub fn mma_s32_acc<const A: usize, const B: usize>(
        &mut self,
        shape: MmaShape,
        a: [impl AnyReg<T: Word>; A],
        b: [impl AnyReg<T: Word>; B],
        c: [Var<S32>; 4],
    ) {
        let c = c.map(Var::operand);
        self.push_mma(shape, c, ids(a), ids(b), c);
    }

    fn mma<T: RegTy>(
        &mut self,
        shape: MmaShape,
        a: Vec<Operand>,
        b: Vec<Operand>,
        c: [Operand; 4],
    ) -> [Reg<T>; 4] {
        let regs: [Reg<T>; 4] = std::array::from_fn(|_| self.fresh());
        self.push_mma(shape, regs.map(Reg::operand), a, b, c);
        regs
    }

    fn push_mma(
        &mut self,
        shape: MmaShape,
        d: [Operand; 4],
        a: Vec<Operand>,
        b: Vec<Operand>,
        c: [Operand; 4],
    ) {
        let operands = d.into_iter().chain(a).chain(b).chain(c).collect();
        self.push(Kind::Mma(shape), operands);
    }
}

/// Types of `redux.sync.add`, `.min` and `.max`.
#[diagnostic::on_unimplemented(message = "`{Self}` has no redux.sync")]
pub trait Redux: RegTy {}

impl Redux for U32 {}
impl Redux for S32 {}

fn full() -> Operand {
    Operand::Int(i64::from(FULL_WARP))
}

fn ids<R: AnyReg, const N: usize>(regs: [R; N]) -> Vec<Operand> {
    regs.map(|reg| reg.reg().operand()).to_vec()
}

/// Other counts than 1, 2 and 4 are left to the verifier.
fn matrix_move<const N: usize>(trans: bool) -> MatrixMove {
    MatrixMove { count: u8::try_from(N).unwrap_or(u8::MAX), trans, generic: false }
}

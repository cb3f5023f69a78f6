//! Loads, stores, atomics, addresses, asynchronous copies.

use super::value::Sealed;
use super::{
    ArrayRef, AtomTy, B8, KernelBuilder, MemTy, ParamRef, Pred, Reg, RegTy, S64, U32, U64, Val, Var,
};
use crate::inst::{
    Address, Atom, AtomOp, AtomOrder, Base, Cache, Kind, Ld, LevelOneEviction, LevelTwoPrefetch, MemOrder,
    Operand, Red, Scope, Space, St, Width,
};
use crate::ops::Op;
use crate::ty::Ty;
use std::marker::PhantomData;
use std::ops::Add;

/// An address: a register and a signed byte offset. Made by `reg + 16`.
#[derive(Debug)]
pub struct Addr<T> {
    address: Address,
    marker: PhantomData<fn() -> T>,
}

impl<T> Clone for Addr<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Addr<T> {}

impl<T> Addr<T> {
    fn new(base: Base, offset: i32) -> Self {
        Self { address: Address { base, offset }, marker: PhantomData }
    }
}

/// What can be used as an address in any state space: a 64-bit register, with or without an offset.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an address",
    label = "expected a `Reg<U64>` or `Reg<U64> + offset`"
)]
pub trait IntoAddr: Sealed + Copy {
    #[doc(hidden)]
    fn address(self) -> Address;
}

/// What can be used as an address in shared memory: a 32-bit or 64-bit register, or an array, with or
/// without an offset.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an address in shared memory",
    label = "expected a `Reg<U32>`, a `Reg<U64>` or an array, or one of them `+ offset`"
)]
pub trait SharedAddr: Sealed + Copy {
    #[doc(hidden)]
    fn shared_address(self) -> Address;
}

impl<T> Sealed for Addr<T> {}
impl<T> Sealed for ArrayRef<T> {}

macro_rules! register_addresses {
    ($($handle:ident)*) => { $(
        impl IntoAddr for $handle<U64> {
            fn address(self) -> Address {
                Address { base: Base::Reg(self.id()), offset: 0 }
            }
        }

        impl SharedAddr for $handle<U64> {
            fn shared_address(self) -> Address {
                Address { base: Base::Reg(self.id()), offset: 0 }
            }
        }

        impl SharedAddr for $handle<U32> {
            fn shared_address(self) -> Address {
                Address { base: Base::Reg(self.id()), offset: 0 }
            }
        }

        impl Add<i32> for $handle<U64> {
            type Output = Addr<U64>;

            fn add(self, offset: i32) -> Addr<U64> {
                Addr::new(Base::Reg(self.id()), offset)
            }
        }

        impl Add<i32> for $handle<U32> {
            type Output = Addr<U32>;

            fn add(self, offset: i32) -> Addr<U32> {
                Addr::new(Base::Reg(self.id()), offset)
            }
        }
    )* };
}

register_addresses! { Reg Var }

/// The offset is in bytes, whatever the element type.
impl<T> Add<i32> for ArrayRef<T> {
    type Output = Addr<U32>;

    fn add(self, offset: i32) -> Addr<U32> {
        Addr::new(Base::Array(self.id()), offset)
    }
}

/// Offsets accumulate; beyond 31 bits they saturate, which the verifier reports as out of bounds where it
/// knows the array.
impl<T> Add<i32> for Addr<T> {
    type Output = Self;

    fn add(self, offset: i32) -> Self {
        Self::new(self.address.base, self.address.offset.saturating_add(offset))
    }
}

impl IntoAddr for Addr<U64> {
    fn address(self) -> Address {
        self.address
    }
}

impl<T> SharedAddr for Addr<T> {
    fn shared_address(self) -> Address {
        self.address
    }
}

impl<T> SharedAddr for ArrayRef<T> {
    fn shared_address(self) -> Address {
        Address { base: Base::Array(self.id()), offset: 0 }
    }
}

/// How a load is done; the default is weak, through all caches.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Load {
    order: MemOrder,
    cache: Option<Cache>,
    nc: bool,
    evict: Option<LevelOneEviction>,
    prefetch: Option<LevelTwoPrefetch>,
}

impl Load {
    /// A weak load.
    pub const WEAK: Self =
        Self { order: MemOrder::Weak, cache: None, nc: false, evict: None, prefetch: None };
    /// Through the read-only path.
    pub const NC: Self = Self { nc: true, ..Self::WEAK };
    /// For data read once: read-only path, not allocated in L1, 128-byte L2 sectors.
    pub const STREAM: Self = Self {
        nc: true,
        evict: Some(LevelOneEviction::NoAllocate),
        prefetch: Some(LevelTwoPrefetch::B128),
        ..Self::WEAK
    };

    /// With an order.
    pub const fn order(self, order: MemOrder) -> Self {
        Self { order, ..self }
    }

    /// With a cache operator.
    pub const fn cache(self, cache: Cache) -> Self {
        Self { cache: Some(cache), ..self }
    }

    /// With an L1 eviction priority.
    pub const fn evict(self, evict: LevelOneEviction) -> Self {
        Self { evict: Some(evict), ..self }
    }

    /// With an L2 prefetch size.
    pub const fn prefetch(self, prefetch: LevelTwoPrefetch) -> Self {
        Self { prefetch: Some(prefetch), ..self }
    }

    const fn ld(self, space: Space, width: Width, ty: Ty) -> Ld {
        let Self { order, cache, nc, evict, prefetch } = self;
        Ld { space, order, cache, nc, evict, prefetch, width, ty }
    }
}

/// How a store is done; the default is weak.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Store {
    order: MemOrder,
    cache: Option<Cache>,
    evict: Option<LevelOneEviction>,
}

impl Store {
    /// A weak store.
    pub const WEAK: Self = Self { order: MemOrder::Weak, cache: None, evict: None };

    /// With an order.
    pub const fn order(self, order: MemOrder) -> Self {
        Self { order, ..self }
    }

    /// With a cache operator.
    pub const fn cache(self, cache: Cache) -> Self {
        Self { cache: Some(cache), ..self }
    }

    /// With an L1 eviction priority.
    pub const fn evict(self, evict: LevelOneEviction) -> Self {
        Self { evict: Some(evict), ..self }
    }
}

/// The number of elements of a vector access at the type level.
trait VectorWidth {
    const WIDTH: Width;
}

struct Count<const N: usize>;

impl VectorWidth for Count<1> {
    const WIDTH: Width = Width::One;
}

impl VectorWidth for Count<2> {
    const WIDTH: Width = Width::Two;
}

impl VectorWidth for Count<4> {
    const WIDTH: Width = Width::Four;
}

impl KernelBuilder {
    fn load_many<M: MemTy, const N: usize>(
        &mut self,
        space: Space,
        how: Load,
        address: Address,
    ) -> [Reg<M::Reg>; N]
    where
        Count<N>: VectorWidth,
    {
        let regs: [Reg<M::Reg>; N] = std::array::from_fn(|_| self.fresh());
        let ld = how.ld(space, <Count<N>>::WIDTH, M::MEM);
        let operands = regs.iter().map(|reg| reg.operand()).chain([Operand::Addr(address)]).collect();
        self.push(Kind::Ld(ld), operands);
        regs
    }

    fn load_one<M: MemTy>(&mut self, space: Space, how: Load, address: Address) -> Reg<M::Reg> {
        let [reg] = self.load_many::<M, 1>(space, how, address);
        reg
    }

    fn store_many<M: MemTy, const N: usize>(
        &mut self,
        space: Space,
        how: Store,
        address: Address,
        values: [Operand; N],
    ) where
        Count<N>: VectorWidth,
    {
        let Store { order, cache, evict } = how;
        let st = St { space, order, cache, evict, width: <Count<N>>::WIDTH, ty: M::MEM };
        let operands = [Operand::Addr(address)].into_iter().chain(values).collect();
        self.push(Kind::St(st), operands);
    }

    /// A parameter's value.
    pub fn ld_param<T: RegTy + MemTy<Reg = T>>(&mut self, param: ParamRef<T>) -> Reg<T> {
        self.load_one::<T>(Space::Param, Load::WEAK, Address { base: Base::Param(param.id()), offset: 0 })
    }

    /// A field of a structure parameter, `offset` bytes into it.
    pub fn ld_param_at<M: MemTy>(&mut self, param: ParamRef<B8>, offset: i32) -> Reg<M::Reg> {
        self.load_one::<M>(Space::Param, Load::WEAK, Address { base: Base::Param(param.id()), offset })
    }

    /// One element of type `M`; `M` in memory may be narrower than its register ([`super::U8`], [`super::WideInt`]).
    pub fn load<M: MemTy>(&mut self, space: Space, how: Load, addr: impl IntoAddr) -> Reg<M::Reg> {
        self.load_one::<M>(space, how, addr.address())
    }

    /// Two consecutive elements; the address is aligned to both together.
    pub fn load_v2<M: MemTy>(&mut self, space: Space, how: Load, addr: impl IntoAddr) -> [Reg<M::Reg>; 2] {
        self.load_many::<M, 2>(space, how, addr.address())
    }

    /// Four consecutive elements; the address is aligned to all together.
    pub fn load_v4<M: MemTy>(&mut self, space: Space, how: Load, addr: impl IntoAddr) -> [Reg<M::Reg>; 4] {
        self.load_many::<M, 4>(space, how, addr.address())
    }

    /// One element where `p` holds, `otherwise` elsewhere, without a jump.
    pub fn load_or<M: MemTy>(
        &mut self,
        p: Pred,
        space: Space,
        how: Load,
        addr: impl IntoAddr,
        otherwise: impl Val<M::Reg>,
    ) -> Reg<M::Reg> {
        let [reg] = self.load_many_or::<M, 1>(p, space, how, addr.address(), otherwise.operand());
        reg
    }

    /// Four elements where `p` holds, `otherwise` in each elsewhere, without a jump.
    pub fn load_v4_or<M: MemTy>(
        &mut self,
        p: Pred,
        space: Space,
        how: Load,
        addr: impl IntoAddr,
        otherwise: impl Val<M::Reg>,
    ) -> [Reg<M::Reg>; 4] {
        self.load_many_or::<M, 4>(p, space, how, addr.address(), otherwise.operand())
    }

    fn load_many_or<M: MemTy, const N: usize>(
        &mut self,
        p: Pred,
        space: Space,
        how: Load,
        address: Address,
        otherwise: Operand,
    ) -> [Reg<M::Reg>; N]
    where
        Count<N>: VectorWidth,
    {
        let regs: [Reg<M::Reg>; N] =
            std::array::from_fn(|_| self.mov_operand(<M::Reg as RegTy>::PLAIN, otherwise));
        let ld = how.ld(space, <Count<N>>::WIDTH, M::MEM);
        let operands = regs.iter().map(|reg| reg.operand()).chain([Operand::Addr(address)]).collect();
        self.guarded(p, |k| k.push(Kind::Ld(ld), operands));
        regs
    }

    /// Stores one element.
    pub fn store<M: MemTy>(
        &mut self,
        space: Space,
        how: Store,
        addr: impl IntoAddr,
        value: impl Val<M::Reg>,
    ) {
        self.store_many::<M, 1>(space, how, addr.address(), [value.operand()]);
    }

    /// Stores two consecutive elements.
    pub fn store_v2<M: MemTy>(
        &mut self,
        space: Space,
        how: Store,
        addr: impl IntoAddr,
        values: [impl Val<M::Reg>; 2],
    ) {
        self.store_many::<M, 2>(space, how, addr.address(), values.map(Val::operand));
    }

    /// Stores four consecutive elements.
    pub fn store_v4<M: MemTy>(
        &mut self,
        space: Space,
        how: Store,
        addr: impl IntoAddr,
        values: [impl Val<M::Reg>; 4],
    ) {
        self.store_many::<M, 4>(space, how, addr.address(), values.map(Val::operand));
    }

    /// `load::<M>(Space::Global, Load::WEAK, ..)`.
    pub fn ld_global<M: MemTy>(&mut self, addr: impl IntoAddr) -> Reg<M::Reg> {
        self.load::<M>(Space::Global, Load::WEAK, addr)
    }

    /// `load_v2::<M>(Space::Global, Load::WEAK, ..)`.
    pub fn ld_global_v2<M: MemTy>(&mut self, addr: impl IntoAddr) -> [Reg<M::Reg>; 2] {
        self.load_v2::<M>(Space::Global, Load::WEAK, addr)
    }

    /// `load_v4::<M>(Space::Global, Load::WEAK, ..)`.
    pub fn ld_global_v4<M: MemTy>(&mut self, addr: impl IntoAddr) -> [Reg<M::Reg>; 4] {
        self.load_v4::<M>(Space::Global, Load::WEAK, addr)
    }

    /// `store::<M>(Space::Global, Store::WEAK, ..)`.
    pub fn st_global<M: MemTy>(&mut self, addr: impl IntoAddr, value: impl Val<M::Reg>) {
        self.store::<M>(Space::Global, Store::WEAK, addr, value);
    }

    /// `store_v2::<M>(Space::Global, Store::WEAK, ..)`.
    pub fn st_global_v2<M: MemTy>(&mut self, addr: impl IntoAddr, values: [impl Val<M::Reg>; 2]) {
        self.store_v2::<M>(Space::Global, Store::WEAK, addr, values);
    }

    /// `store_v4::<M>(Space::Global, Store::WEAK, ..)`.
    pub fn st_global_v4<M: MemTy>(&mut self, addr: impl IntoAddr, values: [impl Val<M::Reg>; 4]) {
        self.store_v4::<M>(Space::Global, Store::WEAK, addr, values);
    }

    /// One element of shared memory.
    pub fn ld_shared<M: MemTy>(&mut self, addr: impl SharedAddr) -> Reg<M::Reg> {
        self.load_one::<M>(Space::Shared, Load::WEAK, addr.shared_address())
    }

    /// Two consecutive elements of shared memory.
    pub fn ld_shared_v2<M: MemTy>(&mut self, addr: impl SharedAddr) -> [Reg<M::Reg>; 2] {
        self.load_many::<M, 2>(Space::Shared, Load::WEAK, addr.shared_address())
    }

    /// Four consecutive elements of shared memory.
    pub fn ld_shared_v4<M: MemTy>(&mut self, addr: impl SharedAddr) -> [Reg<M::Reg>; 4] {
        self.load_many::<M, 4>(Space::Shared, Load::WEAK, addr.shared_address())
    }

    /// One element of shared memory with an order, for flags between warps.
    pub fn ld_shared_with<M: MemTy>(&mut self, how: Load, addr: impl SharedAddr) -> Reg<M::Reg> {
        self.load_one::<M>(Space::Shared, how, addr.shared_address())
    }

    /// Stores one element to shared memory.
    pub fn st_shared<M: MemTy>(&mut self, addr: impl SharedAddr, value: impl Val<M::Reg>) {
        self.store_many::<M, 1>(Space::Shared, Store::WEAK, addr.shared_address(), [value.operand()]);
    }

    /// Stores two consecutive elements to shared memory.
    pub fn st_shared_v2<M: MemTy>(&mut self, addr: impl SharedAddr, values: [impl Val<M::Reg>; 2]) {
        self.store_many::<M, 2>(Space::Shared, Store::WEAK, addr.shared_address(), values.map(Val::operand));
    }

    /// Stores four consecutive elements to shared memory.
    pub fn st_shared_v4<M: MemTy>(&mut self, addr: impl SharedAddr, values: [impl Val<M::Reg>; 4]) {
        self.store_many::<M, 4>(Space::Shared, Store::WEAK, addr.shared_address(), values.map(Val::operand));
    }

    /// Stores one element to shared memory with an order.
    pub fn st_shared_with<M: MemTy>(&mut self, how: Store, addr: impl SharedAddr, value: impl Val<M::Reg>) {
        self.store_many::<M, 1>(Space::Shared, how, addr.shared_address(), [value.operand()]);
    }

    /// The address of a shared array in a register.
    pub fn shared_base<M: MemTy>(&mut self, array: ArrayRef<M>) -> Reg<U32> {
        self.mov_operand(Ty::U32, Operand::Symbol(Base::Array(array.id())))
    }

    /// The address of a local array in a register.
    pub fn local_base<M: MemTy>(&mut self, array: ArrayRef<M>) -> Reg<U64> {
        self.mov_operand(Ty::U64, Operand::Symbol(Base::Array(array.id())))
    }

    /// The address of element `index` of a shared array.
    pub fn shared_index<M: MemTy>(&mut self, array: ArrayRef<M>, index: impl Val<U32>) -> Reg<U32> {
        let base = self.shared_base(array);
        self.mad::<U32>(index, M::MEM.bytes(), base)
    }

    /// `base + index * bytes` with the product in 64 bits.
    pub fn ptr_index(&mut self, base: impl Val<U64>, index: impl Val<U32>, bytes: u32) -> Reg<U64> {
        self.mad_wide::<U32>(index, bytes, base)
    }

    /// `base + index * bytes` for a signed index.
    pub fn ptr_index_signed(
        &mut self,
        base: impl Val<U64>,
        index: impl Val<super::S32>,
        bytes: i32,
    ) -> Reg<U64> {
        let offset: Reg<S64> = self.mul_wide::<super::S32>(index, bytes);
        self.add::<U64>(base, offset.cast::<U64>())
    }

    /// A generic address from one in global memory.
    pub fn global_to_generic(&mut self, addr: Reg<U64>) -> Reg<U64> {
        self.regular(Op::CvtaGlobal, Ty::U64, [addr.operand()])
    }

    /// A generic address from a 64-bit one in shared memory.
    pub fn shared_to_generic(&mut self, addr: Reg<U64>) -> Reg<U64> {
        self.regular(Op::CvtaShared, Ty::U64, [addr.operand()])
    }

    /// An address in global memory from a generic one.
    pub fn generic_to_global(&mut self, addr: Reg<U64>) -> Reg<U64> {
        self.regular(Op::CvtaToGlobal, Ty::U64, [addr.operand()])
    }

    /// A 64-bit address in shared memory from a generic one.
    pub fn generic_to_shared(&mut self, addr: Reg<U64>) -> Reg<U64> {
        self.regular(Op::CvtaToShared, Ty::U64, [addr.operand()])
    }

    /// An atomic operation; gives the old value.
    pub fn atom<T: AtomTy>(
        &mut self,
        how: Atomic,
        op: AtomOp,
        addr: impl SharedAddr,
        value: impl Val<T>,
    ) -> Reg<T> {
        let Atomic { space, order, scope } = how;
        let dest = self.fresh::<T>();
        let atom = Atom { space, order, scope, op, ty: atomic_ty::<T>(op) };
        let operands = vec![dest.operand(), Operand::Addr(addr.shared_address()), value.operand()];
        self.push(Kind::Atom(atom), operands);
        dest
    }

    /// Stores `new` if the old value equals `expected`; gives the old value.
    pub fn atom_cas<T: AtomTy>(
        &mut self,
        how: Atomic,
        addr: impl SharedAddr,
        expected: impl Val<T>,
        new: impl Val<T>,
    ) -> Reg<T> {
        let Atomic { space, order, scope } = how;
        let dest = self.fresh::<T>();
        let atom = Atom { space, order, scope, op: AtomOp::Cas, ty: atomic_ty::<T>(AtomOp::Cas) };
        let address = Operand::Addr(addr.shared_address());
        self.push(Kind::Atom(atom), vec![dest.operand(), address, expected.operand(), new.operand()]);
        dest
    }

    /// An atomic operation without a result.
    pub fn red<T: AtomTy>(&mut self, how: Atomic, op: AtomOp, addr: impl SharedAddr, value: impl Val<T>) {
        let Atomic { space, order, scope } = how;
        let red = Red { space, order, scope, op, ty: atomic_ty::<T>(op) };
        self.push(Kind::Red(red), vec![Operand::Addr(addr.shared_address()), value.operand()]);
    }

    /// Copies `bytes` (4, 8 or 16) from global to shared memory in the background, through L1. Needs sm_80.
    pub fn cp_async_ca(&mut self, shared: impl SharedAddr, global: impl IntoAddr, bytes: u32) {
        self.cp_async(Op::CpAsyncCa, shared.shared_address(), global.address(), bytes, None);
    }

    /// Copies 16 bytes from global to shared memory in the background, past L1. Needs sm_80.
    pub fn cp_async_cg(&mut self, shared: impl SharedAddr, global: impl IntoAddr) {
        self.cp_async(Op::CpAsyncCg, shared.shared_address(), global.address(), 16, None);
    }

    /// As [`KernelBuilder::cp_async_cg`], fetching whole 128-byte lines into L2.
    pub fn cp_async_cg_l2(&mut self, shared: impl SharedAddr, global: impl IntoAddr) {
        self.cp_async(Op::CpAsyncCgL2, shared.shared_address(), global.address(), 16, None);
    }

    /// As [`KernelBuilder::cp_async_ca`], but only the first `valid` bytes are read, the rest is zeros.
    pub fn cp_async_ca_zfill(
        &mut self,
        shared: impl SharedAddr,
        global: impl IntoAddr,
        bytes: u32,
        valid: impl Val<U32>,
    ) {
        let valid = Some(valid.operand());
        self.cp_async(Op::CpAsyncCa, shared.shared_address(), global.address(), bytes, valid);
    }

    /// As [`KernelBuilder::cp_async_cg`], but only the first `valid` bytes are read, the rest is zeros.
    pub fn cp_async_cg_zfill(
        &mut self,
        shared: impl SharedAddr,
        global: impl IntoAddr,
        valid: impl Val<U32>,
    ) {
        let valid = Some(valid.operand());
        self.cp_async(Op::CpAsyncCg, shared.shared_address(), global.address(), 16, valid);
    }

    fn cp_async(&mut self, op: Op, shared: Address, global: Address, bytes: u32, valid: Option<Operand>) {
        let [to, from] = [Operand::Addr(shared), Operand::Addr(global)];
        let bytes = Operand::Int(i64::from(bytes));
        match valid {
            Some(valid) => self.effect(op, [to, from, bytes, valid]),
            None => self.effect(op, [to, from, bytes]),
        }
    }

    /// Closes a group of background copies.
    pub fn cp_async_commit(&mut self) {
        self.effect(Op::CpAsyncCommit, []);
    }

    /// Waits until at most `pending` of this thread's groups are unfinished.
    pub fn cp_async_wait(&mut self, pending: u32) {
        self.effect(Op::CpAsyncWait, [Operand::Int(i64::from(pending))]);
    }

    /// Waits for all of this thread's background copies.
    pub fn cp_async_wait_all(&mut self) {
        self.effect(Op::CpAsyncWaitAll, []);
    }

    /// Brings a line of global memory into L2.
    pub fn prefetch_l2(&mut self, addr: impl IntoAddr) {
        self.effect(Op::PrefetchL2, [Operand::Addr(addr.address())]);
    }

    /// Brings a line of global memory into L1.
    pub fn prefetch_l1(&mut self, addr: impl IntoAddr) {
        self.effect(Op::PrefetchL1, [Operand::Addr(addr.address())]);
    }
}

/// Where and how an atomic operation happens.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Atomic {
    space: Space,
    order: Option<AtomOrder>,
    scope: Option<Scope>,
}

impl Atomic {
    /// Global memory, relaxed, among the threads of the device.
    pub const GLOBAL: Self = Self { space: Space::Global, order: None, scope: None };
    /// Shared memory, relaxed.
    pub const SHARED: Self = Self { space: Space::Shared, order: None, scope: None };
    /// A generic address, relaxed.
    pub const GENERIC: Self = Self { space: Space::Generic, order: None, scope: None };

    /// With an order and the scope that it holds in.
    pub const fn order(self, order: AtomOrder, scope: Scope) -> Self {
        Self { order: Some(order), scope: Some(scope), ..self }
    }
}

/// Bitwise operations, exchanges and comparisons are of untyped bits.
fn atomic_ty<T: AtomTy>(op: AtomOp) -> Ty {
    match (op, T::TY.bits()) {
        (AtomOp::And | AtomOp::Or | AtomOp::Xor | AtomOp::Exch | AtomOp::Cas, 32) => Ty::B32,
        (AtomOp::And | AtomOp::Or | AtomOp::Xor | AtomOp::Exch | AtomOp::Cas, 64) => Ty::B64,
        (AtomOp::Cas, 16) => Ty::B16,
        // Two's complement addition has no sign.
        (AtomOp::Add, 64) if T::TY == Ty::S64 => Ty::U64,
        _ => T::TY,
    }
}

//! Loads and stores.

use super::{B8, IntoAddr, KernelBuilder, MemTy, ParamRef, Pred, Reg, RegTy, SharedAddr, Val};
use crate::inst::{
    Address, Base, Cache, Kind, Ld, LevelOneEviction, LevelTwoPrefetch, MemOrder, Operand, Space, St,
    StAsync, Width,
};
use crate::ty::Ty;

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
        Ld { order, cache, nc, evict, prefetch, width, ..Ld::plain(space, ty) }
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
        let st = St { order, cache, evict, width: <Count<N>>::WIDTH, ..St::plain(space, M::MEM) };
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

    /// One element of the shared memory of any block of the cluster: see [`cluster_address`](Self::cluster_address). Needs
    /// sm_90.
    pub fn ld_cluster<M: MemTy>(&mut self, addr: impl SharedAddr) -> Reg<M::Reg> {
        self.load_one::<M>(Space::SharedCluster, Load::WEAK, addr.shared_address())
    }

    /// Stores one element to the shared memory of any block of the cluster: see
    /// [`cluster_address`](Self::cluster_address). Needs sm_90.
    pub fn st_cluster<M: MemTy>(&mut self, addr: impl SharedAddr, value: impl Val<M::Reg>) {
        self.store_many::<M, 1>(Space::SharedCluster, Store::WEAK, addr.shared_address(), [value.operand()]);
    }

    /// As [`st_cluster`](Self::st_cluster), two consecutive elements.
    pub fn st_cluster_v2<M: MemTy>(&mut self, addr: impl SharedAddr, values: [impl Val<M::Reg>; 2]) {
        let values = values.map(Val::operand);
        self.store_many::<M, 2>(Space::SharedCluster, Store::WEAK, addr.shared_address(), values);
    }

    /// As [`st_cluster`](Self::st_cluster), but nobody has to wait for this thread: the barrier object at `object`, in the
    /// same block, counts the bytes.
    pub fn st_async<M: MemTy>(
        &mut self,
        addr: impl SharedAddr,
        value: impl Val<M::Reg>,
        object: impl SharedAddr,
    ) {
        self.store_async::<M, 1>(addr, [value.operand()], object);
    }

    /// As [`st_async`](Self::st_async), two consecutive elements.
    pub fn st_async_v2<M: MemTy>(
        &mut self,
        addr: impl SharedAddr,
        values: [impl Val<M::Reg>; 2],
        object: impl SharedAddr,
    ) {
        self.store_async::<M, 2>(addr, values.map(Val::operand), object);
    }

    /// As [`st_async`](Self::st_async), four consecutive elements.
    pub fn st_async_v4<M: MemTy>(
        &mut self,
        addr: impl SharedAddr,
        values: [impl Val<M::Reg>; 4],
        object: impl SharedAddr,
    ) {
        self.store_async::<M, 4>(addr, values.map(Val::operand), object);
    }

    fn store_async<M: MemTy, const N: usize>(
        &mut self,
        addr: impl SharedAddr,
        values: [Operand; N],
        object: impl SharedAddr,
    ) where
        Count<N>: VectorWidth,
    {
        let kind = Kind::StAsync(StAsync { width: <Count<N>>::WIDTH, ty: M::MEM });
        let [addr, object] = [addr.shared_address(), object.shared_address()].map(Operand::Addr);
        self.push(kind, [addr].into_iter().chain(values).chain([object]).collect());
    }

    /// Stores one element to shared memory with an order.
    pub fn st_shared_with<M: MemTy>(&mut self, how: Store, addr: impl SharedAddr, value: impl Val<M::Reg>) {
        self.store_many::<M, 1>(Space::Shared, how, addr.shared_address(), [value.operand()]);
    }
}

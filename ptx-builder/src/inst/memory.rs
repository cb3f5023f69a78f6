//! `ld`, `st`, `atom`, `red`: state space, order and scope, cache operator, eviction and prefetch hints.

use super::{Arg, Role, Signature, What, Words, named};
use crate::ops::Effects;
use crate::target::Requires;
use crate::ty::{Ty, TyKind};
use std::fmt;

named! {
    /// A state space.
    Space {
        /// Kernel parameters.
        Param = "param",
        /// Global memory.
        Global = "global",
        /// Shared memory of the block.
        Shared = "shared",
        /// Memory of the thread.
        Local = "local",
        /// Constant memory.
        Const = "const",
        /// A generic address, written without a space.
        Generic = "",
    }
}

impl Space {
    fn dotted(self) -> &'static str {
        match self {
            Self::Param => ".param",
            Self::Global => ".global",
            Self::Shared => ".shared",
            Self::Local => ".local",
            Self::Const => ".const",
            Self::Generic => "",
        }
    }

    fn parse(words: &mut Words<'_>) -> Self {
        words.take(|w| Self::from_name(w).filter(|s| *s != Self::Generic)).unwrap_or(Self::Generic)
    }
}

named! {
    /// The set of threads among which an operation is atomic or ordered.
    Scope {
        /// The block.
        Cta = "cta",
        /// The cluster.
        Cluster = "cluster",
        /// The device.
        Gpu = "gpu",
        /// Host and all devices.
        Sys = "sys",
    }
}

impl Scope {
    fn requires(self) -> Requires {
        match self {
            Self::Cluster => Requires::new(7, 8, 90),
            _ => Requires::BASE,
        }
    }
}

/// The order of a load or store with respect to other threads' accesses.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum MemOrder {
    /// No order: for data that no other thread accesses at the same time.
    #[default]
    Weak,
    /// Atomic, without an order.
    Relaxed(Scope),
    /// A load before everything that follows it.
    Acquire(Scope),
    /// A store after everything that precedes it.
    Release(Scope),
    /// Not cached in registers, not merged.
    Volatile,
}

impl MemOrder {
    fn requires(self) -> Requires {
        match self {
            Self::Weak | Self::Volatile => Requires::BASE,
            Self::Relaxed(scope) | Self::Acquire(scope) | Self::Release(scope) => {
                Requires::new(6, 0, 70).and(scope.requires())
            }
        }
    }

    fn parse(words: &mut Words<'_>) -> Result<Self, String> {
        let scope = |words: &mut Words<'_>| words.need("a scope", Scope::from_name);
        Ok(match words.peek() {
            Some("weak") => {
                words.eat("weak");
                Self::Weak
            }
            Some("volatile") => {
                words.eat("volatile");
                Self::Volatile
            }
            Some("relaxed") => {
                words.eat("relaxed");
                Self::Relaxed(scope(words)?)
            }
            Some("acquire") => {
                words.eat("acquire");
                Self::Acquire(scope(words)?)
            }
            Some("release") => {
                words.eat("release");
                Self::Release(scope(words)?)
            }
            _ => Self::Weak,
        })
    }
}

impl fmt::Display for MemOrder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Weak => Ok(()),
            Self::Relaxed(scope) => write!(f, ".relaxed.{}", scope.name()),
            Self::Acquire(scope) => write!(f, ".acquire.{}", scope.name()),
            Self::Release(scope) => write!(f, ".release.{}", scope.name()),
            Self::Volatile => f.write_str(".volatile"),
        }
    }
}

named! {
    /// Cache operator.
    Cache {
        /// Cache at all levels (loads).
        Ca = "ca",
        /// Cache in L2 only.
        Cg = "cg",
        /// Streaming: likely accessed once.
        Cs = "cs",
        /// Last use (loads).
        Lu = "lu",
        /// Do not cache, fetch again (loads).
        Cv = "cv",
        /// Write back (stores).
        Wb = "wb",
        /// Write through (stores).
        Wt = "wt",
    }
}

named! {
    /// Eviction priority in L1.
    LevelOneEviction {
        /// The default order.
        Normal = "L1::evict_normal",
        /// Do not change the order.
        Unchanged = "L1::evict_unchanged",
        /// First.
        First = "L1::evict_first",
        /// Last.
        Last = "L1::evict_last",
        /// Do not allocate in L1.
        NoAllocate = "L1::no_allocate",
    }
}

named! {
    /// How much of L2 a load fetches.
    LevelTwoPrefetch {
        /// 64 bytes.
        B64 = "L2::64B",
        /// 128 bytes.
        B128 = "L2::128B",
        /// 256 bytes.
        B256 = "L2::256B",
    }
}

/// How many elements one access moves.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Width {
    /// One.
    One,
    /// `.v2`.
    Two,
    /// `.v4`.
    Four,
}

impl Width {
    /// The number of elements.
    pub const fn count(self) -> u8 {
        match self {
            Self::One => 1,
            Self::Two => 2,
            Self::Four => 4,
        }
    }

    /// The width with that many elements.
    pub const fn of(count: usize) -> Option<Self> {
        match count {
            1 => Some(Self::One),
            2 => Some(Self::Two),
            4 => Some(Self::Four),
            _ => None,
        }
    }

    fn parse(words: &mut Words<'_>) -> Self {
        words
            .take(|word| match word {
                "v2" => Some(Self::Two),
                "v4" => Some(Self::Four),
                _ => None,
            })
            .unwrap_or(Self::One)
    }

    fn arg(self, arg: Arg) -> Arg {
        if self == Self::One { arg } else { arg.vector(self.count()) }
    }
}

impl fmt::Display for Width {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::One => "",
            Self::Two => ".v2",
            Self::Four => ".v4",
        })
    }
}

/// May `ld` and `st` move this type?
fn memory_type(ty: Ty) -> bool {
    !matches!(ty.kind(), TyKind::Pred | TyKind::SmallFloat)
}

/// `ld{.order}{.space}{.cache}{.nc}{.evict}{.prefetch}{.width}.ty d, [a]`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Ld {
    /// State space.
    pub space: Space,
    /// Order.
    pub order: MemOrder,
    /// Cache operator.
    pub cache: Option<Cache>,
    /// Through the read-only path: the memory does not change during the kernel.
    pub nc: bool,
    /// L1 eviction priority.
    pub evict: Option<LevelOneEviction>,
    /// L2 prefetch size.
    pub prefetch: Option<LevelTwoPrefetch>,
    /// Elements.
    pub width: Width,
    /// Element type in memory.
    pub ty: Ty,
}

impl Ld {
    /// Bytes moved, which is also the alignment that the address needs.
    pub const fn bytes(&self) -> u32 {
        self.ty.bytes() * self.width.count() as u32
    }

    pub(super) fn signature(&self) -> Signature {
        let dest = Arg { role: Role::Def, ..Arg::one(What::WideReg(self.ty)) };
        Signature::new(&[self.width.arg(dest), Arg::one(What::Address(self.space))])
    }

    pub(super) fn requires(&self) -> Requires {
        let mut requires = self.order.requires();
        if self.nc {
            requires = requires.and(Requires::new(3, 1, 50));
        }
        if self.evict.is_some() {
            requires = requires.and(Requires::new(7, 4, 70));
        }
        match self.prefetch {
            Some(LevelTwoPrefetch::B256) => requires.and(Requires::new(7, 4, 80)),
            Some(_) => requires.and(Requires::new(7, 4, 75)),
            None => requires,
        }
    }

    pub(super) fn effects(&self) -> Effects {
        let varies = self.space == Space::Local;
        Effects { varies, ..Effects::READ }
    }

    pub(super) fn problems(&self, report: &mut dyn FnMut(String)) {
        if !memory_type(self.ty) {
            report(format!("ld has no form for .{}", self.ty));
        }
        if self.bytes() > 16 {
            report(format!("a load moves at most 16 bytes, not {}", self.bytes()));
        }
        if matches!(self.order, MemOrder::Release(_)) {
            report("a load cannot release".to_owned());
        }
        if matches!(self.cache, Some(Cache::Wb | Cache::Wt)) {
            report("a load does not take a store's cache operator".to_owned());
        }
        if self.nc && (self.space != Space::Global || self.order != MemOrder::Weak) {
            report("only weak loads from global memory go through the read-only path".to_owned());
        }
        if self.nc && self.cache.is_some_and(|c| !matches!(c, Cache::Ca | Cache::Cg | Cache::Cs)) {
            report("a read-only load takes the cache operators ca, cg and cs".to_owned());
        }
        let cached = matches!(self.space, Space::Global | Space::Generic);
        if (self.evict.is_some() || self.prefetch.is_some()) && !cached {
            report("eviction and prefetch hints belong to global memory".to_owned());
        }
        if self.cache.is_some() && self.order != MemOrder::Weak {
            report("only weak loads take a cache operator".to_owned());
        }
        if self.cache.is_some() && self.evict.is_some() {
            report("a load takes a cache operator or an eviction priority, not both".to_owned());
        }
        if self.evict.is_some() && self.order == MemOrder::Volatile {
            report("volatile loads take no eviction priority".to_owned());
        }
        if matches!(self.space, Space::Param | Space::Const | Space::Local)
            && !matches!(self.order, MemOrder::Weak)
        {
            report(format!("only weak loads from .{} memory", self.space.name()));
        }
        if matches!(self.space, Space::Param) && self.cache.is_some() {
            report("parameters are not cached".to_owned());
        }
    }

    pub(super) fn parse(words: &mut Words<'_>) -> Result<Self, String> {
        let order = MemOrder::parse(words)?;
        let space = Space::parse(words);
        let cache = words.take(Cache::from_name);
        let nc = words.eat("nc");
        let evict = words.take(LevelOneEviction::from_name);
        let prefetch = words.take(LevelTwoPrefetch::from_name);
        let width = Width::parse(words);
        Ok(Self { space, order, cache, nc, evict, prefetch, width, ty: words.ty()? })
    }
}

impl fmt::Display for Ld {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ld{}{}", self.order, self.space.dotted())?;
        if let Some(cache) = self.cache {
            write!(f, ".{}", cache.name())?;
        }
        if self.nc {
            f.write_str(".nc")?;
        }
        if let Some(evict) = self.evict {
            write!(f, ".{}", evict.name())?;
        }
        if let Some(prefetch) = self.prefetch {
            write!(f, ".{}", prefetch.name())?;
        }
        write!(f, "{}.{}", self.width, self.ty)
    }
}

/// `st{.order}{.space}{.cache}{.evict}{.width}.ty [a], b`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct St {
    /// State space.
    pub space: Space,
    /// Order.
    pub order: MemOrder,
    /// Cache operator.
    pub cache: Option<Cache>,
    /// L1 eviction priority.
    pub evict: Option<LevelOneEviction>,
    /// Elements.
    pub width: Width,
    /// Element type in memory.
    pub ty: Ty,
}

impl St {
    /// Bytes moved, which is also the alignment that the address needs.
    pub const fn bytes(&self) -> u32 {
        self.ty.bytes() * self.width.count() as u32
    }

    pub(super) fn signature(&self) -> Signature {
        let value = Arg::one(What::WideValue(self.ty));
        Signature::new(&[Arg::one(What::Address(self.space)), self.width.arg(value)])
    }

    pub(super) fn requires(&self) -> Requires {
        let order = self.order.requires();
        if self.evict.is_some() { order.and(Requires::new(7, 4, 70)) } else { order }
    }

    pub(super) fn problems(&self, report: &mut dyn FnMut(String)) {
        if !memory_type(self.ty) {
            report(format!("st has no form for .{}", self.ty));
        }
        if self.bytes() > 16 {
            report(format!("a store moves at most 16 bytes, not {}", self.bytes()));
        }
        if matches!(self.order, MemOrder::Acquire(_)) {
            report("a store cannot acquire".to_owned());
        }
        if matches!(self.space, Space::Param | Space::Const) {
            report(format!("a kernel does not store to .{} memory", self.space.name()));
        }
        if matches!(self.cache, Some(Cache::Ca | Cache::Lu | Cache::Cv)) {
            report("a store does not take a load's cache operator".to_owned());
        }
        if self.cache.is_some() && self.order != MemOrder::Weak {
            report("only weak stores take a cache operator".to_owned());
        }
        if self.cache.is_some() && self.evict.is_some() {
            report("a store takes a cache operator or an eviction priority, not both".to_owned());
        }
        if self.evict.is_some() && self.order == MemOrder::Volatile {
            report("volatile stores take no eviction priority".to_owned());
        }
        if self.evict.is_some() && !matches!(self.space, Space::Global | Space::Generic) {
            report("eviction hints belong to global memory".to_owned());
        }
        if self.space == Space::Local && self.order != MemOrder::Weak {
            report("only weak stores to .local memory".to_owned());
        }
    }

    pub(super) fn parse(words: &mut Words<'_>) -> Result<Self, String> {
        let order = MemOrder::parse(words)?;
        let space = Space::parse(words);
        let cache = words.take(Cache::from_name);
        let evict = words.take(LevelOneEviction::from_name);
        let width = Width::parse(words);
        Ok(Self { space, order, cache, evict, width, ty: words.ty()? })
    }
}

impl fmt::Display for St {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "st{}{}", self.order, self.space.dotted())?;
        if let Some(cache) = self.cache {
            write!(f, ".{}", cache.name())?;
        }
        if let Some(evict) = self.evict {
            write!(f, ".{}", evict.name())?;
        }
        write!(f, "{}.{}", self.width, self.ty)
    }
}

named! {
    /// The order of an atomic operation.
    AtomOrder {
        /// None.
        Relaxed = "relaxed",
        /// Before everything that follows.
        Acquire = "acquire",
        /// After everything that precedes.
        Release = "release",
        /// Both.
        AcqRel = "acq_rel",
    }
}

named! {
    /// What an atomic operation does to memory.
    AtomOp {
        /// Add.
        Add = "add",
        /// Minimum.
        Min = "min",
        /// Maximum.
        Max = "max",
        /// Increment, wrapping to 0 above the operand.
        Inc = "inc",
        /// Decrement, wrapping to the operand at 0.
        Dec = "dec",
        /// Bitwise and.
        And = "and",
        /// Bitwise or.
        Or = "or",
        /// Bitwise exclusive or.
        Xor = "xor",
        /// Exchange.
        Exch = "exch",
        /// Compare with the first operand and, if equal, store the second.
        Cas = "cas",
    }
}

impl AtomOp {
    /// What the type needs, or `None` if there is no such form.
    fn requires(self, ty: Ty, returns: bool) -> Option<Requires> {
        use AtomOp::{Add, And, Cas, Dec, Exch, Inc, Max, Min, Or, Xor};
        Some(match (self, ty) {
            (Add, Ty::U32 | Ty::S32 | Ty::U64 | Ty::F32) => Requires::BASE,
            (Add, Ty::F64) => Requires::new(5, 0, 60),
            (Add, Ty::F16x2) => Requires::new(6, 2, 60),
            (Add, Ty::F16) => Requires::new(6, 3, 70),
            (Add, Ty::BF16 | Ty::BF16x2) => Requires::new(7, 8, 90),
            (Min | Max, Ty::U32 | Ty::S32) => Requires::BASE,
            (Min | Max, Ty::U64 | Ty::S64) => Requires::new(3, 1, 50),
            (Inc | Dec, Ty::U32) => Requires::BASE,
            (And | Or | Xor, Ty::B32 | Ty::B64) => Requires::BASE,
            (Exch, Ty::B32 | Ty::B64) if returns => Requires::BASE,
            (Cas, Ty::B32 | Ty::B64) if returns => Requires::BASE,
            (Cas, Ty::B16) if returns => Requires::new(6, 3, 70),
            _ => return None,
        })
    }

    fn noftz(self, ty: Ty) -> &'static str {
        let half = matches!(ty, Ty::F16 | Ty::F16x2 | Ty::BF16 | Ty::BF16x2);
        if self == Self::Add && half { ".noftz" } else { "" }
    }
}

macro_rules! atomic {
    ($(#[$doc:meta])* $name:ident, $mnemonic:literal, $returns:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub struct $name {
            /// `global`, `shared` or generic.
            pub space: Space,
            /// Order; relaxed if none is written.
            pub order: Option<AtomOrder>,
            /// Scope; the device if none is written.
            pub scope: Option<Scope>,
            /// The operation.
            pub op: AtomOp,
            /// Its type.
            pub ty: Ty,
        }

        impl $name {
            pub(super) fn requires(&self) -> Requires {
                let mut requires = self.op.requires(self.ty, $returns).unwrap_or(Requires::BASE);
                if self.order.is_some() {
                    requires = requires.and(Requires::new(6, 0, 70));
                }
                if let Some(scope) = self.scope {
                    requires = requires.and(Requires::new(5, 0, 60)).and(scope.requires());
                }
                requires
            }

            pub(super) fn problems(&self, report: &mut dyn FnMut(String)) {
                if self.op.requires(self.ty, $returns).is_none() {
                    report(format!(concat!($mnemonic, ".{} has no form for .{}"), self.op.name(), self.ty));
                }
                if !matches!(self.space, Space::Global | Space::Shared | Space::Generic) {
                    report(format!("no atomic operations on .{} memory", self.space.name()));
                }
                if !$returns && matches!(self.order, Some(AtomOrder::Acquire | AtomOrder::AcqRel)) {
                    report("a reduction returns nothing, so it cannot acquire".to_owned());
                }
            }

            pub(super) fn parse(words: &mut Words<'_>) -> Result<Self, String> {
                let order = words.take(AtomOrder::from_name);
                let scope = words.take(Scope::from_name);
                let space = Space::parse(words);
                let op = words.need("an atomic operation", AtomOp::from_name)?;
                let noftz = words.eat("noftz");
                let ty = words.ty()?;
                if noftz == op.noftz(ty).is_empty() {
                    return Err("`.noftz` belongs to the addition of 16-bit floats, and only to it".to_owned());
                }
                Ok(Self { space, order, scope, op, ty })
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str($mnemonic)?;
                if let Some(order) = self.order {
                    write!(f, ".{}", order.name())?;
                }
                if let Some(scope) = self.scope {
                    write!(f, ".{}", scope.name())?;
                }
                write!(f, "{}.{}{}.{}", self.space.dotted(), self.op.name(), self.op.noftz(self.ty), self.ty)
            }
        }
    };
}

atomic! {
    /// `atom{.order}{.scope}{.space}.op.ty d, [a], b{, c}`.
    Atom, "atom", true
}

atomic! {
    /// `red{.order}{.scope}{.space}.op.ty [a], b`.
    Red, "red", false
}

impl Atom {
    pub(super) fn signature(&self) -> Signature {
        let address = Arg::one(What::Address(self.space));
        let mut signature = Signature::new(&[Arg::def(self.ty), address, Arg::value(self.ty)]);
        if self.op == AtomOp::Cas {
            signature.push(Arg::value(self.ty));
        }
        signature
    }
}

impl Red {
    pub(super) fn signature(&self) -> Signature {
        Signature::new(&[Arg::one(What::Address(self.space)), Arg::value(self.ty)])
    }
}

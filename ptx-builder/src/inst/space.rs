//! What memory instructions share: state spaces, scopes, orders, cache and eviction hints, vector widths.

use super::{Arg, Words, named};
use crate::target::Requires;
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
        /// Shared memory of any block of the cluster.
        SharedCluster = "shared::cluster",
        /// Memory of the thread.
        Local = "local",
        /// Constant memory.
        Const = "const",
        /// A generic address, written without a space.
        Generic = "",
    }
}

impl Space {
    pub(super) fn dotted(self) -> &'static str {
        match self {
            Self::Param => ".param",
            Self::Global => ".global",
            Self::Shared => ".shared",
            Self::SharedCluster => ".shared::cluster",
            Self::Local => ".local",
            Self::Const => ".const",
            Self::Generic => "",
        }
    }

    pub(super) fn parse(words: &mut Words<'_>) -> Self {
        Self::take(words).unwrap_or(Self::Generic)
    }

    pub(super) fn take(words: &mut Words<'_>) -> Option<Self> {
        let named = |word: &str| match word {
            "shared::cta" => Some(Self::Shared),
            "param::entry" | "param::func" => Some(Self::Param),
            _ => Self::from_name(word).filter(|space| *space != Self::Generic),
        };
        words.take(named)
    }

    /// What an access to the space needs.
    pub(super) fn requires(self) -> Requires {
        match self {
            Self::SharedCluster => Requires::new(7, 8, 90),
            _ => Requires::BASE,
        }
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
    pub(super) fn requires(self) -> Requires {
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
    pub(super) fn requires(self) -> Requires {
        match self {
            Self::Weak | Self::Volatile => Requires::BASE,
            Self::Relaxed(scope) | Self::Acquire(scope) | Self::Release(scope) => {
                Requires::new(6, 0, 70).and(scope.requires())
            }
        }
    }

    /// The order that comes next, if one does.
    pub(super) fn parse(words: &mut Words<'_>) -> Result<Option<Self>, String> {
        type Scoped = fn(Scope) -> MemOrder;
        if words.eat("weak") {
            return Ok(Some(Self::Weak));
        }
        if words.eat("volatile") {
            return Ok(Some(Self::Volatile));
        }
        let all: [(&str, Scoped); 3] =
            [("relaxed", Self::Relaxed), ("acquire", Self::Acquire), ("release", Self::Release)];
        let found = all.into_iter().find(|(name, _)| words.eat(name));
        found.map(|(_, order)| words.need("a scope", Scope::from_name).map(order)).transpose()
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

    pub(super) fn parse(words: &mut Words<'_>) -> Self {
        words
            .take(|word| match word {
                "v2" => Some(Self::Two),
                "v4" => Some(Self::Four),
                _ => None,
            })
            .unwrap_or(Self::One)
    }

    pub(super) fn arg(self, arg: Arg) -> Arg {
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

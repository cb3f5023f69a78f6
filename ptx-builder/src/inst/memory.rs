//! `ld` and `st`.

use super::space::{Cache, LevelOneEviction, LevelTwoPrefetch, MemOrder, Space, Width};
use super::{Arg, Role, Signature, What, Words};
use crate::ops::Effects;
use crate::target::Requires;
use crate::ty::{Ty, TyKind};
use std::fmt;

/// May `ld` and `st` move this type?
fn memory_type(ty: Ty) -> bool {
    !matches!(ty.kind(), TyKind::Pred | TyKind::SmallFloat)
}

/// What volatile accesses to memory of the thread need.
fn volatile_local(order: MemOrder, space: Space) -> Requires {
    match (order, space) {
        (MemOrder::Volatile, Space::Local) => Requires::new(9, 1, 50),
        _ => Requires::BASE,
    }
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
    /// With a cache policy as the last operand.
    pub cache_hint: bool,
    /// L2 prefetch size.
    pub prefetch: Option<LevelTwoPrefetch>,
    /// Elements.
    pub width: Width,
    /// Element type in memory.
    pub ty: Ty,
}

impl Ld {
    /// `ld.space.ty` without modifiers.
    pub const fn plain(space: Space, ty: Ty) -> Self {
        Self {
            space,
            order: MemOrder::Weak,
            cache: None,
            nc: false,
            evict: None,
            cache_hint: false,
            prefetch: None,
            width: Width::One,
            ty,
        }
    }

    /// Bytes moved, which is also the alignment that the address needs.
    pub const fn bytes(&self) -> u32 {
        self.ty.bytes() * self.width.count() as u32
    }

    pub(super) fn signature(&self) -> Signature {
        let dest = Arg { role: Role::Def, ..Arg::one(What::WideReg(self.ty)) };
        let mut signature = Signature::new(&[self.width.arg(dest), Arg::one(What::Address(self.space))]);
        if self.cache_hint {
            signature.push(Arg::one(What::Reg(Ty::U64)));
        }
        signature
    }

    pub(super) fn requires(&self) -> Requires {
        let mut requires =
            self.order.requires().and(self.space.requires()).and(volatile_local(self.order, self.space));
        if self.nc {
            requires = requires.and(Requires::new(3, 1, 50));
        }
        if self.evict.is_some() {
            requires = requires.and(Requires::new(7, 4, 70));
        }
        if self.cache_hint {
            requires = requires.and(Requires::new(7, 4, 80));
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
        if (self.evict.is_some() || self.prefetch.is_some() || self.cache_hint) && !cached {
            report("eviction and prefetch hints belong to global memory".to_owned());
        }
        if self.cache.is_some() && self.order != MemOrder::Weak {
            report("only weak loads take a cache operator".to_owned());
        }
        if self.cache.is_some() && self.evict.is_some() {
            report("a load takes a cache operator or an eviction priority, not both".to_owned());
        }
        if (self.evict.is_some() || self.cache_hint) && self.order == MemOrder::Volatile {
            report("volatile loads take no eviction priority".to_owned());
        }
        let plain =
            self.order == MemOrder::Weak || self.space == Space::Local && self.order == MemOrder::Volatile;
        if matches!(self.space, Space::Param | Space::Const | Space::Local) && !plain {
            report(format!("only weak loads from .{} memory", self.space.name()));
        }
        if matches!(self.space, Space::Param) && self.cache.is_some() {
            report("parameters are not cached".to_owned());
        }
    }

    /// Qualifiers in any order, since compilers have several, but each once.
    pub(super) fn parse(words: &mut Words<'_>) -> Result<Self, String> {
        let mut ld = Self::plain(Space::Generic, Ty::B32);
        let (mut order, mut space) = (None, None);
        while words.once(&mut order, MemOrder::parse)?
            || words.once(&mut space, |words| Ok(Space::take(words)))?
            || words.once(&mut ld.cache, |words| Ok(words.take(Cache::from_name)))?
            || words.once(&mut ld.evict, |words| Ok(words.take(LevelOneEviction::from_name)))?
            || words.once(&mut ld.prefetch, |words| Ok(words.take(LevelTwoPrefetch::from_name)))?
            || words.mark(&mut ld.nc, "nc")
            || words.mark(&mut ld.cache_hint, "L2::cache_hint")
        {}
        ld.order = order.unwrap_or(ld.order);
        ld.space = space.unwrap_or(ld.space);
        let width = Width::parse(words);
        Ok(Self { width, ty: words.ty()?, ..ld })
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
        if self.cache_hint {
            f.write_str(".L2::cache_hint")?;
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
    /// With a cache policy as the last operand.
    pub cache_hint: bool,
    /// Elements.
    pub width: Width,
    /// Element type in memory.
    pub ty: Ty,
}

impl St {
    /// `st.space.ty` without modifiers.
    pub const fn plain(space: Space, ty: Ty) -> Self {
        Self {
            space,
            order: MemOrder::Weak,
            cache: None,
            evict: None,
            cache_hint: false,
            width: Width::One,
            ty,
        }
    }

    /// Bytes moved, which is also the alignment that the address needs.
    pub const fn bytes(&self) -> u32 {
        self.ty.bytes() * self.width.count() as u32
    }

    pub(super) fn signature(&self) -> Signature {
        // What is stored as a float from a wider register, ptxas converts: it takes it for an integer.
        let value = if self.ty.is_float() { What::Value(self.ty) } else { What::WideValue(self.ty) };
        let value = self.width.arg(Arg::one(value));
        let mut signature = Signature::new(&[Arg::one(What::Address(self.space)), value]);
        if self.cache_hint {
            signature.push(Arg::one(What::Reg(Ty::U64)));
        }
        signature
    }

    pub(super) fn requires(&self) -> Requires {
        let order =
            self.order.requires().and(self.space.requires()).and(volatile_local(self.order, self.space));
        let order = if self.evict.is_some() { order.and(Requires::new(7, 4, 70)) } else { order };
        if self.cache_hint { order.and(Requires::new(7, 4, 80)) } else { order }
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
        if self.space == Space::Const {
            report("constant memory is not stored to".to_owned());
        }
        if self.space == Space::Param && (self.order != MemOrder::Weak || self.cache.is_some()) {
            report("parameters are stored to without order and cache operator".to_owned());
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
        if (self.evict.is_some() || self.cache_hint) && self.order == MemOrder::Volatile {
            report("volatile stores take no eviction priority".to_owned());
        }
        if (self.evict.is_some() || self.cache_hint) && !matches!(self.space, Space::Global | Space::Generic)
        {
            report("eviction hints belong to global memory".to_owned());
        }
        if self.space == Space::Local && !matches!(self.order, MemOrder::Weak | MemOrder::Volatile) {
            report("only weak stores to .local memory".to_owned());
        }
    }

    pub(super) fn parse(words: &mut Words<'_>) -> Result<Self, String> {
        let mut st = Self::plain(Space::Generic, Ty::B32);
        let (mut order, mut space) = (None, None);
        while words.once(&mut order, MemOrder::parse)?
            || words.once(&mut space, |words| Ok(Space::take(words)))?
            || words.once(&mut st.cache, |words| Ok(words.take(Cache::from_name)))?
            || words.once(&mut st.evict, |words| Ok(words.take(LevelOneEviction::from_name)))?
            || words.mark(&mut st.cache_hint, "L2::cache_hint")
        {}
        st.order = order.unwrap_or(st.order);
        st.space = space.unwrap_or(st.space);
        let width = Width::parse(words);
        Ok(Self { width, ty: words.ty()?, ..st })
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
        if self.cache_hint {
            f.write_str(".L2::cache_hint")?;
        }
        write!(f, "{}.{}", self.width, self.ty)
    }
}
